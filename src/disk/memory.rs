//! A file system in memory that forgets what was not flushed, for tests and simulation.
//!
//! Every act changes what is *cached* at once and is noted in a journal; [`Disk::flush`] makes the
//! cached state the *durable* one and empties the journal. [`MemoryDisk::power_cut`] gives the disk
//! as the next boot finds it: the durable state and, under a seed, as much of the journal as may have
//! reached the platter. Calls can be made to fail, one by one or all of them. Nothing here is random
//! and no clock is read: the same calls and the same seed give the same disk.
//!
//! The places stand to each other as the contract has them: `.conductor`, `processed`, `failed` and
//! `status` are directories in the handoff folder, the out directory is apart. One device holds all.

mod power;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path};

use parking_lot::{Mutex, MutexGuard};

pub use power::Promise;

use super::{Clobber, Disk, EntryKind, Identity, Meta, Place};

/// Inode number.
type Ino = u64;
/// A name in a directory.
type Slot = (Ino, OsString);

const HANDOFF: Ino = 1;
const OUT: Ino = 6;
const INSIDE: [(&str, Ino); 4] = [(".conductor", 2), ("processed", 3), ("failed", 4), ("status", 5)];

const fn root(place: Place) -> Ino {
    match place {
        Place::Handoff => HANDOFF,
        Place::Private => 2,
        Place::Processed => 3,
        Place::Failed => 4,
        Place::Status => 5,
        Place::Out => OUT,
    }
}

#[derive(Debug, Clone)]
struct Inode {
    kind: EntryKind,
    mode: u32,
    bytes: Vec<u8>,
    mtime: i64,
    ctime: i64,
}

/// Everything a file system holds.
#[derive(Debug, Clone, Default)]
struct Tree {
    inodes: BTreeMap<Ino, Inode>,
    entries: BTreeMap<Slot, Ino>,
}

/// What was done since the last flush.
#[derive(Debug, Clone)]
enum Change {
    /// An inode came to be, empty.
    Made(Ino, Inode),
    /// Its content became this.
    Written(Ino, Vec<u8>),
    /// Names changed together; `over` when that put a file in the place of another.
    Named { slots: Vec<(Slot, Option<Ino>)>, over: bool },
}

#[derive(Debug, Default)]
struct State {
    cached: Tree,
    durable: Tree,
    journal: Vec<Change>,
    next: Ino,
    tick: i64,
    calls: u64,
    failing: BTreeMap<u64, io::Error>,
    outage: Option<i32>,
}

/// The file system; every act is atomic towards other threads except that [`Disk::replace`] shows
/// its temporary file, as a real one does.
#[derive(Debug)]
pub struct MemoryDisk {
    state: Mutex<State>,
}

impl Default for MemoryDisk {
    fn default() -> Self {
        MemoryDisk::new()
    }
}

impl MemoryDisk {
    /// A disk that holds the empty places, durably.
    pub fn new() -> Self {
        let mut tree = Tree::default();
        let root = Inode { kind: EntryKind::Directory, mode: 0o755, bytes: Vec::new(), mtime: 0, ctime: 0 };
        tree.inodes.insert(HANDOFF, root.clone());
        tree.inodes.insert(OUT, root.clone());
        for (name, ino) in INSIDE {
            tree.inodes.insert(ino, root.clone());
            tree.entries.insert((HANDOFF, name.into()), ino);
        }
        MemoryDisk::boot(tree, OUT + 1, 1)
    }

    fn boot(tree: Tree, next: Ino, tick: i64) -> Self {
        let state = State { cached: tree.clone(), durable: tree, next, tick, ..State::default() };
        MemoryDisk { state: Mutex::new(state) }
    }

    /// Acts that were asked of the disk so far, failed ones included.
    pub fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    /// Makes the `nth` call from now fail (1 is the next one), once, without any effect.
    pub fn fail_call(&self, nth: u64, error: io::Error) {
        let mut state = self.state.lock();
        let call = state.calls + nth;
        state.failing.insert(call, error);
    }

    /// Makes every call fail with this `errno`, until `None` ends it.
    pub fn outage(&self, errno: Option<i32>) {
        self.state.lock().outage = errno;
    }

    /// Puts an empty entry of any kind somewhere, without counting as a call; it is not durable.
    ///
    /// # Errors
    ///
    /// As [`Disk::create`].
    pub fn plant(&self, at: Place, name: &Path, kind: EntryKind) -> io::Result<()> {
        let mut state = self.state.lock();
        let slot = state.cached.slot(root(at), name)?;
        state.make(slot, kind, 0o644).map(|_| ())
    }

    /// The permission bits with which an entry was made.
    pub fn mode(&self, at: Place, name: &Path) -> Option<u32> {
        let state = self.state.lock();
        let ino = state.cached.find(root(at), name).ok()??;
        Some(state.cached.inodes.get(&ino)?.mode)
    }

    fn act(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state.lock();
        state.calls += 1;
        state.tick += 1;
        let call = state.calls;
        match (state.outage, state.failing.remove(&call)) {
            (Some(errno), _) => Err(io::Error::from_raw_os_error(errno)),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(state),
        }
    }
}

impl Tree {
    /// The entry behind a path; `None` if it or a directory on the way is not there.
    fn find(&self, root: Ino, path: &Path) -> io::Result<Option<Ino>> {
        let mut at = root;
        for part in path.components() {
            match part {
                Component::CurDir => {}
                Component::Normal(name) => {
                    self.directory(at)?;
                    match self.entries.get(&(at, name.to_owned())) {
                        Some(&ino) => at = ino,
                        None => return Ok(None),
                    }
                }
                _ => return Err(io::ErrorKind::InvalidInput.into()),
            }
        }
        Ok(Some(at))
    }

    /// Where a path's last name stands; its directory must be there.
    fn slot(&self, root: Ino, path: &Path) -> io::Result<Slot> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent =
            self.find(root, path.parent().unwrap_or(Path::new("")))?.ok_or(io::ErrorKind::NotFound)?;
        self.directory(parent)?;
        Ok((parent, name.to_owned()))
    }

    fn directory(&self, ino: Ino) -> io::Result<()> {
        match self.inodes.get(&ino).map(|inode| inode.kind) {
            Some(EntryKind::Directory) => Ok(()),
            Some(EntryKind::Symlink) => Err(io::Error::from_raw_os_error(libc::ELOOP)),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn names(&self, directory: Ino) -> impl Iterator<Item = &OsStr> {
        let from = (directory, OsString::new());
        self.entries
            .range(from..)
            .take_while(move |((dir, _), _)| *dir == directory)
            .map(|((_, name), _)| &**name)
    }

    fn kind(&self, ino: Ino) -> Option<EntryKind> {
        self.inodes.get(&ino).map(|inode| inode.kind)
    }

    /// The regular file behind a slot, if the slot is taken.
    fn file(&self, slot: &Slot) -> io::Result<Option<Ino>> {
        let Some(&ino) = self.entries.get(slot) else { return Ok(None) };
        match self.kind(ino) {
            Some(EntryKind::File) => Ok(Some(ino)),
            Some(EntryKind::Directory) => Err(io::ErrorKind::IsADirectory.into()),
            Some(EntryKind::Symlink) => Err(io::Error::from_raw_os_error(libc::ELOOP)),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

impl State {
    fn make(&mut self, slot: Slot, kind: EntryKind, mode: u32) -> io::Result<Ino> {
        if self.cached.entries.contains_key(&slot) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let ino = self.next;
        self.next += 1;
        let inode = Inode { kind, mode, bytes: Vec::new(), mtime: self.tick, ctime: self.tick };
        self.journal.push(Change::Made(ino, inode.clone()));
        self.cached.inodes.insert(ino, inode);
        self.name(vec![(slot, Some(ino))], false);
        Ok(ino)
    }

    fn write(&mut self, ino: Ino, bytes: Vec<u8>) {
        let tick = self.tick;
        if let Some(inode) = self.cached.inodes.get_mut(&ino) {
            inode.bytes.clone_from(&bytes);
            inode.mtime = tick;
            inode.ctime = tick;
        }
        self.journal.push(Change::Written(ino, bytes));
    }

    fn name(&mut self, slots: Vec<(Slot, Option<Ino>)>, over: bool) {
        for (slot, ino) in &slots {
            self.cached.set(slot, *ino);
        }
        self.journal.push(Change::Named { slots, over });
    }

    fn rename(&mut self, from: Slot, to: Slot, clobber: Clobber) -> io::Result<()> {
        let &ino = self.cached.entries.get(&from).ok_or(io::ErrorKind::NotFound)?;
        let target = self.cached.entries.get(&to).copied();
        if let Some(target) = target {
            if clobber == Clobber::Never {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            if target == ino {
                return Ok(());
            }
            match (self.cached.directory(ino).is_ok(), self.cached.directory(target).is_ok()) {
                (true, false) => return Err(io::ErrorKind::NotADirectory.into()),
                (false, true) => return Err(io::ErrorKind::IsADirectory.into()),
                (true, true) if self.cached.names(target).next().is_some() => {
                    return Err(io::ErrorKind::DirectoryNotEmpty.into());
                }
                _ => {}
            }
        }
        let tick = self.tick;
        if let Some(inode) = self.cached.inodes.get_mut(&ino) {
            inode.ctime = tick;
        }
        self.name(vec![(from, None), (to, Some(ino))], target.is_some());
        Ok(())
    }
}

impl Tree {
    fn set(&mut self, slot: &Slot, ino: Option<Ino>) {
        match ino {
            Some(ino) => self.entries.insert(slot.clone(), ino),
            None => self.entries.remove(slot),
        };
    }
}

impl Disk for MemoryDisk {
    fn look(&self, at: Place, name: &Path) -> io::Result<Option<Meta>> {
        let state = self.act()?;
        let Some(ino) = state.cached.find(root(at), name)? else { return Ok(None) };
        let Some(inode) = state.cached.inodes.get(&ino) else { return Ok(None) };
        let identity = Identity {
            dev: 1,
            ino,
            size: inode.bytes.len() as u64,
            mtime_ns: inode.mtime,
            ctime_ns: inode.ctime,
        };
        let allocated = identity.size;
        Ok(Some(Meta { identity, kind: inode.kind, allocated, nlink: 1, uid: 0, mount_root: false }))
    }

    fn create(&self, at: Place, name: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        let mut state = self.act()?;
        let slot = state.cached.slot(root(at), name)?;
        let ino = state.make(slot, EntryKind::File, mode)?;
        state.write(ino, bytes.to_vec());
        Ok(())
    }

    fn replace(&self, at: Place, name: &Path, temporary: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        let mut state = self.act()?;
        let from = state.cached.slot(root(at), temporary)?;
        let to = state.cached.slot(root(at), name)?;
        let ino = match state.cached.file(&from)? {
            Some(ino) => ino,
            None => state.make(from.clone(), EntryKind::File, mode)?,
        };
        state.write(ino, bytes.to_vec());
        state.rename(from, to, Clobber::Replace)
    }

    fn rename(&self, from: (Place, &Path), to: (Place, &Path), clobber: Clobber) -> io::Result<()> {
        let mut state = self.act()?;
        let from = state.cached.slot(root(from.0), from.1)?;
        let to = state.cached.slot(root(to.0), to.1)?;
        state.rename(from, to, clobber)
    }

    fn read(&self, at: Place, name: &Path, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let state = self.act()?;
        if state.cached.find(root(at), name)?.is_none() {
            return Ok(None);
        }
        let slot = state.cached.slot(root(at), name)?;
        let Some(ino) = state.cached.file(&slot)? else { return Ok(None) };
        Ok(state.cached.inodes.get(&ino).map(|inode| inode.bytes[..inode.bytes.len().min(limit)].to_vec()))
    }

    fn append(&self, at: Place, name: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        let mut state = self.act()?;
        let slot = state.cached.slot(root(at), name)?;
        let ino = match state.cached.file(&slot)? {
            Some(ino) => ino,
            None => state.make(slot, EntryKind::File, mode)?,
        };
        let before = state.cached.inodes.get(&ino).map_or(&[][..], |inode| &inode.bytes);
        let all = [before, bytes].concat();
        state.write(ino, all);
        Ok(())
    }

    fn make_dir(&self, at: Place, name: &Path, mode: u32) -> io::Result<()> {
        let mut state = self.act()?;
        let slot = state.cached.slot(root(at), name)?;
        state.make(slot, EntryKind::Directory, mode).map(|_| ())
    }

    fn remove(&self, at: Place, name: &Path) -> io::Result<()> {
        let mut state = self.act()?;
        let Some(ino) = state.cached.find(root(at), name)? else { return Ok(()) };
        if state.cached.kind(ino) == Some(EntryKind::Directory) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let slot = state.cached.slot(root(at), name)?;
        state.name(vec![(slot, None)], false);
        Ok(())
    }

    fn list(&self, at: Place, below: &Path, each: &mut dyn FnMut(&OsStr)) -> io::Result<()> {
        let names: Vec<OsString> = {
            let state = self.act()?;
            let directory = state.cached.find(root(at), below)?.ok_or(io::ErrorKind::NotFound)?;
            state.cached.directory(directory)?;
            state.cached.names(directory).map(OsStr::to_owned).collect()
        };
        names.iter().for_each(|name| each(name));
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let mut state = self.act()?;
        state.durable = state.cached.clone();
        state.journal.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
