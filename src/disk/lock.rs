//! One daemon per folder and per state directory: an exclusive lock whose file says who holds it.
//!
//! The kernel's lock is the truth; the text `pid host boot-id` beside it only names the holder, since
//! `flock` does not.

use std::fmt;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, fstat, openat, statat};

use crate::error::{Consequence, Fault};

/// A held lock; given back when dropped or when the process ends.
#[derive(Debug)]
pub struct Lock {
    file: std::fs::File,
}

/// Name of the lock file in the locked directory.
const NAME: &str = "lock";

/// Milliseconds for which a lock may be in the hand of somebody who only looks.
const ASKED_ABOUT: u32 = 20;

/// A lock that could not be had.
#[derive(Debug)]
pub enum LockFault {
    /// Somebody else holds it.
    Held {
        /// The locked directory.
        dir: PathBuf,
        /// `pid host boot-id` as the holder wrote it.
        holder: String,
    },
    /// The lock file cannot be used.
    Io {
        /// The directory.
        dir: PathBuf,
        /// The cause.
        cause: io::Error,
    },
}

impl LockFault {
    /// The locked directory, and what is wrong with its lock.
    pub(super) fn parts(&self) -> (&Path, String) {
        match self {
            LockFault::Held { dir, holder } => {
                let mut words = holder.split_whitespace();
                let (pid, host) = (words.next().unwrap_or("unknown"), words.next().unwrap_or("unknown"));
                let what = format!(
                    "another conductor-loop works on it (pid {pid} on host {host}); stop that one or name \
                     another directory"
                );
                (dir, what)
            }
            LockFault::Io { dir, cause } => (dir, format!("the lock file cannot be used: {cause}")),
        }
    }
}

impl fmt::Display for LockFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (dir, what) = self.parts();
        write!(f, "directory {}: {what}", dir.display())
    }
}

impl std::error::Error for LockFault {}

impl Fault for LockFault {
    fn consequence(&self) -> Consequence {
        Consequence::Stop
    }
}

impl Lock {
    /// Takes the lock `lock` in the directory `fd`, called `dir` in messages.
    pub fn take(fd: impl AsFd, dir: &Path) -> Result<Lock, LockFault> {
        let io_fault = |cause: io::Error| LockFault::Io { dir: dir.to_owned(), cause };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = openat(fd, NAME, flags, Mode::from_raw_mode(0o600)).map_err(|err| io_fault(err.into()))?;
        let mut file = std::fs::File::from(file);
        match exclusive(&file) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                return Err(LockFault::Held { dir: dir.to_owned(), holder });
            }
            Err(err) => return Err(io_fault(err.into())),
        }
        let text = format!("{} {} {}\n", std::process::id(), host(), boot_id());
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(text.as_bytes()))
            .map_err(io_fault)?;
        Ok(Lock { file })
    }

    /// True if this is the lock of the directory `fd`: its lock file is the very one that is held. A second
    /// [`Lock::take`] there would be refused, by this process to itself.
    pub fn lies_in(&self, fd: impl AsFd) -> bool {
        match (fstat(&self.file), statat(fd, NAME, AtFlags::SYMLINK_NOFOLLOW)) {
            (Ok(mine), Ok(there)) => (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino),
            _ => false,
        }
    }

    /// Takes the lock of `dir`, made 0700 if missing, unless it is the very directory behind `held`.
    pub fn take_elsewhere(held: impl AsFd, dir: &Path) -> Result<Option<Lock>, LockFault> {
        let io_fault = |cause: io::Error| LockFault::Io { dir: dir.to_owned(), cause };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_fault)?;
        let fd = std::fs::File::open(dir).map_err(io_fault)?;
        let (own, other) = (fstat(held), fstat(&fd));
        match (own, other) {
            (Ok(own), Ok(other)) if (own.st_dev, own.st_ino) == (other.st_dev, other.st_ino) => Ok(None),
            _ => Lock::take(&fd, dir).map(Some),
        }
    }
}

/// Who only asks for the holder ([`holder`]) has the lock for a moment too; that refuses no daemon.
fn exclusive(file: &std::fs::File) -> rustix::io::Result<()> {
    for _ in 0..ASKED_ABOUT {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(1)),
            other => return other,
        }
    }
    flock(file, FlockOperation::NonBlockingLockExclusive)
}

/// What the last holder of the lock of `dir` wrote, whether or not it still holds it.
pub fn last_holder(dir: &Path) -> io::Result<String> {
    std::fs::read_to_string(dir.join(NAME))
}

/// Who holds the lock of `dir`: the text of its file if it is locked now.
pub fn holder(dir: &Path) -> Option<String> {
    let file = std::fs::File::open(dir.join(NAME)).ok()?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => io::read_to_string(file).ok(),
        _ => None,
    }
}

/// The kernel's boot id, or `unknown`.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| "unknown".to_owned(), |id| id.trim().to_owned())
}

fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let fd = std::fs::File::open(dir.path()).unwrap();
        let first = Lock::take(&fd, dir.path()).unwrap();
        let refused = Lock::take(&fd, dir.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");
        assert!(holder(dir.path()).is_some());
        drop(first);
        assert!(holder(dir.path()).is_none());
        Lock::take(&fd, dir.path()).unwrap();
    }

    #[test]
    fn a_command_that_asks_for_the_holder_refuses_no_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let fd = std::fs::File::open(dir.path()).unwrap();
        drop(Lock::take(&fd, dir.path()).unwrap());
        let file = std::fs::File::open(dir.path().join(NAME)).unwrap();
        flock(&file, FlockOperation::NonBlockingLockShared).unwrap();
        let asker = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(3));
            drop(file);
        });
        Lock::take(&fd, dir.path()).unwrap();
        asker.join().unwrap();
    }
}
