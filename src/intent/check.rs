//! The rules of single fields, written once for the three styles.
//!
//! A check returns the value it approved and otherwise leaves a fault behind; nothing is allocated
//! until there is one. Which fault is which: another type or null is `schema`; anything in an integer
//! field that is no integer of its range is `json-number`; the right type with a forbidden value is
//! `bad-field`; what site or intent forbid is `policy`.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::RangeInclusive;

use simd_json::prelude::{TypedScalarValue as _, ValueAsScalar as _, ValueIntoString as _};
use simd_json::tape::{Array, Object, Value};

use super::fault::{Fault, Place, step};
use super::{IntentType, Target, TargetKind, formats, locate};
use crate::clock::Wall;
use crate::fate::Reason;

/// What a style makes of its document.
#[derive(Debug)]
pub(super) struct Draft<'i> {
    pub(super) intent_type: IntentType,
    pub(super) namespace: &'i str,
    pub(super) kind: TargetKind,
    pub(super) name: &'i str,
    /// As the document says, even where the intent type has no scale effect.
    pub(super) replicas: Option<u32>,
    pub(super) priority: u8,
    pub(super) valid_until: Option<Wall>,
    /// Where the style keeps what a site's policy is about.
    pub(super) places: Places,
}

/// JSON pointers of one style.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    pub(super) namespace: &'static str,
    pub(super) kind: &'static str,
    pub(super) replicas: &'static str,
}

impl Draft<'_> {
    /// The target on its own.
    pub(super) fn target(&self) -> Target {
        Target { namespace: self.namespace.into(), kind: self.kind, name: self.name.into() }
    }
}

/// A place in the document: a list on the stack, spelled as a pointer only for a fault.
#[derive(Debug, Clone, Copy)]
pub(super) enum At<'a> {
    /// The whole document.
    Root,
    /// A member.
    Key(&'a At<'a>, &'a str),
    /// An element.
    Index(&'a At<'a>, usize),
}

impl At<'_> {
    /// RFC 6901.
    pub(super) fn pointer(&self) -> String {
        let mut pointer = String::new();
        self.write(&mut pointer);
        pointer
    }

    fn write(&self, pointer: &mut String) {
        match self {
            At::Root => {}
            At::Key(parent, key) => {
                parent.write(pointer);
                step(pointer, key);
            }
            At::Index(parent, index) => {
                parent.write(pointer);
                // Writing to a string cannot fail.
                let _ = write!(pointer, "/{index}");
            }
        }
    }
}

/// The faults of one document as they are found.
#[derive(Debug)]
pub(super) struct Checker<'a> {
    raw: &'a [u8],
    /// The document spells an integer `-0` somewhere.
    minus_zero: bool,
    pub(super) faults: Vec<Fault>,
}

impl<'a> Checker<'a> {
    /// Nothing wrong with `raw` yet.
    pub(super) fn new(raw: &'a [u8], minus_zero: bool) -> Self {
        Checker { raw, minus_zero, faults: Vec::new() }
    }

    #[cold]
    fn fault(&mut self, reason: Reason, at: &At<'_>, text: impl Into<Cow<'static, str>>) {
        self.faults.push(Fault { reason, pointer: at.pointer(), place: Place::Value, text: text.into() });
    }

    /// A value of the right type that is forbidden.
    pub(super) fn bad(&mut self, at: &At<'_>, text: impl Into<Cow<'static, str>>) {
        self.fault(Reason::BadField, at, text);
    }

    /// A value of a wrong type.
    pub(super) fn wrong(&mut self, at: &At<'_>, text: &'static str) {
        self.fault(Reason::Schema, at, text);
    }

    /// The object at `at` lacks a member.
    #[cold]
    pub(super) fn missing(&mut self, at: &At<'_>, name: &str) {
        let text = format!("missing field \"{name}\"").into();
        self.faults.push(Fault { reason: Reason::Schema, pointer: at.pointer(), place: Place::Whole, text });
    }

    /// A member is missing unless it is there (and then has its own fault).
    pub(super) fn require(&mut self, at: &At<'_>, object: &Object<'_, '_>, name: &str) {
        if object.get(name).is_none() {
            self.missing(at, name);
        }
    }

    /// The document has a member that its style does not know.
    #[cold]
    pub(super) fn unknown(&mut self, name: &str) {
        let text = format!("unknown field \"{name}\"").into();
        let place = Place::Member(name.into());
        self.faults.push(Fault { reason: Reason::Schema, pointer: String::new(), place, text });
    }

    /// The site or the intent itself forbids it.
    #[cold]
    pub(super) fn policy(&mut self, pointer: &str, text: String) {
        let place = Place::Whole;
        self.faults.push(Fault { reason: Reason::Policy, pointer: pointer.into(), place, text: text.into() });
    }

    /// Any string.
    pub(super) fn string<'i>(&mut self, at: &At<'_>, value: Value<'_, 'i>) -> Option<&'i str> {
        let text = value.into_string();
        if text.is_none() {
            self.wrong(at, "is not a string");
        }
        text
    }

    /// A string of `length` characters.
    pub(super) fn text<'i>(
        &mut self,
        at: &At<'_>,
        value: Value<'_, 'i>,
        length: RangeInclusive<usize>,
    ) -> Option<&'i str> {
        let text = self.string(at, value)?;
        // Characters need counting only where bytes leave it open.
        let fits = (text.len() <= *length.end() || text.chars().count() <= *length.end())
            && (text.chars().take(*length.start()).count() == *length.start());
        if fits {
            return Some(text);
        }
        self.bad(
            at,
            match (*length.start(), *length.end()) {
                (1, usize::MAX) => Cow::Borrowed("must not be empty"),
                (0, most) => format!("is longer than {most} characters").into(),
                (least, most) => format!("is not {least} to {most} characters long").into(),
            },
        );
        None
    }

    /// A string that is not empty.
    pub(super) fn non_empty<'i>(&mut self, at: &At<'_>, value: Value<'_, 'i>) -> Option<&'i str> {
        self.text(at, value, 1..=usize::MAX)
    }

    /// A string with a form of its own.
    pub(super) fn formed<'i>(
        &mut self,
        at: &At<'_>,
        value: Value<'_, 'i>,
        good: impl FnOnce(&str) -> bool,
        text: &'static str,
    ) -> Option<&'i str> {
        let string = self.string(at, value)?;
        if good(string) {
            return Some(string);
        }
        self.bad(at, text);
        None
    }

    /// A DNS-1123 label.
    pub(super) fn label<'i>(&mut self, at: &At<'_>, value: Value<'_, 'i>) -> Option<&'i str> {
        self.formed(
            at,
            value,
            formats::is_label,
            "is not a DNS-1123 label (at most 63 of a-z, 0-9 and \"-\")",
        )
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(
        &mut self,
        at: &At<'_>,
        value: Value<'_, '_>,
        words: &[(&str, T)],
    ) -> Option<T> {
        let text = self.string(at, value)?;
        let known = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        if known.is_none() {
            let list: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            self.bad(at, format!("is not one of {}", list.join(", ")));
        }
        known
    }

    /// An RFC 3339 date and time.
    pub(super) fn date_time(&mut self, at: &At<'_>, value: Value<'_, '_>) -> Option<Wall> {
        let text = self.string(at, value)?;
        let moment = formats::date_time(text);
        if moment.is_none() {
            self.bad(at, "is not an RFC 3339 date and time");
        }
        moment
    }

    /// An integer of a range, spelled as one.
    pub(super) fn integer(
        &mut self,
        at: &At<'_>,
        value: Value<'_, '_>,
        range: RangeInclusive<i64>,
    ) -> Option<i64> {
        match value.as_i64() {
            Some(integer) if range.contains(&integer) && !(integer == 0 && self.minus_zero) => Some(integer),
            _ => self.doubtful_integer(at, value, &range),
        }
    }

    #[cold]
    fn doubtful_integer(
        &mut self,
        at: &At<'_>,
        value: Value<'_, '_>,
        range: &RangeInclusive<i64>,
    ) -> Option<i64> {
        if value.is_null() {
            self.wrong(at, "is not an integer");
            return None;
        }
        let spelled = locate::find(self.raw, &at.pointer()).map_or(&b""[..], |found| &self.raw[found.value]);
        if spelled == b"0" && range.contains(&0) {
            return Some(0);
        }
        let digits = spelled.strip_prefix(b"-").unwrap_or(spelled);
        let text = if digits.iter().all(u8::is_ascii_digit) && spelled != b"-0" {
            match (*range.start(), *range.end()) {
                (least, i64::MAX) => format!("is not {least} or more").into(),
                (least, most) => format!("is not between {least} and {most}").into(),
            }
        } else if digits.first().is_some_and(u8::is_ascii_digit) {
            Cow::Borrowed("is not spelled as an integer")
        } else {
            Cow::Borrowed("is not an integer")
        };
        self.fault(Reason::JsonNumber, at, text);
        None
    }

    /// A number of any kind.
    pub(super) fn number(&mut self, at: &At<'_>, value: Value<'_, '_>) {
        if !value.is_number() {
            self.wrong(at, "is not a number");
        }
    }

    /// An array.
    pub(super) fn array<'t, 'i>(&mut self, at: &At<'_>, value: Value<'t, 'i>) -> Option<Array<'t, 'i>> {
        let array = value.as_array();
        if array.is_none() {
            self.wrong(at, "is not an array");
        }
        array
    }

    /// An array of strings of at least `least` characters.
    pub(super) fn strings<'t, 'i>(
        &mut self,
        at: &At<'_>,
        value: Value<'t, 'i>,
        least: usize,
    ) -> Option<Array<'t, 'i>> {
        let array = self.array(at, value)?;
        for (index, element) in array.iter().enumerate() {
            self.text(&At::Index(at, index), element, least..=usize::MAX);
        }
        Some(array)
    }

    /// An object, each member shown to `each`.
    pub(super) fn object<'t, 'i>(
        &mut self,
        at: &At<'_>,
        value: Value<'t, 'i>,
        mut each: impl FnMut(&mut Self, &At<'_>, &'i str, Value<'t, 'i>),
    ) -> Option<Object<'t, 'i>> {
        let Some(object) = value.as_object() else {
            self.wrong(at, "is not an object");
            return None;
        };
        for (key, member) in object.iter() {
            each(self, &At::Key(at, key), key, member);
        }
        Some(object)
    }
}
