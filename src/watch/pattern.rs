//! A glob over single file names: `*`, `?`, `[abc]`, `[a-z]`, `[!abc]` (or `[^abc]`), `\` before a
//! character that shall stand for itself.
//!
//! Names are bytes. A character of valid UTF-8 counts as one; a byte that belongs to none matches
//! `?`, `*` and a negated class, so that a name with such bytes can be found and reported. Matching
//! takes at most (length of the name) × (length of the pattern) steps and no memory.

use std::fmt;

/// A pattern ready for use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    tokens: Box<[Token]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// This character.
    Is(char),
    /// Any one character.
    Any,
    /// Any run of characters, also none.
    Run,
    /// One character of these ranges, or of none of them.
    Class { negated: bool, ranges: Box<[(char, char)]> },
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatternFault {
    /// It would match nothing.
    Empty,
    /// File names have no slash, so it would match nothing.
    Slash,
    /// `[` without its `]`, or nothing between them.
    Class,
    /// `[z-a]`.
    Range(char, char),
    /// `\` at the end.
    Escape,
}

impl fmt::Display for PatternFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PatternFault::Empty => f.write_str("the pattern is empty"),
            PatternFault::Slash => f.write_str("a pattern is matched against file names, which have no /"),
            PatternFault::Class => f.write_str("[ without ], or nothing between them"),
            PatternFault::Range(from, to) => write!(f, "the range {from}-{to} runs backwards"),
            PatternFault::Escape => f.write_str("\\ at the end stands before nothing"),
        }
    }
}

impl std::error::Error for PatternFault {}

impl Pattern {
    /// Reads a pattern.
    pub fn new(text: &str) -> Result<Pattern, PatternFault> {
        let mut tokens = Vec::new();
        let mut rest = text.chars();
        while let Some(next) = rest.next() {
            tokens.push(match next {
                '/' => return Err(PatternFault::Slash),
                '?' => Token::Any,
                '*' if tokens.last() == Some(&Token::Run) => continue,
                '*' => Token::Run,
                '[' => class(&mut rest)?,
                '\\' => Token::Is(rest.next().ok_or(PatternFault::Escape)?),
                other => Token::Is(other),
            });
        }
        if tokens.is_empty() {
            return Err(PatternFault::Empty);
        }
        Ok(Pattern { tokens: tokens.into() })
    }

    /// True when the whole of `name` fits.
    pub fn matches(&self, name: &[u8]) -> bool {
        let (mut token, mut at) = (0, 0);
        // Where to go on when the rest does not fit: after the last run, one character further.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            let fits = match self.tokens.get(token) {
                Some(Token::Run) => {
                    retry = Some((token + 1, at));
                    token += 1;
                    continue;
                }
                Some(one) if at < name.len() => {
                    let (character, length) = first_character(&name[at..]);
                    one.takes(character).then_some(length)
                }
                Some(_) => None,
                None if at == name.len() => return true,
                None => None,
            };
            if let Some(length) = fits {
                token += 1;
                at += length;
                continue;
            }
            match retry {
                Some((after, from)) if from < name.len() => {
                    let from = from + first_character(&name[from..]).1;
                    retry = Some((after, from));
                    (token, at) = (after, from);
                }
                _ => return false,
            }
        }
    }
}

impl Token {
    fn takes(&self, character: Option<char>) -> bool {
        match self {
            Token::Is(wanted) => character == Some(*wanted),
            Token::Any | Token::Run => true,
            Token::Class { negated, ranges } => {
                let inside =
                    character.is_some_and(|c| ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)));
                inside != *negated
            }
        }
    }
}

/// Reads a class after its `[`. A `]` or `-` that comes first stands for itself.
fn class(rest: &mut std::str::Chars<'_>) -> Result<Token, PatternFault> {
    let mut ranges = Vec::new();
    let mut next = rest.next();
    let negated = matches!(next, Some('!' | '^'));
    if negated {
        next = rest.next();
    }
    loop {
        let from = match next.ok_or(PatternFault::Class)? {
            ']' if !ranges.is_empty() => break,
            '/' => return Err(PatternFault::Slash),
            '\\' => rest.next().ok_or(PatternFault::Escape)?,
            other => other,
        };
        next = rest.next();
        let mut ahead = rest.clone();
        let to = match (next, ahead.next()) {
            (Some('-'), Some(to)) if to != ']' => {
                *rest = ahead;
                let to = if to == '\\' { rest.next().ok_or(PatternFault::Escape)? } else { to };
                next = rest.next();
                to
            }
            _ => from,
        };
        if from > to {
            return Err(PatternFault::Range(from, to));
        }
        ranges.push((from, to));
    }
    Ok(Token::Class { negated, ranges: ranges.into() })
}

/// The first character of a name and its length in bytes; `None` for a byte that is no part of one.
fn first_character(bytes: &[u8]) -> (Option<char>, usize) {
    if bytes[0].is_ascii() {
        return (Some(char::from(bytes[0])), 1);
    }
    let start = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(start) {
        Ok(text) => text,
        // The part before the fault is valid by definition.
        Err(fault) => std::str::from_utf8(&start[..fault.valid_up_to()]).unwrap_or_default(),
    };
    valid.chars().next().map_or((None, 1), |character| (Some(character), character.len_utf8()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern).unwrap().matches(name.as_bytes())
    }

    #[test]
    fn the_usual_pattern_takes_intents_and_nothing_else() {
        for name in ["intent-1.json", "intent-.json", "intent-a.json.json", "intent-\u{20ac}.json"] {
            assert!(matches("intent-*.json", name), "{name}");
        }
        for name in
            ["intent-1.jso", "xintent-1.json", "intent-1.json.tmp", "intent.json", "", "Intent-1.json"]
        {
            assert!(!matches("intent-*.json", name), "{name}");
        }
    }

    #[test]
    fn every_sign_means_what_a_shell_means_by_it() {
        for (pattern, yes, no) in [
            ("a?c", "abc", "ac"),
            ("a?c", "a\u{e9}c", "abbc"),
            ("[abc]x", "bx", "dx"),
            ("[a-c-]x", "-x", "dx"),
            ("[!a-c]x", "dx", "ax"),
            ("[^a-c]x", "dx", "cx"),
            ("[]a]x", "]x", "bx"),
            ("[\\]a]x", "]x", "\\x"),
            ("\\*x", "*x", "ax"),
            ("*", "anything", "\u{0}never\u{0}"),
            ("a*b*c", "a-b-b-c", "a-c-b"),
            ("**a", "bba", "bab"),
            ("[\u{3b1}-\u{3c9}]", "\u{3b2}", "b"),
        ] {
            assert!(matches(pattern, yes), "{pattern} {yes}");
            assert!(pattern == "*" || !matches(pattern, no), "{pattern} {no}");
        }
    }

    #[test]
    fn a_broken_byte_is_one_character_of_no_class() {
        let pattern = Pattern::new("a?b").unwrap();
        assert!(pattern.matches(b"a\xffb") && !pattern.matches(b"a\xff\xffb"));
        assert!(!Pattern::new("[a-z]").unwrap().matches(b"\xff"));
        assert!(Pattern::new("[!a-z]").unwrap().matches(b"\xff"));
        assert!(Pattern::new("intent-*.json").unwrap().matches(b"intent-\xe2\x82.json"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        assert_eq!(Pattern::new(""), Err(PatternFault::Empty));
        assert_eq!(Pattern::new("a/b"), Err(PatternFault::Slash));
        assert_eq!(Pattern::new("[ab"), Err(PatternFault::Class));
        assert_eq!(Pattern::new("[]"), Err(PatternFault::Class));
        assert_eq!(Pattern::new("[z-a]"), Err(PatternFault::Range('z', 'a')));
        assert_eq!(Pattern::new("a\\"), Err(PatternFault::Escape));
    }

    /// The plainest possible matcher of stars and letters.
    fn plain(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => (0..=name.len()).any(|skip| plain(rest, &name[skip..])),
            (Some((b'?', rest)), Some((_, name))) => plain(rest, name),
            (Some((sign, rest)), Some((first, name))) => sign == first && plain(rest, name),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_plainest_matcher(pattern in "[ab*?]{1,8}", name in "[ab]{0,10}") {
            prop_assert_eq!(matches(&pattern, &name), plain(pattern.as_bytes(), name.as_bytes()));
        }

        #[test]
        fn no_bytes_make_it_fail(pattern in ".{1,12}", name in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(pattern) = Pattern::new(&pattern) {
                pattern.matches(&name);
            }
        }
    }
}
