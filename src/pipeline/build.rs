//! How each stage is made from what all of them share.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam::channel::{self, Receiver, Sender};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::crew::{Crew, Hire, Judge};
use super::finish::{Finish, ToSettle};
use super::flow::{FromLedger, FromPayload, FromSubmit, LedgerNews};
use super::hot::{HotFolder, WatchNews};
use super::keeper::{Errands, Keeper, Worked};
use super::requeue::Bell;
use super::sinks::Making;
use super::threads::Threads;
use super::tune::{InForce, LiveParser};
use super::unfiled::UnfiledSet;
use super::{Parts, StartFault};
use crate::clock::{Clock, Mono};
use crate::config::{Config, Live};
use crate::disk::{Identity, RealDisk};
use crate::fate::{Fate, Id, Receipt};
use crate::ledger::{self, EndRecord, Handle, Row, Store};
use crate::observe::{FaultKind, Health, Lane as Label, Metrics, StageId};
use crate::queue::{Flights, Gate, Queue};
use crate::read::{InHand, Reader};
use crate::settle::{self, Retention, Settler};
use crate::submit::Sink;
use crate::submit::breaker::Circuit;
use crate::submit::dispatch::{Dispatch, Job};
use crate::submit::driver::{self, Driver, Order};
use crate::watch::{self, Mailbox, Progress, Watcher};
use crate::worker::{Parcel, Worker};

/// What the stages share.
pub(super) struct Shared {
    /// The settings at the start; for whatever a reload can change `live` is asked.
    pub(super) config: Config,
    pub(super) live: Live<InForce>,
    pub(super) state: PathBuf,
    pub(super) once: bool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    pub(super) disk: Arc<RealDisk>,
    pub(super) queue: Arc<Queue<Box<watch::Job>>>,
    pub(super) flights: Flights,
    pub(super) gate: Arc<Gate>,
    pub(super) worked: Arc<Worked>,
    pub(super) oldest: Arc<AtomicU64>,
    pub(super) stopping: Arc<AtomicBool>,
    pub(super) requests_left: Arc<AtomicBool>,
    pub(super) recall: Arc<FromPayload>,
    pub(super) lines: Lines,
}

/// The ways between the threads.
pub(super) struct Lines {
    pub(super) submit: mpsc::UnboundedSender<Order>,
    pub(super) settle: Sender<ToSettle>,
    pub(super) keeper: Sender<Errands>,
    pub(super) requeue: Sender<()>,
}

/// Their ends.
pub(super) struct Inboxes {
    pub(super) submit: mpsc::UnboundedReceiver<Order>,
    pub(super) settle: Receiver<ToSettle>,
    pub(super) keeper: Receiver<Errands>,
    pub(super) requeue: Receiver<()>,
}

pub(super) fn lines() -> (Lines, Inboxes) {
    let (submit, submit_in) = mpsc::unbounded_channel();
    let (settle, settle_in) = channel::unbounded();
    let (keeper, keeper_in) = channel::unbounded();
    let (requeue, requeue_in) = channel::bounded(1);
    let inboxes = Inboxes { submit: submit_in, settle: settle_in, keeper: keeper_in, requeue: requeue_in };
    (Lines { submit, settle, keeper, requeue }, inboxes)
}

impl Shared {
    pub(super) fn new(parts: &mut Parts, disk: Arc<RealDisk>, lines: Lines) -> Shared {
        let config = parts.config.clone();
        let live = Live::new(InForce::new(config.clone(), parts.schema.take()));
        let recall = FromPayload {
            state: parts.state.clone(),
            ledger: OnceLock::new(),
            parser: Mutex::new(LiveParser::new(&live)),
        };
        Shared {
            state: parts.state.clone(),
            once: parts.once,
            clock: Arc::clone(&parts.clock),
            metrics: parts.metrics.clone(),
            health: parts.health.clone(),
            disk,
            queue: Arc::new(Queue::new(config.intake.queue)),
            flights: Flights::new(),
            gate: Arc::new(Gate::new(config.sink.max_pending, config.sink.max_pending_size)),
            worked: Arc::new(Worked::default()),
            oldest: Arc::default(),
            stopping: Arc::new(AtomicBool::new(false)),
            requests_left: Arc::default(),
            recall: Arc::new(recall),
            lines,
            config,
            live,
        }
    }

    pub(super) fn making(&self) -> Making<'_> {
        Making {
            config: &self.config,
            state: &self.state,
            disk: self.disk.clone(),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
            once: self.once,
        }
    }

    pub(super) fn settler(&self) -> Settler {
        let handoff = std::path::absolute(&self.config.watch.handoff);
        let settings = settle::Settings {
            archive: self.config.settle.archive,
            status: self.config.settle.status,
            handoff: handoff.unwrap_or_else(|_| self.config.watch.handoff.clone()),
            mode: self.config.sink.exec.mode.as_str(),
        };
        Settler::new(self.disk.clone(), self.recall.clone(), settings, Arc::clone(&self.clock))
    }

    pub(super) fn start_ledger(
        &self,
        store: Store,
        threads: &mut Threads,
    ) -> Result<Handle<Parcel>, StartFault> {
        let downstream = FromLedger {
            submit: self.lines.submit.clone(),
            settle: self.lines.settle.clone(),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
        };
        let news = LedgerNews {
            state: self.state.clone(),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
            health: self.health.clone(),
        };
        let (handle, writer, copy) = ledger::writer(store, Box::new(downstream), Box::new(news));
        let (metrics, pulse) = (self.metrics.clone(), self.health.pulse(StageId::Ledger));
        threads.spawn("ledger", move || {
            let ended = writer.run();
            pulse.idle();
            ended.map_err(|fault| {
                metrics.fault(FaultKind::FsyncFailed);
                format!("the ledger cannot go on: {fault}")
            })
        })?;
        threads.spawn("checkpoint", move || {
            copy.run();
            Ok(())
        })?;
        // Set once, here.
        let _ = self.recall.ledger.set(handle.clone());
        Ok(handle)
    }

    /// Ends open rows that were delivered by the last process and hidden by a later intent since.
    pub(super) fn end_hidden(&self, ledger: &Handle<Parcel>, hidden: Vec<(Row, Receipt, Parcel)>) {
        let ends = hidden.into_iter().map(|(row, receipt, mut parcel)| {
            parcel.pass = Some(self.gate.enter(row.identity.size, 0));
            let sink = self.config.sink.kind;
            let record = EndRecord {
                message: receipt.told(sink),
                sink: Some(sink),
                remote: Some(receipt),
                attempts: 1,
                ..EndRecord::of(Fate::Delivered)
            };
            (row, record, parcel)
        });
        // The writer has just been started.
        let _ = ledger.end_all(ends.collect());
    }

    pub(super) fn start_settle(
        &self,
        settler: Settler,
        ledger: &Handle<Parcel>,
        left: Vec<(Row, Parcel, bool, String)>,
        told: Box<dyn FnMut(&Row) + Send>,
        inbox: Receiver<ToSettle>,
        threads: &mut Threads,
    ) -> Result<(), StartFault> {
        let mut unfiled = UnfiledSet::default();
        for (row, parcel, stuck, message) in left {
            // Beyond its room a row waits in the ledger.
            unfiled.add(row, parcel, stuck, message, Mono::default());
        }
        let finish = Finish {
            settler,
            ledger: ledger.clone(),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
            health: self.health.clone(),
            worked: Arc::clone(&self.worked),
            keeper: self.lines.keeper.clone(),
            told,
            unfiled,
            reported: 0,
        };
        threads.spawn("settle", move || {
            finish.run(&inbox);
            Ok(())
        })
    }

    pub(super) fn start_submit(
        &self,
        sink: Arc<dyn Sink>,
        ledger: &Handle<Parcel>,
        (followed, jobs): (Vec<(u64, Id, Receipt)>, Vec<Job>),
        inbox: mpsc::UnboundedReceiver<Order>,
        threads: &mut Threads,
    ) -> Result<(), StartFault> {
        let outbox = FromSubmit {
            ledger: ledger.clone(),
            settle: self.lines.settle.clone(),
            gate: Arc::clone(&self.gate),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
            health: self.health.clone(),
            sink: sink.kind(),
            noted: sink.needs_attempt_row(),
            circuit: Circuit::Closed,
            troubled: false,
            hindered: None,
            oldest: Arc::clone(&self.oldest),
        };
        let recall = self.recall.clone() as Arc<dyn driver::Recall>;
        let is_remote = sink.is_remote();
        let mut driver = Driver::new(
            Dispatch::new(self.live.get().pace(), sink.kind(), sink.abilities()),
            sink,
            recall,
            Arc::clone(&self.clock),
            Box::new(outbox),
        );
        driver.follow(followed);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .enable_io()
            .build()
            .map_err(|err| StartFault::new(format!("the submit runtime cannot be started: {err}")))?;
        let pulse = self.health.pulse(StageId::Submit);
        threads.spawn("submit", move || {
            runtime.block_on(driver.run(inbox));
            pulse.idle();
            Ok(())
        })?;
        let jobs: Vec<_> = jobs.into_iter().map(|job| self.under_way(job)).collect();
        if !jobs.is_empty() {
            // Whoever waits for `once` is alone with the sink as far as we know (`reliability.md` 6).
            let spread = if self.once { Duration::ZERO } else { self.config.sink.start_spread };
            let order = match is_remote && !spread.is_zero() {
                true => Order::Resumed(jobs, spread),
                false => Order::Accepted(jobs),
            };
            // The driver has just been started and cannot have ended.
            let _ = self.lines.submit.send(order);
        }
        Ok(())
    }

    pub(super) fn start_workers(
        &self,
        ledger: &Handle<Parcel>,
        mailbox: &Mailbox,
        condemned: HashMap<Vec<u8>, Identity>,
        threads: &mut Threads,
    ) -> Result<(), StartFault> {
        let crew = Arc::new(Crew {
            queue: Arc::clone(&self.queue),
            gate: Arc::clone(&self.gate),
            ledger: ledger.clone(),
            watch: mailbox.clone(),
            disk: Arc::clone(&self.disk),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
            health: self.health.clone(),
            stopping: Arc::clone(&self.stopping),
            settings: self.live.clone(),
            condemned: Mutex::new(condemned),
            panics: Mutex::new(HashMap::new()),
            left: Mutex::default(),
        });
        let slots = u16::try_from(self.config.intake.workers).unwrap_or(u16::MAX);
        let hire = self.hire();
        InHand::open(&self.state, 0)
            .map_err(|err| StartFault::new(format!("state directory {}: {err}", self.state.display())))?;
        for number in 0..slots {
            let (crew, hire) = (Arc::clone(&crew), Arc::clone(&hire));
            threads.spawn(&format!("worker-{number}"), move || {
                crew.work(number, &hire);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn under_way(&self, mut job: Job) -> Job {
        job.parcel.pass = Some(self.gate.enter(job.row.identity.size, 0));
        job
    }

    fn hire(&self) -> Hire {
        let live = self.live.clone();
        let (state, clock, health) = (self.state.clone(), Arc::clone(&self.clock), self.health.clone());
        Arc::new(move |number| {
            let in_hand = InHand::open(&state, number).ok();
            let pulse = health.pulse(StageId::Worker(number));
            let settings = live.get();
            let (reader, parser) = (Reader::new(settings.bounds()), settings.parser());
            let worker = Worker::new(number, reader, parser, in_hand, Arc::clone(&clock), pulse);
            Box::new(worker) as Box<dyn Judge>
        })
    }

    pub(super) fn watcher(&self, pinned: bool) -> Result<Watcher, StartFault> {
        let settings = watch::Settings { once: self.once, ..watch::Settings::new(&self.config) };
        let gate = Arc::clone(&self.gate);
        let parts = watch::Parts {
            hot: Arc::new(HotFolder { disk: Arc::clone(&self.disk), pinned }),
            clock: Arc::clone(&self.clock),
            queue: Arc::clone(&self.queue),
            flights: self.flights.clone(),
            may_accept: Arc::new(move || !gate.is_shut()),
            report: Arc::new(WatchNews { metrics: self.metrics.clone(), health: self.health.clone() }),
        };
        Watcher::new(settings, parts).map_err(|fault| StartFault::new(fault.to_string()))
    }

    pub(super) fn start_keeper(
        &self,
        ledger: &Handle<Parcel>,
        progress: &Arc<Progress>,
        inbox: Receiver<Errands>,
        requests: Bell,
        on_tick: Box<dyn FnMut() + Send>,
        threads: &mut Threads,
    ) -> Result<(), StartFault> {
        for lane in [Label::Fresh, Label::Backlog, Label::Large] {
            self.metrics.queue_capacity(lane, self.queue.capacity());
        }
        let settings = &self.config.settle;
        let mut keeper = Keeper {
            disk: Arc::clone(&self.disk),
            ledger: ledger.clone(),
            queue: Arc::clone(&self.queue),
            gate: Arc::clone(&self.gate),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
            health: self.health.clone(),
            worked: Arc::clone(&self.worked),
            retention: Retention::new(self.disk.clone(), settings.keep_for, settings.keep_size),
            settings: self.live.follow(),
            closed: 0,
            last: self.clock.now(),
            places: Mono::default(),
            heartbeat: Mono::default(),
            sweep: Mono::default(),
            offset: 0,
            short: false,
            stalled: false,
            displaced: None,
            progress: Arc::clone(progress),
            state: self.state.clone(),
            requests,
            on_tick,
        };
        keeper.measure();
        threads.spawn("keeper", move || keeper.run(&inbox))
    }
}
