//! Package revisions: reading them and moving them through their lifecycle.

use serde_json::{Map, Value, json};

use super::content::{self, Complaint};
use super::costs::Load;
use super::delete;
use super::faults::Step;
use super::kptfile;
use super::reply::{self, Outcome, PORCH, Reply};
use super::routes::Call;
use super::rules;
use super::state::{Event, Shared, State, Write};
use super::store::git::{Revision, Stage};
use super::store::{Name, Repository, now};
use super::view::{Kind, LATEST};

/// What is behind a name: where it lives, and what the server believes of it.
pub(super) struct Found {
    pub(super) repository: Repository,
    pub(super) name: Name,
    pub(super) revision: Revision,
}

pub(super) fn find(state: &mut State, namespace: &str, name: &str, kind: Kind) -> Outcome<Found> {
    let (name, revision) = state.store.seen(namespace, kind.resource(), name)?;
    let repository = state.store.repository(namespace, &name.repository)?.clone();
    Ok(Found { repository, name, revision })
}

/// What a write of this revision has to work on.
pub(super) fn load(state: &mut State, found: &Found) -> Load {
    let git = state.store.git(&found.repository.url);
    let files = found.revision.tree.resources();
    Load {
        objects: git.objects(),
        revisions: git.revisions(&found.name.package).count(),
        old_files: files,
        files,
        bytes: found.revision.tree.bytes(),
        matched: 0,
    }
}

pub(super) async fn get(shared: &Shared, call: &Call, namespace: &str, name: &str, kind: Kind) -> Outcome {
    let url = shared.with(|state| {
        let parsed = Name::parse(name)?;
        Some(state.store.repository(namespace, &parsed.repository).ok()?.url.clone())
    });
    shared.read(&url.unwrap_or_default(), Step::Get, &Load::default()).await;
    shared.with(|state| {
        let found = find(state, namespace, name, kind)?;
        if found.repository.migrated && kind == Kind::Revision {
            return Err(reply::not_found(PORCH, kind.resource(), name));
        }
        if found.revision.number >= 0 {
            state.store.side(namespace, name).loaded = true;
        }
        let object = state.store.show(&found.repository, &found.revision, |shown| shown.object(kind));
        Ok(Reply::json(
            200,
            if call.accept.contains("as=PartialObjectMetadata") { partial(&object) } else { object },
        ))
    })
}

/// The same object without spec and status.
pub(super) fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

/// The lock of one object, for either kind.
pub(super) fn object_lock(namespace: &str, name: &str, kind: Kind) -> (String, reply::Refusal) {
    let what = match kind {
        Kind::Revision => "on package revision",
        Kind::Resources => "on package revision resources",
    };
    let id = format!("{namespace}/{name}");
    let taken = reply::in_progress(kind.resource(), name, &format!("{what} \"{id}\""));
    (id, taken)
}

/// Whether the version that a write names is the present one.
pub(super) fn check_version(object: &Value, revision: &Revision, kind: Kind, name: &str) -> Outcome<()> {
    match object["metadata"]["resourceVersion"].as_str().unwrap_or_default() {
        "" => Err(reply::internal("resourceVersion must be specified for an update")),
        version if version != revision.version => Err(reply::stale(kind.resource(), name)),
        _ => Ok(()),
    }
}

/// Whether git takes a write of what the server believes.
pub(super) fn check_git(state: &mut State, found: &Found) -> Outcome<()> {
    let git = state.store.git(&found.repository.url);
    let why = git.trouble_fetching(&found.repository).or_else(|| git.clash(&found.revision));
    why.map_or(Ok(()), |why| Err(reply::internal(&why)))
}

pub(super) async fn update(
    shared: &Shared,
    call: &Call,
    namespace: &str,
    name: &str,
    approval: bool,
) -> Outcome {
    let kind = Kind::Revision;
    let step = if approval { Step::Approve } else { Step::Propose };
    if call.content_type.starts_with("application/apply-patch") {
        // The real handler panics on an object that is not there.
        shared.with(|state| find(state, namespace, name, kind)).map_err(|_| reply::Refusal::Hangup)?;
    }
    let (url, load) = shared.with(|state| {
        let found = find(state, namespace, name, kind)?;
        Ok((found.repository.url.clone(), load(state, &found)))
    })?;
    let (lock, taken) = object_lock(namespace, name, kind);
    let write = Write { shared, call, lock, taken, url, step, load };
    write.run(|state| change(shared, state, call, namespace, name, approval)).await
}

/// One update, from the checks to the commit.
fn change(
    shared: &Shared,
    state: &mut State,
    call: &Call,
    namespace: &str,
    name: &str,
    approval: bool,
) -> Outcome<(Name, Reply)> {
    let kind = Kind::Revision;
    let mut found = find(state, namespace, name, kind)?;
    if found.repository.migrated {
        return Err(reply::gone(&found.repository.name));
    }
    let before = state.store.show(&found.repository, &found.revision, |shown| shown.object(kind));
    let after = call.applied(&before, kind)?;
    let wanted = after["spec"]["lifecycle"].as_str().unwrap_or_default();
    let from = found.revision.stage;
    if approval {
        rules::approval(name, from, wanted)?;
    } else {
        rules::update(name, from, &before, &after)?;
    }
    check_version(&after, &found.revision, kind, name)?;
    let to = Stage::parse(wanted).unwrap_or(from);
    let kptfile = (!from.is_published()).then(|| kptfile_change(&found.revision, &before, &after)).flatten();
    let moves = to != from || to == Stage::Proposed || kptfile.is_some();
    if moves {
        check_git(state, &found)?;
        if from == Stage::Draft && to == Stage::Proposed {
            rendered(state, &found.revision)?;
        }
        if let Some(tree) = kptfile {
            found.revision.tree = tree;
        }
        if found.revision.number < 0 {
            // A placeholder that is read back from git has lost its task.
            found.revision.task = Value::Null;
        }
        advance(state, &mut found, to);
    }
    let held = !state.store.side(namespace, name).finalizers.is_empty();
    if found.revision.number >= 0 {
        keep_metadata(state, namespace, name, &after);
    }
    let object = state.store.show(&found.repository, &found.revision, |shown| shown.object(kind));
    announce(shared, namespace, &object, moves && found.revision.number >= 0, found.revision.number >= 0);
    let side = state.store.side(namespace, name);
    if held && side.deleting.is_some() && side.finalizers.is_empty() {
        delete::erase(state, namespace, name, &found);
    }
    Ok((found.name, Reply::json(200, object)))
}

/// A change of spec or conditions that goes into the Kptfile.
fn kptfile_change(
    revision: &Revision,
    before: &Value,
    after: &Value,
) -> Option<std::sync::Arc<content::Tree>> {
    let changed = |pointer: &str| {
        let value = after.pointer(pointer);
        (value != before.pointer(pointer)).then_some(value).flatten()
    };
    let metadata = changed("/spec/packageMetadata");
    let (gates, conditions) = (changed("/spec/readinessGates"), changed("/status/conditions"));
    revision.tree.with_kptfile(|text| {
        let text = metadata.map_or_else(|| text.to_owned(), |given| kptfile::replace_metadata(text, given));
        kptfile::with_gates(&text, gates, conditions)
    })
}

/// Leaving Draft renders once more.
fn rendered(state: &State, revision: &Revision) -> Outcome<()> {
    let none = content::Files::new();
    let again = revision.tree.unrendered.is_some();
    let old = if again { &none } else { &revision.tree.files };
    match content::render(&revision.tree.files, old, state.poison.as_deref()) {
        Ok(()) => Ok(()),
        Err(Complaint::Render(why) | Complaint::Refused(why)) => Err(reply::internal(&format!(
            "Error rendering package in kpt function pipeline. Package NOT pushed to remote. Fix locally (until 'kpt \
             fn render' succeeds) and retry. Details: {why}"
        ))),
    }
}

/// Moves a revision to a stage and writes it; approval makes number, tag and placeholder.
pub(super) fn advance(state: &mut State, found: &mut Found, to: Stage) {
    let from = found.revision.stage;
    found.revision.stage = to;
    // Taking back and proposing deletion only move a ref.
    if !from.is_published() && !(from == Stage::Proposed && to == Stage::Draft) {
        found.revision.version = state.store.commit();
    }
    if from == Stage::Proposed && to == Stage::Published {
        let git = state.store.git(&found.repository.url);
        found.revision.number = git.latest(&found.name.package) + 1;
        found.revision.published = Some(now());
        let head = Revision {
            workspace: found.repository.branch.clone(),
            number: -1,
            created: now(),
            ..found.revision.clone()
        };
        git.write(head);
    }
    state.store.git(&found.repository.url).write(found.revision.clone());
}

/// Labels, annotations, finalizers and owners live beside git.
pub(super) fn keep_metadata(state: &mut State, namespace: &str, name: &str, object: &Value) {
    let map = |key: &str| -> Map<String, Value> {
        object["metadata"].get(key).and_then(Value::as_object).cloned().unwrap_or_default()
    };
    let list = |key: &str| object["metadata"].get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let side = state.store.side(namespace, name);
    side.labels = map("labels");
    side.labels.shift_remove(LATEST);
    side.annotations = map("annotations");
    side.finalizers = list("finalizers");
    side.owners = list("ownerReferences");
}

/// What watchers hear of an update: of a moved version `ADDED` and then `MODIFIED`.
fn announce(shared: &Shared, namespace: &str, object: &Value, moved: bool, heard: bool) {
    let kinds: &[&'static str] = if !heard {
        &[]
    } else if moved {
        &["ADDED", "MODIFIED"]
    } else {
        &["MODIFIED"]
    };
    for kind in kinds {
        tell(shared, namespace, kind, object);
    }
}

pub(super) fn tell(shared: &Shared, namespace: &str, kind: &'static str, object: &Value) {
    shared.tell(Event {
        namespace: namespace.to_owned(),
        resource: "packagerevisions",
        kind,
        object: object.clone(),
    });
}
