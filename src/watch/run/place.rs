//! Where and how the folder is watched, and what happens while it is gone (F20, D12).
//!
//! A folder that goes ends the events and the scan; what waits stays where it is. The path is tried
//! once a second, and everything is scanned after its return. A rename of the folder is an event, and
//! so is the end of the daemon's directories in it; the removal of a bare folder is none while its
//! descriptor is held, and shows at the next scan. inotify cannot always be had: then
//! the folder is polled, unless the settings forbid it.

use std::os::fd::AsFd as _;
use std::time::Duration;

use super::{ASK_AGAIN, Run};
use crate::clock::Mono;
use crate::config::WatchMode;
use crate::watch::events::{Events, NoEvents};
use crate::watch::folder::{self, Away};
use crate::watch::progress::Mode;
use crate::watch::{Cause, Trouble, Tuning, WatchFault};

/// Time between scans where nothing else tells of files (or one period, if shorter).
const POLL: Duration = Duration::from_secs(2);

/// The folder may go right after what was in it: looked at once more.
const SETTLED: Duration = Duration::from_millis(100);

impl Run {
    /// Looks whether the folder is the watched one, when there is a reason to; waits for its return.
    pub(super) fn mind_folder(&mut self, now: Mono) -> Result<(), WatchFault> {
        let shaken = std::mem::take(&mut self.shaken);
        match self.away {
            Some(again) if again <= now => self.try_return(now),
            Some(_) => Ok(()),
            None => {
                let due = self.look_again.is_some_and(|at| at <= now);
                if due {
                    self.look_again = None;
                }
                let is_there = !(shaken || due) || self.check_folder(now);
                if shaken && is_there {
                    self.look_again = Some(now.after(SETTLED));
                }
                Ok(())
            }
        }
    }

    /// True when the folder is still the watched one.
    pub(super) fn check_folder(&mut self, now: Mono) -> bool {
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
    pub(super) fn place(&mut self) -> Result<(), WatchFault> {
        let now = self.parts.clock.now();
        if self.settings.once {
            self.progress.set_mode(Mode::Once);
        } else if let Some(reason) = self.reason_to_poll() {
            self.poll(&reason);
        } else {
            match Events::start(&self.feed) {
                Ok(events) => {
                    self.events = Some(events);
                    self.progress.set_mode(Mode::Inotify);
                    self.keep_period();
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

    pub(super) fn do_without(&mut self, fault: NoEvents, now: Mono) -> Result<(), WatchFault> {
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
        self.events = None;
        self.progress.set_mode(Mode::Poll);
        let period = self.keep_period();
        tracing::warn!(reason, ?period, "polling: the handoff folder is scanned every period");
    }

    /// Scans every period that the mode and the settings ask for.
    fn keep_period(&mut self) -> Duration {
        let period = match self.progress.mode() {
            Mode::Poll => self.settings.watch.period.min(POLL),
            Mode::Inotify | Mode::Once => self.settings.watch.period,
        };
        self.schedule.set_period(period);
        period
    }

    /// Goes by other settings.
    pub(super) fn tune(&mut self, tuning: Tuning) {
        self.settings.watch.debounce = tuning.debounce;
        self.settings.watch.period = tuning.period;
        self.intake.debouncer.set_window(tuning.debounce);
        if !self.settings.once {
            self.keep_period();
        }
    }

    fn set_healthy(&mut self, healthy: bool) {
        self.progress.set_healthy(healthy);
        self.parts.report.healthy(healthy);
    }
}
