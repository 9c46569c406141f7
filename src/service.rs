//! Signals in, as a [`Stop`] that every stage can wait on.
//!
//! SIGTERM and SIGINT ask for a stop; a second one calls what `main` gave for it, since only `main`
//! may end the process. SIGHUP asks for a rescan and calls back. Nothing here knows what is being
//! stopped.

pub mod notify;
mod sandbox;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use event_listener::{Event, Listener as _};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

pub use sandbox::{Sandbox, SandboxFault, Scope, landlock_abi};

/// Whether a service manager started this very process, by its environment: `NOTIFY_SOCKET`, or an
/// `INVOCATION_ID` that is ours. Children inherit it, so a shell under a manager is told by
/// `SYSTEMD_EXEC_PID` (systemd 248 and newer).
pub fn is_managed(environment: &BTreeMap<OsString, OsString>) -> bool {
    let variable = |name: &str| environment.get(OsStr::new(name)).filter(|value| !value.is_empty());
    let ours = |pid: &OsString| pid.to_str() == Some(&std::process::id().to_string());
    variable("NOTIFY_SOCKET").is_some()
        || variable("INVOCATION_ID").is_some() && variable("SYSTEMD_EXEC_PID").is_none_or(ours)
}

/// A request to stop, once made never taken back; a cheap clone.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    requested: AtomicBool,
    rescan: AtomicBool,
    changed: Event,
}

impl Stop {
    /// Nothing requested.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everybody to stop.
    pub fn request(&self) {
        self.0.requested.store(true, Ordering::SeqCst);
        self.0.changed.notify(usize::MAX);
    }

    /// Whether a stop was asked for.
    pub fn is_requested(&self) -> bool {
        self.0.requested.load(Ordering::SeqCst)
    }

    /// Ends when a stop is asked for.
    pub async fn requested(&self) {
        while !self.is_requested() {
            let changed = self.0.changed.listen();
            if self.is_requested() {
                return;
            }
            changed.await;
        }
    }

    /// Blocks until a stop is asked for or `limit` is over; true when it was asked for.
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        // A limit beyond what the clock can count is waited for an hour at a time.
        let far = || Instant::now() + Duration::from_secs(60 * 60);
        let deadline = Instant::now().checked_add(limit).unwrap_or_else(far);
        while !self.is_requested() {
            let changed = self.0.changed.listen();
            if self.is_requested() {
                return true;
            }
            if changed.wait_deadline(deadline).is_none() {
                return self.is_requested();
            }
        }
        true
    }

    /// Asks for a scan of the folder.
    pub fn request_rescan(&self) {
        self.0.rescan.store(true, Ordering::SeqCst);
    }

    /// Takes the request for a scan, if there is one.
    pub fn take_rescan(&self) -> bool {
        self.0.rescan.swap(false, Ordering::SeqCst)
    }
}

/// Something that only the thread which carries it out can do to itself.
type Act = Box<dyn FnOnce() + Send>;

/// The thread that receives signals; dropping it ends the thread, after which SIGTERM, SIGINT and
/// SIGHUP are ignored.
#[derive(Debug)]
pub struct Signals {
    end: Option<oneshot::Sender<()>>,
    acts: mpsc::UnboundedSender<Act>,
    thread: Option<JoinHandle<()>>,
}

impl Signals {
    /// Has the thread carry out `act`; false if it has ended.
    pub fn on_thread(&self, act: Box<dyn FnOnce() + Send>) -> bool {
        self.acts.send(act).is_ok()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A panic of a callback was reported by the panic hook.
            let _ = thread.join();
        }
    }
}

struct Streams {
    term: Signal,
    interrupt: Signal,
    hup: Signal,
}

impl Streams {
    fn new() -> io::Result<Self> {
        Ok(Streams {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }
}

/// Starts to receive signals; every signal after the return is caught.
///
/// The first SIGTERM or SIGINT requests `stop`, even if somebody did before; each further one calls `on_second`, which must end
/// the process and is given by `main`. Each SIGHUP requests a rescan and calls `on_hup`.
///
/// # Errors
///
/// When the handlers or the thread cannot be had (descriptors, thread limit).
pub fn signals(
    stop: Stop,
    on_hup: impl Fn() + Send + 'static,
    on_second: impl Fn() + Send + 'static,
) -> io::Result<Signals> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let streams = {
        let _inside = runtime.enter();
        Streams::new()?
    };
    let (end, ended) = oneshot::channel();
    let (acts, asked) = mpsc::unbounded_channel();
    let thread = std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || receive(&runtime, streams, (ended, asked), &stop, on_hup, on_second))?;
    Ok(Signals { end: Some(end), acts, thread: Some(thread) })
}

fn receive(
    runtime: &Runtime,
    mut streams: Streams,
    (mut ended, mut acts): (oneshot::Receiver<()>, mpsc::UnboundedReceiver<Act>),
    stop: &Stop,
    on_hup: impl Fn(),
    on_second: impl Fn(),
) {
    // Counted here: a stop that the daemon itself asked for must not make the first signal a second one.
    let mut signalled = false;
    let mut stop_or_end = || match std::mem::replace(&mut signalled, true) {
        false => stop.request(),
        true => on_second(),
    };
    runtime.block_on(async {
        loop {
            tokio::select! {
                _ = &mut ended => return,
                Some(act) = acts.recv() => act(),
                _ = streams.hup.recv() => {
                    stop.request_rescan();
                    on_hup();
                }
                _ = streams.term.recv() => stop_or_end(),
                _ = streams.interrupt.recv() => stop_or_end(),
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam::channel;
    use rustix::process::{Signal as Number, getpid, kill_process};

    #[test]
    fn a_request_wakes_all_who_wait() {
        let stop = Stop::new();
        assert!(!stop.wait_timeout(Duration::ZERO));
        let waiters: Vec<_> = (0..4)
            .map(|i| {
                let stop = stop.clone();
                std::thread::spawn(move || {
                    if i % 2 == 0 {
                        return stop.wait_timeout(Duration::from_secs(30));
                    }
                    let runtime = Builder::new_current_thread().build().expect("a runtime");
                    runtime.block_on(stop.requested());
                    true
                })
            })
            .collect();
        stop.request();
        assert!(waiters.into_iter().all(|waiter| waiter.join().expect("no panic")));
        assert!(stop.is_requested() && stop.wait_timeout(Duration::ZERO));
    }

    #[test]
    fn only_what_a_service_manager_started_itself_is_managed() {
        let me = std::process::id().to_string();
        let managed = |variables: &[(&str, &str)]| {
            is_managed(&variables.iter().map(|(name, value)| (name.into(), value.into())).collect())
        };
        assert!(managed(&[("NOTIFY_SOCKET", "/run/systemd/notify")]));
        assert!(managed(&[("INVOCATION_ID", "0af3")]), "before systemd 248");
        assert!(managed(&[("INVOCATION_ID", "0af3"), ("SYSTEMD_EXEC_PID", &me)]));
        assert!(!managed(&[("INVOCATION_ID", "0af3"), ("SYSTEMD_EXEC_PID", "1")]), "a shell in a session");
        assert!(!managed(&[("INVOCATION_ID", "")]) && !managed(&[]));
    }

    #[test]
    fn a_rescan_is_taken_once() {
        let stop = Stop::new();
        assert!(!stop.take_rescan());
        stop.request_rescan();
        assert!(stop.clone().take_rescan());
        assert!(!stop.take_rescan());
    }

    // One test, since signals reach the whole process.
    #[test]
    fn hup_asks_for_a_rescan_the_first_term_for_a_stop_and_the_second_calls_main() {
        let stop = Stop::new();
        let (heard, hears) = channel::unbounded();
        let heard_too = heard.clone();
        let signals = signals(
            stop.clone(),
            move || heard.send("hup").expect("the test listens"),
            move || heard_too.send("second").expect("the test listens"),
        )
        .expect("signals can be had");
        let limit = Duration::from_secs(30);

        kill_process(getpid(), Number::HUP).expect("our own process");
        assert_eq!(hears.recv_timeout(limit), Ok("hup"));
        assert!(stop.take_rescan() && !stop.is_requested());

        kill_process(getpid(), Number::TERM).expect("our own process");
        assert!(stop.wait_timeout(limit));
        assert!(hears.try_recv().is_err());

        kill_process(getpid(), Number::INT).expect("our own process");
        assert_eq!(hears.recv_timeout(limit), Ok("second"));
        drop(signals);
    }
}
