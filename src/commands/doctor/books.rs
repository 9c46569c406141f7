//! Group `ledger`: whether the record can be read and has room, and what in it is not finished.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::SystemTime;

use super::case::Case;
use super::lock::Standing;
use super::report::{Finding, many, size, span};
use crate::clock::Wall;
use crate::disk::boot_id;
use crate::fate::Id;
use crate::ledger::{Condition, Counts, LedgerFault, Reader, Row};
use crate::observe::escape_name;
use crate::pipeline::{Request, Requests};

/// A pending intent that waits longer waits for the sink.
const QUICK: u64 = 5;

/// A running daemon takes a request within a second.
const TAKEN: u64 = 10;

pub(super) fn examine(case: &Case) -> Vec<Finding> {
    let mut findings = match read(case) {
        Ok(books) => judge(&books, case),
        Err(finding) => vec![*finding],
    };
    findings.extend(requests(case));
    findings.extend(quarantine(&case.state));
    findings
}

/// What the ledger tells.
#[derive(Debug, Clone, Default)]
struct Books {
    counts: Counts,
    oldest: Option<Row>,
    condition: Condition,
    /// Lives that ended without a stop, in the last 90 days.
    crashes: u64,
}

fn read(case: &Case) -> Result<Books, Box<Finding>> {
    let told = |fault: LedgerFault| Box::new(unreadable(&fault, case));
    // A path that may not be entered looks like one that is not there.
    if let Standing::Hidden(err) = &case.standing {
        let message = format!("{} cannot be read: {err}", case.state.display());
        return Err(Box::new(Finding::warn("record", message, case.look_as())));
    }
    let reader = Reader::open(&case.state).map_err(told)?;
    Ok(Books {
        counts: reader.counts().map_err(told)?,
        oldest: reader.oldest_pending().map_err(told)?,
        condition: reader.condition(&boot_id()).map_err(told)?,
        crashes: reader.record().map_err(told)?.crashes,
    })
}

fn unreadable(fault: &LedgerFault, case: &Case) -> Finding {
    match fault {
        LedgerFault::Missing { .. } => {
            Finding::ok("record", format!("no ledger in {} yet: nothing was accepted", case.state.display()))
        }
        LedgerFault::Newer { .. } => Finding::fail(
            "record",
            fault.to_string(),
            "run the newer version again, or name another state directory",
        ),
        LedgerFault::Foreign { .. } => {
            Finding::fail("record", fault.to_string(), "name another state directory: --state DIR")
        }
        LedgerFault::Damaged { .. } => Finding::fail(
            "record",
            fault.to_string(),
            "restart the daemon: it sets the ledger aside in quarantine/ and carries over what can be read",
        ),
        _ => Finding::fail("record", format!("cannot be read: {fault}"), case.look_as()),
    }
}

fn judge(books: &Books, case: &Case) -> Vec<Finding> {
    let Books { counts, condition, crashes, .. } = books;
    let most = case.loaded.config.ledger.max_size;
    let mut findings = vec![room(condition.bytes, most, counts), pending(books, case.is_up(), case.now)];
    if counts.unaccounted() != 0 {
        findings.push(Finding::fail(
            "balance",
            format!("{} intents are unaccounted for", counts.unaccounted()),
            "keep the state directory as it is and report this",
        ));
    }
    if condition.unfiled > 0 {
        findings.push(Finding::warn(
            "unfiled",
            format!("{} could not be filed or reported", many(condition.unfiled, "settled intent")),
            "give the daemon the right to rename out of the folder (sticky bit, immutable files, room); it \
             tries again by itself",
        ));
    }
    if condition.suspects > 0 {
        findings.push(Finding::warn(
            "suspects",
            format!(
                "{} files were in a worker's hand when the daemon died; the third time a file is \
                 refused unread",
                condition.suspects
            ),
            "if the daemon dies again and again, move the newest file out of the folder and report it",
        ));
    }
    if !case.is_up() && !condition.clean {
        findings.push(Finding::warn(
            "last end",
            "the last daemon did not stop, it was killed or died; what it left open is resumed at the next \
             start",
            "journalctl -u conductor-loop tells why; dmesg, if memory ran out",
        ));
    } else if *crashes > 0 {
        findings.push(Finding::warn(
            "last end",
            format!("{crashes} starts of the last 90 days ended without a stop"),
            "journalctl -u conductor-loop tells why; a power cut is one too",
        ));
    }
    findings
}

fn room(bytes: u64, most: u64, counts: &Counts) -> Finding {
    let told =
        format!("{} on record, {} of at most {}", many(counts.accepted, "intent"), size(bytes), size(most));
    let advice = "raise ledger.max_size, or lower ledger.keep_for";
    match () {
        () if bytes > most => Finding::fail("record", format!("{told}: acceptance pauses"), advice),
        () if bytes > most - most / 10 => Finding::warn("record", told, advice),
        () => Finding::ok("record", told),
    }
}

fn pending(books: &Books, up: bool, now: Wall) -> Finding {
    let Some(oldest) = &books.oldest else { return Finding::ok("pending", "no accepted intent waits") };
    let waits = u64::try_from(now.0.saturating_sub(oldest.accepted_at.0) / 1_000_000_000).unwrap_or(0);
    let told = format!(
        "{} for the sink, the oldest {} (id {}) for {}",
        match books.counts.pending {
            1 => "1 accepted intent waits".to_owned(),
            count => format!("{count} accepted intents wait"),
        },
        escape_name(&oldest.name),
        oldest.id,
        span(waits)
    );
    match up {
        false => Finding::warn("pending", told, "start the daemon; it resumes them"),
        true if waits > QUICK => Finding::warn(
            "pending",
            told,
            "see the group sink; status/ has the reason and the next attempt of each",
        ),
        true => Finding::ok("pending", told),
    }
}

/// Files in a directory of the state, and the age of the oldest in seconds.
fn files(dir: &Path) -> Option<(usize, u64)> {
    let entries: Vec<_> = fs::read_dir(dir).ok()?.filter_map(Result::ok).collect();
    let age = |changed: SystemTime| changed.elapsed().map_or(0, |age| age.as_secs());
    let oldest = entries.iter().filter_map(|entry| entry.metadata().ok()?.modified().ok()).map(age).max();
    (!entries.is_empty()).then_some((entries.len(), oldest.unwrap_or(0)))
}

/// What operators asked to have tried again: what no daemon has taken yet, and what none will take.
fn requests(case: &Case) -> Vec<Finding> {
    // The record has said that the state may not be entered.
    if matches!(case.standing, Standing::Hidden(_)) {
        return Vec::new();
    }
    let requests = Requests::of(&case.state);
    let dir = case.state.join("requeue");
    match requests.list() {
        Ok(listing) => [
            waiting(&listing.requests, case.is_up(), case.now),
            refused(&listing.refused, &requests, &dir),
            odd(&listing.odd, &dir),
        ]
        .into_iter()
        .flatten()
        .collect(),
        Err(err) => {
            let message = format!("{} cannot be read: {err}", dir.display());
            vec![Finding::warn("requeue", message, case.look_as())]
        }
    }
}

fn waiting(requests: &[Request], up: bool, now: Wall) -> Option<Finding> {
    let oldest = requests.first()?;
    let waits = u64::try_from(now.0.saturating_sub(oldest.asked_at().0) / 1_000_000_000).unwrap_or(0);
    let told = format!(
        "{} to be taken, the oldest (for {}) for {}",
        match requests.len() {
            1 => "1 request to try an intent again waits".to_owned(),
            count => format!("{count} requests to try intents again wait"),
        },
        oldest.id,
        span(waits)
    );
    Some(match up {
        false => Finding::warn("requeue", told, "start the daemon; it takes them first of all"),
        true if waits > TAKEN => Finding::warn(
            "requeue",
            told,
            "the daemon's log says why; none is taken while acceptance pauses, and its user must own requeue/",
        ),
        true => Finding::ok("requeue", told),
    })
}

fn refused(ids: &[Id], requests: &Requests, dir: &Path) -> Option<Finding> {
    let first = ids.first()?;
    let why = requests.answer(*first).unwrap_or_else(|| "its answer cannot be read".to_owned());
    let told = format!(
        "{} to try intents again failed, among them that for {first}: {}",
        many(ids.len() as u64, "request"),
        escape_name(why.as_bytes())
    );
    let advice = format!(
        "{}/ID.failed has the reason of each; ask again (conductor-loop requeue ID --yes), or remove the file",
        dir.display()
    );
    Some(Finding::warn("requeue failed", told, advice))
}

fn odd(names: &[(OsString, String)], dir: &Path) -> Option<Finding> {
    let (name, wrong) = names.first()?;
    let told = format!(
        "{} in {} that no request has, among them {}: it {wrong}",
        many(names.len() as u64, "name"),
        dir.display(),
        escape_name(name.as_bytes())
    );
    Some(Finding::warn("requeue names", told, "remove what is no request"))
}

fn quarantine(state: &Path) -> Option<Finding> {
    let dir = state.join("quarantine");
    let (count, newest) = files(&dir)?;
    Some(Finding::warn(
        "quarantine",
        format!(
            "{count} damaged ledgers were set aside in {}, the first {} ago",
            dir.display(),
            span(newest)
        ),
        "check the disk (dmesg, smartctl); remove them when they are no longer wanted",
    ))
}

#[cfg(test)]
mod tests {
    use super::super::report::Mark;
    use super::*;
    use crate::disk::Identity;
    use crate::fate::Source;
    use crate::pipeline::Wish;

    fn books(seconds: i64) -> Books {
        let row = Row {
            seq: 1,
            id: Id(7),
            name: (*b"intent-1.json").into(),
            source: Source::Event,
            identity: Identity::default(),
            proof: None,
            sha: None,
            generation: 0,
            target: None,
            priority: 5,
            valid_until: None,
            accepted_at: Wall(-seconds * 1_000_000_000),
            worker: 0,
            requeue_of: None,
            end: None,
        };
        let counts = Counts { accepted: 1, pending: 1, ..Counts::default() };
        Books { counts, oldest: Some(row), ..Books::default() }
    }

    #[test]
    fn a_pending_intent_is_told_by_name_and_age() {
        let told = pending(&books(300), true, Wall(0));
        assert_eq!(told.mark, Mark::Warn);
        assert!(told.message.contains("intent-1.json (id 0000000000000007) for 5 min"), "{}", told.message);
        assert_eq!(pending(&books(1), true, Wall(0)).mark, Mark::Ok);
        assert_eq!(pending(&books(1), false, Wall(0)).mark, Mark::Warn);
        assert_eq!(pending(&Books::default(), true, Wall(0)).mark, Mark::Ok);
    }

    #[test]
    fn the_ledger_has_room_is_nearly_full_or_full() {
        let mark = |bytes| room(bytes, 1_000, &Counts::default()).mark;
        assert_eq!([mark(900), mark(901), mark(1_001)], [Mark::Ok, Mark::Warn, Mark::Fail]);
    }

    #[test]
    fn requests_that_wait_are_judged_by_their_age_and_failed_ones_told_with_their_reason() {
        let state = tempfile::tempdir().unwrap();
        let dir = state.path().join("requeue");
        let requests = Requests::of(state.path());
        assert!(waiting(&[], true, Wall(0)).is_none() && refused(&[], &requests, &dir).is_none());
        requests.ask(&[1, 2].map(|no| Wish { id: Id(no), seq: no, pending: false }), Wall(0)).unwrap();
        let asked = requests.list().unwrap().requests;
        let told = |up, seconds: i64| {
            waiting(&asked, up, Wall(asked[0].asked_at().0 + seconds * 1_000_000_000)).unwrap()
        };
        assert_eq!(
            [told(true, 1).mark, told(true, 60).mark, told(false, 1).mark],
            [Mark::Ok, Mark::Warn, Mark::Warn]
        );
        assert!(told(true, 60).message.starts_with("2 requests to try intents again wait"));
        requests.refuse(Id(2), "its file is gone").unwrap();
        let listing = requests.list().unwrap();
        let failed = refused(&listing.refused, &requests, &dir).unwrap();
        assert_eq!(failed.mark, Mark::Warn);
        assert!(failed.message.contains("0000000000000002: its file is gone"), "{}", failed.message);
        assert!(odd(&listing.odd, &dir).is_none());
        fs::write(dir.join("readme"), "").unwrap();
        let strange = odd(&requests.list().unwrap().odd, &dir).unwrap();
        assert!(strange.message.contains("readme: it is no intent id"), "{}", strange.message);
    }

    #[test]
    fn quarantine_is_told_if_there_is_any() {
        let state = tempfile::tempdir().unwrap();
        assert!(quarantine(state.path()).is_none());
        fs::create_dir_all(state.path().join("quarantine/20261121-080000")).unwrap();
        assert_eq!(quarantine(state.path()).map(|finding| finding.mark), Some(Mark::Warn));
    }
}
