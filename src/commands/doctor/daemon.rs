//! Group `daemon`: whether one runs here, what troubles it by its own account, and whether its address is
//! free if none does.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::case::Case;
use super::lock::{self, Holder, Standing};
use super::pages::{Pages, Trouble};
use super::report::{Finding, span};
use super::subject::Process;
use crate::config::{Listen, Listening, Role, listening};
use crate::observe::escape_name;

/// Flags, and the variables by which units say the same.
const FLAGS: [(&str, &str); 4] = [
    ("--config", "CONDUCTOR_LOOP_CONFIG"),
    ("--handoff", "CONDUCTOR_LOOP_WATCH_HANDOFF"),
    ("--out", "CONDUCTOR_LOOP_SINK_FOLDER_OUT"),
    ("--state", "STATE_DIRECTORY"),
];

/// Faults that are the producers' daily business, not the node's trouble.
const ORDINARY: [&str; 3] = ["vanished", "unstable", "bad-name"];

pub(super) fn examine(case: &Case) -> Vec<Finding> {
    let mut findings =
        vec![running(case), Finding::ok("user", format!("rights are those of {}", case.subject.who))];
    let folder = lock::standing(&case.handoff.join(".conductor"));
    findings.extend(other_state(&case.standing, &folder, &case.state));
    match &case.pages {
        Some(pages) => {
            findings.extend(answers(pages));
            findings.extend(pages.troubles().into_iter().map(trouble));
            findings.extend(counted(&pages.faults()));
            findings.extend(version(pages));
        }
        None if case.is_up() => findings.push(Finding::warn(
            "pages",
            "nobody answers: http.listen is off, its address was taken at the start, or the daemon is just \
             starting or stuck",
            "the log line `listening` names the address; set http.listen to see here what the daemon says",
        )),
        None => {
            findings.extend(others(case));
            findings.extend(address(&listening(&case.loaded.config.http.listen, Role::Run)));
        }
    }
    findings
}

fn running(case: &Case) -> Finding {
    let start = "start it: systemctl start conductor-loop, or conductor-loop run";
    match (&case.standing, &case.pages) {
        (Standing::Held(holder), pages) => Finding::ok("running", held(holder, pages.as_ref())),
        (_, Some(pages)) => Finding::ok("running", format!("a daemon answers on {}", pages.address)),
        (Standing::Free(Some(last)), None) => Finding::warn(
            "running",
            format!(
                "no daemon works on {}; the last one was pid {} on {}{}",
                case.state.display(),
                last.pid,
                last.host,
                if last.pid_here().is_none() { ", in an earlier boot" } else { "" }
            ),
            start,
        ),
        (Standing::Free(None), None) => Finding::warn(
            "running",
            format!("no daemon works on {}, and none ever did", case.state.display()),
            format!(
                "{start}; or name its folders: --handoff, --state, --config (a unit may set them by \
                 Environment=)"
            ),
        ),
        (Standing::Hidden(err), None) => Finding::warn(
            "running",
            format!("the lock in {} cannot be looked at: {err}", case.state.display()),
            case.look_as(),
        ),
    }
}

fn held(holder: &Holder, pages: Option<&Pages>) -> String {
    let since = pages.and_then(|pages| pages.state["uptime_seconds"].as_u64());
    let since = since.map(|seconds| format!(" for {}", span(seconds))).unwrap_or_default();
    let Holder { pid, host, boot } = holder;
    let elsewhere = if holder.pid_here().is_none() { ", which is another machine" } else { "" };
    format!("pid {pid} on {host}{since}, boot {boot}{elsewhere}")
}

/// One folder, two state directories.
fn other_state(state: &Standing, folder: &Standing, dir: &Path) -> Option<Finding> {
    let there = folder.holder()?;
    if state.holder().is_some_and(|here| here.pid == there.pid) || matches!(state, Standing::Hidden(_)) {
        return None;
    }
    Some(Finding::fail(
        "other state",
        format!(
            "pid {} on {} works on the handoff folder with another state directory than {}",
            there.pid,
            there.host,
            dir.display()
        ),
        "name its state directory (--state), or stop one of the two",
    ))
}

fn answers(pages: &Pages) -> Option<Finding> {
    let (is_live, is_ready) = (pages.live.0, pages.ready.0);
    let told = format!("{} answers", pages.address);
    match (is_live, is_ready) {
        (true, true) => Some(Finding::ok("pages", format!("{told}: live and ready"))),
        // What fails is told check by check.
        _ if !pages.troubles().is_empty() => None,
        (true, false) => {
            Some(Finding::fail("pages", format!("{told}: not ready"), "look into the daemon's log"))
        }
        (false, _) => Some(Finding::fail("pages", format!("{told}: not live"), "restart the daemon")),
    }
}

fn trouble(Trouble { check, reason }: Trouble) -> Finding {
    let (name, advice) = match check.as_str() {
        "startup" => ("startup", "wait for the first scan; if it does not end, look into the daemon's log"),
        "watch" => ("watch", "see the groups folders and file systems below"),
        "ledger" => ("ledger", "see the groups file systems and ledger below"),
        "disk" => ("disk", "see the group file systems below; files wait in the folder meanwhile"),
        "sink" => ("sink", "intents wait and are tried again; see the group sink below"),
        "shutdown" => ("shutdown", "it is about to end; start it again if that was not wanted"),
        _ => ("daemon", "look into the daemon's log: journalctl -u conductor-loop"),
    };
    Finding::fail(name, format!("the daemon says of {check}: {reason}"), advice)
}

fn counted(faults: &[(String, u64)]) -> Option<Finding> {
    let told: Vec<String> = faults
        .iter()
        .filter(|(fault, _)| !ORDINARY.contains(&fault.as_str()))
        .map(|(fault, count)| format!("{fault} {count}"))
        .collect();
    (!told.is_empty()).then(|| {
        Finding::warn(
            "faults",
            format!("counted since its start: {}", told.join(", ")),
            "its log has the moment and the words; the README explains each under Faults",
        )
    })
}

fn version(pages: &Pages) -> Option<Finding> {
    let (theirs, ours) = (pages.state["version"].as_str()?, env!("CARGO_PKG_VERSION"));
    (theirs != ours).then(|| {
        Finding::warn(
            "version",
            format!("the daemon is version {theirs}, this program {ours}"),
            "restart the daemon to run what is installed",
        )
    })
}

/// Daemons of this name that work elsewhere, perhaps where they should not.
fn others(case: &Case) -> Option<Finding> {
    let own = std::process::id();
    let pids =
        fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let others: Vec<String> = pids
        .filter(|pid| *pid != own)
        .filter(|pid| Process::read(Some(*pid)).is_some_and(|process| process.name == "conductor-loop"))
        .map(|pid| format!("{pid}{}", flags(pid)))
        .collect();
    (!others.is_empty()).then(|| {
        Finding::warn(
            "others",
            format!("conductor-loop runs as pid {}, but not on {}", others.join(", "), case.state.display()),
            "if one of them is meant, give the doctor its settings: --config, --handoff, --state",
        )
    })
}

/// The flags that lead to what a process works on, as far as its environment tells: that of a unit does.
fn flags(pid: u32) -> String {
    let variables = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let value = |name: &str| {
        let mut found = variables.split(|byte| *byte == 0);
        found.find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    };
    let told = FLAGS.iter().filter_map(|(flag, name)| Some(format!("{flag} {}", escape_name(value(name)?))));
    let told: Vec<String> = told.collect();
    if told.is_empty() { String::new() } else { format!(" ({})", told.join(" ")) }
}

/// Whether a daemon could have its address now.
fn address(wanted: &Listening) -> Option<Finding> {
    let taken = |by: String| {
        let (what, advice) = (format!("{} is taken{by}", wanted.at), "set http.listen to a free address");
        match wanted.configured {
            true => Finding::fail("address", format!("{what}: the daemon cannot start"), advice),
            false => Finding::warn("address", format!("{what}: the daemon would run without pages"), advice),
        }
    };
    let free = || Finding::ok("address", format!("{} is free", wanted.at));
    match &wanted.at {
        Listen::Off | Listen::Unset => None,
        Listen::Tcp(address) => Some(match TcpListener::bind(address) {
            Ok(_) => free(),
            Err(err) if err.kind() == ErrorKind::AddrInUse => taken(listener(address)),
            Err(err) => Finding::warn(
                "address",
                format!("{address} could not be had for a try: {err}"),
                "a port below 1024 needs CAP_NET_BIND_SERVICE; a name must lead to an address of this \
                 machine",
            ),
        }),
        Listen::Unix(path) => {
            Some(if UnixStream::connect(path).is_ok() { taken(String::new()) } else { free() })
        }
    }
}

/// ` by pid 17 (nginx)`, if that can be known.
fn listener(address: &str) -> String {
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let inodes = port.map(|port| listening_on(port, &tables.concat())).unwrap_or_default();
    let owner = inodes.iter().find_map(|inode| holder_of(&format!("socket:[{inode}]")));
    owner.map(|(pid, name)| format!(" by pid {pid} ({name})")).unwrap_or_default()
}

/// Inodes of the sockets that listen on `port`, from the kernel's tables.
fn listening_on(port: u16, table: &str) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let local = format!(":{port:04X}");
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let rows = rows.filter(|row| row.len() > 9 && row[1].ends_with(&local) && row[3] == LISTEN);
    rows.filter_map(|row| row[9].parse().ok()).collect()
}

/// The process that has `what` open.
fn holder_of(what: &str) -> Option<(u32, String)> {
    for entry in fs::read_dir("/proc").ok()?.filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let mut open = fs::read_dir(entry.path().join("fd")).into_iter().flatten().filter_map(Result::ok);
        if open.any(|fd| fs::read_link(fd.path()).is_ok_and(|link| link == Path::new(what))) {
            return Some((pid, Process::read(Some(pid)).map(|process| process.name).unwrap_or_default()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::pages::tests::well;
    use super::super::report::Mark;
    use super::*;

    #[test]
    fn a_taken_address_is_a_failure_where_it_was_asked_for() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = Listen::Tcp(held.local_addr().unwrap().to_string());
        let asked = address(&Listening { at: at.clone(), configured: true }).unwrap();
        assert_eq!(asked.mark, Mark::Fail);
        assert!(asked.message.contains(&format!("by pid {}", std::process::id())), "{}", asked.message);
        assert_eq!(address(&Listening { at, configured: false }).unwrap().mark, Mark::Warn);
        let any = Listen::Tcp("127.0.0.1:0".to_owned());
        assert_eq!(address(&Listening { at: any, configured: true }).unwrap().mark, Mark::Ok);
        assert!(address(&Listening { at: Listen::Off, configured: true }).is_none());
    }

    #[test]
    fn a_daemon_that_is_well_is_said_to_be_so_once() {
        assert_eq!(answers(&well()).map(|finding| finding.mark), Some(Mark::Ok));
        assert!(version(&well()).is_none() && counted(&well().faults()).is_none());
        let failing = "[-]disk failed: disk-full: 3 bytes free\n".to_owned();
        let sick = Pages { ready: (false, failing), ..well() };
        assert!(answers(&sick).is_none());
        let told = trouble(sick.troubles().remove(0));
        assert_eq!((told.mark, told.name), (Mark::Fail, "disk"));
    }

    #[test]
    fn faults_of_producers_are_not_the_nodes() {
        let fault = |name: &str| (name.to_owned(), 1);
        assert!(counted(&[fault("vanished"), fault("bad-name")]).is_none());
        assert_eq!(counted(&[fault("clock-jump")]).unwrap().message, "counted since its start: clock-jump 1");
    }

    #[test]
    fn a_folder_held_with_another_state_is_told() {
        let holder = |pid| Holder { pid, host: "edge".into(), boot: "b".into() };
        let dir = Path::new("/state");
        let told = other_state(&Standing::Free(None), &Standing::Held(holder(3)), dir);
        assert_eq!(told.map(|finding| finding.mark), Some(Mark::Fail));
        assert!(other_state(&Standing::Held(holder(3)), &Standing::Held(holder(3)), dir).is_none());
        assert!(other_state(&Standing::Free(None), &Standing::Free(None), dir).is_none());
    }
}
