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

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};
use parking_lot::Mutex;

use super::tune::InForce;
use crate::clock::{Clock, Mono};
use crate::config::Follower;
use crate::disk::{Disk, Place, RealDisk, Room};
use crate::ledger::Handle;
use crate::observe::health::STALL_LIMIT;
use crate::observe::{Check, FaultKind, Health, Lane as Label, Metrics, StageId, Volume, WatchMethod};
use crate::queue::{Gate, Lane, Queue};
use crate::settle::Retention;
use crate::watch::{Job, Mode, Progress};
use crate::worker::Parcel;

/// Ends after which a checkpoint does not wait for its time.
pub(super) const CLOSINGS: u64 = 8_192;
const TICK: Duration = Duration::from_secs(1);
const PLACES: Duration = Duration::from_secs(5);
/// Between two notes in the ledger that the daemon lives.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// What settle tells the keeper.
#[derive(Debug, Default)]
pub(super) struct Worked {
    /// Every end up to this number was settled, or recorded as unfiled.
    pub(super) through: AtomicU64,
    /// Rows whose filing succeeded at last; their exception ends with the next checkpoint.
    pub(super) filed: Mutex<Vec<u64>>,
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
    pub(super) settings: Follower<InForce>,
    pub(super) closed: u64,
    pub(super) last: Mono,
    /// When the places are looked after next.
    pub(super) places: Mono,
    /// When the ledger is told next that the daemon lives.
    pub(super) heartbeat: Mono,
    /// When retention goes on.
    pub(super) sweep: Mono,
    /// Wall less monotonic time at the last tick, in nanoseconds: moves when the wall clock jumps.
    pub(super) offset: i64,
    /// Opens again at twice the reserve.
    pub(super) short: bool,
    /// The watch hangs in a file-system call.
    pub(super) stalled: bool,
    /// What is said of an own directory that was replaced, until it is back.
    pub(super) displaced: Option<String>,
    pub(super) progress: Arc<Progress>,
    pub(super) state: PathBuf,
    /// What else is to be done once a second.
    pub(super) on_tick: Box<dyn FnMut() + Send>,
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
    ///
    /// # Errors
    /// A flush that failed: the kernel tells of lost writes once, so a second try could succeed without
    /// them. The process ends, and its next start settles again whatever is not closed.
    pub(super) fn run(mut self, inbox: &Receiver<Errands>) -> Result<(), String> {
        let mut next = Instant::now();
        loop {
            if Instant::now() >= next {
                let now = self.clock.now();
                self.health.in_call(StageId::Keeper, now);
                self.tick(now);
                next = Instant::now() + TICK;
            }
            self.health.idle(StageId::Keeper);
            let errand = inbox.recv_deadline(next);
            self.follow_settings();
            let ended = matches!(errand, Ok(Errands::Stop) | Err(RecvTimeoutError::Disconnected));
            self.checkpoint_if_due(ended)?;
            if ended {
                self.health.idle(StageId::Keeper);
                return Ok(());
            }
        }
    }

    fn follow_settings(&mut self) {
        if self.settings.renew() {
            let settle = &self.settings.current().config.settle;
            self.retention.set_limits(settle.keep_for, settle.keep_size);
            self.sweep = Mono::default();
        }
    }

    fn tick(&mut self, now: Mono) {
        self.metrics.tick(now);
        (self.on_tick)();
        for (lane, label) in
            [(Lane::Fresh, Label::Fresh), (Lane::Backlog, Label::Backlog), (Lane::Large, Label::Large)]
        {
            self.metrics.queue(label, self.queue.depth(lane));
        }
        self.metrics.unaccounted(self.ledger.counts().unaccounted());
        self.watch_watch(now);
        self.watch_clock(now);
        if now >= self.places {
            self.places = now.after(PLACES);
            self.watch_places();
        }
        if now >= self.heartbeat {
            self.heartbeat = now.after(HEARTBEAT);
            // Without a writer the process is about to end.
            let _ = self.ledger.heartbeat();
        }
        self.measure();
        if now >= self.sweep {
            self.remove_old(now);
        }
    }

    /// The facts that the page does not have before they are measured; done once before it opens.
    pub(super) fn measure(&mut self) {
        self.metrics.ledger_bytes(self.ledger.bytes());
        self.watch_room();
    }

    fn remove_old(&mut self, now: Mono) {
        let swept = self.retention.step(now, self.clock.wall());
        self.sweep = swept.next;
        if swept.deleted > 0 {
            tracing::info!(files = swept.deleted, "retention removed old archived files");
        }
        if swept.crowded_out > 0 {
            tracing::warn!(
                files = swept.crowded_out,
                "retention removed files before their time: settle.keep_size is reached; raise it or make room"
            );
        }
        if let Some(fault) = swept.fault {
            tracing::warn!("retention: {fault}; it is tried again in the next round");
        }
    }

    fn watch_watch(&mut self, now: Mono) {
        let since = self.progress.at_work_since();
        let stalled = since.is_some_and(|since| now.since(since) > STALL_LIMIT);
        if stalled && !std::mem::replace(&mut self.stalled, stalled) {
            self.metrics.fault(FaultKind::FsStalled);
            tracing::error!("fs-stalled: a call on the handoff folder does not return; check the mount");
        }
        self.stalled = stalled;
        self.metrics.watch_mode(match self.progress.mode() {
            Mode::Inotify => WatchMethod::Inotify,
            Mode::Poll | Mode::Once => WatchMethod::Poll,
        });
    }

    fn checkpoint_if_due(&mut self, at_once: bool) -> Result<(), String> {
        let through = self.worked.through.load(Ordering::SeqCst);
        let now = self.clock.now();
        let every = self.settings.current().config.ledger.checkpoint;
        let due = at_once || now.since(self.last) >= every || through - self.closed >= CLOSINGS;
        if !due || (through == self.closed && self.worked.filed.lock().is_empty()) {
            return Ok(());
        }
        let filed = std::mem::take(&mut *self.worked.filed.lock());
        self.last = now;
        self.health.in_call(StageId::Keeper, now);
        self.disk.flush().map_err(|err| {
            self.metrics.fault(FaultKind::FsyncFailed);
            format!(
                "checkpoint: the file system could not be flushed: {err}; nothing was closed, check the disk"
            )
        })?;
        // Without a writer nothing is closed: the rows are settled again at the next start.
        let _ = self.ledger.close_through(through);
        for seq in &filed {
            let _ = self.ledger.filed(*seq);
        }
        self.closed = through;
        Ok(())
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
        let rooms = [
            (Volume::Handoff, self.disk.room(Place::Handoff)),
            (Volume::Out, self.disk.room(Place::Out)),
            (Volume::State, Room::around(&self.state)),
        ];
        let reserve = self.settings.current().config.intake.reserve;
        let mut short = None;
        for (volume, room) in rooms {
            let Ok(room) = room else { continue };
            self.metrics.disk_free(volume, room.bytes);
            short = short.or(shortage(&room, reserve, self.short).map(|what| (volume, what)));
        }
        self.short = short.is_some();
        let reason = match short {
            Some((volume, what)) => Some(format!(
                "disk-full: {what} on the file system of {}; free some, files wait in the folder",
                volume.as_str()
            )),
            None => self.ledger.closed_for().map(|closed| closed.to_string()),
        };
        let trouble = reason.clone().or_else(|| self.displaced.clone());
        self.health.set(Check::Disk, trouble.map_or(Ok(()), Err));
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

    /// F21: an own directory that is gone is made anew; one that was replaced is reported and not used.
    fn watch_places(&mut self) {
        let mended = self.disk.mend_missing();
        let replaced = self.disk.folders().replaced();
        let named =
            |places: &[Place]| places.iter().map(|place| format!("{place:?}")).collect::<Vec<_>>().join(", ");
        if !mended.is_empty() {
            self.metrics.fault(FaultKind::DirReplaced);
            tracing::error!("dir-replaced: {} had been removed and was made anew", named(&mended));
        }
        let displaced = (!replaced.is_empty()).then(|| {
            format!(
                "dir-replaced: {} no longer leads to the opened directory; writes go to the opened one: put it back",
                named(&replaced)
            )
        });
        if displaced != self.displaced {
            if let Some(message) = &displaced {
                self.metrics.fault(FaultKind::DirReplaced);
                tracing::error!("{message}");
            }
            self.displaced = displaced;
        }
        // Without a writer there is no ledger to look after.
        let _ = self.ledger.check_place();
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
