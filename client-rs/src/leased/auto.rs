//! A lock that renews itself, and comes back after a loss.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::schedule::RetrySchedule;
use crate::types::Outcome;
use crate::{Client, Error, Guard};

/// Is told what becomes of an [`AutoRenewalLock`]. Its methods are called strictly in turn, first `on_acquired`, one at a
/// time. They must not block: a loss is told no sooner than the call before it has returned.
pub trait AutoRenewalListener: Send + Sync {
    /// The lock is held.
    fn on_acquired(&self);
    /// The lock is not held any more: lost, or closed.
    fn on_lost(&self);
}

/// A lock that is waited for, held and renewed in the background, until it is closed, removed from its client, or that client
/// and the last clone are dropped. Cheap to clone; all clones are the same lock.
#[derive(Clone)]
pub struct AutoRenewalLock {
    shared: Arc<Shared>,
    /// Set by `close`; dropped with the last clone, which means the same.
    closing: Arc<watch::Sender<bool>>,
    closed: watch::Receiver<bool>,
}

/// What the task writes and the lock reads.
struct Shared {
    key: String,
    /// While it is held.
    guard: Mutex<Option<Guard>>,
}

impl Shared {
    fn guard(&self) -> MutexGuard<'_, Option<Guard>> {
        // Nothing panics while this is held, so what a poisoned lock protects is whole.
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for AutoRenewalLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AutoRenewalLock")
            .field("key", &self.shared.key)
            .field("held", &self.is_held_by_current_client())
            .finish()
    }
}

impl AutoRenewalLock {
    pub(super) fn start(
        client: Client,
        key: String,
        lease: Duration,
        listener: Arc<dyn AutoRenewalListener>,
        schedule: RetrySchedule,
    ) -> Self {
        let (closing, wish) = watch::channel(false);
        let (done, closed) = watch::channel(false);
        let shared = Arc::new(Shared {
            key,
            guard: Mutex::new(None),
        });
        let keeper = Keeper {
            client: client.clone(),
            shared: Arc::clone(&shared),
            lease,
            listener,
            schedule,
            wish,
        };
        client.inner.background.spawn(async move {
            keeper.run().await;
            done.send_replace(true);
        });
        Self {
            shared,
            closing: Arc::new(closing),
            closed,
        }
    }

    /// The key, with its group.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.shared.key
    }

    /// True only if the lock is guaranteed at this moment. Answers locally.
    #[must_use]
    pub fn is_held_by_current_client(&self) -> bool {
        !self.lease_rest().is_zero()
    }

    /// What is left of the guaranteed lease, on this client's clock; zero where nothing is.
    #[must_use]
    pub fn lease_rest(&self) -> Duration {
        self.shared.guard().as_ref().map(Guard::valid_for).unwrap_or_default()
    }

    /// The token to hand to what the lock protects; `None` where it is not held for certain.
    #[must_use]
    pub fn fencing_token(&self) -> Option<u64> {
        let guard = self.shared.guard();
        guard.as_ref().filter(|it| it.is_held()).map(Guard::fencing_token)
    }

    /// Whether it has ended.
    pub(super) fn is_closed(&self) -> bool {
        *self.closed.borrow() || self.closed.has_changed().is_err()
    }

    /// Gives the lock back, or leaves the line. The listener has been told when this ends.
    pub async fn close(&self) {
        self.closing.send_replace(true);
        let mut closed = self.closed.clone();
        // An error means that the task is gone, with its runtime.
        let _ = closed.wait_for(|closed| *closed).await;
    }
}

/// What is held, until it is taken or dropped.
struct Held(Arc<Shared>);

impl Held {
    fn take(&self) -> Option<Guard> {
        self.0.guard().take()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Order: the guard is dropped when nothing is locked any more.
        let guard = self.take();
        drop(guard);
    }
}

/// The task behind the lock.
struct Keeper {
    client: Client,
    shared: Arc<Shared>,
    lease: Duration,
    listener: Arc<dyn AutoRenewalListener>,
    schedule: RetrySchedule,
    wish: watch::Receiver<bool>,
}

impl Keeper {
    async fn run(mut self) {
        loop {
            let mut wish = self.wish.clone();
            let taken = tokio::select! {
                biased;
                _ = wish.wait_for(|close| *close) => return,
                taken = self.take() => taken,
            };
            match taken {
                Ok(guard) => {
                    self.schedule.succeeded();
                    if self.hold(guard).await {
                        return;
                    }
                }
                Err(error) => {
                    let pause = self.schedule.failed();
                    tracing::warn!(key = self.shared.key, %error, ?pause, "lock not acquired, trying again");
                    tokio::select! {
                        biased;
                        _ = wish.wait_for(|close| *close) => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
    }

    async fn take(&self) -> Result<Guard, Error> {
        let guard = self.client.lock(&self.shared.key).ttl(self.lease).await?;
        // A grant that had to wait promises nothing by time before this.
        guard.confirmed().await.map_err(Error::Lost)?;
        Ok(guard)
    }

    /// Until it is lost, or, answered with true, until it is closed.
    async fn hold(&mut self, guard: Guard) -> bool {
        let (gone, lost) = (guard.gone(), guard.lost());
        *self.shared.guard() = Some(guard);
        // A listener that panics ends the task; the lock goes with it.
        let held = Held(Arc::clone(&self.shared));
        self.listener.on_acquired();
        let closing = tokio::select! {
            biased;
            _ = self.wish.wait_for(|close| *close) => true,
            () = gone => false,
        };
        let guard = held.take();
        // Order: whoever works under it stops before anybody else can have it.
        self.listener.on_lost();
        if !closing {
            let reason = lost.await;
            tracing::warn!(key = self.shared.key, %reason, "lock lost");
            return false;
        }
        if let Some(guard) = guard {
            // Without an answer its grace ends it.
            let _ = guard.unlock(Outcome::default()).await;
        }
        true
    }
}
