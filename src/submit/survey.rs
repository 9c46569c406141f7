//! A look at the cluster for the doctor: who we are there, what it serves, what we may do, what it holds.
//!
//! Each question is one request with an answer or a fault of its own; nothing is changed, and no secret leaves
//! this module. Limits: 5 s a request; 8 MiB of list, which is some 3,000 objects, more than the server lists.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::network_intent::{self, client::way};
use super::porch::api::Fault;
use super::porch::client::access::{Access, Way};
use super::porch::client::exchange::{Ask, FILES, Heard, JSON, OBJECT, Server, Step};
use super::porch::client::path::{encoded, group_path, repository_path, revisions_path};
use super::porch::client::{Connection, Surroundings, Whom};
use super::porch::{self, names, wire};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, Environment};
use crate::fate::SinkKind;

/// Longest time for one request, connection and answer included.
pub const REQUEST: Duration = Duration::from_secs(5);

/// An answer, or why there is none, and how long that took.
#[derive(Debug)]
pub struct Asked<T> {
    /// What was found.
    pub answer: Result<T, Fault>,
    /// From the request to the end of its answer.
    pub took: Duration,
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    /// `v1.34.1`, if it tells.
    pub version: Option<String>,
    /// Seconds by which its clock is ahead of ours, within 1; `None` if it does not tell the time.
    pub ahead: Option<i64>,
}

/// The Repository object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// The git URL; it may hold a password.
    pub git: String,
    /// Its branch.
    pub branch: String,
    /// What it says instead of being ready.
    pub unready: Option<String>,
    /// It says that it is broken; else it may be under way.
    pub broken: bool,
}

/// What a repository holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Objects {
    /// All of them.
    pub all: usize,
    /// Revisions that a daemon of this kind made, by their names.
    pub own: usize,
    /// Revisions of others.
    pub foreign: usize,
    /// Revisions of the package that has most.
    pub deepest: usize,
}

impl Objects {
    /// What one published intent costs the server: a create pays some 9 ms for each object of the repository,
    /// all four steps together 36 ms for each revision of the package and 1.4 ms for each object (`porch.md` 4:
    /// measured from 1 to 1,000 packages, within a third).
    pub fn cost(self) -> Duration {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).min(1_000_000);
        let objects = Duration::from_micros(10_400) * count(self.all);
        Duration::from_millis(450) + objects + Duration::from_millis(36) * count(self.deepest)
    }
}

/// A right that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'a> {
    /// API group.
    pub group: &'a str,
    /// The resource, with its subresource behind a slash.
    pub resource: &'a str,
    /// What is done.
    pub verb: &'a str,
    /// Where; `None` is everywhere.
    pub namespace: Option<&'a str>,
}

/// A connection for questions.
pub struct Survey {
    whom: Whom,
    core: Server,
    porch: Server,
    namespace: String,
    repository: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Version {
    git_version: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Review {
    status: ReviewStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReviewStatus {
    allowed: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Resources {
    resources: Vec<Resource>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Resource {
    name: String,
}

#[derive(Deserialize)]
struct List {
    items: Option<Vec<Item>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Item {
    spec: Spec,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    package_name: String,
    workspace_name: String,
    revision: Option<i64>,
}

impl Survey {
    /// Reads kubeconfig and certificates as the sink of `config` would in this environment; connects to nobody.
    ///
    /// # Errors
    ///
    /// What is wrong with them, and what to do about it.
    pub async fn open(config: &Config, environment: &Environment) -> Result<Survey, Fault> {
        if config.sink.kind == SinkKind::NetworkIntent {
            let surroundings = Surroundings::of(environment);
            let kubeconfig = config.sink.network_intent.kubeconfig.as_deref();
            return Survey::by(&way(kubeconfig, &surroundings), String::new(), String::new()).await;
        }
        let connection = porch::connection(config, environment);
        let Connection { namespace, repository, .. } = connection.clone();
        Survey::by(&connection.way(), namespace, repository).await
    }

    async fn by(way: &Way<'_>, namespace: String, repository: String) -> Result<Survey, Fault> {
        let Access { core, porch, whom, .. } = Access::read(way).await?;
        Ok(Survey { whom, core: Server::new(core)?, porch: Server::new(porch)?, namespace, repository })
    }

    /// Who we are.
    pub fn whom(&self) -> &Whom {
        &self.whom
    }

    /// `host:port` of the cluster's server.
    pub fn core(&self) -> &str {
        self.core.place()
    }

    /// `host:port` of the server of packages; the same where it is behind the cluster's.
    pub fn porch(&self) -> &str {
        self.porch.place()
    }

    /// Whether anybody answers, and with what clock.
    pub async fn door(&self) -> Asked<Door> {
        let ask = get(Step::Version, "kubernetes", "/version".to_owned(), OBJECT);
        let begun = Instant::now();
        let before = SystemClock.wall().0;
        let heard = self.core.hear(&ask, REQUEST, SystemClock.wall()).await;
        let middle = before / 2 + SystemClock.wall().0 / 2;
        let answer = match heard {
            Ok(Heard { body, date }) => {
                let told: Version = serde_json::from_slice(&body).unwrap_or_default();
                // A date is cut to its second: its middle is the best guess.
                let ahead = date.map(|date| (date * 1_000_000_000 + 500_000_000 - middle) / 1_000_000_000);
                Ok(Door { version: told.git_version, ahead })
            }
            // One that knows us and keeps its version to itself.
            Err(Fault { code: 403 | 404, .. }) => Ok(Door { version: None, ahead: None }),
            Err(fault) => Err(fault),
        };
        Asked { answer, took: begun.elapsed() }
    }

    /// The versions of `porch.kpt.dev` that are served.
    pub async fn versions(&self) -> Asked<Vec<String>> {
        let ask = get(Step::Discover, "porch.kpt.dev", group_path(), OBJECT);
        let asked = self.object::<wire::Group>(&self.porch, &ask).await;
        asked.map(|group| Ok(group.versions().map(str::to_owned).collect()))
    }

    /// Whether the kind NetworkIntent is served.
    pub async fn has_intents(&self) -> Asked<bool> {
        let path = format!("/apis/{}/{}", network_intent::GROUP, network_intent::VERSION);
        let asked: Asked<Resources> =
            self.object(&self.core, &get(Step::Discover, network_intent::GROUP, path, OBJECT)).await;
        let has = |found: Resources| found.resources.iter().any(|one| one.name == network_intent::RESOURCE);
        let Asked { answer, took } = asked.map(|found| Ok(has(found)));
        match answer {
            Err(Fault { code: 404, .. }) => Asked { answer: Ok(false), took },
            answer => Asked { answer, took },
        }
    }

    /// Whether we have a right, by the server's own word (`SelfSubjectAccessReview`).
    pub async fn may(&self, question: Question<'_>) -> Asked<bool> {
        let Question { group, resource, verb, namespace } = question;
        let (plain, sub) = resource.split_once('/').unwrap_or((resource, ""));
        let mut attributes = json!({"group": group, "resource": plain, "verb": verb});
        if !sub.is_empty() {
            attributes["subresource"] = json!(sub);
        }
        if let Some(namespace) = namespace {
            attributes["namespace"] = json!(namespace);
        }
        let body = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes}});
        let ask = Ask {
            step: Step::Review,
            about: resource,
            method: Method::POST,
            path: "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned(),
            body: Some((JSON, body)),
            limit: OBJECT,
        };
        self.object::<Review>(&self.core, &ask).await.map(|review| Ok(review.status.allowed))
    }

    /// The Repository object of the settings.
    pub async fn repository(&self) -> Asked<Repository> {
        let name = &self.repository;
        let ask = get(Step::Repository, name, repository_path(&self.namespace, name), OBJECT);
        let asked = self.object::<wire::Repository>(&self.core, &ask).await;
        asked.map(|found| {
            let unready = found.ready().err();
            let state = found.state(name)?;
            let broken = state.broken.is_some();
            Ok(Repository { git: state.git, branch: state.branch, unready, broken })
        })
    }

    /// Counts what the repository holds, by one list.
    pub async fn objects(&self) -> Asked<Objects> {
        let name = &self.repository;
        let field = encoded(&format!("spec.repository={name}"));
        let path = format!("{}?fieldSelector={field}&limit=3000", revisions_path(&self.namespace));
        let asked: Asked<List> = self.object(&self.porch, &get(Step::List, name, path, FILES)).await;
        asked.map(|list| Ok(count(list.items.unwrap_or_default())))
    }

    /// Whether a namespace is there.
    pub async fn namespace(&self, name: &str) -> Asked<bool> {
        let path = format!("/api/v1/namespaces/{}", encoded(name));
        let asked: Asked<Value> = self.object(&self.core, &get(Step::Namespace, name, path, OBJECT)).await;
        let Asked { answer, took } = asked.map(|_| Ok(true));
        match answer {
            Err(Fault { code: 404, .. }) => Asked { answer: Ok(false), took },
            answer => Asked { answer, took },
        }
    }

    async fn object<T: DeserializeOwned>(&self, server: &Server, ask: &Ask<'_>) -> Asked<T> {
        let begun = Instant::now();
        let answer = server.ask(ask, REQUEST, SystemClock.wall()).await;
        let took = begun.elapsed();
        let unfit = |err| server.unfit(ask, &format!("the answer is not what it should be: {err}"));
        Asked { answer: answer.and_then(|body| serde_json::from_slice(&body).map_err(unfit)), took }
    }
}

impl<T> Asked<T> {
    fn map<U>(self, read: impl FnOnce(T) -> Result<U, Fault>) -> Asked<U> {
        Asked { answer: self.answer.and_then(read), took: self.took }
    }
}

fn get(step: Step, about: &str, path: String, limit: usize) -> Ask<'_> {
    Ask { step, about, method: Method::GET, path, body: None, limit }
}

fn count(items: Vec<Item>) -> Objects {
    let mut objects = Objects { all: items.len(), ..Objects::default() };
    let mut packages: BTreeMap<String, usize> = BTreeMap::new();
    // The placeholder of a branch costs as much as a revision, and is none.
    for Item { spec } in items.into_iter().filter(|item| item.spec.revision.unwrap_or(0) >= 0) {
        match names::is_ours(&spec.workspace_name) {
            true => objects.own += 1,
            false => objects.foreign += 1,
        }
        *packages.entry(spec.package_name).or_default() += 1;
    }
    objects.deepest = packages.into_values().max().unwrap_or(0);
    objects
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_predicted_cost_is_what_was_measured() {
        // Packages, revisions of the one, seconds (`porch.md` 4).
        for (packages, deepest, measured) in
            [(1, 1, 0.5), (10, 1, 0.7), (100, 1, 2.4), (300, 1, 6.4), (1_000, 1, 23.0), (1, 120, 6.8)]
        {
            let all = packages + packages * deepest;
            let fitted = Objects { all, deepest, ..Objects::default() }.cost().as_secs_f64();
            let ratio = fitted / measured;
            assert!((0.75..1.33).contains(&ratio), "{packages} packages: {fitted:.2} for {measured}");
        }
    }

    #[test]
    fn own_revisions_are_told_by_their_names_and_placeholders_are_no_revisions() {
        let item = |package: &str, workspace: &str, revision| Item {
            spec: Spec {
                package_name: package.to_owned(),
                workspace_name: workspace.to_owned(),
                revision: Some(revision),
            },
        };
        let ours = format!("i-{}", "0".repeat(40));
        let items = vec![
            item("a", &ours, 1),
            item("a", &format!("i-{}", "1".repeat(40)), 0),
            item("a", "main", -1),
            item("b", "v1", 1),
        ];
        assert_eq!(count(items), Objects { all: 4, own: 2, foreign: 1, deepest: 2 });
    }
}
