//! What the server says: objects, and refusals in the shape of a Kubernetes `Status`.

use axum::body::Body;
use serde_json::{Value, json};

/// The group of package revisions.
pub(super) const PORCH: &str = "porch.kpt.dev";

/// The group of repositories.
pub(super) const CONFIG: &str = "config.porch.kpt.dev";

/// An answer before it is put on the wire.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) code: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) content: Content,
}

/// What an answer holds.
#[derive(Debug)]
pub(super) enum Content {
    Json(Value),
    Text(String),
    Stream(Body),
}

impl Reply {
    pub(super) fn json(code: u16, value: Value) -> Reply {
        Reply { code, headers: Vec::new(), content: Content::Json(value) }
    }

    /// Plain text, as an aggregator answers for a server it cannot reach.
    pub(super) fn text(code: u16, text: impl Into<String>) -> Reply {
        Reply { code, headers: Vec::new(), content: Content::Text(text.into()) }
    }

    pub(super) fn stream(body: Body) -> Reply {
        Reply { code: 200, headers: Vec::new(), content: Content::Stream(body) }
    }

    pub(super) fn with(mut self, header: &'static str, value: impl Into<String>) -> Reply {
        self.headers.push((header, value.into()));
        self
    }

    pub(super) fn succeeded(&self) -> bool {
        (200..300).contains(&self.code)
    }
}

/// A request that is not carried out.
#[derive(Debug, Clone)]
pub(super) enum Refusal {
    /// A `Status`.
    Status { code: u16, status: Box<Value> },
    /// The connection ends without an answer: the real handler panics.
    Hangup,
    /// The connection is reset.
    Reset,
}

/// What a handler returns.
pub(super) type Outcome<T = Reply> = Result<T, Refusal>;

fn status(code: u16, reason: Option<&str>, message: &str, details: Option<Value>) -> Refusal {
    let mut status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"});
    status["message"] = json!(message);
    if let Some(reason) = reason {
        status["reason"] = json!(reason);
    }
    if let Some(details) = details {
        status["details"] = details;
    }
    status["code"] = json!(code);
    Refusal::Status { code, status: Box::new(status) }
}

/// 500, which is what the server says to most things.
pub(super) fn internal(message: &str) -> Refusal {
    let details = json!({"causes": [{"message": message}]});
    status(500, Some("InternalError"), &format!("Internal error occurred: {message}"), Some(details))
}

/// A `Status` without a reason.
pub(super) fn plain(code: u16, message: &str) -> Refusal {
    status(code, None, message, None)
}

pub(super) fn bad_request(message: &str) -> Refusal {
    status(400, Some("BadRequest"), message, None)
}

/// 404 for an object of `resource`.`group`.
pub(super) fn not_found(group: &str, resource: &str, name: &str) -> Refusal {
    let details = json!({"name": name, "group": group, "kind": resource});
    let dot = if group.is_empty() { "" } else { "." };
    status(404, Some("NotFound"), &format!("{resource}{dot}{group} \"{name}\" not found"), Some(details))
}

/// 404 for a path that is not served.
pub(super) fn no_such_path() -> Refusal {
    let message = "the server could not find the requested resource";
    status(404, Some("NotFound"), message, Some(json!({})))
}

/// 404 for a namespace.
pub(super) fn no_namespace(namespace: &str) -> Refusal {
    let details = json!({"name": namespace, "kind": "namespaces",
        "causes": [{"reason": "UnexpectedServerResponse", "message": "unknown"}]});
    let message = format!("the server could not find the requested resource (get namespaces {namespace})");
    status(404, Some("NotFound"), &message, Some(details))
}

pub(super) fn not_allowed() -> Refusal {
    let message = "the server does not allow this method on the requested resource";
    status(405, Some("MethodNotAllowed"), message, Some(json!({})))
}

/// 405 for a package: only its revisions can be created.
pub(super) fn no_packages() -> Refusal {
    let message = "create or clone a PackageRevision resource to create a package as direct package creation is \
                   not supported on resources of kind \"packages.porch.kpt.dev\"";
    let details = json!({"group": PORCH, "kind": "packages"});
    status(405, Some("MethodNotAllowed"), message, Some(details))
}

/// 409 for a lock that another request holds.
pub(super) fn in_progress(resource: &str, name: &str, what: &str) -> Refusal {
    conflict(PORCH, resource, name, &format!("another request is already in progress {what}"))
}

pub(super) fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Refusal {
    let details = json!({"name": name, "group": group, "kind": resource});
    let message = format!("Operation cannot be fulfilled on {resource}.{group} \"{name}\": {why}");
    status(409, Some("Conflict"), &message, Some(details))
}

/// 409 for an object that is there already.
pub(super) fn already_exists(group: &str, resource: &str, name: &str) -> Refusal {
    let details = json!({"name": name, "group": group, "kind": resource});
    let message = format!("{resource}.{group} \"{name}\" already exists");
    status(409, Some("AlreadyExists"), &message, Some(details))
}

/// What a stale version is called.
pub(super) const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// The text of a stale version, which the server wraps into a 500.
pub(super) fn stale(resource: &str, name: &str) -> Refusal {
    internal(&format!("Operation cannot be fulfilled on {resource}.{PORCH} \"{name}\": {MODIFIED}"))
}

pub(super) fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Refusal {
    let mut details = json!({"group": group, "kind": resource});
    if !name.is_empty() {
        details = json!({"name": name, "group": group, "kind": resource});
    }
    let subject = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
    let quoted = if name.is_empty() { String::new() } else { format!(" \"{name}\"") };
    status(403, Some("Forbidden"), &format!("{subject}{quoted} is forbidden: {why}"), Some(details))
}

pub(super) fn unauthorized() -> Refusal {
    status(401, Some("Unauthorized"), "Unauthorized", None)
}

pub(super) fn unsupported_media() -> Refusal {
    let message = "the body of the request was in an unknown format - accepted media types include: \
                   application/json, application/yaml, application/vnd.kubernetes.protobuf";
    status(415, Some("UnsupportedMediaType"), message, None)
}

pub(super) fn too_large(limit: usize) -> Refusal {
    let message = format!("Request entity too large: limit is {limit}");
    status(413, Some("RequestEntityTooLarge"), &message, None)
}

/// 410: the repository is served by the next version of the API.
pub(super) fn gone(repository: &str) -> Refusal {
    let message = format!(
        "repository \"{repository}\" is managed by v1alpha2; use the v1alpha2 API for its package revisions"
    );
    status(410, Some("Gone"), &message, None)
}

pub(super) fn throttled(seconds: Option<u64>) -> Refusal {
    let message = "the server has received too many requests and has asked us to try again later";
    let details = seconds.map(|seconds| json!({"retryAfterSeconds": seconds}));
    status(429, Some("TooManyRequests"), message, details)
}

pub(super) fn overloaded() -> Refusal {
    let message = "the server is currently unable to handle the request";
    status(503, Some("ServiceUnavailable"), message, None)
}

/// One field that is wrong.
#[derive(Debug, Clone)]
pub(super) struct Cause {
    pub(super) field: String,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Cause {
    /// `shown` is the value as JSON.
    pub(super) fn value(field: &str, shown: &str, why: &str) -> Cause {
        let message = format!("Invalid value: {shown}: {why}");
        Cause { field: field.to_owned(), reason: "FieldValueInvalid", message }
    }

    pub(super) fn forbidden(field: &str, why: &str) -> Cause {
        let message = format!("Forbidden: {why}");
        Cause { field: field.to_owned(), reason: "FieldValueForbidden", message }
    }
}

/// 422; `kind` is given with its group.
pub(super) fn invalid(kind: &str, group: &str, name: &str, causes: &[Cause]) -> Refusal {
    let texts: Vec<String> =
        causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
    let text = if let [one] = &texts[..] { one.clone() } else { format!("[{}]", texts.join(", ")) };
    let causes: Vec<Value> = causes
        .iter()
        .map(|cause| json!({"reason": cause.reason, "message": cause.message, "field": cause.field}))
        .collect();
    let mut details = json!({"group": group, "kind": kind, "causes": causes});
    if !name.is_empty() {
        details = json!({"name": name, "group": group, "kind": kind, "causes": causes});
    }
    let message = format!("{kind}.{group} \"{name}\" is invalid: {text}");
    status(422, Some("Invalid"), &message, Some(details))
}
