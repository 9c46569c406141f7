//! Group `completion`: which proofs that a file is whole can be had here, and why not the others.
//!
//! Leases are tried on a file of our own in a hidden directory of the handoff folder, which is removed at
//! once: its name begins with a dot, so no daemon takes anything of it for an intent.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::case::Case;
use super::report::Finding;
use crate::read::{self, LeaseHelp};

pub(super) fn examine(case: &Case) -> Vec<Finding> {
    // The daemon has tried it at its start, and as itself.
    let told = case.pages.as_ref().and_then(|pages| pages.proofs());
    let (works, of_all) = match told {
        Some(proofs) => (Ok(proofs.contains(&"lease")), Some(proofs == ["lease"])),
        None => (probe(&case.handoff), case.subject.may_lease_all()),
    };
    // The group folders tells of a folder that is not there.
    if works.as_ref().is_err_and(|err| err.kind() == io::ErrorKind::NotFound) {
        return Vec::new();
    }
    let mut findings = vec![leases(works, of_all, case.subject.uid, case.look_as())];
    let map = fs::read_to_string(match case.subject.pid {
        Some(pid) => format!("/proc/{pid}/uid_map"),
        None => "/proc/self/uid_map".to_owned(),
    });
    findings.extend(namespace(&map.unwrap_or_default()));
    findings
}

/// A directory that goes with its owner.
pub(super) struct Hidden(PathBuf);

impl Hidden {
    /// Makes one in `folder` under a name that is nobody's.
    pub(super) fn make(folder: &Path) -> io::Result<Hidden> {
        let path = folder.join(format!(".conductor-loop-doctor-{}.tmp", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Hidden(path))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // Whoever may make an empty directory may remove it; what cannot be undone is said by its name.
        let _ = fs::remove_dir(&self.0);
    }
}

/// True if the file system of `folder` grants leases.
fn probe(folder: &Path) -> io::Result<bool> {
    let hidden = Hidden::make(folder)?;
    read::ignore_lease_signal();
    let directory = fs::File::open(&hidden.0)?;
    Ok(read::probe(&directory.into()) != LeaseHelp::None)
}

fn leases(works: io::Result<bool>, of_all: Option<bool>, uid: u32, look_as: String) -> Finding {
    const WEAKER: &str =
        "files renamed in count as whole at once, others after one quiet window (watch.debounce)";
    let grant = "give the daemon CAP_LEASE (AmbientCapabilities= and CapabilityBoundingSet= in the unit), \
                 or let producers rename files in";
    match (works, of_all) {
        (Err(err), _) => Finding::warn("leases", format!("could not be tried: {err}"), look_as),
        (Ok(false), _) => Finding::warn(
            "leases",
            format!("the file system of the handoff folder has none: {WEAKER}"),
            "let producers write elsewhere on this file system and rename files in",
        ),
        (Ok(true), Some(true)) => Finding::ok(
            "leases",
            "granted on files of every owner: no file is read before its writers have closed it",
        ),
        (Ok(true), Some(false)) => Finding::warn(
            "leases",
            format!("granted on files of uid {uid} alone; of those of other owners, {WEAKER}"),
            grant,
        ),
        (Ok(true), None) => Finding::ok(
            "leases",
            format!(
                "granted here on files of uid {uid}; on those of other owners if the daemon has CAP_LEASE"
            ),
        ),
    }
}

/// In a namespace of users (`PrivateUsers=yes`, some containers) foreign owners all look alike.
fn namespace(uid_map: &str) -> Option<Finding> {
    let is_whole = |line: &str| line.split_whitespace().collect::<Vec<_>>() == ["0", "0", "4294967295"];
    if uid_map.is_empty() || uid_map.lines().any(is_whole) {
        return None;
    }
    Some(Finding::warn(
        "owners",
        "the daemon is in a namespace of users: foreign owners all appear as 65534 there, CAP_LEASE does \
         not reach their files, and fair shares cannot tell them apart",
        "set PrivateUsers=no in the unit, or let producers rename files in",
    ))
}

#[cfg(test)]
mod tests {
    use super::super::report::Mark;
    use super::*;

    #[test]
    fn what_leases_can_prove_depends_on_the_capability() {
        let mark = |works, all| leases(works, all, 998, String::new()).mark;
        assert_eq!(mark(Ok(true), Some(true)), Mark::Ok);
        assert_eq!(mark(Ok(true), None), Mark::Ok);
        assert_eq!(mark(Ok(true), Some(false)), Mark::Warn);
        assert_eq!(mark(Ok(false), Some(true)), Mark::Warn);
        assert_eq!(mark(Err(io::ErrorKind::PermissionDenied.into()), Some(true)), Mark::Warn);
    }

    #[test]
    fn the_probe_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        probe(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(probe(&dir.path().join("none")).is_err());
    }

    #[test]
    fn a_namespace_of_users_is_noticed() {
        assert_eq!(namespace("         0          0 4294967295\n"), None);
        assert_eq!(namespace(""), None, "a kernel without them");
        assert!(namespace("       998        998          1\n").is_some());
    }
}
