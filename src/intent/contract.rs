//! The scaling contract: `resource_type`, `resource_name`, `target_scale`; the one style in which a
//! count of zero is legal. Extra members are allowed.

use simd_json::tape::{Object, Value};

use super::check::{At, Checker, Draft, Places};
use super::{IntentType, TargetKind, formats};

const PLACES: Places = Places { namespace: "/namespace", kind: "/resource_type", replicas: "/target_scale" };

const KINDS: [(&str, TargetKind); 3] = [
    ("deployment", TargetKind::Deployment),
    ("statefulset", TargetKind::Statefulset),
    ("daemonset", TargetKind::Daemonset),
];
const DIRECTIONS: [(&str, ()); 3] = [("up", ()), ("down", ()), ("auto", ())];
const STATUSES: [(&str, ()); 4] = [("pending", ()), ("in-progress", ()), ("completed", ()), ("failed", ())];
const TRIGGERS: [(&str, ()); 4] = [("manual", ()), ("auto", ()), ("scheduled", ()), ("policy", ())];
const REQUIRED: [&str; 8] = [
    "id",
    "resource_type",
    "resource_name",
    "namespace",
    "target_scale",
    "scale_direction",
    "reason",
    "status",
];

/// True for documents of this style.
pub(super) fn is_style(root: &Object<'_, '_>) -> bool {
    root.get("resource_type").is_some()
}

/// Checks the document; `None` only with a fault left behind.
pub(super) fn check<'i>(checker: &mut Checker<'_>, root: &Object<'_, 'i>) -> Option<Draft<'i>> {
    let (mut kind, mut name, mut namespace, mut replicas) = (None, None, None, None);
    for (key, value) in root.iter() {
        let at = &At::Key(&At::Root, key);
        match key {
            "id" => {
                let good = |text: &str| formats::is_identifier(text, 64);
                checker.formed(at, value, good, "is not 1 to 64 of A-Z, a-z, 0-9, \"_\" and \"-\"");
            }
            "resource_type" => kind = checker.word(at, value, &KINDS),
            "resource_name" => name = checker.label(at, value),
            "namespace" => namespace = checker.label(at, value),
            "target_scale" => replicas = checker.integer(at, value, 0..=100),
            "scale_direction" => drop(checker.word(at, value, &DIRECTIONS)),
            "reason" => drop(checker.text(at, value, 5..=200)),
            "status" => drop(checker.word(at, value, &STATUSES)),
            "current_scale" => drop(checker.integer(at, value, 0..=i64::MAX)),
            "metadata" => metadata(checker, at, value),
            "created_at" | "completed_at" => drop(checker.date_time(at, value)),
            _ => {}
        }
    }
    for required in REQUIRED {
        checker.require(&At::Root, root, required);
    }
    Some(Draft {
        intent_type: IntentType::Scaling,
        namespace: namespace?,
        kind: kind?,
        name: name?,
        replicas: Some(replicas? as u32),
        priority: super::PRIORITY,
        valid_until: None,
        places: PLACES,
    })
}

fn metadata(checker: &mut Checker<'_>, at: &At<'_>, value: Value<'_, '_>) {
    checker.object(at, value, |checker, at, key, value| match key {
        "trigger_type" => drop(checker.word(at, value, &TRIGGERS)),
        "trigger_value" => checker.number(at, value),
        "metric_name" | "policy_id" => drop(checker.string(at, value)),
        _ => {}
    });
}
