//! Sessions over a real socket, spoken by the generated stub alone.

#![expect(clippy::indexing_slicing, reason = "tests")]

#[expect(dead_code, reason = "other test files need more of it")]
mod support;

use std::collections::BTreeMap;

use support::talk::{Talk, locking, named, renewing, unlocking};
use support::{Locks, TestServer, config, hold, request, start_server, unlock, wire};
use ticketlock::grpc::ErrorReason;
use ticketlock_proto::v1;
use ticketlock_proto::v1::session_call::Call;
use ticketlock_proto::v1::session_event::Event;

async fn server() -> (TestServer, Locks) {
    let server = start_server(config(|_| {})).await;
    let locks = server.locks().await;
    (server, locks)
}

/// Goal: a pair in one round trip each; the grant says which message its lease counts from.
#[tokio::test]
async fn a_lock_and_its_unlock() {
    let (server, mut locks) = server().await;
    let mut talk = Talk::open(&mut locks, "a", 0).await;
    assert_eq!((talk.welcome.store_id.len(), talk.welcome.boot_id.len()), (16, 16));
    let sent = talk.send([(7, locking("k"))]);
    let (as_of, granted) = talk.granted(7).await;
    assert_eq!(as_of, sent, "a grant that did not wait answers its message");
    talk.send([(8, unlocking("k", granted.fencing_token))]);
    let mut told = BTreeMap::new();
    for _ in 0..2 {
        let (id, _, event) = talk.event().await;
        told.insert(id, event);
    }
    assert_eq!(told[&7], Event::Unlocked(v1::Unlocked {}));
    let Event::Unlock(answer) = &told[&8] else {
        panic!("{told:?}")
    };
    assert_eq!(answer.result(), v1::UnlockResult::Released);
    drop(talk);
    server.until_empty().await;
}

/// Goal: a waiter on a session is told its place, is granted, and keeps the lock once it has acknowledged it; one that
/// does not loses it within the acknowledgement's time, and the next is granted.
#[tokio::test]
async fn grants_that_waited_are_acknowledged() {
    let server = start_server(config(|config| {
        config.core.ack_timeout = std::time::Duration::from_millis(200);
    }))
    .await;
    let mut locks = server.locks().await;
    let (stream, token) = hold(&mut locks, "k", "holder").await;
    let mut first = Talk::open(&mut locks, "a", 0).await;
    let mut second = Talk::open(&mut locks, "b", 0).await;
    first.send([(1, locking("k"))]);
    assert!(matches!(
        first.event().await,
        (1, _, Event::Queued(v1::Queued { position: 0, .. }))
    ));
    second.send([(1, locking("k"))]);
    assert!(matches!(
        second.event().await,
        (1, _, Event::Queued(v1::Queued { position: 1, .. }))
    ));
    locks.unlock(unlock("k", "holder", token)).await.expect("answered");
    drop(stream);
    let (_, granted) = first.granted(1).await;
    // The first says nothing.
    let (_, _, lost) = first.event().await;
    assert!(matches!(lost, Event::Lost(lost) if lost.reason() == v1::LostReason::NotAcked));
    let (_, next) = second.granted(1).await;
    assert!(next.fencing_token > granted.fencing_token);
    let sent = second.send([(2, renewing("k", next.fencing_token))]);
    let (id, as_of, Event::Renew(renewed)) = second.event().await else {
        panic!("a renewal was expected")
    };
    assert_eq!((id, as_of, renewed.status()), (2, sent, v1::RenewStatus::Renewed));
    // A heartbeat renews what it holds now, and is answered with its own number.
    let sent = second.beat();
    assert_eq!((second.beaten().await.as_of, sent), (sent, sent));
    drop((first, second));
    server.until_empty().await;
}

/// Goal: heartbeats keep what is held beyond its lease, and nothing else does.
#[tokio::test]
async fn heartbeats_keep_leases() {
    let (server, mut locks) = server().await;
    let mut talk = Talk::open(&mut locks, "a", 0).await;
    let short = |key: &str| v1::LockRequest {
        ttl: wire(0, 300_000_000),
        ..request(key, "")
    };
    let leased = v1::LockRequest {
        on_disconnect: v1::OnDisconnect::Lease.into(),
        ..short("leased")
    };
    talk.send([(1, Call::Lock(short("kept"))), (2, Call::Lock(leased))]);
    talk.granted(1).await;
    talk.granted(2).await;
    // The lease that no heartbeat renews is the clock of this test: it ends, and the other one lives.
    let mut lost = None;
    while lost.is_none() {
        talk.beat();
        let done = talk.beaten().await;
        assert!(done.not_renewed.is_empty(), "{done:?}");
        lost = talk.events.pop_front();
    }
    let lost = lost.expect("just seen");
    assert!(matches!((lost.id, lost.event), (2, Some(Event::Lost(lost))) if lost.reason() == v1::LostReason::Expired));
    talk.beat();
    assert_eq!(talk.beaten().await.not_renewed, Vec::<u64>::new());
    let info = locks
        .get_lock(v1::GetLockRequest {
            key: "kept".into(),
            ..Default::default()
        })
        .await;
    assert!(info.expect("answered").into_inner().held, "renewed by heartbeats");
    // Silence: it ends by its lease.
    let (id, _, event) = talk.event().await;
    assert!(matches!((id, event), (1, Event::Lost(lost)) if lost.reason() == v1::LostReason::Expired));
    server.until_empty().await;
}

/// Goal: a cut session's grace keeps holds and places; sent again, they come back; the older session is superseded.
#[tokio::test]
async fn a_session_resumes() {
    let (_server, mut locks) = server().await;
    let mut before = Talk::open(&mut locks, "a", 1).await;
    before.send([(1, Call::Lock(named("held", 1)))]);
    let (_, granted) = before.granted(1).await;
    let (_stream, token) = hold(&mut locks, "awaited", "other").await;
    before.send([(2, Call::Lock(named("awaited", 2)))]);
    assert!(matches!(before.event().await, (2, _, Event::Queued(_))));
    drop(before);
    let mut behind = Talk::open(&mut locks, "behind", 0).await;
    behind.send([(1, locking("awaited"))]);
    let mut after = Talk::open(&mut locks, "a", 2).await;
    let only = v1::LockRequest {
        attach: Some(v1::Attach {
            number: 0,
            mode: v1::AttachMode::Only.into(),
        }),
        ..named("held", 1)
    };
    after.send([(1, Call::Lock(only.clone())), (2, Call::Lock(named("awaited", 2)))]);
    let (_, again) = after.granted(1).await;
    assert_eq!(again.fencing_token, granted.fencing_token, "the same hold");
    let (_, _, place) = after.event().await;
    assert!(
        matches!(place, Event::Queued(v1::Queued { position: 0, .. })),
        "the same place: {place:?}"
    );
    locks.unlock(unlock("awaited", "other", token)).await.expect("answered");
    after.granted(2).await;
    // A later session takes over without a cut.
    let mut latest = Talk::open(&mut locks, "a", 3).await;
    latest.send([(9, Call::Lock(only))]);
    assert_eq!(latest.granted(9).await.1.fencing_token, granted.fencing_token);
    let (id, _, event) = after.event().await;
    let Event::Error(error) = event else {
        panic!("{event:?}")
    };
    assert_eq!((id, error.reason.as_str()), (1, "SUPERSEDED"));
    drop((after, behind));
    let unlocking = unlocking("held", granted.fencing_token);
    latest.send([(10, unlocking)]);
    latest.event().await;
    drop(latest);
}

/// Goal: a failure of one call is told in band, and the session goes on; reads are answered on it, too.
#[tokio::test]
async fn calls_fail_in_band() {
    let (server, mut locks) = server().await;
    let mut talk = Talk::open(&mut locks, "a", 0).await;
    let list = v1::ListLocksRequest {
        page_size: 1,
        ..Default::default()
    };
    let read = v1::GetLockRequest {
        key: "a".into(),
        ..Default::default()
    };
    talk.send([
        (1, locking("")),
        (2, Call::Lock(request("k", "somebody else"))),
        (3, unlocking("k", 0)),
        (4, locking("a")),
        (5, locking("b")),
        (6, Call::Get(read)),
        (7, Call::List(list)),
    ]);
    let mut told = BTreeMap::new();
    while told.len() < 7 {
        let (id, _, event) = talk.event().await;
        told.insert(id, event);
    }
    for (id, reason) in [(1, "INVALID_KEY"), (2, "INVALID_OWNER"), (3, "INVALID_TOKEN")] {
        assert!(
            matches!(&told[&id], Event::Error(error) if error.reason == reason),
            "{:?}",
            told[&id]
        );
    }
    assert!(matches!(&told[&6], Event::Get(answer) if answer.held && answer.held_by_caller));
    assert!(matches!(&told[&7], Event::List(page) if page.locks.len() == 1 && !page.next_page_token.is_empty()));
    drop(talk);
    server.until_empty().await;
}

/// Goal: a session that breaks its own order ends with a status that says so, and leaves nothing behind.
#[tokio::test]
async fn a_broken_session_ends() {
    let (server, mut locks) = server().await;
    let mut twice = Talk::open(&mut locks, "a", 0).await;
    twice.send([(1, locking("k")), (1, locking("l"))]);
    twice.failed(ErrorReason::InvalidSession).await;
    let mut skipping = Talk::open(&mut locks, "a", 0).await;
    skipping.number += 1;
    skipping.beat();
    skipping.failed(ErrorReason::InvalidSession).await;
    let mut greeting = Talk::open(&mut locks, "a", 0).await;
    greeting.push(v1::SessionRequest {
        hello: Some(v1::Hello::default()),
        ..Default::default()
    });
    greeting.failed(ErrorReason::InvalidSession).await;
    server.until_empty().await;
}

/// Goal: limits of a session are named, per call.
#[tokio::test]
async fn limits_of_a_session() {
    let server = start_server(config(|config| {
        config.limits.locks_per_connection_max = 2;
        config.limits.waiters_per_connection_max = 2;
    }))
    .await;
    let mut locks = server.locks().await;
    let mut talk = Talk::open(&mut locks, "a", 0).await;
    for id in 1..=2 {
        talk.send([(id, locking(&format!("k{id}")))]);
        talk.granted(id).await;
    }
    talk.send([(3, locking("k3"))]);
    let (_, _, event) = talk.event().await;
    assert!(
        matches!(&event, Event::Error(error) if error.reason == "TOO_MANY_LOCKS"),
        "{event:?}"
    );
    let mut waiting = Talk::open(&mut locks, "b", 0).await;
    waiting.send([(1, locking("k1")), (2, locking("k1")), (3, locking("k1"))]);
    let mut last = None;
    for _ in 0..3 {
        let (id, _, event) = waiting.event().await;
        if id == 3 {
            last = Some(event);
        }
    }
    assert!(
        matches!(&last, Some(Event::Error(error)) if error.reason == "TOO_MANY_WAITERS"),
        "{last:?}"
    );
    drop((talk, waiting));
    server.until_empty().await;
}

/// Goal: 10,000 waiters on one stream are granted in the exact order in which they asked, each unlocking in its turn.
#[tokio::test]
async fn ten_thousand_waiters_on_one_stream() {
    const WAITERS: u64 = 10_000;
    let (server, mut locks) = server().await;
    let (_stream, token) = hold(&mut locks, "k", "holder").await;
    let mut talk = Talk::open(&mut locks, "a", 0).await;
    for first in (1..=WAITERS).step_by(500) {
        talk.send((first..first + 500).map(|id| (id, locking("k"))));
    }
    for id in 1..=WAITERS {
        assert!(matches!(talk.event().await, (of, _, Event::Queued(_)) if of == id));
    }
    locks.unlock(unlock("k", "holder", token)).await.expect("answered");
    for id in 1..=WAITERS {
        let granted = loop {
            match talk.event().await {
                (of, _, Event::Granted(granted)) => {
                    assert_eq!(of, id, "in line");
                    break granted;
                }
                (_, _, Event::Unlocked(_) | Event::Unlock(_)) => {}
                other => panic!("unexpected: {other:?}"),
            }
        };
        talk.send([(WAITERS + id, unlocking("k", granted.fencing_token))]);
    }
    server.until_empty().await;
}

/// Goal: a server that stops tells its sessions, and ends them.
#[tokio::test]
async fn a_server_that_stops_ends_its_sessions() {
    let (server, mut locks) = server().await;
    let mut talk = Talk::open(&mut locks, "a", 0).await;
    talk.send([(1, locking("k"))]);
    let (_, granted) = talk.granted(1).await;
    let ending = server.stop();
    while !talk.draining {
        talk.read().await;
    }
    talk.send([(2, unlocking("k", granted.fencing_token))]);
    let (_, _, event) = talk.event().await;
    assert_eq!(event, Event::Unlocked(v1::Unlocked {}), "an unlock still gets through");
    talk.failed(ErrorReason::Draining).await;
    ending.ended().await;
}
