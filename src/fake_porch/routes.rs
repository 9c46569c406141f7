//! Paths: what a request is about, which verb it needs, and who answers it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use serde_json::Value;

use super::faults::Step;
use super::reply::{self, Outcome, PORCH, Reply};
use super::state::Shared;
use super::view::Kind;
use super::{create, delete, discovery, list, network, repositories, resources, revisions, watch};

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Revisions {
        namespace: String,
        kind: Kind,
    },
    Revision {
        namespace: String,
        kind: Kind,
        name: String,
    },
    Approval {
        namespace: String,
        name: String,
    },
    Packages {
        namespace: String,
    },
    Repositories {
        namespace: String,
        name: Option<String>,
    },
    Intents {
        namespace: String,
        name: Option<String>,
    },
    AccessReview,
    Namespace {
        name: String,
    },
    /// Anything else: discovery, or not served.
    Other,
}

/// A request, read.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) content_type: String,
    pub(super) accept: String,
    pub(super) body: Bytes,
    pub(super) route: Route,
    /// Its number in the log.
    pub(super) entry: u64,
    pub(super) lot: Lot,
}

/// What becomes of a write with its lock held, beside what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lot {
    Served,
    /// So long longer.
    Held(Duration),
    /// So long, and then nothing is pushed.
    Cancelled(Duration),
}

impl Route {
    pub(super) fn of(path: &str) -> Route {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let owned = |text: &str| text.to_owned();
        match &parts[..] {
            ["apis", PORCH, "v1alpha1", "namespaces", namespace, rest @ ..] => porch(namespace, rest),
            ["apis", reply::CONFIG, "v1alpha1", "namespaces", namespace, "repositories", rest @ ..]
                if rest.len() < 2 =>
            {
                let name = rest.first().map(|name| owned(name));
                Route::Repositories { namespace: owned(namespace), name }
            }
            ["apis", network::GROUP, "v1alpha1", "namespaces", namespace, "networkintents", rest @ ..]
                if rest.len() < 2 =>
            {
                Route::Intents { namespace: owned(namespace), name: rest.first().map(|name| owned(name)) }
            }
            ["apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"] => Route::AccessReview,
            ["api", "v1", "namespaces", name] => Route::Namespace { name: owned(name) },
            _ => Route::Other,
        }
    }

    /// The namespace, resource with subresource, group and name that a right is asked for.
    pub(super) fn subject(&self) -> Option<(&str, &'static str, &'static str, &str)> {
        let none = "";
        Some(match self {
            Route::Revisions { namespace, kind } => (namespace, kind.resource(), PORCH, none),
            Route::Revision { namespace, kind, name } => (namespace, kind.resource(), PORCH, name),
            Route::Approval { namespace, name } => (namespace, "packagerevisions/approval", PORCH, name),
            Route::Packages { namespace } => (namespace, "packages", PORCH, none),
            Route::Repositories { namespace, name } => {
                (namespace, "repositories", reply::CONFIG, name.as_deref().unwrap_or_default())
            }
            Route::Intents { namespace, name } => {
                (namespace, "networkintents", network::GROUP, name.as_deref().unwrap_or_default())
            }
            Route::Namespace { name } => (name, "namespaces", "", name),
            Route::AccessReview | Route::Other => return None,
        })
    }
}

fn porch(namespace: &str, rest: &[&str]) -> Route {
    let namespace = namespace.to_owned();
    let kind = match rest.first().copied() {
        Some("packagerevisions") => Kind::Revision,
        Some("packagerevisionresources") => Kind::Resources,
        Some("packages") if rest.len() == 1 => return Route::Packages { namespace },
        _ => return Route::Other,
    };
    match rest {
        [_] => Route::Revisions { namespace, kind },
        [_, name] => Route::Revision { namespace, kind, name: (*name).to_owned() },
        [_, name, "approval"] if kind == Kind::Revision => {
            Route::Approval { namespace, name: (*name).to_owned() }
        }
        _ => Route::Other,
    }
}

impl Call {
    pub(super) fn parameter(&self, name: &str) -> &str {
        self.query.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    pub(super) fn step(&self) -> Step {
        let writes = matches!(self.method.as_str(), "PUT" | "PATCH");
        match (&self.route, self.method.as_str()) {
            (Route::Revisions { kind: Kind::Revision, .. }, "POST") => Step::Create,
            (Route::Revisions { .. } | Route::Packages { .. }, "GET") => Step::List,
            (Route::Revision { kind: Kind::Revision, .. }, "GET") | (Route::Approval { .. }, "GET") => {
                Step::Get
            }
            (Route::Revision { kind: Kind::Resources, .. }, "GET") => Step::ReadFiles,
            (Route::Revision { kind: Kind::Revision, .. }, "DELETE") => Step::Delete,
            (Route::Revision { kind: Kind::Revision, .. }, _) if writes => Step::Propose,
            (Route::Revision { kind: Kind::Resources, .. }, _) if writes => Step::Files,
            (Route::Approval { .. }, _) if writes => Step::Approve,
            (Route::Repositories { .. }, _) => Step::Repository,
            (Route::Intents { .. }, _) => Step::Network,
            _ => Step::Other,
        }
    }

    /// The verb of access rules.
    pub(super) fn verb(&self) -> &'static str {
        let collection = matches!(
            self.route,
            Route::Revisions { .. }
                | Route::Packages { .. }
                | Route::Repositories { name: None, .. }
                | Route::Intents { name: None, .. }
        );
        match self.method.as_str() {
            "GET" if self.parameter("watch") == "true" => "watch",
            "GET" if collection => "list",
            "GET" => "get",
            "POST" => "create",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" if collection => "deletecollection",
            "DELETE" => "delete",
            _ => "",
        }
    }

    /// What fault rules look for names in: the path, and the name that a new draft would get.
    pub(super) fn target(&self) -> String {
        if self.step() != Step::Create {
            return self.path.clone();
        }
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let spec = |key: &str| body["spec"][key].as_str().unwrap_or_default().to_owned();
        format!("{}/{}.{}.{}", self.path, spec("repository"), spec("packageName"), spec("workspaceName"))
    }

    /// The body of a PUT or POST.
    pub(super) fn json(&self, kind: &str) -> Outcome<Value> {
        if !self.content_type.is_empty() && !self.content_type.contains("json") {
            return Err(reply::unsupported_media());
        }
        serde_json::from_slice(&self.body).map_err(|why| {
            let body = String::from_utf8_lossy(&self.body);
            reply::bad_request(&format!(
                "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse \
                 error: {why} ({body})"
            ))
        })
    }

    /// The object that a PUT or PATCH makes of the present one.
    pub(super) fn applied(&self, present: &Value, kind: Kind) -> Outcome<Value> {
        if self.method == "PUT" {
            return self.json(kind.name());
        }
        let patch: Value = match self.content_type.split(';').next().unwrap_or_default() {
            "application/merge-patch+json" | "application/json-patch+json" => {
                serde_json::from_slice(&self.body).map_err(|why| reply::bad_request(&why.to_string()))?
            }
            "application/apply-patch+yaml" | "application/strategic-merge-patch+json" => {
                let name = kind.name();
                return Err(reply::bad_request(&format!("expected {name} object, got *porch.{name}")));
            }
            _ => return Err(reply::unsupported_media()),
        };
        let mut object = present.clone();
        if patch.is_array() {
            super::patch::apply(&mut object, &patch).map_err(|why| reply::bad_request(&why))?;
        } else {
            super::patch::merge(&mut object, &patch);
        }
        Ok(object)
    }
}

/// Answers a request that nothing stands in the way of.
pub(super) async fn answer(shared: &Arc<Shared>, call: &Call) -> Outcome {
    let outcome = serve(shared, call).await;
    // Other writes say so themselves: they can be carried out and answered with an error.
    if outcome.is_ok() && call.method != "GET" && matches!(call.step(), Step::Repository | Step::Network) {
        shared.with(|state| state.note(call.entry, |logged| logged.applied = true));
    }
    outcome
}

async fn serve(shared: &Arc<Shared>, call: &Call) -> Outcome {
    match (&call.route, call.method.as_str()) {
        (Route::Revisions { namespace, kind }, "GET") if call.parameter("watch") == "true" => {
            watch::open(shared, call, namespace, *kind)
        }
        (Route::Revisions { namespace, kind }, "GET") => list::answer(shared, call, namespace, *kind).await,
        (Route::Revisions { namespace, kind: Kind::Revision }, "POST") => {
            create::draft(shared, call, namespace).await
        }
        (Route::Revision { namespace, kind, name }, "GET") => {
            revisions::get(shared, call, namespace, name, *kind).await
        }
        (Route::Approval { namespace, name }, "GET") => {
            revisions::get(shared, call, namespace, name, Kind::Revision).await
        }
        (Route::Revision { namespace, kind: Kind::Revision, name }, "PUT" | "PATCH") => {
            revisions::update(shared, call, namespace, name, false).await
        }
        (Route::Approval { namespace, name }, "PUT" | "PATCH") => {
            revisions::update(shared, call, namespace, name, true).await
        }
        (Route::Revision { namespace, kind: Kind::Resources, name }, "PUT" | "PATCH") => {
            resources::update(shared, call, namespace, name).await
        }
        (Route::Revision { namespace, kind: Kind::Revision, name }, "DELETE") => {
            delete::answer(shared, call, namespace, name).await
        }
        (Route::Packages { .. }, "GET") => packages(call),
        (Route::Packages { .. }, "POST") => Err(reply::no_packages()),
        (Route::Repositories { namespace, name }, _) => {
            repositories::answer(shared, call, namespace, name.as_deref())
        }
        (Route::Intents { namespace, name }, _) => network::answer(shared, call, namespace, name.as_deref()),
        (Route::AccessReview, "POST") => network::review(shared, call),
        (Route::Namespace { name }, "GET") => shared.with(|state| repositories::namespace(state, name)),
        (Route::Other, "GET") => discovery::answer(&call.path),
        (Route::Other, _) => Err(reply::no_such_path()),
        _ => Err(reply::not_allowed()),
    }
}

fn packages(call: &Call) -> Outcome {
    let terms = call.parameter("fieldSelector").split(',').filter(|term| !term.is_empty());
    for field in terms.filter_map(|term| term.split(['=', '!']).next()) {
        if !matches!(field, "metadata.name" | "metadata.namespace") {
            return Err(reply::bad_request(&format!(
                "\"{field}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
            )));
        }
    }
    let list = serde_json::json!({"kind": "PorchPackageList", "apiVersion": format!("{PORCH}/v1alpha1"),
        "metadata": {}, "items": []});
    Ok(Reply::json(200, list))
}
