//! Why a decision, or a change of a count, did not come about.

use crate::rules::Refused;
use crate::storage::StorageError;

/// Why a call of [`RefCountManager`](crate::RefCountManager) failed. No count has changed, unless a storage that
/// [`Failed`](StorageError::Failed) says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that no storage needs to see.
    #[error("{field}: {length} bytes, expected 1 to {limit}")]
    Name {
        /// `resource_id` or `node_id`.
        field: &'static str,
        /// How long it is, in bytes.
        length: usize,
        /// How long it may be, in bytes.
        limit: usize,
    },
    /// The rules say no.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// One more node would be too many.
    #[error("references: {limit} nodes refer to it, the limit is {limit}")]
    Full {
        /// How many may refer to one resource.
        limit: usize,
    },
    /// Others changed the same record each time that this call was about to.
    #[error("conflicts: {limit} in a row, the limit is {limit}; try again")]
    Contended {
        /// How many conflicts a call bears.
        limit: usize,
    },
    /// The storage failed.
    #[error("storage of counts: {0}")]
    Storage(#[from] StorageError),
}
