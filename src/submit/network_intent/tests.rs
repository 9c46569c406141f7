//! The sink's decisions against a cluster in memory; the HTTP side has its own tests.

use std::collections::{BTreeMap, VecDeque};

use super::object::ID;
use super::*;
use crate::intent::Target;
use crate::submit::contract::{self, Accepted, Object, World, deliver, receipt};
use crate::submit::porch::api::Class;

const SCOPE: DedupScope = DedupScope::NameAndContent;

/// What the cluster does instead of answering.
#[derive(Debug, Clone)]
enum Trouble {
    /// The request is not carried out.
    Before(Fault),
    /// The request is carried out and nobody is told.
    After(Fault),
    /// What was made is not visible yet.
    Unseen,
}

#[derive(Default)]
struct State {
    objects: Vec<(NetworkIntent, Held)>,
    log: Vec<String>,
    creates: VecDeque<Trouble>,
    gets: VecDeque<Trouble>,
}

#[derive(Default, Clone)]
struct Cluster(Arc<Mutex<State>>);

fn fault(class: Class, code: u16, message: &str) -> Fault {
    Fault { class, code, message: message.to_owned(), after: None }
}

fn cut() -> Fault {
    fault(Class::Unknown, 0, "connection reset by peer")
}

fn no_namespace() -> Fault {
    fault(Class::Configuration, 404, "namespaces \"ran-a\" not found")
}

impl State {
    fn find(&self, namespace: &str, name: &str) -> Option<&Held> {
        let is = |object: &&(NetworkIntent, Held)| {
            object.0.metadata.namespace == namespace && object.0.metadata.name == name
        };
        self.objects.iter().find(is).map(|(_, held)| held)
    }

    fn make(&mut self, object: &NetworkIntent) -> Result<(), Fault> {
        if self.find(&object.metadata.namespace, &object.metadata.name).is_some() {
            let name = &object.metadata.name;
            let message = format!("networkintents.intent.nephoran.com {name:?} already exists");
            return Err(fault(Class::InProgress, 409, &message));
        }
        let annotations = &object.metadata.annotations;
        let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        self.objects.push((object.clone(), Held { annotations }));
        Ok(())
    }
}

impl Objects for Cluster {
    fn get<'a>(&'a self, namespace: &'a str, name: &'a str) -> Answer<'a, Option<Held>> {
        Box::pin(async move {
            let mut state = self.0.lock();
            state.log.push("get".to_owned());
            match state.gets.pop_front() {
                Some(Trouble::Unseen) => Ok(None),
                Some(Trouble::Before(fault) | Trouble::After(fault)) => Err(fault),
                None => Ok(state.find(namespace, name).cloned()),
            }
        })
    }

    fn create<'a>(&'a self, object: &'a NetworkIntent) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut state = self.0.lock();
            state.log.push("create".to_owned());
            match state.creates.pop_front() {
                Some(Trouble::Before(fault)) => Err(fault),
                Some(Trouble::After(fault)) => state.make(object).and(Err(fault)),
                Some(Trouble::Unseen) | None => state.make(object),
            }
        })
    }
}

impl Cluster {
    fn sink(&self) -> NetworkIntentSink {
        NetworkIntentSink::new(Arc::new(self.clone()), SCOPE, 8, Box::new(|_| {}))
    }

    fn with(creates: &[Trouble], gets: &[Trouble]) -> Cluster {
        let cluster = Cluster::default();
        cluster.0.lock().creates.extend(creates.iter().cloned());
        cluster.0.lock().gets.extend(gets.iter().cloned());
        cluster
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().log)
    }

    fn count(&self) -> usize {
        self.0.lock().objects.len()
    }
}

fn object_of(accepted: &Accepted) -> NetworkIntent {
    let delivery = accepted.delivery(false);
    NetworkIntent::of(&delivery, &delivery.key(SinkKind::NetworkIntent, SCOPE))
}

/// The objects that deliveries to `target` may make: their names follow from the keys.
fn names_of(target: &Target) -> impl Iterator<Item = NetworkIntent> {
    (1..=9).map(|number| {
        let mut accepted = Accepted::scaling(number, &target.name, 1);
        accepted.intent.target = target.clone();
        object_of(&accepted)
    })
}

fn foreign() -> Held {
    Held { annotations: BTreeMap::from([("example.org/owner".to_owned(), "somebody".to_owned())]) }
}

impl World for Cluster {
    fn open(&self) -> Box<dyn Sink> {
        Box::new(self.sink())
    }

    /// Of the objects for a target the one made last.
    fn object(&self, target: &Target) -> Option<Object> {
        let state = self.0.lock();
        let (object, _) =
            state.objects.iter().rev().find(|(object, _)| object.spec.target == *target.name)?;
        let id = object.metadata.annotations[ID].parse().unwrap();
        Some(Object { id, revision: String::new(), replicas: object.spec.replicas.map(u64::from) })
    }

    fn occupy(&self, target: &Target) {
        self.0.lock().objects.extend(names_of(target).map(|object| (object, foreign())));
    }

    fn is_occupied(&self, target: &Target) -> bool {
        let state = self.0.lock();
        names_of(target)
            .all(|object| state.find(&object.metadata.namespace, &object.metadata.name) == Some(&foreign()))
            && state.objects.len() == 9
    }
}

#[test]
fn the_contract_of_every_sink_is_kept() {
    contract::is_kept(Cluster::default);
}

#[test]
fn a_first_delivery_is_one_request() {
    let cluster = Cluster::default();
    let accepted = Accepted::scaling(1, "nf", 3);
    let receipt = receipt(deliver(&cluster.sink(), &accepted, false));
    let name = object_of(&accepted).place();
    assert_eq!(
        receipt,
        Receipt { name, revision: String::new(), lifecycle: Lifecycle::Applied, adopted: false }
    );
    assert_eq!(cluster.log(), ["create"]);
}

#[test]
fn a_doubtful_delivery_asks_before_it_creates() {
    let cluster = Cluster::default();
    let accepted = Accepted::scaling(1, "nf", 3);
    assert!(!receipt(deliver(&cluster.sink(), &accepted, true)).adopted);
    assert_eq!(cluster.log(), ["get", "create"]);
    assert!(receipt(deliver(&cluster.sink(), &accepted, true)).adopted);
    assert_eq!(cluster.log(), ["get"]);
}

#[test]
fn what_was_carried_out_without_an_answer_is_adopted_at_once() {
    for fault in [cut(), fault(Class::Unknown, 504, "Timeout"), fault(Class::Protocol, 200, "not JSON")] {
        let cluster = Cluster::with(&[Trouble::After(fault)], &[]);
        assert!(receipt(deliver(&cluster.sink(), &Accepted::scaling(1, "nf", 3), false)).adopted);
        assert_eq!((cluster.log(), cluster.count()), (vec!["create".to_owned(), "get".to_owned()], 1));
    }
}

#[test]
fn an_object_that_cannot_be_seen_yet_is_waited_for_and_adopted() {
    let cluster = Cluster::with(&[Trouble::After(cut())], &[Trouble::Unseen, Trouble::Unseen]);
    let sink = cluster.sink();
    let accepted = Accepted::scaling(1, "nf", 3);
    for doubtful in [false, true] {
        // The second time it is not seen before the create, and seen when that meets it.
        match deliver(&sink, &accepted, doubtful) {
            Outcome::Retry { reason: Reason::SinkUnavailable, tried: Tried::Perhaps, .. } if !doubtful => {}
            Outcome::Delivered(Receipt { adopted: true, .. }) if doubtful => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(cluster.log(), ["create", "get", "get", "create", "get"]);
    assert_eq!(cluster.count(), 1);
}

#[test]
fn exists_on_create_and_missing_on_read_is_neither_success_nor_failure() {
    let cluster = Cluster::default();
    let accepted = Accepted::scaling(1, "nf", 3);
    deliver(&cluster.sink(), &accepted, false);
    cluster.0.lock().gets.push_back(Trouble::Unseen);
    let outcome = deliver(&cluster.sink(), &accepted, false);
    assert!(matches!(outcome, Outcome::Retry { reason: Reason::SinkUnavailable, .. }), "{outcome:?}");
}

#[test]
fn a_cluster_that_cannot_be_asked_holds_a_doubtful_delivery_without_creating() {
    let cluster = Cluster::with(&[], &[Trouble::Before(cut())]);
    let outcome = deliver(&cluster.sink(), &Accepted::scaling(1, "nf", 3), true);
    assert!(matches!(outcome, Outcome::Retry { .. }), "{outcome:?}");
    assert_eq!((cluster.log(), cluster.count()), (vec!["get".to_owned()], 0));
}

#[test]
fn trouble_of_the_cluster_holds_the_intent_and_says_what_to_do() {
    let table = [
        (401, Class::Auth, "Unauthorized", Reason::SinkAuth, "renew the credential"),
        (404, Class::Configuration, "404 page not found", Reason::SinkUnavailable, "install the CRD"),
        (429, Class::Throttled, "slow down", Reason::SinkThrottled, "slow down"),
        (503, Class::Unavailable, "no endpoints", Reason::SinkUnavailable, "no endpoints"),
    ];
    for (code, class, text, expected, advice) in table {
        let cluster = Cluster::with(&[Trouble::Before(fault(class, code, text))], &[]);
        let sink = cluster.sink();
        let accepted = Accepted::scaling(1, "nf", 3);
        match deliver(&sink, &accepted, false) {
            Outcome::Retry { reason, message, .. } => {
                assert_eq!(reason, expected);
                assert!(message.starts_with(text) && message.contains(advice), "{message}");
                assert_eq!(sink.check(), Err(message));
            }
            other => panic!("{code}: {other:?}"),
        }
        assert!(!receipt(deliver(&sink, &accepted, true)).adopted);
        sink.check().unwrap();
    }
}

#[test]
fn the_time_that_the_cluster_asks_for_is_passed_on() {
    let throttled = Fault { after: Some(Duration::from_secs(7)), ..fault(Class::Throttled, 429, "later") };
    let cluster = Cluster::with(&[Trouble::Before(throttled)], &[]);
    let outcome = deliver(&cluster.sink(), &Accepted::scaling(1, "nf", 3), false);
    assert!(
        matches!(outcome, Outcome::Retry { after: Some(after), .. } if after.as_secs() == 7),
        "{outcome:?}"
    );
}

#[test]
fn content_that_the_cluster_refuses_is_refused_with_its_words() {
    let text = "spec.replicas: Invalid value: 500 ".repeat(1_000);
    let cluster = Cluster::with(&[Trouble::Before(fault(Class::Content, 422, &text))], &[]);
    match deliver(&cluster.sink(), &Accepted::scaling(1, "nf", 3), false) {
        Outcome::Rejected { reason: Reason::SinkRejected, message } => {
            assert!(message.starts_with("spec.replicas") && message.len() == MESSAGE);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_namespace_that_stays_missing_refuses_its_intents_and_one_that_comes_does_not() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let accepted = Accepted::scaling(1, "nf", 3);
        for found_at in [1, 2, 9] {
            let cluster = Cluster::with(&vec![Trouble::Before(no_namespace()); found_at.min(3)], &[]);
            let sink = cluster.sink();
            let mut last = None;
            for _ in 0..=found_at.min(2) {
                last = sink.deliver(&[accepted.delivery(true)]).await.pop();
                if let Some(Outcome::Held { message, again, .. }) = &last {
                    assert!(message.contains("create the namespace"), "{message}");
                    sink.check().unwrap();
                    tokio::time::advance(again.unwrap()).await;
                }
            }
            match last.unwrap() {
                Outcome::Delivered(_) if found_at < 3 => {}
                Outcome::Rejected { reason: Reason::SinkRejected, message } if found_at == 9 => {
                    assert!(message.contains("three times over 10 min"), "{message}");
                }
                other => panic!("found at try {found_at}: {other:?}"),
            }
        }
    });
}

#[test]
fn every_fault_is_heard_of() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let cluster = Cluster::with(&[Trouble::Before(fault(Class::Auth, 403, "forbidden"))], &[]);
    let into = Arc::clone(&heard);
    let hear = Box::new(move |class| into.lock().push(class));
    let sink = NetworkIntentSink::new(Arc::new(cluster), SCOPE, 8, hear);
    deliver(&sink, &Accepted::scaling(1, "nf", 3), false);
    assert_eq!(*heard.lock(), [Class::Auth]);
}
