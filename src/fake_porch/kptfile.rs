//! The Kptfile: what the server reads from it, and the few places where it writes into it.

use serde_json::{Map, Value, json};

use super::yaml;

/// What a revision's object shows of its Kptfile.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Facts {
    pub(super) labels: Map<String, Value>,
    pub(super) annotations: Map<String, Value>,
    pub(super) gates: Vec<Value>,
    pub(super) conditions: Vec<Value>,
    pub(super) upstream_lock: Value,
    /// The functions of its pipeline: image, or nothing for an executable.
    pub(super) functions: Vec<Option<String>>,
}

fn map(value: Option<&Value>) -> Map<String, Value> {
    value.and_then(Value::as_object).cloned().unwrap_or_default()
}

fn list(value: Option<&Value>) -> Vec<Value> {
    value.and_then(Value::as_array).cloned().unwrap_or_default()
}

/// Reads a Kptfile that parses; one that does not has no facts.
pub(super) fn facts(text: &str) -> Facts {
    let document = yaml::documents(text).ok().and_then(|all| all.into_iter().next()).unwrap_or_default();
    let sorted = |pointer: &str| {
        let mut entries: Vec<(String, Value)> = map(document.pointer(pointer)).into_iter().collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries.into_iter().collect()
    };
    let functions = ["/pipeline/mutators", "/pipeline/validators"].into_iter().flat_map(|pointer| {
        list(document.pointer(pointer))
            .into_iter()
            .map(|function| function.get("image").and_then(Value::as_str).map(str::to_owned))
    });
    Facts {
        labels: sorted("/metadata/labels"),
        annotations: sorted("/metadata/annotations"),
        gates: list(document.pointer("/info/readinessGates")),
        conditions: list(document.pointer("/status/conditions")),
        upstream_lock: document.get("upstreamLock").cloned().unwrap_or_else(|| json!({})),
        functions: functions.collect(),
    }
}

/// What `init` writes.
pub(super) fn initial(package: &str, description: &str, keywords: &[Value]) -> String {
    let name = package.rsplit('/').next().unwrap_or(package);
    let mut document = json!({"apiVersion": "kpt.dev/v1", "kind": "Kptfile",
        "metadata": {"name": name, "annotations": {"config.kubernetes.io/local-config": "true"}},
        "info": {"description": description}});
    if !keywords.is_empty() {
        document["info"]["keywords"] = Value::Array(keywords.to_vec());
    }
    yaml::emit(&document)
}

/// Writes `change` over the document; the text stays as it was where nothing changes.
pub(super) fn edited(text: &str, change: impl FnOnce(&mut Value)) -> String {
    let Some(before) = yaml::documents(text).ok().and_then(|all| all.into_iter().next()) else {
        return text.to_owned();
    };
    let mut after = before.clone();
    change(&mut after);
    if after == before { text.to_owned() } else { yaml::emit(&after) }
}

/// Merges metadata of the package into its Kptfile: what is given replaces the same keys, the rest stays.
pub(super) fn with_metadata(text: &str, metadata: &Value) -> String {
    edited(text, |document| {
        for part in ["labels", "annotations"] {
            let Some(given) = metadata.get(part).and_then(Value::as_object).filter(|given| !given.is_empty())
            else {
                continue;
            };
            if !document["metadata"][part].is_object() {
                document["metadata"][part] = json!({});
            }
            for (key, value) in given {
                document["metadata"][part][key] = value.clone();
            }
        }
    })
}

/// Replaces the metadata of the package.
pub(super) fn replace_metadata(text: &str, metadata: &Value) -> String {
    edited(text, |document| {
        for part in ["labels", "annotations"] {
            let given = map(metadata.get(part));
            if !given.is_empty() || document["metadata"].get(part).is_some() {
                document["metadata"][part] = Value::Object(given);
            }
        }
    })
}

/// Writes readiness gates and, if given, conditions.
pub(super) fn with_gates(text: &str, gates: Option<&Value>, conditions: Option<&Value>) -> String {
    edited(text, |document| {
        if let Some(gates) = gates {
            document["info"]["readinessGates"] = gates.clone();
        }
        if let Some(conditions) = conditions {
            document["status"]["conditions"] = conditions.clone();
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_kptfile_is_what_init_was_recorded_to_write() {
        let text = initial("odu-high-phy", "scale odu-high-phy", &[json!("scaling")]);
        assert_eq!(
            text,
            "apiVersion: kpt.dev/v1\nkind: Kptfile\nmetadata:\n  name: odu-high-phy\n  annotations:\n    \
             config.kubernetes.io/local-config: \"true\"\ninfo:\n  description: scale odu-high-phy\n  \
             keywords:\n  - scaling\n"
        );
        assert_eq!(facts(&text).annotations["config.kubernetes.io/local-config"], "true");
    }

    #[test]
    fn metadata_is_merged_and_nothing_new_leaves_the_text_alone() {
        let text = initial("p", "d", &[]);
        let hash = json!({"annotations": {"a/hash": "11"}});
        let edited = with_metadata(&text, &hash);
        assert_eq!(facts(&edited).annotations.len(), 2);
        assert_eq!(with_metadata(&edited, &hash), edited);
        assert_eq!(facts(&replace_metadata(&edited, &hash)).annotations.len(), 1);
    }
}
