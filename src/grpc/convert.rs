//! Requests on their way in: every length, range and encoding is checked here, once, and nowhere after.
//!
//! A refusal names the field, what is wrong with its value, and the limit. What comes out are the rules' own words;
//! the way back is in [`super::view`].

use std::sync::Arc;
use std::time::Duration;

use ticketlock_core::command::{self, Renew, Unlock};
use ticketlock_core::types::{
    EventOptions, Mode, Number, OnDisconnect, Outcome, OutcomeStatus, RequestId, SameOwner, Terms,
};
use ticketlock_proto::v1;

use super::status::{ErrorReason, Failure};
use crate::config::Limits;

/// Tickets and tokens stay below this, so that every language can hold them exactly.
const NUMBER_END: Number = 1 << 53;

/// A `Lock` request, checked.
pub fn lock_request(request: v1::LockRequest, limits: &Limits) -> Result<command::LockRequest, Failure> {
    lock_request_of(owner(&request.owner, limits)?, request, limits)
}

/// The same of a known owner.
pub fn lock_request_of(
    owner: Arc<str>,
    request: v1::LockRequest,
    limits: &Limits,
) -> Result<command::LockRequest, Failure> {
    if request.detect_deadlock {
        let problem = "deadlock detection is not there yet";
        return Err(Failure::field(ErrorReason::Unimplemented, "detect_deadlock", problem));
    }
    let attach = request.attach.unwrap_or_default();
    let attach_only = attach_only(attach.mode)?;
    let events = request.events.unwrap_or_default();
    let terms = Terms {
        key: key(&request.key, limits)?,
        owner,
        request_id: request_id(&request.request_id)?,
        mode: mode(request.mode, request.permits, request.capacity, limits)?,
        wait_timeout: wait_timeout(request.wait_timeout.as_ref())?,
        on_disconnect: on_disconnect(request.on_disconnect, request.grace.as_ref(), limits)?,
        same_owner: same_owner(request.same_owner)?,
        lock_delay: lock_delay(request.lock_delay.as_ref(), limits)?,
        max_hold: max_hold(request.max_hold.as_ref(), limits)?,
        metadata: metadata(request.metadata, limits)?,
    };
    Ok(command::LockRequest {
        terms: Arc::new(terms),
        attach_number: attach.number,
        attach_only,
        stream: None,
        ttl: ttl(request.ttl.as_ref(), limits)?.unwrap_or(limits.ttl_default),
        events: EventOptions {
            queue_updates: events.queue_updates,
            contended: events.contended,
            expiring: events.expiring,
        },
    })
}

/// A `TryLock` request, checked. A try knows LEASE only, and never waits.
pub fn try_lock_request(request: v1::TryLockRequest, limits: &Limits) -> Result<command::LockRequest, Failure> {
    let terms = Terms {
        key: key(&request.key, limits)?,
        owner: owner(&request.owner, limits)?,
        request_id: request_id(&request.request_id)?,
        mode: mode(request.mode, request.permits, request.capacity, limits)?,
        wait_timeout: Some(Duration::ZERO),
        on_disconnect: OnDisconnect::Lease,
        same_owner: same_owner(request.same_owner)?,
        lock_delay: lock_delay(request.lock_delay.as_ref(), limits)?,
        max_hold: max_hold(request.max_hold.as_ref(), limits)?,
        metadata: metadata(request.metadata, limits)?,
    };
    Ok(command::LockRequest {
        terms: Arc::new(terms),
        attach_number: 0,
        attach_only: false,
        stream: None,
        ttl: ttl(request.ttl.as_ref(), limits)?.unwrap_or(limits.ttl_default),
        events: EventOptions::default(),
    })
}

/// An `Unlock` request, checked: it names a token, a request, or both.
pub fn unlock_request(request: v1::UnlockRequest, limits: &Limits) -> Result<Unlock, Failure> {
    unlock_request_of(owner(&request.owner, limits)?, request, limits)
}

/// The same of a known owner.
pub fn unlock_request_of(owner: Arc<str>, request: v1::UnlockRequest, limits: &Limits) -> Result<Unlock, Failure> {
    let key = key(&request.key, limits)?;
    let request_id = request_id(&request.request_id)?;
    let token = match (request.fencing_token, request_id) {
        (0, None) => {
            let problem = "missing: either this or request_id is required";
            return Err(Failure::field(ErrorReason::InvalidToken, "fencing_token", problem));
        }
        (0, Some(_)) => None,
        (token, _) => Some(known_token("fencing_token", token)?),
    };
    Ok(Unlock {
        key,
        owner,
        token,
        request_id,
        outcome: outcome(request.outcome.unwrap_or_default(), limits)?,
    })
}

/// One item of a `Renew`: to be carried out, or answered by itself because its ttl is out of range.
pub enum RenewItem {
    /// Checked.
    Checked(Renew),
    /// Its ttl is out of range.
    InvalidTtl,
}

/// A `Renew` request, checked. A ttl out of range concerns its item alone; all else refuses the whole call.
pub fn renew_request(request: v1::RenewRequest, limits: &Limits) -> Result<Vec<RenewItem>, Failure> {
    let owner = owner(&request.owner, limits)?;
    let count = request.items.len();
    if count == 0 || count > limits.page_max {
        let problem = format!("{count} items, the limit is 1 to {}", limits.page_max);
        return Err(Failure::field(ErrorReason::InvalidItems, "items", problem).with("limit", limits.page_max));
    }
    let items = request.items.iter();
    items.map(|item| renew_item(&owner, item, limits)).collect()
}

/// One hold to extend, checked.
pub fn renew_item(owner: &Arc<str>, item: &v1::RenewItem, limits: &Limits) -> Result<RenewItem, Failure> {
    let key = key(&item.key, limits)?;
    let token = token("items.fencing_token", item.fencing_token)?;
    Ok(match ttl(item.ttl.as_ref(), limits) {
        Ok(ttl) => RenewItem::Checked(Renew {
            key,
            owner: Arc::clone(owner),
            token,
            ttl,
        }),
        Err(_) => RenewItem::InvalidTtl,
    })
}

/// A `ForceUnlock`, checked.
pub struct Force {
    /// Which key.
    pub key: Arc<str>,
    /// The token that must hold.
    pub token: Number,
    /// Who takes it.
    pub by: Arc<str>,
    /// Why.
    pub reason: Arc<str>,
}

/// A `ForceUnlock` request, checked: an operator says why.
pub fn force_request(request: &v1::ForceUnlockRequest, limits: &Limits) -> Result<Force, Failure> {
    Ok(Force {
        key: key(&request.key, limits)?,
        token: token("fencing_token", request.fencing_token)?,
        by: reason("by", &request.by, 0, limits)?,
        reason: reason("reason", &request.reason, 1, limits)?,
    })
}

/// Why a server is drained, and by whom.
pub fn drain_request(request: &v1::DrainRequest, limits: &Limits) -> Result<(Arc<str>, Arc<str>), Failure> {
    Ok((
        reason("reason", &request.reason, 0, limits)?,
        reason("by", &request.by, 0, limits)?,
    ))
}

/// An operator's words.
fn reason(field: &'static str, value: &str, min: usize, limits: &Limits) -> Result<Arc<str>, Failure> {
    text(ErrorReason::InvalidReason, field, value, min, limits.reason_bytes_max)
}

/// A key.
pub fn key(value: &str, limits: &Limits) -> Result<Arc<str>, Failure> {
    text(ErrorReason::InvalidKey, "key", value, 1, limits.key_bytes_max)
}

/// An owner.
pub fn owner(value: &str, limits: &Limits) -> Result<Arc<str>, Failure> {
    text(ErrorReason::InvalidOwner, "owner", value, 1, limits.owner_bytes_max)
}

/// A prefix of keys; empty: all.
pub fn prefix(value: &str, limits: &Limits) -> Result<Arc<str>, Failure> {
    text(ErrorReason::InvalidPrefix, "prefix", value, 0, limits.key_bytes_max)
}

/// A page size or a waiters limit; 0 stands for `default`.
pub fn page(field: &'static str, value: u32, default: usize, limits: &Limits) -> Result<usize, Failure> {
    let size = usize::try_from(value).unwrap_or(usize::MAX);
    if size > limits.page_max {
        let problem = format!("{value}, the limit is {}", limits.page_max);
        return Err(Failure::field(ErrorReason::InvalidPage, field, problem).with("limit", limits.page_max));
    }
    Ok(if size == 0 { default } else { size })
}

/// The key that a page token stands for; empty: from the beginning.
pub fn page_token(value: &str, limits: &Limits) -> Result<Option<String>, Failure> {
    let refuse = || Failure::field(ErrorReason::InvalidPage, "page_token", "not one that this server gave");
    if value.is_empty() {
        return Ok(None);
    }
    if value.len() > limits.key_bytes_max * 2
        || !value.len().is_multiple_of(2)
        || !value.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        return Err(refuse());
    }
    let pairs = (0..value.len()).step_by(2).map(|at| value.get(at..at + 2));
    let bytes: Option<Vec<u8>> = pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect();
    let after = bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(refuse)?;
    Ok(Some(after))
}

/// The page token that stands for a key: opaque, and safe in any text.
#[must_use]
pub fn to_page_token(last: &str) -> String {
    use std::fmt::Write as _;
    last.bytes()
        .fold(String::with_capacity(last.len() * 2), |mut token, byte| {
            // A `String` takes whatever is written.
            let _ = write!(token, "{byte:02x}");
            token
        })
}

/// Bytes in a range, and no control characters, so that no log and no terminal is led astray.
fn text(
    reason: ErrorReason,
    field: &'static str,
    value: &str,
    bytes_min: usize,
    bytes_max: usize,
) -> Result<Arc<str>, Failure> {
    let refuse = |problem: String| Failure::field(reason, field, problem).with("limit", bytes_max);
    if value.len() < bytes_min {
        return Err(refuse(format!(
            "missing, the limit is {bytes_min} to {bytes_max} bytes"
        )));
    }
    if value.len() > bytes_max {
        return Err(refuse(format!(
            "{} bytes, the limit is {bytes_min} to {bytes_max} bytes",
            value.len()
        )));
    }
    if let Some((at, control)) = value.char_indices().find(|(_, letter)| letter.is_control()) {
        let code = u32::from(control);
        return Err(refuse(format!(
            "control character U+{code:04X} at byte {at}, the limit is none"
        )));
    }
    Ok(value.into())
}

/// Empty, or 16 bytes.
fn request_id(value: &[u8]) -> Result<Option<RequestId>, Failure> {
    if value.is_empty() {
        return Ok(None);
    }
    let problem = || format!("{} bytes, the limit is 0 or 16 bytes", value.len());
    let bytes = <[u8; 16]>::try_from(value)
        .map_err(|_| Failure::field(ErrorReason::InvalidRequestId, "request_id", problem()).with("limit", 16))?;
    Ok(Some(RequestId(bytes)))
}

/// A token that must be there.
pub(super) fn token(field: &'static str, value: u64) -> Result<Number, Failure> {
    if value == 0 {
        return Err(Failure::field(
            ErrorReason::InvalidToken,
            field,
            "missing: tokens begin at 1",
        ));
    }
    known_token(field, value)
}

/// A token that can have been given.
fn known_token(field: &'static str, value: u64) -> Result<Number, Failure> {
    if value >= NUMBER_END {
        let problem = format!("{value}, the limit is 2^53 - 1");
        return Err(Failure::field(ErrorReason::InvalidToken, field, problem).with("limit", NUMBER_END - 1));
    }
    Ok(value)
}

/// ONLY or not.
fn attach_only(value: i32) -> Result<bool, Failure> {
    match v1::AttachMode::try_from(value) {
        Ok(v1::AttachMode::Unspecified | v1::AttachMode::OrCreate) => Ok(false),
        Ok(v1::AttachMode::Only) => Ok(true),
        Err(_) => Err(unknown(ErrorReason::InvalidAttach, "attach.mode", value)),
    }
}

/// A mode with its permits.
fn mode(value: i32, permits: u32, capacity: u32, limits: &Limits) -> Result<Mode, Failure> {
    let refuse = |field: &'static str, problem: String| {
        Err(Failure::field(ErrorReason::InvalidPermits, field, problem).with("limit", limits.permits_max))
    };
    let mode = match v1::LockMode::try_from(value) {
        Ok(v1::LockMode::Unspecified | v1::LockMode::Exclusive) => Mode::Exclusive,
        Ok(v1::LockMode::Shared) => Mode::Shared,
        Ok(v1::LockMode::Permits) => Mode::Permits { permits, capacity },
        Err(_) => return Err(unknown(ErrorReason::InvalidMode, "mode", value)),
    };
    if let Mode::Permits { .. } = mode {
        if capacity == 0 || capacity > limits.permits_max {
            return refuse(
                "capacity",
                format!("{capacity}, the limit is 1 to {}", limits.permits_max),
            );
        }
        if permits == 0 || permits > capacity {
            return refuse(
                "permits",
                format!("{permits}, the limit is 1 to the capacity of {capacity}"),
            );
        }
    } else if permits != 0 {
        return refuse(
            "permits",
            format!("{permits}, the limit is 0 unless the mode is PERMITS"),
        );
    } else if capacity != 0 {
        return refuse(
            "capacity",
            format!("{capacity}, the limit is 0 unless the mode is PERMITS"),
        );
    }
    Ok(mode)
}

/// What becomes of it without its stream.
fn on_disconnect(value: i32, grace: Option<&prost_types::Duration>, limits: &Limits) -> Result<OnDisconnect, Failure> {
    let policy = match v1::OnDisconnect::try_from(value) {
        Ok(v1::OnDisconnect::Unspecified | v1::OnDisconnect::Release) => OnDisconnect::Release,
        Ok(v1::OnDisconnect::Grace) => {
            let range = Duration::ZERO..=limits.grace_max;
            let grace = grace
                .map(|grace| span(ErrorReason::InvalidGrace, "grace", grace, &range))
                .transpose()?;
            return Ok(OnDisconnect::Grace(grace.unwrap_or(limits.grace_default)));
        }
        Ok(v1::OnDisconnect::Lease) => OnDisconnect::Lease,
        Err(_) => return Err(unknown(ErrorReason::InvalidOnDisconnect, "on_disconnect", value)),
    };
    if grace.is_some() {
        let problem = "given, and on_disconnect is not GRACE";
        return Err(Failure::field(ErrorReason::InvalidGrace, "grace", problem));
    }
    Ok(policy)
}

/// What it does at a hold of its own owner.
fn same_owner(value: i32) -> Result<SameOwner, Failure> {
    match v1::SameOwner::try_from(value) {
        Ok(v1::SameOwner::Unspecified | v1::SameOwner::Wait) => Ok(SameOwner::Wait),
        Ok(v1::SameOwner::Reenter) => Ok(SameOwner::Reenter),
        Ok(v1::SameOwner::Refuse) => Ok(SameOwner::Refuse),
        Err(_) => Err(unknown(ErrorReason::InvalidSameOwner, "same_owner", value)),
    }
}

/// An unlock's words for the next holder. That a hold was lost only the server says.
fn outcome(value: v1::Outcome, limits: &Limits) -> Result<Outcome, Failure> {
    let status = match v1::OutcomeStatus::try_from(value.status) {
        Ok(v1::OutcomeStatus::Unspecified) => OutcomeStatus::Unspecified,
        Ok(v1::OutcomeStatus::Success) => OutcomeStatus::Success,
        Ok(v1::OutcomeStatus::Failure) => OutcomeStatus::Failure,
        Ok(v1::OutcomeStatus::Lost) => {
            let problem = "LOST, which only the server says";
            return Err(Failure::field(ErrorReason::InvalidOutcome, "outcome.status", problem));
        }
        Err(_) => return Err(unknown(ErrorReason::InvalidOutcome, "outcome.status", value.status)),
    };
    if value.note.len() > limits.note_bytes_max {
        let problem = format!(
            "{} bytes, the limit is {} bytes",
            value.note.len(),
            limits.note_bytes_max
        );
        let failure = Failure::field(ErrorReason::InvalidOutcome, "outcome.note", problem);
        return Err(failure.with("limit", limits.note_bytes_max));
    }
    Ok(Outcome {
        status,
        note: value.note,
    })
}

/// A small map, in order of its names so that nobody sees a hash map's order.
fn metadata(
    map: std::collections::HashMap<String, String>,
    limits: &Limits,
) -> Result<Box<[(String, String)]>, Failure> {
    let bytes: usize = map.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > limits.metadata_bytes_max {
        let problem = format!("{bytes} bytes in all, the limit is {} bytes", limits.metadata_bytes_max);
        let failure = Failure::field(ErrorReason::InvalidMetadata, "metadata", problem);
        return Err(failure.with("limit", limits.metadata_bytes_max));
    }
    let mut entries: Vec<(String, String)> = map.into_iter().collect();
    entries.sort_unstable();
    Ok(entries.into_boxed_slice())
}

/// A lease, where one was asked for.
fn ttl(value: Option<&prost_types::Duration>, limits: &Limits) -> Result<Option<Duration>, Failure> {
    let range = limits.ttl_min..=limits.ttl_max;
    value
        .map(|value| span(ErrorReason::InvalidTtl, "ttl", value, &range))
        .transpose()
}

/// A bound of the wait; what is longer than anybody waits is the same as no bound.
fn wait_timeout(value: Option<&prost_types::Duration>) -> Result<Option<Duration>, Failure> {
    let range = Duration::ZERO..=Duration::MAX;
    value
        .map(|value| span(ErrorReason::InvalidWaitTimeout, "wait_timeout", value, &range))
        .transpose()
}

/// A lock-delay, default none.
fn lock_delay(value: Option<&prost_types::Duration>, limits: &Limits) -> Result<Duration, Failure> {
    let range = Duration::ZERO..=limits.lock_delay_max;
    let delay = value.map(|value| span(ErrorReason::InvalidLockDelay, "lock_delay", value, &range));
    Ok(delay.transpose()?.unwrap_or_default())
}

/// A bound of the hold.
fn max_hold(value: Option<&prost_types::Duration>, limits: &Limits) -> Result<Option<Duration>, Failure> {
    let range = limits.ttl_min..=limits.ttl_max;
    value
        .map(|value| span(ErrorReason::InvalidMaxHold, "max_hold", value, &range))
        .transpose()
}

/// A length of time in a range. Never negative; nanoseconds are a part of a second, as the type's own rules say.
fn span(
    reason: ErrorReason,
    field: &'static str,
    value: &prost_types::Duration,
    range: &std::ops::RangeInclusive<Duration>,
) -> Result<Duration, Failure> {
    let limit = || match *range.end() {
        Duration::MAX => "the limit is 0 s or more".to_owned(),
        end => format!("the limit is {:?} to {end:?}", range.start()),
    };
    let refuse = |problem: String| Err(Failure::field(reason, field, format!("{problem}, {}", limit())));
    let (Ok(seconds), Ok(nanos @ 0..1_000_000_000)) = (u64::try_from(value.seconds), u32::try_from(value.nanos)) else {
        return refuse(format!(
            "{} s and {} ns is negative or no duration",
            value.seconds, value.nanos
        ));
    };
    let span = Duration::new(seconds, nanos);
    if !range.contains(&span) {
        return refuse(format!("{span:?}"));
    }
    Ok(span)
}

/// An enum's value that this server does not know.
fn unknown(reason: ErrorReason, field: &'static str, value: i32) -> Failure {
    Failure::field(reason, field, format!("{value} is no known value"))
}

#[cfg(test)]
mod tests;
