//! Payloads, retention, the log, a lost state directory, and reading beside all that.

use std::fs;
use std::ops::ControlFlow;

use super::*;

fn history(reader: &Reader, filter: &Filter) -> Vec<Row> {
    let mut rows = Vec::new();
    reader
        .history(filter, &mut |row| {
            rows.push(row);
            ControlFlow::Continue(())
        })
        .unwrap();
    rows
}

#[test]
fn payloads_go_after_closing_and_not_before() {
    let mut bed = Bed::new();
    let large = "z".repeat(100_000);
    for n in 0..4 {
        bed.delivered(&format!("{n}.json"), "3");
    }
    let spooled = bed.delivered("large.json", &large);
    let pending = bed.open_row("p.json", "3");
    let stuck = bed.delivered("stuck.json", "3");
    assert!(!bed.store().sweep(2).unwrap(), "nothing is closed");
    let mut batch = bed.store().begin().unwrap();
    batch.unfiled(stuck.seq, Reason::CannotFile).unwrap();
    batch.commit().unwrap();
    bed.close_all();
    assert!(bed.store().sweep(2).unwrap());
    while bed.store().sweep(2).unwrap() {}
    assert_eq!(bed.store().payload(spooled.seq).unwrap(), None);
    assert_eq!(fs::read_dir(bed.settings.dir.join("spool")).unwrap().count(), 0);
    assert!(bed.store().payload(pending.seq).unwrap().is_some());
    assert!(bed.store().payload(stuck.seq).unwrap().is_some());
    let mut batch = bed.store().begin().unwrap();
    batch.filed(stuck.seq).unwrap();
    batch.commit().unwrap();
    assert_eq!(bed.store().payload(stuck.seq).unwrap(), None);
}

#[test]
fn old_closed_rows_go_and_open_ones_stay_whatever_their_age() {
    let mut bed = Bed::with(|settings| settings.keep_for = DAY);
    let pending = bed.open_row("p.json", "1");
    for n in 0..5 {
        bed.delivered(&format!("{n}.json"), "3");
    }
    bed.close_all();
    bed.clock.advance(DAY + Duration::from_secs(1));
    assert!(!bed.store().prune(3).unwrap() || bed.store().counts().accepted == 6, "not swept yet");
    while bed.store().sweep(10).unwrap() {}
    let young = bed.delivered("young.json", "3");
    while bed.store().prune(3).unwrap() {}
    assert_eq!(bed.store().counts().accepted, 2);
    assert_eq!(bed.store().counts().unaccounted(), 0);
    assert_eq!(bed.store().index_size().0, 2);
    bed.end(&pending, Fate::Delivered);
    bed.close_all();
    while bed.store().sweep(10).unwrap() {}
    while bed.store().prune(3).unwrap() {}
    assert_eq!(bed.store().counts().accepted, 1);
    assert_eq!(bed.store().row(young.seq).unwrap().seq, young.seq);
}

#[test]
fn numbers_are_never_given_twice_even_when_every_row_is_gone() {
    let mut bed = Bed::with(|settings| settings.keep_for = DAY);
    let row = bed.delivered("a.json", "3");
    bed.close_all();
    while bed.store().sweep(10).unwrap() {}
    bed.clock.advance(DAY * 2);
    while bed.store().prune(10).unwrap() {}
    assert_eq!(bed.store().counts(), Counts::default());
    bed.crash();
    let next = bed.open_row("a.json", "3");
    assert_eq!(next.seq, row.seq + 1);
    assert_eq!(bed.end(&next, Fate::Delivered).no, 2);
}

#[test]
fn more_rows_than_are_to_be_kept_go_oldest_first() {
    let mut bed = Bed::with(|settings| settings.keep_intents = 2);
    for n in 0..5 {
        bed.delivered(&format!("{n}.json"), "3");
    }
    bed.close_all();
    while bed.store().sweep(10).unwrap() {}
    while bed.store().prune(10).unwrap() {}
    assert_eq!(bed.store().counts().accepted, 2);
    assert_eq!(bed.sql::<i64>("SELECT min(seq) FROM intent"), 4);
}

#[test]
fn the_log_is_copied_and_begun_anew_unless_a_reader_is_in_the_way() {
    let mut bed = Bed::new();
    bed.delivered("a.json", "3");
    let log = bed.store().log_size().unwrap();
    assert!(log.uncopied > 0 && log.bytes == log.uncopied, "{log:?}");
    let reader = schema::connect(&bed.settings.path()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM intent").unwrap();
    let _: i64 = reader.query_row("SELECT count(*) FROM intent", [], |row| row.get(0)).unwrap();
    bed.delivered("b.json", "3");
    assert!(bed.store().restart_log().unwrap().busy);
    drop(reader);
    let log = bed.store().restart_log().unwrap();
    assert_eq!((log.uncopied, log.busy), (0, false));
}

#[test]
fn a_state_directory_that_was_removed_is_written_again() {
    let mut bed = Bed::new();
    let row = bed.open_row("a.json", "3");
    assert!(!bed.store().moved());
    fs::remove_dir_all(&bed.settings.dir).unwrap();
    assert!(bed.store().moved());
    bed.store().resettle().unwrap();
    assert!(!bed.store().moved());
    bed.delivered("b.json", "5");
    bed.crash();
    assert_eq!(bed.store().pending(0, 9).unwrap(), [row]);
    assert_eq!(bed.store().counts().of(Fate::Delivered), 1);
    assert!(bed.settings.path().exists());
}

#[test]
fn a_foreign_file_in_place_of_the_ledger_is_set_aside_not_overwritten() {
    let mut bed = Bed::new();
    bed.delivered("a.json", "3");
    fs::rename(&bed.settings.dir, bed.dir.path().join("elsewhere")).unwrap();
    fs::create_dir(&bed.settings.dir).unwrap();
    fs::write(bed.settings.path(), "somebody's").unwrap();
    assert!(bed.store().moved());
    bed.store().resettle().unwrap();
    bed.crash();
    assert_eq!(bed.store().counts().accepted, 1);
    let aside = fs::read_dir(bed.settings.dir.join("quarantine")).unwrap().next().unwrap().unwrap();
    assert_eq!(fs::read(aside.path().join("ledger.db")).unwrap(), b"somebody's");
}

#[test]
fn a_reader_sees_every_commit_beside_a_running_daemon() {
    let mut bed = Bed::new();
    let row = bed.delivered("a.json", "3");
    let reader = Reader::open(&bed.settings.dir).unwrap();
    assert_eq!(history(&reader, &Filter::default()).len(), 1);
    let pending = bed.open_row("b.json", "5");
    assert_eq!(reader.counts().unwrap(), bed.store().counts());
    assert_eq!(reader.oldest_pending().unwrap(), Some(pending.clone()));
    let by = |filter: Filter| history(&reader, &filter).iter().map(|row| row.seq).collect::<Vec<_>>();
    assert_eq!(by(Filter { fate: Some(Fate::Delivered), ..Filter::default() }), [row.seq]);
    assert_eq!(by(Filter { name: Some(b"b.json"[..].into()), ..Filter::default() }), [pending.seq]);
    assert_eq!(by(Filter { id: Some(row.id), ..Filter::default() }), [row.seq]);
    assert_eq!(by(Filter { limit: Some(1), ..Filter::default() }), [pending.seq]);
    assert_eq!(by(Filter { target: Some(target("db")), ..Filter::default() }), [0u64; 0]);
    assert_eq!(by(Filter { target: Some(target("web")), since: Some(START), ..Filter::default() }), [1, 2]);
    assert_eq!(by(Filter { until: Some(START), ..Filter::default() }), [0u64; 0]);
    assert_eq!(reader.check().unwrap(), None);
}

#[test]
fn a_reader_of_a_stopped_ledger_leaves_no_trace() {
    let mut bed = Bed::new();
    bed.delivered("a.json", "3");
    bed.store.take().unwrap().close().unwrap();
    let files = || {
        let mut names: Vec<_> =
            fs::read_dir(&bed.settings.dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = (files(), fs::read(bed.settings.path()).unwrap());
    assert_eq!(before.0, ["ledger.db", "spool"]);
    let reader = Reader::open(&bed.settings.dir).unwrap();
    assert_eq!(history(&reader, &Filter::default()).len(), 1);
    drop(reader);
    assert_eq!((files(), fs::read(bed.settings.path()).unwrap()), before);
}

#[test]
fn a_reader_of_a_crashed_ledger_sees_its_log_and_changes_neither() {
    let mut bed = Bed::new();
    bed.delivered("a.json", "3");
    bed.store = None;
    let wal = bed.settings.path().with_extension("db-wal");
    let before = (fs::read(bed.settings.path()).unwrap(), fs::read(&wal).unwrap());
    let reader = Reader::open(&bed.settings.dir).unwrap();
    assert_eq!(history(&reader, &Filter::default()).len(), 1);
    drop(reader);
    assert_eq!((fs::read(bed.settings.path()).unwrap(), fs::read(&wal).unwrap()), before);
}

#[test]
fn a_reader_makes_no_ledger() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Reader::open(dir.path()), Err(LedgerFault::Missing { .. })));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn the_history_view_speaks_in_words() {
    let mut bed = Bed::new();
    let row = bed.delivered("a.json", "3");
    bed.open_row("b.json", "5");
    let first: String =
        bed.sql("SELECT id || ' ' || name || ' ' || fate || ' ' || kind || ' ' || accepted_at FROM history");
    assert_eq!(first, format!("{} a.json delivered deployment 2026-11-21T08:00:00.000Z", row.id));
    assert_eq!(bed.sql::<String>("SELECT fate FROM history WHERE seq = 2"), "pending");
    assert_eq!(bed.sql::<String>("SELECT sha256 FROM history"), row.sha.unwrap().to_string());
}
