//! `requeue`: deliberate repeats make exactly one new effect each, whatever happens in between.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Place, names_in, scale, until};

fn id(document: &Value) -> String {
    document["id"].as_str().unwrap().to_owned()
}

/// Requests that were not taken yet.
fn requests(place: &Place) -> Vec<String> {
    names_in(&place.state().join("requeue"))
}

#[track_caller]
fn wait_taken(place: &Place) {
    until("every request is taken", || requests(place).is_empty().then_some(()));
}

#[test]
fn a_delivered_intent_is_delivered_once_more() {
    let place = Place::new();
    let node = place.node().start();
    place.rename_in("intent-1.json", &scale("odu", 3));
    let first = place.settled("intent-1.json");
    let old = id(&first);

    let shown = place.run(&["requeue", &old]).ended(0).stdout;
    assert!(
        shown.contains(&old) && shown.contains("ran-a/deployment/odu") && shown.contains("delivered"),
        "{shown}"
    );
    assert!(shown.ends_with("1 would be tried again; add --yes to do it\n"), "{shown}");
    let by = |target| place.run(&["requeue", "--since", "1h", "--target", target]).ended(0).stdout;
    assert_eq!(by("ran-a/deployment/odu"), shown);
    assert_eq!(by("ran-a/deployment/oru"), "nothing to try again\n");
    assert!(requests(&place).is_empty(), "a preview asks for nothing");

    let done = place.run(&["requeue", &old, "--yes", "--json"]).ended(0).json();
    let new = done["intents"][0]["requeued_as"].as_str().unwrap_or_else(|| panic!("{done:#}")).to_owned();
    let second = place.settled_times("intent-1.json", 2).pop().unwrap();
    assert_eq!(
        (second["id"].as_str(), second["requeue_of"].as_str()),
        (Some(&*new), Some(&*old)),
        "{second:#}"
    );
    assert_eq!(
        (&second["fate"], &second["archive"]),
        (&"delivered".into(), &"snapshot".into()),
        "{second:#}"
    );
    let workload = place.deployment("odu");
    assert_eq!((workload.revision, workload.replicas, &*workload.intent_id), (2, Some(3), &*new));
    assert_eq!(fs::read(place.processed("intent-1.json")).unwrap(), scale("odu", 3), "the original stays");
    // The status comes first, then the archive.
    let copy = place.processed(&format!("intent-1-{}.json", &new[..8]));
    assert_eq!(until("the copy is archived", || fs::read(&copy).ok()), scale("odu", 3));

    // A file is still known for what it is, and both can be tried again.
    place.rename_in("intent-1.json", &scale("odu", 3));
    assert_eq!(place.settled_times("intent-1.json", 3).pop().unwrap()["fate"], "duplicate");
    place.run(&["requeue", &old, &new, "--yes"]).ended(0);
    place.settled_times("intent-1.json", 5);
    assert_eq!(place.deployment("odu").revision, 4);
    node.finish();
}

#[test]
fn refused_intents_are_judged_anew_by_the_rules_in_force() {
    let place = Place::new();
    let node = place.node().with(&["--set", "policy.max_replicas=5"]).start();
    for (name, bytes) in [
        ("intent-1.json", scale("odu", 6)),
        ("intent-2.json", scale("oru", 7)),
        ("intent-3.json", b"{]".to_vec()),
    ] {
        place.rename_in(name, &bytes);
        assert_eq!(place.settled(name)["fate"], "refused");
    }
    let first = id(&place.statuses_of("intent-1.json")[0]);
    place.run(&["requeue", &first, "--yes"]).ended(0);
    assert_eq!(
        place.settled_times("intent-1.json", 2).pop().unwrap()["reason"],
        "policy",
        "nothing was changed yet"
    );
    assert_eq!(node.stop(), 0);

    let node = place.node().start();
    let asked = place.run(&["requeue", "--failed", "--yes", "--json"]).ended(0).json();
    let names: Vec<&str> =
        asked["intents"].as_array().unwrap().iter().map(|one| one["intent_file"].as_str().unwrap()).collect();
    // Of the one that was tried again the newest try is taken.
    assert_eq!(names, ["intent-2.json", "intent-3.json", "intent-1.json"], "{asked:#}");
    assert_eq!(asked["left_out"]["tried_again"], 1, "{asked:#}");
    assert_eq!(place.settled_times("intent-1.json", 3).pop().unwrap()["fate"], "delivered");
    assert_eq!(place.settled_times("intent-2.json", 2).pop().unwrap()["fate"], "delivered");
    assert_eq!(place.settled_times("intent-3.json", 2).pop().unwrap()["reason"], "json-syntax");
    for (target, replicas) in [("odu", 6), ("oru", 7)] {
        let workload = place.deployment(target);
        assert_eq!((workload.revision, workload.replicas), (1, Some(replicas)), "{target}");
    }
    let rest = place.run(&["requeue", "--reason", "policy", "--yes"]).ended(0).stdout;
    assert!(
        rest.contains("3 left out: tried again before") && rest.contains("nothing to try again"),
        "{rest}"
    );
    node.finish();
}

#[test]
fn what_is_asked_while_the_daemon_is_down_is_taken_at_its_start_and_by_once() {
    let place = Place::new();
    let node = place.node().start();
    place.rename_in("intent-1.json", &scale("odu", 3));
    let old = id(&place.settled("intent-1.json"));
    node.finish();

    let said = place.run(&["requeue", &old, "--yes"]).ended(0).stdout;
    assert!(
        said.contains("asked")
            && said.ends_with("the daemon is not running; it takes the requests at its next start\n"),
        "{said}"
    );
    place.run(&["requeue", &old, "--yes"]).ended(0);
    assert_eq!(requests(&place), [&*old], "asked twice is one wish");
    place.rename_in("intent-2.json", &scale("odu", 4));
    let once = place.run(&["once", "--json"]).ended(0).json();
    assert_eq!((&once["accepted"], &once["delivered"]), (&2.into(), &2.into()), "{once:#}");
    let workload = place.deployment("odu");
    assert_eq!(
        (workload.revision, workload.replicas),
        (3, Some(4)),
        "requests come before what the scan finds"
    );
    assert!(requests(&place).is_empty());

    place.run(&["requeue", &old, "--yes"]).ended(0);
    let node = place.node().start();
    wait_taken(&place);
    place.settled_times("intent-1.json", 3);
    assert_eq!(place.deployment("odu").revision, 4);
    node.finish();
}

#[test]
fn a_kill_right_after_the_request_loses_nothing_and_doubles_nothing() {
    let place = Place::new();
    let node = place.node().start();
    place.rename_in("intent-1.json", &scale("odu", 3));
    let old = id(&place.settled("intent-1.json"));
    node.kill();
    let rounds = 6;
    for round in 0..rounds {
        let node = place.node().start();
        let before = place.history().len();
        let mut command = place.command();
        let mut asking = command.args(["requeue", &old, "--yes"]).stdout(Stdio::null()).spawn().unwrap();
        // Killed as soon as it is asked for, when it is accepted, and when the request is gone.
        let accepted = || place.history().len() > before;
        until("it is asked for", || (requests(&place).contains(&old) || accepted()).then_some(()));
        if round % 3 > 0 {
            until("it is accepted", || accepted().then_some(()));
        }
        if round % 3 > 1 {
            wait_taken(&place);
        }
        node.kill();
        assert!(asking.wait().unwrap().success());
    }
    let node = place.node().start();
    wait_taken(&place);
    place.settled_times("intent-1.json", rounds + 1);
    assert_eq!(place.deployment("odu").revision, rounds as u64 + 1);
    assert_eq!(place.history().len(), rounds + 1);
    node.finish();
}

#[test]
fn what_cannot_be_tried_again_is_said_and_changes_nothing() {
    let place = Place::new();
    place.run(&["requeue"]).ended(2);
    place.run(&["requeue", "--until", "1h"]).ended(2);
    place.run(&["requeue", "xyz"]).ended(2);
    place.run(&["requeue", "--reason", "lost"]).ended(2);
    place.run(&["requeue", "--failed"]).ended(2);
    let node = place.node().start();
    place.rename_in("intent-1.json", &scale("odu", 3));
    let old = id(&place.settled("intent-1.json"));
    std::os::unix::fs::symlink("/etc/hostname", place.dropped("intent-2.json")).unwrap();
    let unread = id(&place.settled("intent-2.json"));
    for (wrong, words) in [("0123456789abcdef", "no intent 0123456789abcdef"), (&*unread, "refused unread")] {
        let ran = place.run(&["requeue", &old, wrong, "--yes"]).ended(1);
        assert!(ran.stderr.contains(words) && ran.stdout.is_empty(), "{ran:?}");
    }
    assert!(requests(&place).is_empty(), "none is asked for with one that is wrong");
    let skipped = place.run(&["requeue", "--failed"]).ended(0).stdout;
    assert!(skipped.contains("1 left out: refused unread"), "{skipped}");
    node.finish();
    assert_eq!(place.history().len(), 2);
}

#[test]
fn an_intent_whose_bytes_are_gone_gets_an_answer_and_one_in_the_archive_is_found() {
    let place = Place::new();
    let node = place.node().start();
    place.rename_in("intent-1.json", &scale("odu", 3));
    let old = id(&place.settled("intent-1.json"));
    // A clean stop closes the row; the next start forgets the kept bytes.
    node.finish();
    let aside = place.desk().join("aside.json");
    fs::rename(place.processed("intent-1.json"), &aside).unwrap();
    fs::write(place.processed("intent-1.json"), scale("odu", 9)).unwrap();
    let node = place.node().start();
    place.next_good_file_is_delivered("sweep");

    let ran = place.run(&["requeue", &old, "--yes"]).ended(1);
    assert!(
        ran.stdout.contains("failed: its accepted bytes are neither in the ledger nor in the archive"),
        "{ran:?}"
    );
    assert_eq!(requests(&place), [format!("{old}.failed")], "the answer stays for scripts");
    assert_eq!(place.deployment("odu").revision, 1);

    fs::rename(&aside, place.processed("intent-1.json")).unwrap();
    place.run(&["requeue", &old, "--yes"]).ended(0);
    place.settled_times("intent-1.json", 2);
    assert_eq!(place.deployment("odu").revision, 2);
    assert!(requests(&place).is_empty(), "and goes with the next request");
    node.finish();
}

#[test]
fn odd_entries_among_the_requests_are_left_and_stop_nobody() {
    let place = Place::new();
    let dir = place.state().join("requeue");
    fs::create_dir_all(dir.join("0123456789abcdef")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", dir.join("0123456789abcde0")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.join("0123456789abcde1"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    fs::write(dir.join("notes\u{1b}[31m"), b"x").unwrap();
    fs::write(dir.join("0123456789abcde2"), vec![0; 10_000]).unwrap();
    let node = place.node().start();
    place.rename_in("intent-1.json", &scale("odu", 3));
    let old = id(&place.settled("intent-1.json"));
    // By hand, for an intent that is there and one that is not.
    fs::write(dir.join("0123456789abcde3"), b"").unwrap();
    fs::write(dir.join(&old), b"please").unwrap();
    place.settled_times("intent-1.json", 2);
    assert_eq!(place.deployment("odu").revision, 2);
    until("the unknown one is answered", || dir.join("0123456789abcde3.failed").exists().then_some(()));
    assert_eq!(requests(&place).len(), 6, "{:?}", requests(&place));
    assert!(place.log().contains("is no plain file") && !place.log().contains('\u{1b}'));
    node.finish();
}
