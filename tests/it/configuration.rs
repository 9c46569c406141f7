//! The settings from outside: layers and origins, every fault at once, and what is refused for safety.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Place, Ran, privileged};

/// `config print --json` under these words.
#[track_caller]
fn printed(command: &mut Command, words: &[&str]) -> Value {
    Ran::of(command.args(["config", "print", "--json"]).args(words)).ended(0).json()
}

/// Writes a file below the place's root, readable by all and writable by its owner.
fn write(place: &Place, name: &str, text: &str) -> String {
    let path = place.root().join(name);
    fs::create_dir_all(path.parent().expect("below the root")).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    path.to_str().expect("temporary folders have plain names").to_owned()
}

/// `conductor-loop` without any setting from the environment.
fn bare(place: &Place) -> Command {
    let mut command = place.command();
    for name in ["WATCH_HANDOFF", "SINK_FOLDER_OUT", "LEDGER_DIR"] {
        command.env_remove(format!("CONDUCTOR_LOOP_{name}"));
    }
    command
}

#[test]
fn each_layer_wins_over_the_ones_before_and_is_named() {
    let place = Place::new();
    let file = place.settings("");
    let at = |words: &[&str], variable: Option<&str>| {
        let mut command = bare(&place);
        variable.map(|value| command.env("CONDUCTOR_LOOP_WATCH_DEBOUNCE", value));
        let keys = printed(&mut command, &[&["--config", &file], words].concat());
        let key = &keys["watch.debounce"];
        let origin =
            key["origin"].as_str().expect("text").replace(&place.root().display().to_string(), "ROOT");
        (key["value"].as_str().expect("text").to_owned(), origin)
    };
    let is = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(at(&[], None), is("100ms", "default"));
    place.settings("[watch]\ndebounce = \"11ms\"\n");
    assert_eq!(at(&[], None), is("11ms", "ROOT/settings.toml line 2 column 12"));
    write(&place, "conf.d/20-late.toml", "watch.debounce = \"13ms\"\n");
    write(&place, "conf.d/10-early.toml", "watch.debounce = \"12ms\"\n");
    for ignored in [".30-hidden.toml", "40-backup.toml~", "50-note.txt"] {
        write(&place, &format!("conf.d/{ignored}"), "watch.debounce = \"14ms\"\n");
    }
    assert_eq!(at(&[], None), is("13ms", "ROOT/conf.d/20-late.toml line 1 column 18"));
    let variable = Some("15ms");
    assert_eq!(at(&[], variable), is("15ms", "environment CONDUCTOR_LOOP_WATCH_DEBOUNCE"));
    let set = ["--set", "watch.debounce=16ms"];
    assert_eq!(at(&set, variable), is("16ms", "flag --set"));
    let both = [&set[..], &["--debounce", "17ms"]].concat();
    assert_eq!(at(&both, variable), is("17ms", "flag --debounce"));
}

#[test]
fn fragments_add_to_the_file_key_by_key() {
    let place = Place::new();
    let file = place.settings("[policy]\nmax_replicas = 50\nkinds = [\"deployment\"]\n");
    write(&place, "conf.d/site.toml", "[policy]\nkinds = [\"statefulset\"]\n[log]\nlevel = \"warn\"\n");
    let keys = printed(&mut place.command(), &["--config", &file]);
    assert_eq!(keys["policy.max_replicas"]["value"], 50);
    assert_eq!(keys["policy.kinds"]["value"], json!(["statefulset"]), "the later list replaces the earlier");
    assert_eq!(keys["log.level"]["value"], "warn");
}

#[test]
fn every_key_has_a_variable_of_its_own() {
    let place = Place::new();
    let defaults = printed(&mut bare(&place), &[]);
    let defaults = defaults.as_object().expect("one member a key");
    let mut command = bare(&place);
    let mut names = std::collections::BTreeSet::new();
    for (key, entry) in defaults.iter().filter(|(_, entry)| !entry["value"].is_null()) {
        let name = format!("CONDUCTOR_LOOP_{}", key.replace(['.', '-'], "_").to_uppercase());
        let value = match &entry["value"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        command.env(&name, value);
        assert!(names.insert(name), "two keys share the variable of {key}");
    }
    let keys = printed(&mut command, &[]);
    for (key, entry) in defaults.iter().filter(|(_, entry)| !entry["value"].is_null()) {
        assert_eq!(keys[key]["value"], entry["value"], "{key}");
        let origin = keys[key]["origin"].as_str().expect("text");
        assert!(
            origin.strip_prefix("environment ").is_some_and(|name| names.contains(name)),
            "{key}: {origin}"
        );
    }
}

#[test]
fn a_slip_of_the_pen_is_told_what_was_meant() {
    let place = Place::new();
    let file = place.settings("[watch]\ndebonce = \"1s\"\n[wacth]\n[policy]\nworkers = 2\n");
    let told = place.run(&["config", "check", &file]).ended(1).stdout;
    for advice in ["did you mean watch.debounce?", "did you mean watch?", "did you mean intake.workers?"] {
        assert!(told.contains(advice), "{advice}: {told}");
    }
    let ran = place.run(&["config", "print", "--set", "watch.perod=1s"]).ended(1);
    assert!(ran.stderr.contains("watch.perod: unknown key; did you mean watch.period?"), "{}", ran.stderr);
    let mut command = place.command();
    command.env("CONDUCTOR_LOOP_WATCH_PEROD", "1s").env("CONDUCTOR_LOOP_SERVICE_HOST", "10.0.0.1");
    let ran = Ran::of(command.args(["once", "--log-format", "text"])).ended(0);
    let warned = "environment CONDUCTOR_LOOP_WATCH_PEROD: no such setting, ignored; did you mean \
                  CONDUCTOR_LOOP_WATCH_PERIOD?";
    assert!(ran.stderr.contains(warned), "{}", ran.stderr);
    assert!(!ran.stderr.contains("SERVICE_HOST"), "the cluster sets that one: {}", ran.stderr);
    let mut command = place.command();
    let ran = Ran::of(command.env("CONDUCTOR_LOOP_WATCH_PEROD", "1s").args(["config", "check"])).ended(0);
    assert!(ran.stdout.contains(warned), "{}", ran.stdout);
}

#[test]
fn the_faults_of_all_layers_are_named_at_once() {
    let place = Place::new();
    let schema = write(&place, "site.schema.json", "{\"type\": 5}");
    let file = place.settings(&format!(
        "[watch]\ndebounce = \"5 bananas\"\nmode = 7\n\n[intake]\nqueue = 1\nschema = {schema:?}\nx y\n"
    ));
    write(&place, "conf.d/1.toml", "[policy]\nnamespaces = [\"a\",\n  \"B_\"]\n");
    let mut command = place.command();
    command.env("CONDUCTOR_LOOP_LOG_FORMAT", "xml").env("CONDUCTOR_LOOP_SINK_FOLDER_OUT", place.handoff());
    let words = ["once", "--config", &file, "--set", "http.listen=8080"];
    let ran = Ran::of(command.args(words)).ended(1);
    for fault in [
        "settings.toml line 2 column 12: watch.debounce: \"5 bananas\" is not a duration; write for example 100ms",
        "settings.toml line 3 column 8: watch.mode: 7 is not one of auto, inotify, poll",
        "settings.toml line 6 column 9: intake.queue: 1 is outside 16 to 65536",
        "settings.toml line 7 column 10: intake.schema: ",
        "settings.toml line 8 column 3: not TOML: ",
        "conf.d/1.toml line 3 column 3: policy.namespaces: \"B_\" is not a DNS-1123 label",
        "environment CONDUCTOR_LOOP_LOG_FORMAT: log.format: \"xml\" is not one of auto, text, json, journald",
        "flag --set: http.listen: 8080 is not off, HOST:PORT or unix:PATH",
        "sink.folder.out and watch.handoff are the same directory",
    ] {
        let found = ran.stderr.replace("\"8080\"", "8080").contains(fault);
        assert!(found, "{fault:?} is missing in\n{}", ran.stderr);
    }
    assert_eq!(ran.stderr.lines().count(), 9, "one line a fault:\n{}", ran.stderr);
    assert!(!place.handoff().join(".conductor").exists(), "nothing was begun");
}

#[test]
fn values_that_contradict_each_other_are_told() {
    let place = Place::new();
    let file = place.settings("[ledger]\nkeep_for = \"1d\"\ndedup_window = \"2d\"\n");
    let told = place.run(&["config", "check", &file]).ended(0).stdout;
    assert!(told.contains("warning: ") && told.contains("longer than ledger.keep_for, 1d"), "{told}");
}

#[test]
fn editors_find_a_schema_that_knows_the_sample() {
    let place = Place::new();
    let schema = place.run(&["config", "schema"]).ended(0).json();
    let checker = jsonschema::draft202012::new(&schema).unwrap();
    let sample = place.run(&["config", "init"]).ended(0).stdout;
    assert!(sample.starts_with("#:schema ./schema/config.schema.json\n"), "the line that editors read");
    let parse = |text: &str| serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap();
    assert!(checker.is_valid(&parse(&sample)));
    let is_key = |line: &str| line.contains(" = ") && line.starts_with(|c: char| c.is_ascii_lowercase());
    let set = |line| str::strip_prefix(line, '#').filter(|key| is_key(key)).unwrap_or(line);
    let all: Vec<&str> = sample.lines().map(set).collect();
    let all = all.join("\n");
    assert!(parse(&all)["watch"]["debounce"].is_string(), "every key is set:\n{all}");
    assert!(checker.is_valid(&parse(&all)));
    assert!(!checker.is_valid(&parse("[watch]\ndebonce = \"1s\"\n")));
    let on_disk = fs::read_to_string("config/conductor-loop.toml").unwrap();
    let named = on_disk.lines().next().and_then(|line| line.strip_prefix("#:schema ")).unwrap();
    assert!(Path::new("config").join(named).is_file(), "{named} is beside the sample");
}

#[test]
fn it_is_told_everywhere_which_keys_a_reload_takes_over() {
    let place = Place::new();
    let keys = printed(&mut place.command(), &[]);
    let schema = place.run(&["config", "schema"]).ended(0).json();
    let table = place.run(&["config", "print"]).ended(0).stdout;
    let head: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head, ["KEY", "VALUE", "CHANGE", "ORIGIN"]);
    for (key, entry) in keys.as_object().expect("one member a key") {
        let restart = entry["restart"].as_bool().expect("a flag");
        let pointer = format!("/properties/{}/description", key.replace('.', "/properties/"));
        let about = schema.pointer(&pointer).and_then(Value::as_str).expect("every key is described");
        assert_eq!(about.contains("A reload takes it over."), !restart, "{key}: {about}");
        let row = table.lines().find(|row| row.split_whitespace().next() == Some(key)).expect("a row");
        let word = if restart { " restart " } else { " reload " };
        assert!(row.contains(word), "{row}");
    }
    for (key, restart) in [("policy.max_replicas", false), ("log.level", false), ("watch.handoff", true)] {
        assert_eq!(keys[key]["restart"], restart, "{key}");
    }
}

#[test]
fn what_others_could_change_is_not_read() {
    let place = Place::new();
    let file = place.settings("");
    let fragment = write(&place, "conf.d/1.toml", "");
    let schema = write(&place, "site.schema.json", "{}");
    let words = ["--config", &file, "--schema", &schema];
    let once = || place.run(&[&["once"], &words[..]].concat());
    once().ended(0);
    for path in [&file, &fragment, &schema] {
        for mode in [0o664, 0o646] {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            let told = once().ended(1).stderr;
            let wanted = format!("{path}: is writable by others (mode {mode:04o}); run: chmod go-w {path}");
            assert!(told.contains(&wanted), "{told}");
            place.run(&[&["run"], &words[..]].concat()).ended(1);
        }
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }
    fs::set_permissions(&fragment, Permissions::from_mode(0o666)).unwrap();
    place.run(&["config", "check", &file]).ended(1);
    place.run(&["config", "print", "--config", &file]).ended(1);
}

#[test]
fn only_root_and_the_daemon_own_settings() {
    let place = Place::unprivileged();
    // Everybody has this file of root's: its content is at fault, its owner is not.
    let told = place.run(&["config", "check", "/etc/passwd"]).ended(1).stdout;
    assert!(told.contains("not TOML") && !told.contains("belongs to"), "{told}");
    let file = place.settings("[policy]\nmax_replicas = 5\n");
    place.run(&["config", "check", &file]).ended(0);
    // Without privilege nobody can make a file of another user; the rule itself has a unit test.
    if privileged() {
        let daemon =
            fs::metadata(place.handoff()).map(|about| std::os::unix::fs::MetadataExt::uid(&about)).unwrap();
        chown(&file, Some(daemon), None).unwrap();
        place.run(&["config", "check", &file]).ended(0);
        chown(&file, Some(12_345), None).unwrap();
        let told = place.run(&["config", "check", &file]).ended(1).stdout;
        assert!(told.contains("belongs to uid 12345"), "{told}");
        assert!(told.contains(&format!("run: chown {daemon} {file}")), "{told}");
        place.run(&["once", "--config", &file]).ended(1);
        // Who is no daemon goes by the daemon's settings, whoever's they are.
        for words in [&["config", "print"][..], &["status"], &["validate", "-"], &["doctor"]] {
            let ran = place.run(&[words, &["--config", &file]].concat());
            assert!(!ran.stderr.contains("belongs to"), "{words:?}: {}", ran.stderr);
        }
        // Root may look after the daemon of another user, and is told which.
        let by_root = Ran::of(bare(&place).args(["config", "check", &file]).uid(0).gid(0)).ended(0).stdout;
        assert!(by_root.contains("warning: ") && by_root.contains("only a daemon of this user"), "{by_root}");
    }
}

#[test]
fn a_sandbox_that_is_required_and_a_sink_that_starts_programs_exclude_each_other() {
    let place = Place::new();
    let file = place.settings(
        "[sink]\nkind = \"exec\"\n[sink.exec]\ncommand = \"/bin/true\"\n[service]\nsandbox = \"require\"\n",
    );
    let told = place.run(&["config", "check", &file]).ended(1).stdout;
    assert!(told.contains("settings.toml line ") && told.contains("service.sandbox: "), "{told}");
    place.run(&["once", "--config", &file]).ended(1);
    place.run(&["config", "check", &place.settings("[service]\nsandbox = \"require\"\n")]).ended(0);
}

#[test]
fn a_directory_of_fragments_that_is_none_is_a_fault() {
    let place = Place::new();
    let file = place.settings("");
    let fragments = write(&place, "conf.d", "");
    let told = place.run(&["config", "check", &file]).ended(1).stdout;
    assert!(told.contains(&format!("{fragments}: cannot be read: ")), "{told}");
}

/// Checks that these folders are refused, by `once` and by `config check`, in words with each of `told`.
#[track_caller]
fn refused(place: &Place, folders: &[(&str, &str)], told: &[&str]) {
    let lines: Vec<String> = folders
        .iter()
        .map(|(key, path)| format!("{key} = {:?}\n", place.root().join(path).to_str().expect("is plain")))
        .collect();
    let file = place.settings(&lines.concat());
    let checked = Ran::of(bare(place).args(["config", "check", &file])).ended(1).stdout;
    let ran = Ran::of(bare(place).args(["once", "--config", &file])).ended(1).stderr;
    let root = place.root().display().to_string();
    for words in told {
        for text in [&checked, &ran] {
            let text = text.replace(&root, "ROOT");
            assert!(text.contains(words), "{words:?} is missing for {folders:?}:\n{text}");
            assert!(text.contains("settings.toml line "), "and its place:\n{text}");
        }
    }
    assert_eq!(checked.lines().count(), told.len(), "one line a fault:\n{checked}");
}

#[test]
fn folders_that_exclude_each_other_are_refused_however_they_are_spelled() {
    let place = Place::new();
    fs::create_dir_all(place.root().join("deep/in")).unwrap();
    symlink(place.handoff(), place.root().join("to-handoff")).unwrap();
    symlink("yet/to-be-made", place.root().join("to-nothing")).unwrap();
    symlink("deep", place.root().join("to-deep")).unwrap();
    let (handoff, out, state) = ("watch.handoff", "sink.folder.out", "ledger.dir");
    let parent =
        "ledger.dir ROOT/deep is a parent of watch.handoff ROOT/deep/in; choose a directory beside it";
    refused(&place, &[(handoff, "deep/in"), (out, "o"), (state, "deep")], &[parent]);
    let linked = "is a parent of watch.handoff ROOT/deep/in";
    refused(&place, &[(handoff, "deep/in"), (out, "o"), (state, "to-deep")], &[linked]);
    let same = "sink.folder.out and watch.handoff are the same directory, ROOT/handoff; give each its own";
    for spelled in ["handoff", "handoff/.", "out/../handoff", "to-handoff", "nowhere/../to-handoff/"] {
        refused(&place, &[(handoff, "handoff"), (out, spelled), (state, "s")], &[same]);
    }
    let inside = "lies inside watch.handoff";
    for spelled in ["handoff/out", "to-handoff/out", "deep/../handoff/a/b"] {
        refused(&place, &[(handoff, "handoff"), (out, spelled), (state, "s")], &[inside]);
    }
    let later = "are the same directory, ROOT/yet/to-be-made";
    refused(&place, &[(handoff, "yet/to-be-made"), (out, "to-nothing"), (state, "s")], &[later]);
    refused(
        &place,
        &[(handoff, "h"), (out, "o"), (state, "o"), ("settle.failed_dir", "h/processed")],
        &[
            "ledger.dir and sink.folder.out are the same directory, ROOT/o",
            "settle.failed_dir and the folder for finished files are the same directory, ROOT/h/processed",
        ],
    );
    refused(&place, &[(handoff, "deep/in"), (out, "deep/in/out"), (state, "deep")], &[parent, inside]);
    assert!(!place.root().join("h").exists(), "nothing was begun");
}
