//! The requests that the Porch sink makes, and what the server may say to them.
//!
//! Behind a trait, so that decisions run against memory in tests and the HTTP side is tested by itself.
//! Names and meanings are those of the server's `v1alpha1`; nothing here repeats a request.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;

/// Where a revision stands on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Its files can be written.
    Draft,
    /// Waits for approval.
    Proposed,
    /// Approved: it has a revision number and a tag in git.
    Published,
    /// Approved once, to be deleted.
    DeletionProposed,
}

impl Stage {
    /// As the server spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Stage::Draft => "Draft",
            Stage::Proposed => "Proposed",
            Stage::Published => "Published",
            Stage::DeletionProposed => "DeletionProposed",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One package revision, as much of it as decisions need. The placeholder of the branch head
/// (revision -1) never becomes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// `<repository>.<package>.<workspace>`.
    pub name: String,
    /// The repository's object name.
    pub repository: String,
    /// The package.
    pub package: String,
    /// The workspace.
    pub workspace: String,
    /// Where it stands.
    pub stage: Stage,
    /// Its number once it is published, else 0.
    pub number: i64,
    /// The opaque version that the next write must name.
    pub version: String,
    /// `spec.packageMetadata.annotations`: they live in git and survive every failure of a create.
    pub annotations: BTreeMap<String, String>,
    /// `spec.readinessGates` that have no condition with status `True`.
    pub unmet_gates: Vec<String>,
    /// The server's label for the newest published revision.
    pub latest: bool,
    /// Seconds since 1970 at which it was created, where the server says so.
    pub created: Option<i64>,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// The revision from which it was made by an `edit`.
    pub source: Option<String>,
}

/// The files of a revision by path, and the version they were read at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Files {
    /// The opaque version, shared with the revision.
    pub version: String,
    /// Whole files.
    pub texts: BTreeMap<String, String>,
    /// What rendering complained of; empty if it did not.
    pub render_error: String,
}

/// From what a new draft starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The first revision of a package.
    Init {
        /// Ends up in the Kptfile.
        description: String,
    },
    /// The first revision of a package, from a published revision of a blueprint.
    Clone {
        /// The blueprint's object name.
        upstream: String,
    },
    /// Every later revision.
    Edit {
        /// A published revision of the same package.
        source: String,
    },
}

/// A draft to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDraft {
    /// The package.
    pub package: String,
    /// The workspace.
    pub workspace: String,
    /// From what it starts.
    pub origin: Origin,
    /// `spec.packageMetadata.annotations`.
    pub annotations: BTreeMap<String, String>,
}

/// The repository as its object says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryState {
    /// The git URL.
    pub git: String,
    /// The branch, `main` unless told otherwise: its placeholder workspace is never ours.
    pub branch: String,
    /// Why it cannot be used: the message of `Ready=False` with reason `Error`. Reconciling is no fault.
    pub broken: Option<String>,
}

/// What an error of the server means (`porch.md` 2.7): most are 500, so the text decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The object, or a revision of this name, exists already.
    Exists,
    /// `init` or `clone` on a package that exists: start from its latest revision.
    PackageExists,
    /// Another request works on the object now, perhaps our own abandoned one.
    InProgress,
    /// The version is stale, or the server's cache went back.
    Stale,
    /// There is no such object, or it is not visible yet.
    Missing,
    /// The transition is not allowed from where the object stands.
    WrongStage,
    /// The source of an edit or clone cannot serve.
    BadSource,
    /// The draft is in git and the server's cache lost it, or the other way round.
    Phantom,
    /// Rendering the package failed.
    Render,
    /// The content or a name is refused for good.
    Content,
    /// The daemon's own rights or credential: 401, 403.
    Auth,
    /// TLS: certificate, host name, authority.
    Tls,
    /// The repository object, the namespace or the API is missing.
    Configuration,
    /// The repository is served by the next API version (410).
    Migrated,
    /// The server asks for fewer requests.
    Throttled,
    /// The server, git behind it or the function runner cannot be reached; nothing was changed.
    Unavailable,
    /// A cut connection, a gateway's time-out: the request may have been carried out.
    Unknown,
    /// No whole answer in the time that a request may take. As [`Self::Unknown`].
    TimedOut,
    /// An answer that is none: HTML, too large, not the object asked for. As [`Self::Unknown`].
    Protocol,
    /// A redirect, which is never followed. As [`Self::Protocol`].
    Redirected,
}

/// A request that was not answered as hoped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What it means.
    pub class: Class,
    /// The HTTP code; 0 without an answer.
    pub code: u16,
    /// What the server or the transport said, at most 4 KiB, escaped; with the request it was said to.
    pub message: String,
    /// The delay that the server asked for, within 0.5 s to 10 min.
    pub after: Option<Duration>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// An answer, later.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Fault>>;

/// The server, for one repository.
pub trait Api: Send + Sync {
    /// The repository's object, from the core API.
    fn repository(&self) -> Answer<'_, RepositoryState>;

    /// Every revision of one package; cheap at any size of the repository. An empty list proves nothing.
    fn revisions<'a>(&'a self, package: &'a str) -> Answer<'a, Vec<Revision>>;

    /// One revision by its name; `None` if there is none, or it is not visible yet.
    fn revision<'a>(&'a self, name: &'a str) -> Answer<'a, Option<Revision>>;

    /// The files of one revision.
    fn files<'a>(&'a self, name: &'a str) -> Answer<'a, Files>;

    /// Makes a draft.
    fn create<'a>(&'a self, draft: &'a NewDraft) -> Answer<'a, Revision>;

    /// Replaces some files of a draft; `None` deletes one. The others stay.
    fn put<'a>(
        &'a self,
        name: &'a str,
        version: &'a str,
        changes: &'a BTreeMap<String, Option<String>>,
    ) -> Answer<'a, Files>;

    /// Sets `spec.packageMetadata.annotations` of a draft.
    fn annotate<'a>(
        &'a self,
        name: &'a str,
        version: &'a str,
        annotations: &'a BTreeMap<String, String>,
    ) -> Answer<'a, Revision>;

    /// Moves a revision between draft and proposed, by the object itself.
    fn propose<'a>(&'a self, name: &'a str, version: &'a str, to: Stage) -> Answer<'a, Revision>;

    /// Publishes, or proposes the deletion of, a revision, by its approval subresource (a right of its own).
    fn approve<'a>(&'a self, name: &'a str, version: &'a str, to: Stage) -> Answer<'a, Revision>;

    /// Deletes a revision. The server protects nothing: read its stage first.
    fn delete<'a>(&'a self, name: &'a str) -> Answer<'a, ()>;
}
