//! What a `workload.yaml` that stands there already says: whose it is and which intent it holds.
//!
//! Values are read leniently (quotes and order may have been changed by a formatter), structure is
//! not guessed: without our ConfigMap at the end the workload document counts as lost.

use super::{INTENT_ID, REVISION};
use crate::fate::Id;

const SEPARATOR: &str = "\n---\n";

/// Whose file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held<'a> {
    /// Nobody's: no bytes, or only the zeros that a power cut leaves.
    Empty,
    /// Written by this daemon.
    Ours(Holding<'a>),
    /// Without our annotations: somebody else's, or torn before they begin ([`Held::is_torn`]).
    Unmarked,
}

/// What one of our own files holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding<'a> {
    /// The newest intent in it, if that is legible.
    pub id: Option<Id>,
    /// Its revision; 0 if that is illegible.
    pub revision: u64,
    /// The first document.
    pub document: Document<'a>,
}

/// The workload document of one of our own files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document<'a> {
    /// All of it, final newline included.
    Whole(&'a str),
    /// The file holds the ConfigMap alone.
    Absent,
    /// Our ConfigMap does not close the file: torn or rearranged.
    Lost,
}

impl<'a> Held<'a> {
    /// Reads the bytes of a `workload.yaml`.
    pub fn parse(bytes: &'a [u8]) -> Held<'a> {
        let bytes = without_zeros(bytes);
        if bytes.is_empty() {
            return Held::Empty;
        }
        let Ok(text) = std::str::from_utf8(bytes) else { return Held::Unmarked };
        if !text.contains(INTENT_ID) {
            return Held::Unmarked;
        }
        let (first, last) = match text.rfind(SEPARATOR) {
            Some(at) => (&text[..=at], &text[at + SEPARATOR.len()..]),
            None => ("", text),
        };
        let closed = last.lines().any(|line| line == "kind: ConfigMap");
        let annotation = |key| find(last, key).or_else(|| find(first, key));
        Held::Ours(Holding {
            id: annotation(INTENT_ID).and_then(|id| id.parse().ok()),
            revision: annotation(REVISION).and_then(|number| number.parse().ok()).unwrap_or(0),
            document: match (closed, first) {
                (false, _) => Document::Lost,
                (true, "") => Document::Absent,
                (true, document) => Document::Whole(document),
            },
        })
    }

    /// True if `found` is what a power cut may have left of `whole`: its beginning, perhaps followed
    /// by zeros, or nothing.
    pub fn is_torn(found: &[u8], whole: &[u8]) -> bool {
        let text = without_zeros(found);
        text.len() < found.len().max(whole.len()) && whole.starts_with(text)
    }
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1);
    &bytes[..end]
}

/// The value of the first whole line `key: value`, quotes removed.
fn find<'a>(document: &'a str, key: &str) -> Option<&'a str> {
    document.split_inclusive('\n').find_map(|line| {
        let value = line.strip_suffix('\n')?.trim_start().strip_prefix(key)?.strip_prefix(':')?;
        Some(value.trim().trim_matches(['"', '\'']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  annotations:\n    \
        conductor-loop.nephoran.com/intent-id: \"00000000000000ff\"\n    \
        conductor-loop.nephoran.com/revision: \"12\"\n";

    #[test]
    fn the_newest_stamp_is_that_of_the_config_map() {
        let old = CONFIG.replace("ConfigMap", "Deployment").replace("12", "7");
        let text = format!("{old}---\n{CONFIG}");
        let Held::Ours(holding) = Held::parse(text.as_bytes()) else { panic!("ours") };
        assert_eq!(holding.id, Some(Id(255)));
        assert_eq!(holding.revision, 12);
        assert_eq!(holding.document, Document::Whole(&old));
    }

    #[test]
    fn a_formatter_may_change_the_quotes() {
        let text = CONFIG.replace('"', "'");
        let Held::Ours(holding) = Held::parse(text.as_bytes()) else { panic!("ours") };
        assert_eq!((holding.id, holding.revision), (Some(Id(255)), 12));
        assert_eq!(holding.document, Document::Absent);
    }

    #[test]
    fn a_cut_off_line_says_nothing() {
        let text = &CONFIG[..CONFIG.len() - 3];
        let Held::Ours(holding) = Held::parse(text.as_bytes()) else { panic!("ours") };
        assert_eq!((holding.id, holding.revision), (Some(Id(255)), 0));
    }

    #[test]
    fn text_without_our_annotations_is_not_ours() {
        assert_eq!(Held::parse(b"apiVersion: v1\nkind: ConfigMap\n"), Held::Unmarked);
        assert_eq!(Held::parse(b"\xff\xfe"), Held::Unmarked);
    }

    #[test]
    fn zeros_alone_are_nobodys() {
        assert_eq!(Held::parse(b""), Held::Empty);
        assert_eq!(Held::parse(&[0; 4096]), Held::Empty);
    }

    #[test]
    fn a_beginning_or_a_tail_of_zeros_is_torn_and_the_whole_is_not() {
        let whole = CONFIG.as_bytes();
        assert!(Held::is_torn(b"", whole));
        assert!(Held::is_torn(&whole[..40], whole));
        assert!(Held::is_torn(&[&whole[..40], &[0; 9]].concat(), whole));
        assert!(Held::is_torn(&[whole, &[0; 9]].concat(), whole));
        assert!(!Held::is_torn(whole, whole));
        assert!(!Held::is_torn(b"something else", whole));
    }
}
