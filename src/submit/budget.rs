//! How many attempts at one sink may be repeats: a pure structure, `now` is an argument.
//!
//! While the breaker is closed at most 20 % of the attempts of a minute are repeats (`reliability.md` 6), so
//! that a sink that fails now and then is not buried under what it failed. Ten a second go in any case:
//! where little is sent, repeats are all that there is, and a share of nothing would hold them for ever. A
//! repeat that is denied waits for the next second; first attempts always go. 720 bytes.

use std::time::Duration;

use crate::clock::Mono;

/// Repeats among attempts: one in this many.
const SHARE: u32 = 5;
/// Repeats of one second that go in any case.
const SPARE: u32 = 10;
/// Seconds over which the share is taken.
const WINDOW: usize = 60;
const SECOND: u64 = 1_000_000_000;

/// What was sent in one second.
#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    second: u64,
    all: u32,
    repeats: u32,
}

/// The attempts of the last minute.
#[derive(Debug)]
pub struct Budget {
    ring: [Sent; WINDOW],
}

impl Default for Budget {
    fn default() -> Self {
        Budget { ring: [Sent::default(); WINDOW] }
    }
}

impl Budget {
    /// Whether a repeat may be sent at `now`.
    pub fn admits(&self, now: Mono) -> bool {
        let second = now.0 / SECOND;
        let recent = self.ring.iter().filter(|sent| sent.second + WINDOW as u64 > second);
        let (mut all, mut repeats, mut of_now) = (1, 1, 0);
        for sent in recent {
            all += sent.all;
            repeats += sent.repeats;
            of_now += if sent.second == second { sent.repeats } else { 0 };
        }
        of_now < SPARE || repeats * SHARE <= all
    }

    /// An attempt is sent.
    pub fn spend(&mut self, is_repeat: bool, now: Mono) {
        let second = now.0 / SECOND;
        let sent = &mut self.ring[(second % WINDOW as u64) as usize];
        if sent.second != second {
            *sent = Sent { second, ..Sent::default() };
        }
        sent.all += 1;
        sent.repeats += u32::from(is_repeat);
    }

    /// When a repeat that was denied at `now` may ask again.
    pub fn next(&self, now: Mono) -> Mono {
        now.after(Duration::from_nanos(SECOND - now.0 % SECOND))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Mono {
        Mono(100 * SECOND + millis * 1_000_000)
    }

    /// Sends repeats at `now` until one is denied.
    fn repeats(budget: &mut Budget, now: Mono) -> u32 {
        let mut sent = 0;
        while sent < 10_000 && budget.admits(now) {
            budget.spend(true, now);
            sent += 1;
        }
        sent
    }

    #[test]
    fn ten_a_second_go_where_nothing_else_is_sent() {
        let mut budget = Budget::default();
        assert_eq!(repeats(&mut budget, at(300)), 10);
        assert_eq!(budget.next(at(300)), at(1_000));
        assert_eq!(repeats(&mut budget, at(999)), 0);
        assert_eq!(repeats(&mut budget, at(1_000)), 10);
    }

    #[test]
    fn one_in_five_goes_where_much_is_sent_and_a_minute_later_it_is_forgotten() {
        let mut budget = Budget::default();
        (0..4_000).for_each(|_| budget.spend(false, at(0)));
        assert_eq!(repeats(&mut budget, at(0)), 1_000);
        assert_eq!(repeats(&mut budget, at(59_000)), 10, "the share is spent");
        (0..400).for_each(|_| budget.spend(false, at(60_000)));
        assert_eq!(repeats(&mut budget, at(60_000)), 90, "a fifth with the ten of second 59");
    }
}
