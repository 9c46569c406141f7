//! Group `files`: what lies in the handoff folder now, and what of it nobody will take.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use super::case::Case;
use super::report::{Finding, many, span};
use crate::clock::Wall;
use crate::disk::OWN_NAMES;
use crate::ledger::{Filter, Reader};
use crate::observe::escape_name;
use crate::watch::{Names, Pattern, Verdict};

/// Most names that are looked at; a million would take seconds.
const MOST: usize = 100_000;

/// Work in progress for longer is forgotten work.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// What was found, with one name for each kind.
#[derive(Debug, Default)]
struct Drops {
    /// Names that are intents, accepted ones left out.
    intents: Kind,
    /// Accepted ones, which stay until the sink has taken them.
    accepted: usize,
    /// Those of them that are older than two periods.
    stuck: Kind,
    /// Names that match and hold forbidden characters.
    bad: Kind,
    /// Work in progress older than an hour.
    forgotten: Kind,
    /// Everything else.
    strange: Kind,
    /// There are more than [`MOST`] names.
    cut: bool,
}

#[derive(Debug, Default)]
struct Kind {
    count: usize,
    /// Name and age of the oldest.
    oldest: Option<(String, Duration)>,
}

impl Kind {
    fn add(&mut self, name: &[u8], age: Duration) {
        self.count += 1;
        if self.oldest.as_ref().is_none_or(|(_, oldest)| age > *oldest) {
            self.oldest = Some((escape_name(name), age));
        }
    }

    /// `3 files, the oldest intent-1.json, 12 min`.
    fn told(&self) -> String {
        let count = many(self.count as u64, "file");
        match &self.oldest {
            Some((name, age)) => format!("{count}, the oldest {name}, {}", span(age.as_secs())),
            None => count,
        }
    }
}

pub(super) fn examine(case: &Case) -> Vec<Finding> {
    let config = &case.loaded.config;
    let Ok(pattern) = Pattern::new(&config.watch.pattern) else { return Vec::new() };
    let names = Names::new(pattern);
    match gather(&case.handoff, &names, &pending(&case.state), case.now, 2 * config.watch.period) {
        Ok(drops) => judge(&drops, case.is_up(), &config.watch.pattern),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(err) => {
            vec![Finding::warn(
                "waiting",
                format!("the handoff folder cannot be listed: {err}"),
                case.look_as(),
            )]
        }
    }
}

/// Names of accepted files that wait for the sink; they are the group ledger's business. A repeat has no
/// file in the folder: one of its name is another intent's.
fn pending(state: &Path) -> HashSet<Box<[u8]>> {
    let mut names = HashSet::new();
    if let Ok(reader) = Reader::open(state) {
        let filter = Filter { pending: true, limit: Some(MOST as u64), ..Filter::default() };
        // What cannot be read is told there too.
        let _ = reader.history(&filter, &mut |row| {
            if row.requeue_of.is_none() {
                names.insert(row.name);
            }
            ControlFlow::Continue(())
        });
    }
    names
}

fn gather(
    folder: &Path,
    names: &Names,
    pending: &HashSet<Box<[u8]>>,
    now: Wall,
    patience: Duration,
) -> io::Result<Drops> {
    let mut drops = Drops::default();
    for (at, entry) in fs::read_dir(folder)?.enumerate() {
        if at >= MOST {
            drops.cut = true;
            break;
        }
        let entry = entry?;
        let name = entry.file_name();
        if OWN_NAMES.iter().any(|own| name == *own) {
            continue;
        }
        if pending.contains(name.as_bytes()) {
            drops.accepted += 1;
            continue;
        }
        // Gone meanwhile: taken.
        let Ok(meta) = entry.metadata() else { continue };
        let changed = meta.ctime().saturating_mul(1_000_000_000).saturating_add(meta.ctime_nsec());
        let age = Duration::from_nanos(u64::try_from(now.0.saturating_sub(changed)).unwrap_or(0));
        drops.sort(names, name.as_bytes(), age, meta.is_dir(), patience);
    }
    Ok(drops)
}

impl Drops {
    fn sort(&mut self, names: &Names, name: &[u8], age: Duration, is_dir: bool, patience: Duration) {
        match names.judge(name) {
            Verdict::Take if is_dir => self.strange.add(name, age),
            Verdict::Take => {
                self.intents.add(name, age);
                if age > patience {
                    self.stuck.add(name, age);
                }
            }
            Verdict::Bad => self.bad.add(name, age),
            // Hidden names are somebody's own business.
            Verdict::Ignore if name.starts_with(b".") => {}
            Verdict::Ignore
                if [&b".tmp"[..], b".part", b".swp", b"~"].iter().any(|end| name.ends_with(end)) =>
            {
                if age > FORGOTTEN {
                    self.forgotten.add(name, age);
                }
            }
            Verdict::Ignore => self.strange.add(name, age),
        }
    }
}

fn judge(drops: &Drops, up: bool, pattern: &str) -> Vec<Finding> {
    let mut more = if drops.cut { format!(" among the first {MOST} names") } else { String::new() };
    if drops.accepted > 0 {
        more += &format!(", beside {} accepted", drops.accepted);
    }
    let mut findings = vec![match (&drops.intents, up) {
        (Kind { count: 0, .. }, _) => {
            Finding::ok("waiting", format!("no intent lies in the handoff folder{more}"))
        }
        (waiting, false) => Finding::warn(
            "waiting",
            format!("{}{more}; no daemon takes them", waiting.told()),
            "start the daemon",
        ),
        (waiting, true) if drops.stuck.count == 0 => {
            Finding::ok("waiting", format!("{}{more}", waiting.told()))
        }
        (_, true) => Finding::warn(
            "waiting",
            format!("{}{more}, for more than two periods under a running daemon", drops.stuck.told()),
            "held open by its writer, unreadable for the daemon, or acceptance is paused: see above, and \
             the daemon's log for its name",
        ),
    }];
    let mut add = |name, kind: &Kind, what: &str, advice: String| {
        if kind.count > 0 {
            findings.push(Finding::warn(name, format!("{}: {what}", kind.told()), advice));
        }
    };
    let rename = "rename it, or remove it".to_owned();
    add("bad names", &drops.bad, "control, bidi or invalid characters in the name; never taken", rename);
    let advice =
        "end in .tmp, .part, .swp or ~ while being written; rename it in if it is whole, else remove it"
            .to_owned();
    add("unfinished", &drops.forgotten, "work in progress for more than an hour", advice);
    let advice = format!("names of intents match {pattern} (watch.pattern)");
    add("others", &drops.strange, "not taken, since they are no files of an intent's name", advice);
    findings
}

#[cfg(test)]
mod tests {
    use super::super::report::Mark;
    use super::*;

    fn sorted(names: &[(&[u8], u64)]) -> Drops {
        let filter = Names::new(Pattern::new("intent-*.json").unwrap());
        let mut drops = Drops::default();
        for (name, age) in names {
            drops.sort(&filter, name, Duration::from_secs(*age), false, Duration::from_secs(60));
        }
        drops
    }

    fn marks(drops: &Drops, up: bool) -> Vec<(&'static str, Mark)> {
        judge(drops, up, "intent-*.json").iter().map(|finding| (finding.name, finding.mark)).collect()
    }

    #[test]
    fn files_wait_for_a_daemon_or_are_stuck_under_one() {
        let fresh = sorted(&[(b"intent-1.json", 5)]);
        assert_eq!(marks(&fresh, true), [("waiting", Mark::Ok)]);
        assert_eq!(marks(&fresh, false), [("waiting", Mark::Warn)]);
        let stuck = sorted(&[(b"intent-1.json", 5), (b"intent-2.json", 61)]);
        let told = judge(&stuck, true, "intent-*.json");
        assert_eq!(told[0].mark, Mark::Warn);
        assert!(told[0].message.starts_with("1 file, the oldest intent-2.json, 61 s"), "{}", told[0].message);
        assert_eq!(marks(&sorted(&[]), true), [("waiting", Mark::Ok)]);
    }

    #[test]
    fn what_nobody_takes_is_counted_by_its_kind() {
        let drops = sorted(&[
            (b"intent-1.json.tmp", 10),
            (b"intent-2.json.tmp", 4_000),
            (b"intent-\x1b.json", 1),
            (b"notes.txt", 1),
            (b".hidden", 9_999),
        ]);
        assert_eq!(
            marks(&drops, true)[1..],
            [("bad names", Mark::Warn), ("unfinished", Mark::Warn), ("others", Mark::Warn)]
        );
        assert_eq!((drops.forgotten.count, drops.strange.count), (1, 1));
        assert!(judge(&drops, true, "*")[1].message.contains("%1B"));
    }

    #[test]
    fn own_folders_are_no_files_of_producers() {
        let dir = tempfile::tempdir().unwrap();
        for own in OWN_NAMES {
            fs::create_dir(dir.path().join(own)).unwrap();
        }
        fs::create_dir(dir.path().join("intent-dir.json")).unwrap();
        let names = Names::new(Pattern::new("intent-*.json").unwrap());
        let drops = gather(dir.path(), &names, &HashSet::new(), Wall(i64::MAX), Duration::ZERO).unwrap();
        assert_eq!((drops.intents.count, drops.strange.count), (0, 1));
    }
}
