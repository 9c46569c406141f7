//! The command line from outside: exit codes, JSON shapes, spellings.

mod once;
mod settings;
mod shell;

use std::fs;

use serde_json::Value;

use crate::support::{Place, Ran, intent, scale};

/// The names of a document's members, sorted.
#[track_caller]
fn members(document: &Value) -> Vec<&str> {
    let mut names: Vec<&str> =
        document.as_object().expect("is an object").keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn help_and_version_are_data_and_end_with_0() {
    let place = Place::new();
    for words in [&["--help"][..], &["-h"], &["run", "--help"], &["once", "-h"], &["config", "--help"]] {
        let ran = place.run(words).ended(0);
        assert!(ran.stdout.contains("Usage:") && ran.stderr.is_empty(), "{words:?}: {ran:?}");
    }
    let version = place.run(&["--version"]).ended(0);
    assert_eq!(version.stdout, format!("conductor-loop {}\n", env!("CARGO_PKG_VERSION")));
    assert!(place.run(&["--help"]).stdout.contains("Exit codes"));
}

#[test]
fn what_is_not_understood_ends_with_2_and_usage_on_stderr() {
    let place = Place::new();
    let wrong: [&[&str]; 8] = [
        &["--no-such-flag"],
        &["no-such-command"],
        &["once", "left-over"],
        &["run", "--workers", "many"],
        &["-once=perhaps"],
        &["--health-check"],
        &["config"],
        &["history", "--fate", "lost"],
    ];
    for words in wrong {
        let ran = place.run(words).ended(2);
        assert!(ran.stdout.is_empty(), "{words:?} writes no data: {}", ran.stdout);
        assert!(ran.stderr.contains("Usage:") || ran.stderr.contains("usage"), "{words:?}: {}", ran.stderr);
    }
    assert!(!place.handoff().join(".conductor").exists(), "nothing was begun");
}

#[test]
fn unparsable_durations_end_with_1_as_they_always_did() {
    let place = Place::new();
    let wrong: [&[&str]; 5] = [
        &["once", "--debounce", "soon"],
        &["once", "--period", "later"],
        &["once", "--period", "50ms"],
        &["once", "--period", "2h"],
        &["-once", "-period=99ms"],
    ];
    for words in wrong {
        let ran = place.run(words).ended(1);
        assert!(
            ran.stderr.contains("period") || ran.stderr.contains("debounce"),
            "{words:?}: {}",
            ran.stderr
        );
    }
}

#[test]
fn validate_judges_files_without_accepting_them() {
    let place = Place::new();
    let (good, bad) = (place.desk().join("good.json"), place.desk().join("bad.json"));
    fs::write(&good, scale("odu", 3)).unwrap();
    fs::write(&bad, b"{\n  \"intent_type\": \"scaling\",\n  \"target\": \"odu\",\n  \"namespace\": \"ran-a\",\n  \"replicas\": \"three\"\n}\n").unwrap();
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
    place.run(&["validate", good]).ended(0);
    place.run(&["validate", bad]).ended(8);
    place.run(&["validate", place.desk().join("none.json").to_str().unwrap()]).ended(1);
    let both = place.run(&["validate", "--json", good, bad]).ended(8).json();
    assert_eq!((&both[0]["file"], &both[0]["valid"]), (&good.into(), &true.into()), "{both:#}");
    assert_eq!(both[0]["intent"]["replicas"], 3, "{both:#}");
    assert_eq!(both[0]["sha256"].as_str().unwrap().len(), 64);
    assert_eq!((&both[1]["valid"], &both[1]["reason"]), (&false.into(), &"json-number".into()), "{both:#}");
    let error = serde_json::json!(
        {"path": "/replicas", "line": 5, "column": 15, "message": "\"three\" is not an integer"});
    let told = &both[1]["errors"][0];
    for key in ["path", "line", "column"] {
        assert_eq!(told[key], error[key], "{both:#}");
    }
    assert!(told["message"].as_str().unwrap().starts_with("\"three\" is not an integer"), "{both:#}");
    let piped = Ran::fed(place.command().args(["validate", "--json", "-"]), &scale("odu", 3)).ended(0).json();
    assert_eq!(piped[0]["valid"], true);
    assert!(place.list("").is_empty(), "no trace in the folder");
}

#[test]
fn status_tells_the_same_shape_with_the_daemon_up_and_down() {
    let place = Place::new();
    let node = place.node().start();
    place.rename_in("intent-1.json", &scale("odu", 3));
    place.rename_in("intent-2.json", b"{]");
    place.settled("intent-1.json");
    place.settled("intent-2.json");
    let up = crate::support::until("the running daemon tells both fates", || {
        let up = place.status();
        (up["fates"]["delivered"] == 1 && up["fates"]["refused"] == 1).then_some(up)
    });
    assert_eq!((&up["running"], &up["pid"]), (&true.into(), &node.pid().into()), "{up:#}");
    let sections = [
        "config",
        "fates",
        "oldest_pending_seconds",
        "pending",
        "pid",
        "queue",
        "running",
        "sink",
        "unaccounted",
        "uptime_seconds",
        "version",
        "watch",
    ];
    assert_eq!(members(&up), sections, "{up:#}");
    assert_eq!(members(&up["queue"]), ["capacity", "depth"], "{up:#}");
    assert_eq!(up["sink"]["kind"], "folder", "{up:#}");
    assert_eq!(up["watch"]["healthy"], true, "{up:#}");
    assert!(place.run(&["status"]).ended(0).stdout.contains("folder"), "and for people");
    node.finish();
    let down = place.status();
    assert_eq!(
        (&down["running"], &down["pending"], &down["unaccounted"]),
        (&false.into(), &0.into(), &0.into())
    );
    assert_eq!((&down["fates"]["delivered"], &down["fates"]["refused"]), (&1.into(), &1.into()), "{down:#}");
}

#[test]
fn history_is_oldest_first_and_filters() {
    let place = Place::new();
    let node = place.node().start();
    place.rename_in("intent-1.json", &scale("odu", 3));
    let first = place.settled("intent-1.json");
    place.rename_in("intent-2.json", b"{]");
    place.settled("intent-2.json");
    place.rename_in("intent-3.json", &intent("core", "statefulset/upf", 2));
    place.settled("intent-3.json");
    let id = first["id"].as_str().unwrap().to_owned();
    let ask = |words: &[&str]| -> Vec<String> {
        let rows = Ran::of(place.command().args(["history", "--json"]).args(words)).ended(0).json_lines();
        rows.iter().map(|row| row["intent_file"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ask(&[]), ["intent-1.json", "intent-2.json", "intent-3.json"]);
    assert_eq!(ask(&["--fate", "delivered"]), ["intent-1.json", "intent-3.json"]);
    assert_eq!(ask(&["--target", "core/statefulset/upf"]), ["intent-3.json"]);
    assert_eq!(ask(&["--name", "intent-2.json"]), ["intent-2.json"]);
    assert_eq!(ask(&["--id", &id]), ["intent-1.json"]);
    assert_eq!(ask(&["--limit", "2"]).len(), 2);
    assert_eq!(ask(&["--since", "1h"]).len(), 3);
    assert!(ask(&["--until", "2001-01-01T00:00:00Z"]).is_empty());
    assert!(place.run(&["history"]).ended(0).stdout.contains("intent-3.json"), "and for people");
    node.finish();
    assert_eq!(ask(&["--fate", "refused"]), ["intent-2.json"], "with the daemon down");
    assert_eq!(ask(&[]).len(), 3);
}
