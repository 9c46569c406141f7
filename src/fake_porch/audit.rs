//! What git holds, for those who count effects.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::FakePorch;
use super::store::git::{Revision, Stage};
use super::yaml;

/// A revision as git has it, placeholders left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// `<repository>.<package>.<workspace>`.
    pub name: String,
    /// The repository.
    pub repository: String,
    /// The package.
    pub package: String,
    /// The workspace.
    pub workspace: String,
    /// Where it stands.
    pub stage: Stage,
    /// Its number, 0 before it is published.
    pub number: i64,
    /// The annotations of its Kptfile.
    pub annotations: BTreeMap<String, String>,
    /// Its files by path.
    pub files: BTreeMap<String, String>,
}

impl Seen {
    fn of(repository: &str, revision: &Revision) -> Seen {
        let annotations = revision.tree.facts.annotations.iter();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Seen {
            name: revision.name_in(repository),
            repository: repository.to_owned(),
            package: revision.package.clone(),
            workspace: revision.workspace.clone(),
            stage: revision.stage,
            number: revision.number,
            annotations: annotations.map(|(key, value)| (key.clone(), text(value))).collect(),
            files: revision.tree.files.clone(),
        }
    }

    /// Every value of an annotation in its files, the Kptfile included, however deep it stands.
    pub fn values(&self, annotation: &str) -> BTreeSet<String> {
        let mut values = BTreeSet::new();
        for text in self.files.values().filter(|text| text.contains(annotation)) {
            // What is no YAML has no annotations.
            for document in yaml::documents(text).unwrap_or_default() {
                gather(&document, annotation, &mut values);
            }
        }
        values
    }
}

fn gather(value: &Value, key: &str, values: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match value {
                    Value::String(text) if name == key => drop(values.insert(text.clone())),
                    other => gather(other, key, values),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| gather(value, key, values)),
        _ => {}
    }
}

/// Every revision of every repository, by repository, package and number; the unpublished ones last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Audit {
    /// The revisions.
    pub revisions: Vec<Seen>,
}

impl Audit {
    /// Packages, each `<repository>.<package>`.
    pub fn packages(&self) -> BTreeSet<String> {
        self.revisions.iter().map(|seen| format!("{}.{}", seen.repository, seen.package)).collect()
    }

    /// The published revisions of a package, the oldest first.
    pub fn published(&self, package: &str) -> Vec<&Seen> {
        self.revisions.iter().filter(|seen| seen.package == package && seen.number > 0).collect()
    }

    /// The revisions that are not published.
    pub fn open(&self) -> Vec<&Seen> {
        self.revisions.iter().filter(|seen| seen.number <= 0).collect()
    }

    /// By value of an annotation of the Kptfile, the names of the revisions that have it.
    pub fn workspaces(&self, annotation: &str) -> BTreeMap<String, Vec<String>> {
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for seen in &self.revisions {
            if let Some(value) = seen.annotations.get(annotation) {
                found.entry(value.clone()).or_default().push(seen.name.clone());
            }
        }
        found
    }

    /// By value of an annotation in any file, the names of the published revisions that brought it: those whose
    /// predecessor had not got it. A key that took effect once has one.
    pub fn effects(&self, annotation: &str) -> BTreeMap<String, Vec<String>> {
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut before: Option<(&Seen, BTreeSet<String>)> = None;
        for seen in self.revisions.iter().filter(|seen| seen.number > 0) {
            let values = seen.values(annotation);
            let same = |older: &Seen| older.package == seen.package && older.repository == seen.repository;
            let older = before.take().filter(|(older, _)| same(older)).map(|(_, values)| values);
            for value in
                values.iter().filter(|value| older.as_ref().is_none_or(|older| !older.contains(*value)))
            {
                found.entry(value.clone()).or_default().push(seen.name.clone());
            }
            before = Some((seen, values));
        }
        found
    }
}

impl FakePorch {
    /// What is in git now, whatever the server's listing says.
    pub fn audit(&self) -> Audit {
        let mut revisions: Vec<Seen> = self.with(|state| {
            let repositories = state.store.repositories.values();
            let gits = repositories.filter_map(|one| Some((one, state.store.gits.get(&one.url)?)));
            gits.flat_map(|(repository, git)| git.all().map(|revision| Seen::of(&repository.name, revision)))
                .collect()
        });
        let last = |number: i64| if number > 0 { number } else { i64::MAX };
        revisions.sort_by(|a, b| {
            let key = |seen: &Seen| (seen.repository.clone(), seen.package.clone(), last(seen.number));
            key(a).cmp(&key(b))
        });
        Audit { revisions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(package: &str, number: i64, keys: &[&str]) -> Seen {
        let one = |key: &&str| {
            let text = format!("kind: A\nmetadata:\n  annotations:\n    x/key: {key}\n");
            (format!("{key}.yaml"), text)
        };
        Seen {
            name: format!("r.{package}.w{number}"),
            repository: "r".to_owned(),
            package: package.to_owned(),
            workspace: format!("w{number}"),
            stage: if number > 0 { Stage::Published } else { Stage::Draft },
            number,
            annotations: BTreeMap::new(),
            files: keys.iter().map(one).collect(),
        }
    }

    #[test]
    fn an_effect_is_a_revision_that_brings_a_key() {
        let revisions = vec![
            seen("a", 1, &["k1"]),
            seen("a", 2, &["k1", "k2"]),
            seen("a", 3, &["k2"]),
            seen("a", 4, &["k1", "k2"]),
            seen("a", 0, &["k3"]),
            seen("b", 1, &["k2"]),
        ];
        let audit = Audit { revisions };
        let effects = audit.effects("x/key");
        assert_eq!(effects["k1"], ["r.a.w1", "r.a.w4"], "it went and came again");
        assert_eq!(effects["k2"], ["r.a.w2", "r.b.w1"], "two packages");
        assert!(!effects.contains_key("k3"), "a draft has no effect");
        assert_eq!(audit.open().len(), 1);
        assert_eq!(audit.published("a").len(), 4);
        assert_eq!(audit.packages().len(), 2);
    }
}
