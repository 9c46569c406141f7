//! Group `file systems`: what the folders lie on, whether it is the right one, and how much room is left.
//!
//! An empty mount point looks like the folder itself after its file system was unmounted. Three traces
//! give it away: a mount that is planned and not there, a device other than that of the newest accepted
//! file, and a folder without the daemon's directory although the ledger has seen files.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::case::{Case, real};
use super::mounts::{Mount, Planned};
use super::report::{Finding, Mark, size};
use crate::disk::{OWN_NAMES, Room, boot_id};
use crate::ledger::Reader;
use crate::pipeline::shortage;

pub(super) fn examine(case: &Case) -> Vec<Finding> {
    let places = [("handoff", &case.handoff), ("out", &case.out), ("state", &case.state)];
    let mut findings = Vec::new();
    for (name, path) in places {
        let real = real(path);
        let mount = case.mounts.of(&real);
        let missing = case.mounts.missing(&case.planned, path);
        findings.extend(missing.into_iter().map(|planned| unmounted(name, path, planned)));
        findings.push(judge(name, mount, Room::around(&real).ok(), case.loaded.config.intake.reserve));
    }
    findings.extend(impostor(case));
    findings.extend(devices(&places.map(|(_, path)| real(path).metadata().ok().map(|meta| meta.dev()))));
    findings
}

fn unmounted(name: &'static str, path: &Path, planned: &Planned) -> Finding {
    let (at, by) = (planned.at.display(), &planned.by);
    let message = format!(
        "folder unmounted: {by} plans a mount on {at}, nothing is mounted there ({})",
        path.display()
    );
    let advice =
        format!("mount {at}; the unit's RequiresMountsFor= keeps the daemon from starting without it");
    match planned.on_demand {
        true => Finding::warn(name, message, advice),
        false => Finding::fail(name, message, advice),
    }
}

/// One place: kind, room, and what is wrong with either.
fn judge(name: &'static str, mount: Option<&Mount>, room: Option<Room>, reserve: u64) -> Finding {
    let kind = mount.map_or_else(
        || "an unknown file system".to_owned(),
        |mount| format!("{} ({} on {})", mount.kind, mount.source, mount.at.display()),
    );
    let Some(room) = room else {
        return Finding::warn(name, format!("{kind}; how much is free cannot be told"), "look with df");
    };
    let inodes = room.inodes.map(|free| format!(" and {free} inodes")).unwrap_or_default();
    let told = format!("{kind}, {}{inodes} free", size(room.bytes));
    if mount.is_some_and(|mount| mount.read_only) {
        return Finding::fail(
            name,
            format!("{told}; it is mounted read-only"),
            "remount it for writing; after an I/O error check the disk first; under systemd \
             ReadWritePaths= must name it",
        );
    }
    if let Some(what) = shortage(&room, reserve, false) {
        return Finding::fail(
            name,
            format!("{told}; acceptance pauses: {what}"),
            "free some, or lower intake.reserve; files wait in the folder until twice the reserve is free",
        );
    }
    let kept = reserve.min(room.bytes_total / 20);
    let told = format!("{told}, {} kept free", size(kept));
    match mount.map(|mount| mount.kind.as_str()) {
        Some("tmpfs" | "ramfs") => Finding::warn(
            name,
            format!("{told}; it lies in memory and is lost at a reboot"),
            "put it on a disk if intents are to survive a power cut",
        ),
        Some(kind) if name == "state" && is_remote(kind) => Finding::warn(
            name,
            format!("{told}; a ledger on a shared file system depends on its locks and flushes"),
            "put the state on a disk of this node: --state DIR",
        ),
        _ => Finding::ok(name, told),
    }
}

/// File systems of other machines or processes.
fn is_remote(kind: &str) -> bool {
    const REMOTE: [&str; 11] =
        ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "ocfs2", "gfs2", "lustre", "vboxsf"];
    REMOTE.contains(&kind) || kind.starts_with("fuse")
}

/// The folder at the path is not the one from which files were taken.
fn impostor(case: &Case) -> Option<Finding> {
    let now = case.handoff.metadata().ok()?.dev();
    let condition = Reader::open(&case.state).ok()?.condition(&boot_id()).ok()?;
    let before = condition.device;
    let bare = case
        .handoff
        .join(OWN_NAMES[0])
        .symlink_metadata()
        .is_err_and(|err| err.kind() == std::io::ErrorKind::NotFound);
    strange(now, before, bare && condition.newest.is_some(), &case.handoff)
}

fn strange(now: u64, before: Option<u64>, bare: bool, path: &Path) -> Option<Finding> {
    let advice =
        "if it was unmounted, mount it again; if it was moved on purpose, the next intent settles this";
    let told = |what: String| {
        let mark = if before.is_some_and(|before| before != now) && bare { Mark::Fail } else { Mark::Warn };
        Some(Finding { mark, name: "identity", message: what, advice: Some(advice.to_owned()) })
    };
    let shown = path.display();
    match before {
        Some(before) if before != now => told(format!(
            "the newest accepted file came from device {}, {shown} is on device {}",
            number(before),
            number(now)
        )),
        _ if bare => {
            told(format!("{shown} has no .conductor, though the ledger says that the daemon worked here"))
        }
        _ => None,
    }
}

fn number(dev: u64) -> String {
    format!("{}:{}", rustix::fs::major(dev), rustix::fs::minor(dev))
}

/// Whether a checkpoint flushes one device or several.
fn devices(found: &[Option<u64>; 3]) -> Option<Finding> {
    let [Some(handoff), Some(out), Some(state)] = *found else { return None };
    let told = match (out == handoff, state == handoff) {
        (true, true) => "handoff, out and state share one device",
        (true, false) => "handoff and out share a device, the state has its own",
        (false, true) => "handoff and state share a device, out has its own",
        (false, false) if out == state => "out and state share a device, handoff has its own",
        (false, false) => "handoff, out and state have a device each",
    };
    Some(Finding::ok("devices", told))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, read_only: bool) -> Mount {
        Mount { at: "/srv".into(), kind: kind.into(), source: "/dev/sda1".into(), read_only }
    }

    fn room(bytes: u64, inodes: u64) -> Room {
        Room { bytes, bytes_total: 100 << 30, inodes: Some(inodes), inodes_total: 1_000_000 }
    }

    fn told(mount: &Mount, room: Room) -> Finding {
        judge("state", Some(mount), Some(room), 64 << 20)
    }

    #[test]
    fn room_is_judged_by_the_daemons_own_rule() {
        let ext4 = mount("ext4", false);
        assert_eq!(told(&ext4, room(1 << 30, 1_000_000)).mark, Mark::Ok);
        let short = told(&ext4, room(63 << 20, 1_000_000));
        assert!(short.mark == Mark::Fail && short.message.contains("acceptance pauses"), "{short:?}");
        assert_eq!(told(&ext4, room(1 << 30, 12)).mark, Mark::Fail, "inodes count too");
    }

    #[test]
    fn read_only_remote_and_fleeting_file_systems_are_told() {
        let large = room(1 << 30, 1_000_000);
        assert_eq!(told(&mount("ext4", true), large).mark, Mark::Fail);
        assert_eq!(told(&mount("nfs4", false), large).mark, Mark::Warn);
        assert_eq!(told(&mount("fuse.sshfs", false), large).mark, Mark::Warn);
        assert_eq!(told(&mount("tmpfs", false), large).mark, Mark::Warn);
    }

    #[test]
    fn a_planned_mount_that_is_missing_is_an_unmounted_folder() {
        let planned = Planned { at: "/srv".into(), by: "/etc/fstab".into(), on_demand: false };
        let finding = unmounted("handoff", Path::new("/srv/in"), &planned);
        assert!(finding.mark == Mark::Fail && finding.message.starts_with("folder unmounted"), "{finding:?}");
        let on_demand = Planned { on_demand: true, ..planned };
        assert_eq!(unmounted("handoff", Path::new("/srv/in"), &on_demand).mark, Mark::Warn);
    }

    #[test]
    fn another_device_and_a_bare_folder_give_an_impostor_away() {
        let mark =
            |now, before, bare| strange(now, before, bare, Path::new("/srv")).map(|finding| finding.mark);
        assert_eq!(mark(1, Some(1), false), None);
        assert_eq!(mark(1, None, false), None);
        assert_eq!(mark(1, Some(2), false), Some(Mark::Warn));
        assert_eq!(mark(1, None, true), Some(Mark::Warn));
        assert_eq!(mark(1, Some(2), true), Some(Mark::Fail));
    }

    #[test]
    fn shared_devices_are_told() {
        let told = |found| devices(&found).map(|finding| finding.message);
        assert_eq!(
            told([Some(1), Some(1), Some(1)]).as_deref(),
            Some("handoff, out and state share one device")
        );
        assert!(told([Some(1), Some(2), Some(2)]).unwrap().starts_with("out and state"));
        assert_eq!(told([Some(1), None, Some(1)]), None);
    }
}
