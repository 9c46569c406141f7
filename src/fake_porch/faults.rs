//! Faults on purpose: which request, how often, and what happens instead of the answer.

use std::time::Duration;

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

/// How often a rule acts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum When {
    /// The next so many requests that fit, one by default.
    Next(u32),
    /// Each with this probability, by the seed of the server.
    Chance(f64),
    /// Every one.
    Always,
}

/// What happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// The request waits before anybody looks at it.
    Delay(Duration),
    /// The request works for so long while it holds the lock of its object; it ends even if the client goes.
    Hold(Duration),
    /// The connection ends; nothing was done.
    CloseBefore,
    /// The request is carried out and the connection ends without an answer.
    CloseAfter,
    /// As [`Fault::CloseAfter`] on a create, and `metadata.annotations` and labels are lost.
    DraftWithoutAnnotations,
    /// 500 `InternalError` with this text; nothing was done.
    Internal(String),
    /// 503 in plain text: the aggregator cannot reach the server.
    Unreachable,
    /// 503 in plain text: the aggregator has given the server up.
    Unavailable,
    /// 504 `Timeout` after `after`; if `done`, the work goes on behind it for `work` with its lock held and
    /// lands, a new draft without `metadata.annotations`.
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
        /// The delay asked for.
        seconds: u64,
    },
    /// 413.
    TooLarge,
    /// 409: another request works on the object.
    InProgress,
    /// 410: the repository was moved to the next version of the API.
    Gone,
    /// 404 for the object.
    NotFound,
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
    /// 200 with 100 MiB.
    Huge,
    /// 302 to another host.
    Redirect,
    /// The true answer, a byte a second.
    Drip,
    /// This status with this text as body.
    Status(u16, String),
}

/// One rule; the first that fits a request acts on it.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The step; `None` fits every step but discovery.
    pub step: Option<Step>,
    /// Part of the path, or of a new draft's name; empty fits all.
    pub name: String,
    /// How often.
    pub when: When,
    /// What happens.
    pub fault: Fault,
}

impl Rule {
    /// Once, at the next request of this step.
    pub fn once(step: Step, fault: Fault) -> Rule {
        Rule { step: Some(step), name: String::new(), when: When::Next(1), fault }
    }

    /// At every request of this step with probability `chance`.
    pub fn chance(step: Step, chance: f64, fault: Fault) -> Rule {
        Rule { step: Some(step), name: String::new(), when: When::Chance(chance), fault }
    }

    /// At every request of this step.
    pub fn always(step: Step, fault: Fault) -> Rule {
        Rule { step: Some(step), name: String::new(), when: When::Always, fault }
    }

    /// The same for requests with `part` in their path or draft's name.
    #[must_use]
    pub fn named(mut self, part: &str) -> Rule {
        part.clone_into(&mut self.name);
        self
    }

    fn fits(&self, step: Step, subject: &str) -> bool {
        self.step.map_or(step != Step::Other, |wanted| wanted == step) && subject.contains(&self.name)
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
        Rules { list: Vec::new(), dice: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
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
    pub(super) fn pick(&mut self, step: Step, subject: &str) -> Option<Fault> {
        let mut at = 0;
        while let Some(rule) = self.list.get(at) {
            let when = rule.when;
            if rule.fits(step, subject) && self.strikes(when) {
                let fault = self.list.get(at).map(|rule| rule.fault.clone());
                self.spend(at);
                return fault;
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

    #[test]
    fn rules_act_as_often_as_they_say() {
        let mut rules = Rules::new(7);
        rules.add(Rule { when: When::Next(2), ..Rule::once(Step::Get, Fault::NotFound).named("a.b") });
        assert_eq!(rules.pick(Step::Get, "/x/c.d"), None);
        assert_eq!(rules.pick(Step::Create, "/x/a.b.c"), None);
        assert_eq!(rules.pick(Step::Get, "/x/a.b.c"), Some(Fault::NotFound));
        assert_eq!(rules.pick(Step::Get, "/x/a.b.c"), Some(Fault::NotFound));
        assert_eq!(rules.pick(Step::Get, "/x/a.b.c"), None);
    }

    #[test]
    fn chance_is_the_same_for_the_same_seed() {
        let struck = |seed| {
            let mut rules = Rules::new(seed);
            rules.add(Rule::chance(Step::Get, 0.3, Fault::CloseBefore));
            (0..1_000).map(|_| rules.pick(Step::Get, "").is_some()).collect::<Vec<_>>()
        };
        let first = struck(3);
        assert_eq!(first, struck(3));
        assert_ne!(first, struck(4));
        assert!((200..400).contains(&first.iter().filter(|struck| **struck).count()));
    }
}
