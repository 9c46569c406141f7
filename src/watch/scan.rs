//! One pass over the folder: listed as a stream, in batches that are handed out oldest first.
//!
//! A batch holds at most [`BATCH`] names in one arena (about 4 MiB), sorted by (ctime, name); while
//! it is handed out the listing stands still, so the cursor is never lost and never starts again at
//! the top. Names that somebody has are passed over (with a hint left behind), and so are accepted
//! ones whose file is still the same.

use std::io;
use std::os::fd::BorrowedFd;

use super::folder::{Listed, Listing};
use super::names::{self, Names, Verdict};
use crate::debounce::Hint;
use crate::disk::EntryKind;
use crate::queue::{Flights, Notice};

/// Names that are sorted at a time.
pub(super) const BATCH: usize = 65_536;

/// Directory entries that are listed at a time, less than 1 ms.
const SLICE: usize = 256;

/// What the listing goes by.
pub(super) struct Rules<'a> {
    pub(super) names: &'a Names,
    pub(super) flights: &'a Flights,
    /// Levels of sub-directories to enter; 0 for none.
    pub(super) depth: usize,
}

/// What the listing came upon besides intents.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Oddity<'a> {
    /// A name that is not touched.
    BadName(&'a [u8]),
    /// A directory with the name of an intent.
    Directory(&'a [u8]),
    /// A directory that is entered.
    Entered(&'a [u8]),
    /// It cannot be looked at.
    Unknown(&'a [u8]),
}

/// Where a scan stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Names are listed.
    Listing,
    /// Names are handed out.
    Issuing,
    /// All names were handed out.
    Done,
}

/// A pass in progress.
#[derive(Debug)]
pub(super) struct Scan {
    /// False for a single new sub-directory.
    whole: bool,
    /// Directories still to be listed.
    stack: Vec<Box<[u8]>>,
    open: Option<(Box<[u8]>, Listing)>,
    batch: Batch,
    phase: Phase,
}

#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    items: Vec<Item>,
    next: usize,
}

#[derive(Debug)]
struct Item {
    ctime_ns: i64,
    size: u64,
    start: u32,
    length: u32,
}

impl Scan {
    /// A pass over the folder, or over one directory below it.
    pub(super) fn over(below: &[u8]) -> Self {
        Scan {
            whole: below.is_empty(),
            stack: vec![below.into()],
            open: None,
            batch: Batch::default(),
            phase: Phase::Listing,
        }
    }

    /// True for a pass over the whole folder.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Lists a slice, which ends early where a sub-directory is met: it is not listed before the
    /// caller was told and could watch it. An error means that the folder itself cannot be listed.
    pub(super) fn list(
        &mut self,
        folder: BorrowedFd<'_>,
        rules: &Rules<'_>,
        tell: &mut dyn FnMut(Oddity<'_>),
    ) -> io::Result<()> {
        for _ in 0..SLICE {
            let Some((below, listing)) = &mut self.open else {
                match self.stack.pop() {
                    Some(below) => self.open = self.enter(folder, below)?,
                    None => break,
                }
                continue;
            };
            let (batch, stack) = (&mut self.batch, &mut self.stack);
            let known = stack.len();
            let listed = listing.next(|entry| sift(below, &entry, rules, batch, stack, tell));
            match listed {
                Ok(Some(())) => {}
                Ok(None) => self.open = None,
                Err(fault) if below.is_empty() => return Err(fault),
                Err(_) => self.open = None,
            }
            if self.batch.items.len() >= BATCH || self.stack.len() > known {
                break;
            }
        }
        let ended = self.open.is_none() && self.stack.is_empty();
        if ended || self.batch.items.len() >= BATCH {
            self.batch.sort();
            self.phase = if self.batch.items.is_empty() { Phase::Done } else { Phase::Issuing };
        }
        Ok(())
    }

    /// The next name of the batch and its size in bytes.
    pub(super) fn peek(&self) -> Option<(&[u8], u64)> {
        self.batch.items.get(self.batch.next).map(|item| (self.batch.name(item), item.size))
    }

    /// Moves the cursor on; at the end of the batch the listing goes on.
    pub(super) fn advance(&mut self) {
        self.batch.next += 1;
        if self.batch.next < self.batch.items.len() {
            return;
        }
        self.batch = Batch::default();
        let ended = self.open.is_none() && self.stack.is_empty();
        self.phase = if ended { Phase::Done } else { Phase::Listing };
    }

    fn enter(&self, folder: BorrowedFd<'_>, below: Box<[u8]>) -> io::Result<Option<(Box<[u8]>, Listing)>> {
        match Listing::start(folder, &below) {
            Ok(listing) => Ok(Some((below, listing))),
            Err(fault) if below.is_empty() => Err(fault),
            // Gone since, or swapped for a link: no intents in there.
            Err(_) => Ok(None),
        }
    }
}

/// Decides about one directory entry.
fn sift(
    below: &[u8],
    entry: &Listed<'_>,
    rules: &Rules<'_>,
    batch: &mut Batch,
    stack: &mut Vec<Box<[u8]>>,
    tell: &mut dyn FnMut(Oddity<'_>),
) {
    let single = entry.name();
    if rules.depth > 0 && entry.is_directory() {
        let levels = below.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).count();
        if levels < rules.depth && names::is_foreign_directory(single, below.is_empty()) {
            let path = joined(below, single);
            tell(Oddity::Entered(&path));
            stack.push(path.into());
        }
        return;
    }
    match rules.names.judge(single) {
        Verdict::Ignore => return,
        Verdict::Bad => return tell(Oddity::BadName(&joined(below, single))),
        Verdict::Take => {}
    }
    let start = batch.bytes.len();
    batch.push_name(below, single);
    let name = &batch.bytes[start..];
    let keep = match rules.flights.notice(name, Hint::Scanned) {
        Notice::Busy => None,
        known => match entry.look() {
            Ok(Some(look)) if look.kind == EntryKind::Directory => {
                tell(Oddity::Directory(name));
                None
            }
            Ok(Some(look)) => {
                let same = known == Notice::Known && rules.flights.unchanged(name, &look.identity);
                (!same).then_some(look.identity)
            }
            Ok(None) => None,
            Err(_) => {
                tell(Oddity::Unknown(name));
                None
            }
        },
    };
    match keep {
        Some(identity) => batch.keep(start, identity.ctime_ns, identity.size),
        None => batch.bytes.truncate(start),
    }
}

fn joined(below: &[u8], single: &[u8]) -> Vec<u8> {
    if below.is_empty() { single.to_vec() } else { [below, b"/", single].concat() }
}

impl Batch {
    fn push_name(&mut self, below: &[u8], single: &[u8]) {
        if !below.is_empty() {
            self.bytes.extend_from_slice(below);
            self.bytes.push(b'/');
        }
        self.bytes.extend_from_slice(single);
    }

    /// Keeps the name that begins at `start` and ends the arena. 65,536 names of any legal length
    /// stay far below 4 GiB.
    fn keep(&mut self, start: usize, ctime_ns: i64, size: u64) {
        let length = self.bytes.len() - start;
        if let (Ok(start), Ok(length)) = (u32::try_from(start), u32::try_from(length)) {
            self.items.push(Item { ctime_ns, size, start, length });
        }
    }

    fn name(&self, item: &Item) -> &[u8] {
        name_in(&self.bytes, item)
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.items.sort_unstable_by(|a, b| {
            a.ctime_ns.cmp(&b.ctime_ns).then_with(|| name_in(bytes, a).cmp(name_in(bytes, b)))
        });
    }
}

fn name_in<'a>(bytes: &'a [u8], item: &Item) -> &'a [u8] {
    &bytes[item.start as usize..][..item.length as usize]
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd as _;
    use std::path::Path;

    use super::*;
    use crate::queue::Claim;
    use crate::watch::folder::{Hot as _, PlainFolder, look};
    use crate::watch::pattern::Pattern;

    fn scan(folder: &Path, flights: &Flights, depth: usize) -> (Vec<String>, Vec<String>) {
        let hot = PlainFolder::open(folder).unwrap();
        let names = Names::new(Pattern::new("*.json").unwrap());
        let rules = Rules { names: &names, flights, depth };
        let (mut found, mut odd) = (Vec::new(), Vec::new());
        let mut scan = Scan::over(b"");
        loop {
            match scan.phase() {
                Phase::Listing => {
                    let mut tell = |oddity: Oddity<'_>| odd.push(format!("{oddity:?}"));
                    scan.list(hot.handle().as_fd(), &rules, &mut tell).unwrap();
                }
                Phase::Issuing => {
                    let (name, size) = scan.peek().unwrap();
                    found.push(format!("{} {size}", String::from_utf8_lossy(name)));
                    scan.advance();
                }
                Phase::Done => return (found, odd),
            }
        }
    }

    #[test]
    fn names_come_oldest_first_and_by_name_within_one_moment() {
        let folder = tempfile::tempdir().unwrap();
        let ctime = |name: &str| {
            let hot = PlainFolder::open(folder.path()).unwrap();
            look(hot.handle().as_fd(), name.as_bytes()).unwrap().unwrap().identity.ctime_ns
        };
        let mut files: Vec<String> = (0..600).map(|number| format!("{}.json", (number * 7) % 600)).collect();
        for name in &files {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        files.sort_by_key(|name| (ctime(name), name.clone()));
        let expected: Vec<String> = files.iter().map(|name| format!("{name} 1")).collect();
        assert_eq!(scan(folder.path(), &Flights::new(), 0).0, expected);
    }

    #[test]
    fn busy_and_unchanged_names_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["busy.json", "known.json", "changed.json", "free.json", "other.txt"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        let hot = PlainFolder::open(folder.path()).unwrap();
        let identity = |name: &[u8]| look(hot.handle().as_fd(), name).unwrap().unwrap().identity;
        let flights = Flights::new();
        let Claim::Taken(busy) = flights.claim(b"busy.json", Hint::Closed) else { panic!("not free") };
        let _known = flights.remember(b"known.json", &identity(b"known.json"));
        let _changed = flights.remember(b"changed.json", &identity(b"known.json"));
        let (mut found, odd) = scan(folder.path(), &flights, 0);
        found.sort();
        assert_eq!(found, ["changed.json 1", "free.json 1"]);
        assert!(odd.is_empty());
        drop(busy);
        assert_eq!(flights.again().len(), 1, "a scan leaves a hint with a busy name");
    }

    #[test]
    fn oddities_are_told_and_left() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("dir.json")).unwrap();
        fs::write(folder.path().join("bad\n.json"), "x").unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("sub/a.json"), "x").unwrap();
        let (found, mut odd) = scan(folder.path(), &Flights::new(), 0);
        odd.sort();
        assert!(found.is_empty());
        let debug = |oddity: Oddity<'_>| format!("{oddity:?}");
        assert_eq!(odd, [debug(Oddity::BadName(b"bad\n.json")), debug(Oddity::Directory(b"dir.json"))]);
    }

    #[test]
    fn sub_directories_are_entered_to_the_depth_and_own_ones_never() {
        let folder = tempfile::tempdir().unwrap();
        for directory in ["a/b", "a/b/c", "processed", "a/status", ".conductor"] {
            fs::create_dir_all(folder.path().join(directory)).unwrap();
            fs::write(folder.path().join(directory).join("x.json"), "x").unwrap();
        }
        let (mut found, odd) = scan(folder.path(), &Flights::new(), 2);
        found.sort();
        assert_eq!(found, ["a/b/x.json 1", "a/status/x.json 1"]);
        assert_eq!(odd.len(), 3, "entered: a, a/b, a/status");
    }

    #[test]
    fn a_sub_directory_is_listed_after_it_was_told_of() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        let hot = PlainFolder::open(folder.path()).unwrap();
        let (names, flights) = (Names::new(Pattern::new("*").unwrap()), Flights::new());
        let rules = Rules { names: &names, flights: &flights, depth: 2 };
        let mut scan = Scan::over(b"");
        while scan.phase() == Phase::Listing {
            let mut entered = Vec::new();
            let mut tell = |oddity: Oddity<'_>| match oddity {
                Oddity::Entered(name) => entered.push(String::from_utf8(name.to_vec()).unwrap()),
                other => panic!("{other:?}"),
            };
            scan.list(hot.handle().as_fd(), &rules, &mut tell).unwrap();
            for directory in entered {
                fs::write(folder.path().join(directory).join("late.json"), "x").unwrap();
            }
        }
        let mut found = 0;
        while scan.peek().is_some() {
            scan.advance();
            found += 1;
        }
        assert_eq!(found, 2);
    }
}
