//! The exec sink: real scripts through the real daemon (rows P15 to P18 of the fault catalogue, B13).

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::{Value, json};

use crate::support::{Node, Place, scale, until};

/// Writes `cmd` in the place: a shell script, by a process of its own, so that no thread of ours holds it
/// open for writing while another one forks.
#[track_caller]
fn script(place: &Place, mode: &str, text: &str) {
    let write =
        "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$2.new\" && chmod \"$3\" \"$2.new\" && mv \"$2.new\" \"$2\"";
    let mut command = Command::new("sh");
    command.args(["-c", write, "sh", text]).arg(place.root().join("cmd")).arg(mode);
    assert!(command.status().unwrap().success());
}

/// A daemon that runs `./cmd` for each intent.
#[track_caller]
fn node<'p>(place: &'p Place, settings: &[&str]) -> Node<'p> {
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", *setting]).collect();
    place.node().with(&["--porch", "./cmd"]).with(&settings).start()
}

/// A file that the script wrote into the out directory, whole.
#[track_caller]
fn written(place: &Place, name: &str) -> String {
    let path = place.out().join(name);
    until(&format!("the command wrote {name}"), || {
        fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'))
    })
}

fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    // What init has not reaped yet is dead all the same.
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

#[track_caller]
fn dies(pid: &str) {
    until(&format!("process {} is gone", pid.trim()), || (!is_alive(pid)).then_some(()));
}

#[track_caller]
fn faults(node: &Node<'_>, fault: &str) -> f64 {
    let mut count = 0.0;
    // The page may be a second old.
    until(&format!("{fault} is counted"), || {
        count = node.page().labelled("conductor_loop_faults_total", "fault", fault);
        (count > 0.0).then_some(())
    });
    count
}

#[track_caller]
fn error_log(place: &Place, name: &str) -> String {
    fs::read_to_string(place.failed(&format!("{name}.error.log"))).unwrap()
}

#[test]
fn the_command_gets_what_the_original_gave_it_and_nothing_else() {
    let place = Place::new();
    let open = File::open("/dev/null").unwrap();
    fcntl_setfd(&open, FdFlags::empty()).unwrap();
    script(
        &place,
        "755",
        "tr '\\0' '\\n' < /proc/$$/cmdline > \"$4/words\"; tr '\\0' '\\n' < /proc/$$/environ > \"$4/environ\"; \
         cp \"$2\" \"$4/file\"; pwd > \"$4/place\"; (exec ls /proc/self/fd > \"$4/fds\"); echo \"$4\" > \"$4/done\"",
    );
    for (mode, last) in [("direct", None), ("structured", Some("-structured"))] {
        let name = format!("intent-{mode}.json");
        let node = place.node().with(&["--porch", "./cmd", "--mode", mode]).start();
        place.rename_in(&name, &scale(mode, 3));
        let status = place.settled(&name);
        let id = status["id"].as_str().unwrap();
        let file = place.state().join("exec").join(&id[..8]).join(&name);
        let out = place.out();
        let mut words =
            vec!["/bin/sh", "./cmd", "-intent", file.to_str().unwrap(), "-out", out.to_str().unwrap()];
        words.extend(last);
        assert_eq!(written(&place, "words").lines().collect::<Vec<_>>(), words);
        let mut names: Vec<String> = written(&place, "environ")
            .lines()
            .filter_map(|line| line.split('=').next().map(str::to_owned))
            .collect();
        names.sort();
        assert_eq!(names, ["CONDUCTOR_INTENT_ID", "HOME", "PATH"], "LANG and TZ are not set here");
        assert!(written(&place, "environ").contains(&format!("CONDUCTOR_INTENT_ID={id}\n")));
        assert_eq!(fs::read(place.out().join("file")).unwrap(), scale(mode, 3), "byte by byte");
        assert_eq!(written(&place, "place"), format!("{}\n", place.root().display()));
        assert_eq!(written(&place, "fds"), "0\n1\n2\n3\n", "3 is of ls; not {}", open.as_raw_fd());
        assert_eq!(status["mode"], mode);
        assert_eq!(status["sink"], "exec");
        assert_eq!(status["message"], format!("delivered to exec:ran-a/deployment-{mode}"));
        assert_eq!(
            status["remote"],
            json!({"name": format!("ran-a/deployment-{mode}"), "lifecycle": "Published"})
        );
        assert_eq!((&status["attempts"], status.get("possible_duplicate")), (&json!(1), None));
        node.finish();
    }
    let node = place.node().with(&["--porch", "true"]).start();
    place.rename_in("intent-path.json", &scale("path", 3));
    assert_eq!(place.settled("intent-path.json")["fate"], "delivered", "found by PATH");
    node.finish();
}

#[test]
fn p15_what_cannot_be_run_holds_everything_until_it_can() {
    for (mode, advice) in [(None, "install it"), (Some("644"), "chmod +x"), (Some("777"), "chmod go-w")] {
        let place = Place::new();
        if let Some(mode) = mode {
            script(&place, mode, "exit 0");
        }
        let node = node(&place, &[]);
        place.rename_in("intent-1.json", &scale("one", 3));
        until("the sink's trouble is shown", || {
            let body = node.get("/readyz?verbose").body;
            (body.contains("cli-unavailable") && body.contains(advice)).then_some(())
        });
        assert_eq!(node.get("/readyz").code, 200);
        faults(&node, "cli-unavailable");
        assert!(place.log().lines().any(|line| line.contains("./cmd") && line.contains(advice)));
        assert!(place.dropped("intent-1.json").exists());
        script(&place, "755", "exit 0");
        let status = place.settled("intent-1.json");
        assert_eq!(status["fate"], "delivered", "{status:#}");
        assert_eq!(
            (&status["attempts"], status.get("possible_duplicate")),
            (&json!(1), None),
            "nothing ran before"
        );
        node.finish();
    }
}

#[test]
fn p15_once_refuses_what_nobody_will_run() {
    let place = Place::new();
    place.rename_in("intent-1.json", &scale("one", 3));
    let ran = place.run(&["once", "--json", "--porch", "no-such-command"]).ended(8);
    assert_eq!(ran.json()["refused"], 1);
    let status = place.settled("intent-1.json");
    assert_eq!((&status["fate"], &status["reason"]), (&json!("refused"), &json!("cli-unavailable")));
    let told = error_log(&place, "intent-1.json");
    assert!(
        told.contains("\nError: exec: \"no-such-command\": executable file not found in $PATH"),
        "{told}"
    );
    place.audit();
}

#[test]
fn p16_a_command_that_hangs_is_killed_with_all_its_children() {
    let place = Place::new();
    script(
        &place,
        "755",
        "trap '' TERM; sleep 600 & echo $! > \"$4/child\"; echo $$ > \"$4/leader\"; echo stuck >&2; wait; wait",
    );
    let node = node(&place, &["sink.exec.timeout=300ms", "sink.exec.attempts=2"]);
    place.rename_in("intent-1.json", &scale("one", 3));
    let status = place.settled("intent-1.json");
    assert_eq!((&status["reason"], &status["attempts"]), (&json!("cli-timeout"), &json!(2)), "{status:#}");
    let told = error_log(&place, "intent-1.json");
    let wanted = "\nError: porch command timed out after 300ms (stderr: stuck); given up after 2 attempts\n";
    assert!(told.contains(wanted), "{told}");
    for who in ["leader", "child"] {
        dies(&written(&place, who));
    }
    assert!(faults(&node, "cli-timeout") >= 1.0);
    script(&place, "755", "sleep 600 & echo $! > \"$4/child\"; exit 0");
    place.rename_in("intent-2.json", &scale("two", 3));
    let status = place.settled("intent-2.json");
    assert_eq!(status["fate"], "delivered", "a child that keeps the pipe: {status:#}");
    dies(&written(&place, "child"));
    node.finish();
}

#[test]
fn p17_a_flood_of_output_is_drained_and_shown_harmlessly() {
    let place = Place::new();
    let flood = "head -c 1073741824 /dev/zero; printf 'bad\\033[2J\\377\\n' >&2; exit 1";
    script(&place, "755", flood);
    let node = node(&place, &[]);
    place.rename_in("intent-1.json", &scale("one", 3));
    let status = place.settled("intent-1.json");
    let wanted = "exit status 1 (stderr: bad\\u{1b}[2J\\xff)";
    assert_eq!((&status["reason"], &status["message"]), (&json!("cli-exit"), &json!(wanted)));
    assert!(error_log(&place, "intent-1.json").contains(&format!("\nError: {wanted}\n")));
    assert!(!place.log().contains('\u{1b}'));
    assert!(faults(&node, "cli-output") >= 1.0);
    assert!(node.peak_memory() < 100 << 20, "{}", node.peak_memory());
    script(&place, "755", "exit 0");
    place.rename_in("intent-2.json", &scale("two", 3));
    assert_eq!(place.settled("intent-2.json")["fate"], "delivered");
    node.finish();
}

#[test]
fn p18_codes_and_signals_have_the_consequence_that_the_map_says() {
    let place = Place::new();
    // The first run of each name does what the name says, later ones only where it says "always".
    script(
        &place,
        "755",
        "name=$(basename \"$2\" .json); echo run >> \"$4/$name\"; runs=$(wc -l < \"$4/$name\")
         case $name in *always*) runs=1;; esac
         [ $runs -gt 1 ] && exit 0
         case $name in
             *code-1*) echo no >&2; exit 1;;
             *exit-75*) exit 75;;
             *exit-124*) exit 124;;
             *signal*) kill -9 $$;;
         esac",
    );
    let node = node(&place, &[]);
    let end = |what: &str| {
        let name = format!("intent-{what}.json");
        place.rename_in(&name, &scale(what, 3));
        let status = place.settled(&name);
        let runs = fs::read_to_string(place.out().join(format!("intent-{what}"))).unwrap().lines().count();
        assert_eq!(status["attempts"], runs, "{status:#}");
        (status, runs)
    };
    let fate = |status: &Value| status["fate"].as_str().unwrap().to_owned();
    let (status, runs) = end("code-1");
    assert_eq!((fate(&status).as_str(), runs), ("refused", 1));
    assert_eq!(
        (&status["reason"], &status["message"]),
        (&json!("cli-exit"), &json!("exit status 1 (stderr: no)"))
    );
    for (what, possible_duplicate) in
        [("exit-75", None), ("exit-124", Some(json!(true))), ("signal", Some(json!(true)))]
    {
        let (status, runs) = end(what);
        assert_eq!((fate(&status).as_str(), runs), ("delivered", 2), "{what}");
        assert_eq!(status.get("possible_duplicate"), possible_duplicate.as_ref(), "{what}");
    }
    let (status, runs) = end("exit-75-always");
    assert_eq!((fate(&status).as_str(), runs, &status["reason"]), ("refused", 3, &json!("cli-exit")));
    assert_eq!(status["message"], "exit status 75; given up after 3 attempts");
    let (status, runs) = end("signal-always");
    assert_eq!((fate(&status).as_str(), runs), ("refused", 3));
    assert_eq!(status["message"], "signal: killed; given up after 3 attempts");
    assert!(faults(&node, "cli-exit") >= 1.0);
    node.finish();
    for (row, marked) in [("intent-exit-75.json", false), ("intent-signal.json", true)] {
        let history = place.history();
        let row = history.iter().find(|told| told["intent_file"] == row).unwrap();
        assert_eq!(row.get("possible_duplicate").is_some(), marked, "{row:#}");
    }
}

/// Two intents of one target, with a daemon killed while the command runs for the first.
#[track_caller]
fn killed_in_the_first_of_two(place: &Place) -> String {
    script(place, "755", "echo $$ >> \"$4/runs\"; sleep 600");
    let node = node(place, &[]);
    place.rename_in("intent-1.json", &scale("one", 3));
    let leader = written(place, "runs");
    place.rename_in("intent-2.json", &scale("one", 4));
    until("both are accepted", || (node.page().value("conductor_loop_accepted_total") >= 2.0).then_some(()));
    node.kill();
    script(place, "755", "echo $$ >> \"$4/runs\"");
    leader
}

#[test]
fn b13_after_a_kill_only_the_one_that_ran_may_be_a_duplicate() {
    let place = Place::new();
    let leader = killed_in_the_first_of_two(&place);
    let node = node(&place, &[]);
    let first = place.settled("intent-1.json");
    assert_eq!(
        (&first["fate"], &first["possible_duplicate"]),
        (&json!("delivered"), &json!(true)),
        "{first:#}"
    );
    assert_eq!((&first["attempts"], &first["retry_count"]), (&json!(2), &json!(1)));
    let second = place.settled("intent-2.json");
    assert_eq!(
        (&second["fate"], second.get("possible_duplicate")),
        (&json!("delivered"), None),
        "{second:#}"
    );
    dies(&leader);
    node.finish();
    let history = place.history();
    assert_eq!(history.len(), 2, "one row each");
    assert_eq!(history[0]["possible_duplicate"], true);
    assert_eq!(written(&place, "runs").lines().count(), 3);
    let left: Vec<PathBuf> =
        fs::read_dir(place.state().join("exec")).unwrap().map(|at| at.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn b13_held_it_waits_for_the_operator_and_so_does_its_line() {
    let place = Place::new();
    killed_in_the_first_of_two(&place);
    let holding = node(&place, &["sink.exec.on_uncertain=hold"]);
    let status = until("its producer is told", || place.statuses_of("intent-1.json").pop());
    assert_eq!((&status["fate"], &status["reason"]), (&json!("pending"), &json!("cli-exit")), "{status:#}");
    let advice = format!("conductor-loop requeue {}", status["id"].as_str().unwrap());
    assert!(status["message"].as_str().unwrap().contains(&advice), "{status:#}");
    assert_eq!(status.get("next_attempt_at"), None);
    place.rename_in("intent-3.json", &scale("three", 3));
    assert_eq!(place.settled("intent-3.json")["fate"], "delivered", "others go on");
    assert_eq!(written(&place, "runs").lines().count(), 2);
    holding.finish();
    let node = node(&place, &[]);
    let first = place.settled("intent-1.json");
    assert_eq!(
        (&first["fate"], &first["possible_duplicate"]),
        (&json!("delivered"), &json!(true)),
        "{first:#}"
    );
    assert_eq!(place.settled("intent-2.json").get("possible_duplicate"), None);
    node.finish();
}

#[test]
fn what_is_held_goes_on_for_one_run_when_the_operator_asks_for_it() {
    let place = Place::new();
    killed_in_the_first_of_two(&place);
    script(&place, "755", "echo $$ >> \"$4/runs\"; [ -e \"$4/well\" ] || kill -9 $$");
    let holding = node(&place, &["sink.exec.on_uncertain=hold"]);
    let held = |times: usize| {
        until("it is held", || (place.log().matches("is held. Look whether").count() >= times).then_some(()));
    };
    held(1);
    let id = place.history()[0]["id"].as_str().unwrap().to_owned();
    let shown = place.run(&["history", "show", &id]).ended(0).stdout;
    assert!(shown.contains("1, which may have had their effect"), "{shown}");
    let runs = || written(&place, "runs").lines().count();
    for times in 2..4 {
        let said = place.run(&["requeue", &id, "--yes"]).ended(0).stdout;
        assert!(said.contains("goes on"), "{said}");
        held(times);
        assert_eq!(runs(), times, "one run for each asking");
    }
    holding.finish();

    fs::write(place.out().join("well"), "").unwrap();
    let said = place.run(&["requeue", &id, "--yes"]).ended(0).stdout;
    assert!(said.contains("asked"), "{said}");
    let node = node(&place, &["sink.exec.on_uncertain=hold"]);
    let first = place.settled("intent-1.json");
    assert_eq!(
        (&first["fate"], &first["possible_duplicate"], &first["id"]),
        (&json!("delivered"), &json!(true), &json!(id)),
        "{first:#}"
    );
    assert_eq!(place.settled("intent-2.json").get("possible_duplicate"), None);
    assert_eq!(runs(), 5);
    let again = place.run(&["requeue", &id, "--yes"]).ended(0).stdout;
    assert!(again.contains("taken as"), "ended, it is repeated: {again}");
    node.finish();
    assert_eq!(place.history().len(), 3);
}

#[test]
fn a_stop_during_a_run_kills_the_command_and_leaves_the_intent_to_the_next_start() {
    let place = Place::new();
    script(
        &place,
        "755",
        "trap '' TERM; sleep 600 & echo $! > \"$4/child\"; echo $$ > \"$4/leader\"; wait; wait",
    );
    let first = node(&place, &["service.drain=1s"]);
    place.rename_in("intent-1.json", &scale("one", 3));
    let (leader, child) = (written(&place, "leader"), written(&place, "child"));
    first.finish();
    dies(&leader);
    dies(&child);
    assert!(place.dropped("intent-1.json").exists());
    assert_eq!(place.history()[0]["fate"], "pending");
    script(&place, "755", "exit 0");
    let node = node(&place, &[]);
    let status = place.settled("intent-1.json");
    assert_eq!(
        (&status["fate"], &status["possible_duplicate"]),
        (&json!("delivered"), &json!(true)),
        "{status:#}"
    );
    node.finish();
}

#[test]
fn two_hundred_files_run_the_command_once_each_and_in_order_of_their_targets() {
    let place = Place::new();
    script(&place, "755", "echo \"$2\" >> \"$4/runs\"");
    for at in 0..200 {
        place.rename_in(&format!("intent-{at:03}.json"), &scale(&format!("t-{}", at % 10), 1 + at / 10));
    }
    let node = node(&place, &[]);
    node.wait_settled(200, Duration::from_secs(60));
    node.finish();
    let runs = fs::read_to_string(place.out().join("runs")).unwrap();
    let numbers: Vec<usize> =
        runs.lines().map(|path| path[path.len() - 8..path.len() - 5].parse().unwrap()).collect();
    assert_eq!(numbers.len(), 200);
    for target in 0..10 {
        let of: Vec<usize> = numbers.iter().copied().filter(|number| number % 10 == target).collect();
        assert!(of.len() == 20 && of.is_sorted(), "{target}: {of:?}");
    }
    assert!(place.history().iter().all(|row| row["fate"] == "delivered"));
}

#[test]
fn an_exec_sink_without_command_and_a_mode_that_is_none_end_with_1() {
    let place = Place::new();
    let ran = place.run(&["once", "--sink", "exec"]).ended(1);
    assert!(ran.stderr.contains("set sink.exec.command, or use --porch CMD"), "{}", ran.stderr);
    let ran = place.run(&["once", "-mode", "fast"]).ended(1);
    assert!(ran.stderr.contains("\"fast\" is not one of direct, structured"), "{}", ran.stderr);
}
