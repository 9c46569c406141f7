//! The process's own sandbox: Landlock rules that hold until it ends (`design.md` D16).
//!
//! What a [`Scope`] names stays allowed; whatever else is refused by the kernel with EACCES, root or
//! not: opening, making, moving and removing files, starting any program, sending commands to devices,
//! binding and connecting TCP ports. Not covered: what is already open, looking without opening
//! (`stat`, `O_PATH`), Unix sockets by path (the journal, the service manager), UDP. `no_new_privs`
//! comes with it.
//!
//! Least ABI 2: before it every move between directories fails with EXDEV. ABI 3 adds truncation, 4 TCP,
//! 5 devices, 8 all threads at once; before that a thread restricts itself and those that it starts.
//! Rules bind to inodes and not to names: a directory that comes back as another one is outside.

use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, LandlockStatus, NetPort, PathBeneath, RestrictSelf,
    RestrictSelfAttr as _, Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError,
    RulesetStatus,
};
use rustix::fs::{Mode, OFlags, open};

use crate::error::{Consequence, Fault};

/// Rights of later ABIs are not given up: ABI 9 would also close Unix sockets by path.
const RIGHTS: ABI = ABI::V5;
const LEAST: u32 = 2;
const ALL_THREADS: u32 = 8;

/// Facts about the process itself, for metrics and limits.
const ABOUT_SELF: [&str; 3] = ["/proc/self", "/proc/sys/kernel/random/boot_id", "/sys/fs/cgroup"];

/// Where SQLite takes random bytes from.
const RANDOM: &str = "/dev/urandom";

/// What stays allowed.
#[derive(Debug, Default)]
pub struct Scope {
    /// Directories below which everything but starting programs stays allowed. All of them have the same
    /// rights, since a file may be moved only to where nothing more may be done to it.
    pub own: Vec<OwnedFd>,
    /// Directories (below which) and files that may be read. Those that are not there or out of reach are
    /// left out.
    pub read: Vec<PathBuf>,
    /// Directories in which a Unix socket may be made and removed.
    pub sockets: Vec<PathBuf>,
    /// TCP ports that may be bound; 0 stands for any free one.
    pub bind: Vec<u16>,
    /// TCP ports that may be connected to, on any host.
    pub connect: Vec<u16>,
}

impl Scope {
    /// Adds an open directory to the own ones.
    ///
    /// # Errors
    ///
    /// When there is no descriptor left.
    pub fn own_opened(&mut self, directory: &OwnedFd) -> Result<(), SandboxFault> {
        let again = directory.try_clone().map_err(|err| SandboxFault::Rules(err.to_string()))?;
        self.own.push(again);
        Ok(())
    }

    /// Adds the directory at `path` to the own ones.
    ///
    /// # Errors
    ///
    /// When it cannot be looked at.
    pub fn own_path(&mut self, path: &Path) -> Result<(), SandboxFault> {
        self.own.push(look(path)?);
        Ok(())
    }
}

/// Why there is no sandbox.
#[derive(Debug)]
pub enum SandboxFault {
    /// The kernel has no Landlock of ABI 2, it is not enabled, or a filter of system calls hides it.
    Unavailable {
        /// What it has; 0 is nothing.
        abi: u32,
    },
    /// A directory of the scope cannot be opened.
    Path {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel did not take the rules.
    Rules(String),
}

impl fmt::Display for SandboxFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SandboxFault::Unavailable { abi: 0 } => f.write_str(
                "the kernel offers no Landlock: boot with lsm=landlock,…, and let the unit's SystemCallFilter \
                 pass landlock_create_ruleset, landlock_add_rule and landlock_restrict_self",
            ),
            SandboxFault::Unavailable { abi } => {
                write!(f, "the kernel's Landlock has ABI {abi}; moving files needs {LEAST} (Linux 5.19)")
            }
            SandboxFault::Path { path, source } => {
                write!(f, "{}: cannot be opened for the sandbox: {source}", path.display())
            }
            SandboxFault::Rules(why) => write!(f, "the kernel does not take the sandbox: {why}"),
        }
    }
}

impl std::error::Error for SandboxFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SandboxFault::Path { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl Fault for SandboxFault {
    fn consequence(&self) -> Consequence {
        Consequence::Stop
    }
}

impl From<RulesetError> for SandboxFault {
    fn from(err: RulesetError) -> Self {
        SandboxFault::Rules(err.to_string())
    }
}

/// The Landlock ABI that kernel and program both know; 0 is none.
pub fn landlock_abi() -> u32 {
    // Asked for nothing, this changes nothing and tells what there is.
    let asked = RestrictSelf::default().no_new_privs(false).apply();
    match asked.map(|told| told.landlock) {
        Ok(LandlockStatus::Available { effective_abi, .. }) => effective_abi as u32,
        _ => 0,
    }
}

/// Rules that the kernel has taken and that hold for nobody yet.
#[derive(Debug)]
pub struct Sandbox {
    rules: RulesetCreated,
    abi: u32,
    /// The kernel makes another inode for an entry of `/proc` that it has dropped from its cache; an open
    /// one is not dropped.
    _held: Vec<OwnedFd>,
}

impl Sandbox {
    /// Makes the rules.
    ///
    /// # Errors
    ///
    /// When Landlock is not to be had, or a directory of the scope cannot be opened.
    pub fn build(scope: &Scope) -> Result<Sandbox, SandboxFault> {
        let abi = landlock_abi();
        if abi < LEAST {
            return Err(SandboxFault::Unavailable { abi });
        }
        let own = AccessFs::from_all(RIGHTS) & !(AccessFs::Execute | AccessFs::IoctlDev);
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let socket = AccessFs::MakeSock | AccessFs::RemoveFile;
        let mut rules = Ruleset::default()
            .handle_access(AccessFs::from_all(RIGHTS))?
            .handle_access(AccessNet::from_all(RIGHTS))?
            .create()?;
        for directory in &scope.own {
            rules = rules.add_rule(PathBeneath::new(directory, own))?;
        }
        for directory in &scope.sockets {
            rules = rules.add_rule(PathBeneath::new(look(directory)?, socket))?;
        }
        let mut held = Vec::new();
        let fixed = ABOUT_SELF.iter().chain(&[RANDOM]).map(Path::new);
        for path in fixed.chain(scope.read.iter().map(PathBuf::as_path)) {
            // What cannot even be looked at could not be read without the sandbox either.
            let Ok(there) = look(path) else { continue };
            rules = rules.add_rule(PathBeneath::new(there.as_fd(), read))?;
            held.push(there);
        }
        for (ports, right) in [(&scope.bind, AccessNet::BindTcp), (&scope.connect, AccessNet::ConnectTcp)] {
            for port in ports {
                rules = rules.add_rule(NetPort::new(*port, right))?;
            }
        }
        Ok(Sandbox { rules, abi, _held: held })
    }

    /// The Landlock ABI behind it, at least 2.
    pub fn abi(&self) -> u32 {
        self.abi
    }

    /// Restricts the process if the kernel can do so at once, else the calling thread and all that it starts
    /// from now on; true for the process.
    ///
    /// # Errors
    ///
    /// When the kernel refuses; nothing is restricted then.
    pub fn restrict_process(&self) -> Result<bool, SandboxFault> {
        let whole = self.abi >= ALL_THREADS;
        self.restrict(whole).map(|()| whole)
    }

    /// Restricts the calling thread and all that it starts from now on.
    ///
    /// # Errors
    ///
    /// When the kernel refuses; nothing is restricted then.
    pub fn restrict_thread(&self) -> Result<(), SandboxFault> {
        self.restrict(false)
    }

    fn restrict(&self, all_threads: bool) -> Result<(), SandboxFault> {
        let rules = self.rules.try_clone().map_err(|err| SandboxFault::Rules(err.to_string()))?;
        match rules.all_threads(all_threads)?.restrict_self()?.ruleset {
            RulesetStatus::NotEnforced => Err(SandboxFault::Rules("nothing of it was enforced".to_owned())),
            // Partially means: as far as this ABI goes.
            RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        }
    }
}

fn look(path: &Path) -> Result<OwnedFd, SandboxFault> {
    open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|err| SandboxFault::Path { path: path.to_owned(), source: err.into() })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;

    /// Runs `act` under the rules. The thread takes them with it when it ends; with ABI 8 and newer, too,
    /// only the thread is restricted.
    fn inside<T: Send + 'static>(scope: &Scope, act: impl FnOnce() -> T + Send + 'static) -> T {
        let sandbox = Sandbox::build(scope).expect("these tests need a kernel with Landlock");
        let thread = std::thread::spawn(move || {
            sandbox.restrict_thread().unwrap();
            act()
        });
        thread.join().unwrap()
    }

    #[track_caller]
    fn denied<T>(did: io::Result<T>) {
        assert_eq!(did.err().map(|err| err.kind()), Some(io::ErrorKind::PermissionDenied));
    }

    #[test]
    fn nothing_outside_can_be_read_written_or_started() {
        let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut scope = Scope::default();
        scope.own_path(own.path()).unwrap();
        fs::write(other.path().join("secret"), "1").unwrap();
        let held = fs::File::open(other.path().join("secret")).unwrap();
        let (own, other) = (own.path().to_owned(), other.path().to_owned());
        inside(&scope, move || {
            denied(fs::read("/etc/shadow"));
            denied(fs::read("/etc/passwd"));
            denied(fs::read_dir("/"));
            denied(fs::read(other.join("secret")));
            denied(fs::write(other.join("new"), "1"));
            denied(fs::remove_file(other.join("secret")));
            let linked = fs::hard_link(other.join("secret"), own.join("secret"));
            assert_eq!(
                linked.unwrap_err().kind(),
                io::ErrorKind::CrossesDevices,
                "not where it could be read"
            );
            denied(Command::new("/bin/true").status());
            denied(TcpListener::bind("127.0.0.1:0"));
            std::os::unix::fs::symlink(other.join("secret"), own.join("link")).unwrap();
            denied(fs::read(own.join("link")));
            assert_eq!(io::read_to_string(held).unwrap(), "1", "what was open stays open");
            assert!(other.join("secret").metadata().is_ok(), "looking is no opening");
        });
    }

    #[test]
    fn own_directories_can_do_all_that_filing_needs() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut scope = Scope::default();
        scope.own_path(here.path()).unwrap();
        scope.own_opened(&look(there.path()).unwrap()).unwrap();
        let (from, to) = (here.path().to_owned(), there.path().to_owned());
        rustix::fs::mknodat(
            rustix::fs::CWD,
            from.join("pipe"),
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let _socket = UnixListener::bind(from.join("socket")).unwrap();
        inside(&scope, move || {
            fs::write(from.join("file"), "12").unwrap();
            fs::write(from.join("file"), "1").unwrap();
            fs::create_dir(from.join("dir")).unwrap();
            std::os::unix::fs::symlink("file", from.join("link")).unwrap();
            for name in ["file", "dir", "link", "pipe", "socket"] {
                fs::rename(from.join(name), to.join(name)).unwrap_or_else(|err| panic!("{name}: {err}"));
            }
            assert_eq!(fs::read(to.join("link")).unwrap(), b"1");
            fs::hard_link(to.join("file"), from.join("again")).unwrap();
            fs::remove_dir(to.join("dir")).unwrap();
        });
    }

    #[test]
    fn what_may_be_read_may_not_be_written() {
        let settings = tempfile::tempdir().unwrap();
        let file = settings.path().join("config.toml");
        fs::write(&file, "old").unwrap();
        let absent = settings.path().join("absent");
        let scope = Scope { read: vec![settings.path().to_owned(), absent], ..Scope::default() };
        inside(&scope, move || {
            assert_eq!(fs::read(&file).unwrap(), b"old");
            denied(fs::write(&file, "new"));
            denied(fs::rename(&file, file.with_file_name("other")));
            assert!(fs::read_to_string("/proc/thread-self/status").unwrap().contains("NoNewPrivs:\t1"));
            assert!(fs::read_dir("/proc/self/fd").unwrap().count() > 0);
            denied(fs::read("/proc/1/status"));
            assert_eq!(fs::File::open("/dev/urandom").map(drop).map_err(|err| err.kind()), Ok(()));
        });
    }

    #[test]
    fn ports_are_bound_and_connected_to_as_named() {
        let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
        let sink = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let (closed, open) = (port(&elsewhere), port(&sink));
        let free = port(&TcpListener::bind("127.0.0.1:0").unwrap());
        let scope = Scope { bind: vec![free], connect: vec![open], ..Scope::default() };
        assert!(landlock_abi() >= 4, "this test needs rules for TCP");
        inside(&scope, move || {
            TcpListener::bind(("127.0.0.1", free)).unwrap();
            denied(TcpListener::bind("127.0.0.1:0"));
            TcpStream::connect(("127.0.0.1", open)).unwrap();
            denied(TcpStream::connect(("127.0.0.1", closed)));
        });
        let scope = Scope { bind: vec![0], ..Scope::default() };
        inside(&scope, move || {
            TcpListener::bind("127.0.0.1:0").unwrap();
            denied(TcpListener::bind(("127.0.0.1", free)));
        });
    }

    #[test]
    fn a_socket_is_made_and_removed_where_it_may_and_nothing_else() {
        let run = tempfile::tempdir().unwrap();
        let scope = Scope { sockets: vec![run.path().to_owned()], ..Scope::default() };
        let socket = run.path().join("http.sock");
        inside(&scope, move || {
            drop(UnixListener::bind(&socket).unwrap());
            fs::remove_file(&socket).unwrap();
            denied(fs::write(&socket, "1"));
        });
    }

    #[test]
    fn an_own_directory_that_is_not_there_is_named() {
        let mut scope = Scope::default();
        let fault = scope.own_path(Path::new("/nowhere/state")).unwrap_err();
        assert!(fault.to_string().starts_with("/nowhere/state: cannot be opened"), "{fault}");
    }
}
