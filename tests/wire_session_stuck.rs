//! A session whose client does not read. On its own, for it compares times: nothing else runs beside it.

#[expect(dead_code, reason = "other test files need more of it")]
mod support;

use std::time::{Duration, Instant};

use support::talk::{Talk, locking, unlocking};
use support::{TestServer, config, hold, request, start_server, wire};
use ticketlock::grpc::ErrorReason;
use ticketlock_proto::v1;
use ticketlock_proto::v1::session_call::Call;

/// Goal: a session that stops reading ends alone: its locks go, it is told why when it reads again, and meanwhile the
/// others' slowest pairs take less than twice their time (median ratio of five alternating rounds).
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_does_not_read_ends_alone() {
    let server = start_server(config(|config| config.limits.outbox_bytes_max = 64 * 1024)).await;
    let mut others = server.locks().await;
    let mut other = Talk::open(&mut others, "other", 0).await;
    let mut ratios = Vec::new();
    for round in 0..5 {
        let usual = slowest(&mut other, round * 2).await;
        let mut locks = server.locks().await;
        let (_holding, _) = hold(&mut others, &format!("line {round}"), "holder").await;
        let mut stuck = Talk::open(&mut locks, "stuck", 0).await;
        // Their places in line are more than the connection carries unread; then each wait times out.
        for first in (0..6_000).step_by(1_000) {
            let wait = v1::LockRequest {
                wait_timeout: wire(0, 300_000_000),
                ..request(&format!("line {round}"), "")
            };
            stuck.send((first..first + 1_000).map(|id| (id + 1, Call::Lock(wait.clone()))));
        }
        let beside = slowest(&mut other, round * 2 + 1).await;
        ratios.push(beside.as_secs_f64() / usual.as_secs_f64());
        // It is let go although it reads nothing.
        let waiting = |server: &TestServer| server.service.totals().iter().map(|totals| totals.waiters).sum::<u64>();
        let begun = Instant::now();
        while waiting(&server) == 0 && begun.elapsed() < Duration::from_secs(1) {
            tokio::task::yield_now().await;
        }
        while waiting(&server) > 0 {
            tokio::task::yield_now().await;
        }
        if round == 0 {
            stuck.failed(ErrorReason::OutboxFull).await;
        }
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios.get(2).copied().unwrap_or_default();
    assert!(
        median < 2.0,
        "slowest pairs beside a stuck session over usual ones: {ratios:?}"
    );
    drop(other);
    server.until_empty().await;
}

/// The 99th percentile of 1,000 pairs, one after the other.
async fn slowest(talk: &mut Talk, round: u64) -> Duration {
    let mut took = Vec::new();
    for pair in 0..1_000 {
        let id = round * 10_000 + pair * 2 + 1;
        let began = Instant::now();
        talk.send([(id, locking("pair"))]);
        let (_, granted) = talk.granted(id).await;
        talk.send([(id + 1, unlocking("pair", granted.fencing_token))]);
        talk.event().await;
        talk.event().await;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    took.get(990).copied().unwrap_or_default()
}
