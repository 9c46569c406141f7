use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};

use super::*;
use crate::disk::Lock;

/// A disk in a directory of its own.
struct Ground {
    root: tempfile::TempDir,
    disk: RealDisk,
}

impl Ground {
    fn new() -> Ground {
        let root = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(layout(root.path())).unwrap();
        Ground { root, disk }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn create(&self, at: Place, name: &str) -> io::Result<()> {
        self.disk.create(at, Path::new(name), b"x", 0o640)
    }
}

fn layout(root: &Path) -> Layout {
    Layout { handoff: root.join("in"), failed: None, out: root.join("out") }
}

fn pipe(path: &Path) {
    let fifo = FileType::Fifo;
    rustix::fs::mknodat(CWD, path, fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

#[test]
fn a_removed_directory_is_made_anew_by_the_next_act() {
    let ground = Ground::new();
    for name in ["status", "processed", "failed"] {
        fs::remove_dir(ground.path("in").join(name)).unwrap();
    }
    ground.create(Place::Status, "a").unwrap();
    ground.disk.replace(Place::Processed, Path::new("a"), Path::new(".t"), b"x", 0o640).unwrap();
    ground.disk.append(Place::Failed, Path::new("a"), b"x", 0o640).unwrap();
    for name in ["status", "processed", "failed"] {
        assert_eq!(ground.read(&format!("in/{name}/a")), "x");
        assert_eq!(fs::metadata(ground.path("in").join(name)).unwrap().mode() & 0o777, 0o750);
    }
    assert_eq!(ground.disk.folders().replaced(), []);
}

#[test]
fn a_directory_renamed_away_and_then_removed_is_made_anew() {
    let ground = Ground::new();
    fs::rename(ground.path("in/status"), ground.path("aside")).unwrap();
    fs::remove_dir(ground.path("aside")).unwrap();
    ground.create(Place::Status, "a").unwrap();
    assert_eq!(ground.read("in/status/a"), "x");
}

#[test]
fn both_ends_of_a_rename_are_mended() {
    let ground = Ground::new();
    fs::write(ground.path("in/a"), "a").unwrap();
    fs::remove_dir(ground.path("in/processed")).unwrap();
    let to = (Place::Processed, Path::new("a"));
    ground.disk.rename((Place::Handoff, Path::new("a")), to, Clobber::Never).unwrap();
    assert_eq!(ground.read("in/processed/a"), "a");

    fs::remove_file(ground.path("in/.conductor/lock")).unwrap();
    fs::remove_dir(ground.path("in/.conductor")).unwrap();
    let from = (Place::Private, Path::new("b"));
    let gone = ground.disk.rename(from, (Place::Processed, Path::new("b")), Clobber::Never);
    assert_eq!(gone.unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(ground.path("in/.conductor/lock").exists(), "made again and locked");
    assert!(crate::disk::holder(&ground.path("in/.conductor")).is_some());
}

#[test]
fn an_error_of_another_kind_makes_nothing() {
    let ground = Ground::new();
    ground.create(Place::Status, "a").unwrap();
    let before = ground.disk.folders();
    assert_eq!(ground.create(Place::Status, "a").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert!(Arc::ptr_eq(&before, &ground.disk.folders()));
}

#[test]
fn a_missing_name_is_mended_and_an_impostor_is_not_touched() {
    let ground = Ground::new();
    fs::rename(ground.path("in/status"), ground.path("in/aside")).unwrap();
    fs::rename(ground.path("in/processed"), ground.path("away")).unwrap();
    symlink(ground.path("out"), ground.path("in/processed")).unwrap();
    assert_eq!(ground.disk.mend_missing(), [Place::Status]);
    assert_eq!(ground.disk.mend_missing(), []);
    assert_eq!(ground.disk.folders().replaced(), [Place::Processed]);
    ground.create(Place::Status, "a").unwrap();
    ground.create(Place::Processed, "a").unwrap();
    assert_eq!((ground.read("in/status/a"), ground.read("away/a")), ("x".into(), "x".into()));
    assert!(!ground.path("out/a").exists());
}

#[test]
fn nothing_is_mended_in_a_folder_that_is_away() {
    let ground = Ground::new();
    fs::rename(ground.path("in"), ground.path("old")).unwrap();
    fs::remove_dir(ground.path("old/status")).unwrap();
    assert_eq!(ground.disk.mend_missing(), []);
    assert!(ground.create(Place::Status, "a").is_err());
    assert!(!ground.path("old/status").exists() && !ground.path("in").exists());
}

#[test]
fn a_second_disk_on_the_folder_is_refused_with_the_holder() {
    let ground = Ground::new();
    let refused = RealDisk::open(layout(ground.root.path())).unwrap_err().to_string();
    assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");
    assert!(refused.starts_with(&format!("directory {}: another", ground.path("in").display())), "{refused}");
}

#[test]
fn the_lock_follows_the_folder_and_the_first_one_is_kept() {
    let ground = Ground::new();
    fs::rename(ground.path("in"), ground.path("old")).unwrap();
    assert!(ground.disk.reopen().unwrap_err().contains("is gone"));
    fs::create_dir(ground.path("in")).unwrap();
    ground.disk.reopen().unwrap();
    assert!(RealDisk::open(layout(ground.root.path())).is_err());
    assert!(crate::disk::holder(&ground.path("old/.conductor")).is_some(), "the ledger may lie there");

    fs::rename(ground.path("in"), ground.path("new")).unwrap();
    fs::rename(ground.path("old"), ground.path("in")).unwrap();
    ground.disk.reopen().unwrap();
    assert!(ground.disk.is_in_place());
    assert!(crate::disk::holder(&ground.path("new/.conductor")).is_none());
    ground.disk.reopen().unwrap();
}

#[test]
fn a_folder_that_somebody_else_has_locked_is_not_taken() {
    let ground = Ground::new();
    fs::rename(ground.path("in"), ground.path("old")).unwrap();
    fs::create_dir_all(ground.path("in/.conductor")).unwrap();
    fs::set_permissions(ground.path("in/.conductor"), fs::Permissions::from_mode(0o700)).unwrap();
    let private = fs::File::open(ground.path("in/.conductor")).unwrap();
    let theirs = Lock::take(&private, &ground.path("in")).unwrap();
    let stays = ground.disk.reopen().unwrap_err();
    assert!(stays.contains("another conductor-loop works on it (pid "), "{stays}");
    assert!(!ground.path("in/status").exists(), "nothing is made in it");
    ground.create(Place::Status, "a").unwrap();
    assert_eq!(ground.read("old/status/a"), "x");
    drop(theirs);
    ground.disk.reopen().unwrap();
}

#[test]
fn a_link_in_place_of_the_folder_is_an_impostor() {
    let ground = Ground::new();
    fs::rename(ground.path("in"), ground.path("old")).unwrap();
    fs::create_dir(ground.path("trap")).unwrap();
    symlink(ground.path("trap"), ground.path("in")).unwrap();
    let stays = ground.disk.reopen().unwrap_err();
    assert!(stays.contains("is a link now"), "{stays}");
    assert_eq!(fs::read_dir(ground.path("trap")).unwrap().count(), 0);
}

#[test]
fn a_path_that_was_a_link_from_the_start_may_lead_on() {
    let root = tempfile::tempdir().unwrap();
    let path = |name| root.path().join(name);
    fs::create_dir(path("one")).unwrap();
    fs::create_dir(path("two")).unwrap();
    symlink(path("one"), path("in")).unwrap();
    let disk = RealDisk::open(layout(root.path())).unwrap();
    fs::remove_file(path("in")).unwrap();
    symlink(path("two"), path("in")).unwrap();
    assert!(!disk.is_in_place());
    disk.reopen().unwrap();
    assert!(disk.is_in_place() && path("two").join("status").is_dir());
}

#[test]
fn nothing_is_made_in_a_folder_that_fails_its_checks() {
    let ground = Ground::new();
    fs::rename(ground.path("in"), ground.path("old")).unwrap();
    fs::create_dir(ground.path("in")).unwrap();
    fs::set_permissions(ground.path("in"), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(ground.disk.reopen().unwrap_err().contains("world-writable"));
    assert_eq!(fs::read_dir(ground.path("in")).unwrap().count(), 0);

    fs::set_permissions(ground.path("in"), fs::Permissions::from_mode(0o755)).unwrap();
    // Only root can give a directory away.
    if std::os::unix::fs::chown(ground.path("in"), Some(4_711), None).is_ok() {
        assert!(ground.disk.reopen().unwrap_err().contains("belongs to uid 4711"));
        assert_eq!(fs::read_dir(ground.path("in")).unwrap().count(), 0);
    }
}

#[test]
fn a_planted_pipe_or_link_under_a_temporary_name_does_no_harm() {
    let ground = Ground::new();
    let temporary = Path::new(".t");
    pipe(&ground.path("out/.t"));
    ground.disk.replace(Place::Out, Path::new("a"), temporary, b"x", 0o640).unwrap();
    fs::write(ground.path("victim"), "kept").unwrap();
    fs::hard_link(ground.path("victim"), ground.path("out/.t")).unwrap();
    ground.disk.replace(Place::Out, Path::new("b"), temporary, b"x", 0o640).unwrap();
    symlink(ground.path("victim"), ground.path("out/.t")).unwrap();
    ground.disk.replace(Place::Out, Path::new("c"), temporary, b"x", 0o640).unwrap();
    let written = ["a", "b", "c"].map(|name| ground.read(&format!("out/{name}")));
    assert_eq!((written.concat(), ground.read("victim")), ("xxx".to_owned(), "kept".to_owned()));
    pipe(&ground.path("out/journal"));
    assert!(ground.disk.append(Place::Out, Path::new("journal"), b"x", 0o640).is_err());
}

/// A handoff folder and a `failed/` on another file system; `None` where there is no second one.
fn two_file_systems() -> Option<(tempfile::TempDir, tempfile::TempDir, RealDisk)> {
    let (here, there) = (tempfile::tempdir().ok()?, tempfile::tempdir_in("/dev/shm").ok()?);
    if fs::metadata(here.path()).ok()?.dev() == fs::metadata(there.path()).ok()?.dev() {
        return None;
    }
    let layout = Layout { failed: Some(there.path().join("failed")), ..layout(here.path()) };
    let disk = RealDisk::open(layout).unwrap();
    Some((here, there, disk))
}

#[test]
fn what_goes_to_another_file_system_arrives_whole_under_its_name_alone() {
    let Some((here, there, disk)) = two_file_systems() else { return };
    let (from, to) = (here.path().join("in"), there.path().join("failed"));
    let carry = |name: &str, clobber| {
        disk.rename((Place::Handoff, Path::new(name)), (Place::Failed, Path::new(name)), clobber)
    };
    let bytes = vec![7; 200_000];
    fs::write(from.join("file"), &bytes).unwrap();
    fs::write(to.join(".new-file"), "half").unwrap();
    carry("file", Clobber::Never).unwrap();
    assert_eq!(fs::read(to.join("file")).unwrap(), bytes);

    fs::write(from.join("file"), "second").unwrap();
    assert_eq!(carry("file", Clobber::Never).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert!(from.join("file").exists(), "the source stays");
    carry("file", Clobber::Replace).unwrap();
    assert_eq!(fs::read(to.join("file")).unwrap(), b"second");

    symlink("/nowhere/at/all", from.join("link")).unwrap();
    pipe(&from.join("pipe"));
    carry("link", Clobber::Never).unwrap();
    carry("pipe", Clobber::Never).unwrap();
    assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/nowhere/at/all"));
    assert!(fs::metadata(to.join("pipe")).unwrap().file_type().is_fifo());

    let _socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
    assert_eq!(carry("socket", Clobber::Never).unwrap_err().kind(), io::ErrorKind::CrossesDevices);
    let mut arrived: Vec<_> =
        fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    arrived.sort();
    assert_eq!(arrived, ["file", "link", "pipe"], "no temporary is left");
    assert!(["file", "link", "pipe"].iter().all(|name| fs::symlink_metadata(from.join(name)).is_err()));
}
