//! Places apart, in which a fault can be real and harm nobody: the test runs itself again in there.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::support::Ran;

/// Set to the name of the test that was started in a world of its own.
const WITHIN: &str = "CONDUCTOR_LOOP_TEST_WORLD";

/// The kernel as a program: its own clock, its own memory, nothing of this machine but its files to be read.
const KERNEL: &str = "linux.uml";

/// Runs `body` among mounts that nobody else sees and that are gone afterwards.
#[track_caller]
pub(super) fn of_own_mounts(test: &str, body: fn()) {
    apart(test, body, &["--mount", "--propagation", "private"]);
}

/// Runs `body` as root of a user namespace, which has limits of its own below the machine's.
#[track_caller]
pub(super) fn of_own_limits(test: &str, body: fn()) {
    apart(test, body, &["--user", "--map-root-user"]);
}

#[track_caller]
fn apart(test: &str, body: fn(), namespaces: &[&str]) {
    if is_within(test) {
        return body();
    }
    let mut command = Command::new("unshare");
    command.args(namespaces).arg("--").arg(env::current_exe().unwrap()).args(only(test)).env(WITHIN, test);
    passed(Ran::of(&mut command));
}

/// Runs `body` on another kernel, with memory for its files and the loopback interface up.
#[track_caller]
pub(super) fn of_own_kernel(test: &str, body: fn()) {
    if is_within(test) {
        return body();
    }
    let desk = tempfile::tempdir().unwrap();
    let init = desk.path().join("init");
    let (program, args) = (env::current_exe().unwrap(), only(test).join("' '"));
    let script = format!(
        "#!/bin/sh\n\
         mount -t proc proc /proc && mount -t tmpfs files /mnt && ip link set lo up || echo the world is not made\n\
         cd / && TMPDIR=/mnt {WITHIN}='{test}' '{}' '{args}' 2>&1\n\
         echo o > /proc/sysrq-trigger\n\
         sleep 60\n",
        program.display()
    );
    fs::write(&init, script).unwrap();
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).unwrap();
    let mut kernel = Command::new(KERNEL);
    kernel.args([
        "mem=512M",
        "rootfstype=hostfs",
        "rootflags=/",
        "ro",
        "quiet",
        "con=null",
        "con0=null,fd:1",
    ]);
    kernel.arg(format!("uml_dir={}", desk.path().display())).arg(format!("init={}", init.display()));
    passed(Ran::of(&mut kernel));
}

fn is_within(test: &str) -> bool {
    env::var(WITHIN).is_ok_and(|name| name == test)
}

fn only(test: &str) -> [String; 4] {
    let whole = format!("prepared_faults::{test}");
    ["--exact".to_owned(), whole, "--include-ignored".to_owned(), "--nocapture".to_owned()]
}

#[track_caller]
fn passed(ran: Ran) {
    let told = format!("{}\n{}", ran.stdout, ran.stderr);
    assert!(ran.code == 0 && told.contains("1 passed; 0 failed"), "in its own world ({}):\n{told}", ran.code);
}
