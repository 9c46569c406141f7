//! What a test or a demonstration does to the server behind its clients' backs.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::content::{self, Tree};
use super::costs::Costs;
use super::faults::{Fault, Rule, Which};
use super::kptfile;
use super::repositories;
use super::revisions::{self, Found};
use super::state::{Logged, State};
use super::store::git::{Outage, Revision, Stage};
use super::store::{Name, now};
use super::view::Kind;
use super::{FakePorch, NAMESPACE, Published};

impl FakePorch {
    /// Every request so far, in the order of arrival.
    pub fn log(&self) -> Vec<Logged> {
        self.with(|state| state.log.iter().map(|(_, logged)| logged.clone()).collect())
    }

    /// The log as lines like `POST packagerevisions 201`, without reads of repositories and discovery.
    pub fn short_log(&self) -> Vec<String> {
        let about = |logged: &Logged| logged.path.contains("/packagerevision");
        self.log().iter().filter(|logged| about(logged)).map(Logged::short).collect()
    }

    /// Forgets the log.
    pub fn clear_log(&self) {
        self.with(|state| state.log.clear());
    }

    /// Adds a rule behind those that are there.
    pub fn inject(&self, rule: Rule) {
        self.with(|state| state.rules.add(rule));
    }

    /// From now on every write is, with probability `chance`, left open: carried out or not, and the answer is lost
    /// ([`Fault::Ambiguous`]).
    pub fn make_ambiguous(&self, chance: f64) {
        self.inject(Rule::chance(Which::Writes, chance, Fault::Ambiguous));
    }

    /// Ends every rule.
    pub fn clear_faults(&self) {
        self.with(|state| state.rules.clear());
    }

    /// Writes that hold the lock of their object now.
    pub fn under_way(&self) -> usize {
        self.with(|state| state.busy.len())
    }

    /// Ends the wait of every write that a fault holds, before its time.
    pub fn release(&self) {
        self.shared.released.send_modify(|count| *count += 1);
    }

    /// From now on this token is the right one; `None` lets everybody in.
    pub fn set_token(&self, token: Option<&str>) {
        self.with(|state| state.token = token.map(str::to_owned));
    }

    /// From now on requests take so long.
    pub fn set_costs(&self, costs: Costs) {
        self.with(|state| state.costs = costs);
    }

    /// From now on its clock is ahead of that of the machine by so many seconds, as far as answers tell.
    pub fn set_clock(&self, ahead: i64) {
        self.with(|state| state.ahead = ahead);
    }

    /// Takes a right away, such as `patch` of `packagerevisions/approval`.
    pub fn deny(&self, verb: &str, resource: &str) {
        self.with(|state| state.denied.insert((verb.to_owned(), resource.to_owned())));
    }

    /// Gives it back.
    pub fn allow(&self, verb: &str, resource: &str) {
        self.with(|state| state.denied.remove(&(verb.to_owned(), resource.to_owned())));
    }

    /// Nothing listens any more, open connections are cut, and what was under way has ended: done if git had it,
    /// else not. Returns when it is so.
    pub fn stop(&self) {
        self.shared.listen(false);
    }

    /// Listens again on the same port, with the same data. Returns when it does.
    pub fn resume(&self) {
        self.shared.listen(true);
    }

    /// A new process of the server on the same port: connections are cut, the listing is that of git, and no
    /// label is known yet. Add `Rule::lasting` with [`Fault::NotReady`] or
    /// [`Fault::NoGroup`] for one that is slow to start.
    pub fn restart(&self) {
        self.stop();
        self.with(|state| state.store.restart());
        self.resume();
    }

    /// Git answers every fetch of every repository with this text; `{url}` stands for the URL.
    pub fn break_git(&self, text: &str) {
        let outage = Outage { fetch: text.to_owned(), check: format!("failed to list remote refs: {text}") };
        self.with(|state| {
            let urls: Vec<String> = state.store.repositories.values().map(|one| one.url.clone()).collect();
            for url in urls {
                state.store.git(&url).outage = Some(outage.clone());
            }
        });
    }

    /// Git at one URL answers a fetch with `fetch`, and the check of the repository with `check`.
    pub fn break_git_at(&self, url: &str, fetch: &str, check: &str) {
        let outage = Outage { fetch: fetch.to_owned(), check: check.to_owned() };
        self.with(|state| state.store.git(url).outage = Some(outage));
    }

    /// Git answers again.
    pub fn mend_git(&self) {
        self.with(|state| state.store.gits.values_mut().for_each(|git| git.outage = None));
    }

    /// Every package that holds this text fails its render.
    pub fn fail_render_of(&self, text: Option<&str>) {
        self.with(|state| state.poison = text.map(str::to_owned));
    }

    /// Makes a namespace; `default` is there from the start.
    pub fn add_namespace(&self, namespace: &str) {
        self.with(|state| state.store.namespaces.insert(namespace.to_owned()));
    }

    /// Registers a deployment repository on branch `main`, and its namespace.
    pub fn add_repository(&self, name: &str, namespace: &str, git: &str) {
        self.add_namespace(namespace);
        let spec = json!({"type": "git", "deployment": true, "git": {"repo": git, "branch": "main"}});
        self.with(|state| repositories::add(state, namespace, name, spec));
    }

    /// Unregisters it; git keeps what it holds.
    pub fn remove_repository(&self, name: &str, namespace: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.with(|state| state.store.repositories.remove(&key));
    }

    /// Moves a repository to the next version of the API: every write is answered 410.
    pub fn migrate(&self, name: &str, namespace: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.with(|state| {
            if let Some(repository) = state.store.repositories.get_mut(&key) {
                repository.migrated = true;
            }
        });
    }

    /// Says that a periodic sync of the repository runs, or has ended.
    pub fn reconcile(&self, name: &str, namespace: &str, runs: bool) {
        let key = (namespace.to_owned(), name.to_owned());
        self.with(|state| {
            if let Some(repository) = state.store.repositories.get_mut(&key) {
                repository.reconciling = runs;
            }
        });
    }

    /// What is published of a package in git, by number, whatever the server's listing says.
    pub fn published(&self, package: &str) -> Vec<Published> {
        self.with(|state| {
            let mut found: Vec<Published> = state
                .store
                .gits
                .values()
                .flat_map(|git| git.revisions(package))
                .filter(|revision| revision.number > 0)
                .map(|revision| Published {
                    number: revision.number,
                    workspace: revision.workspace.clone(),
                    files: revision.tree.files.clone(),
                })
                .collect();
            found.sort_by_key(|one| one.number);
            found
        })
    }

    /// The files of one revision in git.
    pub fn files(&self, name: &str) -> Option<BTreeMap<String, String>> {
        self.with(|state| state.truth(name).map(|found| found.revision.tree.files.clone()))
    }

    /// Somebody else makes a revision, in whatever stage, of a new package or an old one; files are added to
    /// those of a new package. Lagging listings heal, as after any foreign push.
    pub fn put_foreign(&self, name: &str, stage: Stage, files: &[(&str, &str)]) {
        self.with(|state| {
            let Some(found) = foreign(state, name, files) else { return };
            let mut found = found;
            for to in [Stage::Proposed, Stage::Published, Stage::DeletionProposed] {
                if found.revision.stage != stage && reaches(stage, to) {
                    revisions::advance(state, &mut found, to);
                }
            }
            state.store.git(&found.repository.url).resync();
        });
    }

    /// Sets `spec.packageMetadata.annotations` of a revision in git, as a foreign push would.
    pub fn annotate(&self, name: &str, annotations: &[(&str, &str)]) {
        let given: BTreeMap<&str, &str> = annotations.iter().copied().collect();
        self.rewrite(name, |text| kptfile::with_metadata(text, &json!({"annotations": given})));
    }

    /// Sets readiness gates and conditions, each as `(type, status)`, in the Kptfile of a revision.
    pub fn set_gates(&self, name: &str, gates: &[&str], conditions: &[(&str, &str)]) {
        let gates: Vec<_> = gates.iter().map(|gate| json!({"conditionType": gate})).collect();
        let conditions: Vec<_> =
            conditions.iter().map(|(kind, status)| json!({"type": kind, "status": status})).collect();
        self.rewrite(name, |text| kptfile::with_gates(text, Some(&json!(gates)), Some(&json!(conditions))));
    }

    fn rewrite(&self, name: &str, change: impl FnOnce(&str) -> String) {
        self.with(|state| {
            let Some(mut found) = state.truth(name) else { return };
            if let Some(tree) = found.revision.tree.with_kptfile(change) {
                found.revision.tree = tree;
                found.revision.version = state.store.commit();
                state.store.git(&found.repository.url).write(found.revision);
            }
        });
    }

    /// Somebody else approves a proposed revision. False if it is not proposed.
    pub fn publish_as_somebody_else(&self, name: &str) -> bool {
        self.advance(name, Stage::Proposed, Stage::Published)
    }

    /// Somebody else sends a proposed revision back to draft. False if it is not proposed.
    pub fn reject(&self, name: &str) -> bool {
        self.advance(name, Stage::Proposed, Stage::Draft)
    }

    fn advance(&self, name: &str, from: Stage, to: Stage) -> bool {
        self.with(|state| match state.truth(name).filter(|found| found.revision.stage == from) {
            None => false,
            Some(mut found) => {
                revisions::advance(state, &mut found, to);
                state.store.git(&found.repository.url).resync();
                true
            }
        })
    }

    /// Somebody else deletes a revision. False if it is not there.
    pub fn delete(&self, name: &str) -> bool {
        self.with(|state| match state.truth(name) {
            None => false,
            Some(found) => {
                let git = state.store.git(&found.repository.url);
                git.remove(&found.name.package, &found.name.workspace);
                git.resync();
                state.store.drop_side(&found.repository.namespace, name);
                true
            }
        })
    }

    /// The listing shows a revision as it was when it was last in `stage`, or not at all, until a restart or
    /// a foreign push. False if it never was so.
    pub fn phantom(&self, name: &str, stage: Option<Stage>) -> bool {
        self.with(|state| match state.truth(name) {
            None => false,
            Some(found) => {
                let git = state.store.git(&found.repository.url);
                git.roll_back(&found.name.package, &found.name.workspace, Some(stage), None)
            }
        })
    }

    /// One object as the API shows it.
    pub fn object(&self, name: &str) -> Option<serde_json::Value> {
        self.with(|state| {
            let namespace = state.home(name);
            let found = revisions::find(state, &namespace, name, Kind::Revision).ok()?;
            Some(state.store.show(&found.repository, &found.revision, |shown| shown.object(Kind::Revision)))
        })
    }

    /// The NetworkIntents of a namespace, by name.
    pub fn intents(&self, namespace: &str) -> BTreeMap<String, serde_json::Value> {
        self.with(|state| {
            let here = state.store.intents.iter().filter(|((one, _), _)| one == namespace);
            here.map(|((_, name), object)| (name.clone(), object.clone())).collect()
        })
    }

    pub(super) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        self.shared.with(act)
    }
}

/// Whether a revision in `stage` has gone through `by`.
fn reaches(stage: Stage, by: Stage) -> bool {
    let rank = |stage| match stage {
        Stage::Draft => 0,
        Stage::Proposed => 1,
        Stage::Published => 2,
        Stage::DeletionProposed => 3,
    };
    rank(stage) >= rank(by)
}

/// Writes a foreign draft: from the placeholder of its package if there is one, else as `init` makes it.
fn foreign(state: &mut State, name: &str, files: &[(&str, &str)]) -> Option<Found> {
    let namespace = state.home(name);
    let parsed = Name::parse(name)?;
    let repository = state.store.repository(&namespace, &parsed.repository).ok()?.clone();
    let git = state.store.git(&repository.url);
    let mut texts = match git.head(&parsed.package) {
        Some(head) => head.tree.files.clone(),
        None => content::initial(&parsed.package, &format!("scale {}", parsed.package), &[json!("scaling")]),
    };
    texts.extend(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())));
    let description = format!("scale {}", parsed.package);
    let revision = Revision {
        package: parsed.package.clone(),
        workspace: parsed.workspace.clone(),
        stage: Stage::Draft,
        number: 0,
        version: state.store.commit(),
        tree: Arc::new(Tree::of(texts)),
        task: json!({"type": "init", "init": {"description": description, "keywords": ["scaling"]}}),
        created: now(),
        published: None,
    };
    state.store.git(&repository.url).write(revision.clone());
    let side = state.store.side(&namespace, name);
    side.created = Some(revision.created.clone());
    side.loaded = true;
    Some(Found { repository, name: parsed, revision })
}

impl State {
    /// The namespace of the repository that a name leads to.
    fn home(&self, name: &str) -> String {
        let repository = name.split('.').next().unwrap_or_default();
        let found = self.store.repositories.values().find(|one| one.name == repository);
        found.map_or_else(|| NAMESPACE.to_owned(), |one| one.namespace.clone())
    }

    /// A revision as git has it.
    fn truth(&mut self, name: &str) -> Option<Found> {
        let namespace = self.home(name);
        let parsed = Name::parse(name)?;
        let repository = self.store.repository(&namespace, &parsed.repository).ok()?.clone();
        let revision = self.store.git(&repository.url).truth(&parsed.package, &parsed.workspace)?.clone();
        Some(Found { repository, name: parsed, revision })
    }
}
