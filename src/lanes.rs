//! One line per target: order, one at a time, priority with aging. A pure structure.
//!
//! Intents of one target leave in the order in which they came, the next one only when the one before
//! is done. Between targets the line whose head has the lowest rank goes first: the rank is the time of
//! arrival less one second per priority step, so a high priority overtakes and nobody waits for ever.
//!
//! A push, a take and a release cost O(log n) of the number of waiting targets.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use crate::clock::Mono;

/// What one step of priority is worth in waiting time.
pub const PRIORITY_STEP: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Waiting<T> {
    rank: i128,
    item: T,
}

#[derive(Debug)]
enum State {
    /// Its head stands among the ready ones, under this rank and number.
    Ready(i128, u64),
    /// An item of it is out.
    Busy,
    /// Its head must not leave before this moment.
    Delayed(Mono, u64),
}

#[derive(Debug)]
struct Line<T> {
    waiting: VecDeque<Waiting<T>>,
    state: State,
}

/// Lines of waiting items by key.
#[derive(Debug)]
pub struct Lanes<K, T> {
    lines: HashMap<K, Line<T>>,
    ready: BTreeSet<(i128, u64, K)>,
    delayed: BTreeSet<(Mono, u64, K)>,
    ticket: u64,
    waiting: usize,
}

impl<K: Clone + Eq + Hash + Ord, T> Default for Lanes<K, T> {
    fn default() -> Self {
        Lanes {
            lines: HashMap::new(),
            ready: BTreeSet::new(),
            delayed: BTreeSet::new(),
            ticket: 0,
            waiting: 0,
        }
    }
}

fn rank(arrived: Mono, priority: u8) -> i128 {
    i128::from(arrived.0) - i128::from(priority) * PRIORITY_STEP.as_nanos().cast_signed()
}

impl<K: Clone + Eq + Hash + Ord, T> Lanes<K, T> {
    /// No lines.
    pub fn new() -> Self {
        Self::default()
    }

    /// Items that wait (those that are out are not counted).
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Puts `item` at the end of its line.
    pub fn push(&mut self, key: K, priority: u8, arrived: Mono, item: T) {
        self.waiting += 1;
        let waiting = Waiting { rank: rank(arrived, priority), item };
        match self.lines.get_mut(&key) {
            Some(line) => line.waiting.push_back(waiting),
            None => {
                let mut line = Line { waiting: VecDeque::with_capacity(1), state: State::Busy };
                line.waiting.push_back(waiting);
                self.lines.insert(key.clone(), line);
                self.make_ready(&key);
            }
        }
    }

    /// The next item whose turn it is at `now`; its line stays closed until [`Self::done`] or
    /// [`Self::delay`].
    pub fn next(&mut self, now: Mono) -> Option<(K, T)> {
        self.wake(now);
        let (_, _, key) = self.ready.pop_first()?;
        let line = self.lines.get_mut(&key)?;
        line.state = State::Busy;
        let head = line.waiting.pop_front()?;
        self.waiting -= 1;
        Some((key, head.item))
    }

    /// What [`Self::next`] would give.
    pub fn peek(&mut self, now: Mono) -> Option<&T> {
        self.wake(now);
        let (_, _, key) = self.ready.first()?;
        self.lines.get(key)?.waiting.front().map(|head| &head.item)
    }

    /// The item that was out is finished: its line goes on.
    pub fn done(&mut self, key: &K) {
        match self.lines.get(key) {
            Some(line) if line.waiting.is_empty() => drop(self.lines.remove(key)),
            Some(_) => self.make_ready(key),
            None => {}
        }
    }

    /// The item that was out comes back to the head of its line and may leave again at `until`.
    pub fn delay(&mut self, key: &K, priority: u8, arrived: Mono, item: T, until: Mono) {
        let ticket = self.draw();
        if let Some(line) = self.lines.get_mut(key) {
            line.waiting.push_front(Waiting { rank: rank(arrived, priority), item });
            line.state = State::Delayed(until, ticket);
            self.delayed.insert((until, ticket, key.clone()));
            self.waiting += 1;
        }
    }

    /// Makes this line ready at once if it is delayed.
    pub fn hasten(&mut self, key: &K) {
        if let Some(Line { state: State::Delayed(until, ticket), .. }) = self.lines.get(key) {
            self.delayed.remove(&(*until, *ticket, key.clone()));
            self.make_ready(key);
        }
    }

    /// Makes every delayed line ready at once, after an outage ended.
    pub fn hurry(&mut self) {
        while let Some((_, _, key)) = self.delayed.pop_first() {
            self.make_ready(&key);
        }
    }

    /// Takes out the waiting items of a line that `pick` wants, oldest first. The item that is out, if
    /// any, is not among them.
    pub fn take_waiting(&mut self, key: &K, mut pick: impl FnMut(&T) -> bool) -> Vec<T> {
        let Some(line) = self.lines.get_mut(key) else { return Vec::new() };
        let mut taken = Vec::new();
        for waiting in std::mem::take(&mut line.waiting) {
            if pick(&waiting.item) {
                taken.push(waiting.item);
            } else {
                line.waiting.push_back(waiting);
            }
        }
        self.waiting -= taken.len();
        if !taken.is_empty() && !matches!(line.state, State::Busy) {
            self.settle_head(key);
        }
        taken
    }

    /// When the next delayed line may go on.
    pub fn next_due(&self) -> Option<Mono> {
        self.delayed.first().map(|(until, _, _)| *until)
    }

    /// True while something could leave at `now`.
    pub fn has_ready(&self, now: Mono) -> bool {
        !self.ready.is_empty() || self.next_due().is_some_and(|due| due <= now)
    }

    /// The waiting item of a line that `order` finds equal; the line must be sorted by it.
    pub fn find_mut(&mut self, key: &K, mut order: impl FnMut(&T) -> Ordering) -> Option<&mut T> {
        let waiting = &mut self.lines.get_mut(key)?.waiting;
        let at = waiting.binary_search_by(|waiting| order(&waiting.item)).ok()?;
        waiting.get_mut(at).map(|waiting| &mut waiting.item)
    }

    fn draw(&mut self) -> u64 {
        self.ticket += 1;
        self.ticket
    }

    fn wake(&mut self, now: Mono) {
        while self.delayed.first().is_some_and(|(until, _, _)| *until <= now) {
            if let Some((_, _, key)) = self.delayed.pop_first() {
                self.make_ready(&key);
            }
        }
    }

    fn make_ready(&mut self, key: &K) {
        let ticket = self.draw();
        if let Some(line) = self.lines.get_mut(key)
            && let Some(head) = line.waiting.front()
        {
            line.state = State::Ready(head.rank, ticket);
            self.ready.insert((head.rank, ticket, key.clone()));
        }
    }

    /// Puts a line whose head changed back where it belongs, or drops it when it is empty.
    fn settle_head(&mut self, key: &K) {
        let Some(line) = self.lines.get(key) else { return };
        let empty = line.waiting.is_empty();
        match line.state {
            State::Ready(rank, ticket) => {
                self.ready.remove(&(rank, ticket, key.clone()));
            }
            State::Delayed(until, ticket) if empty => {
                self.delayed.remove(&(until, ticket, key.clone()));
            }
            State::Delayed(..) | State::Busy => return,
        }
        if empty { drop(self.lines.remove(key)) } else { self.make_ready(key) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    #[test]
    fn a_target_has_one_item_out_and_keeps_its_order() {
        let mut lanes = Lanes::new();
        lanes.push("a", 5, at(1), 1);
        lanes.push("a", 10, at(1), 2);
        assert_eq!(lanes.next(at(2)), Some(("a", 1)));
        assert_eq!(lanes.next(at(2)), None);
        lanes.done(&"a");
        assert_eq!(lanes.next(at(2)), Some(("a", 2)));
    }

    #[test]
    fn a_high_priority_overtakes_other_targets_and_age_catches_up() {
        let mut lanes = Lanes::new();
        lanes.push("old", 0, at(0), 1);
        lanes.push("urgent", 10, at(5), 2);
        lanes.push("late", 10, at(20), 3);
        assert_eq!(lanes.next(at(20)).map(|(key, _)| key), Some("urgent"));
        assert_eq!(lanes.next(at(20)).map(|(key, _)| key), Some("old"));
        assert_eq!(lanes.next(at(20)).map(|(key, _)| key), Some("late"));
    }

    #[test]
    fn a_delayed_item_holds_back_its_own_target_alone() {
        let mut lanes = Lanes::new();
        lanes.push("a", 5, at(1), 1);
        lanes.push("a", 5, at(1), 2);
        lanes.push("b", 5, at(2), 3);
        let (key, item) = lanes.next(at(3)).unwrap();
        lanes.delay(&key, 5, at(1), item, at(10));
        assert_eq!(lanes.next(at(3)), Some(("b", 3)));
        assert_eq!(lanes.next(at(9)), None);
        assert_eq!(lanes.next_due(), Some(at(10)));
        assert_eq!(lanes.next(at(10)), Some(("a", 1)));
    }

    #[test]
    fn waiting_items_can_be_taken_out_and_the_line_goes_on() {
        let mut lanes = Lanes::new();
        lanes.push("a", 5, at(1), 1);
        lanes.push("a", 5, at(2), 2);
        assert_eq!(lanes.take_waiting(&"a", |item| *item == 1), [1]);
        assert_eq!(lanes.next(at(3)), Some(("a", 2)));
        lanes.done(&"a");
        assert!(lanes.is_empty() && lanes.next(at(4)).is_none());
    }

    #[test]
    fn hurry_lets_every_delayed_line_go_at_once_and_keeps_one_item_out_and_the_order() {
        let mut lanes = Lanes::new();
        for (key, item) in [("a", 1), ("a", 2), ("b", 3), ("c", 4)] {
            lanes.push(key, 5, at(item), item);
        }
        for (key, item) in [lanes.next(at(5)).unwrap(), lanes.next(at(5)).unwrap()] {
            lanes.delay(&key, 5, at(item), item, at(60));
        }
        assert_eq!(lanes.next(at(5)), Some(("c", 4)));
        lanes.hurry();
        assert_eq!(lanes.peek(at(5)), Some(&1));
        assert_eq!(lanes.next(at(5)), Some(("a", 1)));
        assert_eq!(lanes.next(at(5)), Some(("b", 3)));
        assert_eq!(lanes.next(at(5)), None, "2 waits for 1, and nothing else does");
        lanes.done(&"a");
        assert_eq!(lanes.next(at(5)), Some(("a", 2)));
    }

    #[test]
    fn a_waiting_item_is_found_by_its_order_and_one_that_is_out_is_not() {
        let mut lanes = Lanes::new();
        (1..=5).for_each(|item| lanes.push("a", 5, at(item), item));
        lanes.next(at(9));
        assert_eq!(lanes.find_mut(&"a", |item| item.cmp(&4)), Some(&mut 4));
        assert_eq!(lanes.find_mut(&"a", |item| item.cmp(&1)), None);
        assert_eq!(lanes.find_mut(&"b", |item| item.cmp(&4)), None);
    }

    proptest! {
        #[test]
        fn every_item_leaves_once_and_in_order_of_its_target(
            acts in proptest::collection::vec((0u8..4, 0u8..8, 0u8..=10), 1..200)
        ) {
            let (mut lanes, mut out) = (Lanes::new(), Vec::<(u8, usize)>::new());
            let mut left: HashMap<u8, Vec<usize>> = HashMap::new();
            for (number, (act, key, priority)) in acts.iter().enumerate() {
                let now = at(number as u64);
                match act {
                    0 | 1 => lanes.push(*key, *priority, now, number),
                    2 => if let Some((key, item)) = lanes.next(now) { out.push((key, item)) },
                    _ => if let Some((key, item)) = out.pop() {
                        if priority % 2 == 0 {
                            left.entry(key).or_default().push(item);
                            lanes.done(&key);
                        } else {
                            lanes.delay(&key, *priority, now, item, at(number as u64 + 3));
                        }
                    },
                }
                let mut busy: Vec<u8> = out.iter().map(|(key, _)| *key).collect();
                busy.sort_unstable();
                busy.dedup();
                prop_assert_eq!(busy.len(), out.len());
            }
            for (key, item) in out.drain(..) {
                left.entry(key).or_default().push(item);
                lanes.done(&key);
            }
            while let Some((key, item)) = lanes.next(at(10_000)) {
                left.entry(key).or_default().push(item);
                lanes.done(&key);
            }
            let pushed = acts.iter().filter(|(act, ..)| *act < 2).count();
            prop_assert_eq!(left.values().map(Vec::len).sum::<usize>(), pushed);
            for items in left.values() {
                prop_assert!(items.windows(2).all(|pair| pair[0] < pair[1]));
            }
        }
    }
}
