//! Time as an argument: a monotonic clock for every decision and a wall clock for reports alone.
//!
//! [`Mono`] counts nanoseconds of `CLOCK_BOOTTIME` (it goes on during suspend) and drives debounce,
//! retry and ordering; [`Wall`] counts nanoseconds since 1970 in UTC and appears in status files,
//! the ledger and logs only (promise R11: clocks may lie). Stages get a [`Clock`], never the system.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Nanoseconds since boot, suspend included; never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(pub u64);

impl Mono {
    /// The moment `wait` later.
    pub fn after(self, wait: Duration) -> Mono {
        Mono(self.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Nanoseconds since 1970-01-01 UTC; may jump either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Wall(pub i64);

impl Wall {
    fn timestamp(self) -> jiff::Timestamp {
        jiff::Timestamp::from_nanosecond(i128::from(self.0)).unwrap_or_default()
    }

    /// `2026-11-21T08:00:00Z`.
    pub fn seconds(self) -> String {
        self.timestamp().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// `2026-11-21T08:00:00.123Z`.
    pub fn millis(self) -> String {
        let floor = self.0.rem_euclid(1_000_000_000) / 1_000_000;
        format!("{}.{floor:03}Z", self.timestamp().strftime("%Y-%m-%dT%H:%M:%S"))
    }

    /// `20261121-080000`, as used in status file names.
    pub fn compact(self) -> String {
        self.timestamp().strftime("%Y%m%d-%H%M%S").to_string()
    }

    /// `Sat, 21 Nov 2026 08:00:00 GMT`, as HTTP spells it.
    pub fn http(self) -> String {
        self.timestamp().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }

    /// Parses RFC 3339.
    pub fn parse(text: &str) -> Option<Wall> {
        let at: jiff::Timestamp = text.parse().ok()?;
        i64::try_from(at.as_nanosecond()).ok().map(Wall)
    }

    /// The moment `wait` later.
    pub fn after(self, wait: Duration) -> Wall {
        Wall(self.0.saturating_add(i64::try_from(wait.as_nanos()).unwrap_or(i64::MAX)))
    }
}

/// The two clocks of the pipeline.
pub trait Clock: Send + Sync {
    /// The monotonic clock.
    fn now(&self) -> Mono;
    /// The wall clock.
    fn wall(&self) -> Wall;
}

/// The machine's own clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

fn nanos(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

impl Clock for SystemClock {
    fn now(&self) -> Mono {
        Mono(u64::try_from(nanos(clock_gettime(ClockId::Boottime))).unwrap_or(0))
    }

    fn wall(&self) -> Wall {
        Wall(nanos(clock_gettime(ClockId::Realtime)))
    }
}

/// Clocks that stand still until they are set by hand, for tests and simulation.
#[derive(Debug, Default)]
pub struct HandClock {
    mono: AtomicU64,
    wall: AtomicI64,
}

impl HandClock {
    /// Both clocks at the given moments.
    pub fn at(mono: Mono, wall: Wall) -> Self {
        HandClock { mono: AtomicU64::new(mono.0), wall: AtomicI64::new(wall.0) }
    }

    /// Moves both clocks on.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.mono.fetch_add(by, Ordering::SeqCst);
        self.wall.fetch_add(i64::try_from(by).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Makes the wall clock jump; the monotonic clock does not notice.
    pub fn set_wall(&self, wall: Wall) {
        self.wall.store(wall.0, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Mono {
        Mono(self.mono.load(Ordering::SeqCst))
    }

    fn wall(&self) -> Wall {
        Wall(self.wall.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_time_is_spelled_as_the_contract_says() {
        let at = Wall::parse("2026-11-21T08:00:00.1239Z").expect("valid");
        assert_eq!(at.seconds(), "2026-11-21T08:00:00Z");
        assert_eq!(at.millis(), "2026-11-21T08:00:00.123Z");
        assert_eq!(at.compact(), "20261121-080000");
        assert_eq!(at.http(), "Sat, 21 Nov 2026 08:00:00 GMT");
    }

    #[test]
    fn a_wall_time_before_1970_keeps_its_milliseconds_positive() {
        assert_eq!(Wall(-1_000_000).millis(), "1969-12-31T23:59:59.999Z");
    }
}
