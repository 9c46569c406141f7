//! Names in flight: never two workers on one name, and no change of a name goes unseen.
//!
//! A name is *free*, *busy* (a ticket or a worker holds it) or *known* (accepted with an identity and
//! not yet filed); it can be known and busy at once, when another file came under the name of one
//! that still waits. A [`Flight`] is the owned right to a name: it starts busy, [`Flight::accepted`]
//! makes it known, dropping it gives the name back. Whoever finds a name busy leaves a hint behind;
//! when the name stops being busy, name and hint come out of [`Flights::again`].
//!
//! Every act is one short critical section, so a hint is either left before the name stops being
//! busy, and comes out again, or finds it no longer busy. Nothing is lost between.
//!
//! Memory: 17 bytes a slot for a known name (64-bit keyed hash of the name, 64-bit keyed hash of the
//! identity, one control byte), hence at most 40 bytes a name at the worst filling of the table. Two
//! names with one hash, 1 in 10⁹ for 150,000 names, cost a delay until the next scan and nothing else.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::fmt;
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::Hook;
use crate::debounce::Hint;
use crate::disk::Identity;

/// Tables above this many slots are given back when they are nearly empty.
const SHRINK_ABOVE: usize = 4_096;

/// Hands a keyed hash through unchanged: the keys are hashes already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

type ByHash<V> = HashMap<u64, V, BuildHasherDefault<AsIs>>;

/// A name that was seen again while it was busy.
type Marked = (Box<[u8]>, Hint);

#[derive(Default)]
struct Table {
    /// Names that a ticket or a worker holds, with what was seen of them meanwhile.
    busy: ByHash<Option<Box<Marked>>>,
    /// Accepted names that are not filed yet, with the print of the newest accepted file.
    known: ByHash<u64>,
    /// Names that were seen while busy and are no longer busy.
    again: Vec<Marked>,
    /// Whether somebody waits for `busy` to run empty.
    idle_wanted: bool,
}

struct Shared {
    keys: RandomState,
    table: Mutex<Table>,
    bell: OnceLock<Hook>,
}

impl Shared {
    fn ring(&self) {
        if let Some(bell) = self.bell.get() {
            bell();
        }
    }

    fn print(&self, identity: &Identity) -> u64 {
        self.keys.hash_one(identity)
    }

    /// Ends the busy time of `key`; true when the bell has to be rung.
    fn land(&self, table: &mut Table, key: u64) -> bool {
        let marked = table.busy.remove(&key).flatten();
        let seen_again = marked.is_some();
        table.again.extend(marked.map(|marked| *marked));
        shrink(&mut table.busy);
        seen_again || (table.idle_wanted && table.busy.is_empty())
    }
}

fn shrink<V>(table: &mut ByHash<V>) {
    if table.capacity() > SHRINK_ABOVE && table.len() < table.capacity() / 8 {
        table.shrink_to(table.len() * 2);
    }
}

/// The names in flight; clones share one table.
#[derive(Clone)]
pub struct Flights {
    shared: Arc<Shared>,
}

/// What became of a claim.
#[derive(Debug)]
pub enum Claim {
    /// The name was free: it is the caller's until the flight is dropped.
    Taken(Flight),
    /// Somebody has it; the hint was left behind.
    Busy,
    /// A file of this name is accepted and not yet filed. Whether the name holds another file by
    /// now is for [`Flights::claim_changed`].
    Known,
}

/// What is known of a name that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Nobody has it.
    Free,
    /// Somebody has it; the hint was left behind.
    Busy,
    /// A file of this name is accepted and not yet filed.
    Known,
}

impl Default for Flights {
    fn default() -> Self {
        Flights::new()
    }
}

impl Flights {
    /// No names.
    pub fn new() -> Self {
        Flights {
            shared: Arc::new(Shared {
                keys: RandomState::new(),
                table: Mutex::default(),
                bell: OnceLock::new(),
            }),
        }
    }

    /// Sets what is called, from the thread that ends a flight, when [`Flights::again`] has
    /// something, or when the last busy name landed and [`Flights::tell_idle`] is on. Only the
    /// first call counts.
    pub fn on_again(&self, bell: impl Fn() + Send + Sync + 'static) {
        // A second bell would belong to a second watch, which one table never has.
        let _ = self.shared.bell.set(Box::new(bell));
    }

    /// Whether the bell also rings when no name is busy any more.
    pub fn tell_idle(&self, wanted: bool) {
        self.shared.table.lock().idle_wanted = wanted;
    }

    /// What is known of `name`; a busy one gets the hint.
    pub fn notice(&self, name: &[u8], hint: Hint) -> Notice {
        let key = self.key(name);
        let mut table = self.shared.table.lock();
        if leave_hint(&mut table, key, name, hint) {
            Notice::Busy
        } else if table.known.contains_key(&key) {
            Notice::Known
        } else {
            Notice::Free
        }
    }

    /// Takes a free name.
    pub fn claim(&self, name: &[u8], hint: Hint) -> Claim {
        let key = self.key(name);
        let mut table = self.shared.table.lock();
        if leave_hint(&mut table, key, name, hint) {
            Claim::Busy
        } else if table.known.contains_key(&key) {
            Claim::Known
        } else {
            table.busy.insert(key, None);
            Claim::Taken(self.flight(key, None))
        }
    }

    /// Takes a name that is known, or free by now, if the file under it is not the known one: the
    /// second flight of one name. `None` when it is the same file, or somebody has the name.
    pub fn claim_changed(&self, name: &[u8], identity: &Identity) -> Option<Flight> {
        let key = self.key(name);
        let print = self.shared.print(identity);
        let mut table = self.shared.table.lock();
        if table.known.get(&key) == Some(&print) {
            return None;
        }
        match table.busy.entry(key) {
            Entry::Occupied(_) => None,
            Entry::Vacant(free) => {
                free.insert(None);
                Some(self.flight(key, None))
            }
        }
    }

    /// True when `name` is known and `identity` is that of the newest file accepted under it.
    pub fn unchanged(&self, name: &[u8], identity: &Identity) -> bool {
        let key = self.key(name);
        self.shared.table.lock().known.get(&key) == Some(&self.shared.print(identity))
    }

    /// Makes a name known that was accepted by an earlier process and is not filed yet. Where
    /// several rows have one name they are to be remembered in acceptance order.
    pub fn remember(&self, name: &[u8], identity: &Identity) -> Flight {
        let key = self.key(name);
        let print = self.shared.print(identity);
        self.shared.table.lock().known.insert(key, print);
        self.flight(key, Some(print))
    }

    /// A flight of no name, for an intent whose file is not in the folder.
    pub fn apart(&self) -> Flight {
        // No file has an empty name, so no table knows this one.
        self.flight(self.key(b""), Some(0))
    }

    /// Takes the names that were seen while busy and no longer are, each with the hint that counts.
    pub fn again(&self) -> Vec<(Box<[u8]>, Hint)> {
        std::mem::take(&mut self.shared.table.lock().again)
    }

    /// True when [`Flights::again`] has something.
    pub fn has_again(&self) -> bool {
        !self.shared.table.lock().again.is_empty()
    }

    /// Names that a ticket or a worker holds.
    pub fn busy(&self) -> usize {
        self.shared.table.lock().busy.len()
    }

    /// Names that are accepted and not yet filed.
    pub fn known(&self) -> usize {
        self.shared.table.lock().known.len()
    }

    fn key(&self, name: &[u8]) -> u64 {
        self.shared.keys.hash_one(name)
    }

    fn flight(&self, key: u64, print: Option<u64>) -> Flight {
        Flight { shared: Arc::clone(&self.shared), key, print }
    }
}

fn leave_hint(table: &mut Table, key: u64, name: &[u8], hint: Hint) -> bool {
    let Some(mark) = table.busy.get_mut(&key) else { return false };
    match mark {
        Some(marked) => marked.1 = marked.1.then(hint),
        None => *mark = Some(Box::new((name.into(), hint))),
    }
    true
}

impl fmt::Debug for Flights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").field("busy", &self.busy()).field("known", &self.known()).finish()
    }
}

/// The right to a name; dropping it gives the name back.
pub struct Flight {
    shared: Arc<Shared>,
    key: u64,
    /// The print of the accepted file; `None` while busy.
    print: Option<u64>,
}

impl Flight {
    /// The file was read and judged: the name is no longer busy but known, and what is seen of
    /// this very file from now on is nothing new. A second call moves the identity.
    pub fn accepted(&mut self, identity: &Identity) {
        let print = self.shared.print(identity);
        let mut table = self.shared.table.lock();
        table.known.insert(self.key, print);
        let was_busy = self.print.replace(print).is_none();
        let ring = was_busy && self.shared.land(&mut table, self.key);
        drop(table);
        if ring {
            self.shared.ring();
        }
    }

    /// True after [`Flight::accepted`].
    pub fn is_accepted(&self) -> bool {
        self.print.is_some()
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut table = self.shared.table.lock();
        let ring = match self.print {
            None => self.shared.land(&mut table, self.key),
            Some(print) => {
                // A newer file of this name keeps its own entry.
                if table.known.get(&self.key) == Some(&print) {
                    table.known.remove(&self.key);
                    shrink(&mut table.known);
                }
                false
            }
        };
        drop(table);
        if ring {
            self.shared.ring();
        }
    }
}

impl fmt::Debug for Flight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight").field("accepted", &self.is_accepted()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_name_costs_at_most_forty_bytes_and_its_room_is_given_back() {
        const SLOT: usize = size_of::<(u64, u64)>() + 1;
        let flights = Flights::new();
        let mut held = Vec::new();
        for number in 0..120_000u64 {
            held.push(flights.remember(&number.to_le_bytes(), &Identity::default()));
            // hashbrown fills at most 7 of 8 slots.
            let bytes = |table: &Table| table.known.capacity() * 8 / 7 * SLOT;
            let table = flights.shared.table.lock();
            assert!(held.len() < 1_000 || bytes(&table) <= 40 * held.len());
        }
        held.clear();
        assert!(flights.shared.table.lock().known.capacity() <= SHRINK_ABOVE * 2);
    }
}
