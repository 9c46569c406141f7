//! Where the file of an ended row was put, and its bytes again.
//!
//! A name in the archive proves nothing: another drop may have had it first, and an operator may have put
//! something there. What counts are the accepted size and digest.

use std::io;
use std::path::{Path, PathBuf};

use super::archive::{archive_place, own_name, plain_name};
use crate::disk::{Disk, EntryKind, Place};
use crate::fate::Sha;
use crate::ledger::Row;

/// The names under which the archive may hold the row's file, the likelier first; none while it is pending.
pub fn shelves(row: &Row) -> Vec<(Place, PathBuf)> {
    let Some(end) = &row.end else { return Vec::new() };
    let names = plain_name(row).map(Path::to_owned).into_iter().chain([own_name(row)]);
    names.map(|name| (archive_place(end), name)).collect()
}

/// The accepted bytes of an ended row, if the archive still holds them.
///
/// # Errors
/// The file system's, where it could not be found out.
pub fn archived(disk: &dyn Disk, row: &Row) -> io::Result<Option<Vec<u8>>> {
    let Some(sha) = row.sha else { return Ok(None) };
    let size = row.identity.size;
    for (at, name) in shelves(row) {
        let seen = disk.look(at, &name)?;
        if !seen.is_some_and(|seen| seen.kind == EntryKind::File && seen.identity.size == size) {
            continue;
        }
        let bytes = disk.read(at, &name, usize::try_from(size).unwrap_or(usize::MAX))?;
        if let Some(bytes) = bytes.filter(|bytes| Sha::of(bytes) == sha) {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}
