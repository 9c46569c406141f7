//! The writer's thread: order, batches, a full disk, stopping.

use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam::channel::{Receiver, Sender, unbounded};

use super::*;
use crate::clock::SystemClock;

/// What came out of the writer.
#[derive(Debug)]
enum Out {
    Accepted(Vec<Released<u64>>),
    Ended(Vec<Released<u64>>),
    Known(Vec<Released<u64>>),
    Event(Event),
}

struct Ear(Sender<Out>);

impl Downstream<u64> for Ear {
    fn accepted(&mut self, files: Vec<Released<u64>>) {
        self.0.send(Out::Accepted(files)).unwrap();
    }
    fn ended(&mut self, files: Vec<Released<u64>>) {
        self.0.send(Out::Ended(files)).unwrap();
    }
    fn known(&mut self, files: Vec<Released<u64>>) {
        self.0.send(Out::Known(files)).unwrap();
    }
}

impl Report for Ear {
    fn event(&mut self, event: Event) {
        let _ = self.0.send(Out::Event(event));
    }
}

struct Running {
    handle: Handle<u64>,
    out: Receiver<Out>,
    thread: JoinHandle<Result<(), LedgerFault>>,
    maintenance: JoinHandle<()>,
}

impl Running {
    fn start(bed: &mut Bed) -> Self {
        bed.store = None;
        let store = Store::open(bed.settings.clone(), Arc::new(SystemClock)).unwrap();
        Self::with(store)
    }

    fn with(store: Store) -> Self {
        let (sender, out) = unbounded();
        let (handle, writer, maintenance) =
            super::super::writer(store, Box::new(Ear(sender.clone())), Box::new(Ear(sender)));
        let thread = thread::spawn(move || writer.run());
        let maintenance = thread::spawn(move || maintenance.run());
        Running { handle, out, thread, maintenance }
    }

    fn next(&self) -> Out {
        loop {
            let out = self.out.recv_timeout(Duration::from_secs(20)).unwrap();
            if !matches!(out, Out::Event(Event::Committed { .. })) {
                return out;
            }
        }
    }

    fn stop(self) -> Vec<Out> {
        self.handle.stop().unwrap();
        self.thread.join().unwrap().unwrap();
        self.maintenance.join().unwrap();
        self.out.try_iter().collect()
    }
}

fn now(mut entry: Entry) -> Entry {
    entry.sighted = SystemClock.now();
    entry
}

#[test]
fn a_thousand_files_from_four_threads_come_out_in_order_and_once() {
    let mut bed = Bed::new();
    let entries: Vec<Entry> = (0..1_000).map(|n| bed.file(&format!("{n}.json"), &n.to_string())).collect();
    // Time stands still: however long a thread is kept from running, no number is given up.
    let running = Running::with(bed.store.take().unwrap());
    thread::scope(|scope| {
        for part in 0..4u64 {
            let (handle, entries) = (running.handle.clone(), &entries);
            scope.spawn(move || {
                for order in (part..1_000).step_by(4) {
                    handle.accept(order, entries[order as usize].clone(), order).unwrap();
                }
            });
        }
    });
    running.handle.flush().unwrap();
    let (mut carries, mut seqs) = (Vec::new(), Vec::new());
    for out in running.stop() {
        match out {
            Out::Accepted(files) => {
                for file in files {
                    assert_eq!(file.payload.as_deref(), entries[file.carry as usize].payload.as_deref());
                    carries.push(file.carry);
                    seqs.push(file.row.seq);
                }
            }
            Out::Event(Event::Committed { rows, .. }) => assert!(rows <= MOST_ROWS),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(carries, (0..1_000).collect::<Vec<_>>());
    assert!(seqs.is_sorted());
    bed.open();
    assert!(bed.store().opened().clean);
    assert_eq!(bed.store().counts().pending, 1_000);
}

#[test]
fn ends_come_out_in_the_order_of_their_numbers_with_what_was_given_along() {
    let mut bed = Bed::new();
    let files = [now(bed.file("a", "1")), now(bed.file("b", "2")), now(bed.file("a", "1"))];
    let running = Running::start(&mut bed);
    for (order, file) in (0..).zip(files) {
        running.handle.accept(order, file, order).unwrap();
    }
    running.handle.flush().unwrap();
    let mut open = Vec::new();
    let mut duplicate = None;
    while open.len() < 2 || duplicate.is_none() {
        match running.next() {
            Out::Accepted(files) => open.extend(files),
            Out::Ended(files) => duplicate = files.into_iter().next(),
            other => panic!("{other:?}"),
        }
    }
    let duplicate = duplicate.unwrap();
    assert_eq!((duplicate.carry, duplicate.row.end.unwrap().fate), (2, Fate::Duplicate));
    let ends = open.into_iter().rev().map(|file| (file.row, EndRecord::of(Fate::Delivered), file.carry));
    running.handle.end_all(ends.collect()).unwrap();
    let Out::Ended(ended) = running.next() else { panic!("no ends") };
    let seen: Vec<_> = ended.iter().map(|file| (file.carry, file.row.end.as_ref().unwrap().no)).collect();
    assert_eq!(seen, [(1, 2), (0, 3)]);
    running.handle.close_through(3).unwrap();
    running.handle.flush().unwrap();
    running.stop();
    bed.open();
    assert_eq!(bed.store().unclosed(0, 9).unwrap(), []);
    assert_eq!(bed.sql::<i64>("SELECT count(*) FROM payload"), 0, "swept in passing");
}

#[test]
fn a_missing_number_holds_nobody_up_for_long() {
    let mut bed = Bed::new();
    let (first, second) = (now(bed.file("a", "1")), now(bed.file("b", "2")));
    let running = Running::start(&mut bed);
    running.handle.accept(1, second, 1).unwrap();
    let Out::Accepted(files) = running.next() else { panic!("nothing accepted") };
    assert_eq!(files[0].carry, 1);
    running.handle.accept(0, first, 0).unwrap();
    let Out::Accepted(files) = running.next() else { panic!("nothing accepted") };
    assert_eq!(files[0].carry, 0);
    running.stop();
}

#[test]
fn a_known_file_comes_back_as_known() {
    let mut bed = Bed::new();
    let file = now(bed.file("a", "1"));
    let running = Running::start(&mut bed);
    running.handle.accept(0, file.clone(), 0).unwrap();
    running.handle.accept(1, file, 1).unwrap();
    let (Out::Accepted(first), Out::Known(second)) = (running.next(), running.next()) else {
        panic!("other order")
    };
    assert_eq!((first[0].row.seq, second[0].row.seq, second[0].carry), (1, 1, 1));
    assert_eq!(second[0].row.end, None);
    running.stop();
}

/// A store whose database may not grow: what a full disk looks like to SQLite.
fn without_room(bed: &mut Bed) -> Store {
    bed.store = None;
    let store = Store::open(bed.settings.clone(), Arc::new(SystemClock)).unwrap();
    let pages: i64 = store.conn.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    store.conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
    store
}

#[test]
fn a_full_disk_acknowledges_nothing_and_stopping_still_works() {
    let mut bed = Bed::new();
    let large = now(bed.file("a", &"x".repeat(60_000)));
    let running = Running::with(without_room(&mut bed));
    running.handle.accept(0, large, 0).unwrap();
    assert!(matches!(running.next(), Out::Event(Event::Stalled(LedgerFault::DiskFull { .. }))));
    assert!(running.handle.full());
    assert_eq!(running.handle.closed_for(), Some(Closed::DiskFull));
    assert_eq!(running.handle.flush_until(Instant::now()), Ok(false));
    let rest = running.stop();
    assert!(rest.is_empty(), "{rest:?}");
    bed.open();
    assert_eq!(bed.store().counts(), Counts::default());
}

#[test]
fn a_batch_that_found_no_room_is_taken_back_and_written_when_there_is_some() {
    let mut bed = Bed::new();
    let mut store = without_room(&mut bed);
    let (small, large) = (bed.file("a", "1"), bed.file("b", &"x".repeat(60_000)));
    let mut batch = store.begin().unwrap();
    let refused = batch.accept(&small).and_then(|_| batch.accept(&large)).map(|_| ());
    let refused = refused.and_then(|()| batch.commit());
    assert!(matches!(refused, Err(LedgerFault::DiskFull { .. })), "{refused:?}");
    assert_eq!((store.counts(), store.index_size().0), (Counts::default(), 0));

    store.conn.query_row("PRAGMA max_page_count = 100000", [], |_| Ok(())).unwrap();
    let mut batch = store.begin().unwrap();
    assert!(matches!(batch.accept(&small), Ok(Judged::Open(row)) if row.seq == 1));
    assert!(matches!(batch.accept(&large), Ok(Judged::Open(row)) if row.seq == 2));
    batch.commit().unwrap();
    assert_eq!(store.counts().pending, 2);
}

#[test]
fn a_ledger_beyond_its_size_asks_for_a_pause() {
    let mut bed = Bed::with(|settings| settings.max_size = 100_000);
    let entries: Vec<Entry> =
        (0..40).map(|n| now(bed.file(&n.to_string(), &"x".repeat(8_000 + n)))).collect();
    let running = Running::start(&mut bed);
    for (order, entry) in (0..).zip(entries) {
        running.handle.accept(order, entry, order).unwrap();
        running.handle.flush().unwrap();
    }
    assert!(running.handle.full());
    assert_eq!(running.handle.closed_for(), Some(Closed::TooLarge));
    assert!(running.stop().iter().any(|out| matches!(out, Out::Event(Event::TooLarge { .. }))));
}

#[test]
fn a_lost_state_directory_is_noticed_on_demand() {
    let mut bed = Bed::new();
    let file = now(bed.file("a", "1"));
    let running = Running::start(&mut bed);
    running.handle.accept(0, file, 0).unwrap();
    running.handle.flush().unwrap();
    std::fs::remove_dir_all(&bed.settings.dir).unwrap();
    running.handle.check_place().unwrap();
    running.handle.flush().unwrap();
    assert!(running.stop().iter().any(|out| matches!(out, Out::Event(Event::Resettled))));
    bed.open();
    assert_eq!(bed.store().counts().pending, 1);
}

#[test]
fn files_that_waited_for_a_number_are_accepted_when_the_daemon_stops() {
    let mut bed = Bed::new();
    let file = now(bed.file("a", "1"));
    let running = Running::start(&mut bed);
    running.handle.accept(7, file, 7).unwrap();
    assert!(running.stop().iter().any(|out| matches!(out, Out::Accepted(files) if files[0].carry == 7)));
}

#[test]
fn a_heartbeat_renews_the_record_of_a_writer_without_work() {
    let mut bed = Bed::new();
    bed.clock.advance(Duration::from_secs(600));
    let running = Running::with(bed.store.take().unwrap());
    let before = running.handle.record();
    assert_eq!(before.span, Duration::from_secs(600));
    bed.clock.advance(Duration::from_secs(30));
    running.handle.heartbeat().unwrap();
    while running.handle.record() == before {
        thread::yield_now();
    }
    assert_eq!(running.handle.record().running, Duration::from_secs(630));
    running.handle.stop().unwrap();
    running.thread.join().unwrap().unwrap();
    assert_eq!(bed.try_open().unwrap().opened().start, 2);
}

/// A store that is too large from its start: 40 pending files of 8 kB under a limit of 100 kB.
fn too_large() -> Bed {
    let mut bed = Bed::with(|settings| settings.max_size = 100_000);
    for n in 0..40 {
        bed.open_row(&n.to_string(), &format!("{n}{}", "x".repeat(8_000)));
    }
    bed
}

#[test]
fn a_ledger_that_is_too_large_says_so_at_its_start() {
    let mut bed = too_large();
    let running = Running::with(bed.store.take().unwrap());
    assert!(matches!(running.next(), Out::Event(Event::TooLarge { bytes }) if bytes > 100_000));
    assert_eq!(running.handle.closed_for(), Some(Closed::TooLarge));
    running.stop();
}

#[test]
fn other_limits_hold_at_once() {
    let mut bed = too_large();
    let limits = |max_size| Limits { dedup_window: DAY, keep_for: DAY, keep_intents: 1_000, max_size };
    let running = Running::with(bed.store.take().unwrap());
    assert!(matches!(running.next(), Out::Event(Event::TooLarge { .. })));
    running.handle.tune(limits(10_000_000)).unwrap();
    assert!(matches!(running.next(), Out::Event(Event::Resumed)));
    running.handle.tune(limits(100_000)).unwrap();
    assert!(matches!(running.next(), Out::Event(Event::TooLarge { .. })));
    running.stop();
}

#[test]
fn a_paused_acceptance_goes_on_by_itself_once_rows_may_go() {
    // Many short rows: what is too large is the rows, not payloads that a sweep removes.
    let mut bed = Bed::with(|settings| (settings.max_size, settings.keep_for) = (100_000, DAY));
    let entries: Vec<Entry> = (0..1_000).map(|n| bed.file(&n.to_string(), &n.to_string())).collect();
    let mut batch = bed.store().begin().unwrap();
    for entry in &entries {
        let Judged::Open(row) = batch.accept(entry).unwrap() else { panic!("should be open") };
        batch.end(row.seq, &EndRecord::of(Fate::Delivered)).unwrap();
    }
    batch.close_through(1_000).unwrap();
    batch.commit().unwrap();
    while bed.store().sweep(PORTION).unwrap() {}
    let running = Running::with(bed.store.take().unwrap());
    assert!(matches!(running.next(), Out::Event(Event::TooLarge { .. })));
    // Nothing is handed in from here on; only time passes.
    bed.clock.advance(DAY + Duration::from_secs(2));
    assert!(matches!(running.next(), Out::Event(Event::Resumed)));
    assert_eq!(running.handle.closed_for(), None);
    running.stop();
    bed.open();
    assert_eq!(bed.store().counts().accepted, 0);
}

#[test]
fn a_stall_that_ends_does_not_open_a_ledger_that_is_too_large() {
    let mut bed = too_large();
    let file = bed.file("large", &"x".repeat(100_000));
    // The bytes of row 41 find no room; taking them back removes the link, and the next try succeeds.
    std::os::unix::fs::symlink("/dev/full", bed.settings.dir.join("spool/41")).unwrap();
    let running = Running::with(bed.store.take().unwrap());
    assert!(matches!(running.next(), Out::Event(Event::TooLarge { .. })));
    running.handle.accept(0, file, 0).unwrap();
    assert!(matches!(running.next(), Out::Event(Event::Stalled(LedgerFault::DiskFull { .. }))));
    assert!(matches!(running.next(), Out::Event(Event::TooLarge { .. })), "no word of going on");
    assert!(matches!(running.next(), Out::Accepted(_)));
    assert_eq!(running.handle.closed_for(), Some(Closed::TooLarge));
    running.stop();
}

#[test]
fn stopping_ends_a_writer_that_waits_for_room_whatever_was_asked_before() {
    let mut bed = Bed::new();
    let large = now(bed.file("a", &"x".repeat(60_000)));
    let running = Running::with(without_room(&mut bed));
    running.handle.accept(0, large, 0).unwrap();
    assert!(matches!(running.next(), Out::Event(Event::Stalled(_))));
    let handle = running.handle.clone();
    let waiting = thread::spawn(move || handle.flush());
    for n in 1..2_000 {
        running.handle.void(n).unwrap();
    }
    let begun = Instant::now();
    assert!(running.stop().is_empty());
    assert!(begun.elapsed() < Duration::from_secs(2), "the wait between two tries grows to 5 s");
    assert_eq!(waiting.join().unwrap(), Err(Gone), "not durable, so not acknowledged");
    bed.open();
    assert!(!bed.store().opened().clean);
}

#[test]
fn a_flush_with_a_deadline_says_whether_it_was_met() {
    let mut bed = Bed::new();
    let file = now(bed.file("a", "1"));
    let running = Running::start(&mut bed);
    running.handle.accept(0, file, 0).unwrap();
    assert_eq!(running.handle.flush_until(Instant::now() + Duration::from_secs(20)), Ok(true));
    let handle = running.handle.clone();
    running.stop();
    assert_eq!(handle.flush_until(Instant::now()), Err(Gone));
}

/// Hears when the writer is inside of a call.
struct Pulse(Sender<&'static str>);

impl Report for Pulse {
    fn event(&mut self, event: Event) {
        if matches!(event, Event::Committed { .. }) {
            self.0.send("committed").unwrap();
        }
    }
    fn begun(&mut self) {
        self.0.send("begun").unwrap();
    }
    fn rested(&mut self) {
        self.0.send("rested").unwrap();
    }
}

#[test]
fn a_transaction_is_announced_before_it_begins_and_when_it_has_returned() {
    let mut bed = Bed::new();
    let file = now(bed.file("a", "1"));
    bed.store = None;
    let store = Store::open(bed.settings.clone(), Arc::new(SystemClock)).unwrap();
    let ((heard, pulse), (ear, _out)) = (unbounded(), unbounded());
    let (handle, writer, _) = super::super::writer(store, Box::new(Ear(ear)), Box::new(Pulse(heard)));
    handle.accept(0, file, 0).unwrap();
    handle.stop().unwrap();
    writer.run().unwrap();
    let heard: Vec<_> = pulse.try_iter().collect();
    assert_eq!(heard, ["begun", "rested", "committed"]);
}

#[test]
fn an_idle_daemon_removes_old_rows_within_the_hour_and_at_any_work() {
    for hourly in [true, false] {
        let mut bed = Bed::with(|settings| settings.keep_for = DAY);
        bed.delivered("a.json", "3");
        bed.close_all();
        let running = Running::with(bed.store.take().unwrap());
        running.handle.flush().unwrap();
        assert_eq!(running.handle.counts().accepted, 1);
        bed.clock.advance(DAY + Duration::from_secs(3_600));
        match hourly {
            // Only wakes the writer: it is the hour that makes it remove.
            true => running.handle.check_place().unwrap(),
            false => running.handle.flush().unwrap(),
        }
        let begun = Instant::now();
        while running.handle.counts().accepted > 0 {
            assert!(begun.elapsed() < Duration::from_secs(20));
            thread::yield_now();
        }
        running.stop();
    }
}
