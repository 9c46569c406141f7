use std::collections::BTreeMap;

use super::*;
use crate::clock::Wall;
use crate::config::{Environment, Layers, Origin, load};
use crate::fate::{Fate, Id};

fn args(line: &str) -> Args {
    parse_words(line).map_err(|usage| usage.text).expect("a good line")
}

fn parse_words(line: &str) -> Result<Args, Usage> {
    parse(std::iter::once("conductor-loop").chain(line.split_whitespace()).map(OsString::from))
}

/// The text of a mistake, which must exit with 2, print its usage, and do so on stderr.
fn mistake(line: &str) -> String {
    let usage = parse_words(line).expect_err(line);
    assert_eq!((usage.code, usage.stdout), (2, false), "{line}: {}", usage.text);
    assert!(usage.text.contains("Usage: conductor-loop"), "{line}: {}", usage.text);
    usage.text
}

fn settings(line: &str) -> Settings {
    match args(line).command {
        Command::Run(settings) => settings,
        Command::Once(once) => once.settings,
        other => panic!("{line} is {other:?}"),
    }
}

/// Key and value with the flag they came from.
fn given(line: &str) -> Vec<(String, String, String)> {
    let given = settings(line).given().into_iter();
    given.map(|one| (one.key, one.value.to_string_lossy().into_owned(), one.origin.to_string())).collect()
}

#[test]
fn no_command_is_run() {
    assert_eq!(args("").command, Command::Run(Settings::default()));
    assert_eq!(args("run"), args(""));
}

/// Every flag of the table that is a setting: spelling, key, a value other than the default.
const TABLE: &[(&str, &str, &str)] = &[
    ("handoff", "watch.handoff", "./drop"),
    ("handoff-dir", "watch.handoff", "./drop"),
    ("pattern", "watch.pattern", "*.json"),
    ("debounce", "watch.debounce", "20ms"),
    ("period", "watch.period", "1m"),
    ("watch-mode", "watch.mode", "poll"),
    ("out", "sink.folder.out", "./packages"),
    ("sink", "sink.kind", "folder"),
    ("mode", "sink.exec.mode", "structured"),
    ("state", "ledger.dir", "./state"),
    ("workers", "intake.workers", "3"),
    ("listen", "http.listen", "localhost:9090"),
    ("log-format", "log.format", "json"),
    ("log-level", "log.level", "debug"),
    ("schema", "intake.schema", "./own.json"),
    ("error-dir", "settle.failed_dir", "./bad"),
];

#[test]
fn every_flag_of_the_table_sets_its_key_in_every_spelling_of_every_form() {
    for (flag, key, value) in TABLE {
        let name = if *flag == "handoff-dir" { "handoff" } else { flag };
        let expected = (key.to_string(), value.to_string(), format!("flag --{name}"));
        for form in ["", "run ", "once "] {
            for line in [
                format!("{form}--{flag} {value}"),
                format!("{form}--{flag}={value}"),
                format!("{form}-{flag} {value}"),
                format!("{form}-{flag}={value}"),
            ] {
                assert_eq!(given(&line), std::slice::from_ref(&expected), "{line}");
            }
        }
        let layers = Layers {
            given: settings(&format!("--{flag} {value}")).given(),
            cores: 2,
            system: "/nonexistent".into(),
            ..Layers::new(Environment::new())
        };
        let loaded = load(&layers).map_err(|faults| faults.to_string()).expect("a good value");
        let key = crate::config::keys::find(key).expect("in the table");
        assert_eq!(key.get(&loaded.config).to_string().trim_matches('"'), *value);
    }
}

#[test]
fn a_command_selects_the_exec_sink_unless_another_is_named() {
    let layer =
        |key: &str, value: &str, flag: &str| (key.to_owned(), value.to_owned(), format!("flag {flag}"));
    let (kind, command) =
        (layer("sink.kind", "exec", "--porch"), layer("sink.exec.command", "/opt/porch", "--porch"));
    for line in ["--porch /opt/porch", "-porch=/opt/porch", "once -porch /opt/porch"] {
        assert_eq!(given(line), [kind.clone(), command.clone()], "{line}");
    }
    let named = layer("sink.kind", "folder", "--sink");
    assert_eq!(given("--sink folder --porch /opt/porch"), [kind, command, named]);
}

#[test]
fn a_mode_that_is_none_is_left_to_the_loading() {
    assert_eq!(given("-mode=fast")[0].1, "fast");
}

#[test]
fn config_and_set_are_kept_for_the_loading_in_their_order() {
    let settings = settings("-config c.toml --set http.listen=off -set watch.pattern=a=b --set x=");
    assert_eq!(settings.folders.base.config, Some("c.toml".into()));
    let pairs = [("http.listen", "off"), ("watch.pattern", "a=b"), ("x", "")];
    assert_eq!(settings.folders.base.set, pairs.map(|(key, value)| (key.to_string(), value.to_string())));
    assert!(settings.given().iter().all(|given| given.origin == Origin::Set));
}

#[test]
fn flags_win_over_set_and_the_last_of_a_flag_wins() {
    let given = given("--debounce 1s --debounce 2s --set watch.debounce=3s");
    let origins: BTreeMap<_, _> =
        given.iter().map(|(_, value, origin)| (origin.as_str(), value.as_str())).collect();
    assert_eq!(given.last().map(|(_, _, origin)| origin.as_str()), Some("flag --debounce"));
    assert_eq!(origins, BTreeMap::from([("flag --set", "3s"), ("flag --debounce", "2s")]));
}

#[test]
fn once_is_a_flag_with_go_booleans_too() {
    for line in
        ["once", "--once", "-once", "run -once", "-once=true", "-once=1", "--once=t", "-once=T", "-once=TRUE"]
    {
        assert!(matches!(args(line).command, Command::Once(_)), "{line}");
    }
    for line in
        ["-once=false", "--once=0", "-once=f", "-once=F", "-once=FALSE", "-once=False", "-once -once=false"]
    {
        assert!(matches!(args(line).command, Command::Run(_)), "{line}");
    }
    mistake("-once=maybe");
    mistake("--once=");
    mistake("-once true");
}

#[test]
fn once_waits_thirty_seconds_unless_told_otherwise() {
    let once = |line| match args(line).command {
        Command::Once(once) => once,
        other => panic!("{other:?}"),
    };
    assert_eq!(once("once"), Once { settings: Settings::default(), patience: PATIENCE, json: false });
    let told = once("-once -patience=1m30s -json");
    assert_eq!((told.patience, told.json), (Duration::from_secs(90), true));
    assert!(mistake("once --patience soon").contains("not a duration; write for example 30s"));
    let args = args("--patience 5s --json");
    assert_eq!(
        args.warnings,
        ["--patience has no effect without --once", "--json has no effect without --once"]
    );
}

#[test]
fn the_idle_flags_of_the_original_give_one_warning() {
    assert!(args("-handoff x").warnings.is_empty());
    assert_eq!(args("--porch-mode structured").warnings, ["--porch-mode has no effect"]);
    assert_eq!(
        args("once -porch-mode=direct -batch-size -1 -batch-interval 5s").warnings,
        ["--porch-mode, --batch-size, --batch-interval have no effect"]
    );
}

#[test]
fn a_porch_mode_that_the_original_does_not_know_ends_with_1_as_there() {
    for line in ["-porch-mode=both", "once --porch-mode Direct", "-porch-mode="] {
        let usage = parse_words(line).expect_err(line);
        assert_eq!((usage.code, usage.stdout), (1, false), "{line}");
        assert!(usage.text.ends_with("is not one of direct, structured\n"), "{}", usage.text);
    }
}

#[test]
fn use_processor_is_the_sink_that_it_stands_for() {
    for line in ["-use-processor=false", "--use-processor=0", "once -use-processor=F"] {
        assert!(given(line).is_empty(), "{line}");
    }
    for line in ["-use-processor", "--use-processor=true", "once -use-processor=1"] {
        let (key, value) = ("sink.kind".to_owned(), "network-intent".to_owned());
        assert_eq!(given(line), [(key, value, "flag --use-processor".to_owned())], "{line}");
    }
}

#[test]
fn unknown_flags_bad_values_and_left_over_words_are_usage_mistakes() {
    for line in [
        "--nonsense",
        "-nonsense",
        "--tape x",
        "-tape=x",
        "-use-processor=perhaps",
        "frobnicate",
        "left over",
        "-once left",
        "run left",
        "once left over",
        "-- left",
        "--handoff",
        "--handoff=",
        "--workers many",
        "--watch-mode fanotify",
        "--sink tape",
        "--porch-url porch:8080",
        "--listen 8080",
        "--log-format xml",
        "--log-level loud",
        "--pattern a/b",
        "--set nothing",
        "--set =x",
        "--handoff x once",
        "validate",
        "history --fate lost",
        "config",
        "config check a b",
        "demo here",
        "status now",
        "completions",
        "completions tcsh",
        "man page",
    ] {
        mistake(line);
    }
}

#[test]
fn a_mistake_says_what_to_write() {
    assert!(mistake("--watch-mode fanotify").contains("\"fanotify\" is not one of auto, inotify, poll"));
    assert!(mistake("--listen 8080").contains("\"8080\" is not off, HOST:PORT or unix:PATH"));
    assert!(mistake("--debonce 1s").contains("--debounce"));
    assert!(mistake("histroy").contains("history"));
    assert_eq!(
        mistake("history --since soon"),
        "error: invalid value 'soon' for '--since <WHEN>': not a moment; write for example 2026-11-21T08:00:00Z or \
         1h\n\nUsage: conductor-loop [OPTIONS]\n       conductor-loop <COMMAND>\n\nFor more information, try '--help'.\n"
    );
}

#[test]
fn a_debounce_or_period_that_is_no_duration_is_left_to_the_loading() {
    for (line, key) in [("-debounce=soon", "watch.debounce"), ("--period -5s", "watch.period")] {
        let layers = Layers { given: settings(line).given(), ..Layers::new(Environment::new()) };
        let faults = load(&layers).expect_err(line).to_string();
        assert!(faults.starts_with("flag --") && faults.contains(key), "{faults}");
    }
}

#[test]
fn help_and_version_were_asked_for() {
    for line in [
        "-h",
        "--help",
        "-help",
        "--h",
        "run -h",
        "once --help",
        "-once -h",
        "history --help",
        "config init -h",
    ] {
        let usage = parse_words(line).expect_err(line);
        assert_eq!((usage.code, usage.stdout), (0, true), "{line}");
        assert!(usage.text.contains("Usage: conductor-loop"), "{line}");
    }
    for line in ["-V", "--version", "-version"] {
        let usage = parse_words(line).expect_err(line);
        assert_eq!((usage.code, usage.stdout), (0, true), "{line}");
        assert_eq!(usage.text, format!("conductor-loop {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn long_help_has_examples_and_the_exit_codes_and_short_help_has_not() {
    let help = |line| parse_words(line).expect_err(line).text;
    for line in ["--help", "run --help", "once --help"] {
        let text = help(line);
        assert!(
            text.contains("Examples:") && text.contains("\n  8  once, submit --wait: at least one"),
            "{text}"
        );
    }
    assert!(!help("-h").contains("Examples:"));
    for (flag, _, _) in TABLE {
        assert!(help("-h").contains(&format!("--{flag}")), "{flag}");
    }
}

#[test]
fn the_examples_of_the_help_are_good_lines() {
    for (words, _) in EXAMPLES {
        args(words);
    }
}

#[test]
fn demo_has_its_own_folders() {
    let demo = |line| match args(line).command {
        Command::Demo(demo) => demo,
        other => panic!("{other:?}"),
    };
    let sink = DemoSink::Folder;
    assert_eq!(demo("demo"), Demo { exit: false, json: false, sink, dir: "./demo".into(), listen: None });
    assert_eq!(demo("demo --sink porch").sink, DemoSink::Porch);
    let told = demo("demo --exit --json --dir d --listen off");
    assert!(told.exit && told.json);
    let given = told.given().into_iter().map(|given| (given.key, given.value));
    let expected = [("watch.handoff", "d/handoff"), ("sink.folder.out", "d/out"), ("http.listen", "off")];
    assert_eq!(given.collect::<Vec<_>>(), expected.map(|(key, value)| (key.to_string(), value.into())));
}

#[test]
fn validate_takes_files_and_standard_input() {
    let Command::Validate(validate) =
        args("validate a.json - --json --schema s.json --config c.toml").command
    else {
        panic!("validate")
    };
    assert_eq!(validate.files, [std::path::PathBuf::from("a.json"), std::path::PathBuf::from("-")]);
    assert!(validate.json);
    assert_eq!(validate.base.config, Some("c.toml".into()));
    assert_eq!(validate.given().len(), 1);
}

#[test]
fn history_has_all_its_filters() {
    let line = "history --since 1h --until 2026-11-21T08:00:00Z --fate refused --target ns/deployment/x \
                --name intent-1.json --id 9f2c31aa07d14be2 --limit 5 --json --state s --handoff h";
    let Command::History(history) = args(line).command else { panic!("history") };
    assert_eq!(history.since, Some(Moment::Ago(Duration::from_secs(3600))));
    assert_eq!(history.until, Wall::parse("2026-11-21T08:00:00Z").map(Moment::At));
    assert_eq!(history.fate, Some(Standing::Ended(Fate::Refused)));
    assert_eq!(history.target.as_ref().map(|target| target.to_string()).as_deref(), Some("ns/deployment-x"));
    assert_eq!(history.name, Some("intent-1.json".into()));
    assert_eq!(history.id, Some(Id(0x9f2c_31aa_07d1_4be2)));
    assert_eq!((history.limit, history.json), (Some(5), true));
    assert_eq!(history.folders.given().len(), 2);
    let Command::History(pending) = args("history --fate pending").command else { panic!("history") };
    assert_eq!(pending.fate, Some(Standing::Pending));
    for line in ["--since soon", "--target ns/pod/x", "--target ns/x", "--id 12", "--limit -1"] {
        mistake(&format!("history {line}"));
    }
}

#[test]
fn one_intents_story_is_asked_for_by_its_id() {
    let Command::History(history) = args("history show 9f2c31aa07d14be2 --json --state s").command else {
        panic!("history")
    };
    let Some(HistoryCommand::Show(show)) = history.command else { panic!("show") };
    assert_eq!((show.id, show.json), (Id(0x9f2c_31aa_07d1_4be2), true));
    assert_eq!(show.folders.given().len(), 1);
    for line in
        ["show", "show 12", "show 9f2c31aa07d14be2 9f2c31aa07d14be2", "--limit 1 show 9f2c31aa07d14be2"]
    {
        mistake(&format!("history {line}"));
    }
}

#[test]
fn submit_waits_only_if_it_is_told_to() {
    let submit = |line: &str| match args(line).command {
        Command::Submit(submit) => submit,
        other => panic!("{other:?}"),
    };
    let plain = submit("submit a.json - --handoff h");
    assert_eq!((plain.files.len(), plain.wait, plain.folders.given().len()), (2, false, 1));
    let waiting = submit("submit a.json --wait --timeout 2m --name intent-1.json --json");
    assert_eq!((waiting.wait, waiting.timeout, waiting.json), (true, Duration::from_secs(120), true));
    assert_eq!(submit("submit a.json --wait").timeout, Duration::from_secs(30));
    for line in ["submit", "submit a.json --timeout 1s", "submit a.json --wait --timeout soon"] {
        mistake(line);
    }
}

#[test]
fn requeue_takes_ids_or_filters() {
    let requeue = |line: &str| match args(line).command {
        Command::Requeue(requeue) => requeue,
        other => panic!("{other:?}"),
    };
    let named = requeue("requeue 9f2c31aa07d14be2 0000000000000001 --yes");
    assert_eq!((named.ids.len(), named.yes, named.json), (2, true, false));
    let chosen =
        requeue("requeue --failed --reason policy --since 1h --until 1m --target ns/deployment/x --json");
    assert_eq!((chosen.failed, chosen.reason, chosen.yes), (true, Some(crate::fate::Reason::Policy), false));
    assert!(chosen.since.is_some() && chosen.until.is_some() && chosen.target.is_some());
    for line in [
        "",
        "--yes",
        "--until 1h",
        "--target ns/deployment/x",
        "12",
        "--reason lost",
        "9f2c31aa07d14be2 --failed",
    ] {
        mistake(&format!("requeue {line}"));
    }
}

#[test]
fn a_moment_back_is_counted_from_now() {
    let now = Wall(5_000_000_000);
    assert_eq!(Moment::Ago(Duration::from_secs(2)).wall(now), Wall(3_000_000_000));
    assert_eq!(Moment::At(Wall(7)).wall(now), Wall(7));
}

#[test]
fn status_and_config_have_their_forms() {
    let Command::Status(status) = args("status --json --state s").command else { panic!("status") };
    assert!(status.json && status.folders.state == Some("s".into()));
    let config = |line: &str| match args(line).command {
        Command::Config(config) => config,
        other => panic!("{other:?}"),
    };
    assert_eq!(config("config check c.toml"), ConfigCommand::Check { file: Some("c.toml".into()) });
    assert_eq!(config("config check"), ConfigCommand::Check { file: None });
    assert_eq!(config("config schema"), ConfigCommand::Schema);
    assert_eq!(config("config init --output f"), ConfigCommand::Init { output: Some("f".into()) });
    let ConfigCommand::Print { settings, json } = config("config print --json --debounce 5s") else {
        panic!("print")
    };
    assert!(json);
    assert_eq!(settings.given().len(), 1);
}

#[test]
fn completions_name_a_shell_and_man_takes_nothing() {
    assert_eq!(args("completions fish").command, Command::Completions(Shell::Fish));
    assert_eq!(args("man").command, Command::Man);
}

#[test]
fn paths_of_any_bytes_are_taken() {
    use std::os::unix::ffi::OsStringExt as _;
    let odd = OsString::from_vec(b"/srv/\xff".to_vec());
    let words = [OsString::from("conductor-loop"), "-handoff".into(), odd.clone()];
    let args = parse(words.into_iter()).map_err(|usage| usage.text).expect("a path");
    let Command::Run(settings) = args.command else { panic!("run") };
    assert_eq!(settings.folders.handoff, Some(odd));
}

#[test]
fn the_shapes_are_sound() {
    Line::command().debug_assert();
}
