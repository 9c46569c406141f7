//! What is served: groups, versions, resources.

use serde_json::{Value, json};

use super::network;
use super::reply::{self, CONFIG, Outcome, PORCH, Reply};

const GROUPS: [&str; 4] = [PORCH, CONFIG, network::GROUP, "authorization.k8s.io"];

pub(super) fn answer(path: &str) -> Outcome {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let body = match &parts[..] {
        ["version"] => {
            json!({"major": "1", "minor": "34", "gitVersion": "v1.34.1", "gitCommit": "", "platform": "linux/amd64"})
        }
        ["healthz" | "readyz" | "livez"] => return Ok(Reply::text(200, "ok")),
        ["api"] => json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        ["api", "v1"] => resources("v1", json!([])),
        ["apis"] => json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": GROUPS.map(group)}),
        ["apis", name] if GROUPS.contains(name) => {
            let mut group = group(name);
            group["kind"] = json!("APIGroup");
            group["apiVersion"] = json!("v1");
            group
        }
        ["apis", PORCH, "v1alpha1"] => resources("porch.kpt.dev/v1alpha1", porch()),
        ["apis", CONFIG, "v1alpha1"] => resources(
            "config.porch.kpt.dev/v1alpha1",
            json!([resource(
                "repositories",
                "repository",
                "Repository",
                &["create", "delete", "get", "list"]
            )]),
        ),
        ["apis", network::GROUP, "v1alpha1"] => resources(
            "intent.nephoran.com/v1alpha1",
            json!([resource(
                "networkintents",
                "networkintent",
                "NetworkIntent",
                &["create", "delete", "get", "list", "patch", "update"]
            )]),
        ),
        ["apis", "authorization.k8s.io", "v1"] => resources(
            "authorization.k8s.io/v1",
            json!([
            {"name": "selfsubjectaccessreviews", "singularName": "selfsubjectaccessreview", "namespaced": false,
                "kind": "SelfSubjectAccessReview", "verbs": ["create"]}]),
        ),
        _ => return Err(reply::no_such_path()),
    };
    Ok(Reply::json(200, body))
}

fn group(name: &str) -> Value {
    let version = if name == "authorization.k8s.io" { "v1" } else { "v1alpha1" };
    let version = json!({"groupVersion": format!("{name}/{version}"), "version": version});
    json!({"name": name, "versions": [version], "preferredVersion": version})
}

fn resources(version: &str, list: Value) -> Value {
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": list})
}

fn resource(name: &str, singular: &str, kind: &str, verbs: &[&str]) -> Value {
    json!({"name": name, "singularName": singular, "namespaced": true, "kind": kind, "verbs": verbs})
}

fn porch() -> Value {
    let files = &["get", "list", "patch", "update", "watch"];
    let revisions = &["create", "delete", "get", "list", "patch", "update", "watch"];
    json!([
        resource("packagerevisionresources", "packagerevisionresources", "PackageRevisionResources", files),
        resource("packagerevisions", "packagerevision", "PackageRevision", revisions),
        resource("packagerevisions/approval", "", "PackageRevision", &["get", "patch", "update"]),
        resource(
            "packages",
            "package",
            "PorchPackage",
            &["create", "delete", "get", "list", "patch", "update"]
        ),
    ])
}
