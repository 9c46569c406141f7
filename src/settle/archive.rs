//! Takes an original out of the handoff folder and into its archive, without a race (`design.md` D8).
//!
//! Between a look at a name and an act on it a dropper may put another file there. So whatever is
//! behind the name is first taken into the private place under the intent's id, and judged only then.
//!
//! # Order of acts
//!
//! 1. Look at the name. Other inode, size or modification time: a new drop, which is not touched.
//! 2. Rename it to `.conductor/<id>`, replacing nothing, and look at it there. Our own rename moves the
//!    change time, so that is compared before (1); where it differed, the bytes are hashed again.
//! 3. Not the accepted bytes: it is a new drop and goes back under its name, replacing nothing. If that
//!    name is taken again it stays in the private place and filing is tried again later.
//! 4. For `failed/`: the error log, so that whoever sees the file has its log.
//! 5. Rename into the archive, replacing nothing; a taken name gives way to one with the intent's id.
//!
//! Where the original is gone or replaced, the accepted bytes from the ledger are written instead of 5.
//! With `archive = "snapshot"` that copy is written first, and what was taken is removed, but only when
//! it is proven to be the accepted bytes. Every act may be repeated after a crash between any two.
//!
//! # Limits
//!
//! A rehash reads at most the accepted size. Archive names have at most 214 bytes, with `.error.log` 224.

mod error_log;

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) use error_log::log_name;

use super::status::{Kept, cut, last_component};
use crate::config::Archive;
use crate::disk::{Clobber, Disk, EntryKind, Meta, Place};
use crate::fate::{Id, Sha};
use crate::ledger::{End, Row};

/// Mode of everything that the daemon writes into its own folders.
pub(super) const MODE: u32 = 0o640;
const NAME_BYTES: usize = 200;
const LOG_TAIL: usize = 64 << 10;

/// The accepted bytes, as the ledger keeps them.
pub trait Recall: Send + Sync {
    /// The bytes of row `seq`; `None` if it was not read or they are no longer kept.
    fn payload(&self, seq: u64) -> Option<Vec<u8>>;
}

/// Whether a row may have been settled before, in part or in whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// Never by anybody: what is found in the archive belongs to other intents.
    First,
    /// Perhaps, by this process or one before a crash: what was done is not done twice.
    Again,
}

/// Why a file could not be filed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The folder's rights forbid it (F19); somebody has to act.
    Stuck(String),
    /// Worth trying again: no space, a name taken at this moment.
    Later(String),
}

type Step<T> = Result<T, Trouble>;

/// An ended row to be filed.
#[derive(Clone, Copy)]
pub(super) struct Case<'a> {
    /// The row.
    pub(super) row: &'a Row,
    /// Its end.
    pub(super) end: &'a End,
    /// Whether it may have been tried before.
    pub(super) pass: Pass,
}

/// Files one row after the other.
pub(super) struct Filer {
    disk: Arc<dyn Disk>,
    recall: Arc<dyn Recall>,
    form: Archive,
    handoff: PathBuf,
}

/// What became of the attempt to take the original.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// It lies in the private place, proven to be the accepted file.
    Ours,
    /// The name is free or holds a new drop.
    NotThere,
}

impl Filer {
    /// `handoff` is the absolute path for error logs.
    pub(super) fn new(disk: Arc<dyn Disk>, recall: Arc<dyn Recall>, form: Archive, handoff: PathBuf) -> Self {
        Filer { disk, recall, form, handoff }
    }

    /// What the archive holds if nothing unusual happens.
    pub(super) fn expected(&self, row: &Row) -> Kept {
        match (self.form, row.sha) {
            (Archive::Snapshot, Some(_)) => Kept::Snapshot,
            // A repeat has no file of its own to be moved.
            (_, Some(_)) if row.requeue_of.is_some() => Kept::Snapshot,
            _ => Kept::Original,
        }
    }

    /// Files the row; returns what the archive holds, `None` if there was nothing left to keep.
    pub(super) fn file(&self, case: Case<'_>) -> Step<Option<Kept>> {
        let copied = self.expected(case.row) == Kept::Snapshot && self.keep_snapshot(case)?;
        match self.take(case.row)? {
            Taken::Ours if copied => {
                let private = private_name(case.row.id);
                self.disk.remove(Place::Private, &private).map_err(|err| later("remove", &private, &err))?;
                Ok(Some(Kept::Snapshot))
            }
            Taken::Ours => {
                self.keep_original(case)?;
                Ok(Some(Kept::Original))
            }
            Taken::NotThere if copied => Ok(Some(Kept::Snapshot)),
            Taken::NotThere if self.original_is_kept(case)? => Ok(Some(Kept::Original)),
            Taken::NotThere => Ok(self.keep_snapshot(case)?.then_some(Kept::Snapshot)),
        }
    }

    /// Gives a file that no row knows back to the handoff folder, to be judged like any other drop.
    pub(super) fn give_back(&self, id: Id) -> io::Result<()> {
        let name = PathBuf::from(format!("intent-{id}.json"));
        self.disk.rename((Place::Private, &private_name(id)), (Place::Handoff, &name), Clobber::Never)
    }

    /// Acts 1 to 3.
    fn take(&self, row: &Row) -> Step<Taken> {
        let (name, private) = (handoff_name(row), private_name(row.id));
        let seen = self.disk.look(Place::Handoff, name).map_err(|err| later("look at", name, &err))?;
        if let Some(seen) = seen.filter(|seen| resembles(row, seen)) {
            let unchanged = seen.identity == row.identity;
            match self.disk.rename((Place::Handoff, name), (Place::Private, &private), Clobber::Never) {
                Ok(()) => return self.judge(row, unchanged),
                // The dropper was faster, or an earlier take was not finished.
                Err(err) if matches!(err.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists) => {}
                Err(err) => return Err(cannot_take(name, &err)),
            }
        }
        self.judge(row, false)
    }

    /// Decides what lies in the private place under the row's id and gives back what is not ours.
    fn judge(&self, row: &Row, unchanged: bool) -> Step<Taken> {
        let (name, private) = (handoff_name(row), private_name(row.id));
        let found =
            self.disk.look(Place::Private, &private).map_err(|err| later("look at", &private, &err))?;
        let Some(found) = found else { return Ok(Taken::NotThere) };
        if self.is_ours(row, &found, unchanged)? {
            return Ok(Taken::Ours);
        }
        match self.disk.rename((Place::Private, &private), (Place::Handoff, name), Clobber::Never) {
            Ok(()) => Ok(Taken::NotThere),
            Err(err) if err.kind() == ErrorKind::AlreadyExists => Err(Trouble::Later(format!(
                "a new file {} is kept as .conductor/{} until its name is free again",
                name.display(),
                private.display()
            ))),
            Err(err) => Err(later("give back", name, &err)),
        }
    }

    fn is_ours(&self, row: &Row, found: &Meta, unchanged: bool) -> Step<bool> {
        let Some(sha) = row.sha else {
            // It was never read; its marks are all there is, and our rename moved the change time.
            return Ok(looks_like_unread(row, found));
        };
        if found.kind != EntryKind::File {
            return Ok(false);
        }
        if unchanged && found.identity.same_but_ctime(&row.identity) {
            return Ok(true);
        }
        self.holds(Place::Private, &private_name(row.id), found, row.identity.size, sha)
    }

    /// True if the file has exactly these bytes. A file that may not be read cannot be proven.
    fn holds(&self, at: Place, name: &Path, found: &Meta, size: u64, sha: Sha) -> Step<bool> {
        if found.kind != EntryKind::File || found.identity.size != size {
            return Ok(false);
        }
        let limit = usize::try_from(size).unwrap_or(usize::MAX);
        match self.disk.read(at, name, limit) {
            Ok(bytes) => Ok(bytes.is_some_and(|bytes| Sha::of(&bytes) == sha)),
            Err(err) if err.kind() == ErrorKind::PermissionDenied => Ok(false),
            Err(err) => Err(later("read", name, &err)),
        }
    }

    /// Acts 4 and 5.
    fn keep_original(&self, case: Case<'_>) -> Step<()> {
        let private = private_name(case.row.id);
        self.shelve(case, |at, name, clobber| {
            self.disk.rename((Place::Private, &private), (at, name), clobber)
        })
    }

    /// Writes the accepted bytes into the archive; false if there are none.
    fn keep_snapshot(&self, case: Case<'_>) -> Step<bool> {
        if self.snapshot_is_kept(case)? {
            return Ok(true);
        }
        let Some(payload) = self.recall.payload(case.row.seq) else { return Ok(false) };
        self.shelve(case, |at, name, clobber| match self.disk.create(at, name, &payload, MODE) {
            Err(err) if err.kind() == ErrorKind::AlreadyExists && clobber == Clobber::Replace => Ok(()),
            other => other,
        })?;
        Ok(true)
    }

    /// Puts something under the row's archive name. A name with the id belongs to this row alone and
    /// may be replaced.
    fn shelve(&self, case: Case<'_>, put: impl Fn(Place, &Path, Clobber) -> io::Result<()>) -> Step<()> {
        let at = archive_place(case.end);
        if let Some(plain) = plain_name(case.row)
            && !(at == Place::Failed && self.look_kept(at, plain)?.is_some())
        {
            self.log_failure(case, plain)?;
            match put(at, plain, Clobber::Never) {
                Ok(()) => return Ok(()),
                Err(err) if err.kind() == ErrorKind::AlreadyExists => {}
                Err(err) => return Err(later("archive", plain, &err)),
            }
        }
        let own = own_name(case.row);
        self.log_failure(case, &own)?;
        put(at, &own, Clobber::Replace).map_err(|err| later("archive", &own, &err))
    }

    fn look_kept(&self, at: Place, name: &Path) -> Step<Option<Meta>> {
        self.disk.look(at, name).map_err(|err| later("look at", name, &err))
    }

    /// True if an earlier pass moved the original into the archive.
    fn original_is_kept(&self, case: Case<'_>) -> Step<bool> {
        let at = archive_place(case.end);
        let original = |seen: Option<Meta>| seen.is_some_and(|seen| same_marks(&seen, case.row));
        if let Some(plain) = plain_name(case.row)
            && original(self.look_kept(at, plain)?)
        {
            return Ok(true);
        }
        Ok(original(self.look_kept(at, &own_name(case.row))?))
    }

    /// True if an earlier pass wrote the accepted bytes. Under the plain name equal bytes count, which
    /// is the only way to know: at worst two equal intents share one copy.
    fn snapshot_is_kept(&self, case: Case<'_>) -> Step<bool> {
        let (Pass::Again, Some(sha)) = (case.pass, case.row.sha) else { return Ok(false) };
        let (at, size) = (archive_place(case.end), case.row.identity.size);
        let own = own_name(case.row);
        for name in [Some(&*own), plain_name(case.row)].into_iter().flatten() {
            if let Some(seen) = self.look_kept(at, name)?
                && self.holds(at, name, &seen, size, sha)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Act 4; the log keeps the dropped name and follows the archive name.
    fn log_failure(&self, case: Case<'_>, archived: &Path) -> Step<()> {
        if archive_place(case.end) != Place::Failed {
            return Ok(());
        }
        let log = log_name(archived);
        let entry = error_log::entry(&self.handoff.join(handoff_name(case.row)), case.end);
        if case.pass == Pass::Again {
            let seen = self.look_kept(Place::Failed, &log)?;
            let limit = seen.map_or(0, |seen| usize::try_from(seen.identity.size).unwrap_or(usize::MAX));
            if limit > 0 && limit <= LOG_TAIL {
                let written =
                    self.disk.read(Place::Failed, &log, limit).map_err(|err| later("read", &log, &err))?;
                if written.is_some_and(|written| written.ends_with(&entry)) {
                    return Ok(());
                }
            }
        }
        self.disk.append(Place::Failed, &log, &entry, MODE).map_err(|err| later("append to", &log, &err))
    }
}

/// The place that the fate leads to.
pub(super) fn archive_place(end: &End) -> Place {
    if end.fate.is_success() { Place::Processed } else { Place::Failed }
}

fn handoff_name(row: &Row) -> &Path {
    Path::new(OsStr::from_bytes(&row.name))
}

fn private_name(id: Id) -> PathBuf {
    PathBuf::from(id.to_string())
}

/// The dropped name, if it is short enough to be an archive name.
pub(super) fn plain_name(row: &Row) -> Option<&Path> {
    let name = last_component(&row.name);
    (name.len() <= NAME_BYTES).then(|| Path::new(OsStr::from_bytes(name)))
}

/// The archive name that belongs to this intent alone: `<stem>-<id8>.<ext>`; of a name above 200 bytes
/// the first 200 of its stem and `-<id8>.json`.
pub(super) fn own_name(row: &Row) -> PathBuf {
    let name = Path::new(OsStr::from_bytes(last_component(&row.name)));
    let (stem, extension) = if name.as_os_str().len() > NAME_BYTES {
        (name.file_stem(), Some(OsStr::new("json")))
    } else {
        (name.file_stem(), name.extension())
    };
    let mut own = cut(stem.unwrap_or_default().as_bytes(), NAME_BYTES).to_vec();
    own.push(b'-');
    own.extend_from_slice(row.id.short().as_bytes());
    if let Some(extension) = extension {
        own.push(b'.');
        own.extend_from_slice(extension.as_bytes());
    }
    OsString::from_vec(own).into()
}

/// Inode, size and modification time as accepted; the device number may change with a restart, the
/// change time moves with every rename.
fn same_marks(seen: &Meta, row: &Row) -> bool {
    let (now, then) = (&seen.identity, &row.identity);
    (now.ino, now.size, now.mtime_ns) == (then.ino, then.size, then.mtime_ns)
}

/// As [`same_marks`] for an entry that was refused unread; a directory changes with what is in it.
fn looks_like_unread(row: &Row, seen: &Meta) -> bool {
    match seen.kind {
        EntryKind::Directory => seen.identity.ino == row.identity.ino,
        _ => same_marks(seen, row),
    }
}

/// True if what is behind the name may be the accepted file, so that it is worth taking. A file that
/// was not read cannot be hashed again: its change time decides too.
fn resembles(row: &Row, seen: &Meta) -> bool {
    match (seen.kind, row.sha) {
        (EntryKind::File, Some(_)) => same_marks(seen, row),
        (EntryKind::File, None) => same_marks(seen, row) && seen.identity.ctime_ns == row.identity.ctime_ns,
        (_, None) => looks_like_unread(row, seen),
        (_, Some(_)) => false,
    }
}

fn cannot_take(name: &Path, err: &io::Error) -> Trouble {
    match err.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Trouble::Stuck(format!(
            "cannot move {} out of the handoff folder: {err}; give the daemon's user the folder",
            name.display()
        )),
        _ => later("move", name, err),
    }
}

pub(super) fn later(act: &str, name: &Path, err: &io::Error) -> Trouble {
    Trouble::Later(format!("cannot {act} {}: {err}", name.display()))
}

#[cfg(test)]
mod tests;
