//! What is mounted where, and what should be: `mountinfo`, `fstab` and mount units.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// One mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// Where.
    pub(super) at: PathBuf,
    /// `ext4`, `nfs4`, `fuse.sshfs`.
    pub(super) kind: String,
    /// `/dev/sda1`, `server:/export`.
    pub(super) source: String,
    /// Mounted, or turned, read-only.
    pub(super) read_only: bool,
}

/// A mount that somebody has planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planned {
    /// Where.
    pub(super) at: PathBuf,
    /// Who plans it: `/etc/fstab`, or the unit's file.
    pub(super) by: String,
    /// Not at start, but on demand (`noauto`).
    pub(super) on_demand: bool,
}

/// All mounts, in the order in which they were made.
#[derive(Debug, Clone, Default)]
pub(super) struct Mounts(Vec<Mount>);

impl Mounts {
    /// As the process `pid` sees them, if we may know, else as we do.
    pub(super) fn read(pid: Option<u32>) -> Mounts {
        let of = |which: &str| fs::read_to_string(format!("/proc/{which}/mountinfo")).ok();
        let text =
            pid.and_then(|pid| of(&pid.to_string())).filter(|text| !text.is_empty()).or_else(|| of("self"));
        Mounts::parse(&text.unwrap_or_default())
    }

    fn parse(text: &str) -> Mounts {
        Mounts(text.lines().filter_map(mount).collect())
    }

    /// The mount that holds `path`, which must be absolute and without links.
    pub(super) fn of(&self, path: &Path) -> Option<&Mount> {
        let around = self.0.iter().filter(|mount| path.starts_with(&mount.at));
        // Of two at one place the later covers the earlier.
        around.max_by_key(|mount| mount.at.components().count())
    }

    /// The planned mounts around `path` that are not there.
    pub(super) fn missing<'p>(&self, planned: &'p [Planned], path: &Path) -> Vec<&'p Planned> {
        let around = planned.iter().filter(|planned| path.starts_with(&planned.at));
        around.filter(|planned| !self.0.iter().any(|mount| mount.at == planned.at)).collect()
    }
}

/// One line: `id parent major:minor root at options [tags] - kind source super-options`.
fn mount(line: &str) -> Option<Mount> {
    let (mine, of_all) = line.split_once(" - ")?;
    let mine: Vec<&str> = mine.split(' ').collect();
    let of_all: Vec<&str> = of_all.split(' ').collect();
    let is_read_only =
        |options: Option<&&str>| options.is_some_and(|it| it.split(',').any(|word| word == "ro"));
    Some(Mount {
        at: plain(mine.get(4)?),
        kind: (*of_all.first()?).to_owned(),
        source: (*of_all.get(1)?).to_owned(),
        read_only: is_read_only(mine.get(5)) || is_read_only(of_all.get(2)),
    })
}

/// A path with the kernel's `\040` for a blank and the like undone.
fn plain(text: &str) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped =
            digits.filter(|_| *first == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[3..] } else { tail };
    }
    OsString::from_vec(bytes).into()
}

/// What `/etc/fstab` and the mount units of the administrator plan.
pub(super) fn planned() -> Vec<Planned> {
    let mut planned = of_fstab(&fs::read_to_string("/etc/fstab").unwrap_or_default());
    let units = fs::read_dir("/etc/systemd/system").into_iter().flatten().filter_map(Result::ok);
    for path in units.map(|unit| unit.path()).filter(|path| path.extension().is_some_and(|it| it == "mount"))
    {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let place = text.lines().find_map(|line| line.trim().strip_prefix("Where="));
        planned.extend(place.map(|at| Planned {
            at: at.trim().into(),
            by: path.display().to_string(),
            on_demand: false,
        }));
    }
    planned
}

fn of_fstab(text: &str) -> Vec<Planned> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let planned = lines.filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let at = plain(fields.get(1)?);
        let options = fields.get(3).copied().unwrap_or_default();
        at.is_absolute().then(|| Planned {
            at,
            by: "/etc/fstab".to_owned(),
            on_demand: options.split(',').any(|word| word == "noauto" || word == "x-systemd.automount"),
        })
    });
    planned.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
30 27 8:1 / /srv/two\\040words rw shared:4 - xfs /dev/sda1 rw
31 27 8:2 / /srv/in ro,relatime - ext4 /dev/sdb1 rw
32 31 0:44 / /srv/in rw - nfs4 server:/export ro,vers=4.2
";

    #[test]
    fn the_innermost_and_latest_mount_holds_a_path() {
        let mounts = Mounts::parse(MOUNTS);
        let of = |path: &str| mounts.of(Path::new(path)).unwrap();
        assert_eq!(of("/var/lib").kind, "ext4");
        assert_eq!(
            (of("/srv/two words/a").source.as_str(), of("/srv/two words").read_only),
            ("/dev/sda1", false)
        );
        let covered = of("/srv/in/handoff");
        assert_eq!((covered.kind.as_str(), covered.read_only), ("nfs4", true));
        assert_eq!(of("/srv/inner").kind, "ext4", "a name that only begins alike");
    }

    #[test]
    fn a_planned_mount_that_is_not_there_is_missing() {
        let fstab = "# a comment\nUUID=1 / ext4 defaults 0 1\nserver:/x /srv/in nfs4 defaults 0 0\n\
                     LABEL=spool /srv/spool xfs noauto 0 0\n/swap none swap sw 0 0\n";
        let planned = of_fstab(fstab);
        assert_eq!(planned.len(), 3);
        let mounts = Mounts::parse(MOUNTS);
        assert!(mounts.missing(&planned, Path::new("/srv/in/handoff")).is_empty());
        let missing = mounts.missing(&planned, Path::new("/srv/spool/handoff"));
        assert_eq!((missing.len(), missing[0].on_demand), (1, true));
    }

    #[test]
    fn the_mounts_of_this_process_are_read() {
        assert!(Mounts::read(None).of(Path::new("/proc/self")).is_some_and(|mount| mount.kind == "proc"));
    }
}
