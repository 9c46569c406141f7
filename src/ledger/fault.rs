//! What can go wrong with the ledger, and what the daemon does about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rusqlite::ErrorCode;

use crate::error::{Consequence, Fault};

/// Extended result codes of SQLite that say that a flush failed (`SQLITE_IOERR_FSYNC`,
/// `SQLITE_IOERR_DIR_FSYNC`).
const FLUSH_CODES: [i32; 2] = [1034, 1290];

/// Why the ledger could not do something.
#[derive(Debug)]
pub enum LedgerFault {
    /// A file or directory of the state directory cannot be used.
    Place {
        /// What was tried.
        act: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No room on the disk (or in the quota); nothing of the batch is acknowledged (D01).
    DiskFull {
        /// What was tried.
        act: &'static str,
    },
    /// The file system turned read-only (D04).
    ReadOnly {
        /// What was tried.
        act: &'static str,
    },
    /// Another process holds the database (an open `sqlite3` transaction, a backup).
    Busy {
        /// What was tried.
        act: &'static str,
    },
    /// A flush failed. What the kernel still holds is unknown from here on, so a second attempt
    /// could succeed without the data: the process ends and starts from what is on disk (D06).
    Flush {
        /// What was tried.
        act: &'static str,
        /// The system's words.
        detail: String,
    },
    /// The database is torn, flipped, zeroed or cut (D08); the next start sets it aside and rebuilds.
    Damaged {
        /// What was found.
        what: String,
    },
    /// The kept bytes of one intent are not the bytes that were accepted.
    Payload {
        /// Whose bytes.
        seq: u64,
    },
    /// Written by a newer version (D10); untouched.
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// Not a ledger of ours (D10); untouched.
    Foreign {
        /// The database.
        path: PathBuf,
        /// Its application id.
        application: u32,
    },
    /// There is no ledger (commands that only read).
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// An outcome for a row that was never accepted.
    Unknown {
        /// The row.
        seq: u64,
    },
    /// Anything else that SQLite says.
    Sql {
        /// What was tried.
        act: &'static str,
        /// Its answer.
        source: rusqlite::Error,
    },
}

impl LedgerFault {
    /// Sorts an answer of SQLite.
    pub(super) fn of(act: &'static str, source: rusqlite::Error) -> Self {
        use rusqlite::Error::{
            FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, SqliteFailure,
        };
        match &source {
            SqliteFailure(code, detail) => match code.code {
                ErrorCode::DiskFull => LedgerFault::DiskFull { act },
                ErrorCode::ReadOnly => LedgerFault::ReadOnly { act },
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => LedgerFault::Busy { act },
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
                    LedgerFault::Damaged { what: format!("{act}: {source}") }
                }
                _ if FLUSH_CODES.contains(&code.extended_code) => LedgerFault::Flush {
                    act,
                    detail: detail.clone().unwrap_or_else(|| "the disk refused to flush".into()),
                },
                _ => LedgerFault::Sql { act, source },
            },
            FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) => {
                LedgerFault::Damaged { what: format!("{act}: {source}") }
            }
            _ => LedgerFault::Sql { act, source },
        }
    }

    /// Sorts an answer of the system.
    pub(super) fn io(act: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => LedgerFault::DiskFull { act },
            io::ErrorKind::ReadOnlyFilesystem => LedgerFault::ReadOnly { act },
            _ => LedgerFault::Place { act, path: path.into(), source },
        }
    }

    /// True for an I/O error of SQLite whose cause (a full disk, a quota, a read-only file system)
    /// only a probe can tell.
    pub(super) fn is_unexplained(&self) -> bool {
        let LedgerFault::Sql { source, .. } = self else { return false };
        matches!(source.sqlite_error_code(), Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen))
    }
}

impl fmt::Display for LedgerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LedgerFault::Place { act, path, source } => write!(f, "{act} {}: {source}", path.display()),
            LedgerFault::DiskFull { act } => {
                write!(f, "{act}: no room left for the ledger; nothing is accepted until there is space")
            }
            LedgerFault::ReadOnly { act } => {
                write!(f, "{act}: the ledger is read-only; nothing is accepted until it can be written")
            }
            LedgerFault::Busy { act } => {
                write!(f, "{act}: another process holds the ledger; nothing is accepted until it lets go")
            }
            LedgerFault::Flush { act, detail } => write!(
                f,
                "{act}: {detail}; nothing of this batch is acknowledged, start again to go on from what is on disk"
            ),
            LedgerFault::Damaged { what } => {
                write!(f, "the ledger is damaged: {what}; the next start sets it aside and rebuilds it")
            }
            LedgerFault::Payload { seq } => {
                write!(f, "the kept bytes of ledger row {seq} are not those that were accepted")
            }
            LedgerFault::Newer { path, found, known } => write!(
                f,
                "{} was written by a newer version (schema {found}, known here: {known}); \
                 install that version again or name another --state",
                path.display()
            ),
            LedgerFault::Foreign { path, application } => write!(
                f,
                "{} is no ledger of conductor-loop (application id {application:#010x}); name another --state",
                path.display()
            ),
            LedgerFault::Missing { path } => write!(f, "no ledger at {}", path.display()),
            LedgerFault::Unknown { seq } => {
                write!(f, "outcome for ledger row {seq}, which was never accepted")
            }
            LedgerFault::Sql { act, source } => write!(f, "{act}: {source}"),
        }
    }
}

impl std::error::Error for LedgerFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LedgerFault::Place { source, .. } => Some(source),
            LedgerFault::Sql { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl Fault for LedgerFault {
    fn consequence(&self) -> Consequence {
        match self {
            LedgerFault::DiskFull { .. } | LedgerFault::ReadOnly { .. } | LedgerFault::Busy { .. } => {
                Consequence::Retry
            }
            LedgerFault::Payload { .. } => Consequence::Refuse,
            _ => Consequence::Stop,
        }
    }
}

/// Names the act that an answer of SQLite belongs to.
pub(super) trait During<T> {
    /// The answer, or the fault of this act.
    fn during(self, act: &'static str) -> Result<T, LedgerFault>;
}

impl<T> During<T> for rusqlite::Result<T> {
    fn during(self, act: &'static str) -> Result<T, LedgerFault> {
        self.map_err(|source| LedgerFault::of(act, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sqlite(code: i32) -> LedgerFault {
        LedgerFault::of("test", rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None))
    }

    #[test]
    fn a_failed_flush_stops_the_process_and_a_full_disk_only_waits() {
        assert!(matches!(sqlite(1034), LedgerFault::Flush { .. }));
        assert_eq!(sqlite(1034).consequence(), Consequence::Stop);
        assert_eq!(sqlite(1290).consequence(), Consequence::Stop);
        assert_eq!(sqlite(778).consequence(), Consequence::Stop, "SQLITE_IOERR_WRITE");
        assert_eq!(sqlite(13).consequence(), Consequence::Retry);
        assert_eq!(sqlite(8).consequence(), Consequence::Retry);
    }

    #[test]
    fn damage_is_told_from_trouble() {
        assert!(matches!(sqlite(11), LedgerFault::Damaged { .. }));
        assert!(matches!(sqlite(26), LedgerFault::Damaged { .. }));
        assert!(matches!(sqlite(1), LedgerFault::Sql { .. }));
        assert_eq!(sqlite(5).consequence(), Consequence::Retry);
    }
}
