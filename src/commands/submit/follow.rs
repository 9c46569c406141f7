//! Finding the status of a file that was dropped just now.
//!
//! Exactly its own: the name, the digest where the document has one, and accepted after the drop. Status
//! files are found by their names (`<name>-<when>-<id8>.status`), and only those whose time can be right are
//! read; the journal is read from the place where it ended before the drop.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Dropped;
use crate::clock::Wall;
use crate::config::{Config, StatusForm};
use crate::settle::{JOURNAL, status_stem};

/// Bytes of `-<YYYYMMDD-HHMMSS>-<id8>.status`.
const TAIL: usize = "-20261121-080000-9f2c31aa.status".len();
/// Bytes of the time in it.
const WHEN: usize = "20261121-080000".len();

/// A place where statuses appear.
pub(super) enum Follow {
    /// One file each.
    Files(PathBuf),
    /// Lines of one file.
    Journal(Journal),
}

/// The journal, read up to some place.
pub(super) struct Journal {
    path: PathBuf,
    /// `None` until there is one.
    file: Option<File>,
    /// The beginning of a line.
    rest: Vec<u8>,
}

impl Follow {
    /// Begins before the drop.
    pub(super) fn begin(config: &Config) -> io::Result<Follow> {
        let dir = config.watch.handoff.join("status");
        if config.settle.status == StatusForm::Files {
            return Ok(Follow::Files(dir));
        }
        let path = dir.join(JOURNAL);
        let mut file = open(&path)?;
        if let Some(file) = &mut file {
            file.seek(SeekFrom::End(0))?;
        }
        Ok(Follow::Journal(Journal { path, file, rest: Vec::new() }))
    }

    /// Gives each drop the newest status that tells of it.
    pub(super) fn look(&mut self, dropped: &mut [Dropped]) -> io::Result<()> {
        match self {
            Follow::Files(dir) => look_at_files(dir, dropped),
            Follow::Journal(journal) => journal.look(dropped),
        }
    }
}

fn look_at_files(dir: &Path, dropped: &mut [Dropped]) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let mut oldest: HashMap<Vec<u8>, String> = HashMap::new();
    for one in dropped.iter().filter(|one| one.fate().is_none()) {
        let since =
            oldest.entry(status_stem(one.name.as_bytes()).to_vec()).or_insert_with(|| one.at.compact());
        *since = std::cmp::min(&*since, &one.at.compact()).clone();
    }
    for entry in entries {
        let name = entry?.file_name();
        if !may_tell(&name, &oldest) {
            continue;
        }
        match fs::read(dir.join(&name)) {
            Ok(text) => tell(&text, dropped),
            Err(err) if err.kind() == ErrorKind::NotFound => {}
            Err(err) => return Err(err),
        }
    }
    Ok(())
}

/// True if the name of a status file belongs to one of these names, not before its moment.
fn may_tell(name: &OsStr, oldest: &HashMap<Vec<u8>, String>) -> bool {
    let name = name.as_bytes();
    let Some(at) = name.len().checked_sub(TAIL).filter(|_| name.ends_with(b".status")) else { return false };
    let (stem, tail) = name.split_at(at);
    oldest.get(stem).is_some_and(|since| &tail[1..=WHEN] >= since.as_bytes())
}

/// Gives a document to the drop that it tells of, unless that has come to its end.
fn tell(text: &[u8], dropped: &mut [Dropped]) {
    // An empty line, or one that a power cut left half-written.
    let Ok(document) = serde_json::from_slice::<Value>(text) else { return };
    let word = |key: &str| document.get(key).and_then(Value::as_str);
    let Some(accepted) = word("accepted_at").and_then(Wall::parse) else { return };
    // Two drops may have had one name, one after the other, and one content.
    let told = |one: &Dropped| {
        one.fate().is_some() && one.status.as_ref().is_some_and(|told| told["id"] == document["id"])
    };
    if document.get("id").is_some() && dropped.iter().any(told) {
        return;
    }
    let tells = |one: &&mut Dropped| {
        one.fate().is_none()
            && word("intent_file") == Some(&one.name)
            && accepted >= one.at
            && word("sha256").is_none_or(|sha| sha == one.sha.to_string())
            && document.get("requeue_of").is_none()
    };
    if let Some(one) = dropped.iter_mut().find(tells) {
        one.status = Some(document);
    }
}

impl Journal {
    fn look(&mut self, dropped: &mut [Dropped]) -> io::Result<()> {
        // A journal that was set aside grows no more, so it is read to its end before the new one is begun.
        let newer = self.newer()?;
        self.read(dropped)?;
        if let Some(newer) = newer {
            self.file = Some(newer);
            self.rest.clear();
            self.read(dropped)?;
        }
        Ok(())
    }

    /// The file under the journal's name, if it is not the one that is being read.
    fn newer(&self) -> io::Result<Option<File>> {
        let Some(found) = open(&self.path)? else { return Ok(None) };
        let place = |file: &File| file.metadata().map(|seen| (seen.dev(), seen.ino()));
        match &self.file {
            Some(held) if place(held)? == place(&found)? => Ok(None),
            _ => Ok(Some(found)),
        }
    }

    fn read(&mut self, dropped: &mut [Dropped]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.read_to_end(&mut self.rest)?;
        let end = self.rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.rest.drain(..end).collect();
        lines.split(|&byte| byte == b'\n').for_each(|line| tell(line, dropped));
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fate::Sha;

    const AT: &str = "2026-11-21T08:00:00.500Z";

    fn drops(name: &str) -> Vec<Dropped> {
        let (name, at) = (name.to_owned(), Wall::parse(AT).unwrap());
        vec![Dropped { file: "x".into(), name, sha: Sha::of(b"x"), at, status: None }]
    }

    fn document(name: &str, accepted: &str, fate: &str, sha: Option<&[u8]>) -> String {
        let sha = sha.map_or(String::new(), |bytes| format!("\"sha256\":\"{}\",", Sha::of(bytes)));
        format!(
            "{{\"intent_file\":\"{name}\",{sha}\"fate\":\"{fate}\",\"message\":\"m\",\"accepted_at\":\"{accepted}\"}}\n"
        )
    }

    #[test]
    fn only_a_status_of_this_very_drop_counts() {
        let tells = |document: String| {
            let mut dropped = drops("intent-7.json");
            tell(document.as_bytes(), &mut dropped);
            dropped[0].fate().is_some()
        };
        let later = "2026-11-21T08:00:01.000Z";
        assert!(tells(document("intent-7.json", later, "delivered", Some(b"x"))));
        assert!(tells(document("intent-7.json", AT, "refused", None)), "accepted in the same millisecond");
        assert!(!tells(document("intent-8.json", later, "delivered", Some(b"x"))), "another name");
        assert!(!tells(document("intent-7.json", later, "delivered", Some(b"y"))), "other bytes");
        assert!(
            !tells(document("intent-7.json", "2026-11-21T08:00:00.499Z", "delivered", Some(b"x"))),
            "earlier"
        );
        assert!(!tells(document("intent-7.json", later, "pending", Some(b"x"))), "no end");
        assert!(!tells("{\"intent_file\":\"inte".into()), "half a document");
    }

    #[test]
    fn status_files_are_chosen_by_name_and_time() {
        let mut dropped = drops("intent-7.json");
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, fate: &str| {
            fs::write(
                dir.path().join(name),
                document("intent-7.json", "2026-11-21T08:00:01.000Z", fate, Some(b"x")),
            )
            .unwrap();
        };
        look_at_files(&dir.path().join("missing"), &mut dropped).unwrap();
        write("intent-7.json-20261121-075959-9f2c31aa.status", "delivered");
        write("intent-7.json-x-20261121-080001-9f2c31aa.status", "delivered");
        write(".tmp-9f2c31aa", "delivered");
        look_at_files(dir.path(), &mut dropped).unwrap();
        assert!(dropped[0].status.is_none());
        write("intent-7.json-20261121-080001-9f2c31aa.status", "pending");
        look_at_files(dir.path(), &mut dropped).unwrap();
        assert!(dropped[0].status.is_some() && dropped[0].fate().is_none());
        write("intent-7.json-20261121-080001-9f2c31aa.status", "refused");
        look_at_files(dir.path(), &mut dropped).unwrap();
        assert_eq!(dropped[0].fate(), Some(crate::fate::Fate::Refused));
    }

    #[test]
    fn the_journal_is_read_on_over_half_lines_and_over_being_set_aside() {
        use std::io::Write as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(JOURNAL);
        let mut journal = Journal { path: path.clone(), file: None, rest: Vec::new() };
        let mut dropped: Vec<_> = drops("intent-7.json").into_iter().chain(drops("intent-8.json")).collect();
        journal.look(&mut dropped).unwrap();
        let (one, two) = (
            document("intent-7.json", AT, "delivered", Some(b"x")),
            document("intent-8.json", AT, "delivered", Some(b"x")),
        );
        let mut file = File::create(&path).unwrap();
        file.write_all(&one.as_bytes()[..20]).unwrap();
        journal.look(&mut dropped).unwrap();
        assert!(dropped[0].status.is_none());
        file.write_all(&one.as_bytes()[20..]).unwrap();
        fs::rename(&path, dir.path().join("aside.jsonl")).unwrap();
        fs::write(&path, format!("\n{two}")).unwrap();
        journal.look(&mut dropped).unwrap();
        assert!(dropped.iter().all(|one| one.fate().is_some()));
    }
}
