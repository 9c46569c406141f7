//! The watch thread: one round after the other, and rest between them.
//!
//! A round takes in messages, events and names seen again, minds the folder, moves the scan on by
//! one slice and hands out what is due. No step takes more than a slice, so a fresh file is never
//! behind a whole scan.

use std::collections::HashSet;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Receiver;
use crossbeam::sync::Parker;

use super::events::{Events, Feed, NoEvents, What};
use super::folder::{self, Away};
use super::intake::Intake;
use super::names::{Names, Reported};
use super::progress::{Mode, Progress};
use super::scan::{Oddity, Phase, Rules, Scan};
use super::schedule::Schedule;
use super::{Cause, Message, Parts, Settings, Trouble, WatchFault, Watcher};
use crate::clock::Mono;
use crate::config::WatchMode;
use crate::debounce::Debouncer;
use crate::disk::EntryKind;
use crate::queue::Lane;

/// Messages, events or names of one step.
const SLICE: usize = 1_024;

/// Time between scans where nothing else tells of files (or one period, if shorter).
const POLL: Duration = Duration::from_secs(2);

/// How often a missing folder and a paused acceptance are asked for.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The folder may go right after what was in it: looked at once more.
const SETTLED: Duration = Duration::from_millis(100);

/// Longest rest. The clock counts suspend and the rest does not.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// New sub-directories that wait for their scan; more of them are found by a whole scan.
const NEW_DIRECTORIES: usize = 1_024;

pub(super) struct Run {
    settings: Settings,
    parts: Parts,
    progress: Arc<Progress>,
    parker: Parker,
    inbox: Receiver<Message>,
    names: Arc<Names>,
    feed: Arc<Feed>,
    events: Option<Events>,
    intake: Intake,
    reported: Reported,
    schedule: Schedule,
    scan: Option<Scan>,
    new_directories: Vec<Box<[u8]>>,
    /// Sub-directories with a watch of their own.
    watched: HashSet<Box<[u8]>>,
    /// Set while the folder is gone: when to try it again.
    away: Option<Mono>,
    /// Its absence was reported.
    told_gone: bool,
    /// Something happened to the folder: look whether it is still there.
    shaken: bool,
    /// When to look once more.
    look_again: Option<Mono>,
}

impl Run {
    pub(super) fn new(watcher: Watcher) -> Self {
        let Watcher { settings, parts, pattern, progress, parker, inbox, .. } = watcher;
        let names = Arc::new(Names::new(pattern));
        let wake = parker.unparker().clone();
        let feed = Arc::new(Feed::new(
            parts.hot.path().to_owned(),
            Arc::clone(&names),
            settings.watch.recursive,
            settings.ring,
            wake.clone(),
        ));
        let bell = wake.clone();
        parts.queue.on_room(move || wake.unpark());
        parts.flights.on_again(move || bell.unpark());
        parts.flights.tell_idle(settings.once);
        let intake = Intake::new(
            Arc::clone(&parts.hot),
            Arc::clone(&parts.queue),
            parts.flights.clone(),
            Arc::clone(&parts.report),
            Debouncer::new(settings.watch.debounce),
            settings.map_above,
        );
        let period = (!settings.once).then_some(settings.watch.period);
        Run {
            schedule: Schedule::new(period),
            settings,
            parts,
            progress,
            parker,
            inbox,
            names,
            feed,
            events: None,
            intake,
            reported: Reported::default(),
            scan: None,
            new_directories: Vec::new(),
            watched: HashSet::new(),
            away: None,
            told_gone: false,
            shaken: false,
            look_again: None,
        }
    }

    pub(super) fn run(mut self) -> Result<(), WatchFault> {
        self.schedule.want(Cause::Start);
        self.place()?;
        loop {
            let now = self.parts.clock.now();
            self.progress.begin(now);
            let Some(mut busy) = self.receive(now) else { return Ok(()) };
            busy |= self.hear(now);
            busy |= self.intake.see_again(now);
            self.mind_folder(now)?;
            let open = self.away.is_none() && (self.parts.may_accept)();
            if open {
                busy |= self.scan(now)?;
                self.intake.issue(self.parts.clock.now());
            }
            if self.intake.has_caught_up() {
                self.schedule.want(Cause::QueueFull);
            }
            self.tell();
            if !busy {
                self.rest(open);
            }
        }
    }

    /// Takes in messages; `None` ends the watch.
    fn receive(&mut self, now: Mono) -> Option<bool> {
        for count in 0..SLICE {
            match self.inbox.try_recv() {
                Ok(Message::Returned(ticket, flight, wait)) => {
                    self.intake.take_back(ticket, flight, wait, now);
                }
                Ok(Message::Rescan(cause)) => self.schedule.want(cause),
                Ok(Message::Check) => self.shaken = true,
                Ok(Message::Wake) => {}
                Ok(Message::Stop) => return None,
                Err(_) => return Some(count > 0),
            }
        }
        Some(true)
    }

    /// Takes in events; true if there were any.
    fn hear(&mut self, now: Mono) -> bool {
        if let Some(lost) = self.feed.take_overflow() {
            self.parts.report.overflow(lost);
            self.schedule.want(Cause::Overflow);
        }
        self.shaken |= self.feed.take_shaken();
        for count in 0..SLICE {
            let Some(sighting) = self.feed.next() else { return count > 0 };
            match sighting.what {
                What::Seen(hint) => self.intake.see(sighting.name, hint, now),
                What::Mode => self.intake.debouncer.made_readable(&sighting.name, now),
                What::BadName => self.report_once(Trouble::BadName, &sighting.name),
                What::Directory => self.note_directory(sighting.name),
                What::Gone => {
                    self.watched.remove(&sighting.name);
                }
            }
        }
        true
    }

    fn note_directory(&mut self, name: Box<[u8]>) {
        if self.new_directories.len() < NEW_DIRECTORIES {
            self.new_directories.push(name);
        } else {
            self.schedule.want(Cause::Overflow);
        }
    }

    /// Looks whether the folder is the watched one, when there is a reason to; waits for its return.
    fn mind_folder(&mut self, now: Mono) -> Result<(), WatchFault> {
        let shaken = std::mem::take(&mut self.shaken);
        match self.away {
            Some(again) if again <= now => self.try_return(now),
            Some(_) => Ok(()),
            None => {
                let due = self.look_again.is_some_and(|at| at <= now);
                if due {
                    self.look_again = None;
                }
                if (shaken || due) && self.check_folder(now) && shaken {
                    self.look_again = Some(now.after(SETTLED));
                }
                Ok(())
            }
        }
    }

    /// True when the folder is still the watched one.
    fn check_folder(&mut self, now: Mono) -> bool {
        match self.parts.hot.check() {
            Ok(()) => true,
            Err(reason) => {
                self.go_away(&reason, now);
                false
            }
        }
    }

    fn go_away(&mut self, reason: &str, now: Mono) {
        if !self.told_gone {
            tracing::error!(reason, "the handoff folder is gone; waiting for its return");
            self.parts.report.fault(Trouble::FolderGone, b"");
            self.told_gone = true;
        }
        self.events = None;
        self.watched.clear();
        self.scan = None;
        self.new_directories.clear();
        self.look_again = None;
        self.away = Some(now.after(ASK_AGAIN));
        self.set_healthy(false);
    }

    fn try_return(&mut self, now: Mono) -> Result<(), WatchFault> {
        match self.parts.hot.reopen() {
            Ok(()) => {
                self.away = None;
                self.schedule.want(Cause::Returned);
                self.place()
            }
            Err(Away::ForNow(_)) => {
                self.away = Some(now.after(ASK_AGAIN));
                Ok(())
            }
            Err(Away::ForGood(reason)) => Err(WatchFault::Replaced(reason)),
        }
    }

    /// Chooses how files are noticed and places the watch.
    fn place(&mut self) -> Result<(), WatchFault> {
        let now = self.parts.clock.now();
        if self.settings.once {
            self.progress.set_mode(Mode::Once);
        } else if let Some(reason) = self.reason_to_poll() {
            self.poll(&reason);
        } else {
            match Events::start(&self.feed) {
                Ok(events) => {
                    self.events = Some(events);
                    self.schedule.set_period(self.settings.watch.period);
                    self.progress.set_mode(Mode::Inotify);
                }
                Err(fault) => self.do_without(fault, now)?,
            }
        }
        // Also sees a folder that was swapped before the watch was placed.
        if self.away.is_none() && self.check_folder(now) {
            tracing::info!(mode = self.progress.mode().as_str(), "watching the handoff folder");
            self.told_gone = false;
            self.set_healthy(true);
        }
        Ok(())
    }

    fn reason_to_poll(&self) -> Option<String> {
        match self.settings.watch.mode {
            WatchMode::Inotify => None,
            WatchMode::Poll => Some("watch.mode is poll".into()),
            WatchMode::Auto => folder::unseen_by_events(self.parts.hot.handle().as_fd())
                .map(|kind| format!("the folder is on {kind}, where inotify does not see every change")),
        }
    }

    fn do_without(&mut self, fault: NoEvents, now: Mono) -> Result<(), WatchFault> {
        if fault.limit {
            self.parts.report.fault(Trouble::InotifyLimit, b"");
        } else if let Err(reason) = self.parts.hot.check() {
            self.go_away(&reason, now);
            return Ok(());
        }
        if self.settings.watch.mode == WatchMode::Inotify {
            return Err(WatchFault::NoInotify(fault.message));
        }
        self.poll(&fault.message);
        Ok(())
    }

    fn poll(&mut self, reason: &str) {
        let period = self.settings.watch.period.min(POLL);
        tracing::warn!(reason, ?period, "polling: the handoff folder is scanned every period");
        self.events = None;
        self.schedule.set_period(period);
        self.progress.set_mode(Mode::Poll);
    }

    fn set_healthy(&mut self, healthy: bool) {
        self.progress.set_healthy(healthy);
        self.parts.report.healthy(healthy);
    }

    /// Begins a scan if one is due and moves it on by one slice; true while it can go on.
    fn scan(&mut self, now: Mono) -> Result<bool, WatchFault> {
        if self.scan.is_none() && !self.begin_scan(now)? {
            return Ok(false);
        }
        match self.scan.as_ref().map(Scan::phase) {
            Some(Phase::Listing) => self.list_names(now),
            Some(Phase::Issuing) => Ok(self.issue_names(now)),
            Some(Phase::Done) | None => {
                if self.scan.take().is_some_and(|scan| scan.is_whole()) {
                    self.schedule.end(now);
                    self.progress.set_scanned(!self.schedule.is_wanted());
                }
                Ok(true)
            }
        }
    }

    fn begin_scan(&mut self, now: Mono) -> Result<bool, WatchFault> {
        if let Some(directory) = self.new_directories.pop() {
            return self.begin_directory(directory);
        }
        if !self.check_due(now) {
            return Ok(false);
        }
        let Some(cause) = self.schedule.begin(now) else { return Ok(false) };
        self.parts.report.rescan(cause);
        self.scan = Some(Scan::over(b""));
        self.progress.set_scanned(false);
        self.progress.set_ready();
        Ok(true)
    }

    /// Watches and scans a directory that came, if that is what it is.
    fn begin_directory(&mut self, directory: Box<[u8]>) -> Result<bool, WatchFault> {
        let levels = directory.split(|byte| *byte == b'/').count();
        let is_directory = || {
            let look = self.intake.look(&directory).ok().flatten();
            look.is_some_and(|look| look.kind == EntryKind::Directory)
        };
        if levels <= self.depth() && is_directory() {
            self.scan = Some(Scan::over(&directory));
            self.watch_below(vec![directory])?;
        }
        Ok(true)
    }

    /// Levels of sub-directories to look into.
    fn depth(&self) -> usize {
        let watch = &self.settings.watch;
        if watch.recursive { usize::try_from(watch.max_depth).unwrap_or(usize::MAX) } else { 0 }
    }

    /// True when a whole scan is due and the folder is there for it.
    fn check_due(&mut self, now: Mono) -> bool {
        self.schedule.due().is_some_and(|due| due <= now) && self.check_folder(now)
    }

    fn list_names(&mut self, now: Mono) -> Result<bool, WatchFault> {
        let depth = self.depth();
        let Some(scan) = &mut self.scan else { return Ok(false) };
        let rules = Rules { names: &self.names, flights: &self.parts.flights, depth };
        let handle = self.parts.hot.handle();
        let mut entered: Vec<Box<[u8]>> = Vec::new();
        let (reported, report) = (&mut self.reported, &self.parts.report);
        let listed = scan.list(handle.as_fd(), &rules, &mut |oddity| match oddity {
            Oddity::Entered(name) => entered.push(name.into()),
            Oddity::BadName(name) if reported.is_news(name) => report.fault(Trouble::BadName, name),
            Oddity::Directory(name) if reported.is_news(name) => report.fault(Trouble::Directory, name),
            Oddity::Unknown(name) => report.fault(Trouble::IoError, name),
            Oddity::BadName(_) | Oddity::Directory(_) => {}
        });
        if let Err(fault) = listed {
            self.give_scan_up(&fault, now);
            return Ok(false);
        }
        self.watch_below(entered)?;
        Ok(true)
    }

    /// The folder cannot be listed: it is tried again after a second.
    fn give_scan_up(&mut self, fault: &std::io::Error, now: Mono) {
        tracing::warn!(%fault, "the handoff folder cannot be listed; trying again");
        self.parts.report.fault(Trouble::IoError, b"");
        self.scan = None;
        self.schedule.end(now);
        self.schedule.want(Cause::Period);
        self.check_folder(now);
    }

    /// Places watches on sub-directories that have none; the scan lists them after that.
    fn watch_below(&mut self, entered: Vec<Box<[u8]>>) -> Result<(), WatchFault> {
        for directory in entered {
            let Some(events) = &mut self.events else { return Ok(()) };
            if self.watched.contains(&directory) {
                continue;
            }
            match events.add(&directory) {
                Ok(()) => {
                    self.watched.insert(directory);
                }
                Err(fault) if fault.limit => {
                    let now = self.parts.clock.now();
                    self.do_without(fault, now)?;
                }
                // Gone since; its return is an event.
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Hands a slice of found names to the debouncer, as many as there is room for in the queue.
    fn issue_names(&mut self, now: Mono) -> bool {
        let Some(scan) = &mut self.scan else { return false };
        let queue = &self.parts.queue;
        let room = queue.capacity().saturating_sub(queue.depth(Lane::Backlog)).min(SLICE / 4);
        for _ in 0..room {
            let Some((name, size)) = scan.peek() else { return true };
            if !self.intake.find(name, size, now) {
                return false;
            }
            scan.advance();
        }
        room > 0 || queue.ask_room(Lane::Backlog)
    }

    fn report_once(&mut self, trouble: Trouble, name: &[u8]) {
        if self.reported.is_news(name) {
            self.parts.report.fault(trouble, name);
        }
    }

    /// Publishes the state after a round.
    fn tell(&mut self) {
        let debouncer = &self.intake.debouncer;
        self.feed.set_unreadable(debouncer.unreadable());
        self.progress.set_waiting(debouncer.len());
        if self.settings.once {
            let done = self.progress.is_scanned()
                && self.scan.is_none()
                && !self.schedule.is_wanted()
                && !self.intake.is_behind()
                && debouncer.is_empty();
            // Asked in this order: a name that lands later than the first question has left its
            // hint before the second, and then the bell rings for another round.
            let settled = done && self.parts.flights.busy() == 0 && !self.parts.flights.has_again();
            self.progress.set_settled(settled);
        }
    }

    /// Sleeps until something happens or is due.
    fn rest(&mut self, open: bool) {
        let now = self.parts.clock.now();
        let mut wake = now.after(LONGEST_REST);
        let mut no_later = |moment: Option<Mono>| wake = moment.map_or(wake, |moment| wake.min(moment));
        if open {
            no_later(self.intake.debouncer.next_due());
            if self.scan.is_none() {
                no_later(self.schedule.due());
            }
        } else if self.away.is_none() {
            no_later(Some(now.after(ASK_AGAIN)));
        }
        no_later(self.away);
        no_later(self.look_again);
        if wake > now {
            self.progress.rest();
            self.parker.park_timeout(wake.since(now));
        }
    }
}
