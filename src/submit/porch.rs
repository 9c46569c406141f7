//! The Porch sink: intents become package revisions.
//!
//! [`api`] names the few requests that it makes.

pub mod api;
pub mod classify;
pub mod names;
