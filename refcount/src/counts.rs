//! The rules over a storage: each answer is about a record as it was at one moment, each change is all or nothing.

use crate::rules::{self, Ended, Operation, SkipReason};
use crate::storage::{RefCountStorage, StorageError};
use crate::{Error, NODE_ID_BYTES_MAX, REFERENCES_MAX, RESOURCE_ID_BYTES_MAX, ReferenceCount};

/// Bound: conflicts that one call bears. Each means that another call got through, so that only a storage that reports
/// conflicts for no reason reaches it.
const CONFLICTS_MAX: usize = 1_000;

/// Decides by reference counts, and keeps them in a storage.
///
/// A decision is worth as much as the moment that it was made in. Who acts on it decides, takes the resource's lock, and
/// decides again: only the second decision is safe from others. Calls block for as long as the storage does.
#[derive(Clone, Debug)]
pub struct RefCountManager<S> {
    /// Where the records are.
    storage: S,
    /// Whether an update needs that nobody refers to the resource.
    update_requires_no_ref: bool,
}

impl<S: RefCountStorage> RefCountManager<S> {
    /// Decides by what is in this storage.
    #[must_use]
    pub fn new(storage: S) -> Self {
        Self {
            storage,
            update_requires_no_ref: false,
        }
    }

    /// Whether an update is refused while anybody, the updating node included, refers to the resource. Default: no.
    #[must_use]
    pub fn update_requires_no_ref(mut self, required: bool) -> Self {
        self.update_requires_no_ref = required;
        self
    }

    /// Why the operation need not be done, or `None` if it has to be. Only a pull is ever skipped.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Storage`].
    pub fn should_skip_operation(&self, operation: Operation, resource_id: &str) -> Result<Option<SkipReason>, Error> {
        let count = self.get_ref_count(resource_id)?;
        Ok(rules::should_skip(operation, &count))
    }

    /// Whether `node_id` may do the operation.
    ///
    /// # Errors
    /// [`Error::Refused`] says who is in the way; [`Error::Name`], [`Error::Storage`].
    pub fn can_perform_operation(&self, operation: Operation, resource_id: &str, node_id: &str) -> Result<(), Error> {
        check_name("node_id", node_id, NODE_ID_BYTES_MAX)?;
        let count = self.get_ref_count(resource_id)?;
        Ok(rules::can_perform(
            operation,
            node_id,
            &count,
            self.update_requires_no_ref,
        )?)
    }

    /// Keeps what the operation did to the count, and answers the new one. Safe to repeat. A delete is decided once more
    /// in the same step, so that it never takes away a reference that came meanwhile.
    ///
    /// # Errors
    /// [`Error::Refused`] for a delete while others refer to the resource; [`Error::Name`], [`Error::Full`],
    /// [`Error::Contended`], [`Error::Storage`].
    pub fn update_ref_count(
        &self,
        operation: Operation,
        resource_id: &str,
        node_id: &str,
        ended: Ended,
    ) -> Result<ReferenceCount, Error> {
        check_name("node_id", node_id, NODE_ID_BYTES_MAX)?;
        self.change(resource_id, |count| {
            if operation == Operation::Delete && ended == Ended::Success {
                rules::can_perform(operation, node_id, count, self.update_requires_no_ref)?;
            }
            Ok(rules::after(operation, node_id, ended, count))
        })
    }

    /// Who refers to a resource; empty where nobody does.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Storage`].
    pub fn get_ref_count(&self, resource_id: &str) -> Result<ReferenceCount, Error> {
        check_name("resource_id", resource_id, RESOURCE_ID_BYTES_MAX)?;
        Ok(self.storage.get_ref_count(resource_id)?)
    }

    /// Adds `node_id` to those who refer to a resource, if there are any: in one step, so that whoever skips a pull refers
    /// to something that nobody is about to delete. `None`: nobody refers to it, and nothing was changed. Safe to repeat.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Full`], [`Error::Contended`], [`Error::Storage`].
    pub fn join(&self, resource_id: &str, node_id: &str) -> Result<Option<ReferenceCount>, Error> {
        check_name("node_id", node_id, NODE_ID_BYTES_MAX)?;
        let count = self.change(resource_id, |count| {
            Ok(if count.is_empty() {
                count.clone()
            } else {
                count.with(node_id)
            })
        })?;
        Ok((!count.is_empty()).then_some(count))
    }

    /// Gives up the reference of `node_id`, if there is one, and answers who is left. Safe to repeat.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Contended`], [`Error::Storage`].
    pub fn release(&self, resource_id: &str, node_id: &str) -> Result<ReferenceCount, Error> {
        check_name("node_id", node_id, NODE_ID_BYTES_MAX)?;
        self.change(resource_id, |count| Ok(count.without(node_id)))
    }

    /// Replaces a record by what `next` makes of it, however often others come in between.
    fn change(
        &self,
        resource_id: &str,
        next: impl Fn(&ReferenceCount) -> Result<ReferenceCount, Error>,
    ) -> Result<ReferenceCount, Error> {
        for _ in 0..CONFLICTS_MAX {
            let before = self.get_ref_count(resource_id)?;
            let after = next(&before)?;
            if after == before {
                return Ok(after);
            }
            if after.count() > REFERENCES_MAX {
                return Err(Error::Full { limit: REFERENCES_MAX });
            }
            let done = if after.is_empty() {
                self.storage.delete_ref_count(resource_id, &before)
            } else {
                self.storage.set_ref_count(resource_id, &before, &after)
            };
            match done {
                Ok(()) => return Ok(after),
                Err(StorageError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Contended { limit: CONFLICTS_MAX })
    }
}

fn check_name(field: &'static str, name: &str, limit: usize) -> Result<(), Error> {
    let length = name.len();
    if (1..=limit).contains(&length) {
        return Ok(());
    }
    Err(Error::Name { field, length, limit })
}
