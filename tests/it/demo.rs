//! The first minute of somebody who cloned the repository.

use std::fs;

use serde_json::Value;

use crate::support::{Place, Ran, names_in};

fn files(folder: &std::path::Path, suffix: &str) -> usize {
    names_in(folder).iter().filter(|name| name.ends_with(suffix)).count()
}

/// The summary that ends stdout, behind whatever was printed while it happened.
#[track_caller]
fn summary(stdout: &str) -> Value {
    let mut tails = stdout.match_indices('{').filter_map(|(at, _)| serde_json::from_str(&stdout[at..]).ok());
    let found = tails.find(|tail: &Value| tail.get("unaccounted").is_some());
    found.unwrap_or_else(|| panic!("no summary ends {stdout}"))
}

#[test]
fn demo_exit_ends_with_0_and_leaves_what_its_summary_says() {
    let place = Place::new();
    let ran = place.run(&["demo", "--exit", "--json"]).ended(0);
    let summary = summary(&ran.stdout);
    let count = |key: &str| {
        usize::try_from(summary[key].as_u64().unwrap_or_else(|| panic!("{key} in {summary:#}"))).unwrap()
    };
    assert_eq!((count("unaccounted"), count("pending")), (0, 0), "{summary:#}");
    assert!(count("delivered") >= 3 && count("duplicate") >= 1 && count("refused") >= 1, "{summary:#}");
    assert_eq!(count("accepted"), count("files"));
    let demo = place.root().join("demo");
    let handoff = demo.join("handoff");
    let kept = count("delivered") + count("duplicate") + count("superseded");
    assert_eq!(names_in(&handoff.join("processed")).len(), kept, "processed/ as the summary says");
    let failed = count("refused") + count("expired");
    assert_eq!(files(&handoff.join("failed"), ".error.log"), failed, "an error log each");
    assert_eq!(names_in(&handoff.join("failed")).len(), 2 * failed, "failed/ as the summary says");
    assert_eq!(files(&handoff.join("status"), ".status"), count("accepted"), "status/ as the summary says");
    assert!(names_in(&handoff).iter().all(|name| !name.starts_with("intent-")), "nothing is left over");
    let packages: usize =
        names_in(&demo.join("out")).iter().map(|ns| names_in(&demo.join("out").join(ns)).len()).sum();
    assert!(packages >= 1, "packages are there");
}

#[test]
fn demo_again_begins_afresh_and_a_strange_folder_is_left_alone() {
    let place = Place::new();
    place.run(&["demo", "--exit"]).ended(0);
    let first = names_in(&place.root().join("demo/handoff/processed")).len();
    let ran = place.run(&["demo", "--exit"]).ended(0);
    assert!(!ran.stdout.is_empty(), "each decision is told");
    assert_eq!(names_in(&place.root().join("demo/handoff/processed")).len(), first, "emptied, not added to");

    let stranger = Place::new();
    fs::create_dir(stranger.root().join("demo")).unwrap();
    fs::write(stranger.root().join("demo/thesis.txt"), "mine").unwrap();
    let ran = Ran::of(stranger.command().args(["demo", "--exit"])).ended(1);
    assert!(ran.stderr.contains("demo"), "{}", ran.stderr);
    assert_eq!(fs::read(stranger.root().join("demo/thesis.txt")).unwrap(), b"mine");
}

#[test]
fn demo_on_a_fake_porch_says_that_it_is_one_and_publishes_every_intent() {
    let place = Place::new();
    let ran = place.run(&["demo", "--exit", "--sink", "porch"]).ended(0);
    assert!(ran.stdout.contains("a fake Porch inside this process"), "{}", ran.stdout);
    assert!(ran.stdout.contains("no cluster is touched"), "{}", ran.stdout);
    let delivered: Vec<&str> =
        ran.stdout.lines().filter(|line| line.contains("delivered to porch:demo.")).collect();
    let made: Vec<&str> = ran.stdout.lines().filter(|line| line.starts_with("fake ")).collect();
    assert_eq!((delivered.len(), made.len()), (4, 4), "{}", ran.stdout);
    for line in delivered {
        let name = line.split_once("porch:").unwrap().1;
        assert!(made.iter().any(|made| made.ends_with(name)), "{name} in {made:?}");
    }
    assert!(names_in(&place.root().join("demo/out")).is_empty(), "nothing goes to the folder");
    let ran = place.run(&["demo", "--exit", "--json", "--sink", "porch"]).ended(0);
    let summary = summary(&ran.stdout);
    assert_eq!((&summary["delivered"], &summary["unaccounted"]), (&4.into(), &0.into()), "{summary:#}");
    place.run(&["demo", "--exit", "--sink", "exec"]).ended(2);
}
