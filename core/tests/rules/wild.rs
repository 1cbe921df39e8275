//! Random steps at random times, with bounds so small that every one is met: the invariants hold after each step, and
//! nothing is left in the end.

use std::time::Duration;

use proptest::prelude::*;
use ticketlock_core::Config;

use crate::cases;
use crate::ops::{Done, Op, wild};
use crate::world::World;

proptest! {
    #![proptest_config(cases(1_500))]

    /// Whatever happens, in whatever portions it is worked off, invariants hold and nobody is forgotten.
    #[test]
    fn nothing_breaks_and_nothing_is_left(
        batch_max in 1..6_usize,
        ends_max in 1..20_usize,
        waiters_max in 2..12_u32,
        steps in proptest::collection::vec(wild(), 1..200),
    ) {
        let mut world = World::new(Config {
            batch_max,
            ends_max,
            waiters_max,
            claims_max: 3,
            ..Config::default()
        });
        for (salt, op) in (1..).zip(&steps) {
            op.run(&mut world, salt);
            for key in world.shard.list("", None, 10, 10, world.now) {
                let kept = world.records.outcomes.iter().any(|outcome| outcome.key == key.key);
                prop_assert_eq!(key.pending_outcome.is_some(), kept, "an outcome and its record");
            }
        }
        world.drain();
    }

    /// A run can be repeated: the same steps give the same pushes, whatever the seed of the hash maps.
    #[test]
    fn a_run_repeats_itself(steps in proptest::collection::vec(wild(), 1..60), seed in any::<u64>()) {
        let run = |hash_seed: u64| {
            let mut world = World::new(Config { hash_seed, ..Config::default() });
            let mut seen = Vec::new();
            for (salt, op) in (1..).zip(&steps) {
                match op.run(&mut world, salt) {
                    Done::Command(_, reply, pushes) => seen.push(format!("{reply:?} {pushes:?}")),
                    Done::Time(turns) => seen.push(format!("{turns:?}")),
                    Done::Restarted | Done::Nothing => {}
                }
            }
            world.advance(Duration::from_secs(60), |_, pushes, _| seen.push(format!("{pushes:?}")));
            seen
        };
        prop_assert_eq!(run(1), run(seed));
    }
}

/// A step that has nothing to act on does nothing, so that shrinking may remove any other step.
#[test]
fn a_step_without_an_object_is_nothing() {
    let mut world = World::new(Config::default());
    assert!(matches!(Op::Force { grant: 0 }.run(&mut world, 1), Done::Nothing));
    world.drain();
}
