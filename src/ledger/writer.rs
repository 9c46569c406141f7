//! The writer: one thread that owns the store and makes whatever is queued durable in one flush.
//!
//! Each turn takes what has come in meanwhile (at most [`MOST_ROWS`] rows, no waiting window: the flush
//! in progress gathers the next batch), writes it in one transaction, commits, and only then hands the
//! rows on. Files are accepted in the order of their numbers ([`super::reorder`]).
//!
//! A full disk stops nothing: the batch is taken back, kept and tried again, nothing of it is handed on,
//! and [`Handle::closed_for`] tells the workers to wait. The queue in front is not bounded by itself; what
//! is in it is bounded by the tickets and deliveries in flight. A failed flush ends the thread with the
//! fault.
//!
//! Upkeep follows every batch. Without work it is done once in [`LOOK_IDLE`], so that rows go in time,
//! and once in [`LOOK_PAUSED`] while the ledger is too large, so that the pause ends.

mod upkeep;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender};

use super::fault::LedgerFault;
use super::handle::{Closed, Dial, Downstream, Event, Handle, Message, Released, Report, Work};
use super::reorder::Reorder;
use super::store::Store;
use super::upkeep::Maintenance;
use super::{Entry, Judged};
use crate::clock::{Clock, Mono};
use crate::error::{Consequence, Fault as _};

/// Most rows of one commit.
pub const MOST_ROWS: usize = 256;
/// First and longest wait between two tries on a full disk.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// Turns between two looks at the sizes of log and ledger.
const LOOK_EVERY: u32 = 16;
/// Longest time between two looks.
const LOOK_IDLE: Duration = Duration::from_secs(3_600);
/// The same while the ledger is too large.
const LOOK_PAUSED: Duration = Duration::from_secs(1);

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
    dial: Arc<Dial>,
    /// Rows in `work`.
    rows: usize,
    too_large: bool,
    /// Why nothing can be written at all.
    stalled: Option<Closed>,
    stopping: bool,
    more_upkeep: bool,
    heartbeat: bool,
    upkeep_failed: bool,
    turns: u32,
    /// When the next look is due, whatever comes in.
    look_at: Mono,
    pinned_told: bool,
    copy: Sender<()>,
}

/// Makes a writer for `store`, the handle that leads to it, and the maintenance that belongs beside it
/// on a thread of its own.
pub fn writer<C: Send + 'static>(
    mut store: Store,
    downstream: Box<dyn Downstream<C>>,
    report: Box<dyn Report>,
) -> (Handle<C>, Writer<C>, Maintenance) {
    let (sender, inbox) = channel::unbounded();
    let (copy, asked) = channel::bounded(1);
    let dial = Arc::new(Dial::default());
    *dial.counts.lock() = store.counts();
    // A record that cannot be read says nothing; the first heartbeat reports why.
    *dial.record.lock() = store.record().unwrap_or_default();
    let maintenance = Maintenance::new(store.settings.dir.clone(), asked);
    let writer = Writer {
        look_at: store.clock.now(),
        clock: Arc::clone(&store.clock),
        store,
        inbox,
        downstream,
        report,
        window: Reorder::default(),
        work: VecDeque::new(),
        dial: Arc::clone(&dial),
        rows: 0,
        too_large: false,
        stalled: None,
        stopping: false,
        more_upkeep: true,
        heartbeat: false,
        upkeep_failed: false,
        turns: 0,
        pinned_told: false,
        copy,
    };
    (Handle::new(sender, dial), writer, maintenance)
}

impl<C> Writer<C> {
    /// Thread body: ends after [`Handle::stop`], when all handles are gone, or with a fault.
    ///
    /// # Errors
    /// A fault whose consequence is to stop: what was not handed on is not acknowledged.
    pub fn run(mut self) -> Result<(), LedgerFault> {
        loop {
            self.gather();
            let has_work = !self.work.is_empty();
            if has_work && !self.commit_patiently()? {
                // Stopped while there was no room: what is left was never acknowledged, and the start
                // stays marked as unclean.
                return Ok(());
            }
            if self.stopping && self.work.is_empty() {
                return close(self.store);
            }
            if has_work || self.more_upkeep || self.clock.now() >= self.look_at {
                self.keep_up()?;
            }
        }
    }

    /// Waits for something to do, then takes what else is there, up to one full batch.
    fn gather(&mut self) {
        if self.work.is_empty() && !self.stopping && !self.more_upkeep {
            let due = self.window.due().map_or(self.look_at, |due| due.min(self.look_at));
            self.report.waits();
            let first = self.inbox.recv_timeout(due.since(self.clock.now()));
            self.take(first);
        }
        while self.rows < MOST_ROWS {
            match self.inbox.try_recv() {
                Ok(message) => self.absorb(message),
                Err(channel::TryRecvError::Empty) => break,
                Err(channel::TryRecvError::Disconnected) => {
                    self.stopping = true;
                    break;
                }
            }
        }
        self.release_files();
    }

    /// Takes the files whose turn it is; all of them when the daemon stops.
    fn release_files(&mut self) {
        let mut ready = Vec::new();
        self.window.release(self.clock.now(), &mut ready);
        if self.stopping {
            ready.extend(self.window.drain());
        }
        for (entry, carry) in ready {
            self.push(Work::Accept(entry, carry));
        }
    }

    fn push(&mut self, work: Work<C>) {
        self.rows += work.rows();
        self.work.push_back(work);
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
                self.release_files();
            }
            Message::Void(order) => {
                self.window.void(order, self.clock.now());
                self.release_files();
            }
            Message::Work(work) => self.push(work),
            Message::CheckPlace => self.check_place(),
            Message::Tune(limits) => {
                self.store.settings.renew(limits);
                // Rows may be due for removal now, and the ledger too large or no longer so.
                (self.more_upkeep, self.look_at) = (true, self.clock.now());
            }
            Message::Heartbeat => (self.heartbeat, self.more_upkeep) = (true, true),
            // Whoever asked may have gone meanwhile.
            Message::Payload(seq, asked) => _ = asked.send(self.store.payload(seq)),
            Message::Stop => self.stopping = true,
        }
    }

    /// Commits one batch, waiting for space as long as it takes; false if stopped while waiting.
    fn commit_patiently(&mut self) -> Result<bool, LedgerFault> {
        let take = self.batch_size();
        let mut wait = RETRY.0;
        loop {
            let begun = self.clock.now();
            let tried = self.try_commit(take);
            self.report.rested();
            let fault = match tried {
                Ok(done) => {
                    let rows = self.work.iter().take(take).map(Work::rows).sum();
                    let took = self.clock.now().since(begun);
                    *self.dial.counts.lock() = self.store.counts();
                    self.report.event(Event::Committed { rows, took });
                    self.set_stalled(None);
                    self.release(done);
                    return Ok(true);
                }
                Err(fault) if fault.consequence() == Consequence::Retry => fault,
                Err(fault) => return Err(fault),
            };
            self.set_stalled(Some(fault));
            if !self.wait_for_room(wait) {
                return Ok(false);
            }
            wait = (wait * 2).min(RETRY.1);
        }
    }

    /// Takes in what comes until it is time for the next try; false as soon as the daemon stops.
    fn wait_for_room(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        self.report.waits();
        while !self.stopping {
            match self.inbox.recv_deadline(until) {
                Err(RecvTimeoutError::Timeout) => return true,
                message => self.take(message),
            }
        }
        false
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
        self.report.begun();
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
            self.rows -= work.rows();
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
    }

    fn set_stalled(&mut self, fault: Option<LedgerFault>) {
        let was = std::mem::replace(&mut self.stalled, fault.as_ref().map(Closed::by));
        self.show_closed();
        match fault {
            Some(fault) if was.is_none() => self.report.event(Event::Stalled(fault)),
            None if was.is_some() => self.tell_closed(),
            _ => {}
        }
    }

    fn closed(&self) -> Option<Closed> {
        self.stalled.or(self.too_large.then_some(Closed::TooLarge))
    }

    fn show_closed(&self) {
        *self.dial.closed.lock() = self.closed();
    }

    /// Tells what holds now that one reason came or went: acceptance goes on only without any.
    fn tell_closed(&mut self) {
        let bytes = self.dial.bytes.load(Ordering::Relaxed);
        match self.closed() {
            None => self.report.event(Event::Resumed),
            Some(Closed::TooLarge) => self.report.event(Event::TooLarge { bytes }),
            Some(_) => {}
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
}

fn nothing(done: Result<(), LedgerFault>) -> Result<Done, LedgerFault> {
    done.map(|()| Done::Nothing)
}

/// Closes the store; without room for the last words the ledger is left as after a crash.
fn close(store: Store) -> Result<(), LedgerFault> {
    match store.close() {
        Err(fault) if fault.consequence() != Consequence::Retry => Err(fault),
        _ => Ok(()),
    }
}
