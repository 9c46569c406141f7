//! What others may know of the watch: is it in place, does it work, is everything done.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::clock::Mono;

/// How names are noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// By kernel events and scans.
    Inotify,
    /// By scans alone, every 2 s or every period if that is shorter.
    Poll,
    /// By one scan at the start (`once`).
    Once,
}

impl Mode {
    /// As spelled in `status --json`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Mode::Inotify => "inotify",
            Mode::Poll => "poll",
            Mode::Once => "once",
        }
    }
}

/// The state of a running watch, shared with whoever wants to see it. The numbers are those of the
/// end of the last round.
#[derive(Debug, Default)]
pub struct Progress {
    ready: AtomicBool,
    scanned: AtomicBool,
    healthy: AtomicBool,
    settled: AtomicBool,
    waiting: AtomicUsize,
    mode: AtomicU8,
    /// Start of the round in progress, nanoseconds since boot; 0 while resting.
    round: AtomicU64,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Progress {
    /// The watch is placed (or polling was chosen) and the first scan has begun.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }

    /// A whole scan is done and no other one is wanted.
    pub fn is_scanned(&self) -> bool {
        self.scanned.load(Ordering::SeqCst)
    }

    /// The folder is there and watched.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::SeqCst)
    }

    /// Nothing is left to do for the watch: scanned, no name waits, no ticket is out. Accepted files
    /// that are not filed do not count. Kept up to date in `once` alone; it may turn false again.
    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::SeqCst)
    }

    /// Names that wait for their time or for somebody's close.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// How names are noticed; decided when the watch is placed.
    pub fn mode(&self) -> Mode {
        match self.mode.load(Ordering::SeqCst) {
            0 => Mode::Inotify,
            1 => Mode::Poll,
            _ => Mode::Once,
        }
    }

    /// When the work in progress began; `None` while the watch rests. A start long ago means that
    /// a file system call hangs (`fs-stalled`).
    pub fn at_work_since(&self) -> Option<Mono> {
        match self.round.load(Ordering::SeqCst) {
            0 => None,
            since => Some(Mono(since)),
        }
    }

    /// Waits for [`Progress::is_ready`]; false when the time is over.
    pub fn wait_ready(&self, timeout: Duration) -> bool {
        self.wait(timeout, Progress::is_ready)
    }

    /// Waits for [`Progress::is_settled`]; false when the time is over.
    pub fn wait_settled(&self, timeout: Duration) -> bool {
        self.wait(timeout, Progress::is_settled)
    }

    fn wait(&self, timeout: Duration, done: impl Fn(&Progress) -> bool) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        let mut lock = self.lock.lock();
        while !done(self) {
            match deadline {
                Some(deadline) => {
                    if self.changed.wait_until(&mut lock, deadline).timed_out() {
                        return done(self);
                    }
                }
                None => self.changed.wait(&mut lock),
            }
        }
        true
    }

    pub(super) fn set_mode(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::SeqCst);
    }

    pub(super) fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::SeqCst);
    }

    pub(super) fn set_scanned(&self, scanned: bool) {
        self.scanned.store(scanned, Ordering::SeqCst);
    }

    pub(super) fn set_waiting(&self, waiting: usize) {
        self.waiting.store(waiting, Ordering::SeqCst);
    }

    pub(super) fn set_ready(&self) {
        self.announce(&self.ready, true);
    }

    pub(super) fn set_settled(&self, settled: bool) {
        self.announce(&self.settled, settled);
    }

    pub(super) fn begin(&self, now: Mono) {
        self.round.store(now.0.max(1), Ordering::SeqCst);
    }

    pub(super) fn rest(&self) {
        self.round.store(0, Ordering::SeqCst);
    }

    fn announce(&self, flag: &AtomicBool, value: bool) {
        if flag.load(Ordering::SeqCst) == value {
            return;
        }
        let lock = self.lock.lock();
        flag.store(value, Ordering::SeqCst);
        drop(lock);
        self.changed.notify_all();
    }
}
