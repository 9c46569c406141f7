//! `doctor` names what is in the way of intents, with the daemon up or down, and leaves no trace.

mod cluster;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Place, Ran, scale, until};

/// What the doctor says, as one document; its exit code must agree with `ok`.
#[track_caller]
pub(crate) fn doctor(place: &Place, args: &[&str]) -> Value {
    let ran = Ran::of(place.command().args(["doctor", "--json"]).args(args));
    let report = ran.json();
    assert_eq!(ran.code == 0, report["ok"] == true, "{report:#}");
    assert!(ran.code == 0 || ran.code == 1, "{ran:?}");
    report
}

/// The result of a check and what it says; fails the test if there is none of this name.
#[track_caller]
fn check<'a>(report: &'a Value, group: &str, name: &str) -> (&'a str, &'a str) {
    let checks = report["checks"].as_array().expect("checks are an array");
    let found = checks.iter().find(|check| check["group"] == group && check["name"] == name);
    let found = found.unwrap_or_else(|| panic!("no {group}/{name} in {report:#}"));
    (found["result"].as_str().unwrap(), found["message"].as_str().unwrap())
}

/// A check came out like this and says these words.
#[track_caller]
pub(crate) fn said(report: &Value, group: &str, name: &str, result: &str, words: &[&str]) {
    let (is, message) = check(report, group, name);
    assert_eq!(is, result, "{group}/{name}: {message}");
    for word in words {
        assert!(message.contains(word), "{group}/{name} says {word:?}: {message}");
    }
}

/// Group and name of everything that is wrong.
fn failing(report: &Value) -> BTreeSet<String> {
    let checks = report["checks"].as_array().expect("checks are an array").iter();
    let failing = checks.filter(|check| check["result"] == "fail");
    failing.map(|check| format!("{}/{}", check["group"], check["name"]).replace('"', "")).collect()
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Every path below a folder.
fn tree(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            found.extend(tree(&entry.path()));
        }
        found.insert(entry.path());
    }
    found
}

#[test]
fn a_healthy_node_is_said_to_be_one_and_left_as_it_was() {
    let place = Place::new();
    let node = place.node().start();
    place.next_good_file_is_delivered("doctor");
    let before = tree(place.root());
    let report = doctor(&place, &[]);
    assert_eq!(failing(&report), BTreeSet::new(), "{report:#}");
    said(&report, "daemon", "running", "ok", &[&format!("pid {}", node.pid())]);
    said(&report, "daemon", "pages", "ok", &[node.address(), "live and ready"]);
    said(&report, "folders", "own", "ok", &["processed"]);
    said(&report, "watch", "mode", "ok", &["inotify"]);
    said(&report, "files", "waiting", "ok", &["no intent"]);
    said(&report, "ledger", "record", "ok", &["1 intent on record"]);
    said(&report, "ledger", "pending", "ok", &[]);
    said(&report, "sink", "folder", "ok", &[]);
    assert_eq!(tree(place.root()), before, "no trace");
    let text = place.run(&["doctor"]).ended(0).stdout;
    assert!(text.starts_with("configuration\n  ✓ ") && text.contains(", 0 wrong\n"), "{text}");
    assert!(!text.contains('\u{1b}'), "no colour outside a terminal");
    node.finish();
}

#[test]
fn without_a_daemon_it_says_so_and_what_waits_for_one() {
    let place = Place::new();
    let never = doctor(&place, &[]);
    said(&never, "daemon", "running", "warn", &["none ever did"]);
    said(&never, "ledger", "record", "ok", &["nothing was accepted"]);
    assert!(place.list("").is_empty(), "nothing was made");
    let node = place.node().start();
    let pid = node.pid();
    node.kill();
    place.rename_in("intent-1.json", &scale("odu", 3));
    place.rename_in("notes.txt", b"no intent");
    let report = doctor(&place, &[]);
    assert_eq!(failing(&report), BTreeSet::new(), "{report:#}");
    said(&report, "daemon", "running", "warn", &["no daemon", &format!("pid {pid}")]);
    said(&report, "ledger", "last end", "warn", &["killed"]);
    said(&report, "files", "waiting", "warn", &["intent-1.json", "no daemon takes"]);
    said(&report, "files", "others", "warn", &["notes.txt"]);
    assert!(place.dropped("intent-1.json").exists(), "nothing was taken");
    place.run(&["once"]).ended(0);
}

#[test]
fn a_sink_that_refuses_is_named_with_the_intent_that_waits_for_it() {
    let place = Place::unprivileged();
    let node = place.node().start();
    mode(&place.out(), 0o555);
    place.rename_in("intent-1.json", &scale("odu", 3));
    until("the sink is in trouble", || (place.status()["sink"]["state"] == "unavailable").then_some(()));
    let report = doctor(&place, &[]);
    said(&report, "daemon", "sink", "fail", &["denied"]);
    said(&report, "folders", "out", "fail", &["lacks rights"]);
    said(&report, "sink", "folder", "fail", &["takes no package"]);
    let (_, pending) = check(&report, "ledger", "pending");
    assert!(pending.contains("1 accepted intent waits") && pending.contains("intent-1.json"), "{pending}");
    said(&report, "files", "waiting", "ok", &["beside 1 accepted"]);
    mode(&place.out(), 0o750);
    assert_eq!(place.settled("intent-1.json")["fate"], "delivered");
    node.finish();
}

#[test]
fn a_folder_that_is_gone_under_the_daemon_is_a_failure() {
    let place = Place::new();
    let node = place.node().start();
    fs::remove_dir(place.out()).unwrap();
    said(&doctor(&place, &[]), "folders", "out", "fail", &["is gone while the daemon runs"]);
    fs::create_dir(place.out()).unwrap();
    said(&doctor(&place, &[]), "folders", "out", "ok", &[]);
    node.finish();
}

#[test]
fn a_daemon_that_works_elsewhere_is_told_with_the_flags_that_lead_to_it() {
    let place = Place::new();
    let node = place.node().start();
    let folders = ["handoff", "out", "state"].map(|name| place.root().join("other").join(name));
    let [handoff, out, state] = folders.each_ref().map(|path| path.to_str().unwrap());
    let report = doctor(&place, &["--handoff", handoff, "--out", out, "--state", state]);
    let flags =
        format!("{} (--handoff {} --out {}", node.pid(), place.handoff().display(), place.out().display());
    said(&report, "daemon", "others", "warn", &[&flags]);
    node.finish();
}

#[test]
fn a_folder_under_another_daemons_lock_is_told() {
    let place = Place::new();
    let node = place.node().start();
    let other = place.root().join("other");
    let report = doctor(&place, &["--state", other.to_str().unwrap()]);
    said(&report, "daemon", "other state", "fail", &[&format!("pid {}", node.pid())]);
    assert!(!other.exists());
    let held = place.run(&["once", "--log-format", "text"]).ended(1);
    assert!(held.stderr.contains("another conductor-loop"), "{}", held.stderr);
    node.finish();
}

#[test]
fn every_fault_of_the_settings_is_listed_and_the_rest_is_examined() {
    let place = Place::new();
    let file = place.settings("[watch]\nperiod = \"9h\"\ndebonce = \"1s\"\n[log]\nlevel = \"debug\"\n");
    let report = doctor(&place, &["--config", &file, "--set", "intake.queue=1"]);
    let faults: Vec<&str> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["group"] == "configuration" && check["result"] == "fail")
        .map(|check| check["message"].as_str().unwrap())
        .collect();
    assert_eq!(faults.len(), 3, "{report:#}");
    assert!(
        faults.iter().any(|fault| fault.contains("line 3") && fault.contains("watch.debonce")),
        "{faults:?}"
    );
    said(&report, "configuration", "origins", "ok", &["log.level"]);
    said(&report, "folders", "handoff", "ok", &[]);
    place.run(&["doctor", "--config", &file]).ended(1);
    place.run(&["doctor", "left-over"]).ended(2);
}

#[test]
fn a_settings_file_that_others_may_write_to_is_a_fault() {
    let place = Place::new();
    let file = place.settings("[watch]\nperiod = \"5s\"\n");
    mode(Path::new(&file), 0o666);
    said(&doctor(&place, &["--config", &file]), "configuration", "setting", "fail", &["writable by others"]);
}

#[test]
fn an_address_that_somebody_else_has_is_a_failure() {
    let place = Place::new();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    said(&doctor(&place, &["--listen", &address]), "daemon", "address", "fail", &[&address, "is taken"]);
    said(&doctor(&place, &["--listen", "127.0.0.1:0"]), "daemon", "address", "ok", &["is free"]);
}

#[test]
fn a_huge_reserve_is_the_daemons_twentieth() {
    let place = Place::new();
    let stat = rustix::fs::statvfs(place.root()).unwrap();
    let kept = (stat.f_blocks * stat.f_frsize / 20) as f64 / f64::from(1 << 30);
    let report = doctor(&place, &["--set", "intake.reserve=1TiB"]);
    let (result, message) = check(&report, "file systems", "state");
    match stat.f_bavail >= stat.f_blocks / 20 {
        true => assert!(message.contains(&format!("{kept:.1} GiB kept free")), "{message}"),
        false => assert!(result == "fail" && message.contains("acceptance pauses"), "{message}"),
    }
}

#[test]
fn a_folder_that_others_may_rewrite_is_judged_as_at_a_start() {
    let place = Place::new();
    mode(&place.handoff(), 0o770);
    said(&doctor(&place, &[]), "folders", "sharing", "warn", &["group-writable"]);
    mode(&place.handoff(), 0o777);
    said(&doctor(&place, &[]), "folders", "sharing", "fail", &["world-writable"]);
    mode(&place.handoff(), 0o1777);
    assert_eq!(failing(&doctor(&place, &[])), BTreeSet::new());
}

#[test]
fn an_empty_directory_in_place_of_the_folder_is_suspected() {
    let place = Place::new();
    let node = place.node().start();
    place.next_good_file_is_delivered("doctor");
    assert_eq!(node.stop(), 0);
    let away = place.root().join("away");
    fs::rename(place.handoff(), &away).unwrap();
    fs::create_dir(place.handoff()).unwrap();
    said(&doctor(&place, &[]), "file systems", "identity", "warn", &["no .conductor"]);
}

#[test]
fn a_ledger_that_cannot_be_used_is_told() {
    let place = Place::new();
    fs::write(place.state().join("ledger.db"), [7u8; 8192]).unwrap();
    said(&doctor(&place, &[]), "ledger", "record", "fail", &[]);
}

#[test]
fn requests_that_wait_and_those_that_failed_are_told() {
    let place = Place::new();
    place.rename_in("intent-1.json", &scale("odu", 3));
    place.run(&["once"]).ended(0);
    let id = place.settled("intent-1.json")["id"].as_str().unwrap().to_owned();
    place.run(&["requeue", &id, "--yes"]).ended(0);
    said(&doctor(&place, &[]), "ledger", "requeue", "warn", &["1 request", &id]);
    fs::remove_file(place.processed("intent-1.json")).unwrap();
    place.run(&["once"]).ended(0);
    let report = doctor(&place, &[]);
    said(&report, "ledger", "requeue failed", "warn", &["1 request", &id]);
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.iter().all(|check| check["name"] != "requeue"), "none waits: {report:#}");
}

#[test]
fn the_command_of_the_exec_sink_is_looked_at_and_not_run() {
    let place = Place::new();
    let command = place.root().join("cmd");
    let given = ["--porch", command.to_str().unwrap(), "--mode", "structured"];
    said(&doctor(&place, &given), "sink", "exec", "fail", &["no such file"]);
    fs::write(&command, "#!/bin/sh\ntouch \"$4/run\"\n").unwrap();
    for (rights, words) in [(0o644, "not executable"), (0o777, "others than its owner may write it")] {
        mode(&command, rights);
        said(&doctor(&place, &given), "sink", "exec", "fail", &[words]);
    }
    mode(&command, 0o755);
    let out = place.out().display().to_string();
    said(&doctor(&place, &given), "sink", "exec", "ok", &[&out, "-structured", "may take 30s, 3 of them"]);
    assert!(place.list("").is_empty() && tree(&place.out()).is_empty(), "nothing was made or run");
    said(&doctor(&place, &["--porch", "true"]), "sink", "exec", "ok", &["/true is run"]);
    said(&doctor(&place, &["--sink", "exec"]), "configuration", "setting", "fail", &["exec needs a command"]);
}

#[test]
fn intents_that_are_held_are_told_with_what_to_do() {
    let place = Place::new();
    let command = place.root().join("cmd");
    fs::write(&command, "#!/bin/sh\nexec sleep 600\n").unwrap();
    mode(&command, 0o755);
    let hold = ["--set", "sink.exec.on_uncertain=hold", "--set", "sink.exec.timeout=100ms"];
    let given = [&["--porch", command.to_str().unwrap()], &hold[..]].concat();
    let node = place.node().with(&given).start();
    place.rename_in("intent-1.json", &scale("odu", 3));
    let report = until("it is held", || {
        let report = doctor(&place, &given);
        let told = |check: &Value| check["name"] == "held";
        report["checks"].as_array().unwrap().iter().any(told).then_some(report)
    });
    let id = place.history()[0]["id"].as_str().unwrap().to_owned();
    said(&report, "sink", "held", "warn", &["1 intent is held", &id]);
    node.finish();
}
