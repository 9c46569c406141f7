//! The Kubernetes style: `apiVersion`, `kind`, `metadata`, `spec`, mapped to the same intent.
//!
//! `spec` is open and all its fields are optional, but a name must be found: `spec.target.name`, else
//! a string `spec.target`, else `metadata.name`.

use simd_json::prelude::ValueIntoString as _;
use simd_json::tape::{Object, Value};

use super::check::{At, Checker, Draft, Places};
use super::{IntentType, TargetKind, formats};

const PLACES: Places =
    Places { namespace: "/metadata/namespace", kind: "/spec/target/type", replicas: "/spec/replicas" };

/// Where an object without a namespace belongs.
const NAMESPACE: &str = "default";

/// The kinds of document, not of target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Network,
    Resource,
    Scaling,
    Deployment,
    Service,
}

const KINDS: [(&str, Kind); 5] = [
    ("NetworkIntent", Kind::Network),
    ("ResourceIntent", Kind::Resource),
    ("ScalingIntent", Kind::Scaling),
    ("DeploymentIntent", Kind::Deployment),
    ("ServiceIntent", Kind::Service),
];
const ACTIONS: [(&str, bool); 4] = [("deploy", false), ("scale", true), ("update", false), ("delete", false)];

/// True for documents of this style.
pub(super) fn is_style(root: &Object<'_, '_>) -> bool {
    root.get("apiVersion").is_some() && root.get("kind").is_some()
}

#[derive(Default)]
struct Metadata<'i> {
    name: Option<&'i str>,
    namespace: Option<&'i str>,
    /// A name is there, good or bad.
    named: bool,
}

#[derive(Default)]
struct Spec<'i> {
    name: Option<&'i str>,
    named: bool,
    kind: Option<TargetKind>,
    replicas: Option<i64>,
    /// `action` is `scale`.
    scales: bool,
}

/// Checks the document; `None` only with a fault left behind.
pub(super) fn check<'i>(checker: &mut Checker<'_>, root: &Object<'_, 'i>) -> Option<Draft<'i>> {
    let mut kind = None;
    if let Some(value) = root.get("kind") {
        kind = checker.word(&At::Key(&At::Root, "kind"), value, &KINDS);
    }
    let (mut metadata, mut spec) = (Metadata::default(), Spec::default());
    for (key, value) in root.iter() {
        let at = &At::Key(&At::Root, key);
        match key {
            "apiVersion" => {
                checker.formed(
                    at,
                    value,
                    is_api_version,
                    "is not an API version such as \"intent.nephoran.com/v1alpha1\"",
                );
            }
            "metadata" => metadata = self::metadata(checker, at, value),
            "spec" => spec = self::spec(checker, at, value, kind),
            _ => {}
        }
    }
    if !metadata.named && !spec.named {
        checker.missing(&At::Root, "metadata.name");
    }
    let intent_type = match kind? {
        Kind::Scaling => IntentType::Scaling,
        Kind::Deployment => IntentType::Deployment,
        Kind::Service => IntentType::Service,
        Kind::Network if spec.scales && spec.replicas.is_some() => IntentType::Scaling,
        Kind::Network | Kind::Resource => IntentType::Configuration,
    };
    Some(Draft {
        intent_type,
        namespace: metadata.namespace.unwrap_or(NAMESPACE),
        kind: spec.kind.unwrap_or(TargetKind::of(intent_type)),
        name: spec.name.or(metadata.name)?,
        replicas: spec.replicas.map(|count| count as u32),
        priority: super::PRIORITY,
        valid_until: None,
        places: PLACES,
    })
}

/// `group/version`, or a version: the rule of the original, which takes any two characters with a
/// slash or a leading `v`.
fn is_api_version(text: &str) -> bool {
    text.chars().nth(1).is_some() && (text.contains('/') || text.starts_with('v'))
}

fn metadata<'i>(checker: &mut Checker<'_>, at: &At<'_>, value: Value<'_, 'i>) -> Metadata<'i> {
    let mut found = Metadata::default();
    checker.object(at, value, |checker, at, key, value| match key {
        "name" => {
            found.named = true;
            found.name = checker.label(at, value);
        }
        "namespace" => found.namespace = checker.label(at, value),
        "labels" => {
            checker.object(at, value, |checker, at, key, value| {
                if !formats::is_label_key(key) {
                    checker.bad(at, "has a name that is not a lower-case Kubernetes label key");
                }
                checker.formed(at, value, formats::is_label_value, "is not a Kubernetes label value");
            });
        }
        _ => {}
    });
    found
}

fn spec<'i>(checker: &mut Checker<'_>, at: &At<'_>, value: Value<'_, 'i>, kind: Option<Kind>) -> Spec<'i> {
    let mut found = Spec::default();
    checker.object(at, value, |checker, at, key, value| match (key, kind) {
        ("target", _) => target(checker, at, value, &mut found),
        ("replicas", _) => found.replicas = checker.integer(at, value, super::REPLICAS),
        ("action", Some(Kind::Network)) => {
            found.scales = checker.word(at, value, &ACTIONS).unwrap_or_default();
        }
        ("action", Some(Kind::Resource)) => drop(checker.non_empty(at, value)),
        ("parameters", Some(Kind::Network)) => parameters(checker, at, value),
        ("constraints", Some(Kind::Network)) => {
            checker.object(at, value, |checker, at, key, value| {
                if matches!(key, "placement" | "security") {
                    checker.object(at, value, |_, _, _, _| {});
                }
            });
        }
        ("ports", Some(Kind::Service)) => drop(checker.array(at, value)),
        _ => {}
    });
    found
}

/// A name, or an object with `name` and `type`; a type that is no workload kind says nothing.
fn target<'i>(checker: &mut Checker<'_>, at: &At<'_>, value: Value<'_, 'i>, found: &mut Spec<'i>) {
    if value.into_string().is_some() {
        found.named = true;
        found.name = checker.label(at, value);
        return;
    }
    if value.as_object().is_none() {
        return checker.wrong(at, "is neither a name nor an object");
    }
    checker.object(at, value, |checker, at, key, value| match key {
        "name" => {
            found.named = true;
            found.name = checker.label(at, value);
        }
        "type" => {
            let word = checker.non_empty(at, value);
            found.kind = word.and_then(|word| TargetKind::workload(&word.to_ascii_lowercase()));
        }
        _ => {}
    });
}

fn parameters(checker: &mut Checker<'_>, at: &At<'_>, value: Value<'_, '_>) {
    checker.object(at, value, |checker, at, key, value| match key {
        "networkFunctions" => {
            let Some(functions) = checker.array(at, value) else { return };
            for (index, function) in functions.iter().enumerate() {
                network_function(checker, &At::Index(at, index), function);
            }
        }
        "connectivity" => {
            checker.object(at, value, |checker, at, _, link| texts(checker, at, link, &["interface"]));
        }
        "sla" => texts(checker, at, value, &["availability", "throughput", "latency", "jitter"]),
        _ => {}
    });
}

fn network_function(checker: &mut Checker<'_>, at: &At<'_>, value: Value<'_, '_>) {
    let object = checker.object(at, value, |checker, at, key, value| match key {
        "name" | "type" => drop(checker.non_empty(at, value)),
        "resources" => texts(checker, at, value, &["cpu", "memory", "storage"]),
        _ => {}
    });
    if let Some(object) = object {
        checker.require(at, &object, "name");
        checker.require(at, &object, "type");
    }
}

/// An open object in which the members `names`, where present, are strings that are not empty.
fn texts(checker: &mut Checker<'_>, at: &At<'_>, value: Value<'_, '_>, names: &[&str]) {
    checker.object(at, value, |checker, at, key, value| {
        if names.contains(&key) {
            checker.non_empty(at, value);
        }
    });
}
