//! The synchronous core of the ledger: one connection, one owner.
//!
//! Start: header and ids are looked at before anything is touched; a rebuild that was cut off is
//! finished; the memory is rebuilt; the log is copied into the database and cut; the start is
//! recorded. After an unclean stop the whole structure is checked too (`quick_check`) while the
//! database is at most 64 MiB; a larger one would take seconds, and what the rebuild and recovery read
//! is proved by reading it: rows and index by their agreement, payloads by their digests.
//! Damage leads to [`super::salvage`], once; a newer or foreign file to an error that touches nothing.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _};

use super::age::{AgeClock, Moment};
use super::batch::{Batch, Parts};
use super::fault::{During as _, LedgerFault};
use super::life::{Life, Pulse};
use super::memory::Memory;
use super::schema::{self, Checkpoint};
use super::spool::{self, Spool};
use super::{Counts, recall, salvage};
use crate::clock::Clock;
use crate::config::{self, DedupScope};

/// The largest database, in pages of 4 KiB, that is checked as a whole after an unclean stop.
const CHECKED_PAGES: i64 = 16_384;

/// What the store has to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The state directory; made with mode 0700 if it is not there.
    pub dir: PathBuf,
    /// The kernel's id of this boot: monotonic times compare within one boot only.
    pub boot: Box<str>,
    /// What makes two files the same.
    pub dedup_scope: DedupScope,
    /// How long a repeat counts as one, in the ledger's own time. No longer than the row is kept.
    pub dedup_window: Duration,
    /// Most keys in memory.
    pub dedup_keys: u64,
    /// Age at which closed rows may go.
    pub keep_for: Duration,
    /// Most rows, open ones not counted out.
    pub keep_intents: u64,
    /// Bytes at which acceptance stops.
    pub max_size: u64,
}

impl Settings {
    /// The settings of this machine and configuration.
    pub fn new(dir: PathBuf, config: &config::Ledger) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Settings {
            dir,
            boot: boot.trim().into(),
            dedup_scope: config.dedup_scope,
            dedup_window: config.dedup_window,
            dedup_keys: config.dedup_keys,
            keep_for: config.keep_for,
            keep_intents: config.keep_intents,
            max_size: config.max_size,
        }
    }

    /// Takes other limits; place and memory of repeats stay.
    pub(super) fn renew(&mut self, limits: Limits) {
        let Limits { dedup_window, keep_for, keep_intents, max_size } = limits;
        (self.dedup_window, self.keep_for) = (dedup_window, keep_for);
        (self.keep_intents, self.max_size) = (keep_intents, max_size);
    }

    /// The database.
    pub fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }
}

/// The settings that may change while the ledger is open; see [`Settings`] for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long a repeat counts as one.
    pub dedup_window: Duration,
    /// Age at which closed rows may go.
    pub keep_for: Duration,
    /// Most rows.
    pub keep_intents: u64,
    /// Bytes at which acceptance stops.
    pub max_size: u64,
}

impl Limits {
    /// Those of `[ledger]`.
    pub fn of(config: &config::Ledger) -> Self {
        Limits {
            dedup_window: config.dedup_window,
            keep_for: config.keep_for,
            keep_intents: config.keep_intents,
            max_size: config.max_size,
        }
    }
}

/// The name of the database in the state directory.
pub(super) const FILE: &str = "ledger.db";

/// How the ledger was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Opened {
    /// True if there was none.
    pub created: bool,
    /// True if the last life of the daemon ended by stopping.
    pub clean: bool,
    /// Set if it was damaged: what was found, what was carried over, where the old one is.
    pub rebuilt: Option<String>,
    /// Number of this start.
    pub start: u64,
}

/// The ledger. Not shared: the writer thread owns it, or a single-threaded caller.
pub struct Store {
    pub(super) conn: Connection,
    pub(super) memory: Memory,
    pub(super) spool: Spool,
    pub(super) settings: Settings,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) place: (u64, u64),
    /// Where the next look for rows to remove begins, and whether rows were passed over.
    pub(super) prune_after: u64,
    pub(super) passed_over: bool,
    time: AgeClock,
    pulse: Pulse,
    id: [u8; 16],
    opened: Opened,
}

impl Store {
    /// Opens the ledger, or makes one where there is none.
    ///
    /// # Errors
    /// [`LedgerFault::Newer`] and [`LedgerFault::Foreign`] with nothing touched; any other fault when the
    /// ledger cannot be used or rebuilt.
    pub fn open(settings: Settings, clock: Arc<dyn Clock>) -> Result<Store, LedgerFault> {
        spool::make_dir(&settings.dir)?;
        salvage::finish(&settings.dir)?;
        match Self::try_open(&settings, &clock) {
            Err(LedgerFault::Damaged { what }) => {
                let told = salvage::rebuild(&settings.dir, clock.wall(), &what)?;
                let mut store = Self::try_open(&settings, &clock)?;
                store.opened.rebuilt = Some(told);
                Ok(store)
            }
            opened => opened,
        }
    }

    fn try_open(settings: &Settings, clock: &Arc<dyn Clock>) -> Result<Store, LedgerFault> {
        let path = settings.path();
        if size_of_file(&path) > 0 {
            schema::look_at_header(&path)?;
        } else if size_of_file(&path.with_extension("db-wal")) > 0 {
            return Err(LedgerFault::Damaged { what: "the database is gone, its log is not".into() });
        }
        let conn = schema::create(&path)?;
        let created = schema::settle(&conn, &path)?;
        let id = store_id(&conn)?;
        let last = Life::last(&conn).during("read earlier starts")?;
        let past = last.as_ref().map(|life| life.past(&conn, &settings.boot)).transpose();
        let past = past.during("read earlier starts")?;
        let (clean, start) = last.map_or((true, 1), |life| (life.clean, life.no + 1));
        let memory = recall::rebuild(&conn, settings)?;
        if !clean && !created {
            check_structure(&conn)?;
        }
        schema::checkpoint(&conn, Checkpoint::Truncate)?;
        spool::sync_dir(&settings.dir)?;
        let known = "SELECT EXISTS (SELECT 1 FROM payload WHERE seq = ?1 AND bytes IS NULL)";
        let spool = Spool::open(&settings.dir, |seq| {
            conn.query_row(known, [seq.cast_signed()], |row| row.get(0)).during("look up a payload")
        })?;
        let mut time = AgeClock::resume(past, &**clock);
        let pulse = Pulse { no: start, seen: time.observe(&**clock).age };
        let mut store = Store {
            place: place(&path)?,
            time,
            pulse,
            opened: Opened { created, clean, rebuilt: None, start },
            settings: settings.clone(),
            clock: Arc::clone(clock),
            prune_after: 0,
            passed_over: false,
            conn,
            memory,
            spool,
            id,
        };
        store.record_start()?;
        Ok(store)
    }

    fn record_start(&mut self) -> Result<(), LedgerFault> {
        let boot = self.settings.boot.clone();
        let batch = self.begin()?;
        batch.begin_life(&boot)?;
        batch.commit()
    }

    /// How the ledger was found.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// The store's name, from which ids are derived.
    pub fn id(&self) -> &[u8; 16] {
        &self.id
    }

    /// Begins a batch: everything in it is durable together when it commits, or not at all.
    ///
    /// # Errors
    /// Any fault.
    pub fn begin(&mut self) -> Result<Batch<'_>, LedgerFault> {
        self.start_batch(false)
    }

    /// Begins a batch whose loss in a power cut does no harm.
    pub(super) fn begin_lazily(&mut self) -> Result<Batch<'_>, LedgerFault> {
        self.start_batch(true)
    }

    /// The present moment on the ledger's clocks.
    pub(super) fn moment(&mut self) -> Moment {
        self.time.observe(&*self.clock)
    }

    fn start_batch(&mut self, lazy: bool) -> Result<Batch<'_>, LedgerFault> {
        let now = self.moment();
        let parts = Parts {
            conn: &self.conn,
            memory: &mut self.memory,
            spool: &mut self.spool,
            time: &mut self.time,
            pulse: &mut self.pulse,
            settings: &self.settings,
            store: self.id,
        };
        Batch::begin(parts, now, lazy)
    }

    /// The balance of all rows held.
    pub fn counts(&self) -> Counts {
        let marks = &self.memory.marks;
        Counts { accepted: marks.accepted, fates: marks.fates, pending: self.memory.open.len() as u64 }
    }

    /// The number of the newest end; 0 if there is none.
    pub fn newest_end(&self) -> u64 {
        self.memory.marks.next_no - 1
    }

    /// Keys of the dedup index, and its memory in bytes.
    pub fn index_size(&self) -> (usize, usize) {
        (self.memory.index.len(), self.memory.index.bytes())
    }

    /// Marks the stop as clean, copies the log into the database and closes it.
    ///
    /// # Errors
    /// Any fault; the ledger is then as safe as after a crash.
    pub fn close(mut self) -> Result<(), LedgerFault> {
        let mut batch = self.begin()?;
        batch.end_life()?;
        batch.commit()?;
        schema::checkpoint(&self.conn, Checkpoint::Truncate)?;
        schema::tidy_on_close(&self.conn)?;
        self.conn.close().map_err(|(_, e)| LedgerFault::of("close the ledger", e))
    }
}

fn size_of_file(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

/// Device and inode behind a path.
pub(super) fn place(path: &Path) -> Result<(u64, u64), LedgerFault> {
    let meta = fs::metadata(path).map_err(|e| LedgerFault::io("look at", path, e))?;
    Ok((meta.dev(), meta.ino()))
}

pub(super) fn store_id(conn: &Connection) -> Result<[u8; 16], LedgerFault> {
    conn.query_row("SELECT value FROM meta WHERE key = 'store'", [], |row| row.get(0))
        .optional()
        .during("read the store's id")?
        .ok_or_else(|| LedgerFault::Damaged { what: "the store's id is missing".into() })
}

fn check_structure(conn: &Connection) -> Result<(), LedgerFault> {
    let pages: i64 =
        conn.query_row("PRAGMA page_count", [], |row| row.get(0)).during("measure the ledger")?;
    if pages > CHECKED_PAGES {
        return Ok(());
    }
    let found: String =
        conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).during("check the ledger")?;
    if found == "ok" { Ok(()) } else { Err(LedgerFault::Damaged { what: found }) }
}
