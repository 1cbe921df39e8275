//! Sessions whose clients die or do not acknowledge, and very many sessions.

#[expect(dead_code, reason = "other test files need more of it")]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use support::talk::{Talk, locking, unlocking};
use support::{Locks, TestServer, config, hold, start_server, unlock};
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
    // One round trip for each death; the slowest of 200 keys may also have met a busy machine.
    let (usual, bound) = (
        ACK_TIMEOUT * 5 + Duration::from_millis(500),
        ACK_TIMEOUT * 5 + Duration::from_secs(2),
    );
    assert!(median >= ACK_TIMEOUT * 5, "each death is waited for: {median:?}");
    assert!(
        median <= usual && most <= bound,
        "five deaths cost {median:?} in the median, {most:?} at most"
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

/// Goal: a session that floods does not starve another. It has 20,000 calls under way at all times, all of them work;
/// still three of four pairs of the other are done before as many more of them are answered as four turns carry out. One
/// that was starved would wait for twenty turns each time; a busy machine may stop this test's own threads now and then.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_does_not_starve_another_session() {
    /// Calls of one message, the most there may be.
    const CALLS: u64 = 1_000;
    let server = server().await;
    let mut flooding = server.locks().await;
    let mut flood = Talk::open(&mut flooding, "flood", 0).await;
    let answered = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&answered);
    let flood = tokio::spawn(async move {
        let mut sent = 0;
        loop {
            while sent < counted.load(Ordering::SeqCst) + 20 * CALLS {
                flood.send((0..CALLS).map(|call| (sent + call + 1, unlocking(&format!("none {call}"), 7))));
                sent += CALLS;
            }
            flood.read().await;
            counted.fetch_add(flood.events.drain(..).len() as u64, Ordering::SeqCst);
        }
    });
    while answered.load(Ordering::SeqCst) < 20 * CALLS {
        tokio::task::yield_now().await;
    }
    let mut locks = server.locks().await;
    let mut other = Talk::open(&mut locks, "other", 0).await;
    let mut meanwhile = Vec::new();
    let begun = answered.load(Ordering::SeqCst);
    for pair in 0.. {
        let before = answered.load(Ordering::SeqCst);
        if pair >= 200 && before > begun + 50 * CALLS {
            break;
        }
        other.send([(pair * 2 + 1, locking("pair"))]);
        let (_, granted) = other.granted(pair * 2 + 1).await;
        other.send([(pair * 2 + 2, unlocking("pair", granted.fencing_token))]);
        other.event().await;
        other.event().await;
        meanwhile.push(answered.load(Ordering::SeqCst) - before);
    }
    flood.abort();
    meanwhile.sort_unstable();
    let most = meanwhile.get(meanwhile.len() * 3 / 4).copied().unwrap_or_default();
    assert!(most <= 4 * CALLS, "answers to the flood during a pair: {meanwhile:?}");
    drop(other);
    server.until_empty().await;
}
