//! What is sent when: lanes, breaker, backoff, expiry and supersede in one structure without effects.
//!
//! [`Dispatch`] is driven by [`super::driver`] and by simulation alike: time and chance are arguments,
//! results are values. It owns every accepted intent from the ledger's word until its [`Finished`].
//!
//! Limits: a retry waits between 0 and `min(60 s, 1 s · 2^n)` (full jitter), without end; an intent
//! expires at `valid_until` or `max_age`, checked right before each sending. At most
//! [`HELD`] parsed intents are kept in memory; the others are recalled from the ledger when their
//! turn comes.

use std::time::Duration;

use super::Outcome;
use super::breaker::{Breaker, Circuit};
use crate::clock::{Mono, Wall};
use crate::fate::{Fate, Id, Reason, Receipt, SinkKind};
use crate::intent::Target;
use crate::lanes::Lanes;
use crate::ledger::Row;
use crate::worker::Parcel;

/// Parsed intents kept in memory; about 1 KiB each.
pub const HELD: usize = 4_096;
const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_CAP: Duration = Duration::from_secs(60);
/// An intent that waits longer than this is reported to its producer as pending.
pub const NOTICE_AFTER: Duration = Duration::from_secs(5);

/// An accepted intent on its way.
#[derive(Debug)]
pub struct Job {
    /// Its ledger row, without an end.
    pub row: Row,
    /// What goes with it.
    pub parcel: Parcel,
    /// When the dispatcher got it.
    pub arrived: Mono,
    /// Attempts made by this process.
    pub attempts: u32,
    /// An earlier attempt may have been applied.
    pub doubtful: bool,
    /// Why the last attempt did not succeed.
    pub trouble: Option<(Reason, String)>,
    /// The pending status that its producer was last shown.
    noticed: Option<Reason>,
}

impl Job {
    /// A job that the ledger just accepted, or found open at start (`doubtful`).
    pub fn new(row: Row, mut parcel: Parcel, arrived: Mono, doubtful: bool) -> Self {
        parcel.pending = true;
        Job { row, parcel, arrived, attempts: 0, doubtful, trouble: None, noticed: None }
    }
}

/// The end of a job, for the ledger.
#[derive(Debug)]
pub struct Finished {
    /// The job.
    pub job: Job,
    /// Delivered, refused, expired or superseded.
    pub fate: Fate,
    /// Why, where the fate has a reason.
    pub reason: Option<Reason>,
    /// One line for the producer.
    pub message: String,
    /// What the sink holds.
    pub receipt: Option<Receipt>,
    /// The intent that superseded it.
    pub related: Option<Id>,
}

/// A producer should learn that its intent waits.
#[derive(Debug, Clone)]
pub struct Notice {
    /// The waiting row.
    pub row: Row,
    /// Why it waits.
    pub reason: Reason,
    /// What the sink said.
    pub message: String,
    /// Attempts so far.
    pub attempts: u32,
    /// When the next one is due, if that is known.
    pub next_attempt: Option<Duration>,
}

/// What the dispatcher must know of the settings.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// `sink.max_age`; zero means for ever.
    pub max_age: Duration,
    /// `sink.coalesce = "latest"`.
    pub coalesce: bool,
}

/// Pending intents by priority class, and the oldest of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pending {
    /// Priorities 0–3, 4–7, 8–10.
    pub by_class: [u64; 3],
    /// When the oldest arrived here.
    pub oldest: Option<Mono>,
}

/// All accepted intents that have no end yet.
pub struct Dispatch {
    pace: Pace,
    sink: SinkKind,
    lanes: Lanes<Target, Job>,
    breaker: Breaker,
    out: usize,
    held: usize,
    trouble: Option<(Reason, String)>,
}

impl Dispatch {
    /// Nothing accepted yet.
    pub fn new(pace: Pace, sink: SinkKind) -> Self {
        Dispatch {
            pace,
            sink,
            lanes: Lanes::new(),
            breaker: Breaker::default(),
            out: 0,
            held: 0,
            trouble: None,
        }
    }

    /// Takes an accepted intent in; what it overtakes ends `superseded`.
    pub fn accept(&mut self, mut job: Job) -> Vec<Finished> {
        let Some(target) = job.row.target.clone() else {
            let message = "the ledger row names no target".to_owned();
            return vec![finish(job, Fate::Refused, Some(Reason::Schema), message)];
        };
        let overtaken = match self.pace.coalesce {
            true => self.lanes.take_waiting(&target, |_| true),
            false => Vec::new(),
        };
        let newer = job.row.id;
        if job.parcel.intent.is_some() {
            if self.held < HELD { self.held += 1 } else { job.parcel.intent = None }
        }
        self.lanes.push(target, job.row.priority, job.arrived, job);
        overtaken.into_iter().map(|old| self.supersede(old, newer)).collect()
    }

    fn supersede(&mut self, old: Job, newer: Id) -> Finished {
        self.let_go(&old);
        let message = format!("overtaken by intent {newer} for the same target while it waited");
        Finished { related: Some(newer), ..finish(old, Fate::Superseded, Some(Reason::NewerIntent), message) }
    }

    fn let_go(&mut self, job: &Job) {
        if job.parcel.intent.is_some() {
            self.held = self.held.saturating_sub(1);
        }
    }

    /// The jobs to send now, at most `room`, all of different targets; those that expired meanwhile
    /// are added to `ended`.
    pub fn due(&mut self, room: usize, now: Mono, wall: Wall, ended: &mut Vec<Finished>) -> Vec<Job> {
        let mut group = Vec::new();
        while group.len() < room {
            if !self.lanes.has_ready(now) || !self.breaker.admit(now) {
                break;
            }
            let probing = self.breaker.circuit(now) != Circuit::Closed;
            match self.take_unexpired(now, wall, ended) {
                Some(job) => group.push(job),
                None if probing => {
                    self.breaker.succeeded();
                    break;
                }
                None => break,
            }
            if probing {
                break;
            }
        }
        group
    }

    fn take_unexpired(&mut self, now: Mono, wall: Wall, ended: &mut Vec<Finished>) -> Option<Job> {
        loop {
            let (target, mut job) = self.lanes.next(now)?;
            if let Some(message) = self.expiry(&job.row, wall) {
                self.let_go(&job);
                self.lanes.done(&target);
                ended.push(finish(job, Fate::Expired, Some(Reason::Expired), message));
                continue;
            }
            self.out += 1;
            job.attempts += 1;
            return Some(job);
        }
    }

    fn expiry(&self, row: &Row, wall: Wall) -> Option<String> {
        if let Some(until) = row.valid_until.filter(|until| *until < wall) {
            return Some(format!("valid_until {} passed before it could be sent", until.seconds()));
        }
        let too_old = self.pace.max_age > Duration::ZERO && row.accepted_at.after(self.pace.max_age) < wall;
        too_old.then(|| format!("waited longer than sink.max_age ({:?})", self.pace.max_age))
    }

    /// What became of a job that [`Self::due`] gave out. `chance` is uniform in 0..1.
    pub fn report(&mut self, mut job: Job, outcome: Outcome, now: Mono, chance: f64) -> Option<Finished> {
        self.out -= 1;
        let target = job.row.target.clone()?;
        let finished = match outcome {
            Outcome::Delivered(receipt) => {
                let message =
                    format!("delivered to {}:{} revision {}", self.sink, receipt.name, receipt.revision);
                Finished { receipt: Some(receipt), ..finish(job, Fate::Delivered, None, message) }
            }
            Outcome::Rejected { reason, message } => finish(job, Fate::Refused, Some(reason), message),
            Outcome::Retry { reason, message, after } => {
                self.breaker.failed(now);
                self.trouble = Some((reason, message.clone()));
                job.trouble = Some((reason, message));
                job.doubtful = true;
                let until = now.after(after.unwrap_or_else(|| backoff(job.attempts, chance)));
                let (priority, arrived) = (job.row.priority, job.arrived);
                self.lanes.delay(&target, priority, arrived, job, until);
                return None;
            }
        };
        if self.breaker.succeeded() {
            self.lanes.hurry();
        }
        self.trouble = None;
        self.let_go(&finished.job);
        self.lanes.done(&target);
        Some(finished)
    }

    /// When something may be due that is not due now.
    pub fn next_due(&self, now: Mono) -> Option<Mono> {
        if self.lanes.is_empty() {
            return None;
        }
        let ready = if self.lanes.has_ready(now) { Some(now) } else { self.lanes.next_due() };
        match self.breaker.reopens() {
            Some(reopens) => Some(ready?.max(reopens)),
            None => ready,
        }
    }

    /// Producers that should hear that their intent waits: once when it has waited for 5 s, and again
    /// when the reason changes.
    pub fn notices(&mut self, now: Mono) -> Vec<Notice> {
        let Some((reason, message)) = self.trouble.clone() else { return Vec::new() };
        let next_attempt = self.next_due(now).map(|due| due.since(now));
        let mut notices = Vec::new();
        for job in self.lanes.iter_mut() {
            let (reason, message) = job.trouble.clone().unwrap_or_else(|| (reason, message.clone()));
            if now.since(job.arrived) < NOTICE_AFTER || job.noticed == Some(reason) {
                continue;
            }
            job.noticed = Some(reason);
            notices.push(Notice {
                row: job.row.clone(),
                reason,
                message,
                attempts: job.attempts,
                next_attempt,
            });
        }
        notices
    }

    /// What waits or is out.
    pub fn pending(&self) -> Pending {
        let mut pending = Pending::default();
        for job in self.lanes.iter() {
            let class = match job.row.priority {
                0..=3 => 0,
                4..=7 => 1,
                _ => 2,
            };
            pending.by_class[class] += 1;
            pending.oldest = Some(pending.oldest.map_or(job.arrived, |oldest| oldest.min(job.arrived)));
        }
        pending
    }

    /// Jobs that wait or are out.
    pub fn len(&self) -> usize {
        self.lanes.len() + self.out
    }

    /// True if every accepted intent has its end.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Jobs that are out at the sink.
    pub fn out(&self) -> usize {
        self.out
    }

    /// What the breaker lets through.
    pub fn circuit(&self, now: Mono) -> Circuit {
        self.breaker.circuit(now)
    }

    /// The sink's trouble, while it lasts.
    pub fn trouble(&self) -> Option<&(Reason, String)> {
        self.trouble.as_ref()
    }
}

fn finish(job: Job, fate: Fate, reason: Option<Reason>, message: String) -> Finished {
    Finished { job, fate, reason, message, receipt: None, related: None }
}

/// Full jitter: anything from nothing to the exponential bound.
fn backoff(attempts: u32, chance: f64) -> Duration {
    let bound = BACKOFF.saturating_mul(1 << attempts.saturating_sub(1).min(10)).min(BACKOFF_CAP);
    bound.mul_f64(chance.clamp(0.0, 1.0))
}
