//! One run of the program to its end.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::within;

/// The program under test.
pub(crate) fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_conductor-loop"))
}

/// What a run left.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its exit code.
    pub(crate) code: i32,
    /// Its data.
    pub(crate) stdout: String,
    /// Its messages.
    pub(crate) stderr: String,
}

impl Ran {
    /// Runs `command` to its end, at most 120 s.
    #[track_caller]
    pub(crate) fn of(command: &mut Command) -> Ran {
        Ran::fed(command, b"")
    }

    /// The same with something to read on stdin.
    #[track_caller]
    pub(crate) fn fed(command: &mut Command, input: &[u8]) -> Ran {
        let shown = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|err| panic!("cannot start {shown}: {err}"));
        // A program that does not read its input may be gone already.
        let _ = child.stdin.take().expect("is piped").write_all(input);
        let (ended, waiter) = std::sync::mpsc::channel();
        let pid = rustix::process::Pid::from_child(&child);
        std::thread::spawn(move || ended.send(child.wait_with_output()));
        let output = match waiter.recv_timeout(std::time::Duration::from_secs(120)) {
            Ok(output) => output.unwrap(),
            Err(_) => {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                panic!("{shown} did not end within 120 s");
            }
        };
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("data is UTF-8"),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails the test unless it ended with `code`.
    #[track_caller]
    pub(crate) fn ended(self, code: i32) -> Ran {
        assert_eq!(self.code, code, "exit code\nstdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// stdout as one JSON document.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|err| panic!("stdout is not one JSON document: {err}\n{}", self.stdout))
    }

    /// stdout as one JSON document a line.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|err| panic!("not JSON: {err}: {line}"));
        self.stdout.lines().map(parse).collect()
    }
}

/// A copy of the program that every user may run, written by another process, so that no thread of ours
/// holds it open for writing while another one forks.
pub(super) fn public_copy(folder: &Path) -> PathBuf {
    let copy = folder.join("conductor-loop");
    let status = Command::new("install").args(["-m", "0755"]).arg(program()).arg(&copy).status().unwrap();
    assert!(status.success(), "install ended with {status}");
    within(super::PATIENCE, "the copy is there", || copy.exists().then_some(()));
    copy
}
