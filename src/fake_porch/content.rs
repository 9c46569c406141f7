//! The files of a package: what is refused, and what the server does to their text.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::kptfile::{self, Facts};
use super::yaml;

/// Files by path.
pub(super) type Files = BTreeMap<String, String>;

/// Functions that the server runs itself; every other image goes to a function runner, and none listens here.
const BUILT_IN: [&str; 6] = [
    "apply-replacements:v0.1",
    "apply-replacements:v0.1.1",
    "set-namespace:v0.4",
    "set-namespace:v0.4.1",
    "starlark:v0.4",
    "starlark:v0.4.3",
];

const CATALOG: &str = "ghcr.io/kptdev/krm-functions-catalog/";

/// A package as it is stored.
#[derive(Debug, Clone, Default)]
pub(super) struct Tree {
    pub(super) files: Files,
    pub(super) facts: Facts,
    /// What the last render complained of, where the files were stored all the same.
    pub(super) unrendered: Option<String>,
}

impl Tree {
    pub(super) fn of(files: Files) -> Tree {
        let facts = files.get("Kptfile").map(|text| kptfile::facts(text)).unwrap_or_default();
        Tree { files, facts, unrendered: None }
    }

    pub(super) fn bytes(&self) -> usize {
        self.files.values().map(String::len).sum()
    }

    /// Objects in it.
    pub(super) fn resources(&self) -> usize {
        resources(self.files.values())
    }

    /// The same package with another Kptfile; `None` where the text is the same.
    pub(super) fn with_kptfile(&self, change: impl FnOnce(&str) -> String) -> Option<Arc<Tree>> {
        let before = self.files.get("Kptfile").map(String::as_str).unwrap_or_default();
        let after = change(before);
        if after == before {
            return None;
        }
        let mut files = self.files.clone();
        files.insert("Kptfile".to_owned(), after);
        Some(Arc::new(Tree { unrendered: self.unrendered.clone(), ..Tree::of(files) }))
    }
}

/// Why files are not taken.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Complaint {
    /// Whatever the caller asked for; the text follows `Internal error occurred: `.
    Refused(String),
    /// Rendering failed: what follows `Details: `. May be stored on request.
    Render(String),
}

/// Takes a whole package: what is stored, and whether it renders.
///
/// Files that are the same as in `old` are not looked at again. `poison` is a text that fails the render of
/// any file that holds it.
pub(super) fn take(given: Files, old: &Files, poison: Option<&str>) -> (Files, Result<(), Complaint>) {
    let files = match clean(given) {
        Ok(files) => files,
        Err(why) => return (Files::new(), Err(Complaint::Refused(why))),
    };
    let mut stored = Files::new();
    let mut fault = None;
    for (path, text) in files {
        let known = old.get(&path) == Some(&text);
        match if known { Ok(Some(text)) } else { settle(&path, text) } {
            Ok(Some(text)) => drop(stored.insert(path, text)),
            Ok(None) => {}
            Err(why) => fault = fault.or(Some(why)),
        }
    }
    let outcome = match fault {
        Some(why) => Err(why),
        None => render(&stored, old, poison),
    };
    (stored, outcome)
}

/// File names as git would hold them.
fn clean(given: Files) -> Result<Files, String> {
    let mut files = Files::new();
    for (path, text) in given {
        files.insert(cleaned(&path)?, text);
    }
    if files.contains_key("Kptfile") {
        Ok(files)
    } else {
        Err("package must contain Kptfile at root: file does not exist".to_owned())
    }
}

fn cleaned(path: &str) -> Result<String, String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part != ".." {
            parts.push(part);
        } else if parts.pop().is_none() {
            return Err("failed to persist resources after render failure: package must contain Kptfile at \
                        root: file does not exist: cannot add a directory above '/'"
                .to_owned());
        }
    }
    if path.ends_with('/')
        && let Some(last) = parts.last().copied()
    {
        parts.push(last);
    }
    Ok(parts.join("/"))
}

fn is_yaml(path: &str) -> bool {
    path == "Kptfile" || path.ends_with("/Kptfile") || path.ends_with(".yaml") || path.ends_with(".yml")
}

/// One file as it is stored; `None` if it vanishes.
fn settle(path: &str, text: String) -> Result<Option<String>, Complaint> {
    if path.ends_with(".json") {
        return match serde_json::from_str::<Value>(&text) {
            Ok(value) => Ok(Some(format!("{value:#}\n"))),
            Err(why) => Err(Complaint::Render(format!(
                "fn.render: pkg /:\n\tpkg.render:\n\tpkg.readResources: /{path}: MalformedYAMLError: yaml: {why}"
            ))),
        };
    }
    if !is_yaml(path) {
        return Ok(Some(text));
    }
    let documents = yaml::documents(&text).map_err(|why| {
        Complaint::Refused(format!("failed to heal resources: MalformedYAMLError: yaml: {why}"))
    })?;
    if let Some(odd) = documents.iter().find(|document| !document.is_object()) {
        let kind = if odd.is_array() { "SequenceNode" } else { "ScalarNode" };
        return Err(Complaint::Refused(format!(
            "failed to heal resources: wrong node kind: expected MappingNode but got {kind}: node \
             contents:\n{text}"
        )));
    }
    if documents.is_empty() {
        return Ok(None);
    }
    let end = text.trim_end_matches([' ', '\t', '\r', '\n']).len();
    if text.get(end..) == Some("\n") {
        return Ok(Some(text));
    }
    let mut text = text;
    text.truncate(end);
    text.push('\n');
    Ok(Some(text))
}

/// Renders a stored package: every resource must be one, and every function must run.
pub(super) fn render(files: &Files, old: &Files, poison: Option<&str>) -> Result<(), Complaint> {
    let fail = |what: String| Err(Complaint::Render(format!("fn.render: pkg /:\n\t{what}")));
    let kptfile = files.get("Kptfile").map(String::as_str).unwrap_or_default();
    if old.get("Kptfile").map(String::as_str) != Some(kptfile)
        && let Err(what) = is_kptfile(kptfile)
    {
        return fail(what);
    }
    let changed = files.iter().filter(|(path, text)| old.get(*path) != Some(text));
    for (path, text) in changed.filter(|(path, _)| is_yaml(path) || path.ends_with(".json")) {
        for document in yaml::documents(text).unwrap_or_default() {
            if let Some(field) = missing(&document) {
                return fail(format!(
                    "pkg.render: input resource list must contain only KRM resources: {path}: resource must \
                     have `{field}`"
                ));
            }
        }
    }
    for function in kptfile::facts(kptfile).functions {
        let Some(image) = function else {
            return fail(
                "pkg.render:\n\tpipeline.run: must run with `--allow-exec` option to allow running function \
                 binaries"
                    .to_owned(),
            );
        };
        if !BUILT_IN.contains(&image.strip_prefix(CATALOG).unwrap_or(&image)) {
            return fail(format!(
                "pkg.render:\n\tpipeline.run: func eval \"{image}\" failed: rpc error: code = Unavailable desc = \
                 connection error: desc = \"transport: Error while dialing: dial tcp 127.0.0.1:9445: connect: \
                 connection refused\""
            ));
        }
    }
    match poison.and_then(|poison| files.iter().find(|(_, text)| text.contains(poison))) {
        None => Ok(()),
        Some((path, _)) => fail(format!("pkg.render:\n\tpipeline.run: validation failed: {path}")),
    }
}

fn is_kptfile(text: &str) -> Result<(), String> {
    let document = yaml::documents(text).ok().and_then(|all| all.into_iter().next()).unwrap_or_default();
    let field = |key: &str| document.get(key).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (field("apiVersion"), field("kind"));
    if kind == "Kptfile" && version.starts_with("kpt.dev/") {
        return Ok(());
    }
    let full = if version.contains('/') { version.to_owned() } else { format!("/{version}") };
    Err(format!(
        "pkg.read: error reading Kptfile at \"/\": unknown resource type \"{full}, Kind={kind}\" found in Kptfile"
    ))
}

/// The first field that makes a resource and is not there.
fn missing(document: &Value) -> Option<&'static str> {
    [("/apiVersion", "apiVersion"), ("/kind", "kind"), ("/metadata/name", "metadata.name")]
        .into_iter()
        .find(|(pointer, _)| document.pointer(pointer).and_then(Value::as_str).is_none_or(str::is_empty))
        .map(|(_, field)| field)
}

/// What `init` makes.
pub(super) fn initial(package: &str, description: &str, keywords: &[Value]) -> Files {
    let name = package.rsplit('/').next().unwrap_or(package);
    let readme = format!(
        "# {name}\n\n## Description\n{description}\n\n## Usage\n\n### Fetch the package\n`kpt pkg get \
         REPO_URI[.git]/PKG_PATH[@VERSION] {name}`\nDetails: https://kpt.dev/reference/cli/pkg/get/\n\n### View \
         package content\n`kpt pkg tree {name}`\nDetails: https://kpt.dev/reference/cli/pkg/tree/\n\n### Apply the \
         package\n```\nkpt live init {name}\nkpt live apply {name} --reconcile-timeout=2m --output=table\n```\n\
         Details: https://kpt.dev/reference/cli/live/\n"
    );
    let context = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: kptfile.kpt.dev\n  annotations:\n    \
                   config.kubernetes.io/local-config: \"true\"\ndata:\n  name: example\n";
    Files::from([
        ("Kptfile".to_owned(), kptfile::initial(package, description, keywords)),
        ("README.md".to_owned(), readme),
        ("package-context.yaml".to_owned(), context.to_owned()),
    ])
}

/// Objects in these files: each document of YAML is one.
pub(super) fn resources<'t>(texts: impl Iterator<Item = &'t String>) -> usize {
    texts.map(|text| text.matches("\n---\n").count() + 1).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(path: &str, text: &str) -> Files {
        let mut files = initial("p", "d", &[]);
        files.insert(path.to_owned(), text.to_owned());
        files
    }

    fn taken(path: &str, text: &str) -> Result<Files, Complaint> {
        let (files, outcome) = take(with(path, text), &Files::new(), None);
        outcome.map(|()| files)
    }

    #[test]
    fn texts_are_tidied_as_recorded() {
        let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
        assert_eq!(taken("a.yaml", &format!("{map}\n\n")).unwrap()["a.yaml"], map);
        assert_eq!(taken("/abs.yaml", map).unwrap()["abs.yaml"], map);
        assert_eq!(taken("a/../b.yaml", map).unwrap()["b.yaml"], map);
        assert!(taken("dir/", "text").unwrap().contains_key("dir/dir"));
        assert!(!taken("empty.yaml", "").unwrap().contains_key("empty.yaml"));
        assert_eq!(taken("notes.txt", "a: b: c\n\n").unwrap()["notes.txt"], "a: b: c\n\n");
        let json = taken("i.json", r#"{"apiVersion":"v1","kind":"A","metadata":{"name":"j"}}"#).unwrap();
        assert!(json["i.json"].starts_with("{\n  \"apiVersion\": \"v1\",\n"));
    }

    #[test]
    fn what_is_no_resource_is_refused() {
        let cases = [
            ("v.yaml", "a: 1\n", "resource must have `apiVersion`"),
            ("v.yaml", "apiVersion: v1\nkind: A\n", "resource must have `metadata.name`"),
            ("v.yaml", "- a\n", "expected MappingNode but got SequenceNode"),
            ("v.yaml", "a: b: c\n", "failed to heal resources: MalformedYAMLError"),
            ("v.json", "{\"a\":", "pkg.readResources: /v.json: MalformedYAMLError"),
            ("../x", "t", "cannot add a directory above '/'"),
            ("Kptfile", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n", "\"/v1, Kind=ConfigMap\""),
        ];
        for (path, text, why) in cases {
            let (Complaint::Refused(found) | Complaint::Render(found)) = taken(path, text).unwrap_err();
            assert!(found.contains(why), "{path}: {found}");
        }
        let (_, outcome) = take(Files::new(), &Files::new(), None);
        assert!(
            matches!(outcome, Err(Complaint::Refused(why)) if why.starts_with("package must contain Kptfile"))
        );
    }

    #[test]
    fn a_poisoned_file_fails_the_render_wherever_it_stands() {
        let (files, outcome) = take(with("a.txt", "bad luck"), &Files::new(), Some("bad luck"));
        assert!(matches!(outcome, Err(Complaint::Render(why)) if why.ends_with("a.txt")));
        assert!(render(&files, &files, Some("bad luck")).is_err(), "also where nothing changed");
    }
}
