//! Builds the stages, starts them, watches over them and stops them.
//!
//! # Threads
//!
//! `watch` (and notify's own), `worker-N`, `ledger` and `checkpoint`, `submit` (a current-thread
//! runtime), `settle`, `keeper`. HTTP and signals have their own, see `observe` and `service`. Threads
//! are named and fixed in number at start. A panic in a worker, or at the sink, costs that file's attempt;
//! any other panic of a stage aborts the process, since a stage that is gone would lose what it holds.
//!
//! # Order of start
//!
//! Directories, locks, ledger, sandbox, recovery, ledger writer, settle, submit, workers, keeper, and last the
//! watch, which places its events before the first scan.
//!
//! # Order of stop
//!
//! Admission and watch, workers, submit (what is at the sink may finish), the ledger's queue, settle,
//! a last checkpoint, the ledger. Whatever `service.drain` does not suffice for is resumed at the next start.

mod build;
mod crew;
mod finish;
mod flow;
mod hot;
mod keeper;
mod recovery;
mod sinks;
mod threads;
mod tune;
mod unfiled;
mod vital;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crossbeam::channel;
use serde_json::Value;

use crate::clock::Clock;
use crate::config::{Config, UnknownFields};
use crate::disk::{Folders, Layout, Lock, Place, RealDisk};
use crate::intent::{Rules, TargetKind, UserSchema};
use crate::ledger::{self, Closed, Counts, Handle, Record, Row, Store};
use crate::observe::{Check, Health, Metrics};
use crate::read::{self, LeaseHelp};
use crate::submit::driver::Order;
use crate::watch::{Cause, Mailbox, Message, Progress};
use crate::worker::Parcel;

use build::{Shared, lines};
use finish::ToSettle;
use keeper::Errands;
use recovery::{Recovered, Recovery};
use threads::{OnFailure, Threads};

pub use tune::{InForce, Tuner};
pub use vital::{Backlog, fates};

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
    /// Done once a second by the keeper.
    pub on_tick: Box<dyn FnMut() + Send>,
}

/// How far `once` has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The scan is over.
    pub scanned: bool,
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

/// A running pipeline.
pub struct Pipeline {
    shared: Shared,
    threads: Threads,
    ledger: Handle<Parcel>,
    mailbox: Mailbox,
    progress: Arc<Progress>,
    leases: LeaseHelp,
    resumed: u64,
    /// Of the state directory; the folder's own is the disk's.
    _lock: Option<Lock>,
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

/// Directories, locks and ledger: what must be had before anything is accepted.
struct Ground {
    disk: Arc<RealDisk>,
    store: Store,
    lock: Option<Lock>,
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
    let lock = Lock::take_elsewhere(private, &parts.state)?;
    read::ignore_lease_signal();
    let leases = read::probe(private);
    let opening = ledger::Settings::new(parts.state.clone(), &config.ledger);
    let store = Store::open(opening, Arc::clone(&parts.clock))
        .map_err(|fault| StartFault::new(format!("state directory {}: {fault}", parts.state.display())))?;
    if let Some(rebuilt) = &store.opened().rebuilt {
        parts.metrics.fault(crate::observe::FaultKind::LedgerCorrupt);
        tracing::error!("ledger-corrupt: {rebuilt}");
    }
    Ok(Ground { disk, store, lock, leases })
}

/// Starts everything; returns when the watch has its thread.
///
/// `confine` is called once, when directories and ledger are open and before anything dropped is read or
/// any thread started. It tells whether the handoff folder is pinned: one that comes back as another
/// directory cannot be used by this process then, which ends for a restart.
pub fn start(
    mut parts: Parts,
    confine: impl FnOnce(&Folders) -> Result<bool, String>,
) -> Result<Pipeline, StartFault> {
    let Ground { disk, mut store, lock, leases } = prepare(&parts)?;
    let pinned = confine(&disk.folders()).map_err(StartFault::new)?;
    let (lines, inboxes) = lines();
    let shared = Shared::new(&mut parts, disk, lines);
    let sink = sinks::build(shared.making())?;
    if let Err(message) = sink.check() {
        tracing::warn!(
            sink = sink.kind().as_str(),
            "the sink takes nothing yet, intents will wait: {message}"
        );
        shared.health.set(Check::Sink, Err(message));
    }
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
    let resumed = recovered.jobs.len() as u64 + recovered.hidden.len() as u64;
    let Recovered { jobs, hidden, unfiled, through, condemned, filed, .. } = recovered;
    shared.worked.through.store(through, Ordering::SeqCst);
    shared.worked.filed.lock().extend(filed);

    let mut threads = Threads::new(parts.failed as OnFailure);
    let ledger = shared.start_ledger(store, &mut threads)?;
    shared.start_settle(settler, &ledger, unfiled, parts.told, inboxes.settle, &mut threads)?;
    shared.end_hidden(&ledger, hidden);
    shared.start_submit(sink, &ledger, jobs, inboxes.submit, &mut threads)?;
    let watcher = shared.watcher(pinned)?;
    let (mailbox, progress) = (watcher.mailbox(), watcher.progress());
    shared.start_workers(&ledger, &mailbox, condemned, &mut threads)?;
    shared.start_keeper(&ledger, &progress, inboxes.keeper, parts.on_tick, &mut threads)?;
    threads.spawn("watch", move || watcher.run().map_err(|fault| fault.to_string()))?;
    Ok(Pipeline { shared, threads, ledger, mailbox, progress, leases, resumed, _lock: lock })
}

fn say_recovered(recovered: &Recovered) {
    if recovered.redone > 0 || !recovered.jobs.is_empty() {
        tracing::info!(
            resumed = recovered.jobs.len(),
            settled_again = recovered.redone,
            "resumed what the last process left open"
        );
    }
    for name in recovered.condemned.keys() {
        tracing::error!(
            file = crate::observe::escape_name(name),
            "three processes died with this file in hand; it is refused unread"
        );
    }
}

impl Pipeline {
    /// How far it has come, for `once`.
    pub fn standing(&self) -> Standing {
        Standing {
            scanned: self.progress.is_scanned(),
            judged: self.progress.is_settled(),
            unjudged: self.progress.waiting() + self.shared.flights.busy(),
            under_way: self.shared.gate.files(),
        }
    }

    /// Open rows of the last process that this one took over.
    pub fn resumed(&self) -> u64 {
        self.resumed
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

    /// What waits; to be asked from any thread.
    pub fn backlog(&self) -> impl Fn() -> Backlog + Send + Sync + 'static {
        let vital = vital::Vital::of(self);
        move || vital.backlog()
    }

    /// How reliably the daemon has run so far, and the balance of all rows; to be asked from any thread.
    pub fn record(&self) -> impl Fn() -> (Record, Counts) + Send + Sync + 'static {
        let ledger = self.ledger.clone();
        move || (ledger.record(), ledger.counts())
    }

    /// A way to ask for scans from another thread.
    pub fn rescanner(&self) -> impl Fn(Cause) + Send + Sync + 'static {
        let mailbox = self.mailbox.clone();
        move |cause| mailbox.post(Message::Rescan(cause))
    }

    /// The way to other settings while it runs.
    pub fn tuner(&self) -> Tuner {
        Tuner {
            live: self.shared.live.clone(),
            gate: Arc::clone(&self.shared.gate),
            watch: self.mailbox.clone(),
            submit: self.shared.lines.submit.clone(),
            ledger: self.ledger.clone(),
        }
    }

    /// Asks for a scan of the folder.
    pub fn rescan(&self, cause: Cause) {
        self.mailbox.post(Message::Rescan(cause));
    }

    /// Stops everything in order; false if `service.drain` did not suffice and something was left for
    /// the next start.
    pub fn stop(self) -> bool {
        let deadline = Instant::now() + self.shared.live.get().config.service.drain;
        let Shared { lines, stopping, queue, gate, health, .. } = &self.shared;
        health.stopping();
        stopping.store(true, Ordering::SeqCst);
        self.mailbox.post(Message::Stop);
        queue.close();
        gate.wake_all();
        let mut clean = self.threads.join("watch", deadline) & self.threads.join("worker", deadline);
        let _ = lines.submit.send(Order::Stop);
        clean &= self.threads.join("submit", deadline);
        // A ledger that cannot write has nothing to wait for: what it holds was never acknowledged.
        let writes = matches!(self.ledger.closed_for(), None | Some(Closed::TooLarge));
        clean &= writes && self.ledger.flush_until(deadline) == Ok(true);
        let (done, settled) = channel::bounded(1);
        let _ = lines.settle.send(ToSettle::Barrier(done));
        clean &= settled.recv_deadline(deadline).is_ok();
        let _ = lines.keeper.send(Errands::Stop);
        clean &= self.threads.join("keeper", deadline);
        let _ = self.ledger.stop();
        clean & self.threads.join("ledger", deadline)
    }
}
