//! The work on one package: ask what it holds, judge, write.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::fault::Fault;
use super::recent::{Known, Recent};
use crate::disk::{Clobber, Disk, EntryKind, Place};
use crate::fate::{Id, Lifecycle, Receipt};
use crate::intent::{Intent, Target};
use crate::package::{
    self, Base, Blueprint, Blueprints, CONTEXT, Document, Held, KPTFILE, MANAGER, Stamp, WORKLOAD,
};
use crate::submit::Delivery;

const FILE_MODE: u32 = 0o644;
const DIR_MODE: u32 = 0o755;
const PROBE: &str = ".conductor-loop.probe";

/// Most bytes read of a file that stands in a package; a larger one is not ours.
const MAX_FILE: usize = 64 << 20;

/// A rendering buffer that has grown past this many bytes is given back.
const KEPT_BUFFER: usize = 256 << 10;

/// Everything that deliveries share: one thread at a time works at it.
pub(super) struct Desk {
    disk: Arc<dyn Disk>,
    blueprints: Option<Blueprints>,
    recent: Recent,
    text: Vec<u8>,
}

/// Which revision an intent makes.
#[derive(Debug, Clone, Copy)]
enum Numbering {
    /// The one after what is there.
    Next,
    /// This one, unless something newer is there.
    Exactly(u64),
}

/// What has to happen to a `workload.yaml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// Nothing: it holds this or something newer.
    Leave,
    /// It is written anew if it turns out to be torn.
    Mend,
    /// It is written.
    Write,
}

/// What the intent wants of the workload document.
enum Wish {
    Scale(u32, Option<Arc<Blueprint>>),
    Keep,
}

impl Wish {
    fn base<'a>(&'a self, document: Document<'a>) -> Option<Base<'a>> {
        match (self, document) {
            (Wish::Scale(replicas, None), _) => Some(Base::Owned(*replicas)),
            (Wish::Scale(replicas, Some(blueprint)), _) => Some(Base::Blueprint(blueprint, *replicas)),
            (Wish::Keep, Document::Whole(text)) => Some(Base::Kept(text)),
            (Wish::Keep, Document::Absent) => Some(Base::Absent),
            (Wish::Keep, Document::Lost) => None,
        }
    }
}

impl Desk {
    pub(super) fn new(disk: Arc<dyn Disk>, blueprints: Option<Blueprints>) -> Self {
        Desk { disk, blueprints, recent: Recent::default(), text: Vec::new() }
    }

    /// Delivers one intent; after a fault the package is asked anew next time.
    pub(super) fn deliver(&mut self, delivery: &Delivery<'_>) -> Result<Receipt, Fault> {
        let target = &delivery.intent.target;
        let result = self.attempt(delivery);
        if result.is_err() {
            self.recent.forget(target);
        }
        result.map(|(revision, adopted)| receipt(target, revision, adopted))
    }

    fn attempt(&mut self, delivery: &Delivery<'_>) -> Result<(u64, bool), Fault> {
        let target = &delivery.intent.target;
        let known = if delivery.doubtful { None } else { self.recent.get(target) };
        match known {
            Some(known) if known.id == Some(delivery.id) => Ok((known.revision, true)),
            Some(known) => match self.follow(delivery, known) {
                Err(Fault::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
                    self.examine(delivery, Numbering::Next, true)
                }
                result => result,
            },
            None => self.examine(delivery, Numbering::Next, true),
        }
    }

    /// The hot path: what the package holds is known, so one replacement does it. Only where a
    /// workload document has to be kept is the file read for it.
    fn follow(&mut self, delivery: &Delivery<'_>, known: Known) -> Result<(u64, bool), Fault> {
        let wish = self.wish(delivery.intent)?;
        if matches!(wish, Wish::Keep) && !known.bare {
            return self.examine(delivery, Numbering::Next, false);
        }
        let base = wish.base(Document::Absent).unwrap_or(Base::Absent);
        let revision = known.revision.saturating_add(1);
        self.render(delivery, revision, base);
        self.replace(&delivery.intent.target, WORKLOAD, &self.text)?;
        let bare = matches!(base, Base::Absent);
        self.recent.put(&delivery.intent.target, Known { id: Some(delivery.id), revision, bare });
        Ok((revision, false))
    }

    /// Makes sure that the package holds this intent as this revision, or something newer.
    pub(super) fn restore(&mut self, delivery: &Delivery<'_>, revision: u64) -> Result<(), Fault> {
        let target = &delivery.intent.target;
        match self.recent.get(target) {
            Some(known) if known.revision > revision => return Ok(()),
            Some(known) if known.revision == revision && known.id == Some(delivery.id) => return Ok(()),
            _ => {}
        }
        let result = self.examine(delivery, Numbering::Exactly(revision), true);
        if result.is_err() {
            self.recent.forget(target);
        }
        result.map(|_| ())
    }

    /// The receipts of those deliveries before the one that the package holds: what it holds was
    /// written over theirs, one revision each.
    pub(super) fn overtaken(&self, doubtful: &[Delivery<'_>]) -> Result<Vec<Receipt>, Fault> {
        let Some(target) = doubtful.first().map(|delivery| &delivery.intent.target) else {
            return Ok(Vec::new());
        };
        let found = self.read(target, WORKLOAD)?;
        let Held::Ours(holding) = Held::parse(found.as_deref().unwrap_or_default()) else {
            return Ok(Vec::new());
        };
        let held = doubtful.iter().position(|delivery| Some(delivery.id) == holding.id).unwrap_or(0) as u64;
        let before = (0..held).map(|place| holding.revision.saturating_sub(held - place).max(1));
        Ok(before.map(|revision| receipt(target, revision, true)).collect())
    }

    /// Asks the disk, judges, and writes what is missing; with `scaffold` the two files that are
    /// written once are looked at too. The revision that stands then, and whether the intent was
    /// there already.
    fn examine(
        &mut self,
        delivery: &Delivery<'_>,
        numbering: Numbering,
        scaffold: bool,
    ) -> Result<(u64, bool), Fault> {
        let target = &delivery.intent.target;
        let found = self.read(target, WORKLOAD)?;
        let bytes = found.as_deref().unwrap_or_default();
        let held = Held::parse(bytes);
        let (revision, act) = judge(&held, delivery.id, numbering);
        let (id, document) = match held {
            Held::Ours(holding) => (holding.id, holding.document),
            Held::Empty | Held::Unmarked => (None, Document::Absent),
        };
        let adopted = id == Some(delivery.id);

        let (bare, write) = match act {
            Act::Leave => (document == Document::Absent, false),
            Act::Mend | Act::Write => match self.render_wish(delivery, revision, document) {
                Ok(bare) => (bare, act == Act::Write || Held::is_torn(bytes, &self.text)),
                // What was applied stays applied, whatever has become of its blueprint since.
                Err(_) if adopted && act == Act::Mend => (document == Document::Absent, false),
                Err(fault) => return Err(fault),
            },
        };
        if held == Held::Unmarked && !write {
            return Err(Fault::Occupied {
                path: path(target, WORKLOAD),
                by: "a file without our annotations",
            });
        }
        if found.is_none() && self.is_vacant(target)? {
            self.build(target)?;
        } else {
            if scaffold {
                self.mend_scaffold(target, matches!(held, Held::Ours(_)))?;
            }
            if write {
                self.replace(target, WORKLOAD, &self.text)?;
            }
        }
        match act {
            // Something newer stands there that nobody has looked through: it may be torn.
            Act::Leave => self.recent.forget(target),
            Act::Mend | Act::Write => {
                self.recent.put(target, Known { id: Some(delivery.id), revision, bare })
            }
        }
        Ok((revision, adopted))
    }

    fn wish(&mut self, intent: &Intent) -> Result<Wish, Fault> {
        let Some(replicas) = package::scale(intent) else {
            return Ok(Wish::Keep);
        };
        let blueprint = match &mut self.blueprints {
            Some(blueprints) => blueprints.find(&intent.target).map_err(Fault::Blueprint)?,
            None => None,
        };
        Ok(Wish::Scale(replicas, blueprint))
    }

    /// Renders over what stands there; true if the file then holds the ConfigMap alone.
    fn render_wish(
        &mut self,
        delivery: &Delivery<'_>,
        revision: u64,
        document: Document<'_>,
    ) -> Result<bool, Fault> {
        let wish = self.wish(delivery.intent)?;
        let base = wish
            .base(document)
            .ok_or_else(|| Fault::Rearranged { path: path(&delivery.intent.target, WORKLOAD) })?;
        self.render(delivery, revision, base);
        Ok(matches!(base, Base::Absent))
    }

    fn render(&mut self, delivery: &Delivery<'_>, revision: u64, base: Base<'_>) {
        if self.text.capacity() > KEPT_BUFFER {
            self.text = Vec::new();
        }
        self.text.clear();
        let stamp = Stamp { id: delivery.id, sha: delivery.sha, revision };
        package::render(&mut self.text, delivery.intent, &stamp, base);
    }

    /// Whether nothing at all stands under the package's name.
    fn is_vacant(&self, target: &Target) -> Result<bool, Fault> {
        let dir = directory(target);
        match self.disk.look(Place::Out, Path::new(&dir)) {
            Ok(None) => Ok(true),
            Ok(Some(meta)) if meta.kind == EntryKind::Directory => Ok(false),
            Ok(Some(meta)) => Err(Fault::Occupied { path: dir, by: meta.kind.describe() }),
            Err(cause) => Err(Fault::Io { act: "look at", path: dir, cause }),
        }
    }

    /// The first package of a target: all of it beside its place, then one rename. What an earlier
    /// build that was cut off left there is overwritten.
    fn build(&self, target: &Target) -> Result<(), Fault> {
        let beside = format!("{}/.{}-{}.new", target.namespace, target.kind.as_str(), target.name);
        self.make_dir(&target.namespace)?;
        self.make_dir(&beside)?;
        let (kptfile, context) = (package::kptfile(target), package::context(target));
        let files = [(KPTFILE, kptfile.as_bytes()), (CONTEXT, context.as_bytes()), (WORKLOAD, &self.text)];
        for (file, bytes) in files {
            let path = format!("{beside}/{file}");
            let at = Path::new(&path);
            let done = self.disk.remove(Place::Out, at);
            done.and_then(|()| self.disk.create(Place::Out, at, bytes, FILE_MODE))
                .map_err(|cause| Fault::Io { act: "create", path, cause })?;
        }
        let place = directory(target);
        self.disk
            .rename((Place::Out, Path::new(&beside)), (Place::Out, Path::new(&place)), Clobber::Never)
            .map_err(|cause| Fault::Io { act: "put a new package at", path: place, cause })
    }

    fn make_dir(&self, path: &str) -> Result<(), Fault> {
        match self.disk.make_dir(Place::Out, Path::new(path), DIR_MODE) {
            Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => {
                Err(Fault::Io { act: "make directory", path: path.to_owned(), cause })
            }
            _ => Ok(()),
        }
    }

    /// Rewrites `Kptfile` and `package-context.yaml` where they are missing or torn; what others have
    /// made of them stays. Without a `workload.yaml` of ours the Kptfile tells whose package it is.
    fn mend_scaffold(&self, target: &Target, ours: bool) -> Result<(), Fault> {
        for (file, whole) in [(KPTFILE, package::kptfile(target)), (CONTEXT, package::context(target))] {
            let found = self.read(target, file)?;
            let whole = whole.as_bytes();
            let bytes = found.as_deref().unwrap_or_default();
            if bytes == whole {
                continue;
            }
            if Held::is_torn(bytes, whole) {
                self.replace(target, file, whole)?;
            } else if !ours && file == KPTFILE && !mentions_us(bytes) {
                return Err(Fault::Occupied {
                    path: path(target, file),
                    by: "the Kptfile of another package",
                });
            }
        }
        Ok(())
    }

    /// Pipes and devices may open and read as nothing, so an empty file is looked at again.
    fn read(&self, target: &Target, file: &str) -> Result<Option<Vec<u8>>, Fault> {
        let path = path(target, file);
        let found = self.disk.read(Place::Out, Path::new(&path), MAX_FILE);
        match &found {
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) if bytes.len() >= MAX_FILE => {
                return Err(Fault::Occupied { path, by: "larger than any package file" });
            }
            Ok(Some(bytes)) if !bytes.is_empty() => {}
            Ok(Some(_)) | Err(_) => {
                if let Ok(Some(meta)) = self.disk.look(Place::Out, Path::new(&path))
                    && meta.kind != EntryKind::File
                {
                    return Err(Fault::Occupied { path, by: meta.kind.describe() });
                }
            }
        }
        found.map_err(|cause| Fault::Io { act: "read", path, cause })
    }

    fn replace(&self, target: &Target, file: &str, bytes: &[u8]) -> Result<(), Fault> {
        let (path, temporary) = (path(target, file), temporary(target, file));
        self.disk
            .replace(Place::Out, Path::new(&path), Path::new(&temporary), bytes, FILE_MODE)
            .map_err(|cause| Fault::Io { act: "replace", path, cause })
    }

    /// Whether the out directory and the blueprints are there and a byte can be written.
    pub(super) fn check(&mut self) -> Result<(), Fault> {
        let fault = |act, cause| Fault::Io { act, path: PROBE.to_owned(), cause };
        let probe = Path::new(PROBE);
        match self.disk.create(Place::Out, probe, b"\n", FILE_MODE) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Err(Fault::OutGone),
            Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => return Err(fault("create", cause)),
            _ => {}
        }
        self.disk.remove(Place::Out, probe).map_err(|cause| fault("remove", cause))?;
        self.blueprints.as_ref().map_or(Ok(()), Blueprints::check).map_err(Fault::Blueprint)
    }
}

fn receipt(target: &Target, revision: u64, adopted: bool) -> Receipt {
    Receipt {
        name: target.to_string(),
        revision: revision.to_string(),
        lifecycle: Lifecycle::Published,
        adopted,
    }
}

/// The revision that stands in the end and what has to be done for it.
fn judge(held: &Held<'_>, id: Id, numbering: Numbering) -> (u64, Act) {
    let first = match numbering {
        Numbering::Next => 1,
        Numbering::Exactly(revision) => revision,
    };
    let Held::Ours(holding) = held else {
        return (first, if *held == Held::Empty { Act::Write } else { Act::Mend });
    };
    match (holding.id == Some(id), numbering) {
        (true, _) if holding.revision > 0 => (holding.revision, Act::Mend),
        (true, _) => (first, Act::Write),
        (false, Numbering::Next) => (holding.revision.saturating_add(1), Act::Write),
        (false, Numbering::Exactly(revision)) if holding.revision > revision => {
            (holding.revision, Act::Leave)
        }
        (false, Numbering::Exactly(_)) => (first, Act::Write),
    }
}

fn mentions_us(kptfile: &[u8]) -> bool {
    kptfile.windows(MANAGER.len()).any(|window| window == MANAGER.as_bytes())
}

fn directory(target: &Target) -> String {
    target.to_string()
}

fn path(target: &Target, file: &str) -> String {
    join(target, "/", file, "")
}

fn temporary(target: &Target, file: &str) -> String {
    join(target, "/.", file, ".tmp")
}

fn join(target: &Target, before: &str, file: &str, after: &str) -> String {
    [&target.namespace, "/", target.kind.as_str(), "-", &target.name, before, file, after].concat()
}
