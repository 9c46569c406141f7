//! How a line looks in each of the three forms.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use super::ceiling::Suppressed;
use super::level_word;
use crate::clock::Wall;
use crate::observe::escape::push_escaped;

/// The identifier in the journal.
const IDENTIFIER: &str = "conductor-loop";

/// Before the name of a field in the journal, where names of all programs meet.
const PREFIX: &str = "CONDUCTOR_";

/// One of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `12:03:04.123 INFO  delivered name=intent-7.json`
    Text { colour: bool },
    /// `{"time":"…","level":"info","message":"delivered","name":"intent-7.json","module":"…"}`
    Json,
    /// `KEY=value` lines of one datagram.
    Journal,
}

/// One event, taken apart and made safe to print.
pub(super) struct Record {
    at: Wall,
    level: Level,
    module: &'static str,
    /// File and line of the source; of this program alone.
    code: Option<(&'static str, u32)>,
    message: String,
    fields: Vec<(&'static str, Value)>,
}

/// File and line of a source of ours: those of a package are named by the paths of the machine that built it.
fn code(metadata: &'static tracing::Metadata<'static>) -> Option<(&'static str, u32)> {
    metadata.file().filter(|file| !file.starts_with('/')).zip(metadata.line())
}

impl Record {
    pub(super) fn of(event: &Event<'_>, at: Wall) -> Self {
        let metadata = event.metadata();
        let (level, module) = (*metadata.level(), metadata.target());
        let code = code(metadata);
        let mut record = Record { at, level, module, code, message: String::new(), fields: Vec::new() };
        event.record(&mut record);
        record
    }

    /// The line for lines that were left out, as loud as they were.
    pub(super) fn suppressed(what: &Suppressed, at: Wall) -> Self {
        let (level, module) = (*what.metadata.level(), what.metadata.target());
        let message = format!("suppressed {} lines of this kind", what.lines);
        let mut kind = String::with_capacity(what.kind.len());
        push_escaped(&mut kind, &what.kind);
        let mut fields = vec![("suppressed", what.lines.into())];
        match what.metadata.line() {
            Some(line) if kind.is_empty() => fields.push(("kind", format!("{module}:{line}").into())),
            _ => fields.push(("kind", kind.into())),
        }
        Record { at, level, module, code: code(what.metadata), message, fields }
    }

    fn put_text(&mut self, field: &Field, text: &str) {
        let mut safe = String::with_capacity(text.len());
        push_escaped(&mut safe, text);
        match field.name() {
            "message" => self.message = safe,
            name => self.fields.push((name, Value::String(safe))),
        }
    }

    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.fields.push((field.name(), value.into()));
    }
}

impl Visit for Record {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put_text(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_text(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put_text(field, &value.to_string());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}

impl Form {
    /// The finished line, with its line break.
    pub(super) fn line(self, record: &Record) -> String {
        match self {
            Form::Text { colour } => text(record, colour),
            Form::Json => json(record),
            Form::Journal => journal(record),
        }
    }
}

fn text(record: &Record, colour: bool) -> String {
    let millis = record.at.millis();
    let time = &millis[11..millis.len() - 1];
    let level = level_word(record.level).to_ascii_uppercase();
    let mut line = if colour {
        format!("\x1b[2m{time}\x1b[0m \x1b[{}m{level:5}\x1b[0m ", colour_of(record.level))
    } else {
        format!("{time} {level:5} ")
    };
    push_sentence(&mut line, record);
    line.push('\n');
    line
}

const fn colour_of(level: Level) -> &'static str {
    match level {
        Level::ERROR => "1;31",
        Level::WARN => "33",
        Level::INFO => "32",
        Level::DEBUG => "34",
        Level::TRACE => "35",
    }
}

/// The message, then ` key=value` for each field.
fn push_sentence(line: &mut String, record: &Record) {
    line.push_str(&record.message);
    for (name, value) in &record.fields {
        // Writing to a string cannot fail.
        let _ = match value {
            Value::String(text) if is_plain(text) => write!(line, " {name}={text}"),
            value => write!(line, " {name}={value}"),
        };
    }
}

/// Readable without quotes.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '"' || c == '=')
}

fn json(record: &Record) -> String {
    let mut object = Map::new();
    object.insert("time".to_owned(), record.at.millis().into());
    object.insert("level".to_owned(), level_word(record.level).into());
    object.insert("message".to_owned(), record.message.clone().into());
    for (name, value) in &record.fields {
        object.entry(*name).or_insert_with(|| value.clone());
    }
    object.entry("module").or_insert_with(|| record.module.into());
    let mut line = Value::Object(object).to_string();
    line.push('\n');
    line
}

/// Values have no line break left, so the short form `KEY=value` holds for all.
fn journal(record: &Record) -> String {
    let mut sentence = String::new();
    push_sentence(&mut sentence, record);
    let mut datagram = format!(
        "PRIORITY={}\nSYSLOG_IDENTIFIER={IDENTIFIER}\nMESSAGE={sentence}\n{PREFIX}MODULE={}\n",
        priority(record.level),
        record.module
    );
    if let Some((file, line)) = record.code {
        // Writing to a string cannot fail.
        let _ = write!(datagram, "CODE_FILE={file}\nCODE_LINE={line}\n");
    }
    for (name, value) in &record.fields {
        push_journal_name(&mut datagram, name);
        // Writing to a string cannot fail.
        let _ = match value {
            Value::String(text) => writeln!(datagram, "={text}"),
            value => writeln!(datagram, "={value}"),
        };
    }
    datagram
}

/// `file` as `CONDUCTOR_FILE`. The id of an intent has a name that says so among the ids of others.
fn push_journal_name(datagram: &mut String, name: &str) {
    let name = if name == "id" { "intent_id" } else { name };
    datagram.push_str(PREFIX);
    datagram
        .extend(name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }));
}

/// As syslog counts.
const fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}
