use std::fs;

use serde_json::Value;

use super::*;
use crate::fate::{Id, Sha};
use crate::intent::TargetKind;
use crate::package::tests::by_saphyr;

const PLAIN: &str = "\
# The radio team owns this file.
apiVersion: apps/v1
kind: Deployment   # rolled by hand
metadata:
  name: odu-high-phy
  namespace: oran-odu
spec:
  # start small
  replicas: 2 # from the capacity plan
  selector: {matchLabels: {app: odu}}
  template:
    metadata: {labels: {app: odu}}
    spec:
      containers:
      - name: odu
        image: 'registry.local/odu:1'
        args: [\"--cells\", \"4\"]
        env:
        - {name: MOTD, value: \"replicas: 9\"}
";

const PLAIN_EDITED: &str = "\
# The radio team owns this file.
apiVersion: apps/v1
kind: Deployment   # rolled by hand
metadata:
  name: odu-high-phy
  labels:
    app.kubernetes.io/managed-by: conductor-loop
  annotations:
    conductor-loop.nephoran.com/intent-id: \"00000000000000ff\"
    conductor-loop.nephoran.com/intent-sha256: \"0101010101010101010101010101010101010101010101010101010101010101\"
    conductor-loop.nephoran.com/revision: \"3\"
  namespace: oran-odu
spec:
  # start small
  replicas: 7 # from the capacity plan
  selector: {matchLabels: {app: odu}}
  template:
    metadata: {labels: {app: odu}}
    spec:
      containers:
      - name: odu
        image: 'registry.local/odu:1'
        args: [\"--cells\", \"4\"]
        env:
        - {name: MOTD, value: \"replicas: 9\"}
";

fn target() -> Target {
    Target { namespace: "oran-odu".into(), kind: TargetKind::Deployment, name: "odu-high-phy".into() }
}

fn edited(text: &str) -> Result<String, String> {
    let blueprint = Blueprint::parse(text.to_owned(), &target())?;
    let mut out = Vec::new();
    blueprint.render(&mut out, &Stamp { id: Id(255), sha: &Sha([1; 32]), revision: 3 }, 7);
    Ok(String::from_utf8(out).unwrap())
}

fn refused(text: &str, because: &str) {
    let message = edited(text).unwrap_err();
    assert!(message.contains(because), "{message:?} does not say {because:?}");
}

fn document(text: &str) -> Value {
    by_saphyr(text).remove(0)
}

#[test]
fn comments_order_and_formatting_survive() {
    assert_eq!(edited(PLAIN).unwrap(), PLAIN_EDITED);
}

#[test]
fn our_own_output_is_a_blueprint_too() {
    assert_eq!(edited(PLAIN_EDITED).unwrap(), PLAIN_EDITED);
}

#[test]
fn labels_and_annotations_that_are_there_stay() {
    let text = PLAIN.replace(
        "  namespace: oran-odu\n",
        "  labels:\n      # odd depth\n      app: odu\n      \"app.kubernetes.io/managed-by\": Helm # once\n  \
         annotations:\n    note: |\n      conductor-loop.nephoran.com/revision: none\n      # text\n",
    );
    let out = edited(&text).unwrap();
    let metadata = &document(&out)["metadata"];
    assert_eq!(metadata["labels"]["app"], "odu");
    assert_eq!(metadata["labels"]["app.kubernetes.io/managed-by"], "conductor-loop");
    assert_eq!(metadata["annotations"]["conductor-loop.nephoran.com/revision"], "3");
    assert!(metadata["annotations"]["note"].as_str().unwrap().ends_with("# text\n"));
    assert!(out.contains("conductor-loop # once\n"));
}

#[test]
fn empty_mappings_are_filled() {
    let text = PLAIN.replace("  namespace: oran-odu\n", "  labels: {} # none yet\n  annotations:\n");
    let metadata = &document(&edited(&text).unwrap())["metadata"];
    assert_eq!(metadata["labels"]["app.kubernetes.io/managed-by"], "conductor-loop");
    assert_eq!(metadata["annotations"].as_object().unwrap().len(), 3);
}

#[test]
fn a_leading_document_mark_a_missing_last_newline_and_windows_line_ends_are_fine() {
    let text = format!("--- # site\n{}", PLAIN.trim_end());
    assert_eq!(edited(&text).unwrap(), format!("--- # site\n{PLAIN_EDITED}"));
    let windows = edited(&PLAIN.replace('\n', "\r\n")).unwrap();
    assert_eq!(windows, PLAIN_EDITED.replace('\n', "\r\n"));
}

#[test]
fn a_blueprint_for_every_namespace_names_none() {
    let out = edited(&PLAIN.replace("  namespace: oran-odu\n", "")).unwrap();
    assert_eq!(document(&out)["metadata"].get("namespace"), None);
}

#[test]
fn a_blueprint_that_is_not_what_it_should_be_is_refused_with_advice() {
    refused(&PLAIN.replace("kind: Deployment", "kind: StatefulSet"), "kind is \"StatefulSet\"");
    refused(&PLAIN.replace("name: odu-high-phy", "name: other"), "metadata.name is \"other\"");
    refused(&PLAIN.replace("namespace: oran-odu", "namespace: other"), "metadata.namespace is");
    refused(&PLAIN.replace("apps/v1", "v1"), "apiVersion");
    refused(&PLAIN.replace("  replicas: 2 # from the capacity plan\n", ""), "has no spec.replicas");
    refused(&PLAIN.replace("replicas: 2", "replicas: \"2\""), "not a number");
    refused(&PLAIN.replace("replicas: 2", "replicas: 0x2"), "plain number");
    refused(&format!("{PLAIN}---\n{PLAIN}"), "document");
    refused(&format!("{PLAIN}---\n"), "document");
    refused("a: [", "readable");
    refused("", "");
    refused("- a\n", "apiVersion");
}

#[test]
fn flow_style_is_refused_where_it_would_have_to_be_edited() {
    let json = serde_json::to_string(&document(PLAIN)).unwrap();
    refused(&json, "block style");
    refused(
        &PLAIN.replace("  namespace: oran-odu\n", "  labels: {app: odu}\n"),
        "metadata.labels is not a block",
    );
    refused(
        &PLAIN.replace(
            "metadata:\n  name: odu-high-phy\n  namespace: oran-odu\n",
            "metadata: {name: odu-high-phy}\n",
        ),
        "metadata is not a block",
    );
}

#[test]
fn an_edit_that_would_not_read_back_is_refused() {
    let shared = PLAIN
        .replace("replicas: 2", "replicas: 2\n  minReadySeconds: &two 2")
        .replace("  namespace: oran-odu\n", "  labels: &l\n    app: odu\n  annotations: *l\n");
    assert!(edited(&shared).is_err());
    let twice = PLAIN.replace("\nspec:\n", "\nstatus: |\n  spec:\n    replicas: 1\nspec:\n");
    assert_eq!(document(&edited(&twice).unwrap())["spec"]["replicas"], 7);
}

fn site() -> (tempfile::TempDir, Blueprints) {
    let dir = tempfile::tempdir().unwrap();
    let blueprints = Blueprints::new(dir.path().to_path_buf());
    (dir, blueprints)
}

#[test]
fn the_namespace_s_own_blueprint_wins() {
    let (dir, mut blueprints) = site();
    assert!(blueprints.find(&target()).unwrap().is_none());
    fs::write(dir.path().join("deployment-odu-high-phy.yaml"), PLAIN).unwrap();
    assert_eq!(blueprints.find(&target()).unwrap().unwrap().text, PLAIN);
    let own = format!("# own\n{PLAIN}");
    fs::create_dir(dir.path().join("oran-odu")).unwrap();
    fs::write(dir.path().join("oran-odu/deployment-odu-high-phy.yaml"), &own).unwrap();
    assert_eq!(blueprints.find(&target()).unwrap().unwrap().text, own);
}

#[test]
fn a_plan_is_made_once_for_each_version_of_the_file() {
    let (dir, mut blueprints) = site();
    let path = dir.path().join("deployment-odu-high-phy.yaml");
    fs::write(&path, PLAIN).unwrap();
    let first = blueprints.find(&target()).unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &blueprints.find(&target()).unwrap().unwrap()));
    fs::write(&path, "kind: nothing\n").unwrap();
    let fault = blueprints.find(&target()).unwrap_err();
    assert_eq!(fault.consequence(), Consequence::Refuse);
    assert!(fault.to_string().contains("deployment-odu-high-phy.yaml: has no apiVersion"));
    fs::write(&path, PLAIN).unwrap();
    assert_eq!(blueprints.find(&target()).unwrap().unwrap().text, PLAIN);
}

#[test]
fn a_blueprint_over_one_mebibyte_or_of_another_type_is_refused() {
    let (dir, mut blueprints) = site();
    let path = dir.path().join("deployment-odu-high-phy.yaml");
    fs::write(&path, format!("{PLAIN}#{}", "x".repeat(1 << 20))).unwrap();
    assert!(blueprints.find(&target()).unwrap_err().to_string().contains("1 MiB"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(blueprints.find(&target()).unwrap_err().to_string().contains("not a regular file"));
}

#[test]
fn a_missing_directory_makes_intents_wait() {
    let (dir, mut blueprints) = site();
    dir.close().unwrap();
    let fault = blueprints.find(&target()).unwrap_err();
    assert_eq!(fault.consequence(), Consequence::Retry);
    assert!(fault.to_string().contains("package.blueprints"));
}

#[test]
fn the_cache_is_bounded_in_number_and_text() {
    let mut blueprints = Blueprints::new("/nowhere".into());
    let version = Version { ino: 1, size: 1, mtime: (0, 0), ctime: (0, 0) };
    for number in 0..5000 {
        let blueprint = Blueprint { text: "x".repeat(number % 100_000), pieces: Vec::new() };
        blueprints.remember(PathBuf::from(number.to_string()), version, Ok(Arc::new(blueprint)));
        assert!(blueprints.plans.len() <= CACHED_PLANS && blueprints.cached <= CACHED_TEXT);
    }
}
