//! Group `watch`: how new files are noticed, and whether the kernel has inotify left for it.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{Mode, OFlags, open};

use super::case::Case;
use super::report::Finding;
use super::subject::Process;
use crate::config::WatchMode;
use crate::watch::unseen_by_events;

/// Where the advice on limits is to be written.
const FILE: &str = "/etc/sysctl.d/60-conductor-loop.conf";

/// Room for a burst: one dropped file makes about six events.
const EVENTS: u64 = 131_072;

pub(super) fn examine(case: &Case) -> Vec<Finding> {
    let mode = case.loaded.config.watch.mode;
    let blind = open(&case.handoff, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .ok()
        .and_then(|folder| unseen_by_events(folder.as_fd()));
    let tried = try_inotify(&case.handoff);
    let mut findings = Vec::new();
    match case.pages.as_ref().and_then(|pages| pages.state["watch"]["mode"].as_str()) {
        Some(running) => findings.push(in_use(running, mode, blind, tried.is_ok())),
        None => findings.push(expected(mode, blind)),
    }
    if mode != WatchMode::Poll && blind.is_none() {
        let own = case.subject.is_us();
        findings.extend(available(tried, mode, own, case.subject.uid));
        findings.extend(instances(
            used_by(case.subject.uid),
            limit("max_user_instances"),
            mode,
            case.is_up(),
        ));
        findings.extend(watches(limit("max_user_watches"), case.loaded.config.watch.recursive));
        findings.extend(events(limit("max_queued_events")));
    }
    findings
}

/// Asks the kernel for an instance and a watch, and gives both back.
fn try_inotify(folder: &Path) -> io::Result<()> {
    let instance = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    if folder.is_dir() {
        inotify::add_watch(&instance, folder, WatchFlags::MOVED_TO)?;
    }
    Ok(())
}

fn in_use(running: &str, mode: WatchMode, blind: Option<&str>, possible: bool) -> Finding {
    match (running, mode, blind) {
        ("poll", WatchMode::Auto, None) if possible => Finding::warn(
            "mode",
            "the daemon polls every 2 s, though inotify can be had here: a limit was reached when it started",
            "see the limits below, then restart it; or its uid has none left",
        ),
        ("poll", _, Some(kind)) => {
            Finding::ok("mode", format!("the daemon polls: {kind} shows inotify not every change"))
        }
        (running, ..) => Finding::ok("mode", format!("the daemon's is {running}")),
    }
}

fn expected(mode: WatchMode, blind: Option<&str>) -> Finding {
    match (mode, blind) {
        (WatchMode::Poll, _) => Finding::ok("mode", "a daemon would poll, as watch.mode says"),
        (WatchMode::Auto, Some(kind)) => {
            Finding::ok("mode", format!("a daemon would poll: {kind} shows inotify not every change"))
        }
        (WatchMode::Inotify, Some(kind)) => Finding::warn(
            "mode",
            format!(
                "watch.mode is inotify, but {kind} does not show it every change; the rest is found by scans"
            ),
            "set watch.mode to auto",
        ),
        (_, None) => Finding::ok("mode", "a daemon would use inotify"),
    }
}

fn available(tried: io::Result<()>, mode: WatchMode, own: bool, uid: u32) -> Option<Finding> {
    let whose = if own { String::new() } else { format!(", tried as another user than uid {uid}") };
    let err = match tried {
        Ok(()) => {
            return Some(Finding::ok("inotify", format!("an instance and a watch can be had now{whose}")));
        }
        Err(err) => err,
    };
    if err.kind() == io::ErrorKind::PermissionDenied {
        return Some(Finding::warn(
            "inotify",
            format!("the folder may not be watched: {err}{whose}"),
            "see the group folders",
        ));
    }
    let advice =
        format!("raise fs.inotify.max_user_instances and max_user_watches in {FILE}, then sysctl --system");
    let message = format!("no instance or watch can be had: {err}{whose}");
    Some(match mode {
        WatchMode::Inotify => Finding::fail(
            "inotify",
            format!("{message}; with watch.mode inotify the daemon cannot start"),
            advice,
        ),
        _ => Finding::warn("inotify", format!("{message}; the daemon polls instead"), advice),
    })
}

/// `fs.inotify.<name>`; `None` where `/proc/sys` is hidden.
fn limit(name: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?.trim().parse().ok()
}

/// Instances that the processes of `uid` hold, as far as we may see; `None` if none of them may be looked at.
fn used_by(uid: u32) -> Option<u64> {
    let pids =
        fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let of_user = pids.filter(|pid| Process::read(Some(*pid)).is_some_and(|process| process.uid == uid));
    let seen = of_user.filter_map(|pid| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.filter_map(Result::ok);
        let links = open.filter_map(|fd| fs::read_link(fd.path()).ok());
        Some(links.filter(|link| link == Path::new("anon_inode:inotify")).count() as u64)
    });
    seen.fold(None, |sum, count| Some(sum.unwrap_or(0) + count))
}

fn instances(used: Option<u64>, limit: Option<u64>, mode: WatchMode, up: bool) -> Option<Finding> {
    let limit = limit?;
    let advice =
        format!("echo fs.inotify.max_user_instances = {} >> {FILE}; sysctl --system", (limit * 2).max(512));
    let told = match used {
        Some(used) => format!("{used} of {limit} (fs.inotify.max_user_instances) are used by this uid"),
        None => format!("{limit} a uid (fs.inotify.max_user_instances); how many are used cannot be seen"),
    };
    // A running daemon has its one.
    let left = limit.saturating_sub(used.unwrap_or(0));
    Some(match (left, up, mode) {
        (0, false, WatchMode::Inotify) => Finding::fail("instances", told, advice),
        (0, _, _) => Finding::warn("instances", told, advice),
        _ => Finding::ok("instances", told),
    })
}

fn watches(limit: Option<u64>, recursive: bool) -> Option<Finding> {
    let limit = limit?;
    let told = format!("{limit} watches a uid (fs.inotify.max_user_watches)");
    let few = if recursive { 8_192 } else { 16 };
    Some(match limit < few {
        true => Finding::warn(
            "watches",
            told,
            format!("echo fs.inotify.max_user_watches = 65536 >> {FILE}; sysctl --system"),
        ),
        false => Finding::ok("watches", told),
    })
}

fn events(limit: Option<u64>) -> Option<Finding> {
    let limit = limit?;
    let told = format!(
        "{limit} waiting events (fs.inotify.max_queued_events) are a burst of about {} files",
        limit / 6
    );
    Some(match limit < EVENTS {
        true => Finding::warn(
            "events",
            format!("{told}; larger ones are found by a scan, nothing is lost"),
            format!("echo fs.inotify.max_queued_events = {EVENTS} >> {FILE}; sysctl --system"),
        ),
        false => Finding::ok("events", told),
    })
}

#[cfg(test)]
mod tests {
    use super::super::report::Mark;
    use super::*;

    #[test]
    fn polling_without_need_is_told() {
        let mark = |running, mode, blind, possible| in_use(running, mode, blind, possible).mark;
        assert_eq!(mark("inotify", WatchMode::Auto, None, true), Mark::Ok);
        assert_eq!(mark("poll", WatchMode::Auto, None, true), Mark::Warn);
        assert_eq!(mark("poll", WatchMode::Auto, Some("nfs"), true), Mark::Ok);
        assert_eq!(mark("poll", WatchMode::Poll, None, true), Mark::Ok);
        assert_eq!(expected(WatchMode::Inotify, Some("nfs")).mark, Mark::Warn);
    }

    #[test]
    fn without_inotify_a_daemon_polls_unless_it_must_not() {
        let none = || Err(io::Error::from_raw_os_error(libc::EMFILE));
        let mark = |tried, mode| available(tried, mode, true, 0).map(|finding| finding.mark);
        assert_eq!(mark(Ok(()), WatchMode::Auto), Some(Mark::Ok));
        assert_eq!(mark(none(), WatchMode::Auto), Some(Mark::Warn));
        assert_eq!(mark(none(), WatchMode::Inotify), Some(Mark::Fail));
    }

    #[test]
    fn limits_are_judged_by_what_is_left() {
        let mark =
            |used, up| instances(Some(used), Some(128), WatchMode::Inotify, up).map(|finding| finding.mark);
        assert_eq!(
            [mark(12, false), mark(128, false), mark(128, true)].map(Option::unwrap),
            [Mark::Ok, Mark::Fail, Mark::Warn]
        );
        assert_eq!(watches(Some(10), false).unwrap().mark, Mark::Warn);
        assert_eq!(watches(Some(1_000), true).unwrap().mark, Mark::Warn);
        assert_eq!(watches(Some(1_000), false).unwrap().mark, Mark::Ok);
        assert_eq!(events(Some(16_384)).unwrap().mark, Mark::Warn);
        assert_eq!(events(Some(EVENTS)).unwrap().mark, Mark::Ok);
        assert_eq!(events(None), None);
    }

    #[test]
    fn our_own_instances_are_counted() {
        let held = inotify::init(CreateFlags::CLOEXEC).unwrap();
        let me = rustix::process::geteuid().as_raw();
        assert!(used_by(me).is_some_and(|count| count >= 1));
        drop(held);
    }
}
