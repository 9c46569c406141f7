//! The lives of the daemon: one row of `boot` for each start, and what they say about its reliability.
//!
//! A life's row is written when the ledger is opened. Every commit moves *last seen* along, at most
//! once in [`SIGHTS`]; the keeper's heartbeat does so in a daemon without work, unflushed. Closing the
//! ledger marks the life as clean. The newest [`LIVES`] are kept, and those last seen within the newest
//! [`REACH`] count.
//!
//! All spans are measured in the ledger's own time (`ledger/age.rs`), so no jump of the wall clock
//! makes one negative or too long. How long the daemon was away over a reboot only the wall clock can
//! tell; if that went back meanwhile, the gap is unknown and counts nowhere.

use std::time::Duration;

use rusqlite::{CachedStatement, Connection, OptionalExtension as _, params};

use super::age::{Moment, Past};
use super::batch::Batch;
use super::fault::{During as _, LedgerFault};
use super::store::Store;
use crate::clock::{Mono, Wall};

/// Lives kept.
const LIVES: u64 = 1_000;
/// How long ago a life that still counts was last seen, at most.
const REACH: Duration = Duration::from_secs(90 * 86_400);
/// The least time between two notes that the daemon lives.
const SIGHTS: Duration = Duration::from_secs(5);

const SELECT: &str = "SELECT no, boot, mono, wall, age, seen, seen_age, clean FROM boot ORDER BY no DESC";
const SEEN: &str = "UPDATE boot SET seen = ?2, seen_age = ?3, clean = ?4 WHERE no = ?1";

/// What the lives on record say; [`Record::default`] says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Record {
    /// From the first start on record until now.
    pub span: Duration,
    /// The part of it in which the daemon ran, up to the last sight of each life.
    pub running: Duration,
    /// Lives that ended without a stop.
    pub crashes: u64,
    /// Those of them after which the time until the next start is known.
    pub repairs: u64,
    /// That time, summed up.
    pub repair: Duration,
}

impl Record {
    /// Share of the span in which the daemon ran, 0 to 1; `None` before any time has passed.
    pub fn availability(&self) -> Option<f64> {
        let ran = || self.running.as_secs_f64() / self.span.as_secs_f64();
        (!self.span.is_zero()).then(|| ran().min(1.0))
    }

    /// Mean time of running between two crashes; `None` without a crash.
    pub fn mtbf(&self) -> Option<Duration> {
        mean(self.running, self.crashes)
    }

    /// Mean time from the last sight before a crash to the next start; `None` if no such time is known.
    pub fn mttr(&self) -> Option<Duration> {
        mean(self.repair, self.repairs)
    }
}

fn mean(sum: Duration, count: u64) -> Option<Duration> {
    (count > 0).then(|| sum.div_f64(count as f64))
}

/// One row of `boot`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Life {
    pub(super) no: u64,
    pub(super) clean: bool,
    boot: Box<str>,
    began: Moment,
    /// Wall time and age of the last sight.
    seen: (Wall, i64),
}

impl Life {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Life> {
        let began = Moment {
            mono: Mono(row.get::<_, i64>(2)?.cast_unsigned()),
            wall: Wall(row.get(3)?),
            age: row.get(4)?,
        };
        Ok(Life {
            no: row.get::<_, i64>(0)?.cast_unsigned(),
            boot: row.get(1)?,
            began,
            seen: (Wall(row.get(5)?), row.get(6)?),
            clean: row.get(7)?,
        })
    }

    /// The newest life on record.
    pub(super) fn last(conn: &Connection) -> rusqlite::Result<Option<Life>> {
        conn.query_row(&format!("{SELECT} LIMIT 1"), [], Life::read).optional()
    }

    /// The clocks it leaves to its successor in boot `boot`.
    pub(super) fn past(&self, conn: &Connection, boot: &str) -> rusqlite::Result<Past> {
        let newest = conn
            .query_row("SELECT accepted, age FROM intent ORDER BY seq DESC LIMIT 1", [], |row| {
                Ok((Wall(row.get(0)?), row.get(1)?))
            })
            .optional()?
            .filter(|(_, age)| *age >= self.seen.1)
            .unwrap_or(self.seen);
        Ok(Past { same_boot: self.is_of(boot), start: self.began, newest })
    }

    fn is_of(&self, boot: &str) -> bool {
        !boot.is_empty() && *self.boot == *boot
    }

    /// From its last sight to the start of `next`; `None` if no clock can tell.
    fn gap(&self, next: &Life) -> Option<Duration> {
        let is_known = self.is_of(&next.boot) || next.began.wall >= self.seen.0;
        is_known.then(|| passed(self.seen.1, next.began.age))
    }
}

/// The life that is going on: its number and its newest sight on record, as an age.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pulse {
    pub(super) no: u64,
    pub(super) seen: i64,
}

impl Pulse {
    fn is_due(self, now: &Moment) -> bool {
        passed(self.seen, now.age) >= SIGHTS
    }
}

impl Batch<'_> {
    /// Records that a life begins with this batch.
    pub(super) fn begin_life(&self, boot: &str) -> Result<(), LedgerFault> {
        let (no, now) = (self.pulse.no, self.now);
        self.run(
            "INSERT INTO boot VALUES (?1, ?2, ?3, ?4, ?5, ?3, ?5, 0)",
            params![no.cast_signed(), boot, now.wall.0, now.mono.0.cast_signed(), now.age],
        )?;
        self.run("DELETE FROM boot WHERE no <= ?1", [no.saturating_sub(LIVES).cast_signed()])
    }

    /// Moves the last sight along if that is due; returns what it will be once the batch is durable.
    pub(super) fn see_life(&self) -> Result<i64, LedgerFault> {
        if !self.pulse.is_due(&self.now) {
            return Ok(self.pulse.seen);
        }
        self.write_sight(false)
    }

    /// Marks the life as ended by a stop.
    pub(super) fn end_life(&mut self) -> Result<(), LedgerFault> {
        self.pulse.seen = self.write_sight(true)?;
        Ok(())
    }

    fn write_sight(&self, clean: bool) -> Result<i64, LedgerFault> {
        let now = self.now;
        self.run(SEEN, params![self.pulse.no.cast_signed(), now.wall.0, now.age, clean])?;
        Ok(now.age)
    }
}

impl Store {
    /// Notes that the daemon lives, and returns what the record says now. Not flushed: a power cut
    /// may take it back.
    ///
    /// # Errors
    /// Any fault; nothing is noted then.
    pub fn heartbeat(&mut self) -> Result<Record, LedgerFault> {
        self.begin_lazily()?.commit()?;
        self.record()
    }

    /// What the record says now.
    ///
    /// # Errors
    /// Any fault.
    pub fn record(&mut self) -> Result<Record, LedgerFault> {
        let now = self.moment().age;
        let select = self.conn.prepare_cached(SELECT);
        select.and_then(lives).map(|lives| weigh(&lives, now)).during("read earlier starts")
    }
}

/// What the record says as of its newest sight, for a command.
pub(super) fn record(conn: &Connection) -> rusqlite::Result<Record> {
    let lives = lives(conn.prepare_cached(SELECT)?)?;
    Ok(lives.first().map_or_else(Record::default, |newest| weigh(&lives, newest.seen.1)))
}

/// All lives, newest first.
fn lives(mut select: CachedStatement<'_>) -> rusqlite::Result<Vec<Life>> {
    select.query_map([], Life::read)?.collect()
}

/// Sums up lives, newest first; the newest goes on at age `now`.
fn weigh(lives: &[Life], now: i64) -> Record {
    let mut record = Record::default();
    let Some(newest) = lives.first() else { return record };
    record.running = passed(newest.began.age, now);
    let mut earliest = newest;
    for life in lives[1..].iter().take_while(|life| passed(life.seen.1, now) <= REACH) {
        record.running += passed(life.began.age, life.seen.1);
        if !life.clean {
            record.crashes += 1;
            if let Some(gap) = life.gap(earliest) {
                record.repairs += 1;
                record.repair += gap;
            }
        }
        earliest = life;
    }
    record.span = passed(earliest.began.age, now);
    record
}

/// From one age to a later one; zero if it is not later.
fn passed(from: i64, to: i64) -> Duration {
    Duration::from_micros(to.saturating_sub(from).max(0).cast_unsigned())
}
