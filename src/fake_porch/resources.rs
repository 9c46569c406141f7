//! The files of a revision: replaced as a whole or patched, rendered, and committed.

use std::sync::Arc;

use serde_json::Value;

use super::content::{self, Complaint, Files, Tree};
use super::faults::Step;
use super::reply::{self, Outcome, Reply};
use super::revisions::{self, check_git, check_version, find};
use super::routes::Call;
use super::state::{Event, Shared, State, Write};
use super::store::Name;
use super::store::git::Stage;
use super::view::Kind;

pub(super) async fn update(shared: &Shared, call: &Call, namespace: &str, name: &str) -> Outcome {
    let kind = Kind::Resources;
    let (url, load) = shared.with(|state| {
        let found = find(state, namespace, name, kind)?;
        let mut load = revisions::load(state, &found);
        let before = state.store.show(&found.repository, &found.revision, |shown| shown.object(kind));
        // What cannot be read fails below, with its lock held.
        let after = call.applied(&before, kind).map(|after| files_of(&after)).unwrap_or_default();
        load.files = content::resources(after.values());
        load.bytes = after.values().map(String::len).sum();
        Ok((found.repository.url.clone(), load))
    })?;
    let (lock, taken) = revisions::object_lock(namespace, name, kind);
    let write = Write { shared, call, lock, taken, url, step: Step::Files, load };
    write.run(|state| replace(shared, state, call, namespace, name)).await
}

fn files_of(object: &Value) -> Files {
    let map = object["spec"]["resources"].as_object();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    map.into_iter().flatten().map(|(path, value)| (path.clone(), text(value))).collect()
}

fn replace(
    shared: &Shared,
    state: &mut State,
    call: &Call,
    namespace: &str,
    name: &str,
) -> Outcome<(Name, Reply)> {
    let kind = Kind::Resources;
    let mut found = find(state, namespace, name, kind)?;
    if found.repository.migrated {
        return Err(reply::gone(&found.repository.name));
    }
    let before = state.store.show(&found.repository, &found.revision, |shown| shown.object(kind));
    let after = call.applied(&before, kind)?;
    check_version(&after, &found.revision, kind, name)?;
    if found.revision.stage != Stage::Draft {
        return Err(reply::internal(&format!(
            "cannot update a package revision with lifecycle value \"{}\"; package must be Draft",
            found.revision.stage
        )));
    }
    check_git(state, &found)?;
    let old = &found.revision.tree.files;
    let (files, outcome) = content::take(files_of(&after), old, state.poison.as_deref());
    let push = state.store.side(namespace, name).annotations.get("porch.kpt.dev/push-on-render-failure")
        == Some(&Value::from("true"));
    let failed = match outcome {
        Ok(()) => None,
        Err(Complaint::Refused(why)) => return Err(reply::internal(&why)),
        Err(Complaint::Render(why)) if push => Some(why),
        Err(Complaint::Render(why)) => {
            return Err(reply::internal(&format!(
                "error rendering package in kpt function pipeline. Package NOT pushed to remote. Fix locally (until \
                 'kpt fn render' succeeds) and retry. Details: {why}"
            )));
        }
    };
    found.revision.version = state.store.commit();
    found.revision.tree = Arc::new(Tree { unrendered: failed.clone(), ..Tree::of(files) });
    state.store.git(&found.repository.url).write(found.revision.clone());
    let (object, revision) = state
        .store
        .show(&found.repository, &found.revision, |shown| (shown.object(kind), shown.object(Kind::Revision)));
    let resource = kind.resource();
    shared.tell(Event { namespace: namespace.to_owned(), resource, kind: "ADDED", object: object.clone() });
    revisions::tell(shared, namespace, "ADDED", &revision);
    match failed {
        None => Ok((found.name, Reply::json(200, object))),
        Some(why) => Err(reply::internal(&format!(
            "error rendering package in kpt function pipeline. Package pushed to remote despite render failure. \
             Details: {why}"
        ))),
    }
}
