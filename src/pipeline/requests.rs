//! The folder `<state>/requeue`: how a command asks the daemon to try intents again, and its answers.
//!
//! | name | what it is |
//! |---|---|
//! | `<id>` (16 hex digits) | a request, written under a temporary name, flushed, renamed in; removed once the new intent is durable |
//! | `<id>.failed` | why a request could not be honoured; removed by the next request for this intent |
//!
//! A request is at most 4,096 bytes and need not say anything: name, content and modification time tell it
//! from every other. What the command writes is where the ledger has the row, which saves a search. There is
//! at most one request for an intent at a time, so that none is removed in place of another.
//!
//! A command that asks holds the lock of the folder and removes the drafts (`.new-…`) of commands that were
//! killed. Everything else in the folder is left alone. The folder belongs to whom the state directory belongs to;
//! nobody else gets into that.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, OFlags, RenameFlags, flock, renameat_with, syncfs};
use serde_json::{Value, json};

use crate::clock::Wall;
use crate::fate::{Id, Sha};

const FOLDER: &str = "requeue";
const ANSWER: &str = ".failed";
const DRAFT: &str = ".new-";
/// Bytes of a request.
const MOST: u64 = 4_096;

/// An intent that is to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Which.
    pub id: Id,
    /// Where the ledger has it.
    pub seq: u64,
    /// It has not ended: it is held, and is to go on. Should it end before the request is taken, it is not
    /// repeated.
    pub pending: bool,
}

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The intent that is to be tried again.
    pub id: Id,
    /// Where the ledger is said to have it.
    pub seq: Option<u64>,
    /// It was pending when this was asked for.
    pub pending: bool,
    /// Tells this request from every other one.
    pub mark: u64,
    /// Modification time, nanoseconds since 1970.
    asked_ns: i64,
}

impl Request {
    /// When it was made.
    pub fn asked_at(&self) -> Wall {
        Wall(self.asked_ns)
    }
}

/// What lies in the folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Requests in the order in which they were made.
    pub requests: Vec<Request>,
    /// Intents that were asked for last in vain, see [`Requests::answer`].
    pub refused: Vec<Id>,
    /// Names that are no requests or no plain files, and what is wrong with them.
    pub odd: Vec<(OsString, String)>,
}

/// The folder.
#[derive(Debug, Clone)]
pub struct Requests {
    dir: PathBuf,
}

impl Requests {
    /// That of the state directory `state`.
    pub fn of(state: &Path) -> Self {
        Requests { dir: state.join(FOLDER) }
    }

    /// Makes the folder if it is missing: 0700, owned like the state directory.
    ///
    /// # Errors
    /// The file system's.
    pub fn make(&self) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.dir) {
            Err(err) if err.kind() == ErrorKind::AlreadyExists => return Ok(()),
            made => made?,
        }
        let Some(state) = self.dir.parent() else { return Ok(()) };
        if rustix::process::geteuid().is_root() {
            let owner = fs::metadata(state)?;
            std::os::unix::fs::chown(&self.dir, Some(owner.uid()), Some(owner.gid()))?;
        }
        File::open(state)?.sync_all()
    }

    /// Asks for intents to be tried again, in this order. One that
    /// was asked for already and not taken yet is not asked for twice. All requests are durable when this returns.
    ///
    /// Order of acts: all written under temporary names and flushed, for what tells a request from others must
    /// not change once it was seen → each renamed in → folder flushed.
    ///
    /// # Errors
    /// The file system's; some may have been asked for then.
    pub fn ask(&self, wishes: &[Wish], now: Wall) -> io::Result<()> {
        self.make()?;
        let dir = File::open(&self.dir)?;
        // One command at a time: a draft that is there now was left by one that was killed.
        flock(&dir, FlockOperation::LockExclusive)?;
        self.clear_drafts()?;
        let written: io::Result<()> = wishes.iter().try_for_each(|Wish { id, seq, pending }| {
            let content =
                json!({ "seq": seq, "pending": pending, "asked_at_ns": now.0, "pid": std::process::id() });
            write_new(&self.draft_path(*id), format!("{content}\n").as_bytes())
        });
        let asked = written.and_then(|()| Ok(syncfs(&dir)?)).and_then(|()| {
            wishes.iter().try_for_each(|Wish { id, .. }| {
                remove(&self.answer_path(*id))?;
                match rename_new(&self.draft_path(*id), &self.request_path(*id)) {
                    Err(err) if err.kind() == ErrorKind::AlreadyExists => remove(&self.draft_path(*id)),
                    placed => placed,
                }
            })
        });
        if asked.is_err() {
            wishes.iter().for_each(|Wish { id, .. }| _ = remove(&self.draft_path(*id)));
        }
        asked?;
        dir.sync_all()
    }

    /// True while a request for this intent waits to be taken.
    pub fn waits(&self, id: Id) -> bool {
        self.request_path(id).symlink_metadata().is_ok()
    }

    /// Why the last request for this intent was not honoured.
    pub fn answer(&self, id: Id) -> Option<String> {
        let text = fs::read_to_string(self.answer_path(id)).ok()?;
        Some(text.trim_end().to_owned())
    }

    /// Notes why a request is not honoured, then removes it.
    ///
    /// # Errors
    /// The file system's; the request may then still be there.
    pub fn refuse(&self, id: Id, why: &str) -> io::Result<()> {
        let temporary = self.dir.join(format!(".answer-{id}"));
        remove(&temporary)?;
        write_new(&temporary, format!("{why}\n").as_bytes())?;
        fs::rename(&temporary, self.answer_path(id))?;
        self.remove(id)
    }

    /// Removes a request; fine if it is not there.
    ///
    /// # Errors
    /// The file system's.
    pub fn remove(&self, id: Id) -> io::Result<()> {
        remove(&self.request_path(id))
    }

    /// When the folder was last changed, nanoseconds since 1970; `None` while there is none.
    pub fn changed(&self) -> Option<i64> {
        let seen = fs::symlink_metadata(&self.dir).ok()?;
        Some(modified(&seen))
    }

    /// Everything in the folder; nothing if there is none.
    ///
    /// # Errors
    /// The file system's, where the folder itself cannot be read.
    pub fn list(&self) -> io::Result<Listing> {
        let entries = match fs::read_dir(&self.dir) {
            Err(err) if err.kind() == ErrorKind::NotFound => return Ok(Listing::default()),
            entries => entries?,
        };
        let mut listing = Listing::default();
        for entry in entries {
            let name = entry?.file_name();
            let Some(text) = name.to_str() else {
                listing.odd.push((name, "is no intent id".into()));
                continue;
            };
            if text.starts_with('.') {
                continue;
            }
            if let Some(of) = text.strip_suffix(ANSWER) {
                listing.refused.extend(request_id(of));
                continue;
            }
            match request_id(text).ok_or_else(|| "is no intent id".to_owned()).and_then(|id| self.read(id)) {
                Ok(request) => listing.requests.extend(request),
                Err(wrong) => listing.odd.push((name, wrong)),
            }
        }
        listing.refused.sort_unstable();
        listing.requests.sort_by_key(|request| (request.asked_ns, request.seq, request.id));
        Ok(listing)
    }

    /// One request; `None` if it is gone, what is wrong with it if it is none.
    fn read(&self, id: Id) -> Result<Option<Request>, String> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(self.request_path(id));
        let file = match opened {
            Err(err) if err.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|err| format!("cannot be opened: {err}"))?,
        };
        let seen = file.metadata().map_err(|err| format!("cannot be looked at: {err}"))?;
        if !seen.is_file() {
            return Err("is no plain file".into());
        }
        let mut content = Vec::new();
        file.take(MOST + 1).read_to_end(&mut content).map_err(|err| format!("cannot be read: {err}"))?;
        if content.len() as u64 > MOST {
            return Err(format!("is longer than {MOST} bytes"));
        }
        let asked_ns = modified(&seen);
        let said: Value = serde_json::from_slice(&content).unwrap_or_default();
        let (seq, pending) = (said["seq"].as_u64(), said["pending"] == true);
        content.extend_from_slice(&asked_ns.to_be_bytes());
        content.extend_from_slice(&id.0.to_be_bytes());
        let Sha(digest) = Sha::of(&content);
        let mut mark = [0; 8];
        mark.copy_from_slice(&digest[..8]);
        Ok(Some(Request { id, seq, pending, mark: u64::from_be_bytes(mark), asked_ns }))
    }

    fn request_path(&self, id: Id) -> PathBuf {
        self.dir.join(id.to_string())
    }

    fn draft_path(&self, id: Id) -> PathBuf {
        self.dir.join(format!("{DRAFT}{id}"))
    }

    fn clear_drafts(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_name().as_bytes().starts_with(DRAFT.as_bytes()) && !entry.file_type()?.is_dir() {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    fn answer_path(&self, id: Id) -> PathBuf {
        self.dir.join(format!("{id}{ANSWER}"))
    }
}

/// Lower-case digits only, so that every intent has one name.
fn request_id(name: &str) -> Option<Id> {
    let id: Id = name.parse().ok()?;
    (id.to_string() == name).then_some(id)
}

fn modified(seen: &fs::Metadata) -> i64 {
    seen.mtime().saturating_mul(1_000_000_000).saturating_add(seen.mtime_nsec())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// A new file with these bytes; whoever gets into the folder may read it.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))
        .and_then(|()| file.write_all(bytes))
        .inspect_err(|_| _ = fs::remove_file(path))
}

/// Renames without replacing anything: `AlreadyExists` if the name is taken. Where the file system cannot
/// do that in one step, a link takes the name and the old one is removed.
///
/// # Errors
/// The file system's; the file then still has its old name.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        renamed => renamed.map_err(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Id = Id(0x9f2c_31aa_07d1_4be2);
    const TWO: Id = Id(0x0000_0000_0000_0001);

    fn wish(id: Id, seq: u64) -> Wish {
        Wish { id, seq, pending: false }
    }

    fn folder() -> (tempfile::TempDir, Requests) {
        let state = tempfile::tempdir().unwrap();
        let requests = Requests::of(state.path());
        (state, requests)
    }

    #[test]
    fn a_request_waits_until_it_is_taken_and_there_is_one_an_intent() {
        let (state, requests) = folder();
        assert_eq!((requests.changed(), requests.list().unwrap()), (None, Listing::default()));
        requests.ask(&[wish(ONE, 7)], Wall(1)).unwrap();
        let first = requests.list().unwrap().requests[0].mark;
        requests.ask(&[wish(ONE, 7), wish(TWO, 8)], Wall(2)).unwrap();
        let listing = requests.list().unwrap();
        assert_eq!(
            listing.requests.iter().map(|request| request.seq).collect::<Vec<_>>(),
            [Some(7), Some(8)]
        );
        assert_eq!(listing.requests[0].mark, first, "asked for already");
        assert!(listing.odd.is_empty() && requests.waits(ONE));
        let left = fs::read_dir(state.path().join("requeue")).unwrap().count();
        assert_eq!(left, 2, "no draft is left");
        let draft = state.path().join("requeue/.new-of-one-that-was-killed");
        fs::write(&draft, b"half").unwrap();
        requests.ask(&[wish(ONE, 7)], Wall(3)).unwrap();
        assert!(!draft.exists());
        requests.remove(ONE).unwrap();
        requests.remove(ONE).unwrap();
        assert!(!requests.waits(ONE) && requests.waits(TWO));
    }

    #[test]
    fn two_requests_for_one_intent_are_told_apart_and_one_is_the_same_when_seen_again() {
        let (_state, requests) = folder();
        let mark = |now| {
            requests.ask(&[wish(ONE, 7)], Wall(now)).unwrap();
            let marks = [(); 2].map(|()| requests.list().unwrap().requests[0].mark);
            assert_eq!(marks[0], marks[1]);
            requests.remove(ONE).unwrap();
            marks[0]
        };
        assert_ne!(mark(1), mark(2));
    }

    #[test]
    fn an_answer_replaces_its_request_and_the_next_request_its_answer() {
        let (_state, requests) = folder();
        requests.ask(&[wish(ONE, 7)], Wall(1)).unwrap();
        requests.refuse(ONE, "its bytes are gone").unwrap();
        assert_eq!(
            (requests.waits(ONE), requests.answer(ONE).as_deref()),
            (false, Some("its bytes are gone"))
        );
        assert_eq!(requests.list().unwrap(), Listing { refused: vec![ONE], ..Listing::default() });
        requests.ask(&[wish(ONE, 7)], Wall(2)).unwrap();
        assert_eq!((requests.waits(ONE), requests.answer(ONE)), (true, None));
        assert!(!requests.list().unwrap().requests[0].pending);
        requests.remove(ONE).unwrap();
        requests.ask(&[Wish { pending: true, ..wish(ONE, 7) }], Wall(3)).unwrap();
        assert!(requests.list().unwrap().requests[0].pending);
    }

    #[test]
    fn a_request_made_by_hand_counts_and_what_is_none_is_left() {
        let (state, requests) = folder();
        requests.make().unwrap();
        let dir = state.path().join("requeue");
        fs::write(dir.join(ONE.to_string()), b"").unwrap();
        fs::write(dir.join("9F2C31AA07D14BE2"), b"").unwrap();
        fs::write(dir.join("readme"), b"").unwrap();
        fs::write(dir.join(".new-half"), b"").unwrap();
        fs::write(dir.join(format!("{TWO}")), vec![b' '; 5_000]).unwrap();
        fs::create_dir(dir.join("00000000000000aa")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.join("00000000000000ab")).unwrap();
        rustix::fs::mknodat(CWD, dir.join("00000000000000ac"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
        let listing = requests.list().unwrap();
        assert_eq!(
            listing.requests.iter().map(|request| (request.id, request.seq)).collect::<Vec<_>>(),
            [(ONE, None)]
        );
        assert_eq!(listing.odd.len(), 6, "{:?}", listing.odd);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 8, "nothing was removed");
    }
}
