//! How much room is left around a place.

use std::io;
use std::path::Path;

use rustix::fs::StatVfs;

use super::RealDisk;
use crate::disk::Place;

/// Free space of the file system behind a place: bytes and inodes, each with its total.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes free to this user.
    pub bytes: u64,
    /// All bytes.
    pub bytes_total: u64,
    /// Inodes free; `None` where the file system has no fixed number.
    pub inodes: Option<u64>,
    /// All inodes.
    pub inodes_total: u64,
}

impl Room {
    /// Free space around a directory.
    pub fn around(dir: &Path) -> io::Result<Room> {
        Ok(told(&rustix::fs::statvfs(dir)?))
    }
}

impl RealDisk {
    /// Free space around a place.
    pub fn room(&self, at: Place) -> io::Result<Room> {
        Ok(told(&rustix::fs::fstatvfs(self.folders().fd(at))?))
    }
}

fn told(stat: &StatVfs) -> Room {
    Room {
        bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        bytes_total: stat.f_blocks.saturating_mul(stat.f_frsize),
        inodes: (stat.f_files > 0).then_some(stat.f_favail),
        inodes_total: stat.f_files,
    }
}
