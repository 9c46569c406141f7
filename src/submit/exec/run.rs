//! One run of the command: begun, watched, and ended with everything that belongs to it.
//!
//! The command leads a process group. The run is over when the leader has ended and both its output
//! streams have: what the leader leaves in the background has [`GRACE`] to close them. At the time limit,
//! or when the daemon stops, the group gets SIGTERM, and SIGKILL when the leader has not ended after
//! [`GRACE`]. However a run ends, the group is killed before its leader is reaped: until then the kernel
//! gives its number to nobody else. For this reason the run looks after the leader itself, on every
//! SIGCHLD, for `tokio::process` would reap it.
//!
//! A dropped run kills its group at once. What leaves the group by `setsid` is out of reach; its CPU time
//! is limited, and a service manager ends it with the unit.
//!
//! Limits on the command, set right after its start (a child that it forks within these microseconds has
//! the daemon's own): no core file, and as much CPU time as all cores give within the time limit.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use futures_util::future::join;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, kill_process_group, prlimit, waitid,
};
use rustix::thread::clear_ambient_capability_set;
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::output::Output;
use crate::fate::Id;

/// From SIGTERM to SIGKILL, and from the leader's end to that of what it left behind.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// For reading what is still in the pipes after everybody is dead.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// The variable with the intent's id.
pub(super) const ID: &str = "CONDUCTOR_INTENT_ID";

/// What is to be run.
pub(super) struct Started<'a> {
    pub(super) program: &'a Path,
    /// The command as it was configured, its `argv[0]`.
    pub(super) name: &'a OsStr,
    pub(super) arguments: &'a [&'a OsStr],
    pub(super) environment: &'a [(OsString, OsString)],
    pub(super) id: Id,
    pub(super) timeout: Duration,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// By itself, with this code.
    Exit(i32),
    /// Killed by somebody else.
    Signal(i32),
    /// Killed at the time limit, whatever it said then.
    TimedOut,
    /// Killed because the daemon stops, whatever it said then.
    Stopped,
}

/// A run that is over.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) how: How,
    pub(super) stdout: Output,
    pub(super) stderr: Output,
}

/// A run under way.
pub(super) struct Run {
    group: Group,
    stdout: Output,
    stderr: Output,
}

impl Run {
    /// Begins a run. Call it on the thread of the runtime: the capabilities that it clears are this
    /// thread's, and the child gets them from here.
    pub(super) fn start(what: &Started<'_>) -> io::Result<Run> {
        // Before Linux 4.3 there is no ambient set, and nothing to clear.
        let _ = clear_ambient_capability_set();
        // Before the child is there, so that none of its signals is missed.
        let children = unix::signal(SignalKind::child())?;
        let mut child = Command::new(what.program)
            .arg0(what.name)
            .args(what.arguments)
            .env_clear()
            .envs(what.environment.iter().map(|(name, value)| (name, value)))
            .env(ID, what.id.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let (stdout, stderr) =
            (child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from));
        let group = Group { id: Pid::from_child(&child), child, children, reaped: false };
        group.limit(what.timeout);
        Ok(Run { group, stdout: Output::of(stdout)?, stderr: Output::of(stderr)? })
    }

    /// Waits for its end; `stop` becomes true when the daemon stops.
    pub(super) async fn watch(mut self, limit: Duration, mut stop: watch::Receiver<bool>) -> Ended {
        let Run { group, stdout, stderr } = &mut self;
        let over = async {
            tokio::select! {
                biased;
                () = group.leader_ended() => None,
                () = sleep(limit) => Some(How::TimedOut),
                // The sink that sends outlives its runs.
                _ = stop.wait_for(|stop| *stop) => Some(How::Stopped),
            }
        };
        let cut = beside(stdout, stderr, over).await;
        match cut {
            None => _ = timeout(GRACE, join(stdout.drain(), stderr.drain())).await,
            Some(_) => {
                group.signal(Signal::TERM);
                if beside(stdout, stderr, timeout(GRACE, group.leader_ended())).await.is_err() {
                    group.signal(Signal::KILL);
                    beside(stdout, stderr, group.leader_ended()).await;
                }
            }
        }
        let how = group.finish();
        let _ = timeout(LAST_WORDS, join(stdout.drain(), stderr.drain())).await;
        let Run { stdout, stderr, .. } = self;
        Ended { how: cut.unwrap_or(how), stdout, stderr }
    }
}

/// Waits for `event` and reads meanwhile what the command prints.
async fn beside<T>(stdout: &mut Output, stderr: &mut Output, event: impl Future<Output = T>) -> T {
    let reading = async {
        join(stdout.drain(), stderr.drain()).await;
        std::future::pending().await
    };
    tokio::select! {
        biased;
        value = event => value,
        never = reading => never,
    }
}

/// The leader of a process group, not reaped as long as this lives.
struct Group {
    child: Child,
    id: Pid,
    /// Tells that some child of this process has ended.
    children: unix::Signal,
    reaped: bool,
}

impl Group {
    fn limit(&self, run: Duration) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let seconds = ((run + GRACE).as_secs() + 1).saturating_mul(cores);
        for (resource, most) in [(Resource::Core, 0), (Resource::Cpu, seconds)] {
            // A command that has ended already, or runs as another user, needs or takes no limit of ours.
            let _ = prlimit(Some(self.id), resource, Rlimit { current: Some(most), maximum: Some(most) });
        }
    }

    /// To every process of the group; the leader pins its number until it is reaped.
    fn signal(&self, signal: Signal) {
        if !self.reaped {
            // Nobody is left: that is what was wanted.
            let _ = kill_process_group(self.id, signal);
        }
    }

    /// Waits for the leader's end without reaping it.
    async fn leader_ended(&mut self) {
        while !self.has_ended() && self.children.recv().await.is_some() {}
    }

    fn has_ended(&self) -> bool {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(self.id), look), Ok(None))
    }

    /// Kills the rest of the group and reaps the leader, which has ended.
    fn finish(&mut self) -> How {
        self.signal(Signal::KILL);
        self.reaped = true;
        match self.child.wait() {
            Ok(status) => how(status),
            // Somebody else reaped it: how it ended is not known.
            Err(_) => How::Signal(0),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.reaped {
            self.signal(Signal::KILL);
            // It may take a moment to die; when this process ends init reaps it.
            let _ = self.child.try_wait();
        }
    }
}

fn how(status: ExitStatus) -> How {
    match status.code() {
        Some(code) => How::Exit(code),
        None => How::Signal(status.signal().unwrap_or(0)),
    }
}
