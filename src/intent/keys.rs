//! Member names of the objects that are open, and how a second one of the same spelling is found.
//!
//! Names compare after unescaping. Up to 16 members an object compares them pairwise by a 32-bit
//! print, beyond that it sorts them: `n log n` whatever the names are, no hash to flood.

use super::locate;

/// Objects up to this many members compare pairwise.
const PAIRWISE: usize = 16;

/// One member name.
#[derive(Debug, Clone, Copy)]
struct Key {
    /// Offset of the opening quote in the document.
    quote: u32,
    /// Where the unescaped bytes begin: in the document, or in `Keys::unescaped`.
    at: u32,
    len: u32,
    /// Length and three bytes; different names rarely share it, equal names always.
    print: u32,
    escaped: bool,
}

/// The names of all open objects, innermost last.
#[derive(Debug, Default)]
pub(super) struct Keys {
    keys: Vec<Key>,
    unescaped: Vec<u8>,
    order: Vec<u32>,
}

impl Keys {
    /// How many names are open: where the next object's begin.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Forgets everything, keeps the room.
    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.unescaped.clear();
    }

    /// Gives room beyond `keep` bytes back.
    pub(super) fn give_back(&mut self, keep: usize) {
        self.clear();
        self.keys.shrink_to(keep / size_of::<Key>());
        self.unescaped.shrink_to(keep);
        self.order.clear();
        self.order.shrink_to(keep / size_of::<u32>());
    }

    /// Adds the name that stands in `raw[quote..end]`, quotes included.
    #[inline]
    pub(super) fn push(&mut self, raw: &[u8], quote: usize, end: usize, escaped: bool) {
        let (at, len) = if escaped {
            let at = self.unescaped.len();
            self.unescaped.extend_from_slice(locate::unescape(&raw[quote..end]).as_bytes());
            (at, self.unescaped.len() - at)
        } else {
            (quote + 1, end - quote - 2)
        };
        let mut key = Key { quote: quote as u32, at: at as u32, len: len as u32, print: 0, escaped };
        key.print = print(self.bytes(raw, key));
        self.keys.push(key);
    }

    /// The name number `index`, unescaped.
    pub(super) fn name<'a>(&'a self, raw: &'a [u8], index: usize) -> &'a [u8] {
        self.bytes(raw, self.keys[index])
    }

    /// Closes the object whose names begin at `from`. Calls `twice` with the numbers of each name that
    /// came before and of the first of its kind, and with both offsets.
    #[inline]
    pub(super) fn close(&mut self, raw: &[u8], from: usize, twice: impl FnMut(&Keys, Twice)) {
        match self.keys.len() - from {
            0 | 1 => {}
            2..=PAIRWISE => self.pairwise(raw, from, twice),
            _ => self.sorted(raw, from, twice),
        }
        self.keys.truncate(from);
    }

    fn pairwise(&self, raw: &[u8], from: usize, mut twice: impl FnMut(&Keys, Twice)) {
        for (later, key) in self.keys.iter().enumerate().skip(from) {
            let same =
                |first: &&Key| first.print == key.print && self.bytes(raw, **first) == self.bytes(raw, *key);
            if let Some(first) = self.keys[from..later].iter().find(same) {
                twice(self, Twice::of(later, *key, *first));
            }
        }
    }

    fn sorted(&mut self, raw: &[u8], from: usize, mut twice: impl FnMut(&Keys, Twice)) {
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        order.extend(from as u32..self.keys.len() as u32);
        let key = |index: u32| self.keys[index as usize];
        let spelled = |index: u32| (key(index).len, self.bytes(raw, key(index)));
        order.sort_unstable_by(|&a, &b| spelled(a).cmp(&spelled(b)).then(a.cmp(&b)));
        for run in order.chunk_by(|&a, &b| spelled(a) == spelled(b)) {
            for &later in &run[1..] {
                twice(self, Twice::of(later as usize, key(later), key(run[0])));
            }
        }
        self.order = order;
    }

    fn bytes<'a>(&'a self, raw: &'a [u8], key: Key) -> &'a [u8] {
        let from = if key.escaped { &self.unescaped[..] } else { raw };
        &from[key.at as usize..(key.at + key.len) as usize]
    }
}

/// A member name that its object has had before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Twice {
    /// Number of the later one, for [`Keys::name`].
    pub(super) index: usize,
    /// Offset of the later one.
    pub(super) at: usize,
    /// Offset of the first one.
    pub(super) first: usize,
}

impl Twice {
    fn of(index: usize, later: Key, first: Key) -> Twice {
        Twice { index, at: later.quote as usize, first: first.quote as usize }
    }
}

fn print(name: &[u8]) -> u32 {
    let Some((&last, _)) = name.split_last() else { return 0 };
    u32::from_le_bytes([name.len() as u8, name[0], name[name.len() / 2], last])
}
