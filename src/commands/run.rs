//! `run`: watch until told to stop.

use std::ffi::OsStr;
use std::time::Duration;

use super::checked::Checked;
use super::daemon::{Daemon, Plan};
use super::reload::Source;
use super::{Verdict, start_log};
use crate::config::{Layers, Role, state_dir};
use crate::service;
use crate::service::notify::Manager;

/// An idle wait ends this often, for no other reason than that a wait must have an end.
const LONG: Duration = Duration::from_secs(60 * 60);

/// Runs the daemon until SIGTERM or SIGINT.
pub fn run(layers: &Layers, warnings: &[String], leave: fn()) -> Verdict {
    let Checked { loaded, schema } = Checked::load(layers)?;
    let log = start_log(&loaded, warnings, &layers.environment)?;
    let state = state_dir(&loaded.config, &layers.environment);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        pid = std::process::id(),
        handoff = %loaded.config.watch.handoff.display(),
        out = %loaded.config.sink.folder.out.display(),
        state = %state.display(),
        config = loaded.file.as_ref().map(|file| file.display().to_string()),
        "starting"
    );
    let variable = |name: &str| layers.environment.get(OsStr::new(name)).cloned();
    let manager = Manager::of(&variable).unwrap_or_else(|why| {
        tracing::warn!("{why}");
        None
    });
    let plan = Plan {
        loaded: &loaded,
        schema,
        reload: Some(Source { layers: layers.clone(), level: log.level() }),
        state,
        role: Role::Run,
        once: false,
        told: Box::new(|_| {}),
        log: &log,
        managed: service::is_managed(&layers.environment),
        leave,
        manager,
    };
    let daemon = Daemon::start(plan)?;
    while !daemon.wait(LONG) {}
    tracing::info!("stopping: files under way are finished, the rest stays where it is");
    let metrics = daemon.metrics.clone();
    daemon.end()?;
    let totals = metrics.totals();
    tracing::info!(accepted = totals.accepted, ended = totals.ended(), "stopped");
    Ok(0)
}
