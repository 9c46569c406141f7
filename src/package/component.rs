//! One Kustomize Component for many targets, and the register of their intents beside it.
//!
//! ```text
//! kustomization.yaml   kind: Component; for each target one patch that adds /spec/replicas
//! intents.yaml         one ConfigMap, local-config; for each target a line with id and key of its newest intent
//! ```
//!
//! The register is one object and holds about 100 bytes for each target, because the server compares every new
//! object with every old one and its time grows with the bytes: an object for each intent costs seconds at
//! 1,000 targets (`porch.md` 4). The key is cut to the digits of a workspace's name. What an intent says beyond
//! its count is in the ledger and the archive; the fields of one without a count stand in its line.
//!
//! The site's own kustomization names the package under `components:`. The patch is an `add`, which sets
//! the field whether the base has it or not; a target that the base lacks is skipped by kustomize without
//! a word. Both texts are edited line by line, so that what others wrote into them survives, and the
//! Component is read back before it is used.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::workload::api_kind;
use super::yaml::push_quoted;
use super::{LOCAL_CONFIG, MANAGED_BY, MANAGER, scale};
use crate::fate::{Id, Sha};
use crate::intent::{Intent, Target};

/// File name of the Component.
pub const COMPONENT: &str = "kustomization.yaml";
/// File name of the register of intents.
pub const INTENTS: &str = "intents.yaml";

const PATCHES: &str = "patches:";
const NO_PATCHES: &str = "patches: []";
const DATA: &str = "data:";
/// Hex digits of a key in the register, as many as in the name of a workspace.
const DIGITS: usize = 40;
const PATCH_HEAD: &str = r#"patch: '[{"op": "add", "path": "/spec/replicas", "value": "#;

/// The two lines of one patch, without the indentation of the list.
fn patch(target: &Target, replicas: u32) -> (String, String) {
    let (kind, name, namespace) = (api_kind(target.kind), &target.name, &target.namespace);
    let head =
        format!(r#"- target: {{group: apps, kind: {kind}, name: "{name}", namespace: "{namespace}"}}"#);
    (head, format!("  {PATCH_HEAD}{replicas}}}]'"))
}

/// The head of a file of ours, up to its own part.
fn head(package: &str, version: &str, kind: &str, suffix: &str) -> String {
    format!(
        "apiVersion: {version}\n\
         kind: {kind}\n\
         metadata:\n\
         \x20 name: \"{package}{suffix}\"\n\
         \x20 labels:\n\
         \x20   {MANAGED_BY}: {MANAGER}\n\
         \x20 annotations:\n\
         \x20   {LOCAL_CONFIG}: \"true\"\n"
    )
}

fn empty(package: &str) -> String {
    let head = head(package, "kustomize.config.k8s.io/v1alpha1", "Component", "");
    format!("# Name this package under components: of the site's own kustomization.\n{head}{NO_PATCHES}\n")
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
    if counts.is_empty() {
        return Ok(held.to_owned());
    }
    let text = edited(held, counts);
    prove(&text, counts)?;
    Ok(text)
}

fn edited(held: &str, counts: &[(&Target, u32)]) -> String {
    let mut lines: Vec<String> = held.lines().map(str::to_owned).collect();
    if let Some(none) = lines.iter_mut().find(|line| *line == NO_PATCHES) {
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

/// The register `held`, or a new one, with these intents put in. A file without a register is begun anew.
pub(super) fn intents(package: &str, held: &str, members: &[(&Intent, Id, &Sha)]) -> String {
    let begun;
    let held = match held.lines().any(|line| line == DATA) {
        true => held,
        false => {
            begun = head(package, "v1", "ConfigMap", "-intents") + DATA;
            &begun
        }
    };
    let mut lines: Vec<String> = held.lines().map(str::to_owned).collect();
    let mut places: HashMap<String, usize> =
        lines.iter().enumerate().filter_map(|(at, line)| Some((entry(line)?.0.to_owned(), at))).collect();
    for (intent, id, key) in members {
        let name = entry_name(&intent.target);
        let text = register_line(&name, intent, *id, key);
        match places.get(&name) {
            Some(&at) => lines[at] = text,
            None => {
                places.insert(name, lines.len());
                lines.push(text);
            }
        }
    }
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

/// `<namespace>.<kind>.<name>`: all three are DNS labels, so no two targets meet, and it is at most 141 long.
fn entry_name(target: &Target) -> String {
    format!("{}.{}.{}", target.namespace, target.kind.as_str(), target.name)
}

/// `  <target>: "<id> <key>"`, and behind it the fields of an intent that sets no count.
fn register_line(name: &str, intent: &Intent, id: Id, key: &Sha) -> String {
    let mut value = format!("{id} {:.DIGITS$}", key.to_string());
    if scale(intent).is_none() {
        let fields = intent.fields.iter().map(|(field, text)| (field.to_string(), Value::from(&**text)));
        // Writing to a string cannot fail.
        let _ = write!(value, " {}", Value::Object(fields.collect()));
    }
    let mut line = format!("  {name}: ").into_bytes();
    push_quoted(&mut line, &value);
    String::from_utf8_lossy(&line).into_owned()
}

/// Id of the newest intent of `target` in the register `held`.
pub(super) fn id_of<'a>(held: &'a str, target: &Target) -> Option<&'a str> {
    let wanted = entry_name(target);
    held.lines().filter_map(entry).find(|(name, ..)| *name == wanted).map(|(_, id, _)| id)
}

/// True if the register `held` has the intent of `key` (hex digits).
pub(super) fn registers(held: &str, key: &str) -> bool {
    let short = key.get(..DIGITS);
    held.lines().filter_map(entry).any(|(_, _, key)| Some(key) == short)
}

/// Target, id and key of a line of the register.
fn entry(line: &str) -> Option<(&str, &str, &str)> {
    let (name, value) = line.strip_prefix("  ")?.split_once(": ")?;
    let mut words = value.trim().trim_matches(['"', '\'']).splitn(3, ' ');
    let (id, key) = (words.next()?, words.next()?);
    (key.len() == DIGITS).then_some((name, id, key))
}
