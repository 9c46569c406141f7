//! Files and names that do harm: F01 to F19, without F13 and F14, which need a second process and a mount.
//!
//! Each shows the stated reason, the file kept, and the next good file delivered.

mod changing;
mod names;

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde_json::Value;

use crate::support::{Place, privileged, scale, until};

/// Waits for the end of `name` and checks that it is a refusal for `reason` without having been read.
#[track_caller]
fn refused_unread(place: &Place, name: &str, reason: &str) -> Value {
    let status = place.settled(name);
    assert_eq!((&status["fate"], &status["reason"]), (&"refused".into(), &reason.into()), "{status:#}");
    assert!(status.get("sha256").is_none() && status.get("proof").is_none(), "was not read: {status:#}");
    assert!(place.failed(name).symlink_metadata().is_ok(), "{name} is kept in failed/");
    assert!(place.failed(&format!("{name}.error.log")).is_file(), "{name} has its error log");
    status
}

#[track_caller]
fn says(status: &Value, words: &str) {
    let message = status["message"].as_str().unwrap_or_default();
    assert!(message.contains(words), "the message should say {words:?}: {message:?}");
}

#[test]
fn f01_a_symbolic_link_is_moved_away_and_never_followed() {
    let place = Place::new();
    let secret = place.desk().join("secret.json");
    fs::write(&secret, scale("secret", 9)).unwrap();
    let node = place.node().start();
    let links = [
        ("intent-to-file.json", secret.clone()),
        ("intent-to-folder.json", place.desk()),
        ("intent-dangling.json", place.root().join("nowhere")),
        ("intent-loop.json", place.dropped("intent-loop.json")),
    ];
    for (name, leads_to) in &links {
        symlink(leads_to, place.dropped(name)).unwrap();
        let status = refused_unread(&place, name, "symlink");
        says(&status, "is a symbolic link");
        assert_eq!(fs::read_link(place.failed(name)).unwrap(), *leads_to, "the link itself was moved");
    }
    assert_eq!(fs::read(&secret).unwrap(), scale("secret", 9), "what it led to is untouched");
    assert!(!place.out().join("ran-a/deployment-secret").exists(), "and was not delivered");
    place.next_good_file_is_delivered("f01");
    node.finish();
}

#[test]
fn f02_a_fifo_is_never_opened_and_blocks_nobody() {
    let place = Place::new();
    let node = place.node().with(&["--workers", "1"]).start();
    let name = "intent-fifo.json";
    mknodat(CWD, place.dropped(name), FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    place.next_good_file_is_delivered("f02");
    let status = refused_unread(&place, name, "not-regular");
    says(&status, "pipe");
    assert!(fs::symlink_metadata(place.failed(name)).unwrap().file_type().is_fifo());
    node.finish();
}

#[test]
fn f03_sockets_and_devices_are_moved_away_and_directories_stay() {
    let place = Place::new();
    let folder = place.dropped("intent-folder.json");
    let node = place.node().with(&["--period", "200ms"]).start();
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("keep"), "me").unwrap();
    let _socket = UnixListener::bind(place.dropped("intent-socket.json")).unwrap();
    says(&refused_unread(&place, "intent-socket.json", "not-regular"), "socket");
    let null = mknodat(
        CWD,
        place.dropped("intent-device.json"),
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o644),
        makedev(1, 3),
    );
    match null {
        Ok(()) => says(&refused_unread(&place, "intent-device.json", "not-regular"), "device"),
        Err(refused) => {
            assert_eq!(refused, rustix::io::Errno::PERM, "only the right to make devices may be missing");
        }
    }
    place.next_good_file_is_delivered("f03");
    let scans = node.page().sum("conductor_loop_rescans_total");
    until("two more scans have passed over the directory", || {
        (node.page().sum("conductor_loop_rescans_total") >= scans + 2.0).then_some(())
    });
    assert_eq!(fs::read(folder.join("keep")).unwrap(), b"me", "the directory is left in place");
    assert!(place.statuses_of("intent-folder.json").is_empty(), "what is not taken gets no status");
    node.finish();
}

#[test]
fn f04_a_second_hard_link_is_refused_after_two_seconds_without_a_look_inside() {
    let place = Place::new();
    let other = place.desk().join("other.json");
    fs::write(&other, scale("linked", 9)).unwrap();
    let node = place.node().start();
    let name = "intent-linked.json";
    fs::hard_link(&other, place.dropped(name)).unwrap();
    let status = refused_unread(&place, name, "hardlink");
    assert_eq!(fs::read(&other).unwrap(), scale("linked", 9), "the other link is untouched");
    assert!(!status.to_string().contains("\"linked\""), "nothing of the content is shown: {status:#}");
    place.next_good_file_is_delivered("f04");
    node.finish();
}

#[test]
fn f05_an_unreadable_file_is_refused_after_thirty_seconds() {
    let place = Place::unprivileged();
    let node = place.node().start();
    let name = "intent-closed.json";
    drop_with_mode(&place, name, 0o000);
    place.next_good_file_is_delivered("f05");
    assert!(place.dropped(name).exists(), "it is tried for a while first");
    let status = crate::support::within(Duration::from_secs(60), "it is refused", || {
        place.statuses_of(name).into_iter().find(|status| status["fate"] != "pending")
    });
    assert_eq!((&status["fate"], &status["reason"]), (&"refused".into(), &"unreadable".into()), "{status:#}");
    let message = status["message"].as_str().unwrap().to_lowercase();
    assert!(message.contains("eacces") || message.contains("permission denied"), "{message}");
    let _ = place.settled(name);
    assert_eq!(fs::metadata(place.failed(name)).unwrap().permissions().mode() & 0o777, 0);
    node.finish();
}

#[test]
fn f05_a_file_that_becomes_readable_in_time_is_delivered() {
    let place = Place::unprivileged();
    let node = place.node().start();
    let name = "intent-late.json";
    drop_with_mode(&place, name, 0o000);
    place.next_good_file_is_delivered("f05-late");
    fs::set_permissions(place.dropped(name), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(place.settled(name)["fate"], "delivered");
    node.finish();
}

fn drop_with_mode(place: &Place, name: &str, mode: u32) {
    let draft = place.desk().join(name);
    fs::write(&draft, scale("closed", 2)).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(mode)).unwrap();
    fs::rename(&draft, place.dropped(name)).unwrap();
}

#[test]
fn f06_an_empty_file_is_refused_after_one_more_window() {
    let place = Place::new();
    let node = place.node().start();
    for (name, renamed) in [("intent-empty-1.json", true), ("intent-empty-2.json", false)] {
        if renamed {
            place.rename_in(name, b"");
        } else {
            place.write_in(name, &[], Duration::ZERO);
        }
        let status = place.settled(name);
        assert_eq!((&status["fate"], &status["reason"]), (&"refused".into(), &"empty".into()), "{status:#}");
        assert_eq!(fs::metadata(place.failed(name)).unwrap().len(), 0);
    }
    place.next_good_file_is_delivered("f06");
    node.finish();
}

#[test]
fn f06_a_file_that_is_created_first_and_written_later_is_delivered() {
    let place = Place::new();
    let node = place.node().with(&["--debounce", "1s"]).start();
    let name = "intent-touched.json";
    File::create(place.dropped(name)).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    fs::write(place.dropped(name), scale("touched", 3)).unwrap();
    assert_eq!(place.settled(name)["fate"], "delivered");
    assert_eq!(place.statuses_of(name).len(), 1);
    node.finish();
}

#[test]
fn f07_a_file_over_the_limit_is_refused_by_its_size_alone() {
    let place = Place::new();
    let node = place.node().start();
    let name = "intent-huge.json";
    let draft = place.desk().join(name);
    File::create(&draft).unwrap().set_len(1 << 40).unwrap();
    fs::rename(&draft, place.dropped(name)).unwrap();
    let status = refused_unread(&place, name, "too-large");
    says(&status, "1099511627776");
    let name = "intent-one-over.json";
    place.rename_in(name, &crate::support::padded("over", 3, (1 << 20) + 1));
    says(&refused_unread(&place, name, "too-large"), "1048577");
    let name = "intent-at-limit.json";
    place.rename_in(name, &crate::support::padded("limit", 3, 1 << 20));
    assert_eq!(place.settled(name)["fate"], "delivered");
    place.next_good_file_is_delivered("f07");
    node.finish();
}

#[test]
fn f18_times_of_other_centuries_change_nothing() {
    use rustix::fs::{AtFlags, Timespec, Timestamps, utimensat};
    let place = Place::new();
    let node = place.node().start();
    let moments = [
        ("1901", -2_177_452_800),
        ("2446", 15_000_000_000),
        ("2486", 16_283_000_000),
        ("future", 4_102_444_800),
    ];
    for (label, seconds) in moments {
        let name = format!("intent-{label}.json");
        let draft = place.desk().join(&name);
        fs::write(&draft, scale(&format!("t-{label}"), 3)).unwrap();
        let moment = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let times = Timestamps { last_access: moment, last_modification: moment };
        utimensat(CWD, &draft, &times, AtFlags::empty()).unwrap();
        fs::rename(&draft, place.dropped(&name)).unwrap();
        assert_eq!(place.settled(&name)["fate"], "delivered", "mtime in {label}");
    }
    place.next_good_file_is_delivered("f18");
    node.finish();
}

/// The folder refuses to give the file away: sticky and somebody else's where the tests are root, else
/// without the right to write in it.
#[test]
fn f19_a_file_that_cannot_be_moved_is_delivered_once_and_filed_when_it_can_be() {
    let place = Place::unprivileged();
    let name = "intent-stuck.json";
    let first = place.node().start();
    place.next_good_file_is_delivered("f19-before");
    assert_eq!(first.stop(), 0);

    place.rename_in(name, &scale("stuck", 3));
    let before = fs::metadata(place.handoff()).unwrap();
    if privileged() {
        std::os::unix::fs::chown(place.handoff(), Some(0), Some(0)).unwrap();
    }
    let closed = if privileged() { 0o1777 } else { 0o550 };
    fs::set_permissions(place.handoff(), fs::Permissions::from_mode(closed)).unwrap();

    let node = place.node().with(&["--period", "200ms"]).start();
    until("it is counted as stuck", || {
        (node.page().labelled("conductor_loop_faults_total", "fault", "cannot-file") >= 1.0).then_some(())
    });
    let scans = node.page().sum("conductor_loop_rescans_total");
    until("three scans have met it again", || {
        (node.page().sum("conductor_loop_rescans_total") >= scans + 3.0).then_some(())
    });
    assert!(place.dropped(name).exists(), "it could not be moved");
    assert_eq!(place.deployment("stuck").revision, 1, "and was delivered once");
    assert_eq!(place.statuses_of(name).len(), 1, "with one status");

    std::os::unix::fs::chown(place.handoff(), Some(std::os::unix::fs::MetadataExt::uid(&before)), None)
        .unwrap();
    fs::set_permissions(place.handoff(), before.permissions()).unwrap();
    assert_eq!(place.settled(name)["fate"], "delivered");
    assert_eq!(place.deployment("stuck").revision, 1);
    place.next_good_file_is_delivered("f19-after");
    node.finish();
}
