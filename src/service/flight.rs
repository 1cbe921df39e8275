//! A commit on its way. Whoever completes it, a store's thread for instance, reports it in its own turn: the shard's next
//! changes are handed over before the store begins its next commit, and no task is woken for each.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use super::runtime::Runtime;
use super::slot::panic_message;
use crate::store::{BoxFuture, StoreError};
use crate::sync::Mutex;

type Pending = BoxFuture<'static, Result<(), StoreError>>;

/// Of one shard; shared by those who may wake it.
struct Flight {
    /// Whom to report to.
    runtime: Arc<Runtime>,
    /// Whose commit.
    shard: u32,
    /// Of which incarnation.
    incarnation: u64,
    state: Mutex<State>,
}

enum State {
    /// It will wake.
    Waiting(Pending),
    /// Somebody polls it; `again`: it woke meanwhile.
    Polled { again: bool },
    /// It was reported, or is about to be.
    Ended,
}

/// Sees a commit to its end, and reports that to its shard. The caller may hold the shard: nothing is reported in its turn.
pub(super) fn launch(runtime: &Arc<Runtime>, shard: u32, incarnation: u64, commit: Pending) {
    let flight = Arc::new(Flight {
        runtime: Arc::clone(runtime),
        shard,
        incarnation,
        state: Mutex::new(State::Polled { again: false }),
    });
    if let Some(result) = flight.poll(commit) {
        flight.report_later(result);
    }
}

impl Flight {
    /// Polls until it waits or has ended.
    fn poll(self: &Arc<Self>, mut commit: Pending) -> Option<Result<(), StoreError>> {
        let waker = Waker::from(Arc::clone(self));
        let mut context = Context::from_waker(&waker);
        loop {
            let polled = catch_unwind(AssertUnwindSafe(|| commit.as_mut().poll(&mut context)));
            let mut state = self.state.lock();
            match (polled, &*state) {
                (Ok(Poll::Pending), State::Polled { again: true }) => *state = State::Polled { again: false },
                (Ok(Poll::Pending), _) => {
                    *state = State::Waiting(commit);
                    return None;
                }
                (Ok(Poll::Ready(result)), _) => {
                    *state = State::Ended;
                    return Some(result);
                }
                (Err(_), _) => {
                    *state = State::Ended;
                    return Some(Err(unfinished()));
                }
            }
        }
    }

    /// In this turn. A panic stays here: the thread is the store's.
    fn report(&self, result: Result<(), StoreError>) {
        let slot = self.runtime.slot(self.shard);
        let finish = || slot.finish(&self.runtime, self.incarnation, result);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(finish)) {
            self.runtime.observer.panicked(self.shard, &panic_message(&*panic));
        }
    }

    /// In a task of its own. A runtime that is shutting down drops it: nobody is left to be told.
    fn report_later(&self, result: Result<(), StoreError>) {
        let (runtime, shard, incarnation) = (Arc::clone(&self.runtime), self.shard, self.incarnation);
        self.runtime
            .spawn(async move { runtime.slot(shard).finish(&runtime, incarnation, result) });
    }
}

impl Wake for Flight {
    fn wake(self: Arc<Self>) {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, State::Polled { again: true }) {
            State::Waiting(commit) => {
                *state = State::Polled { again: false };
                drop(state);
                if let Some(result) = self.poll(commit) {
                    self.report(result);
                }
            }
            State::Polled { .. } => {}
            State::Ended => *state = State::Ended,
        }
    }
}

impl Drop for Flight {
    /// A store that forgets whom to wake is heard of, too.
    fn drop(&mut self) {
        if !matches!(*self.state.lock(), State::Ended) {
            self.report_later(Err(unfinished()));
        }
    }
}

fn unfinished() -> StoreError {
    StoreError::Unknown("the commit did not come to its end".to_owned())
}
