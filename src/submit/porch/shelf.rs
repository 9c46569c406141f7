//! What is known of the packages on the server.
//!
//! Remembered from our own writes, so that a delivery needs no reading in between; forgotten after every
//! error, and asked for anew. Others publish too, and the server lets a revision start from any older one and
//! merges nothing: a package that was listed more than 60 s ago is listed again before the next revision
//! begins, one request of 5 to 27 ms a minute and package. Files are kept for the packages used last, at most
//! 8 MiB of text.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::api::{Files, Revision, Stage};
use super::names;
use crate::package::{MANY_FILES, holds_key};

/// The annotation that carries the key of the intent, or group, that began a revision.
pub(super) const KEY: &str = "conductor-loop.nephoran.com/intent-sha256";

/// Bytes of files that are remembered.
const ROOM: usize = 8 << 20;
/// How long a listing is relied on.
const TRUSTED: Duration = Duration::from_secs(60);

/// What is known of one package.
#[derive(Debug, Clone, Default)]
pub(super) struct Shelf {
    /// Published revisions, ours and others', the newest first.
    pub(super) published: Vec<Revision>,
    /// Our one revision that is not published.
    pub(super) open: Option<Revision>,
    /// Names of revisions that are somebody else's draft or proposal, or on their way out.
    pub(super) others: Vec<String>,
    /// When the server was asked.
    listed: Option<Instant>,
}

/// True for a revision that a daemon of this kind began: its workspace says so, and its annotation, which
/// a failed create may have lost, does not deny it.
pub(super) fn is_ours(revision: &Revision) -> bool {
    let key = revision.workspace.strip_prefix("i-").unwrap_or_default();
    names::is_ours(&revision.workspace)
        && revision.annotations.get(KEY).is_none_or(|annotated| annotated.starts_with(key))
}

impl Shelf {
    /// Sorts the revisions of one package.
    pub(super) fn of(revisions: Vec<Revision>) -> Shelf {
        let mut shelf = Shelf { listed: Some(Instant::now()), ..Shelf::default() };
        for revision in revisions {
            match revision.stage {
                Stage::Published => shelf.published.push(revision),
                Stage::Draft | Stage::Proposed if is_ours(&revision) && !revision.deleting => {
                    // Two of ours can be left by a server that lost track; the newest goes on.
                    let newer = shelf.open.as_ref().is_none_or(|open| open.created <= revision.created);
                    let older = if newer { shelf.open.replace(revision) } else { Some(revision) };
                    shelf.others.extend(older.map(|revision| revision.name));
                }
                _ => shelf.others.push(revision.name),
            }
        }
        shelf.published.sort_by_key(|revision| std::cmp::Reverse(revision.number));
        shelf
    }

    /// True if somebody else may have published since the server was asked.
    pub(super) fn is_old(&self) -> bool {
        self.listed.is_none_or(|listed| listed.elapsed() >= TRUSTED)
    }

    /// What a new listing makes of what is known. One that lacks what our own writes came to is of a server
    /// whose cache went back, and is not believed.
    pub(super) fn renewed(self, listed: Shelf) -> Shelf {
        let newest = |shelf: &Shelf| shelf.latest().map(|latest| latest.number);
        let shows = |name: &String| listed.named(name).is_some() || listed.others.contains(name);
        let is_behind =
            newest(&listed) < newest(&self) || self.open.as_ref().is_some_and(|open| !shows(&open.name));
        match is_behind {
            true => Shelf { listed: listed.listed, ..self },
            false => listed,
        }
    }

    /// The revision from which the next one starts.
    pub(super) fn latest(&self) -> Option<&Revision> {
        self.published.first()
    }

    /// The revision of this name, if it is published or our open one.
    pub(super) fn named(&self, name: &str) -> Option<&Revision> {
        self.open.iter().chain(&self.published).find(|revision| revision.name == name)
    }

    /// Our open one, then our published ones, the newest first.
    pub(super) fn ours(&self) -> impl Iterator<Item = &Revision> {
        self.open.iter().chain(self.published.iter().filter(|revision| is_ours(revision)))
    }

    /// Puts what a write has answered in its place.
    pub(super) fn settle(&mut self, revision: Revision) {
        self.open.take_if(|open| open.name == revision.name);
        self.published.retain(|published| published.name != revision.name);
        match revision.stage {
            Stage::Published => self.published.insert(0, revision),
            Stage::Draft | Stage::Proposed => self.open = Some(revision),
            Stage::DeletionProposed => self.others.push(revision.name),
        }
    }
}

/// All that is remembered.
#[derive(Debug, Default)]
pub(super) struct Memory {
    shelves: HashMap<String, Shelf>,
    files: HashMap<String, Files>,
    bytes: usize,
    /// Packages of many files that the operator was told of.
    large: HashSet<String>,
}

impl Memory {
    /// What is known of `package`; `None` if it must be asked for.
    pub(super) fn shelf(&mut self, package: &str) -> Option<&mut Shelf> {
        self.shelves.get_mut(package)
    }

    /// True the first time that the package is seen with more files than its server compares in reasonable time.
    pub(super) fn grew_large(&mut self, package: &str, files: usize) -> bool {
        files > MANY_FILES && self.large.insert(package.to_owned())
    }

    /// The package is as the server says.
    pub(super) fn know(&mut self, package: &str, shelf: Shelf) -> &mut Shelf {
        self.shelves.insert(package.to_owned(), shelf);
        self.shelves.entry(package.to_owned()).or_default()
    }

    /// Nothing that was known of `package` is relied on any more, but for files that nobody can change: those of
    /// published revisions.
    pub(super) fn forget(&mut self, package: &str) {
        let published = self.shelves.remove(package).map(|shelf| shelf.published).unwrap_or_default();
        let changes = |name: &&String| {
            names::parts(name).is_some_and(|(_, of, _)| of == package)
                && !published.iter().any(|revision| revision.name == **name)
        };
        let names: Vec<String> = self.files.keys().filter(changes).cloned().collect();
        names.iter().for_each(|name| self.drop_files(name));
    }

    /// The files of a revision, if they are remembered.
    pub(super) fn files(&self, name: &str) -> Option<&Files> {
        self.files.get(name)
    }

    /// Remembers the files of a revision instead of those of `before`.
    pub(super) fn keep_files(&mut self, name: &str, before: Option<&str>, files: Files) {
        self.drop_files(name);
        if let Some(before) = before {
            self.drop_files(before);
        }
        let size = size(&files.texts);
        if self.bytes + size > ROOM {
            self.files.clear();
            self.bytes = 0;
        }
        if size <= ROOM {
            self.bytes += size;
            self.files.insert(name.to_owned(), files);
        }
    }

    fn drop_files(&mut self, name: &str) {
        if let Some(files) = self.files.remove(name) {
            self.bytes -= size(&files.texts);
        }
    }
}

fn size(texts: &BTreeMap<String, String>) -> usize {
    texts.iter().map(|(file, text)| file.len() + text.len()).sum()
}

/// Whether these files hold the intent of `key` (64 hex digits).
pub(super) fn holds(files: &Files, key: &str) -> bool {
    holds_key(&files.texts, key)
}
