//! What the server validates: names, labels, and every transition of the lifecycle.

use serde_json::{Map, Value};

use super::reply::{self, Cause, Outcome, PORCH, Refusal};
use super::store::git::Stage;
use super::view::LATEST;

/// Most bytes of all annotations of an object.
const ANNOTATIONS: usize = 256 << 10;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
                     start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for \
                     validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

/// A package or workspace name; `slashes` are allowed in packages.
fn name_fault(text: &str, slashes: bool) -> Option<String> {
    let bare = if slashes { text.replace('/', "") } else { text.to_owned() };
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.contains('.') {
        Some("must not contain dots".to_owned())
    } else if text.contains("//") {
        Some("consecutive '/' characters are not allowed".to_owned())
    } else if bare.len() > 63 {
        Some("must be no more than 63 characters".to_owned())
    } else if !ends(bare.chars().next()) || !ends(bare.chars().last()) || !bare.chars().all(inside) {
        Some(LABEL.to_owned())
    } else {
        None
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn refused(name: &str, causes: &[Cause]) -> Outcome<()> {
    if causes.is_empty() { Ok(()) } else { Err(reply::invalid("PackageRevision", PORCH, name, causes)) }
}

/// What a new draft may say.
pub(super) fn create(
    package: &str,
    workspace: &str,
    lifecycle: &str,
    labels: &Map<String, Value>,
) -> Outcome<()> {
    let mut causes = Vec::new();
    if !lifecycle.is_empty() && lifecycle != "Draft" {
        causes.push(Cause::value("spec.lifecycle", &quoted(lifecycle), "value can be only created as Draft"));
    }
    if labels.contains_key(LATEST) {
        let field = format!("metadata.labels.{LATEST}");
        causes.push(Cause::forbidden(&field, "label is managed by porch and cannot be set by users"));
    }
    for (field, text, slashes) in
        [("spec.packageName", package, true), ("spec.workspaceName", workspace, false)]
    {
        if let Some(why) = name_fault(text, slashes) {
            causes.push(Cause::value(field, &quoted(text), &why));
        }
    }
    refused("", &causes)
}

/// What the core API refuses of a side object, after the draft is in git already.
pub(super) fn side_fault(
    name: &str,
    labels: &Map<String, Value>,
    annotations: &Map<String, Value>,
) -> Option<Refusal> {
    let long = labels.values().filter_map(Value::as_str).find(|value| value.len() > 63);
    let size: usize =
        annotations.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    let bad = |key: &&String| {
        let part = key.rsplit('/').next().unwrap_or(key);
        !part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) || part.is_empty()
    };
    let why = if let Some(value) = long {
        format!("metadata.labels: Invalid value: {}: must be no more than 63 characters", quoted(value))
    } else if let Some(key) = annotations.keys().find(bad) {
        format!(
            "metadata.annotations: Invalid value: {}: name part must consist of alphanumeric characters, '-', '_' or \
             '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', \
             regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            quoted(key)
        )
    } else if size > ANNOTATIONS {
        format!("metadata.annotations: Too long: may not be more than {ANNOTATIONS} bytes")
    } else {
        return None;
    };
    Some(reply::internal(&format!(
        "failed to close package revision draft: PackageRev.config.porch.kpt.dev \"{name}\" is invalid: {why}"
    )))
}

/// The label that only the server changes.
pub(super) fn latest_label(name: &str, before: &Value, after: &Value) -> Outcome<()> {
    let label = |object: &Value| object["metadata"]["labels"].get(LATEST).cloned();
    match label(after) {
        Some(value) if label(before) != Some(value.clone()) => {
            let field = format!("metadata.labels.{LATEST}");
            refused(
                name,
                &[Cause::forbidden(&field, "label is managed by porch and cannot be modified by users")],
            )
        }
        _ => Ok(()),
    }
}

/// An update of the object itself: `before` and `after` are whole objects.
pub(super) fn update(name: &str, from: Stage, before: &Value, after: &Value) -> Outcome<()> {
    latest_label(name, before, after)?;
    let wanted = after["spec"]["lifecycle"].as_str().unwrap_or_default();
    let field = "spec.lifecycle";
    let mut causes = Vec::new();
    if Stage::parse(wanted).is_none() {
        let all = "value can be only updated to Draft,Proposed,Published,DeletionProposed";
        causes.push(Cause::value(field, &quoted(wanted), all));
    }
    if !from.is_published() {
        if !matches!(wanted, "Draft" | "Proposed") {
            let shown = quoted(&from.to_string());
            causes.push(Cause::value(field, &shown, "value can be only updated to Draft,Proposed"));
        }
        return refused(name, &causes);
    }
    let mut spec = before["spec"].clone();
    if matches!(wanted, "Published" | "DeletionProposed") {
        spec["lifecycle"] = after["spec"]["lifecycle"].clone();
    }
    if spec != after["spec"] {
        let mut shown = before["spec"].clone();
        if let (Value::Object(shown), Value::Object(after)) = (&mut shown, &after["spec"]) {
            *shown = ordered(after);
        }
        let why = "spec can only update package with lifecycle value one of Draft,Proposed";
        causes.push(Cause::value("spec", &shown.to_string(), why));
    }
    refused(name, &causes)
}

/// The keys of a spec in the order in which the server writes them.
fn ordered(spec: &Map<String, Value>) -> Map<String, Value> {
    const KEYS: [&str; 8] = [
        "packageName",
        "repository",
        "workspaceName",
        "revision",
        "lifecycle",
        "tasks",
        "readinessGates",
        "packageMetadata",
    ];
    KEYS.iter().filter_map(|key| Some(((*key).to_owned(), spec.get(*key)?.clone()))).collect()
}

/// An update of the approval.
pub(super) fn approval(name: &str, from: Stage, wanted: &str) -> Outcome<()> {
    let field = "spec.lifecycle";
    let shown = quoted(&from.to_string());
    let mut causes = Vec::new();
    match from {
        Stage::Draft => {
            let why =
                "cannot approve package with Draft lifecycle value; only Proposed packages can be approved";
            causes.push(Cause::value(field, &shown, why));
        }
        Stage::Published if wanted != "DeletionProposed" => {
            let why = "package with Published lifecycle value can only be updated to 'ProposeDeletion'";
            causes.push(Cause::value(field, &shown, why));
        }
        Stage::DeletionProposed if !matches!(wanted, "Published" | "DeletionProposed") => {
            let why = "package with DeletionProposed lifecycle value can only be updated to 'Published'";
            causes.push(Cause::value(field, &shown, why));
        }
        _ => {}
    }
    if !from.is_published() && !matches!(wanted, "Draft" | "Published") {
        let why = "value for approval can be only one of Draft,Published";
        causes.push(Cause::value(field, &quoted(wanted), why));
    }
    refused(name, &causes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels_and_packages_may_hold_slashes() {
        for good in ["a", "0", "a-b", &"x".repeat(63)] {
            assert_eq!(name_fault(good, false), None, "{good}");
        }
        for bad in ["", "A", "-a", "a-", "a.b", "a_b", &"x".repeat(64), "a/b"] {
            assert!(name_fault(bad, false).is_some(), "{bad}");
        }
        assert_eq!(name_fault("team/odu", true), None);
        assert!(name_fault("a//b", true).is_some());
    }

    #[test]
    fn only_proposed_revisions_are_approved() {
        use Stage::{DeletionProposed, Draft, Proposed, Published};
        let allowed = [
            (Proposed, "Published"),
            (Proposed, "Draft"),
            (Published, "DeletionProposed"),
            (DeletionProposed, "Published"),
            (DeletionProposed, "DeletionProposed"),
        ];
        for from in [Draft, Proposed, Published, DeletionProposed] {
            for wanted in ["Draft", "Proposed", "Published", "DeletionProposed", "Bogus"] {
                let expected = allowed.contains(&(from, wanted));
                assert_eq!(approval("n", from, wanted).is_ok(), expected, "{from} to {wanted}");
            }
        }
    }
}
