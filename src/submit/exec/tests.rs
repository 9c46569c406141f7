//! The sink against real scripts. What needs a daemon and a ledger is in `tests/it/exec.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use rustix::process::{Pid, test_kill_process};
use rustix::thread::{
    CapabilitySet, capabilities, capability_is_in_ambient_set, configure_capability_in_ambient_set,
    set_capabilities,
};
use tempfile::TempDir;

use super::*;
use crate::intent::Target;
use crate::submit::contract::{self, Accepted, Object, World, deliver, receipt};

/// A state directory, an out directory and a command.
struct Bench {
    root: TempDir,
}

impl Bench {
    /// A command that is this shell script.
    fn new(script: &str) -> Bench {
        let bench = Bench { root: tempfile::tempdir().unwrap() };
        fs::create_dir(bench.path("out")).unwrap();
        bench.script(script);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Written by a process of its own: a child that another test forks meanwhile would inherit the
    /// descriptor, and the kernel runs no file that is open for writing.
    fn script(&self, script: &str) {
        let text = format!("#!/bin/sh\n{script}\n");
        let written = Command::new("sh")
            .args(["-c", "printf '%s' \"$1\" > \"$2\" && chmod 755 \"$2\"", "sh", &text])
            .arg(self.path("cmd"))
            .status();
        assert!(written.unwrap().success());
    }

    fn settings(&self) -> Settings {
        Settings {
            command: self.path("cmd"),
            mode: ExecMode::Direct,
            out: self.path("out"),
            state: self.path("state"),
            timeout: Duration::from_secs(20),
            attempts: 3,
            hold: false,
            once: false,
            environment: vec![("PATH".into(), "/usr/bin:/bin".into()), ("TZ".into(), "UTC".into())],
        }
    }

    fn sink(&self) -> ExecSink {
        self.sink_with(|_| {})
    }

    fn sink_with(&self, change: impl FnOnce(&mut Settings)) -> ExecSink {
        let mut settings = self.settings();
        change(&mut settings);
        ExecSink::new(settings, Metrics::new()).unwrap()
    }

    fn out(&self, name: &str) -> String {
        fs::read_to_string(self.path("out").join(name)).unwrap()
    }
}

fn first(sink: &ExecSink) -> Outcome {
    deliver(sink, &Accepted::scaling(1, "nf", 3), false)
}

/// The attempt `attempt` of the first intent.
fn attempt(sink: &ExecSink, attempt: u32) -> Outcome {
    let accepted = Accepted::scaling(1, "nf", 3);
    let delivery = Delivery { attempt, ..accepted.delivery(attempt > 1) };
    contract::deliver_all(sink, &[delivery]).remove(0)
}

fn retry(reason: Reason, message: &str, tried: Tried) -> Outcome {
    later(reason, message.to_owned(), tried)
}

fn is_alive(pid: &str) -> bool {
    let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    // A zombie that init has not reaped yet is dead.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    test_kill_process(pid).is_ok() && !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z"))
}

#[track_caller]
fn dies(pid: &str) {
    let begun = Instant::now();
    while is_alive(pid) {
        assert!(begun.elapsed() < Duration::from_secs(10), "{pid} lives on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_command_gets_the_originals_arguments_and_five_variables() {
    let script = "tr '\\0' '\\n' < /proc/$$/environ > \"$4/environ\"; tr '\\0' '\\n' < /proc/$$/cmdline > \"$4/words\"; \
                  cp \"$2\" \"$4/file\"; ls -ld \"$2\" \"$(dirname \"$2\")\" | cut -c1-10 > \"$4/rights\"";
    let bench = Bench::new(script);
    let accepted = Accepted::scaling(1, "nf", 3);
    for (mode, last) in [(ExecMode::Direct, ""), (ExecMode::Structured, "-structured\n")] {
        let sink = bench.sink_with(|settings| settings.mode = mode);
        let got = receipt(deliver(&sink, &accepted, false));
        assert_eq!((got.name.as_str(), got.revision.as_str()), ("oran-odu/deployment-nf", ""));
        assert_eq!(got.lifecycle, Lifecycle::Published);
        let file = bench.path("state/exec").join(accepted.id.short()).join("intent-1.json");
        let words = format!(
            "/bin/sh\n{}\n-intent\n{}\n-out\n{}\n{last}",
            bench.path("cmd").display(),
            file.display(),
            bench.path("out").display()
        );
        assert_eq!(bench.out("words"), words);
        assert_eq!(
            bench.out("environ"),
            format!("CONDUCTOR_INTENT_ID={}\nPATH=/usr/bin:/bin\nTZ=UTC\n", accepted.id)
        );
        assert_eq!(bench.out("file"), "{}\n");
        assert_eq!(bench.out("rights"), "drwx------\n-rw-------\n");
        assert_eq!(fs::read_dir(bench.path("state/exec")).unwrap().count(), 0, "the copy is gone");
    }
}

#[test]
fn it_inherits_three_descriptors_and_no_ambient_capability() {
    let privileged = raise_ambient();
    // Whoever started the tests may have left some open.
    assert!(crate::read::keep_descriptors());
    let script = "(exec ls -l /proc/self/fd > \"$4/fds\"); \
                  grep CapAmb /proc/$$/status > \"$4/caps\"; ps -o pgid= -p $$ > \"$4/group\"; echo $$ > \"$4/pid\"; \
                  ulimit -c > \"$4/core\"; ulimit -t > \"$4/cpu\"";
    let bench = Bench::new(script);
    let _open = fs::File::open("/proc/self/status").unwrap();
    receipt(first(&bench.sink()));
    let fds = bench.out("fds");
    let links: Vec<(&str, &str)> = fds
        .lines()
        .filter_map(|line| line.split_once(" -> "))
        .map(|(row, to)| (row.rsplit(' ').next().unwrap(), to))
        .collect();
    let numbers: Vec<&str> = links.iter().map(|(number, _)| *number).collect();
    // `ls` itself has the directory open, as number 3, and its output is redirected.
    assert_eq!(numbers, ["0", "1", "2", "3"], "{fds}");
    assert_eq!(links[0].1, "/dev/null");
    assert_eq!(bench.out("caps"), "CapAmb:\t0000000000000000\n");
    assert_eq!(bench.out("group").trim(), bench.out("pid").trim());
    assert_eq!(bench.out("core"), "0\n");
    assert!(bench.out("cpu").trim().parse::<u64>().unwrap() >= 20);
    assert!(!privileged || !capability_is_in_ambient_set(CapabilitySet::LEASE).unwrap());
}

/// Puts `CAP_LEASE` into this thread's ambient set, where it may.
fn raise_ambient() -> bool {
    let mut sets = capabilities(None).unwrap();
    if !sets.permitted.contains(CapabilitySet::LEASE) {
        return false;
    }
    sets.inheritable |= CapabilitySet::LEASE;
    set_capabilities(None, sets).unwrap();
    configure_capability_in_ambient_set(CapabilitySet::LEASE, true).unwrap();
    capability_is_in_ambient_set(CapabilitySet::LEASE).unwrap()
}

#[test]
fn a_code_of_its_own_refuses_the_intent_in_the_words_of_the_original() {
    let bench = Bench::new("printf 'boom\\033[2J' >&2; exit 3");
    let message = "exit status 3 (stderr: boom\\u{1b}[2J)".to_owned();
    assert_eq!(first(&bench.sink()), Outcome::Rejected { reason: Reason::CliExit, message });
    bench.script("exit 1");
    let message = "exit status 1".to_owned();
    assert_eq!(first(&bench.sink()), Outcome::Rejected { reason: Reason::CliExit, message });
}

#[test]
fn trouble_that_may_pass_is_tried_so_many_times_and_then_refused() {
    for (script, what, tried) in [
        ("exit 75", "exit status 75", Tried::WithoutEffect),
        ("exit 124", "exit status 124", Tried::Perhaps),
        ("kill -9 $$", "signal: killed", Tried::Perhaps),
        ("kill -SEGV $$", "signal: segmentation fault", Tried::Perhaps),
    ] {
        let bench = Bench::new(script);
        let sink = bench.sink();
        for number in 1..=2 {
            assert_eq!(attempt(&sink, number), retry(Reason::CliExit, what, tried), "{script}");
        }
        let message = format!("{what}; given up after 3 attempts");
        assert_eq!(attempt(&sink, 3), Outcome::Rejected { reason: Reason::CliExit, message });
    }
}

#[test]
fn at_the_time_limit_the_whole_group_is_killed() {
    let script = "trap '' TERM; sleep 600 & echo $! > \"$4/child\"; echo $$ > \"$4/leader\"; echo late >&2; wait; wait";
    let bench = Bench::new(script);
    let sink = bench.sink_with(|settings| {
        settings.timeout = Duration::from_millis(500);
        settings.attempts = 1;
    });
    let begun = Instant::now();
    let message = "porch command timed out after 500ms (stderr: late)".to_owned();
    assert_eq!(first(&sink), Outcome::Rejected { reason: Reason::CliTimeout, message });
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(500) && took < Duration::from_secs(12), "{took:?}");
    for who in ["leader", "child"] {
        dies(&bench.out(who));
    }
}

#[test]
fn a_command_that_ends_politely_at_the_limit_has_timed_out_all_the_same() {
    let bench = Bench::new("trap 'exit 0' TERM; while :; do sleep 0.01; done");
    let sink = bench.sink_with(|settings| settings.timeout = Duration::from_millis(300));
    let begun = Instant::now();
    assert!(matches!(first(&sink), Outcome::Retry { reason: Reason::CliTimeout, tried: Tried::Perhaps, .. }));
    assert!(begun.elapsed() < Duration::from_millis(300) + run::GRACE, "nobody waited for SIGKILL");
}

#[test]
fn what_is_left_in_the_background_is_killed_and_does_not_hold_the_result_back() {
    let bench = Bench::new("sleep 600 & echo $! > \"$4/child\"; exit 0");
    let begun = Instant::now();
    receipt(first(&bench.sink()));
    assert!(begun.elapsed() < Duration::from_secs(15));
    dies(&bench.out("child"));
    bench.script("sleep 600 > /dev/null 2>&1 & echo $! > \"$4/child\"; exit 3");
    assert!(matches!(first(&bench.sink()), Outcome::Rejected { .. }));
    dies(&bench.out("child"));
}

#[test]
fn a_child_that_left_the_group_with_the_pipe_holds_nobody_up() {
    let bench = Bench::new("setsid sh -c 'echo $$ > \"$1/stray\"; sleep 600' sh \"$4\" & sleep 0.3; exit 0");
    let begun = Instant::now();
    receipt(first(&bench.sink()));
    assert!(begun.elapsed() < Duration::from_secs(15));
    let stray = Pid::from_raw(bench.out("stray").trim().parse().unwrap()).unwrap();
    rustix::process::kill_process_group(stray, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn floods_of_output_are_drained_and_the_beginning_is_kept() {
    let bench =
        Bench::new("head -c 200000000 /dev/zero; head -c 200000000 /dev/zero | tr '\\0' '\\377' >&2; exit 9");
    let sink = bench.sink();
    let Outcome::Rejected { reason: Reason::CliExit, message } = first(&sink) else { panic!("refused") };
    assert!(message.starts_with("exit status 9 (stderr: \\xff\\xff"), "{message}");
    assert!(message.len() < 4 << 10);
    assert!(sink.metrics.render().contains("conductor_loop_faults_total{fault=\"cli-output\"} 1"));
}

#[test]
fn a_command_that_cannot_be_run_is_nobodys_content_unless_nobody_will_come() {
    let bench = Bench::new("exit 0");
    let command = bench.path("cmd");
    let set = |mode| fs::set_permissions(&command, fs::Permissions::from_mode(mode)).unwrap();
    let told = |sink: &ExecSink| match first(sink) {
        Outcome::Retry { reason: Reason::CliUnavailable, message, tried: Tried::No, after: None } => message,
        other => panic!("{other:?}"),
    };
    let (run, once) = (bench.sink(), bench.sink_with(|settings| settings.once = true));
    for (mode, what) in [(0o644, "chmod +x"), (0o777, "chmod go-w"), (0o775, "chmod go-w")] {
        set(mode);
        let message = told(&run);
        assert!(message.contains(what) && message.contains("cmd"), "{message}");
        assert_eq!(run.check(), Err(message.clone()));
        assert_eq!(first(&once), Outcome::Rejected { reason: Reason::CliUnavailable, message });
    }
    set(0o755);
    receipt(first(&run));
    fs::set_permissions(bench.root.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(told(&run).contains("anybody may replace it"));
    fs::set_permissions(bench.root.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    receipt(first(&run));
    fs::remove_file(&command).unwrap();
    assert!(told(&run).contains("no such file or directory"));
    fs::create_dir(&command).unwrap();
    assert!(told(&run).contains("no plain file"));
}

#[test]
fn a_file_that_the_kernel_cannot_run_is_no_shell_script() {
    let bench = Bench::new("");
    let made = Command::new("sh")
        .args(["-c", "echo 'exit 0' > \"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(bench.path("cmd"))
        .status();
    assert!(made.unwrap().success());
    match first(&bench.sink()) {
        Outcome::Retry { reason: Reason::CliUnavailable, message, tried: Tried::No, .. } => {
            assert!(message.contains("Exec format error"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_name_is_looked_up_in_the_absolute_places_of_path() {
    let bench = Bench::new("exit 0");
    let place = bench.root.path().to_str().unwrap();
    fs::create_dir(bench.path("early")).unwrap();
    fs::write(bench.path("early/cmd"), "not executable").unwrap();
    let find = |search: &str| command::find(Path::new("cmd"), Some(search.as_ref()), Runner::us());
    assert_eq!(find(&format!("::.:relative:{place}/early:{place}")), Ok(bench.path("cmd")));
    let message = "exec: \"cmd\": executable file not found in $PATH; install it or set sink.exec.command";
    assert_eq!(find("/nowhere:."), Err(Unfit::ForGood(message.into())));
    assert_eq!(command::find(Path::new("cmd"), None, Runner::us()), Err(Unfit::ForGood(message.into())));
    assert!(
        matches!(find(&format!("{place}/early")), Err(Unfit::ForGood(told)) if told.contains("chmod +x"))
    );
}

#[test]
fn what_is_uncertain_is_held_if_so_wished_and_never_run_again() {
    let bench = Bench::new("echo run >> \"$4/runs\"; kill -9 $$");
    let sink = bench.sink_with(|settings| (settings.hold, settings.attempts) = (true, 1));
    let accepted = Accepted::scaling(1, "nf", 3);
    let Outcome::Held { reason: Reason::CliExit, message, tried: Tried::Perhaps } =
        deliver(&sink, &accepted, false)
    else {
        panic!("held")
    };
    assert!(message.starts_with("signal: killed; it may have had its effect"), "{message}");
    assert!(message.contains(&format!("conductor-loop requeue {}", accepted.id)), "{message}");
    let again = deliver(&sink, &accepted, true);
    assert!(matches!(again, Outcome::Held { tried: Tried::No, .. }), "{again:?}");
    assert_eq!(bench.out("runs"), "run\n");
    bench.script("exit 75");
    assert!(matches!(attempt(&bench.sink_with(|settings| settings.hold = true), 1), Outcome::Retry { .. }));
}

#[test]
fn winding_up_ends_what_runs_without_a_verdict_and_begins_nothing() {
    let bench = Bench::new("trap 'exit 3' TERM; echo $$ > \"$4/leader\"; while :; do sleep 0.01; done");
    let sink = Arc::new(bench.sink());
    let begun = bench.path("out/leader");
    let teller = Arc::clone(&sink);
    let told = std::thread::spawn(move || {
        while !fs::read_to_string(&begun).is_ok_and(|pid| pid.ends_with('\n')) {
            std::thread::sleep(Duration::from_millis(2));
        }
        teller.wind_up();
    });
    let outcome = first(&sink);
    told.join().unwrap();
    assert!(
        matches!(outcome, Outcome::Retry { reason: Reason::CliExit, tried: Tried::Perhaps, .. }),
        "{outcome:?}"
    );
    assert!(matches!(first(&sink), Outcome::Retry { tried: Tried::No, .. }));
}

#[test]
fn a_dropped_run_kills_its_group_and_removes_its_file() {
    let bench =
        Bench::new("trap '' TERM; sleep 600 & echo $! > \"$4/child\"; echo $$ > \"$4/leader\"; wait; wait");
    let sink = bench.sink();
    let accepted = Accepted::scaling(1, "nf", 3);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let group = [accepted.delivery(false)];
        let begun = async {
            while !fs::read_to_string(bench.path("out/leader")).is_ok_and(|pid| pid.ends_with('\n')) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::select! {
            outcomes = sink.deliver(&group) => panic!("{outcomes:?}"),
            () = begun => {}
        }
    });
    for who in ["leader", "child"] {
        dies(&bench.out(who));
    }
    assert_eq!(fs::read_dir(bench.path("state/exec")).unwrap().count(), 0);
}

#[test]
fn a_start_ends_the_runs_and_removes_the_copies_of_a_daemon_that_was_killed() {
    let bench = Bench::new("echo $$ > \"$4/leader\"; sleep 600");
    let left = bench.path("state/exec/0123abcd");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("intent-1.json"), "{}").unwrap();
    let start = |file: &Path| {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new(bench.path("cmd"));
        command.arg("-intent").arg(file).arg("-out").arg(bench.path("out"));
        command.env(run::ID, "0123abcd01234567").process_group(0).spawn().unwrap()
    };
    let mut run = start(&left.join("intent-1.json"));
    let mut stranger = start(&bench.path("elsewhere/intent-1.json"));
    bench.sink();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&run.wait().unwrap()), Some(libc::SIGKILL));
    assert!(stranger.try_wait().unwrap().is_none(), "another daemon's run is none of ours");
    rustix::process::kill_process_group(Pid::from_child(&stranger), rustix::process::Signal::KILL).unwrap();
    stranger.wait().unwrap();
    assert_eq!(fs::read_dir(bench.path("state/exec")).unwrap().count(), 0);
}

/// A command that keeps an object for each target, and takes the id of the intent from its variable.
impl World for Bench {
    fn open(&self) -> Box<dyn Sink> {
        Box::new(self.sink())
    }

    fn object(&self, target: &Target) -> Option<Object> {
        let text = fs::read_to_string(self.path("out").join(target.name.as_ref())).ok()?;
        Some(Object { id: text.trim().parse().unwrap(), revision: String::new(), replicas: Some(4) })
    }

    fn occupy(&self, _target: &Target) {}

    fn is_occupied(&self, _target: &Target) -> bool {
        true
    }
}

/// The parts of the contract that a sink can keep which cannot be asked what it holds. It has no revisions
/// (`every_delivery_is_a_revision`), does again what it did before (`a_repeat_has_no_second_effect`, adopting
/// and `overtaken`), and whose object it is only the command knows (`a_foreign_object_is_left_as_it_is`).
#[test]
fn the_contract_is_kept_as_far_as_a_command_can() {
    let new = || Bench::new("echo $CONDUCTOR_INTENT_ID > \"$4/nf\"");
    contract::a_doubtful_delivery_that_was_not_applied_is_delivered(&new());
    contract::a_restore_of_what_stands_changes_nothing(&new());
    contract::a_healthy_sink_says_so(&new());
    assert!(new().open().overtaken(&[]).unwrap().is_empty());
}
