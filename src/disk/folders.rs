//! The daemon's directories, each opened once and checked before it is trusted (`reliability.md` 2).
//!
//! Own directories (`.conductor` 0700, `processed`, `failed`, `status` 0750) must not be links, must
//! belong to the daemon's user and must not be writable by anybody else. The handoff folder may be
//! group-writable if it is sticky; world-writable without the sticky bit is refused.
//!
//! The lock of `.conductor` belongs to the descriptors: whoever works through them holds it. Order of an
//! opening: handoff folder, its checks, `.conductor`, lock, the rest; nothing is made in a folder that
//! was not checked, and nothing but `.conductor` in one that somebody else has locked.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, fstat, mkdirat, openat, statat, statx};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::Place;
use super::lock::{Lock, LockFault};
use super::same::{is_mounted, same_entry};
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

/// Descriptors of all places, and the lock on them. Valid for as long as the handoff folder stays the
/// same inode.
#[derive(Debug, Clone)]
pub struct Folders {
    handoff: Arc<OwnedFd>,
    private: Arc<OwnedFd>,
    processed: Arc<OwnedFd>,
    failed: Arc<OwnedFd>,
    status: Arc<OwnedFd>,
    out: Arc<OwnedFd>,
    lock: Arc<Lock>,
    origin: Origin,
    failed_outside: bool,
    /// Things that are allowed but not wise, for the log.
    pub warnings: Vec<String>,
}

/// What the first opening found; later ones are measured by it.
#[derive(Debug, Clone)]
struct Origin {
    /// The handoff path was a symbolic link from the start.
    linked: bool,
    /// Owner of the handoff folder.
    owner: u32,
    /// The handoff folder was the root of a file system of its own.
    mounted: bool,
    /// Lock of the first folder, kept to the end: the ledger may lie beside it.
    lock: Arc<Lock>,
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

impl From<LockFault> for FolderFault {
    fn from(lock: LockFault) -> Self {
        let (path, what) = lock.parts();
        fault(path, what)
    }
}

fn fault(path: &Path, what: impl Into<String>) -> FolderFault {
    FolderFault { path: path.to_owned(), what: what.into() }
}

impl Folders {
    /// Makes what is missing, opens and checks everything, and takes the lock.
    pub fn open(layout: &Layout) -> Result<Folders, FolderFault> {
        let path = &layout.handoff;
        make_root(path, 0o750)?;
        let linked = is_link(path);
        let handoff = open_handoff(path, linked, OPEN)?;
        let (owner, warnings) = check_handoff(path, &handoff)?;
        let private = open_own(&handoff, path, Place::Private)?;
        let lock = Arc::new(Lock::take(&private, path)?);
        let origin = Origin { linked, owner, mounted: is_mounted(&handoff), lock: Arc::clone(&lock) };
        Folders::complete(layout, handoff, private, lock, origin, warnings)
    }

    /// Opens what is at the paths now. The handoff folder is not made: an unmounted one must not be replaced
    /// by an empty directory under the mount point. Nor is an impostor taken for it: a link where none was,
    /// a folder of a stranger, or one that somebody else has locked.
    pub fn reopened(&self, layout: &Layout) -> Result<Folders, FolderFault> {
        let path = &layout.handoff;
        let handoff = open_handoff(path, self.origin.linked, OPEN)?;
        let warnings = self.check_successor(path, &handoff)?;
        let private = open_own(&handoff, path, Place::Private)?;
        let lock = self.lock_in(&private, path)?;
        Folders::complete(layout, handoff, private, lock, self.origin.clone(), warnings)
    }

    /// True if another directory than the opened one stands at the path and could be [`Folders::reopened`] by
    /// a new process. Looked at alone, which no sandbox forbids; the same directory mounted again is another
    /// one to it.
    pub fn succeeded(&self, path: &Path) -> Result<bool, FolderFault> {
        let there = open_handoff(path, self.origin.linked, OPEN.union(OFlags::PATH))?;
        self.check_successor(path, &there)?;
        let told = |fd: &OwnedFd| {
            let wanted = StatxFlags::INO | StatxFlags::MNT_ID;
            let told = statx(fd, "", AtFlags::EMPTY_PATH, wanted);
            told.map(|is| (is.stx_dev_major, is.stx_dev_minor, is.stx_ino, is.stx_mnt_id))
        };
        let (there, opened) = (told(&there), told(&self.handoff));
        Ok(there.map_err(|err| unexamined(path, err))? != opened.map_err(|err| unexamined(path, err))?)
    }

    /// The rules for a folder that came back; what is unwise about it.
    fn check_successor(&self, path: &Path, fd: &OwnedFd) -> Result<Vec<String>, FolderFault> {
        let (owner, warnings) = check_handoff(path, fd)?;
        if owner != self.origin.owner && owner != geteuid().as_raw() {
            let was = self.origin.owner;
            return Err(fault(path, format!("belongs to uid {owner} now, before to uid {was}; chown it")));
        }
        if self.lost_its_mount(fd) {
            return Err(fault(path, "nothing is mounted there any more; mount it again"));
        }
        Ok(warnings)
    }

    /// The same with one directory made and opened anew; a new `.conductor` is locked like the old one.
    pub fn remade(&self, layout: &Layout, place: Place) -> Result<Folders, FolderFault> {
        let path = &layout.handoff;
        let own = || {
            check_handoff(path, &self.handoff)?;
            open_own(&self.handoff, path, place).map(Arc::new)
        };
        let mut fresh = self.clone();
        match place {
            Place::Handoff => return Err(fault(path, "is gone")),
            Place::Private => {
                fresh.private = own()?;
                fresh.lock = self.lock_in(&fresh.private, path)?;
            }
            Place::Processed => fresh.processed = own()?,
            Place::Status => fresh.status = own()?,
            Place::Failed => {
                fresh.failed = match &layout.failed {
                    None => own()?,
                    Some(elsewhere) => Arc::new(open_failed(elsewhere)?),
                }
            }
            Place::Out => fresh.out = Arc::new(open_root(&layout.out, 0o755)?),
        }
        Ok(fresh)
    }

    fn complete(
        layout: &Layout,
        handoff: OwnedFd,
        private: OwnedFd,
        lock: Arc<Lock>,
        origin: Origin,
        warnings: Vec<String>,
    ) -> Result<Folders, FolderFault> {
        let own = |place| open_own(&handoff, &layout.handoff, place).map(Arc::new);
        Ok(Folders {
            processed: own(Place::Processed)?,
            failed: match &layout.failed {
                None => own(Place::Failed)?,
                Some(elsewhere) => Arc::new(open_failed(elsewhere)?),
            },
            status: own(Place::Status)?,
            out: Arc::new(open_root(&layout.out, 0o755)?),
            failed_outside: layout.failed.is_some(),
            private: Arc::new(private),
            handoff: Arc::new(handoff),
            lock,
            origin,
            warnings,
        })
    }

    /// The lock of a private directory: the one that is held if it lies there, or else a new one.
    fn lock_in(&self, private: &OwnedFd, handoff: &Path) -> Result<Arc<Lock>, LockFault> {
        match [&self.lock, &self.origin.lock].into_iter().find(|lock| lock.lies_in(private)) {
            Some(held) => Ok(Arc::clone(held)),
            None => Lock::take(private, handoff).map(Arc::new),
        }
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

    /// True if the folder was a file system of its own and `there`, which stands at its path, is none: the bare
    /// directory below the mount point.
    pub(super) fn lost_its_mount(&self, there: &OwnedFd) -> bool {
        self.origin.mounted && !is_mounted(there)
    }

    /// The own directories whose names no longer lead to the opened ones (F21).
    pub fn replaced(&self) -> Vec<Place> {
        let leads_elsewhere = |place, name: &str| {
            let there = statat(&self.handoff, name, NOFOLLOW);
            // Without the right to look nothing is known.
            !matches!(there, Err(Errno::ACCESS)) && !same_entry(self.fd(place), || there)
        };
        self.own_that(leads_elsewhere)
    }

    /// The own directories whose names are not there at all: removed or renamed away.
    pub fn missing(&self) -> Vec<Place> {
        self.own_that(|_, name| matches!(statat(&self.handoff, name, NOFOLLOW), Err(Errno::NOENT)))
    }

    fn own_that(&self, holds: impl Fn(Place, &str) -> bool) -> Vec<Place> {
        let inside = |place| !(place == Place::Failed && self.failed_outside);
        let found = OWN.iter().filter(|(place, name, _)| inside(*place) && holds(*place, name));
        found.map(|(place, ..)| *place).collect()
    }
}

const NOFOLLOW: AtFlags = AtFlags::SYMLINK_NOFOLLOW;

/// Own directories, their names inside the handoff folder and their modes.
const OWN: [(Place, &str, u32); 4] = [
    (Place::Private, OWN_NAMES[0], 0o700),
    (Place::Processed, OWN_NAMES[1], 0o750),
    (Place::Failed, OWN_NAMES[2], 0o750),
    (Place::Status, OWN_NAMES[3], 0o750),
];

/// The names inside the handoff folder that are never watched nor taken.
pub const OWN_NAMES: [&str; 4] = [".conductor", "processed", "failed", "status"];

fn make_root(path: &Path, mode: u32) -> Result<(), FolderFault> {
    if path.as_os_str().is_empty() {
        return Err(fault(path, "the path is empty"));
    }
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(|err| match err.kind() {
        // The kernel's "File exists" would be a riddle.
        io::ErrorKind::AlreadyExists if path.exists() => fault(path, "is no directory; name another"),
        _ => fault(path, format!("cannot be made: {err}; make it or name another")),
    })
}

fn open_root(path: &Path, mode: u32) -> Result<OwnedFd, FolderFault> {
    make_root(path, mode)?;
    openat(CWD, path, OPEN, Mode::empty()).map_err(|err| unopened(path, err))
}

fn unopened(path: &Path, err: Errno) -> FolderFault {
    let cause = io_of(err);
    fault(path, format!("cannot be opened: {cause}; give the daemon's user read and search rights"))
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|seen| seen.is_symlink())
}

fn unexamined(path: &Path, err: Errno) -> FolderFault {
    fault(path, format!("cannot be examined: {}", io_of(err)))
}

fn open_handoff(path: &Path, linked: bool, flags: OFlags) -> Result<OwnedFd, FolderFault> {
    let flags = if linked { flags } else { flags.union(OFlags::NOFOLLOW) };
    openat(CWD, path, flags, Mode::empty()).map_err(|err| match err {
        Errno::NOENT => fault(path, "is gone"),
        Errno::LOOP | Errno::NOTDIR if !linked && is_link(path) => {
            fault(path, "is a link now and was none before; bring the directory back")
        }
        _ => unopened(path, err),
    })
}

fn open_failed(elsewhere: &Path) -> Result<OwnedFd, FolderFault> {
    let fd = open_root(elsewhere, 0o750)?;
    check_own(elsewhere, &fd)?;
    Ok(fd)
}

fn open_own(handoff: &OwnedFd, parent: &Path, place: Place) -> Result<OwnedFd, FolderFault> {
    let Some((_, name, mode)) = OWN.into_iter().find(|(own, ..)| *own == place) else {
        return Err(fault(parent, format!("{place:?} is no directory in it")));
    };
    let path = parent.join(name);
    match mkdirat(handoff, name, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(err) => {
            let what =
                format!("cannot be made: {}; give the daemon's user write rights on its parent", io_of(err));
            return Err(fault(&path, what));
        }
    }
    let fd = openat(handoff, name, OPEN.union(OFlags::NOFOLLOW), Mode::empty()).map_err(|err| {
        let what = match err {
            Errno::LOOP | Errno::NOTDIR => {
                "is a link or not a directory; remove it and the daemon makes its own".to_owned()
            }
            _ => format!("cannot be opened: {}", io_of(err)),
        };
        fault(&path, what)
    })?;
    check_own(&path, &fd)?;
    Ok(fd)
}

fn io_of(err: Errno) -> io::Error {
    err.into()
}

fn check_own(path: &Path, fd: &OwnedFd) -> Result<(), FolderFault> {
    let stat = fstat(fd).map_err(|err| unexamined(path, err))?;
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

/// Owner of the folder, and what is unwise about it.
fn check_handoff(path: &Path, fd: &OwnedFd) -> Result<(u32, Vec<String>), FolderFault> {
    let stat = fstat(fd).map_err(|err| unexamined(path, err))?;
    let mode = stat.st_mode & 0o7777;
    let sticky = mode & 0o1000 != 0;
    if mode & 0o002 != 0 && !sticky {
        let what = format!(
            "is world-writable without the sticky bit (mode {mode:04o}): any user could replace \
             processed/ and status/; chmod +t or take the right away"
        );
        return Err(fault(path, what));
    }
    let mut warnings = Vec::new();
    if mode & 0o020 != 0 && !sticky {
        warnings.push(format!(
            "directory {}: group-writable without the sticky bit (mode {mode:04o}): members of the group can \
             rename processed/ and status/; chmod +t is safer",
            path.display()
        ));
    }
    Ok((stat.st_uid, warnings))
}
