//! What the server refuses for good: the intent that causes it ends with its reason and the server's words, and
//! the others of its group are delivered.

use conductor_loop::config::{Approval, PackageLayout};
use conductor_loop::fake_porch::{Fault, Rule, Stage, Step};
use conductor_loop::fate::Reason;
use conductor_loop::submit::Outcome;

use crate::support::{Bench, Dropped};

const MARK: &str = "conductor-loop.nephoran.com/intent-sha256";
const RENDER: &str =
    "Error rendering package in kpt function pipeline. Package NOT pushed to remote. Details: no";

fn group(count: u64) -> Vec<Dropped> {
    (1..=count).map(|id| Dropped::new(id, &format!("nf-{id}"), 3)).collect()
}

#[track_caller]
fn rejected(outcome: &Outcome, wanted: Reason, told: &str) {
    let Outcome::Rejected { reason, message } = outcome else { panic!("{outcome:#?}") };
    assert_eq!(*reason, wanted, "{message}");
    assert!(message.contains(told), "{message:?} does not say {told:?}");
}

/// Delivers two intents into one package with these answers to the files: the first is refused, the second is not.
async fn refused_among_two(fault: &Fault, reason: Reason, told: &str) {
    let bench = Bench::new(|settings| settings.layout = PackageLayout::Site);
    // Both together, then the first alone.
    bench.fake().inject(Rule::times(Step::Files, 2, fault.clone()));
    let [first, second] = [1, 2].map(|id| Dropped::new(id, &format!("nf-{id}"), 3));
    let outcomes = bench.deliver(&[&first, &second], false).await;
    rejected(&outcomes[0], reason, told);
    assert!(matches!(&outcomes[1], Outcome::Delivered(receipt) if receipt.revision == "1"), "{outcomes:#?}");
    let audit = bench.fake().audit();
    let files = &audit.published("site")[0].files;
    assert!(files.contains_key("ran-a-deployment-nf-2.yaml"), "{:?}", files.keys());
    assert!(!files.contains_key("ran-a-deployment-nf-1.yaml"), "{:?}", files.keys());
    assert_eq!(audit.revisions.len(), 1);
}

#[tokio::test]
async fn every_permanent_answer_to_the_files_ends_one_intent_and_no_other() {
    let internal = |text: &str| Fault::Internal(text.to_owned());
    let status = |code, message: &str| {
        let body =
            serde_json::json!({"kind": "Status", "status": "Failure", "message": message, "code": code});
        Fault::Status(code, body.to_string())
    };
    let not_krm = "error rendering package in kpt function pipeline. Package NOT pushed to remote. fn.render: input \
                   resource list must contain only KRM resources: intent.json: resource must have `apiVersion`";
    for (fault, reason, told) in [
        (internal(RENDER), Reason::RenderFailed, "Package NOT pushed to remote"),
        (internal(not_krm), Reason::RenderFailed, "resource must have `apiVersion`"),
        (
            internal("failed to heal resources: MalformedYAMLError: yaml"),
            Reason::RenderFailed,
            "MalformedYAML",
        ),
        (internal("failed to heal resources: wrong node kind"), Reason::RenderFailed, "wrong node kind"),
        (internal("package must contain Kptfile at root"), Reason::SinkRejected, "must contain Kptfile"),
        (Fault::TooLarge, Reason::SinkRejected, "limit is 6291456"),
        (status(400, "strict decoding error: unknown field"), Reason::SinkRejected, "strict decoding error"),
        (status(422, "spec.resources: Invalid value"), Reason::SinkRejected, "spec.resources: Invalid value"),
    ] {
        refused_among_two(&fault, reason, told).await;
    }
}

#[tokio::test]
async fn every_permanent_answer_to_the_create_ends_the_intent_and_leaves_nothing() {
    for text in [
        "package path \"a/b\" conflicts with existing package \"a\": packages cannot be nested",
        "task list must not contain more than one task",
        "package revision kubernetes resource name invalid",
    ] {
        let bench = Bench::new(|_| {});
        bench.fake().inject(Rule::once(Step::Create, Fault::Internal(text.to_owned())));
        let dropped = Dropped::new(1, "nf-a", 3);
        rejected(&bench.deliver(&[&dropped], false).await[0], Reason::SinkRejected, text);
        assert_eq!(bench.fake().audit().revisions, []);
    }
}

#[tokio::test]
async fn of_forty_in_one_package_the_bad_ones_fail_alone() {
    let bench = Bench::new(|settings| settings.layout = PackageLayout::Site);
    bench.fake().fail_render_of(Some("name: \"nf-13\""));
    let group = group(40);
    let outcomes = bench.deliver(&group.iter().collect::<Vec<_>>(), false).await;
    for (at, outcome) in outcomes.iter().enumerate() {
        match at {
            12 => rejected(outcome, Reason::RenderFailed, "rendering package"),
            _ => assert!(matches!(outcome, Outcome::Delivered(_)), "{outcome:#?}"),
        }
    }
    let audit = bench.fake().audit();
    let names = audit.published("site")[0].files.keys().filter(|file| file.contains("-nf-")).count();
    assert_eq!((audit.revisions.len(), names), (1, 39));
    let puts = bench.fake().log().iter().filter(|logged| logged.path.contains("resources")).count();
    assert!(puts <= 15, "halved, not tried one by one: {puts}");
}

#[tokio::test]
async fn a_name_that_somebody_else_holds_is_left_to_him() {
    for stage in [Stage::Draft, Stage::Proposed, Stage::Published] {
        let bench = Bench::new(|_| {});
        let dropped = Dropped::new(1, "nf-a", 3);
        let name = bench.name(&[&dropped]);
        bench.fake().put_foreign(&name, stage, &[("own.txt", "theirs")]);
        bench.fake().annotate(&name, &[(MARK, &"f".repeat(64))]);
        let before = bench.fake().audit();
        rejected(&bench.deliver(&[&dropped], false).await[0], Reason::NameConflict, &name);
        assert_eq!(bench.fake().audit(), before, "{stage}: somebody else's object was touched");
    }
}

#[tokio::test]
async fn a_package_that_does_not_render_when_proposed_is_refused_and_its_draft_removed() {
    let bench = Bench::new(|_| {});
    bench.fake().inject(Rule::once(Step::Propose, Fault::Internal(RENDER.to_owned())));
    let dropped = Dropped::new(1, "nf-a", 3);
    rejected(&bench.deliver(&[&dropped], false).await[0], Reason::RenderFailed, "rendering package");
    assert_eq!(bench.fake().audit().revisions, []);
}

#[tokio::test]
async fn what_was_proposed_before_outlives_an_intent_that_does_not_render() {
    let bench = Bench::new(|settings| settings.approval = Approval::Propose);
    let (first, second) = (Dropped::new(1, "nf-a", 3), Dropped::new(2, "nf-a", 5));
    assert!(matches!(bench.deliver(&[&first], false).await[..], [Outcome::Delivered(_)]));
    let before = bench.fake().files(&bench.name(&[&first])).unwrap();
    // Back to draft goes through, up again does not.
    bench.fake().inject(Rule::nth(Step::Propose, 2, Fault::Internal(RENDER.to_owned())));
    rejected(&bench.deliver(&[&second], false).await[0], Reason::RenderFailed, "rendering package");
    let audit = bench.fake().audit();
    let [one] = audit.revisions.as_slice() else { panic!("{audit:#?}") };
    assert_eq!((one.stage, &one.files), (Stage::Proposed, &before), "as it was proposed");
}
