//! What the long help says beside the flags; the manual page says it too.

use std::fmt::Write as _;

/// Columns that the text below is folded to.
const WIDTH: usize = 96;

/// Good command lines, without the program's name, and what they do.
pub const EXAMPLES: &[(&str, &str)] = &[
    ("--handoff /srv/intents --out /srv/packages", "watch a folder"),
    ("once --handoff /srv/intents --json", "settle what is there, then end"),
    ("--set ledger.keep_for=7d --listen off", "any setting, as in the file"),
    ("validate intent-*.json", "check files without accepting them"),
    ("history --fate refused --since 1h", "what was refused in the last hour"),
    ("config init --output config.toml", "a commented settings file"),
];

/// Every exit code and when it is given.
pub const EXITS: &[(u8, &str)] = &[
    (0, "done; run: stopped by SIGTERM or SIGINT; once: nothing refused or expired"),
    (
        1,
        "could not start or go on: configuration, directories, lock held, port taken, ledger not writable, \
         a sandbox that is required and missing; run: under a sandbox the handoff folder came back as another \
         directory (hot-folder-replaced); once: stopped, or nothing moved for --patience; what waits stays \
         where it is",
    ),
    (2, "usage; status, history: the ledger cannot be read"),
    (3, "status, history: the ledger cannot be read because its daemon is just starting or stopping"),
    (8, "once: at least one intent was refused or expired; validate: at least one is invalid"),
];

/// What follows the flags in the long help.
pub(super) fn epilog() -> String {
    let mut text = String::from("Examples:\n");
    let longest = EXAMPLES.iter().map(|(words, _)| words.len()).max().unwrap_or(0);
    for (words, what) in EXAMPLES {
        let _ = writeln!(text, "  conductor-loop {words:longest$}    {what}");
    }
    text.push_str(
        "\nNo command means run. Its flags may also be written with one dash: -once, -handoff=DIR.\n",
    );
    text.push_str("\nExit codes:");
    for (code, when) in EXITS {
        let _ = write!(text, "\n  {code}  {}", folded(when, 5));
    }
    text
}

/// `text` in lines of at most [`WIDTH`] columns, all but the first behind `indent` blanks.
fn folded(text: &str, indent: usize) -> String {
    let mut out = String::with_capacity(text.len() + 2 * indent);
    let mut column = indent;
    for word in text.split(' ') {
        if column > indent && column + 1 + word.len() > WIDTH {
            let _ = write!(out, "\n{:indent$}", "");
            column = indent;
        } else if column > indent {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_folded_under_their_beginning() {
        let text = folded(&"word ".repeat(40), 5);
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("     word")), "{text}");
        assert_eq!(text.split_whitespace().count(), 40);
        assert_eq!(folded("one two", 5), "one two");
    }

    #[test]
    fn every_line_of_the_epilog_fits() {
        assert!(epilog().lines().all(|line| line.chars().count() <= WIDTH + 4), "{}", epilog());
    }
}
