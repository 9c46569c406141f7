//! The embedded default sink: one kpt package per target in a local directory.
//!
//! ```text
//! <out>/<namespace>/<kind>-<name>/Kptfile                 written once
//! <out>/<namespace>/<kind>-<name>/package-context.yaml    written once
//! <out>/<namespace>/<kind>-<name>/workload.yaml           replaced by one rename for every intent
//! ```
//!
//! **Order of writes.** The first package of a target is built in `.<kind>-<name>.new` beside its
//! place and renamed in whole. Every later delivery is one [`Disk::replace`] (open the temporary
//! file, write, close, rename) and nothing else: which intent and revision a package holds is
//! remembered for the 16,384 targets used last. Nothing is flushed here; after a power cut
//! [`Sink::restore`] and the doubtful deliveries of recovery put right what the disk forgot.
//!
//! **Whose file.** A package is ours by the annotations in its `workload.yaml`. A file without them
//! is left as it is and the intent refused (`name-conflict`), unless it is empty or a beginning of
//! what is about to be written: then a power cut tore it.
//!
//! **Revisions** count deliveries into the package. A delivery whose intent the package already
//! holds is answered with the same revision and writes nothing. A package knows its newest intent
//! alone: where several of a target are doubtful after a crash, [`Sink::overtaken`] tells which of
//! them were applied before the one that stands.
//!
//! Files are 0644 and directories 0755, for GitOps agents read them as other users.

mod desk;
mod fault;
mod recent;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use self::desk::Desk;
use self::fault::Fault;
use super::{Abilities, Delivery, Gather, Outcome, Sink};
use crate::disk::Disk;
use crate::error::{Consequence, Fault as _};
use crate::fate::{Receipt, SinkKind};
use crate::package::Blueprints;

/// Most intents in a group. One delivery takes some 25 µs, so a group holds its first outcome back
/// by 1.6 ms at most (the latency goal is 3 ms), while 64 already make the cost of handing a group
/// over disappear. Targets in a group differ, so nothing depends on the order inside.
const GROUP: usize = 64;

/// Packages in a local directory.
pub struct FolderSink {
    /// Locked for a whole group: the sink takes one at a time.
    desk: Mutex<Desk>,
}

impl FolderSink {
    /// A sink that writes below the out directory of `disk` and, where `blueprints` names a directory,
    /// makes workloads from what is there.
    pub fn new(disk: Arc<dyn Disk>, blueprints: Option<PathBuf>) -> Self {
        FolderSink { desk: Mutex::new(Desk::new(disk, blueprints.map(Blueprints::new))) }
    }
}

impl Sink for FolderSink {
    fn kind(&self) -> SinkKind {
        SinkKind::Folder
    }

    fn abilities(&self) -> Abilities {
        Abilities { parallel: 1, group: GROUP, gather: Gather::Targets, window: Duration::ZERO }
    }

    /// Works on the calling thread when it is polled first and never waits.
    fn deliver<'a>(&'a self, group: &'a [Delivery<'a>]) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(async move {
            let mut desk = self.desk.lock();
            let mut deliver =
                |delivery| desk.deliver(delivery).map_or_else(Fault::outcome, Outcome::Delivered);
            group.iter().map(&mut deliver).collect()
        })
    }

    /// Rewrites the package with the receipt's revision if it holds an older one, another intent
    /// under the same number, a torn file or nothing; leaves it if it holds this intent or a newer
    /// revision. Called for the unclosed deliveries of a target from the oldest to the newest it also
    /// brings back the workload document that a later intent without scale effect kept.
    ///
    /// What somebody else has put in the package's place since, or a blueprint that no longer serves,
    /// is logged and left: no restart would change it, and it must not hold up the other targets.
    fn restore(&self, newest: &Delivery<'_>, receipt: &Receipt) -> Result<(), String> {
        let revision = receipt.revision.parse().map_err(|_| {
            format!("cannot restore {}: {:?} is not a revision of this sink", receipt.name, receipt.revision)
        })?;
        match self.desk.lock().restore(newest, revision) {
            Err(fault) if fault.consequence() == Consequence::Refuse => {
                tracing::error!(id = %newest.id, "a delivered package was not restored: {fault}");
                Ok(())
            }
            result => result.map_err(|fault| fault.to_string()),
        }
    }

    fn overtaken(&self, doubtful: &[Delivery<'_>]) -> Result<Vec<Receipt>, String> {
        self.desk.lock().overtaken(doubtful).map_err(|fault| fault.to_string())
    }

    /// Writes and removes one byte in the out directory and looks for the blueprints.
    fn check(&self) -> Result<(), String> {
        self.desk.lock().check().map_err(|fault| fault.to_string())
    }
}

#[cfg(test)]
mod tests;
