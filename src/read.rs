//! The only way to the bytes of a dropped file: look, open safely, prove completion, read once, hash.
//!
//! # Order of steps
//!
//! 1. Look at the name without opening it: a link, pipe, device, mount point, second hard link or a
//!    size over the limit ends here, so that opening has no effect on anything strange.
//! 2. Open beneath the folder's descriptor, no links, no magic links, no other device, never blocking.
//! 3. `fstat`: still the regular file that was looked at.
//! 4. Proof of completion: a read lease is refused while any process has the file open for writing.
//!    Without the right to a lease: renamed in, or unchanged across one window.
//! 5. Read into a reused buffer, or map above the threshold **and only under the lease**; hash exactly
//!    these bytes. Without a lease the identity is compared once more.
//!
//! # Limits
//!
//! The buffer grows to `max_size` + 1 and is given back above 256 KiB. One file is held at a time; its
//! lease ends with [`Reader::release`] or the next look. The kernel breaks a lease that somebody waits
//! for after `lease-break-time` (45 s); a mapping is dropped before its file is parsed for longer than
//! that, see `map.rs`.
//!
//! # System calls for a small file
//!
//! statx, openat2, fstat, fcntl, read, close: six (seven without a lease).

mod in_hand;
mod inherited;
mod lease;
mod map;

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;

pub use in_hand::{InHand, Suspect};
pub use inherited::keep_descriptors;
pub use lease::{LeaseAnswer, LeaseHelp, ignore_lease_signal, probe};

use crate::debounce::{Hint, Ticket, Wait};
use crate::disk::{EntryKind, Identity, Meta, look_at, look_fd};
use crate::fate::{Proof, Reason, Sha};

/// Buffers above this many bytes are not kept from one file to the next.
const KEEP: usize = 256 << 10;

/// What a look at a ticket's file led to.
#[derive(Debug)]
pub enum Look<'a> {
    /// The file was complete and its bytes are here.
    Whole(Whole<'a>),
    /// Not yet: the debouncer decides when it is looked at again.
    Wait(Wait),
    /// It belongs to the lane of large files.
    Large(u64),
    /// Refused without reading it.
    Refuse {
        /// A word of the closed set.
        reason: Reason,
        /// One line for the producer.
        message: String,
        /// Which file it was.
        identity: Identity,
    },
    /// The name is gone (F10).
    Gone,
    /// Must not be touched: left in place and reported.
    Leave(Leave),
}

/// Entries that stay where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// A directory with a matching name (F03).
    Directory,
    /// Something is mounted on the name (F14).
    Mountpoint,
}

/// A complete file.
#[derive(Debug)]
pub struct Whole<'a> {
    /// Its bytes, exactly those that were hashed.
    pub bytes: &'a [u8],
    /// Their SHA-256.
    pub sha: Sha,
    /// Which file it was, before and after reading.
    pub identity: Identity,
    /// How its completion is known.
    pub proof: Proof,
}

/// What is read and how.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// `intake.max_size`
    pub max_size: u64,
    /// `intake.map_above`
    pub map_above: u64,
}

#[derive(Debug)]
struct Held {
    /// Dropped first: the mapping must not outlive the lease.
    map: Option<map::LeasedMap>,
    _file: OwnedFd,
}

/// Reads one file at a time for one worker.
#[derive(Debug)]
pub struct Reader {
    bounds: Bounds,
    buffer: Vec<u8>,
    held: Option<Held>,
    beneath: bool,
    short: bool,
}

impl Reader {
    /// A reader with an empty buffer.
    pub fn new(bounds: Bounds) -> Self {
        Reader { bounds, buffer: Vec::new(), held: None, beneath: true, short: false }
    }

    /// Ends mapping and lease of the file in hand and gives a large buffer back.
    pub fn release(&mut self) {
        self.held = None;
        if self.buffer.capacity() > KEEP {
            self.buffer = Vec::new();
        }
    }

    /// Whether the last look failed for want of descriptors or memory (D11).
    pub fn was_short(&self) -> bool {
        self.short
    }

    /// Looks at the ticket's file and reads it if it is complete. `in_large_lane` says that this
    /// worker holds the lane of large files.
    pub fn look(&mut self, handoff: &OwnedFd, ticket: &Ticket, in_large_lane: bool) -> Look<'_> {
        self.release();
        self.short = false;
        let name = Path::new(OsStr::from_bytes(&ticket.name));
        let seen = match look_at(handoff, name) {
            Ok(Some(seen)) => seen,
            Ok(None) => return Look::Gone,
            Err(err) => return trouble(&err, ticket, Identity::default()),
        };
        if let Some(end) = self.judge_entry(handoff, &seen, ticket) {
            return end;
        }
        let size = seen.identity.size;
        if size > self.bounds.map_above && !in_large_lane {
            return Look::Large(size);
        }
        let file = match self.open(handoff, name) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Look::Gone,
            Err(Errno::XDEV) => return Look::Leave(Leave::Mountpoint),
            Err(Errno::LOOP) => return refuse(Reason::Symlink, "is a symbolic link", &seen),
            Err(err) => {
                self.short = is_short(err);
                return trouble(&err.into(), ticket, seen.identity);
            }
        };
        match fstat(&file) {
            Ok(stat) if (stat.st_dev, stat.st_ino) != (seen.identity.dev, seen.identity.ino) => {
                return Look::Wait(Wait::Changed(seen.identity));
            }
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {}
            Ok(_) => return refuse(Reason::NotRegular, "is not a regular file", &seen),
            Err(err) => return trouble(&err.into(), ticket, seen.identity),
        }
        self.read(file, seen.identity, ticket)
    }

    /// Everything that can be said without opening the file.
    fn judge_entry(&self, handoff: &OwnedFd, seen: &Meta, ticket: &Ticket) -> Option<Look<'static>> {
        match seen.kind {
            EntryKind::File => {}
            EntryKind::Symlink => {
                return Some(refuse(Reason::Symlink, "is a symbolic link; it is not followed", seen));
            }
            EntryKind::Directory => return Some(Look::Leave(Leave::Directory)),
            kind => {
                let message = format!("is {}, not a regular file", kind.describe());
                return Some(refuse(Reason::NotRegular, &message, seen));
            }
        }
        let other_device = fstat(handoff).is_ok_and(|folder| folder.st_dev != seen.identity.dev);
        if seen.mount_root || other_device {
            return Some(Look::Leave(Leave::Mountpoint));
        }
        if seen.nlink > 1 {
            if !ticket.last_chance {
                return Some(Look::Wait(Wait::Linked(seen.identity)));
            }
            let message = format!("has {} hard links; drop a file of its own", seen.nlink);
            return Some(refuse(Reason::Hardlink, &message, seen));
        }
        if seen.identity.size > self.bounds.max_size {
            let (size, limit) = (seen.identity.size, self.bounds.max_size);
            let message = format!("has {size} bytes, the limit is {limit} (intake.max_size)");
            return Some(refuse(Reason::TooLarge, &message, seen));
        }
        None
    }

    fn open(&mut self, handoff: &OwnedFd, name: &Path) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if self.beneath {
            let resolve = ResolveFlags::BENEATH
                | ResolveFlags::NO_SYMLINKS
                | ResolveFlags::NO_MAGICLINKS
                | ResolveFlags::NO_XDEV;
            match openat2(handoff, name, flags, Mode::empty(), resolve) {
                Err(Errno::NOSYS) => self.beneath = false,
                other => return other,
            }
        }
        openat(handoff, name, flags, Mode::empty())
    }

    fn read(&mut self, file: OwnedFd, identity: Identity, ticket: &Ticket) -> Look<'_> {
        let leased = match lease::take(&file) {
            LeaseAnswer::Granted => true,
            LeaseAnswer::Writer => return Look::Wait(Wait::Busy),
            LeaseAnswer::NotHere => false,
        };
        let proof = match prove(leased, identity, ticket) {
            Ok(proof) => proof,
            Err(end) => return end,
        };
        let map = match leased && identity.size > self.bounds.map_above {
            true => map::LeasedMap::new(&file, identity.size),
            false => None,
        };
        if map.is_none() {
            match self.fill(&file, identity.size) {
                Ok(true) => {}
                Ok(false) => return Look::Wait(Wait::Changed(identity)),
                Err(err) => return trouble(&err.into(), ticket, identity),
            }
        }
        if !leased {
            match look_fd(&file) {
                Ok(after) if after.identity == identity => {}
                Ok(after) => return Look::Wait(Wait::Changed(after.identity)),
                Err(err) => return trouble(&err, ticket, identity),
            }
        }
        let held = self.held.insert(Held { map, _file: file });
        let bytes = held.map.as_ref().map_or(self.buffer.as_slice(), map::LeasedMap::bytes);
        Look::Whole(Whole { bytes, sha: Sha::of(bytes), identity, proof })
    }

    /// Reads the whole file; `false` if it is not as long as it was said to be.
    fn fill(&mut self, file: &OwnedFd, size: u64) -> Result<bool, Errno> {
        let size = usize::try_from(size).map_err(|_| Errno::FBIG)?;
        self.buffer.resize(size + 1, 0);
        let mut filled = 0;
        while filled <= size {
            match rustix::io::read(file, &mut self.buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(err) => return Err(err),
            }
            // A regular file answers short only at its end, and the spare byte shows growth.
            if filled == size {
                break;
            }
        }
        self.buffer.truncate(filled);
        Ok(filled == size)
    }
}

fn refuse(reason: Reason, message: &str, seen: &Meta) -> Look<'static> {
    Look::Refuse { reason, message: message.to_owned(), identity: seen.identity }
}

/// Which proof holds, or what to wait for.
fn prove(leased: bool, identity: Identity, ticket: &Ticket) -> Result<Proof, Look<'static>> {
    if leased {
        return Ok(Proof::Lease);
    }
    match (ticket.hint, ticket.expected) {
        (Hint::Renamed, None) => Ok(Proof::Rename),
        (hint, Some(expected)) if expected == identity => {
            Ok(if hint == Hint::Closed { Proof::Close } else { Proof::Quiet })
        }
        (_, Some(_)) if ticket.last_chance => Err(Look::Refuse {
            reason: Reason::Unstable,
            message:
                "kept changing under every look (20 rounds or 10 min); write it elsewhere and rename it in"
                    .into(),
            identity,
        }),
        (_, Some(_)) => Err(Look::Wait(Wait::Changed(identity))),
        (_, None) => Err(Look::Wait(Wait::Unproved(identity))),
    }
}

const fn is_short(err: Errno) -> bool {
    matches!(err, Errno::MFILE | Errno::NFILE | Errno::NOMEM)
}

/// Sorts an error of look, open or read by what happens next.
fn trouble(err: &io::Error, ticket: &Ticket, identity: Identity) -> Look<'static> {
    match err.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::ACCESS | Errno::PERM) if ticket.last_chance => Look::Refuse {
            reason: Reason::Unreadable,
            message: format!(
                "cannot be opened for 30 s: {err}; make it group-readable (chmod g+r) before renaming it in"
            ),
            identity,
        },
        Some(Errno::ACCESS | Errno::PERM) => Look::Wait(Wait::Unreadable),
        Some(Errno::AGAIN) if ticket.last_chance => Look::Refuse {
            reason: Reason::Lease,
            message: "another process held a lease on it for 10 min".into(),
            identity,
        },
        Some(Errno::AGAIN) => Look::Wait(Wait::Leased),
        // Short of descriptors or memory: never the file's fault, and it passes.
        Some(err) if is_short(err) => Look::Wait(Wait::Busy),
        _ => Look::Wait(Wait::IoError),
    }
}
