//! One file per command, each writing to what it is given.

pub mod config;
