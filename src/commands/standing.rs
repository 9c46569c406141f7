//! How the daemon is, in the words for the service manager: its start, its silent stage, its status line.
//!
//! `systemctl status` shows the line: what waits and what was done since the start, and before it
//! whatever is wrong.

use std::sync::{Arc, OnceLock};

use crate::clock::Clock;
use crate::fate::Fate;
use crate::observe::{Check, Health, Metrics, Totals};
use crate::pipeline::Backlog;
use crate::service::notify::Look;

/// What is asked for the backlog, once there is a pipeline.
type Ask = Box<dyn Fn() -> Backlog + Send + Sync>;

/// What the lines are made from; a cheap clone.
#[derive(Clone)]
pub struct Standing {
    health: Health,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    backlog: Arc<OnceLock<Ask>>,
}

impl Standing {
    /// Of a daemon whose pipeline is not built yet.
    pub fn new(health: Health, metrics: Metrics, clock: Arc<dyn Clock>) -> Self {
        Standing { health, metrics, clock, backlog: Arc::default() }
    }

    /// The pipeline is there and can be asked.
    pub fn built(&self, backlog: impl Fn() -> Backlog + Send + Sync + 'static) {
        // Set once, at the start.
        let _ = self.backlog.set(Box::new(backlog));
    }

    /// As things are now.
    pub fn look(&self) -> Look {
        let now = self.clock.now();
        let alive = self.health.liveness(now);
        let silent = alive.fault().map(|(stage, why)| format!("{stage}: {why}"));
        let started = self.health.only(Check::Startup, now).passed();
        let ready = self.health.readiness(now).without(&[Check::Startup.as_str()]);
        let sink = self.health.only(Check::Sink, now);
        let mut trouble = Vec::new();
        if !started {
            trouble.push("starting".to_owned());
        }
        if let Some(silent) = &silent {
            trouble.push(format!("hangs: {silent}"));
        }
        if let Some((check, why)) = ready.fault() {
            trouble.push(format!("not ready: {check}: {why}"));
        } else if let Some(why) = sink.failure() {
            trouble.push(format!("intents wait for the sink: {why}"));
        }
        let mut status = match trouble.is_empty() {
            true => "watching 1 directory, ".to_owned(),
            false => trouble.into_iter().map(|what| what + "; ").collect(),
        };
        match self.backlog.get() {
            Some(backlog) => status.push_str(&figures(backlog(), &self.metrics.totals())),
            None => status.truncate(status.len() - 2),
        }
        Look { started, silent, status }
    }
}

/// `3 queued, 120 delivered, 1 refused`, and what else there is any of.
fn figures(backlog: Backlog, totals: &Totals) -> String {
    let mut figures = format!("{} queued", backlog.queued);
    if backlog.pending > 0 {
        figures.push_str(&format!(", {} pending", backlog.pending));
    }
    for fate in Fate::ALL {
        let count = totals.fate(*fate);
        if count > 0 || matches!(fate, Fate::Delivered | Fate::Refused) {
            figures.push_str(&format!(", {count} {}", fate.as_str()));
        }
    }
    figures
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::{HandClock, Mono, Wall};
    use crate::fate::Reason;
    use crate::observe::StageId;
    use crate::observe::health::BEAT_LIMIT;
    use crate::service::notify::notices::Notices;

    fn standing() -> (Standing, Health, Metrics, Arc<HandClock>) {
        let clock = Arc::new(HandClock::at(Mono(1_000_000_000), Wall(0)));
        let (health, metrics) = (Health::of(2), Metrics::new());
        (Standing::new(health.clone(), metrics.clone(), clock.clone()), health, metrics, clock)
    }

    #[test]
    fn the_line_tells_what_waits_and_what_was_done() {
        let (standing, health, metrics, _) = standing();
        assert_eq!(standing.look(), Look { started: false, silent: None, status: "starting".to_owned() });
        standing.built(|| Backlog { queued: 3, pending: 0 });
        health.started();
        for _ in 0..120 {
            metrics.ended(Fate::Delivered, None);
        }
        metrics.ended(Fate::Refused, Some(Reason::Schema));
        let look = standing.look();
        assert!(look.started);
        assert_eq!(look.status, "watching 1 directory, 3 queued, 120 delivered, 1 refused");
        metrics.ended(Fate::Duplicate, None);
        assert_eq!(
            standing.look().status,
            "watching 1 directory, 3 queued, 120 delivered, 1 duplicate, 1 refused"
        );
    }

    #[test]
    fn trouble_stands_first() {
        let (standing, health, _, _) = standing();
        standing.built(|| Backlog { queued: 0, pending: 5 });
        health.set(Check::Disk, Err("disk-full: 1 byte left".to_owned()));
        let counts = "0 queued, 5 pending, 0 delivered, 0 refused";
        assert_eq!(
            standing.look().status,
            format!("starting; not ready: disk: disk-full: 1 byte left; {counts}")
        );
        health.set(Check::Disk, Ok(()));
        health.started();
        health.set(Check::Sink, Err("sink-unavailable: out is full".to_owned()));
        let look = standing.look();
        assert_eq!(
            look.status,
            format!("intents wait for the sink: sink-unavailable: out is full; {counts}")
        );
        assert!(look.started && look.silent.is_none(), "a sink that cannot be reached is no hanging daemon");
    }

    /// One stage after the other falls silent under a watchdog of 30 s; all others are idle.
    #[test]
    fn one_silent_stage_is_enough_to_starve_the_watchdog_and_a_slow_call_is_not() {
        let limit = Duration::from_secs(30);
        let stages = [
            StageId::Watch,
            StageId::Ledger,
            StageId::Submit,
            StageId::Settle,
            StageId::Keeper,
            StageId::Worker(0),
            StageId::Worker(1),
        ];
        for hangs in stages {
            let (standing, health, _, clock) = standing();
            health.started();
            stages.iter().for_each(|stage| health.idle(*stage));
            let mut notices = Notices::new(Some(limit), limit, clock.now());
            let mut fed = |standing: &Standing| {
                let notice = notices.look(clock.now(), &standing.look());
                clock.advance(limit / 3);
                notice.is_some_and(|notice| notice.contains("WATCHDOG=1\n"))
            };
            assert!(fed(&standing) && fed(&standing), "{hangs:?} is idle");
            health.beat(hangs, clock.now());
            assert!(fed(&standing) && fed(&standing), "{hangs:?} has {BEAT_LIMIT:?}");
            for _ in 0..10 {
                assert!(!fed(&standing), "{hangs:?} is silent");
            }
            assert!(standing.look().status.contains(&format!("hangs: {}: no sign of life", hangs.name())));
            health.in_call(hangs, clock.now());
            for _ in 0..10 {
                assert!(
                    fed(&standing),
                    "{hangs:?} is in a call on a dead file system, which no restart ends"
                );
            }
        }
    }
}
