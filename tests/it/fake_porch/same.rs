//! Two bodies, with what depends on time and place taken out of them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::deviations::{CODE, TOLERATED};
use super::wire::Answer;

/// What came of the comparisons so far.
#[derive(Default)]
pub(super) struct Verdict {
    /// Exchanges that were compared.
    pub(super) compared: usize,
    /// Those among them that differ in what is tolerated.
    pub(super) deviating: usize,
    /// What is not tolerated, one a line.
    pub(super) faults: Vec<String>,
    /// Places in the list of what is tolerated.
    met: BTreeSet<usize>,
}

impl Verdict {
    /// Compares an answer with the recorded one.
    pub(super) fn compare(&mut self, step: &str, code: u16, recorded: &Value, answer: &Answer) {
        let mut differences = Vec::new();
        if answer.code != code {
            let what = format!("{} instead of {code}: {}", answer.code, answer.body);
            differences.push((CODE.to_owned(), what));
        } else if answer.code != 0 {
            walk("", recorded, &answer.json(), &mut differences);
        }
        self.compared += 1;
        let faults = self.faults.len();
        self.deviating += usize::from(!differences.is_empty());
        for (place, what) in differences {
            let mut known = TOLERATED.iter().enumerate().filter(|(_, (wanted, prefix, _))| {
                (*wanted == step || *wanted == "*") && place.starts_with(prefix)
            });
            match known.next() {
                Some((at, _)) => drop(self.met.insert(at)),
                None => self.faults.push(format!("{step}: {place}: {what}")),
            }
        }
        self.deviating -= usize::from(self.faults.len() > faults);
    }

    /// Adds what was tolerated and never met.
    pub(super) fn finish(&mut self) {
        for (at, (step, place, reason)) in TOLERATED.iter().enumerate() {
            if !self.met.contains(&at) {
                self.faults.push(format!("{step}: {place} deviates no more; delete the entry ({reason})"));
            }
        }
    }
}

fn walk(place: &str, recorded: &Value, answered: &Value, differences: &mut Vec<(String, String)>) {
    if volatile(place) {
        if recorded.is_null() != answered.is_null() || recorded.is_string() != answered.is_string() {
            differences.push((place.to_owned(), format!("{answered} instead of {recorded}")));
        }
        return;
    }
    match (recorded, answered) {
        (Value::Object(recorded), Value::Object(answered)) => {
            for (key, value) in recorded {
                let place = format!("{place}/{key}");
                match answered.get(key) {
                    Some(found) => walk(&place, value, found, differences),
                    None => differences.push((place, format!("missing, was {value}"))),
                }
            }
            for (key, value) in
                answered.iter().filter(|(key, _)| !recorded.contains_key(*key) && *key != "uid")
            {
                differences.push((format!("{place}/{key}"), format!("added: {value}")));
            }
        }
        (Value::Array(recorded), Value::Array(answered)) => {
            if recorded.len() != answered.len() {
                let what = format!("{} items instead of {}", answered.len(), recorded.len());
                differences.push((format!("{place}/#"), what));
            }
            for (at, (recorded, answered)) in recorded.iter().zip(answered).enumerate() {
                walk(&format!("{place}/{at}"), recorded, answered, differences);
            }
        }
        (Value::String(recorded), Value::String(answered)) if tidy(recorded) == tidy(answered) => {}
        (recorded, answered) if recorded == answered => {}
        _ => differences.push((place.to_owned(), format!("{answered} instead of {recorded}"))),
    }
}

/// Versions, times and the cut README: only whether they are there counts.
fn volatile(place: &str) -> bool {
    [
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "publishTimestamp",
        "commit",
        "lastTransitionTime",
    ]
    .iter()
    .chain(&["resources/README.md"])
    .any(|key| place.ends_with(&format!("/{key}")))
}

/// Ports of the place of recording, and commits inside texts.
fn tidy(text: &str) -> String {
    let mut tidy = String::with_capacity(text.len());
    for (at, part) in text.split("127.0.0.1:").enumerate() {
        let rest = part.trim_start_matches(|c: char| at > 0 && c.is_ascii_digit());
        tidy.push_str(if at > 0 { "127.0.0.1:PORT" } else { "" });
        tidy.push_str(rest);
    }
    let words = tidy.split_inclusive(|c: char| !c.is_ascii_hexdigit());
    words.map(|word| if word.trim().len() == 40 { "COMMIT" } else { word }).collect()
}
