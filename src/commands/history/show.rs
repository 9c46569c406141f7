//! `history show`: the story of one intent, for somebody who was woken up.
//!
//! Times are the ledger's, but for two that only the files tell: the drop is the change time that the file had
//! when it was read (its rename in, or its last write), the filing that of the archived file. Where the file
//! is now is found by digest, or by inode and times where it was never read. Relatives are told both ways,
//! the first 32 intents that hang together.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::Show;
use crate::clock::{Clock as _, SystemClock, Wall};
use crate::commands::{Failure, Verdict, io_fault, reader, settings};
use crate::config::{Config, Layers, state_dir};
use crate::disk::Place;
use crate::fate::{Fate, Id, Receipt, Sha};
use crate::intent::visible;
use crate::ledger::{Attempts, Filing, LedgerFault, Reader, Row};
use crate::observe::escape_name;
use crate::settle::{Facts, file_name, render_line, shelves};

/// Intents whose relatives are looked for.
const RELATIVES: usize = 32;
/// Characters shown of a message.
const SHOWN: usize = 4_096;

/// One intent names another.
struct Link {
    from: Row,
    word: &'static str,
    to: Id,
}

/// Where the file is.
struct Found {
    path: PathBuf,
    archived: bool,
    changed: Wall,
}

/// Everything that is known.
struct Story {
    row: Row,
    filing: Filing,
    found: Option<Found>,
    status: Option<PathBuf>,
    links: Vec<Link>,
    /// Of a pending row at a sink that cannot be asked what it holds.
    attempts: Option<Attempts>,
    /// The word of the settings for how the command of the exec sink is run.
    mode: &'static str,
}

/// Prints the story.
pub fn run(asked: &Show, layers: &Layers, out: &mut dyn Write) -> Verdict {
    let config = settings(layers)?.config;
    let state = state_dir(&config, &layers.environment);
    let reader = reader(&state)?;
    let unreadable = |fault: LedgerFault| Failure::unreadable(&state, fault);
    let row = reader.row(asked.id, None).map_err(unreadable)?.ok_or_else(|| {
        format!(
            "no intent {} in the ledger of {}; history lists those that are there",
            asked.id,
            state.display()
        )
    })?;
    let filing = reader.filing(&row).map_err(unreadable)?;
    let links = links(&reader, &row).map_err(unreadable)?;
    let attempts = match row.end {
        None => reader.attempts(row.seq).map_err(unreadable)?,
        Some(_) => None,
    };
    let mode = config.sink.exec.mode.as_str();
    let status = config.watch.handoff.join("status").join(file_name(&row));
    let status = status.exists().then_some(status);
    let story = Story { found: find(&config, &row), row, filing, status, links, attempts, mode };
    let told = match asked.json {
        true => story.write_document(out),
        false => story.write(out),
    };
    told.map_or_else(io_fault, |()| Ok(0))
}

/// Everything that hangs together with the row, newest link last.
fn links(reader: &Reader, row: &Row) -> Result<Vec<Link>, LedgerFault> {
    let (mut waiting, mut seen) = (VecDeque::from([row.clone()]), BTreeSet::from([row.id]));
    let (mut links, mut known) = (Vec::new(), BTreeSet::new());
    for _ in 0..RELATIVES {
        let Some(row) = waiting.pop_front() else { break };
        let mut near = reader.followers(row.id)?;
        for (_, id) in named_by(&row) {
            near.extend(reader.row(id, None)?);
        }
        for other in near.into_iter().chain([row]) {
            for (word, to) in named_by(&other) {
                if known.insert((other.seq, word)) {
                    links.push(Link { from: other.clone(), word, to });
                }
            }
            if seen.insert(other.id) {
                waiting.push_back(other);
            }
        }
    }
    links.sort_by_key(|link| link.from.seq);
    Ok(links)
}

/// What a row says of others.
fn named_by(row: &Row) -> impl Iterator<Item = (&'static str, Id)> {
    let end = row.end.as_ref();
    let related = end.and_then(|end| {
        let word = match end.fate {
            Fate::Duplicate => "duplicate_of",
            Fate::Superseded => "superseded_by",
            Fate::Delivered | Fate::Refused | Fate::Expired => return None,
        };
        Some((word, end.related?))
    });
    related.into_iter().chain(row.requeue_of.map(|id| ("requeue_of", id)))
}

/// The row's file: archived, still in the folder, or on its way. The very inode first: other intents may have
/// had the same bytes under the same name.
fn find(config: &Config, row: &Row) -> Option<Found> {
    let handoff = &config.watch.handoff;
    let folder = |place| match (place, &config.settle.failed_dir) {
        (Place::Failed, Some(dir)) => dir.clone(),
        (Place::Failed, None) => handoff.join("failed"),
        _ => handoff.join("processed"),
    };
    // The name with the id is this intent's alone, so it comes before the plain one.
    let archived = shelves(row).into_iter().rev().map(|(place, name)| (folder(place).join(name), true));
    let dropped =
        [handoff.join(OsStr::from_bytes(&row.name)), handoff.join(".conductor").join(row.id.to_string())];
    let dropped = dropped.into_iter().filter(|_| row.requeue_of.is_none()).map(|path| (path, false));
    let seen: Vec<(PathBuf, bool, Metadata)> = archived
        .chain(dropped)
        .filter_map(|(path, archived)| Some((fs::symlink_metadata(&path).ok()?, path, archived)))
        .map(|(seen, path, archived)| (path, archived, seen))
        .collect();
    let found = seen.iter().find(|(_, _, seen)| is_same(seen, row));
    let found = found.or_else(|| seen.iter().find(|(path, _, seen)| holds(path, seen, row)));
    found.map(|(path, archived, seen)| Found {
        path: path.clone(),
        archived: *archived,
        changed: Wall(nanos(seen.ctime(), seen.ctime_nsec())),
    })
}

fn nanos(seconds: i64, rest: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

/// The inode that was accepted; the change time moves with our rename.
fn is_same(seen: &Metadata, row: &Row) -> bool {
    let then = &row.identity;
    (seen.ino(), seen.len(), nanos(seen.mtime(), seen.mtime_nsec())) == (then.ino, then.size, then.mtime_ns)
}

/// True for a file with the accepted bytes.
fn holds(path: &Path, seen: &Metadata, row: &Row) -> bool {
    let readable = seen.is_file() && seen.len() == row.identity.size;
    readable.then(|| fs::read(path).ok()).flatten().is_some_and(|bytes| row.sha == Some(Sha::of(&bytes)))
}

impl Story {
    fn noticed(&self) -> Option<Wall> {
        let end = self.row.end.as_ref()?;
        let took = i64::try_from(end.duration.as_nanos()).unwrap_or(i64::MAX);
        Some(Wall(end.finished_at.0.saturating_sub(took)).min(self.row.accepted_at))
    }

    /// The change time with which the file was read; a repeat has no file.
    fn dropped(&self) -> Option<Wall> {
        (self.row.requeue_of.is_none()).then_some(Wall(self.row.identity.ctime_ns))
    }

    /// The archived file's change time, which our rename sets.
    fn filed(&self) -> Option<Wall> {
        let (found, end) = (self.found.as_ref()?, self.row.end.as_ref()?);
        (found.archived && found.changed >= end.finished_at).then_some(found.changed)
    }

    fn write_document(&self, out: &mut dyn Write) -> io::Result<()> {
        let facts = Facts { mode: self.mode, archive: None, waiting: None };
        let line = render_line(&self.row, SystemClock.wall(), &facts);
        let mut document: Value = serde_json::from_slice(&line)?;
        document["generation"] = self.row.generation.into();
        document["source"] = self.row.source.as_str().into();
        document["size"] = self.row.identity.size.into();
        document["priority"] = self.row.priority.into();
        if let Some(noted) = &self.attempts {
            document["attempts"] = noted.begun.into();
            document["uncertain"] = noted.doubtful.into();
        }
        let times =
            [("dropped_at", self.dropped()), ("noticed_at", self.noticed()), ("filed_at", self.filed())];
        for (key, at) in times {
            if let Some(at) = at {
                document[key] = at.millis().into();
            }
        }
        document["filing"] = self.filing_word().into();
        if let Some(found) = &self.found {
            document["file_path"] = found.path.to_string_lossy().into();
        }
        if let Some(status) = &self.status {
            document["status_path"] = status.to_string_lossy().into();
        }
        let links = self.links.iter().map(|link| {
            json!({
                "id": link.from.id.to_string(),
                "relation": link.word,
                "to": link.to.to_string(),
                "intent_file": String::from_utf8_lossy(&link.from.name),
                "fate": fate(&link.from),
                "accepted_at": link.from.accepted_at.millis(),
            })
        });
        document["relations"] = links.collect();
        serde_json::to_writer_pretty(&mut *out, &document)?;
        writeln!(out)
    }

    fn filing_word(&self) -> &'static str {
        match self.filing {
            Filing::Open => "open",
            Filing::Unfiled { .. } => "unfiled",
            Filing::Closed => "closed",
        }
    }
}

/// The form for people, within 80 columns where names and messages are short enough.
impl Story {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let row = &self.row;
        writeln!(out, "intent {}  {}", row.id, fate(row))?;
        match &row.end {
            None => writeln!(out, "  accepted and not at its end; status tells how the sink is")?,
            Some(end) => {
                let reason = end.reason.map_or_else(String::new, |reason| format!("{reason}: "));
                writeln!(out, "  {reason}{}", visible(&end.message, SHOWN))?;
                for error in end.errors.iter().filter(|_| end.errors.len() > 1) {
                    let place = error
                        .line
                        .zip(error.column)
                        .map_or_else(String::new, |(line, column)| format!("line {line} column {column} "));
                    writeln!(
                        out,
                        "  {place}{} {}",
                        visible(&error.path, SHOWN),
                        visible(&error.message, SHOWN)
                    )?;
                }
            }
        }
        writeln!(out)?;
        for (name, value) in self.facts() {
            writeln!(out, "{name:<10} {value}")?;
        }
        writeln!(out)?;
        self.write_times(out)?;
        if !self.links.is_empty() {
            writeln!(out)?;
        }
        for link in &self.links {
            let (from, to) = (self.shown(link.from.id), self.shown(link.to));
            let word = link.word.replace('_', " ");
            writeln!(out, "{from:<16} {word:<13} {to:<16}  {}", fate(&link.from))?;
        }
        Ok(())
    }

    fn shown(&self, id: Id) -> String {
        if id == self.row.id { "this".to_owned() } else { id.to_string() }
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let row = &self.row;
        let mut facts = vec![("file", escape_name(&row.name)), ("bytes", row.identity.size.to_string())];
        if let Some(target) = &row.target {
            facts.push(("target", format!("{}/{}/{}", target.namespace, target.kind.as_str(), target.name)));
        }
        if let Some(sha) = &row.sha {
            facts.push(("sha256", sha.to_string()));
        }
        if let Some(proof) = row.proof {
            facts.push(("complete", format!("known by {proof}, noticed by {}", row.source)));
        }
        facts.push(("generation", row.generation.to_string()));
        facts.push(("priority", row.priority.to_string()));
        if let Some(until) = row.valid_until {
            facts.push(("valid until", until.seconds()));
        }
        if let Some(end) = &row.end
            && let (Some(sink), Some(remote)) = (end.sink, &end.remote)
        {
            let revision = if remote.revision.is_empty() { "" } else { " revision " };
            let found = match () {
                () if remote.adopted => ", found already there",
                () if end.possible_duplicate => ", perhaps for the second time",
                () => "",
            };
            let Receipt { name, revision: number, lifecycle, .. } = remote;
            let text = format!("{sink}:{name}{revision}{number} {lifecycle}{found}");
            facts.push(("at sink", visible(&text, SHOWN)));
        }
        if let Some(noted) = &self.attempts {
            let effect = if noted.doubtful { ", which may have had their effect" } else { "" };
            facts.push(("attempts", format!("{}{effect}", noted.begun)));
        }
        let lies =
            self.found.as_ref().map_or_else(|| "not found".to_owned(), |found| escape_path(&found.path));
        facts.push(("lies in", lies));
        if let Some(status) = &self.status {
            facts.push(("status", escape_path(status)));
        }
        if let Filing::Unfiled { reason, since } = self.filing {
            let reason = reason.map_or_else(String::new, |reason| format!("{reason}, "));
            facts.push(("not filed", format!("{reason}since {}; tried again", since.seconds())));
        }
        facts
    }

    /// A line for each step: when, how long after the one before, what.
    fn write_times(&self, out: &mut dyn Write) -> io::Result<()> {
        let row = &self.row;
        let mut steps = Vec::new();
        steps.extend(self.dropped().map(|at| (at, "dropped (change time of the file)".to_owned())));
        steps.extend(
            self.noticed().map(|at| {
                (at, if row.requeue_of.is_some() { "request taken" } else { "noticed" }.to_owned())
            }),
        );
        let by =
            if row.requeue_of.is_some() { String::new() } else { format!(" from worker-{}", row.worker) };
        steps.push((row.accepted_at, format!("accepted{by}")));
        if let Some(end) = &row.end {
            let attempts = match end.attempts {
                0 => String::new(),
                1 => " at the first attempt".to_owned(),
                many => format!(" after {many} attempts"),
            };
            steps.push((end.finished_at, format!("{}{attempts}", end.fate)));
        }
        steps.extend(self.filed().map(|at| (at, "filed".to_owned())));
        let mut before: Option<Wall> = None;
        for (at, what) in steps {
            let passed = before.map_or_else(String::new, |before| short(at.0 - before.0));
            writeln!(out, "{}  {passed:>10}  {what}", at.millis())?;
            before = Some(at);
        }
        Ok(())
    }
}

fn fate(row: &Row) -> &'static str {
    row.end.as_ref().map_or("pending", |end| end.fate.as_str())
}

fn escape_path(path: &Path) -> String {
    visible(&path.to_string_lossy(), SHOWN)
}

/// A time that passed, in the unit that shows it best; the clock may have gone back meanwhile.
fn short(nanos: i64) -> String {
    let sign = if nanos < 0 { '-' } else { '+' };
    let passed = Duration::from_nanos(nanos.unsigned_abs());
    let seconds = passed.as_secs();
    match seconds {
        0 => format!("{sign}{:.1} ms", passed.as_secs_f64() * 1e3),
        1..60 => format!("{sign}{:.1} s", passed.as_secs_f64()),
        60..3_600 => format!("{sign}{}m {:02}s", seconds / 60, seconds % 60),
        3_600..172_800 => format!("{sign}{}h {:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{sign}{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_passed_is_told_in_the_unit_that_shows_it() {
        let told =
            [500_000, 1_500_000_000, 61_000_000_000, 7_260_000_000_000, 259_200_000_000_000].map(short);
        assert_eq!(told, ["+0.5 ms", "+1.5 s", "+1m 01s", "+2h 01m", "+3 days"]);
        assert_eq!(short(-2_000_000), "-2.0 ms");
    }
}
