//! One request and its answer, or why there is none.
//!
//! Nothing is sent twice, no redirect is followed, and an answer is read piece by piece up to a limit: 1 MiB,
//! 8 MiB for files. One deadline holds for all of it, so an answer of one byte a second ends as one that
//! never came. What happened on the wire decides what may have happened on the server: without a connection
//! nothing, after it everything.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, DATE, LOCATION, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use kube::Config;
use kube::client::{AuthError, Body};
use serde_json::Value;

use super::super::api::{Class, Fault};
use super::super::wire::Told;
use super::super::{classify, wire};
use super::access::{CONNECT, refused};
use crate::clock::Wall;
use crate::observe::push_escaped;

/// Bytes of a message that are kept.
const MESSAGE: usize = 4 << 10;
/// Largest answer in bytes.
pub(in crate::submit) const OBJECT: usize = 1 << 20;
/// Largest answer with the files of a package.
pub(in crate::submit) const FILES: usize = 8 << 20;

const AGENT: &str = concat!("conductor-loop/", env!("CARGO_PKG_VERSION"));
/// Merges what it holds into the object; `null` removes.
pub(super) const MERGE: &str = "application/merge-patch+json";
pub(in crate::submit) const JSON: &str = "application/json";

/// What a request is for; timed one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Which version the cluster's server is.
    Version,
    /// Whether we have a right.
    Review,
    /// Whether a namespace is there.
    Namespace,
    /// Which versions the server has.
    Discover,
    /// Reads the Repository object.
    Repository,
    /// Lists the revisions of a package.
    List,
    /// Reads a revision.
    Read,
    /// Reads files.
    Files,
    /// Makes a draft.
    Create,
    /// Writes files.
    Put,
    /// Marks a draft.
    Annotate,
    /// Between draft and proposed.
    Propose,
    /// To published, or towards deletion.
    Approve,
    /// Deletes.
    Delete,
}

impl Step {
    /// One word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Step::Version => "version",
            Step::Review => "review",
            Step::Namespace => "namespace",
            Step::Discover => "discover",
            Step::Repository => "repository",
            Step::List => "list",
            Step::Read => "read",
            Step::Files => "files",
            Step::Create => "create",
            Step::Put => "put",
            Step::Annotate => "annotate",
            Step::Propose => "propose",
            Step::Approve => "approve",
            Step::Delete => "delete",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A request.
#[derive(Debug)]
pub(in crate::submit) struct Ask<'a> {
    pub(in crate::submit) step: Step,
    /// Which object, for messages.
    pub(in crate::submit) about: &'a str,
    pub(in crate::submit) method: Method,
    /// With its query, from the root of the server.
    pub(in crate::submit) path: String,
    /// Its form and its content.
    pub(in crate::submit) body: Option<(&'static str, Value)>,
    /// Largest answer in bytes.
    pub(in crate::submit) limit: usize,
}

/// An answer that is no error.
pub(in crate::submit) struct Heard {
    pub(in crate::submit) body: Vec<u8>,
    /// The clock of whoever answered, in seconds since 1970.
    pub(in crate::submit) date: Option<i64>,
}

/// A server, with a credential for it.
pub(in crate::submit) struct Server {
    client: kube::Client,
    /// For messages.
    place: String,
}

impl Server {
    /// Sets up TLS and credential; connects to nobody.
    pub(in crate::submit) fn new(config: Config) -> Result<Server, Fault> {
        let authority = config.cluster_url.authority();
        let host = authority.map(|authority| match authority.port_u16() {
            Some(port) => format!("{}:{port}", authority.host()),
            None => authority.host().to_owned(),
        });
        let place = host.unwrap_or_default();
        let client = kube::Client::try_from(config).map_err(|err| {
            refused(Class::Auth, format!("the credential for {place}: {}", escaped(&err.to_string())))
        })?;
        Ok(Server { client, place })
    }

    /// Sends `ask` and reads the whole answer within `limit`; `now` is for delays that are given as a date.
    pub(in crate::submit) async fn ask(
        &self,
        ask: &Ask<'_>,
        limit: Duration,
        now: Wall,
    ) -> Result<Vec<u8>, Fault> {
        self.hear(ask, limit, now).await.map(|heard| heard.body)
    }

    /// As [`Self::ask`], with what the head of the answer says.
    pub(in crate::submit) async fn hear(
        &self,
        ask: &Ask<'_>,
        limit: Duration,
        now: Wall,
    ) -> Result<Heard, Fault> {
        match tokio::time::timeout(limit, self.exchange(ask, now)).await {
            Ok(answer) => answer,
            Err(_) => {
                let message = format!("no whole answer within {} s", limit.as_secs_f32());
                Err(self.fault(ask, Class::TimedOut, 0, &message))
            }
        }
    }

    /// `host:port`.
    pub(in crate::submit) fn place(&self) -> &str {
        &self.place
    }

    async fn exchange(&self, ask: &Ask<'_>, now: Wall) -> Result<Heard, Fault> {
        let request = ask.request().map_err(|err| self.fault(ask, Class::Content, 0, &err.to_string()))?;
        let sent = self.client.send(request).await;
        let answer = sent.map_err(|err| self.fault(ask, class_of(&err), 0, &told(&err)))?;
        let (head, mut body) = answer.into_parts();
        let code = head.status.as_u16();
        if head.status.is_redirection() {
            let to = head.headers.get(LOCATION).map(|to| String::from_utf8_lossy(to.as_bytes()).into_owned());
            let message = format!("a redirect to {}, not followed", to.unwrap_or_default());
            return Err(self.fault(ask, Class::Redirected, code, &message));
        }
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|err| self.fault(ask, class_of(&err), 0, &told(&err)))?;
            let data = frame.into_data().unwrap_or_default();
            if bytes.len() + data.len() > ask.limit {
                let message = format!("an answer of more than {} bytes", ask.limit);
                return Err(self.fault(ask, Class::Protocol, code, &message));
            }
            bytes.extend_from_slice(&data);
        }
        match head.status.is_success() {
            true => Ok(Heard { body: bytes, date: date(&head.headers) }),
            false => Err(self.refusal(ask, head.status, &head.headers, &bytes, now)),
        }
    }

    /// An error answer.
    fn refusal(
        &self,
        ask: &Ask<'_>,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        now: Wall,
    ) -> Fault {
        let Told { message, retry_after, is_status } = wire::Status::read(body);
        let header =
            headers.get(RETRY_AFTER).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let asked = [header, retry_after.map(|seconds| seconds.to_string())];
        let waits = asked.iter().any(Option::is_some);
        let class = match classify::class(status.as_u16(), &message, waits) {
            // Somebody on the way does not judge an intent, but for its size.
            Class::Content if !is_status && status != StatusCode::PAYLOAD_TOO_LARGE => Class::Protocol,
            class => class,
        };
        let told = if message.trim().is_empty() { status.to_string() } else { message };
        let seconds = now.0.div_euclid(1_000_000_000);
        let after = asked.iter().flatten().find_map(|text| classify::after(text, seconds));
        Fault { after, ..self.fault(ask, class, status.as_u16(), &told) }
    }

    fn fault(&self, ask: &Ask<'_>, class: Class, code: u16, message: &str) -> Fault {
        let http = if code == 0 { String::new() } else { format!(" (HTTP {code})") };
        let Ask { step, about, .. } = ask;
        let message = format!("{step} {about} at {}: {}{http}", self.place, escaped(message));
        Fault { class, code, message, after: None }
    }

    /// An answer that came whole and is not what was asked for.
    pub(in crate::submit) fn unfit(&self, ask: &Ask<'_>, message: &str) -> Fault {
        self.fault(ask, Class::Protocol, 200, message)
    }
}

impl Ask<'_> {
    fn request(&self) -> Result<Request<Body>, http::Error> {
        let request = Request::builder()
            .method(self.method.clone())
            .uri(&self.path)
            .header(ACCEPT, JSON)
            .header(USER_AGENT, AGENT);
        match &self.body {
            None => request.body(Body::empty()),
            Some((form, content)) => {
                request.header(CONTENT_TYPE, *form).body(Body::from(content.to_string().into_bytes()))
            }
        }
    }
}

fn date(headers: &HeaderMap) -> Option<i64> {
    let date = jiff::fmt::rfc2822::parse(headers.get(DATE)?.to_str().ok()?).ok()?;
    Some(date.timestamp().as_second())
}

/// What a failure on the wire means: TLS, nobody there (nothing was done), or unknown.
fn class_of(err: &(dyn Error + 'static)) -> Class {
    let mut connecting = false;
    for cause in causes(err) {
        if cause.is::<rustls::Error>() {
            return Class::Tls;
        }
        if cause.is::<AuthError>() {
            return Class::Auth;
        }
        let client = cause.downcast_ref::<hyper_util::client::legacy::Error>();
        connecting |= client.is_some_and(hyper_util::client::legacy::Error::is_connect);
    }
    if connecting { Class::Unavailable } else { Class::Unknown }
}

/// The error and what it stands on; an [`io::Error`] hides what it carries.
fn causes<'e>(err: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(err), |err| below(*err))
}

fn below<'e>(err: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    match err.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner as &(dyn Error + 'static)),
        None => err.source(),
    }
}

/// The innermost cause says most; those around it repeat each other.
fn told(err: &(dyn Error + 'static)) -> String {
    let last = causes(err).last().unwrap_or(err);
    match last.is::<tokio::time::error::Elapsed>() {
        true => format!("no connection within {} s", CONNECT.as_secs()),
        false => last.to_string(),
    }
}

/// Printable, at most 4 KiB.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    push_escaped(&mut out, &text[..text.floor_char_boundary(MESSAGE)]);
    out.truncate(out.floor_char_boundary(MESSAGE));
    out
}
