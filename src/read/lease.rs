//! Read leases: the kernel's own word that nobody has a file open for writing (`design.md` D1).
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};

/// What the kernel said to the wish for a read lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseAnswer {
    /// Nobody has the file open for writing, and nobody can until the descriptor is closed.
    Granted,
    /// Somebody has it open for writing (EAGAIN).
    Writer,
    /// No lease to be had: another owner's file without CAP_LEASE, or the file system has none.
    NotHere,
}

/// Asks for a read lease on `file`; it ends when `file` is closed.
pub(super) fn take(file: &OwnedFd) -> LeaseAnswer {
    // SAFETY: fcntl with F_SETLEASE takes an integer argument and touches no memory of ours; the
    // descriptor is open for as long as `file` is borrowed.
    let answer = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) };
    if answer == 0 {
        return LeaseAnswer::Granted;
    }
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::EAGAIN) => LeaseAnswer::Writer,
        _ => LeaseAnswer::NotHere,
    }
}

/// Must run once before the first lease: the kernel announces a broken lease by SIGIO, whose default
/// action ends the process. We have nothing to do then, since a lease is held for one reading only.
pub fn ignore_lease_signal() {
    // SAFETY: SIG_IGN installs no handler, so no code of ours runs in signal context.
    unsafe {
        libc::signal(libc::SIGIO, libc::SIG_IGN);
    }
}

/// What proofs this machine and folder give, for `status`, `doctor` and the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseHelp {
    /// Leases work on files of every owner (CAP_LEASE, or root).
    AllOwners,
    /// Leases work on the daemon's own files only.
    OwnFiles,
    /// The file system has no leases.
    None,
}

/// Finds out by taking a lease on a file of its own in `private`.
pub fn probe(private: &OwnedFd) -> LeaseHelp {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let works = openat(private, ".lease-probe", flags, Mode::from_raw_mode(0o600)).is_ok_and(|writer| {
        drop(writer);
        let reader = openat(private, ".lease-probe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        reader.is_ok_and(|reader| take(&reader) == LeaseAnswer::Granted)
    });
    let _ = rustix::fs::unlinkat(private, ".lease-probe", rustix::fs::AtFlags::empty());
    match (works, may_lease_all()) {
        (false, _) => LeaseHelp::None,
        (true, true) => LeaseHelp::AllOwners,
        (true, false) => LeaseHelp::OwnFiles,
    }
}

/// CAP_LEASE is bit 28 of the effective set.
fn may_lease_all() -> bool {
    let status = openat(CWD, "/proc/self/status", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let Ok(status) = status else { return false };
    let mut text = [0u8; 4096];
    let Ok(count) = rustix::io::read(&status, &mut text[..]) else { return false };
    let text = String::from_utf8_lossy(&text[..count]);
    text.lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|set| set & (1 << 28) != 0)
}
