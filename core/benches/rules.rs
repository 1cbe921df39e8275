//! Time per step of the rules: a pair on a key of its own, a hand-off in a line, the expiry of many leases.
//!
//! What counts is that no cost grows with the number of waiters or keys. `rules hand-offs WAITERS ROUNDS` does so many
//! hand-offs in a line of so many waiters, and nothing else, for counting instructions from outside: two runs that differ
//! in ROUNDS alone differ by the cost of the hand-offs.

mod load;

use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group};
use load::Load;
use ticketlock_core::types::OnDisconnect;

fn pairs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pair");
    for others in [0, 1_000, 100_000] {
        let mut load = Load::leased(others);
        let key: Arc<str> = Arc::from("images/layer-of-my-own");
        group.bench_function(BenchmarkId::new("other keys", others), |bencher| {
            bencher.iter(|| {
                let token = load.lock(&key, OnDisconnect::Release);
                load.unlock(&key, token);
            });
        });
    }
    group.finish();
}

fn hand_offs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hand-off");
    for waiters in [1, 1_000, 100_000] {
        let key: Arc<str> = Arc::from("images/hot");
        let mut load = Load::line(&key, waiters);
        group.bench_function(BenchmarkId::new("waiters", waiters), |bencher| {
            bencher.iter(|| load.hand_off(&key));
        });
    }
    group.finish();
}

fn expiry(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("expiry");
    group.sample_size(10);
    group.bench_function("100000 leases", |bencher| {
        bencher.iter_batched_ref(|| Load::leased(100_000), Load::expire_all, BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, pairs, hand_offs, expiry);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [verb, waiters, rounds] = arguments.as_slice()
        && verb == "hand-offs"
    {
        return count_hand_offs(waiters.parse()?, rounds.parse()?);
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
    Ok(())
}

/// Prints the nanoseconds per hand-off.
fn count_hand_offs(waiters: u32, rounds: u32) -> Result<(), Box<dyn std::error::Error>> {
    let key: Arc<str> = Arc::from("images/hot");
    let mut load = Load::line(&key, waiters);
    // Tables and caches have their final state.
    for _ in 0..1_000 {
        load.hand_off(&key);
    }
    let began = Instant::now();
    for _ in 0..rounds {
        load.hand_off(&key);
    }
    let nanos = began.elapsed().as_nanos() / u128::from(rounds.max(1));
    writeln!(std::io::stdout(), "{nanos}")?;
    Ok(())
}
