//! What monitoring sees.

use crate::support::{Place, request, scale, until};

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

/// M04, an address that was asked for.
#[test]
fn a_configured_address_that_is_taken_ends_the_daemon_with_a_text_that_helps() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ran = place.run(&["run", "--listen", &address]).ended(1);
    for part in [address.as_str(), "in use", "end the other program or set http.listen"] {
        assert!(ran.stderr.contains(part), "{part:?} in {}", ran.stderr);
    }
    assert!(!place.state().join("http.addr").exists());
}

/// M04, the default address: whoever else may hold the port of this machine, it is taken.
#[test]
fn the_default_address_that_is_taken_is_a_warning_and_the_work_goes_on_without_pages() {
    let place = Place::new();
    let _taken = std::net::TcpListener::bind("127.0.0.1:8080");
    let node = place.node().at_the_default_address().spawn();
    place.rename_in("intent-1.json", &scale("odu", 3));
    assert_eq!(place.settled("intent-1.json")["fate"], "delivered");
    let log = place.log();
    let warning = log.lines().find(|line| line.contains("\"level\":\"warn\""));
    let warning = warning.unwrap_or_else(|| panic!("no warning in {log}"));
    for part in ["no metrics page", "127.0.0.1:8080", "in use", "http.listen"] {
        assert!(warning.contains(part), "{part:?} in {warning}");
    }
    assert!(!place.state().join("http.addr").exists());
    assert_eq!(node.stop(), 0);
}

#[test]
fn readiness_can_be_asked_check_by_check_and_as_a_document() {
    let place = Place::new();
    let node = place.node().start();
    let verbose = node.get("/readyz?verbose").body;
    assert!(verbose.ends_with("readyz check passed\n"), "{verbose}");
    let checks = verbose.lines().filter_map(|line| line.strip_prefix("[+]")?.strip_suffix(" ok"));
    for check in checks {
        assert_eq!(node.get(&format!("/readyz/{check}")).body, "ok", "{check}");
        let others = node.get(&format!("/readyz?verbose&exclude={check}")).body;
        assert!(!others.contains(&format!("[+]{check} ok")), "{others}");
    }
    assert_eq!(node.get("/readyz/nonsense").code, 404);
    let answer = request(node.address(), "GET", "/readyz", "Accept: application/json\r\n").unwrap();
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let told: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((&told["ok"], &told["failed"]), (&true.into(), &serde_json::json!([])), "{told:#}");
    std::fs::rename(place.handoff(), place.root().join("elsewhere")).unwrap();
    let told: serde_json::Value = until("the folder is missed", || {
        let answer = request(node.address(), "GET", "/readyz", "Accept: application/json\r\n")?;
        (answer.code == 503).then(|| serde_json::from_str(&answer.body).unwrap())
    });
    assert_eq!(told["failed"], serde_json::json!(["watch"]), "{told:#}");
    assert_eq!(node.get("/readyz?exclude=watch").body, "ok");
    assert_eq!(node.get("/livez").body, "ok", "unready is not dead");
    let degraded = || node.page().labelled("conductor_loop_degraded", "reason", "watch");
    until("the page tells it too", || (degraded() == 1.0).then_some(()));
    std::fs::rename(place.root().join("elsewhere"), place.handoff()).unwrap();
    until("it is back", || (node.get("/readyz").code == 200).then_some(()));
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
