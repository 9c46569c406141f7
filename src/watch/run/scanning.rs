//! The scan, slice by slice: when it begins, what it finds, and how fast the queue takes it.

use std::os::fd::AsFd as _;
use std::time::Duration;

use super::Run;
use crate::clock::Mono;
use crate::disk::EntryKind;
use crate::queue::Lane;
use crate::watch::scan::{Oddity, Phase, Rules, Scan};
use crate::watch::{Cause, Trouble, WatchFault};

/// For this long after its beginning a scan goes before the events that came since: names of a short
/// backlog keep their order with newer files, and no event waits longer than this for it.
const YOUNG: Duration = Duration::from_millis(250);

/// Names that are handed out in one round.
const SLICE: usize = 256;

impl Run {
    /// Begins a scan if one is due and moves it on by one slice; true while it can go on.
    pub(super) fn scan(&mut self, now: Mono) -> Result<bool, WatchFault> {
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

    /// True while a scan is so young that its names may go before newer ones.
    pub(super) fn is_scan_young(&self) -> bool {
        self.scan.is_some() && self.parts.clock.now().since(self.scan_began) < YOUNG
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
        self.scan_began = now;
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
        self.listed();
        self.watch_below(entered)?;
        Ok(true)
    }

    /// The folder cannot be listed: it is tried again after a second.
    fn give_scan_up(&mut self, fault: &std::io::Error, now: Mono) {
        self.scan = None;
        self.schedule.end(now);
        self.schedule.want(Cause::Period);
        if self.check_folder(now) {
            self.ail_unlisted(fault);
        }
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

    /// Hands a slice of found names to the debouncer, as many as there is room for in the queue. One that
    /// found none would be left to a later scan, and newer files of its target would overtake it.
    fn issue_names(&mut self, now: Mono) -> bool {
        let Some(scan) = &mut self.scan else { return false };
        // Found at the scan's beginning as it were, and so before the events since.
        let found = if now.since(self.scan_began) < YOUNG { self.scan_began } else { now };
        let queue = &self.parts.queue;
        let taken = queue.depth(Lane::Backlog) + self.handed_out;
        let room = queue.capacity().saturating_sub(taken).min(SLICE);
        for _ in 0..room {
            let Some((name, size)) = scan.peek() else { return true };
            if !self.intake.find(name, size, found) {
                return false;
            }
            scan.advance();
            self.handed_out += 1;
        }
        room > 0 || self.handed_out == 0 && queue.ask_room(Lane::Backlog)
    }
}
