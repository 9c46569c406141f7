//! Deletion: of drafts at once, of published revisions in two steps, if anybody insists on that.

use serde_json::json;

use super::faults::Step;
use super::reply::{self, Outcome, PORCH, Reply};
use super::revisions::{Found, find, load, object_lock, tell};
use super::routes::Call;
use super::state::{Shared, State, Write};
use super::store::git::Stage;
use super::store::{Name, now};
use super::view::Kind;

pub(super) fn erase(state: &mut State, namespace: &str, name: &str, found: &Found) {
    state.store.git(&found.repository.url).remove(&found.name.package, &found.name.workspace);
    state.store.drop_side(namespace, name);
}

pub(super) async fn answer(shared: &Shared, call: &Call, namespace: &str, name: &str) -> Outcome {
    let kind = Kind::Revision;
    let (url, load) = shared.with(|state| {
        let found = find(state, namespace, name, kind)?;
        Ok((found.repository.url.clone(), load(state, &found)))
    })?;
    let (lock, taken) = object_lock(namespace, name, kind);
    let write = Write { shared, call, lock, taken, url, step: Step::Delete, load };
    write.run(|state| remove(shared, state, namespace, name)).await
}

fn remove(shared: &Shared, state: &mut State, namespace: &str, name: &str) -> Outcome<(Name, Reply)> {
    let kind = Kind::Revision;
    let found = find(state, namespace, name, kind)?;
    let refuse = |why: &str| Err(reply::forbidden(PORCH, kind.resource(), name, why));
    if state.protects_published && found.revision.stage == Stage::Published {
        return refuse(
            "published PackageRevisions must be proposed for deletion by setting spec.lifecycle to \
             'DeletionProposed' prior to deletion",
        );
    }
    let users = downstream(state, namespace, &found);
    if !users.is_empty() {
        let users = users.join(", ");
        return refuse(&format!("cannot delete package revision, it is referenced as upstream by: {users}"));
    }
    let object = state.store.show(&found.repository, &found.revision, |shown| shown.object(kind));
    let reply = Reply::json(200, object.clone());
    let head = found.revision.number < 0;
    if !head {
        let side = state.store.side(namespace, name);
        side.deleting.get_or_insert_with(now);
        if !side.finalizers.is_empty() {
            return Ok((found.name, reply));
        }
    }
    let git = state.store.git(&found.repository.url);
    if let Some(why) = git.trouble_fetching(&found.repository) {
        // The mark of deletion stays, as on the real server.
        return Err(reply::internal(&why));
    }
    if git.clash(&found.revision).is_some() {
        return Err(reply::internal("reference not found"));
    }
    erase(state, namespace, name, &found);
    if !head {
        tell(shared, namespace, "DELETED", &object);
    }
    Ok((found.name, reply))
}

/// The revisions that were cloned from this one.
fn downstream(state: &State, namespace: &str, found: &Found) -> Vec<String> {
    let reference = format!("{}/v{}", found.name.package, found.revision.number);
    let source = json!(format!("{}.git", found.repository.url));
    let repositories = state.store.repositories.values().filter(|one| one.namespace == namespace);
    repositories
        .filter_map(|repository| Some((repository, state.store.gits.get(&repository.url)?)))
        .flat_map(|(repository, git)| git.all().map(move |revision| (repository, revision)))
        .filter(|(_, revision)| {
            let lock = &revision.tree.facts.upstream_lock["git"];
            lock["repo"] == source && lock["ref"] == json!(reference)
        })
        .map(|(repository, revision)| revision.name_in(&repository.name))
        .collect()
}
