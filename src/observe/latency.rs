//! Quantiles of the time from sighting to durable outcome, over the newest minutes with traffic.
//!
//! Fixed buckets, eight to each power of two of nanoseconds, so a quantile is off by at most a
//! sixteenth. Two windows of 4 KiB: one fills while the other keeps the minute before; recording is
//! one atomic addition. A record that races with a rotation may land in either window.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Mono;

const BUCKETS: usize = 496;
const WINDOW: Duration = Duration::from_secs(60);

type Window = [AtomicU64; BUCKETS];

pub(super) struct Latency {
    filling: AtomicUsize,
    windows: [Window; 2],
    rotated: Mutex<Option<Mono>>,
}

impl Latency {
    pub(super) fn new() -> Self {
        let window = || std::array::from_fn(|_| AtomicU64::new(0));
        Latency { filling: AtomicUsize::new(0), windows: [window(), window()], rotated: Mutex::new(None) }
    }

    pub(super) fn record(&self, took: Duration) {
        let window = &self.windows[self.filling.load(Ordering::Relaxed)];
        window[bucket(took)].fetch_add(1, Ordering::Relaxed);
    }

    /// Starts a new window once a minute; a minute without traffic keeps the old one.
    pub(super) fn tick(&self, now: Mono) {
        let mut rotated = self.rotated.lock();
        if now.since(*rotated.get_or_insert(now)) < WINDOW {
            return;
        }
        *rotated = Some(now);
        let full = self.filling.load(Ordering::Relaxed);
        if self.windows[full].iter().all(|count| count.load(Ordering::Relaxed) == 0) {
            return;
        }
        let next = 1 - full;
        self.windows[next].iter().for_each(|count| count.store(0, Ordering::Relaxed));
        self.filling.store(next, Ordering::Relaxed);
    }

    /// The durations below which the given shares (0 to 1) of the files ended; `None` without files.
    pub(super) fn quantiles<const N: usize>(&self, shares: [f64; N]) -> Option<[Duration; N]> {
        let counts: Vec<u64> = (0..BUCKETS)
            .map(|i| self.windows.iter().map(|window| window[i].load(Ordering::Relaxed)).sum())
            .collect();
        let total: u64 = counts.iter().sum();
        (total > 0).then(|| shares.map(|share| quantile(&counts, total, share)))
    }
}

fn quantile(counts: &[u64], total: u64, share: f64) -> Duration {
    let rank = ((total as f64 * share).ceil() as u64).clamp(1, total);
    let mut passed = 0;
    let found = counts.iter().position(|count| {
        passed += count;
        passed >= rank
    });
    middle(found.unwrap_or(BUCKETS - 1))
}

/// Values below 16 ns have a bucket each; above, the top four bits choose it.
fn bucket(took: Duration) -> usize {
    let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    let shift = (60 - (nanos | 8).leading_zeros()) as usize;
    shift * 8 + (nanos >> shift) as usize
}

fn middle(bucket: usize) -> Duration {
    if bucket < 16 {
        return Duration::from_nanos(bucket as u64);
    }
    let shift = bucket / 8 - 1;
    let low = ((bucket - shift * 8) as u64) << shift;
    Duration::from_nanos(low + (1 << shift) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_files_there_is_no_quantile() {
        assert_eq!(Latency::new().quantiles([0.5]), None);
    }

    #[test]
    fn quantiles_of_an_even_spread_are_where_they_belong() {
        let latency = Latency::new();
        for micros in 1..=1_000 {
            latency.record(Duration::from_micros(micros));
        }
        let [p50, p99] = latency.quantiles([0.5, 0.99]).expect("files were recorded");
        assert!((p50.as_secs_f64() / 500e-6 - 1.0).abs() < 0.07, "{p50:?}");
        assert!((p99.as_secs_f64() / 990e-6 - 1.0).abs() < 0.07, "{p99:?}");
    }

    #[test]
    fn old_minutes_are_forgotten_only_when_newer_ones_had_traffic() {
        let minute = |n: u64| Mono(n * 60_000_000_000);
        let latency = Latency::new();
        latency.tick(minute(0));
        latency.record(Duration::from_secs(1));
        for n in 1..10 {
            latency.tick(minute(n));
        }
        assert!(latency.quantiles([0.5]).is_some(), "idle minutes keep the last figure");
        for n in 10..12 {
            latency.record(Duration::from_millis(1));
            latency.tick(minute(n));
        }
        let [worst] = latency.quantiles([1.0]).expect("files were recorded");
        assert!(worst < Duration::from_millis(2), "{worst:?}");
    }

    proptest! {
        #[test]
        fn a_bucket_stands_for_its_values_within_a_sixteenth(nanos in any::<u64>()) {
            let middle = middle(bucket(Duration::from_nanos(nanos))).as_nanos() as f64;
            prop_assert!((middle - nanos as f64).abs() <= nanos as f64 / 16.0);
        }
    }
}
