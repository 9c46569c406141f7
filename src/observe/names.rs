//! The one table of metrics: name, type, labels with their closed value sets, buckets and help.
//!
//! Registration, the page, the reference in the documentation and the tests all read this table; a
//! name that is not here is not exported (`contract.md` 7, `design.md` 6, `reliability.md` 14).
//! Renaming a line is a breaking change.

use super::health::Check;
use super::labels::{
    Cause, FaultKind, HttpCode, Lane, PriorityBand, ReloadResult, RetryClass, Stage, SubmitResult, Volume,
    WatchMethod,
};
use crate::fate::{Fate, Reason, SinkKind, Source};

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its full name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its labels; one series exists for every combination of their words, of `sink` for the one in use.
    pub labels: &'static [Label],
    /// One line for `# HELP`.
    pub help: &'static str,
}

/// Type of a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Starts at 0 in each process and never falls.
    Counter,
    /// Goes both ways.
    Gauge,
    /// Cumulative counts up to the given bounds, and `+Inf`.
    Histogram(&'static [f64]),
}

/// One label and all its words.
#[derive(Debug, Clone, Copy)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Its closed set of words.
    pub words: fn() -> Vec<&'static str>,
}

impl Label {
    /// The words that have series where this sink is configured.
    pub fn words_with(&self, sink: SinkKind) -> Vec<&'static str> {
        match self.name {
            "sink" => vec![sink.as_str()],
            _ => (self.words)(),
        }
    }
}

impl Metric {
    /// The base unit, as the name tells it: `seconds`, `bytes` or nothing.
    pub fn unit(&self) -> &'static str {
        let stem = self.name.strip_suffix("_total").unwrap_or(self.name);
        ["seconds", "bytes"].into_iter().find(|unit| stem.ends_with(unit)).unwrap_or("")
    }

    /// How many series of the page it makes, buckets included.
    pub fn series(&self) -> usize {
        let words = |label: &Label| label.words_with(SinkKind::Folder).len();
        let combinations: usize = self.labels.iter().map(words).product();
        combinations
            * match self.kind {
                Kind::Counter | Kind::Gauge => 1,
                Kind::Histogram(bounds) => bounds.len() + 3,
            }
    }
}

/// 10 µs to 1 s: one step of one file.
pub const STEP_BUCKETS: &[f64] =
    &[0.000_01, 0.000_05, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0];

/// 0.5 ms to 60 s: sighting to durable outcome; dense around the promised 3 ms.
pub const INTENT_BUCKETS: &[f64] = &[
    0.000_5, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// 5 ms to 60 s: one attempt at a sink, and the end-to-end time of the dashboards' own histogram.
pub const LONG_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// 1 to 256 rows: one group commit.
pub const ROW_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

macro_rules! label {
    ($name:literal, $set:ident) => {
        Label { name: $name, words: || $set::ALL.iter().map(|word| word.as_str()).collect() }
    };
}

const SINK: Label = label!("sink", SinkKind);

/// The reasons with which a file can be refused.
const REFUSAL: Label = Label {
    name: "reason",
    words: || Reason::ALL.iter().filter(|reason| reason.refuses()).map(|reason| reason.as_str()).collect(),
};

/// What the build was told about itself; `unknown` where it was not.
const BUILD: &[Label] = &[
    Label { name: "version", words: || vec![env!("CARGO_PKG_VERSION")] },
    Label { name: "revision", words: || vec![option_env!("CONDUCTOR_LOOP_REVISION").unwrap_or("unknown")] },
    Label { name: "rustc", words: || vec![option_env!("CONDUCTOR_LOOP_RUSTC").unwrap_or("unknown")] },
];

macro_rules! table {
    ($(#[$meta:meta])* $table:ident: $($id:ident = $name:literal, $kind:expr, $labels:expr, $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $id: Metric = Metric { name: $name, kind: $kind, labels: $labels, help: $help };
        )+
        $(#[$meta])*
        pub const $table: &[Metric] = &[$($id,)+];
    };
}

use Kind::{Counter, Gauge, Histogram};

table! {
    /// Everything that the stages feed.
    PIPELINE:
    BUILD_INFO = "conductor_loop_build_info", Gauge, BUILD,
        "Always 1; the labels tell what was built.";
    FILES_SEEN = "conductor_loop_files_seen_total", Counter, &[label!("source", Source)],
        "Files noticed, by a kernel event or a directory scan.";
    ACCEPTED = "conductor_loop_accepted_total", Counter, &[],
        "Files whose acceptance is durable, refused ones included.";
    INTENTS = "conductor_loop_intents_total", Counter, &[label!("fate", Fate)],
        "Accepted files that reached their final fate.";
    REFUSED = "conductor_loop_refused_total", Counter, &[REFUSAL],
        "Refused files, by reason.";
    PENDING = "conductor_loop_pending_intents", Gauge, &[label!("priority", PriorityBand)],
        "Accepted intents without a final fate.";
    OLDEST_PENDING = "conductor_loop_oldest_pending_seconds", Gauge, &[],
        "Age of the oldest accepted intent without a final fate; 0 if there is none.";
    UNACCOUNTED = "conductor_loop_unaccounted_intents", Gauge, &[],
        "Accept rows less outcome rows less pending intents; must be 0.";
    QUEUE_DEPTH = "conductor_loop_queue_depth", Gauge, &[label!("lane", Lane)],
        "Tickets waiting for a worker.";
    QUEUE_CAPACITY = "conductor_loop_queue_capacity", Gauge, &[label!("lane", Lane)],
        "Tickets that a lane can hold.";
    STAGE_DURATION = "conductor_loop_stage_duration_seconds", Histogram(STEP_BUCKETS), &[label!("stage", Stage)],
        "Time that one file spent in one step.";
    INTENT_DURATION = "conductor_loop_intent_duration_seconds", Histogram(INTENT_BUCKETS), &[],
        "Time from sighting to durable outcome.";
    SUBMISSIONS = "conductor_loop_submissions_total", Counter, &[SINK, label!("outcome", SubmitResult)],
        "Attempts at the sink, by outcome.";
    SUBMIT_DURATION = "conductor_loop_submit_seconds", Histogram(LONG_BUCKETS), &[SINK],
        "Time of one attempt at the sink, for each intent of its group.";
    RETRIES = "conductor_loop_retries_total", Counter, &[SINK, label!("class", RetryClass)],
        "Attempts that have to be repeated, by class of the trouble.";
    SINK_UP = "conductor_loop_sink_up", Gauge, &[SINK],
        "1 unless the newest look at the sink, or attempt at it, found trouble.";
    ADOPTED = "conductor_loop_adopted_total", Counter, &[],
        "Deliveries found already there, applied by an earlier attempt.";
    CIRCUIT = "conductor_loop_circuit_state", Gauge, &[SINK],
        "Breaker of the sink: 0 closed, 1 half-open, 2 open.";
    WATCH_HEALTHY = "conductor_loop_watch_healthy", Gauge, &[],
        "1 while the watched folder is there and watched.";
    WATCH_MODE = "conductor_loop_watch_mode", Gauge, &[label!("mode", WatchMethod)],
        "1 for the way in which the folder is watched.";
    WATCH_OVERFLOWS = "conductor_loop_watch_overflows_total", Counter, &[],
        "Overflows of the kernel's event queue; each is followed by a rescan.";
    RESCANS = "conductor_loop_rescans_total", Counter, &[label!("cause", Cause)],
        "Scans of the watched folder, by cause.";
    LEDGER_COMMITS = "conductor_loop_ledger_commits_total", Counter, &[],
        "Group commits of the ledger.";
    LEDGER_ROWS = "conductor_loop_ledger_commit_rows", Histogram(ROW_BUCKETS), &[],
        "Rows in one group commit.";
    FSYNC = "conductor_loop_fsync_seconds", Histogram(STEP_BUCKETS), &[],
        "Time of one group commit, flush included.";
    LEDGER_BYTES = "conductor_loop_ledger_bytes", Gauge, &[],
        "Size of the ledger on disk.";
    DISK_FREE = "conductor_loop_disk_free_bytes", Gauge, &[label!("dir", Volume)],
        "Free space of the file systems that the daemon writes to.";
    UNFILED = "conductor_loop_unfiled", Gauge, &[],
        "Files with a durable outcome whose status or archive is still to be written.";
    STUCK_FILES = "conductor_loop_stuck_files", Gauge, &[],
        "Settled originals that cannot be moved out of the watched folder.";
    DEGRADED = "conductor_loop_degraded", Gauge, &[label!("reason", Check)],
        "1 while this check of readiness fails; sink is told and makes nothing unready.";
    FAULTS = "conductor_loop_faults_total", Counter, &[label!("fault", FaultKind)],
        "Trouble of the surroundings, by kind.";
    PANICS = "conductor_loop_panics_total", Counter, &[],
        "Panics caught in a worker or at the sink; each cost one attempt.";
    SANDBOX_LEVEL = "conductor_loop_sandbox_level", Gauge, &[],
        "Landlock ABI by which this process has restricted itself; 0 if it has not.";
    RELOADS = "conductor_loop_config_reloads_total", Counter, &[label!("result", ReloadResult)],
        "Reloads of the configuration, by what they came to.";
    RELOAD_OK = "conductor_loop_config_last_reload_successful", Gauge, &[],
        "1 if the newest attempt to load the configuration succeeded.";
    RELOAD_TIME = "conductor_loop_config_last_reload_success_timestamp_seconds", Gauge, &[],
        "When the configuration was last loaded, seconds since 1970.";
    DROPPED_LINES = "conductor_loop_dropped_log_lines_total", Counter, &[],
        "Log lines lost because the log could not take them.";
    SUPPRESSED_LINES = "conductor_loop_log_suppressed_total", Counter, &[],
        "Log lines left out by the ceiling on lines of one kind.";
    HTTP_REJECTED = "conductor_loop_http_rejected_total", Counter, &[label!("code", HttpCode)],
        "HTTP requests turned away, by status code.";
    THROUGHPUT = "conductor_loop_throughput_files_per_second", Gauge, &[],
        "Files settled per second, mean of the last 10 s.";
    FILES_PROCESSED = "conductor_files_processed_total", Counter, &[],
        "Files that ended delivered, duplicate or superseded.";
    FILES_FAILED = "conductor_files_failed_total", Counter, &[],
        "Files that ended refused or expired.";
    PROCESSING_DURATION = "conductor_processing_duration_seconds", Histogram(LONG_BUCKETS), &[],
        "Time from sighting to durable outcome.";
    ACTIVE_WORKERS = "conductor_active_workers", Gauge, &[],
        "Workers that hold a file.";
    QUEUE_SIZE = "conductor_queue_size", Gauge, &[],
        "Tickets waiting for a worker, all lanes.";
}

table! {
    /// Read from the kernel while the page is made (`process.rs`).
    PROCESS:
    PROCESS_CPU = "process_cpu_seconds_total", Counter, &[],
        "Total user and system CPU time spent in seconds.";
    PROCESS_OPEN_FDS = "process_open_fds", Gauge, &[],
        "Number of open file descriptors.";
    PROCESS_MAX_FDS = "process_max_fds", Gauge, &[],
        "Maximum number of open file descriptors.";
    PROCESS_VIRTUAL = "process_virtual_memory_bytes", Gauge, &[],
        "Virtual memory size in bytes.";
    PROCESS_VIRTUAL_MAX = "process_virtual_memory_max_bytes", Gauge, &[],
        "Maximum amount of virtual memory available in bytes.";
    PROCESS_RESIDENT = "process_resident_memory_bytes", Gauge, &[],
        "Resident memory size in bytes.";
    PROCESS_START = "process_start_time_seconds", Gauge, &[],
        "Start time of the process since unix epoch in seconds.";
    PROCESS_THREADS = "process_threads", Gauge, &[],
        "Number of OS threads in the process.";
    OPEN_FDS = "conductor_loop_open_fds", Gauge, &[],
        "Number of open file descriptors.";
    START_TIME = "conductor_loop_start_time_seconds", Gauge, &[],
        "Start time of the daemon, seconds since 1970.";
}

/// Every metric of the page.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    PIPELINE.iter().chain(PROCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_follow_the_conventions() {
        let mut names = HashSet::new();
        for metric in all() {
            let name = metric.name;
            assert!(names.insert(name), "{name} stands twice");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            assert!(metric.help.ends_with('.') && !metric.help.contains('\n'), "{name}");
        }
    }

    #[test]
    fn buckets_rise_strictly() {
        for buckets in [STEP_BUCKETS, INTENT_BUCKETS, LONG_BUCKETS, ROW_BUCKETS] {
            assert!(buckets.windows(2).all(|pair| pair[0] < pair[1]));
        }
        assert!(LONG_BUCKETS.iter().all(|bound| INTENT_BUCKETS.contains(bound)), "one refines the other");
    }

    #[test]
    fn there_are_fewer_than_three_hundred_series() {
        let series: usize = all().map(Metric::series).sum();
        assert!(series < 300, "{series}");
    }

    #[test]
    fn the_unit_is_read_off_the_name() {
        assert_eq!(PROCESS_CPU.unit(), "seconds");
        assert_eq!(LEDGER_BYTES.unit(), "bytes");
        assert_eq!(UNFILED.unit(), "");
        assert_eq!(THROUGHPUT.unit(), "", "files per second is not a duration");
    }
}
