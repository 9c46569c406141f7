//! What a reload makes of newly loaded settings: which keys it takes over, and which wait for a restart.

use std::fmt;

use super::keys::{KEYS, Key};
use super::model::Config;
use super::value::Value;

/// Characters of a value that a message shows.
const SHOWN: usize = 100;

/// A key whose value is another than the one in force, printed as `policy.max_replicas 100 -> 10`.
///
/// No key holds a secret: credentials are named by their paths.
#[derive(Debug, Clone)]
pub struct Change {
    /// Which key.
    pub key: &'static Key,
    /// The value in force so far.
    pub from: Value,
    /// The value that was loaded.
    pub to: Value,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}", self.key.full(), cut(&self.from), cut(&self.to))
    }
}

fn cut(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Settings to put into force.
#[derive(Debug, Clone)]
pub struct Renewed {
    /// The loaded settings, with the old values of those keys that need a restart.
    pub config: Config,
    /// What is taken over.
    pub taken: Vec<Change>,
    /// What keeps its old value until a restart.
    pub waiting: Vec<Change>,
}

/// Sorts what differs between the settings `in_force` and those `loaded` (`reliability.md` 9, SIGHUP).
pub fn renew(in_force: &Config, loaded: &Config) -> Renewed {
    let mut renewed = Renewed { config: loaded.clone(), taken: Vec::new(), waiting: Vec::new() };
    for key in KEYS {
        let (from, to) = (key.get(in_force), key.get(loaded));
        if from == to {
            continue;
        }
        if key.restart {
            let fits = key.put(&mut renewed.config, from.clone());
            debug_assert!(fits, "{} takes its own value back", key.full());
            renewed.waiting.push(Change { key, from, to });
        } else {
            renewed.taken.push(Change { key, from, to });
        }
    }
    renewed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_keys_are_taken_over_and_the_others_wait() {
        let mut loaded = Config::default();
        loaded.policy.max_replicas = 10;
        loaded.watch.pattern = "job-*.json".into();
        let renewed = renew(&Config::default(), &loaded);
        let shown = |changes: &[Change]| changes.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(shown(&renewed.taken), ["policy.max_replicas 100 -> 10"]);
        assert_eq!(shown(&renewed.waiting), ["watch.pattern \"intent-*.json\" -> \"job-*.json\""]);
        assert_eq!(renewed.config.policy.max_replicas, 10);
        assert_eq!(renewed.config.watch.pattern, "intent-*.json");
    }

    #[test]
    fn what_waits_is_told_again_by_the_next_reload() {
        let mut loaded = Config::default();
        loaded.intake.queue = 64;
        let renewed = renew(&renew(&Config::default(), &loaded).config, &loaded);
        assert_eq!((renewed.taken.len(), renewed.waiting.len()), (0, 1));
    }

    #[test]
    fn a_long_value_is_cut() {
        let mut loaded = Config::default();
        loaded.policy.namespaces = (0..1_000).map(|n| format!("é-{n}")).collect();
        let shown = renew(&Config::default(), &loaded).taken[0].to_string();
        assert!(shown.chars().count() < 150 && shown.ends_with('…'), "{shown}");
    }
}
