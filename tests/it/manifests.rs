//! `config/kubernetes`: what is there parses, is listed, grants what the code uses and nothing more, and
//! takes what the sink writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use conductor_loop::config::DedupScope;
use conductor_loop::fate::{Id, Sha, SinkKind};
use conductor_loop::intent::{Intent, IntentType, Target, TargetKind};
use conductor_loop::submit::Delivery;
use conductor_loop::submit::network_intent::{GROUP, KIND, NetworkIntent, RESOURCE, VERSION};
use conductor_loop::submit::rights::{ROLES, Right};
use serde_json::{Value, json};

const ROOT: &str = "config/kubernetes";

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn documents(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    serde_saphyr::from_multiple(&text).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

fn document(path: &str) -> Value {
    let mut all = documents(&Path::new(ROOT).join(path));
    assert_eq!(all.len(), 1, "{path}");
    all.remove(0)
}

fn manifests() -> impl Iterator<Item = (PathBuf, Vec<Value>)> {
    let yaml = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "yaml");
    files(Path::new(ROOT)).into_iter().filter(yaml).map(|path| {
        let documents = documents(&path);
        (path, documents)
    })
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().map_or_else(Vec::new, |list| list.iter().map(|text| text.as_str().unwrap()).collect())
}

#[test]
fn every_manifest_is_an_object_with_a_component() {
    let mut count = 0;
    for (path, documents) in manifests() {
        for object in documents {
            count += 1;
            assert!(object["apiVersion"].is_string() && object["kind"].is_string(), "{}", path.display());
            if !path.ends_with("kustomization.yaml") {
                assert!(object["metadata"]["name"].is_string(), "{}", path.display());
                let component = &object["metadata"]["labels"]["app.kubernetes.io/component"];
                assert!(component.is_string(), "{} has no component", path.display());
            }
        }
    }
    assert!(count > 15, "only {count} manifests");
}

#[test]
fn each_kustomization_lists_exactly_what_is_there() {
    let mut seen = BTreeSet::new();
    for (path, documents) in manifests().filter(|(path, _)| path.ends_with("kustomization.yaml")) {
        let dir = path.parent().unwrap();
        let listed = [texts(&documents[0]["resources"]), texts(&documents[0]["components"])].concat();
        for entry in &listed {
            let at = dir.join(entry);
            assert!(at.is_file() || at.join("kustomization.yaml").is_file(), "{}: {entry}", path.display());
        }
        let mut beside: Vec<PathBuf> = files(dir);
        beside.retain(|file| file.parent() == Some(dir) && !file.ends_with("kustomization.yaml"));
        let own: BTreeSet<PathBuf> =
            listed.iter().map(|entry| dir.join(entry)).filter(|at| at.is_file()).collect();
        assert_eq!(own, beside.into_iter().collect(), "{}", path.display());
        seen.insert(dir.to_owned());
    }
    let dirs: BTreeSet<PathBuf> = manifests().map(|(path, _)| path.parent().unwrap().to_owned()).collect();
    assert_eq!(seen, dirs, "a directory without a kustomization");
}

#[test]
fn the_labels_that_everything_carries_are_complete_and_of_this_version() {
    let labels = document("components/labels/kustomization.yaml");
    let pairs = &labels["labels"][0]["pairs"];
    for name in ["instance", "managed-by", "name", "part-of"] {
        assert_eq!(pairs[format!("app.kubernetes.io/{name}")], "conductor-loop");
    }
    assert_eq!(pairs["app.kubernetes.io/version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn roles_grant_exactly_what_the_code_uses() {
    let rule = |right: &Right| json!({ "apiGroups": [right.group], "resources": [right.resource], "verbs": right.verbs });
    for role in ROLES {
        let manifest = document(&format!("base/{}.yaml", role.name));
        let rules: Vec<Value> = role.rights.iter().map(rule).collect();
        assert_eq!(manifest["rules"], Value::Array(rules), "{}", role.name);
        assert_eq!(manifest["metadata"]["name"], format!("conductor-loop-{}", role.name));
        assert!(role.rights.iter().all(|right| right.verbs.is_sorted()), "{}", role.name);
    }
    let kinds = manifests().flat_map(|(_, documents)| documents).map(|object| object["kind"].clone());
    let roles = kinds.filter(|kind| kind == "ClusterRole" || kind == "Role").count();
    assert_eq!(roles, ROLES.len(), "a role that no code stands behind");
}

#[test]
fn each_role_is_bound_to_the_daemon_by_its_component_alone() {
    let account = document("base/service-account.yaml");
    for role in ROLES {
        let binding = document(&format!("components/{}/binding.yaml", role.name));
        assert_eq!(binding["roleRef"]["name"], format!("conductor-loop-{}", role.name));
        let subjects = binding["subjects"].as_array().unwrap();
        assert_eq!(subjects.len(), 1);
        for part in ["name", "namespace"] {
            assert_eq!(subjects[0][part], account["metadata"][part]);
        }
    }
    let bindings = manifests().filter(|(path, _)| path.ends_with("binding.yaml")).count();
    assert_eq!(bindings, ROLES.len());
    assert!(documents_of("base").iter().all(|object| !object["kind"].as_str().unwrap().ends_with("Binding")));
}

fn documents_of(dir: &str) -> Vec<Value> {
    let root = Path::new(ROOT).join(dir);
    manifests().filter(|(path, _)| path.starts_with(&root)).flat_map(|(_, documents)| documents).collect()
}

fn definition() -> Value {
    document("base/networkintents.yaml")
}

#[test]
fn the_kind_is_the_one_that_the_sink_writes() {
    let definition = definition();
    let spec = &definition["spec"];
    assert_eq!(definition["metadata"]["name"], format!("{RESOURCE}.{GROUP}"));
    assert_eq!((&spec["group"], &spec["scope"]), (&json!(GROUP), &json!("Namespaced")));
    assert_eq!((&spec["names"]["kind"], &spec["names"]["plural"]), (&json!(KIND), &json!(RESOURCE)));
    let versions = spec["versions"].as_array().unwrap();
    assert_eq!((versions.len(), &versions[0]["name"]), (1, &json!(VERSION)));
    assert_eq!(versions[0]["subresources"], json!({ "status": {} }));
}

/// A structural schema says the type of every value that it names (the server refuses others).
fn is_structural(schema: &Value, at: &str, faults: &mut Vec<String>) {
    match schema["type"].as_str() {
        Some("object") => {
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                is_structural(property, &format!("{at}.{name}"), faults);
            }
        }
        Some("array") => is_structural(&schema["items"], &format!("{at}[]"), faults),
        Some(_) => {}
        None => faults.push(format!("{at} has no type")),
    }
}

#[test]
fn the_schema_is_structural_and_columns_point_into_it() {
    let definition = definition();
    let version = &definition["spec"]["versions"][0];
    let schema = &version["schema"]["openAPIV3Schema"];
    let mut faults = Vec::new();
    is_structural(schema, "", &mut faults);
    assert!(faults.is_empty(), "{faults:?}");
    for column in version["additionalPrinterColumns"].as_array().unwrap() {
        let path = column["jsonPath"].as_str().unwrap();
        let mut at = schema;
        for step in path.split('[').next().unwrap().split('.').skip(1) {
            at = &at["properties"][step];
            assert!(at.is_object() || path == ".metadata.creationTimestamp", "{path}");
        }
    }
}

fn written(intent_type: IntentType, kind: TargetKind, replicas: Option<u32>) -> Value {
    let intent = Intent {
        intent_type,
        target: Target { namespace: "ran-a".into(), kind, name: "n".repeat(63).into() },
        replicas,
        priority: 5,
        valid_until: None,
        fields: vec![("reason".into(), "load".into()), ("correlation_id".into(), "c".into())],
    };
    let sha = Sha::of(b"bytes");
    let delivery = Delivery {
        id: Id(7),
        sha: &sha,
        name: "intent-1.json",
        generation: 0,
        attempt: 1,
        doubtful: false,
        intent: &intent,
        file: None,
    };
    let key = delivery.key(SinkKind::NetworkIntent, DedupScope::NameAndContent);
    serde_json::to_value(NetworkIntent::of(&delivery, &key)).unwrap()
}

#[test]
fn the_schema_takes_everything_that_the_sink_writes_whole() {
    use IntentType::{Configuration, Deployment, Scaling, Service};
    let mut schema = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    // What a schema does not name the server drops: the spec must name all.
    schema["properties"]["spec"]["additionalProperties"] = json!(false);
    let schema = jsonschema::draft202012::new(&schema).unwrap();
    let workloads = [TargetKind::Deployment, TargetKind::Statefulset, TargetKind::Daemonset];
    for intent_type in [Scaling, Deployment, Configuration, Service] {
        for kind in workloads.into_iter().chain([TargetKind::Service, TargetKind::Configuration]) {
            for replicas in [None, Some(0), Some(100)] {
                let object = written(intent_type, kind, replicas);
                let faults: Vec<String> = schema.iter_errors(&object).map(|err| err.to_string()).collect();
                assert!(faults.is_empty(), "{object:#}: {faults:?}");
            }
        }
    }
    let mut bad = written(Scaling, TargetKind::Deployment, Some(1));
    bad["spec"]["replicas"] = json!(-1);
    assert!(!schema.is_valid(&bad));
}

#[test]
fn kustomize_builds_every_overlay() {
    if let Err(err) = Command::new("kubectl").args(["version", "--client"]).output() {
        panic!("kubectl is needed, for only kustomize knows whether it can build an overlay: {err}");
    }
    for dir in ["base", "overlays/in-cluster"] {
        let output = Command::new("kubectl").args(["kustomize", &format!("{ROOT}/{dir}")]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let built: Vec<Value> =
            serde_saphyr::from_multiple(&String::from_utf8(output.stdout).unwrap()).unwrap();
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for object in &built {
            *kinds.entry(object["kind"].as_str().unwrap()).or_default() += 1;
            let labels = &object["metadata"]["labels"];
            assert_eq!(labels["app.kubernetes.io/version"], env!("CARGO_PKG_VERSION"), "{object:#}");
        }
        assert_eq!(kinds["ClusterRole"], ROLES.len());
        assert_eq!(kinds.contains_key("ClusterRoleBinding"), dir != "base");
    }
}
