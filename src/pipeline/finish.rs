//! The settle thread: works through durable ends in order and retries what could not be filed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};

use super::keeper::{CLOSINGS, Errands, Worked};
use super::unfiled::UnfiledSet;
use crate::clock::Clock;
use crate::fate::Reason;
use crate::ledger::{End, Handle, Row};
use crate::observe::{Check, FaultKind, Health, Metrics, Stage, StageId, escape_name};
use crate::settle::{Settled, Settler};
use crate::submit::dispatch::Notice;
use crate::worker::Parcel;

/// What the settle thread is told.
pub(super) enum ToSettle {
    /// These ended, in the order of their numbers.
    Ended(Vec<(Row, Parcel)>),
    /// Files that were seen again although they are on record: pending, or settled and not moved.
    Known(Vec<(Row, Parcel)>),
    /// These wait for the sink.
    Waiting(Vec<Notice>),
    /// Answer when everything before this is done.
    Barrier(Sender<()>),
}

pub(super) struct Finish {
    pub(super) settler: Settler,
    pub(super) ledger: Handle<Parcel>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    pub(super) worked: Arc<Worked>,
    pub(super) keeper: Sender<Errands>,
    pub(super) told: Box<dyn FnMut(&Row) + Send>,
    pub(super) unfiled: UnfiledSet,
    pub(super) reported: u64,
}

impl Finish {
    /// Works until nobody can give it anything any more.
    pub(super) fn run(mut self, inbox: &Receiver<ToSettle>) {
        self.show_unfiled();
        loop {
            self.health.idle(StageId::Settle);
            let message = match self.unfiled.next_due() {
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => inbox.recv_timeout(due.since(self.clock.now())),
            };
            match message {
                Ok(ToSettle::Ended(rows)) => self.settle(rows),
                Ok(ToSettle::Known(rows)) => self.known(rows),
                Ok(ToSettle::Waiting(notices)) => self.tell_waiting(&notices),
                Ok(ToSettle::Barrier(done)) => drop(done.send(())),
                Err(RecvTimeoutError::Timeout) => self.retry(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn settle(&mut self, rows: Vec<(Row, Parcel)>) {
        for (row, mut parcel) in rows {
            let started = self.clock.now();
            self.health.in_call(StageId::Settle, started);
            let settled = self.settler.settle(&row);
            let done = self.clock.now();
            self.health.beat(StageId::Settle, done);
            self.metrics.stage(Stage::Settle, done.since(started));
            let no = row.end.as_ref().map_or(0, |end| end.no);
            if let Some(end) = &row.end {
                self.metrics.ended(end.fate, end.reason);
            }
            // What is left of it is the name; it no longer counts against what may be under way.
            parcel.pass = None;
            // Told last: whoever hears of it finds the counts right and the name free.
            match settled {
                Settled::Done => {
                    drop(parcel);
                    self.tell(&row);
                }
                Settled::Unfiled { reason, message } => {
                    self.tell(&row);
                    self.keep(row, parcel, reason, message);
                }
            }
            self.worked.through.fetch_max(no, Ordering::SeqCst);
        }
        let through = self.worked.through.load(Ordering::Relaxed);
        if through - self.reported >= CLOSINGS {
            self.reported = through;
            // A keeper that is gone has made its last checkpoint.
            let _ = self.keeper.send(Errands::Look);
        }
    }

    /// An exception to the next checkpoint, recorded before the number passes it.
    fn keep(&mut self, row: Row, parcel: Parcel, reason: Option<Reason>, message: String) {
        let stuck = reason == Some(Reason::CannotFile);
        self.metrics.fault(if stuck { FaultKind::CannotFile } else { FaultKind::DiskFull });
        tracing::error!(
            file = escape_name(&row.name),
            id = %row.id,
            "settled but not filed: {message}; it is tried again, nothing is submitted twice"
        );
        // Without a writer no checkpoint follows either: the row is settled again at the next start.
        let _ = self.ledger.unfiled(row.seq, reason.unwrap_or(Reason::CannotFile));
        self.unfiled.add(row, parcel, stuck, message, self.clock.now());
        self.show_unfiled();
    }

    /// A pending row goes its way and needs nothing; one that waits here is tried when it is due.
    fn known(&mut self, rows: Vec<(Row, Parcel)>) {
        for (row, mut parcel) in rows {
            parcel.pass = None;
            if row.end.is_some() && !self.unfiled.holds(row.seq) {
                self.again(row, parcel);
            }
        }
        self.show_unfiled();
    }

    fn retry(&mut self) {
        let now = self.clock.now();
        while let Some(waiting) = self.unfiled.due(now) {
            self.again(waiting.row, waiting.parcel);
        }
        self.show_unfiled();
    }

    fn again(&mut self, row: Row, parcel: Parcel) {
        self.health.in_call(StageId::Settle, self.clock.now());
        match self.settler.settle_again(&row) {
            Settled::Done => {
                tracing::info!(file = escape_name(&row.name), id = %row.id, "filed at last");
                self.worked.filed.lock().push(row.seq);
            }
            Settled::Unfiled { reason, message } => {
                let stuck = reason == Some(Reason::CannotFile);
                self.unfiled.add(row, parcel, stuck, message, self.clock.now());
            }
        }
    }

    /// Gauges and readiness follow what waits.
    fn show_unfiled(&self) {
        let (all, stuck) = self.unfiled.counts();
        self.metrics.unfiled(all);
        self.metrics.stuck_files(stuck);
        let state =
            self.unfiled.message().map_or(Ok(()), |message| Err(format!("{all} not filed: {message}")));
        self.health.set(Check::Settle, state);
    }

    fn tell_waiting(&mut self, notices: &[Notice]) {
        self.health.in_call(StageId::Settle, self.clock.now());
        for notice in notices {
            let next = notice.next_attempt.map(|wait| self.clock.wall().after(wait));
            let told =
                self.settler.pending(&notice.row, notice.reason, &notice.message, notice.attempts, next);
            if let Err(err) = told {
                tracing::warn!(
                    file = escape_name(&notice.row.name),
                    "the pending status cannot be written: {err}"
                );
            }
        }
    }

    /// The log line of one intent; the log has its own ceiling on lines of one kind.
    fn tell(&mut self, row: &Row) {
        (self.told)(row);
        let Some(end) = &row.end else { return };
        log_end(row, end);
    }
}

fn log_end(row: &Row, end: &End) {
    let (file, id, fate) = (escape_name(&row.name), row.id.to_string(), end.fate.as_str());
    let message = end.message.as_str();
    match end.reason {
        None => tracing::info!(file, id, fate, "{message}"),
        Some(reason) if end.fate.is_success() => {
            tracing::info!(file, id, fate, reason = reason.as_str(), "{message}");
        }
        Some(reason) => tracing::warn!(file, id, fate, reason = reason.as_str(), "{message}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    use super::*;
    use crate::fate::Fate;
    use crate::observe::log::speak_to_journal_at;
    use crate::settle::fake;

    /// The fields of one datagram of the journal's protocol.
    fn fields(datagram: &[u8]) -> BTreeMap<String, String> {
        let (mut fields, mut rest) = (BTreeMap::new(), datagram);
        while !rest.is_empty() {
            let line = rest.split(|byte| *byte == b'\n').next().unwrap();
            let (name, value, length) = match line.iter().position(|byte| *byte == b'=') {
                Some(at) => (&line[..at], &line[at + 1..], line.len() + 1),
                // Name, line break, length in eight bytes, value, line break.
                None => {
                    let from = line.len() + 9;
                    let length = rest[line.len() + 1..from].try_into().map(u64::from_le_bytes).unwrap();
                    let value = &rest[from..from + usize::try_from(length).unwrap()];
                    (line, value, from + value.len() + 1)
                }
            };
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            assert!(fields.insert(text(name), text(value)).is_none(), "a field stands twice");
            rest = &rest[length..];
        }
        fields
    }

    #[test]
    fn a_refusal_reaches_the_journal_with_a_field_for_each_fact() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journal = UnixDatagram::bind(&path).unwrap();
        journal.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let row = fake::row("intent-7\nPRIORITY=0.json");
        let end = End {
            fate: Fate::Refused,
            reason: Some(Reason::JsonNumber),
            message: "line 5 column 15: replicas \"three\" is not an integer".to_owned(),
            ..row.end.clone().unwrap()
        };
        speak_to_journal_at(&path, || log_end(&row, &end));
        let mut datagram = vec![0; 65_536];
        let length = journal.recv(&mut datagram).unwrap();
        let fields = fields(&datagram[..length]);
        let mut names: Vec<&str> = fields.keys().map(String::as_str).collect();
        names.retain(|name| !name.starts_with("CODE_"));
        assert_eq!(
            names,
            [
                "CONDUCTOR_FATE",
                "CONDUCTOR_FILE",
                "CONDUCTOR_INTENT_ID",
                "CONDUCTOR_MODULE",
                "CONDUCTOR_REASON",
                "MESSAGE",
                "PRIORITY",
                "SYSLOG_IDENTIFIER"
            ]
        );
        assert_eq!(fields["PRIORITY"], "4");
        assert_eq!(fields["SYSLOG_IDENTIFIER"], "conductor-loop");
        assert_eq!(fields["CONDUCTOR_FATE"], "refused");
        assert_eq!(fields["CONDUCTOR_REASON"], "json-number");
        assert_eq!(fields["CONDUCTOR_INTENT_ID"], "9f2c31aa07d14be2");
        assert_eq!(fields["CONDUCTOR_FILE"], "intent-7%0APRIORITY=0.json");
        assert_eq!(fields["CONDUCTOR_MODULE"], "conductor_loop::pipeline::finish");
        assert_eq!(fields["CODE_FILE"], "src/pipeline/finish.rs");
        assert!(fields["CODE_LINE"].parse::<u32>().is_ok());
        assert!(
            fields["MESSAGE"].starts_with("line 5 column 15: replicas \"three\""),
            "{}",
            fields["MESSAGE"]
        );
    }
}
