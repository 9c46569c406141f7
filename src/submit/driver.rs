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

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Sender;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::UnboundedReceiver;

use super::breaker::Circuit;
use super::dispatch::{Dispatch, Finished, Job, Notice, Pace, Pending, Unsent};
use super::{Outcome, Sink, Tried};
use crate::clock::{Clock, Mono};
use crate::fate::{Reason, SinkKind};
use crate::intent::{Intent, Target};
use crate::ledger::Row;

use attempt::{Answered, CameTo, attempt, recall};

/// How often gauges and notices are looked after while anything waits.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// What the stage is told.
#[derive(Debug)]
pub enum Order {
    /// The ledger accepted these, in this order.
    Accepted(Vec<Job>),
    /// Go by another pace from now on. With `judge_again` the rules for intents changed too: what was
    /// accepted before is held to the new ones before it is sent.
    Tune {
        /// The new pace.
        pace: Pace,
        /// Read waiting intents from the ledger again.
        judge_again: bool,
    },
    /// Answer whether this row is held for the operator.
    IsHeld {
        /// Its target.
        target: Arc<Target>,
        /// Its number.
        seq: u64,
        /// For the answer.
        answer: Sender<bool>,
    },
    /// Send this row again if it is held; its ledger has noted that.
    Permit {
        /// Its target.
        target: Arc<Target>,
        /// Its number.
        seq: u64,
    },
    /// Send nothing new and end when the sink has answered, within this time.
    Stop(Duration),
}

/// Comes true when a note is durable, false if it never will be.
pub type Noted = BoxFuture<'static, bool>;

/// Where the stage's results go.
pub trait Outbox: Send {
    /// These have their end; make it durable.
    fn finished(&mut self, ended: Vec<Finished>);
    /// These wait; tell their producers.
    fn waiting(&mut self, notices: Vec<Notice>);
    /// One attempt took this long and ended so.
    fn attempted(&mut self, outcome: &Outcome, took: Duration);
    /// These are about to be sent to a sink that cannot be asked: note it, durably.
    fn beginning(&mut self, group: &[Job]) -> Noted;
    /// An attempt that was noted had no effect; with `counts` false it was not even made.
    fn without_effect(&mut self, job: &Job, counts: bool);
    /// How things stand, about once a second while anything waits and after every change of circuit.
    fn standing(
        &mut self,
        sink: SinkKind,
        circuit: Circuit,
        pending: Pending,
        trouble: Option<&(Reason, String)>,
    );
    /// A group goes to the sink: its intents may be read again first, and the folder sink works at once.
    /// These are calls that may not return on a file system that hangs.
    fn calling(&mut self) {}
    /// The sink answered.
    fn answered(&mut self) {}
    /// Nothing waits and nothing is at the sink.
    fn resting(&mut self) {}
    /// An attempt panicked; its intents are tried again one by one.
    fn panicked(&mut self) {}
}

/// Gives the parsed intent of a row back when it was not kept in memory.
pub trait Recall: Send + Sync {
    /// The intent of an accepted row, read from the ledger again and held to the rules in force now.
    fn intent(&self, row: &Row) -> Result<Intent, Unsent>;

    /// The accepted bytes of a row.
    fn file(&self, row: &Row) -> Result<Vec<u8>, Unsent>;
}

/// What is left to do after an order to stop.
#[derive(Debug, Clone, Copy)]
struct Stopping {
    /// When the sink is told to wind up; `None` after that.
    wind_up: Option<Mono>,
    /// When whatever is still out is dropped.
    drop: Mono,
}

impl Stopping {
    fn within(time: Duration, now: Mono) -> Self {
        Stopping { wind_up: Some(now.after(time / 3 * 2)), drop: now.after(time / 10 * 9) }
    }

    fn next(&self) -> Mono {
        self.wind_up.unwrap_or(self.drop)
    }
}

/// The stage.
pub struct Driver {
    dispatch: Dispatch,
    sink: Arc<dyn Sink>,
    recall: Arc<dyn Recall>,
    clock: Arc<dyn Clock>,
    outbox: Box<dyn Outbox>,
    chance: u64,
    stopping: Option<Stopping>,
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
        Driver {
            dispatch,
            sink,
            recall,
            clock,
            outbox,
            chance,
            stopping: None,
            circuit: Circuit::Closed,
            at_ease: true,
            rules_since: Mono::default(),
        }
    }

    /// Works until it is told to stop, or until nobody can give it orders any more.
    pub async fn run(mut self, mut inbox: UnboundedReceiver<Order>) {
        let mut running: FuturesUnordered<BoxFuture<'static, Answered>> = FuturesUnordered::new();
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
            let timer = self.sleep_for(running.len() < self.sink.abilities().parallel);
            if timer.is_none() {
                self.outbox.resting();
            }
            tokio::select! {
                biased;
                Some(answered) = running.next(), if !running.is_empty() => self.answered(answered),
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
            Order::IsHeld { target, seq, answer } => {
                // Whoever asked may have lost patience.
                let _ = answer.send(self.dispatch.is_held(&target, seq));
            }
            Order::Permit { target, seq } => self.dispatch.permit(&target, seq),
            Order::Accepted(jobs) => {
                let wall = self.clock.wall();
                let ended = jobs.into_iter().flat_map(|job| self.dispatch.accept(job, wall)).collect();
                self.pass_on(ended);
            }
        }
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

    fn start_due(&mut self, running: &mut FuturesUnordered<BoxFuture<'static, Answered>>) {
        let abilities = self.sink.abilities();
        while self.stopping.is_none() && running.len() < abilities.parallel {
            let mut ended = Vec::new();
            let (now, wall) = (self.clock.now(), self.clock.wall());
            let mut group = self.dispatch.due(abilities.group, now, wall, &mut ended);
            if !group.is_empty() {
                self.outbox.calling();
            }
            self.recall_bodies(&mut group, &mut ended);
            self.pass_on(ended);
            if group.is_empty() {
                break;
            }
            let noted = self.sink.needs_attempt_row().then(|| self.outbox.beginning(&group));
            running.push(attempt(Arc::clone(&self.sink), Arc::clone(&self.clock), noted, group));
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
        let notices = self.dispatch.notices(now);
        if !notices.is_empty() {
            self.outbox.waiting(notices);
        }
    }

    /// How long nothing can be due; `None` while there is nothing to wait for but orders and answers.
    fn sleep_for(&self, has_room: bool) -> Option<Duration> {
        if self.dispatch.is_empty() {
            return (!self.at_ease).then_some(HOUSEKEEPING);
        }
        let now = self.clock.now();
        let due = match self.stopping {
            Some(stopping) => Some(stopping.next()),
            None => self.dispatch.next_due(now).filter(|_| has_room),
        };
        let wait = due.map_or(HOUSEKEEPING, |due| due.since(now));
        Some(wait.clamp(Duration::from_millis(1), HOUSEKEEPING))
    }
}

#[cfg(test)]
mod tests;
