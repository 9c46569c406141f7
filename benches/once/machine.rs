//! What the machine is, and what a child process took from it.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// Seconds in a tick of `/proc/PID/stat`: USER_HZ is 100 on every Linux that runs this.
const TICK: f64 = 0.01;
/// How often the peak memory of a child is read, which is gone when it ends.
const SAMPLE: Duration = Duration::from_millis(20);
/// Flushes of which the median is taken.
const FLUSHES: usize = 101;

/// What a child took.
#[derive(Debug, Clone)]
pub(crate) struct Took {
    /// From its start to its end, in seconds.
    pub(crate) wall: f64,
    /// User and system time of all its threads, in seconds, to about 5 ms.
    pub(crate) cpu: f64,
    /// Peak memory in MiB.
    pub(crate) peak: f64,
    /// What it wrote to its standard output.
    pub(crate) said: String,
}

/// Runs `command` to its end; an error unless that was 0.
pub(crate) fn measure(command: &mut Command) -> io::Result<Took> {
    let started = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let id = child.id();
    let (ended, end) = mpsc::channel();
    let sampler = thread::spawn(move || {
        let mut peak = 0.0_f64;
        while end.recv_timeout(SAMPLE) == Err(RecvTimeoutError::Timeout) {
            peak = peak.max(peak_memory(id).unwrap_or(0.0));
        }
        peak
    });
    let mut said = String::new();
    child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?.read_to_string(&mut said)?;
    let pid = Pid::from_child(&child);
    // Left as a zombie, whose times can still be read and cannot change any more.
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
    let wall = started.elapsed().as_secs_f64();
    let cpu = cpu_time(id)?;
    let _ = ended.send(());
    let status = child.wait()?;
    let peak = sampler.join().map_err(|_| io::Error::other("the sampler panicked"))?;
    match status.success() {
        true => Ok(Took { wall, cpu, peak, said }),
        false => Err(io::Error::other(format!("{command:?} ended with {status} and said {said}"))),
    }
}

/// The two times are cut to whole ticks, half a tick each on the average, which is added again.
fn cpu_time(id: u32) -> io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: Vec<f64> =
        after_name.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse().ok()).collect();
    match ticks[..] {
        [user, system] => Ok((user + system + 1.0) * TICK),
        _ => Err(io::Error::other(format!("/proc/{id}/stat reads {stat}"))),
    }
}

fn peak_memory(id: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}

/// Processor, kernel and file system in one line.
pub(crate) fn describe(dir: &Path) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let field = |name: &str| cpus.lines().find_map(|line| line.strip_prefix(name)?.split_once(": "));
    let model = field("model name").map_or("unknown processor", |(_, model)| model);
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{model}, {cores} cores, Linux {}, {}", kernel.trim(), file_system(dir))
}

/// Type and options of the mount that holds `dir`.
fn file_system(dir: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let holds = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        let (at, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        dir.starts_with(at).then(|| (at.len(), format!("{kind} ({options})")))
    };
    let found = mounts.lines().filter_map(holds).max_by_key(|(length, _)| *length);
    found.map_or_else(|| "unknown file system".to_owned(), |(_, kind)| kind)
}

/// Processor pressure, the share of time in which something waited for a core.
pub(crate) fn pressure() -> String {
    let text = fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
    text.lines().next().unwrap_or("not measured").to_owned()
}

/// Median time in seconds of a small append with its flush.
pub(crate) fn flush_time(dir: &Path) -> io::Result<f64> {
    let mut file = File::create(dir.join("flush"))?;
    let mut times = Vec::with_capacity(FLUSHES);
    for _ in 0..FLUSHES {
        file.write_all(&[b'.'; 4096])?;
        let started = Instant::now();
        file.sync_data()?;
        times.push(started.elapsed().as_secs_f64());
    }
    Ok(super::median(&mut times))
}
