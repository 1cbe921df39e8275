//! The one error type of this crate.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Digest;
use crate::client::LostReason;
use crate::refcount::{self, Refused};

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument that nobody else needs to see.
    #[error("{field}: {problem}, expected {limit}")]
    Argument {
        /// Which.
        field: &'static str,
        /// What it is.
        problem: String,
        /// What it may be.
        limit: String,
    },
    /// The rules of counts say no; nothing was done.
    #[error(transparent)]
    Refused(Refused),
    /// Counts could not be read or changed.
    #[error("counts: {0}")]
    Counts(refcount::Error),
    /// The lock was not granted.
    #[error("cannot lock {key:?} ({attempts} attempts): {source}")]
    Lock {
        /// Which.
        key: String,
        /// How often it was asked for.
        attempts: u32,
        /// What came of it last.
        source: Box<ticketlock_client::Error>,
    },
    /// `request_timeout` has passed. A ticket in line is given back.
    #[error("cannot lock {key:?}: request_timeout of {limit:?} has passed")]
    TimedOut {
        /// Which lock.
        key: String,
        /// The timeout.
        limit: Duration,
    },
    /// The lock is not held for certain any more: nothing is written, and nothing is made visible.
    #[error("the lock is not held for certain: {}", reason.as_ref().map_or("no renewal was answered".to_owned(), ToString::to_string))]
    Lost {
        /// Why, where the server said it.
        reason: Option<LostReason>,
    },
    /// The writer has nothing to write: it was skipped.
    #[error("nothing to write: the operation was skipped")]
    Skipped,
    /// The writer has committed or is closed.
    #[error("the writer has committed or is closed")]
    Closed,
    /// The content is not what it is to be.
    #[error("digest: {actual}, expected {expected}")]
    Digest {
        /// What it is to be.
        expected: Digest,
        /// What was written.
        actual: Digest,
    },
    /// The content is too long or too short.
    #[error("size: {actual} bytes, expected {expected}")]
    Size {
        /// How long it is to be, in bytes.
        expected: u64,
        /// How long it is, or would have become, in bytes.
        actual: u64,
    },
    /// The file system failed.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The runtime ended in the middle; what was being done goes on or never began.
    #[error("the runtime has ended")]
    Interrupted,
}

impl Error {
    pub(crate) fn argument(field: &'static str, problem: impl Into<String>, limit: impl Into<String>) -> Self {
        Self::Argument {
            field,
            problem: problem.into(),
            limit: limit.into(),
        }
    }

    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

impl From<refcount::Error> for Error {
    fn from(error: refcount::Error) -> Self {
        match error {
            refcount::Error::Refused(refused) => Self::Refused(refused),
            other => Self::Counts(other),
        }
    }
}
