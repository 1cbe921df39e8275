//! Locks by key and owner, with a lease that the caller refreshes: [`LockProvider`], and locks for workflows on top.
//!
//! Nothing renews itself here: a lock ends by [`unlock`](LockProvider::unlock) or with its lease. Whoever names the same
//! key and owner speaks of the same lock, also from another process. The retries of [`LockOptions`] are one wait in line of
//! the same length: a grant is pushed, so nobody asks again and again.

mod config;
mod workflow;

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub use config::{LockConfig, LockManager, LockProviderFactory};
pub use workflow::{WorkflowLockHandle, WorkflowLockProvider};

use crate::backend::BoxFuture;
use crate::types::{OnDisconnect, Outcome, RenewResult, SameOwner, UnlockResult};
use crate::{Client, Error};

/// What to lock, for whom, and how hard to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockOptions {
    /// The key.
    pub lock_key: String,
    /// Who holds it then.
    pub owner: String,
    /// Length of the lease; zero: the configured default.
    pub ttl: Duration,
    /// How often to try again where somebody else holds it; 0: one try.
    pub retry_count: u32,
    /// How long between tries; times the count, how long to wait in line.
    pub retry_delay: Duration,
}

/// Why a call of a [`LockProvider`] failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// Somebody else holds the key.
    #[error("LOCK_BY_OTHER: {key:?} is held by {owner}")]
    LockByOther {
        /// Which key.
        key: String,
        /// Who; empty where nobody could tell any more.
        owner: String,
    },
    /// Nobody holds the key.
    #[error("NOT_FOUND: {key:?} is not locked")]
    NotFound {
        /// Which key.
        key: String,
    },
    /// The workflow runs already.
    #[error("{key:?} is already running, for {owner}")]
    AlreadyRunning {
        /// Which key.
        key: String,
        /// For whom; empty where nobody could tell any more.
        owner: String,
    },
    /// The provider is closed.
    #[error("CLOSED: the lock provider is closed")]
    Closed,
    /// The store could not be asked, or refused the request. Not an outcome of waiting: those are told above.
    #[error("{key:?}: {error}")]
    Failed {
        /// Of which key.
        key: String,
        /// Why.
        error: Box<Error>,
    },
}

/// What orchestrators depend on; object-safe.
pub trait LockProvider: Send + Sync + fmt::Debug {
    /// Takes the key for the owner. An owner that holds it already has its lease refreshed.
    ///
    /// Errors: [`ProviderError::LockByOther`] once all tries are spent, or why it failed.
    fn lock(&self, options: LockOptions) -> BoxFuture<'_, Result<(), ProviderError>>;

    /// Gives the key back. Only its owner can.
    ///
    /// Errors: [`ProviderError::LockByOther`], [`ProviderError::NotFound`], or why it failed.
    fn unlock<'a>(&'a self, lock_key: &'a str, owner: &'a str) -> BoxFuture<'a, Result<(), ProviderError>>;

    /// Moves the lease's end to `ttl` from now, where that is later. Only the owner can, while it holds.
    ///
    /// Errors: as [`unlock`](Self::unlock).
    fn refresh_lock<'a>(
        &'a self,
        lock_key: &'a str,
        owner: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), ProviderError>>;

    /// Whether the key is held, and by whom. An expired lock is not held.
    ///
    /// Errors: why it failed.
    fn is_locked<'a>(&'a self, lock_key: &'a str) -> BoxFuture<'a, Result<(bool, String), ProviderError>>;

    /// Lets go of connections. Locks stay until their leases end; later calls fail with [`ProviderError::Closed`].
    fn close(&self) -> BoxFuture<'_, Result<(), ProviderError>>;
}

/// The provider over a [`Client`], whatever store that leads to.
#[derive(Debug)]
pub struct ClientLockProvider {
    /// Until it is closed.
    client: Mutex<Option<Client>>,
    default_ttl: Duration,
}

impl ClientLockProvider {
    /// Over a client that may be used for other things beside it. `default_ttl` is what a TTL of zero means.
    #[must_use]
    pub fn new(client: Client, default_ttl: Duration) -> Self {
        Self {
            client: Mutex::new(Some(client)),
            default_ttl,
        }
    }

    fn client(&self) -> Result<Client, ProviderError> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        client.clone().ok_or(ProviderError::Closed)
    }

    /// The token that the owner holds.
    async fn token(&self, key: &str, owner: &str) -> Result<u64, ProviderError> {
        let lock = self.client()?.get(key).await.map_err(|error| failed(key, error))?;
        let mut holders = lock.holders.into_iter();
        match holders.next() {
            None => Err(ProviderError::NotFound { key: key.to_owned() }),
            Some(holder) if holder.owner == owner => Ok(holder.fencing_token),
            Some(holder) => Err(ProviderError::LockByOther {
                key: key.to_owned(),
                owner: holder.owner,
            }),
        }
    }

    async fn take(&self, options: LockOptions) -> Result<(), ProviderError> {
        let client = self.client()?.on_behalf_of(&options.owner);
        let ttl = match options.ttl {
            Duration::ZERO => self.default_ttl,
            ttl => ttl,
        };
        let builder = client
            .lock(&options.lock_key)
            .ttl(ttl)
            .wait(options.retry_delay.saturating_mul(options.retry_count))
            .same_owner(SameOwner::Refuse)
            .on_disconnect(OnDisconnect::Lease);
        let key = options.lock_key.as_str();
        let error = match builder.await {
            Ok(guard) => {
                let token = guard.detach().await.map_err(|error| failed(key, error))?;
                tracing::info!(key, owner = options.owner, fencing_token = token, "lock acquired");
                return Ok(());
            }
            Err(error) => error,
        };
        let refused = matches!(error, Error::NotAcquired { .. });
        if error.reason() != "LOCK_BY_SELF" && !refused {
            return Err(failed(key, error));
        }
        match self.refresh(key, &options.owner, ttl).await {
            // Its holder has gone since.
            Err(ProviderError::NotFound { .. }) => Err(ProviderError::LockByOther {
                key: key.to_owned(),
                owner: String::new(),
            }),
            answer => answer,
        }
    }

    async fn refresh(&self, key: &str, owner: &str, ttl: Duration) -> Result<(), ProviderError> {
        let client = self.client()?.on_behalf_of(owner);
        let token = self.token(key, owner).await?;
        let answer = client.renew(key, token, Some(ttl)).await;
        match answer.map_err(|error| failed(key, error))? {
            RenewResult::Renewed { .. } => Ok(()),
            RenewResult::InvalidTtl => Err(failed(key, crate::convert::invalid_ttl(ttl))),
            // It ended in between.
            RenewResult::NotHeld => Err(ProviderError::NotFound { key: key.to_owned() }),
        }
    }

    async fn give_back(&self, key: &str, owner: &str) -> Result<(), ProviderError> {
        let client = self.client()?.on_behalf_of(owner);
        let token = self.token(key, owner).await?;
        let answer = client.unlock_token(key, token, Outcome::default()).await;
        match answer.map_err(|error| failed(key, error))? {
            // An earlier try of this unlock did it, and its answer was lost.
            UnlockResult::Released { .. } | UnlockResult::AlreadyReleased { ended_by: None } => Ok(()),
            _ => Err(ProviderError::NotFound { key: key.to_owned() }),
        }
    }
}

fn failed(key: &str, error: Error) -> ProviderError {
    ProviderError::Failed {
        key: key.to_owned(),
        error: Box::new(error),
    }
}

impl LockProvider for ClientLockProvider {
    fn lock(&self, options: LockOptions) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(self.take(options))
    }

    fn unlock<'a>(&'a self, lock_key: &'a str, owner: &'a str) -> BoxFuture<'a, Result<(), ProviderError>> {
        Box::pin(self.give_back(lock_key, owner))
    }

    fn refresh_lock<'a>(
        &'a self,
        lock_key: &'a str,
        owner: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), ProviderError>> {
        Box::pin(self.refresh(lock_key, owner, ttl))
    }

    fn is_locked<'a>(&'a self, lock_key: &'a str) -> BoxFuture<'a, Result<(bool, String), ProviderError>> {
        Box::pin(async move {
            let asked = self.client()?.get(lock_key).await;
            let lock = asked.map_err(|error| failed(lock_key, error))?;
            let holder = lock.holders.into_iter().next();
            Ok(holder.map_or((false, String::new()), |holder| (true, holder.owner)))
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        // The connection goes with the last client that uses it.
        drop(self.client.lock().unwrap_or_else(PoisonError::into_inner).take());
        Box::pin(std::future::ready(Ok(())))
    }
}
