//! Faults as the checks find them, and the [`Refusal`] that a producer reads.
//!
//! The checks name a place by pointer or offset. Line, column and spelling are looked up here, for at
//! most 10 faults of the first class in the contract's order. Text of the document is shown escaped
//! and cut, so that it cannot reach a terminal or a log as anything but itself.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use super::{FieldError, Refusal, locate};
use crate::fate::Reason;

/// Most faults told.
const MOST_FAULTS: usize = 10;
/// Characters shown of a value.
const SHOWN: usize = 64;
/// Characters shown of a pointer.
const SHOWN_POINTER: usize = 256;
/// Characters shown of any message.
const SHOWN_MESSAGE: usize = 320;

/// One fault, its place not yet in lines and columns.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    /// The word of its class.
    pub(super) reason: Reason,
    /// JSON pointer to what it is about.
    pub(super) pointer: String,
    /// Where to point.
    pub(super) place: Place,
    /// What is wrong.
    pub(super) text: Cow<'static, str>,
}

/// What a fault points at.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// A byte of the document.
    Byte(usize),
    /// A member name that was there before.
    Second {
        /// Offset of the later one.
        at: usize,
        /// Offset of the first one.
        first: usize,
    },
    /// The value at the pointer; the message begins with its spelling.
    Value,
    /// The value at the pointer; the message stands alone.
    Whole,
    /// The name of this member of the object at the pointer.
    Member(Box<str>),
}

impl Fault {
    /// A fault at a byte.
    pub(super) fn at(reason: Reason, at: usize, text: impl Into<Cow<'static, str>>) -> Fault {
        Fault { reason, pointer: String::new(), place: Place::Byte(at), text: text.into() }
    }

    /// A member name for the second time.
    pub(super) fn duplicate(pointer: String, at: usize, first: usize) -> Fault {
        let place = Place::Second { at, first };
        Fault { reason: Reason::JsonDuplicateKey, pointer, place, text: Cow::Borrowed("is a duplicate key") }
    }

    fn render(&self, raw: &[u8]) -> FieldError {
        let found = match &self.place {
            Place::Byte(_) | Place::Second { .. } => None,
            Place::Value | Place::Whole => locate::find(raw, &self.pointer),
            Place::Member(name) => {
                let mut pointer = self.pointer.clone();
                step(&mut pointer, name);
                locate::find(raw, &pointer)
            }
        };
        let at = match (&self.place, &found) {
            (Place::Byte(at) | Place::Second { at, .. }, _) => Some(*at),
            (Place::Member(_), Some(found)) => found.name,
            (_, found) => found.as_ref().map(|found| found.value.start),
        };
        let message = match (&self.place, found) {
            (Place::Second { first, .. }, _) => {
                let (line, column) = locate::line_column(raw, *first);
                format!("{}, first at line {line} column {column}", self.text)
            }
            (Place::Value, Some(found)) => format!("{} {}", spelled(&raw[found.value]), self.text),
            _ => visible(&self.text, SHOWN_MESSAGE),
        };
        let (line, column) = at.map(|at| locate::line_column(raw, at)).unzip();
        FieldError { path: visible(&self.pointer, SHOWN_POINTER), line, column, message }
    }
}

/// Appends one reference token to a JSON pointer.
pub(super) fn step(pointer: &mut String, token: &str) {
    pointer.push('/');
    for letter in token.chars() {
        match letter {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            _ => pointer.push(letter),
        }
    }
}

/// The contract's order of reasons; the lowest rank of a document's faults is told.
const fn rank(reason: Reason) -> u8 {
    match reason {
        Reason::JsonEncoding => 0,
        Reason::JsonDepth | Reason::JsonLimits => 1,
        Reason::JsonDuplicateKey => 3,
        Reason::Schema => 4,
        Reason::JsonNumber => 5,
        Reason::BadField => 6,
        Reason::Policy => 7,
        _ => 2,
    }
}

/// The refusal of a document with these faults: all of the first class, at most 10.
pub(super) fn refuse(raw: &[u8], faults: &[Fault]) -> Refusal {
    let reason = faults.iter().map(|fault| fault.reason).min_by_key(|&reason| rank(reason));
    let reason = reason.unwrap_or(Reason::Schema);
    let mut told: Vec<&Fault> = Vec::new();
    for fault in faults.iter().filter(|fault| rank(fault.reason) == rank(reason)) {
        // The strict layer and the field's own rule may both have seen the same value.
        let again = told.iter().any(|other| {
            other.pointer == fault.pointer
                && matches!((&other.place, &fault.place), (Place::Value, Place::Byte(_)))
        });
        if !again && told.len() < MOST_FAULTS {
            told.push(fault);
        }
    }
    Refusal { reason, errors: told.into_iter().map(|fault| fault.render(raw)).collect() }
}

/// A value as the document spells it, fit for a message.
fn spelled(value: &[u8]) -> String {
    match value.first() {
        Some(b'{') => "an object".to_owned(),
        Some(b'[') => "an array".to_owned(),
        _ => visible(&String::from_utf8_lossy(value), SHOWN),
    }
}

/// `text` with control, bidirectional and invisible characters as `\u{…}`, cut to `most` characters.
pub fn visible(text: &str, most: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(most));
    for (count, letter) in text.chars().enumerate() {
        if count == most {
            shown.push('…');
            break;
        }
        if is_deceptive(letter) {
            // Writing to a string cannot fail.
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(letter));
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Characters that move, hide or reorder other text.
fn is_deceptive(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffd}'
            | '\u{e0000}'..='\u{e007f}')
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, more)) = self.errors.split_first() else { return self.reason.fmt(f) };
        write!(f, "{first}")?;
        if more.is_empty() { Ok(()) } else { write!(f, " (and {} more)", more.len()) }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "line {line} column {column}: ")?;
        }
        if let Some(path) = self.path.strip_prefix('/') {
            write!(f, "{path} ")?;
        }
        f.write_str(&self.message)
    }
}
