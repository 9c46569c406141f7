//! Blueprints: whole workloads of the site, written into packages with only `spec.replicas` changed.
//!
//! `DIR/<namespace>/<kind>-<name>.yaml` wins over `DIR/<kind>-<name>.yaml`. A blueprint is one
//! document of block-style YAML, UTF-8, at most 1 MiB. Its text is edited, never rewritten: comments,
//! order and formatting survive. The edit is planned once for each version of the file and proved
//! there and then: the edited text must read back as the original with exactly the count, our label
//! and our annotations changed, else the blueprint is refused.
//!
//! Plans are cached by (inode, size, mtime, ctime), at most 1,024 of them with 8 MiB of text together;
//! a full cache is emptied. A lookup that hits costs one or two `stat` calls.

mod edit;

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::yaml::push_decimal;
use super::{MANAGER, Stamp};
use crate::error::{Consequence, Fault};
use crate::intent::Target;

/// Largest blueprint, in bytes.
pub const MAX_BLUEPRINT: u64 = 1 << 20;

const CACHED_PLANS: usize = 1024;
const CACHED_TEXT: usize = 8 << 20;

/// A workload of the site and where our values go into its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blueprint {
    text: String,
    pieces: Vec<edit::Piece>,
}

impl Blueprint {
    /// Plans and proves the edit of `text`, which is to be the workload of `target`.
    ///
    /// # Errors
    ///
    /// What is wrong with the text and how to put it right, for the producer and the operator.
    pub fn parse(text: String, target: &Target) -> Result<Self, String> {
        edit::plan(text, target)
    }

    /// Appends the workload with this stamp and count.
    pub(super) fn render(&self, out: &mut Vec<u8>, stamp: &Stamp<'_>, replicas: u32) {
        for piece in &self.pieces {
            match piece {
                edit::Piece::Text(range) => out.extend_from_slice(&self.text.as_bytes()[range.clone()]),
                edit::Piece::New(text) => out.extend_from_slice(text.as_bytes()),
                edit::Piece::Manager => out.extend_from_slice(MANAGER.as_bytes()),
                edit::Piece::Value(mark) => mark.push_value(out, stamp),
                edit::Piece::Replicas => push_decimal(out, u64::from(replicas)),
            }
        }
    }
}

/// Why there is no blueprint to render from.
#[derive(Debug)]
pub enum BlueprintFault {
    /// The directory or the file cannot be read now; the intent waits.
    Unreachable {
        /// Directory or file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The file is there and cannot serve; the intent is refused, `render-failed`.
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong and how to put it right.
        cause: Arc<str>,
    },
}

impl fmt::Display for BlueprintFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlueprintFault::Unreachable { path, cause } => write!(
                f,
                "cannot read blueprint {}: {cause}: make it readable for the daemon or correct \
                 package.blueprints",
                path.display()
            ),
            BlueprintFault::Unusable { path, cause } => write!(f, "blueprint {}: {cause}", path.display()),
        }
    }
}

impl std::error::Error for BlueprintFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BlueprintFault::Unreachable { cause, .. } => Some(cause),
            BlueprintFault::Unusable { .. } => None,
        }
    }
}

impl Fault for BlueprintFault {
    fn consequence(&self) -> Consequence {
        match self {
            BlueprintFault::Unreachable { .. } => Consequence::Retry,
            BlueprintFault::Unusable { .. } => Consequence::Refuse,
        }
    }
}

/// Which version of a file a plan was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    ino: u64,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl Version {
    fn of(meta: &Metadata) -> Self {
        Version {
            ino: meta.ino(),
            size: meta.size(),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            ctime: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

type Plan = Result<Arc<Blueprint>, Arc<str>>;

/// The blueprints of a directory, with the plans of those used lately.
#[derive(Debug)]
pub struct Blueprints {
    dir: PathBuf,
    plans: HashMap<PathBuf, (Version, Plan)>,
    cached: usize,
}

impl Blueprints {
    /// The blueprints below `dir`; nothing is read yet.
    pub fn new(dir: PathBuf) -> Self {
        Blueprints { dir, plans: HashMap::new(), cached: 0 }
    }

    /// The blueprint of `target`, or `None` if the site has none for it.
    ///
    /// # Errors
    ///
    /// [`BlueprintFault`]; a missing directory is one, for without it every package would silently
    /// shrink to what the intent owns.
    pub fn find(&mut self, target: &Target) -> Result<Option<Arc<Blueprint>>, BlueprintFault> {
        let file = format!("{}-{}.yaml", target.kind.as_str(), target.name);
        let own = self.dir.join(&*target.namespace).join(&file);
        for path in [own, self.dir.join(file)] {
            if let Some(meta) = look(&path)? {
                return self.load(path, &meta, target).map(Some);
            }
        }
        self.check().map(|()| None)
    }

    /// Whether the directory is there.
    ///
    /// # Errors
    ///
    /// [`BlueprintFault::Unreachable`] with the directory's path.
    pub fn check(&self) -> Result<(), BlueprintFault> {
        let unreachable = |cause| BlueprintFault::Unreachable { path: self.dir.clone(), cause };
        let meta = fs::metadata(&self.dir).map_err(unreachable)?;
        if meta.is_dir() { Ok(()) } else { Err(unreachable(io::ErrorKind::NotADirectory.into())) }
    }

    fn load(
        &mut self,
        path: PathBuf,
        meta: &Metadata,
        target: &Target,
    ) -> Result<Arc<Blueprint>, BlueprintFault> {
        let unusable = |path, cause| BlueprintFault::Unusable { path, cause };
        match self.plans.get(&path) {
            Some((version, plan)) if *version == Version::of(meta) => {
                return plan.clone().map_err(|cause| unusable(path, cause));
            }
            _ => {}
        }
        let (version, plan) = match read(&path, meta) {
            Ok((version, text)) => (version, text.and_then(|text| Blueprint::parse(text, target))),
            Err(cause) => return Err(BlueprintFault::Unreachable { path, cause }),
        };
        let plan: Plan = plan.map(Arc::new).map_err(Arc::from);
        self.remember(path.clone(), version, plan.clone());
        plan.map_err(|cause| unusable(path, cause))
    }

    /// The text of a plan that this one replaces stays counted until the cache is emptied, which
    /// errs on the small side.
    fn remember(&mut self, path: PathBuf, version: Version, plan: Plan) {
        let size = plan.as_ref().map_or(0, |blueprint| blueprint.text.len());
        if self.plans.len() >= CACHED_PLANS || self.cached + size > CACHED_TEXT {
            self.plans.clear();
            self.cached = 0;
        }
        self.cached += size;
        self.plans.insert(path, (version, plan));
    }
}

fn look(path: &Path) -> Result<Option<Metadata>, BlueprintFault> {
    match fs::metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(BlueprintFault::Unreachable { path: path.to_path_buf(), cause }),
    }
}

/// The text, or what is wrong with it. The type is looked at before the file is opened: opening a
/// pipe would block.
fn read(path: &Path, meta: &Metadata) -> io::Result<(Version, Result<String, String>)> {
    if !meta.is_file() {
        return Ok((
            Version::of(meta),
            Err("is not a regular file: put the workload's YAML there".to_owned()),
        ));
    }
    let mut file = File::open(path)?;
    let version = Version::of(&file.metadata()?);
    let mut bytes = Vec::new();
    file.by_ref().take(MAX_BLUEPRINT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BLUEPRINT {
        return Ok((version, Err("is larger than 1 MiB: keep only the workload in it".to_owned())));
    }
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8: save it as UTF-8".to_owned());
    Ok((version, text))
}

#[cfg(test)]
mod tests;
