//! What the stage needs from outside: its orders, where its results go, and where it reads an intent again.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Sender;
use futures_util::future::BoxFuture;

use crate::fate::{Reason, Receipt, SinkKind};
use crate::intent::{Intent, Target};
use crate::ledger::Row;
use crate::submit::Outcome;
use crate::submit::breaker::Circuit;
use crate::submit::dispatch::{Finished, Job, Notice, Pace, Pending, Unsent};

/// What the stage is told.
#[derive(Debug)]
pub enum Order {
    /// The ledger accepted these, in this order.
    Accepted(Vec<Job>),
    /// Go by another pace from now on. With `judge_again` the rules for intents changed too: what was
    /// accepted before is held to the new ones before it is sent.
    Tune {
        /// The new pace.
        pace: Pace,
        /// Read waiting intents from the ledger again.
        judge_again: bool,
    },
    /// An earlier process accepted these, in this order; sent before any that this one accepts. Each line
    /// begins at a moment of its own within this time.
    Resumed(Vec<Job>, Duration),
    /// Answer whether this row is held for the operator.
    IsHeld {
        /// Its target.
        target: Arc<Target>,
        /// Its number.
        seq: u64,
        /// For the answer.
        answer: Sender<bool>,
    },
    /// Send this row again if it is held; its ledger has noted that.
    Permit {
        /// Its target.
        target: Arc<Target>,
        /// Its number.
        seq: u64,
    },
    /// Send nothing new and end when the sink has answered, within this time.
    Stop(Duration),
}

/// Comes true when a note is durable, false if it never will be.
pub type Noted = BoxFuture<'static, bool>;

/// Where the stage's results go.
pub trait Outbox: Send {
    /// These have their end; make it durable.
    fn finished(&mut self, ended: Vec<Finished>);
    /// These wait; tell their producers.
    fn waiting(&mut self, notices: Vec<Notice>);
    /// One attempt took this long and ended so.
    fn attempted(&mut self, outcome: &Outcome, took: Duration);
    /// These are about to be sent to a sink that cannot be asked: note it, durably.
    fn beginning(&mut self, group: &[Job]) -> Noted;
    /// What the sink holds of these delivered rows has changed.
    fn changed(&mut self, rows: Vec<(u64, Receipt)>);
    /// An attempt that was noted had no effect; with `counts` false it was not even made.
    fn without_effect(&mut self, job: &Job, counts: bool);
    /// How things stand, about once a second while anything waits and after every change of circuit.
    fn standing(
        &mut self,
        sink: SinkKind,
        circuit: Circuit,
        pending: Pending,
        trouble: Option<&(Reason, String)>,
    );
    /// What keeps the sink from its own work, after each look; intents are delivered all the same.
    fn hindered(&mut self, _trouble: Option<&str>) {}
    /// So many groups may be out at once now.
    fn limited(&mut self, groups: usize);
    /// A group goes to the sink: its intents may be read again first, and the folder sink works at once.
    /// These are calls that may not return on a file system that hangs.
    fn calling(&mut self) {}
    /// The sink answered.
    fn answered(&mut self) {}
    /// Nothing waits and nothing is at the sink.
    fn resting(&mut self) {}
    /// An attempt panicked; its intents are tried again one by one.
    fn panicked(&mut self) {}
}

/// Gives the parsed intent of a row back when it was not kept in memory.
pub trait Recall: Send + Sync {
    /// The intent of an accepted row, read from the ledger again and held to the rules in force now.
    fn intent(&self, row: &Row) -> Result<Intent, Unsent>;

    /// The accepted bytes of a row.
    fn file(&self, row: &Row) -> Result<Vec<u8>, Unsent>;
}
