mod packages;
mod schedule;

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::disk::Identity;
use crate::fate::{Lifecycle, Receipt, Sha, Source};
use crate::ledger::Row;
use crate::package::tests::scaling;
use crate::queue::Flights;
use crate::submit::Tried;
use crate::worker::Parcel;

const NOON: Wall = Wall(1_800_000_000_000_000_000);
const FOR_EVER: Pace = Pace { max_age: Duration::ZERO, coalesce: false };

pub(crate) fn at(seconds: u64) -> Mono {
    Mono(1_000_000_000_000).after(Duration::from_secs(seconds))
}

fn wall(seconds: u64) -> Wall {
    NOON.after(Duration::from_secs(seconds))
}

/// Row `seq` for `deployment <name>`, accepted at noon.
pub(crate) fn row(seq: u64, name: &str) -> Row {
    let identity = Identity { dev: 1, ino: seq, size: 64, mtime_ns: 0, ctime_ns: 0 };
    let mut intent = scaling(3);
    intent.target.name = name.into();
    Row {
        seq,
        id: Id::derive(&[7; 16], seq),
        name: format!("intent-{seq}.json").into_bytes().into(),
        source: Source::Event,
        identity,
        proof: None,
        sha: Some(Sha::of(&seq.to_be_bytes())),
        generation: 0,
        target: Some(intent.target),
        priority: 5,
        valid_until: None,
        accepted_at: NOON,
        worker: 0,
        requeue_of: None,
        end: None,
    }
}

/// A job for `row`, arrived `seconds` after noon; `held` if its intent comes with it.
pub(crate) fn job(row: Row, seconds: u64, held: bool) -> Job {
    let flight = Flights::new().remember(&row.name, &row.identity);
    let intent = held.then(|| Box::new(scaling(3)));
    let parcel = Parcel { flight, pass: None, intent, sighted: at(seconds), pending: true };
    Job::new(row, parcel, at(seconds), false)
}

/// One group of `group` different targets at a time.
pub(crate) fn by_target(group: usize) -> Abilities {
    Abilities { parallel: 1, group, gather: Gather::Targets, window: Duration::ZERO }
}

fn dispatch(pace: Pace) -> Dispatch {
    Dispatch::new(pace, SinkKind::Folder, by_target(64))
}

/// A dispatcher to which jobs 1 to `count`, of as many targets, were accepted just before noon.
fn waiting(count: u64) -> Dispatch {
    let mut dispatch = dispatch(FOR_EVER);
    for seq in 1..=count {
        let arrived = Mono(at(0).0 - 10_000 + seq);
        let job = Job { arrived, ..job(row(seq, &format!("nf-{seq}")), 0, false) };
        assert!(dispatch.accept(job, NOON).is_none());
    }
    dispatch
}

fn due(dispatch: &mut Dispatch, room: usize, seconds: u64) -> Vec<Job> {
    let mut ended = Vec::new();
    let group = dispatch.due(room, at(seconds), wall(seconds), &mut ended);
    assert!(ended.is_empty());
    group
}

pub(crate) fn delivered() -> Outcome {
    let (name, revision) = ("oran-odu/deployment-nf".to_owned(), "1".to_owned());
    Outcome::Delivered(Receipt { name, revision, lifecycle: Lifecycle::ALL[0], adopted: false })
}

pub(crate) fn retry(reason: Reason) -> Outcome {
    Outcome::Retry { reason, message: "connection refused".to_owned(), after: None, tried: Tried::Perhaps }
}

fn seqs(jobs: &[Job]) -> Vec<u64> {
    jobs.iter().map(|job| job.row.seq).collect()
}

/// Opens the breaker at noon with 5 failures; the jobs may go again at once.
fn break_down(dispatch: &mut Dispatch) {
    for job in due(dispatch, 5, 0) {
        assert!(dispatch.report(job, retry(Reason::SinkUnavailable), at(0), 0.0).is_none());
    }
    assert_eq!(dispatch.circuit(at(0)), Circuit::Open);
}

#[test]
fn what_cannot_be_sent_is_its_own_trouble_and_never_the_sinks() {
    let refused = Unsent::Refused { reason: Reason::Policy, message: "replicas 90".to_owned() };
    let lost = Unsent::Lost("gone".to_owned());
    let mut dispatch = waiting(10);
    for (turn, job) in due(&mut dispatch, 10, 0).into_iter().enumerate() {
        let (why, reason) = match turn % 2 {
            0 => (&refused, Reason::Policy),
            _ => (&lost, Reason::CrashSuspect),
        };
        let end = dispatch.unsent(job, why.clone(), at(0), 0.5).unwrap();
        assert_eq!((end.fate, end.reason, end.job.attempts), (Fate::Refused, Some(reason), 0));
    }
    assert_eq!((dispatch.circuit(at(0)), dispatch.trouble()), (Circuit::Closed, None));
    assert!(dispatch.is_empty() && dispatch.out() == 0);
}

#[test]
fn what_cannot_be_read_waits_longer_each_time_and_holds_nobody_back() {
    let mut dispatch = waiting(1);
    let mut now = at(0);
    for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
        let job = dispatch.due(1, now, NOON, &mut Vec::new()).remove(0);
        assert!(!job.doubtful);
        assert!(dispatch.unsent(job, Unsent::Unreadable("busy".to_owned()), now, 1.0).is_none());
        let next = dispatch.next_due(now).unwrap();
        assert_eq!(next.since(now), Duration::from_secs(wait));
        assert_eq!((dispatch.circuit(now), dispatch.trouble()), (Circuit::Closed, None));
        now = next;
    }
    assert_eq!(dispatch.notices(now)[0].reason, Reason::Unreadable, "its producer is told all the same");
}

#[test]
fn a_probe_that_could_not_be_sent_makes_room_for_the_next() {
    let mut dispatch = waiting(7);
    break_down(&mut dispatch);
    let probe = due(&mut dispatch, 64, 5);
    assert_eq!(seqs(&probe), [1], "half open lets one out");
    assert_eq!(dispatch.next_due(at(5)), None, "only its answer can tell");
    dispatch.unsent(probe.into_iter().next().unwrap(), Unsent::Lost("gone".to_owned()), at(5), 0.5);
    assert_eq!(dispatch.circuit(at(5)), Circuit::HalfOpen);
    assert!(dispatch.trouble().is_some());
    assert_eq!(seqs(&due(&mut dispatch, 64, 5)), [2]);
}

#[test]
fn the_expiry_of_the_last_job_says_nothing_of_the_sink_and_ends_its_trouble() {
    let mut dispatch = dispatch(Pace { max_age: Duration::from_secs(3), coalesce: false });
    for seq in 1..=5 {
        dispatch.accept(job(row(seq, &format!("nf-{seq}")), 0, false), NOON);
    }
    break_down(&mut dispatch);
    let mut ended = Vec::new();
    assert!(dispatch.due(64, at(5), wall(5), &mut ended).is_empty());
    assert!(ended.iter().all(|end| end.fate == Fate::Expired) && ended.len() == 5);
    assert_eq!(dispatch.circuit(at(5)), Circuit::HalfOpen, "nobody knows yet");
    assert_eq!((dispatch.trouble(), dispatch.pending(at(5))), (None, Pending::default()));
    for seq in 6..=7 {
        let row = Row { accepted_at: wall(6), ..row(seq, &format!("nf-{seq}")) };
        dispatch.accept(job(row, 6, false), wall(6));
    }
    assert_eq!(seqs(&due(&mut dispatch, 64, 6)), [6], "the next one is the probe");
}

#[test]
fn after_an_outage_every_target_goes_on_in_order_with_one_out() {
    let mut dispatch = dispatch(FOR_EVER);
    for seq in 1..=15 {
        dispatch.accept(job(row(seq, &format!("nf-{}", seq % 5)), seq, false), NOON);
    }
    let now = 20;
    for job in due(&mut dispatch, 64, now) {
        dispatch.report(job, retry(Reason::SinkUnavailable), at(now), 1.0);
    }
    let probe = due(&mut dispatch, 64, now + 60).remove(0);
    assert!(dispatch.report(probe, delivered(), at(now + 60), 0.5).is_some());
    let (mut left, mut rounds) = (Vec::new(), 0);
    while !dispatch.is_empty() {
        let group = due(&mut dispatch, 3, now + 60);
        assert!(group.len() <= 3 && dispatch.out() <= 3);
        left.extend(seqs(&group));
        for job in group {
            dispatch.report(job, delivered(), at(now + 60), 0.5);
        }
        rounds += 1;
    }
    assert_eq!(rounds, 5, "14 jobs, 3 at a time");
    assert!((0..5).all(|target| left.iter().filter(|seq| *seq % 5 == target).is_sorted()));
}

#[test]
fn parsed_intents_beyond_the_limit_are_dropped_again_and_never_miscounted() {
    let mut dispatch = dispatch(FOR_EVER);
    let count = HELD as u64 + 10;
    for seq in 1..=count {
        dispatch.accept(job(row(seq, &format!("nf-{seq}")), 0, true), NOON);
    }
    assert_eq!(dispatch.held, HELD);
    let mut group = due(&mut dispatch, usize::MAX, 0);
    assert_eq!(group.iter().filter(|job| job.parcel.intent.is_some()).count(), HELD);
    group.iter_mut().for_each(|job| job.parcel.intent = Some(Box::new(scaling(3))));
    for job in group {
        let (message, again) = ("create the namespace".to_owned(), Some(Duration::from_secs(60)));
        let outcome =
            Outcome::Held { reason: Reason::SinkUnavailable, message, tried: Tried::Perhaps, again };
        dispatch.report(job, outcome, at(0), 0.0);
    }
    assert_eq!(dispatch.held, HELD);
    let first = due(&mut dispatch, 1, 60).remove(0);
    dispatch.report(first, delivered(), at(60), 0.5);
    assert_eq!(dispatch.held, HELD - 1);
    let group = due(&mut dispatch, usize::MAX, 60);
    assert_eq!(group.iter().filter(|job| job.parcel.intent.is_some()).count(), HELD - 1);
    for job in group {
        dispatch.report(job, delivered(), at(60), 0.5);
    }
    assert_eq!((dispatch.held, dispatch.len(), dispatch.out()), (0, 0, 0));
}

#[test]
fn pending_counts_what_is_out_and_its_age_survives_a_restart() {
    let mut dispatch = dispatch(FOR_EVER);
    assert_eq!(dispatch.pending(at(0)), Pending::default());
    let hour = 3_600;
    for (seq, priority) in [(1, 0), (2, 5), (3, 10), (4, 10)] {
        let row = Row { priority, accepted_at: wall(seq), ..row(seq, &format!("nf-{seq}")) };
        dispatch.accept(job(row, hour, false), wall(hour));
    }
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(dispatch.pending(at(hour)), Pending { by_class: [1, 1, 2], oldest: seconds(hour - 1) });
    let group = due(&mut dispatch, 64, hour);
    assert_eq!(dispatch.pending(at(hour)).by_class, [1, 1, 2], "all of them are out");
    for job in group.into_iter().filter(|job| job.row.seq == 1) {
        dispatch.report(job, delivered(), at(hour), 0.5);
    }
    assert_eq!(dispatch.pending(at(hour + 10)), Pending { by_class: [0, 1, 2], oldest: seconds(hour + 8) });
}

#[test]
fn an_age_may_reach_back_before_the_boot_and_a_moment_ahead_is_now() {
    let mut dispatch = dispatch(FOR_EVER);
    let day = 86_400;
    dispatch.accept(job(Row { accepted_at: wall(2 * day), ..row(1, "nf-1") }, 0, false), wall(day));
    assert_eq!(dispatch.pending(at(0)).oldest, Some(Duration::ZERO));
    dispatch.accept(job(row(2, "nf-2"), 0, false), wall(day));
    assert_eq!(dispatch.pending(at(0)).oldest, Some(Duration::from_secs(day)), "booted 1000 s ago");
}

#[test]
fn notices_leave_in_portions_oldest_first_and_once() {
    let mut dispatch = waiting(1_200);
    break_down(&mut dispatch);
    assert!(dispatch.notices(at(4)).is_empty(), "nobody has waited for 5 s");
    let mut told = Vec::new();
    for portion in [500, 500, 200, 0] {
        let notices = dispatch.notices(at(5));
        assert_eq!(notices.len(), portion);
        told.extend(notices.iter().map(|notice| notice.row.seq));
    }
    assert_eq!(told, (1..=1_200).collect::<Vec<_>>());
}

#[test]
fn another_reason_is_told_to_all_again_even_in_the_middle_of_a_walk() {
    let mut dispatch = waiting(1_200);
    break_down(&mut dispatch);
    assert_eq!(dispatch.notices(at(5)).len(), 500);
    let probe = due(&mut dispatch, 1, 5).remove(0);
    dispatch.report(probe, retry(Reason::SinkAuth), at(5), 0.0);
    let mut last = HashMap::new();
    loop {
        let notices = dispatch.notices(at(6));
        if notices.is_empty() {
            break;
        }
        last.extend(notices.into_iter().map(|notice| (notice.row.seq, notice.reason)));
    }
    for seq in 1..=1_200 {
        let own = (2..=5).contains(&seq);
        let reason = if own { Reason::SinkUnavailable } else { Reason::SinkAuth };
        assert_eq!(last.get(&seq).copied().unwrap_or(Reason::SinkUnavailable), reason, "{seq}");
    }
}

#[test]
fn one_that_waits_for_itself_is_told_while_the_sink_is_well() {
    let mut dispatch = waiting(3);
    let group = due(&mut dispatch, 3, 0);
    for job in group {
        let outcome = if job.row.seq == 1 { retry(Reason::SinkThrottled) } else { delivered() };
        dispatch.report(job, outcome, at(0), 1.0);
    }
    assert_eq!(dispatch.trouble(), None);
    assert!(dispatch.notices(at(4)).is_empty());
    let notices = dispatch.notices(at(5));
    assert_eq!((notices.len(), notices[0].reason), (1, Reason::SinkThrottled));
    assert!(dispatch.notices(at(6)).is_empty());
}

#[test]
fn after_a_panic_each_of_the_group_goes_alone_and_the_second_alone_is_refused() {
    let mut dispatch = waiting(4);
    for job in due(&mut dispatch, 3, 0) {
        assert!(dispatch.panicked(job, false, at(0), 0.0).is_none());
    }
    assert_eq!(dispatch.circuit(at(0)), Circuit::Closed);
    let mut refused = Vec::new();
    let mut groups = Vec::new();
    while !dispatch.is_empty() {
        let mut group = due(&mut dispatch, 64, 0);
        groups.push(seqs(&group));
        if group[0].row.seq == 2 {
            assert!(group[0].doubtful, "its effect may be there");
            refused.extend(dispatch.panicked(group.remove(0), true, at(0), 0.0));
        }
        for job in group {
            dispatch.report(job, delivered(), at(0), 0.5);
        }
    }
    assert!(groups.iter().all(|group| group.len() == 1 || group.iter().all(|seq| *seq > 3)), "{groups:?}");
    assert_eq!(groups.iter().filter(|group| **group == [2]).count(), 2);
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].fate, refused[0].reason), (Fate::Refused, Some(Reason::CrashSuspect)));
}

#[test]
fn a_probe_that_panics_is_no_verdict() {
    let mut dispatch = waiting(7);
    break_down(&mut dispatch);
    let probe = due(&mut dispatch, 64, 5).remove(0);
    assert!(dispatch.panicked(probe, true, at(5), 1.0).is_none());
    assert_eq!(seqs(&due(&mut dispatch, 64, 5)), [2]);
}

#[test]
fn a_newer_intent_for_the_same_target_ends_the_waiting_one() {
    let mut dispatch = dispatch(Pace { max_age: Duration::ZERO, coalesce: true });
    dispatch.accept(job(row(1, "nf"), 0, true), NOON);
    let out = due(&mut dispatch, 1, 0).remove(0);
    assert!(dispatch.accept(job(row(2, "nf"), 0, true), NOON).is_none(), "1 is out");
    let ended = dispatch.accept(job(row(3, "nf"), 0, true), NOON).unwrap();
    assert_eq!((ended.fate, ended.related), (Fate::Superseded, Some(Id::derive(&[7; 16], 3))));
    dispatch.report(out, delivered(), at(0), 0.5);
    assert_eq!((dispatch.len(), dispatch.held), (1, 1));
    assert_eq!(seqs(&due(&mut dispatch, 1, 0)), [3]);
}

#[test]
fn a_row_without_target_or_digest_is_refused() {
    let mut dispatch = dispatch(FOR_EVER);
    for row in [Row { target: None, ..row(1, "nf") }, Row { sha: None, ..row(2, "nf") }] {
        assert_eq!(dispatch.accept(job(row, 0, true), NOON).unwrap().fate, Fate::Refused);
    }
    assert!(dispatch.is_empty());
}

proptest! {
    /// Whatever becomes of the jobs: each ends once, those of a target are sent in order and one at a
    /// time, groups and probes keep their size, and all counts are right at every moment.
    #[test]
    fn every_job_ends_once_and_in_order_of_its_target(
        acts in proptest::collection::vec((0u8..10, 0u8..6, 1usize..5, 0.0f64..1.0), 1..300),
        coalesce: bool,
    ) {
        let max_age = Duration::from_secs(200);
        let mut dispatch = dispatch(Pace { max_age, coalesce });
        let (mut out, mut ended) = (Vec::<Job>::new(), Vec::<Finished>::new());
        let (mut accepted, mut now) = (0, 0);
        for (act, kind, room, chance) in acts {
            now += u64::from(kind);
            match act {
                0..=2 => {
                    accepted += 1;
                    let accepted_at = wall(now);
                    let row = Row { accepted_at, priority: kind * 2, ..row(accepted, &format!("nf-{kind}")) };
                    ended.extend(dispatch.accept(job(row, now, kind % 2 == 0), wall(now)));
                }
                3..=5 => {
                    let half_open = dispatch.circuit(at(now)) != Circuit::Closed;
                    let group = dispatch.due(room, at(now), wall(now), &mut ended);
                    let most = if half_open { 1 } else { room };
                    prop_assert!(group.len() <= most);
                    prop_assert!(group.len() == 1 || group.iter().all(|job| !job.alone));
                    out.extend(group);
                }
                _ if out.is_empty() => {}
                _ => {
                    let job = out.swap_remove(room % out.len());
                    let gone = Unsent::Lost(String::new());
                    let busy = Unsent::Unreadable(String::new());
                    ended.extend(match kind {
                        0 | 1 => dispatch.report(job, delivered(), at(now), chance),
                        2 => dispatch.report(job, retry(Reason::SinkUnavailable), at(now), chance),
                        3 => dispatch.panicked(job, chance > 0.5, at(now), chance),
                        4 => dispatch.unsent(job, gone, at(now), chance),
                        _ => dispatch.unsent(job, busy, at(now), chance),
                    });
                }
            }
            let mut targets: Vec<_> = out.iter().map(|job| job.row.target.clone()).collect();
            targets.sort_unstable();
            targets.dedup();
            prop_assert_eq!(targets.len(), out.len());
            let waiting = dispatch.lanes.len();
            prop_assert_eq!(dispatch.out(), out.len());
            prop_assert_eq!(dispatch.len(), waiting + out.len());
            prop_assert_eq!(dispatch.len() + ended.len(), usize::try_from(accepted).unwrap());
            prop_assert_eq!(dispatch.pending(at(now)).by_class.iter().sum::<u64>(), dispatch.len() as u64);
            prop_assert!(!dispatch.is_empty() || dispatch.trouble().is_none());
        }
        while !dispatch.is_empty() {
            now += 120;
            out.extend(dispatch.due(2, at(now), wall(0), &mut ended));
            for job in out.drain(..) {
                ended.extend(dispatch.report(job, delivered(), at(now), 0.5));
            }
        }
        prop_assert_eq!(dispatch.held, 0);
        let mut last = HashMap::new();
        for end in ended.iter().filter(|end| end.fate != Fate::Superseded) {
            let before = last.insert(end.job.row.target.clone(), end.job.row.seq);
            prop_assert!(before.is_none_or(|before| before < end.job.row.seq));
        }
        let mut all: Vec<u64> = ended.iter().map(|end| end.job.row.seq).collect();
        all.sort_unstable();
        prop_assert_eq!(all, (1..=accepted).collect::<Vec<_>>());
    }
}

#[test]
fn a_held_intent_is_told_once_without_a_next_attempt_and_expires_with_its_line_behind_it() {
    let mut dispatch = dispatch(Pace { max_age: Duration::from_secs(300), coalesce: false });
    for seq in 1..=2 {
        dispatch.accept(job(row(seq, "nf"), 0, false), NOON);
    }
    let out = due(&mut dispatch, 1, 0).remove(0);
    let message = "look".to_owned();
    let outcome = Outcome::Held { reason: Reason::CliTimeout, message, tried: Tried::Perhaps, again: None };
    assert!(dispatch.report(out, outcome, at(0), 0.0).is_none());
    assert_eq!((dispatch.circuit(at(0)), dispatch.trouble()), (Circuit::Closed, None));
    let notices = dispatch.notices(at(10));
    assert_eq!((notices.len(), notices[0].reason, notices[0].next_attempt), (1, Reason::CliTimeout, None));
    let mut ended = Vec::new();
    for minute in 1..=5 {
        assert!(
            dispatch.due(64, at(minute * 60), wall(minute * 60), &mut ended).is_empty() && ended.is_empty()
        );
    }
    let next = dispatch.due(64, at(360), wall(299), &mut ended);
    assert!(next.is_empty() && ended.is_empty(), "looked at once a minute");
    let next = dispatch.due(64, at(420), wall(301), &mut ended);
    assert_eq!(
        ended.iter().map(|end| (end.job.row.seq, end.fate)).collect::<Vec<_>>(),
        [(1, Fate::Expired), (2, Fate::Expired)]
    );
    assert!(next.is_empty() && dispatch.is_empty());
}

#[test]
fn what_is_held_goes_on_at_once_when_it_is_permitted_and_is_held_again_if_need_be() {
    let mut dispatch = dispatch(FOR_EVER);
    let held = |dispatch: &mut Dispatch, now| {
        let out = due(dispatch, 1, now).remove(0);
        let told = (out.row.seq, out.attempts, out.doubtful, out.permitted);
        let message = "look".to_owned();
        let outcome =
            Outcome::Held { reason: Reason::CliTimeout, message, tried: Tried::Perhaps, again: None };
        assert!(dispatch.report(out, outcome, at(now), 0.0).is_none());
        told
    };
    for seq in 1..=2 {
        dispatch.accept(job(row(seq, "nf"), 0, false), NOON);
    }
    let target = Arc::new(row(1, "nf").target.unwrap());
    assert!(!dispatch.is_held(&target, 1), "it waits for its turn");
    assert_eq!(held(&mut dispatch, 0), (1, 1, false, false));
    assert!(dispatch.is_held(&target, 1) && !dispatch.is_held(&target, 2) && !dispatch.is_held(&target, 3));
    dispatch.permit(&target, 2);
    assert!(due(&mut dispatch, 1, 1).is_empty());
    dispatch.permit(&target, 1);
    assert_eq!(held(&mut dispatch, 1), (1, 2, true, true));
    assert!(due(&mut dispatch, 1, 2).is_empty() && dispatch.is_held(&target, 1));
    dispatch.permit(&target, 1);
    let out = due(&mut dispatch, 1, 2).remove(0);
    assert!(dispatch.report(out, delivered(), at(2), 0.0).is_some());
    assert_eq!(due(&mut dispatch, 1, 2)[0].row.seq, 2);
}

#[test]
fn what_is_held_for_a_while_is_sent_again_then_and_never_opens_the_circuit() {
    let mut dispatch = waiting(30);
    for job in due(&mut dispatch, 30, 0) {
        let message = "create the namespace".to_owned();
        let again = Some(Duration::from_secs(300));
        let outcome =
            Outcome::Held { reason: Reason::SinkUnavailable, message, tried: Tried::Perhaps, again };
        assert!(dispatch.report(job, outcome, at(0), 0.0).is_none());
    }
    assert_eq!((dispatch.circuit(at(0)), dispatch.trouble()), (Circuit::Closed, None));
    dispatch.accept(job(row(31, "good"), 1, false), NOON);
    assert_eq!(due(&mut dispatch, 30, 1).len(), 1);
    assert!(due(&mut dispatch, 30, 299).is_empty());
    let second = due(&mut dispatch, 30, 300);
    assert_eq!(second.len(), 30);
    assert!(second.iter().all(|job| job.attempts == 2 && job.doubtful));
}
