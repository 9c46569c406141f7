//! Restarts: a kill at any moment loses nothing and doubles nothing, and two daemons never meet.

use std::thread;
use std::time::Duration;

use crate::support::{Dice, Load, Place, Ran, scale, setting, wait_filed};

/// Files for each kill, so that the load outlasts the kills.
const FILES_A_KILL: usize = 250;

/// CI kills twelve times; `just kill-loop` a hundred times.
#[test]
fn a_hundred_kills_under_load_lose_nothing_and_double_nothing() {
    let place = Place::alone();
    let kills = usize::try_from(setting("CONDUCTOR_TEST_KILLS", 12)).unwrap();
    let seed = setting("CONDUCTOR_TEST_SEED", 1);
    let mut dice = Dice::new(seed);
    let load = Load::new(kills * FILES_A_KILL, 40, true);
    thread::scope(|scope| {
        scope.spawn(|| load.drop_mixed(&place, 2, Duration::from_millis(150)));
        for _ in 0..kills {
            let node = place.node().spawn();
            thread::sleep(Duration::from_millis(40 + dice.below(600)));
            node.kill();
        }
    });
    let node = place.node().start();
    node.wait_empty(Duration::from_secs(120));
    wait_filed(&place, load.len(), Duration::from_secs(60));
    node.finish();
    load.compare(&place);
}

#[test]
fn a_restart_over_settled_files_does_nothing_again() {
    let place = Place::new();
    let node = place.node().start();
    place.rename_in("intent-once.json", &scale("once", 3));
    place.settled("intent-once.json");
    node.kill();
    for round in 0..2 {
        let node = place.node().start();
        place.next_good_file_is_delivered(&format!("between-{round}"));
        node.kill();
    }
    let node = place.node().start();
    assert_eq!(place.deployment("once").revision, 1);
    assert_eq!(place.statuses_of("intent-once.json").len(), 1);
    node.finish();
}

#[test]
fn files_dropped_while_the_daemon_is_down_are_found_in_their_order() {
    let place = Place::new();
    let node = place.node().start();
    assert_eq!(node.stop(), 0);
    for replicas in 1..=9 {
        place.rename_in(&format!("intent-{replicas}.json"), &scale("odu", replicas));
    }
    let node = place.node().start();
    node.wait_settled(9, crate::support::PATIENCE);
    let workload = place.deployment("odu");
    assert_eq!((workload.revision, workload.replicas), (9, Some(9)));
    node.finish();
}

#[test]
fn a_second_daemon_on_one_folder_ends_and_names_the_first() {
    let place = Place::new();
    let node = place.node().start();
    let elsewhere = [place.root().join("state-2"), place.root().join("out-2")];
    let second = Ran::of(
        place
            .command()
            .args(["run", "--listen", "off", "--handoff"])
            .arg(place.handoff())
            .arg("--state")
            .arg(&elsewhere[0])
            .arg("--out")
            .arg(&elsewhere[1]),
    );
    assert!(second.ended(1).stderr.contains(&node.pid().to_string()), "the holder is named");
    place.next_good_file_is_delivered("second-daemon");
    node.finish();
}

#[test]
fn a_second_daemon_on_one_state_directory_ends_and_names_the_first() {
    let place = Place::new();
    let node = place.node().start();
    let elsewhere = [place.root().join("handoff-2"), place.root().join("out-2")];
    let second = Ran::of(
        place
            .command()
            .args(["run", "--listen", "off", "--handoff"])
            .arg(&elsewhere[0])
            .arg("--state")
            .arg(place.state())
            .arg("--out")
            .arg(&elsewhere[1]),
    );
    assert!(second.ended(1).stderr.contains(&node.pid().to_string()), "the holder is named");
    place.next_good_file_is_delivered("second-state");
    node.finish();
}

#[test]
fn once_does_not_run_beside_a_daemon() {
    let place = Place::new();
    let node = place.node().start();
    let second = place.run(&["once", "--json"]).ended(1);
    assert!(second.stderr.contains(&node.pid().to_string()), "the holder is named: {}", second.stderr);
    node.finish();
}
