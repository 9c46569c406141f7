//! The filters of `history` and `requeue`.

use std::time::Duration;

use crate::clock::Wall;
use crate::config::units;
use crate::fate::{Fate, Id, Reason};
use crate::intent::{Target, TargetKind};

/// A moment as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// RFC 3339.
    At(Wall),
    /// This long before now.
    Ago(Duration),
}

impl Moment {
    /// The moment on the wall clock, given what that shows `now`.
    pub fn wall(self, now: Wall) -> Wall {
        match self {
            Moment::At(wall) => wall,
            Moment::Ago(back) => {
                Wall(now.0.saturating_sub(i64::try_from(back.as_nanos()).unwrap_or(i64::MAX)))
            }
        }
    }
}

/// A fate, or none yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Accepted and not at its end.
    Pending,
    /// At its end.
    Ended(Fate),
}

pub(super) fn moment(text: &str) -> Result<Moment, String> {
    let back = units::parse_duration(text).map(Moment::Ago);
    back.or_else(|| Wall::parse(text).map(Moment::At))
        .ok_or_else(|| "not a moment; write for example 2026-11-21T08:00:00Z or 1h".into())
}

pub(super) fn standing(text: &str) -> Result<Standing, String> {
    match text {
        "pending" => Ok(Standing::Pending),
        _ => Fate::from_word(text).map(Standing::Ended).ok_or_else(|| {
            let words: Vec<&str> = Fate::ALL.iter().map(|fate| fate.as_str()).collect();
            format!("not one of {}, pending", words.join(", "))
        }),
    }
}

pub(super) fn reason(text: &str) -> Result<Reason, String> {
    Reason::from_word(text).ok_or_else(|| {
        let words: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        format!("not one of {}", words.join(", "))
    })
}

pub(super) fn target(text: &str) -> Result<Target, String> {
    let mut parts = text.split('/');
    match (parts.next(), parts.next().and_then(TargetKind::from_word), parts.next(), parts.next()) {
        (Some(namespace), Some(kind), Some(name), None) if !namespace.is_empty() && !name.is_empty() => {
            Ok(Target { namespace: namespace.into(), kind, name: name.into() })
        }
        _ => Err("not NS/KIND/NAME; write for example oran-odu/deployment/odu-high-phy".into()),
    }
}

pub(super) fn id(text: &str) -> Result<Id, String> {
    text.parse()
}
