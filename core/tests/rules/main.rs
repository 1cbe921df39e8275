//! The rule book, tested from outside: scripts tell each rule's story, a naive model meets it in random steps.

#![expect(clippy::indexing_slicing, clippy::print_stderr, reason = "tests")]

mod ops;
mod wild;
mod world;

use proptest::test_runner::{Config, RngSeed};

/// So many cases from one seed, the same in each run: `PROPTEST_RNG_SEED=n` looks elsewhere, `PROPTEST_CASES=n` longer.
/// A failure prints the shortest steps that show it.
fn cases(cases: u32) -> Config {
    let mut config = Config::default();
    config.failure_persistence = None;
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(8476);
    }
    eprintln!("seed: {}, cases: {}", config.rng_seed, config.cases);
    config
}
