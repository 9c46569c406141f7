//! The words of JSON: white space, strings, numbers, literals, each taken at a byte offset.
//!
//! Input is valid UTF-8. Running into the end of the input is told apart from everything else,
//! because a writer may not have finished.

use crate::fate::Reason;

/// Where and why the strict pass ended early.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stop {
    /// The reason word.
    pub(super) reason: Reason,
    /// Byte offset.
    pub(super) at: usize,
    /// What was expected, or what is wrong there.
    pub(super) text: &'static str,
}

impl Stop {
    /// A fault of the grammar.
    pub(super) const fn syntax(at: usize, text: &'static str) -> Stop {
        Stop { reason: Reason::JsonSyntax, at, text }
    }

    /// The document ends in the middle.
    pub(super) const fn truncated(at: usize) -> Stop {
        Stop { reason: Reason::TruncatedJson, at, text: "the document stops in the middle" }
    }

    const fn surrogate(at: usize) -> Stop {
        Stop { reason: Reason::JsonEncoding, at, text: "half of a surrogate pair" }
    }
}

/// The first offset from `at` on that is not white space.
#[inline]
pub(super) fn skip_space(raw: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = raw.get(at) {
        at += 1;
    }
    at
}

/// A string as it stands in the document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quoted {
    /// Offset behind the closing quote.
    pub(super) end: usize,
    /// It holds escapes.
    pub(super) escaped: bool,
    /// Offset of an escape that stands for a control character other than tab, newline, return.
    pub(super) control: Option<usize>,
}

/// Takes the string whose opening quote is at `open`.
#[inline]
pub(super) fn quoted(raw: &[u8], open: usize) -> Result<Quoted, Stop> {
    let mut string = Quoted { end: open + 1, escaped: false, control: None };
    loop {
        string.end = plain(raw, string.end);
        match raw.get(string.end) {
            Some(b'"') => {
                string.end += 1;
                return Ok(string);
            }
            Some(b'\\') => escape(raw, &mut string)?,
            Some(_) => {
                return Err(Stop::syntax(string.end, "a control character must be escaped in a string"));
            }
            None => return Err(Stop::truncated(string.end)),
        }
    }
}

/// The first offset from `at` on with a quote, a backslash or a control character, eight bytes at a time.
#[inline]
fn plain(raw: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    // The lowest top bit set is exact: a borrow can only mark bytes above a true hit.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    while let Some(chunk) = raw.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let quote = zero(word ^ (ONES * b'"' as u64));
        let backslash = zero(word ^ (ONES * b'\\' as u64));
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let hits = (quote | backslash | control) & TOPS;
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while raw.get(at).is_some_and(|&byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        at += 1;
    }
    at
}

/// Passes over the escape at `string.end`.
pub(super) fn escape(raw: &[u8], string: &mut Quoted) -> Result<(), Stop> {
    let at = string.end;
    string.escaped = true;
    let (width, is_control) = match raw.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'n' | b'r' | b't') => (2, false),
        Some(b'b' | b'f') => (2, true),
        Some(b'u') => match hex(raw, at + 2)? {
            0xd800..0xdc00 => (low_surrogate(raw, at)?, false),
            0xdc00..0xe000 => return Err(Stop::surrogate(at)),
            code => (6, code < 0x20 && !matches!(code, 0x09 | 0x0a | 0x0d)),
        },
        Some(_) => return Err(Stop::syntax(at, "unknown escape in a string")),
        None => return Err(Stop::truncated(at + 1)),
    };
    if is_control {
        string.control.get_or_insert(at);
    }
    string.end = at + width;
    Ok(())
}

/// Wants `\uDC00` to `\uDFFF` behind the high surrogate at `at`; the width of both.
fn low_surrogate(raw: &[u8], at: usize) -> Result<usize, Stop> {
    for (place, byte) in [(at + 6, b'\\'), (at + 7, b'u')] {
        match raw.get(place) {
            Some(&found) if found == byte => {}
            Some(_) => return Err(Stop::surrogate(at)),
            None => return Err(Stop::truncated(place)),
        }
    }
    match hex(raw, at + 8)? {
        0xdc00..0xe000 => Ok(12),
        _ => Err(Stop::surrogate(at)),
    }
}

/// Four hexadecimal digits.
fn hex(raw: &[u8], at: usize) -> Result<u16, Stop> {
    let mut code = 0;
    for place in at..at + 4 {
        let digit = match raw.get(place) {
            Some(byte) => char::from(*byte).to_digit(16),
            None => return Err(Stop::truncated(place)),
        };
        code = code << 4 | digit.ok_or(Stop::syntax(place, "expected four hexadecimal digits"))?;
    }
    Ok(code as u16)
}

/// What a number's spelling means for the parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// 64 bits hold it.
    Plain,
    /// `-0`, whose sign an integer forgets.
    MinusZero,
    /// An integer beyond 64 bits, or a magnitude beyond a double.
    Unrepresentable,
}

/// Takes the number at `start`: its end and spelling.
#[inline]
pub(super) fn number(raw: &[u8], start: usize) -> Result<(usize, Spelling), Stop> {
    let first = start + usize::from(raw.get(start) == Some(&b'-'));
    let mut at = match raw.get(first) {
        Some(b'0') => first + 1,
        _ => digits(raw, first)?,
    };
    let mut integer = true;
    if raw.get(at) == Some(&b'.') {
        integer = false;
        at = digits(raw, at + 1)?;
    }
    if let Some(b'e' | b'E') = raw.get(at) {
        integer = false;
        let sign = usize::from(matches!(raw.get(at + 1), Some(b'+' | b'-')));
        at = digits(raw, at + 1 + sign)?;
    }
    Ok((at, spelling(&raw[start..at], integer)))
}

/// At least one digit; the offset behind the last.
fn digits(raw: &[u8], start: usize) -> Result<usize, Stop> {
    let mut at = start;
    while raw.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    match (at > start, raw.get(at)) {
        (true, _) => Ok(at),
        (false, Some(_)) => Err(Stop::syntax(at, "expected a digit")),
        (false, None) => Err(Stop::truncated(at)),
    }
}

fn spelling(token: &[u8], integer: bool) -> Spelling {
    // 18 characters always fit an i64.
    if integer && token.len() <= 18 {
        return if token == b"-0" { Spelling::MinusZero } else { Spelling::Plain };
    }
    let Ok(text) = std::str::from_utf8(token) else { return Spelling::Unrepresentable };
    let fits = if integer {
        text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok()
    } else {
        text.parse::<f64>().is_ok_and(f64::is_finite)
    };
    if fits { Spelling::Plain } else { Spelling::Unrepresentable }
}

/// Takes `true`, `false` or `null` at `at`; anything else is no value at all.
pub(super) fn literal(raw: &[u8], at: usize) -> Result<usize, Stop> {
    let rest = &raw[at..];
    for word in ["true", "false", "null"] {
        if rest.starts_with(word.as_bytes()) {
            return Ok(at + word.len());
        }
        if word.as_bytes().starts_with(rest) {
            return Err(Stop::truncated(raw.len()));
        }
    }
    Err(Stop::syntax(at, "expected a value"))
}
