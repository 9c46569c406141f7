//! A bounded queue of finished lines and the thread that writes them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};

/// Lines that may wait for the log.
pub const QUEUED_LINES: usize = 8192;

/// How long the end of the process waits for the log.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

enum Message {
    Line(String),
    /// Something that only this thread can do to itself.
    Act(Box<dyn FnOnce() + Send>),
    /// Dropped when all lines before it are written, which its other end notices.
    Flush(Sender<()>),
}

/// The near end of the queue; a cheap clone.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    queue: Sender<Message>,
    /// Lines that the log could not take.
    lost: Arc<AtomicU64>,
}

impl Lines {
    /// Starts the thread, which hands every line to `write` and ends with the last clone of the queue.
    pub(super) fn to(write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let (queue, queued) = bounded(QUEUED_LINES);
        let lost = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&lost);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || run(&queued, write, &counted))?;
        Ok(Lines { queue, lost })
    }

    /// Queues a line, or drops and counts it; never waits.
    pub(super) fn push(&self, line: String) {
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until the queued lines are written, a second at most.
    pub(super) fn flush(&self) {
        let deadline = Instant::now() + FLUSH_LIMIT;
        let (done, is_done) = bounded(1);
        if self.queue.send_deadline(Message::Flush(done), deadline).is_ok() {
            // Neither a slow log nor a dead one may hold the end up.
            let _ = is_done.recv_deadline(deadline);
        }
    }

    /// Lines lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Has the thread carry out `act` after the queued lines; false if it does not take it within a second.
    pub(super) fn act(&self, act: Box<dyn FnOnce() + Send>) -> bool {
        self.queue.send_timeout(Message::Act(act), FLUSH_LIMIT).is_ok()
    }
}

fn run(queued: &Receiver<Message>, mut write: impl FnMut(&[u8]) -> io::Result<()>, lost: &AtomicU64) {
    for message in queued {
        match message {
            // A closed pipe fails every line; each is counted and the next one tried.
            Message::Line(line) => {
                if write(line.as_bytes()).is_err() {
                    lost.fetch_add(1, Ordering::Relaxed);
                }
            }
            Message::Act(act) => act(),
            Message::Flush(done) => drop(done),
        }
    }
}
