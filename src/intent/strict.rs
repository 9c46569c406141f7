//! The strict layer: one pass over the bytes, before any parser sees them.
//!
//! RFC 8259 to the letter and more: UTF-8 without a byte order mark, no lone surrogates, at most
//! `max_depth` levels and `max_values` values, strings and member names of at most 64 KiB, no member
//! name twice in an object after unescaping, documents of at most 1 GiB. Constant stack: open
//! containers are frames in a reused vector, never calls. A document that passes allocates nothing
//! once the vectors have grown.
//!
//! The pass stops at the first fault that ends it. Where a fault further on would rank before that one
//! (encoding, then depth and limits, then syntax), [`verdict`] looks at the rest.

use std::ops::Range;

use super::fault::{Fault, step};
use super::keys::Keys;
use super::token::{self, Spelling, Stop};
use super::{Rules, verdict};
use crate::fate::Reason;

/// Longest string or member name in bytes, as written.
const MAX_STRING: usize = 64 << 10;
/// Offsets are kept in 32 bits, here and in the parser.
const MAX_DOCUMENT: usize = 1 << 30;
/// The parser itself stops at 1,024 levels.
const DEEPEST: u32 = 1000;
/// Faults of one kind worth telling.
const ENOUGH: usize = 10;

/// What is still to be asked about a document that passed.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// `-0` occurs; the parser forgets the sign of an integer.
    pub(super) minus_zero: bool,
    /// Numbers that 64 bits cannot hold; the parser would stop at them.
    pub(super) unrepresentable: Vec<Range<usize>>,
    /// Faults that rank behind `schema`: those numbers, and escaped control characters.
    pub(super) faults: Vec<Fault>,
}

/// An open container.
#[derive(Debug, Clone, Copy)]
struct Frame {
    object: bool,
    /// Number of this object's first name.
    from: u32,
    /// Place of the current element in this array.
    index: u32,
}

/// The strict layer with the vectors that it reuses; one per worker.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    frames: Vec<Frame>,
    keys: Keys,
}

impl Scanner {
    /// Checks a whole document; faults are all of one class.
    pub(super) fn scan(&mut self, raw: &[u8], rules: &Rules) -> Result<Passed, Vec<Fault>> {
        self.frames.clear();
        self.keys.clear();
        if raw.len() > MAX_DOCUMENT {
            return Err(vec![Fault::at(Reason::JsonLimits, 0, "the document is larger than 1 GiB")]);
        }
        let (text, broken) = match std::str::from_utf8(raw) {
            Ok(_) => (raw, None),
            Err(error) => (&raw[..error.valid_up_to()], Some(error)),
        };
        if broken.is_some_and(|error| error.error_len().is_some()) || raw.starts_with(verdict::BOM) {
            return Err(vec![verdict::of_bytes(raw, text.len())]);
        }
        let mut pass = Pass {
            raw: text,
            frames: &mut self.frames,
            keys: &mut self.keys,
            passed: Passed::default(),
            duplicates: Vec::new(),
        };
        let outcome = pass.document(rules.max_depth.clamp(1, DEEPEST) as usize, rules.max_values);
        let Pass { passed, duplicates, .. } = pass;
        match outcome {
            // A character that the end cuts in two is as unfinished as the string around it; one
            // behind anything else is an encoding fault.
            Err(stop) if broken.is_none() || stop.reason != Reason::JsonSyntax => {
                Err(vec![verdict::of(text, stop, rules)])
            }
            _ if broken.is_some() => Err(vec![verdict::of_bytes(raw, text.len())]),
            _ if !duplicates.is_empty() => Err(duplicates),
            _ => Ok(passed),
        }
    }

    /// Gives room beyond `keep` bytes back.
    pub(super) fn give_back(&mut self, keep: usize) {
        self.keys.give_back(keep);
    }
}

/// One document on its way through.
struct Pass<'s, 'r> {
    raw: &'r [u8],
    frames: &'s mut Vec<Frame>,
    keys: &'s mut Keys,
    passed: Passed,
    duplicates: Vec<Fault>,
}

impl Pass<'_, '_> {
    fn document(&mut self, max_depth: usize, max_values: u32) -> Result<(), Stop> {
        let mut at = token::skip_space(self.raw, 0);
        if at == self.raw.len() {
            return Err(Stop { reason: Reason::Empty, at: 0, text: "the file is empty" });
        }
        let mut values = 0;
        // At the top of the loop `at` is where a value must begin.
        loop {
            if values == max_values {
                return Err(Stop {
                    reason: Reason::JsonLimits,
                    at,
                    text: "too many values (intake.max_values)",
                });
            }
            values += 1;
            let opening = self.raw.get(at).copied();
            at = match opening {
                Some(b'{' | b'[') if self.frames.len() == max_depth => {
                    return Err(Stop {
                        reason: Reason::JsonDepth,
                        at,
                        text: "nested too deep (intake.max_depth)",
                    });
                }
                Some(b'{' | b'[') => token::skip_space(self.raw, at + 1),
                Some(_) => self.scalar(at)?,
                None => return Err(Stop::truncated(at)),
            };
            match (opening, self.raw.get(at)) {
                (Some(b'{'), next) => {
                    self.open(true);
                    if next != Some(&b'}') {
                        at = self.name(at)?;
                        continue;
                    }
                }
                (Some(b'['), next) => {
                    self.open(false);
                    if next != Some(&b']') {
                        continue;
                    }
                }
                _ => {}
            }
            match self.go_on(at)? {
                Some(next) => at = next,
                None => return Ok(()),
            }
        }
    }

    /// Behind a value or an opening bracket that closes at once: closes what ends here; the start of
    /// the next value, or `None` at the end of the document.
    fn go_on(&mut self, mut at: usize) -> Result<Option<usize>, Stop> {
        loop {
            at = token::skip_space(self.raw, at);
            let next = self.raw.get(at);
            let Some(frame) = self.frames.last_mut() else {
                return match next {
                    None => Ok(None),
                    Some(_) => Err(Stop::syntax(at, "expected the end of the document")),
                };
            };
            match (next, frame.object) {
                (None, _) => return Err(Stop::truncated(at)),
                (Some(b','), true) => {
                    let name = token::skip_space(self.raw, at + 1);
                    return self.name(name).map(Some);
                }
                (Some(b','), false) => {
                    frame.index += 1;
                    return Ok(Some(token::skip_space(self.raw, at + 1)));
                }
                (Some(b'}'), true) | (Some(b']'), false) => {
                    self.close();
                    at += 1;
                }
                (Some(_), true) => return Err(Stop::syntax(at, "expected ',' or '}'")),
                (Some(_), false) => return Err(Stop::syntax(at, "expected ',' or ']'")),
            }
        }
    }

    fn open(&mut self, object: bool) {
        self.frames.push(Frame { object, from: self.keys.len() as u32, index: 0 });
    }

    fn close(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        let (raw, from) = (self.raw, frame.from as usize);
        let (frames, duplicates) = (&self.frames[..], &mut self.duplicates);
        self.keys.close(raw, from, |keys, twice| {
            if duplicates.len() < ENOUGH {
                let mut pointer = pointer(raw, frames, keys, from);
                step(&mut pointer, &String::from_utf8_lossy(keys.name(raw, twice.index)));
                duplicates.push(Fault::duplicate(pointer, twice.at, twice.first));
            }
        });
    }

    /// A member name and its colon; the start of the member's value.
    fn name(&mut self, quote: usize) -> Result<usize, Stop> {
        match self.raw.get(quote) {
            Some(b'"') => {}
            Some(_) => return Err(Stop::syntax(quote, "expected a member name in double quotes")),
            None => return Err(Stop::truncated(quote)),
        }
        let string = self.string(quote)?;
        self.keys.push(self.raw, quote, string.end, string.escaped);
        self.note_control(string);
        let colon = token::skip_space(self.raw, string.end);
        match self.raw.get(colon) {
            Some(b':') => Ok(token::skip_space(self.raw, colon + 1)),
            Some(_) => Err(Stop::syntax(colon, "expected ':'")),
            None => Err(Stop::truncated(colon)),
        }
    }

    /// A value that is no container; the offset behind it.
    fn scalar(&mut self, at: usize) -> Result<usize, Stop> {
        match self.raw[at] {
            b'"' => {
                let string = self.string(at)?;
                self.note_control(string);
                Ok(string.end)
            }
            b'-' | b'0'..=b'9' => {
                let (end, spelling) = token::number(self.raw, at)?;
                match spelling {
                    Spelling::Plain => {}
                    Spelling::MinusZero => self.passed.minus_zero = true,
                    Spelling::Unrepresentable => {
                        self.passed.unrepresentable.push(at..end);
                        self.note(Reason::JsonNumber, at, "number too large to be kept exactly");
                    }
                }
                Ok(end)
            }
            _ => token::literal(self.raw, at),
        }
    }

    fn string(&mut self, quote: usize) -> Result<token::Quoted, Stop> {
        let string = token::quoted(self.raw, quote);
        let end = match &string {
            Ok(string) => string.end,
            Err(stop) => stop.at,
        };
        if end - quote > MAX_STRING {
            return Err(Stop { reason: Reason::JsonLimits, at: quote, text: "a string longer than 64 KiB" });
        }
        string
    }

    #[inline]
    fn note_control(&mut self, string: token::Quoted) {
        if let Some(at) = string.control {
            self.note(Reason::BadField, at, "has a control character");
        }
    }

    #[cold]
    fn note(&mut self, reason: Reason, at: usize, text: &'static str) {
        let faults = &mut self.passed.faults;
        if faults.iter().filter(|fault| fault.reason == reason).count() < ENOUGH {
            let pointer = pointer(self.raw, self.frames, self.keys, self.keys.len());
            faults.push(Fault { pointer, ..Fault::at(reason, at, text) });
        }
    }
}

/// JSON pointer to the current place of the innermost of `frames`, whose names end before number `end`.
#[cold]
fn pointer(raw: &[u8], frames: &[Frame], keys: &Keys, end: usize) -> String {
    let mut pointer = String::new();
    for (depth, frame) in frames.iter().enumerate() {
        let names = frame.from as usize..frames.get(depth + 1).map_or(end, |inner| inner.from as usize);
        if !frame.object {
            step(&mut pointer, &frame.index.to_string());
        } else if let Some(last) = names.last() {
            step(&mut pointer, &String::from_utf8_lossy(keys.name(raw, last)));
        }
    }
    pointer
}
