//! The table of exit codes, a test for each row and cause.
//!
//! Some causes are proved where their surroundings are: usage and unparsable durations in `commands`,
//! `once` with a file held open in `commands::once`, folders that exclude each other in `folders`, locks
//! against every kind of second daemon in `restart`, a stop under load in `shutdown`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::time::Duration;

use conductor_loop::disk::Lock;
use rustix::process::Signal;

use crate::support::{Place, Ran, privileged, scale, until};

const EXPIRED: &[u8] = b"{\"intent_type\": \"scaling\", \"target\": \"odu\", \"namespace\": \"ran-a\", \
                         \"replicas\": 3, \"valid_until\": \"2001-01-01T00:00:00Z\"}";

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Each of these must fail the start of `once` with 1 and name `word`.
#[track_caller]
fn starts_fail(place: &Place, starts: &[(&[&str], &str)]) {
    for (words, word) in starts {
        let ran = Ran::of(place.command().arg("once").args(*words)).ended(1);
        assert!(ran.stderr.contains(word), "{words:?} names {word}: {}", ran.stderr);
        assert!(ran.stdout.is_empty(), "{words:?} writes no data: {}", ran.stdout);
    }
}

#[test]
fn e0_a_daemon_that_was_told_to_stop_ends_with_0_whatever_failed_before() {
    for signal in [Signal::TERM, Signal::INT] {
        let place = Place::new();
        let node = place.node().start();
        place.rename_in("intent-bad.json", b"{]");
        place.rename_in("intent-late.json", EXPIRED);
        place.settled("intent-bad.json");
        assert_eq!(place.settled("intent-late.json")["fate"], "expired");
        node.signal(signal);
        assert_eq!(node.wait_end(Duration::from_secs(12)), 0, "{signal:?}:\n{}", place.log());
        place.audit();
    }
}

#[test]
fn e0_once_without_a_refused_or_expired_file_of_its_own() {
    let place = Place::new();
    place.run(&["once"]).ended(0);
    place.rename_in("intent-1.json", &scale("odu", 3));
    place.run(&["once"]).ended(0);
    place.rename_in("intent-1.json", &scale("odu", 3));
    let again = place.run(&["once", "--json"]).ended(0).json();
    assert_eq!(again["duplicate"], 1, "a repeat is no failure: {again:#}");
    place.audit();
}

#[test]
fn e1_settings_that_cannot_be_used() {
    let place = Place::new();
    let unknown = place.settings("[watch]\nno_such_key = 1\n");
    starts_fail(
        &place,
        &[
            (&["--config", &unknown], "no_such_key"),
            (&["--config", "/nowhere/at/all.toml"], "/nowhere/at/all.toml"),
            (&["--set", "no.such=1"], "no.such"),
            (&["--schema", "/nowhere/schema.json"], "/nowhere/schema.json"),
            (&["--period", "2h"], "watch.period"),
            (&["-porch-mode=both"], "--porch-mode"),
        ],
    );
    place.run(&["config", "check", &unknown]).ended(1);
}

#[test]
fn e1_directories_that_cannot_be_used() {
    let place = Place::unprivileged();
    let (file, closed) = (place.root().join("file"), place.root().join("closed"));
    fs::write(&file, b"").unwrap();
    fs::create_dir(&closed).unwrap();
    mode(&closed, 0o555);
    let (file, inside) = (file.to_str().unwrap(), closed.join("inside"));
    let inside = inside.to_str().unwrap();
    starts_fail(
        &place,
        &[
            (&["--handoff", file], file),
            (&["--handoff", inside], inside),
            (&["--out", file], file),
            (&["--state", file], file),
            (&["--state", inside], inside),
        ],
    );
}

#[test]
fn e1_a_lock_that_another_process_holds() {
    let place = Place::new();
    let node = place.node().start();
    let ran = place.run(&["once"]).ended(1);
    assert!(ran.stderr.contains(&format!("pid {}", node.pid())), "the holder is named: {}", ran.stderr);
    node.finish();
    place.run(&["once"]).ended(0);
}

#[test]
fn e1_a_port_that_is_taken_if_it_was_asked_for() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ran = place.run(&["run", "--listen", &address]).ended(1);
    assert!(ran.stderr.contains(&address), "{}", ran.stderr);
}

#[test]
fn e1_a_ledger_that_cannot_be_written() {
    let place = Place::unprivileged();
    place.run(&["once"]).ended(0);
    place.rename_in("intent-1.json", &scale("odu", 3));
    mode(&place.state().join("ledger.db"), 0o440);
    mode(&place.state(), 0o550);
    let ran = place.run(&["once"]).ended(1);
    let told = format!("state directory {}: open ledger: the ledger is read-only", place.state().display());
    assert!(ran.stderr.contains(&told), "{}", ran.stderr);
    assert!(place.dropped("intent-1.json").exists(), "nothing was taken");
    mode(&place.state(), 0o750);
    mode(&place.state().join("ledger.db"), 0o640);
    place.run(&["once"]).ended(0);
    place.audit();
}

#[test]
fn e1_once_with_a_sink_that_refuses_service_for_its_patience() {
    let place = Place::unprivileged();
    place.rename_in("intent-1.json", &scale("odu", 3));
    mode(&place.out(), 0o550);
    let ran = place.run(&["once", "--json", "--patience=500ms"]).ended(1);
    assert_eq!(ran.json()["pending"], 1, "{ran:?}");
    assert!(ran.stderr.contains("500ms"), "{}", ran.stderr);
    mode(&place.out(), 0o750);
    place.run(&["once"]).ended(0);
    place.audit();
}

#[test]
fn e1_once_that_is_stopped_before_its_end() {
    let place = Place::unprivileged();
    place.rename_in("intent-1.json", &scale("odu", 3));
    mode(&place.out(), 0o550);
    let node = place.node().with(&["--once", "--patience=10m"]).spawn();
    until("the intent waits for the sink", || place.log().contains("sink").then_some(()));
    node.signal(Signal::TERM);
    assert_eq!(node.wait_end(Duration::from_secs(12)), 1, "{}", place.log());
    assert!(place.dropped("intent-1.json").exists(), "the file stays");
    mode(&place.out(), 0o750);
    place.run(&["once"]).ended(0);
    place.audit();
}

#[test]
fn e1_validate_of_a_file_that_cannot_be_read() {
    Place::new().run(&["validate", "/nowhere/intent.json"]).ended(1);
}

#[test]
fn e2_usage_and_a_state_that_cannot_be_read() {
    let place = Place::new();
    for words in [&["--no-such-flag"][..], &["once", "left-over"], &["completions", "tcsh"]] {
        place.run(words).ended(2);
    }
    let ran = place.run(&["history"]).ended(2);
    assert!(ran.stderr.contains("nothing was accepted here yet"), "{}", ran.stderr);
    fs::write(place.state().join("ledger.db"), b"this is no database, and it was never one\n".repeat(200))
        .unwrap();
    for words in [["status", "--json"], ["history", "--json"]] {
        let ran = place.run(&words).ended(2);
        assert!(ran.stdout.is_empty() && ran.stderr.contains("ledger"), "{words:?}: {ran:?}");
    }
}

#[test]
fn e2_a_state_that_is_not_ours_to_read_is_not_said_to_be_empty() {
    let place = Place::unprivileged();
    let node = place.node().start();
    place.next_good_file_is_delivered("hidden");
    let id = place.history()[0]["id"].as_str().expect("an id").to_owned();
    if privileged() {
        // A producer, say, who asks the daemon where its settings say that it answers.
        let address = fs::read_to_string(place.state().join("http.addr")).unwrap();
        let listen = format!("http.listen={}", address.trim());
        let told =
            Ran::of(place.command().args(["status", "--json", "--set", &listen]).uid(12_345)).ended(0).json();
        assert_eq!((&told["running"], &told["fates"]["delivered"]), (&true.into(), &1.into()), "{told:#}");
    }
    node.finish();
    mode(&place.state(), 0o000);
    for words in [&["status"][..], &["history"], &["history", "show", &id], &["requeue", &id]] {
        let ran = place.run(words).ended(2);
        assert!(ran.stdout.is_empty(), "{words:?}: {}", ran.stdout);
        for told in ["Permission denied", "run this as root or as the daemon's user"] {
            assert!(ran.stderr.contains(told), "{words:?}: {}", ran.stderr);
        }
    }
    mode(&place.state(), 0o750);
}

#[test]
fn e3_a_state_that_cannot_be_read_while_its_daemon_comes_or_goes() {
    let place = Place::new();
    fs::write(place.state().join("ledger.db"), b"not a database yet").unwrap();
    let directory = fs::File::open(place.state()).unwrap();
    let held = Lock::take(&directory, &place.state()).unwrap();
    for words in [["status", "--json"], ["history", "--json"]] {
        let ran = place.run(&words).ended(3);
        assert!(ran.stderr.contains("try again"), "{words:?}: {}", ran.stderr);
    }
    drop(held);
    place.run(&["status"]).ended(2);
}

#[test]
fn e8_once_with_a_file_that_was_refused_or_expired() {
    for (name, bytes, fate) in
        [("intent-bad.json", &b"{]"[..], "refused"), ("intent-late.json", EXPIRED, "expired")]
    {
        let place = Place::new();
        place.rename_in(name, bytes);
        place.rename_in("intent-good.json", &scale("odu", 3));
        let summary = place.run(&["once", "--json"]).ended(8).json();
        assert_eq!((&summary[fate], &summary["delivered"]), (&1.into(), &1.into()), "{summary:#}");
        place.run(&["once"]).ended(0);
        place.audit();
    }
}

#[test]
fn e8_validate_with_a_document_that_is_invalid() {
    let place = Place::new();
    Ran::fed(place.command().args(["validate", "-"]), b"{]").ended(8);
    Ran::fed(place.command().args(["validate", "-"]), &scale("odu", 3)).ended(0);
}
