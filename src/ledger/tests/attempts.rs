//! Notes of attempts at a sink that cannot be asked, and ledgers from before there were any.

use std::ops::ControlFlow;

use super::*;

fn begin(bed: &mut Bed, seq: u64, doubtful: bool) {
    let mut batch = bed.store().begin().unwrap();
    batch.begin_attempt(&Beginning { seq, doubtful }).unwrap();
    batch.commit().unwrap();
}

fn take_back(bed: &mut Bed, seq: u64, counts: bool) {
    let mut batch = bed.store().begin().unwrap();
    batch.without_effect(seq, counts).unwrap();
    batch.commit().unwrap();
}

fn end(bed: &mut Bed, seq: u64, fate: Fate) -> End {
    let record = EndRecord::of(fate);
    let mut batch = bed.store().begin().unwrap();
    let end = batch.end(seq, &record).unwrap();
    batch.commit().unwrap();
    end
}

fn told(reader: &Reader) -> Vec<Row> {
    let mut rows = Vec::new();
    reader
        .history(&Filter::default(), &mut |row| {
            rows.push(row);
            ControlFlow::Continue(())
        })
        .unwrap();
    rows
}

#[test]
fn after_a_crash_a_row_with_an_attempt_is_doubtful_and_no_other() {
    let mut bed = Bed::new();
    let rows: Vec<u64> = ["a", "b", "c", "d", "e"].map(|name| bed.open_row(name, name).seq).into();
    begin(&mut bed, rows[0], false);
    begin(&mut bed, rows[1], false);
    take_back(&mut bed, rows[1], true);
    begin(&mut bed, rows[2], false);
    take_back(&mut bed, rows[2], false);
    begin(&mut bed, rows[3], true);
    take_back(&mut bed, rows[3], true);
    bed.crash();
    let noted = |seq: usize, begun, doubtful| Attempts {
        seq: rows[seq],
        begun,
        doubtful,
        permitted: false,
        request: None,
    };
    let wanted = [noted(0, 1, true), noted(1, 1, false), noted(2, 0, false), noted(3, 1, true)];
    assert_eq!(bed.store().attempts().unwrap(), wanted, "e was never sent");
}

#[test]
fn a_delivery_after_a_doubtful_attempt_stays_marked_and_a_refusal_is_not() {
    let mut bed = Bed::new();
    let [sure, doubled, refused] = ["a", "b", "c"].map(|name| bed.open_row(name, name).seq);
    begin(&mut bed, sure, false);
    end(&mut bed, sure, Fate::Delivered);
    for (seq, fate) in [(doubled, Fate::Delivered), (refused, Fate::Refused)] {
        begin(&mut bed, seq, false);
        begin(&mut bed, seq, true);
        end(&mut bed, seq, fate);
    }
    bed.crash();
    assert!(bed.store().attempts().unwrap().is_empty(), "all have ended");
    let marked: Vec<bool> = told(&Reader::open(&bed.settings.dir).unwrap())
        .iter()
        .map(|row| row.end.as_ref().unwrap().possible_duplicate)
        .collect();
    assert_eq!(marked, [false, true, false]);
    let sql = "SELECT group_concat(possible_duplicate) FROM (SELECT * FROM history ORDER BY seq)";
    let shown: String = bed.store().conn.query_row(sql, [], |found| found.get(0)).unwrap();
    assert_eq!(shown, "0,1,0");
}

#[test]
fn a_permission_holds_for_one_attempt_and_its_request_is_known_for_good() {
    let mut bed = Bed::new();
    let row = bed.open_row("a", "3");
    begin(&mut bed, row.seq, false);
    let mut batch = bed.store().begin().unwrap();
    batch.permit(row.seq, 7).unwrap();
    batch.commit().unwrap();
    bed.crash();
    let noted =
        |begun, permitted| [Attempts { seq: row.seq, begun, doubtful: true, permitted, request: Some(7) }];
    assert_eq!(bed.store().attempts().unwrap(), noted(1, true));
    begin(&mut bed, row.seq, true);
    bed.crash();
    assert_eq!(bed.store().attempts().unwrap(), noted(2, false));
    let reader = Reader::open(&bed.settings.dir).unwrap();
    assert_eq!((reader.made_by(7).unwrap(), reader.made_by(8).unwrap()), (Some(row.id), None));
}

#[test]
fn notes_leave_with_their_intent() {
    let mut bed = Bed::with(|settings| settings.keep_for = DAY);
    let seq = bed.open_row("a", "3").seq;
    begin(&mut bed, seq, true);
    let no = end(&mut bed, seq, Fate::Delivered).no;
    let mut batch = bed.store().begin().unwrap();
    batch.close_through(no).unwrap();
    batch.commit().unwrap();
    bed.clock.advance(DAY * 2);
    while bed.store().sweep(PORTION).unwrap() || bed.store().prune(PORTION).unwrap() {}
    assert_eq!(bed.store().counts().accepted, 0);
    let left: i64 =
        bed.store().conn.query_row("SELECT count(*) FROM attempt", [], |found| found.get(0)).unwrap();
    assert_eq!(left, 0);
}

#[test]
fn a_ledger_of_version_1_is_read_as_it_is_and_led_on_by_the_daemon() {
    let mut bed = Bed::new();
    bed.delivered("a", "3");
    let open = bed.open_row("b", "3");
    bed.age();
    let before = std::fs::read(bed.settings.path()).unwrap();
    let rows = told(&Reader::open(&bed.settings.dir).unwrap());
    assert_eq!(rows.len(), 2);
    assert!(!rows[0].end.as_ref().unwrap().possible_duplicate);
    assert_eq!(std::fs::read(bed.settings.path()).unwrap(), before, "reading changes nothing");
    bed.open();
    assert_eq!(told(&Reader::open(&bed.settings.dir).unwrap()), rows);
    begin(&mut bed, open.seq, false);
    bed.crash();
    assert_eq!(bed.store().attempts().unwrap().len(), 1);
}

#[test]
fn a_damaged_ledger_keeps_its_notes_and_one_of_version_1_its_rows() {
    for old in [false, true] {
        let mut bed = Bed::new();
        bed.delivered("a", "3");
        let open = bed.open_row("b", "3");
        if old {
            bed.age();
        } else {
            begin(&mut bed, open.seq, false);
            bed.store = None;
        }
        let told = super::super::salvage::rebuild(&bed.settings.dir, START, "a test").unwrap();
        assert!(told.contains("2 intents and 1 outcomes were carried over, 0 rows were lost"), "{told}");
        bed.open();
        let noted = bed.store().attempts().unwrap();
        assert_eq!(noted.len(), usize::from(!old));
        assert_eq!(bed.store().counts().pending, 1);
    }
}
