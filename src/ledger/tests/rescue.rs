//! Damage, foreign files and newer versions.

use std::fs;
use std::os::unix::fs::FileExt as _;

use super::*;

/// A ledger of `rows` delivered files and one pending, all in the database file.
fn filled(rows: usize) -> Bed {
    let mut bed = Bed::new();
    for n in 0..rows {
        bed.delivered(&format!("intent-{n:05}.json"), "3");
    }
    bed.open_row("pending.json", "3");
    bed.store.take().unwrap().close().unwrap();
    bed
}

/// Marks the last life as unclean, as a crash would have.
fn uncleanly(bed: &Bed) {
    let conn = schema::connect(&bed.settings.path()).unwrap();
    conn.execute("UPDATE boot SET clean = 0", []).unwrap();
    schema::checkpoint(&conn, schema::Checkpoint::Truncate).unwrap();
}

fn quarantined(bed: &Bed) -> Vec<u8> {
    let place = fs::read_dir(bed.settings.dir.join("quarantine")).unwrap().next().unwrap().unwrap().path();
    fs::read(place.join("ledger.db")).unwrap()
}

#[test]
fn a_page_of_rubbish_costs_its_rows_and_nothing_else() {
    let mut bed = filled(600);
    let id = schema::connect(&bed.settings.path()).map(|conn| store::store_id(&conn).unwrap()).unwrap();
    let page: i64 = schema::connect(&bed.settings.path())
        .unwrap()
        .query_row(
            "SELECT pageno FROM dbstat WHERE name = 'intent' AND pagetype = 'leaf' LIMIT 1 OFFSET 9",
            [],
            |r| r.get(0),
        )
        .unwrap();
    let file = fs::OpenOptions::new().write(true).open(bed.settings.path()).unwrap();
    file.write_all_at(&[0xa5; 4096], (page as u64 - 1) * 4096).unwrap();
    drop(file);
    let damaged = fs::read(bed.settings.path()).unwrap();

    bed.open();
    let told = bed.store().opened().rebuilt.clone().unwrap();
    assert!(told.contains("quarantine"), "{told}");
    assert_eq!(quarantined(&bed), damaged);
    let counts = bed.store().counts();
    assert!((500..601).contains(&counts.accepted), "{counts:?}: {told}");
    assert_eq!((counts.pending, counts.unaccounted()), (1, 0));
    assert_eq!(*bed.store().id(), id);
    assert_eq!(bed.store().payload(601).unwrap().as_deref(), Some(&b"3"[..]));
    assert_eq!(bed.open_row("new.json", "1").seq, 602);
    bed.crash();
    assert_eq!(bed.store().opened().rebuilt, None);
}

#[test]
fn a_flipped_bit_in_the_structure_is_found_after_an_unclean_stop() {
    let mut bed = filled(300);
    uncleanly(&bed);
    let page: i64 = schema::connect(&bed.settings.path())
        .unwrap()
        .query_row(
            "SELECT pageno FROM dbstat WHERE name = 'outcome' AND pagetype = 'leaf' LIMIT 1 OFFSET 1",
            [],
            |r| r.get(0),
        )
        .unwrap();
    let file = fs::OpenOptions::new().write(true).open(bed.settings.path()).unwrap();
    file.write_all_at(&[0xff; 2], (page as u64 - 1) * 4096 + 3).unwrap();
    drop(file);
    bed.open();
    assert!(bed.store().opened().rebuilt.is_some());
    assert_eq!(bed.store().counts().unaccounted(), 0);
    assert_eq!(bed.store().counts().pending, bed.store().pending(0, 999).unwrap().len() as u64);
}

#[test]
fn a_ledger_of_zeros_is_never_taken_for_an_empty_one_in_silence() {
    let mut bed = filled(20);
    let size = fs::metadata(bed.settings.path()).unwrap().len();
    fs::write(bed.settings.path(), vec![0u8; size as usize]).unwrap();
    bed.open();
    assert!(bed.store().opened().rebuilt.as_ref().unwrap().contains("0 intents"));
    assert_eq!(bed.store().counts(), Counts::default());
    assert_eq!(quarantined(&bed).len() as u64, size);
}

#[test]
fn a_ledger_cut_short_keeps_what_is_left() {
    let mut bed = filled(600);
    let file = fs::OpenOptions::new().write(true).open(bed.settings.path()).unwrap();
    let size = file.metadata().unwrap().len();
    file.set_len(size / 8192 * 4096).unwrap();
    drop(file);
    bed.open();
    assert!(bed.store().opened().rebuilt.is_some());
    assert_eq!(bed.store().counts().unaccounted(), 0);
}

#[test]
fn a_database_that_vanished_beside_its_log_is_reported() {
    let mut bed = Bed::new();
    bed.delivered("a.json", "3");
    bed.store = None;
    fs::remove_file(bed.settings.path()).unwrap();
    bed.open();
    assert!(bed.store().opened().rebuilt.is_some());
}

#[test]
fn a_torn_tail_of_the_log_costs_what_was_never_acknowledged() {
    let mut bed = Bed::new();
    bed.delivered("a.json", "3");
    let wal = bed.settings.path().with_extension("db-wal");
    let acknowledged = fs::metadata(&wal).unwrap().len();
    bed.open_row("b.json", "5");
    bed.store = None;
    fs::OpenOptions::new().write(true).open(&wal).unwrap().set_len(acknowledged + 100).unwrap();
    bed.open();
    assert_eq!(bed.store().opened().rebuilt, None);
    assert_eq!((bed.store().counts().accepted, bed.store().counts().pending), (1, 0));
}

#[test]
fn a_rebuild_that_was_cut_off_is_finished_or_begun_again() {
    let mut bed = filled(5);
    let path = bed.settings.path();
    fs::copy(&path, bed.settings.dir.join("ledger.db.built")).unwrap();
    fs::write(&path, "half replaced").unwrap();
    fs::write(path.with_extension("db-wal"), "of the old one").unwrap();
    bed.open();
    assert_eq!((bed.store().counts().accepted, bed.store().opened().rebuilt.clone()), (6, None));
}

#[test]
fn a_newer_ledger_and_a_foreign_one_are_refused_untouched() {
    let bed = filled(1);
    let path = bed.settings.path();
    for pragma in ["user_version = 999", "application_id = 7"] {
        let conn = schema::connect(&path).unwrap();
        conn.execute_batch(&format!("PRAGMA {pragma}")).unwrap();
        schema::checkpoint(&conn, schema::Checkpoint::Truncate).unwrap();
        schema::tidy_on_close(&conn).unwrap();
        drop(conn);
        let before = fs::read(&path).unwrap();
        let fault = bed.try_open().err().unwrap();
        assert!(
            matches!(
                fault,
                LedgerFault::Newer { found: 999, .. } | LedgerFault::Foreign { application: 7, .. }
            ),
            "{fault}"
        );
        assert!(matches!(
            Reader::open(&bed.settings.dir),
            Err(LedgerFault::Newer { .. } | LedgerFault::Foreign { .. })
        ));
        assert_eq!(fs::read(&path).unwrap(), before);
        assert!(!path.with_extension("db-wal").exists());
    }
}

#[test]
fn a_newer_version_that_only_the_log_knows_is_refused_and_the_log_kept() {
    let mut bed = Bed::new();
    bed.store().conn.execute_batch("PRAGMA user_version = 999").unwrap();
    bed.store = None;
    let wal = bed.settings.path().with_extension("db-wal");
    let before = (fs::read(bed.settings.path()).unwrap(), fs::read(&wal).unwrap());
    assert!(matches!(bed.try_open(), Err(LedgerFault::Newer { found: 999, .. })));
    assert_eq!((fs::read(bed.settings.path()).unwrap(), fs::read(&wal).unwrap()), before);
}
