//! What the tool that sites use makes of our Component: `kubectl kustomize`, or `kustomize build`.
//!
//! The package comes from the daemon by way of the fake Porch, as a site would check it out; the site's own
//! kustomization lies beside it and names it under `components:`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::Deserialize as _;
use serde_json::Value;

use crate::support::{Place, Porch, REPOSITORY, intent, until, within};

/// Kind, namespace and name of an object, and its replicas if it says so.
type Counts = BTreeMap<(String, String, String), Option<u64>>;

/// A workload of the site's base.
struct Base {
    kind: &'static str,
    namespace: String,
    name: String,
    replicas: Option<u32>,
}

fn base(kind: &'static str, namespace: &str, name: &str, replicas: Option<u32>) -> Base {
    Base { kind, namespace: namespace.to_owned(), name: name.to_owned(), replicas }
}

/// An intent: target as dropped, kind as Kubernetes has it, namespace, name, count.
struct Wish(&'static str, String, String, u32);

/// Sends these intents through the daemon; the files of the newest revision of the site's package.
fn package_of(wishes: &[Wish]) -> BTreeMap<String, String> {
    let (place, porch) = (Place::new(), Porch::start());
    let config = place.settings(&format!(
        "[sink]\nkind = \"porch\"\n[sink.porch]\nrepository = \"{REPOSITORY}\"\nkubeconfig = \"{}\"\n\
         package = \"site\"\ncontent = \"component\"\napproval = \"publish\"\n",
        porch.kubeconfig().display()
    ));
    let node = place.node().with(&["--config", &config]).start();
    for (number, Wish(kind, namespace, name, count)) in wishes.iter().enumerate() {
        let target = if kind.is_empty() { name.clone() } else { format!("{kind}/{name}") };
        place.rename_in(&format!("intent-{number:05}.json"), &intent(namespace, &target, *count));
    }
    within(Duration::from_secs(120), "every intent has its end", || {
        let ended = place.statuses().iter().filter(|status| status["fate"] != "pending").count();
        (ended == wishes.len()).then_some(())
    });
    let newest = until("the site has a published revision", || porch.fake.published("site").pop());
    node.finish();
    newest.files
}

/// Lays out a site with this base and this kustomization, and builds it with the tool.
fn build(package: &BTreeMap<String, String>, workloads: &[Base], kustomization: &str) -> Counts {
    let folder = tempfile::tempdir().unwrap();
    let (component, site) = (folder.path().join("replicas"), folder.path().join("site"));
    fs::create_dir(&component).unwrap();
    fs::create_dir(&site).unwrap();
    for (file, text) in package {
        fs::write(component.join(file), text).unwrap();
    }
    let mut text = String::new();
    for Base { kind, namespace, name, replicas } in workloads {
        let spec = replicas.map_or_else(|| "{}".to_owned(), |count| format!("{{replicas: {count}}}"));
        write!(
            text,
            "---\napiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: \"{name}\", namespace: \"{namespace}\"}}\n\
             spec: {spec}\n"
        )
        .unwrap();
    }
    fs::write(site.join("base.yaml"), text).unwrap();
    let head = "resources: [base.yaml]\ncomponents: [../replicas]\n";
    fs::write(site.join("kustomization.yaml"), format!("{head}{kustomization}")).unwrap();
    counts(&built(&site))
}

/// What the tool says of this folder.
fn built(site: &Path) -> String {
    for words in [["kubectl", "kustomize"], ["kustomize", "build"]] {
        match Command::new(words[0]).arg(words[1]).arg(site).output() {
            Ok(output) => {
                let told = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{words:?}: {told}");
                return String::from_utf8(output.stdout).unwrap();
            }
            Err(err) => assert_eq!(err.kind(), ErrorKind::NotFound, "{words:?}: {err}"),
        }
    }
    panic!("neither kubectl nor kustomize is in the PATH");
}

fn counts(text: &str) -> Counts {
    let documents = serde_yaml_ng::Deserializer::from_str(text).map(|one| Value::deserialize(one).unwrap());
    let word = |object: &Value, field: &str| object["metadata"][field].as_str().unwrap().to_owned();
    let all = documents.map(|object| {
        let kind = object["kind"].as_str().unwrap().to_owned();
        ((kind, word(&object, "namespace"), word(&object, "name")), object["spec"]["replicas"].as_u64())
    });
    all.collect()
}

fn count_of(counts: &Counts, kind: &str, namespace: &str, name: &str) -> Option<u64> {
    let key = (kind.to_owned(), namespace.to_owned(), name.to_owned());
    *counts.get(&key).unwrap_or_else(|| panic!("{key:?} is not among what was built"))
}

#[test]
#[ignore = "needs kubectl or kustomize; .ci/run runs it where one is installed and says when not"]
fn a_thousand_deployments_get_their_counts() {
    let place = |number: u32| (format!("ns-{:02}", number % 20), format!("nf-{number}"));
    let wishes: Vec<Wish> = (0..1_000)
        .map(|number| {
            let (namespace, name) = place(number);
            Wish("", namespace, name, 2 + number * 7 % 90)
        })
        .collect();
    let package = package_of(&wishes);
    // Every other one of the base leaves the count to the cluster.
    let workloads: Vec<Base> = wishes
        .iter()
        .zip(0..)
        .map(|(Wish(_, namespace, name, _), number)| {
            base("Deployment", namespace, name, (number % 2 == 0).then_some(1))
        })
        .collect();
    let counts = build(&package, &workloads, "");
    assert_eq!(counts.len(), wishes.len());
    for Wish(_, namespace, name, count) in &wishes {
        assert_eq!(count_of(&counts, "Deployment", namespace, name), Some(u64::from(*count)), "{name}");
    }
}

#[test]
#[ignore = "needs kubectl or kustomize; .ci/run runs it where one is installed and says when not"]
fn odd_names_other_kinds_and_targets_that_are_gone() {
    let long = "n".repeat(63);
    let odd = ["1", "1e3", "0x1f", "null", "true", "no", "y", "a--b", "nf-1", "nf-10", &long];
    let mut wishes: Vec<Wish> = odd
        .iter()
        .zip(11..)
        .map(|(name, count)| Wish("", "ran-a".to_owned(), (*name).to_owned(), count))
        .collect();
    let more = [
        ("statefulset", "ran-a", "nf-1", 31),
        ("", "ran-b", "nf-1", 32),
        ("", "default", "nf-1", 33),
        ("", "ran-a", "gone", 34),
        // The second word on a target counts.
        ("", "ran-a", "nf-10", 35),
    ];
    wishes.extend(
        more.map(|(kind, namespace, name, count)| Wish(kind, namespace.to_owned(), name.to_owned(), count)),
    );
    let package = package_of(&wishes);
    let mut workloads: Vec<Base> =
        odd.iter().map(|name| base("Deployment", "ran-a", name, Some(1))).collect();
    workloads.extend([
        base("StatefulSet", "ran-a", "nf-1", None),
        base("StatefulSet", "ran-a", "nf-10", Some(1)),
        base("DaemonSet", "ran-a", "nf-1", None),
        base("Deployment", "ran-b", "nf-1", None),
        base("Deployment", "default", "nf-1", None),
        base("Deployment", "ran-a", "nf-100", Some(1)),
        base("Deployment", "ran-a", "xnf-1", Some(1)),
    ]);
    let labelled = "labels: [{pairs: {site: edge-7}, includeTemplates: true}]\n";
    let counts = build(&package, &workloads, labelled);
    assert_eq!(counts.len(), workloads.len(), "nothing is added for a target that is gone");
    for (name, count) in odd.iter().zip(11..) {
        let count = if *name == "nf-10" { 35 } else { count };
        assert_eq!(count_of(&counts, "Deployment", "ran-a", name), Some(count), "{name}");
    }
    for (kind, namespace, name, count) in [
        ("StatefulSet", "ran-a", "nf-1", Some(31)),
        ("Deployment", "ran-b", "nf-1", Some(32)),
        ("Deployment", "default", "nf-1", Some(33)),
        // Another kind, or a name that ours is a part of.
        ("StatefulSet", "ran-a", "nf-10", Some(1)),
        ("DaemonSet", "ran-a", "nf-1", None),
        ("Deployment", "ran-a", "nf-100", Some(1)),
        ("Deployment", "ran-a", "xnf-1", Some(1)),
    ] {
        assert_eq!(count_of(&counts, kind, namespace, name), count, "{kind} {namespace}/{name}");
    }
    // Names that the site makes of its base's are no hindrance: the Component meets the base's own.
    let counts = build(&package, &workloads[..1], "namePrefix: edge-\nnamespace: site-7\n");
    assert_eq!(count_of(&counts, "Deployment", "site-7", "edge-1"), Some(11));
}
