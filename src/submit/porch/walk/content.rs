//! The files of a draft: the intents put in, the one that the server refuses found, a draft in vain removed.

use std::collections::BTreeMap;

use super::super::api::{Class, Fault, Files, Revision, Stage};
use super::super::trouble::Trouble;
use super::Walk;
use crate::error::{Consequence, Fault as _};
use crate::fate::Reason;
use crate::package::{self, Form, KPTFILE, Member};

impl Walk<'_> {
    /// Puts the intents into the draft; gives back those that it took.
    pub(super) async fn fill(
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
                    self.advise(files.texts.len());
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

    /// The server compares each file of a revision with each of the one before (`porch.md` 4).
    fn advise(&mut self, files: usize) {
        if self.settings.form() == Form::Files && self.memory.grew_large(&self.package, files) {
            tracing::warn!(
                package = self.package,
                files,
                "the package has so many files that each revision takes the server seconds; set \
                 sink.porch.content = \"component\" for a new package name, or a smaller sink.porch.package"
            );
        }
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

    /// A draft with no delivered intent in it, into which nothing came, is removed.
    pub(super) async fn discard(&mut self, revision: &Revision) -> Result<(), Trouble> {
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

    /// Leaving draft renders once more, and that failed. The draft goes, or is put back to `before`, which holds
    /// intents that were delivered; it is one intent's fault only where no other was put in.
    pub(super) async fn unrendered(
        &mut self,
        revision: Revision,
        kept: &[usize],
        fault: Fault,
        before: Option<BTreeMap<String, String>>,
    ) -> Result<(), Trouble> {
        let alone = kept.len() == 1;
        if alone {
            self.reject(kept, Reason::RenderFailed, &fault.message);
        }
        match before {
            None => self.discard(&revision).await?,
            Some(before) => self.put_back(revision, before).await?,
        }
        if alone { Ok(()) } else { Err(self.fault(fault)) }
    }

    /// The draft as it was before this walk, as high as it stood.
    async fn put_back(
        &mut self,
        revision: Revision,
        before: BTreeMap<String, String>,
    ) -> Result<(), Trouble> {
        self.memory.forget(&self.package);
        let now = self.api.files(&revision.name).await.map_err(|fault| self.fault(fault))?;
        let mut changes: package::Changes = now.texts.keys().map(|file| (file.clone(), None)).collect();
        changes.extend(before.into_iter().map(|(file, text)| (file, Some(text))));
        changes.retain(|file, text| now.texts.get(file) != text.as_ref());
        if !changes.is_empty() {
            let put = self.api.put(&revision.name, &now.version, &changes).await;
            put.map_err(|fault| self.fault(fault))?;
        }
        let again = self.api.revision(&revision.name).await.map_err(|fault| self.fault(fault))?;
        match again {
            Some(again) => self.lift(again, Vec::new()).await.map(drop),
            None => Ok(()),
        }
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
