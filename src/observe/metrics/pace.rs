//! How fast files are settled and how much CPU that takes, over the last 10 s.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{Clock as _, Mono, SystemClock};
use crate::observe::process;

/// The span over which throughput and CPU use are averaged.
const SPAN: Duration = Duration::from_secs(10);

/// What the KPI document tells about speed.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pace {
    /// Files settled per second, mean of the last 10 s.
    pub throughput: f64,
    /// CPU time over wall time of the last 10 s; 100 is one core. `None` before the second tick.
    pub cpu_percent: Option<f64>,
}

/// Readings of the last 10 s, one a tick.
pub(super) struct Pacer {
    /// Monotonic time and CPU time when this was made.
    began: (Mono, Duration),
    beats: Mutex<(VecDeque<Beat>, Pace)>,
}

/// One tick's reading.
#[derive(Clone, Copy)]
struct Beat {
    at: Mono,
    ended: u64,
    cpu: Duration,
}

impl Pacer {
    pub(super) fn new() -> Self {
        Pacer { began: (SystemClock.now(), process::cpu_time()), beats: Mutex::default() }
    }

    /// Takes a reading: so many files have ended so far.
    pub(super) fn tick(&self, now: Mono, ended: u64) -> Pace {
        let beat = Beat { at: now, ended, cpu: process::cpu_time() };
        let (beats, pace) = &mut *self.beats.lock();
        beats.push_back(beat);
        while beats.get(1).is_some_and(|second| now.since(second.at) >= SPAN) {
            beats.pop_front();
        }
        if let Some(oldest) = beats.front().filter(|oldest| oldest.at < now) {
            let span = now.since(oldest.at).as_secs_f64();
            pace.throughput = (beat.ended - oldest.ended) as f64 / span;
            pace.cpu_percent = Some(100.0 * beat.cpu.saturating_sub(oldest.cpu).as_secs_f64() / span);
        }
        *pace
    }

    /// As of the last tick.
    pub(super) fn pace(&self) -> Pace {
        self.beats.lock().1
    }

    /// Of the last 10 s, and before the second tick since the beginning.
    pub(super) fn cpu_percent(&self) -> Option<f64> {
        let (at, cpu) = self.began;
        let since_start = || {
            let span = SystemClock.now().since(at).as_secs_f64();
            (span > 0.0).then(|| 100.0 * process::cpu_time().saturating_sub(cpu).as_secs_f64() / span)
        };
        self.pace().cpu_percent.or_else(since_start)
    }
}
