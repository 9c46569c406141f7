//! The files of a package on a server, which one intent or many share.
//!
//! What the server holds is edited, never rebuilt: comments, order and files of others survive. An intent
//! that the package already holds (same id) changes nothing, so that a step done twice is a step done once.

use std::collections::BTreeMap;
use std::fmt;

use super::component::{self, COMPONENT, INTENTS};
use super::workload::{Base, api_kind, render_keyed};
use super::{Blueprint, Blueprints, CONTEXT, Document, Held, INTENT_KEY, KPTFILE, Stamp, WORKLOAD, scale};
use crate::error::{Consequence, Fault};
use crate::fate::{Id, Sha};
use crate::intent::{Intent, Target};

/// Workload files in one package above which the server's files step, which compares each new file with each old
/// one, takes seconds: use `content = "component"` then.
pub const MANY_FILES: usize = 300;

/// File by path; `None` deletes one. Files that are not named stay.
pub type Changes = BTreeMap<String, Option<String>>;

/// How a package holds its targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One target: `workload.yaml`.
    Single,
    /// A file `<namespace>-<kind>-<name>.yaml` for each target.
    Files,
    /// One Kustomize Component for all, and one register of intents.
    Component,
}

/// One intent that is to be put into a package.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// What it asks for.
    pub intent: &'a Intent,
    /// Its id.
    pub id: Id,
    /// Digest of the dropped bytes.
    pub sha: &'a Sha,
    /// Its dedup key.
    pub key: &'a Sha,
}

/// Why the files cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupFault {
    /// Which member of the group, if it is one member's fault.
    pub member: Option<usize>,
    /// What is wrong and how to put it right.
    pub message: String,
    consequence: Consequence,
}

impl fmt::Display for GroupFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for GroupFault {}

impl Fault for GroupFault {
    fn consequence(&self) -> Consequence {
        self.consequence
    }
}

/// What has to change in `held`, the files of `package`, for it to hold these intents, all of different
/// targets.
///
/// # Errors
///
/// [`GroupFault`]: a member whose blueprint cannot serve, or a Component that was rearranged.
pub fn changes(
    form: Form,
    package: &str,
    members: &[Member<'_>],
    held: &BTreeMap<String, String>,
    blueprints: Option<&mut Blueprints>,
) -> Result<Changes, GroupFault> {
    match form {
        Form::Component => component_changes(package, members, held),
        Form::Single | Form::Files => workload_changes(form, members, held, blueprints),
    }
}

fn component_changes(
    package: &str,
    members: &[Member<'_>],
    held: &BTreeMap<String, String>,
) -> Result<Changes, GroupFault> {
    let intents = held.get(INTENTS).map_or("", String::as_str);
    let mut counts = Vec::with_capacity(members.len());
    let mut entered = Vec::with_capacity(members.len());
    for member in members {
        if component::id_of(intents, &member.intent.target) == Some(&member.id.to_string()) {
            continue;
        }
        entered.push((member.intent, member.id, member.key));
        counts.extend(scale(member.intent).map(|replicas| (&member.intent.target, replicas)));
    }
    if entered.is_empty() {
        return Ok(Changes::new());
    }
    let text = component::component(package, held.get(COMPONENT).map(String::as_str), &counts)
        .map_err(|message| GroupFault { member: None, message, consequence: Consequence::Retry })?;
    let mut changes = Changes::new();
    changes.insert(INTENTS.to_owned(), Some(component::intents(package, intents, &entered)));
    if held.get(COMPONENT) != Some(&text) {
        changes.insert(COMPONENT.to_owned(), Some(text));
    }
    Ok(changes)
}

fn workload_changes(
    form: Form,
    members: &[Member<'_>],
    held: &BTreeMap<String, String>,
    mut blueprints: Option<&mut Blueprints>,
) -> Result<Changes, GroupFault> {
    let mut changes = Changes::new();
    for (at, member) in members.iter().enumerate() {
        let target = &member.intent.target;
        let file = match form {
            Form::Single => WORKLOAD.to_owned(),
            _ => format!("{}-{}-{}.yaml", target.namespace, target.kind.as_str(), target.name),
        };
        let before = Held::parse(held.get(&file).map_or(b"", |text| text.as_bytes()));
        let (id, revision, document) = match before {
            Held::Ours(holding) => (holding.id, holding.revision, Some(holding.document)),
            Held::Empty | Held::Unmarked => (None, 0, None),
        };
        if id == Some(member.id) {
            continue;
        }
        let blueprint = match (scale(member.intent), blueprints.as_deref_mut()) {
            (Some(_), Some(all)) => all.find(target).map_err(|fault| GroupFault {
                member: Some(at),
                consequence: fault.consequence(),
                message: fault.to_string(),
            })?,
            _ => None,
        };
        let stamp = Stamp { id: member.id, sha: member.sha, revision: revision + 1 };
        let theirs = scale(member.intent)
            .filter(|_| blueprint.is_none())
            .and_then(|replicas| edit_theirs(&file, held, &changes, target, &stamp, replicas));
        let base = match (scale(member.intent), &blueprint, &theirs, document) {
            (Some(_), _, Some(_), _) => Base::Absent,
            (Some(replicas), Some(blueprint), _, _) => Base::Blueprint(blueprint, replicas),
            (Some(replicas), None, None, _) => Base::Owned(replicas),
            (None, _, _, Some(Document::Whole(text))) => Base::Kept(text),
            (None, ..) => Base::Absent,
        };
        let mut out = Vec::with_capacity(1024);
        render_keyed(&mut out, member.intent, &stamp, base, Some(member.key));
        changes.insert(file, Some(String::from_utf8_lossy(&out).into_owned()));
        if let Some((file, text)) = theirs {
            changes.insert(file, Some(text));
        }
    }
    Ok(changes)
}

/// A package that began as a clone brings its own workload: the file in which it stands, with our values.
fn edit_theirs(
    ours: &str,
    held: &BTreeMap<String, String>,
    changes: &Changes,
    target: &Target,
    stamp: &Stamp<'_>,
    replicas: u32,
) -> Option<(String, String)> {
    let kind = format!("kind: {}", api_kind(target.kind));
    let own = [ours, KPTFILE, CONTEXT, COMPONENT, INTENTS];
    let texts = held.iter().filter(|(file, _)| file.ends_with(".yaml") && !own.contains(&file.as_str()));
    for (file, text) in texts {
        let text = changes.get(file).and_then(Option::as_ref).unwrap_or(text);
        if !text.contains(&kind) || !text.contains(&*target.name) {
            continue;
        }
        let mut documents: Vec<String> = text.split("\n---\n").map(str::to_owned).collect();
        for document in &mut documents {
            let Ok(workload) = Blueprint::parse(document.clone(), target) else { continue };
            let mut out = Vec::with_capacity(document.len() + 512);
            workload.render(&mut out, stamp, replicas);
            let edited = String::from_utf8_lossy(&out).into_owned();
            *document = edited.strip_suffix('\n').map_or(edited.clone(), str::to_owned);
            let mut whole = documents.join("\n---\n");
            if text.ends_with('\n') && !whole.ends_with('\n') {
                whole.push('\n');
            }
            return Some((file.clone(), whole));
        }
    }
    None
}

/// True if these files hold the intent of this dedup key (64 hex digits).
pub fn holds_key(files: &BTreeMap<String, String>, key: &str) -> bool {
    let annotated = |text: &String| text.lines().any(|line| value(line, INTENT_KEY) == Some(key));
    files.get(INTENTS).is_some_and(|register| component::registers(register, key))
        || files.values().any(annotated)
}

fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    Some(line.trim_start().strip_prefix(key)?.strip_prefix(':')?.trim().trim_matches(['"', '\'']))
}

#[cfg(test)]
mod tests;
