use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::fate::Id;
use crate::settle::fake::{delivered, refused, row};

const FACTS: Facts<'_> = Facts { mode: "direct", archive: None, waiting: None };

fn parsed(row: &Row) -> Value {
    serde_json::from_slice(&render(row, Wall(0), &FACTS)).unwrap()
}

#[test]
fn a_delivered_intent_reads_as_the_contract_shows() {
    let mut row = row("intent-7.json");
    row.sha = Some(Sha([0xe3; 32]));
    let wanted = format!(
        r#"{{
  "schema": "conductor-loop/status/v1",
  "id": "9f2c31aa07d14be2",
  "intent_file": "intent-7.json",
  "sha256": "{}",
  "status": "success",
  "fate": "delivered",
  "message": "delivered to folder:oran-odu/deployment-odu-high-phy revision 3",
  "proof": "rename",
  "target": {{"namespace": "oran-odu", "kind": "deployment", "name": "odu-high-phy"}},
  "sink": "folder",
  "remote": {{"name": "oran-odu/deployment-odu-high-phy", "revision": "3", "lifecycle": "Published"}},
  "attempts": 1,
  "retry_count": 0,
  "timestamp": "2026-11-21T08:00:00Z",
  "accepted_at": "2026-11-21T08:00:00.123Z",
  "finished_at": "2026-11-21T08:00:00.131Z",
  "processing_duration_ms": 7.5,
  "processed_by": "conductor-loop",
  "worker_id": "worker-2",
  "mode": "direct",
  "archive": "original"
}}
"#,
        "e3".repeat(32)
    );
    let facts = Facts { archive: Some(Kept::Original), ..FACTS };
    assert_eq!(String::from_utf8(render(&row, Wall(0), &facts)).unwrap(), wanted);
}

#[test]
fn the_line_is_the_same_document() {
    let line = render_line(&row("intent-7.json"), Wall(0), &FACTS);
    assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
    assert!(line.starts_with(b"{\"schema\":\"conductor-loop/status/v1\",\"id\":"));
    assert_eq!(serde_json::from_slice::<Value>(&line).unwrap(), parsed(&row("intent-7.json")));
}

#[test]
fn a_refused_file_that_was_not_read_has_no_made_up_facts() {
    let mut row = row("intent-7.json");
    (row.sha, row.proof, row.target) = (None, None, None);
    row.end = Some(refused(Reason::Symlink));
    let document = parsed(&row);
    assert_eq!((&document["status"], &document["fate"]), (&"failed".into(), &"refused".into()));
    assert_eq!(document["reason"], "symlink");
    for absent in
        ["sha256", "proof", "target", "sink", "remote", "attempts", "retry_count", "errors", "archive"]
    {
        assert!(document.get(absent).is_none(), "{absent}");
    }
}

#[test]
fn faults_of_the_document_are_listed_up_to_ten() {
    let mut row = row("intent-7.json");
    let fault = FieldError {
        path: "/replicas".into(),
        line: Some(5),
        column: Some(15),
        message: "\"three\" is not an integer".into(),
    };
    row.end = Some(End { errors: vec![fault; 12], ..refused(Reason::JsonNumber) });
    let text = String::from_utf8(render(&row, Wall(0), &FACTS)).unwrap();
    let first = r#"{"path": "/replicas", "line": 5, "column": 15, "message": "\"three\" is not an integer"}"#;
    assert!(text.contains(&format!("\"errors\": [{first}, {first}")));
    assert_eq!(parsed(&row)["errors"].as_array().unwrap().len(), 10);
}

#[test]
fn the_related_intent_is_named_by_the_fate() {
    let mut row = row("intent-7.json");
    for (fate, key) in [(Fate::Duplicate, "duplicate_of"), (Fate::Superseded, "superseded_by")] {
        row.end = Some(End { fate, related: Some(Id(1)), remote: None, sink: None, ..delivered() });
        assert_eq!(parsed(&row)[key], "0000000000000001");
        assert_eq!(parsed(&row)["status"], "success");
    }
}

#[test]
fn an_object_found_already_there_is_adopted() {
    let mut row = row("intent-7.json");
    if let Some(remote) = row.end.as_mut().and_then(|end| end.remote.as_mut()) {
        remote.adopted = true;
    }
    assert_eq!(parsed(&row)["adopted"], true);
}

#[test]
fn a_pending_intent_says_why_and_when() {
    let mut row = row("intent-7.json");
    row.end = None;
    let waiting = Waiting {
        reason: Reason::SinkUnavailable,
        message: "connection refused",
        attempts: 3,
        next_attempt_at: Some(Wall(1_500_000_000)),
    };
    let now = Wall(2_000_000_000);
    let document: Value =
        serde_json::from_slice(&render(&row, now, &Facts { waiting: Some(waiting), ..FACTS })).unwrap();
    assert_eq!((&document["status"], &document["fate"]), (&"pending".into(), &"pending".into()));
    assert_eq!(document["reason"], "sink-unavailable");
    assert_eq!((document["attempts"].as_u64(), document["retry_count"].as_u64()), (Some(3), Some(2)));
    assert_eq!(document["next_attempt_at"], "1970-01-01T00:00:01.500Z");
    assert_eq!(document["timestamp"], "1970-01-01T00:00:02Z");
    assert!(document.get("finished_at").is_none());
}

#[test]
fn the_file_name_carries_name_second_and_id() {
    assert_eq!(file_name(&row("intent-1.json")), "intent-1.json-20261121-080000-9f2c31aa.status");
    assert_eq!(file_name(&row("a/b/intent-1.json")), "intent-1.json-20261121-080000-9f2c31aa.status");
}

#[test]
fn a_long_name_is_cut_between_characters() {
    let name = format!("intent-{}.json", "ü".repeat(120));
    let cut = file_name(&row(&name)).into_string().unwrap();
    assert_eq!(cut, format!("intent-{}-20261121-080000-9f2c31aa.status", "ü".repeat(96)));
}

#[test]
fn the_longest_document_stays_below_its_limit() {
    let mut row = row(&"\u{1}".repeat(4096));
    let long = "\u{1}".repeat(100_000);
    let fault = FieldError {
        path: long.clone(),
        line: Some(u32::MAX),
        column: Some(u32::MAX),
        message: long.clone(),
    };
    let end = row.end.as_mut().unwrap();
    end.errors = vec![fault; 10];
    end.message.clone_from(&long);
    end.remote.as_mut().unwrap().name = long;
    assert!(render(&row, Wall(0), &FACTS).len() <= 262_144);
}

proptest! {
    #[test]
    fn any_text_survives_the_document(name in "[^/\0]{1,80}", message in ".{0,200}", path in ".{0,50}") {
        let mut row = row(&name);
        let fault = FieldError { path: path.clone(), line: None, column: None, message: message.clone() };
        row.end = Some(End { message: message.clone(), errors: vec![fault], ..refused(Reason::Schema) });
        let document = parsed(&row);
        prop_assert_eq!(document["intent_file"].as_str(), Some(&*name));
        prop_assert_eq!(document["message"].as_str(), Some(&*message));
        prop_assert_eq!(document["errors"][0]["path"].as_str(), Some(&*path));
    }

    #[test]
    fn a_cut_is_text_and_never_longer(text in ".{0,60}", limit in 4usize..40) {
        let cut = cut_str(&text, limit);
        prop_assert!(cut.len() <= limit && text.starts_with(cut));
        prop_assert!(cut.len() == text.len() || cut.len() + 4 > limit);
    }
}
