//! The sink over real sockets, against the fake server.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use futures_util::future::BoxFuture;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::*;
use crate::clock::SystemClock;
use crate::config::DedupScope;
use crate::fake_porch::{FakePorch, Fault as Strike, Options, Rule, Step as At, Tls};
use crate::fate::{Lifecycle, Reason, Receipt, SinkKind};
use crate::intent::Target;
use crate::submit::contract::{self, Accepted, World, deliver, receipt};
use crate::submit::network_intent::NetworkIntentSink;
use crate::submit::network_intent::object::{ID, KEY};
use crate::submit::{Abilities, Delivery, Outcome, Sink};

const SCOPE: DedupScope = DedupScope::NameAndContent;
/// The namespace of the intents of these tests.
const HERE: &str = "ran-a";

/// A server, a kubeconfig for it, and the runtime on which connections to it live.
struct Cluster {
    fake: FakePorch,
    dir: TempDir,
    runtime: Arc<Runtime>,
}

/// The sink on the runtime of its connections, whoever asks.
struct Wired {
    sink: NetworkIntentSink,
    runtime: Arc<Runtime>,
}

impl Sink for Wired {
    fn kind(&self) -> SinkKind {
        self.sink.kind()
    }

    fn abilities(&self) -> Abilities {
        self.sink.abilities()
    }

    fn deliver<'a>(&'a self, group: &'a [Delivery<'a>]) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(async move {
            let ask = || self.runtime.block_on(self.sink.deliver(group));
            std::thread::scope(|scope| scope.spawn(ask).join().unwrap())
        })
    }

    fn restore(&self, newest: &Delivery<'_>, receipt: &Receipt) -> Result<(), String> {
        self.sink.restore(newest, receipt)
    }

    fn check(&self) -> Result<(), String> {
        self.sink.check()
    }
}

impl Cluster {
    fn new() -> Cluster {
        Cluster::with(Options::default())
    }

    fn with(options: Options) -> Cluster {
        let fake = FakePorch::start(options).unwrap();
        fake.add_namespace(HERE);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let cluster = Cluster { fake, dir: TempDir::new().unwrap(), runtime: Arc::new(runtime.unwrap()) };
        cluster.write(&cluster.fake.kubeconfig());
        cluster
    }

    /// A new kubeconfig in the old one's place.
    fn write(&self, text: &str) {
        let fresh = self.dir.path().join("new");
        fs::write(&fresh, text).unwrap();
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(fresh, self.kubeconfig()).unwrap();
    }

    fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    fn client(&self) -> Client {
        let nothing = Surroundings::default();
        Client::new(Some(self.kubeconfig()), nothing, Arc::new(SystemClock), Box::new(|_, _| {}))
    }

    fn sink(&self) -> Wired {
        let sink = NetworkIntentSink::new(Arc::new(self.client()), SCOPE, 8, Box::new(|_| {}));
        Wired { sink, runtime: Arc::clone(&self.runtime) }
    }

    /// The requests since this was last asked.
    fn log(&self) -> Vec<String> {
        let lines = self.fake.log().into_iter().map(|logged| {
            let name = logged.path.rsplit('/').next().filter(|last| last.starts_with("intent-"));
            format!("{}{} {}", logged.method, name.map_or("", |_| " by name"), logged.status)
        });
        let lines = lines.collect();
        self.fake.clear_log();
        lines
    }

    fn count(&self) -> usize {
        self.fake.intents(HERE).len()
    }

    fn put(&self, object: &NetworkIntent) {
        self.runtime.block_on(self.client().create(object)).unwrap();
        self.fake.clear_log();
    }
}

fn accepted(number: u64) -> Accepted {
    let mut accepted = Accepted::scaling(number, "nf", 3);
    accepted.intent.target.namespace = HERE.into();
    accepted
}

fn object_of(accepted: &Accepted) -> NetworkIntent {
    let delivery = accepted.delivery(false);
    NetworkIntent::of(&delivery, &delivery.key(SinkKind::NetworkIntent, SCOPE))
}

/// The same with the key of somebody else.
fn foreign(accepted: &Accepted) -> NetworkIntent {
    let mut object = object_of(accepted);
    object.metadata.annotations.insert(KEY, "0".repeat(64));
    object
}

/// What deliveries to `target` may make.
fn names_of(target: &Target) -> impl Iterator<Item = Accepted> {
    (1..=9).map(|number| {
        let mut accepted = Accepted::scaling(number, &target.name, 1);
        accepted.intent.target = target.clone();
        accepted
    })
}

impl World for Cluster {
    fn open(&self) -> Box<dyn Sink> {
        Box::new(self.sink())
    }

    /// Of the objects for a target the one made last.
    fn object(&self, target: &Target) -> Option<contract::Object> {
        let version = |object: &serde_json::Value| -> u64 {
            object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
        };
        let objects = self.fake.intents(&target.namespace).into_values();
        let ours = objects.filter(|object| object["spec"]["target"] == *target.name);
        let newest = ours.max_by_key(version)?;
        let id = newest["metadata"]["annotations"][ID].as_str().unwrap().parse().unwrap();
        Some(contract::Object { id, revision: String::new(), replicas: newest["spec"]["replicas"].as_u64() })
    }

    fn occupy(&self, target: &Target) {
        self.fake.add_namespace(&target.namespace);
        names_of(target).for_each(|accepted| self.put(&foreign(&accepted)));
    }

    fn is_occupied(&self, target: &Target) -> bool {
        let held = self.fake.intents(&target.namespace);
        let foreign = |object: &serde_json::Value| object["metadata"]["annotations"][KEY] == "0".repeat(64);
        held.len() == 9 && held.values().all(foreign)
    }
}

#[test]
fn the_contract_of_every_sink_is_kept_over_the_wire() {
    contract::is_kept(|| {
        let cluster = Cluster::with(Options { tls: Tls::Off, ..Options::default() });
        cluster.fake.add_namespace(&Accepted::scaling(1, "nf", 1).target().namespace);
        cluster
    });
}

#[test]
fn a_first_delivery_is_one_post_with_strict_validation() {
    let cluster = Cluster::with(Options { token: Some("secret".to_owned()), ..Options::default() });
    let accepted = accepted(1);
    let found = receipt(deliver(&cluster.sink(), &accepted, false));
    let object = object_of(&accepted);
    assert_eq!((found.name, found.lifecycle), (object.place(), Lifecycle::Applied));
    let log = cluster.fake.log();
    assert_eq!(log.len(), 1, "{log:?}");
    assert_eq!(log[0].path, format!("/apis/intent.nephoran.com/v1alpha1/namespaces/{HERE}/networkintents"));
    assert_eq!((log[0].query.as_str(), log[0].status), ("fieldValidation=Strict", 201));
    let held = &cluster.fake.intents(HERE)[&object.metadata.name];
    let sent = serde_json::to_value(&object).unwrap();
    assert_eq!((&held["kind"], &held["spec"]), (&sent["kind"], &sent["spec"]));
    assert_eq!(held["metadata"]["annotations"], sent["metadata"]["annotations"]);
}

#[test]
fn what_was_lost_on_the_way_is_asked_for_and_made_once() {
    let busy = Strike::GatewayTimeout { done: true, after: Duration::from_millis(200), work: Duration::ZERO };
    let internal = Strike::Internal("etcdserver: request timed out".to_owned());
    // The answer to the create, as far as there was one; whether the object was made all the same.
    let table = [
        (Strike::CloseBefore, 0, false),
        (Strike::CloseAfter, 0, true),
        (busy, 504, true),
        (internal, 500, false),
        (Strike::Unreachable, 503, false),
        (Strike::NotJson, 200, false),
        (Strike::Huge, 200, false),
        (Strike::BadGateway, 502, false),
        (Strike::WrongObject, 200, false),
        (Strike::ResetAfter, 0, true),
        (Strike::InternalAfter("etcdserver: leader changed".to_owned()), 500, true),
        (Strike::Redirect("http://127.0.0.1:9/elsewhere".to_owned()), 302, false),
        (Strike::Status(200, "{}".to_owned()), 200, false),
    ];
    let cluster = Cluster::new();
    let sink = cluster.sink();
    for (number, (fault, code, made)) in (1..).zip(table) {
        let accepted = accepted(number);
        cluster.fake.inject(Rule::once(At::Network, fault.clone()));
        let outcome = deliver(&sink, &accepted, false);
        let seen = if made { 200 } else { 404 };
        let log = [format!("POST {code}"), format!("GET by name {seen}")];
        assert_eq!(cluster.log(), log, "{fault:?}: {outcome:?}");
        if made {
            assert!(receipt(outcome).adopted, "{fault:?}");
            continue;
        }
        let Outcome::Retry { reason: Reason::SinkUnavailable, .. } = outcome else {
            panic!("{fault:?}: {outcome:?}")
        };
        assert!(!receipt(deliver(&sink, &accepted, true)).adopted, "{fault:?}");
        assert_eq!(cluster.log(), ["GET by name 404", "POST 201"], "{fault:?}");
        assert!(receipt(deliver(&sink, &accepted, false)).adopted, "{fault:?}");
        assert_eq!(cluster.log(), ["POST 409", "GET by name 200"], "{fault:?}");
    }
    assert_eq!(cluster.count(), 13);
}

#[test]
fn trouble_of_the_cluster_holds_the_intent_and_is_over_when_it_is() {
    let text = |code, text: &str| Strike::Status(code, text.to_owned());
    let table = [
        (Strike::Throttled { retry_after: "7".to_owned() }, Reason::SinkThrottled, ""),
        (Strike::Conflict, Reason::SinkUnavailable, ""),
        (Strike::Unauthorized, Reason::SinkAuth, "renew the credential"),
        (Strike::Forbidden, Reason::SinkAuth, "grant get and create"),
        (Strike::NoGroup, Reason::SinkUnavailable, "install the CRD"),
        (text(401, "Unauthorized"), Reason::SinkAuth, "renew the credential"),
        (text(403, "User \"c\" cannot create resource"), Reason::SinkAuth, "grant get and create"),
        (text(403, "exceeded quota: q"), Reason::SinkUnavailable, "raise the ResourceQuota"),
        (text(400, "strict decoding error: unknown field"), Reason::SinkUnavailable, "install the CRD"),
        (
            text(404, "the server could not find the requested resource"),
            Reason::SinkUnavailable,
            "install the CRD",
        ),
        (text(404, "default backend - 404 not found"), Reason::SinkUnavailable, ""),
    ];
    let cluster = Cluster::new();
    let sink = cluster.sink();
    for (number, (fault, expected, advice)) in (1..).zip(table) {
        let accepted = accepted(number);
        cluster.fake.inject(Rule::once(At::Network, fault.clone()));
        match deliver(&sink, &accepted, false) {
            Outcome::Retry { reason, message, after, .. } => {
                assert_eq!(reason, expected, "{message}");
                assert!(message.contains(advice), "{message}");
                let asked = matches!(fault, Strike::Throttled { .. }).then_some(Duration::from_secs(7));
                assert_eq!(after, asked, "{message}");
            }
            other => panic!("{fault:?}: {other:?}"),
        }
        assert!(sink.check().is_err());
        cluster.log();
        assert!(!receipt(deliver(&sink, &accepted, false)).adopted, "{fault:?}");
        assert_eq!(cluster.log(), ["POST 201"], "{fault:?}");
        sink.check().unwrap();
    }
}

#[test]
fn content_that_the_cluster_refuses_is_refused_and_nothing_is_made() {
    let cluster = Cluster::new();
    let sink = cluster.sink();
    let text = |code, text: &str| Strike::Status(code, text.to_owned());
    for fault in [
        Strike::TooLarge,
        text(422, "spec.replicas: Invalid value: 500"),
        text(403, "admission webhook \"p.example.org\" denied the request: no"),
        text(400, "the object provided is unrecognized"),
    ] {
        cluster.fake.inject(Rule::once(At::Network, fault.clone()));
        let outcome = deliver(&sink, &accepted(1), false);
        let Outcome::Rejected { reason: Reason::SinkRejected, .. } = outcome else {
            panic!("{fault:?}: {outcome:?}")
        };
    }
    assert_eq!((cluster.log().len(), cluster.count()), (4, 0));
}

#[test]
fn an_object_of_another_key_is_a_conflict_and_is_left_as_it_is() {
    let cluster = Cluster::new();
    let accepted = accepted(1);
    cluster.put(&foreign(&accepted));
    let before = cluster.fake.intents(HERE);
    for doubtful in [false, true] {
        let outcome = deliver(&cluster.sink(), &accepted, doubtful);
        let Outcome::Rejected { reason: Reason::NameConflict, .. } = outcome else { panic!("{outcome:?}") };
    }
    assert_eq!(cluster.log(), ["POST 409", "GET by name 200", "GET by name 200"]);
    assert_eq!(cluster.fake.intents(HERE), before);
}

#[test]
fn a_namespace_that_is_missing_is_named_and_waited_for() {
    let cluster = Cluster::new();
    let mut accepted = accepted(1);
    accepted.intent.target.namespace = "elsewhere".into();
    let sink = cluster.sink();
    match deliver(&sink, &accepted, false) {
        Outcome::Held { message, .. } => {
            assert!(message.contains("create the namespace elsewhere"), "{message}")
        }
        other => panic!("{other:?}"),
    }
    cluster.fake.add_namespace("elsewhere");
    assert!(!receipt(deliver(&sink, &accepted, true)).adopted);
}

#[test]
fn a_renewed_credential_is_used_without_a_restart() {
    let cluster = Cluster::with(Options { token: Some("first".to_owned()), ..Options::default() });
    let sink = cluster.sink();
    receipt(deliver(&sink, &accepted(1), false));
    cluster.fake.set_token(Some("second"));
    match deliver(&sink, &accepted(2), false) {
        Outcome::Retry { reason: Reason::SinkAuth, message, .. } => {
            assert!(!message.contains("first") && !message.contains("second"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    cluster.write(&cluster.fake.kubeconfig());
    receipt(deliver(&sink, &accepted(2), true));
    assert_eq!(cluster.count(), 2);
}

#[test]
fn a_certificate_that_does_not_hold_sends_nothing() {
    for tls in [Tls::Expired, Tls::WrongHost] {
        let cluster = Cluster::with(Options { tls, ..Options::default() });
        match deliver(&cluster.sink(), &accepted(1), false) {
            Outcome::Retry { reason: Reason::SinkUnavailable, message, .. } => {
                assert!(message.contains("correct the certificate"), "{message}");
            }
            other => panic!("{tls:?}: {other:?}"),
        }
        assert!(cluster.fake.log().is_empty());
    }
}

#[test]
fn without_a_way_to_the_cluster_the_key_to_set_is_named() {
    let cluster = Cluster::new();
    let nobody = Client::new(None, Surroundings::default(), Arc::new(SystemClock), Box::new(|_, _| {}));
    let fault = cluster.runtime.block_on(nobody.get(HERE, "x")).unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Configuration, 0));
    assert!(fault.message.ends_with("set sink.network-intent.kubeconfig"), "{fault}");
    fs::remove_file(cluster.kubeconfig()).unwrap();
    let fault = cluster.runtime.block_on(cluster.client().get(HERE, "x")).unwrap_err();
    assert!(fault.message.ends_with("correct sink.network-intent.kubeconfig"), "{fault}");
}
