//! Fresh folders with their backlog of intents.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::syncfs;

const NAMESPACE: &str = "ran-a";

/// The name of the intent with this number.
pub(crate) fn intent_name(number: u64) -> String {
    format!("intent-{number:06}.json")
}

/// The package of a target, below the out directory.
pub(crate) fn package(target: u64) -> String {
    format!("{NAMESPACE}/deployment-{}", target_name(target))
}

/// `text`, filled up to `size` bytes.
pub(crate) fn pad(text: &str, size: usize) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(size, b'.');
    bytes
}

fn target_name(target: u64) -> String {
    format!("odu-high-phy-{target:04}")
}

/// A flat intent of about 300 bytes.
fn intent(number: u64, target: u64) -> String {
    format!(
        "{{\"intent_type\": \"scaling\", \"target\": \"{}\", \"namespace\": \"{NAMESPACE}\", \
         \"replicas\": {}, \"source\": \"planner\", \"priority\": 5, \
         \"correlation_id\": \"c0ffee00-0000-4000-8000-{number:012}\", \
         \"reason\": \"the cell load of the last quarter of an hour asks for another share of the pool\"}}\n",
        target_name(target),
        1 + number % 100,
    )
}

/// The folders of one run.
pub(crate) struct Place(PathBuf);

impl Place {
    /// A place that is there already.
    pub(crate) fn at(root: &Path) -> Place {
        Place(root.to_owned())
    }

    /// A place with `files` intents for `targets` targets in its handoff folder, all of it flushed. What
    /// the daemon does not make is made here for the floor loop: its folders and the first packages.
    pub(crate) fn fill(root: &Path, files: u64, targets: u64, for_floor: bool) -> io::Result<Place> {
        let place = Place(root.to_owned());
        fs::create_dir_all(place.handoff())?;
        fs::create_dir_all(place.out())?;
        for number in 0..files {
            fs::write(place.handoff().join(intent_name(number)), intent(number, number % targets))?;
        }
        if for_floor {
            fs::create_dir(place.processed())?;
            fs::create_dir(place.status())?;
            for target in 0..targets {
                let package = place.out().join(package(target));
                fs::create_dir_all(&package)?;
                fs::write(package.join("workload.yaml"), "# none\n")?;
            }
        }
        syncfs(fs::File::open(root)?)?;
        Ok(place)
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.0
    }

    /// Where intents lie.
    pub(crate) fn handoff(&self) -> PathBuf {
        self.0.join("handoff")
    }

    /// Where packages appear.
    pub(crate) fn out(&self) -> PathBuf {
        self.0.join("out")
    }

    /// Where settled intents go.
    pub(crate) fn processed(&self) -> PathBuf {
        self.handoff().join("processed")
    }

    /// Where status files go.
    pub(crate) fn status(&self) -> PathBuf {
        self.handoff().join("status")
    }

    /// The floor loop's log.
    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("log")
    }
}
