//! What the dispatcher takes in and gives out.

use std::time::Duration;

use super::pending::Place;
use crate::clock::Mono;
use crate::fate::{Fate, Id, Reason, Receipt};
use crate::lanes::Stand;
use crate::ledger::Row;
use crate::submit::Tried;
use crate::worker::Parcel;

/// An accepted intent on its way.
#[derive(Debug)]
pub struct Job {
    /// Its ledger row, without an end.
    pub row: Row,
    /// What goes with it.
    pub parcel: Parcel,
    /// When the dispatcher got it.
    pub arrived: Mono,
    /// Attempts made: by this process, or by all where the ledger notes them.
    pub attempts: u32,
    /// An earlier attempt may have been applied.
    pub doubtful: bool,
    /// Why the last attempt did not succeed.
    pub trouble: Option<(Reason, String)>,
    /// The dropped bytes while it is out, for a sink that takes files.
    pub file: Option<Vec<u8>>,
    /// Its package, for a sink that gathers by package; until it is accepted.
    pub package: Option<String>,
    /// Since when it counts as waiting: it takes over the place of one that it superseded.
    pub(super) queued: Mono,
    /// Since when it is pending.
    pub(super) place: Place,
    /// Its parsed intent is one of the [`super::HELD`].
    pub(super) counted: bool,
    /// It is out to find out whether the sink is back.
    pub(super) probe: bool,
    /// The attempt in which it is out, with others of its group.
    pub(super) turn: u64,
    /// Where others of its line need not wait for it: when it may go.
    pub(super) not_before: Option<Mono>,
    /// The sink was why it did not succeed: the next attempt is a repeat by [`super::super::budget`].
    pub(super) repeats: bool,
    /// It waits for the operator.
    pub(super) held: bool,
    /// The operator wants it sent again although an earlier attempt may have been applied.
    pub permitted: bool,
    /// It was in a group that panicked and shares no attempt any more.
    pub(super) alone: bool,
    /// Attempts of it alone that panicked.
    pub(super) panics: u8,
    /// Times that its kept bytes could not be read.
    pub(super) unread: u32,
    /// The pending status that its producer was last shown.
    pub(super) noticed: Option<Reason>,
}

impl Job {
    /// A job that the ledger just accepted, or found open at start (`doubtful`).
    pub fn new(row: Row, mut parcel: Parcel, arrived: Mono, doubtful: bool) -> Self {
        parcel.pending = true;
        let place = Place::new(row.seq, row.accepted_at, arrived, row.accepted_at);
        Job {
            row,
            parcel,
            arrived,
            attempts: 0,
            doubtful,
            trouble: None,
            file: None,
            package: None,
            queued: arrived,
            place,
            counted: false,
            probe: false,
            turn: 0,
            not_before: None,
            repeats: false,
            held: false,
            permitted: false,
            alone: false,
            panics: 0,
            unread: 0,
            noticed: None,
        }
    }

    /// Its place among those that wait.
    pub(super) fn stand(&self) -> Stand {
        Stand { order: self.row.seq, priority: self.row.priority, arrived: self.queued }
    }

    /// An attempt ended without a result.
    pub(super) fn came_to(&mut self, tried: Tried) {
        self.attempts -= u32::from(tried == Tried::No);
        self.doubtful |= tried == Tried::Perhaps;
        self.permitted &= tried != Tried::Perhaps;
    }

    /// What its producer should hear and has not heard yet; `sinks` is the trouble of the sink.
    pub(super) fn notice(
        &mut self,
        sinks: Option<&(Reason, String)>,
        next_attempt: Option<Duration>,
    ) -> Option<Notice> {
        let (reason, message) = self.trouble.as_ref().or(sinks)?;
        if self.noticed.replace(*reason) == Some(*reason) {
            return None;
        }
        Some(Notice {
            row: self.row.clone(),
            reason: *reason,
            message: message.clone(),
            attempts: self.attempts,
            next_attempt: next_attempt.filter(|_| !self.held),
        })
    }
}

/// Why a job could not be handed to the sink: its own trouble, never the sink's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unsent {
    /// The rules in force now forbid what was accepted.
    Refused {
        /// A word of the closed set.
        reason: Reason,
        /// What they say.
        message: String,
    },
    /// Its kept bytes are gone, or are not those that were accepted.
    Lost(String),
    /// Its kept bytes cannot be read at the moment.
    Unreadable(String),
}

/// The end of a job, for the ledger.
#[derive(Debug)]
pub struct Finished {
    /// The job.
    pub job: Job,
    /// Delivered, refused, expired or superseded.
    pub fate: Fate,
    /// Why, where the fate has a reason.
    pub reason: Option<Reason>,
    /// One line for the producer.
    pub message: String,
    /// What the sink holds.
    pub receipt: Option<Receipt>,
    /// The intent that superseded it.
    pub related: Option<Id>,
}

/// A producer should learn that its intent waits.
#[derive(Debug, Clone)]
pub struct Notice {
    /// The waiting row.
    pub row: Row,
    /// Why it waits.
    pub reason: Reason,
    /// What the sink said.
    pub message: String,
    /// Attempts so far.
    pub attempts: u32,
    /// When the next one is due, if that is known.
    pub next_attempt: Option<Duration>,
}

/// What the dispatcher must know of the settings.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// `sink.max_age`; zero means for ever.
    pub max_age: Duration,
    /// `sink.coalesce = "latest"`.
    pub coalesce: bool,
}

/// An end without a receipt.
pub(super) fn finish(job: Job, fate: Fate, reason: Option<Reason>, message: String) -> Finished {
    Finished { job, fate, reason, message, receipt: None, related: None }
}
