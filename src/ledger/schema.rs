//! The database: its tables, versions, views and connections.
//!
//! | table | key | one row is |
//! |---|---|---|
//! | `intent` | `seq`, ascending | an accepted file, whatever became of it; never changed; its first columns are all that the rebuild of the index reads |
//! | `payload` | `seq` | the bytes of an intent that is not closed; `bytes` NULL: in `spool/<seq>` |
//! | `outcome` | `no`, ascending | the end of an intent; `no` is the order of ends |
//! | `attempt` | `seq` | what is known of the attempts at a sink that cannot be asked (version 2; see `ledger/attempt.rs`) |
//! | `unfiled` | `seq` | an ended intent whose original could not be moved or whose status could not be written; not closed, whatever `closed_no` says |
//! | `requeue` | `seq` | that this intent tries the one with the id `origin` again, asked for by `request` |
//! | `meta` | `key` | `store` (16 random bytes), `closed_no` (all outcomes up to it are closed), `swept_no` (their payloads are removed), `last_seq`, `last_no` (highest numbers ever removed), `clock_floor` (rows before it are older than a step back of the wall clock) |
//! | `boot` | `no` | one life of the daemon: boot id and clocks at its start, clocks when it was last seen, and whether it ended cleanly |
//! | `suspect` | `key` | a file that a worker held when the process died |
//!
//! Times are nanoseconds since 1970 (UTC) or, named `age`, `seen_age`, `waited` and `duration`, microseconds;
//! unsigned 64-bit numbers are stored in two's complement. The view `history` shows the same in
//! words: `sqlite3 ledger.db 'SELECT * FROM history'`.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::fault::{During as _, LedgerFault};
use super::row::KINDS;
use crate::fate::{Fate, Lifecycle, Proof, Reason, SinkKind, Source};

/// `CLoo`, in the header of every ledger.
pub(super) const APPLICATION_ID: u32 = 0x434c_6f6f;

/// How long a statement waits for another connection.
const BUSY: std::time::Duration = std::time::Duration::from_secs(5);

/// One step per schema version, forward only: entry `n` leads from version `n` to `n + 1`.
const MIGRATIONS: &[&str] = &[
    "
CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('store', randomblob(16));
CREATE TABLE boot (
    no INTEGER PRIMARY KEY, boot TEXT NOT NULL, wall INTEGER NOT NULL, mono INTEGER NOT NULL,
    age INTEGER NOT NULL, seen INTEGER NOT NULL, seen_age INTEGER NOT NULL, clean INTEGER NOT NULL
) STRICT;
CREATE TABLE intent (
    seq INTEGER PRIMARY KEY,
    judged INTEGER NOT NULL, name BLOB NOT NULL, sha BLOB, former BLOB,
    namespace TEXT, kind INTEGER, target TEXT, ctime INTEGER NOT NULL,
    age INTEGER NOT NULL, waited INTEGER NOT NULL, accepted INTEGER NOT NULL,
    id INTEGER NOT NULL, generation INTEGER NOT NULL, source INTEGER NOT NULL, proof INTEGER,
    dev INTEGER NOT NULL, ino INTEGER NOT NULL, size INTEGER NOT NULL, mtime INTEGER NOT NULL,
    priority INTEGER NOT NULL, valid_until INTEGER, worker INTEGER NOT NULL
) STRICT;
CREATE TABLE payload (seq INTEGER PRIMARY KEY, bytes BLOB) STRICT;
CREATE TABLE outcome (
    no INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL, fate INTEGER NOT NULL, reason INTEGER, message TEXT NOT NULL, errors TEXT,
    sink INTEGER, remote TEXT, revision TEXT, lifecycle INTEGER, adopted INTEGER,
    attempts INTEGER NOT NULL, related INTEGER, finished INTEGER NOT NULL, duration INTEGER NOT NULL
) STRICT;
CREATE INDEX outcome_seq ON outcome (seq, fate);
CREATE TABLE unfiled (seq INTEGER PRIMARY KEY, reason INTEGER NOT NULL, since INTEGER NOT NULL) STRICT;
CREATE TABLE suspect (key BLOB PRIMARY KEY, starts INTEGER NOT NULL, last INTEGER NOT NULL) STRICT, WITHOUT ROWID;
", "
CREATE TABLE attempt (
    seq INTEGER PRIMARY KEY, begun INTEGER NOT NULL, open INTEGER NOT NULL, doubtful INTEGER NOT NULL,
    permitted INTEGER NOT NULL, request INTEGER
) STRICT;
CREATE INDEX attempt_request ON attempt (request) WHERE request IS NOT NULL;
CREATE TABLE requeue (seq INTEGER PRIMARY KEY, origin INTEGER NOT NULL, request INTEGER NOT NULL) STRICT;
CREATE INDEX requeue_origin ON requeue (origin);
CREATE INDEX requeue_request ON requeue (request);
"];

/// What the tables of [`MIGRATIONS`] look like to a connection that may not write to them: those that
/// an older ledger lacks are there, and empty. To migrate it is the daemon's work.
const STAND_INS: &[(i64, &str)] = &[
    (2, "CREATE TEMP TABLE attempt (seq INTEGER PRIMARY KEY, begun, open, doubtful, permitted, request);"),
    (2, "CREATE TEMP TABLE requeue (seq INTEGER PRIMARY KEY, origin, request);"),
];

/// The newest schema version.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// What the first page says, read without SQLite so that a foreign file is not touched at all.
/// Call only while this process has no connection to the file: closing it drops SQLite's locks.
pub(super) fn look_at_header(path: &Path) -> Result<(), LedgerFault> {
    let mut header = [0u8; 100];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    if let Err(e) = read {
        return match e.kind() {
            std::io::ErrorKind::UnexpectedEof => Err(LedgerFault::Damaged { what: "no whole header".into() }),
            _ => Err(LedgerFault::io("open", path, e)),
        };
    }
    if !header.starts_with(b"SQLite format 3\0") {
        return Err(LedgerFault::Damaged { what: "no database header".into() });
    }
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    check_ids(path, number(68), i64::from(number(60)))
}

/// Refuses another application's file and a newer version's; 0 and 0 is a ledger in the making.
pub(super) fn check_ids(path: &Path, application: u32, version: i64) -> Result<(), LedgerFault> {
    if application != APPLICATION_ID && (application, version) != (0, 0) {
        return Err(LedgerFault::Foreign { path: path.into(), application });
    }
    if version > VERSION {
        return Err(LedgerFault::Newer { path: path.into(), found: version, known: VERSION });
    }
    Ok(())
}

/// Opens `path` for writing. Closing it leaves the log alone; see [`tidy_on_close`].
pub(super) fn connect(path: &Path) -> Result<Connection, LedgerFault> {
    open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
}

/// The same, and makes the file if it is not there.
pub(super) fn create(path: &Path) -> Result<Connection, LedgerFault> {
    open(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection, LedgerFault> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).during("open ledger")?;
    prepare(&conn).during("open ledger")?;
    Ok(conn)
}

fn prepare(conn: &Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(BUSY)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.set_prepared_statement_cache_capacity(48);
    conn.execute_batch("PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -2048;")
}

/// Lets the last connection remove the (empty) log when it closes.
pub(super) fn tidy_on_close(conn: &Connection) -> Result<(), LedgerFault> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map(|_| ()).during("close ledger")
}

/// Refuses foreign and newer databases, also where only the log says so, then takes write-ahead mode
/// and leads an older schema to this one. True if the ledger was made just now.
pub(super) fn settle(conn: &Connection, path: &Path) -> Result<bool, LedgerFault> {
    let number = |pragma: &str| conn.query_row(pragma, [], |row| row.get::<_, i64>(0));
    let version = number("PRAGMA user_version").during("read ledger version")?;
    let application = number("PRAGMA application_id").during("read ledger version")?;
    check_ids(path, application as u32, version)?;
    let tables = number("SELECT count(*) FROM sqlite_schema").during("read ledger schema")?;
    if application == 0 && tables > 0 {
        return Err(LedgerFault::Foreign { path: path.into(), application: 0 });
    }
    conn.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = FULL;",
    )
    .during("set ledger mode")?;
    migrate(conn, version).during("make ledger tables")?;
    renew_views(conn).during("make ledger views")?;
    Ok(version == 0)
}

fn migrate(conn: &Connection, from: i64) -> rusqlite::Result<()> {
    for (at, step) in (1..).zip(MIGRATIONS).filter(|(at, _)| *at > from) {
        conn.execute_batch(&format!(
            "BEGIN IMMEDIATE; {step} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {at}; COMMIT;"
        ))?;
    }
    Ok(())
}

/// Lets a read-only connection read a ledger of an older version as one of this.
pub(super) fn stand_in(conn: &Connection, version: i64) -> Result<(), LedgerFault> {
    let missing: String =
        STAND_INS.iter().filter(|(since, _)| *since > version).map(|(_, table)| *table).collect();
    conn.execute_batch(&format!("PRAGMA temp_store = MEMORY; {missing}")).during("read an older ledger")
}

/// Views hold the vocabularies, which may have grown; they are replaced when their text differs.
fn renew_views(conn: &Connection) -> rusqlite::Result<()> {
    let wanted = history_view();
    let held: Option<String> = conn
        .query_row("SELECT sql FROM sqlite_schema WHERE name = 'history'", [], |row| row.get(0))
        .optional()?;
    if held.as_deref() == Some(wanted.as_str()) {
        return Ok(());
    }
    conn.execute_batch(&format!("BEGIN IMMEDIATE; DROP VIEW IF EXISTS history; {wanted}; COMMIT;"))
}

fn words(column: &str, all: impl Iterator<Item = &'static str>) -> String {
    let cases: String = all.enumerate().map(|(code, word)| format!(" WHEN {code} THEN '{word}'")).collect();
    format!("CASE {column}{cases} END")
}

fn history_view() -> String {
    let utc =
        |column: &str| format!("strftime('%Y-%m-%dT%H:%M:%fZ', {column} / 1000000 / 1000.0, 'unixepoch')");
    format!(
        "CREATE VIEW history AS SELECT i.seq, printf('%016x', i.id) AS id, CAST(i.name AS TEXT) AS name, \
         lower(hex(i.sha)) AS sha256, i.generation, i.namespace, {kind} AS kind, i.target, \
         {accepted} AS accepted_at, {source} AS source, {proof} AS proof, i.size, i.priority, \
         coalesce({fate}, 'pending') AS fate, {reason} AS reason, o.message, {sink} AS sink, o.remote, o.revision, \
         {lifecycle} AS lifecycle, o.attempts, iif(o.related IS NULL, NULL, printf('%016x', o.related)) AS related, \
         {finished} AS finished_at, o.duration / 1000.0 AS duration_ms, o.no, \
         o.no <= (SELECT value FROM meta WHERE key = 'closed_no') \
         AND i.seq NOT IN (SELECT seq FROM unfiled) AS closed, \
         coalesce(a.doubtful AND o.fate = {delivered}, 0) AS possible_duplicate, \
         iif(q.origin IS NULL, NULL, printf('%016x', q.origin)) AS requeue_of \
         FROM intent i LEFT JOIN outcome o ON o.seq = i.seq LEFT JOIN attempt a ON a.seq = i.seq \
         LEFT JOIN requeue q ON q.seq = i.seq",
        delivered = Fate::Delivered.code(),
        kind = words("i.kind", KINDS.iter().map(|kind| kind.as_str())),
        accepted = utc("i.accepted"),
        source = words("i.source", Source::ALL.iter().map(|word| word.as_str())),
        proof = words("i.proof", Proof::ALL.iter().map(|word| word.as_str())),
        fate = words("o.fate", Fate::ALL.iter().map(|word| word.as_str())),
        reason = words("o.reason", Reason::ALL.iter().map(|word| word.as_str())),
        sink = words("o.sink", SinkKind::ALL.iter().map(|word| word.as_str())),
        lifecycle = words("o.lifecycle", Lifecycle::ALL.iter().map(|word| word.as_str())),
        finished = utc("o.finished"),
    )
}

/// How a checkpoint treats readers and writers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checkpoint {
    /// Only look.
    Noop,
    /// Copy what can be copied without waiting for anyone.
    Passive,
    /// Copy everything and let the next write begin the log anew.
    Restart,
    /// The same, and cut the log to nothing.
    Truncate,
}

/// The write-ahead log as a checkpoint left it, in pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Log {
    /// True if a reader or writer kept it from finishing.
    pub(super) busy: bool,
    /// Pages in the log.
    pub(super) pages: u64,
    /// Pages of it that the database holds already.
    pub(super) copied: u64,
}

/// Runs a checkpoint; never waits for readers.
pub(super) fn checkpoint(conn: &Connection, how: Checkpoint) -> Result<Log, LedgerFault> {
    let sql = match how {
        Checkpoint::Noop => "PRAGMA wal_checkpoint(NOOP)",
        Checkpoint::Passive => "PRAGMA wal_checkpoint(PASSIVE)",
        Checkpoint::Restart => "PRAGMA wal_checkpoint(RESTART)",
        Checkpoint::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
    };
    let run = || {
        conn.busy_timeout(std::time::Duration::ZERO)?;
        let log = conn.query_row(sql, [], |row| {
            let pages = |at| row.get::<_, i64>(at).map(|n| n.max(0).cast_unsigned());
            Ok(Log { busy: row.get(0)?, pages: pages(1)?, copied: pages(2)? })
        });
        conn.busy_timeout(BUSY)?;
        log
    };
    run().during("checkpoint the ledger")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_view_reads_without_a_row() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        let conn = create(&path).unwrap();
        assert!(settle(&conn, &path).unwrap());
        assert!(!settle(&conn, &path).unwrap());
        let rows: i64 = conn.query_row("SELECT count(*) FROM history", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 0);
    }
}
