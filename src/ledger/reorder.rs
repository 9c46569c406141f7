//! The reorder window: workers finish in any order, the ledger accepts in the order of sighting.
//!
//! A worker draws a number when it takes a ticket and hands in either an item or a void for it. Items
//! leave in order of their numbers. A number that stays away for [`PATIENCE`] while a later one is
//! here is skipped; if its item comes after all, it queues behind everything handed in so far, as if
//! it had drawn a new number. Pure: time is an argument. Holds exactly what was handed in and not
//! yet released.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::clock::Mono;

/// How long later items wait for a missing number.
pub const PATIENCE: Duration = Duration::from_millis(100);

/// Items on their way from drawing order to acceptance order.
#[derive(Debug)]
pub struct Reorder<T> {
    /// The number that is released next.
    next: u64,
    /// The highest number handed in, plus one.
    top: u64,
    /// By number; the second part orders latecomers behind the number that was highest then. `None`
    /// is a void.
    held: BTreeMap<(u64, u64), Option<T>>,
    /// When the highest number rose, and to what: from then on all smaller ones are known to be due.
    marks: VecDeque<(Mono, u64)>,
    latecomers: u64,
}

impl<T> Default for Reorder<T> {
    fn default() -> Self {
        Reorder { next: 0, top: 0, held: BTreeMap::new(), marks: VecDeque::new(), latecomers: 0 }
    }
}

impl<T> Reorder<T> {
    /// Hands in the item of number `order`.
    pub fn arrive(&mut self, order: u64, item: T, now: Mono) {
        self.hand_in(order, Some(item), now);
    }

    /// Says that number `order` will bring no item.
    pub fn void(&mut self, order: u64, now: Mono) {
        self.hand_in(order, None, now);
    }

    fn hand_in(&mut self, order: u64, item: Option<T>, now: Mono) {
        let late = order < self.next || self.held.contains_key(&(order, 0));
        if late {
            if item.is_some() {
                self.latecomers += 1;
                self.held.insert((self.top.saturating_sub(1), self.latecomers), item);
            }
            return;
        }
        self.held.insert((order, 0), item);
        if order >= self.top {
            self.top = order + 1;
            if order > self.next {
                self.marks.push_back((now, order));
            }
        }
    }

    /// Appends to `out` what may go now, in order.
    pub fn release(&mut self, now: Mono, out: &mut Vec<T>) {
        while let Some(&(since, order)) = self.marks.front() {
            if order >= self.next && now.since(since) < PATIENCE {
                break;
            }
            self.release_through(order, out);
            self.marks.pop_front();
        }
        self.release_run(out);
        while self.marks.front().is_some_and(|&(_, order)| order < self.next) {
            self.marks.pop_front();
        }
    }

    /// Everything up to number `order`, whatever is missing before it.
    fn release_through(&mut self, order: u64, out: &mut Vec<T>) {
        while let Some(entry) = self.held.first_entry().filter(|entry| entry.key().0 <= order) {
            out.extend(entry.remove());
        }
        self.next = self.next.max(order + 1);
    }

    /// Everything that follows without a gap.
    fn release_run(&mut self, out: &mut Vec<T>) {
        while let Some(entry) = self.held.first_entry().filter(|entry| entry.key().0 <= self.next) {
            self.next = self.next.max(entry.key().0 + 1);
            out.extend(entry.remove());
        }
    }

    /// When [`Reorder::release`] has something to do although nothing more is handed in.
    pub fn due(&self) -> Option<Mono> {
        self.marks.front().map(|(since, _)| since.after(PATIENCE))
    }

    /// Items and voids held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// True when nothing is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Gives up the order and returns everything held; used when the daemon stops.
    pub fn drain(&mut self) -> Vec<T> {
        self.marks.clear();
        self.next = self.top;
        std::mem::take(&mut self.held).into_values().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    /// `(at ms, Some(order) to hand in, expected to leave)`.
    fn play(steps: &[(u64, Option<u64>, &[u64])]) -> Reorder<u64> {
        let mut window = Reorder::default();
        for (line, &(at, order, expected)) in steps.iter().enumerate() {
            let now = Mono(at * MS);
            if let Some(order) = order {
                window.arrive(order, order, now);
            }
            let mut out = Vec::new();
            window.release(now, &mut out);
            assert_eq!(out, expected, "step {line}");
        }
        window
    }

    #[test]
    fn numbers_in_order_pass_at_once() {
        let window = play(&[(0, Some(0), &[0]), (1, Some(1), &[1]), (2, Some(2), &[2])]);
        assert!(window.is_empty());
        assert_eq!(window.due(), None);
    }

    #[test]
    fn a_later_number_waits_for_an_earlier_one() {
        play(&[(0, Some(1), &[]), (99, Some(2), &[]), (99, Some(0), &[0, 1, 2])]);
    }

    #[test]
    fn a_missing_number_is_skipped_after_a_tenth_of_a_second() {
        let window = play(&[(0, Some(1), &[]), (50, Some(2), &[]), (99, None, &[]), (100, None, &[1, 2])]);
        assert_eq!(window.due(), None);
    }

    #[test]
    fn numbers_known_to_be_missing_since_the_same_moment_are_skipped_together() {
        play(&[
            (0, Some(9), &[]),
            (60, Some(5), &[]),
            (70, Some(12), &[]),
            (100, None, &[5, 9]),
            (170, None, &[12]),
        ]);
    }

    #[test]
    fn an_item_whose_number_was_skipped_goes_behind_all_that_wait() {
        play(&[
            (0, Some(1), &[]),
            (100, None, &[1]),
            (110, Some(4), &[]),
            (120, Some(0), &[]),
            (130, Some(3), &[]),
            (140, Some(2), &[2, 3, 4, 0]),
        ]);
    }

    #[test]
    fn an_item_whose_number_was_skipped_passes_at_once_when_nothing_waits() {
        play(&[(0, Some(1), &[]), (100, None, &[1]), (110, Some(0), &[0]), (120, Some(2), &[2])]);
    }

    #[test]
    fn a_void_lets_the_next_one_pass() {
        let mut window = Reorder::default();
        let mut out = Vec::new();
        window.arrive(1, 'b', Mono(0));
        window.void(0, Mono(0));
        window.release(Mono(0), &mut out);
        assert_eq!(out, ['b']);
    }

    #[test]
    fn draining_gives_back_what_waited() {
        let mut window = play(&[(0, Some(2), &[]), (0, Some(1), &[])]);
        assert_eq!(window.drain(), [1, 2]);
        assert_eq!((window.len(), window.due()), (0, None));
    }

    proptest! {
        /// Every number is handed in once, somewhere; nothing is lost, nothing comes twice, and what
        /// was never skipped comes in order.
        #[test]
        fn nothing_is_lost_or_doubled(
            keys in prop::collection::vec(any::<u32>(), 1..60),
            waits in prop::collection::vec(0u64..60, 60),
            voids in prop::collection::vec(prop::bool::weighted(0.2), 60),
        ) {
            let mut orders: Vec<u64> = (0..keys.len() as u64).collect();
            orders.sort_by_key(|&order| keys[order as usize] % 16 + order as u32);
            let mut window = Reorder::default();
            let (mut now, mut out) = (0, Vec::new());
            let mut skipped = false;
            for (&order, wait) in orders.iter().zip(&waits) {
                now += wait * MS;
                skipped |= window.due().is_some_and(|due| due.0 <= now);
                if voids[order as usize] { window.void(order, Mono(now)) } else { window.arrive(order, order, Mono(now)) }
                window.release(Mono(now), &mut out);
                if let Some(due) = window.due() { prop_assert!(due.0 > now); }
            }
            window.release(Mono(now + 200 * MS), &mut out);
            prop_assert!(window.is_empty());
            if !skipped { prop_assert!(out.is_sorted(), "{:?}", out); }
            out.sort_unstable();
            let expected: Vec<u64> = (0..keys.len() as u64).filter(|&order| !voids[order as usize]).collect();
            prop_assert_eq!(out, expected);
        }
    }
}
