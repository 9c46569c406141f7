//! The ledger's own time, which no jump of the wall clock moves (promise R11).
//!
//! *Age* is microseconds since the ledger was made. It follows the monotonic clock while the machine
//! is up (across restarts of the daemon too, by the boot id), and between two boots the wall clock,
//! which can only add. Dedup window, retention and durations are measured in it. A wall clock that
//! shows less than age demands has gone back; that is remembered until a commit has recorded it.

use crate::clock::{Clock, Mono, Wall};

/// Two readings of the clocks can be this far apart without one having jumped, in nanoseconds.
const TOLERANCE_NS: i64 = 10_000_000;

/// One moment on every clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) mono: Mono,
    pub(super) wall: Wall,
    /// Microseconds since the ledger was made.
    pub(super) age: i64,
}

/// What an earlier life of the daemon left behind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Past {
    pub(super) same_boot: bool,
    /// Taken at that life's start.
    pub(super) start: Moment,
    /// The newest wall time on record, and its age.
    pub(super) newest: (Wall, i64),
}

/// Turns clock readings into ages.
#[derive(Debug)]
pub(super) struct AgeClock {
    base: Moment,
    last: Moment,
    /// Set when the wall clock went back; cleared when that is on record.
    pub(super) went_back: bool,
}

impl AgeClock {
    /// Goes on from `past`, or starts at zero.
    pub(super) fn resume(past: Option<Past>, clock: &dyn Clock) -> Self {
        let (mono, wall) = (clock.now(), clock.wall());
        let Some(past) = past else {
            let base = Moment { mono, wall, age: 0 };
            return AgeClock { base, last: base, went_back: false };
        };
        let same_boot = past.same_boot && mono >= past.start.mono;
        let age = if same_boot {
            past.start.age + micros(mono.0 - past.start.mono.0)
        } else {
            past.newest.1 + (wall.0 - past.newest.0.0).max(0) / 1_000
        };
        let age = age.max(past.newest.1);
        let base = Moment { mono, wall, age };
        AgeClock { base, last: base, went_back: is_behind(wall, past.newest.0, age - past.newest.1) }
    }

    /// Reads the clocks. The wall time never falls by less than the tolerance, so that rows of one
    /// batch and the next stay in order.
    pub(super) fn observe(&mut self, clock: &dyn Clock) -> Moment {
        let (mono, wall) = (clock.now(), clock.wall());
        let age = (self.base.age + micros(mono.0.saturating_sub(self.base.mono.0))).max(self.last.age);
        let behind = is_behind(wall, self.last.wall, age - self.last.age);
        self.went_back |= behind;
        let wall = if behind { wall } else { wall.max(self.last.wall) };
        self.last = Moment { mono, wall, age };
        self.last
    }
}

fn micros(nanos: u64) -> i64 {
    (nanos / 1_000).cast_signed()
}

fn is_behind(wall: Wall, then: Wall, passed_us: i64) -> bool {
    let expected = then.0.saturating_add(passed_us.saturating_mul(1_000));
    wall.0.saturating_add(TOLERANCE_NS) < expected
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::HandClock;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn age_follows_the_monotonic_clock_whatever_the_wall_says() {
        let clock = HandClock::at(Mono(0), Wall(50 * SECOND));
        let mut age = AgeClock::resume(None, &clock);
        clock.advance(Duration::from_secs(1));
        assert_eq!(age.observe(&clock).age, 1_000_000);
        assert!(!age.went_back);
        clock.set_wall(Wall(0));
        clock.advance(Duration::from_secs(1));
        let now = age.observe(&clock);
        assert_eq!((now.age, now.wall), (2_000_000, Wall(SECOND)));
        assert!(age.went_back);
    }

    #[test]
    fn a_step_forward_is_no_doubt() {
        let clock = HandClock::at(Mono(0), Wall(0));
        let mut age = AgeClock::resume(None, &clock);
        clock.set_wall(Wall(900 * SECOND));
        assert_eq!(age.observe(&clock).age, 0);
        assert!(!age.went_back);
    }

    #[test]
    fn between_two_boots_only_the_wall_clock_can_add() {
        let start = Moment { mono: Mono(5), wall: Wall(100 * SECOND), age: 7_000_000 };
        let past = Past { same_boot: false, start, newest: (Wall(110 * SECOND), 17_000_000) };
        let later = AgeClock::resume(Some(past), &HandClock::at(Mono(9), Wall(112 * SECOND)));
        assert_eq!((later.base.age, later.went_back), (19_000_000, false));
        let earlier = AgeClock::resume(Some(past), &HandClock::at(Mono(9), Wall(0)));
        assert_eq!((earlier.base.age, earlier.went_back), (17_000_000, true));
    }

    #[test]
    fn a_restart_within_one_boot_is_measured_exactly() {
        let start = Moment { mono: Mono(0), wall: Wall(0), age: 3 };
        let past = Past { same_boot: true, start, newest: (Wall(0), 3) };
        let age = AgeClock::resume(Some(past), &HandClock::at(Mono(2_000_000_000), Wall(-40 * SECOND)));
        assert_eq!((age.base.age, age.went_back), (2_000_003, true));
    }
}
