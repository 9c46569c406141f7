//! What the ledger tells about the daemon's past lives.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

impl Bed {
    /// Lives for `span` with a heartbeat every half minute, as the keeper makes them.
    fn live(&mut self, span: Duration) -> Record {
        let mut record = self.store().record().unwrap();
        for _ in 0..span.as_secs() / 30 {
            self.clock.advance(Duration::from_secs(30));
            record = self.store().heartbeat().unwrap();
        }
        record
    }

    /// Is away for `span` after a kill.
    fn killed_for(&mut self, span: Duration) {
        self.store = None;
        self.clock.advance(span);
        self.open();
    }

    fn stopped_for(&mut self, span: Duration) {
        self.store.take().unwrap().close().unwrap();
        self.clock.advance(span);
        self.open();
    }

    fn record(&mut self) -> Record {
        self.store().record().unwrap()
    }
}

#[test]
fn a_first_life_has_no_past_and_runs_all_the_time() {
    let mut bed = Bed::new();
    let record = bed.record();
    assert_eq!((record, record.availability()), (Record::default(), None));
    let record = bed.live(HOUR);
    assert_eq!((record.span, record.running, record.availability()), (HOUR, HOUR, Some(1.0)));
    assert_eq!((record.mtbf(), record.mttr()), (None, None));
}

#[test]
fn a_crash_between_two_lives_costs_availability_and_is_counted() {
    let mut bed = Bed::new();
    bed.live(HOUR);
    bed.killed_for(6 * MINUTE);
    let record = bed.live(HOUR - 6 * MINUTE);
    assert_eq!((record.span, record.running), (2 * HOUR, 2 * HOUR - 6 * MINUTE));
    assert_eq!(record.availability(), Some(0.95));
    assert_eq!((record.mtbf(), record.mttr()), (Some(114 * MINUTE), Some(6 * MINUTE)));
}

#[test]
fn a_clean_stop_is_time_away_but_no_crash() {
    let mut bed = Bed::new();
    bed.live(9 * MINUTE);
    bed.clock.advance(Duration::from_secs(2));
    bed.stopped_for(MINUTE);
    let record = bed.record();
    assert_eq!(record.span - record.running, MINUTE, "the stop itself is the last sight");
    assert_eq!((record.crashes, record.mtbf(), record.mttr()), (0, None, None));
}

#[test]
fn commits_are_sights_too() {
    let mut bed = Bed::new();
    bed.clock.advance(4 * MINUTE);
    bed.delivered("a.json", "3");
    bed.clock.advance(Duration::from_secs(1));
    bed.delivered("b.json", "3");
    bed.killed_for(MINUTE);
    let record = bed.record();
    assert_eq!((record.crashes, record.running), (1, 4 * MINUTE));
    assert_eq!(
        record.mttr(),
        Some(MINUTE + Duration::from_secs(1)),
        "a second sight within 5 s is not noted"
    );
}

#[test]
fn a_batch_that_is_taken_back_is_no_sight() {
    let mut bed = Bed::new();
    bed.clock.advance(MINUTE);
    drop(bed.store().begin().unwrap());
    bed.store().heartbeat().unwrap();
    assert_eq!(bed.sql::<i64>("SELECT seen_age FROM boot"), 60_000_000);
}

#[test]
fn a_wall_clock_that_goes_back_changes_nothing_within_a_boot() {
    let mut bed = Bed::new();
    bed.live(HOUR);
    bed.clock.set_wall(Wall(0));
    bed.live(HOUR);
    bed.killed_for(30 * MINUTE);
    bed.clock.set_wall(START);
    let record = bed.live(HOUR);
    assert_eq!((record.span, record.running), (210 * MINUTE, 3 * HOUR));
    assert_eq!((record.mtbf(), record.mttr()), (Some(3 * HOUR), Some(30 * MINUTE)));
}

#[test]
fn a_gap_that_no_clock_can_tell_counts_nowhere() {
    let mut bed = Bed::new();
    bed.live(HOUR);
    bed.clock.set_wall(Wall(0));
    bed.reboot();
    let record = bed.live(HOUR);
    assert_eq!((record.crashes, record.mtbf(), record.mttr()), (1, Some(2 * HOUR), None));
    assert_eq!(record.availability(), Some(1.0));
    bed.store = None;
    bed.clock.advance(MINUTE);
    bed.reboot();
    assert_eq!(bed.record().mttr(), Some(MINUTE), "the known gap alone");
}

#[test]
fn lives_of_long_ago_do_not_count() {
    let mut bed = Bed::new();
    bed.live(HOUR);
    bed.killed_for(91 * DAY);
    bed.live(HOUR);
    bed.stopped_for(HOUR);
    let record = bed.record();
    assert_eq!((record.span, record.running, record.crashes), (2 * HOUR, HOUR, 0));
}

#[test]
fn a_thousand_lives_are_kept() {
    let mut bed = Bed::new();
    let many = "WITH RECURSIVE n(no) AS (SELECT 2 UNION ALL SELECT no + 1 FROM n WHERE no < 1500) \
                INSERT INTO boot SELECT no, 'boot-1', 0, 0, 0, 0, 0, 0 FROM n";
    bed.store().conn.execute(many, []).unwrap();
    bed.crash();
    assert_eq!(bed.sql::<i64>("SELECT count(*) FROM boot"), 1_000);
    assert_eq!(bed.sql::<i64>("SELECT max(no) FROM boot"), 1_501);
    assert_eq!(bed.record().crashes, 999);
}

#[test]
fn a_reader_knows_the_record_up_to_the_last_sight() {
    let mut bed = Bed::new();
    bed.live(HOUR);
    bed.killed_for(HOUR);
    let written = bed.live(HOUR);
    bed.clock.advance(HOUR);
    assert_eq!(Reader::open(&bed.settings.dir).unwrap().record().unwrap(), written);
}

#[test]
fn a_reader_knows_how_the_store_is() {
    let mut bed = Bed::new();
    let read = |bed: &Bed, boot: &str| Reader::open(&bed.settings.dir).unwrap().condition(boot).unwrap();
    let fresh = read(&bed, "boot-1");
    assert!(fresh.bytes > 0 && !fresh.clean, "{fresh:?}");
    assert_eq!((fresh.unfiled, fresh.suspects, fresh.newest, fresh.device), (0, 0, Some(START), None));
    bed.clock.advance(HOUR);
    let row = bed.delivered("intent-1.json", "{}");
    let mut batch = bed.store().begin().unwrap();
    batch.unfiled(row.seq, Reason::CannotFile).unwrap();
    batch.commit().unwrap();
    bed.store().suspect(b"intent-2.json", &Identity::default()).unwrap();
    let used = read(&bed, "boot-1");
    assert_eq!((used.unfiled, used.suspects, used.device), (1, 1, Some(1)));
    assert_eq!(used.newest, Some(START.after(HOUR)));
    assert_eq!(read(&bed, "boot-2").device, None, "devices are numbered anew in every boot");
    bed.stopped_for(HOUR);
    assert_eq!(read(&bed, "boot-1").device, Some(1), "a restart in the same boot");
    bed.store.take().unwrap().close().unwrap();
    assert!(read(&bed, "boot-1").clean);
}
