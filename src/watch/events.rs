//! Kernel events: sorted and filtered on notify's thread, handed over through a bounded ring.
//!
//! The callback only classifies and pushes: no I/O, no waiting, and no memory for what is ignored
//! (opens, among them our own; reads; names that are no intents). What finds no room in the ring
//! is counted and asks for a rescan. Root events and overflows are flags, not ring entries.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crossbeam::queue::ArrayQueue;
use crossbeam::sync::Unparker;
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind, RenameMode};
use notify::{Config, ErrorKind, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::names::{self, Names, Verdict};
use crate::debounce::Hint;

/// What an event says about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// Something for the debouncer.
    Seen(Hint),
    /// Its mode or owner may have changed.
    Mode,
    /// It matches the pattern but is not touched.
    BadName,
    /// A directory came, or something that may be one (recursive only).
    Directory,
    /// A directory went (recursive only).
    Gone,
}

/// One event on its way to the watch thread.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sighting {
    /// Relative to the handoff folder.
    pub(super) name: Box<[u8]>,
    pub(super) what: What,
}

/// What notify's thread and the watch thread share.
pub(super) struct Feed {
    root: PathBuf,
    names: Arc<Names>,
    recursive: bool,
    ring: ArrayQueue<Sighting>,
    /// Sightings that found no room.
    lost: AtomicU64,
    /// The kernel, or the ring, has dropped events.
    overflowed: AtomicBool,
    /// Something happened to the folder itself, or to the daemon's directories in it.
    shaken: AtomicBool,
    /// Names that wait for a permission: without any, changes of mode are no news.
    unreadable: AtomicUsize,
    wake: Unparker,
}

/// The kernel's side of the watch; dropping it ends the events.
#[derive(Debug)]
pub(super) struct Events {
    watcher: RecommendedWatcher,
    root: PathBuf,
}

/// Why no watch could be placed.
#[derive(Debug)]
pub(super) struct NoEvents {
    /// True when a limit of the system is reached (D12), which polling gets around.
    pub(super) limit: bool,
    /// What failed and what to do.
    pub(super) message: String,
}

impl Feed {
    pub(super) fn new(
        root: PathBuf,
        names: Arc<Names>,
        recursive: bool,
        capacity: usize,
        wake: Unparker,
    ) -> Self {
        Feed {
            root,
            names,
            recursive,
            ring: ArrayQueue::new(capacity.max(1)),
            lost: AtomicU64::new(0),
            overflowed: AtomicBool::new(false),
            shaken: AtomicBool::new(false),
            unreadable: AtomicUsize::new(0),
            wake,
        }
    }

    /// The next event.
    pub(super) fn next(&self) -> Option<Sighting> {
        self.ring.pop()
    }

    /// Whether events were lost since the last call, and how many of them in the ring.
    pub(super) fn take_overflow(&self) -> Option<u64> {
        let overflowed = self.overflowed.swap(false, Ordering::SeqCst);
        overflowed.then(|| self.lost.swap(0, Ordering::SeqCst))
    }

    /// Whether the folder itself has to be looked at since the last call.
    pub(super) fn take_shaken(&self) -> bool {
        self.shaken.swap(false, Ordering::SeqCst)
    }

    pub(super) fn set_unreadable(&self, count: usize) {
        self.unreadable.store(count, Ordering::SeqCst);
    }

    /// The callback.
    fn take(&self, event: notify::Result<notify::Event>) {
        match event {
            Ok(event) => self.sort(&event),
            // A failed read of the event queue: whatever was in it is lost.
            Err(_) => self.overflow(0),
        }
    }

    fn sort(&self, event: &notify::Event) {
        if event.need_rescan() {
            self.overflow(0);
        }
        let Some(what) = classify(event.kind) else { return };
        let Some(path) = event.paths.first() else { return };
        let Some(name) = below(&self.root, path) else { return };
        if name.is_empty() {
            if matches!(what, What::Gone | What::Mode) {
                self.shake();
            }
            return;
        }
        let single = name.rsplit(|byte| *byte == b'/').next().unwrap_or(name);
        let what = match what {
            What::Seen(hint) => match self.names.judge(single) {
                Verdict::Take => What::Seen(hint),
                Verdict::Bad => What::BadName,
                // Only a rename does not tell files from directories.
                Verdict::Ignore if hint == Hint::Renamed && self.may_be_watched(name) => What::Directory,
                Verdict::Ignore => return,
            },
            What::Mode => {
                let wanted = self.unreadable.load(Ordering::SeqCst) > 0;
                if !wanted || self.names.judge(single) != Verdict::Take {
                    return;
                }
                What::Mode
            }
            What::Directory if self.may_be_watched(name) => What::Directory,
            What::Gone => {
                // Somebody clears the folder, or is about to remove it.
                if names::is_own_directory(name) {
                    self.shake();
                }
                // Intents go all the time: we file them.
                if !self.may_be_watched(name) || self.names.judge(single) == Verdict::Take {
                    return;
                }
                What::Gone
            }
            What::Directory | What::BadName => return,
        };
        self.hand_over(Sighting { name: name.into(), what });
    }

    fn may_be_watched(&self, name: &[u8]) -> bool {
        let mut components = name.split(|byte| *byte == b'/');
        let top = components.next().unwrap_or_default();
        self.recursive
            && names::is_foreign_directory(top, true)
            && components.all(|name| names::is_foreign_directory(name, false))
    }

    fn hand_over(&self, sighting: Sighting) {
        match self.ring.push(sighting) {
            Ok(()) => self.wake.unpark(),
            Err(_) => self.overflow(1),
        }
    }

    fn overflow(&self, lost: u64) {
        self.lost.fetch_add(lost, Ordering::SeqCst);
        self.overflowed.store(true, Ordering::SeqCst);
        self.wake.unpark();
    }

    fn shake(&self) {
        self.shaken.store(true, Ordering::SeqCst);
        self.wake.unpark();
    }
}

/// What the kinds of notify 8 mean on inotify; `None` for noise. `Name(Both)` repeats `Name(To)`.
fn classify(kind: EventKind) -> Option<What> {
    Some(match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => What::Seen(Hint::Closed),
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => What::Seen(Hint::Renamed),
        EventKind::Create(CreateKind::File) | EventKind::Modify(ModifyKind::Data(_)) => {
            What::Seen(Hint::Touched)
        }
        EventKind::Create(CreateKind::Folder) => What::Directory,
        EventKind::Modify(ModifyKind::Metadata(_)) => What::Mode,
        EventKind::Modify(ModifyKind::Name(RenameMode::From))
        | EventKind::Remove(RemoveKind::Folder | RemoveKind::Other) => What::Gone,
        _ => return None,
    })
}

/// The part of `path` below `root`, without the slash between them; empty for the root itself.
fn below<'a>(root: &Path, path: &'a Path) -> Option<&'a [u8]> {
    let rest = path.as_os_str().as_bytes().strip_prefix(root.as_os_str().as_bytes())?;
    match rest {
        [] => Some(rest),
        [b'/', rest @ ..] => Some(rest),
        _ => None,
    }
}

impl Events {
    /// Watches the folder, not what is below it.
    pub(super) fn start(feed: &Arc<Feed>) -> Result<Events, NoEvents> {
        let sink = Arc::clone(feed);
        let handler = move |event| sink.take(event);
        let config = Config::default().with_follow_symlinks(false);
        let watcher = RecommendedWatcher::new(handler, config).map_err(NoEvents::from)?;
        let mut events = Events { watcher, root: feed.root.clone() };
        events.add(b"")?;
        Ok(events)
    }

    /// Watches one directory below the folder; empty means the folder itself.
    pub(super) fn add(&mut self, below: &[u8]) -> Result<(), NoEvents> {
        let path = if below.is_empty() {
            self.root.clone()
        } else {
            self.root.join(std::ffi::OsStr::from_bytes(below))
        };
        self.watcher.watch(&path, RecursiveMode::NonRecursive).map_err(NoEvents::from)
    }
}

impl From<notify::Error> for NoEvents {
    fn from(fault: notify::Error) -> Self {
        let (limit, message) = match &fault.kind {
            ErrorKind::MaxFilesWatch => {
                (true, "no inotify watch left for this user: raise fs.inotify.max_user_watches".to_owned())
            }
            // EMFILE: instances of this user, or descriptors of this process.
            ErrorKind::Io(io) if io.raw_os_error() == Some(libc::EMFILE) => (
                true,
                "no inotify instance left for this user: raise fs.inotify.max_user_instances".to_owned(),
            ),
            ErrorKind::Io(io) if io.raw_os_error() == Some(libc::ENOSYS) => {
                (true, "this kernel has no inotify".to_owned())
            }
            _ => (false, fault.to_string()),
        };
        NoEvents { limit, message }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam::sync::Parker;
    use notify::event::{DataChange, Flag, MetadataKind};

    use super::*;
    use crate::watch::pattern::Pattern;

    fn feed(recursive: bool, capacity: usize) -> Feed {
        let names = Arc::new(Names::new(Pattern::new("*.json").unwrap()));
        Feed::new("/in.json".into(), names, recursive, capacity, Parker::new().unparker().clone())
    }

    fn event(kind: EventKind, path: &str) -> notify::Result<notify::Event> {
        Ok(notify::Event::new(kind).add_path(path.into()))
    }

    const CLOSED: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
    const RENAMED: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::To));

    fn drain(feed: &Feed) -> Vec<(String, What)> {
        std::iter::from_fn(|| feed.next())
            .map(|sighting| (String::from_utf8_lossy(&sighting.name).into_owned(), sighting.what))
            .collect()
    }

    #[test]
    fn events_that_matter_come_through_with_their_meaning() {
        let feed = feed(false, 16);
        feed.take(event(EventKind::Create(CreateKind::File), "/in.json/a.json"));
        feed.take(event(EventKind::Modify(ModifyKind::Data(DataChange::Any)), "/in.json/a.json"));
        feed.take(event(CLOSED, "/in.json/a.json"));
        feed.take(event(RENAMED, "/in.json/b.json"));
        feed.take(event(RENAMED, "/in.json/b\u{202e}.json"));
        let seen = |name: &str, hint| (name.to_owned(), What::Seen(hint));
        let expected = [
            seen("a.json", Hint::Touched),
            seen("a.json", Hint::Touched),
            seen("a.json", Hint::Closed),
            seen("b.json", Hint::Renamed),
            ("b\u{202e}.json".to_owned(), What::BadName),
        ];
        assert_eq!(drain(&feed), expected);
    }

    #[test]
    fn noise_is_dropped() {
        let feed = feed(false, 16);
        for kind in [
            EventKind::Access(AccessKind::Open(AccessMode::Any)),
            EventKind::Access(AccessKind::Close(AccessMode::Read)),
            EventKind::Modify(ModifyKind::Name(RenameMode::Both)),
            EventKind::Modify(ModifyKind::Name(RenameMode::From)),
            EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)),
            EventKind::Create(CreateKind::Folder),
            EventKind::Remove(RemoveKind::File),
            EventKind::Any,
        ] {
            feed.take(event(kind, "/in.json/a.json"));
        }
        feed.take(event(CLOSED, "/in.json/a.json.tmp"));
        feed.take(event(CLOSED, "/in.json"));
        feed.take(event(CLOSED, "/in.jsonx/a.json"));
        feed.take(event(RENAMED, "/in.json/directory"));
        assert_eq!(drain(&feed), []);
        assert!(!feed.take_shaken() && feed.take_overflow().is_none());
    }

    #[test]
    fn a_change_of_mode_is_news_while_somebody_waits_for_one() {
        let feed = feed(false, 16);
        feed.set_unreadable(1);
        feed.take(event(EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)), "/in.json/a.json"));
        assert_eq!(drain(&feed), [("a.json".to_owned(), What::Mode)]);
    }

    #[test]
    fn an_overflow_needs_no_path_and_is_told_once() {
        let feed = feed(false, 1);
        feed.take(Ok(notify::Event::new(EventKind::Other).set_flag(Flag::Rescan)));
        assert_eq!(feed.take_overflow(), Some(0));
        assert_eq!(feed.take_overflow(), None);
        for _ in 0..3 {
            feed.take(event(CLOSED, "/in.json/a.json"));
        }
        assert_eq!(feed.take_overflow(), Some(2));
        assert_eq!(drain(&feed).len(), 1);
    }

    #[test]
    fn what_happens_to_the_folder_itself_is_a_flag() {
        let feed = feed(false, 16);
        for path in ["/in.json", "/in.json/processed"] {
            feed.take(event(EventKind::Remove(RemoveKind::Folder), path));
            assert!(feed.take_shaken(), "{path}");
        }
        feed.take(event(EventKind::Modify(ModifyKind::Name(RenameMode::From)), "/in.json"));
        assert!(feed.take_shaken());
        assert_eq!(drain(&feed), []);
    }

    #[test]
    fn directories_are_told_of_only_in_a_recursive_watch() {
        let feed = feed(true, 16);
        feed.take(event(EventKind::Create(CreateKind::Folder), "/in.json/sub"));
        feed.take(event(RENAMED, "/in.json/sub/deep"));
        feed.take(event(EventKind::Create(CreateKind::Folder), "/in.json/status"));
        feed.take(event(RENAMED, "/in.json/.hidden"));
        feed.take(event(RENAMED, "/in.json/processed/x"));
        feed.take(event(EventKind::Remove(RemoveKind::Folder), "/in.json/sub"));
        feed.take(event(CLOSED, "/in.json/sub/a.json"));
        feed.take(event(EventKind::Modify(ModifyKind::Name(RenameMode::From)), "/in.json/sub/a.json"));
        let expected = [
            ("sub".to_owned(), What::Directory),
            ("sub/deep".to_owned(), What::Directory),
            ("sub".to_owned(), What::Gone),
            ("sub/a.json".to_owned(), What::Seen(Hint::Closed)),
        ];
        assert_eq!(drain(&feed), expected);
    }
}
