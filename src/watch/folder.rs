//! The handoff folder as the watch sees it: listed and looked at, never opened for reading.
//!
//! Everything is relative to one descriptor of the folder, links are never followed, and names in
//! sub-directories are reached one component at a time, so no link swapped in leads outside.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, fstatfs, open, openat, statat};

use crate::disk::{EntryKind, Identity};

/// Access to the watched folder, whoever keeps its descriptor and checks its owner and mode.
pub trait Hot: Send + Sync {
    /// The path under which events are asked for.
    fn path(&self) -> &Path;
    /// The open folder. After a successful [`Hot::reopen`] it is the new one.
    fn handle(&self) -> Arc<OwnedFd>;
    /// Whether the path still names the opened folder; the text says what is there instead.
    fn check(&self) -> Result<(), String>;
    /// Opens what is at the path now, if it may be used.
    fn reopen(&self) -> Result<(), Away>;
}

/// Why the folder cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Away {
    /// Not yet: asked again after a second.
    ForNow(String),
    /// Never by this process, which has to be started again (`hot-folder-replaced`, D16).
    ForGood(String),
}

/// A folder known by its path alone: any directory will do. For tools and tests; the daemon's own
/// folders check owner and mode too.
#[derive(Debug)]
pub struct PlainFolder {
    path: PathBuf,
    handle: parking_lot::Mutex<Arc<OwnedFd>>,
}

impl PlainFolder {
    /// Opens the directory at `path`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let handle = parking_lot::Mutex::new(Arc::new(open_directory(&path)?));
        Ok(PlainFolder { path, handle })
    }
}

impl Hot for PlainFolder {
    fn path(&self) -> &Path {
        &self.path
    }

    fn handle(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.handle.lock())
    }

    fn check(&self) -> Result<(), String> {
        let there = open_directory(&self.path).and_then(|there| Ok(fstat(there)?));
        let there = there.map_err(|fault| format!("{}: {fault}", self.path.display()))?;
        let ours = fstat(self.handle()).map_err(|fault| format!("the watched folder: {fault}"))?;
        if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino) {
            return Ok(());
        }
        Err(format!("{} is another directory than the watched one", self.path.display()))
    }

    fn reopen(&self) -> Result<(), Away> {
        let there = open_directory(&self.path);
        let there = there.map_err(|fault| Away::ForNow(format!("{}: {fault}", self.path.display())))?;
        *self.handle.lock() = Arc::new(there);
        Ok(())
    }
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, DIRECTORY, Mode::empty())?)
}

/// What one look at a name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) identity: Identity,
    pub(super) kind: EntryKind,
    pub(super) uid: u32,
}

/// Looks at a name below the folder, links not followed; `None` if there is nothing.
pub(super) fn look(folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Look>> {
    let below;
    let (at, single) = match name.iter().rposition(|byte| *byte == b'/') {
        None => (folder, name),
        Some(slash) => match descend(folder, &name[..slash]) {
            Ok(directory) => {
                below = directory;
                (below.as_fd(), &name[slash + 1..])
            }
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(fault) => return Err(fault),
        },
    };
    match statat(at, Path::new(std::ffi::OsStr::from_bytes(single)), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(told(&stat))),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(fault) => Err(fault.into()),
    }
}

/// Opens a directory below the folder, component by component; empty means the folder itself.
fn descend(folder: BorrowedFd<'_>, below: &[u8]) -> io::Result<OwnedFd> {
    let mut at = openat(folder, c".", DIRECTORY, Mode::empty())?;
    for component in below.split(|byte| *byte == b'/').filter(|component| !component.is_empty()) {
        let component = Path::new(std::ffi::OsStr::from_bytes(component));
        at = openat(&at, component, DIRECTORY, Mode::empty())?;
    }
    Ok(at)
}

fn told(stat: &Stat) -> Look {
    Look {
        identity: Identity {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        },
        kind: kind(FileType::from_raw_mode(stat.st_mode)),
        uid: stat.st_uid,
    }
}

/// The width of the second field differs by platform.
fn nanoseconds(seconds: i64, rest: impl TryInto<i64>) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(rest.try_into().unwrap_or(0))
}

fn kind(file_type: FileType) -> EntryKind {
    match file_type {
        FileType::RegularFile => EntryKind::File,
        FileType::Symlink => EntryKind::Symlink,
        FileType::Directory => EntryKind::Directory,
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => EntryKind::Socket,
        _ => EntryKind::Device,
    }
}

/// A directory being read, one name after the other, and looked at through its own descriptor.
#[derive(Debug)]
pub(super) struct Listing {
    directory: OwnedFd,
    entries: Dir,
}

impl Listing {
    /// Starts reading a directory below the folder; empty means the folder itself.
    pub(super) fn start(folder: BorrowedFd<'_>, below: &[u8]) -> io::Result<Self> {
        let directory = descend(folder, below)?;
        let entries = Dir::read_from(&directory)?;
        Ok(Listing { directory, entries })
    }

    /// Hands the next name to `each`, with a way to look at it, and whether it is said to be a
    /// directory; `None` at the end. The dots are left out.
    pub(super) fn next<T>(&mut self, each: impl FnOnce(Listed<'_>) -> T) -> io::Result<Option<T>> {
        loop {
            let Some(entry) = self.entries.read() else { return Ok(None) };
            let entry = entry?;
            let name = entry.file_name();
            if name.to_bytes() != b"." && name.to_bytes() != b".." {
                let directory = self.directory.as_fd();
                return Ok(Some(each(Listed { directory, name, file_type: entry.file_type() })));
            }
        }
    }
}

/// A listed name.
pub(super) struct Listed<'a> {
    directory: BorrowedFd<'a>,
    name: &'a CStr,
    file_type: FileType,
}

impl Listed<'_> {
    pub(super) fn name(&self) -> &[u8] {
        self.name.to_bytes()
    }

    /// Looks at it; `None` if it is gone.
    pub(super) fn look(&self) -> io::Result<Option<Look>> {
        match statat(self.directory, self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(told(&stat))),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(fault) => Err(fault.into()),
        }
    }

    /// Whether it is a directory, looked at only if the listing does not tell.
    pub(super) fn is_directory(&self) -> bool {
        match self.file_type {
            FileType::Unknown => {
                matches!(self.look(), Ok(Some(look)) if look.kind == EntryKind::Directory)
            }
            known => known == FileType::Directory,
        }
    }
}

/// The name of a file system whose changes other machines or processes make unseen by inotify.
pub fn unseen_by_events(folder: BorrowedFd<'_>) -> Option<&'static str> {
    // `linux/magic.h` and the file systems' own sources; the field's width differs by platform.
    const BLIND: [(u32, &str); 15] = [
        (0x0000_6969, "nfs"),
        (0x6573_5546, "fuse"),
        (0xff53_4d42, "cifs"),
        (0xfe53_4d42, "smb2"),
        (0x0000_517b, "smb"),
        (0x0102_1997, "9p"),
        (0x00c3_6400, "ceph"),
        (0x5346_414f, "afs"),
        (0x6b41_4653, "kafs"),
        (0x7375_7245, "coda"),
        (0x7461_636f, "ocfs2"),
        (0x0116_1970, "gfs2"),
        (0x0bd0_0bd0, "lustre"),
        (0x4750_4653, "gpfs"),
        (0x786f_4256, "vboxsf"),
    ];
    let magic = fstatfs(folder).ok()?.f_type as u32;
    BLIND.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_listing_tells_every_name_once_and_looks_at_each() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("a"), "12345").unwrap();
        fs::write(folder.path().join("sub/b"), "1").unwrap();
        symlink("a", folder.path().join("link")).unwrap();
        let hot = PlainFolder::open(folder.path()).unwrap();
        let handle = hot.handle();
        let mut listing = Listing::start(handle.as_fd(), b"").unwrap();
        let mut seen = BTreeSet::new();
        let mut each = |listed: Listed<'_>| {
            let look = listed.look().unwrap().unwrap();
            assert_eq!(listed.is_directory(), look.kind == EntryKind::Directory);
            seen.insert((String::from_utf8(listed.name().to_vec()).unwrap(), look.kind.describe()));
        };
        while listing.next(&mut each).unwrap().is_some() {}
        let expected = [("a", "a regular file"), ("link", "a symbolic link"), ("sub", "a directory")];
        assert_eq!(seen, expected.map(|(name, kind)| (name.to_owned(), kind)).into());
        assert_eq!(look(handle.as_fd(), b"a").unwrap().unwrap().identity.size, 5);
        assert_eq!(look(handle.as_fd(), b"sub/b").unwrap().unwrap().identity.size, 1);
        assert_eq!(look(handle.as_fd(), b"sub/none").unwrap(), None);
        assert_eq!(look(handle.as_fd(), b"none/b").unwrap(), None);
    }

    #[test]
    fn a_linked_directory_is_not_entered() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "1").unwrap();
        symlink(outside.path(), folder.path().join("sub")).unwrap();
        let hot = PlainFolder::open(folder.path()).unwrap();
        assert!(look(hot.handle().as_fd(), b"sub/secret").is_err());
        assert!(Listing::start(hot.handle().as_fd(), b"sub").is_err());
    }

    #[test]
    fn a_replaced_folder_is_noticed_and_the_new_one_opened_on_demand() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("handoff");
        fs::create_dir(&path).unwrap();
        let hot = PlainFolder::open(&path).unwrap();
        assert_eq!(hot.check(), Ok(()));
        fs::rename(&path, parent.path().join("moved")).unwrap();
        assert!(hot.check().is_err());
        assert!(matches!(hot.reopen(), Err(Away::ForNow(_))));
        symlink("moved", &path).unwrap();
        assert!(matches!(hot.reopen(), Err(Away::ForNow(_))), "a link is an impostor");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(hot.check().is_err());
        assert_eq!(hot.reopen(), Ok(()));
        assert_eq!(hot.check(), Ok(()));
    }
}
