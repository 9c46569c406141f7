//! How many requests leave the process: 10 a second, 20 at once after a pause.
//!
//! The server works through one repository one request at a time and limits itself to 200 reads a second for all
//! its clients (`porch.md` 4). A client that hammers it slows everybody down; four requests make one revision,
//! so this limit is met only by mistakes and by looking through many packages after a restart.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Requests a second, in the long run.
const RATE: u32 = 10;
/// Requests that may leave at once after a pause.
const BURST: u32 = 20;
const INTERVAL: Duration = Duration::from_millis(1_000 / RATE as u64);

/// A token bucket, kept as the one moment at which it would be full again.
#[derive(Debug)]
pub(super) struct Bucket {
    full: Mutex<Instant>,
}

impl Bucket {
    /// A full one.
    pub(super) fn new() -> Self {
        Bucket { full: Mutex::new(Instant::now()) }
    }

    /// Waits for the right to send one request; those who wait are served in the order of asking.
    pub(super) async fn take(&self) {
        let turn = {
            let mut full = self.full.lock();
            let now = Instant::now();
            let taken = (*full).max(now) + INTERVAL;
            *full = taken;
            taken.checked_sub(INTERVAL * BURST).unwrap_or(now)
        };
        tokio::time::sleep_until(turn).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn twenty_leave_at_once_and_then_ten_a_second() {
        let bucket = Bucket::new();
        let begun = Instant::now();
        for _ in 0..BURST {
            bucket.take().await;
        }
        assert!(begun.elapsed() < Duration::from_millis(5), "{:?}", begun.elapsed());
        for _ in 0..30 {
            bucket.take().await;
        }
        let took = begun.elapsed();
        assert!((2_990..=3_050).contains(&took.as_millis()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_fills_it_again_and_no_further() {
        let bucket = Bucket::new();
        for _ in 0..BURST {
            bucket.take().await;
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        let begun = Instant::now();
        for _ in 0..=BURST {
            bucket.take().await;
        }
        let took = begun.elapsed();
        assert!((90..=110).contains(&took.as_millis()), "{took:?}");
    }
}
