//! Removes what has lain long enough in `processed/`, `failed/` and `status/`: oldest first.
//!
//! Age is the time since the change time, which our own rename into the archive sets and a dropper
//! cannot forge. Size is what a file takes on the disk: a sparse file that claims a terabyte must not
//! push everything else out. A pending status is never removed, nor the journal in use, nor a directory.
//!
//! # Limits
//!
//! 1,000 deletions a second; one listing of one place a step, and only every 10 minutes where nothing is
//! to do: steps in between touch nothing; the 10,000 oldest names of one place in memory (about 1.5 MB). A listing looks at every entry
//! (about a second per million), so this runs beside settling, never in it.

use std::collections::BinaryHeap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::JOURNAL;
use super::archive::log_name;
use crate::clock::{Mono, Wall};
use crate::disk::{Disk, EntryKind, Place};

const PORTION: u64 = 1_000;
const PORTION_TIME: Duration = Duration::from_secs(1);
const ROUND_TIME: Duration = Duration::from_secs(600);
const REMEMBERED: usize = 10_000;
/// Beginning of a status document that is read to see whether it is pending; its `status` key stands
/// before anything of variable length but the name.
const HEAD: usize = 32 << 10;
const PLACES: [Place; 3] = [Place::Processed, Place::Failed, Place::Status];

/// What a step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Files removed; an error log counts as a file.
    pub deleted: u64,
    /// Files of the whole round that were young enough but did not fit; told once, by the last step of
    /// the round, and worth a warning.
    pub crowded_out: u64,
    /// When the next step is due.
    pub next: Mono,
    /// What could not be listed or removed, the last of several; it is passed over in this round.
    pub fault: Option<String>,
}

/// An entry that may be removed; ordered by age, oldest first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    ctime_ns: i64,
    name: PathBuf,
    bytes: u64,
}

/// The rule of age and size, and how far the present round has come.
pub struct Retention {
    disk: Arc<dyn Disk>,
    keep_for: Duration,
    keep_size: u64,
    /// The places of this round that are still to be listed, last first.
    ahead: Vec<Place>,
    place: Place,
    /// Candidates of `place`, youngest first.
    oldest: Vec<Candidate>,
    /// Bytes that lie in `place`.
    held: u64,
    /// True if `place` had more entries than are remembered.
    more: bool,
    /// Files of this round that went because of size alone.
    crowded_out: u64,
    /// When there is something to do again.
    next: Mono,
}

impl Retention {
    /// `keep_for` and `keep_size` (bytes, of each place) as configured; zero means no limit.
    pub fn new(disk: Arc<dyn Disk>, keep_for: Duration, keep_size: u64) -> Self {
        let oldest = Vec::new();
        Retention {
            disk,
            keep_for,
            keep_size,
            ahead: Vec::new(),
            place: PLACES[0],
            oldest,
            held: 0,
            more: false,
            crowded_out: 0,
            next: Mono(0),
        }
    }

    /// Takes other limits and lets the next step begin at once.
    pub fn set_limits(&mut self, keep_for: Duration, keep_size: u64) {
        if (self.keep_for, self.keep_size) != (keep_for, keep_size) {
            (self.keep_for, self.keep_size) = (keep_for, keep_size);
            // What this round chose by the old limits is chosen again.
            self.oldest.clear();
            self.ahead.clear();
            self.more = false;
            self.next = Mono(0);
        }
    }

    /// Goes on with the round, or begins one: at most one listing and 1,000 deletions. `wall` judges
    /// ages, `now` dates the next step. Before the moment that the last report named, nothing is done.
    pub fn step(&mut self, now: Mono, wall: Wall) -> Report {
        let mut fault = None;
        if now < self.next {
            return Report { deleted: 0, crowded_out: 0, next: self.next, fault };
        }
        if self.is_resting() {
            self.ahead = PLACES.iter().rev().copied().collect();
        }
        if self.oldest.is_empty()
            && let Some(place) = self.ahead.pop()
            && let Err(err) = self.survey(place)
        {
            fault = Some(format!("cannot list {place:?} for what may be removed: {err}"));
        }
        let deleted = self.portion(wall, &mut fault);
        let (wait, crowded_out) = match self.is_resting() {
            true => (ROUND_TIME, std::mem::take(&mut self.crowded_out)),
            false => (PORTION_TIME, 0),
        };
        self.next = now.after(wait);
        Report { deleted, crowded_out, next: self.next, fault }
    }

    fn is_resting(&self) -> bool {
        self.ahead.is_empty() && self.oldest.is_empty()
    }

    /// Removes what is due, oldest first, and lists the place again if more than is remembered was.
    fn portion(&mut self, wall: Wall, fault: &mut Option<String>) -> u64 {
        let mut deleted = 0;
        while deleted < PORTION
            && let Some(oldest) = self.oldest.pop()
        {
            let too_old = self.is_too_old(&oldest, wall);
            if !too_old && !self.is_crowded() {
                self.oldest.clear();
                self.more = false;
                break;
            }
            match self.delete(&oldest) {
                Ok(count) => {
                    deleted += count;
                    self.crowded_out += if too_old { 0 } else { count };
                }
                Err(err) => *fault = Some(format!("cannot remove {}: {err}", oldest.name.display())),
            }
        }
        if self.oldest.is_empty() && std::mem::take(&mut self.more) && deleted > 0 {
            self.ahead.push(self.place);
        }
        deleted
    }

    /// Lists one place: its size, and its oldest entries.
    fn survey(&mut self, place: Place) -> io::Result<()> {
        let (mut heap, mut held, mut more) = (BinaryHeap::new(), 0u64, false);
        let mut failed = None;
        self.disk.list(place, Path::new(""), &mut |name| {
            if failed.is_some() || !is_candidate(place, name) {
                return;
            }
            match self.weigh(place, name) {
                Ok(None) => {}
                Ok(Some(candidate)) => {
                    held = held.saturating_add(candidate.bytes);
                    heap.push(candidate);
                    if heap.len() > REMEMBERED {
                        heap.pop();
                        more = true;
                    }
                }
                Err(err) => failed = Some(err),
            }
        })?;
        if let Some(err) = failed {
            return Err(err);
        }
        self.oldest = heap.into_sorted_vec();
        self.oldest.reverse();
        (self.place, self.held, self.more) = (place, held, more);
        Ok(())
    }

    /// An entry with its error log, which goes when it goes; a log whose file is gone stands alone.
    fn weigh(&self, place: Place, name: &OsStr) -> io::Result<Option<Candidate>> {
        let name = Path::new(name);
        let Some(seen) = self.disk.look(place, name)? else { return Ok(None) };
        if seen.kind == EntryKind::Directory {
            return Ok(None);
        }
        let mut bytes = seen.allocated;
        if place == Place::Failed {
            if let Some(archived) = name.as_os_str().as_bytes().strip_suffix(b".error.log")
                && self.disk.look(place, Path::new(OsStr::from_bytes(archived)))?.is_some()
            {
                return Ok(None);
            }
            if let Some(log) = self.disk.look(place, &log_name(name))? {
                bytes = bytes.saturating_add(log.allocated);
            }
        }
        Ok(Some(Candidate { ctime_ns: seen.identity.ctime_ns, name: name.to_owned(), bytes }))
    }

    fn is_too_old(&self, candidate: &Candidate, wall: Wall) -> bool {
        !self.keep_for.is_zero() && Wall(candidate.ctime_ns).after(self.keep_for) < wall
    }

    fn is_crowded(&self) -> bool {
        self.keep_size > 0 && self.held > self.keep_size
    }

    /// Removes the file, then its log; returns how many files that were.
    fn delete(&mut self, candidate: &Candidate) -> io::Result<u64> {
        if self.place == Place::Status && self.is_pending(&candidate.name)? {
            return Ok(0);
        }
        self.disk.remove(self.place, &candidate.name)?;
        self.held = self.held.saturating_sub(candidate.bytes);
        let mut deleted = 1;
        let log = log_name(&candidate.name);
        if self.place == Place::Failed && self.disk.look(self.place, &log)?.is_some() {
            self.disk.remove(self.place, &log)?;
            deleted += 1;
        }
        Ok(deleted)
    }

    /// True for the status of an intent that has not ended. A line of the indented document cannot occur
    /// inside a string of it: line feeds are escaped there.
    fn is_pending(&self, name: &Path) -> io::Result<bool> {
        const PENDING: &[u8] = b"\n  \"status\": \"pending\",\n";
        let head = self.disk.read(Place::Status, name, HEAD)?.unwrap_or_default();
        Ok(head.windows(PENDING.len()).any(|window| window == PENDING))
    }
}

/// True for names that archiving and reporting give; the journal in use and temporary files are not.
fn is_candidate(place: Place, name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    match place {
        Place::Status => bytes.ends_with(b".status") || bytes.ends_with(b".jsonl") && name != JOURNAL,
        _ => !bytes.starts_with(b"."),
    }
}

#[cfg(test)]
mod tests;
