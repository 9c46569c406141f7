//! `once`: settle every file that is there, then end.

use std::io::Write;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::checked::Checked;
use super::daemon::{Daemon, Plan};
use super::{Verdict, io_fault, start_log};
use crate::config::{Layers, Role, state_dir};
use crate::fate::Fate;
use crate::service;

/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// The document of `once --json` and `demo --exit --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Files seen.
    pub files: u64,
    /// Rows accepted, refused ones and those taken over from an earlier run included.
    pub accepted: u64,
    /// By fate.
    pub delivered: u64,
    /// By fate.
    pub duplicate: u64,
    /// By fate.
    pub refused: u64,
    /// By fate.
    pub expired: u64,
    /// By fate.
    pub superseded: u64,
    /// Accepted and not ended.
    pub pending: u64,
    /// Accepted, neither ended nor pending; must be 0.
    pub unaccounted: i64,
    /// Wall time.
    pub elapsed_seconds: f64,
    /// Ended files by wall time.
    pub files_per_second: f64,
}

impl Summary {
    /// As things stand now.
    pub fn of(daemon: &Daemon, elapsed: Duration) -> Summary {
        let totals = daemon.metrics.totals();
        let counts = daemon.pipeline.counts();
        let seconds = elapsed.as_secs_f64();
        Summary {
            files: totals.seen,
            accepted: totals.accepted + daemon.pipeline.resumed(),
            delivered: totals.fate(Fate::Delivered),
            duplicate: totals.fate(Fate::Duplicate),
            refused: totals.fate(Fate::Refused),
            expired: totals.fate(Fate::Expired),
            superseded: totals.fate(Fate::Superseded),
            pending: counts.pending,
            unaccounted: counts.unaccounted(),
            elapsed_seconds: (seconds * 1e3).round() / 1e3,
            files_per_second: (totals.ended() as f64 / seconds.max(1e-3)).round(),
        }
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let Summary { files, delivered, duplicate, refused, expired, superseded, pending, .. } = self;
        format!(
            "{files} files: {delivered} delivered, {duplicate} duplicate, {superseded} superseded, {refused} refused, \
             {expired} expired, {pending} pending, {} unaccounted in {:.3} s",
            self.unaccounted, self.elapsed_seconds
        )
    }

    /// Writes it, as a document or as a line.
    pub fn write(&self, json: bool, out: &mut dyn Write) -> std::io::Result<()> {
        match json {
            true => {
                serde_json::to_writer(&mut *out, self)?;
                writeln!(out)
            }
            false => writeln!(out, "{}", self.line()),
        }
    }
}

/// How a wait for everything to be settled ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// Nothing is left.
    Done,
    /// Nothing moved for as long as there was patience.
    Impatient,
    /// A stop was asked for.
    Stopped,
}

/// Waits until nothing is left to do, or nothing has moved for `patience`.
pub fn wait(daemon: &Daemon, patience: Duration) -> Waited {
    let mut moved = Instant::now();
    let mut last = daemon.metrics.totals();
    loop {
        if daemon.pipeline.standing().is_done() {
            return Waited::Done;
        }
        let totals = daemon.metrics.totals();
        if totals != last {
            (moved, last) = (Instant::now(), totals);
        }
        // What the scan has not found yet is no reason for impatience.
        if moved.elapsed() > patience && daemon.pipeline.standing().scanned {
            return Waited::Impatient;
        }
        if daemon.wait(LOOK) {
            return Waited::Stopped;
        }
    }
}

/// Settles the backlog.
pub fn run(
    layers: &Layers,
    warnings: &[String],
    patience: Duration,
    json: bool,
    out: &mut dyn Write,
    leave: fn(),
) -> Verdict {
    let started = Instant::now();
    let Checked { loaded, schema } = Checked::load(layers)?;
    let log = start_log(&loaded, warnings, &layers.environment)?;
    let state = state_dir(&loaded.config, &layers.environment);
    let plan = Plan {
        loaded: &loaded,
        schema,
        reload: None,
        state,
        role: Role::Brief,
        once: true,
        told: Box::new(|_| {}),
        log: &log,
        managed: service::is_managed(&layers.environment),
        leave,
        manager: None,
    };
    let daemon = Daemon::start(plan)?;
    let waited = wait(&daemon, patience);
    let standing = daemon.pipeline.standing();
    let summary = Summary::of(&daemon, started.elapsed());
    daemon.end()?;
    if let Err(err) = summary.write(json, out) {
        return io_fault(err);
    }
    if summary.refused + summary.expired > 0 {
        return Ok(8);
    }
    match waited {
        Waited::Done => Ok(0),
        Waited::Stopped => {
            Err("stopped before everything was settled; the rest stays where it is".to_owned().into())
        }
        Waited::Impatient => Err(format!(
            "nothing moved for {patience:?}: {} files wait for the sink, {} are still held open or cannot be read; \
             they stay where they are",
            standing.under_way, standing.unjudged
        )
        .into()),
    }
}
