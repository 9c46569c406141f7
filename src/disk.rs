//! The file system as the stages that decide see it: a handful of places and whole-file acts on them.
//!
//! Every directory is opened once ([`Folders`]) and every act is relative to its descriptor, so that
//! nobody who renames or replaces a directory can lead the daemon elsewhere. Settling, the folder
//! sink and recovery go through [`Disk`], so that they run unchanged against a file system that
//! forgets what was not flushed.

mod folders;
mod lock;
mod memory;
mod real;
mod same;

use std::ffi::OsStr;
use std::io;
use std::path::Path;

pub use folders::{FolderFault, Folders, Layout, OWN_NAMES};
pub use lock::{Lock, LockFault, boot_id, holder, last_holder};
pub use memory::{MemoryDisk, Promise};
pub use real::{RealDisk, Room, look_at, look_fd};

/// The directories that the daemon touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// The watched folder; droppers write here.
    Handoff,
    /// `.conductor/` inside it: private landing place for renames, mode 0700.
    Private,
    /// Where delivered, duplicate and superseded originals go.
    Processed,
    /// Where refused and expired originals go, each with its error log.
    Failed,
    /// Where the status files go.
    Status,
    /// The root of the folder sink's packages.
    Out,
}

/// What makes a dropped file this file and no other (`reliability.md` 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Identity {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Modification time, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Change time, nanoseconds since 1970; moved by every rename.
    pub ctime_ns: i64,
}

impl Identity {
    /// Equal in all but the change time, which our own rename moves.
    pub fn same_but_ctime(&self, other: &Identity) -> bool {
        Identity { ctime_ns: other.ctime_ns, ..*self } == *other
    }
}

/// What kind of directory entry it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A symbolic link, not followed.
    Symlink,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A block or character device.
    Device,
}

impl EntryKind {
    /// Words for a message: `is a named pipe`.
    pub const fn describe(self) -> &'static str {
        match self {
            EntryKind::File => "a regular file",
            EntryKind::Symlink => "a symbolic link",
            EntryKind::Directory => "a directory",
            EntryKind::Fifo => "a named pipe",
            EntryKind::Socket => "a socket",
            EntryKind::Device => "a device",
        }
    }
}

/// One look at a name, without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Which file it is.
    pub identity: Identity,
    /// Its type.
    pub kind: EntryKind,
    /// Bytes that it takes on the disk; a sparse file's size says nothing about them.
    pub allocated: u64,
    /// Hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// True where something is mounted on the name itself.
    pub mount_root: bool,
}

/// Whether a rename may replace what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clobber {
    /// `RENAME_NOREPLACE`: `AlreadyExists` if the name is taken. Where the file system does not know
    /// the flag, a plain rename to a name that carries the id.
    Never,
    /// A plain rename.
    Replace,
}

/// Whole-file acts relative to a [`Place`]. Names may have several components below
/// [`Place::Out`] and are single names elsewhere. Nothing is flushed except by [`Disk::flush`].
pub trait Disk: Send + Sync {
    /// The entry behind `name`, links not followed; `None` if there is none.
    fn look(&self, at: Place, name: &Path) -> io::Result<Option<Meta>>;
    /// Creates `name` with `bytes`; `AlreadyExists` if it is there. A failed write leaves nothing.
    fn create(&self, at: Place, name: &Path, bytes: &[u8], mode: u32) -> io::Result<()>;
    /// Writes `bytes` to `temporary` (beside `name`, overwritten) and renames it over `name`:
    /// readers see the old file or the new one, never half of one.
    fn replace(&self, at: Place, name: &Path, temporary: &Path, bytes: &[u8], mode: u32) -> io::Result<()>;
    /// Moves an entry between places.
    fn rename(&self, from: (Place, &Path), to: (Place, &Path), clobber: Clobber) -> io::Result<()>;
    /// The first `limit` bytes of a regular file of the daemon's own; `None` if there is none.
    fn read(&self, at: Place, name: &Path, limit: usize) -> io::Result<Option<Vec<u8>>>;
    /// Appends to `name`, created with `mode` if missing.
    fn append(&self, at: Place, name: &Path, bytes: &[u8], mode: u32) -> io::Result<()>;
    /// Makes one directory; `AlreadyExists` if it is there.
    fn make_dir(&self, at: Place, name: &Path, mode: u32) -> io::Result<()>;
    /// Removes a file; fine if it is not there.
    fn remove(&self, at: Place, name: &Path) -> io::Result<()>;
    /// Calls `each` with every name in the place (or a directory below it), in directory order.
    fn list(&self, at: Place, below: &Path, each: &mut dyn FnMut(&OsStr)) -> io::Result<()>;
    /// Makes all that was done durable: `syncfs` once for each distinct device of the places.
    fn flush(&self) -> io::Result<()>;
}
