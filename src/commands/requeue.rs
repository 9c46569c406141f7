//! `requeue`: shows which ended intents would be tried again, and asks the daemon to.
//!
//! Named by its id, also a pending one that the exec sink holds: it is sent once more.
//! Without `--yes` nothing is written. With it each intent gets a request in `<state>/requeue`, flushed
//! before the command goes on; a running daemon takes it within a second, one that is down at its next start.
//! The command waits a little for the answers of a running one.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Failure, Verdict, io_fault, reader, settings};
use crate::cli::Requeue;
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Layers, state_dir};
use crate::disk;
use crate::fate::Id;
use crate::ledger::{Filter, LedgerFault, Reader, Row};
use crate::observe::escape_name;
use crate::pipeline::{Requests, Wish};

/// How long a running daemon may take to answer; it looks once a second.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(50);

/// What became of a request.
enum Answer {
    /// Nothing was asked.
    None,
    /// It waits for the daemon.
    Asked,
    /// It was taken; the new intent.
    Taken(Option<Id>),
    /// It cannot be honoured.
    Failed(String),
}

/// What was chosen, and what was left out of it.
#[derive(Default)]
struct Choice {
    rows: Vec<Row>,
    /// Tried again already; the newest try stands for it.
    tried: usize,
    /// Never read, so there is nothing to try.
    unread: usize,
}

/// Shows, and with `--yes` asks.
pub fn run(asked: &Requeue, layers: &Layers, out: &mut dyn Write) -> Verdict {
    let config = settings(layers)?.config;
    let state = state_dir(&config, &layers.environment);
    let reader = reader(&state)?;
    let choice = match asked.ids.is_empty() {
        true => chosen(asked, &reader).map_err(|fault| Failure::unreadable(&state, fault))?,
        false => named(&asked.ids, &reader, &state)?,
    };
    drop(reader);
    let answers = match asked.yes {
        true => ask(&choice.rows, &state)?,
        false => choice.rows.iter().map(|_| Answer::None).collect(),
    };
    let running = disk::holder(&state).is_some();
    let told = match asked.json {
        true => write_document(&choice, &answers, asked.yes, out),
        false => write_table(&choice, &answers, asked.yes, running, out),
    };
    if let Err(err) = told {
        return io_fault(err);
    }
    let failed = answers.iter().filter(|answer| matches!(answer, Answer::Failed(_))).count();
    match failed {
        0 => Ok(0),
        _ => Err(format!("{failed} of {} intents cannot be tried again", answers.len()).into()),
    }
}

/// The rows with these ids, all of them or none.
fn named(ids: &[Id], reader: &Reader, state: &Path) -> Result<Choice, Failure> {
    let mut choice = Choice::default();
    for &id in ids {
        let found = reader.row(id, None).map_err(|fault| Failure::unreadable(state, fault))?;
        let row = found.ok_or_else(|| {
            format!("no intent {id} in the ledger of {}; history lists those that are there", state.display())
        })?;
        let attempts = reader.attempts(row.seq).map_err(|fault| Failure::unreadable(state, fault))?;
        if row.end.is_none() && !attempts.is_some_and(|noted| noted.doubtful) {
            return Err(format!("intent {id} is pending; wait for its end").into());
        }
        if row.sha.is_none() {
            return Err(format!(
                "intent {id} was refused unread, nothing is kept of it; drop its file again"
            )
            .into());
        }
        if !choice.rows.iter().any(|other| other.seq == row.seq) {
            choice.rows.push(row);
        }
    }
    Ok(choice)
}

/// The ended rows that pass the filters and were not tried again yet.
fn chosen(asked: &Requeue, reader: &Reader) -> Result<Choice, LedgerFault> {
    let now = SystemClock.wall();
    let filter = Filter {
        since: asked.since.map(|since| since.wall(now)),
        until: asked.until.map(|until| until.wall(now)),
        failed: asked.failed,
        reason: asked.reason,
        target: asked.target.clone(),
        ..Filter::default()
    };
    let mut found = Vec::new();
    reader.history(&filter, &mut |row| {
        found.extend(row.end.is_some().then_some(row));
        ControlFlow::Continue(())
    })?;
    let mut choice = Choice::default();
    for row in found {
        if row.sha.is_none() {
            choice.unread += 1;
        } else if reader.requeued_as(row.id)?.is_some() {
            choice.tried += 1;
        } else {
            choice.rows.push(row);
        }
    }
    Ok(choice)
}

/// Asks for all of them, then waits for the answers of a daemon that runs.
fn ask(rows: &[Row], state: &Path) -> Result<Vec<Answer>, Failure> {
    let requests = Requests::of(state);
    let wish = |row: &Row| Wish { id: row.id, seq: row.seq, pending: row.end.is_none() };
    let wishes: Vec<Wish> = rows.iter().map(wish).collect();
    requests.ask(&wishes, SystemClock.wall()).map_err(|err| {
        let folder = state.join("requeue");
        format!("folder of requests {}: {err}; run this as root or as the daemon's user", folder.display())
    })?;
    let deadline = Instant::now() + PATIENCE;
    let waits = || rows.iter().any(|row| requests.waits(row.id));
    while waits() && disk::holder(state).is_some() && Instant::now() < deadline {
        std::thread::sleep(LOOK);
    }
    let reader = reader(state)?;
    let answer = |row: &Row| {
        if requests.waits(row.id) {
            return Ok(Answer::Asked);
        }
        Ok(match requests.answer(row.id) {
            Some(why) => Answer::Failed(why),
            None => Answer::Taken(reader.requeued_as(row.id)?),
        })
    };
    let answers: Result<_, LedgerFault> = rows.iter().map(answer).collect();
    answers.map_err(|fault| Failure::unreadable(state, fault))
}

fn write_document(choice: &Choice, answers: &[Answer], yes: bool, out: &mut dyn Write) -> io::Result<()> {
    let intents: Vec<Value> =
        choice.rows.iter().zip(answers).map(|(row, answer)| document(row, answer)).collect();
    let document = json!({
        "confirmed": yes, "intents": intents, "left_out": { "tried_again": choice.tried, "unread": choice.unread },
    });
    serde_json::to_writer_pretty(&mut *out, &document)?;
    writeln!(out)
}

fn document(row: &Row, answer: &Answer) -> Value {
    let mut document = json!({
        "id": row.id.to_string(),
        "intent_file": String::from_utf8_lossy(&row.name),
        "accepted_at": row.accepted_at.millis(),
    });
    if let Some(target) = &row.target {
        document["target"] =
            json!({ "namespace": target.namespace, "kind": target.kind.as_str(), "name": target.name });
    }
    document["fate"] = row.end.as_ref().map_or("pending", |end| end.fate.as_str()).into();
    if let Some(end) = &row.end {
        document["finished_at"] = end.finished_at.millis().into();
        if let Some(reason) = end.reason {
            document["reason"] = reason.as_str().into();
        }
    }
    match answer {
        Answer::None => {}
        Answer::Asked => document["answer"] = "asked".into(),
        Answer::Taken(id) => {
            document["answer"] = "taken".into();
            if let Some(id) = id {
                document["requeued_as"] = id.to_string().into();
            }
        }
        Answer::Failed(why) => {
            document["answer"] = "failed".into();
            document["message"] = why.as_str().into();
        }
    }
    document
}

fn write_table(
    choice: &Choice,
    answers: &[Answer],
    yes: bool,
    running: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut lines = vec![["ID", "NAME", "TARGET", "FATE", "REASON", "ENDED"].map(str::to_owned)];
    lines.extend(choice.rows.iter().map(cells));
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let heading = if yes { "ANSWER" } else { "" };
    let answers = std::iter::once(heading.to_owned()).chain(answers.iter().map(words));
    if !choice.rows.is_empty() {
        for (line, answer) in lines.iter().zip(answers) {
            let columns = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  "));
            let text = format!("{}{:<20}  {answer}", columns.collect::<String>(), line[5]);
            writeln!(out, "{}", text.trim_end())?;
        }
    }
    if choice.tried > 0 {
        writeln!(out, "{} left out: tried again before; name their ids to do it once more", choice.tried)?;
    }
    if choice.unread > 0 {
        writeln!(out, "{} left out: refused unread; drop their files again", choice.unread)?;
    }
    match (choice.rows.len(), yes) {
        (0, _) => writeln!(out, "nothing to try again"),
        (count, false) => writeln!(out, "{count} would be tried again; add --yes to do it"),
        (_, true) if !running => {
            writeln!(out, "the daemon is not running; it takes the requests at its next start")
        }
        (_, true) => Ok(()),
    }
}

fn cells(row: &Row) -> [String; 6] {
    let end = row.end.as_ref();
    [
        row.id.to_string(),
        escape_name(&row.name),
        row.target
            .as_ref()
            .map_or_else(String::new, |t| format!("{}/{}/{}", t.namespace, t.kind.as_str(), t.name)),
        end.map_or("pending", |end| end.fate.as_str()).to_owned(),
        end.and_then(|end| end.reason).map_or_else(String::new, |reason| reason.as_str().to_owned()),
        end.map_or_else(String::new, |end| end.finished_at.seconds()),
    ]
}

fn words(answer: &Answer) -> String {
    match answer {
        Answer::None => String::new(),
        Answer::Asked => "asked".to_owned(),
        Answer::Taken(None) => "goes on".to_owned(),
        Answer::Taken(Some(id)) => format!("taken as {id}"),
        Answer::Failed(why) => format!("failed: {why}"),
    }
}
