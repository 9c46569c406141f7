//! Judging a file at its acceptance: what it repeats, what it comes too late for (`design.md` D9, D10).
//!
//! Compared with the newest valid row of its name, a file is
//! 1. *known*, when it is that row's very file and the row is not closed: it is on its way out of the
//!    folder, and nothing is written;
//! 2. a *duplicate*, when it has the same content, within the window, and that row is pending or
//!    delivered;
//! 3. *too late*, when only a scan found it and its ctime is older than that of an intent accepted
//!    for its target since the wall clock last went back;
//! 4. *open* otherwise. Its generation is the number of earlier valid rows with its name and content.
//!
//! A deliberate repeat is none of the first three: whatever it repeats, it is open, with a generation above
//! that of the intent that it tries again. It has no file, hence no ctime to be too late by, or to make
//! others late.
//!
//! With scope `content` the newest valid row of its content takes the place of that of its name. Rows
//! that ended at once by a worker's verdict, and duplicates, are never compared with.

use std::time::Duration;

use rusqlite::OptionalExtension as _;

use super::batch::Batch;
use super::fault::{During as _, LedgerFault};
use super::memory::Former;
use super::{EndRecord, Entry, Repeat, row};
use crate::clock::Wall;
use crate::config::DedupScope;
use crate::disk::Identity;
use crate::fate::{Fate, Id, Reason, Sha, Source};
use crate::intent::Target;

/// A [`Prior`] by its number.
pub(super) const PRIOR: &str = "SELECT name, sha, generation, age, id, accepted, dev, ino, size, mtime, ctime \
     FROM intent WHERE seq = ?1";

/// An earlier row that a file is compared with.
pub(super) struct Prior {
    seq: u64,
    pub(super) name: Box<[u8]>,
    sha: Option<Sha>,
    pub(super) generation: u32,
    age: i64,
    id: Id,
    accepted: Wall,
    identity: Identity,
}

/// What is decided about a file before anything is written.
pub(super) enum Decision {
    /// The row of this very file is not closed yet.
    Known(u64),
    /// The worker has judged it.
    Verdict,
    /// Nothing new.
    Duplicate(Prior),
    /// To be delivered.
    Open { generation: u32, former: Former },
    /// Too late.
    Older { generation: u32, former: Former, by: Prior },
}

impl Batch<'_> {
    /// Decides about a file; writes nothing.
    pub(super) fn judge(&mut self, entry: &Entry) -> Result<Decision, LedgerFault> {
        if let Some(repeat) = &entry.repeat {
            return self.repeated(entry, repeat);
        }
        if let Some(seq) = self.memory.unfiled_of(&entry.name)
            && self.prior(seq)?.is_some_and(|prior| prior.is_same_file(entry))
        {
            return Ok(Decision::Known(seq));
        }
        let Some(sha) = &entry.sha else { return Ok(Decision::unread(entry)) };
        let newest = self.newest(entry, sha)?;
        if let Some(prior) = &newest
            && prior.is_same_file(entry)
            && !self.is_closed(prior.seq)?
        {
            return Ok(Decision::Known(prior.seq));
        }
        if entry.verdict.is_some() {
            return Ok(Decision::Verdict);
        }
        if let Some(prior) = newest {
            let age = Duration::from_micros((self.now.age - prior.age).max(0).cast_unsigned());
            let same = prior.sha.as_ref() == Some(sha);
            if same && age <= self.settings.dedup_window && self.stands(prior.seq)? {
                return Ok(Decision::Duplicate(prior));
            }
            let generation = self.generation(entry, sha, &prior)?;
            let former = self.memory.former(&entry.name, sha, prior.sha.as_ref());
            return self.in_order(entry, generation, former);
        }
        self.in_order(entry, 0, Former::Same)
    }

    /// What somebody asked to have tried again.
    fn repeated(&mut self, entry: &Entry, repeat: &Repeat) -> Result<Decision, LedgerFault> {
        let (Some(sha), None) = (&entry.sha, &entry.verdict) else { return Ok(Decision::unread(entry)) };
        let (generation, former) = match self.newest(entry, sha)? {
            None => (0, Former::Same),
            Some(prior) => (
                self.generation(entry, sha, &prior)?,
                self.memory.former(&entry.name, sha, prior.sha.as_ref()),
            ),
        };
        Ok(Decision::Open { generation: generation.max(repeat.generation.saturating_add(1)), former })
    }

    /// Remembers which request made a row, in the transaction that accepts it.
    pub(super) fn note_repeat(&self, seq: u64, repeat: &Repeat) -> Result<(), LedgerFault> {
        let values = [seq, repeat.of.0, repeat.request].map(u64::cast_signed);
        self.run("INSERT INTO requeue VALUES (?1, ?2, ?3)", values)
    }

    /// The newest valid row of the name (or of the content), confirmed.
    fn newest(&mut self, entry: &Entry, sha: &Sha) -> Result<Option<Prior>, LedgerFault> {
        let Some(seq) = self.memory.index.get(self.memory.first_key(&entry.name, sha)) else {
            return Ok(None);
        };
        let scope = self.settings.dedup_scope;
        Ok(self.prior(seq)?.filter(|prior| match scope {
            DedupScope::NameAndContent => prior.name == entry.name,
            DedupScope::Content => prior.sha.as_ref() == Some(sha),
        }))
    }

    /// How many valid rows there were with this name and content.
    fn generation(&mut self, entry: &Entry, sha: &Sha, newest: &Prior) -> Result<u32, LedgerFault> {
        if newest.sha.as_ref() == Some(sha) {
            return Ok(newest.generation.saturating_add(1));
        }
        let Some(seq) = self.memory.index.get(self.memory.content_key(&entry.name, sha)) else {
            return Ok(0);
        };
        let earlier = self.prior(seq)?.filter(|p| p.name == entry.name && p.sha.as_ref() == Some(sha));
        Ok(earlier.map_or(0, |earlier| earlier.generation.saturating_add(1)))
    }

    /// A file that only a scan found may be older than what was applied to its target meanwhile.
    fn in_order(&mut self, entry: &Entry, generation: u32, former: Former) -> Result<Decision, LedgerFault> {
        if entry.source == Source::Scan
            && let Some(target) = &entry.target
            && let Some((ctime, seq)) = self.memory.newest_of(target)
            && entry.identity.ctime_ns < ctime
            && self.is_for(seq, target)?
            && let Some(by) = self.prior(seq)?
        {
            return Ok(Decision::Older { generation, former, by });
        }
        Ok(Decision::Open { generation, former })
    }

    /// True while a row is pending or once it is delivered.
    fn stands(&self, seq: u64) -> Result<bool, LedgerFault> {
        Ok(self.memory.open.contains_key(&seq)
            || self.outcome_of(seq)?.is_some_and(|(_, fate)| fate == Fate::Delivered))
    }

    fn is_closed(&self, seq: u64) -> Result<bool, LedgerFault> {
        Ok(!self.memory.open.contains_key(&seq)
            && !self.memory.unfiled.contains_key(&seq)
            && self.outcome_of(seq)?.is_some_and(|(no, _)| no <= self.memory.marks.closed_no))
    }

    pub(super) fn outcome_of(&self, seq: u64) -> Result<Option<(u64, Fate)>, LedgerFault> {
        let find =
            |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, u8>(1)?));
        let found = self
            .conn
            .prepare_cached("SELECT no, fate FROM outcome WHERE seq = ?1")
            .and_then(|mut select| select.query_row([seq.cast_signed()], find).optional())
            .during("look up an outcome")?;
        Ok(found.and_then(|(no, code)| Some((no, Fate::from_code(code)?))))
    }

    fn is_for(&self, seq: u64, target: &Target) -> Result<bool, LedgerFault> {
        let found = self
            .conn
            .prepare_cached("SELECT namespace, kind, target FROM intent WHERE seq = ?1")
            .and_then(|mut select| {
                select.query_row([seq.cast_signed()], |found| row::target(found, 0)).optional()
            })
            .during("look up an earlier target")?;
        Ok(found.flatten().as_ref() == Some(target))
    }

    pub(super) fn prior(&mut self, seq: u64) -> Result<Option<Prior>, LedgerFault> {
        let read = |row: &rusqlite::Row<'_>| {
            Ok(Prior {
                seq,
                name: row.get_ref(0)?.as_blob()?.into(),
                sha: row::sha(row, 1)?,
                generation: row.get(2)?,
                age: row.get(3)?,
                id: Id(row.get::<_, i64>(4)?.cast_unsigned()),
                accepted: Wall(row.get(5)?),
                identity: row::identity(row, 6)?,
            })
        };
        let found = self.statements.prior.query_row([seq.cast_signed()], read).optional();
        found.during("look up an earlier intent")
    }
}

impl Prior {
    /// The name under which its file may lie in the handoff folder; none for a repeat, which has no file.
    pub(super) fn name_in_folder(&self) -> &[u8] {
        if self.identity.ino == 0 { b"" } else { &self.name }
    }

    /// The very file of that row, with the very bytes: it is still on its way out of the folder.
    fn is_same_file(&self, entry: &Entry) -> bool {
        self.name == entry.name && self.sha == entry.sha && self.identity.same_but_ctime(&entry.identity)
    }
}

impl Decision {
    /// A file that was not read carries its verdict; without one there is nothing to compare.
    fn unread(entry: &Entry) -> Self {
        match entry.verdict {
            Some(_) => Decision::Verdict,
            None => Decision::Open { generation: 0, former: Former::Same },
        }
    }

    /// The end of a row that ends by being accepted.
    pub(super) fn record(&self, entry: &Entry) -> Option<EndRecord> {
        let said = |prior: &Prior, what: &str| {
            let name = String::from_utf8_lossy(&prior.name);
            format!("{what} {name} ({}), accepted {}", prior.id, prior.accepted.seconds())
        };
        match self {
            Decision::Known(_) | Decision::Open { .. } => None,
            Decision::Verdict => {
                let Some(verdict) = &entry.verdict else { return None };
                Some(EndRecord {
                    reason: Some(verdict.reason),
                    message: verdict.message.clone(),
                    errors: verdict.errors.clone(),
                    ..EndRecord::of(verdict.fate)
                })
            }
            Decision::Duplicate(prior) => Some(EndRecord {
                message: said(prior, "same content as"),
                related: Some(prior.id),
                ..EndRecord::of(Fate::Duplicate)
            }),
            Decision::Older { by, .. } => Some(EndRecord {
                reason: Some(Reason::OlderThanApplied),
                message: said(by, "older than"),
                related: Some(by.id),
                ..EndRecord::of(Fate::Superseded)
            }),
        }
    }
}
