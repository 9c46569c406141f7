//! What the server's objects look like, as much of them as is needed.
//!
//! Tolerant where the server is (`porch.md` 1.1): unknown fields are passed over, an absent field, `null` and
//! an empty value are one. Strict where a decision hangs on it: an object of another name than was asked
//! for, or in a lifecycle that is unknown, is no answer ([`Class::Protocol`]).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{Class, Fault, Files, NewDraft, Origin, RepositoryState, Revision, Stage};

/// Group and version of packages.
pub(super) const VERSION: &str = "porch.kpt.dev/v1alpha1";
/// The server's number for the placeholder of the branch head.
const PLACEHOLDER: i64 = -1;
/// The server's label for the newest published revision of a package.
const LATEST: &str = "kpt.dev/latest-revision";
/// On a Repository that is served by the next version.
const MIGRATION: &str = "porch.kpt.dev/v1alpha2-migration";

/// Names by values; `null` is none.
type Map = BTreeMap<String, Option<String>>;

/// `metadata` of any object.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Meta {
    name: Option<String>,
    resource_version: Option<String>,
    creation_timestamp: Option<String>,
    deletion_timestamp: Option<String>,
    labels: Option<Map>,
    annotations: Option<Map>,
}

/// A package revision.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PackageRevision {
    metadata: Meta,
    spec: RevisionSpec,
    status: Option<RevisionStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RevisionSpec {
    repository: String,
    package_name: String,
    workspace_name: String,
    lifecycle: Option<String>,
    revision: Option<i64>,
    readiness_gates: Option<Vec<Gate>>,
    package_metadata: Option<PackageMetadata>,
    /// How it was made; of no use to anybody but for the source of an edit.
    tasks: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PackageMetadata {
    annotations: Option<Map>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Gate {
    condition_type: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RevisionStatus {
    conditions: Option<Vec<Condition>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: Option<String>,
    message: Option<String>,
}

/// A list of package revisions.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PackageRevisions {
    kind: String,
    items: Option<Vec<PackageRevision>>,
}

/// The files of a package revision.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PackageFiles {
    metadata: Meta,
    spec: FilesSpec,
    status: Option<FilesStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FilesSpec {
    resources: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct FilesStatus {
    render_status: Option<RenderStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RenderStatus {
    error: Option<String>,
}

/// A repository.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::submit) struct Repository {
    metadata: Meta,
    spec: RepositorySpec,
    status: Option<RevisionStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RepositorySpec {
    git: Option<Git>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Git {
    repo: Option<String>,
    branch: Option<String>,
}

/// The versions of a group that a server has.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::submit) struct Group {
    versions: Option<Vec<GroupVersion>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct GroupVersion {
    version: String,
}

/// The answer that is an error. Some servers on the way answer plain text instead.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    message: Option<String>,
    details: Option<StatusDetails>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct StatusDetails {
    retry_after_seconds: Option<u64>,
}

/// What an error answer says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Its message, or all of it where it is no [`Status`].
    pub(super) message: String,
    /// After how many seconds it wants to be asked again.
    pub(super) retry_after: Option<u64>,
    /// Porch or the cluster speaks, and nobody on the way.
    pub(super) is_status: bool,
}

impl Status {
    /// Reads any body: JSON, a web page, bytes.
    pub(super) fn read(body: &[u8]) -> Told {
        match serde_json::from_slice::<Status>(body) {
            Ok(Status { message: Some(message), details, .. }) => {
                let retry_after = details.and_then(|details| details.retry_after_seconds);
                Told { message, retry_after, is_status: true }
            }
            _ => {
                let message = String::from_utf8_lossy(body).into_owned();
                Told { message, retry_after: None, is_status: false }
            }
        }
    }
}

fn strings(map: Option<Map>) -> BTreeMap<String, String> {
    let map = map.unwrap_or_default();
    map.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect()
}

/// An answer that is not the one that was asked for.
pub(super) fn protocol(message: String) -> Fault {
    Fault { class: Class::Protocol, code: 200, message, after: None }
}

fn stage(word: Option<&str>) -> Option<Stage> {
    match word {
        // The server leaves empty values out, and what has no lifecycle yet is a draft.
        None | Some("" | "Draft") => Some(Stage::Draft),
        Some("Proposed") => Some(Stage::Proposed),
        Some("Published") => Some(Stage::Published),
        Some("DeletionProposed") => Some(Stage::DeletionProposed),
        Some(_) => None,
    }
}

impl PackageRevision {
    /// What decisions need of it; `None` for the placeholder of the branch head.
    pub(super) fn revision(self) -> Result<Option<Revision>, Fault> {
        let PackageRevision { metadata, spec, status } = self;
        if spec.revision == Some(PLACEHOLDER) {
            return Ok(None);
        }
        let name = metadata.name.unwrap_or_default();
        let version = metadata.resource_version.unwrap_or_default();
        let Some(stage) = stage(spec.lifecycle.as_deref()) else {
            let word = spec.lifecycle.unwrap_or_default();
            return Err(protocol(format!("{name} is in a lifecycle that is unknown here, {word:?}")));
        };
        if name.is_empty() || version.is_empty() || spec.package_name.is_empty() {
            return Err(protocol("the answer holds no package revision".to_owned()));
        }
        let conditions = status.and_then(|status| status.conditions).unwrap_or_default();
        let is_met =
            |gate: &Gate| conditions.iter().any(|c| c.kind == gate.condition_type && c.status == "True");
        let gates = spec.readiness_gates.unwrap_or_default();
        let unmet = gates.into_iter().filter(|gate| !is_met(gate)).map(|gate| gate.condition_type);
        let created = metadata.creation_timestamp.and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let source = spec.tasks.pointer("/0/edit/sourceRef/name").and_then(Value::as_str).map(str::to_owned);
        let metadata_of_package = spec.package_metadata.unwrap_or_default();
        Ok(Some(Revision {
            name,
            repository: spec.repository,
            package: spec.package_name,
            workspace: spec.workspace_name,
            stage,
            number: spec.revision.unwrap_or(0).max(0),
            version,
            annotations: strings(metadata_of_package.annotations),
            unmet_gates: unmet.collect(),
            latest: strings(metadata.labels).get(LATEST).is_some_and(|value| value == "true"),
            created: created.map(jiff::Timestamp::as_second),
            deleting: metadata.deletion_timestamp.is_some(),
            source,
        }))
    }
}

impl PackageRevisions {
    /// The revisions of one package. Anything else in the list was not asked for.
    pub(super) fn revisions(self, repository: &str, package: &str) -> Result<Vec<Revision>, Fault> {
        // Any other document would read as a list of nothing, and nothing is what a new package is made for.
        if self.kind != "PackageRevisionList" {
            return Err(protocol(format!("asked for a list of revisions, got {:?}", self.kind)));
        }
        let items = self.items.unwrap_or_default().into_iter();
        let found: Vec<Revision> =
            items.filter_map(|item| item.revision().transpose()).collect::<Result<_, _>>()?;
        match found.iter().find(|found| found.repository != repository || found.package != package) {
            Some(other) => Err(protocol(format!("asked for {repository}.{package}, got {}", other.name))),
            None => Ok(found),
        }
    }
}

impl PackageFiles {
    /// The files of the revision `name`.
    pub(super) fn files(self, name: &str) -> Result<Files, Fault> {
        let found = self.metadata.name.unwrap_or_default();
        let version = self.metadata.resource_version.unwrap_or_default();
        if found != name || version.is_empty() {
            return Err(protocol(format!("asked for the files of {name}, got those of {found:?}")));
        }
        let render = self.status.and_then(|status| status.render_status).unwrap_or_default();
        let texts = self.spec.resources.unwrap_or_default();
        Ok(Files { version, texts, render_error: render.error.unwrap_or_default() })
    }
}

impl Repository {
    /// Whether the server says that it is ready; what it says instead where it does not.
    pub(in crate::submit) fn ready(&self) -> Result<(), String> {
        let conditions = self.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
        let Some(ready) = conditions.into_iter().find(|condition| condition.kind == "Ready") else {
            return Err("it has no condition Ready".to_owned());
        };
        let words = [&ready.reason, &ready.message].map(|text| text.clone().unwrap_or_default());
        if ready.status == "True" { Ok(()) } else { Err(words.join(": ")) }
    }

    /// The state of the repository `name`.
    pub(in crate::submit) fn state(self, name: &str) -> Result<RepositoryState, Fault> {
        if self.metadata.name.as_deref() != Some(name) {
            return Err(protocol(format!("asked for repository {name}, got another object")));
        }
        if strings(self.metadata.annotations).get(MIGRATION).is_some_and(|value| value == "true") {
            let message = format!("repository {name} has the annotation {MIGRATION}");
            return Err(Fault { class: Class::Migrated, code: 200, message, after: None });
        }
        let git = self.spec.git.unwrap_or_default();
        let conditions = self.status.and_then(|status| status.conditions).unwrap_or_default();
        let failed =
            |c: &Condition| c.kind == "Ready" && c.status == "False" && c.reason.as_deref() == Some("Error");
        let broken = conditions.into_iter().find(failed).map(|c| c.message.unwrap_or_default());
        let branch = git.branch.filter(|branch| !branch.is_empty()).unwrap_or_else(|| "main".to_owned());
        Ok(RepositoryState { git: git.repo.unwrap_or_default(), branch, broken })
    }
}

impl Group {
    /// Whether it has this version.
    pub(super) fn has(&self, version: &str) -> bool {
        self.versions().any(|has| has == version)
    }

    /// Each by its name.
    pub(in crate::submit) fn versions(&self) -> impl Iterator<Item = &str> {
        self.versions.iter().flatten().map(|has| has.version.as_str())
    }
}

/// The body that creates a draft. The server makes the name.
pub(super) fn draft(namespace: &str, repository: &str, draft: &NewDraft) -> Value {
    let task = match &draft.origin {
        Origin::Init { description } => json!({"type": "init", "init": {"description": description}}),
        Origin::Clone { upstream } => {
            json!({"type": "clone", "clone": {"upstreamRef": {"upstreamRef": {"name": upstream}}}})
        }
        Origin::Edit { source } => json!({"type": "edit", "edit": {"sourceRef": {"name": source}}}),
    };
    json!({
        "apiVersion": VERSION,
        "kind": "PackageRevision",
        "metadata": {"namespace": namespace},
        "spec": {
            "repository": repository,
            "packageName": draft.package,
            "workspaceName": draft.workspace,
            "lifecycle": "Draft",
            "packageMetadata": {"annotations": draft.annotations},
            "tasks": [task],
        },
    })
}

/// A merge-patch of `spec` that holds for one version alone.
pub(super) fn patch(version: &str, spec: Value) -> Value {
    json!({"metadata": {"resourceVersion": version}, "spec": spec})
}

#[cfg(test)]
mod tests;
