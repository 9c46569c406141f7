//! What stops a delivery for now, and how long a step is tried again before it does.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::api::{Class, Fault};
use crate::fate::Reason;
use crate::observe::FaultKind;
use crate::submit::{Outcome, Tried};

/// How long one delivery waits for a server whose cache went back (seen to heal in 0.2 to 10 s).
pub const PATIENCE: Duration = Duration::from_secs(15);
/// Longest single pause within it.
const PAUSE: Duration = Duration::from_secs(2);
/// When a phantom, or a revision that somebody must look at, is asked about again.
const PARKED: Duration = Duration::from_secs(60);

/// Why a delivery must wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) reason: Reason,
    pub(super) message: String,
    pub(super) after: Option<Duration>,
}

impl Trouble {
    /// A state of the server that somebody has to look at.
    pub(super) fn parked(reason: Reason, message: String) -> Trouble {
        Trouble { reason, message, after: Some(PARKED) }
    }

    /// Something changed meanwhile; the next attempt finds it so.
    pub(super) fn at_once(message: String) -> Trouble {
        Trouble { reason: Reason::SinkUnavailable, message, after: Some(Duration::ZERO) }
    }

    pub(super) fn outcome(&self) -> Outcome {
        Outcome::Retry {
            reason: self.reason,
            message: self.message.clone(),
            after: self.after,
            tried: Tried::Perhaps,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Fault> for Trouble {
    fn from(Fault { class, code, message, after }: Fault) -> Self {
        let (reason, advice) = match class {
            // Without an answer it is our own word, and says by itself what to do.
            Class::Auth if code == 0 => (Reason::SinkAuth, ""),
            Class::Configuration if code == 0 => (Reason::SinkUnavailable, ""),
            Class::Auth => (Reason::SinkAuth, "; renew the credential or grant the right"),
            Class::Throttled => (Reason::SinkThrottled, ""),
            Class::Tls => (Reason::SinkUnavailable, "; correct the certificate or sink.porch.ca_file"),
            Class::Configuration => {
                (Reason::SinkUnavailable, "; correct sink.porch.repository, namespace or the cluster")
            }
            Class::Migrated => (
                Reason::SinkUnavailable,
                "; the repository migrated to porch.kpt.dev/v1alpha2, which this version does not speak",
            ),
            Class::Phantom => {
                (Reason::SinkUnavailable, "; the server's cache differs from git: restart porch")
            }
            _ => (Reason::SinkUnavailable, ""),
        };
        let after = after.or_else(|| (class == Class::Phantom).then_some(PARKED));
        Trouble { reason, message: format!("{message}{advice}"), after }
    }
}

/// As what a fault is counted. What ends an attempt for a reason of its own is counted by that reason.
pub(in crate::submit) const fn counted(class: Class) -> Option<FaultKind> {
    match class {
        Class::TimedOut => Some(FaultKind::SinkTimeout),
        Class::Unknown | Class::Exists | Class::PackageExists => Some(FaultKind::SinkAmbiguous),
        Class::InProgress | Class::Stale => Some(FaultKind::SinkConflict),
        Class::Tls => Some(FaultKind::SinkTls),
        Class::Redirected => Some(FaultKind::SinkRedirect),
        Class::Protocol => Some(FaultKind::SinkProtocol),
        Class::Missing | Class::WrongStage | Class::BadSource | Class::Phantom => {
            Some(FaultKind::SinkPartial)
        }
        Class::Auth | Class::Throttled | Class::Unavailable | Class::Configuration | Class::Migrated => None,
        Class::Render | Class::Content => None,
    }
}

/// True where reading the object again tells how to go on: the request may have been carried out, or
/// the server's cache went back and comes again.
pub(super) fn may_heal(class: Class) -> bool {
    matches!(
        class,
        Class::InProgress
            | Class::Stale
            | Class::Missing
            | Class::WrongStage
            | Class::Exists
            | Class::Phantom
            | Class::Unknown
            | Class::TimedOut
            | Class::Protocol
            | Class::Redirected
    )
}

/// The time that one delivery may spend on steps that did not go through.
#[derive(Debug)]
pub(super) struct Patience {
    whole: Duration,
    ends: Option<Instant>,
    next: Duration,
    chance: u64,
}

impl Patience {
    /// Nothing went wrong yet; from the first fault on it lasts for `whole`. `seed` spreads the pauses and
    /// guards nothing.
    pub(super) fn new(whole: Duration, seed: u64) -> Self {
        Patience { whole, ends: None, next: Duration::from_millis(100), chance: seed | 1 }
    }

    /// Pauses, longer every time; false when there is no patience left.
    pub(super) async fn pause(&mut self) -> bool {
        let now = Instant::now();
        let ends = *self.ends.get_or_insert(now + self.whole);
        if now >= ends {
            return false;
        }
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        let share = u32::try_from(self.chance >> 48).unwrap_or(0);
        tokio::time::sleep(self.next / 4 + self.next * share / (1 << 17)).await;
        self.next = (self.next * 2).min(PAUSE);
        true
    }
}
