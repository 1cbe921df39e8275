//! Where records are kept, as far as this crate needs to know. What an implementation promises beyond the signatures is
//! checked by [`contract::check_storage`](crate::contract::check_storage): any implementation runs it in its tests.

use std::sync::Arc;

use crate::ReferenceCount;

/// Keeps one record for each resource.
///
/// Both changes are compare-and-set, by value: they are done if the record is as `expected`, else nothing is done and
/// the answer is [`StorageError::Conflict`]. An empty record and none are the same, so a record is created by expecting
/// an empty one. Comparing values is enough, even where a record went and came back in between, because each new record
/// is made from the expected one and from nothing else. Names and numbers are within the bounds at the head of this crate:
/// [`RefCountManager`](crate::RefCountManager) lets no others through.
///
/// What a call answered with `Ok` is kept as durably as the storage keeps anything, and every later `get_ref_count` of
/// any process that shares the storage shows it. Calls may block; they are never made from within a task of a runtime.
pub trait RefCountStorage: Send + Sync {
    /// The record of a resource; empty where there is none.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] or [`StorageError::Failed`]; never a record that nobody set.
    fn get_ref_count(&self, resource_id: &str) -> Result<ReferenceCount, StorageError>;

    /// Replaces the record, if it is as `expected`.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] if it is not. After [`StorageError::Failed`] the record is as before or as `new`.
    fn set_ref_count(
        &self,
        resource_id: &str,
        expected: &ReferenceCount,
        new: &ReferenceCount,
    ) -> Result<(), StorageError>;

    /// Removes the record, if it is as `expected`.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] if it is not. After [`StorageError::Failed`] it is as before or gone.
    fn delete_ref_count(&self, resource_id: &str, expected: &ReferenceCount) -> Result<(), StorageError>;
}

/// Why a storage did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The record is not as expected; nothing was changed.
    #[error("the record is not as expected")]
    Conflict,
    /// What is kept cannot be read: it is not what any `set_ref_count` wrote.
    #[error("{place}: {problem}")]
    Corrupt {
        /// Where it is kept.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Reading or writing failed.
    #[error("{what}: {source}")]
    Failed {
        /// What was being done.
        what: String,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A storage behind a pointer is a storage.
macro_rules! delegate {
    ($pointer:ty) => {
        impl<S: RefCountStorage + ?Sized> RefCountStorage for $pointer {
            fn get_ref_count(&self, resource_id: &str) -> Result<ReferenceCount, StorageError> {
                (**self).get_ref_count(resource_id)
            }

            fn set_ref_count(
                &self,
                resource_id: &str,
                expected: &ReferenceCount,
                new: &ReferenceCount,
            ) -> Result<(), StorageError> {
                (**self).set_ref_count(resource_id, expected, new)
            }

            fn delete_ref_count(&self, resource_id: &str, expected: &ReferenceCount) -> Result<(), StorageError> {
                (**self).delete_ref_count(resource_id, expected)
            }
        }
    };
}

delegate!(&S);
delegate!(Box<S>);
delegate!(Arc<S>);
