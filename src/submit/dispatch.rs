//! What is sent when: lanes, breaker, backoff, expiry and supersede in one structure without effects.
//!
//! [`Dispatch`] is driven by [`super::driver`] and by simulation alike: time and chance are arguments,
//! results are values. It owns every accepted intent from the ledger's word until its [`Finished`].
//!
//! Only the sink's own answers move the breaker. What is one job's trouble (its bytes are gone, today's
//! rules refuse it, it panics) ends or delays that job alone (promise R4): after a panic each job of
//! the group goes alone, and one that panics alone for the second time is refused.
//!
//! Limits: a retry waits between 0 and `min(60 s, 1 s · 2^n)` (full jitter), without end; an intent
//! expires at `valid_until` or `max_age`, checked right before each sending. At most
//! [`HELD`] parsed intents are kept in memory, and those that are out; the others are recalled from the
//! ledger when their turn comes. At most [`MOST_NOTICES`] notices leave at once.

mod job;
mod pending;
#[cfg(test)]
pub(super) mod tests;

use std::sync::Arc;
use std::time::Duration;

use self::job::finish;
use self::pending::{Place, Roll};
use super::Outcome;
use super::breaker::{Breaker, Circuit};
use crate::clock::{Mono, Wall};
use crate::fate::{Fate, Id, Reason, SinkKind};
use crate::intent::Target;
use crate::lanes::Lanes;
use crate::ledger::Row;

pub use self::job::{Finished, Job, Notice, Pace, Unsent};
pub use self::pending::Pending;

/// Parsed intents kept in memory; about 1 KiB each.
pub const HELD: usize = 4_096;
const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_CAP: Duration = Duration::from_secs(60);
/// An intent that waits longer than this is reported to its producer as pending.
pub const NOTICE_AFTER: Duration = Duration::from_secs(5);
/// Notices that leave at once; the next ones follow with the next call.
pub const MOST_NOTICES: usize = 500;
/// Jobs that one call looks at for notices.
const LOOKS: usize = 5_000;
/// Panics with one job alone after which it is refused (`reliability.md` 6).
const PANICS: u8 = 2;

/// All accepted intents that have no end yet.
pub struct Dispatch {
    pace: Pace,
    sink: SinkKind,
    lanes: Lanes<Arc<Target>, Job>,
    roll: Roll,
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
            roll: Roll::default(),
            breaker: Breaker::default(),
            out: 0,
            held: 0,
            trouble: None,
        }
    }

    /// Another pace for whatever comes and waits from now on.
    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Takes an accepted intent in; what it overtakes ends `superseded`.
    pub fn accept(&mut self, mut job: Job, wall: Wall) -> Vec<Finished> {
        let (Some(target), true) = (job.row.target.clone(), job.row.sha.is_some()) else {
            let message = "the ledger row names no target or no digest".to_owned();
            return vec![finish(job, Fate::Refused, Some(Reason::Schema), message)];
        };
        let target = Arc::new(target);
        let overtaken = match self.pace.coalesce {
            true => self.lanes.take_waiting(&target, |_| true),
            false => Vec::new(),
        };
        let newer = job.row.id;
        job.place = Place::new(job.row.seq, job.row.accepted_at, job.arrived, wall);
        self.hold(&mut job);
        self.roll.enter(job.place, job.row.priority, Arc::clone(&target));
        self.lanes.push(target, job.row.priority, job.arrived, job);
        overtaken.into_iter().map(|old| self.supersede(old, newer)).collect()
    }

    fn supersede(&mut self, old: Job, newer: Id) -> Finished {
        self.let_go(&old);
        let message = format!("overtaken by intent {newer} for the same target while it waited");
        Finished { related: Some(newer), ..finish(old, Fate::Superseded, Some(Reason::NewerIntent), message) }
    }

    /// Keeps the parsed intent of a job that waits, if there is room.
    fn hold(&mut self, job: &mut Job) {
        if job.counted || job.parcel.intent.is_none() {
            return;
        }
        if self.held < HELD {
            self.held += 1;
            job.counted = true;
        } else {
            job.parcel.intent = None;
        }
    }

    /// The job has its end.
    fn let_go(&mut self, job: &Job) {
        self.held -= usize::from(job.counted);
        self.roll.leave(job.place, job.row.priority);
    }

    /// The jobs to send now, at most `room`, all of different targets; those that expired meanwhile
    /// are added to `ended`.
    pub fn due(&mut self, room: usize, now: Mono, wall: Wall, ended: &mut Vec<Finished>) -> Vec<Job> {
        let mut group = Vec::new();
        while group.len() < room && self.lanes.has_ready(now) && self.breaker.admit(now) {
            let probe = self.breaker.is_probing();
            let Some(mut job) = self.take_unexpired(!group.is_empty(), now, wall, ended) else {
                self.breaker.abandon(now);
                break;
            };
            job.probe = probe;
            let last = probe || job.alone;
            group.push(job);
            if last {
                break;
            }
        }
        self.calm_down();
        group
    }

    /// The next job that is still in time; one that goes alone is not taken into a group.
    fn take_unexpired(
        &mut self,
        in_group: bool,
        now: Mono,
        wall: Wall,
        ended: &mut Vec<Finished>,
    ) -> Option<Job> {
        loop {
            if self.lanes.peek(now)?.alone && in_group {
                return None;
            }
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

    /// What the sink said to a job that [`Self::due`] gave out. `chance` is uniform in 0..1.
    pub fn report(&mut self, mut job: Job, outcome: Outcome, now: Mono, chance: f64) -> Option<Finished> {
        let finished = match outcome {
            Outcome::Delivered(receipt) => {
                let message = receipt.told(self.sink);
                Finished { receipt: Some(receipt), ..finish(job, Fate::Delivered, None, message) }
            }
            Outcome::Rejected { reason, message } => finish(job, Fate::Refused, Some(reason), message),
            Outcome::Retry { reason, message, after } => {
                self.breaker.failed(now);
                if self.trouble.as_ref().is_none_or(|(known, _)| *known != reason) {
                    self.roll.all_have_news();
                }
                self.trouble = Some((reason, message.clone()));
                job.doubtful = true;
                let wait = after.unwrap_or_else(|| backoff(job.attempts, chance));
                self.wait(job, (reason, message), now.after(wait));
                return None;
            }
        };
        if self.breaker.succeeded() {
            self.lanes.hurry();
        }
        self.trouble = None;
        Some(self.end(finished))
    }

    /// A job that [`Self::due`] gave out could not be handed to the sink.
    pub fn unsent(&mut self, mut job: Job, why: Unsent, now: Mono, chance: f64) -> Option<Finished> {
        self.no_verdict(&job, now);
        job.attempts -= 1;
        let (reason, message) = match why {
            Unsent::Refused { reason, message } => (reason, message),
            Unsent::Lost(message) => (Reason::CrashSuspect, message),
            Unsent::Unreadable(message) => {
                job.unread += 1;
                let until = now.after(backoff(job.unread, chance));
                self.wait(job, (Reason::Unreadable, message), until);
                return None;
            }
        };
        Some(self.end(finish(job, Fate::Refused, Some(reason), message)))
    }

    /// The attempt panicked, with this job alone or with others in it.
    pub fn panicked(&mut self, mut job: Job, alone: bool, now: Mono, chance: f64) -> Option<Finished> {
        self.no_verdict(&job, now);
        job.alone = true;
        job.doubtful = true;
        job.panics += u8::from(alone);
        if job.panics >= PANICS {
            let message = "submitting it panicked twice; it is kept for examination".to_owned();
            return Some(self.end(finish(job, Fate::Refused, Some(Reason::CrashSuspect), message)));
        }
        let message = "submitting it panicked; it is tried once more by itself".to_owned();
        let until = now.after(backoff(job.attempts, chance));
        self.wait(job, (Reason::CrashSuspect, message), until);
        None
    }

    /// What became of this job says nothing of the sink.
    fn no_verdict(&mut self, job: &Job, now: Mono) {
        if job.probe {
            self.breaker.abandon(now);
        }
    }

    /// A job that was out goes back to the head of its line.
    fn wait(&mut self, mut job: Job, trouble: (Reason, String), until: Mono) {
        self.out -= 1;
        self.hold(&mut job);
        if job.noticed != Some(trouble.0) {
            self.roll.has_news(job.place);
        }
        job.trouble = Some(trouble);
        if let Some(target) = self.roll.target(job.place) {
            self.lanes.delay(&target, job.row.priority, job.arrived, job, until);
        }
    }

    /// A job that was out leaves, and its line goes on.
    fn end(&mut self, finished: Finished) -> Finished {
        self.out -= 1;
        if let Some(target) = self.roll.target(finished.job.place) {
            self.lanes.done(&target);
        }
        self.let_go(&finished.job);
        self.calm_down();
        finished
    }

    /// With nothing left to send, the sink's state is nobody's trouble.
    fn calm_down(&mut self) {
        if self.is_empty() {
            self.trouble = None;
        }
    }

    /// When something may be due that is not due now; `None` while only an answer can tell.
    pub fn next_due(&self, now: Mono) -> Option<Mono> {
        if self.lanes.is_empty() || self.breaker.is_probing() {
            return None;
        }
        let ready = if self.lanes.has_ready(now) { Some(now) } else { self.lanes.next_due() };
        match self.breaker.reopens() {
            Some(reopens) => Some(ready?.max(reopens)),
            None => ready,
        }
    }

    /// Producers that should hear that their intent waits: once when it has waited for 5 s, and again
    /// when the reason changes. At most [`MOST_NOTICES`]; the next call goes on from there.
    pub fn notices(&mut self, now: Mono) -> Vec<Notice> {
        let next_attempt = self.next_due(now).map(|due| due.since(now));
        let mut notices = Vec::new();
        for _ in 0..LOOKS {
            if notices.len() == MOST_NOTICES {
                break;
            }
            let Some((place, target)) = self.roll.next_to_tell(now, self.trouble.is_some()) else { break };
            // A job that is out is told of when it comes back.
            let waiting = self.lanes.find_mut(&target, |job| job.row.seq.cmp(&place.seq));
            notices.extend(waiting.and_then(|job| job.notice(self.trouble.as_ref(), next_attempt)));
        }
        notices
    }

    /// What waits or is out; O(log n).
    pub fn pending(&self, now: Mono) -> Pending {
        self.roll.pending(now)
    }

    /// Jobs that wait or are out.
    pub fn len(&self) -> usize {
        self.roll.len()
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

    /// The sink's trouble, while it lasts and anything waits for it.
    pub fn trouble(&self) -> Option<&(Reason, String)> {
        self.trouble.as_ref()
    }
}

/// Full jitter: anything from nothing to the exponential bound.
fn backoff(attempts: u32, chance: f64) -> Duration {
    let bound = BACKOFF.saturating_mul(1 << attempts.saturating_sub(1).min(10)).min(BACKOFF_CAP);
    bound.mul_f64(chance.clamp(0.0, 1.0))
}
