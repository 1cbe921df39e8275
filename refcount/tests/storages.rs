//! Every storage that this package has, and the example of one's own, under the one contract.

use std::sync::Arc;

use storage::SqliteStorage;
use ticketlock_refcount::{MemoryStorage, ReferenceCount, StorageError, contract};

#[path = "../examples/sqlite/storage.rs"]
mod storage;

/// Goal: the memory storage keeps the contract.
#[test]
fn memory_keeps_the_contract() {
    let storage = Arc::new(MemoryStorage::new());
    contract::check_storage(|| Arc::clone(&storage));
}

/// Goal: a database keeps it, too, with a connection for each handle.
#[test]
fn a_database_keeps_the_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("counts.db");
    contract::check_storage(|| SqliteStorage::open(&file).expect("it opens"));
}

/// Goal: the contract bites: a storage that writes without comparing does not pass.
#[test]
#[should_panic(expected = "not a conflict")]
fn a_storage_that_does_not_compare_is_found_out() {
    struct Careless(MemoryStorage);

    impl ticketlock_refcount::RefCountStorage for Careless {
        fn get_ref_count(&self, resource_id: &str) -> Result<ReferenceCount, StorageError> {
            self.0.get_ref_count(resource_id)
        }

        fn set_ref_count(&self, id: &str, _: &ReferenceCount, new: &ReferenceCount) -> Result<(), StorageError> {
            let present = self.0.get_ref_count(id)?;
            self.0.set_ref_count(id, &present, new)
        }

        fn delete_ref_count(&self, resource_id: &str, expected: &ReferenceCount) -> Result<(), StorageError> {
            self.0.delete_ref_count(resource_id, expected)
        }
    }

    let storage = Arc::new(Careless(MemoryStorage::new()));
    contract::check_storage(|| Arc::clone(&storage));
}
