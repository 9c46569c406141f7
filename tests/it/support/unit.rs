//! The shipped unit, and a daemon that runs under its restrictions without systemd.
//!
//! A mount namespace stands for `ProtectSystem=strict`, `ReadWritePaths=`, `PrivateTmp=`, `PrivateDevices=`,
//! `ProtectHome=`, `ProtectProc=` and the tunables; `setpriv` for user, groups, capabilities and
//! `NoNewPrivileges=`; the shell for limits and umask; `env` for the environment. The filter of system calls
//! is not applied but compared with what the daemon calls, see `restricted`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use super::place::{NOBODY, Place, privileged};
use super::run::Ran;

/// Where the program stands inside, instead of `/usr/bin/conductor-loop`.
const PROGRAM: &str = "/mnt/conductor-loop";

/// The group of the producers, and so of the daemon.
pub(crate) const DROPPERS: u32 = 61_234;

/// Run as root in a mount namespace of its own, with the folders as `$1` (handoff), `$2` (out), `$3` (state),
/// `$4` (program); the rest is what to become.
const ENTER: &str = r#"set -eu
handoff=$1 out=$2 state=$3 program=$4; shift 4
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs /mnt
touch /mnt/conductor-loop
mount --bind "$program" /mnt/conductor-loop
# The places of the unit, over copies in memory of their parents.
for parent in /var/spool /var/lib; do mount -t tmpfs -o mode=0755 tmpfs "$parent"; done
for pair in "/var/spool/conductor-loop $handoff" "/var/spool/conductor-loop-out $out" "/var/lib/conductor-loop $state"; do
    mkdir "${pair%% *}"
    mount --bind "${pair#* }" "${pair%% *}"
done
mount -t tmpfs -o mode=0755,nosuid,noexec tmpfs /run
mkdir /mnt/dev
mount -t tmpfs -o mode=0755,nosuid,noexec tmpfs /mnt/dev
for node in null zero full random urandom tty; do touch /mnt/dev/$node; mount --bind /dev/$node /mnt/dev/$node; done
mount --move /mnt/dev /dev
for hidden in /home /root; do mount -t tmpfs -o mode=0000 tmpfs $hidden; done
for private in /tmp /var/tmp; do mount -t tmpfs -o mode=1777 tmpfs $private; done
mount -t proc -o hidepid=2 proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
# Everything that stands outside /proc and the folders is read-only now.
while read -r _ _ _ _ at _; do
    case $at in
    /proc*|/var/spool/conductor-loop*|/var/lib/conductor-loop*|/tmp|/var/tmp) ;;
    # Some are hidden by what was mounted over them; what counts is tried below.
    *) mount -o remount,bind,ro "$at" 2> /dev/null || : ;;
    esac
done < /proc/self/mountinfo
for closed in / /etc /usr /var/spool /var/lib /run /mnt /proc/sys; do
    ! touch $closed/probe 2> /dev/null || { echo "$closed can be written to" >&2; exit 97; }
done
exec "$@"
"#;

/// The words of one unit file, in the order of its lines.
pub(crate) struct Unit(Vec<(String, String)>);

impl Unit {
    /// What is shipped in `systemd/`.
    pub(crate) fn shipped() -> Unit {
        let text = fs::read_to_string("systemd/conductor-loop.service").unwrap();
        let lines = text.lines().filter(|line| !line.starts_with(['#', '[']));
        let pairs = lines.filter_map(|line| line.split_once('='));
        Unit(pairs.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect())
    }

    /// Every assignment of a key.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The only assignment of a key.
    #[track_caller]
    pub(crate) fn one<'a>(&'a self, key: &'a str) -> &'a str {
        let found: Vec<&str> = self.all(key).collect();
        assert_eq!(found.len(), 1, "{key} stands once in the unit: {found:?}");
        found[0]
    }

    /// `CAP_LEASE` as `setpriv` writes the set that holds nothing else.
    #[track_caller]
    fn capabilities(&self, key: &str) -> String {
        let kept = self.one(key).split_whitespace().map(|name| {
            format!(",+{}", name.strip_prefix("CAP_").expect("capabilities begin with CAP_").to_lowercase())
        });
        std::iter::once("-all".to_owned()).chain(kept).collect()
    }

    /// A command that runs `args` of the program under the unit's restrictions on the folders of `place`, which
    /// must come from [`Unit::place`]. `before` wraps all of it, for tracing.
    ///
    /// Without root only environment, limits, `NoNewPrivileges=` and the daemon's own sandbox are as in the
    /// unit: the daemon runs as the user of the tests.
    #[track_caller]
    pub(crate) fn command(&self, place: &Place, before: &[&str], args: &[&str]) -> Command {
        for (key, value) in [("ProtectSystem", "strict"), ("NoNewPrivileges", "yes"), ("PrivateTmp", "yes")] {
            assert_eq!(self.one(key), value, "{key} is what this run stands for");
        }
        let mut words: Vec<String> = before.iter().map(|word| (*word).to_owned()).collect();
        words.extend(if privileged() { self.enter(place) } else { self.stay(place) });
        words.extend(["--no-new-privs".to_owned(), self.program(place)]);
        words.extend(args.iter().map(|word| (*word).to_owned()));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir("/");
        command
    }

    /// The path under which [`Unit::command`] starts the program.
    pub(crate) fn program(&self, place: &Place) -> String {
        if privileged() { PROGRAM.to_owned() } else { plain(place.program()) }
    }

    fn enter(&self, place: &Place) -> Vec<String> {
        let paths = self.one("ReadWritePaths").split_whitespace();
        let written: BTreeSet<&str> = paths.map(|path| path.trim_start_matches('-')).collect();
        assert_eq!(written, ["/var/spool/conductor-loop", "/var/spool/conductor-loop-out"].into());
        let mut words = ["unshare", "--mount", "sh", "-c", ENTER, "enter"].map(str::to_owned).to_vec();
        words.extend([place.handoff(), place.out(), place.state(), place.program().to_owned()].map(plain));
        words.extend(self.limits());
        words.push(format!("STATE_DIRECTORY=/var/lib/{}", self.one("StateDirectory")));
        words.extend(self.all("Environment").map(str::to_owned));
        let (bounding, ambient) =
            (self.capabilities("CapabilityBoundingSet"), self.capabilities("AmbientCapabilities"));
        words.extend(["setpriv", "--clear-groups"].map(str::to_owned));
        words.extend([
            format!("--reuid={NOBODY}"),
            format!("--regid={DROPPERS}"),
            format!("--bounding-set={bounding}"),
            format!("--inh-caps={ambient}"),
            format!("--ambient-caps={ambient}"),
        ]);
        words
    }

    #[track_caller]
    fn stay(&self, place: &Place) -> Vec<String> {
        assert!(std::env::var_os("CI").is_none(), "run the tests as root: CI proves the whole unit");
        let mut words = self.limits();
        words.push(format!("STATE_DIRECTORY={}", plain(place.state())));
        words.push(format!("CONDUCTOR_LOOP_WATCH_HANDOFF={}", plain(place.handoff())));
        words.push(format!("CONDUCTOR_LOOP_SINK_FOLDER_OUT={}", plain(place.out())));
        words.push("setpriv".to_owned());
        words
    }

    /// Limits and the part of the environment that does not name a place.
    fn limits(&self) -> Vec<String> {
        let (umask, files, core) = (self.one("UMask"), self.one("LimitNOFILE"), self.one("LimitCORE"));
        let set = format!(
            "umask {umask}; ulimit -n {files}; ulimit -c {core}; export SYSTEMD_EXEC_PID=$$; exec env \"$@\""
        );
        let clean = ["env", "-i", "PATH=/usr/bin:/bin", "sh", "-c", &set, "limits", "INVOCATION_ID=0af3"];
        let mut words = clean.map(str::to_owned).to_vec();
        words.push("CONDUCTOR_LOOP_HTTP_LISTEN=127.0.0.1:0".to_owned());
        words
    }

    /// A place with the owners and modes that the packaged folders have.
    pub(crate) fn place() -> Place {
        let place = Place::unprivileged();
        if privileged() {
            chown(place.handoff(), Some(NOBODY), Some(DROPPERS)).unwrap();
            for (folder, mode) in [(place.handoff(), 0o3770), (place.out(), 0o755), (place.state(), 0o700)] {
                fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        place
    }

    /// The system calls that pass the unit's filter, as the installed systemd reads its groups.
    #[track_caller]
    pub(crate) fn allowed_calls(&self) -> BTreeSet<String> {
        let told =
            Ran::of(Command::new("systemd-analyze").args(["--no-pager", "syscall-filter"])).ended(0).stdout;
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut group = "";
        for line in told.lines().map(|line| line.split('#').next().unwrap_or_default()) {
            match (line.starts_with('@'), line.trim()) {
                (_, "") => {}
                (true, name) => group = name,
                (false, member) => groups.entry(group).or_default().push(member),
            }
        }
        let mut allowed = BTreeSet::new();
        expand("@default", &groups, &mut |call| _ = allowed.insert(call.to_owned()));
        for line in self.all("SystemCallFilter") {
            let (takes_away, words) = match line.strip_prefix('~') {
                Some(words) => (true, words),
                None => (false, line),
            };
            for word in words.split_whitespace() {
                expand(word, &groups, &mut |call| match takes_away {
                    true => _ = allowed.remove(call),
                    false => _ = allowed.insert(call.to_owned()),
                });
            }
        }
        allowed
    }
}

/// The calls of a group and of the groups in it.
#[track_caller]
fn expand<'a>(word: &'a str, groups: &BTreeMap<&'a str, Vec<&'a str>>, each: &mut dyn FnMut(&str)) {
    match word.starts_with('@') {
        false => each(word),
        true => {
            let members = groups.get(word).unwrap_or_else(|| panic!("systemd knows no group {word}"));
            members.iter().for_each(|member| expand(member, groups, each));
        }
    }
}

fn plain(path: impl AsRef<Path>) -> String {
    path.as_ref().to_str().expect("temporary folders have plain names").to_owned()
}
