//! Answers on their way out: the rules' words become messages. Nothing is decided here but how much fits into a reply.

use std::time::Duration;

use prost::Message as _;
use ticketlock_core::command::{ForceReply, UnlockReply};
use ticketlock_core::output::{
    Event, Granted, Happening, HappeningKind, HolderView, KeyView, Obstacle, Queued, WaitReason, WaiterView,
};
use ticketlock_core::types::{LostReason, Mode, Number, Outcome, OutcomeStatus, RefusedReason};
use ticketlock_proto::v1;
use ticketlock_proto::v1::lock_response::Event as WireEvent;

use crate::service::{LockItem, WatchEvent, WatchKind};

/// What a lock stream says next; `None`: its end.
#[must_use]
pub fn lock_event(item: LockItem) -> Option<WireEvent> {
    let (ticket, event) = match item {
        LockItem::Draining { left } => {
            return Some(WireEvent::ServerDraining(v1::ServerDraining { time_left: span(left) }));
        }
        LockItem::Event { ticket, event, .. } => (ticket, event),
    };
    Some(match event {
        Event::Queued(place) => WireEvent::Queued(queued(ticket, &place)),
        Event::Granted(grant) => WireEvent::Granted(granted(grant)),
        Event::Contended { waiters } => WireEvent::Contended(v1::Contended { waiters }),
        Event::Expiring { left } => WireEvent::Expiring(v1::Expiring { left: span(left) }),
        Event::Lost { token, reason } => WireEvent::Lost(lost(token, &reason)),
        Event::Refused { reason, obstacle } => WireEvent::Refused(refused(reason, obstacle)),
        Event::Unlocked | Event::Superseded => return None,
    })
}

/// A place in line.
#[must_use]
pub fn queued(ticket: Number, place: &Queued) -> v1::Queued {
    let reason = match place.reason {
        WaitReason::Held => v1::WaitReason::Held,
        WaitReason::Queue => v1::WaitReason::Queue,
        WaitReason::LockDelay => v1::WaitReason::LockDelay,
    };
    v1::Queued {
        ticket,
        position: place.position,
        holders: place.holders,
        eta: place.eta.and_then(span),
        reason: reason.into(),
    }
}

/// A grant.
#[must_use]
pub fn granted(grant: Granted) -> v1::Granted {
    v1::Granted {
        ticket: grant.ticket,
        fencing_token: grant.token,
        lowest_valid: grant.lowest_valid,
        ttl: span(grant.ttl),
        hold_count: grant.claims,
        waited: span(grant.waited),
        previous_outcome: Some(outcome(grant.previous_outcome)),
        max_hold_left: grant.max_hold_left.and_then(span),
    }
}

/// The end of a hold.
#[must_use]
pub fn lost(token: Number, reason: &LostReason) -> v1::Lost {
    let (by, message) = match reason {
        LostReason::Revoked { by, message } => (by.to_string(), message.to_string()),
        _ => Default::default(),
    };
    v1::Lost {
        fencing_token: token,
        reason: lost_reason(reason).into(),
        by,
        message,
    }
}

/// Why a hold ended.
fn lost_reason(reason: &LostReason) -> v1::LostReason {
    match reason {
        LostReason::Expired => v1::LostReason::Expired,
        LostReason::Disconnected => v1::LostReason::Disconnected,
        LostReason::Revoked { .. } => v1::LostReason::Revoked,
        LostReason::MaxHold => v1::LostReason::MaxHold,
        LostReason::NotAcked => v1::LostReason::NotAcked,
    }
}

/// The end of a wait.
#[must_use]
pub fn refused(reason: RefusedReason, obstacle: Option<Obstacle>) -> v1::Refused {
    let reason = match reason {
        RefusedReason::WouldWait => v1::RefusedReason::WouldWait,
        RefusedReason::WaitTimeout => v1::RefusedReason::WaitTimeout,
        RefusedReason::Cancelled => v1::RefusedReason::Cancelled,
        RefusedReason::NotHeld => v1::RefusedReason::NotHeld,
        RefusedReason::Disconnected => v1::RefusedReason::Disconnected,
    };
    let obstacle = obstacle.map(|obstacle| v1::Obstacle {
        kind: Some(match obstacle {
            Obstacle::Holder(view) => v1::obstacle::Kind::Holder(holder(view)),
            Obstacle::Waiter(view) => v1::obstacle::Kind::Waiter(waiter(view)),
            Obstacle::LockDelay { left } => v1::obstacle::Kind::LockDelayLeft(wire_span(left)),
        }),
    });
    v1::Refused {
        reason: reason.into(),
        obstacle,
    }
}

/// The answer to an unlock.
#[must_use]
pub fn unlock_response(reply: &UnlockReply) -> v1::UnlockResponse {
    let mut response = v1::UnlockResponse::default();
    let result = match reply {
        UnlockReply::Released { claims } => {
            response.hold_count = *claims;
            v1::UnlockResult::Released
        }
        UnlockReply::Cancelled => v1::UnlockResult::Cancelled,
        UnlockReply::AlreadyReleased { ended_by } => {
            response.ended_by = ended_by.as_ref().map_or(0, |reason| lost_reason(reason).into());
            v1::UnlockResult::AlreadyReleased
        }
        UnlockReply::NotFound => v1::UnlockResult::NotFound,
        UnlockReply::LockByOther => v1::UnlockResult::LockByOther,
    };
    response.set_result(result);
    response
}

/// How a token stands among the holds of its key.
pub fn checked_token(state: &KeyView, token: Number) -> v1::CheckTokenResponse {
    let holder = state.holders.iter().find(|holder| holder.token == token);
    let status = match holder {
        Some(_) => v1::TokenStatus::Valid,
        None => v1::TokenStatus::NotValid,
    };
    v1::CheckTokenResponse {
        status: status.into(),
        lowest_valid: state.holders.iter().map(|holder| holder.token).min().unwrap_or(0),
        lease_left: holder.and_then(|holder| span(holder.lease_left)),
        owner: holder.map(|holder| holder.terms.owner.to_string()).unwrap_or_default(),
    }
}

/// The answer to a renewal.
#[must_use]
pub fn renew_result(left: Option<Duration>) -> v1::RenewResult {
    let status = if left.is_some() {
        v1::RenewStatus::Renewed
    } else {
        v1::RenewStatus::NotHeld
    };
    v1::RenewResult {
        status: status.into(),
        ttl: left.and_then(span),
    }
}

/// The answer to a forced unlock.
#[must_use]
pub fn force_response(reply: &ForceReply) -> v1::ForceUnlockResponse {
    let (result, owner) = match reply {
        ForceReply::Revoked { owner } => (v1::ForceUnlockResult::Revoked, owner.to_string()),
        ForceReply::AlreadyReleased => (v1::ForceUnlockResult::AlreadyReleased, String::new()),
        ForceReply::NotFound => (v1::ForceUnlockResult::NotFound, String::new()),
    };
    v1::ForceUnlockResponse {
        result: result.into(),
        owner,
    }
}

/// A key's state, in at most `bytes_max`: the last waiters are left out first (`waiters_total` tells how many there
/// are), then the latest holders (`holders_total`).
#[must_use]
pub fn lock_info(view: KeyView, bytes_max: usize) -> v1::LockInfo {
    let mut info = v1::LockInfo {
        key: view.key.to_string(),
        holders_total: view.holders.len() as u64,
        holders: view.holders.into_iter().map(holder).collect(),
        waiters: view.waiters.into_iter().map(waiter).collect(),
        waiters_total: view.waiters_total,
        capacity: view.capacity.unwrap_or_default(),
        lock_delay_left: view.lock_delay_left.and_then(span),
        pending_outcome: view.pending_outcome.map(outcome),
    };
    while info.encoded_len() > bytes_max && !info.waiters.is_empty() {
        info.waiters.truncate(info.waiters.len() / 2);
    }
    while info.encoded_len() > bytes_max && !info.holders.is_empty() {
        info.holders.truncate(info.holders.len() / 2);
    }
    info
}

/// A holder.
fn holder(view: HolderView) -> v1::Holder {
    v1::Holder {
        owner: view.terms.owner.to_string(),
        ticket: view.ticket,
        fencing_token: view.token,
        mode: mode(view.terms.mode).into(),
        permits: permits(view.terms.mode),
        hold_count: view.claims,
        held: span(view.held),
        lease_left: span(view.lease_left),
        connected: view.connected,
        metadata: metadata(&view.terms.metadata),
    }
}

/// A waiter.
fn waiter(view: WaiterView) -> v1::Waiter {
    v1::Waiter {
        owner: view.terms.owner.to_string(),
        ticket: view.ticket,
        position: view.position,
        mode: mode(view.terms.mode).into(),
        permits: permits(view.terms.mode),
        waited: span(view.waited),
        connected: view.connected,
        metadata: metadata(&view.terms.metadata),
    }
}

/// A step of a watch.
#[must_use]
pub fn watch_response(event: WatchEvent, bytes_max: usize) -> v1::WatchLocksResponse {
    use v1::watch_locks_response::Event as Step;
    let step = match event.kind {
        WatchKind::Snapshot(view) => Step::Snapshot(lock_info(view, bytes_max)),
        WatchKind::SnapshotEnd => Step::SnapshotEnd(v1::SnapshotEnd {}),
        WatchKind::Changed(happening) => Step::Changed(changed(&happening)),
        WatchKind::Resync => Step::Resync(v1::Resync {}),
    };
    v1::WatchLocksResponse {
        shard: event.shard,
        epoch: event.epoch,
        revision: event.revision,
        event: Some(step),
    }
}

/// Something that happened.
fn changed(happening: &Happening) -> v1::LockEvent {
    let kind = match &happening.kind {
        HappeningKind::Queued => v1::LockEventKind::Queued,
        HappeningKind::Granted { .. } => v1::LockEventKind::Granted,
        HappeningKind::Released { .. } => v1::LockEventKind::Released,
        HappeningKind::Lost { reason, .. } => match reason {
            LostReason::Expired | LostReason::MaxHold => v1::LockEventKind::Expired,
            LostReason::Revoked { .. } => v1::LockEventKind::Revoked,
            LostReason::Disconnected => v1::LockEventKind::Disconnected,
            LostReason::NotAcked => v1::LockEventKind::Withdrawn,
        },
        HappeningKind::Left { .. } => v1::LockEventKind::Left,
        HappeningKind::Withdrawn => v1::LockEventKind::Withdrawn,
    };
    v1::LockEvent {
        kind: kind.into(),
        key: happening.terms.key.to_string(),
        owner: happening.terms.owner.to_string(),
        ticket: happening.ticket,
        fencing_token: happening.token.unwrap_or_default(),
        waiters: happening.waiters,
    }
}

/// An outcome.
fn outcome(value: Outcome) -> v1::Outcome {
    let status = match value.status {
        OutcomeStatus::Unspecified => v1::OutcomeStatus::Unspecified,
        OutcomeStatus::Success => v1::OutcomeStatus::Success,
        OutcomeStatus::Failure => v1::OutcomeStatus::Failure,
        OutcomeStatus::Lost => v1::OutcomeStatus::Lost,
    };
    v1::Outcome {
        status: status.into(),
        note: value.note,
    }
}

/// A mode.
fn mode(mode: Mode) -> v1::LockMode {
    match mode {
        Mode::Exclusive => v1::LockMode::Exclusive,
        Mode::Shared => v1::LockMode::Shared,
        Mode::Permits { .. } => v1::LockMode::Permits,
    }
}

/// A mode's permits.
fn permits(mode: Mode) -> u32 {
    match mode {
        Mode::Permits { permits, .. } => permits,
        Mode::Exclusive | Mode::Shared => 0,
    }
}

/// A small map.
fn metadata(entries: &[(String, String)]) -> std::collections::HashMap<String, String> {
    entries.iter().cloned().collect()
}

/// A length of time, as messages hold it.
#[must_use]
pub fn span(value: Duration) -> Option<prost_types::Duration> {
    Some(wire_span(value))
}

/// A length of time; 584 years and more are all the same.
#[must_use]
pub fn wire_span(value: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(value.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration {
        seconds,
        nanos: i32::try_from(value.subsec_nanos()).unwrap_or_default(),
    }
}
