//! A root of its own for systemd's tools.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// One of systemd's programs. A test without it fails: what it judges is not judged otherwise.
#[track_caller]
pub(super) fn tool(name: &str) -> Command {
    let missing = Command::new(name).arg("--version").output().is_err();
    assert!(!missing, "{name} is missing: install systemd 252 or newer (it need not be running)");
    let mut command = Command::new(name);
    command.env("LC_ALL", "C").env("SYSTEMD_COLORS", "0").env("SYSTEMD_LOG_LEVEL", "info");
    command
}

/// The version of systemd's tools.
#[track_caller]
pub(super) fn version() -> u32 {
    let told = ran(tool("systemd-analyze").arg("--version")).1;
    let number = told.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    number.unwrap_or_else(|| panic!("no version in {told:?}"))
}

/// Exit code, what it told, what it complained of.
#[track_caller]
fn ran(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("tools speak UTF-8");
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// The files of `systemd/` where the package puts them, and what the units name.
pub(super) struct Tree(TempDir);

impl Tree {
    pub(super) fn new() -> Tree {
        let tree = Tree(tempfile::tempdir().unwrap());
        for (from, to) in [
            ("systemd", "usr/lib/systemd/system"),
            ("systemd/sysusers.d", "usr/lib/sysusers.d"),
            ("systemd/tmpfiles.d", "usr/lib/tmpfiles.d"),
        ] {
            for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_file() {
                    let to = tree.made(to).join(entry.file_name());
                    fs::copy(entry.path(), to).unwrap();
                }
            }
        }
        for target in ["sysinit", "basic", "shutdown", "multi-user"] {
            let text = format!("[Unit]\nDescription={target}\n");
            fs::write(tree.made("usr/lib/systemd/system").join(format!("{target}.target")), text).unwrap();
        }
        for program in ["usr/bin/conductor-loop", "usr/bin/install", "bin/kill"] {
            let (folder, name) = program.rsplit_once('/').expect("has a folder");
            let path = tree.made(folder).join(name);
            fs::write(&path, "#!/bin/sh\n").unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        tree.made("etc");
        tree
    }

    pub(super) fn root(&self) -> &Path {
        self.0.path()
    }

    fn made(&self, folder: &str) -> std::path::PathBuf {
        let path = self.root().join(folder);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A file of the tree.
    #[track_caller]
    pub(super) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap_or_else(|err| panic!("{path}: {err}"))
    }

    /// Puts a sample where its comment says.
    pub(super) fn drop_in(&self, sample: &str) {
        let to = self.made("etc/systemd/system/conductor-loop.service.d").join(sample);
        fs::copy(Path::new("systemd/examples").join(sample), to).unwrap();
    }

    /// What `systemd-analyze verify` ends with and says.
    #[track_caller]
    pub(super) fn verify(&self, unit: &str) -> (i32, String) {
        let root = format!("--root={}", self.root().display());
        let (code, told, complained) = ran(tool("systemd-analyze").args(["verify", &root, unit]));
        (code, told + &complained)
    }

    /// The figure of `systemd-analyze security`.
    #[track_caller]
    pub(super) fn exposure(&self, unit: &Path) -> f64 {
        let (code, told, complained) =
            ran(tool("systemd-analyze").args(["security", "--offline=true", "--no-pager"]).arg(unit));
        let figure = told.lines().find_map(|line| {
            let rest = line.split_once("Overall exposure level for ")?.1.split_once(": ")?.1;
            rest.split_whitespace().next()?.parse().ok()
        });
        figure.unwrap_or_else(|| panic!("exit code {code}, no figure in {told}{complained}"))
    }

    /// Users and groups to begin with: root, and where the tests are not root, theirs under our names.
    pub(super) fn with_users(&self, privileged: bool) {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let mut passwd = "root:x:0:0:root:/root:/bin/sh\n".to_owned();
        let mut group = "root:x:0:\n".to_owned();
        if !privileged {
            passwd.push_str(&format!(
                "conductor-loop:x:{uid}:{gid}::/var/lib/conductor-loop:/usr/sbin/nologin\n"
            ));
            group.push_str(&format!("intent-drop:x:{gid}:\nconductor-loop:x:{gid}:\n"));
        }
        fs::write(self.root().join("etc/passwd"), passwd).unwrap();
        fs::write(self.root().join("etc/group"), group).unwrap();
    }

    /// Leaves out the folder of root, which only root can make.
    pub(super) fn only_own_folders(&self) {
        let path = self.root().join("usr/lib/tmpfiles.d/conductor-loop.conf");
        let text = fs::read_to_string(&path).unwrap();
        let own: Vec<&str> = text.lines().filter(|line| !line.contains("conductor-loops")).collect();
        fs::write(path, own.join("\n") + "\n").unwrap();
    }

    /// Runs a tool on the tree; it must have nothing to complain of.
    #[track_caller]
    pub(super) fn runs_clean(&self, tool: &mut Command) {
        let (code, _, complained) = ran(tool.arg(format!("--root={}", self.root().display())));
        let faults: Vec<&str> = complained.lines().filter(|line| !line.starts_with("Creating ")).collect();
        assert_eq!((code, faults), (0, Vec::new()), "{tool:?}");
    }

    /// Writes a file as a producer with a narrow umask does.
    #[track_caller]
    pub(super) fn drop_with_umask_077(&self, path: &Path) -> fs::Metadata {
        let written = Command::new("sh").args(["-c", "umask 077 && : > \"$0\""]).arg(path).status().unwrap();
        assert!(written.success(), "{}", path.display());
        fs::metadata(path).unwrap()
    }
}
