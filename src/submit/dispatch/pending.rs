//! Who is pending, since when, and whose producer is still to be told.
//!
//! The [`Roll`] knows every job from its acceptance to its end, those that are out at the sink
//! included. Entering, leaving and every question cost O(log n) of the pending jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::NOTICE_AFTER;
use crate::clock::{Mono, Wall};
use crate::intent::Target;

/// Pending intents by priority class, and the age of the oldest of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pending {
    /// Priorities 0–3, 4–7, 8–10.
    pub by_class: [u64; 3],
    /// How long ago the oldest was accepted, by an earlier process or before the last boot too.
    pub oldest: Option<Duration>,
}

/// In which line a job waits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Lane {
    /// That of its target.
    Target(Arc<Target>),
    /// That of its package.
    Package(Arc<str>),
}

/// Where a job stands on the roll: oldest acceptance first, then the order of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The moment of acceptance in nanoseconds since boot, negative if it was before.
    since: i64,
    /// The row's number.
    pub(super) seq: u64,
}

impl Place {
    /// The place of row `seq`, accepted at `accepted_at`, when the clocks say `now` and `wall`. An
    /// acceptance that seems to lie ahead counts as now.
    pub(super) fn new(seq: u64, accepted_at: Wall, now: Mono, wall: Wall) -> Self {
        let age = wall.0.saturating_sub(accepted_at.0).max(0);
        Place { since: nanos(now).saturating_sub(age), seq }
    }
}

fn nanos(at: Mono) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

const fn class(priority: u8) -> usize {
    match priority {
        0..=3 => 0,
        4..=7 => 1,
        _ => 2,
    }
}

/// All pending jobs by age.
#[derive(Default)]
pub(super) struct Roll {
    by_age: BTreeMap<Place, Lane>,
    by_class: [u64; 3],
    /// The walk past everybody has come this far.
    walked: Option<Place>,
    /// Another walk follows this one, for the sink's trouble changed meanwhile.
    once_more: bool,
    /// Those with news of their own.
    news: BTreeSet<Place>,
}

impl Roll {
    pub(super) fn enter(&mut self, place: Place, priority: u8, lane: Lane) {
        self.by_class[class(priority)] += 1;
        self.by_age.insert(place, lane);
        if self.walked.is_some_and(|walked| place <= walked) {
            self.news.insert(place);
        }
    }

    pub(super) fn leave(&mut self, place: Place, priority: u8) {
        if self.by_age.remove(&place).is_some() {
            self.by_class[class(priority)] -= 1;
            self.news.remove(&place);
        }
    }

    pub(super) fn lane(&self, place: Place) -> Option<Lane> {
        self.by_age.get(&place).cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.by_age.len()
    }

    pub(super) fn pending(&self, now: Mono) -> Pending {
        let age = |place: &Place| u64::try_from(nanos(now).saturating_sub(place.since)).unwrap_or(0);
        let oldest = self.by_age.first_key_value().map(|(place, _)| Duration::from_nanos(age(place)));
        Pending { by_class: self.by_class, oldest }
    }

    /// One job has something new to tell.
    pub(super) fn has_news(&mut self, place: Place) {
        self.news.insert(place);
    }

    /// There is something new to tell of all. A walk that is under way is finished first, so that the
    /// youngest are reached however often the news change.
    pub(super) fn all_have_news(&mut self) {
        self.once_more = self.walked.is_some();
    }

    /// The next one to look at among those that have waited for [`NOTICE_AFTER`]: with news of their
    /// own, and if `all`, everybody.
    pub(super) fn next_to_tell(&mut self, now: Mono, all: bool) -> Option<(Place, Lane)> {
        let waiting = i64::try_from(NOTICE_AFTER.as_nanos()).unwrap_or(i64::MAX);
        let young = nanos(now).saturating_sub(waiting);
        while let Some(place) = self.news.first().copied().filter(|place| place.since <= young) {
            self.news.remove(&place);
            if let Some(lane) = self.lane(place) {
                return Some((place, lane));
            }
        }
        if !all {
            return None;
        }
        loop {
            let rest = (self.walked.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
            let next = self.by_age.range(rest).next().filter(|(place, _)| place.since <= young);
            if let Some((place, lane)) = next.map(|(place, lane)| (*place, lane.clone())) {
                self.walked = Some(place);
                return Some((place, lane));
            }
            if !std::mem::take(&mut self.once_more) {
                return None;
            }
            self.walked = None;
        }
    }
}
