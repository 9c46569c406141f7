//! `submit`: judges files as the daemon would, drops them safely, and on request waits for their ends.
//!
//! All or nothing: with one file that is invalid none is dropped. What is dropped is flushed, file and
//! folder, before the command says so, which is a producer's part of the promise that nothing is lost.

mod drop;
mod follow;

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::checked::Checked;
use super::validate::{self, Judgement};
use super::{Failure, Verdict, io_fault};
use crate::cli::Submit;
use crate::clock::Wall;
use crate::config::{Config, Layers, state_dir};
use crate::disk;
use crate::fate::{Fate, Sha};
use crate::intent::visible;
use drop::Folder;
use follow::Follow;

/// Shortest time between two looks at the status folder.
const LOOK: Duration = Duration::from_millis(50);
/// Looks take at most this share of the time.
const SHARE: u32 = 10;
/// Characters shown of a message.
const SHOWN: usize = 4_096;

/// One dropped file.
struct Dropped {
    /// As it was named on the command line.
    file: String,
    /// Its name in the handoff folder.
    name: String,
    sha: Sha,
    /// A moment before it was there, in whole milliseconds.
    at: Wall,
    /// The newest status that tells of it.
    status: Option<Value>,
}

impl Dropped {
    fn fate(&self) -> Option<Fate> {
        Fate::from_word(self.status.as_ref()?["fate"].as_str()?)
    }

    fn document(&self) -> Value {
        let mut document = json!({
            "file": self.file, "dropped": true, "intent_file": self.name, "sha256": self.sha.to_string(),
        });
        if let Some(status) = &self.status {
            document["status"] = status.clone();
        }
        document
    }

    /// What a waiting caller reads.
    fn line(&self) -> String {
        let told = |status: &Value| {
            let word = |key: &str| visible(status[key].as_str().unwrap_or_default(), SHOWN);
            format!("{}: {}", word("fate"), word("message"))
        };
        let told = self.status.as_ref().map_or_else(|| "no status yet".to_owned(), told);
        format!("{}: {told}", visible(&self.name, SHOWN))
    }
}

/// Judges, drops and, if asked, waits.
pub fn run(asked: &Submit, layers: &Layers, stdin: &mut dyn Read, out: &mut dyn Write) -> Verdict {
    if asked.name.is_some() && asked.files.len() != 1 {
        return Err(Failure { message: "--name goes with one FILE".to_owned(), code: 2 });
    }
    let checked = Checked::load(layers)?;
    let mut judged = judge(asked, &checked, stdin);
    let config = checked.loaded.config;
    let verdict = judged.iter().map(Judgement::verdict).max().unwrap_or(validate::Verdict::AllValid);
    if verdict != validate::Verdict::AllValid {
        return tell_refused(&judged, asked.json, out).map_or_else(io_fault, |()| Ok(verdict.code()));
    }
    let folder = Folder::open(&config.watch)?;
    let mut follow = match asked.wait {
        true => Some(Follow::begin(&config).map_err(|err| cannot_follow(&err))?),
        false => None,
    };
    let files: Vec<(&Path, Vec<u8>)> = asked
        .files
        .iter()
        .zip(&mut judged)
        .map(|(file, one)| (&**file, std::mem::take(&mut one.raw)))
        .collect();
    let mut dropped = folder.drop_all(&files, asked.name.as_deref())?;
    if !asked.json {
        let told = dropped.iter().try_for_each(|one| writeln!(out, "{}: dropped", visible(&one.name, SHOWN)));
        if let Err(err) = told.and_then(|()| out.flush()) {
            return io_fault(err);
        }
    }
    let waited = match &mut follow {
        None => Ok(()),
        Some(_) if nobody_runs(&config, layers) => Err(format!(
            "dropped, but the daemon is not running: no lock is held on {}; the files are taken when it starts",
            config.watch.handoff.display()
        )),
        Some(follow) => wait(follow, &mut dropped, asked.timeout)?,
    };
    if let Err(err) = tell(&dropped, asked, out) {
        return io_fault(err);
    }
    match dropped.iter().filter_map(Dropped::fate).any(|fate| !fate.is_success()) {
        true => Ok(8),
        false => waited.map(|()| 0).map_err(Failure::from),
    }
}

fn judge(asked: &Submit, checked: &Checked, stdin: &mut dyn Read) -> Vec<Judgement> {
    let config = &checked.loaded.config;
    let mut parser = validate::parser(Arc::new(crate::pipeline::rules(config)), checked.schema.clone());
    let mut one = |file| validate::judge(&mut parser, file, config.intake.max_size, stdin);
    asked.files.iter().map(|file| one(file)).collect()
}

fn tell_refused(judged: &[Judgement], json: bool, out: &mut dyn Write) -> io::Result<()> {
    if !json {
        judged.iter().try_for_each(|one| writeln!(out, "{}", one.line()))?;
        return writeln!(out, "nothing was dropped");
    }
    let document = |one: &Judgement| {
        let mut document = one.document();
        document["dropped"] = false.into();
        document
    };
    write_array(&judged.iter().map(document).collect::<Vec<_>>(), out)
}

fn tell(dropped: &[Dropped], asked: &Submit, out: &mut dyn Write) -> io::Result<()> {
    if asked.json {
        return write_array(&dropped.iter().map(Dropped::document).collect::<Vec<_>>(), out);
    }
    let ends = dropped.iter().filter(|one| asked.wait && one.status.is_some());
    ends.map(Dropped::line).try_for_each(|line| writeln!(out, "{line}"))
}

fn write_array(documents: &[Value], out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, documents)?;
    writeln!(out)?;
    out.flush()
}

/// Waits until each has come to its end; the inner error says that not all have.
fn wait(
    follow: &mut Follow,
    dropped: &mut [Dropped],
    timeout: Duration,
) -> Result<Result<(), String>, Failure> {
    let deadline = Instant::now() + timeout;
    loop {
        let begun = Instant::now();
        follow.look(dropped).map_err(|err| cannot_follow(&err))?;
        if dropped.iter().all(|one| one.fate().is_some()) {
            return Ok(Ok(()));
        }
        let now = Instant::now();
        if now >= deadline {
            let open: Vec<String> =
                dropped.iter().filter(|one| one.fate().is_none()).map(Dropped::line).collect();
            return Ok(Err(format!(
                "{} of {} dropped files have not come to their end within {timeout:?}; {}",
                open.len(),
                dropped.len(),
                open[0]
            )));
        }
        std::thread::sleep((SHARE * (now - begun)).max(LOOK).min(deadline - now));
    }
}

fn cannot_follow(err: &io::Error) -> Failure {
    Failure::from(format!("the status folder cannot be read: {err}; what was dropped stays dropped"))
}

/// True if it is sure that no daemon works on the folder or its state; whoever may not look at the locks
/// cannot tell.
fn nobody_runs(config: &Config, layers: &Layers) -> bool {
    let places = [state_dir(config, &layers.environment), config.watch.handoff.join(".conductor")];
    places.iter().all(|place| {
        let hidden = matches!(File::open(place.join("lock")), Err(err) if err.kind() != ErrorKind::NotFound);
        !hidden && disk::holder(place).is_none()
    })
}
