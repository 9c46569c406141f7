//! What each step takes on the real server, fitted to measurements of one client on a small machine.
//!
//! Seconds; objects are those of the repository, revisions those of the package. Every step pays about 9 ms
//! for each revision of its package, a create 9 ms for each object of the repository besides, since the
//! server reads a side object for each, at most 200 a second. The files step compares every new resource with
//! every old one. What comes out is 0.66 to 1.6 times what was measured, from 1 to 1,000 packages and from 1 to
//! 5,000 files. Left out: a reader that slows a writer down by its share of those 200 reads, round trips to a
//! git that is not on the same machine (about 21 an intent), and noise.

use std::time::Duration;

use super::faults::Step;

/// How long the requests take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Costs {
    /// 0 for none at all, 1 as measured.
    pub factor: f64,
    /// With more than two writers at once on one git URL the listing falls behind at times, as measured:
    /// 2 % of the writes for each writer beyond the second, one in ten of them until the next sync.
    pub roll_backs: bool,
}

impl Costs {
    /// Answers at once, and never loses track.
    pub const NONE: Costs = Costs { factor: 0.0, roll_backs: false };
    /// As the real server.
    pub const MEASURED: Costs = Costs { factor: 1.0, roll_backs: true };

    pub(super) fn of(self, step: Step, load: &Load) -> Duration {
        Duration::from_secs_f64((load.seconds(step) * self.factor).max(0.0))
    }
}

impl Default for Costs {
    fn default() -> Self {
        Costs::NONE
    }
}

/// Objects above which the list of a repository answers with nothing.
pub(super) const LIST_GIVES_UP: usize = 2_000;

/// What a request finds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Load {
    pub(super) objects: usize,
    pub(super) revisions: usize,
    /// Resources and bytes of the package before and after.
    pub(super) old_files: usize,
    pub(super) files: usize,
    pub(super) bytes: usize,
    /// Objects that a list has to read.
    pub(super) matched: usize,
}

impl Load {
    #[expect(clippy::cast_precision_loss, reason = "counts of files and bytes, far below 2^52")]
    fn seconds(&self, step: Step) -> f64 {
        let [objects, revisions, old_files, files, bytes, matched] =
            [self.objects, self.revisions, self.old_files, self.files, self.bytes, self.matched]
                .map(|count| count as f64);
        let share = 0.009 * revisions + 0.000_45 * objects;
        match step {
            Step::Create => 0.11 + 0.009 * (objects + revisions) + 0.000_6 * files + 0.18e-6 * bytes,
            Step::Files => {
                let pairs = (files * old_files / 1e6).powf(0.805) * 3.6;
                0.10 + share + 0.000_25 * files + 1.35e-6 * bytes + pairs
            }
            Step::Propose => 0.11 + share + 0.000_45 * files + 0.2e-6 * bytes,
            Step::Approve => 0.12 + share,
            Step::Delete => 0.13 + share,
            Step::List => 0.005 + 0.01 * matched,
            Step::Get | Step::ReadFiles | Step::Repository | Step::Network | Step::Other => 0.005,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Step, packages, revisions of the package, files before and after, bytes, seconds measured.
    type Measured = (Step, usize, usize, usize, usize, usize, f64);

    #[test]
    fn the_fits_are_near_what_was_measured() {
        let measured: [Measured; 20] = [
            (Step::Create, 1, 0, 0, 4, 1_700, 0.14),
            (Step::Create, 10, 0, 0, 4, 1_700, 0.26),
            (Step::Create, 100, 0, 0, 4, 1_700, 1.6),
            (Step::Create, 300, 0, 0, 4, 1_700, 5.2),
            (Step::Create, 1_000, 0, 0, 4, 1_700, 19.0),
            (Step::Files, 1, 0, 3, 4, 1_700, 0.10),
            (Step::Files, 300, 0, 3, 4, 1_700, 0.35),
            (Step::Files, 1_000, 0, 3, 4, 1_700, 1.0),
            (Step::Propose, 1_000, 0, 4, 4, 1_700, 1.2),
            (Step::Approve, 100, 0, 4, 4, 1_700, 0.21),
            (Step::Create, 30, 60, 4, 4, 1_700, 1.2),
            (Step::Files, 1, 60, 4, 4, 1_700, 0.6),
            (Step::Files, 1, 2, 3, 1_000, 430_000, 0.9),
            (Step::Files, 1, 2, 1_000, 1_000, 430_000, 4.5),
            (Step::Files, 1, 2, 5_000, 5_000, 2_145_000, 53.0),
            (Step::Files, 1, 2, 100, 100, 43_000, 0.36),
            (Step::Propose, 1, 2, 1_000, 1_000, 430_000, 0.8),
            (Step::Propose, 1, 2, 5_000, 5_000, 2_145_000, 3.5),
            (Step::Files, 1, 2, 4, 4, 132_000, 0.26),
            (Step::Files, 1, 2, 4, 4, 660_000, 0.96),
        ];
        for (step, packages, revisions, old_files, files, bytes, seconds) in measured {
            let load = Load { objects: 2 * packages, revisions, old_files, files, bytes, matched: 0 };
            let fitted = load.seconds(step);
            let ratio = fitted / seconds;
            assert!((0.66..1.6).contains(&ratio), "{step:?} {load:?}: {fitted:.2} for {seconds}");
        }
    }
}
