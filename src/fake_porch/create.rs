//! New drafts.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::content::{self, Tree};
use super::costs::Load;
use super::downstream;
use super::faults::Step;
use super::kptfile;
use super::reply::{self, Outcome, Reply};
use super::revisions::{self, Found};
use super::routes::Call;
use super::rules;
use super::state::{Shared, State, Write};
use super::store::git::{Revision, Stage};
use super::store::{Name, Repository, now};
use super::view::Kind;

/// Fields of a spec; others are dropped.
const FIELDS: [&str; 10] = [
    "packageName",
    "repository",
    "workspaceName",
    "revision",
    "lifecycle",
    "tasks",
    "readinessGates",
    "packageMetadata",
    "parent",
    "ancestorPackageRevision",
];

/// What the body of a create says.
struct Wanted {
    repository: String,
    package: String,
    workspace: String,
    task: Value,
    labels: Map<String, Value>,
    /// The package was there when the request came: of two at once, neither sees the other.
    listed: bool,
    object: Value,
}

pub(super) async fn draft(shared: &Shared, call: &Call, namespace: &str) -> Outcome {
    let unknown = unknown_fields(call)?;
    let wanted = read(call)?;
    let (repository, listed, load) = shared.with(|state| {
        let repository = state.store.repository(namespace, &wanted.repository)?.clone();
        let git = state.store.git(&repository.url);
        let listed = git.lists(&wanted.package);
        let revisions = git.revisions(&wanted.package).count();
        let source = git.head(&wanted.package).filter(|_| revisions > 0).map(|head| Arc::clone(&head.tree));
        let (files, bytes) = source.map_or((0, 0), |tree| (tree.resources(), tree.bytes()));
        Ok((repository, listed, Load { objects: git.objects(), revisions, files, bytes, ..Load::default() }))
    })?;
    let Wanted { package, workspace, .. } = &wanted;
    let name = &wanted.repository;
    let lock = format!("create {namespace}/{name}.{package}.{workspace}");
    let what = format!(
        "to create package revision with details namespace=\"{namespace}\", repository=\"{name}\", \
         package=\"{package}\",workspace=\"{workspace}\""
    );
    let taken = reply::in_progress("packagerevisions", "(new creation)", &what);
    let url = repository.url.clone();
    let write = Write { shared, call, lock, taken, url, step: Step::Create, load };
    let reply = write.run(|state| make(shared, state, &repository, &Wanted { listed, ..wanted })).await?;
    Ok(if unknown.is_empty() || call.parameter("fieldValidation") != "Warn" {
        reply
    } else {
        reply.with("Warning", format!("299 - \"unknown field \\\"{unknown}\\\"\""))
    })
}

/// The first unknown field of the spec, if there is one; an error where the client wants that.
fn unknown_fields(call: &Call) -> Outcome<String> {
    let body = call.json("PackageRevision")?;
    let mut fields = body["spec"].as_object().into_iter().flat_map(Map::keys);
    let unknown = fields.find(|field| !FIELDS.contains(&field.as_str()));
    match unknown.map(|field| format!("spec.{field}")) {
        Some(field) if call.parameter("fieldValidation") == "Strict" => Err(reply::bad_request(&format!(
            "PackageRevision in version \"v1alpha1\" cannot be handled as a PackageRevision: strict decoding error: \
             unknown field \"{field}\""
        ))),
        unknown => Ok(unknown.unwrap_or_default()),
    }
}

fn read(call: &Call) -> Outcome<Wanted> {
    let object = call.json("PackageRevision")?;
    let kind = object["kind"].as_str().unwrap_or_default();
    if kind != "PackageRevision" {
        return Err(reply::bad_request(&format!(
            "{kind} in version \"v1alpha1\" cannot be handled as a PackageRevision: no kind \"{kind}\" is registered \
             for version \"porch.kpt.dev/v1alpha1\" in scheme \"pkg/runtime/scheme.go:110\""
        )));
    }
    let spec = &object["spec"];
    if spec["revision"].is_string() {
        return Err(reply::bad_request(
            "PackageRevision in version \"v1alpha1\" cannot be handled as a PackageRevision: json: cannot unmarshal \
             string into Go struct field PackageRevisionSpec.spec.revision of type int",
        ));
    }
    let text = |key: &str| spec[key].as_str().unwrap_or_default();
    let labels = object["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    if text("repository").is_empty() {
        return Err(reply::bad_request("spec.repositoryName is required"));
    }
    let package = text("packageName").trim_matches('/');
    rules::create(package, text("workspaceName"), text("lifecycle"), &labels)?;
    let tasks = spec["tasks"].as_array().cloned().unwrap_or_default();
    if tasks.len() > 1 {
        return Err(reply::internal("task list must not contain more than one task"));
    }
    let plain = json!({"type": "init", "init": {"description": format!("{package} description")}});
    let mut task = tasks.into_iter().next().unwrap_or(plain);
    if let Some(Value::Object(git)) = task.pointer_mut("/clone/upstreamRef/git") {
        git.entry("secretRef").or_insert_with(|| json!({"name": ""}));
    }
    Ok(Wanted {
        repository: text("repository").to_owned(),
        package: package.to_owned(),
        workspace: text("workspaceName").to_owned(),
        task,
        listed: false,
        labels,
        object,
    })
}

fn make(
    shared: &Shared,
    state: &mut State,
    repository: &Repository,
    wanted: &Wanted,
) -> Outcome<(Name, Reply)> {
    let namespace = &repository.namespace;
    if repository.migrated {
        return Err(reply::gone(&repository.name));
    }
    if state.store.open(namespace, &repository.name).is_err()
        && let Some(why) = state.store.git(&repository.url).trouble_cloning(repository)
    {
        return Err(reply::internal(&why));
    }
    let name = Name {
        repository: repository.name.clone(),
        package: wanted.package.clone(),
        workspace: wanted.workspace.clone(),
    };
    check_place(state, repository, &name)?;
    let tree = start(state, repository, &name, wanted)?;
    let git = state.store.git(&repository.url);
    let lost = git.truth(&name.package, &name.workspace).is_some() && !name.package.contains('/');
    let trouble = git.trouble_fetching(repository).or_else(|| {
        lost.then(|| {
            format!("non-fast-forward update: refs/heads/drafts/{}/{}", name.package, name.workspace)
        })
    });
    if let Some(why) = trouble {
        return Err(reply::internal(&format!("failed to close package revision draft: {why}")));
    }
    let spec = &wanted.object["spec"];
    let tree = tree
        .with_kptfile(|text| {
            let text = kptfile::with_metadata(text, &spec["packageMetadata"]);
            let gates = spec
                .get("readinessGates")
                .filter(|gates| gates.as_array().is_some_and(|all| !all.is_empty()));
            kptfile::with_gates(&text, gates, None)
        })
        .unwrap_or_else(|| Arc::new(tree));
    let revision = Revision {
        package: name.package.clone(),
        workspace: name.workspace.clone(),
        stage: Stage::Draft,
        number: 0,
        version: state.store.commit(),
        tree,
        task: wanted.task.clone(),
        created: now(),
        published: None,
    };
    state.store.git(&repository.url).write(revision.clone());
    settle(shared, state, repository, wanted, &revision).map(|reply| (name, reply))
}

/// Labels and annotations of a draft that is in git by now; bad ones leave it without any.
fn settle(
    shared: &Shared,
    state: &mut State,
    repository: &Repository,
    wanted: &Wanted,
    revision: &Revision,
) -> Outcome {
    let namespace = &repository.namespace;
    let name = revision.name_in(&repository.name);
    state.store.drop_side(namespace, &name);
    let none = Map::new();
    let annotations = wanted.object["metadata"]["annotations"].as_object().unwrap_or(&none);
    if let Some(refusal) = rules::side_fault(&name, &wanted.labels, annotations) {
        return Err(refusal);
    }
    revisions::keep_metadata(state, namespace, &name, &wanted.object);
    let side = state.store.side(namespace, &name);
    side.created = Some(revision.created.clone());
    side.loaded = true;
    let object = state.store.show(repository, revision, |shown| shown.object(Kind::Revision));
    revisions::tell(shared, namespace, "ADDED", &object);
    Ok(Reply::json(201, object))
}

/// Whether the name is free.
fn check_place(state: &mut State, repository: &Repository, name: &Name) -> Outcome<()> {
    let Name { package, workspace, .. } = name;
    let git = state.store.git(&repository.url);
    // The real server loses sight of packages with a slash, and replaces their drafts.
    if !package.contains('/') && git.seen(package, workspace).is_some() {
        return Err(reply::internal(&format!(
            "package revision workspaceNames must be unique; package revision with name {package} in repo {} with \
             workspaceName {workspace} already exists",
            repository.name
        )));
    }
    let parent = git
        .packages()
        .filter(|other| !other.contains('/'))
        .find(|other| package.strip_prefix(*other).is_some_and(|rest| rest.starts_with('/')));
    match parent {
        None => Ok(()),
        Some(parent) => Err(reply::internal(&format!(
            "package path \"{package}\" conflicts with existing package \"{parent}\": packages cannot be nested"
        ))),
    }
}

/// The files that a task starts with.
fn start(state: &mut State, repository: &Repository, name: &Name, wanted: &Wanted) -> Outcome<Tree> {
    let task = &wanted.task;
    let kind = task["type"].as_str().unwrap_or_default();
    let body = &task[kind];
    if !matches!(kind, "init" | "clone" | "edit") {
        return Err(reply::internal(&format!("task of type \"{kind}\" not supported")));
    }
    if !body.is_object() {
        return Err(reply::internal(&format!("{kind} not set for task of type \"{kind}\"")));
    }
    let exists = wanted.listed && !name.package.contains('/');
    match kind {
        "init" if exists => Err(reply::internal(&format!(
            "package \"{}\" already exists in repository \"{}\"",
            name.package, repository.name
        ))),
        "init" => {
            let description = body["description"].as_str().unwrap_or_default();
            let keywords = body["keywords"].as_array().cloned().unwrap_or_default();
            Ok(Tree::of(content::initial(&name.package, description, &keywords)))
        }
        "clone" if exists => Err(reply::internal(&format!(
            "`clone` cannot create a new revision for package \"{}\" that already exists in repo \"{}\"; make \
             subsequent revisions using `copy`",
            name.package, repository.name
        ))),
        "clone" => cloned(state, &repository.namespace, name, body),
        _ => edited(state, &repository.namespace, name, body),
    }
}

fn edited(state: &mut State, namespace: &str, name: &Name, body: &Value) -> Outcome<Tree> {
    let source = body["sourceRef"]["name"].as_str().unwrap_or_default();
    let Ok(found) = revisions::find(state, namespace, source, Kind::Revision) else {
        let why = format!("failed to fetch package \"{source}\": cannot find package revision \"{source}\"");
        return Err(reply::internal(&why));
    };
    if found.name.package != name.package || found.name.repository != name.repository {
        let wanted = format!("{}/{}", name.repository, name.package);
        return Err(reply::internal(&format!("source revision must be from same package {wanted}")));
    }
    if !found.revision.stage.is_published() {
        return Err(reply::internal("source revision must be published"));
    }
    Ok((*found.revision.tree).clone())
}

fn cloned(state: &mut State, namespace: &str, name: &Name, body: &Value) -> Outcome<Tree> {
    let upstream = &body["upstreamRef"];
    let found = if let Some(source) = upstream["upstreamRef"]["name"].as_str() {
        revisions::find(state, namespace, source, Kind::Revision).map_err(|_| {
            reply::internal(&format!(
                "failed to fetch package revision \"{source}\": cannot find package revision \"{source}\""
            ))
        })?
    } else {
        from_git(state, &upstream["git"])?
    };
    Ok(downstream::of(&found, &name.package))
}

/// The published revision that a git reference names.
fn from_git(state: &mut State, git: &Value) -> Outcome<Found> {
    let text = |key: &str| git[key].as_str().unwrap_or_default().to_owned();
    let (url, directory, reference) = (text("repo"), text("directory"), text("ref"));
    let repository = state.store.repositories.values().find(|one| one.url == url).cloned();
    let tagged = state.store.git(&url).revisions(&directory).find(|revision| {
        revision.number > 0 && format!("{}/v{}", revision.package, revision.number) == reference
    });
    match (repository, tagged.cloned()) {
        (Some(repository), Some(revision)) => {
            let name = Name {
                repository: repository.name.clone(),
                package: revision.package.clone(),
                workspace: revision.workspace.clone(),
            };
            Ok(Found { repository, name, revision })
        }
        _ => Err(reply::internal(&format!(
            "cannot find package {directory}@{reference}:: cannot find git reference (tried [{directory}/{reference} \
             refs/remotes/origin/{directory}/{reference} {reference} refs/remotes/origin/{reference}])"
        ))),
    }
}
