//! Putting files into the handoff folder so that neither a reader nor a power cut sees half of one.
//!
//! Order of acts: every file written under a name that is work in progress, group-readable, flushed → each
//! renamed to its own name, replacing nothing → folder flushed. Where the last steps fail, what is there
//! stays and is told.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::Dropped;
use crate::clock::{Clock as _, SystemClock, Wall};
use crate::commands::Failure;
use crate::config::Watch;
use crate::fate::Sha;
use crate::pipeline::rename_new;
use crate::watch::{Names, Pattern};

/// Readable for the daemon's group.
const MODE: u32 = 0o640;
/// Bytes kept of a stem when a name has to be made.
const STEM: usize = 100;
/// Names that are tried before it is given up.
const NAMES: u32 = 10_000;

/// The handoff folder.
pub(super) struct Folder {
    dir: PathBuf,
    names: Names,
    glob: String,
    group: u32,
}

/// A file that is written and has no name yet.
struct Draft {
    path: PathBuf,
    name: String,
    sha: Sha,
    file: String,
}

impl Folder {
    pub(super) fn open(watch: &Watch) -> Result<Folder, Failure> {
        let pattern = Pattern::new(&watch.pattern).map_err(|fault| format!("watch.pattern: {fault}"))?;
        let dir = watch.handoff.clone();
        let seen = fs::metadata(&dir).map_err(|err| {
            format!(
                "handoff folder {}: {err}; name it with --handoff, or start the daemon, which makes it",
                dir.display()
            )
        })?;
        if !seen.is_dir() {
            return Err(format!("handoff folder {}: not a directory", dir.display()).into());
        }
        Ok(Folder { dir, names: Names::new(pattern), glob: watch.pattern.clone(), group: seen.gid() })
    }

    /// Drops all files, in their order.
    pub(super) fn drop_all(
        &self,
        files: &[(&Path, Vec<u8>)],
        wanted: Option<&str>,
    ) -> Result<Vec<Dropped>, Failure> {
        let mut drafts = Vec::with_capacity(files.len());
        let now = SystemClock.wall().0;
        for (number, (file, bytes)) in files.iter().enumerate() {
            let written = self.name_for(file, wanted, bytes).and_then(|name| {
                let path = self.dir.join(format!(".submit-{}-{now}-{number}.tmp", std::process::id()));
                self.write(&path, bytes).map_err(|err| format!("{}: {err}", path.display()))?;
                Ok(Draft { path, name, sha: Sha::of(bytes), file: file.to_string_lossy().into_owned() })
            });
            match written {
                Ok(draft) => drafts.push(draft),
                Err(message) => {
                    // They have no name yet: nobody has seen them.
                    drafts.iter().for_each(|draft: &Draft| _ = fs::remove_file(&draft.path));
                    return Err(format!("{message}; nothing was dropped").into());
                }
            }
        }
        self.place_all(drafts)
    }

    fn place_all(&self, drafts: Vec<Draft>) -> Result<Vec<Dropped>, Failure> {
        let (mut dropped, all) = (Vec::with_capacity(drafts.len()), drafts.len());
        let mut failed = None;
        for draft in drafts {
            if failed.is_some() {
                let _ = fs::remove_file(&draft.path);
                continue;
            }
            match self.place(draft) {
                Ok(one) => dropped.push(one),
                Err(message) => failed = Some(message),
            }
        }
        let flushed = File::open(&self.dir).and_then(|dir| dir.sync_all());
        let failed = failed.or_else(|| {
            flushed.err().map(|err| format!("the folder cannot be flushed, a power cut may take them: {err}"))
        });
        match failed {
            None => Ok(dropped),
            Some(message) => {
                let names: Vec<&str> = dropped.iter().map(|one: &Dropped| &*one.name).collect();
                Err(format!("{} of {all} files dropped ({}), then: {message}", names.len(), names.join(", "))
                    .into())
            }
        }
    }

    fn place(&self, draft: Draft) -> Result<Dropped, String> {
        let Draft { path, name: wanted, sha, file } = draft;
        let at = whole_milliseconds(SystemClock.wall());
        for number in 1..=NAMES {
            let name = numbered(&wanted, number);
            if !self.names.is_intent(name.as_bytes()) {
                break;
            }
            match rename_new(&path, &self.dir.join(&name)) {
                Ok(()) => return Ok(Dropped { file, name, sha, at, status: None }),
                Err(err) if err.kind() == ErrorKind::AlreadyExists => {}
                Err(err) => {
                    let _ = fs::remove_file(&path);
                    return Err(format!("{name}: {err}"));
                }
            }
        }
        let _ = fs::remove_file(&path);
        Err(format!(
            "the name {wanted} is taken, and no other like it fits watch.pattern {}; give one with --name",
            self.glob
        ))
    }

    /// The name to drop a file under: the wanted one, its own if that is an intent's, else one made of it.
    fn name_for(&self, file: &Path, wanted: Option<&str>, bytes: &[u8]) -> Result<String, String> {
        let fits = |name: &str| !name.contains('/') && self.names.is_intent(name.as_bytes());
        let pattern = &self.glob;
        if let Some(name) = wanted {
            return match fits(name) {
                true => Ok(name.to_owned()),
                false => Err(format!(
                    "--name {name}: the daemon takes no file of this name (watch.pattern {pattern})"
                )),
            };
        }
        let own = (file != Path::new("-")).then(|| file.file_name()?.to_str()).flatten();
        if let Some(name) = own.filter(|name| fits(name)) {
            return Ok(name.to_owned());
        }
        let stem = match own.and_then(|name| Path::new(name).file_stem()?.to_str()) {
            Some(stem) => plain(stem),
            None => Sha::of(bytes).to_string()[..8].to_owned(),
        };
        let (before, after) = pattern.split_once('*').unwrap_or((pattern, ""));
        let stem = stem.strip_prefix(before).unwrap_or(&stem);
        let made = format!("{before}{stem}{}", after.replace('*', ""));
        match fits(&made) {
            true => Ok(made),
            false => Err(format!(
                "{}: its name does not fit watch.pattern {pattern}; give one with --name",
                file.display()
            )),
        }
    }

    /// A new file, readable for the group of the folder, flushed.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
        // Whoever is not of the folder's group cannot give files to it; the daemon may read them all the same.
        let _ = std::os::unix::fs::fchown(&file, None, Some(self.group));
        file.set_permissions(fs::Permissions::from_mode(MODE))
            .and_then(|()| file.write_all(bytes))
            .and_then(|()| file.sync_all())
            .inspect_err(|_| _ = fs::remove_file(path))
    }
}

/// `<stem>-<number>.<ext>`; the name itself for the first.
fn numbered(name: &str, number: u32) -> String {
    match (number, name.rsplit_once('.')) {
        (1, _) => name.to_owned(),
        (_, Some((stem, ext))) if !stem.is_empty() => format!("{stem}-{number}.{ext}"),
        _ => format!("{name}-{number}"),
    }
}

/// Letters, digits, dots, dashes and underscores; everything else becomes a dash.
fn plain(stem: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    stem.chars().map(plain).take(STEM).collect()
}

/// As coarse as the times of status documents, so that they can be compared.
fn whole_milliseconds(at: Wall) -> Wall {
    Wall(at.0 - at.0.rem_euclid(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(glob: &str) -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let watch = Watch {
            handoff: dir.path().into(),
            pattern: glob.into(),
            ..crate::config::Config::default().watch
        };
        let folder = Folder::open(&watch).unwrap();
        (dir, folder)
    }

    fn name(glob: &str, file: &str) -> Result<String, String> {
        folder(glob).1.name_for(Path::new(file), None, b"{}")
    }

    #[test]
    fn a_file_keeps_its_name_if_that_is_an_intents_and_else_gets_one_like_it() {
        const GLOB: &str = "intent-*.json";
        assert_eq!(name(GLOB, "a/intent-7.json").unwrap(), "intent-7.json");
        assert_eq!(name(GLOB, "a/scale odu.yaml").unwrap(), "intent-scale-odu.json");
        assert_eq!(name(GLOB, "intent-7.txt").unwrap(), "intent-7.json");
        assert_eq!(name(GLOB, "-").unwrap(), "intent-44136fa3.json");
        assert_eq!(name(GLOB, "/").unwrap(), "intent-44136fa3.json");
        assert_eq!(name("*", "notes.txt").unwrap(), "notes.txt");
        assert_eq!(name("*", "draft.tmp").unwrap(), "draft");
        assert!(name("only.json", "other.json").unwrap_err().contains("--name"));
        assert!(name("intent-[0-9].json", "other.json").unwrap_err().contains("--name"));
    }

    #[test]
    fn a_wanted_name_must_be_an_intents() {
        let (_dir, folder) = folder("intent-*.json");
        let wanted = |name| folder.name_for(Path::new("-"), Some(name), b"{}");
        assert_eq!(wanted("intent-x.json").unwrap(), "intent-x.json");
        for name in ["x.json", ".intent-x.json", "intent-../x.json", "intent-\n.json"] {
            assert!(wanted(name).unwrap_err().contains("takes no file"), "{name:?}");
        }
    }

    #[test]
    fn a_taken_name_gives_way_and_nothing_half_done_is_left() {
        let (dir, folder) = folder("intent-*.json");
        fs::write(dir.path().join("intent-7.json"), b"old").unwrap();
        let file = |text: &str| (Path::new("intent-7.json"), text.as_bytes().to_vec());
        let dropped = folder.drop_all(&[file("one"), file("two")], None).unwrap();
        let names: Vec<&str> = dropped.iter().map(|one| &*one.name).collect();
        assert_eq!(names, ["intent-7-2.json", "intent-7-3.json"]);
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!([read("intent-7.json"), read(names[0]), read(names[1])], ["old", "one", "two"]);
        let seen = fs::metadata(dir.path().join(names[0])).unwrap();
        assert_eq!((seen.mode() & 0o777, seen.nlink()), (0o640, 1));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_file_without_a_fitting_name_keeps_all_from_being_dropped() {
        let (dir, folder) = folder("intent-[0-9].json");
        let files = [(Path::new("intent-1.json"), b"1".to_vec()), (Path::new("x.json"), b"2".to_vec())];
        let message = folder.drop_all(&files, None).err().unwrap().message;
        assert!(message.ends_with("nothing was dropped"), "{message}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
