//! Locks as objects, one for each key and client: a basic lock whose lease the caller moves, a lock that renews itself and
//! comes back after a loss, and leader election on top.
//!
//! A [`LockClient`] knows its locks. [`DistributedLock`] has four states and does one thing at a time;
//! [`AutoRenewalLock`] tells a listener when it has the lock and when it has lost it, strictly in turn; [`Election`] gives
//! the holder a name that others can watch. What they believe is counted as a [`Guard`](crate::Guard) counts: from when a
//! message was sent, on a clock that counts suspend, less 2 %.

mod auto;
mod basic;
mod election;
mod machine;
mod schedule;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use auto::{AutoRenewalListener, AutoRenewalLock};
pub use basic::{DistributedLock, ExpireListener};
pub use election::{Election, Leader, Leadership, Observing};
pub use machine::LockState;
pub use schedule::{DEFAULT_RETRY_INTERVALS, RetrySchedule};

use crate::{Client, Error};

/// Why a call of a lock object failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another call of the same lock object is under way.
    #[error("lock {key:?}: another operation of this lock is under way")]
    Busy {
        /// Of which key.
        key: String,
    },
    /// The lock object, or its client, is closed.
    #[error("lock {key:?}: closed")]
    Closed {
        /// Of which key.
        key: String,
    },
    /// The call was ended by an unlock.
    #[error("lock {key:?}: ended by an unlock")]
    Cancelled {
        /// Of which key.
        key: String,
    },
    /// The lock is not held, or not any more.
    #[error("lock {key:?}: not held")]
    NotHeld {
        /// Of which key.
        key: String,
    },
    /// The client has a lock object of this key already.
    #[error("lock {key:?}: this client has a lock of this key already")]
    Exists {
        /// Of which key.
        key: String,
    },
    /// The server could not be asked, or refused the request. The state is [`LockState::Unknown`] where it may have been
    /// done all the same.
    #[error("lock {key:?}: {error}")]
    Failed {
        /// Of which key.
        key: String,
        /// Why.
        error: Box<Error>,
    },
}

/// Connections, and the locks over them.
///
/// ```no_run
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use ticketlock_client::Client;
/// use ticketlock_client::leased::LockClient;
///
/// let locks = LockClient::new(Client::connect("http://127.0.0.1:8476").await?, "group-1");
/// let lock = locks.create_lock("myResource")?;
/// if lock.try_lock(Duration::from_millis(30_000), Duration::from_millis(5_000)).await? {
///     // … work …
///     lock.unlock().await?;
/// }
/// locks.stop(Duration::from_secs(3)).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct LockClient {
    shared: Arc<Shared>,
}

/// What all clones share.
struct Shared {
    client: Client,
    locks: Mutex<Locks>,
}

struct Locks {
    /// Of locks that are made from now on.
    group: String,
    /// The objects, by key; each key has one of either kind at most.
    renewing: BTreeMap<String, AutoRenewalLock>,
    basic: BTreeMap<String, DistributedLock>,
    stopped: bool,
}

impl fmt::Debug for LockClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let locks = self.locks();
        f.debug_struct("LockClient")
            .field("group", &locks.group)
            .field("basic", &locks.basic)
            .field("renewing", &locks.renewing)
            .finish()
    }
}

impl LockClient {
    /// Over a client. Keys of its locks are `GROUP/KEY`; an empty group leaves them as they are.
    #[must_use]
    pub fn new(client: Client, group: impl Into<String>) -> Self {
        let locks = Locks {
            group: group.into(),
            renewing: BTreeMap::new(),
            basic: BTreeMap::new(),
            stopped: false,
        };
        Self {
            shared: Arc::new(Shared {
                client,
                locks: Mutex::new(locks),
            }),
        }
    }

    fn locks(&self) -> MutexGuard<'_, Locks> {
        // Nothing panics while this is held, so what a poisoned lock protects is whole.
        self.shared.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the lock object of a key.
    ///
    /// # Errors
    /// [`LockError::Exists`] while there is one that is not closed, [`LockError::Closed`] after [`stop`](Self::stop).
    pub fn create_lock(&self, key: impl AsRef<str>) -> Result<DistributedLock, LockError> {
        self.create_lock_with(key, None)
    }

    /// The same, with a listener that is called whenever the lease ends without an unlock. It must not block.
    ///
    /// # Errors
    /// As [`create_lock`](Self::create_lock).
    pub fn create_lock_with(
        &self,
        key: impl AsRef<str>,
        listener: Option<ExpireListener>,
    ) -> Result<DistributedLock, LockError> {
        let mut locks = self.locks();
        let key = locks.admit(key.as_ref())?;
        let lock = DistributedLock::new(self.shared.client.clone(), key.clone(), listener);
        locks.basic.insert(key, lock.clone());
        Ok(lock)
    }

    /// Makes a lock that renews itself, with a lease of this length, and begins at once to wait for it in the background.
    ///
    /// # Errors
    /// As [`create_lock`](Self::create_lock).
    pub fn create_auto_renewal_lock(
        &self,
        key: impl AsRef<str>,
        lease: Duration,
        listener: Arc<dyn AutoRenewalListener>,
    ) -> Result<AutoRenewalLock, LockError> {
        self.create_auto_renewal_lock_with(key, lease, listener, RetrySchedule::default())
    }

    /// The same, with pauses of one's own between failed tries to get the lock.
    ///
    /// # Errors
    /// As [`create_lock`](Self::create_lock).
    pub fn create_auto_renewal_lock_with(
        &self,
        key: impl AsRef<str>,
        lease: Duration,
        listener: Arc<dyn AutoRenewalListener>,
        schedule: RetrySchedule,
    ) -> Result<AutoRenewalLock, LockError> {
        let mut locks = self.locks();
        let key = locks.admit(key.as_ref())?;
        let lock = AutoRenewalLock::start(self.shared.client.clone(), key.clone(), lease, listener, schedule);
        locks.renewing.insert(key, lock.clone());
        Ok(lock)
    }

    /// Closes the lock object of a key of the present group, and forgets it: another one can be made then.
    pub async fn remove_lock(&self, key: impl AsRef<str>) {
        let (basic, renewing) = {
            let mut locks = self.locks();
            let key = locks.full(key.as_ref());
            (locks.basic.remove(&key), locks.renewing.remove(&key))
        };
        if let Some(lock) = basic {
            lock.close().await;
        }
        if let Some(lock) = renewing {
            lock.close().await;
        }
    }

    /// Locks that are made from now on belong to this group; those that are there stay where they are.
    pub fn set_group(&self, group: impl Into<String>) {
        self.locks().group = group.into();
    }

    /// Looks for the server there from now on; an endpoint that is no longer named is left at once. As
    /// [`Client::set_endpoints`].
    ///
    /// # Errors
    /// An endpoint that is no `http://HOST:PORT`, or none at all.
    pub fn set_endpoints<S: Into<String>>(&self, endpoints: impl IntoIterator<Item = S>) -> Result<(), Error> {
        self.shared.client.set_endpoints(endpoints)
    }

    /// Adds an endpoint behind those that are there.
    ///
    /// # Errors
    /// If it is no `http://HOST:PORT`.
    pub fn add_endpoint(&self, endpoint: impl Into<String>) -> Result<(), Error> {
        let mut endpoints = self.shared.client.endpoints();
        endpoints.push(endpoint.into());
        self.shared.client.set_endpoints(endpoints)
    }

    /// Gives everything back and ends: all locks are closed, listeners told, and later calls fail. Ends when the server has
    /// answered, or after `within`.
    ///
    /// # Errors
    /// [`Error::Closed`] where not all was answered in time: those locks end with their leases.
    pub async fn stop(&self, within: Duration) -> Result<(), Error> {
        let (basic, renewing) = {
            let mut locks = self.locks();
            locks.stopped = true;
            (std::mem::take(&mut locks.basic), std::mem::take(&mut locks.renewing))
        };
        let client = &self.shared.client;
        // Side by side, because each of them asks the server.
        let mut closing = tokio::task::JoinSet::new();
        basic
            .into_values()
            .for_each(|lock| drop(closing.spawn(async move { lock.close().await })));
        renewing
            .into_values()
            .for_each(|lock| drop(closing.spawn(async move { lock.close().await })));
        // What is late is asked for once more below, with everything else of the client.
        let began = client.inner.clock.now();
        let all = async { while closing.join_next().await.is_some() {} };
        let in_time = tokio::time::timeout(within, all).await.is_ok();
        closing.detach_all();
        let left = within.saturating_sub(client.inner.clock.now().saturating_sub(began));
        client.close(left).await?;
        in_time.then_some(()).ok_or(Error::Closed)
    }
}

impl Locks {
    fn full(&self, key: &str) -> String {
        match self.group.as_str() {
            "" => key.to_owned(),
            group => format!("{group}/{key}"),
        }
    }

    fn admit(&mut self, key: &str) -> Result<String, LockError> {
        let key = self.full(key);
        if self.stopped {
            return Err(LockError::Closed { key });
        }
        // One that was closed by itself makes room.
        let closed = |lock: &DistributedLock| lock.state() == LockState::Closed;
        if self.basic.get(&key).is_some_and(closed) || self.renewing.get(&key).is_some_and(AutoRenewalLock::is_closed) {
            self.basic.remove(&key);
            self.renewing.remove(&key);
        }
        if self.basic.contains_key(&key) || self.renewing.contains_key(&key) {
            return Err(LockError::Exists { key });
        }
        Ok(key)
    }
}
