//! Many files at once, and what is known about them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::thread;
use std::time::Duration;

use super::place::Place;
use super::scale;

/// Between the two halves of a file that is written in place.
const HALVES: Duration = Duration::from_millis(20);

/// Files of one load that are open at the same time in one thread.
const OPEN: usize = 50;

/// A load: names in the order of dropping, each for one of a fixed set of targets.
pub(crate) struct Load {
    files: Vec<(String, Vec<u8>)>,
    known: BTreeMap<String, Option<(String, u32)>>,
}

impl Load {
    /// `count` files over `targets` targets, one in a hundred malformed if asked for.
    pub(crate) fn new(count: usize, targets: usize, malformed: bool) -> Load {
        let mut load = Load { files: Vec::with_capacity(count), known: BTreeMap::new() };
        for at in 0..count {
            let name = format!("intent-{at:07}.json");
            let (target, replicas) = (format!("t-{:04}", at % targets), 1 + (at / targets % 100) as u32);
            let mut bytes = scale(&target, replicas);
            if malformed && at % 100 == 99 {
                bytes.truncate(bytes.len() - 2);
                bytes.extend_from_slice(b",,}\n");
                load.known.insert(name.clone(), None);
            } else {
                load.known.insert(name.clone(), Some((target, replicas)));
            }
            load.files.push((name, bytes));
        }
        load
    }

    /// How many files.
    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// What became of the malformed ones and the packages, against the ledger.
    #[track_caller]
    pub(crate) fn compare(&self, place: &Place) {
        place.compare(&self.known);
    }

    /// Renames all of them in, in order, by one thread.
    pub(crate) fn rename_all(&self, place: &Place) {
        for (name, bytes) in &self.files {
            place.rename_in(name, bytes);
        }
    }

    /// Drops all: even ones by rename, odd ones in place in two halves 20 ms apart, by `threads` threads.
    /// `rest` follows each batch, to stretch the load.
    pub(crate) fn drop_mixed(&self, place: &Place, threads: usize, rest: Duration) {
        let share = self.files.len().div_ceil(threads);
        thread::scope(|scope| {
            for files in self.files.chunks(share) {
                scope.spawn(move || {
                    for batch in files.chunks(OPEN) {
                        drop_batch(place, batch);
                        thread::sleep(rest);
                    }
                });
            }
        });
    }
}

fn drop_batch(place: &Place, batch: &[(String, Vec<u8>)]) {
    let mut open: Vec<(File, &[u8])> = Vec::with_capacity(batch.len());
    for (at, (name, bytes)) in batch.iter().enumerate() {
        if at % 2 == 0 {
            place.rename_in(name, bytes);
        } else {
            let (first, second) = bytes.split_at(bytes.len() / 2);
            let mut file = File::create(place.dropped(name)).unwrap();
            file.write_all(first).unwrap();
            open.push((file, second));
        }
    }
    thread::sleep(HALVES);
    for (mut file, second) in open {
        file.write_all(second).unwrap();
    }
}

/// Waits until `count` originals have been filed.
#[track_caller]
pub(crate) fn wait_filed(place: &Place, count: usize, limit: Duration) {
    let folders = [place.handoff().join("processed"), place.handoff().join("failed")];
    super::within(limit, &format!("{count} files are filed"), || {
        let filed: usize = folders.iter().map(|folder| originals(folder)).sum();
        (filed >= count).then_some(())
    });
}

fn originals(folder: &std::path::Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .filter_map(Result::ok)
        .filter(|entry| !entry.file_name().to_string_lossy().ends_with(".error.log"))
        .count()
}
