//! The one error type. What a caller may conclude from an error is asked of it: may it try again, can anything have
//! happened, which machine-readable reason was given. Knows the wire's error details; nobody else reads them.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message as _;
use tonic::{Code, Status};

use crate::types::{LostReason, Obstacle, RefusedReason};

/// Why a call failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The lock was not granted: an expected outcome, told by the server.
    #[error("not acquired: {reason}{}", obstacle.as_ref().map(|it| format!(" ({it})")).unwrap_or_default())]
    NotAcquired {
        /// Why the wait ended.
        reason: RefusedReason,
        /// What was in the way of a try.
        obstacle: Option<Obstacle>,
    },
    /// The server, or the way to it, failed the call.
    #[error("{0}")]
    Failed(Box<Failure>),
    /// No endpoint could be reached; nothing was sent.
    #[error("cannot reach {endpoint}: {message}")]
    Connect {
        /// The endpoint that was tried last.
        endpoint: String,
        /// What went wrong there.
        message: String,
    },
    /// An argument that no server needs to see.
    #[error("{0}")]
    Argument(String),
    /// The lock was lost while work was done under it.
    #[error("the lock was lost: {0}")]
    Lost(LostReason),
    /// The client is closed, or its runtime has ended.
    #[error("the client is closed")]
    Closed,
}

/// A failed call, as the server told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind of failure.
    pub kind: FailureKind,
    /// `reason` of google.rpc.ErrorInfo, such as `QUEUE_FULL`; empty where the server gave none.
    pub reason: String,
    /// Words for a person.
    pub message: String,
    /// Further facts, such as the limit that was reached.
    pub metadata: BTreeMap<String, String>,
    /// The server's wish when to try again.
    pub retry_after: Option<Duration>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.reason.is_empty(), self.message.is_empty()) {
            (true, true) => write!(f, "{:?}", self.kind),
            (true, false) => f.write_str(&self.message),
            (false, true) => f.write_str(&self.reason),
            (false, false) => write!(f, "{}: {}", self.reason, self.message),
        }
    }
}

/// Kinds of failure; the reason says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// A field of the request is malformed or out of its range.
    InvalidArgument,
    /// It exists already, for instance the same owner's hold.
    AlreadyExists,
    /// It does not go with what is in force on the key.
    FailedPrecondition,
    /// A limit is reached.
    Exhausted,
    /// No credentials.
    Unauthenticated,
    /// Not allowed.
    PermissionDenied,
    /// The server cannot be reached, or cannot serve at present.
    Unavailable,
    /// A later stream of the same request took over.
    Aborted,
    /// The server does not know how.
    Unimplemented,
    /// The call's time ran out.
    TimedOut,
    /// A defect of the server, or of something between.
    Internal,
    /// The server's records are unreadable.
    DataLoss,
    /// Anything else.
    Unknown,
}

impl Error {
    /// Whether the same call may succeed later without anything else being changed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NotAcquired { reason, .. } => matches!(
                reason,
                RefusedReason::WouldWait
                    | RefusedReason::WaitTimeout
                    | RefusedReason::Disconnected
                    | RefusedReason::Deadlock
            ),
            Self::Failed(failure) => {
                failure.is_transport()
                    || matches!(
                        failure.kind,
                        FailureKind::Unavailable | FailureKind::Exhausted | FailureKind::TimedOut
                    )
            }
            Self::Connect { .. } => true,
            Self::Argument(_) | Self::Closed | Self::Lost(_) => false,
        }
    }

    /// Whether it is certain that the failed call changed nothing.
    #[must_use]
    pub fn has_no_side_effects(&self) -> bool {
        match self {
            Self::NotAcquired { .. } | Self::Connect { .. } | Self::Argument(_) => true,
            Self::Failed(failure) => match failure.kind {
                FailureKind::InvalidArgument
                | FailureKind::AlreadyExists
                | FailureKind::FailedPrecondition
                | FailureKind::Exhausted
                | FailureKind::Unauthenticated
                | FailureKind::PermissionDenied
                | FailureKind::Unimplemented => true,
                // These two are said before anything is applied; STORE_UNAVAILABLE may follow an unknown commit.
                FailureKind::Unavailable => matches!(failure.reason.as_str(), "DRAINING" | "SHARD_MOVED"),
                _ => false,
            },
            Self::Closed | Self::Lost(_) => false,
        }
    }

    /// The machine-readable reason, such as `WAIT_TIMEOUT` or `QUEUE_FULL`; empty where there is none.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::NotAcquired { reason, .. } => reason.as_str(),
            Self::Failed(failure) => &failure.reason,
            Self::Connect { .. } => "UNREACHABLE",
            Self::Argument(_) => "INVALID_ARGUMENT",
            Self::Lost(_) => "LOST",
            Self::Closed => "CLOSED",
        }
    }

    /// When the server says to try again, at the earliest.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Failed(failure) => failure.retry_after,
            _ => None,
        }
    }

    /// Whether the server could not be reached, or not serve.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Closed => true,
            Self::Failed(failure) => {
                failure.is_transport() || matches!(failure.kind, FailureKind::Unavailable | FailureKind::TimedOut)
            }
            Self::NotAcquired { .. } | Self::Argument(_) | Self::Lost(_) => false,
        }
    }

    /// Another stream of the same request took its place: nothing of it may be touched any more.
    pub(crate) fn is_superseded(&self) -> bool {
        matches!(self, Self::Failed(failure) if failure.kind == FailureKind::Aborted)
    }

    /// The way to the server broke, or it is about to stop: another try, or another endpoint, may do.
    pub(crate) fn is_transport(&self) -> bool {
        match self {
            Self::Connect { .. } => true,
            Self::Failed(failure) => failure.is_transport() || self.is_draining(),
            _ => false,
        }
    }

    /// The server is about to stop.
    pub(crate) fn is_draining(&self) -> bool {
        matches!(self, Self::Failed(failure) if failure.reason == "DRAINING")
    }

    /// A stream that ended where it should have gone on.
    pub(crate) fn stream_ended() -> Self {
        Self::Failed(Box::new(Failure {
            kind: FailureKind::Unavailable,
            reason: String::new(),
            message: "the server ended the stream".to_owned(),
            metadata: BTreeMap::new(),
            retry_after: None,
        }))
    }
}

impl Failure {
    /// Made by the HTTP/2 stack rather than by the server: those never carry a reason.
    fn is_transport(&self) -> bool {
        self.reason.is_empty()
            && matches!(
                self.kind,
                FailureKind::Unavailable | FailureKind::Unknown | FailureKind::Internal | FailureKind::TimedOut
            )
    }
}

/// google.rpc.Status, as far as it is read here.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// google.rpc.ErrorInfo.
#[derive(Clone, PartialEq, prost::Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(btree_map = "string, string", tag = "3")]
    metadata: BTreeMap<String, String>,
}

/// google.rpc.RetryInfo.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<prost_types::Duration>,
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let mut failure = Failure {
            kind: kind(status.code()),
            reason: String::new(),
            message: words(&status),
            metadata: BTreeMap::new(),
            retry_after: None,
        };
        // Details that cannot be read are as good as none: the code still says what happened.
        let details = RpcStatus::decode(status.details())
            .map(|it| it.details)
            .unwrap_or_default();
        for detail in details {
            if detail.type_url.ends_with("/google.rpc.ErrorInfo") {
                if let Ok(info) = ErrorInfo::decode(detail.value.as_slice()) {
                    failure.reason = info.reason;
                    failure.metadata = info.metadata;
                }
            } else if detail.type_url.ends_with("/google.rpc.RetryInfo")
                && let Ok(info) = RetryInfo::decode(detail.value.as_slice())
            {
                failure.retry_after = info.retry_delay.map(crate::convert::duration);
            }
        }
        Self::Failed(Box::new(failure))
    }
}

impl From<ticketlock_proto::v1::SessionError> for Error {
    fn from(wire: ticketlock_proto::v1::SessionError) -> Self {
        Self::Failed(Box::new(Failure {
            kind: kind(Code::from_i32(wire.code)),
            reason: wire.reason,
            message: wire.message,
            metadata: wire.metadata.into_iter().collect(),
            retry_after: wire.retry_after.map(crate::convert::duration),
        }))
    }
}

/// The status' message, and what caused it where the stack says no more than "transport error".
fn words(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

fn kind(code: Code) -> FailureKind {
    match code {
        Code::InvalidArgument | Code::OutOfRange => FailureKind::InvalidArgument,
        Code::AlreadyExists => FailureKind::AlreadyExists,
        Code::FailedPrecondition => FailureKind::FailedPrecondition,
        Code::ResourceExhausted => FailureKind::Exhausted,
        Code::Unauthenticated => FailureKind::Unauthenticated,
        Code::PermissionDenied => FailureKind::PermissionDenied,
        Code::Unavailable => FailureKind::Unavailable,
        Code::Aborted => FailureKind::Aborted,
        Code::Unimplemented => FailureKind::Unimplemented,
        Code::DeadlineExceeded => FailureKind::TimedOut,
        Code::Internal => FailureKind::Internal,
        Code::DataLoss => FailureKind::DataLoss,
        Code::Ok | Code::Cancelled | Code::Unknown | Code::NotFound => FailureKind::Unknown,
    }
}
