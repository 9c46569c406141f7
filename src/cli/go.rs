//! Flags with one dash, as the original's users write them: `-once`, `-handoff=DIR`.
//!
//! Clap reads `-once` as four short flags, so such words get their second dash before it sees them.
//! Only `run`, `once` and no command have an original to be compatible with.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// What follows a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arity {
    /// Nothing.
    Switch,
    /// The next word, whatever it looks like, unless the value came after `=`.
    Value,
}

/// How the flag `--name` of `command` takes its value; unknown ones are switches.
pub(super) fn arity(command: &clap::Command, name: &str) -> Arity {
    let takes = command.get_arguments().find(|arg| {
        let aliases = arg.get_all_aliases().unwrap_or_default();
        arg.get_long() == Some(name) || aliases.contains(&name)
    });
    match takes {
        Some(arg) if arg.get_action().takes_values() && !arg.is_require_equals_set() => Arity::Value,
        _ => Arity::Switch,
    }
}

/// `words` (the program's name first) with `-flag` written `--flag`, up to `--`; values stay as they are.
pub(super) fn rewrite(words: Vec<OsString>, arity: impl Fn(&str) -> Arity) -> Vec<OsString> {
    let first = words.get(1).map(|word| word.as_bytes());
    if !first.is_some_and(|word| word.starts_with(b"-") || word == b"run" || word == b"once") {
        return words;
    }
    let mut out = Vec::with_capacity(words.len());
    let mut words = words.into_iter();
    out.extend(words.next());
    while let Some(word) = words.next() {
        if word == "--" {
            out.push(word);
            out.extend(words);
            break;
        }
        let word = doubled(word);
        let value_follows = flag_name(&word).is_some_and(|name| arity(name) == Arity::Value);
        out.push(word);
        if value_follows {
            out.extend(words.next());
        }
    }
    out
}

/// `-flag` as `--flag`; single letters are clap's own, and Go's `--h` is one of them.
fn doubled(word: OsString) -> OsString {
    match word.as_bytes() {
        b"--h" => "-h".into(),
        [b'-', first, _, ..] if *first != b'-' => {
            let mut bytes = word.into_vec();
            bytes.insert(0, b'-');
            OsString::from_vec(bytes)
        }
        _ => word,
    }
}

/// The name in `--name`; none if the value stands in the same word.
fn flag_name(word: &OsStr) -> Option<&str> {
    word.to_str()?.strip_prefix("--").filter(|name| !name.contains('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(line: &str) -> String {
        let words = line.split(' ').map(OsString::from).collect();
        let arity = |name: &str| if name == "once" { Arity::Switch } else { Arity::Value };
        rewrite(words, arity).join(OsStr::new(" ")).into_string().expect("text in, text out")
    }

    #[test]
    fn one_dash_becomes_two_for_run_once_and_no_command() {
        for (line, expected) in [
            ("c -once -handoff=DIR", "c --once --handoff=DIR"),
            ("c -handoff DIR -once", "c --handoff DIR --once"),
            ("c run -debounce 5s", "c run --debounce 5s"),
            ("c once -out x", "c once --out x"),
            ("c --once -once=false", "c --once --once=false"),
            ("c -h", "c -h"),
            ("c -help", "c --help"),
            ("c --h", "c -h"),
        ] {
            assert_eq!(rewritten(line), expected);
        }
    }

    #[test]
    fn values_and_what_follows_two_dashes_stay_as_they_are() {
        for (line, expected) in [
            ("c -debounce -5s -once", "c --debounce -5s --once"),
            ("c --handoff -once -once", "c --handoff -once --once"),
            ("c -once -- -once", "c --once -- -once"),
            ("c -handoff", "c --handoff"),
        ] {
            assert_eq!(rewritten(line), expected);
        }
    }

    #[test]
    fn other_commands_have_no_go_spelling() {
        assert_eq!(rewritten("c history -limit 5"), "c history -limit 5");
        assert_eq!(rewritten("c"), "c");
    }

    #[test]
    fn names_of_any_bytes_pass_unharmed() {
        let odd = OsString::from_vec(b"-handoff=\xff".to_vec());
        let words = rewrite(vec!["c".into(), odd], |_| Arity::Value);
        assert_eq!(words[1].as_bytes(), b"--handoff=\xff");
    }
}
