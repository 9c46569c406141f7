//! The server over HTTP: what stands behind [`Api`] outside of tests.
//!
//! Requests for packages go to `sink.porch.url` if that is set, those for repositories to the server of the
//! kubeconfig; without a kubeconfig both go to the url. A connection is set up at the first request, and anew
//! when a file of the credential changed or after the server refused it, so that whatever is put right takes
//! effect without a restart; what is wrong is a [`Fault`] of the request, never of the start.
//!
//! Before the first write, and again after a fault that says something about the server, discovery must show
//! `v1alpha1` and the Repository must be usable. Limits: see [`exchange`] and [`super::limits`].

pub(in crate::submit) mod access;
pub(in crate::submit) mod exchange;
pub(in crate::submit) mod path;
mod reach;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Method;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

pub use self::access::Whom;
pub use self::exchange::Step;
pub use self::reach::Reach;

use self::access::{Access, Marks, Way};
use self::exchange::{Ask, FILES, JSON, MERGE, OBJECT, Server};
use self::path::{files_path, group_path, list_path, repository_path, revision_path, revisions_path};
use super::api::{Answer, Api, Class, Fault, Files, NewDraft, RepositoryState, Revision, Stage};
use super::limits::Bucket;
use super::{names, wire};
use crate::clock::Clock;
use crate::config::Environment;

/// How the server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// `sink.porch.url`.
    pub url: Option<String>,
    /// `sink.porch.ca_file`.
    pub ca_file: Option<PathBuf>,
    /// `sink.porch.kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
    /// Where to look when no kubeconfig is configured.
    pub surroundings: Surroundings,
    /// Where the Repository object is.
    pub namespace: String,
    /// Its name.
    pub repository: String,
    /// How long one request may take, answer included.
    pub request_timeout: Duration,
}

impl Connection {
    pub(in crate::submit) fn way(&self) -> Way<'_> {
        Way {
            section: "sink.porch",
            url: self.url.as_deref(),
            ca_file: self.ca_file.as_deref(),
            kubeconfig: self.kubeconfig.as_deref(),
            surroundings: &self.surroundings,
            advice: "set sink.porch.kubeconfig or sink.porch.url",
        }
    }
}

/// Where the environment says that a credential may lie.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// `kubeconfig` in `$CREDENTIALS_DIRECTORY`.
    pub credential: Option<PathBuf>,
    /// `$KUBECONFIG`.
    pub kubeconfig: Vec<PathBuf>,
    /// `~/.kube/config`.
    pub of_user: Option<PathBuf>,
    /// A pod of a cluster.
    pub in_cluster: bool,
}

impl Surroundings {
    /// What this environment says.
    pub fn of(environment: &Environment) -> Surroundings {
        let get = |name: &str| environment.get(std::ffi::OsStr::new(name)).filter(|value| !value.is_empty());
        let paths = get("KUBECONFIG").map(|list| std::env::split_paths(list).collect::<Vec<_>>());
        let named = |path: &PathBuf| !path.as_os_str().is_empty();
        Surroundings {
            credential: get("CREDENTIALS_DIRECTORY").map(|dir| PathBuf::from(dir).join("kubeconfig")),
            kubeconfig: paths.unwrap_or_default().into_iter().filter(named).collect(),
            of_user: get("HOME").map(|home| PathBuf::from(home).join(".kube/config")),
            in_cluster: get("KUBERNETES_SERVICE_HOST").is_some(),
        }
    }
}

/// Hears how long each request took, whatever came of it.
pub type Timed = Box<dyn Fn(Step, Duration) + Send + Sync>;

/// Two servers, or one under two names, as they were found.
struct Session {
    core: Server,
    porch: Server,
    marks: Marks,
    /// Discovery and repository were looked at since the last fault.
    proven: AtomicBool,
}

/// Requests to a Porch server, for one repository.
pub struct Client {
    connection: Connection,
    clock: Arc<dyn Clock>,
    timed: Timed,
    bucket: Bucket,
    session: Mutex<Option<Arc<Session>>>,
}

/// What about the server or the credential is in doubt after a fault of this class.
enum Doubt {
    /// Nothing.
    None,
    /// Whether the server is what it was.
    Server,
    /// Whether we may talk to it as we do.
    Session,
}

const fn doubt(class: Class) -> Doubt {
    match class {
        Class::Auth | Class::Tls | Class::Configuration | Class::Migrated => Doubt::Session,
        Class::Unavailable | Class::Unknown | Class::TimedOut | Class::Protocol | Class::Redirected => {
            Doubt::Server
        }
        _ => Doubt::None,
    }
}

impl Client {
    /// A client that has asked nothing yet.
    pub fn new(connection: Connection, clock: Arc<dyn Clock>, timed: Timed) -> Client {
        Client { connection, clock, timed, bucket: Bucket::new(), session: Mutex::new(None) }
    }

    async fn session(&self) -> Result<Arc<Session>, Fault> {
        let mut slot = self.session.lock().await;
        if let Some(session) = slot.as_ref().filter(|session| !session.marks.are_old()) {
            return Ok(Arc::clone(session));
        }
        *slot = None;
        let Access { core, porch, marks, .. } = Access::read(&self.connection.way()).await?;
        let (core, porch) = (Server::new(core)?, Server::new(porch)?);
        let session = Arc::new(Session { core, porch, marks, proven: AtomicBool::new(false) });
        *slot = Some(Arc::clone(&session));
        Ok(session)
    }

    /// One request within limits of rate, size and time, and what its fault casts doubt on.
    async fn ask(&self, session: &Session, server: &Server, ask: &Ask<'_>) -> Result<Vec<u8>, Fault> {
        self.bucket.take().await;
        let begun = Instant::now();
        let answer = server.ask(ask, self.connection.request_timeout, self.clock.wall()).await;
        (self.timed)(ask.step, begun.elapsed());
        if let Err(fault) = &answer {
            self.doubt(session, fault.class).await;
        }
        answer
    }

    async fn doubt(&self, session: &Session, class: Class) {
        match doubt(class) {
            Doubt::None => {}
            Doubt::Server => session.proven.store(false, Ordering::Relaxed),
            Doubt::Session => *self.session.lock().await = None,
        }
    }

    async fn object<T: DeserializeOwned>(
        &self,
        session: &Session,
        server: &Server,
        ask: &Ask<'_>,
    ) -> Result<T, Fault> {
        let body = self.ask(session, server, ask).await?;
        match serde_json::from_slice(&body) {
            Ok(object) => Ok(object),
            Err(err) => {
                self.doubt(session, Class::Protocol).await;
                Err(server.unfit(ask, &format!("the answer is not what it should be: {err}")))
            }
        }
    }

    /// A request that changes nothing.
    async fn read<T: DeserializeOwned>(&self, ask: Ask<'_>) -> Result<T, Fault> {
        let session = self.session().await?;
        self.object(&session, &session.porch, &ask).await
    }

    /// A request that changes something; the server is looked at first if need be.
    async fn write<T: DeserializeOwned>(&self, ask: Ask<'_>) -> Result<T, Fault> {
        let session = self.proven().await?;
        self.object(&session, &session.porch, &ask).await
    }

    /// A session whose server has the right version and whose repository can be used.
    async fn proven(&self) -> Result<Arc<Session>, Fault> {
        let session = self.session().await?;
        if session.proven.load(Ordering::Relaxed) {
            return Ok(session);
        }
        self.discover(&session).await?;
        let state = self.look(&session).await?;
        if let Some(why) = state.broken {
            let message = format!("repository {} is not ready: {why}", self.connection.repository);
            return Err(Fault { class: Class::Unavailable, code: 200, message, after: None });
        }
        session.proven.store(true, Ordering::Relaxed);
        Ok(session)
    }

    async fn discover(&self, session: &Session) -> Result<(), Fault> {
        let ask = get(Step::Discover, "porch.kpt.dev", group_path(), OBJECT);
        let group: wire::Group = self.object(session, &session.porch, &ask).await?;
        let class = match (group.has("v1alpha1"), group.has("v1alpha2")) {
            (true, _) => return Ok(()),
            (false, true) => Class::Migrated,
            (false, false) => Class::Configuration,
        };
        self.doubt(session, class).await;
        let instead = if class == Class::Migrated { ", but v1alpha2" } else { "" };
        let message = format!("the server has no porch.kpt.dev/v1alpha1{instead}");
        Err(Fault { class, code: 200, message, after: None })
    }

    async fn look(&self, session: &Session) -> Result<RepositoryState, Fault> {
        let Connection { namespace, repository, .. } = &self.connection;
        let ask = get(Step::Repository, repository, repository_path(namespace, repository), OBJECT);
        let found: wire::Repository = self.object(session, &session.core, &ask).await?;
        found.state(repository)
    }

    async fn change(
        &self,
        step: Step,
        name: &str,
        version: &str,
        sub: &str,
        spec: Value,
    ) -> Result<Revision, Fault> {
        let path = format!("{}{sub}", revision_path(&self.connection.namespace, name));
        let body = Some((MERGE, wire::patch(version, spec)));
        let ask = Ask { step, about: name, method: Method::PATCH, path, body, limit: OBJECT };
        self.one(name, self.write::<wire::PackageRevision>(ask).await?)
    }

    /// The answer as the revision `name`, which it must be.
    fn one(&self, name: &str, found: wire::PackageRevision) -> Result<Revision, Fault> {
        match found.revision()? {
            Some(found) if found.name == name => Ok(found),
            Some(found) => Err(wire::protocol(format!("asked for {name}, got {}", found.name))),
            None => Err(wire::protocol(format!("asked for {name}, got the placeholder of a branch"))),
        }
    }

    /// As [`Self::change`], to a stage that the answer must show.
    async fn moved(
        &self,
        step: Step,
        name: &str,
        version: &str,
        sub: &str,
        to: Stage,
    ) -> Result<Revision, Fault> {
        let found = self.change(step, name, version, sub, json!({"lifecycle": to.as_str()})).await?;
        match found.stage == to {
            true => Ok(found),
            false => Err(wire::protocol(format!("{step} {name} to {to}: the answer shows {}", found.stage))),
        }
    }
}

fn get(step: Step, about: &str, path: String, limit: usize) -> Ask<'_> {
    Ask { step, about, method: Method::GET, path, body: None, limit }
}

impl Api for Client {
    fn repository(&self) -> Answer<'_, RepositoryState> {
        Box::pin(async move {
            let session = self.session().await?;
            self.look(&session).await
        })
    }

    fn revisions<'a>(&'a self, package: &'a str) -> Answer<'a, Vec<Revision>> {
        Box::pin(async move {
            let Connection { namespace, repository, .. } = &self.connection;
            let path = list_path(namespace, repository, package);
            let found: wire::PackageRevisions = self.read(get(Step::List, package, path, OBJECT)).await?;
            found.revisions(repository, package)
        })
    }

    fn revision<'a>(&'a self, name: &'a str) -> Answer<'a, Option<Revision>> {
        Box::pin(async move {
            let path = revision_path(&self.connection.namespace, name);
            match self.read::<wire::PackageRevision>(get(Step::Read, name, path, OBJECT)).await {
                Ok(found) => self.one(name, found).map(Some),
                Err(fault) if fault.class == Class::Missing => Ok(None),
                Err(fault) => Err(fault),
            }
        })
    }

    fn files<'a>(&'a self, name: &'a str) -> Answer<'a, Files> {
        Box::pin(async move {
            let path = files_path(&self.connection.namespace, name);
            let found: wire::PackageFiles = self.read(get(Step::Files, name, path, FILES)).await?;
            found.files(name)
        })
    }

    fn create<'a>(&'a self, draft: &'a NewDraft) -> Answer<'a, Revision> {
        Box::pin(async move {
            let Connection { namespace, repository, .. } = &self.connection;
            let name = names::object(repository, &draft.package, &draft.workspace);
            let body = Some((JSON, wire::draft(namespace, repository, draft)));
            let path = revisions_path(namespace);
            let method = Method::POST;
            let ask = Ask { step: Step::Create, about: &name, method, path, body, limit: OBJECT };
            self.one(&name, self.write::<wire::PackageRevision>(ask).await?)
        })
    }

    fn put<'a>(
        &'a self,
        name: &'a str,
        version: &'a str,
        changes: &'a BTreeMap<String, Option<String>>,
    ) -> Answer<'a, Files> {
        Box::pin(async move {
            let path = files_path(&self.connection.namespace, name);
            let body = Some((MERGE, wire::patch(version, json!({"resources": changes}))));
            let ask = Ask { step: Step::Put, about: name, method: Method::PATCH, path, body, limit: FILES };
            self.write::<wire::PackageFiles>(ask).await?.files(name)
        })
    }

    fn annotate<'a>(
        &'a self,
        name: &'a str,
        version: &'a str,
        annotations: &'a BTreeMap<String, String>,
    ) -> Answer<'a, Revision> {
        let spec = json!({"packageMetadata": {"annotations": annotations}});
        Box::pin(self.change(Step::Annotate, name, version, "", spec))
    }

    fn propose<'a>(&'a self, name: &'a str, version: &'a str, to: Stage) -> Answer<'a, Revision> {
        Box::pin(self.moved(Step::Propose, name, version, "", to))
    }

    fn approve<'a>(&'a self, name: &'a str, version: &'a str, to: Stage) -> Answer<'a, Revision> {
        Box::pin(self.moved(Step::Approve, name, version, "/approval", to))
    }

    fn delete<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let path = revision_path(&self.connection.namespace, name);
            let method = Method::DELETE;
            let ask = Ask { step: Step::Delete, about: name, method, path, body: None, limit: OBJECT };
            // The object that is gone, or a Status; a web page has deleted nothing.
            self.write::<serde_json::Map<String, Value>>(ask).await.map(drop)
        })
    }
}
