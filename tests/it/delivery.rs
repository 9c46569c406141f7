//! What the daemon is for: everything dropped is delivered once, soon, and never read early.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::support::{Load, Place, intent, scale, setting, wait_filed};

#[test]
fn twenty_thousand_files_dropped_at_once_are_all_settled_and_counted() {
    let place = Place::alone();
    let count = usize::try_from(setting("CONDUCTOR_TEST_FILES", 20_000)).unwrap();
    let load = Load::new(count, 200, true);
    let node = place.node().start();
    load.drop_mixed(&place, 4, Duration::ZERO);
    node.wait_settled(count, Duration::from_secs(240));
    wait_filed(&place, count, Duration::from_secs(60));
    let peak = node.peak_memory();
    assert!(peak < 60_000_000, "peak memory {} MB", peak / 1_000_000);
    let page = node.page();
    assert_eq!(page.labelled("conductor_loop_intents_total", "fate", "refused"), (count / 100) as f64);
    assert_eq!(page.value("conductor_loop_unaccounted_intents"), 0.0);
    node.finish();
    load.compare(&place);
}

#[test]
fn a_file_held_open_for_two_seconds_is_not_read_early() {
    let place = Place::new();
    let node = place.node().with(&["--debounce", "10ms", "--period", "100ms"]).start();
    let halves = scale("halves", 5);
    let (first, second) = halves.split_at(halves.len() / 2);
    let mut cut = File::create(place.dropped("intent-halves.json")).unwrap();
    cut.write_all(first).unwrap();
    // A whole document at every moment, but not yet the one that its writer means.
    let whole = File::create(place.dropped("intent-whole.json")).unwrap();
    whole.write_all_at(&scale("whole", 3), 0).unwrap();
    let begun = Instant::now();
    place.next_good_file_is_delivered("beside-open-ones");
    thread::sleep(Duration::from_secs(2).saturating_sub(begun.elapsed()));
    assert!(
        place.statuses_of("intent-halves.json").is_empty()
            && place.statuses_of("intent-whole.json").is_empty()
    );
    cut.write_all(second).unwrap();
    whole.write_all_at(&scale("whole", 5), 0).unwrap();
    drop((cut, whole));
    for (target, name) in [("halves", "intent-halves.json"), ("whole", "intent-whole.json")] {
        let status = place.settled(name);
        assert_eq!((&status["fate"], &status["proof"]), (&"delivered".into(), &"lease".into()), "{status:#}");
        let workload = place.deployment(target);
        assert_eq!((workload.revision, workload.replicas), (1, Some(5)), "{target}");
    }
    node.finish();
}

#[test]
fn half_of_the_renames_are_delivered_within_ten_milliseconds() {
    let place = Place::alone();
    let node = place.node().start();
    place.next_good_file_is_delivered("warm");
    let mut waits: Vec<Duration> = (0..100).map(|at| rename_to_package(&place, at)).collect();
    waits.sort();
    let (p50, p90) = (waits[waits.len() / 2], waits[waits.len() * 9 / 10]);
    assert!(p50 < Duration::from_millis(10), "rename to package: p50 {p50:?}, p90 {p90:?}");
    node.finish();
}

/// From the rename until the status file says when the outcome was durable.
fn rename_to_package(place: &Place, at: u32) -> Duration {
    let name = format!("intent-quick-{at}.json");
    let draft = place.desk().join(&name);
    fs::write(&draft, scale(&format!("quick-{}", at % 10), 1 + at % 100)).unwrap();
    let renamed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    fs::rename(&draft, place.dropped(&name)).unwrap();
    let status = place.settled(&name);
    assert_eq!(status["fate"], "delivered");
    let finished: jiff::Timestamp = status["finished_at"].as_str().unwrap().parse().unwrap();
    // The status tells whole milliseconds, cut off: one is added so that the figure is never too good.
    let finished = Duration::from_millis(u64::try_from(finished.as_millisecond()).unwrap() + 1);
    finished.saturating_sub(renamed)
}

#[test]
fn each_style_of_document_reaches_the_package_that_it_names() {
    let place = Place::new();
    let node = place.node().start();
    let kubernetes = br#"{"apiVersion": "nephio.org/v1alpha1", "kind": "ScalingIntent",
        "metadata": {"name": "ignored", "namespace": "core"},
        "spec": {"target": {"type": "statefulset", "name": "upf"}, "replicas": 7}}"#;
    let contract =
        br#"{"id": "s-1", "resource_type": "daemonset", "resource_name": "agent", "namespace": "edge",
        "target_scale": 0, "scale_direction": "down", "reason": "night time", "status": "pending"}"#;
    place.rename_in("intent-flat.json", &intent("ran-a", "statefulset/amf", 2));
    place.rename_in("intent-kubernetes.json", kubernetes);
    place.rename_in("intent-contract.json", contract);
    for name in ["intent-flat.json", "intent-kubernetes.json", "intent-contract.json"] {
        let status = place.settled(name);
        assert_eq!(status["fate"], "delivered", "{status:#}");
    }
    assert_eq!(place.workload("ran-a", "statefulset", "amf").replicas, Some(2));
    assert_eq!(place.workload("core", "statefulset", "upf").replicas, Some(7));
    assert_eq!(place.workload("edge", "daemonset", "agent").replicas, Some(0));
    node.finish();
}

#[test]
fn a_package_is_whole_and_its_status_tells_what_is_in_it() {
    let place = Place::new();
    let node = place.node().start();
    place.rename_in("intent-7.json", &scale("odu", 3));
    let status = place.settled("intent-7.json");
    let package = place.out().join("ran-a/deployment-odu");
    let mut files = crate::support::names_in(&package);
    files.sort();
    assert_eq!(files, ["Kptfile", "package-context.yaml", "workload.yaml"]);
    let workload = fs::read_to_string(package.join("workload.yaml")).unwrap();
    assert!(workload.contains("app.kubernetes.io/managed-by: conductor-loop"), "{workload}");
    assert!(workload.contains("config.kubernetes.io/local-config: \"true\""), "{workload}");
    assert!(workload.contains("name: \"odu-intent\""), "{workload}");
    assert!(workload.contains(status["sha256"].as_str().unwrap()), "{workload}");
    assert_eq!(place.deployment("odu").intent_id, status["id"]);
    assert_eq!(status["message"], "delivered to folder:ran-a/deployment-odu revision 1");
    assert_eq!(
        status["target"],
        serde_json::json!({"namespace": "ran-a", "kind": "deployment", "name": "odu"})
    );
    let remote =
        serde_json::json!({"name": "ran-a/deployment-odu", "revision": "1", "lifecycle": "Published"});
    assert_eq!(status["remote"], remote);
    assert_eq!((&status["sink"], &status["attempts"]), (&"folder".into(), &1.into()));
    assert_eq!(fs::read(place.processed("intent-7.json")).unwrap(), scale("odu", 3));
    node.finish();
}
