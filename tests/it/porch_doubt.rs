//! Answers that leave open what was done, or lie about it (P03 to P06, P14): the Porch sink over real sockets, and every
//! request it makes, in order. Between writes nothing is read but after trouble; never is a second workspace made.

mod listings;

use std::time::Duration;

use conductor_loop::fake_porch::{Fault, Rule, Step};
use conductor_loop::submit::Outcome;

use crate::support::{Bench, Dropped};

const CREATE: &str = "POST packagerevisions 201 applied";
const LIST: &str = "GET packagerevisions 200";
const READ: &str = "GET @ 200";
const READ_FILES: &str = "GET @files 200";
const PUT: &str = "PATCH @files 200 applied";
const PROPOSE: &str = "PATCH @ 200 applied";
const APPROVE: &str = "PATCH @/approval 200 applied";

/// The intent was delivered by these requests, and the server holds nothing else.
#[track_caller]
fn check<L: AsRef<str>>(bench: &Bench, what: &str, dropped: &Dropped, outcomes: &[Outcome], expected: &[L]) {
    let expected: Vec<&str> = expected.iter().map(AsRef::as_ref).collect();
    assert!(matches!(outcomes, [Outcome::Delivered(_)]), "{what}: {outcomes:#?}");
    assert_eq!(bench.log(&bench.name(&[dropped])), expected, "{what}");
    let seen = bench.fake().audit().revisions;
    let [one] = seen.as_slice() else { panic!("{what}: one revision and no other: {seen:#?}") };
    assert_eq!((one.number, &one.name), (1, &bench.name(&[dropped])), "{what}");
    assert!(one.annotations.values().any(|value| *value == dropped.key().to_string()), "{what}: {one:#?}");
    assert!(one.files["workload.yaml"].contains("replicas: 3"), "{what}");
}

/// One delivery with this fault in its way, once.
async fn run(step: Step, fault: Fault, expected: &[String]) {
    let what = format!("{fault:?} at {step:?}");
    let bench = Bench::new(|_| {});
    bench.fake().inject(Rule::once(step, fault));
    let dropped = Dropped::new(1, "nf-a", 3);
    let outcomes = bench.deliver(&[&dropped], false).await;
    check(&bench, &what, &dropped, &outcomes, expected);
}

const WRITES: [(Step, &str, &str); 4] = [
    (Step::Create, "POST packagerevisions", CREATE),
    (Step::Files, "PATCH @files", PUT),
    (Step::Propose, "PATCH @", PROPOSE),
    (Step::Approve, "PATCH @/approval", APPROVE),
];

/// All that is asked when `step` is answered by `code`, having been done or not. `proves`: that answer casts doubt
/// on the server, which is looked at before the next write.
fn requests(step: Step, code: &str, done: bool, proves: bool) -> Vec<String> {
    let reads: &[&str] = match (step, done) {
        (Step::Create, false) => &["GET @ 404"],
        (Step::Create | Step::Files, _) | (Step::Propose, false) => &[READ, READ_FILES],
        _ => &[READ],
    };
    let mut lines = vec![LIST.to_owned(), "prove".to_owned()];
    let mut proof = None;
    for (at, request, write) in WRITES {
        if at == step {
            lines.push(format!("{request} {code}{}", if done { " applied" } else { "" }));
            lines.extend(reads.iter().map(ToString::to_string));
            proof = proves.then(|| "prove".to_owned());
            if done {
                continue;
            }
        }
        lines.extend(proof.take());
        lines.push(write.to_owned());
        // What is in a draft after trouble is read, not guessed.
        lines.extend((at == step && step == Step::Create).then(|| READ_FILES.to_owned()));
    }
    lines
}

#[tokio::test]
async fn an_intent_costs_one_listing_and_four_writes_and_the_next_one_four_writes() {
    let bench = Bench::new(|_| {});
    let (first, second) = (Dropped::new(1, "nf-a", 3), Dropped::new(2, "nf-a", 5));
    let outcomes = bench.deliver(&[&first], false).await;
    check(&bench, "undisturbed", &first, &outcomes, &[LIST, "prove", CREATE, PUT, PROPOSE, APPROVE]);
    let outcomes = bench.deliver(&[&second], false).await;
    assert!(
        matches!(&outcomes[..], [Outcome::Delivered(receipt)] if receipt.revision == "2"),
        "{outcomes:?}"
    );
    assert_eq!(bench.log(&bench.name(&[&second])), [CREATE, PUT, PROPOSE, APPROVE]);
}

const STEPS: [Step; 4] = [Step::Create, Step::Files, Step::Propose, Step::Approve];

#[tokio::test]
async fn a_step_whose_answer_was_lost_is_found_done_and_not_repeated() {
    let unknown = Fault::InternalAfter("something nobody has seen".to_owned());
    for step in STEPS {
        let whole = if step == Step::Create { "201" } else { "200" };
        for (fault, code) in [
            (Fault::CloseAfter, "0"),
            (Fault::ResetAfter, "0"),
            (Fault::CutBody, whole),
            (unknown.clone(), "500"),
        ] {
            run(step, fault, &requests(step, code, true, true)).await;
        }
    }
}

#[tokio::test]
async fn a_step_that_was_not_done_is_done_once() {
    let elsewhere = Fault::Redirect("https://127.0.0.1:1/".to_owned());
    for step in STEPS {
        for (fault, code, proves) in [
            (Fault::CloseBefore, "0", true),
            (Fault::ResetBefore, "0", true),
            (Fault::BadGateway, "502", true),
            (Fault::InProgress, "409", false),
            (Fault::NotJson, "200", true),
            (elsewhere.clone(), "302", true),
        ] {
            run(step, fault, &requests(step, code, false, proves)).await;
        }
    }
}

#[tokio::test]
async fn a_504_tells_nothing_and_the_server_is_asked_what_was_done() {
    for (step, done) in STEPS.into_iter().flat_map(|step| [(step, true), (step, false)]) {
        let fault = Fault::GatewayTimeout { done, after: Duration::from_millis(20), work: Duration::ZERO };
        run(step, fault, &requests(step, "504", done, true)).await;
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_not_waited_for_beyond_the_deadline() {
    for (step, fault, done) in [
        (Step::Create, Fault::HangAfter, true),
        (Step::Files, Fault::HangBefore, false),
        (Step::Approve, Fault::HangAfter, true),
    ] {
        run(step, fault, &requests(step, "0", done, true)).await;
    }
}

#[tokio::test]
async fn what_is_stale_missing_or_draft_after_our_own_success_is_read_again_and_repeated() {
    let draft = "cannot approve package with Draft lifecycle value; only Proposed packages can be approved";
    for (step, fault, code) in [
        (Step::Files, Fault::Stale, "500"),
        (Step::Propose, Fault::Stale, "500"),
        (Step::Approve, Fault::Stale, "500"),
        (Step::Files, Fault::NotFound, "404"),
        (Step::Propose, Fault::NotFound, "404"),
        (Step::Approve, Fault::NotFound, "404"),
        (Step::Approve, Fault::Status(422, draft.to_owned()), "422"),
    ] {
        run(step, fault, &requests(step, code, false, false)).await;
    }
}

#[tokio::test]
async fn a_create_that_was_cut_and_lost_its_annotations_is_gone_on_with() {
    run(Step::Create, Fault::DraftWithoutAnnotations, &requests(Step::Create, "0", true, true)).await;
}

#[tokio::test]
async fn our_own_abandoned_call_is_waited_for() {
    for (step, request, _) in WRITES {
        let bench = Bench::new(|_| {});
        bench.fake().inject(Rule::once(step, Fault::Abandoned { done: true, work: Duration::from_secs(60) }));
        let dropped = Dropped::new(1, "nf-a", 3);
        let blocked = format!("{request} 409");
        let mut outcomes = Vec::new();
        tokio::join!(async { outcomes = bench.deliver(&[&dropped], false).await }, async {
            let path = bench.name(&[&dropped]);
            let is_blocked = || bench.fake().log().iter().any(|logged| logged.status == 409);
            while !is_blocked() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            assert!(bench.fake().under_way() == 1, "{path}");
            bench.fake().release();
        });
        assert!(matches!(&outcomes[..], [Outcome::Delivered(_)]), "{step:?}: {outcomes:#?}");
        let log = bench.log(&bench.name(&[&dropped]));
        assert!(log.contains(&blocked), "{log:#?}");
        let done = log.iter().filter(|line| line.ends_with(" applied"));
        let done: Vec<&str> =
            done.filter_map(|line| line.rsplit_once(' ')?.0.rsplit_once(' ').map(|at| at.0)).collect();
        assert_eq!(done, WRITES.map(|(_, request, _)| request), "{step:?}: each once: {log:#?}");
        assert_eq!(bench.fake().audit().revisions.len(), 1);
    }
}
