//! What each path answers (`contract.md` 6).

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::Mutex;

use crate::clock::{Clock, Mono};
use crate::observe::health::Report;
use crate::observe::{Check, Health, Metrics};

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
            _ => {
                self.pages.metrics.readiness(&self.pages.health.readiness(now));
                rendered.insert((now, Bytes::from(self.pages.metrics.render()))).1.clone()
            }
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
        .with_state(shown)
}

async fn metrics(State(shown): State<Arc<Shown>>) -> Response {
    ([(CONTENT_TYPE, TEXT_FORMAT)], shown.page()).into_response()
}

async fn stats(State(shown): State<Arc<Shown>>) -> Response {
    Json((shown.pages.stats)()).into_response()
}

async fn alive(State(shown): State<Arc<Shown>>, query: RawQuery, headers: HeaderMap) -> Response {
    answer(shown.pages.health.liveness(shown.pages.clock.now()), &query, &headers)
}

async fn ready(State(shown): State<Arc<Shown>>, query: RawQuery, headers: HeaderMap) -> Response {
    answer(shown.pages.health.readiness(shown.pages.clock.now()), &query, &headers)
}

async fn ready_for(
    State(shown): State<Arc<Shown>>,
    Path(check): Path<String>,
    query: RawQuery,
    headers: HeaderMap,
) -> Response {
    match Check::from_word(&check) {
        Some(check) => answer(shown.pages.health.only(check, shown.pages.clock.now()), &query, &headers),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// `ok`, or a line a check when it failed or `?verbose` asks; `?exclude=name` skips a check. All checks as
/// one document for who accepts `application/json`.
fn answer(report: Report, RawQuery(query): &RawQuery, headers: &HeaderMap) -> Response {
    let query = query.as_deref().unwrap_or_default();
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let excluded: Vec<&str> =
        pairs.clone().filter_map(|(key, name)| (key == "exclude").then_some(name)).collect();
    let verbose = pairs.clone().any(|(key, _)| key == "verbose");
    let report = report.without(&excluded);
    let status = if report.passed() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if wants_json(headers) {
        (status, Json(report.json())).into_response()
    } else if report.passed() && !verbose {
        "ok".into_response()
    } else {
        (status, report.verbose()).into_response()
    }
}

fn wants_json(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types = accepted.flat_map(|value| value.split(',')).map(|range| range.split(';').next());
    types.any(|name| name.is_some_and(|name| name.trim().eq_ignore_ascii_case("application/json")))
}
