//! Connections: how many, how long, how large.
//!
//! A connection is a task: it reads a head, judges it, writes the answer, and begins anew. The first
//! request begins when the connection is accepted, a later one with its first byte; before that the
//! connection may be idle. From its beginning a request has one limit for its head and another for the
//! last byte of its answer, which ends clients that do not take what they asked for.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tower_service::Service as _;

use super::answer::{self, CROWDED};
use super::head::{self, Asked, Refusal};
use super::pages::{self, Pages};
use crate::clock::Clock;
use crate::observe::{FaultKind, HttpCode, Metrics};

/// Pause after a failed accept, so that a shortage of descriptors is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A younger connection is not closed for another, which waits to be accepted meanwhile: in a storm of
/// connections everybody has the time to send a request that is ready.
const GRACE: Duration = Duration::from_millis(3);

/// What is read and thrown away behind a refused head, so that the answer is not lost to a reset.
const THROWN_AWAY: u64 = 1024 * 1024;

const EXPIRED: Refusal = Refusal::new(HttpCode::Slow, "the request did not arrive in time");

/// What a client may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connections: usize,
    /// From the beginning of a request to the end of its head.
    pub(super) head: Duration,
    /// From the beginning of a request to the last byte of its answer.
    pub(super) whole: Duration,
    /// Between an answer and the next request.
    pub(super) idle: Duration,
    /// How long a refused client is listened to, and how long answers may take when the server ends.
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
    let host = Host {
        metrics: pages.metrics.clone(),
        clock: Arc::clone(&pages.clock),
        router: pages::router(pages),
        limits,
        closes,
    };
    let mut seats = Vec::with_capacity(limits.connections);
    loop {
        let accepted = tokio::select! {
            _ = &mut ended => break,
            accepted = host.accept(&socket) => accepted,
        };
        match accepted {
            Ok(seat) => {
                make_room(&mut seats, limits.connections).await;
                seats.push(seat);
            }
            Err(why) => {
                if [Errno::MFILE, Errno::NFILE]
                    .map(|errno| Some(errno.raw_os_error()))
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
    for seat in seats {
        if timeout_at(deadline, seat.task).await.is_err() {
            return;
        }
    }
}

/// One connection, as the one who accepts sees it.
struct Seat {
    since: Instant,
    /// Between two requests.
    idle: Arc<AtomicBool>,
    /// Ends it.
    leave: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Leaves fewer than `limit`: the oldest unfinished connection is closed, without one the oldest.
async fn make_room(seats: &mut Vec<Seat>, limit: usize) {
    loop {
        seats.retain(|seat| !seat.task.is_finished());
        if seats.len() < limit {
            return;
        }
        let at = seats.iter().position(|seat| !seat.idle.load(Ordering::Relaxed)).unwrap_or(0);
        let ripe = seats[at].since + GRACE;
        if ripe <= Instant::now() {
            // One that ends at this moment needs no word.
            let _ = seats.remove(at).leave.send(());
            return;
        }
        sleep_until(ripe).await;
    }
}

#[derive(Clone)]
struct Host {
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    router: Router,
    limits: Limits,
    /// Its sender is dropped when the server ends.
    closes: watch::Receiver<()>,
}

/// How a connection goes on.
enum Next {
    /// With this request, which began then.
    Request(Box<Asked>, Instant),
    /// With an answer to what was none; then it ends.
    Refusal(Refusal),
    /// Not at all.
    End,
}

impl Host {
    async fn accept(&self, socket: &Socket) -> io::Result<Seat> {
        match socket {
            Socket::Tcp(listener) => listener.accept().await.map(|(stream, _)| self.seat(stream)),
            Socket::Unix(listener) => listener.accept().await.map(|(stream, _)| self.seat(stream)),
        }
    }

    fn seat(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Seat {
        let (leave, left) = oneshot::channel();
        let idle = Arc::new(AtomicBool::new(false));
        let line = Line { stream, received: Vec::new(), idle: Arc::clone(&idle), answering: false };
        let task = tokio::spawn(self.clone().converse(line, left));
        Seat { since: Instant::now(), idle, leave, task }
    }

    async fn converse(
        mut self,
        mut line: Line<impl AsyncRead + AsyncWrite + Unpin>,
        left: oneshot::Receiver<()>,
    ) {
        let crowded = tokio::select! {
            () = self.serve(&mut line) => false,
            asked = left => asked.is_ok(),
        };
        if crowded {
            self.metrics.http_rejected(HttpCode::Crowded);
            if !line.answering {
                let answer = answer::bytes(CROWDED.into_response(), false, self.clock.wall()).await;
                // Told if the socket takes it at once; who makes room is not waited for.
                let _ = line.stream.write_all(&answer).now_or_never();
            }
        }
    }

    async fn serve(&mut self, line: &mut Line<impl AsyncRead + AsyncWrite + Unpin>) {
        let mut first = true;
        loop {
            let next = tokio::select! {
                biased;
                next = line.next(first, &self.limits) => next,
                _ = self.closes.changed() => Next::End,
            };
            first = false;
            match next {
                Next::Request(asked, begun) => {
                    if !self.answer(line, *asked, begun + self.limits.whole).await {
                        return;
                    }
                }
                Next::Refusal(refusal) => return self.turn_away(line, refusal).await,
                Next::End => return,
            }
        }
    }

    /// True if the connection may serve another request.
    async fn answer(
        &mut self,
        line: &mut Line<impl AsyncRead + AsyncWrite + Unpin>,
        asked: Asked,
        deadline: Instant,
    ) -> bool {
        let closing = self.closes.has_changed().is_err();
        let keep = asked.keep && !closing;
        let Ok(response) = self.router.call(asked.request).await;
        if let Some(code) = turned_away(&response) {
            self.metrics.http_rejected(code);
        }
        let bytes = answer::bytes(response, keep, self.clock.wall()).await;
        match timeout_at(deadline, line.write(&bytes)).await {
            Ok(written) => written.is_ok() && keep,
            Err(_) => {
                self.metrics.http_rejected(HttpCode::Slow);
                false
            }
        }
    }

    async fn turn_away(&self, line: &mut Line<impl AsyncRead + AsyncWrite + Unpin>, refusal: Refusal) {
        self.metrics.http_rejected(refusal.code);
        let bytes = answer::bytes(refusal.into_response(), false, self.clock.wall()).await;
        let farewell = async {
            if line.write(&bytes).await.is_ok() && line.stream.shutdown().await.is_ok() {
                line.throw_away().await;
            }
        };
        // Who does not take the answer does without.
        let _ = timeout(self.limits.farewell, farewell).await;
    }
}

/// What the pages themselves turn away.
fn turned_away(response: &Response) -> Option<HttpCode> {
    match response.status().as_u16() {
        404 => Some(HttpCode::NotFound),
        405 => Some(HttpCode::Method),
        _ => None,
    }
}

/// One client's socket and what came of it that no head was made of yet.
struct Line<S> {
    stream: S,
    received: Vec<u8>,
    idle: Arc<AtomicBool>,
    /// Part of an answer was written.
    answering: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    /// The next request, or the end of the wait for it.
    async fn next(&mut self, first: bool, limits: &Limits) -> Next {
        let now = Instant::now();
        // The first request of a connection has begun when that was accepted.
        let mut begun = first.then_some(now);
        loop {
            // A blank line before a request is left over from the one before (RFC 9112, 2.2).
            while self.received.starts_with(b"\r\n") {
                self.received.drain(..2);
            }
            if !self.received.is_empty() {
                begun.get_or_insert_with(Instant::now);
            }
            self.idle.store(begun.is_none(), Ordering::Relaxed);
            match head::end(&self.received) {
                Err(refusal) => return Next::Refusal(refusal),
                Ok(Some(length)) => return self.cut(length, begun.unwrap_or(now)),
                Ok(None) => {}
            }
            let deadline = begun.map_or(now + limits.idle, |begun| begun + limits.head);
            let room = (head::BYTES - self.received.len()) as u64;
            match timeout_at(deadline, (&mut self.stream).take(room).read_buf(&mut self.received)).await {
                Ok(Ok(1..)) => {}
                Ok(_) => return Next::End,
                // Who said nothing is not answered either.
                Err(_) if self.received.is_empty() => return Next::End,
                Err(_) => return Next::Refusal(EXPIRED),
            }
        }
    }

    /// Takes the first `length` bytes for a head.
    fn cut(&mut self, length: usize, begun: Instant) -> Next {
        let parsed = head::parse(&self.received[..length]);
        self.received.drain(..length);
        match parsed {
            Ok(asked) => Next::Request(Box::new(asked), begun),
            Err(refusal) => Next::Refusal(refusal),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.answering = true;
        self.stream.write_all(bytes).await?;
        self.stream.flush().await?;
        self.answering = false;
        Ok(())
    }

    /// A socket that is closed with unread bytes is reset, and the answer with it.
    async fn throw_away(&mut self) {
        let mut rest = (&mut self.stream).take(THROWN_AWAY);
        while let Ok(1..) = rest.read_buf(&mut self.received).await {
            self.received.clear();
        }
    }
}
