use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::debounce::Hint;
use crate::disk::Identity;

const LONG: Duration = Duration::from_secs(60);

fn never() -> bool {
    false
}

#[test]
fn a_full_lane_gives_the_item_back_and_leaves_the_others_alone() {
    let queue = Queue::new(2);
    assert_eq!(queue.push(Lane::Fresh, 1), Ok(()));
    assert_eq!(queue.push(Lane::Fresh, 2), Ok(()));
    assert_eq!(queue.push(Lane::Fresh, 3), Err(3));
    assert_eq!(queue.push(Lane::Backlog, 3), Ok(()));
    assert_eq!((queue.depth(Lane::Fresh), queue.depth(Lane::Backlog), queue.capacity()), (2, 1, 2));
}

#[test]
fn lanes_are_served_eight_to_two_to_one() {
    let queue = Queue::new(100);
    for item in 0..60 {
        for lane in Lane::ALL {
            queue.push(lane, item).unwrap();
        }
    }
    let mut served = HashMap::new();
    for order in 0..33 {
        let taken = queue.take().unwrap();
        assert_eq!(taken.order, order);
        *served.entry(taken.lane).or_insert(0) += 1;
    }
    assert_eq!(served, HashMap::from([(Lane::Fresh, 24), (Lane::Backlog, 6), (Lane::Large, 3)]));
}

#[test]
fn an_endless_stream_starves_no_lane() {
    let queue = Queue::new(16);
    queue.push(Lane::Large, 0).unwrap();
    queue.push(Lane::Backlog, 0).unwrap();
    let mut lanes = BTreeSet::new();
    for _ in 0..22 {
        queue.push(Lane::Fresh, 0).unwrap();
        lanes.insert(queue.take().unwrap().lane.as_str());
    }
    assert_eq!(lanes, BTreeSet::from(["fresh", "backlog", "large"]));
}

#[test]
fn a_large_item_is_held_by_one_taker_at_a_time() {
    let queue = Arc::new(Queue::new(4));
    queue.push(Lane::Large, 1).unwrap();
    queue.push(Lane::Large, 2).unwrap();
    let first = queue.take().unwrap();
    assert!(queue.take().is_none());
    let waiting = {
        let queue = Arc::clone(&queue);
        thread::spawn(move || queue.take_wait(&never, LONG).map(|taken| taken.item))
    };
    while queue.bell.event.total_listeners() == 0 {
        thread::yield_now();
    }
    let before = Instant::now();
    drop(first);
    assert_eq!(waiting.join().unwrap(), Some(2));
    assert!(before.elapsed() < LONG / 2, "woken, not timed out");
}

#[test]
fn every_push_wakes_a_taker_of_its_own() {
    let queue = Queue::new(4);
    let (first, second) = (queue.bell.event.listen(), queue.bell.event.listen());
    queue.push(Lane::Fresh, 1).unwrap();
    queue.push(Lane::Fresh, 2).unwrap();
    for listener in [first, second] {
        assert!(listener.wait_timeout(Duration::ZERO).is_some());
    }
}

#[test]
fn closing_sends_waiting_takers_home_and_refuses_pushes() {
    let queue = Arc::new(Queue::<u8>::new(4));
    queue.push(Lane::Fresh, 7).unwrap();
    assert!(queue.take().is_some());
    let takers: Vec<_> = (0..3)
        .map(|_| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.take_wait(&never, LONG).is_none())
        })
        .collect();
    queue.close();
    assert!(takers.into_iter().all(|taker| taker.join().unwrap()));
    assert_eq!(queue.push(Lane::Fresh, 9), Err(9));
}

#[test]
fn a_waiting_taker_ends_with_its_time_or_when_it_is_told_to_stop() {
    let queue = Queue::<u8>::new(4);
    assert!(queue.take_wait(&never, Duration::from_millis(1)).is_none());
    queue.push(Lane::Fresh, 1).unwrap();
    assert!(queue.take_wait(&|| true, LONG).is_none());
    assert!(queue.take_wait(&never, Duration::MAX).is_some());
}

#[test]
fn room_is_announced_once_when_the_lane_is_half_empty() {
    let queue = Queue::new(4);
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    queue.on_room(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    assert!(queue.ask_room(Lane::Fresh));
    for item in 0..4 {
        queue.push(Lane::Fresh, item).unwrap();
    }
    assert!(!queue.ask_room(Lane::Fresh));
    queue.take();
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    queue.take();
    queue.take();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

/// Four producers, three takers: nothing is lost or doubled, order numbers have no gaps, and the
/// items of one producer and lane leave in the order in which they came.
#[test]
fn threads_lose_nothing_and_keep_the_order() {
    const EACH: u64 = 5_000;
    let queue = Arc::new(Queue::new(64));
    let left = Arc::new(AtomicU64::new(4 * EACH));
    let producers: Vec<_> = (0..4u64)
        .map(|producer| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                for number in 0..EACH {
                    let lane = Lane::ALL[usize::try_from(number % 7).unwrap().min(2) % 3];
                    let mut item = (producer, number);
                    while let Err(back) = queue.push(lane, item) {
                        item = back;
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let takers: Vec<_> = (0..3)
        .map(|_| {
            let (queue, left) = (Arc::clone(&queue), Arc::clone(&left));
            thread::spawn(move || {
                let mut taken = Vec::new();
                while let Some(next) = queue.take_wait(&never, LONG) {
                    taken.push((next.order, next.lane, next.item));
                    drop(next);
                    if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                        queue.close();
                    }
                }
                taken
            })
        })
        .collect();
    producers.into_iter().for_each(|producer| producer.join().unwrap());
    let all: BTreeMap<u64, (Lane, (u64, u64))> = takers
        .into_iter()
        .flat_map(|taker| taker.join().unwrap())
        .map(|(order, lane, item)| (order, (lane, item)))
        .collect();
    assert_eq!(all.len() as u64, 4 * EACH);
    assert_eq!(all.keys().next_back(), Some(&(4 * EACH - 1)));
    let mut newest = HashMap::new();
    for (lane, (producer, number)) in all.into_values() {
        let before = newest.insert((lane, producer), number);
        assert!(before.is_none_or(|before| before < number), "{lane:?} of producer {producer}");
    }
}

fn file(ino: u64) -> Identity {
    Identity { ino, ..Identity::default() }
}

fn claimed(claim: Claim) -> Flight {
    match claim {
        Claim::Taken(flight) => flight,
        other => panic!("not free: {other:?}"),
    }
}

#[test]
fn a_name_seen_while_busy_comes_again_when_it_is_accepted_or_given_back() {
    let flights = Flights::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    flights.on_again(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let mut a = claimed(flights.claim(b"a", Hint::Closed));
    let b = claimed(flights.claim(b"b", Hint::Closed));
    let c = claimed(flights.claim(b"c", Hint::Closed));
    assert_eq!(flights.notice(b"a", Hint::Closed), Notice::Busy);
    assert_eq!(flights.notice(b"a", Hint::Scanned), Notice::Busy);
    assert!(matches!(flights.claim(b"b", Hint::Renamed), Claim::Busy));
    assert!(flights.again().is_empty());
    a.accepted(&file(1));
    drop(b);
    drop(c);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    let again: Vec<(Box<[u8]>, Hint)> =
        vec![(Box::from(&b"a"[..]), Hint::Closed), (Box::from(&b"b"[..]), Hint::Renamed)];
    assert_eq!(flights.again(), again);
    assert_eq!((flights.busy(), flights.known()), (0, 1));
}

#[test]
fn an_accepted_file_is_known_until_its_flight_ends() {
    let flights = Flights::new();
    let mut flight = claimed(flights.claim(b"a", Hint::Closed));
    flight.accepted(&file(1));
    assert_eq!(flights.notice(b"a", Hint::Closed), Notice::Known);
    assert!(flights.unchanged(b"a", &file(1)) && !flights.unchanged(b"a", &file(2)));
    assert!(matches!(flights.claim(b"a", Hint::Closed), Claim::Known));
    assert!(flights.claim_changed(b"a", &file(1)).is_none());
    drop(flight);
    assert_eq!(flights.notice(b"a", Hint::Closed), Notice::Free);
}

#[test]
fn a_flight_of_no_name_neither_hides_nor_frees_a_name() {
    let flights = Flights::new();
    let _held = flights.remember(b"a", &file(1));
    let busy = claimed(flights.claim(b"b", Hint::Closed));
    let (one, two) = (flights.apart(), flights.apart());
    assert_eq!((flights.known(), flights.busy()), (1, 1));
    drop((one, two));
    assert_eq!((flights.known(), flights.busy()), (1, 1));
    assert!(flights.unchanged(b"a", &file(1)));
    drop(busy);
}

#[test]
fn another_file_under_a_known_name_is_a_second_flight() {
    let flights = Flights::new();
    let first = flights.remember(b"a", &file(1));
    let mut second = flights.claim_changed(b"a", &file(2)).unwrap();
    assert_eq!(flights.notice(b"a", Hint::Closed), Notice::Busy);
    assert!(flights.claim_changed(b"a", &file(3)).is_none());
    second.accepted(&file(2));
    assert!(flights.unchanged(b"a", &file(2)));
    drop(first);
    assert!(flights.unchanged(b"a", &file(2)), "the older flight takes only its own part away");
    drop(second);
    assert_eq!((flights.busy(), flights.known()), (0, 0));
}

#[test]
fn a_second_flight_that_is_given_back_leaves_the_first_known() {
    let flights = Flights::new();
    let _first = flights.remember(b"a", &file(1));
    drop(flights.claim_changed(b"a", &file(2)));
    assert!(flights.unchanged(b"a", &file(1)));
}

#[test]
fn the_bell_rings_for_the_last_busy_name_only_when_it_is_wanted() {
    let flights = Flights::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    flights.on_again(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    drop(flights.claim(b"a", Hint::Closed));
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    flights.tell_idle(true);
    let (a, b) = (flights.claim(b"a", Hint::Closed), flights.claim(b"b", Hint::Closed));
    drop(a);
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    drop(b);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[test]
fn a_flight_is_three_words() {
    assert!(size_of::<Flight>() <= 32);
}

/// Workers take and give back two names while a watcher goes on seeing them: what is seen last is
/// always looked at afterwards.
#[test]
fn no_change_is_lost_between_threads() {
    const CHANGES: u64 = 20_000;
    let flights = Flights::new();
    let content = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let read = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let queue = Arc::new(Queue::<(usize, Flight)>::new(8));
    let workers: Vec<_> = (0..2)
        .map(|_| {
            let (queue, content, read) = (Arc::clone(&queue), Arc::clone(&content), Arc::clone(&read));
            thread::spawn(move || {
                while let Some(taken) = queue.take_wait(&never, LONG) {
                    let (name, mut flight) = taken.item;
                    let seen = content[name].load(Ordering::SeqCst);
                    read[name].fetch_max(seen, Ordering::SeqCst);
                    if seen.is_multiple_of(2) {
                        flight.accepted(&file(seen));
                    }
                }
            })
        })
        .collect();
    let offer = |name: usize, hint: Hint| {
        let current = file(content[name].load(Ordering::SeqCst));
        let flight = match flights.claim(&[name as u8], hint) {
            Claim::Taken(flight) => Some(flight),
            Claim::Known => flights.claim_changed(&[name as u8], &current),
            Claim::Busy => None,
        };
        if let Some(flight) = flight {
            let mut item = (name, flight);
            while let Err(back) = queue.push(Lane::Fresh, item) {
                item = back;
                thread::yield_now();
            }
        }
    };
    for change in 1..=CHANGES {
        for name in 0..2 {
            content[name].store(change, Ordering::SeqCst);
            offer(name, Hint::Closed);
        }
        for (name, hint) in flights.again() {
            offer(usize::from(name[0]), hint);
        }
    }
    loop {
        // In this order: a name that lands after the first line leaves its hint for the second.
        let landed = flights.busy() == 0;
        let again = flights.again();
        if landed && again.is_empty() {
            break;
        }
        for (name, hint) in again {
            offer(usize::from(name[0]), hint);
        }
        thread::yield_now();
    }
    queue.close();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    for name in 0..2 {
        assert_eq!(read[name].load(Ordering::SeqCst), CHANGES);
    }
}

/// What `Flights` promises, in the plainest form.
#[derive(Default)]
struct Model {
    busy: BTreeMap<u8, Option<Hint>>,
    known: BTreeMap<u8, u64>,
    again: Vec<(u8, Hint)>,
}

#[derive(Debug, Clone)]
enum Act {
    Notice(u8, Hint),
    Claim(u8, Hint),
    ClaimChanged(u8, u64),
    Remember(u8, u64),
    Accept(usize, u64),
    Drop(usize),
    Drain,
}

fn any_act() -> impl Strategy<Value = Act> {
    let hint =
        || prop_oneof![Just(Hint::Touched), Just(Hint::Closed), Just(Hint::Renamed), Just(Hint::Scanned)];
    prop_oneof![
        (0u8..3, hint()).prop_map(|(name, hint)| Act::Notice(name, hint)),
        (0u8..3, hint()).prop_map(|(name, hint)| Act::Claim(name, hint)),
        (0u8..3, 0u64..4).prop_map(|(name, ino)| Act::ClaimChanged(name, ino)),
        (0u8..3, 0u64..4).prop_map(|(name, ino)| Act::Remember(name, ino)),
        (0usize..8, 0u64..4).prop_map(|(which, ino)| Act::Accept(which, ino)),
        (0usize..8).prop_map(Act::Drop),
        Just(Act::Drain),
    ]
}

impl Model {
    fn mark(&mut self, name: u8, hint: Hint) -> bool {
        let Some(mark) = self.busy.get_mut(&name) else { return false };
        *mark = Some(mark.map_or(hint, |old| old.then(hint)));
        true
    }

    fn land(&mut self, name: u8) {
        if let Some(Some(hint)) = self.busy.remove(&name) {
            self.again.push((name, hint));
        }
    }
}

/// A real flight beside what the model knows of it.
struct Held {
    flight: Flight,
    name: u8,
    known_as: Option<u64>,
}

fn play(real: &Flights, model: &mut Model, held: &mut Vec<Held>, act: &Act) {
    match *act {
        Act::Notice(name, hint) => {
            let expected = if model.mark(name, hint) {
                Notice::Busy
            } else if model.known.contains_key(&name) {
                Notice::Known
            } else {
                Notice::Free
            };
            assert_eq!(real.notice(&[name], hint), expected);
        }
        Act::Claim(name, hint) => {
            let (busy, known) = (model.mark(name, hint), model.known.contains_key(&name));
            match real.claim(&[name], hint) {
                Claim::Busy => assert!(busy),
                Claim::Known => assert!(!busy && known),
                Claim::Taken(flight) => {
                    assert!(!busy && !known);
                    model.busy.insert(name, None);
                    held.push(Held { flight, name, known_as: None });
                }
            }
        }
        Act::ClaimChanged(name, ino) => {
            let can = !model.busy.contains_key(&name) && model.known.get(&name) != Some(&ino);
            let claimed = real.claim_changed(&[name], &file(ino));
            assert_eq!(claimed.is_some(), can);
            if let Some(flight) = claimed {
                model.busy.insert(name, None);
                held.push(Held { flight, name, known_as: None });
            }
        }
        Act::Remember(name, ino) => {
            let flight = real.remember(&[name], &file(ino));
            model.known.insert(name, ino);
            held.push(Held { flight, name, known_as: Some(ino) });
        }
        Act::Accept(which, ino) => {
            if let Some(held) = held.get_mut(which) {
                held.flight.accepted(&file(ino));
                model.known.insert(held.name, ino);
                if held.known_as.replace(ino).is_none() {
                    model.land(held.name);
                }
            }
        }
        Act::Drop(which) if which < held.len() => {
            let gone = held.swap_remove(which);
            match gone.known_as {
                None => model.land(gone.name),
                Some(ino) if model.known.get(&gone.name) == Some(&ino) => {
                    model.known.remove(&gone.name);
                }
                Some(_) => {}
            }
        }
        Act::Drop(_) => {}
        Act::Drain => {
            let again: Vec<(u8, Hint)> = real.again().iter().map(|(name, hint)| (name[0], *hint)).collect();
            assert_eq!(again, std::mem::take(&mut model.again));
        }
    }
}

proptest! {
    #[test]
    fn flights_do_what_the_model_does(acts in prop::collection::vec(any_act(), 1..120)) {
        let (real, mut model, mut held) = (Flights::new(), Model::default(), Vec::new());
        for act in &acts {
            play(&real, &mut model, &mut held, act);
            prop_assert_eq!(real.busy(), model.busy.len());
            prop_assert_eq!(real.known(), model.known.len());
            for name in 0..3 {
                for ino in 0..4 {
                    let known = model.known.get(&name) == Some(&ino);
                    prop_assert_eq!(real.unchanged(&[name], &file(ino)), known);
                }
            }
        }
        // Whatever was seen while busy comes out in the end.
        held.clear();
        prop_assert_eq!((real.busy(), real.known()), (0, 0));
        prop_assert!(model.again.len() <= real.again().len());
    }

    /// Any sequence of pushes and takes: the orders have no gaps, each lane is first in, first out.
    #[test]
    fn the_queue_is_three_lines(acts in prop::collection::vec(prop::option::of(0usize..3), 1..200)) {
        let queue = Queue::new(5);
        let mut lines: [std::collections::VecDeque<usize>; 3] = Default::default();
        let mut order = 0;
        for (number, act) in acts.into_iter().enumerate() {
            match act {
                Some(lane) => {
                    let fits = lines[lane].len() < 5;
                    prop_assert_eq!(queue.push(Lane::ALL[lane], number).is_ok(), fits);
                    if fits {
                        lines[lane].push_back(number);
                    }
                }
                None => match queue.take() {
                    Some(taken) => {
                        prop_assert_eq!(taken.order, order);
                        order += 1;
                        prop_assert_eq!(lines[taken.lane as usize].pop_front(), Some(taken.item));
                    }
                    None => prop_assert!(lines.iter().all(|line| line.is_empty())),
                },
            }
        }
    }
}
