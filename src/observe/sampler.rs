//! A ceiling on log lines of one kind, so that a flood of files is not a flood of lines.
//!
//! 20 lines a second for each key (a closed set, addressed by number), then silence until the second
//! is over and one line that tells how many were left out. Time is an argument.

use std::time::Duration;

use crate::clock::Mono;

/// Lines of one key in one window.
pub const LINES_PER_WINDOW: u32 = 20;

const WINDOW: Duration = Duration::from_secs(1);

/// Whether a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Write it; `suppressed` lines of this key were left out before it and want to be mentioned.
    Write {
        /// 0 mostly.
        suppressed: u64,
    },
    /// Leave it out.
    Suppress,
}

/// The state of all keys; a few words each.
#[derive(Debug, Clone)]
pub struct Sampler {
    windows: Box<[Window]>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Window {
    began: Option<Mono>,
    written: u32,
    suppressed: u64,
}

impl Window {
    fn is_over(&self, now: Mono) -> bool {
        self.began.is_none_or(|began| now.since(began) >= WINDOW)
    }
}

impl Sampler {
    /// For the keys `0..keys`.
    pub fn new(keys: usize) -> Self {
        Sampler { windows: vec![Window::default(); keys].into_boxed_slice() }
    }

    /// Judges one line of `key`, which must be below the number given to [`Sampler::new`].
    pub fn allow(&mut self, key: usize, now: Mono) -> Verdict {
        let window = &mut self.windows[key];
        if window.is_over(now) {
            let suppressed = window.suppressed;
            *window = Window { began: Some(now), written: 1, suppressed: 0 };
            return Verdict::Write { suppressed };
        }
        if window.written < LINES_PER_WINDOW {
            window.written += 1;
            return Verdict::Write { suppressed: 0 };
        }
        window.suppressed += 1;
        Verdict::Suppress
    }

    /// Keys whose window is over with lines left out, and how many: for a ticker, so that the count
    /// is told even if no further line of that key comes.
    pub fn due(&mut self, now: Mono) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.windows.iter_mut().enumerate().filter_map(move |(key, window)| {
            (window.suppressed > 0 && window.is_over(now))
                .then(|| (key, std::mem::take(&mut window.suppressed)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn the_twenty_first_line_of_a_second_is_left_out_and_told_in_the_next() {
        let mut sampler = Sampler::new(1);
        for _ in 0..LINES_PER_WINDOW {
            assert_eq!(sampler.allow(0, Mono(5)), Verdict::Write { suppressed: 0 });
        }
        assert_eq!(sampler.allow(0, Mono(6)), Verdict::Suppress);
        assert_eq!(sampler.allow(0, Mono(7)), Verdict::Suppress);
        assert_eq!(sampler.allow(0, Mono(5 + SECOND)), Verdict::Write { suppressed: 2 });
        assert_eq!(sampler.allow(0, Mono(6 + SECOND)), Verdict::Write { suppressed: 0 });
    }

    #[test]
    fn one_key_does_not_silence_another() {
        let mut sampler = Sampler::new(2);
        for _ in 0..100 {
            sampler.allow(0, Mono(1));
        }
        assert_eq!(sampler.allow(1, Mono(1)), Verdict::Write { suppressed: 0 });
    }

    #[test]
    fn a_ticker_hears_of_left_out_lines_once_and_only_after_the_window() {
        let mut sampler = Sampler::new(3);
        for _ in 0..25 {
            sampler.allow(2, Mono(0));
        }
        assert_eq!(sampler.due(Mono(SECOND - 1)).count(), 0);
        assert_eq!(sampler.due(Mono(SECOND)).collect::<Vec<_>>(), [(2, 5)]);
        assert_eq!(sampler.due(Mono(SECOND)).count(), 0);
    }

    proptest! {
        #[test]
        fn every_line_is_written_or_counted_and_no_window_holds_too_many(
            steps in proptest::collection::vec((0usize..3, 0u64..SECOND / 10), 1..2_000),
        ) {
            let mut sampler = Sampler::new(3);
            let mut now = 0;
            let mut written = [0u64; 3];
            let mut told = [0u64; 3];
            let mut asked = [0u64; 3];
            for (key, pause) in steps {
                now += pause;
                asked[key] += 1;
                if let Verdict::Write { suppressed } = sampler.allow(key, Mono(now)) {
                    written[key] += 1;
                    told[key] += suppressed;
                }
            }
            for (key, count) in sampler.due(Mono(now + SECOND)) {
                told[key] += count;
            }
            for key in 0..3 {
                prop_assert_eq!(written[key] + told[key], asked[key]);
                prop_assert!(written[key] <= u64::from(LINES_PER_WINDOW) * (now / SECOND + 1));
            }
        }
    }
}
