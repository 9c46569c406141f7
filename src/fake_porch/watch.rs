//! Watches: a replay of the list, then every change of the namespace, whatever was selected.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep_until};

use super::list;
use super::reply::{self, Cause, Outcome, PORCH, Reply};
use super::routes::Call;
use super::select::Selection;
use super::state::{Event, Shared};
use super::view::Kind;

/// Between two bookmarks.
const BOOKMARK: Duration = Duration::from_mins(1);

/// How long a watch lasts that names no time.
const LONGEST: Duration = Duration::from_mins(30);

/// A watch under way.
struct Watch {
    lines: VecDeque<Bytes>,
    events: broadcast::Receiver<Arc<Event>>,
    namespace: String,
    kind: Kind,
    bookmarks: bool,
    next_bookmark: Instant,
    ends: Instant,
    /// What bookmarks name.
    version: Value,
}

pub(super) fn open(shared: &Shared, call: &Call, namespace: &str, kind: Kind) -> Outcome {
    let initial = call.parameter("sendInitialEvents") == "true";
    if initial && call.parameter("resourceVersionMatch") != "NotOlderThan" {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        let cause = Cause::forbidden("resourceVersionMatch", why);
        return Err(reply::invalid("ListOptions", "meta.k8s.io", "", &[cause]));
    }
    let selection =
        Selection::parse(call.parameter("fieldSelector"), call.parameter("labelSelector"), namespace)?;
    let events = shared.events.subscribe();
    let items = shared.with(|state| list::select(state, namespace, &selection, kind));
    let seconds = call.parameter("timeoutSeconds").parse().map_or(LONGEST, Duration::from_secs);
    let version = items.last().map_or_else(|| json!(""), |item| item["metadata"]["resourceVersion"].clone());
    let now = Instant::now();
    let mut watch = Watch {
        lines: items.iter().map(|item| line("ADDED", item)).collect(),
        events,
        namespace: namespace.to_owned(),
        kind,
        bookmarks: call.parameter("allowWatchBookmarks") == "true",
        next_bookmark: now + BOOKMARK,
        ends: now + seconds,
        version,
    };
    if watch.bookmarks {
        let end = json!({"k8s.io/initial-events-end": "true"});
        let bookmark = watch.bookmark(Some(&end));
        watch.lines.push_back(bookmark);
    }
    Ok(Reply::stream(Body::from_stream(stream::unfold(watch, Watch::next))))
}

fn line(kind: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({"type": kind, "object": object})))
}

impl Watch {
    /// A bookmark's kind is that of revisions, for either kind.
    fn bookmark(&self, annotations: Option<&Value>) -> Bytes {
        let mut object = json!({"kind": "PackageRevision", "apiVersion": format!("{PORCH}/v1alpha1"),
            "metadata": {"resourceVersion": self.version}, "spec": {}, "status": {"publishTimestamp": null}});
        if let Some(annotations) = annotations {
            object["metadata"]["annotations"] = annotations.clone();
        }
        line("BOOKMARK", &object)
    }

    async fn next(mut self) -> Option<(Result<Bytes, std::io::Error>, Watch)> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some((Ok(line), self));
            }
            tokio::select! {
                () = sleep_until(self.ends) => return None,
                () = sleep_until(self.next_bookmark), if self.bookmarks => {
                    self.next_bookmark += BOOKMARK;
                    let bookmark = self.bookmark(None);
                    self.lines.push_back(bookmark);
                }
                event = self.events.recv() => match event {
                    Ok(event) => self.hear(&event),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
            }
        }
    }

    fn hear(&mut self, event: &Event) {
        if event.namespace == self.namespace && event.resource == self.kind.resource() {
            self.version = event.object["metadata"]["resourceVersion"].clone();
            self.lines.push_back(line(event.kind, &event.object));
        }
    }
}
