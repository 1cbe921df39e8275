//! Told by the service what happens: counts it, and writes one line of log for each change.
//!
//! It is called while a shard is locked, so it counts and returns. What happens often is logged at `debug`, what an
//! operator wants to know of at `info` or above.

use std::time::Duration;

use ticketlock_core::output::{Happening, HappeningKind};
use ticketlock_core::types::LostReason;
use tracing::{debug, error, info, warn};

use super::{Telemetry, mode_label, names, refused_label};
use crate::service::Observer;
use crate::store::StoreError;
use crate::sync::Ordering;

impl Observer for Telemetry {
    fn happened(&self, shard: u32, happening: &Happening) {
        if self.counting {
            self.count(shard, happening);
        }
        log(happening);
    }

    fn committed(&self, _shard: u32, took: Duration, changes: usize) {
        if !self.counting {
            return;
        }
        if took.is_zero()
            && let Some(count) = self.instant_commits.get(changes)
        {
            count.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.commit.record(took);
        self.commit_changes.record(super::count_value(changes));
    }

    fn store_failed(&self, shard: u32, failure: &StoreError) {
        let kind = match failure {
            StoreError::Fenced => "fenced",
            StoreError::Unavailable(_) => "unavailable",
            StoreError::Unknown(_) => "unknown",
            StoreError::Corrupt(_) => "corrupt",
        };
        self.recorder.counter(&names::STORE_FAILURES, &[kind]).increment(1);
        warn!(shard, kind, error = %failure, "the store failed: the shard is taken again");
    }

    fn panicked(&self, shard: u32, message: &str) {
        self.panics.increment(1);
        error!(
            shard,
            message, "a bug: an invariant was broken, the shard is taken again"
        );
    }

    fn opened(&self, shard: u32, epoch: u64, took: Duration) {
        self.recovery.record(took);
        debug!(shard, epoch, took_ms = millis(took), "shard opened");
    }
}

impl Telemetry {
    /// Counts something that happened.
    fn count(&self, shard: u32, happening: &Happening) {
        let series = self.mode(happening.terms.mode);
        match &happening.kind {
            HappeningKind::Queued => {}
            HappeningKind::Granted { waited, handoff } => {
                series.granted.increment(1);
                if let Some(waited) = waited {
                    series.wait.record(*waited);
                    series.contended.increment(1);
                } else {
                    series.at_once.fetch_add(1, Ordering::Relaxed);
                }
                if *handoff {
                    // Bound: gone when the grant leaves, or when the hold ends.
                    self.handoffs.insert((shard, happening.ticket), self.clock.now());
                }
            }
            HappeningKind::Released { held } => {
                series.hold.record(*held);
                self.handoffs.remove(&(shard, happening.ticket));
            }
            HappeningKind::Lost { reason, held } => {
                series.hold.record(*held);
                self.recorder
                    .counter(&names::LOSSES, &[lost_label(reason)])
                    .increment(1);
                self.handoffs.remove(&(shard, happening.ticket));
            }
            HappeningKind::Left { reason } => self.refused(happening.terms.mode, *reason),
            HappeningKind::Withdrawn => {
                self.handoffs.remove(&(shard, happening.ticket));
            }
        }
    }
}

/// One line for one change.
fn log(happening: &Happening) {
    let (key, owner) = (&*happening.terms.key, &*happening.terms.owner);
    let Happening { ticket, waiters, .. } = *happening;
    let mode = mode_label(happening.terms.mode);
    let token = happening.token.unwrap_or_default();
    match &happening.kind {
        HappeningKind::Queued => debug!(key, owner, mode, ticket, waiters, "lock queued"),
        HappeningKind::Granted { waited, .. } => {
            let waited_ms = millis(waited.unwrap_or_default());
            debug!(key, owner, mode, ticket, token, waited_ms, waiters, "lock acquired");
        }
        HappeningKind::Released { held } => {
            debug!(
                key,
                owner,
                mode,
                ticket,
                token,
                held_ms = millis(*held),
                waiters,
                "lock released"
            );
        }
        HappeningKind::Lost {
            reason: LostReason::Revoked { by, message },
            held,
        } => {
            let (by, reason) = (&**by, &**message);
            warn!(
                key,
                owner,
                mode,
                ticket,
                token,
                by,
                reason,
                held_ms = millis(*held),
                waiters,
                "lock revoked"
            );
        }
        HappeningKind::Lost { reason, held } => {
            let reason = lost_label(reason);
            info!(
                key,
                owner,
                mode,
                ticket,
                token,
                reason,
                held_ms = millis(*held),
                waiters,
                "lock lost"
            );
        }
        HappeningKind::Left { reason } => {
            debug!(
                key,
                owner,
                mode,
                ticket,
                reason = refused_label(*reason),
                waiters,
                "waiter left"
            );
        }
        HappeningKind::Withdrawn => debug!(key, owner, mode, ticket, token, waiters, "grant withdrawn"),
    }
}

/// A loss's label.
fn lost_label(reason: &LostReason) -> &'static str {
    match reason {
        LostReason::Expired => "expired",
        LostReason::Disconnected => "disconnected",
        LostReason::Revoked { .. } => "revoked",
        LostReason::MaxHold => "max_hold",
        LostReason::NotAcked => "not_acked",
    }
}

/// Whole milliseconds.
fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
