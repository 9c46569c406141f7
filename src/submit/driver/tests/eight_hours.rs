//! Eight hours without the server, with the decisions of the Porch sink behind the driver: 10,000 intents for
//! 200 targets wait and end as the policy says.

use std::collections::BTreeMap;

use tokio::time::{Instant, sleep};

use super::chores::{Paused, paused};
use super::*;
use crate::config::PackageContent;
use crate::package::{COMPONENT, WORKLOAD};
use crate::submit::porch::PorchSink;
use crate::submit::porch::api::Stage;
use crate::submit::porch::names::Layout;
use crate::submit::porch::tests::{Server, settings};

const OUTAGE: Duration = Duration::from_secs(8 * 3600);
const INTENTS: u64 = 10_000;
const TARGETS: u64 = 200;
/// Arrivals at a time, evenly over the outage.
const AT_ONCE: u64 = 100;

/// What the ledger would read of a row: its target, and a count of its own.
struct Wanted;

fn count_of(seq: u64) -> u32 {
    u32::try_from(seq).unwrap()
}

impl Recall for Wanted {
    fn intent(&self, row: &Row) -> Result<Intent, Unsent> {
        let mut intent = scaling(count_of(row.seq));
        intent.target.clone_from(row.target.as_ref().unwrap());
        Ok(intent)
    }

    fn file(&self, _row: &Row) -> Result<Vec<u8>, Unsent> {
        Ok(Vec::new())
    }
}

/// What came of it: the server, the ends, and the requests while it was away.
struct After {
    server: Arc<Server>,
    tray: Tray,
    in_vain: usize,
}

fn eight_hours(coalesce: bool, layout: Layout, content: PackageContent) -> After {
    paused(async {
        let clock = Arc::new(Paused::new());
        let server = Arc::new(Server::default());
        server.0.lock().down = true;
        // All that is published stays, to be counted.
        let settings =
            crate::submit::porch::Settings { layout, content, keep_revisions: 1_000, ..settings() };
        let sink = Arc::new(PorchSink::new(server.clone(), settings, Box::new(|_| {}), 7)) as Arc<dyn Sink>;
        let tray = Tray::default();
        let dispatch =
            Dispatch::new(Pace { max_age: 24 * OUTAGE, coalesce }, SinkKind::Porch, sink.abilities());
        let driver = Driver::new(dispatch, sink, Arc::new(Wanted), clock.clone(), Box::new(tray.clone()));
        let (to, inbox) = mpsc::unbounded_channel();
        let drop_files = async {
            let began = Instant::now();
            for some in 0..INTENTS / AT_ONCE {
                let jobs = (1..=AT_ONCE).map(|number| {
                    let seq = some * AT_ONCE + number;
                    let row = Row { accepted_at: clock.wall(), ..row(seq, &format!("nf-{}", seq % TARGETS)) };
                    let mut job = job(row, 0, false);
                    job.arrived = clock.now();
                    job
                });
                to.send(Order::Accepted(jobs.collect())).unwrap();
                sleep(OUTAGE / u32::try_from(INTENTS / AT_ONCE).unwrap()).await;
            }
            assert_eq!(began.elapsed().as_secs(), OUTAGE.as_secs());
            let in_vain = {
                let mut state = server.0.lock();
                assert!(
                    state.revisions.is_empty()
                        && !tray.0.lock().ended.iter().any(|end| end.1 == Fate::Delivered)
                );
                state.down = false;
                std::mem::take(&mut state.log).len()
            };
            while (tray.0.lock().ended.len() as u64) < INTENTS {
                sleep(Duration::from_secs(10)).await;
                assert!(began.elapsed() < 2 * OUTAGE, "it does not come to an end");
            }
            to.send(Order::Stop(Duration::from_secs(10))).unwrap();
            in_vain
        };
        let ((), in_vain) = tokio::join!(driver.run(inbox), drop_files);
        After { server, tray, in_vain }
    })
}

impl After {
    /// Revisions that were asked for after the return.
    fn submissions(&self) -> usize {
        self.server.0.lock().log.iter().filter(|request| request.starts_with("create")).count()
    }

    /// How many intents ended so, each of them once.
    fn ends(&self, fate: Fate) -> HashSet<u64> {
        let seen = self.tray.0.lock();
        let all: Vec<u64> = seen.ended.iter().filter(|end| end.1 == fate).map(|end| end.0).collect();
        let once: HashSet<u64> = all.iter().copied().collect();
        assert_eq!(all.len(), once.len(), "an intent ends once");
        once
    }

    /// The counts that each package was published with, in the order of its revisions.
    fn published(&self, file: &str) -> BTreeMap<String, Vec<Vec<u32>>> {
        let state = self.server.0.lock();
        let mut revisions: Vec<_> = state.revisions.iter().collect();
        assert!(
            revisions.iter().all(|(revision, _)| revision.stage == Stage::Published),
            "nothing is left open"
        );
        revisions.sort_by_key(|(revision, _)| revision.number);
        let mut packages: BTreeMap<String, Vec<Vec<u32>>> = BTreeMap::new();
        for (revision, texts) in revisions {
            packages.entry(revision.package.clone()).or_default().push(counts(&texts[file]));
        }
        packages
    }

    /// Few requests while nobody answered: five until the breaker opens, then at most one in two minutes.
    fn outage_was_quiet(&self) {
        assert!(self.in_vain <= 260, "{} requests in eight hours", self.in_vain);
    }
}

/// Every replica count in a workload or a Component.
fn counts(text: &str) -> Vec<u32> {
    let after = |line: &str, head: &str| {
        let digits = line.split_once(head)?.1.trim_end_matches("}]'");
        digits.trim().parse().ok()
    };
    text.lines()
        .filter_map(|line| after(line, "  replicas: ").or_else(|| after(line, "\"value\": ")))
        .collect()
}

/// The numbers of the intents for one target, in order.
fn of_target(target: u64) -> impl Iterator<Item = u64> {
    (1..=INTENTS).filter(move |seq| seq % TARGETS == target)
}

fn newest() -> HashSet<u64> {
    (INTENTS - TARGETS + 1..=INTENTS).collect()
}

fn older() -> HashSet<u64> {
    (1..=INTENTS - TARGETS).collect()
}

#[test]
fn with_latest_two_hundred_submissions_follow_and_every_other_intent_is_superseded() {
    let after = eight_hours(true, Layout::Target, PackageContent::Workloads);
    after.outage_was_quiet();
    assert_eq!(after.submissions() as u64, TARGETS);
    assert_eq!(after.ends(Fate::Delivered), newest());
    assert_eq!(after.ends(Fate::Superseded), older());
    let reasons = after.tray.0.lock().ended.iter().filter(|end| end.2 == Some(Reason::NewerIntent)).count();
    assert_eq!(reasons as u64, INTENTS - TARGETS, "each says why");
    let packages = after.published(WORKLOAD);
    assert_eq!(packages.len() as u64, TARGETS);
    let held: HashSet<u64> = packages.values().flatten().flatten().map(|count| u64::from(*count)).collect();
    assert_eq!(held, newest(), "every target ends at its newest count");
}

#[test]
fn with_latest_and_one_component_one_submission_follows() {
    let after = eight_hours(true, Layout::Site, PackageContent::Component);
    after.outage_was_quiet();
    // The probe goes alone: one intent, then all that wait.
    assert!(after.submissions() <= 2, "{}", after.submissions());
    assert_eq!((after.ends(Fate::Delivered), after.ends(Fate::Superseded)), (newest(), older()));
    let last = after.published(COMPONENT)["site"].last().unwrap().clone();
    assert_eq!(last.into_iter().map(u64::from).collect::<HashSet<_>>(), newest());
}

#[test]
fn with_off_all_are_delivered_in_order_within_each_target() {
    let after = eight_hours(false, Layout::Target, PackageContent::Workloads);
    after.outage_was_quiet();
    assert_eq!(after.ends(Fate::Delivered).len() as u64, INTENTS);
    assert_eq!(after.submissions() as u64, INTENTS);
    let packages = after.published(WORKLOAD);
    assert_eq!(packages.len() as u64, TARGETS);
    for revisions in packages.values() {
        let target = u64::from(revisions[0][0]) % TARGETS;
        let wanted: Vec<Vec<u32>> = of_target(target).map(|seq| vec![count_of(seq)]).collect();
        assert_eq!(*revisions, wanted, "one revision for each intent, oldest first");
    }
}

#[test]
fn with_off_and_one_component_no_intent_overtakes_another_of_its_target() {
    let after = eight_hours(false, Layout::Site, PackageContent::Component);
    after.outage_was_quiet();
    assert_eq!(after.ends(Fate::Delivered).len() as u64, INTENTS);
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    for (seq, ..) in &after.tray.0.lock().ended {
        let before = last.insert(seq % TARGETS, *seq);
        assert_eq!(before.map_or(*seq, |before| before + TARGETS), *seq, "every one, oldest first");
    }
    // A revision takes one intent of each target, so each needs fifty, and the probe's one.
    let each = usize::try_from(INTENTS / TARGETS).unwrap();
    assert!((each..=each + 1).contains(&after.submissions()), "{}", after.submissions());
}
