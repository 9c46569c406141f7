//! An answer as it is on the wire.

use axum::body::to_bytes;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, DATE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};

use super::head::Refusal;
use crate::clock::Wall;
use crate::observe::HttpCode;

/// What is said to a connection that makes room for another one.
pub(super) const CROWDED: Refusal =
    Refusal::new(HttpCode::Crowded, "too many connections; the oldest unfinished one is closed");

impl HttpCode {
    const fn status(self) -> StatusCode {
        match self {
            HttpCode::Malformed => StatusCode::BAD_REQUEST,
            HttpCode::NotFound => StatusCode::NOT_FOUND,
            HttpCode::Method => StatusCode::METHOD_NOT_ALLOWED,
            HttpCode::Slow => StatusCode::REQUEST_TIMEOUT,
            HttpCode::UriTooLong => StatusCode::URI_TOO_LONG,
            HttpCode::HeaderTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            HttpCode::Crowded => StatusCode::SERVICE_UNAVAILABLE,
            HttpCode::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.code.status(), format!("{}\n", self.why)).into_response()
    }
}

/// Status line, headers and body. The router has measured the body and, for HEAD, taken it away.
pub(super) async fn bytes(response: Response, keep: bool, now: Wall) -> Vec<u8> {
    let (mut parts, body) = response.into_parts();
    // Every page is made whole before it is handed over: reading it neither fails nor waits.
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    parts.headers.entry(CONTENT_LENGTH).or_insert(body.len().into());
    parts.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(date) = HeaderValue::try_from(now.http()) {
        parts.headers.insert(DATE, date);
    }
    if !keep {
        parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    wire(parts.status, &parts.headers, &body)
}

fn wire(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + body.len());
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    out
}
