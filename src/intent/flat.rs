//! The flat style: one object, closed, with the intent's own constraints enforced.

use simd_json::prelude::ValueIntoString as _;
use simd_json::tape::{Array, Object, Value};

use super::check::{At, Checker, Draft, Places};
use super::{IntentType, TargetKind, formats};
use crate::clock::Wall;

const PLACES: Places = Places { namespace: "/namespace", kind: "/target", replicas: "/replicas" };

/// Every field of the style; `intake.unknown_fields = "ignore"` drops all others.
pub(super) const FIELDS: [&str; 16] = [
    "intent_type",
    "target",
    "namespace",
    "replicas",
    "reason",
    "source",
    "correlation_id",
    "priority",
    "valid_until",
    "constraints",
    "created_at",
    "updated_at",
    "status",
    "target_resources",
    "description",
    "nephio_context",
];

const TYPES: [(&str, IntentType); 4] = [
    ("scaling", IntentType::Scaling),
    ("deployment", IntentType::Deployment),
    ("configuration", IntentType::Configuration),
    ("service", IntentType::Service),
];
const SOURCES: [(&str, ()); 4] = [("user", ()), ("planner", ()), ("test", ()), ("", ())];
const STATUSES: [(&str, ()); 4] = [("pending", ()), ("processing", ()), ("completed", ()), ("failed", ())];
const TARGET: &str = "is not a DNS-1123 label (at most 63 of a-z, 0-9 and \"-\") or deployment/, statefulset/, daemonset/ and one";

/// What the fields said, as far as they were good.
#[derive(Default)]
struct Fields<'t, 'i> {
    intent_type: Option<IntentType>,
    target: Option<(Option<TargetKind>, &'i str)>,
    namespace: Option<&'i str>,
    replicas: Option<i64>,
    priority: Option<i64>,
    valid_until: Option<Wall>,
    constraints: Constraints<'t, 'i>,
}

/// What the intent allows itself. An empty list of namespaces allows all, as in the site's policy.
#[derive(Default)]
struct Constraints<'t, 'i> {
    min_replicas: Option<i64>,
    max_replicas: Option<i64>,
    allowed_namespaces: Option<Array<'t, 'i>>,
}

/// Checks the document; `None` only with a fault left behind.
pub(super) fn check<'i>(
    checker: &mut Checker<'_>,
    root: &Object<'_, 'i>,
    ignore_unknown: bool,
) -> Option<Draft<'i>> {
    let mut fields = Fields::default();
    for (key, value) in root.iter() {
        field(checker, &mut fields, key, value, ignore_unknown);
    }
    let scaling = fields.intent_type == Some(IntentType::Scaling);
    for (absent, name) in [
        (fields.intent_type.is_none(), "intent_type"),
        (fields.target.is_none(), "target"),
        (fields.namespace.is_none(), "namespace"),
        (scaling && fields.replicas.is_none(), "replicas"),
    ] {
        if absent {
            checker.require(&At::Root, root, name);
        }
    }
    enforce(checker, &fields);
    let intent_type = fields.intent_type?;
    let (kind, name) = fields.target?;
    Some(Draft {
        intent_type,
        namespace: fields.namespace?,
        kind: kind.unwrap_or(TargetKind::of(intent_type)),
        name,
        replicas: fields.replicas.map(|count| count as u32),
        priority: fields.priority.map_or(super::PRIORITY, |priority| priority as u8),
        valid_until: fields.valid_until,
        places: PLACES,
    })
}

fn field<'t, 'i>(
    checker: &mut Checker<'_>,
    fields: &mut Fields<'t, 'i>,
    key: &'i str,
    value: Value<'t, 'i>,
    ignore_unknown: bool,
) {
    let at = &At::Key(&At::Root, key);
    match key {
        "intent_type" => fields.intent_type = checker.word(at, value, &TYPES),
        "target" => fields.target = target(checker, at, value),
        "namespace" => fields.namespace = checker.label(at, value),
        "replicas" => fields.replicas = checker.integer(at, value, super::REPLICAS),
        "reason" => drop(checker.text(at, value, 0..=512)),
        "source" => drop(checker.word(at, value, &SOURCES)),
        "correlation_id" => drop(checker.string(at, value)),
        "priority" => fields.priority = checker.integer(at, value, 0..=10),
        "valid_until" => fields.valid_until = checker.date_time(at, value),
        "constraints" => constraints(checker, at, value, &mut fields.constraints),
        "created_at" | "updated_at" => drop(checker.date_time(at, value)),
        "status" => drop(checker.word(at, value, &STATUSES)),
        "target_resources" => drop(checker.strings(at, value, 1)),
        "description" => drop(checker.text(at, value, 0..=1024)),
        "nephio_context" => nephio_context(checker, at, value),
        _ if ignore_unknown => {}
        _ => checker.unknown(key),
    }
}

/// `name`, or `kind/name` as kubectl writes it.
fn target<'i>(
    checker: &mut Checker<'_>,
    at: &At<'_>,
    value: Value<'_, 'i>,
) -> Option<(Option<TargetKind>, &'i str)> {
    let text = checker.string(at, value)?;
    let parts = match text.split_once('/') {
        None => Some((None, text)),
        Some((kind, name)) => TargetKind::workload(kind).map(|kind| (Some(kind), name)),
    };
    let good = parts.filter(|(_, name)| formats::is_label(name));
    if good.is_none() {
        checker.bad(at, TARGET);
    }
    good
}

fn constraints<'t, 'i>(
    checker: &mut Checker<'_>,
    at: &At<'_>,
    value: Value<'t, 'i>,
    found: &mut Constraints<'t, 'i>,
) {
    checker.object(at, value, |checker, at, key, value| match key {
        "max_replicas" => found.max_replicas = checker.integer(at, value, 1..=i64::MAX),
        "min_replicas" => found.min_replicas = checker.integer(at, value, 0..=i64::MAX),
        "allowed_namespaces" => found.allowed_namespaces = checker.strings(at, value, 0),
        "kpt_package_name" | "porch_repository" => drop(checker.string(at, value)),
        _ => {}
    });
}

fn nephio_context(checker: &mut Checker<'_>, at: &At<'_>, value: Value<'_, '_>) {
    checker.object(at, value, |checker, at, key, value| match key {
        "package_revision" | "workload_cluster" | "blueprint_name" => drop(checker.string(at, value)),
        _ => {}
    });
}

fn enforce(checker: &mut Checker<'_>, fields: &Fields<'_, '_>) {
    let Constraints { min_replicas, max_replicas, allowed_namespaces } = &fields.constraints;
    if let (Some(wanted), Some(least)) = (fields.replicas, *min_replicas)
        && wanted < least
    {
        checker.policy(PLACES.replicas, format!("{wanted} is below the intent's own min_replicas {least}"));
    }
    if let (Some(wanted), Some(most)) = (fields.replicas, *max_replicas)
        && wanted > most
    {
        checker.policy(PLACES.replicas, format!("{wanted} is above the intent's own max_replicas {most}"));
    }
    if let (Some(namespace), Some(allowed)) = (fields.namespace, allowed_namespaces)
        && !allowed.is_empty()
        && !allowed.iter().any(|name| name.into_string() == Some(namespace))
    {
        checker.policy(
            PLACES.namespace,
            format!("\"{namespace}\" is not in the intent's own allowed_namespaces"),
        );
    }
}
