//! What the compiler does not see: the map of the modules stays true, files stay small, nobody prints.

mod source;

use std::fs;
use std::path::Path;

use source::{Source, sources};

/// Most lines of a file without its tests.
const FILE: usize = 400;

/// Most lines of a function.
const FUNCTION: usize = 60;

/// What every module with effects may use beside its own list.
const COMMON: [&str; 6] = ["clock", "config", "disk", "error", "fate", "observe"];

/// Modules without effects, and all that they may name: values, never acts.
const PURE: [(&str, &[&str]); 8] = [
    ("error", &[]),
    ("clock", &[]),
    ("fate", &[]),
    ("debounce", &["clock", "disk", "error", "fate"]),
    ("queue", &["clock", "debounce", "disk", "error", "fate"]),
    ("intent", &["clock", "error", "fate"]),
    ("lanes", &["clock", "error", "fate"]),
    ("package", &["clock", "error", "fate", "intent"]),
];

/// Modules that the pure ones support; these import none of the stages.
const BESIDE: [(&str, &[&str]); 6] = [
    ("disk", &["error", "fate"]),
    ("config", &["error", "fate", "clock"]),
    ("observe", &["clock", "config", "error", "fate"]),
    ("service", &["clock", "error"]),
    ("fake_porch", &["clock"]),
    ("cli", &["clock", "config", "error", "fate", "intent"]),
];

/// The stages with effects: what each may name beside [`COMMON`]. A stage names what comes before it on
/// the way of a file, never what comes after; `watch` drives the pure debouncer and fills the queue.
const STAGES: [(&str, &[&str]); 6] = [
    ("watch", &["debounce", "queue"]),
    ("read", &["debounce"]),
    ("ledger", &["intent"]),
    ("worker", &["debounce", "queue", "read", "intent", "ledger"]),
    ("submit", &["intent", "ledger", "lanes", "package", "worker"]),
    ("settle", &["intent", "ledger", "submit", "worker"]),
];

/// May name every stage; nobody names them but `main` and each other in this order.
const OUTSIDE: [&str; 2] = ["pipeline", "commands"];

fn allowed(module: &str) -> Option<Vec<&'static str>> {
    let listed = |table: &[(&str, &'static [&'static str])]| {
        table.iter().find(|(name, _)| *name == module).map(|(_, list)| list.to_vec())
    };
    let stage = || listed(&STAGES).map(|list| [&COMMON[..], &list].concat());
    listed(&PURE).or_else(|| listed(&BESIDE)).or_else(stage)
}

/// Fails with every fault at once, one a line.
#[track_caller]
fn none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

fn each(check: impl Fn(&Source, &mut Vec<String>)) -> Vec<String> {
    let mut faults = Vec::new();
    sources("src").iter().for_each(|source| check(source, &mut faults));
    faults
}

#[test]
fn every_module_says_what_it_is_for() {
    let faults = each(|source, faults| {
        if !source.text.starts_with("//!") && !source.is_test() {
            faults.push(format!("{} does not open with module docs", source.path));
        }
    });
    none(&faults);
}

#[test]
fn imports_point_upstream() {
    let faults = each(|source, faults| {
        let module = source.module();
        if OUTSIDE.contains(&module) || ["main", "lib"].contains(&module) || source.is_test() {
            return;
        }
        let Some(allowed) = allowed(module) else {
            faults.push(format!("{}: module {module} is not on the map in tests/it/tidy.rs", source.path));
            return;
        };
        for name in source.imports() {
            if name != module && !allowed.contains(&name.as_str()) {
                faults.push(format!("{}: {module} must not name {name}", source.path));
            }
        }
    });
    none(&faults);
}

#[test]
fn no_stage_knows_a_command_and_the_pipeline_does_not_either() {
    let faults = each(|source, faults| {
        let names = source.imports();
        let knows = |name: &str| names.iter().any(|other| other == name);
        let module = source.module();
        if module != "commands" && module != "main" && (knows("commands") || module != "cli" && knows("cli"))
        {
            faults.push(format!("{}: only commands and main know the command line", source.path));
        }
        if !OUTSIDE.contains(&module) && knows("pipeline") {
            faults.push(format!("{}: only commands know the pipeline", source.path));
        }
    });
    none(&faults);
}

#[test]
fn pure_modules_have_no_effects() {
    const EFFECTS: [&str; 9] = [
        "std::fs",
        "std::net",
        "std::env",
        "std::thread",
        "SystemTime",
        "tracing::",
        "metrics::",
        "rustix::",
        "tokio::",
    ];
    const STRICT: [&str; 5] = ["debounce", "intent", "lanes", "error", "fate"];
    let faults = each(|source, faults| {
        if !STRICT.contains(&source.module()) || source.is_test() {
            return;
        }
        let code = source.program();
        for effect in EFFECTS.iter().chain(&["Instant::now"]).filter(|effect| code.contains(**effect)) {
            faults.push(format!("{}: {effect} in a module without effects", source.path));
        }
    });
    none(&faults);
}

#[test]
fn files_and_functions_are_small() {
    let faults = each(|source, faults| {
        if source.is_test() {
            return;
        }
        let lines = source.program().lines().count();
        if lines > FILE {
            faults.push(format!("{}: {lines} lines without tests, at most {FILE}", source.path));
        }
        for (name, lines) in source.functions().filter(|(_, lines)| *lines > FUNCTION) {
            faults.push(format!("{}: fn {name} has {lines} lines, at most {FUNCTION}", source.path));
        }
    });
    none(&faults);
}

#[test]
fn tests_are_small_too() {
    let mut faults = Vec::new();
    for source in sources("tests") {
        let lines = source.text.lines().count();
        if lines > FILE + 50 {
            faults.push(format!("{}: {lines} lines", source.path));
        }
    }
    none(&faults);
}

#[test]
fn nobody_prints_leaves_stubs_or_unsafe_code() {
    const NOWHERE: [&str; 4] = ["dbg!(", "todo!(", "unimplemented!(", "mod utils"];
    const PRINTS: [&str; 4] = ["println!(", "eprintln!(", "print!(", "eprint!("];
    let faults = each(|source, faults| {
        let code = source.program();
        let prints = PRINTS.iter().filter(|_| source.module() != "main");
        for word in NOWHERE.iter().chain(prints).filter(|word| source::has_word(&code, word)) {
            faults.push(format!("{}: {word}", source.path));
        }
        if source.module() != "read" && source.words_of_code().any(|word| word == "unsafe") {
            faults.push(format!("{}: unsafe outside src/read", source.path));
        }
        for word in ["TODO", "FIXME", "XXX", "HACK"].iter().filter(|word| source.text.contains(**word)) {
            faults.push(format!("{}: {word}", source.path));
        }
    });
    none(&faults);
}

#[test]
fn the_crate_root_declares_every_module_and_holds_nothing_else() {
    let root = fs::read_to_string("src/lib.rs").unwrap();
    let mut declared: Vec<&str> =
        root.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    declared.sort_unstable();
    let mut present: Vec<String> = sources("src").iter().map(|source| source.module().to_owned()).collect();
    present.retain(|module| module != "lib" && module != "main");
    present.sort_unstable();
    present.dedup();
    assert_eq!(declared, present);
    assert!(!root.contains("fn "), "lib.rs is the picture and the list of modules");
}

#[test]
fn the_readme_names_every_module() {
    let readme = fs::read_to_string("README.md").unwrap();
    let faults = each(|source, faults| {
        let module = source.module();
        if Path::new(&source.path).parent() == Some(Path::new("src"))
            && !["lib", "main"].contains(&module)
            && !readme.contains(&format!("`{module}`"))
        {
            faults.push(format!("README.md: `{module}` is not on the map"));
        }
    });
    none(&faults);
}

#[test]
fn the_top_level_is_what_it_should_be() {
    for name in [
        ".ci/run",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "benches",
        "clippy.toml",
        "config",
        "deny.toml",
        "justfile",
        "rustfmt.toml",
        "src",
        "systemd",
        "tests",
    ] {
        assert!(Path::new(name).exists(), "{name} is missing");
    }
}
