//! What a client finds that went in the middle of a write and asks again: recorded, eight cases.

use std::fs;
use std::time::Duration;

use conductor_loop::fake_porch::{FakePorch, Fault, Options, Rule, Stage, Tls, Which};
use serde_json::{Value, json};

use super::same::Verdict;
use super::scenes::deployment;
use super::wire::{Answer, BASE, Wire};
use crate::support::until;

/// How long the server would work on after the client has gone, if it was not released.
const WORK: Duration = Duration::from_mins(1);

/// Sends one step of a case, as it was sent: files with a version, the rest without.
fn send(wire: &mut Wire, name: &str, step: &str, version: &str) -> Answer {
    let path = |kind: &str, tail: &str| format!("{BASE}/{kind}/{name}{tail}");
    let to = |stage: &str| json!({"spec": {"lifecycle": stage}});
    match step {
        "create" => {
            let [repository, package, workspace] = name.split('.').collect::<Vec<_>>()[..] else {
                panic!("{name}")
            };
            let init = json!({"description": format!("scale {package}"), "keywords": ["scaling"]});
            let spec = json!({"repository": repository, "packageName": package, "workspaceName": workspace,
                "tasks": [{"type": "init", "init": init}]});
            let draft = json!({"kind": "PackageRevision", "spec": spec});
            wire.json("POST", &format!("{BASE}/packagerevisions"), &draft)
        }
        "put" => {
            let text = deployment(name.split('.').nth(1).unwrap(), 77);
            let files = json!({"metadata": {"resourceVersion": version},
                "spec": {"resources": {"deployment.yaml": text}}});
            wire.json("PATCH", &path("packagerevisionresources", ""), &files)
        }
        "propose" => wire.json("PATCH", &path("packagerevisions", ""), &to("Proposed")),
        _ => wire.json("PATCH", &path("packagerevisions", "/approval"), &to("Published")),
    }
}

#[test]
fn who_went_in_the_middle_of_a_write_finds_what_was_recorded() {
    let text = fs::read_to_string("tests/cases/porch/13-client-disconnect-retries.jsonl").unwrap();
    let recorded: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut verdict = Verdict::default();
    for pair in recorded.chunks(2) {
        let case = pair[0]["step"].as_str().unwrap().strip_prefix("retry-after-disconnect-").unwrap();
        let (step, rest) = case.split_once('-').unwrap();
        let porch = FakePorch::start(Options { tls: Tls::Off, ..Options::default() }).unwrap();
        porch.add_repository("dc", "default", "http://127.0.0.1:9446/dc");
        let name = format!("dc.{case}.w1");
        match step {
            "create" => {}
            "approve" => porch.put_foreign(&name, Stage::Proposed, &[]),
            _ => porch.put_foreign(&name, Stage::Draft, &[]),
        }
        let mut wire = Wire::new(porch.address());
        let version = wire.get(&format!("{BASE}/packagerevisions/{name}")).version();
        let done = rest == "during-push";
        porch.inject(Rule::once(Which::Writes, Fault::Abandoned { done, work: WORK }));
        assert_eq!(send(&mut wire, &name, step, &version).code, 0, "{case}");
        until("the work behind it", || (porch.under_way() == 1).then_some(()));
        let mut answers = vec![send(&mut wire, &name, step, &version)];
        porch.release();
        answers.push(until("the end of the first request", || {
            let answer = send(&mut wire, &name, step, &version);
            (answer.code != 409).then_some(answer)
        }));
        for (line, answer) in pair.iter().zip(&answers) {
            let code = u16::try_from(line["status"].as_u64().unwrap()).unwrap();
            verdict.compare(case, code, &line["response"], answer);
        }
    }
    assert_eq!((verdict.compared, verdict.faults), (16, Vec::new()));
}
