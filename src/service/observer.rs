//! Who looks on: the seam between the service and counters and logs.
//!
//! An observer is called while a shard is locked: it counts and returns. It can neither fail nor delay a command.

use std::time::Duration;

use ticketlock_core::output::Happening;

use crate::store::StoreError;

/// Told what happens, in order within a shard, after it was committed.
pub trait Observer: Send + Sync + 'static {
    /// Something happened to a key.
    fn happened(&self, shard: u32, happening: &Happening) {
        let _ = (shard, happening);
    }

    /// A commit was done; `took` is zero where the store answered at once.
    fn committed(&self, shard: u32, took: Duration, changes: usize) {
        let _ = (shard, took, changes);
    }

    /// A commit or a take failed, and the shard is about to be taken (again).
    fn store_failed(&self, shard: u32, error: &StoreError) {
        let _ = (shard, error);
    }

    /// The rules panicked: a bug. The shard is about to be taken again.
    fn panicked(&self, shard: u32, message: &str) {
        let _ = (shard, message);
    }

    /// A shard answers (again); `took` counts from when it stopped answering.
    fn opened(&self, shard: u32, epoch: u64, took: Duration) {
        let _ = (shard, epoch, took);
    }
}

/// Looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}
