//! One line per target or package: order, priority with aging, waiting for company. A pure structure.
//!
//! Items of one line leave in the order in which they came; the line stays closed until all that left are
//! done or back. One that comes back takes its old place again, whatever came meanwhile. Between lines the
//! one whose head has the lowest rank goes first: the rank is the time of arrival less one second per
//! priority step, so a high priority overtakes and nobody waits for ever.
//!
//! A line that was at rest may wait a moment for company, until it is full; one that was busy never does:
//! what gathered meanwhile goes at once.
//!
//! A push, a take and a release cost O(log n) of the number of waiting lines; an item is found within its
//! line in O(log n), and taken out from the middle in amortised O(log n).

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use crate::clock::Mono;

/// What one step of priority is worth in waiting time.
pub const PRIORITY_STEP: Duration = Duration::from_secs(1);
/// Gaps in a line that are tolerated whatever its length.
const GAPS: usize = 32;

/// Where an item stands in its line, and its line among the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stand {
    /// Its place within the line: pushes come in rising order.
    pub order: u64,
    /// 0 to 10.
    pub priority: u8,
    /// When it came.
    pub arrived: Mono,
}

impl Stand {
    fn rank(&self) -> i128 {
        i128::from(self.arrived.0) - i128::from(self.priority) * PRIORITY_STEP.as_nanos().cast_signed()
    }
}

/// Why a line waits until a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// More may come that can go with it.
    Company,
    /// An attempt failed; [`Lanes::hurry`] ends it.
    Backoff,
    /// Somebody asked for it; nothing shortens it.
    Asked,
}

/// How long a line at rest waits for company.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Company {
    /// At most this long; zero: not at all.
    pub window: Duration,
    /// Not any more with so many items.
    pub full: usize,
}

#[derive(Debug)]
struct Waiting<T> {
    order: u64,
    rank: i128,
    /// `None`: taken out from the middle.
    item: Option<T>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Its head stands among the ready ones, under this rank and number.
    Ready(i128, u64),
    /// So many items of it are out; when they are back it waits on if one of them asks for it.
    Busy(usize, Option<(Mono, Wait)>),
    /// Its head must not leave before this moment.
    Delayed(Mono, u64, Wait),
}

#[derive(Debug)]
struct Line<T> {
    /// Sorted by `order`; the first is no gap.
    waiting: VecDeque<Waiting<T>>,
    gaps: usize,
    state: State,
}

impl<T> Line<T> {
    fn len(&self) -> usize {
        self.waiting.len() - self.gaps
    }

    fn find(&self, order: u64) -> Option<usize> {
        self.waiting.binary_search_by_key(&order, |waiting| waiting.order).ok()
    }

    fn pop(&mut self) -> Option<T> {
        let head = self.waiting.pop_front()?;
        self.trim();
        head.item
    }

    fn take(&mut self, order: u64) -> Option<T> {
        let at = self.find(order)?;
        if at == 0 {
            return self.pop();
        }
        let item = self.waiting[at].item.take()?;
        self.gaps += 1;
        if self.gaps > GAPS && self.gaps * 2 > self.waiting.len() {
            self.waiting.retain(|waiting| waiting.item.is_some());
            self.gaps = 0;
        }
        Some(item)
    }

    /// Puts an item where it stood; the gap that it left may still be there.
    fn put_back(&mut self, waiting: Waiting<T>) {
        let at = self.waiting.partition_point(|other| other.order < waiting.order);
        match self.waiting.get_mut(at) {
            Some(gap) if gap.order == waiting.order => {
                *gap = waiting;
                self.gaps -= 1;
            }
            _ => self.waiting.insert(at, waiting),
        }
    }

    /// Lets no gap stand first.
    fn trim(&mut self) {
        while self.waiting.front().is_some_and(|head| head.item.is_none()) {
            self.waiting.pop_front();
            self.gaps -= 1;
        }
    }
}

/// Lines of waiting items by key.
#[derive(Debug)]
pub struct Lanes<K, T> {
    lines: HashMap<K, Line<T>>,
    ready: BTreeSet<(i128, u64, K)>,
    delayed: BTreeSet<(Mono, u64, K)>,
    company: Company,
    ticket: u64,
    waiting: usize,
}

impl<K: Clone + Eq + Hash + Ord, T> Default for Lanes<K, T> {
    fn default() -> Self {
        Lanes::new(Company::default())
    }
}

impl<K: Clone + Eq + Hash + Ord, T> Lanes<K, T> {
    /// No lines.
    pub fn new(company: Company) -> Self {
        Lanes {
            lines: HashMap::new(),
            ready: BTreeSet::new(),
            delayed: BTreeSet::new(),
            company,
            ticket: 0,
            waiting: 0,
        }
    }

    /// Items that wait (those that are out are not counted).
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Puts `item` at the end of its line. If nothing of the line waits or is out, it may leave at
    /// `not_before`, or else when it has waited for company.
    pub fn push(&mut self, key: K, stand: Stand, item: T, not_before: Option<Mono>) {
        self.waiting += 1;
        let waiting = Waiting { order: stand.order, rank: stand.rank(), item: Some(item) };
        if let Some(line) = self.lines.get_mut(&key) {
            line.waiting.push_back(waiting);
            if matches!(line.state, State::Delayed(_, _, Wait::Company)) && line.len() >= self.company.full {
                self.hasten(&key);
            }
            return;
        }
        let mut line = Line { waiting: VecDeque::with_capacity(1), gaps: 0, state: State::Busy(0, None) };
        line.waiting.push_back(waiting);
        self.lines.insert(key.clone(), line);
        let alone = !self.company.window.is_zero() && self.company.full > 1;
        match not_before {
            Some(until) => self.put_off(&key, until, Wait::Backoff),
            None if alone => self.put_off(&key, stand.arrived.after(self.company.window), Wait::Company),
            None => self.make_ready(&key),
        }
    }

    /// The line whose turn it is at `now`. It stays closed; what leaves it is [taken](Self::take), and if
    /// nothing is, it is [shut](Self::shut).
    pub fn open(&mut self, now: Mono) -> Option<K> {
        self.wake(now);
        let (_, _, key) = self.ready.pop_first()?;
        self.lines.get_mut(&key)?.state = State::Busy(0, None);
        Some(key)
    }

    /// The next item whose turn it is at `now`; its line stays closed until [`Self::done`] or
    /// [`Self::back`].
    pub fn next(&mut self, now: Mono) -> Option<(K, T)> {
        let key = self.open(now)?;
        let line = self.lines.get_mut(&key)?;
        line.state = State::Busy(1, None);
        let item = line.pop()?;
        self.waiting -= 1;
        Some((key, item))
    }

    /// What [`Self::next`] would give.
    pub fn peek(&mut self, now: Mono) -> Option<&T> {
        self.wake(now);
        let (_, _, key) = self.ready.first()?;
        self.lines.get(key)?.waiting.front()?.item.as_ref()
    }

    /// The waiting items of a line, in order.
    pub fn waiting<'a>(&'a self, key: &K) -> impl Iterator<Item = &'a T> + use<'a, K, T> {
        let line = self.lines.get(key);
        line.into_iter().flat_map(|line| line.waiting.iter().filter_map(|waiting| waiting.item.as_ref()))
    }

    /// These items of a line that was [opened](Self::open) leave it.
    pub fn take(&mut self, key: &K, orders: &[u64]) -> Vec<T> {
        let Some(line) = self.lines.get_mut(key) else { return Vec::new() };
        let taken: Vec<T> = orders.iter().filter_map(|order| line.take(*order)).collect();
        self.waiting -= taken.len();
        if let State::Busy(out, _) = &mut line.state {
            *out += taken.len();
        }
        taken
    }

    /// A line that was [opened](Self::open) lets nothing leave, until this moment if there is one.
    pub fn shut(&mut self, key: &K, until: Option<Mono>) {
        self.go_on(key, until.map(|until| (until, Wait::Backoff)));
    }

    /// An item that was out is finished; after the last one its line goes on.
    pub fn done(&mut self, key: &K) {
        self.returned(key, None);
    }

    /// The same; the line waits on if `wait` asks for it.
    pub fn done_until(&mut self, key: &K, wait: Option<(Mono, Wait)>) {
        self.returned(key, wait);
    }

    /// An item that was out comes back to its place; the line waits on if `wait` asks for it.
    pub fn back(&mut self, key: &K, stand: Stand, item: T, wait: Option<(Mono, Wait)>) {
        let Some(line) = self.lines.get_mut(key) else { return };
        line.put_back(Waiting { order: stand.order, rank: stand.rank(), item: Some(item) });
        self.waiting += 1;
        self.returned(key, wait);
    }

    /// Ends every [`Wait::Backoff`] at once, after an outage ended.
    pub fn hurry(&mut self) {
        let is_backoff = |line: &Line<T>| matches!(line.state, State::Delayed(_, _, Wait::Backoff));
        for (until, ticket, key) in std::mem::take(&mut self.delayed) {
            match self.lines.get(&key).is_some_and(is_backoff) {
                true => self.make_ready(&key),
                false => _ = self.delayed.insert((until, ticket, key)),
            }
        }
    }

    /// Takes a waiting item out of its line for good. One that is out is not found.
    pub fn remove(&mut self, key: &K, order: u64) -> Option<T> {
        let line = self.lines.get_mut(key)?;
        let head = line.waiting.front().map(|head| head.order);
        let item = line.take(order)?;
        self.waiting -= 1;
        if head == Some(order) && !matches!(line.state, State::Busy(..)) {
            self.settle_head(key);
        }
        Some(item)
    }

    /// A waiting item of a line.
    pub fn get(&self, key: &K, order: u64) -> Option<&T> {
        let line = self.lines.get(key)?;
        line.waiting[line.find(order)?].item.as_ref()
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, key: &K, order: u64) -> Option<&mut T> {
        let line = self.lines.get_mut(key)?;
        let at = line.find(order)?;
        line.waiting[at].item.as_mut()
    }

    /// When the next line that waits may go on.
    pub fn next_due(&self) -> Option<Mono> {
        self.delayed.first().map(|(until, _, _)| *until)
    }

    /// True while something could leave at `now`.
    pub fn has_ready(&self, now: Mono) -> bool {
        !self.ready.is_empty() || self.next_due().is_some_and(|due| due <= now)
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

    /// One item less of a line is out; the longest wait of those that came back holds.
    fn returned(&mut self, key: &K, wait: Option<(Mono, Wait)>) {
        let Some(Line { state: State::Busy(out, asked), .. }) = self.lines.get_mut(key) else { return };
        *out = out.saturating_sub(1);
        *asked = match (*asked, wait) {
            (Some((until, why)), Some((other, because))) => Some((until.max(other), why.max(because))),
            (one, other) => one.or(other),
        };
        let (out, asked) = (*out, *asked);
        if out == 0 {
            self.go_on(key, asked);
        }
    }

    /// Nothing of the line is out any more.
    fn go_on(&mut self, key: &K, wait: Option<(Mono, Wait)>) {
        let is_empty = self.lines.get(key).is_none_or(|line| line.waiting.is_empty());
        match wait {
            _ if is_empty => drop(self.lines.remove(key)),
            Some((until, why)) => self.put_off(key, until, why),
            None => self.make_ready(key),
        }
    }

    fn put_off(&mut self, key: &K, until: Mono, why: Wait) {
        let ticket = self.draw();
        if let Some(line) = self.lines.get_mut(key) {
            line.state = State::Delayed(until, ticket, why);
            self.delayed.insert((until, ticket, key.clone()));
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

    /// A line that waits waits no longer.
    pub fn hasten(&mut self, key: &K) {
        if let Some(Line { state: State::Delayed(until, ticket, _), .. }) = self.lines.get(key) {
            self.delayed.remove(&(*until, *ticket, key.clone()));
            self.make_ready(key);
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
            State::Delayed(until, ticket, _) if empty => {
                self.delayed.remove(&(until, ticket, key.clone()));
            }
            State::Delayed(..) | State::Busy(..) => return,
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

    fn stand(order: u64, priority: u8, arrived: u64) -> Stand {
        Stand { order, priority, arrived: at(arrived) }
    }

    fn lanes<T>() -> Lanes<&'static str, T> {
        Lanes::default()
    }

    /// Items 1, 2, … of priority 5 in these lines, each arriving a second after the one before.
    fn filled(company: Company, keys: &[&'static str]) -> Lanes<&'static str, u64> {
        let mut lanes = Lanes::new(company);
        for (item, key) in (1..).zip(keys) {
            lanes.push(*key, stand(item, 5, item), item, None);
        }
        lanes
    }

    fn backoff(seconds: u64) -> Option<(Mono, Wait)> {
        Some((at(seconds), Wait::Backoff))
    }

    #[test]
    fn a_target_has_one_item_out_and_keeps_its_order() {
        let mut lanes = lanes();
        lanes.push("a", stand(1, 5, 1), 1, None);
        lanes.push("a", stand(2, 10, 1), 2, None);
        assert_eq!(lanes.next(at(2)), Some(("a", 1)));
        assert_eq!(lanes.next(at(2)), None);
        lanes.done(&"a");
        assert_eq!(lanes.next(at(2)), Some(("a", 2)));
    }

    #[test]
    fn a_high_priority_overtakes_other_targets_and_age_catches_up() {
        let mut lanes = lanes();
        lanes.push("old", stand(1, 0, 0), 1, None);
        lanes.push("urgent", stand(2, 10, 5), 2, None);
        lanes.push("late", stand(3, 10, 20), 3, None);
        assert_eq!(lanes.next(at(20)).map(|(key, _)| key), Some("urgent"));
        assert_eq!(lanes.next(at(20)).map(|(key, _)| key), Some("old"));
        assert_eq!(lanes.next(at(20)).map(|(key, _)| key), Some("late"));
    }

    #[test]
    fn a_delayed_item_holds_back_its_own_target_alone() {
        let mut lanes = filled(Company::default(), &["a", "a", "b"]);
        let (key, item) = lanes.next(at(3)).unwrap();
        lanes.back(&key, stand(1, 5, 1), item, backoff(10));
        assert_eq!(lanes.next(at(3)), Some(("b", 3)));
        assert_eq!(lanes.next(at(9)), None);
        assert_eq!(lanes.next_due(), Some(at(10)));
        assert_eq!(lanes.next(at(10)), Some(("a", 1)));
    }

    #[test]
    fn a_waiting_item_can_be_taken_out_and_the_line_goes_on() {
        let mut lanes = filled(Company::default(), &["a", "a"]);
        assert_eq!(lanes.remove(&"a", 1), Some(1));
        assert_eq!(lanes.next(at(3)), Some(("a", 2)));
        lanes.done(&"a");
        assert!(lanes.is_empty() && lanes.next(at(4)).is_none());
    }

    #[test]
    fn hurry_lets_every_failed_line_go_at_once_and_shortens_no_wait_that_was_asked_for() {
        let mut lanes = filled(Company::default(), &["a", "a", "b", "c", "d"]);
        for (order, wait) in [(1, Wait::Backoff), (3, Wait::Backoff), (4, Wait::Asked)] {
            let (key, item) = lanes.next(at(5)).unwrap();
            lanes.back(&key, stand(order, 5, order), item, Some((at(60), wait)));
        }
        assert_eq!(lanes.next(at(5)), Some(("d", 5)));
        lanes.hurry();
        assert_eq!(lanes.peek(at(5)), Some(&1));
        assert_eq!(lanes.next(at(5)), Some(("a", 1)));
        assert_eq!(lanes.next(at(5)), Some(("b", 3)));
        assert_eq!(lanes.next(at(59)), None, "2 waits for 1, and 4 until it may");
        lanes.done(&"a");
        assert_eq!(lanes.next(at(59)), Some(("a", 2)));
        assert_eq!(lanes.next(at(60)), Some(("c", 4)));
    }

    #[test]
    fn a_waiting_item_is_found_by_its_order_and_one_that_is_out_is_not() {
        let mut lanes = filled(Company::default(), &["a"; 5]);
        lanes.next(at(9));
        assert_eq!(lanes.get_mut(&"a", 4), Some(&mut 4));
        assert_eq!(lanes.get(&"a", 1), None);
        assert_eq!(lanes.remove(&"a", 1), None);
        assert_eq!(lanes.get(&"b", 4), None);
    }

    #[test]
    fn several_leave_a_line_together_and_each_comes_back_to_its_place() {
        let mut lanes = filled(Company::default(), &["a"; 5]);
        assert_eq!(lanes.open(at(9)), Some("a"));
        assert_eq!(lanes.take(&"a", &[1, 2, 4]), [1, 2, 4]);
        assert_eq!(lanes.waiting(&"a").copied().collect::<Vec<_>>(), [3, 5]);
        lanes.push("a", stand(6, 5, 9), 6, None);
        lanes.back(&"a", stand(4, 5, 4), 4, backoff(20));
        lanes.done(&"a");
        assert_eq!((lanes.len(), lanes.open(at(9))), (4, None), "1 is still out");
        lanes.back(&"a", stand(1, 5, 1), 1, backoff(15));
        assert_eq!(lanes.waiting(&"a").copied().collect::<Vec<_>>(), [1, 3, 4, 5, 6]);
        assert_eq!(lanes.next_due(), Some(at(20)), "the longest wait holds");
        assert_eq!(lanes.open(at(20)), Some("a"));
        lanes.shut(&"a", Some(at(25)));
        assert_eq!((lanes.open(at(24)), lanes.open(at(25))), (None, Some("a")));
    }

    #[test]
    fn a_line_at_rest_waits_for_company_until_it_is_full_and_a_busy_one_does_not() {
        let company = Company { window: Duration::from_secs(10), full: 3 };
        let mut lanes = filled(company, &["a", "b", "b"]);
        assert_eq!((lanes.open(at(10)), lanes.next_due()), (None, Some(at(11))));
        lanes.push("b", stand(4, 5, 4), 4, None);
        assert_eq!(lanes.open(at(4)), Some("b"), "it is full");
        lanes.take(&"b", &[2]);
        assert_eq!(lanes.open(at(11)), Some("a"));
        lanes.done(&"b");
        assert_eq!(lanes.open(at(11)), Some("b"), "what gathered goes at once");
    }

    #[test]
    fn a_long_line_loses_what_is_taken_from_its_middle() {
        let mut lanes = filled(Company::default(), &["a"; 1_000]);
        (2..1_000).for_each(|order| assert_eq!(lanes.remove(&"a", order), Some(order)));
        assert!(lanes.lines["a"].waiting.len() <= 2 * GAPS, "gaps do not pile up");
        assert_eq!(lanes.waiting(&"a").copied().collect::<Vec<_>>(), [1, 1_000]);
        assert_eq!(lanes.next(at(2_000)), Some(("a", 1)));
        lanes.done(&"a");
        assert_eq!(lanes.next(at(2_000)), Some(("a", 1_000)));
    }

    proptest! {
        #[test]
        fn every_item_leaves_once_and_in_order_of_its_target(
            acts in proptest::collection::vec((0u8..4, 0u8..8, 0u8..=10), 1..200)
        ) {
            let (mut lanes, mut out) = (Lanes::default(), Vec::<(u8, usize)>::new());
            let mut left: HashMap<u8, Vec<usize>> = HashMap::new();
            for (number, (act, key, priority)) in acts.iter().enumerate() {
                let now = at(number as u64);
                match act {
                    0 | 1 => lanes.push(*key, stand(number as u64, *priority, number as u64), number, None),
                    2 => if let Some((key, item)) = lanes.next(now) { out.push((key, item)) },
                    _ => if let Some((key, item)) = out.pop() {
                        if priority % 2 == 0 {
                            left.entry(key).or_default().push(item);
                            lanes.done(&key);
                        } else {
                            let stand = stand(item as u64, *priority, number as u64);
                            lanes.back(&key, stand, item, backoff(number as u64 + 3));
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
