//! The folders themselves are taken away or replaced while the daemon runs: F20 and F21.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::{Node, Place, names_in, scale, until};

/// Scans every 200 ms, so that a changed folder is noticed soon.
const SOON: [&str; 2] = ["--period", "200ms"];

#[track_caller]
fn not_ready_because(node: &Node<'_>, reason: &str) {
    until(&format!("readiness is 503 and says {reason}"), || {
        let answer = node.get("/readyz?verbose");
        (answer.code == 503 && answer.body.contains(reason)).then_some(())
    });
}

#[track_caller]
fn ready(node: &Node<'_>) {
    until("readiness is 200 again", || (node.get("/readyz").code == 200).then_some(()));
}

#[test]
fn f20_a_folder_that_is_moved_away_and_back_is_watched_again() {
    let place = Place::new();
    let away = place.root().join("handoff.away");
    let node = place.node().with(&SOON).start();
    place.next_good_file_is_delivered("f20-before");
    fs::rename(place.handoff(), &away).unwrap();
    not_ready_because(&node, "hot-folder-gone");
    fs::write(away.join("intent-meanwhile.json"), scale("meanwhile", 3)).unwrap();
    fs::rename(&away, place.handoff()).unwrap();
    ready(&node);
    assert_eq!(place.settled("intent-meanwhile.json")["fate"], "delivered", "the scan found it");
    place.next_good_file_is_delivered("f20-after");
    assert!(node.page().labelled("conductor_loop_faults_total", "fault", "hot-folder-gone") >= 1.0);
    node.finish();
}

#[test]
fn f20_a_folder_that_is_removed_and_made_anew_is_watched_again() {
    let place = Place::new();
    let node = place.node().with(&SOON).start();
    place.next_good_file_is_delivered("f20-first");
    let gone = place.root().join("handoff.gone");
    fs::rename(place.handoff(), &gone).unwrap();
    not_ready_because(&node, "hot-folder-gone");
    fs::remove_dir_all(&gone).unwrap();
    fs::create_dir(place.handoff()).unwrap();
    fs::write(place.dropped("intent-anew.json"), scale("anew", 3)).unwrap();
    ready(&node);
    assert_eq!(place.settled("intent-anew.json")["fate"], "delivered");
    assert!(place.processed("intent-anew.json").is_file(), "the new folder has its own folders again");
    place.next_good_file_is_delivered("f20-second");
    assert_eq!(node.stop(), 0);
}

#[test]
fn f20_an_impostor_behind_a_link_is_not_used() {
    let place = Place::new();
    let (away, impostor) = (place.root().join("handoff.away"), place.root().join("impostor"));
    fs::create_dir(&impostor).unwrap();
    fs::write(impostor.join("intent-impostor.json"), scale("impostor", 9)).unwrap();
    let node = place.node().with(&SOON).start();
    fs::rename(place.handoff(), &away).unwrap();
    symlink(&impostor, place.handoff()).unwrap();
    not_ready_because(&node, "hot-folder");
    let scans = node.page().sum("conductor_loop_rescans_total");
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(names_in(&impostor), ["intent-impostor.json"], "nothing was taken from it nor put into it");
    assert!(!place.out().join("ran-a/deployment-impostor").exists(), "after {scans} scans");
    fs::remove_file(place.handoff()).unwrap();
    fs::rename(&away, place.handoff()).unwrap();
    ready(&node);
    place.next_good_file_is_delivered("f20-link");
    node.finish();
}

#[test]
fn f21_own_folders_that_are_deleted_come_back() {
    let place = Place::new();
    let node = place.node().with(&SOON).start();
    for folder in ["status", "processed", "failed"] {
        let path = place.handoff().join(folder);
        let aside = place.root().join(format!("aside-{folder}"));
        fs::rename(&path, &aside).unwrap();
        until(&format!("{folder} is made again"), || path.is_dir().then_some(()));
        fs::remove_dir_all(&aside).unwrap();
        place.next_good_file_is_delivered(&format!("f21-{folder}"));
    }
    place.rename_in("intent-bad.json", b"{]");
    assert_eq!(place.settled("intent-bad.json")["fate"], "refused");
    assert!(place.failed("intent-bad.json").is_file());
    assert!(node.page().labelled("conductor_loop_faults_total", "fault", "dir-replaced") >= 1.0);
    node.finish();
}

#[test]
fn f21_an_own_folder_replaced_by_a_link_leads_nobody_elsewhere() {
    let place = Place::new();
    let elsewhere = place.root().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let node = place.node().with(&SOON).start();
    for folder in ["processed", "status"] {
        let path = place.handoff().join(folder);
        let held = place.root().join(format!("held-{folder}"));
        fs::rename(&path, &held).unwrap();
        symlink(&elsewhere, &path).unwrap();
        place.rename_in(&format!("intent-{folder}.json"), &scale(folder, 3));
        until("it has left the folder", || {
            (!place.dropped(&format!("intent-{folder}.json")).exists()).then_some(())
        });
        until("readiness says so", || {
            node.get("/readyz?verbose").body.contains("dir-replaced").then_some(())
        });
        assert_eq!(names_in(&elsewhere), [""; 0], "nothing was written where {folder} leads");
        fs::remove_file(&path).unwrap();
        fs::rename(&held, &path).unwrap();
        ready(&node);
        assert_eq!(place.settled(&format!("intent-{folder}.json"))["fate"], "delivered");
    }
    place.next_good_file_is_delivered("f21-link");
    node.finish();
}
