//! The steps for one file: look, read, hash, parse, validate; the result is an [`Entry`] for the ledger.
//!
//! A worker keeps buffers but no state between files, never moves a file and never waits for the
//! network. What it found out travels on as a [`Parcel`] beside the ledger's row.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Mono};
use crate::debounce::{Ticket, Wait};
use crate::disk::Identity;
use crate::fate::{Fate, Reason};
use crate::intent::{Intent, Parser};
use crate::ledger::{Entry, Verdict};
use crate::observe::Pulse;
use crate::queue::{Flight, Pass};
use crate::read::{InHand, Leave, Look, Reader, Whole};

/// What goes with a file from the worker to its end: beside the row, in memory only.
#[derive(Debug)]
pub struct Parcel {
    /// Keeps the name from being taken a second time while this file is under way.
    pub flight: Flight,
    /// Counts it among the files under way; `None` once it is settled.
    pub pass: Option<Pass>,
    /// The parsed document; `None` for refused files, and when too many wait to keep all in memory.
    pub intent: Option<Box<Intent>>,
    /// When the file was noticed.
    pub sighted: Mono,
    /// The ledger accepted it without an end; false until then, and for what ends as it is accepted.
    pub pending: bool,
}

/// What one look led to.
#[derive(Debug)]
pub enum Judged {
    /// A row for the ledger: an intent or a refusal.
    Entry(Box<Entry>, Option<Box<Intent>>),
    /// Look again later.
    Wait(Wait),
    /// Belongs to the lane of large files; its size.
    Large(u64),
    /// The name is gone.
    Gone,
    /// Stays where it is.
    Leave(Leave),
}

/// How long the two halves of a judgement took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timing {
    /// Look, open, lease, read, hash.
    pub read: Duration,
    /// Parse and validate; zero if the file was not read.
    pub validate: Duration,
    /// The look failed for want of descriptors or memory (D11).
    pub short: bool,
}

/// One worker's tools.
pub struct Worker {
    /// Its number, from 0.
    pub number: u16,
    reader: Reader,
    parser: Parser,
    /// `None` where the state directory takes no notes; work goes on without the guard.
    in_hand: Option<InHand>,
    clock: Arc<dyn Clock>,
    pulse: Pulse,
}

impl Worker {
    /// A worker with its own buffers.
    pub fn new(
        number: u16,
        reader: Reader,
        parser: Parser,
        in_hand: Option<InHand>,
        clock: Arc<dyn Clock>,
        pulse: Pulse,
    ) -> Self {
        Worker { number, reader, parser, in_hand, clock, pulse }
    }

    /// Says that no file is in hand, before the worker waits for work.
    pub fn rest(&mut self) {
        if let Some(in_hand) = &mut self.in_hand {
            in_hand.clear();
        }
    }

    /// Judges the ticket's file. `in_large_lane` says that this worker holds the lane of large files.
    pub fn judge(&mut self, handoff: &OwnedFd, ticket: &Ticket, in_large_lane: bool) -> (Judged, Timing) {
        let started = self.clock.now();
        if let Some(in_hand) = &mut self.in_hand {
            in_hand.take(&ticket.name);
        }
        let look = self.reader.look(handoff, ticket, in_large_lane);
        let read = self.clock.now();
        // Out of the file system's hands: what hangs from here on is a parser that does not end.
        self.pulse.beat(read);
        let mut timing = Timing { read: read.since(started), ..Timing::default() };
        let judged = match look {
            Look::Whole(whole) => {
                let judged = judge_bytes(&mut self.parser, &whole, ticket, self.number, &*self.clock);
                timing.validate = self.clock.now().since(read);
                judged
            }
            Look::Wait(wait) => Judged::Wait(wait),
            Look::Large(size) => Judged::Large(size),
            Look::Gone => Judged::Gone,
            Look::Leave(leave) => Judged::Leave(leave),
            Look::Refuse { reason, message, identity } => {
                Judged::Entry(Box::new(self.refused(ticket, identity, reason, message)), None)
            }
        };
        self.reader.release();
        timing.short = self.reader.was_short();
        (judged, timing)
    }

    /// A row for a file that is refused without having been read.
    pub fn refused(&self, ticket: &Ticket, identity: Identity, reason: Reason, message: String) -> Entry {
        let verdict = Verdict { fate: Fate::Refused, reason, message, errors: Vec::new() };
        Entry { verdict: Some(verdict), ..blank(ticket, identity, self.number) }
    }
}

fn blank(ticket: &Ticket, identity: Identity, worker: u16) -> Entry {
    Entry::unread(ticket.name.clone(), ticket.source, identity, ticket.sighted, worker)
}

fn judge_bytes(
    parser: &mut Parser,
    whole: &Whole<'_>,
    ticket: &Ticket,
    worker: u16,
    clock: &dyn Clock,
) -> Judged {
    let parsed = parser.parse(whole.bytes);
    let mut entry = Entry {
        proof: Some(whole.proof),
        sha: Some(whole.sha),
        payload: Some(whole.bytes.into()),
        ..blank(ticket, whole.identity, worker)
    };
    match parsed {
        // The last chance is given for the very file that was seen unfinished, not for a newer one.
        Err(refusal)
            if refusal.may_be_unfinished()
                && !(ticket.last_chance && ticket.expected.is_none_or(|seen| seen == whole.identity)) =>
        {
            Judged::Wait(Wait::Unfinished(whole.identity))
        }
        Err(refusal) => {
            let message = refusal.to_string();
            let (reason, errors) = (refusal.reason, refusal.errors);
            entry.verdict = Some(Verdict { fate: Fate::Refused, reason, message, errors });
            Judged::Entry(Box::new(entry), None)
        }
        Ok(intent) => {
            entry.target = Some(intent.target.clone());
            entry.priority = intent.priority;
            entry.valid_until = intent.valid_until;
            if let Some(until) = intent.valid_until.filter(|until| *until < clock.wall()) {
                let message = format!("valid_until {} had passed when it was read", until.seconds());
                entry.verdict = Some(Verdict {
                    fate: Fate::Expired,
                    reason: Reason::Expired,
                    message,
                    errors: Vec::new(),
                });
            }
            Judged::Entry(Box::new(entry), Some(Box::new(intent)))
        }
    }
}
