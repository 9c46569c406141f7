//! Which sink the settings name, made from what the pipeline has.

use std::sync::Arc;

use super::StartFault;
use crate::clock::Clock;
use crate::config::Config;
use crate::disk::Disk;
use crate::fate::SinkKind;
use crate::observe::Metrics;
use crate::submit::folder::FolderSink;
use crate::submit::{Sink, porch};

/// What sinks are made from.
pub(super) struct Making<'a> {
    pub(super) config: &'a Config,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
}

/// The sink of `sink.kind`.
pub(super) fn build(making: Making<'_>) -> Result<Arc<dyn Sink>, StartFault> {
    match making.config.sink.kind {
        SinkKind::Folder => Ok(folder(making)),
        SinkKind::Porch => remote(making),
    }
}

fn folder(making: Making<'_>) -> Arc<dyn Sink> {
    Arc::new(FolderSink::new(making.disk, making.config.package.blueprints.clone()))
}

fn remote(making: Making<'_>) -> Result<Arc<dyn Sink>, StartFault> {
    // Where credentials lie is no setting of ours: the cluster's own variables say it.
    let environment = std::env::vars_os().collect();
    let sink = porch::open(making.config, &environment, making.clock, making.metrics);
    Ok(Arc::new(sink.map_err(StartFault::new)?))
}
