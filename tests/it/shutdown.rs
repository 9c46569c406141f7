//! Stop: within ten seconds, with nothing half done, and at once if asked twice.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Load, Place, until, wait_filed};

#[track_caller]
fn settles_the_rest(place: &Place, load: &Load) {
    place.statuses();
    let node = place.node().start();
    node.wait_empty(Duration::from_secs(120));
    wait_filed(place, load.len(), Duration::from_secs(60));
    node.finish();
    load.compare(place);
}

#[test]
fn sigterm_under_load_ends_with_0_within_ten_seconds_and_nothing_half_done() {
    for signal in [Signal::TERM, Signal::INT] {
        let place = Place::alone();
        let load = Load::new(6_000, 50, true);
        let node = place.node().start();
        thread::scope(|scope| {
            scope.spawn(|| load.rename_all(&place));
            until("the load is under way", || (!place.list("processed").is_empty()).then_some(()));
            let asked = Instant::now();
            node.signal(signal);
            let code = node.wait_end(Duration::from_secs(12));
            assert_eq!(code, 0, "exit code:\n{}", place.log());
            assert!(asked.elapsed() <= Duration::from_secs(10), "took {:?}", asked.elapsed());
        });
        settles_the_rest(&place, &load);
    }
}

#[test]
fn a_second_signal_leaves_at_once_and_loses_nothing() {
    let place = Place::alone();
    let load = Load::new(6_000, 50, false);
    let node = place.node().start();
    thread::scope(|scope| {
        scope.spawn(|| load.rename_all(&place));
        until("the load is under way", || (!place.list("processed").is_empty()).then_some(()));
        node.signal(Signal::TERM);
        node.signal(Signal::TERM);
        node.wait_end(Duration::from_secs(2));
    });
    settles_the_rest(&place, &load);
}

#[test]
fn a_stopped_daemon_removes_the_address_it_answered_at_or_nobody_answers_there() {
    let place = Place::new();
    let node = place.node().start();
    let address = node.address().to_owned();
    node.finish();
    assert!(crate::support::request(&address, "GET", "/livez", "").is_none());
    assert_eq!(place.status()["running"], false);
}
