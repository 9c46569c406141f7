//! `[sink.network-intent]`: custom resources in a cluster.

use std::path::PathBuf;

/// `[sink.network-intent]`.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkIntentSink {
    /// Server and credential; `None` means what a client of the cluster finds by itself.
    pub kubeconfig: Option<PathBuf>,
    /// Most requests at once.
    pub max_parallel: usize,
}

impl Default for NetworkIntentSink {
    fn default() -> Self {
        NetworkIntentSink { kubeconfig: None, max_parallel: 8 }
    }
}
