//! What was recorded of a real server, sent to the fake one: code, reason, message and body must be the same.
//!
//! Most recordings begin in the middle of something. What an exchange needs to find is made first: the object
//! of its path in the stage that the exchange starts from ([`START`], or what its verb and answer say), with
//! the metadata and files that the recorded answer shows. Versions of the recording are exchanged for those of
//! the fake; one that was never answered is the present one, or a stale one where the answer says so.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Duration;

use conductor_loop::fake_porch::{FakePorch, Fault, Options, Rule, Stage, Tls, Which};
use serde_json::{Value, json};

use super::same::Verdict;
use super::scenes;
use super::wire::{Answer, BASE, Wire};
use crate::support::until;

/// Where an exchange starts, where its verb and answer do not say so: step and stage.
const START: [(&str, Stage); 9] = [
    ("approve-from-draft", Stage::Draft),
    ("publish-on-main-resource-from-proposed", Stage::Proposed),
    ("reject-via-main", Stage::Proposed),
    ("propose-again", Stage::Proposed),
    ("put-resources-in-Proposed", Stage::Proposed),
    ("put-resources-in-Published", Stage::Published),
    ("put-resources-in-DeletionProposed", Stage::DeletionProposed),
    ("approve-published", Stage::Published),
    ("delete-published-no-webhook", Stage::Published),
];

/// Requests that were turned away because another one was under way, and that other one, in the same file.
const BUSY: [(&str, &str); 7] = [
    ("concurrent-create-1", "concurrent-create-2"),
    ("concurrent-put-1", "concurrent-put-2"),
    ("concurrent-propose-2", "concurrent-propose-1"),
    ("concurrent-approve-2", "concurrent-approve-1"),
    ("concurrent-delete-1", "concurrent-delete-2"),
    ("propose-while-put", "put-while-propose"),
    ("concurrent-create-other-ws-1", "concurrent-create-other-ws-2"),
];

/// How long the other one would take, if it was not released.
const HOLD: Duration = Duration::from_mins(1);

/// One line of a recording.
struct Exchange {
    step: String,
    method: String,
    path: String,
    headers: String,
    request: Value,
    status: u16,
    response: Value,
}

impl Exchange {
    fn read(line: &str) -> Exchange {
        let value: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let mut headers = String::new();
        for (key, name) in [("type", "Content-Type"), ("accept", "Accept")] {
            if !text(key).is_empty() {
                headers.push_str(&format!("{name}: {}\r\n", text(key)));
            }
        }
        if text("type").is_empty() && !value["request"].is_null() {
            headers.push_str("Content-Type: application/json\r\n");
        }
        Exchange {
            step: text("step"),
            method: text("method"),
            path: text("path"),
            headers,
            request: value["request"].clone(),
            status: u16::try_from(value["status"].as_u64().unwrap()).unwrap(),
            response: value["response"].clone(),
        }
    }

    /// The object of its path, or that a create makes.
    fn object(&self) -> Option<String> {
        let tail = self.path.split("/namespaces/default/").nth(1)?.split('?').next()?;
        let mut parts = tail.split('/');
        let kind = parts.next()?;
        parts.next().filter(|_| kind.starts_with("packagerevision")).map(str::to_owned)
    }

    /// What a new draft starts from.
    fn sources(&self) -> Vec<&str> {
        ["/spec/tasks/0/edit/sourceRef/name", "/spec/tasks/0/clone/upstreamRef/upstreamRef/name"]
            .iter()
            .filter_map(|pointer| self.request.pointer(pointer)?.as_str())
            .collect()
    }

    fn wanted(&self) -> &str {
        self.request["spec"]["lifecycle"].as_str().unwrap_or_default()
    }

    fn message(&self) -> &str {
        self.response["message"].as_str().unwrap_or_default()
    }

    /// The stage in which its object has to be before it.
    fn start(&self) -> Stage {
        if let Some((_, stage)) = START.iter().find(|(step, _)| *step == self.step) {
            return *stage;
        }
        let shown = self.response["spec"]["lifecycle"].as_str();
        let approval = self.path.ends_with("/approval");
        let stage = match (self.method.as_str(), self.wanted()) {
            ("GET" | "DELETE", _) => shown.unwrap_or("Draft"),
            (_, "Published") if approval => "Proposed",
            (_, "Draft") if approval => "Proposed",
            (_, "Proposed") => "Draft",
            (_, "DeletionProposed") => "Published",
            (_, "Published") => "DeletionProposed",
            (_, "") => shown.unwrap_or("Draft"),
            _ => "Draft",
        };
        let all = [Stage::Draft, Stage::Proposed, Stage::Published, Stage::DeletionProposed];
        all.into_iter().find(|one| one.to_string() == stage).unwrap()
    }
}

/// One recording against one server.
struct Replay {
    porch: FakePorch,
    wire: Wire,
    /// Versions of the recording, and what they are here.
    versions: BTreeMap<String, String>,
    urls: BTreeMap<String, String>,
    /// The answer to the request that another one met, by its step.
    met: Option<(String, Answer)>,
    /// The last body that was sent.
    last: String,
}

impl Replay {
    fn new(exchanges: &[Exchange]) -> Replay {
        let porch = FakePorch::start(Options { tls: Tls::Off, ..Options::default() }).unwrap();
        porch.add_namespace("oran-odu");
        let wire = Wire::new(porch.address());
        let mut urls = BTreeMap::new();
        for exchange in exchanges {
            let answer = &exchange.response;
            let url = answer.pointer("/status/selfLock/git/repo").and_then(Value::as_str);
            if let (Some(url), Some(name)) = (url, answer["spec"]["repository"].as_str()) {
                urls.insert(name.to_owned(), url.to_owned());
            }
        }
        Replay { porch, wire, versions: BTreeMap::new(), urls, met: None, last: String::new() }
    }

    /// Registers every repository that the exchange names.
    fn repositories(&mut self, exchange: &Exchange) {
        let object = exchange.object();
        let named = exchange.request["spec"]["repository"].as_str();
        for name in exchange.sources().into_iter().chain(object.as_deref()).chain(named) {
            self.repository(name.split('.').next().unwrap());
        }
    }

    /// Makes what the exchange needs to find.
    fn prepare(&mut self, exchange: &Exchange) {
        for name in exchange.sources() {
            let stage = if exchange.message().contains("must be published") {
                Stage::Draft
            } else {
                Stage::Published
            };
            if self.porch.object(name).is_none() && !name.ends_with(".main") && !name.contains("nope") {
                self.porch.put_foreign(name, stage, &[]);
            }
        }
        let killed = exchange.step.starts_with("kill9");
        let unreadable = exchange.method == "GET" && exchange.status >= 400;
        let found = !unreadable && exchange.status != 404 && (exchange.status != 0 || killed);
        if let Some(name) = exchange.object().filter(|_| found) {
            self.object(exchange, &name);
        }
    }

    fn repository(&mut self, name: &str) {
        let bare = format!("http://127.0.0.1:9446/{name}");
        if name != "nope" && name != "nodots" {
            let known = self
                .wire
                .get(&format!("/apis/config.porch.kpt.dev/v1alpha1/namespaces/default/repositories/{name}"));
            if known.code == 404 {
                self.porch.add_repository(name, "default", self.urls.get(name).unwrap_or(&bare));
            }
        }
    }

    fn object(&mut self, exchange: &Exchange, name: &str) {
        let stage = exchange.start();
        let now = self.porch.object(name);
        let shown = now.as_ref().and_then(|object| object["spec"]["lifecycle"].as_str().map(str::to_owned));
        let explicit = START.iter().any(|(step, _)| *step == exchange.step);
        if shown.as_deref() == Some(&stage.to_string()) || shown.is_some() && !explicit || !name.contains('.')
        {
            return;
        }
        let shown = &exchange.response["spec"]["resources"];
        let files = shown.as_object().filter(|_| exchange.method == "GET").cloned().unwrap_or_default();
        let files: Vec<(&str, &str)> =
            files.iter().map(|(path, text)| (path.as_str(), text.as_str().unwrap())).collect();
        self.porch.delete(name);
        self.porch.put_foreign(name, stage, &files);
        let metadata = &exchange.response["metadata"];
        let patch =
            json!({"metadata": {"labels": metadata["labels"], "annotations": metadata["annotations"]}});
        if exchange.method == "GET" {
            let path = format!("{BASE}/packagerevisions/{name}");
            self.wire.json("PATCH", &path, &patch);
        }
        let package =
            exchange.response.pointer("/spec/packageMetadata/annotations").and_then(Value::as_object);
        let package: Vec<(&str, &str)> = package
            .into_iter()
            .flatten()
            .filter(|(key, _)| !key.starts_with("config."))
            .map(|(key, value)| (key.as_str(), value.as_str().unwrap()))
            .collect();
        self.porch.annotate(name, &package);
    }

    /// Its body, with the versions of this server.
    fn body(&self, exchange: &Exchange) -> String {
        let mut request = exchange.request.clone();
        if let Some(Value::String(version)) = request.pointer_mut("/metadata/resourceVersion") {
            let stale =
                exchange.message().contains("object has been modified") || exchange.step.contains("stale");
            let now = exchange.object().and_then(|name| self.porch.object(&name));
            let now =
                now.and_then(|object| object["metadata"]["resourceVersion"].as_str().map(str::to_owned));
            if let (Some(now), false) = (now, stale) {
                *version = self.versions.get(version).filter(|known| **known == now).cloned().unwrap_or(now);
            }
        }
        match &request {
            // A repetition was recorded without its body.
            Value::Null if exchange.method == "POST" => self.last.clone(),
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other if exchange.status == 413 => other.to_string().replace("<6.1 MiB>", &"x".repeat(6_400_000)),
            other => other.to_string(),
        }
    }

    fn send(&mut self, exchange: &Exchange) -> Answer {
        let path = exchange.path.replace(' ', "%20");
        if exchange.step.starts_with("anomaly") {
            let name = exchange.object().unwrap();
            return scenes::anomaly(
                &self.porch,
                &mut self.wire,
                &name,
                &exchange.method,
                &path,
                exchange.status,
            );
        }
        self.last = self.body(exchange);
        self.wire.send(&exchange.method, &path, &exchange.headers, &self.last)
    }

    /// Sends `other` on a connection of its own and waits until it is under way; its answer is kept for its
    /// own exchange.
    fn meet(&mut self, exchange: &Exchange, other: &Exchange) -> Answer {
        self.prepare(other);
        self.porch.inject(Rule::once(Which::Any, Fault::Hold(HOLD)));
        let mut wire = Wire::new(self.porch.address());
        let body = self.body(other);
        let (method, path, headers) = (other.method.clone(), other.path.clone(), other.headers.clone());
        let first = thread::spawn(move || wire.send(&method, &path, &headers, &body));
        until("the other request", || (self.porch.under_way() == 1).then_some(()));
        let answer = self.send(exchange);
        self.porch.release();
        self.met = Some((other.step.clone(), first.join().unwrap()));
        answer
    }

    /// The answer to one exchange.
    fn play(&mut self, exchange: &Exchange, all: &[Exchange]) -> Answer {
        self.repositories(exchange);
        scenes::arrange(&self.porch, &mut self.wire, &exchange.step);
        self.prepare(exchange);
        let busy = BUSY.iter().find(|(step, _)| *step == exchange.step);
        let other = busy.and_then(|(_, other)| all.iter().find(|one| one.step == *other));
        let answer = match (other, self.met.take_if(|(step, _)| *step == exchange.step)) {
            (Some(other), _) => self.meet(exchange, other),
            (None, Some((_, answer))) => answer,
            (None, None) => self.send(exchange),
        };
        let recorded = exchange.response.pointer("/metadata/resourceVersion").and_then(Value::as_str);
        if let Some(recorded) = recorded {
            self.versions.insert(recorded.to_owned(), answer.version());
        }
        answer
    }
}

/// Every recording, and the number of its exchanges that are compared.
const RECORDINGS: [(&str, usize); 17] = [
    ("01-lifecycle", 26),
    ("02-stale-and-missing-resourceversion", 14),
    ("03-duplicate-create", 19),
    ("04-concurrent-writes", 17),
    ("05-package-content", 30),
    ("06-functions", 9),
    ("07-lifecycle-rules", 42),
    ("08-validation-and-limits", 50),
    ("09-list-and-selectors", 32),
    ("11-repository-and-git-failures", 40),
    ("12-crash-and-resume", 24),
    ("13-client-disconnect", 5),
    ("14-concurrency-anomalies", 16),
    ("15-not-ready-after-start", 1),
    ("16-behind-the-aggregator", 7),
    ("17-clone-and-upgrade", 12),
    ("18-git-credentials", 16),
];

/// Exchanges that differ in what `deviations.rs` gives a reason for.
const DEVIATING: usize = 30;

#[test]
fn the_fake_answers_as_the_real_server_was_recorded_to() {
    let mut verdict = Verdict::default();
    for (recording, expected) in RECORDINGS {
        let text = fs::read_to_string(format!("tests/cases/porch/{recording}.jsonl")).unwrap();
        let exchanges: Vec<Exchange> = text.lines().map(Exchange::read).collect();
        let mut replay = Replay::new(&exchanges);
        let before = verdict.compared;
        for exchange in &exchanges {
            let answer = replay.play(exchange, &exchanges);
            verdict.compare(&exchange.step, exchange.status, &exchange.response, &answer);
        }
        let compared = verdict.compared - before;
        if compared != expected {
            verdict.faults.push(format!("{recording}: {compared} exchanges compared, not {expected}"));
        }
    }
    verdict.finish();
    let Verdict { compared, deviating, faults, .. } = verdict;
    assert!(faults.is_empty(), "{} faults in {compared} exchanges\n{}", faults.len(), faults.join("\n"));
    assert_eq!(deviating, DEVIATING, "of {compared} exchanges deviate");
}
