//! The Porch sink: intents become package revisions.
//!
//! A group of intents of one package becomes one revision ([`walk`]): create, files, propose, approve, as
//! far as `sink.porch.approval` asks for. One write at a time, because more writers on one git URL are
//! slower and make the server lose track of what it holds (`porch.md` 4); the sink has one repository, so
//! `parallel` is 1. In idle moments it follows what waits for somebody's approval and removes its own old
//! revisions ([`tend`]), so that the cost of an intent stays flat.
//!
//! The server is asked, never believed from memory, after every error and for every doubtful delivery:
//! each intent's key stands in the package, so what was applied is found and answered `adopted`.
//!
//! [`api`] names the few requests, [`client`] makes them, [`classify`] says what their errors mean, [`names`]
//! makes names.

pub mod api;
pub mod classify;
pub mod client;
mod limits;
pub mod names;
mod shelf;
mod tend;
pub(in crate::submit) mod trouble;
mod walk;
pub(in crate::submit) mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex as Short;
use tokio::sync::Mutex;

use self::api::{Api, Class};
use self::client::{Client, Connection, Reach, Step, Surroundings};
use self::names::Layout;
use self::shelf::Memory;
use self::tend::Tending;
pub use self::trouble::PATIENCE;
use self::trouble::{Patience, counted};
use self::walk::Walk;
use super::{Abilities, Delivery, Gather, Outcome, Sink, Tended};
use crate::clock::Clock;
use crate::config::{Approval, Config, DedupScope, Environment, OpenProposal, PackageContent as Content};
use crate::fate::{Id, Receipt, SinkKind};
use crate::intent::Target;
use crate::observe::Metrics;
use crate::package::{Blueprints, Form};

/// Most intents in one revision: the files of twice as many still fit the server's 6 MiB.
const GROUP: usize = 2_000;
/// Git URLs of one sink: it has one repository, and to one URL there is one write at a time.
const URLS: usize = 1;

/// The sink's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name of the Repository object.
    pub repository: String,
    /// Which targets share a package.
    pub layout: Layout,
    /// The package of all targets, where they share one.
    pub site: String,
    /// What packages hold.
    pub content: Content,
    /// Object name of the published revision from which new packages are cloned.
    pub blueprint: Option<String>,
    /// Directory of workloads (`package.blueprints`).
    pub blueprints: Option<PathBuf>,
    /// How far revisions are taken.
    pub approval: Approval,
    /// What becomes of our own open proposal.
    pub open_proposal: OpenProposal,
    /// How long the first intent of a shared package waits for company.
    pub window: Duration,
    /// Our own published revisions that a package keeps.
    pub keep_revisions: usize,
    /// Most git URLs that are written to at once.
    pub max_parallel: usize,
    /// What makes a file a repeat, for the dedup key.
    pub scope: DedupScope,
    /// How long one delivery looks again at a server whose cache went back, or whose answer got lost; not a
    /// key: [`PATIENCE`] outside of tests.
    pub patience: Duration,
}

impl Settings {
    fn form(&self) -> Form {
        match (self.content, self.layout) {
            (Content::Component, _) => Form::Component,
            (Content::Workloads, Layout::Target) => Form::Single,
            (Content::Workloads, _) => Form::Files,
        }
    }
}

/// Hears of every fault of the server.
pub type Heard = Box<dyn Fn(Class) + Send + Sync>;

/// Package revisions on a Porch server.
pub struct PorchSink {
    api: Arc<dyn Api>,
    settings: Settings,
    heard: Heard,
    desk: Mutex<Desk>,
    /// The newest trouble, for [`Sink::check`].
    trouble: Short<Option<String>>,
}

/// What only one delivery at a time works with.
struct Desk {
    memory: Memory,
    blueprints: Option<Blueprints>,
    tending: Tending,
    seed: u64,
}

/// The sink of these settings, with a real server behind it. Nothing is asked and no file is read yet.
///
/// # Errors
///
/// A text for the user where `sink.porch.repository` is missing.
pub fn open(
    config: &Config,
    environment: &Environment,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
) -> Result<PorchSink, String> {
    let chosen = &config.sink.porch;
    let repository = chosen.repository.clone();
    let repository = repository.ok_or("the Porch sink has no repository; set sink.porch.repository")?;
    let connection = connection(config, environment);
    let settings = Settings {
        repository,
        layout: chosen.package,
        site: chosen.site.clone(),
        content: chosen.content,
        blueprint: chosen.blueprint.clone(),
        blueprints: config.package.blueprints.clone(),
        approval: chosen.approval,
        open_proposal: chosen.open_proposal,
        window: chosen.group_window,
        keep_revisions: chosen.keep_revisions,
        max_parallel: chosen.max_parallel,
        scope: config.ledger.dedup_scope,
        patience: PATIENCE,
    };
    let seed = clock.now().0 ^ u64::from(std::process::id());
    let timed = |step: Step, took: Duration| {
        tracing::debug!(step = step.as_str(), milliseconds = took.as_millis(), "a request to porch");
    };
    let client = Client::new(connection, clock, Box::new(timed));
    let heard = move |class| counted(class).into_iter().for_each(|fault| metrics.fault(fault));
    Ok(PorchSink::new(Arc::new(client), settings, Box::new(heard), seed))
}

pub(in crate::submit) fn connection(config: &Config, environment: &Environment) -> Connection {
    let chosen = &config.sink.porch;
    Connection {
        url: chosen.url.clone(),
        ca_file: chosen.ca_file.clone(),
        kubeconfig: chosen.kubeconfig.clone(),
        surroundings: Surroundings::of(environment),
        namespace: chosen.namespace.clone(),
        repository: chosen.repository.clone().unwrap_or_default(),
        request_timeout: chosen.request_timeout,
    }
}

/// What of the machine the sink of these settings needs.
pub fn reach(config: &Config, environment: &Environment) -> Reach {
    Reach::of(&connection(config, environment).way())
}

impl PorchSink {
    /// A sink that has asked nothing yet. `seed` spreads its pauses.
    pub fn new(api: Arc<dyn Api>, settings: Settings, heard: Heard, seed: u64) -> Self {
        let blueprints = settings.blueprints.clone().map(Blueprints::new);
        let desk = Desk { memory: Memory::default(), blueprints, tending: Tending::default(), seed };
        PorchSink { api, settings, heard, desk: Mutex::new(desk), trouble: Short::new(None) }
    }

    fn package_of(&self, target: &Target) -> String {
        names::package(self.settings.layout, &self.settings.site, target)
    }

    async fn deliver_group(&self, group: &[Delivery<'_>]) -> Vec<Outcome> {
        let Some(first) = group.first() else { return Vec::new() };
        let mut desk = self.desk.lock().await;
        let Desk { memory, blueprints, tending, seed } = &mut *desk;
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let package = self.package_of(&first.intent.target);
        let walk = Walk {
            api: &*self.api,
            settings: &self.settings,
            memory,
            blueprints: blueprints.as_mut(),
            package: package.clone(),
            group,
            keys: group.iter().map(|delivery| delivery.key(SinkKind::Porch, self.settings.scope)).collect(),
            outcomes: vec![None; group.len()],
            patience: Patience::new(self.settings.patience, *seed),
            doubt: false,
            heard: &*self.heard,
        };
        let outcomes = walk.run().await;
        tending.notice(&package, group, &outcomes);
        *self.trouble.lock() = outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Retry { message, .. } | Outcome::Held { message, .. } => Some(message.clone()),
            Outcome::Delivered(_) | Outcome::Rejected { .. } => None,
        });
        outcomes
    }
}

impl Sink for PorchSink {
    fn kind(&self) -> SinkKind {
        SinkKind::Porch
    }

    fn abilities(&self) -> Abilities {
        let alone = self.settings.layout == Layout::Target;
        Abilities {
            parallel: self.settings.max_parallel.min(URLS),
            group: if alone { 1 } else { GROUP },
            gather: Gather::Package,
            window: if alone { Duration::ZERO } else { self.settings.window },
        }
    }

    fn package(&self, target: &Target) -> Option<String> {
        Some(self.package_of(target))
    }

    fn deliver<'a>(&'a self, group: &'a [Delivery<'a>]) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(self.deliver_group(group))
    }

    fn resume(&self, open: Vec<(Id, Receipt)>) {
        // Called before the first delivery: nobody holds the desk.
        if let Ok(mut desk) = self.desk.try_lock() {
            open.into_iter().for_each(|(id, receipt)| desk.tending.follow(id, receipt));
        }
    }

    fn has_chores(&self) -> bool {
        true
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn tend(&self, idle: bool) -> BoxFuture<'_, Tended> {
        Box::pin(async move {
            let mut desk = self.desk.lock().await;
            let Desk { memory, tending, .. } = &mut *desk;
            tending.step(&*self.api, &self.settings, memory, &*self.heard, idle).await
        })
    }

    /// Git keeps what was pushed: there is nothing to bring back.
    fn restore(&self, _newest: &Delivery<'_>, _receipt: &Receipt) -> Result<(), String> {
        Ok(())
    }

    /// What the newest delivery met; the server is not asked.
    fn check(&self) -> Result<(), String> {
        self.trouble.lock().clone().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
pub(super) mod tests;
