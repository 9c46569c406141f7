//! Deliberate repeats, what intents have to do with each other, and ledgers from before there were any.

use super::*;
use crate::ledger::kin::Filing;

/// A repeat of an ended row, as a request makes it.
fn repeat(bed: &mut Bed, of: &Row, content: &str, request: u64) -> Entry {
    let identity =
        Identity { size: content.len() as u64, mtime_ns: of.identity.mtime_ns, ..Identity::default() };
    let name = std::str::from_utf8(&of.name).unwrap().to_owned();
    let repeat = Some(Repeat { of: of.id, generation: of.generation, request });
    Entry { identity, repeat, ..bed.file(&name, content) }
}

fn accepted(bed: &mut Bed, entry: &Entry) -> Row {
    match bed.accept(entry) {
        Judged::Open(row) => row,
        other => panic!("a repeat should be open, is {other:?}"),
    }
}

fn reader(bed: &Bed) -> Reader {
    Reader::open(&bed.settings.dir).unwrap()
}

#[test]
fn a_repeat_is_open_whatever_it_repeats_and_its_generation_is_higher() {
    for scope in [DedupScope::NameAndContent, DedupScope::Content] {
        let mut bed = Bed::with(|settings| settings.dedup_scope = scope);
        let first = bed.delivered("a.json", "3");
        let entry = repeat(&mut bed, &first, "3", 1);
        let second = accepted(&mut bed, &entry);
        assert_eq!((second.generation, second.requeue_of), (1, Some(first.id)));
        assert_eq!(bed.store().row(second.seq).unwrap(), second, "what is handed on is what was written");
        // While it is pending already, and from the first one again.
        let entry = repeat(&mut bed, &first, "3", 2);
        assert_eq!(accepted(&mut bed, &entry).generation, 2);
        let dropped = bed.file("a.json", "3");
        assert_eq!(bed.ended_row(&dropped).1.fate, Fate::Duplicate, "a file is none");
        bed.crash();
        assert_eq!(bed.store().row(second.seq).unwrap(), second);
        let entry = repeat(&mut bed, &second, "3", 3);
        assert_eq!(accepted(&mut bed, &entry).generation, 3);
    }
}

#[test]
fn a_refused_row_that_is_tried_again_counts_from_then_on() {
    let mut bed = Bed::new();
    let bad = Entry { verdict: Some(refusal(Reason::Policy)), ..bed.file("a.json", "3") };
    let (refused, _) = bed.ended_row(&bad);
    let again = Entry { verdict: Some(refusal(Reason::Policy)), ..repeat(&mut bed, &refused, "3", 1) };
    let (row, end) = bed.ended_row(&again);
    assert_eq!((end.reason, row.requeue_of), (Some(Reason::Policy), Some(refused.id)));
    let entry = repeat(&mut bed, &refused, "3", 2);
    let row = accepted(&mut bed, &entry);
    bed.end(&row, Fate::Delivered);
    assert_eq!(row.generation, 1);
    let dropped = bed.file("a.json", "3");
    assert_eq!(bed.ended_row(&dropped).1.related, Some(row.id));
}

#[test]
fn a_repeat_makes_no_file_late_and_is_known_for_no_file() {
    let mut bed = Bed::new();
    let first = bed.delivered("a.json", "3");
    bed.clock.advance(DAY);
    let entry = repeat(&mut bed, &first, "3", 1);
    let second = accepted(&mut bed, &entry);
    let scanned = Entry { source: Source::Scan, ..bed.file("b.json", "4") };
    let scanned = Entry { identity: Identity { ctime_ns: START.0 + 1, ..scanned.identity }, ..scanned };
    assert!(matches!(bed.accept(&scanned), Judged::Open(_)), "newer than a.json, older than its repeat");
    // The repeat cannot be filed, nor could the first: the file in the folder is still the first one's.
    bed.end(&second, Fate::Delivered);
    let mut batch = bed.store().begin().unwrap();
    batch.unfiled(first.seq, Reason::CannotFile).unwrap();
    batch.unfiled(second.seq, Reason::CannotFile).unwrap();
    batch.commit().unwrap();
    let seen = Entry { identity: first.identity, ..bed.file("a.json", "3") };
    for _ in 0..2 {
        assert!(matches!(bed.accept(&seen), Judged::Known(row) if row.seq == first.seq));
        bed.crash();
    }
}

#[test]
fn a_request_is_recognised_once_its_row_is_durable_and_not_before() {
    let mut bed = Bed::new();
    let first = bed.delivered("a.json", "3");
    let entry = repeat(&mut bed, &first, "3", 77);
    let mut batch = bed.store().begin().unwrap();
    assert!(matches!(batch.accept(&entry).unwrap(), Judged::Open(_)));
    drop(batch);
    assert_eq!(reader(&bed).made_by(77).unwrap(), None);
    let row = accepted(&mut bed, &entry);
    bed.crash();
    let reader = reader(&bed);
    assert_eq!((reader.made_by(77).unwrap(), reader.made_by(78).unwrap()), (Some(row.id), None));
    assert_eq!(
        (reader.requeued_as(first.id).unwrap(), reader.requeued_as(row.id).unwrap()),
        (Some(row.id), None)
    );
}

#[test]
fn relatives_are_found_both_ways_and_rows_with_or_without_their_number() {
    let mut bed = Bed::new();
    let first = bed.delivered("a.json", "3");
    let twin = bed.file("a.json", "3");
    let (twin, _) = bed.ended_row(&twin);
    let entry = repeat(&mut bed, &first, "3", 1);
    let again = accepted(&mut bed, &entry);
    let reader = reader(&bed);
    assert_eq!(reader.followers(first.id).unwrap(), [twin.clone(), again.clone()]);
    assert_eq!(reader.followers(again.id).unwrap(), []);
    for at in [None, Some(twin.seq), Some(99)] {
        assert_eq!(reader.row(twin.id, at).unwrap().as_ref(), Some(&twin));
    }
    assert_eq!(reader.row(Id(1), Some(twin.seq)).unwrap(), None);
    let first = reader.row(first.id, None).unwrap().unwrap();
    assert_eq!(
        (reader.filing(&first).unwrap(), reader.filing(&again).unwrap()),
        (Filing::Open, Filing::Open)
    );
    drop(reader);
    let mut batch = bed.store().begin().unwrap();
    batch.unfiled(first.seq, Reason::CannotFile).unwrap();
    batch.commit().unwrap();
    bed.close_all();
    let reader = Reader::open(&bed.settings.dir).unwrap();
    let since = bed.clock.wall();
    assert_eq!(reader.filing(&first).unwrap(), Filing::Unfiled { reason: Some(Reason::CannotFile), since });
    assert_eq!(reader.filing(&twin).unwrap(), Filing::Closed);
}

#[test]
fn a_repeat_that_is_removed_for_its_age_leaves_nothing() {
    let mut bed = Bed::with(|settings| settings.keep_for = DAY);
    let first = bed.delivered("a.json", "3");
    let entry = repeat(&mut bed, &first, "3", 1);
    let row = accepted(&mut bed, &entry);
    bed.end(&row, Fate::Delivered);
    bed.close_all();
    while bed.store().sweep(10).unwrap() {}
    bed.clock.advance(2 * DAY);
    bed.delivered("young.json", "3");
    while bed.store().prune(10).unwrap() {}
    assert_eq!(bed.sql::<i64>("SELECT count(*) FROM requeue"), 0);
    assert_eq!(bed.store().counts().accepted, 1);
}

/// A ledger as the version before requests left it, closed, with one delivered file.
fn of_version_1() -> (Bed, Row) {
    let mut bed = Bed::new();
    let row = bed.delivered("a.json", "3");
    bed.age();
    (bed, row)
}

#[test]
fn an_older_ledger_is_read_as_it_is_and_led_to_this_version() {
    let (mut bed, row) = of_version_1();
    let before = std::fs::read(bed.settings.path()).unwrap();
    let found = reader(&bed);
    assert_eq!(found.row(row.id, None).unwrap().map(|row| row.requeue_of), Some(None));
    assert_eq!((found.followers(row.id).unwrap(), found.requeued_as(row.id).unwrap()), (Vec::new(), None));
    drop(found);
    assert_eq!(std::fs::read(bed.settings.path()).unwrap(), before, "nothing was written");
    bed.open();
    assert_eq!(bed.sql::<i64>("PRAGMA user_version"), schema::VERSION);
    let entry = repeat(&mut bed, &row, "3", 1);
    let again = accepted(&mut bed, &entry);
    assert_eq!(bed.sql::<String>("SELECT requeue_of FROM history WHERE seq = 2"), row.id.to_string());
    assert_eq!(again.generation, 1);
}

#[test]
fn a_damaged_older_ledger_loses_nothing_for_its_age() {
    let (mut bed, row) = of_version_1();
    let conn = schema::connect(&bed.settings.path()).unwrap();
    conn.execute_batch(
        "INSERT INTO outcome SELECT 99, 98, fate, reason, message, errors, sink, remote, revision, \
         lifecycle, adopted, attempts, related, finished, duration FROM outcome",
    )
    .unwrap();
    drop(conn);
    bed.open();
    let told = bed.store().opened().rebuilt.clone().unwrap();
    assert!(told.contains("1 intents and 1 outcomes were carried over, 1 rows were lost"), "{told}");
    assert_eq!(bed.store().row(row.seq).unwrap().id, row.id);
}

#[test]
fn a_rebuilt_ledger_still_knows_requests() {
    let mut bed = Bed::new();
    let first = bed.delivered("a.json", "3");
    let entry = repeat(&mut bed, &first, "3", 5);
    let row = accepted(&mut bed, &entry);
    bed.store()
        .conn
        .execute_batch(
            "INSERT INTO outcome SELECT 99, 98, fate, reason, message, errors, sink, remote, \
         revision, lifecycle, adopted, attempts, related, finished, duration FROM outcome LIMIT 1",
        )
        .unwrap();
    bed.crash();
    assert!(bed.store().opened().rebuilt.is_some());
    assert_eq!(bed.store().row(row.seq).unwrap().requeue_of, Some(first.id));
    assert_eq!(reader(&bed).made_by(5).unwrap(), Some(row.id));
}

#[test]
fn a_repeat_has_no_device() {
    let mut bed = Bed::new();
    let first = bed.delivered("a.json", "3");
    let entry = repeat(&mut bed, &first, "3", 1);
    accepted(&mut bed, &entry);
    assert_eq!(reader(&bed).condition("boot-1").unwrap().device, Some(first.identity.dev));
}
