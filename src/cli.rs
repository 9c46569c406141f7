//! The command line: words in, one [`Command`] or one [`Usage`] out.
//!
//! Reads no file, no environment and no clock. The shapes of the commands are here, the flags that
//! become settings in `cli/settings.rs`, the Go spellings of the original in `cli/go.rs`, what the help
//! says beside the flags in `cli/help.rs`. A flag exists from the moment it works; until then it is
//! unknown and exits with 2.

mod check;
mod filter;
mod go;
mod help;
mod settings;
#[cfg(test)]
mod tests;
mod verbs;

use std::ffi::OsString;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args as _, CommandFactory as _, Parser, Subcommand};

pub use clap_complete::Shell;
pub use filter::{Moment, Standing};
pub use help::{EXAMPLES, EXITS};
pub use settings::{Base, Folders, Settings};
pub use verbs::{
    ConfigCommand, Demo, DemoSink, Doctor, History, HistoryCommand, Requeue, Show, Status, Submit, Validate,
};

use check::{duration, go_bool};

/// How long `once` waits for a sink that refuses service, unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the words of a command line ask for.
#[derive(Debug, Clone, PartialEq)]
pub struct Args {
    /// What to do.
    pub command: Command,
    /// Flags that have no effect, one line each, for the log.
    pub warnings: Vec<String>,
}

/// One command with all it needs.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Watch until told to stop.
    Run(Settings),
    /// Settle what is there, then end.
    Once(Once),
    /// Show the whole thing at work in a folder of its own.
    Demo(Demo),
    /// Check intent files without accepting them.
    Validate(Validate),
    /// How the daemon is.
    Status(Status),
    /// Drop intent files safely.
    Submit(Submit),
    /// Try ended intents again.
    Requeue(Requeue),
    /// What became of intents.
    History(History),
    /// Why nothing happens, and what to do.
    Doctor(Doctor),
    /// About the settings.
    Config(ConfigCommand),
    /// The script that completes command lines in a shell.
    Completions(Shell),
    /// The manual page.
    Man,
}

/// `once`, or `run --once`.
#[derive(Debug, Clone, PartialEq)]
pub struct Once {
    /// The flags that are settings.
    pub settings: Settings,
    /// How long to wait for a sink that refuses service, and for a file that somebody holds open.
    pub patience: Duration,
    /// Print one JSON document at the end.
    pub json: bool,
}

/// Words that ask for no command: help, the version, or a mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// What to print, with its final newline.
    pub text: String,
    /// True for help and version, which were asked for; a mistake goes to stderr.
    pub stdout: bool,
    /// 0 for help and version, 2 for a mistake; 1 where the original has 1.
    pub code: u8,
}

/// Turns every intent file dropped into a directory into a kpt package, each exactly once.
#[derive(Debug, Parser)]
#[command(name = "conductor-loop", bin_name = "conductor-loop", version)]
#[command(after_long_help = help::epilog(), max_term_width = 100)]
#[command(args_override_self = true, args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct Line {
    #[command(subcommand)]
    verb: Option<Verb>,

    #[command(flatten)]
    run: RunWords,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Watch the handoff folder until told to stop (the default)
    #[command(after_long_help = help::epilog())]
    Run(RunWords),
    /// Settle every file that is there, then end
    #[command(after_long_help = help::epilog())]
    Once(RunWords),
    /// Show the whole thing at work in a folder of its own
    Demo(Demo),
    /// Check intent files without accepting them
    Validate(Validate),
    /// Show how the daemon is
    Status(Status),
    /// Check intent files, drop them safely, and tell what became of them
    Submit(Submit),
    /// Try ended intents again
    Requeue(Requeue),
    /// Show what became of intents, or the story of one
    History(History),
    /// Find out why nothing happens, and what to do about it
    Doctor(Doctor),
    /// Show, check or begin a settings file
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the script that completes command lines in a shell
    Completions {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// Print the manual page, to be read with man -l -
    Man,
}

/// What `run`, `once` and no command take.
#[derive(Debug, clap::Args)]
struct RunWords {
    #[command(flatten)]
    settings: Settings,

    /// Same as the command once
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = go_bool, hide_possible_values = true)]
    once: Option<bool>,

    /// once: how long to wait while nothing moves, for a sink that refuses service or a file held open
    /// [default: 30s]
    #[arg(long, value_name = "DUR", value_parser = duration)]
    patience: Option<Duration>,

    /// once: print one JSON document at the end
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    idle: settings::Idle,
}

/// Reads a command line, the program's own name first.
///
/// # Errors
///
/// Help and version (exit 0), unknown flags, bad values and left-over words (exit 2), and a `--porch-mode`
/// that the original knows none of (exit 1, as there).
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Args, Usage> {
    let run = RunWords::augment_args(clap::Command::new("run"));
    let words = go::rewrite(args.collect(), |flag| go::arity(&run, flag));
    let line = Line::try_parse_from(words).map_err(usage)?;
    Ok(match line.verb {
        None => start(line.run, false)?,
        Some(Verb::Run(words)) => start(words, false)?,
        Some(Verb::Once(words)) => start(words, true)?,
        Some(Verb::Demo(demo)) => quiet(Command::Demo(demo)),
        Some(Verb::Validate(validate)) => quiet(Command::Validate(validate)),
        Some(Verb::Status(status)) => quiet(Command::Status(status)),
        Some(Verb::Submit(submit)) => quiet(Command::Submit(submit)),
        Some(Verb::Requeue(requeue)) => quiet(Command::Requeue(requeue)),
        Some(Verb::History(history)) => quiet(Command::History(history)),
        Some(Verb::Doctor(doctor)) => quiet(Command::Doctor(doctor)),
        Some(Verb::Config(config)) => quiet(Command::Config(config)),
        Some(Verb::Completions { shell }) => quiet(Command::Completions(shell)),
        Some(Verb::Man) => quiet(Command::Man),
    })
}

/// Every command with its flags, for what is made from their shapes.
pub fn shape() -> clap::Command {
    Line::command()
}

fn quiet(command: Command) -> Args {
    Args { command, warnings: Vec::new() }
}

/// `run` or `once`, as the words say or as the `verb` does.
fn start(words: RunWords, verb: bool) -> Result<Args, Usage> {
    if let Some(fault) = words.idle.fault() {
        return Err(Usage { text: format!("conductor-loop: {fault}\n"), stdout: false, code: 1 });
    }
    let mut warnings: Vec<String> = words.idle.warning().into_iter().collect();
    if verb || words.once == Some(true) {
        let patience = words.patience.unwrap_or(PATIENCE);
        let once = Once { settings: words.settings, patience, json: words.json };
        return Ok(Args { command: Command::Once(once), warnings });
    }
    for (flag, given) in [("--patience", words.patience.is_some()), ("--json", words.json)] {
        if given {
            warnings.push(format!("{flag} has no effect without --once"));
        }
    }
    Ok(Args { command: Command::Run(words.settings), warnings })
}

/// What clap has to say, always with the usage line where it is a mistake.
fn usage(error: clap::Error) -> Usage {
    let stdout = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    let mut text = error.render().to_string();
    if !stdout && !text.contains("Usage:") {
        let usage = format!("\n{}\n\nFor more information", Line::command().render_usage());
        text = text.replacen("\nFor more information", &usage, 1);
    }
    Usage { text, stdout, code: if stdout { 0 } else { 2 } }
}
