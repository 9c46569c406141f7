//! Groups of one package.

use super::*;

const ONE_BY_ONE: Pace = FOR_EVER;
const LATEST: Pace = Pace { max_age: Duration::ZERO, coalesce: true };

fn by_package(group: usize, window: u64) -> Abilities {
    Abilities { parallel: 4, group, gather: Gather::Package, window: Duration::from_secs(window) }
}

fn shared(pace: Pace, group: usize, window: u64) -> Dispatch {
    Dispatch::new(pace, SinkKind::Porch, by_package(group, window))
}

/// Job `seq` for `name` in `package`, arrived so many seconds after noon.
fn of(package: &str, seq: u64, name: &str, seconds: u64) -> Job {
    let mut job = job(row(seq, name), seconds, false);
    job.package = Some(package.to_owned());
    job
}

/// Jobs 1, 2, … of these names, all of package `p`, arrived at noon.
fn line(pace: Pace, names: &[&str]) -> Dispatch {
    let mut dispatch = shared(pace, 64, 0);
    for (seq, name) in (1..).zip(names) {
        assert!(dispatch.accept(of("p", seq, name, 0), NOON).is_none());
    }
    dispatch
}

fn all_delivered(dispatch: &mut Dispatch, group: Vec<Job>) {
    for job in group {
        assert!(dispatch.report(job, delivered(), at(0), 0.5).is_some());
    }
}

#[test]
fn a_group_is_of_one_package_and_different_targets_in_acceptance_order() {
    let mut dispatch = line(ONE_BY_ONE, &["a", "b", "a", "c", "b", "d"]);
    dispatch.accept(of("q", 7, "e", 0), NOON);
    let first = due(&mut dispatch, 64, 0);
    assert_eq!(seqs(&first), [1, 2, 4, 6]);
    assert_eq!(seqs(&due(&mut dispatch, 64, 0)), [7], "another package meanwhile");
    assert!(due(&mut dispatch, 64, 0).is_empty(), "one group of a package is out at a time");
    all_delivered(&mut dispatch, first);
    assert_eq!(seqs(&due(&mut dispatch, 1, 0)), [3], "no more than there is room for");
}

#[test]
fn the_second_intent_of_a_target_waits_behind_one_that_is_tried_again() {
    let mut dispatch = line(ONE_BY_ONE, &["a", "b", "a"]);
    for job in due(&mut dispatch, 64, 0) {
        let outcome = if job.row.seq == 1 { retry(Reason::SinkUnavailable) } else { delivered() };
        dispatch.report(job, outcome, at(0), 1.0);
    }
    dispatch.accept(of("p", 4, "c", 0), NOON);
    assert!(due(&mut dispatch, 64, 0).is_empty(), "the package waits");
    let again = due(&mut dispatch, 64, 1);
    assert_eq!(seqs(&again), [1, 4]);
    all_delivered(&mut dispatch, again);
    assert_eq!(seqs(&due(&mut dispatch, 64, 1)), [3]);
}

#[test]
fn one_group_is_one_verdict_on_the_sink() {
    let mut dispatch = line(ONE_BY_ONE, &["a", "b", "c", "d", "e", "f", "g"]);
    for attempt in 1..=5 {
        assert_eq!(dispatch.circuit(at(0)), Circuit::Closed, "before attempt {attempt}");
        let group = due(&mut dispatch, 64, 0);
        assert_eq!(group.len(), 7);
        for job in group {
            dispatch.report(job, retry(Reason::SinkUnavailable), at(0), 0.0);
        }
    }
    assert_eq!(dispatch.circuit(at(0)), Circuit::Open);
    let probe = due(&mut dispatch, 64, 5);
    assert_eq!(seqs(&probe), [1], "a probe is one intent");
    all_delivered(&mut dispatch, probe);
    assert_eq!(seqs(&due(&mut dispatch, 64, 5)), [2, 3, 4, 5, 6, 7], "in their old order");
}

#[test]
fn what_waits_for_itself_holds_back_its_own_target_alone() {
    let mut dispatch = line(ONE_BY_ONE, &["a", "b", "a", "c"]);
    let message = "look".to_owned();
    for job in due(&mut dispatch, 64, 0) {
        let held = Outcome::Held {
            reason: Reason::CliTimeout,
            message: message.clone(),
            tried: Tried::Perhaps,
            again: None,
        };
        let outcome = if job.row.seq == 1 { held } else { delivered() };
        dispatch.report(job, outcome, at(0), 0.0);
    }
    dispatch.accept(of("p", 5, "d", 0), NOON);
    assert_eq!(seqs(&due(&mut dispatch, 64, 0)), [5], "3 waits behind 1");
}

#[test]
fn the_first_of_a_package_at_rest_waits_for_company_and_no_longer_than_the_window() {
    let mut dispatch = shared(ONE_BY_ONE, 3, 10);
    dispatch.accept(of("p", 1, "a", 0), NOON);
    dispatch.accept(of("q", 2, "a2", 2), NOON);
    dispatch.accept(of("p", 3, "b", 8), NOON);
    assert!(due(&mut dispatch, 64, 9).is_empty());
    assert_eq!(dispatch.next_due(at(9)), Some(at(10)));
    let group = due(&mut dispatch, 64, 10);
    assert_eq!(seqs(&group), [1, 3], "from its first, not from its last");
    dispatch.accept(of("p", 4, "c", 10), NOON);
    all_delivered(&mut dispatch, group);
    assert_eq!(seqs(&due(&mut dispatch, 64, 10)), [4], "what gathered while it was busy goes at once");
    for (seq, name) in [(5, "a"), (6, "b"), (7, "c")] {
        assert!(due(&mut dispatch, 64, 11).is_empty());
        dispatch.accept(of("r", seq, name, 11), NOON);
    }
    assert_eq!(seqs(&due(&mut dispatch, 64, 11)), [5, 6, 7], "a full group waits for nobody");
}

#[test]
fn a_chain_of_newer_intents_keeps_the_place_of_the_first_and_each_has_its_own_end() {
    let mut dispatch = shared(LATEST, 1, 0);
    dispatch.accept(of("p", 1, "a", 0), NOON);
    dispatch.accept(of("q", 2, "b", 1), NOON);
    let ended: Vec<_> =
        (3..=5).filter_map(|seq| dispatch.accept(of("p", seq, "a", 10 * seq), NOON)).collect();
    let superseded: Vec<_> = ended.iter().map(|end| (end.job.row.seq, end.fate, end.related)).collect();
    let by = |seq| Some(Id::derive(&[7; 16], seq));
    let expected = [(1, 3), (3, 4), (4, 5)].map(|(old, new)| (old, Fate::Superseded, by(new)));
    assert_eq!(superseded, expected);
    assert_eq!(seqs(&due(&mut dispatch, 1, 60)), [5], "before 2, which came after 1");
    assert_eq!(seqs(&due(&mut dispatch, 1, 60)), [2]);
}

#[test]
fn a_newer_intent_does_not_shorten_the_wait_that_the_sink_asked_for() {
    for out in [true, false] {
        let mut dispatch = line(LATEST, &["a"]);
        let job = due(&mut dispatch, 1, 0).remove(0);
        if out {
            assert!(dispatch.accept(of("p", 2, "a", 0), NOON).is_none(), "1 is out");
        }
        let (reason, message) = (Reason::SinkUnavailable, String::new());
        let after = Some(Duration::from_secs(60));
        let outcome = Outcome::Retry { reason, message, after, tried: Tried::WithoutEffect };
        let overtaken = dispatch.report(job, outcome, at(0), 0.0);
        let overtaken = overtaken.or_else(|| dispatch.accept(of("p", 2, "a", 0), NOON)).unwrap();
        assert_eq!((overtaken.job.row.seq, overtaken.fate), (1, Fate::Superseded));
        assert!(due(&mut dispatch, 1, 59).is_empty());
        assert_eq!(seqs(&due(&mut dispatch, 1, 60)), [2]);
    }
}

#[test]
fn what_a_restart_brings_back_is_spread_and_keeps_its_order() {
    let mut dispatch = shared(ONE_BY_ONE, 64, 0);
    for (seq, package, name, wait) in
        [(1, "p", "a", 20), (2, "p", "b", 3), (3, "q", "c", 5), (4, "p", "a", 0)]
    {
        dispatch.resume(of(package, seq, name, 0), NOON, Duration::from_secs(wait));
    }
    dispatch.accept(of("p", 5, "d", 1), NOON);
    assert!(due(&mut dispatch, 64, 4).is_empty());
    assert_eq!(seqs(&due(&mut dispatch, 64, 5)), [3]);
    assert_eq!(seqs(&due(&mut dispatch, 64, 20)), [1, 2, 5]);
}

proptest! {
    /// Whatever becomes of the jobs: one group of a package is out at a time, it is of that package alone and
    /// of different targets, each job ends once, and those of a target leave in order.
    #[test]
    fn packages_keep_order_and_lose_nothing(
        acts in proptest::collection::vec((0u8..10, 0u8..12, 1usize..6, 0.0f64..1.0), 1..300),
        coalesce: bool,
        window in 0u64..4,
    ) {
        let pace = Pace { max_age: Duration::from_secs(400), coalesce };
        let mut dispatch = shared(pace, 4, window);
        let (mut out, mut ended) = (Vec::<Vec<Job>>::new(), Vec::<Finished>::new());
        let (mut accepted, mut now) = (0u64, 0);
        for (act, kind, room, chance) in acts {
            now += u64::from(kind) / 3;
            match act {
                0..=3 => {
                    accepted += 1;
                    let (package, name) = (format!("p{}", kind % 3), format!("nf-{kind}"));
                    let row = Row { accepted_at: wall(now), ..row(accepted, &name) };
                    let mut job = job(row, now, false);
                    job.package = Some(package);
                    ended.extend(dispatch.accept(job, wall(now)));
                }
                4..=6 => {
                    let half_open = dispatch.circuit(at(now)) != Circuit::Closed;
                    let group = dispatch.due(room, at(now), wall(now), &mut ended);
                    let most = if half_open { 1 } else { room };
                    prop_assert!(group.len() <= most);
                    prop_assert!(group.len() <= 1 || group.iter().all(|job| !job.alone));
                    prop_assert!(group.iter().map(|job| job.row.seq).is_sorted());
                    if !group.is_empty() {
                        out.push(group);
                    }
                }
                _ if out.is_empty() => {}
                _ => {
                    let group = out.swap_remove(room % out.len());
                    let alone = group.len() == 1;
                    for (number, job) in group.into_iter().enumerate() {
                        let odd = number % 2 == 1;
                        ended.extend(match kind {
                            0..=4 => dispatch.report(job, delivered(), at(now), chance),
                            5 if odd => dispatch.report(job, delivered(), at(now), chance),
                            5 | 6 => dispatch.report(job, retry(Reason::SinkUnavailable), at(now), chance),
                            7 | 8 => dispatch.report(job, retry(Reason::AwaitingApproval), at(now), chance),
                            9 => dispatch.panicked(job, alone, at(now), chance),
                            10 => dispatch.unsent(job, Unsent::Unreadable(String::new()), at(now), chance),
                            _ => dispatch.unsent(job, Unsent::Lost(String::new()), at(now), chance),
                        });
                    }
                }
            }
            let kinds = |group: &[Job]| -> Vec<u64> {
                let name = |job: &Job| job.row.target.as_ref().unwrap().name.clone();
                group.iter().map(|job| name(job).trim_start_matches("nf-").parse().unwrap()).collect()
            };
            let mut packages: Vec<u64> = out.iter().map(|group| kinds(group)[0] % 3).collect();
            for (group, package) in out.iter().zip(&packages) {
                let mut kinds = kinds(group);
                prop_assert!(kinds.iter().all(|kind| kind % 3 == *package));
                kinds.sort_unstable();
                kinds.dedup();
                prop_assert_eq!(kinds.len(), group.len());
            }
            packages.sort_unstable();
            packages.dedup();
            prop_assert_eq!(packages.len(), out.len());
            prop_assert_eq!(dispatch.out(), out.iter().map(Vec::len).sum::<usize>());
            prop_assert_eq!(dispatch.len(), dispatch.lanes.len() + dispatch.out());
            prop_assert_eq!(dispatch.len() + ended.len(), usize::try_from(accepted).unwrap());
        }
        let mut rounds = 0;
        while !dispatch.is_empty() {
            now += 120;
            rounds += 1;
            prop_assert!(rounds < 2_000, "it never ends");
            out.push(dispatch.due(2, at(now), wall(0), &mut ended));
            for job in out.drain(..).flatten() {
                ended.extend(dispatch.report(job, delivered(), at(now), 0.5));
            }
        }
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
