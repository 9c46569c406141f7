//! What a key accepts: its type, its range, and the words of a refusal.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

use super::units::{parse_duration, parse_size, show_duration, show_size};
use super::value::{Value, quoted};

/// The type and range of a key.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Count(Limits<u64>),
    /// A size in bytes.
    Size(Limits<u64>),
    /// A time; with `or_zero` also 0, whatever the limits.
    Time {
        /// The range.
        limits: Limits<Duration>,
        /// 0 has a meaning of its own.
        or_zero: bool,
    },
    /// A path, any bytes but NUL, not empty.
    Path,
    /// Text of a certain form.
    Text(&'static Form),
    /// One of a closed set.
    Word(&'static [&'static str]),
    /// Any number of these.
    List(&'static Kind),
}

/// Least and most, both allowed.
#[derive(Debug, Clone, Copy)]
pub struct Limits<T> {
    /// The least allowed value.
    pub least: T,
    /// The most allowed value.
    pub most: T,
    /// What becomes of a value outside.
    pub beyond: Beyond,
}

/// What becomes of a value outside its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beyond {
    /// It is a fault.
    Refuse,
    /// The nearest limit is used, with a warning.
    Clamp,
}

/// A form of text.
#[derive(Debug)]
pub struct Form {
    /// As in "is not …".
    pub what: &'static str,
    /// Whether a text has it.
    pub check: fn(&str) -> bool,
    /// The same, roughly, as a regular expression for editors.
    pub pattern: &'static str,
}

/// A value as it was written, not yet judged.
#[derive(Debug, Clone)]
pub(super) enum Raw<'a> {
    /// A string, or text from the command line or the environment.
    Text(Cow<'a, OsStr>),
    /// An integer.
    Whole(i128),
    /// A boolean.
    Flag(bool),
    /// An array.
    List(Vec<Raw<'a>>),
    /// Anything else, as a message names it.
    Other(String),
}

/// A value that passed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Accepted {
    /// The value, clamped if need be.
    pub(super) value: Value,
    /// What was clamped.
    pub(super) note: Option<String>,
}

/// Why a value did not pass.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wrong {
    /// Which element of a list it was.
    pub(super) item: Option<usize>,
    /// What is wrong and what to write.
    pub(super) text: String,
}

impl<'a> Raw<'a> {
    /// Text from the command line or the environment, read as a value of `kind`: nobody quotes
    /// there, and lists may be separated by commas.
    pub(super) fn loose(kind: &Kind, given: &'a OsStr) -> Raw<'a> {
        let Some(text) = given.to_str() else { return Raw::Text(given.into()) };
        match kind {
            Kind::Flag => text.parse().map_or(Raw::Text(given.into()), Raw::Flag),
            Kind::Count(_) => text.parse().map_or(Raw::Text(given.into()), Raw::Whole),
            Kind::List(_) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Raw::List(items.map(|item| Raw::Text(OsStr::new(item).into())).collect())
            }
            _ => Raw::Text(given.into()),
        }
    }

    /// As a message shows it.
    fn show(&self) -> String {
        match self {
            Raw::Text(text) => quoted(&text.to_string_lossy()),
            Raw::Whole(number) => number.to_string(),
            Raw::Flag(flag) => flag.to_string(),
            Raw::List(_) => "a list".into(),
            Raw::Other(what) => what.clone(),
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Raw::Text(text) => text.to_str(),
            _ => None,
        }
    }
}

impl Kind {
    /// Judges `raw`; refusals advise to write `example`, where there is one.
    pub(super) fn accept(&self, raw: &Raw<'_>, example: &str) -> Result<Accepted, Vec<Wrong>> {
        if let (Kind::List(inner), Raw::List(items)) = (self, raw) {
            return accept_items(inner, items);
        }
        self.accept_one(raw, example).map_err(|text| vec![Wrong { item: None, text }])
    }

    fn accept_one(&self, raw: &Raw<'_>, example: &str) -> Result<Accepted, String> {
        let value = match (self, raw) {
            (Kind::Flag, Raw::Flag(flag)) => Some(Value::Flag(*flag)),
            (Kind::Count(limits), Raw::Whole(number)) => {
                // What does not fit 64 bits stands for the nearest that does: every range ends within them.
                let number = u64::try_from((*number).clamp(0, i128::from(u64::MAX))).unwrap_or(u64::MAX);
                return limits.hold(number, &raw.show(), u64::to_string, Value::Number);
            }
            (Kind::Size(limits), _) => match read_size(raw) {
                Some(size) => return limits.hold(size, &show_size(size), |n| show_size(*n), Value::Size),
                None => None,
            },
            (Kind::Time { limits, or_zero }, _) => match read_time(raw) {
                Some(time) if *or_zero && time.is_zero() => Some(Value::Time(time)),
                Some(time) => {
                    return limits.hold(time, &show_duration(time), |t| show_duration(*t), Value::Time);
                }
                None => None,
            },
            (Kind::Path, Raw::Text(path)) => good_path(path).then(|| Value::Path(PathBuf::from(path))),
            (Kind::Text(form), _) => {
                raw.text().filter(|text| (form.check)(text)).map(|t| Value::Text(t.into()))
            }
            (Kind::Word(words), _) => {
                raw.text().filter(|text| words.contains(text)).map(|t| Value::Text(t.into()))
            }
            _ => None,
        };
        value.map(|value| Accepted { value, note: None }).ok_or_else(|| self.refuse(raw, example))
    }

    fn refuse(&self, raw: &Raw<'_>, example: &str) -> String {
        let shown = raw.show();
        match (self, raw) {
            (Kind::Word(words), _) => format!("{shown} is not one of {}", words.join(", ")),
            (Kind::Path, Raw::Text(path)) if path.is_empty() => "the path is empty".into(),
            (Kind::Size(_) | Kind::Time { .. }, Raw::Whole(_)) => {
                format!("{shown} has no unit; write for example {example}")
            }
            (Kind::List(_), _) => format!("{shown} is not a list; write for example [\"a\", \"b\"]"),
            _ if example.is_empty() => format!("{shown} is not {}", self.what()),
            _ => format!("{shown} is not {}; write for example {example}", self.what()),
        }
    }

    /// The type, as in "is not …".
    pub fn what(&self) -> &'static str {
        match self {
            Kind::Flag => "true or false",
            Kind::Count(_) => "a whole number",
            Kind::Size(_) => "a size",
            Kind::Time { .. } => "a duration",
            Kind::Path => "a path",
            Kind::Text(form) => form.what,
            Kind::Word(_) => "a word",
            Kind::List(_) => "a list",
        }
    }

    /// The range for people: `16 to 65536`, `auto, inotify or poll`; `None` if there is nothing to say.
    pub fn range(&self) -> Option<String> {
        match self {
            Kind::Flag | Kind::Path | Kind::Text(_) => None,
            Kind::Count(limits) => Some(limits.show(u64::to_string)),
            Kind::Size(limits) => Some(limits.show(|n| show_size(*n))),
            Kind::Time { limits, or_zero } => {
                let range = limits.show(|t| show_duration(*t));
                Some(if *or_zero { format!("{range}, or 0") } else { range })
            }
            Kind::Word(words) => Some(match words.split_last() {
                Some((last, [])) => format!("only {last}"),
                Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
                None => "nothing".into(),
            }),
            Kind::List(inner) => inner.range().map(|range| format!("any of {}", range.replace(" or ", ", "))),
        }
    }
}

/// Judges each element; those of lists are plain words, which explain themselves.
fn accept_items(inner: &Kind, items: &[Raw<'_>]) -> Result<Accepted, Vec<Wrong>> {
    let mut words = Vec::new();
    let mut wrong = Vec::new();
    for (at, item) in items.iter().enumerate() {
        match inner.accept_one(item, "") {
            Ok(Accepted { value: Value::Text(word), .. }) => words.push(word),
            Ok(_) => wrong.push(Wrong { item: Some(at), text: inner.refuse(item, "") }),
            Err(text) => wrong.push(Wrong { item: Some(at), text }),
        }
    }
    if wrong.is_empty() { Ok(Accepted { value: Value::List(words), note: None }) } else { Err(wrong) }
}

/// A path that the kernel can be given.
fn good_path(path: &OsStr) -> bool {
    !path.is_empty() && !path.as_bytes().contains(&0)
}

/// A size with its unit; a bare 0 needs none.
fn read_size(raw: &Raw<'_>) -> Option<u64> {
    match raw {
        Raw::Whole(0) => Some(0),
        _ => parse_size(raw.text()?),
    }
}

/// A time with its unit; a bare 0 needs none.
fn read_time(raw: &Raw<'_>) -> Option<Duration> {
    match raw {
        Raw::Whole(0) => Some(Duration::ZERO),
        _ => parse_duration(raw.text()?),
    }
}

impl<T: Copy + PartialOrd> Limits<T> {
    /// A range whose outside is a fault.
    pub const fn refuse(least: T, most: T) -> Self {
        Limits { least, most, beyond: Beyond::Refuse }
    }

    /// A range whose outside becomes the nearest limit, with a warning.
    pub const fn clamp(least: T, most: T) -> Self {
        Limits { least, most, beyond: Beyond::Clamp }
    }

    fn show(&self, show: impl Fn(&T) -> String) -> String {
        let clamped = if self.beyond == Beyond::Clamp { ", clamped" } else { "" };
        format!("{} to {}{clamped}", show(&self.least), show(&self.most))
    }

    fn hold(
        &self,
        value: T,
        shown: &str,
        show: impl Fn(&T) -> String,
        wrap: impl Fn(T) -> Value,
    ) -> Result<Accepted, String> {
        let (limit, side) = if value < self.least {
            (self.least, "below")
        } else if value > self.most {
            (self.most, "above")
        } else {
            return Ok(Accepted { value: wrap(value), note: None });
        };
        match self.beyond {
            Beyond::Refuse => Err(format!("{shown} is outside {}", self.show(show))),
            Beyond::Clamp => {
                let limit_shown = show(&limit);
                let note = format!("{shown} is {side} {limit_shown}; {limit_shown} is used");
                Ok(Accepted { value: wrap(limit), note: Some(note) })
            }
        }
    }
}
