//! What is known of a hold at present: written by what drives it, read by its guard.
//!
//! A value with one writer and many readers. Unlike tokio's `watch` it costs one allocation and, while nobody waits for
//! a change, no more than a lock: a lock that is taken and given back at once has no reader that waits.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::types::LostReason;

/// What is known of a hold at present.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// The end of what the server has promised, on the client's clock. `None`: nothing promised yet.
    pub promised_until: Option<Duration>,
    /// The server knows that the grant arrived: its full lease is promised.
    pub confirmed: bool,
    /// The policy needs a live stream, and there is none.
    pub cut_off: bool,
    /// There is no stream to the server at present.
    pub suspended: bool,
    /// How many wait behind it, as told last.
    pub waiters: u64,
    /// Given back by ourselves.
    pub unlocked: bool,
    /// Why it is lost, for good.
    pub lost: Option<LostReason>,
}

#[derive(Debug, Default)]
struct Cell {
    view: Mutex<View>,
    /// Grows with each change.
    version: AtomicU64,
    /// The writer is gone: nothing will change any more.
    closed: AtomicBool,
    changed: Notify,
}

impl Cell {
    fn view(&self) -> MutexGuard<'_, View> {
        // Nothing panics while this is held, so what a poisoned lock protects is whole.
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

/// The end that writes.
#[derive(Debug)]
pub(crate) struct Writer(Arc<Cell>);

/// An end that reads.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    cell: Arc<Cell>,
    /// The version that was read last.
    seen: u64,
}

/// The writer is gone.
#[derive(Debug)]
pub(crate) struct Closed;

/// Nothing known yet.
pub(crate) fn new() -> (Writer, Reader) {
    let cell = Arc::new(Cell::default());
    let reader = Reader {
        cell: Arc::clone(&cell),
        seen: 0,
    };
    (Writer(cell), reader)
}

impl Writer {
    pub(crate) fn modify(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.0.view());
        self.0.version.fetch_add(1, Ordering::Release);
        self.0.changed.notify_waiters();
    }

    pub(crate) fn read(&self) -> MutexGuard<'_, View> {
        self.0.view()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.changed.notify_waiters();
    }
}

impl Reader {
    pub(crate) fn read(&self) -> MutexGuard<'_, View> {
        self.cell.view()
    }

    /// The view, once it is as asked for. Cancel-safe.
    pub(crate) async fn wait_for(&self, asked: impl Fn(&View) -> bool) -> Result<View, Closed> {
        loop {
            // Order: listen before looking.
            let mut changed = std::pin::pin!(self.cell.changed.notified());
            changed.as_mut().enable();
            let closed = self.cell.is_closed();
            let view = self.read().clone();
            if asked(&view) {
                return Ok(view);
            }
            if closed {
                return Err(Closed);
            }
            changed.await;
        }
    }

    /// Waits for a change since the last one that was waited for here. Cancel-safe.
    pub(crate) async fn changed(&mut self) -> Result<(), Closed> {
        loop {
            let mut changed = std::pin::pin!(self.cell.changed.notified());
            changed.as_mut().enable();
            let closed = self.cell.is_closed();
            let version = self.cell.version.load(Ordering::Acquire);
            if std::mem::replace(&mut self.seen, version) != version {
                return Ok(());
            }
            if closed {
                return Err(Closed);
            }
            changed.await;
        }
    }
}
