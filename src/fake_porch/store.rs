//! What the server knows: git repositories, and beside them the objects of the core API.
//!
//! Git is the truth ([`git::Git`]); what a request sees of it may lag behind. Labels, annotations and
//! finalizers live in side objects, not in git, and are lost on their own.

pub(super) mod git;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::reply::{self, CONFIG, Outcome, PORCH};
use crate::clock::{Clock as _, SystemClock};
use git::{Git, Revision};

/// The name of a revision's object, in its parts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name {
    pub(super) repository: String,
    pub(super) package: String,
    pub(super) workspace: String,
}

impl Name {
    pub(super) fn parse(text: &str) -> Option<Name> {
        let (repository, rest) = text.split_once('.')?;
        let (package, workspace) = rest.rsplit_once('.')?;
        Some(Name {
            repository: repository.to_owned(),
            package: package.replace('.', "/"),
            workspace: workspace.to_owned(),
        })
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.repository, self.package.replace('/', "."), self.workspace)
    }
}

/// A `Repository` object.
#[derive(Debug, Clone)]
pub(super) struct Repository {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) url: String,
    pub(super) branch: String,
    pub(super) spec: Value,
    pub(super) created: String,
    pub(super) version: u64,
    /// Git answered once, so a listing is held from then on.
    pub(super) opened: bool,
    /// A periodic sync is said to run.
    pub(super) reconciling: bool,
    /// Served by the next version of the API: every write is answered 410.
    pub(super) migrated: bool,
}

/// What the core API holds beside a revision.
#[derive(Debug, Clone, Default)]
pub(super) struct Side {
    pub(super) labels: Map<String, Value>,
    pub(super) annotations: Map<String, Value>,
    pub(super) finalizers: Vec<Value>,
    pub(super) owners: Vec<Value>,
    pub(super) deleting: Option<String>,
    pub(super) created: Option<String>,
    /// Labels are read late: not before somebody asks for the object by its name.
    pub(super) loaded: bool,
}

/// Everything behind the requests.
#[derive(Debug)]
pub(super) struct Store {
    seed: u64,
    count: u64,
    pub(super) namespaces: BTreeSet<String>,
    pub(super) repositories: BTreeMap<(String, String), Repository>,
    pub(super) gits: BTreeMap<String, Git>,
    sides: BTreeMap<(String, String), Side>,
    /// Objects of the other kinds: NetworkIntents by namespace and name.
    pub(super) intents: BTreeMap<(String, String), Value>,
}

impl Store {
    pub(super) fn new(seed: u64) -> Store {
        Store {
            seed,
            count: 0,
            namespaces: BTreeSet::from(["default".to_owned()]),
            repositories: BTreeMap::new(),
            gits: BTreeMap::new(),
            sides: BTreeMap::new(),
            intents: BTreeMap::new(),
        }
    }

    /// A version: 40 hex digits that say nothing, as a commit's.
    pub(super) fn commit(&mut self) -> String {
        self.count += 1;
        hex(&format!("commit {} {}", self.seed, self.count), 40)
    }

    /// Rises with every version.
    pub(super) fn commits(&self) -> u64 {
        self.count
    }

    /// A counter, as the versions of the core API are.
    pub(super) fn tick(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// The repository that an object's name leads to.
    pub(super) fn repository(&self, namespace: &str, name: &str) -> Outcome<&Repository> {
        self.namespace(namespace)?;
        self.repositories
            .get(&(namespace.to_owned(), name.to_owned()))
            .ok_or_else(|| reply::not_found(CONFIG, "repositories", name))
    }

    pub(super) fn namespace(&self, namespace: &str) -> Outcome<()> {
        if self.namespaces.contains(namespace) { Ok(()) } else { Err(reply::no_namespace(namespace)) }
    }

    /// The git repository of a repository; it comes into being with the first object that names it.
    pub(super) fn git(&mut self, url: &str) -> &mut Git {
        self.gits.entry(url.to_owned()).or_default()
    }

    /// What the server believes of one object.
    pub(super) fn seen(&mut self, namespace: &str, resource: &str, name: &str) -> Outcome<(Name, Revision)> {
        let parsed = Name::parse(name).ok_or_else(odd_name)?;
        let url = self.repository(namespace, &parsed.repository)?.url.clone();
        self.open(namespace, &parsed.repository)?;
        let git = self.gits.entry(url).or_default();
        match git.seen(&parsed.package, &parsed.workspace) {
            Some(revision) => Ok((parsed, revision)),
            None => Err(reply::not_found(PORCH, resource, name)),
        }
    }

    /// The first use of a repository needs git; later ones have a listing.
    pub(super) fn open(&mut self, namespace: &str, name: &str) -> Outcome<()> {
        let key = (namespace.to_owned(), name.to_owned());
        let Some(repository) = self.repositories.get_mut(&key).filter(|one| !one.opened) else {
            return Ok(());
        };
        let git = self.gits.entry(repository.url.clone()).or_default();
        match git.trouble_cloning(repository) {
            None => {
                repository.opened = true;
                Ok(())
            }
            Some(why) => Err(reply::plain(500, &why)),
        }
    }

    /// The side object of a revision.
    pub(super) fn side(&mut self, namespace: &str, name: &str) -> &mut Side {
        self.sides.entry((namespace.to_owned(), name.to_owned())).or_default()
    }

    pub(super) fn drop_side(&mut self, namespace: &str, name: &str) {
        self.sides.remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// What a new process of the server knows: git as it is, and no labels until they are asked for. Side
    /// objects that were lost are made anew.
    pub(super) fn restart(&mut self) {
        self.gits.values_mut().for_each(Git::resync);
        for side in self.sides.values_mut() {
            side.loaded = false;
            side.created.get_or_insert_with(now);
        }
        self.repositories.values_mut().for_each(|repository| repository.opened = false);
    }
}

fn odd_name() -> reply::Refusal {
    const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and \
                         must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex \
                         used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
    reply::plain(
        500,
        &format!(
            "package revision kubernetes resource name invalid:\npackage name part \"\" of object name \
             invalid\npackage name  invalid: {LABEL}\nworkspace name part \"\" of package revision name \
             invalid\nworkspace name  invalid: {LABEL}\n"
        ),
    )
}

/// Hex digits that depend on the text alone.
pub(super) fn hex(text: &str, digits: usize) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let mut hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(digits);
    hex
}

/// The uid of an object: from namespace and name, so it is the same after delete and re-create.
pub(super) fn uid(namespace: &str, name: &str) -> Value {
    let hex = hex(&format!("uid {namespace} {name}"), 32);
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
    json!(format!("{}-{}-5{}-a{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32)))
}

/// The time in the form of the API.
pub(super) fn now() -> String {
    SystemClock.wall().seconds()
}
