//! `submit`, `requeue` and `history show` from outside.

mod requeue;
mod show;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Place, Ran, privileged, scale};

/// A user that is neither root nor the daemon's.
const PRODUCER: u32 = 12_345;

/// A file on the desk.
fn draft(place: &Place, name: &str, bytes: &[u8]) -> PathBuf {
    let path = place.desk().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// Runs `submit` with these words and files.
#[track_caller]
fn submit(place: &Place, words: &[&str], files: &[&PathBuf]) -> Ran {
    Ran::of(place.command().arg("submit").args(words).args(files))
}

/// What lies in the handoff folder itself.
fn waiting(place: &Place) -> Vec<String> {
    let own = [".conductor", "failed", "processed", "status"];
    place.list("").into_iter().filter(|name| !own.contains(&name.as_str())).collect()
}

#[test]
fn a_submitted_file_is_followed_to_its_delivery() {
    let place = Place::new();
    let node = place.node().start();
    let file = draft(&place, "scale odu.json", &scale("odu", 3));
    let told = submit(&place, &["--wait", "--json"], &[&file]).ended(0).json();
    assert_eq!(told.as_array().unwrap().len(), 1, "{told:#}");
    let one = &told[0];
    assert_eq!(
        (&one["intent_file"], &one["dropped"]),
        (&"intent-scale-odu.json".into(), &true.into()),
        "{one:#}"
    );
    assert_eq!(one["status"]["fate"], "delivered", "{one:#}");
    assert_eq!(one["status"]["sha256"], one["sha256"], "{one:#}");
    assert_eq!(place.deployment("odu").replicas, Some(3));
    // The same file once more is a success too, and says of what it is a repeat.
    let again = submit(&place, &["--wait"], &[&file]).ended(0).stdout;
    assert!(
        again.contains("intent-scale-odu.json: dropped\n") && again.contains(": duplicate: same content as"),
        "{again}"
    );
    assert_eq!(place.deployment("odu").revision, 1);
    node.finish();
}

/// As the installed unit has it: a sticky folder of the producers' group, a state that is the daemon's alone,
/// settings that everybody may read. Without privilege the producer is the daemon's user.
#[test]
fn a_producer_of_the_folders_group_submits_and_is_told() {
    let place = Place::unprivileged();
    let about = fs::metadata(place.handoff()).unwrap();
    let mode = |path: &Path, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&place.handoff(), 0o3770);
    mode(&place.state(), 0o700);
    let settings = place.settings("[policy]\nmax_replicas = 5\n");
    let node = place.node().with(&["--config", &settings]).start();
    let file = draft(&place, "scale.json", &scale("odu", 3));
    let submit = |words: &[&str]| {
        let mut command = place.command();
        command.args(["submit", "--config", &settings]).args(words).arg(&file);
        if privileged() {
            command.uid(PRODUCER).gid(about.gid());
        }
        Ran::of(&mut command)
    };
    let told = submit(&["--wait"]).ended(0).stdout;
    assert!(told.contains("intent-scale.json: delivered: "), "{told}");
    if privileged() {
        // The daemon's own file is as good as root's.
        chown(&settings, Some(about.uid()), None).unwrap();
        submit(&["--wait"]).ended(0);
    }
    mode(settings.as_ref(), if privileged() { 0o600 } else { 0o000 });
    let told = submit(&[]).ended(1).stderr;
    assert!(told.contains("the right to read it"), "{told}");
    node.finish();
}

#[test]
fn a_file_that_the_daemon_refuses_ends_a_waiting_submit_with_8() {
    let place = Place::new();
    let node = place.node().with(&["--set", "policy.max_replicas=5"]).start();
    let (good, much) =
        (draft(&place, "intent-1.json", &scale("odu", 5)), draft(&place, "intent-2.json", &scale("odu", 6)));
    let told = submit(&place, &["--wait"], &[&good, &much]).ended(8).stdout;
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[..2], ["intent-1.json: dropped", "intent-2.json: dropped"]);
    assert!(
        lines[2].starts_with("intent-1.json: delivered: ")
            && lines[3].starts_with("intent-2.json: refused: "),
        "{told}"
    );
    node.finish();
}

#[test]
fn a_waiting_submit_gives_up_after_its_time_and_the_file_stays_dropped() {
    let place = Place::new();
    let node = place.node().start();
    let file = draft(&place, "intent-1.json", &scale("odu", 3));
    node.signal(Signal::STOP);
    let ran = submit(&place, &["--wait", "--timeout", "300ms"], &[&file]).ended(1);
    assert!(ran.stderr.contains("1 of 1 dropped files have not come to their end within 300ms"), "{ran:?}");
    node.signal(Signal::CONT);
    assert_eq!(place.settled("intent-1.json")["fate"], "delivered");
    node.finish();
}

#[test]
fn without_a_daemon_a_waiting_submit_says_so_at_once() {
    let place = Place::new();
    let file = draft(&place, "intent-1.json", &scale("odu", 3));
    let begun = Instant::now();
    let ran = submit(&place, &["--wait", "--timeout", "60s"], &[&file]).ended(1);
    assert!(
        begun.elapsed() < Duration::from_secs(30) && ran.stderr.contains("the daemon is not running"),
        "{ran:?}"
    );
    assert_eq!(waiting(&place), ["intent-1.json"], "dropped all the same");
    submit(&place, &[], &[&draft(&place, "intent-2.json", &scale("odu", 4))]).ended(0);
    let node = place.node().start();
    place.settled("intent-1.json");
    place.settled("intent-2.json");
    assert_eq!(place.deployment("odu").replicas, Some(4));
    node.finish();
}

#[test]
fn one_invalid_file_keeps_all_from_being_dropped() {
    let place = Place::new();
    let (good, bad) =
        (draft(&place, "intent-1.json", &scale("odu", 3)), draft(&place, "intent-2.json", b"{]"));
    let ran = submit(&place, &["--wait"], &[&good, &bad]).ended(8);
    assert!(
        ran.stdout.contains("intent-1.json: valid") && ran.stdout.ends_with("nothing was dropped\n"),
        "{ran:?}"
    );
    let told = submit(&place, &["--json"], &[&good, &bad]).ended(8).json();
    assert_eq!(
        (&told[0]["dropped"], &told[1]["valid"], &told[1]["reason"]),
        (&false.into(), &false.into(), &"json-syntax".into()),
        "{told:#}"
    );
    submit(&place, &[], &[&good, &place.desk().join("missing.json")]).ended(1);
    submit(&place, &["--name", "intent-3.json"], &[&good, &good]).ended(2);
    submit(&place, &["--name", "three.json"], &[&good]).ended(1);
    submit(&place, &["--timeout", "1s"], &[&good]).ended(2);
    assert!(waiting(&place).is_empty(), "{:?}", waiting(&place));
}

#[test]
fn a_taken_name_gives_way_and_standard_input_gets_one_of_its_content() {
    let place = Place::new();
    let file = draft(&place, "intent-1.json", &scale("odu", 3));
    fs::write(place.dropped("intent-1.json"), scale("odu", 1)).unwrap();
    let told = submit(&place, &["--json"], &[&file]).ended(0).json();
    assert_eq!(told[0]["intent_file"], "intent-1-2.json", "{told:#}");
    let piped = |words: &[&str], bytes: &[u8]| {
        Ran::fed(place.command().args(["submit", "--json", "-"]).args(words), bytes).ended(0).json()
    };
    let told = piped(&[], &scale("odu", 4));
    let sha = told[0]["sha256"].as_str().unwrap();
    assert_eq!(told[0]["intent_file"], format!("intent-{}.json", &sha[..8]), "{told:#}");
    assert_eq!(
        piped(&["--name", "intent-mine.json"], &scale("odu", 5))[0]["intent_file"],
        "intent-mine.json"
    );
    assert_eq!(fs::read(place.dropped("intent-1.json")).unwrap(), scale("odu", 1), "what was there stays");
    let node = place.node().start();
    node.wait_settled(4, crate::support::PATIENCE);
    assert_eq!(place.deployment("odu").revision, 4);
    node.finish();
}

#[test]
fn a_submitted_file_is_followed_in_the_journal_too() {
    let place = Place::new();
    let settings = ["--set", "settle.status=journal"];
    let node = place.node().with(&settings).start();
    for (name, replicas) in [("intent-1.json", 3), ("intent-2.json", 4)] {
        let file = draft(&place, name, &scale("odu", replicas));
        let told = submit(&place, &["--wait", "--json", settings[0], settings[1]], &[&file]).ended(0).json();
        assert_eq!(told[0]["status"]["fate"], "delivered", "{told:#}");
        assert_eq!(told[0]["status"]["intent_file"], name, "{told:#}");
    }
    assert_eq!(node.stop(), 0);
}
