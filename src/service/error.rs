//! How a call to the service can fail: one enum, so that one function can map it to statuses.

use ticketlock_core::command::Refusal;

use crate::store::StoreError;

/// Why a call was not answered with data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// The rules refuse it; nothing was changed.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// The server is about to stop: nothing was changed, another server or a later try may do it.
    #[error("the server is draining")]
    Draining,
    /// The store is away, or a commit's outcome is not known: the command may have been carried out, and a repeat with
    /// the same request id is safe.
    #[error("the store is unavailable")]
    StoreUnavailable,
    /// Another server took the shard; as with `StoreUnavailable`, a repeat is safe.
    #[error("the shard has moved")]
    ShardMoved,
    /// An invariant was broken in here.
    #[error("a bug: an invariant was broken")]
    Bug,
    /// The shard's records cannot be read.
    #[error("the shard's records are unreadable")]
    Corrupt,
    /// A bound of the service is reached; nothing was changed.
    #[error("limit reached: {reason} ({limit})")]
    LimitReached {
        /// The reason's name, as in `ErrorInfo`.
        reason: &'static str,
        /// The bound.
        limit: u64,
    },
}

impl From<&StoreError> for ServiceError {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Fenced => Self::ShardMoved,
            StoreError::Corrupt(_) => Self::Corrupt,
            StoreError::Unavailable(_) | StoreError::Unknown(_) => Self::StoreUnavailable,
        }
    }
}
