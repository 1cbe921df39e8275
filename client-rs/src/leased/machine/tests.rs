//! Goal: the four states change as the diagram of the design says and by nothing else, whatever is answered, late or never.
//! The machine beside a world that knows what the server really keeps, in random steps.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::{Ending, Lease, LockState, Machine, Operation, Question, Refusal};

/// What can happen next.
#[derive(Clone, Debug)]
enum Step {
    Begin(Operation),
    /// The server grants or renews for so long, and says so.
    Held(u64),
    NotHeld,
    Nothing,
    /// No answer; it was done all the same or not.
    Silence {
        ttl: u64,
        done: bool,
    },
    /// An operation that was overtaken is answered late.
    Stale(u64),
    /// The server is asked what became of it.
    Resolve,
    /// An unlock that nobody answered arrives.
    Late,
    Wait(u64),
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let operation = prop_oneof![
        Just(Operation::Lock),
        Just(Operation::UpdateLease),
        Just(Operation::Unlock)
    ];
    let step = prop_oneof![
        8 => operation.prop_map(Step::Begin),
        6 => (1_u64..60).prop_map(Step::Held),
        2 => Just(Step::NotHeld),
        2 => Just(Step::Nothing),
        3 => (1_u64..60, any::<bool>()).prop_map(|(ttl, done)| Step::Silence { ttl, done }),
        2 => (1_u64..60).prop_map(Step::Stale),
        3 => Just(Step::Resolve),
        3 => Just(Step::Late),
        6 => (1_u64..40).prop_map(Step::Wait),
        1 => Just(Step::Close),
    ];
    proptest::collection::vec(step, 1..60)
}

fn lease(now: Duration, ttl: u64) -> Lease {
    let ttl = Duration::from_secs(ttl);
    Lease {
        token: 7,
        until: now + ttl - ttl / 50,
        over_by: now + ttl + ttl / 50,
    }
}

/// The machine, the time, and until when the server really keeps the lock for it.
#[derive(Default)]
struct World {
    machine: Machine,
    now: Duration,
    kept_until: Duration,
    /// The operation under way, as the test counts.
    under_way: Option<(u64, Operation)>,
    closed: bool,
    /// An unlock that nobody answered is on its way still.
    late_unlock: bool,
}

impl World {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Begin(operation) => self.begin(*operation),
            Step::Held(ttl) => self.answered(*ttl),
            // A refused request for the lock changes nothing that is known.
            Step::NotHeld => match self.under_way {
                Some((_, Operation::Lock)) => self.end(Ending::Nothing),
                under_way => {
                    if under_way.is_some() {
                        self.kept_until = Duration::ZERO;
                    }
                    self.end(Ending::NotHeld);
                }
            },
            Step::Nothing => self.end(Ending::Nothing),
            Step::Silence { ttl, done } => self.silence(*ttl, *done),
            Step::Stale(ttl) => {
                let current = self.under_way.map_or(u64::MAX, |(number, _)| number);
                self.machine
                    .end(current.wrapping_add(1), Ending::Held(lease(self.now, *ttl)));
            }
            Step::Resolve => self.resolve(),
            Step::Late => {
                if std::mem::take(&mut self.late_unlock) {
                    self.kept_until = Duration::ZERO;
                }
            }
            Step::Wait(seconds) => self.now += Duration::from_secs(*seconds),
            Step::Close => {
                self.machine.close();
                (self.closed, self.under_way) = (true, None);
            }
        }
    }

    fn begin(&mut self, operation: Operation) {
        let before = self.machine.state(self.now);
        match self.machine.begin(operation, self.now) {
            Ok(number) => {
                assert!(!self.closed, "closed");
                assert!(
                    self.under_way.is_none() || operation == Operation::Unlock,
                    "one at a time"
                );
                self.under_way = Some((number, operation));
            }
            Err(Refusal::Closed) => assert!(self.closed),
            Err(Refusal::Busy) => assert!(self.under_way.is_some() && operation != Operation::Unlock),
            Err(Refusal::NotHeld) => {
                assert_eq!(operation, Operation::UpdateLease);
                assert_ne!(before, LockState::Locked, "what is held can be renewed");
            }
        }
        let after = self.machine.state(self.now);
        if operation == Operation::Unlock && before == LockState::Locked {
            assert_eq!(
                after,
                LockState::Unknown,
                "from when it is asked for, somebody else may have it"
            );
            // The server may do it at any moment from now on.
            self.kept_until = Duration::ZERO;
        } else {
            assert_eq!(after, before, "what is only asked for changes nothing");
        }
    }

    fn answered(&mut self, ttl: u64) {
        match self.under_way {
            Some((_, Operation::Lock | Operation::UpdateLease)) => {
                let held = lease(self.now, ttl);
                // The server's clock: the whole lease, from when it was asked.
                self.kept_until = self.now + Duration::from_secs(ttl);
                if matches!(self.under_way, Some((_, Operation::Lock))) {
                    // Under another token, which an unlock of the one before does not touch.
                    self.late_unlock = false;
                }
                self.end(Ending::Held(held));
            }
            Some((_, Operation::Unlock)) => {
                self.kept_until = Duration::ZERO;
                self.end(Ending::NotHeld);
            }
            None => {}
        }
    }

    fn silence(&mut self, ttl: u64, done: bool) {
        let Some((_, operation)) = self.under_way else { return };
        let end = self.now + Duration::from_secs(ttl);
        match operation {
            Operation::Unlock if done => self.kept_until = Duration::ZERO,
            Operation::Unlock => {}
            _ if done => self.kept_until = self.kept_until.max(end),
            _ => {}
        }
        let over_by = self.machine.lease().map_or(end, |lease| lease.over_by.max(end));
        let asked = (operation == Operation::Lock).then_some([1; 16]);
        self.late_unlock |= operation == Operation::Unlock && !done;
        self.end(Ending::Ambiguous { over_by, asked });
    }

    fn resolve(&mut self) {
        let Some((question, operation)) = self.machine.unresolved(self.now) else {
            return;
        };
        if matches!(operation, Question::End(_)) {
            // It is ended for good: what asked for its end may be on its way still.
            self.kept_until = Duration::ZERO;
        }
        let left = self.kept_until.saturating_sub(self.now).as_secs();
        self.machine.resolved(question - 1, Some(lease(self.now, 100)));
        assert_eq!(
            self.machine.state(self.now),
            LockState::Unknown,
            "an answer that came late"
        );
        self.machine
            .resolved(question, (left > 0).then(|| lease(self.now, left)));
        let expected = if left > 0 {
            LockState::Locked
        } else {
            LockState::NotLocked
        };
        assert_eq!(self.machine.state(self.now), expected, "what the server says counts");
    }

    fn end(&mut self, ending: Ending) {
        if let Some((number, _)) = self.under_way.take() {
            self.machine.end(number, ending);
        }
    }
}

fn is_in_the_diagram(before: LockState, after: LockState) -> bool {
    use LockState::{Closed, Locked, NotLocked, Unknown};
    before == after
        || matches!(
            (before, after),
            (NotLocked, Locked | Unknown | Closed)
                | (Locked, NotLocked | Unknown | Closed)
                | (Unknown, Locked | NotLocked | Closed)
        )
}

/// Runs the steps; which changes of state were seen.
fn run(steps: &[Step]) -> BTreeSet<(u8, u8)> {
    let mut world = World::default();
    let mut seen = BTreeSet::new();
    for step in steps {
        let before = world.machine.state(world.now);
        world.step(step);
        let after = world.machine.state(world.now);
        // A jump in time may pass through Unknown.
        assert!(is_in_the_diagram(before, after), "{before:?} to {after:?} by {step:?}");
        seen.insert((before as u8, after as u8));
        if after == LockState::Locked {
            assert!(
                world.kept_until > world.now,
                "it believes in what the server has given away, after {step:?}"
            );
            assert!(!world.machine.left(world.now).is_zero());
        } else {
            assert!(
                world.machine.left(world.now).is_zero(),
                "nothing is left where it is {after:?}"
            );
        }
        if after == LockState::NotLocked && !world.closed && !matches!(step, Step::Nothing) {
            let claims = world.kept_until.saturating_sub(world.now);
            assert!(
                claims.is_zero() || world.under_way.is_some(),
                "not locked, and kept for {claims:?}"
            );
        }
        if let Some(next) = world.machine.next_change(world.now) {
            assert!(next > world.now);
        }
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Never a state that the world contradicts, and no change that the diagram does not have.
    #[test]
    fn states_follow_the_diagram_and_the_server(steps in steps()) {
        run(&steps);
    }
}

/// An unlock that nobody answered frees the lock when it arrives, so nothing is believed in again that it names.
#[test]
fn what_was_given_back_is_not_renewed() {
    let mut world = World::default();
    let lock = [
        Step::Begin(Operation::Lock),
        Step::Held(30),
        Step::Begin(Operation::Unlock),
    ];
    for step in lock.iter().chain(&[Step::Silence { ttl: 1, done: false }]) {
        world.step(step);
    }
    let refused = world.machine.begin(Operation::UpdateLease, world.now);
    assert_eq!(refused, Err(Refusal::NotHeld));
    let end = Question::End(world.machine.claims());
    assert_eq!(
        world.machine.unresolved(world.now).map(|it| it.1),
        Some(end),
        "its end is asked for again"
    );
}

/// Each arrow of the diagram, by the shortest way to it.
#[test]
fn every_arrow_of_the_diagram_is_walked() {
    use LockState::{Closed, Locked, NotLocked, Unknown};
    let lock = || Step::Begin(Operation::Lock);
    let unlock = || Step::Begin(Operation::Unlock);
    let update = || Step::Begin(Operation::UpdateLease);
    let silence = |done| Step::Silence { ttl: 30, done };
    for (before, after, steps) in [
        (NotLocked, Locked, vec![lock(), Step::Held(30)]),
        (NotLocked, Unknown, vec![lock(), silence(true)]),
        (Locked, NotLocked, vec![lock(), Step::Held(30), update(), Step::NotHeld]),
        (
            Unknown,
            NotLocked,
            vec![lock(), Step::Held(30), unlock(), Step::NotHeld],
        ),
        (Locked, NotLocked, vec![lock(), Step::Held(30), Step::Wait(31)]),
        (Locked, Unknown, vec![lock(), Step::Held(30), unlock()]),
        // Within the last two hundredths of its lease nothing is certain any more.
        (Locked, Unknown, vec![lock(), Step::Held(50), Step::Wait(49)]),
        (
            Unknown,
            Locked,
            vec![
                lock(),
                Step::Held(10),
                update(),
                silence(true),
                Step::Wait(10),
                Step::Resolve,
            ],
        ),
        (
            Unknown,
            NotLocked,
            vec![
                lock(),
                Step::Held(10),
                update(),
                silence(false),
                Step::Wait(10),
                Step::Resolve,
            ],
        ),
        (Unknown, NotLocked, vec![lock(), silence(true), Step::Resolve]),
        (Unknown, NotLocked, vec![lock(), silence(true), Step::Wait(31)]),
        (NotLocked, Closed, vec![Step::Close]),
        (Locked, Closed, vec![lock(), Step::Held(30), Step::Close]),
        (Unknown, Closed, vec![lock(), silence(true), Step::Close]),
    ] {
        let seen = run(&steps);
        assert!(
            seen.contains(&(before as u8, after as u8)),
            "{before:?} to {after:?}: {seen:?}"
        );
    }
    assert_eq!(
        [NotLocked as u8, Locked as u8, Unknown as u8, Closed as u8],
        [0, 1, 2, 3]
    );
}
