//! `once` on a backlog, beside the floor loop of `design.md` 7 on the same file system.
//!
//! Rounds of three runs, each a process of its own in fresh directories: the floor loop and the daemon on
//! the large backlog, and the daemon on a tenth of it with as many files a target. Odd rounds go the
//! other way round. The first round warms up and is not counted; nothing is deleted before the last one.
//! Checkpoints are included, ledger and folders share a device, and the time to start and stop counts.
//!
//! Two bounds, on medians of ratios: the daemon drains at no less than half the floor's rate, and a file
//! of the large backlog costs no more than 1.15 times the CPU of one of the small. Ends with 1 if one is broken.
//!
//! `CONDUCTOR_BENCH_DIR` names a directory on a journaled file system; the default is Cargo's own
//! temporary directory for benches. `--quick` makes it a matter of seconds, `--rounds N` sets the number.
#![allow(clippy::disallowed_methods)] // a bench is told by its environment where to work
#![allow(clippy::print_stdout)]

mod floor;
mod machine;
mod place;

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use machine::{Took, measure};
use place::Place;

/// Files of one target.
const DEPTH: u64 = 50;
/// Lowest rate of the daemon, as a share of the floor's.
const RATE: f64 = 0.5;
/// Highest CPU of a file in the large backlog, in those of the small one.
const GROWTH: f64 = 1.15;
/// No further round is begun after this time.
const LONGEST: Duration = Duration::from_secs(900);

/// How much is done.
struct Size {
    files: u64,
    small: u64,
    rounds: usize,
}

/// One round.
struct Round {
    floor: Took,
    large: Took,
    small: Took,
}

/// Which run of a round.
#[derive(Clone, Copy)]
enum Turn {
    Floor,
    Large,
    Small,
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let result = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["floor", root, files] => floor_loop(Path::new(root), files),
        _ if words.iter().any(|word| word == "--bench") => bench(&words),
        // Built and started by `cargo test`: there is nothing to measure.
        _ => Ok(true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(err) => {
            println!("once: {err}");
            ExitCode::FAILURE
        }
    }
}

fn floor_loop(root: &Path, files: &str) -> io::Result<bool> {
    let files: u64 = files.parse().map_err(io::Error::other)?;
    println!("{}", floor::run(&Place::at(root), files, targets(files))?);
    Ok(true)
}

fn targets(files: u64) -> u64 {
    files.div_ceil(DEPTH)
}

fn size(words: &[String]) -> io::Result<Size> {
    let mut size = match words.iter().any(|word| word == "--quick") {
        true => Size { files: 10_000, small: 1_000, rounds: 2 },
        false => Size { files: 50_000, small: 5_000, rounds: 7 },
    };
    if let Some(at) = words.iter().position(|word| word == "--rounds") {
        let number = words.get(at + 1).ok_or_else(|| io::Error::other("--rounds needs a number"))?;
        size.rounds = number.parse().map_err(io::Error::other)?;
    }
    Ok(size)
}

fn bench(words: &[String]) -> io::Result<bool> {
    let size = size(words)?;
    let base = env::var_os("CONDUCTOR_BENCH_DIR").unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into());
    let dir = tempfile::Builder::new().prefix("once-").tempdir_in(base)?;
    println!("machine   {}", machine::describe(dir.path()));
    println!("pressure  {}", machine::pressure());
    println!("flush     {:.0} us median, 4 KiB and fdatasync", machine::flush_time(dir.path())? * 1e6);
    println!(
        "backlog   {} files over {} targets; small: {} over {}",
        size.files,
        targets(size.files),
        size.small,
        targets(size.small)
    );
    let (started, mut rounds) = (Instant::now(), Vec::with_capacity(size.rounds));
    for number in 0..=size.rounds {
        if started.elapsed() > LONGEST {
            println!("no more rounds after {} s", LONGEST.as_secs());
            break;
        }
        let round = round(&dir.path().join(format!("{number}")), &size, number % 2 == 1)?;
        match number {
            0 => print!("{}warm-up ", round.floor.said),
            _ => print!("round {number} "),
        }
        println!("{}", round.line(&size));
        if number > 0 {
            rounds.push(round);
        }
    }
    let kept = verdict(&mut rounds, &size);
    println!("flush     {:.0} us median", machine::flush_time(dir.path())? * 1e6);
    println!("pressure  {}", machine::pressure());
    dir.close()?;
    Ok(kept)
}

fn round(root: &Path, size: &Size, reversed: bool) -> io::Result<Round> {
    let mut order = [Turn::Floor, Turn::Large, Turn::Small];
    if reversed {
        order.reverse();
    }
    let (mut floor, mut large, mut small) = (None, None, None);
    for turn in order {
        match turn {
            Turn::Floor => floor = Some(run_floor(&root.join("floor"), size.files)?),
            Turn::Large => large = Some(run_once(&root.join("large"), size.files)?),
            Turn::Small => small = Some(run_once(&root.join("small"), size.small)?),
        }
    }
    let all = floor.zip(large).zip(small);
    all.map(|((floor, large), small)| Round { floor, large, small })
        .ok_or_else(|| io::Error::other("a run of the round is missing"))
}

fn run_floor(root: &Path, files: u64) -> io::Result<Took> {
    let place = Place::fill(root, files, targets(files), true)?;
    measure(Command::new(env::current_exe()?).arg("floor").arg(place.root()).arg(files.to_string()))
}

/// Runs the real binary with its defaults; an error unless every file was delivered.
fn run_once(root: &Path, files: u64) -> io::Result<Took> {
    let place = Place::fill(root, files, targets(files), false)?;
    let program = PathBuf::from(env!("CARGO_BIN_EXE_conductor-loop"));
    let mut command = Command::new(program);
    command.args(["once", "--json", "--handoff"]).arg(place.handoff()).arg("--out").arg(place.out());
    for (variable, _) in env::vars_os() {
        if variable.to_string_lossy().starts_with("CONDUCTOR_LOOP_") {
            command.env_remove(variable);
        }
    }
    let took = measure(command.env("LOG_LEVEL", "warn").env_remove("STATE_DIRECTORY"))?;
    let summary: serde_json::Value = serde_json::from_str(&took.said)?;
    let whole = summary["delivered"] == files && summary["unaccounted"] == 0 && summary["pending"] == 0;
    match whole {
        true => Ok(took),
        false => Err(io::Error::other(format!("{files} files were to be delivered: {summary}"))),
    }
}

impl Round {
    fn rate_ratio(&self) -> f64 {
        self.floor.wall / self.large.wall
    }

    fn cpu_ratio(&self) -> f64 {
        self.large.cpu / self.floor.cpu
    }

    fn growth(&self, size: &Size) -> f64 {
        (self.large.cpu / size.files as f64) / (self.small.cpu / size.small as f64)
    }

    fn line(&self, size: &Size) -> String {
        let part = |took: &Took, files: u64| {
            let files = files as f64;
            format!("{:.2} s, {:.0}/s, {:.1} us CPU", took.wall, files / took.wall, took.cpu / files * 1e6)
        };
        format!(
            "floor {} | once {}, {:.0} MiB | small {} | rate {:.2}, CPU {:.2}, growth {:.2}",
            part(&self.floor, size.files),
            part(&self.large, size.files),
            self.large.peak,
            part(&self.small, size.small),
            self.rate_ratio(),
            self.cpu_ratio(),
            self.growth(size),
        )
    }
}

/// Prints the medians; true if the bounds are kept.
fn verdict(rounds: &mut [Round], size: &Size) -> bool {
    let show = |what: &str, bound: &str, figure: &dyn Fn(&Round) -> f64| {
        let mut all: Vec<f64> = rounds.iter().map(figure).collect();
        let middle = median(&mut all);
        let (least, most) =
            (all.first().copied().unwrap_or(f64::NAN), all.last().copied().unwrap_or(f64::NAN));
        println!("{what:<28} {middle:>8.2}  ({least:.2} to {most:.2}){bound}");
        middle
    };
    let (files, small) = (size.files as f64, size.small as f64);
    println!("medians of {} rounds", rounds.len());
    show("floor, files/s", "", &|round| files / round.floor.wall);
    show("once, files/s", "", &|round| files / round.large.wall);
    show("floor, us of CPU a file", "", &|round| round.floor.cpu / files * 1e6);
    show("once, us of CPU a file", "", &|round| round.large.cpu / files * 1e6);
    show("small, us of CPU a file", "", &|round| round.small.cpu / small * 1e6);
    show("once, peak memory in MiB", "", &|round| round.large.peak);
    show("CPU against the floor", "  aim 1.50 at most", &Round::cpu_ratio);
    let rate = show("rate against the floor", "  must be 0.50 at least", &Round::rate_ratio);
    let growth = show("CPU a file, large to small", "  must be 1.15 at most", &|round| round.growth(size));
    let kept = rate >= RATE && growth <= GROWTH;
    println!("{}", if kept { "both bounds are kept" } else { "A BOUND IS BROKEN" });
    kept
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
