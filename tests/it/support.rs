//! A fresh place for each test, the daemon in it, and what it left behind.

mod bench;
mod books;
mod drops;
mod intents;
mod load;
mod node;
mod page;
mod place;
mod porch;
mod run;
mod unit;

use std::time::{Duration, Instant};

pub(crate) use bench::{Bench, Dropped};
pub(crate) use intents::{intent, padded, scale};
pub(crate) use load::{Load, wait_filed};
pub(crate) use node::Node;
pub(crate) use page::request;
pub(crate) use place::{Place, names_in, privileged};
pub(crate) use porch::{Porch, REPOSITORY, client as porch_client, connection};
pub(crate) use run::Ran;
pub(crate) use unit::{DROPPERS, Unit};

/// How long a fact may take to come true before its test fails; ten times what it takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Asks until `look` has an answer; fails the test after [`PATIENCE`].
#[track_caller]
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look)
}

/// Asks until `look` has an answer; fails the test after `limit`.
#[track_caller]
pub(crate) fn within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain: {what}");
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// A number from the environment, for longer runs than the usual one.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is no number")))
}

/// A small seeded generator: the same moments for the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    /// From a seed; 0 counts as 1.
    pub(crate) fn new(seed: u64) -> Self {
        Dice(seed.max(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
