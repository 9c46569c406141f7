//! Builds the stages, starts them, watches over them and stops them.
//!
//! # Threads
//!
//! `watch` (and notify's own), `worker-N`, `ledger` and `ledger-copy`, `submit` (a current-thread
//! runtime), `settle`, `keeper`. HTTP and signals have their own, see `observe` and `service`. Threads
//! are named and fixed in number at start. A panic in a worker costs that file's attempt; a panic in any
//! other thread aborts the process, since a stage that is gone would lose what it holds.
//!
//! # Order of start
//!
//! Directories, locks, ledger, recovery, ledger writer, settle, submit, workers, keeper, and last the
//! watch, which places its events before the first scan.
//!
//! # Order of stop
//!
//! Admission and watch, workers, submit (what is at the sink may finish), the ledger's queue, settle,
//! a last checkpoint, the ledger. Whatever `service.drain` does not suffice for is resumed at the next start.

mod crew;
mod finish;
mod flow;
mod gate;
mod hot;
mod keeper;
mod recovery;
mod threads;
mod vital;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crossbeam::channel::{self, Receiver, Sender};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::clock::{Clock, Mono};
use crate::config::{Coalesce, Config, UnknownFields};
use crate::disk::{Layout, Lock, Place, RealDisk};
use crate::fate::{Fate, Reason, Receipt};
use crate::intent::{Parser, Rules, TargetKind, UserSchema};
use crate::ledger::{self, Counts, EndRecord, Handle, Row, Store};
use crate::observe::{FaultKind, Health, Lane as Label, Metrics, Sampler};
use crate::queue::{Flights, Queue};
use crate::read::{self, Bounds, InHand, LeaseHelp, Reader};
use crate::settle::{self, Retention, Settler};
use crate::submit::Sink;
use crate::submit::breaker::Circuit;
use crate::submit::dispatch::{Dispatch, Job, Pace};
use crate::submit::driver::{self, Driver, Order};
use crate::submit::folder::FolderSink;
use crate::watch::{self, Cause, Mailbox, Message, Progress, Watcher};
use crate::worker::{Parcel, Worker};

use crew::{Crew, Hire, Judge};
use finish::{Finish, ToSettle};
use flow::{FromLedger, FromPayload, FromSubmit, LedgerNews};
use gate::Gate;
use hot::WatchNews;
use keeper::{Errands, Keeper, Worked};
use recovery::{Recovered, Recovery};
use threads::{OnFailure, Threads};

pub use vital::fates;

/// Why the pipeline could not start.
#[derive(Debug)]
pub struct StartFault(String);

impl StartFault {
    fn new(message: impl Into<String>) -> Self {
        StartFault(message.into())
    }
}

impl fmt::Display for StartFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartFault {}

macro_rules! start_fault_from {
    ($($fault:ty),+) => { $(impl From<$fault> for StartFault {
        fn from(fault: $fault) -> Self { StartFault(fault.to_string()) }
    })+ };
}
start_fault_from!(crate::disk::FolderFault, crate::disk::LockFault, crate::ledger::LedgerFault);

/// What a pipeline is made of.
pub struct Parts {
    /// All settings.
    pub config: Config,
    /// The state directory.
    pub state: PathBuf,
    /// The user's own schema, compiled.
    pub schema: Option<Arc<UserSchema>>,
    /// Scan once instead of watching.
    pub once: bool,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub metrics: Metrics,
    /// Checks.
    pub health: Health,
    /// Hears of every end, after it is settled.
    pub told: Box<dyn FnMut(&Row) + Send>,
    /// Hears why the pipeline cannot go on; it must be stopped then.
    pub failed: Arc<dyn Fn(String) + Send + Sync>,
}

/// How far `once` has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The scan is over and every file it found is accepted or refused.
    pub judged: bool,
    /// Files that wait for completion, are in the queue or in a worker's hand.
    pub unjudged: usize,
    /// Files accepted and not yet filed.
    pub under_way: u64,
}

impl Standing {
    /// Nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.judged && self.under_way == 0
    }
}

/// What the stages share.
struct Shared {
    config: Config,
    state: PathBuf,
    once: bool,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    health: Health,
    disk: Arc<RealDisk>,
    queue: Arc<Queue<Box<watch::Job>>>,
    flights: Flights,
    gate: Arc<Gate>,
    worked: Arc<Worked>,
    oldest: Arc<AtomicU64>,
    stopping: Arc<AtomicBool>,
    recall: Arc<FromPayload>,
    rules: Arc<Rules>,
    schema: Option<Arc<UserSchema>>,
    lines: Lines,
}

/// The ways between the threads.
struct Lines {
    submit: mpsc::UnboundedSender<Order>,
    settle: Sender<ToSettle>,
    keeper: Sender<Errands>,
}

/// Their ends.
struct Inboxes {
    submit: mpsc::UnboundedReceiver<Order>,
    settle: Receiver<ToSettle>,
    keeper: Receiver<Errands>,
}

fn lines() -> (Lines, Inboxes) {
    let (submit, submit_in) = mpsc::unbounded_channel();
    let (settle, settle_in) = channel::unbounded();
    let (keeper, keeper_in) = channel::unbounded();
    let inboxes = Inboxes { submit: submit_in, settle: settle_in, keeper: keeper_in };
    (Lines { submit, settle, keeper }, inboxes)
}

/// A running pipeline.
pub struct Pipeline {
    shared: Shared,
    threads: Threads,
    ledger: Handle<Parcel>,
    mailbox: Mailbox,
    progress: Arc<Progress>,
    leases: LeaseHelp,
    _locks: Vec<Lock>,
}

/// The rules of a configuration.
pub fn rules(config: &Config) -> Rules {
    Rules {
        max_depth: config.intake.max_depth,
        max_values: config.intake.max_values,
        ignore_unknown: config.intake.unknown_fields == UnknownFields::Ignore,
        namespaces: config.policy.namespaces.clone(),
        kinds: config.policy.kinds.iter().filter_map(|kind| TargetKind::from_word(kind)).collect(),
        max_replicas: config.policy.max_replicas,
    }
}

fn parser(rules: &Arc<Rules>, schema: Option<&Arc<UserSchema>>) -> Parser {
    match schema {
        None => Parser::new(Arc::clone(rules)),
        Some(schema) => Parser::with_schema(Arc::clone(rules), Arc::clone(schema)),
    }
}

/// Directories, locks and ledger: what must be had before anything is accepted.
struct Ground {
    disk: Arc<RealDisk>,
    store: Store,
    locks: Vec<Lock>,
    leases: LeaseHelp,
}

fn prepare(parts: &Parts) -> Result<Ground, StartFault> {
    let config = &parts.config;
    let layout = Layout {
        handoff: config.watch.handoff.clone(),
        failed: config.settle.failed_dir.clone(),
        out: config.sink.folder.out.clone(),
    };
    let disk = Arc::new(RealDisk::open(layout)?);
    let folders = disk.folders();
    folders.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let private = folders.fd(Place::Private);
    let mut locks = vec![Lock::take(private, &config.watch.handoff)?];
    locks.extend(Lock::take_elsewhere(private, &parts.state)?);
    read::ignore_lease_signal();
    let leases = read::probe(private);
    let store =
        Store::open(ledger::Settings::new(parts.state.clone(), &config.ledger), Arc::clone(&parts.clock))?;
    if let Some(rebuilt) = &store.opened().rebuilt {
        parts.metrics.fault(crate::observe::FaultKind::LedgerCorrupt);
        tracing::error!("ledger-corrupt: {rebuilt}");
    }
    Ok(Ground { disk, store, locks, leases })
}

fn share(parts: &mut Parts, disk: Arc<RealDisk>, lines: Lines) -> Shared {
    let config = parts.config.clone();
    let rules = Arc::new(rules(&config));
    let recall = FromPayload {
        state: parts.state.clone(),
        ledger: OnceLock::new(),
        parser: Mutex::new(parser(&rules, parts.schema.as_ref())),
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
        recall: Arc::new(recall),
        rules,
        schema: parts.schema.take(),
        lines,
        config,
    }
}

/// Starts everything; returns when the watch has its thread.
pub fn start(mut parts: Parts) -> Result<Pipeline, StartFault> {
    let Ground { disk, mut store, locks, leases } = prepare(&parts)?;
    let (lines, inboxes) = lines();
    let shared = share(&mut parts, disk, lines);
    let sink: Arc<dyn Sink> =
        Arc::new(FolderSink::new(shared.disk.clone(), shared.config.package.blueprints.clone()));
    let mut settler = shared.settler();
    let recovered = Recovery {
        store: &mut store,
        disk: &shared.disk,
        sink: &sink,
        settler: &mut settler,
        recall: &shared.recall,
        flights: &shared.flights,
        clock: &shared.clock,
        state: &shared.state,
    }
    .run()?;
    say_recovered(&recovered);
    let Recovered { jobs, hidden, unfiled, through, condemned, filed, .. } = recovered;
    shared.worked.through.store(through, Ordering::SeqCst);
    shared.worked.filed.lock().extend(filed);

    let mut threads = Threads::new(parts.failed as OnFailure);
    let ledger = shared.start_ledger(store, &mut threads)?;
    shared.start_settle(settler, &ledger, unfiled, parts.told, inboxes.settle, &mut threads)?;
    shared.end_hidden(&ledger, hidden);
    shared.start_submit(sink, &ledger, jobs, inboxes.submit, &mut threads)?;
    let watcher = shared.watcher()?;
    let (mailbox, progress) = (watcher.mailbox(), watcher.progress());
    shared.start_workers(&ledger, &mailbox, condemned, &mut threads)?;
    shared.start_keeper(&ledger, inboxes.keeper, &mut threads)?;
    threads.spawn("watch", move || watcher.run().map_err(|fault| fault.to_string()))?;
    Ok(Pipeline { shared, threads, ledger, mailbox, progress, leases, _locks: locks })
}

fn say_recovered(recovered: &Recovered) {
    if recovered.redone > 0 || !recovered.jobs.is_empty() {
        tracing::info!(
            resumed = recovered.jobs.len(),
            settled_again = recovered.redone,
            "resumed what the last process left open"
        );
    }
    for name in &recovered.condemned {
        tracing::error!(
            file = crate::observe::escape_name(name),
            "three processes died with this file in hand; it is refused unread"
        );
    }
}

impl Shared {
    fn settler(&self) -> Settler {
        let handoff = std::path::absolute(&self.config.watch.handoff);
        let settings = settle::Settings {
            archive: self.config.settle.archive,
            status: self.config.settle.status,
            handoff: handoff.unwrap_or_else(|_| self.config.watch.handoff.clone()),
            mode: "direct",
        };
        Settler::new(self.disk.clone(), self.recall.clone(), settings, Arc::clone(&self.clock))
    }

    fn start_ledger(&self, store: Store, threads: &mut Threads) -> Result<Handle<Parcel>, StartFault> {
        let downstream = FromLedger {
            submit: self.lines.submit.clone(),
            settle: self.lines.settle.clone(),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
        };
        let news = LedgerNews { metrics: self.metrics.clone(), health: self.health.clone() };
        let (handle, writer, copy) = ledger::writer(store, Box::new(downstream), Box::new(news));
        let metrics = self.metrics.clone();
        threads.spawn("ledger", move || {
            writer.run().map_err(|fault| {
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
    fn end_hidden(&self, ledger: &Handle<Parcel>, hidden: Vec<(Row, Receipt, Parcel)>) {
        let ends = hidden.into_iter().map(|(row, receipt, parcel)| {
            self.gate.enter(row.identity.size);
            let sink = self.config.sink.kind;
            let record = EndRecord {
                message: format!("delivered to {sink}:{} revision {}", receipt.name, receipt.revision),
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

    fn start_settle(
        &self,
        settler: Settler,
        ledger: &Handle<Parcel>,
        unfiled: Vec<(Row, Parcel)>,
        told: Box<dyn FnMut(&Row) + Send>,
        inbox: Receiver<ToSettle>,
        threads: &mut Threads,
    ) -> Result<(), StartFault> {
        let finish = Finish {
            settler,
            ledger: ledger.clone(),
            gate: Arc::clone(&self.gate),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
            health: self.health.clone(),
            worked: Arc::clone(&self.worked),
            keeper: self.lines.keeper.clone(),
            told,
            sampler: Sampler::new(Fate::ALL.len() + Reason::ALL.len()),
            unfiled: unfiled.into_iter().map(|(row, parcel)| (Mono::default(), row, parcel)).collect(),
            reported: 0,
        };
        threads.spawn("settle", move || {
            finish.run(&inbox);
            Ok(())
        })
    }

    fn start_submit(
        &self,
        sink: Arc<dyn Sink>,
        ledger: &Handle<Parcel>,
        jobs: Vec<Job>,
        inbox: mpsc::UnboundedReceiver<Order>,
        threads: &mut Threads,
    ) -> Result<(), StartFault> {
        let settings = &self.config.sink;
        let pace = Pace { max_age: settings.max_age, coalesce: settings.coalesce == Coalesce::Latest };
        let outbox = FromSubmit {
            ledger: ledger.clone(),
            settle: self.lines.settle.clone(),
            gate: Arc::clone(&self.gate),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
            health: self.health.clone(),
            sink: sink.kind(),
            circuit: Circuit::Closed,
            oldest: Arc::clone(&self.oldest),
        };
        let recall = self.recall.clone() as Arc<dyn driver::Recall>;
        let driver = Driver::new(
            Dispatch::new(pace, sink.kind()),
            sink,
            recall,
            Arc::clone(&self.clock),
            Box::new(outbox),
        );
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .enable_io()
            .build()
            .map_err(|err| StartFault::new(format!("the submit runtime cannot be started: {err}")))?;
        threads.spawn("submit", move || {
            runtime.block_on(driver.run(inbox));
            Ok(())
        })?;
        jobs.iter().for_each(|job| self.gate.enter(job.row.identity.size));
        if !jobs.is_empty() {
            // The driver has just been started and cannot have ended.
            let _ = self.lines.submit.send(Order::Accepted(jobs));
        }
        Ok(())
    }

    fn start_workers(
        &self,
        ledger: &Handle<Parcel>,
        mailbox: &Mailbox,
        condemned: HashSet<Vec<u8>>,
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
            condemned,
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

    fn hire(&self) -> Hire {
        let bounds =
            Bounds { max_size: self.config.intake.max_size, map_above: self.config.intake.map_above };
        let (rules, schema) = (Arc::clone(&self.rules), self.schema.clone());
        let (state, clock) = (self.state.clone(), Arc::clone(&self.clock));
        Arc::new(move |number| {
            let in_hand = InHand::open(&state, number).ok();
            let parser = parser(&rules, schema.as_ref());
            let worker = Worker::new(number, Reader::new(bounds), parser, in_hand, Arc::clone(&clock));
            Box::new(worker) as Box<dyn Judge>
        })
    }

    fn watcher(&self) -> Result<Watcher, StartFault> {
        let settings = watch::Settings { once: self.once, ..watch::Settings::new(&self.config) };
        let gate = Arc::clone(&self.gate);
        let parts = watch::Parts {
            hot: self.disk.clone(),
            clock: Arc::clone(&self.clock),
            queue: Arc::clone(&self.queue),
            flights: self.flights.clone(),
            may_accept: Arc::new(move || !gate.is_shut()),
            report: Arc::new(WatchNews { metrics: self.metrics.clone(), health: self.health.clone() }),
        };
        Watcher::new(settings, parts).map_err(|fault| StartFault::new(fault.to_string()))
    }

    fn start_keeper(
        &self,
        ledger: &Handle<Parcel>,
        inbox: Receiver<Errands>,
        threads: &mut Threads,
    ) -> Result<(), StartFault> {
        for lane in [Label::Fresh, Label::Backlog, Label::Large] {
            self.metrics.queue_capacity(lane, self.queue.capacity());
        }
        let settings = &self.config.settle;
        let keeper = Keeper {
            disk: Arc::clone(&self.disk),
            ledger: ledger.clone(),
            queue: Arc::clone(&self.queue),
            gate: Arc::clone(&self.gate),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
            health: self.health.clone(),
            worked: Arc::clone(&self.worked),
            retention: Retention::new(self.disk.clone(), settings.keep_for, settings.keep_size),
            reserve: self.config.intake.reserve,
            every: self.config.ledger.checkpoint,
            closed: 0,
            last: self.clock.now(),
            places: Mono::default(),
            offset: 0,
            short: false,
        };
        threads.spawn("keeper", move || {
            keeper.run(&inbox);
            Ok(())
        })
    }
}

impl Pipeline {
    /// How far it has come, for `once`.
    pub fn standing(&self) -> Standing {
        Standing {
            judged: self.progress.is_settled(),
            unjudged: self.progress.waiting() + self.shared.flights.busy(),
            under_way: self.shared.gate.files(),
        }
    }

    /// What proofs of completion this machine and folder give.
    pub fn leases(&self) -> LeaseHelp {
        self.leases
    }

    /// Rows of the ledger, by fate.
    pub fn counts(&self) -> Counts {
        self.ledger.counts()
    }

    /// How the loop is, as `status` shows it; to be asked from any thread.
    pub fn vital(&self) -> impl Fn() -> Value + Send + Sync + 'static {
        let vital = vital::Vital::of(self);
        move || vital.read()
    }

    /// A way to ask for scans from another thread.
    pub fn rescanner(&self) -> impl Fn(Cause) + Send + Sync + 'static {
        let mailbox = self.mailbox.clone();
        move |cause| mailbox.post(Message::Rescan(cause))
    }

    /// Asks for a scan of the folder.
    pub fn rescan(&self, cause: Cause) {
        self.mailbox.post(Message::Rescan(cause));
    }

    /// Stops everything in order; false if `service.drain` did not suffice and something was left for
    /// the next start.
    pub fn stop(self) -> bool {
        let deadline = Instant::now() + self.shared.config.service.drain;
        let Shared { lines, stopping, queue, gate, health, .. } = &self.shared;
        health.stopping();
        stopping.store(true, Ordering::SeqCst);
        self.mailbox.post(Message::Stop);
        queue.close();
        gate.wake_all();
        let mut clean = self.threads.join("watch", deadline) & self.threads.join("worker", deadline);
        let _ = lines.submit.send(Order::Stop);
        clean &= self.threads.join("submit", deadline);
        clean &= self.ledger.flush().is_ok();
        let (done, settled) = channel::bounded(1);
        let _ = lines.settle.send(ToSettle::Barrier(done));
        clean &= settled.recv_deadline(deadline).is_ok();
        let _ = lines.keeper.send(Errands::Stop);
        clean &= self.threads.join("keeper", deadline);
        let _ = self.ledger.stop();
        clean & self.threads.join("ledger", deadline)
    }
}
