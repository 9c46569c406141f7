//! `demo`: the real pipeline on real files in a folder of its own, each decision printed as it falls.
//!
//! Six drops: a good intent; the same file again; a later one for the same target; one with a wrong
//! type; one written in two halves; one renamed into place. The files are dropped as a producer would drop
//! them, and the packages are what the folder sink makes of them. With `--sink porch` they are what the Porch
//! sink makes of them on a server that is a fake and says so ([`porch`]); all else is the same.

mod porch;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver};

use super::daemon::{Daemon, Plan};
use super::once::Summary;
use super::{Verdict, io_fault, settings, start_log};
use crate::cli::{Demo, DemoSink};
use crate::config::{Environment, Layers, Loaded, Role};
use crate::fate::Fate;
use crate::ledger::Row;
use crate::observe::escape_name;
use porch::Server;

/// Marks a folder as a former demonstration's, which may be emptied.
const MARKER: &str = ".conductor-loop-demo";
/// How long one drop may take to be settled.
const LIMIT: Duration = Duration::from_secs(20);
/// An idle wait ends this often.
const LONG: Duration = Duration::from_secs(60 * 60);
/// Between the halves of the file that is written in two.
const PAUSE: Duration = Duration::from_millis(300);

const SCALE: &str = include_str!("../../config/intents/intent-scale-odu.json");
const LATER: &str = include_str!("../../config/intents/intent-scale-odu-later.json");
const WRONG: &str = include_str!("../../config/intents/intent-wrong-type.json");
const SLOW: &str = include_str!("../../config/intents/intent-network-amf.json");
const MOVED: &str = include_str!("../../config/intents/intent-contract-nf-sim.json");

/// Where the demonstration happens.
struct Place<'a> {
    dir: &'a Path,
    server: Option<&'a Server>,
}

/// Runs the demonstration.
pub fn run(asked: &Demo, out: &mut dyn Write, leave: fn()) -> Verdict {
    let started = Instant::now();
    let dir = std::path::absolute(&asked.dir).map_err(|err| format!("{}: {err}", asked.dir.display()))?;
    prepare(&dir)?;
    let server = (asked.sink == DemoSink::Porch).then(|| Server::start(&dir)).transpose()?;
    let loaded = demo_settings(asked, server.as_ref())?;
    let log = start_log(&loaded, &[], &Environment::new())?;
    let (told, ends) = channel::unbounded();
    let role = if asked.exit { Role::Brief } else { Role::Demo };
    let plan = Plan {
        loaded: &loaded,
        schema: None,
        reload: None,
        state: dir.join("handoff/.conductor"),
        role,
        once: false,
        told: Box::new(move |row| drop(told.send(row.clone()))),
        log: &log,
        managed: false,
        leave,
        manager: None,
    };
    let daemon = Daemon::start(plan)?;
    let talks = !asked.json;
    let place = Place { dir: &dir, server: server.as_ref() };
    let shown = tour(&daemon, &place, &ends, &mut |line| if talks { say(out, line) } else { Ok(()) });
    let summary = Summary::of(&daemon, started.elapsed());
    let finished = shown.and_then(|()| farewell(asked, &daemon, &place, &summary, out));
    if finished.is_ok() && !asked.exit {
        while !daemon.wait(LONG) {}
    }
    daemon.end()?;
    match finished {
        Ok(()) => Ok(0),
        Err(err) if err.kind() == io::ErrorKind::TimedOut => Err(err.to_string().into()),
        Err(err) => io_fault(err),
    }
}

/// The defaults, in the demonstration's folder; a site's own settings stay out of it.
fn demo_settings(asked: &Demo, server: Option<&Server>) -> Result<Loaded, String> {
    let mut layers = Layers::new(Environment::new());
    layers.system = PathBuf::new();
    layers.given = asked.given();
    layers.given.extend(server.into_iter().flat_map(Server::given));
    let mut loaded = settings(&layers)?;
    // Decisions are printed; the log would say them a second time.
    loaded.config.log.level = "error".into();
    Ok(loaded)
}

fn prepare(dir: &Path) -> Result<(), String> {
    let fault = |err: io::Error| format!("demo folder {}: {err}", dir.display());
    if dir.exists() {
        if !dir.join(MARKER).is_file() {
            return Err(format!(
                "demo folder {}: exists and is not a former demonstration's ({MARKER} is missing); name another with --dir",
                dir.display()
            ));
        }
        fs::remove_dir_all(dir).map_err(fault)?;
    }
    fs::create_dir_all(dir.join("handoff")).map_err(fault)?;
    fs::write(dir.join(MARKER), "made by conductor-loop demo, which may empty this folder\n").map_err(fault)
}

fn say(out: &mut dyn Write, line: &str) -> io::Result<()> {
    writeln!(out, "{line}")?;
    out.flush()
}

type Say<'a> = dyn FnMut(&str) -> io::Result<()> + 'a;

fn tour(daemon: &Daemon, place: &Place<'_>, ends: &Receiver<Row>, say: &mut Say<'_>) -> io::Result<()> {
    let handoff = place.dir.join("handoff");
    say(&format!("conductor-loop {} demo in {}", env!("CARGO_PKG_VERSION"), place.dir.display()))?;
    if let Some(server) = place.server {
        say(&server.introduction())?;
    }
    if let Some(address) = &daemon.address {
        say(&format!("metrics on http://{address}/metrics"))?;
    }
    say("")?;
    let write = |name: &str, text: &str| fs::write(handoff.join(name), text);
    let renamed = |name: &str, text: &str| {
        fs::write(handoff.join(format!("{name}.tmp")), text)?;
        fs::rename(handoff.join(format!("{name}.tmp")), handoff.join(name))
    };
    let halves = |name: &str, text: &str| {
        let mut file = File::create(handoff.join(name))?;
        let (first, second) = text.split_at(text.len() / 2);
        file.write_all(first.as_bytes())?;
        file.flush()?;
        std::thread::sleep(PAUSE);
        file.write_all(second.as_bytes())
    };
    type Drop<'a> = &'a dyn Fn(&str, &str) -> io::Result<()>;
    let drops: [(&str, &str, &str, Drop<'_>); 6] = [
        ("a good intent", "intent-scale-odu.json", SCALE, &write),
        ("the same file again", "intent-scale-odu.json", SCALE, &write),
        ("a later intent for the same target", "intent-scale-odu-later.json", LATER, &write),
        ("a wrong type", "intent-wrong-type.json", WRONG, &write),
        ("written in two halves, 300 ms apart", "intent-network-amf.json", SLOW, &halves),
        ("renamed into place", "intent-contract-nf-sim.json", MOVED, &renamed),
    ];
    for (what, name, text, drop_it) in drops {
        say(&format!("drop  {name}: {what}"))?;
        let dropped = Instant::now();
        drop_it(name, text)?;
        let row = ends.recv_timeout(LIMIT).map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, format!("{name} was not settled within {LIMIT:?}"))
        })?;
        say(&decision(&row, dropped.elapsed()))?;
    }
    Ok(())
}

fn decision(row: &Row, took: Duration) -> String {
    let Some(end) = &row.end else { return String::new() };
    let place = if end.fate.is_success() { "processed" } else { "failed" };
    let proof = row.proof.map_or("unread", |proof| proof.as_str());
    let mut line = format!(
        "  {:<10} {} in {:.1} ms, complete by {proof}, filed in {place}/\n             {}",
        end.fate.as_str(),
        escape_name(&row.name),
        took.as_secs_f64() * 1e3,
        end.message
    );
    if let (Fate::Duplicate, Some(first)) = (end.fate, end.related) {
        line.push_str(&format!(" (first: {first})"));
    }
    line
}

fn farewell(
    asked: &Demo,
    daemon: &Daemon,
    place: &Place<'_>,
    summary: &Summary,
    out: &mut dyn Write,
) -> io::Result<()> {
    if asked.exit && asked.json {
        return summary.write(true, out);
    }
    say(out, "")?;
    summary.write(false, out)?;
    let dir = place.dir;
    match place.server {
        Some(server) => server.revisions().iter().try_for_each(|line| say(out, line))?,
        None => say(out, &format!("packages  {}", dir.join("out").display()))?,
    }
    say(out, &format!("status    {}", dir.join("handoff/status").display()))?;
    say(out, &format!("refused   {}", dir.join("handoff/failed").display()))?;
    if !asked.exit {
        let address = daemon.address.as_deref().unwrap_or("nowhere");
        say(
            out,
            &format!("still watching {}; pages on {address}; Ctrl-C ends", dir.join("handoff").display()),
        )?;
    }
    Ok(())
}
