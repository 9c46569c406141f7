//! Which jobs go next.

use std::collections::HashSet;

use super::job::finish;
use super::pending::Lane;
use super::{Dispatch, Finished, Gather, HELD_LOOK, Job};
use crate::clock::{Mono, Wall};
use crate::fate::{Fate, Reason};
use crate::intent::Target;
use crate::lanes::Wait;
use crate::ledger::Row;

/// Jobs of one package that are looked at for one group.
const LOOKED_THROUGH: usize = 16_384;

/// What of a package's line can go.
#[derive(Debug, Default)]
struct Choice {
    sent: Vec<u64>,
    expired: Vec<(u64, String)>,
    /// If nothing can: when to look again.
    next: Option<Mono>,
}

impl Dispatch {
    /// The jobs to send now, at most `room`, all of different targets, and of one package where the sink
    /// gathers by package; those that expired meanwhile are added to `ended`.
    pub fn due(&mut self, room: usize, now: Mono, wall: Wall, ended: &mut Vec<Finished>) -> Vec<Job> {
        let group = match self.gather {
            Gather::Targets => self.due_targets(room, now, wall, ended),
            Gather::Package => self.due_package(room, now, wall, ended),
        };
        self.calm_down();
        group
    }

    fn due_targets(&mut self, room: usize, now: Mono, wall: Wall, ended: &mut Vec<Finished>) -> Vec<Job> {
        let mut group = Vec::new();
        while group.len() < room && self.lanes.has_ready(now) && self.breaker.admit(now) {
            let probe = self.breaker.is_probing();
            let Some(mut job) = self.take_unexpired(!group.is_empty(), now, wall, ended) else {
                self.breaker.abandon(now);
                break;
            };
            self.turns += 1;
            self.budget.spend(job.repeats, now);
            self.goes_out(&mut job, probe);
            let last = probe || job.alone;
            group.push(job);
            if last {
                break;
            }
        }
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
            let (lane, job) = self.lanes.next(now)?;
            if let Some(message) = self.expiry(&job.row, wall) {
                self.let_go(&job);
                self.lanes.done(&lane);
                ended.push(finish(job, Fate::Expired, Some(Reason::Expired), message));
                continue;
            }
            let until = match () {
                () if job.held => Some(now.after(HELD_LOOK)),
                () => self.denied_until(job.repeats, now),
            };
            if let Some(until) = until {
                self.lanes.back(&lane, job.stand(), job, Some((until, Wait::Backoff)));
                continue;
            }
            return Some(job);
        }
    }

    fn due_package(&mut self, room: usize, now: Mono, wall: Wall, ended: &mut Vec<Finished>) -> Vec<Job> {
        while self.lanes.has_ready(now) && self.breaker.admit(now) {
            let probe = self.breaker.is_probing();
            let Some(lane) = self.lanes.open(now) else { break };
            let choice = self.choose(&lane, if probe { 1 } else { room }, now, wall);
            for (seq, message) in choice.expired {
                if let Some(job) = self.lanes.remove(&lane, seq) {
                    self.let_go(&job);
                    ended.push(finish(job, Fate::Expired, Some(Reason::Expired), message));
                }
            }
            let is_repeat = choice.sent.iter().any(|seq| self.is_repeat(&lane, *seq));
            if let Some(until) = self.denied_until(is_repeat, now) {
                self.lanes.shut(&lane, Some(until));
                continue;
            }
            let mut group = self.lanes.take(&lane, &choice.sent);
            if !group.is_empty() {
                self.turns += 1;
                self.budget.spend(is_repeat, now);
                group.iter_mut().for_each(|job| self.goes_out(job, probe));
                return group;
            }
            self.lanes.shut(&lane, choice.next);
            self.breaker.abandon(now);
        }
        Vec::new()
    }

    /// If too many attempts are repeats for one more: when to ask again. A probe is not denied.
    fn denied_until(&self, is_repeat: bool, now: Mono) -> Option<Mono> {
        let denied = is_repeat && !self.breaker.is_probing() && !self.budget.admits(now);
        denied.then(|| self.budget.next(now))
    }

    fn is_repeat(&self, lane: &Lane, seq: u64) -> bool {
        self.lanes.get(lane, seq).is_some_and(|job| job.repeats)
    }

    /// A job stays behind if one of its target does, if it must wait for itself, or if it goes alone and
    /// others go before it.
    fn choose(&self, lane: &Lane, room: usize, now: Mono, wall: Wall) -> Choice {
        let mut choice = Choice::default();
        let mut met: HashSet<&Target> = HashSet::new();
        for job in self.lanes.waiting(lane).take(LOOKED_THROUGH) {
            if let Some(message) = self.expiry(&job.row, wall) {
                choice.expired.push((job.row.seq, message));
                continue;
            }
            if !job.row.target.as_ref().is_some_and(|target| met.insert(target)) {
                continue;
            }
            let held = job.held.then(|| now.after(HELD_LOOK));
            if let Some(until) = held.or(job.not_before.filter(|until| *until > now)) {
                choice.next = Some(choice.next.map_or(until, |next| next.min(until)));
            } else if !job.alone || choice.sent.is_empty() {
                choice.sent.push(job.row.seq);
                if job.alone || choice.sent.len() == room {
                    break;
                }
            }
        }
        choice
    }

    fn goes_out(&mut self, job: &mut Job, probe: bool) {
        self.waits_no_more(job);
        self.out += 1;
        job.attempts += 1;
        job.turn = self.turns;
        job.probe = probe;
    }

    fn expiry(&self, row: &Row, wall: Wall) -> Option<String> {
        if let Some(until) = row.valid_until.filter(|until| *until < wall) {
            return Some(format!("valid_until {} passed before it could be sent", until.seconds()));
        }
        let too_old = !self.pace.max_age.is_zero() && row.accepted_at.after(self.pace.max_age) < wall;
        too_old.then(|| format!("waited longer than sink.max_age ({:?})", self.pace.max_age))
    }
}
