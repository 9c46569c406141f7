//! Named threads, fixed in number: how they are started, what their end means, how they are waited for.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use crossbeam::channel::{self, Receiver, Sender};
use parking_lot::Mutex;

use super::StartFault;

/// Said once, when a stage ends with a fault that forbids going on.
pub(super) type OnFailure = Arc<dyn Fn(String) + Send + Sync>;

pub(super) struct Threads {
    started: Vec<String>,
    ended: Mutex<HashSet<String>>,
    done: Sender<String>,
    over: Receiver<String>,
    failed: OnFailure,
}

impl Threads {
    pub(super) fn new(failed: OnFailure) -> Self {
        let (done, over) = channel::unbounded();
        Threads { started: Vec::new(), ended: Mutex::default(), done, over, failed }
    }

    /// Starts a stage. Its panic aborts the process: what it held would be lost without a word.
    pub(super) fn spawn(
        &mut self,
        name: &str,
        body: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) -> Result<(), StartFault> {
        let (done, failed, called) = (self.done.clone(), Arc::clone(&self.failed), name.to_owned());
        let guarded = move || {
            match catch_unwind(AssertUnwindSafe(body)) {
                Ok(Ok(())) => {}
                Ok(Err(message)) => failed(message),
                Err(_) => {
                    tracing::error!(
                        thread = called,
                        "a stage panicked; the process ends and is resumed by its next start"
                    );
                    std::process::abort();
                }
            }
            // Nobody waits any more when the pipeline is gone.
            let _ = done.send(called);
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(guarded).map_err(|err| {
            StartFault::new(format!("thread {name} cannot be started: {err}; raise TasksMax"))
        })?;
        self.started.push(name.to_owned());
        Ok(())
    }

    /// Waits until every thread whose name begins with `name` has ended; false at the deadline.
    pub(super) fn join(&self, name: &str, deadline: Instant) -> bool {
        let mut ended = self.ended.lock();
        loop {
            let waits =
                self.started.iter().any(|started| started.starts_with(name) && !ended.contains(started));
            if !waits {
                return true;
            }
            match self.over.recv_deadline(deadline) {
                Ok(over) => drop(ended.insert(over)),
                Err(_) => return false,
            }
        }
    }
}
