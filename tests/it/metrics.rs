//! The metrics page: Prometheus' own tool likes it, the names of the contract are on it from the first
//! scrape, and no producer and no client makes it longer (M03).

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::process::Command;

use conductor_loop::observe::names::{self, Kind};

use crate::support::{Load, Node, PATIENCE, Place, Ran, request, scale};

/// What the contract lists, and the names that dashboards had before: type and labels.
const CONTRACT: &[(&str, &str, &[&str])] = &[
    ("conductor_loop_build_info", "gauge", &["version", "revision", "rustc"]),
    ("conductor_loop_files_seen_total", "counter", &["source"]),
    ("conductor_loop_accepted_total", "counter", &[]),
    ("conductor_loop_intents_total", "counter", &["fate"]),
    ("conductor_loop_refused_total", "counter", &["reason"]),
    ("conductor_loop_pending_intents", "gauge", &["priority"]),
    ("conductor_loop_oldest_pending_seconds", "gauge", &[]),
    ("conductor_loop_unaccounted_intents", "gauge", &[]),
    ("conductor_loop_queue_depth", "gauge", &["lane"]),
    ("conductor_loop_queue_capacity", "gauge", &["lane"]),
    ("conductor_loop_stage_duration_seconds", "histogram", &["stage"]),
    ("conductor_loop_intent_duration_seconds", "histogram", &[]),
    ("conductor_loop_submissions_total", "counter", &["sink", "outcome"]),
    ("conductor_loop_circuit_state", "gauge", &["sink"]),
    ("conductor_loop_watch_healthy", "gauge", &[]),
    ("conductor_loop_watch_overflows_total", "counter", &[]),
    ("conductor_loop_rescans_total", "counter", &["cause"]),
    ("conductor_loop_ledger_commits_total", "counter", &[]),
    ("conductor_loop_ledger_commit_rows", "histogram", &[]),
    ("conductor_loop_config_last_reload_successful", "gauge", &[]),
    ("conductor_loop_config_last_reload_success_timestamp_seconds", "gauge", &[]),
    ("conductor_loop_dropped_log_lines_total", "counter", &[]),
    ("conductor_loop_faults_total", "counter", &["fault"]),
    ("conductor_loop_start_time_seconds", "gauge", &[]),
    // The names that dashboards already use.
    ("conductor_loop_throughput_files_per_second", "gauge", &[]),
    ("conductor_files_processed_total", "counter", &[]),
    ("conductor_files_failed_total", "counter", &[]),
    ("conductor_processing_duration_seconds", "histogram", &[]),
    ("conductor_active_workers", "gauge", &[]),
    ("conductor_queue_size", "gauge", &[]),
    // What is exposed beyond those.
    ("conductor_loop_retries_total", "counter", &["sink", "class"]),
    ("conductor_loop_panics_total", "counter", &[]),
    ("conductor_loop_log_suppressed_total", "counter", &[]),
    ("conductor_loop_http_rejected_total", "counter", &["code"]),
    ("conductor_loop_adopted_total", "counter", &[]),
    ("conductor_loop_unfiled", "gauge", &[]),
    ("conductor_loop_stuck_files", "gauge", &[]),
    ("conductor_loop_sink_up", "gauge", &["sink"]),
    ("conductor_loop_ledger_bytes", "gauge", &[]),
    ("conductor_loop_disk_free_bytes", "gauge", &["dir"]),
    ("conductor_loop_open_fds", "gauge", &[]),
    ("conductor_loop_watch_mode", "gauge", &["mode"]),
    ("conductor_loop_degraded", "gauge", &["reason"]),
    ("conductor_loop_submit_seconds", "histogram", &["sink"]),
    ("conductor_loop_fsync_seconds", "histogram", &[]),
    ("conductor_loop_sandbox_level", "gauge", &[]),
    ("conductor_loop_config_reloads_total", "counter", &["result"]),
    // As Prometheus clients name them; those that /proc may hide are not asked for here.
    ("process_cpu_seconds_total", "counter", &[]),
    ("process_start_time_seconds", "gauge", &[]),
    ("process_max_fds", "gauge", &[]),
];

/// More that Prometheus clients tell of a process.
const PROCESS: [&str; 5] = [
    "process_open_fds",
    "process_virtual_memory_bytes",
    "process_virtual_memory_max_bytes",
    "process_resident_memory_bytes",
    "process_threads",
];

/// Labels whose words the contract lists; each stands on the page from the start.
const WORDS: [(&str, &str, &str); 13] = [
    ("conductor_loop_files_seen_total", "source", "event scan"),
    ("conductor_loop_intents_total", "fate", "delivered duplicate refused expired superseded"),
    ("conductor_loop_pending_intents", "priority", "low normal high"),
    ("conductor_loop_queue_depth", "lane", "fresh backlog large"),
    ("conductor_loop_queue_capacity", "lane", "fresh backlog large"),
    ("conductor_loop_stage_duration_seconds_count", "stage", "read validate commit submit settle"),
    ("conductor_loop_submissions_total", "outcome", "ok retry rejected"),
    ("conductor_loop_submissions_total", "sink", "folder"),
    ("conductor_loop_circuit_state", "sink", "folder"),
    ("conductor_loop_rescans_total", "cause", "start period overflow queue-full returned signal"),
    (
        "conductor_loop_refused_total",
        "reason",
        "empty too-large not-regular symlink hardlink unreadable unstable lease truncated-json json-syntax \
         json-encoding json-depth json-duplicate-key json-number json-limits schema bad-field policy signature \
         name-conflict sink-rejected render-failed cli-exit cli-timeout cli-unavailable crash-suspect",
    ),
    (
        "conductor_loop_faults_total",
        "fault",
        "disk-full read-only io-error fsync-failed ledger-corrupt store-lost resources inotify-limit \
         inotify-overflow fs-stalled clock-jump sink-unreachable sink-timeout sink-ambiguous sink-conflict \
         sink-throttled sink-auth sink-tls sink-redirect sink-protocol sink-partial name-conflict \
         cli-unavailable cli-timeout cli-output cli-exit bad-name vanished mountpoint unstable cannot-file \
         hot-folder-gone dir-replaced",
    ),
    ("conductor_loop_http_rejected_total", "code", "400 404 405 408 414 431 503 505"),
];

/// `promtool check metrics` has nothing to say about the page and ends with 0.
#[track_caller]
fn check_page(node: &Node<'_>) {
    let mut promtool = Command::new("promtool");
    if let Err(err) = promtool.arg("--version").output() {
        assert_ne!(
            err.kind(),
            ErrorKind::NotFound,
            "promtool is missing, and without it nobody knows whether Prometheus can read the page: \
             apt-get install prometheus, or put promtool from https://prometheus.io/download on the PATH"
        );
    }
    let page = node.get("/metrics").body;
    let ran = Ran::fed(Command::new("promtool").args(["check", "metrics"]), page.as_bytes());
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "", ""), "{page}");
}

#[test]
#[ignore = "needs promtool, which .ci/run installs"]
fn promtool_has_nothing_to_say_fresh_and_after_load() {
    let place = Place::new();
    let node = place.node().start();
    check_page(&node);
    let load = Load::new(600, 20, true);
    load.drop_mixed(&place, 2, std::time::Duration::ZERO);
    node.wait_settled(load.len(), PATIENCE);
    assert_eq!(node.get("/nothing").code, 404);
    check_page(&node);
    node.finish();
}

#[test]
fn the_codes_table_is_the_contracts() {
    let told: BTreeSet<(&str, &str, Vec<&str>)> = names::all()
        .filter(|metric| !PROCESS.contains(&metric.name))
        .map(|metric| {
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            (metric.name, kind, metric.labels.iter().map(|label| label.name).collect())
        })
        .collect();
    let wanted: BTreeSet<_> =
        CONTRACT.iter().map(|(name, kind, labels)| (*name, *kind, labels.to_vec())).collect();
    let missing: Vec<_> = wanted.difference(&told).collect();
    let strange: Vec<_> = told.difference(&wanted).collect();
    assert!(
        missing.is_empty() && strange.is_empty(),
        "not in the code: {missing:?}; not in the contract: {strange:?}"
    );
}

#[test]
fn every_name_and_word_is_on_the_page_at_the_first_scrape() {
    let place = Place::new();
    let node = place.node().start();
    let text = node.get("/metrics").body;
    for &(name, kind, labels) in CONTRACT {
        assert!(text.contains(&format!("\n# TYPE {name} {kind}\n")), "{name} is a {kind}");
        let series = if kind == "histogram" { format!("{name}_count") } else { name.to_owned() };
        let of_it = |line: &&str| line.split(['{', ' ']).next() == Some(&series);
        let line = text.lines().find(of_it).unwrap_or_else(|| panic!("{series} has no series"));
        assert!(labels.iter().all(|label| line.contains(&format!("{label}=\""))), "{line}");
    }
    let page = node.page();
    for name in PROCESS {
        assert!(page.has(name), "{name}");
    }
    for (name, label, words) in WORDS {
        let known: BTreeSet<&str> = page.of(name).filter_map(|(labels, _)| word_of(labels, label)).collect();
        assert_eq!(known, words.split(' ').collect(), "{label} of {name}");
    }
    // What nothing has happened to is 0; what can be measured has been.
    for name in
        ["conductor_loop_intents_total", "conductor_loop_refused_total", "conductor_loop_faults_total"]
    {
        assert_eq!(page.sum(name), 0.0, "{name}");
    }
    for name in ["conductor_loop_disk_free_bytes", "conductor_loop_ledger_bytes", "conductor_loop_open_fds"] {
        assert!(page.of(name).all(|(_, value)| value > 0.0), "{name}");
    }
    for (name, value) in [
        ("conductor_loop_build_info", 1.0),
        ("conductor_loop_watch_healthy", 1.0),
        ("conductor_loop_watch_mode", 1.0),
        ("conductor_loop_sink_up", 1.0),
        ("conductor_loop_degraded", 0.0),
    ] {
        assert_eq!(page.sum(name), value, "{name}");
    }
    node.finish();
}

/// The word of one label in `{sink="folder",outcome="ok"}`.
fn word_of<'a>(labels: &'a str, label: &str) -> Option<&'a str> {
    let (_, rest) = labels.split_once(&format!("{label}=\""))?;
    rest.split('"').next()
}

#[test]
fn buckets_are_where_the_contract_puts_them() {
    let place = Place::new();
    let node = place.node().start();
    let page = node.page();
    let steps = "0.00001 0.00005 0.0001 0.0005 0.001 0.005 0.01 0.05 0.1 0.5 1 +Inf";
    let long = "0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 10 30 60 +Inf";
    for (name, bounds) in [
        ("conductor_loop_stage_duration_seconds_bucket", steps),
        ("conductor_loop_fsync_seconds_bucket", steps),
        ("conductor_loop_intent_duration_seconds_bucket", long),
        ("conductor_processing_duration_seconds_bucket", long),
        ("conductor_loop_submit_seconds_bucket", long),
    ] {
        let told: BTreeSet<&str> = page.of(name).filter_map(|(labels, _)| word_of(labels, "le")).collect();
        let missing: Vec<&str> = bounds.split(' ').filter(|bound| !told.contains(bound)).collect();
        assert!(missing.is_empty(), "{name} lacks {missing:?}");
    }
    node.finish();
}

#[test]
fn hostile_names_targets_and_requests_add_no_series() {
    let place = Place::new();
    let node = place.node().start();
    let before = node.page();
    for at in 0..1_000 {
        place.rename_in(&format!("intent-hostile-{at}.json"), &scale(&format!("-{at}\\u0000\\u202e"), 3));
        place.rename_in(&format!("intent-plain-{at}.json"), &scale(&format!("t-{at}"), 3));
        place.rename_in(&format!("intent-reason-{at}.json"), format!("{{\"field-{at}\": {at}}}").as_bytes());
        place.rename_in(&format!("intent-\u{1b}[{at}m.json"), b"{}");
    }
    for at in 0..500 {
        let path = format!("/metrics{at}?conductor_loop_x{{reason=\"{at}\"}}");
        request(node.address(), "GET", &path, &format!("Agent-{at}: {at}\r\n")).unwrap();
        request(node.address(), &format!("BREW{at}"), "/metrics", "").unwrap();
    }
    node.wait_settled(3_000, PATIENCE);
    let after = node.page();
    assert_eq!(after.series().collect::<Vec<_>>(), before.series().collect::<Vec<_>>());
    assert!(before.len() < 300, "{} series", before.len());
    assert_eq!(after.labelled("conductor_loop_http_rejected_total", "code", "400"), 500.0, "no path");
    assert_eq!(after.labelled("conductor_loop_http_rejected_total", "code", "405"), 500.0);
    assert_eq!(after.labelled("conductor_loop_faults_total", "fault", "bad-name"), 1_000.0);
    node.finish();
}
