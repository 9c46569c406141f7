//! `config print`, `check`, `schema` and `init`.
//!
//! Each writes its product to the writer it is given: what `check` finds is its product too.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde_json::json;

use super::checked::Checked;
use crate::config::keys::{KEYS, Key};
use crate::config::{Layers, Loaded, Value, document};

/// Prints every setting with its value, its origin, and whether a new value takes a restart or a reload:
/// a table, or one JSON object keyed by full name.
///
/// # Errors
///
/// Those of `out`.
pub fn print(loaded: &Loaded, json: bool, out: &mut dyn Write) -> io::Result<()> {
    if json {
        let entry = |key: &Key| {
            let full = key.full();
            let origin = loaded.origins.of(&full).to_string();
            (
                full,
                json!({ "value": key.get(&loaded.config).json(), "origin": origin, "restart": key.restart }),
            )
        };
        return writeln!(out, "{:#}", serde_json::Value::Object(KEYS.iter().map(entry).collect()));
    }
    let mut rows = vec![["KEY", "VALUE", "CHANGE", "ORIGIN"].map(String::from)];
    rows.extend(KEYS.iter().map(|key| row(loaded, key)));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (keys, values, changes) = (width(0), width(1), width(2));
    for [key, value, change, origin] in &rows {
        writeln!(out, "{key:keys$}  {value:values$}  {change:changes$}  {origin}")?;
    }
    Ok(())
}

/// Key, value, what a new value takes, and origin; for a value that is not set also what holds instead.
fn row(loaded: &Loaded, key: &Key) -> [String; 4] {
    let value = key.get(&loaded.config);
    let mut origin = loaded.origins.of(&key.full()).to_string();
    if let (Value::Unset, Some(computed)) = (&value, key.computed) {
        origin = format!("{origin}: {}", computed.default);
    }
    let change = if key.restart { "restart" } else { "reload" };
    [key.full(), value.to_string(), change.to_owned(), origin]
}

/// Loads the settings as `run` would, from `file` if one is named, and prints `ok` or every fault,
/// one a line. Returns the exit code, 0 or 1.
///
/// # Errors
///
/// Those of `out`.
pub fn check(file: Option<&Path>, mut layers: Layers, out: &mut dyn Write) -> io::Result<u8> {
    if let Some(file) = file {
        layers.file = Some(file.to_path_buf());
    }
    match Checked::load(&layers) {
        Ok(Checked { loaded, .. }) => {
            for warning in &loaded.warnings {
                writeln!(out, "warning: {warning}")?;
            }
            match &loaded.file {
                Some(file) => writeln!(out, "{}: ok", file.display())?,
                None => writeln!(out, "no settings file, the defaults are used: ok")?,
            }
            Ok(0)
        }
        Err(faults) => {
            writeln!(out, "{faults}")?;
            Ok(1)
        }
    }
}

/// Prints the JSON Schema of settings files.
///
/// # Errors
///
/// Those of `out`.
pub fn schema(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(document::schema_text().as_bytes())
}

/// Prints the commented sample, or writes it to the file `output` (mode 0644), which must not exist.
///
/// # Errors
///
/// Those of `out`, and of making the file: the message names it and says what to do.
pub fn init(output: Option<&Path>, out: &mut dyn Write) -> io::Result<()> {
    let Some(path) = output else { return out.write_all(document::sample().as_bytes()) };
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)
        .and_then(|mut file| file.write_all(document::sample().as_bytes()));
    written.map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::AlreadyExists => "exists already; name another file or remove it".to_string(),
            _ => format!("cannot be written: {error}"),
        };
        io::Error::new(error.kind(), format!("{}: {advice}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment, Given, Origin, load};

    fn layers() -> Layers {
        Layers { system: "/nonexistent/config.toml".into(), ..Layers::new(Environment::new()) }
    }

    fn loaded() -> Loaded {
        let given = vec![Given {
            key: "watch.debounce".into(),
            value: "50ms".into(),
            origin: Origin::Flag("--debounce"),
        }];
        load(&Layers { given, ..layers() }).map_err(|faults| faults.to_string()).expect("no fault")
    }

    fn written(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).expect("a vector takes all");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn print_shows_every_key_with_value_and_origin() {
        let text = written(|out| print(&loaded(), false, out));
        let rows: Vec<Vec<&str>> =
            text.lines().map(|line| line.split("  ").map(str::trim).collect()).collect();
        let row = |key: &str| {
            let row = rows.iter().find(|row| row[0] == key).expect("a row");
            row.iter().filter(|cell| !cell.is_empty()).copied().collect::<Vec<_>>()
        };
        assert_eq!(rows.len(), KEYS.len() + 1);
        assert_eq!(row("KEY"), ["KEY", "VALUE", "CHANGE", "ORIGIN"]);
        assert_eq!(row("watch.debounce"), ["watch.debounce", "\"50ms\"", "reload", "flag --debounce"]);
        assert_eq!(
            row("settle.failed_dir"),
            ["settle.failed_dir", "unset", "restart", "default: failed in the handoff folder"]
        );
    }

    #[test]
    fn print_json_has_every_key_with_value_and_origin() {
        let text = written(|out| print(&loaded(), true, out));
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(json.as_object().map(serde_json::Map::len), Some(KEYS.len()));
        assert_eq!(
            json["watch.debounce"],
            json!({"value": "50ms", "origin": "flag --debounce", "restart": false})
        );
        assert_eq!(json["intake.queue"], json!({"value": 16384, "origin": "default", "restart": true}));
        assert_eq!(json["policy.kinds"], json!({"value": [], "origin": "default", "restart": false}));
        assert_eq!(json["settle.failed_dir"], json!({"value": null, "origin": "default", "restart": true}));
    }

    #[test]
    fn check_names_all_faults_and_exits_with_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("c.toml");
        std::fs::write(&file, "[watch]\ndebonce = 1\nperiod = \"2h\"\n").expect("written");
        let mut out = Vec::new();
        assert_eq!(check(Some(&file), layers(), &mut out).expect("written"), 1);
        let text = String::from_utf8(out).expect("text");
        assert_eq!(
            text.replace(&file.display().to_string(), "FILE"),
            "FILE line 2 column 1: watch.debonce: unknown key; did you mean watch.debounce?\n\
             FILE line 3 column 10: watch.period: 2h is outside 100ms to 1h\n"
        );
    }

    #[test]
    fn check_says_ok_and_exits_with_zero() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("c.toml");
        std::fs::write(&file, "watch.debounce = \"1ms\"").expect("written");
        let mut out = Vec::new();
        assert_eq!(check(Some(&file), layers(), &mut out).expect("written"), 0);
        assert_eq!(
            String::from_utf8(out).expect("text").replace(&file.display().to_string(), "FILE"),
            "warning: FILE line 1 column 18: watch.debounce: 1ms is below 10ms; 10ms is used\nFILE: ok\n"
        );
        let mut out = Vec::new();
        assert_eq!(check(None, layers(), &mut out).expect("written"), 0);
        assert_eq!(out, b"no settings file, the defaults are used: ok\n");
    }

    #[test]
    fn schema_prints_json() {
        let text = written(schema);
        assert!(
            serde_json::from_str::<serde_json::Value>(&text)
                .is_ok_and(|schema| schema["properties"].is_object())
        );
    }

    #[test]
    fn init_writes_a_file_that_loads_and_never_overwrites_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.toml");
        assert_eq!(written(|out| init(Some(&path), out)), "");
        let kept = std::fs::read_to_string(&path).expect("written");
        assert_eq!(kept, written(|out| init(None, out)));
        let loaded = load(&Layers { file: Some(path.clone()), ..layers() });
        assert_eq!(loaded.map(|loaded| loaded.config), Ok(Config::default()));
        std::fs::write(&path, "mine").expect("written");
        let error = init(Some(&path), &mut Vec::new()).expect_err("it exists");
        assert_eq!(
            error.to_string(),
            format!("{}: exists already; name another file or remove it", path.display())
        );
        assert_eq!(std::fs::read_to_string(&path).expect("kept"), "mine");
    }
}
