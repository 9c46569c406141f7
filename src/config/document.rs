//! What the key table says to people and editors: the commented sample and the JSON Schema.
//!
//! `config/conductor-loop.toml` and `config/schema/config.schema.json` in the repository are the
//! output of these two functions, byte for byte.

use serde_json::{Map, Value as Json, json};

use super::keys::{KEYS, Key};
use super::kind::{Beyond, Kind};
use super::model::Config;

/// Widest line of the sample's comments.
const WIDTH: usize = 100;

const HEAD: &str = "\
#:schema ./schema/config.schema.json
# The line above is for editors; `conductor-loop config schema` prints the file that it names.
#
# Settings of conductor-loop. Every key stands here with its default, commented out; take the # away
# to change one. A # before prose is followed by a space, one before a key is not.
#
# Layers, the later one wins: built-in defaults, this file, conf.d/*.toml beside it in order of
# name, the environment, --set KEY=VALUE, flags. `conductor-loop config print` shows which one won,
# and `conductor-loop config check FILE` names every fault of a file at once.
#
# In the environment watch.debounce is CONDUCTOR_LOOP_WATCH_DEBOUNCE and sink.folder.out is
# CONDUCTOR_LOOP_SINK_FOLDER_OUT; commas separate the words of a list, and an empty variable counts
# as unset.
#
# Durations: 250ms, 5s, 1m30s, 30d. Sizes: 256KiB, 1MiB. Paths count from the working directory.
# This file must belong to root or to the daemon's user and be writable by no one else. A new value
# needs a restart, unless the key says that a reload (SIGHUP) takes it over.
";

/// The sample file: every key with meaning, range and default.
pub fn sample() -> String {
    let mut text = String::from(HEAD);
    let mut section = "";
    for key in KEYS {
        if key.section != section {
            section = key.section;
            text.push_str(&format!("\n[{section}]\n"));
        }
        text.push('\n');
        for line in wrap(&prose(key), WIDTH - 2) {
            text.push_str(&format!("# {line}\n"));
        }
        text.push_str(&format!("#{} = {}\n", key.name, key.example()));
    }
    text
}

/// Meaning, range, reload, and default where it is no constant.
fn prose(key: &Key) -> String {
    let mut text = String::from(key.meaning);
    if let Some(range) = key.kind.range() {
        text.push_str(&format!(" Range: {range}."));
    }
    if !key.restart {
        text.push_str(" A reload takes it over.");
    }
    if let Some(computed) = key.computed {
        text.push_str(&format!(" Default: {}. For example:", computed.default));
    }
    text
}

/// Lines of at most `width` characters, broken between words.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.into()),
        }
    }
    lines
}

/// The JSON Schema (draft 2020-12) of a settings file, for editors.
pub fn schema() -> Json {
    let mut root = object("Settings of conductor-loop.");
    root.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    root.insert("title".into(), "conductor-loop settings".into());
    for key in KEYS {
        let mut at = &mut root;
        for part in key.section.split('.') {
            at = section(at, part);
        }
        if let Some(properties) = at.get_mut("properties").and_then(Json::as_object_mut) {
            properties.insert(key.name.into(), property(key));
        }
    }
    Json::Object(root)
}

/// The schema text as the repository holds it.
pub fn schema_text() -> String {
    format!("{:#}\n", schema())
}

fn object(description: &str) -> Map<String, Json> {
    let Json::Object(object) = json!({
        "description": description,
        "type": "object",
        "additionalProperties": false,
        "properties": {},
    }) else {
        return Map::new();
    };
    object
}

/// The sub-schema of section `name` within `parent`, made if need be.
fn section<'a>(parent: &'a mut Map<String, Json>, name: &str) -> &'a mut Map<String, Json> {
    let properties = parent.entry("properties").or_insert_with(|| json!({}));
    let made = || Json::Object(object(&format!("The section {name}.")));
    let slot = as_object(properties).entry(name).or_insert_with(made);
    as_object(slot)
}

/// `json` as an object, which it becomes if it is none.
fn as_object(json: &mut Json) -> &mut Map<String, Json> {
    if !json.is_object() {
        *json = json!({});
    }
    json.as_object_mut().expect("made an object just above")
}

fn property(key: &Key) -> Json {
    let mut schema = of_kind(&key.kind);
    let about = as_object(&mut schema);
    about.insert("description".into(), prose(key).replace(" For example:", "").into());
    if key.computed.is_none() {
        about.insert("default".into(), key.get(&Config::default()).json());
    }
    schema
}

fn of_kind(kind: &Kind) -> Json {
    match kind {
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Count(limits) if limits.beyond == Beyond::Clamp => json!({"type": "integer"}),
        Kind::Count(limits) => json!({"type": "integer", "minimum": limits.least, "maximum": limits.most}),
        Kind::Size(_) => json!({"anyOf": [
            {"type": "string", "pattern": "^(0|[0-9]+(B|KiB|MiB|GiB|TiB))$"},
            {"const": 0},
        ]}),
        Kind::Time { .. } => json!({"anyOf": [
            {"type": "string", "pattern": "^(0|([0-9]+(\\.[0-9]+)?(d|h|m|s|ms|us|µs|ns))+)$"},
            {"const": 0},
        ]}),
        Kind::Path => json!({"type": "string", "minLength": 1}),
        Kind::Text(form) => json!({"type": "string", "pattern": form.pattern}),
        Kind::Word(words) => json!({"enum": words}),
        Kind::List(inner) => json!({"type": "array", "items": of_kind(inner)}),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Environment, Layers, load};

    /// The sample with the `#` taken from every key that `wanted` picks.
    fn uncommented(wanted: impl Fn(&Key) -> bool) -> String {
        let picked: Vec<String> =
            KEYS.iter().filter(|key| wanted(key)).map(|key| format!("#{} = ", key.name)).collect();
        let line = |line: &str| match picked.iter().any(|start| line.starts_with(start.as_str())) {
            true => line[1..].to_string(),
            false => line.to_string(),
        };
        sample().lines().map(line).collect::<Vec<_>>().join("\n")
    }

    fn loaded(text: &str) -> Config {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.toml");
        std::fs::write(&path, text).expect("written");
        let layers = Layers { file: Some(path), cores: 64, ..Layers::new(Environment::new()) };
        load(&layers).map_err(|faults| faults.to_string()).expect("no fault").config
    }

    fn as_json(text: &str) -> Json {
        serde_json::to_value(toml::from_str::<toml::Table>(text).expect("TOML")).expect("JSON")
    }

    #[test]
    fn the_sample_means_the_defaults_commented_or_not() {
        assert_eq!(loaded(&sample()), Config::default());
        let fixed = |key: &Key| KEYS.iter().all(|other| other.name != key.name || other.computed.is_none());
        assert_eq!(loaded(&uncommented(fixed)), Config::default());
    }

    #[test]
    fn every_line_of_the_sample_is_a_good_setting() {
        let config = loaded(&uncommented(|_| true));
        for key in KEYS {
            assert_eq!(key.get(&config).to_string(), key.example(), "{}", key.full());
        }
    }

    #[test]
    fn the_files_in_the_repository_are_what_the_code_writes() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
        for (name, text) in [("conductor-loop.toml", sample()), ("schema/config.schema.json", schema_text())]
        {
            let kept = std::fs::read_to_string(root.join(name)).expect("kept in the repository");
            assert!(
                kept == text,
                "config/{name} differs: write it anew with `conductor-loop config init` or `schema`"
            );
        }
    }

    #[test]
    fn the_schema_takes_what_the_daemon_takes_and_refuses_what_it_refuses() {
        let schema = jsonschema::draft202012::new(&schema()).expect("a schema");
        assert!(schema.is_valid(&as_json(&sample())));
        assert!(schema.is_valid(&as_json(&uncommented(|_| true))));
        for text in [
            "[watch]\ndebonce = \"1s\"",
            "[watch]\ndebounce = 5",
            "[watch]\ndebounce = \"5 bananas\"",
            "[intake]\nqueue = 1",
            "[policy]\nkinds = [\"pod\"]",
            "[sink.exec]\ncommand = \"x\"",
            "[sink]\nkind = \"exec\"",
        ] {
            assert!(!schema.is_valid(&as_json(text)), "{text}");
        }
        assert!(schema.is_valid(&as_json("[watch]\nperiod = 0")));
    }

    #[test]
    fn comments_stay_within_their_width() {
        for line in sample().lines().filter(|line| line.starts_with("# ")) {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        assert_eq!(wrap("a bb ccc", 4), ["a bb", "ccc"]);
    }
}
