//! The daemon from outside: the real program, real files in fresh folders, nothing faked.
//!
//! Every test has a [`support::Place`] of its own and ends with [`support::Node::finish`], which checks
//! the balance of the books: every accepted file has exactly one end and one status file.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot go on must say where")]

mod support;

mod commands;
mod compat;
mod configuration;
mod crowd;
mod delivery;
mod demo;
mod doctor;
mod exec;
mod exit_codes;
mod fake_porch;
mod faults_content;
mod faults_files;
mod faults_folders;
mod folders;
mod http;
mod kustomize;
mod logs;
mod manifests;
mod metrics;
mod network_intent;
mod offline;
mod order;
mod packaging;
mod porch;
mod porch_chaos;
mod porch_contract;
mod porch_doubt;
mod porch_faults;
mod porch_refusals;
mod prepared_faults;
mod readme;
mod reload;
mod restart;
mod restricted;
mod service;
mod shutdown;
mod tidy;
mod units;
mod verbs;
mod wire;
