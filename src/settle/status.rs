//! The status document: what a producer reads about its file, spelled as `contract.md` 3 says.
//!
//! Written by hand instead of through a serializer, because the order of keys is part of the contract
//! and every intent pays for it: under 2 µs, no allocation beyond the buffer. The same writer makes
//! the indented file and the single line of the journal and of `history --json`.
//!
//! # Limits
//!
//! `message` 4,096 bytes; 10 `errors` of 1,024 bytes with pointers of 512; names of the sink 1,024
//! bytes. With every byte escaped to six the document stays below 262,144 bytes.

mod digits;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::time::Duration;

use digits::{push_compact, push_decimal, push_hex, push_padded, push_time};

use crate::clock::Wall;
use crate::fate::{Fate, Reason, Receipt, Sha, SinkKind};
use crate::intent::{FieldError, Target};
use crate::ledger::{End, Row};

/// Bytes of a message that are kept, here and in error logs.
pub(super) const MESSAGE_BYTES: usize = 4 << 10;
const FIELD_MESSAGE_BYTES: usize = 1 << 10;
const POINTER_BYTES: usize = 512;
const REMOTE_BYTES: usize = 1 << 10;
const FIELD_ERRORS: usize = 10;
const NAME_BYTES: usize = 200;

/// What lies in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The dropped inode itself.
    Original,
    /// A daemon-owned copy of the accepted bytes.
    Snapshot,
}

impl Kept {
    const fn as_str(self) -> &'static str {
        match self {
            Kept::Original => "original",
            Kept::Snapshot => "snapshot",
        }
    }
}

/// Why an accepted file has not ended yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting<'a> {
    /// A word of the closed set.
    pub reason: Reason,
    /// One line for the producer.
    pub message: &'a str,
    /// Attempts of submission so far.
    pub attempts: u32,
    /// When the next one is due, where that is known.
    pub next_attempt_at: Option<Wall>,
}

/// What the document says beside the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts<'a> {
    /// How intents are submitted, `direct`.
    pub mode: &'static str,
    /// What is in the archive; `None` if nothing is (yet).
    pub archive: Option<Kept>,
    /// Why the row is pending; without effect once it has ended.
    pub waiting: Option<Waiting<'a>>,
}

/// The indented document with a final newline. `now` is the timestamp of a pending row.
pub fn render(row: &Row, now: Wall, facts: &Facts<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    write(&mut out, row, now, facts);
    out
}

/// The document on one line with a final newline, for the journal and `history --json`.
pub fn render_line(row: &Row, now: Wall, facts: &Facts<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    write_line(&mut out, row, now, facts);
    out
}

/// As [`render`], appended to a buffer that is used again.
pub(super) fn write(out: &mut Vec<u8>, row: &Row, now: Wall, facts: &Facts<'_>) {
    Document { out, gap: "\n  ", colon: "\": ", comma: ", ", empty: true }.write(row, now, facts);
    out.extend_from_slice(b"\n}\n");
}

/// As [`render_line`], appended to a buffer that is used again.
pub(super) fn write_line(out: &mut Vec<u8>, row: &Row, now: Wall, facts: &Facts<'_>) {
    Document { out, gap: "", colon: "\":", comma: ",", empty: true }.write(row, now, facts);
    out.extend_from_slice(b"}\n");
}

/// `<name>-<YYYYMMDD-HHMMSS>-<id8>.status`: the last component of the name, cut to 200 bytes at a
/// character, and the UTC second of acceptance.
pub fn file_name(row: &Row) -> OsString {
    let name = cut(last_component(&row.name), NAME_BYTES);
    let mut out = Vec::with_capacity(name.len() + 33);
    out.extend_from_slice(name);
    out.push(b'-');
    push_compact(&mut out, row.accepted_at);
    out.push(b'-');
    push_hex(&mut out, &row.id.0.to_be_bytes()[..4]);
    out.extend_from_slice(b".status");
    OsString::from_vec(out)
}

/// What follows the last slash.
pub(super) fn last_component(name: &[u8]) -> &[u8] {
    name.rsplit(|&byte| byte == b'/').next().unwrap_or(name)
}

/// At most `limit` bytes of UTF-8 text, whole characters.
pub(super) fn cut(text: &[u8], limit: usize) -> &[u8] {
    if text.len() <= limit {
        return text;
    }
    let continues = |at: usize| text[at] & 0xC0 == 0x80;
    let end = (limit.saturating_sub(3)..=limit).rev().find(|&at| !continues(at)).unwrap_or(limit);
    &text[..end]
}

/// [`cut`] for text that is known to be text.
pub(super) fn cut_str(text: &str, limit: usize) -> &str {
    &text[..cut(text.as_bytes(), limit).len()]
}

/// One document being written. With a `gap` every key has its own line; nested objects have none and
/// stay on the line of their key.
struct Document<'o> {
    out: &'o mut Vec<u8>,
    gap: &'static str,
    colon: &'static str,
    comma: &'static str,
    empty: bool,
}

impl Document<'_> {
    fn write(&mut self, row: &Row, now: Wall, facts: &Facts<'_>) {
        let end = row.end.as_ref();
        self.text("schema", "conductor-loop/status/v1");
        self.hex("id", &row.id.0.to_be_bytes());
        self.text("intent_file", &String::from_utf8_lossy(&row.name));
        if let Some(Sha(digest)) = &row.sha {
            self.hex("sha256", digest);
        }
        match end {
            Some(end) => self.outcome(end),
            None => self.no_outcome(facts.waiting.as_ref()),
        }
        if let Some(proof) = row.proof {
            self.text("proof", proof.as_str());
        }
        if let Some(target) = &row.target {
            self.target(target);
        }
        if let Some(end) = end {
            self.related(end);
            self.delivery(end);
        }
        self.attempts(end, facts.waiting.as_ref());
        self.time("timestamp", end.map_or(now, |end| end.finished_at), false);
        self.time("accepted_at", row.accepted_at, true);
        if let Some(end) = end {
            self.time("finished_at", end.finished_at, true);
            self.milliseconds("processing_duration_ms", end.duration);
        }
        self.text("processed_by", "conductor-loop");
        self.key("worker_id");
        self.out.extend_from_slice(b"\"worker-");
        self.number(row.worker.into());
        self.out.push(b'"');
        self.text("mode", facts.mode);
        if let Some(kept) = facts.archive {
            self.text("archive", kept.as_str());
        }
    }

    fn outcome(&mut self, end: &End) {
        self.text("status", if end.fate.is_success() { "success" } else { "failed" });
        self.text("fate", end.fate.as_str());
        if let Some(reason) = end.reason {
            self.text("reason", reason.as_str());
        }
        self.text("message", cut_str(&end.message, MESSAGE_BYTES));
        if !end.errors.is_empty() {
            self.errors(&end.errors);
        }
    }

    fn no_outcome(&mut self, waiting: Option<&Waiting<'_>>) {
        self.text("status", "pending");
        self.text("fate", "pending");
        if let Some(waiting) = waiting {
            self.text("reason", waiting.reason.as_str());
        }
        self.text("message", waiting.map_or("waiting to be sent", |w| cut_str(w.message, MESSAGE_BYTES)));
    }

    fn errors(&mut self, errors: &[FieldError]) {
        self.key("errors");
        self.out.push(b'[');
        for (index, error) in errors.iter().take(FIELD_ERRORS).enumerate() {
            if index > 0 {
                self.out.extend_from_slice(self.comma.as_bytes());
            }
            let mut object = self.nested();
            object.text("path", cut_str(&error.path, POINTER_BYTES));
            for (key, place) in [("line", error.line), ("column", error.column)] {
                if let Some(place) = place {
                    object.key(key);
                    object.number(place.into());
                }
            }
            object.text("message", cut_str(&error.message, FIELD_MESSAGE_BYTES));
            self.out.push(b'}');
        }
        self.out.push(b']');
    }

    fn target(&mut self, target: &Target) {
        self.key("target");
        let mut object = self.nested();
        object.text("namespace", &target.namespace);
        object.text("kind", target.kind.as_str());
        object.text("name", &target.name);
        self.out.push(b'}');
    }

    fn related(&mut self, end: &End) {
        let key = match end.fate {
            Fate::Duplicate => "duplicate_of",
            Fate::Superseded => "superseded_by",
            Fate::Delivered | Fate::Refused | Fate::Expired => return,
        };
        if let Some(id) = end.related {
            self.hex(key, &id.0.to_be_bytes());
        }
    }

    fn delivery(&mut self, end: &End) {
        if let Some(sink) = end.sink {
            self.text("sink", sink.as_str());
        }
        let Some(Receipt { name, revision, lifecycle, adopted }) = &end.remote else { return };
        self.key("remote");
        let mut object = self.nested();
        object.text("name", cut_str(name, REMOTE_BYTES));
        if end.sink == Some(SinkKind::Porch) {
            object.parts(name);
        }
        if !revision.is_empty() {
            object.text("revision", cut_str(revision, REMOTE_BYTES));
        }
        object.text("lifecycle", lifecycle.as_str());
        self.out.push(b'}');
        if *adopted {
            self.key("adopted");
            self.out.extend_from_slice(b"true");
        }
    }

    /// The object's name taken apart: no part of it holds a dot.
    fn parts(&mut self, name: &str) {
        let parts: Vec<&str> = name.split('.').collect();
        if let [repository, package, workspace] = parts.as_slice() {
            for (key, part) in [("repository", repository), ("package", package), ("workspace", workspace)] {
                self.text(key, cut_str(part, REMOTE_BYTES));
            }
        }
    }

    fn attempts(&mut self, end: Option<&End>, waiting: Option<&Waiting<'_>>) {
        let attempts = end.map_or_else(|| waiting.map_or(0, |w| w.attempts), |end| end.attempts);
        if attempts > 0 || end.is_some_and(|end| end.fate == Fate::Delivered) {
            self.key("attempts");
            self.number(attempts.into());
            self.key("retry_count");
            self.number(attempts.saturating_sub(1).into());
        }
        if let (None, Some(at)) = (end, waiting.and_then(|w| w.next_attempt_at)) {
            self.time("next_attempt_at", at, true);
        }
    }

    /// An object inside this one; the caller closes it.
    fn nested(&mut self) -> Document<'_> {
        Document { out: self.out, gap: "", colon: self.colon, comma: self.comma, empty: true }
    }

    fn key(&mut self, key: &str) {
        let between = if self.gap.is_empty() { self.comma } else { "," };
        self.out.extend_from_slice(if self.empty { b"{" } else { between.as_bytes() });
        self.empty = false;
        self.out.extend_from_slice(self.gap.as_bytes());
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(self.colon.as_bytes());
    }

    fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        if text.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
            serde_json::to_writer(&mut *self.out, text).expect("a string always serializes into memory");
        } else {
            self.out.push(b'"');
            self.out.extend_from_slice(text.as_bytes());
            self.out.push(b'"');
        }
    }

    fn hex(&mut self, key: &str, bytes: &[u8]) {
        self.key(key);
        self.out.push(b'"');
        push_hex(self.out, bytes);
        self.out.push(b'"');
    }

    fn number(&mut self, number: u64) {
        push_decimal(self.out, number);
    }

    fn time(&mut self, key: &str, at: Wall, millis: bool) {
        self.key(key);
        self.out.push(b'"');
        push_time(self.out, at, millis);
        self.out.push(b'"');
    }

    /// Milliseconds with at least one and at most three decimals.
    fn milliseconds(&mut self, key: &str, duration: Duration) {
        self.key(key);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        push_decimal(self.out, micros / 1000);
        self.out.push(b'.');
        push_padded(self.out, micros % 1000, 3);
        for _ in 0..2 {
            if self.out.last() == Some(&b'0') {
                self.out.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests;
