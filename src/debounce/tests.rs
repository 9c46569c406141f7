//! The rules, case by case (`tests/cases/debounce/*.toml`), and what holds for every sequence.
//!
//! A case is a list of steps at given milliseconds. A step may show an event (`event`, repeated
//! `every` so many milliseconds `until` another, without a ticket), a scan's find (`found`, bytes), a
//! change of mode (`readable`), or an answer to the ticket that is out (`returned`, with
//! `identity = "inode:size:ctime"`); then the table is asked (unless `hold` says that acceptance is
//! paused) and must give exactly `tickets`. With
//! `looks` every ticket gets the same answer, and the looks must come at these moments;
//! `last_chance_at` is the first of them that is the last chance.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    rule: String,
    step: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    at: u64,
    #[serde(default = "usual_name")]
    name: String,
    event: Option<String>,
    every: Option<u64>,
    until: Option<u64>,
    found: Option<u64>,
    readable: Option<bool>,
    returned: Option<String>,
    identity: Option<String>,
    kept: Option<String>,
    #[serde(default)]
    hold: bool,
    looks: Option<Vec<u64>>,
    last_chance_at: Option<u64>,
    #[serde(default)]
    tickets: Vec<Expected>,
    next_due: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    #[serde(default = "usual_name")]
    name: String,
    hint: String,
    #[serde(default = "event_source")]
    source: String,
    expected: Option<String>,
    #[serde(default)]
    last_chance: bool,
    size: Option<u64>,
    sighted: Option<u64>,
}

fn usual_name() -> String {
    "intent-1.json".into()
}

fn event_source() -> String {
    "event".into()
}

const WINDOW: Duration = Duration::from_millis(100);

fn ms(at: u64) -> Mono {
    Mono(at * 1_000_000)
}

fn identity(text: &str) -> Identity {
    let mut parts = text.split(':').map(|part| part.parse::<u64>().expect("a number"));
    let mut next = || parts.next().expect("inode:size:ctime");
    let (ino, size, ctime) = (next(), next(), next());
    Identity { dev: 1, ino, size, mtime_ns: 0, ctime_ns: i64::try_from(ctime).unwrap() }
}

fn hint(word: &str) -> Hint {
    match word {
        "touched" => Hint::Touched,
        "closed" => Hint::Closed,
        "renamed" => Hint::Renamed,
        "scanned" => Hint::Scanned,
        other => panic!("no such hint: {other}"),
    }
}

fn wait(word: &str, id: Option<&str>) -> Wait {
    let id = || identity(id.expect("an identity"));
    match word {
        "busy" => Wait::Busy,
        "unproved" => Wait::Unproved(id()),
        "changed" => Wait::Changed(id()),
        "unfinished" => Wait::Unfinished(id()),
        "linked" => Wait::Linked(id()),
        "unreadable" => Wait::Unreadable,
        "leased" => Wait::Leased,
        "io-error" => Wait::IoError,
        "large" => Wait::Large(id().size),
        other => panic!("no such answer: {other}"),
    }
}

/// The table under test and the tickets that are out.
struct Bench {
    table: Debouncer,
    out: HashMap<Box<[u8]>, Ticket>,
}

impl Bench {
    fn new() -> Self {
        Bench { table: Debouncer::new(WINDOW), out: HashMap::new() }
    }

    fn poll(&mut self, now: Mono) -> Vec<Ticket> {
        let tickets: Vec<Ticket> = std::iter::from_fn(|| self.table.due(now)).collect();
        for ticket in &tickets {
            let twice = self.out.insert(ticket.name.clone(), ticket.clone());
            assert!(twice.is_none(), "two tickets of one name are out");
        }
        tickets
    }

    fn answer(&mut self, step: &Step, now: Mono) -> Kept {
        let ticket = self.out.remove(step.name.as_bytes()).expect("a ticket is out");
        let word = step.returned.as_deref().expect("an answer");
        self.table.returned(ticket, wait(word, step.identity.as_deref()), now)
    }

    fn act(&mut self, step: &Step) {
        let now = ms(step.at);
        let name = || step.name.as_bytes().into();
        if let Some(word) = &step.event {
            assert_eq!(self.table.event(name(), hint(word), now), Noted::Waits);
            if let (Some(every), Some(until)) = (step.every, step.until) {
                for at in (step.at + every..=until).step_by(usize::try_from(every).unwrap()) {
                    assert_eq!(self.table.event(name(), hint(word), ms(at)), Noted::Waits);
                    assert_eq!(self.poll(ms(at)), [], "a ticket at {at} ms");
                }
            }
        }
        if let Some(size) = step.found {
            assert_eq!(self.table.found(step.name.as_bytes(), size, now), Noted::Waits);
        }
        if step.readable == Some(true) {
            self.table.made_readable(step.name.as_bytes(), now);
        }
        if step.looks.is_some() {
            self.look_again_and_again(step);
        } else if step.returned.is_some() {
            let kept = self.answer(step, now);
            let expected = if step.kept.as_deref() == Some("given-up") { Kept::GivenUp } else { Kept::Waits };
            assert_eq!(kept, expected, "at {} ms", step.at);
        }
        if step.hold {
            return;
        }
        let now = ms(step.until.unwrap_or(step.at));
        let tickets = self.poll(now);
        assert_eq!(tickets.len(), step.tickets.len(), "at {} ms: {tickets:#?}", step.at);
        for (ticket, expected) in tickets.iter().zip(&step.tickets) {
            expected.check(ticket, step.at);
        }
        if let Some(due) = step.next_due {
            assert_eq!(self.table.next_due(), Some(ms(due)), "next due after {} ms", step.at);
        }
    }

    fn look_again_and_again(&mut self, step: &Step) {
        let mut looks = Vec::new();
        let mut last_chance_at = None;
        let mut now = ms(step.at);
        for _ in step.looks.as_ref().expect("moments") {
            assert_eq!(self.answer(step, now), Kept::Waits);
            now = self.table.next_due().expect("it waits");
            let tickets = self.poll(now);
            assert_eq!(tickets.len(), 1);
            looks.push(now.0 / 1_000_000);
            if tickets[0].last_chance && last_chance_at.is_none() {
                last_chance_at = looks.last().copied();
            }
        }
        assert_eq!(Some(looks), step.looks);
        assert_eq!(last_chance_at, step.last_chance_at, "the last chance");
    }
}

impl Expected {
    fn check(&self, ticket: &Ticket, at: u64) {
        assert_eq!(String::from_utf8_lossy(&ticket.name), self.name, "at {at} ms");
        assert_eq!(ticket.hint, hint(&self.hint), "hint at {at} ms");
        assert_eq!(ticket.source.as_str(), self.source, "source at {at} ms");
        assert_eq!(ticket.expected, self.expected.as_deref().map(identity), "identity at {at} ms");
        assert_eq!(ticket.last_chance, self.last_chance, "last chance at {at} ms");
        if self.size.is_some() {
            assert_eq!(ticket.size, self.size, "size at {at} ms");
        }
        if let Some(sighted) = self.sighted {
            assert_eq!(ticket.sighted, ms(sighted), "sighted, at {at} ms");
        }
    }
}

#[test]
fn every_case_in_the_folder_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/debounce");
    let mut cases = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let case: Case = toml::from_str(&fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
        assert!(!case.rule.is_empty());
        let outcome = std::panic::catch_unwind(|| {
            let mut bench = Bench::new();
            case.step.iter().for_each(|step| bench.act(step));
        });
        assert!(outcome.is_ok(), "{} fails: {}", path.display(), case.rule);
        cases += 1;
    }
    assert!(cases >= 25, "only {cases} cases were found");
}

#[test]
fn the_table_is_bounded_and_says_when_it_is_full() {
    let mut table = Debouncer::new(WINDOW);
    for number in 0..NAMES {
        assert_eq!(table.event(number.to_string().as_bytes().into(), Hint::Touched, ms(0)), Noted::Waits);
    }
    assert_eq!(table.event((*b"one more").into(), Hint::Closed, ms(0)), Noted::Full);
    assert_eq!(table.event((*b"17").into(), Hint::Closed, ms(0)), Noted::Waits);
    let ticket = table.due(ms(0)).unwrap();
    assert_eq!(table.found(b"one more", 1, ms(0)), Noted::Waits);
    assert_eq!(table.returned(ticket, Wait::Busy, ms(0)), Kept::Full);
    assert_eq!(table.len(), NAMES);
}

#[test]
fn a_ticket_that_meets_an_entry_of_its_name_takes_its_place() {
    let mut table = Debouncer::new(WINDOW);
    let name: Box<[u8]> = (*b"a").into();
    assert_eq!(table.event(name.clone(), Hint::Closed, ms(0)), Noted::Waits);
    let ticket = table.due(ms(0)).unwrap();
    assert_eq!(table.event(name, Hint::Closed, ms(1)), Noted::Waits);
    assert_eq!(table.returned(ticket, Wait::Unreadable, ms(1)), Kept::Waits);
    assert_eq!((table.len(), table.unreadable(), table.next_due()), (1, 1, Some(ms(101))));
    assert!(table.due(ms(101)).is_some());
    assert_eq!((table.len(), table.unreadable(), table.next_due()), (0, 0, None));
}

/// One step of a random history.
#[derive(Debug, Clone)]
enum Act {
    Event(u8, Hint),
    Found(u8),
    Readable(u8),
    Return(u8, Wait),
    Settle(u8),
    Pass(u64),
}

fn any_wait() -> impl Strategy<Value = Wait> {
    let id = (1u64..3, 0u64..3, 0i64..3).prop_map(|(ino, size, ctime_ns)| Identity {
        ino,
        size,
        ctime_ns,
        ..Identity::default()
    });
    id.prop_flat_map(|id| {
        prop_oneof![
            Just(Wait::Busy),
            Just(Wait::Unproved(id)),
            Just(Wait::Changed(id)),
            Just(Wait::Unfinished(id)),
            Just(Wait::Linked(id)),
            Just(Wait::Unreadable),
            Just(Wait::Leased),
            Just(Wait::IoError),
            Just(Wait::Large(id.size)),
        ]
    })
}

fn any_act() -> impl Strategy<Value = Act> {
    let any_hint = prop_oneof![Just(Hint::Touched), Just(Hint::Closed), Just(Hint::Renamed)];
    prop_oneof![
        4 => (0u8..6, any_hint).prop_map(|(name, hint)| Act::Event(name, hint)),
        1 => (0u8..6).prop_map(Act::Found),
        1 => (0u8..6).prop_map(Act::Readable),
        4 => (0u8..6, any_wait()).prop_map(|(name, wait)| Act::Return(name, wait)),
        1 => (0u8..6).prop_map(Act::Settle),
        3 => prop_oneof![0u64..5, 0u64..500, 0u64..100_000].prop_map(Act::Pass),
    ]
}

proptest! {
    /// Every name that was seen is waiting, out, settled or given up; never two of these; and
    /// whatever waits is due within ten minutes of any moment.
    #[test]
    fn no_name_is_lost_and_none_is_out_twice(acts in prop::collection::vec(any_act(), 1..200)) {
        let mut bench = Bench::new();
        let mut now = 0;
        for act in acts {
            let at = ms(now);
            match act {
                // What `Flights` sees to: a name that is out is not shown to the table.
                Act::Event(name, _) | Act::Found(name) if bench.out.contains_key(&[name][..]) => {}
                Act::Event(name, hint) => {
                    prop_assert_eq!(bench.table.event(Box::new([name]), hint, at), Noted::Waits);
                    let soonest = bench.table.next_due().expect("something waits");
                    prop_assert!(soonest <= at.after(MAX_WAIT) || hint == Hint::Touched);
                }
                Act::Found(name) => prop_assert_eq!(bench.table.found(&[name], 1, at), Noted::Waits),
                Act::Readable(name) => bench.table.made_readable(&[name], at),
                Act::Return(name, wait) => {
                    if let Some(ticket) = bench.out.remove(&[name][..]) {
                        let before = bench.table.len();
                        let kept = bench.table.returned(ticket, wait, at);
                        let more = usize::from(kept == Kept::Waits);
                        prop_assert_eq!(bench.table.len(), before + more);
                        prop_assert!(kept != Kept::GivenUp || wait == Wait::IoError);
                    }
                }
                Act::Settle(name) => {
                    bench.out.remove(&[name][..]);
                }
                Act::Pass(by) => now += by,
            }
            let before = bench.table.len();
            let tickets = bench.poll(ms(now));
            prop_assert_eq!(bench.table.len() + tickets.len(), before);
            prop_assert!(bench.table.len() <= 6);
            prop_assert!(bench.table.next_due().is_none_or(|due| due > ms(now)));
        }
        let waiting = bench.table.len();
        let rest = bench.poll(ms(now + 600_001));
        prop_assert_eq!(rest.len(), waiting);
        prop_assert!(bench.table.is_empty() && bench.table.next_due().is_none());
        prop_assert_eq!(bench.table.unreadable(), 0);
    }

    /// Two equal histories end equally: there is no clock inside.
    #[test]
    fn the_same_history_gives_the_same_tickets(acts in prop::collection::vec(any_act(), 1..60)) {
        let run = |acts: &[Act]| {
            let mut bench = Bench::new();
            let (mut now, mut all) = (0, Vec::new());
            for act in acts {
                match act {
                    Act::Event(name, hint) if !bench.out.contains_key(&[*name][..]) => {
                        let _ = bench.table.event(Box::new([*name]), *hint, ms(now));
                    }
                    Act::Return(name, wait) => {
                        if let Some(ticket) = bench.out.remove(&[*name][..]) {
                            let _ = bench.table.returned(ticket, *wait, ms(now));
                        }
                    }
                    Act::Pass(by) => now += by,
                    _ => {}
                }
                all.extend(bench.poll(ms(now)));
            }
            all
        };
        prop_assert_eq!(run(&acts), run(&acts));
    }
}
