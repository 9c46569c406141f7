//! Rows that are settled but whose original is still in the folder (F19, D02): when each is tried again.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Mono;
use crate::ledger::Row;
use crate::worker::Parcel;

/// How long after a failure the filing is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// Rows that are kept in memory; more wait in the ledger for the next start.
const KEPT: usize = 10_000;

/// One row that waits.
#[derive(Debug)]
pub(super) struct Unfiled {
    due: Mono,
    /// The row.
    pub(super) row: Row,
    /// Keeps its name from being taken again.
    pub(super) parcel: Parcel,
    /// True where the folder's rights forbid it and somebody has to act.
    pub(super) stuck: bool,
    /// What failed and what to do.
    pub(super) message: String,
}

/// All rows that wait, the next one first.
#[derive(Debug, Default)]
pub(super) struct UnfiledSet(VecDeque<Unfiled>);

impl UnfiledSet {
    /// Adds a row, or puts off the one that is there; false when there is no room.
    pub(super) fn add(&mut self, row: Row, parcel: Parcel, stuck: bool, message: String, now: Mono) -> bool {
        if self.0.len() >= KEPT {
            return false;
        }
        self.0.push_back(Unfiled { due: now.after(AGAIN), row, parcel, stuck, message });
        true
    }

    /// The next row that is due at `now`.
    pub(super) fn due(&mut self, now: Mono) -> Option<Unfiled> {
        if self.0.front()?.due > now { None } else { self.0.pop_front() }
    }

    /// When the next row is due.
    pub(super) fn next_due(&self) -> Option<Mono> {
        self.0.front().map(|waiting| waiting.due)
    }

    /// True if this row waits.
    pub(super) fn holds(&self, seq: u64) -> bool {
        self.0.iter().any(|waiting| waiting.row.seq == seq)
    }

    /// Rows that wait, and how many of them are stuck.
    pub(super) fn counts(&self) -> (u64, u64) {
        let stuck = self.0.iter().filter(|waiting| waiting.stuck).count();
        (self.0.len() as u64, stuck as u64)
    }

    /// Why the oldest waits.
    pub(super) fn message(&self) -> Option<&str> {
        self.0.front().map(|waiting| waiting.message.as_str())
    }
}
