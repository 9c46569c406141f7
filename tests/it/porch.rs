//! The daemon with the Porch sink, against the fake server over TLS: each intent comes to one revision, whatever
//! happens on the way, and the status file tells which.

use std::time::Duration;

use conductor_loop::fake_porch::{Fault, Options, Rule, Stage, Step};
use serde_json::{Value, json};

use crate::support::{Node, Place, Porch, REPOSITORY, scale, until};

/// Settings that lead to the server, with this approval.
fn settings(place: &Place, porch: &Porch, approval: &str) -> String {
    let kubeconfig = porch.kubeconfig();
    place.settings(&format!(
        "[sink]\nkind = \"porch\"\n[sink.porch]\nrepository = \"{REPOSITORY}\"\napproval = \"{approval}\"\n\
         kubeconfig = \"{}\"\nrequest_timeout = \"10s\"\n",
        kubeconfig.display()
    ))
}

#[track_caller]
fn start<'p>(place: &'p Place, porch: &Porch, approval: &str) -> Node<'p> {
    place.node().with(&["--config", &settings(place, porch, approval)]).start()
}

/// Checks a final status against the one revision that the server has, and returns that revision's name.
#[track_caller]
fn one_revision(porch: &Porch, status: &Value, stage: Stage, lifecycle: &str) -> String {
    assert_eq!((&status["fate"], &status["sink"]), (&json!("delivered"), &json!("porch")), "{status:#}");
    let objects = porch.fake.audit().revisions;
    let [seen] = objects.as_slice() else { panic!("one revision and no other: {objects:#?}") };
    assert_eq!(seen.stage, stage);
    let mut remote = json!({"name": seen.name, "repository": REPOSITORY, "package": seen.package,
        "workspace": seen.workspace, "lifecycle": lifecycle});
    if stage == Stage::Published {
        remote["revision"] = json!("1");
    }
    assert_eq!(status["remote"], remote, "{status:#}");
    seen.name.clone()
}

fn writes(porch: &Porch) -> Vec<String> {
    let log = porch.fake.log();
    log.iter().filter(|logged| logged.method != "GET").map(|logged| logged.short()).collect()
}

#[test]
fn an_intent_becomes_a_proposed_revision_that_holds_its_workload() {
    let (place, porch) =
        (Place::new(), Porch::with(Options { token: Some("tok-1".to_owned()), ..Options::default() }));
    let node = start(&place, &porch, "propose");
    place.rename_in("intent-a.json", &scale("nf-a", 3));
    let status = place.settled("intent-a.json");
    let name = one_revision(&porch, &status, Stage::Proposed, "Proposed");
    assert_eq!(status["message"], format!("proposed as porch:{name}"), "{status:#}");
    let files = porch.fake.files(&name).unwrap();
    let workload = &files["workload.yaml"];
    assert!(workload.contains("replicas: 3") && workload.contains("nf-a"), "{workload}");
    assert!(workload.contains(status["id"].as_str().unwrap()), "{workload}");
    assert!(!place.log().contains("tok-1"), "a token is in the log");
    node.finish();
}

#[test]
fn with_approval_publish_it_is_published_by_four_writes_and_a_restart_adds_nothing() {
    let (place, porch) = (Place::new(), Porch::start());
    let node = start(&place, &porch, "publish");
    place.rename_in("intent-a.json", &scale("nf-a", 3));
    let status = place.settled("intent-a.json");
    let name = one_revision(&porch, &status, Stage::Published, "Published");
    assert_eq!(status["message"], format!("delivered to porch:{name} revision 1"), "{status:#}");
    let four = writes(&porch);
    assert_eq!(four.len(), 4, "{four:?}");
    node.finish();
    let node = start(&place, &porch, "publish");
    place.rename_in("intent-a.json", &scale("nf-a", 3));
    assert_eq!(place.settled_times("intent-a.json", 2)[1]["fate"], "duplicate");
    assert_eq!(writes(&porch), four);
    // A new count is a new revision of the same package.
    place.rename_in("intent-b.json", &scale("nf-a", 5));
    let status = place.settled("intent-b.json");
    assert_eq!(
        (&status["remote"]["revision"], &status["remote"]["package"]),
        (&json!("2"), &json!(package(&name)))
    );
    assert_eq!(porch.fake.published(package(&name)).len(), 2);
    node.finish();
}

fn package(name: &str) -> &str {
    name.split('.').nth(1).expect("an object has a package")
}

#[test]
fn a_daemon_that_is_killed_while_the_server_publishes_finds_what_was_done() {
    for done in [Fault::Hold(Duration::from_secs(1)), Fault::HangAfter, Fault::HangBefore] {
        let (place, porch) = (Place::new(), Porch::start());
        porch.fake.inject(Rule::once(Step::Approve, done.clone()));
        let node = start(&place, &porch, "publish");
        place.rename_in("intent-a.json", &scale("nf-a", 3));
        until("the approval is asked for", || {
            writes(&porch).iter().any(|line| line.contains("/approval")).then_some(())
        });
        node.kill();
        let node = start(&place, &porch, "publish");
        let status = place.settled("intent-a.json");
        one_revision(&porch, &status, Stage::Published, "Published");
        let made = writes(&porch).iter().filter(|line| line.starts_with("POST")).count();
        assert_eq!(made, 1, "{done:?}: a second draft was asked for: {:?}", writes(&porch));
        node.finish();
    }
}

#[test]
fn an_answer_that_got_lost_at_any_step_leaves_one_revision() {
    for step in [Step::Create, Step::Files, Step::Propose, Step::Approve] {
        let (place, porch) = (Place::new(), Porch::start());
        porch.fake.inject(Rule::once(step, Fault::ResetAfter));
        let node = start(&place, &porch, "publish");
        place.rename_in("intent-a.json", &scale("nf-a", 3));
        one_revision(&porch, &place.settled("intent-a.json"), Stage::Published, "Published");
        node.finish();
    }
}

#[test]
fn intents_wait_for_a_server_that_is_down_or_refuses_and_say_why() {
    let (place, porch) =
        (Place::new(), Porch::with(Options { token: Some("tok-1".to_owned()), ..Options::default() }));
    porch.fake.stop();
    let node = start(&place, &porch, "publish");
    place.rename_in("intent-a.json", &scale("nf-a", 3));
    let pending = |reason: &str| {
        until(&format!("the intent waits for {reason}"), || {
            place.statuses_of("intent-a.json").into_iter().find(|status| status["reason"] == reason)
        })
    };
    let status = pending("sink-unavailable");
    assert_eq!(status["fate"], "pending");
    assert!(status["message"].as_str().unwrap().contains("127.0.0.1"), "{status:#}");
    assert_eq!(node.get("/readyz").code, 200, "a sink that cannot be reached is no reason to be not ready");
    porch.fake.set_token(Some("tok-2"));
    porch.fake.resume();
    let status = pending("sink-auth");
    assert!(status["message"].as_str().unwrap().contains("renew the credential"), "{status:#}");
    // The kubeconfig is written anew, with the token of now.
    porch.kubeconfig();
    one_revision(&porch, &place.settled("intent-a.json"), Stage::Published, "Published");
    assert!(!place.log().contains("tok-"), "a token is in the log");
    node.finish();
}

#[test]
fn a_sandboxed_daemon_reaches_the_server_and_a_credential_that_rotates() {
    let token = Some("tok-1".to_owned());
    let (place, porch) = (Place::new(), Porch::with(Options { token, ..Options::default() }));
    let config = settings(&place, &porch, "publish");
    let node = place.node().with(&["--config", &config, "--set", "service.sandbox=require"]).start();
    place.rename_in("intent-a.json", &scale("nf-a", 3));
    one_revision(&porch, &place.settled("intent-a.json"), Stage::Published, "Published");
    porch.fake.set_token(Some("tok-2"));
    porch.kubeconfig();
    place.rename_in("intent-b.json", &scale("nf-a", 4));
    assert_eq!(place.settled("intent-b.json")["remote"]["revision"], "2");
    let port = porch.fake.address().port().to_string();
    let log = place.log();
    let told = log.lines().find(|line| line.contains("sandboxed:")).expect("the sandbox is told of");
    assert!(told.contains(&port) || told.contains("not restricted before ABI 4"), "{told}");
    node.finish();
}

#[test]
fn once_delivers_and_ends_and_with_a_server_that_is_down_it_leaves_the_intent() {
    let (place, porch) = (Place::new(), Porch::start());
    let config = settings(&place, &porch, "publish");
    let once = ["once", "--json", "--patience", "1s", "--config", &config];
    place.rename_in("intent-a.json", &scale("nf-a", 3));
    porch.fake.stop();
    let told = place.run(&once).ended(1).json();
    assert_eq!((&told["pending"], &told["delivered"]), (&json!(1), &json!(0)), "{told:#}");
    porch.fake.resume();
    let told = place.run(&once).ended(0).json();
    assert_eq!((&told["pending"], &told["delivered"]), (&json!(0), &json!(1)), "{told:#}");
    one_revision(&porch, &place.settled("intent-a.json"), Stage::Published, "Published");
    place.audit();
}

/// Delivers `nf-a` and `nf-b` as proposals; their names, in this order.
#[track_caller]
fn two_proposals(place: &Place) -> [String; 2] {
    ["a", "b"].map(|letter| {
        let file = format!("intent-{letter}.json");
        place.rename_in(&file, &scale(&format!("nf-{letter}"), 3));
        let status = place.settled(&file);
        assert_eq!(status["remote"]["lifecycle"], "Proposed", "{status:#}");
        status["remote"]["name"].as_str().unwrap().to_owned()
    })
}

/// The first was published, the second sent back: the status files tell it, and the log tells each once.
#[track_caller]
fn both_decisions_are_told(place: &Place, porch: &Porch, names: &[String; 2]) {
    let told = [("intent-a.json", "Published", json!("1")), ("intent-b.json", "Draft", Value::Null)];
    for ((file, lifecycle, revision), name) in told.into_iter().zip(names) {
        let status = until(&format!("the status of {file} says {lifecycle}"), || {
            let status = place.settled(file);
            (status["remote"]["lifecycle"] == lifecycle).then_some(status)
        });
        assert_eq!(status["fate"], "delivered", "{status:#}");
        assert_eq!((&status["remote"]["name"], &status["remote"]["revision"]), (&json!(name), &revision));
        let log = place.log();
        let lines = log.lines().filter(|line| line.contains("moved by somebody else"));
        assert_eq!(lines.filter(|line| line.contains(name.as_str())).count(), 1, "{log}");
    }
    assert_eq!(porch.fake.audit().revisions.len(), 2, "nothing was made anew");
}

#[test]
fn what_somebody_else_decides_on_a_proposal_is_told_within_the_interval() {
    let (place, porch) = (Place::new(), Porch::start());
    let node = start(&place, &porch, "propose");
    let names = two_proposals(&place);
    assert!(porch.fake.publish_as_somebody_else(&names[0]) && porch.fake.reject(&names[1]));
    both_decisions_are_told(&place, &porch, &names);
    node.finish();
}

#[test]
fn what_somebody_else_decides_while_the_daemon_is_down_is_told_after_its_start() {
    let (place, porch) = (Place::new(), Porch::start());
    let node = start(&place, &porch, "propose");
    let names = two_proposals(&place);
    node.finish();
    assert!(porch.fake.publish_as_somebody_else(&names[0]) && porch.fake.reject(&names[1]));
    let node = start(&place, &porch, "propose");
    both_decisions_are_told(&place, &porch, &names);
    node.finish();
}

#[test]
fn settings_that_lead_nowhere_are_told_with_their_place() {
    let place = Place::new();
    for (text, told) in [
        ("[sink]\nkind = \"porch\"\n", "line 2 column 8: sink.kind: porch needs a repository"),
        (
            "[sink]\nkind = \"porch\"\n[sink.porch]\nrepository = \"edge\"\nurl = \"http://porch:7007\"\n",
            "line 5 column 7: sink.porch.url: plain http is for this machine alone",
        ),
        (
            "[sink]\nkind = \"porch\"\n[sink.porch]\nrepository = \"edge\"\nca_file = \"/etc/ca.pem\"\n",
            "line 5 column 11: sink.porch.ca_file: is for the server of sink.porch.url",
        ),
        ("[sink.porch]\nurl = \"https://u:secret@porch\"\n", "line 2 column 7: sink.porch.url:"),
        ("[sink.porch]\nrepository = \"Edge\"\n", "line 2 column 14: sink.porch.repository:"),
        ("[sink.porch]\napproval = \"always\"\n", "line 2 column 12: sink.porch.approval:"),
        ("[sink.porch]\nrequest_timeout = \"1h\"\n", "line 2 column 19: sink.porch.request_timeout:"),
        ("[sink.porch]\nkeep_revisions = 0\n", "line 2 column 18: sink.porch.keep_revisions:"),
    ] {
        let ran = place.run(&["config", "check", &place.settings(text)]).ended(1);
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(said.contains(told), "{text}: {said}");
    }
}
