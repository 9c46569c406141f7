//! Every setting of the daemon, checked and typed.
//!
//! One table of keys ([`keys::KEYS`]) carries name, meaning, default and range; from it come the
//! reading of files, the names in the environment, `config print`, the commented sample and the
//! JSON Schema for editors. Layers, the later one wins: defaults, file, `conf.d/*.toml` beside it,
//! environment, `--set`, flags. [`load`] names every fault of all layers at once and remembers
//! which layer each value came from. Stages never read files or the environment: they get their
//! section of a finished [`Config`]. One way leads to other settings: a reload loads all layers again,
//! checks them, sorts what differs ([`renew`]) and puts the result into force as a whole ([`Live`]).
//! Keys that no reload changes are marked in the table.
//!
//! Limits: a file is at most 1 MiB, belongs to root or the daemon's user and is writable by no one else
//! (commands that are no daemon do not ask whose it is); at most 100 faults are named for one file.

mod change;
pub mod document;
mod fault;
mod file;
pub mod keys;
mod kind;
mod layers;
mod live;
mod model;
mod place;
mod rules;
pub mod units;
mod value;

pub use change::{Change, Renewed, renew};
pub use fault::{Fault, Faults, Origin};
pub use file::{Guarded, read_guarded};
pub use kind::Kind;
pub use layers::{Environment, Given, Layers, Loaded, Origins, load, survey};
pub use live::{Follower, Live};
pub use model::*;
pub use place::{Listening, Role, listening, state_dir};
pub use rules::is_this_machine;
pub use value::Value;
