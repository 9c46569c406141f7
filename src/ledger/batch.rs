//! One transaction: accepting, ending and closing rows, all durable together or not at all.
//!
//! Order of writes: spool files (flushed), rows, spool directory (flushed), commit (flushed). A batch
//! that is dropped is taken back, in the database and in memory.

use std::time::Duration;

use rusqlite::{CachedStatement, Connection, OptionalExtension as _, params};

use super::age::{AgeClock, Moment};
use super::fault::{During as _, LedgerFault};
use super::judge::{Decision, PRIOR};
use super::life::Pulse;
use super::memory::{Former, Judgement, Memory};
use super::spool::{INLINE_LIMIT, Spool};
use super::{End, EndRecord, Entry, Judged, Row, Settings, recall, row};
use crate::fate::{Id, Reason};

const INTENT: &str = "INSERT INTO intent VALUES \
     (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20,?21,?22,?23)";
const PAYLOAD: &str = "INSERT INTO payload VALUES (?1,?2)";
const OUTCOME: &str = "INSERT INTO outcome VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15)";

/// A transaction on the ledger. Dropping it takes everything back.
pub struct Batch<'s> {
    pub(super) conn: &'s Connection,
    pub(super) memory: &'s mut Memory,
    pub(super) spool: &'s mut Spool,
    time: &'s mut AgeClock,
    pub(super) pulse: &'s mut Pulse,
    pub(super) settings: &'s Settings,
    store: [u8; 16],
    /// The moment this batch gives its rows.
    pub(super) now: Moment,
    pub(super) statements: Statements<'s>,
    spooled: Vec<u64>,
    lazy: bool,
    open: bool,
}

/// The parts of a store that a batch works on.
pub(super) struct Parts<'s> {
    pub(super) conn: &'s Connection,
    pub(super) memory: &'s mut Memory,
    pub(super) spool: &'s mut Spool,
    pub(super) time: &'s mut AgeClock,
    pub(super) pulse: &'s mut Pulse,
    pub(super) settings: &'s Settings,
    pub(super) store: [u8; 16],
}

pub(super) struct Statements<'s> {
    intent: CachedStatement<'s>,
    payload: CachedStatement<'s>,
    outcome: CachedStatement<'s>,
    pub(super) prior: CachedStatement<'s>,
}

impl<'s> Batch<'s> {
    /// Begins a transaction; a lazy one is not flushed when it commits (but orders before any later
    /// one), for changes that may be lost.
    pub(super) fn begin(parts: Parts<'s>, now: Moment, lazy: bool) -> Result<Self, LedgerFault> {
        let Parts { conn, memory, spool, time, pulse, settings, store } = parts;
        let start = || {
            if lazy {
                conn.execute_batch("PRAGMA synchronous = NORMAL")?;
            }
            conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            Ok(Statements {
                intent: conn.prepare_cached(INTENT)?,
                payload: conn.prepare_cached(PAYLOAD)?,
                outcome: conn.prepare_cached(OUTCOME)?,
                prior: conn.prepare_cached(PRIOR)?,
            })
        };
        let statements = start().during("begin ledger batch").map_err(|fault| spool.explain(fault))?;
        let spooled = Vec::new();
        let batch = Batch {
            conn,
            memory,
            spool,
            time,
            pulse,
            settings,
            store,
            now,
            statements,
            spooled,
            lazy,
            open: true,
        };
        if batch.time.went_back {
            batch.memory.doubt_ctimes();
            batch.set_meta("clock_floor", batch.memory.marks.floor)?;
        }
        Ok(batch)
    }

    /// Judges a file and gives it a row. Acceptance order is the order of these calls.
    ///
    /// # Errors
    /// Any fault; the batch must then be dropped.
    pub fn accept(&mut self, entry: &Entry) -> Result<Judged, LedgerFault> {
        let decision = self.judge(entry)?;
        if let Decision::Known(seq) = decision {
            return self.load(seq).map(Judged::Known);
        }
        let seq = self.memory.accept();
        let mut row = self.row_of(seq, entry);
        let (judgement, former) = match &decision {
            Decision::Open { generation, former } | Decision::Older { generation, former, .. } => {
                row.generation = *generation;
                let older = matches!(decision, Decision::Older { .. });
                (if older { Judgement::Older } else { Judgement::Open }, *former)
            }
            Decision::Duplicate(prior) => {
                row.generation = prior.generation;
                (Judgement::Duplicate, Former::Same)
            }
            _ => (Judgement::Verdict, Former::Same),
        };
        let waited = self.now.mono.since(entry.sighted);
        self.insert(&row, judgement, former, waited)?;
        if let Some(repeat) = &entry.repeat {
            self.note_repeat(seq, repeat)?;
        }
        if judgement != Judgement::Duplicate {
            self.keep_payload(seq, entry)?;
        }
        if judgement.is_valid() {
            if let Some(sha) = &row.sha {
                self.memory.learn(seq, &row.name, sha, former);
            }
            if let Some(target) = &row.target {
                self.memory.note_target(target, row.identity.ctime_ns, seq);
            }
        }
        let Some(record) = decision.record(entry) else {
            self.memory.wait(seq, self.now.age - micros(waited));
            return Ok(Judged::Open(row));
        };
        row.end = Some(self.write_end(seq, &record, waited)?);
        Ok(Judged::Ended(row))
    }

    /// Ends a pending row. A row that ended before keeps its first end, which is returned.
    ///
    /// # Errors
    /// [`LedgerFault::Unknown`] for a row that was never accepted; any other fault. The batch must
    /// then be dropped.
    pub fn end(&mut self, seq: u64, record: &EndRecord) -> Result<End, LedgerFault> {
        match self.memory.end(seq) {
            Some(sighted) => {
                let passed = (self.now.age - sighted).max(0).cast_unsigned();
                self.write_end(seq, record, Duration::from_micros(passed))
            }
            None => self.load(seq)?.end.ok_or(LedgerFault::Unknown { seq }),
        }
    }

    /// Closes every end up to `no`: their effects, status files and moves are durable. Their payloads
    /// may go.
    ///
    /// # Errors
    /// Any fault; the batch must then be dropped.
    pub fn close_through(&mut self, no: u64) -> Result<(), LedgerFault> {
        let no = no.min(self.memory.marks.next_no.saturating_sub(1));
        if no > self.memory.marks.closed_no {
            self.memory.marks.closed_no = no;
            self.set_meta("closed_no", no)?;
        }
        Ok(())
    }

    /// Excepts an ended row from closing: its original could not be moved, or its status not written.
    ///
    /// # Errors
    /// Any fault; the batch must then be dropped.
    pub fn unfiled(&mut self, seq: u64, reason: Reason) -> Result<(), LedgerFault> {
        let Some(prior) = self.prior(seq)? else { return Err(LedgerFault::Unknown { seq }) };
        let name = self.memory.name_key(prior.name_in_folder());
        self.memory.set_unfiled(seq, Some(name));
        self.run(
            "INSERT INTO unfiled VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET reason = excluded.reason",
            params![seq.cast_signed(), reason.code(), self.now.wall.0],
        )
    }

    /// Takes that exception back: the row is filed now.
    ///
    /// # Errors
    /// Any fault; the batch must then be dropped.
    pub fn filed(&mut self, seq: u64) -> Result<(), LedgerFault> {
        self.memory.set_unfiled(seq, None);
        self.run("DELETE FROM unfiled WHERE seq = ?1", [seq.cast_signed()])?;
        // Rows above the mark are swept in their turn.
        if self.outcome_of(seq)?.is_some_and(|(no, _)| no <= self.memory.marks.swept_no) {
            self.drop_payload(seq)?;
        }
        Ok(())
    }

    /// Forgets all suspects of the poison guard.
    ///
    /// # Errors
    /// Any fault; the batch must then be dropped.
    pub fn clear_suspects(&mut self) -> Result<(), LedgerFault> {
        self.run("DELETE FROM suspect", [])
    }

    /// Removes the bytes of a closed row.
    pub(super) fn drop_payload(&mut self, seq: u64) -> Result<(), LedgerFault> {
        let spooled = self
            .conn
            .prepare_cached("DELETE FROM payload WHERE seq = ?1 RETURNING bytes IS NULL")
            .and_then(|mut delete| delete.query_row([seq.cast_signed()], |row| row.get(0)).optional())
            .during("remove a payload")?;
        if spooled == Some(true) {
            self.spool.remove(seq)?;
        }
        Ok(())
    }

    /// Makes the batch durable.
    ///
    /// # Errors
    /// Any fault; then nothing of the batch counts.
    pub fn commit(mut self) -> Result<(), LedgerFault> {
        if !self.spooled.is_empty() {
            self.spool.flush()?;
        }
        let seen = self.see_life()?;
        let commit = self.conn.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([]));
        commit.during("commit to the ledger").map_err(|fault| self.spool.explain(fault))?;
        self.open = false;
        self.pulse.seen = seen;
        self.memory.keep();
        // What a lazy batch wrote about it may still be lost.
        self.time.went_back &= self.lazy;
        recall::forget_beyond(self.conn, self.memory, self.settings.dedup_keys)
    }

    /// Runs one statement.
    pub(super) fn run(&self, sql: &str, params: impl rusqlite::Params) -> Result<(), LedgerFault> {
        let run = self.conn.prepare_cached(sql).and_then(|mut statement| statement.execute(params));
        run.map(|_| ()).during("write to the ledger").map_err(|fault| self.spool.explain(fault))
    }

    /// Sets a number of the table `meta`.
    pub(super) fn set_meta(&self, key: &str, value: u64) -> Result<(), LedgerFault> {
        self.run("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", params![key, value.cast_signed()])
    }
}

/// Writing.
impl Batch<'_> {
    fn row_of(&self, seq: u64, entry: &Entry) -> Row {
        Row {
            seq,
            id: Id::derive(&self.store, seq),
            name: entry.name.clone(),
            source: entry.source,
            identity: entry.identity,
            proof: entry.proof,
            sha: entry.sha,
            generation: 0,
            target: entry.target.clone(),
            priority: entry.priority,
            valid_until: entry.valid_until,
            accepted_at: self.now.wall,
            worker: entry.worker,
            requeue_of: entry.repeat.map(|repeat| repeat.of),
            end: None,
        }
    }

    fn insert(
        &mut self,
        row: &Row,
        judgement: Judgement,
        former: Former,
        waited: Duration,
    ) -> Result<(), LedgerFault> {
        let former: Option<&[u8]> = match &former {
            Former::Same => None,
            Former::Only(sha) => Some(&sha.0),
            Former::Several => Some(&[]),
        };
        let written = self.statements.intent.execute(params![
            row.seq.cast_signed(),
            judgement as u8,
            &*row.name,
            row.sha.as_ref().map(|sha| &sha.0[..]),
            former,
            row.target.as_ref().map(|target| &*target.namespace),
            row.target.as_ref().map(|target| row::kind_code(target.kind)),
            row.target.as_ref().map(|target| &*target.name),
            row.identity.ctime_ns,
            self.now.age,
            micros(waited),
            row.accepted_at.0,
            row.id.0.cast_signed(),
            row.generation,
            row.source.code(),
            row.proof.map(|proof| proof.code()),
            row.identity.dev.cast_signed(),
            row.identity.ino.cast_signed(),
            row.identity.size.cast_signed(),
            row.identity.mtime_ns,
            row.priority,
            row.valid_until.map(|at| at.0),
            row.worker,
        ]);
        written.map(|_| ()).during("write intent").map_err(|fault| self.spool.explain(fault))
    }

    fn keep_payload(&mut self, seq: u64, entry: &Entry) -> Result<(), LedgerFault> {
        let Some(bytes) = entry.payload.as_deref() else { return Ok(()) };
        let inline = (bytes.len() <= INLINE_LIMIT).then_some(bytes);
        if inline.is_none() {
            self.spooled.push(seq);
            self.spool.write(seq, bytes)?;
        }
        let written = self.statements.payload.execute(params![seq.cast_signed(), inline]);
        written.map(|_| ()).during("write payload").map_err(|fault| self.spool.explain(fault))
    }

    fn write_end(&mut self, seq: u64, record: &EndRecord, duration: Duration) -> Result<End, LedgerFault> {
        let end = record.clone().at(self.memory.finish(record.fate), self.now.wall, duration);
        let remote = end.remote.as_ref();
        let written = self.statements.outcome.execute(params![
            end.no.cast_signed(),
            seq.cast_signed(),
            end.fate.code(),
            end.reason.map(Reason::code),
            end.message,
            row::errors_text(&end.errors),
            end.sink.map(|sink| sink.code()),
            remote.map(|remote| &remote.name),
            remote.map(|remote| &remote.revision),
            remote.map(|remote| remote.lifecycle.code()),
            remote.map(|remote| remote.adopted),
            end.attempts,
            end.related.map(|id| id.0.cast_signed()),
            end.finished_at.0,
            micros(end.duration),
        ]);
        written.during("write outcome").map_err(|fault| self.spool.explain(fault))?;
        Ok(end)
    }

    fn load(&self, seq: u64) -> Result<Row, LedgerFault> {
        let sql = format!("{} WHERE i.seq = ?1", row::SELECT);
        let found = self
            .conn
            .prepare_cached(&sql)
            .and_then(|mut select| select.query_row([seq.cast_signed()], row::read).optional());
        found.during("read a ledger row")?.ok_or(LedgerFault::Unknown { seq })
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if self.open {
            if !self.conn.is_autocommit() {
                // If it fails the connection is beyond use and the next statement says so.
                let _ = self.conn.execute_batch("ROLLBACK");
            }
            self.memory.take_back();
            for seq in self.spooled.drain(..) {
                let _ = self.spool.remove(seq);
            }
        }
        if self.lazy {
            let _ = self.conn.execute_batch("PRAGMA synchronous = FULL");
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
