//! Effects leave: events go to their streams, what happened to those who watch.

use std::sync::Arc;

use ticketlock_core::output::Effect;

use super::batch::Told;
use super::runtime::Runtime;
use super::watch::Watcher;

/// Carries out one effect.
pub(super) fn deliver(
    runtime: &Arc<Runtime>,
    shard: u32,
    epoch: u64,
    revision: &mut u64,
    watchers: &[Arc<Watcher>],
    effect: Effect,
) {
    match effect {
        Effect::Push { stream, ticket, event } => {
            if let Some(outbox) = runtime.streams.get(&stream) {
                let full = outbox.push(ticket, event);
                if full && let Some(inbox) = outbox.inbox() {
                    runtime.let_go(inbox);
                }
            }
        }
        Effect::Happened(happening) => {
            *revision += 1;
            runtime.observer.happened(shard, &happening);
            for watcher in watchers {
                watcher.happened(
                    shard,
                    Told {
                        epoch,
                        revision: *revision,
                    },
                    &happening,
                );
            }
        }
    }
}
