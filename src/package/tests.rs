use proptest::prelude::*;
use serde::Deserialize as _;
use serde_json::Value;

use super::*;
use crate::intent::Target;

/// A scaling intent for `oran-odu/deployment-odu-high-phy`.
pub(crate) fn scaling(replicas: u32) -> Intent {
    Intent {
        intent_type: IntentType::Scaling,
        target: Target {
            namespace: "oran-odu".into(),
            kind: TargetKind::Deployment,
            name: "odu-high-phy".into(),
        },
        replicas: Some(replicas),
        priority: 5,
        valid_until: None,
        fields: [
            ("intent_type", "scaling"),
            ("target", "odu-high-phy"),
            ("namespace", "oran-odu"),
            ("replicas", &replicas.to_string()),
            ("constraints", r#"{"max_replicas":10}"#),
        ]
        .map(|(key, value)| (key.into(), value.into()))
        .into(),
    }
}

fn rendered(intent: &Intent, revision: u64, base: Base<'_>) -> String {
    let mut out = Vec::new();
    let sha = Sha([0xab; 32]);
    render(&mut out, intent, &Stamp { id: Id(0x9f2c_31aa_07d1_4be2), sha: &sha, revision }, base);
    String::from_utf8(out).unwrap()
}

/// The documents as a YAML 1.2 reader sees them.
pub(crate) fn by_saphyr(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

/// The documents as the C library's YAML 1.1 scanner sees them.
fn by_libyaml(text: &str) -> Vec<Value> {
    serde_yaml_ng::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).unwrap())
        .collect()
}

fn data(document: &Value) -> Vec<(&str, &str)> {
    let data = document["data"].as_object().unwrap();
    data.iter().map(|(key, value)| (key.as_str(), value.as_str().unwrap())).collect()
}

const WORKLOAD_TEXT: &str = r#"apiVersion: apps/v1
kind: Deployment
metadata:
  name: "odu-high-phy"
  namespace: "oran-odu"
  labels:
    app.kubernetes.io/managed-by: conductor-loop
  annotations:
    conductor-loop.nephoran.com/intent-id: "9f2c31aa07d14be2"
    conductor-loop.nephoran.com/intent-sha256: "abababababababababababababababababababababababababababababababab"
    conductor-loop.nephoran.com/revision: "3"
spec:
  replicas: 5
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: "odu-high-phy-intent"
  namespace: "oran-odu"
  labels:
    app.kubernetes.io/managed-by: conductor-loop
  annotations:
    conductor-loop.nephoran.com/intent-id: "9f2c31aa07d14be2"
    conductor-loop.nephoran.com/intent-sha256: "abababababababababababababababababababababababababababababababab"
    conductor-loop.nephoran.com/revision: "3"
    config.kubernetes.io/local-config: "true"
data:
  "intent_type": "scaling"
  "target": "odu-high-phy"
  "namespace": "oran-odu"
  "replicas": "5"
  "constraints": "{\"max_replicas\":10}"
"#;

#[test]
fn a_scaling_intent_owns_its_count_and_nothing_else() {
    let text = rendered(&scaling(5), 3, Base::Owned(5));
    assert_eq!(text, WORKLOAD_TEXT);
    assert_eq!(by_saphyr(&text), by_libyaml(&text));
    assert_eq!(by_saphyr(&text)[0]["spec"]["replicas"], 5);
}

#[test]
fn an_intent_without_scale_effect_replaces_the_config_map_alone() {
    let old = rendered(&scaling(5), 3, Base::Owned(5));
    let Held::Ours(holding) = Held::parse(old.as_bytes()) else { panic!("ours") };
    let Document::Whole(document) = holding.document else { panic!("whole") };
    let mut intent = scaling(9);
    intent.intent_type = IntentType::Configuration;
    assert_eq!(scale(&intent), None);
    let new = rendered(&intent, 4, Base::Kept(document));
    assert!(new.starts_with(document));
    assert_eq!(by_saphyr(&new)[0], by_saphyr(&old)[0]);
    assert_eq!(data(&by_saphyr(&new)[1])[3], ("replicas", "9"));
    let Held::Ours(holding) = Held::parse(new.as_bytes()) else { panic!("ours") };
    assert_eq!((holding.revision, holding.document), (4, Document::Whole(document)));
}

#[test]
fn without_a_workload_the_file_holds_the_config_map_alone() {
    let text = rendered(&scaling(5), 1, Base::Absent);
    assert_eq!(by_saphyr(&text).len(), 1);
    let Held::Ours(holding) = Held::parse(text.as_bytes()) else { panic!("ours") };
    assert_eq!(holding.document, Document::Absent);
}

#[test]
fn only_scaling_and_deployment_intents_with_a_count_scale() {
    let mut intent = scaling(0);
    assert_eq!(scale(&intent), Some(0));
    intent.target.kind = TargetKind::Statefulset;
    assert_eq!(scale(&intent), Some(0));
    assert!(rendered(&intent, 1, Base::Owned(0)).contains("kind: StatefulSet\n"));
    intent.intent_type = IntentType::Service;
    assert_eq!(scale(&intent), None);
    intent.intent_type = IntentType::Deployment;
    intent.replicas = None;
    assert_eq!(scale(&intent), None);
}

#[test]
fn a_count_for_a_daemon_set_is_written_as_the_contract_allows_it() {
    let mut intent = scaling(3);
    intent.target.kind = TargetKind::Daemonset;
    assert_eq!(scale(&intent), Some(3));
    intent.intent_type = IntentType::Configuration;
    assert_eq!(scale(&intent), None);
}

#[test]
fn the_scaffold_names_the_package_and_says_how_to_apply_it() {
    let target = scaling(1).target;
    let kptfile = by_saphyr(&kptfile(&target)).remove(0);
    assert_eq!(kptfile["metadata"]["name"], "deployment-odu-high-phy");
    assert!(kptfile["info"]["description"].as_str().unwrap().contains("server-side apply"));
    assert_eq!(kptfile["pipeline"], serde_json::json!({}));
    let context = by_saphyr(&context(&target)).remove(0);
    assert_eq!(context["metadata"]["name"], "kptfile.kpt.dev");
    assert_eq!(data(&context), [("name", "deployment-odu-high-phy")]);
    assert_eq!(by_libyaml(&super::context(&target)), [context]);
}

#[test]
fn field_names_that_kubernetes_forbids_become_keys_reversibly() {
    let key = |name: &str| workload::config_key(name).into_owned();
    assert_eq!(key("spec.target-name_1"), "spec.target-name_1");
    assert_eq!(key("a/b c"), "a_x2f_b_x20_c");
    assert_eq!(key("a_x2f_b"), "a_x5f_x2f_b");
    assert_eq!(key("."), "_x2e_");
    assert_eq!(key("..data"), "_x2e_.data");
    assert_eq!(key(""), "_x_");
    assert_eq!(key(&"k".repeat(253)), "k".repeat(253));
    assert_eq!(key(&"k".repeat(254)).len(), 253);
    assert_ne!(key(&"k".repeat(254)), key(&"k".repeat(255)));
}

/// Strings that some YAML reader has taken for something else.
const AWKWARD: &[&str] = &[
    "",
    " ",
    "no",
    "No",
    "y",
    "on",
    "off",
    "true",
    "~",
    "null",
    "=",
    "<<",
    "1e3",
    "0x1f",
    "0o14",
    "014",
    "1_000",
    ".5",
    ".inf",
    ".nan",
    "-",
    "- a",
    "?",
    ": ",
    "a: b",
    "a #b",
    "#",
    "12:30:45",
    "1:30",
    "2001-01-01",
    "2001-12-14t21:59:43.10-05:00",
    "*a",
    "&a",
    "!a",
    "!!str",
    "|",
    ">",
    "%a",
    "@a",
    "`a",
    "{",
    "}",
    "[",
    "]",
    ",",
    "'",
    "\"",
    "\\",
    "\\n",
    "---",
    "...",
    "\n",
    "a\nb",
    "\r",
    "\t",
    " a ",
    "a ",
    "\0",
    "\u{1b}",
    "\u{7f}",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{2029}",
    "\u{feff}",
    "\u{feff}a",
    "\u{fffe}",
    "\u{ffff}",
    "\u{202e}",
    "😀",
    "ü",
    "\u{d7ff}",
    "\u{e000}",
    "\u{10ffff}",
    "\n---\n",
    "kind: ConfigMap",
];

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(AWKWARD).prop_map(str::to_owned),
        any::<String>(),
        prop::collection::vec(prop::sample::select(AWKWARD), 1..6).prop_map(|parts| parts.concat()),
        r"[ -~]{0,40}",
    ]
}

fn check_round_trip(fields: &[(String, String)]) {
    let mut intent = scaling(5);
    intent.fields = fields.iter().map(|(k, v)| (k.as_str().into(), v.as_str().into())).collect();
    let text = rendered(&intent, 3, Base::Owned(5));
    let keys: Vec<_> = fields.iter().map(|(key, _)| workload::config_key(key)).collect();
    let expected: Vec<_> =
        keys.iter().map(|key| &**key).zip(fields.iter().map(|(_, v)| v.as_str())).collect();
    for documents in [by_saphyr(&text), by_libyaml(&text)] {
        assert_eq!(documents.len(), 2);
        assert_eq!(data(&documents[1]), expected);
    }
    for key in keys {
        let bytes = key.as_bytes();
        assert!((1..=253).contains(&bytes.len()) && &*key != "." && !key.starts_with(".."), "{key}");
        assert!(bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(b)), "{key}");
    }
    let Held::Ours(holding) = Held::parse(text.as_bytes()) else { panic!("ours: {text}") };
    assert_eq!((holding.id, holding.revision), (Some(Id(0x9f2c_31aa_07d1_4be2)), 3));
    assert!(matches!(holding.document, Document::Whole(document) if document.ends_with("replicas: 5\n")));
}

#[test]
fn every_awkward_string_reads_back_as_itself_with_either_reader() {
    let fields: Vec<_> =
        AWKWARD.iter().enumerate().map(|(n, value)| (format!("field-{n}"), (*value).to_owned())).collect();
    check_round_trip(&fields);
}

proptest! {
    #[test]
    fn any_value_under_any_key_reads_back_with_either_reader(
        fields in prop::collection::btree_map(scalar(), scalar(), 0..8)
    ) {
        let fields: Vec<_> = fields.into_iter().collect();
        if fields.is_empty() {
            let mut intent = scaling(1);
            intent.fields.clear();
            prop_assert!(by_saphyr(&rendered(&intent, 1, Base::Absent))[0]["data"].as_object().is_some());
        } else {
            check_round_trip(&fields);
        }
    }

    #[test]
    fn a_beginning_of_a_file_is_torn_and_is_never_taken_for_another_intent(cut in 0usize..1200) {
        let whole = rendered(&scaling(5), 12, Base::Owned(5));
        let found = &whole.as_bytes()[..cut.min(whole.len())];
        prop_assert_eq!(Held::is_torn(found, whole.as_bytes()), found.len() < whole.len());
        if let Held::Ours(holding) = Held::parse(found) {
            prop_assert!(holding.id.is_none() || holding.id == Some(Id(0x9f2c_31aa_07d1_4be2)));
            prop_assert!(holding.revision == 0 || holding.revision == 12);
        }
    }
}
