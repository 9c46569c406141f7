//! What to tell the service manager and when; pure, so that time is an argument.
//!
//! | notice | when |
//! |---|---|
//! | `READY=1` | once, when the startup check holds; again after each reload |
//! | `STATUS=` | when it changed, at most every [`STATUS_EVERY`]; at most [`STATUS_MOST`] bytes |
//! | `WATCHDOG=1` | every third of the limit, and only while every stage moves |
//! | `EXTEND_TIMEOUT_USEC=` | every [`EXTEND_EVERY`] while it starts, and while it drains |
//! | `RELOADING=1`, `MONOTONIC_USEC=` | in one datagram, since systemd 253 waits for both |
//! | `STOPPING=1` | once, as soon as a stop is asked for; nothing is `READY` after it |

use std::fmt::Write as _;
use std::time::Duration;

use crate::clock::Mono;

/// Shortest time between two status lines.
pub const STATUS_EVERY: Duration = Duration::from_secs(5);
/// Longest status line, in bytes; a datagram holds 4,096.
pub const STATUS_MOST: usize = 1_024;
/// Time between two extensions of a start or a stop.
pub const EXTEND_EVERY: Duration = Duration::from_secs(2);
/// What each of them asks for.
const EXTENSION: Duration = Duration::from_secs(10);
/// A stop that takes this much longer than `service.drain` is not extended any more.
const SLACK: Duration = Duration::from_secs(5);
/// How soon readiness is asked for again, in the first seconds of a start and after them.
const SOON: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));
/// How soon a stage that is silent is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How the daemon is, as far as the service manager is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Look {
    /// The watch is placed and the first scan has begun.
    pub started: bool,
    /// The stage that gives no sign of life, and since when.
    pub silent: Option<String>,
    /// One line for people.
    pub status: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Running,
    Reloading,
    Stopping,
}

/// Decides on notices; what it returns is one datagram.
#[derive(Debug)]
pub struct Notices {
    phase: Phase,
    began: Mono,
    /// A third of the watchdog's limit.
    third: Option<Duration>,
    fed: Option<Mono>,
    /// The watchdog was withheld, and the log knows.
    withheld: bool,
    drain: Duration,
    extended: Option<Mono>,
    /// The last status, and when it was told.
    told: Option<(Mono, String)>,
    /// Stands before the status until the next reload.
    note: String,
}

impl Notices {
    /// For a process that starts now. `watchdog` is the manager's limit, `drain` how long a stop may take.
    pub fn new(watchdog: Option<Duration>, drain: Duration, now: Mono) -> Self {
        Notices {
            phase: Phase::Starting,
            began: now,
            third: watchdog.map(|limit| limit / 3),
            fed: None,
            withheld: false,
            drain,
            extended: None,
            told: None,
            note: String::new(),
        }
    }

    /// A stop may take this long from now on.
    pub fn drains(&mut self, within: Duration) {
        self.drain = within;
    }

    /// What follows from how the daemon is; `None` if there is nothing to tell.
    pub fn look(&mut self, now: Mono, look: &Look) -> Option<String> {
        let mut notice = String::new();
        if self.phase == Phase::Starting && look.started {
            self.phase = Phase::Running;
            self.told = None;
            notice.push_str("READY=1\n");
        }
        self.extend(now, look, &mut notice);
        self.feed(now, look, &mut notice);
        if self.phase != Phase::Stopping {
            self.tell(now, &look.status, &mut notice);
        }
        (!notice.is_empty()).then_some(notice)
    }

    /// A reload begins, at this moment of `CLOCK_MONOTONIC` in microseconds. Before the first `READY=1`
    /// and after `STOPPING=1` nobody is told: it would end the start or take back the stop.
    pub fn reloading(&mut self, at: u64) -> Option<String> {
        let runs = matches!(self.phase, Phase::Running | Phase::Reloading);
        runs.then(|| {
            self.phase = Phase::Reloading;
            format!("RELOADING=1\nMONOTONIC_USEC={at}\n")
        })
    }

    /// The reload is over, with or without success; `note` stands before the status until the next one.
    pub fn ready(&mut self, now: Mono, note: &str, look: &Look) -> Option<String> {
        note.clone_into(&mut self.note);
        (self.phase == Phase::Reloading).then(|| {
            self.phase = Phase::Running;
            self.told = None;
            let mut notice = "READY=1\n".to_owned();
            self.tell(now, &look.status, &mut notice);
            notice
        })
    }

    /// A stop was asked for; told once.
    pub fn stopping(&mut self, now: Mono) -> Option<String> {
        (self.phase != Phase::Stopping).then(|| {
            (self.phase, self.began, self.extended) = (Phase::Stopping, now, Some(now));
            let wait = EXTENSION.as_micros();
            let status = "stopping: files under way are finished, the rest stays where it is";
            format!("STOPPING=1\nSTATUS={status}\nEXTEND_TIMEOUT_USEC={wait}\n")
        })
    }

    /// The last word.
    pub fn ended(&self, status: &str) -> String {
        format!("STATUS={}\n", line(status))
    }

    /// How long nothing is to be told.
    pub fn rest(&self, now: Mono) -> Duration {
        let next = |last: Option<Mono>, every: Duration| {
            last.map_or(Duration::ZERO, |last| every.saturating_sub(now.since(last)))
        };
        let general = match self.phase {
            Phase::Starting if now.since(self.began) < EXTEND_EVERY => SOON.0,
            Phase::Starting => SOON.1,
            Phase::Running | Phase::Reloading => next(self.told.as_ref().map(|(at, _)| *at), STATUS_EVERY),
            Phase::Stopping => EXTEND_EVERY,
        };
        let watchdog = self.third.map(|third| if self.withheld { ASK_AGAIN } else { next(self.fed, third) });
        watchdog.map_or(general, |watchdog| watchdog.min(general)).max(Duration::from_millis(1))
    }

    /// A start, for a ledger may have to be rebuilt first or a full disk hold the scan back, and a drain take
    /// as long as they need.
    fn extend(&mut self, now: Mono, look: &Look, notice: &mut String) {
        let may = match self.phase {
            Phase::Starting => look.silent.is_none(),
            Phase::Stopping => now.since(self.began) < self.drain + SLACK,
            Phase::Running | Phase::Reloading => false,
        };
        if may && self.extended.is_none_or(|last| now.since(last) >= EXTEND_EVERY) {
            self.extended = Some(now);
            let _ = writeln!(notice, "EXTEND_TIMEOUT_USEC={}", EXTENSION.as_micros());
        }
    }

    fn feed(&mut self, now: Mono, look: &Look, notice: &mut String) {
        let Some(third) = self.third else { return };
        match &look.silent {
            None if self.fed.is_none_or(|last| now.since(last) >= third) => {
                self.fed = Some(now);
                notice.push_str("WATCHDOG=1\n");
            }
            Some(silent) if !self.withheld => tracing::error!("the watchdog is not fed: {silent}"),
            _ => {}
        }
        if self.withheld && look.silent.is_none() {
            tracing::info!("every stage moves again");
        }
        self.withheld = look.silent.is_some();
    }

    fn tell(&mut self, now: Mono, status: &str, notice: &mut String) {
        let status = match self.note.is_empty() {
            true => line(status),
            false => line(&format!("{}; {status}", self.note)),
        };
        let (due, same) = match &self.told {
            None => (true, false),
            Some((at, told)) => (now.since(*at) >= STATUS_EVERY, *told == status),
        };
        if !due {
            return;
        }
        if !same {
            let _ = writeln!(notice, "STATUS={status}");
        }
        self.told = Some((now, status));
    }
}

/// One line without control characters, cut to [`STATUS_MOST`].
fn line(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let end = text.floor_char_boundary(STATUS_MOST);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAIN: Duration = Duration::from_secs(10);
    const LIMIT: Option<Duration> = Some(Duration::from_secs(30));

    fn at(millis: u64) -> Mono {
        Mono(1_000_000_000 + millis * 1_000_000)
    }

    fn look(status: &str) -> Look {
        Look { started: true, silent: None, status: status.to_owned() }
    }

    fn running(watchdog: Option<Duration>) -> Notices {
        let mut notices = Notices::new(watchdog, DRAIN, at(0));
        assert!(notices.look(at(0), &look("watching")).is_some_and(|text| text.starts_with("READY=1\n")));
        notices
    }

    #[test]
    fn ready_is_told_once_and_not_before_the_start_is_over() {
        let mut notices = Notices::new(None, DRAIN, at(0));
        let starting = Look { status: "starting".to_owned(), ..Look::default() };
        assert_eq!(
            notices.look(at(0), &starting).as_deref(),
            Some("EXTEND_TIMEOUT_USEC=10000000\nSTATUS=starting\n")
        );
        assert_eq!(notices.look(at(10), &starting), None);
        assert!(notices.rest(at(10)) <= SOON.0, "readiness is told at once");
        assert_eq!(notices.look(at(2_000), &starting).as_deref(), Some("EXTEND_TIMEOUT_USEC=10000000\n"));
        assert_eq!(notices.look(at(2_001), &look("watching")).as_deref(), Some("READY=1\nSTATUS=watching\n"));
        assert_eq!(notices.look(at(60_000), &look("watching")), None, "nothing new, no watchdog");
    }

    #[test]
    fn a_start_that_hangs_is_not_extended() {
        let mut notices = Notices::new(None, DRAIN, at(0));
        let silent = Look { silent: Some("ledger".to_owned()), ..Look::default() };
        assert_eq!(notices.look(at(0), &silent).as_deref(), Some("STATUS=\n"));
    }

    #[test]
    fn a_status_is_told_when_it_changed_and_seldom() {
        let mut notices = running(None);
        assert_eq!(notices.look(at(4_999), &look("1 delivered")), None);
        assert_eq!(notices.look(at(5_000), &look("2 delivered")).as_deref(), Some("STATUS=2 delivered\n"));
        assert_eq!(notices.look(at(10_000), &look("2 delivered")), None);
        assert!(notices.rest(at(10_001)) > Duration::from_secs(4), "an idle daemon rests");
    }

    #[test]
    fn the_watchdog_is_fed_every_third_while_all_stages_move() {
        let mut notices = running(LIMIT);
        assert_eq!(notices.look(at(9_999), &look("watching")), None);
        assert!(notices.rest(at(9_999)) <= Duration::from_millis(1));
        assert_eq!(notices.look(at(10_000), &look("watching")).as_deref(), Some("WATCHDOG=1\n"));
        let hangs =
            Look { silent: Some("worker-1: no sign of life for 11 s".to_owned()), ..look("watching") };
        for second in 20..200 {
            assert_eq!(notices.look(at(second * 1_000), &hangs), None, "second {second}");
        }
        assert_eq!(notices.rest(at(199_000)), ASK_AGAIN);
        assert_eq!(notices.look(at(200_500), &look("watching")).as_deref(), Some("WATCHDOG=1\n"));
    }

    #[test]
    fn a_reload_is_told_in_one_datagram_and_its_note_stays() {
        let mut notices = running(None);
        assert_eq!(notices.reloading(77).as_deref(), Some("RELOADING=1\nMONOTONIC_USEC=77\n"));
        let told = notices.ready(at(1), "settings not reloaded: line 2", &look("watching"));
        assert_eq!(told.as_deref(), Some("READY=1\nSTATUS=settings not reloaded: line 2; watching\n"));
        assert_eq!(notices.look(at(6_000), &look("watching")), None);
        assert_eq!(notices.reloading(78).as_deref(), Some("RELOADING=1\nMONOTONIC_USEC=78\n"));
        let told = notices.ready(at(7_000), "", &look("watching"));
        assert_eq!(told.as_deref(), Some("READY=1\nSTATUS=watching\n"));
    }

    #[test]
    fn a_reload_neither_ends_the_start_nor_takes_back_the_stop() {
        let mut notices = Notices::new(None, DRAIN, at(0));
        assert_eq!(notices.reloading(1), None);
        assert_eq!(notices.ready(at(1), "", &look("watching")), None);
        let mut notices = running(None);
        assert!(notices.stopping(at(1)).is_some());
        assert_eq!(notices.reloading(2), None);
        assert_eq!(notices.ready(at(2), "", &look("watching")), None);
    }

    #[test]
    fn a_stop_is_told_once_and_extended_for_as_long_as_it_may_take() {
        let mut notices = running(LIMIT);
        let told = notices.stopping(at(0)).expect("told");
        assert!(told.starts_with("STOPPING=1\nSTATUS=stopping: "), "{told}");
        assert!(told.ends_with("\nEXTEND_TIMEOUT_USEC=10000000\n"), "{told}");
        assert_eq!(notices.stopping(at(1)), None);
        let extends = |text: Option<String>| text.is_some_and(|text| text.contains("EXTEND_TIMEOUT_USEC="));
        assert!(!extends(notices.look(at(1_999), &look("x"))));
        assert!(extends(notices.look(at(2_000), &look("x"))));
        assert!(extends(notices.look(at(14_000), &look("x"))));
        assert!(!extends(notices.look(at(16_000), &look("x"))), "drain and slack are over");
        notices.drains(Duration::from_secs(60));
        assert!(extends(notices.look(at(64_000), &look("x"))), "a reload has given it more time");
    }

    #[test]
    fn no_status_breaks_its_line_or_fills_the_datagram() {
        assert_eq!(line("a\nREADY=1\u{7}b"), "a READY=1 b");
        let long = line(&"é".repeat(STATUS_MOST));
        assert_eq!(long.len(), STATUS_MOST);
        assert_eq!(line(&format!("x{}", "é".repeat(STATUS_MOST))).len(), STATUS_MOST - 1);
    }
}
