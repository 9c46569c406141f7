//! A server that says fixed bytes, and what a client makes of them.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use conductor_loop::submit::porch::client::{Client, Connection};

use crate::support::{connection, porch_client};

/// Answers its first connections, one with each of the texts, and closes them; then listens no more.
pub(super) struct Raw {
    pub(super) url: String,
    heard: Arc<AtomicUsize>,
}

impl Raw {
    pub(super) fn says(answers: Vec<Vec<u8>>) -> Raw {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heard = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&heard);
        thread::spawn(move || {
            for answer in answers {
                let Ok((stream, _)) = listener.accept() else { return };
                counter.fetch_add(1, Ordering::SeqCst);
                // A client that has gone has heard enough.
                let _ = reply(stream, &answer);
            }
        });
        Raw { url, heard }
    }

    /// One answer of this status line, these further head lines and this body.
    pub(super) fn answers(status: &str, head: &str, body: &[u8]) -> Raw {
        Raw::says(vec![http(status, head, body)])
    }

    /// How many connections there were.
    pub(super) fn heard(&self) -> usize {
        self.heard.load(Ordering::SeqCst)
    }

    pub(super) fn connection(&self) -> Connection {
        Connection { url: Some(self.url.clone()), ..connection() }
    }

    pub(super) fn client(&self) -> Client {
        porch_client(self.connection())
    }
}

/// A whole answer.
pub(super) fn http(status: &str, head: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\n{head}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn reply(mut stream: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    stream.write_all(answer)?;
    stream.shutdown(Shutdown::Write)?;
    // Read to the end, so that closing does not reset what is still on its way.
    let mut rest = [0; 4_096];
    while stream.read(&mut rest)? > 0 {}
    Ok(())
}
