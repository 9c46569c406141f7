//! What the watch needs from its surroundings: the folder, and somewhere to report to.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use crate::clock::Mono;
use crate::disk::RealDisk;
use crate::fate::Source;
use crate::observe::{self, Check, FaultKind, Health, Metrics, StageId, escape_name};
use crate::watch::{Away, Cause, Hot, Report, Trouble};

/// The handoff folder of the daemon's own disk.
pub(super) struct HotFolder {
    pub(super) disk: Arc<RealDisk>,
    /// A sandbox binds this process to the directory that was there at its start.
    pub(super) pinned: bool,
}

impl Hot for HotFolder {
    fn path(&self) -> &Path {
        self.disk.handoff_path()
    }

    fn handle(&self) -> Arc<OwnedFd> {
        self.disk.folders().handoff()
    }

    fn check(&self) -> Result<(), String> {
        match self.disk.is_in_place() {
            true => Ok(()),
            false => Err(format!(
                "directory {}: gone, or another directory than the watched one",
                self.path().display()
            )),
        }
    }

    fn reopen(&self) -> Result<(), Away> {
        if self.pinned && self.disk.is_succeeded().map_err(Away::ForNow)? {
            return Err(Away::ForGood(format!("another directory stands at {}", self.path().display())));
        }
        self.disk.reopen().map_err(Away::ForNow)
    }
}

/// Takes what the watch counts to metrics, health and the log.
pub(super) struct WatchNews {
    pub(super) metrics: Metrics,
    pub(super) health: Health,
}

impl Report for WatchNews {
    fn files_seen(&self, source: Source, count: u64) {
        self.metrics.seen(source, count);
    }

    fn overflow(&self, lost: u64) {
        self.metrics.watch_overflow();
        self.metrics.fault(FaultKind::InotifyOverflow);
        tracing::warn!(
            lost,
            "events were lost; the folder is scanned, no file is: raise fs.inotify.max_queued_events"
        );
    }

    fn rescan(&self, cause: Cause) {
        self.metrics.rescan(exported(cause));
        // A scan begins only where the watch is placed.
        self.health.started();
    }

    fn healthy(&self, healthy: bool) {
        self.metrics.watch_healthy(healthy);
        match healthy {
            true => self.health.set(Check::Watch, Ok(())),
            false => self
                .health
                .set(Check::Watch, Err("hot-folder-gone: the handoff folder is not there".to_owned())),
        }
    }

    fn moves(&self, now: Mono) {
        self.health.beat(StageId::Watch, now);
    }

    fn calls(&self, now: Mono) {
        self.health.in_call(StageId::Watch, now);
    }

    fn rests(&self) {
        self.health.idle(StageId::Watch);
    }

    fn fault(&self, trouble: Trouble, name: &[u8]) {
        let file = escape_name(name);
        match trouble {
            Trouble::BadName => {
                self.metrics.fault(FaultKind::BadName);
                tracing::warn!(file, "left in place: the name has control, bidi or invalid bytes; rename it");
            }
            Trouble::Directory => {
                tracing::warn!(file, "left in place: it is a directory; drop files, not directories");
            }
            Trouble::IoError => {
                self.metrics.fault(FaultKind::IoError);
                tracing::error!(
                    file,
                    "the file system failed on it; it is left and looked at again by the next scan"
                );
            }
            Trouble::FolderGone => {
                self.metrics.fault(FaultKind::HotFolderGone);
                tracing::error!(
                    "hot-folder-gone: the handoff folder was removed, renamed or unmounted; bring it back, it is watched again by itself"
                );
            }
            Trouble::InotifyLimit => {
                self.metrics.fault(FaultKind::InotifyLimit);
                tracing::error!(
                    "inotify-limit: no inotify watch to be had; polling instead: raise fs.inotify.max_user_instances or max_user_watches"
                );
            }
        }
    }
}

const fn exported(cause: Cause) -> observe::Cause {
    match cause {
        Cause::Start => observe::Cause::Start,
        Cause::Returned => observe::Cause::Returned,
        Cause::Overflow => observe::Cause::Overflow,
        Cause::QueueFull => observe::Cause::QueueFull,
        Cause::Signal => observe::Cause::Signal,
        Cause::Period => observe::Cause::Period,
    }
}
