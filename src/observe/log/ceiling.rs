//! A ceiling on log lines of one kind, so that a flood of files is not a flood of lines.
//!
//! A kind is one place in the code together with the reason, fate or fault that the line names. Of each
//! 20 lines a second are written (`reliability.md` 10); the rest is counted, and told in one line when the
//! second is over. At most 1,024 kinds are told apart. Time is an argument.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata};

use crate::clock::Mono;

/// Lines of one kind in one second.
const LINES_PER_SECOND: u32 = 20;

const SECOND: Duration = Duration::from_secs(1);

/// Beyond it lines of one place in the code are one kind, whatever they name.
const KINDS: usize = 1024;

/// The fields that make lines of one place different kinds; their words are closed sets.
const TELLING: [&str; 3] = ["reason", "fate", "fault"];

/// Lines that were left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Suppressed {
    /// Where in the code they are said, and how loud.
    pub(super) metadata: &'static Metadata<'static>,
    /// What they name.
    pub(super) kind: String,
    pub(super) lines: u64,
}

/// What is known of every kind that spoke.
#[derive(Debug, Default)]
pub(super) struct Ceiling {
    kinds: Mutex<HashMap<(Identifier, u64), Kind>>,
    suppressed: AtomicU64,
}

#[derive(Debug)]
struct Kind {
    metadata: &'static Metadata<'static>,
    words: String,
    window: Window,
}

impl Ceiling {
    /// True if the line may be written; otherwise it is counted.
    pub(super) fn admits(&self, event: &Event<'_>, now: Mono) -> bool {
        let metadata = event.metadata();
        let mut words = Fingerprint::default();
        event.record(&mut words);
        let mut kinds = self.kinds.lock();
        let mut key = (metadata.callsite(), words.0.finish());
        if kinds.len() >= KINDS && !kinds.contains_key(&key) {
            key.1 = 0;
        }
        let kind = kinds.entry(key).or_insert_with(|| {
            let mut words = Words::default();
            event.record(&mut words);
            Kind { metadata, words: words.0, window: Window::default() }
        });
        let admitted = kind.window.admits(now);
        self.suppressed.fetch_add(u64::from(!admitted), Ordering::Relaxed);
        admitted
    }

    /// Lines left out so far.
    pub(super) fn suppressed(&self) -> u64 {
        self.suppressed.load(Ordering::Relaxed)
    }

    /// What was left out in seconds that are over, and has not been told.
    pub(super) fn due(&self, now: Mono) -> Vec<Suppressed> {
        self.take(|window| window.is_over(now))
    }

    /// The same of all seconds, for the end of the log.
    pub(super) fn rest(&self) -> Vec<Suppressed> {
        self.take(|_| true)
    }

    fn take(&self, is_due: impl Fn(&Window) -> bool) -> Vec<Suppressed> {
        let mut kinds = self.kinds.lock();
        let due = kinds.values_mut().filter(|kind| kind.window.suppressed > 0 && is_due(&kind.window));
        due.map(|kind| Suppressed {
            metadata: kind.metadata,
            kind: kind.words.clone(),
            lines: std::mem::take(&mut kind.window.suppressed),
        })
        .collect()
    }
}

/// One second of one kind.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    began: Option<Mono>,
    written: u32,
    suppressed: u64,
}

impl Window {
    fn is_over(&self, now: Mono) -> bool {
        self.began.is_none_or(|began| now.since(began) >= SECOND)
    }

    fn admits(&mut self, now: Mono) -> bool {
        if self.is_over(now) {
            // What was left out and not told yet stays on the account.
            *self = Window { began: Some(now), written: 0, ..*self };
        }
        let admitted = self.written < LINES_PER_SECOND;
        self.written += u32::from(admitted);
        self.suppressed += u64::from(!admitted);
        admitted
    }
}

/// A number for the telling words of a line, made without a copy of them.
#[derive(Default)]
struct Fingerprint(DefaultHasher);

impl Visit for Fingerprint {
    fn record_str(&mut self, field: &Field, value: &str) {
        if TELLING.contains(&field.name()) {
            value.hash(&mut self.0);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// The telling words themselves.
#[derive(Default)]
struct Words(String);

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        if TELLING.contains(&field.name()) {
            self.0.push_str(if self.0.is_empty() { "" } else { " " });
            self.0.push_str(value);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NANOS: u64 = 1_000_000_000;

    #[test]
    fn the_twenty_first_line_of_a_second_is_left_out() {
        let mut window = Window::default();
        assert!((0..LINES_PER_SECOND).all(|_| window.admits(Mono(5))));
        assert!(!window.admits(Mono(6)) && !window.admits(Mono(4 + NANOS)));
        assert!(window.admits(Mono(5 + NANOS)));
        assert_eq!(window.suppressed, 2, "still to be told");
    }

    proptest! {
        #[test]
        fn every_line_is_written_or_counted_and_no_second_holds_too_many(
            pauses in proptest::collection::vec(0u64..NANOS / 10, 1..2_000),
        ) {
            let (mut window, mut now, mut written) = (Window::default(), 0, 0u64);
            let asked = pauses.len() as u64;
            for pause in pauses {
                now += pause;
                written += u64::from(window.admits(Mono(now)));
            }
            prop_assert_eq!(written + window.suppressed, asked);
            prop_assert!(written <= u64::from(LINES_PER_SECOND) * (now / NANOS + 1));
        }
    }
}
