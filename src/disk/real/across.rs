//! Moving an entry to another file system, which no rename can do.
//!
//! Order of writes: a copy under a temporary name beside the target, its bytes made durable, the rename to
//! the final name, the directory made durable, the removal of the source. A crash at any point leaves the
//! source, or the whole copy, or both; half a copy bears a temporary name only.
//!
//! Regular files, symbolic links (as links) and named pipes (as new pipes) can be carried; anything else
//! is left where it is with `EXDEV`.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, fstat, fsync, mknodat, openat, readlinkat, statat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;

use super::{open_new, temporary_beside, write_whole};

/// Mode of carried files; they are the daemon's own from then on.
const MODE: u32 = 0o640;

/// Carries `old` from one directory to `new`, a single name, in another; `name_it` gives the temporary its
/// final name.
pub(super) fn carry(
    from: &OwnedFd,
    old: &Path,
    to: &OwnedFd,
    new: &Path,
    name_it: impl FnOnce(&Path) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let seen = statat(from, old, AtFlags::SYMLINK_NOFOLLOW)?;
    let temporary = temporary_beside(new);
    let carried = copy(&seen, from, old, to, &temporary).and_then(|()| name_it(&temporary));
    if let Err(err) = carried {
        let _ = unlinkat(to, &temporary, AtFlags::empty());
        return Err(err);
    }
    fsync(to)?;
    match statat(from, old, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(now) if same(&now, &seen) => unlinkat(from, old, AtFlags::empty()),
        // Another file took the name meanwhile: it was not copied, so it stays.
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(err) => Err(err),
    }
}

fn same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

fn copy(seen: &Stat, from: &OwnedFd, old: &Path, to: &OwnedFd, temporary: &Path) -> Result<(), Errno> {
    match FileType::from_raw_mode(seen.st_mode) {
        FileType::RegularFile => copy_bytes(seen, from, old, to, temporary),
        FileType::Symlink => {
            let target = readlinkat(from, old, Vec::new())?;
            make_room(to, temporary)?;
            symlinkat(&*target, to, temporary)
        }
        FileType::Fifo => {
            make_room(to, temporary)?;
            mknodat(to, temporary, FileType::Fifo, Mode::from_raw_mode(MODE), 0)
        }
        _ => Err(Errno::XDEV),
    }
}

/// Removes a temporary that a crash left.
fn make_room(to: &OwnedFd, temporary: &Path) -> Result<(), Errno> {
    match unlinkat(to, temporary, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

fn copy_bytes(seen: &Stat, from: &OwnedFd, old: &Path, to: &OwnedFd, temporary: &Path) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let source = openat(from, old, flags, Mode::empty())?;
    if !same(&fstat(&source)?, seen) {
        return Err(Errno::XDEV);
    }
    let target = open_new(to, temporary, MODE)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match rustix::io::read(&source, &mut buffer[..]) {
            Ok(0) => return fsync(&target),
            Ok(count) => write_whole(&target, &buffer[..count])?,
            Err(Errno::INTR) => {}
            Err(err) => return Err(err),
        }
    }
}
