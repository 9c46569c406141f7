mod chores;
mod eight_hours;
mod offline;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::super::breaker::Circuit;
use super::super::dispatch::tests::{at, delivered, job, retry, row};
use super::super::dispatch::{Notice, Pace, Pending, Unsent};
use super::*;
use crate::clock::{HandClock, Wall};
use crate::fate::{Fate, Reason, Receipt, SinkKind};
use crate::intent::Intent;
use crate::ledger::Row;
use crate::package::tests::scaling;
use crate::submit::{Abilities, Delivery, Gather};

const NOON: Wall = Wall(1_800_000_000_000_000_000);

/// A sink whose answers are told by the number in the name of the file; it yields once in the middle.
struct Script {
    abilities: Abilities,
    answer: Box<dyn Fn(u64) -> Outcome + Send + Sync>,
    running: AtomicUsize,
    most: AtomicUsize,
    sent: Mutex<Vec<Vec<u64>>>,
    /// It cannot be asked what it holds.
    mute: bool,
    /// It answers nothing until it is told to wind up.
    hangs: bool,
    winding_up: tokio::sync::watch::Sender<bool>,
}

impl Script {
    fn new(
        parallel: usize,
        group: usize,
        answer: impl Fn(u64) -> Outcome + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Script {
            abilities: Abilities { parallel, group, gather: Gather::Targets, window: Duration::ZERO },
            answer: Box::new(answer),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            sent: Mutex::default(),
            mute: false,
            hangs: false,
            winding_up: tokio::sync::watch::Sender::new(false),
        })
    }

    /// The same, of a sink that cannot be asked what it holds.
    fn mute(parallel: usize, answer: impl Fn(u64) -> Outcome + Send + Sync + 'static) -> Arc<Self> {
        let sink = Arc::into_inner(Script::new(parallel, 1, answer)).unwrap();
        Arc::new(Script { mute: true, ..sink })
    }
}

impl Sink for Script {
    fn kind(&self) -> SinkKind {
        SinkKind::Folder
    }

    fn abilities(&self) -> Abilities {
        self.abilities
    }

    fn deliver<'a>(&'a self, group: &'a [Delivery<'a>]) -> BoxFuture<'a, Vec<Outcome>> {
        let number = |delivery: &Delivery<'_>| {
            delivery.name.trim_start_matches("intent-").trim_end_matches(".json").parse().unwrap()
        };
        Box::pin(async move {
            self.sent.lock().push(group.iter().map(number).collect());
            let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(running, Ordering::SeqCst);
            tokio::task::yield_now().await;
            if self.hangs {
                self.winding_up.subscribe().wait_for(|told| *told).await.unwrap();
            }
            self.running.fetch_sub(1, Ordering::SeqCst);
            group.iter().map(|delivery| (self.answer)(number(delivery))).collect()
        })
    }

    fn restore(&self, _newest: &Delivery<'_>, _receipt: &Receipt) -> Result<(), String> {
        Ok(())
    }

    fn needs_attempt_row(&self) -> bool {
        self.mute
    }

    fn wind_up(&self) {
        self.winding_up.send_replace(true);
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Recalls every intent but those that a test says otherwise of.
struct Kept(Box<dyn Fn(u64) -> Result<(), Unsent> + Send + Sync>);

impl Recall for Kept {
    fn intent(&self, row: &Row) -> Result<Intent, Unsent> {
        (self.0)(row.seq).map(|()| scaling(3))
    }

    fn file(&self, row: &Row) -> Result<Vec<u8>, Unsent> {
        (self.0)(row.seq).map(|()| b"{}\n".to_vec())
    }
}

/// What came out.
#[derive(Default)]
struct Seen {
    ended: Vec<(u64, Fate, Option<Reason>)>,
    panics: usize,
    troubled: bool,
    opened: bool,
    attempted: usize,
    /// The ledger takes no notes.
    deaf: bool,
    begun: Vec<(u64, bool)>,
    taken_back: Vec<(u64, bool)>,
    changed: Vec<(u64, Receipt)>,
    limits: Vec<usize>,
    told: Vec<u64>,
    most_pending: u64,
    pending: Pending,
    signs: Vec<&'static str>,
}

#[derive(Clone, Default)]
struct Tray(Arc<Mutex<Seen>>);

impl Outbox for Tray {
    fn finished(&mut self, ended: Vec<Finished>) {
        let ended = ended.iter().map(|end| (end.job.row.seq, end.fate, end.reason));
        self.0.lock().ended.extend(ended);
    }

    fn waiting(&mut self, notices: Vec<Notice>) {
        self.0.lock().told.extend(notices.iter().map(|notice| notice.row.seq));
    }

    fn attempted(&mut self, _outcome: &Outcome, _took: Duration) {
        self.0.lock().attempted += 1;
    }

    fn beginning(&mut self, group: &[Job]) -> Noted {
        let mut seen = self.0.lock();
        seen.begun.extend(group.iter().map(|job| (job.row.seq, job.doubtful)));
        let noted = !seen.deaf;
        Box::pin(async move {
            tokio::task::yield_now().await;
            noted
        })
    }

    fn changed(&mut self, rows: Vec<(u64, Receipt)>) {
        self.0.lock().changed.extend(rows);
    }

    fn without_effect(&mut self, job: &Job, counts: bool) {
        self.0.lock().taken_back.push((job.row.seq, counts));
    }

    fn standing(
        &mut self,
        _sink: SinkKind,
        circuit: Circuit,
        pending: Pending,
        trouble: Option<&(Reason, String)>,
    ) {
        let mut seen = self.0.lock();
        seen.troubled |= trouble.is_some();
        seen.opened |= circuit != Circuit::Closed;
        seen.most_pending = seen.most_pending.max(pending.by_class.iter().sum());
        seen.pending = pending;
    }

    fn calling(&mut self) {
        self.0.lock().signs.push("calling");
    }

    fn answered(&mut self) {
        self.0.lock().signs.push("answered");
    }

    fn resting(&mut self) {
        self.0.lock().signs.push("resting");
    }

    fn limited(&mut self, groups: usize) {
        self.0.lock().limits.push(groups);
    }

    fn panicked(&mut self) {
        self.0.lock().panics += 1;
    }
}

struct Bed {
    clock: Arc<HandClock>,
    tray: Tray,
    driver: Driver,
}

fn bed(sink: &Arc<Script>, kept: impl Fn(u64) -> Result<(), Unsent> + Send + Sync + 'static) -> Bed {
    let clock = Arc::new(HandClock::at(at(0), NOON));
    let tray = Tray::default();
    let pace = Pace { max_age: Duration::ZERO, coalesce: false };
    let dispatch = Dispatch::new(pace, SinkKind::Folder, sink.abilities());
    let sink = Arc::clone(sink) as Arc<dyn Sink>;
    let hand = Arc::clone(&clock) as Arc<dyn Clock>;
    let driver = Driver::new(dispatch, sink, Arc::new(Kept(Box::new(kept))), hand, Box::new(tray.clone()));
    Bed { clock, tray, driver }
}

fn all_kept(_seq: u64) -> Result<(), Unsent> {
    Ok(())
}

/// Jobs `1..=count`, of `targets` targets, not in memory.
fn jobs(count: u64, targets: u64) -> Vec<Job> {
    (1..=count).map(|seq| job(row(seq, &format!("nf-{}", seq % targets)), 0, false)).collect()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

impl Bed {
    /// Works until nothing is left, at most 10,000 turns; the clock jumps to whatever is due next.
    fn work(&mut self, jobs: Vec<Job>) {
        let Bed { clock, driver, .. } = self;
        block_on(async {
            let mut running = FuturesUnordered::new();
            driver.obey(Order::Accepted(jobs));
            for _ in 0..10_000 {
                driver.start_due(&mut running);
                driver.keep_house();
                if let Some(done) = running.next().await {
                    driver.take(done);
                } else if driver.dispatch.is_empty() {
                    return;
                } else if let Some(due) = driver.dispatch.next_due(clock.now()) {
                    clock.advance(due.since(clock.now()));
                }
            }
            panic!("it never ends");
        });
        self.driver.keep_house();
        assert_eq!(self.tray.0.lock().pending, Pending::default());
    }

    fn ended(&self, fate: Fate, reason: Option<Reason>) -> Vec<u64> {
        let seen = self.tray.0.lock();
        let mut seqs: Vec<u64> =
            seen.ended.iter().filter(|end| (end.1, end.2) == (fate, reason)).map(|end| end.0).collect();
        seqs.sort_unstable();
        seqs
    }
}

#[test]
fn rows_that_cannot_be_recalled_end_refused_and_hold_nobody_back() {
    let sink = Script::new(1, 64, |_| delivered());
    let mut bed = bed(&sink, |seq| match seq {
        1..=10 => Err(Unsent::Refused { reason: Reason::Policy, message: "replicas 90".to_owned() }),
        11..=20 => Err(Unsent::Lost("gone".to_owned())),
        _ => Ok(()),
    });
    bed.work(jobs(25, 25));
    assert_eq!(bed.ended(Fate::Refused, Some(Reason::Policy)), (1..=10).collect::<Vec<_>>());
    assert_eq!(bed.ended(Fate::Refused, Some(Reason::CrashSuspect)), (11..=20).collect::<Vec<_>>());
    assert_eq!(bed.ended(Fate::Delivered, None), (21..=25).collect::<Vec<_>>());
    let seen = bed.tray.0.lock();
    assert!(!seen.troubled && !seen.opened && seen.attempted == 5);
}

#[test]
fn after_a_change_of_rules_what_waits_is_judged_again() {
    let sink = Script::new(1, 64, |_| delivered());
    let mut bed = bed(&sink, |_| Err(Unsent::Refused { reason: Reason::Policy, message: "10".to_owned() }));
    let pace = Pace { max_age: Duration::ZERO, coalesce: false };
    let in_memory = |seqs: std::ops::Range<u64>, arrived| {
        seqs.map(|seq| job(row(seq, &format!("nf-{seq}")), arrived, true)).collect()
    };
    bed.driver.obey(Order::Accepted(in_memory(1..6, 0)));
    bed.clock.advance(Duration::from_secs(1));
    bed.driver.obey(Order::Tune { pace, judge_again: false });
    bed.work(Vec::new());
    assert_eq!(bed.ended(Fate::Delivered, None).len(), 5, "the pace alone changes no verdict");
    bed.driver.obey(Order::Accepted(in_memory(6..11, 1)));
    bed.clock.advance(Duration::from_secs(1));
    bed.driver.obey(Order::Tune { pace, judge_again: true });
    bed.work(in_memory(11..16, 2));
    assert_eq!(bed.ended(Fate::Refused, Some(Reason::Policy)), (6..11).collect::<Vec<_>>());
    assert_eq!(bed.ended(Fate::Delivered, None), (1..6).chain(11..16).collect::<Vec<_>>());
}

#[test]
fn a_row_that_cannot_be_read_for_a_while_is_delivered_later() {
    let sink = Script::new(1, 1, |_| delivered());
    let turns = AtomicU64::new(0);
    let mut bed = bed(&sink, move |seq| {
        let unreadable = seq <= 8 && turns.fetch_add(1, Ordering::SeqCst) < 30;
        if unreadable { Err(Unsent::Unreadable("busy".to_owned())) } else { Ok(()) }
    });
    bed.work(jobs(10, 10));
    assert_eq!(bed.ended(Fate::Delivered, None), (1..=10).collect::<Vec<_>>());
    assert!(!bed.tray.0.lock().troubled && !bed.tray.0.lock().opened);
}

#[test]
fn a_panic_in_the_sink_costs_that_intent_only() {
    let sink = Script::new(1, 64, |seq| match seq {
        7 => panic!("poison"),
        _ => delivered(),
    });
    let mut bed = bed(&sink, all_kept);
    bed.work(jobs(20, 20));
    assert_eq!(bed.ended(Fate::Refused, Some(Reason::CrashSuspect)), [7]);
    assert_eq!(bed.ended(Fate::Delivered, None).len(), 19);
    let seen = bed.tray.0.lock();
    assert_eq!(seen.panics, 3, "once in the group, twice alone");
    assert!(!seen.troubled && !seen.opened);
    assert!(sink.sent.lock()[1..].iter().all(|group| group.len() == 1));
}

#[test]
fn a_panic_while_an_intent_is_read_again_costs_that_intent_only() {
    let sink = Script::new(1, 64, |_| delivered());
    let mut bed = bed(&sink, |seq| if seq == 2 { panic!("poison") } else { Ok(()) });
    bed.work(jobs(5, 5));
    assert_eq!(bed.ended(Fate::Refused, Some(Reason::CrashSuspect)), [2]);
    assert_eq!(bed.ended(Fate::Delivered, None), [1, 3, 4, 5]);
}

#[test]
fn a_sink_that_answers_too_few_loses_nothing() {
    struct Short(Arc<Script>);
    impl Sink for Short {
        fn kind(&self) -> SinkKind {
            self.0.kind()
        }
        fn abilities(&self) -> Abilities {
            self.0.abilities()
        }
        fn deliver<'a>(&'a self, group: &'a [Delivery<'a>]) -> BoxFuture<'a, Vec<Outcome>> {
            Box::pin(async move {
                let mut outcomes = self.0.deliver(group).await;
                outcomes.truncate(1);
                outcomes
            })
        }
        fn restore(&self, _newest: &Delivery<'_>, _receipt: &Receipt) -> Result<(), String> {
            Ok(())
        }
        fn check(&self) -> Result<(), String> {
            Ok(())
        }
    }
    let sink = Script::new(1, 64, |_| delivered());
    let mut bed = bed(&sink, all_kept);
    bed.driver.sink = Arc::new(Short(sink));
    bed.work(jobs(3, 3));
    assert_eq!(bed.ended(Fate::Delivered, None), [1, 2, 3], "one by one");
}

#[test]
fn recovery_after_an_outage_keeps_order_and_abilities() {
    let down = AtomicU64::new(12);
    let sink = Script::new(3, 2, move |_| {
        let failing =
            down.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if failing { retry(Reason::SinkUnavailable) } else { delivered() }
    });
    let mut bed = bed(&sink, all_kept);
    bed.work(jobs(60, 12));
    let seen = bed.tray.0.lock();
    assert!(seen.troubled && seen.opened);
    assert_eq!(seen.ended.len(), 60);
    for target in 0..12 {
        assert!(seen.ended.iter().map(|end| end.0).filter(|seq| seq % 12 == target).is_sorted());
    }
    assert_eq!(sink.most.load(Ordering::SeqCst), 3, "as many groups as the sink takes");
    for group in sink.sent.lock().iter() {
        let targets: HashSet<u64> = group.iter().map(|seq| seq % 12).collect();
        assert!(group.len() <= 2 && targets.len() == group.len());
    }
}

#[test]
fn a_stop_lets_what_is_out_finish_and_sends_nothing_new() {
    let sink = Script::new(1, 2, |_| delivered());
    let Bed { tray, driver, .. } = bed(&sink, all_kept);
    block_on(async {
        let (orders, inbox) = mpsc::unbounded_channel();
        orders.send(Order::Accepted(jobs(5, 5))).unwrap();
        let stop = async {
            while sink.sent.lock().is_empty() {
                tokio::task::yield_now().await;
            }
            orders.send(Order::Stop(Duration::from_secs(10))).unwrap();
        };
        tokio::join!(driver.run(inbox), stop);
    });
    let seen = tray.0.lock();
    let (ended, pending) = (seen.ended.len(), seen.pending.by_class[1]);
    assert_eq!(ended as u64 + pending, 5);
    assert_eq!(sink.sent.lock().iter().flatten().count(), ended, "what was sent was answered");
}

#[test]
fn it_says_when_it_hands_a_group_over_has_an_answer_and_rests() {
    let sink = Script::new(1, 64, |_| delivered());
    let Bed { tray, driver, .. } = bed(&sink, all_kept);
    let signs = tray.clone();
    block_on(async {
        let (orders, inbox) = mpsc::unbounded_channel();
        let drop_one = async {
            orders.send(Order::Accepted(jobs(1, 1))).unwrap();
            while !signs.0.lock().signs.ends_with(&["calling", "answered", "resting"]) {
                tokio::task::yield_now().await;
            }
            orders.send(Order::Stop(Duration::from_secs(10))).unwrap();
        };
        let patience = Duration::from_secs(20);
        let ran = async { tokio::join!(driver.run(inbox), drop_one) };
        assert!(tokio::time::timeout(patience, ran).await.is_ok(), "{:?}", signs.0.lock().signs);
    });
}

#[test]
fn idle_it_needs_no_timer_and_with_a_probe_out_it_does_not_spin() {
    let sink = Script::new(2, 1, |_| delivered());
    let Bed { mut driver, clock, .. } = bed(&sink, all_kept);
    assert_eq!(driver.sleep_for(true), None);
    driver.obey(Order::Accepted(jobs(7, 7)));
    assert_eq!(driver.sleep_for(true), Some(Duration::from_millis(1)));
    assert_eq!(driver.sleep_for(false), Some(HOUSEKEEPING));
    let now = clock.now();
    for job in driver.dispatch.due(5, now, NOON, &mut Vec::new()) {
        driver.dispatch.report(job, retry(Reason::SinkUnavailable), now, 0.0);
    }
    clock.advance(Duration::from_secs(5));
    assert_eq!(driver.dispatch.due(5, clock.now(), NOON, &mut Vec::new()).len(), 1);
    assert_eq!(driver.sleep_for(true), Some(HOUSEKEEPING));
}

fn later(tried: Tried) -> Outcome {
    Outcome::Retry { reason: Reason::CliExit, message: "later".to_owned(), after: None, tried }
}

#[test]
fn a_sink_that_can_be_asked_costs_no_note() {
    let sink = Script::new(1, 64, |_| delivered());
    let mut bed = bed(&sink, all_kept);
    bed.work(jobs(20, 20));
    assert!(bed.tray.0.lock().begun.is_empty());
}

#[test]
fn an_attempt_begins_when_it_is_noted_and_only_an_uncertain_one_leaves_a_doubt() {
    let turns: Arc<Mutex<Vec<u64>>> = Arc::default();
    let seen = Arc::clone(&turns);
    let sink = Script::mute(1, move |seq| {
        let mut seen = seen.lock();
        seen.push(seq);
        match (seen.iter().filter(|turn| **turn == seq).count(), seq) {
            (1, 1) => later(Tried::No),
            (1, 2) => later(Tried::WithoutEffect),
            (1, 3) => later(Tried::Perhaps),
            _ => delivered(),
        }
    });
    let mut bed = bed(&sink, all_kept);
    bed.work(jobs(4, 4));
    let mut seen = bed.tray.0.lock();
    seen.begun.sort_unstable();
    let twice = [(1, false), (1, false), (2, false), (2, false), (3, false), (3, true), (4, false)];
    assert_eq!(seen.begun, twice);
    assert_eq!(seen.taken_back, [(1, false), (2, true)]);
    assert_eq!(sink.sent.lock().len(), twice.len());
}

#[test]
fn what_the_ledger_does_not_note_is_not_sent() {
    let sink = Script::mute(1, |_| delivered());
    let Bed { tray, mut driver, .. } = bed(&sink, all_kept);
    tray.0.lock().deaf = true;
    block_on(async {
        let mut running = FuturesUnordered::new();
        driver.obey(Order::Accepted(jobs(1, 1)));
        driver.start_due(&mut running);
        let done = running.next().await.unwrap();
        driver.take(done);
    });
    assert!(sink.sent.lock().is_empty() && tray.0.lock().ended.is_empty());
    assert_eq!(driver.dispatch.len(), 1);
}

#[test]
fn a_held_intent_is_not_sent_again_and_no_trouble_of_the_sink() {
    let sink = Script::mute(1, |seq| match seq {
        1 => Outcome::Held {
            reason: Reason::CliTimeout,
            message: "look".to_owned(),
            tried: Tried::Perhaps,
            again: None,
        },
        _ => delivered(),
    });
    let Bed { tray, mut driver, clock } = bed(&sink, all_kept);
    block_on(async {
        let mut running = FuturesUnordered::new();
        // 1 and 3 are of one target.
        driver.obey(Order::Accepted(jobs(4, 2)));
        for _ in 0..100 {
            driver.start_due(&mut running);
            match running.next().await {
                Some(done) => driver.take(done),
                None => clock.advance(Duration::from_secs(600)),
            }
        }
    });
    driver.keep_house();
    let seen = tray.0.lock();
    assert_eq!(seen.ended.iter().map(|end| end.0).collect::<Vec<_>>(), [2, 4]);
    assert_eq!(*sink.sent.lock(), [[1], [2], [4]], "its line waits with it");
    assert!(!seen.troubled && !seen.opened && seen.pending.by_class == [0, 2, 0]);
}

#[test]
fn a_stop_tells_a_sink_that_hangs_to_wind_up_in_time() {
    let sink = Arc::new(Script {
        hangs: true,
        ..Arc::into_inner(Script::mute(2, |_| later(Tried::Perhaps))).unwrap()
    });
    let Bed { tray, mut driver, .. } = bed(&sink, all_kept);
    driver.clock = Arc::new(crate::clock::SystemClock);
    let started = std::time::Instant::now();
    block_on(async {
        let (orders, inbox) = mpsc::unbounded_channel();
        orders.send(Order::Accepted(jobs(3, 3))).unwrap();
        let stop = async {
            while sink.sent.lock().len() < 2 {
                tokio::task::yield_now().await;
            }
            orders.send(Order::Stop(Duration::from_millis(300))).unwrap();
        };
        tokio::join!(driver.run(inbox), stop);
    });
    assert!(started.elapsed() >= Duration::from_millis(200), "it had its time");
    assert_eq!(tray.0.lock().attempted, 2, "both answered when they were told");
}

#[test]
fn a_stop_waits_for_nobody_for_ever() {
    struct Deaf(Arc<Script>);
    impl Sink for Deaf {
        fn kind(&self) -> SinkKind {
            self.0.kind()
        }
        fn abilities(&self) -> Abilities {
            self.0.abilities()
        }
        fn deliver<'a>(&'a self, group: &'a [Delivery<'a>]) -> BoxFuture<'a, Vec<Outcome>> {
            self.0.deliver(group)
        }
        fn restore(&self, _newest: &Delivery<'_>, _receipt: &Receipt) -> Result<(), String> {
            Ok(())
        }
        fn check(&self) -> Result<(), String> {
            Ok(())
        }
    }
    let sink =
        Arc::new(Script { hangs: true, ..Arc::into_inner(Script::new(1, 1, |_| delivered())).unwrap() });
    let Bed { tray, mut driver, .. } = bed(&sink, all_kept);
    driver.clock = Arc::new(crate::clock::SystemClock);
    driver.sink = Arc::new(Deaf(Arc::clone(&sink)));
    block_on(async {
        let (orders, inbox) = mpsc::unbounded_channel();
        orders.send(Order::Accepted(jobs(1, 1))).unwrap();
        let stop = async {
            while sink.sent.lock().is_empty() {
                tokio::task::yield_now().await;
            }
            orders.send(Order::Stop(Duration::from_millis(100))).unwrap();
        };
        tokio::join!(driver.run(inbox), stop);
    });
    assert!(tray.0.lock().ended.is_empty());
}
