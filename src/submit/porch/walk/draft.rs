//! The draft: created, or found where an earlier attempt left it.

use std::collections::BTreeMap;

use super::super::api::{Class, Files, NewDraft, Origin, Revision, Stage};
use super::super::shelf::{KEY, is_ours};
use super::super::trouble::{Trouble, may_heal};
use super::super::{Approval, names};
use super::{Begun, Walk};
use crate::fate::{Reason, Sha};

impl Walk<'_> {
    /// Our open revision does not start from the newest published one: what came between would be undone, for the
    /// server merges nothing. Where everything is published at once, it holds only intents without an end, and
    /// goes; a proposal is its approver's to judge.
    pub(super) async fn drop_outdated(&mut self) -> Result<(), Trouble> {
        if self.settings.approval != Approval::Publish {
            return Ok(());
        }
        while let Some(open) = self.shelf().open.clone() {
            let Some(newest) = self.shelf().latest().cloned() else { return Ok(()) };
            let listed = open.source.as_ref().is_none_or(|source| self.shelf().named(source).is_some());
            // A source that is not listed was removed long ago, or a listing that lags does not show it yet.
            if open.source.as_ref() == Some(&newest.name) || !listed && open.created >= newest.created {
                return Ok(());
            }
            // What was listed may have been published since.
            let now = self.api.revision(&open.name).await.map_err(|fault| self.fault(fault))?;
            if now.is_some_and(|now| matches!(now.stage, Stage::Draft | Stage::Proposed)) {
                self.api.delete(&open.name).await.map_err(|fault| self.fault(fault))?;
                tracing::info!(revision = open.name, "a draft of ours that was overtaken is removed");
            }
            self.look(true).await?;
            if self.shelf().open.as_ref().is_some_and(|still| still.name == open.name) {
                return Err(Trouble::at_once(format!("{} was overtaken and is still shown", open.name)));
            }
        }
        Ok(())
    }

    /// Creates the draft, or finds what an earlier attempt made of it.
    pub(super) async fn begin(&mut self, left: &[usize]) -> Result<Begun, Trouble> {
        let keys: Vec<Sha> = left.iter().map(|&at| self.keys[at]).collect();
        let key = names::group_key(&keys);
        let draft = NewDraft {
            package: self.package.clone(),
            workspace: names::workspace(&key),
            origin: self.origin(left),
            annotations: BTreeMap::from([(KEY.to_owned(), key.to_string())]),
        };
        let name = names::object(&self.settings.repository, &draft.package, &draft.workspace);
        if let Some(found) = self.shelf().named(&name).cloned() {
            return self.resume(found, &key, left).await;
        }
        loop {
            let fault = match self.api.create(&draft).await {
                Ok(revision) => return Ok(Begun::New(revision)),
                Err(fault) => fault,
            };
            match fault.class {
                Class::PackageExists | Class::BadSource => return Ok(Begun::Unlike(fault)),
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
            Stage::Draft => self.mark(found, key).await.map(Begun::Open),
            Stage::Proposed => Ok(Begun::Open(found)),
        }
    }

    /// Gives a draft back the annotation that a failed create has lost.
    async fn mark(&mut self, mut draft: Revision, key: String) -> Result<Revision, Trouble> {
        let annotations = BTreeMap::from([(KEY.to_owned(), key)]);
        while draft.stage == Stage::Draft && !draft.annotations.contains_key(KEY) {
            draft = match self.api.annotate(&draft.name, &draft.version, &annotations).await {
                Ok(marked) => return Ok(marked),
                Err(fault) => self.read_again(&draft.name, fault).await?,
            };
        }
        Ok(draft)
    }

    /// The files of a draft that was just created: those of its source, and none of ours after an init.
    pub(super) async fn born_with(&mut self, revision: Revision) -> Result<(Revision, Files), Trouble> {
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
                self.doubt = false;
                Ok((revision, files))
            }
        }
    }
}
