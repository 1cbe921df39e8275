//! Goal: on small histories, right ones and spoilt ones, the checker and an exhaustive linearizability tester agree.

#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests"
)]

mod world;

use std::collections::VecDeque;

use stateright::semantics::{ConsistencyTester as _, LinearizabilityTester, SequentialSpec};
use ticketlock_history::{Event, History, What};
use world::Random;

/// A lock with a line, one step at a time.
#[derive(Clone, Default)]
struct Lock {
    line: VecDeque<u64>,
    holder: Option<u64>,
    token: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum Op {
    Enqueue(u64),
    Take(u64),
    Release(u64),
}

#[derive(Clone, Debug, PartialEq)]
enum Ret {
    Done,
    Token(u64),
    Impossible,
}

impl SequentialSpec for Lock {
    type Op = Op;
    type Ret = Ret;

    fn invoke(&mut self, op: &Op) -> Ret {
        match *op {
            Op::Enqueue(request) => self.line.push_back(request),
            Op::Take(request) => {
                if self.holder.is_some() || self.line.front() != Some(&request) {
                    return Ret::Impossible;
                }
                self.line.pop_front();
                self.holder = Some(request);
            }
            Op::Release(request) => {
                if self.holder != Some(request) {
                    return Ret::Impossible;
                }
                self.holder = None;
            }
        }
        Ret::Done
    }

    fn is_valid_step(&mut self, op: &Op, ret: &Ret) -> bool {
        let possible = self.invoke(op) == Ret::Done;
        match ret {
            Ret::Token(token) => {
                let grows = *token > self.token;
                self.token = *token;
                possible && grows
            }
            _ => possible,
        }
    }
}

/// Each request is two threads: its place in line, then its unlock; and its grant, which is under way from the start.
fn linearizable(events: &[Event]) -> bool {
    let mut tester = LinearizabilityTester::new(Lock::default());
    for event in events {
        let (request, line, grant) = (event.request, event.request * 2, event.request * 2 + 1);
        match event.what {
            What::Asked(_) => {
                tester.on_invoke(line, Op::Enqueue(request)).expect("in order");
                tester.on_invoke(grant, Op::Take(request)).expect("in order");
            }
            What::Queued => drop(tester.on_return(line, Ret::Done).expect("in order")),
            What::Granted { token, .. } => drop(tester.on_return(grant, Ret::Token(token)).expect("in order")),
            What::Unlocking => drop(tester.on_invoke(line, Op::Release(request)).expect("in order")),
            What::Unlocked(_) => drop(tester.on_return(line, Ret::Done).expect("in order")),
            _ => {}
        }
    }
    tester.is_consistent()
}

/// Gives two grants each other's tokens, or moves an event to another time between its request's neighbours.
fn spoil(random: &mut Random, events: &mut [Event]) {
    let grants: Vec<usize> = (0..events.len())
        .filter(|index| matches!(events[*index].what, What::Granted { .. }))
        .collect();
    if random.below(2) == 0 && grants.len() > 1 {
        let (one, other) = (grants[random.below(grants.len())], grants[random.below(grants.len())]);
        let what = events[one].what.clone();
        events[one].what = std::mem::replace(&mut events[other].what, what);
    } else if !events.is_empty() {
        let index = random.below(events.len());
        let mine = |event: &&Event| event.request == events[index].request;
        let earliest = events[..index]
            .iter()
            .rev()
            .find(mine)
            .map_or(0, |event| event.at.as_micros());
        let latest = events[index + 1..]
            .iter()
            .find(mine)
            .map_or(100_000, |event| event.at.as_micros());
        let (earliest, latest) = (
            u64::try_from(earliest).expect("fits"),
            u64::try_from(latest).expect("fits"),
        );
        // Other events are at full thousands, so that no two meet.
        let room = usize::try_from(latest - earliest).expect("fits").max(3) - 2;
        let moved = earliest + 1 + u64::try_from(random.below(room)).expect("fits");
        events[index].at = world::at(if moved.is_multiple_of(1000) { moved + 1 } else { moved });
    }
    events.sort_by_key(|event| event.at);
}

#[test]
fn both_say_the_same() {
    let seed = 20_261_121;
    eprintln!("seed {seed}");
    let mut random = Random(seed);
    let mut counts = [0, 0];
    for round in 0..2_000 {
        let clients = 2 + random.below(3);
        let steps = 8 + u64::try_from(random.below(30)).expect("fits");
        let mut events = world::history(&mut random, "key", clients, steps);
        for _ in 0..random.below(3) {
            spoil(&mut random, &mut events);
        }
        let history = History {
            events,
            complete: false,
        };
        let violations = history.violations();
        let right = linearizable(&history.events);
        assert_eq!(
            violations.is_empty(),
            right,
            "round {round}: {violations:?} in {:#?}",
            history.events
        );
        counts[usize::from(right)] += 1;
    }
    let [wrong, right] = counts;
    eprintln!("{right} right, {wrong} wrong");
    assert!(
        wrong > 300 && right > 300,
        "{right} right, {wrong} wrong: too few of one kind"
    );
}
