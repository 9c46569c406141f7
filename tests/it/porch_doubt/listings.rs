//! A server whose listing is not what git holds: empty, behind for a while, or until somebody restarts it.

use std::time::Duration;

use conductor_loop::config::{Approval, PackageLayout};
use conductor_loop::fake_porch::{Fault, Rule, Stage, Step};
use conductor_loop::submit::Outcome;

use super::{APPROVE, CREATE, LIST, PROPOSE, PUT, READ, READ_FILES, STEPS, WRITES};
use crate::support::{Bench, Dropped};

const OTHER: &str = "edge.other.theirs";
const MARK: &str = "conductor-loop.nephoran.com/intent-sha256";

#[track_caller]
fn delivered(outcomes: &[Outcome], revision: &str) {
    let told =
        |outcome: &Outcome| matches!(outcome, Outcome::Delivered(receipt) if receipt.revision == revision);
    assert!(outcomes.iter().all(told), "revision {revision}: {outcomes:#?}");
}

#[track_caller]
fn waits(outcomes: &[Outcome], advice: &str) {
    for outcome in outcomes {
        let Outcome::Retry { message, .. } = outcome else { panic!("{outcomes:#?}") };
        assert!(message.contains(advice), "{message}");
    }
}

/// Somebody else pushes, and the server looks at all of git again.
fn heal(bench: &Bench) {
    bench.fake().put_foreign(OTHER, Stage::Draft, &[]);
}

/// Names of what is on the server, but [`OTHER`].
fn objects(bench: &Bench) -> Vec<String> {
    let names = bench.fake().audit().revisions.into_iter().map(|seen| seen.name);
    names.filter(|name| name != OTHER).collect()
}

#[tokio::test]
async fn a_workspace_that_exists_already_is_looked_at_and_gone_on_with() {
    for stage in [Stage::Draft, Stage::Proposed, Stage::Published] {
        let bench = Bench::new(|_| {});
        let dropped = Dropped::new(1, "nf-a", 3);
        let name = bench.name(&[&dropped]);
        delivered(&bench.deliver(&[&dropped], false).await, "1");
        let mut bench = bench;
        match stage {
            Stage::Published => {}
            stage => {
                bench.fake().delete(&name);
                bench.fake().put_foreign(&name, stage, &[]);
                bench.fake().annotate(&name, &[(MARK, &dropped.key().to_string())]);
            }
        }
        bench.restart();
        bench.log(&name);
        bench.fake().inject(Rule::once(Step::List, Fault::EmptyList));
        delivered(&bench.deliver(&[&dropped], false).await, "1");
        let exists = [LIST, "prove", "POST packagerevisions 500", READ];
        let then: &[&str] = match stage {
            Stage::Draft => &[READ_FILES, PROPOSE, APPROVE],
            Stage::Proposed => &[READ_FILES, APPROVE],
            _ => &[READ_FILES],
        };
        assert_eq!(bench.log(&name), [&exists, then].concat(), "{stage}");
    }
}

#[tokio::test]
async fn a_draft_under_our_name_without_a_mark_is_marked_and_gone_on_with() {
    let bench = Bench::new(|_| {});
    let dropped = Dropped::new(1, "nf-a", 3);
    let name = bench.name(&[&dropped]);
    bench.fake().put_foreign(&name, Stage::Draft, &[]);
    bench.fake().inject(Rule::once(Step::List, Fault::EmptyList));
    bench.fake().inject(Rule::once(Step::Propose, Fault::ResetBefore));
    delivered(&bench.deliver(&[&dropped], false).await, "1");
    let marked = "PATCH @ 200 applied";
    let expected = [
        LIST,
        "prove",
        "POST packagerevisions 500",
        READ,
        "PATCH @ 0",
        READ,
        "prove",
        marked,
        READ_FILES,
        PUT,
        PROPOSE,
        APPROVE,
    ];
    assert_eq!(bench.log(&name), expected);
    let audit = bench.fake().audit();
    assert_eq!(audit.revisions[0].annotations.get(MARK), Some(&dropped.key().to_string()));
}

#[tokio::test]
async fn an_empty_list_proves_nothing() {
    let mut bench = Bench::new(|settings| settings.layout = PackageLayout::Site);
    let [first, second, third] = [1, 2, 3].map(|id| Dropped::new(id, &format!("nf-{id}"), 3));
    delivered(&bench.deliver(&[&first], false).await, "1");
    bench.restart();
    bench.fake().inject(Rule::once(Step::List, Fault::EmptyList));
    bench.log("");
    delivered(&bench.deliver(&[&second], false).await, "2");
    let init = "POST packagerevisions 500";
    let name = bench.name(&[&second]);
    assert_eq!(bench.log(&name), [LIST, "prove", init, LIST, CREATE, READ_FILES, PUT, PROPOSE, APPROVE]);
    // What hides a draft of ours does not make a second one.
    bench.fake().inject(Rule::once(Step::Files, Fault::Unavailable));
    waits(&bench.deliver(&[&third], false).await, "service unavailable");
    let fourth = Dropped::new(4, "nf-4", 3);
    bench.restart();
    bench.fake().inject(Rule::once(Step::List, Fault::EmptyList));
    bench.log("");
    delivered(&bench.deliver(&[&third, &fourth], true).await, "3");
    let name = bench.name(&[&third]);
    let adopts = format!("GET packagerevisionresources/{} 200", bench.name(&[&second]));
    let log: Vec<String> =
        bench.log(&name).into_iter().filter(|line| !line.contains("resources/edge.")).collect();
    assert_eq!(log, [LIST, "prove", init, LIST, READ_FILES, PUT, PROPOSE, APPROVE], "{adopts}");
    assert_eq!(bench.fake().audit().revisions.len(), 3);
}

#[tokio::test]
async fn a_listing_that_is_behind_for_a_while_is_waited_for_at_every_step() {
    for step in STEPS {
        let bench = Bench::new(|_| {});
        bench.fake().inject(Rule::once(step, Fault::RollBack(Duration::from_millis(300))));
        let dropped = Dropped::new(1, "nf-a", 3);
        let name = bench.name(&[&dropped]);
        delivered(&bench.deliver(&[&dropped], false).await, "1");
        let log = bench.log(&name);
        let done: Vec<&String> = log.iter().filter(|line| line.ends_with("applied")).collect();
        assert_eq!(done, WRITES.map(|(.., write)| write), "{step:?}: each once: {log:#?}");
        for pair in log.windows(2) {
            let failed = !pair[0].starts_with("GET") && !pair[0].ends_with("applied") && pair[0] != "prove";
            let read = pair[1].starts_with("GET @ ");
            assert!(!failed || read, "{step:?}: after trouble the object is read: {log:#?}");
        }
    }
}

#[tokio::test]
async fn a_draft_that_the_server_lost_sight_of_is_parked_and_found_after_its_restart() {
    let bench = Bench::new(|settings| settings.patience = Duration::from_millis(200));
    bench.fake().inject(Rule::once(Step::Create, Fault::Phantom(None)));
    let dropped = Dropped::new(1, "nf-a", 3);
    let name = bench.name(&[&dropped]);
    waits(&bench.deliver(&[&dropped], false).await, "not shown any more");
    let outcomes = bench.deliver(&[&dropped], true).await;
    waits(&outcomes, "the server's cache differs from git: restart porch");
    let parked =
        matches!(&outcomes[..], [Outcome::Retry { after: Some(after), .. }] if after.as_secs() == 60);
    assert!(parked, "{outcomes:?}");
    let log = bench.log(&name);
    assert_eq!(log[..4], [LIST, "prove", CREATE, "PATCH @files 404"], "{log:#?}");
    let made: Vec<&String> = log.iter().filter(|line| line.starts_with("POST")).collect();
    assert!(made[1..].iter().all(|line| *line == "POST packagerevisions 500"), "{log:#?}");
    assert_eq!(bench.fake().audit().revisions.len(), 1, "never a second workspace");
    heal(&bench);
    bench.log(&name);
    delivered(&bench.deliver(&[&dropped], true).await, "1");
    assert_eq!(bench.log(&name), [LIST, READ_FILES, PUT, PROPOSE, APPROVE]);
}

#[tokio::test]
async fn an_approval_that_was_answered_is_final_whatever_is_shown_later() {
    let bench = Bench::new(|settings| settings.patience = Duration::from_millis(200));
    bench.fake().inject(Rule::once(Step::Approve, Fault::Phantom(Some(Stage::Proposed))));
    let (first, second) = (Dropped::new(1, "nf-a", 3), Dropped::new(2, "nf-a", 5));
    delivered(&bench.deliver(&[&first], false).await, "1");
    assert_eq!(bench.log(&bench.name(&[&first])), [LIST, "prove", CREATE, PUT, PROPOSE, APPROVE]);
    // The next one starts from it, which the server does not show as published.
    waits(&bench.deliver(&[&second], false).await, "restart porch");
    let audit = bench.fake().audit();
    let [one] = audit.revisions.as_slice() else { panic!("{audit:#?}") };
    assert_eq!((one.number, one.stage), (1, Stage::Published), "git is untouched");
    heal(&bench);
    delivered(&bench.deliver(&[&second], true).await, "2");
    assert_eq!(objects(&bench).len(), 2);
}

#[tokio::test]
async fn a_draft_of_ours_that_was_overtaken_is_removed_and_not_published_over_newer_content() {
    let mut bench = Bench::new(|settings| settings.layout = PackageLayout::Site);
    let [base, lost, second] = [1, 2, 3].map(|id| Dropped::new(id, &format!("nf-{id}"), 3));
    delivered(&bench.deliver(&[&base], false).await, "1");
    // A draft is made, the server shows it to nobody, and another is made and published.
    bench.fake().inject(Rule::once(Step::Create, Fault::Phantom(None)));
    bench.settings.patience = Duration::from_millis(100);
    bench.restart();
    waits(&bench.deliver(&[&lost], false).await, "not found");
    delivered(&bench.deliver(&[&second], false).await, "2");
    assert_eq!(bench.fake().audit().open().len(), 1);
    heal(&bench);
    bench.restart();
    delivered(&bench.deliver(&[&lost], true).await, "3");
    let audit = bench.fake().audit();
    assert_eq!(objects(&bench).len(), 3, "{audit:#?}");
    let newest = audit.published("site").pop().unwrap().files.clone();
    for target in ["nf-1", "nf-2", "nf-3"] {
        assert!(newest.contains_key(&format!("ran-a-deployment-{target}.yaml")), "{:?}", newest.keys());
    }
}

#[tokio::test]
async fn with_approval_propose_a_lost_answer_leaves_one_proposal_and_nothing_is_approved() {
    for step in [Step::Create, Step::Files, Step::Propose] {
        let bench = Bench::new(|settings| settings.approval = Approval::Propose);
        bench.fake().inject(Rule::once(step, Fault::ResetAfter));
        let dropped = Dropped::new(1, "nf-a", 3);
        delivered(&bench.deliver(&[&dropped], false).await, "");
        let log = bench.log(&bench.name(&[&dropped]));
        assert!(!log.iter().any(|line| line.contains("approval")), "{log:#?}");
        let open = bench.fake().audit();
        assert_eq!(open.open().len(), 1);
        assert_eq!(open.revisions[0].stage, Stage::Proposed);
    }
}
