//! The NetworkIntent sink from outside: the real daemon and a fake cluster over TLS (fault rows P01, P03,
//! P07, P08, P11 to P13 at this sink).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use conductor_loop::fake_porch::{FakePorch, Fault, Options, Rule, Step};
use serde_json::{Value, json};

use crate::support::{Node, Place, intent, scale, until, within};

/// The namespace of the intents of these tests.
const HERE: &str = "ran-a";

#[track_caller]
fn cluster(token: Option<&str>) -> FakePorch {
    let fake = FakePorch::start(Options { token: token.map(str::to_owned), ..Options::default() }).unwrap();
    fake.add_namespace(HERE);
    fake
}

/// Puts a kubeconfig for the cluster in the place of the one before.
#[track_caller]
fn write_kubeconfig(place: &Place, fake: &FakePorch) {
    let fresh = place.root().join("kubeconfig.new");
    fs::write(&fresh, fake.kubeconfig()).unwrap();
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(fresh, kubeconfig(place)).unwrap();
}

fn kubeconfig(place: &Place) -> String {
    place.root().join("kubeconfig").to_str().expect("temporary folders have plain names").to_owned()
}

/// A daemon that makes NetworkIntents.
#[track_caller]
fn node(place: &Place) -> Node<'_> {
    node_with(place, "service.sandbox=best-effort")
}

#[track_caller]
fn node_with<'p>(place: &'p Place, more: &str) -> Node<'p> {
    let setting = format!("sink.network-intent.kubeconfig={}", kubeconfig(place));
    place.node().with(&["--sink", "network-intent", "--set", &setting, "--set", more]).start()
}

/// Waits for the status that tells why `name` waits.
#[track_caller]
fn pending(place: &Place, name: &str, reason: &str) -> Value {
    until(&format!("{name} waits for {reason}"), || {
        let statuses = place.statuses_of(name);
        statuses.into_iter().find(|status| status["fate"] == "pending" && status["reason"] == reason)
    })
}

/// `<method> <code>` of every request about NetworkIntents.
fn requests(fake: &FakePorch) -> Vec<String> {
    fake.log().iter().map(|logged| format!("{} {}", logged.method, logged.status)).collect()
}

#[test]
fn an_intent_becomes_one_object_as_the_original_made_it() {
    let (place, fake) = (Place::new(), cluster(Some("secret-token")));
    write_kubeconfig(&place, &fake);
    let node = node(&place);
    let text = json!({"intent_type": "scaling", "target": "odu", "namespace": HERE, "replicas": 5,
        "reason": "evening", "source": "planner", "correlation_id": "c-7"});
    place.rename_in("intent-1.json", text.to_string().as_bytes());
    let status = place.settled("intent-1.json");
    let objects = fake.intents(HERE);
    assert_eq!(objects.len(), 1, "{objects:?}");
    let (name, object) = objects.iter().next().unwrap();
    assert_eq!((&status["fate"], &status["sink"]), (&json!("delivered"), &json!("network-intent")));
    assert_eq!(status["remote"], json!({"name": format!("{HERE}/{name}"), "lifecycle": "Applied"}));
    assert_eq!(status["message"], format!("delivered to network-intent:{HERE}/{name}"));
    assert!(name.starts_with("intent-odu-") && name.len() == 26, "{name}");
    let spec = json!({"source": "planner", "intentType": "scaling", "target": "odu", "namespace": HERE,
        "replicas": 5});
    assert_eq!(object["spec"], spec);
    let labels = json!({"app.kubernetes.io/managed-by": "nephoran-conductor",
        "nephoran.com/intent-type": "scaling", "nephoran.com/target": "odu"});
    assert_eq!(object["metadata"]["labels"], labels);
    let annotations = &object["metadata"]["annotations"];
    assert_eq!(annotations["conductor-loop.nephoran.com/intent-id"], status["id"]);
    assert_eq!(annotations["nephoran.com/reason"], "evening");
    assert_eq!(annotations["nephoran.com/correlation-id"], "c-7");
    assert_eq!(requests(&fake), ["POST 201"]);
    node.finish();
    assert!(!place.log().contains("secret-token"));
}

#[test]
fn every_intent_has_an_object_and_a_duplicate_has_none() {
    let (place, fake) = (Place::new(), cluster(None));
    write_kubeconfig(&place, &fake);
    let node = node(&place);
    for number in 0..120_u32 {
        place.rename_in(
            &format!("intent-{number}.json"),
            &scale(&format!("nf-{}", number % 30), 1 + number % 9),
        );
    }
    node.wait_settled(120, Duration::from_secs(30));
    assert_eq!(fake.intents(HERE).len(), 120);
    place.rename_in("intent-7.json", &scale("nf-7", 8));
    assert_eq!(place.settled_times("intent-7.json", 2)[1]["fate"], "duplicate");
    assert_eq!(fake.intents(HERE).len(), 120);
    node.finish();
}

#[test]
fn what_the_cluster_refuses_fails_alone_and_says_why() {
    let (place, fake) = (Place::new(), cluster(None));
    write_kubeconfig(&place, &fake);
    let node = node(&place);
    let denied = "admission webhook \"policy.example.org\" denied the request: no scaling on Sundays";
    fake.inject(Rule::once(Step::Network, Fault::Status(403, denied.to_owned())));
    place.rename_in("intent-bad.json", &scale("nf", 3));
    let status = place.settled("intent-bad.json");
    assert_eq!((&status["fate"], &status["reason"]), (&json!("refused"), &json!("sink-rejected")));
    let log = fs::read_to_string(place.failed("intent-bad.json.error.log")).unwrap();
    assert!(log.contains("no scaling on Sundays"), "{log}");
    place.rename_in("intent-good.json", &scale("nf", 4));
    assert_eq!(place.settled("intent-good.json")["fate"], "delivered");
    assert_eq!(fake.intents(HERE).len(), 1);
    node.finish();
}

#[test]
fn an_outage_holds_everything_and_afterwards_each_intent_is_made_once() {
    let (place, fake) = (Place::new(), cluster(None));
    write_kubeconfig(&place, &fake);
    let node = node(&place);
    fake.stop();
    for number in 0..20 {
        place.rename_in(&format!("intent-{number}.json"), &scale(&format!("nf-{number}"), 3));
    }
    let told =
        until("somebody is told", || place.statuses().into_iter().find(|status| status["fate"] == "pending"));
    assert_eq!(told["reason"], "sink-unavailable", "{told:#}");
    assert_eq!(node.get("/readyz").code, 200);
    let verbose = node.get("/readyz?verbose").body;
    assert!(verbose.contains("sink-unavailable"), "{verbose}");
    fake.resume();
    node.wait_settled(20, Duration::from_secs(60));
    assert_eq!(fake.intents(HERE).len(), 20);
    node.finish();
}

#[test]
fn an_expired_token_holds_intents_until_the_kubeconfig_is_renewed() {
    let (place, fake) = (Place::new(), cluster(Some("first-token")));
    write_kubeconfig(&place, &fake);
    let node = node(&place);
    fake.set_token(Some("second-token"));
    place.rename_in("intent-1.json", &scale("nf", 3));
    let status = pending(&place, "intent-1.json", "sink-auth");
    assert!(status["message"].as_str().unwrap().contains("renew the credential"), "{status:#}");
    assert!(fake.intents(HERE).is_empty());
    write_kubeconfig(&place, &fake);
    assert_eq!(place.settled("intent-1.json")["fate"], "delivered");
    assert_eq!(fake.intents(HERE).len(), 1);
    node.finish();
    assert!(!place.log().contains("-token"));
}

#[test]
fn a_sandboxed_daemon_reaches_the_cluster_and_a_credential_that_rotates() {
    let (place, fake) = (Place::new(), cluster(Some("first-token")));
    write_kubeconfig(&place, &fake);
    let node = node_with(&place, "service.sandbox=require");
    for (token, name) in [("first-token", "intent-1.json"), ("second-token", "intent-2.json")] {
        fake.set_token(Some(token));
        write_kubeconfig(&place, &fake);
        place.rename_in(name, &scale(&name[..8], 3));
        assert_eq!(place.settled(name)["fate"], "delivered");
    }
    assert_eq!(fake.intents(HERE).len(), 2);
    node.finish();
}

#[test]
fn without_a_kubeconfig_intents_wait_and_once_ends_with_1() {
    let (place, fake) = (Place::new(), cluster(None));
    place.rename_in("intent-1.json", &scale("nf", 3));
    let setting = format!("sink.network-intent.kubeconfig={}", kubeconfig(&place));
    let words = ["once", "--use-processor", "--patience", "1s", "--set", &setting];
    let ran = place.run(&words).ended(1);
    assert!(ran.stderr.contains("correct sink.network-intent.kubeconfig"), "{}", ran.stderr);
    write_kubeconfig(&place, &fake);
    place.run(&words).ended(0);
    assert_eq!(place.settled("intent-1.json")["fate"], "delivered");
    assert_eq!(fake.intents(HERE).len(), 1);
    place.audit();
}

#[test]
fn a_missing_namespace_holds_its_own_intents_alone() {
    let (place, fake) = (Place::new(), cluster(None));
    write_kubeconfig(&place, &fake);
    let node = node(&place);
    for number in 0..30 {
        place.rename_in(
            &format!("intent-lost-{number}.json"),
            &intent("elsewhere", &format!("nf-{number}"), 3),
        );
    }
    let status = pending(&place, "intent-lost-29.json", "sink-unavailable");
    assert!(status["message"].as_str().unwrap().contains("create the namespace elsewhere"), "{status:#}");
    let page = node.page();
    assert_eq!(
        page.sum("conductor_loop_circuit_state"),
        0.0,
        "a producer's slip is no trouble of the cluster"
    );
    place.rename_in("intent-here.json", &scale("nf", 3));
    assert_eq!(place.settled("intent-here.json")["fate"], "delivered");
    assert_eq!(fake.intents(HERE).len(), 1);
    node.finish();
}

#[test]
fn kills_and_lost_answers_make_no_object_twice_and_lose_none() {
    let (place, fake) = (Place::new(), cluster(None));
    write_kubeconfig(&place, &fake);
    fake.inject(Rule::chance(Step::Network, 0.15, Fault::CloseAfter));
    fake.inject(Rule::chance(Step::Network, 0.1, Fault::Unreachable));
    fake.inject(Rule::chance(Step::Network, 0.1, Fault::NotJson));
    let mut running = node(&place);
    for number in 0..60_u32 {
        place.rename_in(
            &format!("intent-{number}.json"),
            &scale(&format!("nf-{}", number % 20), 1 + number / 20),
        );
        if number % 20 == 19 {
            let wanted = number as usize / 2;
            within(Duration::from_secs(30), "some are made", || {
                (fake.intents(HERE).len() >= wanted).then_some(())
            });
            running.kill();
            running = node(&place);
        }
    }
    fake.clear_faults();
    within(Duration::from_secs(90), "all are settled", || {
        (place.list("processed").len() == 60).then_some(())
    });
    running.finish();
    assert_eq!(fake.intents(HERE).len(), 60);
    let ends = place.history();
    assert!(ends.iter().all(|end| end["fate"] == "delivered"), "{ends:#?}");
}
