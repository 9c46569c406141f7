//! What kind of broken a document is; asked only once the strict pass has stopped.

use super::Rules;
use super::fault::{Fault, visible};
use super::token::{self, Quoted, Stop};
use crate::fate::Reason;

/// The UTF-8 byte order mark.
pub(super) const BOM: &[u8] = b"\xef\xbb\xbf";

/// How much of a file is looked at for control bytes.
const SAMPLE: usize = 512;

/// The fault of bytes that are not UTF-8 from `at` on, or that begin with a byte order mark.
pub(super) fn of_bytes(raw: &[u8], at: usize) -> Fault {
    let encoding = |at: usize, text: String| Fault::at(Reason::JsonEncoding, at, text);
    if raw.starts_with(BOM) {
        return encoding(0, "begins with a byte order mark; save it as UTF-8 without one".into());
    }
    if is_wide(raw) {
        return encoding(0, "is UTF-16 or UTF-32 text; save it as UTF-8".into());
    }
    if is_binary(raw) {
        return binary(raw);
    }
    let what = match (raw.get(at), raw.get(at + 1)) {
        (Some(0xc0 | 0xc1), _) | (Some(0xe0), Some(0x80..=0x9f)) | (Some(0xf0), Some(0x80..=0x8f)) => {
            "begins an overlong UTF-8 sequence"
        }
        (Some(0xed), Some(0xa0..=0xbf)) => "begins a surrogate, which UTF-8 cannot hold",
        _ => "is not valid UTF-8",
    };
    encoding(at, format!("byte 0x{:02x} at byte {at} {what}", raw.get(at).copied().unwrap_or(0)))
}

/// The fault behind `stop`, or one further on that ranks before it.
pub(super) fn of(text: &[u8], stop: Stop, rules: &Rules) -> Fault {
    let syntax = stop.reason == Reason::JsonSyntax;
    if syntax && is_wide(text) {
        return of_bytes(text, 0);
    }
    let begun = stop.at > token::skip_space(text, 0);
    let first = match survey(text, rules.max_depth.max(1)) {
        Some(found) if found.reason == Reason::JsonEncoding && begun => found,
        Some(found) if syntax && begun => found,
        _ => stop,
    };
    match first.reason {
        Reason::JsonSyntax if is_binary(text) => binary(text),
        Reason::JsonSyntax => {
            let found = String::from_utf8_lossy(&text[first.at..]).chars().next().unwrap_or(' ');
            let found = visible(found.encode_utf8(&mut [0; 4]), 1);
            Fault::at(first.reason, first.at, format!("{}, found '{found}' at byte {}", first.text, first.at))
        }
        reason => Fault::at(reason, first.at, first.text),
    }
}

/// Reads the whole text by its quotes and brackets alone: the first lone surrogate in a string, else the
/// first bracket beyond `max_depth`. A document with a fault of the grammar has no better reading.
fn survey(text: &[u8], max_depth: u32) -> Option<Stop> {
    let (mut at, mut depth, mut in_string, mut deep) = (0, 0u32, false, None);
    while let Some(&byte) = text.get(at) {
        match (byte, in_string) {
            (b'"', _) => in_string = !in_string,
            (b'\\', true) => {
                let mut string = Quoted { end: at, escaped: true, control: None };
                match token::escape(text, &mut string) {
                    Ok(()) => at = string.end - 1,
                    Err(stop) if stop.reason == Reason::JsonEncoding => return Some(stop),
                    Err(_) => at += 1,
                }
            }
            (b'{' | b'[', false) => {
                depth += 1;
                if depth > max_depth && deep.is_none() {
                    deep = Some(Stop {
                        reason: Reason::JsonDepth,
                        at,
                        text: "nested too deep (intake.max_depth)",
                    });
                }
            }
            (b'}' | b']', false) => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    deep
}

/// UTF-16 or UTF-32, with a byte order mark or known by the zero beside the first character.
fn is_wide(raw: &[u8]) -> bool {
    let begins = |byte: u8| b"{[\" \t\r\n".contains(&byte);
    match *raw {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, 0, 0xfe, 0xff, ..] => true,
        [0, 0, 0, first, ..] | [0, first, ..] | [first, 0, ..] => begins(first),
        _ => false,
    }
}

/// Begins as no JSON text can and has control bytes early on.
fn is_binary(raw: &[u8]) -> bool {
    let begins = |byte: u8| b"{[\"-tfn \t\r\n".contains(&byte) || byte.is_ascii_digit();
    let control = |&byte: &u8| byte < 0x20 && !b"\t\r\n".contains(&byte);
    raw.first().is_some_and(|&first| !begins(first)) && raw.iter().take(SAMPLE).any(control)
}

fn binary(raw: &[u8]) -> Fault {
    let text = match raw {
        [0x1f, 0x8b, ..] => "is gzip data, not JSON (first byte 0x1f at byte 0)".to_owned(),
        _ if raw.iter().all(|&byte| byte == 0) => "holds nothing but zero bytes".to_owned(),
        [first, ..] => format!("is binary data, not JSON (first byte 0x{first:02x} at byte 0)"),
        [] => "is empty".to_owned(),
    };
    Fault::at(Reason::JsonSyntax, 0, text)
}
