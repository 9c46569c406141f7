//! `history`: what became of intents, from the ledger, beside a running daemon or without one.

pub mod show;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;

use super::{Failure, Verdict, io_fault, reader, settings};
use crate::cli::{History, Standing};
use crate::clock::{Clock as _, SystemClock, Wall};
use crate::config::{Layers, state_dir};
use crate::ledger::{Filter, Row};
use crate::observe::escape_name;
use crate::settle::{Facts, render_line};

/// Prints the rows that pass the filters, oldest first.
pub fn run(asked: &History, layers: &Layers, out: &mut dyn Write) -> Verdict {
    let config = settings(layers)?.config;
    let mode = config.sink.exec.mode.as_str();
    let state = state_dir(&config, &layers.environment);
    let reader = reader(&state)?;
    let mut kept = VecDeque::new();
    let mut trouble = None;
    let limit = asked.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let read = reader.history(&filter(asked), &mut |row| {
        match limit {
            Some(limit) => {
                kept.push_back(row);
                if kept.len() > limit {
                    kept.pop_front();
                }
            }
            None => {
                if let Err(err) = print(&row, mode, asked.json, out) {
                    trouble = Some(err);
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    });
    read.map_err(|fault| Failure::unreadable(&state, fault))?;
    let printed = kept.iter().try_for_each(|row| print(row, mode, asked.json, out));
    match trouble.map_or(printed, Err) {
        Ok(()) => Ok(0),
        Err(err) => io_fault(err),
    }
}

fn filter(asked: &History) -> Filter {
    let now = SystemClock.wall();
    let fate = match asked.fate {
        Some(Standing::Ended(fate)) => Some(fate),
        _ => None,
    };
    Filter {
        since: asked.since.map(|since| since.wall(now)),
        until: asked.until.map(|until| until.wall(now)),
        fate,
        pending: asked.fate == Some(Standing::Pending),
        target: asked.target.clone(),
        name: asked.name.as_ref().map(|name| name.as_bytes().into()),
        id: asked.id,
        ..Filter::default()
    }
}

fn print(row: &Row, mode: &'static str, json: bool, out: &mut dyn Write) -> io::Result<()> {
    if json {
        return out.write_all(&render_line(
            row,
            SystemClock.wall(),
            &Facts { mode, archive: None, waiting: None },
        ));
    }
    let accepted: Wall = row.accepted_at;
    let (fate, message) = match &row.end {
        None => ("pending", "waits for the sink"),
        Some(end) => (end.fate.as_str(), end.message.as_str()),
    };
    writeln!(out, "{}  {}  {fate:<10}  {}  {message}", accepted.seconds(), row.id, escape_name(&row.name))
}
