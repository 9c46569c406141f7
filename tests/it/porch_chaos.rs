//! Nothing works as it should, all the time: three requests in ten fail in every way that may be tried again, the
//! server's listing falls behind and is lost, the server restarts, and the daemon is killed every few seconds.
//!
//! Git is asked what came of it: every intent took effect once, every target has its newest count, and what belongs to
//! others is as it was.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use conductor_loop::fake_porch::{Audit, Fault, Options, Rule, Seen, Stage, Step, Which};

use crate::support::{Dice, Place, Porch, REPOSITORY, scale, setting, until};

const KEY: &str = "conductor-loop.nephoran.com/intent-key";
/// Of each write and each question; looking at the server itself is never struck.
const CHANCE: f64 = 0.3;
/// By how much the daemon's lives differ, in milliseconds.
const SPREAD: u64 = 2_000;

/// What may happen to a write. `porch.md` 2.7, every class that is tried again.
fn struck_writes() -> Vec<(Which, Fault)> {
    let writes = Which::Writes;
    let internal = |text: &str| (writes, Fault::Internal(text.to_owned()));
    let cut = |done| Fault::GatewayTimeout { done, after: Duration::ZERO, work: Duration::from_millis(20) };
    let left = |done| Fault::Abandoned { done, work: Duration::from_millis(200) };
    let behind = Fault::RollBack(Duration::from_millis(400));
    vec![
        (writes, Fault::InProgress),
        (writes, Fault::Stale),
        (writes, Fault::NotFound),
        (writes, Fault::NotReady),
        (writes, Fault::NoGroup),
        (writes, Fault::Throttled { retry_after: "0".to_owned() }),
        (writes, Fault::Overloaded { retry_after: "0".to_owned() }),
        (writes, Fault::Unreachable),
        (writes, Fault::Unavailable),
        (writes, Fault::BadGateway),
        (writes, Fault::Unauthorized),
        (writes, Fault::CloseBefore),
        (writes, Fault::CloseAfter),
        (writes, Fault::ResetBefore),
        (writes, Fault::ResetAfter),
        (writes, Fault::CutBody),
        (writes, Fault::NotJson),
        (writes, cut(true)),
        (writes, cut(false)),
        (writes, left(true)),
        (writes, left(false)),
        (writes, behind.clone()),
        (writes, behind),
        (writes, Fault::InternalAfter("something nobody has seen".to_owned())),
        internal("fetch of remote repository default:edge::main with retry failed: status code: 503"),
        internal("failed to update ref: non-fast-forward"),
        internal("error rendering package in kpt function pipeline: rpc error: code = Unavailable"),
        (Step::Create.into(), Fault::DraftWithoutAnnotations),
        (Step::Create.into(), Fault::Phantom(None)),
        (Step::Propose.into(), Fault::Phantom(Some(Stage::Draft))),
        (Step::Approve.into(), Fault::Phantom(Some(Stage::Proposed))),
    ]
}

/// What may happen to a question.
fn struck_reads() -> Vec<(Which, Fault)> {
    let mut struck = vec![(Step::List.into(), Fault::EmptyList), (Step::Get.into(), Fault::NotFound)];
    struck.extend(
        [
            Fault::CloseBefore,
            Fault::CutBody,
            Fault::Unreachable,
            Fault::NotReady,
            Fault::Throttled { retry_after: "0".to_owned() },
        ]
        .map(|fault| (Which::Reads, fault)),
    );
    struck
}

/// Rules, each alike: those for every write, or every question, strike [`CHANCE`] of them together; those for one
/// step come on top.
fn rules(struck: Vec<(Which, Fault)>) -> impl Iterator<Item = Rule> {
    let general = struck.iter().filter(|(which, _)| !matches!(which, Which::Step(_))).count();
    let chance = 1.0 - (1.0 - CHANCE).powf(1.0 / general as f64);
    struck.into_iter().map(move |(which, fault)| Rule::chance(which, chance, fault))
}

/// Somebody else's, in our package and in another.
const FOREIGN: [(&str, Stage); 4] = [
    ("edge.site.theirs-1", Stage::Published),
    ("edge.site.theirs-2", Stage::Draft),
    ("edge.other.theirs", Stage::Proposed),
    ("edge.other.i-ffffffffffffffffffffffffffffffffffffffff", Stage::Draft),
];

fn foreign(audit: &Audit) -> Vec<Seen> {
    let named = |seen: &&Seen| FOREIGN.iter().any(|(name, _)| seen.name == *name);
    audit.revisions.iter().filter(named).cloned().collect()
}

/// What is dropped: a name, its target and count.
struct Load(Vec<(String, String, u32)>);

impl Load {
    fn new(count: usize, targets: usize) -> Load {
        let one = |at: usize| {
            let replicas = u32::try_from(1 + (at / targets * 7) % 99).unwrap();
            (format!("intent-{at:05}.json"), format!("nf-{:03}", at % targets), replicas)
        };
        Load((0..count).map(one).collect())
    }

    /// A few at a time, so that they arrive while all this happens.
    fn drop_in(&self, place: &Place, pause: Duration) {
        for batch in self.0.chunks(20) {
            for (name, target, replicas) in batch {
                place.rename_in(name, &scale(target, *replicas));
            }
            thread::sleep(pause);
        }
    }

    fn newest(&self) -> BTreeMap<&str, u32> {
        self.0.iter().map(|(_, target, replicas)| (target.as_str(), *replicas)).collect()
    }
}

fn settings(place: &Place, porch: &Porch, package: &str) -> String {
    place.settings(&format!(
        "[sink]\nkind = \"porch\"\ncoalesce = \"off\"\nstart_spread = \"0\"\n[sink.porch]\nrepository = \"{REPOSITORY}\"\n\
         approval = \"publish\"\npackage = \"{package}\"\nkubeconfig = \"{}\"\nrequest_timeout = \"2s\"\n",
        porch.kubeconfig().display()
    ))
}

/// Starts and kills the daemon until everything that was dropped has left the folder and has its end. How often.
fn live_and_die(place: &Place, porch: &Porch, load: &Load, config: &str, limit: Duration) -> u32 {
    let (begun, mut dice, mut kills) = (Instant::now(), Dice::new(setting("CONDUCTOR_TEST_SEED", 1)), 0);
    let dropped = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            load.drop_in(place, Duration::from_millis(150));
            dropped.store(true, Ordering::Release);
        });
        loop {
            let node = place.node().with(&["--config", config]).spawn();
            // One in five dies while it starts.
            if dice.below(5) > 0 {
                let file = place.state().join("http.addr");
                until("the daemon listens", || file.exists().then_some(()));
                thread::sleep(Duration::from_secs(2));
            }
            thread::sleep(Duration::from_millis(dice.below(SPREAD)));
            node.kill();
            kills += 1;
            // Half of the server's listings that are lost heal when it restarts, the others later.
            if dice.below(2) == 0 {
                porch.fake.restart();
            }
            let told = place.list("processed").iter().filter(|name| name.ends_with(".json")).count();
            if dropped.load(Ordering::Acquire) && told == load.0.len() {
                return kills;
            }
            let left = load.0.len() - told;
            assert!(begun.elapsed() < limit, "{left} of {} left after {limit:?}", load.0.len());
        }
    })
}

/// What git says: each key came once, each target is at its newest count, foreign objects are as they were.
#[track_caller]
fn judge(porch: &Porch, load: &Load, before: &[Seen]) -> usize {
    let audit = porch.fake.audit();
    let effects = audit.effects(KEY);
    let doubled: Vec<_> = effects.iter().filter(|(_, revisions)| revisions.len() != 1).collect();
    assert!(doubled.is_empty(), "{} intents took effect more than once: {doubled:#?}", doubled.len());
    assert_eq!(effects.len(), load.0.len(), "intents that took effect, of those that were dropped");
    let mut counts = BTreeMap::new();
    let ours = audit.revisions.iter().filter(|seen| seen.number > 0);
    for (file, text) in
        ours.flat_map(|seen| &seen.files).filter(|(_, text)| text.contains("kind: Deployment"))
    {
        let name = text.lines().find_map(|line| line.trim().strip_prefix("name: ")).expect(file);
        let replicas = text.lines().find_map(|line| line.trim().strip_prefix("replicas: ")).expect(file);
        // Revisions stand in the order of their numbers: the last one holds.
        counts.insert(name.trim_matches('"').to_owned(), replicas.parse::<u32>().unwrap());
    }
    let newest: BTreeMap<String, u32> =
        load.newest().into_iter().map(|(name, n)| (name.to_owned(), n)).collect();
    assert_eq!(counts, newest, "the newest count of each target");
    assert_eq!(foreign(&audit), before, "somebody else's objects were touched");
    let open: Vec<&str> = audit.open().iter().map(|seen| seen.name.as_str()).collect();
    let theirs = FOREIGN.iter().filter(|(_, stage)| *stage != Stage::Published).count();
    assert_eq!(open.len(), theirs, "drafts of ours that were left: {open:?}");
    audit.revisions.iter().filter(|seen| seen.number > 0).count()
}

#[expect(clippy::print_stderr, reason = "figures for the reader")]
fn chaos(count: usize, targets: usize, package: &str, limit: Duration) {
    let seed = setting("CONDUCTOR_TEST_SEED", 1);
    let (place, porch) = (Place::alone(), Porch::with(Options { seed, ..Options::default() }));
    for (name, stage) in FOREIGN {
        porch.fake.put_foreign(name, stage, &[("own.txt", "theirs")]);
    }
    let before = foreign(&porch.fake.audit());
    for rule in rules(struck_writes()).chain(rules(struck_reads())) {
        porch.fake.inject(rule);
    }
    let load = Load::new(count, targets);
    let config = settings(&place, &porch, package);
    let begun = Instant::now();
    let kills = live_and_die(&place, &porch, &load, &config, limit);
    let took = begun.elapsed();
    let log = porch.fake.log();
    let spoilt = log.iter().filter(|logged| !(200..300).contains(&logged.status)).count();
    porch.fake.clear_faults();
    porch.fake.restart();
    // A last life in peace: it says that nothing is left to do, and the books are checked behind it.
    let node = place.node().with(&["--config", &config]).start();
    node.wait_empty(Duration::from_secs(30));
    node.finish();
    let history = place.history();
    let delivered = history.iter().filter(|row| row["fate"] == "delivered").count();
    assert_eq!((history.len(), delivered), (count, count), "lost or refused");
    let revisions = judge(&porch, &load, &before);
    eprintln!(
        "{count} intents for {targets} targets ({package}): {:.1} s, {kills} kills, {} requests, {spoilt} of them refused or cut, {revisions} \
         published revisions, 0 lost, 0 doubled",
        took.as_secs_f64(),
        log.len()
    );
}

#[test]
fn three_hundred_intents_through_everything_that_can_go_wrong() {
    chaos(300, 60, "site", Duration::from_secs(240));
}

#[test]
#[ignore = "two thousand intents: .ci/run runs it"]
fn two_thousand_intents_through_everything_that_can_go_wrong() {
    chaos(2_000, 200, "site", Duration::from_secs(900));
}

#[test]
#[ignore = "a package for each target, some minutes: .ci/run runs it"]
fn intents_one_by_one_through_everything_that_can_go_wrong() {
    chaos(100, 20, "target", Duration::from_secs(900));
}
