//! A lock component for applications that want three calls and a configuration: [`Locker`].
//!
//! Lock, try, unlock, by key. What is held renews itself unless the caller opts out, waiters are pushed their grant, and an
//! unlock touches nothing but what this locker took itself: the oldest of its locks of that key, lost or not. So an unlock
//! that comes late, after its lock was lost and another call took the key again, finds the lost one, says so, and leaves
//! the new one alone.
//!
//! ```no_run
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use std::time::Duration;
//! use ticketlock_client::backend::Backends;
//! use ticketlock_client::locker::{LockOptions, Locker, LockerConfig};
//!
//! let locker: Arc<dyn Locker> = LockerConfig::default().build(&Backends::default()).await?;
//! locker.lock("resource:123", LockOptions::default().with_ttl(Duration::from_secs(5))).await?;
//! // …
//! locker.unlock("resource:123").await?;
//! # Ok(()) }
//! ```

mod config;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use config::LockerConfig;
pub(crate) use config::check_ttl;

use crate::backend::BoxFuture;
use crate::types::{LostReason, OnDisconnect, Outcome, RefusedReason, UnlockResult, Unlocked};
use crate::{Client, Error, Guard};

/// What a call asks for beside the key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockOptions {
    /// Length of the lease, 100 ms to 24 h. `None`: the configured default.
    pub ttl: Option<Duration>,
    /// How long to wait in line. `None`: for as long as it takes. A try does not wait.
    pub deadline: Option<Duration>,
    /// Whether the lock is renewed in the background, at a third of its lease. Without it the lock is gone when its lease
    /// ends. Default: true.
    pub renew: bool,
}

impl Default for LockOptions {
    fn default() -> Self {
        Self {
            ttl: None,
            deadline: None,
            renew: true,
        }
    }
}

impl LockOptions {
    /// With a lease of this length.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Waiting for so long at most.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Not renewed: it ends with its lease.
    #[must_use]
    pub fn without_renewal(mut self) -> Self {
        self.renew = false;
        self
    }
}

/// Why a call of a [`Locker`] failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockerError {
    /// The wait was ended by somebody else: cancelled, or removed by an operator.
    #[error("lock {key:?}: the wait was cancelled")]
    Canceled {
        /// Of which key.
        key: String,
    },
    /// The deadline came before the grant.
    #[error("lock {key:?}: not granted within {deadline:?}")]
    DeadlineExceeded {
        /// Of which key.
        key: String,
        /// What the caller allowed.
        deadline: Duration,
    },
    /// This locker does not hold the key; somebody else does. Nothing was changed.
    #[error("unlock {key:?}: held by {owner}, with token {fencing_token}")]
    LockByOther {
        /// Of which key.
        key: String,
        /// Who holds it.
        owner: String,
        /// Under which token.
        fencing_token: u64,
    },
    /// Neither this locker nor anybody else holds the key.
    #[error("unlock {key:?}: not held")]
    NotHeld {
        /// Of which key.
        key: String,
    },
    /// It was lost before it was given back: what was done under it may have overlapped with somebody else's work.
    #[error("unlock {key:?}: it had been lost: {reason}")]
    Lost {
        /// Of which key.
        key: String,
        /// Why.
        reason: LostReason,
    },
    /// The server could not be asked, or refused the request.
    #[error("{key:?}: {error}")]
    Failed {
        /// Of which key.
        key: String,
        /// Why.
        error: Box<Error>,
    },
}

/// What applications depend on; object-safe, so that it can be passed around as `Arc<dyn Locker>`.
pub trait Locker: Send + Sync + fmt::Debug {
    /// Takes the key, waiting in line. Dropping the future leaves the line.
    ///
    /// Errors: [`LockerError::DeadlineExceeded`], [`LockerError::Canceled`], or why it failed.
    fn lock<'a>(&'a self, key: &'a str, options: LockOptions) -> BoxFuture<'a, Result<(), LockerError>>;

    /// Takes the key if that is possible at once: `Ok(false)` where it is not.
    fn try_lock<'a>(&'a self, key: &'a str, options: LockOptions) -> BoxFuture<'a, Result<bool, LockerError>>;

    /// Gives back the oldest lock of the key that this locker took. Only the holder can. Each lock wants its own unlock, also
    /// one that was lost: after [`LockerError::Lost`] a newer lock of the key is held still.
    ///
    /// Errors: [`LockerError::LockByOther`], [`LockerError::NotHeld`], [`LockerError::Lost`], or why it failed.
    fn unlock<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), LockerError>>;

    /// As [`lock`](Self::lock), but the lock is the guard's: dropping that gives it back, and [`unlock`](Self::unlock)
    /// knows nothing of it. A guard renews itself whatever the options say.
    fn guard<'a>(&'a self, key: &'a str, options: LockOptions) -> BoxFuture<'a, Result<Guard, LockerError>>;

    /// The token to hand to what the key protects; `None` where this locker does not hold it for certain.
    fn fencing_token(&self, key: &str) -> Option<u64>;
}

/// A lock of the locker's.
enum Held {
    Renewed(Guard),
    /// Left to its lease: nobody renews it.
    Leased {
        fencing_token: u64,
        until: Duration,
    },
}

/// The locker over a [`Client`], whatever store that leads to.
pub(crate) struct ClientLocker {
    client: Client,
    config: LockerConfig,
    /// For log lines: the caller's namespace and ours below it.
    namespace: String,
    /// By key, the oldest first; one key can be there twice only after the first was lost.
    held: Mutex<HashMap<String, VecDeque<Held>>>,
}

impl fmt::Debug for ClientLocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locker")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl ClientLocker {
    pub(crate) fn new(client: Client, config: LockerConfig) -> Self {
        let namespace = match config.namespace.as_str() {
            "" => "dlock".to_owned(),
            above => format!("{above}.dlock"),
        };
        Self {
            client,
            config,
            namespace,
            held: Mutex::default(),
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, VecDeque<Held>>> {
        // Nothing panics while this is held, so what a poisoned lock protects is whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.client.inner.clock.now()
    }

    async fn take(&self, key: &str, options: &LockOptions, try_only: bool) -> Result<Guard, LockerError> {
        let ttl = options.ttl.unwrap_or(self.config.default_ttl);
        let mut builder = self.client.lock(self.config.store_key(key)).ttl(ttl);
        if !options.renew {
            builder = builder.on_disconnect(OnDisconnect::Lease);
        }
        if try_only {
            builder = builder.no_wait();
        } else if let Some(deadline) = options.deadline {
            builder = builder.wait(deadline);
        }
        let guard = builder.await.map_err(|error| refused(key, options, error))?;
        // A grant that had to wait promises nothing by time before this.
        guard.confirmed().await.map_err(|reason| lost(key, reason))?;
        tracing::info!(
            namespace = self.namespace,
            key,
            fencing_token = guard.fencing_token(),
            waited_ms = u64::try_from(guard.waited().as_millis()).unwrap_or(u64::MAX),
            "lock acquired"
        );
        Ok(guard)
    }

    async fn keep(&self, key: &str, options: &LockOptions, guard: Guard) -> Result<(), LockerError> {
        let held = if options.renew {
            Held::Renewed(guard)
        } else {
            let (sent, left) = (self.now(), guard.valid_for());
            let until = sent + left;
            let fencing_token = guard.detach().await.map_err(|error| failed(key, error))?;
            Held::Leased { fencing_token, until }
        };
        self.held().entry(key.to_owned()).or_default().push_back(held);
        Ok(())
    }

    fn oldest(&self, key: &str) -> Option<Held> {
        let mut held = self.held();
        let locks = held.get_mut(key)?;
        let oldest = locks.pop_front();
        if locks.is_empty() {
            held.remove(key);
        }
        oldest
    }

    async fn give_back(&self, key: &str, held: Held) -> Result<(), LockerError> {
        match held {
            Held::Renewed(guard) => match guard.unlock(Outcome::default()).await {
                Ok(Unlocked::Unlocked) => Ok(()),
                Ok(Unlocked::AlreadyLost(reason)) => Err(lost(key, reason)),
                Err(error) => Err(failed(key, error)),
            },
            Held::Leased { fencing_token, until } => {
                let stored = self.config.store_key(key);
                let promised = until > self.now();
                let answer = self.client.unlock_token(&stored, fencing_token, Outcome::default());
                match answer.await {
                    Ok(UnlockResult::Released { .. }) => Ok(()),
                    // An earlier try of this unlock did it, and its answer was lost.
                    Ok(UnlockResult::AlreadyReleased { ended_by: None }) if promised => Ok(()),
                    Ok(UnlockResult::AlreadyReleased { ended_by: Some(reason) }) => Err(lost(key, reason)),
                    Ok(_) => Err(lost(key, LostReason::Expired)),
                    Err(error) => {
                        // It may stand still: the next unlock tries again.
                        let held = Held::Leased { fencing_token, until };
                        self.held().entry(key.to_owned()).or_default().push_front(held);
                        Err(failed(key, error))
                    }
                }
            }
        }
    }

    /// What stands in the way of an unlock of what this locker never took.
    async fn whose(&self, key: &str) -> LockerError {
        match self.client.get(&self.config.store_key(key)).await {
            Err(error) => failed(key, error),
            Ok(lock) => match lock.holders.into_iter().next() {
                Some(holder) => LockerError::LockByOther {
                    key: key.to_owned(),
                    owner: holder.owner,
                    fencing_token: holder.fencing_token,
                },
                None => LockerError::NotHeld { key: key.to_owned() },
            },
        }
    }
}

fn failed(key: &str, error: Error) -> LockerError {
    LockerError::Failed {
        key: key.to_owned(),
        error: Box::new(error),
    }
}

fn lost(key: &str, reason: LostReason) -> LockerError {
    LockerError::Lost {
        key: key.to_owned(),
        reason,
    }
}

fn refused(key: &str, options: &LockOptions, error: Error) -> LockerError {
    let Error::NotAcquired { reason, .. } = &error else {
        return failed(key, error);
    };
    match (reason, options.deadline) {
        (RefusedReason::WaitTimeout | RefusedReason::WouldWait, Some(deadline)) => LockerError::DeadlineExceeded {
            key: key.to_owned(),
            deadline,
        },
        (RefusedReason::Cancelled | RefusedReason::Revoked, _) => LockerError::Canceled { key: key.to_owned() },
        _ => failed(key, error),
    }
}

impl Locker for ClientLocker {
    fn lock<'a>(&'a self, key: &'a str, options: LockOptions) -> BoxFuture<'a, Result<(), LockerError>> {
        Box::pin(async move {
            let guard = self.take(key, &options, false).await?;
            self.keep(key, &options, guard).await
        })
    }

    fn try_lock<'a>(&'a self, key: &'a str, options: LockOptions) -> BoxFuture<'a, Result<bool, LockerError>> {
        let options = LockOptions {
            deadline: None,
            ..options
        };
        Box::pin(async move {
            let guard = match self.take(key, &options, true).await {
                Err(LockerError::Failed { error, .. }) if error.reason() == RefusedReason::WouldWait.as_str() => {
                    return Ok(false);
                }
                taken => taken?,
            };
            self.keep(key, &options, guard).await?;
            Ok(true)
        })
    }

    fn unlock<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), LockerError>> {
        Box::pin(async move {
            match self.oldest(key) {
                Some(held) => self.give_back(key, held).await,
                None => Err(self.whose(key).await),
            }
        })
    }

    fn guard<'a>(&'a self, key: &'a str, options: LockOptions) -> BoxFuture<'a, Result<Guard, LockerError>> {
        let options = LockOptions { renew: true, ..options };
        Box::pin(async move { self.take(key, &options, false).await })
    }

    fn fencing_token(&self, key: &str) -> Option<u64> {
        let held = self.held();
        let newest = held.get(key)?.back()?;
        match newest {
            Held::Renewed(guard) => guard.is_held().then(|| guard.fencing_token()),
            Held::Leased { fencing_token, until } => (*until > self.now()).then_some(*fencing_token),
        }
    }
}

impl LockerConfig {
    /// The locker of the configured backend.
    ///
    /// # Errors
    /// A field that cannot be used, a store that is not there, or no way to it.
    pub async fn build(self, backends: &crate::backend::Backends) -> Result<Arc<dyn Locker>, crate::ConfigError> {
        self.check()?;
        let client = backends.connect(&self.backend, &self.backend_config()).await?;
        Ok(Arc::new(ClientLocker::new(client, self)))
    }

    /// The locker over a client that is there already, and may be used for other things beside it.
    ///
    /// # Errors
    /// A field that cannot be used.
    pub fn build_on(self, client: Client) -> Result<Arc<dyn Locker>, crate::ConfigError> {
        self.check()?;
        Ok(Arc::new(ClientLocker::new(client, self)))
    }

    /// None for none: a component that is not configured is not made.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub async fn build_optional(
        config: Option<Self>,
        backends: &crate::backend::Backends,
    ) -> Result<Option<Arc<dyn Locker>>, crate::ConfigError> {
        match config {
            Some(config) => config.build(backends).await.map(Some),
            None => Ok(None),
        }
    }
}
