//! Drop-in: what was written for the original, a script, a unit or a test, runs against this program.
//!
//! Flags in the four spellings of Go and its booleans, folders, error logs, status files and exit
//! codes, all from outside. Where this program differs on purpose, the test says so in its name.

mod porch;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Place, Ran, names_in, scale};

/// `-x v`, `-x=v`, `--x v`, `--x=v`.
fn spellings(flag: &str, value: &str) -> [Vec<String>; 4] {
    [
        vec![format!("-{flag}"), value.to_owned()],
        vec![format!("-{flag}={value}")],
        vec![format!("--{flag}"), value.to_owned()],
        vec![format!("--{flag}={value}")],
    ]
}

/// The program as the original was started: in a folder of its own, with nothing in the environment.
fn bare(place: &Place) -> Command {
    let mut command = place.command();
    for name in ["WATCH_HANDOFF", "SINK_FOLDER_OUT", "LEDGER_DIR"] {
        command.env_remove(format!("CONDUCTOR_LOOP_{name}"));
    }
    command
}

/// One pass with these words, lines as text.
#[track_caller]
fn pass(place: &Place, words: &[String]) -> Ran {
    Ran::of(place.command().args(["-once", "-log-format=text"]).args(words))
}

fn folder(place: &Place, name: &str) -> PathBuf {
    let path = place.root().join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn handoff_and_handoff_dir_name_the_watched_folder_in_every_spelling() {
    let place = Place::new();
    for flag in ["handoff", "handoff-dir"] {
        let dir = folder(&place, flag);
        for (at, words) in spellings(flag, dir.to_str().unwrap()).iter().enumerate() {
            let name = format!("intent-{flag}-{at}.json");
            fs::write(dir.join(&name), scale(flag, 3)).unwrap();
            pass(&place, words).ended(0);
            assert!(dir.join("processed").join(&name).is_file(), "{words:?}");
        }
    }
}

#[test]
fn out_names_the_folder_of_the_packages_in_every_spelling() {
    let place = Place::new();
    for (at, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let dir = folder(&place, name);
        place.rename_in(&format!("intent-{name}.json"), &scale("odu", 3));
        pass(&place, &spellings("out", dir.to_str().unwrap())[at]).ended(0);
        assert!(dir.join("ran-a/deployment-odu/workload.yaml").is_file(), "{at}");
    }
    assert!(names_in(&place.out()).is_empty(), "nothing went elsewhere");
}

#[test]
fn error_dir_takes_the_failed_files_in_every_spelling() {
    let place = Place::new();
    let dir = folder(&place, "errors");
    for (at, words) in spellings("error-dir", dir.to_str().unwrap()).iter().enumerate() {
        let name = format!("intent-{at}.json");
        place.rename_in(&name, b"{]");
        pass(&place, words).ended(8);
        assert!(dir.join(&name).is_file() && dir.join(format!("{name}.error.log")).is_file(), "{words:?}");
    }
}

#[test]
fn schema_is_a_file_or_a_tree_that_holds_it_in_every_spelling() {
    let place = Place::new();
    let tree = folder(&place, "tree");
    let file = folder(&place, "tree/docs/contracts").join("intent.schema.json");
    let schema = br#"{"$schema": "http://json-schema.org/draft-07/schema#", "properties": {"replicas": {"maximum": 2}}}"#;
    fs::write(&file, schema).unwrap();
    for (from, at) in [(&tree, "tree"), (&file, "file")] {
        for (turn, words) in spellings("schema", from.to_str().unwrap()).iter().enumerate() {
            let name = format!("intent-{at}-{turn}.json");
            place.rename_in(&name, &scale("odu", 3));
            pass(&place, words).ended(8);
            assert_eq!(place.statuses_of(&name)[0]["reason"], "schema", "{words:?}");
        }
    }
    fs::remove_file(&file).unwrap();
    let ran = pass(&place, &["-schema".to_owned(), tree.display().to_string()]).ended(1);
    assert!(ran.stderr.contains("docs/contracts/intent.schema.json"), "{}", ran.stderr);
}

#[test]
fn debounce_and_period_are_durations_in_every_spelling() {
    let place = Place::new();
    for words in ["500ms", "2s", "1m30s", "1.5s"].map(|value| spellings("period", value)).concat() {
        pass(&place, &words).ended(0);
    }
    for words in ["50ms", "2h", "soon", "-2s", ""].map(|value| spellings("period", value)).concat() {
        let ran = pass(&place, &words).ended(1);
        assert!(ran.stderr.contains("flag --period"), "{words:?}: {}", ran.stderr);
    }
    for words in spellings("debounce", "500ms") {
        pass(&place, &words).ended(0);
    }
    for words in spellings("debounce", "1ms") {
        let ran = pass(&place, &words).ended(0);
        assert!(ran.stderr.contains("flag --debounce") && ran.stderr.contains("10ms"), "{}", ran.stderr);
    }
    for words in spellings("debounce", "soon") {
        pass(&place, &words).ended(1);
    }
}

#[test]
fn a_period_of_0_is_the_default_since_events_are_used_anyway() {
    let place = Place::new();
    for words in spellings("period", "0") {
        pass(&place, &words).ended(0);
    }
}

#[test]
fn flags_without_a_meaning_here_are_taken_with_one_warning_in_every_spelling() {
    let place = Place::new();
    let idle = [
        ("porch-mode", "structured"),
        ("porch-mode", "direct"),
        ("batch-size", "10"),
        ("batch-size", "-1"),
        ("batch-interval", "5s"),
        ("batch-interval", "-1m30s"),
    ];
    for (flag, value) in idle {
        for words in spellings(flag, value) {
            let ran = pass(&place, &words).ended(0);
            let warnings = ran.stderr.matches("no effect").count();
            assert!(warnings == 1 && ran.stderr.contains(&format!("--{flag}")), "{words:?}: {}", ran.stderr);
        }
    }
    for words in spellings("porch-url", "http://porch.example:8080") {
        pass(&place, &words).ended(0);
    }
    for (flag, value) in [("batch-size", "many"), ("batch-interval", "5 bananas"), ("batch-interval", "")] {
        for words in spellings(flag, value) {
            let ran = pass(&place, &words).ended(2);
            assert!(ran.stderr.contains(&format!("--{flag}")), "{words:?}: {}", ran.stderr);
        }
    }
    for words in spellings("porch-mode", "both") {
        let ran = pass(&place, &words).ended(1);
        assert!(ran.stderr.contains("--porch-mode"), "{words:?}: {}", ran.stderr);
    }
}

#[test]
fn once_is_a_go_boolean() {
    for value in ["", "=true", "=1", "=t", "=T", "=TRUE", "=True"] {
        let place = Place::new();
        place.rename_in("intent-1.json", &scale("odu", 3));
        for dashes in ["-", "--"] {
            place.run(&[&format!("{dashes}once{value}")]).ended(0);
        }
        assert_eq!(place.list("processed"), ["intent-1.json"], "{value}");
    }
    for value in ["-once=false", "--once=0", "-once=F"] {
        let place = Place::new();
        let node = place.node().with(&["-once", value]).start();
        place.next_good_file_is_delivered("watching");
        node.finish();
    }
    Place::new().run(&["-once=yes"]).ended(2);
}

#[test]
fn use_processor_is_a_go_boolean_for_the_sink_that_it_stands_for() {
    let place = Place::new();
    for value in ["false", "0", "f", "F", "FALSE", "False"] {
        for dashes in ["-", "--"] {
            pass(&place, &[format!("{dashes}use-processor={value}")]).ended(0);
        }
    }
    let sink = Ran::of(bare(&place).args(["-once", "-patience=1s", "-sink", "network-intent"]));
    for flag in ["-use-processor", "--use-processor", "-use-processor=true", "--use-processor=T"] {
        let ran = Ran::of(bare(&place).args(["-once", "-patience=1s", flag])).ended(sink.code);
        assert_eq!(ran.stderr.contains("network-intent"), sink.stderr.contains("network-intent"), "{ran:?}");
    }
    place.run(&["-use-processor=perhaps"]).ended(2);
}

#[test]
fn unknown_flags_end_with_2_and_help_with_0() {
    let place = Place::new();
    for flag in ["-health-check", "-http-server", "--validate-config", "-debug", "-once=yes"] {
        let ran = place.run(&[flag]).ended(2);
        assert!(ran.stderr.contains("Usage: conductor-loop") && ran.stdout.is_empty(), "{flag}: {ran:?}");
    }
    for flag in ["-h", "--h", "-help", "--help"] {
        assert!(place.run(&[flag]).ended(0).stdout.contains("Usage: conductor-loop"), "{flag}");
    }
}

#[test]
fn left_over_words_end_with_2_instead_of_being_ignored() {
    let place = Place::new();
    for words in [&["-once", "left"][..], &["-once", "true"], &["-once", "-"], &["-once", "--", "-h"]] {
        let ran = place.run(words).ended(2);
        assert!(ran.stderr.contains("Usage: conductor-loop"), "{words:?}: {}", ran.stderr);
    }
    place.run(&["-once", "--"]).ended(0);
}

#[test]
fn log_level_takes_the_words_of_the_original() {
    let place = Place::new();
    for (word, shown) in
        [("debug", true), ("info", true), ("", true), ("warn", false), ("warning", false), ("error", false)]
    {
        place.rename_in(&format!("intent-{word}.json"), &scale("odu", 3));
        let ran = Ran::of(place.command().env("LOG_LEVEL", word).args(["-once", "-log-format", "json"]));
        let ran = ran.ended(0);
        assert_eq!(ran.stderr.contains("\"level\":\"info\""), shown, "LOG_LEVEL={word}: {}", ran.stderr);
        assert!(!ran.stderr.contains("is no log level"), "LOG_LEVEL={word}: {}", ran.stderr);
    }
}

#[test]
fn without_any_flag_it_works_in_handoff_and_out_of_the_working_directory() {
    let place = Place::new();
    fs::write(place.dropped("intent-1.json"), scale("odu", 3)).unwrap();
    Ran::of(bare(&place).arg("-once")).ended(0);
    assert_eq!(place.list("processed"), ["intent-1.json"]);
    assert_eq!(place.deployment("odu").replicas, Some(3));
}

/// What a cron job around the original looks like: the backlog, and a look at the exit code.
const SCRIPT: &str = r#"
mkdir -p drop
"$CONDUCTOR" -handoff ./drop -out=packages -once -debounce=100ms --period 2s
case $? in
    0) echo clean ;;
    8) echo "failed: $(cd drop/failed && echo *.error.log)"; grep -h '^Error: Validation failed: ' drop/failed/*.error.log >&2 ;;
    *) echo trouble; exit 1 ;;
esac
"#;

#[test]
fn a_script_around_the_original_sees_the_same_exit_codes_folders_and_error_logs() {
    let place = Place::new();
    let script = || {
        let program = bare(&place).get_program().to_owned();
        let mut shell = Command::new("sh");
        shell.args(["-c", SCRIPT]).env("CONDUCTOR", program).current_dir(place.root());
        Ran::of(&mut shell).ended(0)
    };
    assert!(script().stdout.ends_with("clean\n"), "an empty backlog is no failure");
    let drop = place.root().join("drop");
    fs::write(drop.join("intent-good.json"), scale("odu", 3)).unwrap();
    assert!(script().stdout.ends_with("clean\n"));
    assert!(drop.join("processed/intent-good.json").is_file());
    fs::write(drop.join("intent-bad.json"), b"{\"intent_type\": \"scaling\"}").unwrap();
    let ran = script();
    assert!(ran.stdout.ends_with("failed: intent-bad.json.error.log\n"), "{ran:?}");
    assert!(ran.stderr.contains("Error: Validation failed: "), "{ran:?}");
    assert!(script().stdout.ends_with("clean\n"), "what an earlier run failed is not counted again");
}

#[test]
fn a_unit_file_for_the_original_starts_a_daemon_that_ends_with_0() {
    let place = Place::new();
    let exec_start = "-period=2s -debounce=500ms -once=false -porch-mode=structured -batch-size 10";
    let words: Vec<&str> = exec_start.split(' ').collect();
    let node = place.node().with(&words).start();
    place.next_good_file_is_delivered("unit");
    node.finish();
}

#[test]
fn an_error_log_has_the_three_lines_of_the_original_and_an_empty_one() {
    let place = Place::new();
    place.rename_in("intent-bad.json", b"{\"intent_type\": \"scaling\", \"replicas\": \"three\"}");
    place.run(&["-once"]).ended(8);
    let log = place.failed("intent-bad.json.error.log");
    assert_eq!(mode(&log), 0o640);
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = text.split('\n').collect();
    let [file, at, error, "", ""] = lines.as_slice() else { panic!("{text:?}") };
    assert_eq!(*file, format!("File: {}", place.dropped("intent-bad.json").display()));
    is_rfc3339_second(at.strip_prefix("Failed at: ").expect(at));
    let status = &place.statuses_of("intent-bad.json")[0];
    let message = status["message"].as_str().unwrap();
    assert_eq!(error.strip_prefix("Error: Validation failed: "), Some(message));
}

#[test]
fn a_second_failure_of_a_name_keeps_both_files_with_a_log_each() {
    let place = Place::new();
    for bytes in [&b"{]"[..], b"[}"] {
        place.rename_in("intent-bad.json", bytes);
        place.run(&["-once"]).ended(8);
    }
    let names = place.list("failed");
    assert_eq!(names.len(), 4, "{names:?}");
    for name in names.iter().filter(|name| name.ends_with(".json")) {
        let log = fs::read_to_string(place.failed(&format!("{name}.error.log"))).unwrap();
        let file = format!("File: {}\n", place.dropped("intent-bad.json").display());
        assert!(log.starts_with(&file), "the log keeps the dropped name: {log}");
    }
}

#[test]
fn a_status_file_has_the_name_and_the_keys_of_the_original() {
    let place = Place::new();
    place.rename_in("intent-good.json", &scale("odu", 3));
    place.rename_in("intent-bad.json", b"{]");
    place.run(&["-once"]).ended(8);
    let names = place.list("status");
    assert_eq!(names.len(), 2, "{names:?}");
    for (name, status) in [("intent-good.json", "success"), ("intent-bad.json", "failed")] {
        let file = names.iter().find(|file| file.starts_with(&format!("{name}-"))).expect(name);
        let stamp = &file[name.len() + 1..name.len() + 16];
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        assert!(digits(&stamp[..8]) && &stamp[8..9] == "-" && digits(&stamp[9..]), "{file}");
        assert!(file.ends_with(".status") && mode(&place.handoff().join("status").join(file)) == 0o640);
        let document = &place.statuses_of(name)[0];
        assert_eq!((&document["intent_file"], &document["status"]), (&name.into(), &status.into()));
        assert_eq!(document["processed_by"], "conductor-loop");
        assert_eq!(document["mode"], "direct");
        assert!(document["worker_id"].as_str().unwrap().starts_with("worker-"), "{document:#}");
        assert!(!document["message"].as_str().unwrap().is_empty());
        is_rfc3339_second(document["timestamp"].as_str().unwrap());
    }
}

#[test]
fn names_that_are_no_intents_stay_where_they_are() {
    let place = Place::new();
    let others = ["Intent-x.json", "intent-x.yaml", "intent-x.json.tmp", ".intent-x.json", "other.json"];
    for name in others {
        fs::write(place.dropped(name), scale("odu", 3)).unwrap();
    }
    fs::create_dir(place.dropped("below")).unwrap();
    fs::write(place.dropped("below/intent-x.json"), scale("odu", 3)).unwrap();
    place.run(&["-once"]).ended(0);
    assert!(others.iter().all(|name| place.dropped(name).is_file()));
    assert!(place.dropped("below/intent-x.json").is_file());
    assert!(place.list("processed").is_empty() && place.list("failed").is_empty());
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|err| panic!("{}: {err}", path.display())).permissions().mode() & 0o7777
}

/// `2026-11-21T08:00:00Z`.
#[track_caller]
fn is_rfc3339_second(text: &str) {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00Z", "{text}");
}
