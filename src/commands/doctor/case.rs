//! The facts that several checks share, gathered once: settings, places, whose rights count, mounts, and
//! what the running daemon says of itself.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::lock::{Standing, standing};
use super::mounts::{Mounts, Planned, planned};
use super::pages::Pages;
use super::subject::Subject;
use crate::clock::{Clock as _, SystemClock, Wall};
use crate::commands::status::configured;
use crate::config::{Environment, Listen, Loaded, state_dir};

/// What the checks look at.
pub(super) struct Case {
    pub(super) loaded: Loaded,
    /// Absolute; so are the next three.
    pub(super) handoff: PathBuf,
    pub(super) out: PathBuf,
    pub(super) state: PathBuf,
    /// `failed/` where it is not in the handoff folder.
    pub(super) failed: Option<PathBuf>,
    /// The lock of the state directory.
    pub(super) standing: Standing,
    /// The answers of the running daemon; `None` if nobody answers.
    pub(super) pages: Option<Pages>,
    pub(super) subject: Subject,
    /// The environment of the running daemon, else ours.
    pub(super) around: Environment,
    /// `PATH` of it.
    pub(super) search: Option<OsString>,
    pub(super) mounts: Mounts,
    pub(super) planned: Vec<Planned>,
    pub(super) now: Wall,
}

impl Case {
    /// Looks at everything; changes nothing.
    pub(super) fn gather(loaded: Loaded, environment: &Environment) -> Case {
        let config = &loaded.config;
        let handoff = absolute(&config.watch.handoff);
        let state = absolute(&state_dir(config, environment));
        let standing = standing(&state);
        let pages = published(&state, &standing).or_else(|| guessed(&config.http.listen, &standing));
        let pages = pages.and_then(|address| Pages::ask(&address));
        let told = pages.as_ref().and_then(Pages::pid);
        let pid = told.or_else(|| standing.holder().and_then(|holder| holder.pid_here()));
        let owner = owner(&handoff.join(".conductor")).or_else(|| owner(&state));
        let subject = Subject::find(pid, owner);
        let around = subject.pid.and_then(environment_of).unwrap_or_else(|| environment.clone());
        let search = around.get(OsStr::new("PATH")).or_else(|| environment.get(OsStr::new("PATH"))).cloned();
        Case {
            handoff,
            out: absolute(&config.sink.folder.out),
            failed: config.settle.failed_dir.as_deref().map(absolute),
            state,
            standing,
            pages,
            mounts: Mounts::read(subject.pid),
            planned: planned(),
            search,
            around,
            subject,
            now: SystemClock.wall(),
            loaded,
        }
    }

    /// A daemon runs, as its lock or its pages say.
    pub(super) fn is_up(&self) -> bool {
        self.pages.is_some() || self.standing.holder().is_some()
    }

    /// The advice where we may not look at something that the daemon may.
    pub(super) fn look_as(&self) -> String {
        match self.subject.uid {
            0 => "run the doctor as root".to_owned(),
            uid => format!("run the doctor as root or as uid {uid}"),
        }
    }
}

/// `path` and the current directory, nothing resolved.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// `path` with links resolved, as far as it exists.
pub(super) fn real(path: &Path) -> PathBuf {
    path.ancestors().find_map(|there| there.canonicalize().ok()).unwrap_or_else(|| path.to_owned())
}

fn owner(path: &Path) -> Option<u32> {
    path.symlink_metadata().ok().map(|meta| meta.uid())
}

/// That of a process that we may look at.
fn environment_of(pid: u32) -> Option<Environment> {
    let variables = std::fs::read(format!("/proc/{pid}/environ")).ok().filter(|all| !all.is_empty())?;
    let pair = |variable: &[u8]| {
        let at = variable.iter().position(|byte| *byte == b'=')?;
        let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        Some((text(&variable[..at]), text(&variable[at + 1..])))
    };
    Some(variables.split(|byte| *byte == 0).filter_map(pair).collect())
}

/// The address that the running daemon has written down.
fn published(state: &Path, standing: &Standing) -> Option<String> {
    standing.holder()?;
    let address = std::fs::read_to_string(state.join(crate::commands::daemon::ADDRESS_FILE)).ok()?;
    Some(address.trim().to_owned())
}

/// Where a daemon whose state we may not read would answer.
fn guessed(listen: &Listen, standing: &Standing) -> Option<String> {
    matches!(standing, Standing::Hidden(_)).then(|| configured(listen))?
}
