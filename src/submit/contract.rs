//! The contract that every sink keeps, as one test body.
//!
//! A sink's own tests make a [`World`] for it (the disk, the fake server) and call [`is_kept`]; a new
//! sink has nothing to invent but the world.

use super::{Delivery, Outcome, Sink};
use crate::fate::{Id, Reason, Receipt, Sha};
use crate::intent::{Intent, Target};
use crate::package::tests::scaling;

/// What a reader of the sink sees for a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) id: Id,
    pub(crate) revision: String,
    pub(crate) replicas: Option<u64>,
}

/// What stands behind a sink and outlives it.
pub(crate) trait World {
    /// A sink as a process that has just started has it.
    fn open(&self) -> Box<dyn Sink>;
    /// What stands there for `target`.
    fn object(&self, target: &Target) -> Option<Object>;
    /// Puts an object of somebody else where that of `target` belongs.
    fn occupy(&self, target: &Target);
    /// True while that object is there and unchanged.
    fn is_occupied(&self, target: &Target) -> bool;
}

/// An accepted intent with everything that its delivery needs.
#[derive(Debug, Clone)]
pub(crate) struct Accepted {
    pub(crate) id: Id,
    pub(crate) sha: Sha,
    pub(crate) intent: Intent,
}

impl Accepted {
    /// A scaling intent number `number` for `deployment <name>`.
    pub(crate) fn scaling(number: u64, name: &str, replicas: u32) -> Self {
        let mut intent = scaling(replicas);
        intent.target.name = name.into();
        Accepted { id: Id::derive(&[7; 16], number), sha: Sha::of(&number.to_be_bytes()), intent }
    }

    pub(crate) fn delivery(&self, doubtful: bool) -> Delivery<'_> {
        Delivery {
            id: self.id,
            sha: &self.sha,
            name: "intent-1.json",
            generation: 0,
            attempt: 1,
            doubtful,
            intent: &self.intent,
            file: Some(b"{}\n"),
        }
    }

    pub(crate) fn target(&self) -> &Target {
        &self.intent.target
    }
}

/// Delivers a group and waits.
pub(crate) fn deliver_all(sink: &dyn Sink, group: &[Delivery<'_>]) -> Vec<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcomes = runtime.block_on(sink.deliver(group));
    assert_eq!(outcomes.len(), group.len());
    outcomes
}

/// Delivers one intent and waits.
pub(crate) fn deliver(sink: &dyn Sink, accepted: &Accepted, doubtful: bool) -> Outcome {
    deliver_all(sink, &[accepted.delivery(doubtful)]).remove(0)
}

/// The receipt of a delivery that must succeed.
pub(crate) fn receipt(outcome: Outcome) -> Receipt {
    match outcome {
        Outcome::Delivered(receipt) => receipt,
        other => panic!("not delivered: {other:?}"),
    }
}

/// Runs the whole contract, each part in a world of its own.
pub(crate) fn is_kept<W: World>(new: impl Fn() -> W) {
    every_delivery_is_a_revision(&new());
    a_repeat_has_no_second_effect(&new());
    a_doubtful_delivery_that_was_applied_is_adopted(&new());
    a_doubtful_delivery_that_was_not_applied_is_delivered(&new());
    overtaken_deliveries_are_not_delivered_again(&new());
    targets_are_independent_and_outcomes_in_order(&new());
    a_foreign_object_is_left_as_it_is(&new());
    a_restore_of_what_stands_changes_nothing(&new());
    a_healthy_sink_says_so(&new());
}

fn every_delivery_is_a_revision(world: &impl World) {
    let sink = world.open();
    let mut revisions = Vec::new();
    for number in 1..=5u32 {
        let accepted = Accepted::scaling(number.into(), "nf", number * 2);
        let receipt = receipt(deliver(&*sink, &accepted, false));
        assert!(!receipt.adopted);
        let object = world.object(accepted.target()).unwrap();
        assert_eq!((object.id, object.replicas), (accepted.id, Some(u64::from(number) * 2)));
        assert_eq!(object.revision, receipt.revision);
        revisions.push(receipt.revision);
    }
    assert!(revisions.iter().enumerate().all(|(at, revision)| !revisions[..at].contains(revision)));
}

fn a_repeat_has_no_second_effect(world: &impl World) {
    let sink = world.open();
    let accepted = Accepted::scaling(1, "nf", 3);
    let first = receipt(deliver(&*sink, &accepted, false));
    for sink in [sink, world.open()] {
        for doubtful in [false, true] {
            let again = receipt(deliver(&*sink, &accepted, doubtful));
            assert_eq!(again, Receipt { adopted: true, ..first.clone() });
        }
    }
    assert_eq!(world.object(accepted.target()).unwrap().revision, first.revision);
}

fn a_doubtful_delivery_that_was_applied_is_adopted(world: &impl World) {
    let older = Accepted::scaling(1, "nf", 3);
    let newer = Accepted::scaling(2, "nf", 4);
    let sink = world.open();
    deliver(&*sink, &older, false);
    let first = receipt(deliver(&*sink, &newer, false));
    let again = receipt(deliver(&*world.open(), &newer, true));
    assert_eq!(again, Receipt { adopted: true, ..first });
}

pub(crate) fn a_doubtful_delivery_that_was_not_applied_is_delivered(world: &impl World) {
    let older = Accepted::scaling(1, "nf", 3);
    let newer = Accepted::scaling(2, "nf", 4);
    deliver(&*world.open(), &older, false);
    assert!(!receipt(deliver(&*world.open(), &newer, true)).adopted);
    assert_eq!(world.object(newer.target()).unwrap().id, newer.id);
}

fn overtaken_deliveries_are_not_delivered_again(world: &impl World) {
    let accepted: Vec<_> = (1..=5u32).map(|n| Accepted::scaling(n.into(), "nf", n)).collect();
    let sink = world.open();
    let receipts: Vec<_> = accepted[..4].iter().map(|one| receipt(deliver(&*sink, one, false))).collect();
    // The crash forgot the outcomes of all but the first.
    let sink = world.open();
    let doubtful: Vec<_> = accepted[1..].iter().map(|one| one.delivery(true)).collect();
    let overtaken = sink.overtaken(&doubtful).unwrap();
    let mut known = overtaken.clone();
    known.extend(
        deliver_all(&*sink, &doubtful[overtaken.len()..overtaken.len() + 1]).into_iter().map(receipt),
    );
    for left in &doubtful[known.len()..] {
        known.extend(deliver_all(&*sink, &[*left]).into_iter().map(receipt));
    }
    for (again, first) in known.iter().zip(&receipts[1..]) {
        assert_eq!(again, &Receipt { adopted: true, ..first.clone() });
    }
    assert!(!known[3].adopted);
    assert!(sink.overtaken(&[]).unwrap().is_empty());
}

fn targets_are_independent_and_outcomes_in_order(world: &impl World) {
    let sink = world.open();
    let foreign = Accepted::scaling(2, "taken", 1);
    world.occupy(foreign.target());
    let [one, two] = [Accepted::scaling(1, "one", 1), Accepted::scaling(3, "two", 2)];
    let group = [one.delivery(false), foreign.delivery(false), two.delivery(false)];
    let outcomes = deliver_all(&*sink, &group);
    assert!(matches!(&outcomes[0], Outcome::Delivered(receipt) if receipt.name.contains("one")));
    assert!(matches!(&outcomes[1], Outcome::Rejected { .. }));
    assert!(matches!(&outcomes[2], Outcome::Delivered(receipt) if receipt.name.contains("two")));
    deliver(&*sink, &Accepted::scaling(4, "one", 9), false);
    assert_eq!(world.object(two.target()).unwrap().replicas, Some(2));
}

fn a_foreign_object_is_left_as_it_is(world: &impl World) {
    let accepted = Accepted::scaling(1, "nf", 3);
    world.occupy(accepted.target());
    for doubtful in [false, true] {
        match deliver(&*world.open(), &accepted, doubtful) {
            Outcome::Rejected { reason: Reason::NameConflict, message } => assert!(message.len() > 20),
            other => panic!("not a name conflict: {other:?}"),
        }
        assert!(world.is_occupied(accepted.target()));
    }
}

pub(crate) fn a_restore_of_what_stands_changes_nothing(world: &impl World) {
    let older = Accepted::scaling(1, "nf", 3);
    let newer = Accepted::scaling(2, "nf", 4);
    let sink = world.open();
    let first = receipt(deliver(&*sink, &older, false));
    let second = receipt(deliver(&*sink, &newer, false));
    for (accepted, receipt) in [(&newer, &second), (&older, &first)] {
        world.open().restore(&accepted.delivery(true), receipt).unwrap();
        let object = world.object(newer.target()).unwrap();
        assert_eq!((object.id, object.replicas), (newer.id, Some(4)));
        assert_eq!(object.revision, second.revision);
    }
}

pub(crate) fn a_healthy_sink_says_so(world: &impl World) {
    let sink = world.open();
    sink.check().unwrap();
    assert!(sink.abilities().parallel >= 1 && sink.abilities().group >= 1);
}
