//! One group of intents into one revision of their package.
//!
//! # Order of writes
//!
//! 1. Our open revision is taken back to draft, or a draft is created: from the newest published
//!    revision, else from the blueprint, else by init.
//! 2. The files, in one merge-patch. A refusal by content is halved in the same draft until the intent that
//!    fails alone is found; the others stay in it.
//! 3. Proposed, if the approval asks for it. 4. Published, if it asks for that; a 200 is final.
//!
//! Every answer carries the version that the next write names, so nothing is read in between. After an answer
//! that may hide a done step, or a cache that went back, the object is read again and the walk goes on
//! from what the server shows, for 15 s; never under another workspace.

use std::collections::BTreeMap;

use super::api::{Api, Class, Fault, Files, NewDraft, Origin, Revision, Stage};
use super::shelf::{KEY, Memory, Shelf, holds, is_ours};
use super::trouble::{Patience, Trouble, may_heal};
use super::{Approval, OpenProposal, Settings, names};
use crate::error::{Consequence, Fault as _};
use crate::fate::{Lifecycle, Reason, Receipt, Sha};
use crate::package::{self, Blueprints, KPTFILE, Member};
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

/// What became of a create.
enum Begun {
    /// A draft that holds what its origin gave it.
    New(Revision),
    /// A draft of ours that an earlier attempt left.
    Open(Revision),
    /// It was published by an earlier attempt.
    Done(Revision),
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
        self.look(doubtful).await?;
        if doubtful {
            self.adopt().await?;
        }
        let left = self.left();
        if left.is_empty() {
            return Ok(());
        }
        let open = self.shelf().open.clone();
        let begun_here = open.is_none();
        let begun = match open {
            Some(open) => Begun::Open(self.take_back(open).await?),
            None => self.begin(&left).await?,
        };
        let (revision, files) = match begun {
            Begun::New(revision) => self.born_with(revision).await?,
            Begun::Open(revision) => {
                let files = self.files(&revision).await?;
                (revision, files)
            }
            Begun::Done(revision) => {
                self.deliver(&left, &revision, true);
                return Ok(());
            }
        };
        let (revision, mut kept) = self.fill(revision, files, left).await?;
        if kept.is_empty() && begun_here {
            return self.discard(&revision).await;
        }
        let revision = self.lift(revision, &mut kept).await?;
        self.deliver(&kept, &revision, false);
        Ok(())
    }

    /// The files of a draft that was just created: those of its source, and none of ours after an init.
    async fn born_with(&mut self, revision: Revision) -> Result<(Revision, Files), Trouble> {
        let source = self.shelf().latest().map(|latest| latest.name.clone());
        let files = match &source {
            Some(source) => self.memory.files(source).cloned(),
            None if self.settings.blueprint.is_none() => Some(Files::default()),
            None => None,
        };
        match files.filter(|_| !self.doubt) {
            Some(files) => {
                self.memory.keep_files(&revision.name, source.as_deref(), files.clone());
                Ok((revision, files))
            }
            None => {
                let files = self.files(&revision).await?;
                Ok((revision, files))
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
        self.shelf().settle(revision.clone());
        for &at in members {
            self.outcomes[at] = Some(Outcome::Delivered(receipt(revision, adopted)));
        }
    }

    fn fault(&self, fault: Fault) -> Trouble {
        (self.heard)(fault.class);
        fault.into()
    }

    /// Asks for the package's revisions if they are not known, or are not to be relied on.
    async fn look(&mut self, anew: bool) -> Result<(), Trouble> {
        if anew || self.memory.shelf(&self.package).is_none() {
            let revisions = self.api.revisions(&self.package).await.map_err(|fault| self.fault(fault))?;
            self.memory.forget(&self.package);
            self.memory.know(&self.package, Shelf::of(revisions));
        }
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
            self.deliver(&found, &revision, true);
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

    /// Our open revision as a draft, unless its approval is to be waited for.
    async fn take_back(&mut self, open: Revision) -> Result<Revision, Trouble> {
        let mut revision = open;
        let waits = self.settings.open_proposal == OpenProposal::Wait;
        if revision.stage == Stage::Proposed && waits && self.settings.approval == Approval::Propose {
            let message = format!("{} is proposed and must be approved or rejected first", revision.name);
            return Err(Trouble::parked(Reason::AwaitingApproval, message));
        }
        while revision.stage == Stage::Proposed {
            let answer = self.api.propose(&revision.name, &revision.version, Stage::Draft).await;
            revision = match answer {
                Ok(draft) => draft,
                Err(fault) => self.read_again(&revision.name, fault).await?,
            };
        }
        match revision.stage {
            Stage::Draft => Ok(revision),
            // Somebody approved it meanwhile: the next attempt starts from it.
            _ => {
                let message = format!("{} was approved while it was to be updated", revision.name);
                Err(Trouble {
                    reason: Reason::SinkUnavailable,
                    message,
                    after: Some(std::time::Duration::ZERO),
                })
            }
        }
    }

    /// Creates the draft, or finds what an earlier attempt made of it.
    async fn begin(&mut self, left: &[usize]) -> Result<Begun, Trouble> {
        let keys: Vec<Sha> = left.iter().map(|&at| self.keys[at]).collect();
        let key = names::group_key(&keys);
        let mut draft = NewDraft {
            package: self.package.clone(),
            workspace: names::workspace(&key),
            origin: self.origin(left),
            annotations: BTreeMap::from([(KEY.to_owned(), key.to_string())]),
        };
        let name = names::object(&self.settings.repository, &draft.package, &draft.workspace);
        if let Some(found) = self.shelf().named(&name).cloned() {
            return self.resume(found, &key, left).await;
        }
        let mut looked = false;
        loop {
            let fault = match self.api.create(&draft).await {
                Ok(revision) => return Ok(Begun::New(revision)),
                Err(fault) => fault,
            };
            match fault.class {
                Class::PackageExists | Class::BadSource if !looked => {
                    (self.heard)(fault.class);
                    looked = true;
                    self.look(true).await?;
                    draft.origin = self.origin(left);
                }
                class if may_heal(class) => {
                    if let Some(found) = self.find_again(&name, fault).await? {
                        return self.resume(found, &key, left).await;
                    }
                }
                Class::Content => {
                    let message = format!("cannot create {name}: {fault}");
                    self.reject(left, Reason::SinkRejected, &message);
                    return Err(self.fault(fault));
                }
                _ => return Err(self.fault(fault)),
            }
        }
    }

    fn origin(&mut self, left: &[usize]) -> Origin {
        let blueprint = self.settings.blueprint.clone();
        let only = (left.len() == 1).then(|| self.group[left[0]].intent.target.to_string());
        match (self.shelf().latest(), blueprint) {
            (Some(latest), _) => Origin::Edit { source: latest.name.clone() },
            (None, Some(upstream)) => Origin::Clone { upstream },
            (None, None) => Origin::Init {
                description: match only {
                    Some(target) => format!("replica counts of {target}, set by conductor-loop"),
                    None => "replica counts, set by conductor-loop".to_owned(),
                },
            },
        }
    }

    /// Goes on with an object that stands under our name already.
    async fn resume(&mut self, found: Revision, key: &Sha, left: &[usize]) -> Result<Begun, Trouble> {
        let key = key.to_string();
        if found.annotations.get(KEY).is_some_and(|annotated| *annotated != key) || !is_ours(&found) {
            let message = format!("{} holds the package revision of somebody else", found.name);
            self.reject(left, Reason::NameConflict, &message);
            return Err(Trouble::parked(Reason::NameConflict, message));
        }
        self.doubt = true;
        match found.stage {
            Stage::Published => Ok(Begun::Done(found)),
            Stage::DeletionProposed => {
                let message = format!("{} is proposed for deletion: decide that first", found.name);
                Err(Trouble::parked(Reason::SinkUnavailable, message))
            }
            Stage::Draft if !found.annotations.contains_key(KEY) => {
                let annotations = BTreeMap::from([(KEY.to_owned(), key)]);
                let marked = self.api.annotate(&found.name, &found.version, &annotations).await;
                marked.map(Begun::Open).map_err(|fault| self.fault(fault))
            }
            Stage::Draft => Ok(Begun::Open(found)),
            Stage::Proposed => self.take_back(found).await.map(Begun::Open),
        }
    }

    /// The files of a revision. Those that are remembered hold as long as nothing went wrong: a write of
    /// somebody else would have made ours stale.
    async fn files(&mut self, revision: &Revision) -> Result<Files, Trouble> {
        if let Some(files) = self.memory.files(&revision.name).filter(|_| !self.doubt) {
            return Ok(files.clone());
        }
        let files = self.api.files(&revision.name).await.map_err(|fault| self.fault(fault))?;
        self.memory.keep_files(&revision.name, None, files.clone());
        Ok(files)
    }

    /// Puts the intents into the draft; gives back those that it took.
    async fn fill(
        &mut self,
        mut revision: Revision,
        mut files: Files,
        left: Vec<usize>,
    ) -> Result<(Revision, Vec<usize>), Trouble> {
        let mut kept = Vec::with_capacity(left.len());
        let mut parts = vec![left];
        while let Some(mut part) = parts.pop() {
            let changes = match self.changes(&part, &files) {
                Ok(changes) => changes,
                Err(fault) => {
                    let Some(at) = fault.member.filter(|_| fault.consequence() == Consequence::Refuse) else {
                        return Err(Trouble::parked(Reason::SinkUnavailable, fault.message));
                    };
                    let bad = part.remove(at);
                    self.reject(&[bad], Reason::RenderFailed, &fault.message);
                    parts.push(part);
                    continue;
                }
            };
            if changes.is_empty() {
                kept.append(&mut part);
                continue;
            }
            match self.api.put(&revision.name, &revision.version, &changes).await.and_then(rendered) {
                Ok(reply) => {
                    revision.version.clone_from(&reply.version);
                    self.memory.keep_files(&revision.name, None, reply.clone());
                    files = reply;
                    kept.append(&mut part);
                }
                Err(fault) if matches!(fault.class, Class::Render | Class::Content) => {
                    (self.heard)(fault.class);
                    self.halve(part, &mut parts, &fault);
                }
                Err(fault) => {
                    let again = self.read_again(&revision.name, fault).await?;
                    revision = self.take_back(again).await?;
                    files = self.files(&revision).await?;
                    self.doubt = false;
                    parts.push(part);
                }
            }
        }
        Ok((revision, kept))
    }

    fn changes(&mut self, part: &[usize], files: &Files) -> Result<package::Changes, package::GroupFault> {
        let member = |&at: &usize| Member {
            intent: self.group[at].intent,
            id: self.group[at].id,
            sha: self.group[at].sha,
            key: &self.keys[at],
        };
        let members: Vec<Member<'_>> = part.iter().map(member).collect();
        let blueprints = self.blueprints.as_deref_mut();
        package::changes(self.settings.form(), &self.package, &members, &files.texts, blueprints)
    }

    /// The server refused what these intents make of the package: each half by itself, or the one alone.
    fn halve(&mut self, mut part: Vec<usize>, parts: &mut Vec<Vec<usize>>, fault: &Fault) {
        if part.len() == 1 {
            let reason =
                if fault.class == Class::Render { Reason::RenderFailed } else { Reason::SinkRejected };
            return self.reject(&part, reason, &fault.message);
        }
        let second = part.split_off(part.len() / 2);
        parts.extend([second, part]);
    }

    fn reject(&mut self, members: &[usize], reason: Reason, message: &str) {
        for &at in members {
            self.outcomes[at] = Some(Outcome::Rejected { reason, message: message.to_owned() });
        }
    }

    /// A draft that nothing came into is removed; it was made by this walk and nobody has seen it.
    async fn discard(&mut self, revision: &Revision) -> Result<(), Trouble> {
        self.memory.forget(&self.package);
        let stage = self.api.revision(&revision.name).await.ok().flatten().map(|found| found.stage);
        if stage == Some(Stage::Draft)
            && let Err(fault) = self.api.delete(&revision.name).await
        {
            // The next delivery into this package finds it open and goes on with it.
            tracing::warn!(revision = revision.name, "an empty draft was left: {}", self.fault(fault));
        }
        Ok(())
    }

    /// Proposes and approves as far as the approval asks.
    async fn lift(&mut self, mut revision: Revision, kept: &mut Vec<usize>) -> Result<Revision, Trouble> {
        loop {
            if self.doubt && revision.stage == Stage::Draft {
                let files = self.files(&revision).await?;
                self.doubt = false;
                (revision, *kept) = self.fill(revision, files, std::mem::take(kept)).await?;
            }
            let reached = match revision.stage {
                Stage::Published => true,
                Stage::DeletionProposed => {
                    let message = format!("{} is proposed for deletion: decide that first", revision.name);
                    return Err(Trouble::parked(Reason::SinkUnavailable, message));
                }
                stage => self.is_high_enough(stage),
            };
            if reached {
                return Ok(revision);
            }
            if !revision.unmet_gates.is_empty() {
                let gates = revision.unmet_gates.join(", ");
                let message = format!("{} waits in {} for: {gates}", revision.name, revision.stage);
                return Err(Trouble::parked(Reason::AwaitingApproval, message));
            }
            let (name, version) = (&revision.name, &revision.version);
            let answer = match revision.stage {
                Stage::Draft => self.api.propose(name, version, Stage::Proposed).await,
                _ => self.api.approve(name, version, Stage::Published).await,
            };
            revision = match answer {
                Ok(risen) => risen,
                Err(fault) if fault.class == Class::Render => {
                    return self.unrendered(revision, kept, fault).await;
                }
                Err(fault) => self.read_again(&revision.name, fault).await?,
            };
        }
    }

    /// Leaving draft renders once more. A package that cannot be rendered then is one intent's fault only
    /// where it holds one.
    async fn unrendered(
        &mut self,
        revision: Revision,
        kept: &[usize],
        fault: Fault,
    ) -> Result<Revision, Trouble> {
        if kept.len() == 1 {
            self.reject(kept, Reason::RenderFailed, &fault.message);
            self.discard(&revision).await?;
        }
        Err(self.fault(fault))
    }

    /// After a fault that may heal: a pause, then the object as the server shows it.
    async fn read_again(&mut self, name: &str, fault: Fault) -> Result<Revision, Trouble> {
        let mut fault = fault;
        loop {
            if !may_heal(fault.class) {
                return Err(self.fault(fault));
            }
            match self.find_again(name, fault).await? {
                Some(revision) => return Ok(revision),
                None => {
                    let message = format!("{name} was there and is not shown any more");
                    fault = Fault { class: Class::Missing, code: 404, message, after: None };
                }
            }
        }
    }

    async fn find_again(&mut self, name: &str, fault: Fault) -> Result<Option<Revision>, Trouble> {
        (self.heard)(fault.class);
        self.doubt = true;
        if !self.patience.pause().await {
            return Err(fault.into());
        }
        self.api.revision(name).await.map_err(|fault| self.fault(fault))
    }
}

/// A reply to a files write that can be built on: rendered without complaint, and whole.
fn rendered(files: Files) -> Result<Files, Fault> {
    let fault = |class, message| Fault { class, code: 200, message, after: None };
    if !files.render_error.is_empty() {
        return Err(fault(Class::Render, files.render_error));
    }
    match files.texts.contains_key(KPTFILE) {
        true => Ok(files),
        false => Err(fault(Class::Protocol, "the answer to the files holds no Kptfile".to_owned())),
    }
}
