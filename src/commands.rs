//! The verbs of the command line, one file each.
//!
//! A command gets its settings and a `Write` for its data; messages go to the log or come back as the
//! error text that `main` prints. No stage knows any of them.

pub mod checked;
pub mod completions;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod doctor;
pub mod history;
pub mod man;
pub mod once;
pub mod reload;
pub mod requeue;
pub mod run;
pub mod standing;
pub mod status;
pub mod submit;
pub mod validate;

use std::io::{self, ErrorKind, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::{Args, Command, ConfigCommand, HistoryCommand};
use crate::config::{Environment, Faults, Given, Layers, Loaded, load};
use crate::ledger::{LedgerFault, Reader};
use crate::observe::log::{self, LogGuard};
use checked::Checked;

/// What a command came to: an exit code, or a failure with its words.
pub type Verdict = Result<u8, Failure>;

/// Why a command could not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What failed, where, what to do next; for stderr.
    pub message: String,
    /// 1, or 2 and 3 where the state cannot be read.
    pub code: u8,
}

impl Failure {
    /// The ledger in `state` cannot be read: 3 while its daemon is there all the same, which is just
    /// starting or stopping, else 2.
    pub fn unreadable(state: &Path, message: impl ToString) -> Self {
        match crate::disk::holder(state) {
            None => Failure { message: message.to_string(), code: 2 },
            Some(_) => Failure {
                message: format!("{}; its daemon is starting or stopping, try again", message.to_string()),
                code: 3,
            },
        }
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Failure { message, code: 1 }
    }
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        faults.to_string().into()
    }
}

/// The layers of settings under these flags.
fn layers(environment: &Environment, file: Option<&PathBuf>, given: Vec<Given>) -> Layers {
    let mut layers = Layers::new(environment.clone());
    layers.file = file.cloned();
    layers.given = given;
    layers
}

/// The same for a command that is no daemon: it goes by the daemon's settings, whoever's they are.
fn beside(environment: &Environment, file: Option<&PathBuf>, given: Vec<Given>) -> Layers {
    Layers { daemon: None, ..layers(environment, file, given) }
}

fn settings(layers: &Layers) -> Result<Loaded, String> {
    load(layers).map_err(|faults: Faults| faults.to_string())
}

/// Starts the log and says what the settings had to warn of.
fn start_log(loaded: &Loaded, warnings: &[String], environment: &Environment) -> Result<LogGuard, String> {
    let variable = |name: &str| environment.get(std::ffi::OsStr::new(name))?.to_str().map(str::to_owned);
    let guard = log::init(&loaded.config.log, io::stderr().is_terminal(), &variable)?;
    warnings.iter().chain(&loaded.warnings).for_each(|warning| tracing::warn!("{warning}"));
    Ok(guard)
}

/// The record in `state`, for reading.
fn reader(state: &Path) -> Result<Reader, Failure> {
    Reader::open(state).map_err(|fault| match fault {
        LedgerFault::Missing { .. } => {
            Failure::unreadable(state, format!("{fault}; nothing was accepted here yet"))
        }
        fault => unreadable(state, &fault),
    })
}

/// The record in `state` is there and cannot be read.
fn unreadable(state: &Path, fault: &LedgerFault) -> Failure {
    let denied =
        matches!(fault, LedgerFault::Place { source, .. } if source.kind() == ErrorKind::PermissionDenied);
    match denied {
        true => Failure { message: format!("{fault}; run this as root or as the daemon's user"), code: 2 },
        false => Failure::unreadable(state, fault),
    }
}

fn io_fault(err: io::Error) -> Verdict {
    match err.kind() {
        // Whoever reads our output has seen enough.
        ErrorKind::BrokenPipe => Ok(0),
        _ => Err(format!("cannot write the answer: {err}").into()),
    }
}

/// Carries out one command line. `leave` ends the process at once, for a second signal.
pub fn execute(args: Args, environment: &Environment, out: &mut dyn Write, leave: fn()) -> Verdict {
    let Args { command, warnings } = args;
    match command {
        Command::Run(settings) => {
            let layers = layers(environment, settings.folders.base.config.as_ref(), settings.given());
            run::run(&layers, &warnings, leave)
        }
        Command::Once(asked) => {
            let layers =
                layers(environment, asked.settings.folders.base.config.as_ref(), asked.settings.given());
            once::run(&layers, &warnings, asked.patience, asked.json, out, leave)
        }
        Command::Demo(asked) => demo::run(&asked, out, leave),
        Command::Validate(asked) => {
            let layers = beside(environment, asked.base.config.as_ref(), asked.given());
            validate(&asked.files, asked.json, &layers, out)
        }
        Command::Status(asked) => {
            let layers = beside(environment, asked.folders.base.config.as_ref(), asked.folders.given());
            status::run(&layers, asked.json, out)
        }
        Command::Submit(asked) => {
            let layers = beside(environment, asked.folders.base.config.as_ref(), asked.folders.given());
            submit::run(&asked, &layers, &mut io::stdin().lock(), out)
        }
        Command::Requeue(asked) => {
            let layers = beside(environment, asked.folders.base.config.as_ref(), asked.folders.given());
            requeue::run(&asked, &layers, out)
        }
        Command::History(asked) => {
            let folders = match &asked.command {
                Some(HistoryCommand::Show(show)) => &show.folders,
                None => &asked.folders,
            };
            let layers = beside(environment, folders.base.config.as_ref(), folders.given());
            match &asked.command {
                Some(HistoryCommand::Show(show)) => history::show::run(show, &layers, out),
                None => history::run(&asked, &layers, out),
            }
        }
        Command::Doctor(asked) => {
            let layers =
                beside(environment, asked.settings.folders.base.config.as_ref(), asked.settings.given());
            doctor::run(&layers, asked.json, out)
        }
        Command::Config(asked) => about_config(asked, environment, out),
        Command::Completions(shell) => completions::run(shell, out).map_or_else(io_fault, |()| Ok(0)),
        Command::Man => man::run(out).map_or_else(io_fault, |()| Ok(0)),
    }
}

fn validate(files: &[PathBuf], json: bool, layers: &Layers, out: &mut dyn Write) -> Verdict {
    let Checked { loaded, schema } = Checked::load(layers)?;
    let config = loaded.config;
    let rules = Arc::new(crate::pipeline::rules(&config));
    let mut stdin = io::stdin().lock();
    match validate::run(files, json, rules, schema, config.intake.max_size, &mut stdin, out) {
        Ok(verdict) => Ok(verdict.code()),
        Err(err) => io_fault(err),
    }
}

fn about_config(asked: ConfigCommand, environment: &Environment, out: &mut dyn Write) -> Verdict {
    let answered = match asked {
        ConfigCommand::Print { settings: flags, json } => {
            let loaded = settings(&beside(environment, flags.folders.base.config.as_ref(), flags.given()))?;
            config::print(&loaded, json, out).map(|()| 0)
        }
        ConfigCommand::Check { file } => {
            let mut layers = layers(environment, None, Vec::new());
            // Root looks after the daemon of another user.
            layers.daemon = layers.daemon.filter(|user| *user != 0);
            config::check(file.as_deref(), layers, out)
        }
        ConfigCommand::Schema => config::schema(out).map(|()| 0),
        ConfigCommand::Init { output } => {
            return config::init(output.as_deref(), out)
                .map(|()| 0)
                .map_err(|err| format!("config init: {err}").into());
        }
    };
    answered.or_else(io_fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_state_is_expected_while_its_daemon_comes_or_goes() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(Failure::unreadable(state.path(), "no ledger").code, 2);
        let fd = std::fs::File::open(state.path()).unwrap();
        let _held = crate::disk::Lock::take(&fd, state.path()).unwrap();
        let failure = Failure::unreadable(state.path(), "no ledger");
        assert_eq!(failure.code, 3);
        assert!(failure.message.ends_with("starting or stopping, try again"), "{}", failure.message);
    }
}
