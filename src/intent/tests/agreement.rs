//! For documents that pass the strict layer the hand-written checks accept what the published schema
//! accepts. Left out, as the schema cannot say them: policy, and how an integer is spelled.

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use super::*;

static PUBLISHED: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let schema = serde_json::from_str(SCHEMA).expect("JSON");
    jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema")
});

/// Documents with every field of their style.
fn seeds() -> Vec<Value> {
    vec![
        json!({
            "intent_type": "scaling", "target": "statefulset/odu", "namespace": "ran", "replicas": 5,
            "reason": "r", "source": "", "correlation_id": "c", "priority": 0,
            "valid_until": "2026-11-21T08:00:00Z", "created_at": "2026-11-21T08:00:00.5+01:00",
            "constraints": {"max_replicas": 9, "min_replicas": 1, "allowed_namespaces": ["ran"],
                "kpt_package_name": "k", "porch_repository": "p", "other": null},
            "status": "pending", "target_resources": ["a"], "description": "d",
            "nephio_context": {"package_revision": "v1", "workload_cluster": "w", "blueprint_name": "b"}
        }),
        json!({"intent_type": "service", "target": "odu", "namespace": "ran"}),
        json!({
            "apiVersion": "g/v1", "kind": "NetworkIntent",
            "metadata": {"name": "m", "namespace": "n", "labels": {"app.io/part-of": "x", "a": ""}},
            "spec": {"action": "scale", "target": {"type": "deployment", "name": "t"}, "replicas": 2,
                "parameters": {
                    "networkFunctions": [{"name": "a", "type": "b", "resources": {"cpu": "1", "memory": "2"}}],
                    "connectivity": {"n2": {"interface": "eth0"}}, "sla": {"latency": "1ms", "jitter": "2"}},
                "constraints": {"placement": {}, "security": {}}}
        }),
        json!({"apiVersion": "v1", "kind": "DeploymentIntent", "spec": {"target": "t"}}),
        json!({"apiVersion": "v1", "kind": "ServiceIntent", "metadata": {"name": "s"}, "spec": {"ports": [1]}}),
        json!({"apiVersion": "v1", "kind": "ResourceIntent", "metadata": {"name": "s"}, "spec": {"action": "a"}}),
        json!({
            "id": "a_B-1", "resource_type": "deployment", "resource_name": "nf", "namespace": "ran",
            "target_scale": 0, "scale_direction": "auto", "reason": "night", "status": "in-progress",
            "current_scale": 4, "created_at": "2026-11-21T08:00:00Z", "completed_at": "2026-11-21t08:00:00z",
            "metadata": {"trigger_type": "policy", "trigger_value": 0.5, "metric_name": "m", "policy_id": "p"}
        }),
    ]
}

fn name() -> impl Strategy<Value = String> {
    let known = "intent_type target namespace replicas reason source correlation_id priority valid_until \
        constraints created_at updated_at status target_resources description nephio_context max_replicas \
        min_replicas allowed_namespaces apiVersion kind metadata spec name labels type action parameters \
        networkFunctions connectivity sla placement security ports resource_type resource_name target_scale \
        current_scale id x App a/b a/b/c -a interface cpu storage package_revision";
    select(known.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
}

fn value() -> impl Strategy<Value = Value> {
    let words = "a A -a a- a.b a_b odu deployment deployment/odu Deployment job/odu scaling service configuration \
        pending completed in-progress user up v1 g/v1 v x/ NetworkIntent ScalingIntent ServiceIntent Pod scale \
        fly manual 2026-11-21T08:00:00Z 2026-11-21T08:00:00 2026-02-29T08:00:00Z 2026-11-21T08:00:60Z \
        2016-12-31T23:59:60Z 2026-11-21T24:00:00Z 2026-11-21T08:00:00-23:59 2026-11-21T08:00:00+24:00 \
        9999-12-31T23:59:59.999Z été";
    let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    let long = select(vec![0usize, 4, 5, 62, 63, 64, 65, 200, 201, 253, 254, 512, 513, 1024, 1025]);
    prop_oneof![
        select(words).prop_map(Value::from),
        (select(vec!["a", "é"]), long).prop_map(|(letter, count)| letter.repeat(count).into()),
        select(vec![-1i64, 0, 1, 5, 10, 11, 100, 101, i64::MAX]).prop_map(Value::from),
        select(vec![0.5, -1.5, 99.9]).prop_map(Value::from),
        select(vec![
            json!(null),
            json!(true),
            json!([]),
            json!({}),
            json!([""]),
            json!(["a", 1]),
            json!({"name": "t"}),
            json!({"a": ""}),
            json!({"x": {"interface": ""}}),
            json!([{"name": "a", "type": "b"}]),
            json!(u64::MAX),
        ]),
    ]
}

#[derive(Debug, Clone)]
enum Change {
    Replace(Value),
    Remove,
    Add(String, Value),
}

fn change() -> impl Strategy<Value = (Index, Change)> {
    let change = prop_oneof![
        4 => value().prop_map(Change::Replace),
        2 => Just(Change::Remove),
        2 => (name(), value()).prop_map(|(name, value)| Change::Add(name, value)),
    ];
    (any::<Index>(), change)
}

fn places(value: &Value, path: &str, found: &mut Vec<String>) {
    found.push(path.to_owned());
    match value {
        Value::Object(members) => members.iter().for_each(|(key, member)| {
            let mut path = path.to_owned();
            fault::step(&mut path, key);
            places(member, &path, found);
        }),
        Value::Array(elements) => {
            elements
                .iter()
                .enumerate()
                .for_each(|(index, element)| places(element, &format!("{path}/{index}"), found));
        }
        _ => {}
    }
}

fn apply(document: &mut Value, place: Index, change: Change) {
    let mut all = Vec::new();
    places(document, "", &mut all);
    let path = place.get(&all).clone();
    match change {
        Change::Replace(value) => *document.pointer_mut(&path).expect("a place") = value,
        Change::Add(name, value) => {
            if let Some(members) = document.pointer_mut(&path).and_then(Value::as_object_mut) {
                members.insert(name, value);
            }
        }
        Change::Remove => {
            let (parent, key) = path.rsplit_once('/').unwrap_or_default();
            let key = key.replace("~1", "/").replace("~0", "~");
            if let Some(members) = document.pointer_mut(parent).and_then(Value::as_object_mut) {
                members.remove(&key);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_checks_accept_exactly_what_the_published_schema_accepts(
        mut document in select(seeds()),
        changes in prop::collection::vec(change(), 0..4),
    ) {
        for (place, change) in changes {
            apply(&mut document, place, change);
        }
        let ours = parse(document.to_string());
        let accepted = !matches!(&ours, Err(refusal) if refusal.reason != Reason::Policy);
        prop_assert_eq!(accepted, PUBLISHED.is_valid(&document), "{}\n{:?}", document, ours);
    }
}
