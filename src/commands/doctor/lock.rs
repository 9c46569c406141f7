//! Who holds a lock, without taking it.

use std::io::{self, ErrorKind};
use std::path::Path;

use crate::disk;

/// The lock of a directory.
#[derive(Debug)]
pub(super) enum Standing {
    /// A daemon runs.
    Held(Holder),
    /// None runs; the last one, if there was one.
    Free(Option<Holder>),
    /// It may not be looked at by us.
    Hidden(io::Error),
}

/// The text of a lock: `pid host boot-id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) pid: u32,
    pub(super) host: String,
    pub(super) boot: String,
}

impl Standing {
    /// Who holds it now.
    pub(super) fn holder(&self) -> Option<&Holder> {
        match self {
            Standing::Held(holder) => Some(holder),
            _ => None,
        }
    }
}

impl Holder {
    fn parse(text: &str) -> Option<Holder> {
        let mut words = text.split_whitespace();
        let pid = words.next()?.parse().ok()?;
        Some(Holder { pid, host: words.next()?.to_owned(), boot: words.next()?.to_owned() })
    }

    /// Its process, if it runs under this kernel.
    pub(super) fn pid_here(&self) -> Option<u32> {
        (self.boot == disk::boot_id()).then_some(self.pid)
    }
}

/// How the lock of `dir` stands.
pub(super) fn standing(dir: &Path) -> Standing {
    match disk::last_holder(dir) {
        Ok(text) => match disk::holder(dir) {
            // Between its lock and its text a daemon is just starting.
            Some(held) => Standing::Held(Holder::parse(&held).unwrap_or(Holder {
                pid: 0,
                host: "unknown".to_owned(),
                boot: "unknown".to_owned(),
            })),
            None => Standing::Free(Holder::parse(&text)),
        },
        Err(err) if err.kind() == ErrorKind::PermissionDenied => Standing::Hidden(err),
        Err(_) => Standing::Free(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_or_tells_who_held_it_last() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(standing(dir.path()), Standing::Free(None)));
        let lock = disk::Lock::take(std::fs::File::open(dir.path()).unwrap(), dir.path()).unwrap();
        let held = standing(dir.path());
        assert_eq!(held.holder().and_then(Holder::pid_here), Some(std::process::id()));
        drop(lock);
        let Standing::Free(Some(last)) = standing(dir.path()) else { panic!("it is free and was held") };
        assert_eq!(last.pid, std::process::id());
    }

    #[test]
    fn a_process_of_an_earlier_boot_is_none_of_ours() {
        let holder = Holder::parse("12 edge-7 0c1d\n").unwrap();
        assert_eq!((holder.pid, holder.host.as_str(), holder.pid_here()), (12, "edge-7", None));
        assert_eq!(Holder::parse(""), None);
    }
}
