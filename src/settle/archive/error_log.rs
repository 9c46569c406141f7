//! The error log beside a file in `failed/`: the lines and wording of the original (`compat.md` 2).

use std::path::{Path, PathBuf};

use crate::fate::Reason;
use crate::ledger::End;
use crate::settle::status::{MESSAGE_BYTES, cut_str};

/// The name of the error log beside an archived file.
pub(in crate::settle) fn log_name(archived: &Path) -> PathBuf {
    let mut name = archived.as_os_str().to_owned();
    name.push(".error.log");
    name.into()
}

/// One entry of an error log, lines and wording of the original.
pub(super) fn entry(path: &Path, end: &End) -> Vec<u8> {
    let at = end.finished_at.seconds();
    let prefix = if end.reason.is_some_and(is_fault_of_document) { "Validation failed: " } else { "" };
    let text = visible(cut_str(&end.message, MESSAGE_BYTES));
    let path = visible(&path.to_string_lossy());
    format!("File: {path}\nFailed at: {at}\nError: {prefix}{text}\n\n").into_bytes()
}

/// True for reasons that come from reading the document.
fn is_fault_of_document(reason: Reason) -> bool {
    use Reason::{
        BadField, Empty, JsonDepth, JsonDuplicateKey, JsonEncoding, JsonLimits, JsonNumber, JsonSyntax,
        Policy, Schema, TruncatedJson,
    };
    matches!(
        reason,
        Empty
            | TruncatedJson
            | JsonSyntax
            | JsonEncoding
            | JsonDepth
            | JsonDuplicateKey
            | JsonNumber
            | JsonLimits
            | Schema
            | BadField
            | Policy
    )
}

/// Text in which nothing can move the cursor, start a line or turn the reading direction.
fn visible(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if hidden(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Wall;
    use crate::fate::Fate;

    fn refused(reason: Reason, message: &str) -> End {
        End {
            no: 1,
            fate: Fate::Refused,
            reason: Some(reason),
            message: message.to_owned(),
            errors: Vec::new(),
            sink: None,
            remote: None,
            possible_duplicate: false,
            attempts: 0,
            related: None,
            finished_at: Wall::parse("2026-11-21T08:00:00.9Z").unwrap(),
            duration: Duration::ZERO,
        }
    }

    #[test]
    fn an_entry_has_three_lines_and_an_empty_one() {
        let written =
            entry(Path::new("/drop/intent-1.json"), &refused(Reason::Schema, "/replicas is missing"));
        let wanted = "File: /drop/intent-1.json\nFailed at: 2026-11-21T08:00:00Z\n\
                      Error: Validation failed: /replicas is missing\n\n";
        assert_eq!(String::from_utf8(written).unwrap(), wanted);
    }

    #[test]
    fn what_the_sink_said_is_not_a_failed_validation() {
        let written = entry(Path::new("/d/i"), &refused(Reason::CliExit, "exit status 3 (stderr: boom)"));
        assert!(String::from_utf8(written).unwrap().contains("\nError: exit status 3 (stderr: boom)\n"));
    }

    #[test]
    fn a_message_cannot_forge_lines_or_move_the_cursor() {
        assert_eq!(visible("a\nFile: b\u{1b}[2J\u{202e}ü"), "a\\nFile: b\\u{1b}[2J\\u{202e}ü");
    }

    #[test]
    fn a_long_message_is_cut() {
        let written = entry(Path::new("/d/i"), &refused(Reason::CliExit, &"ü".repeat(5000)));
        assert!(written.len() < MESSAGE_BYTES + 60);
    }
}
