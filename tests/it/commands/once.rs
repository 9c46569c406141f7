//! `once`: the backlog, then the end.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use super::members;
use crate::support::{Load, Place, scale};

const SUMMARY: [&str; 11] = [
    "accepted",
    "delivered",
    "duplicate",
    "elapsed_seconds",
    "expired",
    "files",
    "files_per_second",
    "pending",
    "refused",
    "superseded",
    "unaccounted",
];

#[test]
fn an_empty_folder_ends_with_0() {
    let place = Place::new();
    let summary = place.run(&["once", "--json"]).ended(0).json();
    assert_eq!(members(&summary), SUMMARY);
    assert_eq!((&summary["files"], &summary["accepted"]), (&0.into(), &0.into()));
    place.audit();
}

#[test]
fn good_files_end_with_0_in_every_spelling() {
    for words in [
        &["once", "--json"][..],
        &["--once", "--json"],
        &["-once", "--json"],
        &["-once=true", "--json"],
        &["run", "--once", "--json"],
    ] {
        let place = Place::new();
        place.rename_in("intent-1.json", &scale("odu", 3));
        place.rename_in("intent-2.json", &scale("odu", 5));
        let summary = place.run(words).ended(0).json();
        assert_eq!((&summary["delivered"], &summary["unaccounted"]), (&2.into(), &0.into()), "{words:?}");
        assert_eq!(place.deployment("odu").replicas, Some(5));
        assert_eq!(place.list("processed"), ["intent-1.json", "intent-2.json"]);
        place.audit();
    }
}

#[test]
fn a_refused_file_ends_with_8_and_an_earlier_one_does_not() {
    let place = Place::new();
    place.rename_in("intent-bad.json", b"{\"intent_type\": \"scaling\"}");
    place.rename_in("intent-good.json", &scale("odu", 3));
    let summary = place.run(&["once", "--json"]).ended(8).json();
    assert_eq!(
        (&summary["files"], &summary["refused"], &summary["delivered"]),
        (&2.into(), &1.into(), &1.into())
    );
    assert_eq!(place.list("failed"), ["intent-bad.json", "intent-bad.json.error.log"]);
    let again = place.run(&["once", "--json"]).ended(0).json();
    assert_eq!(again["files"], 0, "what an earlier run refused is not this run's");
    place.audit();
}

#[test]
fn a_sink_that_refuses_service_ends_with_1_and_keeps_the_intent() {
    let place = Place::unprivileged();
    place.rename_in("intent-1.json", &scale("odu", 3));
    fs::set_permissions(place.out(), fs::Permissions::from_mode(0o550)).unwrap();
    let summary = place.run(&["once", "--json", "--patience", "1s"]).ended(1).json();
    assert_eq!((&summary["pending"], &summary["unaccounted"]), (&1.into(), &0.into()), "{summary:#}");
    assert!(place.dropped("intent-1.json").exists(), "the file stays");
    fs::set_permissions(place.out(), fs::Permissions::from_mode(0o750)).unwrap();
    let summary = place.run(&["once", "--json"]).ended(0).json();
    assert_eq!((&summary["delivered"], &summary["pending"]), (&1.into(), &0.into()), "{summary:#}");
    assert_eq!(place.deployment("odu").revision, 1);
    place.audit();
}

#[test]
fn a_file_that_somebody_holds_open_is_left_after_the_patience() {
    let place = Place::new();
    let mut held = File::create(place.dropped("intent-held.json")).unwrap();
    held.write_all(&scale("held", 3)).unwrap();
    place.rename_in("intent-good.json", &scale("odu", 3));
    let summary = place.run(&["once", "--json", "--patience", "1s"]).ended(1).json();
    assert_eq!(summary["delivered"], 1, "{summary:#}");
    assert!(place.dropped("intent-held.json").exists(), "it is left");
    drop(held);
    let summary = place.run(&["once", "--json"]).ended(0).json();
    assert_eq!(summary["delivered"], 1, "{summary:#}");
    place.audit();
}

#[test]
fn three_thousand_files_are_settled_in_one_run() {
    let place = Place::new();
    let load = Load::new(3_000, 100, true);
    load.rename_all(&place);
    let summary = place.run(&["once", "--json", "--listen", "off"]).ended(8).json();
    assert_eq!((&summary["files"], &summary["refused"]), (&3_000.into(), &30.into()), "{summary:#}");
    assert_eq!((&summary["delivered"], &summary["unaccounted"]), (&2_970.into(), &0.into()), "{summary:#}");
    assert!(summary["files_per_second"].as_f64().unwrap() > 0.0);
    place.audit();
    load.compare(&place);
}
