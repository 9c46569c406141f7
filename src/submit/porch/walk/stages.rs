//! Up and down between draft, proposed and published, and what is done after a step that went wrong.

use super::super::api::{Class, Fault, Revision, Stage};
use super::super::trouble::{Trouble, may_heal};
use super::super::{Approval, OpenProposal};
use super::Walk;
use crate::fate::Reason;

/// Where a revision came to.
pub(super) enum Lifted {
    /// As high as the approval asks, with these intents in it.
    To(Revision, Vec<usize>),
    /// It cannot leave draft: it does not render any more.
    Unrendered { revision: Revision, kept: Vec<usize>, fault: Fault },
}

impl Walk<'_> {
    /// Our open revision as a draft, unless its approval is to be waited for.
    pub(super) async fn take_back(&mut self, open: Revision) -> Result<Revision, Trouble> {
        let mut revision = open;
        let waits = self.settings.open_proposal == OpenProposal::Wait;
        if revision.stage == Stage::Proposed && waits && self.settings.approval == Approval::Propose {
            let message = format!("{} is proposed and must be approved or rejected first", revision.name);
            return Err(Trouble::parked(Reason::AwaitingApproval, message));
        }
        while revision.stage == Stage::Proposed {
            let answer = self.api.propose(&revision.name, &revision.version, Stage::Draft).await;
            revision = match answer {
                Ok(draft) => draft,
                Err(fault) => self.read_again(&revision.name, fault).await?,
            };
        }
        match revision.stage {
            Stage::Draft => Ok(revision),
            // Somebody approved it meanwhile: the next attempt starts from it.
            _ => Err(Trouble::at_once(format!("{} was approved while it was to be updated", revision.name))),
        }
    }

    /// Proposes and approves as far as the approval asks.
    pub(super) async fn lift(
        &mut self,
        mut revision: Revision,
        mut kept: Vec<usize>,
    ) -> Result<Lifted, Trouble> {
        loop {
            if self.doubt && revision.stage == Stage::Draft {
                let files = self.files(&revision).await?;
                self.doubt = false;
                (revision, kept) = self.fill(revision, files, kept).await?;
            }
            let reached = match revision.stage {
                Stage::Published => true,
                Stage::DeletionProposed => {
                    let message = format!("{} is proposed for deletion: decide that first", revision.name);
                    return Err(Trouble::parked(Reason::SinkUnavailable, message));
                }
                stage => self.is_high_enough(stage),
            };
            if reached {
                return Ok(Lifted::To(revision, kept));
            }
            if !revision.unmet_gates.is_empty() {
                let gates = revision.unmet_gates.join(", ");
                let message = format!("{} waits in {} for: {gates}", revision.name, revision.stage);
                return Err(Trouble::parked(Reason::AwaitingApproval, message));
            }
            let (name, version) = (&revision.name, &revision.version);
            let answer = match revision.stage {
                Stage::Draft => self.api.propose(name, version, Stage::Proposed).await,
                _ => self.api.approve(name, version, Stage::Published).await,
            };
            revision = match answer {
                Ok(risen) => risen,
                Err(fault) if fault.class == Class::Render => {
                    return Ok(Lifted::Unrendered { revision, kept, fault });
                }
                Err(fault) => self.read_again(&revision.name, fault).await?,
            };
        }
    }

    /// After a fault that may heal: a pause, then the object as the server shows it.
    pub(super) async fn read_again(&mut self, name: &str, fault: Fault) -> Result<Revision, Trouble> {
        let mut fault = fault;
        loop {
            if !may_heal(fault.class) {
                return Err(self.fault(fault));
            }
            match self.find_again(name, fault).await? {
                Some(revision) => return Ok(revision),
                None => {
                    let message = format!("{name} was there and is not shown any more");
                    fault = Fault { class: Class::Missing, code: 404, message, after: None };
                }
            }
        }
    }

    /// A pause, then the object if it is shown; the question is repeated while its answer gets lost.
    pub(super) async fn find_again(&mut self, name: &str, fault: Fault) -> Result<Option<Revision>, Trouble> {
        self.doubt = true;
        let mut fault = fault;
        loop {
            self.wait(fault).await?;
            fault = match self.api.revision(name).await {
                Ok(found) => return Ok(found),
                Err(fault) if may_heal(fault.class) => fault,
                Err(fault) => return Err(self.fault(fault)),
            };
        }
    }
}
