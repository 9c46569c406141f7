use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};

use serde_json::Value;

use super::fake::{ACCEPTED, FakeDisk, Memory, refused, row};
use super::*;
use crate::clock::{HandClock, Mono};
use crate::disk::{EntryKind, Layout, RealDisk};

const STATUS: &str = "intent-1.json-20261121-080000-9f2c31aa.status";

/// A handoff folder on the real file system.
struct Folder {
    root: tempfile::TempDir,
    disk: Arc<RealDisk>,
}

impl Folder {
    fn new() -> Folder {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout { handoff: root.path().join("in"), failed: None, out: root.path().join("out") };
        let disk = Arc::new(RealDisk::open(layout).unwrap());
        Folder { root, disk }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("in").join(name)
    }

    fn settler(&self, archive: Archive, status: StatusForm) -> Settler {
        settler(self.disk.clone(), self.path(""), archive, status)
    }

    /// A delivered row whose file lies in the folder.
    fn dropped(&self, name: &str) -> Row {
        fs::write(self.path(name), ACCEPTED).unwrap();
        self.accepted(name)
    }

    fn accepted(&self, name: &str) -> Row {
        let identity = self.disk.look(Place::Handoff, Path::new(name)).unwrap().unwrap().identity;
        Row { identity, ..row(name) }
    }

    fn status(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path("status").join(name)).unwrap()).unwrap()
    }

    fn journal(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("status").join(JOURNAL)).unwrap();
        text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn settler(disk: Arc<dyn Disk>, handoff: PathBuf, archive: Archive, status: StatusForm) -> Settler {
    let clock = Arc::new(HandClock::at(Mono(0), Wall::parse("2026-11-21T09:00:00Z").unwrap()));
    Settler::new(disk, Arc::new(Memory(true)), Settings { archive, status, handoff, mode: "direct" }, clock)
}

#[test]
fn a_delivered_file_ends_in_processed_with_its_status() {
    let folder = Folder::new();
    let row = folder.dropped("intent-1.json");
    let inode = fs::metadata(folder.path("intent-1.json")).unwrap().ino();
    assert_eq!(folder.settler(Archive::Rename, StatusForm::Files).settle(&row), Settled::Done);
    assert!(!folder.path("intent-1.json").exists());
    assert_eq!(fs::metadata(folder.path("processed/intent-1.json")).unwrap().ino(), inode);
    let status = folder.status(STATUS);
    assert_eq!((&status["fate"], &status["archive"]), (&"delivered".into(), &"original".into()));
    assert_eq!(fs::metadata(folder.path("status").join(STATUS)).unwrap().mode() & 0o777, 0o640);
}

#[test]
fn a_refused_file_ends_in_failed_with_log_and_status() {
    let folder = Folder::new();
    let row = Row { end: Some(refused(Reason::JsonNumber)), ..folder.dropped("intent-1.json") };
    assert_eq!(folder.settler(Archive::Snapshot, StatusForm::Files).settle(&row), Settled::Done);
    assert_eq!(fs::read(folder.path("failed/intent-1.json")).unwrap(), ACCEPTED);
    let log = fs::read_to_string(folder.path("failed/intent-1.json.error.log")).unwrap();
    assert!(log.starts_with(&format!("File: {}\n", folder.path("intent-1.json").display())));
    assert!(log.ends_with("Error: Validation failed: /replicas: \"three\" is not an integer\n\n"));
    assert_eq!(folder.status(STATUS)["archive"], "snapshot");
}

#[test]
fn a_symbolic_link_is_moved_and_not_followed() {
    let folder = Folder::new();
    symlink("/etc/passwd", folder.path("intent-1.json")).unwrap();
    let mut row = Row { sha: None, end: Some(refused(Reason::Symlink)), ..folder.accepted("intent-1.json") };
    row.proof = None;
    assert_eq!(folder.settler(Archive::Rename, StatusForm::Files).settle(&row), Settled::Done);
    assert_eq!(fs::read_link(folder.path("failed/intent-1.json")).unwrap(), Path::new("/etc/passwd"));
}

#[test]
fn the_status_tells_what_the_archive_holds_after_all() {
    let folder = Folder::new();
    let row = folder.dropped("intent-1.json");
    fs::remove_file(folder.path("intent-1.json")).unwrap();
    assert_eq!(folder.settler(Archive::Rename, StatusForm::Files).settle(&row), Settled::Done);
    assert_eq!(folder.status(STATUS)["archive"], "snapshot");
    assert_eq!(fs::read(folder.path("processed/intent-1.json")).unwrap(), ACCEPTED);
}

#[test]
fn a_repeat_is_archived_as_a_copy_of_its_own_and_touches_no_file_of_its_name() {
    let folder = Folder::new();
    let first = folder.dropped("intent-1.json");
    let mut settler = folder.settler(Archive::Rename, StatusForm::Files);
    assert_eq!(settler.settle(&first), Settled::Done);
    fs::write(folder.path("intent-1.json"), ACCEPTED).unwrap();
    let identity = crate::disk::Identity { size: first.identity.size, ..Default::default() };
    let row =
        Row { id: Id(0xabcd_0123_0000_0001), identity, requeue_of: Some(first.id), ..row("intent-1.json") };
    for settled in [settler.settle(&row), settler.settle_again(&row)] {
        assert_eq!(settled, Settled::Done);
        assert_eq!(fs::read(folder.path("intent-1.json")).unwrap(), ACCEPTED, "a new drop");
        assert_eq!(fs::read_dir(folder.path("processed")).unwrap().count(), 2);
        let status = folder.status("intent-1.json-20261121-080000-abcd0123.status");
        assert_eq!(
            (&status["archive"], &status["requeue_of"]),
            (&"snapshot".into(), &"9f2c31aa07d14be2".into())
        );
    }
    let names: Vec<_> = super::shelves(&row).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, [Path::new("intent-1.json"), Path::new("intent-1-abcd0123.json")]);
    let disk = &folder.disk;
    assert_eq!(super::archived(&**disk, &row).unwrap().as_deref(), Some(ACCEPTED));
    names
        .iter()
        .for_each(|name| fs::write(folder.path("processed").join(name), vec![b'x'; ACCEPTED.len()]).unwrap());
    assert_eq!(super::archived(&**disk, &row).unwrap(), None, "other bytes");
    assert_eq!(super::archived(&**disk, &Row { end: None, ..row }).unwrap(), None, "still pending");
}

#[test]
fn settling_again_changes_nothing() {
    let folder = Folder::new();
    let row = Row { end: Some(refused(Reason::JsonNumber)), ..folder.dropped("intent-1.json") };
    let mut settler = folder.settler(Archive::Rename, StatusForm::Files);
    let listing = || {
        let dirs = ["", "processed", "failed", "status", ".conductor"];
        let all = dirs.iter().flat_map(|dir| fs::read_dir(folder.path(dir)).unwrap());
        let mut all: Vec<_> = all.map(|entry| entry.unwrap().path()).collect();
        all.sort();
        let log = fs::read(folder.path("failed/intent-1.json.error.log")).unwrap();
        (all, log, folder.status(STATUS))
    };
    assert_eq!(settler.settle(&row), Settled::Done);
    let once = listing();
    assert_eq!(settler.settle_again(&row), Settled::Done);
    assert_eq!(listing(), once);
}

#[test]
fn a_pending_status_is_replaced_by_the_final_one_under_the_same_name() {
    let folder = Folder::new();
    let row = folder.dropped("intent-1.json");
    let waiting = Row { end: None, ..row.clone() };
    let mut settler = folder.settler(Archive::Rename, StatusForm::Files);
    for attempts in 1..3 {
        settler
            .pending(&waiting, Reason::SinkUnavailable, "connection refused", attempts, Some(Wall(0)))
            .unwrap();
        let status = folder.status(STATUS);
        assert_eq!((&status["fate"], &status["attempts"]), (&"pending".into(), &attempts.into()));
        assert_eq!(status["timestamp"], "2026-11-21T09:00:00Z");
    }
    assert_eq!(settler.settle(&row), Settled::Done);
    assert_eq!(folder.status(STATUS)["fate"], "delivered");
    assert_eq!(fs::read_dir(folder.path("status")).unwrap().count(), 1);
}

fn published() -> Receipt {
    let (name, revision) = ("blueprints.ran.i-1".to_owned(), "4".to_owned());
    Receipt { name, revision, lifecycle: crate::fate::Lifecycle::Published, adopted: false }
}

#[test]
fn what_others_did_at_the_sink_changes_the_remote_and_nothing_else() {
    let folder = Folder::new();
    let mut row = folder.dropped("intent-1.json");
    row.end.as_mut().unwrap().remote.as_mut().unwrap().adopted = true;
    fs::remove_file(folder.path("intent-1.json")).unwrap();
    let mut settler = folder.settler(Archive::Rename, StatusForm::Files);
    assert_eq!(settler.settle(&row), Settled::Done);
    let mut before = folder.status(STATUS);
    assert_eq!(before["archive"], "snapshot", "not what is expected of the settings");
    settler.changed(row, published()).unwrap();
    let after = folder.status(STATUS);
    assert_eq!(after["remote"]["name"], "blueprints.ran.i-1");
    assert_eq!((&after["remote"]["revision"], &after["adopted"]), (&"4".into(), &true.into()));
    before["remote"] = after["remote"].clone();
    assert_eq!(after, before);
}

#[test]
fn news_make_no_status_that_is_not_there_and_add_a_line_to_the_journal() {
    let folder = Folder::new();
    let row = folder.dropped("intent-1.json");
    folder.settler(Archive::Rename, StatusForm::Files).changed(row.clone(), published()).unwrap();
    assert_eq!(fs::read_dir(folder.path("status")).unwrap().count(), 0);
    let mut settler = folder.settler(Archive::Rename, StatusForm::Journal);
    assert_eq!(settler.settle(&row), Settled::Done);
    settler.changed(row.clone(), published()).unwrap();
    settler.changed(Row { end: None, ..row }, published()).unwrap();
    let revisions: Vec<_> = folder.journal().iter().map(|line| line["remote"]["revision"].clone()).collect();
    assert_eq!(revisions, ["3", "4"], "the last line counts");
}

#[test]
fn a_row_without_an_end_is_not_filed() {
    let folder = Folder::new();
    let row = Row { end: None, ..folder.dropped("intent-1.json") };
    let settled = folder.settler(Archive::Rename, StatusForm::Files).settle(&row);
    assert!(matches!(settled, Settled::Unfiled { reason: None, .. }));
    assert!(folder.path("intent-1.json").exists());
}

#[test]
fn a_batch_of_the_journal_is_one_line_each() {
    let folder = Folder::new();
    let rows = ["intent-1.json", "intent-2.json"].map(|name| folder.dropped(name));
    let mut settler = folder.settler(Archive::Rename, StatusForm::Journal);
    assert_eq!(settler.settle_batch(&rows), [Settled::Done, Settled::Done]);
    let names: Vec<_> = folder.journal().iter().map(|line| line["intent_file"].clone()).collect();
    assert_eq!(names, ["intent-1.json", "intent-2.json"]);
    assert!(folder.path("processed/intent-2.json").exists());
    assert_eq!(fs::read_dir(folder.path("status")).unwrap().count(), 1);
}

#[test]
fn half_a_line_of_the_journal_is_never_continued() {
    let folder = Folder::new();
    fs::write(folder.path("status").join(JOURNAL), "{\"schema\":").unwrap();
    let row = folder.dropped("intent-1.json");
    assert_eq!(folder.settler(Archive::Rename, StatusForm::Journal).settle(&row), Settled::Done);
    let text = fs::read_to_string(folder.path("status").join(JOURNAL)).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["fate"], "delivered");
}

#[test]
fn the_journal_is_set_aside_when_it_is_full() {
    let folder = Folder::new();
    let journal = fs::File::create(folder.path("status").join(JOURNAL)).unwrap();
    journal.set_len(JOURNAL_BYTES).unwrap();
    let row = folder.dropped("intent-1.json");
    assert_eq!(folder.settler(Archive::Rename, StatusForm::Journal).settle(&row), Settled::Done);
    assert_eq!(folder.journal().len(), 1);
    assert!(folder.path("status/conductor-loop-20261121-090000.jsonl").exists());
}

#[test]
fn cleaning_up_takes_own_temporary_names_alone() {
    let folder = Folder::new();
    let leftovers = ["status/.tmp-9f2c31aa", "status/.new-x.status", "processed/.new-x", "failed/.new-x"];
    let others = [
        "status/.tmp-else",
        "status/x.status",
        "processed/x",
        ".conductor/ledger.db",
        ".tmp-9f2c31aa",
        ".new-x",
    ];
    for name in leftovers.iter().chain(&others) {
        fs::write(folder.path(name), "").unwrap();
    }
    fs::write(folder.path(".conductor/9f2c31aa07d14be2"), "").unwrap();
    let taken = folder.settler(Archive::Rename, StatusForm::Files).clean_up().unwrap();
    assert_eq!(taken, [Id(0x9f2c_31aa_07d1_4be2)]);
    assert!(leftovers.iter().all(|name| !folder.path(name).exists()));
    assert!(others.iter().all(|name| folder.path(name).exists()));
}

#[test]
fn a_folder_that_forbids_the_move_is_reported_with_its_reason() {
    let (disk, row) = fake();
    disk.refuse(Some((Place::Handoff, ErrorKind::PermissionDenied)));
    let mut settler = settler(disk.clone(), "/drop".into(), Archive::Rename, StatusForm::Files);
    assert!(matches!(settler.settle(&row), Settled::Unfiled { reason: Some(Reason::CannotFile), .. }));
    disk.refuse(None);
    assert_eq!(settler.settle_again(&row), Settled::Done);
}

#[test]
fn without_space_for_the_status_the_original_stays() {
    for form in [StatusForm::Files, StatusForm::Journal] {
        let (disk, row) = fake();
        disk.refuse(Some((Place::Status, ErrorKind::StorageFull)));
        let mut settler = settler(disk.clone(), "/drop".into(), Archive::Rename, form);
        assert!(matches!(settler.settle(&row), Settled::Unfiled { reason: None, .. }));
        assert!(disk.with(|tree| tree.bytes(Place::Handoff, "intent-1.json").is_some()));
        disk.refuse(None);
        assert_eq!(settler.settle_again(&row), Settled::Done);
    }
}

#[test]
fn a_crash_at_any_call_leaves_status_before_archive_and_is_repaired() {
    let (whole, row) = fake();
    whole.with(|tree| tree.drop_in(Place::Status, STATUS, EntryKind::File, b"pending"));
    let run =
        |disk: &Arc<FakeDisk>| settler(disk.clone(), "/drop".into(), Archive::Rename, StatusForm::Files);
    assert_eq!(run(&whole).settle(&row), Settled::Done);
    for calls in 0..=whole.calls() {
        let (cut, row) = fake();
        cut.with(|tree| tree.drop_in(Place::Status, STATUS, EntryKind::File, b"pending"));
        cut.end_power_after(Some(calls));
        let _ = run(&cut).settle(&row);
        cut.with(|tree| {
            let filed = tree.bytes(Place::Processed, "intent-1.json").is_some();
            assert!(!filed || tree.bytes(Place::Status, STATUS) != Some(b"pending"), "after {calls} calls");
        });
        cut.end_power_after(None);
        let mut settler = run(&cut);
        settler.clean_up().unwrap();
        assert_eq!(settler.settle_again(&row), Settled::Done);
        assert_eq!(
            cut.with(|tree| tree.contents()),
            whole.with(|tree| tree.contents()),
            "after {calls} calls"
        );
    }
}

fn fake() -> (Arc<FakeDisk>, Row) {
    let disk = Arc::new(FakeDisk::default());
    let identity = disk.with(|tree| tree.drop_in(Place::Handoff, "intent-1.json", EntryKind::File, ACCEPTED));
    (disk, Row { identity, ..row("intent-1.json") })
}
