//! Group `clock`: whether the wall clock can be trusted. Order and retries do not depend on it; `valid_until`,
//! ages and all reports do.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use super::case::Case;
use super::report::{Finding, span};
use super::subject::Process;
use crate::clock::Wall;
use crate::disk::boot_id;
use crate::ledger::Reader;

/// Smaller steps back are a clock being disciplined.
const STEP: u64 = 5;

/// A clock that is further back was reset, not corrected.
const RESET: u64 = 86_400;

/// Daemons that keep the clock and leave no mark when they have it.
const KEEPERS: [&str; 5] = ["chronyd", "ntpd", "openntpd", "ptp4l", "phc2sys"];

pub(super) fn examine(case: &Case) -> Vec<Finding> {
    let newest = Reader::open(&case.state).and_then(|reader| reader.condition(&boot_id()));
    let newest = newest.ok().and_then(|condition| condition.newest);
    let built = fs::metadata("/proc/self/exe").and_then(|meta| meta.modified()).ok().and_then(wall);
    let marked = Path::new("/run/systemd/timesync/synchronized").exists();
    vec![time(case.now, newest, built), synchronised(marked, keeper().as_deref())]
}

fn wall(time: SystemTime) -> Option<Wall> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_nanos()).ok().map(Wall)
}

fn time(now: Wall, newest: Option<Wall>, built: Option<Wall>) -> Finding {
    let behind = |then: Option<Wall>| {
        let then = then?;
        let seconds = u64::try_from(then.0.saturating_sub(now.0)).unwrap_or(0) / 1_000_000_000;
        (seconds > STEP).then_some((then, seconds))
    };
    let advice = "set the clock (timedatectl, chronyc makestep); intents with valid_until are judged by it";
    match (behind(newest), behind(built)) {
        (Some((then, seconds)), _) => {
            let message = format!(
                "{} is {} before the newest entry of the ledger ({}): the clock went back",
                now.seconds(),
                span(seconds),
                then.seconds()
            );
            if seconds > RESET {
                Finding::fail("time", message, advice)
            } else {
                Finding::warn("time", message, advice)
            }
        }
        (None, Some((then, _))) => Finding::fail(
            "time",
            format!(
                "{} is earlier than this program's file ({}): the clock was never set",
                now.seconds(),
                then.seconds()
            ),
            advice,
        ),
        (None, None) => Finding::ok("time", format!("{}, later than everything on record", now.seconds())),
    }
}

fn keeper() -> Option<String> {
    let pids =
        fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let mut names = pids.filter_map(|pid| Some(Process::read(Some(pid))?.name));
    names.find(|name| KEEPERS.contains(&name.as_str()))
}

fn synchronised(marked: bool, keeper: Option<&str>) -> Finding {
    match (marked, keeper) {
        (true, _) => Finding::ok("synchronised", "yes, by systemd-timesyncd"),
        (false, Some(keeper)) => {
            Finding::ok("synchronised", format!("{keeper} runs; whether it has the time only it can tell"))
        }
        (false, None) => Finding::warn(
            "synchronised",
            "unknown: no sign of systemd-timesyncd, chrony, ntpd or PTP (a container cannot see its host's)",
            "timedatectl show -p NTPSynchronized tells it on the host",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Mark;
    use super::*;

    fn at(seconds: i64) -> Wall {
        Wall(seconds * 1_000_000_000)
    }

    #[test]
    fn a_clock_behind_the_record_went_back() {
        let mark = |now, newest, built| time(at(now), Some(at(newest)), Some(at(built))).mark;
        assert_eq!(mark(1_000_000, 999_000, 0), Mark::Ok);
        assert_eq!(mark(1_000_000, 1_000_003, 0), Mark::Ok, "a clock being disciplined");
        assert_eq!(mark(1_000_000, 1_000_060, 0), Mark::Warn);
        assert_eq!(mark(1_000_000, 2_000_000, 0), Mark::Fail);
        assert_eq!(mark(0, 0, 1_000), Mark::Fail, "before the program was made");
        assert_eq!(time(at(5), None, None).mark, Mark::Ok);
    }

    #[test]
    fn what_keeps_the_clock_is_told_as_far_as_it_is_known() {
        assert_eq!(synchronised(true, None).mark, Mark::Ok);
        assert_eq!(synchronised(false, Some("chronyd")).mark, Mark::Ok);
        let unknown = synchronised(false, None);
        assert!(unknown.mark == Mark::Warn && unknown.message.starts_with("unknown"));
    }
}
