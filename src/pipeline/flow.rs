//! How results travel between the stages: from the ledger to submit and settle, and back.
//!
//! ```text
//! workers ──accept──▶ ledger ──accepted──▶ submit ──end──▶ ledger ──ended──▶ settle ──▶ gate, flights
//!                        └──── refused, duplicate, superseded, expired ──ended──▲
//! ```
//!
//! Nothing is handed on before the transaction that proves it is durable (promise R7).

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam::channel::Sender;
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;

use super::finish::ToSettle;
use super::tune::LiveParser;
use crate::clock::Clock;
use crate::fate::{Reason, Receipt, SinkKind};
use crate::intent::Intent;
use crate::ledger::{
    Beginning, Downstream, EndRecord, Event, Gone, Handle, LedgerFault, Reader, Released, Report, Row,
};
use crate::observe::{self, Check, FaultKind, Health, Metrics, RetryClass, Stage, StageId, SubmitResult};
use crate::queue::Gate;
use crate::settle;
use crate::submit::Outcome;
use crate::submit::breaker::Circuit;
use crate::submit::dispatch::{Finished, Job, Notice, Pending, Unsent};
use crate::submit::driver::{Noted, Order, Outbox, Recall};
use crate::worker::Parcel;

/// Takes what the ledger made durable to the next stage.
pub(super) struct FromLedger {
    pub(super) submit: UnboundedSender<Order>,
    pub(super) settle: Sender<ToSettle>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
}

impl Downstream<Parcel> for FromLedger {
    fn accepted(&mut self, files: Vec<Released<Parcel>>) {
        self.metrics.accepted(files.len() as u64);
        let now = self.clock.now();
        let jobs = files.into_iter().map(|mut file| {
            committed(&mut file.carry);
            Job::new(file.row, file.carry, now, false)
        });
        let jobs = jobs.collect();
        // The receiver lives until the ledger's writer has ended.
        let _ = self.submit.send(Order::Accepted(jobs));
    }

    fn ended(&mut self, files: Vec<Released<Parcel>>) {
        let now = self.clock.now();
        let mut rows = Vec::with_capacity(files.len());
        for Released { row, mut carry, .. } in files {
            committed(&mut carry);
            // What never was pending was accepted in the transaction that ended it.
            self.metrics.accepted(u64::from(!carry.pending));
            self.metrics.intent_duration(now.since(carry.sighted));
            rows.push((row, carry));
        }
        let _ = self.settle.send(ToSettle::Ended(rows));
    }

    fn known(&mut self, files: Vec<Released<Parcel>>) {
        let rows = files.into_iter().map(|file| (file.row, file.carry)).collect();
        let _ = self.settle.send(ToSettle::Known(rows));
    }
}

fn committed(parcel: &mut Parcel) {
    if let Some(pass) = &mut parcel.pass {
        pass.committed();
    }
}

/// What the ledger's writer has to say goes to metrics, health and the log.
pub(super) struct LedgerNews {
    /// Where the ledger is.
    pub(super) state: PathBuf,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
}

impl Report for LedgerNews {
    fn begun(&mut self) {
        self.health.in_call(StageId::Ledger, self.clock.now());
    }

    fn rested(&mut self) {
        self.health.beat(StageId::Ledger, self.clock.now());
    }

    fn waits(&mut self) {
        self.health.idle(StageId::Ledger);
    }

    fn event(&mut self, event: Event) {
        let ledger = |state: Result<(), String>| self.health.set(Check::Ledger, state);
        match event {
            Event::Committed { rows, took } => {
                self.metrics.commit(rows, took);
                self.metrics.stage(Stage::Commit, took);
            }
            Event::Stalled(fault) => {
                let (kind, word, next) = match fault {
                    LedgerFault::DiskFull { .. } => {
                        (FaultKind::DiskFull, "disk-full", "free some room there")
                    }
                    LedgerFault::Busy { .. } => (FaultKind::ReadOnly, "ledger-busy", "end its transaction"),
                    _ => (FaultKind::ReadOnly, "read-only", "make it writable again"),
                };
                let why = format!("{word}: {}: {fault}; {next}", self.state.display());
                self.metrics.fault(kind);
                // The keeper may have said it: it looks at the room that is left each second.
                if self.health.only(Check::Disk, self.clock.now()).passed() {
                    tracing::error!("acceptance paused: {why}, files wait in the folder");
                }
                ledger(Err(why));
            }
            Event::Resumed => {
                tracing::info!("the ledger takes rows again");
                ledger(Ok(()));
            }
            Event::TooLarge { bytes } => {
                tracing::error!(
                    bytes,
                    "acceptance paused: the ledger has reached ledger.max_size; raise it or lower ledger.keep_for"
                );
                ledger(Err("larger than ledger.max_size".to_owned()));
            }
            Event::LogPinned { bytes } => {
                tracing::warn!(
                    bytes,
                    "a reader keeps the ledger's log from being copied; end its transaction"
                );
            }
            Event::Resettled => {
                self.metrics.fault(FaultKind::StoreLost);
                tracing::error!(
                    "store-lost: the state directory had vanished; the ledger was written there anew"
                );
            }
            Event::UpkeepFailed(fault) => {
                tracing::warn!("upkeep of the ledger failed: {fault}; it is tried again")
            }
        }
    }
}

/// Takes what submit found out to the ledger, the producers and the operator.
pub(super) struct FromSubmit {
    pub(super) ledger: Handle<Parcel>,
    pub(super) settle: Sender<ToSettle>,
    pub(super) gate: Arc<Gate>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    pub(super) sink: SinkKind,
    /// The sink cannot be asked what it holds.
    pub(super) noted: bool,
    pub(super) circuit: Circuit,
    /// The last word to the log was of trouble.
    pub(super) troubled: bool,
    /// What keeps the sink from its own work.
    pub(super) hindered: Option<String>,
    /// When the oldest pending intent was accepted, at the earliest at boot, nanoseconds since boot; 0 while none is.
    pub(super) oldest: Arc<AtomicU64>,
}

impl Outbox for FromSubmit {
    fn finished(&mut self, ended: Vec<Finished>) {
        let records = ended.into_iter().map(|end| {
            let sink = end.receipt.is_some().then_some(self.sink);
            let possible_duplicate = self.noted && end.job.doubtful && sink.is_some();
            let record = EndRecord {
                fate: end.fate,
                reason: end.reason,
                message: end.message,
                errors: Vec::new(),
                sink,
                remote: end.receipt,
                possible_duplicate,
                attempts: end.job.attempts,
                related: end.related,
            };
            (end.job.row, record, end.job.parcel)
        });
        // Without a writer the process is ending; the rows stay open and are resumed at the next start.
        let _ = self.ledger.end_all(records.collect());
    }

    fn waiting(&mut self, notices: Vec<Notice>) {
        let _ = self.settle.send(ToSettle::Waiting(notices));
    }

    fn attempted(&mut self, outcome: &Outcome, took: Duration) {
        self.metrics.stage(Stage::Submit, took);
        let result = match outcome {
            Outcome::Delivered(receipt) => {
                if receipt.adopted {
                    self.metrics.adopted();
                }
                SubmitResult::Ok
            }
            Outcome::Rejected { reason, .. } => {
                trouble(*reason).into_iter().for_each(|fault| self.metrics.fault(fault));
                SubmitResult::Rejected
            }
            Outcome::Retry { reason, .. } => {
                trouble(*reason).into_iter().for_each(|fault| self.metrics.fault(fault));
                self.metrics.retry(class(*reason));
                SubmitResult::Retry
            }
            Outcome::Held { reason, message, again, .. } => {
                let (sink, reason) = (self.sink.as_str(), reason.as_str());
                match again {
                    None => tracing::error!(sink, reason, "{message}"),
                    Some(_) => tracing::warn!(sink, reason, "{message}"),
                }
                SubmitResult::Retry
            }
        };
        self.metrics.submission(result, took);
    }

    fn beginning(&mut self, group: &[Job]) -> Noted {
        let beginning = |job: &Job| Beginning { seq: job.row.seq, doubtful: job.doubtful };
        let noted = self.ledger.begin(group.iter().map(beginning).collect());
        Box::pin(async move {
            match noted {
                Ok(noted) => noted.await.is_ok(),
                Err(Gone) => false,
            }
        })
    }

    fn changed(&mut self, rows: Vec<(u64, Receipt)>) {
        let _ = self.settle.send(ToSettle::Changed(rows));
    }

    fn without_effect(&mut self, job: &Job, counts: bool) {
        // Without a writer the note stays, and the next process is careful for nothing.
        let _ = self.ledger.without_effect(job.row.seq, counts);
    }

    fn standing(
        &mut self,
        sink: SinkKind,
        circuit: Circuit,
        pending: Pending,
        trouble: Option<&(Reason, String)>,
    ) {
        let now = self.clock.now();
        self.metrics.pending(pending.by_class);
        self.metrics.oldest_pending(pending.oldest);
        let nanos = |age: Duration| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        let oldest = pending.oldest.map_or(0, |age| now.0.saturating_sub(nanos(age)).max(1));
        self.oldest.store(oldest, Ordering::Relaxed);
        self.metrics.circuit(exported(circuit));
        let stands = match trouble {
            None => self.hindered.clone().map_or(Ok(()), Err),
            Some((reason, message)) => Err(format!("{reason}: {message}")),
        };
        self.health.set(Check::Sink, stands);
        self.gate.set_flowing(trouble.is_none());
        if let (Some((reason, message)), false) = (trouble, self.troubled) {
            tracing::warn!(
                sink = sink.as_str(),
                reason = reason.as_str(),
                "intents wait for the sink and are tried again: {reason}: {message}"
            );
        }
        self.troubled = trouble.is_some();
        if circuit != self.circuit {
            // Its opening is no news: the trouble behind it was told above.
            if circuit == Circuit::Closed {
                tracing::info!(sink = sink.as_str(), "sink takes intents again");
            }
            self.circuit = circuit;
        }
        match pending == Pending::default() {
            true => self.health.idle(StageId::Submit),
            false => self.health.beat(StageId::Submit, now),
        }
    }

    fn hindered(&mut self, trouble: Option<&str>) {
        self.hindered = trouble.map(str::to_owned);
    }

    fn calling(&mut self) {
        self.health.in_call(StageId::Submit, self.clock.now());
    }

    fn answered(&mut self) {
        self.health.beat(StageId::Submit, self.clock.now());
    }

    fn resting(&mut self) {
        self.health.idle(StageId::Submit);
    }

    fn limited(&mut self, groups: usize) {
        self.metrics.sink_limit(groups);
    }

    fn panicked(&mut self) {
        self.metrics.panicked();
        tracing::error!(sink = self.sink.as_str(), "submitting panicked; the intents are tried one by one");
    }
}

/// The trouble at the sink that a reason tells of (`reliability.md` 13, table P).
const fn trouble(reason: Reason) -> Option<FaultKind> {
    match reason {
        Reason::SinkUnavailable => Some(FaultKind::SinkUnreachable),
        Reason::SinkThrottled => Some(FaultKind::SinkThrottled),
        Reason::SinkAuth => Some(FaultKind::SinkAuth),
        Reason::NameConflict => Some(FaultKind::NameConflict),
        // What became of a command is counted by the sink that ran it, run by run.
        _ => None,
    }
}

const fn class(reason: Reason) -> RetryClass {
    match reason {
        Reason::SinkUnavailable | Reason::CliUnavailable => RetryClass::Unavailable,
        Reason::SinkThrottled => RetryClass::Throttled,
        Reason::SinkAuth => RetryClass::Auth,
        Reason::CliTimeout => RetryClass::Timeout,
        _ => RetryClass::Other,
    }
}

const fn exported(circuit: Circuit) -> observe::Circuit {
    match circuit {
        Circuit::Closed => observe::Circuit::Closed,
        Circuit::HalfOpen => observe::Circuit::HalfOpen,
        Circuit::Open => observe::Circuit::Open,
    }
}

/// Reads and parses a row's kept bytes again.
pub(super) struct FromPayload {
    pub(super) state: PathBuf,
    /// The running writer; before it runs, and that is during recovery, the ledger is read directly.
    pub(super) ledger: OnceLock<Handle<Parcel>>,
    pub(super) parser: Mutex<LiveParser>,
}

impl FromPayload {
    fn bytes(&self, seq: u64) -> Result<Option<Vec<u8>>, LedgerFault> {
        match self.ledger.get() {
            Some(ledger) => ledger.payload(seq),
            None => Reader::open(&self.state)?.payload(seq),
        }
    }
}

impl FromPayload {
    /// The intent that these bytes of a row say.
    pub(super) fn parse(&self, row: &Row, bytes: &[u8]) -> Result<Intent, String> {
        self.parser.lock().parse(bytes).map_err(|refusal| format!("intent {}: {refusal}", row.id))
    }
}

impl Recall for FromPayload {
    fn file(&self, row: &Row) -> Result<Vec<u8>, Unsent> {
        match self.bytes(row.seq) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(Unsent::Lost("its kept bytes are not in the ledger any more".to_owned())),
            Err(fault @ LedgerFault::Payload { .. }) => Err(Unsent::Lost(fault.to_string())),
            Err(fault) => Err(Unsent::Unreadable(fault.to_string())),
        }
    }

    fn intent(&self, row: &Row) -> Result<Intent, Unsent> {
        let bytes = self.file(row)?;
        self.parser.lock().parse(&bytes).map_err(|refusal| Unsent::Refused {
            reason: refusal.reason,
            message: format!("accepted earlier, refused by the rules in force now: {refusal}"),
        })
    }
}

impl settle::Recall for FromPayload {
    fn payload(&self, seq: u64) -> Option<Vec<u8>> {
        self.bytes(seq).unwrap_or_else(|fault| {
            tracing::error!(seq, "the kept bytes of an intent cannot be read: {fault}");
            None
        })
    }
}
