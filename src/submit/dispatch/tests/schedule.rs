//! When what failed is tried again: time is injected and chance seeded.

use super::*;

const SECOND: u64 = 1_000_000_000;

fn xorshift(seed: &mut u64) -> f64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    (*seed >> 11) as f64 / (1u64 << 53) as f64
}

fn throttled(after: Duration) -> Outcome {
    let (reason, message) = (Reason::SinkThrottled, "slower".to_owned());
    Outcome::Retry { reason, message, after: Some(after), tried: Tried::WithoutEffect }
}

/// When attempts began while a sink failed, until nothing was left, at most `most` of them.
fn attempts(
    dispatch: &mut Dispatch,
    most: usize,
    seed: &mut u64,
    answer: impl Fn() -> Outcome,
) -> Vec<(Mono, usize)> {
    let (mut began, mut now, mut ended) = (Vec::new(), at(0), Vec::new());
    while !dispatch.is_empty() && began.len() < most {
        let wall = NOON.after(now.since(at(0)));
        let group = dispatch.due(1_000, now, wall, &mut ended);
        if !group.is_empty() {
            began.push((now, group.len()));
        }
        for job in group {
            assert!(dispatch.report(job, answer(), now, xorshift(seed)).is_none());
        }
        match dispatch.next_due(now) {
            Some(due) => now = due.max(Mono(now.0 + 1)),
            None => assert!(dispatch.is_empty()),
        }
    }
    began
}

proptest! {
    #[test]
    fn a_retry_waits_between_nothing_and_the_bound_of_its_attempt(seed in 1u64.., attempt in 1u32..40) {
        let mut seed = seed;
        let bound = Duration::from_secs(1 << (attempt - 1).min(6)).min(Duration::from_secs(60));
        let mut dispatch = waiting(1);
        let mut job = due(&mut dispatch, 1, 0).remove(0);
        job.attempts = attempt;
        dispatch.report(job, retry(Reason::SinkUnavailable), at(0), xorshift(&mut seed));
        let wait = dispatch.next_due(at(0)).unwrap().since(at(0));
        prop_assert!(wait <= bound, "{wait:?} after attempt {attempt}");
    }

    /// A sink that fails all the time gets no more than the breaker lets through, is never given up before
    /// `max_age`, and every job ends then.
    #[test]
    fn nobody_gives_up_before_max_age_and_the_sink_is_not_flooded(
        seed in 1u64..,
        jobs in 1u64..40,
        minutes in 10u64..200,
    ) {
        let mut seed = seed;
        let max_age = Duration::from_secs(minutes * 60);
        let mut dispatch = dispatch(Pace { max_age, coalesce: false });
        for seq in 1..=jobs {
            dispatch.accept(job(row(seq, &format!("nf-{seq}")), 0, false), NOON);
        }
        let began = attempts(&mut dispatch, 10_000, &mut seed, || retry(Reason::SinkUnavailable));
        prop_assert!(dispatch.is_empty(), "all ended");
        let first = began.iter().take_while(|(when, _)| when.since(at(0)) < Duration::from_secs(5)).count();
        let sent: usize = began.iter().map(|(_, group)| group).sum();
        prop_assert!(first <= 5 || jobs < 5);
        let probes = began.iter().filter(|(when, _)| when.since(at(0)) >= Duration::from_secs(60));
        for (_, group) in probes.clone() {
            prop_assert_eq!(*group, 1, "one probe at a time");
        }
        let pauses = 6 + minutes * 60 / 120 + 1;
        prop_assert!(sent as u64 <= jobs.max(5) + 4 + pauses, "{} attempts", sent);
        let last = began.last().unwrap().0;
        prop_assert!(last <= at(0).after(max_age));
        // The longest pause and the longest backoff together.
        prop_assert!(last.after(Duration::from_secs(180)) >= at(0).after(max_age), "it gave up early");
    }

    /// With the breaker out of play: one job, whose waits are nothing but backoff.
    #[test]
    fn jitter_is_full_and_its_mean_is_half_of_the_bound(seed in 1u64..) {
        let mut seed = seed;
        let mut waits = Vec::new();
        for _ in 0..400 {
            let mut dispatch = waiting(1);
            let mut job = due(&mut dispatch, 1, 0).remove(0);
            job.attempts = 20;
            dispatch.report(job, retry(Reason::SinkUnavailable), at(0), xorshift(&mut seed));
            waits.push(dispatch.next_due(at(0)).unwrap().since(at(0)).as_secs_f64());
        }
        let mean = waits.iter().sum::<f64>() / 400.0;
        prop_assert!((24.0..36.0).contains(&mean), "{mean}");
        prop_assert!(waits.iter().any(|wait| *wait < 10.0) && waits.iter().any(|wait| *wait > 50.0));
    }

    /// Retry-After is obeyed by all jobs, whatever the breaker thinks, within 0.5 s and 10 min.
    #[test]
    fn nothing_goes_to_a_throttled_sink_before_the_moment_that_it_named(
        seed in 1u64..,
        asked in 0u64..2_000,
        jobs in 1u64..20,
    ) {
        let mut seed = seed;
        let least = Duration::from_secs(asked).clamp(Duration::from_millis(500), Duration::from_secs(600));
        let mut dispatch = waiting(jobs);
        let began =
            attempts(&mut dispatch, 12, &mut seed, || throttled(Duration::from_secs(asked)));
        for pair in began.windows(2) {
            prop_assert!(pair[1].0.since(pair[0].0) >= least);
        }
    }
}

#[test]
fn a_success_elsewhere_does_not_shorten_what_the_sink_asked_for() {
    let mut dispatch = waiting(3);
    let mut group = due(&mut dispatch, 2, 0);
    let last = group.pop().unwrap();
    dispatch.report(group.remove(0), throttled(Duration::from_secs(90)), at(0), 0.0);
    dispatch.report(last, delivered(), at(0), 0.0);
    assert!(due(&mut dispatch, 64, 89).is_empty());
    assert_eq!(dispatch.next_due(at(30)), Some(Mono(at(0).0 + 90 * SECOND)));
    assert_eq!(seqs(&due(&mut dispatch, 64, 90)), [1, 3]);
}

#[test]
fn after_an_outage_the_limit_begins_at_one_and_doubles() {
    let abilities = Abilities { parallel: 8, ..by_target(1) };
    let mut dispatch = Dispatch::new(FOR_EVER, SinkKind::Exec, abilities);
    for seq in 1..=60 {
        dispatch.accept(job(row(seq, &format!("nf-{seq}")), 0, false), NOON);
    }
    assert_eq!(dispatch.limit(), 8);
    for _ in 0..5 {
        let job = due(&mut dispatch, 1, 0).remove(0);
        dispatch.answered(Duration::from_millis(20), true);
        dispatch.report(job, retry(Reason::SinkUnavailable), at(0), 0.0);
    }
    let mut seen = Vec::new();
    for _ in 0..41 {
        let job = due(&mut dispatch, 1, 5).remove(0);
        dispatch.answered(Duration::from_millis(20), false);
        dispatch.report(job, delivered(), at(5), 0.0);
        seen.push(dispatch.limit());
    }
    assert_eq!(seen[..10], [1; 10], "the probe, and nine more");
    assert_eq!((seen[10], seen[19], seen[20], seen[30], seen[40]), (2, 2, 4, 8, 8));
}

#[test]
fn a_repeat_that_is_one_too_many_waits_for_the_next_second_and_first_attempts_do_not() {
    let mut dispatch = waiting(400);
    for (turn, job) in due(&mut dispatch, 400, 0).into_iter().enumerate() {
        let outcome = if turn % 3 == 0 { retry(Reason::SinkUnavailable) } else { delivered() };
        dispatch.report(job, outcome, at(0), 1.0);
    }
    assert_eq!((dispatch.len(), dispatch.circuit(at(0))), (134, Circuit::Closed));
    dispatch.accept(job(row(401, "new"), 1, false), NOON);
    let sent = due(&mut dispatch, 500, 1);
    // 100 of 501 are a fifth.
    assert_eq!(sent.iter().filter(|job| job.attempts == 2).count(), 100);
    assert!(sent.iter().any(|job| job.row.seq == 401), "a first attempt is never denied");
    assert_eq!(dispatch.next_due(at(1)), Some(at(2)));
    let mut left = 34;
    for second in 2..6 {
        left -= due(&mut dispatch, 500, second).len();
    }
    assert_eq!(left, 0, "ten a second go whatever the share is");
}
