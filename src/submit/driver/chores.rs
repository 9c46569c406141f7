//! When the sink does work of its own, and whom its news concern.
//!
//! It is asked after every delivery and then when it says, at most twice a second while nothing is
//! delivered, and never while a group is out. A chore that takes longer than 5 minutes is dropped; after that, and
//! after a panic, the next one waits a minute. At most 10,000 intents are known whose object may still change;
//! news of older ones are left out.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::clock::Mono;
use crate::fate::{Id, Lifecycle, Receipt};
use crate::submit::{News, Sink, Tended};

/// Between two chores while nothing is delivered.
const LEAST: Duration = Duration::from_millis(500);
/// The longest chore.
const LONGEST: Duration = Duration::from_secs(300);
/// After one that failed.
const REST: Duration = Duration::from_secs(60);
/// Intents whose object may still change.
const KNOWN: usize = 10_000;

/// What came of a chore.
pub(super) enum Chore {
    /// It is done.
    Done(Tended),
    /// It took too long and was dropped.
    Late,
    /// It panicked.
    Panic,
}

/// Chores of one sink.
#[derive(Debug, Default)]
pub(super) struct Chores {
    has_any: bool,
    due: Option<Mono>,
    busy: bool,
    trouble: Option<String>,
    /// Row numbers of intents whose object may still change, and the order in which they came.
    rows: HashMap<Id, u64>,
    order: VecDeque<Id>,
}

impl Chores {
    /// The first one is due at once, if the sink has any.
    pub(super) fn new(has_any: bool, now: Mono) -> Self {
        Chores { has_any, due: has_any.then_some(now), ..Chores::default() }
    }

    /// When the next one is due.
    pub(super) fn due(&self) -> Option<Mono> {
        self.due.filter(|_| !self.busy)
    }

    /// What kept the sink from the newest one that ended.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// True while one is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// A group was answered.
    pub(super) fn after_group(&mut self, now: Mono) {
        self.due = self.has_any.then_some(now);
    }

    /// What the sink holds of an intent may change without our doing.
    pub(super) fn follow(&mut self, row: u64, id: Id, receipt: &Receipt) {
        if !self.has_any || !may_change(receipt) || self.rows.insert(id, row).is_some() {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > KNOWN
            && let Some(oldest) = self.order.pop_front()
        {
            self.rows.remove(&oldest);
        }
    }

    /// One chore begins.
    pub(super) fn begin(&mut self, sink: Arc<dyn Sink>, idle: bool) -> BoxFuture<'static, Chore> {
        self.busy = true;
        Box::pin(async move {
            let tended = AssertUnwindSafe(sink.tend(idle)).catch_unwind();
            match tokio::time::timeout(LONGEST, tended).await {
                Ok(Ok(tended)) => Chore::Done(tended),
                Ok(Err(_)) => Chore::Panic,
                Err(_) => Chore::Late,
            }
        })
    }

    /// It ended; the rows that changed, and what the sink holds of them.
    pub(super) fn ended(&mut self, chore: Chore, now: Mono) -> Vec<(u64, Receipt)> {
        self.busy = false;
        let Chore::Done(Tended { news, next, trouble }) = chore else {
            self.due = Some(now.after(REST));
            return Vec::new();
        };
        self.due = next.map(|next| now.after(next.max(LEAST)));
        self.trouble = trouble;
        news.into_iter().filter_map(|news| self.changed(news)).collect()
    }

    fn changed(&mut self, News { id, receipt }: News) -> Option<(u64, Receipt)> {
        let row = *self.rows.get(&id)?;
        if !may_change(&receipt) {
            self.rows.remove(&id);
            self.order.retain(|known| *known != id);
        }
        Some((row, receipt))
    }
}

/// Somebody else decides on it.
fn may_change(receipt: &Receipt) -> bool {
    matches!(receipt.lifecycle, Lifecycle::Draft | Lifecycle::Proposed)
}
