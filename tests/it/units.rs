//! The files in `systemd/`, judged by systemd's own tools and compared with the settings they stand for.
//!
//! Nothing is installed: the tools work on a tree of their own (`--root`).

mod file;
mod tree;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use conductor_loop::config::{Environment, Layers, Listen, Loaded, Role, listening, load, state_dir};

use crate::support::{Place, privileged};
use file::UnitFile;
use tree::{Tree, tool, version};

const UNITS: [&str; 2] = ["systemd/conductor-loop.service", "systemd/conductor-loop@.service"];

/// `contract.md` 2.
const HANDOFF: &str = "/var/spool/conductor-loop";
const OUT: &str = "/var/spool/conductor-loop-out";
const STATE: &str = "/var/lib/conductor-loop";

/// The highest exposure that the default unit may have.
const EXPOSURE: f64 = 1.3;

/// The samples of drop-ins; the last is for systemd 253 and newer.
const SAMPLES: [&str; 4] = ["folders.conf", "ip-allow.conf", "dynamic-user.conf", "notify-reload.conf"];

fn samples() -> Vec<&'static str> {
    SAMPLES.into_iter().filter(|name| *name != "notify-reload.conf").collect()
}

/// Everything that the unit gives to the daemon, `instance` in the place of `%i`.
fn environment(unit: &UnitFile, instance: &str) -> Environment {
    let filled = |text: &str| text.replace("%i", instance).replace("%t", "/run");
    let mut environment: Environment = unit
        .all("Service", "Environment")
        .iter()
        .map(|pair| pair.split_once('=').unwrap_or_else(|| panic!("no assignment: {pair}")))
        .map(|(name, value)| (OsString::from(name), OsString::from(filled(value))))
        .collect();
    let state = format!("/var/lib/{}", filled(unit.one("Service", "StateDirectory")));
    environment.insert("STATE_DIRECTORY".into(), state.into());
    environment
}

fn settings(environment: Environment) -> Loaded {
    let mut layers = Layers::new(environment);
    layers.system = "/nonexistent/config.toml".into();
    load(&layers).unwrap_or_else(|faults| panic!("{faults}"))
}

#[test]
#[ignore = "needs the tools of systemd 252 or newer, which .ci/run installs"]
fn systemd_has_nothing_to_say_against_the_units() {
    let tree = Tree::new();
    for unit in ["conductor-loop.service", "conductor-loop@site-a.service"] {
        assert_eq!(tree.verify(unit), (0, String::new()), "{unit}");
    }
}

#[test]
#[ignore = "needs the tools of systemd 252 or newer, which .ci/run installs"]
fn systemd_takes_the_samples_of_drop_ins() {
    for sample in samples() {
        let tree = Tree::new();
        tree.drop_in(sample);
        assert_eq!(tree.verify("conductor-loop.service"), (0, String::new()), "{sample}");
    }
    // What the sample's comment says of older versions.
    let tree = Tree::new();
    tree.drop_in("notify-reload.conf");
    let (_, said) = tree.verify("conductor-loop.service");
    match version() {
        253.. => assert_eq!(said, ""),
        _ => assert!(said.contains("Failed to parse service type, ignoring: notify-reload"), "{said}"),
    }
}

#[test]
#[ignore = "needs the tools of systemd 252 or newer, which .ci/run installs"]
#[expect(clippy::print_stdout, reason = "the figure is asked for")]
fn the_exposure_is_at_most_1_3() {
    let bare = Tree::new();
    for path in UNITS {
        let exposure = bare.exposure(Path::new(path));
        println!("{path}: exposure {exposure}");
        assert!(exposure <= EXPOSURE, "{path}: {exposure}");
    }
    for sample in samples() {
        let merged = bare.root().join("conductor-loop.service");
        let text = fs::read_to_string(UNITS[0]).unwrap();
        fs::write(&merged, text + &fs::read_to_string(Path::new("systemd/examples").join(sample)).unwrap())
            .unwrap();
        let exposure = bare.exposure(&merged);
        println!("{sample}: exposure {exposure}");
        assert!(exposure <= EXPOSURE, "{sample}: {exposure}");
    }
}

#[test]
fn cap_lease_is_the_only_capability() {
    for path in UNITS {
        let unit = UnitFile::read(path);
        for key in ["CapabilityBoundingSet", "AmbientCapabilities"] {
            assert_eq!(unit.one("Service", key), "CAP_LEASE", "{path}: {key}");
        }
        assert_eq!(unit.one("Service", "NoNewPrivileges"), "yes");
        let filter = unit.all("Service", "SystemCallFilter");
        let own = "landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp";
        assert_eq!(
            filter.last().map(String::as_str),
            Some(own),
            "the last word is for the daemon's own sandbox"
        );
    }
}

#[test]
fn an_instance_is_shut_in_like_the_single_service() {
    const OWN: [&str; 7] = [
        "Environment",
        "ExecStartPre",
        "ReadWritePaths",
        "RuntimeDirectory",
        "StateDirectory",
        "RequiresMountsFor",
        "AssertPathExists",
    ];
    let [single, template] = UNITS.map(|path| {
        let mut lines = UnitFile::read(path).lines();
        lines.retain(|(_, key, _)| !OWN.contains(&key.as_str()) && key != "Description");
        lines
    });
    assert_eq!(single, template);
}

#[test]
fn the_unit_names_the_folders_of_the_contract() {
    let unit = UnitFile::read(UNITS[0]);
    let environment = environment(&unit, "");
    let loaded = settings(environment.clone());
    assert_eq!(loaded.config.watch.handoff, Path::new(HANDOFF));
    assert_eq!(loaded.config.sink.folder.out, Path::new(OUT));
    assert_eq!(state_dir(&loaded.config, &environment), Path::new(STATE));
    let listening = listening(&loaded.config.http.listen, Role::Run);
    assert!(!listening.configured, "a taken port is a warning: {listening:?}");
    assert_eq!(unit.one("Service", "ReadWritePaths"), format!("-{HANDOFF} -{OUT}"));
    assert_eq!(unit.one("Unit", "RequiresMountsFor"), format!("{HANDOFF} {OUT}"));
    let system = Path::new("/etc").join(unit.one("Service", "ConfigurationDirectory")).join("config.toml");
    assert_eq!(Layers::new(Environment::new()).system, system);
}

#[test]
fn an_instance_has_folders_settings_and_pages_of_its_own() {
    let unit = UnitFile::read(UNITS[1]);
    let mut given = environment(&unit, "site-a");
    let file = given.remove(&OsString::from("CONDUCTOR_LOOP_CONFIG"));
    assert_eq!(file, Some("/etc/conductor-loop/site-a.toml".into()));
    assert_eq!(unit.one("Unit", "AssertPathExists"), "/etc/conductor-loop/%i.toml");
    let loaded = settings(given.clone());
    let spool = Path::new("/var/spool/conductor-loops/site-a");
    assert_eq!(loaded.config.watch.handoff, spool.join("handoff"));
    assert_eq!(loaded.config.sink.folder.out, spool.join("out"));
    assert_eq!(state_dir(&loaded.config, &given), Path::new("/var/lib/conductor-loops/site-a"));
    let runtime = Path::new("/run").join(unit.one("Service", "RuntimeDirectory").replace("%i", "site-a"));
    assert_eq!(loaded.config.http.listen, Listen::Unix(runtime.join("http.sock")));
    assert_eq!(unit.one("Service", "ReadWritePaths"), "-/var/spool/conductor-loops/%i");
    let mut other = environment(&unit, "out");
    other.remove(&OsString::from("CONDUCTOR_LOOP_CONFIG"));
    let other = settings(other);
    for place in [&other.config.watch.handoff, &other.config.sink.folder.out] {
        assert!(
            !place.starts_with(HANDOFF) && !place.starts_with(OUT) && !place.starts_with(spool),
            "{place:?}"
        );
    }
}

#[test]
fn the_unit_starts_stops_and_comes_back_as_the_daemon_expects() {
    for path in UNITS {
        let unit = UnitFile::read(path);
        let service = |key: &str| unit.one("Service", key).to_owned();
        assert_eq!((service("Type"), service("NotifyAccess")), ("notify".into(), "main".into()));
        assert_eq!(service("ExecReload"), "/bin/kill -HUP $MAINPID");
        assert_eq!((service("WatchdogSec"), service("Restart")), ("30".into(), "on-failure".into()));
        assert_eq!((service("RestartSec"), unit.one("Unit", "StartLimitIntervalSec")), ("5".into(), "0"));
        assert_eq!(service("RestartPreventExitStatus"), "2");
        let stop = Duration::from_secs(service("TimeoutStopSec").parse().unwrap());
        let drain = settings(Environment::new()).config.service.drain;
        assert!(stop >= drain * 2, "{stop:?} for a drain of {drain:?}");
        assert!(unit.one("Unit", "Documentation").starts_with("https://"), "a man page may not be installed");
        let checked = unit.all("Service", "ExecStartPre");
        assert!(checked.last().is_some_and(|line| line.starts_with("/usr/bin/conductor-loop config check")));
    }
}

#[test]
fn the_program_accepts_the_units_settings() {
    let place = Place::new();
    let mut command = place.command();
    command.env_clear().envs(environment(&UnitFile::read(UNITS[0]), ""));
    let told = crate::support::Ran::of(command.args(["config", "check"])).ended(0);
    assert_eq!(told.stderr, "");
}

#[test]
#[ignore = "needs the tools of systemd 252 or newer, which .ci/run installs"]
fn user_groups_and_folders_come_out_as_the_daemon_needs_them() {
    let tree = Tree::new();
    // Without the rights of root both users and both groups are those of the tests.
    tree.with_users(privileged());
    tree.runs_clean(&mut tool("systemd-sysusers"));
    let (passwd, group) = (tree.read("etc/passwd"), tree.read("etc/group"));
    let user = passwd.lines().find(|line| line.starts_with("conductor-loop:")).expect("the daemon's user");
    assert!(user.ends_with(":/usr/sbin/nologin"), "{user}");
    let producers =
        group.lines().find(|line| line.starts_with("intent-drop:")).expect("the producers' group");
    assert!(producers.ends_with(":conductor-loop"), "{producers}");
    if !privileged() {
        tree.only_own_folders();
    }
    tree.runs_clean(tool("systemd-tmpfiles").arg("--create"));
    let number = |line: &str, at: usize| line.split(':').nth(at).unwrap().parse::<u32>().unwrap();
    let (daemon, drop) = (number(user, 2), number(producers, 2));
    for (path, mode, gid) in [(HANDOFF, 0o3770, drop), (OUT, 0o2750, number(user, 3))] {
        let seen = fs::metadata(tree.root().join(path.trim_start_matches('/'))).unwrap();
        assert_eq!(seen.permissions().mode() & 0o7777, mode, "{path}");
        assert_eq!((seen.uid(), seen.gid()), (daemon, gid), "{path}");
    }
    let handoff = tree.root().join(HANDOFF.trim_start_matches('/'));
    let dropped = tree.drop_with_umask_077(&handoff.join("intent-1.json"));
    assert_eq!(dropped.gid(), drop, "the daemon is in the group that a file takes on");
    assert_eq!(dropped.mode() & 0o777, 0o640, "and the group may read, whatever the umask");
}

#[test]
fn the_kernel_is_asked_for_a_longer_queue_of_events() {
    let text = fs::read_to_string("systemd/sysctl.d/60-conductor-loop.conf").unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    assert_eq!(lines, ["fs.inotify.max_queued_events = 131072"]);
}

#[test]
fn every_file_says_where_it_goes() {
    for name in [
        "sysctl.d/60-conductor-loop.conf",
        "sysusers.d/conductor-loop.conf",
        "tmpfiles.d/conductor-loop.conf",
    ] {
        let text = fs::read_to_string(Path::new("systemd").join(name)).unwrap();
        assert!(text.contains(&format!("# Installed as /usr/lib/{name}")), "{name}");
    }
    for sample in SAMPLES {
        let text = fs::read_to_string(Path::new("systemd/examples").join(sample)).unwrap();
        assert!(text.contains(&format!("/etc/systemd/system/conductor-loop.service.d/{sample}")), "{sample}");
    }
}
