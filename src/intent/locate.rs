//! Where in the document something stands: byte ranges by JSON pointer, lines and columns by byte.
//!
//! Asked on refusal only, so it reads the original bytes again instead of keeping spans. Documents
//! were through the strict layer; on anything else the answer is `None`, never a panic.

use std::borrow::Cow;
use std::ops::Range;

use super::token::{self, skip_space};

/// A value found by its pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Offset of the member name in front of it, if it is a member.
    pub(super) name: Option<usize>,
    /// The value's bytes.
    pub(super) value: Range<usize>,
}

/// The value at `pointer` (RFC 6901).
pub(super) fn find(raw: &[u8], pointer: &str) -> Option<Found> {
    let mut found = Found { name: None, value: skip_space(raw, 0)..raw.len() };
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        found = match raw.get(found.value.start)? {
            b'{' => member(raw, found.value.start, &token)?,
            b'[' => element(raw, found.value.start, token.parse().ok()?)?,
            _ => return None,
        };
    }
    found.value.end = end_of_value(raw, found.value.start)?;
    Some(found)
}

fn member(raw: &[u8], open: usize, wanted: &str) -> Option<Found> {
    let mut at = skip_space(raw, open + 1);
    while raw.get(at) == Some(&b'"') {
        let name = token::quoted(raw, at).ok()?;
        let value = skip_space(raw, skip_space(raw, name.end) + 1);
        if unescape(&raw[at..name.end]) == wanted {
            return Some(Found { name: Some(at), value: value..raw.len() });
        }
        at = next(raw, value)?;
    }
    None
}

fn element(raw: &[u8], open: usize, index: usize) -> Option<Found> {
    let mut at = skip_space(raw, open + 1);
    for _ in 0..index {
        at = next(raw, at)?;
    }
    Some(Found { name: None, value: at..raw.len() })
}

/// What follows the comma behind the value at `at`.
fn next(raw: &[u8], at: usize) -> Option<usize> {
    let comma = skip_space(raw, end_of_value(raw, at)?);
    (raw.get(comma) == Some(&b',')).then(|| skip_space(raw, comma + 1))
}

fn end_of_value(raw: &[u8], start: usize) -> Option<usize> {
    let (mut at, mut depth) = (start, 0usize);
    loop {
        match raw.get(at)? {
            b'"' => at = token::quoted(raw, at).ok()?.end,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
                continue;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' if depth > 0 => {
                at += 1;
                continue;
            }
            _ => {
                let scalar = raw[at..].iter().take_while(|byte| !b",:]} \t\n\r".contains(byte)).count();
                at += scalar;
                if scalar == 0 {
                    return None;
                }
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// The text of a string with its quotes on.
pub(super) fn unescape(quoted: &[u8]) -> Cow<'_, str> {
    match serde_json::from_slice::<String>(quoted) {
        Ok(text) => Cow::Owned(text),
        Err(_) => String::from_utf8_lossy(quoted),
    }
}

/// Line and column of byte `at`, both from 1; columns count characters.
pub(super) fn line_column(raw: &[u8], at: usize) -> (u32, u32) {
    let before = &raw[..at.min(raw.len())];
    let line = before.iter().filter(|&&byte| byte == b'\n').count();
    let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    let column = String::from_utf8_lossy(&before[start..]).chars().count();
    (line as u32 + 1, column as u32 + 1)
}
