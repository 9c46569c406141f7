//! What producers do.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::place::{Place, names_in};

impl Place {
    /// Writes the file elsewhere and renames it in.
    #[track_caller]
    pub(crate) fn rename_in(&self, name: &str, bytes: &[u8]) {
        let draft = self.desk().join(name);
        fs::write(&draft, bytes).unwrap();
        fs::rename(&draft, self.handoff().join(name)).unwrap();
    }

    /// Writes the file in the folder itself, a chunk at a time, closing it at the end.
    #[track_caller]
    pub(crate) fn write_in(&self, name: &str, chunks: &[&[u8]], pause: Duration) {
        let mut file = File::create(self.handoff().join(name)).unwrap();
        for (at, chunk) in chunks.iter().enumerate() {
            if at > 0 {
                thread::sleep(pause);
            }
            file.write_all(chunk).unwrap();
        }
    }

    /// A file in the folder under this name.
    pub(crate) fn dropped(&self, name: &str) -> PathBuf {
        self.handoff().join(name)
    }

    /// An archived original or its error log.
    pub(crate) fn processed(&self, name: &str) -> PathBuf {
        self.handoff().join("processed").join(name)
    }

    /// A refused original or its error log.
    pub(crate) fn failed(&self, name: &str) -> PathBuf {
        self.handoff().join("failed").join(name)
    }

    /// The names in one of the folders below the handoff folder.
    pub(crate) fn list(&self, folder: &str) -> Vec<String> {
        let mut names = names_in(&self.handoff().join(folder));
        names.sort();
        names
    }

    /// Drops a good file for a target of its own and waits until it is delivered: whatever came before
    /// did not stop the daemon (R4).
    #[track_caller]
    pub(crate) fn next_good_file_is_delivered(&self, after: &str) {
        let target = format!("good-{after}");
        let name = format!("intent-good-{after}.json");
        self.rename_in(&name, &super::scale(&target, 4));
        let status = self.settled(&name);
        assert_eq!(status["fate"], "delivered", "after {after}: {status:#}");
        assert_eq!(self.deployment(&target).replicas, Some(4));
    }
}
