//! What is sent when: lanes, breaker, backoff, expiry and supersede in one structure without effects.
//!
//! [`Dispatch`] is driven by [`super::driver`] and by simulation alike: time and chance are arguments,
//! results are values. It owns every accepted intent from the ledger's word until its [`Finished`].
//!
//! Only the sink's own answers move the breaker. What is one job's trouble (its bytes are gone, today's
//! rules refuse it, it panics) ends or delays that job alone (promise R4): after a panic each job of
//! the group goes alone, and one that panics alone for the second time is refused.
//!
//! For a sink that gathers by package the line is the package: one group of it is out at a time, made of
//! intents of different targets in acceptance order; the second intent of a target waits for the next
//! group, and so does everything of that target. A group is one attempt and one verdict on the sink.
//!
//! With `coalesce` at most one intent of a target waits: the newer one ends the older one `superseded`,
//! also when that comes back from an attempt, and takes over its place among the lines and the wait that its line is under.
//!
//! Limits: a retry waits between 0 and `min(60 s, 1 s · 2^n)` (full jitter), or as long as the sink asks
//! for (0.5 s to 10 min, never shortened; a throttled sink gets nothing at all so long), without end, and
//! longer where too many attempts are retries ([`super::budget`]; a probe is exempt); an intent
//! expires at `valid_until` or `max_age`, checked right before each sending; one that is held for the
//! operator keeps its line waiting until it is permitted, and expires likewise, within a minute. At most
//! [`HELD`] parsed intents are kept in memory, and those that are out; the others are recalled from the
//! ledger when their turn comes. Beside that a pending job takes at most 640 bytes, its names and its places in
//! the indexes: under 1 KiB. At most [`MOST_NOTICES`] notices leave at once.

mod back;
mod choice;
mod job;
mod pending;
#[cfg(test)]
pub(super) mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use self::job::finish;
use self::pending::{Lane, Place, Roll};
use super::breaker::{Breaker, Circuit};
use super::budget::Budget;
use super::limit::Limit;
use super::{Abilities, Gather, Outcome};
use crate::clock::{Mono, Wall};
use crate::fate::{Fate, Id, Reason, SinkKind};
use crate::intent::Target;
use crate::lanes::{Company, Lanes};

pub use self::job::{Finished, Job, Notice, Pace, Unsent};
pub use self::pending::Pending;

/// Parsed intents kept in memory; about 1 KiB each.
pub const HELD: usize = 4_096;
/// An intent that waits longer than this is reported to its producer as pending.
pub const NOTICE_AFTER: Duration = Duration::from_secs(5);
/// Notices that leave at once; the next ones follow with the next call.
pub const MOST_NOTICES: usize = 500;
/// Jobs that one call looks at for notices.
const LOOKS: usize = 5_000;
/// How often a held intent is looked at for its expiry.
const HELD_LOOK: Duration = Duration::from_secs(60);

/// All accepted intents that have no end yet.
pub struct Dispatch {
    pace: Pace,
    sink: SinkKind,
    gather: Gather,
    lanes: Lanes<Lane, Job>,
    roll: Roll,
    /// With `coalesce`: the one intent of each target that waits.
    newest: HashMap<Arc<Target>, u64>,
    breaker: Breaker,
    budget: Budget,
    limit: Limit,
    out: usize,
    held: usize,
    /// Attempts made, and the newest verdict on the sink: a group gives one of a kind.
    turns: u64,
    verdict: Option<(u64, bool)>,
    trouble: Option<(Reason, String)>,
}

impl Dispatch {
    /// Nothing accepted yet.
    pub fn new(pace: Pace, sink: SinkKind, abilities: Abilities) -> Self {
        let window = match abilities.gather {
            Gather::Targets => Duration::ZERO,
            Gather::Package => abilities.window,
        };
        Dispatch {
            pace,
            sink,
            gather: abilities.gather,
            lanes: Lanes::new(Company { window, full: abilities.group }),
            roll: Roll::default(),
            newest: HashMap::new(),
            breaker: Breaker::default(),
            budget: Budget::default(),
            limit: Limit::new(abilities.parallel),
            out: 0,
            held: 0,
            turns: 0,
            verdict: None,
            trouble: None,
        }
    }

    /// Another pace for whatever comes and waits from now on.
    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Takes an accepted intent in; what it overtakes ends `superseded`.
    pub fn accept(&mut self, job: Job, wall: Wall) -> Option<Finished> {
        self.enter(job, wall, None)
    }

    /// Takes in an intent that was accepted by an earlier process; its line, if it is the first of it,
    /// goes on after `wait`.
    pub fn resume(&mut self, job: Job, wall: Wall, wait: Duration) -> Option<Finished> {
        let not_before = job.arrived.after(wait);
        self.enter(job, wall, Some(not_before))
    }

    fn enter(&mut self, mut job: Job, wall: Wall, not_before: Option<Mono>) -> Option<Finished> {
        let (Some(target), true) = (job.row.target.clone(), job.row.sha.is_some()) else {
            let message = "the ledger row names no target or no digest".to_owned();
            return Some(finish(job, Fate::Refused, Some(Reason::Schema), message));
        };
        job.queued = job.arrived;
        let target = Arc::new(target);
        let lane = match job.package.take() {
            None => Lane::Target(Arc::clone(&target)),
            Some(package) => Lane::Package(package.into()),
        };
        let overtaken = match self.pace.coalesce {
            true => self.newest.insert(target, job.row.seq),
            false => None,
        };
        if let Some(old) = overtaken.and_then(|seq| self.lanes.get(&lane, seq)) {
            job.queued = job.queued.min(old.queued);
        }
        let newer = job.row.id;
        job.place = Place::new(job.row.seq, job.row.accepted_at, job.arrived, wall);
        self.hold(&mut job);
        self.roll.enter(job.place, job.row.priority, lane.clone());
        self.lanes.push(lane.clone(), job.stand(), job, not_before);
        // Taken out after that: the line keeps the wait that it is under.
        let overtaken = overtaken.and_then(|seq| self.lanes.remove(&lane, seq));
        overtaken.map(|old| self.supersede(old, newer))
    }

    /// True if this job is held for the operator.
    pub fn is_held(&self, target: &Arc<Target>, seq: u64) -> bool {
        self.lanes.get(&Lane::Target(Arc::clone(target)), seq).is_some_and(|job| job.held)
    }

    /// The operator wants this job sent again if it is held.
    pub fn permit(&mut self, target: &Arc<Target>, seq: u64) {
        let lane = Lane::Target(Arc::clone(target));
        if let Some(job) = self.lanes.get_mut(&lane, seq).filter(|job| job.held) {
            (job.held, job.permitted, job.trouble) = (false, true, None);
            self.lanes.hasten(&lane);
        }
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
        self.waits_no_more(job);
    }

    /// Nothing overtakes the job from now on.
    fn waits_no_more(&mut self, job: &Job) {
        let Some(target) = &job.row.target else { return };
        if self.newest.get(target) == Some(&job.row.seq) {
            self.newest.remove(target);
        }
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

    /// When something else than a delivery may go to the sink; `None` while only an answer can tell.
    pub fn unblocked(&self, now: Mono) -> Option<Mono> {
        let is_open = self.breaker.circuit(now) != Circuit::Closed;
        (!is_open || self.is_empty()).then(|| self.breaker.reopens().unwrap_or(now))
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
            let Some((place, lane)) = self.roll.next_to_tell(now, self.trouble.is_some()) else { break };
            // A job that is out is told of when it comes back.
            let waiting = self.lanes.get_mut(&lane, place.seq);
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

    /// Most groups that may be out now.
    pub fn limit(&self) -> usize {
        self.limit.now()
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
