//! Files that change, vanish or grow while they are looked at: F08 to F12.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat};

use crate::support::{Place, padded, scale, until};

#[test]
fn f08_a_file_that_grows_and_shrinks_is_read_when_it_is_whole() {
    for (label, size) in [("small", 600), ("mapped", 700_000)] {
        let place = Place::new();
        let node = place.node().with(&["--debounce", "10ms"]).start();
        let (pid, name) = (node.pid(), "intent-restless.json");
        let whole = padded("restless", 7, size);
        let deadline = Instant::now() + Duration::from_millis(1_500);
        while Instant::now() < deadline {
            for part in [size / 3, size - 2, size / 2] {
                fs::write(place.dropped(name), &whole[..part]).unwrap();
            }
        }
        fs::write(place.dropped(name), &whole).unwrap();
        let status = place.settled(name);
        assert_eq!(status["fate"], "delivered", "{label}: {status:#}");
        assert_eq!(place.deployment("restless").revision, 1, "{label}: never a part");
        assert_eq!(fs::read(place.processed(name)).unwrap(), whole);
        place.next_good_file_is_delivered("f08");
        assert_eq!(node.pid(), pid, "{label}: no SIGBUS, the same process");
        node.finish();
    }
}

#[test]
fn f09_a_file_replaced_again_and_again_ends_at_its_last_content() {
    let place = Place::new();
    let node = place.node().start();
    let name = "intent-replaced.json";
    for replicas in 1..=60 {
        place.rename_in(name, &scale("replaced", replicas));
    }
    until("the last content is delivered", || {
        let there = place.out().join("ran-a/deployment-replaced/workload.yaml").exists();
        (there && place.deployment("replaced").replicas == Some(60)).then_some(())
    });
    let ends = place.settled_times(name, 1);
    assert!(ends.iter().all(|status| status["fate"] == "delivered"), "{ends:#?}");
    place.next_good_file_is_delivered("f09");
    let delivered = place.statuses_of(name).len() as u64;
    assert_eq!(place.deployment("replaced").revision, delivered, "each snapshot acted once");
    let archived = place.list("processed").iter().filter(|file| file.starts_with("intent-replaced")).count();
    assert_eq!(archived as u64, delivered, "and each is archived");
    node.finish();
}

#[test]
fn f10_a_file_that_is_taken_back_before_it_was_complete_is_forgotten_and_counted() {
    let place = Place::new();
    let node = place.node().start();
    let name = "intent-taken-back.json";
    let mut file = File::create(place.dropped(name)).unwrap();
    file.write_all(&scale("taken-back", 3)).unwrap();
    place.next_good_file_is_delivered("f10");
    fs::remove_file(place.dropped(name)).unwrap();
    drop(file);
    until("it is counted as vanished", || {
        (node.page().labelled("conductor_loop_faults_total", "fault", "vanished") >= 1.0).then_some(())
    });
    assert!(place.statuses_of(name).is_empty(), "what was never accepted has no status");
    assert!(!place.out().join("ran-a/deployment-taken-back").exists());
    node.finish();
}

#[test]
fn f10_a_file_that_is_deleted_after_acceptance_is_delivered_from_the_ledger() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::unprivileged();
    let node = place.node().start();
    let name = "intent-deleted.json";
    fs::set_permissions(place.out(), fs::Permissions::from_mode(0o550)).unwrap();
    place.rename_in(name, &scale("deleted", 3));
    until("it is accepted and waits for the sink", || {
        (node.page().sum("conductor_loop_pending_intents") == 1.0).then_some(())
    });
    fs::remove_file(place.dropped(name)).unwrap();
    fs::set_permissions(place.out(), fs::Permissions::from_mode(0o750)).unwrap();
    let status = crate::support::within(Duration::from_secs(90), "it is delivered", || {
        place.statuses_of(name).into_iter().find(|status| status["fate"] != "pending")
    });
    assert_eq!(status["fate"], "delivered", "{status:#}");
    until("its bytes are archived", || {
        (fs::read(place.processed(name)).ok()? == scale("deleted", 3)).then_some(())
    });
    assert_eq!(place.deployment("deleted").replicas, Some(3));
    place.next_good_file_is_delivered("f10-after");
    node.finish();
}

#[test]
fn f11_every_way_of_making_a_file_appear_is_seen() {
    let place = Place::new();
    let node = place.node().start();
    place.rename_in("intent-renamed.json", &scale("renamed", 3));
    assert_eq!(place.settled("intent-renamed.json")["fate"], "delivered");

    let draft = place.desk().join("draft");
    fs::write(&draft, scale("linked", 3)).unwrap();
    fs::hard_link(&draft, place.dropped("intent-linked.json")).unwrap();
    fs::remove_file(&draft).unwrap();
    assert_eq!(place.settled("intent-linked.json")["fate"], "delivered");

    let nameless = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(CWD, place.handoff(), nameless, Mode::from_raw_mode(0o644)).unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let mut file = File::from(file);
    file.write_all(&scale("nameless", 3)).unwrap();
    linkat(CWD, path, CWD, place.dropped("intent-nameless.json"), AtFlags::SYMLINK_FOLLOW).unwrap();
    drop(file);
    assert_eq!(place.settled("intent-nameless.json")["fate"], "delivered");

    let name = "intent-moved-open.json";
    let draft = place.desk().join(name);
    let mut file = File::create(&draft).unwrap();
    let bytes = scale("moved-open", 3);
    file.write_all(&bytes[..20]).unwrap();
    fs::rename(&draft, place.dropped(name)).unwrap();
    thread::sleep(Duration::from_millis(300));
    file.write_all(&bytes[20..]).unwrap();
    drop(file);
    assert_eq!(place.settled(name)["fate"], "delivered", "renamed while its writer still had it open");
    node.finish();
}

#[test]
fn f12_a_writer_that_pauses_between_two_openings_is_waited_for() {
    let place = Place::new();
    let node = place.node().start();
    let name = "intent-paused.json";
    let bytes = scale("paused", 3);
    fs::write(place.dropped(name), &bytes[..30]).unwrap();
    thread::sleep(Duration::from_millis(250));
    let mut rest = OpenOptions::new().append(true).open(place.dropped(name)).unwrap();
    rest.write_all(&bytes[30..]).unwrap();
    drop(rest);
    assert_eq!(place.settled(name)["fate"], "delivered");
    assert_eq!(place.deployment("paused").revision, 1);
    place.next_good_file_is_delivered("f12");
    node.finish();
}

#[test]
fn f12_a_document_that_stays_cut_off_is_refused_after_five_windows() {
    let place = Place::new();
    let node = place.node().start();
    let name = "intent-cut.json";
    let bytes = &scale("cut", 3)[..40];
    let dropped = Instant::now();
    fs::write(place.dropped(name), bytes).unwrap();
    let status = place.settled(name);
    assert!(dropped.elapsed() >= Duration::from_millis(500), "five windows of 100 ms were given");
    assert_eq!(
        (&status["fate"], &status["reason"]),
        (&"refused".into(), &"truncated-json".into()),
        "{status:#}"
    );
    assert_eq!(fs::read(place.failed(name)).unwrap(), bytes);
    place.next_good_file_is_delivered("f12-cut");
    node.finish();
}
