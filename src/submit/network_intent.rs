//! The NetworkIntent sink: each intent becomes one custom resource.
//!
//! ```text
//! intent.nephoran.com/v1alpha1 NetworkIntent <intent's namespace>/intent-<target>-<digits of the key>
//! ```
//!
//! **Exactly one object.** The name follows from the dedup key and the object is created, never applied:
//! an apply would write into a foreign object of that name, a create meets it and changes nothing. An
//! object that is there already with our key in its annotations is adopted, any other is a conflict. A
//! doubtful delivery, and one whose answer was ambiguous, asks first; an object that cannot be seen yet is
//! no failure. So the daemon needs the rights `create` and `get`, and no others.
//!
//! **Limits.** `sink.network-intent.max_parallel` requests at once (8), different targets; one intent
//! each. A namespace that the cluster does not have holds its own intents alone, and refuses them after 3
//! tries over 10 min; all other trouble of the cluster holds all. Nothing is deleted: objects are their consumer's.

pub(in crate::submit) mod client;
mod object;
mod patience;
mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::Instant;

pub use self::client::Client;
pub use self::object::{GROUP, ID, KEY, KIND, Metadata, NetworkIntent, RESOURCE, Spec, VERSION};
use self::patience::Patience;
use self::verdict::{Verdict, verdict};
use super::porch::Heard;
use super::porch::api::{Answer, Class, Fault};
use super::porch::client::{Reach, Step, Surroundings};
use super::porch::trouble::counted;
use super::{Abilities, Delivery, Gather, Outcome, Sink, Tried};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, DedupScope, Environment};
use crate::fate::{Id, Lifecycle, Reason, Receipt, SinkKind};
use crate::observe::Metrics;

/// Most bytes of a message that goes into a status file.
const MESSAGE: usize = 4_096;

/// What the cluster holds under a name, as much of it as tells whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
}

/// The requests that the sink makes. Nothing here repeats a request.
pub trait Objects: Send + Sync {
    /// What is held under this name; `None` only if the server knows the kind and says that there is no
    /// such object, or it is not visible yet.
    fn get<'a>(&'a self, namespace: &'a str, name: &'a str) -> Answer<'a, Option<Held>>;

    /// Makes an object; a fault with code 409 if one of its name is there.
    fn create<'a>(&'a self, object: &'a NetworkIntent) -> Answer<'a, ()>;
}

/// Custom resources in a cluster.
pub struct NetworkIntentSink {
    objects: Arc<dyn Objects>,
    scope: DedupScope,
    max_parallel: usize,
    heard: Heard,
    patience: Mutex<Patience>,
    /// The newest trouble, for [`Sink::check`].
    trouble: Mutex<Option<String>>,
}

/// The sink of these settings, with a real cluster behind it. Nothing is asked and no file is read yet.
pub fn open(
    config: &Config,
    environment: &Environment,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
) -> NetworkIntentSink {
    let client = client(config, environment, clock);
    let heard = move |class: Class| counted(class).into_iter().for_each(|fault| metrics.fault(fault));
    let scope = config.ledger.dedup_scope;
    let max_parallel = config.sink.network_intent.max_parallel;
    NetworkIntentSink::new(Arc::new(client), scope, max_parallel, Box::new(heard))
}

/// What of the machine the sink of these settings needs.
pub fn reach(config: &Config, environment: &Environment) -> Reach {
    client(config, environment, Arc::new(SystemClock)).reach()
}

fn client(config: &Config, environment: &Environment, clock: Arc<dyn Clock>) -> Client {
    let timed = |step: Step, took: Duration| {
        tracing::debug!(step = step.as_str(), milliseconds = took.as_millis(), "a request to the cluster");
    };
    let kubeconfig = config.sink.network_intent.kubeconfig.clone();
    Client::new(kubeconfig, Surroundings::of(environment), clock, Box::new(timed))
}

impl NetworkIntentSink {
    /// A sink that has asked nothing yet. `scope` is what makes a file a repeat, for the dedup key.
    pub fn new(objects: Arc<dyn Objects>, scope: DedupScope, max_parallel: usize, heard: Heard) -> Self {
        NetworkIntentSink {
            objects,
            scope,
            max_parallel,
            heard,
            patience: Mutex::default(),
            trouble: Mutex::default(),
        }
    }

    async fn deliver_one(&self, delivery: &Delivery<'_>) -> Outcome {
        let object = NetworkIntent::of(delivery, &delivery.key(SinkKind::NetworkIntent, self.scope));
        let outcome = self.create_or_adopt(delivery, &object).await;
        let trouble = match &outcome {
            Outcome::Retry { message, .. } => Some(message.clone()),
            _ => None,
        };
        *self.trouble.lock() = trouble;
        if matches!(outcome, Outcome::Delivered(_) | Outcome::Rejected { .. }) {
            self.patience.lock().forget(delivery.id);
        }
        outcome
    }

    async fn create_or_adopt(&self, delivery: &Delivery<'_>, object: &NetworkIntent) -> Outcome {
        if delivery.doubtful {
            match self.held(object).await {
                Ok(Some(held)) => return whose(&held, object),
                Ok(None) => {}
                Err(fault) => return self.failed(delivery.id, object, fault),
            }
        }
        let fault = match self.objects.create(object).await {
            Ok(()) => return delivered(object, false),
            Err(fault) => fault,
        };
        match verdict(&fault) {
            Verdict::Taken | Verdict::Ask => match self.held(object).await {
                Ok(Some(held)) => whose(&held, object),
                Ok(None) => self.failed(delivery.id, object, fault),
                Err(newer) => self.failed(delivery.id, object, newer),
            },
            _ => self.failed(delivery.id, object, fault),
        }
    }

    async fn held(&self, object: &NetworkIntent) -> Result<Option<Held>, Fault> {
        self.objects.get(&object.metadata.namespace, &object.metadata.name).await
    }

    /// What a fault comes to when asking could not tell more.
    fn failed(&self, id: Id, object: &NetworkIntent, fault: Fault) -> Outcome {
        (self.heard)(fault.class);
        let verdict = verdict(&fault);
        let Fault { message, after, .. } = fault;
        let (reason, message, after) = match verdict {
            Verdict::Refused => return rejected(Reason::SinkRejected, message),
            Verdict::NoPlace => return self.without_place(id, object, &message),
            Verdict::Wait(reason, advice) => (reason, format!("{message}{advice}"), after),
            Verdict::Taken | Verdict::Ask => (Reason::SinkUnavailable, message, after),
        };
        Outcome::Retry { reason, message, after, tried: Tried::Perhaps }
    }

    /// The namespace is missing: the intent's own trouble, which must not hold up any other.
    fn without_place(&self, id: Id, object: &NetworkIntent, told: &str) -> Outcome {
        let advice = format!("create the namespace {}", object.metadata.namespace);
        if self.patience.lock().is_over(id, Instant::now()) {
            let message = format!("{told}, three times over 10 min; {advice}, then drop the file again");
            return rejected(Reason::SinkRejected, message);
        }
        let message = format!("{told}; {advice}");
        let again = Some(patience::AGAIN);
        Outcome::Held { reason: Reason::SinkUnavailable, message, tried: Tried::Perhaps, again }
    }
}

/// An object that is there is ours by its key, whatever else became of it.
fn whose(held: &Held, object: &NetworkIntent) -> Outcome {
    if held.annotations.get(KEY).is_some_and(|key| key == object.key()) {
        return delivered(object, true);
    }
    let message = format!(
        "NetworkIntent {} exists and is not of this intent ({KEY} differs); it was left as it is: remove or \
         rename it, then drop the file again",
        object.place()
    );
    rejected(Reason::NameConflict, message)
}

fn delivered(object: &NetworkIntent, adopted: bool) -> Outcome {
    let receipt =
        Receipt { name: object.place(), revision: String::new(), lifecycle: Lifecycle::Applied, adopted };
    Outcome::Delivered(receipt)
}

fn rejected(reason: Reason, mut message: String) -> Outcome {
    message.truncate(message.floor_char_boundary(MESSAGE));
    Outcome::Rejected { reason, message }
}

impl Sink for NetworkIntentSink {
    fn kind(&self) -> SinkKind {
        SinkKind::NetworkIntent
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn abilities(&self) -> Abilities {
        Abilities { parallel: self.max_parallel, group: 1, gather: Gather::Targets, window: Duration::ZERO }
    }

    fn deliver<'a>(&'a self, group: &'a [Delivery<'a>]) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(async move {
            let mut outcomes = Vec::with_capacity(group.len());
            for delivery in group {
                outcomes.push(self.deliver_one(delivery).await);
            }
            outcomes
        })
    }

    /// The cluster's store is durable before it answers: there is nothing to bring back.
    fn restore(&self, _newest: &Delivery<'_>, _receipt: &Receipt) -> Result<(), String> {
        Ok(())
    }

    /// What the newest delivery met; the cluster is not asked.
    fn check(&self) -> Result<(), String> {
        self.trouble.lock().clone().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests;
