//! The settle thread: works through durable ends in order and retries what could not be filed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};

use super::gate::Gate;
use super::keeper::{CLOSINGS, Errands, Worked};
use crate::clock::{Clock, Mono};
use crate::fate::{Fate, Reason};
use crate::ledger::{Handle, Row};
use crate::observe::{Check, FaultKind, Health, Metrics, Sampler, Stage, StageId, Verdict, escape_name};
use crate::settle::{Settled, Settler};
use crate::submit::dispatch::Notice;
use crate::worker::Parcel;

/// How long after a failure the filing is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// Unfiled rows that are kept in memory; more wait for the next start in the ledger.
const KEPT: usize = 10_000;

/// What the settle thread is told.
pub(super) enum ToSettle {
    /// These ended, in the order of their numbers.
    Ended(Vec<(Row, Parcel)>),
    /// Files that were seen again although they are settled and could not be moved.
    Known(Vec<(Row, Parcel)>),
    /// These wait for the sink.
    Waiting(Vec<Notice>),
    /// Answer when everything before this is done.
    Barrier(Sender<()>),
}

pub(super) struct Finish {
    pub(super) settler: Settler,
    pub(super) ledger: Handle<Parcel>,
    pub(super) gate: Arc<Gate>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    pub(super) worked: Arc<Worked>,
    pub(super) keeper: Sender<Errands>,
    pub(super) told: Box<dyn FnMut(&Row) + Send>,
    pub(super) sampler: Sampler,
    /// Rows whose original is still in the folder, with the moment of the next attempt.
    pub(super) unfiled: VecDeque<(Mono, Row, Parcel)>,
    pub(super) reported: u64,
}

impl Finish {
    /// Works until nobody can give it anything any more.
    pub(super) fn run(mut self, inbox: &Receiver<ToSettle>) {
        loop {
            let message = match self.unfiled.front() {
                None => {
                    self.health.idle(StageId::Settle);
                    inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
                }
                Some((due, ..)) => inbox.recv_timeout(due.since(self.clock.now())),
            };
            match message {
                Ok(ToSettle::Ended(rows)) => self.settle(rows),
                Ok(ToSettle::Known(rows)) => {
                    rows.into_iter().for_each(|(row, parcel)| self.again(row, parcel))
                }
                Ok(ToSettle::Waiting(notices)) => self.tell_waiting(&notices),
                Ok(ToSettle::Barrier(done)) => drop(done.send(())),
                Err(RecvTimeoutError::Timeout) => self.retry(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn settle(&mut self, rows: Vec<(Row, Parcel)>) {
        for (row, parcel) in rows {
            let started = self.clock.now();
            self.health.in_call(StageId::Settle, started);
            let settled = self.settler.settle(&row);
            self.metrics.stage(Stage::Settle, self.clock.now().since(started));
            match settled {
                Settled::Done => drop(parcel),
                Settled::Unfiled { reason, message } => self.keep(&row, parcel, reason, &message),
            }
            if let Some(end) = &row.end {
                self.metrics.ended(end.fate, end.reason);
                self.worked.through.fetch_max(end.no, Ordering::SeqCst);
            }
            self.gate.leave(row.identity.size);
            // Last: whoever hears of it finds the counts right and the name free.
            self.tell(&row);
        }
        let through = self.worked.through.load(Ordering::Relaxed);
        if through - self.reported >= CLOSINGS {
            self.reported = through;
            // A keeper that is gone has made its last checkpoint.
            let _ = self.keeper.send(Errands::Look);
        }
    }

    /// An exception to the next checkpoint, recorded before the number passes it.
    fn keep(&mut self, row: &Row, parcel: Parcel, reason: Option<Reason>, message: &str) {
        let stuck = reason == Some(Reason::CannotFile);
        self.metrics.fault(if stuck { FaultKind::CannotFile } else { FaultKind::DiskFull });
        tracing::error!(
            file = escape_name(&row.name),
            id = %row.id,
            "settled but not filed: {message}; it is tried again, nothing is submitted twice"
        );
        // Without a writer no checkpoint follows either: the row is settled again at the next start.
        let _ = self.ledger.unfiled(row.seq, reason.unwrap_or(Reason::CannotFile));
        self.health.set(Check::Settle, Err(message.to_owned()));
        if self.unfiled.len() < KEPT {
            self.unfiled.push_back((self.clock.now().after(AGAIN), row.clone(), parcel));
        }
        self.worked.unfiled.store(self.unfiled.len() as u64, Ordering::Relaxed);
    }

    fn retry(&mut self) {
        let now = self.clock.now();
        while self.unfiled.front().is_some_and(|(due, ..)| *due <= now) {
            let Some((_, row, parcel)) = self.unfiled.pop_front() else { break };
            self.again(row, parcel);
        }
        self.worked.unfiled.store(self.unfiled.len() as u64, Ordering::Relaxed);
        if self.unfiled.is_empty() {
            self.health.set(Check::Settle, Ok(()));
        }
    }

    fn again(&mut self, row: Row, parcel: Parcel) {
        self.health.in_call(StageId::Settle, self.clock.now());
        match self.settler.settle_again(&row) {
            Settled::Done => {
                self.worked.filed.lock().push(row.seq);
                drop(parcel);
            }
            Settled::Unfiled { .. } if self.unfiled.len() < KEPT => {
                self.unfiled.push_back((self.clock.now().after(AGAIN), row, parcel));
            }
            Settled::Unfiled { .. } => drop(parcel),
        }
    }

    fn tell_waiting(&mut self, notices: &[Notice]) {
        for notice in notices {
            let next = notice.next_attempt.map(|wait| self.clock.wall().after(wait));
            if let Err(err) =
                self.settler.pending(&notice.row, notice.reason, &notice.message, notice.attempts, next)
            {
                tracing::warn!(
                    file = escape_name(&notice.row.name),
                    "the pending status cannot be written: {err}"
                );
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
