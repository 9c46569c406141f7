//! [`Disk`] on the kernel's own calls, every one relative to a descriptor of [`Folders`].
//!
//! New files appear whole: they are written without a name (`O_TMPFILE`) and linked in, which costs
//! about what a plain create does (42 against 37 µs here, a temporary name and a rename 52). Where a file
//! system cannot do that, a temporary name and a rename that replaces nothing take its place.

mod across;
mod room;

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, StatxAttributes, StatxFlags, fstat, linkat,
    mkdirat, openat, renameat, renameat_with, statx, syncfs, unlinkat,
};
use rustix::io::Errno;

pub use room::Room;

use super::folders::Layout;
use super::{Clobber, Disk, EntryKind, FolderFault, Folders, Identity, Meta, Place};

/// The real file system. Cheap to share; the descriptors are swapped when the handoff folder returns
/// as another inode.
#[derive(Debug)]
pub struct RealDisk {
    layout: Layout,
    folders: RwLock<Arc<Folders>>,
    nameless: AtomicBool,
    noreplace: AtomicBool,
    /// One reopening or mending at a time.
    mending: Mutex<()>,
}

impl RealDisk {
    /// Opens and checks all directories, and takes the lock of `.conductor`, which is held for as long as
    /// this disk is used and follows the folder.
    pub fn open(mut layout: Layout) -> Result<RealDisk, FolderFault> {
        // Events come with absolute paths, and error logs name the file so.
        if let Ok(absolute) = std::path::absolute(&layout.handoff) {
            // A slash at the end would follow a link.
            layout.handoff = absolute.components().collect();
        }
        let folders = Arc::new(Folders::open(&layout)?);
        Ok(RealDisk {
            layout,
            folders: RwLock::new(folders),
            nameless: AtomicBool::new(true),
            noreplace: AtomicBool::new(true),
            mending: Mutex::new(()),
        })
    }

    /// The descriptors in use now.
    pub fn folders(&self) -> Arc<Folders> {
        Arc::clone(&self.folders.read())
    }

    /// The path of the watched folder, for messages and for the watch itself.
    pub fn handoff_path(&self) -> &Path {
        &self.layout.handoff
    }

    /// True while the configured path still names the opened handoff folder.
    pub fn is_in_place(&self) -> bool {
        self.folders().still_at(&self.layout.handoff)
    }

    /// Opens everything anew, after the handoff folder came back, under the rules of
    /// [`Folders::reopened`]. On an error the old descriptors and their lock stay in use.
    pub fn reopen(&self) -> Result<(), String> {
        let _one = self.mending.lock();
        let fresh = self.folders().reopened(&self.layout).map_err(|fault| fault.to_string())?;
        *self.folders.write() = Arc::new(fresh);
        Ok(())
    }

    /// True if a directory that may be used, but is not the opened one, stands at the path of the handoff
    /// folder. An error if there is none that may be used.
    pub fn is_succeeded(&self) -> Result<bool, String> {
        self.folders().succeeded(&self.layout.handoff).map_err(|fault| fault.to_string())
    }

    /// Makes own directories anew whose names were removed or renamed away, and works in them from now on
    /// (F21). A name that leads to something else is left alone and stays in [`Folders::replaced`]: writes
    /// go on through the held descriptor.
    pub fn mend_missing(&self) -> Vec<Place> {
        let _one = self.mending.lock();
        match self.is_in_place() {
            true => self.folders().missing().into_iter().filter(|at| self.remake(*at)).collect(),
            false => Vec::new(),
        }
    }

    fn remake(&self, at: Place) -> bool {
        let fresh = self.folders().remade(&self.layout, at);
        fresh.map(|fresh| *self.folders.write() = Arc::new(fresh)).is_ok()
    }

    /// Brings back a directory that was removed: it takes no more entries. False if it was not removed or
    /// cannot be had.
    fn mend(&self, used: &Folders, at: Place) -> bool {
        if fstat(used.fd(at)).map_or(true, |stat| stat.st_nlink > 0) {
            return false;
        }
        let _one = self.mending.lock();
        let mended_already = !std::ptr::eq(self.folders().fd(at), used.fd(at));
        mended_already || (at == Place::Out || self.is_in_place()) && self.remake(at)
    }

    /// Runs `act` on the descriptors, once more after a removed directory among `at` was made again.
    /// Whatever the error: file systems tell a removed directory in many ways.
    fn on<T>(&self, at: &[Place], act: impl Fn(&Folders) -> io::Result<T>) -> io::Result<T> {
        let used = self.folders();
        act(&used).or_else(|err| {
            let mended = at.iter().filter(|at| self.mend(&used, **at)).count();
            if mended > 0 { act(&self.folders()) } else { Err(err) }
        })
    }

    fn create_nameless(&self, dir: &OwnedFd, name: &Path, bytes: &[u8], mode: u32) -> Result<(), Errno> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let (dir_fd, leaf) = split(dir, name)?;
        let dir = dir_fd.as_ref().unwrap_or(dir);
        let file = openat(dir, ".", flags, Mode::from_raw_mode(mode))?;
        write_whole(&file, bytes)?;
        let mut source = *b"/proc/self/fd/\0\0\0\0\0\0\0\0\0\0\0";
        let digits = rustix::path::DecInt::from_fd(file.as_fd());
        let digits = digits.as_bytes();
        source[14..14 + digits.len()].copy_from_slice(digits);
        let source = OsStr::from_bytes(&source[..14 + digits.len()]);
        linkat(CWD, source, dir, leaf, AtFlags::SYMLINK_FOLLOW)
    }

    fn create_by_rename(&self, dir: &OwnedFd, name: &Path, bytes: &[u8], mode: u32) -> Result<(), Errno> {
        let temporary = temporary_beside(name);
        write_over(dir, &temporary, bytes, mode)?;
        let moved = self.rename_noreplace(dir, &temporary, dir, name);
        if moved.is_err() {
            let _ = unlinkat(dir, &temporary, AtFlags::empty());
        }
        moved
    }

    fn rename_as(
        &self,
        clobber: Clobber,
        from: &OwnedFd,
        old: &Path,
        to: &OwnedFd,
        new: &Path,
    ) -> Result<(), Errno> {
        match clobber {
            Clobber::Never => self.rename_noreplace(from, old, to, new),
            Clobber::Replace => renameat(from, old, to, new),
        }
    }

    fn rename_noreplace(&self, from: &OwnedFd, old: &Path, to: &OwnedFd, new: &Path) -> Result<(), Errno> {
        if self.noreplace.load(Ordering::Relaxed) {
            match renameat_with(from, old, to, new, RenameFlags::NOREPLACE) {
                Err(Errno::INVAL | Errno::NOSYS) => self.noreplace.store(false, Ordering::Relaxed),
                other => return other,
            }
        }
        match statx(to, new, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) => renameat(from, old, to, new),
            Err(err) => Err(err),
        }
    }
}

/// `dir` and `name` with all but the last component of `name` opened.
fn split<'n>(dir: &OwnedFd, name: &'n Path) -> Result<(Option<OwnedFd>, &'n Path), Errno> {
    match (name.parent(), name.file_name()) {
        (Some(parent), Some(leaf)) if !parent.as_os_str().is_empty() => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            Ok((Some(openat(dir, parent, flags, Mode::empty())?), Path::new(leaf)))
        }
        _ => Ok((None, name)),
    }
}

fn temporary_beside(name: &Path) -> PathBuf {
    let mut leaf = b".new-".to_vec();
    let stem = name.file_name().map_or(&b""[..], OsStr::as_bytes);
    leaf.extend_from_slice(&stem[stem.len().saturating_sub(240)..]);
    name.with_file_name(OsStr::from_bytes(&leaf))
}

fn write_whole(file: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(err) => return Err(err),
        }
    }
    Ok(())
}

/// A new file of that name. What is there, left by a crash or planted, is removed and not opened: a pipe
/// would block, a link lead elsewhere.
fn open_new(dir: &OwnedFd, name: &Path, mode: u32) -> Result<OwnedFd, Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let open = || openat(dir, name, flags, Mode::from_raw_mode(mode));
    match open() {
        Err(Errno::EXIST) => {
            unlinkat(dir, name, AtFlags::empty())?;
            open()
        }
        other => other,
    }
}

fn write_over(dir: &OwnedFd, name: &Path, bytes: &[u8], mode: u32) -> Result<(), Errno> {
    let file = open_new(dir, name, mode)?;
    let written = write_whole(&file, bytes);
    if written.is_err() {
        let _ = unlinkat(dir, name, AtFlags::empty());
    }
    written
}

/// Looks at `name` without opening it or following links.
pub fn look_at(dir: &OwnedFd, name: &Path) -> io::Result<Option<Meta>> {
    let wanted = StatxFlags::BASIC_STATS;
    match statx(dir, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, wanted) {
        Ok(found) => Ok(Some(meta(&found))),
        Err(Errno::NOENT) => Ok(None),
        Err(err) => Err(err.into()),
    }
}

/// Looks at an open file.
pub fn look_fd(file: &OwnedFd) -> io::Result<Meta> {
    Ok(meta(&statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?))
}

fn meta(stat: &rustix::fs::Statx) -> Meta {
    let time = |at: rustix::fs::StatxTimestamp| {
        at.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(at.tv_nsec))
    };
    let kind = match FileType::from_raw_mode(u32::from(stat.stx_mode)) {
        FileType::RegularFile => EntryKind::File,
        FileType::Symlink => EntryKind::Symlink,
        FileType::Directory => EntryKind::Directory,
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => EntryKind::Socket,
        _ => EntryKind::Device,
    };
    Meta {
        identity: Identity {
            dev: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
            ino: stat.stx_ino,
            size: stat.stx_size,
            mtime_ns: time(stat.stx_mtime),
            ctime_ns: time(stat.stx_ctime),
        },
        kind,
        allocated: stat.stx_blocks.saturating_mul(512),
        nlink: stat.stx_nlink,
        uid: stat.stx_uid,
        mount_root: stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
    }
}

impl Disk for RealDisk {
    fn look(&self, at: Place, name: &Path) -> io::Result<Option<Meta>> {
        look_at(self.folders().fd(at), name)
    }

    fn create(&self, at: Place, name: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        self.on(&[at], |folders| {
            let dir = folders.fd(at);
            if self.nameless.load(Ordering::Relaxed) {
                match self.create_nameless(dir, name, bytes, mode) {
                    Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                        self.nameless.store(false, Ordering::Relaxed);
                    }
                    // Either the directory or /proc is missing; the fallback tells which.
                    Err(Errno::NOENT) => {}
                    other => return other.map_err(io::Error::from),
                }
            }
            self.create_by_rename(dir, name, bytes, mode).map_err(io::Error::from)
        })
    }

    fn replace(&self, at: Place, name: &Path, temporary: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        self.on(&[at], |folders| {
            let dir = folders.fd(at);
            write_over(dir, temporary, bytes, mode)?;
            Ok(renameat(dir, temporary, dir, name)?)
        })
    }

    fn rename(&self, from: (Place, &Path), to: (Place, &Path), clobber: Clobber) -> io::Result<()> {
        self.on(&[from.0, to.0], |folders| {
            let (source, target) = (folders.fd(from.0), folders.fd(to.0));
            let moved = self.rename_as(clobber, source, from.1, target, to.1);
            let moved = match moved {
                Err(Errno::XDEV) => across::carry(source, from.1, target, to.1, |temporary| {
                    self.rename_as(clobber, target, temporary, target, to.1)
                }),
                other => other,
            };
            Ok(moved?)
        })
    }

    fn read(&self, at: Place, name: &Path, limit: usize) -> io::Result<Option<Vec<u8>>> {
        match read_own(self.folders().fd(at), name, limit) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Errno::NOENT) => Ok(None),
            Err(err) => Err(err.into()),
        }
    }

    fn append(&self, at: Place, name: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        self.on(&[at], |folders| {
            let flags = OFlags::CREATE.union(OFlags::APPEND).union(OFlags::WRONLY).union(OFlags::NONBLOCK);
            let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let file = openat(folders.fd(at), name, flags, Mode::from_raw_mode(mode))?;
            Ok(write_whole(&file, bytes)?)
        })
    }

    fn make_dir(&self, at: Place, name: &Path, mode: u32) -> io::Result<()> {
        self.on(&[at], |folders| Ok(mkdirat(folders.fd(at), name, Mode::from_raw_mode(mode))?))
    }

    fn remove(&self, at: Place, name: &Path) -> io::Result<()> {
        match unlinkat(self.folders().fd(at), name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(err) => Err(err.into()),
        }
    }

    fn list(&self, at: Place, below: &Path, each: &mut dyn FnMut(&OsStr)) -> io::Result<()> {
        let folders = self.folders();
        let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let dir = openat(folders.fd(at), below, flags, Mode::empty())?;
        for entry in Dir::read_from(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                each(OsStr::from_bytes(name));
            }
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let folders = self.folders();
        let mut seen = Vec::new();
        for place in [Place::Handoff, Place::Failed, Place::Out] {
            let fd = folders.fd(place);
            let device = fstat(fd)?.st_dev;
            if !seen.contains(&device) {
                seen.push(device);
                syncfs(fd)?;
            }
        }
        Ok(())
    }
}

fn read_own(dir: &OwnedFd, name: &Path, limit: usize) -> Result<Vec<u8>, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = openat(dir, name, flags, Mode::empty())?;
    let size = usize::try_from(fstat(&file)?.st_size).unwrap_or(0);
    let mut bytes = vec![0; size.min(limit)];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::io::read(&file, &mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(err) => return Err(err),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

#[cfg(test)]
mod tests;
