//! The flags that are settings, and the layers they become.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::Args;

use super::check::{Checked, assignment, go_bool, go_duration, go_int, path};
use crate::config::{Given, Origin};
use crate::fate::SinkKind;

/// Which settings file, and single settings: what every command that reads settings takes.
#[derive(Debug, Clone, PartialEq, Default, Args)]
pub struct Base {
    /// Settings file; it must exist [default: $CONDUCTOR_LOOP_CONFIG, the user's, the system's, none]
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub config: Option<PathBuf>,

    /// One setting, as in the file; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    pub set: Vec<(String, String)>,
}

/// What finds a daemon's record.
#[derive(Debug, Clone, PartialEq, Default, Args)]
pub struct Folders {
    /// Settings file and single settings.
    #[command(flatten)]
    pub base: Base,

    /// Watched folder [default: ./handoff]
    #[arg(long, visible_alias = "handoff-dir", value_name = "DIR", value_parser = Checked("watch.handoff"))]
    pub handoff: Option<OsString>,

    /// Ledger and locks [default: $STATE_DIRECTORY, else .conductor in the watched folder]
    #[arg(long, value_name = "DIR", value_parser = Checked("ledger.dir"))]
    pub state: Option<OsString>,
}

/// Every flag of `run` that is a setting.
#[derive(Debug, Clone, PartialEq, Default, Args)]
pub struct Settings {
    /// Settings file, handoff and state.
    #[command(flatten)]
    pub folders: Folders,

    /// Names that are intents [default: intent-*.json]
    #[arg(long, value_name = "GLOB", value_parser = Checked("watch.pattern"))]
    pub pattern: Option<OsString>,

    /// Quiet time after which a file counts as complete without proof, 10ms to 5s [default: 100ms]
    #[arg(long, value_name = "DUR", allow_hyphen_values = true)]
    pub debounce: Option<OsString>,

    /// Time between scans, 100ms to 1h; 0 means the default [default: 30s]
    #[arg(long, value_name = "DUR", allow_hyphen_values = true)]
    pub period: Option<OsString>,

    /// How new files are noticed [default: auto]
    #[arg(long, value_name = "MODE", value_parser = Checked("watch.mode"))]
    pub watch_mode: Option<OsString>,

    /// Where the folder sink keeps packages [default: ./out]
    #[arg(long, value_name = "DIR", value_parser = Checked("sink.folder.out"))]
    pub out: Option<OsString>,

    /// Where intents go [default: folder]
    #[arg(long, value_name = "NAME", value_parser = Checked("sink.kind"))]
    pub sink: Option<OsString>,

    /// Command that is run for each intent; selects the exec sink
    #[arg(long, value_name = "CMD", value_parser = Checked("sink.exec.command"))]
    pub porch: Option<OsString>,

    /// How the command is run, direct or structured [default: direct]
    #[arg(long, value_name = "MODE")]
    pub mode: Option<OsString>,
    /// Base URL of Porch where it is not behind the server of the kubeconfig
    #[arg(long, value_name = "URL", value_parser = Checked("sink.porch.url"), hide_short_help = true)]
    pub porch_url: Option<OsString>,

    /// Same as --sink network-intent
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = go_bool, hide_possible_values = true, hide_short_help = true)]
    pub use_processor: Option<bool>,

    /// Threads that read and check files [default: 2, or 1 on a single core]
    #[arg(long, value_name = "N", value_parser = Checked("intake.workers"))]
    pub workers: Option<OsString>,

    /// Where HTTP listens: off, HOST:PORT or unix:PATH [default: 127.0.0.1:8080 for run, else off]
    #[arg(long, value_name = "ADDR", value_parser = Checked("http.listen"))]
    pub listen: Option<OsString>,

    /// How log lines look [default: auto]
    #[arg(long, value_name = "FORMAT", value_parser = Checked("log.format"))]
    pub log_format: Option<OsString>,

    /// Lowest level that is logged [default: info, or $LOG_LEVEL]
    #[arg(long, value_name = "LEVEL", value_parser = Checked("log.level"))]
    pub log_level: Option<OsString>,

    /// A JSON Schema of your own that documents must satisfy too; of a directory
    /// docs/contracts/intent.schema.json
    #[arg(long, value_name = "FILE", value_parser = Checked("intake.schema"))]
    pub schema: Option<OsString>,

    /// Where refused and expired files go [default: failed in the watched folder]
    #[arg(long, value_name = "DIR", value_parser = Checked("settle.failed_dir"))]
    pub error_dir: Option<OsString>,
}

/// Flags of the original that change nothing here.
#[derive(Debug, Args)]
pub(super) struct Idle {
    /// Accepted without effect
    #[arg(long, value_name = "MODE", hide_short_help = true)]
    porch_mode: Option<OsString>,

    /// Accepted without effect
    #[arg(long, value_name = "N", hide_short_help = true, allow_hyphen_values = true, value_parser = go_int)]
    batch_size: Option<OsString>,

    /// Accepted without effect
    #[arg(long, value_name = "DUR", hide_short_help = true, allow_hyphen_values = true)]
    #[arg(value_parser = go_duration)]
    batch_interval: Option<OsString>,
}

impl Idle {
    /// What is wrong with them: the original ends with 1 where it cannot make out a mode.
    pub(super) fn fault(&self) -> Option<String> {
        let mode = self.porch_mode.as_ref().filter(|mode| *mode != "direct" && *mode != "structured")?;
        Some(format!("flag --porch-mode: {mode:?} is not one of direct, structured"))
    }

    /// One warning that names those given.
    pub(super) fn warning(&self) -> Option<String> {
        let all = [
            ("--porch-mode", &self.porch_mode),
            ("--batch-size", &self.batch_size),
            ("--batch-interval", &self.batch_interval),
        ];
        let given: Vec<&str> =
            all.iter().filter(|(_, value)| value.is_some()).map(|(flag, _)| *flag).collect();
        match given.as_slice() {
            [] => None,
            [one] => Some(format!("{one} has no effect")),
            several => Some(format!("{} have no effect", several.join(", "))),
        }
    }
}

/// The setting `key` as `flag` gives it.
pub(super) fn flag(flag: &'static str, key: &str, value: &OsStr) -> Given {
    Given { key: key.into(), value: value.into(), origin: Origin::Flag(flag) }
}

impl Base {
    /// The layers of `--set`.
    pub fn given(&self) -> Vec<Given> {
        let settings = self.set.iter();
        settings
            .map(|(key, value)| Given { key: key.clone(), value: value.into(), origin: Origin::Set })
            .collect()
    }
}

impl Folders {
    /// The layers of these flags, lowest first.
    pub fn given(&self) -> Vec<Given> {
        let flags = [("--handoff", "watch.handoff", &self.handoff), ("--state", "ledger.dir", &self.state)];
        self.base.given().into_iter().chain(layers(&flags)).collect()
    }
}

impl Settings {
    /// The layers of these flags, lowest first.
    pub fn given(&self) -> Vec<Given> {
        let processor = (self.use_processor == Some(true)).then(|| "network-intent".into());
        let flags = [
            ("--pattern", "watch.pattern", &self.pattern),
            ("--debounce", "watch.debounce", &self.debounce),
            ("--period", "watch.period", &self.period),
            ("--watch-mode", "watch.mode", &self.watch_mode),
            ("--out", "sink.folder.out", &self.out),
            ("--porch", "sink.exec.command", &self.porch),
            ("--mode", "sink.exec.mode", &self.mode),
            ("--use-processor", "sink.kind", &processor),
            ("--sink", "sink.kind", &self.sink),
            ("--porch-url", "sink.porch.url", &self.porch_url),
            ("--workers", "intake.workers", &self.workers),
            ("--listen", "http.listen", &self.listen),
            ("--log-format", "log.format", &self.log_format),
            ("--log-level", "log.level", &self.log_level),
            ("--schema", "intake.schema", &self.schema),
            ("--error-dir", "settle.failed_dir", &self.error_dir),
        ];
        let exec = SinkKind::Exec.as_str().as_ref();
        let selected = self.porch.as_ref().map(|_| flag("--porch", "sink.kind", exec));
        self.folders.given().into_iter().chain(selected).chain(layers(&flags)).collect()
    }
}

impl super::Validate {
    /// The layers of these flags, lowest first.
    pub fn given(&self) -> Vec<Given> {
        self.base.given().into_iter().chain(layers(&[("--schema", "intake.schema", &self.schema)])).collect()
    }
}

impl super::Demo {
    /// The layers of a demonstration: its own folders, and the address if one is given.
    pub fn given(&self) -> Vec<Given> {
        let folder = |key, name| flag("--dir", key, self.dir.join(name).as_os_str());
        let folders = [folder("watch.handoff", "handoff"), folder("sink.folder.out", "out")];
        folders.into_iter().chain(layers(&[("--listen", "http.listen", &self.listen)])).collect()
    }
}

fn layers(flags: &[(&'static str, &str, &Option<OsString>)]) -> Vec<Given> {
    let given = flags.iter().filter_map(|(name, key, value)| Some((*name, *key, value.as_deref()?)));
    given.map(|(name, key, value)| flag(name, key, value)).collect()
}
