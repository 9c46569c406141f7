//! What the doctor says of a cluster: over real sockets, of a fake server that is well or has one thing wrong.

use std::time::{Duration, Instant};

use conductor_loop::fake_porch::{FakePorch, Fault, NAMESPACE, Options, Rule, Stage, Step, Tls};
use serde_json::Value;

use super::{check, doctor, failing, said};
use crate::support::{Place, Porch, REPOSITORY};

const TOKEN: &str = "tok-3f9a-secret";

fn guarded() -> Porch {
    Porch::with(Options { token: Some(TOKEN.to_owned()), ..Options::default() })
}

/// What the doctor says of the server as the Porch sink sees it, with these settings besides. Nothing secret may
/// be in it, and nothing may have been made.
#[track_caller]
fn examined(porch: &Porch, more: &[&str]) -> Value {
    with_kubeconfig(porch, porch.kubeconfig().to_str().unwrap(), more)
}

#[track_caller]
fn with_kubeconfig(porch: &Porch, kubeconfig: &str, more: &[&str]) -> Value {
    let place = Place::new();
    let kubeconfig = format!("sink.porch.kubeconfig={kubeconfig}");
    let repository = format!("sink.porch.repository={REPOSITORY}");
    let mut args = vec!["--sink", "porch", "--set", &kubeconfig, "--set", &repository];
    args.extend(more.iter().flat_map(|setting| ["--set", *setting]));
    let before = porch.fake.audit();
    let report = doctor(&place, &args);
    assert!(!report.to_string().contains("tok-"), "a token is shown: {report:#}");
    assert_eq!(porch.fake.audit(), before, "something was made");
    let log = porch.fake.log();
    let changed =
        log.iter().find(|one| one.applied || !(one.method == "GET" || one.path.ends_with("accessreviews")));
    assert_eq!(changed, None, "the doctor asks and does nothing");
    report
}

/// Names of the findings of the group `sink`.
fn names(report: &Value) -> Vec<&str> {
    let checks = report["checks"].as_array().unwrap().iter();
    checks.filter(|check| check["group"] == "sink").map(|check| check["name"].as_str().unwrap()).collect()
}

/// What to do about a finding.
#[track_caller]
fn advised(report: &Value, name: &str, words: &[&str]) {
    check(report, "sink", name);
    let checks = report["checks"].as_array().unwrap();
    let advice: Vec<&str> = checks
        .iter()
        .filter(|check| check["group"] == "sink" && check["name"] == name)
        .filter_map(|check| check["advice"].as_str())
        .collect();
    let advice = advice.join("\n");
    words.iter().for_each(|word| assert!(advice.contains(word), "{name} advises {word:?}: {advice}"));
}

#[track_caller]
fn fails_at(report: &Value, name: &str, words: &[&str]) {
    let failing: Vec<String> = failing(report).into_iter().filter(|one| one.starts_with("sink/")).collect();
    assert_eq!(failing, [format!("sink/{name}")], "{report:#}");
    said(report, "sink", name, "fail", words);
}

#[test]
fn a_good_server_is_told_step_by_step() {
    let porch = guarded();
    let report = examined(&porch, &["sink.porch.approval=publish"]);
    let place = porch.fake.address().to_string();
    assert_eq!(
        names(&report),
        ["kubeconfig", "server", "porch", "rights", "repository", "objects", "server clock", "latency"]
    );
    said(
        &report,
        "sink",
        "kubeconfig",
        "ok",
        &["/kubeconfig", "context fake", "user fake with token", &place],
    );
    said(&report, "sink", "server", "ok", &[&place, "v1.34.1", " ms)"]);
    said(&report, "sink", "porch", "ok", &["v1alpha1"]);
    said(&report, "sink", "rights", "ok", &["approve, delete, propose", "in default"]);
    said(
        &report,
        "sink",
        "repository",
        "ok",
        &["edge in namespace default is ready", "git.example/edge.git branch main"],
    );
    said(&report, "sink", "objects", "ok", &["0 objects"]);
    said(&report, "sink", "server clock", "ok", &[]);
    said(&report, "sink", "latency", "ok", &["version ", "discovery ", "rights ", "repository ", "list "]);
    assert!(failing(&report).is_empty(), "{report:#}");
}

#[test]
fn a_server_that_is_away_is_one_clear_finding() {
    let porch = guarded();
    let kubeconfig = porch.kubeconfig();
    porch.fake.stop();
    let begun = Instant::now();
    let report = with_kubeconfig(&porch, kubeconfig.to_str().unwrap(), &[]);
    assert_eq!(names(&report), ["kubeconfig", "server"]);
    fails_at(&report, "server", &[&porch.fake.address().to_string(), "refused"]);
    advised(&report, "server", &["accepted, wait and are delivered"]);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn a_server_that_does_not_answer_is_given_up_after_5_s() {
    let porch = Porch::start();
    // It takes the connection and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = porch
        .fake
        .kubeconfig()
        .replace(&porch.fake.url(), &format!("https://{}", silent.local_addr().unwrap()));
    let begun = Instant::now();
    let report = with_kubeconfig(&porch, porch.file("kubeconfig", &text).to_str().unwrap(), &[]);
    assert_eq!(names(&report), ["kubeconfig", "server"]);
    fails_at(&report, "server", &["within 5 s"]);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn a_certificate_that_cannot_be_trusted_is_told_by_its_kind() {
    let stranger = Porch::start();
    let expired = Porch::with(Options { tls: Tls::Expired, ..Options::default() });
    fails_at(&examined(&expired, &[]), "server", &["certificate expired"]);
    advised(&examined(&expired, &[]), "server", &["renew the server's certificate"]);
    let elsewhere = Porch::with(Options { tls: Tls::WrongHost, ..Options::default() });
    fails_at(&examined(&elsewhere, &[]), "server", &["not valid for name"]);
    advised(&examined(&elsewhere, &[]), "server", &["by a name that its certificate is for"]);
    // A kubeconfig whose authority signed another server's.
    let porch = guarded();
    let swapped = stranger.fake.kubeconfig().replace(&stranger.fake.url(), &porch.fake.url());
    let report = with_kubeconfig(&porch, porch.file("kubeconfig", &swapped).to_str().unwrap(), &[]);
    fails_at(&report, "server", &["certificate"]);
    advised(&report, "server", &["certificate-authority"]);
    assert!(porch.fake.log().is_empty(), "nobody was talked to");
}

#[test]
fn a_token_that_expired_and_a_kubeconfig_that_is_none_are_told_without_showing_them() {
    let porch = guarded();
    let kubeconfig = porch.kubeconfig();
    porch.fake.set_token(Some("tok-next"));
    let report = with_kubeconfig(&porch, kubeconfig.to_str().unwrap(), &[]);
    assert_eq!(names(&report), ["kubeconfig", "server"]);
    fails_at(&report, "server", &["HTTP 401"]);
    advised(&report, "server", &["renew the credential"]);
    let broken = porch.file("broken", &format!("clusters: {{token: {TOKEN}}}"));
    fails_at(&with_kubeconfig(&porch, broken.to_str().unwrap(), &[]), "kubeconfig", &["/broken"]);
    let report = with_kubeconfig(&porch, "/nowhere/kubeconfig", &[]);
    fails_at(&report, "kubeconfig", &["/nowhere/kubeconfig cannot be read"]);
    advised(&report, "kubeconfig", &["sink.porch.kubeconfig"]);
}

#[test]
fn a_repository_that_is_missing_or_not_ready_is_told() {
    let porch = Porch::start();
    porch.fake.remove_repository(REPOSITORY, NAMESPACE);
    let report = examined(&porch, &[]);
    fails_at(&report, "repository", &["there is no edge in namespace default"]);
    advised(&report, "repository", &["sink.porch.repository"]);
    assert!(!names(&report).contains(&"objects"), "{report:#}");
    let porch = Porch::start();
    porch.fake.break_git("Get \"https://bot:tok-7@git.example/edge.git\": connection refused");
    let report = examined(&porch, &[]);
    fails_at(&report, "repository", &["is not ready", "//git.example/edge.git\": connection refused"]);
}

#[test]
fn rights_that_are_missing_are_told_with_their_rules() {
    let porch = Porch::start();
    porch.fake.deny("patch", "packagerevisions/approval");
    let report = examined(&porch, &["sink.porch.approval=publish"]);
    fails_at(&report, "rights", &["patch packagerevisions/approval", "nothing is published"]);
    let rule =
        "- {apiGroups: [\"porch.kpt.dev\"], resources: [\"packagerevisions/approval\"], verbs: [\"patch\"]}";
    advised(&report, "rights", &[rule, "config/kubernetes/components/approve"]);
    // Who has others approve needs it for tidying alone.
    let report = examined(&porch, &[]);
    said(
        &report,
        "sink",
        "rights",
        "warn",
        &["patch packagerevisions/approval", "old revisions are not removed"],
    );
    porch.fake.allow("patch", "packagerevisions/approval");
    porch.fake.deny("delete", "packagerevisions");
    let report = examined(&porch, &["sink.porch.approval=publish"]);
    said(&report, "sink", "rights", "warn", &["delete packagerevisions", "keep_revisions"]);
    advised(&report, "rights", &["verbs: [\"delete\"]", "components/delete"]);
    assert!(failing(&report).is_empty(), "{report:#}");
}

#[test]
fn a_clock_that_differs_is_told() {
    let porch = Porch::start();
    for (ahead, told) in [(630, "10 min ahead of ours"), (-7_230, "2 h behind ours")] {
        porch.fake.set_clock(ahead);
        said(&examined(&porch, &[]), "sink", "server clock", "warn", &[told]);
    }
}

#[test]
fn a_repository_that_is_large_is_told_with_what_an_intent_costs() {
    let porch = Porch::start();
    for number in 0..100 {
        porch.fake.put_foreign(&format!("edge.nf-{number}.v1"), Stage::Published, &[]);
    }
    let report = examined(&porch, &[]);
    // 200 objects, as measured: 2.4 s an intent.
    said(
        &report,
        "sink",
        "objects",
        "warn",
        &["200 objects", "0 revisions of this daemon", "100 of others", "about 2.6 s"],
    );
    advised(&report, "objects", &["a repository for the daemon alone", "keep_revisions"]);
    porch.fake.inject(Rule::always(Step::List, Fault::Delay(Duration::from_secs(30))));
    let report = examined(&porch, &[]);
    said(&report, "sink", "objects", "warn", &["not counted within 5.0 s", "costs 5.7 s or more"]);
}

#[test]
fn a_server_without_porch_is_told_and_porch_beside_the_cluster_is_found() {
    let (core, porch) = (Porch::start(), Porch::start());
    let url = format!("sink.porch.url={}", porch.fake.url());
    let ca = format!("sink.porch.ca_file={}", porch.file("ca.pem", porch.fake.ca_pem().unwrap()).display());
    let report = examined(&core, &[&url, &ca]);
    assert!(failing(&report).is_empty(), "{report:#}");
    said(&report, "sink", "porch", "ok", &[&porch.fake.address().to_string()]);
    porch.fake.stop();
    fails_at(&examined(&core, &[&url, &ca]), "porch", &[&porch.fake.address().to_string()]);
}

#[test]
fn a_cluster_for_network_intents_is_told_by_kind_rights_and_namespaces() {
    let porch = guarded();
    let place = Place::new();
    let kubeconfig = format!("sink.network-intent.kubeconfig={}", porch.kubeconfig().display());
    let examined = |more: &[&str]| {
        let given = ["--sink", "network-intent", "--set", &kubeconfig];
        let report = doctor(&place, &[&given[..], more].concat());
        assert!(!report.to_string().contains("tok-"), "a token is shown: {report:#}");
        report
    };
    let report = examined(&[]);
    assert_eq!(
        names(&report),
        ["kubeconfig", "server", "kind", "rights", "namespaces", "server clock", "latency"]
    );
    said(&report, "sink", "kind", "ok", &["NetworkIntent"]);
    said(&report, "sink", "rights", "ok", &["all 2 of network-intent", "every namespace"]);
    let only = ["--set", "policy.namespaces=[\"ran-a\"]"];
    fails_at(&examined(&only), "namespaces", &["ran-a"]);
    advised(&examined(&only), "namespaces", &["kubectl create namespace ran-a"]);
    porch.fake.add_namespace("ran-a");
    said(&examined(&only), "sink", "namespaces", "ok", &["ran-a are there"]);
    porch.fake.deny("get", "namespaces");
    said(&examined(&only), "sink", "namespaces", "ok", &["unknown"]);
    porch.fake.deny("create", "networkintents");
    fails_at(&examined(&only), "rights", &["missing in namespace ran-a: create networkintents"]);
    assert!(intents(&porch.fake).is_empty());
}

fn intents(fake: &FakePorch) -> Vec<String> {
    fake.intents("ran-a").into_keys().collect()
}
