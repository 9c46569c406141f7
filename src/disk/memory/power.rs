//! What a power cut leaves of a [`MemoryDisk`].
//!
//! Names and contents reach the platter apart from each other. A change of names survives or not by
//! the toss of a coin, both names of a rename together; once one is lost, every later change of the
//! same names is lost too, so that each file goes through its history in order. The content of a file
//! is that of some moment since the last flush, and what was being written then may be whole, a
//! beginning, or its full length with zeros at the end; a new file may have its name and no bytes.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, Ino, MemoryDisk, Slot, Tree};

/// What the file system promises without being asked to flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// Nothing (XFS, ext4 with `noauto_da_alloc`): a file renamed over another may come out empty.
    Nothing,
    /// The content of a file reaches the platter before the rename that puts it in the place of
    /// another (ext4 by default, btrfs). New names and renamed directories carry no such promise.
    ContentBeforeReplace,
}

impl MemoryDisk {
    /// The disk as it is found after a power cut at this moment; this one is left as it is.
    pub fn power_cut(&self, seed: u64, promise: Promise) -> MemoryDisk {
        let state = self.state.lock();
        let mut dice = Dice::new(seed);
        let mut tree = state.durable.clone();
        let written = names(&mut tree, &state.journal, promise, &mut dice);
        contents(&mut tree, &state.journal, &written, &mut dice);
        MemoryDisk::boot(tree, state.next, state.tick)
    }
}

/// Applies the changes of names that survive. For each file that must be whole then: how many of its
/// contents are known to have been written.
fn names(tree: &mut Tree, journal: &[Change], promise: Promise, dice: &mut Dice) -> BTreeMap<Ino, usize> {
    let luck = dice.below(9);
    let mut lost: BTreeSet<&Slot> = BTreeSet::new();
    let mut versions: BTreeMap<Ino, usize> = BTreeMap::new();
    let mut written = BTreeMap::new();
    for change in journal {
        match change {
            Change::Made(ino, inode) => {
                tree.inodes.insert(*ino, inode.clone());
            }
            Change::Written(ino, _) => *versions.entry(*ino).or_default() += 1,
            Change::Named { slots, over } => {
                if dice.below(8) >= luck || slots.iter().any(|(slot, _)| lost.contains(slot)) {
                    lost.extend(slots.iter().map(|(slot, _)| slot));
                    continue;
                }
                for (slot, ino) in slots {
                    tree.set(slot, *ino);
                    if let (true, Promise::ContentBeforeReplace, Some(ino)) = (*over, promise, ino) {
                        written.insert(*ino, versions.get(ino).copied().unwrap_or(0));
                    }
                }
            }
        }
    }
    written
}

/// Gives every file written since the flush the content of some moment since.
fn contents(tree: &mut Tree, journal: &[Change], written: &BTreeMap<Ino, usize>, dice: &mut Dice) {
    let mut versions: BTreeMap<Ino, Vec<&Vec<u8>>> = BTreeMap::new();
    for change in journal {
        if let Change::Written(ino, bytes) = change {
            versions.entry(*ino).or_default().push(bytes);
        }
    }
    for (ino, versions) in versions {
        let Some(inode) = tree.inodes.get_mut(&ino) else { continue };
        let sure = written.get(&ino).copied().unwrap_or(0);
        let reached = sure + dice.below(versions.len() - sure + 1);
        let Some(last) = reached.checked_sub(1) else { continue };
        let before = last.checked_sub(1).map_or(&inode.bytes, |before| versions[before]);
        // What was only appended to keeps what it had.
        let safe = if versions[last].starts_with(before) { before.len() } else { 0 };
        inode.bytes.clone_from(versions[last]);
        if reached > sure {
            tear(&mut inode.bytes, safe, dice);
        }
    }
}

fn tear(bytes: &mut Vec<u8>, safe: usize, dice: &mut Dice) {
    let kept = safe + dice.below(bytes.len() - safe + 1);
    match dice.below(4) {
        0 => bytes.truncate(kept),
        1 => bytes[kept..].fill(0),
        _ => {}
    }
}

/// xorshift64*: small, seeded, the same everywhere.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        // The generator stands still at zero and starts slowly from seeds with few bits.
        Dice((seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1)
    }

    /// A number from 0 to `bound` - 1.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(drawn).unwrap_or(0) % bound.max(1)
    }
}
