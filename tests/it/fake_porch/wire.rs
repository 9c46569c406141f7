//! HTTP and JSON to the server, on one connection as long as it lasts.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

/// Package revisions of the namespace `default`.
pub(super) const BASE: &str = "/apis/porch.kpt.dev/v1alpha1/namespaces/default";

/// An answer; its code is 0 if the connection ended without one.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    pub(super) code: u16,
    /// Its head, in small letters.
    pub(super) head: String,
    pub(super) body: String,
    /// How the connection ended, if it did.
    pub(super) lost: Option<io::ErrorKind>,
}

impl Answer {
    /// The body, or the text of it that is no JSON.
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| json!(self.body))
    }

    pub(super) fn version(&self) -> String {
        self.json()["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned()
    }

    /// The value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// One client.
pub(super) struct Wire {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
    patience: Duration,
}

impl Wire {
    pub(super) fn new(address: SocketAddr) -> Wire {
        Wire { address, stream: None, patience: Duration::from_secs(20) }
    }

    /// A client that waits for so long.
    pub(super) fn patient(address: SocketAddr, patience: Duration) -> Wire {
        Wire { patience, ..Wire::new(address) }
    }

    pub(super) fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, "", "")
    }

    /// A body of JSON, of whatever type the verb has by default.
    pub(super) fn json(&mut self, method: &str, path: &str, body: &Value) -> Answer {
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        self.send(method, path, &format!("Content-Type: {kind}\r\n"), &body.to_string())
    }

    /// Creates a draft with `init`; the annotation stands in the package.
    pub(super) fn create(&mut self, name: &str, annotation: (&str, &str)) -> Answer {
        let [repository, package, workspace] = name.split('.').collect::<Vec<_>>()[..] else {
            panic!("{name}")
        };
        let annotations = json!({annotation.0: annotation.1});
        let spec = json!({"repository": repository, "packageName": package, "workspaceName": workspace,
            "packageMetadata": {"annotations": annotations},
            "tasks": [{"type": "init", "init": {"description": format!("scale {package}"), "keywords": ["scaling"]}}]});
        self.json(
            "POST",
            &format!("{BASE}/packagerevisions"),
            &json!({"kind": "PackageRevision", "spec": spec}),
        )
    }

    /// Moves a revision; the latest writer wins.
    pub(super) fn move_to(&mut self, name: &str, stage: &str) -> Answer {
        let tail = if stage == "Proposed" { "" } else { "/approval" };
        let path = format!("{BASE}/packagerevisions/{name}{tail}");
        self.json("PATCH", &path, &json!({"spec": {"lifecycle": stage}}))
    }

    pub(super) fn send(&mut self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        match self.talk(method, path, headers, body) {
            Ok(answer) => answer,
            Err(fault) => Answer { lost: Some(fault.kind()), ..Answer::default() },
        }
    }

    fn talk(&mut self, method: &str, path: &str, headers: &str, body: &str) -> io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => BufReader::new(TcpStream::connect(self.address)?),
        };
        stream.get_ref().set_read_timeout(Some(self.patience))?;
        stream.get_ref().set_nodelay(true)?;
        let length = body.len();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
        stream.get_mut().write_all(request.as_bytes())?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let answer = Answer { head: head.to_ascii_lowercase(), ..Answer::default() };
        let length = answer.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let code = answer.head.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut body = Vec::new();
        stream.by_ref().take(length).read_to_end(&mut body)?;
        let whole = u64::try_from(body.len()).is_ok_and(|read| read == length);
        let lost = (!whole).then_some(io::ErrorKind::UnexpectedEof);
        let last =
            answer.header("connection") == Some("close") || answer.header("transfer-encoding").is_some();
        if whole && !last {
            self.stream = Some(stream);
        }
        Ok(Answer { code, body: String::from_utf8_lossy(&body).into_owned(), lost, ..answer })
    }
}
