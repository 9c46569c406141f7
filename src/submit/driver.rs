//! The submit stage: takes accepted intents in, hands groups to the sink, passes ends on.
//!
//! One thread with a current-thread runtime. The decisions are [`Dispatch`]'s; this file waits: for
//! accepted intents, for answers, for the next due moment. Idle it sleeps without a timer. On a stop
//! nothing new is sent, what is at the sink may finish, and what waits stays open in the ledger.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::UnboundedReceiver;

use super::breaker::Circuit;
use super::dispatch::{Dispatch, Finished, Job, Notice, Pending};
use super::{Delivery, Outcome, Sink};
use crate::clock::Clock;
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
    fn attempted(&mut self, sink: SinkKind, outcome: &Outcome, took: Duration);
    /// How things stand, about once a second while anything waits and after every change of circuit.
    fn standing(
        &mut self,
        sink: SinkKind,
        circuit: Circuit,
        pending: Pending,
        trouble: Option<&(Reason, String)>,
    );
}

/// Gives the parsed intent of a row back when it was not kept in memory.
pub trait Recall: Send + Sync {
    /// The intent of an accepted row, read from the ledger again.
    fn intent(&self, row: &Row) -> Result<Intent, String>;
}

type Answered = (Vec<Job>, Vec<Outcome>, Duration);

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
        }
    }

    /// Works until it is told to stop, or until nobody can give it orders any more.
    pub async fn run(mut self, mut inbox: UnboundedReceiver<Order>) {
        let mut running: FuturesUnordered<BoxFuture<'static, Answered>> = FuturesUnordered::new();
        let mut housekeeping = self.clock.now();
        loop {
            self.start_due(&mut running);
            if self.stopping && running.is_empty() {
                break;
            }
            let now = self.clock.now();
            if now >= housekeeping {
                self.keep_house();
                housekeeping = now.after(HOUSEKEEPING);
            }
            let timer = self.sleep_for(running.is_empty());
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
            Order::Accepted(jobs) => {
                let overtaken: Vec<_> = jobs.into_iter().flat_map(|job| self.dispatch.accept(job)).collect();
                if !overtaken.is_empty() {
                    self.outbox.finished(overtaken);
                }
            }
        }
    }

    fn start_due(&mut self, running: &mut FuturesUnordered<BoxFuture<'static, Answered>>) {
        let abilities = self.sink.abilities();
        while !self.stopping && running.len() < abilities.parallel {
            let mut expired = Vec::new();
            let (now, wall) = (self.clock.now(), self.clock.wall());
            let mut group = self.dispatch.due(abilities.group, now, wall, &mut expired);
            if !expired.is_empty() {
                self.outbox.finished(expired);
            }
            self.recall_bodies(&mut group);
            if group.is_empty() {
                break;
            }
            running.push(attempt(Arc::clone(&self.sink), Arc::clone(&self.clock), group));
        }
    }

    /// Reads the intents that were not kept; a row that cannot be read again waits and is tried again.
    fn recall_bodies(&mut self, group: &mut Vec<Job>) {
        let mut kept = Vec::with_capacity(group.len());
        for mut job in group.drain(..) {
            if job.parcel.intent.is_none() {
                match self.recall.intent(&job.row) {
                    Ok(intent) => job.parcel.intent = Some(Box::new(intent)),
                    Err(message) => {
                        let outcome =
                            Outcome::Retry { reason: Reason::SinkUnavailable, message, after: None };
                        self.report(job, outcome);
                        continue;
                    }
                }
            }
            kept.push(job);
        }
        *group = kept;
    }

    fn answered(&mut self, (jobs, outcomes, took): Answered) {
        let each = took / u32::try_from(jobs.len().max(1)).unwrap_or(u32::MAX);
        let mut ended = Vec::with_capacity(jobs.len());
        for (job, outcome) in jobs.into_iter().zip(outcomes) {
            self.outbox.attempted(self.sink.kind(), &outcome, each);
            ended.extend(self.report(job, outcome));
        }
        if !ended.is_empty() {
            self.outbox.finished(ended);
        }
        let circuit = self.dispatch.circuit(self.clock.now());
        if circuit != self.circuit {
            self.keep_house();
        }
    }

    fn report(&mut self, job: Job, outcome: Outcome) -> Option<Finished> {
        let (now, chance) = (self.clock.now(), self.draw());
        self.dispatch.report(job, outcome, now, chance)
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
        let pending = self.dispatch.pending();
        self.at_ease = self.dispatch.is_empty();
        self.outbox.standing(self.sink.kind(), self.circuit, pending, self.dispatch.trouble());
        let notices = self.dispatch.notices(now);
        if !notices.is_empty() {
            self.outbox.waiting(notices);
        }
    }

    /// How long nothing can be due; `None` while there is nothing to wait for but orders and answers.
    fn sleep_for(&self, at_rest: bool) -> Option<Duration> {
        if self.dispatch.is_empty() {
            return (!self.at_ease).then_some(HOUSEKEEPING);
        }
        let now = self.clock.now();
        let due = self.dispatch.next_due(now).map_or(HOUSEKEEPING, |due| due.since(now));
        Some(if at_rest { due.clamp(Duration::from_millis(1), HOUSEKEEPING) } else { HOUSEKEEPING })
    }
}

fn attempt(sink: Arc<dyn Sink>, clock: Arc<dyn Clock>, jobs: Vec<Job>) -> BoxFuture<'static, Answered> {
    Box::pin(async move {
        let started = clock.now();
        let outcomes = {
            let group: Vec<Delivery<'_>> = jobs.iter().filter_map(delivery).collect();
            sink.deliver(&group).await
        };
        let took = clock.now().since(started);
        (jobs, outcomes, took)
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
