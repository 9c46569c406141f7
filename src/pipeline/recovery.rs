//! What a start repairs, from what is on disk alone (`reliability.md` 3.3, promise R9).
//!
//! 1. The poison guard: which files were in hand when the last process died.
//! 2. Effects that no checkpoint closed: the sink gets every delivered intent that is not closed again,
//!    the oldest first, where a power cut took it back.
//! 3. Every end that is not closed, and every row that could not be filed, is settled again; files left
//!    in `.conductor/` that no row knows go back to the folder.
//! 4. Open rows. Several of one target may have been applied one over the other before any outcome row
//!    was durable; those that a later one hides end as delivered, with the receipt that they had. The others
//!    are handed to submit as doubtful: the sink is asked before anything is sent. Where it cannot be
//!    asked, those alone are doubtful whose attempt the ledger noted (B13); a request for one of them says
//!    that it may be sent again.
//!
//! Every step may be repeated, so a crash in here is repaired by the next start.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use super::StartFault;
use super::flow::FromPayload;
use super::requests::Requests;
use crate::clock::{Clock, Mono};
use crate::disk::{Disk as _, Identity, Place, RealDisk};
use crate::fate::{Id, Reason, Receipt};
use crate::intent::{Intent, Target};
use crate::ledger::{Attempts, LedgerFault, Row, Store};
use crate::queue::{FLOWING, Flights};
use crate::read::InHand;
use crate::settle::{Settled, Settler};
use crate::submit::dispatch::Job;
use crate::submit::{Delivery, Sink};
use crate::worker::Parcel;

/// Rows read from the ledger at a time.
const PAGE: usize = 1_000;
/// Process deaths with one file in hand after which it is refused.
const DEATHS: u32 = 3;
/// Intents of one target that may have been sent without a record: all that is ever under way.
const SENT: usize = FLOWING as usize;

/// What is left to do after a start.
pub(super) struct Recovered {
    /// Open rows, oldest first.
    pub(super) jobs: Vec<Job>,
    /// Open rows that were delivered, with the receipt that they had.
    pub(super) hidden: Vec<(Row, Receipt, Parcel)>,
    /// Ended rows whose original is still in the folder.
    pub(super) unfiled: Vec<(Row, Parcel, bool, String)>,
    /// The newest end that is settled.
    pub(super) through: u64,
    /// Files that are refused unread.
    pub(super) condemned: HashMap<Vec<u8>, Identity>,
    /// Rows that had been unfiled and are filed now.
    pub(super) filed: Vec<u64>,
    /// Ends settled once more.
    pub(super) redone: u64,
}

pub(super) struct Recovery<'a> {
    pub(super) store: &'a mut Store,
    pub(super) disk: &'a Arc<RealDisk>,
    pub(super) sink: &'a Arc<dyn Sink>,
    pub(super) settler: &'a mut Settler,
    pub(super) recall: &'a FromPayload,
    pub(super) flights: &'a Flights,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) state: &'a Path,
}

impl Recovery<'_> {
    pub(super) fn run(mut self) -> Result<Recovered, StartFault> {
        let condemned = self.condemned()?;
        self.restore_sink()?;
        let mut recovered = Recovered {
            jobs: Vec::new(),
            hidden: Vec::new(),
            unfiled: Vec::new(),
            through: self.store.newest_end(),
            condemned,
            filed: Vec::new(),
            redone: 0,
        };
        self.settle_again(&mut recovered)?;
        self.give_back(&recovered)?;
        self.resume(&mut recovered)?;
        Ok(recovered)
    }

    /// Counts how many processes in a row died with a file in hand; a clean start forgets all.
    fn condemned(&mut self) -> Result<HashMap<Vec<u8>, Identity>, StartFault> {
        let suspects = InHand::suspects(self.state).map_err(|err| {
            StartFault::new(format!(
                "state directory {}: in-hand cannot be read: {err}",
                self.state.display()
            ))
        })?;
        let mut condemned = HashMap::new();
        if suspects.is_empty() {
            self.store.clear_suspects()?;
        }
        for suspect in suspects {
            let name = Path::new(OsStr::from_bytes(&suspect.name));
            let Ok(Some(seen)) = self.disk.look(Place::Handoff, name) else { continue };
            if self.store.suspect(&suspect.name, &seen.identity)? >= DEATHS {
                condemned.insert(suspect.name, seen.identity);
            }
        }
        Ok(condemned)
    }

    fn restore_sink(&mut self) -> Result<(), StartFault> {
        let mut after = 0;
        loop {
            let rows = self.store.unclosed(after, PAGE)?;
            let Some(last) = rows.last().and_then(|row| row.end.as_ref()) else { return Ok(()) };
            after = last.no;
            for row in &rows {
                self.restore(row)?;
            }
        }
    }

    fn restore(&self, row: &Row) -> Result<(), StartFault> {
        let Some(receipt) = row.end.as_ref().and_then(|end| end.remote.as_ref()) else { return Ok(()) };
        let Some(intent) = self.intent(row)? else { return Ok(()) };
        let Some(delivery) = delivery(row, &intent) else { return Ok(()) };
        self.sink.restore(&delivery, receipt).map_err(|message| {
            StartFault::new(format!("the sink cannot be brought back to what it held: {message}"))
        })
    }

    /// The intent of a row from its kept bytes; `None`, and said so, if there are none.
    fn intent(&self, row: &Row) -> Result<Option<Intent>, StartFault> {
        let parsed = match self.store.payload(row.seq) {
            Ok(Some(bytes)) => self.recall.parse(row, &bytes),
            Ok(None) => Err(format!("intent {}: its bytes are not in the ledger", row.id)),
            Err(fault @ LedgerFault::Payload { .. }) => Err(fault.to_string()),
            Err(fault) => return Err(fault.into()),
        };
        if let Err(message) = &parsed {
            tracing::error!(id = %row.id, "what the sink holds of it cannot be checked: {message}");
        }
        Ok(parsed.ok())
    }

    fn settle_again(&mut self, recovered: &mut Recovered) -> Result<(), StartFault> {
        let mut after = 0;
        loop {
            let rows = self.store.unclosed(after, PAGE)?;
            let Some(last) = rows.last().and_then(|row| row.end.as_ref()) else { return Ok(()) };
            after = last.no;
            for row in rows {
                recovered.redone += 1;
                match self.settler.settle_again(&row) {
                    Settled::Done => recovered.filed.push(row.seq),
                    Settled::Unfiled { reason, message } => {
                        tracing::warn!(id = %row.id, "settled but not filed: {message}");
                        let mut batch = self.store.begin()?;
                        batch.unfiled(row.seq, reason.unwrap_or(Reason::CannotFile))?;
                        batch.commit()?;
                        let parcel = self.parcel(&row);
                        let stuck = reason == Some(Reason::CannotFile);
                        recovered.unfiled.push((row, parcel, stuck, message));
                    }
                }
            }
        }
    }

    /// A file in `.conductor/` whose row waits for its filing stays there for it.
    fn give_back(&mut self, recovered: &Recovered) -> Result<(), StartFault> {
        let waits: HashSet<Id> = recovered.unfiled.iter().map(|(row, ..)| row.id).collect();
        let left =
            self.settler.clean_up().map_err(|err| StartFault::new(format!("own directories: {err}")))?;
        for id in left.into_iter().filter(|id| !waits.contains(id)) {
            if let Err(err) = self.settler.give_back(id) {
                tracing::error!(%id, "a file in .conductor/ belongs to no row and cannot be put back: {err}");
            }
        }
        Ok(())
    }

    fn resume(&mut self, recovered: &mut Recovered) -> Result<(), StartFault> {
        let (mut after, mut open) = (0, Vec::new());
        loop {
            let rows = self.store.pending(after, PAGE)?;
            let Some(last) = rows.last() else { break };
            after = last.seq;
            open.extend(rows);
        }
        let hidden = self.overtaken(&open)?;
        let attempts = self.attempts()?;
        let wishes = self.wishes(attempts.is_some());
        let now = self.clock.now();
        for row in open {
            let parcel = self.parcel(&row);
            if let Some(receipt) = hidden.get(&row.seq) {
                recovered.hidden.push((row, receipt.clone(), parcel));
                continue;
            }
            let noted = attempts.as_ref().map(|noted| noted.get(&row.seq));
            let doubtful = noted.is_none_or(|noted| noted.is_some_and(|attempts| attempts.doubtful));
            let mut job = Job::new(row, parcel, now, doubtful);
            if let Some(noted) = noted.flatten() {
                job.attempts = noted.begun;
                job.permitted = noted.permitted || self.permit(&job.row, noted, &wishes)?;
            }
            recovered.jobs.push(job);
        }
        Ok(())
    }

    /// What the ledger noted of attempts, by row; `None` for a sink that can be asked.
    fn attempts(&self) -> Result<Option<HashMap<u64, Attempts>>, StartFault> {
        if !self.sink.needs_attempt_row() {
            return Ok(None);
        }
        let noted = self.store.attempts()?;
        Ok(Some(noted.into_iter().map(|attempts| (attempts.seq, attempts)).collect()))
    }

    /// The requests that wait, with what tells each from every other, by intent.
    fn wishes(&self, noted: bool) -> HashMap<Id, u64> {
        let listed = noted.then(|| Requests::of(self.state).list());
        // The requeue thread says it if they cannot be read.
        let requests = listed.and_then(Result::ok).unwrap_or_default().requests;
        requests.into_iter().map(|request| (request.id, request.mark)).collect()
    }

    /// Whether a request that waits lets this row go on; if so, that is noted.
    fn permit(&mut self, row: &Row, noted: &Attempts, wishes: &HashMap<Id, u64>) -> Result<bool, StartFault> {
        let wish = wishes.get(&row.id).filter(|_| noted.doubtful);
        let Some(&mark) = wish.filter(|mark| noted.request != Some(**mark)) else { return Ok(false) };
        let mut batch = self.store.begin()?;
        batch.permit(row.seq, mark)?;
        batch.commit()?;
        tracing::info!(id = %row.id, "goes on, as was asked: it was held since it may have had its effect");
        Ok(true)
    }

    /// Receipts of open rows that were applied and that a later open row of their target hides.
    fn overtaken(&self, open: &[Row]) -> Result<HashMap<u64, Receipt>, StartFault> {
        let mut by_target: HashMap<&Target, Vec<&Row>> = HashMap::new();
        for row in open {
            let Some(target) = &row.target else { continue };
            let rows = by_target.entry(target).or_default();
            // What was sent and not recorded was under way, and no more than this ever is.
            if rows.len() < SENT {
                rows.push(row);
            }
        }
        let mut hidden = HashMap::new();
        for rows in by_target.into_values().filter(|rows| rows.len() > 1) {
            let mut doubtful = Vec::with_capacity(rows.len());
            for row in rows {
                let Some(intent) = self.intent(row)? else { break };
                doubtful.push((row, intent));
            }
            let deliveries: Vec<_> =
                doubtful.iter().filter_map(|(row, intent)| delivery(row, intent)).collect();
            let receipts = self.sink.overtaken(&deliveries).map_err(|message| {
                StartFault::new(format!("the sink cannot be asked what it holds: {message}"))
            })?;
            hidden.extend(doubtful.iter().map(|(row, _)| row.seq).zip(receipts));
        }
        Ok(hidden)
    }

    fn parcel(&self, row: &Row) -> Parcel {
        let flight = match row.requeue_of {
            None => self.flights.remember(&row.name, &row.identity),
            Some(_) => self.flights.apart(),
        };
        let sighted: Mono = self.clock.now();
        Parcel { flight, pass: None, intent: None, sighted, pending: true }
    }
}

fn delivery<'a>(row: &'a Row, intent: &'a Intent) -> Option<Delivery<'a>> {
    Some(Delivery {
        id: row.id,
        sha: row.sha.as_ref()?,
        name: std::str::from_utf8(&row.name).unwrap_or_default(),
        generation: row.generation,
        attempt: 1,
        doubtful: true,
        intent,
        file: None,
    })
}
