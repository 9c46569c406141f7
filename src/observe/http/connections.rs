//! Connections: how many, how long, how large.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::pages::{self, Pages};
use crate::observe::{FaultKind, HttpCode, Metrics};

/// Pause after a failed accept, so that a shortage of descriptors is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a client may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connections: usize,
    pub(super) header_time: Duration,
    pub(super) header_bytes: usize,
    pub(super) header_lines: usize,
    /// How long answers in progress may take when the server ends.
    pub(super) farewell: Duration,
}

/// A listener of either family.
pub(super) enum Socket {
    Tcp(net::TcpListener),
    Unix(net::UnixListener),
}

/// Serves until `ended` resolves (its sender is dropped).
pub(super) async fn serve(socket: Socket, pages: Pages, limits: Limits, mut ended: oneshot::Receiver<()>) {
    let (closing, closes) = watch::channel(());
    let mut open = VecDeque::new();
    let host = Host { metrics: pages.metrics.clone(), router: pages::router(pages), limits, closes };
    loop {
        let accepted = tokio::select! {
            _ = &mut ended => break,
            accepted = host.accept(&socket) => accepted,
        };
        match accepted {
            Ok(connection) => admit(&mut open, connection, limits.connections),
            Err(why) => {
                if [Errno::MFILE.raw_os_error(), Errno::NFILE.raw_os_error()]
                    .map(Some)
                    .contains(&why.raw_os_error())
                {
                    host.metrics.fault(FaultKind::Resources);
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(socket);
    drop(closing);
    let deadline = Instant::now() + limits.farewell;
    for connection in open {
        if timeout_at(deadline, connection).await.is_err() {
            return;
        }
    }
}

/// Keeps the newest `limit` connections: the oldest unfinished one makes room.
fn admit(open: &mut VecDeque<JoinHandle<()>>, connection: JoinHandle<()>, limit: usize) {
    open.retain(|one| !one.is_finished());
    if open.len() >= limit
        && let Some(oldest) = open.pop_front()
    {
        oldest.abort();
    }
    open.push_back(connection);
}

#[derive(Clone)]
struct Host {
    metrics: Metrics,
    router: Router,
    limits: Limits,
    /// Its sender is dropped when the server ends.
    closes: watch::Receiver<()>,
}

impl Host {
    async fn accept(&self, socket: &Socket) -> io::Result<JoinHandle<()>> {
        match socket {
            Socket::Tcp(listener) => listener.accept().await.map(|(stream, _)| self.spawn(stream)),
            Socket::Unix(listener) => listener.accept().await.map(|(stream, _)| self.spawn(stream)),
        }
    }

    fn spawn(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> JoinHandle<()> {
        tokio::spawn(self.clone().converse(stream))
    }

    async fn converse(mut self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static) {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_time)
            .max_headers(self.limits.header_lines)
            .max_buf_size(self.limits.header_bytes);
        let service = TowerToHyperService::new(self.router);
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
        let result = tokio::select! {
            result = &mut connection => result,
            _ = self.closes.changed() => {
                connection.as_mut().graceful_shutdown();
                match timeout(self.limits.farewell, connection).await {
                    Ok(result) => result,
                    Err(_) => return,
                }
            }
        };
        if let Some(code) = result.err().and_then(|why| turned_away(&why)) {
            self.metrics.http_rejected(code);
        }
    }
}

/// What a connection ended for, where the client is to blame; such requests never reach a page.
fn turned_away(why: &hyper::Error) -> Option<HttpCode> {
    if why.is_parse_too_large() {
        Some(HttpCode::HeaderTooLarge)
    } else if why.is_parse() {
        Some(HttpCode::Malformed)
    } else if why.is_timeout() {
        Some(HttpCode::Slow)
    } else {
        None
    }
}
