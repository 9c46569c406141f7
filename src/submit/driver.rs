//! The submit stage: takes accepted intents in, hands groups to the sink, passes ends on.
//!
//! One thread with a current-thread runtime. The decisions are [`Dispatch`]'s; this file waits: for
//! accepted intents, for answers, for the next due moment. Idle it sleeps without a timer. On a stop
//! nothing new is sent, what is at the sink may finish, and what waits stays open in the ledger.
//!
//! A panic in the sink or in reading an intent again costs that attempt only (`reliability.md` 6).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc::UnboundedReceiver;

use super::breaker::Circuit;
use super::dispatch::{Dispatch, Finished, Job, Notice, Pace, Pending, Unsent};
use super::{Delivery, Outcome, Sink};
use crate::clock::{Clock, Mono};
use crate::fate::{Reason, SinkKind};
use crate::intent::Intent;
use crate::ledger::Row;

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
    /// Send nothing new and end when the sink has answered.
    Stop,
}

/// Where the stage's results go.
pub trait Outbox: Send {
    /// These have their end; make it durable.
    fn finished(&mut self, ended: Vec<Finished>);
    /// These wait; tell their producers.
    fn waiting(&mut self, notices: Vec<Notice>);
    /// One attempt took this long and ended so.
    fn attempted(&mut self, outcome: &Outcome, took: Duration);
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
}

/// The end of one attempt.
struct Answered {
    jobs: Vec<Job>,
    /// One for each job; `None` after a panic.
    outcomes: Option<Vec<Outcome>>,
    took: Duration,
}

/// The stage.
pub struct Driver {
    dispatch: Dispatch,
    sink: Arc<dyn Sink>,
    recall: Arc<dyn Recall>,
    clock: Arc<dyn Clock>,
    outbox: Box<dyn Outbox>,
    chance: u64,
    stopping: bool,
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
            stopping: false,
            circuit: Circuit::Closed,
            at_ease: true,
            rules_since: Mono::default(),
        }
    }

    /// Works until it is told to stop, or until nobody can give it orders any more.
    pub async fn run(mut self, mut inbox: UnboundedReceiver<Order>) {
        let mut running: FuturesUnordered<BoxFuture<'static, Answered>> = FuturesUnordered::new();
        let mut housekeeping = self.clock.now();
        loop {
            let now = self.clock.now();
            if now >= housekeeping {
                self.keep_house();
                housekeeping = now.after(HOUSEKEEPING);
            }
            self.start_due(&mut running);
            if self.stopping && running.is_empty() {
                break;
            }
            let timer = self.sleep_for(running.len() < self.sink.abilities().parallel);
            if timer.is_none() {
                self.outbox.resting();
            }
            tokio::select! {
                biased;
                Some(answered) = running.next(), if !running.is_empty() => self.answered(answered),
                order = inbox.recv() => match order {
                    Some(order) => {
                        self.obey(order);
                        while let Ok(more) = inbox.try_recv() { self.obey(more) }
                    }
                    None => self.stopping = true,
                },
                () = async { tokio::time::sleep(timer.unwrap_or_default()).await }, if timer.is_some() => {}
            }
        }
        self.keep_house();
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Stop => self.stopping = true,
            Order::Tune { pace, judge_again } => {
                self.dispatch.set_pace(pace);
                if judge_again {
                    self.rules_since = self.clock.now();
                }
            }
            Order::Accepted(jobs) => {
                let wall = self.clock.wall();
                let ended = jobs.into_iter().flat_map(|job| self.dispatch.accept(job, wall)).collect();
                self.pass_on(ended);
            }
        }
    }

    fn start_due(&mut self, running: &mut FuturesUnordered<BoxFuture<'static, Answered>>) {
        let abilities = self.sink.abilities();
        while !self.stopping && running.len() < abilities.parallel {
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
            running.push(attempt(Arc::clone(&self.sink), Arc::clone(&self.clock), group));
        }
    }

    /// Reads the intents that were not kept; a row whose intent cannot be had leaves the group.
    fn recall_bodies(&mut self, group: &mut Vec<Job>, ended: &mut Vec<Finished>) {
        let mut kept = Vec::with_capacity(group.len());
        for mut job in group.drain(..) {
            if job.parcel.intent.is_some() && job.arrived >= self.rules_since {
                kept.push(job);
                continue;
            }
            let (now, chance) = (self.clock.now(), self.draw());
            match catch_unwind(AssertUnwindSafe(|| self.recall.intent(&job.row))) {
                Ok(Ok(intent)) => {
                    job.parcel.intent = Some(Box::new(intent));
                    kept.push(job);
                }
                Ok(Err(unsent)) => ended.extend(self.dispatch.unsent(job, unsent, now, chance)),
                Err(_) => {
                    self.outbox.panicked();
                    ended.extend(self.dispatch.panicked(job, true, now, chance));
                }
            }
        }
        *group = kept;
    }

    fn answered(&mut self, Answered { jobs, outcomes, took }: Answered) {
        self.outbox.answered();
        let each = took / u32::try_from(jobs.len().max(1)).unwrap_or(u32::MAX);
        let alone = jobs.len() == 1;
        let mut ended = Vec::with_capacity(jobs.len());
        let now = self.clock.now();
        match outcomes {
            Some(outcomes) => {
                for (job, outcome) in jobs.into_iter().zip(outcomes) {
                    self.outbox.attempted(&outcome, each);
                    let chance = self.draw();
                    ended.extend(self.dispatch.report(job, outcome, now, chance));
                }
            }
            None => {
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
        let due = self.dispatch.next_due(now).filter(|_| has_room && !self.stopping);
        let wait = due.map_or(HOUSEKEEPING, |due| due.since(now));
        Some(wait.clamp(Duration::from_millis(1), HOUSEKEEPING))
    }
}

fn attempt(sink: Arc<dyn Sink>, clock: Arc<dyn Clock>, jobs: Vec<Job>) -> BoxFuture<'static, Answered> {
    Box::pin(async move {
        let started = clock.now();
        let delivered = async {
            let group: Vec<Delivery<'_>> = jobs.iter().filter_map(delivery).collect();
            let outcomes = sink.deliver(&group).await;
            assert_eq!(outcomes.len(), jobs.len(), "a sink gives one outcome for each delivery");
            outcomes
        };
        let outcomes = AssertUnwindSafe(delivered).catch_unwind().await.ok();
        let took = clock.now().since(started);
        Answered { jobs, outcomes, took }
    })
}

fn delivery(job: &Job) -> Option<Delivery<'_>> {
    Some(Delivery {
        id: job.row.id,
        sha: job.row.sha.as_ref()?,
        name: std::str::from_utf8(&job.row.name).unwrap_or_default(),
        generation: job.row.generation,
        attempt: job.attempts,
        doubtful: job.doubtful,
        intent: job.parcel.intent.as_deref()?,
    })
}

#[cfg(test)]
mod tests;
