//! Rebuilding the ledger's memory from its tables at start.
//!
//! One pass over the first columns of `intent` and, in step with it, over the index of `outcome`:
//! 1,000,000 rows in well under a second. The pass also proves that both agree (every outcome has its
//! intent, no intent has two, every word is known); anything else is damage.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _};

use super::fault::{During as _, LedgerFault};
use super::memory::{Former, Judgement, Marks, Memory};
use super::{Settings, row};
use crate::fate::{Fate, Sha};

/// Undo notes are dropped after so many rows.
const STRIDE: u64 = 4_096;

/// A number of the table `meta`; 0 if it is not there.
pub(super) fn meta(conn: &Connection, key: &str) -> rusqlite::Result<u64> {
    let found = conn
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([key], |row| row.get::<_, i64>(0))
        .optional()?;
    Ok(found.unwrap_or(0).cast_unsigned())
}

/// Reads everything that is kept in memory.
pub(super) fn rebuild(conn: &Connection, settings: &Settings) -> Result<Memory, LedgerFault> {
    let mut memory = Memory::new(settings.dedup_scope, marks(conn).during("read ledger marks")?);
    read_rows(conn, &mut memory)?;
    read_unfiled(conn, &mut memory).during("read unfiled rows")?;
    memory.keep();
    forget_beyond(conn, &mut memory, settings.dedup_keys)?;
    Ok(memory)
}

fn marks(conn: &Connection) -> rusqlite::Result<Marks> {
    let last = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned);
    Ok(Marks {
        next_seq: 1 + last("SELECT coalesce(max(seq), 0) FROM intent")?.max(meta(conn, "last_seq")?),
        next_no: 1 + last("SELECT coalesce(max(no), 0) FROM outcome")?.max(meta(conn, "last_no")?),
        closed_no: meta(conn, "closed_no")?,
        swept_no: meta(conn, "swept_no")?,
        floor: meta(conn, "clock_floor")?,
        ..Marks::default()
    })
}

fn read_rows(conn: &Connection, memory: &mut Memory) -> Result<(), LedgerFault> {
    const ACT: &str = "read ledger rows";
    let mut intents = conn
        .prepare(
            "SELECT seq, judged, name, sha, former, namespace, kind, target, ctime FROM intent ORDER BY seq",
        )
        .during(ACT)?;
    let mut outcomes =
        conn.prepare("SELECT seq, fate FROM outcome INDEXED BY outcome_seq ORDER BY seq").during(ACT)?;
    let mut intents = intents.query([]).during(ACT)?;
    let mut outcomes = outcomes.query([]).during(ACT)?;
    let mut ended = next_outcome(&mut outcomes).during(ACT)?;
    while let Some(found) = intents.next().during(ACT)? {
        let seq = found.get::<_, i64>(0).during(ACT)?.cast_unsigned();
        memory.marks.accepted += 1;
        match ended {
            Some((of, fate)) if of == seq => {
                memory.marks.fates[usize::from(fate.code())] += 1;
                ended = next_outcome(&mut outcomes).during(ACT)?;
            }
            _ => _ = memory.open.insert(seq, sighted_age(conn, seq).during(ACT)?),
        }
        if let Some((of, _)) = ended.filter(|(of, _)| *of <= seq) {
            return Err(LedgerFault::Damaged { what: format!("a second or stray outcome of row {of}") });
        }
        learn(found, seq, memory).during(ACT)?;
        if memory.marks.accepted.is_multiple_of(STRIDE) {
            memory.keep();
        }
    }
    match ended {
        Some((of, _)) => {
            Err(LedgerFault::Damaged { what: format!("an outcome of row {of}, which is missing") })
        }
        None => Ok(()),
    }
}

/// When a pending row was sighted, as an age.
fn sighted_age(conn: &Connection, seq: u64) -> rusqlite::Result<i64> {
    conn.prepare_cached("SELECT age - waited FROM intent WHERE seq = ?1")?
        .query_row([seq.cast_signed()], |found| found.get(0))
}

fn next_outcome(rows: &mut rusqlite::Rows<'_>) -> rusqlite::Result<Option<(u64, Fate)>> {
    let Some(found) = rows.next()? else { return Ok(None) };
    let code: u8 = found.get(1)?;
    let fate = Fate::from_code(code).ok_or(rusqlite::Error::IntegralValueOutOfRange(1, i64::from(code)))?;
    Ok(Some((found.get::<_, i64>(0)?.cast_unsigned(), fate)))
}

/// Takes one row of the pass into the index and the targets.
fn learn(found: &rusqlite::Row<'_>, seq: u64, memory: &mut Memory) -> rusqlite::Result<()> {
    let code: u8 = found.get(1)?;
    let judgement =
        Judgement::from_code(code).ok_or(rusqlite::Error::IntegralValueOutOfRange(1, i64::from(code)))?;
    if !judgement.is_valid() {
        return Ok(());
    }
    if let Some(sha) = row::sha(found, 3)? {
        let former = match found.get_ref(4)? {
            ValueRef::Null => Former::Same,
            ValueRef::Blob([]) => Former::Several,
            blob => Former::Only(Sha(blob.as_blob()?.try_into().map_err(|_| {
                rusqlite::Error::InvalidColumnType(4, "former".into(), rusqlite::types::Type::Blob)
            })?)),
        };
        memory.learn(seq, found.get_ref(2)?.as_blob()?, &sha, former);
    }
    if seq >= memory.marks.floor
        && let Some(namespace) = found.get_ref(5)?.as_bytes_or_null()?
    {
        let key = memory.target_key(namespace, found.get(6)?, found.get_ref(7)?.as_bytes()?);
        memory.note_ctime(key, found.get(8)?, seq);
    }
    Ok(())
}

fn read_unfiled(conn: &Connection, memory: &mut Memory) -> rusqlite::Result<()> {
    let mut select =
        conn.prepare("SELECT u.seq, iif(i.ino = 0, x'', i.name) FROM unfiled u JOIN intent i ON i.seq = u.seq ORDER BY u.seq")?;
    let mut rows = select.query([])?;
    while let Some(found) = rows.next()? {
        let name = memory.name_key(found.get_ref(1)?.as_blob()?);
        memory.set_unfiled(found.get::<_, i64>(0)?.cast_unsigned(), Some(name));
    }
    Ok(())
}

/// Forgets the oldest rows of the index while it is above its limit, a portion at once so that it is
/// not done for every row.
pub(super) fn forget_beyond(conn: &Connection, memory: &mut Memory, limit: u64) -> Result<(), LedgerFault> {
    if memory.index.len() as u64 <= limit {
        return Ok(());
    }
    let goal = limit - (limit / 64).min(1_024);
    let scan = |memory: &mut Memory| {
        let mut select =
            conn.prepare_cached("SELECT seq, name, sha FROM intent WHERE seq > ?1 ORDER BY seq")?;
        let mut rows = select.query([memory.forgotten.cast_signed()])?;
        while memory.index.len() as u64 > goal {
            let Some(found) = rows.next()? else { break };
            memory.forgotten = found.get::<_, i64>(0)?.cast_unsigned();
            if let Some(sha) = row::sha(found, 2)? {
                memory.forget(memory.forgotten, found.get_ref(1)?.as_blob()?, &sha);
            }
        }
        Ok(())
    };
    scan(memory).during("forget the oldest intents")?;
    memory.keep();
    Ok(())
}
