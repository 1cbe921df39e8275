//! The client for programs without an async runtime: the same locks, and calls that block the thread.
//!
//! ```no_run
//! # fn f() -> Result<(), ticketlock_client::Error> {
//! use std::time::Duration;
//! use ticketlock_client::{Outcome, blocking::Client};
//!
//! let client = Client::connect("http://127.0.0.1:8476")?;
//! let guard = client.lock("jobs/nightly", |lock| lock.wait(Duration::from_secs(60)))?;
//! println!("held with token {}", guard.fencing_token());
//! guard.unlock(Outcome::success())?;
//! # Ok(()) }
//! ```

use std::future::IntoFuture as _;
use std::ops::Deref;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

use crate::{ClientBuilder, Error, LockBuilder, LostReason, Outcome, TryLockBuilder, Unlocked};

/// A connection to a lock server. Cheap to clone; all clones share it. Not to be used from within an async runtime.
#[derive(Clone, Debug)]
pub struct Client {
    client: crate::Client,
    runtime: Arc<Runtime>,
}

/// A lock that is held, as [`crate::Guard`]; dropping it gives the lock back in the background.
#[derive(Debug)]
#[must_use = "dropping the guard gives the lock back"]
pub struct Guard {
    guard: crate::Guard,
    runtime: Arc<Runtime>,
}

impl Client {
    /// Connects to one endpoint with the defaults. Blocks.
    ///
    /// # Errors
    /// As [`crate::Client::connect`].
    pub fn connect(endpoint: impl Into<String>) -> Result<Self, Error> {
        Self::build(crate::Client::builder().endpoint(endpoint))
    }

    /// Connects as configured. Blocks.
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`].
    pub fn build(builder: ClientBuilder) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::Argument(format!("cannot start the client's runtime: {error}"));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let client = runtime.block_on(builder.connect())?;
        let runtime = Arc::new(runtime);
        Ok(Self { client, runtime })
    }

    /// Takes a ticket for `key` and waits in line, for as long as `options` say. Blocks.
    ///
    /// # Errors
    /// Why it was not granted.
    pub fn lock(
        &self,
        key: impl Into<String>,
        options: impl FnOnce(LockBuilder) -> LockBuilder,
    ) -> Result<Guard, Error> {
        let guard = self.runtime.block_on(options(self.client.lock(key)).into_future())?;
        Ok(self.guard(guard))
    }

    /// Takes `key` if it is free and nobody waits. Blocks for one round trip.
    ///
    /// # Errors
    /// Why it was not granted, and what is in the way.
    pub fn try_lock(
        &self,
        key: impl Into<String>,
        options: impl FnOnce(TryLockBuilder) -> TryLockBuilder,
    ) -> Result<Guard, Error> {
        let guard = self
            .runtime
            .block_on(options(self.client.try_lock(key)).into_future())?;
        Ok(self.guard(guard))
    }

    /// Waits until every lock whose guard was dropped has been given back.
    pub fn flush(&self) {
        self.runtime.block_on(self.client.flush());
    }

    fn guard(&self, guard: crate::Guard) -> Guard {
        let runtime = Arc::clone(&self.runtime);
        Guard { guard, runtime }
    }
}

impl Deref for Guard {
    type Target = crate::Guard;

    fn deref(&self) -> &crate::Guard {
        &self.guard
    }
}

impl Guard {
    /// Blocks until the lock is lost, and tells why.
    #[must_use]
    pub fn wait_lost(&self) -> LostReason {
        self.runtime.block_on(self.guard.lost())
    }

    /// Gives the lock back, and hands `outcome` to the next holder. Blocks.
    ///
    /// # Errors
    /// As [`crate::Guard::unlock`].
    pub fn unlock(self, outcome: Outcome) -> Result<Unlocked, Error> {
        self.runtime.block_on(self.guard.unlock(outcome))
    }
}
