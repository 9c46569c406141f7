//! Watches beside the script that the recordings were made with: the same events in the same order.

use std::fs;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use conductor_loop::fake_porch::{FakePorch, Options, Stage, Tls};
use serde_json::{Value, json};

use super::same::Verdict;
use super::scenes::deployment;
use super::wire::{Answer, BASE, Wire};

/// A watch under way: its events are the lines that open with a brace.
struct Watch {
    lines: Lines<BufReader<TcpStream>>,
    code: u16,
}

impl Watch {
    fn open(address: SocketAddr, path: &str) -> Watch {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut lines = BufReader::new(stream).lines();
        let first = lines.next().unwrap().unwrap();
        let code = first.split(' ').nth(1).unwrap().parse().unwrap();
        Watch { lines, code }
    }

    /// The next event, or nothing at the end.
    fn next(&mut self) -> Option<String> {
        self.lines
            .by_ref()
            .map(Result::unwrap)
            .take_while(|line| line != "0")
            .find(|line| line.starts_with('{'))
    }
}

/// What the recordings were made with: a draft of another package, a revision from draft to publication, a
/// change of its metadata, and one more draft that is deleted.
fn script(wire: &mut Wire) {
    let draft = |package: &str, workspace: &str, task: Value| {
        let spec =
            json!({"repository": "w", "packageName": package, "workspaceName": workspace, "tasks": [task]});
        json!({"kind": "PackageRevision", "spec": spec})
    };
    let edit = |from: &str| json!({"type": "edit", "edit": {"sourceRef": {"name": from}}});
    let init = json!({"description": "scale watother", "keywords": ["scaling"]});
    let all = format!("{BASE}/packagerevisions");
    let files = json!({"spec": {"resources": {"deployment.yaml": deployment("wat", 9)}}});
    let annotations = json!({"metadata": {"annotations": {"x": "1"}}});
    let one = |name: &str| format!("{BASE}/packagerevisions/{name}");
    let other = draft("watother", "w1", json!({"type": "init", "init": init}));
    assert_eq!(wire.json("POST", &all, &other).code, 201);
    assert_eq!(wire.json("POST", &all, &draft("wat", "w1", edit("w.wat.w0"))).code, 201);
    let resources = format!("{BASE}/packagerevisionresources/w.wat.w1");
    assert_eq!(wire.json("PATCH", &resources, &files).code, 200);
    assert_eq!(wire.move_to("w.wat.w1", "Proposed").code, 200);
    assert_eq!(wire.move_to("w.wat.w1", "Published").code, 200);
    assert_eq!(wire.json("PATCH", &one("w.wat.w1"), &annotations).code, 200);
    assert_eq!(wire.json("POST", &all, &draft("wat", "w2", edit("w.wat.w1"))).code, 201);
    assert_eq!(wire.send("DELETE", &one("w.wat.w2"), "", "").code, 200);
}

/// Events that are there when a watch is opened.
fn replayed(recorded: &[Value]) -> usize {
    let early = |event: &&Value| {
        let object = &event["object"]["metadata"];
        matches!(object["name"].as_str(), None | Some("w.wat.main" | "w.wat.w0"))
    };
    recorded.iter().take_while(early).count()
}

#[test]
fn watches_hear_what_was_recorded() {
    let porch = FakePorch::start(Options { tls: Tls::Off, ..Options::default() }).unwrap();
    porch.add_repository("w", "default", "http://127.0.0.1:9446/w");
    let text = deployment("wat", 3);
    porch.put_foreign("w.wat.w0", Stage::Published, &[("deployment.yaml", &text)]);
    let text = fs::read_to_string("tests/cases/porch/10-watch.jsonl").unwrap();
    let recorded: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut verdict = Verdict::default();
    let mut compare = |case: &Value, event: &Value, found: Option<String>| {
        let answer = Answer { code: 200, body: found.unwrap_or_default(), ..Answer::default() };
        verdict.compare(case["step"].as_str().unwrap(), 200, event, &answer);
    };
    let mut watches = Vec::new();
    for case in &recorded {
        // The recorded one ended before the script began.
        let path = case["path"].as_str().unwrap().replace("timeoutSeconds=3", "timeoutSeconds=1");
        let mut watch = Watch::open(porch.address(), &path);
        assert_eq!(u64::from(watch.code), case["status"].as_u64().unwrap(), "{case}");
        let events = case["events"].as_array().unwrap();
        let early = replayed(events);
        for event in &events[..early] {
            compare(case, event, watch.next());
        }
        if case["step"] == "watch-timeoutSeconds" {
            assert_eq!(watch.next(), None, "it ends");
        } else {
            watches.push((case, watch, &events[early..]));
        }
    }
    script(&mut Wire::new(porch.address()));
    for (case, watch, late) in &mut watches {
        for event in late.iter() {
            compare(case, event, watch.next());
        }
    }
    assert_eq!((verdict.compared, verdict.faults), (45, Vec::new()));
}
