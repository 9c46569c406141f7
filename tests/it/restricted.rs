//! The daemon under the shipped unit's restrictions, and under its own sandbox.
//!
//! As root everything of the unit but cgroups and the filter itself is in force; what the daemon calls is
//! compared with the filter. The tests that need `strace` and `systemd-analyze` are run by `.ci/run`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{DROPPERS, Node, Place, Ran, Unit, names_in, padded, privileged, scale, until};

/// A producer: another user than the daemon, of the group that both share.
const PRODUCER: u32 = 61_001;

/// Drops as another user does who lets the group read.
fn drop_as_producer(place: &Place, name: &str, bytes: &[u8]) {
    let draft = place.desk().join(name);
    fs::write(&draft, bytes).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o640)).unwrap();
    if privileged() {
        chown(&draft, Some(PRODUCER), Some(DROPPERS)).unwrap();
    }
    fs::rename(&draft, place.dropped(name)).unwrap();
}

/// One line of `/proc/PID/task/TID/status` of every thread.
fn of_all_threads(node: &Node<'_>, key: &str) -> BTreeSet<String> {
    let tasks = format!("/proc/{}/task", node.pid());
    let told = names_in(tasks.as_ref()).into_iter().filter_map(|task| {
        let status = fs::read_to_string(format!("{tasks}/{task}/status")).ok()?;
        Some(status.lines().find_map(|line| line.strip_prefix(key))?.trim().to_owned())
    });
    told.collect()
}

/// What a daemon does between its start and its end, with all ways of a file.
fn live(place: &Place, node: &Node<'_>) {
    drop_as_producer(place, "intent-moved.json", &scale("moved", 3));
    drop_as_producer(place, "intent-mapped.json", &padded("mapped", 4, 300 << 10));
    drop_as_producer(place, "intent-bad.json", b"{\"replicas\": ");
    place.write_in(
        "intent-halves.json",
        &[b"{\"intent_type\": ", b"\"scaling\"]"],
        Duration::from_millis(50),
    );
    symlink("/etc/shadow", place.dropped("intent-link.json")).unwrap();
    for (name, fate) in [
        ("intent-moved.json", "delivered"),
        ("intent-mapped.json", "delivered"),
        ("intent-bad.json", "refused"),
        ("intent-halves.json", "refused"),
        ("intent-link.json", "refused"),
    ] {
        assert_eq!(place.settled(name)["fate"], fate, "{name}");
    }
    node.signal(Signal::HUP);
    until("the folder is scanned", || {
        (node.page().labelled("conductor_loop_rescans_total", "cause", "signal") > 0.0).then_some(())
    });
    for path in ["/stats", "/readyz?verbose", "/livez"] {
        assert_eq!(node.get(path).code, 200, "{path}");
    }
    place.next_good_file_is_delivered("life");
}

#[test]
fn the_daemon_lives_under_the_shipped_unit() {
    let (unit, place) = (Unit::shipped(), Unit::place());
    let node = place.node_by(unit.command(&place, &[], &["run"])).start();
    live(&place, &node);
    let status = place.settled("intent-moved.json");
    assert_eq!(status["proof"], "lease", "also on a file of another user: {status:#}");
    assert_eq!(of_all_threads(&node, "NoNewPrivs:"), ["1".to_owned()].into());
    assert_eq!(
        node.page().value("conductor_loop_sandbox_level"),
        f64::from(conductor_loop::service::landlock_abi())
    );
    if privileged() {
        // Bit 28 is CAP_LEASE.
        for key in ["CapEff:", "CapPrm:", "CapBnd:", "CapAmb:"] {
            assert_eq!(of_all_threads(&node, key), ["0000000010000000".to_owned()].into(), "{key}");
        }
    }
    node.finish();
    let again = place.node_by(unit.command(&place, &[], &["run"])).start();
    place.next_good_file_is_delivered("a-restart");
    again.finish();
}

#[test]
fn under_the_shipped_unit_no_secret_can_be_read() {
    let (unit, place) = (Unit::shipped(), Unit::place());
    let ran = Ran::of(&mut unit.command(&place, &[], &["validate", "/etc/shadow"]));
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert!(ran.code != 0 && said.contains("Permission denied"), "{}: {said}", ran.code);
}

#[test]
#[ignore = "needs strace and systemd-analyze; .ci/run runs it"]
fn the_daemon_calls_nothing_that_the_shipped_unit_filters() {
    let (unit, place) = (Unit::shipped(), Unit::place());
    let trace = place.desk().join("trace");
    let traced = ["strace", "-D", "-f", "-q", "-o", trace.to_str().unwrap()];
    let allowed = unit.allowed_calls();
    for call in ["openat2", "renameat2", "inotify_add_watch", "landlock_restrict_self"] {
        assert!(allowed.contains(call), "the unit's filter refuses {call}");
    }
    for call in ["mount", "chown", "ptrace", "reboot", "init_module", "setuid"] {
        assert!(!allowed.contains(call), "the unit's filter passes {call}");
    }
    let node = place.node_by(unit.command(&place, &traced, &["run"])).start();
    let pid = node.pid();
    live(&place, &node);
    node.finish();
    let log = until("the trace is complete", || {
        let log = fs::read_to_string(&trace).unwrap();
        let over =
            log.lines().any(|line| line.starts_with(&format!("{pid} ")) && line.contains("+++ exited"));
        over.then_some(log)
    });
    let start = format!("execve(\"{}\"", unit.program(&place));
    let begins = log.find(&start).expect("the program was started under the tracer");
    let calls: Vec<&str> = log[begins..].lines().skip(1).filter_map(call).collect();
    for needed in ["openat", "fcntl", "renameat2", "landlock_restrict_self", "inotify_add_watch", "syncfs"] {
        assert!(calls.contains(&needed), "the life that was traced has no {needed}");
    }
    let refused: BTreeSet<&str> = calls.into_iter().filter(|call| !allowed.contains(*call)).collect();
    assert!(refused.is_empty(), "the unit's filter refuses {refused:?}");
    check_arguments(&unit, &log[begins..]);
}

/// The name of the call in a line of the trace; none in one that tells of a signal, an end or a resumption.
fn call(line: &str) -> Option<&str> {
    let (_, what) = line.split_once(' ')?;
    let (name, _) = what.trim_start().split_once('(')?;
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_').then_some(name)
}

/// The restrictions of the unit that look at arguments.
#[track_caller]
fn check_arguments(unit: &Unit, trace: &str) {
    assert_eq!(unit.one("MemoryDenyWriteExecute"), "yes");
    let families: Vec<&str> = unit.one("RestrictAddressFamilies").split_whitespace().collect();
    for line in trace.lines() {
        let Some(name) = call(line) else { continue };
        let arguments = line.split_once('(').map_or("", |(_, rest)| rest);
        if name == "socket" {
            let family = arguments.split(',').next().unwrap_or_default();
            assert!(families.contains(&family), "{line}");
        }
        let executable = arguments.contains("PROT_EXEC");
        if executable && ["mmap", "mprotect", "pkey_mprotect"].contains(&name) {
            assert!(name == "mmap" && !arguments.contains("PROT_WRITE"), "memory made executable: {line}");
        }
        let special = ["S_ISUID", "S_ISGID"].iter().any(|bit| arguments.contains(bit));
        assert!(!special || name.contains("stat"), "a file made to run as another: {line}");
    }
}

#[test]
fn a_sandboxed_daemon_files_whatever_was_dropped() {
    let place = Place::new();
    let node = place.node().with(&["--set", "service.sandbox=require", "--period", "200ms"]).start();
    live(&place, &node);
    for (name, kind) in [("intent-pipe.json", "p"), ("intent-device.json", "c")] {
        let numbers: &[&str] = if kind == "c" { &["1", "3"] } else { &[] };
        if kind == "c" && !privileged() {
            continue;
        }
        let made = Command::new("mknod").arg(place.dropped(name)).arg(kind).args(numbers).status().unwrap();
        assert!(made.success());
        assert_eq!(place.settled(name)["reason"], "not-regular", "{name}");
        assert!(place.failed(name).symlink_metadata().is_ok(), "{name} is moved all the same");
    }
    fs::remove_dir_all(place.handoff().join("processed")).unwrap();
    place.next_good_file_is_delivered("own-folder-gone");
    assert_eq!(of_all_threads(&node, "NoNewPrivs:"), ["1".to_owned()].into(), "no thread is outside");
    assert!(node.page().value("process_resident_memory_bytes") > 0.0 && place.log().contains("sandboxed: "));
    assert_eq!(node.stop(), 0);
}

#[test]
fn without_a_service_manager_or_the_wish_nothing_is_restricted() {
    let place = Place::new();
    let node = place.node().start();
    assert_eq!(node.page().value("conductor_loop_sandbox_level"), 0.0);
    assert!(of_all_threads(&node, "NoNewPrivs:").contains("0"));
    node.finish();
}

#[test]
fn a_sandboxed_daemon_ends_for_a_restart_when_its_folder_is_another_one() {
    let managed_only = ["INVOCATION_ID=0af3", "CONDUCTOR_LOOP_SERVICE_SANDBOX=off"];
    let sandboxed_only = ["CONDUCTOR_LOOP_SERVICE_SANDBOX=require"];
    for environment in [&managed_only[..], &sandboxed_only[..]] {
        let place = Place::new();
        let away = place.root().join("handoff.away");
        let mut setup = place.node().with(&["--period", "200ms"]);
        for variable in environment {
            let (name, value) = variable.split_once('=').unwrap();
            setup = setup.variable(name, value);
        }
        let node = setup.start();
        fs::rename(place.handoff(), &away).unwrap();
        until("its absence is noticed", || (node.get("/readyz").code == 503).then_some(()));
        // Neither nothing nor an impostor is a reason to end, nor is the return of the very folder.
        symlink(place.desk(), place.handoff()).unwrap();
        std::thread::sleep(Duration::from_millis(1_500));
        fs::remove_file(place.handoff()).unwrap();
        fs::rename(&away, place.handoff()).unwrap();
        until("it is watched again", || (node.get("/readyz").code == 200).then_some(()));
        place.next_good_file_is_delivered("returned");
        fs::rename(place.handoff(), &away).unwrap();
        fs::create_dir(place.handoff()).unwrap();
        assert_eq!(node.wait_end(Duration::from_secs(30)), 1, "{environment:?}");
        assert!(place.log().contains("hot-folder-replaced: "), "{environment:?}");
        let next = place.node().start();
        place.next_good_file_is_delivered("a-new-folder");
        assert_eq!(next.stop(), 0);
    }
}

#[test]
#[ignore = "needs strace; .ci/run runs it"]
fn a_kernel_without_landlock_stops_only_who_requires_it() {
    for (wish, code) in [("require", 1), ("best-effort", 0)] {
        let place = Place::new();
        place.rename_in("intent-a.json", &scale("a", 3));
        let trace = place.desk().join("trace");
        let plain = place.command();
        let mut command = Command::new("strace");
        command
            .args(["-f", "-qq", "-e", "inject=landlock_create_ruleset:error=EOPNOTSUPP", "-o"])
            .arg(&trace);
        command.arg(plain.get_program()).args(["once", "--log-format", "text"]);
        command.args(["--set", &format!("service.sandbox={wish}")]);
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("INVOCATION_ID", "0af3").env_remove("SYSTEMD_EXEC_PID");
        let ran = Ran::of(&mut command).ended(code);
        assert!(ran.stderr.contains("the kernel offers no Landlock"), "{}", ran.stderr);
        assert_eq!(place.dropped("intent-a.json").exists(), code == 1, "{wish}");
    }
}
