//! The cluster over HTTP: what stands behind [`Objects`] outside of tests.
//!
//! Connection, credential and limits are those of the Porch client ([`exchange`], [`access`]): set up at the
//! first request, and anew when a file of the credential changed or after the cluster refused it. One request
//! takes 65 s at most, just above the 60 s at which the cluster's server gives up; an answer 1 MiB.
//!
//! Objects are created with strict validation: a cluster whose NetworkIntent lacks a field of ours says so,
//! instead of dropping what it does not know.
//!
//! [`exchange`]: crate::submit::porch::client::exchange
//! [`access`]: crate::submit::porch::client::access

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::object::{GROUP, NetworkIntent, RESOURCE, VERSION};
use super::{Held, Objects};
use crate::clock::Clock;
use crate::submit::porch::api::{Answer, Class, Fault};
use crate::submit::porch::client::access::{Access, Marks, Way};
use crate::submit::porch::client::exchange::{Ask, JSON, OBJECT, Server, Step};
use crate::submit::porch::client::path::encoded;
use crate::submit::porch::client::{Reach, Surroundings, Timed};

/// Longest time for one request, answer included.
const REQUEST: Duration = Duration::from_secs(65);

/// A cluster as its settings were found.
struct Session {
    server: Server,
    marks: Marks,
}

/// Requests to the cluster of a kubeconfig.
pub struct Client {
    kubeconfig: Option<PathBuf>,
    surroundings: Surroundings,
    clock: Arc<dyn Clock>,
    timed: Timed,
    session: Mutex<Option<Arc<Session>>>,
}

/// As much of an object as is needed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Object {
    metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    name: String,
    namespace: String,
    annotations: Option<BTreeMap<String, Option<String>>>,
}

/// The way to the cluster of this kubeconfig.
pub(in crate::submit) fn way<'a>(kubeconfig: Option<&'a Path>, surroundings: &'a Surroundings) -> Way<'a> {
    Way {
        section: "sink.network-intent",
        url: None,
        ca_file: None,
        kubeconfig,
        surroundings,
        advice: "set sink.network-intent.kubeconfig",
    }
}

impl Client {
    /// A client that has asked nothing yet; `kubeconfig` is `sink.network-intent.kubeconfig`.
    pub fn new(
        kubeconfig: Option<PathBuf>,
        surroundings: Surroundings,
        clock: Arc<dyn Clock>,
        timed: Timed,
    ) -> Client {
        Client { kubeconfig, surroundings, clock, timed, session: Mutex::new(None) }
    }

    fn way(&self) -> Way<'_> {
        way(self.kubeconfig.as_deref(), &self.surroundings)
    }

    /// What of the machine the requests need.
    pub(super) fn reach(&self) -> Reach {
        Reach::of(&self.way())
    }

    async fn session(&self) -> Result<Arc<Session>, Fault> {
        let mut slot = self.session.lock().await;
        if let Some(session) = slot.as_ref().filter(|session| !session.marks.are_old()) {
            return Ok(Arc::clone(session));
        }
        *slot = None;
        let Access { core, marks, .. } = Access::read(&self.way()).await?;
        let session = Arc::new(Session { server: Server::new(core)?, marks });
        *slot = Some(Arc::clone(&session));
        Ok(session)
    }

    /// The next request reads the credential again; one that another request has read already stays.
    async fn forget(&self, session: &Arc<Session>) {
        let mut slot = self.session.lock().await;
        if slot.as_ref().is_some_and(|held| Arc::ptr_eq(held, session)) {
            *slot = None;
        }
    }

    /// One request, and its answer as the object that it is about.
    async fn object(&self, ask: &Ask<'_>, namespace: &str, name: &str) -> Result<Held, Fault> {
        let session = self.session().await?;
        let begun = Instant::now();
        let answer = session.server.ask(ask, REQUEST, self.clock.wall()).await;
        (self.timed)(ask.step, begun.elapsed());
        if let Err(Fault { class: Class::Auth | Class::Tls | Class::Configuration, .. }) = &answer {
            self.forget(&session).await;
        }
        let Object { metadata } = serde_json::from_slice(&answer?).map_err(|err| {
            session.server.unfit(ask, &format!("the answer is not what it should be: {err}"))
        })?;
        if (metadata.name.as_str(), metadata.namespace.as_str()) != (name, namespace) {
            let message = format!("the answer is about {}/{}", metadata.namespace, metadata.name);
            return Err(session.server.unfit(ask, &message));
        }
        let annotations = metadata.annotations.unwrap_or_default();
        let text = |(key, value): (_, Option<String>)| (key, value.unwrap_or_default());
        Ok(Held { annotations: annotations.into_iter().map(text).collect() })
    }
}

/// Where objects of a namespace are made.
fn collection(namespace: &str) -> String {
    format!("/apis/{GROUP}/{VERSION}/namespaces/{}/{RESOURCE}", encoded(namespace))
}

/// Whether it is the kind's own 404, and not one of a proxy or of a server without the kind.
fn is_missing(fault: &Fault) -> bool {
    fault.class == Class::Missing && fault.message.contains(&format!("{RESOURCE}.{GROUP} \""))
}

impl Objects for Client {
    fn get<'a>(&'a self, namespace: &'a str, name: &'a str) -> Answer<'a, Option<Held>> {
        Box::pin(async move {
            let about = format!("{namespace}/{name}");
            let path = format!("{}/{}", collection(namespace), encoded(name));
            let step = Step::Read;
            let ask = Ask { step, about: &about, method: Method::GET, path, body: None, limit: OBJECT };
            match self.object(&ask, namespace, name).await {
                Ok(held) => Ok(Some(held)),
                Err(fault) if is_missing(&fault) => Ok(None),
                Err(fault) => Err(fault),
            }
        })
    }

    fn create<'a>(&'a self, object: &'a NetworkIntent) -> Answer<'a, ()> {
        Box::pin(async move {
            let (namespace, name) = (&object.metadata.namespace, &object.metadata.name);
            let about = object.place();
            let path = format!("{}?fieldValidation=Strict", collection(namespace));
            let body = Some((JSON, json!(object)));
            let step = Step::Create;
            let ask = Ask { step, about: &about, method: Method::POST, path, body, limit: OBJECT };
            self.object(&ask, namespace, name).await.map(drop)
        })
    }
}

#[cfg(test)]
mod tests;
