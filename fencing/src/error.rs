//! What can go wrong with a guarded resource. One enum for all adapters: whoever swaps the resource keeps the error
//! path.

use std::io;
use std::path::PathBuf;

use crate::TOKEN_MAX;

/// Why a guarded read or write did not take place, or why that is unknown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A later holder was here first. The caller has lost its lock: it takes the lock and reads again, and never
    /// repeats the write under a new token.
    #[error("stale: token {given}, after a grant whose lowest valid token is {seen}")]
    Stale {
        /// The highest `lowest_valid` that the resource saw.
        seen: u64,
        /// The token that came with the request.
        given: u64,
    },
    /// The numbers are not those of a grant.
    #[error("fence: token {token}, lowest_valid {lowest_valid}: not 1 <= lowest_valid <= token <= {TOKEN_MAX}")]
    InvalidFence {
        /// As given.
        token: u64,
        /// As given.
        lowest_valid: u64,
    },
    /// There is content, and no record of the tokens that it saw. Content that never was guarded is adopted; a record
    /// that was lost is restored together with its content, and never begun anew.
    #[error("{resource}: content without a record of fencing tokens; adopt it if it never had one")]
    NoRecord {
        /// Which.
        resource: String,
    },
    /// The record of tokens is not one that this package writes.
    #[error("{resource}: the record of fencing tokens is unreadable")]
    Corrupt {
        /// Which.
        resource: String,
    },
    /// A file operation failed. If it was part of a write, whether that took place is unknown: ask the resource.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was tried, a verb.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not the name of a table or a column that can be quoted in every dialect.
    #[error("{field} {name:?}: not 1 to 63 of A-Z, a-z, 0-9 and _, beginning with no digit")]
    InvalidName {
        /// Which part of the statement.
        field: &'static str,
        /// As given.
        name: String,
    },
    /// There is no row with this key: nothing was written.
    #[error("{table}: no row with this key")]
    Missing {
        /// Where.
        table: String,
    },
    /// No row was changed, and none is in the way. Either the row came to be between two statements and nothing was
    /// written, or the server counts a row that had all these values already as unchanged: connect with
    /// `CLIENT_FOUND_ROWS`.
    #[error(
        "{table}: no row was changed, though token {given} is not below {seen}: repeat it; \
         on MySQL, connect with CLIENT_FOUND_ROWS"
    )]
    Undecided {
        /// Where.
        table: String,
        /// The highest `lowest_valid` in the row.
        seen: u64,
        /// The token that came with the request.
        given: u64,
    },
    /// So many conditional writes in a row lost against somebody else's.
    #[cfg(feature = "object-store")]
    #[error("{path}: {attempts} conditional writes in a row lost a race; nothing was written")]
    Contended {
        /// Of the object.
        path: String,
        /// How many.
        attempts: u32,
    },
    /// The store accepted a write whose condition was false: it cannot be used.
    #[cfg(feature = "object-store")]
    #[error("the object store accepted {what}: it does not know preconditions")]
    NoPreconditions {
        /// The write that it should have refused.
        what: &'static str,
    },
    /// The object store failed. If it was a write, whether that took place is unknown: ask the resource.
    #[cfg(feature = "object-store")]
    #[error(transparent)]
    Store(Box<object_store::Error>),
}

impl Error {
    /// Whether a later holder was here: the caller has lost its lock.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Stale { .. })
    }
}

#[cfg(feature = "object-store")]
impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        Self::Store(Box::new(error))
    }
}
