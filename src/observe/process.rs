//! What the kernel tells about this process, under the names that Prometheus clients use and two of ours.
//!
//! Read from `/proc/self` and the process clock at every scrape; a fact that cannot be read is left
//! out. The start time is our own clock's, so that a unit without `/proc/stat` has it too.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::names::{self, Kind, Metric};
use crate::clock::Wall;

/// User and system time of all threads so far.
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Resident memory in bytes; `None` where `/proc` is hidden.
pub fn resident_bytes() -> Option<u64> {
    Status::read()?.bytes("VmRSS:")
}

/// The families of [`names::PROCESS`] in the text format.
pub(super) fn families(started: Wall) -> String {
    let mut out = String::with_capacity(2048);
    let mut put = |metric: &Metric, value: Option<f64>| {
        let Some(value) = value else { return };
        let kind = if metric.kind == Kind::Counter { "counter" } else { "gauge" };
        let name = metric.name;
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}\n{name} {value}\n", metric.help);
    };
    let status = Status::read();
    let bytes = |key| status.as_ref().and_then(|status| status.bytes(key)).map(|bytes| bytes as f64);
    put(&names::PROCESS_CPU, Some(cpu_time().as_secs_f64()));
    let open = open_descriptors().map(|count| count as f64);
    put(&names::PROCESS_OPEN_FDS, open);
    put(&names::OPEN_FDS, open);
    put(&names::PROCESS_MAX_FDS, Some(limit(Resource::Nofile)));
    put(&names::PROCESS_VIRTUAL, bytes("VmSize:"));
    put(&names::PROCESS_VIRTUAL_MAX, Some(limit(Resource::As)));
    put(&names::PROCESS_RESIDENT, bytes("VmRSS:"));
    put(&names::PROCESS_START, Some(started.0 as f64 / 1e9));
    put(&names::START_TIME, Some(started.0 as f64 / 1e9));
    put(
        &names::PROCESS_THREADS,
        status.as_ref().and_then(|status| status.number("Threads:")).map(|n| n as f64),
    );
    out
}

/// The soft limit; without one the largest number, as other clients print it.
fn limit(resource: Resource) -> f64 {
    getrlimit(resource).current.unwrap_or(u64::MAX) as f64
}

fn open_descriptors() -> Option<usize> {
    // One of them is the listing itself.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}

/// `/proc/self/status`.
struct Status(String);

impl Status {
    fn read() -> Option<Self> {
        fs::read_to_string("/proc/self/status").ok().map(Status)
    }

    fn number(&self, key: &str) -> Option<u64> {
        let line = self.0.lines().find(|line| line.starts_with(key))?;
        line.split_ascii_whitespace().nth(1)?.parse().ok()
    }

    /// The kernel prints sizes in units of 1024 bytes.
    fn bytes(&self, key: &str) -> Option<u64> {
        self.number(key).map(|kib| kib * 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_process_metric_is_read_on_this_kernel() {
        let text = families(Wall(1_500_000_000));
        for metric in names::PROCESS {
            assert!(text.contains(&format!("\n{} ", metric.name)), "{} is missing", metric.name);
        }
        assert!(text.contains("\nprocess_start_time_seconds 1.5\n"));
    }

    #[test]
    fn this_process_uses_memory_and_time() {
        assert!(resident_bytes().expect("/proc is there") > 100_000);
        assert!(cpu_time() > Duration::ZERO);
    }
}
