use super::*;
use crate::fate::Sha;
use crate::intent::{IntentType, TargetKind};
use crate::package::REVISION;
use crate::package::tests::{by_saphyr, scaling};

fn of(namespace: &str, kind: TargetKind, name: &str, replicas: u32) -> Intent {
    let target = Target { namespace: namespace.into(), kind, name: name.into() };
    Intent { target, ..scaling(replicas) }
}

fn apply(held: &mut BTreeMap<String, String>, changes: Changes) {
    for (file, text) in changes {
        match text {
            Some(text) => drop(held.insert(file, text)),
            None => drop(held.remove(&file)),
        }
    }
}

const KEY: Sha = Sha([0x11; 32]);
const DIGEST: Sha = Sha([0x22; 32]);

fn member(intent: &Intent, id: u64) -> Member<'_> {
    Member { intent, id: Id(id), sha: &DIGEST, key: &KEY }
}

fn put(form: Form, held: &mut BTreeMap<String, String>, all: &[(&Intent, u64)]) {
    let members: Vec<_> = all.iter().map(|(intent, id)| member(intent, *id)).collect();
    let made = changes(form, "edge", &members, held, None).unwrap();
    apply(held, made);
}

fn counts(text: &str) -> Vec<(String, String, u64)> {
    let component = by_saphyr(text).remove(0);
    let patches = component["patches"].as_array().unwrap().iter().map(|entry| {
        let operations: serde_json::Value = serde_json::from_str(entry["patch"].as_str().unwrap()).unwrap();
        assert_eq!(operations[0]["op"], "add");
        let word = |key: &str| entry["target"][key].as_str().unwrap().to_owned();
        (word("namespace"), word("name"), operations[0]["value"].as_u64().unwrap())
    });
    patches.collect()
}

#[test]
fn the_package_of_one_target_holds_its_workload_and_its_intent_with_the_key() {
    let mut held = BTreeMap::from([(KPTFILE.to_owned(), "kind: Kptfile\n".to_owned())]);
    put(Form::Single, &mut held, &[(&scaling(5), 1)]);
    let documents = by_saphyr(&held[WORKLOAD]);
    assert_eq!(documents[0]["spec"]["replicas"], 5);
    assert_eq!(documents[1]["metadata"]["annotations"][INTENT_KEY], KEY.to_string());
    assert!(holds_key(&held, &KEY.to_string()) && !holds_key(&held, &DIGEST.to_string()));
    put(Form::Single, &mut held, &[(&scaling(3), 2)]);
    let documents = by_saphyr(&held[WORKLOAD]);
    assert_eq!(documents[0]["spec"]["replicas"], 3);
    assert_eq!(documents[0]["metadata"]["annotations"][REVISION], "2");
}

#[test]
fn an_intent_that_is_held_changes_nothing_in_any_form() {
    for form in [Form::Single, Form::Files, Form::Component] {
        let mut held = BTreeMap::new();
        put(form, &mut held, &[(&scaling(5), 7)]);
        let again = changes(form, "edge", &[member(&scaling(5), 7)], &held, None).unwrap();
        assert!(again.is_empty(), "{form:?}: {again:?}");
    }
}

#[test]
fn a_shared_package_has_a_file_for_each_target() {
    let mut held = BTreeMap::new();
    let (a, b) = (of("ran", TargetKind::Deployment, "du", 2), of("ran", TargetKind::Statefulset, "du", 4));
    put(Form::Files, &mut held, &[(&a, 1), (&b, 2)]);
    assert_eq!(held.keys().collect::<Vec<_>>(), ["ran-deployment-du.yaml", "ran-statefulset-du.yaml"]);
    let before = held["ran-deployment-du.yaml"].clone();
    put(Form::Files, &mut held, &[(&of("ran", TargetKind::Statefulset, "du", 9), 3)]);
    assert_eq!(held["ran-deployment-du.yaml"], before);
    assert_eq!(by_saphyr(&held["ran-statefulset-du.yaml"])[0]["spec"]["replicas"], 9);
}

#[test]
fn a_cloned_workload_is_edited_where_it_stands() {
    let text = "# by the platform team\napiVersion: v1\nkind: Service\nmetadata:\n  name: odu-high-phy\n---\n\
                apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: odu-high-phy # theirs\nspec:\n  \
                replicas: 1 # set by intents\n  strategy: {type: Recreate}\n";
    let mut held = BTreeMap::from([("deployment.yaml".to_owned(), text.to_owned())]);
    put(Form::Single, &mut held, &[(&scaling(6), 1)]);
    let edited = &held["deployment.yaml"];
    for kept in ["# by the platform team", "# theirs", "strategy: {type: Recreate}", "kind: Service"] {
        assert!(edited.contains(kept), "{edited}");
    }
    assert!(edited.contains("replicas: 6 # set by intents"), "{edited}");
    let ours = by_saphyr(&held[WORKLOAD]);
    assert_eq!((ours.len(), &ours[0]["kind"]), (1, &"ConfigMap".into()), "the workload stands once");
    put(Form::Single, &mut held, &[(&scaling(4), 2)]);
    assert!(held["deployment.yaml"].contains("replicas: 4 # set by intents"));
}

#[test]
fn a_component_sets_every_count_once() {
    let mut held = BTreeMap::new();
    let first: Vec<Intent> =
        (1..=50).map(|n| of("ran", TargetKind::Deployment, &format!("nf-{n}"), n)).collect();
    let all: Vec<_> = first.iter().zip(1..).collect();
    put(Form::Component, &mut held, &all);
    let changed = of("ran", TargetKind::Deployment, "nf-7", 99);
    let other = of("core", TargetKind::Deployment, "nf-7", 3);
    put(Form::Component, &mut held, &[(&changed, 101), (&other, 102)]);
    let counts = counts(&held[COMPONENT]);
    assert_eq!(counts.len(), 51);
    assert!(counts.contains(&("ran".into(), "nf-7".into(), 99)));
    assert!(counts.contains(&("core".into(), "nf-7".into(), 3)));
    assert!(counts.contains(&("ran".into(), "nf-8".into(), 8)));
    let [register] = by_saphyr(&held[INTENTS]).try_into().expect("one object");
    assert_eq!(register["metadata"]["name"], "edge-intents");
    assert_eq!(register["data"].as_object().unwrap().len(), 51);
    let newest = format!("{} {:.40}", Id(101), KEY.to_string());
    assert_eq!(register["data"]["ran.deployment.nf-7"], newest);
    assert!(holds_key(&held, &KEY.to_string()) && !holds_key(&held, &DIGEST.to_string()));
}

#[test]
fn an_intent_without_a_count_leaves_the_component_alone() {
    let mut held = BTreeMap::new();
    put(Form::Component, &mut held, &[(&scaling(5), 1)]);
    let before = held[COMPONENT].clone();
    let configuration = Intent { intent_type: IntentType::Configuration, ..scaling(5) };
    put(Form::Component, &mut held, &[(&configuration, 2)]);
    assert_eq!(held[COMPONENT], before);
    let register = by_saphyr(&held[INTENTS]).remove(0);
    let data = register["data"].as_object().unwrap();
    let (_, line) = data.iter().next().unwrap();
    let fields = line.as_str().unwrap().splitn(3, ' ').last().unwrap();
    let fields: serde_json::Value = serde_json::from_str(fields).unwrap();
    assert_eq!((data.len(), &fields["target"]), (1, &"odu-high-phy".into()), "{fields}");
    let again = changes(Form::Component, "edge", &[member(&configuration, 2)], &held, None).unwrap();
    assert!(again.is_empty(), "{again:?}");
}

#[test]
fn a_component_that_begins_without_a_count_takes_one_later() {
    let mut held = BTreeMap::new();
    let configuration = Intent { intent_type: IntentType::Configuration, ..scaling(5) };
    put(Form::Component, &mut held, &[(&configuration, 1)]);
    assert_eq!(by_saphyr(&held[COMPONENT])[0]["kind"], "Component", "a site can name it at once");
    assert!(counts(&held[COMPONENT]).is_empty());
    put(Form::Component, &mut held, &[(&scaling(5), 2)]);
    assert_eq!(counts(&held[COMPONENT]), [("oran-odu".into(), "odu-high-phy".into(), 5)]);
}

#[test]
fn what_people_wrote_into_a_component_survives() {
    let mut held = BTreeMap::new();
    put(Form::Component, &mut held, &[(&scaling(5), 1)]);
    let text = held[COMPONENT].replace("patches:\n", "# hand-made\nimages: []\npatches:\n# the DU\n")
        + "labels:\n- pairs: {team: ran}\n";
    held.insert(COMPONENT.to_owned(), text);
    put(Form::Component, &mut held, &[(&scaling(8), 2), (&of("x", TargetKind::Daemonset, "y", 1), 3)]);
    let text = &held[COMPONENT];
    for kept in ["# hand-made", "images: []", "# the DU", "- pairs: {team: ran}"] {
        assert!(text.contains(kept), "{text}");
    }
    assert_eq!(counts(text).len(), 2, "{text}");
}

#[test]
fn a_component_that_was_rearranged_is_not_touched() {
    let held = BTreeMap::from([(COMPONENT.to_owned(), "patches: {}\n".to_owned())]);
    let fault = changes(Form::Component, "edge", &[member(&scaling(5), 1)], &held, None).unwrap_err();
    assert_eq!((fault.member, fault.consequence()), (None, Consequence::Retry));
    assert!(fault.message.starts_with("kustomization.yaml cannot be edited safely"), "{fault}");
}

#[test]
fn the_bad_blueprint_of_one_target_is_that_members_fault() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("deployment-bad.yaml"), "kind: [").unwrap();
    let mut blueprints = Blueprints::new(dir.path().to_path_buf());
    let (good, bad) = (scaling(5), of("ran", TargetKind::Deployment, "bad", 2));
    let members = [member(&good, 1), member(&bad, 2)];
    let fault = changes(Form::Files, "edge", &members, &BTreeMap::new(), Some(&mut blueprints)).unwrap_err();
    assert_eq!((fault.member, fault.consequence()), (Some(1), Consequence::Refuse));
}
