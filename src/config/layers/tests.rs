use super::*;

/// A directory with settings files, and the layers that look only there.
struct Site {
    dir: tempfile::TempDir,
    layers: Layers,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut layers = Layers::new(Environment::new());
        layers.system = dir.path().join("etc/config.toml");
        layers.cores = 2;
        Site { dir, layers }
    }

    /// Writes a file below the site's directory.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("below the site")).expect("made");
        std::fs::write(&path, text).expect("written");
        path
    }

    fn file(mut self, text: &str) -> Self {
        self.layers.file = Some(self.write("c.toml", text));
        self
    }

    fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.layers.environment.insert(name.into(), value.into());
        self
    }

    fn set(self, key: &str, value: &str) -> Self {
        self.given(key, value, Origin::Set)
    }

    fn flag(self, flag: &'static str, key: &str, value: &str) -> Self {
        self.given(key, value, Origin::Flag(flag))
    }

    fn given(mut self, key: &str, value: &str, origin: Origin) -> Self {
        self.layers.given.push(Given { key: key.into(), value: value.into(), origin });
        self
    }

    fn load(&self) -> Loaded {
        load(&self.layers).map_err(|faults| faults.to_string()).expect("no fault")
    }

    /// The faults, the site's directory shown as `DIR`.
    fn faults(&self) -> Vec<String> {
        let faults = load(&self.layers).expect_err("a fault").to_string();
        faults.lines().map(|line| self.mask(line)).collect()
    }

    fn warnings(&self) -> Vec<String> {
        self.load().warnings.iter().map(|line| self.mask(line)).collect()
    }

    fn mask(&self, line: &str) -> String {
        line.replace(&self.dir.path().display().to_string(), "DIR")
    }
}

fn millis(count: u64) -> std::time::Duration {
    std::time::Duration::from_millis(count)
}

#[test]
fn without_any_layer_there_are_the_defaults() {
    let loaded = Site::new().load();
    assert_eq!(loaded.config.watch, Config::default().watch);
    assert_eq!(loaded.file, None);
    assert!(loaded.warnings.is_empty());
    assert_eq!(loaded.origins.of("watch.debounce").to_string(), "default");
}

#[test]
fn each_layer_wins_over_the_ones_before_and_its_origin_is_kept() {
    let debounce = |site: &Site| {
        let loaded = site.load();
        let origin = site.mask(&loaded.origins.of("watch.debounce").to_string());
        (loaded.config.watch.debounce, origin)
    };
    let mut site = Site::new();
    site = site.file("[watch]\ndebounce = \"11ms\"\n");
    assert_eq!(debounce(&site), (millis(11), "DIR/c.toml line 2 column 12".into()));
    site.write("conf.d/20.toml", "watch.debounce = \"13ms\"");
    site.write("conf.d/10.toml", "watch.debounce = \"12ms\"");
    site.write("conf.d/.30.toml", "watch.debounce = \"14ms\"");
    site.write("conf.d/40.toml~", "watch.debounce = \"15ms\"");
    assert_eq!(debounce(&site), (millis(13), "DIR/conf.d/20.toml line 1 column 18".into()));
    site = site.env("CONDUCTOR_LOOP_WATCH_DEBOUNCE", "16ms");
    assert_eq!(debounce(&site), (millis(16), "environment CONDUCTOR_LOOP_WATCH_DEBOUNCE".into()));
    site = site.set("watch.debounce", "17ms");
    assert_eq!(debounce(&site), (millis(17), "flag --set".into()));
    site = site.flag("--debounce", "watch.debounce", "18ms");
    assert_eq!(debounce(&site), (millis(18), "flag --debounce".into()));
}

#[test]
fn the_file_is_the_first_of_flag_variable_home_and_system() {
    let mut site = Site::new();
    let system = site.write("etc/config.toml", "");
    assert_eq!(site.load().file, Some(system));
    let home = site.write("home/.config/conductor-loop/config.toml", "");
    let home_dir = site.dir.path().join("home");
    site = site.env("HOME", home_dir);
    assert_eq!(site.load().file, Some(home.clone()));
    let xdg_dir = site.dir.path().join("xdg");
    site = site.env("XDG_CONFIG_HOME", "not/absolute");
    assert_eq!(site.load().file, Some(home));
    let xdg = site.write("xdg/conductor-loop/config.toml", "");
    site = site.env("XDG_CONFIG_HOME", xdg_dir);
    assert_eq!(site.load().file, Some(xdg));
    let named = site.write("named.toml", "");
    site = site.env("CONDUCTOR_LOOP_CONFIG", named.as_os_str());
    assert_eq!(site.load().file, Some(named));
    site = site.file("");
    assert_eq!(site.load().file, Some(site.dir.path().join("c.toml")));
}

#[test]
fn a_named_file_must_exist() {
    let absent = "DIR/absent.toml: cannot be read: No such file or directory (os error 2)";
    let mut site = Site::new();
    let path = site.dir.path().join("absent.toml");
    site.layers.file = Some(path.clone());
    assert_eq!(site.faults(), [absent]);
    site.layers.file = None;
    assert_eq!(site.env("CONDUCTOR_LOOP_CONFIG", path).faults(), [absent]);
}

#[test]
fn faults_of_all_layers_are_named_at_once() {
    let site = Site::new().file("[watch]\ndebounce = \"5 bananas\"\ndebonce = 1\n");
    site.write("conf.d/1.toml", "[intake]\nqueue = 1\n");
    let site = site
        .env("CONDUCTOR_LOOP_LOG_FORMAT", "xml")
        .set("watch.periodd", "1s")
        .set("http.listen", "8080")
        .flag("--debounce", "watch.debounce", "soon");
    assert_eq!(
        site.faults(),
        [
            "DIR/c.toml line 2 column 12: watch.debounce: \"5 bananas\" is not a duration; write for example 100ms",
            "DIR/c.toml line 3 column 1: watch.debonce: unknown key; did you mean watch.debounce?",
            "DIR/conf.d/1.toml line 2 column 9: intake.queue: 1 is outside 16 to 65536",
            "environment CONDUCTOR_LOOP_LOG_FORMAT: log.format: \"xml\" is not one of auto, text, json, journald",
            "flag --set: watch.periodd: unknown key; did you mean watch.period?",
            "flag --set: http.listen: \"8080\" is not off, HOST:PORT or unix:PATH; write for example 127.0.0.1:8080",
            "flag --debounce: watch.debounce: \"soon\" is not a duration; write for example 100ms",
        ]
    );
}

#[test]
fn every_key_can_be_set_by_its_variable_and_by_set() {
    for key in KEYS {
        let value = key.example();
        let quoted = Site::new().set(&key.full(), &value).load();
        assert_eq!(key.get(&quoted.config).to_string(), value, "{}", key.full());
        assert_eq!(quoted.origins.of(&key.full()), &Origin::Set);
        let bare = match key.kind {
            Kind::List(_) => "service,configuration".to_string(),
            _ => value.trim_matches('"').to_string(),
        };
        let from_env = Site::new().env(&key.variable(), bare).load();
        let expected = match key.kind {
            Kind::List(_) => "[\"service\", \"configuration\"]".to_string(),
            _ => value,
        };
        assert_eq!(key.get(&from_env.config).to_string(), expected, "{}", key.full());
        assert_eq!(from_env.origins.of(&key.full()), &Origin::Environment(key.variable()));
    }
}

#[test]
fn paths_from_the_environment_may_hold_any_bytes() {
    use std::os::unix::ffi::OsStringExt as _;
    let odd = OsString::from_vec(b"/srv/\xff".to_vec());
    let loaded = Site::new().env("CONDUCTOR_LOOP_WATCH_HANDOFF", odd.clone()).load();
    assert_eq!(loaded.config.watch.handoff, PathBuf::from(odd));
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let site = Site::new().env("CONDUCTOR_LOOP_WATCH_DEBOUNCE", "").env("LOG_LEVEL", "");
    assert_eq!(site.load().config, Config { intake: site.load().config.intake, ..Config::default() });
}

#[test]
fn log_level_is_only_the_default_of_the_level() {
    let site = Site::new().env("LOG_LEVEL", "WARNING");
    assert_eq!(site.load().config.log.level, "warn");
    assert_eq!(site.load().origins.of("log.level").to_string(), "environment LOG_LEVEL");
    assert_eq!(site.file("log.level = \"debug\"").load().config.log.level, "debug");
    let site = Site::new().env("LOG_LEVEL", "chatty");
    assert_eq!(site.warnings(), ["environment LOG_LEVEL: chatty is no log level, ignored"]);
    assert_eq!(site.load().config.log.level, "info");
}

#[test]
fn a_misspelt_variable_is_warned_of_and_those_of_the_cluster_are_not() {
    let site = Site::new()
        .env("CONDUCTOR_LOOP_WATCH_DEBONCE", "1s")
        .env("CONDUCTOR_LOOP_SERVICE_HOST", "10.0.0.1")
        .env("CONDUCTOR_LOOP_SERVICE_PORT_HTTP", "80")
        .env("CONDUCTOR_LOOP_PORT_8080_TCP", "tcp://10.0.0.1:8080");
    assert_eq!(
        site.warnings(),
        ["environment CONDUCTOR_LOOP_WATCH_DEBONCE: no such setting, ignored; \
          did you mean CONDUCTOR_LOOP_WATCH_DEBOUNCE?"]
    );
}

#[test]
fn debounce_and_workers_are_clamped_with_a_warning() {
    let site = Site::new().set("watch.debounce", "1ms").set("intake.workers", "0");
    let loaded = site.load();
    assert_eq!((loaded.config.watch.debounce, loaded.config.intake.workers), (millis(10), 1));
    assert_eq!(
        loaded.warnings,
        [
            "flag --set: intake.workers: 0 is below 1; 1 is used",
            "flag --set: watch.debounce: 1ms is below 10ms; 10ms is used"
        ]
    );
    let loaded = Site::new().set("watch.debounce", "1m").flag("--workers", "intake.workers", "9").load();
    assert_eq!((loaded.config.watch.debounce, loaded.config.intake.workers), (millis(5000), 8));
    assert_eq!(
        loaded.warnings,
        [
            "flag --set: watch.debounce: 1m is above 5s; 5s is used",
            "flag --workers: intake.workers: 9 is above 4 times the number of cores; 8 is used"
        ]
    );
}

#[test]
fn a_clamped_value_that_a_later_layer_replaces_is_not_warned_of() {
    let site = Site::new().set("watch.debounce", "1ms").flag("--debounce", "watch.debounce", "20ms");
    assert!(site.warnings().is_empty());
}

#[test]
fn a_period_of_zero_is_the_default_and_out_of_range_a_fault() {
    for zero in ["0", "0s", "0ms"] {
        let site = Site::new().flag("--period", "watch.period", zero);
        assert_eq!(site.load().config.watch.period, millis(30_000));
        assert!(site.warnings().is_empty());
    }
    assert_eq!(Site::new().file("watch.period = 0").load().config.watch.period, millis(30_000));
    for (period, shown) in [("99ms", "99ms"), ("61m", "1h1m")] {
        let faults = Site::new().flag("--period", "watch.period", period).faults();
        assert_eq!(faults, [format!("flag --period: watch.period: {shown} is outside 100ms to 1h")]);
    }
}

#[test]
fn repeats_beyond_the_records_are_warned_of() {
    let warnings = Site::new().set("ledger.keep_for", "1d").warnings();
    assert_eq!(
        warnings,
        [
            "default: ledger.dedup_window: 30d is longer than ledger.keep_for, 1d: a repeat is recognised only \
          while the record of the first is kept"
        ]
    );
    let both = Site::new().set("ledger.keep_for", "1d").set("ledger.dedup_window", "1d");
    assert!(both.warnings().is_empty());
}

#[test]
fn further_faults_are_named_beside_the_others() {
    let site = Site::new().set("watch.debounce", "soon");
    let further = |_: &Config, origins: &Origins| vec![Fault::new(origins.of("log.level"), "more")];
    let faults = load_checked(&site.layers, further).expect_err("two faults");
    assert_eq!(faults.0.len(), 2, "{faults}");
    assert_eq!(faults.0[1].to_string(), "default: more");
}

#[test]
fn zero_is_no_age_limit() {
    assert!(Site::new().set("sink.max_age", "0").load().config.sink.max_age.is_zero());
}

#[test]
fn an_address_that_others_can_reach_is_warned_of() {
    let warnings = Site::new().flag("--listen", "http.listen", "0.0.0.0:8080").warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].starts_with("flag --listen: http.listen: 0.0.0.0:8080 can be reached"),
        "{warnings:?}"
    );
}

#[test]
fn a_settings_file_that_others_can_write_is_refused_in_every_place() {
    use std::os::unix::fs::PermissionsExt as _;
    let site = Site::new().file("");
    let fragment = site.write("conf.d/1.toml", "");
    std::fs::set_permissions(&fragment, std::fs::Permissions::from_mode(0o664)).expect("owner may");
    assert_eq!(
        site.faults(),
        ["DIR/conf.d/1.toml: is writable by others (mode 0664); run: chmod go-w DIR/conf.d/1.toml"]
    );
}

mod folders {
    use super::*;

    fn site(handoff: &str, out: &str, state: Option<&str>) -> Site {
        let site = Site::new();
        let path = |name: &str| site.dir.path().join(name).display().to_string();
        let (handoff, out, state) = (path(handoff), path(out), state.map(path));
        let site = site.flag("--handoff", "watch.handoff", &handoff).flag("--out", "sink.folder.out", &out);
        match state {
            Some(state) => site.flag("--state", "ledger.dir", &state),
            None => site,
        }
    }

    #[test]
    fn folders_beside_each_other_are_good() {
        site("h", "o", Some("s")).load();
        site("h", "o", Some("h/state")).load();
        site("o/h", "o", None).load();
    }

    #[test]
    fn a_state_that_holds_the_handoff_is_refused() {
        assert_eq!(
            site("a/b/h", "o", Some("a")).faults(),
            [
                "flag --state: ledger.dir DIR/a is a parent of watch.handoff DIR/a/b/h; choose a directory beside it"
            ]
        );
    }

    #[test]
    fn packages_in_the_handoff_are_refused() {
        assert_eq!(
            site("h", "h/o", None).faults(),
            [
                "flag --out: sink.folder.out DIR/h/o lies inside watch.handoff DIR/h; choose a directory beside it"
            ]
        );
    }

    #[test]
    fn one_directory_for_two_things_is_refused() {
        assert_eq!(
            site("h", "h", None).faults(),
            [
                "flag --out: sink.folder.out and watch.handoff are the same directory, DIR/h; give each its own"
            ]
        );
        assert_eq!(
            site("h", "o", Some("o")).faults(),
            ["flag --state: ledger.dir and sink.folder.out are the same directory, DIR/o; give each its own"]
        );
        let site = site("h", "o", None);
        let failed = site.dir.path().join("h/processed").display().to_string();
        assert_eq!(
            site.flag("--error-dir", "settle.failed_dir", &failed).faults(),
            [
                "flag --error-dir: settle.failed_dir and the folder for finished files are the same directory, \
              DIR/h/processed; give each its own"
            ]
        );
    }

    #[test]
    fn links_and_dots_do_not_hide_a_directory() {
        let linked = site("h", "link", None);
        std::fs::create_dir(linked.dir.path().join("h")).expect("made");
        std::os::unix::fs::symlink("h", linked.dir.path().join("link")).expect("linked");
        assert_eq!(linked.faults().len(), 1);
        assert_eq!(site("h", "x/../h/./", None).faults().len(), 1);
    }

    #[test]
    fn a_link_to_a_directory_that_is_still_to_be_made_hides_nothing() {
        let linked = site("h", "link/sub/..", None);
        std::os::unix::fs::symlink("deep/../h", linked.dir.path().join("link")).expect("linked");
        assert_eq!(linked.faults().len(), 1);
        let circle = site("h", "one", None);
        std::os::unix::fs::symlink("two", circle.dir.path().join("one")).expect("linked");
        std::os::unix::fs::symlink("one", circle.dir.path().join("two")).expect("linked");
        circle.load();
    }

    #[test]
    fn the_state_that_systemd_names_counts_too() {
        let site = site("h", "o", None);
        let state = site.dir.path().join("o");
        assert_eq!(
            site.env("STATE_DIRECTORY", state).faults(),
            ["flag --out: ledger.dir and sink.folder.out are the same directory, DIR/o; give each its own"
                .replace("flag --out", "environment STATE_DIRECTORY")]
        );
    }
}
