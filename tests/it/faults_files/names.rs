//! Odd names: F15 to F17.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use crate::support::{Place, scale, until};

#[test]
fn f15_names_that_could_deceive_are_left_in_place_and_counted() {
    let place = Place::new();
    let node = place.node().with(&["--period", "200ms"]).start();
    let bad: [&[u8]; 5] = [
        b"intent-new\nline.json",
        b"intent-\x1b[31mred.json",
        "intent-\u{202e}nosj.json".as_bytes(),
        b"intent-\xff\xfe.json",
        b"intent-\x07bell.json",
    ];
    let paths = bad.map(|name| place.handoff().join(OsStr::from_bytes(name)));
    for path in &paths {
        fs::write(path, scale("deceiver", 9)).unwrap();
    }
    fs::write(place.dropped("-intent-dash.json"), scale("deceiver", 9)).unwrap();
    until("all five are counted", || {
        (node.page().labelled("conductor_loop_faults_total", "fault", "bad-name") >= 5.0).then_some(())
    });
    place.next_good_file_is_delivered("f15");
    for path in &paths {
        assert_eq!(fs::read(path).unwrap(), scale("deceiver", 9), "{path:?} is left in place");
    }
    assert!(place.dropped("-intent-dash.json").exists(), "does not match the pattern");
    assert!(!place.out().join("ran-a/deployment-deceiver").exists());
    let log = place.log();
    assert!(!log.contains('\x1b') && !log.contains('\u{202e}'), "names are escaped in the log");
    node.finish();
}

#[test]
fn f15_every_plain_name_that_a_custom_pattern_matches_is_taken() {
    let place = Place::new();
    let node = place.node().with(&["--pattern", "*.json"]).start();
    for (at, name) in ["-rf.json", "a b.json", "$(id).json", "größe.json", "%41.json"].iter().enumerate() {
        place.rename_in(name, &scale(&format!("plain-{at}"), 3));
        assert_eq!(place.settled(name)["fate"], "delivered", "{name}");
        assert!(place.processed(name).is_file(), "{name} is archived under its own name");
    }
    for name in [".hidden.json", "work.json.tmp", "half.json.part", "edit.json.swp", "old.json~"] {
        place.rename_in(name, &scale("unfinished", 3));
    }
    place.next_good_file_is_delivered("f15-custom");
    for name in [".hidden.json", "work.json.tmp", "half.json.part", "edit.json.swp", "old.json~"] {
        assert!(place.dropped(name).exists(), "{name} is work in progress");
    }
    node.finish();
}

#[test]
fn f16_a_name_of_255_bytes_is_archived_under_a_cut_one_with_its_id() {
    let place = Place::new();
    let node = place.node().start();
    for (stem, bytes, folder) in
        [("a".repeat(243), scale("long", 3), "processed"), ("b".repeat(243), b"{]".to_vec(), "failed")]
    {
        let name = format!("intent-{stem}.json");
        assert_eq!(name.len(), 255);
        place.rename_in(&name, &bytes);
        let status = place.settled(&name);
        let id8 = &status["id"].as_str().unwrap()[..8];
        let archived = format!("{}-{id8}.json", &name[..200]);
        assert!(place.list(folder).contains(&archived), "{archived} in {:?}", place.list(folder));
        let reported = format!("{}-", &name[..200]);
        let files = place.list("status");
        assert!(
            files.iter().any(|file| file.starts_with(&reported) && file.ends_with(&format!("-{id8}.status")))
        );
        if folder == "failed" {
            assert!(place.list("failed").contains(&format!("{archived}.error.log")));
        }
    }
    place.next_good_file_is_delivered("f16");
    node.finish();
}

#[test]
fn f17_equal_names_again_and_again_are_each_handled_and_each_kept() {
    let place = Place::new();
    let node = place.node().start();
    let name = "intent-again.json";
    for replicas in 1..=5 {
        place.rename_in(name, &scale("again", replicas));
        let ends = place.settled_times(name, replicas as usize);
        assert!(ends.iter().all(|status| status["fate"] == "delivered"), "{ends:#?}");
    }
    assert_eq!(place.deployment("again").revision, 5);
    let mut kept: Vec<Vec<u8>> = place
        .list("processed")
        .iter()
        .filter(|file| file.starts_with("intent-again"))
        .map(|file| fs::read(place.processed(file)).unwrap())
        .collect();
    kept.sort();
    assert_eq!(kept, (1..=5).map(|replicas| scale("again", replicas)).collect::<Vec<_>>());
    place.next_good_file_is_delivered("f17");
    node.finish();
}
