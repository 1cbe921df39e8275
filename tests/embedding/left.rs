//! Goal: nothing is left behind in the server, whatever is dropped, overtaken or panics at whichever moment. Leases are long,
//! so that what is left stays to be seen.

use std::sync::Arc;
use std::time::Duration;

use ticketlock_client::Client;
use ticketlock_client::leased::{AutoRenewalListener, LockClient, LockError, LockState};
use ticketlock_client::provider::{ClientLockProvider, LockOptions, LockProvider};

use crate::place::{Place, serve, until};

const LONG: Duration = Duration::from_secs(600);

/// Waits until no key is held or waited for.
async fn until_empty(looker: &Client) {
    let looking = async {
        loop {
            let left = looker.list("").await.expect("answered");
            if left.is_empty() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), looking).await;
    assert!(in_time.is_ok(), "left behind: {:?}", looker.list("").await);
}

/// A lock that is granted in the very moment in which another thread unlocks is given back, or held: nothing between.
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_meets_an_unlock() {
    for place in Place::all().await {
        let looker = place.client("looker").await;
        let locks = LockClient::new(place.client("me").await, "");
        let lock = locks.create_lock("r").expect("new");
        for round in 0..500_u32 {
            let other = lock.clone();
            let unlocking = tokio::spawn(async move {
                for _ in 0..round % 50 {
                    tokio::task::yield_now().await;
                }
                other.unlock().await
            });
            let tried = lock.try_lock(LONG, Duration::ZERO).await;
            unlocking.await.expect("no panic").expect("answered");
            match tried {
                Ok(true) | Err(LockError::Cancelled { .. }) => {}
                // What the round before gave back in the background may be there still.
                Ok(false) => {}
                other => panic!("{other:?}"),
            }
            lock.unlock().await.expect("answered");
        }
        until_empty(&looker).await;
    }
}

/// A call that is dropped at any moment leaves no lock: its owner would be nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_call_of_the_provider() {
    for place in Place::all().await {
        let looker = place.client("looker").await;
        let provider = Arc::new(ClientLockProvider::new(place.client("me").await, LONG));
        for round in 0..200_u32 {
            let options = LockOptions {
                lock_key: format!("k/{round}"),
                owner: format!("owner-{round}"),
                ttl: LONG,
                retry_count: 0,
                retry_delay: Duration::ZERO,
            };
            let (taker, owner) = (Arc::clone(&provider), options.owner.clone());
            let taking = tokio::spawn(async move { taker.lock(options).await });
            for _ in 0..round % 40 {
                tokio::task::yield_now().await;
            }
            taking.abort();
            if let Ok(taken) = taking.await {
                taken.expect("free");
                provider.unlock(&format!("k/{round}"), &owner).await.expect("its own");
            }
        }
        until_empty(&looker).await;
    }
}

/// A listener of an application that fails.
struct Failing;

impl AutoRenewalListener for Failing {
    fn on_acquired(&self) {
        panic!("planted: a listener fails");
    }

    fn on_lost(&self) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_panics() {
    for place in Place::all().await {
        let looker = place.client("looker").await;
        let locks = LockClient::new(place.client("me").await, "");
        let lock = locks
            .create_auto_renewal_lock("r", LONG, Arc::new(Failing))
            .expect("new");
        lock.close().await;
        assert!(!lock.is_held_by_current_client());
        until_empty(&looker).await;
    }
}

/// A lease that cannot be is refused, and what is held stays held.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_out_of_range() {
    for place in Place::all().await {
        let looker = place.client("looker").await;
        let locks = LockClient::new(place.client("me").await, "");
        let lock = locks.create_lock("r").expect("new");
        assert!(lock.try_lock(LONG, Duration::ZERO).await.expect("free"));
        let refused = lock
            .update_lease(Duration::from_millis(10))
            .await
            .expect_err("too short");
        assert!(
            refused.to_string().contains("10ms") && refused.to_string().contains("100 ms to 24 h"),
            "{refused}"
        );
        assert_eq!(lock.state(), LockState::Locked);
        lock.unlock().await.expect("held");
        until_empty(&looker).await;
    }
}

/// A client that is sent to another server takes nothing more at the one before, and hears what it has lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_sent_elsewhere() {
    let (first, second) = (serve().await, serve().await);
    let client = Client::connect(format!("http://{first}")).await.expect("connected");
    let (near, far) = (
        Client::connect(format!("http://{first}")).await.expect("connected"),
        Client::connect(format!("http://{second}")).await.expect("connected"),
    );
    let guard = client.lock("before").await.expect("free");
    client.set_endpoints([format!("http://{second}")]).expect("an endpoint");
    let lost = tokio::time::timeout(Duration::from_secs(20), guard.lost()).await;
    lost.expect("another store knows nothing of it");
    let after = client.lock("after").await.expect("free");
    until(&far, "after", |lock| !lock.holders.is_empty()).await;
    assert!(near.get("after").await.expect("answered").holders.is_empty());
    drop((guard, after));
    until_empty(&far).await;
}
