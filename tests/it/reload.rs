//! SIGHUP: the settings are loaded again, taken over as a whole, or refused as a whole (C02).

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Load, Node, Place, padded, scale, until, wait_filed, within};

const OK: &str = "conductor_loop_config_last_reload_successful";
const WHEN: &str = "conductor_loop_config_last_reload_success_timestamp_seconds";

/// A daemon with this settings file.
fn started<'p>(place: &'p Place, settings: &str) -> Node<'p> {
    let file = place.settings(settings);
    place.node().with(&["--config", &file]).start()
}

/// Reloads that came to `result`; the page may be a second old.
fn reloads(node: &Node<'_>, result: &str) -> f64 {
    node.page().labelled("conductor_loop_config_reloads_total", "result", result)
}

/// Writes other settings, sends SIGHUP and waits until they are in force, or refused.
#[track_caller]
fn reload(place: &Place, node: &Node<'_>, settings: &str, result: &str) {
    let words = if result == "ok" { "settings reloaded" } else { "the old settings are in force" };
    let before = lines(place, words).len();
    place.settings(settings);
    node.signal(Signal::HUP);
    until("the reload is over", || (lines(place, words).len() > before).then_some(()));
}

/// The same where the log level hides a success.
#[track_caller]
fn reload_counted(place: &Place, node: &Node<'_>, settings: &str) {
    let before = reloads(node, "ok");
    place.settings(settings);
    node.signal(Signal::HUP);
    until("the reload is over", || (reloads(node, "ok") > before).then_some(()));
}

/// Waits until a series has this value.
#[track_caller]
fn shows(node: &Node<'_>, series: &str, value: f64) {
    until(&format!("{series} is {value}"), || (node.page().value(series) == value).then_some(()));
}

/// The log lines whose message contains `words`.
fn lines(place: &Place, words: &str) -> Vec<Value> {
    let parsed =
        place.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect::<Vec<Value>>();
    let told = |line: &Value| line["message"].as_str().is_some_and(|message| message.contains(words));
    parsed.into_iter().filter(told).collect()
}

/// Waits for one line with `words` at `level`; returns its message.
#[track_caller]
fn line(place: &Place, level: &str, words: &str) -> String {
    until(&format!("a line with {words:?}"), || {
        let found = lines(place, words).pop()?;
        assert_eq!(found["level"], level, "{found}");
        found["message"].as_str().map(str::to_owned)
    })
}

#[test]
fn a_changed_policy_holds_for_the_next_file_without_a_restart() {
    let place = Place::new();
    let node = started(&place, "[policy]\nmax_replicas = 50\n");
    place.rename_in("intent-1.json", &scale("a", 40));
    assert_eq!(place.settled("intent-1.json")["fate"], "delivered");
    reload(&place, &node, "[policy]\nmax_replicas = 10\nnamespaces = [\"ran-a\"]\n", "ok");
    place.rename_in("intent-2.json", &scale("a", 40));
    let refused = place.settled("intent-2.json");
    assert_eq!((&refused["fate"], &refused["reason"]), (&"refused".into(), &"policy".into()), "{refused:#}");
    place.rename_in("intent-3.json", &scale("a", 10));
    assert_eq!(place.settled("intent-3.json")["fate"], "delivered");
    let told = line(&place, "info", "settings reloaded: ");
    assert!(told.contains("policy.max_replicas 50 -> 10"), "{told}");
    assert!(told.contains("policy.namespaces [] -> [\"ran-a\"]"), "{told}");
    shows(&node, OK, 1.0);
    // The folder is scanned as well.
    shows(&node, "conductor_loop_rescans_total{cause=\"signal\"}", 1.0);
    node.finish();
}

#[test]
fn a_broken_file_changes_nothing_and_says_where_it_is_broken() {
    let place = Place::new();
    let node = started(&place, "[policy]\nmax_replicas = 50\n");
    let before = node.page().value(WHEN);
    let broken = "[policy]\nmax_replicas = 10\n[watch]\ndebonce = \"1s\"\nperiod = \"2h\"\n";
    reload(&place, &node, broken, "failed");
    shows(&node, OK, 0.0);
    assert_eq!(node.page().value(WHEN), before);
    let told = lines(&place, "settings not reloaded: ");
    assert_eq!(told.len(), 2, "one line a fault: {told:#?}");
    let texts: Vec<&str> = told.iter().filter_map(|line| line["message"].as_str()).collect();
    assert!(texts[0].contains("settings.toml line 4 column 1: watch.debonce: unknown key"), "{texts:?}");
    assert!(texts[0].contains("did you mean watch.debounce?"), "{texts:?}");
    assert!(texts[1].contains("settings.toml line 5 column 10: watch.period: 2h is outside"), "{texts:?}");
    assert!(line(&place, "error", "the old settings are in force").contains("SIGHUP again"));
    let ready = node.get("/readyz?verbose");
    assert_eq!(ready.code, 200, "old settings are good settings");
    let shown = ready.body.lines().find(|line| line.starts_with("[-]config ")).expect("the check is shown");
    assert!(shown.contains("last reload failed: ") && shown.contains("line 4 column 1"), "{shown}");
    assert!(shown.contains("the old settings are in force"), "{shown}");
    let status = place.status();
    assert_eq!(status["config"]["state"], "stale", "{status:#}");
    assert!(status["config"]["reason"].as_str().unwrap().contains("last reload failed"), "{status:#}");
    place.rename_in("intent-1.json", &scale("a", 40));
    assert_eq!(place.settled("intent-1.json")["fate"], "delivered", "the old policy is in force");
    reload(&place, &node, "[policy]\nmax_replicas = 10\n", "ok");
    shows(&node, OK, 1.0);
    assert!(node.get("/readyz?verbose").body.contains("[+]config ok\n"));
    assert_eq!(place.status()["config"]["state"], "ok");
    place.rename_in("intent-2.json", &scale("a", 40));
    assert_eq!(place.settled("intent-2.json")["reason"], "policy");
    node.finish();
}

#[test]
fn a_file_that_is_gone_or_open_to_others_is_no_reload() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let file = place.settings("[policy]\nmax_replicas = 50\n");
    let node = place.node().with(&["--config", &file]).start();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    node.signal(Signal::HUP);
    until("the reload failed", || (reloads(&node, "failed") == 1.0).then_some(()));
    assert!(line(&place, "error", "settings not reloaded: ").contains("chmod go-w"));
    fs::remove_file(&file).unwrap();
    node.signal(Signal::HUP);
    until("the reload failed", || (reloads(&node, "failed") == 2.0).then_some(()));
    place.rename_in("intent-1.json", &scale("a", 60));
    assert_eq!(place.settled("intent-1.json")["reason"], "policy", "the old policy is in force");
    node.finish();
}

#[test]
fn a_schema_is_read_again_and_a_broken_one_is_refused() {
    let place = Place::new();
    let schema = place.root().join("site.schema.json");
    let settings = format!("[intake]\nschema = {schema:?}\n");
    fs::write(&schema, "{}").unwrap();
    let node = started(&place, &settings);
    place.rename_in("intent-1.json", &scale("a", 3));
    assert_eq!(place.settled("intent-1.json")["fate"], "delivered");
    fs::write(&schema, r#"{"properties": {"replicas": {"maximum": 2}}}"#).unwrap();
    reload(&place, &node, &settings, "ok");
    assert!(line(&place, "info", "settings reloaded: ").contains("intake.schema"));
    place.rename_in("intent-2.json", &scale("b", 3));
    assert_eq!(place.settled("intent-2.json")["reason"], "schema");
    fs::write(&schema, r#"{"type": 5}"#).unwrap();
    reload(&place, &node, &settings, "failed");
    let told = line(&place, "error", "settings not reloaded: ");
    assert!(told.contains("settings.toml line 2") && told.contains("site.schema.json"), "{told}");
    place.rename_in("intent-3.json", &scale("c", 3));
    assert_eq!(place.settled("intent-3.json")["reason"], "schema", "the old schema is in force");
    node.finish();
}

#[test]
fn a_key_that_needs_a_restart_is_named_and_keeps_its_value() {
    let place = Place::new();
    let node = started(&place, "[watch]\npattern = \"intent-*.json\"\n");
    let changed = "[watch]\npattern = \"job-*.json\"\n[intake]\nqueue = 64\n[policy]\nmax_replicas = 10\n";
    for round in 1..=2 {
        reload(&place, &node, changed, "ok");
        let words = "the old values stay until a restart: watch.pattern, intake.queue";
        until("the keys are named", || (lines(&place, words).len() == round).then_some(()));
    }
    line(&place, "warn", "until a restart");
    assert!(lines(&place, "settings reloaded: policy.max_replicas 100 -> 10").len() == 1);
    line(&place, "info", "settings reloaded, none changed");
    assert_eq!(node.page().value("conductor_loop_queue_capacity{lane=\"fresh\"}"), 16_384.0);
    fs::write(place.dropped("job-1.json"), scale("b", 3)).unwrap();
    place.rename_in("intent-1.json", &scale("a", 3));
    assert_eq!(place.settled("intent-1.json")["fate"], "delivered", "the old pattern is in force");
    assert!(place.dropped("job-1.json").exists(), "and only that");
    reload(&place, &node, "[policy]\nmax_replicas = 10\n", "ok");
    assert_eq!(lines(&place, "until a restart").len(), 2, "nothing waits any more");
    node.finish();
    let node = started(&place, "[watch]\npattern = \"job-*.json\"\n");
    assert_eq!(place.settled("job-1.json")["fate"], "delivered");
    node.finish();
}

#[test]
fn flags_and_environment_win_over_the_file_in_a_reload_too() {
    let place = Place::new();
    let file = place.settings("");
    let node = place.node().with(&["--config", &file, "--set", "policy.max_replicas=20"]).start();
    reload(&place, &node, "[policy]\nmax_replicas = 90\n[sink]\nmax_age = \"1h\"\n", "ok");
    let told = line(&place, "info", "settings reloaded: ");
    assert!(told.ends_with("settings reloaded: sink.max_age \"7d\" -> \"1h\""), "{told}");
    place.rename_in("intent-1.json", &scale("a", 50));
    assert_eq!(place.settled("intent-1.json")["reason"], "policy");
    node.finish();
}

#[test]
fn another_log_level_holds_at_once() {
    let place = Place::new();
    let node = started(&place, "[log]\nlevel = \"error\"\n");
    assert!(lines(&place, "starting").is_empty());
    reload(&place, &node, "[log]\nlevel = \"debug\"\n", "ok");
    line(&place, "info", "settings reloaded: log.level \"error\" -> \"debug\"");
    line(&place, "debug", "reload over");
    reload_counted(&place, &node, "[log]\nlevel = \"warn\"\n");
    let written = place.log().len();
    reload_counted(&place, &node, "[log]\nlevel = \"warn\"\n[intake]\nqueue = 64\n");
    line(&place, "warn", "until a restart: intake.queue");
    let since = place.log()[written..].to_owned();
    assert!(!since.contains("settings reloaded"), "info is below the level: {since}");
    node.finish();
}

#[test]
fn another_quiet_time_holds_for_files_that_come_after() {
    let place = Place::new();
    let node = started(&place, "[watch]\ndebounce = \"3s\"\n");
    // A cut-off document is waited for during five quiet times: 15 s by the old setting.
    fs::write(place.dropped("intent-slow.json"), b"{\"intent_type\": \"scal").unwrap();
    until("it was looked at", || {
        (node.page().value("conductor_loop_stage_duration_seconds_count{stage=\"read\"}") >= 1.0)
            .then_some(())
    });
    let looked = Instant::now();
    reload(&place, &node, "[watch]\ndebounce = \"10ms\"\n", "ok");
    fs::write(place.dropped("intent-quick.json"), b"{\"intent_type\": \"scal").unwrap();
    assert_eq!(place.settled("intent-quick.json")["reason"], "truncated-json");
    assert!(looked.elapsed() < Duration::from_secs(14), "five windows of the old length");
    // The slow one goes by the new window from its next look on.
    assert_eq!(place.settled("intent-slow.json")["reason"], "truncated-json");
    node.finish();
}

#[test]
fn other_limits_of_size_and_age_hold_at_once() {
    let place = Place::new();
    let node = started(&place, "[ledger]\ncheckpoint = \"1m\"\n");
    place.rename_in("intent-1.json", &padded("a", 3, 2_000));
    assert_eq!(place.settled("intent-1.json")["fate"], "delivered");
    // Retention makes a round at once after a reload and then rests: the file must be old enough by then.
    let filed = fs::metadata(place.processed("intent-1.json")).unwrap().ctime();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
    until("it is two seconds old", || (now() > filed + 2).then_some(()));
    let limits =
        "[intake]\nmax_size = \"1KiB\"\n[settle]\nkeep_for = \"1s\"\n[ledger]\ncheckpoint = \"100ms\"\n";
    reload(&place, &node, limits, "ok");
    place.rename_in("intent-2.json", &padded("b", 3, 2_000));
    assert_eq!(place.settled("intent-2.json")["reason"], "too-large");
    until("what is older than a second is gone", || place.list("processed").is_empty().then_some(()));
    // Its status files went with it, so there is nothing left to audit.
    assert_eq!(node.stop(), 0);
}

#[test]
fn reloads_under_load_lose_nothing() {
    const FILES: usize = 2_000;
    const SIGNALS: usize = 20;
    let place = Place::new();
    let node = started(&place, "");
    let load = Load::new(FILES, 40, true);
    std::thread::scope(|scope| {
        scope.spawn(|| load.drop_mixed(&place, 2, Duration::from_millis(20)));
        for round in 0..SIGNALS {
            let settings = match round % 4 {
                0 => "[watch]\ndebounce = \"20ms\"\nperiod = \"1s\"\n[sink]\nmax_pending = 500\n".to_owned(),
                1 => "[watch]\ndebonce = 5\n".to_owned(),
                2 => format!("[ledger]\ncheckpoint = \"200ms\"\n[intake]\nmax_values = {}\n", 1_000 + round),
                _ => "[sink]\ncoalesce = \"off\"\n[settle]\nkeep_for = \"1d\"\n".to_owned(),
            };
            // Spread over the load.
            wait_filed(&place, round * FILES / SIGNALS / 2, Duration::from_secs(60));
            let result = if round % 4 == 1 { "failed" } else { "ok" };
            reload(&place, &node, &settings, result);
        }
    });
    wait_filed(&place, load.len(), Duration::from_secs(120));
    until("all are counted", || {
        (reloads(&node, "ok") + reloads(&node, "failed") == SIGNALS as f64).then_some(())
    });
    node.finish();
    load.compare(&place);
}

#[test]
fn a_burst_of_signals_ends_with_the_newest_settings() {
    let place = Place::new();
    let node = started(&place, "");
    for replicas in 1..=30 {
        place.settings(&format!("[policy]\nmax_replicas = {replicas}\n"));
        node.signal(Signal::HUP);
    }
    within(Duration::from_secs(30), "the last settings are in force", || {
        let told = lines(&place, "settings reloaded: ").pop()?;
        told["message"].as_str()?.ends_with("-> 30").then_some(())
    });
    place.rename_in("intent-1.json", &scale("a", 31));
    assert_eq!(place.settled("intent-1.json")["reason"], "policy");
    node.finish();
}
