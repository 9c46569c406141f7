//! The writer: one thread that owns the store and makes whatever is queued durable in one flush.
//!
//! Each turn takes what has come in meanwhile (at most [`MOST_ROWS`] rows, no waiting window: the flush
//! in progress gathers the next batch), writes it in one transaction, commits, and only then hands the
//! rows on. Files are accepted in the order of their numbers ([`super::reorder`]).
//!
//! A full disk stops nothing: the batch is taken back, kept and tried again, nothing of it is handed on,
//! and [`Handle::full`] tells the workers to wait. The queue in front is not bounded by itself; what is
//! in it is bounded by the tickets and deliveries in flight. A failed flush ends the thread with the fault.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender, TrySendError};

use super::fault::LedgerFault;
use super::handle::{Downstream, Event, Handle, Message, Released, Report, Work};
use super::reorder::Reorder;
use super::store::Store;
use super::upkeep::{LOG_COPY, LOG_PINNED, LOG_RESTART, Maintenance, PORTION};
use super::{Entry, Judged};
use crate::clock::Clock;
use crate::error::{Consequence, Fault as _};

/// Most rows of one commit.
pub const MOST_ROWS: usize = 256;
/// First and longest wait between two tries on a full disk.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// Commits between two looks at the sizes of log and ledger.
const LOOK_EVERY: u32 = 16;

/// What became of one piece of work within a batch.
#[expect(clippy::large_enum_variant, reason = "nearly all of them are judgements")]
enum Done {
    Judged(Judged),
    Ended(Vec<super::End>),
    Nothing,
}

/// The writer's end: owns the store; [`Writer::run`] is its thread.
pub struct Writer<C> {
    store: Store,
    clock: Arc<dyn Clock>,
    inbox: Receiver<Message<C>>,
    downstream: Box<dyn Downstream<C>>,
    report: Box<dyn Report>,
    window: Reorder<(Box<Entry>, C)>,
    work: VecDeque<Work<C>>,
    full: Arc<AtomicBool>,
    too_large: bool,
    stalled: bool,
    stopping: bool,
    more_upkeep: bool,
    commits: u32,
    pinned_told: bool,
    copy: Sender<()>,
}

/// Makes a writer for `store`, the handle that leads to it, and the maintenance that belongs beside it
/// on a thread of its own.
pub fn writer<C: Send + 'static>(
    store: Store,
    downstream: Box<dyn Downstream<C>>,
    report: Box<dyn Report>,
) -> (Handle<C>, Writer<C>, Maintenance) {
    let (sender, inbox) = channel::unbounded();
    let (copy, asked) = channel::bounded(1);
    let full = Arc::new(AtomicBool::new(false));
    let maintenance = Maintenance::new(store.settings.dir.clone(), asked);
    let writer = Writer {
        clock: Arc::clone(&store.clock),
        store,
        inbox,
        downstream,
        report,
        window: Reorder::default(),
        work: VecDeque::new(),
        full: Arc::clone(&full),
        too_large: false,
        stalled: false,
        stopping: false,
        more_upkeep: true,
        commits: 0,
        pinned_told: false,
        copy,
    };
    (Handle::new(sender, full), writer, maintenance)
}

impl<C> Writer<C> {
    /// Thread body: ends after [`Handle::stop`], when all handles are gone, or with a fault.
    ///
    /// # Errors
    /// A fault whose consequence is to stop: what was not handed on is not acknowledged.
    pub fn run(mut self) -> Result<(), LedgerFault> {
        loop {
            self.gather();
            if !self.work.is_empty() && !self.commit_patiently()? {
                // Stopped while the disk was full: what is left was never acknowledged.
                return Ok(());
            }
            if self.stopping && self.work.is_empty() {
                return self.store.close();
            }
            self.keep_up()?;
        }
    }

    /// Waits for something to do, then takes what else is there.
    fn gather(&mut self) {
        if self.work.is_empty() && !self.stopping && !self.more_upkeep {
            let first = match self.window.due() {
                None => self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => self.inbox.recv_timeout(due.since(self.clock.now())),
            };
            self.take(first);
        }
        while self.rows() < MOST_ROWS {
            match self.inbox.try_recv() {
                Ok(message) => self.absorb(message),
                Err(channel::TryRecvError::Empty) => break,
                Err(channel::TryRecvError::Disconnected) => {
                    self.stopping = true;
                    break;
                }
            }
        }
        let mut ready = Vec::new();
        self.window.release(self.clock.now(), &mut ready);
        if self.stopping {
            ready.extend(self.window.drain());
        }
        self.work.extend(ready.into_iter().map(|(entry, carry)| Work::Accept(entry, carry)));
    }

    fn rows(&self) -> usize {
        self.work.iter().map(Work::rows).sum::<usize>() + self.window.len()
    }

    fn take(&mut self, message: Result<Message<C>, RecvTimeoutError>) {
        match message {
            Ok(message) => self.absorb(message),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => self.stopping = true,
        }
    }

    fn absorb(&mut self, message: Message<C>) {
        match message {
            Message::Accept(order, entry, carry) => {
                self.window.arrive(order, (entry, carry), self.clock.now());
            }
            Message::Void(order) => self.window.void(order, self.clock.now()),
            Message::Work(work) => self.work.push_back(work),
            Message::CheckPlace => self.check_place(),
            Message::Stop => self.stopping = true,
        }
    }

    /// Commits one batch, waiting for space as long as it takes; false if stopped while waiting.
    fn commit_patiently(&mut self) -> Result<bool, LedgerFault> {
        let take = self.batch_size();
        let mut wait = RETRY.0;
        loop {
            let begun = self.clock.now();
            let fault = match self.try_commit(take) {
                Ok(done) => {
                    let rows = self.work.iter().take(take).map(Work::rows).sum();
                    let took = self.clock.now().since(begun);
                    self.report.event(Event::Committed { rows, took });
                    self.set_stalled(None);
                    self.release(done);
                    return Ok(true);
                }
                Err(fault) if fault.consequence() == Consequence::Retry => fault,
                Err(fault) => return Err(fault),
            };
            self.set_stalled(Some(fault));
            if self.stopping {
                return Ok(false);
            }
            let message = self.inbox.recv_timeout(wait);
            if matches!(message, Err(RecvTimeoutError::Timeout)) {
                wait = (wait * 2).min(RETRY.1);
            }
            self.take(message);
        }
    }

    /// Pieces of work for one commit: at most [`MOST_ROWS`] rows, unless one piece alone has more.
    fn batch_size(&self) -> usize {
        let mut rows = 0;
        let fits = |work: &&Work<C>| {
            rows += work.rows();
            rows <= MOST_ROWS
        };
        self.work.iter().take_while(fits).count().max(1)
    }

    fn try_commit(&mut self, take: usize) -> Result<Vec<Done>, LedgerFault> {
        let mut done = Vec::with_capacity(take);
        if !self.work.iter().take(take).any(Work::writes) {
            done.resize_with(take, || Done::Nothing);
            return Ok(done);
        }
        let mut batch = self.store.begin()?;
        for work in self.work.iter().take(take) {
            done.push(match work {
                Work::Accept(entry, _) => Done::Judged(batch.accept(entry)?),
                Work::End(ends) => {
                    let ended = ends.iter().map(|(row, record, _)| batch.end(row.seq, record));
                    Done::Ended(ended.collect::<Result<_, _>>()?)
                }
                Work::Close(no) => nothing(batch.close_through(*no))?,
                Work::Unfiled(seq, reason) => nothing(batch.unfiled(*seq, *reason))?,
                Work::Filed(seq) => nothing(batch.filed(*seq))?,
                Work::ClearSuspects => nothing(batch.clear_suspects())?,
                Work::Flushed(_) => Done::Nothing,
            });
        }
        batch.commit()?;
        Ok(done)
    }

    /// Hands durable rows on.
    fn release(&mut self, done: Vec<Done>) {
        let (mut accepted, mut ended, mut known) = (Vec::new(), Vec::new(), Vec::new());
        for (work, done) in self.work.drain(..done.len()).zip(done) {
            match (work, done) {
                (Work::Accept(entry, carry), Done::Judged(judged)) => {
                    let payload = entry.payload;
                    match judged {
                        Judged::Open(row) => accepted.push(Released { row, payload, carry }),
                        Judged::Ended(row) => ended.push(Released { row, payload, carry }),
                        Judged::Known(row) => known.push(Released { row, payload, carry }),
                    }
                }
                (Work::End(ends), Done::Ended(done)) => {
                    ended.extend(ends.into_iter().zip(done).map(|((mut row, _, carry), end)| {
                        row.end = Some(end);
                        Released { row, payload: None, carry }
                    }));
                }
                // Whoever asked may have gone meanwhile.
                (Work::Flushed(asked), _) => _ = asked.send(()),
                _ => {}
            }
        }
        if !accepted.is_empty() {
            self.downstream.accepted(accepted);
        }
        if !ended.is_empty() {
            self.downstream.ended(ended);
        }
        if !known.is_empty() {
            self.downstream.known(known);
        }
        self.commits = self.commits.wrapping_add(1);
    }

    fn set_stalled(&mut self, fault: Option<LedgerFault>) {
        let stalled = fault.is_some();
        let was = std::mem::replace(&mut self.stalled, stalled);
        self.full.store(stalled || self.too_large, Ordering::Relaxed);
        match fault {
            Some(fault) if !was => self.report.event(Event::Stalled(fault)),
            None if was => self.report.event(Event::Resumed),
            _ => {}
        }
    }

    fn check_place(&mut self) {
        if !self.store.moved() {
            return;
        }
        let event = match self.store.resettle() {
            Ok(()) => Event::Resettled,
            Err(fault) => Event::UpkeepFailed(fault),
        };
        self.report.event(event);
    }

    /// One portion of upkeep. Trouble here loses nothing and is tried again, unless it is damage or a
    /// failed flush.
    fn keep_up(&mut self) -> Result<(), LedgerFault> {
        let result = self.one_portion();
        self.more_upkeep = matches!(result, Ok(true));
        match result {
            Err(fault @ (LedgerFault::Damaged { .. } | LedgerFault::Flush { .. })) => Err(fault),
            Err(fault) => {
                self.report.event(Event::UpkeepFailed(fault));
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    fn one_portion(&mut self) -> Result<bool, LedgerFault> {
        if self.commits.is_multiple_of(LOOK_EVERY) {
            self.look_at_log()?;
            self.look_at_size()?;
        }
        Ok(self.store.sweep(PORTION)? || self.store.prune(PORTION)?)
    }

    fn look_at_log(&mut self) -> Result<(), LedgerFault> {
        let mut log = self.store.log_size()?;
        if log.bytes > LOG_RESTART {
            log = self.store.restart_log()?;
        } else if log.uncopied > LOG_COPY
            && let Err(TrySendError::Disconnected(())) = self.copy.try_send(())
        {
            // Nobody does it beside us.
            log = self.store.restart_log()?;
        }
        let pinned = log.busy && log.bytes > LOG_PINNED;
        if pinned && !self.pinned_told {
            self.report.event(Event::LogPinned { bytes: log.bytes });
        }
        self.pinned_told = pinned;
        Ok(())
    }

    fn look_at_size(&mut self) -> Result<(), LedgerFault> {
        let bytes = self.store.size()?;
        let limit = self.store.settings.max_size;
        // Room must have come back before acceptance goes on, or it would stutter at the edge.
        let too_large = bytes > if self.too_large { limit - limit / 20 } else { limit };
        if too_large != self.too_large {
            self.too_large = too_large;
            self.full.store(too_large || self.stalled, Ordering::Relaxed);
            self.report.event(if too_large { Event::TooLarge { bytes } } else { Event::Resumed });
        }
        Ok(())
    }
}

fn nothing(done: Result<(), LedgerFault>) -> Result<Done, LedgerFault> {
    done.map(|()| Done::Nothing)
}
