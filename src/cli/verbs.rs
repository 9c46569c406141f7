//! The shapes of the commands beside `run` and `once`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use super::check::{Checked, duration, path};
use super::filter::{self, Moment, Standing};
use super::settings::{Base, Folders, Settings};

/// `demo`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct Demo {
    /// End when everything is settled instead of waiting for more
    #[arg(long)]
    pub exit: bool,

    /// With --exit: end with one JSON document
    #[arg(long)]
    pub json: bool,

    /// Where packages go: a folder, or a Porch server that is a fake inside this process
    #[arg(long, value_enum, value_name = "SINK", default_value_t)]
    pub sink: DemoSink,

    /// Folder of the demonstration; an existing one must be a former demonstration's
    #[arg(long, value_name = "DIR", default_value = "./demo", value_parser = path())]
    pub dir: PathBuf,

    /// Where HTTP listens: off, HOST:PORT or unix:PATH [default: any free port of 127.0.0.1, off with --exit]
    #[arg(long, value_name = "ADDR", value_parser = Checked("http.listen"))]
    pub listen: Option<OsString>,
}

/// What the demonstration shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum DemoSink {
    /// Packages in a folder
    #[default]
    Folder,
    /// Package revisions on a fake Porch; no cluster is touched
    Porch,
}

/// `validate`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct Validate {
    /// Intent files; - reads standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,

    /// Print an array with one object per file
    #[arg(long)]
    pub json: bool,

    /// A JSON Schema of your own that documents must satisfy too
    #[arg(long, value_name = "FILE", value_parser = Checked("intake.schema"))]
    pub schema: Option<OsString>,

    /// Settings file and single settings.
    #[command(flatten)]
    pub base: Base,
}

/// `status`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct Status {
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,

    /// Where the daemon works.
    #[command(flatten)]
    pub folders: Folders,
}

/// `submit`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct Submit {
    /// Intent files; - reads standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,

    /// Wait until each has come to its end, and exit by it
    #[arg(long)]
    pub wait: bool,

    /// With --wait: how long to wait for all of them
    #[arg(long, value_name = "DUR", value_parser = duration, requires = "wait", default_value = "30s")]
    pub timeout: Duration,

    /// Drop the one file under this name; it must fit watch.pattern
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// Print an array with one object per file
    #[arg(long)]
    pub json: bool,

    /// Where the daemon works.
    #[command(flatten)]
    pub folders: Folders,
}

/// `requeue`. Filters are joined by "and".
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[command(group(clap::ArgGroup::new("which").required(true).multiple(true).args(["ids", "failed", "reason", "since"])))]
pub struct Requeue {
    /// Ids of ended intents (16 hex digits)
    #[arg(value_name = "ID", value_parser = filter::id)]
    #[arg(conflicts_with_all = ["failed", "reason", "since", "until", "target"])]
    pub ids: Vec<crate::fate::Id>,

    /// Everything refused or expired that was not tried again yet
    #[arg(long)]
    pub failed: bool,

    /// Everything that ended with this reason and was not tried again yet
    #[arg(long, value_name = "WORD", value_parser = filter::reason)]
    pub reason: Option<crate::fate::Reason>,

    /// Accepted at or after this moment: RFC 3339, or a duration back from now (1h)
    #[arg(long, value_name = "WHEN", value_parser = filter::moment)]
    pub since: Option<Moment>,

    /// Accepted before this moment: RFC 3339, or a duration back from now
    #[arg(long, value_name = "WHEN", value_parser = filter::moment)]
    pub until: Option<Moment>,

    /// Only this target; what was refused by its content has none
    #[arg(long, value_name = "NS/KIND/NAME", value_parser = filter::target)]
    pub target: Option<crate::intent::Target>,

    /// Do it; without it only shows what would be tried again
    #[arg(long)]
    pub yes: bool,

    /// Print one JSON document
    #[arg(long)]
    pub json: bool,

    /// Where the daemon works.
    #[command(flatten)]
    pub folders: Folders,
}

/// `history show`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct Show {
    /// Id of the intent (16 hex digits)
    #[arg(value_name = "ID", value_parser = filter::id)]
    pub id: crate::fate::Id,

    /// Print one JSON document
    #[arg(long)]
    pub json: bool,

    /// Where the daemon works.
    #[command(flatten)]
    pub folders: Folders,
}

/// `history …`.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum HistoryCommand {
    /// Tell the story of one intent
    Show(Show),
}

/// `history`. Filters are joined by "and".
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct History {
    /// One intent instead of a list.
    #[command(subcommand)]
    pub command: Option<HistoryCommand>,

    /// Accepted at or after this moment: RFC 3339, or a duration back from now (1h)
    #[arg(long, value_name = "WHEN", value_parser = filter::moment)]
    pub since: Option<Moment>,

    /// Accepted before this moment: RFC 3339, or a duration back from now
    #[arg(long, value_name = "WHEN", value_parser = filter::moment)]
    pub until: Option<Moment>,

    /// Only this fate: delivered, duplicate, refused, expired, superseded or pending
    #[arg(long, value_name = "FATE", value_parser = filter::standing)]
    pub fate: Option<Standing>,

    /// Only this target
    #[arg(long, value_name = "NS/KIND/NAME", value_parser = filter::target)]
    pub target: Option<crate::intent::Target>,

    /// Only files of this name
    #[arg(long, value_name = "NAME")]
    pub name: Option<OsString>,

    /// Only the intent with this id (16 hex digits)
    #[arg(long, value_name = "ID", value_parser = filter::id)]
    pub id: Option<crate::fate::Id>,

    /// Only the newest N of what is left
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,

    /// Print JSON lines, oldest first
    #[arg(long)]
    pub json: bool,

    /// Where the daemon works.
    #[command(flatten)]
    pub folders: Folders,
}

/// `doctor`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct Doctor {
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,

    /// What the daemon is started with.
    #[command(flatten)]
    pub settings: Settings,
}

/// `config …`.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum ConfigCommand {
    /// Print every setting with its value and the layer it came from
    Print {
        /// The flags that are settings.
        #[command(flatten)]
        settings: Box<Settings>,

        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Name every fault of a settings file at once; exit 0 or 1
    Check {
        /// The file; without it the one that run would use
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Print the JSON Schema of settings files, for editors
    Schema,
    /// Print a commented settings file with every key
    Init {
        /// Write to this file, which must not exist
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}
