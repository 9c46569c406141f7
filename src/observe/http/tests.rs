use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::clock::{HandClock, Mono};
use crate::observe::metrics::tests::{UNMEASURED, lint};
use crate::observe::{Check, Health, Metrics, StageId};

struct Site {
    server: Server,
    metrics: Metrics,
    health: Health,
    clock: Arc<HandClock>,
}

fn pages() -> Pages {
    Pages {
        metrics: Metrics::new(),
        health: Health::new(),
        clock: Arc::new(HandClock::default()),
        stats: Arc::new(|| json!({"performance": {}, "reliability": {}})),
    }
}

fn site_within(limits: Limits) -> Site {
    let clock = Arc::new(HandClock::default());
    let pages = Pages { clock: clock.clone(), ..pages() };
    let (metrics, health) = (pages.metrics.clone(), pages.health.clone());
    let listen = Listen::Tcp("127.0.0.1:0".to_owned());
    let server = start_within(&listen, pages, limits).expect("a free port").expect("http is on");
    Site { server, metrics, health, clock }
}

fn site() -> Site {
    site_within(LIMITS)
}

impl Site {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.address()).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit");
        stream
    }

    /// Sends raw bytes and returns all that comes back until the server closes.
    fn raw(&self, request: &str) -> String {
        exchange(self.connect(), request)
    }

    fn ask(&self, method: &str, path: &str) -> Answer {
        let text = self.raw(&format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole header");
        let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
        Answer { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path)
    }

    fn status_of(&self, request: &str) -> String {
        self.raw(request).split(' ').nth(1).unwrap_or("closed").to_owned()
    }
}

fn exchange(mut stream: impl io::Read + io::Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).expect("the server reads");
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    // A server that closes with unread bytes before it resets the connection behind its answer.
    while let Ok(read @ 1..) = stream.read(&mut part) {
        answer.extend_from_slice(&part[..read]);
    }
    String::from_utf8(answer).expect("answers are text")
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

#[test]
fn the_first_scrape_holds_every_series_of_the_table() {
    let site = site();
    let answer = site.get("/metrics");
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"));
    let samples = lint(&answer.body);
    let expected: usize = crate::observe::names::all().map(crate::observe::names::Metric::series).sum();
    assert_eq!(samples.len() + UNMEASURED, expected);
    assert!(expected < 300);
    assert!(!answer.body.contains("quantile="));
}

#[test]
fn the_text_format_is_sent_whatever_accept_says() {
    let accept = "application/openmetrics-text; version=1.0.0, application/vnd.google.protobuf";
    let text = site()
        .raw(&format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"));
    assert!(text.to_lowercase().contains("content-type: text/plain; version=0.0.4; charset=utf-8"));
}

#[test]
fn a_page_is_rendered_once_a_second() {
    let site = site();
    let accepted = |site: &Site| lint(&site.get("/metrics").body)["conductor_loop_accepted_total"];
    assert_eq!(accepted(&site), 0.0);
    site.metrics.accepted(1);
    assert_eq!(accepted(&site), 0.0);
    site.clock.advance(Duration::from_secs(1));
    assert_eq!(accepted(&site), 1.0);
}

#[test]
fn head_answers_like_get_without_the_body() {
    let site = site();
    let (get, head) = (site.get("/livez"), site.ask("HEAD", "/livez"));
    assert_eq!((get.status, get.body.as_str()), (200, "ok"));
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(head.head.contains("content-length: 2"));
    let page = site.ask("HEAD", "/metrics");
    assert_eq!((page.status, page.body.as_str()), (200, ""));
    assert!(page.head.contains("version=0.0.4"));
}

#[test]
fn readiness_follows_the_checks_and_tells_them_when_asked() {
    let site = site();
    assert_eq!(site.get("/readyz").status, 503);
    site.health.started();
    assert_eq!(site.get("/readyz").body, "ok");
    site.health.set(Check::Sink, Err("sink-unavailable".to_owned()));
    let verbose = site.get("/readyz?verbose");
    assert_eq!(verbose.status, 200);
    assert!(verbose.body.contains("[-]sink failed: sink-unavailable (informational)\n"));
    assert!(verbose.body.ends_with("readyz check passed\n"));

    site.health.set(Check::Ledger, Err("disk-full: 1 MiB left".to_owned()));
    let failed = site.get("/readyz");
    assert_eq!(failed.status, 503);
    assert!(failed.body.contains("[-]ledger failed: disk-full: 1 MiB left\n"));
    assert_eq!(site.get("/readyz?exclude=ledger").body, "ok");
    assert_eq!(site.get("/readyz/ledger").status, 503);
    assert_eq!(site.get("/readyz/watch").body, "ok");
    assert_eq!(site.get("/readyz/nonsense").status, 404);
    assert_eq!(site.get("/livez").body, "ok", "unready is not dead");
}

#[test]
fn a_silent_stage_is_dead_on_both_liveness_paths() {
    let site = site();
    site.health.beat(StageId::Ledger, Mono(0));
    site.clock.advance(Duration::from_secs(11));
    for path in ["/livez", "/healthz"] {
        let answer = site.get(path);
        assert_eq!(answer.status, 503);
        assert!(answer.body.contains("[-]ledger failed: no sign of life for 10 s\n"), "{}", answer.body);
    }
}

#[test]
fn stats_is_the_document_of_the_closure() {
    let answer = site().get("/stats");
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: application/json"));
    assert_eq!(answer.body, r#"{"performance":{},"reliability":{}}"#);
}

#[test]
fn anything_else_is_turned_away_and_counted() {
    let site = site();
    for path in ["/", "/nonsense", "/metrics/", "//metrics", "/../etc/passwd"] {
        assert_eq!(site.get(path).status, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "TRACE", "OPTIONS", "BREW"] {
        assert_eq!(site.ask(method, "/metrics").status, 405, "{method}");
    }
    assert_eq!(site.ask("POST", "/nonsense").status, 404);
    let end = "Connection: close\r\n\r\n";
    for request in [
        format!("GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n{end}abc"),
        format!("GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{end}0\r\n\r\n"),
        format!(
            "GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n{end}0\r\n\r\n"
        ),
        format!("GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n{end}ab"),
        format!("GET /metrics HTTP/1.1\r\nHost: x\r\nHost: y\r\n{end}"),
        format!("GET http://elsewhere/metrics HTTP/1.1\r\nHost: x\r\n{end}"),
        format!("GET /metrics HTTP/1.1\r\nHost: x\r\nA: b\r\n folded\r\n{end}"),
        "\x16\x03\x01 not http at all\r\n\r\n".to_owned(),
    ] {
        assert_eq!(site.status_of(&request), "400", "{request:?}");
    }
    let long = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nLong: {}\r\n{end}", "a".repeat(100 * 1024));
    assert_eq!(site.status_of(&long[..9000]), "431");
    let many = format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{}{end}", "a: b\r\n".repeat(63));
    assert_eq!(site.status_of(&many), "431");
    assert_eq!(site.status_of(&format!("GET /{}", "a".repeat(9000))), "414");
    assert_eq!(site.status_of("GET /metrics\r\n"), "505");
    site.clock.advance(Duration::from_secs(2));
    let samples = lint(&site.get("/metrics").body);
    for (code, count) in [("404", 6.0), ("405", 6.0), ("400", 8.0), ("414", 1.0), ("431", 2.0), ("505", 1.0)]
    {
        let series = format!("conductor_loop_http_rejected_total{{code=\"{code}\"}}");
        assert_eq!(samples[&series], count, "{code}");
    }
}

#[test]
fn a_kept_connection_serves_many_requests() {
    let site = site();
    let mut stream = site.connect();
    for _ in 0..1000 {
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").expect("still open");
        let mut answer = [0; 512];
        let read = stream.read(&mut answer).expect("an answer");
        assert!(answer[..read].starts_with(b"HTTP/1.1 200 OK"));
    }
}

/// Limits of which one is the first to be reached.
fn patient() -> Limits {
    let hour = Duration::from_secs(3600);
    Limits { head: hour, whole: hour, idle: hour, ..LIMITS }
}

const BRIEF: Duration = Duration::from_millis(50);

#[test]
fn a_head_that_does_not_come_ends_the_connection_and_one_that_began_is_told_so() {
    let site = site_within(Limits { head: BRIEF, ..patient() });
    assert_eq!(site.connect().read(&mut [0; 8]).expect("closed, not reset"), 0);
    assert_eq!(site.status_of("GET /livez HTTP/1.1\r\nHost: x\r\n"), "408");
    assert!(site.metrics.render().contains("conductor_loop_http_rejected_total{code=\"408\"} 1\n"));
}

#[test]
fn an_idle_connection_has_a_limit_of_its_own() {
    let site = site_within(Limits { idle: BRIEF, ..patient() });
    let answer = exchange(site.connect(), "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.ends_with("\r\n\r\nok"), "answered, then closed in silence: {answer}");
    // The time of a head begins with its first byte.
    let site = site_within(Limits { head: BRIEF, ..patient() });
    let answer = exchange(site.connect(), "GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /");
    assert!(answer.contains("HTTP/1.1 408 "), "{answer}");
}

#[test]
fn who_does_not_take_the_answer_is_closed() {
    let site = site_within(Limits { whole: BRIEF, ..patient() });
    let mut stream = site.connect();
    let asked = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(10);
    // Until the socket is full of answers that nobody reads, and beyond.
    while stream.write_all(asked.as_bytes()).is_ok() {}
    site.clock.advance(Duration::from_secs(1));
    let page = site.get("/metrics").body;
    assert_eq!(lint(&page)["conductor_loop_http_rejected_total{code=\"408\"}"], 1.0);
}

#[test]
fn one_more_client_than_allowed_closes_the_oldest_unfinished_one() {
    let site = site_within(Limits { connections: 4, ..patient() });
    let mut kept = site.connect();
    let ask = |stream: &mut TcpStream| {
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").expect("still open");
        let mut answer = [0; 512];
        let read = stream.read(&mut answer).expect("an answer");
        String::from_utf8_lossy(&answer[..read]).into_owned()
    };
    assert!(ask(&mut kept).starts_with("HTTP/1.1 200 OK"));
    let mut silent: Vec<TcpStream> = (0..3).map(|_| site.connect()).collect();
    // Each answer shows that the server has accepted all who came before.
    assert_eq!(site.get("/livez").status, 200);
    let mut told = String::new();
    silent[0].read_to_string(&mut told).expect("closed");
    assert!(told.starts_with("HTTP/1.1 503 "), "the oldest unfinished one made room: {told}");
    assert!(ask(&mut silent[2]).starts_with("HTTP/1.1 200 OK"), "the newest is served");
    assert!(ask(&mut kept).starts_with("HTTP/1.1 200 OK"), "an older one that is idle was spared");
}

#[test]
fn requests_that_were_sent_ahead_are_answered_in_order_up_to_the_first_bad_one() {
    let site = site();
    let good = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
    let answers = site.raw(&format!("{good}{good}\r\n{good}junk\r\n\r\n{good}"));
    let codes: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(codes, ["200", "200", "200", "400"]);
    let answers = site.raw(&format!("GET /livez HTTP/1.0\r\n\r\n{good}"));
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "HTTP/1.0 closes: {answers}");
}

#[test]
fn an_answer_says_when_and_is_not_to_be_kept() {
    let answer = site().get("/nothing");
    assert!(answer.head.contains("date: thu, 01 jan 1970 00:00:00 gmt"), "{}", answer.head);
    assert!(answer.head.contains("cache-control: no-store"));
    assert!(answer.head.contains("connection: close"), "asked for");
    assert!(answer.head.contains("content-length: 0"));
}

#[test]
fn who_accepts_json_gets_the_checks_as_a_document() {
    let site = site();
    site.health.started();
    site.health.set(Check::Ledger, Err("disk-full: 1 MiB left".to_owned()));
    site.health.set(Check::Sink, Err("sink-unavailable".to_owned()));
    let ask = "GET /readyz HTTP/1.1\r\nHost: x\r\nAccept: text/html, application/json;q=0.9\r\nConnection: close\r\n\r\n";
    let text = site.raw(ask);
    let (head, body) = text.split_once("\r\n\r\n").expect("a whole header");
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("application/json"), "{head}");
    let told: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!((&told["ok"], &told["failed"]), (&json!(false), &json!(["ledger"])));
    let checks = told["checks"].as_array().expect("a list");
    let ledger = json!({"name": "ledger", "ok": false, "counts": true, "message": "disk-full: 1 MiB left"});
    assert!(checks.contains(&ledger), "{told:#}");
    let sink = json!({"name": "sink", "ok": false, "counts": false, "message": "sink-unavailable"});
    assert!(checks.contains(&sink), "{told:#}");
}

#[test]
fn hundreds_of_idle_clients_keep_nobody_from_an_answer() {
    let site = site();
    let _idle: Vec<TcpStream> = (0..300).map(|_| site.connect()).collect();
    let began = std::time::Instant::now();
    assert_eq!(site.get("/livez").status, 200);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn a_taken_port_is_told_apart_from_other_faults() {
    let site = site();
    let taken = start(&Listen::Tcp(site.server.address()), pages()).expect_err("it is taken");
    assert!(matches!(&taken, HttpFault::AddressInUse { address } if *address == site.server.address()));
    assert!(taken.to_string().contains("in use"));
    assert_eq!(taken.consequence(), Consequence::Stop);
    let wrong = start(&Listen::Tcp("not an address".to_owned()), pages()).expect_err("it is none");
    assert!(matches!(wrong, HttpFault::Bind { .. }));
    assert!(start(&Listen::Off, pages()).expect("off is no fault").is_none());
}

#[test]
fn only_an_address_that_others_can_reach_warns() {
    assert_eq!(site().server.warning(), None);
    let open =
        start(&Listen::Tcp("0.0.0.0:0".to_owned()), pages()).expect("a free port").expect("http is on");
    assert!(open.warning().is_some_and(|text| text.contains("other machines")));
}

#[test]
fn after_a_stop_nobody_listens_and_an_idle_client_does_not_hold_it_up() {
    let site = site();
    let _idle = site.connect();
    assert_eq!(site.get("/livez").status, 200);
    let address = site.server.address();
    let began = std::time::Instant::now();
    site.server.stop();
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_unix_socket_is_for_owner_and_group_and_a_stale_one_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("http.sock");
    drop(UnixListener::bind(&path).expect("a socket is left behind"));
    let listen = Listen::Unix(path.clone());
    let server = start(&listen, pages()).expect("nobody listens there").expect("http is on");
    assert_eq!(server.address(), format!("unix:{}", path.display()));
    let mode = fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let stream = UnixStream::connect(&path).expect("somebody listens");
    let answer = exchange(stream, "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK"));

    assert!(matches!(start(&listen, pages()), Err(HttpFault::AddressInUse { .. })), "it is alive");
    server.stop();
    assert!(!path.exists());

    fs::write(&path, "a file of somebody").expect("written");
    assert!(matches!(start(&listen, pages()), Err(HttpFault::AddressInUse { .. })), "not ours to remove");
    assert!(path.exists());
}
