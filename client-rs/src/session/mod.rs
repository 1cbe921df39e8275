//! All locks of a client over one bidirectional stream.
//!
//! A [`Hub`] belongs to one client. [`state`] is what it knows: its locks, what is to be sent, when each message was
//! sent. [`link`] is the one task: it keeps a stream to the server, reads it, beats, and comes back after a cut.
//! [`events`] is what the server's messages do. A caller's end is a [`crate::guard::Hold`], as with plain streams.

mod events;
mod link;
mod state;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::client::Inner;
use crate::driver::{Granting, Leaving};
use crate::guard::{End, Hold};
use crate::lock::Ask;
use crate::seams::{Clock, Random};
use crate::types::{LostReason, OnDisconnect, Outcome, Unlocked};
use crate::view::Writer;
use crate::{Error, view};

use state::{Slot, State, Unlocking};

/// One client's side of its sessions.
pub(crate) struct Hub {
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    state: Mutex<State>,
}

impl Hub {
    pub(crate) fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            random,
            state: Mutex::new(State::default()),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while this is held, so what a poisoned lock protects is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, then wakes the writer if there is something to send.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state);
        let waker = if state.has_to_send() { state.writer.take() } else { None };
        // Order: what may be the client's last is dropped when the state is free, for its end changes the state, too.
        let left = std::mem::take(&mut state.left);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        drop(left);
        result
    }

    /// No more locks: what is being given back is still sent.
    pub(crate) fn close(&self) {
        let waker = {
            let mut state = self.state();
            state.closed = true;
            state.writer.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        self.wake_link();
    }

    /// The server is looked for elsewhere from now on: the stream ends, and begins anew there.
    pub(crate) fn move_on(&self) {
        self.state().moved.notify_one();
    }

    fn wake_link(&self) {
        self.state().wake_link.notify_one();
    }

    /// Gives a lock back, or leaves the line.
    pub(crate) fn give_back(
        &self,
        id: u64,
        outcome: Outcome,
        reply: Option<oneshot::Sender<Result<Unlocked, Error>>>,
        leaving: Leaving,
    ) {
        let now = self.clock.now();
        self.change(|state| {
            let Some(slot) = state.locks.get_mut(&id) else { return };
            if slot.leaving {
                return;
            }
            slot.leaving = true;
            let unlocking = Unlocking {
                lock: id,
                outcome,
                reply,
                started: now,
                leaving: Some(leaving),
            };
            state.unlock(unlocking);
        });
    }

    /// Gives back everything, and takes no more.
    pub(crate) fn release_all(&self, inner: &Arc<Inner>) {
        let now = self.clock.now();
        let count = self.state().locks.len();
        let mut leavings: Vec<Leaving> = (0..count).map(|_| Leaving::new(inner)).collect();
        self.change(|state| {
            state.shut = true;
            let ids: Vec<u64> = state.locks.keys().copied().collect();
            for id in ids {
                let Some(slot) = state.locks.get_mut(&id).filter(|slot| !slot.leaving) else {
                    continue;
                };
                slot.leaving = true;
                mark_lost(&slot.view, LostReason::Closed);
                if let Some(granting) = slot.granting.take() {
                    let _ = granting.send(Err(Error::Closed));
                }
                let unlocking = Unlocking {
                    lock: id,
                    outcome: Outcome::default(),
                    reply: None,
                    started: now,
                    leaving: leavings.pop(),
                };
                state.unlock(unlocking);
            }
        });
    }

    /// Leaves a hold to its lease; whether it was there.
    pub(crate) fn forget(&self, id: u64) -> bool {
        self.change(|state| {
            let there = |slot: &Slot| !slot.leaving && slot.view.read().lost.is_none();
            let there = state.locks.get(&id).is_some_and(there);
            there && state.locks.remove(&id).is_some()
        })
    }
}

/// Takes a ticket on the client's session, which is opened with the first one.
pub(crate) fn start(inner: Arc<Inner>, ask: Ask) -> (Hold, Granting) {
    let ask = Arc::new(ask);
    let (view, seen) = view::new();
    let (granted, granting) = oneshot::channel();
    let hub = Arc::clone(&inner.hub);
    let slot = Slot::new(Arc::clone(&ask), view, granted);
    let (id, first) = hub.change(|state| {
        let id = state.next_id();
        if state.shut {
            // Dropping the slot answers the caller: the client is closed.
            return (id, false);
        }
        state.locks.insert(id, slot);
        state.ask(id, false);
        (id, !std::mem::replace(&mut state.running, true))
    });
    if first {
        link::start(&inner);
    }
    let end = End::Session { hub, id };
    let hold = Hold {
        inner,
        ask,
        view: seen,
        end,
        detached: false,
    };
    (hold, granting)
}

/// A hold that is no longer certain without its stream.
fn needs_stream(policy: OnDisconnect) -> bool {
    policy == OnDisconnect::Release
}

/// Writes down that a lock is lost.
fn mark_lost(view: &Writer, reason: LostReason) {
    view.modify(|view| view.lost = view.lost.take().or(Some(reason)));
}
