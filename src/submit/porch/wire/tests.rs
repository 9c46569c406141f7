use std::fs;

use serde_json::Value;

use super::*;

/// The recorded exchanges of a real server (v1.5.8).
fn recorded() -> Vec<Value> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases/porch");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let exchanges = files.filter(|path| path.extension().is_some_and(|ext| ext == "jsonl"));
    let texts: Vec<String> = exchanges.map(|path| fs::read_to_string(path).unwrap()).collect();
    texts.iter().flat_map(|text| text.lines()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Whole answers of this kind.
fn answers(kind: &str) -> Vec<Value> {
    let all = recorded().into_iter().map(|mut exchange| exchange["response"].take());
    all.filter(|answer| answer["kind"] == kind && answer["apiVersion"] == VERSION).collect()
}

fn revision(json: Value) -> Result<Option<Revision>, Fault> {
    serde_json::from_value::<PackageRevision>(json).expect("any object is taken").revision()
}

#[test]
fn every_recorded_revision_is_understood() {
    let mut seen = [0; 2];
    for answer in answers("PackageRevision") {
        let (name, number) = (answer["metadata"]["name"].clone(), answer["spec"]["revision"].clone());
        match revision(answer.clone()).unwrap_or_else(|fault| panic!("{fault}: {answer}")) {
            Some(found) => {
                assert_eq!(name, found.name);
                assert_eq!(number.as_i64().unwrap_or(0), found.number, "{answer}");
                assert_eq!(
                    found.number > 0,
                    matches!(found.stage, Stage::Published | Stage::DeletionProposed),
                    "{answer}"
                );
                assert_eq!(answer["metadata"]["resourceVersion"], found.version);
                seen[0] += 1;
            }
            None => {
                assert_eq!(number, -1, "{answer}");
                seen[1] += 1;
            }
        }
    }
    assert!(seen[0] > 50 && seen[1] > 0, "revisions and placeholders: {seen:?}");
}

#[test]
fn every_recorded_file_map_is_understood() {
    let found = answers("PackageRevisionResources");
    for answer in &found {
        let name = answer["metadata"]["name"].as_str().unwrap();
        let read: PackageFiles = serde_json::from_value(answer.clone()).unwrap();
        let files = read.files(name).unwrap();
        assert_eq!(files.texts.len(), answer["spec"]["resources"].as_object().map_or(0, |map| map.len()));
        assert_eq!(files.render_error, "", "{answer}");
    }
    assert!(found.len() > 20, "{}", found.len());
}

#[test]
fn every_recorded_refusal_has_a_message() {
    let mut seen = 0;
    for exchange in recorded() {
        let code = exchange["status"].as_u64().unwrap();
        if code >= 400 && exchange["response"].is_object() {
            let body = exchange["response"].to_string();
            let told = Status::read(body.as_bytes());
            assert!(told.is_status && !told.message.is_empty(), "{body}");
            seen += 1;
        }
    }
    assert!(seen > 80, "{seen}");
}

#[test]
fn absent_null_and_empty_are_one() {
    let least = json!({"metadata": {"name": "r.p.w", "resourceVersion": "1"}, "spec": {"packageName": "p"}});
    let nulls = json!({
        "metadata": {"name": "r.p.w", "resourceVersion": "1", "labels": null, "creationTimestamp": null},
        "spec": {"packageName": "p", "lifecycle": "", "revision": null, "readinessGates": null,
            "packageMetadata": {"annotations": null}, "tasks": 7},
        "status": {"conditions": null, "publishTimestamp": null, "upstreamLock": {}},
        "later": [1, 2],
    });
    let found = revision(least).unwrap().unwrap();
    assert_eq!(found.stage, Stage::Draft);
    assert_eq!(revision(nulls).unwrap().unwrap(), found);
}

#[test]
fn a_gate_is_met_by_its_condition_alone() {
    let with = |status: &str| {
        json!({"metadata": {"name": "r.p.w", "resourceVersion": "1"},
            "spec": {"packageName": "p", "readinessGates": [{"conditionType": "a"}, {"conditionType": "b"}]},
            "status": {"conditions": [{"type": "a", "status": "True"}, {"type": "b", "status": status}]}})
    };
    let unmet = |status| revision(with(status)).unwrap().unwrap().unmet_gates;
    assert_eq!(unmet("True"), [""; 0]);
    assert_eq!(unmet("False"), ["b"]);
    assert_eq!(unmet("Unknown"), ["b"]);
}

#[test]
fn what_is_no_revision_or_in_an_unknown_lifecycle_is_no_answer() {
    for wrong in [
        json!({}),
        json!({"kind": "Status", "message": "gone"}),
        json!({"metadata": {"name": "r.p.w"}, "spec": {"packageName": "p"}}),
        json!({"metadata": {"name": "r.p.w", "resourceVersion": "1"},
            "spec": {"packageName": "p", "lifecycle": "Approved"}}),
    ] {
        assert_eq!(revision(wrong.clone()).unwrap_err().class, Class::Protocol, "{wrong}");
    }
}

#[test]
fn a_list_is_of_the_package_that_was_asked_for_and_says_that_it_is_one() {
    let item = |package: &str| {
        json!({"metadata": {"name": format!("r.{package}.w"), "resourceVersion": "1"},
            "spec": {"repository": "r", "packageName": package, "workspaceName": "w"}})
    };
    let list = |json: Value| serde_json::from_value::<PackageRevisions>(json).unwrap().revisions("r", "p");
    let of = |items: Value| json!({"kind": "PackageRevisionList", "metadata": {}, "items": items});
    assert_eq!(list(of(json!(null))).unwrap(), []);
    assert_eq!(list(of(json!([item("p")]))).unwrap().len(), 1);
    for wrong in [of(json!([item("p"), item("q")])), json!({}), json!({"kind": "Status", "items": []})] {
        assert_eq!(list(wrong.clone()).unwrap_err().class, Class::Protocol, "{wrong}");
    }
}

#[test]
fn only_error_makes_a_repository_unusable() {
    let state = |status: &str, reason: &str| {
        let json = json!({"metadata": {"name": "edge"}, "spec": {"git": {"repo": "https://git/edge"}},
            "status": {"conditions": [{"type": "Ready", "status": status, "reason": reason, "message": "m"}]}});
        serde_json::from_value::<Repository>(json).unwrap().state("edge").unwrap()
    };
    assert_eq!(state("True", "Ready").broken, None);
    assert_eq!(state("False", "Reconciling").broken, None);
    assert_eq!(state("False", "Error").broken.as_deref(), Some("m"));
    assert_eq!(state("True", "Ready").branch, "main");
}

#[test]
fn a_repository_of_the_next_version_and_another_object_are_told_apart() {
    let read = |json: Value| serde_json::from_value::<Repository>(json).unwrap().state("edge");
    let moved = json!({"metadata": {"name": "edge", "annotations": {MIGRATION: "true"}}});
    assert_eq!(read(moved).unwrap_err().class, Class::Migrated);
    assert_eq!(read(json!({"metadata": {"name": "other"}})).unwrap_err().class, Class::Protocol);
}

#[test]
fn an_error_answer_is_read_whatever_it_is() {
    let status = br#"{"kind": "Status", "message": "slow down", "details": {"retryAfterSeconds": 3}}"#;
    let told = Status::read(status);
    assert_eq!((told.message.as_str(), told.retry_after, told.is_status), ("slow down", Some(3), true));
    for body in [&b"<html>502 Bad Gateway</html>"[..], b"", b"\xff\xfe", br#"{"message": "cut"#, b"[]", b"{}"]
    {
        let told = Status::read(body);
        assert!(!told.is_status, "{body:?}");
        assert_eq!(told.message, String::from_utf8_lossy(body));
    }
}

#[test]
fn a_draft_says_from_what_it_starts_and_a_patch_for_which_version_it_holds() {
    let origin = |origin| {
        let (package, workspace) = ("p".to_owned(), "i-1".to_owned());
        let annotations = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        draft("ns", "r", &NewDraft { package, workspace, origin, annotations })
    };
    let first = origin(Origin::Init { description: "d".to_owned() });
    assert_eq!(first["metadata"], json!({"namespace": "ns"}));
    assert_eq!(first["spec"]["tasks"], json!([{"type": "init", "init": {"description": "d"}}]));
    assert_eq!(first["spec"]["packageMetadata"]["annotations"]["a"], "b");
    let clone = origin(Origin::Clone { upstream: "c.o.v1".to_owned() });
    assert_eq!(clone["spec"]["tasks"][0]["clone"]["upstreamRef"]["upstreamRef"]["name"], "c.o.v1");
    let edit = origin(Origin::Edit { source: "r.p.i-0".to_owned() });
    assert_eq!(edit["spec"]["tasks"][0]["edit"]["sourceRef"]["name"], "r.p.i-0");
    let spec = json!({"lifecycle": "Proposed"});
    assert_eq!(patch("v7", spec.clone()), json!({"metadata": {"resourceVersion": "v7"}, "spec": spec}));
}
