//! How many groups are out at once: a pure structure that adapts to what the sink bears.
//!
//! Additive increase, multiplicative decrease between 1 and the sink's own bound: one more after a full
//! round of successes, half as many after a failure, 0.7 of it when answers take more than twice as long
//! as they once did, at most one decrease a round. Slowness counts from [`NOISE`] on, and against a minimum
//! that follows what is measured, so that a sink that has become slower for good is found out. It starts
//! at the bound, for nothing speaks against it.
//!
//! After an outage it starts at 1 and doubles with every 10 successes (`reliability.md` 8) until it meets
//! the bound or the first trouble.

use std::time::Duration;

/// What a failure leaves of the limit.
const FAILED: f64 = 0.5;
/// What slowness leaves of it.
const SLOW: f64 = 0.7;
/// Answers this many times slower than the minimum are slow.
const TOO_SLOW: f64 = 2.0;
/// Seconds by which answers must be slower than the minimum.
const NOISE: f64 = 0.010;
/// Successes between two doublings after an outage.
const STEP: usize = 10;
/// Weight of one answer in the mean of recent ones.
const RECENT: f64 = 0.25;
/// The same for the minimum, where the answer was faster and where it was slower.
const FALL: f64 = 0.25;
const RISE: f64 = 1.0 / 256.0;

/// The limit of one sink.
#[derive(Debug)]
pub struct Limit {
    most: usize,
    now: usize,
    /// Successes since the last change.
    good: usize,
    /// Answers of attempts that may have begun before the last decrease.
    old: usize,
    /// An outage ended a short while ago.
    ramps: bool,
    /// Smoothed latency and its smoothed minimum, in seconds.
    latency: Option<(f64, f64)>,
}

impl Limit {
    /// At `most`, at least 1.
    pub fn new(most: usize) -> Self {
        let most = most.max(1);
        Limit { most, now: most, good: 0, old: 0, ramps: false, latency: None }
    }

    /// Most groups that may be out.
    pub fn now(&self) -> usize {
        self.now
    }

    /// An outage ended.
    pub fn restart(&mut self) {
        (self.now, self.good, self.old, self.ramps) = (1, 0, 0, true);
    }

    /// An attempt was answered; `failed` if the sink was in trouble.
    pub fn answered(&mut self, took: Duration, failed: bool) {
        let is_old = self.old > 0;
        self.old = self.old.saturating_sub(1);
        let slow = !failed && self.is_slow(took.as_secs_f64());
        if failed || slow {
            self.good = 0;
            if !is_old {
                self.lower(if failed { FAILED } else { SLOW });
            }
            return;
        }
        self.good += 1;
        if self.good < if self.ramps { STEP } else { self.now } {
            return;
        }
        self.good = 0;
        self.now = if self.ramps { self.now * 2 } else { self.now + 1 }.min(self.most);
        self.ramps &= self.now < self.most;
    }

    fn lower(&mut self, factor: f64) {
        self.old = self.now - 1;
        self.ramps = false;
        // Positive and no larger than it was.
        self.now = ((self.now as f64 * factor) as usize).max(1);
    }

    /// Takes a latency in; true if answers are slow now.
    fn is_slow(&mut self, took: f64) -> bool {
        let (recent, least) = self.latency.unwrap_or((took, took));
        let recent = recent + (took - recent) * RECENT;
        let least = least + (took - least) * if took < least { FALL } else { RISE };
        let slow = recent > least * TOO_SLOW && recent > least + NOISE;
        // With one at a time it is not we who make it slow.
        let least = if slow && self.now == 1 { recent } else { least };
        self.latency = Some((recent, least));
        slow
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn answers(limit: &mut Limit, count: usize, took: u64, failed: bool) {
        (0..count).for_each(|_| limit.answered(ms(took), failed));
    }

    #[test]
    fn a_failure_halves_it_once_a_round_and_a_round_of_successes_adds_one() {
        let mut limit = Limit::new(16);
        answers(&mut limit, 16, 50, true);
        assert_eq!(limit.now(), 8, "all 16 were out together");
        limit.answered(ms(50), true);
        assert_eq!(limit.now(), 4, "this one was sent after that");
        answers(&mut limit, 3, 50, false);
        assert_eq!(limit.now(), 4);
        limit.answered(ms(50), false);
        assert_eq!(limit.now(), 5);
        answers(&mut limit, 5 + 6, 50, false);
        assert_eq!(limit.now(), 7);
    }

    #[test]
    fn answers_twice_as_slow_as_the_best_lower_it_and_jitter_does_not() {
        let mut limit = Limit::new(8);
        answers(&mut limit, 20, 100, false);
        answers(&mut limit, 20, 150, false);
        assert_eq!(limit.now(), 8);
        answers(&mut limit, 20, 400, false);
        assert!(limit.now() <= 5, "{}", limit.now());
        let mut quick = Limit::new(8);
        (0..200).for_each(|turn| quick.answered(ms(1 + turn % 9), false));
        assert_eq!(quick.now(), 8, "a few milliseconds are noise");
    }

    #[test]
    fn a_sink_that_is_slower_for_good_gets_all_of_it_again() {
        let mut limit = Limit::new(8);
        answers(&mut limit, 20, 100, false);
        answers(&mut limit, 600, 500, false);
        assert_eq!(limit.now(), 8);
    }

    #[test]
    fn after_an_outage_it_doubles_with_ten_successes_from_one() {
        let mut limit = Limit::new(6);
        limit.restart();
        let mut seen = vec![limit.now()];
        for _ in 0..3 {
            answers(&mut limit, 10, 50, false);
            seen.push(limit.now());
        }
        assert_eq!(seen, [1, 2, 4, 6]);
    }

    #[test]
    fn trouble_ends_the_ramp() {
        let mut limit = Limit::new(64);
        limit.restart();
        answers(&mut limit, 30, 50, false);
        assert_eq!(limit.now(), 8);
        limit.answered(ms(50), true);
        answers(&mut limit, 4, 50, false);
        assert_eq!(limit.now(), 5);
    }

    proptest! {
        #[test]
        fn it_keeps_its_bounds_and_grows_by_steps_only(
            most in 0usize..40,
            acts in proptest::collection::vec((0u8..20, 0u64..3_000), 0..400),
        ) {
            let mut limit = Limit::new(most);
            for (act, took) in acts {
                let before = limit.now();
                match act {
                    0 => limit.restart(),
                    1..=3 => limit.answered(ms(took), true),
                    _ => limit.answered(ms(took), false),
                }
                prop_assert!((1..=most.max(1)).contains(&limit.now()));
                let doubled = limit.now() == (before * 2).min(most.max(1));
                prop_assert!(limit.now() <= before + 1 || doubled);
                prop_assert!(!(1..=3).contains(&act) || limit.now() <= before);
                prop_assert!(act == 0 || limit.now() * 2 + 1 >= before);
            }
        }

        #[test]
        fn steady_success_leads_to_the_bound_from_anywhere(
            most in 1usize..40,
            troubles in proptest::collection::vec(any::<bool>(), 0..50),
        ) {
            let mut limit = Limit::new(most);
            for restart in troubles {
                if restart { limit.restart() } else { limit.answered(ms(20), true) }
            }
            answers(&mut limit, most * most + most + 80, 20, false);
            prop_assert_eq!(limit.now(), most);
        }
    }
}
