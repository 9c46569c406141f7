//! The objects as the API shows them, key by key in the order of the recordings.

use serde_json::{Map, Value, json};

use super::reply::{CONFIG, PORCH};
use super::store::git::Revision;
use super::store::{Repository, Side, Store, uid};

/// The label that the server manages.
pub(super) const LATEST: &str = "kpt.dev/latest-revision";

/// The two kinds that one revision is shown as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Revision,
    Resources,
}

impl Kind {
    pub(super) const fn resource(self) -> &'static str {
        match self {
            Kind::Revision => "packagerevisions",
            Kind::Resources => "packagerevisionresources",
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Kind::Revision => "PackageRevision",
            Kind::Resources => "PackageRevisionResources",
        }
    }
}

/// A revision with what is needed to show it.
pub(super) struct Shown<'a> {
    pub(super) repository: &'a Repository,
    pub(super) name: String,
    pub(super) revision: &'a Revision,
    pub(super) side: &'a Side,
    pub(super) latest: bool,
}

impl Shown<'_> {
    pub(super) fn object(&self, kind: Kind) -> Value {
        match kind {
            Kind::Revision => self.revision(),
            Kind::Resources => self.resources(),
        }
    }

    /// Labels as they are filtered by.
    pub(super) fn labels(&self) -> Map<String, Value> {
        let mut labels: Vec<(String, Value)> =
            self.side.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        if self.latest {
            labels.push((LATEST.to_owned(), json!("true")));
        }
        labels.sort_by(|a, b| a.0.cmp(&b.0));
        labels.into_iter().collect()
    }

    fn metadata(&self) -> Value {
        let mut metadata = json!({"name": self.name, "namespace": self.repository.namespace,
            "uid": uid(&self.repository.namespace, &self.name), "resourceVersion": self.revision.version});
        let head = self.revision.number < 0;
        let created = if head { Some(&self.revision.created) } else { self.side.created.as_ref() };
        if let Some(created) = created {
            metadata["creationTimestamp"] = json!(created);
        }
        metadata
    }

    fn revision(&self) -> Value {
        let mut metadata = self.metadata();
        if let Some(deleting) = &self.side.deleting {
            metadata["deletionTimestamp"] = json!(deleting);
        }
        let labels = self.labels();
        let lists = [("ownerReferences", &self.side.owners), ("finalizers", &self.side.finalizers)];
        for (key, map) in [("labels", &labels), ("annotations", &self.side.annotations)] {
            if !map.is_empty() {
                metadata[key] = Value::Object(map.clone());
            }
        }
        for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            metadata[key] = Value::Array(list.clone());
        }
        json!({"kind": "PackageRevision", "apiVersion": format!("{PORCH}/v1alpha1"), "metadata": metadata,
            "spec": self.spec(), "status": self.status()})
    }

    fn spec(&self) -> Value {
        let revision = self.revision;
        let mut spec = json!({"packageName": revision.package, "repository": self.repository.name,
            "workspaceName": revision.workspace});
        if revision.number != 0 {
            spec["revision"] = json!(revision.number);
        }
        spec["lifecycle"] = json!(revision.stage.to_string());
        if !revision.task.is_null() {
            spec["tasks"] = json!([revision.task]);
        }
        let facts = &revision.tree.facts;
        if !facts.gates.is_empty() {
            spec["readinessGates"] = json!(facts.gates);
        }
        for (key, map) in [("labels", &facts.labels), ("annotations", &facts.annotations)] {
            if !map.is_empty() {
                spec["packageMetadata"][key] = Value::Object(map.clone());
            }
        }
        spec
    }

    fn status(&self) -> Value {
        let revision = self.revision;
        let reference = revision.reference(&self.repository.branch);
        let mut status = json!({"upstreamLock": revision.tree.facts.upstream_lock,
            "selfLock": {"type": "git", "git": {"repo": self.repository.url, "directory": revision.package,
                "ref": reference, "commit": revision.version}},
            "publishTimestamp": revision.published,
            "deployment": self.repository.spec["deployment"].as_bool().unwrap_or_default()});
        if !revision.tree.facts.conditions.is_empty() {
            status["conditions"] = json!(revision.tree.facts.conditions);
        }
        status
    }

    fn resources(&self) -> Value {
        let revision = self.revision;
        let mut spec = json!({"packageName": revision.package, "workspaceName": revision.workspace});
        if revision.number != 0 {
            spec["revision"] = json!(revision.number);
        }
        spec["repository"] = json!(self.repository.name);
        spec["resources"] = json!(revision.tree.files);
        json!({"kind": "PackageRevisionResources", "apiVersion": format!("{PORCH}/v1alpha1"),
            "metadata": self.metadata(), "spec": spec,
            "status": {"renderStatus": {"result": {"metadata": {}, "exitCode": 0}, "error": ""}}})
    }
}

impl Store {
    /// Shows a revision to `look`.
    pub(super) fn show<T>(
        &mut self,
        repository: &Repository,
        revision: &Revision,
        look: impl FnOnce(&Shown<'_>) -> T,
    ) -> T {
        let name = revision.name_in(&repository.name);
        let newest = self.git(&repository.url).latest(&revision.package);
        let latest = revision.number > 0 && revision.number == newest;
        let head = Side::default();
        let side = if revision.number < 0 { &head } else { &*self.side(&repository.namespace, &name) };
        look(&Shown { repository, name, revision, side, latest })
    }
}

/// A `Repository`.
pub(super) fn repository(repository: &Repository, trouble: Option<&str>) -> Value {
    let (status, reason, message) = match trouble {
        Some(why) => ("False", "Error", why),
        None if repository.reconciling => ("False", "Reconciling", "Repository reconciliation in progress"),
        None => ("True", "Ready", "Repository Ready"),
    };
    let mut object = bare_repository(repository);
    object["status"] = json!({"conditions": [{"lastTransitionTime": repository.created, "message": message,
        "observedGeneration": 1, "reason": reason, "status": status, "type": "Ready"}]});
    object
}

/// A `Repository` that nobody has looked at yet.
pub(super) fn bare_repository(repository: &Repository) -> Value {
    json!({"apiVersion": format!("{CONFIG}/v1alpha1"), "kind": "Repository",
        "metadata": {"creationTimestamp": repository.created, "generation": 1, "name": repository.name,
            "namespace": repository.namespace, "resourceVersion": repository.version.to_string(),
            "uid": uid(&repository.namespace, &format!("repository {}", repository.name))},
        "spec": repository.spec})
}
