//! commands

pub mod validate;
