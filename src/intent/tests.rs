//! The rules as data (`tests/cases/intent`), the generated extremes, and the property tests beside.

mod agreement;
mod robustness;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::*;

fn parse_with(rules: Rules, raw: &[u8]) -> Result<Intent, Refusal> {
    Parser::new(Arc::new(rules)).parse(raw)
}

fn parse(raw: impl AsRef<[u8]>) -> Result<Intent, Refusal> {
    parse_with(Rules::default(), raw.as_ref())
}

fn refusal(raw: impl AsRef<[u8]>) -> Refusal {
    parse(raw).expect_err("refused")
}

fn flat(extra: &str) -> String {
    format!(r#"{{"intent_type":"scaling","target":"odu","namespace":"ran","replicas":5{extra}}}"#)
}

/// Unoptimised builds on a shared machine get ten times as long.
fn within(limit: Duration, act: impl FnOnce()) {
    let start = Instant::now();
    act();
    let limit = limit * if cfg!(debug_assertions) { 10 } else { 1 };
    assert!(start.elapsed() < limit, "{:?} is over {limit:?}", start.elapsed());
}

#[derive(Deserialize)]
struct Table {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    file: String,
    reason: Option<String>,
    path: Option<String>,
    line: Option<u32>,
    column: Option<u32>,
    message: Option<String>,
    errors: Option<usize>,
    r#type: Option<String>,
    target: Option<String>,
    replicas: Option<u32>,
    priority: Option<u8>,
}

fn cases() -> (PathBuf, Vec<Case>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/intent");
    let table = std::fs::read_to_string(folder.join("cases.toml")).expect("the table");
    let table: Table = toml::from_str(&table).expect("the table is TOML");
    (folder, table.case)
}

impl Case {
    fn differs(&self, outcome: &Result<Intent, Refusal>) -> Option<String> {
        let mut wrong = String::new();
        let mut same = |what: &str, holds: bool| {
            if !holds {
                let _ = write!(wrong, "{what} ");
            }
        };
        match outcome {
            Ok(intent) => {
                same("reason", self.reason.is_none());
                same("type", self.r#type.as_deref().is_none_or(|word| word == intent.intent_type.as_str()));
                same(
                    "target",
                    self.target.as_ref().is_none_or(|target| *target == intent.target.to_string()),
                );
                same("replicas", self.r#type.is_none() || self.replicas == intent.replicas);
                same("priority", self.priority.is_none_or(|priority| priority == intent.priority));
            }
            Err(Refusal { reason, errors }) => {
                let first = errors.first().expect("every refusal has a fault");
                same("reason", self.reason.as_deref() == Some(reason.as_str()));
                same("path", self.path.as_ref().is_none_or(|path| *path == first.path));
                same("line", self.line.is_none_or(|line| first.line == Some(line)));
                same("column", self.column.is_none_or(|column| first.column == Some(column)));
                same("message", self.message.as_ref().is_none_or(|part| first.message.contains(part)));
                same("errors", self.errors.is_none_or(|count| count == errors.len()));
                same("a place", errors.iter().all(|error| error.line.is_some() && error.column.is_some()));
            }
        }
        (!wrong.is_empty()).then(|| format!("{}: {wrong}in {outcome:?}", self.file))
    }
}

#[test]
fn every_file_beside_the_table_ends_as_the_table_says() {
    let (folder, cases) = cases();
    let mut parser = Parser::new(Arc::default());
    let mut wrong = Vec::new();
    for case in &cases {
        let raw = std::fs::read(folder.join(&case.file)).expect("the file of a case");
        wrong.extend(case.differs(&parser.parse(&raw)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let files = std::fs::read_dir(&folder).expect("the folder").count();
    assert_eq!(files, cases.len() + 1, "files without a case");
}

#[test]
fn fields_are_the_parsed_values_in_document_order() {
    let intent = parse(
        br#"{ "namespace": "ran", "reason": "a\u00e9\n\"b\"", "intent_type": "scaling", "replicas": 5,
              "target": "odu", "nephio_context": { "k\"1": [ 1, -2, 1.5, true, null, "x\ty" ], "e": {} } }"#,
    )
    .expect("valid");
    let fields: Vec<(&str, &str)> = intent.fields.iter().map(|(key, value)| (&**key, &**value)).collect();
    assert_eq!(
        fields,
        [
            ("namespace", "ran"),
            ("reason", "aé\n\"b\""),
            ("intent_type", "scaling"),
            ("replicas", "5"),
            ("target", "odu"),
            ("nephio_context", r#"{"k\"1":[1,-2,1.5,true,null,"x\ty"],"e":{}}"#),
        ]
    );
}

#[test]
fn the_input_is_not_changed() {
    let raw = flat(r#","reason":"\u0041\n""#).into_bytes();
    let before = raw.clone();
    parse(&raw).expect("valid");
    assert_eq!(raw, before);
}

#[test]
fn a_deadline_is_read_and_not_judged() {
    let intent = parse(flat(r#","valid_until":"1999-01-01T00:00:00Z""#)).expect("valid");
    assert_eq!(intent.valid_until, Wall::parse("1999-01-01T00:00:00Z"));
}

#[test]
fn unknown_fields_are_dropped_where_they_are_ignored() {
    let rules = Rules { ignore_unknown: true, ..Rules::default() };
    let intent = parse_with(rules.clone(), flat(r#","foo":{"a":[1]}"#).as_bytes()).expect("valid");
    assert!(intent.fields.iter().all(|(key, _)| &**key != "foo"));
    assert_eq!(intent.fields.len(), 4);
    let twice = parse_with(rules, flat(r#","foo":1,"foo":2"#).as_bytes()).expect_err("refused");
    assert_eq!(twice.reason, Reason::JsonDuplicateKey);
}

#[test]
fn extra_members_of_the_other_styles_are_kept() {
    let intent = parse(r#"{"apiVersion":"v1","kind":"ScalingIntent","metadata":{"name":"a"},"status":{}}"#);
    assert_eq!(intent.expect("valid").fields.len(), 4);
}

#[test]
fn the_sites_policy_comes_last_and_lists_all_it_forbids() {
    let rules = Rules {
        namespaces: vec!["core".into()],
        kinds: vec![TargetKind::Statefulset],
        max_replicas: 4,
        ..Rules::default()
    };
    let refusal = parse_with(rules.clone(), flat("").as_bytes()).expect_err("refused");
    assert_eq!(refusal.reason, Reason::Policy);
    let paths: Vec<&str> = refusal.errors.iter().map(|error| &*error.path).collect();
    assert_eq!(paths, ["/namespace", "/target", "/replicas"]);
    let refusal = parse_with(rules, flat(r#","source":"robot""#).as_bytes()).expect_err("refused");
    assert_eq!(refusal.reason, Reason::BadField);
}

#[test]
fn a_policy_holds_for_a_namespace_that_is_not_written() {
    let rules = Rules { namespaces: vec!["core".into()], ..Rules::default() };
    let raw = br#"{"apiVersion":"v1","kind":"ScalingIntent","metadata":{"name":"a"}}"#;
    let refusal = parse_with(rules, raw).expect_err("refused");
    assert_eq!(refusal.to_string(), "metadata/namespace \"default\" is not allowed here (policy.namespaces)");
}

#[test]
fn a_refusal_reads_as_one_line() {
    let refusal = refusal(include_bytes!("../../config/intents/intent-wrong-type.json"));
    assert_eq!(refusal.to_string(), r#"line 5 column 15: replicas "three" is not an integer"#);
    let two = self::refusal(r#"{"intent_type":"scaling","target":"a","foo":1,"replicas":2}"#);
    assert_eq!(two.to_string(), r#"line 1 column 39: unknown field "foo" (and 1 more)"#);
}

#[test]
fn text_of_the_document_is_shown_escaped_and_cut() {
    let name = format!("\u{202e}\u{7f}\u{200b}{}", "x".repeat(1000));
    let refusal = refusal(flat(&format!(r#","{name}":1,"source":"{name}""#)));
    let shown = refusal.to_string();
    assert!(shown.contains(r"\u{202e}\u{7f}\u{200b}xxx"), "{shown}");
    assert!(shown.len() < 500 && !shown.chars().any(char::is_control), "{shown}");
}

#[test]
fn only_empty_and_cut_off_documents_may_be_unfinished() {
    assert!(refusal("").may_be_unfinished());
    assert!(refusal(r#"{"a":"#).may_be_unfinished());
    assert!(!refusal(r#"{"a"}"#).may_be_unfinished());
    assert!(!refusal("{}").may_be_unfinished());
}

#[test]
fn a_hundred_thousand_brackets_end_in_constant_stack() {
    let small = std::thread::Builder::new().stack_size(64 << 10);
    let deep = || {
        for raw in ["[".repeat(100_000), "{\"a\":".repeat(100_000)] {
            within(Duration::from_millis(50), || assert_eq!(refusal(&raw).reason, Reason::JsonDepth));
        }
    };
    small.spawn(deep).expect("a thread").join().expect("no overflow");
}

#[test]
fn floods_are_refused_in_bounded_time() {
    let distinct: String = (0..90_000).map(|n| format!(r#""k{n}":1,"#)).collect();
    let elements = "1,".repeat(500_000);
    let escaped: String = (0..40_000).map(|n| format!(r#""\u0061{n}":1,"#)).collect();
    let long = "x".repeat(1 << 20);
    for raw in [
        format!("{{{distinct}\"z\":1}}"),
        format!("{{\"a\":[{elements}1]}}"),
        format!("{{{escaped}\"z\":1}}"),
        format!(r#"{{"a":"{long}"}}"#),
        format!(r#"{{"{long}":1}}"#),
        format!(r#"{{"a":"{long}"#),
    ] {
        within(Duration::from_millis(200), || assert_eq!(refusal(&raw).reason, Reason::JsonLimits));
    }
}

#[test]
fn a_megabyte_of_names_is_compared_in_bounded_time_where_the_limit_allows_it() {
    let rules = Rules { max_values: u32::MAX, ..Rules::default() };
    let alike = |tail: &dyn Fn(usize) -> String| -> String {
        (0..60_000).map(|n| format!(r#""{}":1,"#, tail(n))).collect()
    };
    for (names, reason) in [
        (alike(&|n| format!("prefix{n:06}")), Reason::Schema),
        (alike(&|n| format!("{n:06}suffix")), Reason::Schema),
        (alike(&|n| format!("{:06}", n % 59_999)), Reason::JsonDuplicateKey),
        (alike(&|n| format!("\\u0061{n:06}")), Reason::Schema),
        (alike(&|_| "same".into()), Reason::JsonDuplicateKey),
    ] {
        let raw = format!("{{{names}\"z\":1}}");
        within(Duration::from_millis(200), || {
            assert_eq!(parse_with(rules.clone(), raw.as_bytes()).expect_err("refused").reason, reason);
        });
    }
}

#[test]
fn room_for_a_large_document_is_given_back() {
    let mut parser = Parser::new(Arc::default());
    let chunk = "x".repeat(60_000);
    let array: Vec<String> = (0..16).map(|_| format!("\"{chunk}\"")).collect();
    let raw = flat(&format!(r#","target_resources":[{}]"#, array.join(",")));
    parser.parse(raw.as_bytes()).expect("valid");
    assert!(parser.input.capacity() <= KEEP);
    assert!(parser.tape.0.capacity() * size_of::<Node<'_>>() <= KEEP);
    parser.parse(flat("").as_bytes()).expect("the parser still works");
}

#[test]
fn a_schema_of_the_users_is_asked_beside_the_rules() {
    let schema = r#"{"properties": {"namespace": {"pattern": "^ran-"}, "replicas": {"maximum": 3}}}"#;
    let schema = Arc::new(UserSchema::compile(schema).expect("a schema"));
    let mut parser = Parser::with_schema(Arc::default(), schema);
    let refusal = parser.parse(flat("").as_bytes()).expect_err("refused");
    assert_eq!(refusal.reason, Reason::Schema);
    let mut paths: Vec<&str> = refusal.errors.iter().map(|error| &*error.path).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/namespace", "/replicas"]);
    assert!(refusal.errors.iter().all(|error| error.line == Some(1)));
    let good = flat("").replace("ran", "ran-1").replace('5', "3");
    parser.parse(good.as_bytes()).expect("valid");
}

#[test]
fn a_schema_can_neither_fetch_nor_backtrack() {
    for (schema, part) in [
        ("{", "not JSON"),
        (r#"{"type": "nonsense"}"#, "cannot be used"),
        (r#"{"$ref": "https://example.com/other.json"}"#, "cannot be used"),
        (r#"{"$ref": "file:///etc/hostname"}"#, "cannot be used"),
        (r#"{"properties": {"a": {"pattern": "(?=a)a"}}}"#, "cannot be used"),
    ] {
        let error = UserSchema::compile(schema).expect_err(schema);
        assert!(error.contains(part), "{schema}: {error}");
    }
}

#[test]
fn the_published_schema_names_exactly_the_flat_fields() {
    let schema: serde_json::Value = serde_json::from_str(SCHEMA).expect("JSON");
    let flat = schema["$defs"]["flat"]["properties"].as_object().expect("an object");
    let mut published: Vec<&str> = flat.keys().map(String::as_str).collect();
    let mut known = super::flat::FIELDS;
    published.sort_unstable();
    known.sort_unstable();
    assert_eq!(published, known);
}

#[test]
fn the_examples_of_the_schema_and_the_sample_intents_are_valid() {
    let schema: serde_json::Value = serde_json::from_str(SCHEMA).expect("JSON");
    for example in schema["examples"].as_array().expect("examples") {
        parse(example.to_string()).expect("a valid example");
    }
    parse(include_bytes!("../../config/intents/intent-scale-odu.json")).expect("valid");
    parse(include_bytes!("../../config/intents/intent-network-amf.json")).expect("valid");
    parse(include_bytes!("../../config/intents/intent-contract-nf-sim.json")).expect("valid");
}
