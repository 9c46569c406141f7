//! The time that is left after an order to stop.

use std::time::Duration;

use crate::clock::Mono;

/// What is left to do after an order to stop.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopping {
    /// When the sink is told to wind up; `None` after that.
    pub(super) wind_up: Option<Mono>,
    /// When whatever is still out is dropped.
    pub(super) drop: Mono,
}

impl Stopping {
    pub(super) fn within(time: Duration, now: Mono) -> Self {
        Stopping { wind_up: Some(now.after(time / 3 * 2)), drop: now.after(time / 10 * 9) }
    }

    pub(super) fn next(&self) -> Mono {
        self.wind_up.unwrap_or(self.drop)
    }
}
