//! What the checker puts in place. Its locks are std's in shape; the rest of the project expects `parking_lot`'s.

use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

pub use shuttle::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
pub use shuttle::thread;
pub use shuttle_dashmap::DashMap;
// Tokio's own: they wake tasks of any runtime, and never wait.
pub use tokio::sync::{Notify, oneshot, watch};

/// Where tasks run.
#[derive(Clone, Debug)]
pub struct Handle(());

impl Handle {
    /// Of the present run.
    #[must_use]
    pub const fn current() -> Self {
        Self(())
    }

    /// Carries something out in a task of its own.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(shuttle::future::spawn(task));
    }
}

/// Time stands still, so it never comes: nothing gets ahead because somebody waited long enough.
pub async fn sleep_until(_: Instant) {
    std::future::pending().await
}

/// A lock that a panic does not poison.
#[derive(Debug, Default)]
pub struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    /// Around this.
    pub const fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    /// Waits for it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Empty only while a [`Condvar`] waits.
#[derive(Debug)]
pub struct MutexGuard<'a, T>(Option<shuttle::sync::MutexGuard<'a, T>>);

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(guard) => guard,
            None => unreachable!("it waits"),
        }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.0 {
            Some(guard) => guard,
            None => unreachable!("it waits"),
        }
    }
}

/// Where threads wait for one another.
#[derive(Debug, Default)]
pub struct Condvar(shuttle::sync::Condvar);

/// How a wait ended.
#[derive(Clone, Copy, Debug)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// By the time.
    #[must_use]
    pub fn timed_out(self) -> bool {
        self.0
    }
}

impl Condvar {
    /// Nobody waits.
    pub const fn new() -> Self {
        Self(shuttle::sync::Condvar::new())
    }

    /// Wakes one that waits.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Gives the lock up until somebody rings.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        guard.0 = guard
            .0
            .take()
            .map(|held| self.0.wait(held).unwrap_or_else(PoisonError::into_inner));
    }

    /// The same; time stands still, so it is always somebody who rings.
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) -> WaitTimeoutResult {
        self.wait(guard);
        WaitTimeoutResult(false)
    }
}
