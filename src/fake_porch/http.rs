//! One request: read, logged, let in, struck by a fault or answered.

use std::fmt;
use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Request, Response, header};
use jiff::fmt::rfc2822::DateTimePrinter;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::reply::{self, Content, Outcome, Refusal, Reply};
use super::routes::{self, Call, Lot, Route};
use super::state::{Logged, Shared};
use super::strike::strike;
use crate::clock::{Clock as _, SystemClock};

/// Most bytes of a body.
pub(super) const BODY: usize = 6 << 20;

/// The connection ends without an answer.
#[derive(Debug)]
pub(super) struct Hangup {
    /// By a reset.
    pub(super) reset: bool,
}

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
        entry,
        lot: Lot::Served,
    };
    let token = header(header::AUTHORIZATION);
    let outcome = match to_bytes(body, BODY).await {
        Ok(body) => admit(&shared, Call { body, ..call }, &token).await,
        Err(_) => Err(reply::too_large(BODY)),
    };
    let reply = match outcome {
        Ok(reply) => reply,
        Err(Refusal::Status { code, status }) => Reply::json(code, *status),
        Err(Refusal::Hangup) => return Err(Hangup { reset: false }),
        Err(Refusal::Reset) => return Err(Hangup { reset: true }),
    };
    let ahead = shared.with(|state| {
        state.note(entry, |logged| logged.status = reply.code);
        state.ahead
    });
    Ok(on_the_wire(reply, ahead))
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

fn note(shared: &Shared, method: &str, path: &str, query: &[(String, String)]) -> u64 {
    let query: Vec<String> = query.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let logged = Logged {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.join("&"),
        status: 0,
        applied: false,
        at: shared.started.elapsed(),
    };
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
        Ok(state.rules.pick(step, &call.method, &call.target()))
    })?;
    match fault {
        None => routes::answer(shared, &call).await,
        Some(fault) => strike(shared, call, step, fault).await,
    }
}

pub(super) fn denied(verb: &str, namespace: &str, resource: &str, group: &str, name: &str) -> Refusal {
    let why = format!(
        "User \"system:serviceaccount:default:conductor-loop\" cannot {verb} resource \"{resource}\" in API group \
         \"{group}\" in the namespace \"{namespace}\""
    );
    reply::forbidden(group, resource.split('/').next().unwrap_or(resource), name, &why)
}

fn on_the_wire(reply: Reply, ahead: i64) -> Response<Body> {
    let (kind, body) = match reply.content {
        Content::Json(value) => ("application/json", encoded(&value)),
        Content::Text(text) => ("text/plain; charset=utf-8", Body::from(text)),
        Content::Stream(body) => ("application/json", body),
    };
    let mut builder = Response::builder().status(reply.code);
    if !reply.headers.iter().any(|(name, _)| *name == "Content-Type") {
        builder = builder.header(header::CONTENT_TYPE, kind);
    }
    // The server under us tells the time where nobody else does.
    if let Some(date) = date(ahead).filter(|_| ahead != 0) {
        builder = builder.header(header::DATE, date);
    }
    for (name, value) in reply.headers {
        builder = builder.header(name, value);
    }
    builder.body(body).unwrap_or_default()
}

/// The time that many seconds from now, as HTTP writes it.
fn date(ahead: i64) -> Option<String> {
    let now = Timestamp::from_nanosecond(SystemClock.wall().0.into()).ok()?;
    let then = now.checked_add(SignedDuration::from_secs(ahead)).ok()?;
    DateTimePrinter::new().timestamp_to_rfc9110_string(&then).ok()
}

fn encoded(value: &Value) -> Body {
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.push(b'\n');
    Body::from(bytes)
}
