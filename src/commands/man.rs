//! `man`: the manual page.
//!
//! One page for section 8 with every command. Flags and commands come from the shapes that the
//! command line is read with, examples and exit codes from its help; what only this page tells stands
//! in the tables below. Commands that share a flag with `run` name it and leave its description to
//! the section of options.

use std::io::{self, Write};

use clap::{Arg, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use crate::cli::{self, EXAMPLES, EXITS};

/// Terms and what they mean.
type Table = &'static [(&'static str, &'static str)];

const DESCRIPTION: [&str; 3] = [
    "conductor-loop watches a directory and turns every intent file that is dropped into it into exactly one \
     effect: a kpt package with the workload that the intent asks for. A file that was complete in the \
     directory is never lost, never applied twice and never able to stop another. What became of it is told \
     in a status file, in metrics and in a SQLite ledger.",
    "A file is taken when it is proven complete: by a read lease, by a rename into the directory, or by a quiet \
     time. Rename files in. Good ones end in processed/, refused ones in failed/ with an error log beside them.",
    "Without a command it does what run does. The options of run and once may also be written with one dash, \
     as in -once, -handoff=DIR or -once=true.",
];

const SIGNALS: Table = &[
    (
        "SIGTERM, SIGINT",
        "Take no new file, finish what is in hand within service.drain (10 s), exit 0. A second one leaves at \
         once with 1; the next start goes on from the ledger.",
    ),
    ("SIGHUP", "Scan the directory now. Settings are read at the start alone."),
];

const ENVIRONMENT: Table = &[
    ("CONDUCTOR_LOOP_CONFIG", "The settings file, unless --config names one."),
    (
        "CONDUCTOR_LOOP_SECTION_KEY",
        "Any setting, as CONDUCTOR_LOOP_WATCH_DEBOUNCE for watch.debounce. It wins over the file and yields to \
         --set and to the other flags.",
    ),
    ("LOG_LEVEL", "The default of log.level: error, warn or warning, info, debug."),
    ("STATE_DIRECTORY", "The default of --state; systemd sets it."),
    ("JOURNAL_STREAM", "Lines go to the journal by its own protocol where stderr is the journal's."),
    ("NO_COLOR", "No colour on a terminal."),
    ("XDG_CONFIG_HOME, HOME", "Where the user's settings file is."),
];

const FILES: Table = &[
    ("/etc/conductor-loop/config.toml", "Settings, unless the user has a file of their own or one is named."),
    (
        "$XDG_CONFIG_HOME/conductor-loop/config.toml",
        "The user's settings; without the variable in ~/.config.",
    ),
    ("conf.d/*.toml", "Beside the settings file, read after it in the order of their names."),
    ("HANDOFF/intent-*.json", "What producers drop."),
    ("HANDOFF/processed/", "Files that ended delivered, duplicate or superseded."),
    ("HANDOFF/failed/", "Files that ended refused or expired, each with NAME.error.log."),
    ("HANDOFF/status/", "One JSON document for each accepted file, or conductor-loop.jsonl."),
    ("HANDOFF/.conductor/", "Where originals are taken; the state too, if no other place is named."),
    ("OUT/NAMESPACE/KIND-NAME/", "The package of a target."),
    ("STATE/ledger.db", "The record, a SQLite database that may be read at any time."),
    ("STATE/lock", "One daemon per directory; names its holder."),
    ("STATE/http.addr", "The address of metrics and health while the daemon runs."),
];

/// Prints the page.
///
/// # Errors
///
/// Those of `out`.
pub fn run(out: &mut dyn Write) -> io::Result<()> {
    let mut shape = cli::shape();
    shape.build();
    let head = Man::new(shape.clone()).title("CONDUCTOR-LOOP").section("8");
    // An empty date that is not quoted would let the words behind it move up.
    let head = head.date("\"\"").manual("System Administration");
    head.render_title(out)?;
    head.render_name_section(out)?;
    body(&shape).to_writer(out)
}

/// Every section behind the name.
fn body(shape: &Command) -> Roff {
    let mut page = Roff::new();
    page.control("SH", ["SYNOPSIS"]);
    page.text([
        bold("conductor-loop"),
        roman(" ["),
        italic("COMMAND"),
        roman("] ["),
        italic("OPTIONS"),
        roman("]"),
    ]);
    page.control("SH", ["DESCRIPTION"]);
    for (at, paragraph) in DESCRIPTION.iter().enumerate() {
        if at > 0 {
            page.control("PP", []);
        }
        page.text([roman(*paragraph)]);
    }
    page.control("SH", ["COMMANDS"]);
    page.text([roman("Data goes to standard output, messages to standard error.")]);
    for command in shape.get_subcommands() {
        describe(&mut page, "", command, shape);
    }
    page.control("SH", ["OPTIONS"]);
    shape.get_arguments().for_each(|arg| option(&mut page, arg));
    page.control("SH", ["EXIT STATUS"]);
    for (code, when) in EXITS {
        entry(&mut page, [bold(code.to_string())], when);
    }
    for (heading, table) in [("SIGNALS", SIGNALS), ("ENVIRONMENT", ENVIRONMENT), ("FILES", FILES)] {
        page.control("SH", [heading]);
        for (term, meaning) in table {
            entry(&mut page, [bold(*term)], meaning);
        }
    }
    page.control("SH", ["EXAMPLES"]);
    for (words, what) in EXAMPLES {
        entry(&mut page, [bold(format!("conductor-loop {words}"))], what);
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([
        bold("systemd.service"),
        roman("(5), "),
        bold("inotify"),
        roman("(7), "),
        bold("sqlite3"),
        roman("(1)"),
    ]);
    page.control("PP", []);
    page.text([roman(
        "conductor-loop config init prints every setting with its meaning, range and default.",
    )]);
    page
}

/// A command, or those below it, under the words that lead there.
fn describe(page: &mut Roff, before: &str, command: &Command, shape: &Command) {
    let words = format!("{before}{}", command.get_name());
    if command.has_subcommands() {
        let before = format!("{words} ");
        return command.get_subcommands().for_each(|below| describe(page, &before, below, shape));
    }
    let positionals: String = command.get_positionals().map(|arg| format!(" {}", place(arg))).collect();
    page.control("SS", [format!("{words}{positionals}").as_str()]);
    page.text([roman(format!("{}.", command.get_about().map(ToString::to_string).unwrap_or_default()))]);
    for arg in command.get_positionals() {
        entry(page, [italic(value(arg))], &help(arg));
    }
    let (shared, own): (Vec<&Arg>, Vec<&Arg>) =
        command.get_arguments().filter(|arg| !arg.is_positional()).partition(|arg| is_among(shape, arg));
    own.into_iter().for_each(|arg| option(page, arg));
    let names: Vec<String> = shared.iter().filter(|arg| !is_help(arg)).map(|arg| spelled(arg)).collect();
    let all = shape.get_arguments().filter(|arg| !is_help(arg)).count();
    let also = match names.len() {
        0 => return,
        count if count == all => "Takes every option below.".to_owned(),
        _ => format!("Takes {} as described below.", names.join(", ")),
    };
    page.control("PP", []);
    page.text([roman(also)]);
}

/// True if `run` has the same flag and says the same of it.
fn is_among(shape: &Command, arg: &Arg) -> bool {
    let same = |other: &Arg| other.get_long() == arg.get_long() && help(other) == help(arg);
    is_help(arg) || shape.get_arguments().any(same)
}

/// Flags that explain the program and set nothing.
fn is_help(arg: &Arg) -> bool {
    matches!(arg.get_id().as_str(), "help" | "version")
}

/// A flag with all its spellings, its value and what it does.
fn option(page: &mut Roff, arg: &Arg) {
    let mut term = Vec::new();
    let aliases = arg.get_visible_aliases().unwrap_or_default();
    let short = arg.get_short().map(|letter| format!("-{letter}"));
    let long = arg.get_long().into_iter().chain(aliases).map(|name| format!("--{name}"));
    for spelling in short.into_iter().chain(long) {
        if !term.is_empty() {
            term.push(roman(", "));
        }
        term.push(bold(spelling));
    }
    if arg.get_action().takes_values() {
        let optional = arg.is_require_equals_set();
        term.push(roman(if optional { "[=" } else { " " }));
        term.push(italic(value(arg)));
        term.extend(optional.then(|| roman("]")));
    }
    entry(page, term, &help(arg));
}

/// `--flag`.
fn spelled(arg: &Arg) -> String {
    arg.get_long().map(|name| format!("--{name}")).unwrap_or_default()
}

/// The name of a value.
fn value(arg: &Arg) -> String {
    arg.get_value_names().unwrap_or_default().join(" ")
}

/// A word without a flag, as the usage line shows it.
fn place(arg: &Arg) -> String {
    let several = arg.get_num_args().is_some_and(|range| range.max_values() > 1);
    let more = if several { "..." } else { "" };
    let name = value(arg);
    if arg.is_required_set() { format!("{name}{more}") } else { format!("[{name}{more}]") }
}

/// What the help says of a flag, with the words that it takes and its default.
fn help(arg: &Arg) -> String {
    let mut text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    if !arg.get_action().takes_values() {
        return text;
    }
    let words: Vec<String> =
        arg.get_possible_values().iter().map(|word| word.get_name().to_owned()).collect();
    if !words.is_empty() && !arg.is_hide_possible_values_set() {
        text.push_str(&format!(" [one of: {}]", words.join(", ")));
    }
    if let [default] = arg.get_default_values() {
        text.push_str(&format!(" [default: {}]", default.display()));
    }
    text
}

/// A term and, indented below it, what it means.
fn entry(page: &mut Roff, term: impl Into<Vec<Inline>>, meaning: &str) {
    page.control("TP", []);
    page.text(term);
    page.text([roman(meaning)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> String {
        let mut out = Vec::new();
        run(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_page_has_its_sections_in_the_usual_order() {
        let page = page();
        let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
        let expected = [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "COMMANDS",
            "OPTIONS",
            "\"EXIT STATUS\"",
            "SIGNALS",
            "ENVIRONMENT",
            "FILES",
            "EXAMPLES",
            "\"SEE ALSO\"",
        ];
        assert_eq!(headings, expected);
        assert!(page.contains("\n.TH CONDUCTOR-LOOP 8 \"\" \"conductor-loop "), "{page}");
    }

    #[test]
    fn a_flag_is_described_once_and_named_where_it_is_shared() {
        let page = page();
        let flag = |name: &str| format!(".TP\n\\fB\\-\\-{name}");
        assert_eq!(page.matches(&flag("handoff")).count(), 1);
        assert!(page.contains(".SS history\n") && page.matches(&flag("json")).count() > 3, "{page}");
        assert_eq!(page.matches("Takes every option below.").count(), 2);
    }
}
