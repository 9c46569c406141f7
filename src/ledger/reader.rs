//! Reading the ledger from a command, beside a running daemon or without one.
//!
//! Nothing is created and nothing changed. A ledger whose log is missing or empty (the daemon stopped
//! cleanly) is opened as an immutable file; one with a log is opened read-only, which uses the log's
//! shared index beside it and so sees every commit up to now.

use std::fs;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params_from_iter};
use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::fault::{During as _, LedgerFault};
use super::row::{self, kind_code};
use super::spool;
use super::store::FILE;
use super::{Counts, Record, Row, life};
use crate::clock::Wall;
use crate::fate::{Fate, Id, Reason};
use crate::intent::Target;

/// Which rows are wanted; the default is all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Accepted at or after.
    pub since: Option<Wall>,
    /// Accepted before.
    pub until: Option<Wall>,
    /// Ended this way; pending rows have no fate.
    pub fate: Option<Fate>,
    /// Refused and expired rows alone.
    pub failed: bool,
    /// With this reason.
    pub reason: Option<Reason>,
    /// Pending rows alone.
    pub pending: bool,
    /// For this target.
    pub target: Option<Target>,
    /// With exactly this name.
    pub name: Option<Box<[u8]>>,
    /// With this id.
    pub id: Option<Id>,
    /// The newest so many of them.
    pub limit: Option<u64>,
}

impl Filter {
    /// A condition and its values.
    fn condition(&self) -> (String, Vec<Value>) {
        let mut parts: Vec<&str> = Vec::new();
        let mut values: Vec<Value> = Vec::new();
        let mut add = |part: &'static str, new: Vec<Value>| {
            parts.push(part);
            values.extend(new);
        };
        if let Some(id) = self.id {
            add("i.id = ?", vec![id.0.cast_signed().into()]);
        }
        if let Some(name) = &self.name {
            add("i.name = ?", vec![name.to_vec().into()]);
        }
        if let Some(Target { namespace, kind, name }) = &self.target {
            let kind = i64::from(kind_code(*kind));
            let values = vec![namespace.to_string().into(), kind.into(), name.to_string().into()];
            add("i.namespace = ? AND i.kind = ? AND i.target = ?", values);
        }
        if let Some(since) = self.since {
            add("i.accepted >= ?", vec![since.0.into()]);
        }
        if let Some(until) = self.until {
            add("i.accepted < ?", vec![until.0.into()]);
        }
        if let Some(fate) = self.fate {
            add("o.fate = ?", vec![i64::from(fate.code()).into()]);
        }
        if self.failed {
            add(
                "o.fate IN (?, ?)",
                [Fate::Refused, Fate::Expired].map(|fate| i64::from(fate.code()).into()).into(),
            );
        }
        if let Some(reason) = self.reason {
            add("o.reason = ?", vec![i64::from(reason.code()).into()]);
        }
        if self.pending {
            add("o.no IS NULL", Vec::new());
        }
        if parts.is_empty() { ("1".to_owned(), values) } else { (parts.join(" AND "), values) }
    }
}

/// How the store itself is, beside the intents in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Condition {
    /// Bytes that count against `ledger.max_size`.
    pub bytes: u64,
    /// Ended intents whose original could not be moved or whose status could not be written.
    pub unfiled: u64,
    /// Files that a worker held when the daemon died, not yet acquitted.
    pub suspects: u64,
    /// The newest moment on record by the wall clock.
    pub newest: Option<Wall>,
    /// The device of the newest file that was accepted in this boot; with it the numbers of devices end.
    /// Repeats have no file.
    pub device: Option<u64>,
    /// False if the last life of the daemon is going on, or ended without a stop.
    pub clean: bool,
}

/// A read-only view of a ledger.
pub struct Reader {
    pub(super) conn: Connection,
    dir: PathBuf,
}

impl Reader {
    /// Opens the ledger in the state directory `dir`.
    ///
    /// # Errors
    /// [`LedgerFault::Missing`] if there is none; [`LedgerFault::Foreign`] and [`LedgerFault::Newer`]; any other
    /// fault if it cannot be read.
    pub fn open(dir: &Path) -> Result<Reader, LedgerFault> {
        let path = dir.join(FILE);
        // Not by opening it: closing a descriptor would free the locks that SQLite holds in this process.
        if let Err(err) = accessat(CWD, &path, Access::READ_OK, AtFlags::EACCESS) {
            return Err(match err.kind() {
                ErrorKind::NotFound => LedgerFault::Missing { path },
                _ => LedgerFault::io("cannot read", path, err.into()),
            });
        }
        let has_log = fs::metadata(path.with_extension("db-wal")).is_ok_and(|log| log.len() > 0);
        let conn = if has_log { shared(&path) } else { immutable(&path) };
        let conn = conn.during("open ledger for reading")?;
        let number = |pragma: &str| conn.query_row(pragma, [], |found| found.get::<_, i64>(0));
        let version = number("PRAGMA user_version").during("read ledger version")?;
        let application = number("PRAGMA application_id").during("read ledger version")? as u32;
        super::schema::check_ids(&path, application, version)?;
        super::schema::stand_in(&conn, version)?;
        Ok(Reader { conn, dir: dir.to_owned() })
    }

    /// The kept bytes of a row that is not closed; `None` if they were not kept or are gone.
    ///
    /// # Errors
    /// Any fault.
    pub fn payload(&self, seq: u64) -> Result<Option<Vec<u8>>, LedgerFault> {
        let mut select =
            self.conn.prepare_cached("SELECT bytes FROM payload WHERE seq = ?1").during("read a payload")?;
        let found =
            select.query_row([seq.cast_signed()], |found| found.get::<_, Option<Vec<u8>>>(0)).optional();
        match found.during("read a payload")? {
            None => Ok(None),
            Some(Some(bytes)) => Ok(Some(bytes)),
            Some(None) => spool::read_from(&self.dir, seq),
        }
    }

    /// Calls `each` with the rows that pass the filter, oldest first, one at a time.
    ///
    /// # Errors
    /// Any fault; rows handed out before stay handed out.
    pub fn history(
        &self,
        filter: &Filter,
        each: &mut dyn FnMut(Row) -> ControlFlow<()>,
    ) -> Result<(), LedgerFault> {
        let (condition, values) = filter.condition();
        let from = self.first_of_newest(filter, &condition, &values)?;
        let mut run = || {
            let sql = format!("{} WHERE i.seq >= {from} AND {condition} ORDER BY i.seq", row::SELECT);
            let mut select = self.conn.prepare(&sql)?;
            let mut rows = select.query(params_from_iter(&values))?;
            while let Some(found) = rows.next()? {
                if each(row::read(found)?).is_break() {
                    break;
                }
            }
            Ok(())
        };
        run().during("read history")
    }

    /// The row with which the newest `limit` rows begin; 0 without a limit.
    fn first_of_newest(
        &self,
        filter: &Filter,
        condition: &str,
        values: &[Value],
    ) -> Result<i64, LedgerFault> {
        let Some(limit) = filter.limit else { return Ok(0) };
        let sql = format!(
            "SELECT coalesce(min(seq), {none}) FROM (SELECT i.seq AS seq FROM intent i \
             LEFT JOIN outcome o ON o.seq = i.seq WHERE {condition} ORDER BY i.seq DESC LIMIT {limit})",
            none = i64::MAX
        );
        let first = self.conn.query_row(&sql, params_from_iter(values), |found| found.get(0));
        first.during("read history")
    }

    /// The balance of all rows held, counted afresh.
    ///
    /// # Errors
    /// Any fault.
    pub fn counts(&self) -> Result<Counts, LedgerFault> {
        let count = || {
            let mut counts = Counts {
                accepted: self.number("SELECT count(*) FROM intent")?,
                pending: self.number(
                    "SELECT count(*) FROM intent i \
                     WHERE NOT EXISTS (SELECT 1 FROM outcome o WHERE o.seq = i.seq)",
                )?,
                ..Counts::default()
            };
            for (fate, count) in Fate::ALL.iter().zip(&mut counts.fates) {
                *count =
                    self.number(&format!("SELECT count(*) FROM outcome WHERE fate = {}", fate.code()))?;
            }
            Ok(counts)
        };
        // One view of the ledger for all numbers.
        let whole = || {
            self.conn.execute_batch("BEGIN")?;
            let counts = count();
            self.conn.execute_batch("COMMIT")?;
            counts
        };
        whole().during("count ledger rows")
    }

    /// How reliably the daemon ran, as of its last sight.
    ///
    /// # Errors
    /// Any fault.
    pub fn record(&self) -> Result<Record, LedgerFault> {
        life::record(&self.conn).during("read earlier starts")
    }

    fn number(&self, sql: &str) -> rusqlite::Result<u64> {
        self.conn.query_row(sql, [], |found| found.get::<_, i64>(0)).map(i64::cast_unsigned)
    }

    /// How the store itself is, for a machine whose boot id is `boot`.
    ///
    /// # Errors
    /// Any fault.
    pub fn condition(&self, boot: &str) -> Result<Condition, LedgerFault> {
        let moment = |sql: &str| {
            let found = self.conn.query_row(sql, [], |found| found.get::<_, Option<i64>>(0)).optional();
            found.map(|moment| moment.flatten().map(Wall))
        };
        let read = || {
            let pages = "SELECT (page_count - freelist_count) * page_size \
                         FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
            let newest = [
                moment("SELECT accepted FROM intent ORDER BY seq DESC LIMIT 1")?,
                moment("SELECT finished FROM outcome ORDER BY no DESC LIMIT 1")?,
                moment("SELECT seen FROM boot ORDER BY no DESC LIMIT 1")?,
            ];
            let device = "SELECT dev FROM intent \
                          WHERE accepted >= (SELECT min(wall) FROM boot WHERE boot = ?1) AND dev <> 0 \
                          ORDER BY seq DESC LIMIT 1";
            let device = self.conn.query_row(device, [boot], |found| found.get::<_, i64>(0)).optional()?;
            let clean = "SELECT clean FROM boot ORDER BY no DESC LIMIT 1";
            let clean = self.conn.query_row(clean, [], |found| found.get(0)).optional()?;
            Ok(Condition {
                bytes: self.number(pages)? + spool::bytes_in(&self.dir),
                unfiled: self.number("SELECT count(*) FROM unfiled")?,
                suspects: self.number("SELECT count(*) FROM suspect")?,
                newest: newest.into_iter().flatten().max(),
                device: device.map(i64::cast_unsigned),
                clean: clean.unwrap_or(true),
            })
        };
        read().during("read the state of the ledger")
    }

    /// The oldest pending row.
    ///
    /// # Errors
    /// Any fault.
    pub fn oldest_pending(&self) -> Result<Option<Row>, LedgerFault> {
        let mut oldest = None;
        self.history(&Filter { pending: true, ..Filter::default() }, &mut |row| {
            oldest = Some(row);
            ControlFlow::Break(())
        })?;
        Ok(oldest)
    }

    /// Checks the whole database; the first fault found, if any.
    ///
    /// # Errors
    /// Any fault but damage, which is the answer.
    pub fn check(&self) -> Result<Option<String>, LedgerFault> {
        let found: rusqlite::Result<String> =
            self.conn.query_row("PRAGMA integrity_check(1)", [], |found| found.get(0));
        match found.during("check the ledger") {
            Ok(found) => Ok((found != "ok").then_some(found)),
            Err(LedgerFault::Damaged { what }) => Ok(Some(what)),
            Err(fault) => Err(fault),
        }
    }
}

/// Beside a log, and perhaps a daemon that writes it.
fn shared(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(std::time::Duration::from_secs(5))?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(conn)
}

/// Without a log: SQLite neither locks nor makes any file.
fn immutable(path: &Path) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(format!("file:{}?immutable=1", escaped(path)), flags)
}

/// A path inside a URI.
fn escaped(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte);
    let one = |&byte: &u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    path.as_os_str().as_bytes().iter().map(one).collect()
}
