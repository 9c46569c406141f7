//! A fresh handoff folder, the fake server behind it, and the real daemon between them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use conductor_loop::fake_porch::{Costs, FakePorch, NAMESPACE, Options};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const REPOSITORY: &str = "edge";
/// Between two looks at the status files.
const LOOK: Duration = Duration::from_millis(3);
/// Nothing that is waited for takes longer.
const PATIENCE: Duration = Duration::from_secs(600);

/// Daemon, folders and server of one run.
pub(crate) struct Place {
    root: PathBuf,
    pub(crate) fake: FakePorch,
    /// The zero of the times in the server's log.
    zero: SystemTime,
    daemon: Child,
    ended: BTreeMap<String, Value>,
}

impl Place {
    /// Starts both, with these lines of `[sink.porch]`; the server takes the measured time over TLS.
    pub(crate) fn start(root: &Path, settings: &str) -> io::Result<Place> {
        let (handoff, desk) = (root.join("handoff"), root.join("desk"));
        fs::create_dir_all(&handoff)?;
        fs::create_dir_all(&desk)?;
        let zero = SystemTime::now();
        let fake = FakePorch::start(Options { costs: Costs::MEASURED, ..Options::default() })?;
        fake.add_repository(REPOSITORY, NAMESPACE, "https://git.example/edge.git");
        let (kubeconfig, config) = (root.join("kubeconfig"), root.join("settings.toml"));
        fs::write(&kubeconfig, fake.kubeconfig())?;
        fs::set_permissions(&kubeconfig, fs::Permissions::from_mode(0o600))?;
        let sink = format!(
            "[sink]\nkind = \"porch\"\ncoalesce = \"off\"\n[sink.porch]\nrepository = \"{REPOSITORY}\"\nkubeconfig = {:?}\n{settings}\n",
            kubeconfig.display().to_string()
        );
        fs::write(&config, sink)?;
        fs::set_permissions(&config, fs::Permissions::from_mode(0o600))?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_conductor-loop"));
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("CONDUCTOR_LOOP_") {
                command.env_remove(variable);
            }
        }
        command.env("LOG_LEVEL", "warn").env_remove("STATE_DIRECTORY");
        command.args(["run", "--listen", "127.0.0.1:0", "--config"]).arg(&config);
        command.arg("--handoff").arg(&handoff).arg("--out").arg(root.join("out"));
        let log = fs::File::create(root.join("log"))?;
        let daemon = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let place = Place { root: root.to_owned(), fake, zero, daemon, ended: BTreeMap::new() };
        let address = handoff.join(".conductor").join("http.addr");
        place.wait("the daemon opens its pages", || address.exists())?;
        Ok(place)
    }

    /// Puts an intent for this target into the folder, by a rename.
    pub(crate) fn drop_in(&self, name: &str, target: usize, replicas: usize) -> io::Result<()> {
        let draft = self.write(name, target, replicas)?;
        fs::rename(draft, self.root.join("handoff").join(name))
    }

    /// Writes all of them, (name, target, count), then puts them in, one rename after another; says when it began
    /// to.
    pub(crate) fn drop_all(&self, all: &[(String, usize, usize)]) -> io::Result<Instant> {
        let drafts = all.iter().map(|(name, target, count)| self.write(name, *target, *count));
        let drafts = drafts.collect::<io::Result<Vec<_>>>()?;
        let started = Instant::now();
        for (draft, (name, ..)) in drafts.iter().zip(all) {
            fs::rename(draft, self.root.join("handoff").join(name))?;
        }
        Ok(started)
    }

    fn write(&self, name: &str, target: usize, replicas: usize) -> io::Result<PathBuf> {
        let draft = self.root.join("desk").join(name);
        let text = format!(
            "{{\"intent_type\": \"scaling\", \"target\": \"nf-{target:05}\", \"namespace\": \"ns-{:02}\", \
             \"replicas\": {replicas}, \"source\": \"planner\"}}\n",
            target % 20
        );
        fs::write(&draft, text)?;
        Ok(draft)
    }

    /// Waits until so many intents have a final status file, and says when; an error unless all are delivered.
    pub(crate) fn until_delivered(&mut self, count: usize) -> io::Result<Instant> {
        let deadline = Instant::now() + PATIENCE;
        while self.ended.len() < count {
            if Instant::now() > deadline {
                let log = fs::read_to_string(self.root.join("log"))?;
                return Err(io::Error::other(format!("{} of {count} have ended; {log}", self.ended.len())));
            }
            thread::sleep(LOOK);
            self.look()?;
        }
        let now = Instant::now();
        match self.ended.values().find(|status| status["fate"] != "delivered") {
            None => Ok(now),
            Some(other) => Err(io::Error::other(format!("not delivered: {other:#}"))),
        }
    }

    fn look(&mut self) -> io::Result<()> {
        let folder = self.root.join("handoff").join("status");
        if !folder.exists() {
            return Ok(());
        }
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.ends_with(".status") || self.ended.contains_key(&name) {
                continue;
            }
            let status: Value = serde_json::from_slice(&fs::read(entry.path())?)?;
            if status["fate"] != "pending" {
                self.ended.insert(name, status);
            }
        }
        Ok(())
    }

    /// When the intent of this file name was accepted, in seconds since the zero of the server's log.
    pub(crate) fn accepted(&self, name: &str) -> io::Result<f64> {
        let status = self.ended.values().find(|status| status["intent_file"] == name);
        let text = status.and_then(|status| status["accepted_at"].as_str());
        let at: jiff::Timestamp =
            text.ok_or_else(|| io::Error::other("no accepted_at"))?.parse().map_err(io::Error::other)?;
        let zero = self.zero.duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
        Ok(at.as_duration().as_secs_f64() - zero.as_secs_f64())
    }

    /// Seconds at which writes arrived at the server, since the zero of its log.
    pub(crate) fn writes(&self) -> Vec<f64> {
        let log = self.fake.log();
        log.iter().filter(|logged| logged.method != "GET").map(|logged| logged.at.as_secs_f64()).collect()
    }

    /// Ends the daemon.
    pub(crate) fn end(mut self) -> io::Result<()> {
        kill_process(Pid::from_child(&self.daemon), Signal::TERM)?;
        match self.daemon.wait()?.success() {
            true => Ok(()),
            false => Err(io::Error::other(fs::read_to_string(self.root.join("log"))?)),
        }
    }

    fn wait(&self, what: &str, done: impl Fn() -> bool) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !done() {
            if Instant::now() > deadline {
                let log = fs::read_to_string(self.root.join("log"))?;
                return Err(io::Error::other(format!("not in 30 s: {what}; {log}")));
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // After `end` there is nobody left to kill.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}
