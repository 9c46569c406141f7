//! The durable record: what was accepted, what became of it, and what has been seen before.
//!
//! A SQLite database in write-ahead mode (`<state>/ledger.db`, tables in `ledger/schema.rs`), owned by
//! one writer. Order of durability: intent and payload flushed → submission → outcome flushed → status,
//! filing → checkpoint of the other file systems → closed. Whatever is not closed is done again after a
//! crash. In memory: the dedup index (15 to 23 bytes a key, at most `ledger.dedup_keys` keys), the
//! newest ctime of 65,536 targets, and an entry for each pending row.
//!
//! | part | what it is |
//! |---|---|
//! | [`Store`] | the synchronous core: open, judge, accept, end, close, recover |
//! | [`writer`] | the thread that owns a store: acceptance order, group commit, a full disk, upkeep |
//! | [`Reader`] | read-only, for commands |

mod age;
mod batch;
mod fault;
mod handle;
mod index;
mod judge;
mod life;
mod memory;
mod query;
mod reader;
mod recall;
pub mod reorder;
mod row;
mod salvage;
mod schema;
mod spool;
mod store;
#[cfg(test)]
mod tests;
mod upkeep;
mod writer;

use std::time::Duration;

pub use batch::Batch;
pub use fault::LedgerFault;
pub use handle::{Closed, Downstream, Event, Gone, Handle, Released, Report};
pub use index::Index;
pub use life::Record;
pub use reader::{Filter, Reader};
pub use store::{Limits, Opened, Settings, Store};
pub use upkeep::{LogSize, Maintenance, PORTION};
pub use writer::{MOST_ROWS, Writer, writer};

use crate::clock::{Mono, Wall};
use crate::disk::Identity;
use crate::fate::{Fate, Id, Proof, Reason, Receipt, Sha, SinkKind, Source};
use crate::intent::{FieldError, Target};

/// A file that a worker has judged, on its way into the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Raw bytes of the name, relative to the handoff folder.
    pub name: Box<[u8]>,
    /// How it was noticed.
    pub source: Source,
    /// Which file it was when it was read.
    pub identity: Identity,
    /// How its completion was known; `None` if it was not read.
    pub proof: Option<Proof>,
    /// Digest of its bytes; `None` if it was not read.
    pub sha: Option<Sha>,
    /// Its target; `None` if it was refused before that was known.
    pub target: Option<Target>,
    /// 0 to 10.
    pub priority: u8,
    /// Never sent after this moment.
    pub valid_until: Option<Wall>,
    /// Set when the file is refused (or already expired): it ends with this row.
    pub verdict: Option<Verdict>,
    /// The bytes that were read.
    pub payload: Option<Box<[u8]>>,
    /// When the file was noticed.
    pub sighted: Mono,
    /// Number of the worker that judged it.
    pub worker: u16,
}

impl Entry {
    /// An entry for a file that was looked at and not read.
    pub fn unread(name: Box<[u8]>, source: Source, identity: Identity, sighted: Mono, worker: u16) -> Entry {
        Entry {
            name,
            source,
            identity,
            proof: None,
            sha: None,
            target: None,
            priority: 5,
            valid_until: None,
            verdict: None,
            payload: None,
            sighted,
            worker,
        }
    }
}

/// A judgement that ends a file without any submission.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// `Refused` or `Expired`.
    pub fate: Fate,
    /// Why.
    pub reason: Reason,
    /// One line for the producer.
    pub message: String,
    /// Faults of the document, at most 10.
    pub errors: Vec<FieldError>,
}

/// One accepted file as the ledger knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The ledger's sequence number: acceptance order.
    pub seq: u64,
    /// Derived from store and `seq`.
    pub id: Id,
    /// Raw bytes of the name.
    pub name: Box<[u8]>,
    /// How it was noticed.
    pub source: Source,
    /// Which file it was when it was read.
    pub identity: Identity,
    /// How its completion was known.
    pub proof: Option<Proof>,
    /// Digest of its bytes.
    pub sha: Option<Sha>,
    /// Number of earlier intents with this name and content.
    pub generation: u32,
    /// Its target.
    pub target: Option<Target>,
    /// 0 to 10.
    pub priority: u8,
    /// Never sent after this moment.
    pub valid_until: Option<Wall>,
    /// When it was accepted.
    pub accepted_at: Wall,
    /// Number of the worker that judged it.
    pub worker: u16,
    /// What became of it; `None` while it is pending.
    pub end: Option<End>,
}

/// The end of an accepted file.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    /// Order of ends; checkpoints close all ends up to a number at once.
    pub no: u64,
    /// Which of the five.
    pub fate: Fate,
    /// Why, where the fate has a reason.
    pub reason: Option<Reason>,
    /// One line for the producer.
    pub message: String,
    /// Faults of the document.
    pub errors: Vec<FieldError>,
    /// Where it went; with `remote` what is there now.
    pub sink: Option<SinkKind>,
    /// What the sink holds.
    pub remote: Option<Receipt>,
    /// Attempts of submission.
    pub attempts: u32,
    /// `duplicate_of` or `superseded_by`.
    pub related: Option<Id>,
    /// When it ended.
    pub finished_at: Wall,
    /// Sighting to outcome.
    pub duration: Duration,
}

/// How a pending file ends, as whoever ends it says it; the ledger adds number and times.
#[derive(Debug, Clone, PartialEq)]
pub struct EndRecord {
    /// Which of the five.
    pub fate: Fate,
    /// Why, where the fate has a reason.
    pub reason: Option<Reason>,
    /// One line for the producer.
    pub message: String,
    /// Faults of the document.
    pub errors: Vec<FieldError>,
    /// Where it went.
    pub sink: Option<SinkKind>,
    /// What the sink holds.
    pub remote: Option<Receipt>,
    /// Attempts of submission.
    pub attempts: u32,
    /// `duplicate_of` or `superseded_by`.
    pub related: Option<Id>,
}

impl EndRecord {
    /// An end with this fate and nothing else said.
    pub fn of(fate: Fate) -> Self {
        EndRecord {
            fate,
            reason: None,
            message: String::new(),
            errors: Vec::new(),
            sink: None,
            remote: None,
            attempts: 0,
            related: None,
        }
    }

    fn at(self, no: u64, finished_at: Wall, duration: Duration) -> End {
        let EndRecord { fate, reason, message, errors, sink, remote, attempts, related } = self;
        End { no, fate, reason, message, errors, sink, remote, attempts, related, finished_at, duration }
    }
}

/// What the ledger says to a file that is handed in.
#[derive(Debug, Clone, PartialEq)]
pub enum Judged {
    /// It is to be delivered.
    Open(Row),
    /// It has ended with this row: duplicate, superseded, refused or expired.
    Ended(Row),
    /// It is the very file of this row, which is not closed yet: on its way out of the folder, not a
    /// second drop (`reliability.md` 4). Nothing was written. `end` is `None` while the row is pending
    /// (its own end will file the file) and `Some` once it has ended (the file still is to be filed).
    Known(Row),
}

/// The balance of the rows that the ledger holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Accept rows.
    pub accepted: u64,
    /// Outcome rows by [`Fate::code`].
    pub fates: [u64; Fate::ALL.len()],
    /// Rows without an outcome.
    pub pending: u64,
}

impl Counts {
    /// Rows that ended this way.
    pub fn of(&self, fate: Fate) -> u64 {
        self.fates[usize::from(fate.code())]
    }

    /// Rows that ended, whichever way.
    pub fn ended(&self) -> u64 {
        self.fates.iter().sum()
    }

    /// Rows that were refused or expired.
    pub fn failed(&self) -> u64 {
        Fate::ALL.iter().filter(|fate| !fate.is_success()).map(|fate| self.of(*fate)).sum()
    }

    /// Accepted, but neither ended nor pending: always 0.
    pub fn unaccounted(&self) -> i64 {
        self.accepted.cast_signed() - self.ended().cast_signed() - self.pending.cast_signed()
    }
}
