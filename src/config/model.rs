//! The checked settings, section by section, with their defaults.
//!
//! Limits and meanings stand once, in the key table ([`super::keys`]); what is here is what stages read.

mod exec;
mod network_intent;
mod porch;

use std::path::PathBuf;
use std::time::Duration;

pub use exec::{ExecMode, ExecSink, OnUncertain};
pub use network_intent::NetworkIntentSink;
pub use porch::{Approval, OpenProposal, PackageContent, PackageLayout, PorchSink};

/// All settings, in the sections of the TOML file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// `[watch]`
    pub watch: Watch,
    /// `[intake]`
    pub intake: Intake,
    /// `[policy]`
    pub policy: Policy,
    /// `[ledger]`
    pub ledger: Ledger,
    /// `[sink]`
    pub sink: Sink,
    /// `[package]`
    pub package: Package,
    /// `[settle]`
    pub settle: Settle,
    /// `[http]`
    pub http: Http,
    /// `[log]`
    pub log: Log,
    /// `[service]`
    pub service: Service,
}

/// `[watch]`: where intents are dropped and when a file counts as complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Watch {
    /// The watched folder.
    pub handoff: PathBuf,
    /// Glob over file names (`*`, `?`, `[...]`).
    pub pattern: String,
    /// Look into sub-directories too.
    pub recursive: bool,
    /// How deep, when recursive.
    pub max_depth: u32,
    /// One window of quiet, 10 ms to 5 s.
    pub debounce: Duration,
    /// Time between rescans, 100 ms to 1 h.
    pub period: Duration,
    /// How events are had.
    pub mode: WatchMode,
}

/// `watch.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchMode {
    /// inotify where it works, else polling.
    Auto,
    /// inotify or exit 1.
    Inotify,
    /// A scan every 2 s, or every period if that is shorter.
    Poll,
}

/// `[intake]`: what is read and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Intake {
    /// Worker threads.
    pub workers: usize,
    /// Tickets per lane, 16 to 65,536.
    pub queue: usize,
    /// Largest accepted file in bytes.
    pub max_size: u64,
    /// Deepest nesting.
    pub max_depth: u32,
    /// Most JSON values in a document.
    pub max_values: u32,
    /// What becomes of unknown fields of flat intents.
    pub unknown_fields: UnknownFields,
    /// A JSON Schema of the user's, checked beside the built-in rules.
    pub schema: Option<PathBuf>,
    /// Files above this many bytes are mapped under a lease instead of read.
    pub map_above: u64,
    /// Stop accepting below this much free space (or 5 % of the file system, if that is less).
    pub reserve: u64,
}

/// `intake.unknown_fields`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownFields {
    /// Refuse the file, reason `schema`.
    Refuse,
    /// Drop them from the intent.
    Ignore,
}

/// `[policy]`: what this site allows.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Allowed namespaces; empty means all.
    pub namespaces: Vec<String>,
    /// Allowed target kinds; empty means all.
    pub kinds: Vec<String>,
    /// Highest replica count.
    pub max_replicas: u32,
}

/// `[ledger]`: the durable record.
#[derive(Debug, Clone, PartialEq)]
pub struct Ledger {
    /// State directory; `None` means `$STATE_DIRECTORY`, else `<handoff>/.conductor`.
    pub dir: Option<PathBuf>,
    /// What makes two files the same.
    pub dedup_scope: DedupScope,
    /// How long a repeat counts as one.
    pub dedup_window: Duration,
    /// How many keys are remembered at most.
    pub dedup_keys: u64,
    /// Age at which closed rows are removed.
    pub keep_for: Duration,
    /// Most closed rows kept.
    pub keep_intents: u64,
    /// Size on disk at which acceptance stops.
    pub max_size: u64,
    /// Time between checkpoints.
    pub checkpoint: Duration,
}

/// `ledger.dedup_scope`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DedupScope {
    /// Equal content under the same name, compared with the newest of that name.
    NameAndContent,
    /// Equal content under any name.
    Content,
}

/// `[sink]`: where intents go.
#[derive(Debug, Clone, PartialEq)]
pub struct Sink {
    /// Which sink.
    pub kind: crate::fate::SinkKind,
    /// Whether a newer intent overtakes a waiting one; [`Coalesce::Latest`] for Porch unless it is set.
    pub coalesce: Coalesce,
    /// How long an intent may wait; zero means for ever.
    pub max_age: Duration,
    /// Over how long what an earlier process left is spread; zero means not at all.
    pub start_spread: Duration,
    /// Most intents waiting for the sink.
    pub max_pending: u64,
    /// Most bytes waiting for the sink.
    pub max_pending_size: u64,
    /// `[sink.folder]`
    pub folder: FolderSink,
    /// `[sink.exec]`
    pub exec: ExecSink,
    /// `[sink.porch]`
    pub porch: PorchSink,
    /// `[sink.network-intent]`
    pub network_intent: NetworkIntentSink,
}

/// `sink.coalesce`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coalesce {
    /// Waiting intents of a target are superseded by its newest.
    Latest,
    /// Every intent is delivered.
    Off,
}

/// `[sink.folder]`.
#[derive(Debug, Clone, PartialEq)]
pub struct FolderSink {
    /// Root of the packages.
    pub out: PathBuf,
}

/// `[package]`: what packages are made from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Package {
    /// Directory of whole workloads whose replicas are edited.
    pub blueprints: Option<PathBuf>,
}

/// `[settle]`: what becomes of a file at the end.
#[derive(Debug, Clone, PartialEq)]
pub struct Settle {
    /// Move the original or write a snapshot.
    pub archive: Archive,
    /// One status file each, or one journal.
    pub status: StatusForm,
    /// Where refused files go; `None` means `<handoff>/failed`.
    pub failed_dir: Option<PathBuf>,
    /// Age at which archived files are removed.
    pub keep_for: Duration,
    /// Size of each archive directory at which the oldest files are removed.
    pub keep_size: u64,
}

/// `settle.archive`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archive {
    /// The dropped inode itself is moved.
    Rename,
    /// A daemon-owned copy of the accepted bytes is written and the original removed.
    Snapshot,
}

/// `settle.status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusForm {
    /// One file per intent.
    Files,
    /// One append-only JSON-lines file.
    Journal,
}

/// `[http]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Http {
    /// Where to listen.
    pub listen: Listen,
}

/// `http.listen`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Listen {
    /// The command's own default (see `contract.md` 1): a taken port is a warning.
    #[default]
    Unset,
    /// No HTTP.
    Off,
    /// `HOST:PORT`; port 0 picks one.
    Tcp(String),
    /// `unix:PATH`.
    Unix(PathBuf),
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// Lowest level that is written: error, warn, info, debug, trace.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

/// `log.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Terminal: text; under systemd: journald; else JSON.
    Auto,
    /// Short lines.
    Text,
    /// JSON lines.
    Json,
    /// The journal's own protocol.
    Journald,
}

/// `[service]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// How long a stop may take.
    pub drain: Duration,
    /// Whether the process gives up what it does not need.
    pub sandbox: SandboxMode,
}

/// `service.sandbox`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxMode {
    /// Under a service manager, as far as the kernel goes.
    BestEffort,
    /// Always; no start without it.
    Require,
    /// Never.
    Off,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for Watch {
    fn default() -> Self {
        Watch {
            handoff: "./handoff".into(),
            pattern: "intent-*.json".into(),
            recursive: false,
            max_depth: 4,
            debounce: Duration::from_millis(100),
            period: Duration::from_secs(30),
            mode: WatchMode::Auto,
        }
    }
}

impl Default for Intake {
    fn default() -> Self {
        Intake {
            workers: std::thread::available_parallelism().map_or(1, usize::from).min(2),
            queue: 16_384,
            max_size: 1 << 20,
            max_depth: 32,
            max_values: 20_000,
            unknown_fields: UnknownFields::Refuse,
            schema: None,
            map_above: 256 << 10,
            reserve: 64 << 20,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Policy { namespaces: Vec::new(), kinds: Vec::new(), max_replicas: 100 }
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Ledger {
            dir: None,
            dedup_scope: DedupScope::NameAndContent,
            dedup_window: 30 * DAY,
            dedup_keys: 1_000_000,
            keep_for: 30 * DAY,
            keep_intents: 1_000_000,
            max_size: 2 << 30,
            checkpoint: Duration::from_secs(5),
        }
    }
}

impl Default for Sink {
    fn default() -> Self {
        Sink {
            kind: crate::fate::SinkKind::Folder,
            coalesce: Coalesce::Off,
            max_age: 7 * DAY,
            start_spread: Duration::from_secs(30),
            max_pending: 100_000,
            max_pending_size: 1 << 30,
            folder: FolderSink { out: "./out".into() },
            exec: ExecSink::default(),
            porch: PorchSink::default(),
            network_intent: NetworkIntentSink::default(),
        }
    }
}

impl Default for Settle {
    fn default() -> Self {
        Settle {
            archive: Archive::Rename,
            status: StatusForm::Files,
            failed_dir: None,
            keep_for: 30 * DAY,
            keep_size: 10 << 30,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log { level: "info".into(), format: LogFormat::Auto }
    }
}

impl Default for Service {
    fn default() -> Self {
        Service { drain: Duration::from_secs(10), sandbox: SandboxMode::BestEffort }
    }
}
