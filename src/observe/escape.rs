//! Names and texts of others, made safe to print.
//!
//! Whoever may drop a file chooses its name: escape sequences, line breaks and marks that turn the
//! reading direction must not reach a terminal, a log or a page (`reliability.md` 11, "Names").

/// Most characters of an escaped name.
pub const NAME_LIMIT: usize = 128;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// The name of a dropped file for logs and pages: control, bidi and zero-width characters and
/// invalid UTF-8 as `%XX` a byte, cut at [`NAME_LIMIT`] characters; a cut name ends in `…`.
pub fn escape_name(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len().min(NAME_LIMIT));
    let mut length = 0;
    // Where to cut if more follows: the last place that leaves room for the mark.
    let mut cut = 0;
    for chunk in name.utf8_chunks() {
        let valid = chunk.valid().chars().map(Piece::Char);
        for piece in valid.chain(chunk.invalid().iter().copied().map(Piece::Byte)) {
            length += piece.push(&mut out);
            if length > NAME_LIMIT {
                out.truncate(cut);
                out.push('…');
                return out;
            }
            if length < NAME_LIMIT {
                cut = out.len();
            }
        }
    }
    out
}

/// Appends `text` with the same characters escaped, uncut.
pub fn push_escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        Piece::Char(c).push(out);
    }
}

/// True for characters that are not printed as they are.
pub const fn is_unsafe(c: char) -> bool {
    c.is_ascii_control()
        || matches!(c,
            '\u{80}'..='\u{9f}' // C1 controls
            | '\u{ad}' // soft hyphen
            | '\u{61c}' // Arabic letter mark
            | '\u{180e}' // Mongolian vowel separator
            | '\u{200b}'..='\u{200f}' // zero width, direction marks
            | '\u{2028}'..='\u{202e}' // line and paragraph separators, embeddings and overrides
            | '\u{2060}'..='\u{206f}' // joiners, invisible operators, isolates
            | '\u{feff}' // byte order mark
            | '\u{fff9}'..='\u{fffb}' // interlinear annotation
            | '\u{e0000}'..='\u{e007f}' // tags
        )
}

enum Piece {
    Char(char),
    Byte(u8),
}

impl Piece {
    /// Appends the piece and returns how many characters that took.
    fn push(self, out: &mut String) -> usize {
        match self {
            Piece::Char(c) if !is_unsafe(c) => {
                out.push(c);
                1
            }
            Piece::Char(c) => c.encode_utf8(&mut [0; 4]).bytes().map(|byte| push_byte(out, byte)).sum(),
            Piece::Byte(byte) => push_byte(out, byte),
        }
    }
}

fn push_byte(out: &mut String, byte: u8) -> usize {
    out.push('%');
    out.push(char::from(HEX[usize::from(byte >> 4)]));
    out.push(char::from(HEX[usize::from(byte & 15)]));
    3
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_ordinary_name_stays_as_it_is() {
        assert_eq!(escape_name(b"intent-7.json"), "intent-7.json");
        assert_eq!(escape_name("intent-größe.json".as_bytes()), "intent-größe.json");
    }

    #[test]
    fn what_could_fool_a_reader_is_spelled_in_hex() {
        assert_eq!(escape_name(b"a\nb\x1b[31m\x7f"), "a%0Ab%1B[31m%7F");
        assert_eq!(escape_name("x\u{202e}y\u{200b}".as_bytes()), "x%E2%80%AEy%E2%80%8B");
        assert_eq!(escape_name(b"bad\xff\xc3"), "bad%FF%C3");
    }

    #[test]
    fn a_long_name_is_cut_at_a_whole_character() {
        assert_eq!(escape_name(&[b'a'; 128]), "a".repeat(128));
        assert_eq!(escape_name(&[b'a'; 129]), format!("{}…", "a".repeat(127)));
        let hostile = escape_name(&[0xff; 255]);
        assert_eq!(hostile, format!("{}…", "%FF".repeat(42)));
    }

    proptest! {
        #[test]
        fn no_bytes_lead_to_an_unsafe_or_overlong_text(name in proptest::collection::vec(any::<u8>(), 0..300)) {
            let text = escape_name(&name);
            prop_assert!(text.chars().count() <= NAME_LIMIT);
            prop_assert!(!text.chars().any(is_unsafe));
        }

        #[test]
        fn a_valid_prefix_of_safe_characters_is_kept(name in "\\PC{0,200}") {
            let text = escape_name(name.as_bytes());
            let safe: String = name.chars().take_while(|&c| !is_unsafe(c)).take(NAME_LIMIT - 1).collect();
            prop_assert!(text.starts_with(&safe));
        }

        #[test]
        fn an_escaped_text_has_no_unsafe_character(text in "(?s).{0,200}") {
            let mut out = String::new();
            push_escaped(&mut out, &text);
            prop_assert!(!out.chars().any(is_unsafe));
        }
    }
}
