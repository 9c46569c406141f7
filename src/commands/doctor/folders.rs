//! Group `folders`: whether the daemon's directories are there and give its user the rights that it needs.
//!
//! The rules are those of the daemon's own start (`reliability.md` 2): the handoff folder may be shared if
//! it is sticky, its own directories belong to it alone.

use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::case::Case;
use super::report::Finding;
use super::subject::{Rights, Subject};
use crate::config::Origin;
use crate::disk::OWN_NAMES;

/// Read, write and search.
const ALL: u32 = 7;

pub(super) fn examine(case: &Case) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (handoff, is_there) = root(case, "handoff", &case.handoff);
    findings.push(handoff);
    if is_there {
        findings.extend(case.handoff.metadata().ok().and_then(|meta| shared(&case.handoff, meta.mode())));
        findings.extend(other_view(case));
        findings.extend(own(case));
    }
    findings.push(root(case, "out", &case.out).0);
    if case.state.parent() != Some(&case.handoff) || !case.state.ends_with(OWN_NAMES[0]) {
        findings.push(root(case, "state", &case.state).0);
    }
    findings
}

/// A directory that the daemon makes at its start and needs all rights on; true if it is there.
fn root(case: &Case, name: &'static str, path: &Path) -> (Finding, bool) {
    let shown = path.display();
    match path.metadata() {
        Ok(meta) if !meta.is_dir() => (
            Finding::fail(
                name,
                format!("{shown} is no directory"),
                "name a directory, or move the file away",
            ),
            false,
        ),
        Ok(meta) => (usable(&case.subject, name, path, &meta), true),
        Err(err) if err.kind() == ErrorKind::NotFound => (absent(case, name, path), false),
        Err(err) => {
            (Finding::warn(name, format!("{shown} cannot be looked at: {err}"), case.look_as()), false)
        }
    }
}

fn absent(case: &Case, name: &'static str, path: &Path) -> Finding {
    let shown = path.display();
    if path.is_symlink() {
        return Finding::fail(
            name,
            format!("{shown} is a link that leads nowhere"),
            "put back what it leads to",
        );
    }
    if case.is_up() {
        return Finding::fail(
            name,
            format!("{shown} is gone while the daemon runs"),
            "put it back, or mount it; the daemon goes on by itself",
        );
    }
    let key = match name {
        "handoff" => "watch.handoff",
        "out" => "sink.folder.out",
        _ => "ledger.dir",
    };
    let is_default = *case.loaded.origins.of(key) == Origin::Default;
    let parent = path.ancestors().skip(1).find_map(|above| Some((above, above.metadata().ok()?)));
    match parent {
        Some((above, meta)) if !case.subject.may(above, Rights::told(&meta), ALL) => Finding::fail(
            name,
            format!("{shown} is not there, and {} may not make it in {}", case.subject.who, above.display()),
            format!("install -d -o {} -m 0750 {shown}", case.subject.uid),
        ),
        _ if is_default => Finding::warn(
            name,
            format!("{shown} is not there (the default of {key}); it is made at the start"),
            format!("if the daemon works elsewhere, name it: --config FILE or --{name} DIR"),
        ),
        _ => Finding::ok(name, format!("{shown} is not there yet; it is made at the start")),
    }
}

fn usable(subject: &Subject, name: &'static str, path: &Path, meta: &Metadata) -> Finding {
    let (shown, who, uid) = (path.display(), &subject.who, subject.uid);
    if let Some(above) = closed_above(subject, path) {
        return Finding::fail(
            name,
            format!("{shown} cannot be reached by {who}: {} is closed to it", above.display()),
            format!("chmod o+x {0}, or setfacl -m u:{uid}:x {0}", above.display()),
        );
    }
    if !subject.may(path, Rights::told(meta), ALL) {
        let mode = meta.mode() & 0o7777;
        return Finding::fail(
            name,
            format!(
                "{shown} (owner {}, mode {mode:04o}) lacks rights to read, write or search for {who}",
                meta.uid()
            ),
            format!("chown {uid} {shown}; chmod u+rwx {shown}"),
        );
    }
    let link = path.is_symlink().then(|| path.canonicalize().ok()).flatten();
    let link = link.map(|real| format!(", a link to {}", real.display())).unwrap_or_default();
    Finding::ok(name, format!("{shown}{link}, mode {:04o}, usable by uid {uid}", meta.mode() & 0o7777))
}

/// The first directory above `path` that the subject may not pass.
fn closed_above(subject: &Subject, path: &Path) -> Option<PathBuf> {
    let mut above: Vec<&Path> =
        path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()).collect();
    above.reverse();
    let is_closed =
        |above: &&Path| above.metadata().is_ok_and(|meta| !subject.may(above, Rights::told(&meta), 1));
    above.into_iter().find(is_closed).map(Path::to_owned)
}

/// Who else may write to the handoff folder.
fn shared(path: &Path, mode: u32) -> Option<Finding> {
    let (shown, mode) = (path.display(), mode & 0o7777);
    let sticky = mode & 0o1000 != 0;
    let advice = format!("chmod +t {shown}");
    match () {
        () if sticky => None,
        () if mode & 0o002 != 0 => Some(Finding::fail(
            "sharing",
            format!(
                "the handoff folder is world-writable without the sticky bit (mode {mode:04o}): any user \
                 could replace processed/ and status/, so the daemon refuses it"
            ),
            advice,
        )),
        () if mode & 0o020 != 0 => Some(Finding::warn(
            "sharing",
            format!(
                "the handoff folder is group-writable without the sticky bit (mode {mode:04o}): its group \
                 can rename processed/ and status/"
            ),
            advice,
        )),
        () => None,
    }
}

/// A unit's `PrivateTmp=` and the like put another directory under the path, for the daemon alone.
fn other_view(case: &Case) -> Option<Finding> {
    let pid = case.subject.pid?;
    let seen = |path: &Path| path.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
    let below = case.handoff.strip_prefix("/").ok()?;
    let theirs = seen(&Path::new("/proc").join(pid.to_string()).join("root").join(below))?;
    (seen(&case.handoff)? != theirs).then(|| {
        Finding::fail(
            "view",
            format!("the daemon sees another directory at {} than we do", case.handoff.display()),
            "its unit hides it: PrivateTmp= for folders below /tmp, ProtectHome= for those below /home; or \
             it runs in a container",
        )
    })
}

/// The daemon's own directories, in one line if they are in order.
fn own(case: &Case) -> Vec<Finding> {
    let mut places: Vec<PathBuf> = OWN_NAMES.iter().map(|name| case.handoff.join(name)).collect();
    if let Some(failed) = &case.failed {
        places.retain(|place| !place.ends_with(OWN_NAMES[2]));
        places.push(failed.clone());
    }
    let (mut findings, mut there, mut hidden) = (Vec::new(), 0, None);
    for place in &places {
        match place.symlink_metadata() {
            Ok(meta) => match owned(place, &meta, case.subject.uid) {
                Some(fault) => findings.push(fault),
                None => there += 1,
            },
            Err(err) if err.kind() == ErrorKind::NotFound && case.is_up() => findings.push(Finding::warn(
                "own",
                format!("{} is gone while the daemon runs", place.display()),
                "the daemon makes it anew within 5 s, if it may",
            )),
            Err(err) if err.kind() == ErrorKind::NotFound => {}
            Err(err) => hidden = Some(format!("{} cannot be looked at: {err}", place.display())),
        }
    }
    findings.extend(hidden.map(|message| Finding::warn("own", message, case.look_as())));
    if findings.is_empty() {
        findings.push(Finding::ok(
            "own",
            match there {
                0 => "none made yet".to_owned(),
                there if there < places.len() => {
                    format!("{there} of {} are there and in order", places.len())
                }
                _ => format!(
                    "processed, failed, status and .conductor belong to uid {} alone",
                    case.subject.uid
                ),
            },
        ));
    }
    findings
}

/// What the daemon's start would refuse.
fn owned(path: &Path, meta: &Metadata, uid: u32) -> Option<Finding> {
    let (shown, mode) = (path.display(), meta.mode() & 0o7777);
    match () {
        () if !meta.is_dir() => Some(Finding::fail(
            "own",
            format!("{shown} is a link or not a directory"),
            "remove it; the daemon makes its own",
        )),
        () if meta.uid() != uid => Some(Finding::fail(
            "own",
            format!("{shown} belongs to uid {}, not to the daemon's uid {uid}", meta.uid()),
            format!("chown -R {uid} {shown}"),
        )),
        () if mode & 0o022 != 0 => Some(Finding::fail(
            "own",
            format!("{shown} is writable by others (mode {mode:04o})"),
            format!("chmod go-w {shown}"),
        )),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::super::report::Mark;
    use super::*;

    fn somebody(uid: u32) -> Subject {
        Subject { uid, gids: vec![uid], caps: Some(0), pid: None, who: format!("uid {uid}") }
    }

    #[test]
    fn sharing_needs_the_sticky_bit() {
        let mark = |mode| shared(Path::new("/srv"), mode).map(|finding| finding.mark);
        assert_eq!([mark(0o750), mark(0o1777), mark(0o3770)], [None, None, None]);
        assert_eq!([mark(0o770), mark(0o777)], [Some(Mark::Warn), Some(Mark::Fail)]);
    }

    #[test]
    fn own_directories_are_directories_of_the_daemon_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (own, link) = (dir.path().join("status"), dir.path().join("link"));
        fs::create_dir(&own).unwrap();
        symlink(&own, &link).unwrap();
        let look = |path: &Path, uid| owned(path, &path.symlink_metadata().unwrap(), uid);
        let me = own.metadata().unwrap().uid();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o750)).unwrap();
        assert_eq!(look(&own, me), None);
        assert!(look(&own, me + 1).is_some_and(|fault| fault.message.contains("belongs to")));
        assert!(look(&link, me).is_some_and(|fault| fault.message.contains("link")));
        fs::set_permissions(&own, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(look(&own, me).is_some_and(|fault| fault.message.contains("writable by others")));
    }

    #[test]
    fn a_directory_without_rights_for_the_daemon_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let inner = dir.path().join("handoff");
        fs::create_dir(&inner).unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o777)).unwrap();
        let stranger = somebody(dir.path().metadata().unwrap().uid() + 12_345);
        let told = usable(&stranger, "handoff", &inner, &inner.metadata().unwrap());
        assert!(told.mark == Mark::Fail && told.message.contains("closed to it"), "{told:?}");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(usable(&stranger, "handoff", &inner, &inner.metadata().unwrap()).mark, Mark::Ok);
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).unwrap();
        let told = usable(&stranger, "handoff", &inner, &inner.metadata().unwrap());
        assert!(told.mark == Mark::Fail && told.message.contains("lacks rights"), "{told:?}");
    }
}
