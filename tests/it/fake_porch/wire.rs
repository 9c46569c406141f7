//! HTTP and JSON to the server, on one connection as long as it lasts.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

/// Package revisions of the namespace `default`.
pub(super) const BASE: &str = "/apis/porch.kpt.dev/v1alpha1/namespaces/default";

/// An answer; its code is 0 if the connection ended without one.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) code: u16,
    /// Its head, in small letters.
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    /// The body, or the text of it that is no JSON.
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| json!(self.body))
    }

    pub(super) fn version(&self) -> String {
        self.json()["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned()
    }
}

/// One client.
pub(super) struct Wire {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Wire {
    pub(super) fn new(address: SocketAddr) -> Wire {
        Wire { address, stream: None }
    }

    pub(super) fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, "", "")
    }

    /// A body of JSON, of whatever type the verb has by default.
    pub(super) fn json(&mut self, method: &str, path: &str, body: &Value) -> Answer {
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        self.send(method, path, &format!("Content-Type: {kind}\r\n"), &body.to_string())
    }

    pub(super) fn send(&mut self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let nothing = Answer { code: 0, head: String::new(), body: String::new() };
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => match TcpStream::connect(self.address) {
                Ok(stream) => BufReader::new(stream),
                Err(_) => return nothing,
            },
        };
        self.talk(stream, method, path, headers, body).unwrap_or(nothing)
    }

    fn talk(
        &mut self,
        mut stream: BufReader<TcpStream>,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> Option<Answer> {
        stream.get_ref().set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        stream.get_ref().set_nodelay(true).ok()?;
        let length = body.len();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
        stream.get_mut().write_all(request.as_bytes()).ok()?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut bytes = vec![0; length.and_then(|text| text.trim().parse().ok()).unwrap_or(0)];
        stream.read_exact(&mut bytes).ok()?;
        let code = head.split(' ').nth(1)?.parse().ok()?;
        if !head.contains("connection: close") && !head.contains("transfer-encoding") {
            self.stream = Some(stream);
        }
        Some(Answer { code, head, body: String::from_utf8(bytes).ok()? })
    }
}
