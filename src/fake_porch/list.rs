//! Lists: what a selection takes, whole objects, tables or metadata alone.

use serde_json::{Value, json};

use super::costs::{LIST_GIVES_UP, Load};
use super::faults::Step;
use super::reply::{Outcome, PORCH, Reply};
use super::revisions::partial;
use super::routes::Call;
use super::select::Selection;
use super::state::{Shared, State};
use super::store::{Name, Repository};
use super::view::{Kind, LATEST};

pub(super) async fn answer(shared: &Shared, call: &Call, namespace: &str, kind: Kind) -> Outcome {
    let selection =
        Selection::parse(call.parameter("fieldSelector"), call.parameter("labelSelector"), namespace)?;
    let (url, load) = shared.with(|state| {
        let package = selection.field("spec.packageName");
        let git = selection
            .field("spec.repository")
            .and_then(|name| state.store.repository(namespace, name).ok().map(|one| one.url.clone()));
        let url = git.unwrap_or_default();
        let objects = state.store.git(&url).objects();
        let matched = package.map_or(objects, |package| state.store.git(&url).revisions(package).count());
        (url, Load { objects, matched: matched.min(LIST_GIVES_UP), ..Load::default() })
    });
    shared.read(&url, Step::List, &load).await;
    let gives_up = shared.with(|state| state.costs.factor > 0.0) && load.matched >= LIST_GIVES_UP;
    let items =
        if gives_up { Vec::new() } else { shared.with(|state| select(state, namespace, &selection, kind)) };
    if call.accept.contains("as=Table") {
        return Ok(Reply::json(200, table(&items)));
    }
    let name = kind.name();
    Ok(Reply::json(
        200,
        json!({"kind": format!("{name}List"), "apiVersion": format!("{PORCH}/v1alpha1"), "metadata": {}, "items": items}),
    ))
}

/// The objects that a selection takes; repositories that cannot be opened are left out in silence.
pub(super) fn select(state: &mut State, namespace: &str, selection: &Selection, kind: Kind) -> Vec<Value> {
    let wanted = selection.field("spec.repository");
    let by_name = selection.field("metadata.name").and_then(Name::parse);
    let package = selection.field("spec.packageName").or(by_name.as_ref().map(|name| name.package.as_str()));
    let repositories: Vec<Repository> = state
        .store
        .repositories
        .values()
        .filter(|one| one.namespace == namespace && wanted.is_none_or(|name| name == one.name))
        .filter(|one| !one.migrated || kind == Kind::Resources)
        .cloned()
        .collect();
    let mut items = Vec::new();
    for repository in repositories {
        if state.store.open(namespace, &repository.name).is_err() {
            continue;
        }
        for revision in state.store.git(&repository.url).listing(package) {
            let taken = state.store.show(&repository, &revision, |shown| {
                let takes = selection.takes(shown);
                takes.then(|| (shown.name.clone(), shown.object(kind)))
            });
            if let Some((name, object)) = taken {
                if !selection.by_label() && revision.number >= 0 {
                    state.store.side(namespace, &name).loaded = true;
                }
                items.push(object);
            }
        }
    }
    items
}

fn table(items: &[Value]) -> Value {
    let columns = [
        ("Name", "string"),
        ("Package", "string"),
        ("WorkspaceName", "string"),
        ("Revision", "int"),
        ("Latest", "boolean"),
        ("Lifecycle", "string"),
        ("Repository", "string"),
    ];
    let columns: Vec<Value> = columns
        .iter()
        .map(|(name, kind)| json!({"name": name, "type": kind, "format": "", "description": "", "priority": 0}))
        .collect();
    let rows: Vec<Value> = items
        .iter()
        .map(|item| {
            let spec = &item["spec"];
            let latest = item["metadata"]["labels"].get(LATEST).is_some();
            json!({"cells": [item["metadata"]["name"], spec["packageName"], spec["workspaceName"],
                spec["revision"].as_i64().unwrap_or_default(), latest, spec["lifecycle"], spec["repository"]],
                "object": partial(item)})
        })
        .collect();
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "columnDefinitions": columns, "rows": rows})
}
