//! A fresh folder tree and what can be found in it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use serde_json::Value;
use tempfile::TempDir;

use super::node::Setup;
use super::run::{Ran, program, public_copy};
use super::until;

/// The uid and gid of an unprivileged daemon when the tests are root.
pub(super) const NOBODY: u32 = 65_534;

/// Held shared by ordinary tests and alone by those that measure.
static MACHINE: RwLock<()> = RwLock::new(());

/// The right to use the machine, given back at the end of the test; never read.
#[expect(dead_code, reason = "guards are held, not read")]
enum Turn {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

/// True when the tests are root, who is never refused anything.
pub(crate) fn privileged() -> bool {
    rustix::process::geteuid().is_root()
}

/// One test's folders: `handoff`, `out`, `state` and a `desk` where producers write before they rename.
pub(crate) struct Place {
    root: TempDir,
    program: PathBuf,
    user: Option<u32>,
    _turn: Turn,
}

impl Place {
    /// A place whose daemon runs as the user of the tests.
    pub(crate) fn new() -> Place {
        Place::made(Turn::Shared(MACHINE.read()), None)
    }

    /// A place with the machine to itself, for tests that measure or need all of it.
    pub(crate) fn alone() -> Place {
        Place::made(Turn::Alone(MACHINE.write()), None)
    }

    /// A place whose daemon has no privilege: another user if the tests are root, else the same.
    pub(crate) fn unprivileged() -> Place {
        Place::made(Turn::Shared(MACHINE.read()), privileged().then_some(NOBODY))
    }

    fn made(turn: Turn, user: Option<u32>) -> Place {
        let root = tempfile::Builder::new().prefix("conductor-loop-").tempdir().unwrap();
        let mut program = program();
        if let Some(uid) = user {
            program = public_copy(root.path());
            fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
            chown(root.path(), Some(uid), Some(uid)).unwrap();
        }
        let place = Place { root, program, user, _turn: turn };
        fs::create_dir(place.desk()).unwrap();
        for folder in [place.handoff(), place.out(), place.state()] {
            fs::create_dir(&folder).unwrap();
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).unwrap();
            chown(&folder, user, user).unwrap();
        }
        place
    }

    /// The whole tree.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// The program that its daemon runs.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// The watched folder.
    pub(crate) fn handoff(&self) -> PathBuf {
        self.root().join("handoff")
    }

    /// Where packages appear.
    pub(crate) fn out(&self) -> PathBuf {
        self.root().join("out")
    }

    /// Ledger and locks.
    pub(crate) fn state(&self) -> PathBuf {
        self.root().join("state")
    }

    /// Where producers write before they rename.
    pub(crate) fn desk(&self) -> PathBuf {
        self.root().join("desk")
    }

    /// Everything that the daemon says.
    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8(bytes).expect("the log is UTF-8 whatever is dropped")
    }

    pub(super) fn log_path(&self) -> PathBuf {
        self.root().join("daemon.log")
    }

    /// The program as the daemon's user, with this place's folders in its environment and nothing else.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.root())
            .env("CONDUCTOR_LOOP_WATCH_HANDOFF", self.handoff())
            .env("CONDUCTOR_LOOP_SINK_FOLDER_OUT", self.out())
            .env("CONDUCTOR_LOOP_LEDGER_DIR", self.state())
            .current_dir(self.root());
        if let Some(uid) = self.user {
            command.uid(uid).gid(uid);
        }
        command
    }

    /// A daemon that `command` starts in this place; it must say where it listens in `state`.
    pub(crate) fn node_by(&self, command: Command) -> Setup<'_> {
        Setup::by(self, command)
    }

    /// Runs the program with `args` to its end.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command().args(args))
    }

    /// A daemon for this place, not started yet; call `.start()`.
    pub(crate) fn node(&self) -> Setup<'_> {
        Setup::new(self)
    }

    /// Writes a settings file and returns its path.
    pub(crate) fn settings(&self, toml: &str) -> String {
        let path = self.root().join("settings.toml");
        fs::write(&path, toml).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path.to_str().expect("temporary folders have plain names").to_owned()
    }

    /// The ledger's account, oldest first.
    #[track_caller]
    pub(crate) fn history(&self) -> Vec<Value> {
        self.run(&["history", "--json"]).ended(0).json_lines()
    }

    /// `status --json`.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        self.run(&["status", "--json"]).ended(0).json()
    }

    /// Every status file, in the order of their names. A file that is not a whole document fails the test.
    #[track_caller]
    pub(crate) fn statuses(&self) -> Vec<Value> {
        self.statuses_where(|_| true)
    }

    /// The status files of one dropped name, in the order of acceptance.
    #[track_caller]
    pub(crate) fn statuses_of(&self, name: &str) -> Vec<Value> {
        let stem: String = name.chars().take(100).collect();
        let mut found = self.statuses_where(|file| file.starts_with(&stem));
        found.retain(|status| status["intent_file"] == name);
        found.sort_by_key(|status| status["accepted_at"].as_str().map(str::to_owned));
        found
    }

    #[track_caller]
    fn statuses_where(&self, wanted: impl Fn(&str) -> bool) -> Vec<Value> {
        let folder = self.handoff().join("status");
        let mut names = names_in(&folder);
        names.retain(|name| name.ends_with(".status") && wanted(name));
        names.sort();
        names.iter().map(|name| parse_status(&folder.join(name))).collect()
    }

    /// Waits until `name` has a final status and has left the folder.
    #[track_caller]
    pub(crate) fn settled(&self, name: &str) -> Value {
        self.settled_times(name, 1).pop().expect("one was waited for")
    }

    /// Waits until `name` has `times` final statuses and has left the folder.
    #[track_caller]
    pub(crate) fn settled_times(&self, name: &str, times: usize) -> Vec<Value> {
        until(&format!("{name} has {times} final status files and is gone from the folder"), || {
            let mut ends = self.statuses_of(name);
            ends.retain(|status| status["fate"] != "pending");
            // On its way to the archive a file is in `.conductor/` for a moment, under its id.
            let taken = |name: &String| name.len() == 16 && name.bytes().all(|b| b.is_ascii_hexdigit());
            let gone = self.handoff().join(name).symlink_metadata().is_err()
                && !super::names_in(&self.handoff().join(".conductor")).iter().any(taken);
            (ends.len() >= times && gone).then_some(ends)
        })
    }

    /// The package of a deployment in `ran-a`.
    #[track_caller]
    pub(crate) fn deployment(&self, target: &str) -> Workload {
        self.workload("ran-a", "deployment", target)
    }

    /// The package of a target; fails the test if there is none.
    #[track_caller]
    pub(crate) fn workload(&self, namespace: &str, kind: &str, target: &str) -> Workload {
        let path = self.out().join(namespace).join(format!("{kind}-{target}")).join("workload.yaml");
        Workload::parse(&fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display())))
    }
}

/// What a package says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Workload {
    /// How many intents were delivered to it.
    pub(crate) revision: u64,
    /// The wanted count.
    pub(crate) replicas: Option<u64>,
    /// The id of the newest delivered intent.
    pub(crate) intent_id: String,
}

impl Workload {
    #[track_caller]
    fn parse(text: &str) -> Workload {
        let first = text.trim_start_matches("---\n").split("\n---").next().unwrap_or_default();
        let document: Value = serde_saphyr::from_str(first).expect("the workload is YAML");
        let annotation = |name: &str| {
            let key = format!("conductor-loop.nephoran.com/{name}");
            let value = document["metadata"]["annotations"][&key].as_str();
            value.unwrap_or_else(|| panic!("annotation {name} as a string in {text}")).to_owned()
        };
        Workload {
            revision: annotation("revision").parse().unwrap(),
            replicas: document["spec"]["replicas"].as_u64(),
            intent_id: annotation("intent-id"),
        }
    }
}

/// The names in a folder; none if it is not there.
pub(crate) fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(Result::ok).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[track_caller]
fn parse_status(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.ends_with("}\n"), "{} is cut off or lacks its newline: {text:?}", path.display());
    let status: Value = serde_json::from_str(&text)
        .unwrap_or_else(|err| panic!("{} is not a whole document: {err}\n{text}", path.display()));
    for key in ["schema", "id", "intent_file", "status", "fate", "message", "timestamp", "processed_by"] {
        assert!(status.get(key).is_some_and(Value::is_string), "{key} is missing in {text}");
    }
    assert_eq!(status["schema"], "conductor-loop/status/v1");
    status
}
