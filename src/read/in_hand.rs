//! The poison guard's note: which file each worker has in hand, readable after the process died.
//!
//! `<state>/in-hand` holds one slot of 256 bytes per worker, written before a file is read:
//!
//! ```text
//! 0..2    length of the name in bytes, little endian; 0 = nothing in hand
//! 2..256  the first 254 bytes of the name
//! ```
//!
//! A plain write into the page cache survives the death of the process, which is all this guards
//! against; it is never flushed. A slot is cleared when its worker runs out of work.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{pread, pwrite};

const SLOT: usize = 256;
const NAME: usize = SLOT - 2;

/// One worker's slot.
#[derive(Debug)]
pub struct InHand {
    file: OwnedFd,
    offset: u64,
    taken: bool,
}

/// A file that was in a worker's hand when the last process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// The first 246 bytes of its name.
    pub name: Vec<u8>,
}

impl InHand {
    /// The slot of worker `number` in the state directory.
    pub fn open(state: &Path, number: u16) -> io::Result<InHand> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = openat(CWD, state.join("in-hand"), flags, Mode::from_raw_mode(0o600))?;
        Ok(InHand { file, offset: u64::from(number) * SLOT as u64, taken: false })
    }

    /// Notes that `name` is about to be read. An unwritable note is no reason to refuse the file.
    pub fn take(&mut self, name: &[u8]) {
        let mut slot = [0u8; SLOT];
        let length = name.len().min(NAME);
        slot[..2].copy_from_slice(&u16::try_from(length).unwrap_or(0).to_le_bytes());
        slot[2..2 + length].copy_from_slice(&name[..length]);
        self.taken = pwrite(&self.file, &slot, self.offset).is_ok();
    }

    /// Notes that nothing is in hand; costs nothing if that is already so.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.taken) {
            let _ = pwrite(&self.file, &[0u8; SLOT], self.offset);
        }
    }

    /// What the last process had in hand; the slots are emptied.
    pub fn suspects(state: &Path) -> io::Result<Vec<Suspect>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = openat(CWD, state.join("in-hand"), flags, Mode::from_raw_mode(0o600))?;
        let mut found = Vec::new();
        let mut slot = [0u8; SLOT];
        let mut offset = 0;
        while pread(&file, &mut slot[..], offset)? == SLOT {
            let length = usize::from(u16::from_le_bytes([slot[0], slot[1]])).min(NAME);
            if length > 0 {
                found.push(Suspect { name: slot[2..2 + length].to_vec() });
            }
            offset += SLOT as u64;
        }
        rustix::fs::ftruncate(&file, 0)?;
        Ok(found)
    }
}

impl Suspect {
    /// True if this note is about `name`.
    pub fn names(&self, name: &[u8]) -> bool {
        name[..name.len().min(NAME)] == self.name[..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_hand_is_named_after_the_process_died() {
        let state = tempfile::tempdir().unwrap();
        let long = vec![b'x'; 255];
        InHand::open(state.path(), 1).unwrap().take(&long);
        let mut other = InHand::open(state.path(), 0).unwrap();
        other.take(b"intent-1.json");
        other.clear();
        let suspects = InHand::suspects(state.path()).unwrap();
        assert_eq!(suspects.len(), 1);
        assert!(suspects[0].names(&long));
        assert_eq!(InHand::suspects(state.path()).unwrap(), []);
    }
}
