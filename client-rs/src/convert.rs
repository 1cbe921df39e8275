//! From the wire's types to this crate's and back. Generated types stop here.

use std::collections::HashMap;
use std::time::Duration;

use ticketlock_proto::v1;

use crate::types::{
    ForceUnlockResult, Holder, LockEvent, LockEventKind, LockInfo, LostReason, Mode, Obstacle, OnDisconnect, Outcome,
    OutcomeStatus, Queued, RefusedReason, RenewResult, SameOwner, ServerInfo, TokenCheck, UnlockResult, WaitReason,
    Waiter, WatchChange, WatchEvent,
};

/// Negative durations never travel; one that does is worth nothing.
pub(crate) fn duration(wire: prost_types::Duration) -> Duration {
    Duration::new(
        u64::try_from(wire.seconds).unwrap_or(0),
        u32::try_from(wire.nanos).unwrap_or(0).min(999_999_999),
    )
}

pub(crate) fn to_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// Mode, permits and capacity as a request carries them.
pub(crate) fn to_mode(mode: Mode) -> (i32, u32, u32) {
    match mode {
        Mode::Exclusive => (v1::LockMode::Exclusive.into(), 0, 0),
        Mode::Shared => (v1::LockMode::Shared.into(), 0, 0),
        Mode::Permits { permits, capacity } => (v1::LockMode::Permits.into(), permits, capacity),
    }
}

fn mode(mode: v1::LockMode, permits: u32, capacity: u32) -> Mode {
    match mode {
        v1::LockMode::Unspecified | v1::LockMode::Exclusive => Mode::Exclusive,
        v1::LockMode::Shared => Mode::Shared,
        v1::LockMode::Permits => Mode::Permits { permits, capacity },
    }
}

/// Policy and grace as a request carries them.
pub(crate) fn to_on_disconnect(policy: OnDisconnect) -> (i32, Option<prost_types::Duration>) {
    match policy {
        OnDisconnect::Release => (v1::OnDisconnect::Release.into(), None),
        OnDisconnect::Grace(grace) => (v1::OnDisconnect::Grace.into(), Some(to_duration(grace))),
        OnDisconnect::Lease => (v1::OnDisconnect::Lease.into(), None),
    }
}

pub(crate) fn to_same_owner(same: SameOwner) -> i32 {
    match same {
        SameOwner::Wait => v1::SameOwner::Wait.into(),
        SameOwner::Reenter => v1::SameOwner::Reenter.into(),
        SameOwner::Refuse => v1::SameOwner::Refuse.into(),
    }
}

pub(crate) fn to_outcome(outcome: Outcome) -> v1::Outcome {
    let status = match outcome.status {
        OutcomeStatus::Unspecified => v1::OutcomeStatus::Unspecified,
        OutcomeStatus::Success => v1::OutcomeStatus::Success,
        OutcomeStatus::Failure => v1::OutcomeStatus::Failure,
        OutcomeStatus::Lost => v1::OutcomeStatus::Lost,
    };
    v1::Outcome {
        status: status.into(),
        note: outcome.note,
    }
}

pub(crate) fn outcome(wire: v1::Outcome) -> Outcome {
    let status = match wire.status() {
        v1::OutcomeStatus::Unspecified => OutcomeStatus::Unspecified,
        v1::OutcomeStatus::Success => OutcomeStatus::Success,
        v1::OutcomeStatus::Failure => OutcomeStatus::Failure,
        v1::OutcomeStatus::Lost => OutcomeStatus::Lost,
    };
    Outcome {
        status,
        note: wire.note,
    }
}

pub(crate) fn queued(wire: v1::Queued) -> Queued {
    let reason = match wire.reason() {
        v1::WaitReason::Held => WaitReason::Held,
        v1::WaitReason::Queue => WaitReason::Queue,
        v1::WaitReason::LockDelay => WaitReason::LockDelay,
        v1::WaitReason::Unspecified => WaitReason::Unknown,
    };
    Queued {
        ticket: wire.ticket,
        position: wire.position,
        holders: wire.holders,
        eta: wire.eta.map(duration),
        reason,
    }
}

pub(crate) fn lost(wire: v1::Lost) -> LostReason {
    match lost_reason(wire.reason()) {
        Some(LostReason::Revoked { .. }) => LostReason::Revoked {
            by: wire.by,
            message: wire.message,
        },
        Some(reason) => reason,
        None => LostReason::Unknown,
    }
}

fn lost_reason(reason: v1::LostReason) -> Option<LostReason> {
    match reason {
        v1::LostReason::Unspecified => None,
        v1::LostReason::Expired => Some(LostReason::Expired),
        v1::LostReason::Disconnected => Some(LostReason::Disconnected),
        v1::LostReason::Revoked => Some(LostReason::Revoked {
            by: String::new(),
            message: String::new(),
        }),
        v1::LostReason::MaxHold => Some(LostReason::MaxHold),
        v1::LostReason::NotAcked => Some(LostReason::NotAcked),
        v1::LostReason::StoreChanged => Some(LostReason::StoreChanged),
    }
}

pub(crate) fn refused_reason(reason: v1::RefusedReason) -> RefusedReason {
    match reason {
        v1::RefusedReason::Unspecified => RefusedReason::Unknown,
        v1::RefusedReason::WouldWait => RefusedReason::WouldWait,
        v1::RefusedReason::WaitTimeout => RefusedReason::WaitTimeout,
        v1::RefusedReason::Cancelled => RefusedReason::Cancelled,
        v1::RefusedReason::Deadlock => RefusedReason::Deadlock,
        v1::RefusedReason::Revoked => RefusedReason::Revoked,
        v1::RefusedReason::NotHeld => RefusedReason::NotHeld,
        v1::RefusedReason::Disconnected => RefusedReason::Disconnected,
    }
}

pub(crate) fn refused(wire: v1::Refused) -> crate::Error {
    let reason = refused_reason(wire.reason());
    let obstacle = wire.obstacle.and_then(|it| it.kind).map(|kind| match kind {
        v1::obstacle::Kind::Holder(it) => Obstacle::Holder(holder(it, 0)),
        v1::obstacle::Kind::Waiter(it) => Obstacle::Waiter(waiter(it, 0)),
        v1::obstacle::Kind::LockDelayLeft(it) => Obstacle::LockDelay(duration(it)),
    });
    crate::Error::NotAcquired { reason, obstacle }
}

pub(crate) fn unlock(wire: v1::UnlockResponse) -> Result<UnlockResult, crate::Error> {
    match wire.result() {
        v1::UnlockResult::Released => Ok(UnlockResult::Released {
            claims_left: wire.hold_count,
        }),
        v1::UnlockResult::AlreadyReleased => Ok(UnlockResult::AlreadyReleased {
            ended_by: lost_reason(wire.ended_by()),
        }),
        v1::UnlockResult::NotFound => Ok(UnlockResult::NotFound),
        v1::UnlockResult::LockByOther => Ok(UnlockResult::LockByOther),
        v1::UnlockResult::Cancelled => Ok(UnlockResult::Cancelled),
        v1::UnlockResult::Unspecified => Err(unknown_answer("UnlockResult")),
    }
}

/// A renewal that was answered with `INVALID_TTL`.
pub(crate) fn invalid_ttl(ttl: Duration) -> crate::Error {
    crate::Error::Argument(format!(
        "ttl: {ttl:?} is out of the server's range, 100 ms to 24 h by default"
    ))
}

pub(crate) fn token_check(wire: v1::CheckTokenResponse) -> TokenCheck {
    TokenCheck {
        is_valid: wire.status() == v1::TokenStatus::Valid,
        lowest_valid: (wire.lowest_valid > 0).then_some(wire.lowest_valid),
        lease_left: wire.lease_left.map(duration).unwrap_or_default(),
        owner: wire.owner,
    }
}

pub(crate) fn renew(wire: Option<v1::RenewResult>) -> Result<RenewResult, crate::Error> {
    let wire = wire.ok_or_else(|| unknown_answer("RenewResponse"))?;
    match wire.status() {
        v1::RenewStatus::Renewed => Ok(RenewResult::Renewed {
            ttl: wire.ttl.map(duration).unwrap_or_default(),
        }),
        v1::RenewStatus::NotHeld => Ok(RenewResult::NotHeld),
        v1::RenewStatus::InvalidTtl => Ok(RenewResult::InvalidTtl),
        v1::RenewStatus::Unspecified => Err(unknown_answer("RenewStatus")),
    }
}

pub(crate) fn force_unlock(wire: v1::ForceUnlockResponse) -> Result<ForceUnlockResult, crate::Error> {
    match wire.result() {
        v1::ForceUnlockResult::Revoked => Ok(ForceUnlockResult::Revoked { owner: wire.owner }),
        v1::ForceUnlockResult::AlreadyReleased => Ok(ForceUnlockResult::AlreadyReleased),
        v1::ForceUnlockResult::NotFound => Ok(ForceUnlockResult::NotFound),
        v1::ForceUnlockResult::Unspecified => Err(unknown_answer("ForceUnlockResult")),
    }
}

/// An answer that a newer server may give.
pub(crate) fn unknown_answer(what: &str) -> crate::Error {
    crate::Error::from(tonic::Status::unknown(format!(
        "the server's answer is not known to this client: {what}"
    )))
}

fn holder(wire: v1::Holder, capacity: u32) -> Holder {
    let mode = mode(wire.mode(), wire.permits, capacity);
    Holder {
        owner: wire.owner,
        ticket: wire.ticket,
        fencing_token: wire.fencing_token,
        mode,
        hold_count: wire.hold_count,
        held: wire.held.map(duration).unwrap_or_default(),
        lease_left: wire.lease_left.map(duration).unwrap_or_default(),
        connected: wire.connected,
        metadata: wire.metadata.into_iter().collect(),
    }
}

fn waiter(wire: v1::Waiter, capacity: u32) -> Waiter {
    let mode = mode(wire.mode(), wire.permits, capacity);
    Waiter {
        owner: wire.owner,
        ticket: wire.ticket,
        position: wire.position,
        mode,
        waited: wire.waited.map(duration).unwrap_or_default(),
        connected: wire.connected,
        metadata: wire.metadata.into_iter().collect(),
    }
}

pub(crate) fn lock_info(wire: v1::LockInfo) -> LockInfo {
    let capacity = wire.capacity;
    LockInfo {
        key: wire.key,
        holders: wire.holders.into_iter().map(|it| holder(it, capacity)).collect(),
        waiters: wire.waiters.into_iter().map(|it| waiter(it, capacity)).collect(),
        holders_total: wire.holders_total,
        waiters_total: wire.waiters_total,
        capacity,
        lock_delay_left: wire.lock_delay_left.map(duration).filter(|it| !it.is_zero()),
        pending_outcome: wire.pending_outcome.map(outcome),
    }
}

pub(crate) fn watch_event(wire: v1::WatchLocksResponse) -> Option<WatchEvent> {
    use v1::watch_locks_response::Event;
    let change = match wire.event? {
        Event::Snapshot(info) => WatchChange::Snapshot(lock_info(info)),
        Event::SnapshotEnd(_) => WatchChange::SnapshotEnd,
        Event::Changed(event) => WatchChange::Changed(lock_event(event)),
        Event::Resync(_) => WatchChange::Resync,
    };
    Some(WatchEvent {
        shard: wire.shard,
        epoch: wire.epoch,
        revision: wire.revision,
        change,
    })
}

fn lock_event(wire: v1::LockEvent) -> LockEvent {
    let kind = match wire.kind() {
        v1::LockEventKind::Unspecified => LockEventKind::Unknown,
        v1::LockEventKind::Queued => LockEventKind::Queued,
        v1::LockEventKind::Granted => LockEventKind::Granted,
        v1::LockEventKind::Released => LockEventKind::Released,
        v1::LockEventKind::Expired => LockEventKind::Expired,
        v1::LockEventKind::Revoked => LockEventKind::Revoked,
        v1::LockEventKind::Disconnected => LockEventKind::Disconnected,
        v1::LockEventKind::Left => LockEventKind::Left,
        v1::LockEventKind::Withdrawn => LockEventKind::Withdrawn,
    };
    LockEvent {
        kind,
        key: wire.key,
        owner: wire.owner,
        ticket: wire.ticket,
        fencing_token: (wire.fencing_token != 0).then_some(wire.fencing_token),
        waiters: wire.waiters,
    }
}

pub(crate) fn server_info(wire: v1::GetServerInfoResponse) -> ServerInfo {
    ServerInfo {
        version: wire.version,
        store_id: wire.store_id,
        store: wire.store,
        durability: wire.durability,
        shards: wire.shards,
        uptime: wire.uptime.map(duration).unwrap_or_default(),
        limits: wire.limits.into_iter().collect(),
    }
}

pub(crate) fn to_metadata(pairs: &std::collections::BTreeMap<String, String>) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}
