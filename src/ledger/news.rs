//! What comes back from the writer.

use std::fmt;
use std::time::Duration;

use super::Row;
use super::fault::LedgerFault;

/// A row whose state is durable now, with what came with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Released<C> {
    /// The row.
    pub row: Row,
    /// The bytes of the file, if it came from [`super::Handle::accept`] with bytes.
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
