//! What all requests share, and the locks that a write holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde_json::Value;
use tokio::sync::{Mutex as Gate, broadcast, watch};
use tokio::time::{sleep, timeout};

use super::costs::{Costs, Load};
use super::faults::{Rules, Step};
use super::reply::{Outcome, Refusal, Reply};
use super::routes::{Call, Lot};
use super::store::{Name, Store};

/// Events that a slow watcher may be behind.
const EVENTS: usize = 1_024;

/// A request as it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// The verb.
    pub method: String,
    /// The path, decoded.
    pub path: String,
    /// What followed the question mark, decoded.
    pub query: String,
    /// The code of the answer; 0 if the connection ended without one, or it is still to come.
    pub status: u16,
    /// Whether it changed anything, whatever the answer said.
    pub applied: bool,
    /// When it arrived, from the start of the server.
    pub at: Duration,
}

impl Logged {
    /// `PATCH packagerevisions/edge.a.i-1/approval 200`: the path behind the namespace.
    pub fn short(&self) -> String {
        let tail = self.path.split_once("/namespaces/").and_then(|(_, rest)| rest.split_once('/'));
        format!("{} {} {}", self.method, tail.map_or(self.path.as_str(), |(_, tail)| tail), self.status)
    }
}

/// A change that watchers hear of.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) namespace: String,
    pub(super) resource: &'static str,
    pub(super) kind: &'static str,
    pub(super) object: Value,
}

/// What the requests change.
#[derive(Debug)]
pub(super) struct State {
    pub(super) store: Store,
    pub(super) costs: Costs,
    pub(super) token: Option<String>,
    /// Verb and resource, with its subresource.
    pub(super) denied: BTreeSet<(String, String)>,
    pub(super) rules: Rules,
    pub(super) log: Vec<(u64, Logged)>,
    pub(super) requests: u64,
    /// Locks that are held, and the request that holds each.
    pub(super) busy: BTreeMap<String, u64>,
    /// Processes of the server so far: what one left behind does not land in the next.
    pub(super) life: u64,
    /// Seconds by which its clock is ahead of that of the machine.
    pub(super) ahead: i64,
    /// A text that fails the render of every package that holds it.
    pub(super) poison: Option<String>,
    /// Whether a webhook keeps published revisions from being deleted.
    pub(super) protects_published: bool,
}

impl State {
    /// Changes an entry of the log, if that was not cleared meanwhile.
    pub(super) fn note(&mut self, entry: u64, change: impl FnOnce(&mut Logged)) {
        if let Some((_, logged)) = self.log.iter_mut().rev().find(|(id, _)| *id == entry) {
            change(logged);
        }
    }

    /// Does the work of a write; also one that answers with an error can have been carried out.
    fn carry_out<T>(&mut self, entry: u64, work: impl FnOnce(&mut State) -> Outcome<T>) -> Outcome<T> {
        let before = self.store.commits();
        let outcome = work(self);
        if outcome.is_ok() || self.store.commits() > before {
            self.note(entry, |logged| logged.applied = true);
        }
        outcome
    }
}

/// The server's memory.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) events: broadcast::Sender<Arc<Event>>,
    gates: Mutex<BTreeMap<String, Arc<Gate<()>>>>,
    /// Rises when writes that are held shall go on.
    pub(super) released: watch::Sender<u64>,
    /// False while nothing shall listen.
    pub(super) up: watch::Sender<bool>,
    /// Whether anything listens, and who waits for that to change.
    pub(super) listens: (Mutex<bool>, Condvar),
    pub(super) started: Instant,
}

/// Most time that a change of the listener takes.
const LISTENER: Duration = Duration::from_secs(5);

impl Shared {
    pub(super) fn new(seed: u64, costs: Costs, token: Option<String>, protects_published: bool) -> Shared {
        let state = State {
            store: Store::new(seed),
            costs,
            token,
            denied: BTreeSet::new(),
            rules: Rules::new(seed),
            log: Vec::new(),
            requests: 0,
            busy: BTreeMap::new(),
            life: 0,
            ahead: 0,
            poison: None,
            protects_published,
        };
        Shared {
            state: Mutex::new(state),
            events: broadcast::channel(EVENTS).0,
            gates: Mutex::default(),
            released: watch::channel(0).0,
            up: watch::channel(true).0,
            listens: (Mutex::new(true), Condvar::new()),
            started: Instant::now(),
        }
    }

    /// Opens or closes the port, and waits until it is so.
    pub(super) fn listen(&self, up: bool) {
        if !up {
            self.with(|state| {
                state.life += 1;
                state.busy.clear();
            });
        }
        self.up.send_replace(up);
        let (listens, changed) = &self.listens;
        let _ = changed.wait_while_for(&mut listens.lock(), |now| *now != up, LISTENER);
    }

    /// Says whether anything listens.
    pub(super) fn listening(&self, now: bool) {
        let (listens, changed) = &self.listens;
        *listens.lock() = now;
        changed.notify_all();
    }

    /// Looks at or changes the state; never across an await.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock())
    }

    pub(super) fn tell(&self, event: Event) {
        // Nobody watching is no fault.
        let _ = self.events.send(Arc::new(event));
    }

    /// The one lock of a git URL, which every fetch and push takes.
    fn gate(&self, url: &str) -> Arc<Gate<()>> {
        Arc::clone(self.gates.lock().entry(url.to_owned()).or_default())
    }

    /// Waits as long as a read takes: for the git lock, then for itself.
    pub(super) async fn read(&self, url: &str, step: Step, load: &Load) {
        let costs = self.with(|state| state.costs);
        if costs.factor > 0.0 {
            drop(self.gate(url).lock().await);
            sleep(costs.of(step, load)).await;
        }
    }
}

/// A write on its way.
pub(super) struct Write<'a> {
    pub(super) shared: &'a Shared,
    pub(super) call: &'a Call,
    /// What only one request may do at a time, and the answer to a second one.
    pub(super) lock: String,
    pub(super) taken: Refusal,
    /// The git URL.
    pub(super) url: String,
    pub(super) step: Step,
    pub(super) load: Load,
}

impl Write<'_> {
    /// Holds the object's lock, then that of git, for as long as the step costs, and then does it at once.
    pub(super) async fn run(self, work: impl FnOnce(&mut State) -> Outcome<(Name, Reply)>) -> Outcome {
        let entry = self.call.entry;
        let life = self.shared.with(|state| state.life);
        let mut released = self.shared.released.subscribe();
        let _held = Held::take(self.shared, self.lock, entry).ok_or(self.taken)?;
        match self.call.lot {
            Lot::Served => {}
            Lot::Held(time) | Lot::Cancelled(time) => {
                // The sender lives as long as the server: only time or a release ends this.
                let _ = timeout(time, released.changed()).await;
            }
        }
        if let Lot::Cancelled(_) = self.call.lot {
            return Err(Refusal::Hangup);
        }
        let carry_out = |state: &mut State| {
            if state.life == life { state.carry_out(entry, work) } else { Err(Refusal::Hangup) }
        };
        let costs = self.shared.with(|state| state.costs);
        if costs.factor <= 0.0 {
            return self.shared.with(carry_out).map(|(_, reply)| reply);
        }
        let gate = self.shared.gate(&self.url);
        let writer = Writer::enter(self.shared, &self.url);
        let _alone = gate.lock().await;
        sleep(costs.of(self.step, &self.load)).await;
        let writers = writer.count();
        self.shared.with(|state| {
            let (name, reply) = carry_out(state)?;
            if costs.roll_backs {
                lose_track(state, &self.url, &name, writers);
            }
            Ok(reply)
        })
    }
}

/// What several writers on one URL do to the listing.
#[expect(clippy::cast_precision_loss, reason = "a handful of writers")]
fn lose_track(state: &mut State, url: &str, name: &Name, writers: usize) {
    let chance = 0.02 * writers.saturating_sub(2) as f64;
    if state.rules.roll() < chance {
        let lasting = state.rules.roll() < 0.1;
        let heals = Duration::from_secs_f64((0.2 + 4.0 * state.rules.roll()) * state.costs.factor);
        let git = state.store.git(url);
        git.roll_back(&name.package, &name.workspace, None, (!lasting).then_some(heals));
    }
}

/// The lock of one object: never waited for.
struct Held<'a> {
    shared: &'a Shared,
    lock: String,
    holder: u64,
}

impl<'a> Held<'a> {
    fn take(shared: &'a Shared, lock: String, holder: u64) -> Option<Held<'a>> {
        shared.with(|state| {
            if state.busy.contains_key(&lock) {
                return None;
            }
            state.busy.insert(lock.clone(), holder);
            Some(Held { shared, lock, holder })
        })
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.shared.with(|state| {
            // Another process of the server may have lent it to another request.
            if state.busy.get(&self.lock) == Some(&self.holder) {
                state.busy.remove(&self.lock);
            }
        });
    }
}

/// One of those that write to a URL or wait for it.
struct Writer<'a> {
    shared: &'a Shared,
    url: &'a str,
}

impl<'a> Writer<'a> {
    fn enter(shared: &'a Shared, url: &'a str) -> Writer<'a> {
        shared.with(|state| state.store.git(url).writers += 1);
        Writer { shared, url }
    }

    fn count(&self) -> usize {
        self.shared.with(|state| state.store.git(self.url).writers)
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        self.shared.with(|state| state.store.git(self.url).writers -= 1);
    }
}
