//! How long each kind of trouble is borne with, and how the waits grow.
//!
//! | answer | next look | last chance |
//! |---|---|---|
//! | busy | 1, 2, 4 … ms, at most one window | never |
//! | unproved, changed | one window | 20 unexplained changes, or 10 min without rest |
//! | unfinished, empty | one window | the next look |
//! | unfinished, cut off | one window | 5 windows after the last change of identity |
//! | linked | 2 s | 2 s after the first such answer |
//! | unreadable | one window, doubled, at most 5 s | 30 s after the first such answer |
//! | leased | one window, doubled, at most 60 s | 10 min after the first such answer |
//! | I/O error | one window, doubled | given up at the fourth |
//!
//! All of it belongs to one inode: another inode under the name starts with fresh patience.

use std::time::Duration;

use super::Wait;
use crate::clock::Mono;
use crate::disk::Identity;

const FIRST_BUSY: Duration = Duration::from_millis(1);
const ROUNDS: u8 = 20;
const UNSETTLED: Duration = Duration::from_secs(10 * 60);
const UNFINISHED_WINDOWS: u32 = 5;
const LINKED: Backoff = Backoff { longest: Duration::from_secs(2), limit: Duration::from_secs(2) };
const UNREADABLE: Backoff = Backoff { longest: Duration::from_secs(5), limit: Duration::from_secs(30) };
const LEASED: Backoff = Backoff { longest: Duration::from_secs(60), limit: Duration::from_secs(600) };
const ERRORS: u8 = 3;

/// What an entry waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// The end of the events, or nothing at all.
    Quiet,
    /// The writer's lease-breaking hold to end.
    Busy,
    /// One window without a change of identity.
    Settling,
    /// The rest of the document.
    Unfinished,
    /// The other link to go.
    Linked,
    /// A permission.
    Unreadable,
    /// Somebody else's lease to end.
    Leased,
    /// The file system to recover.
    Broken,
}

/// When and how to look next.
pub(super) struct Plan {
    pub(super) delay: Duration,
    pub(super) waiting: Waiting,
    pub(super) last_look: bool,
    /// Whether the identity seen last is to be found again.
    pub(super) expects: bool,
    /// Bytes, if the answer tells.
    pub(super) size: Option<u64>,
    /// The rename proves nothing any more.
    pub(super) demotes_rename: bool,
}

impl Plan {
    fn after(delay: Duration, waiting: Waiting) -> Plan {
        Plan { delay, waiting, last_look: false, expects: false, size: None, demotes_rename: false }
    }
}

/// A growing wait with an end.
struct Backoff {
    longest: Duration,
    limit: Duration,
}

/// A trouble that lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trouble {
    since: Mono,
    looks: u32,
}

/// What is remembered of earlier looks at one name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct History {
    busy: u32,
    rounds: u8,
    errors: u8,
    /// The identity seen last, and when it was first seen.
    identity: Option<(Identity, Mono)>,
    /// Since when no look found the file at rest.
    unsettled: Option<Mono>,
    linked: Option<Trouble>,
    unreadable: Option<Trouble>,
    leased: Option<Trouble>,
}

impl History {
    /// Takes in a worker's answer to a ticket that expected an identity or did not; `None` gives
    /// the name up.
    pub(super) fn answer(&mut self, wait: Wait, expected: bool, now: Mono, window: Duration) -> Option<Plan> {
        Some(match wait {
            Wait::Busy => {
                let delay = doubled(FIRST_BUSY, self.busy).min(window);
                self.busy = self.busy.saturating_add(1);
                // A writer may rename its own open file (D1).
                Plan { demotes_rename: true, ..Plan::after(delay, Waiting::Busy) }
            }
            Wait::Unproved(identity) => self.settle(identity, now, window),
            Wait::Changed(identity) => {
                let plan = self.settle(identity, now, window);
                self.rounds = self.rounds.saturating_add(1);
                Plan { demotes_rename: true, ..plan }
            }
            Wait::Unfinished(identity) => {
                let moved = self.sight(identity, now);
                if moved < now {
                    self.unsettled = None; // found at rest
                }
                let next = now.after(window);
                let last_look = identity.size == 0 || next >= moved.after(window * UNFINISHED_WINDOWS);
                let plan = Plan::after(window, Waiting::Unfinished);
                Plan { last_look, expects: true, size: Some(identity.size), ..plan }
            }
            Wait::Linked(identity) => {
                self.sight(identity, now);
                LINKED.plan(&mut self.linked, now, Duration::from_secs(2), Waiting::Linked)
            }
            Wait::Unreadable => UNREADABLE.plan(&mut self.unreadable, now, window, Waiting::Unreadable),
            Wait::Leased => LEASED.plan(&mut self.leased, now, window, Waiting::Leased),
            Wait::IoError => {
                if self.errors == ERRORS {
                    return None;
                }
                let delay = doubled(window, u32::from(self.errors));
                self.errors += 1;
                Plan { expects: expected, ..Plan::after(delay, Waiting::Broken) }
            }
            Wait::Large(size) => {
                let plan = Plan::after(Duration::ZERO, Waiting::Quiet);
                Plan { expects: expected, size: Some(size), ..plan }
            }
        })
    }

    /// The identity seen last.
    pub(super) fn identity(&self) -> Option<Identity> {
        self.identity.map(|(identity, _)| identity)
    }

    /// True when a look at `now` is the last one for what the entry waits for.
    pub(super) fn is_over(&self, waiting: Waiting, now: Mono) -> bool {
        let unsettled = || self.unsettled.is_some_and(|since| now >= since.after(UNSETTLED));
        match waiting {
            Waiting::Settling => self.rounds >= ROUNDS || unsettled(),
            Waiting::Linked => LINKED.is_over(&self.linked, now),
            Waiting::Unreadable => UNREADABLE.is_over(&self.unreadable, now),
            Waiting::Leased => LEASED.is_over(&self.leased, now),
            Waiting::Quiet | Waiting::Busy | Waiting::Unfinished | Waiting::Broken => false,
        }
    }

    /// An event accounts for the changes so far, and a close starts the short steps again.
    pub(super) fn explain(&mut self) {
        self.rounds = 0;
        self.busy = 0;
    }

    fn settle(&mut self, identity: Identity, now: Mono, window: Duration) -> Plan {
        self.sight(identity, now);
        self.unsettled.get_or_insert(now);
        Plan { expects: true, size: Some(identity.size), ..Plan::after(window, Waiting::Settling) }
    }

    /// Notes an identity; since when the file has it.
    fn sight(&mut self, identity: Identity, now: Mono) -> Mono {
        if let Some((known, moved)) = self.identity {
            if known == identity {
                return moved;
            }
            if (known.dev, known.ino) != (identity.dev, identity.ino) {
                *self = History::default();
            }
        }
        self.identity = Some((identity, now));
        now
    }
}

impl Backoff {
    fn plan(&self, trouble: &mut Option<Trouble>, now: Mono, first: Duration, waiting: Waiting) -> Plan {
        let trouble = trouble.get_or_insert(Trouble { since: now, looks: 0 });
        let delay = doubled(first, trouble.looks).min(self.longest);
        trouble.looks = trouble.looks.saturating_add(1);
        let end = trouble.since.after(self.limit);
        // The last look comes at the end of the patience, not a whole step after it.
        let delay = if now < end { delay.min(end.since(now)) } else { delay };
        Plan::after(delay, waiting)
    }

    fn is_over(&self, trouble: &Option<Trouble>, now: Mono) -> bool {
        trouble.as_ref().is_some_and(|trouble| now >= trouble.since.after(self.limit))
    }
}

fn doubled(first: Duration, times: u32) -> Duration {
    first.saturating_mul(1 << times.min(20))
}
