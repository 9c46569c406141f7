//! From bytes to a verdict: strict layer, simd-json, style, the user's schema, policy.
//!
//! simd-json writes into what it parses, so a document is copied into a buffer of the parser's own.
//! All buffers are kept for the next document; those past 256 KiB are given back.

use std::fmt;
use std::sync::Arc;

use simd_json::tape::{Node, Object, Tape, Value};

use super::check::{At, Checker, Draft};
use super::fault::{self, Fault};
use super::strict::{Passed, Scanner};
use super::{Intent, Refusal, Rules, UserSchema, compact, contract, flat, kubernetes};
use crate::fate::Reason;

/// Bytes of a buffer kept for the next document.
pub(super) const KEEP: usize = 256 << 10;

/// Turns the bytes of dropped files into intents; one per worker.
pub struct Parser {
    rules: Arc<Rules>,
    schema: Option<Arc<UserSchema>>,
    scanner: Scanner,
    input: Vec<u8>,
    buffers: simd_json::Buffers,
    tape: Tape<'static>,
    json: String,
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
            json: String::new(),
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
            Ok(()) => {
                let root = tape.as_value();
                let draft = draft(raw, root, passed, &self.rules, self.schema.as_deref());
                draft.map(|draft| intent(&draft, root, &mut self.json))
            }
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

    /// The parser's indexes and the names take up to four bytes a byte of the document.
    fn give_back(&mut self, used: usize) {
        if used > KEEP / 4 {
            self.input = Vec::new();
            self.json = String::new();
            self.buffers = simd_json::Buffers::default();
            self.scanner.give_back(KEEP);
        }
        if self.tape.0.capacity() * size_of::<Node<'_>>() > KEEP {
            self.tape = Tape(Vec::new());
        }
    }
}

#[cfg(test)]
impl Parser {
    /// Bytes of the largest buffer kept.
    pub(super) fn kept(&self) -> usize {
        let tape = self.tape.0.capacity() * size_of::<Node<'_>>();
        self.input.capacity().max(self.json.capacity()).max(tape)
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
fn draft<'i>(
    raw: &[u8],
    root: Value<'_, 'i>,
    passed: Passed,
    rules: &Rules,
    schema: Option<&UserSchema>,
) -> Result<Draft<'i>, Vec<Fault>> {
    let mut checker = Checker::new(raw, passed.minus_zero);
    let draft = match root.as_object() {
        Some(root) if kubernetes::is_style(&root) => kubernetes::check(&mut checker, &root),
        Some(root) if contract::is_style(&root) => contract::check(&mut checker, &root),
        Some(root) => flat::check(&mut checker, &root, rules.ignore_unknown),
        None => {
            checker.wrong(&At::Root, "is not an object");
            None
        }
    };
    checker.faults.extend(passed.faults);
    if let Some(schema) = schema {
        schema.check(raw, &mut checker.faults);
    }
    if let Some(draft) = &draft {
        obey(&mut checker, draft, rules);
    }
    draft.filter(|_| checker.faults.is_empty()).ok_or(checker.faults)
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

fn intent(draft: &Draft<'_>, root: Value<'_, '_>, json: &mut String) -> Intent {
    let members = root.as_object();
    let mut fields = Vec::with_capacity(members.as_ref().map_or(0, Object::len));
    for (key, value) in members.iter().flat_map(Object::iter) {
        if draft.carried.is_none_or(|carried| carried.contains(&key)) {
            fields.push((Box::from(key), compact::text(value, json)));
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
