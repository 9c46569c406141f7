//! Which names are intents (`reliability.md` 11 "Names", fault F15).
//!
//! A name is taken when the pattern matches and nothing speaks against it. Names that begin with a
//! dot or end in `.tmp .part .swp ~` are work in progress. Names that match but hold control, bidi,
//! zero-width or invalid characters are left where they are and counted once each, for the first
//! [`REMEMBERED`] of them.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use super::pattern::Pattern;

/// Directories of the daemon inside the handoff folder: never watched, never scanned.
const OWN: [&[u8]; 4] = [b".conductor", b"processed", b"failed", b"status"];

/// Endings of files that somebody still works on.
const IN_PROGRESS: [&[u8]; 4] = [b".tmp", b".part", b".swp", b"~"];

/// Names left in place that are told from one another, 16 bytes each.
pub(super) const REMEMBERED: usize = 16_384;

/// What a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// An intent.
    Take,
    /// Somebody else's business, or not finished.
    Ignore,
    /// It matches, but such names are not touched.
    Bad,
}

/// The name filter.
#[derive(Debug)]
pub struct Names {
    pattern: Pattern,
}

impl Names {
    /// Names that fit `pattern`.
    pub fn new(pattern: Pattern) -> Self {
        Names { pattern }
    }

    /// True if a file of this name is taken: the pattern fits and nothing speaks against it.
    pub fn is_intent(&self, name: &[u8]) -> bool {
        self.judge(name) == Verdict::Take
    }

    /// Judges a single name, without any directory before it.
    pub fn judge(&self, name: &[u8]) -> Verdict {
        if name.starts_with(b".") || IN_PROGRESS.iter().any(|ending| name.ends_with(ending)) {
            return Verdict::Ignore;
        }
        if !self.pattern.matches(name) {
            return Verdict::Ignore;
        }
        match std::str::from_utf8(name) {
            Ok(text) if !text.chars().any(is_forbidden) => Verdict::Take,
            _ => Verdict::Bad,
        }
    }
}

/// True for a directory that may hold intents in a recursive watch.
pub(super) fn is_foreign_directory(name: &[u8], at_the_top: bool) -> bool {
    let is_own = at_the_top && is_own_directory(name);
    !is_own && !name.starts_with(b".")
}

/// True for the daemon's own directories.
pub(super) fn is_own_directory(name: &[u8]) -> bool {
    OWN.contains(&name)
}

/// Control characters, bidi controls, zero-width characters.
fn is_forbidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{061c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2060}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
        )
}

/// Names that were reported already.
#[derive(Debug, Default)]
pub(super) struct Reported {
    keys: RandomState,
    seen: HashSet<u64>,
}

impl Reported {
    /// True the first time, as long as there is room to remember.
    pub(super) fn is_news(&mut self, name: &[u8]) -> bool {
        self.seen.len() < REMEMBERED && self.seen.insert(self.keys.hash_one(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(name: &[u8]) -> Verdict {
        Names::new(Pattern::new("*").unwrap()).judge(name)
    }

    #[test]
    fn work_in_progress_is_ignored() {
        for name in [".intent-1.json", "a.tmp", "a.json.part", ".a.swp", "a.swp", "a.json~"] {
            assert_eq!(judge(name.as_bytes()), Verdict::Ignore, "{name}");
        }
        assert_eq!(judge(b"a.tmp.json"), Verdict::Take);
    }

    #[test]
    fn hostile_names_are_left_and_harmless_ones_taken() {
        for name in [
            "a\nb.json",
            "a\x1b[31m.json",
            "a\u{7f}.json",
            "a\u{85}.json",
            "a\u{202e}nosj",
            "a\u{200b}.json",
            "a\u{2067}.json",
            "\u{feff}a.json",
        ] {
            assert_eq!(judge(name.as_bytes()), Verdict::Bad, "{name:?}");
        }
        assert_eq!(judge(b"a\xff.json"), Verdict::Bad);
        for name in ["-rf.json", "a b.json", "\u{fc}ber.json", "\u{5d0}\u{5d1}.json", "a;b$(c).json"] {
            assert_eq!(judge(name.as_bytes()), Verdict::Take, "{name:?}");
        }
    }

    #[test]
    fn a_bad_name_is_news_once_and_memory_is_bounded() {
        let mut reported = Reported::default();
        assert!(reported.is_news(b"a") && !reported.is_news(b"a"));
        for number in 0..2 * REMEMBERED {
            reported.is_news(&number.to_le_bytes());
        }
        assert!(!reported.is_news(b"b"));
    }
}
