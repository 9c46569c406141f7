//! Notices files in the handoff folder and hands their names to the workers.
//!
//! ```text
//! notify's thread ─▶ Feed ─▶ watch thread ─────────────────▶ Queue<Job> ─▶ workers
//! filter, push       ring    debouncer, scans, timers, folder     ◀─ Message::Returned ─┘
//! ```
//!
//! Events are hints, the folder is the truth: the watch is placed first, then everything is
//! scanned, and scanned again after every loss of events, every lack of room, every return of the
//! folder, on request and every period. No sighting is dropped without a rescan to follow.
//!
//! The watch thread lists and looks (`stat`) and opens nothing; workers open. It owns the
//! debouncer, the cursor of the scan and all timers, and rests when there is nothing to do: the
//! period is its only wake-up of its own. While acceptance is paused events stay in the debouncer
//! and scans stand still; while the folder is gone nothing is handed out and the path is tried
//! once a second.
//!
//! Limits: 16,384 events in the ring (512 KiB), 65,536 waiting names, 65,536 names of a scan at a
//! time, 16,384 bad names told apart, 1,024 new sub-directories at a time.

mod events;
mod folder;
mod intake;
mod names;
mod pattern;
mod progress;
mod run;
mod scan;
mod schedule;
mod shares;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, unbounded};
use crossbeam::sync::{Parker, Unparker};

use crate::clock::{Clock, Mono};
use crate::config;
use crate::debounce::{Ticket, Wait};
use crate::error::{Consequence, Fault};
use crate::fate::Source;
use crate::queue::{Flight, Flights, Queue};

pub use folder::{Away, Hot, PlainFolder};
pub use pattern::{Pattern, PatternFault};
pub use progress::{Mode, Progress};

/// Why the folder is scanned, the most pressing first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// The watch was placed.
    Start,
    /// The folder came back.
    Returned,
    /// Events were lost, in the kernel or in the ring.
    Overflow,
    /// There is room again for names that found none.
    QueueFull,
    /// SIGHUP, or whoever asks.
    Signal,
    /// The period is over.
    Period,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Cause; 6] =
        [Cause::Start, Cause::Returned, Cause::Overflow, Cause::QueueFull, Cause::Signal, Cause::Period];

    /// The label of `conductor_loop_rescans_total`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Cause::Start => "start",
            Cause::Returned => "returned",
            Cause::Overflow => "overflow",
            Cause::QueueFull => "queue-full",
            Cause::Signal => "signal",
            Cause::Period => "period",
        }
    }
}

/// What went wrong around the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// A name that matches and is not touched (F15); once a name.
    BadName,
    /// A directory with the name of an intent (F03); left, once a name.
    Directory,
    /// The file system failed on a name, or on the folder's listing (D05).
    IoError,
    /// The folder is gone or replaced (F20); once until it returns.
    FolderGone,
    /// No inotify instance or watch is left (D12).
    InotifyLimit,
}

impl Trouble {
    /// The label of `conductor_loop_faults_total`; a directory is refused like any special file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Trouble::BadName => "bad-name",
            Trouble::Directory => "not-regular",
            Trouble::IoError => "io-error",
            Trouble::FolderGone => "hot-folder-gone",
            Trouble::InotifyLimit => "inotify-limit",
        }
    }
}

/// Where the watch reports what it counts. Called from the watch thread, never under a lock.
pub trait Report: Send + Sync {
    /// `count` files were handed to the workers for the first time.
    fn files_seen(&self, source: Source, count: u64);
    /// Events were lost; `lost` of them in the ring, the kernel does not tell its number.
    fn overflow(&self, lost: u64);
    /// A scan of the whole folder begins.
    fn rescan(&self, cause: Cause);
    /// The folder is there and watched, or not.
    fn healthy(&self, healthy: bool);
    /// Something went wrong; the name is empty where it concerns the folder.
    fn fault(&self, trouble: Trouble, name: &[u8]);
    /// A sign of life.
    fn moves(&self, _now: Mono) {}
    /// Calls on the folder follow, which may not return on a file system that hangs.
    fn calls(&self, _now: Mono) {}
    /// The watch waits for something to do, or has ended.
    fn rests(&self) {}
}

/// One ticket on its way to a worker, with the right to its name.
#[derive(Debug)]
pub struct Job {
    /// What to look at.
    pub ticket: Ticket,
    /// The right to the name: accepted, given back with the ticket, or dropped.
    pub flight: Flight,
    /// The owner's place in the fresh lane, free again when the job is taken apart.
    share: Option<shares::Share>,
}

impl Job {
    /// A job that takes no owner's place.
    #[cfg(test)]
    pub(crate) fn unshared(ticket: Ticket, flight: Flight) -> Self {
        Job { ticket, flight, share: None }
    }

    /// Takes the job apart.
    pub fn into_parts(self) -> (Ticket, Flight) {
        drop(self.share);
        (self.ticket, self.flight)
    }
}

/// What others tell the watch.
#[derive(Debug)]
pub enum Message {
    /// A worker could not judge the file yet.
    Returned(Ticket, Flight, Wait),
    /// Scan the folder.
    Rescan(Cause),
    /// Look whether the folder is still the one that is watched.
    Check,
    /// Ask again whether files may be accepted.
    Wake,
    /// Go by another quiet time and another period from now on.
    Tune(Tuning),
    /// End.
    Stop,
}

/// The settings that may change while the watch runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// `watch.debounce`.
    pub debounce: Duration,
    /// `watch.period`.
    pub period: Duration,
}

impl Tuning {
    /// Those of `[watch]`.
    pub fn of(watch: &config::Watch) -> Self {
        Tuning { debounce: watch.debounce, period: watch.period }
    }
}

/// The way to the watch. At most one [`Message::Returned`] for every ticket that is out waits here.
#[derive(Debug, Clone)]
pub struct Mailbox {
    sender: Sender<Message>,
    wake: Unparker,
}

impl Mailbox {
    /// Leaves a message and wakes the watch. After its end messages are dropped, and with them
    /// their flights.
    pub fn post(&self, message: Message) {
        // An error means that the watch has ended: its folder is scanned by the next one.
        let _ = self.sender.send(message);
        self.wake.unpark();
    }
}

/// What the watch goes by.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `[watch]`.
    pub watch: config::Watch,
    /// `intake.map_above`: larger files go into the large lane.
    pub map_above: u64,
    /// One scan and no events; returned tickets are served until [`Message::Stop`].
    pub once: bool,
    /// Events between notify's thread and the watch.
    pub ring: usize,
}

impl Settings {
    /// The settings of `run`.
    pub fn new(config: &config::Config) -> Self {
        let map_above = config.intake.map_above;
        Settings { watch: config.watch.clone(), map_above, once: false, ring: 16_384 }
    }
}

/// What the watch works with.
#[derive(Clone)]
pub struct Parts {
    /// The folder.
    pub hot: Arc<dyn Hot>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where tickets go; one watch a queue.
    pub queue: Arc<Queue<Box<Job>>>,
    /// Names in flight; one watch a table.
    pub flights: Flights,
    /// Whether files may be accepted now. Asked every round, and once a second while it says no.
    pub may_accept: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Where counts go.
    pub report: Arc<dyn Report>,
}

/// Why the watch cannot start or go on. All of these end the process with exit code 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchFault {
    /// `watch.pattern` is no pattern.
    Pattern(PatternFault),
    /// `watch.mode = "inotify"`, and there is none.
    NoInotify(String),
    /// The folder came back as another one, which this process may not use.
    Replaced(String),
}

impl fmt::Display for WatchFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WatchFault::Pattern(fault) => write!(f, "watch.pattern: {fault}"),
            WatchFault::NoInotify(what) => {
                write!(f, "watch.mode is inotify, but {what}; or set it to auto or poll")
            }
            WatchFault::Replaced(what) => write!(f, "hot-folder-replaced: {what}; restart to watch it"),
        }
    }
}

impl std::error::Error for WatchFault {}

impl Fault for WatchFault {
    fn consequence(&self) -> Consequence {
        Consequence::Stop
    }
}

/// The watch before it runs.
pub struct Watcher {
    settings: Settings,
    parts: Parts,
    pattern: Pattern,
    progress: Arc<Progress>,
    parker: Parker,
    mailbox: Mailbox,
    inbox: Receiver<Message>,
}

impl Watcher {
    /// Checks the settings; touches nothing yet.
    pub fn new(settings: Settings, parts: Parts) -> Result<Self, WatchFault> {
        let pattern = Pattern::new(&settings.watch.pattern).map_err(WatchFault::Pattern)?;
        let parker = Parker::new();
        let (sender, inbox) = unbounded();
        let mailbox = Mailbox { sender, wake: parker.unparker().clone() };
        let progress = Arc::new(Progress::default());
        Ok(Watcher { settings, parts, pattern, progress, parker, mailbox, inbox })
    }

    /// The way to the watch while it runs.
    pub fn mailbox(&self) -> Mailbox {
        self.mailbox.clone()
    }

    /// The state of the watch while it runs.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Watches until [`Message::Stop`]. Blocks; for a thread of its own.
    pub fn run(self) -> Result<(), WatchFault> {
        run::Run::new(self).run()
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").field("settings", &self.settings).finish_non_exhaustive()
    }
}
