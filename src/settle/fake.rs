//! What the tests of settling share: rows, and a file system in memory that loses power or lets a
//! dropper act between any two calls.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;

use super::Recall;
use crate::clock::Wall;
use crate::disk::{Clobber, Disk, EntryKind, Identity, Meta, Place};
use crate::fate::{Fate, Id, Lifecycle, Proof, Reason, Receipt, Sha, SinkKind, Source};
use crate::intent::{Target, TargetKind};
use crate::ledger::{End, Row};

/// The accepted bytes of every row of these tests.
pub(super) const ACCEPTED: &[u8] = b"{\"replicas\": 3}";

/// A delivered row named `name`.
pub(crate) fn row(name: &str) -> Row {
    Row {
        seq: 7,
        id: Id(0x9f2c_31aa_07d1_4be2),
        name: name.as_bytes().into(),
        source: Source::Event,
        identity: Identity::default(),
        proof: Some(Proof::Rename),
        sha: Some(Sha::of(ACCEPTED)),
        generation: 0,
        target: Some(Target {
            namespace: "oran-odu".into(),
            kind: TargetKind::Deployment,
            name: "odu-high-phy".into(),
        }),
        priority: 5,
        valid_until: None,
        accepted_at: Wall::parse("2026-11-21T08:00:00.123Z").unwrap(),
        worker: 2,
        end: Some(delivered()),
    }
}

/// The end of the contract's example.
pub(super) fn delivered() -> End {
    End {
        no: 1,
        fate: Fate::Delivered,
        reason: None,
        message: "delivered to folder:oran-odu/deployment-odu-high-phy revision 3".into(),
        errors: Vec::new(),
        sink: Some(SinkKind::Folder),
        remote: Some(Receipt {
            name: "oran-odu/deployment-odu-high-phy".into(),
            revision: "3".into(),
            lifecycle: Lifecycle::Published,
            adopted: false,
        }),
        attempts: 1,
        related: None,
        finished_at: Wall::parse("2026-11-21T08:00:00.131Z").unwrap(),
        duration: Duration::from_micros(7500),
    }
}

/// A refusal without any submission.
pub(super) fn refused(reason: Reason) -> End {
    End {
        fate: Fate::Refused,
        reason: Some(reason),
        message: "/replicas: \"three\" is not an integer".into(),
        sink: None,
        remote: None,
        attempts: 0,
        ..delivered()
    }
}

/// A ledger that keeps [`ACCEPTED`] for every row, or nothing.
pub(super) struct Memory(pub(super) bool);

impl Recall for Memory {
    fn payload(&self, _seq: u64) -> Option<Vec<u8>> {
        self.0.then(|| ACCEPTED.to_vec())
    }
}

/// One entry of the fake.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) identity: Identity,
    pub(super) kind: EntryKind,
    pub(super) bytes: Vec<u8>,
    pub(super) allocated: u64,
}

/// All entries, and the clock that stamps them.
#[derive(Debug, Clone, Default)]
pub(super) struct Tree {
    pub(super) nodes: HashMap<(Place, PathBuf), Node>,
    ticks: i64,
}

impl Tree {
    fn tick(&mut self) -> i64 {
        self.ticks += 1;
        self.ticks
    }

    /// A new inode under the name, as a rename by a dropper makes it.
    pub(super) fn drop_in(&mut self, at: Place, name: &str, kind: EntryKind, bytes: &[u8]) -> Identity {
        let tick = self.tick();
        let ino = tick.unsigned_abs();
        let identity = Identity { dev: 1, ino, size: bytes.len() as u64, mtime_ns: tick, ctime_ns: tick };
        let node = Node { identity, kind, bytes: bytes.to_vec(), allocated: identity.size };
        self.nodes.insert((at, name.into()), node);
        identity
    }

    /// Other bytes in the same inode, with the old modification time forged back.
    pub(super) fn forge(&mut self, at: Place, name: &str, bytes: &[u8]) {
        let tick = self.tick();
        let node = self.nodes.get_mut(&(at, name.into())).unwrap();
        node.bytes = bytes.to_vec();
        node.identity.size = bytes.len() as u64;
        node.identity.ctime_ns = tick;
    }

    /// The bytes under a name.
    pub(super) fn bytes(&self, at: Place, name: &str) -> Option<&[u8]> {
        self.nodes.get(&(at, name.into())).map(|node| &*node.bytes)
    }

    /// Every place, name and content, sorted.
    pub(super) fn contents(&self) -> Vec<String> {
        let line = |((at, name), node): (&(Place, PathBuf), &Node)| {
            format!("{at:?}/{} {}", name.display(), String::from_utf8_lossy(&node.bytes))
        };
        let mut lines: Vec<_> = self.nodes.iter().map(line).collect();
        lines.sort();
        lines
    }
}

type Act = Box<dyn FnOnce(&mut Tree) + Send>;

#[derive(Default)]
struct State {
    tree: Tree,
    calls: usize,
    power_ends: Option<usize>,
    refusal: Option<(Place, ErrorKind)>,
    between: Option<(usize, Act)>,
}

/// The file system in memory.
#[derive(Default)]
pub(super) struct FakeDisk(Mutex<State>);

impl FakeDisk {
    /// Looks at or changes all entries.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Tree) -> T) -> T {
        act(&mut self.0.lock().tree)
    }

    /// Calls so far.
    pub(super) fn calls(&self) -> usize {
        self.0.lock().calls
    }

    /// From now on only `calls` more calls work; `None`: all do.
    pub(super) fn end_power_after(&self, calls: Option<usize>) {
        let mut state = self.0.lock();
        state.power_ends = calls.map(|calls| state.calls + calls);
    }

    /// Every change of this place fails so.
    pub(super) fn refuse(&self, refusal: Option<(Place, ErrorKind)>) {
        self.0.lock().refusal = refusal;
    }

    /// Runs `act` before call `number` from now, counted from 1.
    pub(super) fn before_call(&self, number: usize, act: impl FnOnce(&mut Tree) + Send + 'static) {
        let mut state = self.0.lock();
        state.between = Some((state.calls + number, Box::new(act)));
    }

    fn call<T>(&self, changed: &[Place], act: impl FnOnce(&mut Tree) -> io::Result<T>) -> io::Result<T> {
        let mut guard = self.0.lock();
        let state = &mut *guard;
        state.calls += 1;
        if state.power_ends.is_some_and(|end| state.calls > end) {
            return Err(io::Error::other("the power is off"));
        }
        if let Some((_, act)) = state.between.take_if(|due| due.0 == state.calls) {
            act(&mut state.tree);
        }
        match state.refusal {
            Some((place, kind)) if changed.contains(&place) => Err(kind.into()),
            _ => act(&mut state.tree),
        }
    }
}

impl Disk for FakeDisk {
    fn look(&self, at: Place, name: &Path) -> io::Result<Option<Meta>> {
        self.call(&[], |tree| {
            Ok(tree.nodes.get(&(at, name.into())).map(|node| Meta {
                identity: node.identity,
                kind: node.kind,
                allocated: node.allocated,
                nlink: 1,
                uid: 0,
                mount_root: false,
            }))
        })
    }

    fn create(&self, at: Place, name: &Path, bytes: &[u8], _mode: u32) -> io::Result<()> {
        self.call(&[at], |tree| {
            if tree.nodes.contains_key(&(at, name.into())) {
                return Err(ErrorKind::AlreadyExists.into());
            }
            tree.drop_in(at, name.to_str().unwrap(), EntryKind::File, bytes);
            Ok(())
        })
    }

    fn replace(&self, at: Place, name: &Path, temporary: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        self.remove(at, temporary)?;
        self.create(at, temporary, bytes, mode)?;
        self.rename((at, temporary), (at, name), Clobber::Replace)
    }

    fn rename(&self, from: (Place, &Path), to: (Place, &Path), clobber: Clobber) -> io::Result<()> {
        self.call(&[from.0, to.0], |tree| {
            let (from, to) = ((from.0, from.1.to_owned()), (to.0, to.1.to_owned()));
            if !tree.nodes.contains_key(&from) {
                return Err(ErrorKind::NotFound.into());
            }
            if clobber == Clobber::Never && tree.nodes.contains_key(&to) {
                return Err(ErrorKind::AlreadyExists.into());
            }
            let tick = tree.tick();
            let mut node = tree.nodes.remove(&from).unwrap();
            node.identity.ctime_ns = tick;
            tree.nodes.insert(to, node);
            Ok(())
        })
    }

    fn read(&self, at: Place, name: &Path, limit: usize) -> io::Result<Option<Vec<u8>>> {
        self.call(&[], |tree| {
            Ok(tree
                .nodes
                .get(&(at, name.into()))
                .map(|node| node.bytes[..node.bytes.len().min(limit)].to_vec()))
        })
    }

    fn append(&self, at: Place, name: &Path, bytes: &[u8], _mode: u32) -> io::Result<()> {
        self.call(&[at], |tree| {
            let mut whole = tree.bytes(at, name.to_str().unwrap()).unwrap_or_default().to_vec();
            whole.extend_from_slice(bytes);
            tree.drop_in(at, name.to_str().unwrap(), EntryKind::File, &whole);
            Ok(())
        })
    }

    fn make_dir(&self, at: Place, name: &Path, _mode: u32) -> io::Result<()> {
        self.call(&[at], |tree| {
            tree.drop_in(at, name.to_str().unwrap(), EntryKind::Directory, b"");
            Ok(())
        })
    }

    fn remove(&self, at: Place, name: &Path) -> io::Result<()> {
        self.call(&[at], |tree| {
            tree.nodes.remove(&(at, name.to_owned()));
            Ok(())
        })
    }

    fn list(&self, at: Place, _below: &Path, each: &mut dyn FnMut(&OsStr)) -> io::Result<()> {
        let names: Vec<_> = self.call(&[], |tree| {
            Ok(tree.nodes.keys().filter(|(place, _)| *place == at).map(|(_, name)| name.clone()).collect())
        })?;
        names.iter().for_each(|name| each(name.as_os_str()));
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}
