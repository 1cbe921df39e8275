//! The lock alone: connect, ask with retries, hold for certain. Knows keys, and nothing of counts or content.

use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};

use crate::client::{self, Client, Guard, LostReason, OnDisconnect, Outcome, RefusedReason, Unlocked};
use crate::{ClientConfig, Error};

/// Bound for one connection attempt, and for one call that does not wait in line.
const CALL_TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// Takes one lock: connects, waits in line, asks again where the server is away, and answers a guard that is held for
/// certain. Who locks more than once keeps a [`Cluster`].
///
/// # Errors
/// As [`Cluster::lock`].
pub async fn cluster_lock(config: ClientConfig, key: &str) -> Result<Guard, Error> {
    Cluster::new(config)?.lock(key).await
}

/// A node's way to the lock server. Nothing is sent before the first lock is asked for, not even a connection opened.
#[derive(Debug)]
pub struct Cluster {
    config: ClientConfig,
    /// Made for the first lock; from then on it comes back by itself after a cut.
    client: OnceCell<Client>,
}

impl Cluster {
    /// Checks the configuration.
    ///
    /// # Errors
    /// [`Error::Argument`] names the field.
    pub fn new(config: ClientConfig) -> Result<Self, Error> {
        config.check()?;
        let client = OnceCell::new();
        Ok(Self { config, client })
    }

    /// What it was made of.
    #[must_use]
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// Takes a ticket for `key`, waits in line without another call, and answers a guard that is held for certain. The
    /// lock ends with this process, so that a process that is killed bars nobody.
    ///
    /// An attempt fails when the server cannot be reached or not serve, and is then repeated up to `max_retries` times.
    /// While a cut lasts, the client itself comes back to the same ticket by the same request id; a failed attempt has
    /// left no ticket behind, so that the next one never waits for it. Needs a tokio runtime with time. Cancel-safe: a
    /// future that is dropped leaves the line.
    ///
    /// # Errors
    /// [`Error::Lock`] says what came of the last attempt, [`Error::TimedOut`] that `request_timeout` has passed.
    pub async fn lock(&self, key: &str) -> Result<Guard, Error> {
        let mut attempts = 0;
        let asking = async {
            loop {
                attempts += 1;
                let error = match self.attempt(key).await {
                    Ok(guard) => return Ok(guard),
                    Err(error) => error,
                };
                if attempts > self.config.max_retries || !is_transient(&error) {
                    return Err(failed(key, attempts, error));
                }
                sleep(self.config.retry_interval.max(error.retry_after().unwrap_or_default())).await;
            }
        };
        let limit = self.config.request_timeout;
        timeout(limit, asking).await.unwrap_or_else(|_| {
            let key = key.to_owned();
            Err(Error::TimedOut { key, limit })
        })
    }

    /// Takes `key` if it is free and nobody waits, by one call that never queues; `None` if it is not. Not retried.
    ///
    /// # Errors
    /// [`Error::Lock`], [`Error::TimedOut`].
    pub async fn try_lock_once(&self, key: &str) -> Result<Option<Guard>, Error> {
        let trying = async {
            let client = self.client().await?;
            let lock = client.lock(key).on_disconnect(OnDisconnect::Release).no_wait();
            self.with_ttl(lock).await
        };
        let limit = self.config.request_timeout;
        match timeout(limit, trying).await {
            Ok(Ok(guard)) => Ok(Some(guard)),
            Ok(Err(client::Error::NotAcquired {
                reason: RefusedReason::WouldWait,
                ..
            })) => Ok(None),
            Ok(Err(error)) => Err(failed(key, 1, error)),
            Err(_) => {
                let key = key.to_owned();
                Err(Error::TimedOut { key, limit })
            }
        }
    }

    /// Gives a lock back, and the outcome to the next holder; whether the server said so. If it did not, the lock ends
    /// with its lease or this process.
    pub(crate) async fn give_back(&self, guard: Guard, outcome: Outcome) -> bool {
        let unlocked = timeout(self.config.request_timeout, guard.unlock(outcome)).await;
        matches!(unlocked, Ok(Ok(Unlocked::Unlocked)))
    }

    async fn attempt(&self, key: &str) -> Result<Guard, client::Error> {
        let client = self.client().await?;
        let lock = client.lock(key).on_disconnect(OnDisconnect::Release);
        let guard = self.with_ttl(lock).await?;
        // A grant that had to wait promises nothing by time before its acknowledgement is answered.
        guard.confirmed().await.map_err(client::Error::Lost)?;
        Ok(guard)
    }

    fn with_ttl(&self, lock: client::LockBuilder) -> client::LockBuilder {
        match self.config.ttl {
            Some(ttl) => lock.ttl(ttl),
            None => lock,
        }
    }

    async fn client(&self) -> Result<&Client, client::Error> {
        let connect = || {
            let call = self.config.request_timeout.min(CALL_TIMEOUT_MAX);
            Client::builder()
                .endpoints(&self.config.endpoints)
                .owner(&self.config.node_id)
                .connect_timeout(call)
                .call_timeout(call)
                .connect()
        };
        self.client.get_or_try_init(connect).await
    }
}

/// Whether another attempt may do where this one did not, though nothing else has changed.
fn is_transient(error: &client::Error) -> bool {
    match error {
        client::Error::NotAcquired { reason, .. } => *reason == RefusedReason::Disconnected,
        client::Error::Lost(reason) => !matches!(reason, LostReason::Revoked { .. } | LostReason::Closed),
        error => error.is_unavailable() && error.is_retryable(),
    }
}

fn failed(key: &str, attempts: u32, error: client::Error) -> Error {
    Error::Lock {
        key: key.to_owned(),
        attempts,
        source: Box::new(error),
    }
}
