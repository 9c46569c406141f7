//! The durable record: what was accepted, what became of it, and what has been seen before.

use std::time::Duration;

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
