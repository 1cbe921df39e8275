//! The owner's end of one lock: a stream of its events, whose end detaches the ticket.
//!
//! Invariant (Q3): the stream is registered, and its guard exists, before its command is applied. Whatever is in
//! flight when a client dies, dropping the guard detaches it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ticketlock_core::Command;
use ticketlock_core::command::Reply;
use ticketlock_core::types::DetachCause;

use super::error::ServiceError;
use super::outbox::{LockItem, Outbox};
use super::runtime::Runtime;
use super::slot::Phase;

/// Says how a stream came to its end, at the moment when it is dropped; given by who knows the connection.
pub type DetachProbe = Arc<dyn Fn() -> DetachCause + Send + Sync>;

/// The events of one `Lock`; ends after its last event or an error. Dropping it detaches the ticket.
#[must_use = "dropping it detaches the ticket"]
pub struct LockStream {
    /// Whom to tell of the end.
    runtime: Arc<Runtime>,
    /// The unread events.
    outbox: Arc<Outbox>,
    /// Asked when it is dropped.
    probe: DetachProbe,
    /// How it ends when it is dropped.
    end: End,
}

impl LockStream {
    /// Registers the stream.
    pub(super) fn register(runtime: &Arc<Runtime>, outbox: &Arc<Outbox>, probe: DetachProbe) -> Self {
        runtime.streams.insert(outbox.stream.id, Arc::clone(outbox));
        Self {
            runtime: Arc::clone(runtime),
            outbox: Arc::clone(outbox),
            probe,
            end: End::Dropped,
        }
    }

    /// The `Lock` was answered with an error.
    pub(super) fn refuse(mut self) {
        self.end = End::Refused;
    }

    /// The next item; `None` after the last one.
    pub async fn next(&mut self) -> Option<Result<LockItem, ServiceError>> {
        poll_fn(|context| self.outbox.poll(context)).await
    }

    /// The next item, for those that poll.
    pub fn poll_item(&mut self, context: &Context<'_>) -> Poll<Option<Result<LockItem, ServiceError>>> {
        self.outbox.poll(context)
    }
}

impl futures_core::Stream for LockStream {
    type Item = Result<LockItem, ServiceError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.outbox.poll(context)
    }
}

impl Drop for LockStream {
    fn drop(&mut self) {
        leave(&self.runtime, &self.outbox, self.end, || (self.probe)());
    }
}

/// How an owner leaves its stream.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// After its last event, or before.
    Dropped,
    /// The `Lock` was answered with an error: it was never carried out, as far as the client is told. A request with a
    /// name may be repeated, so what the store may have kept of it waits for that; without one it goes.
    Refused,
}

/// The owner of a stream leaves it.
pub(super) fn leave(runtime: &Arc<Runtime>, outbox: &Outbox, how: End, probe: impl FnOnce() -> DetachCause) {
    if outbox.is_told() {
        return runtime.forget(outbox.stream.id);
    }
    match how {
        End::Dropped => end(runtime, outbox, probe),
        End::Refused if outbox.is_named() => {
            // Order: as in `end`.
            let _state = runtime.slot(outbox.shard).state.lock();
            runtime.forget(outbox.stream.id);
        }
        End::Refused => end(runtime, outbox, || DetachCause::Ended),
    }
}

/// Ends a stream: its ticket is detached, unless that was done or there is none.
pub(super) fn end(runtime: &Arc<Runtime>, outbox: &Outbox, probe: impl FnOnce() -> DetachCause) {
    let slot = runtime.slot(outbox.shard);
    // Order: under the shard's lock, so that a shard that opens sees either the stream or how it ended.
    let mut state = slot.state.lock();
    let id = outbox.stream.id;
    let Some((ticket, cause)) = outbox.detach(probe) else {
        return runtime.forget(id);
    };
    if let Phase::Taking { .. } = state.phase {
        // It stays in the registry for the shard to see when it opens.
        return;
    }
    let command = Command::Detach {
        key: Arc::clone(&outbox.terms.key),
        ticket,
        stream: id,
        cause,
    };
    let forgetful = Arc::clone(runtime);
    let settle = move |result: &Result<Reply, ServiceError>, _| match result {
        Ok(_) | Err(ServiceError::Draining) => forgetful.forget(id),
        // As above: this end was not committed, and the shard begins anew.
        Err(_) => {}
    };
    // Nobody waits for the answer; the step goes on without.
    drop(slot.step_in(
        runtime,
        &mut state,
        |shard, now, out| shard.apply(command, now, out),
        settle,
    ));
}
