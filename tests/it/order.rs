//! Order: what came later acts later, for every target, whatever happens in between.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::{Dice, Place, intent, scale, setting};

#[test]
fn three_five_three_under_three_names_acts_three_times_in_order() {
    let place = Place::new();
    let node = place.node().start();
    let drops = [("intent-a.json", 3), ("intent-b.json", 5), ("intent-c.json", 3)];
    for (name, replicas) in drops {
        place.rename_in(name, &scale("odu", replicas));
    }
    for (at, (name, _)) in drops.iter().enumerate() {
        let status = place.settled(name);
        assert_eq!(status["fate"], "delivered", "{status:#}");
        assert_eq!(status["remote"]["revision"], (at + 1).to_string(), "{status:#}");
    }
    let workload = place.deployment("odu");
    assert_eq!((workload.revision, workload.replicas), (3, Some(3)));
    node.finish();
}

#[test]
fn three_five_three_under_one_name_acts_three_times_in_order() {
    let place = Place::new();
    let node = place.node().start();
    for (at, replicas) in [3, 5, 3].into_iter().enumerate() {
        place.rename_in("intent-one.json", &scale("odu", replicas));
        let ends = place.settled_times("intent-one.json", at + 1);
        assert!(ends.iter().all(|status| status["fate"] == "delivered"), "{ends:#?}");
        let workload = place.deployment("odu");
        assert_eq!((workload.revision, workload.replicas), (at as u64 + 1, Some(u64::from(replicas))));
    }
    node.finish();
}

#[test]
fn a_late_repeat_of_one_file_does_not_undo_what_came_under_other_names() {
    let place = Place::new();
    let node = place.node().start();
    place.rename_in("intent-old.json", &scale("odu", 3));
    place.settled("intent-old.json");
    place.rename_in("intent-new.json", &scale("odu", 5));
    place.settled("intent-new.json");
    place.rename_in("intent-old.json", &scale("odu", 3));
    let ends = place.settled_times("intent-old.json", 2);
    assert_eq!(ends.iter().filter(|status| status["fate"] == "duplicate").count(), 1, "{ends:#?}");
    assert_eq!(place.deployment("odu").replicas, Some(5));
    node.finish();
}

#[test]
fn a_refused_name_is_judged_anew() {
    let place = Place::new();
    let node = place.node().start();
    for times in 1..=2 {
        place.rename_in("intent-bad.json", b"{]");
        let ends = place.settled_times("intent-bad.json", times);
        assert!(ends.iter().all(|status| status["fate"] == "refused"), "{ends:#?}");
    }
    node.finish();
}

const TARGETS: usize = 100;
const ROUNDS: usize = 50;

/// Names in the order of dropping, so that a scan, which sorts by change time and then name, can keep it.
fn round_name(round: usize, target: usize) -> String {
    format!("intent-r{round:02}-t{target:03}.json")
}

#[test]
fn a_hundred_targets_keep_their_order_with_four_workers_and_restarts() {
    let place = Place::new();
    let done = AtomicBool::new(false);
    let mut dice = Dice::new(setting("CONDUCTOR_TEST_SEED", 1));
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                for target in 0..TARGETS {
                    let replicas = 1 + round as u32;
                    place.rename_in(
                        &round_name(round, target),
                        &intent("ran-a", &format!("t{target:03}"), replicas),
                    );
                }
                thread::sleep(Duration::from_millis(30));
            }
            done.store(true, Ordering::Release);
        });
        let mut restarts = 0;
        while !done.load(Ordering::Acquire) || restarts < 4 {
            let node = place.node().with(&["--workers", "4"]).start();
            thread::sleep(Duration::from_millis(100 + dice.below(300)));
            if restarts % 2 == 0 {
                node.kill();
            } else {
                assert_eq!(node.stop(), 0);
            }
            restarts += 1;
        }
    });
    let node = place.node().with(&["--workers", "4"]).start();
    node.wait_empty(Duration::from_secs(120));
    node.finish();
    check_order(&place);
}

/// Along the ledger every target's rounds rise; only what a newer one had overtaken is missing.
fn check_order(place: &Place) {
    let mut newest: BTreeMap<String, (usize, u64)> = BTreeMap::new();
    let history = place.history();
    assert_eq!(history.len(), TARGETS * ROUNDS, "every file has one row");
    for row in &history {
        let name = row["intent_file"].as_str().unwrap();
        let (round, target) = (name[8..10].parse::<usize>().unwrap(), name[11..15].to_owned());
        let state = newest.entry(target).or_insert((0, 0));
        if row["fate"] == "delivered" {
            assert!(state.1 == 0 || round > state.0, "{name} was delivered after round {}: {row:#}", state.0);
            *state = (round, state.1 + 1);
            assert_eq!(row["remote"]["revision"], state.1.to_string(), "{row:#}");
        } else {
            assert_eq!(row["reason"], "older-than-applied", "{row:#}");
            assert!(round < state.0, "{name} was not overtaken: {row:#}");
        }
    }
    for (target, (round, delivered)) in newest {
        assert_eq!(round, ROUNDS - 1, "the last of {target} is the newest");
        let workload = place.deployment(&target);
        assert_eq!((workload.revision, workload.replicas), (delivered, Some(ROUNDS as u64)), "{target}");
    }
}
