use std::collections::{HashMap, HashSet};

use super::*;
use crate::observe::Health;
use crate::observe::names::{self, DISK_FREE, Kind, LEDGER_BYTES, Metric};

/// The samples of a page by series, `name{labels}`, after a strict look at its form.
pub(in crate::observe) fn lint(page: &str) -> HashMap<String, f64> {
    assert!(page.ends_with('\n') && !page.contains("\n\n") && !page.contains('\r'));
    let mut samples = HashMap::new();
    let mut family = ("", "");
    let mut described = HashSet::new();
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect("HELP has a text");
            assert!(described.insert(name), "{name} is described twice");
            assert!(!text.is_empty());
            family = (name, "");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("TYPE has a type");
            assert_eq!(name, family.0, "TYPE follows its HELP");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            family.1 = kind;
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
            let name = series.split('{').next().expect("a sample has a name");
            let stem = match family.1 {
                "histogram" => ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)),
                "" => None,
                _ => Some(name),
            };
            assert_eq!(stem, Some(family.0), "{line} stands under {}", family.0);
            let value = value.parse().expect("a value is a number");
            assert!(samples.insert(series.to_owned(), value).is_none(), "{series} stands twice");
        }
    }
    samples
}

/// Series of a new table that have no value yet: the ledger's size and the free space of three file systems.
pub(in crate::observe) const UNMEASURED: usize = 4;

#[test]
fn every_series_of_the_table_is_there_before_anything_happened() {
    let page = Metrics::new().render();
    let samples = lint(&page);
    for metric in names::all() {
        let name = metric.name;
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        let told = page.contains(&format!("# HELP {name} {}\n# TYPE {name} {kind}\n", metric.help));
        assert_eq!(told, ![LEDGER_BYTES.name, DISK_FREE.name].contains(&name), "{name}");
    }
    assert_eq!(samples.len() + UNMEASURED, names::all().map(Metric::series).sum::<usize>());
    assert!(!page.contains("quantile="));
    let busy = samples
        .iter()
        .filter(|(series, value)| **value != 0.0 && !series.starts_with("process_"))
        .map(|(series, _)| series.split('{').next().expect("a name"))
        .collect::<Vec<_>>();
    let busy: HashSet<&str> = busy.into_iter().collect();
    let facts = ["conductor_loop_build_info", "conductor_loop_open_fds", "conductor_loop_start_time_seconds"];
    assert_eq!(busy, HashSet::from(facts), "all else begins at 0");
}

#[test]
fn the_names_and_labels_of_the_contract_are_spelled_as_it_says() {
    let samples = lint(&Metrics::new().render());
    for series in [
        "conductor_loop_files_seen_total{source=\"scan\"}",
        "conductor_loop_accepted_total",
        "conductor_loop_intents_total{fate=\"superseded\"}",
        "conductor_loop_refused_total{reason=\"json-duplicate-key\"}",
        "conductor_loop_pending_intents{priority=\"normal\"}",
        "conductor_loop_oldest_pending_seconds",
        "conductor_loop_unaccounted_intents",
        "conductor_loop_queue_depth{lane=\"fresh\"}",
        "conductor_loop_queue_capacity{lane=\"large\"}",
        "conductor_loop_stage_duration_seconds_bucket{stage=\"commit\",le=\"0.00001\"}",
        "conductor_loop_stage_duration_seconds_bucket{stage=\"settle\",le=\"+Inf\"}",
        "conductor_loop_intent_duration_seconds_count",
        "conductor_loop_submissions_total{sink=\"folder\",outcome=\"rejected\"}",
        "conductor_loop_circuit_state{sink=\"folder\"}",
        "conductor_loop_watch_healthy",
        "conductor_loop_watch_overflows_total",
        "conductor_loop_rescans_total{cause=\"queue-full\"}",
        "conductor_loop_ledger_commits_total",
        "conductor_loop_ledger_commit_rows_bucket{le=\"256\"}",
        "conductor_loop_config_reloads_total{result=\"failed\"}",
        "conductor_loop_config_last_reload_successful",
        "conductor_loop_config_last_reload_success_timestamp_seconds",
        "conductor_loop_dropped_log_lines_total",
        "conductor_loop_faults_total{fault=\"hot-folder-gone\"}",
        "conductor_loop_throughput_files_per_second",
        "conductor_files_processed_total",
        "conductor_files_failed_total",
        "conductor_processing_duration_seconds_bucket{le=\"0.005\"}",
        "conductor_active_workers",
        "conductor_queue_size",
        "process_cpu_seconds_total",
    ] {
        assert!(samples.contains_key(series), "{series} is missing");
    }
    assert!(samples.keys().any(|series| series.starts_with(concat!(
        "conductor_loop_build_info{version=\"",
        env!("CARGO_PKG_VERSION"),
        "\",revision="
    ))));
}

#[test]
fn what_is_fed_is_what_is_shown() {
    let metrics = Metrics::new();
    metrics.seen(Source::Scan, 7);
    metrics.accepted(4);
    metrics.ended(Fate::Delivered, None);
    metrics.ended(Fate::Duplicate, None);
    metrics.ended(Fate::Refused, Some(Reason::Schema));
    metrics.ended(Fate::Expired, Some(Reason::Expired));
    metrics.intent_duration(Duration::from_millis(2));
    metrics.stage(Stage::Submit, Duration::from_secs(3));
    metrics.worker_busy(true);
    metrics.worker_busy(true);
    metrics.worker_busy(false);
    metrics.queue(Lane::Fresh, 3);
    metrics.queue(Lane::Large, 2);
    metrics.queue(Lane::Fresh, 1);
    metrics.submission(SubmitResult::Retry, Duration::from_millis(7));
    metrics.retry(RetryClass::Throttled);
    metrics.circuit(Circuit::Open);
    metrics.watch_mode(WatchMethod::Poll);
    metrics.rescan(Cause::Signal);
    metrics.commit(5, Duration::from_micros(700));
    metrics.fault(FaultKind::DirReplaced);
    metrics.pending([1, 2, 3]);
    metrics.oldest_pending(Some(Duration::from_millis(1500)));
    metrics.unaccounted(-1);
    metrics.config_refused();
    metrics.config_reloaded(Wall(12_900_000_000));
    metrics.log_lines(9, 8);
    metrics.http_rejected(HttpCode::Slow);
    let samples = lint(&metrics.render());
    for (series, value) in [
        ("conductor_loop_files_seen_total{source=\"event\"}", 0.0),
        ("conductor_loop_files_seen_total{source=\"scan\"}", 7.0),
        ("conductor_loop_accepted_total", 4.0),
        ("conductor_loop_intents_total{fate=\"expired\"}", 1.0),
        ("conductor_loop_refused_total{reason=\"schema\"}", 1.0),
        ("conductor_files_processed_total", 2.0),
        ("conductor_files_failed_total", 2.0),
        ("conductor_loop_intent_duration_seconds_bucket{le=\"0.001\"}", 0.0),
        ("conductor_loop_intent_duration_seconds_bucket{le=\"0.003\"}", 1.0),
        ("conductor_processing_duration_seconds_count", 1.0),
        ("conductor_loop_stage_duration_seconds_bucket{stage=\"submit\",le=\"1\"}", 0.0),
        ("conductor_loop_stage_duration_seconds_bucket{stage=\"submit\",le=\"+Inf\"}", 1.0),
        ("conductor_active_workers", 1.0),
        ("conductor_loop_queue_depth{lane=\"fresh\"}", 1.0),
        ("conductor_queue_size", 3.0),
        ("conductor_loop_submissions_total{sink=\"folder\",outcome=\"retry\"}", 1.0),
        ("conductor_loop_submit_seconds_bucket{sink=\"folder\",le=\"0.005\"}", 0.0),
        ("conductor_loop_submit_seconds_bucket{sink=\"folder\",le=\"0.01\"}", 1.0),
        ("conductor_loop_retries_total{sink=\"folder\",class=\"throttled\"}", 1.0),
        ("conductor_loop_circuit_state{sink=\"folder\"}", 2.0),
        ("conductor_loop_watch_mode{mode=\"inotify\"}", 0.0),
        ("conductor_loop_watch_mode{mode=\"poll\"}", 1.0),
        ("conductor_loop_rescans_total{cause=\"signal\"}", 1.0),
        ("conductor_loop_ledger_commits_total", 1.0),
        ("conductor_loop_ledger_commit_rows_sum", 5.0),
        ("conductor_loop_fsync_seconds_bucket{le=\"0.001\"}", 1.0),
        ("conductor_loop_faults_total{fault=\"dir-replaced\"}", 1.0),
        ("conductor_loop_pending_intents{priority=\"high\"}", 3.0),
        ("conductor_loop_oldest_pending_seconds", 1.5),
        ("conductor_loop_unaccounted_intents", -1.0),
        ("conductor_loop_config_reloads_total{result=\"ok\"}", 1.0),
        ("conductor_loop_config_reloads_total{result=\"failed\"}", 1.0),
        ("conductor_loop_config_last_reload_successful", 1.0),
        ("conductor_loop_config_last_reload_success_timestamp_seconds", 12.0),
        ("conductor_loop_dropped_log_lines_total", 9.0),
        ("conductor_loop_log_suppressed_total", 8.0),
        ("conductor_loop_http_rejected_total{code=\"408\"}", 1.0),
    ] {
        assert_eq!(samples.get(series), Some(&value), "{series}");
    }
}

#[test]
fn readiness_is_told_check_by_check() {
    let (metrics, health) = (Metrics::new(), Health::new());
    health.started();
    health.set(Check::Sink, Err("sink-unavailable".to_owned()));
    metrics.readiness(&health.readiness(Mono(1)));
    let samples = lint(&metrics.render());
    assert_eq!(samples["conductor_loop_sink_up{sink=\"folder\"}"], 0.0);
    assert_eq!(samples["conductor_loop_degraded{reason=\"sink\"}"], 1.0);
    assert_eq!(samples["conductor_loop_degraded{reason=\"ledger\"}"], 0.0);
    health.set(Check::Sink, Ok(()));
    metrics.readiness(&health.readiness(Mono(1)));
    let samples = lint(&metrics.render());
    assert_eq!(samples["conductor_loop_sink_up{sink=\"folder\"}"], 1.0);
    assert_eq!(samples["conductor_loop_degraded{reason=\"sink\"}"], 0.0);
}

#[test]
fn a_fact_is_on_the_page_from_when_it_was_measured() {
    let metrics = Metrics::new();
    metrics.disk_free(Volume::Out, 0);
    let samples = lint(&metrics.render());
    assert_eq!(samples["conductor_loop_disk_free_bytes{dir=\"out\"}"], 0.0);
    assert!(!samples.contains_key("conductor_loop_disk_free_bytes{dir=\"state\"}"));
}

#[test]
fn every_refusal_is_counted_under_a_word_that_can_refuse() {
    let metrics = Metrics::new();
    Reason::ALL.iter().for_each(|&reason| metrics.ended(Fate::Refused, Some(reason)));
    let samples = lint(&metrics.render());
    let refused: Vec<_> =
        samples.iter().filter(|(name, _)| name.starts_with("conductor_loop_refused")).collect();
    assert_eq!(refused.iter().map(|(_, count)| **count).sum::<f64>(), Reason::ALL.len() as f64);
    assert!(refused.iter().all(|(_, count)| **count >= 1.0));
    assert!(!samples.contains_key("conductor_loop_refused_total{reason=\"sink-throttled\"}"));
}

#[test]
fn two_tables_in_one_process_do_not_share_counters() {
    let (one, other) = (Metrics::new(), Metrics::new());
    one.accepted(1);
    one.fault(FaultKind::Vanished);
    assert_eq!(other.totals(), Totals::default());
    assert!(lint(&other.render())["conductor_loop_faults_total{fault=\"vanished\"}"] == 0.0);
}

#[test]
fn two_pages_without_news_between_are_in_the_same_order() {
    let metrics = Metrics::new();
    let series = |page: String| {
        page.lines().map(|line| line.split(' ').next().expect("a word").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(series(metrics.render()), series(metrics.render()));
}

#[test]
fn throughput_is_the_mean_of_the_last_ten_seconds() {
    let second = |n: u64| Mono(1 + n * 1_000_000_000);
    let metrics = Metrics::new();
    metrics.tick(second(0));
    assert_eq!(metrics.pace(), Pace::default());
    for n in 1..=5 {
        (0..100).for_each(|_| metrics.ended(Fate::Delivered, None));
        metrics.tick(second(n));
    }
    assert_eq!(metrics.pace().throughput, 100.0, "a young process divides by its age");
    for n in 6..=10 {
        metrics.tick(second(n));
    }
    assert_eq!(metrics.pace().throughput, 50.0);
    for n in 11..=15 {
        metrics.tick(second(n));
    }
    assert_eq!(metrics.pace().throughput, 0.0);
    assert_eq!(lint(&metrics.render())["conductor_loop_throughput_files_per_second"], 0.0);
}

#[test]
fn a_tick_at_the_same_moment_divides_by_nothing() {
    let metrics = Metrics::new();
    metrics.tick(Mono(5));
    metrics.tick(Mono(5));
    assert_eq!(metrics.pace(), Pace::default());
}
