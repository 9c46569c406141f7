//! What the packages of the targets used last hold, so that a delivery need not ask the disk.
//!
//! Two generations of at most 8,192 targets: what is used moves to the young one, and when that is
//! full the old one is dropped. At most 16,384 targets, some 2.5 MB.

use std::collections::HashMap;
use std::mem;

use crate::fate::Id;
use crate::intent::Target;

const GENERATION: usize = 8192;

/// What one package holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// Its newest intent, if that was legible.
    pub(super) id: Option<Id>,
    /// The revision that this intent made.
    pub(super) revision: u64,
    /// True while there is no workload document that an intent without scale effect has to keep.
    pub(super) bare: bool,
}

/// A bounded map that forgets what has not been used for long.
#[derive(Debug, Default)]
pub(super) struct Recent {
    young: HashMap<Target, Known>,
    old: HashMap<Target, Known>,
}

impl Recent {
    /// What is remembered of `target`.
    pub(super) fn get(&mut self, target: &Target) -> Option<Known> {
        if let Some(known) = self.young.get(target) {
            return Some(*known);
        }
        let (target, known) = self.old.remove_entry(target)?;
        self.insert(target, known);
        Some(known)
    }

    /// Remembers `known`.
    pub(super) fn put(&mut self, target: &Target, known: Known) {
        match self.young.get_mut(target) {
            Some(place) => *place = known,
            None => self.insert(target.clone(), known),
        }
    }

    /// Forgets `target`, after which the disk is asked.
    pub(super) fn forget(&mut self, target: &Target) {
        self.young.remove(target);
        self.old.remove(target);
    }

    fn insert(&mut self, target: Target, known: Known) {
        if self.young.len() >= GENERATION {
            self.old = mem::take(&mut self.young);
        }
        self.old.remove(&target);
        self.young.insert(target, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intent::TargetKind;

    fn target(number: usize) -> Target {
        Target {
            namespace: "ns".into(),
            kind: TargetKind::Deployment,
            name: format!("nf-{number}").into_boxed_str(),
        }
    }

    fn known(revision: u64) -> Known {
        Known { id: Some(Id(revision)), revision, bare: false }
    }

    #[test]
    fn what_is_used_stays_and_what_is_not_used_goes() {
        let mut recent = Recent::default();
        for number in 0..10 * GENERATION {
            recent.put(&target(number), known(number as u64));
            assert_eq!(recent.get(&target(0)), Some(known(0)));
        }
        assert_eq!(recent.get(&target(1)), None);
        assert!(recent.young.len() + recent.old.len() <= 2 * GENERATION);
    }

    #[test]
    fn a_target_is_remembered_once_and_forgotten_wholly() {
        let mut recent = Recent::default();
        recent.put(&target(0), known(1));
        recent.old = mem::take(&mut recent.young);
        recent.put(&target(0), known(2));
        recent.forget(&target(0));
        assert_eq!(recent.get(&target(0)), None);
    }
}
