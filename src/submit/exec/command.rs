//! Which file the command is, and whether it may be run.
//!
//! A name without a slash is looked up in `PATH`, whose relative entries are passed over: what is run
//! must not depend on what lies in the working directory. Whoever can write the file runs code as the
//! daemon, so it must belong to root or to the daemon's user and be writable by nobody else, and its
//! directory must not be writable by all (unless it is sticky).

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::process::geteuid;

const GROUP_OR_OTHERS_WRITE: u32 = 0o022;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// Who is to run the command.
#[derive(Clone, Copy)]
pub struct Runner<'a> {
    /// The user.
    pub uid: u32,
    /// Whether it has the right to run the file.
    pub may_run: &'a dyn Fn(&Path) -> bool,
}

impl Runner<'_> {
    /// This process.
    pub(super) fn us() -> Self {
        Runner { uid: geteuid().as_raw(), may_run: &|path| access(path, Access::EXEC_OK).is_ok() }
    }
}

/// Why the command cannot be run: what, where, what next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Until somebody puts it right.
    ForGood(String),
    /// The machine is short of something, or the file is just being replaced.
    ForNow(String),
}

impl Unfit {
    /// It was found and could not be started.
    pub(super) fn of_start(program: &Path, err: &io::Error) -> Unfit {
        let busy = matches!(
            err.kind(),
            ErrorKind::WouldBlock | ErrorKind::OutOfMemory | ErrorKind::ExecutableFileBusy
        );
        let shown = program.display();
        // No descriptors left, in this process or on this machine.
        if busy || matches!(err.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) {
            return Unfit::ForNow(format!("exec: {shown:?} cannot be started now: {err}"));
        }
        Unfit::ForGood(format!(
            "exec: {shown:?} cannot be started: {err}; check sink.exec.command, its first line and its rights"
        ))
    }
}

/// The file that `command` means, if `runner` may run it. `search` is the value of `PATH`.
pub(super) fn find(command: &Path, search: Option<&OsStr>, runner: Runner<'_>) -> Result<PathBuf, Unfit> {
    if command.as_os_str().as_encoded_bytes().contains(&b'/') {
        judge(command, runner)?;
        return Ok(command.to_owned());
    }
    let places = search.map(|list| std::env::split_paths(list).collect::<Vec<_>>()).unwrap_or_default();
    let mut refused = None;
    for place in places.iter().filter(|place| place.is_absolute()) {
        let path = place.join(command);
        if !path.is_file() {
            continue;
        }
        match judge(&path, runner) {
            Ok(()) => return Ok(path),
            // As a shell does: something of this name that is not executable hides nothing.
            Err(unfit) if (runner.may_run)(&path) => return Err(unfit),
            Err(unfit) => refused = refused.or(Some(unfit)),
        }
    }
    Err(refused.unwrap_or_else(|| {
        Unfit::ForGood(format!(
            "exec: {:?}: executable file not found in $PATH; install it or set sink.exec.command",
            command.display().to_string()
        ))
    }))
}

fn judge(path: &Path, runner: Runner<'_>) -> Result<(), Unfit> {
    let unfit = |what: String, next: &str| {
        Err(Unfit::ForGood(format!("exec: {:?}: {what}; {next}", path.display().to_string())))
    };
    let seen = match fs::metadata(path) {
        Ok(seen) => seen,
        Err(err) if err.kind() == ErrorKind::NotFound => {
            return unfit("no such file or directory".into(), "install it or set sink.exec.command");
        }
        Err(err) => return unfit(err.to_string(), "give the daemon's user the right to run it"),
    };
    if !seen.is_file() {
        return unfit("is no plain file".into(), "set sink.exec.command to an executable");
    }
    if !(runner.may_run)(path) {
        return unfit("permission denied, not executable".into(), "chmod +x it");
    }
    let mode = seen.mode() & 0o7777;
    if mode & GROUP_OR_OTHERS_WRITE != 0 {
        return unfit(format!("others than its owner may write it (mode {mode:04o})"), "chmod go-w it");
    }
    let owner = seen.uid();
    if owner != 0 && owner != runner.uid {
        return unfit(format!("belongs to uid {owner}, neither root nor the daemon's user"), "chown it");
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder_mode = fs::metadata(folder).map_or(0, |seen| seen.mode());
    if folder_mode & OTHERS_WRITE != 0 && folder_mode & STICKY == 0 {
        return unfit(format!("anybody may replace it in {}", folder.display()), "chmod o-w that directory");
    }
    Ok(())
}
