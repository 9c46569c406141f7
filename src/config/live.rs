//! The settings in force: one owner who replaces them whole, and readers who notice it cheaply.
//!
//! A reader holds either the old value or the new one, never parts of both. To notice a new one costs
//! one relaxed load; the lock is taken only when there is something new.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// A value that is replaced as a whole while others read it; a cheap clone.
#[derive(Debug)]
pub struct Live<T>(Arc<Inner<T>>);

#[derive(Debug)]
struct Inner<T> {
    /// Counts replacements; changed only under the lock.
    generation: AtomicU64,
    current: Mutex<Arc<T>>,
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Live(Arc::clone(&self.0))
    }
}

impl<T> Live<T> {
    /// The value to begin with.
    pub fn new(first: T) -> Self {
        Live(Arc::new(Inner { generation: AtomicU64::new(0), current: Mutex::new(Arc::new(first)) }))
    }

    /// The value in force.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.current.lock())
    }

    /// Puts another value into force.
    pub fn replace(&self, next: T) {
        let next = Arc::new(next);
        let mut current = self.0.current.lock();
        self.0.generation.fetch_add(1, Ordering::Relaxed);
        let old = std::mem::replace(&mut *current, next);
        drop(current);
        // Outside the lock, since a large value takes its time to go.
        drop(old);
    }

    /// A reader who holds the value in force now.
    pub fn follow(&self) -> Follower<T> {
        let current = self.0.current.lock();
        let generation = self.0.generation.load(Ordering::Relaxed);
        Follower { live: self.clone(), generation, current: Arc::clone(&current) }
    }
}

/// One reader of a [`Live`] value.
#[derive(Debug)]
pub struct Follower<T> {
    live: Live<T>,
    generation: u64,
    current: Arc<T>,
}

impl<T> Follower<T> {
    /// The value that this reader goes by.
    pub fn current(&self) -> &T {
        &self.current
    }

    /// Goes by the newest value from now on; true if it is another than before.
    pub fn renew(&mut self) -> bool {
        if self.live.0.generation.load(Ordering::Relaxed) == self.generation {
            return false;
        }
        *self = self.live.follow();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_keeps_its_value_until_it_renews() {
        let live = Live::new(1);
        let mut reader = live.follow();
        assert!(!reader.renew());
        live.replace(2);
        assert_eq!((*reader.current(), *live.get()), (1, 2));
        assert!(reader.renew() && !reader.renew());
        assert_eq!(*reader.current(), 2);
    }

    #[test]
    fn nobody_sees_half_of_a_value() {
        let live = Live::new((0u64, 0u64));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let mut reader = live.follow();
                scope.spawn(move || {
                    while reader.current().0 < 1_000 {
                        reader.renew();
                        let (one, other) = *reader.current();
                        assert_eq!(one, other);
                    }
                });
            }
            (1..=1_000).for_each(|n| live.replace((n, n)));
        });
    }
}
