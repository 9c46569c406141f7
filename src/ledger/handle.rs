//! The way to the writer, and what comes back from it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender};
use parking_lot::Mutex;

use super::fault::LedgerFault;
use super::{Counts, EndRecord, Entry, Limits, Record, Row};
use crate::fate::Reason;

/// A row whose state is durable now, with what came with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Released<C> {
    /// The row.
    pub row: Row,
    /// The bytes of the file, if it came from [`Handle::accept`] with bytes.
    pub payload: Option<Box<[u8]>>,
    /// What the caller gave along.
    pub carry: C,
}

/// Where durable rows go. Called on the writer's thread: hand on, do not work here.
pub trait Downstream<C>: Send {
    /// Pending rows, in acceptance order.
    fn accepted(&mut self, files: Vec<Released<C>>);
    /// Ended rows, in order of their ends.
    fn ended(&mut self, files: Vec<Released<C>>);
    /// Files that are on record already: nothing was written, and the row's own end is released once,
    /// by [`Downstream::ended`], or was before a restart. With `row.end` `None` leave the file alone:
    /// the row is pending, and its end files it. With `row.end` `Some` file it as that end says; the
    /// row is not closed because that has not happened, failed, or is not durable yet.
    fn known(&mut self, files: Vec<Released<C>>);
}

/// What the writer has to tell.
#[derive(Debug)]
pub enum Event {
    /// A batch is durable.
    Committed {
        /// Rows accepted or ended.
        rows: usize,
        /// From its beginning to the end of its flush.
        took: Duration,
    },
    /// Acceptance pauses (D01, D04); told once for each episode.
    Stalled(LedgerFault),
    /// Acceptance goes on: no reason to pause is left.
    Resumed,
    /// The ledger is larger than `ledger.max_size`; acceptance pauses. Told again when a stall ends and
    /// leaves this as the reason.
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// A reader keeps the log from being copied.
    LogPinned {
        /// Size of the log.
        bytes: u64,
    },
    /// The state directory was lost (D09) and the ledger was written there again.
    Resettled,
    /// A step of upkeep failed; it is tried again after the next batch. Told once until it succeeds.
    UpkeepFailed(LedgerFault),
}

/// Takes the writer's events.
pub trait Report: Send {
    /// Something happened.
    fn event(&mut self, event: Event);

    /// A transaction or a step of upkeep begins: calls that may not return on a file system that hangs.
    fn begun(&mut self) {}

    /// They returned, with whatever result.
    fn rested(&mut self) {}

    /// Nothing is to be done until something comes in or is due.
    fn waits(&mut self) {}
}

/// Why nothing more should be handed in for acceptance. Its text says what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// No room on the ledger's file system (D01).
    DiskFull,
    /// The ledger's file system turned read-only (D04).
    ReadOnly,
    /// Another process holds the database.
    Busy,
    /// The ledger is larger than `ledger.max_size`.
    TooLarge,
}

impl Closed {
    /// The reason behind a fault that is tried again.
    pub(super) fn by(fault: &LedgerFault) -> Self {
        match fault {
            LedgerFault::ReadOnly { .. } => Closed::ReadOnly,
            LedgerFault::Busy { .. } => Closed::Busy,
            _ => Closed::DiskFull,
        }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Closed::DiskFull => {
                "disk-full: no room on the ledger's file system; free some, files wait in the folder"
            }
            Closed::ReadOnly => {
                "read-only: the ledger's file system takes no writes; mount it writable, files wait in the folder"
            }
            Closed::Busy => {
                "ledger-busy: another process holds the ledger; end its transaction, files wait in the folder"
            }
            Closed::TooLarge => {
                "ledger-full: the ledger has reached ledger.max_size; raise it or lower ledger.keep_for, \
                 files wait in the folder"
            }
        })
    }
}

/// The writer is gone; the process is about to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// What the writer shows while it works.
#[derive(Debug, Default)]
pub(super) struct Dial {
    pub(super) closed: Mutex<Option<Closed>>,
    pub(super) counts: Mutex<Counts>,
    pub(super) record: Mutex<Record>,
    pub(super) bytes: AtomicU64,
}

/// The kept bytes of a row, or why there are none.
pub(super) type Kept = Result<Option<Vec<u8>>, LedgerFault>;

/// What the writer is asked.
pub(super) enum Message<C> {
    Accept(u64, Box<Entry>, C),
    Void(u64),
    Work(Work<C>),
    CheckPlace,
    Tune(Limits),
    Heartbeat,
    Payload(u64, Sender<Kept>),
    Stop,
}

/// What it writes, in the order in which it was asked.
pub(super) enum Work<C> {
    Accept(Box<Entry>, C),
    End(Vec<(Row, EndRecord, C)>),
    Close(u64),
    Unfiled(u64, Reason),
    Filed(u64),
    ClearSuspects,
    Flushed(Sender<()>),
}

impl<C> Work<C> {
    /// Rows that it accepts or ends.
    pub(super) fn rows(&self) -> usize {
        match self {
            Work::Accept(..) => 1,
            Work::End(ends) => ends.len(),
            _ => 0,
        }
    }

    /// False for what only waits for the others.
    pub(super) fn writes(&self) -> bool {
        !matches!(self, Work::Flushed(_))
    }
}

/// The way to the writer.
pub struct Handle<C> {
    sender: Sender<Message<C>>,
    dial: Arc<Dial>,
}

impl<C> Clone for Handle<C> {
    fn clone(&self) -> Self {
        Handle { sender: self.sender.clone(), dial: Arc::clone(&self.dial) }
    }
}

impl<C> Handle<C> {
    pub(super) fn new(sender: Sender<Message<C>>, dial: Arc<Dial>) -> Self {
        Handle { sender, dial }
    }

    fn send(&self, message: Message<C>) -> Result<(), Gone> {
        self.sender.send(message).map_err(|_| Gone)
    }

    /// Hands in a judged file under the number its worker drew. It comes out of [`Downstream`].
    ///
    /// # Errors
    /// [`Gone`]
    pub fn accept(&self, order: u64, entry: Entry, carry: C) -> Result<(), Gone> {
        self.send(Message::Accept(order, Box::new(entry), carry))
    }

    /// Says that this number will bring no file.
    ///
    /// # Errors
    /// [`Gone`]
    pub fn void(&self, order: u64) -> Result<(), Gone> {
        self.send(Message::Void(order))
    }

    /// Ends a pending row.
    ///
    /// # Errors
    /// [`Gone`]
    pub fn end(&self, row: Row, record: EndRecord, carry: C) -> Result<(), Gone> {
        self.end_all(vec![(row, record, carry)])
    }

    /// Ends several pending rows in this order, all in one batch.
    ///
    /// # Errors
    /// [`Gone`]
    pub fn end_all(&self, ends: Vec<(Row, EndRecord, C)>) -> Result<(), Gone> {
        self.send(Message::Work(Work::End(ends)))
    }

    /// Closes all ends up to `no`; say it after the flush that makes their effects durable.
    ///
    /// # Errors
    /// [`Gone`]
    pub fn close_through(&self, no: u64) -> Result<(), Gone> {
        self.send(Message::Work(Work::Close(no)))
    }

    /// Excepts an ended row from closing; say it before the [`Handle::close_through`] that would
    /// include it.
    ///
    /// # Errors
    /// [`Gone`]
    pub fn unfiled(&self, seq: u64, reason: Reason) -> Result<(), Gone> {
        self.send(Message::Work(Work::Unfiled(seq, reason)))
    }

    /// Takes that back.
    ///
    /// # Errors
    /// [`Gone`]
    pub fn filed(&self, seq: u64) -> Result<(), Gone> {
        self.send(Message::Work(Work::Filed(seq)))
    }

    /// Forgets all suspects of the poison guard.
    ///
    /// # Errors
    /// [`Gone`]
    pub fn clear_suspects(&self) -> Result<(), Gone> {
        self.send(Message::Work(Work::ClearSuspects))
    }

    /// Looks whether the state directory is still there, and writes the ledger anew if not.
    ///
    /// # Errors
    /// [`Gone`]
    pub fn check_place(&self) -> Result<(), Gone> {
        self.send(Message::CheckPlace)
    }

    /// Goes by other limits from now on.
    ///
    /// # Errors
    /// [`Gone`]
    pub fn tune(&self, limits: Limits) -> Result<(), Gone> {
        self.send(Message::Tune(limits))
    }

    /// Notes in the ledger that the daemon lives, and renews [`Handle::record`]; to be said every
    /// half minute or so. Work that comes in meanwhile goes first.
    ///
    /// # Errors
    /// [`Gone`]
    pub fn heartbeat(&self) -> Result<(), Gone> {
        self.send(Message::Heartbeat)
    }

    /// Waits until everything handed in before is durable, but for files that wait for an earlier
    /// number.
    ///
    /// # Errors
    /// [`Gone`]
    pub fn flush(&self) -> Result<(), Gone> {
        self.ask_flush()?.recv().map_err(|_| Gone)
    }

    /// The same until `deadline`; false if that passed first.
    ///
    /// # Errors
    /// [`Gone`], also when the writer is stopped while it waits for room.
    pub fn flush_until(&self, deadline: Instant) -> Result<bool, Gone> {
        match self.ask_flush()?.recv_deadline(deadline) {
            Ok(()) => Ok(true),
            Err(RecvTimeoutError::Timeout) => Ok(false),
            Err(RecvTimeoutError::Disconnected) => Err(Gone),
        }
    }

    fn ask_flush(&self) -> Result<Receiver<()>, Gone> {
        let (done, wait) = channel::bounded(1);
        self.send(Message::Work(Work::Flushed(done)))?;
        Ok(wait)
    }

    /// Lets the writer finish what is queued, close the ledger and end. A writer that waits for room
    /// ends at once and leaves what is queued unacknowledged.
    ///
    /// # Errors
    /// [`Gone`]
    pub fn stop(&self) -> Result<(), Gone> {
        self.send(Message::Stop)
    }

    /// Why nothing more should be handed in for acceptance; `None` while it should.
    pub fn closed_for(&self) -> Option<Closed> {
        *self.dial.closed.lock()
    }

    /// True while [`Handle::closed_for`] has a reason.
    pub fn full(&self) -> bool {
        self.closed_for().is_some()
    }

    /// The balance of all rows as of the newest commit.
    pub fn counts(&self) -> Counts {
        *self.dial.counts.lock()
    }

    /// How reliably the daemon ran, as of its start or the newest heartbeat.
    pub fn record(&self) -> Record {
        *self.dial.record.lock()
    }

    /// Size of the ledger on disk, looked at every few commits.
    pub fn bytes(&self) -> u64 {
        self.dial.bytes.load(Ordering::Relaxed)
    }

    /// The kept bytes of a row, read by the writer between two batches.
    ///
    /// # Errors
    /// [`LedgerFault::Payload`] if they are not the accepted ones, [`LedgerFault::Unknown`] if the
    /// writer is gone; any other fault of reading.
    pub fn payload(&self, seq: u64) -> Result<Option<Vec<u8>>, LedgerFault> {
        let (answer, wait) = channel::bounded(1);
        let gone = || LedgerFault::Unknown { seq };
        self.send(Message::Payload(seq, answer)).map_err(|Gone| gone())?;
        wait.recv().unwrap_or_else(|_| Err(gone()))
    }

    /// Messages that the writer has not taken yet.
    pub fn queued(&self) -> usize {
        self.sender.len()
    }
}
