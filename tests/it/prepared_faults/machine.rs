//! Faults of the machine: mounts, rights, room, limits, the clock.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::process::Command;

use rustix::fs::inotify;

use super::{Fault, SOON, all_is_well, found, text, world};
use crate::support::{Place, names_in, privileged, scale, until};

#[track_caller]
fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status().unwrap();
    assert!(status.success(), "{program} {args:?} ended with {status}");
}

/// An empty file system in memory, for the daemon's user.
#[track_caller]
fn mount_memory(at: &Path, size: &str) {
    let owner = fs::metadata(at).unwrap();
    let options = format!("size={size},mode=0750,uid={},gid={}", owner.uid(), owner.gid());
    run("mount", &["-t", "tmpfs", "-o", &options, "prepared-fault", text(at)]);
}

/// Drops by a rename inside the folder, which is a file system of its own, and waits for the delivery.
#[track_caller]
fn drop_inside(place: &Place, name: &str) {
    let draft = place.dropped(&format!("{name}.tmp"));
    fs::write(&draft, scale("inside", 3)).unwrap();
    fs::rename(&draft, place.dropped(name)).unwrap();
    assert_eq!(place.settled(name)["fate"], "delivered");
}

#[test]
#[ignore = "needs root and mount namespaces; .ci/run runs it"]
fn a_folder_that_is_unmounted() {
    world::of_own_mounts("machine::a_folder_that_is_unmounted", || {
        let place = Place::unprivileged();
        let (handoff, disk) = (place.handoff(), place.root().join("disk"));
        fs::create_dir(&disk).unwrap();
        let owner = fs::metadata(&handoff).unwrap();
        chown(&disk, Some(owner.uid()), Some(owner.gid())).unwrap();
        mount_memory(&disk, "16m");
        let mount = || run("mount", &["--bind", text(&disk), text(&handoff)]);
        mount();
        let node = place.node().with(&SOON).start();
        drop_inside(&place, "intent-before.json");

        let fault = Fault::begins(&place);
        run("umount", &["--lazy", text(&handoff)]);
        let words =
            ["hot-folder-gone", text(&handoff), "nothing is mounted there any more", "mount it again"];
        fault.is_shown(&node, 503, &words);
        fs::write(disk.join("intent-meanwhile.json"), scale("meanwhile", 3)).unwrap();
        fault.is_found(&[], "daemon", &words);
        fault.is_told_once(&words);
        assert_eq!(names_in(&handoff), [""; 0], "the bare directory below it is not used");
        assert!(disk.join("intent-meanwhile.json").exists());

        mount();
        until("it is ready again", || (node.get("/readyz").code == 200).then_some(()));
        assert_eq!(place.settled("intent-meanwhile.json")["fate"], "delivered");
        drop_inside(&place, "intent-after.json");
        node.finish();
        run("umount", &["--lazy", text(&handoff), text(&disk)]);
    });
}

#[test]
#[ignore = "needs root, to run the daemon as another user; .ci/run runs it"]
fn a_folder_whose_permission_is_lost() {
    assert!(privileged(), "root is needed, for a daemon that is not");
    let place = Place::unprivileged();
    let node = place.node().with(&SOON).start();
    place.next_good_file_is_delivered("before");
    let handoff = place.handoff();
    let owner = fs::metadata(&handoff).unwrap();
    assert_ne!(owner.uid(), 0, "an unprivileged daemon");

    let fault = Fault::begins(&place);
    chown(&handoff, Some(0), Some(0)).unwrap();
    place.rename_in("intent-meanwhile.json", &scale("meanwhile", 3));
    let who = format!("uid {} may not read or search it", owner.uid());
    let words = ["hot-folder-gone", text(&handoff), &who, "chown"];
    fault.is_shown(&node, 503, &words);
    fault.is_found(&[], "folders", &[text(&handoff), "rights"]);
    fault.is_told_once(&words);
    assert!(place.dropped("intent-meanwhile.json").exists());

    chown(&handoff, Some(owner.uid()), Some(owner.gid())).unwrap();
    all_is_well(&place, &node, "intent-meanwhile.json");
    node.finish();
}

/// Takes every byte that is left.
fn fill(path: &Path) {
    let mut ballast = File::create(path).unwrap();
    let block = vec![b'x'; 64 << 10];
    while ballast.write_all(&block).is_ok() {}
    while ballast.write_all(b"x").is_ok() {}
}

#[test]
#[ignore = "needs root and mount namespaces; .ci/run runs it"]
fn a_disk_that_is_full() {
    world::of_own_mounts("machine::a_disk_that_is_full", || {
        let place = Place::new();
        let state = place.state();
        mount_memory(&state, "16m");
        let node = place.node().with(&SOON).start();
        place.next_good_file_is_delivered("before");
        let ballast = state.join("ballast");

        let fault = Fault::begins(&place);
        fill(&ballast);
        place.rename_in("intent-meanwhile.json", &scale("meanwhile", 3));
        fault.is_shown(&node, 503, &["disk-full", text(&state), "free some"]);
        fault.is_found(&[], "file systems", &["bytes free"]);
        fault.is_told_once(&["acceptance paused", "disk-full", text(&state), "free some"]);

        fs::remove_file(&ballast).unwrap();
        all_is_well(&place, &node, "intent-meanwhile.json");
        node.finish();
        run("umount", &["--lazy", text(&state)]);
    });
}

#[test]
#[ignore = "needs user namespaces; .ci/run runs it"]
fn an_inotify_limit_that_is_reached() {
    world::of_own_limits("machine::an_inotify_limit_that_is_reached", || {
        fs::write("/proc/sys/user/max_inotify_instances", "4").unwrap();
        let hogs: Vec<_> = std::iter::from_fn(|| inotify::init(inotify::CreateFlags::CLOEXEC).ok()).collect();
        assert_eq!(hogs.len(), 4, "every instance that the user may have");
        let place = Place::new();
        let handoff = place.handoff();

        let fault = Fault::begins(&place);
        let node = place.node().start();
        place.rename_in("intent-meanwhile.json", &scale("meanwhile", 3));
        assert_eq!(place.settled("intent-meanwhile.json")["fate"], "delivered", "by polling");
        let mode = |word| node.page().labelled("conductor_loop_watch_mode", "mode", word);
        assert_eq!(mode("poll"), 1.0);
        found(&place, &[], "watch", &["warn", "fail"], &["inotify"]);
        fault.is_told_once(&[
            "inotify-limit",
            text(&handoff),
            "no inotify instance left",
            "raise fs.inotify",
        ]);

        drop(hogs);
        until("it is watched by events again", || (mode("inotify") == 1.0).then_some(()));
        all_is_well(&place, &node, "intent-meanwhile.json");
        node.finish();
    });
}

#[test]
#[ignore = "needs user-mode-linux, which .ci/run installs"]
fn a_clock_that_jumps() {
    world::of_own_kernel("machine::a_clock_that_jumps", || {
        let place = Place::new();
        let node = place.node().start();
        place.next_good_file_is_delivered("before");

        for (name, date, sign) in [("intent-ahead.json", "+1 day", '+'), ("intent-back.json", "-1 day", '-')]
        {
            let fault = Fault::begins(&place);
            run("date", &["--set", date]);
            place.rename_in(name, &scale("meanwhile", 3));
            fault.is_told_once(&["clock-jump", &format!("{sign}86"), "this machine", "timedatectl"]);
            found(&place, &[], "daemon", &["warn"], &["clock-jump"]);
            assert_eq!(node.get("/readyz").code, 200, "nothing depends on it");
            assert_eq!(place.settled(name)["fate"], "delivered");
        }
        node.finish();
    });
}
