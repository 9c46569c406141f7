//! The end of a file: its status, and its way out of the handoff folder.
//!
//! # Order of writes
//!
//! Outcome row durable (the ledger's work, before a row comes here) → status → error log → original
//! filed. Whoever sees a file in `processed/` or `failed/` can rely on its status, and in `failed/` on
//! its error log. Nothing is flushed here: the outcome row is the truth, and every row that no
//! checkpoint has closed is settled once more after a crash, to the same end.
//!
//! # Limits
//!
//! A status document stays below 262,144 bytes, its message below 4 KiB. With `status = "journal"` one
//! append carries the lines of a whole batch; the journal is set aside at 64 MiB. The line of an id may
//! then be there twice, after a crash or when the archive turned out otherwise: the last one counts. An
//! empty line marks each start of the daemon.
//!
//! One thread settles: the kernel serialises renames in a directory anyway (`design.md` D8).

mod archive;
#[cfg(test)]
pub(crate) mod fake;
mod retention;
mod status;

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use archive::Recall;
pub use retention::{Report, Retention};
pub use status::{Facts, Kept, Waiting, file_name, render, render_line};

use crate::clock::{Clock, Wall};
use crate::config::{Archive, StatusForm};
use crate::disk::{Disk, Place};
use crate::fate::{Id, Reason};
use crate::ledger::Row;
use archive::{Case, Filer, MODE, Pass, Trouble, later};

/// The journal's name in the status folder.
pub const JOURNAL: &str = "conductor-loop.jsonl";
/// Size at which the journal is set aside under a dated name.
const JOURNAL_BYTES: u64 = 64 << 20;

/// How files end here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Move the original or write a snapshot.
    pub archive: Archive,
    /// One file each or one journal.
    pub status: StatusForm,
    /// Absolute path of the handoff folder, for error logs.
    pub handoff: PathBuf,
    /// `mode` in status documents: how intents are submitted.
    pub mode: &'static str,
}

/// What became of a row that was to be settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// Status written, original filed: the row may be closed.
    Done,
    /// Not yet: the row stays open and [`Settler::settle_again`] is to be tried later. The intent is
    /// never submitted again because of this.
    Unfiled {
        /// `CannotFile` where the folder's rights forbid it and somebody has to act (F19); `None` where
        /// time may help (D02: no space, a name that is taken now).
        reason: Option<Reason>,
        /// What failed, where, what to do.
        message: String,
    },
}

impl From<Trouble> for Settled {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Stuck(message) => Settled::Unfiled { reason: Some(Reason::CannotFile), message },
            Trouble::Later(message) => Settled::Unfiled { reason: None, message },
        }
    }
}

/// Writes status and files originals, one row after the other.
pub struct Settler {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    filer: Filer,
    settings: Settings,
    buffer: Vec<u8>,
    /// Bytes in the journal; `None` until it was looked at.
    journal: Option<u64>,
}

impl Settler {
    /// A settler on these folders.
    pub fn new(
        disk: Arc<dyn Disk>,
        recall: Arc<dyn Recall>,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let filer = Filer::new(Arc::clone(&disk), recall, settings.archive, settings.handoff.clone());
        Settler { disk, clock, filer, settings, buffer: Vec::with_capacity(4096), journal: None }
    }

    /// Settles a row that ended just now.
    pub fn settle(&mut self, row: &Row) -> Settled {
        self.run(&[row], Pass::First).pop().unwrap_or(Settled::Done)
    }

    /// Settles rows that ended just now; the answers stand in the order of the rows.
    pub fn settle_batch(&mut self, rows: &[Row]) -> Vec<Settled> {
        self.run(&rows.iter().collect::<Vec<_>>(), Pass::First)
    }

    /// Settles a row that may have been settled before: after a start, or after [`Settled::Unfiled`].
    pub fn settle_again(&mut self, row: &Row) -> Settled {
        self.run(&[row], Pass::Again).pop().unwrap_or(Settled::Done)
    }

    /// Writes the status of a row that waits, under the name that its final status will have.
    pub fn pending(
        &mut self,
        row: &Row,
        reason: Reason,
        message: &str,
        attempts: u32,
        next_attempt_at: Option<Wall>,
    ) -> io::Result<()> {
        let waiting = Waiting { reason, message, attempts, next_attempt_at };
        let facts = Facts { mode: self.settings.mode, archive: None, waiting: Some(waiting) };
        self.report(row, &facts)
    }

    /// Deletes what own writes left half-done before a crash, and returns the ids of files that were
    /// being filed. Their rows are to be settled again; what no row knows goes to [`Settler::give_back`].
    pub fn clean_up(&self) -> io::Result<Vec<Id>> {
        for at in [Place::Processed, Place::Failed, Place::Status] {
            let mut left = Vec::new();
            self.disk.list(at, Path::new(""), &mut |name| {
                if is_temporary(at, name) {
                    left.push(PathBuf::from(name));
                }
            })?;
            left.iter().try_for_each(|name| self.disk.remove(at, name))?;
        }
        let mut taken = Vec::new();
        self.disk.list(Place::Private, Path::new(""), &mut |name| taken.extend(taken_id(name)))?;
        Ok(taken)
    }

    /// Puts a file from the private place that belongs to no row back into the handoff folder, as
    /// `intent-<id>.json`; its own name is not known any more.
    pub fn give_back(&self, id: Id) -> io::Result<()> {
        self.filer.give_back(id)
    }

    fn run(&mut self, rows: &[&Row], pass: Pass) -> Vec<Settled> {
        if self.settings.status == StatusForm::Journal
            && let Err(err) = self.report_lines(rows)
        {
            let message = format!("cannot append to status/{JOURNAL}: {err}");
            return rows
                .iter()
                .map(|_| Settled::Unfiled { reason: None, message: message.clone() })
                .collect();
        }
        rows.iter().map(|row| self.finish(row, pass).unwrap_or_else(Settled::from)).collect()
    }

    /// Status file, filing, and the status once more if the archive holds something else than it says.
    fn finish(&mut self, row: &Row, pass: Pass) -> Result<Settled, Trouble> {
        let Some(end) = &row.end else {
            return Err(Trouble::Later(format!("intent {} has not ended yet", row.id)));
        };
        let expected = Some(self.filer.expected(row));
        if self.settings.status == StatusForm::Files {
            self.report_end(row, expected)?;
        }
        let kept = self.filer.file(Case { row, end, pass })?;
        if kept != expected {
            self.report_end(row, kept)?;
        }
        Ok(Settled::Done)
    }

    fn report_end(&mut self, row: &Row, archive: Option<Kept>) -> Result<(), Trouble> {
        let facts = Facts { mode: self.settings.mode, archive, waiting: None };
        self.report(row, &facts)
            .map_err(|err| later("write the status of", &PathBuf::from(file_name(row)), &err))
    }

    /// One status, in the configured form.
    fn report(&mut self, row: &Row, facts: &Facts<'_>) -> io::Result<()> {
        self.buffer.clear();
        let now = self.clock.wall();
        if self.settings.status == StatusForm::Journal {
            status::write_line(&mut self.buffer, row, now, facts);
            return self.append();
        }
        status::write(&mut self.buffer, row, now, facts);
        let name = PathBuf::from(file_name(row));
        match self.disk.create(Place::Status, &name, &self.buffer, MODE) {
            Err(err) if err.kind() == ErrorKind::AlreadyExists => {
                let temporary = PathBuf::from(format!("{TEMPORARY}{}", row.id.short()));
                self.disk.replace(Place::Status, &name, &temporary, &self.buffer, MODE)
            }
            other => other,
        }
    }

    /// The ends of a batch, in one append.
    fn report_lines(&mut self, rows: &[&Row]) -> io::Result<()> {
        self.buffer.clear();
        let now = self.clock.wall();
        for row in rows.iter().filter(|row| row.end.is_some()) {
            let archive = Some(self.filer.expected(row));
            let facts = Facts { mode: self.settings.mode, archive, waiting: None };
            status::write_line(&mut self.buffer, row, now, &facts);
        }
        self.append()
    }

    /// Appends the buffer to the journal. A failed append, or a power cut, may leave half a line, which
    /// the next one must not continue: after either it begins with a line feed of its own.
    fn append(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let journal = Path::new(JOURNAL);
        let size = match self.journal {
            Some(size) => size,
            None => self.disk.look(Place::Status, journal)?.map_or(0, |seen| seen.identity.size),
        };
        if size >= JOURNAL_BYTES {
            self.set_journal_aside()?;
            self.journal = Some(0);
        } else if self.journal.is_none() && size > 0 {
            self.buffer.insert(0, b'\n');
        }
        let size = self.journal.take().unwrap_or(size);
        self.disk.append(Place::Status, journal, &self.buffer, MODE)?;
        self.journal = Some(size.saturating_add(self.buffer.len() as u64));
        Ok(())
    }

    fn set_journal_aside(&self) -> io::Result<()> {
        let dated = PathBuf::from(format!("conductor-loop-{}.jsonl", self.clock.wall().compact()));
        let never = crate::disk::Clobber::Never;
        self.disk.rename((Place::Status, Path::new(JOURNAL)), (Place::Status, &dated), never)
    }
}

/// Beginning of the temporary names of replaced status files; eight hex digits follow.
const TEMPORARY: &str = ".tmp-";
/// Beginning of the temporary names of [`crate::disk::RealDisk`].
const NEW: &[u8] = b".new-";

/// Own temporary names only: no archived file begins with a dot, and strangers cannot write here.
fn is_temporary(at: Place, name: &OsStr) -> bool {
    let name = name.as_bytes();
    let replaced = name.strip_prefix(TEMPORARY.as_bytes());
    name.starts_with(NEW) || at == Place::Status && replaced.is_some_and(|id| id.len() == 8 && is_hex(id))
}

/// The id whose file lies in the private place under this name.
fn taken_id(name: &OsStr) -> Option<Id> {
    name.to_str().filter(|name| is_hex(name.as_bytes()))?.parse().ok()
}

fn is_hex(text: &[u8]) -> bool {
    text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests;
