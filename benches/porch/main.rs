//! What the Porch sink makes of a server as slow as the measured one: the real daemon, from the rename into the
//! folder to the final status file, against the fake server over TLS with `Costs::MEASURED`.
//!
//! 1. A crowd: intents for 1,000 targets, round after round, as one Component of the site, against one package
//!    for each target. At least 1,000 intents/s with the default approval, `propose`; `publish` is told.
//! 2. Idle: single intents; none is held longer than `group_window` between its acceptance and the first write.
//!    The status file tells the acceptance to the millisecond; 50 ms are granted to timers and the machine.
//! 3. One target: 2,000 intents one after another, each published before the next is dropped, and a pause of
//!    0.9 s in which old revisions are removed. The first 20 and the last 20 at the full costs, those between at
//!    a twentieth, pause included, since they only make the history; the median of the last is at most twice
//!    that of the first. 20 more come without a pause, to tell what that costs.
//!
//! Ends with 1 if a bound is broken. All of it takes forty minutes, most of them the long life, whose pace
//! is the daemon's limit of ten requests a second; `--quick` makes it four; `crowd`, `idle` or `life` choose a part.
//! `CONDUCTOR_BENCH_DIR` names a directory on a journaled file system; the default is Cargo's own temporary
//! directory for benches.
#![allow(clippy::disallowed_methods)] // a bench is told by its environment where to work
#![allow(clippy::print_stdout)]

#[path = "../once/machine.rs"]
#[expect(dead_code, reason = "shared with the bench `once`, which needs all of it")]
mod machine;
mod place;

use std::env;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use conductor_loop::fake_porch::Costs;
use place::Place;

const PARTS: [&str; 3] = ["crowd", "idle", "life"];
const TARGETS: usize = 1_000;
/// `sink.porch.group_window`, its default.
const WINDOW: f64 = 0.2;
/// For timers and a busy machine.
const GRANTED: f64 = 0.05;
/// Intents/s of the Component.
const RATE: f64 = 1_000.0;
/// The last intent of a long life costs at most so many times the first.
const GROWTH: f64 = 2.0;
/// Intents at each end of that life that are measured.
const ENDS: usize = 20;
/// Between two of them, for the daemon to tidy up; at the full costs.
const REST: Duration = Duration::from_millis(900);
/// Costs of those between.
const BETWEEN: Costs = Costs { factor: 0.05, roll_backs: true };

/// How much is done.
struct Size {
    rounds: usize,
    singles: usize,
    alone: usize,
    life: usize,
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    // Built and started by `cargo test`: there is nothing to measure.
    if !words.iter().any(|word| word == "--bench") {
        return ExitCode::SUCCESS;
    }
    let size = match words.iter().any(|word| word == "--quick") {
        true => Size { rounds: 5, singles: 4, alone: 5, life: 60 },
        false => Size { rounds: 10, singles: 12, alone: 20, life: 2_000 },
    };
    let named = |part: &str| words.iter().any(|word| word == part);
    let chosen = |part: &str| named(part) || !PARTS.into_iter().any(named);
    match bench(&size, chosen) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(err) => {
            println!("porch: {err}");
            ExitCode::FAILURE
        }
    }
}

fn bench(size: &Size, chosen: impl Fn(&str) -> bool) -> io::Result<bool> {
    let base = env::var_os("CONDUCTOR_BENCH_DIR").unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into());
    let dir = tempfile::Builder::new().prefix("porch-").tempdir_in(base)?;
    println!("machine   {}", machine::describe(dir.path()));
    println!("pressure  {}", machine::pressure());
    println!("server    the fake, over TLS, as slow as measured (factor 1)\n");
    let mut kept = true;
    for approval in ["propose", "publish"].into_iter().filter(|_| chosen("crowd")) {
        singles(&dir.path().join(format!("singles-{approval}")), approval, size.singles)?;
        let rate = crowd(&dir.path().join(format!("crowd-{approval}")), approval, size.rounds)?;
        // With "publish" a round has a write more, and each is dearer than the one before until the daemon may tidy.
        kept &= approval == "publish" || rate >= RATE;
    }
    if chosen("idle") {
        kept &= idle(&dir.path().join("idle"), size.alone)?;
    }
    if chosen("life") {
        kept &= life(&dir.path().join("life"), size.life)?;
    }
    println!("\n{}", if kept { "all bounds are kept" } else { "A BOUND IS BROKEN" });
    dir.close()?;
    Ok(kept)
}

fn row(what: &str, figure: f64, unit: &str, more: &str) {
    println!("{what:<52} {figure:>9.2} {unit:<10} {more}");
}

/// One package for each target, one revision for each intent.
fn singles(root: &Path, approval: &str, intents: usize) -> io::Result<()> {
    let mut place = Place::start(root, &format!("approval = \"{approval}\""))?;
    let all: Vec<_> = (0..intents).map(|number| (format!("intent-{number:05}.json"), number, 3)).collect();
    let started = place.drop_all(&all)?;
    let took = place.until_delivered(intents)?.duration_since(started).as_secs_f64();
    row(
        &format!("one by one, approval = {approval}"),
        intents as f64 / took,
        "intents/s",
        &format!("{intents} intents for as many targets in {took:.2} s"),
    );
    place.end()
}

/// Every round an intent for each target, all of them dropped at once; intents/s over all rounds.
fn crowd(root: &Path, approval: &str, rounds: usize) -> io::Result<f64> {
    let settings = format!("package = \"site\"\ncontent = \"component\"\napproval = \"{approval}\"");
    let mut place = Place::start(root, &settings)?;
    let intents = rounds * TARGETS;
    let all: Vec<_> = (0..intents)
        .map(|number| (format!("intent-{number:05}.json"), number % TARGETS, 1 + number / TARGETS))
        .collect();
    let started = place.drop_all(&all)?;
    let first = place.until_delivered(TARGETS)?.duration_since(started).as_secs_f64();
    let took = place.until_delivered(intents)?.duration_since(started).as_secs_f64();
    let is_files = |path: &str| path.contains("/packagerevisionresources/");
    let log = place.fake.log();
    let made = log.iter().filter(|logged| logged.method != "GET" && is_files(&logged.path)).count();
    let rate = intents as f64 / took;
    row(
        &format!("one Component of {TARGETS} targets, approval = {approval}"),
        rate,
        "intents/s",
        &format!(
            "{rounds} rounds in {took:.2} s, the first after {first:.2} s with its window; {made} \
             revisions written"
        ),
    );
    place.end()?;
    Ok(rate)
}

/// Single intents with nothing else to do; true if none was held longer than the window.
fn idle(root: &Path, intents: usize) -> io::Result<bool> {
    let mut place =
        Place::start(root, "package = \"site\"\ncontent = \"component\"\ngroup_window = \"200ms\"")?;
    let mut held = Vec::with_capacity(intents);
    for number in 0..intents {
        let name = format!("intent-{number:05}.json");
        let before = place.writes().len();
        place.drop_in(&name, number % TARGETS, 3)?;
        place.until_delivered(number + 1)?;
        let writes = place.writes();
        let first = writes.get(before).ok_or_else(|| io::Error::other("delivered without a write"))?;
        held.push(first - place.accepted(&name)?);
        // The next one finds nothing going on.
        thread::sleep(Duration::from_millis(700));
    }
    let middle = median(&mut held);
    let worst = held.last().copied().unwrap_or(f64::NAN);
    row("held when idle, from acceptance to first write", middle * 1e3, "ms", "median");
    row(
        "the same, worst",
        worst * 1e3,
        "ms",
        &format!("at most {:.0} and {:.0} for timers; {intents} intents", WINDOW * 1e3, GRANTED * 1e3),
    );
    place.end()?;
    Ok(worst <= WINDOW + GRANTED)
}

/// One target for a long time; true if its intents did not become dear.
fn life(root: &Path, intents: usize) -> io::Result<bool> {
    let mut place = Place::start(root, "approval = \"publish\"\nkeep_revisions = 10")?;
    let mut took = Vec::with_capacity(intents + ENDS);
    for number in 0..intents + ENDS {
        let at_an_end = number < ENDS || number >= intents - ENDS;
        place.fake.set_costs(if at_an_end { Costs::MEASURED } else { BETWEEN });
        let started = Instant::now();
        place.drop_in(&format!("intent-{number:05}.json"), 0, 1 + number % 50)?;
        took.push(place.until_delivered(number + 1)?.duration_since(started).as_secs_f64());
        if number < intents {
            thread::sleep(if at_an_end { REST } else { REST.mul_f64(BETWEEN.factor) });
        }
    }
    let very_first = took[0];
    let hurried = median(&mut took.split_off(intents));
    let last = median(&mut took.split_off(intents - ENDS));
    took.truncate(ENDS);
    let first = median(&mut took);
    let package = place.fake.audit().revisions.first().map(|seen| seen.package.clone());
    let left = place.fake.published(&package.unwrap_or_default()).len();
    row("one target, the very first intent", very_first, "s", "");
    row(&format!("one target, the first {ENDS}"), first, "s", "median");
    row(
        &format!("one target, the last {ENDS} of {intents}"),
        last,
        "s",
        &format!("median; {left} revisions left"),
    );
    row(
        "the last to the first",
        last / first,
        "times",
        &format!("at most {GROWTH:.0}; {:.2} times the very first", last / very_first),
    );
    row(&format!("{ENDS} more without a pause between"), hurried, "s", "median; they wait for the tidying");
    place.end()?;
    Ok(last <= GROWTH * first)
}

/// The median; sorts. Not a number if there is none.
fn median(all: &mut [f64]) -> f64 {
    all.sort_by(f64::total_cmp);
    let middle = all.len() / 2;
    match all.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => all[middle],
        _ => f64::midpoint(all[middle - 1], all[middle]),
    }
}
