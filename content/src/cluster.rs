//! The lock alone: connect, ask with retries, hold for certain. Knows keys, and nothing of counts or content.
//!
//! Under which id a failed request is repeated, [`may_go_on`] decides. The same id comes back to the ticket that the server
//! may have for it, so that nobody waits behind a ticket of its own; but it is spent once the request has ended, or once the
//! client ends it.

use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};

use crate::client::seams::{OsRandom, Random as _};
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
    /// An attempt fails when the server cannot be reached or not serve, and is then repeated up to `max_retries` times,
    /// under the same request id: it comes back to its ticket if it has one. Only after an attempt that has ended, or that
    /// is given back because nobody knows what became of it, the next one is a new request; it waits at most until the
    /// earlier one has been given back. Needs a tokio runtime with time. Cancel-safe: a future that is dropped leaves the
    /// line.
    ///
    /// # Errors
    /// [`Error::Lock`] says what came of the last attempt, [`Error::TimedOut`] that `request_timeout` has passed.
    pub async fn lock(&self, key: &str) -> Result<Guard, Error> {
        let mut attempts = 0;
        let asking = async {
            let mut request_id = new_request_id();
            loop {
                attempts += 1;
                let error = match self.attempt(key, request_id).await {
                    Ok(guard) => return Ok(guard),
                    Err(error) => error,
                };
                if attempts > self.config.max_retries || !is_transient(&error) {
                    return Err(failed(key, attempts, error));
                }
                if !may_go_on(&error) {
                    request_id = new_request_id();
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

    async fn attempt(&self, key: &str, request_id: [u8; 16]) -> Result<Guard, client::Error> {
        let client = self.client().await?;
        let lock = client
            .lock(key)
            .on_disconnect(OnDisconnect::Release)
            .request_id(request_id);
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

/// Whether a request that failed like this may go on under its id.
///
/// - The way to the server broke, which is an error without a reason: nothing was sent, or the server may have the ticket
///   yet. The client gave nothing back, as there was no way for that either. The same id comes back to the ticket.
/// - The server says that it did nothing, and names a reason: the same id is as good as new.
/// - The server says that it may have done it (`STORE_UNAVAILABLE`): the client gives the request back by its id, and
///   tries that again for as long as the store is away. Nobody is told when it is done, and a repeat under that id could be
///   what is given back, or be answered that it is cancelled. So the id is spent.
/// - The request has ended, lost or refused: the server remembers that, and would answer a repeat the same. Spent, too.
fn may_go_on(error: &client::Error) -> bool {
    match error {
        client::Error::Connect { .. } => true,
        client::Error::Failed(failure) => failure.reason.is_empty() || error.has_no_side_effects(),
        _ => false,
    }
}

/// Names a request. Random, so that no two processes ever share one.
fn new_request_id() -> [u8; 16] {
    let mut id = [0; 16];
    OsRandom.fill(&mut id);
    id
}

fn failed(key: &str, attempts: u32, error: client::Error) -> Error {
    Error::Lock {
        key: key.to_owned(),
        attempts,
        source: Box::new(error),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::client::{Error, Failure, FailureKind};

    /// Goal: an id goes on after what left the request alone, and after nothing else.
    #[test]
    fn ids_go_on_where_the_request_does() {
        let failed = |kind, reason: &str| {
            Error::Failed(Box::new(Failure {
                kind,
                reason: reason.to_owned(),
                message: String::new(),
                metadata: BTreeMap::new(),
                retry_after: None,
            }))
        };
        let away = Error::Connect {
            endpoint: "http://away:1".to_owned(),
            message: String::new(),
        };
        let ended = Error::NotAcquired {
            reason: RefusedReason::Disconnected,
            obstacle: None,
        };
        for (error, goes_on) in [
            (away, true),
            (failed(FailureKind::Unavailable, ""), true),
            (failed(FailureKind::TimedOut, ""), true),
            (failed(FailureKind::Unavailable, "DRAINING"), true),
            (failed(FailureKind::Unavailable, "SHARD_MOVED"), true),
            (failed(FailureKind::Unavailable, "STORE_UNAVAILABLE"), false),
            (ended, false),
            (Error::Lost(LostReason::NotAcked), false),
        ] {
            assert!(is_transient(&error), "{error:?}");
            assert_eq!(may_go_on(&error), goes_on, "{error:?}");
        }
    }
}
