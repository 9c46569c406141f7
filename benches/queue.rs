//! What the way from a sighting to a worker costs: the queue by threads and capacity, the flights,
//! the debouncer. No files are touched.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use conductor_loop::clock::Mono;
use conductor_loop::debounce::{Debouncer, Hint};
use conductor_loop::disk::Identity;
use conductor_loop::queue::{Claim, Flights, Lane, Queue};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// One producer hands `items` to `takers` waiting threads; until the last one is taken.
fn pass_through(items: u64, takers: usize, capacity: usize) -> Duration {
    let queue = Arc::new(Queue::new(capacity));
    let left = Arc::new(AtomicU64::new(items));
    let threads: Vec<_> = (0..takers)
        .map(|_| {
            let (queue, left) = (Arc::clone(&queue), Arc::clone(&left));
            thread::spawn(move || {
                while let Some(taken) = queue.take_wait(&|| false, Duration::from_secs(60)) {
                    black_box(taken.item);
                    if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                        queue.close();
                    }
                }
            })
        })
        .collect();
    let start = Instant::now();
    for item in 0..items {
        let mut item = item;
        while let Err(back) = queue.push(Lane::Fresh, item) {
            item = back;
            thread::yield_now();
        }
    }
    for taker in threads {
        taker.join().expect("a taker does not panic");
    }
    start.elapsed()
}

fn queue(c: &mut Criterion) {
    let mut group = c.benchmark_group("queue");
    group.throughput(Throughput::Elements(1));
    let single = Queue::new(16_384);
    group.bench_function("push and take, one thread", |b| {
        b.iter(|| {
            let _ = black_box(single.push(Lane::Fresh, 1u64));
            black_box(single.take())
        });
    });
    for takers in [1, 2, 4] {
        for capacity in [256, 16_384] {
            let id = BenchmarkId::new(format!("{takers} takers"), capacity);
            group.bench_function(id, |b| b.iter_custom(|items| pass_through(items, takers, capacity)));
        }
    }
    group.finish();
}

fn flights(c: &mut Criterion) {
    let flights = Flights::new();
    let held: Vec<_> = (0..100_000u64)
        .map(|number| flights.remember(format!("intent-{number}.json").as_bytes(), &Identity::default()))
        .collect();
    c.bench_function("a name's whole flight beside 100,000 pending", |b| {
        b.iter(|| {
            let name = black_box(b"intent-in-hand.json");
            flights.notice(name, Hint::Renamed);
            if let Claim::Taken(mut flight) = flights.claim(name, Hint::Renamed) {
                flight.accepted(&Identity::default());
            }
        });
    });
    drop(held);
}

fn debouncer(c: &mut Criterion) {
    let name = b"intent-in-hand.json";
    c.bench_function("debounce: a rename in, due at once", |b| {
        let mut table = Debouncer::new(Duration::from_millis(100));
        b.iter(|| {
            let _ = black_box(table.event(Box::new(*name), Hint::Renamed, Mono(1)));
            black_box(table.due(Mono(1)))
        });
    });
    c.bench_function("debounce: a touch among 10,000 waiting names", |b| {
        let mut table = Debouncer::new(Duration::from_millis(100));
        for number in 0..10_000 {
            let _ =
                table.event(format!("intent-{number}.json").as_bytes().into(), Hint::Touched, Mono(number));
        }
        let mut now = 10_000;
        b.iter(|| {
            now += 1;
            black_box(table.event(Box::new(*b"intent-77.json"), Hint::Touched, Mono(now)))
        });
    });
}

criterion_group!(benches, queue, flights, debouncer);
criterion_main!(benches);
