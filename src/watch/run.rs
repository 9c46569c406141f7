//! The watch thread: one round after the other, and rest between them.
//!
//! A round takes in messages, events and names seen again, minds the folder, moves the scan on by
//! one slice and hands out what is due. No step takes more than a slice, so a fresh file is never
//! behind a whole scan.

mod place;
mod scanning;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Receiver;
use crossbeam::sync::Parker;

use super::events::{Events, Feed, What};
use super::intake::Intake;
use super::names::{Names, Reported};
use super::progress::Progress;
use super::scan::Scan;
use super::schedule::Schedule;
use super::{Cause, Message, Parts, Settings, Trouble, WatchFault, Watcher};
use crate::clock::Mono;
use crate::debounce::Debouncer;

/// Messages, events or names of one step.
const SLICE: usize = 1_024;

/// How often a missing folder and a paused acceptance are asked for.
const ASK_AGAIN: Duration = Duration::from_secs(1);

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
    /// When the scan in progress began.
    scan_began: Mono,
    /// Names that the scan handed out and that have not been issued to the queue yet.
    handed_out: usize,
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
            plain(parts.hot.path()),
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
            scan_began: Mono::default(),
            handed_out: 0,
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
            self.parts.report.moves(now);
            let Some(mut busy) = self.receive(now) else {
                self.progress.rest();
                self.parts.report.rests();
                return Ok(());
            };
            busy |= self.hear(now);
            self.parts.report.calls(now);
            busy |= self.intake.see_again(now);
            self.mind_folder(now)?;
            let open = self.away.is_none() && (self.parts.may_accept)();
            if open {
                busy |= self.scan(now)?;
                // A short backlog goes before what was dropped since the scan began: it is older.
                while self.is_scan_young() && self.scan(now)? {}
                self.intake.issue(self.parts.clock.now());
                self.handed_out = 0;
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
                Ok(Message::Tune(tuning)) => self.tune(tuning),
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
            self.parts.report.rests();
            self.parker.park_timeout(wake.since(now));
        }
    }
}

/// The path as events spell it: absolute, without a slash at its end.
fn plain(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path);
    absolute.as_deref().unwrap_or(path).components().collect()
}
