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
mod keeper;
mod recovery;
mod threads;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{self, Sender};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::clock::{Clock, Mono};
use crate::config::{Config, UnknownFields};
use crate::disk::{Layout, Lock, Place, RealDisk};
use crate::intent::{Parser, Rules, TargetKind, UserSchema};
use crate::ledger::{self, Counts, Handle, Row, Store};
use crate::observe::{Health, Metrics, Sampler};
use crate::queue::{Flights, Lane, Queue};
use crate::read::{self, Bounds, InHand, LeaseHelp, Reader};
use crate::settle::{self, Retention, Settler};
use crate::submit::breaker::Circuit;
use crate::submit::dispatch::{Dispatch, Pace};
use crate::submit::driver::{Driver, Order};
use crate::submit::folder::FolderSink;
use crate::submit::Sink;
use crate::watch::{Errand, Message, Progress, Watcher};
use crate::worker::{Parcel, Worker};

use crew::{Crew, Hire, Judge};
use finish::{Finish, ToSettle};
use flow::{FromLedger, FromPayload, FromSubmit, LedgerNews};
use gate::Gate;
use keeper::{Errands, Keeper, Worked};
use recovery::{Recovered, Recovery};
use threads::Threads;

pub use gate::FLOWING;

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
}

/// How far `once` has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Names found by the scan, once it has ended.
    pub scanned: bool,
    /// Files that wait for completion, are in the queue or in a worker's hand.
    pub unjudged: usize,
    /// Files accepted and not yet filed.
    pub under_way: u64,
}

impl Standing {
    /// Nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.scanned && self.unjudged == 0 && self.under_way == 0
    }
}

/// A running pipeline.
pub struct Pipeline {
    threads: Threads,
    watch: Sender<Message>,
    submit: mpsc::UnboundedSender<Order>,
    settle: Sender<ToSettle>,
    keeper: Sender<Errands>,
    ledger: Handle<Parcel>,
    queue: Arc<Queue<Errand>>,
    flights: Flights,
    gate: Arc<Gate>,
    progress: Arc<Progress>,
    stopping: Arc<AtomicBool>,
    health: Health,
    leases: LeaseHelp,
    drain: Duration,
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
    let store = Store::open(ledger::Settings::new(parts.state.clone(), &config.ledger), Arc::clone(&parts.clock))?;
    if let Some(rebuilt) = &store.opened().rebuilt {
        parts.metrics.fault(crate::observe::FaultKind::LedgerCorrupt);
        tracing::error!("ledger-corrupt: {rebuilt}");
    }
    Ok(Ground { disk, store, locks, leases })
}

/// Starts everything; returns when the watch is placed and the first scan has begun.
pub fn start(parts: Parts) -> Result<Pipeline, StartFault> {
    let Ground { disk, mut store, locks, leases } = prepare(&parts)?;
    let config = parts.config.clone();
    let rules = Arc::new(rules(&config));
    let queue = Arc::new(Queue::new(config.intake.queue));
    let flights = Flights::new();
    let sink: Arc<dyn Sink> = Arc::new(FolderSink::new(disk.clone(), config.package.blueprints.clone()));
    let recall = Arc::new(FromPayload {
        state: parts.state.clone(),
        reader: Mutex::new(None),
        parser: Mutex::new(parser(&rules, parts.schema.as_ref())),
    });
    let mut settler = settler(&config, &disk, &recall, &parts.clock);
    let recovered = Recovery {
        store: &mut store,
        disk: &disk,
        sink: &sink,
        settler: &mut settler,
        recall: &recall,
        flights: &flights,
        clock: &parts.clock,
        state: &parts.state,
    }
    .run()?;
    say_recovered(&recovered);

    let gate = Arc::new(Gate::new(config.sink.max_pending, config.sink.max_pending_size));
    let (submit, submit_inbox) = mpsc::unbounded_channel();
    let (settle, settle_inbox) = channel::unbounded();
    let (keeper, keeper_inbox) = channel::unbounded();
    let (watch, watch_inbox) = channel::unbounded();
    let stopping = Arc::new(AtomicBool::new(false));
    let mut threads = Threads::default();
    let worked = Arc::new(Worked::default());
    worked.through.store(recovered.through, Ordering::SeqCst);
    worked.filed.lock().extend(recovered.filed);

    let from_ledger = FromLedger {
        submit: submit.clone(),
        settle: settle.clone(),
        clock: Arc::clone(&parts.clock),
        metrics: parts.metrics.clone(),
    };
    let news = LedgerNews { metrics: parts.metrics.clone(), health: parts.health.clone() };
    let (handle, writer, copy) = ledger::writer(store, Box::new(from_ledger), Box::new(news));
    threads.spawn_fallible("ledger", move || writer.run().map_err(|fault| fault.to_string()))?;
    threads.spawn_detached("ledger-copy", move || copy.run())?;

    let finish = Finish {
        settler,
        ledger: handle.clone(),
        gate: Arc::clone(&gate),
        clock: Arc::clone(&parts.clock),
        metrics: parts.metrics.clone(),
        health: parts.health.clone(),
        worked: Arc::clone(&worked),
        keeper: keeper.clone(),
        told: parts.told,
        sampler: Sampler::new(crate::fate::Fate::ALL.len() + crate::fate::Reason::ALL.len()),
        unfiled: recovered.unfiled.into_iter().map(|(row, parcel)| (Mono::default(), row, parcel)).collect(),
        reported: 0,
    };
    threads.spawn("settle", move || finish.run(&settle_inbox))?;

    let pace = Pace { max_age: config.sink.max_age, coalesce: config.sink.coalesce == crate::config::Coalesce::Latest };
    let from_submit = FromSubmit {
        ledger: handle.clone(),
        settle: settle.clone(),
        gate: Arc::clone(&gate),
        clock: Arc::clone(&parts.clock),
        metrics: parts.metrics.clone(),
        health: parts.health.clone(),
        circuit: Circuit::Closed,
    };
    let driver = Driver::new(
        Dispatch::new(pace),
        sink,
        Arc::clone(&recall) as Arc<dyn crate::submit::driver::Recall>,
        Arc::clone(&parts.clock),
        Box::new(from_submit),
    );
    threads.spawn_runtime("submit", move || driver.run(submit_inbox))?;
    recovered.jobs.iter().for_each(|job| gate.enter(job.row.identity.size));
    if !recovered.jobs.is_empty() {
        // The driver was started above and cannot have ended.
        let _ = submit.send(Order::Accepted(recovered.jobs));
    }

    let crew = Arc::new(Crew {
        queue: Arc::clone(&queue),
        gate: Arc::clone(&gate),
        ledger: handle.clone(),
        watch: watch.clone(),
        disk: Arc::clone(&disk),
        clock: Arc::clone(&parts.clock),
        metrics: parts.metrics.clone(),
        health: parts.health.clone(),
        stopping: Arc::clone(&stopping),
        condemned: recovered.condemned,
        panics: Mutex::new(HashMap::new()),
        left: Mutex::default(),
    });
    hire(&mut threads, &crew, &config, &parts.state, &rules, parts.schema.as_ref(), &parts.clock)?;

    let keeper_body = Keeper {
        disk: Arc::clone(&disk),
        ledger: handle.clone(),
        queue: Arc::clone(&queue),
        gate: Arc::clone(&gate),
        clock: Arc::clone(&parts.clock),
        metrics: parts.metrics.clone(),
        health: parts.health.clone(),
        worked,
        retention: Retention::new(disk.clone(), config.settle.keep_for, config.settle.keep_size),
        reserve: config.intake.reserve,
        every: config.ledger.checkpoint,
        closed: 0,
        last: parts.clock.now(),
        places: Mono::default(),
        offset: AtomicI64::new(0),
        short: false,
    };
    threads.spawn("keeper", move || keeper_body.run(&keeper_inbox))?;
    todo_watch()
}
