//! Duplicates, generations, order of files, known files.

use super::*;

#[test]
fn the_same_name_and_content_twice_is_a_duplicate_of_the_first() {
    let mut bed = Bed::new();
    let first = bed.delivered("a.json", "3");
    let again = bed.file("a.json", "3");
    let (row, end) = bed.ended_row(&again);
    assert_eq!((end.fate, end.related), (Fate::Duplicate, Some(first.id)));
    assert!(end.message.contains("a.json"), "{}", end.message);
    assert_eq!(bed.store().row(row.seq).unwrap(), row, "what is handed on is what was written");
}

#[test]
fn a_repeat_of_a_pending_file_is_a_duplicate_too() {
    let mut bed = Bed::new();
    bed.open_row("a.json", "3");
    let again = bed.file("a.json", "3");
    assert_eq!(bed.ended_row(&again).1.fate, Fate::Duplicate);
}

#[test]
fn three_five_three_under_one_name_acts_three_times() {
    let mut bed = Bed::new();
    assert_eq!(bed.delivered("a.json", "3").generation, 0);
    assert_eq!(bed.delivered("a.json", "5").generation, 0);
    assert_eq!(bed.delivered("a.json", "3").generation, 1);
    bed.crash();
    assert_eq!(bed.delivered("a.json", "5").generation, 1);
    assert_eq!(bed.delivered("a.json", "4").generation, 0);
    bed.crash();
    assert_eq!(bed.delivered("a.json", "3").generation, 2);
}

#[test]
fn a_late_repeat_of_one_name_does_not_undo_what_came_under_another() {
    let mut bed = Bed::new();
    bed.delivered("a.json", "3");
    bed.delivered("b.json", "5");
    let again = bed.file("a.json", "3");
    assert_eq!(bed.ended_row(&again).1.fate, Fate::Duplicate);
}

#[test]
fn a_file_that_ended_badly_is_judged_anew() {
    for fate in [Fate::Refused, Fate::Expired, Fate::Superseded] {
        let mut bed = Bed::new();
        let row = bed.open_row("a.json", "3");
        bed.end(&row, fate);
        assert_eq!(bed.open_row("a.json", "3").generation, 1, "{fate}");
    }
}

#[test]
fn a_refused_file_between_two_equal_ones_changes_nothing() {
    let mut bed = Bed::new();
    bed.delivered("a.json", "3");
    let bad = Entry { verdict: Some(refusal(Reason::Schema)), target: None, ..bed.file("a.json", "three") };
    let (row, end) = bed.ended_row(&bad);
    assert_eq!((end.fate, end.reason, end.errors.len()), (Fate::Refused, Some(Reason::Schema), 1));
    assert_eq!(bed.store().row(row.seq).unwrap(), row);
    let again = bed.file("a.json", "3");
    assert_eq!(bed.ended_row(&again).1.fate, Fate::Duplicate);
}

#[test]
fn a_refused_file_that_comes_again_is_refused_again() {
    let mut bed = Bed::new();
    for _ in 0..2 {
        let bad = Entry { verdict: Some(refusal(Reason::Schema)), ..bed.file("a.json", "three") };
        assert_eq!(bed.ended_row(&bad).1.fate, Fate::Refused);
    }
}

#[test]
fn scope_content_counts_every_name() {
    let mut bed = Bed::with(|settings| settings.dedup_scope = DedupScope::Content);
    let first = bed.delivered("a.json", "3");
    bed.delivered("a.json", "5");
    let other = bed.file("b.json", "3");
    assert_eq!(bed.ended_row(&other).1.related, Some(first.id));
    let same = bed.file("a.json", "3");
    assert_eq!(bed.ended_row(&same).1.fate, Fate::Duplicate);
}

#[test]
fn after_the_window_a_repeat_acts_again_under_the_next_generation() {
    let mut bed = Bed::with(|settings| settings.dedup_window = DAY);
    bed.delivered("a.json", "3");
    bed.clock.advance(DAY);
    let again = bed.file("a.json", "3");
    assert_eq!(bed.ended_row(&again).1.fate, Fate::Duplicate);
    bed.clock.advance(Duration::from_secs(1));
    assert_eq!(bed.delivered("a.json", "3").generation, 1);
}

#[test]
fn a_wall_clock_that_jumps_ten_years_forgets_nothing() {
    let mut bed = Bed::with(|settings| settings.dedup_window = DAY);
    bed.delivered("a.json", "3");
    bed.clock.set_wall(Wall(START.0 + 3_650 * 86_400 * 1_000_000_000));
    let again = bed.file("a.json", "3");
    assert_eq!(bed.ended_row(&again).1.fate, Fate::Duplicate);
}

#[test]
fn the_oldest_keys_are_forgotten_beyond_the_limit() {
    let mut bed = Bed::with(|settings| settings.dedup_keys = 3);
    for name in ["a", "b", "c", "d"] {
        bed.delivered(name, "3");
    }
    assert_eq!(bed.store().index_size().0, 3);
    let kept = bed.file("b", "3");
    assert_eq!(bed.ended_row(&kept).1.fate, Fate::Duplicate);
    assert_eq!(bed.open_row("a", "3").generation, 0);
    bed.crash();
    assert_eq!(bed.store().index_size().0, 3);
}

fn scanned(bed: &mut Bed, name: &str, ctime_ns: i64) -> Entry {
    let mut entry = bed.file(name, name);
    entry.source = Source::Scan;
    entry.identity.ctime_ns = ctime_ns;
    entry
}

#[test]
fn a_scanned_file_older_than_what_was_accepted_for_its_target_comes_too_late() {
    let mut bed = Bed::new();
    let newer = bed.delivered("new.json", "5");
    let late = scanned(&mut bed, "old.json", START.0 - 1);
    let (_, end) = bed.ended_row(&late);
    assert_eq!((end.fate, end.reason), (Fate::Superseded, Some(Reason::OlderThanApplied)));
    assert_eq!(end.related, Some(newer.id));
    bed.crash();
    let late = scanned(&mut bed, "old2.json", START.0 - 1);
    assert_eq!(bed.ended_row(&late).1.related, Some(newer.id));
}

#[test]
fn an_equally_old_one_another_target_and_an_event_are_applied() {
    let mut bed = Bed::new();
    bed.delivered("new.json", "5");
    let same_age = scanned(&mut bed, "same.json", START.0);
    assert!(matches!(bed.accept(&same_age), Judged::Open(_)));
    let elsewhere = Entry { target: Some(target("db")), ..scanned(&mut bed, "old.json", 1) };
    assert!(matches!(bed.accept(&elsewhere), Judged::Open(_)));
    let event = Entry { source: Source::Event, ..scanned(&mut bed, "event.json", 1) };
    assert!(matches!(bed.accept(&event), Judged::Open(_)));
}

#[test]
fn nothing_is_called_too_late_once_the_wall_clock_has_gone_back() {
    let mut bed = Bed::new();
    bed.delivered("new.json", "5");
    bed.clock.set_wall(Wall(START.0 - 3_600_000_000_000));
    let doubtful = scanned(&mut bed, "a.json", START.0 - 3_600_000_000_000);
    assert!(matches!(bed.accept(&doubtful), Judged::Open(_)));
    // The clock is right again, but the file is from the time when it was not.
    bed.clock.set_wall(Wall(START.0 + 1_000_000_000));
    let doubtful = scanned(&mut bed, "b.json", START.0 - 3_600_000_000_000);
    assert!(matches!(bed.accept(&doubtful), Judged::Open(_)));
    bed.crash();
    let doubtful = scanned(&mut bed, "c.json", START.0 - 7_200_000_000_000);
    assert!(
        matches!(bed.accept(&doubtful), Judged::Ended(_)),
        "older than b.json, which came after the jump"
    );
}

#[test]
fn a_clock_that_went_back_over_a_reboot_is_noticed() {
    let mut bed = Bed::new();
    bed.delivered("new.json", "5");
    bed.clock.set_wall(Wall(0));
    bed.reboot();
    let doubtful = scanned(&mut bed, "a.json", 0);
    assert!(matches!(bed.accept(&doubtful), Judged::Open(_)));
}

#[test]
fn the_very_file_of_a_row_that_is_not_closed_is_known_and_gets_no_second_row() {
    let mut bed = Bed::new();
    let entry = bed.file("a.json", "3");
    let Judged::Open(row) = bed.accept(&entry) else { panic!("should be open") };
    let moved = Entry { identity: Identity { ctime_ns: 99, ..entry.identity }, ..entry };
    assert_eq!(bed.accept(&moved), Judged::Known(row.clone()));
    bed.end(&row, Fate::Delivered);
    let ended = bed.store().row(row.seq).unwrap();
    assert_eq!(bed.accept(&moved), Judged::Known(ended));
    bed.crash();
    assert!(matches!(bed.accept(&moved), Judged::Known(_)));
    bed.close_all();
    assert_eq!(bed.ended_row(&moved).1.fate, Fate::Duplicate, "moved back in after it was filed");
}

#[test]
fn a_refused_file_that_cannot_be_moved_is_known_at_every_rescan() {
    let mut bed = Bed::new();
    let entry = Entry { sha: None, verdict: Some(refusal(Reason::Unreadable)), ..bed.file("a.json", "?") };
    let (row, _) = bed.ended_row(&entry);
    let mut batch = bed.store().begin().unwrap();
    batch.unfiled(row.seq, Reason::CannotFile).unwrap();
    batch.commit().unwrap();
    bed.close_all();
    bed.crash();
    assert_eq!(bed.accept(&entry), Judged::Known(row.clone()));
    let mut batch = bed.store().begin().unwrap();
    batch.filed(row.seq).unwrap();
    batch.commit().unwrap();
    assert!(matches!(bed.accept(&entry), Judged::Ended(_)));
}

#[test]
fn a_known_file_says_by_its_rows_end_whether_it_is_to_be_filed() {
    let mut bed = Bed::new();
    let entry = bed.file("a.json", "3");
    let Judged::Open(row) = bed.accept(&entry) else { panic!("should be open") };
    let touched = Entry { identity: Identity { ctime_ns: 99, ..entry.identity }, ..entry };
    let known_end = |bed: &mut Bed| match bed.accept(&touched) {
        Judged::Known(known) if known.seq == row.seq => known.end,
        other => panic!("should be known, is {other:?}"),
    };
    assert_eq!(known_end(&mut bed), None, "pending: its own end files it");
    bed.crash();
    assert_eq!(known_end(&mut bed), None, "pending after a restart");
    let end = bed.end(&row, Fate::Delivered);
    assert_eq!(known_end(&mut bed), Some(end.clone()), "ended, not closed");
    let mut batch = bed.store().begin().unwrap();
    batch.unfiled(row.seq, Reason::CannotFile).unwrap();
    batch.commit().unwrap();
    bed.close_all();
    assert_eq!(known_end(&mut bed), Some(end.clone()), "ended, excepted from closing");
    bed.crash();
    assert_eq!(known_end(&mut bed), Some(end), "the same after a restart");
}
