//! Locks over a real socket, with the generated stubs: the line, its order, its ends, and many at once.

#[expect(dead_code, reason = "other test files need more of it")]
mod support;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use support::{
    PATIENCE, TestServer, event, granted, hold, lock, message, queued, reason, request, start_server, unlock, wire,
};
use ticketlock::config::ServerConfig;
use ticketlock_proto::v1;
use ticketlock_proto::v1::lock_response::Event;
use tonic::Code;

/// Waits until so many wait on a key.
async fn until_waiters(server: &TestServer, key: &str, count: u64) {
    let there = async {
        while server
            .service
            .get(key, 0)
            .await
            .expect("the shard answers")
            .waiters_total
            != count
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, there).await.expect("so many wait");
}

/// How a token of the key `k` stands, and the lowest that is valid.
async fn token_status(locks: &mut support::Locks, fencing_token: u64) -> (v1::TokenStatus, u64) {
    let key = "k".to_owned();
    let answer = locks.check_token(v1::CheckTokenRequest { key, fencing_token }).await;
    let answer = answer.expect("answered").into_inner();
    let is_told = answer.lease_left.is_some() && !answer.owner.is_empty();
    assert_eq!(is_told, answer.status() == v1::TokenStatus::Valid);
    (answer.status(), answer.lowest_valid)
}

/// Goal: a waiter sees its place, the holder sees that somebody waits, and an unlock hands both lock and outcome on.
#[tokio::test]
async fn wait_in_line_and_be_granted() {
    let server = start_server(ServerConfig::default()).await;
    let mut locks = server.locks().await;
    let wants = Some(v1::EventOptions {
        contended: true,
        ..Default::default()
    });
    let mut first = lock(
        &mut locks,
        v1::LockRequest {
            events: wants,
            ..request("k", "a")
        },
    )
    .await
    .expect("taken");
    let opening = message(&mut first).await.expect("no error").expect("a message");
    assert_eq!(opening.store_id, vec![7; 16], "the first message names the store");
    let Some(Event::Granted(grant)) = opening.event else {
        panic!("granted at once, not {opening:?}")
    };
    assert_eq!(grant.lowest_valid, grant.fencing_token);

    let mut second = lock(&mut locks, request("k", "b")).await.expect("in line");
    let place = queued(&mut second).await;
    assert_eq!(
        (place.position, place.holders, place.reason()),
        (0, 1, v1::WaitReason::Held)
    );
    assert!(matches!(
        event(&mut first).await,
        Event::Contended(v1::Contended { waiters: 1 })
    ));
    let mut third = lock(&mut locks, request("k", "c")).await.expect("in line");
    assert_eq!(queued(&mut third).await.position, 1);

    let state = locks.get_lock(v1::GetLockRequest {
        key: "k".into(),
        owner: "a".into(),
        ..Default::default()
    });
    let state = state.await.expect("read").into_inner();
    assert!(state.held && state.held_by_caller && !state.completed);
    let info = state.lock.expect("a state");
    let owners: Vec<_> = info.waiters.iter().map(|waiter| waiter.owner.as_str()).collect();
    assert_eq!((owners, info.waiters_total), (vec!["b", "c"], 2));

    assert_eq!(
        token_status(&mut locks, grant.fencing_token).await,
        (v1::TokenStatus::Valid, grant.fencing_token)
    );

    let status = v1::OutcomeStatus::Success.into();
    let outcome = Some(v1::Outcome {
        status,
        note: "done".into(),
    });
    let ended = locks.unlock(v1::UnlockRequest {
        outcome: outcome.clone(),
        ..unlock("k", "a", grant.fencing_token)
    });
    assert_eq!(
        ended.await.expect("answered").into_inner().result(),
        v1::UnlockResult::Released
    );
    assert!(
        message(&mut first).await.expect("no error").is_none(),
        "an unlocked stream ends well"
    );
    let next = granted(&mut second).await;
    assert_eq!(
        token_status(&mut locks, grant.fencing_token).await,
        (v1::TokenStatus::NotValid, next.fencing_token),
        "the next holder's is the lowest that is valid"
    );
    assert_eq!(next.previous_outcome, outcome);
    assert!(next.fencing_token > grant.fencing_token);

    let again = locks
        .unlock(unlock("k", "a", grant.fencing_token))
        .await
        .expect("answered")
        .into_inner();
    assert_eq!(again.result(), v1::UnlockResult::AlreadyReleased);
    let other = locks
        .unlock(unlock("k", "c", next.fencing_token))
        .await
        .expect("answered")
        .into_inner();
    assert_eq!(other.result(), v1::UnlockResult::LockByOther);
    let unknown = locks.unlock(unlock("k", "a", 1)).await.expect("answered").into_inner();
    assert_eq!(unknown.result(), v1::UnlockResult::NotFound);
}

/// Goal: a waiting ticket is cancelled by its request id, and both the stream and the call are told.
#[tokio::test]
async fn cancel_by_request_id() {
    let server = start_server(ServerConfig::default()).await;
    let mut locks = server.locks().await;
    let (_held, _) = hold(&mut locks, "k", "a").await;
    let named = v1::LockRequest {
        request_id: vec![9; 16],
        ..request("k", "b")
    };
    let mut waiting = lock(&mut locks, named).await.expect("in line");
    queued(&mut waiting).await;
    let cancel = v1::UnlockRequest {
        request_id: vec![9; 16],
        ..unlock("k", "b", 0)
    };
    let answer = locks.unlock(cancel).await.expect("answered").into_inner();
    assert_eq!(answer.result(), v1::UnlockResult::Cancelled);
    let Event::Refused(refused) = event(&mut waiting).await else {
        panic!("refused was expected")
    };
    assert_eq!(refused.reason(), v1::RefusedReason::Cancelled);
    assert!(message(&mut waiting).await.expect("no error").is_none());
    until_waiters(&server, "k", 0).await;
}

/// Goal: a hold under LEASE that nobody renews ends by time, its holder is told, and the next one is granted.
#[tokio::test]
async fn expiry_is_told() {
    let server = start_server(ServerConfig::default()).await;
    let mut locks = server.locks().await;
    let lease = v1::LockRequest {
        ttl: wire(0, 200_000_000),
        on_disconnect: v1::OnDisconnect::Lease.into(),
        ..request("k", "a")
    };
    let mut first = lock(&mut locks, lease).await.expect("taken");
    let token = granted(&mut first).await.fencing_token;
    let mut second = lock(&mut locks, request("k", "b")).await.expect("in line");
    queued(&mut second).await;
    let Event::Lost(lost) = event(&mut first).await else {
        panic!("lost was expected")
    };
    assert_eq!((lost.reason(), lost.fencing_token), (v1::LostReason::Expired, token));
    assert!(message(&mut first).await.expect("no error").is_none());
    granted(&mut second).await;
    let renew = v1::RenewItem {
        key: "k".into(),
        fencing_token: token,
        ttl: None,
    };
    let renewed = locks
        .renew(v1::RenewRequest {
            owner: "a".into(),
            items: vec![renew],
        })
        .await
        .expect("answered");
    let statuses: Vec<_> = renewed
        .into_inner()
        .results
        .iter()
        .map(v1::RenewResult::status)
        .collect();
    assert_eq!(statuses, [v1::RenewStatus::NotHeld]);
}

/// Goal: a try is granted or refused at once, and names what is in the way; an operator's force is told.
#[tokio::test]
async fn try_and_force() {
    use v1::try_lock_response::Result as Answer;
    let server = start_server(ServerConfig::default()).await;
    let mut locks = server.locks().await;
    let (mut held, token) = hold(&mut locks, "k", "a").await;
    let attempt = v1::TryLockRequest {
        key: "k".into(),
        owner: "b".into(),
        ..Default::default()
    };
    let answer = locks.try_lock(attempt.clone()).await.expect("answered").into_inner();
    let Some(Answer::Refused(refused)) = answer.result else {
        panic!("refused was expected")
    };
    assert_eq!(refused.reason(), v1::RefusedReason::WouldWait);
    let Some(v1::obstacle::Kind::Holder(holder)) = refused.obstacle.and_then(|obstacle| obstacle.kind) else {
        panic!("the holder is in the way");
    };
    assert_eq!((holder.owner.as_str(), holder.fencing_token), ("a", token));

    let force = |token| v1::ForceUnlockRequest {
        key: "k".into(),
        fencing_token: token,
        reason: "stuck".into(),
        by: "operator".into(),
    };
    let mut admin = server.admin().await;
    let other = admin
        .force_unlock(force(token + 1_000))
        .await
        .expect("answered")
        .into_inner();
    assert_eq!(other.result(), v1::ForceUnlockResult::NotFound);
    let taken = admin.force_unlock(force(token)).await.expect("answered").into_inner();
    assert_eq!(
        (taken.result(), taken.owner.as_str()),
        (v1::ForceUnlockResult::Revoked, "a")
    );
    let Event::Lost(lost) = event(&mut held).await else {
        panic!("lost was expected")
    };
    assert_eq!(
        (lost.reason(), lost.message.as_str()),
        (v1::LostReason::Revoked, "stuck")
    );
    let answer = locks.try_lock(attempt).await.expect("answered").into_inner();
    assert!(matches!(answer.result, Some(Answer::Granted(_))), "{answer:?}");
}

/// Goal: a holder whose process dies passes the lock on at once, far sooner than its lease, and leaves no waiter.
#[test]
fn a_dead_holder_passes_the_lock_on() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
    };
    let ours = runtime().expect("a runtime");
    let theirs = runtime().expect("a runtime");
    let server = ours.block_on(async { start_server(ServerConfig::default()).await });
    let mut locks = ours.block_on(server.locks());
    // Everything of the other runtime ends without a word, as in a process that is killed: its sockets are closed.
    let (_held, _waiting) = theirs.block_on(async {
        let mut locks = server.locks().await;
        let (held, _) = hold(&mut locks, "k", "a").await;
        let mut waiting = lock(&mut locks, request("k", "a2")).await.expect("in line");
        queued(&mut waiting).await;
        (held, waiting)
    });
    let mut second = ours.block_on(async {
        let mut second = lock(&mut locks, request("k", "b")).await.expect("in line");
        assert_eq!(queued(&mut second).await.position, 1);
        second
    });
    theirs.shutdown_background();
    ours.block_on(async {
        let at_once = std::time::Duration::from_secs(5);
        tokio::time::timeout(at_once, granted(&mut second))
            .await
            .expect("long before the lease ends");
        until_waiters(&server, "k", 0).await;
    });
}

/// Goal: however many streams are open on a connection, an unlock on it gets through.
#[tokio::test]
async fn an_unlock_always_gets_through() {
    let server = start_server(ServerConfig::default()).await;
    let mut locks = server.locks().await;
    let mut held = Vec::new();
    let mut refused = 0;
    for number in 0..300 {
        match lock(&mut locks, request(&format!("k/{number}"), "a")).await {
            Ok(mut stream) => {
                let token = granted(&mut stream).await.fencing_token;
                held.push((number, token, stream));
            }
            Err(status) => {
                assert_eq!(
                    reason(&status),
                    (Code::ResourceExhausted, "TOO_MANY_STREAMS".to_owned())
                );
                refused += 1;
            }
        }
    }
    assert_eq!((held.len(), refused), (240, 60));
    for (number, token, mut stream) in held {
        let ended = locks.unlock(unlock(&format!("k/{number}"), "a", token));
        let ended = tokio::time::timeout(PATIENCE, ended)
            .await
            .expect("in time")
            .expect("answered");
        assert_eq!(ended.into_inner().result(), v1::UnlockResult::Released);
        assert!(message(&mut stream).await.expect("no error").is_none());
    }
    server.until_empty().await;
}

/// Goal: 10,000 waits that are cancelled by dropping their streams, on one connection, leave nothing behind and harm
/// nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_cancels_harm_nobody() {
    const ROUNDS: usize = 100;
    const AT_ONCE: usize = 100;
    let server = start_server(ServerConfig::default()).await;
    let mut other = server.locks().await;
    let (mut held, token) = hold(&mut other, "k", "a").await;
    let mut next = lock(&mut other, request("k", "b")).await.expect("in line");
    queued(&mut next).await;

    let storm = server.locks().await;
    let mut refused = 0;
    for _ in 0..ROUNDS {
        let waits = (0..AT_ONCE).map(|_| {
            let mut storm = storm.clone();
            tokio::spawn(async move { lock(&mut storm, request("k", "storm")).await.map(drop) })
        });
        for wait in waits.collect::<Vec<_>>() {
            if let Err(status) = wait.await.expect("no panic") {
                // The storm may hit its own bounds, never another's.
                refused += 1;
                assert_eq!(reason(&status).1, "TOO_MANY_STREAMS", "{status:?}");
            }
        }
    }
    assert!(refused < ROUNDS, "{refused} of the storm were no cancels");
    until_waiters(&server, "k", 1).await;
    let renewal = v1::RenewItem {
        key: "k".into(),
        fencing_token: token,
        ttl: None,
    };
    let renewed = other
        .renew(v1::RenewRequest {
            owner: "a".into(),
            items: vec![renewal],
        })
        .await
        .expect("answered");
    let statuses: Vec<_> = renewed
        .into_inner()
        .results
        .iter()
        .map(v1::RenewResult::status)
        .collect();
    assert_eq!(statuses, [v1::RenewStatus::Renewed]);
    other.unlock(unlock("k", "a", token)).await.expect("answered");
    assert!(message(&mut held).await.expect("no error").is_none());
    granted(&mut next).await;
}

/// Goal: 10,000 waiters on one key are granted in the exact order of their tickets, each once, with growing tokens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_waiters_drain_in_order() {
    const WAITERS: usize = 10_000;
    const PER_CONNECTION: usize = 200;
    let server = start_server(ServerConfig::default()).await;
    let mut first = server.locks().await;
    let (_held, token) = hold(&mut first, "k", "first").await;

    let grants = Arc::new(Mutex::new(Vec::with_capacity(WAITERS)));
    let mut tasks = Vec::with_capacity(WAITERS);
    let mut tickets = BTreeSet::new();
    let (in_line, mut places) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..WAITERS / PER_CONNECTION {
        let locks = server.locks().await;
        for _ in 0..PER_CONNECTION {
            let (mut locks, grants, in_line) = (locks.clone(), Arc::clone(&grants), in_line.clone());
            tasks.push(tokio::spawn(async move {
                let mut stream = locks.lock(request("k", "w")).await.expect("in line").into_inner();
                let place = queued(&mut stream).await;
                in_line.send(place.ticket).expect("the test goes on");
                let event = stream
                    .message()
                    .await
                    .expect("no error")
                    .and_then(|message| message.event);
                let Some(Event::Granted(grant)) = event else {
                    panic!("a grant was expected, not {event:?}")
                };
                grants
                    .lock()
                    .expect("no panic")
                    .push((grant.ticket, grant.fencing_token));
                locks
                    .unlock(unlock("k", "w", grant.fencing_token))
                    .await
                    .expect("answered");
                assert!(stream.message().await.expect("no error").is_none());
            }));
        }
    }
    while tickets.len() < WAITERS {
        tickets.insert(places.recv().await.expect("a place in line"));
    }
    first.unlock(unlock("k", "first", token)).await.expect("answered");
    for task in tasks {
        tokio::time::timeout(PATIENCE, task)
            .await
            .expect("drained in time")
            .expect("no panic");
    }
    let grants = std::mem::take(&mut *grants.lock().expect("no panic"));
    let order: Vec<u64> = grants.iter().map(|(ticket, _)| *ticket).collect();
    assert_eq!(
        order,
        tickets.into_iter().collect::<Vec<_>>(),
        "granted in the order of the tickets"
    );
    assert!(
        grants
            .iter()
            .map(|(_, token)| *token)
            .is_sorted_by(|earlier, later| earlier < later),
        "tokens grow"
    );
    server.until_empty().await;
}

/// Goal: who asks for a key's status learns whether somebody holds it, whether it is itself, and whether the work was done
/// before: while the outcome waits for a head that is away, the key is completed and free.
#[tokio::test]
async fn a_status_says_held_own_and_completed() {
    let server = start_server(ServerConfig::default()).await;
    let mut locks = server.locks().await;
    let (_stream, token) = hold(&mut locks, "k", "a").await;
    let graceful = v1::LockRequest {
        on_disconnect: v1::OnDisconnect::Grace.into(),
        grace: wire(60, 0),
        request_id: vec![5; 16],
        ..request("k", "b")
    };
    let mut waiting = lock(&mut locks, graceful).await.expect("in line");
    queued(&mut waiting).await;
    drop(waiting);
    let status = async |locks: &mut support::Locks, owner: &str| {
        let request = v1::GetLockRequest {
            key: "k".into(),
            owner: owner.into(),
            ..Default::default()
        };
        let answer = locks.get_lock(request).await.expect("read").into_inner();
        let away = answer
            .lock
            .is_some_and(|lock| lock.waiters.iter().all(|it| !it.connected));
        (away, (answer.held, answer.held_by_caller, answer.completed))
    };
    let gone = async {
        while !status(&mut locks, "b").await.0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the waiter is away");
    assert_eq!(status(&mut locks, "a").await.1, (true, true, false));
    assert_eq!(status(&mut locks, "b").await.1, (true, false, false));
    let success = v1::Outcome {
        status: v1::OutcomeStatus::Success.into(),
        ..Default::default()
    };
    let outcome = Some(success);
    let ended = locks.unlock(v1::UnlockRequest {
        outcome,
        ..unlock("k", "a", token)
    });
    ended.await.expect("answered");
    assert_eq!(status(&mut locks, "a").await.1, (false, false, true));
}
