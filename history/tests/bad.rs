//! Goal: each kind of broken promise is found, by its name, and what only looks like one is not.

#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests"
)]

mod world;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ticketlock_history::{Event, History, Mode, Property, Time, Unlocked, What};
use world::{NEVER, Random};

fn s(seconds: u64) -> Time {
    Duration::from_secs(seconds)
}

/// One key's story: (second, request, what).
fn story(lines: &[(u64, u64, What)]) -> History {
    let key: Arc<str> = "key".into();
    let event = |(at, request, what): &(u64, u64, What)| Event {
        at: s(*at),
        key: Arc::clone(&key),
        request: *request,
        what: what.clone(),
    };
    History {
        events: lines.iter().map(event).collect(),
        complete: true,
    }
}

const ASKED: What = What::Asked(Mode::Exclusive);
const SHARED: What = What::Asked(Mode::Shared);
const RELEASED: What = What::Unlocked(Unlocked::Released);

fn granted(token: u64) -> What {
    What::Granted { token, until: NEVER }
}

fn leased(token: u64, until: u64) -> What {
    What::Granted { token, until: s(until) }
}

fn saw(sent: u64, tokens: &[u64]) -> What {
    What::Saw {
        sent: s(sent),
        tokens: tokens.to_vec(),
    }
}

#[track_caller]
fn found(lines: &[(u64, u64, What)], property: Property) {
    let violations = story(lines).violations();
    let names: Vec<Property> = violations.iter().map(|it| it.property).collect();
    assert!(names.contains(&property), "{property} is not among {violations:?}");
}

#[track_caller]
fn fine(lines: &[(u64, u64, What)]) {
    assert_eq!(story(lines).violations(), []);
}

#[test]
fn two_that_hold_at_once() {
    let both = [(1, 1, ASKED), (2, 1, granted(1)), (3, 2, ASKED), (4, 2, granted(2))];
    found(&both, Property::MutualExclusion);
}

#[test]
fn a_read_that_shows_two_exclusive_holders() {
    let mut lines = vec![
        (1, 1, ASKED),
        (2, 1, granted(1)),
        (3, 1, What::Unlocking),
        (4, 2, ASKED),
    ];
    lines.extend([(5, 2, granted(2)), (6, 1, RELEASED), (7, 3, saw(2, &[1, 2]))]);
    found(&lines, Property::MutualExclusion);
}

#[test]
fn a_hold_of_no_certain_length_that_was_released() {
    let mut lines = vec![(1, 1, ASKED), (2, 1, leased(1, 2)), (3, 2, ASKED), (4, 2, granted(2))];
    lines.extend([(5, 1, What::Unlocking), (6, 1, RELEASED)]);
    found(&lines, Property::MutualExclusion);
}

#[test]
fn an_unlock_that_came_after_the_next_grant() {
    let late = [
        (1, 1, ASKED),
        (2, 1, granted(1)),
        (3, 2, ASKED),
        (4, 2, granted(2)),
        (5, 1, What::Unlocking),
        (6, 1, RELEASED),
    ];
    found(&late, Property::MutualExclusion);
}

#[test]
fn a_reader_beside_a_writer() {
    let both = [(1, 1, SHARED), (2, 1, granted(1)), (3, 2, ASKED), (4, 2, granted(2))];
    found(&both, Property::MutualExclusion);
    let readers = [(1, 1, SHARED), (2, 1, granted(1)), (3, 2, SHARED), (4, 2, granted(2))];
    fine(&readers);
}

#[test]
fn more_permits_than_there_are() {
    let of = |permits| What::Asked(Mode::Permits { permits, capacity: 3 });
    let over = [(1, 1, of(2)), (2, 1, granted(1)), (3, 2, of(2)), (4, 2, granted(2))];
    found(&over, Property::MutualExclusion);
    let within = [(1, 1, of(2)), (2, 1, granted(1)), (3, 2, of(1)), (4, 2, granted(2))];
    fine(&within);
}

#[test]
fn a_token_given_twice() {
    let twice = [
        (1, 1, ASKED),
        (2, 1, granted(7)),
        (3, 1, What::Unlocking),
        (4, 1, RELEASED),
        (5, 2, ASKED),
        (6, 2, granted(7)),
    ];
    found(&twice, Property::TokenGrowth);
}

#[test]
fn a_token_that_shrank() {
    let shrank = [
        (1, 1, ASKED),
        (2, 1, granted(7)),
        (3, 1, What::Unlocking),
        (4, 1, RELEASED),
        (5, 2, ASKED),
        (6, 2, granted(6)),
    ];
    found(&shrank, Property::TokenGrowth);
}

#[test]
fn one_that_was_passed() {
    let passed = [
        (1, 1, ASKED),
        (2, 1, granted(1)),
        (3, 2, ASKED),
        (4, 2, What::Queued),
        (5, 3, ASKED),
        (6, 3, What::Queued),
        (7, 1, What::Unlocking),
        (8, 1, RELEASED),
        (9, 3, granted(2)),
        (10, 3, What::Unlocking),
        (11, 3, RELEASED),
        (12, 2, granted(3)),
    ];
    found(&passed, Property::Fifo);
    // Nobody knows the order of two that asked before either was answered; one that was away may be passed.
    let mut together = passed.clone();
    together[4].0 = 3;
    fine(&together);
    let mut away = passed.to_vec();
    away.push((5, 2, What::Away));
    fine(&away);
}

#[test]
fn one_that_was_passed_and_never_granted() {
    let passed = [
        (1, 1, ASKED),
        (2, 1, What::Queued),
        (3, 2, ASKED),
        (4, 2, granted(1)),
        (6, 1, What::Leaving),
    ];
    found(&passed, Property::Fifo);
    let mut left = passed.clone();
    left[4].0 = 3;
    fine(&left);
    // Readers are granted together, and one may go away before it hears of it.
    let mut together = passed.clone();
    together[0].2 = SHARED;
    together[2].2 = SHARED;
    fine(&together);
}

#[test]
fn a_lock_that_ended_before_its_lease() {
    let early = [(1, 1, ASKED), (2, 1, leased(1, 30)), (9, 1, What::Lost)];
    found(&early, Property::LeaseKept);
    // Who sends an unlock once it was told has still lost it.
    let mut late = early.to_vec();
    late.push((9, 1, What::Unlocking));
    found(&late, Property::LeaseKept);
    // Who gives up by its own clock harms nobody.
    let mut own = early.clone();
    own[2].2 = What::GaveUp;
    fine(&own);
    let mut in_time = early.clone();
    in_time[2].0 = 31;
    fine(&in_time);
}

#[test]
fn a_lock_that_was_gone_when_it_was_given_back() {
    let gone = [
        (1, 1, ASKED),
        (2, 1, leased(1, 30)),
        (3, 1, What::Unlocking),
        (4, 1, What::Unlocked(Unlocked::AlreadyReleased)),
    ];
    found(&gone, Property::LeaseKept);
    // A repeat of an unlock that was not answered may find it done.
    let mut repeat = gone.to_vec();
    repeat.insert(3, (4, 1, What::Unlocking));
    fine(&repeat);
}

#[test]
fn another_granted_within_the_lease() {
    let early = [(1, 1, ASKED), (2, 1, leased(1, 30)), (3, 2, ASKED), (29, 2, granted(2))];
    found(&early, Property::MutualExclusion);
    let mut in_time = early.clone();
    in_time[3].0 = 30;
    fine(&in_time);
    // Told of late: another one may have had it by then.
    let mut late = early.clone();
    late[1] = (30, 1, leased(1, 30));
    fine(&late);
    let mut renewed = in_time.to_vec();
    renewed.push((20, 1, What::Counts { until: s(40) }));
    found(&renewed, Property::MutualExclusion);
}

#[test]
fn a_token_that_was_forgotten() {
    let forgotten = [
        (1, 1, ASKED),
        (2, 1, granted(1)),
        (3, 1, What::Unlocking),
        (4, 1, What::Unlocked(Unlocked::NotFound)),
    ];
    found(&forgotten, Property::NothingLost);
}

#[test]
fn an_unlock_that_was_undone() {
    let undone = [
        (1, 1, ASKED),
        (2, 1, granted(1)),
        (3, 1, What::Unlocking),
        (4, 1, RELEASED),
        (6, 9, saw(5, &[1])),
    ];
    found(&undone, Property::NothingLost);
    let mut meanwhile = undone.clone();
    meanwhile[4].2 = saw(3, &[1]);
    fine(&meanwhile);
}

#[test]
fn a_hold_that_a_read_does_not_show() {
    let hidden = [(1, 1, ASKED), (2, 1, granted(1)), (5, 9, saw(4, &[]))];
    found(&hidden, Property::NothingLost);
    let shown = [(1, 1, ASKED), (2, 1, granted(1)), (5, 9, saw(4, &[1]))];
    fine(&shown);
}

#[test]
fn one_unlock_with_two_effects() {
    let twice = [
        (1, 1, ASKED),
        (2, 1, granted(1)),
        (3, 1, What::Unlocking),
        (4, 1, RELEASED),
        (5, 1, What::Unlocking),
        (6, 1, RELEASED),
    ];
    found(&twice, Property::ExactlyOnce);
}

#[test]
fn one_request_with_two_grants() {
    let twice = [
        (1, 1, ASKED),
        (2, 1, granted(1)),
        (3, 1, What::Unlocking),
        (4, 1, RELEASED),
        (5, 1, ASKED),
        (6, 1, granted(2)),
    ];
    found(&twice, Property::ExactlyOnce);
    // A repeat that gets the same token is one grant.
    let repeat = [(1, 1, ASKED), (2, 1, granted(1)), (5, 1, ASKED), (6, 1, granted(1))];
    fine(&repeat);
}

#[test]
fn one_that_was_left_in_line() {
    let left = [(1, 1, ASKED), (2, 1, What::Queued)];
    found(&left, Property::NoLostWaiter);
    let mut refused = left.to_vec();
    refused.push((9, 1, What::Refused));
    fine(&refused);
}

#[test]
fn what_was_not_answered_may_have_happened() {
    // The unlock of 1 was never answered, and the request of 2 neither: nothing contradicts.
    fine(&[
        (1, 1, ASKED),
        (2, 1, granted(1)),
        (3, 1, What::Unlocking),
        (3, 2, ASKED),
        (4, 2, What::Leaving),
        (5, 3, ASKED),
        (6, 3, granted(9)),
    ]);
}

#[test]
fn a_million_operations_take_seconds() {
    let mut random = Random(1);
    let mut events = Vec::new();
    for key in 0..20 {
        let mut of_key = world::history(&mut random, &format!("key {key}"), 4, 150_000);
        for event in &mut of_key {
            event.request += key << 32;
        }
        events.append(&mut of_key);
    }
    assert!(events.len() > 1_000_000, "{} events", events.len());
    let history = History {
        events,
        complete: false,
    };
    let begun = Instant::now();
    assert_eq!(history.violations(), []);
    let took = begun.elapsed();
    eprintln!("{} events checked in {took:?}", history.events.len());
    assert!(took < Duration::from_secs(20), "{took:?}");
}
