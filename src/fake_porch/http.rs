//! One request: read, logged, let in, struck by a fault or answered.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Request, Response, header};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::faults::{Fault, Step};
use super::reply::{self, Content, Outcome, PORCH, Refusal, Reply};
use super::routes::{self, Call, Route};
use super::state::{Logged, Shared};
use super::store::Name;
use super::view::Kind;

/// Most bytes of a body.
const BODY: usize = 6 << 20;

/// Bytes of an answer that is too large on purpose.
const HUGE: usize = 100 << 20;

/// The connection ends without an answer.
#[derive(Debug)]
pub(super) struct Hangup;

impl fmt::Display for Hangup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is ended on purpose")
    }
}

impl std::error::Error for Hangup {}

pub(super) async fn respond(shared: Arc<Shared>, request: Request<Body>) -> Result<Response<Body>, Hangup> {
    let (parts, body) = request.into_parts();
    let path = decode(parts.uri.path(), false);
    let query = pairs(parts.uri.query().unwrap_or_default());
    let entry = note(&shared, parts.method.as_str(), &path, &query);
    let header = |name: header::HeaderName| text(&parts.headers, name);
    let call = Call {
        method: parts.method.as_str().to_owned(),
        route: Route::of(&path),
        path,
        query,
        content_type: header(header::CONTENT_TYPE),
        accept: header(header::ACCEPT),
        body: Bytes::new(),
        hold: Duration::ZERO,
    };
    let token = header(header::AUTHORIZATION);
    let outcome = match to_bytes(body, BODY).await {
        Ok(body) => admit(&shared, Call { body, ..call }, &token).await,
        Err(_) => Err(reply::too_large(BODY)),
    };
    let reply = match outcome {
        Ok(reply) => reply,
        Err(Refusal::Status { code, status }) => Reply::json(code, *status),
        Err(Refusal::Hangup) => return Err(Hangup),
    };
    shared.with(|state| {
        if let Some((_, logged)) = state.log.iter_mut().rev().find(|(id, _)| *id == entry) {
            logged.status = reply.code;
        }
    });
    Ok(on_the_wire(reply))
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

fn note(shared: &Shared, method: &str, path: &str, query: &[(String, String)]) -> u64 {
    let query: Vec<String> = query.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let logged =
        Logged { method: method.to_owned(), path: path.to_owned(), query: query.join("&"), status: 0 };
    shared.with(|state| {
        state.requests += 1;
        state.log.push((state.requests, logged));
        state.requests
    })
}

/// Percent signs and, in a query, plus signs.
fn decode(text: &str, plus: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut hex =
            || Some((char::from(rest.next()?).to_digit(16)?, char::from(rest.next()?).to_digit(16)?));
        match byte {
            b'%' => {
                let (high, low) = hex().unwrap_or((3, 15));
                bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
            }
            b'+' if plus => bytes.push(b' '),
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn pairs(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (decode(key, true), decode(value, true)))
        .collect()
}

/// Credentials, faults, rights, and then the answer.
async fn admit(shared: &Arc<Shared>, call: Call, token: &str) -> Outcome {
    let step = call.step();
    let fault = shared.with(|state| {
        let known = state.token.as_ref().is_none_or(|wanted| token == format!("Bearer {wanted}"));
        if !known {
            return Err(reply::unauthorized());
        }
        if let Some((namespace, resource, group, name)) = call.route.subject()
            && state.denied.contains(&(call.verb().to_owned(), resource.to_owned()))
        {
            return Err(denied(call.verb(), namespace, resource, group, name));
        }
        Ok(state.rules.pick(step, &call.target()))
    })?;
    match fault {
        None => routes::answer(shared, &call).await,
        Some(fault) => strike(shared, call, step, fault).await,
    }
}

fn denied(verb: &str, namespace: &str, resource: &str, group: &str, name: &str) -> Refusal {
    let why = format!(
        "User \"system:serviceaccount:default:conductor-loop\" cannot {verb} resource \"{resource}\" in API group \
         \"{group}\" in the namespace \"{namespace}\""
    );
    reply::forbidden(group, resource.split('/').next().unwrap_or(resource), name, &why)
}

async fn strike(shared: &Arc<Shared>, call: Call, step: Step, fault: Fault) -> Outcome {
    match fault {
        Fault::Delay(time) => {
            sleep(time).await;
            routes::answer(shared, &call).await
        }
        Fault::Hold(hold) => detached(shared, Call { hold, ..call }).await,
        Fault::CloseBefore => Err(Refusal::Hangup),
        Fault::CloseAfter => {
            // What the work says is what nobody hears.
            drop(routes::answer(shared, &call).await);
            Err(Refusal::Hangup)
        }
        Fault::DraftWithoutAnnotations => {
            drop(bare(shared, &call, false).await);
            Err(Refusal::Hangup)
        }
        Fault::GatewayTimeout { done, after, work } => {
            if done {
                let (shared, call) = (Arc::clone(shared), Call { hold: work, ..call });
                tokio::spawn(async move { bare(&shared, &call, true).await });
            }
            sleep(after).await;
            Ok(timeout())
        }
        Fault::RollBack(time) => {
            let outcome = routes::answer(shared, &call).await?;
            roll_back(shared, &call, &outcome, None, Some(time));
            Ok(outcome)
        }
        Fault::Phantom(stage) => {
            let outcome = routes::answer(shared, &call).await?;
            roll_back(shared, &call, &outcome, Some(stage), None);
            Ok(outcome)
        }
        Fault::Drip => {
            let reply = match routes::answer(shared, &call).await {
                Ok(reply) => reply,
                Err(Refusal::Status { code, status }) => Reply::json(code, *status),
                Err(Refusal::Hangup) => return Err(Refusal::Hangup),
            };
            Ok(drip(reply))
        }
        other => instead(&call, step, other),
    }
}

/// The work goes on even if the client goes.
async fn detached(shared: &Arc<Shared>, call: Call) -> Outcome {
    let shared = Arc::clone(shared);
    let work = tokio::spawn(async move { routes::answer(&shared, &call).await });
    work.await.unwrap_or(Err(Refusal::Hangup))
}

/// Carries a request out; a draft that it makes has lost labels and annotations, and where not `dated` the
/// time of its creation.
async fn bare(shared: &Arc<Shared>, call: &Call, dated: bool) -> Outcome {
    let reply = routes::answer(shared, call).await?;
    if let (Step::Create, Some((namespace, name))) = (call.step(), object_of(call, &reply)) {
        shared.with(|state| {
            let side = state.store.side(&namespace, &name);
            let created = side.created.take().filter(|_| dated);
            *side = super::store::Side { created, loaded: true, ..Default::default() };
        });
    }
    Ok(reply)
}

/// Namespace and name of the revision that an answer is about.
fn object_of(call: &Call, reply: &Reply) -> Option<(String, String)> {
    let (namespace, ..) = call.route.subject()?;
    let Content::Json(object) = &reply.content else { return None };
    let name = object["metadata"]["name"].as_str()?;
    (reply.succeeded() && call.step().writes()).then(|| (namespace.to_owned(), name.to_owned()))
}

fn roll_back(
    shared: &Shared,
    call: &Call,
    reply: &Reply,
    to: Option<Option<super::Stage>>,
    lasting: Option<Duration>,
) {
    let Some((namespace, name)) = object_of(call, reply) else { return };
    shared.with(|state| {
        let Some(name) = Name::parse(&name) else { return };
        let Ok(url) = state.store.repository(&namespace, &name.repository).map(|one| one.url.clone()) else {
            return;
        };
        state.store.git(&url).roll_back(&name.package, &name.workspace, to, lasting);
    });
}

/// The answer of an aggregator that has cut the call.
fn timeout() -> Reply {
    let status = json!({"metadata": {}, "status": "Failure",
        "message": "Timeout: request did not complete within the allotted timeout", "reason": "Timeout",
        "details": {}, "code": 504});
    Reply::json(504, status).with("Content-Type", "text/plain; charset=utf-8")
}

/// Faults that answer instead of the work.
fn instead(call: &Call, step: Step, fault: Fault) -> Outcome {
    let (namespace, resource, group, name) = call.route.subject().unwrap_or_default();
    let kind = if matches!(step, Step::Files | Step::ReadFiles) { Kind::Resources } else { Kind::Revision };
    match fault {
        Fault::Internal(text) => Err(reply::internal(&text)),
        Fault::Unreachable => Ok(Reply::text(
            503,
            "error trying to reach service: dial tcp 127.0.0.1:9443: connect: connection refused\n",
        )),
        Fault::Unavailable => Ok(Reply::text(503, "service unavailable\n")),
        Fault::Throttled { seconds } => {
            Ok(refused(reply::throttled(seconds)).with("Retry-After", seconds.to_string()))
        }
        Fault::TooLarge => Err(reply::too_large(BODY)),
        Fault::InProgress => Err(super::revisions::object_lock(namespace, name, kind).1),
        Fault::Gone => Err(reply::gone(name.split('.').next().unwrap_or_default())),
        Fault::NotFound => Err(reply::not_found(group, kind.resource(), name)),
        Fault::Stale => Err(reply::stale(kind.resource(), name)),
        Fault::EmptyList => Ok(Reply::json(
            200,
            json!({"kind": format!("{}List", kind.name()), "apiVersion": format!("{PORCH}/v1alpha1"), "metadata": {},
                "items": []}),
        )),
        Fault::NotReady => {
            Err(reply::forbidden(group, resource, "Unknown", "not yet ready to handle request"))
        }
        Fault::NotJson => {
            Ok(Reply::text(200, "<html><body>Sign in</body></html>").with("Content-Type", "text/html"))
        }
        Fault::Huge => Ok(Reply::stream(huge())),
        Fault::Redirect => Ok(Reply::text(302, "").with("Location", "http://127.0.0.1:9/elsewhere")),
        Fault::Status(code, body) => Ok(Reply::text(code, body)),
        _ => Err(Refusal::Hangup),
    }
}

fn refused(refusal: Refusal) -> Reply {
    match refusal {
        Refusal::Status { code, status } => Reply::json(code, *status),
        Refusal::Hangup => Reply::text(500, ""),
    }
}

/// A JSON text that does not end for 100 MiB.
fn huge() -> Body {
    let piece = Bytes::from(vec![b' '; 64 << 10]);
    let pieces = std::iter::once(Bytes::from_static(b"{")).chain(std::iter::repeat_n(piece, HUGE >> 16));
    Body::from_stream(stream::iter(pieces.map(Ok::<_, Infallible>)))
}

fn drip(reply: Reply) -> Reply {
    let Content::Json(value) = reply.content else { return reply };
    let bytes = value.to_string().into_bytes().into_iter();
    let slow = stream::unfold(bytes, |mut bytes| async move {
        sleep(Duration::from_secs(1)).await;
        let byte = bytes.next()?;
        Some((Ok::<_, io::Error>(Bytes::from(vec![byte])), bytes))
    });
    Reply { content: Content::Stream(Body::from_stream(slow)), ..reply }
}

fn on_the_wire(reply: Reply) -> Response<Body> {
    let (kind, body) = match reply.content {
        Content::Json(value) => ("application/json", encoded(&value)),
        Content::Text(text) => ("text/plain; charset=utf-8", Body::from(text)),
        Content::Stream(body) => ("application/json", body),
    };
    let mut builder = Response::builder().status(reply.code);
    if !reply.headers.iter().any(|(name, _)| *name == "Content-Type") {
        builder = builder.header(header::CONTENT_TYPE, kind);
    }
    for (name, value) in reply.headers {
        builder = builder.header(name, value);
    }
    builder.body(body).unwrap_or_default()
}

fn encoded(value: &Value) -> Body {
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.push(b'\n');
    Body::from(bytes)
}
