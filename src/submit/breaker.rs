//! The circuit breaker of one sink: a pure structure, `now` is an argument.
//!
//! It opens after 5 failures in a row, or when half of the last 20 attempts failed; stays open 5 s,
//! doubling to 2 min while probes fail; then lets one attempt through (half-open) and closes when that
//! succeeds. An open breaker pauses dispatch, never acceptance. Nothing passes before a moment that the sink
//! itself has named (Retry-After), whatever the state.

use std::time::Duration;

use crate::clock::Mono;

const IN_A_ROW: u32 = 5;
const WINDOW: u32 = 20;
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// What a breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    /// Everything.
    Closed,
    /// One attempt, to find out.
    HalfOpen,
    /// Nothing until a moment.
    Open,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed,
    Open { until: Mono },
    Probing,
}

/// A breaker, closed at first.
#[derive(Debug)]
pub struct Breaker {
    state: State,
    pause: Duration,
    in_a_row: u32,
    /// The last 20 attempts, one bit each, 1 = failed.
    recent: u32,
    seen: u32,
    /// The sink asked for nothing before this moment.
    rests: Option<Mono>,
}

impl Default for Breaker {
    fn default() -> Self {
        let pause = FIRST_PAUSE;
        Breaker { state: State::Closed, pause, in_a_row: 0, recent: 0, seen: 0, rests: None }
    }
}

impl Breaker {
    /// What it lets through at `now`.
    pub fn circuit(&self, now: Mono) -> Circuit {
        match self.state {
            State::Closed => Circuit::Closed,
            State::Open { until } if now < until => Circuit::Open,
            State::Open { .. } | State::Probing => Circuit::HalfOpen,
        }
    }

    /// Whether an attempt may start at `now`; a half-open breaker says yes once.
    pub fn admit(&mut self, now: Mono) -> bool {
        if self.rests.is_some_and(|until| now < until) {
            return false;
        }
        match self.state {
            State::Closed => true,
            State::Open { until } if now >= until => {
                self.state = State::Probing;
                true
            }
            State::Open { .. } | State::Probing => false,
        }
    }

    /// When the next attempt may start, if it is not at once.
    pub fn reopens(&self) -> Option<Mono> {
        match self.state {
            State::Open { until } => self.rests.max(Some(until)),
            State::Closed | State::Probing => self.rests,
        }
    }

    /// The sink asked for nothing before this moment.
    pub fn rest(&mut self, until: Mono) {
        self.rests = self.rests.max(Some(until));
    }

    /// The sink answered as it should, whatever it said of the content. True if that closed the circuit.
    pub fn succeeded(&mut self) -> bool {
        self.remember(false);
        self.in_a_row = 0;
        let was_open = !matches!(self.state, State::Closed);
        if was_open {
            *self = Breaker { rests: self.rests, ..Breaker::default() };
        }
        was_open
    }

    /// The sink was in trouble. True if that opened the circuit.
    pub fn failed(&mut self, now: Mono) -> bool {
        self.remember(true);
        self.in_a_row += 1;
        let half_failed = self.seen >= WINDOW && self.recent.count_ones() * 2 >= WINDOW;
        match self.state {
            State::Closed if self.in_a_row < IN_A_ROW && !half_failed => false,
            State::Open { .. } => false,
            State::Closed => {
                self.state = State::Open { until: now.after(self.pause) };
                true
            }
            State::Probing => {
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                self.state = State::Open { until: now.after(self.pause) };
                true
            }
        }
    }

    /// The probe ended without a word about the sink: the next attempt is a probe again, at once.
    pub fn abandon(&mut self, now: Mono) {
        if matches!(self.state, State::Probing) {
            self.state = State::Open { until: now };
        }
    }

    /// True while a probe is out: nothing else starts before it is back.
    pub fn is_probing(&self) -> bool {
        matches!(self.state, State::Probing)
    }

    fn remember(&mut self, failed: bool) {
        self.recent = (self.recent << 1 | u32::from(failed)) & ((1 << WINDOW) - 1);
        self.seen = (self.seen + 1).min(WINDOW);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_one_probe_closes_it() {
        let mut breaker = Breaker::default();
        assert!((0..4).all(|_| !breaker.failed(at(0))));
        assert!(breaker.failed(at(0)));
        assert_eq!(breaker.circuit(at(4)), Circuit::Open);
        assert!(!breaker.admit(at(4)));
        assert!(breaker.admit(at(5)));
        assert!(!breaker.admit(at(5)), "one probe at a time");
        assert!(breaker.succeeded());
        assert_eq!(breaker.circuit(at(5)), Circuit::Closed);
    }

    #[test]
    fn an_abandoned_probe_is_no_verdict_and_the_next_one_may_start_at_once() {
        let mut breaker = Breaker::default();
        breaker.abandon(at(0));
        assert_eq!(breaker.circuit(at(0)), Circuit::Closed);
        (0..5).for_each(|_| _ = breaker.failed(at(0)));
        breaker.abandon(at(1));
        assert_eq!(breaker.reopens(), Some(at(5)), "only a probe can be abandoned");
        assert!(breaker.admit(at(6)) && breaker.is_probing());
        breaker.abandon(at(6));
        assert_eq!(breaker.circuit(at(6)), Circuit::HalfOpen);
        assert!(breaker.admit(at(6)));
        breaker.failed(at(6));
        assert_eq!(breaker.reopens(), Some(at(16)), "the pause doubles as after any failed probe");
    }

    #[test]
    fn nothing_passes_before_the_moment_that_the_sink_named() {
        let mut breaker = Breaker::default();
        breaker.rest(at(60));
        breaker.rest(at(30));
        assert!(!breaker.admit(at(59)) && breaker.circuit(at(59)) == Circuit::Closed);
        assert_eq!(breaker.reopens(), Some(at(60)));
        (0..5).for_each(|_| _ = breaker.failed(at(50)));
        assert!(!breaker.admit(at(58)), "no probe either");
        breaker.succeeded();
        assert!(!breaker.admit(at(59)), "nor does a late success shorten it");
        assert!(breaker.admit(at(60)));
    }

    #[test]
    fn failing_probes_double_the_pause_to_two_minutes() {
        let mut breaker = Breaker::default();
        let mut now = at(0);
        (0..5).for_each(|_| _ = breaker.failed(now));
        let mut pauses = Vec::new();
        for _ in 0..7 {
            let next = breaker.reopens().expect("open");
            pauses.push(next.since(now).as_secs());
            now = next;
            assert!(breaker.admit(now));
            breaker.failed(now);
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 120, 120]);
    }

    #[test]
    fn half_of_the_last_twenty_open_it_without_a_row() {
        let mut breaker = Breaker::default();
        let opened = (0..40).position(|turn| {
            if turn % 2 == 0 {
                breaker.failed(at(0))
            } else {
                breaker.succeeded();
                false
            }
        });
        assert_eq!(opened, Some(20));
    }
}
