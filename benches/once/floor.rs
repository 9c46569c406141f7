//! The floor loop (`design.md` 7): the file operations that no daemon of this kind can do without, by one
//! thread, with nothing in between. No hashing, no parsing, no queue, no ledger.
//!
//! For each file exactly: `openat`, `fstat`, `read`, `close`; a temporary file renamed over
//! `workload.yaml`; one `renameat` into the archive; the status by one exclusive create. For each 256
//! files one append and one `fdatasync`. `syncfs` whenever the daemon would, and at the end.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, fdatasync, fstat, openat, renameat, syncfs};

use super::place::{Place, intent_name, package, pad};

/// Files of one group commit: the most rows that the ledger writes at once.
const COMMIT: u64 = 256;
/// Bytes that the log takes for each file.
const RECORD: usize = 64;
/// The daemon's default for `ledger.checkpoint`.
const CHECKPOINT: Duration = Duration::from_secs(5);
/// Ends after which the daemon does not wait for that.
const CLOSINGS: u64 = 8_192;
/// About what the daemon writes for the intents of this bench.
const WORKLOAD: usize = 1_100;
const STATUS: usize = 600;

/// Calls made.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    files: u64,
    openat: u64,
    fstat: u64,
    read: u64,
    write: u64,
    close: u64,
    renameat: u64,
    fdatasync: u64,
    syncfs: u64,
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Calls { files, openat, fstat, read, write, close, renameat, fdatasync, syncfs } = self;
        write!(
            f,
            "{files} files: openat {openat}, fstat {fstat}, read {read}, write {write}, close {close}, \
             renameat {renameat}, fdatasync {fdatasync}, syncfs {syncfs}"
        )
    }
}

/// The loop's descriptors and what it writes.
struct Floor {
    handoff: OwnedFd,
    out: OwnedFd,
    processed: OwnedFd,
    status: OwnedFd,
    log: OwnedFd,
    workload: Vec<u8>,
    report: Vec<u8>,
    buffer: Vec<u8>,
    calls: Calls,
}

/// Runs the loop over `files` files in `place`.
pub(crate) fn run(place: &Place, files: u64, targets: u64) -> io::Result<Calls> {
    let log_flags = OFlags::CREATE | OFlags::APPEND | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut floor = Floor {
        handoff: directory(&place.handoff())?,
        out: directory(&place.out())?,
        processed: directory(&place.processed())?,
        status: directory(&place.status())?,
        log: openat(CWD, place.log(), log_flags, Mode::from_raw_mode(0o640))?,
        workload: pad("# workload\n", WORKLOAD),
        report: pad("{}\n", STATUS),
        buffer: vec![0; 4096],
        calls: Calls::default(),
    };
    let records = vec![b'.'; RECORD * COMMIT as usize];
    let (mut flushed, mut open) = (Instant::now(), 0);
    for number in 0..files {
        floor.one(number, number % targets)?;
        open += 1;
        if (number + 1) % COMMIT == 0 || number + 1 == files {
            floor.commit(&records)?;
        }
        if open >= CLOSINGS || flushed.elapsed() >= CHECKPOINT || number + 1 == files {
            syncfs(&floor.handoff)?;
            floor.calls.syncfs += 1;
            (flushed, open) = (Instant::now(), 0);
        }
    }
    floor.calls.files = files;
    Ok(floor.calls)
}

impl Floor {
    fn one(&mut self, number: u64, target: u64) -> io::Result<()> {
        let name = intent_name(number);
        self.look(&name)?;
        let package = package(target);
        let (temporary, workload) =
            (format!("{package}/.workload.yaml.tmp"), format!("{package}/workload.yaml"));
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC;
        self.calls.whole(&self.out, &temporary, flags, &self.workload)?;
        renameat(&self.out, &temporary, &self.out, &workload)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        self.calls.whole(&self.status, &format!("{name}.status"), flags, &self.report)?;
        renameat(&self.handoff, &name, &self.processed, &name)?;
        self.calls.renameat += 2;
        Ok(())
    }

    fn look(&mut self, name: &str) -> io::Result<()> {
        let file = openat(&self.handoff, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let size = usize::try_from(fstat(&file)?.st_size).map_err(io::Error::other)?;
        let read = rustix::io::read(&file, &mut self.buffer[..])?;
        assert_eq!(read, size, "one read takes all of {name}");
        self.calls.openat += 1;
        self.calls.fstat += 1;
        self.calls.read += 1;
        self.calls.close += 1;
        Ok(())
    }

    fn commit(&mut self, records: &[u8]) -> io::Result<()> {
        rustix::io::write(&self.log, records)?;
        fdatasync(&self.log)?;
        self.calls.write += 1;
        self.calls.fdatasync += 1;
        Ok(())
    }
}

impl Calls {
    /// Creates a file, writes it at once and closes it.
    fn whole(&mut self, dir: &OwnedFd, name: &str, flags: OFlags, bytes: &[u8]) -> io::Result<()> {
        let file = openat(dir, name, flags, Mode::from_raw_mode(0o640))?;
        rustix::io::write(&file, bytes)?;
        self.openat += 1;
        self.write += 1;
        self.close += 1;
        Ok(())
    }
}

fn directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}
