//! The requeue thread: takes requests to try ended intents again (`design.md` D9).
//!
//! A request becomes a new acceptance with an id of its own, a generation above the old one's and the bytes
//! of the old intent: the kept ones, or those of its archived file if their digest is still the accepted
//! one. They are judged by the rules in force now. The old intent keeps its record and its archived file; the
//! new one is archived as a copy.
//!
//! A pending intent that the exec sink holds, since its command may have done its work, is no repeat: it goes
//! on under its own id, for one more run. One that nobody holds is not touched.
//!
//! # Order of acts
//!
//! Request read → accepted, durable together with the mark of the request → request removed. A request whose
//! mark the ledger knows has been taken, by this process or one before a crash, and is only removed. One
//! that cannot be honoured gets its answer first and is removed then.
//!
//! A repeat takes its place in the order of acceptance when it is taken. Those that wait at a start are taken
//! before the folder is looked at.
//!
//! # Limits
//!
//! At most 256 requests between two flushes; while the valve is closed nothing is taken. The keeper looks
//! once a second whether the folder was changed; nothing else is done while it was not.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, Sender};
use tokio::sync::mpsc::UnboundedSender;

use super::StartFault;
use super::build::Shared;
use super::requests::{Request, Requests};
use super::threads::Threads;
use super::tune::{InForce, LiveParser};
use crate::clock::{Clock, Wall};
use crate::config::Live;
use crate::disk::{Identity, RealDisk};
use crate::fate::{Id, Sha};
use crate::intent::Target;
use crate::ledger::{Entry, Handle, LedgerFault, Reader, Repeat, Row};
use crate::observe::{Metrics, escape_name};
use crate::queue::{Flights, Gate};
use crate::settle;
use crate::submit::driver::Order;
use crate::worker::{Parcel, ruled};

/// Requests between two flushes.
const PORTION: usize = 256;
/// How long a round waits for what it handed in to be durable; later rounds look again.
const DURABLE: Duration = Duration::from_secs(2);
/// A folder changed less than this ago is looked at again: its next change may show the same time.
const FRESH_NS: i64 = 2_000_000_000;
/// How long the submit stage may take to say whether it holds an intent.
const ANSWER: Duration = Duration::from_secs(2);
/// Odd names that are reported, once each.
const REPORTED: usize = 1_024;

/// The keeper's part: rings when there is something to look at.
pub(super) struct Bell {
    requests: Requests,
    /// What the folder showed when it was last looked at, unless that was too fresh to say anything.
    seen: Option<i64>,
    left: Arc<AtomicBool>,
    thread: Sender<()>,
}

impl Bell {
    /// Rings if the folder was changed, or the last round left something.
    pub(super) fn look(&mut self, now: Wall) {
        let changed = self.requests.changed();
        if changed == self.seen && !self.left.load(Ordering::SeqCst) {
            return;
        }
        self.seen = changed.filter(|at| now.0.saturating_sub(*at) > FRESH_NS);
        // A full line means that it has been rung already; a thread that is gone has been stopped.
        let _ = self.thread.try_send(());
    }
}

/// Why a request is not taken.
enum Not {
    /// It never will be; the answer.
    Honoured(String),
    /// Not now; said in the log.
    Yet(String),
}

impl From<LedgerFault> for Not {
    fn from(fault: LedgerFault) -> Self {
        Not::Yet(fault.to_string())
    }
}

/// A request on its way to be durable.
struct Handed {
    /// The intent that it names.
    of: Id,
    /// Where this waits, if it is held.
    held: Option<(Arc<Target>, u64)>,
}

pub(super) struct Requeue {
    requests: Requests,
    state: PathBuf,
    disk: Arc<RealDisk>,
    ledger: Handle<Parcel>,
    gate: Arc<Gate>,
    flights: Flights,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    stopping: Arc<AtomicBool>,
    settings: Live<InForce>,
    /// Made with the first request.
    parser: Option<LiveParser>,
    /// Number in the place of a worker's.
    number: u16,
    /// The way to what is held.
    submit: UnboundedSender<Order>,
    /// Requests that were handed in and are not known to be durable yet.
    handed: HashMap<u64, Handed>,
    reported: HashSet<OsString>,
    /// The last trouble that was said.
    trouble: Option<String>,
    left: Arc<AtomicBool>,
}

impl Requeue {
    fn run(mut self, bell: &Receiver<()>) {
        while bell.recv().is_ok() && !self.stopping.load(Ordering::SeqCst) {
            self.round();
        }
    }

    /// Takes everything that can be taken now.
    fn round(&mut self) {
        let outcome = self.take_all();
        self.left.store(!matches!(outcome, Ok(true)), Ordering::SeqCst);
        let trouble = outcome.err();
        if let Some(trouble) = trouble.as_ref().filter(|trouble| self.trouble.as_ref() != Some(trouble)) {
            tracing::warn!("requests to try intents again wait: {trouble}; they are looked at again");
        }
        self.trouble = trouble;
    }

    /// True if nothing is left to be done.
    fn take_all(&mut self) -> Result<bool, String> {
        let listing = self.requests.list().map_err(|err| format!("the folder cannot be read: {err}"))?;
        for (name, wrong) in listing.odd {
            if self.reported.len() < REPORTED && self.reported.insert(name.clone()) {
                let name = escape_name(name.as_bytes());
                tracing::warn!("left in the folder of requests: {name} {wrong}; remove it");
            }
        }
        let waiting: HashSet<u64> = listing.requests.iter().map(|request| request.mark).collect();
        self.handed.retain(|mark, _| waiting.contains(mark));
        for portion in listing.requests.chunks(PORTION) {
            let done = self.hand_in(portion)?;
            if !self.handed.is_empty() {
                // Without a writer the process is ending; the requests are recognised by the next one.
                let _ = self.ledger.flush_until(Instant::now() + DURABLE);
                self.clear_handed()?;
            }
            if !done {
                return Ok(false);
            }
        }
        Ok(self.handed.is_empty())
    }

    /// Hands requests in; false if the valve closed before the last of them.
    fn hand_in(&mut self, portion: &[Request]) -> Result<bool, String> {
        let reader = self.reader()?;
        for request in portion.iter() {
            if self.stopping.load(Ordering::SeqCst) || !self.gate.is_open() {
                return Ok(false);
            }
            if self.handed.contains_key(&request.mark) {
                continue;
            }
            match self.take(&reader, request) {
                Ok(()) => {}
                Err(Not::Yet(trouble)) => return Err(trouble),
                Err(Not::Honoured(why)) => {
                    tracing::warn!(id = %request.id, "not tried again: {why}");
                    self.requests
                        .refuse(request.id, &why)
                        .map_err(|err| self.cannot_remove(request.id, &err))?;
                }
            }
        }
        Ok(true)
    }

    /// Removes the requests whose acceptance is durable.
    fn clear_handed(&mut self) -> Result<(), String> {
        let reader = self.reader()?;
        let marks: Vec<(u64, Id)> = self.handed.iter().map(|(mark, handed)| (*mark, handed.of)).collect();
        for (mark, of) in marks {
            if let Some(id) = reader.made_by(mark).map_err(|fault| fault.to_string())? {
                self.finish(mark, of, id)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, mark: u64, of: Id, id: Id) -> Result<(), String> {
        match self.handed.remove(&mark) {
            Some(Handed { held: Some((target, seq)), .. }) => {
                tracing::info!(%id, "goes on, as was asked: it was held since it may have had its effect");
                // Without that stage the process is ending; the next one reads it in the ledger.
                let _ = self.submit.send(Order::Permit { target, seq });
            }
            Some(_) => tracing::info!(%id, requeue_of = %of, "taken to be tried again, as was asked"),
            None => {}
        }
        self.requests.remove(of).map_err(|err| self.cannot_remove(of, &err))
    }

    fn take(&mut self, reader: &Reader, request: &Request) -> Result<(), Not> {
        if let Some(id) = reader.made_by(request.mark)? {
            return self.finish(request.mark, request.id, id).map_err(Not::Yet);
        }
        let row = reader.row(request.id, request.seq)?.ok_or_else(|| {
            Not::Honoured("the ledger has no such intent (any more); drop its file again".to_owned())
        })?;
        if row.end.is_none() {
            return self.permit(row, request);
        }
        if request.pending {
            return Err(Not::Honoured("it has come to its end meanwhile; ask again to repeat it".to_owned()));
        }
        let Some(sha) = row.sha else {
            return Err(Not::Honoured(
                "its file was never read, so nothing is kept of it; drop the file again".to_owned(),
            ));
        };
        let bytes = self.bytes(reader, &row, sha)?;
        let repeat = Repeat { of: row.id, generation: row.generation, request: request.mark };
        self.accept(row, sha, bytes, repeat)?;
        self.handed.insert(request.mark, Handed { of: request.id, held: None });
        Ok(())
    }

    /// Lets a pending intent go on that is held.
    fn permit(&mut self, row: Row, request: &Request) -> Result<(), Not> {
        let not_held = || Not::Honoured("it is pending and not held; wait for its end".to_owned());
        let target = Arc::new(row.target.ok_or_else(not_held)?);
        let (answer, answered) = channel::bounded(1);
        let _ = self.submit.send(Order::IsHeld { target: Arc::clone(&target), seq: row.seq, answer });
        match answered.recv_timeout(ANSWER) {
            Ok(true) => {}
            Ok(false) => return Err(not_held()),
            Err(_) => return Err(Not::Yet("the submit stage does not answer".to_owned())),
        }
        // Without a writer the process is ending; the request is still there.
        let _ = self.ledger.permit(row.seq, request.mark);
        let handed = Handed { of: request.id, held: Some((target, row.seq)) };
        self.handed.insert(request.mark, handed);
        Ok(())
    }

    /// The accepted bytes: as the ledger keeps them, else as the archive does.
    fn bytes(&self, reader: &Reader, row: &Row, sha: Sha) -> Result<Vec<u8>, Not> {
        let kept = match reader.payload(row.seq) {
            Err(LedgerFault::Payload { .. }) => None,
            kept => kept?,
        };
        if let Some(bytes) = kept.filter(|bytes| Sha::of(bytes) == sha) {
            return Ok(bytes);
        }
        let found = settle::archived(&*self.disk, row).map_err(|err| {
            Not::Honoured(format!("its archived file cannot be read: {err}; correct that and ask again"))
        })?;
        found.ok_or_else(|| {
            Not::Honoured("its accepted bytes are neither in the ledger nor in the archive any more; drop its file again".to_owned())
        })
    }

    fn accept(&mut self, row: Row, sha: Sha, bytes: Vec<u8>, repeat: Repeat) -> Result<(), Not> {
        let mut parser = self.parser.take().unwrap_or_else(|| LiveParser::new(&self.settings));
        let Ok(parsed) = catch_unwind(AssertUnwindSafe(|| parser.parse(&bytes))) else {
            self.metrics.panicked();
            return Err(Not::Honoured("reading it panicked; keep its file and report it".to_owned()));
        };
        self.parser = Some(parser);
        let (size, sighted) = (bytes.len() as u64, self.clock.now());
        let identity = Identity { size, mtime_ns: row.identity.mtime_ns, ..Identity::default() };
        let entry = Entry {
            proof: row.proof,
            sha: Some(sha),
            payload: Some(bytes.into()),
            repeat: Some(repeat),
            ..Entry::unread(row.name, row.source, identity, sighted, self.number)
        };
        let (entry, intent) = ruled(entry, parsed, &*self.clock);
        let pass = Some(self.gate.enter(size, size));
        let parcel = Parcel { flight: self.flights.apart(), pass, intent, sighted, pending: false };
        // Without a writer the process is ending; the request is still there.
        let _ = self.ledger.repeat(*entry, parcel);
        Ok(())
    }

    fn reader(&self) -> Result<Reader, String> {
        Reader::open(&self.state).map_err(|fault| fault.to_string())
    }

    fn cannot_remove(&self, id: Id, err: &std::io::Error) -> String {
        let folder = self.state.join("requeue");
        format!(
            "the request {id} cannot be removed: {err}; give the daemon's user the folder {}",
            folder.display()
        )
    }
}

impl Shared {
    /// Takes the requests that are there, then starts the thread for those to come.
    pub(super) fn start_requeue(
        &self,
        ledger: &Handle<Parcel>,
        inbox: Receiver<()>,
        threads: &mut Threads,
    ) -> Result<Bell, StartFault> {
        let requests = Requests::of(&self.state);
        requests.make().map_err(|err| {
            StartFault::new(format!(
                "state directory {}: requeue cannot be made: {err}",
                self.state.display()
            ))
        })?;
        let mut requeue = Requeue {
            requests: requests.clone(),
            state: self.state.clone(),
            disk: Arc::clone(&self.disk),
            ledger: ledger.clone(),
            gate: Arc::clone(&self.gate),
            flights: self.flights.clone(),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
            stopping: Arc::clone(&self.stopping),
            settings: self.live.clone(),
            submit: self.lines.submit.clone(),
            parser: None,
            number: u16::try_from(self.config.intake.workers).unwrap_or(u16::MAX),
            handed: HashMap::new(),
            reported: HashSet::new(),
            trouble: None,
            left: Arc::clone(&self.requests_left),
        };
        requeue.round();
        threads.spawn("requeue", move || {
            requeue.run(&inbox);
            Ok(())
        })?;
        let left = Arc::clone(&self.requests_left);
        Ok(Bell { requests, seen: None, left, thread: self.lines.requeue.clone() })
    }
}
