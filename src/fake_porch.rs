//! A Porch of one's own, for tests, the demonstration and benches: it keeps the server's contract over
//! real HTTP and TLS.
//!
//! It answers as release 1.5.8 with its CR cache was recorded to answer, texts included: package revisions of
//! `porch.kpt.dev/v1alpha1` with their files and approval, `Repository` objects, NetworkIntents, discovery and
//! access reviews, watches. Git is a map in memory; beside it stands the listing that the server believes in,
//! which can fall behind ([`Fault::RollBack`], [`Fault::Phantom`]). [`Costs`] makes requests as slow as they
//! were measured to be. A request is checked and carried out in one step under one lock, behind the waits, so
//! that a client that goes early has done nothing, unless the fault says otherwise.
//!
//! Limits: bodies of 6 MiB as on the real server; HTTP/1.1; memory only; the log grows until it is cleared.
//! What it leaves out: `upgrade` tasks are refused; functions that the real server has built in change nothing;
//! comments are not carried over between files; a broken git shows in the condition of the repository at once;
//! the texts behind `MalformedYAMLError` are those of another reader.

mod audit;
mod content;
mod costs;
mod create;
mod delete;
mod discovery;
mod downstream;
mod faults;
mod handle;
mod http;
mod kptfile;
mod list;
mod network;
mod patch;
mod reply;
mod repositories;
mod resources;
mod revisions;
mod routes;
mod rules;
mod select;
mod server;
mod state;
mod store;
mod strike;
mod tls;
mod view;
mod watch;
mod yaml;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

pub use audit::{Audit, Seen};
pub use costs::Costs;
pub use faults::{Fault, Rule, Step, When, Which};
pub use state::Logged;
pub use store::git::Stage;
pub use tls::Tls;

/// The namespace that is there from the start.
pub const NAMESPACE: &str = "default";

/// How a server behaves; all of it but TLS can be changed later.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Plain HTTP or TLS, with a good certificate or a bad one.
    pub tls: Tls,
    /// The bearer token that requests must show; `None` lets everybody in.
    pub token: Option<String>,
    /// Versions and chance depend on it alone.
    pub seed: u64,
    /// How long requests take.
    pub costs: Costs,
    /// A webhook refuses the DELETE of published revisions with 403; without one they go with 200.
    pub protects_published: bool,
}

/// A published revision as git has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its number.
    pub number: i64,
    /// The workspace it was made in.
    pub workspace: String,
    /// Its files by path.
    pub files: BTreeMap<String, String>,
}

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub struct FakePorch {
    shared: Arc<state::Shared>,
    server: server::Server,
    authority: Option<String>,
}

impl FakePorch {
    /// Serves on a free port of the loopback address, on a thread of its own.
    ///
    /// # Errors
    /// The port cannot be opened, or the certificate cannot be made.
    pub fn start(options: Options) -> io::Result<FakePorch> {
        let Options { tls, token, seed, costs, protects_published } = options;
        let shared = Arc::new(state::Shared::new(seed, costs, token, protects_published));
        let (acceptor, authority) = tls::acceptor(tls)?.unzip();
        let server = server::Server::start(Arc::clone(&shared), acceptor)?;
        Ok(FakePorch { shared, server, authority })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// `https://127.0.0.1:PORT`, or `http` without TLS.
    pub fn url(&self) -> String {
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.server.address)
    }

    /// The authority that signed its certificate, if it has one.
    pub fn ca_pem(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// A kubeconfig for it, with the token in force.
    pub fn kubeconfig(&self) -> String {
        let authority = self.authority.as_ref().map_or_else(String::new, |pem| {
            format!("    certificate-authority-data: {}\n", base64(pem.as_bytes()))
        });
        let token = self.shared.with(|state| state.token.clone());
        let user = token.map_or_else(|| "{}".to_owned(), |token| format!("{{token: {token:?}}}"));
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: fake\nclusters:\n- name: fake\n  cluster:\n    server: \
             {}\n{authority}contexts:\n- name: fake\n  context: {{cluster: fake, user: fake, namespace: \
             {NAMESPACE}}}\nusers:\n- name: fake\n  user: {user}\n",
            self.url()
        )
    }
}

/// The standard alphabet, padded.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for piece in bytes.chunks(3) {
        let word = piece.iter().fold(0_usize, |word, byte| word << 8 | usize::from(*byte))
            << (8 * (3 - piece.len()));
        for place in 0..4 {
            let letter = ALPHABET.get(word >> (18 - 6 * place) & 63).filter(|_| place <= piece.len());
            text.push(letter.map_or('=', |letter| char::from(*letter)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
