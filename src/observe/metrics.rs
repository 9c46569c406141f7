//! Handles to every metric: taken once, fed by the stages with a few atomic operations each.
//!
//! Each [`Metrics`] has a recorder of its own, so pipelines in one process do not share counters and
//! nothing global is installed. What the KPI document needs too (files seen, accepted, ended) is
//! counted here and handed to the recorder when the page is made. A histogram keeps its samples, 16
//! bytes each, until [`Metrics::tick`] or a scrape folds them into buckets: with a tick a second and
//! 20,000 files/s that is about 3 MB.

mod handles;
mod pace;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;

use super::health::{Check, Report};
use super::labels::{
    Cause, Circuit, FaultKind, HttpCode, Lane, ReloadResult, RetryClass, Stage, SubmitResult, Volume,
    WatchMethod,
};
use super::latency::Latency;
use super::{page, process};
use crate::clock::{Clock as _, Mono, SystemClock, Wall};
use crate::fate::{Fate, Reason, SinkKind, Source};
use handles::Handles;
use pace::Pacer;

pub use pace::Pace;

/// Every metric of one pipeline; a cheap clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

/// Files counted since the process began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Noticed, by event or scan; one file may be noticed several times.
    pub seen: u64,
    /// Acceptance is durable.
    pub accepted: u64,
    /// Ended, by [`Fate::code`].
    pub fates: [u64; Fate::ALL.len()],
}

impl Totals {
    /// Files that ended with `fate`.
    pub fn fate(&self, fate: Fate) -> u64 {
        self.fates[fate as usize]
    }

    /// Files that ended, whichever way.
    pub fn ended(&self) -> u64 {
        self.fates.iter().sum()
    }

    /// Files that ended in a way that counts as success to the producer.
    pub fn succeeded(&self) -> u64 {
        Fate::ALL.iter().filter(|fate| fate.is_success()).map(|&fate| self.fate(fate)).sum()
    }

    /// Files that were refused or expired.
    pub fn failed(&self) -> u64 {
        self.ended() - self.succeeded()
    }
}

struct Inner {
    recorded: PrometheusHandle,
    started: Wall,
    handles: Handles,
    seen: [AtomicU64; Source::ALL.len()],
    accepted: AtomicU64,
    ended: [AtomicU64; Fate::ALL.len()],
    depths: [AtomicU64; Lane::ALL.len()],
    latency: Latency,
    pacer: Pacer,
}

fn zeros<const N: usize>() -> [AtomicU64; N] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Metrics").field(&self.totals()).finish()
    }
}

impl Metrics {
    /// Every series at 0, for the default sink.
    pub fn new() -> Self {
        Metrics::with_sink(SinkKind::Folder)
    }

    /// Every series at 0; the label `sink` has this one word.
    pub fn with_sink(sink: SinkKind) -> Self {
        let recorder = handles::recorder();
        Metrics(Arc::new(Inner {
            recorded: recorder.handle(),
            started: SystemClock.wall(),
            handles: Handles::register(&recorder, sink),
            seen: zeros(),
            accepted: AtomicU64::new(0),
            ended: zeros(),
            depths: zeros(),
            latency: Latency::new(),
            pacer: Pacer::new(),
        }))
    }

    fn handles(&self) -> &Handles {
        &self.0.handles
    }

    /// `files` more were noticed.
    pub fn seen(&self, source: Source, files: u64) {
        self.0.seen[source as usize].fetch_add(files, Ordering::Relaxed);
    }

    /// Acceptance of `files` more is durable.
    pub fn accepted(&self, files: u64) {
        self.0.accepted.fetch_add(files, Ordering::Relaxed);
    }

    /// One more file ended; `reason` is counted for refused ones.
    pub fn ended(&self, fate: Fate, reason: Option<Reason>) {
        self.0.ended[fate as usize].fetch_add(1, Ordering::Relaxed);
        if let (Fate::Refused, Some(reason)) = (fate, reason) {
            self.refused(reason);
        }
    }

    fn refused(&self, reason: Reason) {
        // A word for files that wait cannot refuse one; the sink that says so did refuse.
        let reason = if reason.refuses() { reason } else { Reason::SinkRejected };
        let words = Reason::ALL.iter().filter(|word| word.refuses());
        for (_, counter) in words.zip(&self.handles().refused).filter(|(word, _)| **word == reason) {
            counter.increment(1);
        }
    }

    /// One file spent `took` in one step.
    pub fn stage(&self, stage: Stage, took: Duration) {
        self.handles().stage_duration[stage as usize].record(took);
    }

    /// One file took this long from sighting to durable outcome.
    pub fn intent_duration(&self, took: Duration) {
        self.handles().intent_duration.record(took);
        self.handles().processing_duration.record(took);
        self.0.latency.record(took);
    }

    /// A worker takes a file in hand, or lets go of it.
    pub fn worker_busy(&self, busy: bool) {
        self.handles().active_workers.increment(if busy { 1.0 } else { -1.0 });
    }

    /// Tickets waiting in a lane.
    pub fn queue(&self, lane: Lane, depth: usize) {
        self.handles().queue_depth[lane as usize].set(depth as f64);
        self.0.depths[lane as usize].store(depth as u64, Ordering::Relaxed);
    }

    /// Tickets that a lane can hold.
    pub fn queue_capacity(&self, lane: Lane, capacity: usize) {
        self.handles().queue_capacity[lane as usize].set(capacity as f64);
    }

    /// One attempt at the sink is over; it took this long.
    pub fn submission(&self, result: SubmitResult, took: Duration) {
        self.handles().submissions[result as usize].increment(1);
        self.handles().submit_duration.record(took);
    }

    /// An attempt has to be repeated.
    pub fn retry(&self, class: RetryClass) {
        self.handles().retries[class as usize].increment(1);
    }

    /// A delivery was found already there.
    pub fn adopted(&self) {
        self.handles().adopted.increment(1);
    }

    /// The breaker of the sink changed.
    pub fn circuit(&self, state: Circuit) {
        self.handles().circuit.set(f64::from(state as u8));
    }

    /// How the checks of readiness stand.
    pub fn readiness(&self, report: &Report) {
        for (gauge, check) in self.handles().degraded.iter().zip(Check::ALL) {
            gauge.set(f64::from(u8::from(!report.holds(*check))));
        }
        self.handles().sink_up.set(f64::from(u8::from(report.holds(Check::Sink))));
    }

    /// Whether the folder is there and watched.
    pub fn watch_healthy(&self, healthy: bool) {
        self.handles().watch_healthy.set(f64::from(u8::from(healthy)));
    }

    /// How the folder is watched.
    pub fn watch_mode(&self, method: WatchMethod) {
        for &other in WatchMethod::ALL {
            self.handles().watch_mode[other as usize].set(f64::from(u8::from(other == method)));
        }
    }

    /// The kernel dropped events.
    pub fn watch_overflow(&self) {
        self.handles().watch_overflows.increment(1);
    }

    /// A scan of the folder begins.
    pub fn rescan(&self, cause: Cause) {
        self.handles().rescans[cause as usize].increment(1);
    }

    /// The ledger made `rows` durable in one commit that took `took`, flush included.
    pub fn commit(&self, rows: usize, took: Duration) {
        self.handles().ledger_commits.increment(1);
        self.handles().ledger_rows.record(rows as f64);
        self.handles().fsync.record(took);
    }

    /// Size of the ledger on disk.
    pub fn ledger_bytes(&self, bytes: u64) {
        self.handles().ledger_bytes.set(bytes as f64);
    }

    /// Free space of a file system that the daemon writes to.
    pub fn disk_free(&self, volume: Volume, bytes: u64) {
        self.handles().disk_free[volume as usize].set(bytes as f64);
    }

    /// Files with a durable outcome whose status or archive is still to be written.
    pub fn unfiled(&self, files: u64) {
        self.handles().unfiled.set(files as f64);
    }

    /// Settled originals that cannot be moved out of the folder.
    pub fn stuck_files(&self, files: u64) {
        self.handles().stuck_files.set(files as f64);
    }

    /// Trouble of the surroundings.
    pub fn fault(&self, fault: FaultKind) {
        self.handles().faults[fault as usize].increment(1);
    }

    /// A panic was caught.
    pub fn panicked(&self) {
        self.handles().panics.increment(1);
    }

    /// Accepted intents without a fate: low, normal and high priority.
    pub fn pending(&self, intents: [u64; 3]) {
        for (gauge, count) in self.handles().pending.iter().zip(intents) {
            gauge.set(count as f64);
        }
    }

    /// Age of the oldest accepted intent without a fate.
    pub fn oldest_pending(&self, age: Option<Duration>) {
        self.handles().oldest_pending.set(age.unwrap_or_default().as_secs_f64());
    }

    /// The ledger's accept rows less its outcome rows less the pending intents.
    pub fn unaccounted(&self, intents: i64) {
        self.handles().unaccounted.set(intents as f64);
    }

    /// The Landlock ABI by which this process has restricted itself.
    pub fn sandbox_level(&self, abi: u32) {
        self.handles().sandbox_level.set(f64::from(abi));
    }

    /// The configuration was loaded at the start.
    pub fn config_loaded(&self, at: Wall) {
        self.handles().reload_ok.set(1.0);
        self.handles().reload_time.set((at.0 / 1_000_000_000) as f64);
    }

    /// A reload took the configuration over.
    pub fn config_reloaded(&self, at: Wall) {
        self.handles().reloads[ReloadResult::Ok as usize].increment(1);
        self.config_loaded(at);
    }

    /// A reload of the configuration failed; the old one stays.
    pub fn config_refused(&self) {
        self.handles().reloads[ReloadResult::Failed as usize].increment(1);
        self.handles().reload_ok.set(0.0);
    }

    /// Log lines lost and left out so far, as [`super::log::Lost`] counts them.
    pub fn log_lines(&self, lost: u64, suppressed: u64) {
        self.handles().dropped_lines.absolute(lost);
        self.handles().suppressed_lines.absolute(suppressed);
    }

    /// An HTTP request was turned away.
    pub fn http_rejected(&self, code: HttpCode) {
        self.handles().http_rejected[code as usize].increment(1);
    }

    /// To be called once a second: keeps throughput and quantiles, and bounds the memory of histograms.
    pub fn tick(&self, now: Mono) {
        let pace = self.0.pacer.tick(now, self.totals().ended());
        self.handles().throughput.set(pace.throughput);
        self.0.latency.tick(now);
        self.0.recorded.run_upkeep();
    }

    /// Files counted since the process began.
    pub fn totals(&self) -> Totals {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Totals {
            seen: self.0.seen.iter().map(read).sum(),
            accepted: read(&self.0.accepted),
            fates: std::array::from_fn(|i| read(&self.0.ended[i])),
        }
    }

    /// Throughput and CPU use as of the last tick.
    pub fn pace(&self) -> Pace {
        self.0.pacer.pace()
    }

    /// CPU time over wall time in percent, 100 is one core: of the last 10 s, and before the second
    /// tick since the process began.
    pub fn cpu_percent(&self) -> Option<f64> {
        self.0.pacer.cpu_percent()
    }

    /// Durations from sighting to durable outcome below which the given shares (0 to 1) of the files
    /// ended, over the newest one to two minutes with traffic; off by a sixteenth at most.
    pub fn latency<const N: usize>(&self, shares: [f64; N]) -> Option<[Duration; N]> {
        self.0.latency.quantiles(shares)
    }

    /// When this table was made, which is when the process began.
    pub fn started(&self) -> Wall {
        self.0.started
    }

    /// The page in the Prometheus text format 0.0.4, sorted.
    pub fn render(&self) -> String {
        self.publish();
        let mut text = self.0.recorded.render();
        text.push_str(&process::families(self.0.started));
        page::ordered(&text)
    }

    /// Hands what is counted here to the recorder.
    fn publish(&self) {
        let (inner, handles, totals) = (&*self.0, self.handles(), self.totals());
        let counts = inner.seen.iter().map(|count| count.load(Ordering::Relaxed));
        handles.seen.iter().zip(counts).for_each(|(counter, count)| counter.absolute(count));
        handles.accepted.absolute(totals.accepted);
        handles.intents.iter().zip(totals.fates).for_each(|(counter, count)| counter.absolute(count));
        handles.files_processed.absolute(totals.succeeded());
        handles.files_failed.absolute(totals.failed());
        let depth: u64 = inner.depths.iter().map(|depth| depth.load(Ordering::Relaxed)).sum();
        handles.queue_size.set(depth as f64);
    }
}

#[cfg(test)]
pub(super) mod tests;
