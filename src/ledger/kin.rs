//! What one intent has to do with others, and how far its filing is: for commands and for requests.
//!
//! Finding a row by its id alone looks at every row (about 0.2 s a million); with the number where the row
//! is expected it costs one look.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension as _, params};

use super::fault::{During as _, LedgerFault};
use super::{Reader, Row, row};
use crate::clock::Wall;
use crate::fate::{Id, Reason};

/// How far the filing of a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filing {
    /// It has not ended, or was not worked through yet.
    Open,
    /// Its file could not be moved, or its status not written.
    Unfiled {
        /// What stands in the way.
        reason: Option<Reason>,
        /// Since when.
        since: Wall,
    },
    /// Status and archive are durable.
    Closed,
}

impl Reader {
    /// The row with this id; `at` is the number where it is expected.
    ///
    /// # Errors
    /// Any fault.
    pub fn row(&self, id: Id, at: Option<u64>) -> Result<Option<Row>, LedgerFault> {
        let expected = match at {
            Some(seq) => {
                self.rows("i.seq = ?1 AND i.id = ?2", &[seq.cast_signed(), id.0.cast_signed()])?.pop()
            }
            None => None,
        };
        match expected {
            Some(row) => Ok(Some(row)),
            None => Ok(self.rows("i.id = ?1", &[id.0.cast_signed()])?.pop()),
        }
    }

    /// The newest intent that tried this one again.
    ///
    /// # Errors
    /// Any fault.
    pub fn requeued_as(&self, id: Id) -> Result<Option<Id>, LedgerFault> {
        self.repeat_where("origin", id.0)
    }

    /// The intent that this request made, or the pending one that it let go on.
    ///
    /// # Errors
    /// Any fault.
    pub fn made_by(&self, request: u64) -> Result<Option<Id>, LedgerFault> {
        if let Some(made) = self.repeat_where("request", request)? {
            return Ok(Some(made));
        }
        self.newest("SELECT i.id FROM attempt a JOIN intent i ON i.seq = a.seq WHERE a.request = ?1", request)
    }

    fn repeat_where(&self, column: &str, value: u64) -> Result<Option<Id>, LedgerFault> {
        let sql = format!("SELECT i.id FROM requeue q JOIN intent i ON i.seq = q.seq WHERE q.{column} = ?1");
        self.newest(&sql, value)
    }

    fn newest(&self, select: &str, value: u64) -> Result<Option<Id>, LedgerFault> {
        let sql = format!("{select} ORDER BY i.seq DESC LIMIT 1");
        let found = self.conn.prepare_cached(&sql).and_then(|mut select| {
            select.query_row([value.cast_signed()], |found| found.get::<_, i64>(0)).optional()
        });
        Ok(found.during("look up a request")?.map(|id| Id(id.cast_unsigned())))
    }

    /// The intents that name this one, oldest first: its duplicates, those that it superseded, and those that
    /// try it again. Looks at every outcome.
    ///
    /// # Errors
    /// Any fault.
    pub fn followers(&self, id: Id) -> Result<Vec<Row>, LedgerFault> {
        let value = [id.0.cast_signed()];
        let both =
            self.rows("o.related = ?1", &value)?.into_iter().chain(self.rows("q.origin = ?1", &value)?);
        Ok(both.map(|row| (row.seq, row)).collect::<BTreeMap<_, _>>().into_values().collect())
    }

    /// How far the filing of an ended row is.
    ///
    /// # Errors
    /// Any fault.
    pub fn filing(&self, row: &Row) -> Result<Filing, LedgerFault> {
        let Some(end) = &row.end else { return Ok(Filing::Open) };
        let find = || {
            let unfiled = self
                .conn
                .prepare_cached("SELECT reason, since FROM unfiled WHERE seq = ?1")?
                .query_row(params![row.seq.cast_signed()], |found| {
                    let reason = Reason::from_code(found.get(0)?);
                    Ok(Filing::Unfiled { reason, since: Wall(found.get(1)?) })
                })
                .optional()?;
            let closed = super::recall::meta(&self.conn, "closed_no")?;
            Ok(unfiled.unwrap_or(if end.no <= closed { Filing::Closed } else { Filing::Open }))
        };
        find().during("look up the filing of an intent")
    }

    fn rows(&self, condition: &str, values: &[i64]) -> Result<Vec<Row>, LedgerFault> {
        let sql = format!("{} WHERE {condition} ORDER BY i.seq", row::SELECT);
        let read = || {
            let mut select = self.conn.prepare_cached(&sql)?;
            let rows = select.query_map(rusqlite::params_from_iter(values), row::read)?;
            rows.collect::<Result<Vec<_>, _>>()
        };
        read().during("read ledger rows")
    }
}
