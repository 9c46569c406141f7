//! The listener: HTTP/1.1 over TCP, with or without TLS, on a thread of its own.

use std::io;
use std::net::{self, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};

use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::http::{self, Hangup};
use super::state::Shared;

/// The thread that serves, for as long as this lives.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on a free port of the loopback address and serves from then on.
    pub(super) fn start(shared: Arc<Shared>, tls: Option<TlsAcceptor>) -> io::Result<Server> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        // Not by the runtime: the caller may be inside another one.
        let listener = net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("fake-porch".to_owned()).spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                tokio::select! {
                    () = serve(&shared, listener, tls) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Server { address, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Accepts while it is up; while it is down nothing listens and every connection is cut.
async fn serve(shared: &Arc<Shared>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let mut up = shared.up.subscribe();
    let Ok(address) = listener.local_addr() else { return };
    let mut listening = Some(listener);
    loop {
        let listener = match listening.take() {
            Some(listener) => listener,
            None => match TcpListener::bind(address).await {
                Ok(listener) => listener,
                Err(_) => {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    continue;
                }
            },
        };
        shared.listening(true);
        accept(shared, listener, tls.as_ref(), &mut up).await;
        shared.listening(false);
        if up.wait_for(|up| *up).await.is_err() {
            return;
        }
    }
}

/// Returns when it is taken down, with every connection cut and nothing listening.
async fn accept(
    shared: &Arc<Shared>,
    listener: TcpListener,
    tls: Option<&TlsAcceptor>,
    up: &mut watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = up.wait_for(|up| !*up) => return,
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                // Answers are small and waited for.
                let _ = stream.set_nodelay(true);
                let shared = Arc::clone(shared);
                let reset = Arc::new(AtomicBool::new(false));
                let line = Line { stream, reset: Arc::clone(&reset) };
                match tls.cloned() {
                    None => drop(connections.spawn(converse(shared, line, reset))),
                    Some(tls) => drop(connections.spawn(async move {
                        if let Ok(stream) = tls.accept(line).await {
                            converse(shared, stream, reset).await;
                        }
                    })),
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(
    shared: Arc<Shared>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    reset: Arc<AtomicBool>,
) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (shared, reset) = (Arc::clone(&shared), Arc::clone(&reset));
        async move {
            let response = http::respond(shared, request.map(Body::new)).await;
            if let Err(Hangup { reset: true }) = response {
                reset.store(true, Ordering::Relaxed);
            }
            response
        }
    });
    // A client that goes, and a hang-up on purpose, both end here.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// A connection that can end with a reset.
struct Line {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            // Without it the connection is closed, which is as good a fault.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, to)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.reset.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
