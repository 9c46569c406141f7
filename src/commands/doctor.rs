//! `doctor`: why nothing happens, and what to do about it; beside a running daemon or without one.
//!
//! Groups stand in the order in which a file travels. Each part gathers its facts and judges them; what
//! several parts need is gathered once ([`case`]). Nothing that matters is changed: leases and the out
//! directory are tried on a hidden directory that is removed at once, locks are looked at and not kept,
//! the ledger is opened for reading. What we may not look at is said to be unknown, never guessed.
//!
//! Limits: 100,000 names of the handoff folder and 1,000 blueprints are looked at.

mod books;
mod case;
mod clock;
mod cluster;
mod daemon;
mod drops;
mod folders;
mod lock;
mod machine;
mod mounts;
mod pages;
mod proofs;
mod report;
mod settings;
mod sink;
mod subject;
mod volumes;
mod watching;

use std::io::{self, Write};

use super::checked::Checked;
use super::{Verdict, io_fault};
use crate::config::Layers;

use case::Case;
use report::Report;

/// Prints every finding; 1 if one of them is in the way of intents.
pub fn run(layers: &Layers, json: bool, out: &mut dyn Write) -> Verdict {
    let report = examine(layers);
    let printed = match json {
        true => serde_json::to_writer_pretty(&mut *out, &report.json())
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out)),
        false => report.text(out),
    };
    printed.map_or_else(io_fault, |()| Ok(if report.is_ok() { 0 } else { 1 }))
}

fn examine(layers: &Layers) -> Report {
    let case = Case::gather(Checked::survey(layers).0.loaded, &layers.environment);
    // Once more, now that the daemon's user is known.
    let (checked, faults) = Checked::survey(&Layers { daemon: Some(case.subject.uid), ..layers.clone() });
    let mut report = Report::default();
    report.add("configuration", settings::examine(&checked, &faults));
    report.add("daemon", daemon::examine(&case));
    report.add("folders", folders::examine(&case));
    report.add("file systems", volumes::examine(&case));
    report.add("watch", watching::examine(&case));
    report.add("files", drops::examine(&case));
    report.add("completion", proofs::examine(&case));
    report.add("ledger", books::examine(&case));
    report.add("sink", sink::examine(&case));
    report.add("clock", clock::examine(&case));
    report.add("machine", machine::examine(&case));
    report
}
