//! A server that nobody reaches for a while: the daemon takes everything, says what waits, and on the return
//! sends the newest of each target.
//!
//! `CONDUCTOR_TEST_OFFLINE=10000` makes it as large as the simulation of eight hours in
//! `src/submit/driver/tests/eight_hours.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::support::{Place, Porch, REPOSITORY, scale, setting, until, within};

#[test]
fn of_five_hundred_intents_twenty_are_sent_and_the_others_are_superseded_with_status() {
    let intents = setting("CONDUCTOR_TEST_OFFLINE", 500);
    let targets = (intents / 25).min(200);
    let each = intents / targets;
    let (place, porch) = (Place::new(), Porch::start());
    porch.fake.stop();
    let config = place.settings(&format!(
        "[sink]\nkind = \"porch\"\ncoalesce = \"latest\"\n[sink.porch]\nrepository = \"{REPOSITORY}\"\n\
         kubeconfig = \"{}\"\napproval = \"draft\"\nrequest_timeout = \"10s\"\n",
        porch.kubeconfig().display()
    ));
    let node = place.node().with(&["--config", &config]).start();
    for number in 0..intents {
        let (target, count) = (number % targets, 1 + number / targets);
        let count = u32::try_from(count).unwrap();
        place.rename_in(&format!("intent-{number:05}.json"), &scale(&format!("nf-{target}"), count));
    }
    let ended = || {
        let mut fates: BTreeMap<String, u64> = BTreeMap::new();
        for status in place.statuses() {
            *fates.entry(status["fate"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        fates
    };
    let waiting =
        BTreeMap::from([("pending".to_owned(), targets), ("superseded".to_owned(), intents - targets)]);
    within(Duration::from_secs(60), "every producer knows what waits and what does not", || {
        (ended() == waiting).then_some(())
    });
    let newest = format!("intent-{:05}.json", intents - 1);
    let status = until("the newest waits for the server", || {
        place.statuses_of(&newest).pop().filter(|status| status["reason"] == "sink-unavailable")
    });
    assert!(status["message"].as_str().unwrap().contains("127.0.0.1"), "{status:#}");
    porch.fake.clear_log();
    porch.fake.resume();
    let over =
        BTreeMap::from([("delivered".to_owned(), targets), ("superseded".to_owned(), intents - targets)]);
    // Ten requests leave in a second, and each target needs three.
    within(Duration::from_secs(60 + targets), "what waited is delivered", || (ended() == over).then_some(()));
    let made = porch.fake.log().iter().filter(|request| request.method == "POST" && request.applied).count();
    assert_eq!(made as u64, targets, "{:?}", porch.fake.short_log());
    let revisions = porch.fake.audit().revisions;
    assert_eq!(revisions.len() as u64, targets);
    for seen in revisions {
        let workload = &porch.fake.files(&seen.name).unwrap()["workload.yaml"];
        assert!(workload.contains(&format!("replicas: {each}\n")), "{}: {workload}", seen.name);
    }
    for status in place.statuses().iter().filter(|status| status["fate"] == "superseded") {
        assert_eq!(status["reason"], json!("newer-intent"), "{status:#}");
    }
    node.finish();
}
