//! Keeping the ledger small: the log, the payloads of closed rows, rows past their time, and a state
//! directory that was lost.
//!
//! The writer runs these steps after every commit and, without work, once an hour. Removals are portions of at most
//! [`PORTION`] rows and are not flushed (a power cut brings the rows back and they are removed again).
//! The log is copied into the database by [`Maintenance`] on its own connection from 4 MiB on, and by
//! the writer between batches from 32 MiB on; a reader that keeps it above 256 MiB is reported.

use std::fs;
use std::path::PathBuf;

use crossbeam::channel::Receiver;
use rusqlite::params;

use super::fault::{During as _, LedgerFault};
use super::schema::{self, Checkpoint};
use super::spool::{self};
use super::store::{self, FILE, Store};
use super::{row, salvage};
use crate::fate::{Fate, Sha};

/// Most rows removed by one step.
pub const PORTION: usize = 500;
/// Bytes of the log not yet in the database at which the maintenance connection copies them.
pub(super) const LOG_COPY: u64 = 4 << 20;
/// Bytes of the log at which the writer copies the rest and begins it anew.
pub(super) const LOG_RESTART: u64 = 32 << 20;
/// Bytes of the log at which whoever pins it is reported.
pub(super) const LOG_PINNED: u64 = 256 << 20;

/// A row that is looked at for removal.
struct Candidate {
    seq: u64,
    name: Box<[u8]>,
    sha: Option<Sha>,
    age: i64,
    end: Option<(u64, Fate)>,
}

/// The write-ahead log in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSize {
    /// All of it.
    pub bytes: u64,
    /// The part that the database does not hold yet.
    pub uncopied: u64,
    /// True if a reader kept the last checkpoint from finishing.
    pub busy: bool,
}

impl LogSize {
    fn of(log: schema::Log) -> Self {
        const PAGE: u64 = 4096;
        LogSize { bytes: log.pages * PAGE, uncopied: (log.pages - log.copied) * PAGE, busy: log.busy }
    }
}

impl Store {
    /// Removes the payloads of at most `limit` closed rows; true if more are waiting.
    ///
    /// # Errors
    /// Any fault; nothing is removed then.
    pub fn sweep(&mut self, limit: usize) -> Result<bool, LedgerFault> {
        let (swept, closed) = (self.memory.marks.swept_no, self.memory.marks.closed_no);
        if swept >= closed {
            return Ok(false);
        }
        let mut batch = self.begin_lazily()?;
        let ends: Vec<(i64, i64)> = batch
            .conn
            .prepare_cached("SELECT no, seq FROM outcome WHERE no > ?1 AND no <= ?2 ORDER BY no LIMIT ?3")
            .and_then(|mut select| {
                let range = params![swept.cast_signed(), closed.cast_signed(), limit as i64];
                select.query_map(range, |found| Ok((found.get(0)?, found.get(1)?)))?.collect()
            })
            .during("find closed payloads")?;
        for seq in ends.iter().map(|(_, seq)| seq.cast_unsigned()) {
            if !batch.memory.unfiled.contains_key(&seq) {
                batch.drop_payload(seq)?;
            }
        }
        let more = ends.len() == limit;
        let through = ends.last().filter(|_| more).map_or(closed, |(no, _)| no.cast_unsigned());
        batch.memory.marks.swept_no = through;
        batch.set_meta("swept_no", through)?;
        batch.commit()?;
        self.rewind();
        Ok(more)
    }

    /// Removes closed rows that are older than `keep_for` or more than `keep_intents`, looking at
    /// `limit` rows; true if more may be waiting. Open and unfiled rows stay, whatever their age.
    ///
    /// # Errors
    /// Any fault; nothing is removed then.
    pub fn prune(&mut self, limit: usize) -> Result<bool, LedgerFault> {
        let (after, keep) = (self.prune_after, self.settings.keep_intents);
        let keep_for = i64::try_from(self.settings.keep_for.as_micros()).unwrap_or(i64::MAX);
        let mut passed_over = self.passed_over;
        if !self.is_prune_due(after, keep_for)? {
            return Ok(false);
        }
        let batch = self.begin_lazily()?;
        let candidates = candidates(&batch, after, limit).during("find old rows")?;
        let (looked, mut last) = (candidates.len(), after);
        for row in candidates {
            let is_due =
                batch.memory.marks.accepted > keep || row.age < batch.now.age.saturating_sub(keep_for);
            if !is_due {
                break;
            }
            last = row.seq;
            let swept = batch.memory.marks.swept_no;
            match row.end.filter(|(no, _)| *no <= swept && !batch.memory.unfiled.contains_key(&row.seq)) {
                Some((no, fate)) => {
                    batch.run("DELETE FROM intent WHERE seq = ?1", [row.seq.cast_signed()])?;
                    batch.run("DELETE FROM outcome WHERE no = ?1", [no.cast_signed()])?;
                    batch.run("DELETE FROM requeue WHERE seq = ?1", [row.seq.cast_signed()])?;
                    batch.run("DELETE FROM attempt WHERE seq = ?1", [row.seq.cast_signed()])?;
                    batch.memory.remove(fate);
                    if let Some(sha) = &row.sha {
                        batch.memory.forget(row.seq, &row.name, sha);
                    }
                }
                None => passed_over = true,
            }
        }
        let marks = batch.memory.marks;
        batch.set_meta("last_seq", marks.next_seq - 1)?;
        batch.set_meta("last_no", marks.next_no - 1)?;
        batch.commit()?;
        self.prune_after = last;
        self.passed_over = passed_over;
        Ok(looked == limit && last > after)
    }

    fn is_prune_due(&mut self, after: u64, keep_for: i64) -> Result<bool, LedgerFault> {
        if self.memory.marks.accepted > self.settings.keep_intents {
            return Ok(true);
        }
        let now = self.moment().age;
        let oldest = self
            .conn
            .prepare_cached("SELECT age FROM intent WHERE seq > ?1 ORDER BY seq LIMIT 1")
            .and_then(|mut select| {
                select.query_map([after.cast_signed()], |found| found.get::<_, i64>(0))?.next().transpose()
            })
            .during("find the oldest row")?;
        Ok(oldest.is_some_and(|age| age < now.saturating_sub(keep_for)))
    }

    /// Rows that were passed over because they were not closed may be closed by now.
    pub(super) fn rewind(&mut self) {
        if std::mem::take(&mut self.passed_over) {
            self.prune_after = 0;
        }
    }

    /// Bytes that the ledger needs on disk, free pages and log not counted.
    ///
    /// # Errors
    /// Any fault.
    pub fn size(&self) -> Result<u64, LedgerFault> {
        let number = |sql: &str| {
            self.conn
                .prepare_cached(sql)?
                .query_row([], |found| found.get::<_, i64>(0))
                .map(i64::cast_unsigned)
        };
        let pages = || {
            let used =
                number("SELECT page_count - freelist_count FROM pragma_page_count, pragma_freelist_count")?;
            Ok(used * number("SELECT page_size FROM pragma_page_size")?)
        };
        Ok(pages().during("measure the ledger")? + self.spool.bytes())
    }

    /// How large the log is.
    ///
    /// # Errors
    /// Any fault.
    pub fn log_size(&self) -> Result<LogSize, LedgerFault> {
        schema::checkpoint(&self.conn, Checkpoint::Noop).map(LogSize::of)
    }

    /// Copies the log into the database and begins it anew, unless a reader is in the way.
    ///
    /// # Errors
    /// Any fault.
    pub fn restart_log(&mut self) -> Result<LogSize, LedgerFault> {
        schema::checkpoint(&self.conn, Checkpoint::Restart).map(LogSize::of)
    }

    /// True if the database is no longer what its path names: the state directory was removed or
    /// replaced (D09).
    pub fn moved(&self) -> bool {
        store::place(&self.settings.path()).ok() != Some(self.place)
    }

    /// Writes the whole ledger to its path again, from the files that are still open, and goes on
    /// there. Whatever lies there by now is set aside. Spooled payloads are lost with the old directory;
    /// their originals are in the folder.
    ///
    /// # Errors
    /// Any fault; the store then goes on with the files that nobody can see.
    pub fn resettle(&mut self) -> Result<(), LedgerFault> {
        let dir = self.settings.dir.clone();
        let path = self.settings.path();
        spool::make_dir(&dir)?;
        self.spool.renew()?;
        if path.exists() {
            salvage::set_aside(&dir, self.clock.wall())?;
        }
        let fresh = salvage::building(&dir);
        salvage::discard(&fresh)?;
        let into = fresh.to_string_lossy();
        self.conn.execute("VACUUM INTO ?1", [&*into]).during("write the ledger anew")?;
        salvage::publish(&dir)?;
        let conn = schema::connect(&path)?;
        schema::settle(&conn, &path)?;
        self.conn = conn;
        self.place = store::place(&path)?;
        Ok(())
    }
}

fn candidates(batch: &super::Batch<'_>, after: u64, limit: usize) -> rusqlite::Result<Vec<Candidate>> {
    let mut select = batch.conn.prepare_cached(
        "SELECT i.seq, i.name, i.sha, i.age, o.no, o.fate FROM intent i LEFT JOIN outcome o ON o.seq = i.seq \
         WHERE i.seq > ?1 ORDER BY i.seq LIMIT ?2",
    )?;
    let read = |found: &rusqlite::Row<'_>| {
        let fate = found.get::<_, Option<u8>>(5)?.and_then(Fate::from_code);
        Ok(Candidate {
            seq: found.get::<_, i64>(0)?.cast_unsigned(),
            name: found.get_ref(1)?.as_blob()?.into(),
            sha: row::sha(found, 2)?,
            age: found.get(3)?,
            end: found.get::<_, Option<i64>>(4)?.map(i64::cast_unsigned).zip(fate),
        })
    };
    select.query_map(params![after.cast_signed(), limit as i64], read)?.collect()
}

/// The maintenance connection: copies the log into the database whenever the writer asks, beside it.
#[derive(Debug)]
pub struct Maintenance {
    path: PathBuf,
    asked: Receiver<()>,
}

impl Maintenance {
    pub(super) fn new(dir: PathBuf, asked: Receiver<()>) -> Self {
        Maintenance { path: dir.join(FILE), asked }
    }

    /// Thread body: ends when the writer is gone. A checkpoint that fails is left to the writer, which
    /// makes its own at 32 MiB and stops if that fails too.
    pub fn run(self) {
        while self.asked.recv().is_ok() {
            let _ = self.copy();
        }
    }

    fn copy(&self) -> Result<(), LedgerFault> {
        if fs::exists(&self.path).unwrap_or(false) {
            // Opened anew each time: the file may be another one by now.
            schema::checkpoint(&schema::connect(&self.path)?, Checkpoint::Passive)?;
        }
        Ok(())
    }
}
