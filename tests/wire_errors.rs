//! Every error that a caller can meet, provoked over a real socket; and that none of them leaves anything behind.

#![expect(clippy::indexing_slicing, reason = "tests")]

#[expect(dead_code, reason = "other test files need more of it")]
mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use support::{
    Locks, check, config, event, granted, lock, message, queued, request, start_server, start_server_over, unlock,
};
use ticketlock::config::ServerConfig;
use ticketlock::grpc::ErrorReason;
use ticketlock::store::faulty::Fault;
use ticketlock::store::{Faults, FaultyStore, MemoryStore, StoreError};
use ticketlock_proto::v1;
use ticketlock_proto::v1::lock_response::Event;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// What these tests and those of sessions provoke. The rest cannot occur yet, or only by the stack's own limits: see `PENDING`.
const PROVOKED: &[ErrorReason] = &[
    ErrorReason::InvalidKey,
    ErrorReason::InvalidOwner,
    ErrorReason::InvalidRequestId,
    ErrorReason::InvalidAttach,
    ErrorReason::InvalidMode,
    ErrorReason::InvalidPermits,
    ErrorReason::InvalidTtl,
    ErrorReason::InvalidWaitTimeout,
    ErrorReason::InvalidOnDisconnect,
    ErrorReason::InvalidGrace,
    ErrorReason::InvalidSameOwner,
    ErrorReason::InvalidLockDelay,
    ErrorReason::InvalidMaxHold,
    ErrorReason::InvalidMetadata,
    ErrorReason::InvalidToken,
    ErrorReason::InvalidOutcome,
    ErrorReason::InvalidItems,
    ErrorReason::InvalidPage,
    ErrorReason::InvalidPrefix,
    ErrorReason::InvalidSession,
    ErrorReason::InvalidReason,
    ErrorReason::MalformedRequest,
    ErrorReason::LockBySelf,
    ErrorReason::RequestIdReused,
    ErrorReason::CapacityMismatch,
    ErrorReason::ModeMismatch,
    ErrorReason::RequestIdRequired,
    ErrorReason::QueueFull,
    ErrorReason::TooManyClaims,
    ErrorReason::TooManyLocks,
    ErrorReason::TooManyWaiters,
    ErrorReason::TooManyStreams,
    ErrorReason::MessageTooLarge,
    ErrorReason::OutboxFull,
    ErrorReason::ShardBusy,
    ErrorReason::Draining,
    ErrorReason::StoreUnavailable,
    ErrorReason::ShardMoved,
    ErrorReason::Superseded,
    ErrorReason::Unimplemented,
    ErrorReason::Bug,
    ErrorReason::Corrupt,
];

/// Not yet: authentication, shedding of other kinds, and the deadline that callers keep.
const PENDING: &[ErrorReason] = &[
    ErrorReason::Unauthenticated,
    ErrorReason::PermissionDenied,
    ErrorReason::Overloaded,
    ErrorReason::DeadlineExceeded,
];

/// Goal: each reason is provoked here or listed as pending, and none is both.
#[test]
fn every_reason_is_accounted_for() {
    let listed: Vec<&ErrorReason> = PROVOKED.iter().chain(PENDING).collect();
    assert_eq!(
        listed.iter().collect::<BTreeSet<_>>().len(),
        listed.len(),
        "listed twice"
    );
    assert_eq!(
        listed.into_iter().collect::<BTreeSet<_>>(),
        ErrorReason::ALL.iter().collect()
    );
}

/// Goal: what the rules refuse comes with its reason and with what a program needs.
#[tokio::test]
async fn refusals_of_the_rules() {
    let server = start_server(config(|config| {
        config.core.waiters_max = 1;
        config.core.claims_max = 2;
    }))
    .await;
    let mut locks = server.locks().await;
    let named = |id: u8| v1::LockRequest {
        request_id: vec![id; 16],
        ..request("k", "o")
    };
    let mut stream = lock(&mut locks, named(1)).await.expect("taken");
    let token = granted(&mut stream).await.fencing_token;

    let same = v1::LockRequest {
        same_owner: v1::SameOwner::Refuse.into(),
        ..named(2)
    };
    let status = check(lock(&mut locks, same).await, ErrorReason::LockBySelf);
    let details = status.get_error_details();
    let info = details.error_info().expect("ErrorInfo");
    assert_eq!(info.metadata["fencing_token"], token.to_string());

    let reused = v1::LockRequest {
        mode: v1::LockMode::Shared.into(),
        ..named(1)
    };
    check(lock(&mut locks, reused).await, ErrorReason::RequestIdReused);

    let reenter = |id: u8, mode: v1::LockMode| v1::LockRequest {
        same_owner: v1::SameOwner::Reenter.into(),
        mode: mode.into(),
        ..named(id)
    };
    check(
        lock(&mut locks, reenter(3, v1::LockMode::Shared)).await,
        ErrorReason::ModeMismatch,
    );
    let mut second = lock(&mut locks, reenter(4, v1::LockMode::Exclusive))
        .await
        .expect("a second claim");
    assert_eq!(granted(&mut second).await.fencing_token, token);
    check(
        lock(&mut locks, reenter(5, v1::LockMode::Exclusive)).await,
        ErrorReason::TooManyClaims,
    );
    check(
        locks.unlock(unlock("k", "o", token)).await,
        ErrorReason::RequestIdRequired,
    );

    let mut waiting = lock(&mut locks, request("k", "p"))
        .await
        .expect("the one place in line");
    queued(&mut waiting).await;
    check(lock(&mut locks, request("k", "q")).await, ErrorReason::QueueFull);

    let permits = |capacity| v1::LockRequest {
        mode: v1::LockMode::Permits.into(),
        permits: 1,
        capacity,
        ..request("permits", "o")
    };
    let mut first = lock(&mut locks, permits(3)).await.expect("taken");
    granted(&mut first).await;
    check(lock(&mut locks, permits(4)).await, ErrorReason::CapacityMismatch);
}

/// Goal: a later stream of the same request ends the earlier one with its own reason.
#[tokio::test]
async fn superseded() {
    let server = start_server(config(|_| {})).await;
    let mut locks = server.locks().await;
    let named = |number| v1::LockRequest {
        request_id: vec![1; 16],
        attach: Some(v1::Attach { number, mode: 0 }),
        ..request("k", "o")
    };
    let mut early = lock(&mut locks, named(1)).await.expect("taken");
    let token = granted(&mut early).await.fencing_token;
    let mut late = lock(&mut locks, named(2)).await.expect("attached");
    check(message(&mut early).await, ErrorReason::Superseded);
    assert_eq!(granted(&mut late).await.fencing_token, token);
}

/// Goal: the bounds of one connection are told apart, and each names its limit.
#[tokio::test]
async fn limits_of_a_connection() {
    let server = start_server(config(|config| {
        config.limits.locks_per_connection_max = 2;
        config.limits.waiters_per_connection_max = 3;
        config.limits.streams_per_connection_max = 20;
        config.limits.streams_reserved = 16;
    }))
    .await;
    let mut holder = server.locks().await;
    let mut held = lock(&mut holder, request("k", "o")).await.expect("taken");
    granted(&mut held).await;

    let mut waiter = server.locks().await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = lock(&mut waiter, request("k", "w")).await.expect("a place in line");
        queued(&mut stream).await;
        streams.push(stream);
    }
    let status = check(lock(&mut waiter, request("k", "w")).await, ErrorReason::TooManyWaiters);
    assert!(status.message().contains('3'), "{status:?}");
    let watch = waiter
        .watch_locks(v1::WatchLocksRequest { prefix: "none/".into() })
        .await
        .expect("the fourth stream");
    let second = waiter
        .watch_locks(v1::WatchLocksRequest { prefix: "none/".into() })
        .await;
    check(second, ErrorReason::TooManyStreams);
    check(
        lock(&mut waiter, request("free", "w")).await,
        ErrorReason::TooManyStreams,
    );
    drop(watch);

    let mut second = lock(&mut holder, request("l", "o")).await.expect("the second lock");
    granted(&mut second).await;
    check(lock(&mut holder, request("m", "o")).await, ErrorReason::TooManyLocks);
}

/// A server over a store that fails on demand.
async fn faulty(change: impl FnOnce(&mut ServerConfig)) -> (support::TestServer, Faults) {
    let config = config(change);
    let faults = Faults::default();
    let store = FaultyStore::new(MemoryStore::new([1; 16], config.shards, 1_000), faults.clone());
    (start_server_over(Arc::new(store), config).await, faults)
}

/// A try, as a probe of whether a key's shard answers.
async fn probe(locks: &mut Locks, key: &str) -> Result<(), Status> {
    let attempt = v1::TryLockRequest {
        key: key.into(),
        owner: "o".into(),
        ..Default::default()
    };
    locks.try_lock(attempt).await.map(drop)
}

/// Waits until a key's shard answers again.
async fn until_open(locks: &mut Locks, key: &str) {
    let open = async {
        while locks
            .get_lock(v1::GetLockRequest {
                key: key.into(),
                ..Default::default()
            })
            .await
            .is_err()
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(support::PATIENCE, open)
        .await
        .expect("the shard opens again");
}

/// Goal: a store that is away, one that was taken over and one that cannot be read have a reason each, and only the
/// last one stays.
#[tokio::test]
async fn failures_of_the_store() {
    let (server, faults) = faulty(|_| {}).await;
    let mut locks = server.locks().await;
    for (fault, expected) in [
        (Fault::Unavailable, ErrorReason::StoreUnavailable),
        (Fault::UnknownNotApplied, ErrorReason::StoreUnavailable),
        (Fault::Fenced, ErrorReason::ShardMoved),
    ] {
        faults.fail_commits(1, fault);
        check(probe(&mut locks, "k").await, expected);
        until_open(&mut locks, "k").await;
    }
    probe(&mut locks, "k").await.expect("serves again");
    faults.fail_takes(1_000, &StoreError::Corrupt("a planted fault".into()));
    faults.fail_commits(1, Fault::Unavailable);
    let unlucky = "unlucky";
    check(probe(&mut locks, unlucky).await, ErrorReason::StoreUnavailable);
    let corrupt = async {
        loop {
            match probe(&mut locks, unlucky).await {
                Err(status) if status.code() == Code::DataLoss => break status,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    let status = tokio::time::timeout(support::PATIENCE, corrupt).await.expect("told");
    check::<()>(Err(status), ErrorReason::Corrupt);
}

/// Goal: commands that pile up behind a slow commit are shed, and served again afterwards.
#[tokio::test]
async fn a_busy_shard_sheds() {
    let (server, faults) = faulty(|config| config.limits.held_per_shard_max = 1).await;
    let mut locks = server.locks().await;
    let shard = server.service.shards().shard_of("k");
    faults.hold(shard);
    let pending: Vec<_> = (0..3)
        .map(|_| {
            let mut locks = locks.clone();
            tokio::spawn(async move { probe(&mut locks, "k").await })
        })
        .collect();
    faults.until_held(shard).await;
    let shed = async {
        loop {
            match locks
                .get_lock(v1::GetLockRequest {
                    key: "k".into(),
                    ..Default::default()
                })
                .await
            {
                Err(status) => break status,
                Ok(_) => tokio::task::yield_now().await,
            }
        }
    };
    let status = tokio::time::timeout(support::PATIENCE, shed).await.expect("shed");
    check::<()>(Err(status), ErrorReason::ShardBusy);
    faults.release_all();
    for task in pending {
        // Served or shed: both are answers.
        let _ = task.await.expect("no panic");
    }
    until_open(&mut locks, "k").await;
}

/// Goal: a broken invariant is told as the server's own fault, and harms no other key for good.
#[tokio::test]
async fn a_bug_is_told() {
    let server = start_server(config(|config| config.plant_panic_key = Some("planted".into()))).await;
    let mut locks = server.locks().await;
    check(probe(&mut locks, "planted").await, ErrorReason::Bug);
    until_open(&mut locks, "k").await;
    until_open(&mut locks, "other").await;
    probe(&mut locks, "k").await.expect("serves on");
}

/// Goal: a server that is about to stop says so to new requests, and to those that wait.
#[tokio::test]
async fn draining() {
    let server = start_server(config(|_| {})).await;
    let mut locks = server.locks().await;
    let mut held = lock(&mut locks, request("k", "o")).await.expect("taken");
    let token = granted(&mut held).await.fencing_token;
    let ending = server.stop();
    assert!(matches!(event(&mut held).await, Event::ServerDraining(_)));
    check(lock(&mut locks, request("l", "o")).await, ErrorReason::Draining);
    check(probe(&mut locks, "l").await, ErrorReason::Draining);
    locks
        .unlock(unlock("k", "o", token))
        .await
        .expect("an unlock gets through");
    assert!(message(&mut held).await.expect("ends well").is_none());
    ending.ended().await;
}
