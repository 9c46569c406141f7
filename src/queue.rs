//! The bounded store between the watch and the workers, and the names that are on their way.
//!
//! Three lock-free lanes ([`Lane`]), each with room for `capacity` items; a refused item is given
//! back, for the folder itself is the overflow. Lanes are served by weight (8 fresh, 2 backlog,
//! 1 large in every round of 11), so none starves, and at most one worker holds a large item.
//!
//! Taking an item and drawing its order number are one act under one short lock: numbers run
//! 0, 1, 2, … without gaps in the order in which items left the lanes, which is what makes
//! acceptance order the order of sighting. Nothing else is locked; pushes never wait.
//!
//! Wake-up is an event count: *take, listen, take again, wait*. An idle worker sleeps until a push,
//! the release of the large lane, [`Queue::close`] or its own time limit.
//!
//! [`Flights`] knows which names a ticket or a worker holds and which are accepted but not yet filed.

mod flights;
mod gate;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use event_listener::{Event, IntoNotification as _, Listener as _, listener};
use parking_lot::Mutex;

pub use flights::{Claim, Flight, Flights, Notice};
pub use gate::{FLOWING, Gate, LOADED, Pass};

/// Which kind of work an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Noticed by an event.
    Fresh,
    /// Found by a scan.
    Backlog,
    /// Above the map threshold, whoever noticed it; one worker at a time.
    Large,
}

impl Lane {
    /// Every lane, in the order in which a round serves them.
    pub const ALL: [Lane; 3] = [Lane::Fresh, Lane::Backlog, Lane::Large];

    /// The label of the depth metric.
    pub const fn as_str(self) -> &'static str {
        match self {
            Lane::Fresh => "fresh",
            Lane::Backlog => "backlog",
            Lane::Large => "large",
        }
    }

    const fn index(self) -> usize {
        self as usize
    }
}

/// Items that each lane may hand out in one round.
const WEIGHTS: [u8; 3] = [8, 2, 1];

/// What the next taker needs to know.
struct Turn {
    order: u64,
    credit: [u8; 3],
}

/// What outlives a borrow of the queue: the event count and the one permit of the large lane.
struct Bell {
    event: Event,
    large_out: AtomicBool,
}

type Hook = Box<dyn Fn() + Send + Sync>;

/// A bounded queue of three lanes for many producers and many takers.
pub struct Queue<T> {
    lanes: [ArrayQueue<T>; 3],
    turn: Mutex<Turn>,
    bell: Arc<Bell>,
    closed: AtomicBool,
    room_wanted: [AtomicBool; 3],
    on_room: OnceLock<Hook>,
}

/// An item with its place in the order of sighting.
#[derive(Debug)]
pub struct Taken<T> {
    /// 0, 1, 2, … without gaps, across all lanes.
    pub order: u64,
    /// Where it waited.
    pub lane: Lane,
    /// The item.
    pub item: T,
    /// Keeps the large lane to this taker until it is dropped; `None` for the other lanes.
    pub large: Option<LargePermit>,
}

/// The right to hold an item of the large lane; dropping it lets the next one out.
pub struct LargePermit(Arc<Bell>);

impl fmt::Debug for LargePermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LargePermit")
    }
}

impl Drop for LargePermit {
    fn drop(&mut self) {
        self.0.large_out.store(false, Ordering::SeqCst);
        self.0.event.notify(1.additional());
    }
}

impl<T> Queue<T> {
    /// Three empty lanes with room for `capacity` items each (at least 1).
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Queue {
            lanes: std::array::from_fn(|_| ArrayQueue::new(capacity)),
            turn: Mutex::new(Turn { order: 0, credit: WEIGHTS }),
            bell: Arc::new(Bell { event: Event::new(), large_out: AtomicBool::new(false) }),
            closed: AtomicBool::new(false),
            room_wanted: Default::default(),
            on_room: OnceLock::new(),
        }
    }

    /// Items that one lane can hold.
    pub fn capacity(&self) -> usize {
        self.lanes[0].capacity()
    }

    /// Items that wait in `lane`.
    pub fn depth(&self, lane: Lane) -> usize {
        self.lanes[lane.index()].len()
    }

    /// Appends to `lane` and wakes one taker. The item comes back when the lane is full or the
    /// queue is closed.
    pub fn push(&self, lane: Lane, item: T) -> Result<(), T> {
        if self.is_closed() {
            return Err(item);
        }
        self.lanes[lane.index()].push(item)?;
        // `additional`: a taker that was told of the item before and has not run yet does not count.
        self.bell.event.notify(1.additional());
        Ok(())
    }

    /// The next item, if there is one to be had now.
    pub fn take(&self) -> Option<Taken<T>> {
        if self.lanes.iter().all(ArrayQueue::is_empty) {
            return None;
        }
        let mut turn = self.turn.lock();
        let (lane, item) = self.pick(&mut turn)?;
        let order = turn.order;
        turn.order += 1;
        drop(turn);
        self.tell_room(lane);
        let large = (lane == Lane::Large).then(|| LargePermit(Arc::clone(&self.bell)));
        Some(Taken { order, lane, item, large })
    }

    fn pick(&self, turn: &mut Turn) -> Option<(Lane, T)> {
        for _round in 0..2 {
            for lane in Lane::ALL {
                let blocked = lane == Lane::Large && self.bell.large_out.load(Ordering::SeqCst);
                if turn.credit[lane.index()] == 0 || blocked {
                    continue;
                }
                if let Some(item) = self.lanes[lane.index()].pop() {
                    turn.credit[lane.index()] -= 1;
                    if lane == Lane::Large {
                        self.bell.large_out.store(true, Ordering::SeqCst);
                    }
                    return Some((lane, item));
                }
            }
            turn.credit = WEIGHTS;
        }
        None
    }

    /// The next item, waited for until `timeout` has passed, `stop` says so (asked at every wake-up),
    /// or the queue is closed.
    pub fn take_wait(&self, stop: &dyn Fn() -> bool, timeout: Duration) -> Option<Taken<T>> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            if self.is_closed() || stop() {
                return None;
            }
            if let Some(taken) = self.take() {
                return Some(taken);
            }
            listener!(self.bell.event => listener);
            if self.is_closed() || stop() {
                return None;
            }
            if let Some(taken) = self.take() {
                return Some(taken);
            }
            match deadline {
                Some(deadline) => {
                    if listener.wait_deadline(deadline).is_none() {
                        return self.take();
                    }
                }
                None => listener.wait(),
            }
        }
    }

    /// Refuses further pushes and sends every waiting taker home. What is left can still be had
    /// with [`Queue::take`].
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.wake_all();
    }

    /// True after [`Queue::close`].
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Makes every waiting taker ask its `stop` again.
    pub fn wake_all(&self) {
        self.bell.event.notify(usize::MAX.additional());
    }

    /// Sets what is called, from a taker's thread, when a lane that [`Queue::ask_room`] was asked
    /// about is half empty again. Only the first call counts.
    pub fn on_room(&self, hook: impl Fn() + Send + Sync + 'static) {
        // A second hook would belong to a second watch, which one queue never has.
        let _ = self.on_room.set(Box::new(hook));
    }

    /// True when `lane` is at most half full; otherwise the hook is called once, as soon as it is.
    pub fn ask_room(&self, lane: Lane) -> bool {
        let wanted = &self.room_wanted[lane.index()];
        wanted.store(true, Ordering::SeqCst);
        if self.depth(lane) * 2 > self.capacity() {
            return false;
        }
        wanted.store(false, Ordering::SeqCst);
        true
    }

    fn tell_room(&self, lane: Lane) {
        let wanted = &self.room_wanted[lane.index()];
        if wanted.load(Ordering::SeqCst)
            && self.depth(lane) * 2 <= self.capacity()
            && wanted.swap(false, Ordering::SeqCst)
            && let Some(hook) = self.on_room.get()
        {
            hook();
        }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let depths = Lane::ALL.map(|lane| self.depth(lane));
        f.debug_struct("Queue").field("capacity", &self.capacity()).field("depths", &depths).finish()
    }
}
