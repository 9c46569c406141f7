//! conductor-loop turns every intent file dropped into a directory into exactly one effect.
//!
//! ```text
//! watch ──▶ debounce ──▶ queue ──▶ worker ──────────▶ lanes ──▶ submit ──▶ settle
//! inotify   pure, keyed  bounded   read·intent·ledger  order     sink       files, status
//! and scan  by name      lanes     (called, not stages) per target
//! ```
//!
//! The modules below stand in the order in which a file passes them; what is beside the pipeline
//! follows. [`pipeline`] alone starts threads and names stages that are not neighbours.

pub mod watch;

pub mod debounce;

pub mod queue;

pub mod worker;

pub mod read;

pub mod intent;

pub mod ledger;

pub mod lanes;

pub mod package;

pub mod submit;

pub mod settle;

pub mod pipeline;

pub mod cli;

pub mod commands;

pub mod config;

pub mod error;

pub mod fate;

pub mod clock;

pub mod disk;

pub mod observe;

pub mod service;

pub mod fake_porch;
