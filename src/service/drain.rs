//! The end of a server: no new tickets, the open streams are told, and all ends within a bound.

use std::sync::Arc;
use std::time::Duration;

use ticketlock_core::types::Time;

use super::error::ServiceError;
use super::inbox::Answer;
use super::outbox::Outbox;
use super::runtime::Runtime;
use super::take;
use crate::sync::Ordering;

/// Of the whole time, this part at the end is kept for the last commits and for giving the shards back.
const RESERVED: u32 = 10;

/// Where the store keeps what is held: time for calls that are under way.
const HANDOVER: Duration = Duration::from_millis(200);

/// Ends the service within `within`; a second call waits for the first.
pub(super) async fn shutdown(runtime: &Arc<Runtime>, within: Duration) {
    if runtime.draining.swap(true, Ordering::SeqCst) {
        return ended(runtime).await;
    }
    let now = runtime.clock.now();
    let mut streams_within = within - within / RESERVED;
    if runtime.store.outlives_the_process() {
        // Nobody needs the time to unlock: what is held is held after the restart, too.
        streams_within = streams_within.min(HANDOVER);
    }
    let streams_end = now.after(streams_within);
    let end = now.after(within);
    for outbox in streams(runtime) {
        outbox.drain(streams_within, runtime.store.outlives_the_process());
    }
    for inbox in runtime.sessions.iter() {
        inbox.answer(0, Answer::Draining(streams_end.since(now)));
    }
    until_gone(runtime, streams_end).await;
    for outbox in streams(runtime) {
        outbox.stop();
    }
    for inbox in runtime.sessions.iter() {
        inbox.stop();
    }
    for slot in &runtime.slots {
        for watcher in &slot.state.lock().watchers {
            watcher.end(ServiceError::Draining);
        }
    }
    until_settled(runtime, end).await;
    give_back(runtime, end).await;
    runtime.closed.send_replace(true);
}

/// Waits until all shards are given back.
pub(super) async fn ended(runtime: &Runtime) {
    let mut closed = runtime.closed.subscribe();
    // The sender lives as long as the runtime.
    let _ = closed.wait_for(|closed| *closed).await;
}

/// The open streams, in order of their numbers.
fn streams(runtime: &Runtime) -> Vec<Arc<Outbox>> {
    let mut streams: Vec<_> = runtime.streams.iter().map(|entry| Arc::clone(entry.value())).collect();
    streams.sort_by_key(|outbox| outbox.stream.id);
    streams
}

/// Waits until the last stream has gone, or until `end`.
async fn until_gone(runtime: &Runtime, end: Time) {
    loop {
        // Order: listen before looking.
        let gone = runtime.stream_gone.notified();
        if runtime.streams.is_empty() {
            return;
        }
        tokio::select! {
            biased;
            () = gone => {}
            () = runtime.clock.sleep_until(end) => return,
        }
    }
}

/// Waits until no commit is in flight, or until `end`.
async fn until_settled(runtime: &Runtime, end: Time) {
    for slot in &runtime.slots {
        loop {
            let settled = slot.settled.notified();
            if !slot.state.lock().is_committing() {
                break;
            }
            tokio::select! {
                biased;
                () = settled => {}
                () = runtime.clock.sleep_until(end) => return,
            }
        }
    }
}

/// Closes every shard and gives it back.
async fn give_back(runtime: &Arc<Runtime>, end: Time) {
    let mut given = Vec::new();
    for slot in &runtime.slots {
        if let Some(epoch) = take::close(runtime, slot) {
            given.push((slot.number, epoch));
        }
        slot.earlier.notify_one();
    }
    let all = async {
        for (shard, epoch) in given {
            if let Err(error) = runtime.store.give_back(shard, epoch).await {
                tracing::warn!(shard, %error, "a shard could not be given back");
            }
        }
    };
    tokio::select! {
        biased;
        () = all => {}
        () = runtime.clock.sleep_until(end) => tracing::warn!("not all shards were given back in time"),
    }
}
