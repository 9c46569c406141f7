//! One Kustomize Component for many targets, and the ConfigMaps of their intents beside it.
//!
//! ```text
//! kustomization.yaml   kind: Component; for each target one patch that adds /spec/replicas
//! intents.yaml         one ConfigMap <kind>-<name>-intent for each target, local-config
//! ```
//!
//! The site's own kustomization names the package under `components:`. The patch is an `add`, which sets
//! the field whether the base has it or not; a target that the base lacks is skipped by kustomize without
//! a word. Both texts are edited line by line, so that what others wrote into them survives, and the
//! Component is read back before it is used.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::workload::{api_kind, config_map};
use super::{LOCAL_CONFIG, MANAGED_BY, MANAGER, Stamp};
use crate::fate::Sha;
use crate::intent::{Intent, Target};

/// File name of the Component.
pub const COMPONENT: &str = "kustomization.yaml";
/// File name of the intents' ConfigMaps.
pub const INTENTS: &str = "intents.yaml";

const PATCHES: &str = "patches:";
const PATCH_HEAD: &str = r#"patch: '[{"op": "add", "path": "/spec/replicas", "value": "#;

/// The two lines of one patch, without the indentation of the list.
fn patch(target: &Target, replicas: u32) -> (String, String) {
    let (kind, name, namespace) = (api_kind(target.kind), &target.name, &target.namespace);
    let head =
        format!(r#"- target: {{group: apps, kind: {kind}, name: "{name}", namespace: "{namespace}"}}"#);
    (head, format!("  {PATCH_HEAD}{replicas}}}]'"))
}

fn empty(package: &str) -> String {
    format!(
        "# Names this package under components: of the site's own kustomization.\n\
         apiVersion: kustomize.config.k8s.io/v1alpha1\n\
         kind: Component\n\
         metadata:\n\
         \x20 name: \"{package}\"\n\
         \x20 labels:\n\
         \x20   {MANAGED_BY}: {MANAGER}\n\
         \x20 annotations:\n\
         \x20   {LOCAL_CONFIG}: \"true\"\n\
         {PATCHES}\n"
    )
}

/// The Component `held`, or a new one, with these counts.
///
/// # Errors
///
/// The text was rearranged so that the counts cannot be put into it safely.
pub(super) fn component(
    package: &str,
    held: Option<&str>,
    counts: &[(&Target, u32)],
) -> Result<String, String> {
    let begun;
    let held = match held {
        Some(text) => text,
        None => {
            begun = empty(package);
            &begun
        }
    };
    let text = edited(held, counts);
    prove(&text, counts)?;
    Ok(text)
}

fn edited(held: &str, counts: &[(&Target, u32)]) -> String {
    let mut lines: Vec<String> = held.lines().map(str::to_owned).collect();
    if let Some(none) = lines.iter_mut().find(|line| *line == "patches: []") {
        PATCHES.clone_into(none);
    }
    if !lines.iter().any(|line| line == PATCHES) {
        lines.push(PATCHES.to_owned());
    }
    let heads: HashMap<String, usize> = lines
        .iter()
        .enumerate()
        .filter(|(_, line)| line.trim_start().starts_with("- target: {"))
        .map(|(at, line)| (line.trim().to_owned(), at))
        .collect();
    let first = lines.iter().position(|line| line == PATCHES).map_or(lines.len(), |at| at + 1);
    let indent = lines.get(first).map_or(0, |line| line.len() - line.trim_start().len());
    let pad = " ".repeat(indent);
    let mut added = Vec::new();
    for (target, replicas) in counts {
        let (head, body) = patch(target, *replicas);
        let known = heads.get(&head).map(|at| at + 1);
        match known.filter(|&at| lines.get(at).is_some_and(|line| line.trim_start().starts_with(PATCH_HEAD)))
        {
            Some(at) => {
                let lead = lines[at].len() - lines[at].trim_start().len();
                lines[at] = format!("{}{}", " ".repeat(lead), body.trim_start());
            }
            None => added.extend([format!("{pad}{head}"), format!("{pad}{body}")]),
        }
    }
    let inside = |line: &String| line.is_empty() || line.starts_with([' ', '-', '#']);
    let end = lines[first..].iter().position(|line| !inside(line)).map_or(lines.len(), |at| first + at);
    lines.splice(end..end, added);
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

/// Reads the text back: for each target the last patch that names it must set its count.
fn prove(text: &str, counts: &[(&Target, u32)]) -> Result<(), String> {
    let refused = |why: &str| {
        format!(
            "{COMPONENT} cannot be edited safely: {why}; put it back into the form in which it was written"
        )
    };
    let document: Value = serde_saphyr::from_str(text).map_err(|_| refused("it is not one YAML document"))?;
    let patches = document["patches"].as_array().ok_or_else(|| refused("patches is no list"))?;
    let mut set: HashMap<(&str, &str, &str), u64> = HashMap::with_capacity(patches.len());
    for entry in patches {
        let word = |key: &str| entry["target"][key].as_str().unwrap_or_default();
        let operations = entry["patch"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        let count = operations.as_ref().filter(|all| all[0]["path"] == "/spec/replicas");
        if let Some(count) = count.and_then(|all| all[0]["value"].as_u64()) {
            set.insert((word("namespace"), word("kind"), word("name")), count);
        }
    }
    let missing = counts.iter().find(|(target, replicas)| {
        let key = (&*target.namespace, api_kind(target.kind), &*target.name);
        set.get(&key) != Some(&u64::from(*replicas))
    });
    match missing {
        None => Ok(()),
        Some((target, _)) => Err(refused(&format!("its patch of {target} does not read back"))),
    }
}

/// The ConfigMaps `held`, or none, with those of these intents put in.
pub(super) fn intents(held: &str, members: &[(&Intent, Stamp<'_>, &Sha)]) -> String {
    let mut documents: Vec<&str> = held.split("---\n").filter(|text| !text.trim().is_empty()).collect();
    let mut places: HashMap<(String, String), usize> =
        documents.iter().enumerate().filter_map(|(at, text)| Some((identity(text)?, at))).collect();
    let rendered: Vec<String> =
        members.iter().map(|(intent, stamp, key)| document(intent, stamp, key)).collect();
    for text in &rendered {
        let Some(name) = identity(text) else { continue };
        match places.get(&name) {
            Some(&at) => documents[at] = text,
            None => {
                places.insert(name, documents.len());
                documents.push(text);
            }
        }
    }
    documents.join("---\n")
}

/// The ConfigMap of one intent in [`INTENTS`].
fn document(intent: &Intent, stamp: &Stamp<'_>, key: &Sha) -> String {
    let mut out = Vec::with_capacity(1024);
    let mut prefix = String::new();
    // Writing to a string cannot fail.
    let _ = write!(prefix, "{}-", intent.target.kind.as_str());
    config_map(&mut out, intent, stamp, &prefix, Some(key));
    String::from_utf8_lossy(&out).into_owned()
}

/// The ConfigMap of `target` in `held`.
pub(super) fn find<'a>(held: &'a str, target: &Target) -> Option<&'a str> {
    let wanted =
        (format!("\"{}-{}-intent\"", target.kind.as_str(), target.name), format!("\"{}\"", target.namespace));
    held.split("---\n").find(|text| identity(text).as_ref() == Some(&wanted))
}

/// Name and namespace, as written, of a document in the form in which we write them.
fn identity(document: &str) -> Option<(String, String)> {
    let mut lines = document.lines().skip_while(|line| line.is_empty() || line.starts_with('#'));
    let ours = lines.next() == Some("apiVersion: v1")
        && lines.next() == Some("kind: ConfigMap")
        && lines.next() == Some("metadata:");
    let name = lines.next()?.strip_prefix("  name: ").filter(|_| ours)?;
    let namespace = lines.next()?.strip_prefix("  namespace: ")?;
    Some((name.to_owned(), namespace.to_owned()))
}
