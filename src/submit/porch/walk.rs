//! One group of intents into one revision of their package.
//!
//! # Order of writes
//!
//! 1. Our open revision is taken back to draft, or a draft is created: from the newest published
//!    revision, else from the blueprint, else by init ([`draft`]).
//! 2. The files, in one merge-patch. A refusal by content is halved in the same draft until the intent that
//!    fails alone is found; the others stay in it ([`content`]).
//! 3. Proposed, if the approval asks for it. 4. Published, if it asks for that; a 200 is final ([`stages`]).
//!
//! Every answer carries the version that the next write names, so nothing is read in between; only before the
//! first one is the package listed again if that was more than 60 s ago ([`super::shelf`]). After an answer
//! that may hide a done step, or a cache that went back, the object is read again and the walk goes on
//! from what the server shows, as long as its patience lasts; never under another workspace. What already
//! stands where it is wanted is not written again.

mod content;
mod draft;
mod stages;

use self::stages::Lifted;
use super::api::{Api, Class, Fault, Files, Revision, Stage};
use super::shelf::{Memory, Shelf, holds};
use super::trouble::{Patience, Trouble, may_heal};
use super::{Approval, Settings};
use crate::fate::{Lifecycle, Reason, Receipt, Sha};
use crate::package::Blueprints;
use crate::submit::{Delivery, Outcome};

/// Published revisions of a package in which a doubtful intent is looked for.
const LOOKED_THROUGH: usize = 16;

/// What a walk works with.
pub(super) struct Walk<'a> {
    pub(super) api: &'a dyn Api,
    pub(super) settings: &'a Settings,
    pub(super) memory: &'a mut Memory,
    pub(super) blueprints: Option<&'a mut Blueprints>,
    pub(super) package: String,
    pub(super) group: &'a [Delivery<'a>],
    pub(super) keys: Vec<Sha>,
    pub(super) outcomes: Vec<Option<Outcome>>,
    pub(super) patience: Patience,
    /// A step may have been done or undone behind our back: look before the draft is proposed.
    pub(super) doubt: bool,
    /// Hears every fault, for counting.
    pub(super) heard: &'a (dyn Fn(Class) + Send + Sync),
}

/// The revision that a walk is to fill.
enum Begun {
    /// A draft that holds what its origin gave it.
    New(Revision),
    /// A draft or proposal of ours that an earlier attempt left.
    Open(Revision),
    /// It was published by an earlier attempt.
    Done(Revision),
    /// The package is not what the listing said.
    Unlike(Fault),
}

fn lifecycle(stage: Stage) -> Lifecycle {
    match stage {
        Stage::Draft => Lifecycle::Draft,
        Stage::Proposed => Lifecycle::Proposed,
        Stage::Published | Stage::DeletionProposed => Lifecycle::Published,
    }
}

/// What the ledger and the status file keep of a revision.
pub(super) fn receipt(revision: &Revision, adopted: bool) -> Receipt {
    let number = if revision.number > 0 { revision.number.to_string() } else { String::new() };
    Receipt { name: revision.name.clone(), revision: number, lifecycle: lifecycle(revision.stage), adopted }
}

impl Walk<'_> {
    /// Goes all the way; one outcome for each intent of the group.
    pub(super) async fn run(mut self) -> Vec<Outcome> {
        let ended = self.go().await;
        if let Err(trouble) = &ended {
            self.memory.forget(&self.package);
            self.outcomes.iter_mut().for_each(|outcome| _ = outcome.get_or_insert_with(|| trouble.outcome()));
        }
        let unanswered = || Trouble::parked(Reason::SinkUnavailable, "porch: no answer".to_owned()).outcome();
        self.outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(unanswered)).collect()
    }

    async fn go(&mut self) -> Result<(), Trouble> {
        let doubtful = self.group.iter().any(|delivery| delivery.doubtful);
        let Some(begun) = self.start(doubtful).await? else { return Ok(()) };
        let begun = match begun {
            // An empty listing proves nothing: what it hid is there for one more look.
            Begun::Unlike(fault) => {
                (self.heard)(fault.class);
                match self.start(true).await? {
                    Some(Begun::Unlike(fault)) => return Err(self.fault(fault)),
                    Some(begun) => begun,
                    None => return Ok(()),
                }
            }
            begun => begun,
        };
        let left = self.left();
        match begun {
            Begun::New(revision) => {
                let (revision, files) = self.born_with(revision).await?;
                self.carry(revision, files, left, true).await
            }
            Begun::Open(revision) => self.go_on(revision, left).await,
            Begun::Done(revision) => self.found_done(&left, &revision).await,
            Begun::Unlike(fault) => Err(self.fault(fault)),
        }
    }

    /// What there is to go on with for the intents that were not found delivered; `None` if all were.
    async fn start(&mut self, anew: bool) -> Result<Option<Begun>, Trouble> {
        self.look(anew).await?;
        if anew {
            self.adopt().await?;
        }
        let left = self.left();
        if left.is_empty() {
            return Ok(None);
        }
        self.drop_outdated().await?;
        match self.shelf().open.clone() {
            Some(open) => Ok(Some(Begun::Open(open))),
            None => self.begin(&left).await.map(Some),
        }
    }

    /// An open revision of ours: up from where it stands if it holds everything, else from draft.
    async fn go_on(&mut self, open: Revision, left: Vec<usize>) -> Result<(), Trouble> {
        if open.stage == Stage::Proposed && self.settings.approval == Approval::Publish {
            let files = self.files(&open).await?;
            if left.iter().all(|&at| holds(&files, &self.keys[at].to_string())) {
                return self.finish(open, left).await;
            }
        }
        let revision = self.take_back(open).await?;
        let files = self.files(&revision).await?;
        self.doubt = false;
        // Nothing that was delivered is in a draft that was to be published.
        let ours_alone = self.settings.approval == Approval::Publish;
        self.carry(revision, files, left, ours_alone).await
    }

    /// From a draft to the end. `disposable`: nothing but intents without an end is in it.
    async fn carry(
        &mut self,
        revision: Revision,
        files: Files,
        left: Vec<usize>,
        disposable: bool,
    ) -> Result<(), Trouble> {
        let before = (!disposable).then(|| files.texts.clone());
        let (revision, kept) = self.fill(revision, files, left).await?;
        if kept.is_empty() && disposable {
            return self.discard(&revision).await;
        }
        match self.lift(revision, kept).await? {
            Lifted::To(revision, kept) => {
                self.deliver(&kept, &revision, false);
                Ok(())
            }
            Lifted::Unrendered { revision, kept, fault } => {
                self.unrendered(revision, &kept, fault, before).await
            }
        }
    }

    async fn finish(&mut self, revision: Revision, left: Vec<usize>) -> Result<(), Trouble> {
        match self.lift(revision, left).await? {
            Lifted::To(revision, kept) => {
                self.deliver(&kept, &revision, false);
                Ok(())
            }
            Lifted::Unrendered { fault, .. } => Err(self.fault(fault)),
        }
    }

    /// A revision with the name of these intents was published: those that it holds are delivered.
    async fn found_done(&mut self, left: &[usize], revision: &Revision) -> Result<(), Trouble> {
        let files = self.files(revision).await?;
        let (held, missing): (Vec<usize>, Vec<usize>) =
            left.iter().partition(|&&at| holds(&files, &self.keys[at].to_string()));
        self.deliver(&held, revision, true);
        match missing.is_empty() {
            true => Ok(()),
            // One of them was refused when it was made; among fewer it gets another name.
            false if !held.is_empty() => {
                Err(Trouble::at_once(format!("{} holds some of them", revision.name)))
            }
            false => {
                let message = format!("{} is published and does not hold its intent", revision.name);
                Err(Trouble::parked(Reason::SinkUnavailable, message))
            }
        }
    }

    fn left(&self) -> Vec<usize> {
        (0..self.group.len()).filter(|&at| self.outcomes[at].is_none()).collect()
    }

    fn shelf(&mut self) -> &mut Shelf {
        match self.memory.shelf(&self.package).is_some() {
            true => self.memory.shelf(&self.package).expect("it was there in the line before"),
            false => self.memory.know(&self.package, Shelf::default()),
        }
    }

    fn deliver(&mut self, members: &[usize], revision: &Revision, adopted: bool) {
        let known = self.shelf().latest().map_or(0, |latest| latest.number);
        if !adopted && revision.number > known + 1 {
            tracing::warn!(
                revision = revision.name,
                "revision {} starts from revision {known}: what somebody else published in between is not in it",
                revision.number
            );
        }
        self.shelf().settle(revision.clone());
        for &at in members {
            self.outcomes[at] = Some(Outcome::Delivered(receipt(revision, adopted)));
        }
    }

    fn reject(&mut self, members: &[usize], reason: Reason, message: &str) {
        for &at in members {
            self.outcomes[at] = Some(Outcome::Rejected { reason, message: message.to_owned() });
        }
    }

    fn fault(&self, fault: Fault) -> Trouble {
        (self.heard)(fault.class);
        fault.into()
    }

    /// A pause after `fault`, which is the end if there is no patience left.
    async fn wait(&mut self, fault: Fault) -> Result<(), Trouble> {
        (self.heard)(fault.class);
        match self.patience.pause().await {
            true => Ok(()),
            false => Err(fault.into()),
        }
    }

    /// Asks for the package's revisions if they are not known, or are not to be relied on.
    async fn look(&mut self, anew: bool) -> Result<(), Trouble> {
        let known = self.memory.shelf(&self.package).filter(|_| !anew);
        if known.as_ref().is_some_and(|known| !known.is_old()) {
            return Ok(());
        }
        let known = known.cloned();
        let revisions = self.api.revisions(&self.package).await.map_err(|fault| self.fault(fault))?;
        let listed = Shelf::of(revisions);
        let shelf = match known {
            Some(known) => known.renewed(listed),
            None => listed,
        };
        self.memory.forget(&self.package);
        self.memory.know(&self.package, shelf);
        Ok(())
    }

    /// Looks for doubtful intents in what is there; what is found there and stands high enough is delivered.
    async fn adopt(&mut self) -> Result<(), Trouble> {
        let ours: Vec<Revision> = self.shelf().ours().take(LOOKED_THROUGH).cloned().collect();
        for revision in ours {
            let wanted: Vec<usize> = self.left().into_iter().filter(|&at| self.group[at].doubtful).collect();
            if wanted.is_empty() || !self.is_high_enough(revision.stage) {
                continue;
            }
            let files = self.files(&revision).await?;
            let found: Vec<usize> =
                wanted.into_iter().filter(|&at| holds(&files, &self.keys[at].to_string())).collect();
            if !found.is_empty() {
                self.deliver(&found, &revision, true);
            }
        }
        Ok(())
    }

    fn is_high_enough(&self, stage: Stage) -> bool {
        match self.settings.approval {
            Approval::Draft => true,
            Approval::Propose => stage != Stage::Draft,
            Approval::Publish => stage == Stage::Published,
        }
    }

    /// The files of a revision. Those that are remembered hold as long as nothing went wrong: a write of
    /// somebody else would have made ours stale.
    async fn files(&mut self, revision: &Revision) -> Result<Files, Trouble> {
        let certain = !self.doubt || revision.stage == Stage::Published;
        if let Some(files) = self.memory.files(&revision.name).filter(|_| certain) {
            return Ok(files.clone());
        }
        let files = loop {
            match self.api.files(&revision.name).await {
                Ok(files) => break files,
                // The server showed the revision a moment ago: it is not down for long, and a package of many
                // revisions takes many such questions after a restart.
                Err(fault) if may_heal(fault.class) || fault.class == Class::Unavailable => {
                    self.wait(fault).await?;
                }
                Err(fault) => return Err(self.fault(fault)),
            }
        };
        self.memory.keep_files(&revision.name, None, files.clone());
        Ok(files)
    }
}
