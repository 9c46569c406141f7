//! The kpt package of an intent: bytes by file name.
//!
//! A package is three files. [`KPTFILE`] and [`CONTEXT`] are written once and depend on the target
//! alone; [`WORKLOAD`] is rendered anew for every intent and is two documents:
//!
//! ```text
//! the workload       exactly what the intent owns, or the site's blueprint with that changed
//! ---
//! ConfigMap          <name>-intent, local-config: the parsed intent key by key
//! ```
//!
//! Both carry the [`Stamp`] (intent id, digest, revision) and the managed-by label. An intent
//! without a [`scale`] effect leaves the workload document byte by byte as it is, older stamp
//! included; the stamp of the ConfigMap is therefore always the newest and [`Held`] reads that.
//!
//! A package on a server may hold many targets: its files are those of [`changes`], either one
//! workload file for each target or one Kustomize Component for all.
//!
//! Knows no sink and does no I/O beyond reading a blueprint. Rendering goes by hand into a reused
//! buffer (under 2 µs for an intent of ten fields, `benches/package.rs`); every scalar that comes
//! from a user is double-quoted so that YAML 1.1 and 1.2 readers agree on it.

mod blueprint;
mod component;
mod group;
mod held;
mod scaffold;
mod workload;
mod yaml;

pub use blueprint::{Blueprint, BlueprintFault, Blueprints, MAX_BLUEPRINT};
pub use component::{COMPONENT, INTENTS};
pub use group::{Changes, Form, GroupFault, MANY_FILES, Member, changes, holds_key};
pub use held::{Document, Held, Holding};
pub use scaffold::{context, kptfile};
pub use workload::{Base, render};

use crate::fate::{Id, Sha};
use crate::intent::{Intent, IntentType, TargetKind};

/// File name of the package's description.
pub const KPTFILE: &str = "Kptfile";
/// File name of the package's own context.
pub const CONTEXT: &str = "package-context.yaml";
/// File name of the two documents that follow the intents.
pub const WORKLOAD: &str = "workload.yaml";

/// Value of the label by which our objects are found.
pub const MANAGER: &str = "conductor-loop";
/// Name of that label.
pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Annotation that keeps an object from being applied to a cluster.
pub(crate) const LOCAL_CONFIG: &str = "config.kubernetes.io/local-config";
/// Annotation that names the intent.
pub(crate) const INTENT_ID: &str = "conductor-loop.nephoran.com/intent-id";
/// Annotation with the digest of the dropped bytes.
pub(crate) const INTENT_SHA256: &str = "conductor-loop.nephoran.com/intent-sha256";
/// Annotation with the dedup key, by which a sink that can be asked finds an intent again.
pub(crate) const INTENT_KEY: &str = "conductor-loop.nephoran.com/intent-key";
/// Annotation that counts the deliveries into the package.
pub(crate) const REVISION: &str = "conductor-loop.nephoran.com/revision";

/// What marks a rendered document as the effect of one intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp<'a> {
    /// The intent's id.
    pub id: Id,
    /// Digest of the dropped bytes.
    pub sha: &'a Sha,
    /// 1 for the first delivery into the package, then 2, 3 …
    pub revision: u64,
}

/// The replica count that the intent sets, or `None` if it leaves the workload as it is
/// (`configuration`, `service`, no replicas). A count for a DaemonSet is written like any other, since the
/// contract allows the kind; what a cluster makes of it is the consumer's matter.
pub fn scale(intent: &Intent) -> Option<u32> {
    let acts = matches!(intent.intent_type, IntentType::Scaling | IntentType::Deployment);
    let workload = matches!(
        intent.target.kind,
        TargetKind::Deployment | TargetKind::Statefulset | TargetKind::Daemonset
    );
    intent.replicas.filter(|_| acts && workload)
}

#[cfg(test)]
pub(crate) mod tests;
