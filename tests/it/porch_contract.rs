//! The Porch client over real sockets: one suite of calls that every server must answer alike, faults of the
//! server and of the way to it, and credentials.
//!
//! The suite runs against the fake server, and against a real one if one is named; see
//! [`a_real_server_answers_alike`].

mod access;
mod answers;
mod faults;
mod raw;

use std::collections::BTreeMap;
use std::env;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use conductor_loop::submit::porch::api::{Answer, Api, Class, Files, NewDraft, Origin, Revision, Stage};
use conductor_loop::submit::porch::names;

use crate::support::{Porch, REPOSITORY, connection, porch_client};

const KEY: &str = "conductor-loop.nephoran.com/intent-sha256";
const WORKLOAD: &str = "workload.yaml";

/// A server, and a package that is not there yet.
struct Subject<'a> {
    api: &'a dyn Api,
    repository: &'a str,
    package: String,
}

fn manifest(replicas: u32) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: nf-a\n  namespace: ran-a\nspec:\n  \
         replicas: {replicas}\n"
    )
}

fn change(path: &str, text: Option<String>) -> BTreeMap<String, Option<String>> {
    BTreeMap::from([(path.to_owned(), text)])
}

fn begun(description: &str) -> Origin {
    Origin::Init { description: description.to_owned() }
}

impl Subject<'_> {
    fn draft(&self, digit: char, origin: Origin) -> NewDraft {
        let workspace = format!("i-{}", String::from(digit).repeat(40));
        let annotations = BTreeMap::from([(KEY.to_owned(), String::from(digit).repeat(64))]);
        NewDraft { package: self.package.clone(), workspace, origin, annotations }
    }

    fn name(&self, draft: &NewDraft) -> String {
        names::object(self.repository, &draft.package, &draft.workspace)
    }

    async fn class_of<T>(&self, answer: Answer<'_, T>) -> Class {
        match answer.await {
            Ok(_) => panic!("a request went through that must be refused"),
            Err(fault) => fault.class,
        }
    }

    /// Four writes, each with the version of the answer before; what they made is read back.
    async fn first_revision(&self) -> Revision {
        let api = self.api;
        let state = api.repository().await.unwrap();
        assert_eq!(state.broken, None);
        assert!(!state.git.is_empty() && !state.branch.is_empty(), "{state:?}");
        assert_eq!(api.revisions(&self.package).await.unwrap(), []);
        let draft = self.draft('1', begun("scale nf-a"));
        let name = self.name(&draft);
        assert_eq!(api.revision(&name).await.unwrap(), None);

        let made = api.create(&draft).await.unwrap();
        assert_eq!((&made.name, made.stage, made.number), (&name, Stage::Draft, 0));
        assert_eq!(made.annotations.get(KEY), draft.annotations.get(KEY));
        let files = api.put(&name, &made.version, &change(WORKLOAD, Some(manifest(3)))).await.unwrap();
        assert_ne!(files.version, made.version);
        assert_eq!(files.render_error, "");
        assert_eq!(files.texts.get(WORKLOAD), Some(&manifest(3)));
        assert!(files.texts.contains_key("Kptfile"), "what an init makes stays: {:?}", files.texts.keys());
        let proposed = api.propose(&name, &files.version, Stage::Proposed).await.unwrap();
        assert_eq!(proposed.stage, Stage::Proposed);
        let published = api.approve(&name, &proposed.version, Stage::Published).await.unwrap();
        assert_eq!((published.stage, published.number, published.latest), (Stage::Published, 1, true));

        let back = api.revision(&name).await.unwrap().expect("it was just published");
        assert_eq!((back.stage, back.number, &back.version), (Stage::Published, 1, &published.version));
        let listed = api.revisions(&self.package).await.unwrap();
        let names: Vec<&String> = listed.iter().map(|revision| &revision.name).collect();
        assert_eq!(names, [&name], "the placeholder of the branch is no revision");
        assert_eq!(api.files(&name).await.unwrap().texts.get(WORKLOAD), Some(&manifest(3)));
        published
    }

    /// A second revision from the first: files come along, are replaced and deleted; back to draft, and away.
    async fn second_revision(&self, first: &Revision) {
        let api = self.api;
        let draft = self.draft('2', Origin::Edit { source: first.name.clone() });
        let name = self.name(&draft);
        let made = api.create(&draft).await.unwrap();
        assert_eq!(made.annotations.get(KEY), draft.annotations.get(KEY), "not that of the source");
        let Files { version, texts, .. } = api.files(&name).await.unwrap();
        assert_eq!((&version, texts.get(WORKLOAD)), (&made.version, Some(&manifest(3))));
        let mut changes = change(WORKLOAD, None);
        changes.extend(change("other.yaml", Some(manifest(4))));
        let files = api.put(&name, &version, &changes).await.unwrap();
        assert!(!files.texts.contains_key(WORKLOAD), "{:?}", files.texts.keys());
        assert_eq!(files.texts.get("other.yaml"), Some(&manifest(4)));

        let key = BTreeMap::from([(KEY.to_owned(), "9".repeat(64))]);
        let marked = api.annotate(&name, &files.version, &key).await.unwrap();
        assert_eq!(marked.annotations.get(KEY), key.get(KEY));
        let proposed = api.propose(&name, &marked.version, Stage::Proposed).await.unwrap();
        let late = change(WORKLOAD, Some(manifest(5)));
        assert_eq!(self.class_of(api.put(&name, &proposed.version, &late)).await, Class::WrongStage);
        let draft = api.propose(&name, &proposed.version, Stage::Draft).await.unwrap();
        assert_eq!(draft.stage, Stage::Draft);
        api.delete(&name).await.unwrap();
        assert_eq!(api.revision(&name).await.unwrap(), None);
    }

    /// What a server refuses, told apart.
    async fn refusals(&self, first: &Revision) {
        let api = self.api;
        let again = self.draft('1', begun("again"));
        assert_eq!(self.class_of(api.create(&again)).await, Class::Exists);
        assert_eq!(self.class_of(api.create(&self.draft('3', begun("anew")))).await, Class::PackageExists);
        let source = format!("{}.{}.i-nobody", self.repository, self.package);
        let sourceless = self.draft('3', Origin::Edit { source });
        assert_eq!(self.class_of(api.create(&sourceless)).await, Class::BadSource);
        let approved = api.approve(&first.name, &first.version, Stage::Published);
        assert_eq!(self.class_of(approved).await, Class::WrongStage);

        let draft = self.draft('3', Origin::Edit { source: first.name.clone() });
        let made = api.create(&draft).await.unwrap();
        let approved = api.approve(&made.name, &made.version, Stage::Published);
        assert_eq!(self.class_of(approved).await, Class::WrongStage);
        let stranger = change("intent.json", Some("{\"replicas\": 3}".to_owned()));
        assert_eq!(self.class_of(api.put(&made.name, &made.version, &stranger)).await, Class::Render);
        let files = api.put(&made.name, &made.version, &change(WORKLOAD, Some(manifest(6)))).await.unwrap();
        let late = change(WORKLOAD, Some(manifest(7)));
        assert_eq!(self.class_of(api.put(&made.name, &made.version, &late)).await, Class::Stale);
        let proposed = api.propose(&made.name, &made.version, Stage::Proposed);
        assert_eq!(self.class_of(proposed).await, Class::Stale);
        assert_eq!(api.files(&made.name).await.unwrap().texts, files.texts);
        api.delete(&made.name).await.unwrap();
        assert_eq!(self.class_of(api.put(&made.name, &files.version, &late)).await, Class::Missing);
        assert_eq!(self.class_of(api.files(&made.name)).await, Class::Missing);
    }

    /// What no request wants any more: proposed for deletion, then deleted.
    async fn removal(&self, first: &Revision) {
        let leaving = self.api.approve(&first.name, &first.version, Stage::DeletionProposed).await.unwrap();
        assert_eq!(leaving.stage, Stage::DeletionProposed);
        self.api.delete(&first.name).await.unwrap();
        assert_eq!(self.api.revisions(&self.package).await.unwrap(), []);
    }

    async fn suite(&self) {
        let first = self.first_revision().await;
        self.second_revision(&first).await;
        self.refusals(&first).await;
        self.removal(&first).await;
    }
}

#[tokio::test]
async fn the_fake_server_answers_as_the_contract_says() {
    let porch = Porch::start();
    let api = porch.client();
    Subject { api: &api, repository: REPOSITORY, package: "nf-a".to_owned() }.suite().await;
}

/// The same suite against a real server; the README says how (section Porch). It needs a repository that may be
/// written to, and leaves the placeholder of one package there.
#[tokio::test]
#[ignore = "needs a real Porch: set CONDUCTOR_TEST_PORCH_URL and KUBECONFIG, perhaps CONDUCTOR_TEST_PORCH_REPOSITORY, \
            …_NAMESPACE, …_CA_FILE"]
async fn a_real_server_answers_alike() {
    let named = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let get = |name: &str| named(&format!("CONDUCTOR_TEST_PORCH_{name}"));
    let url = get("URL").expect("CONDUCTOR_TEST_PORCH_URL names the server");
    let repository = get("REPOSITORY").unwrap_or_else(|| REPOSITORY.to_owned());
    let mut connection = connection();
    connection.url = Some(url);
    connection.ca_file = get("CA_FILE").map(Into::into);
    connection.kubeconfig = named("KUBECONFIG").map(Into::into);
    connection.namespace = get("NAMESPACE").unwrap_or(connection.namespace);
    connection.repository.clone_from(&repository);
    connection.request_timeout = Duration::from_secs(300);
    let api = porch_client(connection);
    let stamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    Subject { api: &api, repository: &repository, package: format!("contract-{stamp}") }.suite().await;
}

#[tokio::test]
async fn a_revision_costs_four_writes_and_the_server_is_looked_at_once() {
    let porch = Porch::start();
    let api = porch.client();
    let subject = Subject { api: &api, repository: REPOSITORY, package: "nf-a".to_owned() };
    let draft = subject.draft('1', begun("scale"));
    let name = subject.name(&draft);
    let made = api.create(&draft).await.unwrap();
    let files = api.put(&name, &made.version, &change(WORKLOAD, Some(manifest(3)))).await.unwrap();
    let proposed = api.propose(&name, &files.version, Stage::Proposed).await.unwrap();
    api.approve(&name, &proposed.version, Stage::Published).await.unwrap();
    let log: Vec<String> = porch.fake.log().iter().map(|logged| logged.short()).collect();
    let wanted = [
        "GET /apis/porch.kpt.dev 200".to_owned(),
        "GET repositories/edge 200".to_owned(),
        "POST packagerevisions 201".to_owned(),
        format!("PATCH packagerevisionresources/{name} 200"),
        format!("PATCH packagerevisions/{name} 200"),
        format!("PATCH packagerevisions/{name}/approval 200"),
    ];
    assert_eq!(log, wanted);
}

#[tokio::test]
async fn a_list_asks_for_one_package_of_one_repository() {
    let porch = Porch::start();
    porch.client().revisions("nf-a").await.unwrap();
    let log = porch.fake.log();
    let query = &log.last().expect("one request was made").query;
    assert_eq!(query, "fieldSelector=spec.repository=edge,spec.packageName=nf-a");
}
