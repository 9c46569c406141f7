//! A file mapped for reading, and the argument why it cannot change or shrink underneath.
#![allow(unsafe_code)]

use std::os::fd::OwnedFd;

use memmap2::{Mmap, MmapOptions};

/// A read-only mapping that exists only while a read lease on its file is held.
#[derive(Debug)]
pub(super) struct LeasedMap(Mmap);

impl LeasedMap {
    /// Maps `size` bytes of a file on which the caller holds a read lease and keeps it until the
    /// mapping is dropped; `None` if the kernel will not map it (the caller reads instead).
    pub(super) fn new(file: &OwnedFd, size: u64) -> Option<LeasedMap> {
        let length = usize::try_from(size).ok()?;
        // SAFETY: a mapping is unsound when its file changes, and ends the process by SIGBUS when the
        // file is shortened. The caller holds a read lease (F_RDLCK): the kernel granted it because
        // no descriptor open for writing and no shared writable mapping existed, and it now holds up
        // every open for writing and every truncate(2) of the file. It stops doing so only
        // `lease-break-time` (45 s by default) after somebody asked; `Reader` drops the mapping before the
        // next file is looked at, and hashing and parsing of a file within `intake.max_size` take
        // milliseconds (SHA-256 of 5 MB: 3.4 ms), far below the 5 s that are allowed.
        let map = unsafe { MmapOptions::new().len(length).map(file) };
        map.ok().map(LeasedMap)
    }

    /// The file's bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
