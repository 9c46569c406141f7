//! A damaged ledger: set aside whole, and every readable row carried over into a new one (D08).
//!
//! 1. `ledger.db` and its log are copied to `quarantine/<when>/` and flushed; nothing there is ever
//!    touched again.
//! 2. Rows are copied into `ledger.db.building`, range by range around what cannot be read; rows whose
//!    parts no longer fit together are left out and counted.
//! 3. It is flushed and renamed to `ledger.db.built`: from here on a start finishes the work.
//! 4. The old log is removed (it must never be replayed into the new file), then the old database is
//!    replaced by one rename.
//!
//! An intent whose outcome was lost stays pending if its bytes are there (the sink is asked before it
//! acts); without bytes it was closed long ago, or can be read from the folder again, and is left out.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, params_from_iter};

use super::fault::{During as _, LedgerFault};
use super::row;
use super::schema::{self, Checkpoint};
use super::spool::{make_dir, sync_dir};
use super::store::FILE;
use crate::clock::Wall;

/// Ranges that are tried in one table before the rest of it is given up.
const PATIENCE: usize = 50_000;

/// Tables with an integer key, in the order in which they are carried over.
const TABLES: [(&str, &str); 7] = [
    ("boot", "no"),
    ("intent", "seq"),
    ("payload", "seq"),
    ("outcome", "no"),
    ("unfiled", "seq"),
    ("requeue", "seq"),
    ("attempt", "seq"),
];

/// The new database while it is written.
pub(super) fn building(dir: &Path) -> PathBuf {
    dir.join("ledger.db.building")
}

fn built(dir: &Path) -> PathBuf {
    dir.join("ledger.db.built")
}

fn log_of(database: &Path) -> [PathBuf; 2] {
    ["-wal", "-shm"].map(|suffix| {
        let mut name = database.as_os_str().to_owned();
        name.push(suffix);
        name.into()
    })
}

/// Removes a database and its log; fine if they are not there.
pub(super) fn discard(database: &Path) -> Result<(), LedgerFault> {
    let [wal, shm] = log_of(database);
    for path in [database, &wal, &shm] {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(LedgerFault::io("remove", path, e)),
            _ => {}
        }
    }
    Ok(())
}

/// Makes the database that was built the ledger: flushed, under its own name, without any log.
pub(super) fn publish(dir: &Path) -> Result<(), LedgerFault> {
    let fresh = building(dir);
    let flush = || File::open(&fresh).and_then(|file| file.sync_all());
    flush().map_err(|e| LedgerFault::io("flush", &fresh, e))?;
    for path in log_of(&fresh) {
        discard(&path)?;
    }
    fs::rename(&fresh, built(dir)).map_err(|e| LedgerFault::io("rename", &fresh, e))?;
    sync_dir(dir)?;
    finish(dir)
}

/// Finishes a replacement that was cut off.
pub(super) fn finish(dir: &Path) -> Result<(), LedgerFault> {
    let (from, to) = (built(dir), dir.join(FILE));
    if !from.exists() {
        return Ok(());
    }
    for path in log_of(&to) {
        discard(&path)?;
    }
    sync_dir(dir)?;
    fs::rename(&from, &to).map_err(|e| LedgerFault::io("rename", &from, e))?;
    sync_dir(dir)
}

/// Copies the ledger and its log to a new directory below `quarantine/` and returns it.
pub(super) fn set_aside(dir: &Path, when: Wall) -> Result<PathBuf, LedgerFault> {
    let base = dir.join("quarantine").join(when.compact());
    let free = |n: u32| if n == 0 { base.clone() } else { base.with_extension(n.to_string()) };
    let place = (0..).map(free).find(|path| !path.exists()).unwrap_or(base.clone());
    make_dir(&place)?;
    let database = dir.join(FILE);
    let [wal, _] = log_of(&database);
    for from in [&database, &wal] {
        let (true, Some(name)) = (from.exists(), from.file_name()) else { continue };
        let to = place.join(name);
        let copy = || fs::copy(from, &to).and_then(|_| File::open(&to)).and_then(|file| file.sync_all());
        copy().map_err(|e| LedgerFault::io("copy to quarantine", from, e))?;
    }
    for dir in [place.as_path(), &dir.join("quarantine"), dir] {
        sync_dir(dir)?;
    }
    Ok(place)
}

/// Sets the damaged ledger aside and puts a new one with every readable row in its place; returns
/// what is to be told.
pub(super) fn rebuild(dir: &Path, when: Wall, what: &str) -> Result<String, LedgerFault> {
    let place = set_aside(dir, when)?;
    let fresh = building(dir);
    discard(&fresh)?;
    let conn = schema::create(&fresh)?;
    schema::settle(&conn, &fresh)?;
    let source = schema::connect(&dir.join(FILE)).ok();
    let tally = carry_over(source.as_ref(), &conn).during("rebuild the ledger")?;
    drop(source);
    schema::checkpoint(&conn, Checkpoint::Truncate)?;
    drop(conn);
    publish(dir)?;
    Ok(format!(
        "the ledger was damaged ({what}); {} intents and {} outcomes were carried over, {} rows were lost \
         or did not fit together; the damaged files are in {}",
        tally.intents,
        tally.outcomes,
        tally.lost,
        place.display()
    ))
}

#[derive(Debug, Default)]
struct Tally {
    intents: i64,
    outcomes: i64,
    lost: usize,
}

fn carry_over(source: Option<&Connection>, fresh: &Connection) -> rusqlite::Result<Tally> {
    let mut lost = 0;
    fresh.execute_batch("BEGIN IMMEDIATE")?;
    if let Some(source) = source {
        for (table, key) in TABLES.into_iter().filter(|(table, _)| may_have(source, table)) {
            lost += carry_table(source, fresh, table, key)?;
        }
        carry_meta(source, fresh)?;
    }
    lost += fit_together(fresh)?;
    let count = |table: &str| {
        fresh.query_row(&format!("SELECT count(*) FROM {table}"), [], |found| found.get::<_, i64>(0))
    };
    let tally = Tally { intents: count("intent")?, outcomes: count("outcome")?, lost };
    fresh.execute_batch("COMMIT")?;
    Ok(tally)
}

/// False for a table that the damaged ledger's version did not know.
fn may_have(source: &Connection, table: &str) -> bool {
    let known = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?1)";
    source.query_row(known, [table], |found| found.get(0)).unwrap_or(true)
}

/// Copies every readable row of a table; returns how many keys had to be given up one by one.
fn carry_table(source: &Connection, fresh: &Connection, table: &str, key: &str) -> rusqlite::Result<usize> {
    let select = format!("SELECT *, {key} FROM {table} WHERE {key} > ?1 AND {key} <= ?2 ORDER BY {key}");
    let columns = fresh.prepare(&format!("SELECT * FROM {table}"))?.column_count();
    let marks = vec!["?"; columns].join(",");
    let mut insert = fresh.prepare(&format!("INSERT OR IGNORE INTO {table} VALUES ({marks})"))?;
    let mut lost = 0;
    let mut ranges = vec![(0, i64::MAX)];
    for _ in 0..PATIENCE {
        let Some((low, high)) = ranges.pop() else { break };
        let mut reached = low;
        let read = copy_range(source, &select, (low, high), &mut reached, |values| {
            // A value of a wrong type is damage too: the row is left out.
            insert.execute(params_from_iter(values)).unwrap_or(0)
        });
        if read.is_ok() {
            continue;
        }
        if high - reached <= 1 {
            lost += 1;
            continue;
        }
        let middle = reached + (high - reached) / 2;
        ranges.push((middle, high));
        ranges.push((reached, middle));
    }
    Ok(lost)
}

fn copy_range(
    source: &Connection,
    select: &str,
    (low, high): (i64, i64),
    reached: &mut i64,
    mut put: impl FnMut(Vec<Value>) -> usize,
) -> rusqlite::Result<()> {
    let mut select = source.prepare_cached(select)?;
    let columns = select.column_count() - 1;
    let mut rows = select.query([low, high])?;
    while let Some(found) = rows.next()? {
        let values = (0..columns).map(|at| found.get::<_, Value>(at)).collect::<Result<Vec<_>, _>>()?;
        put(values);
        *reached = found.get(columns)?;
    }
    Ok(())
}

/// Carries the store's id and marks over; a mark that cannot be read is worked out from the rows.
fn carry_meta(source: &Connection, fresh: &Connection) -> rusqlite::Result<()> {
    let store: Option<Vec<u8>> = source
        .query_row("SELECT value FROM meta WHERE key = 'store'", [], |found| found.get(0))
        .optional()
        .unwrap_or(None);
    if let Some(store) = store.filter(|id| id.len() == 16) {
        fresh.execute("UPDATE meta SET value = ?1 WHERE key = 'store'", [store])?;
    }
    for key in ["closed_no", "swept_no", "last_seq", "last_no", "clock_floor"] {
        let value: Option<i64> = source
            .query_row("SELECT value FROM meta WHERE key = ?1", [key], |found| found.get(0))
            .optional()
            .unwrap_or(None);
        if let Some(value) = value {
            fresh.execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", (key, value))?;
        }
    }
    // Payloads go only after their rows were closed.
    fresh.execute_batch(
        "INSERT OR IGNORE INTO meta SELECT 'closed_no', coalesce(\
             (SELECT min(o.no) - 1 FROM outcome o JOIN payload p ON p.seq = o.seq), \
             (SELECT max(no) FROM outcome), 0)",
    )
}

/// Removes what no longer fits together; returns how many rows that were.
fn fit_together(fresh: &Connection) -> rusqlite::Result<usize> {
    let mut removed = 0;
    for seq in unreadable(fresh)? {
        removed += fresh.execute("DELETE FROM intent WHERE seq = ?1", [seq])?;
    }
    for sql in [
        "DELETE FROM outcome WHERE no NOT IN (SELECT min(no) FROM outcome GROUP BY seq)",
        "DELETE FROM intent WHERE seq NOT IN (SELECT seq FROM outcome) \
         AND (judged <> 0 OR seq NOT IN (SELECT seq FROM payload))",
        "DELETE FROM outcome WHERE seq NOT IN (SELECT seq FROM intent)",
    ] {
        removed += fresh.execute(sql, [])?;
    }
    fresh.execute("DELETE FROM payload WHERE seq NOT IN (SELECT seq FROM intent)", [])?;
    fresh.execute("DELETE FROM requeue WHERE seq NOT IN (SELECT seq FROM intent)", [])?;
    fresh.execute("DELETE FROM unfiled WHERE seq NOT IN (SELECT seq FROM outcome)", [])?;
    fresh.execute("DELETE FROM attempt WHERE seq NOT IN (SELECT seq FROM intent)", [])?;
    Ok(removed)
}

/// Rows whose values no version of ours has written.
fn unreadable(fresh: &Connection) -> rusqlite::Result<Vec<i64>> {
    let mut select = fresh.prepare(row::SELECT)?;
    let mut rows = select.query([])?;
    let mut odd = Vec::new();
    while let Some(found) = rows.next()? {
        if row::read(found).is_err() {
            odd.push(found.get(0)?);
        }
    }
    Ok(odd)
}
