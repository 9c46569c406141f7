//! What a dropped document says: bytes in, an [`Intent`] or a [`Refusal`] out.
//!
//! No I/O, no clock, no logs. A strict layer runs first (encoding, duplicate keys after unescaping,
//! depth, count of values, number spelling), then simd-json parses, then the three document styles
//! (flat, Kubernetes-style, scaling contract) are checked by hand and mapped to one [`Intent`]. For
//! documents that pass the strict layer the hand checks equal `config/schema/intent.schema.json`.
//! On refusal only, the bytes are read again for line and column.
//!
//! A [`Parser`] belongs to one worker: it keeps the parser's buffers and its own copy of the bytes
//! (simd-json writes into what it parses) and gives back what grew past 256 KiB.

mod check;
mod compact;
mod contract;
mod fault;
mod flat;
mod formats;
mod keys;
mod kubernetes;
mod locate;
mod schema;
mod strict;
#[cfg(test)]
mod tests;
mod token;
mod verdict;

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use simd_json::tape::{Node, Object, Tape};

use crate::clock::Wall;
use crate::fate::Reason;
use check::{At, Checker, Draft};
use fault::Fault;
use strict::{Passed, Scanner};

pub use fault::visible;
pub use schema::UserSchema;

/// The published JSON Schema of all three styles, `config/schema/intent.schema.json`.
pub const SCHEMA: &str = include_str!("../config/schema/intent.schema.json");

/// Counts that flat and Kubernetes-style intents may ask for.
const REPLICAS: RangeInclusive<i64> = 1..=100;
/// The priority of an intent that gives none.
const PRIORITY: u8 = 5;
/// Buffers larger than this are given back after each document.
const KEEP: usize = 256 << 10;

/// What the intent wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IntentType {
    /// Set a replica count.
    Scaling,
    /// Roll a workload out.
    Deployment,
    /// Change configuration.
    Configuration,
    /// Change a service.
    Service,
}

impl IntentType {
    /// As spelled in flat documents and by `validate --json`.
    pub const fn as_str(self) -> &'static str {
        match self {
            IntentType::Scaling => "scaling",
            IntentType::Deployment => "deployment",
            IntentType::Configuration => "configuration",
            IntentType::Service => "service",
        }
    }

    /// True for the types whose replica count has an effect.
    pub const fn scales(self) -> bool {
        matches!(self, IntentType::Scaling | IntentType::Deployment)
    }
}

/// What kind of object the target is; `Configuration` and `Service` stand for intents of that type
/// whose target names no workload kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TargetKind {
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` StatefulSet.
    Statefulset,
    /// `apps/v1` DaemonSet.
    Daemonset,
    /// No workload kind named, intent type `service`.
    Service,
    /// No workload kind named, intent type `configuration`.
    Configuration,
}

impl TargetKind {
    /// As spelled in package names, status files and policy lists.
    pub const fn as_str(self) -> &'static str {
        match self {
            TargetKind::Deployment => "deployment",
            TargetKind::Statefulset => "statefulset",
            TargetKind::Daemonset => "daemonset",
            TargetKind::Service => "service",
            TargetKind::Configuration => "configuration",
        }
    }

    /// The kind spelled `word`.
    pub fn from_word(word: &str) -> Option<Self> {
        use TargetKind::{Configuration, Daemonset, Deployment, Service, Statefulset};
        [Deployment, Statefulset, Daemonset, Service, Configuration]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }

    /// One of the three workload kinds, spelled `word`.
    fn workload(word: &str) -> Option<Self> {
        use TargetKind::{Daemonset, Deployment, Statefulset};
        Self::from_word(word).filter(|kind| matches!(kind, Deployment | Statefulset | Daemonset))
    }

    /// The kind of a target that names none.
    const fn of(intent_type: IntentType) -> Self {
        match intent_type {
            IntentType::Scaling | IntentType::Deployment => TargetKind::Deployment,
            IntentType::Service => TargetKind::Service,
            IntentType::Configuration => TargetKind::Configuration,
        }
    }
}

/// What the intent is about; intents of one target are submitted one at a time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// DNS-1123 label.
    pub namespace: Box<str>,
    /// Kind of the object.
    pub kind: TargetKind,
    /// DNS-1123 label.
    pub name: Box<str>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}-{}", self.namespace, self.kind.as_str(), self.name)
    }
}

/// One accepted document, whatever its style.
#[derive(Debug, Clone, PartialEq)]
pub struct Intent {
    /// What it wants done.
    pub intent_type: IntentType,
    /// What it is about.
    pub target: Target,
    /// The wanted count, if it has a scale effect.
    pub replicas: Option<u32>,
    /// 0 to 10; 5 if not given.
    pub priority: u8,
    /// Never sent after this moment.
    pub valid_until: Option<Wall>,
    /// The parsed document, key by key, in document order: strings as they are, everything else as
    /// compact JSON. This is what sinks write; the raw bytes are never submitted.
    pub fields: Vec<(Box<str>, Box<str>)>,
}

/// One fault of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// JSON pointer, `/replicas`; empty for the whole document.
    pub path: String,
    /// 1-based line, where known.
    pub line: Option<u32>,
    /// 1-based column in characters, where known.
    pub column: Option<u32>,
    /// What is wrong, lower case: `"three" is not an integer`.
    pub message: String,
}

/// Why a document was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The first reason in the contract's order.
    pub reason: Reason,
    /// At most 10 faults.
    pub errors: Vec<FieldError>,
}

impl Refusal {
    /// True when more bytes might make the document whole (empty, or the parser ran into the end):
    /// the writer may not have finished (F06, F12).
    pub fn may_be_unfinished(&self) -> bool {
        matches!(self.reason, Reason::Empty | Reason::TruncatedJson)
    }
}

/// What the site allows and how strict the checks are.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// `intake.max_depth`
    pub max_depth: u32,
    /// `intake.max_values`
    pub max_values: u32,
    /// `intake.unknown_fields = "ignore"`
    pub ignore_unknown: bool,
    /// `policy.namespaces`; empty means all.
    pub namespaces: Vec<String>,
    /// `policy.kinds`; empty means all.
    pub kinds: Vec<TargetKind>,
    /// `policy.max_replicas`
    pub max_replicas: u32,
}

impl Default for Rules {
    /// The limits of the default configuration, and no policy beyond 100 replicas.
    fn default() -> Self {
        Rules {
            max_depth: 32,
            max_values: 20_000,
            ignore_unknown: false,
            namespaces: Vec::new(),
            kinds: Vec::new(),
            max_replicas: 100,
        }
    }
}

/// Turns the bytes of dropped files into intents; one per worker.
pub struct Parser {
    rules: Arc<Rules>,
    schema: Option<Arc<UserSchema>>,
    scanner: Scanner,
    input: Vec<u8>,
    buffers: simd_json::Buffers,
    tape: Tape<'static>,
}

impl Parser {
    /// A parser that holds documents to `rules`.
    pub fn new(rules: Arc<Rules>) -> Self {
        Parser {
            rules,
            schema: None,
            scanner: Scanner::default(),
            input: Vec::new(),
            buffers: simd_json::Buffers::default(),
            tape: Tape(Vec::new()),
        }
    }

    /// A parser that holds documents to `rules` and to a schema of the user's.
    pub fn with_schema(rules: Arc<Rules>, schema: Arc<UserSchema>) -> Self {
        Parser { schema: Some(schema), ..Parser::new(rules) }
    }

    /// Judges one document. Expiry is not judged here: there is no clock.
    ///
    /// # Errors
    /// The first reason in the contract's order, with up to 10 faults of its class and their places.
    pub fn parse(&mut self, raw: &[u8]) -> Result<Intent, Refusal> {
        let outcome = self.judge(raw);
        self.give_back(raw.len());
        outcome.map_err(|faults| fault::refuse(raw, &faults))
    }

    fn judge(&mut self, raw: &[u8]) -> Result<Intent, Vec<Fault>> {
        let passed = self.scanner.scan(raw, &self.rules)?;
        self.copy(raw, &passed);
        let mut tape = std::mem::replace(&mut self.tape, Tape(Vec::new())).reset();
        let parsed = simd_json::fill_tape_padded(&mut self.input, raw.len(), &mut self.buffers, &mut tape);
        let outcome = match parsed {
            Ok(()) => self::judge(raw, &tape, passed, &self.rules, self.schema.as_deref()),
            Err(error) => {
                let text = format!("the parser refuses it at byte {}: {error}", error.index());
                Err(vec![Fault::at(Reason::JsonSyntax, error.index(), text)])
            }
        };
        self.tape = tape.reset();
        outcome
    }

    /// The parser's own copy, padded. A number that it could not hold becomes a fraction: wrong
    /// wherever an integer is wanted, and refused everywhere else by the fault that stands for it.
    fn copy(&mut self, raw: &[u8], passed: &Passed) {
        self.input.clear();
        self.input.reserve(raw.len() + simd_json::INPUT_PADDING);
        self.input.extend_from_slice(raw);
        for number in &passed.unrepresentable {
            let token = &mut self.input[number.clone()];
            token.fill(b' ');
            token[..3].copy_from_slice(b"0.5");
        }
        self.input.resize(raw.len() + simd_json::INPUT_PADDING, 0);
    }

    fn give_back(&mut self, used: usize) {
        if used > KEEP {
            self.input = Vec::new();
            self.buffers = simd_json::Buffers::default();
            self.scanner.give_back(KEEP);
        }
        if self.tape.0.capacity() * size_of::<Node<'_>>() > KEEP {
            self.tape = Tape(Vec::new());
        }
    }
}

impl fmt::Debug for Parser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parser")
            .field("rules", &self.rules)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

/// Chooses the style, checks it, asks the user's schema and the site's policy.
fn judge(
    raw: &[u8],
    tape: &Tape<'_>,
    passed: Passed,
    rules: &Rules,
    schema: Option<&UserSchema>,
) -> Result<Intent, Vec<Fault>> {
    let mut checker = Checker::new(raw, passed.minus_zero);
    let Some(root) = tape.as_value().as_object() else {
        checker.wrong(&At::Root, "is not an object");
        return Err(checker.faults);
    };
    let mut ignored = false;
    let draft = if kubernetes::is_style(&root) {
        kubernetes::check(&mut checker, &root)
    } else if contract::is_style(&root) {
        contract::check(&mut checker, &root)
    } else {
        ignored = rules.ignore_unknown;
        flat::check(&mut checker, &root, ignored)
    };
    checker.faults.extend(passed.faults);
    if let Some(schema) = schema {
        schema.check(raw, &mut checker.faults);
    }
    if let Some(draft) = &draft {
        obey(&mut checker, draft, rules);
    }
    match draft {
        Some(draft) if checker.faults.is_empty() => Ok(intent(&draft, &root, ignored)),
        _ => Err(checker.faults),
    }
}

/// The site's policy.
fn obey(checker: &mut Checker<'_>, draft: &Draft<'_>, rules: &Rules) {
    let Draft { namespace, kind, replicas, places, .. } = draft;
    if !rules.namespaces.is_empty() && !rules.namespaces.iter().any(|allowed| allowed == namespace) {
        checker.policy(places.namespace, format!("\"{namespace}\" is not allowed here (policy.namespaces)"));
    }
    if !rules.kinds.is_empty() && !rules.kinds.contains(kind) {
        checker.policy(places.kind, format!("\"{}\" is not allowed here (policy.kinds)", kind.as_str()));
    }
    if let Some(count) = replicas.filter(|&count| count > rules.max_replicas) {
        let most = rules.max_replicas;
        checker.policy(places.replicas, format!("{count} is above {most} (policy.max_replicas)"));
    }
}

fn intent(draft: &Draft<'_>, root: &Object<'_, '_>, drop_unknown: bool) -> Intent {
    let mut fields = Vec::with_capacity(root.len());
    for (key, value) in root.iter() {
        if !drop_unknown || flat::FIELDS.contains(&key) {
            fields.push((Box::from(key), compact::text(value)));
        }
    }
    Intent {
        intent_type: draft.intent_type,
        target: draft.target(),
        replicas: draft.replicas.filter(|_| draft.intent_type.scales()),
        priority: draft.priority,
        valid_until: draft.valid_until,
        fields,
    }
}
