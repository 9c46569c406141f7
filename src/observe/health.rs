//! Whether the process moves (liveness) and whether it does its work (readiness).
//!
//! Liveness: each stage that was started showed a sign of life in the last 10 s, or is idle, or is
//! inside a file-system call, which on a dead NFS server no restart would end. Readiness: every check
//! but the informational ones holds and no stage has been inside a file-system call for more than 5 s.
//! An unreachable sink never makes the daemon unready (`contract.md` 6).

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::labels::labels;
use crate::clock::Mono;

/// A stage without a sign of life for longer is dead.
pub const BEAT_LIMIT: Duration = Duration::from_secs(10);

/// A file-system call that takes longer makes the daemon unready.
pub const STALL_LIMIT: Duration = Duration::from_secs(5);

labels! {
    /// What readiness asks for, in the order of the page.
    Check {
        /// The watch is placed and the first scan has begun.
        Startup = "startup",
        /// The folder is there and watched.
        Watch = "watch",
        /// The ledger takes rows.
        Ledger = "ledger",
        /// There is more free space than the reserve.
        Disk = "disk",
        /// Workers take files.
        Workers = "workers",
        /// Intents are dispatched.
        Submit = "submit",
        /// Files are reported and filed.
        Settle = "settle",
        /// The sink can be reached; told, but no part of readiness.
        Sink = "sink",
        /// The newest reload succeeded; told, but no part of readiness.
        Config = "config",
        /// No stop was asked for.
        Shutdown = "shutdown",
    }

    /// The stages that must move.
    StageId {
        /// Watch, scan and debounce.
        Watch = "watch",
        /// The pool of workers, as a whole.
        Workers = "workers",
        /// The ledger's writer.
        Ledger = "ledger",
        /// Lanes and dispatch.
        Submit = "submit",
        /// Status files and filing.
        Settle = "settle",
    }
}

impl Check {
    /// True for checks that are shown and not counted.
    pub const fn is_informational(self) -> bool {
        matches!(self, Check::Sink | Check::Config)
    }

    /// The check with this name.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|check| check.as_str() == word)
    }
}

impl StageId {
    const fn check(self) -> Check {
        match self {
            StageId::Watch => Check::Watch,
            StageId::Workers => Check::Workers,
            StageId::Ledger => Check::Ledger,
            StageId::Submit => Check::Submit,
            StageId::Settle => Check::Settle,
        }
    }
}

/// The state of all checks and stages; a cheap clone.
#[derive(Debug, Clone)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Why a check fails; `None` while it holds.
    failures: Mutex<[Option<String>; Check::ALL.len()]>,
    signs: [AtomicU64; StageId::ALL.len()],
}

/// A stage that never spoke is not watched over: it may not exist in this command.
const UNUSED: u64 = 0;
const IDLE: u64 = u64::MAX;
/// Set in a moment at which a file-system call began; moments stay below it for 292 years.
const IN_CALL: u64 = 1 << 63;

/// The newest sign of life of a stage.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sign {
    Unused,
    Idle,
    Beat(Mono),
    InCall(Mono),
}

impl Sign {
    const fn of(bits: u64) -> Self {
        match bits {
            UNUSED => Sign::Unused,
            IDLE => Sign::Idle,
            bits if bits & IN_CALL != 0 => Sign::InCall(Mono(bits & !IN_CALL)),
            bits => Sign::Beat(Mono(bits)),
        }
    }

    fn is_stalled(self, now: Mono) -> bool {
        matches!(self, Sign::InCall(since) if now.since(since) > STALL_LIMIT)
    }
}

/// One line a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    title: &'static str,
    lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    name: &'static str,
    /// Said behind `ok`.
    note: Option<&'static str>,
    failure: Option<String>,
    counts: bool,
}

impl Report {
    /// True when every check that counts holds.
    pub fn passed(&self) -> bool {
        self.lines.iter().all(|line| line.failure.is_none() || !line.counts)
    }

    /// Why the first failing check fails, counted or not.
    pub fn failure(&self) -> Option<&str> {
        self.lines.iter().find_map(|line| line.failure.as_deref())
    }

    /// The same without the checks of these names.
    pub fn without(mut self, names: &[&str]) -> Self {
        self.lines.retain(|line| !names.contains(&line.name));
        self
    }

    /// `[+]watch ok`, `[-]ledger failed: disk-full`, …, `readyz check passed`.
    pub fn verbose(&self) -> String {
        let mut out = String::new();
        for line in &self.lines {
            let informational = if line.counts { "" } else { " (informational)" };
            // Writing to a string cannot fail.
            let _ = match (&line.failure, line.note) {
                (Some(why), _) => writeln!(out, "[-]{} failed: {why}{informational}", line.name),
                (None, Some(note)) => writeln!(out, "[+]{} ok: {note}", line.name),
                (None, None) => writeln!(out, "[+]{} ok", line.name),
            };
        }
        let verdict = if self.passed() { "passed" } else { "failed" };
        let _ = writeln!(out, "{} check {verdict}", self.title);
        out
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// Not started, all else well.
    pub fn new() -> Self {
        let health = Health(Arc::new(Inner {
            failures: Mutex::default(),
            signs: std::array::from_fn(|_| AtomicU64::new(UNUSED)),
        }));
        health.set(Check::Startup, Err("starting".to_owned()));
        health
    }

    /// Tells the state of a check; the reason is shown to whoever may read the page.
    pub fn set(&self, check: Check, state: Result<(), String>) {
        self.0.failures.lock()[check as usize] = state.err();
    }

    /// The watch is placed and the first scan has begun.
    pub fn started(&self) {
        self.set(Check::Startup, Ok(()));
    }

    /// A stop was asked for: readiness ends before the work does.
    pub fn stopping(&self) {
        self.set(Check::Shutdown, Err("stopping".to_owned()));
    }

    /// The stage moved.
    pub fn beat(&self, stage: StageId, now: Mono) {
        self.mark(stage, now.0.clamp(1, IN_CALL - 1));
    }

    /// The stage waits for work, or ended as planned, and owes no sign of life until its next beat.
    pub fn idle(&self, stage: StageId) {
        self.mark(stage, IDLE);
    }

    /// The stage enters a file-system call that may not return; the next beat ends it.
    pub fn in_call(&self, stage: StageId, now: Mono) {
        self.mark(stage, now.0.min(IN_CALL - 2) | IN_CALL);
    }

    fn mark(&self, stage: StageId, bits: u64) {
        self.0.signs[stage as usize].store(bits, Ordering::Relaxed);
    }

    fn sign(&self, stage: StageId) -> Sign {
        Sign::of(self.0.signs[stage as usize].load(Ordering::Relaxed))
    }

    /// True when every stage moves; feeds the watchdog.
    pub fn is_alive(&self, now: Mono) -> bool {
        self.liveness(now).passed()
    }

    /// True when every check that counts holds.
    pub fn is_ready(&self, now: Mono) -> bool {
        self.readiness(now).passed()
    }

    /// The stages that were started and whether they move.
    pub fn liveness(&self, now: Mono) -> Report {
        let line = |&stage: &StageId| {
            let sign = self.sign(stage);
            let failure = match sign {
                Sign::Unused => return None,
                Sign::Beat(at) if now.since(at) > BEAT_LIMIT => {
                    Some(format!("no sign of life for {} s", now.since(at).as_secs()))
                }
                _ => None,
            };
            let note = sign.is_stalled(now).then_some("fs-stalled");
            Some(Line { name: stage.as_str(), note, failure, counts: true })
        };
        Report { title: "livez", lines: StageId::ALL.iter().filter_map(line).collect() }
    }

    /// All checks; a stage stuck in a file-system call fails the check of its name.
    pub fn readiness(&self, now: Mono) -> Report {
        let mut failures = self.0.failures.lock().clone();
        for &stage in StageId::ALL {
            if self.sign(stage).is_stalled(now) {
                failures[stage.check() as usize].get_or_insert_with(|| "fs-stalled".to_owned());
            }
        }
        let lines = Check::ALL.iter().zip(failures).map(|(check, failure)| Line {
            name: check.as_str(),
            note: None,
            failure,
            counts: !check.is_informational(),
        });
        Report { title: "readyz", lines: lines.collect() }
    }

    /// One check alone.
    pub fn only(&self, check: Check, now: Mono) -> Report {
        let mut report = self.readiness(now);
        report.lines.retain(|line| line.name == check.as_str());
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    #[test]
    fn it_is_unready_until_started_and_again_while_stopping() {
        let health = Health::new();
        assert!(!health.is_ready(at(0)));
        health.started();
        assert!(health.is_ready(at(0)));
        health.stopping();
        assert!(!health.is_ready(at(0)));
        assert!(health.readiness(at(0)).verbose().contains("[-]shutdown failed: stopping\n"));
    }

    #[test]
    fn a_failed_check_is_named_with_its_reason_and_recovers() {
        let health = Health::new();
        health.started();
        health.set(Check::Ledger, Err("disk-full: 3 MiB left".to_owned()));
        let report = health.readiness(at(0));
        assert!(!report.passed());
        assert!(report.verbose().contains("[-]ledger failed: disk-full: 3 MiB left\n"));
        assert!(report.verbose().ends_with("readyz check failed\n"));
        assert!(report.without(&["ledger"]).passed());
        assert!(!health.only(Check::Ledger, at(0)).passed());
        assert!(health.only(Check::Watch, at(0)).passed());
        health.set(Check::Ledger, Ok(()));
        assert!(health.is_ready(at(0)));
    }

    #[test]
    fn a_sink_that_cannot_be_reached_is_shown_and_does_not_count() {
        let health = Health::new();
        health.started();
        health.set(Check::Sink, Err("sink-unavailable".to_owned()));
        let report = health.readiness(at(0));
        assert!(report.passed());
        assert!(report.verbose().contains("[-]sink failed: sink-unavailable (informational)\n"));
    }

    #[test]
    fn settings_that_were_not_reloaded_are_shown_and_do_not_count() {
        let health = Health::new();
        health.started();
        health.set(Check::Config, Err("last reload failed: c.toml".to_owned()));
        assert!(health.is_ready(at(0)));
        let page = health.readiness(at(0)).verbose();
        assert!(page.contains("[-]config failed: last reload failed: c.toml (informational)\n"), "{page}");
    }

    #[test]
    fn a_stage_dies_of_silence_but_not_of_idleness_or_a_slow_call() {
        let health = Health::new();
        health.started();
        assert!(health.is_alive(at(1000)), "no stage, no silence");
        health.beat(StageId::Watch, at(1000));
        health.idle(StageId::Submit);
        health.in_call(StageId::Settle, at(1000));
        assert!(health.is_alive(at(1010)));
        assert!(!health.is_alive(at(1011)));
        assert!(health.liveness(at(1011)).verbose().contains("[-]watch failed: no sign of life for 11 s\n"));
        health.beat(StageId::Watch, at(1011));
        assert!(health.is_alive(at(1011)));
        assert!(health.liveness(at(1011)).verbose().contains("[+]settle ok: fs-stalled\n"));
        assert!(!health.is_ready(at(1011)), "a stalled file system is not ready");
        assert!(health.readiness(at(1011)).verbose().contains("[-]settle failed: fs-stalled\n"));
        health.beat(StageId::Settle, at(1012));
        assert!(health.is_ready(at(1012)));
    }

    #[test]
    fn a_beat_at_the_edges_of_the_clock_stays_a_beat() {
        let health = Health::new();
        health.beat(StageId::Ledger, Mono(0));
        assert_eq!(health.sign(StageId::Ledger), Sign::Beat(Mono(1)));
        health.in_call(StageId::Ledger, Mono(u64::MAX));
        assert!(matches!(health.sign(StageId::Ledger), Sign::InCall(_)));
    }
}
