//! The README says what the code does: its tables are compared with the code's own.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use conductor_loop::cli::EXITS;
use conductor_loop::config::keys;
use conductor_loop::fate::Reason;
use conductor_loop::observe::FaultKind;
use conductor_loop::observe::names::{self, Kind, Label, Metric};

use crate::support::Place;

/// Longer sets of words have a table of their own.
const LISTED: usize = 9;

fn readme() -> String {
    fs::read_to_string("README.md").unwrap()
}

/// The rows of the first table under `heading`, without its two head lines.
#[track_caller]
fn table(heading: &str) -> Vec<String> {
    let readme = readme();
    let from = readme.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading {heading}"));
    let rows = readme[from..].lines().skip_while(|line| !line.starts_with('|'));
    rows.take_while(|line| line.starts_with('|')).skip(2).map(str::to_owned).collect()
}

fn cell(row: &str, at: usize) -> &str {
    row.split('|').nth(at + 1).unwrap_or_else(|| panic!("no cell {at} in {row}")).trim()
}

/// What stands in backticks.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn label(label: &Label) -> String {
    let words = (label.words)();
    match label.name {
        "version" | "revision" | "rustc" => format!("`{}`", label.name),
        name if words.len() > LISTED => format!("`{name}`: a word of the table of {name}s"),
        name => format!("`{name}`: {}", words.join(", ")),
    }
}

fn row(metric: &Metric) -> String {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    let labels: Vec<String> = metric.labels.iter().map(label).collect();
    format!("| `{}` | {kind} | {} | {} |", metric.name, labels.join("; "), metric.help)
}

#[test]
fn the_table_of_metrics_is_the_codes() {
    let wanted: Vec<String> = names::all().map(row).collect();
    assert!(table("## Metrics") == wanted, "the table of metrics must read\n{}", wanted.join("\n"));
}

#[test]
fn every_reason_is_explained_and_no_other() {
    let rows = table("### Reasons");
    let told: Vec<&str> = rows.iter().flat_map(|row| code(cell(row, 0))).collect();
    let known: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(told.iter().copied().collect::<BTreeSet<_>>(), known);
    assert_eq!(told.len(), known.len(), "a reason stands twice");
}

#[test]
fn every_fault_is_explained_and_no_other() {
    let rows = table("### Faults");
    let told: Vec<&str> = rows.iter().flat_map(|row| code(cell(row, 0))).collect();
    let known: Vec<&str> = FaultKind::ALL.iter().map(|fault| fault.as_str()).collect();
    assert_eq!(told, known);
}

#[test]
fn the_keys_shown_have_the_defaults_shown() {
    let rows = table("## Configuration");
    assert_eq!(rows.len(), 10);
    for row in rows {
        let name = code(cell(&row, 0)).next().unwrap();
        let key = keys::find(name).unwrap_or_else(|| panic!("there is no key {name}"));
        if key.computed.is_none() {
            assert_eq!(cell(&row, 1), format!("`{}`", key.example()), "{name}");
        }
        assert_eq!(cell(&row, 2), if key.restart { "restart" } else { "reload" }, "{name}");
    }
}

#[test]
fn the_commands_shown_are_the_commands() {
    let help = Place::new().run(&["-h"]).ended(0).stdout;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let known: BTreeSet<String> = listed
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect();
    let told: BTreeSet<String> = table("## Commands")
        .iter()
        .filter_map(|row| code(cell(row, 0)).next()?.split(' ').next().map(str::to_owned))
        .collect();
    assert_eq!(told, known);
}

#[test]
fn the_exit_codes_shown_are_those_of_the_help() {
    let known: Vec<String> = EXITS.iter().map(|(code, when)| format!("| {code} | {when} |")).collect();
    let readme = readme().replace('`', "");
    let told = readme.lines().skip_while(|line| *line != "| exit | when |").skip(2);
    assert_eq!(told.take_while(|line| line.starts_with('|')).collect::<Vec<_>>(), known);
}

#[test]
fn every_file_that_is_named_is_there() {
    let readme = readme();
    let roots = ["src/", "systemd/", "tests/", "config/", "benches/", ".ci/"];
    let named = code(&readme).filter(|text| roots.iter().any(|root| text.starts_with(root)));
    let missing: Vec<&str> = named.filter(|path| !Path::new(path.trim_end_matches('/')).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
