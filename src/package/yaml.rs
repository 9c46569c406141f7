//! Scalars that every YAML reader understands alike.
//!
//! Double-quoted scalars with JSON escapes mean the same in YAML 1.1, YAML 1.2 and JSON: `no`, `1e3`,
//! `12:30:45`, `=`, `<<` and `~` stay strings. Beyond JSON, whatever YAML 1.1 does not allow raw or
//! takes for a line break is escaped (DEL, C1 controls, U+2028, U+2029, U+FEFF, U+FFFE, U+FFFF), and so
//! are the marks that reverse text on a reviewer's screen.

/// True for bytes that cannot be copied as they are: quotes, controls, and the lead bytes of the
/// multi-byte characters that may need an escape (`C2`, `D8`, `E2`, `EF`).
const SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table[0x7f] = true;
    table[0xc2] = true;
    table[0xd8] = true;
    table[0xe2] = true;
    table[0xef] = true;
    table
};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends `text` as a double-quoted scalar on one line.
pub(super) fn push_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    push_escaped(out, text);
    out.push(b'"');
}

/// Appends what stands between the quotes of such a scalar.
pub(super) fn push_escaped(out: &mut Vec<u8>, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| SPECIAL[usize::from(byte)]) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain.as_bytes());
        let mut chars = tail.chars();
        if let Some(special) = chars.next() {
            push_special(out, special);
        }
        rest = chars.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
}

fn push_special(out: &mut Vec<u8>, special: char) {
    let short = match special {
        '"' => b'"',
        '\\' => b'\\',
        '\n' => b'n',
        '\r' => b'r',
        '\t' => b't',
        _ if must_escape(special) => return push_unicode(out, special),
        _ => return out.extend_from_slice(special.encode_utf8(&mut [0; 4]).as_bytes()),
    };
    out.extend_from_slice(&[b'\\', short]);
}

const fn must_escape(special: char) -> bool {
    matches!(
        special,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
    )
}

/// All characters of [`must_escape`] have at most four hex digits.
fn push_unicode(out: &mut Vec<u8>, special: char) {
    let code = u32::from(special);
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(HEX[(code >> shift & 0xf) as usize]);
    }
}

/// Appends `bytes` in hex, two lower-case digits each.
pub(super) fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]]);
    }
}

/// Appends `number` in decimal.
pub(super) fn push_decimal(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0u8; 20];
    let mut from = digits.len();
    let mut rest = number;
    loop {
        from -= 1;
        digits[from] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[from..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(text: &str) -> String {
        let mut out = Vec::new();
        push_quoted(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn plain_text_is_copied_between_quotes() {
        assert_eq!(quoted("no"), r#""no""#);
        assert_eq!(quoted("Größe → 😀"), "\"Größe → 😀\"");
    }

    #[test]
    fn what_a_reader_could_take_for_something_else_is_escaped() {
        assert_eq!(quoted("a\"b\\c\nd\te\r"), r#""a\"b\\c\nd\te\r""#);
        assert_eq!(quoted("\0\u{7f}\u{85}\u{2028}\u{feff}"), r#""\u0000\u007f\u0085\u2028\ufeff""#);
        assert_eq!(quoted("\u{202e}\u{61c}"), r#""\u202e\u061c""#);
    }

    #[test]
    fn numbers_are_spelled_in_full() {
        for number in [0, 7, 10, 1_234_567_890, u64::MAX] {
            let mut out = Vec::new();
            push_decimal(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }
}
