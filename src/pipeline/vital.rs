//! How the loop is, in the shape of `status --json` (`contract.md` 5).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::Pipeline;
use crate::clock::{Clock, Mono};
use crate::fate::Fate;
use crate::ledger::{Counts, Handle};
use crate::observe::{Check, Health};
use crate::queue::{Lane, Queue};
use crate::read::LeaseHelp;
use crate::watch::{Job, Progress};
use crate::worker::Parcel;

/// What waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Tickets that wait for a worker.
    pub queued: usize,
    /// Accepted intents without an end.
    pub pending: u64,
}

pub(super) struct Vital {
    ledger: Handle<Parcel>,
    queue: Arc<Queue<Box<Job>>>,
    progress: Arc<Progress>,
    health: Health,
    clock: Arc<dyn Clock>,
    sink: &'static str,
    leases: LeaseHelp,
    oldest: Arc<AtomicU64>,
}

/// Fates and their counts, all five.
pub fn fates(counts: &Counts) -> Value {
    Fate::ALL.iter().map(|fate| (fate.as_str().to_owned(), json!(counts.of(*fate)))).collect()
}

impl Vital {
    pub(super) fn of(pipeline: &Pipeline) -> Vital {
        let shared = &pipeline.shared;
        Vital {
            ledger: pipeline.ledger.clone(),
            queue: Arc::clone(&shared.queue),
            progress: Arc::clone(&pipeline.progress),
            health: shared.health.clone(),
            clock: Arc::clone(&shared.clock),
            sink: shared.config.sink.kind.as_str(),
            leases: pipeline.leases,
            oldest: Arc::clone(&shared.oldest),
        }
    }

    fn oldest(&self) -> Option<Mono> {
        let oldest = self.oldest.load(Ordering::Relaxed);
        (oldest > 0).then_some(Mono(oldest))
    }

    pub(super) fn backlog(&self) -> Backlog {
        let queued = Lane::ALL.map(|lane| self.queue.depth(lane)).iter().sum();
        Backlog { queued, pending: self.ledger.counts().pending }
    }

    pub(super) fn read(&self) -> Value {
        let now = self.clock.now();
        let counts = self.ledger.counts();
        let sink = self.health.only(Check::Sink, now);
        let config = self.health.only(Check::Config, now);
        let mut state = json!({
            "running": true,
            "pid": std::process::id(),
            "version": env!("CARGO_PKG_VERSION"),
            "pending": counts.pending,
            "oldest_pending_seconds": self.oldest().map_or(0.0, |oldest| seconds(now, oldest)),
            "fates": fates(&counts),
            "unaccounted": counts.unaccounted(),
            "queue": {
                "depth": self.backlog().queued,
                "capacity": self.queue.capacity() * Lane::ALL.len(),
            },
            "sink": { "kind": self.sink, "state": if sink.failure().is_none() { "ok" } else { "unavailable" } },
            "config": { "state": if config.failure().is_none() { "ok" } else { "stale" } },
            "watch": {
                "mode": self.progress.mode().as_str(),
                "proofs": proofs(self.leases),
                "healthy": self.progress.is_healthy(),
            },
        });
        if let Some(reason) = sink.failure() {
            state["sink"]["reason"] = json!(reason);
        }
        if let Some(reason) = config.failure() {
            state["config"]["reason"] = json!(reason);
        }
        state
    }
}

fn seconds(now: Mono, then: Mono) -> f64 {
    (now.since(then).as_secs_f64() * 1e3).round() / 1e3
}

/// The proofs of completion that can be had here, the strongest first.
fn proofs(leases: LeaseHelp) -> &'static [&'static str] {
    match leases {
        LeaseHelp::AllOwners => &["lease"],
        LeaseHelp::OwnFiles => &["lease", "rename", "close", "quiet"],
        LeaseHelp::None => &["rename", "close", "quiet"],
    }
}
