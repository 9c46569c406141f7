//! `NetworkIntent` objects, and the question which rights the caller has.

use serde_json::{Value, json};

use super::patch;
use super::reply::{self, Outcome, Reply};
use super::routes::Call;
use super::state::{Shared, State};
use super::store::{now, uid};
use super::yaml;

/// The group of NetworkIntents.
pub(super) const GROUP: &str = "intent.nephoran.com";

const RESOURCE: &str = "networkintents";

pub(super) fn answer(shared: &Shared, call: &Call, namespace: &str, name: Option<&str>) -> Outcome {
    shared.with(|state| {
        state.store.namespace(namespace)?;
        let Some(name) = name else {
            return match call.method.as_str() {
                "GET" => Ok(list(state, namespace)),
                "POST" => create(state, call, namespace),
                _ => Err(reply::not_allowed()),
            };
        };
        let key = (namespace.to_owned(), name.to_owned());
        let missing = || reply::not_found(GROUP, RESOURCE, name);
        match call.method.as_str() {
            "GET" => state.store.intents.get(&key).cloned().ok_or_else(missing).map(|object| Reply::json(200, object)),
            "PATCH" if call.content_type.starts_with("application/apply-patch") => apply(state, call, namespace, name),
            "PATCH" | "PUT" => {
                let present = state.store.intents.get(&key).cloned().ok_or_else(missing)?;
                let body: Value =
                    serde_json::from_slice(&call.body).map_err(|why| reply::bad_request(&why.to_string()))?;
                let mut object = if call.method == "PUT" { body.clone() } else { present.clone() };
                if call.method == "PATCH" {
                    patch::merge(&mut object, &body);
                }
                let version = &object["metadata"]["resourceVersion"];
                if !version.is_null() && *version != present["metadata"]["resourceVersion"] {
                    let why = "the object has been modified; please apply your changes to the latest version and try again";
                    return Err(reply::conflict(GROUP, RESOURCE, name, why));
                }
                Ok(Reply::json(200, store(state, namespace, name, object, Some(&present))))
            }
            "DELETE" => state
                .store
                .intents
                .remove(&key)
                .ok_or_else(missing)
                .map(|_| Reply::json(200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))),
            _ => Err(reply::not_allowed()),
        }
    })
}

fn list(state: &mut State, namespace: &str) -> Reply {
    let version = state.store.tick().to_string();
    let items: Vec<&Value> = state
        .store
        .intents
        .iter()
        .filter(|((one, _), _)| one == namespace)
        .map(|(_, object)| object)
        .collect();
    let list = json!({"apiVersion": format!("{GROUP}/v1alpha1"), "kind": "NetworkIntentList",
        "metadata": {"resourceVersion": version}, "items": items});
    Reply::json(200, list)
}

fn create(state: &mut State, call: &Call, namespace: &str) -> Outcome {
    let object = call.json("NetworkIntent")?;
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if name.is_empty() {
        let cause = reply::Cause {
            field: "metadata.name".to_owned(),
            reason: "FieldValueRequired",
            message: "Required value: name or generateName is required".to_owned(),
        };
        return Err(reply::invalid("NetworkIntent", GROUP, "", &[cause]));
    }
    if state.store.intents.contains_key(&(namespace.to_owned(), name.clone())) {
        return Err(reply::already_exists(GROUP, RESOURCE, &name));
    }
    Ok(Reply::json(201, store(state, namespace, &name, object, None)))
}

/// Server-side apply: makes the object or merges into it. A field that another manager set is a conflict
/// unless `force` is given; the manager of an object is the last one that changed its spec.
fn apply(state: &mut State, call: &Call, namespace: &str, name: &str) -> Outcome {
    let manager = call.parameter("fieldManager");
    if manager.is_empty() {
        return Err(reply::bad_request("fieldManager is required for apply patch"));
    }
    let text = String::from_utf8_lossy(&call.body);
    let given = yaml::documents(&text).map_err(|why| reply::bad_request(&why))?.into_iter().next();
    let given = given.ok_or_else(|| reply::bad_request("the patch is empty"))?;
    let present = state.store.intents.get(&(namespace.to_owned(), name.to_owned())).cloned();
    let mut object = present.clone().unwrap_or_else(|| json!({}));
    patch::merge(&mut object, &given);
    if let Some(present) = &present {
        let owner = present["metadata"]["managedFields"][0]["manager"].as_str().unwrap_or_default();
        let foreign = owner != manager && call.parameter("force") != "true";
        if foreign && object["spec"] != present["spec"] {
            let why = format!("Apply failed with 1 conflict: conflict with \"{owner}\": .spec");
            return Err(reply::conflict(GROUP, RESOURCE, name, &why));
        }
    }
    object["metadata"]["managedFields"] =
        json!([{"manager": manager, "operation": "Apply", "apiVersion": format!("{GROUP}/v1alpha1")}]);
    let code = if present.is_some() { 200 } else { 201 };
    Ok(Reply::json(code, store(state, namespace, name, object, present.as_ref())))
}

/// Keeps an object; its version moves where it changed, its generation where its spec did.
fn store(state: &mut State, namespace: &str, name: &str, mut object: Value, before: Option<&Value>) -> Value {
    if before == Some(&object) {
        return object;
    }
    let generation = before.map_or(0, |before| before["metadata"]["generation"].as_u64().unwrap_or_default());
    let same = before.is_some_and(|before| before["spec"] == object["spec"]);
    let metadata = &mut object["metadata"];
    metadata["name"] = json!(name);
    metadata["namespace"] = json!(namespace);
    metadata["uid"] = before.map_or_else(
        || uid(namespace, &format!("intent {name}")),
        |before| before["metadata"]["uid"].clone(),
    );
    metadata["creationTimestamp"] =
        before.map_or_else(|| json!(now()), |before| before["metadata"]["creationTimestamp"].clone());
    metadata["generation"] = json!(generation + u64::from(!same));
    metadata["resourceVersion"] = json!(state.store.tick().to_string());
    state.store.intents.insert((namespace.to_owned(), name.to_owned()), object.clone());
    object
}

/// Answers a `SelfSubjectAccessReview` from the rights that were taken away.
pub(super) fn review(shared: &Shared, call: &Call) -> Outcome {
    let mut review = call.json("SelfSubjectAccessReview")?;
    let text = |key: &str| review["spec"]["resourceAttributes"][key].as_str().unwrap_or_default().to_owned();
    let (verb, resource, sub) = (text("verb"), text("resource"), text("subresource"));
    let full = if sub.is_empty() { resource } else { format!("{resource}/{sub}") };
    let denied = shared.with(|state| state.denied.contains(&(verb, full)));
    review["status"] = json!({"allowed": !denied});
    Ok(Reply::json(201, review))
}
