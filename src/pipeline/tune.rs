//! Other settings for a running pipeline.
//!
//! The settings in force are one value, replaced as a whole ([`InForce`] in a [`Live`]). Workers, the
//! parser of kept intents and the keeper follow it; watch, submit, ledger and valve are each told by one
//! message what is theirs. So no stage ever goes by half of a reload, and a file that is taken up after
//! [`Tuner::put`] has returned is judged by the new rules.

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use super::rules;
use crate::config::{Coalesce, Config, Follower, Live};
use crate::intent::{Intent, Parser, Refusal, Rules, UserSchema};
use crate::ledger::{Handle, Limits};
use crate::queue::Gate;
use crate::read::Bounds;
use crate::submit::dispatch::Pace;
use crate::submit::driver::Order;
use crate::watch::{Mailbox, Message, Tuning};
use crate::worker::Parcel;

/// Settings, and what is made of them once for all workers.
#[derive(Debug)]
pub struct InForce {
    /// All settings.
    pub config: Config,
    /// The user's own schema, compiled.
    pub schema: Option<Arc<UserSchema>>,
    rules: Arc<Rules>,
}

impl InForce {
    /// Makes what is needed of the settings.
    pub fn new(config: Config, schema: Option<Arc<UserSchema>>) -> Self {
        InForce { rules: Arc::new(rules(&config)), config, schema }
    }

    /// True if both have a schema of the same text, or none.
    pub fn has_schema_of(&self, other: &InForce) -> bool {
        match (&self.schema, &other.schema) {
            (Some(one), Some(other)) => one.is_same_as(other),
            (None, None) => true,
            _ => false,
        }
    }

    /// A parser that goes by them.
    pub(super) fn parser(&self) -> Parser {
        match &self.schema {
            None => Parser::new(Arc::clone(&self.rules)),
            Some(schema) => Parser::with_schema(Arc::clone(&self.rules), Arc::clone(schema)),
        }
    }

    /// The limits of reading.
    pub(super) fn bounds(&self) -> Bounds {
        Bounds { max_size: self.config.intake.max_size, map_above: self.config.intake.map_above }
    }

    /// How intents are sent.
    pub(super) fn pace(&self) -> Pace {
        let sink = &self.config.sink;
        Pace { max_age: sink.max_age, coalesce: sink.coalesce == Coalesce::Latest }
    }
}

/// A parser that follows the settings in force.
pub(super) struct LiveParser {
    settings: Follower<InForce>,
    parser: Parser,
}

impl LiveParser {
    pub(super) fn new(live: &Live<InForce>) -> Self {
        let settings = live.follow();
        LiveParser { parser: settings.current().parser(), settings }
    }

    pub(super) fn parse(&mut self, bytes: &[u8]) -> Result<Intent, Refusal> {
        if self.settings.renew() {
            self.parser = self.settings.current().parser();
        }
        self.parser.parse(bytes)
    }
}

/// Puts settings into force while the pipeline runs.
pub struct Tuner {
    pub(super) live: Live<InForce>,
    pub(super) gate: Arc<Gate>,
    pub(super) watch: Mailbox,
    pub(super) submit: UnboundedSender<Order>,
    pub(super) ledger: Handle<Parcel>,
}

impl Tuner {
    /// The settings in force.
    pub fn in_force(&self) -> Arc<InForce> {
        self.live.get()
    }

    /// Puts these into force. Keys that need a restart must hold their old values; one caller at a time.
    pub fn put(&self, next: InForce) {
        let before = self.live.get();
        let judge_again = next.rules != before.rules || !next.has_schema_of(&before);
        let pace = next.pace();
        let (tuning, limits) = (Tuning::of(&next.config.watch), Limits::of(&next.config.ledger));
        let sink = &next.config.sink;
        let (files, bytes) = (sink.max_pending, sink.max_pending_size);
        self.live.replace(next);
        self.gate.set_limits(files, bytes);
        self.watch.post(Message::Tune(tuning));
        // Stages that have ended need no settings.
        let _ = self.submit.send(Order::Tune { pace, judge_again });
        let _ = self.ledger.tune(limits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parser_follows_the_rules_in_force() {
        let intent = br#"{"intent_type": "scaling", "target": "odu", "namespace": "ran-a", "replicas": 50}"#;
        let live = Live::new(InForce::new(Config::default(), None));
        let mut parser = LiveParser::new(&live);
        assert!(parser.parse(intent).is_ok());
        let mut config = Config::default();
        config.policy.max_replicas = 10;
        live.replace(InForce::new(config, None));
        assert!(parser.parse(intent).is_err());
    }

    #[test]
    fn a_schema_is_the_same_while_its_text_is() {
        let in_force = |text: Option<&str>| {
            let schema = text.map(|text| Arc::new(UserSchema::compile(text).expect("a schema")));
            InForce::new(Config::default(), schema)
        };
        assert!(in_force(None).has_schema_of(&in_force(None)));
        assert!(in_force(Some("{}")).has_schema_of(&in_force(Some("{}"))));
        assert!(!in_force(Some("{}")).has_schema_of(&in_force(Some("true"))));
        assert!(!in_force(Some("{}")).has_schema_of(&in_force(None)));
    }
}
