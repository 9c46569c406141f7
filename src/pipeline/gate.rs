//! How much may be under way: the valve between the queue and the workers.
//!
//! Everything that was accepted and is not yet filed counts. While the sink takes intents, at most
//! [`FLOWING`] files are under way, so that memory stays bounded and a backlog does not take the
//! processors from the stages that finish work; while it does not, up to `sink.max_pending` files and
//! `sink.max_pending_size` bytes are accepted and the rest waits in the folder. A full disk or ledger
//! shuts the valve altogether. What is shut out stays where it is: nothing is dropped.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use event_listener::{Event, Listener as _, listener};
use parking_lot::Mutex;

/// Files under way while the sink takes intents.
pub(super) const FLOWING: u64 = 2_048;
/// Who waits is woken when a share of one in this many is free again: to wake a worker for every single
/// file that is filed costs 15 µs of CPU a file.
const ROOM: u64 = 8;

/// The valve.
pub(super) struct Gate {
    files: AtomicU64,
    bytes: AtomicU64,
    flowing: AtomicBool,
    max_files: u64,
    max_bytes: u64,
    shut: Mutex<Option<String>>,
    is_shut: AtomicBool,
    opened: Event,
}

impl Gate {
    /// An open valve with the limits of `[sink]`.
    pub(super) fn new(max_files: u64, max_bytes: u64) -> Self {
        Gate {
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            flowing: AtomicBool::new(true),
            max_files,
            max_bytes,
            shut: Mutex::new(None),
            is_shut: AtomicBool::new(false),
            opened: Event::new(),
        }
    }

    /// Whether another file may be taken.
    pub(super) fn is_open(&self) -> bool {
        !self.is_shut.load(Ordering::Relaxed)
            && self.files.load(Ordering::SeqCst) < self.most_files()
            && self.bytes.load(Ordering::Relaxed) < self.max_bytes
    }

    /// Whether those who wait are worth waking. True when nothing is under way.
    fn has_room(&self) -> bool {
        let free = |limit: u64| limit - limit / ROOM;
        self.files.load(Ordering::SeqCst) <= free(self.most_files())
            && self.bytes.load(Ordering::Relaxed) <= free(self.max_bytes)
    }

    fn most_files(&self) -> u64 {
        match self.flowing.load(Ordering::Relaxed) {
            true => FLOWING.min(self.max_files),
            false => self.max_files,
        }
    }

    /// True while nothing may be accepted at all.
    pub(super) fn is_shut(&self) -> bool {
        self.is_shut.load(Ordering::Relaxed)
    }

    /// Waits until it is open, `stop` says so (asked at every wake-up) or a second has passed.
    pub(super) fn wait_open(&self, stop: &dyn Fn() -> bool) -> bool {
        if self.is_open() {
            return true;
        }
        listener!(self.opened => listener);
        if stop() || self.is_open() {
            return self.is_open();
        }
        listener.wait_timeout(Duration::from_secs(1));
        self.is_open()
    }

    /// A file of `bytes` is under way.
    pub(super) fn enter(&self, bytes: u64) {
        self.files.fetch_add(1, Ordering::SeqCst);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A file of `bytes` is filed.
    pub(super) fn leave(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.files.fetch_sub(1, Ordering::SeqCst);
        if self.has_room() {
            self.opened.notify(usize::MAX);
        }
    }

    /// Files under way.
    pub(super) fn files(&self) -> u64 {
        self.files.load(Ordering::SeqCst)
    }

    /// Whether the sink takes intents.
    pub(super) fn set_flowing(&self, flowing: bool) {
        if self.flowing.swap(flowing, Ordering::Relaxed) != flowing {
            self.opened.notify(usize::MAX);
        }
    }

    /// Shuts the valve with a reason, or opens it again. True if that changed anything.
    pub(super) fn shut(&self, reason: Option<String>) -> bool {
        let mut shut = self.shut.lock();
        let changed = shut.is_some() != reason.is_some();
        self.is_shut.store(reason.is_some(), Ordering::Relaxed);
        *shut = reason;
        drop(shut);
        if changed {
            self.opened.notify(usize::MAX);
        }
        changed
    }

    /// Wakes everybody who waits.
    pub(super) fn wake_all(&self) {
        self.opened.notify(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_valve_is_wider_while_the_sink_is_away() {
        let gate = Gate::new(10_000, u64::MAX);
        (0..FLOWING).for_each(|_| gate.enter(1));
        assert!(!gate.is_open());
        gate.set_flowing(false);
        assert!(gate.is_open());
        (FLOWING..10_000).for_each(|_| gate.enter(1));
        assert!(!gate.is_open());
        gate.leave(1);
        assert!(gate.is_open());
    }

    #[test]
    fn who_waits_is_woken_when_there_is_room_for_many() {
        let gate = Gate::new(10_000, 1_000);
        (0..FLOWING).for_each(|_| gate.enter(0));
        (0..FLOWING / ROOM - 1).for_each(|_| gate.leave(0));
        assert!(gate.is_open() && !gate.has_room());
        gate.leave(0);
        assert!(gate.has_room());
        gate.enter(999);
        assert!(gate.is_open() && !gate.has_room(), "bytes count too");
        let narrow = Gate::new(1, 1);
        narrow.enter(1_000);
        narrow.leave(1_000);
        assert!(narrow.has_room(), "nothing is under way");
    }

    #[test]
    fn a_full_disk_shuts_it_whatever_is_under_way() {
        let gate = Gate::new(10, 10);
        assert!(gate.shut(Some("disk-full".into())));
        assert!(!gate.shut(Some("disk-full".into())), "said once");
        assert!(!gate.is_open());
        assert!(gate.shut(None) && gate.is_open());
    }
}
