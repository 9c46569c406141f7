//! The submit stage: takes accepted intents in, hands groups to the sink, passes ends on.
//!
//! One thread with a current-thread runtime. The decisions are [`Dispatch`]'s; this file waits: for
//! accepted intents, for answers, for the next due moment. Idle it sleeps without a timer.
//!
//! On a stop nothing new is sent and what waits stays open in the ledger. What is at the sink may finish
//! for two thirds of the time that is left; then the sink is told to wind up; at nine tenths it is dropped.
//!
//! For a sink that cannot be asked what it holds, an attempt begins only when the ledger has noted it
//! durably; for all others nothing is noted and nothing waits.
//!
//! A panic in the sink or in reading an intent again costs that attempt only (`reliability.md` 6).

mod attempt;
mod chores;
mod outside;
mod stopping;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc::UnboundedReceiver;

use super::breaker::Circuit;
use super::dispatch::{Dispatch, Finished, Job, Unsent};
use super::{Gather, Outcome, Sink, Tried};
use crate::clock::{Clock, Mono};
use crate::fate::{Id, Receipt};

use self::attempt::{Answered, CameTo, attempt, recall};
use self::chores::{Chore, Chores};
pub use self::outside::{Noted, Order, Outbox, Recall};
use self::stopping::Stopping;

/// How often gauges and notices are looked after while anything waits.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// The shortest sleep.
const SHORTEST: Duration = Duration::from_millis(1);

/// What the stage waits for.
enum Done {
    /// An attempt ended.
    Group(Answered),
    /// The sink's own work ended.
    Chore(Chore),
}

type Running = FuturesUnordered<BoxFuture<'static, Done>>;

/// The stage.
pub struct Driver {
    dispatch: Dispatch,
    sink: Arc<dyn Sink>,
    recall: Arc<dyn Recall>,
    clock: Arc<dyn Clock>,
    outbox: Box<dyn Outbox>,
    chance: u64,
    stopping: Option<Stopping>,
    chores: Chores,
    circuit: Circuit,
    /// The last report said that nothing waits.
    at_ease: bool,
    /// Intents that arrived before were parsed by rules that are no longer in force.
    rules_since: Mono,
}

impl Driver {
    /// A stage with nothing accepted yet.
    pub fn new(
        dispatch: Dispatch,
        sink: Arc<dyn Sink>,
        recall: Arc<dyn Recall>,
        clock: Arc<dyn Clock>,
        outbox: Box<dyn Outbox>,
    ) -> Self {
        let chance = clock.now().0 | 1;
        let chores = Chores::new(sink.has_chores(), clock.now());
        Driver {
            dispatch,
            sink,
            recall,
            clock,
            outbox,
            chance,
            stopping: None,
            chores,
            circuit: Circuit::Closed,
            at_ease: true,
            rules_since: Mono::default(),
        }
    }

    /// Before it works: what an earlier process delivered and others may still move at the sink, oldest
    /// first, by row and id.
    pub fn follow(&mut self, open: Vec<(u64, Id, Receipt)>) {
        open.iter().for_each(|(row, id, receipt)| self.chores.follow(*row, *id, receipt));
        self.sink.resume(open.into_iter().map(|(_, id, receipt)| (id, receipt)).collect());
    }

    /// Works until it is told to stop, or until nobody can give it orders any more.
    pub async fn run(mut self, mut inbox: UnboundedReceiver<Order>) {
        let mut running = Running::new();
        let mut housekeeping = self.clock.now();
        let mut has_boss = true;
        loop {
            let now = self.clock.now();
            if now >= housekeeping {
                self.keep_house();
                housekeeping = now.after(HOUSEKEEPING);
            }
            self.start_due(&mut running);
            if self.stopping.is_some() && (running.is_empty() || self.is_over(now)) {
                break;
            }
            let timer = self.sleep_for(running.len() < self.dispatch.limit());
            if timer.is_none() {
                self.outbox.resting();
            }
            tokio::select! {
                biased;
                Some(done) = running.next(), if !running.is_empty() => self.take(done),
                order = inbox.recv(), if has_boss => match order {
                    Some(order) => {
                        self.obey(order);
                        while let Ok(more) = inbox.try_recv() { self.obey(more) }
                    }
                    None => {
                        has_boss = false;
                        self.obey(Order::Stop(Duration::MAX));
                    }
                },
                () = async { tokio::time::sleep(timer.unwrap_or_default()).await }, if timer.is_some() => {}
            }
        }
        self.keep_house();
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Stop(time) => {
                let now = self.clock.now();
                self.stopping.get_or_insert(Stopping::within(time, now));
            }
            Order::Tune { pace, judge_again } => {
                self.dispatch.set_pace(pace);
                if judge_again {
                    self.rules_since = self.clock.now();
                }
            }
            Order::Accepted(jobs) => self.accept(jobs, |_| None),
            Order::Resumed(jobs, spread) => self.accept(jobs, |driver| Some(spread.mul_f64(driver.draw()))),
            Order::IsHeld { target, seq, answer } => {
                // Whoever asked may have lost patience.
                let _ = answer.send(self.dispatch.is_held(&target, seq));
            }
            Order::Permit { target, seq } => self.dispatch.permit(&target, seq),
        }
    }

    /// Takes jobs in; each line whose first one is among them begins after the wait that it draws.
    fn accept(&mut self, jobs: Vec<Job>, wait: impl Fn(&mut Self) -> Option<Duration>) {
        let (gather, wall) = (self.sink.abilities().gather, self.clock.wall());
        let mut ended = Vec::new();
        for mut job in jobs {
            if gather == Gather::Package {
                job.package = job.row.target.as_ref().and_then(|target| self.sink.package(target));
            }
            let wait = wait(self);
            ended.extend(match wait {
                None => self.dispatch.accept(job, wall),
                Some(wait) => self.dispatch.resume(job, wall, wait),
            });
        }
        self.pass_on(ended);
    }

    /// Tells the sink to wind up when it is time to; true when it is time to leave.
    fn is_over(&mut self, now: Mono) -> bool {
        let Some(stopping) = &mut self.stopping else { return false };
        if stopping.wind_up.is_some_and(|at| now >= at) {
            stopping.wind_up = None;
            self.sink.wind_up();
        }
        now >= stopping.drop
    }

    fn start_due(&mut self, running: &mut Running) {
        self.tend(running);
        let group_of = self.sink.abilities().group;
        while self.stopping.is_none() && !self.chores.is_busy() && running.len() < self.dispatch.limit() {
            let mut ended = Vec::new();
            let (now, wall) = (self.clock.now(), self.clock.wall());
            let mut group = self.dispatch.due(group_of, now, wall, &mut ended);
            if !group.is_empty() {
                self.outbox.calling();
            }
            self.recall_bodies(&mut group, &mut ended);
            self.pass_on(ended);
            if group.is_empty() {
                break;
            }
            let noted = self.sink.needs_attempt_row().then(|| self.outbox.beginning(&group));
            let attempt = attempt(Arc::clone(&self.sink), Arc::clone(&self.clock), noted, group);
            running.push(Box::pin(attempt.map(Done::Group)));
        }
    }

    /// Lets the sink do its own work, if it is time to and nothing is out.
    fn tend(&mut self, running: &mut Running) {
        let now = self.clock.now();
        if self.stopping.is_none() && running.is_empty() && self.next_chore(now).is_some_and(|due| due <= now)
        {
            let idle = self.dispatch.next_due(now).is_none_or(|due| due > now);
            let chore = self.chores.begin(Arc::clone(&self.sink), idle);
            running.push(Box::pin(chore.map(Done::Chore)));
        }
    }

    /// When the sink does its own work next; not while only a probe may go to it.
    fn next_chore(&self, now: Mono) -> Option<Mono> {
        let due = self.chores.due()?;
        Some(due.max(self.dispatch.unblocked(now)?))
    }

    fn take(&mut self, done: Done) {
        match done {
            Done::Group(answered) => self.answered(answered),
            Done::Chore(chore) => self.tended(chore),
        }
    }

    fn tended(&mut self, chore: Chore) {
        match &chore {
            Chore::Done(_) => {}
            Chore::Late => {
                tracing::warn!(sink = self.sink.kind().as_str(), "upkeep at the sink took too long; dropped");
            }
            Chore::Panic => self.outbox.panicked(),
        }
        let changed = self.chores.ended(chore, self.clock.now());
        self.outbox.hindered(self.chores.trouble());
        self.keep_house();
        if !changed.is_empty() {
            self.outbox.changed(changed);
        }
    }

    /// Reads the intents that were not kept, and the files if the sink takes them; a row whose bytes
    /// cannot be had leaves the group.
    fn recall_bodies(&mut self, group: &mut Vec<Job>, ended: &mut Vec<Finished>) {
        let takes_files = self.sink.takes_files();
        let mut kept = Vec::with_capacity(group.len());
        for mut job in group.drain(..) {
            if job.arrived < self.rules_since {
                job.parcel.intent = None;
            }
            if job.parcel.intent.is_some() && !takes_files {
                kept.push(job);
                continue;
            }
            let (now, chance) = (self.clock.now(), self.draw());
            match catch_unwind(AssertUnwindSafe(|| recall(&*self.recall, &mut job, takes_files))) {
                Ok(Ok(())) => kept.push(job),
                Ok(Err(unsent)) => ended.extend(self.dispatch.unsent(job, unsent, now, chance)),
                Err(_) => {
                    self.outbox.panicked();
                    ended.extend(self.dispatch.panicked(job, true, now, chance));
                }
            }
        }
        *group = kept;
    }

    fn answered(&mut self, Answered { mut jobs, came_to, took }: Answered) {
        self.outbox.answered();
        jobs.iter_mut().for_each(|job| job.file = None);
        let each = took / u32::try_from(jobs.len().max(1)).unwrap_or(u32::MAX);
        let alone = jobs.len() == 1;
        let mut ended = Vec::with_capacity(jobs.len());
        let now = self.clock.now();
        match came_to {
            CameTo::Outcomes(outcomes) => {
                self.dispatch.answered(took, outcomes.iter().any(Outcome::blames_sink));
                for (job, outcome) in jobs.into_iter().zip(outcomes) {
                    self.outbox.attempted(&outcome, each);
                    self.take_back(&job, &outcome);
                    let chance = self.draw();
                    ended.extend(self.dispatch.report(job, outcome, now, chance));
                }
            }
            CameTo::Nothing => {
                for job in jobs {
                    let why = Unsent::Unreadable("the ledger could not note its beginning".to_owned());
                    let chance = self.draw();
                    ended.extend(self.dispatch.unsent(job, why, now, chance));
                }
            }
            CameTo::Panic => {
                self.outbox.panicked();
                for job in jobs {
                    let chance = self.draw();
                    ended.extend(self.dispatch.panicked(job, alone, now, chance));
                }
            }
        }
        self.chores.after_group(now);
        for Finished { job, receipt, .. } in &ended {
            receipt.iter().for_each(|receipt| self.chores.follow(job.row.seq, job.row.id, receipt));
        }
        self.pass_on(ended);
        if self.dispatch.circuit(now) != self.circuit {
            self.keep_house();
        }
    }

    /// The note of an attempt that certainly had no effect.
    fn take_back(&mut self, job: &Job, outcome: &Outcome) {
        let (Outcome::Retry { tried, .. } | Outcome::Held { tried, .. }) = outcome else { return };
        if self.sink.needs_attempt_row() && *tried != Tried::Perhaps {
            self.outbox.without_effect(job, *tried != Tried::No);
        }
    }

    fn pass_on(&mut self, ended: Vec<Finished>) {
        if !ended.is_empty() {
            self.outbox.finished(ended);
        }
    }

    /// xorshift; spreads retries, guards nothing.
    fn draw(&mut self) -> f64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        f64::from(u32::try_from(self.chance >> 32).unwrap_or(0)) / f64::from(u32::MAX)
    }

    fn keep_house(&mut self) {
        let now = self.clock.now();
        self.circuit = self.dispatch.circuit(now);
        let pending = self.dispatch.pending(now);
        self.at_ease = self.dispatch.is_empty();
        self.outbox.standing(self.sink.kind(), self.circuit, pending, self.dispatch.trouble());
        self.outbox.limited(self.dispatch.limit());
        let notices = self.dispatch.notices(now);
        if !notices.is_empty() {
            self.outbox.waiting(notices);
        }
    }

    /// How long nothing can be due; `None` while there is nothing to wait for but orders and answers.
    fn sleep_for(&self, has_room: bool) -> Option<Duration> {
        let now = self.clock.now();
        let is_free = self.stopping.is_none() && !self.chores.is_busy();
        let chore = self.next_chore(now).filter(|_| is_free && self.dispatch.out() == 0);
        let rest = match self.dispatch.is_empty() {
            true => (!self.at_ease).then_some(HOUSEKEEPING),
            false => Some(HOUSEKEEPING),
        };
        let due = match self.stopping {
            Some(stopping) => Some(stopping.next()),
            None => self.dispatch.next_due(now).filter(|_| is_free && has_room),
        };
        let due = due.filter(|_| !self.dispatch.is_empty() || self.stopping.is_some());
        let wait = chore.into_iter().chain(due).min().map(|due| due.since(now).max(SHORTEST));
        rest.into_iter().chain(wait).min()
    }
}

#[cfg(test)]
mod tests;
