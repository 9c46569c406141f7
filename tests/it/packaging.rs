//! The Debian package, as far as it can be judged without Debian's tools: what it brings, and what its scripts do.
//!
//! `.ci/operator-trial` builds, installs and purges it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use toml::Value;

const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|err| panic!("{path}: {err}"))
}

fn manifest() -> Value {
    Value::Table(toml::from_str(&read("Cargo.toml")).unwrap())
}

fn deb() -> Value {
    manifest()["package"]["metadata"]["deb"].clone()
}

/// Source, target and mode of every asset, the target with its file name and a source with `*` once for each
/// file that it means.
fn assets() -> Vec<(String, String, String)> {
    let word = |value: &Value| value.as_str().expect("assets are words").to_owned();
    let assets = deb()["assets"].as_array().expect("a list").clone();
    let named = assets.iter().map(|asset| (word(&asset[0]), word(&asset[1]), word(&asset[2])));
    named
        .flat_map(|(source, target, mode)| {
            let files = matching(&source);
            assert!(!files.is_empty(), "nothing is {source}");
            files.into_iter().map(move |file| {
                let name = file.rsplit('/').next().expect("a name");
                let target = if target.ends_with('/') { format!("{target}{name}") } else { target.clone() };
                (file, target, mode.clone())
            })
        })
        .collect()
}

/// The files that a source with a `*` means; one without names itself.
fn matching(source: &str) -> Vec<String> {
    let Some((before, after)) = source.split_once('*') else { return vec![source.to_owned()] };
    let folder = before.strip_suffix('/').expect("the star stands for a whole stem");
    let mut found: Vec<String> = fs::read_dir(folder)
        .unwrap_or_else(|err| panic!("{folder}: {err}"))
        .map(|entry| format!("{before}{}", entry.unwrap().file_name().to_str().expect("plain names")))
        .filter(|path| path.ends_with(after) && Path::new(path).is_file())
        .collect();
    found.sort();
    found
}

/// Where a file of the repository goes.
fn placed() -> BTreeMap<String, String> {
    assets().into_iter().map(|(source, target, _)| (source, target)).collect()
}

#[test]
fn every_asset_is_there_or_is_made_by_the_build() {
    let build = read("config/debian/build");
    for (source, _, _) in assets() {
        match source.strip_prefix("target/") {
            None => assert!(Path::new(&source).is_file(), "{source} is missing"),
            Some("release/conductor-loop") => assert!(build.contains("cargo build --release --locked")),
            Some(made) => {
                let name = made.strip_prefix("made/").expect("what the build makes");
                let by_shell = name.strip_prefix("conductor-loop.").is_some_and(|shell| {
                    build.contains("\"$made/conductor-loop.$shell\"")
                        && build.lines().any(|line| {
                            line.starts_with("for shell in ")
                                && line.trim_end_matches("; do").split(' ').any(|word| word == shell)
                        })
                });
                assert!(by_shell || build.contains(&format!("\"$made/{name}\"")), "nothing makes {source}");
            }
        }
    }
}

#[test]
fn every_file_of_systemd_has_its_place() {
    let placed = placed();
    let place_of = |folder: &str| match folder {
        "systemd" => "usr/lib/systemd/system".to_owned(),
        "systemd/examples" => "usr/share/doc/conductor-loop/examples/systemd".to_owned(),
        other => other.replacen("systemd", "usr/lib", 1),
    };
    let folders = fs::read_dir("systemd").unwrap().map(|entry| entry.unwrap().path());
    let folders = folders.filter(|path| path.is_dir()).map(|path| path.to_str().unwrap().to_owned());
    let mut count = 0;
    for folder in folders.chain(["systemd".to_owned()]) {
        for file in matching(&format!("{folder}/*")) {
            let name = file.rsplit('/').next().unwrap();
            let wanted = format!("{}/{name}", place_of(&folder));
            assert_eq!(placed.get(&file), Some(&wanted), "{file}");
            count += 1;
        }
    }
    assert!(count >= 9, "{count} files");
}

#[test]
fn the_manifests_for_kubernetes_keep_their_tree() {
    let placed = placed();
    let mut folders = vec!["config/kubernetes".to_owned()];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = format!("{folder}/{}", entry.file_name().to_str().expect("plain names"));
            if entry.path().is_dir() {
                folders.push(path);
                continue;
            }
            let wanted = path.replacen("config", "usr/share/doc/conductor-loop/examples", 1);
            assert_eq!(placed.get(&path), Some(&wanted), "{path}");
            count += 1;
        }
    }
    assert!(count >= 20, "{count} files");
}

#[test]
fn nothing_is_packed_twice_and_modes_are_plain() {
    let assets = assets();
    let targets: BTreeSet<&String> = assets.iter().map(|(_, target, _)| target).collect();
    assert_eq!(targets.len(), assets.len());
    for (source, target, mode) in &assets {
        let wanted = if target.starts_with("usr/bin/") { "755" } else { "644" };
        assert_eq!(mode, wanted, "{source}");
        assert!(!target.starts_with('/') && !target.contains("local"), "{target}");
    }
}

#[test]
fn the_settings_file_is_a_conffile_with_every_key_commented_out() {
    // What is below /etc is a conffile for cargo deb; nothing else is.
    let below_etc: Vec<String> = placed().into_values().filter(|target| target.starts_with("etc/")).collect();
    assert_eq!(below_etc, ["etc/conductor-loop/config.toml"]);
    assert!(deb().get("conf-files").is_none());
    let settings = read("config/conductor-loop.toml");
    let in_force = |line: &&str| !line.is_empty() && !line.starts_with(['#', '[']);
    assert_eq!(settings.lines().find(in_force), None);
}

#[test]
fn the_settings_file_names_the_schema_that_is_packed() {
    let build = read("config/debian/build");
    let schema = build.lines().find_map(|line| line.strip_prefix("schema=/")).expect("the schema's path");
    assert_eq!(placed()["config/schema/config.schema.json"], schema);
    assert!(read("config/conductor-loop.toml").starts_with("#:schema "), "which the build replaces");
}

#[test]
fn the_changelog_of_the_package_is_at_the_programs_version() {
    let changelog = read("config/debian/changelog");
    let version = env!("CARGO_PKG_VERSION");
    assert!(changelog.starts_with(&format!("conductor-loop ({version}-1) ")), "{changelog}");
    let maintainer = deb()["maintainer"].as_str().unwrap().to_owned();
    assert!(changelog.contains(&format!("\n -- {maintainer}  ")), "{maintainer}");
}

#[test]
fn what_units_and_readme_name_is_packed() {
    let targets: BTreeSet<String> = placed().into_values().collect();
    let documentation = read("systemd/conductor-loop.service");
    let page = documentation.split("file:///").nth(1).and_then(|rest| rest.lines().next()).unwrap();
    assert!(targets.contains(page), "{page}");
    assert!(documentation.contains("man:conductor-loop(8)"));
    assert!(targets.contains("usr/share/man/man8/conductor-loop.8"));
    for word in read("README.md").split(['`', ' ', '\n']).filter_map(|word| word.strip_prefix('/')) {
        if word.starts_with("usr/share/") && word.ends_with(".json") {
            assert!(targets.contains(word), "{word}");
        }
    }
}

#[test]
fn shells_can_read_the_scripts() {
    let of_debian =
        ["build", "third-party"].iter().chain(&SCRIPTS).map(|name| format!("config/debian/{name}"));
    for path in of_debian.chain([".ci/operator-trial".to_owned(), ".ci/run".to_owned()]) {
        let text = read(&path);
        let shell = if text.starts_with("#!/bin/sh\n") { "sh" } else { "bash" };
        assert!(text.starts_with("#!/bin/sh\n") || text.starts_with("#!/usr/bin/env bash\n"), "{path}");
        assert!(text.lines().any(|line| line == "set -e" || line == "set -euo pipefail"), "{path}");
        let read = Command::new(shell).args(["-n", &path]).output().unwrap();
        assert!(read.status.success(), "{path}: {}", String::from_utf8_lossy(&read.stderr));
    }
}

#[test]
fn maintainer_scripts_are_plain_and_name_only_what_is_packed() {
    let placed = placed();
    let packed =
        |folder: &str, name: &str| placed.values().any(|target| *target == format!("{folder}/{name}"));
    assert!(packed("usr/lib/sysusers.d", "conductor-loop.conf"));
    assert!(packed("usr/lib/tmpfiles.d", "conductor-loop.conf"));
    assert!(packed("usr/lib/sysctl.d", "60-conductor-loop.conf"));
    for script in SCRIPTS {
        let text = read(&format!("config/debian/{script}"));
        assert!(text.starts_with("#!/bin/sh\n"), "{script} is for every shell");
        for bashism in ["[[", "local ", "function ", "==", "<<<", "$(<", "&>"] {
            assert!(!text.contains(bashism), "{script}: {bashism}");
        }
        let units = text.split([' ', '\n', '\'', '/']).filter(|word| word.ends_with(".service"));
        for unit in units {
            assert!(packed("usr/lib/systemd/system", &unit.replace("@*", "@")), "{script}: {unit}");
        }
    }
}

#[test]
fn a_purge_takes_the_state_and_nothing_that_was_dropped() {
    let postrm = read("config/debian/postrm");
    let removed: Vec<&str> = postrm.lines().map(str::trim).filter(|line| line.contains("rm -rf")).collect();
    assert_eq!(removed, ["rm -rf \"$DPKG_ROOT/var/lib/$state\""]);
    let purge = postrm.find("[ \"$1\" = purge ] || exit 0").expect("only a purge gets there");
    assert!(purge < postrm.find("rm -f").unwrap() && purge < postrm.find("-delete").unwrap());
    assert!(!postrm.contains("userdel") && !postrm.contains("groupdel"), "their files stay");
}
