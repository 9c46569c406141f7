use std::fs;
use std::time::Instant;

use crossbeam::channel::{self, Receiver, Sender};

use super::*;
use crate::clock::SystemClock;
use crate::config::{self, Live};
use crate::debounce::{Debouncer, Hint};
use crate::disk::Layout;
use crate::fate::Source;
use crate::ledger::{self, Downstream, Event, Released, Report, Store};
use crate::pipeline::hot::{HotFolder, WatchNews};
use crate::queue::{Claim, Flights};
use crate::watch::{Parts, Settings, Watcher};

/// Panics with names that begin with `intent-bad`, and refuses every other one.
struct Nervous;

impl Judge for Nervous {
    fn judge(&mut self, handoff: &OwnedFd, ticket: &Ticket, _large: bool) -> (Judged, Timing) {
        assert!(!ticket.name.starts_with(b"intent-bad"), "nervous");
        let seen = look_at(handoff, Path::new(OsStr::from_bytes(&ticket.name))).unwrap().unwrap();
        let entry = refusal(ticket, seen.identity, 0, "seen".to_owned());
        (Judged::Entry(Box::new(entry), None), Timing::default())
    }

    fn rest(&mut self) {}
}

struct Out(Sender<Released<Parcel>>);

impl Downstream<Parcel> for Out {
    fn accepted(&mut self, files: Vec<Released<Parcel>>) {
        files.into_iter().for_each(|file| self.0.send(file).unwrap());
    }

    fn ended(&mut self, files: Vec<Released<Parcel>>) {
        self.accepted(files);
    }

    fn known(&mut self, files: Vec<Released<Parcel>>) {
        self.accepted(files);
    }
}

struct Quiet;

impl Report for Quiet {
    fn event(&mut self, _event: Event) {}
}

struct Bench {
    root: tempfile::TempDir,
    crew: Arc<Crew>,
    flights: Flights,
    ended: Receiver<Released<Parcel>>,
    order: u64,
}

fn bench() -> Bench {
    let root = tempfile::tempdir().unwrap();
    let layout = Layout { handoff: root.path().join("in"), failed: None, out: root.path().join("out") };
    let disk = Arc::new(RealDisk::open(layout).unwrap());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let settings = ledger::Settings::new(root.path().join("state"), &config::Ledger::default());
    let store = Store::open(settings, Arc::clone(&clock)).unwrap();
    let (out, ended) = channel::unbounded();
    let (ledger, writer, _) = ledger::writer(store, Box::new(Out(out)), Box::new(Quiet));
    std::thread::spawn(move || writer.run());
    let (queue, flights) = (Arc::new(Queue::new(16)), Flights::new());
    let (metrics, health) = (Metrics::new(), Health::new());
    let parts = Parts {
        hot: Arc::new(HotFolder { disk: Arc::clone(&disk), pinned: false }),
        clock: Arc::clone(&clock),
        queue: Arc::clone(&queue),
        flights: flights.clone(),
        may_accept: Arc::new(|| true),
        report: Arc::new(WatchNews { metrics: metrics.clone(), health: health.clone() }),
    };
    let watch = Watcher::new(Settings::new(&config::Config::default()), parts).unwrap().mailbox();
    let crew = Crew {
        queue,
        gate: Arc::new(Gate::new(100, u64::MAX)),
        ledger,
        watch,
        disk,
        clock,
        metrics,
        health,
        stopping: Arc::default(),
        settings: Live::new(InForce::new(config::Config::default(), None)),
        condemned: Mutex::default(),
        panics: Mutex::default(),
        left: Mutex::default(),
    };
    Bench { root, crew: Arc::new(crew), flights, ended, order: 0 }
}

impl Bench {
    /// Drops a file, unless it is there, and has it judged; false if that panicked.
    fn judge(&mut self, name: &str) -> bool {
        let path = self.root.path().join("in").join(name);
        if !path.exists() {
            fs::write(path, "{}").unwrap();
        }
        let mut debouncer = Debouncer::new(Duration::from_millis(10));
        let _ = debouncer.event(name.as_bytes().into(), Hint::Renamed, self.crew.clock.now());
        let ticket = debouncer.due(self.crew.clock.now()).unwrap();
        assert_eq!(ticket.source, Source::Event);
        let Claim::Taken(flight) = self.flights.claim(name.as_bytes(), Hint::Renamed) else {
            panic!("{name} should be free")
        };
        let order = self.order;
        self.order += 1;
        let item = Box::new(crate::watch::Job::unshared(ticket, flight));
        let taken = Taken { order, lane: crate::queue::Lane::Fresh, item, large: None };
        self.crew.handle(&mut Nervous, 0, taken)
    }

    fn next_end(&self) -> (String, Option<Reason>) {
        let file = self.ended.recv_deadline(Instant::now() + Duration::from_secs(20)).unwrap();
        let end = file.row.end.unwrap();
        (String::from_utf8_lossy(&file.row.name).into_owned(), end.reason)
    }
}

#[test]
fn a_panic_costs_that_file_only_and_a_second_one_refuses_it() {
    let mut bench = bench();
    assert!(!bench.judge("intent-bad.json"), "the tools are to be made anew");
    assert!(bench.judge("intent-good.json"));
    assert_eq!(bench.next_end().0, "intent-good.json", "the first panic made no row");
    drop(fs::remove_file(bench.root.path().join("in/intent-bad.json")));
    bench.flights = Flights::new();
    assert!(!bench.judge("intent-bad.json"));
    assert_eq!(bench.next_end(), ("intent-bad.json".to_owned(), Some(Reason::CrashSuspect)));
    assert!(bench.crew.metrics.render().contains("conductor_loop_panics_total 2"));
}

#[test]
fn a_condemned_file_is_refused_unread_and_the_next_one_of_its_name_is_read() {
    let mut bench = bench();
    let path = bench.root.path().join("in/intent-once.json");
    fs::write(&path, "{}").unwrap();
    let handoff = bench.crew.disk.folders();
    let seen = look_at(handoff.fd(Place::Handoff), Path::new("intent-once.json")).unwrap().unwrap();
    bench.crew.condemned.lock().insert(b"intent-once.json".to_vec(), seen.identity);
    let other = crate::disk::Identity { ino: 1, ..seen.identity };
    bench.crew.condemned.lock().insert(b"intent-other.json".to_vec(), other);
    let words = |bench: &Bench| {
        let file = bench.ended.recv_deadline(Instant::now() + Duration::from_secs(20)).unwrap();
        file.row.end.unwrap().message
    };
    assert!(bench.judge("intent-once.json"));
    assert!(words(&bench).starts_with("three processes died"));
    assert!(bench.judge("intent-other.json"), "another file under a condemned name");
    assert_eq!(words(&bench), "seen");
    assert!(bench.crew.condemned.lock().is_empty(), "asked for once");
}
