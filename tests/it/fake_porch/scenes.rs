//! What exchanges were recorded under: what others did before, and what was broken.

use std::time::Duration;

use conductor_loop::fake_porch::{FakePorch, Fault, Rule, Stage, Step};
use serde_json::{Value, json};

use super::wire::{Answer, BASE, Wire};

/// Something done before an exchange.
enum Act {
    /// A repository is registered.
    Repository(&'static str),
    /// Somebody makes a revision in a stage.
    Put(&'static str, Stage),
    /// The same, published, with a Deployment of three replicas of the package's name, and with others: path,
    /// name, replicas.
    Deploy(&'static str, &'static [(&'static str, &'static str, u32)]),
    /// A draft by `edit`: repository, package, workspace, source.
    Edit(&'static str, &'static str, &'static str, &'static str),
    /// The same by `clone`.
    Clone(&'static str, &'static str, &'static str, &'static str),
    /// A create whose client goes while the draft is pushed, with the hash in its metadata: repository, package,
    /// workspace, and whether the package's metadata have it too.
    Cut(&'static str, &'static str, &'static str, bool),
    /// A merge-patch of a revision.
    Patch(&'static str, &'static str),
    /// A move by the approval.
    Approve(&'static str, &'static str),
    /// A deletion.
    Delete(&'static str),
    /// The next request of a step is struck.
    Strike(Step, Fault),
    /// A URL, what a fetch says, what the check says.
    Break(&'static str, &'static str, &'static str),
    Mend,
    Restart,
    /// The listing shows a revision as it was.
    Phantom(&'static str, Option<Stage>),
    /// Waits until a revision is there.
    Await(&'static str),
}

use Act::{
    Approve, Await, Break, Clone, Cut, Delete, Deploy, Edit, Mend, Patch, Phantom, Put, Repository, Restart,
    Strike,
};

const GD: &str = "http://127.0.0.1:9446/gd";
const AUTH: &str = "http://127.0.0.1:9449/auth1";
const DENIED: &str = "authentication required: ";
const LIST_DENIED: &str = "failed to list remote refs: authentication required: ";
const PROPOSED: &str = r#"{"spec":{"lifecycle":"Proposed"}}"#;
const SLOW: Fault =
    Fault::GatewayTimeout { done: true, after: Duration::from_millis(30), work: Duration::from_millis(500) };

/// What is done before a step, if anything.
#[rustfmt::skip]
fn acts(step: &str) -> Vec<Act> {
    match step {
        "create-edit-with-packageMetadata" => vec![Put("edge-deploy.hash-demo.i-1", Stage::Published)],
        "patch-packageMetadata-on-draft" => vec![Edit("edge-deploy", "hash-demo", "i-3", "edge-deploy.hash-demo.i-1")],
        "approve-patch-without-rv" => vec![Patch("err.stale.w1", r#"{"metadata":{"annotations":{"bump":"1"}}}"#)],
        "duplicate-create-init-Draft" => vec![Put("err.dup-draft.w1", Stage::Draft)],
        "duplicate-create-init-Proposed" => vec![Put("err.dup-proposed.w1", Stage::Proposed)],
        "duplicate-create-init-Published" => vec![Put("err.dup-published.w1", Stage::Published)],
        "duplicate-create-init-DeletionProposed" => vec![Put("err.dup-deletionproposed.w1", Stage::DeletionProposed)],
        "put-unknown-function-push-on-failure" => vec![Put("err.f-unknown2.w1", Stage::Draft),
            Patch("err.f-unknown2.w1", r#"{"metadata":{"annotations":{"porch.kpt.dev/push-on-render-failure":"true"}}}"#)],
        "delete-deletionproposed" => vec![Approve("err3.lf.w1", "DeletionProposed")],
        "recreate-after-delete" => vec![Delete("err3.lf.w2")],
        "delete-referenced-upstream" => vec![Put("err3.lf2.w1", Stage::Published),
            Clone("err3", "lf3", "w1", "err3.lf2.w1")],
        "placeholder-resources" => vec![Deploy("err3.lww.w1", &[("only-b.yaml", "b", 1)])],
        "approve-with-unmet-gate" => vec![Patch("err3.gates.w1", PROPOSED)],
        "patch-status-conditions-on-published" => vec![Put("err3.gates3.w1", Stage::Published)],
        "approve-after-placeholder-deleted" => vec![Put("upd.noph.w1", Stage::Published),
            Edit("upd", "noph", "w2", "upd.noph.w1"), Patch("upd.noph.w2", PROPOSED),
            Approve("upd.noph.main", "DeletionProposed"), Delete("upd.noph.main")],
        "list ?fieldSelector=spec.repository=err3 (items=34; first kept)" => vec![Repository("err3"),
            Deploy("err3.sel.w1", &[]), Edit("err3", "sel", "w2", "err3.sel.w1"), Patch("err3.sel.w2",
            r#"{"metadata":{"labels":{"team":"ran"}},"spec":{"packageMetadata":{"labels":{"pm":"x"}}}}"#)],
        "get-while-git-status-503" => vec![Put("gd.p.w1", Stage::Published), Put("gd.p2.w1", Stage::Draft),
            Put("gd.p3.w1", Stage::Proposed), Break(GD, UNEXPECTED, LIST_UNEXPECTED)],
        "get-while-git-status-401" => vec![Break(GD, DENIED, LIST_DENIED)],
        "repository-status-error" => vec![Break(GD, UNEXPECTED, LIST_UNEXPECTED)],
        "repo-gd-noport" => vec![Mend, Break("http://127.0.0.1:9/none", REFUSED, LIST_REFUSED)],
        "repo-gd-norepo" => vec![Break("http://127.0.0.1:9446/does-not-exist", "repository not found: ",
            "failed to list remote refs: repository not found: ")],
        "get-after-restart-create-before-push" | "get-after-restart-create-during-push"
        | "label-list-after-restart-2" => vec![],
        "label-list-after-restart-0" => vec![Put("cr.lab.w1", Stage::Draft),
            Patch("cr.lab.w1", r#"{"metadata":{"labels":{"team":"ran"},"annotations":{"a":"b"}}}"#), Restart],
        "kill9-create-during-push" => vec![Strike(Step::Create, Fault::DraftWithoutAnnotations)],
        "create-again-after-disconnect-during-push" => vec![Cut("dc2", "ann-during-push", "w1", false)],
        "get-after-disconnect-during-push-with-packageMetadata" => vec![Cut("dc2", "pm-during-push", "w1", true)],
        "phantom-absent-get (create had answered 201; git has the draft branch)" => vec![
            Put("race8x40t9778.p039.w0", Stage::Draft), Phantom("race8x40t9778.p039.w0", None)],
        "phantom-draft-get (approve had answered 200; git has tag p036/v1)" => vec![
            Put("race8x40t9778.p036.w0", Stage::Published), Phantom("race8x40t9778.p036.w0", Some(Stage::Draft)),
            Phantom("race8x40t9778.p039.w0", None)],
        "phantom-proposed-get (approve had answered 200; git has tag p032/v1)" => vec![
            Put("race8x40t9778.p032.w0", Stage::Published), Phantom("race8x40t9778.p032.w0", Some(Stage::Proposed))],
        "after-server-restart-p039" => vec![Restart],
        "create-before-the-server-is-ready" => vec![Strike(Step::Create, Fault::NotReady)],
        "create-cut-by-the-aggregator" => vec![Strike(Step::Create, SLOW)],
        "get-after-504" => vec![Await("agg.slow.w1")],
        "get-porch-just-died" => vec![Strike(Step::Get, Fault::Unreachable), Strike(Step::Get, Fault::Unreachable),
            Strike(Step::Get, Fault::Unavailable), Strike(Step::Create, Fault::Unavailable)],
        "clone-from-registered-package" => vec![Deploy("upc.cat.v1", &[])],
        "clone-from-draft" => vec![Put("upc.draftsrc.w1", Stage::Draft)],
        "repo-au-none" => vec![Break(AUTH, DENIED, LIST_DENIED)],
        "repo-au-missing" => vec![Break(AUTH, NO_SECRET, CHECK_SECRET)],
        "repo-au-bad" => vec![Break(AUTH, DENIED, LIST_DENIED)],
        "repo-au-odd" => vec![Break(AUTH, ODD_SECRET, CHECK_ODD)],
        "repo-au-good" => vec![Mend],
        "create-after-password-rotated-on-git" => vec![Break(AUTH, DENIED, LIST_DENIED)],
        other if other.starts_with("kill9") && other.ends_with("before-push") => vec![Strike(of(other), Fault::CloseBefore)],
        other if other.starts_with("kill9") => vec![Strike(of(other), Fault::CloseAfter)],
        _ => vec![],
    }
}

const UNEXPECTED: &str = "unexpected client error: unexpected requesting \"{url}/info/refs?service=git-upload-pack\" status code: 503";
const LIST_UNEXPECTED: &str = "failed to list remote refs: unexpected client error: unexpected requesting \
                               \"{url}/info/refs?service=git-upload-pack\" status code: 503";
const REFUSED: &str =
    "Get \"{url}/info/refs?service=git-upload-pack\": dial tcp 127.0.0.1:9: connect: connection refused";
const LIST_REFUSED: &str = "failed to list remote refs: Get \"{url}/info/refs?service=git-upload-pack\": dial tcp \
                            127.0.0.1:9: connect: connection refused";
const NO_SECRET: &str = "failed to obtain git credentials: failed to obtain credential from secret default/nope: \
                         cannot resolve credentials in a secret default/nope: secret not found";
const CHECK_SECRET: &str = "failed to resolve credentials: cannot resolve credentials in a secret default/nope: \
                            secret not found";
const ODD_SECRET: &str = "failed to obtain git credentials: failed to obtain credential from secret default/odd: \
                          error resolving credential: bearer Token secret.Data key must be set as bearerToken";
const CHECK_ODD: &str = "failed to resolve credentials: error resolving credential: bearer Token secret.Data key \
                         must be set as bearerToken";

/// The step that `kill9-<step>-…` names.
fn of(step: &str) -> Step {
    match step.split('-').nth(1) {
        Some("create") => Step::Create,
        Some("put") => Step::Files,
        Some("propose") => Step::Propose,
        _ => Step::Approve,
    }
}

/// Arranges what an exchange was recorded under.
pub(super) fn arrange(porch: &FakePorch, wire: &mut Wire, step: &str) {
    for act in acts(step) {
        match act {
            Repository(name) => {
                porch.add_repository(name, "default", &format!("http://127.0.0.1:9446/{name}"))
            }
            Put(name, stage) => porch.put_foreign(name, stage, &[]),
            Deploy(name, others) => {
                let package = name.split('.').nth(1).unwrap();
                let own = ("deployment.yaml", deployment(package, 3));
                let others = others.iter().map(|(path, name, replicas)| (*path, deployment(name, *replicas)));
                let files: Vec<(&str, String)> = std::iter::once(own).chain(others).collect();
                let files: Vec<(&str, &str)> =
                    files.iter().map(|(path, text)| (*path, text.as_str())).collect();
                porch.put_foreign(name, Stage::Published, &files);
            }
            Edit(repository, package, workspace, source) => {
                let task = json!({"type": "edit", "edit": {"sourceRef": {"name": source}}});
                assert_eq!(create(wire, [repository, package, workspace], &task, false), 201, "{step}");
            }
            Clone(repository, package, workspace, source) => {
                let task =
                    json!({"type": "clone", "clone": {"upstreamRef": {"upstreamRef": {"name": source}}}});
                assert_eq!(create(wire, [repository, package, workspace], &task, false), 201, "{step}");
            }
            Cut(repository, package, workspace, marked) => {
                porch.inject(Rule::once(Step::Create, Fault::DraftWithoutAnnotations));
                let task = json!({"type": "init", "init": {"description": format!("scale {package}"),
                    "keywords": ["scaling"]}});
                assert_eq!(create(wire, [repository, package, workspace], &task, marked), 0, "{step}");
            }
            Patch(name, body) => patch(wire, step, name, body),
            Approve(name, stage) => {
                patch(
                    wire,
                    step,
                    &format!("{name}/approval"),
                    &format!(r#"{{"spec":{{"lifecycle":"{stage}"}}}}"#),
                );
            }
            Delete(name) => {
                let answer = wire.send("DELETE", &format!("{BASE}/packagerevisions/{name}"), "", "");
                assert_eq!(answer.code, 200, "{step}: {}", answer.body);
            }
            Strike(step, fault) => porch.inject(Rule::once(step, fault)),
            Break(url, fetch, check) => porch.break_git_at(url, fetch, check),
            Mend => porch.mend_git(),
            Restart => restart(porch, wire),
            Phantom(name, stage) => assert!(porch.phantom(name, stage), "{step}: {name} never was so"),
            Await(name) => drop(crate::support::until("the draft", || porch.object(name))),
        }
    }
    if step.starts_with("get-after-restart") {
        restart(porch, wire);
    }
}

fn restart(porch: &FakePorch, wire: &mut Wire) {
    porch.restart();
    *wire = Wire::new(porch.address());
}

const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}\n  namespace: oran-odu\n  \
                          labels:\n    app: {name}\nspec:\n  replicas: {replicas} # scaled by intent\n  selector:\n    \
                          matchLabels:\n      app: {name}\n  template:\n    metadata:\n      labels:\n        app: \
                          {name}\n    spec:\n      containers:\n      - name: app\n        image: \
                          registry.example/odu:1.0\n        resources:\n          requests:\n            cpu: \
                          500m\n            memory: 256Mi\n";

/// A Deployment as the recordings have it.
pub(super) fn deployment(name: &str, replicas: u32) -> String {
    DEPLOYMENT.replace("{name}", name).replace("{replicas}", &replicas.to_string())
}

/// Creates a draft, with the hash in the package's metadata or not; the code of the answer.
fn create(wire: &mut Wire, place: [&str; 3], task: &Value, marked: bool) -> u16 {
    let [repository, package, workspace] = place;
    let annotations = json!({"annotations": {"conductor.example/intent-sha256": "e".repeat(64)}});
    let mut spec = json!({"repository": repository, "packageName": package, "workspaceName": workspace, "tasks": [task]});
    if marked {
        spec["packageMetadata"] = annotations.clone();
    }
    let metadata = if task["type"] == "init" { annotations } else { json!({}) };
    let draft = json!({"kind": "PackageRevision", "metadata": metadata, "spec": spec});
    wire.json("POST", &format!("{BASE}/packagerevisions"), &draft).code
}

fn patch(wire: &mut Wire, step: &str, name: &str, body: &str) {
    let body: Value = serde_json::from_str(body).unwrap();
    let answer = wire.json("PATCH", &format!("{BASE}/packagerevisions/{name}"), &body);
    assert_eq!(answer.code, 200, "{step}: {}", answer.body);
}

/// The anomalies of several writers: what the client sent last before, struck by a roll-back, and then the
/// step with the version that it was answered.
pub(super) fn anomaly(
    porch: &FakePorch,
    wire: &mut Wire,
    name: &str,
    method: &str,
    path: &str,
    code: u16,
) -> Answer {
    let files = path.contains("packagerevisionresources");
    let approve = path.ends_with("/approval");
    let object = format!("{BASE}/packagerevisions/{name}");
    let resources = format!("{BASE}/packagerevisionresources/{name}");
    porch.delete(name);
    let mut parts = name.split('.');
    let spec =
        json!({"repository": parts.next(), "packageName": parts.next(), "workspaceName": parts.next()});
    let draft = json!({"kind": "PackageRevision", "spec": spec});
    let gone = if code == 404 { Fault::Phantom(None) } else { Fault::RollBack(Duration::from_secs(20)) };
    let step = if files {
        Step::Create
    } else if approve {
        Step::Propose
    } else {
        Step::Files
    };
    porch.inject(Rule::once(step, gone));
    let mut last = wire.json("POST", &format!("{BASE}/packagerevisions"), &draft);
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    let put = |version: &str| json!({"metadata": {"resourceVersion": version}, "spec": {"resources": {"a.yaml": text}}});
    let to = |version: &str, stage: &str| json!({"metadata": {"resourceVersion": version}, "spec": {"lifecycle": stage}});
    if files {
        return wire.json(method, path, &put(&last.version()));
    }
    last = wire.json("PATCH", &resources, &put(&last.version()));
    if approve {
        last = wire.json("PATCH", &object, &to(&last.version(), "Proposed"));
        assert_eq!(last.code, 200, "{}", last.body);
    }
    wire.json(method, path, &to(&last.version(), if approve { "Published" } else { "Proposed" }))
}
