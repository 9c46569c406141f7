//! Field and label selectors.

use serde_json::Value;

use super::reply::{self, Outcome};
use super::store::git::Stage;
use super::view::Shown;

/// What a list is filtered by.
#[derive(Debug, Default)]
pub(super) struct Selection {
    fields: Vec<(String, String)>,
    labels: Vec<Label>,
}

#[derive(Debug)]
enum Label {
    Is(String, Vec<String>),
    Not(String, Vec<String>),
    Present(String),
    Absent(String),
}

const FIELDS: [&str; 7] = [
    "metadata.name",
    "metadata.namespace",
    "spec.revision",
    "spec.packageName",
    "spec.repository",
    "spec.workspaceName",
    "spec.lifecycle",
];

impl Selection {
    /// Reads both selectors of a request for `namespace`.
    pub(super) fn parse(fields: &str, labels: &str, namespace: &str) -> Outcome<Selection> {
        let mut selection = Selection { fields: Vec::new(), labels: label_terms(labels) };
        for term in fields.split(',').filter(|term| !term.is_empty()) {
            let (field, operator, value) = split(term);
            let known = FIELDS.contains(&field) || field.starts_with("spec.packageMetadata.labels[");
            if !known {
                return Err(reply::bad_request(&format!("\"{field}\" is not a known field selector")));
            }
            if operator == "!=" {
                let why = format!("unsupported fieldSelector operator \"!=\" for field \"{field}\"");
                return Err(reply::bad_request(&why));
            }
            if value.is_empty() {
                let why = format!(
                    "unsupported fieldSelector value \"\" for field \"{field}\" with operator \"{operator}\""
                );
                return Err(reply::bad_request(&why));
            }
            if field == "spec.lifecycle" && Stage::parse(value).is_none() {
                let why = format!("unsupported fieldSelector value \"{value}\" for field \"{field}\"");
                return Err(reply::bad_request(&why));
            }
            if field == "metadata.namespace" && value != namespace {
                let why = format!("conflicting namespaces specified: \"{namespace}\" and \"{value}\"");
                return Err(reply::plain(500, &why));
            }
            selection.fields.push((field.to_owned(), value.to_owned()));
        }
        Ok(selection)
    }

    /// The value that a field is asked to have.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn by_label(&self) -> bool {
        !self.labels.is_empty()
    }

    pub(super) fn takes(&self, shown: &Shown<'_>) -> bool {
        self.fields.iter().all(|(field, value)| has_field(shown, field, value)) && self.takes_labels(shown)
    }

    /// Labels that were not read yet count as none.
    fn takes_labels(&self, shown: &Shown<'_>) -> bool {
        if self.labels.is_empty() {
            return true;
        }
        let mut labels = shown.labels();
        if !shown.side.loaded {
            labels.clear();
        }
        let value = |key: &str| labels.get(key).and_then(Value::as_str);
        self.labels.iter().all(|label| match label {
            Label::Is(key, values) => value(key).is_some_and(|value| values.iter().any(|one| one == value)),
            Label::Not(key, values) => value(key).is_none_or(|value| values.iter().all(|one| one != value)),
            Label::Present(key) => value(key).is_some(),
            Label::Absent(key) => value(key).is_none(),
        })
    }
}

fn has_field(shown: &Shown<'_>, field: &str, value: &str) -> bool {
    let revision = shown.revision;
    match field {
        "metadata.name" => shown.name == value,
        "spec.revision" => value.parse() == Ok(revision.number),
        "spec.packageName" => revision.package == value,
        "spec.repository" => shown.repository.name == value,
        "spec.workspaceName" => revision.workspace == value,
        "spec.lifecycle" => revision.stage.to_string() == value,
        "metadata.namespace" => shown.repository.namespace == value,
        _ => {
            let key = field.split_once('[').and_then(|(_, rest)| rest.strip_suffix(']')).unwrap_or_default();
            revision.tree.facts.labels.get(key).and_then(Value::as_str) == Some(value)
        }
    }
}

fn split(term: &str) -> (&str, &str, &str) {
    for operator in ["!=", "==", "="] {
        if let Some((field, value)) = term.split_once(operator) {
            return (field, operator, value);
        }
    }
    (term, "=", "")
}

fn label_terms(text: &str) -> Vec<Label> {
    let mut terms = Vec::new();
    let mut depth = 0;
    for term in text.split(|c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    }) {
        let term = term.trim();
        let set = |rest: &str| {
            rest.trim().trim_matches(['(', ')']).split(',').map(|value| value.trim().to_owned()).collect()
        };
        if term.is_empty() {
        } else if let Some((key, rest)) = term.split_once(" notin ") {
            terms.push(Label::Not(key.trim().to_owned(), set(rest)));
        } else if let Some((key, rest)) = term.split_once(" in ") {
            terms.push(Label::Is(key.trim().to_owned(), set(rest)));
        } else if let Some((key, value)) = term.split_once("!=") {
            terms.push(Label::Not(key.to_owned(), vec![value.to_owned()]));
        } else if term.contains('=') {
            let (key, _, value) = split(term);
            terms.push(Label::Is(key.to_owned(), vec![value.to_owned()]));
        } else if let Some(key) = term.strip_prefix('!') {
            terms.push(Label::Absent(key.to_owned()));
        } else {
            terms.push(Label::Present(term.to_owned()));
        }
    }
    terms
}
