//! What is there after a crash, and what recovery is told.

use super::*;

#[test]
fn a_batch_without_a_commit_never_was() {
    let mut bed = Bed::new();
    let (small, large) = (bed.file("a.json", "3"), bed.file("b.json", &"x".repeat(100_000)));
    let mut store = bed.store.take().unwrap();
    let mut batch = store.begin().unwrap();
    batch.accept(&small).unwrap();
    batch.accept(&large).unwrap();
    let mut after = bed.copy_as_it_is();
    assert_eq!(after.store().counts(), Counts::default());
    assert_eq!(std::fs::read_dir(after.settings.dir.join("spool")).unwrap().count(), 0);
    batch.commit().unwrap();
    let mut after = bed.copy_as_it_is();
    assert_eq!(after.store().counts().pending, 2);
    assert_eq!(after.store().payload(2).unwrap().as_deref(), large.payload.as_deref());
}

#[test]
fn a_committed_row_is_pending_after_a_crash_with_its_bytes() {
    let mut bed = Bed::new();
    let row = bed.open_row("a.json", "3");
    let large = "y".repeat(200_000);
    let spooled = bed.open_row("b.json", &large);
    bed.crash();
    assert!(!bed.store().opened().clean);
    assert_eq!(bed.store().pending(0, 10).unwrap(), [row.clone(), spooled.clone()]);
    assert_eq!(bed.store().pending(row.seq, 10).unwrap(), std::slice::from_ref(&spooled));
    assert_eq!(bed.store().oldest_pending().unwrap(), Some(row.clone()));
    assert_eq!(bed.store().payload(row.seq).unwrap().as_deref(), Some(&b"3"[..]));
    assert_eq!(bed.store().payload(spooled.seq).unwrap(), Some(large.into_bytes()));
}

#[test]
fn an_end_is_durable_with_all_that_was_said() {
    let mut bed = Bed::new();
    let row = bed.open_row("a.json", "3");
    bed.clock.advance(Duration::from_millis(250));
    let record = EndRecord {
        message: "delivered to folder".into(),
        sink: Some(SinkKind::Folder),
        remote: Some(receipt()),
        attempts: 2,
        ..EndRecord::of(Fate::Delivered)
    };
    let mut batch = bed.store().begin().unwrap();
    let end = batch.end(row.seq, &record).unwrap();
    batch.commit().unwrap();
    assert_eq!((end.no, end.duration), (1, Duration::from_millis(250)));
    bed.crash();
    assert_eq!(bed.store().unclosed(0, 10).unwrap(), [Row { end: Some(end), ..row }]);
    assert_eq!(bed.store().counts().pending, 0);
}

#[test]
fn a_row_ends_once_and_keeps_its_first_end() {
    let mut bed = Bed::new();
    let row = bed.open_row("a.json", "3");
    let first = bed.end(&row, Fate::Delivered);
    assert_eq!(bed.end(&row, Fate::Refused), first);
    assert_eq!(bed.store().counts().of(Fate::Refused), 0);
    let mut batch = bed.store().begin().unwrap();
    assert!(matches!(batch.end(99, &EndRecord::of(Fate::Refused)), Err(LedgerFault::Unknown { seq: 99 })));
}

#[test]
fn a_checkpoint_closes_all_ends_up_to_a_number_and_unfiled_ones_stay() {
    let mut bed = Bed::new();
    let rows: Vec<Row> = (0..4).map(|n| bed.delivered(&format!("{n}.json"), "3")).collect();
    let mut batch = bed.store().begin().unwrap();
    batch.unfiled(rows[1].seq, Reason::CannotFile).unwrap();
    batch.close_through(3).unwrap();
    batch.commit().unwrap();
    bed.crash();
    let names = |rows: Vec<Row>| rows.iter().map(|row| row.seq).collect::<Vec<_>>();
    assert_eq!(names(bed.store().unclosed(0, 10).unwrap()), [2, 4]);
    assert_eq!(names(bed.store().unclosed(0, 1).unwrap()), [2]);
    assert_eq!(names(bed.store().unclosed(2, 10).unwrap()), [4]);
    let mut batch = bed.store().begin().unwrap();
    batch.filed(rows[1].seq).unwrap();
    batch.commit().unwrap();
    assert_eq!(names(bed.store().unclosed(0, 10).unwrap()), [4]);
}

#[test]
fn ids_and_numbers_go_on_after_a_restart() {
    let mut bed = Bed::new();
    let first = bed.delivered("a.json", "3");
    let id = *bed.store().id();
    let store = bed.store.take().unwrap();
    store.close().unwrap();
    bed.open();
    assert!(bed.store().opened().clean);
    assert_eq!((*bed.store().id(), bed.store().opened().start), (id, 2));
    let second = bed.open_row("b.json", "3");
    assert_eq!(second.seq, first.seq + 1);
    assert_eq!(bed.store().row(first.seq).unwrap().id, Id::derive(&id, first.seq));
}

#[test]
fn a_file_in_hand_at_three_deaths_in_a_row_is_counted_to_three() {
    let mut bed = Bed::new();
    let identity = Identity { ino: 7, ..Identity::default() };
    for starts in 1..=3 {
        bed.crash();
        assert_eq!(bed.store().suspect(b"a.json", &identity).unwrap(), starts);
        assert_eq!(bed.store().suspect(b"b.json", &identity).unwrap(), if starts == 3 { 1 } else { starts });
        if starts == 2 {
            bed.store().clear_suspects().unwrap();
            assert_eq!(bed.store().suspect(b"a.json", &identity).unwrap(), 1);
            bed.store().conn.execute("UPDATE suspect SET starts = 2", []).unwrap();
        }
    }
    bed.crash();
    bed.crash();
    assert_eq!(bed.store().suspect(b"a.json", &identity).unwrap(), 1, "a life without it lies between");
}

#[test]
fn kept_bytes_that_are_not_the_accepted_ones_are_not_handed_out() {
    let mut bed = Bed::new();
    let row = bed.open_row("a.json", "3");
    bed.store().conn.execute("UPDATE payload SET bytes = x'34'", []).unwrap();
    let seq = row.seq;
    assert!(matches!(bed.store().payload(seq), Err(LedgerFault::Payload { seq: found }) if found == seq));
}

#[test]
fn the_state_directory_may_be_reached_through_a_link() {
    let mut bed = Bed::new();
    let row = bed.open_row("a.json", "3");
    bed.store = None;
    let link = bed.dir.path().join("link");
    std::os::unix::fs::symlink(&bed.settings.dir, &link).unwrap();
    bed.settings.dir = link;
    bed.open();
    assert_eq!(bed.store().pending(0, 9).unwrap(), [row]);
}

/// Ends a row as delivered, with this object at the sink.
fn delivered_as(bed: &mut Bed, row: &Row, sink: SinkKind, name: &str, lifecycle: Lifecycle) {
    let remote = Receipt { name: name.into(), revision: String::new(), lifecycle, adopted: false };
    let record = EndRecord { sink: Some(sink), remote: Some(remote), ..EndRecord::of(Fate::Delivered) };
    let mut batch = bed.store().begin().unwrap();
    batch.end(row.seq, &record).unwrap();
    batch.commit().unwrap();
}

#[test]
fn what_others_may_still_move_is_given_oldest_first_and_what_is_final_is_not() {
    let mut bed = Bed::new();
    let rows: Vec<Row> = (1..=6).map(|n| bed.open_row(&format!("{n}.json"), &n.to_string())).collect();
    use Lifecycle::{Draft, Proposed, Published};
    delivered_as(&mut bed, &rows[2], SinkKind::Porch, "r.p.i-2", Draft);
    delivered_as(&mut bed, &rows[0], SinkKind::Porch, "r.p.i-1", Proposed);
    delivered_as(&mut bed, &rows[1], SinkKind::Porch, "r.p.i-1", Proposed);
    delivered_as(&mut bed, &rows[3], SinkKind::Porch, "r.p.i-3", Published);
    delivered_as(&mut bed, &rows[4], SinkKind::Folder, "ran/deployment-web", Proposed);
    bed.crash();
    let open = bed.store().open_receipts(SinkKind::Porch).unwrap();
    let told: Vec<_> = open.iter().map(|(seq, id, receipt)| (*seq, *id, receipt.name.as_str())).collect();
    let expected = [(2, "r.p.i-2"), (0, "r.p.i-1"), (1, "r.p.i-1")];
    assert_eq!(told, expected.map(|(at, name)| (rows[at].seq, rows[at].id, name)));
    assert_eq!(open[0].2.lifecycle, Draft);
}

#[test]
fn of_more_than_a_thousand_open_objects_the_newest_are_given_with_all_their_rows() {
    let mut bed = Bed::new();
    for n in 0..1_010 {
        let row = bed.open_row(&format!("{n}.json"), &n.to_string());
        // The last ten belong to the object of the one before them.
        delivered_as(
            &mut bed,
            &row,
            SinkKind::Porch,
            &format!("r.p.i-{}", n.min(1_000)),
            Lifecycle::Proposed,
        );
    }
    let open = bed.store().open_receipts(SinkKind::Porch).unwrap();
    assert_eq!((open.len(), open[0].2.name.as_str()), (1_009, "r.p.i-1"));
}
