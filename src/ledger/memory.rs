//! What the ledger keeps in memory about its rows, and how a batch that fails is taken back.
//!
//! Held: the dedup index (at most `dedup_keys` keys), the newest ctime of each target (at most 65,536
//! targets), one entry for every pending row and for every unfiled one, and a few counters. All of it
//! follows from the tables and is rebuilt at start. Every change within a batch is noted in an undo
//! list until the batch is committed.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use super::index::Index;
use super::row::kind_code;
use crate::config::DedupScope;
use crate::fate::{Fate, Sha};
use crate::intent::Target;

/// Targets whose newest ctime is known; beyond it the longest unheard-of half is forgotten.
const TARGETS: usize = 65_536;

/// How a row was judged when it was accepted; the stored number of `intent.judged`. Append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    /// To be delivered.
    Open = 0,
    /// The worker's verdict.
    Verdict = 1,
    /// Equal to an earlier one.
    Duplicate = 2,
    /// Older than an intent already accepted for its target.
    Older = 3,
}

impl Judgement {
    /// The judgement with this stored number.
    pub(super) fn from_code(code: u8) -> Option<Self> {
        [Judgement::Open, Judgement::Verdict, Judgement::Duplicate, Judgement::Older]
            .into_iter()
            .find(|judgement| *judgement as u8 == code)
    }

    /// True for rows that later ones are compared with.
    pub(super) fn is_valid(self) -> bool {
        matches!(self, Judgement::Open | Judgement::Older)
    }
}

/// What the name of a valid row had shown before it; the stored `intent.former`, from which the
/// second keys of a name are rebuilt without looking at other rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Former {
    /// No other content: one key for the name is enough (NULL).
    Same,
    /// This very content only, until now (32 bytes).
    Only(Sha),
    /// Several contents already (no bytes).
    Several,
}

/// Numbers that go up, and the balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Marks {
    /// Of the next accepted row.
    pub(super) next_seq: u64,
    /// Of the next end.
    pub(super) next_no: u64,
    /// Every end up to it is closed, but for the unfiled.
    pub(super) closed_no: u64,
    /// Payloads of ends up to it are removed, but for the unfiled.
    pub(super) swept_no: u64,
    /// Rows before it say nothing about the order of files: the wall clock went back after them.
    pub(super) floor: u64,
    /// Rows held.
    pub(super) accepted: u64,
    /// Ends held, by fate.
    pub(super) fates: [u64; Fate::ALL.len()],
}

#[derive(Debug)]
enum Undo {
    Key(u64, Option<u64>),
    Target(u64, Option<(i64, u64)>),
    Opened(u64),
    Ended(u64, i64),
    Unfiled(u64, Option<u64>),
}

/// The ledger's memory.
#[derive(Debug)]
pub(super) struct Memory {
    scope: DedupScope,
    hasher: RandomState,
    pub(super) index: Index,
    targets: HashMap<u64, (i64, u64)>,
    /// Pending rows and their age at sighting.
    pub(super) open: BTreeMap<u64, i64>,
    /// Ended rows that are exceptions to `closed_no`, with a fingerprint of their names.
    pub(super) unfiled: BTreeMap<u64, u64>,
    /// The newest unfiled row of each such fingerprint.
    stuck: HashMap<u64, u64>,
    pub(super) marks: Marks,
    /// Rows up to it are no longer in the index.
    pub(super) forgotten: u64,
    saved: Marks,
    undo: Vec<Undo>,
}

impl Memory {
    pub(super) fn new(scope: DedupScope, marks: Marks) -> Self {
        Memory {
            scope,
            hasher: RandomState::new(),
            index: Index::default(),
            targets: HashMap::new(),
            open: BTreeMap::new(),
            unfiled: BTreeMap::new(),
            stuck: HashMap::new(),
            marks,
            forgotten: 0,
            saved: marks,
            undo: Vec::new(),
        }
    }

    fn print(&self, domain: u8, parts: &[&[u8]]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u8(domain);
        for part in parts {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        hasher.finish()
    }

    /// The key whose newest row a file is compared with: its name, or its content.
    pub(super) fn first_key(&self, name: &[u8], sha: &Sha) -> u64 {
        match self.scope {
            DedupScope::NameAndContent => self.name_key(name),
            DedupScope::Content => self.print(b's', &[&sha.0]),
        }
    }

    /// The key of a name alone.
    pub(super) fn name_key(&self, name: &[u8]) -> u64 {
        self.print(b'n', &[name])
    }

    /// The key of a content that a name with several contents has shown.
    pub(super) fn content_key(&self, name: &[u8], sha: &Sha) -> u64 {
        self.print(b'c', &[name, &sha.0])
    }

    /// The key of a target.
    fn target_key(&self, target: &Target) -> u64 {
        self.print(b't', &[target.namespace.as_bytes(), &[kind_code(target.kind)], target.name.as_bytes()])
    }

    fn set_key(&mut self, key: u64, seq: u64) {
        let before = self.index.set(key, seq);
        self.undo.push(Undo::Key(key, before));
    }

    /// What a valid row of this name adds to the keys, given the newest valid row of the name.
    pub(super) fn former(&self, name: &[u8], sha: &Sha, newest: Option<&Sha>) -> Former {
        let shown = |sha| self.index.get(self.content_key(name, sha)).is_some();
        match newest {
            _ if self.scope == DedupScope::Content => Former::Same,
            None => Former::Same,
            Some(before) if shown(before) => Former::Several,
            Some(before) if before == sha => Former::Same,
            Some(before) => Former::Only(*before),
        }
    }

    /// Makes a valid row findable.
    pub(super) fn learn(&mut self, seq: u64, name: &[u8], sha: &Sha, former: Former) {
        let first = self.first_key(name, sha);
        if let Former::Only(before) = former
            && let Some(newest) = self.index.get(first)
        {
            self.set_key(self.content_key(name, &before), newest);
        }
        if former != Former::Same {
            self.set_key(self.content_key(name, sha), seq);
        }
        self.set_key(first, seq);
    }

    /// Forgets the keys that still lead to a row.
    pub(super) fn forget(&mut self, seq: u64, name: &[u8], sha: &Sha) {
        for key in [self.first_key(name, sha), self.content_key(name, sha)] {
            if self.index.remove(key, seq) {
                self.undo.push(Undo::Key(key, Some(seq)));
            }
        }
    }

    /// The newest ctime accepted for a target, and its row.
    pub(super) fn newest_of(&self, target: &Target) -> Option<(i64, u64)> {
        self.targets.get(&self.target_key(target)).copied()
    }

    /// Notes the ctime of a valid row of a target.
    pub(super) fn note_target(&mut self, target: &Target, ctime: i64, seq: u64) {
        let key = self.target_key(target);
        let before = self.targets.get(&key).copied();
        if before.is_none_or(|(newest, _)| ctime >= newest) {
            self.targets.insert(key, (ctime, seq));
            self.undo.push(Undo::Target(key, before));
        }
    }

    /// The wall clock went back: what is known of ctimes says nothing about later files.
    pub(super) fn doubt_ctimes(&mut self) {
        self.targets.clear();
        self.marks.floor = self.marks.next_seq;
    }

    /// Draws the number of a new row.
    pub(super) fn accept(&mut self) -> u64 {
        let seq = self.marks.next_seq;
        self.marks.next_seq += 1;
        self.marks.accepted += 1;
        seq
    }

    /// Counts a new row as pending.
    pub(super) fn wait(&mut self, seq: u64, sighted_age: i64) {
        self.open.insert(seq, sighted_age);
        self.undo.push(Undo::Opened(seq));
    }

    /// Ends a pending row; its age at sighting, or nothing if it is not pending.
    pub(super) fn end(&mut self, seq: u64) -> Option<i64> {
        let sighted = self.open.remove(&seq)?;
        self.undo.push(Undo::Ended(seq, sighted));
        Some(sighted)
    }

    /// A row leaves the ledger.
    pub(super) fn remove(&mut self, fate: Fate) {
        self.marks.accepted -= 1;
        self.marks.fates[usize::from(fate.code())] -= 1;
    }

    /// Draws the number of an end.
    pub(super) fn finish(&mut self, fate: Fate) -> u64 {
        let no = self.marks.next_no;
        self.marks.next_no += 1;
        self.marks.fates[usize::from(fate.code())] += 1;
        no
    }

    /// Adds or removes an exception to `closed_no`.
    pub(super) fn set_unfiled(&mut self, seq: u64, name: Option<u64>) {
        let before = self.put_unfiled(seq, name);
        self.undo.push(Undo::Unfiled(seq, before));
    }

    fn put_unfiled(&mut self, seq: u64, name: Option<u64>) -> Option<u64> {
        let before = match name {
            Some(name) => self.unfiled.insert(seq, name),
            None => self.unfiled.remove(&seq),
        };
        if let Some(name) = name {
            let newest = self.stuck.entry(name).or_insert(seq);
            *newest = seq.max(*newest);
        } else if let Some(name) = before
            && self.stuck.get(&name) == Some(&seq)
        {
            self.stuck.remove(&name);
        }
        before
    }

    /// The newest unfiled row of a name.
    pub(super) fn unfiled_of(&self, name: &[u8]) -> Option<u64> {
        if self.stuck.is_empty() {
            return None;
        }
        self.stuck.get(&self.name_key(name)).copied()
    }

    /// The batch is on disk.
    pub(super) fn keep(&mut self) {
        self.undo.clear();
        self.saved = self.marks;
        if self.targets.len() > TARGETS {
            let mut rows: Vec<u64> = self.targets.values().map(|(_, seq)| *seq).collect();
            let half = rows.len() / 2;
            let (_, median, _) = rows.select_nth_unstable(half);
            self.targets.retain(|_, (_, seq)| *seq > *median);
        }
    }

    /// The batch is not on disk: everything is as it was before.
    pub(super) fn take_back(&mut self) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Key(key, Some(row)) => _ = self.index.set(key, row),
                Undo::Key(key, None) => {
                    if let Some(row) = self.index.get(key) {
                        self.index.remove(key, row);
                    }
                }
                Undo::Target(key, Some(before)) => _ = self.targets.insert(key, before),
                Undo::Target(key, None) => _ = self.targets.remove(&key),
                Undo::Opened(seq) => _ = self.open.remove(&seq),
                Undo::Ended(seq, sighted) => _ = self.open.insert(seq, sighted),
                Undo::Unfiled(seq, name) => _ = self.put_unfiled(seq, name),
            }
        }
        self.marks = self.saved;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intent::TargetKind;

    fn target() -> Target {
        Target { namespace: "ns".into(), kind: TargetKind::Deployment, name: "web".into() }
    }

    #[test]
    fn a_batch_that_fails_leaves_nothing_behind() {
        let mut memory = Memory::new(DedupScope::NameAndContent, Marks { next_seq: 1, ..Marks::default() });
        let (one, two) = (Sha([1; 32]), Sha([2; 32]));
        let seq = memory.accept();
        memory.learn(seq, b"a", &one, Former::Same);
        memory.note_target(&target(), 10, seq);
        memory.wait(seq, 0);
        memory.keep();
        let before = memory.marks;

        let next = memory.accept();
        memory.learn(next, b"a", &two, memory.former(b"a", &two, Some(&one)));
        memory.note_target(&target(), 20, next);
        memory.end(seq);
        memory.finish(Fate::Delivered);
        memory.set_unfiled(seq, Some(9));
        memory.take_back();

        assert_eq!(memory.marks, before);
        assert_eq!(memory.index.get(memory.name_key(b"a")), Some(seq));
        assert_eq!(memory.index.len(), 1);
        assert_eq!(memory.newest_of(&target()), Some((10, seq)));
        assert_eq!(memory.open.get(&seq), Some(&0));
        assert!(memory.unfiled.is_empty());
    }

    #[test]
    fn a_name_gets_a_second_key_only_with_its_second_content() {
        let mut memory = Memory::new(DedupScope::NameAndContent, Marks::default());
        let (one, two) = (Sha([1; 32]), Sha([2; 32]));
        memory.learn(1, b"a", &one, memory.former(b"a", &one, None));
        memory.learn(2, b"a", &one, memory.former(b"a", &one, Some(&one)));
        assert_eq!(memory.index.len(), 1);
        assert_eq!(memory.former(b"a", &two, Some(&one)), Former::Only(one));
        memory.learn(3, b"a", &two, Former::Only(one));
        assert_eq!(memory.index.len(), 3);
        assert_eq!(memory.index.get(memory.content_key(b"a", &one)), Some(2));
        assert_eq!(memory.former(b"a", &two, Some(&two)), Former::Several);
        memory.forget(2, b"a", &one);
        memory.forget(3, b"a", &two);
        assert!(memory.index.is_empty());
    }

    #[test]
    fn the_number_of_known_targets_is_bounded() {
        let mut memory = Memory::new(DedupScope::NameAndContent, Marks::default());
        for seq in 1..=(TARGETS as u64 + 1) {
            let name = format!("t{seq}").into();
            memory.note_target(&Target { name, ..target() }, 1, seq);
        }
        memory.keep();
        assert!(memory.targets.len() <= TARGETS);
        let newest = Target { name: format!("t{}", TARGETS + 1).into(), ..target() };
        assert!(memory.newest_of(&newest).is_some());
    }
}
