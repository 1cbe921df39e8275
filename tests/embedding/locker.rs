//! The lock component: three calls, on every backend.

use std::sync::Arc;
use std::time::Duration;

use ticketlock_client::locker::{LockOptions, LockerError};
use ticketlock_client::seams::Random;
use ticketlock_client::{Client, LostReason};

use ticketlock_proto::v1;
use ticketlock_proto::v1::lock_service_client::LockServiceClient;
use tonic::transport::Endpoint;

use crate::place::{Place, until};

/// Nobody asks for it: a lease ends by itself.
const SHORT: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread")]
async fn three_calls_do_it_on_every_backend() {
    for place in Place::all().await {
        let (mine, theirs) = (place.locker("me").await, place.locker("them").await);
        mine.lock("r", LockOptions::default()).await.expect("free");
        let token = mine.fencing_token("r").expect("held for certain");
        assert!(!theirs.try_lock("r", LockOptions::default()).await.expect("answered"));
        let refused = theirs.unlock("r").await;
        assert!(
            matches!(&refused, Err(LockerError::LockByOther { owner, fencing_token, .. })
                if owner == "me" && *fencing_token == token),
            "{}: {refused:?}",
            place.name
        );
        assert_eq!(mine.fencing_token("r"), Some(token), "untouched");
        mine.unlock("r").await.expect("held");
        assert!(theirs.try_lock("r", LockOptions::default()).await.expect("answered"));
        assert!(theirs.fencing_token("r").expect("held") > token);
        theirs.unlock("r").await.expect("held");
        let refused = mine.unlock("r").await;
        assert!(matches!(refused, Err(LockerError::NotHeld { .. })), "{refused:?}");
        assert_eq!(mine.fencing_token("r"), None);
    }
}

/// A lock that ran out is told at its unlock, and whoever has the key by then keeps it: another locker, or this one.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_unlock_frees_nobody_else() {
    for place in Place::all().await {
        let (mine, theirs) = (place.locker("me").await, place.locker("them").await);
        let short = || LockOptions::default().with_ttl(SHORT).without_renewal();
        mine.lock("r", short()).await.expect("free");
        theirs.lock("r", LockOptions::default()).await.expect("after the lease");
        let token = theirs.fencing_token("r").expect("held");
        let late = mine.unlock("r").await;
        let expired = |it: &Result<(), LockerError>| matches!(it, Err(LockerError::Lost { reason, .. }) if *reason == LostReason::Expired);
        assert!(expired(&late), "{late:?}");
        assert_eq!(theirs.fencing_token("r"), Some(token));
        theirs.unlock("r").await.expect("untouched");

        mine.lock("r", short()).await.expect("free");
        mine.lock("r", LockOptions::default())
            .await
            .expect("after its own lease");
        let token = mine.fencing_token("r").expect("held");
        assert!(expired(&mine.unlock("r").await), "the older of the two");
        assert_eq!(mine.fencing_token("r"), Some(token));
        mine.unlock("r").await.expect("the newer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_or_a_dropped_wait_leaves_no_entry() {
    for place in Place::all().await {
        let (mine, theirs) = (place.locker("me").await, place.locker("them").await);
        let looker = place.client("looker").await;
        mine.lock("r", LockOptions::default()).await.expect("free");
        let deadline = Duration::from_millis(50);
        let late = theirs.lock("r", LockOptions::default().with_deadline(deadline)).await;
        assert!(
            matches!(&late, Err(LockerError::DeadlineExceeded { deadline: told, .. }) if *told == deadline),
            "{late:?}"
        );
        until(&looker, "dlock:r", |lock| lock.waiters.is_empty()).await;
        let waiting = {
            let theirs = Arc::clone(&theirs);
            tokio::spawn(async move { theirs.lock("r", LockOptions::default()).await })
        };
        until(&looker, "dlock:r", |lock| lock.waiters.len() == 1).await;
        waiting.abort();
        until(&looker, "dlock:r", |lock| lock.waiters.is_empty()).await;
        mine.unlock("r").await.expect("held");
        assert!(looker.list("").await.expect("answered").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_overrides_the_configured_lease_and_every_key_has_the_prefix() {
    for place in Place::all().await {
        let locker = place.locker("me").await;
        let looker = place.client("looker").await;
        for (options, longest) in [
            (LockOptions::default(), 10),
            (LockOptions::default().with_ttl(Duration::from_secs(3)), 3),
        ] {
            locker.lock("r", options).await.expect("free");
            let lock = looker.get("dlock:r").await.expect("answered");
            let left = lock.holders[0].lease_left;
            let longest = Duration::from_secs(longest);
            assert!(left <= longest && left > longest / 2, "{left:?} of {longest:?}");
            assert!(looker.get("r").await.expect("answered").holders.is_empty());
            locker.unlock("r").await.expect("held");
        }
    }
}

/// What was held by a guard is free once the guard is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_guard_gives_the_lock_back() {
    for place in Place::all().await {
        let locker = place.locker("me").await;
        let guard = locker.guard("r", LockOptions::default()).await.expect("free");
        assert!(guard.is_held());
        let refused = locker.unlock("r").await;
        assert!(matches!(refused, Err(LockerError::LockByOther { .. })), "{refused:?}");
        drop(guard);
        let waited = locker.lock("r", LockOptions::default().with_deadline(Duration::from_secs(10)));
        waited.await.expect("given back");
    }
}

/// A client that is there already is used, and stays usable when the locker is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_passed_in_and_not_closed() {
    for place in Place::all().await {
        let client = place.client("me").await;
        let locker = place
            .locker_config("ignored")
            .build_on(client.clone())
            .expect("a locker");
        locker.lock("r", LockOptions::default()).await.expect("free");
        let lock = client.get("dlock:r").await.expect("answered");
        assert_eq!(lock.holders[0].owner, "me");
        drop(locker);
        until(&client, "dlock:r", |lock| lock.holders.is_empty()).await;
        drop(client.lock("other").await.expect("it works"));
    }
}

/// Each request has the same id: a test knows it.
struct Known;

impl Random for Known {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

/// Somebody who knows a request cancels it: its caller is told so, not that time ran out.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_wait_is_told_apart() {
    let place = &Place::all().await[0];
    let endpoint = place.endpoint().expect("a server").to_owned();
    let looker = place.client("looker").await;
    let holding = looker.lock("dlock:r").await.expect("free");
    let client = Client::builder()
        .endpoint(&endpoint)
        .owner("me")
        .random(Arc::new(Known));
    let client = client.connect().await.expect("connected");
    let locker = place.locker_config("me").build_on(client).expect("a locker");
    let waiting = tokio::spawn(async move {
        let options = LockOptions::default().with_deadline(Duration::from_secs(60));
        locker.lock("r", options).await
    });
    until(&looker, "dlock:r", |lock| lock.waiters.len() == 1).await;
    let channel = Endpoint::from_shared(endpoint).expect("an endpoint").connect().await;
    let mut stub = LockServiceClient::new(channel.expect("connected"));
    let cancelled = stub.unlock(v1::UnlockRequest {
        key: "dlock:r".to_owned(),
        owner: "me".to_owned(),
        request_id: vec![7; 16],
        ..v1::UnlockRequest::default()
    });
    cancelled.await.expect("answered");
    let ended = waiting.await.expect("no panic");
    assert!(
        matches!(&ended, Err(LockerError::Canceled { key }) if key == "r"),
        "{ended:?}"
    );
    drop(holding);
}
