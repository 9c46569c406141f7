//! What becomes of a job that was out.

use std::sync::Arc;
use std::time::Duration;

use super::job::finish;
use super::pending::Lane;
use super::{Dispatch, Finished, Gather, HELD_LOOK, Job, Outcome, Unsent};
use crate::clock::Mono;
use crate::fate::{Fate, Id, Reason};
use crate::lanes::Wait;

const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_CAP: Duration = Duration::from_secs(60);
/// Bounds of a delay that the sink asks for (`reliability.md` 13, P07).
const ASKED: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(600));
/// Panics with one job alone after which it is refused (`reliability.md` 6).
const PANICS: u8 = 2;

/// Whose trouble keeps a job waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// Its own; others of its package may go.
    Jobs,
    /// That of the sink, or of the package.
    Sinks,
}

impl Dispatch {
    /// What the sink said to a job that [`Self::due`] gave out. `chance` is uniform in 0..1.
    pub fn report(&mut self, mut job: Job, outcome: Outcome, now: Mono, chance: f64) -> Option<Finished> {
        let blames_sink = outcome.blames_sink();
        let finished = match outcome {
            Outcome::Delivered(receipt) => {
                let message = receipt.told(self.sink);
                Finished { receipt: Some(receipt), ..finish(job, Fate::Delivered, None, message) }
            }
            Outcome::Rejected { reason, message } => finish(job, Fate::Refused, Some(reason), message),
            Outcome::Held { reason, message, tried, again } => {
                self.no_verdict(&job, now);
                job.came_to(tried);
                (job.held, job.repeats) = (again.is_none(), false);
                let wait = match again {
                    Some(again) => (now.after(again), Wait::Asked),
                    None => (now.after(HELD_LOOK), Wait::Backoff),
                };
                return self.wait(job, (reason, message), wait, Whose::Jobs);
            }
            Outcome::Retry { reason, message, after, tried } => {
                let asked = after.map(|after| now.after(after.clamp(ASKED.0, ASKED.1)));
                match blames_sink {
                    true => self.is_unwell(&job, (reason, &message), asked, now),
                    false => self.is_well(&job),
                }
                job.came_to(tried);
                job.repeats = true;
                let wait = match asked {
                    Some(until) => (until, Wait::Asked),
                    None => (now.after(backoff(job.attempts, chance)), Wait::Backoff),
                };
                return self.wait(job, (reason, message), wait, Whose::Sinks);
            }
        };
        self.is_well(&finished.job);
        Some(self.end(finished))
    }

    /// The sink answered as it should.
    fn is_well(&mut self, job: &Job) {
        if self.verdict.replace((job.turn, true)) != Some((job.turn, true)) && self.breaker.succeeded() {
            self.lanes.hurry();
            self.limit.restart();
        }
        self.trouble = None;
    }

    /// The sink is in trouble, and may have asked for time.
    fn is_unwell(&mut self, job: &Job, why: (Reason, &String), asked: Option<Mono>, now: Mono) {
        let (reason, message) = why;
        if self.verdict.replace((job.turn, false)) != Some((job.turn, false)) {
            self.breaker.failed(now);
        }
        if let (Reason::SinkThrottled, Some(until)) = (reason, asked) {
            self.breaker.rest(until);
        }
        if self.trouble.as_ref().is_none_or(|(known, _)| *known != reason) {
            self.roll.all_have_news();
        }
        self.trouble = Some((reason, message.clone()));
    }

    /// A group was answered after this time; `failed` if one of its outcomes blames the sink.
    pub fn answered(&mut self, took: Duration, failed: bool) {
        self.limit.answered(took, failed);
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
                let wait = (now.after(backoff(job.unread, chance)), Wait::Backoff);
                return self.wait(job, (Reason::Unreadable, message), wait, Whose::Jobs);
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
        let wait = (now.after(backoff(job.attempts, chance)), Wait::Backoff);
        self.wait(job, (Reason::CrashSuspect, message), wait, Whose::Jobs)
    }

    /// What became of this job says nothing of the sink.
    fn no_verdict(&mut self, job: &Job, now: Mono) {
        if job.probe {
            self.breaker.abandon(now);
        }
    }

    /// A job that was out goes back to its place, unless a newer one of its target waits there.
    fn wait(
        &mut self,
        mut job: Job,
        trouble: (Reason, String),
        wait: (Mono, Wait),
        whose: Whose,
    ) -> Option<Finished> {
        let lane = self.roll.lane(job.place)?;
        self.out -= 1;
        if let Some(newer) = self.overtaken_by(&job, &lane) {
            self.lanes.done_until(&lane, (whose == Whose::Sinks).then_some(wait));
            return Some(self.supersede(job, newer));
        }
        self.hold(&mut job);
        if job.noticed != Some(trouble.0) {
            self.roll.has_news(job.place);
        }
        job.trouble = Some(trouble);
        let alone = whose == Whose::Jobs && self.gather == Gather::Package;
        job.not_before = alone.then_some(wait.0);
        self.lanes.back(&lane, job.stand(), job, (!alone).then_some(wait));
        None
    }

    /// The newer intent of its target that waits; if there is none, the job may be overtaken from now on.
    fn overtaken_by(&mut self, job: &Job, lane: &Lane) -> Option<Id> {
        let target = job.row.target.as_ref().filter(|_| self.pace.coalesce)?;
        if let Some(newer) = self.newest.get(target) {
            return self.lanes.get(lane, *newer).map(|newer| newer.row.id);
        }
        self.newest.insert(Arc::new(target.clone()), job.row.seq);
        None
    }

    /// A job that was out leaves, and its line goes on.
    fn end(&mut self, finished: Finished) -> Finished {
        self.out -= 1;
        if let Some(lane) = self.roll.lane(finished.job.place) {
            self.lanes.done(&lane);
        }
        self.let_go(&finished.job);
        self.calm_down();
        finished
    }
}

/// Full jitter: anything from nothing to the exponential bound.
fn backoff(attempts: u32, chance: f64) -> Duration {
    let bound = BACKOFF.saturating_mul(1 << attempts.saturating_sub(1).min(10)).min(BACKOFF_CAP);
    bound.mul_f64(chance.clamp(0.0, 1.0))
}
