//! The external command of the original: `CMD -intent FILE -out DIR [-structured]`, once for each intent.
//!
//! No shell. The command runs in the daemon's working directory, in a process group of its own, with
//! standard input empty, no inherited descriptor, no ambient capability, and [`INHERITED`] and
//! `CONDUCTOR_INTENT_ID` as its whole environment. FILE is a copy of the accepted bytes that the daemon
//! owns, `<state>/exec/<id8>/<original name>`, removed when the run is over.
//!
//! **Results.** Exit 0 is delivered. Time-out, signal, exit 75 and 124 may pass: they are tried
//! `sink.exec.attempts` times, then refused. Any other code refuses the intent at once. A command that is
//! missing, not executable or writable by strangers is nobody's content: with `run` everything waits for
//! it, with `once` the intent is refused.
//!
//! **At least once.** A command cannot be asked what it did, so every run is noted in the ledger before
//! it begins ([`Sink::needs_attempt_row`]). A run that timed out, was killed or was cut off with the
//! daemon may have had its effect: the next one makes a `possible_duplicate`, or with
//! `sink.exec.on_uncertain = "hold"` there is none until the operator says so.
//!
//! Limits: as many runs at once as there are cores, at least 2 and at most 8. Of each output stream
//! 64 KiB are kept, the rest is read and counted; a message has at most 4 KiB. See [`run`](self::run) for
//! how a run ends and `exec/command.rs` for what may be run.

mod command;
mod copy;
mod output;
mod run;
#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

pub use self::command::Runner;
use self::command::Unfit;
use self::copy::Desk;
use self::run::{How, Run, Started};
use super::{Abilities, Delivery, Outcome, Sink, Tried};
use crate::config::{ExecMode, units};
use crate::fate::{Lifecycle, Reason, Receipt, SinkKind};
use crate::observe::{FaultKind, Metrics};

/// What the command inherits of the daemon's environment.
pub const INHERITED: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];
/// Fewest and most runs at once.
const PARALLEL: (usize, usize) = (2, 8);
/// `EX_TEMPFAIL` of sysexits: try again later.
const TRY_LATER: i32 = 75;
/// What `timeout` exits with, and commands that follow it.
const TIMED_OUT: i32 = 124;

/// How the command is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A path, or a name that is looked up in `PATH`.
    pub command: PathBuf,
    /// With or without `-structured`.
    pub mode: ExecMode,
    /// `-out`, absolute.
    pub out: PathBuf,
    /// The state directory, absolute.
    pub state: PathBuf,
    /// Longest run.
    pub timeout: Duration,
    /// Runs until trouble that may pass is taken for good.
    pub attempts: u32,
    /// Hold what is uncertain, instead of running it again.
    pub hold: bool,
    /// Nobody will come to install a command that is missing.
    pub once: bool,
    /// Those of [`INHERITED`] that are set.
    pub environment: Vec<(OsString, OsString)>,
}

/// Runs a command for each intent.
pub struct ExecSink {
    settings: Settings,
    metrics: Metrics,
    desk: Desk,
    parallel: usize,
    /// Becomes true when the daemon stops.
    stop: watch::Sender<bool>,
}

impl ExecSink {
    /// A sink in a state directory that nobody else uses. Ends what runs of a daemon that was killed are
    /// left, and removes their copies.
    ///
    /// # Errors
    /// The directory for copies cannot be made.
    pub fn new(settings: Settings, metrics: Metrics) -> Result<Self, String> {
        let desk = Desk::open(&settings.state)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let parallel = cores.clamp(PARALLEL.0, PARALLEL.1);
        Ok(ExecSink { settings, metrics, desk, parallel, stop: watch::Sender::new(false) })
    }

    async fn run(&self, delivery: &Delivery<'_>) -> Outcome {
        if delivery.doubtful && self.settings.hold {
            let what = "a run of the command did not come to an end that is known";
            return held(delivery, Reason::CliExit, what, Tried::No);
        }
        if *self.stop.borrow() {
            return later(Reason::CliUnavailable, "the daemon is stopping".to_owned(), Tried::No);
        }
        let program = match self.find() {
            Ok(program) => program,
            Err(unfit) => return self.unavailable(unfit),
        };
        let copy = match self.desk.put(delivery) {
            Ok(copy) => copy,
            Err(message) => return later(Reason::SinkUnavailable, message, Tried::No),
        };
        let run = match self.start(&program, copy.path(), delivery) {
            Ok(run) => run,
            Err(unfit) => return self.unavailable(unfit),
        };
        let ended = run.watch(self.settings.timeout, self.stop.subscribe()).await;
        self.judge(delivery, &ended)
    }

    fn find(&self) -> Result<PathBuf, Unfit> {
        let path = self.settings.environment.iter().find(|(name, _)| name == "PATH");
        command::find(&self.settings.command, path.map(|(_, value)| value.as_os_str()), Runner::us())
    }

    fn start(&self, program: &Path, file: &Path, delivery: &Delivery<'_>) -> Result<Run, Unfit> {
        let mut arguments: Vec<&OsStr> =
            vec!["-intent".as_ref(), file.as_os_str(), "-out".as_ref(), self.settings.out.as_os_str()];
        if self.settings.mode == ExecMode::Structured {
            arguments.push("-structured".as_ref());
        }
        let started = Started {
            program,
            name: self.settings.command.as_os_str(),
            arguments: &arguments,
            environment: &self.settings.environment,
            id: delivery.id,
            timeout: self.settings.timeout,
        };
        Run::start(&started).map_err(|err| Unfit::of_start(program, &err))
    }

    /// Nothing was run.
    fn unavailable(&self, unfit: Unfit) -> Outcome {
        self.metrics.fault(FaultKind::CliUnavailable);
        let (Unfit::ForGood(message) | Unfit::ForNow(message)) = &unfit;
        match unfit {
            Unfit::ForGood(_) if self.settings.once => {
                Outcome::Rejected { reason: Reason::CliUnavailable, message: message.clone() }
            }
            _ => later(Reason::CliUnavailable, message.clone(), Tried::No),
        }
    }

    fn judge(&self, delivery: &Delivery<'_>, ended: &run::Ended) -> Outcome {
        if ended.stdout.is_cut() || ended.stderr.is_cut() {
            self.metrics.fault(FaultKind::CliOutput);
        }
        if tracing::enabled!(tracing::Level::DEBUG) {
            let (stdout, stderr) = (ended.stdout.told(), ended.stderr.told());
            tracing::debug!(id = %delivery.id, how = ?ended.how, stdout, stderr, "the command ended");
        }
        let said = |what: String| output::with_stderr(what, &ended.stderr);
        match ended.how {
            How::Exit(0) => Outcome::Delivered(receipt(delivery)),
            How::Exit(code @ (TRY_LATER | TIMED_OUT)) => {
                let tried = if code == TRY_LATER { Tried::WithoutEffect } else { Tried::Perhaps };
                self.may_pass(delivery, FaultKind::CliExit, said(format!("exit status {code}")), tried)
            }
            How::Exit(code) => {
                self.metrics.fault(FaultKind::CliExit);
                Outcome::Rejected { reason: Reason::CliExit, message: said(format!("exit status {code}")) }
            }
            How::Signal(signal) => {
                let what = said(format!("signal: {}", output::signal_name(signal)));
                self.may_pass(delivery, FaultKind::CliExit, what, Tried::Perhaps)
            }
            How::TimedOut => {
                let after = units::show_duration(self.settings.timeout);
                let what = said(format!("porch command timed out after {after}"));
                self.may_pass(delivery, FaultKind::CliTimeout, what, Tried::Perhaps)
            }
            How::Stopped => {
                let what = "the command was stopped together with the daemon".to_owned();
                later(Reason::CliExit, what, Tried::Perhaps)
            }
        }
    }

    /// Trouble that the next run may not have.
    fn may_pass(&self, delivery: &Delivery<'_>, fault: FaultKind, what: String, tried: Tried) -> Outcome {
        self.metrics.fault(fault);
        let reason = if fault == FaultKind::CliTimeout { Reason::CliTimeout } else { Reason::CliExit };
        if self.settings.hold && tried == Tried::Perhaps {
            return held(delivery, reason, &what, tried);
        }
        match delivery.attempt >= self.settings.attempts {
            true if delivery.attempt == 1 => Outcome::Rejected { reason, message: what },
            true => {
                let message = format!("{what}; given up after {} attempts", delivery.attempt);
                Outcome::Rejected { reason, message }
            }
            false => later(reason, what, tried),
        }
    }
}

impl Sink for ExecSink {
    fn kind(&self) -> SinkKind {
        SinkKind::Exec
    }

    fn abilities(&self) -> Abilities {
        Abilities { parallel: self.parallel, group: 1 }
    }

    fn deliver<'a>(&'a self, group: &'a [Delivery<'a>]) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(async move {
            let mut outcomes = Vec::with_capacity(group.len());
            for delivery in group {
                outcomes.push(self.run(delivery).await);
            }
            outcomes
        })
    }

    /// Nothing: what the command did is beyond us, and so is bringing it back.
    fn restore(&self, _newest: &Delivery<'_>, _receipt: &Receipt) -> Result<(), String> {
        Ok(())
    }

    fn needs_attempt_row(&self) -> bool {
        true
    }

    fn takes_files(&self) -> bool {
        true
    }

    fn wind_up(&self) {
        self.stop.send_replace(true);
    }

    /// Looks for the command and at who may write it; runs nothing.
    fn check(&self) -> Result<(), String> {
        self.find().map(drop).map_err(|(Unfit::ForGood(message) | Unfit::ForNow(message))| message)
    }
}

/// The file that `command` means to `runner`, whose `PATH` is `search`.
///
/// # Errors
/// Why it could not be run: what, where, what next.
pub fn find(command: &Path, search: Option<&OsStr>, runner: Runner<'_>) -> Result<PathBuf, String> {
    command::find(command, search, runner)
        .map_err(|(Unfit::ForGood(message) | Unfit::ForNow(message))| message)
}

fn later(reason: Reason, message: String, tried: Tried) -> Outcome {
    Outcome::Retry { reason, message, after: None, tried }
}

fn held(delivery: &Delivery<'_>, reason: Reason, what: &str, tried: Tried) -> Outcome {
    let id = delivery.id;
    let message = format!(
        "{what}; it may have had its effect and is held. Look whether it had; to run it again: \
         conductor-loop requeue {id} --yes, or restart with sink.exec.on_uncertain = \"retry\""
    );
    Outcome::Held { reason, message, tried }
}

/// The command tells no name and no revision: the target is what it was given.
fn receipt(delivery: &Delivery<'_>) -> Receipt {
    Receipt {
        name: delivery.intent.target.to_string(),
        revision: String::new(),
        lifecycle: Lifecycle::Published,
        adopted: false,
    }
}
