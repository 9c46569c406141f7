//! Folders that the daemon refuses to work with, each with exit 1 and one clear line.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::support::{Place, Ran};

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[track_caller]
fn refused(place: &Place, words: &[&str]) {
    let ran = place.run(&["once", "--log-format", "text"]).ended(1);
    for word in words {
        assert!(ran.stderr.contains(word), "{word:?} is said: {}", ran.stderr);
    }
}

#[track_caller]
fn refused_together(place: &Place, handoff: &Path, out: &Path, state: &Path) {
    let ran = Ran::of(
        place
            .command()
            .arg("once")
            .arg("--handoff")
            .arg(handoff)
            .arg("--out")
            .arg(out)
            .arg("--state")
            .arg(state),
    );
    let ran = ran.ended(1);
    assert!(ran.stderr.contains("handoff"), "says which: {}", ran.stderr);
}

#[test]
fn a_world_writable_folder_is_refused_unless_it_is_sticky() {
    let place = Place::new();
    mode(&place.handoff(), 0o777);
    refused(&place, &["world-writable", "handoff"]);
    mode(&place.handoff(), 0o1777);
    place.run(&["once"]).ended(0);
}

#[test]
fn a_group_writable_folder_without_the_sticky_bit_is_a_warning() {
    let place = Place::new();
    mode(&place.handoff(), 0o770);
    let ran = place.run(&["once", "--log-format", "text"]).ended(0);
    assert!(ran.stderr.contains("group-writable"), "{}", ran.stderr);
}

#[test]
fn an_own_folder_that_is_a_link_is_refused() {
    for name in ["processed", "failed", "status", ".conductor"] {
        let place = Place::new();
        let elsewhere = place.root().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        symlink(&elsewhere, place.handoff().join(name)).unwrap();
        refused(&place, &[name, "link"]);
        assert!(crate::support::names_in(&elsewhere).is_empty());
    }
}

#[test]
fn an_own_folder_that_others_may_write_to_is_refused() {
    for name in ["processed", "failed", "status", ".conductor"] {
        let place = Place::new();
        let path = place.handoff().join(name);
        fs::create_dir(&path).unwrap();
        mode(&path, 0o777);
        refused(&place, &[name, "writable"]);
    }
}

#[test]
fn folders_that_would_feed_each_other_are_refused_together() {
    let place = Place::new();
    let (handoff, out, state) = (place.handoff(), place.out(), place.state());
    refused_together(&place, &handoff, &handoff, &state);
    refused_together(&place, &handoff, &handoff.join("packages"), &state);
    refused_together(&place, &handoff, &out, place.root());
    refused_together(&place, &handoff, &handoff.join("../handoff"), &state);
    let alias = place.root().join("alias");
    symlink(&handoff, &alias).unwrap();
    refused_together(&place, &handoff, &alias, &state);
}

#[test]
fn missing_folders_are_made_with_their_modes() {
    let place = Place::new();
    for folder in [place.handoff(), place.out(), place.state()] {
        fs::remove_dir(folder).unwrap();
    }
    place.run(&["once"]).ended(0);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&place.handoff()) & 0o027, 0, "0750 or closer");
    for (name, wanted) in [("processed", 0o750), ("failed", 0o750), ("status", 0o750), (".conductor", 0o700)]
    {
        assert_eq!(mode(&place.handoff().join(name)), wanted, "{name}");
    }
}

#[test]
fn the_state_lives_in_the_folder_when_no_place_is_named() {
    let place = Place::new();
    let mut command = place.command();
    command.env_remove("CONDUCTOR_LOOP_LEDGER_DIR").arg("once");
    Ran::of(&mut command).ended(0);
    assert!(place.handoff().join(".conductor/ledger.db").is_file());
}

#[test]
fn the_state_lives_where_the_service_manager_says() {
    let place = Place::new();
    let mut command = place.command();
    command.env_remove("CONDUCTOR_LOOP_LEDGER_DIR").env("STATE_DIRECTORY", place.state()).arg("once");
    Ran::of(&mut command).ended(0);
    assert!(place.state().join("ledger.db").is_file());
    assert!(!place.handoff().join(".conductor/ledger.db").exists());
}
