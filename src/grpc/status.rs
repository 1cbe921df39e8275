//! The one mapping from reasons to gRPC statuses.
//!
//! Every error status of this server carries `google.rpc.ErrorInfo` with one of these reasons and the domain
//! `ticketlock`; what may be tried again carries `google.rpc.RetryInfo` besides. Clients switch on the reason.

use std::time::Duration;

use ticketlock_core::command::Refusal;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::service::ServiceError;

/// The domain of every reason.
pub const DOMAIN: &str = "ticketlock";

/// Declares the reasons: variant, name on the wire, code, and what it means.
macro_rules! reasons {
    ($($variant:ident, $name:literal, $code:ident, $doc:literal;)+) => {
        /// Why a call ended with an error status.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ErrorReason {
            $(#[doc = $doc] $variant,)+
        }

        impl ErrorReason {
            /// All of them, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The reason in `ErrorInfo`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The one code that goes with it.
            #[must_use]
            pub const fn code(self) -> Code {
                match self { $(Self::$variant => Code::$code,)+ }
            }
        }
    };
}

reasons! {
    InvalidKey, "INVALID_KEY", InvalidArgument, "The key is missing, too long, no UTF-8, or holds control characters.";
    InvalidOwner, "INVALID_OWNER", InvalidArgument, "The owner is missing, too long, or holds control characters.";
    InvalidRequestId, "INVALID_REQUEST_ID", InvalidArgument, "The request id is neither empty nor 16 bytes.";
    InvalidAttach, "INVALID_ATTACH", InvalidArgument, "The attach mode is unknown, or its number too large.";
    InvalidMode, "INVALID_MODE", InvalidArgument, "The lock mode is unknown.";
    InvalidPermits, "INVALID_PERMITS", InvalidArgument, "Permits or capacity are out of range, or given without PERMITS.";
    InvalidTtl, "INVALID_TTL", InvalidArgument, "The ttl is out of range.";
    InvalidWaitTimeout, "INVALID_WAIT_TIMEOUT", InvalidArgument, "The wait timeout is negative or no duration.";
    InvalidOnDisconnect, "INVALID_ON_DISCONNECT", InvalidArgument, "The on_disconnect policy is unknown.";
    InvalidGrace, "INVALID_GRACE", InvalidArgument, "The grace is out of range, or given without GRACE.";
    InvalidSameOwner, "INVALID_SAME_OWNER", InvalidArgument, "The same_owner policy is unknown.";
    InvalidLockDelay, "INVALID_LOCK_DELAY", InvalidArgument, "The lock-delay is out of range.";
    InvalidMaxHold, "INVALID_MAX_HOLD", InvalidArgument, "The max_hold is out of range.";
    InvalidMetadata, "INVALID_METADATA", InvalidArgument, "The metadata is too large.";
    InvalidToken, "INVALID_TOKEN", InvalidArgument, "The fencing token is missing or too large.";
    InvalidOutcome, "INVALID_OUTCOME", InvalidArgument, "The outcome's status is unknown or LOST, or its note too long.";
    InvalidItems, "INVALID_ITEMS", InvalidArgument, "There are no items, or too many.";
    InvalidPage, "INVALID_PAGE", InvalidArgument, "A page size, a waiters limit or a page token is out of range.";
    InvalidPrefix, "INVALID_PREFIX", InvalidArgument, "The prefix is longer than a key or holds control characters.";
    InvalidSession, "INVALID_SESSION", InvalidArgument, "A session's message breaks its order: Hello, numbers, ids, calls.";
    InvalidReason, "INVALID_REASON", InvalidArgument, "An operator's name or reason is missing or too long.";
    MalformedRequest, "MALFORMED_REQUEST", InvalidArgument, "The bytes are no valid message of this call.";
    LockBySelf, "LOCK_BY_SELF", AlreadyExists, "The owner holds the key already, and asked to be refused then.";
    RequestIdReused, "REQUEST_ID_REUSED", AlreadyExists, "The request id names a request with other content.";
    CapacityMismatch, "CAPACITY_MISMATCH", FailedPrecondition, "Another capacity is in force on the key.";
    ModeMismatch, "MODE_MISMATCH", FailedPrecondition, "Re-entry in another mode than the hold's.";
    RequestIdRequired, "REQUEST_ID_REQUIRED", FailedPrecondition, "The hold has several claims, and none was named.";
    QueueFull, "QUEUE_FULL", ResourceExhausted, "Too many wait on the key.";
    TooManyClaims, "TOO_MANY_CLAIMS", ResourceExhausted, "Too many claims on the hold.";
    TooManyLocks, "TOO_MANY_LOCKS", ResourceExhausted, "Too many locks are held over the connection.";
    TooManyWaiters, "TOO_MANY_WAITERS", ResourceExhausted, "Too many tickets wait over the connection.";
    TooManyStreams, "TOO_MANY_STREAMS", ResourceExhausted, "Too many long-lived streams on the connection.";
    MessageTooLarge, "MESSAGE_TOO_LARGE", ResourceExhausted, "The request message is too large.";
    OutboxFull, "OUTBOX_FULL", ResourceExhausted, "The caller does not read its events.";
    ShardBusy, "SHARD_BUSY", ResourceExhausted, "Too many commands of the shard wait for their commit.";
    Overloaded, "OVERLOADED", ResourceExhausted, "The server sheds load.";
    Unauthenticated, "UNAUTHENTICATED", Unauthenticated, "No valid credentials.";
    PermissionDenied, "PERMISSION_DENIED", PermissionDenied, "Not allowed on this key.";
    Draining, "DRAINING", Unavailable, "The server is about to stop.";
    StoreUnavailable, "STORE_UNAVAILABLE", Unavailable, "The store is away; a repeat with the same request id is safe.";
    ShardMoved, "SHARD_MOVED", Unavailable, "Another server owns the shard now.";
    Superseded, "SUPERSEDED", Aborted, "A later stream of this request has attached.";
    DeadlineExceeded, "DEADLINE_EXCEEDED", DeadlineExceeded, "The call's own deadline has passed.";
    Unimplemented, "UNIMPLEMENTED", Unimplemented, "This server does not do that (yet).";
    Bug, "BUG", Internal, "A broken invariant in the server.";
    Corrupt, "CORRUPT", DataLoss, "The shard's records are unreadable.";
}

impl ErrorReason {
    /// When to try again, for what may be tried again unchanged.
    #[must_use]
    pub const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Draining => Some(Duration::from_secs(1)),
            Self::StoreUnavailable => Some(Duration::from_millis(250)),
            Self::ShardMoved => Some(Duration::from_millis(50)),
            _ => None,
        }
    }

    /// The reason of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.name() == name)
    }
}

/// A refusal on its way to the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub reason: ErrorReason,
    /// For people: names the field, what is wrong with its value, and the limit.
    pub message: String,
    /// For programs, beside the reason.
    pub metadata: Vec<(&'static str, String)>,
}

impl Failure {
    /// A refusal without metadata.
    #[must_use]
    pub fn new(reason: ErrorReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            metadata: Vec::new(),
        }
    }

    /// Adds one entry for programs.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.metadata.push((name, value.to_string()));
        self
    }

    /// A field's value is refused.
    #[must_use]
    pub fn field(reason: ErrorReason, field: &'static str, problem: impl std::fmt::Display) -> Self {
        Self::new(reason, format!("{field}: {problem}")).with("field", field)
    }
}

/// The mapping itself.
impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let mut details = ErrorDetails::new();
        let metadata: Vec<(String, String)> = failure
            .metadata
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        details.set_error_info(
            failure.reason.name(),
            DOMAIN,
            metadata.into_iter().collect::<std::collections::HashMap<_, _>>(),
        );
        if let Some(delay) = failure.reason.retry_after() {
            details.set_retry_info(Some(delay));
        }
        Self::with_error_details(failure.reason.code(), failure.message, details)
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        let message = error.to_string();
        match error {
            ServiceError::Refused(refusal) => refusal.into(),
            ServiceError::Draining => Self::new(ErrorReason::Draining, message),
            ServiceError::StoreUnavailable => Self::new(ErrorReason::StoreUnavailable, message),
            ServiceError::ShardMoved => Self::new(ErrorReason::ShardMoved, message),
            ServiceError::Bug => Self::new(ErrorReason::Bug, message),
            ServiceError::Corrupt => Self::new(ErrorReason::Corrupt, message),
            ServiceError::LimitReached { reason, limit } => Self::new(
                ErrorReason::from_name(reason).unwrap_or(ErrorReason::Overloaded),
                message,
            )
            .with("limit", limit)
            .with("limit_name", reason),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::LockBySelf { token } => Self::new(
                ErrorReason::LockBySelf,
                "same_owner is REFUSE, and the owner holds the key already",
            )
            .with("fencing_token", token),
            Refusal::CapacityMismatch { capacity } => Self::new(
                ErrorReason::CapacityMismatch,
                format!("capacity: {capacity} is in force on the key"),
            )
            .with("capacity", capacity),
            Refusal::ModeMismatch => Self::new(
                ErrorReason::ModeMismatch,
                "mode: re-entry must ask for the mode and permits of the hold",
            ),
            Refusal::RequestIdReused => Self::new(
                ErrorReason::RequestIdReused,
                "request_id: names an earlier request with other mode, permits, capacity or same_owner",
            ),
            Refusal::RequestIdRequired => Self::new(
                ErrorReason::RequestIdRequired,
                "request_id: the hold has more than one claim, so the unlock must name one",
            ),
            Refusal::QueueFull { limit } => Self::new(
                ErrorReason::QueueFull,
                format!("the limit of {limit} waiters on the key is reached"),
            )
            .with("limit", limit),
            Refusal::TooManyClaims { limit } => Self::new(
                ErrorReason::TooManyClaims,
                format!("the limit of {limit} claims on the hold is reached"),
            )
            .with("limit", limit),
            Refusal::Superseded => Self::new(ErrorReason::Superseded, "a later stream of this request has attached"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ticketlock_core::command::Refusal;
    use tonic::{Code, Status};
    use tonic_types::StatusExt;

    use super::{DOMAIN, ErrorReason, Failure};
    use crate::service::ServiceError;

    /// Goal: each reason becomes a status with its code, its reason, the domain, and a retry hint iff UNAVAILABLE.
    #[test]
    fn the_mapping_is_complete() {
        let mut names = BTreeSet::new();
        for &reason in ErrorReason::ALL {
            assert!(names.insert(reason.name()), "{reason:?}: two reasons of one name");
            assert_eq!(ErrorReason::from_name(reason.name()), Some(reason));
            let status = Status::from(Failure::new(reason, "text").with("limit", 5));
            assert_eq!(status.code(), reason.code(), "{reason:?}");
            assert_ne!(status.code(), Code::Ok, "{reason:?}");
            let details = status.get_error_details();
            let info = details.error_info().expect("ErrorInfo");
            assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason.name(), DOMAIN));
            assert_eq!(info.metadata.get("limit").map(String::as_str), Some("5"));
            assert_eq!(
                details.retry_info().is_some(),
                reason.code() == Code::Unavailable,
                "{reason:?}"
            );
        }
    }

    /// Goal: the rows of the contract's table have the codes it says.
    #[test]
    fn the_contract_s_rows() {
        for (name, code) in [
            ("INVALID_KEY", Code::InvalidArgument),
            ("INVALID_TTL", Code::InvalidArgument),
            ("LOCK_BY_SELF", Code::AlreadyExists),
            ("CAPACITY_MISMATCH", Code::FailedPrecondition),
            ("MODE_MISMATCH", Code::FailedPrecondition),
            ("REQUEST_ID_REUSED", Code::AlreadyExists),
            ("QUEUE_FULL", Code::ResourceExhausted),
            ("TOO_MANY_LOCKS", Code::ResourceExhausted),
            ("TOO_MANY_STREAMS", Code::ResourceExhausted),
            ("UNAUTHENTICATED", Code::Unauthenticated),
            ("PERMISSION_DENIED", Code::PermissionDenied),
            ("DRAINING", Code::Unavailable),
            ("STORE_UNAVAILABLE", Code::Unavailable),
            ("SHARD_MOVED", Code::Unavailable),
            ("SUPERSEDED", Code::Aborted),
            ("BUG", Code::Internal),
            ("CORRUPT", Code::DataLoss),
        ] {
            assert_eq!(
                ErrorReason::from_name(name).map(ErrorReason::code),
                Some(code),
                "{name}"
            );
        }
    }

    /// Goal: every refusal of the rules and every failure of the service has a reason of its own.
    #[test]
    fn refusals_and_failures_are_told_apart() {
        let refusals = [
            Refusal::LockBySelf { token: 7 },
            Refusal::CapacityMismatch { capacity: 3 },
            Refusal::ModeMismatch,
            Refusal::RequestIdReused,
            Refusal::RequestIdRequired,
            Refusal::QueueFull { limit: 1 },
            Refusal::TooManyClaims { limit: 1 },
            Refusal::Superseded,
        ];
        let failures = [
            ServiceError::Draining,
            ServiceError::StoreUnavailable,
            ServiceError::ShardMoved,
            ServiceError::Bug,
            ServiceError::Corrupt,
            ServiceError::LimitReached {
                reason: "OVERLOADED",
                limit: 1,
            },
        ];
        let errors = refusals.into_iter().map(ServiceError::Refused).chain(failures);
        let reasons: Vec<ErrorReason> = errors.map(|error| Failure::from(error).reason).collect();
        assert_eq!(
            reasons.iter().collect::<BTreeSet<_>>().len(),
            reasons.len(),
            "{reasons:?}"
        );
    }
}
