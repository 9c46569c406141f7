//! The worker threads: each takes a ticket, has it judged, and passes the result on.
//!
//! A panic inside a judgement costs that file's attempt only: it is counted, the worker's tools are
//! made anew, and the file is looked at once more; after a second panic it is refused as
//! `crash-suspect`. Files that were in hand when three processes died are refused unread.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::tune::InForce;
use crate::clock::{Clock, Mono};
use crate::config::Live;
use crate::debounce::{Ticket, Wait};
use crate::disk::{Identity, Place, RealDisk, look_at};
use crate::fate::{Fate, Reason};
use crate::ledger::{Entry, Handle, Verdict};
use crate::observe::{FaultKind, Health, Metrics, Stage, StageId, escape_name};
use crate::queue::{Flight, Gate, Queue, Taken};
use crate::read::Leave;
use crate::watch::{Job, Mailbox, Message};
use crate::worker::{Judged, Parcel, Timing, Worker};

/// An idle worker asks again whether it should stop after this long at the latest.
const IDLE: Duration = Duration::from_secs(60);
/// How often an entry that must not be touched is reported.
const REMIND: Duration = Duration::from_secs(60);
/// Names that are remembered for having been left in place or for a panic.
const REMEMBERED: usize = 1_024;
/// Panics with one file in hand after which it is refused.
const PANICS: u8 = 2;

/// Who judges a file; a seam for tests that need a judge who panics.
pub(super) trait Judge: Send {
    fn judge(&mut self, handoff: &OwnedFd, ticket: &Ticket, in_large_lane: bool) -> (Judged, Timing);
    fn rest(&mut self);
}

impl Judge for Worker {
    fn judge(&mut self, handoff: &OwnedFd, ticket: &Ticket, in_large_lane: bool) -> (Judged, Timing) {
        Worker::judge(self, handoff, ticket, in_large_lane)
    }

    fn rest(&mut self) {
        Worker::rest(self);
    }
}

/// Makes the tools of worker `n` by the settings in force; asked again after a panic and a reload.
pub(super) type Hire = Arc<dyn Fn(u16) -> Box<dyn Judge> + Send + Sync>;

/// What all workers share.
pub(super) struct Crew {
    pub(super) queue: Arc<Queue<Box<Job>>>,
    pub(super) gate: Arc<Gate>,
    pub(super) ledger: Handle<Parcel>,
    pub(super) watch: Mailbox,
    pub(super) disk: Arc<RealDisk>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    pub(super) stopping: Arc<AtomicBool>,
    pub(super) settings: Live<InForce>,
    /// Files that were in hand at three process deaths.
    pub(super) condemned: Mutex<HashMap<Vec<u8>, Identity>>,
    pub(super) panics: Mutex<HashMap<Box<[u8]>, u8>>,
    pub(super) left: Mutex<HashMap<Box<[u8]>, Mono>>,
}

impl Crew {
    /// One worker's life.
    pub(super) fn work(&self, number: u16, hire: &Hire) {
        let mut settings = self.settings.follow();
        let mut judge = hire(number);
        let pulse = self.health.pulse(StageId::Worker(number));
        let stop = || self.stopping.load(Ordering::SeqCst);
        while !stop() {
            if !self.gate.is_open() {
                judge.rest();
                pulse.idle();
                self.gate.wait_open(&stop);
                continue;
            }
            let taken = match self.queue.take() {
                Some(taken) => taken,
                None => {
                    judge.rest();
                    pulse.idle();
                    match self.queue.take_wait(&stop, IDLE) {
                        Some(taken) => taken,
                        None => continue,
                    }
                }
            };
            if settings.renew() {
                judge.rest();
                judge = hire(number);
            }
            self.metrics.worker_busy(true);
            if !self.handle(&mut *judge, number, taken) {
                judge = hire(number);
            }
            self.metrics.worker_busy(false);
        }
        judge.rest();
        pulse.idle();
    }

    /// Judges one ticket and passes it on; false after a panic.
    fn handle(&self, judge: &mut dyn Judge, number: u16, taken: Taken<Box<Job>>) -> bool {
        let Taken { order, item, large, .. } = taken;
        let (ticket, flight) = item.into_parts();
        let stage = StageId::Worker(number);
        self.health.in_call(stage, self.clock.now());
        let folders = self.disk.folders();
        let handoff = folders.fd(Place::Handoff);
        let judged = match self.is_condemned(handoff, &ticket) {
            true => Ok((self.crash_suspect(handoff, &ticket, number, "three processes"), Timing::default())),
            false => catch_unwind(AssertUnwindSafe(|| judge.judge(handoff, &ticket, large.is_some()))),
        };
        drop(large);
        self.health.beat(stage, self.clock.now());
        let (judged, survived) = match judged {
            Ok((judged, timing)) => {
                self.metrics.stage(Stage::Read, timing.read);
                if timing.short {
                    self.metrics.fault(FaultKind::Resources);
                }
                if timing.validate > Duration::ZERO {
                    self.metrics.stage(Stage::Validate, timing.validate);
                }
                (judged, true)
            }
            Err(_) => (self.after_panic(handoff, &ticket, number), false),
        };
        self.pass_on(order, ticket, flight, judged);
        survived
    }

    fn pass_on(&self, order: u64, ticket: Ticket, mut flight: Flight, judged: Judged) {
        match judged {
            Judged::Entry(entry, intent) => {
                let loaded = entry.payload.as_ref().map_or(0, |bytes| bytes.len() as u64);
                let pass = Some(self.gate.enter(entry.identity.size, loaded));
                flight.accepted(&entry.identity);
                let parcel = Parcel { flight, pass, intent, sighted: ticket.sighted, pending: false };
                // Without a writer the process is ending; the file is still in the folder.
                let _ = self.ledger.accept(order, *entry, parcel);
                return;
            }
            Judged::Wait(wait) => self.give_back(ticket, flight, wait),
            Judged::Large(size) => self.give_back(ticket, flight, Wait::Large(size)),
            Judged::Gone => self.metrics.fault(FaultKind::Vanished),
            Judged::Leave(leave) => self.leave(&ticket, leave),
        }
        let _ = self.ledger.void(order);
    }

    fn give_back(&self, ticket: Ticket, flight: Flight, wait: Wait) {
        if matches!(wait, Wait::Changed(_)) {
            self.metrics.fault(FaultKind::Unstable);
        }
        self.watch.post(Message::Returned(ticket, flight, wait));
    }

    /// True for the very file that three processes died with; asked for it once.
    fn is_condemned(&self, handoff: &OwnedFd, ticket: &Ticket) -> bool {
        let mut condemned = self.condemned.lock();
        let Some(identity) = condemned.get(&ticket.name[..]) else { return false };
        let seen = look_at(handoff, Path::new(OsStr::from_bytes(&ticket.name)));
        let same = matches!(seen, Ok(Some(seen)) if seen.identity.same_but_ctime(identity));
        condemned.remove(&ticket.name[..]);
        same
    }

    /// Entries that must not be touched are reported once a minute.
    fn leave(&self, ticket: &Ticket, leave: Leave) {
        let (mut left, now) = (self.left.lock(), self.clock.now());
        left.retain(|_, told| now.since(*told) < REMIND);
        if left.contains_key(&ticket.name) || left.len() >= REMEMBERED {
            return;
        }
        left.insert(ticket.name.clone(), now);
        drop(left);
        let name = escape_name(&ticket.name);
        match leave {
            Leave::Mountpoint => {
                self.metrics.fault(FaultKind::Mountpoint);
                tracing::warn!(file = name, "left in place: something is mounted on the name; unmount it");
            }
            Leave::Directory => {
                tracing::warn!(file = name, "left in place: it is a directory; drop files, not directories");
            }
        }
    }

    fn after_panic(&self, handoff: &OwnedFd, ticket: &Ticket, number: u16) -> Judged {
        self.metrics.panicked();
        let mut panics = self.panics.lock();
        if panics.len() >= REMEMBERED {
            panics.clear();
        }
        let count = panics.entry(ticket.name.clone()).or_insert(0);
        *count += 1;
        tracing::error!(
            file = escape_name(&ticket.name),
            panics = *count,
            "a worker panicked with this file in hand"
        );
        if *count < PANICS {
            return Judged::Wait(Wait::IoError);
        }
        panics.remove(&ticket.name);
        drop(panics);
        self.crash_suspect(handoff, ticket, number, "two workers")
    }

    fn crash_suspect(&self, handoff: &OwnedFd, ticket: &Ticket, worker: u16, who: &str) -> Judged {
        let name = Path::new(OsStr::from_bytes(&ticket.name));
        let Ok(Some(seen)) = look_at(handoff, name) else { return Judged::Gone };
        let message = format!("{who} died with this file in hand; it is kept in failed/ for examination");
        Judged::Entry(Box::new(refusal(ticket, seen.identity, worker, message)), None)
    }
}

fn refusal(ticket: &Ticket, identity: Identity, worker: u16, message: String) -> Entry {
    let verdict = Verdict { fate: Fate::Refused, reason: Reason::CrashSuspect, message, errors: Vec::new() };
    Entry {
        verdict: Some(verdict),
        ..Entry::unread(ticket.name.clone(), ticket.source, identity, ticket.sighted, worker)
    }
}

#[cfg(test)]
mod tests;
