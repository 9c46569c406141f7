//! Whether the process moves (liveness) and whether it does its work (readiness).
//!
//! Liveness: each stage that was started showed a sign of life in the last 10 s, or is idle, or is
//! inside a file-system call, which on a dead NFS server no restart would end. Each worker counts for
//! itself, so that an idle one does not speak for one that hangs. Readiness: every check but the
//! informational ones holds and no stage has been inside a file-system call for more than 5 s; the
//! keeper's flush may take longer than that and does not count. An unreachable sink never makes the
//! daemon unready (`contract.md` 6).
//!
//! A sign is one relaxed store into a slot of its own, made once in [`Health::of`].

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};

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
}

/// The stages that must move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StageId {
    /// Watch, scan and debounce.
    Watch,
    /// The ledger's writer.
    Ledger,
    /// Lanes and dispatch.
    Submit,
    /// Status files and filing.
    Settle,
    /// Checkpoints, gauges and retention.
    Keeper,
    /// The worker of this number.
    Worker(u16),
}

/// The stages that there is one of, in the order of their slots; the workers' follow.
const SINGLE: [StageId; 5] =
    [StageId::Watch, StageId::Ledger, StageId::Submit, StageId::Settle, StageId::Keeper];

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
    const fn slot(self) -> usize {
        match self {
            StageId::Watch => 0,
            StageId::Ledger => 1,
            StageId::Submit => 2,
            StageId::Settle => 3,
            StageId::Keeper => 4,
            StageId::Worker(number) => SINGLE.len() + number as usize,
        }
    }

    /// The check of readiness that fails while the stage hangs in a file-system call.
    const fn check(self) -> Option<Check> {
        match self {
            StageId::Watch => Some(Check::Watch),
            StageId::Ledger => Some(Check::Ledger),
            StageId::Submit => Some(Check::Submit),
            StageId::Settle => Some(Check::Settle),
            StageId::Keeper => None,
            StageId::Worker(_) => Some(Check::Workers),
        }
    }

    /// As the pages and the log name it: `watch`, `worker-3`.
    pub fn name(self) -> Cow<'static, str> {
        match self {
            StageId::Watch => "watch".into(),
            StageId::Ledger => "ledger".into(),
            StageId::Submit => "submit".into(),
            StageId::Settle => "settle".into(),
            StageId::Keeper => "keeper".into(),
            StageId::Worker(number) => format!("worker-{number}").into(),
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
    /// One for each of [`SINGLE`], then one for each worker.
    signs: Box<[AtomicU64]>,
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
    name: Cow<'static, str>,
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

    /// True unless the check is part of this report and fails.
    pub fn holds(&self, check: Check) -> bool {
        self.lines.iter().all(|line| line.failure.is_none() || line.name != check.as_str())
    }

    /// The first failing check that counts: its name, and why it fails.
    pub fn fault(&self) -> Option<(&str, &str)> {
        let counted = self.lines.iter().filter(|line| line.counts);
        counted.filter_map(|line| Some((&*line.name, line.failure.as_deref()?))).next()
    }

    /// The same without the checks of these names.
    pub fn without(mut self, names: &[&str]) -> Self {
        self.lines.retain(|line| !names.contains(&&*line.name));
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

    /// The same as a document: `failed` lists the names of the failing checks that count.
    pub fn json(&self) -> Value {
        let failed = self.lines.iter().filter(|line| line.counts && line.failure.is_some());
        let checks = self.lines.iter().map(|line| {
            let mut check = json!({ "name": line.name, "ok": line.failure.is_none(), "counts": line.counts });
            if let Some(message) = line.failure.as_deref().or(line.note) {
                check["message"] = json!(message);
            }
            check
        });
        json!({
            "check": self.title,
            "ok": self.passed(),
            "failed": failed.map(|line| json!(line.name)).collect::<Vec<_>>(),
            "checks": checks.collect::<Vec<_>>(),
        })
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// Not started, all else well, with one worker.
    pub fn new() -> Self {
        Health::of(1)
    }

    /// The same with this many workers.
    pub fn of(workers: usize) -> Self {
        let health = Health(Arc::new(Inner {
            failures: Mutex::default(),
            signs: (0..SINGLE.len() + workers).map(|_| AtomicU64::new(UNUSED)).collect(),
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
        // Who has no slot is not watched over; a process is never ended for it.
        if let Some(slot) = self.0.signs.get(stage.slot()) {
            slot.store(bits, Ordering::Relaxed);
        }
    }

    fn sign(&self, stage: StageId) -> Sign {
        Sign::of(self.0.signs.get(stage.slot()).map_or(UNUSED, |slot| slot.load(Ordering::Relaxed)))
    }

    /// Every stage that has a slot.
    fn stages(&self) -> impl Iterator<Item = StageId> {
        let workers = self.0.signs.len() - SINGLE.len();
        let workers = (0..=u16::MAX).take(workers).map(StageId::Worker);
        SINGLE.into_iter().chain(workers)
    }

    /// How one stage shows its signs without saying each time which it is.
    pub fn pulse(&self, stage: StageId) -> Pulse {
        Pulse { health: self.clone(), stage }
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
        let line = |stage: StageId| {
            let sign = self.sign(stage);
            let failure = match sign {
                Sign::Unused => return None,
                Sign::Beat(at) if now.since(at) > BEAT_LIMIT => {
                    Some(format!("no sign of life for {} s", now.since(at).as_secs()))
                }
                _ => None,
            };
            let note = sign.is_stalled(now).then_some("fs-stalled");
            Some(Line { name: stage.name(), note, failure, counts: true })
        };
        Report { title: "livez", lines: self.stages().filter_map(line).collect() }
    }

    /// All checks; a stage stuck in a file-system call fails the check of its name.
    pub fn readiness(&self, now: Mono) -> Report {
        let mut failures = self.0.failures.lock().clone();
        for stage in self.stages().filter(|stage| self.sign(*stage).is_stalled(now)) {
            let Some(check) = stage.check() else { continue };
            failures[check as usize].get_or_insert_with(|| match stage {
                StageId::Worker(_) => format!("fs-stalled: {}", stage.name()),
                _ => "fs-stalled".to_owned(),
            });
        }
        let lines = Check::ALL.iter().zip(failures).map(|(check, failure)| Line {
            name: check.as_str().into(),
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

/// The signs of one stage; a cheap clone.
#[derive(Debug, Clone)]
pub struct Pulse {
    health: Health,
    stage: StageId,
}

impl Pulse {
    /// See [`Health::beat`].
    pub fn beat(&self, now: Mono) {
        self.health.beat(self.stage, now);
    }

    /// See [`Health::in_call`].
    pub fn in_call(&self, now: Mono) {
        self.health.in_call(self.stage, now);
    }

    /// See [`Health::idle`].
    pub fn idle(&self) {
        self.health.idle(self.stage);
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
    fn an_idle_worker_does_not_speak_for_one_that_hangs() {
        let health = Health::of(3);
        health.started();
        health.idle(StageId::Worker(0));
        health.beat(StageId::Worker(1), at(100));
        assert!(health.is_alive(at(110)));
        health.idle(StageId::Worker(0));
        let report = health.liveness(at(111));
        assert_eq!(report.fault(), Some(("worker-1", "no sign of life for 11 s")));
        assert!(report.verbose().contains("[+]worker-0 ok\n"));
        assert!(!report.verbose().contains("worker-2"), "one that was never started owes nothing");
        assert!(report.without(&["worker-1"]).passed());
        health.pulse(StageId::Worker(1)).in_call(at(111));
        assert!(health.is_alive(at(1000)));
        assert_eq!(health.readiness(at(1000)).fault(), Some(("workers", "fs-stalled: worker-1")));
    }

    #[test]
    fn a_long_flush_is_no_reason_to_be_unready() {
        let health = Health::new();
        health.started();
        health.in_call(StageId::Keeper, at(1));
        assert!(health.is_ready(at(100)) && health.is_alive(at(100)));
        assert!(health.liveness(at(100)).verbose().contains("[+]keeper ok: fs-stalled\n"));
        health.beat(StageId::Keeper, at(101));
        assert!(!health.is_alive(at(112)), "but silence is death to it as to any other");
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
