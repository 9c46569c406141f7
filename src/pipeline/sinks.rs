//! Which sink the settings name, made from what the pipeline has.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::StartFault;
use crate::config::{Config, OnUncertain};
use crate::disk::Disk;
use crate::fate::SinkKind;
use crate::observe::Metrics;
use crate::read;
use crate::submit::Sink;
use crate::submit::exec::{ExecSink, INHERITED, Settings};
use crate::submit::folder::FolderSink;

/// What sinks are made from.
pub(super) struct Making<'a> {
    pub(super) config: &'a Config,
    /// The state directory, locked.
    pub(super) state: &'a Path,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) metrics: Metrics,
    /// The command is `once`: what is missing will not come.
    pub(super) once: bool,
}

/// The sink of `sink.kind`.
pub(super) fn build(making: Making<'_>) -> Result<Arc<dyn Sink>, StartFault> {
    match making.config.sink.kind {
        SinkKind::Folder => Ok(folder(making)),
        SinkKind::Exec => exec(making),
    }
}

fn folder(making: Making<'_>) -> Arc<dyn Sink> {
    Arc::new(FolderSink::new(making.disk, making.config.package.blueprints.clone()))
}

fn exec(making: Making<'_>) -> Result<Arc<dyn Sink>, StartFault> {
    let chosen = &making.config.sink.exec;
    let command = chosen.command.clone().ok_or_else(|| {
        StartFault::new("the exec sink has no command; set sink.exec.command, or use --porch CMD")
    })?;
    let settings = Settings {
        command,
        mode: chosen.mode,
        out: absolute(&making.config.sink.folder.out)?,
        state: absolute(making.state)?,
        timeout: chosen.timeout,
        attempts: chosen.attempts,
        hold: chosen.on_uncertain == OnUncertain::Hold,
        once: making.once,
        environment: inherited(),
    };
    if !read::keep_descriptors() {
        tracing::warn!(
            "this kernel cannot keep inherited descriptors from the command; start the daemon with none but \
             the standard three"
        );
    }
    let sink = ExecSink::new(settings, making.metrics).map_err(StartFault::new)?;
    Ok(Arc::new(sink))
}

fn absolute(path: &Path) -> Result<PathBuf, StartFault> {
    std::path::absolute(path).map_err(|err| StartFault::new(format!("{}: {err}", path.display())))
}

/// Passed through to the command; none of it is a setting.
fn inherited() -> Vec<(OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| INHERITED.iter().any(|known| name == known)).collect()
}
