//! The handles of all series, taken from a recorder once.

use metrics::{Counter, Gauge, Histogram, Key, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

use crate::fate::SinkKind;
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
    pub(super) submit_duration: Histogram,
    pub(super) retries: Vec<Counter>,
    pub(super) sink_up: Gauge,
    pub(super) adopted: Counter,
    pub(super) circuit: Gauge,
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
    pub(super) degraded: Vec<Gauge>,
    pub(super) faults: Vec<Counter>,
    pub(super) panics: Counter,
    pub(super) sandbox_level: Gauge,
    pub(super) reloads: Vec<Counter>,
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
    /// Describes and registers every metric of the table, for this sink.
    pub(super) fn register(recorder: &PrometheusRecorder, sink: SinkKind) -> Self {
        let to = &Table { recorder, sink };
        to.gauges(&names::BUILD_INFO).iter().for_each(|build| build.set(1.0));
        Handles {
            seen: to.counters(&names::FILES_SEEN),
            accepted: to.counter(&names::ACCEPTED),
            intents: to.counters(&names::INTENTS),
            refused: to.counters(&names::REFUSED),
            pending: to.gauges(&names::PENDING),
            oldest_pending: to.gauge(&names::OLDEST_PENDING),
            unaccounted: to.gauge(&names::UNACCOUNTED),
            queue_depth: to.gauges(&names::QUEUE_DEPTH),
            queue_capacity: to.gauges(&names::QUEUE_CAPACITY),
            stage_duration: to.histograms(&names::STAGE_DURATION),
            intent_duration: to.histogram(&names::INTENT_DURATION),
            submissions: to.counters(&names::SUBMISSIONS),
            submit_duration: to.histogram(&names::SUBMIT_DURATION),
            retries: to.counters(&names::RETRIES),
            sink_up: to.gauge(&names::SINK_UP),
            adopted: to.counter(&names::ADOPTED),
            circuit: to.gauge(&names::CIRCUIT),
            watch_healthy: to.gauge(&names::WATCH_HEALTHY),
            watch_mode: to.gauges(&names::WATCH_MODE),
            watch_overflows: to.counter(&names::WATCH_OVERFLOWS),
            rescans: to.counters(&names::RESCANS),
            ledger_commits: to.counter(&names::LEDGER_COMMITS),
            ledger_rows: to.histogram(&names::LEDGER_ROWS),
            fsync: to.histogram(&names::FSYNC),
            ledger_bytes: unmeasured(to.gauge(&names::LEDGER_BYTES)),
            disk_free: to.gauges(&names::DISK_FREE).into_iter().map(unmeasured).collect(),
            unfiled: to.gauge(&names::UNFILED),
            stuck_files: to.gauge(&names::STUCK_FILES),
            degraded: to.gauges(&names::DEGRADED),
            faults: to.counters(&names::FAULTS),
            panics: to.counter(&names::PANICS),
            sandbox_level: to.gauge(&names::SANDBOX_LEVEL),
            reloads: to.counters(&names::RELOADS),
            reload_ok: to.gauge(&names::RELOAD_OK),
            reload_time: to.gauge(&names::RELOAD_TIME),
            dropped_lines: to.counter(&names::DROPPED_LINES),
            suppressed_lines: to.counter(&names::SUPPRESSED_LINES),
            http_rejected: to.counters(&names::HTTP_REJECTED),
            throughput: to.gauge(&names::THROUGHPUT),
            files_processed: to.counter(&names::FILES_PROCESSED),
            files_failed: to.counter(&names::FILES_FAILED),
            processing_duration: to.histogram(&names::PROCESSING_DURATION),
            active_workers: to.gauge(&names::ACTIVE_WORKERS),
            queue_size: to.gauge(&names::QUEUE_SIZE),
        }
    }
}

/// A gauge without a value until there is one; such a series is left out of the page.
fn unmeasured(gauge: Gauge) -> Gauge {
    gauge.set(f64::NAN);
    gauge
}

/// Where the table is registered.
struct Table<'a> {
    recorder: &'a PrometheusRecorder,
    /// The one word of every label `sink`.
    sink: SinkKind,
}

impl Table<'_> {
    /// One key for every combination of the label words, the last label changing fastest.
    fn keys(&self, metric: &Metric) -> Vec<Key> {
        let mut combinations = vec![Vec::new()];
        for label in metric.labels {
            let words = label.words_with(self.sink);
            combinations = combinations
                .into_iter()
                .flat_map(|so_far| {
                    words.iter().map(move |&word| [&so_far[..], &[(label.name, word)]].concat())
                })
                .collect();
        }
        let labels = |pairs: Vec<_>| pairs.iter().map(metrics::Label::from).collect::<Vec<_>>();
        combinations.into_iter().map(|pairs| Key::from_parts(metric.name, labels(pairs))).collect()
    }

    fn counters(&self, metric: &Metric) -> Vec<Counter> {
        self.recorder.describe_counter(metric.name.into(), None, metric.help.into());
        self.keys(metric).iter().map(|key| self.recorder.register_counter(key, &METADATA)).collect()
    }

    fn gauges(&self, metric: &Metric) -> Vec<Gauge> {
        self.recorder.describe_gauge(metric.name.into(), None, metric.help.into());
        self.keys(metric).iter().map(|key| self.recorder.register_gauge(key, &METADATA)).collect()
    }

    fn histograms(&self, metric: &Metric) -> Vec<Histogram> {
        self.recorder.describe_histogram(metric.name.into(), None, metric.help.into());
        self.keys(metric).iter().map(|key| self.recorder.register_histogram(key, &METADATA)).collect()
    }

    fn counter(&self, metric: &Metric) -> Counter {
        self.counters(metric).swap_remove(0)
    }

    fn gauge(&self, metric: &Metric) -> Gauge {
        self.gauges(metric).swap_remove(0)
    }

    fn histogram(&self, metric: &Metric) -> Histogram {
        self.histograms(metric).swap_remove(0)
    }
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
