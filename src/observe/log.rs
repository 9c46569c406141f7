//! Logs: one line an event on stderr or to the journal, never in the way of the pipeline.
//!
//! Lines are handed to a thread over a queue of 8,192; when it is full, or the other end is gone, the
//! line is dropped and counted (`reliability.md` 13, H09). Of one kind 20 lines a second are written, the
//! rest is counted and told in one line (`reliability.md` 10). Forms: text for people (times in UTC), JSON lines
//! for collectors, and the journal's own protocol, where each field of a line is one of the journal's:
//! `CONDUCTOR_FILE=`, `CONDUCTOR_INTENT_ID=`, `CONDUCTOR_FATE=` and so on. Control, bidi and zero-width
//! characters are escaped in every form. Spans are not shown: what a line has to tell stands in its own
//! fields.

mod ceiling;
mod form;
mod lines;

use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::fstat;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::reload;

use crate::clock::{Clock, SystemClock};
use crate::config::{Log, LogFormat};
use ceiling::{Ceiling, Suppressed};
use form::{Form, Record};
use lines::Lines;

pub use lines::QUEUED_LINES;

const JOURNAL: &str = "/run/systemd/journal/socket";

/// Keeps the log going; dropped at the end of `main` it waits up to a second for queued lines.
pub struct LogGuard {
    printer: Printer,
    level: LevelSwitch,
}

/// Changes the level of the running log; a cheap clone.
#[derive(Debug, Clone)]
pub struct LevelSwitch(reload::Handle<Targets, Registry>);

impl LevelSwitch {
    /// Writes lines from this `log.level` on.
    ///
    /// # Errors
    ///
    /// A text for the user: an unknown level, or a log that is gone.
    pub fn set(&self, word: &str) -> Result<(), String> {
        let level = level(word)?;
        self.0.reload(filter(level)).map_err(|why| format!("log.level cannot be changed: {why}"))
    }
}

impl LogGuard {
    /// The account of the lines that are not in the log.
    pub fn lost(&self) -> Lost {
        Lost(self.printer.clone())
    }

    /// Has the log's thread carry out `act`; false if it cannot take it.
    pub fn on_thread(&self, act: Box<dyn FnOnce() + Send>) -> bool {
        self.printer.lines.act(act)
    }

    /// The way to another level while the log runs.
    pub fn level(&self) -> LevelSwitch {
        self.level.clone()
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.printer.tell(self.printer.ceiling.rest());
        self.printer.lines.flush();
    }
}

/// The account of the lines that are not in the log; a cheap clone.
#[derive(Clone)]
pub struct Lost(Printer);

impl Lost {
    /// Lines that the log could not take, so far.
    pub fn lines(&self) -> u64 {
        self.0.lines.lost()
    }

    /// Lines left out by the ceiling, so far.
    pub fn suppressed(&self) -> u64 {
        self.0.ceiling.suppressed()
    }

    /// Writes one line for every kind that was left out; to be called once a second.
    pub fn tell(&self) {
        self.0.tell(self.0.ceiling.due(self.0.clock.now()));
    }
}

/// Sets the log of this process up; once only.
///
/// # Errors
///
/// A text for the user: an unknown level, no journal where one was asked for, or a log that is set up
/// already.
pub fn init(
    config: &Log,
    stderr_is_terminal: bool,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<LogGuard, String> {
    let level = level(&config.level)?;
    let journal = env("JOURNAL_STREAM").is_some_and(|stream| is_stderr(&stream));
    let format = chosen(config.format, stderr_is_terminal, journal);
    let socket = match (format, journal_at(Path::new(JOURNAL))) {
        (LogFormat::Journald, Ok(socket)) => Some(socket),
        (LogFormat::Journald, Err(why)) if config.format == LogFormat::Journald => {
            return Err(format!("cannot log to {JOURNAL}: {why}; set log.format to text or json"));
        }
        _ => None,
    };
    let form = match (format, &socket) {
        (LogFormat::Text, _) => Form::Text { colour: stderr_is_terminal && wants_colour(env) },
        (LogFormat::Journald, Some(_)) => Form::Journal,
        _ => Form::Json,
    };
    let lines = match socket {
        Some(socket) => lines_to_journal(socket),
        None => Lines::to(|line| io::stderr().lock().write_all(line)),
    }
    .map_err(|why| format!("cannot start the log thread: {why}"))?;
    let printer = Printer { form, clock: Arc::new(SystemClock), lines, ceiling: Arc::default() };
    let (filter, switch) = reload::Layer::new(filter(level));
    let subscriber = tracing_subscriber::registry().with(printer.clone().with_filter(filter));
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|_| "cannot set up the log: it is set up already".to_owned())?;
    Ok(LogGuard { printer, level: LevelSwitch(switch) })
}

fn level(word: &str) -> Result<LevelFilter, String> {
    match word.to_ascii_lowercase().as_str() {
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        _ => Err(format!("log.level {word:?} is none of error, warn, info, debug, trace")),
    }
}

/// The level is for this program; its packages speak of trouble only. What the cluster's client finds wrong
/// comes back as an error and is told where it means something.
fn filter(level: LevelFilter) -> Targets {
    let targets =
        Targets::new().with_target("conductor_loop", level).with_target("kube_client", LevelFilter::OFF);
    targets.with_default(level.min(LevelFilter::WARN))
}

fn chosen(format: LogFormat, terminal: bool, journal: bool) -> LogFormat {
    match format {
        LogFormat::Auto if journal => LogFormat::Journald,
        LogFormat::Auto if terminal => LogFormat::Text,
        LogFormat::Auto => LogFormat::Json,
        set => set,
    }
}

/// `JOURNAL_STREAM` is inherited by children whose stderr leads elsewhere; only its numbers tell.
fn is_stderr(stream: &str) -> bool {
    let numbers = stream.split_once(':').and_then(|(dev, ino)| Some((dev.parse().ok()?, ino.parse().ok()?)));
    fstat(io::stderr()).is_ok_and(|stderr| numbers == Some((stderr.st_dev, stderr.st_ino)))
}

fn wants_colour(env: &dyn Fn(&str) -> Option<String>) -> bool {
    env("NO_COLOR").is_none_or(|set| set.is_empty()) && env("TERM").is_none_or(|term| term != "dumb")
}

fn journal_at(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(socket)
}

fn lines_to_journal(socket: UnixDatagram) -> io::Result<Lines> {
    // A datagram is taken whole or not at all.
    Lines::to(move |line| socket.send(line).map(drop))
}

/// Turns events into lines; a cheap clone.
#[derive(Clone)]
struct Printer {
    form: Form,
    clock: Arc<dyn Clock>,
    lines: Lines,
    ceiling: Arc<Ceiling>,
}

impl Printer {
    fn tell(&self, suppressed: Vec<Suppressed>) {
        for one in suppressed {
            self.lines.push(self.form.line(&Record::suppressed(&one, self.clock.wall())));
        }
    }
}

impl<S: Subscriber> Layer<S> for Printer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if self.ceiling.admits(event, self.clock.now()) {
            self.lines.push(self.form.line(&Record::of(event, self.clock.wall())));
        }
    }
}

const fn level_word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// Has `speak` log to the journal at `path`, in this thread alone.
#[cfg(test)]
pub(crate) fn speak_to_journal_at(path: &Path, speak: impl FnOnce()) {
    let socket = journal_at(path).expect("somebody listens");
    let lines = lines_to_journal(socket).expect("a thread");
    let (clock, ceiling) = (Arc::new(SystemClock), Arc::default());
    let printer = Printer { form: Form::Journal, clock, lines: lines.clone(), ceiling };
    let subscriber = tracing_subscriber::registry().with(printer.with_filter(filter(LevelFilter::INFO)));
    tracing::subscriber::with_default(subscriber, speak);
    lines.flush();
}

#[cfg(test)]
mod tests;
