//! Faults on purpose: what the client sees, and what was done all the same.

use std::io::ErrorKind;
use std::time::Duration;

use conductor_loop::fake_porch::{FakePorch, Fault, Options, Rule, Stage, Step, Tls, Which};
use serde_json::json;

use super::wire::{Answer, BASE, Wire};
use crate::support::until;

const KEY: &str = "conductor.example/intent-sha256";

/// How long a client waits that is not answered.
const PATIENCE: Duration = Duration::from_millis(300);

/// How long one waits that is.
const LONG: Duration = Duration::from_secs(20);

fn plain(seed: u64) -> FakePorch {
    let porch = FakePorch::start(Options { tls: Tls::Off, seed, ..Options::default() }).unwrap();
    porch.add_repository("r", "default", "http://127.0.0.1:9446/r");
    porch
}

fn object(name: &str) -> String {
    format!("{BASE}/packagerevisions/{name}")
}

/// The answer to a create under a fault; the draft has to be there or not, and the log has to say so.
fn create_under(fault: Fault, patience: Duration, done: bool) -> Answer {
    let porch = plain(1);
    let case = format!("{fault:?}");
    porch.inject(Rule::once(Step::Create, fault));
    let answer = Wire::patient(porch.address(), patience).create("r.a.w", (KEY, "k"));
    until("what was done", || {
        let drafts = usize::from(done);
        let applied = porch.log().pop()?.applied;
        (porch.audit().revisions.len() == drafts && applied == done).then_some(())
    });
    assert_eq!(porch.log().len(), 1, "{case}");
    answer
}

#[test]
fn a_lost_answer_is_lost_as_the_fault_says_and_the_work_done_or_not() {
    let cases = [
        (Fault::CloseBefore, ErrorKind::UnexpectedEof, false),
        (Fault::CloseAfter, ErrorKind::UnexpectedEof, true),
        (Fault::DraftWithoutAnnotations, ErrorKind::UnexpectedEof, true),
        (Fault::ResetBefore, ErrorKind::ConnectionReset, false),
        (Fault::ResetAfter, ErrorKind::ConnectionReset, true),
        (Fault::HangBefore, ErrorKind::WouldBlock, false),
        (Fault::HangAfter, ErrorKind::WouldBlock, true),
        (Fault::Drip, ErrorKind::WouldBlock, true),
        (Fault::CutBody, ErrorKind::UnexpectedEof, true),
        (Fault::Delay(LONG), ErrorKind::WouldBlock, false),
    ];
    for (fault, kind, done) in cases {
        let case = format!("{fault:?}");
        let patience = if kind == ErrorKind::WouldBlock { PATIENCE } else { LONG };
        assert_eq!(create_under(fault, patience, done).lost, Some(kind), "{case}");
    }
}

#[test]
fn a_refusal_says_what_the_fault_says() {
    let after = |text: &str| text.to_owned();
    let cases = [
        (Fault::Internal("try again".to_owned()), 500, "Internal error occurred: try again", false),
        (Fault::InternalAfter("duplicate key".to_owned()), 500, "duplicate key", true),
        (Fault::BadGateway, 502, "<html>", false),
        (Fault::Unreachable, 503, "connection refused", false),
        (Fault::Unavailable, 503, "service unavailable", false),
        (Fault::Overloaded { retry_after: after("0") }, 503, "ServiceUnavailable", false),
        (Fault::Throttled { retry_after: after("soon") }, 429, "TooManyRequests", false),
        (Fault::Unauthorized, 401, "Unauthorized", false),
        (Fault::Forbidden, 403, "cannot create resource", false),
        (Fault::NotReady, 403, "not yet ready to handle request", false),
        (Fault::NoGroup, 404, "404 page not found", false),
        (Fault::NotFound, 404, "NotFound", false),
        (Fault::InProgress, 409, "another request is already in progress", false),
        (Fault::Conflict, 409, "the object has been modified", false),
        (Fault::Gone, 410, "v1alpha2", false),
        (Fault::TooLarge, 413, "limit is 6291456", false),
        (Fault::Stale, 500, "the object has been modified", false),
        (Fault::NotJson, 200, "<html>", false),
        (Fault::WrongObject, 200, "ConfigMap", false),
        (Fault::EmptyList, 200, "\"items\":[]", false),
        (Fault::Status(418, "teapot".to_owned()), 418, "teapot", false),
    ];
    for (fault, code, text, done) in cases {
        let case = format!("{fault:?}");
        let answer = create_under(fault, LONG, done);
        assert_eq!(answer.code, code, "{case}: {}", answer.body);
        assert!(answer.body.contains(text), "{case}: {}", answer.body);
    }
}

#[test]
fn headers_are_sent_as_given() {
    for text in ["0", "1000000000", "Wed, 21 Oct 2099 07:28:00 GMT", "soon"] {
        let answer = create_under(Fault::Throttled { retry_after: text.to_owned() }, LONG, false);
        assert_eq!(answer.header("retry-after"), Some(&*text.to_ascii_lowercase()));
    }
    let answer = create_under(Fault::Redirect("http://127.0.0.1:9/x".to_owned()), LONG, false);
    assert_eq!((answer.code, answer.header("location")), (302, Some("http://127.0.0.1:9/x")));
}

#[test]
fn the_second_patch_is_struck_and_the_others_are_not() {
    let porch = plain(1);
    let mut wire = Wire::new(porch.address());
    porch.inject(Rule::nth(Which::Method("PATCH"), 2, Fault::CloseAfter));
    assert_eq!(wire.create("r.a.w", (KEY, "k")).code, 201);
    let patch = json!({"spec": {"resources": {"a.txt": "1"}}});
    assert_eq!(wire.json("PATCH", &format!("{BASE}/packagerevisionresources/r.a.w"), &patch).code, 200);
    assert_eq!(wire.move_to("r.a.w", "Proposed").code, 0);
    assert_eq!(wire.move_to("r.a.w", "Published").code, 200, "the lost one was carried out");
    let applied: Vec<bool> = porch.log().iter().map(|logged| logged.applied).collect();
    assert_eq!(applied, [true; 4]);
    assert_eq!(porch.short_log()[2], "PATCH packagerevisions/r.a.w 0");
}

#[test]
fn the_listing_goes_back_to_before_a_write_and_heals() {
    let porch = plain(1);
    let mut wire = Wire::new(porch.address());
    porch.inject(Rule::nth(Which::Writes, 2, Fault::RollBack(Duration::from_secs(1))));
    wire.create("r.a.w", (KEY, "k"));
    assert_eq!(wire.move_to("r.a.w", "Proposed").json()["spec"]["lifecycle"], "Proposed");
    let refused = wire.move_to("r.a.w", "Published");
    assert!(refused.body.contains("cannot approve package with Draft lifecycle value"), "{}", refused.body);
    let healed = until("the listing", || {
        let seen = wire.get(&object("r.a.w")).json();
        (seen["spec"]["lifecycle"] == "Proposed").then_some(seen)
    });
    assert_eq!(healed["metadata"]["name"], "r.a.w");
    assert_eq!(wire.move_to("r.a.w", "Published").code, 200);
}

#[test]
fn a_phantom_lasts_until_a_restart() {
    let porch = plain(1);
    let mut wire = Wire::new(porch.address());
    porch.inject(Rule::once(Step::Approve, Fault::Phantom(Some(Stage::Proposed))));
    wire.create("r.a.w", (KEY, "k"));
    wire.move_to("r.a.w", "Proposed");
    assert_eq!(wire.move_to("r.a.w", "Published").code, 200);
    assert_eq!(wire.get(&object("r.a.w")).json()["spec"]["lifecycle"], "Proposed");
    let stuck = wire.move_to("r.a.w", "Published");
    assert!(stuck.body.contains("cannot find draft package branch"), "{}", stuck.body);
    assert_eq!(porch.audit().published("a").len(), 1, "git has it");
    porch.restart();
    let seen = Wire::new(porch.address()).get(&object("r.a.w")).json();
    assert_eq!(seen["spec"]["lifecycle"], "Published");
}

/// Codes and what was applied, of 200 creates of which some are left open.
fn ambiguous(seed: u64) -> Vec<(u16, bool)> {
    let porch = plain(seed);
    porch.make_ambiguous(0.3);
    for number in 0..200 {
        Wire::new(porch.address()).create(&format!("r.p{number}.w"), (KEY, "k"));
    }
    // What a cut call left behind lands a little later.
    let landed = |log: &[(u16, bool)]| log.iter().filter(|(_, applied)| *applied).count();
    let mut before = usize::MAX;
    until("the stragglers", || {
        let log: Vec<_> = porch.log().iter().map(|logged| (logged.status, logged.applied)).collect();
        std::thread::sleep(Duration::from_millis(60));
        let settled = landed(&log) == porch.audit().revisions.len() && landed(&log) == before;
        before = landed(&log);
        settled.then_some(log)
    })
}

#[test]
fn what_is_left_open_is_done_half_of_the_time_and_the_same_for_a_seed() {
    let first = ambiguous(5);
    assert_eq!(first, ambiguous(5));
    assert_ne!(first, ambiguous(6));
    let count = |wanted: fn(&(u16, bool)) -> bool| first.iter().filter(|one| wanted(one)).count();
    assert!((15..50).contains(&count(|(code, applied)| *code != 201 && *applied)));
    assert!((15..50).contains(&count(|(code, applied)| *code != 201 && !*applied)));
    assert_eq!(count(|(code, applied)| *code == 201 && !*applied), 0);
    assert!(count(|(code, _)| *code == 504) > 5 && count(|(code, _)| *code == 0) > 5);
}
