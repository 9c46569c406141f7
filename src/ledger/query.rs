//! What recovery and settling ask the store.

use std::collections::HashSet;
use std::ops::Bound;

use rusqlite::{OptionalExtension as _, params};

use super::fault::{During as _, LedgerFault};
use super::store::Store;
use super::{Row, row};
use crate::disk::Identity;
use crate::fate::{Id, Lifecycle, Receipt, Sha, SinkKind};

/// Ends among which receipts that are still open are looked for.
const LOOKED_THROUGH: u64 = 100_000;
/// Objects, and rows, of which they are given.
const OPEN_OBJECTS: usize = 1_000;
const OPEN_ROWS: usize = 10_000;

impl Store {
    /// Pending rows after row `after`, oldest first, at most `limit`.
    ///
    /// # Errors
    /// Any fault.
    pub fn pending(&self, after: u64, limit: usize) -> Result<Vec<Row>, LedgerFault> {
        let later = (Bound::Excluded(after), Bound::Unbounded);
        self.memory.open.range(later).take(limit).map(|(seq, _)| self.row(*seq)).collect()
    }

    /// The oldest pending row.
    ///
    /// # Errors
    /// Any fault.
    pub fn oldest_pending(&self) -> Result<Option<Row>, LedgerFault> {
        Ok(self.pending(0, 1)?.pop())
    }

    /// One row.
    ///
    /// # Errors
    /// [`LedgerFault::Unknown`] if there is none; any other fault.
    pub fn row(&self, seq: u64) -> Result<Row, LedgerFault> {
        self.rows("WHERE i.seq = ?1", [seq.cast_signed()])?.pop().ok_or(LedgerFault::Unknown { seq })
    }

    fn rows(&self, condition: &str, params: impl rusqlite::Params) -> Result<Vec<Row>, LedgerFault> {
        let read = || -> rusqlite::Result<Vec<Row>> {
            let mut select = self.conn.prepare_cached(&format!("{} {condition}", row::SELECT))?;
            select.query_map(params, row::read)?.collect()
        };
        read().during("read ledger rows")
    }

    /// The bytes of a row that is not closed; `None` if they were not kept or are gone.
    ///
    /// # Errors
    /// [`LedgerFault::Payload`] if they are not the accepted ones; any other fault.
    pub fn payload(&self, seq: u64) -> Result<Option<Vec<u8>>, LedgerFault> {
        let found: Option<(Option<Vec<u8>>, Option<Sha>)> = self
            .conn
            .prepare_cached(
                "SELECT p.bytes, i.sha FROM payload p JOIN intent i ON i.seq = p.seq WHERE p.seq = ?1",
            )
            .and_then(|mut select| {
                select
                    .query_row([seq.cast_signed()], |found| Ok((found.get(0)?, row::sha(found, 1)?)))
                    .optional()
            })
            .during("read a payload")?;
        let Some((inline, sha)) = found else { return Ok(None) };
        let bytes = match inline {
            Some(bytes) => Some(bytes),
            None => self.spool.read(seq)?,
        };
        match (&bytes, sha) {
            (Some(bytes), Some(sha)) if Sha::of(bytes) != sha => Err(LedgerFault::Payload { seq }),
            _ => Ok(bytes),
        }
    }

    /// Rows that ended and are not closed (those that could not be filed included), in order of their
    /// ends, after end `after_no`, at most `limit`.
    ///
    /// # Errors
    /// Any fault.
    pub fn unclosed(&self, after_no: u64, limit: usize) -> Result<Vec<Row>, LedgerFault> {
        let closed = self.memory.marks.closed_no;
        let no_of = |row: &Row| row.end.as_ref().map_or(0, |end| end.no);
        let mut rows = Vec::new();
        for &seq in self.memory.unfiled.keys() {
            let row = self.row(seq)?;
            if (after_no + 1..=closed).contains(&no_of(&row)) {
                rows.push(row);
            }
        }
        rows.sort_by_key(no_of);
        rows.truncate(limit);
        let left = i64::try_from(limit - rows.len()).unwrap_or(i64::MAX);
        let later = after_no.max(closed).cast_signed();
        rows.extend(self.rows("WHERE o.no > ?1 ORDER BY o.no LIMIT ?2", params![later, left])?);
        Ok(rows)
    }

    /// What `sink` holds of delivered rows and somebody else may still move (drafts and proposals as they were
    /// when delivered), oldest end first: row, id and receipt. Only the newest 100,000 ends are looked
    /// through, and no more is given than 10,000 rows of the newest 1,000 objects.
    ///
    /// # Errors
    /// Any fault.
    pub fn open_receipts(&self, sink: SinkKind) -> Result<Vec<(u64, Id, Receipt)>, LedgerFault> {
        let sql = format!(
            "SELECT i.seq, i.id, o.remote, o.revision, o.lifecycle, o.adopted \
             FROM outcome o JOIN intent i ON i.seq = o.seq \
             WHERE o.no > ?1 AND o.sink = ?2 AND o.lifecycle IN ({}, {}) AND o.remote IS NOT NULL \
             ORDER BY o.no DESC LIMIT {OPEN_ROWS}",
            Lifecycle::Draft.code(),
            Lifecycle::Proposed.code()
        );
        let after = self.newest_end().saturating_sub(LOOKED_THROUGH);
        let mut objects = HashSet::new();
        let mut open = Vec::new();
        let mut read = || -> rusqlite::Result<()> {
            let mut select = self.conn.prepare(&sql)?;
            let mut rows = select.query(params![after.cast_signed(), sink.code()])?;
            while let Some(found) = rows.next()? {
                let Some(receipt) = row::receipt(found, 2)? else { continue };
                if objects.len() == OPEN_OBJECTS && !objects.contains(&receipt.name) {
                    continue;
                }
                objects.insert(receipt.name.clone());
                let number = |at| found.get::<_, i64>(at).map(i64::cast_unsigned);
                open.push((number(0)?, Id(number(1)?), receipt));
            }
            Ok(())
        };
        read().during("read what the sink still holds open")?;
        open.reverse();
        Ok(open)
    }

    /// Notes that a worker held this file when the last life of the daemon ended, and returns in how
    /// many lives in a row that was so (poison guard, H06).
    ///
    /// # Errors
    /// Any fault.
    pub fn suspect(&mut self, name: &[u8], identity: &Identity) -> Result<u32, LedgerFault> {
        let start = self.opened().start.cast_signed();
        let numbers = [identity.dev, identity.ino, identity.size, identity.mtime_ns.cast_unsigned()];
        let mut key = name.to_vec();
        key.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
        let batch = self.begin()?;
        batch.run(
            "INSERT INTO suspect VALUES (?1, 1, ?2) ON CONFLICT DO UPDATE SET \
             starts = iif(last = ?2 - 1, starts + 1, iif(last = ?2, starts, 1)), last = ?2",
            params![key, start],
        )?;
        let starts =
            batch.conn.query_row("SELECT starts FROM suspect WHERE key = ?1", [key], |row| row.get(0));
        let starts = starts.during("count a suspect")?;
        batch.commit()?;
        Ok(starts)
    }

    /// Forgets all suspects: the daemon has lived long enough.
    ///
    /// # Errors
    /// Any fault.
    pub fn clear_suspects(&mut self) -> Result<(), LedgerFault> {
        let mut batch = self.begin()?;
        batch.clear_suspects()?;
        batch.commit()
    }
}
