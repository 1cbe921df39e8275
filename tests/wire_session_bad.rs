//! Sessions that misbehave: their clients die, do not acknowledge, do not read. The others hardly notice.

#[expect(dead_code, reason = "other test files need more of it")]
mod support;

use std::time::{Duration, Instant};

use support::talk::{Talk, locking, unlocking};
use support::{Locks, TestServer, config, hold, request, start_server, unlock, wire};
use ticketlock::grpc::ErrorReason;
use ticketlock_proto::v1;
use ticketlock_proto::v1::session_call::Call;
use ticketlock_proto::v1::session_event::Event;
use tokio::task::JoinSet;

const ACK_TIMEOUT: Duration = Duration::from_millis(200);

async fn server() -> TestServer {
    start_server(config(|config| config.core.ack_timeout = ACK_TIMEOUT)).await
}

/// Goal: a waiter that is dead when its turn comes costs its acknowledgement's time and no more: 1,000 deaths over 200
/// keys, five before each live waiter.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_waiter_costs_its_acknowledgement() {
    const KEYS: usize = 200;
    const DEAD: u64 = 5;
    let server = server().await;
    let mut keys = JoinSet::new();
    let mut channels = Vec::new();
    for _ in 0..4 {
        channels.push(server.locks().await);
    }
    for (key, locks) in (0..KEYS).zip(channels.into_iter().cycle()) {
        keys.spawn(one_key(locks, format!("k{key}"), DEAD));
    }
    let mut costs = Vec::new();
    while let Some(cost) = keys.join_next().await {
        costs.push(cost.expect("no panic"));
    }
    costs.sort_unstable();
    let median = costs.get(costs.len() / 2).copied().unwrap_or_default();
    let most = costs.last().copied().unwrap_or_default();
    // One round trip and the turn of a busy machine for each death.
    let bound = (ACK_TIMEOUT + Duration::from_millis(50)) * 5 + Duration::from_millis(500);
    assert!(median >= ACK_TIMEOUT * 5, "each death is waited for: {median:?}");
    assert!(
        most <= bound,
        "five deaths cost {most:?} at most (median {median:?}), the bound is {bound:?}"
    );
    server.until_empty().await;
}

/// Lets so many waiters die in line before a live one; returns what that cost the live one.
async fn one_key(mut locks: Locks, key: String, dead: u64) -> Duration {
    let (stream, token) = hold(&mut locks, &key, "holder").await;
    // Its client reads and never answers: as good as dead, and worse than a connection that is known to be.
    let mut silent = Talk::open(&mut locks, "silent", 0).await;
    silent.send((1..=dead).map(|id| (id, locking(&key))));
    for _ in 0..dead {
        assert!(matches!(silent.event().await, (_, _, Event::Queued(_))));
    }
    let mut live = Talk::open(&mut locks, "live", 0).await;
    live.send([(1, locking(&key))]);
    assert!(matches!(live.event().await, (1, _, Event::Queued(_))));
    let began = Instant::now();
    locks.unlock(unlock(&key, "holder", token)).await.expect("answered");
    drop(stream);
    let (_, granted) = live.granted(1).await;
    let cost = began.elapsed();
    live.send([(2, unlocking(&key, granted.fencing_token))]);
    live.event().await;
    cost
}

/// Goal: a thousand sessions at once, each with a lock of its own and a place in one line.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_sessions_at_once() {
    const SESSIONS: usize = 1_000;
    let server = start_server(config(|_| {})).await;
    let mut talks = Vec::new();
    let mut locks = server.locks().await;
    for number in 0..SESSIONS {
        // 200 to a connection.
        if number % 200 == 0 {
            locks = server.locks().await;
        }
        let mut talk = Talk::open(&mut locks, &format!("s{number}"), 0).await;
        talk.send([(1, locking(&format!("own/{number}"))), (2, locking("shared"))]);
        talk.granted(1).await;
        talks.push(talk);
    }
    for mut talk in talks {
        let mut event = talk.event().await;
        if let (2, _, Event::Queued(_)) = event {
            event = talk.event().await;
        }
        let (2, _, Event::Granted(granted)) = event else {
            panic!("its turn, in order: {event:?}")
        };
        talk.send([(3, unlocking("shared", granted.fencing_token))]);
        while !matches!(talk.event().await, (3, _, Event::Unlock(_))) {}
    }
    server.until_empty().await;
}

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
