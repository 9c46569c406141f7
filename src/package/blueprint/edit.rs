//! Where our values go into a blueprint's text, found line by line and proved by parsing.
//!
//! The finder knows block mappings only. Whatever it cannot see through (flow style, aliases, odd
//! indentation) either is not found, which is said, or makes an edit that does not read back as
//! wanted, which refuses the blueprint: it need not understand all of YAML to be safe.

use std::ops::Range;

use serde_json::{Map, Value};

use super::Blueprint;
use crate::fate::{Id, Sha};
use crate::intent::Target;
use crate::package::workload::{Mark, api_kind};
use crate::package::{MANAGED_BY, MANAGER, Stamp};

/// A stretch of the edited text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Copied from the blueprint.
    Text(Range<usize>),
    /// A line of ours up to its value.
    New(String),
    /// Value of the managed-by label.
    Manager,
    /// Value of an annotation.
    Value(Mark),
    /// The count.
    Replicas,
}

/// One line that may be an entry of a block mapping.
#[derive(Debug)]
struct Line<'a> {
    indent: usize,
    key: &'a str,
    /// Where the value stands in the text, without a comment behind it; empty if there is none.
    value: Range<usize>,
    /// Where the next line begins.
    end: usize,
}

/// Plans the edit of `text` and proves it.
pub(super) fn plan(mut text: String, target: &Target) -> Result<Blueprint, String> {
    let original = parse(&text)?;
    check_identity(&original, target)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let pieces = find_pieces(&text)?;
    let blueprint = Blueprint { text, pieces };
    prove(&blueprint, original)?;
    Ok(blueprint)
}

fn parse(text: &str) -> Result<Value, String> {
    serde_saphyr::from_str(text).map_err(|fault| {
        let fault = fault.to_string();
        let first = fault.lines().next().unwrap_or_default();
        format!("is not one readable YAML document: {first}")
    })
}

/// Whether it is the workload that its file name says.
fn check_identity(original: &Value, target: &Target) -> Result<(), String> {
    let expect = |pointer: &str, expected: &str| match original.pointer(pointer) {
        Some(Value::String(found)) if found == expected => Ok(()),
        Some(found) => Err(format!("{} is {found}, not {expected:?}: correct it", dotted(pointer))),
        None => Err(format!("has no {}: add it with the value {expected:?}", dotted(pointer))),
    };
    expect("/apiVersion", "apps/v1")?;
    expect("/kind", api_kind(target.kind))?;
    expect("/metadata/name", &target.name)?;
    if original.pointer("/metadata/namespace").is_some() {
        expect("/metadata/namespace", &target.namespace)?;
    }
    match original.pointer("/spec/replicas") {
        Some(Value::Number(_)) => Ok(()),
        Some(found) => Err(format!("spec.replicas is {found}, not a number: write one, any will do")),
        None => Err("has no spec.replicas: add it, any number will do".to_owned()),
    }
}

fn dotted(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

/// The edited text must differ from the original in our values and in nothing else.
fn prove(blueprint: &Blueprint, mut expected: Value) -> Result<(), String> {
    let sha = Sha([0x5a; 32]);
    let stamp = Stamp { id: Id(0x0123_4567_89ab_cdef), sha: &sha, revision: 4_000_000_007 };
    let replicas = 1_000_003;
    let mut edited = Vec::new();
    blueprint.render(&mut edited, &stamp, replicas);

    expected["spec"]["replicas"] = replicas.into();
    put(&mut expected, "labels", MANAGED_BY, MANAGER);
    put(&mut expected, "annotations", Mark::Id.key(), &stamp.id.to_string());
    put(&mut expected, "annotations", Mark::Sha.key(), &sha.to_string());
    put(&mut expected, "annotations", Mark::Revision.key(), &stamp.revision.to_string());

    let edited = std::str::from_utf8(&edited).ok().and_then(|text| parse(text).ok());
    if edited.as_ref() == Some(&expected) {
        return Ok(());
    }
    Err("its metadata or spec.replicas cannot be edited safely as they are written: \
         use plain block style there, one key a line, no anchors or aliases"
        .to_owned())
}

fn put(workload: &mut Value, map: &str, key: &str, value: &str) {
    let entry = &mut workload["metadata"][map];
    if entry.is_null() {
        *entry = Value::Object(Map::new());
    }
    entry[key] = value.into();
}

fn find_pieces(text: &str) -> Result<Vec<Piece>, String> {
    let lines = lines(text)?;
    let eol = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let mut edits = Edits { text, eol, list: Vec::new() };

    let replicas = child(block(&lines, "spec")?, "replicas").ok_or_else(|| flow("spec"))?;
    if !text[replicas.value.clone()].bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("spec.replicas is not written as a plain number on its line: write it so".to_owned());
    }
    edits.replace(replicas.value.clone(), vec![Piece::Replicas]);

    let metadata = block(&lines, "metadata")?;
    edits.add(metadata, "labels", &[(MANAGED_BY, Piece::Manager)])?;
    edits.add(metadata, "annotations", &Mark::ALL.map(|mark| (mark.key(), Piece::Value(mark))))?;
    Ok(edits.pieces())
}

fn flow(section: &str) -> String {
    format!("{section} is not a block mapping: write it in block style, one key a line")
}

/// The edits of one text, each a range and what takes its place.
struct Edits<'a> {
    text: &'a str,
    eol: &'static str,
    list: Vec<(Range<usize>, Vec<Piece>)>,
}

impl Edits<'_> {
    fn replace(&mut self, range: Range<usize>, pieces: Vec<Piece>) {
        self.list.push((range, pieces));
    }

    /// Gives the mapping `name` inside `metadata` these entries: a value that is there is replaced,
    /// others are added at its head; a mapping that is not there is added behind the name.
    fn add(
        &mut self,
        metadata: &[Line<'_>],
        name: &str,
        entries: &[(&'static str, Piece)],
    ) -> Result<(), String> {
        let Some(at) = position(metadata, name) else {
            let anchor = child(metadata, "name").ok_or_else(|| flow("metadata"))?;
            let mut pieces = vec![Piece::New(format!("{}{name}:{}", " ".repeat(anchor.indent), self.eol))];
            entries.iter().for_each(|entry| self.push_entry(&mut pieces, anchor.indent + 2, entry));
            self.replace(anchor.end..anchor.end, pieces);
            return Ok(());
        };
        let head = &metadata[at];
        match &self.text[head.value.clone()] {
            "" => {}
            "{}" | "null" | "~" => self.replace(head.value.clone(), Vec::new()),
            _ => return Err(flow(&format!("metadata.{name}"))),
        }
        let inside = section(&metadata[at + 1..], head.indent);
        let indent = inside.first().map_or(head.indent + 2, |line| line.indent);
        let mut added = Vec::new();
        for entry in entries {
            match child(inside, entry.0) {
                Some(line) => self.replace(line.value.clone(), vec![entry.1.clone()]),
                None => self.push_entry(&mut added, indent, entry),
            }
        }
        self.replace(head.end..head.end, added);
        Ok(())
    }

    fn push_entry(&self, pieces: &mut Vec<Piece>, indent: usize, (key, value): &(&'static str, Piece)) {
        pieces.push(Piece::New(format!("{}{key}: ", " ".repeat(indent))));
        pieces.push(value.clone());
        pieces.push(Piece::New(self.eol.to_owned()));
    }

    fn pieces(mut self) -> Vec<Piece> {
        self.list.sort_by_key(|(range, _)| range.start);
        let mut pieces = Vec::new();
        let mut done = 0;
        for (range, new) in self.list {
            pieces.push(Piece::Text(done..range.start));
            pieces.extend(new);
            done = range.end;
        }
        pieces.push(Piece::Text(done..self.text.len()));
        pieces
    }
}

/// The entries below the top-level key `key`, which must hold a block mapping.
fn block<'l, 'a>(lines: &'l [Line<'a>], key: &str) -> Result<&'l [Line<'a>], String> {
    let at = position(lines, key).filter(|&at| lines[at].indent == 0).ok_or_else(|| flow("the document"))?;
    let inside = section(&lines[at + 1..], 0);
    if lines[at].value.is_empty() && !inside.is_empty() { Ok(inside) } else { Err(flow(key)) }
}

/// The leading lines that are indented deeper than `indent`.
fn section<'l, 'a>(lines: &'l [Line<'a>], indent: usize) -> &'l [Line<'a>] {
    let end = lines.iter().position(|line| line.indent <= indent).unwrap_or(lines.len());
    &lines[..end]
}

/// Where the entry `key` stands among the outermost entries of a section.
fn position(section: &[Line<'_>], key: &str) -> Option<usize> {
    let indent = section.first()?.indent;
    section.iter().position(|line| line.indent == indent && line.key == key)
}

fn child<'l, 'a>(section: &'l [Line<'a>], key: &str) -> Option<&'l Line<'a>> {
    position(section, key).map(|at| &section[at])
}

/// Every line with content, in order; the first may be a document start.
fn lines(text: &str) -> Result<Vec<Line<'_>>, String> {
    let mut lines = Vec::new();
    let mut start = 0;
    let mut started = false;
    for raw in text.split_inclusive('\n') {
        let end = start + raw.len();
        let content = raw.trim();
        if raw.starts_with('%') || raw.starts_with('\u{feff}') {
            return Err("begins with a directive or a byte order mark: remove it".to_owned());
        }
        if raw.starts_with("---") || raw.starts_with("...") {
            let alone = content == "---" || content.starts_with("--- #");
            if started || !alone {
                return Err("holds more than one document: keep the workload alone in it".to_owned());
            }
            started = true;
        } else if !content.is_empty() && !content.starts_with('#') {
            started = true;
            lines.push(line(raw, content, start, end));
        }
        start = end;
    }
    Ok(lines)
}

fn line<'a>(raw: &'a str, content: &'a str, start: usize, end: usize) -> Line<'a> {
    let indent = raw.len() - raw.trim_start_matches(' ').len();
    let colon = content
        .match_indices(':')
        .map(|(at, _)| at)
        .find(|&at| content[at + 1..].chars().next().is_none_or(char::is_whitespace));
    let Some(colon) = colon else {
        return Line { indent, key: "", value: end..end, end };
    };
    let after = &content[colon + 1..];
    let value = without_comment(after.trim_start());
    let lead = raw.len() - raw.trim_start().len();
    let from = start + lead + colon + 1 + (after.len() - after.trim_start().len());
    let key = content[..colon].trim_end().trim_matches(['"', '\'']);
    Line { indent, key, value: from..from + value.len(), end }
}

/// A value on one line without the comment behind it.
fn without_comment(value: &str) -> &str {
    let body = match value.chars().next() {
        Some('#') => 0,
        Some(quote @ ('"' | '\'')) => value[1..].find(quote).map_or(value.len(), |at| at + 2),
        _ => value.find(" #").or_else(|| value.find("\t#")).unwrap_or(value.len()),
    };
    value[..body].trim_end()
}
