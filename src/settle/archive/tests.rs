use super::*;
use crate::disk::Identity;
use crate::fate::Reason;
use crate::settle::fake::{ACCEPTED, FakeDisk, Memory, refused, row};

const NAME: &str = "intent-1.json";
const OWN: &str = "intent-1-9f2c31aa.json";
const PRIVATE: &str = "9f2c31aa07d14be2";
const NEWER: &[u8] = b"{\"replicas\": 9}";

/// A disk with one accepted file, and what files it.
struct Scene {
    disk: Arc<FakeDisk>,
    row: Row,
    filer: Filer,
}

impl Scene {
    fn new(form: Archive, kind: EntryKind) -> Scene {
        Scene::named(NAME, form, kind)
    }

    fn named(name: &str, form: Archive, kind: EntryKind) -> Scene {
        let disk = Arc::new(FakeDisk::default());
        let mut row = row(name);
        row.identity = disk.with(|tree| tree.drop_in(Place::Handoff, name, kind, ACCEPTED));
        let filer = Filer::new(disk.clone(), Arc::new(Memory(true)), form, "/drop".into());
        Scene { disk, row, filer }
    }

    fn delivered() -> Scene {
        Scene::new(Archive::Rename, EntryKind::File)
    }

    fn refused(form: Archive) -> Scene {
        let mut scene = Scene::new(form, EntryKind::File);
        scene.row.end = Some(refused(Reason::JsonNumber));
        scene
    }

    fn unread(kind: EntryKind, reason: Reason) -> Scene {
        let mut scene = Scene::new(Archive::Rename, kind);
        (scene.row.sha, scene.row.end) = (None, Some(refused(reason)));
        scene.filer.recall = Arc::new(Memory(false));
        scene
    }

    fn file(&self, pass: Pass) -> Step<Option<Kept>> {
        self.filer.file(Case { row: &self.row, end: self.row.end.as_ref().unwrap(), pass })
    }

    fn bytes(&self, at: Place, name: &str) -> Option<Vec<u8>> {
        self.disk.with(|tree| tree.bytes(at, name).map(<[u8]>::to_vec))
    }

    fn contents(&self) -> Vec<String> {
        self.disk.with(|tree| tree.contents())
    }

    fn taken_in_archive(self, at: Place) -> Scene {
        self.disk.with(|tree| tree.drop_in(at, NAME, EntryKind::File, b"an earlier one"));
        self
    }

    fn removed_by_dropper(self) -> Scene {
        self.disk.with(|tree| tree.nodes.remove(&(Place::Handoff, NAME.into())));
        self
    }

    fn replaced_by_dropper(self) -> Scene {
        self.disk.with(|tree| tree.drop_in(Place::Handoff, NAME, EntryKind::File, NEWER));
        self
    }
}

#[test]
fn a_delivered_original_goes_to_processed_in_four_calls() {
    let scene = Scene::delivered();
    assert_eq!(scene.file(Pass::First), Ok(Some(Kept::Original)));
    assert_eq!(scene.contents(), [format!("Processed/{NAME} {{\"replicas\": 3}}")]);
    assert_eq!(scene.disk.calls(), 4);
}

#[test]
fn a_refused_original_goes_to_failed_with_its_log() {
    let scene = Scene::refused(Archive::Rename);
    assert_eq!(scene.file(Pass::First), Ok(Some(Kept::Original)));
    assert_eq!(scene.bytes(Place::Failed, NAME).as_deref(), Some(ACCEPTED));
    let log = scene.bytes(Place::Failed, "intent-1.json.error.log").unwrap();
    assert!(log.starts_with(
        b"File: /drop/intent-1.json\nFailed at: 2026-11-21T08:00:00Z\nError: Validation failed: "
    ));
}

#[test]
fn a_taken_archive_name_gives_way_to_one_with_the_id() {
    let scene = Scene::delivered().taken_in_archive(Place::Processed);
    assert_eq!(scene.file(Pass::First), Ok(Some(Kept::Original)));
    assert_eq!(scene.bytes(Place::Processed, OWN).as_deref(), Some(ACCEPTED));
    assert_eq!(scene.bytes(Place::Processed, NAME).as_deref(), Some(&b"an earlier one"[..]));
}

#[test]
fn the_log_follows_the_archive_name() {
    let scene = Scene::refused(Archive::Rename).taken_in_archive(Place::Failed);
    scene.file(Pass::First).unwrap();
    assert!(scene.bytes(Place::Failed, "intent-1-9f2c31aa.json.error.log").is_some());
    assert!(scene.bytes(Place::Failed, "intent-1.json.error.log").is_none());
}

#[test]
fn a_name_of_255_bytes_is_cut_and_carries_the_id() {
    let name = format!("intent-{}.json", "ü".repeat(121));
    let scene = Scene::named(&name, Archive::Rename, EntryKind::File);
    assert_eq!(scene.file(Pass::First), Ok(Some(Kept::Original)));
    let kept = format!("intent-{}-9f2c31aa.json", "ü".repeat(96));
    assert!(kept.len() <= 214);
    assert_eq!(scene.bytes(Place::Processed, &kept).as_deref(), Some(ACCEPTED));
}

#[test]
fn a_name_below_a_sub_directory_is_archived_under_its_last_component() {
    let scene = Scene::named("a/b/intent-1.json", Archive::Rename, EntryKind::File);
    scene.file(Pass::First).unwrap();
    assert_eq!(scene.bytes(Place::Processed, NAME).as_deref(), Some(ACCEPTED));
}

#[test]
fn a_name_without_an_extension_keeps_none() {
    assert_eq!(own_name(&row("intent")), Path::new("intent-9f2c31aa"));
}

#[test]
fn what_the_dropper_removed_is_archived_from_the_ledger() {
    let scene = Scene::delivered().removed_by_dropper();
    assert_eq!(scene.file(Pass::First), Ok(Some(Kept::Snapshot)));
    assert_eq!(scene.bytes(Place::Processed, NAME).as_deref(), Some(ACCEPTED));
}

#[test]
fn a_new_drop_under_the_same_name_stays() {
    let scene = Scene::delivered().replaced_by_dropper();
    assert_eq!(scene.file(Pass::First), Ok(Some(Kept::Snapshot)));
    assert_eq!(scene.bytes(Place::Handoff, NAME).as_deref(), Some(NEWER));
    assert_eq!(scene.bytes(Place::Processed, NAME).as_deref(), Some(ACCEPTED));
}

#[test]
fn bytes_changed_behind_a_forged_time_are_a_new_drop() {
    let scene = Scene::delivered();
    scene.disk.with(|tree| tree.forge(Place::Handoff, NAME, NEWER));
    assert_eq!(scene.file(Pass::First), Ok(Some(Kept::Snapshot)));
    assert_eq!(scene.bytes(Place::Handoff, NAME).as_deref(), Some(NEWER));
    assert_eq!(scene.bytes(Place::Processed, NAME).as_deref(), Some(ACCEPTED));
}

#[test]
fn a_changed_ctime_alone_is_settled_by_the_hash() {
    let scene = Scene::delivered();
    scene.disk.with(|tree| tree.forge(Place::Handoff, NAME, ACCEPTED));
    assert_eq!(scene.file(Pass::First), Ok(Some(Kept::Original)));
    assert_eq!(scene.bytes(Place::Handoff, NAME), None);
}

#[test]
fn another_device_number_after_a_restart_does_not_matter() {
    let mut scene = Scene::delivered();
    scene.row.identity = Identity { dev: 99, ..scene.row.identity };
    assert_eq!(scene.file(Pass::Again), Ok(Some(Kept::Original)));
}

#[test]
fn strange_entries_are_moved_themselves() {
    for (kind, reason) in [
        (EntryKind::Symlink, Reason::Symlink),
        (EntryKind::Fifo, Reason::NotRegular),
        (EntryKind::Socket, Reason::NotRegular),
        (EntryKind::Device, Reason::NotRegular),
        (EntryKind::Directory, Reason::NotRegular),
    ] {
        let scene = Scene::unread(kind, reason);
        assert_eq!(scene.file(Pass::First), Ok(Some(Kept::Original)), "{kind:?}");
        let kept = scene.disk.with(|tree| tree.nodes[&(Place::Failed, NAME.into())].kind);
        assert_eq!(kept, kind);
    }
}

#[test]
fn an_unread_file_that_changed_is_judged_anew() {
    let scene = Scene::unread(EntryKind::File, Reason::Unreadable);
    scene.disk.with(|tree| tree.forge(Place::Handoff, NAME, ACCEPTED));
    assert_eq!(scene.file(Pass::First), Ok(None));
    assert_eq!(scene.contents(), [format!("Handoff/{NAME} {{\"replicas\": 3}}")]);
}

#[test]
fn a_file_behind_a_refused_name_that_became_a_link_stays() {
    let scene = Scene::delivered();
    scene.disk.with(|tree| tree.drop_in(Place::Handoff, NAME, EntryKind::Symlink, b"/etc/shadow"));
    assert_eq!(scene.file(Pass::First), Ok(Some(Kept::Snapshot)));
    assert_eq!(scene.bytes(Place::Handoff, NAME).as_deref(), Some(&b"/etc/shadow"[..]));
}

#[test]
fn a_snapshot_is_written_and_the_original_removed() {
    let scene = Scene::new(Archive::Snapshot, EntryKind::File);
    assert_eq!(scene.file(Pass::First), Ok(Some(Kept::Snapshot)));
    assert_eq!(scene.contents(), [format!("Processed/{NAME} {{\"replicas\": 3}}")]);
}

#[test]
fn without_a_payload_the_original_is_kept_instead_of_a_snapshot() {
    let mut scene = Scene::new(Archive::Snapshot, EntryKind::File);
    scene.filer.recall = Arc::new(Memory(false));
    assert_eq!(scene.file(Pass::First), Ok(Some(Kept::Original)));
    assert_eq!(scene.bytes(Place::Processed, NAME).as_deref(), Some(ACCEPTED));
}

#[test]
fn equal_files_each_have_their_snapshot() {
    let scene = Scene::new(Archive::Snapshot, EntryKind::File);
    scene.disk.with(|tree| tree.drop_in(Place::Processed, NAME, EntryKind::File, ACCEPTED));
    assert_eq!(scene.file(Pass::First), Ok(Some(Kept::Snapshot)));
    assert_eq!(scene.bytes(Place::Processed, OWN).as_deref(), Some(ACCEPTED));
}

#[test]
fn a_folder_that_forbids_the_move_is_stuck() {
    for kind in [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem] {
        let scene = Scene::delivered();
        scene.disk.refuse(Some((Place::Handoff, kind)));
        assert!(matches!(scene.file(Pass::First), Err(Trouble::Stuck(_))));
        scene.disk.refuse(None);
        assert_eq!(scene.file(Pass::Again), Ok(Some(Kept::Original)));
    }
}

#[test]
fn a_full_archive_is_tried_again() {
    for scene in [Scene::delivered(), Scene::refused(Archive::Rename), Scene::refused(Archive::Snapshot)] {
        let at = archive_place(scene.row.end.as_ref().unwrap());
        scene.disk.refuse(Some((at, ErrorKind::StorageFull)));
        assert!(matches!(scene.file(Pass::First), Err(Trouble::Later(_))));
        scene.disk.refuse(None);
        assert!(scene.file(Pass::Again).is_ok());
        assert_eq!(scene.bytes(at, NAME).as_deref(), Some(ACCEPTED));
    }
}

#[test]
fn a_new_drop_that_was_taken_by_mistake_waits_until_its_name_is_free() {
    let scene = Scene::delivered();
    scene.disk.with(|tree| tree.drop_in(Place::Private, PRIVATE, EntryKind::File, NEWER));
    scene.disk.with(|tree| tree.drop_in(Place::Handoff, NAME, EntryKind::File, b"newest"));
    assert!(matches!(scene.file(Pass::Again), Err(Trouble::Later(_))));
    assert_eq!(scene.bytes(Place::Private, PRIVATE).as_deref(), Some(NEWER));

    scene.disk.with(|tree| tree.nodes.remove(&(Place::Handoff, NAME.into())));
    assert_eq!(scene.file(Pass::Again), Ok(Some(Kept::Snapshot)));
    assert_eq!(scene.bytes(Place::Handoff, NAME).as_deref(), Some(NEWER));
}

#[test]
fn a_file_without_a_row_is_given_back() {
    let scene = Scene::delivered().removed_by_dropper();
    scene.disk.with(|tree| tree.drop_in(Place::Private, PRIVATE, EntryKind::File, NEWER));
    scene.filer.give_back(scene.row.id).unwrap();
    assert_eq!(scene.bytes(Place::Handoff, "intent-9f2c31aa07d14be2.json").as_deref(), Some(NEWER));
}

type Titled = (&'static str, fn() -> Scene);

/// Every kind of scene, for the tests that cut them short.
fn scenes() -> Vec<Titled> {
    vec![
        ("delivered", Scene::delivered),
        ("refused", || Scene::refused(Archive::Rename)),
        ("name taken", || Scene::delivered().taken_in_archive(Place::Processed)),
        ("refused, name taken", || Scene::refused(Archive::Rename).taken_in_archive(Place::Failed)),
        ("removed", || Scene::delivered().removed_by_dropper()),
        ("replaced", || Scene::delivered().replaced_by_dropper()),
        ("refused, replaced", || Scene::refused(Archive::Rename).replaced_by_dropper()),
        ("removed, name taken", || {
            Scene::delivered().removed_by_dropper().taken_in_archive(Place::Processed)
        }),
        ("symlink", || Scene::unread(EntryKind::Symlink, Reason::Symlink)),
        ("too large", || Scene::unread(EntryKind::File, Reason::TooLarge)),
        ("forged", || {
            let scene = Scene::delivered();
            scene.disk.with(|tree| tree.forge(Place::Handoff, NAME, NEWER));
            scene
        }),
        ("touched", || {
            let scene = Scene::delivered();
            scene.disk.with(|tree| tree.forge(Place::Handoff, NAME, ACCEPTED));
            scene
        }),
        ("snapshot", || Scene::new(Archive::Snapshot, EntryKind::File)),
        ("snapshot, refused", || Scene::refused(Archive::Snapshot)),
        ("snapshot, name taken", || {
            Scene::new(Archive::Snapshot, EntryKind::File).taken_in_archive(Place::Processed)
        }),
        ("snapshot, replaced", || Scene::new(Archive::Snapshot, EntryKind::File).replaced_by_dropper()),
    ]
}

#[test]
fn a_crash_between_any_two_acts_leads_to_the_same_end() {
    for (title, scene) in scenes() {
        let whole = scene();
        whole.file(Pass::First).unwrap();
        for first in 0..=whole.disk.calls() {
            for second in 0..8 {
                let cut = scene();
                for (calls, pass) in [(first, Pass::First), (second, Pass::Again)] {
                    cut.disk.end_power_after(Some(calls));
                    let _ = cut.file(pass);
                }
                cut.disk.end_power_after(None);
                cut.file(Pass::Again).unwrap();
                assert_eq!(cut.contents(), whole.contents(), "{title}, cut after {first} and {second} calls");
            }
        }
    }
}

#[test]
fn a_dropper_between_any_two_acts_loses_nothing() {
    for (title, scene) in scenes() {
        let whole = scene();
        whole.file(Pass::First).unwrap();
        for call in 1..=whole.disk.calls() {
            let raced = scene();
            raced.disk.before_call(call, |tree| {
                tree.drop_in(Place::Handoff, NAME, EntryKind::File, b"a new drop");
            });
            if raced.file(Pass::First).is_err() {
                raced.disk.with(|tree| {
                    let newest = tree.nodes.remove(&(Place::Handoff, NAME.into()));
                    assert_eq!(newest.unwrap().bytes, b"a new drop", "{title}, call {call}");
                });
                assert!(raced.file(Pass::Again).is_ok(), "{title}, call {call}");
            } else {
                let dropped = raced.bytes(Place::Handoff, NAME);
                assert_eq!(dropped.as_deref(), Some(&b"a new drop"[..]), "{title}, call {call}");
            }
            assert_eq!(raced.bytes(Place::Private, PRIVATE), None, "{title}, call {call}");
            let kept = raced.contents();
            let has = |bytes: &[u8]| kept.iter().any(|line| line.ends_with(&*String::from_utf8_lossy(bytes)));
            assert!(raced.row.sha.is_none() || has(ACCEPTED), "{title}, call {call}: {kept:?}");
        }
    }
}
