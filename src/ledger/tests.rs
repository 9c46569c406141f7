//! Behaviour of the ledger as a whole, on real files in a temporary directory.

mod attempts;
mod judging;
mod lives;
mod model;
mod recovery;
mod repeats;
mod rescue;
mod scale;
mod upkeep;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::{Clock, HandClock, Wall};
use crate::config::{self, DedupScope};
use crate::fate::Lifecycle;
use crate::intent::TargetKind;

/// A moment that reads well: 2026-11-21T08:00:00Z.
const START: Wall = Wall(1_795_248_000_000_000_000);
const DAY: Duration = Duration::from_secs(86_400);

/// A state directory, its clock, and a store that can be crashed and opened again.
struct Bed {
    dir: tempfile::TempDir,
    clock: Arc<HandClock>,
    settings: Settings,
    store: Option<Store>,
    inode: u64,
}

impl Bed {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(dir.path().join("state"), &config::Ledger::default());
        settings.boot = "boot-1".into();
        change(&mut settings);
        let clock = Arc::new(HandClock::at(Mono(1_000_000_000), START));
        let mut bed = Bed { dir, clock, settings, store: None, inode: 1 };
        bed.open();
        bed
    }

    fn open(&mut self) {
        self.store = Some(self.try_open().unwrap());
    }

    fn try_open(&self) -> Result<Store, LedgerFault> {
        Store::open(self.settings.clone(), self.clock.clone() as Arc<dyn Clock>)
    }

    fn store(&mut self) -> &mut Store {
        self.store.as_mut().unwrap()
    }

    /// Ends the process as a kill does: nothing is closed or copied.
    fn crash(&mut self) {
        self.store = None;
        self.open();
    }

    /// Opens a copy of what the files hold at this moment, in the middle of whatever is going on.
    fn copy_as_it_is(&self) -> Bed {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        for part in ["", "spool"] {
            std::fs::create_dir(state.join(part)).unwrap();
            for entry in std::fs::read_dir(self.settings.dir.join(part)).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_file() && entry.file_name() != "ledger.db-shm" {
                    std::fs::copy(entry.path(), state.join(part).join(entry.file_name())).unwrap();
                }
            }
        }
        let settings = Settings { dir: state, ..self.settings.clone() };
        let mut bed = Bed { dir, clock: self.clock.clone(), settings, store: None, inode: self.inode };
        bed.open();
        bed
    }

    /// Makes the ledger one of version 1, as its daemon closed it.
    fn age(&mut self) {
        self.store.take().unwrap().close().unwrap();
        let conn = schema::connect(&self.settings.path()).unwrap();
        conn.execute_batch(
            "DROP VIEW history; DROP TABLE attempt; DROP TABLE requeue; PRAGMA user_version = 1;",
        )
        .unwrap();
        schema::checkpoint(&conn, schema::Checkpoint::Truncate).unwrap();
    }

    fn reboot(&mut self) {
        self.store = None;
        self.settings.boot = format!("{}+", self.settings.boot).into();
        self.open();
    }

    /// A complete file with its own inode and the ctime of now.
    fn file(&mut self, name: &str, content: &str) -> Entry {
        self.inode += 1;
        let ctime_ns = self.clock.wall().0;
        Entry {
            name: name.as_bytes().into(),
            source: Source::Event,
            identity: Identity { dev: 1, ino: self.inode, size: content.len() as u64, mtime_ns: 5, ctime_ns },
            proof: Some(Proof::Rename),
            sha: Some(Sha::of(content.as_bytes())),
            target: Some(target("web")),
            priority: 5,
            valid_until: None,
            verdict: None,
            payload: Some(content.as_bytes().into()),
            sighted: self.clock.now(),
            worker: 0,
            repeat: None,
        }
    }

    fn accept(&mut self, entry: &Entry) -> Judged {
        let mut batch = self.store().begin().unwrap();
        let judged = batch.accept(entry).unwrap();
        batch.commit().unwrap();
        judged
    }

    /// Drops a file and expects it to be open.
    fn open_row(&mut self, name: &str, content: &str) -> Row {
        let entry = self.file(name, content);
        match self.accept(&entry) {
            Judged::Open(row) => row,
            other => panic!("{name} should be open, is {other:?}"),
        }
    }

    fn ended_row(&mut self, entry: &Entry) -> (Row, End) {
        match self.accept(entry) {
            Judged::Ended(row) => (row.clone(), row.end.unwrap()),
            other => panic!("should have ended, is {other:?}"),
        }
    }

    fn end(&mut self, row: &Row, fate: Fate) -> End {
        let mut batch = self.store().begin().unwrap();
        let end = batch.end(row.seq, &EndRecord::of(fate)).unwrap();
        batch.commit().unwrap();
        end
    }

    fn delivered(&mut self, name: &str, content: &str) -> Row {
        let row = self.open_row(name, content);
        self.end(&row, Fate::Delivered);
        row
    }

    fn close_all(&mut self) {
        let store = self.store();
        let newest = store.newest_end();
        let mut batch = store.begin().unwrap();
        batch.close_through(newest).unwrap();
        batch.commit().unwrap();
    }

    fn sql<T: rusqlite::types::FromSql>(&mut self, sql: &str) -> T {
        self.store().conn.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

fn target(name: &str) -> Target {
    Target { namespace: "ran".into(), kind: TargetKind::Deployment, name: name.into() }
}

fn receipt() -> Receipt {
    Receipt {
        name: "ran/deployment-web".into(),
        revision: "3".into(),
        lifecycle: Lifecycle::Published,
        adopted: false,
    }
}

fn refusal(reason: Reason) -> Verdict {
    Verdict {
        fate: Fate::Refused,
        reason,
        message: "not a number".into(),
        errors: vec![FieldError {
            path: "/replicas".into(),
            line: Some(5),
            column: None,
            message: "\"three\" is not an integer".into(),
        }],
    }
}
