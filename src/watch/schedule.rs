//! When the next scan begins: one at a time, a second apart, for the most pressing of its causes.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Cause;
use crate::clock::Mono;

/// Least time between the end of a scan and the start of the next (or one period, if shorter).
const APART: Duration = Duration::from_secs(1);

/// The scans to come.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Time between the starts of periodic scans; `None` in `once`.
    period: Option<Duration>,
    wanted: BTreeSet<Cause>,
    ended: Option<Mono>,
    started: Option<Mono>,
}

impl Schedule {
    pub(super) fn new(period: Option<Duration>) -> Self {
        Schedule { period, wanted: BTreeSet::new(), ended: None, started: None }
    }

    pub(super) fn set_period(&mut self, period: Duration) {
        self.period = Some(period);
    }

    /// Asks for a scan. Several askings before it begins are one scan.
    pub(super) fn want(&mut self, cause: Cause) {
        self.wanted.insert(cause);
    }

    /// True when a scan was asked for (the periodic one apart).
    pub(super) fn is_wanted(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// When the next scan may begin.
    pub(super) fn due(&self) -> Option<Mono> {
        let gap = self.period.map_or(APART, |period| period.min(APART));
        let earliest = self.ended.map_or(Mono(0), |ended| ended.after(gap));
        if self.is_wanted() {
            return Some(earliest);
        }
        let periodic = self.started?.after(self.period?);
        Some(periodic.max(earliest))
    }

    /// The cause of the scan that begins now, if one is due. It serves all causes.
    pub(super) fn begin(&mut self, now: Mono) -> Option<Cause> {
        if self.due()? > now {
            return None;
        }
        let cause = self.wanted.first().copied().unwrap_or(Cause::Period);
        self.wanted.clear();
        self.started = Some(now);
        Some(cause)
    }

    /// The scan is over.
    pub(super) fn end(&mut self, now: Mono) {
        self.ended = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    #[test]
    fn the_first_scan_begins_at_once_and_the_next_a_second_after_its_end() {
        let mut schedule = Schedule::new(Some(Duration::from_secs(30)));
        assert_eq!(schedule.begin(at(5)), None);
        schedule.want(Cause::Start);
        assert_eq!(schedule.begin(at(5)), Some(Cause::Start));
        schedule.want(Cause::Overflow);
        schedule.want(Cause::QueueFull);
        schedule.end(at(7));
        assert_eq!((schedule.begin(at(7)), schedule.due()), (None, Some(at(8))));
        assert_eq!(schedule.begin(at(8)), Some(Cause::Overflow));
        schedule.end(at(8));
        assert_eq!(schedule.due(), Some(at(38)), "the period counts from the start of the last scan");
        assert_eq!(schedule.begin(at(38)), Some(Cause::Period));
    }

    #[test]
    fn a_scan_longer_than_the_period_is_followed_after_the_gap() {
        let mut schedule = Schedule::new(Some(Duration::from_secs(2)));
        schedule.want(Cause::Start);
        schedule.begin(at(0));
        schedule.end(at(50));
        assert_eq!(schedule.due(), Some(at(51)));
    }

    #[test]
    fn a_period_below_a_second_is_kept() {
        let mut schedule = Schedule::new(Some(Duration::from_millis(100)));
        schedule.want(Cause::Start);
        schedule.begin(at(1));
        schedule.end(at(1));
        assert_eq!(schedule.due(), Some(at(1).after(Duration::from_millis(100))));
    }

    #[test]
    fn without_a_period_only_wanted_scans_run() {
        let mut schedule = Schedule::new(None);
        schedule.want(Cause::Start);
        schedule.begin(at(0));
        schedule.end(at(0));
        assert_eq!(schedule.due(), None);
    }
}
