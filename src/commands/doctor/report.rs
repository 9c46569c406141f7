//! What the doctor found: findings in groups, printed for people or as one JSON document.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::observe::escape::push_escaped;

/// How a finding is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    /// In order.
    Ok,
    /// Works, but not as well as it could, or could not be looked at.
    Warn,
    /// Files are not taken, or not delivered, until this is put right.
    Fail,
}

impl Mark {
    const fn sign(self) -> char {
        match self {
            Mark::Ok => '✓',
            Mark::Warn => '!',
            Mark::Fail => '✗',
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Mark::Ok => "ok",
            Mark::Warn => "warn",
            Mark::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// How it is to be taken.
    pub(super) mark: Mark,
    /// What was looked at; stable, for scripts.
    pub(super) name: &'static str,
    /// What is.
    pub(super) message: String,
    /// What to do about it.
    pub(super) advice: Option<String>,
}

impl Finding {
    /// In order.
    pub(super) fn ok(name: &'static str, message: impl Into<String>) -> Finding {
        Finding { mark: Mark::Ok, name, message: message.into(), advice: None }
    }

    /// Works, but `advice` would make it better, or known.
    pub(super) fn warn(name: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { mark: Mark::Warn, name, message: message.into(), advice: Some(advice.into()) }
    }

    /// In the way of intents until `advice` is followed.
    pub(super) fn fail(name: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { mark: Mark::Fail, name, message: message.into(), advice: Some(advice.into()) }
    }
}

/// All findings, in the order in which a file travels.
#[derive(Debug, Default)]
pub(super) struct Report {
    groups: Vec<(&'static str, Vec<Finding>)>,
}

impl Report {
    /// Adds a group, unless nothing was found in it.
    pub(super) fn add(&mut self, group: &'static str, findings: Vec<Finding>) {
        if !findings.is_empty() {
            self.groups.push((group, findings));
        }
    }

    fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.groups.iter().flat_map(|(_, findings)| findings)
    }

    fn count(&self, mark: Mark) -> usize {
        self.findings().filter(|finding| finding.mark == mark).count()
    }

    /// Nothing is in the way of intents.
    pub(super) fn is_ok(&self) -> bool {
        self.count(Mark::Fail) == 0
    }

    /// Lines for people: `✓ name  what is`, and below it what to do.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub(super) fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let width = self.findings().map(|finding| finding.name.len()).max().unwrap_or(0);
        for (group, findings) in &self.groups {
            writeln!(out, "{group}")?;
            for Finding { mark, name, message, advice } in findings {
                let mut lines = message.lines().map(shown);
                writeln!(out, "  {} {name:<width$}  {}", mark.sign(), lines.next().unwrap_or_default())?;
                lines.try_for_each(|line| writeln!(out, "    {:width$}  {line}", ""))?;
                let mut advice = advice.iter().flat_map(|advice| advice.lines()).map(shown);
                advice.try_for_each(|line| writeln!(out, "    {:width$}  -> {line}", ""))?;
            }
        }
        let (fine, warn, fail) = (self.count(Mark::Ok), self.count(Mark::Warn), self.count(Mark::Fail));
        writeln!(out, "{} checks: {fine} in order, {warn} to look at, {fail} wrong", fine + warn + fail)
    }

    /// `{"ok", "checks": [{"group", "name", "result", "message", "advice"?}]}`.
    pub(super) fn json(&self) -> Value {
        let of_group = |(group, findings): &(&'static str, Vec<Finding>)| {
            findings.iter().map(|finding| document(group, finding)).collect::<Vec<_>>()
        };
        let checks: Vec<Value> = self.groups.iter().flat_map(of_group).collect();
        json!({ "ok": self.is_ok(), "checks": checks })
    }
}

fn document(group: &str, finding: &Finding) -> Value {
    let Finding { mark, name, message, advice } = finding;
    let mut document = json!({ "group": group, "name": name, "result": mark.word(), "message": message });
    if let Some(advice) = advice {
        document["advice"] = json!(advice);
    }
    document
}

/// A line that holds names and words of others, safe for a terminal.
fn shown(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    push_escaped(&mut out, line);
    out
}

/// A size for people: `512 B`, `63.5 MiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

/// `1 file`, `2 files`.
pub(super) fn many(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A span for people, in its largest unit: `45 s`, `12 min`, `3 h`, `9 d`.
pub(super) fn span(seconds: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("d", 86_400), ("h", 3_600), ("min", 60)];
    // Two of a unit at least: 90 min tells more than 1 h.
    match UNITS.iter().find(|(_, unit)| seconds >= 2 * unit) {
        Some((name, unit)) => format!("{} {name}", seconds / unit),
        None => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        report
            .add("folders", vec![Finding::ok("handoff", "/srv"), Finding::fail("out", "is gone", "make it")]);
        report.add("nothing", Vec::new());
        report
    }

    #[test]
    fn a_finding_is_a_line_and_its_advice_stands_below_it() {
        let mut out = Vec::new();
        report().text(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let wanted = "folders\n  ✓ handoff  /srv\n  ✗ out      is gone\n             -> make it\n\
                      2 checks: 1 in order, 0 to look at, 1 wrong\n";
        assert_eq!(text, wanted);
    }

    #[test]
    fn the_document_tells_group_result_and_advice() {
        let document = report().json();
        assert_eq!(document["ok"], false);
        let wanted = json!([
            {"group": "folders", "name": "handoff", "result": "ok", "message": "/srv"},
            {"group": "folders", "name": "out", "result": "fail", "message": "is gone", "advice": "make it"},
        ]);
        assert_eq!(document["checks"], wanted);
    }

    #[test]
    fn a_warning_alone_is_no_failure_and_words_of_others_are_escaped() {
        let mut report = Report::default();
        report.add("watch", vec![Finding::warn("files", "a\u{1b}[2Jb", "look")]);
        assert!(report.is_ok());
        let mut out = Vec::new();
        report.text(&mut out).unwrap();
        assert!(!out.contains(&0x1b));
    }

    #[test]
    fn sizes_and_spans_are_told_in_a_unit_that_people_use() {
        assert_eq!([size(512), size(1536), size(5 << 30)], ["512 B", "1.5 KiB", "5.0 GiB"]);
        assert_eq!([span(45), span(119), span(120), span(7_200)], ["45 s", "119 s", "2 min", "2 h"]);
    }
}
