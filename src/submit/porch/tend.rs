//! What the sink does when nothing is to be delivered: follow what others must approve, and remove its own
//! old revisions.
//!
//! **Follow.** A revision that was left proposed (or a draft) is read again after 5 s, then in growing
//! steps up to 5 min; when somebody has published it, or sent it back, its intents' status files are
//! brought up to date. At most 1,000 revisions and 10,000 intents are followed; beyond that the oldest are let go.
//!
//! **Prune.** Cost grows with every revision that the server keeps, so after a publication the package's own
//! published revisions beyond `keep_revisions` are removed, one in each idle moment, and where these never come one
//! after each group as soon as there are twice as many: the stage is read, deletion proposed, then the object deleted. Never the latest, never one that carries no annotation of
//! ours, never one that another package was cloned from (the server says so; the proposal is taken back).

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::api::{Api, Class, Fault, Revision, Stage};
use super::shelf::{KEY, Memory, Shelf, is_ours};
use super::walk::receipt;
use super::{Approval, Settings};
use crate::fate::{Id, Lifecycle, Receipt};
use crate::submit::{Delivery, News, Outcome, Tended};

const FIRST_LOOK: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(300);
const FOLLOWED: usize = 1_000;
const INTENTS: usize = 10_000;
/// Before pruning is tried again after it was forbidden or failed.
const FORBIDDEN: Duration = Duration::from_secs(600);
const FAILED: Duration = Duration::from_secs(30);

/// A revision that waits for somebody.
#[derive(Debug)]
struct Followed {
    name: String,
    package: String,
    lifecycle: Lifecycle,
    intents: Vec<Id>,
    due: Instant,
    wait: Duration,
}

/// What is to be done in idle moments.
#[derive(Debug, Default)]
pub(super) struct Tending {
    followed: VecDeque<Followed>,
    intents: usize,
    /// Packages that may hold too many revisions.
    crowded: BTreeSet<String>,
    /// Revisions that the server does not let go.
    held: HashSet<String>,
    /// No pruning before this moment.
    rests: Option<Instant>,
    /// The right that pruning was refused for want of, as the server said it.
    refused: Option<String>,
}

impl Tending {
    /// Takes note of what a group came to.
    pub(super) fn notice(&mut self, package: &str, group: &[Delivery<'_>], outcomes: &[Outcome]) {
        for (delivery, outcome) in group.iter().zip(outcomes) {
            let Outcome::Delivered(receipt) = outcome else { continue };
            match receipt.lifecycle {
                Lifecycle::Published => drop(self.crowded.insert(package.to_owned())),
                _ => self.follow(delivery.id, receipt.clone()),
            }
        }
    }

    /// Follows the revision of an intent.
    pub(super) fn follow(&mut self, id: Id, receipt: Receipt) {
        let due = Instant::now() + FIRST_LOOK;
        self.intents += 1;
        match self.followed.iter_mut().find(|followed| followed.name == receipt.name) {
            Some(followed) => {
                followed.intents.push(id);
                (followed.lifecycle, followed.due, followed.wait) = (receipt.lifecycle, due, FIRST_LOOK);
            }
            None => {
                let Some((_, package, _)) = super::names::parts(&receipt.name) else { return };
                let (package, wait) = (package.to_owned(), FIRST_LOOK);
                let lifecycle = receipt.lifecycle;
                let intents = vec![id];
                self.followed.push_back(Followed {
                    name: receipt.name,
                    package,
                    lifecycle,
                    intents,
                    due,
                    wait,
                });
            }
        }
        while self.followed.len() > FOLLOWED || (self.intents > INTENTS && self.followed.len() > 1) {
            let gone = self.followed.pop_front();
            self.intents -= gone.map_or(0, |followed| followed.intents.len());
        }
    }

    /// One thing that is due; at most a handful of requests.
    pub(super) async fn step(
        &mut self,
        api: &dyn Api,
        settings: &Settings,
        memory: &mut Memory,
        heard: &(dyn Fn(Class) + Send + Sync),
        idle: bool,
    ) -> Tended {
        let now = Instant::now();
        let mut news = Vec::new();
        if let Some(at) = self.followed.iter().position(|followed| followed.due <= now) {
            news = self.look(at, api, memory, heard).await;
        } else if settings.approval != Approval::Draft
            && self.rests.is_none_or(|until| until <= now)
            && let Some(package) = self.to_prune(settings, memory, idle)
        {
            self.rests = None;
            self.refused = None;
            if let Err(fault) = self.prune(package, api, settings, memory).await {
                heard(fault.class);
                if fault.class == Class::Auth {
                    self.refused = Some(format!("old revisions are not removed: {fault}"));
                }
                let rest = if fault.class == Class::Auth { FORBIDDEN } else { FAILED };
                tracing::warn!(seconds = rest.as_secs(), "old revisions are not removed for now: {fault}");
                self.rests = Some(now + rest);
            }
        }
        Tended { news, next: self.next(), trouble: self.refused.clone() }
    }

    /// When something is due next.
    fn next(&self) -> Option<Duration> {
        let now = Instant::now();
        let follow = self.followed.iter().map(|followed| followed.due).min();
        let prune = (!self.crowded.is_empty()).then(|| self.rests.unwrap_or(now));
        let due = follow.into_iter().chain(prune).min()?;
        Some(due.saturating_duration_since(now))
    }

    async fn look(
        &mut self,
        at: usize,
        api: &dyn Api,
        memory: &mut Memory,
        heard: &(dyn Fn(Class) + Send + Sync),
    ) -> Vec<News> {
        let followed = &mut self.followed[at];
        followed.wait = (followed.wait * 2).min(LONGEST);
        followed.due = Instant::now() + followed.wait;
        let found = match api.revision(&followed.name).await {
            Ok(found) => found,
            Err(fault) => {
                heard(fault.class);
                return Vec::new();
            }
        };
        let moved = |stage| match stage {
            Stage::Draft => Lifecycle::Draft,
            Stage::Proposed => Lifecycle::Proposed,
            Stage::Published | Stage::DeletionProposed => Lifecycle::Published,
        };
        let Some(revision) = found else {
            tracing::warn!(revision = followed.name, "a proposed revision is gone: somebody deleted it");
            memory.forget(&followed.package);
            self.let_go(at);
            return Vec::new();
        };
        if moved(revision.stage) == followed.lifecycle {
            return Vec::new();
        }
        memory.forget(&followed.package);
        followed.lifecycle = moved(revision.stage);
        tracing::info!(
            revision = followed.name,
            lifecycle = revision.stage.as_str(),
            "a revision was moved by somebody else"
        );
        let receipt = receipt(&revision, false);
        let news = followed.intents.iter().map(|&id| News { id, receipt: receipt.clone() }).collect();
        if followed.lifecycle == Lifecycle::Published {
            self.crowded.insert(followed.package.clone());
            self.let_go(at);
        }
        news
    }

    fn let_go(&mut self, at: usize) {
        let gone = self.followed.remove(at);
        self.intents -= gone.map_or(0, |followed| followed.intents.len());
    }

    /// Removes one revision of one crowded package, or finds that it is not crowded.
    /// The package that loses a revision now.
    fn to_prune(&self, settings: &Settings, memory: &mut Memory, idle: bool) -> Option<String> {
        let mut overgrown = |package: &&String| {
            let most = settings.keep_revisions.saturating_mul(2);
            memory.shelf(package).is_some_and(|shelf| shelf.published.len() > most)
        };
        self.crowded.iter().find(|package| idle || overgrown(package)).cloned()
    }

    async fn prune(
        &mut self,
        package: String,
        api: &dyn Api,
        settings: &Settings,
        memory: &mut Memory,
    ) -> Result<(), Fault> {
        let known =
            memory.shelf(&package).is_some_and(|shelf| shelf.published.len() <= settings.keep_revisions);
        if known {
            self.crowded.remove(&package);
            return Ok(());
        }
        let mut revisions = api.revisions(&package).await?;
        let Some(old) = oldest(&revisions, settings.keep_revisions, &self.held) else {
            memory.know(&package, Shelf::of(revisions));
            self.crowded.remove(&package);
            return Ok(());
        };
        let (name, number) = (old.name.clone(), old.number);
        memory.forget(&package);
        // The server protects nothing: what was listed may have changed since.
        let Some(mut old) =
            api.revision(&name).await?.filter(|found| is_ours(found) && found.number == number)
        else {
            return Ok(());
        };
        if old.stage == Stage::Published {
            old = api.approve(&name, &old.version, Stage::DeletionProposed).await?;
        }
        if old.stage != Stage::DeletionProposed {
            return Ok(());
        }
        match api.delete(&name).await {
            Ok(()) => {
                tracing::debug!(revision = name, "an old revision was removed");
                revisions.retain(|revision| revision.name != name);
                memory.know(&package, Shelf::of(revisions));
            }
            Err(fault) if fault.class == Class::BadSource => {
                api.approve(&name, &old.version, Stage::Published).await?;
                self.held.insert(name.clone());
                tracing::info!(revision = name, "an old revision is kept: a package was cloned from it");
            }
            Err(fault) => return Err(fault),
        }
        Ok(())
    }
}

/// The oldest of our published revisions beyond `keep`; ones that we proposed for deletion and did not get to
/// delete count as published.
fn oldest<'a>(revisions: &'a [Revision], keep: usize, held: &HashSet<String>) -> Option<&'a Revision> {
    let latest = revisions.iter().filter(|r| r.stage == Stage::Published).map(|r| r.number).max()?;
    let mut ours: Vec<&Revision> = revisions
        .iter()
        .filter(|r| matches!(r.stage, Stage::Published | Stage::DeletionProposed))
        .filter(|r| r.annotations.contains_key(KEY) && is_ours(r) && r.number > 0 && !r.deleting)
        .collect();
    ours.sort_by_key(|revision| revision.number);
    let excess = ours.len().saturating_sub(keep.max(1));
    let removable = |r: &&&Revision| r.number < latest && !r.latest && !held.contains(&r.name);
    ours[..excess].iter().find(removable).copied()
}
