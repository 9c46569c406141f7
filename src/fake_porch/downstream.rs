//! What a clone makes of a blueprint's files: where each came from, in a comment and an annotation.

use serde_json::{Value, json};

use super::content::{Files, Tree};
use super::kptfile;
use super::revisions::Found;
use super::yaml;

const IDENTIFIER: &str = "internal.kpt.dev/upstream-identifier";

/// The files of `source` as the package `package` starts with them.
pub(super) fn of(source: &Found, package: &str) -> Tree {
    let name = package.rsplit('/').next().unwrap_or(package);
    let mut files = Files::new();
    for (path, text) in &source.revision.tree.files {
        let text = match path.as_str() {
            "Kptfile" => kptfile(text, source, name),
            "package-context.yaml" => kptfile::edited(text, |document| {
                document["data"]["name"] = json!(name);
                document["data"]["package-path"] = json!(package);
            }),
            _ => text.clone(),
        };
        let marked = path == "Kptfile" || path.ends_with(".yaml") || path.ends_with(".yml");
        files.insert(path.clone(), if marked { mark(&text) } else { text });
    }
    Tree::of(files)
}

/// The Kptfile with its new name and where it came from.
fn kptfile(text: &str, source: &Found, name: &str) -> String {
    let package = &source.name.package;
    let git = json!({"repo": format!("{}.git", source.repository.url), "directory": package,
        "ref": source.revision.reference(&source.repository.branch)});
    let mut lock = git.clone();
    lock["commit"] = json!(source.revision.version);
    kptfile::edited(text, |document| {
        document["metadata"]["name"] = json!(name);
        let Value::Object(before) = document.take() else {
            return;
        };
        let mut after = serde_json::Map::new();
        for (key, value) in before {
            if !matches!(key.as_str(), "upstream" | "upstreamLock") {
                after.insert(key.clone(), value);
            }
            if key == "metadata" {
                after.insert("upstream".to_owned(), json!({"type": "git", "git": git}));
                after.insert("upstreamLock".to_owned(), json!({"type": "git", "git": lock}));
            }
        }
        *document = Value::Object(after);
    })
}

/// Marks every resource of a file in block style; other styles stay as they are.
fn mark(text: &str) -> String {
    let marked: Vec<String> = text.split("---\n").map(mark_one).collect();
    marked.join("---\n")
}

fn mark_one(text: &str) -> String {
    let Some(document) = yaml::documents(text).ok().and_then(|all| all.into_iter().next()) else {
        return text.to_owned();
    };
    let field = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (version, namespace) = (field("/apiVersion"), field("/metadata/namespace"));
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let shown = if namespace.is_empty() { "default" } else { namespace };
    let name = field("/metadata/name");
    let identifier = format!("{IDENTIFIER}: '{group}|{}|{shown}|{name}'", field("/kind"));
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let Some(at) = lines.iter().position(|line| line == "metadata:") else {
        return text.to_owned();
    };
    let block = lines.iter().skip(at + 1).take_while(|line| line.starts_with(' ')).count();
    let annotations = lines.iter().skip(at + 1).take(block).position(|line| line == "  annotations:");
    match annotations {
        Some(offset) => {
            let begin = at + 1 + offset;
            let rest = (at + block).saturating_sub(begin);
            let inside =
                lines.iter().skip(begin + 1).take(rest).take_while(|line| line.starts_with("    ")).count();
            lines.insert(begin + 1 + inside, format!("    {identifier}"));
        }
        None => {
            lines.insert(at + 1 + block, "  annotations:".to_owned());
            lines.insert(at + 2 + block, format!("    {identifier}"));
        }
    }
    if let Some(line) = lines.get_mut(at) {
        *line = format!("metadata: # kpt-merge: {namespace}/{name}");
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_marked_as_recorded() {
        let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: cat\n  namespace: oran-odu\n  labels:\n    \
                    app: cat\nspec:\n  replicas: 3 # kept\n";
        assert_eq!(
            mark(text),
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: # kpt-merge: oran-odu/cat\n  name: cat\n  namespace: \
             oran-odu\n  labels:\n    app: cat\n  annotations:\n    internal.kpt.dev/upstream-identifier: \
             'apps|Deployment|oran-odu|cat'\nspec:\n  replicas: 3 # kept\n"
        );
    }
}
