use super::*;
use crate::settle::fake::FakeDisk;

const HOUR: Duration = Duration::from_secs(3600);
const PENDING: &[u8] = b"{\n  \"schema\": \"x\",\n  \"status\": \"pending\",\n  \"fate\": \"pending\"\n}\n";

/// A disk on which entry number `n` of all was made at nanosecond `n`.
fn disk(entries: &[(Place, &str, &[u8])]) -> Arc<FakeDisk> {
    let disk = Arc::new(FakeDisk::default());
    for (at, name, bytes) in entries {
        disk.with(|tree| tree.drop_in(*at, name, EntryKind::File, bytes));
    }
    disk
}

fn names(disk: &FakeDisk) -> Vec<String> {
    let mut names: Vec<_> =
        disk.with(|tree| tree.nodes.keys().map(|(_, name)| name.display().to_string()).collect());
    names.sort();
    names
}

/// Steps until the round is over, each at the moment that the one before named.
fn round(retention: &mut Retention, wall: Wall) -> (u64, usize) {
    let (mut now, mut deleted, mut steps) = (Mono(0), 0, 0);
    loop {
        let report = retention.step(now, wall);
        assert_eq!(report.fault, None);
        assert!(report.deleted <= PORTION + 1);
        (deleted, steps) = (deleted + report.deleted, steps + 1);
        if report.next == now.after(ROUND_TIME) {
            return (deleted, steps);
        }
        assert_eq!(report.next, now.after(PORTION_TIME));
        now = report.next;
    }
}

#[test]
fn what_is_older_than_the_limit_goes() {
    let disk = disk(&[(Place::Processed, "old", b"1"), (Place::Processed, "new", b"2")]);
    let mut retention = Retention::new(disk.clone(), HOUR, 0);
    assert_eq!(round(&mut retention, Wall(2).after(HOUR)).0, 1);
    assert_eq!(names(&disk), ["new"]);
}

#[test]
fn other_limits_hold_from_the_next_step_on() {
    let disk = disk(&[(Place::Processed, "a", b"12345"), (Place::Processed, "b", b"12345")]);
    let mut retention = Retention::new(disk.clone(), Duration::ZERO, 0);
    round(&mut retention, Wall(0));
    let before = retention.next;
    retention.set_limits(Duration::ZERO, 0);
    assert_eq!(retention.next, before, "the same limits change nothing");
    retention.set_limits(Duration::ZERO, 7);
    assert_eq!(retention.step(Mono(1), Wall(0)).deleted, 1);
    assert_eq!(names(&disk), ["b"]);
}

#[test]
fn the_oldest_go_until_the_rest_fits() {
    let entries = [
        (Place::Processed, "a", &b"12345"[..]),
        (Place::Processed, "b", b"12345"),
        (Place::Failed, "c", b"12345"),
    ];
    let disk = disk(&entries);
    round(&mut Retention::new(disk.clone(), Duration::ZERO, 7), Wall(0));
    assert_eq!(names(&disk), ["b", "c"], "each place has its own size");
}

#[test]
fn an_error_log_goes_with_its_file_and_alone_if_that_is_gone() {
    let disk = disk(&[
        (Place::Failed, "a.error.log", b"log"),
        (Place::Failed, "a", b"1"),
        (Place::Failed, "gone.error.log", b"log"),
        (Place::Failed, "b.error.log", b"log"),
        (Place::Failed, "b", b"2"),
    ]);
    assert_eq!(round(&mut Retention::new(disk.clone(), HOUR, 0), Wall(4).after(HOUR)).0, 3);
    assert_eq!(names(&disk), ["b", "b.error.log"]);
}

#[test]
fn a_pending_status_and_the_journal_in_use_stay() {
    let disk = disk(&[
        (Place::Status, "a.status", PENDING),
        (Place::Status, "b.status", b"{\n  \"status\": \"success\",\n  \"message\": \"pending\"\n}\n"),
        (Place::Status, JOURNAL, b"{}"),
        (Place::Status, "conductor-loop-20261121-080000.jsonl", b"{}"),
        (Place::Status, ".tmp-9f2c31aa", b""),
    ]);
    assert_eq!(round(&mut Retention::new(disk.clone(), HOUR, 0), Wall(9).after(HOUR)).0, 2);
    assert_eq!(names(&disk), [".tmp-9f2c31aa", "a.status", JOURNAL]);
}

#[test]
fn more_than_a_portion_takes_more_than_a_second() {
    let disk = disk(&[]);
    for n in 0..12_345 {
        disk.with(|tree| tree.drop_in(Place::Processed, &format!("f{n:05}"), EntryKind::File, b"x"));
    }
    let mut retention = Retention::new(disk.clone(), HOUR, 0);
    let (deleted, steps) = round(&mut retention, Wall(12_346).after(HOUR));
    assert_eq!(deleted, 12_345);
    assert!((13..=17).contains(&steps), "{steps} steps");
    assert!(names(&disk).is_empty());
}

#[test]
fn a_round_with_nothing_to_do_is_three_listings() {
    let disk = disk(&[(Place::Processed, "a", b"1")]);
    let calls = disk.calls();
    assert_eq!(round(&mut Retention::new(disk.clone(), HOUR, 1 << 30), Wall(5)), (0, 3));
    assert_eq!(disk.calls() - calls, 4);
}

#[test]
fn a_file_that_cannot_be_removed_is_reported_and_passed_over() {
    let disk = disk(&[(Place::Processed, "a", b"1"), (Place::Failed, "b", b"1")]);
    disk.refuse(Some((Place::Processed, io::ErrorKind::PermissionDenied)));
    let mut retention = Retention::new(disk.clone(), HOUR, 0);
    let first = retention.step(Mono(0), Wall(9).after(HOUR));
    assert_eq!((first.deleted, first.fault.is_some()), (0, true));
    assert_eq!(retention.step(first.next, Wall(9).after(HOUR)).deleted, 1);
    assert_eq!(names(&disk), ["a"]);
}

#[test]
fn without_limits_nothing_goes() {
    let disk = disk(&[(Place::Processed, "a", b"1")]);
    assert_eq!(round(&mut Retention::new(disk.clone(), Duration::ZERO, 0), Wall(i64::MAX)).0, 0);
}

#[test]
fn a_sparse_file_of_any_size_pushes_nothing_out() {
    let disk = disk(&[(Place::Failed, "a", b"1"), (Place::Failed, "huge", b"2")]);
    disk.with(|tree| tree.nodes.get_mut(&(Place::Failed, "huge".into())).unwrap().identity.size = 1 << 40);
    assert_eq!(round(&mut Retention::new(disk.clone(), Duration::ZERO, 1 << 30), Wall(0)).0, 0);
    assert_eq!(names(&disk), ["a", "huge"]);
}

#[test]
fn what_goes_for_size_is_told_once_and_what_goes_for_age_is_not() {
    let disk = disk(&[
        (Place::Processed, "old", b"12345"),
        (Place::Processed, "young", b"12345"),
        (Place::Processed, "youngest", b"12345"),
    ]);
    let mut retention = Retention::new(disk.clone(), HOUR, 5);
    let (mut now, mut told) = (Mono(0), Vec::new());
    for _ in 0..4 {
        let report = retention.step(now, Wall(2).after(HOUR));
        told.push((report.deleted, report.crowded_out));
        now = report.next;
    }
    assert_eq!(told, [(2, 0), (0, 0), (0, 1), (0, 0)]);
    assert_eq!(names(&disk), ["youngest"]);
}

#[test]
fn a_step_before_its_time_touches_nothing() {
    let disk = disk(&[(Place::Processed, "a", b"1")]);
    let mut retention = Retention::new(disk.clone(), HOUR, 1 << 30);
    let mut rest = retention.step(Mono(0), Wall(5)).next;
    rest = retention.step(rest, Wall(5)).next;
    let last = rest;
    rest = retention.step(last, Wall(5)).next;
    let calls = disk.calls();
    for second in 0..600 {
        let early = retention.step(last.after(Duration::from_secs(second)), Wall(5));
        assert_eq!((early.deleted, early.next), (0, rest));
    }
    assert_eq!(disk.calls(), calls);
    retention.step(rest, Wall(5));
    assert!(disk.calls() > calls);
}
