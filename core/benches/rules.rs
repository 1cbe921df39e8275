//! Time per step of the rules: a pair on a key of its own, a hand-off in a line, the expiry of many leases.
//!
//! What counts is that no cost grows with the number of waiters or keys; instructions are counted by `hand_offs`.

mod load;

use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
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
criterion_main!(benches);
