//! The sink's own work, with time that stands still while somebody works.

use tokio::time::{Instant, sleep};

use super::*;
use crate::fate::Lifecycle;
use crate::submit::{News, Tended};

/// The clocks of a runtime whose time is paused.
pub(super) struct Paused(Instant);

impl Paused {
    pub(super) fn new() -> Self {
        Paused(Instant::now())
    }
}

impl Clock for Paused {
    fn now(&self) -> Mono {
        at(0).after(self.0.elapsed())
    }

    fn wall(&self) -> Wall {
        NOON.after(self.0.elapsed())
    }
}

/// Runs with paused time: it jumps to the next timer when nobody has anything to do.
pub(super) fn paused<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(work)
}

type Told = Box<dyn Fn(usize) -> Tended + Send + Sync>;

/// A sink with chores; times are in milliseconds since the start.
struct Homely {
    abilities: Abilities,
    began: Instant,
    /// How long a group takes, and a chore.
    takes: (u64, u64),
    told: Told,
    outcome: fn() -> Outcome,
    out: AtomicUsize,
    groups: Mutex<Vec<(u128, usize)>>,
    tended: Mutex<Vec<(u128, bool)>>,
    resumed: Mutex<Vec<(Id, Receipt)>>,
}

impl Homely {
    fn new(takes: (u64, u64), told: impl Fn(usize) -> Tended + Send + Sync + 'static) -> Homely {
        Homely {
            abilities: Abilities {
                parallel: 1,
                group: 8,
                gather: Gather::Package,
                window: Duration::from_millis(200),
            },
            began: Instant::now(),
            takes,
            told: Box::new(told),
            outcome: proposed,
            out: AtomicUsize::new(0),
            groups: Mutex::default(),
            tended: Mutex::default(),
            resumed: Mutex::default(),
        }
    }

    fn since(&self) -> u128 {
        self.began.elapsed().as_millis()
    }
}

/// Something is at the sink; also when it is dropped half-way it leaves.
struct Inside<'s>(&'s AtomicUsize);

impl<'s> Inside<'s> {
    fn enter(out: &'s AtomicUsize) -> Self {
        assert_eq!(out.fetch_add(1, Ordering::SeqCst), 0, "nothing else is out");
        Inside(out)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Sink for Homely {
    fn kind(&self) -> SinkKind {
        SinkKind::Porch
    }

    fn abilities(&self) -> Abilities {
        self.abilities
    }

    fn deliver<'a>(&'a self, group: &'a [Delivery<'a>]) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(async move {
            let _inside = Inside::enter(&self.out);
            self.groups.lock().push((self.since(), group.len()));
            sleep(Duration::from_millis(self.takes.0)).await;
            group.iter().map(|_| (self.outcome)()).collect()
        })
    }

    fn package(&self, target: &crate::intent::Target) -> Option<String> {
        Some(target.namespace.to_string())
    }

    fn resume(&self, open: Vec<(Id, Receipt)>) {
        assert!(self.tended.lock().is_empty(), "it comes before everything else");
        self.resumed.lock().extend(open);
    }

    fn has_chores(&self) -> bool {
        true
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn tend(&self, idle: bool) -> BoxFuture<'_, Tended> {
        Box::pin(async move {
            let _inside = Inside::enter(&self.out);
            let number = self.tended.lock().len();
            self.tended.lock().push((self.since(), idle));
            sleep(Duration::from_millis(self.takes.1)).await;
            (self.told)(number)
        })
    }

    fn restore(&self, _newest: &Delivery<'_>, _receipt: &Receipt) -> Result<(), String> {
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

fn held(lifecycle: Lifecycle) -> Receipt {
    let (name, revision) = ("blueprints.ran.i-1".to_owned(), String::new());
    Receipt { name, revision, lifecycle, adopted: false }
}

fn proposed() -> Outcome {
    Outcome::Delivered(held(Lifecycle::Proposed))
}

fn never(_number: usize) -> Tended {
    Tended::default()
}

fn id(seq: u64) -> Id {
    Id::derive(&[7; 16], seq)
}

fn news(seq: u64, lifecycle: Lifecycle) -> News {
    News { id: id(seq), receipt: held(lifecycle) }
}

/// Gives these orders at these moments, and ends after the last one.
async fn run(sink: &Arc<Homely>, orders: Vec<(u64, Order)>, ends: u64) -> Tray {
    run_after(sink, Vec::new(), orders, ends).await
}

/// The same, after a process that left this open.
async fn run_after(
    sink: &Arc<Homely>,
    open: Vec<(u64, Id, Receipt)>,
    orders: Vec<(u64, Order)>,
    ends: u64,
) -> Tray {
    let clock = Arc::new(Paused::new());
    let tray = Tray::default();
    let pace = Pace { max_age: Duration::ZERO, coalesce: false };
    let dispatch = Dispatch::new(pace, SinkKind::Porch, sink.abilities());
    let outbox = Box::new(tray.clone());
    let recall = Arc::new(Kept(Box::new(all_kept)));
    let mut driver = Driver::new(dispatch, Arc::clone(sink) as Arc<dyn Sink>, recall, clock.clone(), outbox);
    driver.follow(open);
    let (to, inbox) = mpsc::unbounded_channel();
    let give = async {
        for (when, mut order) in orders {
            sleep(Duration::from_millis(when).saturating_sub(clock.0.elapsed())).await;
            if let Order::Accepted(jobs) | Order::Resumed(jobs, _) = &mut order {
                jobs.iter_mut().for_each(|job| job.arrived = clock.now());
            }
            to.send(order).unwrap();
        }
        sleep(Duration::from_millis(ends).saturating_sub(clock.0.elapsed())).await;
        to.send(Order::Stop(Duration::from_secs(10))).unwrap();
    };
    tokio::join!(driver.run(inbox), give);
    tray
}

fn accepted(seqs: std::ops::RangeInclusive<u64>) -> Order {
    Order::Accepted(seqs.map(|seq| job(row(seq, &format!("nf-{seq}")), 0, true)).collect())
}

#[test]
fn a_package_at_rest_waits_for_company_and_a_busy_one_for_its_turn() {
    paused(async {
        let sink = Arc::new(Homely::new((1_000, 0), never));
        // The package is at rest, then busy, then at rest again.
        let orders = vec![
            (0, accepted(1..=1)),
            (150, accepted(2..=2)),
            (300, accepted(3..=5)),
            (5_000, accepted(6..=6)),
        ];
        let tray = run(&sink, orders, 20_000).await;
        assert_eq!(*sink.groups.lock(), [(200, 2), (1_200, 3), (5_200, 1)]);
        assert_eq!(tray.0.lock().ended.len(), 6);
    });
}

#[test]
fn a_full_group_waits_for_nobody() {
    paused(async {
        let sink = Arc::new(Homely::new((1_000, 0), never));
        run(&sink, vec![(0, accepted(1..=9))], 20_000).await;
        assert_eq!(*sink.groups.lock(), [(0, 8), (1_000, 1)]);
    });
}

#[test]
fn it_is_asked_at_the_start_after_each_group_and_then_when_it_says() {
    paused(async {
        let next =
            |number| Tended { next: (number == 1).then_some(Duration::from_secs(40)), ..Tended::default() };
        let sink = Arc::new(Homely::new((100, 10), next));
        run(&sink, vec![(1_000, accepted(1..=1))], 600_000).await;
        assert_eq!(*sink.tended.lock(), [(0, true), (1_300, true), (41_310, true)]);
    });
}

#[test]
fn while_groups_are_due_it_is_asked_between_them_and_told_so() {
    paused(async {
        let sink = Arc::new(Homely::new((100, 10), never));
        run(&sink, vec![(0, accepted(1..=20))], 60_000).await;
        assert_eq!(sink.groups.lock().iter().map(|(_, size)| *size).collect::<Vec<_>>(), [8, 8, 4]);
        let idle: Vec<bool> = sink.tended.lock().iter().map(|(_, idle)| *idle).collect();
        assert_eq!(idle, [true, false, false, true], "before the first order nothing is known of");
    });
}

#[test]
fn an_eager_sink_is_asked_twice_a_second_at_most() {
    paused(async {
        let eager = |_| Tended { next: Some(Duration::ZERO), ..Tended::default() };
        let sink = Arc::new(Homely::new((100, 0), eager));
        run(&sink, Vec::new(), 10_250).await;
        assert_eq!(sink.tended.lock().len(), 21);
    });
}

#[test]
fn news_of_a_delivered_intent_reach_its_row_and_those_of_strangers_nobody() {
    paused(async {
        let told = |number| match number {
            2 => Tended {
                news: vec![news(1, Lifecycle::Published), news(9, Lifecycle::Published)],
                next: Some(Duration::from_secs(1)),
                trouble: None,
            },
            // It was said before, and cannot change any more.
            3 => Tended { news: vec![news(1, Lifecycle::Draft)], next: None, trouble: None },
            _ => Tended { next: Some(Duration::from_secs(5)), ..Tended::default() },
        };
        let sink = Arc::new(Homely::new((100, 10), told));
        let tray = run(&sink, vec![(100, accepted(1..=2))], 60_000).await;
        assert_eq!(tray.0.lock().changed, [(1, held(Lifecycle::Published))]);
        assert_eq!(sink.tended.lock().len(), 4);
    });
}

#[test]
fn what_an_earlier_process_proposed_is_followed_again() {
    paused(async {
        let told = |number| match number {
            0 => Tended { news: vec![news(4, Lifecycle::Published)], next: None, trouble: None },
            _ => Tended::default(),
        };
        let sink = Arc::new(Homely::new((100, 10), told));
        let open = vec![(4, id(4), held(Lifecycle::Proposed)), (5, id(5), held(Lifecycle::Draft))];
        let tray = run_after(&sink, open, Vec::new(), 60_000).await;
        assert_eq!(sink.resumed.lock().iter().map(|(id, _)| *id).collect::<Vec<_>>(), [id(4), id(5)]);
        assert_eq!(tray.0.lock().changed, [(4, held(Lifecycle::Published))]);
    });
}

#[test]
fn after_a_restart_a_remote_sink_is_not_rushed() {
    paused(async {
        let mut sink = Homely::new((10, 0), never);
        sink.abilities.gather = Gather::Targets;
        let sink = Arc::new(sink);
        let jobs = (1..=40).map(|seq| job(row(seq, &format!("nf-{seq}")), 0, false)).collect();
        let tray = run(&sink, vec![(0, Order::Resumed(jobs, Duration::from_secs(30)))], 60_000).await;
        assert_eq!(tray.0.lock().ended.len(), 40);
        let groups = sink.groups.lock();
        assert!(groups.len() > 20 && groups.last().unwrap().0 > 20_000, "{groups:?}");
        assert!(groups.last().unwrap().0 <= 31_000, "{groups:?}");
    });
}

#[test]
fn no_chore_goes_to_a_sink_that_is_being_found_out_about() {
    paused(async {
        let mut sink =
            Homely::new((10, 10), |_| Tended { next: Some(Duration::from_secs(1)), ..Tended::default() });
        sink.outcome = || retry(Reason::SinkUnavailable);
        let sink = Arc::new(sink);
        run(&sink, vec![(0, accepted(1..=3))], 3_600_000).await;
        let fifth = sink.groups.lock()[4].0;
        let groups = sink.groups.lock().iter().filter(|(when, _)| *when > fifth).count();
        let tended = sink.tended.lock().iter().filter(|(when, _)| *when > fifth + 10).count();
        assert_eq!(tended, 0);
        assert!((20..=35).contains(&groups), "one probe in two minutes, {groups}");
    });
}

#[test]
fn a_chore_that_hangs_is_dropped_and_one_that_panics_costs_a_minute() {
    paused(async {
        let told = |number| match number {
            1 => panic!("a bug in the upkeep"),
            _ => Tended::default(),
        };
        let mut sink = Homely::new((10, 0), told);
        sink.takes.1 = 400_000;
        let hangs = Arc::new(sink);
        run(&hangs, vec![(1_000, accepted(1..=1))], 350_000).await;
        assert_eq!(hangs.groups.lock()[0].0, 300_000, "the group waited for it, no longer");
        let panics = Arc::new(Homely::new((10, 0), told));
        let tray = run(&panics, vec![(1_000, accepted(1..=1))], 350_000).await;
        assert_eq!(
            panics.tended.lock().iter().map(|(when, _)| *when).collect::<Vec<_>>(),
            [0, 1_210, 61_210]
        );
        assert_eq!(tray.0.lock().panics, 1);
    });
}
