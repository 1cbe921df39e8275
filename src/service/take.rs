//! Taking a shard, at the start and after a failure.
//!
//! A failed or unknown commit is never guessed about: the rules' state was dropped, the store fences whoever wrote
//! before, and the shard begins anew with what the store kept. Live streams of this process are re-attached without
//! the client's help; streams whose ticket is gone are told so.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ticketlock_core::types::{StreamId, Time};
use ticketlock_core::{Command, Output, Shard};

use super::error::ServiceError;
use super::outbox::Outbox;
use super::runtime::Runtime;
use super::slot::{Failure, Open, Phase, Slot, State, panic_message};
use crate::store::{StoreError, Taken};

/// How far the counter jumps when a store has fallen back behind what this server saw.
const MARK_JUMP: u64 = 1 << 20;

/// Takes a shard and opens it, once.
pub(super) async fn take(runtime: &Arc<Runtime>, shard: u32) -> Result<(), StoreError> {
    let taken = runtime.store.take(shard).await?;
    open(runtime, runtime.slot(shard), taken)
}

/// Takes a shard when the server starts. An outcome that is not known is asked for again: a disk that was full may have
/// found room meanwhile.
pub(super) async fn first(runtime: &Arc<Runtime>, shard: u32) -> Result<(), StoreError> {
    for _ in 0..2 {
        match take(runtime, shard).await {
            Err(StoreError::Unknown(_)) => {}
            taken => return taken,
        }
    }
    take(runtime, shard).await
}

/// Takes a shard, again and again until it is taken or the server stops.
pub(super) async fn retake(runtime: &Arc<Runtime>, shard: u32, mut failures: u32) {
    let slot = runtime.slot(shard);
    loop {
        runtime.clock.sleep(runtime.pause(failures)).await;
        if runtime.is_closed() {
            return;
        }
        let Err(error) = take(runtime, shard).await else { return };
        failures = failures.saturating_add(1);
        let mut state = slot.state.lock();
        state.failures = failures;
        if let Phase::Taking { answer, .. } = &mut state.phase {
            *answer = ServiceError::from(&error);
        }
        drop(state);
        runtime.observer.store_failed(shard, &error);
    }
}

/// Makes the rules anew from what the store kept, and answers from now on.
fn open(runtime: &Arc<Runtime>, slot: &Slot, mut taken: Taken) -> Result<(), StoreError> {
    let mut guard = slot.state.lock();
    let state = &mut *guard;
    let since = match &state.phase {
        Phase::Taking { since, .. } => *since,
        Phase::Open(_) | Phase::Closed => return Ok(()),
    };
    if taken.epoch <= state.seen.epoch {
        return Err(StoreError::Corrupt(format!(
            "epoch {} after epoch {}",
            taken.epoch, state.seen.epoch
        )));
    }
    if taken.records.mark < state.seen.mark {
        tracing::warn!(
            shard = slot.number,
            mark = taken.records.mark,
            seen = state.seen.mark,
            "the store fell back"
        );
        taken.records.mark = state.seen.mark + MARK_JUMP;
    }
    state.seen.epoch = taken.epoch;
    let now = runtime.clock.now();
    let mut config = runtime.config.core.clone();
    config.hash_seed = runtime.ids.draw();
    let streams = live_streams(runtime, slot.number);
    let recovered = catch_unwind(AssertUnwindSafe(|| {
        let mut out = Output::default();
        let mut shard = Shard::recover(config, taken.records, now);
        let lost = attach(&mut shard, &streams, now, &mut out);
        let ended = detach(&mut shard, &streams, now, &mut out);
        (shard, out, lost, ended)
    }));
    let (shard, out, lost, ended) = match recovered {
        Ok(recovered) => recovered,
        Err(panic) => {
            let message = panic_message(&*panic);
            runtime.observer.panicked(slot.number, &message);
            return Err(StoreError::Unknown(format!("recovery panicked: {message}")));
        }
    };
    for outbox in lost {
        outbox.fail(ServiceError::StoreUnavailable);
        runtime.streams.remove(&outbox.stream.id);
    }
    let mut open = Open::new(shard, taken.epoch);
    let forgetful = Arc::clone(runtime);
    let forget = move |result: &Result<(), ServiceError>, _| {
        // Where this commit fails too, the next opening sees them again.
        if result.is_ok() {
            ended.into_iter().for_each(|stream| forgetful.forget(stream));
        }
    };
    open.enqueue_output(runtime, out, forget);
    runtime.install(state, open);
    for watcher in &state.watchers {
        watcher.shard_opened(slot.number);
    }
    runtime.observer.opened(slot.number, taken.epoch, now.since(since));
    slot.pump(runtime, state);
    drop(guard);
    slot.earlier.notify_one();
    Ok(())
}

/// The shard's live streams that have a claim to go on, in order of their numbers.
fn live_streams(runtime: &Runtime, shard: u32) -> Vec<Arc<Outbox>> {
    let of_shard = runtime.streams.iter().filter(|entry| entry.value().shard == shard);
    let mut streams: Vec<_> = of_shard.map(|entry| Arc::clone(entry.value())).collect();
    streams.sort_by_key(|outbox| outbox.stream.id);
    streams
}

/// Re-attaches live streams; returns those whose ticket is gone.
fn attach(shard: &mut Shard, streams: &[Arc<Outbox>], now: Time, out: &mut Output) -> Vec<Arc<Outbox>> {
    let mut lost = Vec::new();
    for outbox in streams {
        if let Some(reattach) = outbox.reattach()
            && !shard.reattach(reattach, now, out)
        {
            lost.push(Arc::clone(outbox));
        }
    }
    lost
}

/// Tells the rules of ends that they have not heard of; returns those streams.
fn detach(shard: &mut Shard, streams: &[Arc<Outbox>], now: Time, out: &mut Output) -> Vec<StreamId> {
    let mut ended = Vec::new();
    for outbox in streams {
        let Some((ticket, cause)) = outbox.unheard_end() else {
            continue;
        };
        let stream = outbox.stream.id;
        if shard.reattach(outbox.reattach_to(ticket), now, out) {
            shard.apply(
                Command::Detach {
                    key: Arc::clone(&outbox.terms.key),
                    ticket,
                    stream,
                    cause,
                },
                now,
                out,
            );
        }
        ended.push(stream);
    }
    ended
}

/// Closes a shard for good; what was held is told so. Returns the epoch to give back.
pub(super) fn close(runtime: &Arc<Runtime>, slot: &Slot) -> Option<u64> {
    let mut guard = slot.state.lock();
    let state: &mut State = &mut guard;
    let epoch = if let Phase::Open(open) = &state.phase {
        Some(open.told().epoch)
    } else {
        None
    };
    slot.fail(runtime, state, &Failure::Closing);
    state.phase = Phase::Closed;
    epoch
}
