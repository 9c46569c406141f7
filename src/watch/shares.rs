//! A fair share of the fresh lane for every owner of files (D3, L04).
//!
//! Below a quarter of the lane nobody is counted and no owner is asked for. Above it each ticket
//! counts for its file's owner until a worker has taken it: an owner alone may hold half of the
//! lane, one of several a quarter. With the uncounted quarter below, a flood of one owner thus
//! leaves a quarter of the lane to whoever comes next. What exceeds a share stays in the folder
//! for the next scan.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// Tickets in the fresh lane by owner; at most one entry a ticket.
#[derive(Debug, Clone, Default)]
pub(super) struct Shares {
    counts: Arc<Mutex<HashMap<u32, usize>>>,
}

/// One counted ticket; dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Share {
    counts: Arc<Mutex<HashMap<u32, usize>>>,
    uid: u32,
}

impl Shares {
    /// Whether a lane of this depth and capacity is full enough for owners to count.
    pub(super) fn matter(depth: usize, capacity: usize) -> bool {
        depth * 4 > capacity
    }

    /// A place for one more ticket of `uid` in a lane of `capacity`, if its share has room.
    pub(super) fn take(&self, uid: u32, capacity: usize) -> Option<Share> {
        let mut counts = self.counts.lock();
        let alone = counts.keys().all(|other| *other == uid);
        let limit = if alone { capacity / 2 } else { capacity / 4 }.max(1);
        let held = counts.entry(uid).or_insert(0);
        if *held >= limit {
            return None;
        }
        *held += 1;
        Some(Share { counts: Arc::clone(&self.counts), uid })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        if let Some(held) = counts.get_mut(&self.uid) {
            *held -= 1;
            if *held == 0 {
                counts.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_alone_has_half_and_one_of_two_a_quarter() {
        let shares = Shares::default();
        let mut first: Vec<Share> = std::iter::from_fn(|| shares.take(1, 16)).collect();
        assert_eq!(first.len(), 8);
        let second: Vec<Share> = std::iter::from_fn(|| shares.take(2, 16)).collect();
        assert_eq!(second.len(), 4);
        first.truncate(4);
        assert!(shares.take(1, 16).is_none());
        drop(second);
        assert!(shares.take(1, 16).is_some());
        drop(first);
        assert!(shares.counts.lock().is_empty());
    }

    #[test]
    fn the_smallest_lane_has_a_place_for_everybody() {
        let shares = Shares::default();
        let _one = shares.take(1, 1).unwrap();
        assert!(shares.take(2, 1).is_some());
        assert!(Shares::matter(1, 1) && !Shares::matter(4, 16) && Shares::matter(5, 16));
    }
}
