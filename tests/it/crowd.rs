//! A thousand clients that never finish and a hundred slow ones: everybody else is served (M01). What it
//! costs the pipeline is measured by `cargo bench --bench crowd`.

#[path = "../../benches/crowd/clients.rs"]
mod clients;

use std::time::{Duration, Instant};

use clients::{CROWD, Crowd, Size};

use crate::support::{Load, Node, PATIENCE, Place, until};

/// More stubborn than the one that is measured.
const STUBBORN: Size = Size { away: Duration::from_secs(1), ..CROWD };

/// Within this time everybody is answered.
const PROMISED: Duration = Duration::from_secs(1);

/// Descriptors that a daemon may hold beside its connections and what it holds at rest: files in hand.
const IN_HAND: usize = 40;

/// The longest time that `/livez` took while `done` was not yet true.
#[track_caller]
fn worst_answer(node: &Node<'_>, mut done: impl FnMut() -> bool) -> Duration {
    let (began, mut worst) = (Instant::now(), Duration::ZERO);
    while !done() {
        assert!(began.elapsed() < PATIENCE, "waited in vain; the worst answer took {worst:?}");
        let asked = Instant::now();
        assert_eq!(node.get("/livez").body, "ok");
        worst = worst.max(asked.elapsed());
        std::thread::sleep(Duration::from_millis(10));
    }
    worst
}

#[test]
fn a_crowd_of_unfinished_clients_delays_nobody_and_leaves_nothing_behind() {
    let place = Place::alone();
    let node = place.node().start();
    let at_rest = node.descriptors();
    let load = Load::new(1_000, 50, true);
    let crowd = Crowd::gather(node.address().parse().unwrap(), STUBBORN).unwrap();
    let mut most = 0;
    let storm = worst_answer(&node, || crowd.connected() >= 1_100);
    load.rename_all(&place);
    let busy = worst_answer(&node, || {
        most = most.max(node.descriptors());
        // Until everything is settled, and the crowd has come back at least twice.
        let settled = node.page().sum("conductor_loop_intents_total") >= load.len() as f64;
        settled && crowd.connected() >= 3 * 1_100
    });
    assert!(storm < PROMISED && busy < PROMISED, "the worst answers took {storm:?} and {busy:?}");
    assert!(most <= at_rest + 65 + IN_HAND, "{most} descriptors, {at_rest} at rest");
    assert!(node.page().labelled("conductor_loop_http_rejected_total", "code", "503") > 1_000.0);
    drop(crowd);
    until("the descriptors are given back", || (node.descriptors() <= at_rest + 1).then_some(()));
    node.finish();
    load.compare(&place);
}
