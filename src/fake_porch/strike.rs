//! What a fault does to a request: before the work, behind it, or instead of it.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::faults::{Fault, Step};
use super::http::BODY;
use super::reply::{self, Content, Outcome, PORCH, Refusal, Reply};
use super::routes::{self, Call, Lot};
use super::state::Shared;
use super::store::{Name, Side};
use super::view::Kind;
use super::{Stage, revisions};

/// Bytes of an answer that is too large on purpose.
const HUGE: usize = 100 << 20;

/// How long the server works on what an ambiguous write has left behind.
const BEHIND: Duration = Duration::from_millis(20);

pub(super) async fn strike(shared: &Arc<Shared>, call: Call, step: Step, fault: Fault) -> Outcome {
    match fault {
        Fault::Delay(time) => {
            sleep(time).await;
            routes::answer(shared, &call).await
        }
        Fault::Hold(time) => detached(shared, Call { lot: Lot::Held(time), ..call }).await,
        Fault::Abandoned { done, work } => {
            leave_behind(shared, call, done, work);
            Err(Refusal::Hangup)
        }
        Fault::GatewayTimeout { done, after, work } => {
            leave_behind(shared, call, done, work);
            sleep(after).await;
            Ok(timeout())
        }
        Fault::Ambiguous => {
            let fault = ambiguous(shared, step);
            Box::pin(strike(shared, call, step, fault)).await
        }
        Fault::HangBefore => std::future::pending().await,
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
        Fault::DraftWithoutAnnotations => {
            drop(bare(shared, &call, false).await);
            Err(Refusal::Hangup)
        }
        Fault::CloseAfter
        | Fault::ResetAfter
        | Fault::HangAfter
        | Fault::InternalAfter(_)
        | Fault::CutBody
        | Fault::Drip => {
            let outcome = routes::answer(shared, &call).await;
            after(outcome, fault).await
        }
        other => instead(&call, step, other),
    }
}

/// One of the ways to leave the outcome open.
fn ambiguous(shared: &Shared, step: Step) -> Fault {
    let [done, way] = shared.with(|state| [state.rules.roll(), state.rules.roll()]);
    let done = done < 0.5;
    match (way * 3.0, done) {
        (way, done) if way < 1.0 => Fault::GatewayTimeout { done, after: Duration::ZERO, work: BEHIND },
        (way, true) if way < 2.0 => Fault::ResetAfter,
        (way, false) if way < 2.0 => Fault::ResetBefore,
        (_, true) if step == Step::Create => Fault::DraftWithoutAnnotations,
        (_, true) => Fault::CloseAfter,
        (_, false) => Fault::CloseBefore,
    }
}

/// The work goes on even if the client goes.
async fn detached(shared: &Arc<Shared>, call: Call) -> Outcome {
    let shared = Arc::clone(shared);
    let work = tokio::spawn(async move { routes::answer(&shared, &call).await });
    work.await.unwrap_or(Err(Refusal::Hangup))
}

/// The work goes on with nobody waiting for it, and lands or not.
fn leave_behind(shared: &Arc<Shared>, call: Call, done: bool, work: Duration) {
    let lot = if done { Lot::Held(work) } else { Lot::Cancelled(work) };
    let (shared, call) = (Arc::clone(shared), Call { lot, ..call });
    tokio::spawn(async move { bare(&shared, &call, true).await });
}

/// Carries a request out; a draft that it makes has lost labels and annotations, and where not `dated` the
/// time of its creation.
async fn bare(shared: &Arc<Shared>, call: &Call, dated: bool) -> Outcome {
    let reply = routes::answer(shared, call).await?;
    if let (Step::Create, Some((namespace, name))) = (call.step(), object_of(call, &reply)) {
        shared.with(|state| {
            let side = state.store.side(&namespace, &name);
            let created = side.created.take().filter(|_| dated);
            *side = Side { created, loaded: true, ..Default::default() };
        });
    }
    Ok(reply)
}

/// What becomes of the answer to work that was carried out, or refused.
async fn after(outcome: Outcome, fault: Fault) -> Outcome {
    match fault {
        Fault::ResetAfter => Err(Refusal::Reset),
        Fault::HangAfter => std::future::pending().await,
        Fault::InternalAfter(text) => Err(reply::internal(&text)),
        Fault::CutBody => shown(outcome).map(|reply| bytewise(reply, |bytes| Body::from_stream(cut(bytes)))),
        Fault::Drip => shown(outcome).map(|reply| bytewise(reply, |bytes| Body::from_stream(drip(bytes)))),
        _ => Err(Refusal::Hangup),
    }
}

/// An answer whatever it says.
fn shown(outcome: Outcome) -> Outcome {
    match outcome {
        Err(Refusal::Status { code, status }) => Ok(Reply::json(code, *status)),
        other => other,
    }
}

/// The same answer, its body in pieces and its length said before.
fn bytewise(reply: Reply, body: impl FnOnce(Bytes) -> Body) -> Reply {
    let Content::Json(value) = reply.content else { return reply };
    let bytes = Bytes::from(value.to_string());
    let length = bytes.len().to_string();
    Reply { content: Content::Stream(body(bytes)), ..reply }.with("Content-Length", length)
}

/// The first half, and then the connection ends.
fn cut(bytes: Bytes) -> impl stream::Stream<Item = io::Result<Bytes>> + Send {
    let half = bytes.slice(..bytes.len() / 2);
    stream::iter([Ok(half), Err(io::Error::other("cut on purpose"))])
}

fn drip(bytes: Bytes) -> impl stream::Stream<Item = io::Result<Bytes>> + Send {
    stream::unfold(bytes, |mut bytes| async move {
        sleep(Duration::from_secs(1)).await;
        let piece = bytes.split_to(bytes.len().min(1));
        (!piece.is_empty()).then_some((Ok(piece), bytes))
    })
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
    to: Option<Option<Stage>>,
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
    let files = matches!(step, Step::Files | Step::ReadFiles);
    let kind = if files { Kind::Resources } else { Kind::Revision };
    let page =
        |code| Reply::text(code, "<html><body>Sign in</body></html>").with("Content-Type", "text/html");
    match fault {
        Fault::ResetBefore => Err(Refusal::Reset),
        Fault::Internal(text) => Err(reply::internal(&text)),
        Fault::BadGateway => Ok(page(502)),
        Fault::Unreachable => Ok(Reply::text(503, UNREACHABLE)),
        Fault::Unavailable => Ok(Reply::text(503, "service unavailable\n")),
        Fault::Overloaded { retry_after } => Ok(later(reply::overloaded(), retry_after)),
        Fault::Throttled { retry_after } => {
            Ok(later(reply::throttled(retry_after.parse().ok()), retry_after))
        }
        Fault::Unauthorized => Err(reply::unauthorized()),
        Fault::Forbidden => Err(super::http::denied(call.verb(), namespace, resource, group, name)),
        Fault::TooLarge => Err(reply::too_large(BODY)),
        Fault::InProgress => Err(revisions::object_lock(namespace, name, kind).1),
        Fault::Conflict => Err(reply::conflict(PORCH, kind.resource(), name, reply::MODIFIED)),
        Fault::Gone => Err(reply::gone(name.split('.').next().unwrap_or_default())),
        Fault::NotFound => Err(reply::not_found(group, kind.resource(), name)),
        Fault::NoGroup => Ok(Reply::text(404, "404 page not found\n")),
        Fault::Stale => Err(reply::stale(kind.resource(), name)),
        Fault::EmptyList => Ok(empty_list(kind)),
        Fault::NotReady => {
            Err(reply::forbidden(group, resource, "Unknown", "not yet ready to handle request"))
        }
        Fault::NotJson => Ok(page(200)),
        Fault::WrongObject => Ok(Reply::json(
            200,
            json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "other"}}),
        )),
        Fault::Huge => Ok(Reply::stream(huge())),
        Fault::Redirect(place) => Ok(Reply::text(302, "").with("Location", place)),
        Fault::Status(code, body) => Ok(Reply::text(code, body)),
        _ => Err(Refusal::Hangup),
    }
}

const UNREACHABLE: &str =
    "error trying to reach service: dial tcp 127.0.0.1:9443: connect: connection refused\n";

fn empty_list(kind: Kind) -> Reply {
    let list: Value = json!({"kind": format!("{}List", kind.name()), "apiVersion": format!("{PORCH}/v1alpha1"),
        "metadata": {}, "items": []});
    Reply::json(200, list)
}

/// A refusal as an answer that says when to come again.
fn later(refusal: Refusal, retry_after: String) -> Reply {
    let reply = match refusal {
        Refusal::Status { code, status } => Reply::json(code, *status),
        Refusal::Hangup | Refusal::Reset => Reply::text(500, ""),
    };
    reply.with("Retry-After", retry_after)
}

/// A JSON text that does not end for 100 MiB.
fn huge() -> Body {
    let piece = Bytes::from(vec![b' '; 64 << 10]);
    let pieces = std::iter::once(Bytes::from_static(b"{")).chain(std::iter::repeat_n(piece, HUGE >> 16));
    Body::from_stream(stream::iter(pieces.map(Ok::<_, Infallible>)))
}
