//! The settle thread: works through durable ends in order and retries what could not be filed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};

use super::keeper::{CLOSINGS, Errands, Worked};
use super::unfiled::UnfiledSet;
use crate::clock::Clock;
use crate::fate::{Fate, Reason, Receipt};
use crate::ledger::{Handle, Row};
use crate::observe::{Check, FaultKind, Health, Metrics, Sampler, Stage, StageId, Verdict, escape_name};
use crate::settle::{Settled, Settler};
use crate::submit::dispatch::Notice;
use crate::worker::Parcel;

/// What the settle thread is told.
pub(super) enum ToSettle {
    /// These ended, in the order of their numbers.
    Ended(Vec<(Row, Parcel)>),
    /// Files that were seen again although they are on record: pending, or settled and not moved.
    Known(Vec<(Row, Parcel)>),
    /// These wait for the sink.
    Waiting(Vec<Notice>),
    /// What the sink holds of these delivered rows has changed.
    Changed(Vec<(u64, Receipt)>),
    /// Answer when everything before this is done.
    Barrier(Sender<()>),
}

pub(super) struct Finish {
    pub(super) settler: Settler,
    pub(super) ledger: Handle<Parcel>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    pub(super) worked: Arc<Worked>,
    pub(super) keeper: Sender<Errands>,
    pub(super) told: Box<dyn FnMut(&Row) + Send>,
    pub(super) sampler: Sampler,
    pub(super) unfiled: UnfiledSet,
    pub(super) reported: u64,
}

impl Finish {
    /// Works until nobody can give it anything any more.
    pub(super) fn run(mut self, inbox: &Receiver<ToSettle>) {
        self.show_unfiled();
        loop {
            self.health.idle(StageId::Settle);
            let message = match self.unfiled.next_due() {
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => inbox.recv_timeout(due.since(self.clock.now())),
            };
            match message {
                Ok(ToSettle::Ended(rows)) => self.settle(rows),
                Ok(ToSettle::Known(rows)) => self.known(rows),
                Ok(ToSettle::Waiting(notices)) => self.tell_waiting(&notices),
                Ok(ToSettle::Changed(rows)) => self.changed(rows),
                Ok(ToSettle::Barrier(done)) => drop(done.send(())),
                Err(RecvTimeoutError::Timeout) => self.retry(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn settle(&mut self, rows: Vec<(Row, Parcel)>) {
        for (row, mut parcel) in rows {
            let started = self.clock.now();
            self.health.in_call(StageId::Settle, started);
            let settled = self.settler.settle(&row);
            self.metrics.stage(Stage::Settle, self.clock.now().since(started));
            let no = row.end.as_ref().map_or(0, |end| end.no);
            if let Some(end) = &row.end {
                self.metrics.ended(end.fate, end.reason);
            }
            // What is left of it is the name; it no longer counts against what may be under way.
            parcel.pass = None;
            // Told last: whoever hears of it finds the counts right and the name free.
            match settled {
                Settled::Done => {
                    drop(parcel);
                    self.tell(&row);
                }
                Settled::Unfiled { reason, message } => {
                    self.tell(&row);
                    self.keep(row, parcel, reason, message);
                }
            }
            self.worked.through.fetch_max(no, Ordering::SeqCst);
        }
        let through = self.worked.through.load(Ordering::Relaxed);
        if through - self.reported >= CLOSINGS {
            self.reported = through;
            // A keeper that is gone has made its last checkpoint.
            let _ = self.keeper.send(Errands::Look);
        }
    }

    /// An exception to the next checkpoint, recorded before the number passes it.
    fn keep(&mut self, row: Row, parcel: Parcel, reason: Option<Reason>, message: String) {
        let stuck = reason == Some(Reason::CannotFile);
        self.metrics.fault(if stuck { FaultKind::CannotFile } else { FaultKind::DiskFull });
        tracing::error!(
            file = escape_name(&row.name),
            id = %row.id,
            "settled but not filed: {message}; it is tried again, nothing is submitted twice"
        );
        // Without a writer no checkpoint follows either: the row is settled again at the next start.
        let _ = self.ledger.unfiled(row.seq, reason.unwrap_or(Reason::CannotFile));
        self.unfiled.add(row, parcel, stuck, message, self.clock.now());
        self.show_unfiled();
    }

    /// A pending row goes its way and needs nothing; one that waits here is tried when it is due.
    fn known(&mut self, rows: Vec<(Row, Parcel)>) {
        for (row, mut parcel) in rows {
            parcel.pass = None;
            if row.end.is_some() && !self.unfiled.holds(row.seq) {
                self.again(row, parcel);
            }
        }
        self.show_unfiled();
    }

    fn retry(&mut self) {
        let now = self.clock.now();
        while let Some(waiting) = self.unfiled.due(now) {
            self.again(waiting.row, waiting.parcel);
        }
        self.show_unfiled();
    }

    fn again(&mut self, row: Row, parcel: Parcel) {
        self.health.in_call(StageId::Settle, self.clock.now());
        match self.settler.settle_again(&row) {
            Settled::Done => {
                tracing::info!(file = escape_name(&row.name), id = %row.id, "filed at last");
                self.worked.filed.lock().push(row.seq);
            }
            Settled::Unfiled { reason, message } => {
                let stuck = reason == Some(Reason::CannotFile);
                self.unfiled.add(row, parcel, stuck, message, self.clock.now());
            }
        }
    }

    /// Gauges and readiness follow what waits.
    fn show_unfiled(&self) {
        let (all, stuck) = self.unfiled.counts();
        self.metrics.unfiled(all);
        self.metrics.stuck_files(stuck);
        let state =
            self.unfiled.message().map_or(Ok(()), |message| Err(format!("{all} not filed: {message}")));
        self.health.set(Check::Settle, state);
    }

    fn tell_waiting(&mut self, notices: &[Notice]) {
        for notice in notices {
            let next = notice.next_attempt.map(|wait| self.clock.wall().after(wait));
            let told =
                self.settler.pending(&notice.row, notice.reason, &notice.message, notice.attempts, next);
            if let Err(err) = told {
                tracing::warn!(
                    file = escape_name(&notice.row.name),
                    "the pending status cannot be written: {err}"
                );
            }
        }
    }

    /// Status files follow what others did at the sink; the ledger keeps what was reached when delivered.
    fn changed(&mut self, rows: Vec<(u64, Receipt)>) {
        for (seq, receipt) in rows {
            let told = match self.ledger.row(seq) {
                Ok(row) => self.settler.changed(row, receipt).map_err(|err| err.to_string()),
                Err(fault) => Err(fault.to_string()),
            };
            if let Err(err) = told {
                tracing::warn!(seq, "the status of a delivered intent cannot be brought up to date: {err}");
            }
        }
    }

    /// The log line of one intent, at most 20 a second for each fate and reason.
    fn tell(&mut self, row: &Row) {
        (self.told)(row);
        let Some(end) = &row.end else { return };
        let key = end
            .reason
            .map_or(usize::from(end.fate.code()), |reason| Fate::ALL.len() + usize::from(reason.code()));
        let suppressed = match self.sampler.allow(key, self.clock.now()) {
            Verdict::Suppress => return,
            Verdict::Write { suppressed } => suppressed,
        };
        if suppressed > 0 {
            self.metrics.suppressed_log_lines(suppressed);
            let kind = end.reason.map_or(end.fate.as_str(), Reason::as_str);
            tracing::info!(kind, "suppressed {suppressed} lines of this kind; the ledger has all of them");
        }
        let (file, id, fate) = (escape_name(&row.name), row.id.to_string(), end.fate.as_str());
        let message = end.message.as_str();
        match end.reason {
            None => tracing::info!(file, id, fate, "{message}"),
            Some(reason) if end.fate.is_success() => {
                tracing::info!(file, id, fate, reason = reason.as_str(), "{message}");
            }
            Some(reason) => tracing::warn!(file, id, fate, reason = reason.as_str(), "{message}"),
        }
    }
}
