//! Rules over more than one setting: what is clamped to the machine, and folders that must differ.

use std::path::{Component, Path, PathBuf};

use super::fault::{Fault, Origin};
use super::layers::{Environment, Origins};
use super::model::{Coalesce, Config, SandboxMode, Watch};
use super::place::{state_dir, systemd_state};
use super::units::show_duration;
use crate::fate::SinkKind;

/// Settles what depends on other values or on the machine; returns warnings.
pub(super) fn settle(config: &mut Config, origins: &Origins, cores: usize) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.watch.period.is_zero() {
        config.watch.period = Watch::default().period;
    }
    let porch = config.sink.kind == SinkKind::Porch;
    if porch && *origins.of("sink.coalesce") == Origin::Default {
        config.sink.coalesce = Coalesce::Latest;
    }
    if let (false, flag @ Origin::Flag(_)) = (porch, origins.of("sink.porch.url")) {
        warnings.push(format!("{flag} has no effect without --sink porch"));
    }
    let most = cores.max(1).saturating_mul(4);
    if config.intake.workers > most {
        warnings.push(format!(
            "{}: intake.workers: {} is above 4 times the number of cores; {most} is used",
            origins.of("intake.workers"),
            config.intake.workers
        ));
        config.intake.workers = most;
    }
    if config.ledger.dedup_window > config.ledger.keep_for {
        warnings.push(format!(
            "{}: ledger.dedup_window: {} is longer than ledger.keep_for, {}: a repeat is recognised only \
             while the record of the first is kept",
            origins.of("ledger.dedup_window"),
            show_duration(config.ledger.dedup_window),
            show_duration(config.ledger.keep_for)
        ));
    }
    if config.http.listen.is_open() {
        warnings.push(format!(
            "{}: http.listen: {} can be reached from other machines, without encryption or \
             password; put a proxy before it",
            origins.of("http.listen"),
            config.http.listen
        ));
    }
    warnings
}

/// One directory of the daemon.
struct Folder {
    /// How a message names it.
    name: &'static str,
    /// As configured.
    path: PathBuf,
    /// With links and `..` resolved as far as it exists.
    real: PathBuf,
    /// Who said so.
    origin: Origin,
}

/// Refuses folders that contain or equal each other where that would feed the daemon its own files
/// (C04, `contract.md` 1 "Refused together").
pub(super) fn folders(config: &Config, origins: &Origins, environment: &Environment) -> Vec<Fault> {
    let folders = every_folder(config, origins, environment);
    let mut faults = Vec::new();
    for (at, one) in folders.iter().enumerate() {
        for other in &folders[at + 1..] {
            if one.real == other.real {
                let text = format!(
                    "{} and {} are the same directory, {}; give each its own",
                    other.name,
                    one.name,
                    one.real.display()
                );
                faults.push(fault(other, one, text));
            }
        }
    }
    let [handoff, out, state, ..] = folders.as_slice() else { return faults };
    if handoff.real != state.real && handoff.real.starts_with(&state.real) {
        let text = format!(
            "{} {} is a parent of {} {}; choose a directory beside it",
            state.name,
            state.path.display(),
            handoff.name,
            handoff.path.display()
        );
        faults.push(fault(state, handoff, text));
    }
    if out.real != handoff.real && out.real.starts_with(&handoff.real) {
        let text = format!(
            "{} {} lies inside {} {}; choose a directory beside it",
            out.name,
            out.path.display(),
            handoff.name,
            handoff.path.display()
        );
        faults.push(fault(out, handoff, text));
    }
    faults
}

/// Handoff, out and state first, then the rest.
fn every_folder(config: &Config, origins: &Origins, environment: &Environment) -> Vec<Folder> {
    let folder = |name, path: &Path, origin: Origin| Folder {
        name,
        path: path.to_path_buf(),
        real: resolve(path),
        origin,
    };
    let handoff = &config.watch.handoff;
    let handoff_origin = || origins.of("watch.handoff").clone();
    let state_origin = match &config.ledger.dir {
        Some(_) => origins.of("ledger.dir").clone(),
        None if systemd_state(environment).is_some() => Origin::Environment("STATE_DIRECTORY".into()),
        None => handoff_origin(),
    };
    let mut folders = vec![
        folder("watch.handoff", handoff, handoff_origin()),
        folder("sink.folder.out", &config.sink.folder.out, origins.of("sink.folder.out").clone()),
        folder("ledger.dir", &state_dir(config, environment), state_origin),
        folder("the folder for finished files", &handoff.join("processed"), handoff_origin()),
        folder("the folder for status files", &handoff.join("status"), handoff_origin()),
    ];
    folders.push(match &config.settle.failed_dir {
        Some(dir) => folder("settle.failed_dir", dir, origins.of("settle.failed_dir").clone()),
        None => folder("the folder for failed files", &handoff.join("failed"), handoff_origin()),
    });
    if let Some(dir) = &config.package.blueprints {
        folders.push(folder("package.blueprints", dir, origins.of("package.blueprints").clone()));
    }
    folders
}

/// The exec sink is nothing without its command, and starts what a sandbox would not let it start.
pub(super) fn command(config: &Config, origins: &Origins) -> Vec<Fault> {
    if config.sink.kind != SinkKind::Exec {
        return Vec::new();
    }
    let missing = "sink.kind: exec needs a command; set sink.exec.command, or use --porch CMD";
    let confined = "service.sandbox: \"require\" and the exec sink exclude each other, since a sandbox starts no \
                    programs; set it to \"best-effort\"";
    [
        config.sink.exec.command.is_none().then(|| Fault::new(origins.of("sink.kind"), missing)),
        (config.service.sandbox == SandboxMode::Require)
            .then(|| Fault::new(origins.of("service.sandbox"), confined)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What the Porch sink cannot do without, and what would betray its credential.
pub(super) fn porch(config: &Config, origins: &Origins) -> Vec<Fault> {
    let mut faults = Vec::new();
    if config.sink.kind != SinkKind::Porch {
        return faults;
    }
    let chosen = &config.sink.porch;
    if chosen.repository.is_none() {
        let text = "sink.kind: porch needs a repository; set sink.porch.repository to the name of its object";
        faults.push(Fault::new(origins.of("sink.kind"), text));
    }
    if chosen.ca_file.is_some() && chosen.url.is_none() {
        let text = "sink.porch.ca_file: is for the server of sink.porch.url, which is not set; the authority of \
                    another server stands in its kubeconfig";
        faults.push(Fault::new(origins.of("sink.porch.ca_file"), text));
    }
    if chosen.url.as_deref().is_some_and(|url| url.starts_with("http:") && !is_this_machine(url)) {
        let text = "sink.porch.url: plain http is for this machine alone; write https://";
        faults.push(Fault::new(origins.of("sink.porch.url"), text));
    }
    faults
}

/// Whether what is sent to `url` stays on this machine.
pub fn is_this_machine(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((inner, _)) => inner,
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A fault placed where somebody set something: a default is nobody's mistake.
fn fault(first: &Folder, second: &Folder, text: String) -> Fault {
    let set = [first, second].into_iter().find(|folder| folder.origin != Origin::Default);
    Fault::new(&set.unwrap_or(first).origin, text)
}

/// Links that are followed before a path counts as a circle.
const MOST_LINKS: usize = 40;

/// `path` made absolute, its links resolved and `..` taken away, also where nothing exists yet: a link
/// may lead to a directory that is still to be made.
fn resolve(path: &Path) -> PathBuf {
    let full = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut links = 0;
    let mut ahead: Vec<PathBuf> = parts(&full);
    let mut real = PathBuf::from("/");
    while let Some(part) = ahead.pop() {
        if part == Path::new("..") {
            real.pop();
            continue;
        }
        let next = real.join(&part);
        match next.read_link() {
            Ok(target) if links < MOST_LINKS => {
                links += 1;
                if target.is_absolute() {
                    real = PathBuf::from("/");
                }
                ahead.extend(parts(&target));
            }
            _ => real = next,
        }
    }
    real
}

/// The names of a path and its `..`, last first.
fn parts(path: &Path) -> Vec<PathBuf> {
    let kept = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    path.components().rev().filter(kept).map(|part| PathBuf::from(part.as_os_str())).collect()
}
