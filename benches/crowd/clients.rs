//! Clients that mean no good: connections that never finish a request and readers that take no answer.
//!
//! Whoever is closed comes back after a while, so that the crowd stays as large as it was.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// How many clients of each kind, and how stubborn they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Connected, half of a head sent, then silent.
    pub(crate) half_open: usize,
    /// A head of one byte a second.
    pub(crate) slow_writers: usize,
    /// Twenty pages asked for at once, read at one byte a second.
    pub(crate) slow_readers: usize,
    /// How long who was closed stays away.
    pub(crate) away: Duration,
}

/// The crowd of M01. It comes back as often as if nobody were closed before the 5 s of a head are over.
pub(crate) const CROWD: Size =
    Size { half_open: 1_000, slow_writers: 50, slow_readers: 50, away: Duration::from_secs(5) };

const SECOND: Duration = Duration::from_secs(1);

/// Clients on a thread of their own, until they are sent away.
pub(crate) struct Crowd {
    away: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    connected: Arc<AtomicU64>,
}

impl Crowd {
    /// Sends the crowd to `address`.
    pub(crate) fn gather(address: SocketAddr, size: Size) -> io::Result<Crowd> {
        let all = size.half_open + size.slow_writers + size.slow_readers;
        allow_descriptors(all as u64 + 1_000)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (away, sent_away) = oneshot::channel();
        let connected = Arc::<AtomicU64>::default();
        let count = Arc::clone(&connected);
        let thread = thread::Builder::new().name("crowd".to_owned()).spawn(move || {
            // Its own work is that of other machines: it gets what the daemon leaves. Every user may yield.
            let _ = setpriority_process(None, 19);
            runtime.block_on(async {
                for number in 0..all {
                    let count = Arc::clone(&count);
                    let kind = if number < size.half_open {
                        Kind::HalfOpen
                    } else if number < size.half_open + size.slow_writers {
                        Kind::SlowWriter
                    } else {
                        Kind::SlowReader
                    };
                    tokio::spawn(pester(kind, address, size.away, count));
                }
                // With the runtime all clients end.
                let _ = sent_away.await;
            });
        })?;
        Ok(Crowd { away: Some(away), thread: Some(thread), connected })
    }

    /// Connections made so far.
    pub(crate) fn connected(&self) -> u64 {
        self.connected.load(Ordering::Relaxed)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.away.take());
        if let Some(thread) = self.thread.take() {
            // A panic of it has been printed.
            let _ = thread.join();
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    HalfOpen,
    SlowWriter,
    SlowReader,
}

/// Comes again and again.
async fn pester(kind: Kind, address: SocketAddr, away: Duration, connected: Arc<AtomicU64>) {
    loop {
        if let Ok(stream) = connect(address).await {
            connected.fetch_add(1, Ordering::Relaxed);
            // However it ended: the next one comes.
            let _ = match kind {
                Kind::HalfOpen => stay(stream).await,
                Kind::SlowWriter => dribble(stream).await,
                Kind::SlowReader => sip(stream).await,
            };
        }
        sleep(away).await;
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // What is not read soon fills the server's side.
    socket.set_recv_buffer_size(4096)?;
    socket.connect(address).await
}

/// Half a head, then silence until the server closes.
async fn stay(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n").await?;
    let mut heard = [0; 512];
    while stream.read(&mut heard).await? > 0 {}
    Ok(())
}

/// A byte a second until the server closes.
async fn dribble(mut stream: TcpStream) -> io::Result<()> {
    let mut heard = [0; 512];
    for byte in b"GET /livez HTTP/1.1\r\nHost: x\r\nUser-Agent: patience\r\n\r\n".iter().cycle() {
        stream.write_all(&[*byte]).await?;
        if let Ok(read) = timeout(SECOND, stream.read(&mut heard)).await
            && read? == 0
        {
            break;
        }
    }
    Ok(())
}

/// Asks for a megabyte and reads a byte a second of it.
async fn sip(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20).as_bytes()).await?;
    let mut byte = [0; 1];
    while stream.read(&mut byte).await? > 0 {
        sleep(SECOND).await;
    }
    Ok(())
}

/// Raises the limit on open descriptors of this process, if it must and may.
fn allow_descriptors(wanted: u64) -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })?)
}
