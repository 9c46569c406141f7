//! Documents that are wrong: J01 to J11 and J13.
//!
//! Each shows the exact reason, the bytes kept in `failed/` with an error log, and the next good file
//! delivered. Where several faults hold, the reason is the first of encoding, depth and limits, syntax,
//! duplicate key, `schema`, `json-number`, `bad-field`, `policy`.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::support::{Place, intent, scale};

/// Most milliseconds from sighting to outcome for one hostile document; a debug build is slower.
const HOSTILE_MS: f64 = if cfg!(debug_assertions) { 2_000.0 } else { 200.0 };

/// A flat intent with one member's value written as given.
fn with(member: &str, value: &str) -> Vec<u8> {
    let defaults = [
        ("intent_type", "\"scaling\""),
        ("target", "\"odu\""),
        ("namespace", "\"ran-a\""),
        ("replicas", "3"),
    ];
    let mut members: Vec<String> = defaults
        .iter()
        .filter(|(name, _)| *name != member)
        .map(|(name, default)| format!("\"{name}\": {default}"))
        .collect();
    members.push(format!("\"{member}\": {value}"));
    format!("{{{}}}", members.join(", ")).into_bytes()
}

/// Drops every case on one daemon and checks its refusal; the status documents, in the same order.
#[track_caller]
fn refuses(code: &str, reason: &str, settings: &str, cases: &[(&str, Vec<u8>)]) -> Vec<Value> {
    let place = Place::new();
    let file = place.settings(settings);
    let node = place.node().with(&["--config", &file]).start();
    let mut told = Vec::new();
    for (label, bytes) in cases {
        let name = format!("intent-{code}-{label}.json");
        place.rename_in(&name, bytes);
        let status = place.settled(&name);
        assert_eq!(status["fate"], "refused", "{label}: {status:#}");
        assert_eq!(status["reason"], reason, "{label}: {status:#}");
        assert_eq!(fs::read(place.failed(&name)).unwrap(), *bytes, "{label}: the bytes are kept");
        let log = fs::read_to_string(place.failed(&format!("{name}.error.log"))).unwrap();
        let error = log.lines().find(|line| line.starts_with("Error: Validation failed: "));
        assert!(error.is_some() && log.starts_with("File: /"), "{label}: {log}");
        assert!(log.lines().any(|line| line.starts_with("Failed at: ")), "{label}: {log}");
        told.push(status);
    }
    place.next_good_file_is_delivered(code);
    assert_eq!(node.page().labelled("conductor_loop_refused_total", "reason", reason), cases.len() as f64);
    node.finish();
    told
}

fn errors(status: &Value) -> &[Value] {
    status["errors"].as_array().map_or(&[], Vec::as_slice)
}

#[test]
fn j01_what_is_not_json_is_refused_with_the_place_of_the_first_fault() {
    let cases = [
        ("text", b"scale odu to 3\n".to_vec()),
        ("html", b"<!DOCTYPE html>\n<html><body>504</body></html>\n".to_vec()),
        ("yaml", b"intent_type: scaling\n".to_vec()),
        ("binary", b"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00".to_vec()),
        ("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\x56\x2a\x29".to_vec()),
    ];
    let told = refuses("j01", "json-syntax", "", &cases);
    for status in &told[..3] {
        let first = &errors(status)[0];
        assert_eq!((&first["line"], &first["column"]), (&1.into(), &1.into()), "{status:#}");
    }
}

#[test]
fn j02_a_document_that_stops_in_the_middle_is_refused() {
    let whole = scale("odu", 3);
    let cuts = [1, 15, 40, whole.len() - 2];
    let cases = cuts.map(|at| whole[..at].to_vec());
    let labels = ["brace", "name", "value", "end"];
    let cases: Vec<_> = labels.into_iter().zip(cases).collect();
    refuses("j02", "truncated-json", "", &cases);
}

#[test]
fn j03_nesting_beyond_the_limit_is_refused_whatever_its_depth() {
    let nested =
        |depth: usize| with("reason", &format!("{}{}", "[".repeat(depth - 1), "]".repeat(depth - 1)));
    let cases = [
        ("33", nested(33)),
        ("100", nested(100)),
        ("objects", with("reason", &format!("{}1{}", "{\"a\":".repeat(40), "}".repeat(40)))),
        ("100000", "[".repeat(100_000).into_bytes()),
        ("closed", format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)).into_bytes()),
    ];
    for status in refuses("j03", "json-depth", "", &cases) {
        assert!(status["processing_duration_ms"].as_f64().unwrap() < HOSTILE_MS, "{status:#}");
    }
}

#[test]
fn j04_a_member_twice_is_refused_and_named() {
    let twice = |first: &str, second: &str| {
        format!(
            "{{\"intent_type\":\"scaling\",\"target\":\"odu\",\"namespace\":\"ran-a\",\"{first}\":1,\"{second}\":99}}"
        )
        .into_bytes()
    };
    let inner = with("constraints", "{\"max_replicas\": 5, \"max_replicas\": 9}");
    let cases = [
        ("plain", twice("replicas", "replicas")),
        ("escaped", twice("replicas", "\\u0072eplicas")),
        ("inner", inner),
    ];
    let told = refuses("j04", "json-duplicate-key", "", &cases);
    for (status, path) in told.iter().zip(["/replicas", "/replicas", "/constraints/max_replicas"]) {
        assert_eq!(errors(status)[0]["path"], path, "{status:#}");
    }
}

#[test]
fn j05_every_wrong_encoding_is_refused_with_words_of_its_own() {
    let plain = String::from_utf8(scale("odu", 3)).unwrap();
    let utf16 = |order: fn(u16) -> [u8; 2], mark: bool| -> Vec<u8> {
        let mark = mark.then_some(0xfeff);
        mark.into_iter().chain(plain.encode_utf16()).flat_map(order).collect()
    };
    let inside = |bytes: &[u8]| [b"{\"reason\": \"", bytes, b"\"}"].concat();
    let cases = [
        ("bom", [b"\xef\xbb\xbf", plain.as_bytes()].concat()),
        ("utf16-le", utf16(u16::to_le_bytes, true)),
        ("utf16-be", utf16(u16::to_be_bytes, true)),
        ("invalid", inside(b"\xff")),
        ("overlong", inside(b"\xc0\xaf")),
        ("surrogate", inside(b"\\ud800")),
        ("raw-surrogate", inside(b"\xed\xa0\x80")),
    ];
    let told = refuses("j05", "json-encoding", "", &cases);
    let message = |at: usize| told[at]["message"].as_str().unwrap().to_owned();
    let distinct: BTreeSet<String> = [0, 1, 3, 5].map(message).into();
    assert_eq!(
        distinct.len(),
        4,
        "BOM, UTF-16, invalid bytes and lone surrogate are told apart: {distinct:?}"
    );
}

#[test]
fn j06_numbers_that_are_no_integer_in_range_are_refused_with_field_and_range() {
    let long = "9".repeat(400);
    let values = [
        ("huge", "1e400"),
        ("i64", "9223372036854775808"),
        ("fraction", "3.0"),
        ("string", "\"3\""),
        ("negative", "-1"),
        ("minus-zero", "-0"),
        ("exponent", "1e2"),
        ("zero", "0"),
        ("over", "101"),
        ("digits", long.as_str()),
    ];
    let cases = values.map(|(label, value)| (label, with("replicas", value)));
    for status in refuses("j06", "json-number", "", &cases) {
        let error = &errors(&status)[0];
        assert_eq!(error["path"], "/replicas", "{status:#}");
        let message = error["message"].as_str().unwrap();
        let range = message.contains("from 1 to 100") || message.contains("between 1 and 100");
        assert!(range || message.ends_with("an integer"), "the allowed range or the type: {message}");
    }
}

#[test]
fn j07_what_other_parsers_let_pass_is_refused() {
    let good = String::from_utf8(scale("odu", 3)).unwrap();
    let cases = [
        ("nan", with("replicas", "NaN")),
        ("infinity", with("replicas", "Infinity")),
        ("comment", [b"// three\n", good.as_bytes()].concat()),
        ("block-comment", with("replicas", "/* three */ 3")),
        ("trailing-comma", good.replace('}', ",}").into_bytes()),
        ("single-quotes", good.replace('"', "'").into_bytes()),
        ("bare-name", good.replace("\"replicas\"", "replicas").into_bytes()),
        ("trailing-data", format!("{good}x").into_bytes()),
        ("two-documents", good.repeat(2).into_bytes()),
        ("leading-zero", with("replicas", "03")),
        ("plus", with("replicas", "+3")),
        ("control", b"{\"reason\": \"a\nb\"}".to_vec()),
    ];
    refuses("j07", "json-syntax", "", &cases);
}

#[test]
fn j08_fields_missing_unknown_null_or_of_a_wrong_type_are_all_listed() {
    let unknown: Vec<String> = (0..12).map(|at| format!("\"extra_{at}\": 1")).collect();
    let many = with("surprise", &format!("1, {}", unknown.join(", ")));
    let cases = [
        ("missing", b"{\"intent_type\": \"scaling\", \"namespace\": \"ran-a\", \"replicas\": 3}".to_vec()),
        ("unknown", with("replica", "3")),
        ("null", with("target", "null")),
        ("type", with("target", "7")),
        ("null-number", with("replicas", "null")),
        ("array", b"[1, 2]".to_vec()),
        ("several", b"{\"intent_type\": 1, \"target\": 2, \"replicas\": 3, \"surprise\": true}".to_vec()),
        ("many", many),
    ];
    let told = refuses("j08", "schema", "", &cases);
    let missing = &errors(&told[0])[0];
    assert_eq!((&missing["path"], &missing["message"]), (&"".into(), &"missing field \"target\"".into()));
    assert!(errors(&told[6]).len() >= 4, "all faults are listed: {:#}", told[6]);
    assert_eq!(errors(&told[7]).len(), 10, "at most ten: {:#}", told[7]);
}

#[test]
fn j09_floods_of_keys_and_endless_strings_cost_little() {
    let keys: Vec<String> = (0..60_000).map(|at| format!("\"k{at:07}\":1")).collect();
    let floods: Vec<String> = (0..40_000).map(|at| format!("\"{}{at}\":0", "a".repeat(at % 7))).collect();
    let cases = [
        ("keys", format!("{{{}}}", keys.join(",")).into_bytes()),
        ("flood", format!("{{{}}}", floods.join(",")).into_bytes()),
        ("values", with("reason", &format!("[{}]", vec!["1"; 300_000].join(",")))),
        ("string", with("target", &format!("\"{}\"", "a".repeat(1_000_000)))),
    ];
    for status in refuses("j09", "json-limits", "", &cases) {
        assert!(status["processing_duration_ms"].as_f64().unwrap() < HOSTILE_MS, "{status:#}");
        assert!(status.to_string().len() < 8_192, "the status stays small");
    }
}

#[test]
fn j10_names_that_are_no_labels_are_refused_not_cleaned() {
    let values = [
        ("traversal", "../../etc/passwd"),
        ("shell", "odu; rm -rf /"),
        ("flag", "--flag"),
        ("newline", "odu\\nodu"),
        ("upper", "Odu"),
        ("bidi", "od\\u202eu"),
        ("empty", ""),
        ("slashes", "a/b/c"),
        ("kind", "pod/odu"),
        ("dot", "."),
    ];
    let mut cases: Vec<(String, Vec<u8>)> = Vec::new();
    for (label, value) in values {
        for member in ["target", "namespace"] {
            cases.push((format!("{member}-{label}"), with(member, &format!("\"{value}\""))));
        }
    }
    cases.push(("long".into(), with("target", &format!("\"{}\"", "a".repeat(300)))));
    cases.push(("64".into(), with("namespace", &format!("\"{}\"", "a".repeat(64)))));
    let cases: Vec<_> = cases.iter().map(|(label, bytes)| (label.as_str(), bytes.clone())).collect();
    for status in refuses("j10", "bad-field", "", &cases) {
        let path = errors(&status)[0]["path"].as_str().unwrap();
        assert!(path == "/target" || path == "/namespace", "{status:#}");
    }
}

#[test]
fn j11_what_the_site_or_the_intent_forbids_is_refused() {
    let site = "[policy]\nnamespaces = [\"ran-a\", \"ran-b\"]\nkinds = [\"deployment\"]\nmax_replicas = 10\n";
    let cases = [
        ("namespace", intent("core", "odu", 3)),
        ("replicas", intent("ran-a", "odu", 11)),
        ("kind", intent("ran-a", "statefulset/odu", 3)),
        ("own-max", with("constraints", "{\"max_replicas\": 2}")),
        ("own-min", with("constraints", "{\"min_replicas\": 4}")),
        ("own-namespaces", with("constraints", "{\"allowed_namespaces\": [\"ran-b\"]}")),
    ];
    refuses("j11", "policy", site, &cases);
}

#[test]
fn j13_an_identical_re_drop_of_one_name_is_a_duplicate_of_the_first() {
    let place = Place::new();
    let node = place.node().start();
    let name = "intent-same.json";
    place.rename_in(name, &scale("same", 3));
    let first = place.settled(name);
    for times in 2..=3 {
        place.rename_in(name, &scale("same", 3));
        let ends = place.settled_times(name, times);
        let again: Vec<_> = ends.iter().filter(|status| status["fate"] == "duplicate").collect();
        assert_eq!(again.len(), times - 1, "{ends:#?}");
        assert!(again.iter().all(|status| status["duplicate_of"] == first["id"]), "{ends:#?}");
        assert!(again.iter().all(|status| status["status"] == "success"), "{ends:#?}");
    }
    assert_eq!(place.deployment("same").revision, 1, "one effect");
    assert_eq!(place.deployment("same").intent_id, first["id"]);
    assert_eq!(place.list("processed").len(), 3, "all three are kept");
    place.next_good_file_is_delivered("j13");
    node.finish();
}
