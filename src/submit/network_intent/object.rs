//! The custom resource of one intent: name, labels, annotations, spec (`compat.md` 5).
//!
//! Pure. The name follows from the dedup key, so that a repeated delivery meets its own object and never
//! makes a second one.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::fate::Sha;
use crate::intent::{Intent, TargetKind};
use crate::submit::Delivery;

/// API group of the resource.
pub const GROUP: &str = "intent.nephoran.com";
/// Its version.
pub const VERSION: &str = "v1alpha1";
/// Its kind.
pub const KIND: &str = "NetworkIntent";
/// Its name in paths and in RBAC rules.
pub const RESOURCE: &str = "networkintents";

/// Annotation with the whole dedup key: what makes an object ours.
pub const KEY: &str = "conductor-loop.nephoran.com/intent-sha256";
/// Annotation with the daemon's id of the intent.
pub const ID: &str = "conductor-loop.nephoran.com/intent-id";

const API_VERSION: &str = "intent.nephoran.com/v1alpha1";
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Who made the object, as consumers of the original select it.
const MANAGER: &str = "nephoran-conductor";
/// `spec.source` of an intent that names none.
const SOURCE: &str = "conductor-loop";
/// Characters of the target in a name.
const HEAD: usize = 40;
/// Hex digits of the key in a name: 60 bits, and with prefix and target 63 characters at most, so that
/// the name can also stand in a label.
const DIGITS: usize = 15;
/// Most characters of a label's value.
const LABEL: usize = 63;

/// One object as it is created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkIntent {
    api_version: &'static str,
    kind: &'static str,
    /// Name, place and marks.
    pub metadata: Metadata,
    /// What is wanted.
    pub spec: Spec,
}

/// Name, place and marks of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// `intent-<target>-<15 hex digits of the key>`.
    pub name: String,
    /// The intent's.
    pub namespace: String,
    /// Who made it, type and target.
    pub labels: BTreeMap<&'static str, String>,
    /// The key, the id, and what the intent says of its reason and correlation.
    pub annotations: BTreeMap<&'static str, String>,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// Who asked; `conductor-loop` if the intent does not say.
    pub source: String,
    /// `scaling`, `deployment`, `configuration` or `service`.
    pub intent_type: &'static str,
    /// The workload: `odu`, or `statefulset/odu` for another kind than its type implies.
    pub target: String,
    /// The workload's namespace.
    pub namespace: String,
    /// The wanted count, where the intent gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
}

impl NetworkIntent {
    /// The object of a delivery with this dedup key.
    pub fn of(delivery: &Delivery<'_>, key: &Sha) -> Self {
        let intent = delivery.intent;
        let target = spelled(intent);
        let namespace = intent.target.namespace.to_string();
        let labels = BTreeMap::from([
            (MANAGED_BY, MANAGER.to_owned()),
            ("nephoran.com/intent-type", label(intent.intent_type.as_str())),
            ("nephoran.com/target", label(&target)),
        ]);
        let said = [("nephoran.com/reason", "reason"), ("nephoran.com/correlation-id", "correlation_id")];
        let said = said.into_iter().filter_map(|(to, from)| Some((to, field(intent, from)?.to_owned())));
        let marks = [(KEY, key.to_string()), (ID, delivery.id.to_string())];
        NetworkIntent {
            api_version: API_VERSION,
            kind: KIND,
            metadata: Metadata {
                name: name(&target, key),
                namespace: namespace.clone(),
                labels,
                annotations: marks.into_iter().chain(said).collect(),
            },
            spec: Spec {
                source: field(intent, "source").unwrap_or(SOURCE).to_owned(),
                intent_type: intent.intent_type.as_str(),
                target,
                namespace,
                replicas: intent.replicas,
            },
        }
    }

    /// `<namespace>/<name>`, as receipts and messages tell it.
    pub fn place(&self) -> String {
        format!("{}/{}", self.metadata.namespace, self.metadata.name)
    }

    /// The dedup key, as the annotation has it.
    pub fn key(&self) -> &str {
        self.metadata.annotations.get(KEY).map_or("", String::as_str)
    }
}

/// The target as a flat document spells it, so that a consumer can tell workloads of different kinds apart.
fn spelled(intent: &Intent) -> String {
    let (kind, name) = (intent.target.kind, &intent.target.name);
    match kind {
        TargetKind::Deployment if intent.intent_type.scales() => name.to_string(),
        TargetKind::Service | TargetKind::Configuration => name.to_string(),
        TargetKind::Deployment | TargetKind::Statefulset | TargetKind::Daemonset => {
            format!("{}/{name}", kind.as_str())
        }
    }
}

/// A text field of the document that is there and not empty.
fn field<'a>(intent: &'a Intent, key: &str) -> Option<&'a str> {
    let found = intent.fields.iter().find(|(known, _)| **known == *key);
    found.map(|(_, value)| &**value).filter(|value| !value.is_empty())
}

fn name(target: &str, key: &Sha) -> String {
    let spelled: String = target
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
        .collect();
    let head = spelled.trim_matches('-');
    let head = head.get(..HEAD).unwrap_or(head).trim_end_matches('-');
    let head = if head.is_empty() { "default" } else { head };
    format!("intent-{head}-{}", &key.to_string()[..DIGITS])
}

/// `text` as the value of a label.
fn label(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let spelled: String = text.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
    let at_edge = |c: char| !c.is_ascii_alphanumeric();
    let value = spelled.trim_matches(at_edge);
    let value = value.get(..LABEL).unwrap_or(value).trim_end_matches(at_edge);
    match value {
        "" if !text.is_empty() => "unknown".to_owned(),
        value => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::DedupScope;
    use crate::fate::SinkKind;
    use crate::submit::contract::Accepted;

    fn object_of(accepted: &Accepted) -> NetworkIntent {
        let delivery = accepted.delivery(false);
        NetworkIntent::of(&delivery, &delivery.key(SinkKind::NetworkIntent, DedupScope::NameAndContent))
    }

    fn accepted(fields: &[(&str, &str)]) -> Accepted {
        let mut accepted = Accepted::scaling(1, "nf-sim", 3);
        accepted.intent.target.namespace = "ran-a".into();
        accepted.intent.fields = fields.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        accepted
    }

    #[test]
    fn an_object_is_spelled_as_the_original_spelled_it() {
        let accepted = accepted(&[
            ("reason", "load"),
            ("source", "planner"),
            ("correlation_id", "c-1"),
            ("status", "x"),
        ]);
        let object = object_of(&accepted);
        let key = object.key().to_owned();
        assert_eq!(key.len(), 64);
        let expected = serde_json::json!({
            "apiVersion": "intent.nephoran.com/v1alpha1",
            "kind": "NetworkIntent",
            "metadata": {
                "name": format!("intent-nf-sim-{}", &key[..15]),
                "namespace": "ran-a",
                "labels": {
                    "app.kubernetes.io/managed-by": "nephoran-conductor",
                    "nephoran.com/intent-type": "scaling",
                    "nephoran.com/target": "nf-sim",
                },
                "annotations": {
                    "conductor-loop.nephoran.com/intent-id": accepted.id.to_string(),
                    "conductor-loop.nephoran.com/intent-sha256": key,
                    "nephoran.com/correlation-id": "c-1",
                    "nephoran.com/reason": "load",
                },
            },
            "spec": {
                "source": "planner",
                "intentType": "scaling",
                "target": "nf-sim",
                "namespace": "ran-a",
                "replicas": 3,
            },
        });
        assert_eq!(serde_json::to_value(&object).unwrap(), expected);
    }

    #[test]
    fn what_an_intent_does_not_say_is_not_annotated() {
        let mut accepted = accepted(&[("reason", ""), ("source", "")]);
        accepted.intent.replicas = None;
        let object = object_of(&accepted);
        assert_eq!(object.metadata.annotations.keys().copied().collect::<Vec<_>>(), [ID, KEY]);
        assert_eq!(object.spec.source, "conductor-loop");
        assert!(serde_json::to_value(&object).unwrap()["spec"].get("replicas").is_none());
    }

    #[test]
    fn workloads_of_different_kinds_have_different_targets() {
        let mut accepted = accepted(&[]);
        accepted.intent.target.kind = TargetKind::Statefulset;
        let object = object_of(&accepted);
        assert_eq!(object.spec.target, "statefulset/nf-sim");
        assert_eq!(object.metadata.labels["nephoran.com/target"], "statefulset-nf-sim");
        assert!(object.metadata.name.starts_with("intent-statefulset-nf-sim-"));
    }

    #[test]
    fn the_same_delivery_has_the_same_name_and_another_one_has_not() {
        let one = object_of(&Accepted::scaling(1, "nf", 1));
        assert_eq!(one, object_of(&Accepted::scaling(1, "nf", 1)));
        assert_ne!(one.metadata.name, object_of(&Accepted::scaling(2, "nf", 1)).metadata.name);
    }

    #[test]
    fn label_values_are_trimmed_again_after_the_cut() {
        assert_eq!(label("a/b c"), "a-b-c");
        assert_eq!(label("/-x.-"), "x");
        assert_eq!(label(&format!("{}--tail", "a".repeat(62))), "a".repeat(62));
        assert_eq!(label("äöü"), "unknown");
        assert_eq!(label(""), "");
    }

    #[test]
    fn names_are_cut_without_a_hyphen_at_the_cut() {
        let key = Sha::of(b"");
        let cut = name(&format!("{}-tail", "a".repeat(39)), &key);
        assert_eq!(cut, format!("intent-{}-{}", "a".repeat(39), &key.to_string()[..15]));
        assert_eq!(name(&"b".repeat(63), &key).len(), 63);
        assert!(name("--", &key).starts_with("intent-default-"));
    }

    proptest! {
        #[test]
        fn every_name_and_label_is_one_the_server_takes(target in "\\PC{0,80}") {
            let name = name(&target, &Sha::of(target.as_bytes()));
            prop_assert!(name.len() <= 63);
            prop_assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
            let label = label(&target);
            prop_assert!(label.len() <= 63);
            prop_assert!(label.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)));
            let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
            prop_assert!(edge(label.chars().next()) && edge(label.chars().last()));
        }
    }
}
