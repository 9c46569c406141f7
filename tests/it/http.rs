//! What monitoring sees.

use std::collections::BTreeSet;

use crate::support::{Place, request, scale, until};

/// Every name that dashboards and alerts may rely on, at the first scrape.
const NAMES: [&str; 35] = [
    "conductor_loop_build_info",
    "conductor_loop_files_seen_total",
    "conductor_loop_accepted_total",
    "conductor_loop_intents_total",
    "conductor_loop_refused_total",
    "conductor_loop_pending_intents",
    "conductor_loop_oldest_pending_seconds",
    "conductor_loop_unaccounted_intents",
    "conductor_loop_queue_depth",
    "conductor_loop_queue_capacity",
    "conductor_loop_stage_duration_seconds_bucket",
    "conductor_loop_stage_duration_seconds_count",
    "conductor_loop_intent_duration_seconds_bucket",
    "conductor_loop_submissions_total",
    "conductor_loop_circuit_state",
    "conductor_loop_watch_healthy",
    "conductor_loop_watch_overflows_total",
    "conductor_loop_rescans_total",
    "conductor_loop_ledger_commits_total",
    "conductor_loop_ledger_commit_rows_bucket",
    "conductor_loop_config_last_reload_successful",
    "conductor_loop_config_last_reload_success_timestamp_seconds",
    "conductor_loop_dropped_log_lines_total",
    "conductor_loop_faults_total",
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_start_time_seconds",
    "conductor_loop_throughput_files_per_second",
    "conductor_files_processed_total",
    "conductor_files_failed_total",
    "conductor_processing_duration_seconds_bucket",
    "conductor_processing_duration_seconds_count",
    "conductor_active_workers",
    "conductor_queue_size",
];

/// Labels whose words all stand on the page from the start.
const LABELS: [(&str, &str, &[&str]); 7] = [
    ("conductor_loop_files_seen_total", "source", &["event", "scan"]),
    ("conductor_loop_intents_total", "fate", &["delivered", "duplicate", "refused", "expired", "superseded"]),
    ("conductor_loop_pending_intents", "priority", &["low", "normal", "high"]),
    ("conductor_loop_queue_depth", "lane", &["fresh", "backlog", "large"]),
    (
        "conductor_loop_stage_duration_seconds_count",
        "stage",
        &["read", "validate", "commit", "submit", "settle"],
    ),
    (
        "conductor_loop_rescans_total",
        "cause",
        &["start", "period", "overflow", "queue-full", "returned", "signal"],
    ),
    (
        "conductor_loop_faults_total",
        "fault",
        &[
            "bad-name",
            "vanished",
            "mountpoint",
            "unstable",
            "cannot-file",
            "hot-folder-gone",
            "dir-replaced",
            "disk-full",
        ],
    ),
];

#[test]
fn every_name_is_on_the_page_at_the_first_scrape() {
    let place = Place::new();
    let node = place.node().start();
    let page = node.page();
    for name in NAMES {
        assert!(page.has(name), "{name} is on the page");
    }
    for (name, label, words) in LABELS {
        for word in words {
            page.labelled(name, label, word);
        }
    }
    assert_eq!(page.sum("conductor_loop_build_info"), 1.0);
    assert_eq!(page.sum("conductor_loop_watch_healthy"), 1.0);
    node.finish();
}

#[test]
fn the_page_is_prometheus_text_whatever_is_asked_for() {
    let place = Place::new();
    let node = place.node().start();
    let accept = "Accept: application/openmetrics-text; version=1.0.0\r\n";
    for headers in ["", accept] {
        let answer = request(node.address(), "GET", "/metrics", headers).unwrap();
        assert_eq!(answer.code, 200);
        let kind = answer.header("content-type").unwrap();
        assert!(kind.starts_with("text/plain") && kind.contains("version=0.0.4"), "{kind}");
        assert!(answer.body.contains("# HELP conductor_loop_build_info "));
        assert!(answer.body.contains("# TYPE conductor_loop_stage_duration_seconds histogram"));
    }
    node.finish();
}

#[test]
fn probes_answer_ok_and_explain_on_request() {
    let place = Place::new();
    let node = place.node().start();
    for path in ["/livez", "/readyz", "/healthz"] {
        let answer = node.get(path);
        assert_eq!((answer.code, answer.body.trim()), (200, "ok"), "{path}");
        assert!(node.get(&format!("{path}?verbose")).body.lines().count() > 1, "{path} has a line a check");
    }
    node.finish();
}

#[test]
fn other_paths_and_methods_are_404_and_405() {
    let place = Place::new();
    let node = place.node().start();
    for path in ["/nothing", "/metrics/more", "/../etc/passwd"] {
        assert_eq!(node.get(path).code, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        for path in ["/metrics", "/readyz", "/stats"] {
            assert_eq!(
                request(node.address(), method, path, "Content-Length: 0\r\n").unwrap().code,
                405,
                "{method} {path}"
            );
        }
    }
    let head = request(node.address(), "HEAD", "/metrics", "").unwrap();
    assert_eq!((head.code, head.body.as_str()), (200, ""));
    node.finish();
}

#[test]
fn stats_tell_the_figures_under_their_sections() {
    let place = Place::new();
    let node = place.node().start();
    place.rename_in("intent-1.json", &scale("odu", 3));
    place.settled("intent-1.json");
    let answer = node.get("/stats");
    let stats: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let performance = [
        "throughput_files_per_second",
        "latency_p50_ms",
        "latency_p95_ms",
        "latency_p99_ms",
        "memory_footprint_mb",
        "cpu_utilization_percent",
    ];
    for key in performance {
        assert!(stats["performance"][key].is_number() || key.starts_with("latency"), "{key} in {stats:#}");
    }
    assert!(stats["reliability"]["error_rate_percent"].is_number(), "{stats:#}");
    assert!(stats["reliability"]["availability_percent"].is_number(), "{stats:#}");
    assert!(stats.get("energy").is_none(), "only what was measured is told: {stats:#}");
    node.finish();
}

#[test]
fn hostile_names_and_targets_add_no_series() {
    let place = Place::new();
    let node = place.node().start();
    let before = node.page().len();
    for at in 0..200 {
        place.rename_in(&format!("intent-hostile-{at}.json"), &scale(&format!("-{at}"), 3));
        place.rename_in(&format!("intent-plain-{at}.json"), &scale(&format!("t-{at}"), 3));
    }
    node.wait_settled(400, crate::support::PATIENCE);
    assert_eq!(node.page().len(), before, "as many series as at the start");
    assert!(before < 300, "{before} series");
    node.finish();
}

#[test]
fn counters_agree_with_the_folders_and_start_at_0_in_each_process() {
    let place = Place::new();
    let node = place.node().start();
    place.rename_in("intent-1.json", &scale("odu", 3));
    place.rename_in("intent-2.json", b"{]");
    place.settled("intent-1.json");
    place.settled("intent-2.json");
    until("both are counted", || (node.page().sum("conductor_loop_intents_total") == 2.0).then_some(()));
    let page = node.page();
    assert_eq!(page.labelled("conductor_loop_intents_total", "fate", "delivered"), 1.0);
    assert_eq!(page.labelled("conductor_loop_refused_total", "reason", "json-syntax"), 1.0);
    assert_eq!(
        (page.value("conductor_files_processed_total"), page.value("conductor_files_failed_total")),
        (1.0, 1.0)
    );
    assert!(page.value("conductor_loop_ledger_commits_total") >= 1.0);
    node.finish();
    let node = place.node().start();
    assert_eq!(node.page().value("conductor_loop_accepted_total"), 0.0);
    node.finish();
}

#[test]
fn a_unix_socket_answers_too() {
    use std::io::{Read as _, Write as _};
    let place = Place::new();
    let socket = place.root().join("http.sock");
    let node = place.node().with(&["--listen", &format!("unix:{}", socket.display())]).spawn();
    let mut stream = until("the socket answers", || std::os::unix::net::UnixStream::connect(&socket).ok());
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(node.stop(), 0);
}

#[test]
fn no_listed_name_is_written_twice() {
    assert_eq!(NAMES.iter().collect::<BTreeSet<_>>().len(), NAMES.len());
}
