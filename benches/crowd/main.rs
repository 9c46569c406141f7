//! What a crowd of bad HTTP clients costs the pipeline (M01).
//!
//! Pairs of runs of the real binary on a fresh backlog each: `once` with its pages open and nobody there
//! but a probe, and the same while 1,000 half-open connections and 100 slow clients press on the pages,
//! each back five seconds after it was closed. Every other pair goes the other way round, the first is not
//! counted. The probe asks `/livez` 20 times a second, each time on a new connection. The crowd has the
//! lowest priority, since its work is that of other machines.
//!
//! Three bounds: the median of the ratios of the rates is at least 0.95, no answer takes a second, and
//! every probe is answered. Ends with 1 if one is broken.
//!
//! `CONDUCTOR_BENCH_DIR` names a directory on a journaled file system; the default is Cargo's own
//! temporary directory for benches. `--quick` makes it a matter of seconds, `--rounds N` sets the number.
#![allow(clippy::disallowed_methods)] // a bench is told by its environment where to work
#![allow(clippy::print_stdout)]

mod clients;
#[path = "../once/machine.rs"]
mod machine;
#[path = "../once/place.rs"]
#[expect(dead_code, reason = "shared with the bench `once`, which needs all of it")]
mod place;
mod probe;

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use clients::{CROWD, Crowd};
use machine::{Took, measure};
use place::Place;
use probe::{Answers, Probe};

/// Files of one target.
const DEPTH: u64 = 50;
/// Lowest rate with the crowd, as a share of that without.
const RATE: f64 = 0.95;
/// Nobody waits longer for an answer.
const PROMISED: Duration = Duration::from_secs(1);
/// No further pair is begun after this time.
const LONGEST: Duration = Duration::from_secs(900);

/// How much is done.
struct Size {
    files: u64,
    rounds: usize,
}

/// One run.
struct Run {
    took: Took,
    answers: Answers,
    /// Connections that the crowd made.
    connected: u64,
}

struct Pair {
    alone: Run,
    pressed: Run,
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    // Built and started by `cargo test`: there is nothing to measure.
    if !words.iter().any(|word| word == "--bench") {
        return ExitCode::SUCCESS;
    }
    match bench(&words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(err) => {
            println!("crowd: {err}");
            ExitCode::FAILURE
        }
    }
}

fn size(words: &[String]) -> io::Result<Size> {
    let mut size = match words.iter().any(|word| word == "--quick") {
        true => Size { files: 5_000, rounds: 2 },
        false => Size { files: 60_000, rounds: 9 },
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
    let dir = tempfile::Builder::new().prefix("crowd-").tempdir_in(base)?;
    println!("machine   {}", machine::describe(dir.path()));
    println!("pressure  {}", machine::pressure());
    println!("flush     {:.0} us median, 4 KiB and fdatasync", machine::flush_time(dir.path())? * 1e6);
    println!("backlog   {} files over {} targets", size.files, size.files.div_ceil(DEPTH));
    println!("crowd     {CROWD:?}");
    let (started, mut pairs) = (Instant::now(), Vec::with_capacity(size.rounds));
    for number in 0..=size.rounds {
        if started.elapsed() > LONGEST {
            println!("no more pairs after {} s", LONGEST.as_secs());
            break;
        }
        let root = dir.path().join(format!("{number}"));
        let pair = pair(&root, size.files, number % 2 == 1)?;
        fs::remove_dir_all(root)?;
        let name = if number == 0 { "warm-up".to_owned() } else { format!("pair {number}") };
        println!("{name:<9} {}", pair.line(size.files));
        if number > 0 {
            pairs.push(pair);
        }
    }
    let kept = verdict(&pairs, size.files);
    println!("pressure  {}", machine::pressure());
    dir.close()?;
    Ok(kept)
}

fn pair(root: &Path, files: u64, reversed: bool) -> io::Result<Pair> {
    let (one, other) = (root.join("one"), root.join("other"));
    let first = run(&one, files, reversed)?;
    let second = run(&other, files, !reversed)?;
    Ok(match reversed {
        false => Pair { alone: first, pressed: second },
        true => Pair { alone: second, pressed: first },
    })
}

/// Runs the real binary with its defaults; an error unless every file was delivered.
fn run(root: &Path, files: u64, pressed: bool) -> io::Result<Run> {
    let place = Place::fill(root, files, files.div_ceil(DEPTH), false)?;
    let mut command = Command::new(PathBuf::from(env!("CARGO_BIN_EXE_conductor-loop")));
    command.args(["once", "--json", "--listen", "127.0.0.1:0", "--handoff"]).arg(place.handoff());
    command.arg("--out").arg(place.out());
    for (variable, _) in env::vars_os() {
        if variable.to_string_lossy().starts_with("CONDUCTOR_LOOP_") {
            command.env_remove(variable);
        }
    }
    command.env("LOG_LEVEL", "warn").env_remove("STATE_DIRECTORY");
    let address = place.handoff().join(".conductor").join("http.addr");
    let guests = thread::spawn(move || {
        let address = probe::wait_for_address(&address)?;
        let crowd = pressed.then(|| Crowd::gather(address, CROWD)).transpose()?;
        let answers = Probe::at(address).until_nobody_answers();
        Ok::<_, io::Error>((answers, crowd.map_or(0, |crowd| crowd.connected())))
    });
    let took = measure(&mut command)?;
    let ended = Instant::now();
    let (mut answers, connected) = guests.join().map_err(|_| io::Error::other("the probe panicked"))??;
    // A probe that gave up long before the daemon ended was not answered.
    answers.missing += u64::from(answers.last.is_none_or(|last| ended.duration_since(last) > PROMISED));
    let summary: serde_json::Value = serde_json::from_str(&took.said)?;
    let whole = summary["delivered"] == files && summary["unaccounted"] == 0 && summary["pending"] == 0;
    match whole {
        true => Ok(Run { took, answers, connected }),
        false => Err(io::Error::other(format!("{files} files were to be delivered: {summary}"))),
    }
}

impl Pair {
    /// Rate with the crowd as a share of the rate without.
    fn ratio(&self) -> f64 {
        self.alone.took.wall / self.pressed.took.wall
    }

    fn line(&self, files: u64) -> String {
        let part = |run: &Run| {
            let rate = files as f64 / run.took.wall;
            let worst = run.answers.worst.as_secs_f64() * 1e3;
            format!(
                "{rate:.0}/s, {:.2} s CPU, livez at worst {worst:.0} ms of {}",
                run.took.cpu, run.answers.given
            )
        };
        format!(
            "alone {} | pressed {}, {} connections | ratio {:.3}",
            part(&self.alone),
            part(&self.pressed),
            self.pressed.connected,
            self.ratio()
        )
    }
}

/// Prints the medians; true if the bounds are kept.
fn verdict(pairs: &[Pair], files: u64) -> bool {
    let show = |what: &str, bound: &str, figure: &dyn Fn(&Pair) -> f64| {
        let mut all: Vec<f64> = pairs.iter().map(figure).collect();
        let middle = median(&mut all);
        let (least, most) =
            (all.first().copied().unwrap_or(f64::NAN), all.last().copied().unwrap_or(f64::NAN));
        println!("{what:<32} {middle:>8.3}  ({least:.3} to {most:.3}){bound}");
        (middle, most)
    };
    println!("medians of {} pairs", pairs.len());
    show("files/s alone", "", &|pair| files as f64 / pair.alone.took.wall);
    show("files/s with the crowd", "", &|pair| files as f64 / pair.pressed.took.wall);
    show("s of CPU alone", "", &|pair| pair.alone.took.cpu);
    show("s of CPU with the crowd", "", &|pair| pair.pressed.took.cpu);
    show("peak memory in MiB, with", "", &|pair| pair.pressed.took.peak);
    show("connections a second, with", "", &|pair| pair.pressed.connected as f64 / pair.pressed.took.wall);
    let worst = |pair: &Pair| pair.pressed.answers.worst.as_secs_f64();
    let (_, worst) = show("worst livez in s, with", "  none may take 1 s", &worst);
    let (ratio, _) = show("rate with the crowd to alone", "  must be 0.95 at least", &Pair::ratio);
    let missing: u64 =
        pairs.iter().map(|pair| pair.alone.answers.missing + pair.pressed.answers.missing).sum();
    println!("probes without an answer         {missing:>8}");
    let kept = ratio >= RATE && worst < PROMISED.as_secs_f64() && missing == 0;
    println!("{}", if kept { "all bounds are kept" } else { "A BOUND IS BROKEN" });
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
