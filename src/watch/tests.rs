//! The watch with real files and real kernel events. Every wait is for something that must come,
//! with a deadline far beyond what it takes; that nothing comes is shown by what comes after it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};
use tempfile::TempDir;

use super::*;
use crate::clock::SystemClock;
use crate::config::WatchMode;
use crate::debounce::Hint;
use crate::disk::Identity;
use crate::queue::{Lane, Taken};

const LONG: Duration = Duration::from_secs(30);

/// What was reported, one word each.
#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Log {
    fn add(&self, line: String) {
        self.lines.lock().push(line);
        self.more.notify_all();
    }

    fn count(&self, line: &str) -> usize {
        self.lines.lock().iter().filter(|other| *other == line).count()
    }

    #[track_caller]
    fn wait_for(&self, line: &str) {
        let deadline = Instant::now() + LONG;
        let mut lines = self.lines.lock();
        while !lines.iter().any(|other| other == line) {
            let late = self.more.wait_until(&mut lines, deadline).timed_out();
            assert!(!late, "no {line} in {lines:?}");
        }
    }
}

impl Report for Log {
    fn files_seen(&self, source: Source, count: u64) {
        for _ in 0..count {
            self.add(format!("seen {source}"));
        }
    }

    fn overflow(&self, _lost: u64) {
        self.add("overflow".into());
    }

    fn rescan(&self, cause: Cause) {
        self.add(format!("rescan {}", cause.as_str()));
    }

    fn healthy(&self, healthy: bool) {
        self.add(format!("healthy {healthy}"));
    }

    fn fault(&self, trouble: Trouble, name: &[u8]) {
        self.add(format!("{} {}", trouble.as_str(), name.escape_ascii()));
    }
}

/// How a test wants its watch.
struct Plan {
    settings: Settings,
    capacity: usize,
}

fn plan() -> Plan {
    let mut settings = Settings::new(&config::Config::default());
    settings.watch.pattern = "*.json".into();
    settings.watch.mode = WatchMode::Inotify;
    settings.watch.period = Duration::from_secs(3_600);
    Plan { settings, capacity: 1_024 }
}

/// A folder, a running watch, and the worker's end of its queue.
struct Rig {
    _parent: TempDir,
    handoff: PathBuf,
    queue: Arc<Queue<Box<Job>>>,
    flights: Flights,
    log: Arc<Log>,
    /// Held for writing it stops the watch thread within a round.
    gate: Arc<RwLock<()>>,
    admits: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
    progress: Arc<Progress>,
    mailbox: Mailbox,
    thread: Option<JoinHandle<Result<(), WatchFault>>>,
}

impl Plan {
    fn start(self) -> Rig {
        self.start_with(|_| {})
    }

    /// Starts the watch on a folder that `prepare` has filled.
    fn start_with(self, prepare: impl FnOnce(&Path)) -> Rig {
        let parent = tempfile::tempdir().unwrap();
        let handoff = parent.path().join("handoff");
        fs::create_dir(&handoff).unwrap();
        prepare(&handoff);
        let queue = Arc::new(Queue::new(self.capacity));
        let (flights, log) = (Flights::new(), Arc::new(Log::default()));
        let gate = Arc::new(RwLock::new(()));
        let admits = Arc::new(AtomicBool::new(true));
        let rounds = Arc::new(AtomicUsize::new(0));
        let may_accept = {
            let (gate, admits, rounds) = (Arc::clone(&gate), Arc::clone(&admits), Arc::clone(&rounds));
            move || {
                drop(gate.read());
                rounds.fetch_add(1, Ordering::SeqCst);
                admits.load(Ordering::SeqCst)
            }
        };
        let parts = Parts {
            // However the path is spelled, events are understood.
            hot: Arc::new(open(&handoff.join("../handoff/./").join(""))),
            clock: Arc::new(SystemClock),
            queue: Arc::clone(&queue),
            flights: flights.clone(),
            may_accept: Arc::new(may_accept),
            report: Arc::clone(&log) as Arc<dyn Report>,
        };
        let watcher = Watcher::new(self.settings, parts).unwrap();
        let (mailbox, progress) = (watcher.mailbox(), watcher.progress());
        let thread = std::thread::spawn(move || watcher.run());
        assert!(progress.wait_ready(LONG));
        // What comes from here on is told by events, not by the first scan.
        while !progress.is_scanned() {
            std::thread::yield_now();
        }
        Rig {
            _parent: parent,
            handoff,
            queue,
            flights,
            log,
            gate,
            admits,
            rounds,
            progress,
            mailbox,
            thread: Some(thread),
        }
    }
}

impl Rig {
    fn path(&self, name: &str) -> PathBuf {
        self.handoff.join(name)
    }

    fn write(&self, name: &str) {
        fs::write(self.path(name), name).unwrap();
    }

    /// Puts a file there as a producer should.
    fn drop_in(&self, name: &str) {
        let temporary = self._parent.path().join("temporary");
        fs::write(&temporary, name).unwrap();
        fs::rename(&temporary, self.path(name)).unwrap();
    }

    fn identity(&self, name: &str) -> Identity {
        let look = folder::look(open(&self.handoff).handle().as_ref().as_fd(), name.as_bytes());
        look.unwrap().unwrap().identity
    }

    #[track_caller]
    fn next(&self) -> Taken<Box<Job>> {
        self.queue.take_wait(&|| false, LONG).expect("a ticket must come")
    }

    /// The next ticket, of which only the name is wanted; its flight ends.
    #[track_caller]
    fn next_name(&self) -> String {
        name_of(&self.next().item.ticket)
    }

    /// The next ticket, accepted as a worker would; the flight is to be kept while it is not filed.
    #[track_caller]
    fn accept(&self, name: &str) -> Flight {
        let (ticket, mut flight) = self.next().item.into_parts();
        assert_eq!(name_of(&ticket), name);
        flight.accepted(&self.identity(name));
        flight
    }

    fn stop(&mut self) -> Result<(), WatchFault> {
        self.mailbox.post(Message::Stop);
        self.thread.take().map_or(Ok(()), |thread| thread.join().unwrap())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.stop(), Ok(()));
        }
    }
}

fn open(path: &Path) -> PlainFolder {
    PlainFolder::open(path).unwrap()
}

fn name_of(ticket: &Ticket) -> String {
    String::from_utf8_lossy(&ticket.name).into_owned()
}

#[test]
fn a_rename_in_gives_one_ticket_at_once() {
    let rig = plan().start();
    rig.drop_in("a.json");
    let job = rig.next().item;
    assert_eq!((name_of(&job.ticket), job.ticket.hint), ("a.json".into(), Hint::Renamed));
    assert_eq!((job.ticket.source, job.ticket.last_chance), (Source::Event, false));
    rig.log.wait_for("seen event");
    assert_eq!(rig.progress.mode(), Mode::Inotify);
}

#[test]
fn a_file_written_in_place_comes_with_its_close() {
    let mut slow = plan();
    slow.settings.watch.debounce = Duration::from_secs(5);
    let rig = slow.start();
    let mut file = File::create(rig.path("a.json")).unwrap();
    file.write_all(b"{").unwrap();
    rig.drop_in("b.json");
    assert_eq!(rig.next_name(), "b.json", "a file that is open is not ready");
    file.write_all(b"}").unwrap();
    drop(file);
    let ticket = rig.next().item.into_parts().0;
    assert_eq!((name_of(&ticket), ticket.hint), ("a.json".into(), Hint::Closed));
}

#[test]
fn a_hard_link_comes_after_its_window() {
    let rig = plan().start();
    let outside = rig._parent.path().join("outside");
    fs::write(&outside, "{}").unwrap();
    fs::hard_link(&outside, rig.path("a.json")).unwrap();
    let ticket = rig.next().item.into_parts().0;
    assert_eq!((name_of(&ticket), ticket.hint), ("a.json".into(), Hint::Touched));
}

#[test]
fn our_own_reading_and_filing_is_no_news() {
    let rig = plan().start();
    rig.drop_in("a.json");
    let flight = rig.accept("a.json");
    for _ in 0..50 {
        let mut text = String::new();
        File::open(rig.path("a.json")).unwrap().read_to_string(&mut text).unwrap();
    }
    fs::rename(rig.path("a.json"), rig._parent.path().join("filed")).unwrap();
    drop(flight);
    rig.drop_in("b.json");
    assert_eq!(rig.next_name(), "b.json");
    assert_eq!((rig.queue.depth(Lane::Fresh), rig.progress.waiting()), (0, 0));
}

#[test]
fn what_is_there_at_the_start_is_scanned_into_its_lanes() {
    let mut small = plan();
    small.settings.map_above = 10;
    let rig = small.start_with(|folder| {
        fs::write(folder.join("small.json"), "1").unwrap();
        fs::write(folder.join("large.json"), "12345678901").unwrap();
        fs::write(folder.join("other.txt"), "1").unwrap();
    });
    let mut found = BTreeMap::new();
    for _ in 0..2 {
        let taken = rig.next();
        let ticket = &taken.item.ticket;
        assert_eq!((ticket.source, ticket.hint), (Source::Scan, Hint::Scanned));
        found.insert(name_of(ticket), taken.lane);
    }
    assert_eq!(found["small.json"], Lane::Backlog);
    assert_eq!(found["large.json"], Lane::Large);
    rig.log.wait_for("seen scan");
    assert_eq!(rig.log.count("rescan start"), 1);
}

#[test]
fn events_that_find_no_room_are_made_good_by_a_scan() {
    let mut narrow = plan();
    narrow.settings.ring = 2;
    let rig = narrow.start();
    let hold = rig.gate.write();
    rig.mailbox.post(Message::Wake);
    let expected: BTreeSet<String> = (0..200).map(|number| format!("{number}.json")).collect();
    expected.iter().for_each(|name| rig.drop_in(name));
    drop(hold);
    let mut flights = Vec::new();
    let mut names = BTreeSet::new();
    while names.len() < expected.len() {
        let (ticket, mut flight) = rig.next().item.into_parts();
        flight.accepted(&rig.identity(&name_of(&ticket)));
        assert!(names.insert(name_of(&ticket)), "{} came twice", name_of(&ticket));
        flights.push(flight);
    }
    assert_eq!(names, expected);
    assert!(rig.log.count("overflow") >= 1 && rig.log.count("rescan overflow") >= 1);
}

#[test]
fn five_thousand_files_come_once_each_through_a_small_queue() {
    const FILES: usize = 5_000;
    let mut small = plan();
    small.capacity = 256;
    let rig = small.start();
    let mut names = BTreeSet::new();
    let mut flights = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..FILES).for_each(|number| rig.drop_in(&format!("{number}.json"))));
        while names.len() < FILES {
            let (ticket, mut flight) = rig.next().item.into_parts();
            flight.accepted(&rig.identity(&name_of(&ticket)));
            assert!(names.insert(name_of(&ticket)), "{} came twice", name_of(&ticket));
            flights.push(flight);
        }
    });
    assert_eq!(rig.flights.known(), FILES);
}

#[test]
fn a_full_queue_leaves_files_in_the_folder_until_there_is_room() {
    let mut tiny = plan();
    tiny.capacity = 4;
    let rig = tiny.start();
    let hold = rig.gate.write();
    (0..40).for_each(|number| rig.drop_in(&format!("{number}.json")));
    drop(hold);
    let mut flights = BTreeMap::new();
    while flights.len() < 40 {
        let (ticket, mut flight) = rig.next().item.into_parts();
        flight.accepted(&rig.identity(&name_of(&ticket)));
        flights.insert(name_of(&ticket), flight);
    }
    assert!(rig.log.count("rescan queue-full") >= 1);
}

#[test]
fn a_name_that_changes_while_a_worker_has_it_comes_again() {
    let rig = plan().start();
    rig.drop_in("a.json");
    let (_, flight) = rig.next().item.into_parts();
    rig.drop_in("a.json");
    rig.drop_in("b.json");
    assert_eq!(rig.next_name(), "b.json", "never two tickets of one name");
    drop(flight);
    assert_eq!(rig.next_name(), "a.json");
}

#[test]
fn another_file_under_an_accepted_name_is_a_new_drop() {
    let rig = plan().start();
    rig.drop_in("a.json");
    let first = rig.accept("a.json");
    rig.drop_in("a.json");
    let second = rig.accept("a.json");
    drop((first, second));
    assert_eq!((rig.flights.busy(), rig.flights.known()), (0, 0));
}

#[test]
fn a_rescan_passes_over_what_is_accepted() {
    let rig = plan().start();
    rig.drop_in("a.json");
    let _flight = rig.accept("a.json");
    rig.mailbox.post(Message::Rescan(Cause::Signal));
    rig.log.wait_for("rescan signal");
    rig.drop_in("b.json");
    let _flight = rig.accept("b.json");
    assert_eq!(rig.queue.depth(Lane::Backlog), 0);
}

#[test]
fn a_returned_ticket_comes_again_when_it_is_due() {
    let rig = plan().start();
    rig.drop_in("a.json");
    let identity = rig.identity("a.json");
    let (ticket, flight) = rig.next().item.into_parts();
    rig.mailbox.post(Message::Returned(ticket, flight, Wait::Unproved(identity)));
    let (ticket, _flight) = rig.next().item.into_parts();
    assert_eq!((ticket.expected, ticket.is_first()), (Some(identity), false));
    rig.log.wait_for("seen event");
    assert_eq!(rig.log.count("seen event"), 1);
}

#[test]
fn a_chmod_brings_an_unreadable_file_back_before_its_time() {
    let mut slow = plan();
    slow.settings.watch.debounce = Duration::from_secs(60);
    let rig = slow.start();
    rig.drop_in("a.json");
    let (ticket, flight) = rig.next().item.into_parts();
    rig.mailbox.post(Message::Returned(ticket, flight, Wait::Unreadable));
    while rig.progress.waiting() == 0 {
        std::thread::yield_now();
    }
    let before = Instant::now();
    fs::set_permissions(rig.path("a.json"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(rig.next_name(), "a.json");
    assert!(before.elapsed() < Duration::from_secs(4), "it was not the backoff that ended");
}

#[test]
fn another_period_and_quiet_time_hold_at_once() {
    let mut slow = plan();
    slow.settings.watch.debounce = Duration::from_secs(60);
    let rig = slow.start();
    rig.log.wait_for("rescan start");
    let (debounce, period) = (Duration::from_millis(10), Duration::from_millis(100));
    rig.mailbox.post(Message::Tune(Tuning { debounce, period }));
    rig.log.wait_for("rescan period");
    let outside = rig._parent.path().join("outside");
    fs::write(&outside, "{}").unwrap();
    rig.mailbox.post(Message::Tune(Tuning { debounce, period: Duration::from_secs(3_600) }));
    fs::hard_link(&outside, rig.path("a.json")).unwrap();
    let dropped = Instant::now();
    assert_eq!(rig.next_name(), "a.json");
    assert!(dropped.elapsed() < Duration::from_secs(10), "the quiet time is no longer a minute");
}

#[test]
fn hostile_names_are_counted_once_and_left() {
    let rig = plan().start_with(|folder| fs::write(folder.join("a\u{202e}.json"), "1").unwrap());
    rig.write("a\u{202e}.json");
    rig.write("b\n.json");
    rig.write("c.json.tmp");
    fs::create_dir(rig.path("d.json")).unwrap();
    rig.mailbox.post(Message::Rescan(Cause::Signal));
    rig.log.wait_for("not-regular d.json");
    rig.drop_in("e.json");
    assert_eq!(rig.next_name(), "e.json");
    assert_eq!(rig.log.count(r"bad-name a\xe2\x80\xae.json"), 1);
    assert_eq!(rig.log.count(r"bad-name b\n.json"), 1);
}

#[test]
fn a_removed_folder_is_waited_for_and_scanned_on_its_return() {
    let rig = plan().start_with(|folder| fs::create_dir(folder.join("processed")).unwrap());
    assert!(rig.progress.is_healthy());
    fs::remove_dir_all(&rig.handoff).unwrap();
    rig.log.wait_for("healthy false");
    assert_eq!(rig.log.count("hot-folder-gone "), 1);
    assert!(!rig.progress.is_healthy());
    let prepared = rig._parent.path().join("prepared");
    fs::create_dir(&prepared).unwrap();
    fs::write(prepared.join("a.json"), "1").unwrap();
    fs::rename(&prepared, &rig.handoff).unwrap();
    let first = rig.accept("a.json");
    assert_eq!(rig.log.count("rescan returned"), 1);
    rig.drop_in("b.json");
    let taken = rig.next();
    assert_eq!((name_of(&taken.item.ticket), taken.lane), ("b.json".into(), Lane::Fresh));
    assert_eq!(rig.log.count("hot-folder-gone "), 1);
    assert!(rig.progress.is_healthy());
    drop(first);
}

#[test]
fn a_folder_that_is_renamed_away_is_not_followed() {
    let rig = plan().start();
    let moved = rig._parent.path().join("moved");
    fs::rename(&rig.handoff, &moved).unwrap();
    rig.log.wait_for("healthy false");
    fs::write(moved.join("a.json"), "1").unwrap();
    fs::create_dir(&rig.handoff).unwrap();
    rig.write("b.json");
    assert_eq!(rig.next_name(), "b.json");
    assert!(rig.queue.take().is_none());
}

#[test]
fn polling_finds_what_no_event_tells() {
    let mut poll = plan();
    poll.settings.watch.mode = WatchMode::Poll;
    poll.settings.watch.period = Duration::from_millis(100);
    let rig = poll.start();
    assert_eq!(rig.progress.mode(), Mode::Poll);
    rig.drop_in("a.json");
    let (ticket, _flight) = rig.next().item.into_parts();
    assert_eq!((name_of(&ticket), ticket.source), ("a.json".into(), Source::Scan));
    rig.log.wait_for("rescan period");
}

#[test]
fn once_is_settled_when_every_ticket_is_judged() {
    let mut once = plan();
    once.settings.once = true;
    let rig = once.start_with(|folder| {
        fs::write(folder.join("a.json"), "1").unwrap();
        fs::write(folder.join("b.json"), "1").unwrap();
    });
    assert_eq!(rig.progress.mode(), Mode::Once);
    let (ticket, held) = rig.next().item.into_parts();
    let (mut other, identity) = (rig.next().item, Identity::default());
    assert!(!rig.progress.is_settled());
    other.flight.accepted(&identity);
    rig.mailbox.post(Message::Returned(ticket, held, Wait::Busy));
    let mut last = rig.next().item;
    assert!(!rig.progress.is_settled());
    last.flight.accepted(&identity);
    assert!(rig.progress.wait_settled(LONG), "accepted files need not be filed");
    assert!(rig.progress.is_scanned());
}

#[test]
fn a_backlog_longer_than_the_queue_comes_in_order() {
    let mut narrow = plan();
    (narrow.settings.once, narrow.capacity) = (true, 16);
    let rig = narrow.start();
    let names: Vec<String> = (0..400).map(|number| format!("{number:03}.json")).collect();
    names.iter().for_each(|name| rig.drop_in(name));
    rig.mailbox.post(Message::Rescan(Cause::Signal));
    let came: Vec<String> = names
        .iter()
        .map(|_| {
            let (ticket, mut flight) = rig.next().item.into_parts();
            fs::remove_file(rig.path(&name_of(&ticket))).unwrap();
            flight.accepted(&Identity::default());
            name_of(&ticket)
        })
        .collect();
    assert_eq!(came, names);
    assert_eq!(rig.log.count("rescan queue-full"), 0, "no name was left to another scan");
}

#[test]
fn once_is_not_settled_while_files_wait_for_room() {
    let mut once = plan();
    once.settings.once = true;
    once.settings.map_above = 0;
    once.capacity = 2;
    let rig = once.start_with(|folder| {
        (0..7).for_each(|number| fs::write(folder.join(format!("{number}.json")), "1").unwrap());
    });
    let mut flights = BTreeMap::new();
    while flights.len() < 7 {
        assert!(!rig.progress.is_settled());
        let taken = rig.next();
        let (ticket, mut flight) = taken.item.into_parts();
        flight.accepted(&rig.identity(&name_of(&ticket)));
        flights.insert(name_of(&ticket), flight);
    }
    assert!(rig.progress.wait_settled(LONG));
}

#[test]
fn once_with_an_empty_folder_is_settled_at_once() {
    let mut once = plan();
    once.settings.once = true;
    let rig = once.start();
    assert!(rig.progress.wait_settled(LONG));
}

#[test]
fn while_acceptance_is_paused_events_wait() {
    let rig = plan().start();
    rig.admits.store(false, Ordering::SeqCst);
    rig.drop_in("a.json");
    while rig.progress.waiting() == 0 {
        std::thread::yield_now();
    }
    assert!(rig.queue.take().is_none());
    rig.admits.store(true, Ordering::SeqCst);
    rig.mailbox.post(Message::Wake);
    assert_eq!(rig.next_name(), "a.json");
}

#[test]
fn sub_directories_are_watched_when_asked_for() {
    let mut deep = plan();
    deep.settings.watch.recursive = true;
    deep.settings.watch.max_depth = 2;
    let rig = deep.start_with(|folder| fs::create_dir_all(folder.join("old")).unwrap());
    rig.mailbox.post(Message::Wake);
    fs::create_dir_all(rig.path("new/er")).unwrap();
    rig.write("new/er/a.json");
    assert_eq!(rig.next_name(), "new/er/a.json");
    for name in ["old/b.json", "new/c.json", "new/er/d.json"] {
        rig.write(name);
        // Also what came while its directory was not yet watched, hence perhaps by a scan.
        while rig.next_name() != name {}
    }
    fs::create_dir_all(rig.path("new/er/est")).unwrap();
    fs::create_dir(rig.path("processed")).unwrap();
    rig.write("new/er/est/too-deep.json");
    rig.write("processed/own.json");
    rig.drop_in("e.json");
    assert_eq!(rig.next_name(), "e.json");
}

#[test]
fn an_idle_watch_rests() {
    let rig = plan().start();
    rig.drop_in("a.json");
    let _flight = rig.accept("a.json");
    while rig.progress.at_work_since().is_some() {
        std::thread::yield_now();
    }
    let before = rig.rounds.load(Ordering::SeqCst);
    std::thread::sleep(Duration::from_secs(2));
    let rounds = rig.rounds.load(Ordering::SeqCst) - before;
    assert!(rounds <= 2, "{rounds} rounds in 2 s");
}

#[test]
fn a_faulty_pattern_and_a_missing_inotify_are_told_with_advice() {
    let fault = WatchFault::Pattern(PatternFault::Class);
    assert_eq!(fault.to_string(), "watch.pattern: [ without ], or nothing between them");
    let fault = WatchFault::NoInotify("no inotify instance left".into());
    assert_eq!(
        fault.to_string(),
        "watch.mode is inotify, but no inotify instance left; or set it to auto or poll"
    );
    assert_eq!(fault.consequence(), Consequence::Stop);
}

#[test]
fn a_folder_that_comes_back_as_another_can_be_final() {
    struct Jailed(PlainFolder);
    impl Hot for Jailed {
        fn path(&self) -> &Path {
            self.0.path()
        }
        fn handle(&self) -> Arc<std::os::fd::OwnedFd> {
            self.0.handle()
        }
        fn check(&self) -> Result<(), String> {
            self.0.check()
        }
        fn reopen(&self) -> Result<(), Away> {
            Err(Away::ForGood("another directory".into()))
        }
    }
    let parent = tempfile::tempdir().unwrap();
    let handoff = parent.path().join("handoff");
    fs::create_dir(&handoff).unwrap();
    let parts = Parts {
        hot: Arc::new(Jailed(open(&handoff))),
        clock: Arc::new(SystemClock),
        queue: Arc::new(Queue::new(4)),
        flights: Flights::new(),
        may_accept: Arc::new(|| true),
        report: Arc::new(Log::default()),
    };
    let watcher = Watcher::new(plan().settings, parts).unwrap();
    let (mailbox, progress) = (watcher.mailbox(), watcher.progress());
    let thread = std::thread::spawn(move || watcher.run());
    assert!(progress.wait_ready(LONG));
    fs::remove_dir(&handoff).unwrap();
    mailbox.post(Message::Check);
    assert_eq!(thread.join().unwrap(), Err(WatchFault::Replaced("another directory".into())));
}
