//! `config` and the layers of settings.

use std::fs;

use crate::support::{Place, Ran};

#[test]
fn config_print_tells_value_and_origin_of_every_key() {
    let place = Place::new();
    let file = place.settings("[watch]\npattern = \"job-*.json\"\n[intake]\nqueue = 64\n");
    let ran = Ran::of(place.command().env("CONDUCTOR_LOOP_INTAKE_QUEUE", "128").args([
        "config",
        "print",
        "--json",
        "--config",
        &file,
        "--set",
        "ledger.checkpoint=2s",
    ]));
    let keys = ran.ended(0).json();
    assert_eq!(keys["watch.pattern"]["value"], "job-*.json", "{keys:#}");
    assert_eq!(keys["intake.queue"]["value"], 128, "the environment wins over the file: {keys:#}");
    assert_eq!(keys["ledger.checkpoint"]["value"], "2s", "{keys:#}");
    assert_eq!(keys["policy.max_replicas"]["value"], 100, "{keys:#}");
    for (key, origin) in [
        ("watch.pattern", "settings.toml"),
        ("intake.queue", "CONDUCTOR_LOOP_INTAKE_QUEUE"),
        ("ledger.checkpoint", "--set"),
        ("watch.period", "default"),
    ] {
        let told = keys[key]["origin"].to_string();
        assert!(told.contains(origin), "{key} comes from {origin}, not {told}");
    }
}

#[test]
fn config_check_lists_all_faults_at_once_with_their_lines() {
    let place = Place::new();
    let good = place.settings("[watch]\ndebounce = \"50ms\"\n");
    place.run(&["config", "check", &good]).ended(0);
    let bad = place.settings(
        "[watch]\ndebounce = 7\nno_such_key = 1\n[no_such_section]\nx = 1\n[intake]\nqueue = \"many\"\n",
    );
    let ran = place.run(&["config", "check", &bad]).ended(1);
    let told = format!("{}{}", ran.stdout, ran.stderr);
    for word in ["debounce", "no_such_key", "no_such_section", "queue", "line 2 ", "line 3 "] {
        assert!(told.contains(word), "{word} is named: {told}");
    }
    let ran = place.run(&["once", "--config", &bad]).ended(1);
    assert!(ran.stderr.contains("no_such_key") && ran.stderr.contains("queue"), "{}", ran.stderr);
    place.run(&["config", "check", "/nowhere/at/all.toml"]).ended(1);
    place.run(&["once", "--config", "/nowhere/at/all.toml"]).ended(1);
    place.run(&["once", "--set", "no.such=1"]).ended(1);
}

#[test]
fn config_schema_is_a_json_schema_and_config_init_a_file_that_passes() {
    let place = Place::new();
    let schema = place.run(&["config", "schema"]).ended(0).json();
    assert!(jsonschema::meta::is_valid(&schema), "{schema:#}");
    assert!(schema["properties"]["watch"].is_object(), "{schema:#}");
    let sample = place.run(&["config", "init"]).ended(0).stdout;
    let path = place.root().join("sample.toml");
    fs::write(&path, &sample).unwrap();
    place.run(&["config", "check", path.to_str().unwrap()]).ended(0);
    for key in ["debounce", "max_replicas", "dedup_scope", "listen", "drain"] {
        assert!(sample.contains(key), "{key} is documented");
    }
}

#[test]
fn what_does_not_work_in_this_version_is_unknown_not_ignored() {
    let place = Place::new();
    for words in [["once", "--sink", "carrier-pigeon"], ["once", "--set", "sink.kind=carrier-pigeon"]] {
        let ran = place.run(&words);
        assert!(ran.code == 1 || ran.code == 2, "{words:?}: {ran:?}");
        assert!(ran.stderr.contains("carrier-pigeon"), "{words:?}: {}", ran.stderr);
    }
}

#[test]
fn settings_out_of_range_are_clamped_with_a_warning_or_refused() {
    let place = Place::new();
    let ran = place.run(&["once", "--debounce", "1ms", "--log-format", "text"]).ended(0);
    assert!(ran.stderr.contains("10ms"), "clamped with a warning: {}", ran.stderr);
    place.run(&["once", "--set", "intake.queue=1"]).ended(1);
}
