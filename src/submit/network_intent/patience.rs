//! How long intents wait for a namespace that the cluster does not have.
//!
//! The producer chose the namespace, so this is the one fault of the cluster's configuration that ends in
//! a refusal: after 3 tries over 10 min (`reliability.md` 5). Remembered for the 4,096 intents asked about
//! last; one that is forgotten, or whose daemon was restarted, begins anew.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::fate::Id;

/// Tries before a refusal.
const TRIES: u32 = 3;
/// Time between the first of them and the refusal.
const OVER: Duration = Duration::from_secs(600);
/// When a try is repeated: the third comes as the time is over.
pub(super) const AGAIN: Duration = Duration::from_secs(300);
/// Most intents that are remembered.
const MOST: usize = 4_096;

/// Since when, and how often, intents were tried in vain.
#[derive(Debug, Default)]
pub(super) struct Patience {
    tried: HashMap<Id, (Instant, u32)>,
}

impl Patience {
    /// Notes one more try; true when there have been enough.
    pub(super) fn is_over(&mut self, id: Id, now: Instant) -> bool {
        if self.tried.len() >= MOST && !self.tried.contains_key(&id) {
            let oldest = self.tried.iter().min_by_key(|(_, (since, _))| *since).map(|(id, _)| *id);
            oldest.map(|id| self.tried.remove(&id));
        }
        let (since, tries) = self.tried.entry(id).or_insert((now, 0));
        *tries += 1;
        let over = *tries >= TRIES && now.duration_since(*since) >= OVER;
        if over {
            self.tried.remove(&id);
        }
        over
    }

    /// The intent found its place.
    pub(super) fn forget(&mut self, id: Id) {
        self.tried.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_tries_over_ten_minutes_are_enough_and_fewer_are_not() {
        let mut patience = Patience::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let early: Vec<_> = [0, 1, 2, 599].into_iter().map(|s| patience.is_over(Id(1), at(s))).collect();
        assert_eq!(early, [false; 4]);
        assert!(patience.is_over(Id(1), at(600)));
        assert!(!patience.is_over(Id(2), start));
        assert!(!patience.is_over(Id(2), at(3_600)), "two tries, however far apart");
        assert!(patience.is_over(Id(2), at(3_601)));
    }

    #[test]
    fn a_namespace_that_came_back_starts_the_time_anew() {
        let mut patience = Patience::default();
        let start = Instant::now();
        for _ in 0..3 {
            patience.is_over(Id(1), start);
        }
        patience.forget(Id(1));
        assert!(!patience.is_over(Id(1), start + OVER));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut patience = Patience::default();
        let start = Instant::now();
        for number in 0..=MOST as u64 {
            patience.is_over(Id(number), start + Duration::from_millis(number));
        }
        assert_eq!(patience.tried.len(), MOST);
        assert!(!patience.tried.contains_key(&Id(0)));
    }
}
