//! The daemon's directories, each opened once and checked before it is trusted (`reliability.md` 2).
//!
//! Own directories (`.conductor` 0700, `processed`, `failed`, `status` 0750) must not be links, must
//! belong to the daemon's user and must not be writable by anybody else. The handoff folder may be
//! group-writable if it is sticky; world-writable without the sticky bit is refused.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, mkdirat, openat, statat};
use rustix::process::geteuid;

use super::Place;
use crate::error::{Consequence, Fault};

const OPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Where the daemon's directories are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The watched folder; made 0750 if missing.
    pub handoff: PathBuf,
    /// `failed/` elsewhere than inside the handoff folder.
    pub failed: Option<PathBuf>,
    /// Root of the packages; made 0755 if missing.
    pub out: PathBuf,
}

/// Descriptors of all places. Valid for as long as the handoff folder stays the same inode.
#[derive(Debug)]
pub struct Folders {
    handoff: Arc<OwnedFd>,
    private: OwnedFd,
    processed: OwnedFd,
    failed: OwnedFd,
    status: OwnedFd,
    out: OwnedFd,
    /// Things that are allowed but not wise, for the log.
    pub warnings: Vec<String>,
}

/// A directory that cannot be used.
#[derive(Debug)]
pub struct FolderFault {
    path: PathBuf,
    what: String,
}

impl fmt::Display for FolderFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "directory {}: {}", self.path.display(), self.what)
    }
}

impl std::error::Error for FolderFault {}

impl Fault for FolderFault {
    fn consequence(&self) -> Consequence {
        Consequence::Stop
    }
}

fn fault(path: &Path, what: impl Into<String>) -> FolderFault {
    FolderFault { path: path.to_owned(), what: what.into() }
}

impl Folders {
    /// Makes what is missing, opens and checks everything.
    pub fn open(layout: &Layout) -> Result<Folders, FolderFault> {
        let mut warnings = Vec::new();
        let handoff = open_root(&layout.handoff, 0o750)?;
        check_handoff(&layout.handoff, &handoff, &mut warnings)?;
        let own = |name: &str, mode| open_own(&handoff, &layout.handoff, name, mode);
        let failed = match &layout.failed {
            None => own("failed", 0o750)?,
            Some(elsewhere) => {
                let fd = open_root(elsewhere, 0o750)?;
                check_own(elsewhere, &fd)?;
                fd
            }
        };
        Ok(Folders {
            private: own(".conductor", 0o700)?,
            processed: own("processed", 0o750)?,
            failed,
            status: own("status", 0o750)?,
            out: open_root(&layout.out, 0o755)?,
            handoff: Arc::new(handoff),
            warnings,
        })
    }

    /// The descriptor of a place.
    pub fn fd(&self, place: Place) -> &OwnedFd {
        match place {
            Place::Handoff => &self.handoff,
            Place::Private => &self.private,
            Place::Processed => &self.processed,
            Place::Failed => &self.failed,
            Place::Status => &self.status,
            Place::Out => &self.out,
        }
    }

    /// The handoff folder, to be kept beyond the next opening.
    pub fn handoff(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.handoff)
    }

    /// True while the path still names the folder that was opened.
    pub fn still_at(&self, handoff: &Path) -> bool {
        same_entry(&self.handoff, || statat(CWD, handoff, AtFlags::empty()))
    }

    /// The own directories whose names no longer lead to the opened ones (F21).
    pub fn replaced(&self) -> Vec<Place> {
        OWN.iter()
            .filter(|(place, name)| {
                let by_name = || statat(&self.handoff, OsStr::new(name), AtFlags::SYMLINK_NOFOLLOW);
                !(*place == Place::Failed && self.failed_elsewhere()) && !same_entry(self.fd(*place), by_name)
            })
            .map(|(place, _)| *place)
            .collect()
    }

    fn failed_elsewhere(&self) -> bool {
        let parent = openat(&self.failed, "..", OPEN, Mode::empty());
        !parent.is_ok_and(|parent| same_entry(&self.handoff, || fstat(&parent)))
    }
}

/// Own directories and their names inside the handoff folder.
const OWN: [(Place, &str); 4] = [
    (Place::Private, ".conductor"),
    (Place::Processed, "processed"),
    (Place::Failed, "failed"),
    (Place::Status, "status"),
];

/// The names inside the handoff folder that are never watched nor taken.
pub const OWN_NAMES: [&str; 4] = [".conductor", "processed", "failed", "status"];

fn same_entry(fd: &OwnedFd, other: impl FnOnce() -> rustix::io::Result<rustix::fs::Stat>) -> bool {
    match (fstat(fd), other()) {
        (Ok(mine), Ok(theirs)) => (mine.st_dev, mine.st_ino) == (theirs.st_dev, theirs.st_ino),
        _ => false,
    }
}

fn open_root(path: &Path, mode: u32) -> Result<OwnedFd, FolderFault> {
    if path.as_os_str().is_empty() {
        return Err(fault(path, "the path is empty"));
    }
    if let Err(err) = fs::DirBuilder::new().recursive(true).mode(mode).create(path) {
        return Err(fault(path, format!("cannot be made: {err}; make it or name another")));
    }
    openat(CWD, path, OPEN, Mode::empty()).map_err(|err| {
        fault(
            path,
            format!("cannot be opened: {}; give the daemon's user read and search rights", io_of(err)),
        )
    })
}

fn open_own(handoff: &OwnedFd, parent: &Path, name: &str, mode: u32) -> Result<OwnedFd, FolderFault> {
    let path = parent.join(name);
    match mkdirat(handoff, name, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(err) => {
            let what =
                format!("cannot be made: {}; give the daemon's user write rights on its parent", io_of(err));
            return Err(fault(&path, what));
        }
    }
    let fd = openat(handoff, name, OPEN.union(OFlags::NOFOLLOW), Mode::empty()).map_err(|err| {
        let what = match err {
            rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR => {
                "is a link or not a directory; remove it and the daemon makes its own".to_owned()
            }
            _ => format!("cannot be opened: {}", io_of(err)),
        };
        fault(&path, what)
    })?;
    check_own(&path, &fd)?;
    Ok(fd)
}

fn io_of(err: rustix::io::Errno) -> io::Error {
    err.into()
}

fn check_own(path: &Path, fd: &OwnedFd) -> Result<(), FolderFault> {
    let stat = fstat(fd).map_err(|err| fault(path, format!("cannot be examined: {}", io_of(err))))?;
    let me = geteuid().as_raw();
    if stat.st_uid != me {
        let what = format!("belongs to uid {}, not to the daemon's uid {me}; chown it", stat.st_uid);
        return Err(fault(path, what));
    }
    if stat.st_mode & 0o022 != 0 {
        let what = format!(
            "is writable by others (mode {:04o}); a dropper could tamper with it: chmod go-w",
            stat.st_mode & 0o7777
        );
        return Err(fault(path, what));
    }
    Ok(())
}

fn check_handoff(path: &Path, fd: &OwnedFd, warnings: &mut Vec<String>) -> Result<(), FolderFault> {
    let stat = fstat(fd).map_err(|err| fault(path, format!("cannot be examined: {}", io_of(err))))?;
    let mode = stat.st_mode & 0o7777;
    let sticky = mode & 0o1000 != 0;
    if mode & 0o002 != 0 && !sticky {
        let what = format!(
            "is world-writable without the sticky bit (mode {mode:04o}): any user could replace \
             processed/ and status/; chmod +t or take the right away"
        );
        return Err(fault(path, what));
    }
    if mode & 0o020 != 0 && !sticky {
        warnings.push(format!(
            "directory {}: group-writable without the sticky bit (mode {mode:04o}): members of the group can \
             rename processed/ and status/; chmod +t is safer",
            path.display()
        ));
    }
    Ok(())
}
