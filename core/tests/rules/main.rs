//! The rule book, tested from outside: scripts tell each rule's story, a naive model meets it in random steps.

#![expect(
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests"
)]

mod model;
mod naive;
mod ops;
mod script;
mod wild;
mod world;

/// The defect that the environment names, where the tests are built to have one.
pub(crate) fn plant() {
    if let Ok(name) = std::env::var("TICKETLOCK_PLANTED") {
        assert!(ticketlock_core::planted::plant(&name), "there is no defect {name}");
    }
}

use proptest::test_runner::{Config, RngSeed};

/// So many cases from one seed, the same in each run: `PROPTEST_RNG_SEED=n` looks elsewhere, `PROPTEST_CASES=n` longer.
/// A failure prints the shortest steps that show it.
fn cases(cases: u32) -> Config {
    plant();
    let environment = Config::default();
    let config = Config {
        failure_persistence: None,
        cases: match std::env::var_os("PROPTEST_CASES") {
            Some(_) => environment.cases,
            None => cases,
        },
        rng_seed: match environment.rng_seed {
            RngSeed::Random => RngSeed::Fixed(8476),
            seed => seed,
        },
        ..environment
    };
    eprintln!("seed: {}, cases: {}", config.rng_seed, config.cases);
    config
}
