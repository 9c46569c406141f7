//! What the service manager hears, over a datagram socket as it has one.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Node, PATIENCE, Place, scale};

/// The service manager's end.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    /// Everything that was heard, a datagram each.
    heard: Vec<String>,
}

impl Manager {
    fn of(place: &Place) -> Manager {
        let path = place.root().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Manager { socket, path, heard: Vec::new() }
    }

    /// The next datagram; `None` after `limit`.
    fn next_within(&mut self, limit: Duration) -> Option<String> {
        let mut bytes = [0; 8_192];
        self.socket.set_read_timeout(Some(limit.max(Duration::from_millis(1)))).unwrap();
        let length = self.socket.recv(&mut bytes).ok()?;
        let text = String::from_utf8(bytes[..length].to_vec()).expect("notices are UTF-8");
        assert!(text.ends_with('\n') && text.lines().all(|line| line.contains('=')), "{text:?}");
        self.heard.push(text.clone());
        Some(text)
    }

    /// Listens until a datagram has what is wanted; fails the test after [`PATIENCE`].
    #[track_caller]
    fn wait(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.next_within(left) {
                Some(text) if wanted(&text) => return text,
                Some(_) => {}
                None => panic!("waited {PATIENCE:?} in vain; heard {:#?}", self.heard),
            }
        }
    }

    /// Whatever has come in.
    fn rest(&mut self) {
        while self.next_within(Duration::from_millis(1)).is_some() {}
    }

    fn count(&self, line: &str) -> usize {
        self.heard.iter().flat_map(|text| text.lines()).filter(|heard| *heard == line).count()
    }
}

fn status(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("STATUS="))
}

fn has_thread(node: &Node<'_>, name: &str) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", node.pid())).unwrap();
    tasks
        .filter_map(Result::ok)
        .any(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name))
}

#[test]
fn ready_means_that_the_watch_is_placed_and_the_scan_has_begun() {
    let place = Place::new();
    place.rename_in("intent-before.json", &scale("before", 3));
    let mut manager = Manager::of(&place);
    let mut node = place.node().with(&["--period", "1h"]).variable("NOTIFY_SOCKET", &manager.path).spawn();
    let ready = manager.wait(|text| text.starts_with("READY=1\n"));
    // No scan follows: what is dropped now is seen by the watch or never.
    place.rename_in("intent-after.json", &scale("after", 3));
    assert!(status(&ready).is_some_and(|line| line.starts_with("watching 1 directory, ")), "{ready}");
    for name in ["intent-before.json", "intent-after.json"] {
        assert_eq!(place.settled(name)["fate"], "delivered", "{name}");
    }
    node.wait_ready();
    let page = node.page();
    assert_eq!(page.labelled("conductor_loop_rescans_total", "cause", "start"), 1.0);
    assert_eq!(page.sum("conductor_loop_rescans_total"), 1.0);
    assert_eq!(manager.count("READY=1"), 1);
    for (at, text) in manager.heard.iter().enumerate().rev().skip(1) {
        let starting =
            text.lines().all(|line| line.starts_with("STATUS=starting") || line.starts_with("EXTEND_"));
        assert!(starting, "datagram {at} came before READY=1: {text}");
    }
    node.finish();
}

#[test]
fn a_start_that_fails_says_why_and_is_never_ready() {
    let place = Place::new();
    let node = place.node().start();
    let mut manager = Manager::of(&place);
    let second =
        place.command().args(["run", "--listen", "off"]).env("NOTIFY_SOCKET", &manager.path).output();
    assert_eq!(second.unwrap().status.code(), Some(1));
    manager.rest();
    assert_eq!(manager.count("READY=1"), 0);
    let last = manager.heard.last().and_then(|text| status(text)).expect("a last word");
    assert!(last.starts_with("could not start: ") && last.contains(&node.pid().to_string()), "{last}");
    node.finish();
}

#[test]
fn the_watchdog_is_fed_every_third_of_its_time() {
    let place = Place::new();
    let mut manager = Manager::of(&place);
    let node =
        place.node().variable("NOTIFY_SOCKET", &manager.path).variable("WATCHDOG_USEC", "900000").start();
    manager.wait(|text| text.starts_with("READY=1\n"));
    let began = Instant::now();
    for _ in 0..5 {
        manager.wait(|text| text.lines().any(|line| line == "WATCHDOG=1"));
    }
    assert!(began.elapsed() >= Duration::from_millis(900), "five within {:?}", began.elapsed());
    let silent = node.get("/livez?verbose").body;
    for stage in ["watch", "ledger", "submit", "settle", "keeper", "worker-0"] {
        assert!(silent.contains(&format!("[+]{stage} ok")), "{silent}");
    }
    node.finish();
}

#[test]
fn a_watchdog_of_another_process_and_no_manager_at_all_are_left_alone() {
    let place = Place::new();
    let mut manager = Manager::of(&place);
    let node = place
        .node()
        .variable("NOTIFY_SOCKET", &manager.path)
        .variable("WATCHDOG_USEC", "30000")
        .variable("WATCHDOG_PID", "1")
        .start();
    manager.wait(|text| text.starts_with("READY=1\n"));
    assert!(has_thread(&node, "notify"));
    node.finish();
    manager.rest();
    assert_eq!((manager.count("READY=1"), manager.count("WATCHDOG=1")), (1, 0));
    let node = place.node().variable("WATCHDOG_USEC", "30000").start();
    assert!(has_thread(&node, "settle") && !has_thread(&node, "notify"));
    node.finish();
}

#[test]
fn the_status_tells_what_was_done_and_what_is_wrong() {
    let place = Place::new();
    let mut manager = Manager::of(&place);
    let node = place.node().variable("NOTIFY_SOCKET", &manager.path).start();
    place.rename_in("intent-good.json", &scale("good", 3));
    place.rename_in("intent-bad.json", b"{}");
    let wanted = "watching 1 directory, 0 queued, 1 delivered, 1 refused";
    manager.wait(|text| status(text) == Some(wanted));
    let away = place.root().join("handoff.away");
    fs::rename(place.handoff(), &away).unwrap();
    manager
        .wait(|text| status(text).is_some_and(|line| line.starts_with("not ready: watch: hot-folder-gone")));
    fs::rename(&away, place.handoff()).unwrap();
    manager.wait(|text| status(text) == Some(wanted));
    // By now every stage has been idle for longer than a silent one may be.
    assert!(manager.heard.iter().all(|text| !text.contains("hangs: ")), "{:#?}", manager.heard);
    node.finish();
}

#[test]
fn a_hangup_is_told_as_a_reload_and_a_stop_before_it_ends() {
    let place = Place::new();
    let mut manager = Manager::of(&place);
    let node = place.node().variable("NOTIFY_SOCKET", &manager.path).start();
    manager.wait(|text| text.starts_with("READY=1\n"));
    node.signal(Signal::HUP);
    let reloading = manager.wait(|text| text.starts_with("RELOADING=1\n"));
    let at = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("both in one datagram");
    assert!(at.trim_end().parse::<u64>().is_ok_and(|at| at > 0), "{reloading}");
    let ready = manager.wait(|text| !text.starts_with("STATUS="));
    assert!(ready.starts_with("READY=1\n"), "{ready}");
    node.finish();
    manager.rest();
    let stopping = manager.heard.iter().position(|text| text.starts_with("STOPPING=1\n")).expect("told");
    let after = &manager.heard[stopping..];
    assert!(
        after[0].contains("\nSTATUS=stopping: ") && after[0].contains("\nEXTEND_TIMEOUT_USEC="),
        "{after:?}"
    );
    assert!(after.iter().all(|text| !text.contains("READY=1") && !text.contains("RELOADING=1")), "{after:?}");
    assert_eq!(after.last().map(String::as_str), Some("STATUS=stopped\n"));
    assert_eq!(manager.count("STOPPING=1"), 1);
}
