//! `validate`: the daemon's own judgement on files before they are dropped.
//!
//! Files are read whole, at most `max_size` bytes each; nothing is written anywhere but to `out`.
//! Expiry is not judged, as in the parser.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::fate::{Reason, Sha};
use crate::intent::{FieldError, Intent, Parser, Refusal, Rules, UserSchema, visible};

/// Characters shown of a file name.
const SHOWN: usize = 256;

/// What the files came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Every file is valid: exit 0.
    AllValid,
    /// None is invalid, at least one could not be read: exit 1.
    Unreadable,
    /// At least one is invalid: exit 8.
    SomeInvalid,
}

impl Verdict {
    /// The process exit code.
    pub const fn code(self) -> u8 {
        match self {
            Verdict::AllValid => 0,
            Verdict::Unreadable => 1,
            Verdict::SomeInvalid => 8,
        }
    }
}

/// What became of one file.
pub(super) struct Judgement {
    file: String,
    /// What was read; nothing if it could not be.
    pub(super) raw: Vec<u8>,
    pub(super) sha: Option<Sha>,
    outcome: Result<Intent, Refusal>,
}

/// Judges `files` (`-` is `stdin`) and writes one line a file, or one JSON array, to `out`.
///
/// # Errors
/// Only those of `out`; a file that cannot be read is part of the verdict.
pub fn run(
    files: &[PathBuf],
    json: bool,
    rules: Arc<Rules>,
    schema: Option<Arc<UserSchema>>,
    max_size: u64,
    stdin: &mut dyn Read,
    out: &mut dyn Write,
) -> io::Result<Verdict> {
    let mut parser = parser(rules, schema);
    let mut verdict = Verdict::AllValid;
    let mut documents = Vec::new();
    for file in files {
        let judgement = judge(&mut parser, file, max_size, stdin);
        verdict = verdict.max(judgement.verdict());
        if json {
            documents.push(judgement.document());
        } else {
            writeln!(out, "{}", judgement.line())?;
        }
    }
    if json {
        serde_json::to_writer_pretty(&mut *out, &documents)?;
        writeln!(out)?;
    }
    out.flush()?;
    Ok(verdict)
}

/// The parser of the rules in force, and of the user's own schema if there is one.
pub(super) fn parser(rules: Arc<Rules>, schema: Option<Arc<UserSchema>>) -> Parser {
    match schema {
        Some(schema) => Parser::with_schema(rules, schema),
        None => Parser::new(rules),
    }
}

/// Judges one file; `-` is `stdin`.
pub(super) fn judge(parser: &mut Parser, file: &Path, max_size: u64, stdin: &mut dyn Read) -> Judgement {
    let read = if file == Path::new("-") { read(stdin, max_size) } else { open(file, max_size) };
    let (raw, sha, outcome) = match read {
        Ok(raw) => {
            let (sha, outcome) = (Sha::of(&raw), parser.parse(&raw));
            (raw, Some(sha), outcome)
        }
        Err(refusal) => (Vec::new(), None, Err(refusal)),
    };
    Judgement { file: file.to_string_lossy().into_owned(), raw, sha, outcome }
}

/// A regular file above the limit is refused by its size, unread.
fn open(path: &Path, max_size: u64) -> Result<Vec<u8>, Refusal> {
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    let meta = file.metadata().map_err(|error| unreadable(&error))?;
    if meta.is_file() && meta.len() > max_size {
        return Err(too_large(&format!("{} bytes", meta.len()), max_size));
    }
    read(&mut &file, max_size)
}

fn read(from: &mut dyn Read, max_size: u64) -> Result<Vec<u8>, Refusal> {
    let mut raw = Vec::new();
    from.take(max_size.saturating_add(1)).read_to_end(&mut raw).map_err(|error| unreadable(&error))?;
    if raw.len() as u64 > max_size {
        return Err(too_large("input", max_size));
    }
    Ok(raw)
}

fn unreadable(error: &io::Error) -> Refusal {
    whole_file(Reason::Unreadable, format!("cannot be read: {error}"))
}

fn too_large(what: &str, max_size: u64) -> Refusal {
    whole_file(Reason::TooLarge, format!("{what} is above the limit of {max_size} bytes (intake.max_size)"))
}

fn whole_file(reason: Reason, message: String) -> Refusal {
    Refusal { reason, errors: vec![FieldError { path: String::new(), line: None, column: None, message }] }
}

impl Judgement {
    pub(super) fn verdict(&self) -> Verdict {
        match &self.outcome {
            Ok(_) => Verdict::AllValid,
            Err(refusal) if refusal.reason == Reason::Unreadable => Verdict::Unreadable,
            Err(_) => Verdict::SomeInvalid,
        }
    }

    pub(super) fn line(&self) -> String {
        let file = visible(&self.file, SHOWN);
        match &self.outcome {
            Ok(_) => format!("{file}: valid"),
            Err(refusal) if refusal.errors.first().is_some_and(|error| error.line.is_some()) => {
                format!("{file} {refusal}")
            }
            Err(refusal) => format!("{file}: {refusal}"),
        }
    }

    pub(super) fn document(&self) -> Value {
        let mut document = Map::new();
        document.insert("file".into(), visible(&self.file, SHOWN).into());
        document.insert("valid".into(), self.outcome.is_ok().into());
        if let Some(sha) = self.sha {
            document.insert("sha256".into(), sha.to_string().into());
        }
        match &self.outcome {
            Ok(intent) => {
                document.insert("intent".into(), intent_document(intent));
            }
            Err(refusal) => {
                document.insert("reason".into(), refusal.reason.as_str().into());
                document.insert("errors".into(), refusal.errors.iter().map(error_document).collect());
            }
        }
        document.into()
    }
}

fn intent_document(intent: &Intent) -> Value {
    let target = &intent.target;
    let mut document = Map::new();
    document.insert("intent_type".into(), intent.intent_type.as_str().into());
    document.insert(
        "target".into(),
        json!({"namespace": target.namespace, "kind": target.kind.as_str(), "name": target.name}),
    );
    if let Some(replicas) = intent.replicas {
        document.insert("replicas".into(), replicas.into());
    }
    document.insert("priority".into(), intent.priority.into());
    // As the document spells it: moments beyond 2262 are kept as the last one that fits.
    let deadline = intent.fields.iter().find(|(key, _)| &**key == "valid_until");
    if let Some((key, text)) = deadline.filter(|_| intent.valid_until.is_some()) {
        document.insert(key.to_string(), Value::from(&**text));
    }
    let fields: Map<String, Value> =
        intent.fields.iter().map(|(key, value)| (key.to_string(), Value::from(&**value))).collect();
    document.insert("fields".into(), fields.into());
    document.into()
}

fn error_document(error: &FieldError) -> Value {
    let mut document = Map::new();
    document.insert("path".into(), error.path.as_str().into());
    if let (Some(line), Some(column)) = (error.line, error.column) {
        document.insert("line".into(), line.into());
        document.insert("column".into(), column.into());
    }
    document.insert("message".into(), error.message.as_str().into());
    document.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[u8] = include_bytes!("../../config/intents/intent-scale-odu.json");
    const WRONG: &[u8] = include_bytes!("../../config/intents/intent-wrong-type.json");

    fn validate(files: &[PathBuf], json: bool, max_size: u64, stdin: &[u8]) -> (Verdict, String) {
        let (mut stdin, mut out) = (stdin, Vec::new());
        let verdict = run(files, json, Arc::default(), None, max_size, &mut stdin, &mut out).expect("memory");
        (verdict, String::from_utf8(out).expect("UTF-8"))
    }

    fn folder(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let folder = tempfile::tempdir().expect("a folder");
        let paths: Vec<PathBuf> = files.iter().map(|(name, _)| folder.path().join(name)).collect();
        for (path, (_, raw)) in paths.iter().zip(files) {
            std::fs::write(path, raw).expect("written");
        }
        (folder, paths)
    }

    #[test]
    fn each_file_gets_one_line() {
        let (folder, paths) = folder(&[("intent-1.json", GOOD), ("intent-7.json", WRONG)]);
        let (verdict, text) = validate(&paths, false, 1 << 20, b"");
        assert_eq!(verdict, Verdict::SomeInvalid);
        let root = folder.path().display();
        let expected = format!(
            "{root}/intent-1.json: valid\n\
             {root}/intent-7.json line 5 column 15: replicas \"three\" is not an integer\n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn json_is_one_array_without_absent_facts() {
        let (_folder, paths) = folder(&[("intent-1.json", GOOD), ("intent-7.json", WRONG)]);
        let (_, text) = validate(&paths, true, 1 << 20, b"");
        let array: Value = serde_json::from_str(&text).expect("JSON");
        let keys = |value: &Value| value.as_object().expect("object").keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&array[0]), ["file", "valid", "sha256", "intent"]);
        assert_eq!(array[0]["sha256"], Sha::of(GOOD).to_string());
        let intent = &array[0]["intent"];
        assert_eq!(keys(intent), ["intent_type", "target", "replicas", "priority", "fields"]);
        assert_eq!(
            intent["target"],
            json!({"namespace": "oran-odu", "kind": "deployment", "name": "odu-high-phy"})
        );
        assert_eq!(intent["fields"]["replicas"], "5");
        assert_eq!(keys(&array[1]), ["file", "valid", "sha256", "reason", "errors"]);
        assert_eq!(array[1]["reason"], "json-number");
        let error =
            json!({"path": "/replicas", "line": 5, "column": 15, "message": "\"three\" is not an integer"});
        assert_eq!(array[1]["errors"], json!([error]));
    }

    #[test]
    fn a_deadline_is_shown_as_it_is_written() {
        let raw =
            br#"{"intent_type":"service","target":"a","namespace":"n","valid_until":"9999-12-31T23:59:59Z"}"#;
        let (_, text) = validate(&["-".into()], true, 1 << 20, raw);
        let array: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(array[0]["intent"]["valid_until"], "9999-12-31T23:59:59Z");
        assert_eq!(array[0]["intent"].get("replicas"), None);
    }

    #[test]
    fn a_dash_reads_standard_input() {
        let (verdict, text) = validate(&["-".into()], false, 1 << 20, GOOD);
        assert_eq!((verdict, &*text), (Verdict::AllValid, "-: valid\n"));
        let limit = GOOD.len() as u64;
        assert_eq!(validate(&["-".into()], false, limit, GOOD).0, Verdict::AllValid);
        assert_eq!(validate(&["-".into()], false, limit - 1, GOOD).0, Verdict::SomeInvalid);
    }

    #[test]
    fn a_file_above_the_limit_is_refused_by_its_size() {
        let (folder, paths) = folder(&[("intent-1.json", b"")]);
        File::options().write(true).open(&paths[0]).expect("open").set_len(1 << 40).expect("sparse");
        let (verdict, text) = validate(&paths, false, 1 << 20, b"");
        assert_eq!(verdict, Verdict::SomeInvalid);
        let expected = format!(
            "{}/intent-1.json: 1099511627776 bytes is above the limit of 1048576 bytes (intake.max_size)\n",
            folder.path().display()
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told_and_does_not_hide_an_invalid_one() {
        let (folder, mut paths) = folder(&[("intent-7.json", WRONG)]);
        paths.insert(0, folder.path().join("missing\u{1b}.json"));
        let (verdict, text) = validate(&paths[..1], true, 1 << 20, b"");
        assert_eq!((verdict, verdict.code()), (Verdict::Unreadable, 1));
        let array: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(array[0]["reason"], "unreadable");
        assert_eq!(array[0].get("sha256"), None);
        let (verdict, text) = validate(&paths, false, 1 << 20, b"");
        assert_eq!((verdict, verdict.code()), (Verdict::SomeInvalid, 8));
        assert!(text.contains(r"missing\u{1b}.json: cannot be read"), "{text}");
    }
}
