//! Attempts at a sink that cannot be asked what it holds (`reliability.md` 3, S4).
//!
//! The table `attempt` has a row for each intent that was ever handed to such a sink. It is durable
//! before the attempt begins, so that after a crash an intent without such a row was certainly not
//! sent. `open` says that the attempt may have had its effect: it runs, or nobody saw how it ended.
//! `doubtful` says that a later one began while that was so; the delivery may be the second.
//! `permitted` says that the operator wants one more attempt in spite of that, `request` by which wish
//! ([`Reader::made_by`]); the permission ends when an attempt begins.
//!
//! Sinks that can be asked write nothing here. Rows leave with their intent.

use rusqlite::{OptionalExtension as _, params};

use super::batch::Batch;
use super::fault::{During as _, LedgerFault};
use super::reader::Reader;
use super::store::Store;

/// An attempt that is about to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning {
    /// Of this row.
    pub seq: u64,
    /// An earlier one may have had its effect.
    pub doubtful: bool,
}

/// What is known of the attempts of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempts {
    /// The row.
    pub seq: u64,
    /// How many were made, by whatever process.
    pub begun: u32,
    /// One of them may have had its effect.
    pub doubtful: bool,
    /// One more may be made in spite of that.
    pub permitted: bool,
    /// The last request that permitted one.
    pub request: Option<u64>,
}

impl Batch<'_> {
    /// Notes that an attempt begins.
    ///
    /// # Errors
    /// Any fault; the batch must then be dropped.
    pub fn begin_attempt(&mut self, beginning: &Beginning) -> Result<(), LedgerFault> {
        self.run(
            "INSERT INTO attempt VALUES (?1, 1, 1, ?2, 0, NULL) ON CONFLICT DO UPDATE SET \
             begun = begun + 1, open = 1, doubtful = max(doubtful, excluded.doubtful), permitted = 0",
            params![beginning.seq.cast_signed(), beginning.doubtful],
        )
    }

    /// Notes that the attempt had no effect; with `counts` false it was not even made.
    ///
    /// # Errors
    /// Any fault; the batch must then be dropped.
    pub fn without_effect(&mut self, seq: u64, counts: bool) -> Result<(), LedgerFault> {
        self.run(
            "UPDATE attempt SET open = 0, begun = begun - ?2 WHERE seq = ?1",
            params![seq.cast_signed(), !counts],
        )
    }

    /// Notes that the operator wants one more attempt, by this request.
    ///
    /// # Errors
    /// Any fault; the batch must then be dropped.
    pub fn permit(&mut self, seq: u64, request: u64) -> Result<(), LedgerFault> {
        self.run(
            "UPDATE attempt SET doubtful = 1, permitted = 1, request = ?2 WHERE seq = ?1",
            params![seq.cast_signed(), request.cast_signed()],
        )
    }
}

const SELECT: &str = "SELECT seq, begun, open OR doubtful, permitted, request FROM attempt a";

fn read(found: &rusqlite::Row<'_>) -> rusqlite::Result<Attempts> {
    let seq = found.get::<_, i64>(0)?.cast_unsigned();
    Ok(Attempts {
        seq,
        begun: found.get(1)?,
        doubtful: found.get(2)?,
        permitted: found.get(3)?,
        request: found.get::<_, Option<i64>>(4)?.map(i64::cast_unsigned),
    })
}

impl Reader {
    /// The attempts of a row at a sink that cannot be asked; `None` if there was none.
    ///
    /// # Errors
    /// Any fault.
    pub fn attempts(&self, seq: u64) -> Result<Option<Attempts>, LedgerFault> {
        let found = self
            .conn
            .prepare_cached(&format!("{SELECT} WHERE seq = ?1"))
            .and_then(|mut select| select.query_row([seq.cast_signed()], read).optional());
        found.during("read attempts")
    }
}

impl Store {
    /// The attempts of all pending rows that have any.
    ///
    /// # Errors
    /// Any fault.
    pub fn attempts(&self) -> Result<Vec<Attempts>, LedgerFault> {
        let pending = "WHERE NOT EXISTS (SELECT 1 FROM outcome o WHERE o.seq = a.seq)";
        let all = || -> rusqlite::Result<Vec<Attempts>> {
            self.conn.prepare_cached(&format!("{SELECT} {pending}"))?.query_map([], read)?.collect()
        };
        all().during("read attempts")
    }
}
