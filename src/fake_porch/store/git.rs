//! One git repository as the server holds it: the truth, and the listing that it believes in.
//!
//! The listing lags where somebody arranged it: [`Git::roll_back`] shows what was there before the last write
//! of a revision, for a while or until the next sync. Writes are checked against the listing and carried out
//! in git, so that a listing that lags fails them with the texts of the real server.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Repository;
use crate::fake_porch::content::Tree;

/// Where a revision stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its files can be written.
    Draft,
    /// Waits for approval.
    Proposed,
    /// Approved.
    Published,
    /// Approved once, to be deleted.
    DeletionProposed,
}

impl Stage {
    pub(in crate::fake_porch) fn parse(text: &str) -> Option<Stage> {
        [Stage::Draft, Stage::Proposed, Stage::Published, Stage::DeletionProposed]
            .into_iter()
            .find(|stage| stage.to_string() == text)
    }

    pub(in crate::fake_porch) fn is_published(self) -> bool {
        matches!(self, Stage::Published | Stage::DeletionProposed)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Draft => "Draft",
            Stage::Proposed => "Proposed",
            Stage::Published => "Published",
            Stage::DeletionProposed => "DeletionProposed",
        })
    }
}

/// One revision of a package, or the placeholder of the branch head (number -1).
#[derive(Debug, Clone)]
pub(in crate::fake_porch) struct Revision {
    pub(in crate::fake_porch) package: String,
    pub(in crate::fake_porch) workspace: String,
    pub(in crate::fake_porch) stage: Stage,
    pub(in crate::fake_porch) number: i64,
    pub(in crate::fake_porch) version: String,
    pub(in crate::fake_porch) tree: Arc<Tree>,
    pub(in crate::fake_porch) task: Value,
    pub(in crate::fake_porch) created: String,
    pub(in crate::fake_porch) published: Option<String>,
}

impl Revision {
    /// The name of its object in a repository.
    pub(in crate::fake_porch) fn name_in(&self, repository: &str) -> String {
        format!("{repository}.{}.{}", self.package.replace('/', "."), self.workspace)
    }

    /// The ref that holds it: a branch of its own, a tag, or the branch of the repository.
    pub(in crate::fake_porch) fn reference(&self, branch: &str) -> String {
        match (self.stage, self.number) {
            (Stage::Draft, _) => format!("drafts/{}/{}", self.package, self.workspace),
            (Stage::Proposed, _) => format!("proposed/{}/{}", self.package, self.workspace),
            (_, -1) => branch.to_owned(),
            (_, number) => format!("{}/v{number}", self.package),
        }
    }
}

/// States that are remembered of each revision.
const PAST: usize = 6;

/// Package and workspace.
type Key = (String, String);

/// An older state that the listing shows.
#[derive(Debug)]
struct Lag {
    shown: Option<Revision>,
    /// `None` lasts until the next sync that finds something new.
    until: Option<Instant>,
}

/// Why git does not answer.
#[derive(Debug, Clone)]
pub(in crate::fake_porch) struct Outage {
    /// What a fetch says.
    pub(in crate::fake_porch) fetch: String,
    /// What the check of the repository says.
    pub(in crate::fake_porch) check: String,
}

/// One git URL.
#[derive(Debug, Default)]
pub(in crate::fake_porch) struct Git {
    revisions: BTreeMap<Key, Revision>,
    heads: BTreeMap<String, Revision>,
    /// What each revision was before its last writes, the newest last.
    before: BTreeMap<Key, Vec<Option<Revision>>>,
    lags: BTreeMap<Key, Lag>,
    branches: Vec<String>,
    pub(in crate::fake_porch) outage: Option<Outage>,
    /// Requests that write now, waiting for the lock included.
    pub(in crate::fake_porch) writers: usize,
}

impl Git {
    /// What the server believes.
    pub(in crate::fake_porch) fn seen(&mut self, package: &str, workspace: &str) -> Option<Revision> {
        let key = (package.to_owned(), workspace.to_owned());
        if let Some(lag) = self.lags.get(&key) {
            if lag.until.is_none_or(|until| Instant::now() < until) {
                return lag.shown.clone();
            }
            self.lags.remove(&key);
        }
        self.truth(package, workspace).cloned()
    }

    /// What is so.
    pub(in crate::fake_porch) fn truth(&self, package: &str, workspace: &str) -> Option<&Revision> {
        let key = (package.to_owned(), workspace.to_owned());
        let head = || self.heads.get(package).filter(|head| head.workspace == workspace);
        self.revisions.get(&key).or_else(head)
    }

    /// Everything that a listing shows, placeholders first within a package.
    pub(in crate::fake_porch) fn listing(&mut self, package: Option<&str>) -> Vec<Revision> {
        let wanted = |name: &str| package.is_none_or(|package| package == name);
        let keys: Vec<Key> = match package {
            None => self.revisions.keys().cloned().collect(),
            Some(package) => self.of(package).map(|(key, _)| key.clone()).collect(),
        };
        let heads: Vec<Revision> =
            self.heads.values().filter(|head| wanted(&head.package)).cloned().collect();
        let mut all: Vec<Revision> =
            keys.into_iter().filter_map(|(package, workspace)| self.seen(&package, &workspace)).collect();
        all.extend(heads);
        all.sort_by(|a, b| (&a.package, a.number).cmp(&(&b.package, b.number)));
        all
    }

    fn of(&self, package: &str) -> impl Iterator<Item = (&Key, &Revision)> {
        self.revisions
            .range((package.to_owned(), String::new())..)
            .take_while(move |((name, _), _)| name == package)
    }

    /// The revisions of a package, without the placeholder.
    pub(in crate::fake_porch) fn revisions(&self, package: &str) -> impl Iterator<Item = &Revision> {
        self.of(package).map(|(_, revision)| revision)
    }

    /// Every revision of every package, without the placeholders.
    pub(in crate::fake_porch) fn all(&self) -> impl Iterator<Item = &Revision> {
        self.revisions.values()
    }

    pub(in crate::fake_porch) fn head(&self, package: &str) -> Option<&Revision> {
        self.heads.get(package)
    }

    /// Whether the listing has the package in any form, a left-over placeholder included.
    pub(in crate::fake_porch) fn lists(&mut self, package: &str) -> bool {
        !self.listing(Some(package)).is_empty()
    }

    /// Every package that has a revision.
    pub(in crate::fake_porch) fn packages(&self) -> impl Iterator<Item = &str> {
        self.revisions
            .keys()
            .map(|(package, _)| package.as_str())
            .chain(self.heads.keys().map(String::as_str))
    }

    /// Objects that a listing holds: revisions and placeholders.
    pub(in crate::fake_porch) fn objects(&self) -> usize {
        self.revisions.len() + self.heads.len()
    }

    /// The number of the newest published revision, 0 if there is none.
    pub(in crate::fake_porch) fn latest(&self, package: &str) -> i64 {
        self.revisions(package).map(|revision| revision.number).max().unwrap_or(0).max(0)
    }

    /// Writes a revision, or the placeholder where `number` is -1.
    pub(in crate::fake_porch) fn write(&mut self, revision: Revision) {
        if revision.number < 0 {
            self.heads.insert(revision.package.clone(), revision);
            return;
        }
        let key = (revision.package.clone(), revision.workspace.clone());
        let before = self.revisions.insert(key.clone(), revision);
        self.remember(key, before);
    }

    fn remember(&mut self, key: Key, before: Option<Revision>) {
        let past = self.before.entry(key).or_default();
        if past.len() == PAST {
            past.remove(0);
        }
        past.push(before);
    }

    pub(in crate::fake_porch) fn remove(&mut self, package: &str, workspace: &str) {
        let key = (package.to_owned(), workspace.to_owned());
        if let Some(before) = self.revisions.remove(&key) {
            self.lags.remove(&key);
            self.remember(key, Some(before));
        } else {
            self.heads.remove(package);
        }
    }

    /// Shows what a revision was before, for `lasting` or until [`Git::resync`]: before its last write, or
    /// when it was last in the stage of `to`, or when it was not there. False if it never was.
    pub(in crate::fake_porch) fn roll_back(
        &mut self,
        package: &str,
        workspace: &str,
        to: Option<Option<Stage>>,
        lasting: Option<Duration>,
    ) -> bool {
        let key = (package.to_owned(), workspace.to_owned());
        let stage = |state: &Option<Revision>| state.as_ref().map(|state| state.stage);
        let past = self.before.get(&key).into_iter().flatten().rev();
        let Some(shown) = past.into_iter().find(|state| to.is_none_or(|to| to == stage(state))).cloned()
        else {
            return false;
        };
        let until = lasting.map(|lasting| Instant::now() + lasting);
        self.lags.insert(key, Lag { shown, until });
        true
    }

    /// Forgets every lag: a restart, or a sync that found a changed ref.
    pub(in crate::fake_porch) fn resync(&mut self) {
        self.lags.clear();
    }

    /// How a write of what the listing shows fails in git, if it does: the branch that it would move.
    pub(in crate::fake_porch) fn clash(&self, shown: &Revision) -> Option<String> {
        let kind = match shown.stage {
            Stage::Draft => "drafts",
            Stage::Proposed => "proposed",
            Stage::Published | Stage::DeletionProposed => return None,
        };
        let truth = self.truth(&shown.package, &shown.workspace);
        let branch = format!("{kind}/{}/{}", shown.package, shown.workspace);
        if truth.is_none_or(|truth| truth.stage != shown.stage) {
            return Some(format!(
                "cannot find draft package branch \"refs/remotes/origin/{branch}\": reference not found"
            ));
        }
        let same = truth.is_some_and(|truth| truth.version == shown.version);
        (!same).then(|| format!("failed to update ref: non-fast-forward update: refs/heads/{branch}"))
    }

    /// Makes a branch.
    pub(in crate::fake_porch) fn add_branch(&mut self, branch: &str) {
        self.branches.push(branch.to_owned());
    }

    fn has_branch(&self, branch: &str) -> bool {
        branch == "main" || self.branches.iter().any(|one| one == branch)
    }

    /// What a fetch of a held repository says, where git does not answer.
    pub(in crate::fake_porch) fn trouble_fetching(&self, repository: &Repository) -> Option<String> {
        let outage = self.outage.as_ref()?;
        let id = format!("{}:{}::{}", repository.namespace, repository.name, repository.branch);
        Some(format!(
            "fetch of remote repository {id} with retry failed: fetch of remote repository {id} with retry failed on \
             try number 3: cannot fetch repository {id}: {}",
            outage.fetch.replace("{url}", &repository.url)
        ))
    }

    /// What the first use of a repository says, where it cannot be cloned.
    pub(in crate::fake_porch) fn trouble_cloning(&self, repository: &Repository) -> Option<String> {
        let why = match self.trouble_fetching(repository) {
            Some(why) => why,
            None if self.has_branch(&repository.branch) => return None,
            None => format!("branch \"{}\" doesn't exist: reference not found", repository.branch),
        };
        Some(format!(
            "error cloning git repository {}, fetch of remote repository failed: {why}",
            repository.url
        ))
    }

    /// What the condition of the repository says, where it is not ready.
    pub(in crate::fake_porch) fn trouble_checking(&self, repository: &Repository) -> Option<String> {
        let why = match &self.outage {
            Some(outage) => outage.check.replace("{url}", &repository.url),
            None if self.has_branch(&repository.branch) => return None,
            None => format!("branch \"{}\" not found in repository", repository.branch),
        };
        Some(format!("Repository connectivity check failed: {why}"))
    }
}
