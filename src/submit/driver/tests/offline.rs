//! Store and forward: three days without the sink, and its return (`reliability.md` 8).

use std::collections::HashMap;

use tokio::time::{Instant, sleep};

use super::chores::{Paused, paused};
use super::*;
use crate::submit::dispatch::HELD;

const DAY: Duration = Duration::from_secs(86_400);
const INTENTS: u64 = 10_000;
const TARGETS: u64 = 500;
const PARALLEL: usize = 8;
/// The breaker opens with the fifth failure; no pause is longer than this afterwards.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// What a sink saw of one attempt: when, how many were out with it, how many had succeeded before.
struct Sight {
    when: Instant,
    running: usize,
    successes: usize,
}

/// A sink that nobody can reach until it is back.
struct Away {
    back: Instant,
    running: AtomicUsize,
    successes: AtomicUsize,
    seen: Mutex<Vec<Sight>>,
}

impl Sink for Away {
    fn kind(&self) -> SinkKind {
        SinkKind::Exec
    }

    fn abilities(&self) -> Abilities {
        Abilities { parallel: PARALLEL, group: 1, gather: Gather::Targets, window: Duration::ZERO }
    }

    fn deliver<'a>(&'a self, _group: &'a [Delivery<'a>]) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(async move {
            let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            let successes = self.successes.load(Ordering::SeqCst);
            self.seen.lock().push(Sight { when: Instant::now(), running, successes });
            let is_back = Instant::now() >= self.back;
            sleep(Duration::from_millis(if is_back { 50 } else { 3 })).await;
            self.running.fetch_sub(1, Ordering::SeqCst);
            if !is_back {
                return vec![retry(Reason::SinkUnavailable)];
            }
            self.successes.fetch_add(1, Ordering::SeqCst);
            vec![delivered()]
        })
    }

    fn restore(&self, _newest: &Delivery<'_>, _receipt: &Receipt) -> Result<(), String> {
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// What three days left behind.
struct Return {
    sink: Arc<Away>,
    tray: Tray,
    recalled: usize,
    back: Instant,
}

/// 10,000 intents for 500 targets come in during the first hours; the sink is away for 3 days.
fn three_days(coalesce: bool) -> Return {
    paused(async {
        let clock = Arc::new(Paused::new());
        let back = Instant::now() + 3 * DAY;
        let sink = Arc::new(Away {
            back,
            running: AtomicUsize::new(0),
            successes: AtomicUsize::new(0),
            seen: Mutex::default(),
        });
        let (tray, recalled) = (Tray::default(), Arc::new(AtomicUsize::new(0)));
        let pace = Pace { max_age: 7 * DAY, coalesce };
        let dispatch = Dispatch::new(pace, SinkKind::Exec, sink.abilities());
        let count = Arc::clone(&recalled);
        let kept = Kept(Box::new(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }));
        let as_sink = Arc::clone(&sink) as Arc<dyn Sink>;
        let driver = Driver::new(dispatch, as_sink, Arc::new(kept), clock.clone(), Box::new(tray.clone()));
        let (to, inbox) = mpsc::unbounded_channel();
        let drop_files = async {
            for hundred in 0..INTENTS / 100 {
                let jobs = (1..=100).map(|number| {
                    let seq = hundred * 100 + number;
                    let row = Row { accepted_at: clock.wall(), ..row(seq, &format!("nf-{}", seq % TARGETS)) };
                    let mut job = job(row, 0, true);
                    job.arrived = clock.now();
                    job
                });
                to.send(Order::Accepted(jobs.collect())).unwrap();
                sleep(Duration::from_secs(60)).await;
            }
            let done = || tray.0.lock().ended.len() as u64 == INTENTS;
            while !done() {
                sleep(Duration::from_secs(60)).await;
                assert!(clock.now().since(at(0)) < 4 * DAY, "it does not come to an end");
            }
            to.send(Order::Stop(Duration::from_secs(10))).unwrap();
        };
        tokio::join!(driver.run(inbox), drop_files);
        let recalled = recalled.load(Ordering::SeqCst);
        Return { sink, tray, recalled, back }
    })
}

/// Requests that fit into the outage: five until the breaker opens, and as many as were out beside them,
/// then pauses of 5, 10, 20, 40 and 80 s, then one probe in two minutes.
fn bounds() -> std::ops::RangeInclusive<usize> {
    let every = |pause: Duration| (3 * DAY).as_secs() as usize / pause.as_secs() as usize;
    // A probe may have to wait for the longest backoff as well.
    every(LONGEST_PAUSE + Duration::from_secs(60))..=every(LONGEST_PAUSE) + 5 + 5 + PARALLEL
}

fn outage_was_quiet(after: &Return) {
    let seen = after.sink.seen.lock();
    let during: Vec<_> = seen.iter().filter(|sight| sight.when < after.back).collect();
    assert!(bounds().contains(&during.len()), "{} requests, not in {:?}", during.len(), bounds());
    let probes = &during[5 + PARALLEL..];
    assert!(probes.iter().all(|probe| probe.running == 1), "a probe is alone");
    let first = seen.iter().find(|sight| sight.when >= after.back).unwrap();
    assert!(first.when - after.back <= LONGEST_PAUSE + Duration::from_secs(60), "the return is found out");
}

/// Groups at once after the return: 1, then twice as many with every 10 successes.
fn ramp_held(after: &Return) {
    let seen = after.sink.seen.lock();
    let mut most = 0;
    for sight in seen.iter().filter(|sight| sight.when >= after.back) {
        // The probe does not count.
        let doublings = sight.successes.saturating_sub(1) / 10;
        let bound = PARALLEL.min(1 << doublings.min(10));
        assert!(sight.running <= bound, "{} at once after {} successes", sight.running, sight.successes);
        most = most.max(sight.running);
    }
    assert_eq!(most, PARALLEL, "and all of it in the end");
}

#[test]
fn ten_thousand_intents_survive_three_days_and_leave_in_order() {
    let after = three_days(false);
    outage_was_quiet(&after);
    ramp_held(&after);
    let seen = after.tray.0.lock();
    assert!(seen.opened && seen.troubled);
    assert!(seen.ended.iter().all(|end| end.1 == Fate::Delivered));
    let mut last: HashMap<u64, u64> = HashMap::new();
    for (seq, ..) in &seen.ended {
        let before = last.insert(seq % TARGETS, *seq);
        assert!(before.is_none_or(|before| before < *seq), "oldest first within its target");
    }
    let told: HashSet<u64> = seen.told.iter().copied().collect();
    assert_eq!(told.len() as u64, INTENTS, "every producer was told that its intent is pending");
    assert_eq!(seen.most_pending, INTENTS);
    // Memory: beyond HELD parsed intents a pending job is its ledger row and bookkeeping.
    assert!(after.recalled >= INTENTS as usize - HELD, "{} were read again", after.recalled);
    assert!(size_of::<Job>() <= 640, "{} bytes for each pending job", size_of::<Job>());
    assert_eq!(seen.pending, Pending::default());
}

#[test]
fn with_latest_one_of_each_target_leaves_and_every_other_has_its_end() {
    let after = three_days(true);
    outage_was_quiet(&after);
    ramp_held(&after);
    let seen = after.tray.0.lock();
    let of = |fate| seen.ended.iter().filter(move |end| end.1 == fate).map(|end| end.0);
    let newest: HashSet<u64> = (INTENTS - TARGETS + 1..=INTENTS).collect();
    assert_eq!(of(Fate::Delivered).collect::<HashSet<_>>(), newest);
    let superseded: HashSet<u64> = of(Fate::Superseded).collect();
    assert_eq!(superseded.len() as u64, INTENTS - TARGETS, "none without a word, none twice");
    assert_eq!(seen.ended.len() as u64, INTENTS);
    assert!(seen.most_pending <= TARGETS, "what is superseded is not kept");
}
