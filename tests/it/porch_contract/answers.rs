//! Answers of any shape, whole and cut, from servers and from those on the way.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use conductor_loop::submit::porch::api::{Api as _, Class, Fault, NewDraft};
use serde_json::json;

use super::raw::{Raw, http};
use super::{Subject, begun};
use crate::support::{REPOSITORY, connection, porch_client};

const NAME: &str = "edge.nf-a.i-1";
const HTML: &[u8] = b"<html><body>Not what you wanted</body></html>";

fn status(code: u16, message: &str, seconds: Option<u64>) -> Vec<u8> {
    let details = seconds.map_or(json!({}), |seconds| json!({"retryAfterSeconds": seconds}));
    let body =
        json!({"kind": "Status", "status": "Failure", "code": code, "message": message, "details": details});
    body.to_string().into_bytes()
}

/// What a client makes of it as the answer to the question for a revision.
async fn fault_of(raw: &Raw) -> Fault {
    raw.client().revision(NAME).await.expect_err("no such answer is good")
}

#[tokio::test]
async fn what_is_no_revision_is_no_answer_though_it_says_200() {
    let other = json!({"metadata": {"name": "edge.nf-b.i-1", "resourceVersion": "1"}, "spec": {"packageName": "nf-b"}});
    for body in [HTML, b"", b"null", b"[]", b"{\"metadata\"", b"\xff\xfe", other.to_string().as_bytes()] {
        let fault = fault_of(&Raw::answers("200 OK", "", body)).await;
        assert_eq!(fault.class, Class::Protocol, "{body:?}: {fault}");
    }
}

#[tokio::test]
async fn a_web_page_deletes_nothing_and_lists_nothing() {
    let group = br#"{"kind": "APIGroup", "versions": [{"version": "v1alpha1"}]}"#;
    let repository = br#"{"metadata": {"name": "edge"}, "spec": {}}"#;
    let looked =
        [http("200 OK", "Connection: close\r\n", group), http("200 OK", "Connection: close\r\n", repository)];
    let raw = Raw::says(looked.into_iter().chain([http("200 OK", "", HTML)]).collect());
    assert_eq!(raw.client().delete(NAME).await.unwrap_err().class, Class::Protocol);
    for body in [HTML, b"{}", br#"{"kind": "Status", "status": "Success"}"#] {
        let raw = Raw::answers("200 OK", "", body);
        assert_eq!(raw.client().revisions("nf-a").await.unwrap_err().class, Class::Protocol, "{body:?}");
    }
}

#[tokio::test]
async fn an_error_is_classified_whoever_says_it() {
    let porch = |message| status(500, message, None);
    for (line, body, class) in [
        ("400 Bad Request", HTML.to_vec(), Class::Protocol),
        ("400 Bad Request", status(400, "spec.repositoryName is required", None), Class::Content),
        ("401 Unauthorized", HTML.to_vec(), Class::Auth),
        ("403 Forbidden", HTML.to_vec(), Class::Auth),
        ("404 Not Found", HTML.to_vec(), Class::Configuration),
        ("404 Not Found", b"404 page not found\n".to_vec(), Class::Configuration),
        ("405 Method Not Allowed", HTML.to_vec(), Class::Configuration),
        ("407 Proxy Authentication Required", HTML.to_vec(), Class::Configuration),
        ("410 Gone", HTML.to_vec(), Class::Migrated),
        ("413 Payload Too Large", HTML.to_vec(), Class::Content),
        ("431 Request Header Fields Too Large", b"".to_vec(), Class::Protocol),
        ("500 Internal Server Error", HTML.to_vec(), Class::Unknown),
        ("500 Internal Server Error", b"\xff\xfe\x00\x1b[31m".to_vec(), Class::Unknown),
        ("500 Internal Server Error", porch("the object has been modified"), Class::Stale),
        ("502 Bad Gateway", HTML.to_vec(), Class::Unknown),
        ("503 Service Unavailable", b"service unavailable\n".to_vec(), Class::Unavailable),
        ("504 Gateway Timeout", HTML.to_vec(), Class::Unknown),
    ] {
        let fault = fault_of(&Raw::answers(line, "", &body)).await;
        assert_eq!(fault.class, class, "{line}: {fault}");
        assert_eq!(fault.code.to_string(), line[..3], "{fault}");
        assert!(fault.message.contains(NAME) && fault.message.contains("127.0.0.1:"), "{fault}");
        assert!(fault.message.chars().all(|char| !char.is_control()), "{:?}", fault.message);
    }
}

#[tokio::test]
async fn a_message_is_kept_to_four_kibibytes() {
    let long = status(500, &"é".repeat(64 << 10), None);
    let fault = fault_of(&Raw::answers("500 Internal Server Error", "", &long)).await;
    assert_eq!(fault.class, Class::Unknown);
    assert!(fault.message.len() < (4 << 10) + 200, "{}", fault.message.len());
}

#[tokio::test]
async fn a_wish_to_be_left_alone_is_heard_in_head_and_body() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    for (line, head, body, after) in [
        ("429 Too Many Requests", "Retry-After: 7\r\n", HTML.to_vec(), seconds(7)),
        ("429 Too Many Requests", "Retry-After: 0\r\n", HTML.to_vec(), Some(Duration::from_millis(500))),
        ("429 Too Many Requests", "Retry-After: 1000000000\r\n", HTML.to_vec(), seconds(600)),
        ("429 Too Many Requests", "Retry-After: soon\r\n", HTML.to_vec(), None),
        ("429 Too Many Requests", "Retry-After: soon\r\n", status(429, "slow", Some(4)), seconds(4)),
        ("429 Too Many Requests", "", status(429, "slow", Some(3)), seconds(3)),
        ("503 Service Unavailable", "Retry-After: 9\r\n", HTML.to_vec(), seconds(9)),
        (
            "429 Too Many Requests",
            "Retry-After: Sun, 09 Sep 2001 01:46:40 GMT\r\n",
            HTML.to_vec(),
            Some(Duration::from_millis(500)),
        ),
    ] {
        let fault = fault_of(&Raw::answers(line, head, &body)).await;
        assert_eq!((fault.class, fault.after), (Class::Throttled, after), "{line} {head}: {fault}");
    }
}

#[tokio::test]
async fn an_answer_that_ends_too_early_leaves_the_outcome_open() {
    let head = "HTTP/1.1 200 OK\r\n";
    for answer in [
        String::new(),
        "HTTP/1.1 20".to_owned(),
        format!("{head}Content-Length: 500\r\n\r\n{{\"metadata\""),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\n{{\"met"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
        "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(),
    ] {
        let fault = fault_of(&Raw::says(vec![answer.clone().into_bytes()])).await;
        assert_eq!(fault.class, Class::Unknown, "{answer:?}: {fault}");
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_made_anew() {
    let answer =
        http("404 Not Found", "", &status(404, &format!("packagerevisions \"{NAME}\" not found"), None));
    let raw = Raw::says(vec![answer.clone(), answer.clone(), answer]);
    let api = raw.client();
    assert_eq!(api.revision(NAME).await, Ok(None));
    // The other side has closed; whether that is known already when the next request leaves is chance.
    match api.revision(NAME).await {
        Ok(found) => assert_eq!(found, None),
        Err(fault) => {
            assert_eq!(fault.class, Class::Unknown, "{fault}");
            assert_eq!(api.revision(NAME).await, Ok(None));
        }
    }
    assert_eq!(raw.heard(), 2);
}

#[tokio::test]
async fn a_redirect_is_refused_and_nobody_else_is_asked() {
    for line in [
        "301 Moved Permanently",
        "302 Found",
        "303 See Other",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let elsewhere = Raw::answers("200 OK", "", b"{}");
        let fault = fault_of(&Raw::answers(line, &format!("Location: {}/\r\n", elsewhere.url), b"")).await;
        assert_eq!(fault.class, Class::Redirected, "{line}: {fault}");
        assert!(fault.message.contains(&elsewhere.url), "it says where to: {fault}");
        assert_eq!(elsewhere.heard(), 0, "{line}");
    }
}

#[tokio::test]
async fn an_answer_that_announces_too_much_is_not_read_to_its_end() {
    let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n".to_vec();
    answer.resize(answer.len() + (2 << 20), b' ');
    let fault = fault_of(&Raw::says(vec![answer])).await;
    assert_eq!(fault.class, Class::Protocol, "{fault}");
    assert!(fault.message.contains("more than 1048576 bytes"), "{fault}");
}

#[tokio::test]
async fn nobody_listening_is_told_at_once_and_silence_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Some(format!("http://{}", listener.local_addr().unwrap()));
    let mut silent = connection();
    silent.url.clone_from(&url);
    silent.request_timeout = Duration::from_millis(300);
    let begun = Instant::now();
    // The kernel takes the connection; nobody ever answers.
    let fault = porch_client(silent).revision(NAME).await.unwrap_err();
    assert_eq!(fault.class, Class::TimedOut, "{fault}");
    assert!(begun.elapsed() >= Duration::from_millis(300));
    drop(listener);
    let mut nobody = connection();
    nobody.url = url;
    let fault = porch_client(nobody).revision(NAME).await.unwrap_err();
    assert_eq!(fault.class, Class::Unavailable, "{fault}");
}

#[tokio::test]
async fn a_server_of_the_next_version_alone_is_told_and_nothing_is_written() {
    for (versions, class, word) in [
        (
            json!([{"groupVersion": "porch.kpt.dev/v1alpha2", "version": "v1alpha2"}]),
            Class::Migrated,
            "v1alpha2",
        ),
        (json!([]), Class::Configuration, "v1alpha1"),
        (json!(null), Class::Configuration, "v1alpha1"),
    ] {
        let body = json!({"kind": "APIGroup", "name": "porch.kpt.dev", "versions": versions}).to_string();
        let raw = Raw::answers("200 OK", "", body.as_bytes());
        let api = raw.client();
        let subject = Subject { api: &api, repository: REPOSITORY, package: "nf-a".to_owned() };
        let draft: NewDraft = subject.draft('1', begun("scale"));
        let fault = api.create(&draft).await.unwrap_err();
        assert_eq!(fault.class, class, "{fault}");
        assert!(fault.message.contains(word), "{fault}");
        assert_eq!(raw.heard(), 1);
    }
}
