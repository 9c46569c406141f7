//! What the daemon gives up once it has all it needs: the sandbox of D16, decided and entered.
//!
//! Kept: its own directories, the directories of settings and blueprints, its HTTP port. The folder sink
//! connects to nothing; the Porch sink keeps the ports of its servers and the places of its credential. One log line says what came of it, `conductor_loop_sandbox_level` the ABI.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel;

use super::Plan;
use crate::config::{Config, Listen, Loaded, SandboxMode, listening};
use crate::disk::{Folders, Place};
use crate::fate::SinkKind;
use crate::observe::Metrics;
use crate::observe::log::LogGuard;
use crate::service::notify::Notifier;
use crate::service::{Sandbox, SandboxFault, Scope, Signals};
use crate::submit::porch::{self, client::Reach};

/// How long a thread that was there before may take to restrict itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// The first ABI with rules for TCP.
const WITH_TCP: u32 = 4;

/// What the C library reads to find the addresses of a name.
const NAMES: [&str; 5] =
    ["/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf", "/etc/resolv.conf"];

/// Everything that the decision and the rules depend on.
pub(super) struct Confinement<'a> {
    loaded: &'a Loaded,
    state: PathBuf,
    listen: Listen,
    /// What the sink needs beside its directories.
    reach: Option<Reach>,
    /// A service manager started this process.
    managed: bool,
    /// Running already, and so to be restricted by themselves.
    log: &'a LogGuard,
    signals: &'a Signals,
    notifier: &'a Notifier,
    metrics: &'a Metrics,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// No sandbox, and why.
    None(&'static str),
    /// As far as the kernel goes.
    Try,
    /// That, or no start.
    Insist,
}

/// `spawns`: the sink starts programs, which need what the sandbox takes away.
fn decide(mode: SandboxMode, managed: bool, spawns: bool) -> Result<Decision, String> {
    match mode {
        SandboxMode::Off => Ok(Decision::None("service.sandbox is off")),
        SandboxMode::Require if spawns => Err("service.sandbox is require, but a sink that starts programs \
             cannot be sandboxed: set it to best-effort"
            .to_owned()),
        SandboxMode::Require => Ok(Decision::Insist),
        SandboxMode::BestEffort if spawns => Ok(Decision::None("the sink starts programs")),
        SandboxMode::BestEffort if managed => Ok(Decision::Try),
        SandboxMode::BestEffort => Ok(Decision::None("no service manager started this process")),
    }
}

/// What the process is bound to from now on.
#[derive(Debug, Default)]
pub(super) struct Entered {
    /// The handoff folder must stay the directory that is open: by this sandbox, or by what the service
    /// manager lets be written to.
    pub(super) pinned: bool,
    _sandbox: Option<Arc<Sandbox>>,
}

impl<'a> Confinement<'a> {
    /// Of a daemon that is about to start its pipeline.
    pub(super) fn of(
        plan: &Plan<'a>,
        signals: &'a Signals,
        notifier: &'a Notifier,
        metrics: &'a Metrics,
    ) -> Self {
        Confinement {
            loaded: plan.loaded,
            state: plan.state.clone(),
            listen: listening(&plan.loaded.config.http.listen, plan.role).at,
            reach: reach(&plan.loaded.config),
            managed: plan.managed,
            log: plan.log,
            signals,
            notifier,
            metrics,
        }
    }

    /// Restricts the process as the settings want it.
    pub(super) fn enter(&self, folders: &Folders) -> Result<Entered, String> {
        let config = &self.loaded.config;
        // Neither sink starts anything.
        let insists = match decide(config.service.sandbox, self.managed, false)? {
            Decision::None(why) => {
                tracing::info!(level = 0, why, "not sandboxed by the process itself");
                return Ok(Entered { pinned: self.managed, _sandbox: None });
            }
            decision => decision == Decision::Insist,
        };
        match self.restrict(folders) {
            Ok((sandbox, stray)) if stray.is_empty() || !insists => {
                self.metrics.sandbox_level(sandbox.abi());
                tracing::info!(level = sandbox.abi(), "sandboxed: {}", self.terms(sandbox.abi()));
                if !stray.is_empty() {
                    tracing::warn!("outside the sandbox, since they did not answer: threads {stray:?}");
                }
                Ok(Entered { pinned: true, _sandbox: Some(sandbox) })
            }
            Ok((_, stray)) => Err(format!(
                "service.sandbox is require, but threads {stray:?} did not enter it; start again"
            )),
            Err(fault) if insists => Err(format!("service.sandbox is require, but {fault}")),
            Err(fault) => {
                tracing::warn!(level = 0, "not sandboxed by the process itself: {fault}");
                Ok(Entered { pinned: self.managed, _sandbox: None })
            }
        }
    }

    /// Restricts this thread, all that it will start, and those that are there already; the names of those
    /// that did not answer.
    fn restrict(&self, folders: &Folders) -> Result<(Arc<Sandbox>, Vec<&'static str>), SandboxFault> {
        let sandbox = Arc::new(Sandbox::build(&self.scope(folders)?)?);
        let mut stray = Vec::new();
        if !sandbox.restrict_process()? {
            let log = |act| self.log.on_thread(act);
            let signals = |act| self.signals.on_thread(act);
            stray.extend((!restricts_itself(&sandbox, log)).then_some("log"));
            stray.extend((!restricts_itself(&sandbox, signals)).then_some("signals"));
            if self.notifier.is_heard() {
                let notify = |act| self.notifier.on_thread(act);
                stray.extend((!restricts_itself(&sandbox, notify)).then_some("notify"));
            }
        }
        Ok((sandbox, stray))
    }

    fn scope(&self, folders: &Folders) -> Result<Scope, SandboxFault> {
        let config = &self.loaded.config;
        let mut scope = Scope::default();
        for place in [Place::Handoff, Place::Failed, Place::Out] {
            scope.own_opened(folders.fd(place))?;
        }
        scope.own_path(&self.state)?;
        // Files are replaced by renames, so that only their directories stay what they are.
        let beside = [&self.loaded.file, &config.intake.schema];
        scope.read.extend(beside.into_iter().flatten().map(|file| directory_of(file)));
        scope.read.extend(config.package.blueprints.clone());
        if let Some(Reach { read, connect }) = &self.reach {
            scope.read.extend(read.iter().cloned().chain(NAMES.map(PathBuf::from)));
            scope.connect.clone_from(connect);
        }
        match &self.listen {
            Listen::Off | Listen::Unset => {}
            Listen::Unix(path) => scope.sockets.push(directory_of(path)),
            Listen::Tcp(address) => {
                let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
                scope.bind.extend(port.parse::<u16>());
                if host.trim_matches(['[', ']']).parse::<IpAddr>().is_err() {
                    scope.read.extend(NAMES.map(PathBuf::from));
                }
            }
        }
        Ok(scope)
    }

    /// What is allowed and what is not, in words.
    fn terms(&self, abi: u32) -> String {
        let tcp = match &self.listen {
            _ if abi < WITH_TCP => "TCP is not restricted before ABI 4".to_owned(),
            listen => {
                let bound = match listen {
                    Listen::Tcp(address) => {
                        address.rsplit(':').next().map(|port| format!("listen on port {port}"))
                    }
                    _ => None,
                };
                let asked = self.reach.as_ref().map(|reach| {
                    let ports: Vec<String> = reach.connect.iter().map(u16::to_string).collect();
                    format!("connect to port {}", ports.join(", "))
                });
                let all: Vec<String> = [bound, asked].into_iter().flatten().collect();
                if all.is_empty() {
                    "no TCP".to_owned()
                } else {
                    format!("TCP only to {}", all.join(" and to "))
                }
            }
        };
        format!("files only in its own directories, reading also beside its settings; no programs; {tcp}")
    }
}

/// What the configured sink needs of the machine.
fn reach(config: &Config) -> Option<Reach> {
    let remote = config.sink.kind == SinkKind::Porch;
    remote.then(|| porch::reach(config, &std::env::vars_os().collect()))
}

/// Has a thread restrict itself; false if it does not or does not answer.
fn restricts_itself(
    sandbox: &Arc<Sandbox>,
    on_thread: impl FnOnce(Box<dyn FnOnce() + Send>) -> bool,
) -> bool {
    let (done, is_done) = channel::bounded(1);
    let sandbox = Arc::clone(sandbox);
    // Nobody listens once patience is over.
    let act = move || _ = done.send(sandbox.restrict_thread().is_ok());
    on_thread(Box::new(act)) && is_done.recv_timeout(PATIENCE) == Ok(true)
}

/// The directory in which a file lies.
fn directory_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_effort_is_for_services_and_never_for_a_sink_that_starts_programs() {
        use SandboxMode::{BestEffort, Off, Require};
        for (mode, managed, spawns, tries) in [
            (BestEffort, true, false, Some(Decision::Try)),
            (BestEffort, false, false, None),
            (BestEffort, true, true, None),
            (Require, false, false, Some(Decision::Insist)),
            (Off, true, false, None),
        ] {
            let decided = decide(mode, managed, spawns).unwrap();
            match tries {
                Some(wanted) => assert_eq!(decided, wanted),
                None => assert!(matches!(decided, Decision::None(_)), "{mode:?} {managed} {spawns}"),
            }
        }
        assert!(decide(Require, true, true).unwrap_err().contains("best-effort"));
    }

    #[test]
    fn the_directory_of_a_bare_name_is_the_one_we_are_in() {
        for (file, directory) in [("/etc/c/config.toml", "/etc/c"), ("c.toml", "."), ("a/b", "a")] {
            assert_eq!(directory_of(Path::new(file)), Path::new(directory));
        }
    }
}
