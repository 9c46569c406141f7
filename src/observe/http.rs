//! The HTTP pages, on a thread and a small runtime of their own, so that load here never slows the
//! pipeline and a saturated pipeline still answers.
//!
//! Limits (`reliability.md` 11): 64 connections, the oldest unfinished one closed when one more comes; a
//! head of at most 8 KiB and 64 lines within 5 s, a whole request within 10 s, 15 s idle between two; no
//! bodies; GET and HEAD alone; any number of requests on one connection. The address is bound before
//! [`start`] returns. Loopback or a Unix socket by default; encryption and passwords are a proxy's work.

mod answer;
mod connections;
mod head;
mod pages;

use std::fs;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use crate::config::Listen;
use crate::error::{Consequence, Fault};
use connections::{Limits, Socket};

pub use pages::Pages;

/// Where `run` listens when nothing else is configured.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:8080";

/// Clients that may wait to be accepted: a thousand at once must not cost anybody a second.
const BACKLOG: u32 = 4096;

const LIMITS: Limits = Limits {
    connections: 64,
    head: Duration::from_secs(5),
    whole: Duration::from_secs(10),
    idle: Duration::from_secs(15),
    farewell: Duration::from_secs(1),
};

/// Why there is no HTTP.
#[derive(Debug)]
pub enum HttpFault {
    /// Somebody else listens there; for the default address that is a warning only.
    AddressInUse {
        /// `127.0.0.1:8080` or `unix:/path`.
        address: String,
    },
    /// The address cannot be had.
    Bind {
        /// `127.0.0.1:8080` or `unix:/path`.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The thread or its runtime cannot be had.
    Thread(io::Error),
}

impl std::fmt::Display for HttpFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HttpFault::AddressInUse { address } => {
                write!(
                    f,
                    "cannot listen on {address}: it is in use; end the other program or set http.listen"
                )
            }
            HttpFault::Bind { address, source } => {
                write!(f, "cannot listen on {address}: {source}; check http.listen")
            }
            HttpFault::Thread(source) => write!(f, "cannot start the http thread: {source}"),
        }
    }
}

impl std::error::Error for HttpFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            HttpFault::AddressInUse { .. } => None,
            HttpFault::Bind { source, .. } | HttpFault::Thread(source) => Some(source),
        }
    }
}

impl Fault for HttpFault {
    fn consequence(&self) -> Consequence {
        Consequence::Stop
    }
}

/// The running pages; dropping it ends them.
#[derive(Debug)]
pub struct Server {
    address: String,
    warning: Option<String>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    socket_file: Option<SocketFile>,
}

/// A Unix socket's name in the file system, taken away with the server if it is still this one.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn remove(&self) {
        let ours = |found: fs::Metadata| (found.dev(), found.ino()) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(ours) {
            // Left behind it is recognised as stale by the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds `listen` and serves `pages` there; `None` if HTTP is off.
///
/// # Errors
///
/// When the address is in use or cannot be had, or there is no thread.
pub fn start(listen: &Listen, pages: Pages) -> Result<Option<Server>, HttpFault> {
    start_within(listen, pages, LIMITS)
}

fn start_within(listen: &Listen, pages: Pages, limits: Limits) -> Result<Option<Server>, HttpFault> {
    let runtime =
        Builder::new_current_thread().enable_io().enable_time().build().map_err(HttpFault::Thread)?;
    let bound = {
        let _inside = runtime.enter();
        match listen {
            Listen::Off => return Ok(None),
            Listen::Unset => bind_tcp(DEFAULT_ADDRESS)?,
            Listen::Tcp(address) => bind_tcp(address)?,
            Listen::Unix(path) => bind_unix(path)?,
        }
    };
    let (end, ended) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("http".to_owned())
        .spawn(move || runtime.block_on(connections::serve(bound.socket, pages, limits, ended)))
        .map_err(HttpFault::Thread)?;
    Ok(Some(Server {
        address: bound.address,
        warning: bound.warning,
        end: Some(end),
        thread: Some(thread),
        socket_file: bound.socket_file,
    }))
}

struct Bound {
    socket: Socket,
    address: String,
    warning: Option<String>,
    socket_file: Option<SocketFile>,
}

fn bind_tcp(address: &str) -> Result<Bound, HttpFault> {
    let fault = |source: io::Error| bind_fault(address.to_owned(), source);
    let socket = listen_tcp(address).map_err(fault)?;
    let local = socket.local_addr().map_err(fault)?;
    Ok(Bound {
        socket: Socket::Tcp(socket),
        address: local.to_string(),
        warning: exposure(local),
        socket_file: None,
    })
}

/// Listens on the first address of the name that can be had.
fn listen_tcp(address: &str) -> io::Result<net::TcpListener> {
    let mut fault = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    for candidate in address.to_socket_addrs()? {
        let socket = match candidate {
            SocketAddr::V4(_) => net::TcpSocket::new_v4(),
            SocketAddr::V6(_) => net::TcpSocket::new_v6(),
        }?;
        // A restart must not wait for old connections to time out.
        socket.set_reuseaddr(true)?;
        match socket.bind(candidate).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(source) => fault = source,
        }
    }
    Err(fault)
}

fn exposure(local: SocketAddr) -> Option<String> {
    (!local.ip().is_loopback()).then(|| {
        format!(
            "http on {local} can be reached from other machines without password or encryption; \
             listen on 127.0.0.1 or unix:PATH behind a proxy"
        )
    })
}

fn bind_unix(path: &Path) -> Result<Bound, HttpFault> {
    let address = format!("unix:{}", path.display());
    let fault = |source: io::Error| bind_fault(address.clone(), source);
    let socket = match net::UnixListener::bind(path) {
        Err(source) if source.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
            fs::remove_file(path).and_then(|()| net::UnixListener::bind(path))
        }
        other => other,
    }
    .map_err(fault)?;
    // Between bind and here the umask makes it narrower, never wider, than this.
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(fault)?;
    let found = fs::symlink_metadata(path).map_err(fault)?;
    let socket_file = SocketFile { path: path.to_owned(), identity: (found.dev(), found.ino()) };
    Ok(Bound { socket: Socket::Unix(socket), address, warning: None, socket_file: Some(socket_file) })
}

/// A socket that nobody listens on, left behind by a process that was killed.
fn is_stale(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
        && UnixStream::connect(path).is_err_and(|why| why.kind() == io::ErrorKind::ConnectionRefused)
}

fn bind_fault(address: String, source: io::Error) -> HttpFault {
    match source.kind() {
        io::ErrorKind::AddrInUse => HttpFault::AddressInUse { address },
        _ => HttpFault::Bind { address, source },
    }
}

impl Server {
    /// The address in use: `127.0.0.1:41873` or `unix:/path`.
    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// What the operator should know about the address, to be logged once.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Lets answers in progress end, at most a second, and joins the thread.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A panic was reported by the panic hook.
            let _ = thread.join();
        }
        if let Some(file) = self.socket_file.take() {
            file.remove();
        }
    }
}

#[cfg(test)]
mod tests;
