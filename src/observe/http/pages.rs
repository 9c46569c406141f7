//! What each path answers (`contract.md` 6).

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::Mutex;

use crate::clock::{Clock, Mono};
use crate::observe::health::Report;
use crate::observe::{Check, Health, HttpCode, Metrics};

const TEXT_FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// One rendering of the metrics page serves everybody who asks within this time.
const RENDERED_FOR: Duration = Duration::from_secs(1);

/// What the pages show.
#[derive(Clone)]
pub struct Pages {
    /// `/metrics`
    pub metrics: Metrics,
    /// `/livez`, `/readyz`, `/healthz`
    pub health: Health,
    /// The clock that the stages beat by.
    pub clock: Arc<dyn Clock>,
    /// `/stats`; called on the HTTP thread, so it must not wait for a disk or a lock for long.
    pub stats: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
}

struct Shown {
    pages: Pages,
    rendered: Mutex<Option<(Mono, Bytes)>>,
}

impl Shown {
    fn page(&self) -> Bytes {
        let now = self.pages.clock.now();
        let mut rendered = self.rendered.lock();
        match &*rendered {
            Some((at, page)) if now.since(*at) < RENDERED_FOR => page.clone(),
            _ => rendered.insert((now, Bytes::from(self.pages.metrics.render()))).1.clone(),
        }
    }
}

pub(super) fn router(pages: Pages) -> Router {
    let shown = Arc::new(Shown { pages, rendered: Mutex::new(None) });
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(alive))
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/readyz/{check}", get(ready_for))
        .route("/stats", get(stats))
        .layer(from_fn_with_state(shown.clone(), guard))
        .with_state(shown)
}

async fn metrics(State(shown): State<Arc<Shown>>) -> Response {
    ([(CONTENT_TYPE, TEXT_FORMAT)], shown.page()).into_response()
}

async fn stats(State(shown): State<Arc<Shown>>) -> Response {
    Json((shown.pages.stats)()).into_response()
}

async fn alive(State(shown): State<Arc<Shown>>, RawQuery(query): RawQuery) -> Response {
    answer(shown.pages.health.liveness(shown.pages.clock.now()), query.as_deref())
}

async fn ready(State(shown): State<Arc<Shown>>, RawQuery(query): RawQuery) -> Response {
    answer(shown.pages.health.readiness(shown.pages.clock.now()), query.as_deref())
}

async fn ready_for(
    State(shown): State<Arc<Shown>>,
    Path(check): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    match Check::from_word(&check) {
        Some(check) => answer(shown.pages.health.only(check, shown.pages.clock.now()), query.as_deref()),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// `ok`, or a line a check when it failed or `?verbose` asks; `?exclude=name` skips a check.
fn answer(report: Report, query: Option<&str>) -> Response {
    let pairs = query.unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let excluded: Vec<&str> =
        pairs.clone().filter_map(|(key, name)| (key == "exclude").then_some(name)).collect();
    let verbose = pairs.clone().any(|(key, _)| key == "verbose");
    let report = report.without(&excluded);
    match (report.passed(), verbose) {
        (true, false) => "ok".into_response(),
        (true, true) => report.verbose().into_response(),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, report.verbose()).into_response(),
    }
}

/// Turns away what no client of these pages needs, counts what was turned away, forbids caching.
async fn guard(State(shown): State<Arc<Shown>>, request: Request, next: Next) -> Response {
    let mut response = if is_malformed(&request) {
        (StatusCode::BAD_REQUEST, [(CONNECTION, "close")]).into_response()
    } else {
        next.run(request).await
    };
    let rejected = match response.status() {
        StatusCode::BAD_REQUEST => Some(HttpCode::Malformed),
        StatusCode::NOT_FOUND => Some(HttpCode::NotFound),
        StatusCode::METHOD_NOT_ALLOWED => Some(HttpCode::Method),
        _ => None,
    };
    if let Some(code) = rejected {
        shown.pages.metrics.http_rejected(code);
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A body, a doubled header that decides about the message, or a target at another server.
fn is_malformed(request: &Request) -> bool {
    let headers = request.headers();
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    headers.contains_key(TRANSFER_ENCODING)
        || lengths.next().is_some_and(|length| length != "0")
        || lengths.next().is_some()
        || headers.get_all(HOST).iter().nth(1).is_some()
        || request.uri().authority().is_some()
}
