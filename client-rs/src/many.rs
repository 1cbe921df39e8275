//! What is made of single locks: several at once, work under a lock, and a client's orderly end.

use std::sync::Arc;
use std::time::Duration;

use crate::client::Client;
use crate::guard::Guard;
use crate::lock::LockBuilder;
use crate::types::Outcome;
use crate::{Error, Unlocked, driver};

impl Client {
    /// Takes several keys, each with a token of its own, in byte order: two callers that use this cannot wait for each
    /// other. It holds what it has while it waits for the next; a key that is named twice is taken once. `options` is
    /// applied to the request of each key.
    ///
    /// Where one is refused, or the future is dropped, those that it had are given back.
    ///
    /// ```no_run
    /// # async fn f(client: ticketlock_client::Client) -> Result<(), ticketlock_client::Error> {
    /// use std::time::Duration;
    /// let accounts = client.lock_many(["accounts/7", "accounts/3"], |lock| lock.ttl(Duration::from_secs(10))).await?;
    /// assert_eq!(accounts[0].key(), "accounts/3");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// That of the first key that was not granted.
    pub async fn lock_many<K: Into<String>>(
        &self,
        keys: impl IntoIterator<Item = K>,
        options: impl Fn(LockBuilder) -> LockBuilder,
    ) -> Result<Vec<Guard>, Error> {
        let mut keys: Vec<String> = keys.into_iter().map(Into::into).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut guards = Vec::with_capacity(keys.len());
        for key in keys {
            guards.push(options(self.lock(key)).await?);
        }
        Ok(guards)
    }

    /// Runs `work` while `lock` is held, and gives the lock back. Where the lock is lost, `work` is stopped at its next
    /// await.
    ///
    /// ```no_run
    /// # async fn f(client: ticketlock_client::Client) -> Result<(), ticketlock_client::Error> {
    /// let rows = client.with_lock(client.lock("report"), async |guard| guard.fencing_token()).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Why the lock was not granted; [`Error::Lost`] where it was lost before `work` came to its end, or it is only known
    /// afterwards that it had been.
    pub async fn with_lock<T>(&self, lock: LockBuilder, work: impl AsyncFnOnce(&Guard) -> T) -> Result<T, Error> {
        let guard = lock.await?;
        let done = tokio::select! {
            biased;
            reason = guard.lost() => return Err(Error::Lost(reason)),
            done = work(&guard) => done,
        };
        match guard.unlock(Outcome::default()).await? {
            Unlocked::Unlocked => Ok(done),
            Unlocked::AlreadyLost(reason) => Err(Error::Lost(reason)),
        }
    }

    /// Gives back every lock of this client and of its clones, and takes no more. Ends when the server has answered, or
    /// after `within`; guards that are left say that they are closed.
    ///
    /// # Errors
    /// [`Error::Closed`] where not all was answered in time: those locks end by their grace or lease.
    pub async fn close(&self, within: Duration) -> Result<(), Error> {
        self.inner.hub.release_all(&self.inner);
        driver::release_all(&self.inner);
        let client = Self {
            inner: Arc::clone(&self.inner),
        };
        tokio::time::timeout(within, async move { client.flush().await })
            .await
            .map_err(|_| Error::Closed)
    }
}
