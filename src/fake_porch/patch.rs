//! Patches: merge (RFC 7396) and JSON patch (RFC 6902: add, replace, remove, test).

use serde_json::Value;

/// Merges `patch` into `target`: `null` removes.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    for (key, change) in changes {
        if change.is_null() {
            if let Value::Object(map) = target {
                map.shift_remove(key);
            }
        } else {
            merge(&mut target[key.as_str()], change);
        }
    }
}

/// Applies a JSON patch.
///
/// # Errors
/// The first operation that cannot be applied.
pub(super) fn apply(target: &mut Value, patch: &Value) -> Result<(), String> {
    for step in patch.as_array().ok_or("a JSON patch is a list")? {
        let text = |key: &str| step.get(key).and_then(Value::as_str).unwrap_or_default();
        let (operation, path) = (text("op"), text("path"));
        let (parent, key) = path.rsplit_once('/').ok_or_else(|| format!("bad path {path:?}"))?;
        let key = key.replace("~1", "/").replace("~0", "~");
        let place = target.pointer_mut(parent).ok_or_else(|| format!("no {parent:?}"))?;
        let value = step.get("value").cloned().unwrap_or_default();
        let done = match (operation, place) {
            ("add", Value::Object(map)) => {
                map.insert(key, value);
                true
            }
            ("replace", Value::Object(map)) => map.get_mut(&key).map(|old| *old = value).is_some(),
            ("remove", Value::Object(map)) => map.shift_remove(&key).is_some(),
            ("test", Value::Object(map)) => map.get(&key) == Some(&value),
            _ => false,
        };
        if !done {
            return Err(format!("{operation} operation does not apply: {path}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_merge_replaces_adds_and_removes() {
        let mut target = json!({"a": {"b": 1, "c": 2}, "d": 3});
        merge(&mut target, &json!({"a": {"b": null, "e": {"f": 5, "g": null}}, "d": null, "h": null}));
        assert_eq!(target, json!({"a": {"c": 2, "e": {"f": 5}}}));
    }

    #[test]
    fn a_json_patch_names_its_place() {
        let mut target = json!({"spec": {"resources": {"a/b.yaml": "1"}}});
        let patch = json!([{"op": "replace", "path": "/spec/resources/a~1b.yaml", "value": "2"},
            {"op": "add", "path": "/spec/resources/c", "value": "3"}]);
        apply(&mut target, &patch).unwrap();
        assert_eq!(target, json!({"spec": {"resources": {"a/b.yaml": "2", "c": "3"}}}));
        assert!(apply(&mut target, &json!([{"op": "remove", "path": "/spec/x"}])).is_err());
    }
}
