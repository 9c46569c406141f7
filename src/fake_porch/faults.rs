//! Faults on purpose: which request, how often, and what happens instead of the answer.

use std::time::{Duration, Instant};

use super::store::git::Stage;

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// POST of a package revision.
    Create,
    /// PUT or PATCH of the files.
    Files,
    /// PUT or PATCH of a package revision: mostly to propose it.
    Propose,
    /// PUT or PATCH of the approval.
    Approve,
    /// DELETE of a package revision.
    Delete,
    /// GET of a package revision.
    Get,
    /// GET of the files.
    ReadFiles,
    /// LIST or watch of either kind.
    List,
    /// Any request about repositories.
    Repository,
    /// Any request about NetworkIntents.
    Network,
    /// Discovery, access reviews and what is not served.
    Other,
}

impl Step {
    /// Whether it changes package revisions.
    pub(super) fn writes(self) -> bool {
        matches!(self, Step::Create | Step::Files | Step::Propose | Step::Approve | Step::Delete)
    }
}

/// Which requests a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All but discovery and access reviews.
    Any,
    /// Those that change package revisions.
    Writes,
    /// GET and LIST of package revisions and their files.
    Reads,
    /// Those of one step.
    Step(Step),
    /// Those of one method, such as `PATCH`, but discovery and access reviews.
    Method(&'static str),
}

impl From<Step> for Which {
    fn from(step: Step) -> Which {
        Which::Step(step)
    }
}

/// How often a rule acts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum When {
    /// The next so many requests that fit, one by default.
    Next(u32),
    /// Each with this probability, by the seed of the server.
    Chance(f64),
    /// Every one.
    Always,
    /// Every one up to this time.
    Until(Instant),
}

/// What happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// The request waits before anybody looks at it; if the client goes meanwhile, nothing was done.
    Delay(Duration),
    /// The request works for so long while it holds the lock of its object; it ends even if the client goes.
    Hold(Duration),
    /// The connection ends; nothing was done.
    CloseBefore,
    /// The request is carried out and the connection ends without an answer.
    CloseAfter,
    /// The connection is reset (RST); nothing was done.
    ResetBefore,
    /// The request is carried out and the connection is reset.
    ResetAfter,
    /// Never answered; nothing was done.
    HangBefore,
    /// The request is carried out and never answered.
    HangAfter,
    /// The request is carried out, and the connection ends in the middle of the answer's body.
    CutBody,
    /// The connection ends at once and the server works on for `work` with the lock held, as when a client goes:
    /// what was being pushed lands (`done`), a new draft without `metadata.annotations`; else nothing does.
    Abandoned {
        /// Whether it lands.
        done: bool,
        /// How long the server works on it.
        work: Duration,
    },
    /// As [`Fault::CloseAfter`] on a create, and `metadata.annotations` and labels are lost.
    DraftWithoutAnnotations,
    /// One of the ways to leave open whether a write was carried out, by the seed: closed, reset or 504, half of
    /// them carried out.
    Ambiguous,
    /// 500 `InternalError` with this text; nothing was done.
    Internal(String),
    /// The request is carried out and answered 500 `InternalError` with this text.
    InternalAfter(String),
    /// 502 with a web page.
    BadGateway,
    /// 503 in plain text: the aggregator cannot reach the server.
    Unreachable,
    /// 503 in plain text: the aggregator has given the server up.
    Unavailable,
    /// 503 with `Retry-After`.
    Overloaded {
        /// The header.
        retry_after: String,
    },
    /// 504 `Timeout` after `after`; the server works on behind it as in [`Fault::Abandoned`].
    GatewayTimeout {
        /// Whether it lands.
        done: bool,
        /// When the aggregator cuts the call.
        after: Duration,
        /// How long the server works on it.
        work: Duration,
    },
    /// 429 with `Retry-After`.
    Throttled {
        /// The header: seconds, a date, or nonsense.
        retry_after: String,
    },
    /// 401.
    Unauthorized,
    /// 403 for want of a right.
    Forbidden,
    /// 413.
    TooLarge,
    /// 409: another request works on the object.
    InProgress,
    /// 409 with the text of a stale version, as other API servers say it.
    Conflict,
    /// 410: the repository was moved to the next version of the API.
    Gone,
    /// 404 for the object.
    NotFound,
    /// 404 for the group: the aggregator does not know the server yet.
    NoGroup,
    /// 500 as for a stale version.
    Stale,
    /// 200 with an empty list, whatever there is.
    EmptyList,
    /// 403 of a server that has just started.
    NotReady,
    /// The request is carried out, and for so long the server shows what was before it.
    RollBack(Duration),
    /// The request is carried out, and until a sync or restart the server shows the object in this stage, or
    /// not at all.
    Phantom(Option<Stage>),
    /// 200 with a web page.
    NotJson,
    /// 200 with an object of another kind.
    WrongObject,
    /// 200 with 100 MiB.
    Huge,
    /// 302 to this place.
    Redirect(String),
    /// The true answer, a byte a second.
    Drip,
    /// This status with this text as body.
    Status(u16, String),
}

/// One rule; the first that fits a request acts on it.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Which requests.
    pub which: Which,
    /// Part of the path, or of a new draft's name; empty fits all.
    pub name: String,
    /// So many requests that fit are let through first.
    pub skip: u32,
    /// How often.
    pub when: When,
    /// What happens.
    pub fault: Fault,
}

impl Rule {
    /// Once, at the next request that fits.
    pub fn once(which: impl Into<Which>, fault: Fault) -> Rule {
        Rule::times(which, 1, fault)
    }

    /// At the next `count` requests that fit.
    pub fn times(which: impl Into<Which>, count: u32, fault: Fault) -> Rule {
        Rule { which: which.into(), name: String::new(), skip: 0, when: When::Next(count), fault }
    }

    /// Once, at the `number`th request that fits from now on; the first is 1.
    pub fn nth(which: impl Into<Which>, number: u32, fault: Fault) -> Rule {
        Rule { skip: number.saturating_sub(1), ..Rule::once(which, fault) }
    }

    /// At every request that fits, with probability `chance`.
    pub fn chance(which: impl Into<Which>, chance: f64, fault: Fault) -> Rule {
        Rule { when: When::Chance(chance), ..Rule::once(which, fault) }
    }

    /// At every request that fits.
    pub fn always(which: impl Into<Which>, fault: Fault) -> Rule {
        Rule { when: When::Always, ..Rule::once(which, fault) }
    }

    /// At every request that fits within `time` from now.
    pub fn lasting(which: impl Into<Which>, time: Duration, fault: Fault) -> Rule {
        Rule { when: When::Until(Instant::now() + time), ..Rule::once(which, fault) }
    }

    /// The same for requests with `part` in their path or draft's name.
    #[must_use]
    pub fn named(mut self, part: &str) -> Rule {
        part.clone_into(&mut self.name);
        self
    }

    fn fits(&self, step: Step, method: &str, subject: &str) -> bool {
        let fits = match self.which {
            Which::Any => step != Step::Other,
            Which::Writes => step.writes(),
            Which::Reads => matches!(step, Step::Get | Step::ReadFiles | Step::List),
            Which::Step(wanted) => step == wanted,
            Which::Method(wanted) => step != Step::Other && method == wanted,
        };
        fits && subject.contains(&self.name)
    }
}

/// The rules in force, and the chance that some of them take.
#[derive(Debug)]
pub(super) struct Rules {
    list: Vec<Rule>,
    dice: u64,
}

impl Rules {
    pub(super) fn new(seed: u64) -> Rules {
        Rules { list: Vec::new(), dice: seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    pub(super) fn add(&mut self, rule: Rule) {
        self.list.push(rule);
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
    }

    /// A number from 0 up to 1.
    #[expect(clippy::cast_precision_loss, reason = "32 bits fit a double")]
    pub(super) fn roll(&mut self) -> f64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 32) as f64 / 4_294_967_296.0
    }

    /// What happens to a request.
    pub(super) fn pick(&mut self, step: Step, method: &str, subject: &str) -> Option<Fault> {
        let mut at = 0;
        while let Some(rule) = self.list.get_mut(at) {
            if rule.fits(step, method, subject) {
                if rule.skip > 0 {
                    rule.skip -= 1;
                } else {
                    let (when, fault) = (rule.when, rule.fault.clone());
                    if self.strikes(when) {
                        self.spend(at);
                        return Some(fault);
                    }
                }
            }
            at += 1;
        }
        None
    }

    fn strikes(&mut self, when: When) -> bool {
        match when {
            When::Next(left) => left > 0,
            When::Chance(chance) => self.roll() < chance,
            When::Always => true,
            When::Until(end) => Instant::now() < end,
        }
    }

    fn spend(&mut self, at: usize) {
        if let Some(Rule { when: When::Next(left), .. }) = self.list.get_mut(at) {
            *left -= 1;
            if *left == 0 {
                self.list.remove(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(rules: &mut Rules, step: Step, subject: &str) -> Option<Fault> {
        rules.pick(step, "PATCH", subject)
    }

    #[test]
    fn rules_act_as_often_as_they_say() {
        let mut rules = Rules::new(7);
        rules.add(Rule::times(Step::Get, 2, Fault::NotFound).named("a.b"));
        assert_eq!(pick(&mut rules, Step::Get, "/x/c.d"), None);
        assert_eq!(pick(&mut rules, Step::Create, "/x/a.b.c"), None);
        assert_eq!(pick(&mut rules, Step::Get, "/x/a.b.c"), Some(Fault::NotFound));
        assert_eq!(pick(&mut rules, Step::Get, "/x/a.b.c"), Some(Fault::NotFound));
        assert_eq!(pick(&mut rules, Step::Get, "/x/a.b.c"), None);
    }

    #[test]
    fn the_nth_request_is_struck_and_no_other() {
        let mut rules = Rules::new(7);
        rules.add(Rule::nth(Which::Method("PATCH"), 2, Fault::Stale));
        let struck: Vec<bool> = [Step::Files, Step::Other, Step::Propose, Step::Approve]
            .map(|step| pick(&mut rules, step, "").is_some())
            .to_vec();
        assert_eq!(struck, [false, false, true, false]);
    }

    #[test]
    fn a_rule_with_an_end_ends() {
        let mut rules = Rules::new(7);
        rules.add(Rule::lasting(Which::Writes, Duration::from_mins(1), Fault::Stale));
        rules.add(Rule::lasting(Which::Reads, Duration::ZERO, Fault::Stale));
        assert_eq!(pick(&mut rules, Step::Delete, ""), Some(Fault::Stale));
        assert_eq!(pick(&mut rules, Step::Get, ""), None);
    }

    #[test]
    fn chance_is_the_same_for_the_same_seed() {
        let struck = |seed| {
            let mut rules = Rules::new(seed);
            rules.add(Rule::chance(Step::Get, 0.3, Fault::CloseBefore));
            (0..1_000).map(|_| pick(&mut rules, Step::Get, "").is_some()).collect::<Vec<_>>()
        };
        let first = struck(3);
        assert_eq!(first, struck(3));
        assert_ne!(first, struck(4));
        assert!((200..400).contains(&first.iter().filter(|struck| **struck).count()));
    }
}
