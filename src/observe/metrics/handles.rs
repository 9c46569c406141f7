//! The handles of all series, taken from a recorder once.

use metrics::{Counter, Gauge, Histogram, Key, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

use crate::observe::names::{self, Kind, Metric};

static METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// One handle a series, in the order of the label's words.
pub(super) struct Handles {
    pub(super) seen: Vec<Counter>,
    pub(super) accepted: Counter,
    pub(super) intents: Vec<Counter>,
    pub(super) refused: Vec<Counter>,
    pub(super) pending: Vec<Gauge>,
    pub(super) oldest_pending: Gauge,
    pub(super) unaccounted: Gauge,
    pub(super) queue_depth: Vec<Gauge>,
    pub(super) queue_capacity: Vec<Gauge>,
    pub(super) stage_duration: Vec<Histogram>,
    pub(super) intent_duration: Histogram,
    pub(super) submissions: Vec<Counter>,
    pub(super) adopted: Counter,
    pub(super) circuit: Vec<Gauge>,
    pub(super) sink_limit: Vec<Gauge>,
    pub(super) watch_healthy: Gauge,
    pub(super) watch_mode: Vec<Gauge>,
    pub(super) watch_overflows: Counter,
    pub(super) rescans: Vec<Counter>,
    pub(super) ledger_commits: Counter,
    pub(super) ledger_rows: Histogram,
    pub(super) fsync: Histogram,
    pub(super) ledger_bytes: Gauge,
    pub(super) disk_free: Vec<Gauge>,
    pub(super) unfiled: Gauge,
    pub(super) stuck_files: Gauge,
    pub(super) faults: Vec<Counter>,
    pub(super) panics: Counter,
    pub(super) reload_ok: Gauge,
    pub(super) reload_time: Gauge,
    pub(super) dropped_lines: Counter,
    pub(super) suppressed_lines: Counter,
    pub(super) http_rejected: Vec<Counter>,
    pub(super) throughput: Gauge,
    pub(super) files_processed: Counter,
    pub(super) files_failed: Counter,
    pub(super) processing_duration: Histogram,
    pub(super) active_workers: Gauge,
    pub(super) queue_size: Gauge,
}

impl Handles {
    /// Describes and registers every metric of the table.
    pub(super) fn register(to: &PrometheusRecorder) -> Self {
        gauges(to, &names::BUILD_INFO).iter().for_each(|build| build.set(1.0));
        Handles {
            seen: counters(to, &names::FILES_SEEN),
            accepted: counter(to, &names::ACCEPTED),
            intents: counters(to, &names::INTENTS),
            refused: counters(to, &names::REFUSED),
            pending: gauges(to, &names::PENDING),
            oldest_pending: gauge(to, &names::OLDEST_PENDING),
            unaccounted: gauge(to, &names::UNACCOUNTED),
            queue_depth: gauges(to, &names::QUEUE_DEPTH),
            queue_capacity: gauges(to, &names::QUEUE_CAPACITY),
            stage_duration: histograms(to, &names::STAGE_DURATION),
            intent_duration: histogram(to, &names::INTENT_DURATION),
            submissions: counters(to, &names::SUBMISSIONS),
            adopted: counter(to, &names::ADOPTED),
            circuit: gauges(to, &names::CIRCUIT),
            sink_limit: gauges(to, &names::SINK_LIMIT),
            watch_healthy: gauge(to, &names::WATCH_HEALTHY),
            watch_mode: gauges(to, &names::WATCH_MODE),
            watch_overflows: counter(to, &names::WATCH_OVERFLOWS),
            rescans: counters(to, &names::RESCANS),
            ledger_commits: counter(to, &names::LEDGER_COMMITS),
            ledger_rows: histogram(to, &names::LEDGER_ROWS),
            fsync: histogram(to, &names::FSYNC),
            ledger_bytes: gauge(to, &names::LEDGER_BYTES),
            disk_free: gauges(to, &names::DISK_FREE),
            unfiled: gauge(to, &names::UNFILED),
            stuck_files: gauge(to, &names::STUCK_FILES),
            faults: counters(to, &names::FAULTS),
            panics: counter(to, &names::PANICS),
            reload_ok: gauge(to, &names::RELOAD_OK),
            reload_time: gauge(to, &names::RELOAD_TIME),
            dropped_lines: counter(to, &names::DROPPED_LINES),
            suppressed_lines: counter(to, &names::SUPPRESSED_LINES),
            http_rejected: counters(to, &names::HTTP_REJECTED),
            throughput: gauge(to, &names::THROUGHPUT),
            files_processed: counter(to, &names::FILES_PROCESSED),
            files_failed: counter(to, &names::FILES_FAILED),
            processing_duration: histogram(to, &names::PROCESSING_DURATION),
            active_workers: gauge(to, &names::ACTIVE_WORKERS),
            queue_size: gauge(to, &names::QUEUE_SIZE),
        }
    }
}

/// One key for every combination of the label words, the last label changing fastest.
fn keys(metric: &Metric) -> Vec<Key> {
    let mut combinations = vec![Vec::new()];
    for label in metric.labels {
        let words = (label.words)();
        combinations = combinations
            .into_iter()
            .flat_map(|so_far| words.iter().map(move |&word| [&so_far[..], &[(label.name, word)]].concat()))
            .collect();
    }
    combinations
        .into_iter()
        .map(|pairs| Key::from_parts(metric.name, pairs.iter().map(metrics::Label::from).collect::<Vec<_>>()))
        .collect()
}

fn counters(to: &PrometheusRecorder, metric: &Metric) -> Vec<Counter> {
    to.describe_counter(metric.name.into(), None, metric.help.into());
    keys(metric).iter().map(|key| to.register_counter(key, &METADATA)).collect()
}

fn gauges(to: &PrometheusRecorder, metric: &Metric) -> Vec<Gauge> {
    to.describe_gauge(metric.name.into(), None, metric.help.into());
    keys(metric).iter().map(|key| to.register_gauge(key, &METADATA)).collect()
}

fn histograms(to: &PrometheusRecorder, metric: &Metric) -> Vec<Histogram> {
    to.describe_histogram(metric.name.into(), None, metric.help.into());
    keys(metric).iter().map(|key| to.register_histogram(key, &METADATA)).collect()
}

fn counter(to: &PrometheusRecorder, metric: &Metric) -> Counter {
    counters(to, metric).swap_remove(0)
}

fn gauge(to: &PrometheusRecorder, metric: &Metric) -> Gauge {
    gauges(to, metric).swap_remove(0)
}

fn histogram(to: &PrometheusRecorder, metric: &Metric) -> Histogram {
    histograms(to, metric).swap_remove(0)
}

/// A recorder with the buckets of the table.
pub(super) fn recorder() -> PrometheusRecorder {
    names::PIPELINE
        .iter()
        .fold(PrometheusBuilder::new(), |builder, metric| match metric.kind {
            Kind::Histogram(bounds) => builder
                .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), bounds)
                .expect("no histogram of the table is without buckets"),
            Kind::Counter | Kind::Gauge => builder,
        })
        .build_recorder()
}
