//! Questions that the writer answers between two batches, so that one connection is enough.

use crossbeam::channel::{self, Sender};

use super::Row;
use super::fault::LedgerFault;
use super::handle::{Gone, Handle, Message};
use super::store::Store;

type Answer<T> = Sender<Result<T, LedgerFault>>;

/// What the writer is asked.
pub(super) enum Question {
    /// The kept bytes of a row.
    Payload(u64, Answer<Option<Vec<u8>>>),
    /// A row.
    Row(u64, Answer<Row>),
}

impl Question {
    /// Answers it; whoever asked may have gone meanwhile.
    pub(super) fn answer(self, store: &Store) {
        match self {
            Question::Payload(seq, asked) => _ = asked.send(store.payload(seq)),
            Question::Row(seq, asked) => _ = asked.send(store.row(seq)),
        }
    }
}

impl<C> Handle<C> {
    /// The kept bytes of a row.
    ///
    /// # Errors
    /// [`LedgerFault::Payload`] if they are not the accepted ones, [`LedgerFault::Unknown`] if the
    /// writer is gone; any other fault of reading.
    pub fn payload(&self, seq: u64) -> Result<Option<Vec<u8>>, LedgerFault> {
        self.ask(seq, |asked| Question::Payload(seq, asked))
    }

    /// A row as it is on record now.
    ///
    /// # Errors
    /// [`LedgerFault::Unknown`] if there is none or the writer is gone; any other fault of reading.
    pub fn row(&self, seq: u64) -> Result<Row, LedgerFault> {
        self.ask(seq, |asked| Question::Row(seq, asked))
    }

    fn ask<T>(&self, seq: u64, question: impl FnOnce(Answer<T>) -> Question) -> Result<T, LedgerFault> {
        let (answer, wait) = channel::bounded(1);
        let gone = || LedgerFault::Unknown { seq };
        self.send(Message::Ask(question(answer))).map_err(|Gone| gone())?;
        wait.recv().unwrap_or_else(|_| Err(gone()))
    }
}
