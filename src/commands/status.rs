//! `status`: how the daemon is; asks the running one, else reads the ledger.

use std::io::{self, ErrorKind, Read as _, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::daemon::ADDRESS_FILE;
use super::{Failure, Verdict, io_fault, settings, unreadable};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Layers, Listen, Role, listening, state_dir};
use crate::disk;
use crate::ledger::{LedgerFault, Reader};
use crate::pipeline::fates;

/// How long the running daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Prints how the daemon is.
pub fn run(layers: &Layers, json: bool, out: &mut dyn Write) -> Verdict {
    let loaded = settings(layers)?;
    let state = state_dir(&loaded.config, &layers.environment);
    let facts = match ask(&loaded.config.http.listen, &state) {
        Some(facts) => facts,
        None => from_ledger(&state, loaded.config.sink.kind.as_str())?,
    };
    let printed = match json {
        true => serde_json::to_writer_pretty(&mut *out, &facts)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out)),
        false => table(&facts, out),
    };
    printed.map_or_else(io_fault, |()| Ok(0))
}

/// The `loop` section of the running daemon's `/stats`. Whoever may not look into its state directory asks
/// where it should answer by the settings.
fn ask(listen: &Listen, state: &Path) -> Option<Value> {
    let address = match disk::last_holder(state) {
        Err(err) if err.kind() == ErrorKind::PermissionDenied => configured(listen)?,
        _ => {
            disk::holder(state)?;
            std::fs::read_to_string(state.join(ADDRESS_FILE)).ok()?
        }
    };
    let answer = get(address.trim(), "/stats").ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let mut document: Value = serde_json::from_str(body).ok()?;
    document.get_mut("loop").map(Value::take)
}

/// Where a daemon with this setting answers, if it does not pick a port.
pub(super) fn configured(listen: &Listen) -> Option<String> {
    match listening(listen, Role::Run).at {
        at @ (Listen::Tcp(_) | Listen::Unix(_)) => Some(at.to_string()),
        _ => None,
    }
}

/// Head and body of one of the daemon's pages, at most 1 MiB.
pub(super) fn get(address: &str, path: &str) -> io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    if let Some(path) = address.strip_prefix("unix:") {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        stream.take(1 << 20).read_to_string(&mut answer)?;
    } else {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        stream.take(1 << 20).read_to_string(&mut answer)?;
    }
    Ok(answer)
}

/// What the ledger alone can tell: of a daemon that is down, or that has no pages.
fn from_ledger(state: &Path, sink: &str) -> Result<Value, Failure> {
    let holder = disk::holder(state);
    let pid = holder.as_deref().and_then(|text| text.split_whitespace().next()?.parse::<u32>().ok());
    let mut facts = json!({ "running": holder.is_some() });
    if let Some(pid) = pid {
        facts["pid"] = json!(pid);
    }
    facts["version"] = json!(env!("CARGO_PKG_VERSION"));
    let reader = match Reader::open(state) {
        Ok(reader) => reader,
        Err(LedgerFault::Missing { .. }) => {
            facts["pending"] = json!(0);
            facts["fates"] = fates(&crate::ledger::Counts::default());
            facts["unaccounted"] = json!(0);
            facts["sink"] = json!({ "kind": sink });
            return Ok(facts);
        }
        Err(fault) => return Err(unreadable(state, &fault)),
    };
    let counts = reader.counts().map_err(|fault| Failure::unreadable(state, fault))?;
    facts["pending"] = json!(counts.pending);
    let oldest = reader.oldest_pending().map_err(|fault| Failure::unreadable(state, fault))?;
    let waits = oldest.map_or(0, |row| SystemClock.wall().0.saturating_sub(row.accepted_at.0).max(0));
    facts["oldest_pending_seconds"] = json!(waits / 1_000_000_000);
    facts["fates"] = fates(&counts);
    facts["unaccounted"] = json!(counts.unaccounted());
    facts["sink"] = json!({ "kind": sink });
    Ok(facts)
}

/// Two columns, nested names joined by a dot.
fn table(facts: &Value, out: &mut dyn Write) -> io::Result<()> {
    let mut lines = Vec::new();
    flatten("", facts, &mut lines);
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    lines.iter().try_for_each(|(name, value)| writeln!(out, "{name:<width$}  {value}"))
}

fn flatten(name: &str, value: &Value, lines: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(member, value)| {
            let name = if name.is_empty() { member.clone() } else { format!("{name}.{member}") };
            flatten(&name, value, lines);
        }),
        Value::String(text) => lines.push((name.to_owned(), text.clone())),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| item.as_str().unwrap_or_default()).collect();
            lines.push((name.to_owned(), items.join(" ")));
        }
        other => lines.push((name.to_owned(), other.to_string())),
    }
}
