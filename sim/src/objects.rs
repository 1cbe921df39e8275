//! Lock objects in the simulation: at each moment at most one client believes that it holds a key.
//!
//! Beliefs are asked of the objects themselves, on their own clocks, whenever one of them is granted the lock. A process
//! that was killed believes nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ticketlock_client::leased::{
    AutoRenewalListener, AutoRenewalLock, DistributedLock, LockClient, LockError, RetrySchedule,
};
use ticketlock_verify::Random;

const LEASE: Duration = Duration::from_secs(2);

/// What each client believes.
#[derive(Default)]
pub struct Beliefs {
    clients: Mutex<BTreeMap<u32, Belief>>,
    grants: std::sync::atomic::AtomicUsize,
}

struct Belief {
    basic: DistributedLock,
    renewing: Option<AutoRenewalLock>,
    /// The listener was told that it has the lock, and not yet that it has lost it.
    told: bool,
}

impl Beliefs {
    fn clients(&self) -> MutexGuard<'_, BTreeMap<u32, Belief>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client's process is gone.
    pub fn forget(&self, client: u32) {
        let gone = self.clients().remove(&client);
        // Order: what an object does when it is dropped may ask for the beliefs.
        drop(gone);
    }

    /// How often an object was granted its lock.
    #[must_use]
    pub fn grants(&self) -> usize {
        self.grants.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn granted(&self) {
        self.grants.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }

    /// Invariant: a basic lock that was granted to this client is held by no other, as far as any of them knows.
    fn basic_granted(&self, client: u32) {
        self.granted();
        let clients = self.clients();
        let own = clients.get(&client).and_then(|own| own.basic.fencing_token());
        for (other, belief) in clients.iter().filter(|(other, _)| **other != client) {
            let held = belief.basic.is_held_by_current_client();
            assert!(
                !held,
                "client {client} was granted the basic lock under {own:?}; client {other} believes in {:?} for {:?}",
                belief.basic.fencing_token(),
                belief.basic.lease_rest(),
            );
        }
    }

    fn acquired(&self, client: u32) {
        self.granted();
        let mut clients = self.clients();
        for (other, belief) in clients.iter().filter(|(other, _)| **other != client) {
            let held = belief
                .renewing
                .as_ref()
                .is_some_and(AutoRenewalLock::is_held_by_current_client);
            assert!(
                !held && !belief.told,
                "client {client} was granted the renewing lock; client {other} believes: {held}, told: {}",
                belief.told
            );
        }
        if let Some(belief) = clients.get_mut(&client) {
            assert!(
                !std::mem::replace(&mut belief.told, true),
                "client {client} acquired twice"
            );
        }
    }

    fn lost(&self, client: u32) {
        if let Some(belief) = self.clients().get_mut(&client) {
            assert!(std::mem::replace(&mut belief.told, false), "client {client} lost twice");
        }
    }
}

struct Listener {
    beliefs: Arc<Beliefs>,
    client: u32,
}

impl AutoRenewalListener for Listener {
    fn on_acquired(&self) {
        self.beliefs.acquired(self.client);
    }

    fn on_lost(&self) {
        self.beliefs.lost(self.client);
    }
}

/// Takes and gives back what all clients want, until `stopping`.
pub async fn play(locks: LockClient, client: u32, beliefs: Arc<Beliefs>, draws: Random, stopping: impl Fn() -> bool) {
    let Ok(basic) = locks.create_lock("basic") else { return };
    let belief = Belief {
        basic: basic.clone(),
        renewing: None,
        told: false,
    };
    beliefs.clients().insert(client, belief);
    while !stopping() {
        let mut renewing = None;
        if draws.below(2) == 0 {
            let listener = Arc::new(Listener {
                beliefs: Arc::clone(&beliefs),
                client,
            });
            let schedule = RetrySchedule::new([Duration::from_millis(200), Duration::from_secs(1)]);
            renewing = locks
                .create_auto_renewal_lock_with("renewing", LEASE, listener, schedule)
                .ok();
            if let Some(belief) = beliefs.clients().get_mut(&client) {
                belief.renewing.clone_from(&renewing);
            }
        }
        let mut rounds = 1 + draws.below(4);
        while rounds > 0 && !stopping() {
            rounds -= 1;
            take(&basic, client, &beliefs, &draws).await;
            tokio::time::sleep(draws.shorter(Duration::from_millis(500))).await;
        }
        if let Some(lock) = renewing {
            locks.remove_lock("renewing").await;
            assert!(!lock.is_held_by_current_client(), "closed");
        }
    }
}

/// One turn of the basic lock, with all that a caller may do to it.
async fn take(lock: &DistributedLock, client: u32, beliefs: &Beliefs, draws: &Random) {
    let trying = lock.try_lock(LEASE, draws.shorter(Duration::from_secs(2)));
    match draws.below(8) {
        // Somebody who loses patience.
        0 => drop(tokio::time::timeout(draws.shorter(Duration::from_millis(300)), trying).await),
        1 => {
            let unlocking = async {
                tokio::time::sleep(draws.shorter(Duration::from_millis(300))).await;
                lock.unlock().await
            };
            let (tried, _) = tokio::join!(biased; trying, unlocking);
            assert!(!matches!(tried, Err(LockError::Busy { .. })), "one caller");
            return;
        }
        _ => drop(trying.await),
    }
    if !lock.is_held_by_current_client() {
        return;
    }
    beliefs.basic_granted(client);
    tokio::time::sleep(draws.shorter(LEASE)).await;
    if draws.below(2) == 0 && lock.update_lease(LEASE * 2).await.is_ok() {
        tokio::time::sleep(draws.shorter(LEASE)).await;
    }
    // One in four is left to its lease.
    if draws.below(4) != 0 {
        drop(lock.unlock().await);
    }
}
