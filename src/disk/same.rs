//! Which directory is which: by device and inode, two calls each.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Stat, fstat, statat};

/// Another device than its parent's: what is mounted there, unless it is a directory of the same file system.
pub(super) fn is_mounted(fd: &OwnedFd) -> bool {
    matches!((fstat(fd), statat(fd, "..", AtFlags::SYMLINK_NOFOLLOW)), (Ok(own), Ok(parent)) if own.st_dev != parent.st_dev)
}

/// True if what is open as `fd` is what `other` finds.
pub(super) fn same_entry(fd: &OwnedFd, other: impl FnOnce() -> rustix::io::Result<Stat>) -> bool {
    match (fstat(fd), other()) {
        (Ok(mine), Ok(theirs)) => (mine.st_dev, mine.st_ino) == (theirs.st_dev, theirs.st_ino),
        _ => false,
    }
}
