//! `Repository` objects of the core API, and the namespaces that hold them.

use serde_json::{Value, json};

use super::reply::{self, CONFIG, Outcome, Reply};
use super::routes::Call;
use super::state::{Shared, State};
use super::store::{Repository, now};
use super::view;

const RESOURCE: &str = "repositories";

pub(super) fn answer(shared: &Shared, call: &Call, namespace: &str, name: Option<&str>) -> Outcome {
    shared.with(|state| match (call.method.as_str(), name) {
        ("GET", Some(name)) => get(state, namespace, name),
        ("GET", None) => Ok(list(state, call, namespace)),
        ("POST", None) => create(state, namespace, &call.json("Repository")?),
        ("DELETE", Some(name)) => {
            let reply = get(state, namespace, name)?;
            state.store.repositories.remove(&(namespace.to_owned(), name.to_owned()));
            Ok(reply)
        }
        _ => Err(reply::not_allowed()),
    })
}

/// A namespace, which holds repositories.
pub(super) fn namespace(state: &State, name: &str) -> Outcome {
    state.store.namespaces.get(name).ok_or_else(|| reply::not_found("", "namespaces", name))?;
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "status": {"phase": "Active"}});
    Ok(Reply::json(200, object))
}

/// The object with its condition, which a sync has just looked at.
fn shown(state: &mut State, repository: &Repository) -> Value {
    let trouble = state.store.git(&repository.url).trouble_checking(repository);
    view::repository(repository, trouble.as_deref())
}

fn get(state: &mut State, namespace: &str, name: &str) -> Outcome {
    let key = (namespace.to_owned(), name.to_owned());
    let found = state.store.repositories.get(&key).cloned();
    let repository = found.ok_or_else(|| reply::not_found(CONFIG, RESOURCE, name))?;
    Ok(Reply::json(200, shown(state, &repository)))
}

fn list(state: &mut State, call: &Call, namespace: &str) -> Reply {
    let wanted = call.parameter("fieldSelector").strip_prefix("metadata.name=").unwrap_or_default();
    let here: Vec<Repository> = state
        .store
        .repositories
        .values()
        .filter(|one| one.namespace == namespace && (wanted.is_empty() || wanted == one.name))
        .cloned()
        .collect();
    let items: Vec<Value> = here.iter().map(|one| shown(state, one)).collect();
    let version = state.store.tick().to_string();
    let list = json!({"apiVersion": format!("{CONFIG}/v1alpha1"), "kind": "RepositoryList",
        "metadata": {"resourceVersion": version}, "items": items});
    Reply::json(200, list)
}

fn create(state: &mut State, namespace: &str, object: &Value) -> Outcome {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let name = text("/metadata/name");
    let key = (namespace.to_owned(), name.to_owned());
    if state.store.repositories.contains_key(&key) {
        return Err(reply::already_exists(CONFIG, RESOURCE, name));
    }
    let repository = add(state, namespace, name, object["spec"].clone());
    Ok(Reply::json(201, view::bare_repository(&repository)))
}

/// Registers a repository; its spec is filled up with what the schema defaults to.
pub(super) fn add(state: &mut State, namespace: &str, name: &str, given: Value) -> Repository {
    let git = &given["git"];
    let text = |key: &str, default: &str| git[key].as_str().unwrap_or(default).to_owned();
    let (url, branch, directory) = (text("repo", ""), text("branch", "main"), text("directory", "/"));
    let mut spec = json!({"content": "Package", "deployment": given["deployment"].as_bool().unwrap_or_default(),
        "git": {"branch": branch, "directory": directory, "repo": url}, "type": "git"});
    for key in ["createBranch", "secretRef"] {
        if let Some(value) = git.get(key) {
            spec["git"][key] = value.clone();
        }
    }
    if git["createBranch"] == json!(true) {
        state.store.git(&url).add_branch(&branch);
    }
    let repository = Repository {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        url,
        branch,
        spec,
        created: now(),
        version: state.store.tick(),
        opened: false,
        reconciling: false,
        migrated: false,
    };
    let key = (repository.namespace.clone(), repository.name.clone());
    state.store.repositories.insert(key, repository.clone());
    // The first sync follows at once; where git does not answer, the first use tries again.
    let _ = state.store.open(namespace, name);
    date_side_objects(state, &repository);
    repository
}

/// What git holds already gets its side objects when a repository first shows it.
fn date_side_objects(state: &mut State, repository: &Repository) {
    let git = state.store.git(&repository.url);
    let names: Vec<String> = git.all().map(|revision| revision.name_in(&repository.name)).collect();
    for name in names {
        state.store.side(&repository.namespace, &name).created.get_or_insert_with(now);
    }
}
