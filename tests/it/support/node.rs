//! The daemon: started, asked, stopped, killed.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::page::{Answer, Page, request};
use super::place::Place;
use super::{PATIENCE, until, within};

/// The longest drain that the contract allows, and what a busy machine adds.
const STOP: Duration = Duration::from_secs(12);

/// A daemon that is not started yet.
pub(crate) struct Setup<'p> {
    place: &'p Place,
    args: Vec<OsString>,
    variables: Vec<(String, OsString)>,
    command: Command,
}

impl<'p> Setup<'p> {
    pub(super) fn new(place: &'p Place) -> Self {
        let mut args: Vec<OsString> =
            ["run", "--listen", "127.0.0.1:0", "--log-format", "json"].map(Into::into).into();
        for (flag, folder) in
            [("--handoff", place.handoff()), ("--out", place.out()), ("--state", place.state())]
        {
            args.extend([flag.into(), folder.into()]);
        }
        Setup { place, args, variables: Vec::new(), command: place.command() }
    }

    /// By a command of the caller's own.
    pub(super) fn by(place: &'p Place, command: Command) -> Self {
        Setup { place, args: Vec::new(), variables: Vec::new(), command }
    }

    /// Where `run` listens by itself.
    pub(crate) fn at_the_default_address(mut self) -> Self {
        let at = self.args.iter().position(|arg| arg == "--listen").expect("every daemon is told where");
        self.args.drain(at..at + 2);
        self
    }

    /// More flags.
    pub(crate) fn with(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(OsString::from));
        self
    }

    /// One more variable in its environment.
    pub(crate) fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// Starts it without waiting for anything.
    pub(crate) fn spawn(mut self) -> Node<'p> {
        // The address of an earlier process must not be taken for this one's.
        let _ = fs::remove_file(self.place.state().join("http.addr"));
        let log = OpenOptions::new().create(true).append(true).open(self.place.log_path()).unwrap();
        let first = !self.place.state().join("ledger.db").exists();
        self.command.args(&self.args).envs(self.variables).stdin(Stdio::null());
        let child = self.command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        Node { place: self.place, child, address: String::new(), first, over: false }
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub(crate) fn start(self) -> Node<'p> {
        let mut node = self.spawn();
        node.wait_ready();
        node
    }
}

/// A daemon in a place. Every test ends it by [`Node::finish`], [`Node::stop`] or [`Node::kill`].
pub(crate) struct Node<'p> {
    place: &'p Place,
    child: Child,
    address: String,
    first: bool,
    over: bool,
}

impl Node<'_> {
    /// Waits for the address and for readiness.
    #[track_caller]
    pub(crate) fn wait_ready(&mut self) {
        let file = self.place.state().join("http.addr");
        self.address = until("the daemon is ready", || {
            assert!(self.child.try_wait().unwrap().is_none(), "the daemon ended:\n{}", self.place.log());
            let address = fs::read_to_string(&file).ok()?.trim().to_owned();
            (request(&address, "GET", "/readyz", "")?.code == 200).then_some(address)
        });
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it answers.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// One GET.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        request(&self.address, "GET", path, "")
            .unwrap_or_else(|| panic!("no answer to {path}:\n{}", self.place.log()))
    }

    /// The metrics now (the page may be a second old).
    #[track_caller]
    pub(crate) fn page(&self) -> Page {
        Page::parse(&self.get("/metrics").body)
    }

    /// Waits until this process has settled `count` files.
    #[track_caller]
    pub(crate) fn wait_settled(&self, count: usize, limit: Duration) {
        let mut seen = 0.0;
        within(limit, &format!("{count} files are settled"), || {
            seen = self.page().sum("conductor_loop_intents_total");
            (seen >= count as f64).then_some(())
        });
    }

    /// Waits until no file that is an intent is left in the folder.
    #[track_caller]
    pub(crate) fn wait_empty(&self, limit: Duration) {
        within(limit, "the folder is empty", || {
            let waiting = self.place.list("").into_iter().any(|name| name.starts_with("intent-"));
            (!waiting).then_some(())
        });
    }

    /// The largest memory that it ever held, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel tells VmHWM");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end; the exit code, -1 after a signal.
    #[track_caller]
    pub(crate) fn wait_end(mut self, limit: Duration) -> i32 {
        self.over = true;
        let status = within(limit, "the daemon ends", || self.child.try_wait().unwrap());
        status.code().unwrap_or(-1)
    }

    /// SIGTERM, then the exit code.
    #[track_caller]
    pub(crate) fn stop(self) -> i32 {
        self.signal(Signal::TERM);
        self.wait_end(STOP)
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.over = true;
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Checks the balance, stops the daemon cleanly and audits what it left.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        self.balance();
        assert!(
            self.child.try_wait().unwrap().is_none(),
            "the daemon ended by itself:\n{}",
            self.place.log()
        );
        let place = self.place;
        assert_eq!(self.stop(), 0, "exit code after SIGTERM:\n{}", place.log());
        place.audit();
    }

    /// accepted = the five fates + pending, at rest.
    #[track_caller]
    fn balance(&self) {
        let mut shown = String::new();
        within(PATIENCE, "the books balance", || {
            let page = self.page();
            let unaccounted = page.value("conductor_loop_unaccounted_intents");
            let accepted = page.value("conductor_loop_accepted_total");
            let ended = page.sum("conductor_loop_intents_total");
            let pending = page.sum("conductor_loop_pending_intents");
            shown =
                format!("accepted {accepted}, ended {ended}, pending {pending}, unaccounted {unaccounted}");
            let balanced = unaccounted == 0.0 && (!self.first || accepted == ended + pending);
            balanced.then_some(())
        });
    }
}

impl Drop for Node<'_> {
    #[expect(clippy::print_stderr, reason = "the daemon's own words explain a failed test")]
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.place.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the daemon's last words:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        } else {
            panic!("a test must end its daemon by finish, stop or kill");
        }
    }
}
