//! Goal: many drawn runs of the whole system, with everything going wrong, break no promise; and a seed is a run that can
//! be had again, to the byte. A failure prints its seed: `make sim SEEDS=N`.

#![expect(clippy::expect_used, clippy::print_stderr, reason = "tests")]

use std::process::Command;

/// Runs them; what was said, and whether all promises were kept.
fn seeds(arguments: &[&str]) -> bool {
    let output = Command::new(env!("CARGO_BIN_EXE_ticketlock-sim"))
        .args(arguments)
        .output()
        .expect("it runs");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    eprint!("{}", String::from_utf8_lossy(&output.stdout));
    output.status.success()
}

#[test]
fn no_promise_is_broken() {
    assert!(seeds(&["0..200"]));
}

#[test]
fn the_same_seed_is_the_same_run() {
    assert!(seeds(&["1000..1020", "--twice"]));
}
