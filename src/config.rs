//! Every setting of the daemon, checked and typed.
//!
//! One table of keys ([`keys::KEYS`]) carries name, meaning, default and range; from it come the
//! reading of files, the names in the environment, `config print`, the commented sample and the
//! JSON Schema for editors. Layers, the later one wins: defaults, file, `conf.d/*.toml` beside it,
//! environment, `--set`, flags. [`load`] names every fault of all layers at once and remembers
//! which layer each value came from. Stages never read files or the environment: they get their
//! section of a finished [`Config`].
//!
//! Limits: a file is at most 1 MiB and must not be writable by group or others; at most 100 faults
//! are named for one file.

pub mod document;
mod fault;
mod file;
pub mod keys;
mod kind;
mod layers;
mod model;
mod place;
mod rules;
pub mod units;
mod value;

pub use fault::{Fault, Faults, Origin};
pub use kind::Kind;
pub use layers::{Environment, Given, Layers, Loaded, Origins, load};
pub use model::*;
pub use place::{Listening, Role, listening, state_dir};
pub use value::Value;

/// What a reload may take over from freshly loaded settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Reload {
    /// The running settings with every changed key that needs no restart taken over.
    pub config: Config,
    /// Full names of the changed keys that wait for a restart.
    pub waiting: Vec<String>,
}

/// Merges `loaded` into the settings a process is `running` with.
pub fn reload(running: &Config, loaded: &Config) -> Reload {
    let mut config = running.clone();
    let mut waiting = Vec::new();
    for key in keys::KEYS {
        let value = key.get(loaded);
        if value == key.get(running) {
            continue;
        }
        if key.restart {
            waiting.push(key.full());
        } else {
            key.put(&mut config, value);
        }
    }
    Reload { config, waiting }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_takes_over_live_keys_and_names_the_ones_that_wait() {
        let running = Config::default();
        let mut loaded = Config::default();
        loaded.policy.max_replicas = 7;
        loaded.intake.queue = 64;
        let reload = reload(&running, &loaded);
        assert_eq!(reload.config.policy.max_replicas, 7);
        assert_eq!(reload.config.intake.queue, running.intake.queue);
        assert_eq!(reload.waiting, ["intake.queue"]);
    }
}
