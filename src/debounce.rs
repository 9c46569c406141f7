//! When a name is worth a look: one entry per waiting name and the moment it is due.
//!
//! Pure: `now` is an argument, counts are return values, nothing outside is touched. Whether a file
//! is complete is proved by the worker that opens it (a lease, or an unchanged identity across one
//! window); this table only decides *when* a worker looks, and how long an unfinished file is
//! borne with. An entry leaves the table as a [`Ticket`] and comes back with [`Debouncer::returned`],
//! its history inside; who sees a name meanwhile is kept by `queue::Flights`.
//!
//! What is seen:
//! - a close, a rename in, a name found by a scan: due at once;
//! - a touch alone (created, linked in, written to): due one window after the last touch, and after
//!   [`MAX_WAIT`] even if the touching goes on;
//! - a rename in brings another file, so everything that was known of the name is forgotten.
//!
//! What a worker answers: see [`Wait`]. The patience with each kind of trouble is counted on its
//! own (`debounce/patience.rs`); events shorten a wait and never shorten patience.
//!
//! Limits: [`NAMES`] entries, about 260 bytes each (17 MB when full); beyond them a name is left to the next scan.

mod patience;
#[cfg(test)]
mod tests;

use std::collections::hash_map::Entry as Place;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::clock::Mono;
use crate::disk::Identity;
use crate::fate::Source;

use patience::{History, Waiting};

/// Most names that wait at once.
pub const NAMES: usize = 65_536;

/// Longest time for which a stream of events can put off a look.
pub const MAX_WAIT: Duration = Duration::from_secs(10);

/// A table above this many slots is given back when it is nearly empty.
const SHRINK_ABOVE: usize = 4_096;

/// What was seen of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hint {
    /// Created, linked in or written to: perhaps still being written.
    Touched,
    /// Closed by a writer.
    Closed,
    /// Renamed into the folder.
    Renamed,
    /// Found by a scan, which says nothing about its writer.
    Scanned,
}

impl Hint {
    /// What counts after `next` was seen as well: the newest event; a scan adds nothing to one.
    pub const fn then(self, next: Hint) -> Hint {
        match next {
            Hint::Scanned => self,
            event => event,
        }
    }
}

/// Why a worker gives a ticket back instead of a judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The lease is refused: somebody has it open for writing. Looked at again after 1, 2, 4 … ms up
    /// to one window, then every window, without end; a close makes it due at once.
    Busy,
    /// No lease is to be had here and nothing else proves completion: one window later, with this
    /// identity expected.
    Unproved(Identity),
    /// The file is not the expected one, or changed under the reading: one window later, with this
    /// identity expected. After 20 unexplained rounds, or 10 min, the last chance (F08).
    Changed(Identity),
    /// The document has no end yet. Empty: one more window, then the last chance (F06). Cut off: every
    /// window until 5 windows after the last change of identity, then the last chance (F12).
    Unfinished(Identity),
    /// More than one hard link: once more after 2 s, as the last chance (F04).
    Linked(Identity),
    /// No permission to open it: more and more seldom, after 30 s the last chance (F05).
    Unreadable,
    /// Somebody else's lease keeps us out: more and more seldom, after 10 min the last chance (F13).
    Leased,
    /// The file system failed: three more looks, then it is given up until a scan finds it (D05).
    IoError,
    /// Too large for the lane that it came in: at once, with its size in bytes.
    Large(u64),
}

/// One name to be looked at by a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Raw bytes, relative to the handoff folder.
    pub name: Box<[u8]>,
    /// How it was noticed. A name found by a scan becomes an event's as soon as one is seen.
    pub source: Source,
    /// The newest thing seen of it.
    pub hint: Hint,
    /// Unchanged since one window if it still has this identity.
    pub expected: Option<Identity>,
    /// The worker has to judge it now. For an unfinished document this holds only while the
    /// identity is the expected one; another one deserves another [`Wait::Unfinished`].
    pub last_chance: bool,
    /// When this file was first noticed.
    pub sighted: Mono,
    /// Bytes, where a scan or a worker has told.
    pub size: Option<u64>,
    history: Option<Box<History>>,
}

impl Ticket {
    /// False once a worker has given it back.
    pub fn is_first(&self) -> bool {
        self.history.is_none()
    }
}

/// What the table did with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Noted {
    /// The name is in the table.
    Waits,
    /// The table is full: the name has to be found again by a scan.
    Full,
}

/// What the table did with a returned ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Kept {
    /// The name is in the table.
    Waits,
    /// The table is full: the name has to be found again by a scan.
    Full,
    /// Given up after three failed repeats; to be reported.
    GivenUp,
}

/// The moment of an entry and a serial number, so that equal moments keep their order.
type Due = (Mono, u64);

/// One waiting name.
#[derive(Debug)]
struct Entry {
    due: Due,
    /// Since when it waits without a look.
    since: Mono,
    waiting: Waiting,
    /// The coming look is the last one, unless an event intervenes.
    last_look: bool,
    source: Source,
    hint: Hint,
    /// Whether the identity that the history knows is to be found again.
    expects: bool,
    sighted: Mono,
    size: Option<u64>,
    history: Option<Box<History>>,
}

/// The table of waiting names.
#[derive(Debug)]
pub struct Debouncer {
    window: Duration,
    serial: u64,
    entries: HashMap<Box<[u8]>, Box<Entry>>,
    timers: BTreeMap<Due, Box<[u8]>>,
    unreadable: usize,
}

impl Debouncer {
    /// An empty table; `window` is one quiet time.
    pub fn new(window: Duration) -> Self {
        Debouncer { window, serial: 0, entries: HashMap::new(), timers: BTreeMap::new(), unreadable: 0 }
    }

    /// Another quiet time, for what is noticed and answered from now on; moments that are set stay.
    pub fn set_window(&mut self, window: Duration) {
        self.window = window;
    }

    /// Names that wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when no name waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Names that wait for a permission: only they care for a change of mode.
    pub fn unreadable(&self) -> usize {
        self.unreadable
    }

    /// When the next name is due.
    pub fn next_due(&self) -> Option<Mono> {
        self.timers.first_key_value().map(|(due, _)| due.0)
    }

    /// Notes what was seen of a name.
    pub fn event(&mut self, name: Box<[u8]>, hint: Hint, now: Mono) -> Noted {
        if let Some(entry) = self.entries.get_mut(&*name) {
            let waited = entry.waiting;
            let due = entry.seen(hint, now, self.window);
            let waits = entry.waiting;
            self.count_unreadable(waited, waits);
            self.reschedule(&name, due);
            return Noted::Waits;
        }
        self.admit(name, hint, None, now)
    }

    /// Notes a name that a scan found, with its size in bytes. A name that waits goes on waiting.
    pub fn found(&mut self, name: &[u8], size: u64, now: Mono) -> Noted {
        match self.entries.get_mut(name) {
            Some(entry) => {
                entry.size = Some(size);
                Noted::Waits
            }
            None => self.admit(name.into(), Hint::Scanned, Some(size), now),
        }
    }

    /// Notes a change of mode: a name that waits for a permission is due at once.
    pub fn made_readable(&mut self, name: &[u8], now: Mono) {
        if self.entries.get(name).is_some_and(|entry| entry.waiting == Waiting::Unreadable) {
            self.reschedule(name, Some(now));
        }
    }

    /// Takes back a ticket that could not be judged yet.
    pub fn returned(&mut self, ticket: Ticket, wait: Wait, now: Mono) -> Kept {
        let Ticket { name, source, hint, expected, sighted, size, mut history, .. } = ticket;
        let answer = history.get_or_insert_default().answer(wait, expected.is_some(), now, self.window);
        let Some(plan) = answer else { return Kept::GivenUp };
        if self.entries.len() >= NAMES && !self.entries.contains_key(&name) {
            return Kept::Full;
        }
        let entry = Entry {
            due: (now.after(plan.delay), self.next_serial()),
            since: now,
            waiting: plan.waiting,
            last_look: plan.last_look,
            source,
            hint: if plan.demotes_rename && hint == Hint::Renamed { Hint::Touched } else { hint },
            expects: plan.expects,
            sighted,
            size: plan.size.or(size),
            history,
        };
        self.insert(name, Box::new(entry));
        Kept::Waits
    }

    /// Takes out the next name that is due.
    pub fn due(&mut self, now: Mono) -> Option<Ticket> {
        let first = self.timers.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let name = first.remove();
        let entry = *self.entries.remove(&name)?;
        if self.entries.capacity() > SHRINK_ABOVE && self.entries.len() < self.entries.capacity() / 8 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
        self.count_unreadable(entry.waiting, Waiting::Quiet);
        let history = entry.history.as_deref();
        let over = history.is_some_and(|history| history.is_over(entry.waiting, now));
        Some(Ticket {
            name,
            source: entry.source,
            hint: entry.hint,
            expected: if entry.expects { history.and_then(History::identity) } else { None },
            last_chance: entry.last_look || over,
            sighted: entry.sighted,
            size: entry.size,
            history: entry.history,
        })
    }

    fn admit(&mut self, name: Box<[u8]>, hint: Hint, size: Option<u64>, now: Mono) -> Noted {
        if self.entries.len() >= NAMES {
            return Noted::Full;
        }
        let wait = if hint == Hint::Touched { self.window } else { Duration::ZERO };
        let entry = Entry {
            due: (now.after(wait), self.next_serial()),
            since: now,
            waiting: Waiting::Quiet,
            last_look: false,
            source: if hint == Hint::Scanned { Source::Scan } else { Source::Event },
            hint,
            expects: false,
            sighted: now,
            size,
            history: None,
        };
        self.insert(name, Box::new(entry));
        Noted::Waits
    }

    fn insert(&mut self, name: Box<[u8]>, entry: Box<Entry>) {
        self.count_unreadable(Waiting::Quiet, entry.waiting);
        self.timers.insert(entry.due, name.clone());
        match self.entries.entry(name) {
            Place::Vacant(place) => {
                place.insert(entry);
            }
            Place::Occupied(mut place) => {
                let old = place.insert(entry);
                self.timers.remove(&old.due);
                self.count_unreadable(old.waiting, Waiting::Quiet);
            }
        }
    }

    /// Moves the timer of a name; `None` leaves it.
    fn reschedule(&mut self, name: &[u8], due: Option<Mono>) {
        let serial = self.next_serial();
        let (Some(due), Some(entry)) = (due, self.entries.get_mut(name)) else { return };
        if due == entry.due.0 {
            return;
        }
        if let Some(name) = self.timers.remove(&entry.due) {
            entry.due = (due, serial);
            self.timers.insert(entry.due, name);
        }
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn count_unreadable(&mut self, before: Waiting, after: Waiting) {
        self.unreadable += usize::from(after == Waiting::Unreadable);
        self.unreadable -= usize::from(before == Waiting::Unreadable);
    }
}

impl Entry {
    /// Takes in an event; the new moment to look, if it changes.
    fn seen(&mut self, hint: Hint, now: Mono, window: Duration) -> Option<Mono> {
        if hint == Hint::Scanned {
            return None;
        }
        self.source = Source::Event;
        self.hint = hint;
        let quiet = now.after(window).min(self.since.after(MAX_WAIT));
        match hint {
            Hint::Renamed => {
                // Another file: nothing that is known of the old one holds.
                *self = Entry {
                    due: self.due,
                    since: now,
                    waiting: Waiting::Quiet,
                    last_look: false,
                    source: Source::Event,
                    hint,
                    expects: false,
                    sighted: now,
                    size: None,
                    history: None,
                };
                Some(now)
            }
            Hint::Closed => {
                self.explain();
                // Where no lease is to be had a close is proved by the window that follows it.
                Some(if self.waiting == Waiting::Settling { quiet } else { now })
            }
            Hint::Touched | Hint::Scanned => match self.waiting {
                Waiting::Quiet | Waiting::Settling | Waiting::Unfinished => {
                    self.explain();
                    Some(quiet)
                }
                // These wait for something else than quiet.
                Waiting::Busy | Waiting::Linked | Waiting::Unreadable | Waiting::Leased | Waiting::Broken => {
                    None
                }
            },
        }
    }

    /// An event explains why the file is not what it was: that is no reason to lose patience.
    fn explain(&mut self) {
        if self.waiting == Waiting::Unfinished {
            self.last_look = false;
        }
        if let Some(history) = &mut self.history {
            history.explain();
        }
    }
}
