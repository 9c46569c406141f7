//! A running daemon: pipeline, pages, signals and ticker around it, as `run`, `once` and `demo` need it.

mod confine;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::reload::{self, Reloader, Source};
use super::standing::Standing;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Loaded, Role, listening};
use crate::intent::UserSchema;
use crate::ledger::{Counts, Record, Row};
use crate::observe::http::{self, HttpFault, Pages, Server};
use crate::observe::kpi;
use crate::observe::log::LogGuard;
use crate::observe::{Health, Metrics};
use crate::pipeline::{self, Parts, Pipeline};
use crate::service::notify::{Herald, Manager, Notifier};
use crate::service::{self, Signals, Stop};
use crate::watch::Cause;
use confine::{Confinement, Entered};

/// The file in the state directory that holds the address of the pages while the daemon runs.
pub const ADDRESS_FILE: &str = "http.addr";

/// How a daemon is to be run.
pub struct Plan<'a> {
    /// The settings.
    pub loaded: &'a Loaded,
    /// The user's own schema, compiled.
    pub schema: Option<Arc<UserSchema>>,
    /// What SIGHUP reads again; without it SIGHUP scans the folder and nothing else.
    pub reload: Option<Source>,
    /// The state directory.
    pub state: PathBuf,
    /// Which command asks.
    pub role: Role,
    /// One scan instead of a watch.
    pub once: bool,
    /// Hears of every end.
    pub told: Box<dyn FnMut(&Row) + Send>,
    /// The log, already begun.
    pub log: &'a LogGuard,
    /// A service manager started this process.
    pub managed: bool,
    /// Ends the process at once.
    pub leave: fn(),
    /// Who is told of start, state and stop.
    pub manager: Option<Manager>,
}

/// A running daemon.
pub struct Daemon {
    /// Asked for by a signal, or by a fault that forbids going on.
    pub stop: Stop,
    /// Counters of this process.
    pub metrics: Metrics,
    /// The stages.
    pub pipeline: Pipeline,
    /// Where the pages are, if anywhere.
    pub address: Option<String>,
    failure: Arc<Mutex<Option<String>>>,
    server: Option<Server>,
    state: PathBuf,
    herald: Herald,
    _kept: (Signals, Entered),
}

/// What was built before the daemon is whole.
struct Built {
    pipeline: Pipeline,
    server: Option<Server>,
    signals: Signals,
    entered: Entered,
    failure: Arc<Mutex<Option<String>>>,
}

/// What everything is built around.
struct Base {
    clock: Arc<dyn Clock>,
    stop: Stop,
    metrics: Metrics,
    health: Health,
    standing: Standing,
}

impl Base {
    fn new(config: &Config) -> Base {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (stop, metrics) = (Stop::new(), Metrics::with_sink(config.sink.kind));
        let health = Health::of(config.intake.workers);
        let standing = Standing::new(health.clone(), metrics.clone(), Arc::clone(&clock));
        Base { clock, stop, metrics, health, standing }
    }
}

impl Daemon {
    /// Starts everything. The service manager, if there is one, hears of it from here on.
    pub fn start(mut plan: Plan<'_>) -> Result<Daemon, String> {
        let config = &plan.loaded.config;
        let base = Base::new(config);
        let standing = base.standing.clone();
        let herald = Herald::start(plan.manager.take(), base.stop.clone(), config.service.drain, move || {
            standing.look()
        })
        .map_err(|err| format!("the service manager cannot be told: {err}"))?;
        let state = plan.state.clone();
        let built = match build(plan, &base, herald.notifier()) {
            Ok(built) => built,
            Err(message) => {
                herald.end(&format!("could not start: {message}"));
                return Err(message);
            }
        };
        let Built { pipeline, server, signals, entered, failure } = built;
        let address = server.as_ref().map(Server::address);
        publish(&state, address.as_deref());
        let Base { stop, metrics, .. } = base;
        let _kept = (signals, entered);
        Ok(Daemon { stop, metrics, pipeline, address, failure, server, state, herald, _kept })
    }

    /// Stops everything; an error if a fault had forbidden going on.
    pub fn end(self) -> Result<(), String> {
        let clean = self.pipeline.stop();
        // A name that stays behind leads to a closed port, which `status` understands.
        let _ = std::fs::remove_file(self.state.join(ADDRESS_FILE));
        if let Some(server) = self.server {
            server.stop();
        }
        if !clean {
            tracing::warn!("service.drain did not suffice; what was unfinished is resumed at the next start");
        }
        let failure = self.failure.lock().take();
        self.herald.end(&failure.as_ref().map_or("stopped".to_owned(), |why| format!("failed: {why}")));
        failure.map_or(Ok(()), Err)
    }

    /// Waits for a stop, at most `limit`; true if one was asked for.
    pub fn wait(&self, limit: Duration) -> bool {
        self.stop.wait_timeout(limit)
    }
}

/// Signals first, so that none is missed; the pipeline; the pages last, since they show it.
fn build(plan: Plan<'_>, base: &Base, notifier: Notifier) -> Result<Built, String> {
    let Base { clock, stop, metrics, health, standing } = base;
    let config = plan.loaded.config.clone();
    let rescan: Arc<OnceLock<Box<dyn Fn() + Send + Sync>>> = Arc::default();
    let (bell, rings) = reload::bell();
    let asked = Arc::clone(&rescan);
    let on_hup = move || {
        bell.ring();
        _ = asked.get().map(|ask| ask());
    };
    let signals = service::signals(stop.clone(), on_hup, plan.leave)
        .map_err(|err| format!("signals cannot be received: {err}"))?;
    metrics.config_loaded(clock.wall());
    let (failure, fell) = failure(stop);
    let confinement = Confinement::of(&plan, &signals, &notifier, metrics);
    let (counted, lost) = (metrics.clone(), plan.log.lost());
    let parts = Parts {
        schema: plan.schema,
        state: plan.state.clone(),
        once: plan.once,
        clock: Arc::clone(clock),
        metrics: metrics.clone(),
        health: health.clone(),
        told: plan.told,
        failed: fell,
        on_tick: Box::new(move || {
            lost.tell();
            counted.log_lines(lost.lines(), lost.suppressed());
        }),
        config,
    };
    let mut entered = Entered::default();
    let confine = |folders: &_| {
        entered = confinement.enter(folders)?;
        Ok(entered.pinned)
    };
    let pipeline = pipeline::start(parts, confine).map_err(|fault| fault.to_string())?;
    standing.built(pipeline.backlog());
    let asks = pipeline.rescanner();
    let _ = rescan.set(Box::new(move || asks(Cause::Signal)));
    let (metrics, health, clock) = (metrics.clone(), health.clone(), Arc::clone(clock));
    let begun = plan.reload.map_or(Ok(()), |source| {
        let (metrics, health, clock) = (metrics.clone(), health.clone(), Arc::clone(&clock));
        Reloader { source, tuner: pipeline.tuner(), clock, metrics, health, notifier }.start(rings)
    });
    let stats = stats(&metrics, &pipeline);
    let pages = Pages { metrics, health, clock, stats };
    match begun.and_then(|()| serve(plan.loaded, plan.role, pages)) {
        Ok(server) => Ok(Built { pipeline, server, signals, entered, failure }),
        Err(message) => {
            pipeline.stop();
            Err(message)
        }
    }
}

type Fell = Arc<dyn Fn(String) + Send + Sync>;

/// A place for the first fault that forbids going on, and the way to say it.
fn failure(stop: &Stop) -> (Arc<Mutex<Option<String>>>, Fell) {
    let failure: Arc<Mutex<Option<String>>> = Arc::default();
    let (kept, stop) = (Arc::clone(&failure), stop.clone());
    let fell = move |message: String| {
        tracing::error!("{message}");
        kept.lock().get_or_insert(message);
        stop.request();
    };
    (failure, Arc::new(fell))
}

/// A default address that is taken is a warning; a configured one is a fault (M04).
fn serve(loaded: &Loaded, role: Role, pages: Pages) -> Result<Option<Server>, String> {
    let listening = listening(&loaded.config.http.listen, role);
    match http::start(&listening.at, pages) {
        Ok(server) => {
            if let Some(server) = &server {
                tracing::info!(address = server.address(), "listening");
            }
            Ok(server)
        }
        Err(fault @ HttpFault::AddressInUse { .. }) if !listening.configured => {
            tracing::warn!("no metrics page: {fault}");
            Ok(None)
        }
        Err(fault) => Err(fault.to_string()),
    }
}

fn publish(state: &std::path::Path, address: Option<&str>) {
    let (path, temporary) = (state.join(ADDRESS_FILE), state.join("http.addr.new"));
    let Some(address) = address else {
        let _ = std::fs::remove_file(path);
        return;
    };
    let written =
        std::fs::write(&temporary, format!("{address}\n")).and_then(|()| std::fs::rename(&temporary, path));
    if let Err(err) = written {
        tracing::warn!("state directory {}: the address cannot be noted: {err}", state.display());
    }
}

/// `/stats`: the KPI document, and in `loop` what `status` shows.
fn stats(metrics: &Metrics, pipeline: &Pipeline) -> Arc<dyn Fn() -> Value + Send + Sync> {
    let (metrics, vital, record) = (metrics.clone(), pipeline.vital(), pipeline.record());
    let started = SystemClock.now();
    Arc::new(move || {
        let (record, counts) = record();
        let document = kpi::document(&metrics, &reliability(&record, &counts));
        let mut document = serde_json::to_value(document).unwrap_or_default();
        let mut state = vital();
        if let Some(state) = state.as_object_mut() {
            state.insert("uptime_seconds".into(), json!(SystemClock.now().since(started).as_secs()));
        }
        if let Some(document) = document.as_object_mut() {
            document.insert("loop".into(), state);
        }
        document
    })
}

/// The ledger's record in the units of the KPI document.
fn reliability(record: &Record, counts: &Counts) -> kpi::Record {
    let ended = counts.ended();
    kpi::Record {
        availability_percent: record.availability().map(|share| 100.0 * share),
        error_rate_percent: (ended > 0).then(|| 100.0 * counts.failed() as f64 / ended as f64),
        mtbf_hours: record.mtbf().map(|time| time.as_secs_f64() / 3_600.0),
        mttr_minutes: record.mttr().map(|time| time.as_secs_f64() / 60.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_told_in_the_units_of_the_document() {
        let hours = |n: u64| Duration::from_secs(3_600 * n);
        let repair = Duration::from_secs(90);
        let record = Record { span: hours(10), running: hours(9), crashes: 2, repairs: 1, repair };
        let counts = Counts { accepted: 4, fates: [3, 0, 1, 0, 0], pending: 0 };
        let told = reliability(&record, &counts);
        assert_eq!(told.availability_percent, Some(90.0));
        assert_eq!((told.mtbf_hours, told.mttr_minutes), (Some(4.5), Some(1.5)));
        assert_eq!(told.error_rate_percent, Some(25.0));
        assert_eq!(reliability(&Record::default(), &Counts::default()), kpi::Record::default());
    }
}
