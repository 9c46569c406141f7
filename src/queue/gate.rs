//! How much may be under way: the valve between the queue and the workers.
//!
//! Everything that was accepted and is not yet settled counts. While the sink takes intents, at most
//! [`FLOWING`] files are under way, so that memory stays bounded and a backlog does not take the
//! processors from the stages that finish work; while it does not, up to `sink.max_pending` files and
//! `sink.max_pending_size` bytes are accepted and the rest waits in the folder. Bytes that are in memory
//! on their way to the ledger are bounded by [`LOADED`]. A full disk or ledger shuts the valve altogether.
//! What is shut out stays where it is: nothing is dropped.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use event_listener::{Event, Listener as _, listener};
use parking_lot::Mutex;

/// Files under way while the sink takes intents.
pub const FLOWING: u64 = 2_048;
/// Bytes of files that were read and are not durable yet.
pub const LOADED: u64 = 32 << 20;

/// Who waits is woken when a share of one in this many is free again: to wake a worker for every single
/// file that is settled costs 15 µs of CPU a file.
const ROOM: u64 = 8;

/// The valve.
pub struct Gate {
    files: AtomicU64,
    bytes: AtomicU64,
    loaded: AtomicU64,
    flowing: AtomicBool,
    max_files: AtomicU64,
    max_bytes: AtomicU64,
    shut: Mutex<Option<String>>,
    is_shut: AtomicBool,
    opened: Event,
}

/// One file's right to be under way; given back when it is dropped.
pub struct Pass {
    gate: Arc<Gate>,
    bytes: u64,
    loaded: u64,
}

impl Pass {
    /// The file's bytes are durable and no longer in memory.
    pub fn committed(&mut self) {
        let before = self.gate.loaded.fetch_sub(std::mem::take(&mut self.loaded), Ordering::Relaxed);
        if before >= LOADED {
            self.gate.opened.notify(usize::MAX);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.committed();
        self.gate.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.gate.files.fetch_sub(1, Ordering::SeqCst);
        if self.gate.has_room() {
            self.gate.opened.notify(usize::MAX);
        }
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Gate {
    /// An open valve with the limits of `[sink]`.
    pub fn new(max_files: u64, max_bytes: u64) -> Self {
        Gate {
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            loaded: AtomicU64::new(0),
            flowing: AtomicBool::new(true),
            max_files: AtomicU64::new(max_files),
            max_bytes: AtomicU64::new(max_bytes),
            shut: Mutex::new(None),
            is_shut: AtomicBool::new(false),
            opened: Event::new(),
        }
    }

    /// Takes other limits; what is under way beyond them may finish.
    pub fn set_limits(&self, max_files: u64, max_bytes: u64) {
        self.max_files.store(max_files, Ordering::Relaxed);
        self.max_bytes.store(max_bytes, Ordering::Relaxed);
        self.opened.notify(usize::MAX);
    }

    /// Whether another file may be taken.
    pub fn is_open(&self) -> bool {
        !self.is_shut()
            && self.files.load(Ordering::SeqCst) < self.most_files()
            && self.bytes.load(Ordering::Relaxed) < self.most_bytes()
            && self.loaded.load(Ordering::Relaxed) < LOADED
    }

    /// Whether those who wait are worth waking. True when nothing is under way.
    fn has_room(&self) -> bool {
        let free = |limit: u64| limit - limit / ROOM;
        self.files.load(Ordering::SeqCst) <= free(self.most_files())
            && self.bytes.load(Ordering::Relaxed) <= free(self.most_bytes())
    }

    fn most_files(&self) -> u64 {
        let most = self.max_files.load(Ordering::Relaxed);
        match self.flowing.load(Ordering::Relaxed) {
            true => FLOWING.min(most),
            false => most,
        }
    }

    fn most_bytes(&self) -> u64 {
        self.max_bytes.load(Ordering::Relaxed)
    }

    /// True while nothing may be accepted at all.
    pub fn is_shut(&self) -> bool {
        self.is_shut.load(Ordering::Relaxed)
    }

    /// Waits until it is open, `stop` says so (asked at every wake-up) or a second has passed.
    pub fn wait_open(&self, stop: &dyn Fn() -> bool) {
        listener!(self.opened => listener);
        if !stop() && !self.is_open() {
            listener.wait_timeout(Duration::from_secs(1));
        }
    }

    /// A file of `bytes` is under way, `loaded` of them in memory until [`Pass::committed`].
    pub fn enter(self: &Arc<Self>, bytes: u64, loaded: u64) -> Pass {
        self.files.fetch_add(1, Ordering::SeqCst);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.loaded.fetch_add(loaded, Ordering::Relaxed);
        Pass { gate: Arc::clone(self), bytes, loaded }
    }

    /// Files under way.
    pub fn files(&self) -> u64 {
        self.files.load(Ordering::SeqCst)
    }

    /// Whether the sink takes intents.
    pub fn set_flowing(&self, flowing: bool) {
        if self.flowing.swap(flowing, Ordering::Relaxed) != flowing {
            self.opened.notify(usize::MAX);
        }
    }

    /// Shuts the valve with a reason, or opens it again. True if the reason is another one than before.
    pub fn shut(&self, reason: Option<String>) -> bool {
        let mut shut = self.shut.lock();
        let kind = |reason: &Option<String>| {
            reason.as_deref().and_then(|text| text.split(':').next().map(str::to_owned))
        };
        let changed = kind(&shut) != kind(&reason);
        self.is_shut.store(reason.is_some(), Ordering::Relaxed);
        *shut = reason;
        drop(shut);
        if changed {
            self.opened.notify(usize::MAX);
        }
        changed
    }

    /// Wakes everybody who waits.
    pub fn wake_all(&self) {
        self.opened.notify(usize::MAX);
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("files", &self.files())
            .field("open", &self.is_open())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_valve_is_wider_while_the_sink_is_away() {
        let gate = Arc::new(Gate::new(10_000, u64::MAX));
        let mut passes: Vec<_> = (0..FLOWING).map(|_| gate.enter(1, 0)).collect();
        assert!(!gate.is_open());
        gate.set_flowing(false);
        assert!(gate.is_open());
        passes.extend((FLOWING..10_000).map(|_| gate.enter(1, 0)));
        assert!(!gate.is_open());
        passes.pop();
        assert!(gate.is_open() && !gate.has_room(), "not worth waking for");
        passes.truncate(5_000);
        assert!(gate.has_room());
    }

    #[test]
    fn other_limits_hold_at_once_and_take_nothing_away() {
        let gate = Arc::new(Gate::new(10, 1_000));
        let passes: Vec<_> = (0..5).map(|_| gate.enter(100, 0)).collect();
        gate.set_limits(5, 1_000);
        assert!(!gate.is_open());
        gate.set_limits(10, 500);
        assert!(!gate.is_open());
        gate.set_limits(6, 501);
        assert!(gate.is_open());
        drop(passes);
        assert_eq!(gate.files(), 0);
    }

    #[test]
    fn bytes_in_memory_are_bounded_until_they_are_durable() {
        let gate = Arc::new(Gate::new(100, u64::MAX));
        let mut pass = gate.enter(LOADED, LOADED);
        assert!(!gate.is_open());
        pass.committed();
        assert!(gate.is_open());
        drop(pass);
        assert_eq!((gate.files(), gate.loaded.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn a_full_disk_shuts_it_whatever_is_under_way_and_says_so_once() {
        let gate = Gate::new(10, 10);
        assert!(gate.shut(Some("disk-full: 5 bytes".into())));
        assert!(!gate.shut(Some("disk-full: 4 bytes".into())));
        assert!(gate.shut(Some("ledger-full: much".into())), "another reason");
        assert!(!gate.is_open());
        assert!(gate.shut(None) && gate.is_open());
    }
}
