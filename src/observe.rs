//! What an operator sees: metrics, health, logs, and the HTTP pages that show them.
//!
//! Stages are handed a [`Metrics`] and a [`Health`] and call them; nothing here calls a stage. Every
//! label is a closed enum, every series exists at 0 from the first scrape, and there are fewer than
//! 300 series in all, whatever is dropped (`contract.md` 7, `reliability.md` 14).

pub mod escape;
pub mod health;
pub mod http;
pub mod kpi;
pub mod labels;
mod latency;
pub mod log;
pub mod metrics;
pub mod names;
mod page;
pub mod process;

pub use escape::{escape_name, push_escaped};
pub use health::{Check, Health, Pulse, StageId};
pub use labels::{
    Cause, Circuit, FaultKind, HttpCode, Lane, PriorityBand, ReloadResult, RetryClass, Stage, SubmitResult,
    Volume, WatchMethod,
};
pub use metrics::{Metrics, Totals};
