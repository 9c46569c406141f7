//! Notices to the service manager over its datagram socket, as `sd_notify(3)` describes them.
//!
//! A thread of its own sends them, so that a manager that does not read holds nothing up. A datagram
//! that finds no room for [`PATIENCE`] is given up, unless it tells of a turn (ready, reloading,
//! stopping): that one is kept and goes first. What is sent and when is decided in [`notices`]; how the
//! daemon is, is asked from whoever started the thread. Without `NOTIFY_SOCKET` there is no thread and
//! nothing is done.
//!
//! No crate: those at hand read the process's own environment, know no abstract sockets, block, and
//! unset variables only by `unsafe`. The variables stay in this process; whoever starts a child clears
//! its environment, and the unit's `NotifyAccess=main` listens to nobody else.

pub mod notices;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use crossbeam::channel;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::Stop;
use crate::clock::{Clock as _, SystemClock};

pub use notices::Look;
use notices::Notices;

/// How long one datagram may wait for room at the manager.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the end of the process waits for the last word.
const FAREWELL: Duration = Duration::from_secs(1);

/// Where the service manager listens, and how often it wants to hear.
#[derive(Debug, Clone)]
pub struct Manager {
    address: SocketAddr,
    watchdog: Option<Duration>,
}

impl Manager {
    /// What `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` say; `None` without the first.
    ///
    /// # Errors
    ///
    /// A text for the log, where the socket is none that can be spoken to.
    pub fn of(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Option<Manager>, String> {
        let Some(socket) = variable("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else {
            return Ok(None);
        };
        let address = match socket.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            [b'/', ..] => SocketAddr::from_pathname(&socket),
            _ => Err(io::Error::new(io::ErrorKind::Unsupported, "neither a path nor an abstract name")),
        };
        let address = address.map_err(|why| {
            format!("the service manager is not told anything: NOTIFY_SOCKET {}: {why}", socket.display())
        })?;
        Ok(Some(Manager { address, watchdog: watchdog(variable) }))
    }
}

/// The limit, if it is meant for this process.
fn watchdog(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<Duration> {
    let number = |name: &str| variable(name)?.to_str()?.parse::<u64>().ok();
    let ours =
        variable("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(std::process::id().into());
    number("WATCHDOG_USEC").filter(|limit| ours && *limit > 0).map(Duration::from_micros)
}

enum Order {
    /// At this moment of `CLOCK_MONOTONIC`, in microseconds.
    Reloading(u64),
    /// With a note.
    Ready(String),
    /// Another time for a stop.
    Drain(Duration),
    /// Something that only this thread can do to itself.
    Act(Box<dyn FnOnce() + Send>),
    /// With the last status; dropped when it is told, which its other end notices.
    End(Option<String>, channel::Sender<()>),
}

/// Tells of reloads; a cheap clone that never blocks.
#[derive(Debug, Clone, Default)]
pub struct Notifier(Option<UnboundedSender<Order>>);

impl Notifier {
    /// The settings are about to be read again. Must be followed by [`Notifier::ready`].
    pub fn reloading(&self) {
        self.send(Order::Reloading(monotonic_micros()));
    }

    /// The reload is over. A `note`, such as why the old settings stay, is shown before every status until
    /// the next reload; an empty one is none.
    pub fn ready(&self, note: impl Into<String>) {
        self.send(Order::Ready(note.into()));
    }

    /// From now on a stop may take this long.
    pub fn drains(&self, within: Duration) {
        self.send(Order::Drain(within));
    }

    /// Has the thread, if there is one, carry out `act`; false if it has ended.
    pub fn on_thread(&self, act: Box<dyn FnOnce() + Send>) -> bool {
        self.0.as_ref().is_some_and(|orders| orders.send(Order::Act(act)).is_ok())
    }

    /// Whether there is a thread, that is a service manager that wants to hear.
    pub fn is_heard(&self) -> bool {
        self.0.is_some()
    }

    fn send(&self, order: Order) {
        if let Some(orders) = &self.0 {
            // A herald that is gone has said its last word.
            let _ = orders.send(order);
        }
    }
}

fn monotonic_micros() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.unwrap_or(0).saturating_mul(1_000_000).saturating_add(nanos.unwrap_or(0) / 1_000)
}

/// The thread that speaks to the manager; dropping it ends it.
#[derive(Debug)]
pub struct Herald(Notifier);

impl Herald {
    /// Starts to tell `manager`, if there is one, what `look` sees, and that `stop` was asked for. A stop
    /// is extended for as long as `drain` and a little more.
    ///
    /// # Errors
    ///
    /// When socket, runtime or thread cannot be had.
    pub fn start(
        manager: Option<Manager>,
        stop: Stop,
        drain: Duration,
        look: impl FnMut() -> Look + Send + 'static,
    ) -> io::Result<Herald> {
        let Some(Manager { address, watchdog }) = manager else { return Ok(Herald(Notifier::default())) };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let (orders, inbox) = unbounded_channel();
        let notices = Notices::new(watchdog, drain, SystemClock.now());
        let speaker = Speaker {
            socket,
            address,
            notices,
            look: Box::new(look),
            unsent: VecDeque::new(),
            failed: false,
        };
        std::thread::Builder::new()
            .name("notify".to_owned())
            .spawn(move || runtime.block_on(speaker.run(inbox, stop)))?;
        Ok(Herald(Notifier(Some(orders))))
    }

    /// For whoever reloads.
    pub fn notifier(&self) -> Notifier {
        self.0.clone()
    }

    /// Says the last word, such as why the process ends.
    pub fn end(mut self, status: &str) {
        self.finish(Some(status.to_owned()));
    }

    fn finish(&mut self, status: Option<String>) {
        let Some(orders) = self.0.0.take() else { return };
        let (done, is_done) = channel::bounded(1);
        if orders.send(Order::End(status, done)).is_ok() {
            // A manager that does not read must not hold up the end.
            let _ = is_done.recv_deadline(Instant::now() + FAREWELL);
        }
    }
}

impl Drop for Herald {
    fn drop(&mut self) {
        self.finish(None);
    }
}

struct Speaker {
    socket: UnixDatagram,
    address: SocketAddr,
    notices: Notices,
    look: Box<dyn FnMut() -> Look + Send>,
    /// Turns that found no room, the oldest first.
    unsent: VecDeque<String>,
    /// The last datagram was not taken, and the log knows.
    failed: bool,
}

impl Speaker {
    async fn run(mut self, mut inbox: UnboundedReceiver<Order>, stop: Stop) {
        let mut stopping = false;
        loop {
            let notice = self.notices.look(SystemClock.now(), &(self.look)());
            self.send(notice);
            let rest = self.notices.rest(SystemClock.now());
            tokio::select! {
                biased;
                () = stop.requested(), if !stopping => {
                    stopping = true;
                    let notice = self.notices.stopping(SystemClock.now());
                    self.send(notice);
                }
                order = inbox.recv() => match order {
                    Some(Order::Reloading(at)) => {
                        let notice = self.notices.reloading(at);
                        self.send(notice);
                    }
                    Some(Order::Ready(note)) => {
                        let notice = self.notices.ready(SystemClock.now(), &note, &(self.look)());
                        self.send(notice);
                    }
                    Some(Order::Drain(within)) => self.notices.drains(within),
                    Some(Order::Act(act)) => act(),
                    Some(Order::End(status, _done)) => {
                        let notice = status.map(|status| self.notices.ended(&status));
                        return self.send(notice);
                    }
                    None => return,
                },
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    fn send(&mut self, notice: Option<String>) {
        self.unsent.extend(notice);
        while let Some(notice) = self.unsent.pop_front() {
            let sent = self.socket.send_to_addr(notice.as_bytes(), &self.address);
            if let (Err(why), false) = (&sent, self.failed) {
                tracing::warn!("the service manager does not take notices: {why}; the next ones are tried");
            }
            self.failed = sent.is_err();
            let full = sent.is_err_and(|why| why.kind() == io::ErrorKind::WouldBlock);
            if full {
                if is_turn(&notice) {
                    self.unsent.push_front(notice);
                }
                self.unsent.retain(|notice| is_turn(notice));
                return;
            }
        }
    }
}

fn is_turn(notice: &str) -> bool {
    ["READY=", "RELOADING=", "STOPPING="].iter().any(|turn| notice.starts_with(turn))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(pairs: &[(&str, &str)]) -> Result<Option<Manager>, String> {
        Manager::of(&|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn without_a_socket_nothing_is_done() {
        assert!(manager(&[("WATCHDOG_USEC", "900000")]).expect("no fault").is_none());
        assert!(manager(&[("NOTIFY_SOCKET", "")]).expect("no fault").is_none());
        let herald = Herald::start(None, Stop::new(), Duration::ZERO, Look::default).expect("nothing to do");
        herald.notifier().reloading();
        herald.end("ended");
    }

    #[test]
    fn a_socket_that_cannot_be_spoken_to_is_named() {
        let fault = manager(&[("NOTIFY_SOCKET", "vsock:2:1234")]).expect_err("no address family of ours");
        assert!(fault.contains("NOTIFY_SOCKET vsock:2:1234: neither a path nor an abstract name"), "{fault}");
    }

    #[test]
    fn the_watchdog_is_for_the_process_that_it_names() {
        let limit = |pairs: &[(&str, &str)]| {
            let all = [&[("NOTIFY_SOCKET", "/run/systemd/notify")], pairs].concat();
            manager(&all).expect("an address").and_then(|manager| manager.watchdog)
        };
        let own = std::process::id().to_string();
        assert_eq!(limit(&[]), None);
        assert_eq!(limit(&[("WATCHDOG_USEC", "0")]), None);
        assert_eq!(limit(&[("WATCHDOG_USEC", "soon")]), None);
        assert_eq!(limit(&[("WATCHDOG_USEC", "30000000")]), Some(Duration::from_secs(30)));
        assert_eq!(
            limit(&[("WATCHDOG_USEC", "900000"), ("WATCHDOG_PID", &own)]),
            Some(Duration::from_millis(900))
        );
        assert_eq!(limit(&[("WATCHDOG_USEC", "900000"), ("WATCHDOG_PID", "1")]), None);
    }

    fn hear(socket: &UnixDatagram) -> String {
        let mut datagram = [0; 4096];
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit");
        let length = socket.recv(&mut datagram).expect("a notice");
        String::from_utf8_lossy(&datagram[..length]).into_owned()
    }

    #[test]
    fn an_abstract_socket_hears_start_reload_stop_and_the_last_word_in_order() {
        let name = format!("@conductor-loop-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name.as_bytes()[1..]).expect("a name");
        let socket = UnixDatagram::bind_addr(&address).expect("a free name");
        let manager = manager(&[("NOTIFY_SOCKET", &name)]).expect("an address");
        let stop = Stop::new();
        let look = || Look { started: true, silent: None, status: "watching".to_owned() };
        let herald = Herald::start(manager, stop.clone(), Duration::ZERO, look).expect("a thread");
        assert_eq!(hear(&socket), "READY=1\nSTATUS=watching\n");
        let before = monotonic_micros();
        herald.notifier().reloading();
        herald.notifier().ready("kept");
        let reloading = hear(&socket);
        let at = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("one datagram").trim_end();
        assert!(at.parse::<u64>().is_ok_and(|at| (before..=monotonic_micros()).contains(&at)), "{reloading}");
        assert_eq!(hear(&socket), "READY=1\nSTATUS=kept; watching\n");
        stop.request();
        assert!(hear(&socket).starts_with("STOPPING=1\n"));
        herald.end("stopped");
        assert_eq!(hear(&socket), "STATUS=stopped\n");
    }

    #[test]
    fn a_manager_that_does_not_read_holds_nothing_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let _deaf = UnixDatagram::bind(&path).expect("a free name");
        let filler = UnixDatagram::unbound().expect("a socket");
        filler.set_nonblocking(true).expect("no waiting");
        while filler.send_to(b"x", &path).is_ok() {}
        let manager = manager(&[("NOTIFY_SOCKET", path.to_str().expect("plain"))]).expect("an address");
        let herald = Herald::start(manager, Stop::new(), Duration::ZERO, Look::default).expect("a thread");
        let began = Instant::now();
        herald.notifier().reloading();
        herald.end("ended");
        assert!(began.elapsed() < PATIENCE, "the end waits a second at most");
    }

    #[test]
    fn a_turn_that_found_no_room_is_told_as_soon_as_there_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a free name");
        let sender = UnixDatagram::unbound().expect("a socket");
        sender.set_nonblocking(true).expect("no waiting");
        while sender.send_to(b"x", &path).is_ok() {}
        let mut speaker = Speaker {
            socket: sender,
            address: SocketAddr::from_pathname(&path).expect("a path"),
            notices: Notices::new(None, Duration::ZERO, SystemClock.now()),
            look: Box::new(Look::default),
            unsent: VecDeque::new(),
            failed: false,
        };
        speaker.send(Some("READY=1\n".to_owned()));
        speaker.send(Some("STATUS=old\n".to_owned()));
        while hear(&socket) == "x" && !speaker.unsent.is_empty() {
            speaker.send(None);
        }
        speaker.send(Some("STATUS=new\n".to_owned()));
        let heard: Vec<String> =
            std::iter::repeat_with(|| hear(&socket)).filter(|heard| heard != "x").take(2).collect();
        assert_eq!(heard, ["READY=1\n", "STATUS=new\n"]);
    }
}
