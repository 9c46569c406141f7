//! From an accepted intent to an [`Outcome`]: order, retry, deadline, and the sinks.
//!
//! Submission is asynchronous and one-directional: the stage takes accepted intents in ledger order,
//! keeps one intent of a target in flight at a time (`lanes`), hands groups to the [`Sink`] and
//! passes outcomes on. Trouble of the sink never becomes the file's fault: such attempts are repeated
//! with full jitter until `max_age` or `valid_until`.

pub mod breaker;
pub mod budget;
#[cfg(test)]
pub(crate) mod contract;
pub mod dispatch;
pub mod driver;
pub mod exec;
pub mod folder;
pub mod limit;
pub mod network_intent;
pub mod porch;
pub mod rights;
pub mod survey;

use std::time::Duration;

use futures_util::future::BoxFuture;

use sha2::{Digest as _, Sha256};

use crate::config::DedupScope;
use crate::fate::{Id, Reason, Receipt, Sha, SinkKind};
use crate::intent::{Intent, Target};

/// One intent on its way to a sink.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// Its id.
    pub id: Id,
    /// Digest of the dropped bytes.
    pub sha: &'a Sha,
    /// Name of the dropped file.
    pub name: &'a str,
    /// How often the same name and content were accepted before.
    pub generation: u32,
    /// 1 for the first attempt. Where attempts are noted in the ledger, over all processes; else of this
    /// one.
    pub attempt: u32,
    /// True when an earlier attempt may have been applied without our knowing (after a restart, a
    /// time-out, an ambiguous answer): the sink must ask before it acts.
    pub doubtful: bool,
    /// What to deliver.
    pub intent: &'a Intent,
    /// The dropped bytes, for a sink that [`takes_files`](Sink::takes_files).
    pub file: Option<&'a [u8]>,
}

impl Delivery<'_> {
    /// The dedup key (`reliability.md` 4): SHA-256 over a version, then each part with its length before it.
    /// Names at the sink derive from it, so that a repeated delivery meets its own object.
    pub fn key(&self, sink: SinkKind, scope: DedupScope) -> Sha {
        let name = if scope == DedupScope::Content { "" } else { self.name };
        let generation = self.generation.to_be_bytes();
        let Sha(digest) = self.sha;
        let parts: [&[u8]; 5] =
            [sink.as_str().as_bytes(), scope.as_str().as_bytes(), digest, name.as_bytes(), &generation];
        let begun = Sha256::new().chain_update([1u8]);
        let hash = parts.into_iter().fold(begun, |hash, part| {
            hash.chain_update((part.len() as u64).to_be_bytes()).chain_update(part)
        });
        Sha(hash.finalize().into())
    }
}

/// What became of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The configured level was reached.
    Delivered(Receipt),
    /// The content is refused for good.
    Rejected {
        /// A word of the closed set.
        reason: Reason,
        /// At most 4 KiB, for the status file.
        message: String,
    },
    /// The sink's trouble: try again.
    Retry {
        /// A word of the closed set.
        reason: Reason,
        /// For log, status and readiness.
        message: String,
        /// A delay that the sink asked for.
        after: Option<Duration>,
        /// What the attempt may have done.
        tried: Tried,
    },
    /// Only the operator can tell how to go on with this intent. Says nothing of the sink, and delays no
    /// other target.
    Held {
        /// A word of the closed set.
        reason: Reason,
        /// What is doubtful and what to do, for log and status.
        message: String,
        /// What the attempt may have done.
        tried: Tried,
        /// When the sink can look again whether it was done; `None`: no further attempt in this process.
        again: Option<Duration>,
    },
}

impl Outcome {
    /// True if it tells of trouble at the sink. That somebody has to approve first is none.
    pub fn blames_sink(&self) -> bool {
        matches!(self, Outcome::Retry { reason, .. } if *reason != Reason::AwaitingApproval)
    }
}

/// How far an attempt without a result got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tried {
    /// It did not begin; it does not count as an attempt.
    No,
    /// It certainly had no effect.
    WithoutEffect,
    /// It may have had its effect: the next one is doubtful.
    Perhaps,
}

/// What a sink can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// Most groups in flight at once.
    pub parallel: usize,
    /// Most intents in one group; all of different targets.
    pub group: usize,
    /// What a group has in common.
    pub gather: Gather,
    /// How long the first intent for a package at rest waits for company.
    pub window: Duration,
}

/// What the intents of a group have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gather {
    /// Nothing: each target is a lane of its own, and a group is whatever is due.
    Targets,
    /// Their package, which is a lane of its own: one group of a package is out at a time.
    Package,
}

/// What the sink did in an idle moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tended {
    /// What changed at the sink for intents that were delivered before.
    pub news: Vec<News>,
    /// When to ask again; `None`: not before the next delivery.
    pub next: Option<Duration>,
    /// What keeps the sink from its own work until somebody puts it right; intents are delivered all the same.
    pub trouble: Option<String>,
}

/// What the sink holds of a delivered intent has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// The intent.
    pub id: Id,
    /// What is held now.
    pub receipt: Receipt,
}

/// Where intents end. Every implementation passes the same contract test.
pub trait Sink: Send + Sync {
    /// Which sink this is.
    fn kind(&self) -> SinkKind;

    /// What it can take.
    fn abilities(&self) -> Abilities;

    /// Delivers a group; one outcome for each, in the same order. Never two deliveries of one target
    /// at the same time, and in order within a target. A delivery that was applied before is found
    /// and answered with the same receipt, `adopted` set, and no second effect; a sink that
    /// [`needs_attempt_row`](Sink::needs_attempt_row) cannot do that and delivers again.
    fn deliver<'a>(&'a self, group: &'a [Delivery<'a>]) -> BoxFuture<'a, Vec<Outcome>>;

    /// The package into which an intent of `target` goes, for sinks that gather by package.
    fn package(&self, _target: &Target) -> Option<String> {
        None
    }

    /// Before anything else is asked of it: deliveries of earlier processes that were not final at the
    /// sink, to be followed.
    fn resume(&self, _open: Vec<(Id, Receipt)>) {}

    /// True for a sink that has work of its own: it is [tended](Sink::tend).
    fn has_chores(&self) -> bool {
        false
    }

    /// True for a sink that many daemons may share over a network: after a restart they do not all send at
    /// once.
    fn is_remote(&self) -> bool {
        false
    }

    /// Work of the sink's own, asked for when no group is out, after every delivery and then when it
    /// says; at most twice a second while nothing is delivered. `idle`: nothing is due. Groups wait for it,
    /// at most 5 minutes; then it is dropped.
    fn tend(&self, _idle: bool) -> BoxFuture<'_, Tended> {
        Box::pin(async { Tended::default() })
    }

    /// Makes sure that the sink holds a delivered intent, or a newer one of its target, after a power cut
    /// may have taken back effects that were not flushed; called for every unclosed delivery, the oldest
    /// first. Sinks that are durable on their own do nothing.
    fn restore(&self, newest: &Delivery<'_>, receipt: &Receipt) -> Result<(), String>;

    /// Of the doubtful deliveries of one target, in order: the receipts of the leading ones that were
    /// applied and then overtaken by a later one among them, so that none of these is delivered again.
    /// The one that stands is not among them; `deliver` finds it. Empty where none was overtaken, and
    /// always for sinks that keep an object for every intent, whose `deliver` finds each by itself.
    fn overtaken(&self, _doubtful: &[Delivery<'_>]) -> Result<Vec<Receipt>, String> {
        Ok(Vec::new())
    }

    /// True for a sink that cannot be asked what it holds: every attempt is noted in the ledger, durably,
    /// before it begins, and [`Delivery::doubtful`] is true only after an attempt that may have had its
    /// effect. Costs one flush for each delivery.
    fn needs_attempt_row(&self) -> bool {
        false
    }

    /// True for a sink that wants the dropped bytes of each intent; they are read from the ledger.
    fn takes_files(&self) -> bool {
        false
    }

    /// The daemon stops: what is under way is to end soon, and what was not reached by then is tried again
    /// by the next process. Whatever has no outcome a little later is dropped, which must end it too.
    fn wind_up(&self) {}

    /// Whether the sink could take an intent now; the text says what is wrong and what to do.
    fn check(&self) -> Result<(), String>;
}
