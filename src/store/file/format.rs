//! How records look on disk: Protocol Buffers messages, so that a later version can add fields and read the earlier ones.
//!
//! Times are nanoseconds. What a decoder does not know it refuses: a record that is half understood is a lock that is
//! half kept.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use ticketlock_core::record::{ClaimRecord, End, EndRecord, HoldRecord, OutcomeRecord, TicketRecord};
use ticketlock_core::types::{
    LostReason, Mode, Number, OnDisconnect, Outcome, OutcomeStatus, RefusedReason, RequestId, SameOwner, Terms,
};

/// A record that cannot be read, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unreadable(String);

/// Why a field is refused.
fn unknown(field: &str, value: impl std::fmt::Display) -> Unreadable {
    Unreadable(format!("{field}: {value} is not known to this version"))
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct WireTerms {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    owner: String,
    #[prost(bytes = "vec", tag = "3")]
    request_id: Vec<u8>,
    /// 0 exclusive, 1 shared, 2 permits.
    #[prost(uint32, tag = "4")]
    mode: u32,
    #[prost(uint32, tag = "5")]
    permits: u32,
    #[prost(uint32, tag = "6")]
    capacity: u32,
    #[prost(uint64, optional, tag = "7")]
    wait_timeout: Option<u64>,
    /// 0 release, 1 grace, 2 lease.
    #[prost(uint32, tag = "8")]
    on_disconnect: u32,
    #[prost(uint64, tag = "9")]
    grace: u64,
    /// 0 wait, 1 reenter, 2 refuse.
    #[prost(uint32, tag = "10")]
    same_owner: u32,
    #[prost(uint64, tag = "11")]
    lock_delay: u64,
    #[prost(uint64, optional, tag = "12")]
    max_hold: Option<u64>,
    #[prost(message, repeated, tag = "13")]
    metadata: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
struct WireClaim {
    /// Absent: the ticket's own.
    #[prost(message, optional, tag = "1")]
    terms: Option<WireTerms>,
    #[prost(uint64, tag = "2")]
    attach_number: u64,
    #[prost(uint64, tag = "3")]
    ttl: u64,
}

#[derive(Clone, PartialEq, Message)]
struct WireOutcome {
    /// 0 unspecified, 1 success, 2 failure, 3 lost.
    #[prost(uint32, tag = "1")]
    status: u32,
    #[prost(string, tag = "2")]
    note: String,
}

#[derive(Clone, PartialEq, Message)]
struct WireHold {
    #[prost(uint64, tag = "1")]
    token: u64,
    #[prost(bool, tag = "2")]
    unacked: bool,
    #[prost(message, optional, tag = "3")]
    previous_outcome: Option<WireOutcome>,
    #[prost(uint64, tag = "4")]
    longest: u64,
}

#[derive(Clone, PartialEq, Message)]
struct WireTicket {
    #[prost(uint64, tag = "1")]
    order: u64,
    #[prost(message, optional, tag = "2")]
    terms: Option<WireTerms>,
    #[prost(uint64, tag = "3")]
    ttl: u64,
    #[prost(message, repeated, tag = "4")]
    claims: Vec<WireClaim>,
    #[prost(message, optional, tag = "5")]
    hold: Option<WireHold>,
}

#[derive(Clone, PartialEq, Message)]
struct WireEnd {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    owner: String,
    #[prost(bytes = "vec", tag = "3")]
    request_id: Vec<u8>,
    #[prost(uint64, optional, tag = "4")]
    token: Option<u64>,
    /// 1 to 5 a hold: expired, disconnected, revoked, max_hold, not_acked; 11 to 15 a wait: would_wait, wait_timeout,
    /// cancelled, not_held, disconnected.
    #[prost(uint32, tag = "5")]
    reason: u32,
    #[prost(string, tag = "6")]
    by: String,
    #[prost(string, tag = "7")]
    message: String,
}

#[derive(Clone, PartialEq, Message)]
struct WirePending {
    #[prost(message, optional, tag = "1")]
    outcome: Option<WireOutcome>,
    #[prost(uint64, tag = "2")]
    up_to: u64,
}

/// A ticket, but for its number, which is its name.
pub(super) fn ticket_bytes(record: &TicketRecord) -> Vec<u8> {
    let own = |claim: &ClaimRecord| Arc::ptr_eq(&claim.terms, &record.terms) || claim.terms == record.terms;
    let claims = record.claims.iter().map(|claim| WireClaim {
        terms: (!own(claim)).then(|| terms_out(&claim.terms)),
        attach_number: claim.attach_number,
        ttl: nanos(claim.ttl),
    });
    let hold = record.hold.as_ref().map(|hold| WireHold {
        token: hold.token,
        unacked: hold.unacked,
        longest: nanos(hold.longest),
        previous_outcome: (hold.previous_outcome != Outcome::default()).then(|| outcome_out(&hold.previous_outcome)),
    });
    let wire = WireTicket {
        order: record.order,
        terms: Some(terms_out(&record.terms)),
        ttl: nanos(record.ttl),
        claims: claims.collect(),
        hold,
    };
    wire.encode_to_vec()
}

/// The ticket of this number.
pub(super) fn ticket(number: Number, bytes: &[u8]) -> Result<TicketRecord, Unreadable> {
    let wire: WireTicket = decode(bytes)?;
    let terms = Arc::new(terms_in(wire.terms.ok_or_else(|| unknown("terms", "nothing"))?)?);
    let claim = |claim: WireClaim| {
        Ok(ClaimRecord {
            terms: claim
                .terms
                .map_or_else(|| Ok(Arc::clone(&terms)), |it| terms_in(it).map(Arc::new))?,
            attach_number: claim.attach_number,
            ttl: Duration::from_nanos(claim.ttl),
        })
    };
    let claims: smallvec::SmallVec<_> = wire.claims.into_iter().map(claim).collect::<Result<_, Unreadable>>()?;
    if claims.is_empty() {
        return Err(unknown("claims", "none"));
    }
    let hold = wire.hold.map(|hold| {
        Ok(Box::new(HoldRecord {
            token: hold.token,
            unacked: hold.unacked,
            longest: Duration::from_nanos(hold.longest),
            previous_outcome: outcome_in(hold.previous_outcome)?,
        }))
    });
    Ok(TicketRecord {
        ticket: number,
        order: wire.order,
        terms: Arc::clone(&terms),
        ttl: Duration::from_nanos(wire.ttl),
        claims,
        hold: hold.transpose()?,
    })
}

/// A remembered end, but for its number.
pub(super) fn end_bytes(record: &EndRecord) -> Vec<u8> {
    let (by, message) = match &record.end {
        End::Lost(LostReason::Revoked { by, message }) => (by.to_string(), message.to_string()),
        _ => Default::default(),
    };
    let reason = match &record.end {
        End::Lost(LostReason::Expired) => 1,
        End::Lost(LostReason::Disconnected) => 2,
        End::Lost(LostReason::Revoked { .. }) => 3,
        End::Lost(LostReason::MaxHold) => 4,
        End::Lost(LostReason::NotAcked) => 5,
        End::Refused(RefusedReason::WouldWait) => 11,
        End::Refused(RefusedReason::WaitTimeout) => 12,
        End::Refused(RefusedReason::Cancelled) => 13,
        End::Refused(RefusedReason::NotHeld) => 14,
        End::Refused(RefusedReason::Disconnected) => 15,
    };
    let wire = WireEnd {
        key: record.key.to_string(),
        owner: record.owner.to_string(),
        request_id: request_id_out(record.request_id),
        token: record.token,
        reason,
        by,
        message,
    };
    wire.encode_to_vec()
}

/// The end of this number.
pub(super) fn end(number: Number, bytes: &[u8]) -> Result<EndRecord, Unreadable> {
    let wire: WireEnd = decode(bytes)?;
    let end = match wire.reason {
        1 => End::Lost(LostReason::Expired),
        2 => End::Lost(LostReason::Disconnected),
        3 => End::Lost(LostReason::Revoked {
            by: wire.by.into(),
            message: wire.message.into(),
        }),
        4 => End::Lost(LostReason::MaxHold),
        5 => End::Lost(LostReason::NotAcked),
        11 => End::Refused(RefusedReason::WouldWait),
        12 => End::Refused(RefusedReason::WaitTimeout),
        13 => End::Refused(RefusedReason::Cancelled),
        14 => End::Refused(RefusedReason::NotHeld),
        15 => End::Refused(RefusedReason::Disconnected),
        reason => return Err(unknown("reason", reason)),
    };
    Ok(EndRecord {
        number,
        key: wire.key.into(),
        owner: wire.owner.into(),
        request_id: request_id_in(&wire.request_id)?,
        token: wire.token,
        end,
    })
}

/// A pending outcome, but for its key.
pub(super) fn pending_bytes(record: &OutcomeRecord) -> Vec<u8> {
    let wire = WirePending {
        outcome: Some(outcome_out(&record.outcome)),
        up_to: record.up_to,
    };
    wire.encode_to_vec()
}

/// The outcome that waits on this key.
pub(super) fn pending(key: &str, bytes: &[u8]) -> Result<OutcomeRecord, Unreadable> {
    let wire: WirePending = decode(bytes)?;
    Ok(OutcomeRecord {
        key: key.into(),
        outcome: outcome_in(wire.outcome)?,
        up_to: wire.up_to,
    })
}

/// For `fuzz/` alone: what can be decoded is encoded to what decodes to the same.
///
/// # Panics
/// Where it is not.
pub fn fuzz_record(bytes: &[u8]) {
    fn check<R: PartialEq + std::fmt::Debug>(
        bytes: &[u8],
        decode: impl Fn(&[u8]) -> Result<R, Unreadable>,
        encode: fn(&R) -> Vec<u8>,
    ) {
        if let Ok(record) = decode(bytes) {
            assert_eq!(decode(&encode(&record)), Ok(record), "written, it is another record");
        }
    }
    check(bytes, |bytes| ticket(7, bytes), ticket_bytes);
    check(bytes, |bytes| end(7, bytes), end_bytes);
    check(bytes, |bytes| pending("key", bytes), pending_bytes);
}

fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, Unreadable> {
    M::decode(bytes).map_err(|error| Unreadable(error.to_string()))
}

fn terms_out(terms: &Terms) -> WireTerms {
    let (mode, permits, capacity) = match terms.mode {
        Mode::Exclusive => (0, 0, 0),
        Mode::Shared => (1, 0, 0),
        Mode::Permits { permits, capacity } => (2, permits, capacity),
    };
    let (on_disconnect, grace) = match terms.on_disconnect {
        OnDisconnect::Release => (0, 0),
        OnDisconnect::Grace(grace) => (1, nanos(grace)),
        OnDisconnect::Lease => (2, 0),
    };
    let pair = |(name, value): &(String, String)| Pair {
        name: name.clone(),
        value: value.clone(),
    };
    WireTerms {
        key: terms.key.to_string(),
        owner: terms.owner.to_string(),
        request_id: request_id_out(terms.request_id),
        mode,
        permits,
        capacity,
        wait_timeout: terms.wait_timeout.map(nanos),
        on_disconnect,
        grace,
        same_owner: match terms.same_owner {
            SameOwner::Wait => 0,
            SameOwner::Reenter => 1,
            SameOwner::Refuse => 2,
        },
        lock_delay: nanos(terms.lock_delay),
        max_hold: terms.max_hold.map(nanos),
        metadata: terms.metadata.iter().map(pair).collect(),
    }
}

fn terms_in(wire: WireTerms) -> Result<Terms, Unreadable> {
    let mode = match (wire.mode, wire.permits, wire.capacity) {
        (0, ..) => Mode::Exclusive,
        (1, ..) => Mode::Shared,
        (2, permits, capacity) if 1 <= permits && permits <= capacity => Mode::Permits { permits, capacity },
        (mode, permits, capacity) => return Err(unknown("mode", format!("{mode} ({permits} of {capacity})"))),
    };
    let on_disconnect = match wire.on_disconnect {
        0 => OnDisconnect::Release,
        1 => OnDisconnect::Grace(Duration::from_nanos(wire.grace)),
        2 => OnDisconnect::Lease,
        policy => return Err(unknown("on_disconnect", policy)),
    };
    let same_owner = match wire.same_owner {
        0 => SameOwner::Wait,
        1 => SameOwner::Reenter,
        2 => SameOwner::Refuse,
        policy => return Err(unknown("same_owner", policy)),
    };
    Ok(Terms {
        key: wire.key.into(),
        owner: wire.owner.into(),
        request_id: request_id_in(&wire.request_id)?,
        mode,
        wait_timeout: wire.wait_timeout.map(Duration::from_nanos),
        on_disconnect,
        same_owner,
        lock_delay: Duration::from_nanos(wire.lock_delay),
        max_hold: wire.max_hold.map(Duration::from_nanos),
        metadata: wire.metadata.into_iter().map(|pair| (pair.name, pair.value)).collect(),
    })
}

fn outcome_out(outcome: &Outcome) -> WireOutcome {
    WireOutcome {
        status: match outcome.status {
            OutcomeStatus::Unspecified => 0,
            OutcomeStatus::Success => 1,
            OutcomeStatus::Failure => 2,
            OutcomeStatus::Lost => 3,
        },
        note: outcome.note.clone(),
    }
}

fn outcome_in(wire: Option<WireOutcome>) -> Result<Outcome, Unreadable> {
    let Some(wire) = wire else {
        return Ok(Outcome::default());
    };
    let status = match wire.status {
        0 => OutcomeStatus::Unspecified,
        1 => OutcomeStatus::Success,
        2 => OutcomeStatus::Failure,
        3 => OutcomeStatus::Lost,
        status => return Err(unknown("outcome", status)),
    };
    Ok(Outcome {
        status,
        note: wire.note,
    })
}

fn request_id_out(id: Option<RequestId>) -> Vec<u8> {
    id.map(|id| id.0.to_vec()).unwrap_or_default()
}

fn request_id_in(bytes: &[u8]) -> Result<Option<RequestId>, Unreadable> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let id = bytes.try_into().map_err(|_| unknown("request_id", bytes.len()))?;
    Ok(Some(RequestId(id)))
}

/// Bound: five centuries; every limit of a time is far below.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
