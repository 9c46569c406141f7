//! Whether the opened directories are still those at their paths, in words for whoever can bring them back.
//!
//! Each answer is what is wrong and what to do next. Two calls for a directory that is as it should be.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, accessat, openat, statat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::RealDisk;
use crate::disk::OWN_NAMES;
use crate::disk::Place;
use crate::disk::same::same_entry;

impl RealDisk {
    /// The path of a place, for messages.
    pub fn path(&self, at: Place) -> PathBuf {
        let own = |name| self.layout.handoff.join(name);
        match at {
            Place::Handoff => self.layout.handoff.clone(),
            Place::Out => self.layout.out.clone(),
            Place::Private => own(OWN_NAMES[0]),
            Place::Processed => own(OWN_NAMES[1]),
            Place::Failed => self.layout.failed.clone().unwrap_or_else(|| own(OWN_NAMES[2])),
            Place::Status => own(OWN_NAMES[3]),
        }
    }

    /// Whether the handoff folder is the opened one and may be listed and searched.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn check_handoff(&self) -> Result<(), String> {
        let (folders, path) = (self.folders(), &self.layout.handoff);
        match same_entry(folders.fd(Place::Handoff), || statat(CWD, path, AtFlags::empty())) {
            true => may_be_searched(path),
            false => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let there = openat(CWD, path, flags, Mode::empty());
                Err(match there {
                    Ok(there) if folders.lost_its_mount(&there) => {
                        told(path, "nothing is mounted there any more; mount it again")
                    }
                    there => elsewhere(path, there.map(drop)),
                })
            }
        }
    }

    /// Whether the out directory is the opened one; packages go to the opened one, wherever that is.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn check_out(&self) -> Result<(), String> {
        let (folders, path) = (self.folders(), &self.layout.out);
        let mut there = Ok(());
        let look = || statat(CWD, path, AtFlags::empty()).inspect_err(|err| there = Err(*err));
        match same_entry(folders.fd(Place::Out), look) {
            true => Ok(()),
            false => Err(elsewhere(path, there)),
        }
    }
}

/// `there`: whether anything was found at the path.
fn elsewhere(path: &Path, there: Result<(), Errno>) -> String {
    match there {
        Ok(()) => told(path, "another directory than the opened one stands there; put the opened one back"),
        Err(Errno::NOENT) => told(path, "not there; bring it back"),
        Err(err) => told(path, &format!("cannot be reached: {}; make way to it", io::Error::from(err))),
    }
}

/// Without the right to write in it files are delivered, but cannot be filed (`cannot-file`).
fn may_be_searched(path: &Path) -> Result<(), String> {
    match accessat(CWD, path, Access::READ_OK | Access::EXEC_OK, AtFlags::EACCESS) {
        Err(Errno::ACCESS) => {
            let uid = geteuid().as_raw();
            Err(told(
                path,
                &format!("uid {uid} may not read or search it; give it the rights (chown, chmod)"),
            ))
        }
        // Kernels before 5.8 cannot be asked; a listing that fails tells it as well.
        _ => Ok(()),
    }
}

fn told(path: &Path, what: &str) -> String {
    format!("directory {}: {what}", path.display())
}
