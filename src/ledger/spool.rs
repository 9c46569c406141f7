//! Bytes too large for a row: one flushed file each in `<state>/spool/`, named by the row.
//!
//! A file is written and flushed, and the directory flushed, before the row that names it is
//! committed; it is removed after its row was closed. A file without a row is left over from a
//! batch that was never acknowledged and goes at the next start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::fault::LedgerFault;

/// Larger payloads go to the spool.
pub(super) const INLINE_LIMIT: usize = 64 << 10;

/// The spool directory.
#[derive(Debug)]
pub(super) struct Spool {
    dir: PathBuf,
    bytes: u64,
}

impl Spool {
    /// Opens (or makes) the directory and removes files for which `is_known` is false.
    pub(super) fn open(
        state: &Path,
        mut is_known: impl FnMut(u64) -> Result<bool, LedgerFault>,
    ) -> Result<Self, LedgerFault> {
        let dir = state.join("spool");
        make_dir(&dir)?;
        let mut spool = Spool { dir, bytes: 0 };
        let entries = fs::read_dir(&spool.dir).map_err(|e| LedgerFault::io("list spool", &spool.dir, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| LedgerFault::io("list spool", &spool.dir, e))?;
            let Some(seq) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            spool.bytes += entry.metadata().map_or(0, |meta| meta.len());
            if !is_known(seq)? {
                spool.remove(seq)?;
            }
        }
        Ok(spool)
    }

    fn path(&self, seq: u64) -> PathBuf {
        self.dir.join(seq.to_string())
    }

    /// Writes and flushes the bytes of a row; the name is durable after [`Spool::flush`].
    pub(super) fn write(&mut self, seq: u64, bytes: &[u8]) -> Result<(), LedgerFault> {
        let path = self.path(seq);
        let write = || {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(bytes)?;
            Ok(file)
        };
        let file: File = write().map_err(|e| LedgerFault::io("write", &path, e))?;
        file.sync_all().map_err(|e| flush_fault("flush spool file", e))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Makes the names of written files durable.
    pub(super) fn flush(&self) -> Result<(), LedgerFault> {
        sync_dir(&self.dir)
    }

    /// The bytes of a row; `None` if the file is gone.
    pub(super) fn read(&self, seq: u64) -> Result<Option<Vec<u8>>, LedgerFault> {
        read_file(self.path(seq))
    }

    /// Removes the file of a row; fine if it is gone.
    pub(super) fn remove(&mut self, seq: u64) -> Result<(), LedgerFault> {
        let path = self.path(seq);
        let size = fs::symlink_metadata(&path).map_or(0, |meta| meta.len());
        match fs::remove_file(&path) {
            Ok(()) => self.bytes = self.bytes.saturating_sub(size),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(LedgerFault::io("remove", path, e)),
        }
        Ok(())
    }

    /// Bytes in all files.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes the directory again after it was lost; the files in it are lost too.
    pub(super) fn renew(&mut self) -> Result<(), LedgerFault> {
        self.bytes = 0;
        make_dir(&self.dir)
    }

    /// Tells a full disk from a broken one where SQLite only said "I/O error": by writing a page.
    pub(super) fn explain(&self, fault: LedgerFault) -> LedgerFault {
        if !fault.is_unexplained() {
            return fault;
        }
        let path = self.dir.join("probe");
        let probe = fs::write(&path, [0u8; 4096]);
        let _ = fs::remove_file(&path);
        match probe.map_err(|e| LedgerFault::io("write ledger", path, e)) {
            Err(found @ (LedgerFault::DiskFull { .. } | LedgerFault::ReadOnly { .. })) => found,
            _ => fault,
        }
    }
}

/// The bytes of a row from the spool of the state directory `state`; `None` if the file is gone.
pub(super) fn read_from(state: &Path, seq: u64) -> Result<Option<Vec<u8>>, LedgerFault> {
    read_file(state.join("spool").join(seq.to_string()))
}

/// Bytes in all spool files of the state directory `state`.
pub(super) fn bytes_in(state: &Path) -> u64 {
    let files = fs::read_dir(state.join("spool")).into_iter().flatten().filter_map(Result::ok);
    files.map(|file| file.metadata().map_or(0, |meta| meta.len())).sum()
}

fn read_file(path: PathBuf) -> Result<Option<Vec<u8>>, LedgerFault> {
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(LedgerFault::io("read", path, e)),
    }
}

/// Makes a private directory if it is not there.
pub(super) fn make_dir(dir: &Path) -> Result<(), LedgerFault> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| LedgerFault::io("make directory", dir, e))
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), LedgerFault> {
    let open = File::open(dir).map_err(|e| LedgerFault::io("open directory", dir, e))?;
    open.sync_all().map_err(|e| flush_fault("flush directory", e))
}

/// A full disk found out only while flushing is no broken promise here: nothing was acknowledged and
/// the file is written anew on the next try.
fn flush_fault(act: &'static str, error: io::Error) -> LedgerFault {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => LedgerFault::DiskFull { act },
        _ => LedgerFault::Flush { act, detail: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_no_row_are_removed_at_the_start() {
        let state = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(state.path(), |_| Ok(true)).unwrap();
        spool.write(1, b"one").unwrap();
        spool.write(2, b"two!").unwrap();
        spool.flush().unwrap();
        let again = Spool::open(state.path(), |seq| Ok(seq == 2)).unwrap();
        assert_eq!(again.bytes(), 4);
        assert_eq!(again.read(1).unwrap(), None);
        assert_eq!(again.read(2).unwrap().as_deref(), Some(&b"two!"[..]));
    }
}
