//! Records in this process' memory: for tests, and for counts that need not outlive the process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ReferenceCount;
use crate::storage::{RefCountStorage, StorageError};

/// Keeps records until it is dropped. It never fails but by [`StorageError::Conflict`].
#[derive(Debug, Default)]
pub struct MemoryStorage {
    /// By resource id; none is empty.
    records: Mutex<BTreeMap<String, ReferenceCount>>,
}

impl MemoryStorage {
    /// Without records.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn records(&self) -> MutexGuard<'_, BTreeMap<String, ReferenceCount>> {
        // Nothing panics while this is held, so what a poisoned lock protects is whole.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RefCountStorage for MemoryStorage {
    fn get_ref_count(&self, resource_id: &str) -> Result<ReferenceCount, StorageError> {
        Ok(self.records().get(resource_id).cloned().unwrap_or_default())
    }

    fn set_ref_count(
        &self,
        resource_id: &str,
        expected: &ReferenceCount,
        new: &ReferenceCount,
    ) -> Result<(), StorageError> {
        let mut records = self.records();
        if records.get(resource_id).unwrap_or(&ReferenceCount::new()) != expected {
            return Err(StorageError::Conflict);
        }
        if new.is_empty() {
            records.remove(resource_id);
        } else {
            records.insert(resource_id.to_owned(), new.clone());
        }
        Ok(())
    }

    fn delete_ref_count(&self, resource_id: &str, expected: &ReferenceCount) -> Result<(), StorageError> {
        self.set_ref_count(resource_id, expected, &ReferenceCount::new())
    }
}
