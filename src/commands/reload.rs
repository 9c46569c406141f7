//! Reload: SIGHUP has all settings loaded again and puts the good ones into force.
//!
//! All layers are read as at the start (the same flags and environment) and checked to the end. With
//! any fault the old settings stay: each fault is an error line (at most [`MOST_LINES`]), the gauge
//! `conductor_loop_config_last_reload_successful` is 0, and the check `config` of `/readyz?verbose` and
//! `status` tell it until a reload succeeds. Without a fault the changed keys are taken over as a whole;
//! those that need a restart keep their values and are named in a warning (`reliability.md` 9 and C02).
//!
//! A thread of its own does the work, since a settings file may lie on a file system that hangs and
//! signals must be heard meanwhile. Askings during a reload lead to one more after it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::checked::Checked;
use crate::clock::Clock;
use crate::config::{Change, Fault, Faults, Layers, renew};
use crate::observe::escape::push_escaped;
use crate::observe::log::LevelSwitch;
use crate::observe::{Check, Health, Metrics};
use crate::pipeline::{InForce, Tuner};
use crate::service::notify::Notifier;

/// Faults that are named in the log by one reload.
const MOST_LINES: usize = 20;

/// Characters of the first fault that the health page shows.
const SHOWN: usize = 300;

/// Asks for reloads; a cheap clone.
#[derive(Debug, Clone)]
pub struct Bell(Sender<()>);

/// Where a reload is asked for, and where it is heard. What is asked before somebody listens is done
/// then.
pub fn bell() -> (Bell, Receiver<()>) {
    let (ring, rings) = bounded(1);
    (Bell(ring), rings)
}

impl Bell {
    /// Asks for a reload.
    pub fn ring(&self) {
        // Full: the one that waits will read whatever is there by then. Gone: the daemon ends.
        let _ = self.0.try_send(());
    }
}

/// What a reload reads, for commands that offer one.
pub struct Source {
    /// The layers as at the start.
    pub layers: Layers,
    /// The level of the running log.
    pub level: LevelSwitch,
}

/// Everything that a reload touches.
pub struct Reloader {
    /// What is read.
    pub source: Source,
    /// Where settings go into force.
    pub tuner: Tuner,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub metrics: Metrics,
    /// Checks.
    pub health: Health,
    /// The service manager's ear: told of the beginning and of the end, in pairs.
    pub notifier: Notifier,
}

impl Reloader {
    /// Starts the thread; it ends when no [`Bell`] is left.
    ///
    /// # Errors
    ///
    /// When the thread cannot be had.
    pub fn start(self, rings: Receiver<()>) -> Result<(), String> {
        let listen = move || rings.iter().for_each(|()| self.reload());
        // Not waited for at the end: it may hang in a file system, and holds nothing that could be lost.
        let started = std::thread::Builder::new().name("reload".to_owned()).spawn(listen);
        started.map(drop).map_err(|err| format!("thread reload cannot be started: {err}; raise TasksMax"))
    }

    fn reload(&self) {
        self.notifier.reloading();
        let tried = catch_unwind(AssertUnwindSafe(|| Checked::load(&self.source.layers)));
        let loaded = tried.unwrap_or_else(|_| Err(Faults(vec![panicked()])));
        match loaded {
            Ok(checked) => {
                self.put(checked);
                self.notifier.ready("");
            }
            Err(faults) => {
                let reason = self.refuse(&faults);
                self.notifier.ready(reason);
            }
        }
        tracing::debug!("reload over");
    }

    fn put(&self, Checked { loaded, schema }: Checked) {
        let before = self.tuner.in_force();
        let renewed = renew(&before.config, &loaded.config);
        let level = renewed.config.log.level.clone();
        let next = InForce::new(renewed.config, schema);
        let mut taken: Vec<String> = renewed.taken.iter().map(Change::to_string).collect();
        let schema_is_named = renewed.taken.iter().any(|change| change.key.full() == "intake.schema");
        if !schema_is_named && !next.has_schema_of(&before) {
            taken.push("intake.schema (its text)".to_owned());
        }
        let drain = next.config.service.drain;
        self.tuner.put(next);
        self.notifier.drains(drain);
        if let Err(why) = self.source.level.set(&level) {
            tracing::error!("{why}");
        }
        self.metrics.config_reloaded(self.clock.wall());
        self.health.set(Check::Config, Ok(()));
        loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        if !renewed.waiting.is_empty() {
            let keys: Vec<String> = renewed.waiting.iter().map(|change| change.key.full()).collect();
            tracing::warn!("changed, but the old values stay until a restart: {}", keys.join(", "));
        }
        match taken.is_empty() {
            true => tracing::info!("settings reloaded, none changed"),
            false => tracing::info!("settings reloaded: {}", taken.join(", ")),
        }
    }

    /// Leaves everything as it is and says why; returns it in one line.
    fn refuse(&self, Faults(faults): &Faults) -> String {
        if let [fault] = faults.as_slice() {
            tracing::error!(
                "settings not reloaded: {fault}; the old settings are in force: mend it and send SIGHUP again"
            );
        } else {
            for fault in faults.iter().take(MOST_LINES) {
                tracing::error!("settings not reloaded: {fault}");
            }
            tracing::error!(
                faults = faults.len(),
                "the old settings are in force; mend the faults (`conductor-loop config check` names all of them) \
                 and send SIGHUP again"
            );
        }
        let reason = reason(faults);
        self.metrics.config_refused();
        self.health.set(Check::Config, Err(reason.clone()));
        reason
    }
}

fn panicked() -> Fault {
    Fault::new("settings", "reading them panicked; see the log, and report it")
}

/// The first fault and the number of the others, for the health page.
fn reason(faults: &[Fault]) -> String {
    let mut first = String::new();
    push_escaped(&mut first, &faults.first().map(Fault::to_string).unwrap_or_default());
    if let Some((end, _)) = first.char_indices().nth(SHOWN) {
        first.truncate(end);
        first.push('…');
    }
    let more = match faults.len() {
        0 | 1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    format!("last reload failed: {first}{more}; the old settings are in force")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn askings_are_kept_and_many_are_one() {
        let (bell, rings) = bell();
        (0..5).for_each(|_| bell.ring());
        assert_eq!(rings.try_iter().count(), 1);
        bell.ring();
        assert_eq!(rings.try_iter().count(), 1);
    }

    #[test]
    fn the_reason_is_one_bounded_line() {
        let fault = |message: String| Fault::new("c.toml line 3 column 1", message);
        let one = reason(&[fault("watch.debonce: unknown key".to_owned())]);
        assert_eq!(
            one,
            "last reload failed: c.toml line 3 column 1: watch.debonce: unknown key; \
             the old settings are in force"
        );
        let long = reason(&[fault("x\n".repeat(1_000)), fault(String::new()), fault(String::new())]);
        assert!(!long.contains('\n') && long.chars().count() < SHOWN + 100, "{long}");
        assert!(long.ends_with("… (and 2 more); the old settings are in force"), "{long}");
    }
}
