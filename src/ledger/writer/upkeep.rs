//! What the writer does between two batches: removal in portions, the log, the size.

use std::sync::atomic::Ordering;

use crossbeam::channel::TrySendError;

use super::super::upkeep::{LOG_COPY, LOG_PINNED, LOG_RESTART, PORTION};
use super::{LOOK_EVERY, LOOK_IDLE, LOOK_PAUSED, Writer};
use crate::ledger::{Event, LedgerFault};

impl<C> Writer<C> {
    /// One portion of upkeep. Trouble here loses nothing and is tried again, unless it is damage or a
    /// failed flush.
    pub(super) fn keep_up(&mut self) -> Result<(), LedgerFault> {
        self.report.begun();
        let result = self.one_portion();
        self.report.rested();
        self.more_upkeep = matches!(result, Ok(true));
        let failed_before = std::mem::replace(&mut self.upkeep_failed, result.is_err());
        match result {
            Err(fault @ (LedgerFault::Damaged { .. } | LedgerFault::Flush { .. })) => return Err(fault),
            Err(fault) if !failed_before => self.report.event(Event::UpkeepFailed(fault)),
            _ => {}
        }
        Ok(())
    }

    fn one_portion(&mut self) -> Result<bool, LedgerFault> {
        self.turns = self.turns.wrapping_add(1);
        let now = self.clock.now();
        let look = self.too_large || self.turns.is_multiple_of(LOOK_EVERY) || now >= self.look_at;
        if look {
            // Set before anything can fail: trouble must not make this a busy loop.
            self.look_at = now.after(if self.too_large { LOOK_PAUSED } else { LOOK_IDLE });
        }
        if std::mem::take(&mut self.heartbeat) {
            *self.dial.record.lock() = self.store.heartbeat()?;
        }
        let more = self.store.sweep(PORTION)? || self.store.prune(PORTION)?;
        *self.dial.counts.lock() = self.store.counts();
        if look {
            self.look_at_log()?;
            self.look_at_size()?;
        }
        Ok(more)
    }

    fn look_at_log(&mut self) -> Result<(), LedgerFault> {
        let mut log = self.store.log_size()?;
        if log.bytes > LOG_RESTART {
            log = self.store.restart_log()?;
        } else if log.uncopied > LOG_COPY
            && let Err(TrySendError::Disconnected(())) = self.copy.try_send(())
        {
            // Nobody does it beside us.
            log = self.store.restart_log()?;
        }
        let pinned = log.busy && log.bytes > LOG_PINNED;
        if pinned && !self.pinned_told {
            self.report.event(Event::LogPinned { bytes: log.bytes });
        }
        self.pinned_told = pinned;
        Ok(())
    }

    fn look_at_size(&mut self) -> Result<(), LedgerFault> {
        let bytes = self.store.size()?;
        self.dial.bytes.store(bytes, Ordering::Relaxed);
        let limit = self.store.settings.max_size;
        // Room must have come back before acceptance goes on, or it would stutter at the edge.
        let too_large = bytes > if self.too_large { limit - limit / 20 } else { limit };
        if too_large != self.too_large {
            self.too_large = too_large;
            self.look_at = self.clock.now().after(if too_large { LOOK_PAUSED } else { LOOK_IDLE });
            self.show_closed();
            self.tell_closed();
        }
        Ok(())
    }
}
