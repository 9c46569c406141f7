//! The dedup index: 64-bit fingerprint → ledger row, packed, in memory.
//!
//! Open addressing with linear probing in 128 shards. A slot is 12 bytes: 56 bits of the fingerprint
//! and 40 bits of the row; seven more bits of the fingerprint choose the shard. A shard grows by half
//! when it is four fifths full, so a key costs 15 to 23 bytes and growth never holds more than one
//! shard (1/128) twice. The index only *suggests* a row: every hit is confirmed in the ledger, so a
//! collision costs a lookup, never a wrong judgement.

const SHARD_BITS: u32 = 7;
const PRINT_BITS: u32 = 56;
const ROW_BITS: u32 = 40;
const FIRST_CAPACITY: usize = 16;

/// Fingerprint → row. Rows are 1 … 2^40 − 1.
#[derive(Debug)]
pub struct Index {
    shards: Box<[Shard]>,
    len: usize,
}

#[derive(Debug, Default, Clone)]
struct Shard {
    slots: Box<[Slot]>,
    len: usize,
}

/// `[print bits 0–31, print bits 32–55 and row bits 32–39, row bits 0–31]`; row 0 marks a free slot.
#[derive(Debug, Default, Clone, Copy)]
struct Slot([u32; 3]);

impl Slot {
    fn new(print: u64, row: u64) -> Self {
        let (low, high) = (print as u32, (print >> 32) as u32);
        Slot([low, (high << 8) | (row >> 32) as u32 & 0xff, row as u32])
    }

    fn print(self) -> u64 {
        u64::from(self.0[1] >> 8) << 32 | u64::from(self.0[0])
    }

    fn row(self) -> u64 {
        u64::from(self.0[1] & 0xff) << 32 | u64::from(self.0[2])
    }

    fn is_free(self) -> bool {
        self.row() == 0
    }
}

impl Shard {
    fn home(&self, print: u64) -> usize {
        let scaled = u128::from(print) * self.slots.len() as u128;
        (scaled >> PRINT_BITS) as usize
    }

    fn next(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() { 0 } else { at + 1 }
    }

    /// The slot that holds `print`, or the free one where it would go.
    fn find(&self, print: u64) -> usize {
        let mut at = self.home(print);
        while !self.slots[at].is_free() && self.slots[at].print() != print {
            at = self.next(at);
        }
        at
    }

    fn grow(&mut self) {
        let capacity = (self.slots.len() + self.slots.len() / 2).max(FIRST_CAPACITY);
        let old = std::mem::replace(&mut self.slots, vec![Slot::default(); capacity].into_boxed_slice());
        for slot in old.into_iter().filter(|slot| !slot.is_free()) {
            let at = self.find(slot.print());
            self.slots[at] = slot;
        }
    }

    /// Frees `hole` and moves later slots of the same run back, so that no run is ever broken.
    fn free(&mut self, mut hole: usize) {
        let mut at = hole;
        loop {
            at = self.next(at);
            let slot = self.slots[at];
            if slot.is_free() {
                break;
            }
            let home = self.home(slot.print());
            let stays = if hole <= at { hole < home && home <= at } else { hole < home || home <= at };
            if !stays {
                self.slots[hole] = slot;
                hole = at;
            }
        }
        self.slots[hole] = Slot::default();
        self.len -= 1;
    }
}

impl Default for Index {
    fn default() -> Self {
        Index { shards: vec![Shard::default(); 1 << SHARD_BITS].into_boxed_slice(), len: 0 }
    }
}

impl Index {
    fn place(fingerprint: u64) -> (usize, u64) {
        ((fingerprint >> (64 - SHARD_BITS)) as usize, fingerprint & ((1 << PRINT_BITS) - 1))
    }

    /// The row last set for this fingerprint.
    pub fn get(&self, fingerprint: u64) -> Option<u64> {
        let (shard, print) = Self::place(fingerprint);
        let shard = &self.shards[shard];
        if shard.len == 0 {
            return None;
        }
        let slot = shard.slots[shard.find(print)];
        (!slot.is_free()).then(|| slot.row())
    }

    /// Sets the row of a fingerprint and returns the one it had.
    pub fn set(&mut self, fingerprint: u64, row: u64) -> Option<u64> {
        debug_assert!(row > 0 && row >> ROW_BITS == 0, "rows are 40 bits and never 0");
        let (shard, print) = Self::place(fingerprint);
        let shard = &mut self.shards[shard];
        if (shard.len + 1) * 5 > shard.slots.len() * 4 {
            shard.grow();
        }
        let at = shard.find(print);
        let before = shard.slots[at];
        shard.slots[at] = Slot::new(print, row);
        if !before.is_free() {
            return Some(before.row());
        }
        shard.len += 1;
        self.len += 1;
        None
    }

    /// Forgets a fingerprint if it still leads to `row`.
    pub fn remove(&mut self, fingerprint: u64, row: u64) -> bool {
        let (shard, print) = Self::place(fingerprint);
        let shard = &mut self.shards[shard];
        if shard.len == 0 {
            return false;
        }
        let at = shard.find(print);
        if shard.slots[at].is_free() || shard.slots[at].row() != row {
            return false;
        }
        shard.free(at);
        self.len -= 1;
        true
    }

    /// Keys held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory of all slots and shards in bytes.
    pub fn bytes(&self) -> usize {
        let slots: usize = self.shards.iter().map(|shard| shard.slots.len()).sum();
        slots * size_of::<Slot>() + self.shards.len() * size_of::<Shard>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn spread(n: u64) -> u64 {
        (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (n << 7)
    }

    #[test]
    fn a_million_keys_cost_at_most_thirty_bytes_each() {
        let mut index = Index::default();
        for n in 1..=1_000_000u64 {
            index.set(spread(n), n);
            if n.is_power_of_two() && n > 100_000 {
                assert!(index.bytes() as u64 <= n * 30, "{} bytes at {n} keys", index.bytes());
            }
        }
        assert_eq!(index.len(), 1_000_000);
        assert!(index.bytes() <= 30_000_000, "{} bytes", index.bytes());
        assert!((1..=1_000_000).all(|n| index.get(spread(n)) == Some(n)));
    }

    #[test]
    fn rows_beyond_32_bits_are_kept_whole() {
        let mut index = Index::default();
        let row = (1 << 40) - 1;
        assert_eq!(index.set(u64::MAX, row), None);
        assert_eq!(index.set(0, row - 1), None);
        assert_eq!(index.get(u64::MAX), Some(row));
        assert_eq!(index.get(0), Some(row - 1));
    }

    #[test]
    fn a_key_that_leads_elsewhere_by_now_is_not_removed() {
        let mut index = Index::default();
        index.set(7, 1);
        assert_eq!(index.set(7, 2), Some(1));
        assert!(!index.remove(7, 1));
        assert!(index.remove(7, 2));
        assert!(index.is_empty());
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_plain_map(acts in prop::collection::vec((0u64..400, 1u64..50, any::<bool>()), 1..2_000)) {
            let mut index = Index::default();
            let mut model = HashMap::new();
            for (key, row, keep) in acts {
                // Few distinct prints in one shard: long runs, wrapped around the end.
                let print = if key % 2 == 0 { key << 47 } else { (1 << 56) - 1 - key };
                if keep {
                    prop_assert_eq!(index.set(print, row), model.insert(print, row));
                } else {
                    let held = model.get(&print) == Some(&row);
                    prop_assert_eq!(index.remove(print, row), held);
                    if held { model.remove(&print); }
                }
                prop_assert_eq!(index.len(), model.len());
            }
            for (print, row) in model {
                prop_assert_eq!(index.get(print), Some(row));
            }
        }
    }
}
