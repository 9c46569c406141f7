//! `completions` and `man`: what packagers install.

use std::process::Command;

use crate::support::{Place, Ran};

/// Loads the script as a shell does at its start and asks for the completions of a line's last word.
const ASK: &str = r#"
set -eu
source "$SCRIPT"
function=$(complete -p conductor-loop | sed 's/.* -F \([^ ]*\) .*/\1/')
COMP_WORDS=(conductor-loop "$@")
COMP_CWORD=$#
COMPREPLY=()
"$function" conductor-loop "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;

/// The commands that the short help lists.
fn commands(place: &Place) -> Vec<String> {
    let help = place.run(&["-h"]).ended(0).stdout;
    let listed =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    listed.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
}

/// The long flags that the long help of these words speaks of, without their dashes.
fn flags(place: &Place, words: &[&str]) -> Vec<String> {
    let help = Ran::of(place.command().args(words).arg("--help")).ended(0).stdout;
    let words = help.split(|c: char| !c.is_ascii_lowercase() && c != '-');
    let flags: Vec<String> = words.filter_map(|word| word.strip_prefix("--").map(str::to_owned)).collect();
    assert!(flags.iter().any(|flag| flag == "handoff"), "{help}");
    flags
}

#[test]
fn bash_completes_commands_flags_and_the_words_of_a_flag() {
    let place = Place::new();
    let script = place.root().join("completion.bash");
    std::fs::write(&script, place.run(&["completions", "bash"]).ended(0).stdout).unwrap();
    let ask = |words: &[&str]| -> Vec<String> {
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", ASK, "bash"]).args(words).env("SCRIPT", &script);
        let mut found: Vec<_> = Ran::of(&mut bash).ended(0).stdout.lines().map(str::to_owned).collect();
        found.sort();
        found
    };
    assert_eq!(ask(&["hist"]), ["history"]);
    assert_eq!(ask(&["once", "--hand"]), ["--handoff", "--handoff-dir"]);
    assert_eq!(ask(&["--watch-mode", ""]), ["auto", "inotify", "poll"]);
    assert_eq!(ask(&["config", "ch"]), ["check"]);
    assert_eq!(ask(&["completions", "ba"]), ["bash"]);
    let all = ask(&[""]);
    assert!(commands(&place).iter().all(|command| all.contains(command)), "{all:?}");
}

#[test]
fn every_shell_is_told_every_command_and_flag() {
    let place = Place::new();
    let (commands, flags) = (commands(&place), flags(&place, &["once"]));
    for shell in ["bash", "zsh", "fish"] {
        let script = place.run(&["completions", shell]).ended(0).stdout;
        for word in commands.iter().chain(&flags) {
            assert!(script.contains(word.as_str()), "{shell} does not know {word}");
        }
    }
    place.run(&["completions"]).ended(2);
}

#[test]
fn the_manual_page_tells_every_command_flag_and_exit_code() {
    let place = Place::new();
    let page = place.run(&["man"]).ended(0).stdout;
    let has = |text: &str| assert!(page.contains(text), "{text:?} is in the page");
    for section in ["NAME", "SYNOPSIS", "COMMANDS", "OPTIONS", "SIGNALS", "ENVIRONMENT", "FILES", "EXAMPLES"]
    {
        has(&format!("\n.SH {section}\n"));
    }
    has("\n.SH \"EXIT STATUS\"\n");
    has("\n.SH \"SEE ALSO\"\n");
    for command in commands(&place) {
        assert!(page.lines().any(|line| line.starts_with(".SS ") && line.contains(&command)), "{command}");
    }
    for flag in flags(&place, &["once"]).iter().chain(&flags(&place, &["history"])) {
        has(&format!("\\-\\-{}", flag.replace('-', "\\-")));
    }
    for code in [0, 1, 2, 3, 8] {
        has(&format!("\n.TP\n\\fB{code}\\fR\n"));
    }
    assert!(!page.lines().any(|line| line.starts_with('\'')), "no line begins with a control character");
}
