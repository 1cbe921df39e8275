//! Time per step of the rules: a pair on a key of its own, a hand-off in a line, the expiry of many leases.
//!
//! What counts is that no cost grows with the number of waiters or keys. `rules pairs CLIENT OTHER-KEYS ROUNDS` and
//! `rules hand-offs CLIENT WAITERS ROUNDS` do so many steps and nothing else, and print the nanoseconds per step. They
//! are for counting instructions from outside: two runs that differ in ROUNDS alone differ by the cost of the steps.
//! Nothing in here has to be marked for that, so that neither inlining nor a symbol's name can spoil the count.

mod load;

use std::io::Write as _;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group};
use load::{Client, Load};

fn pairs(criterion: &mut Criterion) {
    for client in Client::MEASURED {
        let mut group = criterion.benchmark_group(format!("pair, {}", client.name()));
        for others in [1, 100_000] {
            group.bench_function(BenchmarkId::new("other keys", others), |bencher| {
                let mut load = Load::leased(others);
                bencher.iter(|| load.pair(client));
            });
        }
        group.finish();
    }
}

fn hand_offs(criterion: &mut Criterion) {
    for client in Client::MEASURED {
        let mut group = criterion.benchmark_group(format!("hand-off, {}", client.name()));
        for waiters in [1, 1_000, 100_000] {
            group.bench_function(BenchmarkId::new("waiters", waiters), |bencher| {
                let mut load = Load::line(client, waiters);
                bencher.iter(|| load.hand_off(client));
            });
        }
        group.finish();
    }
}

fn expiry(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("expiry");
    group.sample_size(10);
    for leases in [1_000, 100_000] {
        group.throughput(Throughput::Elements(u64::from(leases)));
        group.bench_function(BenchmarkId::new("leases", leases), |bencher| {
            bencher.iter_batched_ref(|| Load::leased(leases), Load::expire_all, BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = pairs, hand_offs, expiry
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [verb, client, size, rounds] = arguments.as_slice()
        && ["pairs", "hand-offs"].contains(&verb.as_str())
    {
        let client: Client = client.parse()?;
        let (size, rounds): (u32, u32) = (size.parse()?, rounds.parse()?);
        let nanos = if verb == "pairs" {
            let mut load = Load::leased(size);
            let nanos = steps(rounds, || load.pair(client));
            assert_eq!((load.holders(), load.waiters()), (size.into(), 0));
            nanos
        } else {
            let mut load = Load::line(client, size);
            let nanos = steps(rounds, || load.hand_off(client));
            assert_eq!((load.holders(), load.waiters()), (1, size.into()));
            nanos
        };
        writeln!(std::io::stdout(), "{nanos}")?;
        return Ok(());
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
    Ok(())
}

/// Does so many steps; returns the nanoseconds per step.
fn steps(rounds: u32, mut step: impl FnMut()) -> u128 {
    // Tables and caches have their final state.
    for _ in 0..1_000 {
        step();
    }
    let began = Instant::now();
    for _ in 0..rounds {
        step();
    }
    began.elapsed().as_nanos() / u128::from(rounds.max(1))
}
