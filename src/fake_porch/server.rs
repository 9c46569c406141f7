//! The listener: HTTP/1.1 over TCP, with or without TLS, on a thread of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::http;
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
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("fake-porch".to_owned()).spawn(move || {
            runtime.block_on(async {
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
        accept(shared, listener, tls.as_ref(), &mut up).await;
        if up.wait_for(|up| *up).await.is_err() {
            return;
        }
    }
}

/// Returns when it is taken down.
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
                match tls.cloned() {
                    None => drop(connections.spawn(converse(shared, stream))),
                    Some(tls) => drop(connections.spawn(async move {
                        if let Ok(stream) = tls.accept(stream).await {
                            converse(shared, stream).await;
                        }
                    })),
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(shared: Arc<Shared>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        http::respond(Arc::clone(&shared), request.map(Body::new))
    });
    // A client that goes, and a hang-up on purpose, both end here.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
