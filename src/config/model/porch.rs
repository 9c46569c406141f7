//! `[sink.porch]`: package revisions on a Porch server.

use std::path::PathBuf;
use std::time::Duration;

/// `[sink.porch]`.
#[derive(Debug, Clone, PartialEq)]
pub struct PorchSink {
    /// Base URL of the server where it is not behind the cluster's own.
    pub url: Option<String>,
    /// Server and credential; `None` means what a client of the cluster finds by itself.
    pub kubeconfig: Option<PathBuf>,
    /// PEM certificates that the server at `url` must lead back to.
    pub ca_file: Option<PathBuf>,
    /// Where the Repository object is.
    pub namespace: String,
    /// Name of the Repository object. Needed when this is the sink.
    pub repository: Option<String>,
    /// Which targets share a package.
    pub package: PackageLayout,
    /// The package of all targets, where they share one.
    pub site: String,
    /// What packages hold.
    pub content: PackageContent,
    /// Object name of the published revision from which new packages are cloned.
    pub blueprint: Option<String>,
    /// How far revisions are taken.
    pub approval: Approval,
    /// What becomes of our own open proposal.
    pub open_proposal: OpenProposal,
    /// How long the first intent of a shared package waits for company.
    pub group_window: Duration,
    /// Our own published revisions that a package keeps.
    pub keep_revisions: usize,
    /// Most git URLs that are written to at once.
    pub max_parallel: usize,
    /// How long one request may take, answer included.
    pub request_timeout: Duration,
}

/// `sink.porch.package`: which targets share a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PackageLayout {
    /// Each target has its own.
    #[default]
    Target,
    /// All of a namespace share one.
    Namespace,
    /// All share one.
    Site,
}

/// `sink.porch.content`: what a package holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PackageContent {
    /// Workloads.
    #[default]
    Workloads,
    /// One Kustomize Component.
    Component,
}

/// `sink.porch.approval`: how far the daemon itself takes a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Approval {
    /// Leaves it a draft.
    Draft,
    /// Proposes it; somebody else approves.
    #[default]
    Propose,
    /// Publishes it.
    Publish,
}

/// `sink.porch.open_proposal`: what becomes of our own open proposal when a newer intent comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OpenProposal {
    /// It is taken back, updated and proposed again.
    #[default]
    Update,
    /// The newer intent waits until it is approved or rejected.
    Wait,
}

impl Default for PorchSink {
    fn default() -> Self {
        PorchSink {
            url: None,
            kubeconfig: None,
            ca_file: None,
            namespace: "default".into(),
            repository: None,
            package: PackageLayout::default(),
            site: "site".into(),
            content: PackageContent::default(),
            blueprint: None,
            approval: Approval::default(),
            open_proposal: OpenProposal::default(),
            group_window: Duration::from_millis(200),
            keep_revisions: 10,
            max_parallel: 4,
            request_timeout: Duration::from_secs(65),
        }
    }
}
