//! HTTP byte by byte: what is refused, with which code, and when a connection ends (M02).

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Node, Place};

const GOOD: &str = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";

/// A connection that gives up after a while, so that a server that does not close fails the test.
fn connect(node: &Node<'_>) -> TcpStream {
    let stream = TcpStream::connect(node.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Sends `bytes` and reads until the server closes the connection, which it must.
#[track_caller]
fn exchange(node: &Node<'_>, bytes: &[u8]) -> String {
    let mut stream = connect(node);
    // A server that has heard enough may close before it has heard everything.
    let _ = stream.write_all(bytes);
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
    read_to_close(&mut stream).unwrap_or_else(|err| panic!("not closed after {shown:?}: {err}"))
}

fn read_to_close(stream: &mut TcpStream) -> std::io::Result<String> {
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&part[..read]),
            Err(err) if err.kind() == ErrorKind::ConnectionReset => break,
            Err(err) => return Err(err),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The status codes of all answers, in order.
fn codes(answers: &str) -> Vec<&str> {
    answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect()
}

/// Reads one answer whose body is `ok`.
#[track_caller]
fn read_ok(stream: &mut TcpStream) {
    let mut answer = Vec::new();
    let mut part = [0; 512];
    while !answer.ends_with(b"\r\n\r\nok") {
        let read = stream.read(&mut part).unwrap();
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&part[..read]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&answer));
}

/// Each ends with the code, and its connection is closed although nobody asked for it.
fn refused() -> Vec<(&'static str, String)> {
    let with = |headers: &str| format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    let line = |line: &str| format!("{line}\r\nHost: x\r\n\r\n");
    vec![
        ("400", with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n"),
        ("400", with("Content-Length: 5\r\nContent-Length: 5\r\n") + "12345"),
        ("400", with("Content-Length: 0\r\nContent-Length: 6\r\n") + GOOD),
        ("400", with("Content-Length: 5\r\n") + "12345"),
        ("400", with("Transfer-Encoding: chunked\r\n") + "5\r\n12345\r\n0\r\n\r\n"),
        ("400", with("Transfer-Encoding: gzip, chunked\r\n") + "0\r\n\r\n"),
        ("400", with("Content-Length: -1\r\n")),
        ("400", with("Host: y\r\n")),
        ("400", with("Host: x\r\n")),
        ("400", "GET /metrics HTTP/1.1\r\n\r\n".to_owned()),
        ("400", with("A: b\r\n c\r\n")),
        ("400", with("A: b\r\n\tc\r\n")),
        ("400", with("A : b\r\n")),
        ("400", with("A: b\0c\r\n")),
        ("400", with("A\n")),
        ("400", line("GET http://x/metrics HTTP/1.1")),
        ("400", line("GET https://127.0.0.1/metrics HTTP/1.1")),
        ("400", line("CONNECT x:443 HTTP/1.1")),
        ("400", line("GET metrics HTTP/1.1")),
        ("400", line("GET /metrics#part HTTP/1.1")),
        ("400", line("GET /metrics HTTP/1.1 ")),
        ("400", line("GET  /metrics HTTP/1.1")),
        ("400", line("GET /met\u{1}rics HTTP/1.1")),
        ("400", "GET /metrics HTTP/1.1\nHost: x\n\n".to_owned()),
        ("400", "\u{16}\u{3}\u{1}\u{2}hello\r\n\r\n".to_owned()),
        ("414", format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100 * 1024))),
        ("431", with(&format!("Long: {}\r\n", "a".repeat(100 * 1024)))),
        ("431", with(&"A: b\r\n".repeat(64))),
        ("431", with(&"A: b\r\n".repeat(20_000))),
        ("505", "GET /metrics\r\n".to_owned()),
        ("505", line("GET /metrics HTTP/2.0")),
        ("505", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("505", line("GET /metrics HTTP/0.9")),
    ]
}

#[test]
fn what_could_be_read_in_two_ways_is_refused_with_its_code_and_closed() {
    let place = Place::new();
    let node = place.node().start();
    for (code, request) in refused() {
        let answer = exchange(&node, request.as_bytes());
        assert_eq!(codes(&answer), [code], "{:?}", &request[..request.len().min(120)]);
        assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
    }
    // 64 header lines are not too many.
    let most =
        format!("GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}\r\n", "A: b\r\n".repeat(62));
    assert_eq!(codes(&exchange(&node, most.as_bytes())), ["200"]);
    node.finish();
}

#[test]
fn other_methods_and_paths_are_404_and_405_and_harm_no_kept_connection() {
    let place = Place::new();
    let node = place.node().start();
    let mut asked = String::new();
    let mut wanted = Vec::new();
    for path in [
        "/",
        "/nothing",
        "/metrics/",
        "//metrics",
        "/metrics/more",
        "/../metrics",
        "/./metrics",
        "/%6detrics",
        "/metrics%00",
        "/metrics;x",
        "/%2e%2e/etc/passwd",
        "/readyz/nothing",
        "/readyz/../livez",
        "/METRICS",
    ] {
        asked += &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        wanted.push("404");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "get", "BREW"] {
        asked += &format!("{method} /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        wanted.push("405");
    }
    asked += "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    wanted.push("200");
    let answers = exchange(&node, asked.as_bytes());
    assert_eq!(codes(&answers), wanted);
    assert!(answers.contains("allow: GET,HEAD"), "{answers}");
    assert!(!answers.contains("GET /metrics HTTP"), "TRACE echoes nothing");
    node.finish();
}

#[test]
fn what_is_sent_behind_a_request_is_the_next_one_and_junk_ends_it() {
    let place = Place::new();
    let node = place.node().start();
    let junk = format!("{GOOD}{GOOD}\r\n{GOOD}\u{0}junk {GOOD}{GOOD}");
    assert_eq!(codes(&exchange(&node, junk.as_bytes())), ["200", "200", "200", "400"]);
    let mut rejected = 0.0;
    crate::support::until("the refusal is counted", || {
        rejected = node.page().labelled("conductor_loop_http_rejected_total", "code", "400");
        (rejected == 1.0).then_some(())
    });
    node.finish();
}

#[test]
fn one_connection_serves_thousands_of_requests() {
    let place = Place::new();
    let node = place.node().start();
    let mut stream = connect(&node);
    for _ in 0..3_000 {
        stream.write_all(GOOD.as_bytes()).unwrap();
        read_ok(&mut stream);
    }
    node.finish();
}

#[test]
fn http_1_0_is_answered_and_closed_and_head_has_no_body() {
    let place = Place::new();
    let node = place.node().start();
    let answer = exchange(&node, b"GET /livez HTTP/1.0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok"), "{answer}");
    for path in ["/metrics", "/livez", "/readyz", "/healthz", "/stats"] {
        let head = exchange(&node, format!("HEAD {path} HTTP/1.0\r\n\r\n").as_bytes());
        let (head, body) = head.split_once("\r\n\r\n").unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 ") && length.parse::<u64>().unwrap() > 1, "{path}: {head}");
        assert_eq!(body, "", "{path}");
    }
    node.finish();
}

#[test]
fn a_slow_head_has_five_seconds_a_slow_reader_ten_and_an_idle_connection_fifteen() {
    let place = Place::new();
    let node = place.node().start();
    let near = |what: &str, took: Duration, seconds: u64| {
        let wanted = Duration::from_secs(seconds);
        assert!(took >= wanted - Duration::from_millis(100), "{what}: closed after {took:?}");
        assert!(took < wanted + Duration::from_secs(4), "{what}: closed after {took:?}");
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut silent = connect(&node);
            let began = Instant::now();
            assert_eq!(read_to_close(&mut silent).unwrap(), "");
            near("a silent connection", began.elapsed(), 5);
        });
        scope.spawn(|| {
            let mut slow = connect(&node);
            let mut sends = slow.try_clone().unwrap();
            let began = Instant::now();
            scope.spawn(move || {
                // Ends when the server has closed.
                while sends.write_all(b"G").is_ok() {
                    thread::sleep(Duration::from_millis(100));
                }
            });
            assert_eq!(codes(&read_to_close(&mut slow).unwrap()), ["408"]);
            near("a head of one byte after the other", began.elapsed(), 5);
        });
        scope.spawn(|| {
            let mut idle = connect(&node);
            idle.write_all(GOOD.as_bytes()).unwrap();
            read_ok(&mut idle);
            let began = Instant::now();
            assert_eq!(read_to_close(&mut idle).unwrap(), "");
            near("an idle connection", began.elapsed(), 15);
        });
        scope.spawn(|| {
            let mut deaf = connect(&node);
            deaf.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
            let asked = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
            let began = Instant::now();
            // Answers that nobody reads fill the socket; then the requests do.
            while deaf.write_all(asked.as_bytes()).is_ok() {}
            near("a client that reads nothing", began.elapsed(), 10);
        });
    });
    node.finish();
}

#[test]
fn when_all_connections_are_taken_the_oldest_unfinished_one_makes_room() {
    let place = Place::new();
    let node = place.node().start();
    let mut kept = connect(&node);
    kept.write_all(GOOD.as_bytes()).unwrap();
    read_ok(&mut kept);
    let mut unfinished: Vec<TcpStream> = (0..63)
        .map(|_| {
            let mut stream = connect(&node);
            stream.write_all(b"GET /livez HTTP/1.1\r\n").unwrap();
            stream
        })
        .collect();
    assert_eq!(node.get("/livez").code, 200);
    assert_eq!(codes(&read_to_close(&mut unfinished[0]).unwrap()), ["503"], "the oldest made room");
    let newest = unfinished.last_mut().unwrap();
    newest.write_all(b"Host: x\r\n\r\n").unwrap();
    read_ok(newest);
    kept.write_all(GOOD.as_bytes()).unwrap();
    read_ok(&mut kept);
    node.finish();
}
