//! The keeper: checkpoints, the disk reserve, gauges and retention, on one thread that wakes once a second.
//!
//! # Checkpoint (`design.md` D7)
//!
//! 1. Take the number of the newest end that settle has worked through.
//! 2. `syncfs` once per distinct device of handoff and out: status files, moves and packages up to
//!    that number are durable now.
//! 3. Tell the ledger to close all ends up to it: one number, all or none.
//!
//! Done every `ledger.checkpoint`, or after [`CLOSINGS`] ends if that is sooner; never when nothing was
//! settled since the last one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError};
use parking_lot::Mutex;

use super::gate::Gate;
use crate::clock::{Clock, Mono};
use crate::disk::{Disk, Place, RealDisk, Room};
use crate::ledger::Handle;
use crate::observe::{Check, FaultKind, Health, Lane as Label, Metrics, Volume};
use crate::queue::{Lane, Queue};
use crate::settle::Retention;
use crate::watch::Job;
use crate::worker::Parcel;

/// Ends after which a checkpoint does not wait for its time.
pub(super) const CLOSINGS: u64 = 8_192;
const TICK: Duration = Duration::from_secs(1);
/// Between two heartbeats of the ledger, and two looks whether the folders are still the opened ones.
const ROUND: Duration = Duration::from_secs(30);

/// What settle tells the keeper.
#[derive(Debug, Default)]
pub(super) struct Worked {
    /// Every end up to this number was settled, or recorded as unfiled.
    pub(super) through: AtomicU64,
    /// Rows whose filing succeeded at last; their exception ends with the next checkpoint.
    pub(super) filed: Mutex<Vec<u64>>,
    /// Rows that wait for their filing.
    pub(super) unfiled: AtomicU64,
}

pub(super) struct Keeper {
    pub(super) disk: Arc<RealDisk>,
    pub(super) ledger: Handle<Parcel>,
    pub(super) queue: Arc<Queue<Box<Job>>>,
    pub(super) gate: Arc<Gate>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    pub(super) worked: Arc<Worked>,
    pub(super) retention: Retention,
    pub(super) reserve: u64,
    pub(super) every: Duration,
    pub(super) closed: u64,
    pub(super) last: Mono,
    pub(super) ticked: Mono,
    pub(super) round: Mono,
    /// Wall less monotonic time at the last tick, in nanoseconds: moves when the wall clock jumps.
    pub(super) offset: i64,
    /// Opens again at twice the reserve.
    pub(super) short: bool,
}

/// What the keeper is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Errands {
    /// Many ends were settled: look whether a checkpoint is due.
    Look,
    /// Make a last checkpoint and end.
    Stop,
}

impl Keeper {
    /// Ticks until it is told to stop.
    pub(super) fn run(mut self, inbox: &Receiver<Errands>) {
        loop {
            let errand = inbox.recv_timeout(TICK);
            let ended = matches!(errand, Ok(Errands::Stop) | Err(RecvTimeoutError::Disconnected));
            let now = self.clock.now();
            // Not on a time-out alone: under load errands come more often than ticks are due.
            if !ended && now.since(self.ticked) >= TICK {
                self.ticked = now;
                self.tick(now);
            }
            self.checkpoint_if_due(ended);
            if ended {
                return;
            }
        }
    }

    fn tick(&mut self, now: Mono) {
        self.metrics.tick(now);
        for (lane, label) in
            [(Lane::Fresh, Label::Fresh), (Lane::Backlog, Label::Backlog), (Lane::Large, Label::Large)]
        {
            self.metrics.queue(label, self.queue.depth(lane));
        }
        self.metrics.unfiled(self.worked.unfiled.load(Ordering::Relaxed));
        self.metrics.unaccounted(self.ledger.counts().unaccounted());
        self.metrics.ledger_bytes(self.ledger.bytes());
        self.watch_clock(now);
        self.watch_room();
        if now >= self.round {
            self.round = now.after(ROUND);
            self.watch_places();
            // Without a writer the process is about to end.
            let _ = self.ledger.heartbeat();
        }
        let swept = self.retention.step(now, self.clock.wall());
        if swept.deleted > 0 {
            tracing::debug!(files = swept.deleted, "retention removed old archived files");
        }
    }

    fn checkpoint_if_due(&mut self, at_once: bool) {
        let through = self.worked.through.load(Ordering::SeqCst);
        let filed = self.worked.filed.lock().split_off(0);
        let now = self.clock.now();
        let due = at_once || now.since(self.last) >= self.every || through - self.closed >= CLOSINGS;
        if (through == self.closed && filed.is_empty()) || !due {
            self.worked.filed.lock().extend(filed);
            return;
        }
        self.last = now;
        match self.disk.flush() {
            Ok(()) => {
                // Without a writer nothing is closed: the rows are settled again at the next start.
                let _ = self.ledger.close_through(through);
                for seq in &filed {
                    let _ = self.ledger.filed(*seq);
                }
                self.closed = through;
            }
            Err(err) => {
                self.worked.filed.lock().extend(filed);
                self.metrics.fault(FaultKind::FsyncFailed);
                tracing::error!(
                    "checkpoint: the file system could not be flushed: {err}; nothing is closed, it is tried again"
                );
            }
        }
    }

    /// D15: the wall clock is used in reports only; a jump is said once.
    fn watch_clock(&mut self, now: Mono) {
        let mono = i64::try_from(now.0).unwrap_or(i64::MAX);
        let offset = self.clock.wall().0.saturating_sub(mono);
        let before = std::mem::replace(&mut self.offset, offset);
        let jump = offset.saturating_sub(before);
        if before != 0 && jump.unsigned_abs() > 5_000_000_000 {
            self.metrics.fault(FaultKind::ClockJump);
            tracing::warn!(
                seconds = jump / 1_000_000_000,
                "the wall clock jumped; order and retries do not depend on it"
            );
        }
    }

    fn watch_room(&mut self) {
        let folders = [(Place::Handoff, Volume::Handoff), (Place::Out, Volume::Out)];
        let mut short = None;
        for (place, volume) in folders {
            let Ok(room) = self.disk.room(place) else { continue };
            self.metrics.disk_free(volume, room.bytes);
            short = short.or(shortage(&room, self.reserve, self.short).map(|what| (volume, what)));
        }
        let full = self.ledger.full();
        self.short = short.is_some();
        let reason = match (&short, full) {
            (Some((volume, what)), _) => Some(format!(
                "disk-full: {what} on the file system of {}; free some, files wait in the folder",
                volume.as_str()
            )),
            (None, true) => Some(
                "ledger-full: the ledger has reached ledger.max_size; raise it or lower ledger.keep_for"
                    .to_owned(),
            ),
            (None, false) => None,
        };
        self.health.set(Check::Disk, reason.clone().map_or(Ok(()), Err));
        if self.gate.shut(reason.clone()) {
            match reason {
                Some(reason) => {
                    self.metrics.fault(FaultKind::DiskFull);
                    tracing::error!("acceptance paused: {reason}");
                }
                None => tracing::info!("acceptance goes on: there is room again"),
            }
        }
    }

    fn watch_places(&self) {
        for place in self.disk.folders().replaced() {
            self.metrics.fault(FaultKind::DirReplaced);
            tracing::error!(
                "dir-replaced: {place:?} no longer leads to the directory that was opened; writes go to the opened one"
            );
        }
    }
}

/// What is short of the reserve: the smaller of `reserve` and 5 % of the file system; twice that to
/// open again.
fn shortage(room: &Room, reserve: u64, already: bool) -> Option<String> {
    let factor = if already { 2 } else { 1 };
    let bytes = reserve.min(room.bytes_total / 20) * factor;
    if room.bytes < bytes {
        return Some(format!("{} bytes free, the reserve is {bytes}", room.bytes));
    }
    let inodes = (room.inodes_total / 20).min(4_096) * factor;
    match room.inodes {
        Some(free) if free < inodes => Some(format!("{free} inodes free, the reserve is {inodes}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(bytes: u64, inodes: Option<u64>) -> Room {
        Room { bytes, bytes_total: 1 << 30, inodes, inodes_total: 1_000_000 }
    }

    #[test]
    fn the_reserve_is_the_smaller_of_the_setting_and_a_twentieth() {
        let twentieth = (1 << 30) / 20;
        assert!(shortage(&room(twentieth, None), 64 << 20, false).is_none());
        assert!(shortage(&room(twentieth - 1, None), 64 << 20, false).is_some());
        assert!(shortage(&room(1 << 20, None), 1 << 20, false).is_none());
    }

    #[test]
    fn acceptance_goes_on_at_twice_the_reserve_and_inodes_count_too() {
        assert!(shortage(&room(1 << 20, None), 1 << 20, true).is_some());
        assert!(shortage(&room(2 << 20, None), 1 << 20, true).is_none());
        assert!(shortage(&room(1 << 30, Some(4_095)), 1 << 20, false).is_some());
    }
}
