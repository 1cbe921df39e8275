//! One shard at work: apply, commit, and only then let replies and effects leave, in order.
//!
//! A [`Slot`] is a shard with its lock. Whoever holds the lock is the one writer. With a store that answers at once, a
//! step is applied, committed and delivered under the lock, in the caller's own turn. While a commit is in flight,
//! steps are applied and held; what they changed is committed together with the next commit (group commit).
//!
//! Order: effects of a step leave after every change up to that step is committed, and before the effects of any later
//! step. Reads are steps without changes, so they too wait for what they saw.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use ticketlock_core::planted::{Bug, planted};
use ticketlock_core::types::{Number, Time};
use ticketlock_core::{Output, Shard};

use super::batch::{Batch, Held, Outcome, Told, hold};
use super::deliver::deliver;
use super::error::ServiceError;
use super::flight;
use super::runtime::Runtime;
use super::watch::Watcher;
use crate::store::{Commit, StoreError};
use crate::sync::{Mutex, Notify};

/// A shard with its lock.
pub(super) struct Slot {
    /// Which shard.
    pub(super) number: u32,
    /// All that changes.
    pub(super) state: Mutex<State>,
    /// Rings when the timer must look again.
    pub(super) earlier: Notify,
    /// Rings when a commit has ended.
    pub(super) settled: Notify,
}

/// What a shard's lock protects.
pub(super) struct State {
    /// Whether it answers.
    pub(super) phase: Phase,
    /// Counts how often the shard was opened, so that what belongs to an earlier time is known.
    pub(super) incarnation: u64,
    /// Failures since the last commit that was done: the pause before the next take grows with it.
    pub(super) failures: u32,
    /// The highest epoch and mark that this server saw: a store that falls back behind them is not believed.
    pub(super) seen: Seen,
    /// Who follows it.
    pub(super) watchers: Vec<Arc<Watcher>>,
}

/// What a store must not fall back behind.
#[derive(Clone, Copy, Default)]
pub(super) struct Seen {
    /// The epoch of the last take.
    pub(super) epoch: u64,
    /// The highest mark that was committed.
    pub(super) mark: Number,
}

/// Whether a shard answers.
pub(super) enum Phase {
    /// It does.
    Open(Box<Open>),
    /// It is being taken.
    Taking {
        /// Since then.
        since: Time,
        /// What commands are told meanwhile.
        answer: ServiceError,
    },
    /// The server stops.
    Closed,
}

/// A shard that answers.
pub(super) struct Open {
    /// The rules.
    pub(super) shard: Shard,
    /// What to commit with.
    pub(super) epoch: u64,
    /// Happenings told in this epoch.
    pub(super) revision: u64,
    /// The timer sleeps until then.
    pub(super) armed: Time,
    /// The commit in flight.
    flight: Option<Batch>,
    /// Steps applied since, in batches that each fit into one commit.
    queue: VecDeque<Batch>,
    /// Steps in `flight` and `queue`.
    held: usize,
    /// Kept for its memory.
    out: Output,
}

impl Slot {
    /// A shard that is about to be taken.
    pub(super) fn new(number: u32, now: Time) -> Self {
        let state = State {
            phase: Phase::Taking {
                since: now,
                answer: ServiceError::StoreUnavailable,
            },
            incarnation: 0,
            failures: 0,
            seen: Seen::default(),
            watchers: Vec::new(),
        };
        Self {
            number,
            state: Mutex::new(state),
            earlier: Notify::new(),
            settled: Notify::new(),
        }
    }

    /// One step: `act` on the rules, commit, deliver, and `settle` with the result, under the shard's lock, just before
    /// it is given to the caller.
    pub(super) fn step<T: Send + 'static>(
        &self,
        runtime: &Arc<Runtime>,
        act: impl FnOnce(&mut Shard, Time, &mut Output) -> T,
        settle: impl FnOnce(&Result<T, ServiceError>, Told) + Send + 'static,
    ) -> Outcome<T> {
        self.step_in(runtime, &mut self.state.lock(), act, settle)
    }

    /// The same by who holds the lock already.
    pub(super) fn step_in<T: Send + 'static>(
        &self,
        runtime: &Arc<Runtime>,
        state: &mut State,
        act: impl FnOnce(&mut Shard, Time, &mut Output) -> T,
        settle: impl FnOnce(&Result<T, ServiceError>, Told) + Send + 'static,
    ) -> Outcome<T> {
        let open = match &mut state.phase {
            Phase::Open(open) => open,
            Phase::Taking { answer, .. } => return refuse(answer.clone(), settle),
            Phase::Closed => return refuse(ServiceError::Draining, settle),
        };
        // Order: the clock is read under the lock, so that the shard never sees time run backwards.
        let now = runtime.clock.now();
        let Open { shard, out, .. } = &mut **open;
        let value = match catch_unwind(AssertUnwindSafe(|| act(shard, now, out))) {
            Ok(value) => value,
            Err(panic) => {
                let message = panic_message(&*panic);
                let outcome = refuse(ServiceError::Bug, settle);
                self.fail(runtime, state, &Failure::Panic(message));
                return outcome;
            }
        };
        if open.flight.is_none() && open.queue.is_empty() {
            self.step_alone(runtime, state, value, settle)
        } else {
            let (held, receiver) = hold(&mut open.shard, &mut open.out, value, settle);
            open.enqueue(runtime, held);
            Outcome::Later(receiver)
        }
    }

    /// Nothing is ahead of this step: it is committed now, and delivered now if the store answers at once.
    fn step_alone<T: Send + 'static>(
        &self,
        runtime: &Arc<Runtime>,
        state: &mut State,
        value: T,
        settle: impl FnOnce(&Result<T, ServiceError>, Told) + Send + 'static,
    ) -> Outcome<T> {
        let State {
            phase: Phase::Open(open),
            watchers,
            failures,
            seen,
            incarnation,
            ..
        } = state
        else {
            return Outcome::Now(Err(ServiceError::StoreUnavailable));
        };
        let changes = std::mem::take(&mut open.out.changes);
        if !changes.is_empty() {
            let batch = Batch::of(&changes);
            match runtime.store.commit(self.number, open.epoch, changes) {
                Commit::Done(Ok(())) => {
                    *failures = 0;
                    seen.mark = seen.mark.max(batch.mark);
                    runtime.observer.committed(self.number, Duration::ZERO, batch.count);
                }
                Commit::Done(Err(error)) => {
                    let outcome = refuse(ServiceError::from(&error), settle);
                    self.fail(runtime, state, &Failure::Store(error));
                    return outcome;
                }
                Commit::Pending(pending) => {
                    let (held, receiver) = hold(&mut open.shard, &mut open.out, value, settle);
                    let began = runtime.clock.now();
                    open.flight = Some(Batch {
                        began,
                        steps: vec![held],
                        ..batch
                    });
                    open.held += 1;
                    flight::launch(runtime, self.number, *incarnation, pending);
                    return Outcome::Later(receiver);
                }
            }
        }
        let Open {
            shard,
            revision,
            epoch,
            out,
            ..
        } = &mut **open;
        shard.unsent(&out.granted);
        for effect in out.effects.drain(..) {
            deliver(runtime, self.number, *epoch, revision, watchers, effect);
        }
        if !out.granted.is_empty() {
            // A client may count from a message that was received until then.
            shard.pushed(&out.granted, runtime.clock.now());
            out.granted.clear();
        }
        let told = open.told();
        self.rearm(open);
        let answer = Ok(value);
        settle(&answer, told);
        Outcome::Now(answer)
    }

    /// A commit has ended.
    pub(super) fn finish(&self, runtime: &Arc<Runtime>, incarnation: u64, result: Result<(), StoreError>) {
        let mut state = self.state.lock();
        // A commit of an earlier incarnation was answered when that failed, and is fenced.
        if state.incarnation == incarnation {
            match result {
                Ok(()) => self.land(runtime, &mut state),
                Err(error) => self.fail(runtime, &mut state, &Failure::Store(error)),
            }
        }
        drop(state);
        self.settled.notify_waiters();
    }

    /// The commit in flight is done: its steps leave, and the next one begins.
    fn land(&self, runtime: &Arc<Runtime>, state: &mut State) {
        let Phase::Open(open) = &mut state.phase else { return };
        let Some(batch) = open.flight.take() else { return };
        state.failures = 0;
        state.seen.mark = state.seen.mark.max(batch.mark);
        let took = runtime.clock.now().since(batch.began);
        runtime.observer.committed(self.number, took, batch.count);
        self.leave(runtime, open, &state.watchers, batch.steps);
        if planted(Bug::WakeUpLost) && open.queue.len() == 1 {
            return;
        }
        self.pump(runtime, state);
    }

    /// Begins the next commit, and lets go what needs none.
    pub(super) fn pump(&self, runtime: &Arc<Runtime>, state: &mut State) {
        let State {
            phase: Phase::Open(open),
            watchers,
            failures,
            seen,
            incarnation,
            ..
        } = state
        else {
            return;
        };
        while open.flight.is_none() {
            let Some(mut batch) = open.queue.pop_front() else { break };
            let changes = std::mem::take(&mut batch.changes);
            if changes.is_empty() {
                self.leave(runtime, open, watchers, batch.steps);
                continue;
            }
            batch.began = runtime.clock.now();
            match runtime.store.commit(self.number, open.epoch, changes) {
                Commit::Done(Ok(())) => {
                    *failures = 0;
                    seen.mark = seen.mark.max(batch.mark);
                    runtime.observer.committed(self.number, Duration::ZERO, batch.count);
                    self.leave(runtime, open, watchers, batch.steps);
                }
                Commit::Done(Err(error)) => {
                    // Its replies go the way of all held ones.
                    open.queue.push_front(batch);
                    self.fail(runtime, state, &Failure::Store(error));
                    return;
                }
                Commit::Pending(pending) => {
                    open.flight = Some(batch);
                    flight::launch(runtime, self.number, *incarnation, pending);
                }
            }
        }
        self.rearm(open);
    }

    /// The steps of a committed batch leave, in their order.
    fn leave(&self, runtime: &Arc<Runtime>, open: &mut Open, watchers: &[Arc<Watcher>], steps: Vec<Held>) {
        open.held = open.held.saturating_sub(steps.len());
        for mut step in steps {
            if !step.granted.is_empty() {
                let now = runtime.clock.now();
                open.shard.leaving(&mut step.granted, &mut step.effects, now);
            }
            for effect in step.effects {
                deliver(runtime, self.number, open.epoch, &mut open.revision, watchers, effect);
            }
            if !step.granted.is_empty() {
                // These leases run from here: the commit took its time.
                open.shard.pushed(&step.granted, runtime.clock.now());
            }
            if let Some(answer) = step.answer {
                answer(Ok(open.told()));
            }
        }
    }

    /// Wakes the timer if a deadline has come before the one that it sleeps for.
    pub(super) fn rearm(&self, open: &mut Open) {
        let next = open.shard.next_deadline().unwrap_or(Time::NEVER);
        if next < open.armed {
            open.armed = next;
            self.earlier.notify_one();
        }
    }

    /// Stops answering, drops the rules' state and begins to take the shard anew. What was held is answered with the
    /// error: nobody is told anything that may not be true.
    pub(super) fn fail(&self, runtime: &Arc<Runtime>, state: &mut State, failure: &Failure) {
        if !matches!(state.phase, Phase::Open(_)) {
            return;
        }
        let answer = match failure {
            Failure::Store(error) => {
                runtime.observer.store_failed(self.number, error);
                ServiceError::from(error)
            }
            Failure::Panic(message) => {
                runtime.observer.panicked(self.number, message);
                ServiceError::StoreUnavailable
            }
            // Not `Draining`, which says that nothing was done: a commit that is under way may be done yet.
            Failure::Closing => ServiceError::StoreUnavailable,
        };
        let taking = Phase::Taking {
            since: runtime.clock.now(),
            answer: answer.clone(),
        };
        let Phase::Open(open) = std::mem::replace(&mut state.phase, taking) else {
            return;
        };
        state.incarnation += 1;
        state.failures = state.failures.saturating_add(1);
        for watcher in &state.watchers {
            watcher.shard_gone(self.number);
        }
        let Open { flight, queue, .. } = *open;
        for step in flight.into_iter().chain(queue).flat_map(|batch| batch.steps) {
            if let Some(give) = step.answer {
                give(Err(answer.clone()));
            }
        }
        if matches!(failure, Failure::Closing) {
            state.phase = Phase::Closed;
        } else {
            runtime.retake(self.number, state.failures);
        }
    }
}

/// Why a shard has to be taken again.
pub(super) enum Failure {
    /// A commit failed, or nobody knows.
    Store(StoreError),
    /// The rules panicked.
    Panic(String),
    /// The server stops.
    Closing,
}

impl State {
    /// A commit is in flight.
    pub(super) fn is_committing(&self) -> bool {
        matches!(&self.phase, Phase::Open(open) if open.flight.is_some())
    }
}

impl Open {
    /// A shard that has just been recovered.
    pub(super) fn new(shard: Shard, epoch: u64) -> Self {
        let queue = VecDeque::new();
        Self {
            shard,
            epoch,
            revision: 0,
            armed: Time::NEVER,
            flight: None,
            queue,
            held: 0,
            out: Output::default(),
        }
    }

    /// Where the shard's history stands.
    pub(super) fn told(&self) -> Told {
        Told {
            epoch: self.epoch,
            revision: self.revision,
        }
    }

    /// Steps that wait for a commit.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Holds the yield of the opening, with what is to be done when it is committed or not.
    pub(super) fn enqueue_output(
        &mut self,
        runtime: &Runtime,
        mut out: Output,
        settle: impl FnOnce(&Result<(), ServiceError>, Told) + Send + 'static,
    ) {
        let (held, _) = hold(&mut self.shard, &mut out, (), settle);
        self.out.changes = out.changes;
        self.enqueue(runtime, held);
    }

    /// Puts a step behind those that wait; its changes are in `self.out`.
    fn enqueue(&mut self, runtime: &Runtime, held: Held) {
        let limits = runtime.store.limits();
        if !self
            .queue
            .back()
            .is_some_and(|batch| batch.fits(&self.out.changes, limits))
        {
            self.queue.push_back(Batch::default());
        }
        if let Some(batch) = self.queue.back_mut() {
            batch.append(&mut self.out.changes, held);
            self.held += 1;
        }
    }
}

/// Answers a step with an error.
fn refuse<T>(error: ServiceError, settle: impl FnOnce(&Result<T, ServiceError>, Told)) -> Outcome<T> {
    let answer = Err(error);
    settle(&answer, Told::default());
    Outcome::Now(answer)
}

/// What a panic said.
pub(super) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
