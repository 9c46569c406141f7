//! One attempt at the sink: what it is made from, and what came of it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{Noted, Recall};
use crate::clock::Clock;
use crate::submit::dispatch::{Job, Unsent};
use crate::submit::{Delivery, Outcome, Sink};

/// The end of one attempt.
pub(super) struct Answered {
    pub(super) jobs: Vec<Job>,
    pub(super) came_to: CameTo,
    pub(super) took: Duration,
}

/// What came of one attempt.
pub(super) enum CameTo {
    /// One outcome for each job.
    Outcomes(Vec<Outcome>),
    /// It panicked.
    Panic,
    /// It did not begin: the ledger took no note of it.
    Nothing,
}

/// Puts what the attempt needs into the job.
pub(super) fn recall(from: &dyn Recall, job: &mut Job, takes_files: bool) -> Result<(), Unsent> {
    if job.parcel.intent.is_none() {
        job.parcel.intent = Some(Box::new(from.intent(&job.row)?));
    }
    if takes_files {
        job.file = Some(from.file(&job.row)?);
    }
    Ok(())
}

/// Hands a group to the sink, once its beginning is noted.
pub(super) fn attempt(
    sink: Arc<dyn Sink>,
    clock: Arc<dyn Clock>,
    noted: Option<Noted>,
    jobs: Vec<Job>,
) -> BoxFuture<'static, Answered> {
    Box::pin(async move {
        if let Some(noted) = noted
            && !noted.await
        {
            return Answered { jobs, came_to: CameTo::Nothing, took: Duration::ZERO };
        }
        let started = clock.now();
        let delivered = async {
            let group: Vec<Delivery<'_>> = jobs.iter().filter_map(delivery).collect();
            let outcomes = sink.deliver(&group).await;
            assert_eq!(outcomes.len(), jobs.len(), "a sink gives one outcome for each delivery");
            outcomes
        };
        let came_to = match AssertUnwindSafe(delivered).catch_unwind().await {
            Ok(outcomes) => CameTo::Outcomes(outcomes),
            Err(_) => CameTo::Panic,
        };
        let took = clock.now().since(started);
        Answered { jobs, came_to, took }
    })
}

fn delivery(job: &Job) -> Option<Delivery<'_>> {
    Some(Delivery {
        id: job.row.id,
        sha: job.row.sha.as_ref()?,
        name: std::str::from_utf8(&job.row.name).unwrap_or_default(),
        generation: job.row.generation,
        attempt: job.attempts,
        doubtful: job.doubtful && !job.permitted,
        intent: job.parcel.intent.as_deref()?,
        file: job.file.as_deref(),
    })
}
