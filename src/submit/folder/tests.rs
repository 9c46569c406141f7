use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::disk::{EntryKind, Layout, MemoryDisk, Place, Promise, RealDisk};
use crate::fate::{Lifecycle, Reason};
use crate::intent::{IntentType, Target};
use crate::package::tests::by_saphyr;
use crate::package::{self, CONTEXT, KPTFILE, WORKLOAD};
use crate::submit::contract::{self, Accepted, Object, World, deliver, receipt};

const FOREIGN: &[u8] = b"kind: Deployment\nmetadata: {name: somebody-elses}\n";

/// A folder sink's world: its disk, and whatever must be kept for that.
struct Ground<K> {
    disk: Arc<dyn Disk>,
    _keep: K,
}

impl<K> World for Ground<K> {
    fn open(&self) -> Box<dyn Sink> {
        Box::new(FolderSink::new(self.disk.clone(), None))
    }

    fn object(&self, target: &Target) -> Option<Object> {
        object(&*self.disk, target)
    }

    fn occupy(&self, target: &Target) {
        let dir = target.to_string();
        self.disk.make_dir(Place::Out, Path::new(&*target.namespace), 0o755).unwrap();
        self.disk.make_dir(Place::Out, Path::new(&dir), 0o755).unwrap();
        self.disk.create(Place::Out, Path::new(&at(target, WORKLOAD)), FOREIGN, 0o644).unwrap();
    }

    fn is_occupied(&self, target: &Target) -> bool {
        let here = |file| self.disk.look(Place::Out, Path::new(&at(target, file))).unwrap().is_some();
        text(&*self.disk, target, WORKLOAD).as_bytes() == FOREIGN && !here(KPTFILE)
    }
}

fn memory() -> (Arc<MemoryDisk>, FolderSink) {
    let disk = Arc::new(MemoryDisk::new());
    (disk.clone(), FolderSink::new(disk, None))
}

fn real() -> (tempfile::TempDir, Arc<dyn Disk>) {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout { handoff: dir.path().join("handoff"), failed: None, out: dir.path().join("out") };
    (dir, Arc::new(RealDisk::open(layout).unwrap()))
}

fn at(target: &Target, file: &str) -> String {
    format!("{target}/{file}")
}

fn text(disk: &dyn Disk, target: &Target, file: &str) -> String {
    let bytes = disk.read(Place::Out, Path::new(&at(target, file)), usize::MAX).unwrap().unwrap();
    String::from_utf8(bytes).unwrap()
}

fn overwrite(disk: &dyn Disk, target: &Target, file: &str, bytes: &[u8]) {
    let path = at(target, file);
    disk.replace(Place::Out, Path::new(&path), Path::new(&format!("{path}.put")), bytes, 0o644).unwrap();
}

fn object(disk: &dyn Disk, target: &Target) -> Option<Object> {
    let bytes = disk.read(Place::Out, Path::new(&at(target, WORKLOAD)), usize::MAX).unwrap()?;
    let documents = by_saphyr(std::str::from_utf8(&bytes).unwrap());
    let config = documents.last().unwrap();
    let annotations = &config["metadata"]["annotations"];
    let annotation =
        |name: &str| annotations[format!("conductor-loop.nephoran.com/{name}")].as_str().unwrap().to_owned();
    assert_eq!(config["metadata"]["name"], format!("{}-intent", target.name));
    Some(Object {
        id: annotation("intent-id").parse().unwrap(),
        revision: annotation("revision"),
        replicas: documents.iter().find_map(|document| document["spec"]["replicas"].as_u64()),
    })
}

fn configuration(number: u64, name: &str) -> Accepted {
    let mut accepted = Accepted::scaling(number, name, 1);
    accepted.intent.intent_type = IntentType::Configuration;
    accepted.intent.replicas = None;
    accepted.intent.fields = vec![("number".into(), number.to_string().into())];
    accepted
}

#[test]
fn the_contract_is_kept_in_memory() {
    contract::is_kept(|| Ground { disk: memory().0, _keep: () });
}

#[test]
fn the_contract_is_kept_on_a_real_disk() {
    contract::is_kept(|| {
        let (dir, disk) = real();
        Ground { disk, _keep: dir }
    });
}

#[test]
fn a_package_is_three_files_that_everybody_may_read() {
    let (dir, disk) = real();
    let accepted = Accepted::scaling(1, "odu-high-phy", 5);
    let first = receipt(deliver(&FolderSink::new(disk, None), &accepted, false));
    assert_eq!(first.name, "oran-odu/deployment-odu-high-phy");
    assert_eq!((&*first.revision, first.lifecycle, first.adopted), ("1", Lifecycle::Published, false));
    let package = dir.path().join("out/oran-odu/deployment-odu-high-phy");
    let mut files: Vec<_> = fs::read_dir(&package)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, [KPTFILE, CONTEXT, WORKLOAD]);
    let readable = |path: &Path, bits| fs::metadata(path).unwrap().permissions().mode() & bits == bits;
    assert!(readable(&package, 0o555) && readable(package.parent().unwrap(), 0o555));
    assert!(files.iter().all(|file| readable(&package.join(file), 0o444)));
    assert_eq!(fs::read_dir(package.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn modes_are_asked_for_as_promised() {
    let (disk, sink) = memory();
    let accepted = Accepted::scaling(1, "nf", 5);
    deliver(&sink, &accepted, false);
    deliver(&sink, &Accepted::scaling(2, "nf", 6), false);
    let mode = |path: &str| disk.mode(Place::Out, Path::new(path)).unwrap();
    assert_eq!((mode("oran-odu"), mode(&accepted.target().to_string())), (0o755, 0o755));
    for file in [KPTFILE, CONTEXT, WORKLOAD] {
        assert_eq!(mode(&at(accepted.target(), file)), 0o644);
    }
}

#[test]
fn a_warm_delivery_is_one_replacement_and_a_warm_repeat_nothing() {
    let (disk, sink) = memory();
    deliver(&sink, &Accepted::scaling(1, "nf", 1), false);
    let before = disk.calls();
    deliver(&sink, &Accepted::scaling(2, "nf", 2), false);
    assert_eq!(disk.calls() - before, 1);
    deliver(&sink, &Accepted::scaling(2, "nf", 2), false);
    assert_eq!(disk.calls() - before, 1);
    deliver(&sink, &configuration(3, "bare"), false);
    let before = disk.calls();
    deliver(&sink, &configuration(4, "bare"), false);
    assert_eq!(disk.calls() - before, 1, "no workload document to keep");
}

#[test]
fn readers_never_see_half_a_file() {
    let (dir, disk) = real();
    let sink = FolderSink::new(disk, None);
    let path = dir.path().join("out").join(at(Accepted::scaling(1, "nf", 1).target(), WORKLOAD));
    deliver(&sink, &Accepted::scaling(1, "nf", 1), false);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut reads, mut newest) = (0u64, 0);
            while !stop.load(Ordering::Relaxed) || reads == 0 {
                let text = fs::read_to_string(&path).unwrap();
                let documents = by_saphyr(&text);
                let revision = |at: usize| {
                    let annotations = &documents[at]["metadata"]["annotations"];
                    annotations["conductor-loop.nephoran.com/revision"]
                        .as_str()
                        .unwrap()
                        .parse::<u64>()
                        .unwrap()
                };
                assert_eq!(revision(0), revision(1));
                assert_eq!(documents[0]["spec"]["replicas"], revision(0));
                assert_eq!(documents[1]["data"]["replicas"], revision(0).to_string());
                assert!(text.ends_with("}\"\n") && revision(0) >= newest);
                newest = revision(0);
                reads += 1;
            }
            newest
        });
        for number in 2..=2000u32 {
            receipt(deliver(&sink, &Accepted::scaling(number.into(), "nf", number), false));
        }
        stop.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 1);
    });
}

#[test]
fn an_intent_without_scale_effect_keeps_the_workload_document() {
    let (disk, sink) = memory();
    let scale = Accepted::scaling(1, "nf", 5);
    deliver(&sink, &scale, false);
    let before = text(&*disk, scale.target(), WORKLOAD);
    for (number, sink) in [(2, &sink), (3, &FolderSink::new(disk.clone(), None))] {
        let next = configuration(number, "nf");
        assert_eq!(receipt(deliver(sink, &next, false)).revision, number.to_string());
        let after = text(&*disk, scale.target(), WORKLOAD);
        assert_eq!(after.split_once("---\n").unwrap().0, before.split_once("---\n").unwrap().0);
        assert_eq!(object(&*disk, scale.target()).unwrap().id, next.id);
    }
    let sink = FolderSink::new(disk.clone(), None);
    assert_eq!(receipt(deliver(&sink, &Accepted::scaling(4, "nf", 6), false)).revision, "4");
    assert_eq!(object(&*disk, scale.target()).unwrap().replicas, Some(6));
}

#[test]
fn a_package_that_was_removed_is_made_again() {
    let (dir, disk) = real();
    let sink = FolderSink::new(disk.clone(), None);
    deliver(&sink, &Accepted::scaling(1, "nf", 1), false);
    fs::remove_dir_all(dir.path().join("out/oran-odu")).unwrap();
    assert_eq!(receipt(deliver(&sink, &Accepted::scaling(2, "nf", 2), false)).revision, "1");
    assert_eq!(object(&*disk, Accepted::scaling(2, "nf", 2).target()).unwrap().replicas, Some(2));
}

#[test]
fn what_others_made_of_the_scaffold_stays_and_what_is_torn_is_mended() {
    let (disk, sink) = memory();
    let accepted = Accepted::scaling(1, "nf", 1);
    let target = accepted.target();
    deliver(&sink, &accepted, false);
    let edited = text(&*disk, target, KPTFILE).replace("pipeline: {}", "pipeline: {validators: []}");
    overwrite(&*disk, target, KPTFILE, edited.as_bytes());
    overwrite(&*disk, target, CONTEXT, b"");
    deliver(&sink, &Accepted::scaling(2, "nf", 2), true);
    assert_eq!(text(&*disk, target, KPTFILE), edited);
    assert_eq!(text(&*disk, target, CONTEXT), package::context(target));
}

#[test]
fn a_package_of_somebody_else_is_left_as_it_is() {
    let accepted = Accepted::scaling(1, "nf", 1);
    let target = accepted.target();
    let refused = |disk: &Arc<MemoryDisk>, says: &str| match deliver(
        &FolderSink::new(disk.clone(), None),
        &accepted,
        false,
    ) {
        Outcome::Rejected { reason: Reason::NameConflict, message } => {
            assert!(message.contains(says), "{message}");
        }
        other => panic!("not a name conflict: {other:?}"),
    };
    let disk = Arc::new(MemoryDisk::new());
    disk.make_dir(Place::Out, Path::new("oran-odu"), 0o755).unwrap();
    disk.plant(Place::Out, Path::new(&target.to_string()), EntryKind::File).unwrap();
    disk.outage(None);
    let outcome = deliver(&FolderSink::new(disk.clone(), None), &accepted, false);
    assert!(matches!(outcome, Outcome::Retry { .. }), "a file where the directory belongs: {outcome:?}");

    for kind in [EntryKind::Symlink, EntryKind::Fifo, EntryKind::Directory] {
        let disk = Arc::new(MemoryDisk::new());
        disk.make_dir(Place::Out, Path::new("oran-odu"), 0o755).unwrap();
        disk.make_dir(Place::Out, Path::new(&target.to_string()), 0o755).unwrap();
        disk.plant(Place::Out, Path::new(&at(target, WORKLOAD)), kind).unwrap();
        refused(&disk, kind.describe());
    }

    let disk = Arc::new(MemoryDisk::new());
    disk.make_dir(Place::Out, Path::new("oran-odu"), 0o755).unwrap();
    disk.make_dir(Place::Out, Path::new(&target.to_string()), 0o755).unwrap();
    disk.create(Place::Out, Path::new(&at(target, KPTFILE)), b"kind: Kptfile\n", 0o644).unwrap();
    refused(&disk, "Kptfile");
    assert_eq!(text(&*disk, target, KPTFILE), "kind: Kptfile\n");
}

#[test]
fn a_pipe_on_a_real_disk_is_somebody_elses() {
    let (dir, disk) = real();
    let accepted = Accepted::scaling(1, "nf", 1);
    let package = dir.path().join("out").join(accepted.target().to_string());
    fs::create_dir_all(&package).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        package.join(WORKLOAD),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    let outcome = deliver(&FolderSink::new(disk, None), &accepted, false);
    assert!(matches!(outcome, Outcome::Rejected { reason: Reason::NameConflict, .. }), "{outcome:?}");
}

#[test]
fn a_rearranged_file_is_not_guessed_at() {
    let (disk, sink) = memory();
    let accepted = Accepted::scaling(1, "nf", 1);
    deliver(&sink, &accepted, false);
    let text = text(&*disk, accepted.target(), WORKLOAD);
    let (workload, config) = text.split_once("---\n").unwrap();
    overwrite(&*disk, accepted.target(), WORKLOAD, format!("{config}---\n{workload}").as_bytes());
    let outcome = deliver(&sink, &configuration(2, "nf"), true);
    assert!(matches!(outcome, Outcome::Rejected { reason: Reason::NameConflict, .. }), "{outcome:?}");
    assert_eq!(receipt(deliver(&sink, &Accepted::scaling(3, "nf", 3), true)).revision, "2");
}

#[test]
fn every_failing_call_makes_the_intent_wait_and_the_next_attempt_heals_it() {
    for warm in [false, true] {
        for nth in 1..20 {
            for errno in [libc::EIO, libc::ENOSPC, libc::EACCES, libc::EROFS] {
                let (disk, sink) = memory();
                if warm {
                    deliver(&sink, &Accepted::scaling(1, "nf", 1), false);
                }
                disk.fail_call(nth, io::Error::from_raw_os_error(errno));
                let accepted = Accepted::scaling(2, "nf", 2);
                let before = disk.calls();
                match deliver(&sink, &accepted, false) {
                    Outcome::Retry { reason: Reason::SinkUnavailable, message, after: None, .. } => {
                        assert!(message.contains("oran-odu") && message.contains("os error"), "{message}");
                    }
                    Outcome::Delivered(_) if disk.calls() - before < nth => continue,
                    other => panic!("call {nth}: {other:?}"),
                }
                let receipt = receipt(deliver(&sink, &accepted, true));
                assert_eq!(receipt.revision, if warm { "2" } else { "1" }, "call {nth}");
                assert_eq!(object(&*disk, accepted.target()).unwrap().replicas, Some(2));
                assert_eq!(text(&*disk, accepted.target(), KPTFILE), package::kptfile(accepted.target()));
            }
        }
    }
}

#[test]
fn the_check_tells_what_is_wrong_with_the_out_directory() {
    let (disk, sink) = memory();
    sink.check().unwrap();
    for (errno, advice) in
        [(libc::EACCES, "writable"), (libc::ENOSPC, "free space"), (libc::EROFS, "read-write")]
    {
        disk.outage(Some(errno));
        assert!(sink.check().unwrap_err().contains(advice));
    }
    disk.outage(None);
    sink.check().unwrap();
    let mut names = 0;
    disk.list(Place::Out, Path::new(""), &mut |_| names += 1).unwrap();
    assert_eq!(names, 0);
}

#[test]
fn a_blueprint_makes_the_whole_workload_and_a_bad_one_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(MemoryDisk::new());
    let sink = FolderSink::new(disk.clone(), Some(dir.path().to_path_buf()));
    let file = dir.path().join("deployment-nf.yaml");
    let blueprint = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: nf\nspec:\n  replicas: 1 # n\n  paused: true\n";
    fs::write(&file, blueprint).unwrap();
    let accepted = Accepted::scaling(1, "nf", 4);
    deliver(&sink, &accepted, false);
    assert!(text(&*disk, accepted.target(), WORKLOAD).contains("  replicas: 4 # n\n  paused: true\n---\n"));
    fs::write(&file, "kind: Nothing\n").unwrap();
    let outcome = deliver(&sink, &Accepted::scaling(2, "nf", 5), false);
    assert!(matches!(outcome, Outcome::Rejected { reason: Reason::RenderFailed, .. }), "{outcome:?}");
    assert!(receipt(deliver(&sink, &accepted, true)).adopted, "what was applied stays applied");
    drop(dir);
    let outcome = deliver(&sink, &Accepted::scaling(3, "nf", 5), false);
    assert!(matches!(outcome, Outcome::Retry { .. }), "{outcome:?}");
    assert!(sink.check().unwrap_err().contains("package.blueprints"));
}

#[test]
fn a_restore_leaves_what_somebody_else_put_there() {
    let (disk, sink) = memory();
    let accepted = Accepted::scaling(1, "nf", 1);
    let receipt = receipt(deliver(&sink, &accepted, false));
    overwrite(&*disk, accepted.target(), WORKLOAD, FOREIGN);
    FolderSink::new(disk.clone(), None).restore(&accepted.delivery(true), &receipt).unwrap();
    assert_eq!(text(&*disk, accepted.target(), WORKLOAD).as_bytes(), FOREIGN);
    let odd = Receipt { revision: "v7".to_owned(), ..receipt };
    assert!(sink.restore(&accepted.delivery(true), &odd).unwrap_err().contains("v7"));
}

/// What happens between two power cuts.
#[derive(Debug, Clone)]
enum Act {
    Scale { target: usize, replicas: u32 },
    Configure { target: usize },
    Checkpoint,
    Restart,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (0..3usize, 0..100u32).prop_map(|(target, replicas)| Act::Scale { target, replicas }),
        2 => (0..3usize).prop_map(|target| Act::Configure { target }),
        1 => Just(Act::Checkpoint),
        1 => Just(Act::Restart),
    ];
    prop::collection::vec(act, 1..40)
}

/// A ledger as far as the sink is concerned, and the sink over a disk that forgets.
struct Machine {
    disk: Arc<MemoryDisk>,
    sink: FolderSink,
    /// In acceptance order: the intent, its durable outcome, whether a checkpoint closed it.
    rows: Vec<(Accepted, Option<Receipt>, bool)>,
}

impl Machine {
    fn new() -> Self {
        let (disk, sink) = memory();
        Machine { disk, sink, rows: Vec::new() }
    }

    fn run(&mut self, acts: &[Act]) {
        for act in acts {
            let number = self.rows.len() as u64 + 1;
            let accepted = match act {
                Act::Scale { target, replicas } => {
                    Accepted::scaling(number, &format!("nf-{target}"), *replicas)
                }
                Act::Configure { target } => configuration(number, &format!("nf-{target}")),
                Act::Checkpoint => {
                    self.disk.flush().unwrap();
                    self.rows.iter_mut().for_each(|row| row.2 = true);
                    continue;
                }
                Act::Restart => {
                    self.sink = FolderSink::new(self.disk.clone(), None);
                    continue;
                }
            };
            let receipt = receipt(deliver(&self.sink, &accepted, false));
            assert_eq!(receipt.revision, self.count(accepted.target(), 1).to_string());
            self.rows.push((accepted, Some(receipt), false));
        }
    }

    fn count(&self, target: &Target, more: usize) -> usize {
        self.rows.iter().filter(|row| row.0.target() == target).count() + more
    }

    /// The lights go out; the newest `unrecorded` outcomes had not become durable. Then the recovery
    /// of a start: restore what was delivered, deliver what is doubtful.
    fn cut(&mut self, seed: u64, promise: Promise, unrecorded: usize) {
        for row in self.rows.iter_mut().rev().take(unrecorded).filter(|row| !row.2) {
            row.1 = None;
        }
        self.disk = Arc::new(self.disk.power_cut(seed, promise));
        self.sink = FolderSink::new(self.disk.clone(), None);
        for (accepted, receipt, _) in self.rows.iter().filter(|row| !row.2) {
            if let Some(receipt) = receipt {
                self.sink.restore(&accepted.delivery(true), receipt).unwrap();
            }
        }
        let mut doubtful: BTreeMap<Box<str>, Vec<usize>> = BTreeMap::new();
        for (at, row) in self.rows.iter().enumerate().filter(|(_, row)| row.1.is_none()) {
            doubtful.entry(row.0.target().name.clone()).or_default().push(at);
        }
        for places in doubtful.into_values() {
            let deliveries: Vec<_> = places.iter().map(|&at| self.rows[at].0.delivery(true)).collect();
            let mut receipts = self.sink.overtaken(&deliveries).unwrap();
            for &at in &places[receipts.len()..] {
                receipts.push(receipt(deliver(&self.sink, &self.rows[at].0, true)));
            }
            for (at, receipt) in places.into_iter().zip(receipts) {
                self.rows[at].1 = Some(receipt);
            }
        }
    }

    /// Every target holds its newest intent, and with it the newest count.
    fn assert_whole(&self, revisions_hold: bool) {
        let mut newest: BTreeMap<Box<str>, (&Accepted, Option<u64>, u64)> = BTreeMap::new();
        for (accepted, _, _) in &self.rows {
            let name = accepted.target().name.clone();
            let entry = newest.entry(name).or_insert((accepted, None, 0));
            let replicas = accepted.intent.replicas.map(u64::from).or(entry.1);
            *entry = (accepted, replicas, entry.2 + 1);
        }
        for (accepted, replicas, count) in newest.into_values() {
            let target = accepted.target();
            let object = object(&*self.disk, target).unwrap();
            assert_eq!(object.id, accepted.id);
            if revisions_hold {
                assert_eq!((object.replicas, object.revision), (replicas, count.to_string()));
            } else {
                assert_eq!(object.replicas, replicas);
            }
            assert_eq!(text(&*self.disk, target, KPTFILE), package::kptfile(target));
            assert_eq!(text(&*self.disk, target, CONTEXT), package::context(target));
        }
    }
}

proptest! {
    #[test]
    fn after_a_power_cut_every_target_holds_its_newest_intent_under_its_own_revision(
        first in acts(), second in acts(), seeds in any::<[u64; 2]>(), unrecorded in 0..6usize
    ) {
        let mut machine = Machine::new();
        for (acts, seed) in [(first, seeds[0]), (second, seeds[1])] {
            machine.run(&acts);
            machine.cut(seed, Promise::ContentBeforeReplace, unrecorded);
            machine.assert_whole(true);
        }
    }

    #[test]
    fn on_a_disk_that_promises_nothing_the_newest_intent_still_arrives(
        acts in acts(), seed in any::<u64>(), unrecorded in 0..6usize
    ) {
        // An intent without scale effect cannot bring back a workload that such a disk has lost.
        let scaling: Vec<_> = acts.into_iter().filter(|act| !matches!(act, Act::Configure { .. })).collect();
        let mut machine = Machine::new();
        machine.run(&scaling);
        machine.cut(seed, Promise::Nothing, unrecorded);
        machine.assert_whole(false);
    }

    #[test]
    fn a_second_recovery_changes_nothing(acts in acts(), seed in any::<u64>()) {
        let mut machine = Machine::new();
        machine.run(&acts);
        machine.cut(seed, Promise::ContentBeforeReplace, 0);
        let held = |machine: &Machine| {
            let targets: Vec<_> = machine.rows.iter().map(|row| row.0.target()).collect();
            targets.iter().map(|target| text(&*machine.disk, target, WORKLOAD)).collect::<Vec<_>>()
        };
        let before = held(&machine);
        machine.sink = FolderSink::new(machine.disk.clone(), None);
        for (accepted, receipt, _) in machine.rows.iter().filter(|row| !row.2) {
            machine.sink.restore(&accepted.delivery(true), receipt.as_ref().unwrap()).unwrap();
        }
        prop_assert_eq!(held(&machine), before);
    }
}
