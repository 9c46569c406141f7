//! The original's way of submitting: a command, called `porch` by default, that is run for each intent.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::spellings;
use crate::support::{Place, Ran, scale};

/// Keeps its arguments, one a line, and the document that it was given.
const KEEPS: &str = "#!/bin/sh\nprintf '%s\\n' \"$@\" > \"$4/args\"\ncp \"$2\" \"$4/document\"\n";

/// A command of this text; written by another process, so that no fork of ours holds it open while it is run.
fn command(place: &Place, name: &str, text: &str) -> PathBuf {
    let path = place.root().join(name);
    let mut install = Command::new("install");
    Ran::fed(install.args(["-m", "0755", "/dev/stdin"]).arg(&path), text.as_bytes()).ended(0);
    path
}

/// One pass over one good file; what the command was given.
#[track_caller]
fn given(place: &Place, at: usize, words: &[String]) -> Vec<String> {
    let name = format!("intent-{at}.json");
    let document = scale(&format!("odu-{at}"), 3);
    place.rename_in(&name, &document);
    Ran::of(place.command().arg("-once").args(words)).ended(0);
    assert!(place.processed(&name).is_file(), "{words:?}");
    assert_eq!(fs::read(place.out().join("document")).unwrap(), document, "{words:?}");
    let args = fs::read_to_string(place.out().join("args")).unwrap();
    let args: Vec<String> = args.lines().map(str::to_owned).collect();
    assert!(args[1].ends_with(&format!("/{name}")), "the copy keeps the name: {args:?}");
    args
}

#[test]
fn porch_and_mode_run_the_command_as_the_original_did_in_every_spelling() {
    let place = Place::new();
    let porch = command(&place, "porch", KEEPS);
    let mut at = 0;
    for mode in ["direct", "structured"] {
        for (porch_words, mode_words) in
            spellings("porch", porch.to_str().unwrap()).iter().zip(spellings("mode", mode))
        {
            let args = given(&place, at, &[&porch_words[..], &mode_words].concat());
            let out = place.out().display().to_string();
            let mut expected = vec!["-intent", args[1].as_str(), "-out", out.as_str()];
            if mode == "structured" {
                expected.push("-structured");
            }
            assert_eq!(args, expected);
            at += 1;
        }
    }
    place.audit();
}

#[test]
fn the_command_is_found_by_path_and_direct_is_its_mode() {
    let place = Place::new();
    command(&place, "porch", KEEPS);
    let path = format!("{}:{}", place.root().display(), std::env::var("PATH").unwrap());
    place.rename_in("intent-1.json", &scale("odu", 3));
    Ran::of(place.command().env("PATH", path).args(["-once", "-porch", "porch"])).ended(0);
    let args = fs::read_to_string(place.out().join("args")).unwrap();
    assert_eq!(args.lines().count(), 4, "{args}");
    assert_eq!(place.statuses_of("intent-1.json")[0]["sink"], "exec");
    place.audit();
}

#[test]
fn what_the_command_said_is_in_the_error_log_and_the_exit_code_is_8() {
    let place = Place::new();
    let porch = command(&place, "porch", "#!/bin/sh\necho boom >&2\nexit 3\n");
    place.rename_in("intent-1.json", &scale("odu", 3));
    place.run(&["-once", "-porch", porch.to_str().unwrap()]).ended(8);
    assert_eq!(place.list("failed"), ["intent-1.json", "intent-1.json.error.log"]);
    let log = fs::read_to_string(place.failed("intent-1.json.error.log")).unwrap();
    assert!(log.contains("\nError: exit status 3 (stderr: boom)\n\n"), "{log}");
    assert_eq!(place.statuses_of("intent-1.json")[0]["reason"], "cli-exit");
    place.audit();
}

#[test]
fn a_command_that_is_killed_did_not_succeed() {
    let place = Place::new();
    let porch = command(&place, "porch", "#!/bin/sh\nkill -9 $$\n");
    place.rename_in("intent-1.json", &scale("odu", 3));
    place.run(&["-once", "-porch", porch.to_str().unwrap(), "--set", "sink.exec.attempts=1"]).ended(8);
    assert_eq!(place.statuses_of("intent-1.json")[0]["reason"], "cli-exit");
    place.audit();
}

#[test]
fn a_command_that_is_missing_fails_the_files_of_once() {
    let place = Place::new();
    place.rename_in("intent-1.json", &scale("odu", 3));
    place.run(&["-once", "-porch=/nowhere/porch"]).ended(8);
    assert_eq!(place.statuses_of("intent-1.json")[0]["reason"], "cli-unavailable");
    assert_eq!(place.list("failed").len(), 2);
    place.audit();
}

#[test]
fn a_mode_that_is_neither_direct_nor_structured_ends_with_1() {
    let place = Place::new();
    let porch = command(&place, "porch", KEEPS);
    for mode in ["", "Direct", "watch", "periodic"] {
        for words in spellings("mode", mode) {
            let mut run = place.command();
            let ran = Ran::of(run.args(["-once", "-porch"]).arg(&porch).args(&words)).ended(1);
            assert!(ran.stderr.contains("--mode"), "{words:?}: {}", ran.stderr);
        }
    }
}
