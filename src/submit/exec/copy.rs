//! The file that the command reads, and what runs of a killed daemon left behind.
//!
//! `<state>/exec/<id8>/<original name>`: directories 0700, the file 0600, removed when its run is over.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, getpgid, kill_process_group};

use crate::submit::Delivery;

/// Where the copies are.
#[derive(Debug)]
pub(super) struct Desk {
    root: PathBuf,
}

impl Desk {
    /// The directory for copies below the state directory, empty.
    pub(super) fn open(state: &Path) -> Result<Desk, String> {
        let root = state.join("exec");
        let fault = |err: io::Error| format!("directory {}: {err}", root.display());
        if root.exists() {
            end_leftovers(&root);
            fs::remove_dir_all(&root).map_err(fault)?;
        }
        make_dir(&root).map_err(fault)?;
        Ok(Desk { root })
    }

    /// Writes the copy for a run.
    pub(super) fn put(&self, delivery: &Delivery<'_>) -> Result<Copy, String> {
        let dir = self.root.join(delivery.id.short());
        let path = dir.join(delivery.name.rsplit('/').next().unwrap_or_default());
        let copy = Copy { dir, path };
        let written = copy.write(delivery.file.unwrap_or_default());
        written.map_err(|err| format!("the file for the command, {}: {err}", copy.path.display()))?;
        Ok(copy)
    }
}

/// A copy; removed when dropped.
#[derive(Debug)]
pub(super) struct Copy {
    dir: PathBuf,
    path: PathBuf,
}

impl Copy {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        match fs::remove_dir_all(&self.dir) {
            Err(err) if err.kind() != ErrorKind::NotFound => return Err(err),
            _ => make_dir(&self.dir)?,
        }
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path)?.write_all(bytes)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next start.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// With its parents: the state directory may have been lost and be made anew just now.
fn make_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Ends the runs of a daemon that was killed: they would go on beside those of this one, with a file
/// that is gone. They are known by their argument below `root` and by our variable.
fn end_leftovers(root: &Path) {
    let Ok(entries) = fs::read_dir("/proc") else { return };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for pid in pids.filter(|pid| is_leftover(*pid, root)) {
        let Some(group) = Pid::from_raw(pid).and_then(|pid| getpgid(Some(pid)).ok()) else { continue };
        tracing::warn!(pid, "a run of the command outlived the last daemon; its process group is killed");
        // It may have ended by itself.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

fn is_leftover(pid: i32, root: &Path) -> bool {
    let read = |what: &str| fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
    let words = read("cmdline");
    let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
    let is_file = |word: &[u8]| Path::new(std::ffi::OsStr::from_bytes(word)).starts_with(root);
    let is_run = words.windows(2).any(|pair| pair[0] == b"-intent" && is_file(pair[1]));
    is_run && read("environ").split(|byte| *byte == 0).any(|set| set.starts_with(super::run::ID.as_bytes()))
}
