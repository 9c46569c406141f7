//! What a row costs, how soon a million rows are ready, and how large the index is.
//!
//! `LEDGER_BENCH_DIR` names the directory for the databases (a journaled file system for figures that
//! mean something); the default is the system's temporary directory.
#![allow(clippy::unwrap_used, clippy::print_stdout)]
#![allow(clippy::disallowed_methods)] // a bench is told by its environment where to work

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use conductor_loop::clock::{Clock as _, Mono, SystemClock};
use conductor_loop::config;
use conductor_loop::disk::Identity;
use conductor_loop::fate::{Fate, Lifecycle, Proof, Receipt, Sha, SinkKind, Source};
use conductor_loop::intent::{Target, TargetKind};
use conductor_loop::ledger::{EndRecord, Entry, Judged, Settings, Store};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rustix::time::{ClockId, clock_gettime};

const BATCH: u64 = 256;

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

fn place() -> tempfile::TempDir {
    let dir = std::env::var_os("LEDGER_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::tempdir_in(dir).unwrap()
}

fn open(dir: &std::path::Path) -> Store {
    let settings = Settings::new(dir.join("state"), &config::Ledger::default());
    Store::open(settings, Arc::new(SystemClock)).unwrap()
}

/// A flat intent of about 300 bytes under a name of its own, or one of `names` names.
fn entry(n: u64, names: u64, now: Mono) -> Entry {
    let payload =
        format!("{{\"intent_type\": \"scaling\", \"target\": \"web-{n}\", \"pad\": \"{:>240}\"}}", n);
    Entry {
        name: format!("intent-{:08}.json", n % names).into_bytes().into(),
        source: Source::Event,
        identity: Identity {
            dev: 64_769,
            ino: n,
            size: payload.len() as u64,
            mtime_ns: 1,
            ctime_ns: n as i64,
        },
        proof: Some(Proof::Lease),
        sha: Some(Sha::of(payload.as_bytes())),
        target: Some(Target {
            namespace: "oran-odu".into(),
            kind: TargetKind::Deployment,
            name: format!("odu-high-phy-{}", n % 1_000).into(),
        }),
        priority: 5,
        valid_until: None,
        verdict: None,
        payload: Some(payload.into_bytes().into()),
        sighted: now,
        worker: 1,
        repeat: None,
    }
}

fn delivered() -> EndRecord {
    EndRecord {
        message: "delivered to folder:oran-odu/deployment-odu-high-phy revision 3".into(),
        sink: Some(SinkKind::Folder),
        remote: Some(Receipt {
            name: "oran-odu/deployment-odu-high-phy".into(),
            revision: "3".into(),
            lifecycle: Lifecycle::Published,
            adopted: false,
        }),
        attempts: 1,
        ..EndRecord::of(Fate::Delivered)
    }
}

/// Accepts a batch of files and ends those of the batch before, as the writer does.
fn turn(store: &mut Store, entries: &[Entry], before: &mut Vec<u64>, record: &EndRecord) {
    let mut batch = store.begin().unwrap();
    for seq in before.drain(..) {
        batch.end(seq, record).unwrap();
    }
    for entry in entries {
        if let Judged::Open(row) = batch.accept(entry).unwrap() {
            before.push(row.seq);
        }
    }
    batch.commit().unwrap();
}

fn rows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ledger");
    group.throughput(Throughput::Elements(BATCH)).sample_size(20);
    for (label, names) in [("unique names", u64::MAX), ("1,000 names", 1_000)] {
        let dir = place();
        let mut store = open(dir.path());
        let (record, mut before, mut next) = (delivered(), Vec::new(), 0);
        let (mut turns, mut spent) = (0, Duration::ZERO);
        group.bench_function(format!("accept, payload and end, 256 a commit, {label}"), |bench| {
            bench.iter_custom(|times| {
                let mut wall = Duration::ZERO;
                for _ in 0..times {
                    let entries: Vec<Entry> =
                        (next..next + BATCH).map(|n| entry(n, names, SystemClock.now())).collect();
                    next += BATCH;
                    let (begun, used) = (Instant::now(), cpu());
                    turn(&mut store, &entries, &mut before, &record);
                    wall += begun.elapsed();
                    spent += cpu() - used;
                    turns += 1;
                    if turns % 64 == 0 {
                        store.restart_log().unwrap();
                    }
                }
                wall
            });
        });
        let each = spent.as_secs_f64() * 1e6 / (turns * BATCH) as f64;
        println!("  {label}: {each:.2} us of CPU per row, checkpoints not included");
    }
    group.finish();
}

fn restart(_: &mut Criterion) {
    let dir = place();
    let mut store = open(dir.path());
    let (record, mut before) = (delivered(), Vec::new());
    for first in (0..1_000_000u64).step_by(1_000) {
        let entries: Vec<Entry> =
            (first..first + 1_000).map(|n| entry(n, u64::MAX, SystemClock.now())).collect();
        turn(&mut store, &entries, &mut before, &record);
        let newest = store.newest_end();
        let mut batch = store.begin().unwrap();
        batch.close_through(newest).unwrap();
        batch.commit().unwrap();
        while store.sweep(500).unwrap() {}
        if store.log_size().unwrap().bytes > 32 << 20 {
            store.restart_log().unwrap();
        }
    }
    let size = store.size().unwrap() >> 20;
    drop(store);
    for _ in 0..3 {
        let (begun, used) = (Instant::now(), cpu());
        let store = open(dir.path());
        let (keys, bytes) = store.index_size();
        println!(
            "restart with 1,000,000 rows ({size} MiB): ready in {:.0} ms ({:.0} ms of CPU); {keys} keys, {:.1} bytes each",
            begun.elapsed().as_secs_f64() * 1e3,
            (cpu() - used).as_secs_f64() * 1e3,
            bytes as f64 / keys as f64
        );
    }
}

criterion_group!(benches, rows, restart);
criterion_main!(benches);
