//! From what is seen of a name to a ticket in the queue, and back.
//!
//! Owns the debouncer. A name goes: notice (who has it?) → debouncer → claim → lane. A ticket that
//! finds no room is given up, for its file stays in the folder: the name is left behind, and a
//! rescan is due as soon as what was full is half empty. That is one episode, however many names.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use super::folder::{self, Hot, Look};
use super::shares::{Share, Shares};
use super::{Job, Report, Trouble};
use crate::clock::Mono;
use crate::debounce::{Debouncer, Hint, Kept, NAMES, Noted, Ticket, Wait};
use crate::fate::Source;
use crate::queue::{Claim, Flight, Flights, Lane, Notice, Queue};

/// A backlog that fresh files wait behind rather than overtake, so that the order of a target is kept.
const SHORT: usize = 1_024;

pub(super) struct Intake {
    pub(super) hot: Arc<dyn Hot>,
    pub(super) queue: Arc<Queue<Box<Job>>>,
    pub(super) flights: Flights,
    pub(super) report: Arc<dyn Report>,
    pub(super) debouncer: Debouncer,
    shares: Shares,
    map_above: u64,
    /// Lanes that had no room since the last rescan.
    full_lanes: [bool; 3],
    /// Lanes that were truly full, and not for one owner alone: what comes later must not overtake what was
    /// left behind, so it is left behind too until the rescan.
    closed_lanes: [bool; 3],
    /// The debouncer had no room since the last rescan.
    full_table: bool,
    seen: [u64; 2],
}

impl Intake {
    pub(super) fn new(
        hot: Arc<dyn Hot>,
        queue: Arc<Queue<Box<Job>>>,
        flights: Flights,
        report: Arc<dyn Report>,
        debouncer: Debouncer,
        map_above: u64,
    ) -> Self {
        Intake {
            hot,
            queue,
            flights,
            report,
            debouncer,
            shares: Shares::default(),
            map_above,
            full_lanes: [false; 3],
            closed_lanes: [false; 3],
            full_table: false,
            seen: [0; 2],
        }
    }

    /// Takes in an event.
    pub(super) fn see(&mut self, name: Box<[u8]>, hint: Hint, now: Mono) {
        match self.flights.notice(&name, hint) {
            Notice::Busy => return,
            Notice::Known if !self.is_changed(&name) => return,
            Notice::Known | Notice::Free => {}
        }
        if self.debouncer.event(name, hint, now) == Noted::Full {
            self.leave_in_table();
        }
    }

    /// Takes in the names that were seen while somebody had them; true if there were any.
    pub(super) fn see_again(&mut self, now: Mono) -> bool {
        let again = self.flights.again();
        let any = !again.is_empty();
        for (name, hint) in again {
            // A scan met it on its way; most of these are filed by now.
            if hint == Hint::Scanned && matches!(self.look(&name), Ok(None)) {
                continue;
            }
            self.see(name, hint, now);
        }
        any
    }

    /// Takes in a name that a scan found; false when there is no room for it now.
    pub(super) fn find(&mut self, name: &[u8], size: u64, now: Mono) -> bool {
        self.debouncer.found(name, size, now) == Noted::Waits
    }

    /// Takes back a ticket that a worker could not judge. Its flight ends here, so what was seen
    /// meanwhile comes after it.
    pub(super) fn take_back(&mut self, ticket: Ticket, flight: Flight, wait: Wait, now: Mono) {
        let name = (wait == Wait::IoError).then(|| ticket.name.clone());
        match self.debouncer.returned(ticket, wait, now) {
            Kept::Waits => {}
            Kept::Full => self.leave_in_table(),
            Kept::GivenUp => self.report.fault(Trouble::IoError, &name.unwrap_or_default()),
        }
        drop(flight);
    }

    /// Hands every name that is due to the workers.
    pub(super) fn issue(&mut self, now: Mono) {
        while let Some(ticket) = self.debouncer.due(now) {
            self.hand_over(ticket);
        }
        for (source, seen) in Source::ALL.iter().zip(&mut self.seen) {
            if *seen > 0 {
                self.report.files_seen(*source, std::mem::take(seen));
            }
        }
    }

    /// True once, when names were left behind and there is room for them again.
    pub(super) fn has_caught_up(&mut self) -> bool {
        if !self.is_behind() || (self.full_table && self.debouncer.len() * 2 > NAMES) {
            return false;
        }
        // Every full lane is asked, so that each of them calls when it has room.
        let waiting = Lane::ALL
            .into_iter()
            .filter(|lane| self.full_lanes[*lane as usize] && !self.queue.ask_room(*lane))
            .count();
        if waiting > 0 {
            return false;
        }
        self.full_lanes = [false; 3];
        self.closed_lanes = [false; 3];
        self.full_table = false;
        true
    }

    /// True while names wait in the folder for room.
    pub(super) fn is_behind(&self) -> bool {
        self.full_table || self.full_lanes.contains(&true)
    }

    /// Looks at a name, links not followed.
    pub(super) fn look(&self, name: &[u8]) -> io::Result<Option<Look>> {
        folder::look(self.hot.handle().as_fd(), name)
    }

    /// Whether a known name holds another file by now. What cannot be looked at is for a worker.
    fn is_changed(&self, name: &[u8]) -> bool {
        match self.look(name) {
            Ok(Some(look)) => !self.flights.unchanged(name, &look.identity),
            Ok(None) => false,
            Err(_) => true,
        }
    }

    fn hand_over(&mut self, ticket: Ticket) {
        let flight = match self.flights.claim(&ticket.name, ticket.hint) {
            Claim::Taken(flight) => flight,
            Claim::Busy => return,
            Claim::Known => {
                let Ok(Some(look)) = self.look(&ticket.name) else { return };
                match self.flights.claim_changed(&ticket.name, &look.identity) {
                    Some(flight) => flight,
                    None => return,
                }
            }
        };
        let lane = self.lane(&ticket);
        if self.closed_lanes[lane as usize] {
            return self.leave_in_lane(lane);
        }
        let Ok(share) = self.share(lane, &ticket.name) else {
            return self.leave_in_lane(lane);
        };
        let (source, is_first) = (ticket.source, ticket.is_first());
        match self.queue.push(lane, Box::new(Job { ticket, flight, share })) {
            Ok(()) => self.seen[usize::from(source.code())] += u64::from(is_first),
            Err(_) => {
                self.leave_in_lane(lane);
                self.closed_lanes[lane as usize] = true;
            }
        }
    }

    fn lane(&self, ticket: &Ticket) -> Lane {
        match ticket.source {
            _ if ticket.size.is_some_and(|size| size > self.map_above) => Lane::Large,
            // Behind a short backlog, before a long one: 1,024 files are 50 ms of work.
            Source::Event if (1..=SHORT).contains(&self.queue.depth(Lane::Backlog)) => Lane::Backlog,
            Source::Event => Lane::Fresh,
            Source::Scan => Lane::Backlog,
        }
    }

    /// The owner's place in the lane, where owners count; an error when its share is used up.
    fn share(&self, lane: Lane, name: &[u8]) -> Result<Option<Share>, ()> {
        if lane != Lane::Fresh || !Shares::matter(self.queue.depth(lane), self.queue.capacity()) {
            return Ok(None);
        }
        match self.look(name) {
            Ok(Some(look)) => self.shares.take(look.uid, self.queue.capacity()).map(Some).ok_or(()),
            // Gone or out of reach: for the worker to tell.
            Ok(None) | Err(_) => Ok(None),
        }
    }

    fn leave_in_lane(&mut self, lane: Lane) {
        self.tell_episode(lane.as_str());
        self.full_lanes[lane as usize] = true;
    }

    fn leave_in_table(&mut self) {
        self.tell_episode("debounce table");
        self.full_table = true;
    }

    fn tell_episode(&self, what: &str) {
        if !self.is_behind() {
            tracing::info!(full = what, "names stay in the folder until there is room; a rescan follows");
        }
    }
}
