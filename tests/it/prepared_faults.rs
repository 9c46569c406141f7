//! Ten prepared faults, each made for real, each named where an operator looks and by exactly one line of the
//! log that says what, where and what next; when it is over the daemon works again and no file is lost.
//!
//! | fault | how it is made |
//! |---|---|
//! | folder unmounted | `umount --lazy` of a file system of its own, since the daemon has it open |
//! | permission lost | the folder is given to root under a daemon that runs as another user |
//! | disk full | the state directory's file system of 16 MiB, in memory, is filled to the last byte |
//! | out directory gone | renamed away |
//! | sink command missing | removed under a daemon that runs it for each intent |
//! | inotify limit reached | others hold every instance, in a user namespace that may have four |
//! | bad reload | a settings file with an unknown key, and SIGHUP |
//! | clock jump | `date -s` on a kernel of its own, in which the daemon runs (User Mode Linux) |
//! | lock held | another daemon on the same folder |
//! | port taken | another listener |
//!
//! Those that need root, mounts or another kernel are run by `.ci/run`; without these they fail.

mod machine;
mod world;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Node, Place, Ran, scale, until};

/// Scans every 200 ms, so that a changed folder is noticed soon.
const SOON: [&str; 2] = ["--period", "200ms"];

/// For how long a fault is looked at for a second line: the daemon's slowest look is one in 5 s.
const WATCHED: Duration = Duration::from_secs(6);

/// The log of one fault.
struct Fault<'p> {
    place: &'p Place,
    /// Bytes of the log before it.
    from: usize,
    began: Instant,
}

impl<'p> Fault<'p> {
    /// The fault is about to be made.
    fn begins(place: &'p Place) -> Self {
        Fault { place, from: place.log().len(), began: Instant::now() }
    }

    /// Every warning and error since then.
    fn lines(&self) -> Vec<String> {
        let log = self.place.log();
        let lines = log[self.from..].lines().filter_map(|line| {
            let Ok(entry) = serde_json::from_str::<Value>(line) else { return Some(line.to_owned()) };
            let serious = entry["level"] == "warn" || entry["level"] == "error";
            serious.then(|| entry["message"].as_str().unwrap().to_owned())
        });
        lines.collect()
    }

    /// Waits for the line, and for as long as a second one could come.
    #[track_caller]
    fn is_told_once(&self, words: &[&str]) {
        until("a line of the log tells the fault", || (!self.lines().is_empty()).then_some(()));
        std::thread::sleep(WATCHED.saturating_sub(self.began.elapsed()));
        one_line(&self.lines(), words);
    }

    /// Waits until `/readyz?verbose` names it.
    #[track_caller]
    fn is_shown(&self, node: &Node<'_>, code: u16, words: &[&str]) {
        until(&format!("/readyz?verbose is {code} and says {words:?}"), || {
            let page = node.get("/readyz?verbose");
            let shown = page.body.lines().any(|line| line.starts_with("[-]") && has_all(line, words));
            (page.code == code && shown).then_some(())
        });
    }

    /// The doctor fails a check with these words.
    #[track_caller]
    fn is_found(&self, args: &[&str], group: &str, words: &[&str]) {
        found(self.place, args, group, &["fail"], words);
    }
}

#[track_caller]
fn found(place: &Place, args: &[&str], group: &str, results: &[&str], words: &[&str]) {
    let report = Ran::of(place.command().args(["doctor", "--json"]).args(args)).json();
    let checks = report["checks"].as_array().expect("checks are an array");
    let named = checks.iter().any(|check| {
        let text = |key: &str| check[key].as_str().unwrap_or_default();
        check["group"] == group && results.contains(&text("result")) && has_all(text("message"), words)
    });
    assert!(named, "the doctor does not say {words:?} of {group}: {report:#}");
}

fn has_all(text: &str, words: &[&str]) -> bool {
    words.iter().all(|word| text.contains(word))
}

#[track_caller]
fn one_line(lines: &[String], words: &[&str]) {
    assert_eq!(lines.len(), 1, "exactly one line: {lines:#?}");
    assert!(has_all(&lines[0], words), "it says {words:?}: {lines:#?}");
}

/// Ready again, and the file that was dropped meanwhile is delivered, and the next one.
#[track_caller]
fn all_is_well(place: &Place, node: &Node<'_>, meanwhile: &str) {
    until("it is ready again", || (node.get("/readyz").code == 200).then_some(()));
    assert_eq!(place.settled(meanwhile)["fate"], "delivered");
    place.next_good_file_is_delivered("again");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

#[test]
fn an_out_directory_that_is_gone() {
    let place = Place::new();
    let node = place.node().start();
    place.next_good_file_is_delivered("before");
    let (out, away) = (place.out(), place.root().join("out.away"));
    let fault = Fault::begins(&place);
    fs::rename(&out, &away).unwrap();
    place.rename_in("intent-meanwhile.json", &scale("meanwhile", 3));
    fault.is_shown(&node, 503, &["dir-replaced", text(&out), "not there"]);
    fault.is_found(&[], "folders", &[text(&out), "is gone"]);
    fault.is_told_once(&["dir-replaced", text(&out), "not there", "bring it back"]);
    fs::rename(&away, &out).unwrap();
    all_is_well(&place, &node, "intent-meanwhile.json");
    assert_eq!(place.deployment("meanwhile").replicas, Some(3), "its package is where it belongs");
    node.finish();
}

#[test]
fn a_sink_command_that_is_missing() {
    let place = Place::new();
    let command = place.root().join("deliver");
    let install = || symlink("/bin/true", &command).unwrap();
    install();
    let node = place.node().with(&["--porch", text(&command)]).start();
    place.rename_in("intent-before.json", &scale("before", 3));
    assert_eq!(place.settled("intent-before.json")["fate"], "delivered");
    let fault = Fault::begins(&place);
    fs::remove_file(&command).unwrap();
    place.rename_in("intent-meanwhile.json", &scale("meanwhile", 3));
    fault.is_shown(&node, 200, &["sink", "cli-unavailable", text(&command), "install it"]);
    fault.is_found(&["--porch", text(&command)], "sink", &[text(&command)]);
    fault.is_told_once(&["cli-unavailable", text(&command), "install it"]);
    assert!(place.dropped("intent-meanwhile.json").exists());
    install();
    assert_eq!(place.settled("intent-meanwhile.json")["fate"], "delivered");
    place.rename_in("intent-after.json", &scale("after", 3));
    assert_eq!(place.settled("intent-after.json")["fate"], "delivered");
    node.finish();
}

#[test]
fn a_reload_of_bad_settings() {
    let place = Place::new();
    let file = place.settings("[policy]\nmax_replicas = 50\n");
    let node = place.node().with(&["--config", &file]).start();
    let fault = Fault::begins(&place);
    place.settings("[policy]\nmax_replicas = 2\n[watch]\ndebonce = \"1s\"\n");
    node.signal(Signal::HUP);
    let place_in_file = format!("{file} line 4 column 1");
    fault.is_shown(&node, 200, &["config", &place_in_file, "watch.debonce", "old settings are in force"]);
    fault.is_found(&["--config", &file], "configuration", &[&place_in_file, "watch.debonce"]);
    place.rename_in("intent-meanwhile.json", &scale("meanwhile", 40));
    assert_eq!(place.settled("intent-meanwhile.json")["fate"], "delivered", "the old policy holds");
    fault.is_told_once(&["not reloaded", &place_in_file, "did you mean watch.debounce?", "SIGHUP again"]);
    place.settings("[policy]\nmax_replicas = 40\n");
    node.signal(Signal::HUP);
    until("the settings are taken", || {
        node.get("/readyz?verbose").body.contains("[+]config ok\n").then_some(())
    });
    all_is_well(&place, &node, "intent-meanwhile.json");
    node.finish();
}

/// The words of a daemon that could not start: its exit code is 1.
fn failed_start(place: &Place, args: &[&str]) -> Vec<String> {
    let run = ["run", "--log-format", "json", "--listen"];
    let ran = Ran::of(place.command().args(run).args(args)).ended(1);
    let serious = |line: &&str| !line.contains("\"level\":\"info\"");
    ran.stderr.lines().filter(serious).map(str::to_owned).collect()
}

#[test]
fn a_lock_that_another_daemon_holds() {
    let place = Place::new();
    let other = place.root().join("other-state");
    let first = place.node().start();
    let holder = format!("pid {}", first.pid());
    let lines = failed_start(&place, &["127.0.0.1:0", "--state", text(&other)]);
    one_line(&lines, &["another conductor-loop", text(&place.handoff()), &holder, "stop that one"]);
    found(&place, &["--state", text(&other)], "daemon", &["fail"], &[&holder]);
    assert!(!other.exists(), "it left nothing");
    first.kill();
    place.rename_in("intent-meanwhile.json", &scale("meanwhile", 3));
    let second = place.node().start();
    all_is_well(&place, &second, "intent-meanwhile.json");
    second.finish();
}

#[test]
fn a_port_that_is_taken() {
    let place = Place::new();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    let pid = format!("pid {}", std::process::id());
    place.rename_in("intent-meanwhile.json", &scale("meanwhile", 3));
    let lines = failed_start(&place, &[&address]);
    one_line(&lines, &[&address, "in use", "http.listen"]);
    found(&place, &["--listen", &address], "daemon", &["fail"], &[&address, "is taken", &pid]);
    drop(held);
    let node = place.node().at_the_default_address().with(&["--listen", &address]).start();
    all_is_well(&place, &node, "intent-meanwhile.json");
    node.finish();
}
