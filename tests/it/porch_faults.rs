//! The daemon's own configuration and rights at Porch (P08, P09): what is wrong holds intents back and is said in
//! readiness, in the status file, in one line of the log and by the doctor; no file fails for it, and putting it
//! right is enough.

use std::path::Path;
use std::time::Duration;

use conductor_loop::fake_porch::{NAMESPACE, Options, Stage};
use conductor_loop::submit::{Outcome, Sink as _};
use serde_json::json;

use crate::doctor::{doctor, said};
use crate::support::{Bench, Dropped, Node, Place, Porch, REPOSITORY, scale, until};

const GIT: &str = "https://git.example/edge.git";

/// What is wrong, and what is said of it.
struct Wrong {
    reason: &'static str,
    /// Parts of the message: what failed, and what to do.
    told: &'static [&'static str],
    /// The check of the doctor that fails, and parts of what it says.
    found: (&'static str, &'static [&'static str]),
    make: fn(&Porch),
    mend: fn(&Porch),
}

/// Settings that lead to the server and publish at once, and more of `[sink.porch]`.
fn settings(place: &Place, kubeconfig: &Path, more: &str) -> String {
    place.settings(&format!(
        "[sink]\nkind = \"porch\"\n[sink.porch]\nrepository = \"{REPOSITORY}\"\napproval = \"publish\"\n\
         kubeconfig = \"{}\"\nrequest_timeout = \"5s\"\n{more}",
        kubeconfig.display()
    ))
}

fn start<'p>(place: &'p Place, settings: &str) -> Node<'p> {
    place.node().with(&["--config", settings]).start()
}

/// Two files meet what is wrong, wait, and are delivered once it is put right.
#[track_caller]
fn held_and_explained(wrong: &Wrong) {
    let place = Place::new();
    let porch = Porch::with(Options { token: Some("tok-1".to_owned()), ..Options::default() });
    let kubeconfig = porch.kubeconfig();
    (wrong.make)(&porch);
    let settings = settings(&place, &kubeconfig, "");
    let node = start(&place, &settings);
    place.rename_in("intent-a.json", &scale("nf-a", 3));
    place.rename_in("intent-b.json", &scale("nf-b", 5));
    let status = until("the file's status tells why it waits", || {
        place.statuses_of("intent-a.json").into_iter().find(|status| status["reason"] == wrong.reason)
    });
    assert_eq!(status["fate"], "pending", "{status:#}");
    let ready = until("readiness tells it", || {
        let page = node.get("/readyz?verbose");
        assert_eq!(page.code, 200, "a sink in trouble does not make the daemon unready: {}", page.body);
        let line = page.body.lines().find(|line| line.contains("[-]sink"))?.to_owned();
        Some(line)
    });
    for said in [&status["message"].to_string(), &ready] {
        for part in wrong.told {
            assert!(said.contains(part), "{said} does not say {part:?}");
        }
    }
    let log = place.log();
    let lines = log.lines().filter(|line| line.contains("intents wait for the sink")).count();
    assert_eq!(lines, 1, "one line of the log tells it: {log}");
    assert!(!log.contains("tok-"), "a token is in the log");
    let (check, words) = wrong.found;
    said(&doctor(&place, &["--config", &settings]), "sink", check, "fail", words);
    (wrong.mend)(&porch);
    for name in ["intent-a.json", "intent-b.json"] {
        let status = place.settled(name);
        assert_eq!(status["fate"], json!("delivered"), "{status:#}");
    }
    let audit = porch.fake.audit();
    assert!(audit.revisions.iter().all(|seen| seen.stage == Stage::Published), "{audit:#?}");
    assert_eq!(audit.revisions.len(), 2, "one revision for each intent");
    assert!(node.get("/readyz?verbose").body.contains("[+]sink ok"));
    assert!(place.list("failed").is_empty(), "no file fails for the daemon's own configuration");
    node.finish();
}

#[test]
fn a_kubeconfig_that_cannot_be_read() {
    held_and_explained(&Wrong {
        reason: "sink-unavailable",
        told: &["kubeconfig"],
        found: ("kubeconfig", &["kubeconfig"]),
        make: |porch| drop(porch.file("kubeconfig", "clusters: [\n")),
        mend: |porch| drop(porch.kubeconfig()),
    });
}

#[test]
fn a_token_that_expired() {
    held_and_explained(&Wrong {
        reason: "sink-auth",
        told: &["401", "renew the credential"],
        found: ("server", &["HTTP 401"]),
        make: |porch| porch.fake.set_token(Some("tok-2")),
        mend: |porch| drop(porch.kubeconfig()),
    });
}

#[test]
fn a_server_that_somebody_unknown_vouches_for() {
    held_and_explained(&Wrong {
        reason: "sink-unavailable",
        told: &["certificate", "sink.porch.ca_file"],
        found: ("server", &["certificate"]),
        make: |porch| {
            let other = Porch::start();
            let authority = |text: &str| {
                let line = text.lines().find(|line| line.contains("certificate-authority-data"));
                line.expect("a server with TLS has an authority").to_owned()
            };
            let (own, theirs) = (porch.fake.kubeconfig(), other.fake.kubeconfig());
            porch.file("kubeconfig", &own.replace(&authority(&own), &authority(&theirs)));
        },
        mend: |porch| drop(porch.kubeconfig()),
    });
}

#[test]
fn a_repository_that_is_missing() {
    held_and_explained(&Wrong {
        reason: "sink-unavailable",
        told: &["repositories.config.porch.kpt.dev", "edge", "sink.porch.repository"],
        found: ("repository", &["there is no edge in namespace default"]),
        make: |porch| porch.fake.remove_repository(REPOSITORY, NAMESPACE),
        mend: |porch| porch.fake.add_repository(REPOSITORY, NAMESPACE, GIT),
    });
}

#[test]
fn a_right_to_approve_that_is_missing() {
    held_and_explained(&Wrong {
        reason: "sink-auth",
        told: &["approval", "grant the right"],
        found: ("rights", &["patch packagerevisions/approval", "nothing is published"]),
        make: |porch| porch.fake.deny("patch", "packagerevisions/approval"),
        mend: |porch| porch.fake.allow("patch", "packagerevisions/approval"),
    });
}

#[test]
fn a_right_to_create_that_is_missing() {
    held_and_explained(&Wrong {
        reason: "sink-auth",
        told: &["packagerevisions", "grant the right"],
        found: ("rights", &["create packagerevisions", "no intent is delivered"]),
        make: |porch| porch.fake.deny("create", "packagerevisions"),
        mend: |porch| porch.fake.allow("create", "packagerevisions"),
    });
}

#[test]
fn a_right_to_delete_that_is_missing() {
    let (place, porch) = (Place::new(), Porch::start());
    porch.fake.deny("delete", "packagerevisions");
    let settings = settings(&place, &porch.kubeconfig(), "keep_revisions = 1\n");
    let node = start(&place, &settings);
    let told =
        |log: String| log.lines().filter(|line| line.contains("old revisions are not removed")).count();
    for (name, replicas) in [("intent-a.json", 1), ("intent-b.json", 2)] {
        place.rename_in(name, &scale("nf-a", replicas));
        assert_eq!(place.settled(name)["fate"], json!("delivered"));
    }
    until("the log tells it", || (told(place.log()) > 0).then_some(()));
    let page = until("readiness tells it", || {
        Some(node.get("/readyz?verbose")).filter(|page| !page.body.contains("[+]sink ok"))
    });
    assert_eq!(page.code, 200, "it keeps nothing waiting: {}", page.body);
    assert!(page.body.contains("[-]sink failed: old revisions are not removed: "), "{}", page.body);
    place.rename_in("intent-c.json", &scale("nf-a", 3));
    let status = place.settled("intent-c.json");
    assert_eq!((&status["fate"], &status["remote"]["revision"]), (&json!("delivered"), &json!("3")));
    let report = doctor(&place, &["--config", &settings]);
    said(&report, "sink", "rights", "warn", &["delete packagerevisions", "keep_revisions"]);
    assert_eq!(told(place.log()), 1, "one line of the log tells it: {}", place.log());
    assert_eq!(porch.fake.audit().revisions.len(), 3, "nothing is lost");
    assert!(place.list("failed").is_empty());
    node.finish();
}

#[tokio::test]
async fn without_the_right_to_delete_old_revisions_stay_and_intents_go_on() {
    let bench = Bench::new(|settings| settings.keep_revisions = 1);
    bench.fake().deny("delete", "packagerevisions");
    for id in 1..=3 {
        let dropped = Dropped::new(id, "nf-a", u32::try_from(id).unwrap());
        let outcomes = bench.deliver(&[&dropped], false).await;
        assert!(matches!(outcomes[..], [Outcome::Delivered(_)]), "{outcomes:?}");
        let next = bench.sink.tend(true).await.next;
        // The first one is none too many.
        assert_eq!(
            next.is_some_and(|next| next > Duration::from_secs(500)),
            id > 1,
            "asked rarely: {next:?}"
        );
    }
    assert_eq!(bench.fake().audit().revisions.len(), 3, "nothing is lost");
    assert_eq!(bench.sink.check(), Ok(()), "pruning is no trouble of the intents");
}
