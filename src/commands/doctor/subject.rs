//! Whose rights count: the running daemon's, else those of the owner of its folders, else our own.
//!
//! Where the doctor runs as another user than the daemon, rights are reckoned from owner, group and mode;
//! access control lists are not seen then, and the findings say for whom they hold.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::process::geteuid;

/// The names of capabilities that matter here, as bits of the effective set (`linux/capability.h`).
const DAC_OVERRIDE: u64 = 1 << 1;
const LEASE: u64 = 1 << 28;

/// A user whose rights are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    /// Effective user.
    pub(super) uid: u32,
    /// Effective and further groups.
    pub(super) gids: Vec<u32>,
    /// Effective capabilities; `None` while no process is known.
    pub(super) caps: Option<u64>,
    /// The running daemon.
    pub(super) pid: Option<u32>,
    /// Why this user, for the report.
    pub(super) who: String,
}

/// What `/proc/PID/status` tells of a process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Process {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gids: Vec<u32>,
    pub(super) caps: u64,
}

impl Process {
    /// The process `pid`, or this one.
    pub(super) fn read(pid: Option<u32>) -> Option<Process> {
        let which = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
        Process::parse(&fs::read_to_string(format!("/proc/{which}/status")).ok()?)
    }

    /// `None` for one that has ended and was not yet waited for.
    fn parse(text: &str) -> Option<Process> {
        let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        if line("State:").is_some_and(|state| state.starts_with('Z')) {
            return None;
        }
        let effective = |key| line(key)?.split_whitespace().nth(1)?.parse::<u32>().ok();
        let mut gids = vec![effective("Gid:")?];
        gids.extend(
            line("Groups:").unwrap_or_default().split_whitespace().filter_map(|gid| gid.parse::<u32>().ok()),
        );
        Some(Process {
            name: line("Name:")?.to_owned(),
            uid: effective("Uid:")?,
            gids,
            caps: u64::from_str_radix(line("CapEff:")?, 16).ok()?,
        })
    }
}

/// Owner, group and mode of a file, as far as rights depend on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rights {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u32,
}

impl Rights {
    /// Those of what is at `path`, links followed.
    pub(super) fn of(path: &Path) -> Option<Rights> {
        path.metadata().ok().map(|meta| Rights::told(&meta))
    }

    /// Those that a look has found.
    pub(super) fn told(meta: &Metadata) -> Rights {
        Rights { uid: meta.uid(), gid: meta.gid(), mode: meta.mode() & 0o7777 }
    }
}

impl Subject {
    /// The running daemon `pid`, the `owner` of its folders, or ourselves.
    pub(super) fn find(pid: Option<u32>, owner: Option<u32>) -> Subject {
        let own = Process::read(None);
        let me = geteuid().as_raw();
        if let Some((pid, process)) = pid.and_then(|pid| Some((pid, daemon(pid, own.as_ref())?))) {
            let who = format!("uid {}, as which the daemon runs", process.uid);
            return Subject {
                uid: process.uid,
                gids: process.gids,
                caps: Some(process.caps),
                pid: Some(pid),
                who,
            };
        }
        match (owner.filter(|owner| *owner != me), own) {
            (Some(uid), _) => {
                let who = format!("uid {uid}, which owns the daemon's folders");
                let gids = groups(uid, &text("/etc/passwd"), &text("/etc/group"));
                Subject { uid, gids, caps: None, pid: None, who }
            }
            (None, Some(Process { gids, caps, .. })) => {
                Subject { uid: me, gids, caps: Some(caps), pid: None, who: format!("uid {me}, ours") }
            }
            (None, None) => {
                Subject { uid: me, gids: Vec::new(), caps: None, pid: None, who: format!("uid {me}, ours") }
            }
        }
    }

    /// True if its rights are exactly ours.
    pub(super) fn is_us(&self) -> bool {
        self.uid == geteuid().as_raw()
    }

    /// Whether leases on files of every owner are granted to it; `None` if that is not known.
    pub(super) fn may_lease_all(&self) -> Option<bool> {
        self.caps.map(|caps| caps & LEASE != 0)
    }

    /// Whether it may do `want` (4 read, 2 write, 1 search, added up) at `path`, whose rights are `rights`.
    pub(super) fn may(&self, path: &Path, rights: Rights, want: u32) -> bool {
        if !self.is_us() {
            return self.reckoned(rights, want);
        }
        let mut access = Access::empty();
        for (bit, right) in [(4, Access::READ_OK), (2, Access::WRITE_OK), (1, Access::EXEC_OK)] {
            access.set(right, want & bit != 0);
        }
        accessat(CWD, path, access, AtFlags::EACCESS).is_ok()
    }

    fn reckoned(&self, rights: Rights, want: u32) -> bool {
        let overrides = self.caps.map_or(self.uid == 0, |caps| caps & DAC_OVERRIDE != 0);
        let shift = match () {
            () if rights.uid == self.uid => 6,
            () if self.gids.contains(&rights.gid) => 3,
            () => 0,
        };
        overrides || (rights.mode >> shift) & want == want
    }
}

/// The process behind a lock's text, unless its number now belongs to something else.
fn daemon(pid: u32, own: Option<&Process>) -> Option<Process> {
    let process = Process::read(Some(pid))?;
    let is_ours = process.name == "conductor-loop" || own.is_some_and(|own| own.name == process.name);
    is_ours.then_some(process)
}

/// The groups of a user as the plain files of the system say.
fn groups(uid: u32, passwd: &str, group: &str) -> Vec<u32> {
    let user = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.get(2).and_then(|text| text.parse::<u32>().ok()) == Some(uid));
    let Some(user) = user else { return Vec::new() };
    let mut gids: Vec<u32> = user.get(3).and_then(|gid| gid.parse().ok()).into_iter().collect();
    for line in group.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if let [_, _, gid, members] = fields[..]
            && members.split(',').any(|member| member == user[0])
        {
            gids.extend(gid.parse::<u32>());
        }
    }
    gids
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tconductor-loop\nUmask:\t0027\nUid:\t998\t998\t998\t998\n\
                          Gid:\t997\t997\t997\t997\n\
                          Groups:\t1500 1600 \nCapEff:\t0000000010000000\n";

    fn service() -> Subject {
        let Process { uid, gids, caps, .. } = Process::parse(STATUS).unwrap();
        Subject { uid, gids, caps: Some(caps), pid: None, who: String::new() }
    }

    #[test]
    fn a_process_is_told_by_its_status() {
        let service = service();
        assert_eq!((service.uid, service.gids.clone()), (998, vec![997, 1500, 1600]));
        assert_eq!(service.may_lease_all(), Some(true));
        assert_eq!(Process::parse(&STATUS.replace("Umask:", "State:\tZ (zombie)\nUmask:")), None);
        assert!(Process::read(None).is_some_and(|own| own.uid == geteuid().as_raw()));
    }

    #[test]
    fn one_class_of_rights_counts_as_in_the_kernel() {
        let rights = |uid, gid, mode| Rights { uid, gid, mode };
        let service = service();
        assert!(service.reckoned(rights(998, 0, 0o700), 7));
        assert!(!service.reckoned(rights(998, 1500, 0o070), 7), "the owner's class wins");
        assert!(service.reckoned(rights(0, 1500, 0o770), 7), "a further group");
        assert!(!service.reckoned(rights(0, 0, 0o775), 7));
        assert!(service.reckoned(rights(0, 0, 0o775), 5));
        let root = Subject { uid: 0, caps: None, ..service };
        assert!(root.reckoned(rights(998, 0, 0o000), 7));
    }

    #[test]
    fn groups_of_a_user_without_a_process_come_from_the_files() {
        let passwd = "root:x:0:0::/root:/bin/sh\nconductor-loop:x:998:997::/:/bin/false\n";
        let group = "root:x:0:\nintent-drop:x:1500:ana,conductor-loop\nother:x:1600:ana\n";
        assert_eq!(groups(998, passwd, group), [997, 1500]);
        assert!(groups(12, passwd, group).is_empty());
    }
}
