//! A storage of one's own, a manager over it, and for each node: decide, lock, decide again, act, count.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use ticketlock_content::client::Outcome;
use ticketlock_content::refcount::{Ended, Operation, RefCountManager, RefCountStorage, ReferenceCount, StorageError};
use ticketlock_content::{ClientConfig, cluster_lock, lock_key};

/// Why the story ends early.
pub type Failure = Box<dyn Error + Send + Sync>;

/// What both want.
const RESOURCE: &str = "base-layer";

/// A storage of one's own: here a map, elsewhere a file or a database.
#[derive(Debug, Default)]
struct OwnStorage(Mutex<BTreeMap<String, ReferenceCount>>);

impl RefCountStorage for OwnStorage {
    fn get_ref_count(&self, resource_id: &str) -> Result<ReferenceCount, StorageError> {
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(records.get(resource_id).cloned().unwrap_or_default())
    }

    fn set_ref_count(
        &self,
        resource_id: &str,
        expected: &ReferenceCount,
        new: &ReferenceCount,
    ) -> Result<(), StorageError> {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let record = records.entry(resource_id.to_owned()).or_default();
        if record != expected {
            return Err(StorageError::Conflict);
        }
        record.clone_from(new);
        Ok(())
    }

    fn delete_ref_count(&self, resource_id: &str, expected: &ReferenceCount) -> Result<(), StorageError> {
        self.set_ref_count(resource_id, expected, &ReferenceCount::new())
    }
}

/// What happened.
#[derive(Debug)]
pub struct Told {
    /// In words for a person.
    pub lines: Vec<String>,
    /// How often the layer was downloaded.
    pub downloads: usize,
    /// How many nodes refer to it in the end.
    pub references: usize,
}

/// Plays it against this server.
///
/// # Errors
/// Whatever ends it early.
pub async fn run(server_url: &str) -> Result<Told, Failure> {
    let counts = Arc::new(RefCountManager::new(OwnStorage::default()));
    let [a, b] = ["node-a", "node-b"].map(|node_id| {
        let config = ClientConfig::new(server_url, node_id);
        tokio::spawn(pull(Arc::clone(&counts), config))
    });
    let lines = vec![a.await??, b.await??];
    Ok(Told {
        downloads: lines.iter().filter(|line| line.contains("downloaded")).count(),
        references: counts.get_ref_count(RESOURCE)?.count(),
        lines,
    })
}

/// What each node does.
async fn pull(counts: Arc<RefCountManager<OwnStorage>>, config: ClientConfig) -> Result<String, Failure> {
    let node = config.node_id.clone();
    if let Some(reason) = counts.should_skip_operation(Operation::Pull, RESOURCE)? {
        counts.join(RESOURCE, &node)?;
        return Ok(format!("{node} asked nobody: {reason}"));
    }
    let guard = cluster_lock(config, &lock_key("layer", RESOURCE)?).await?;
    // Again: somebody may have done it before the lock was granted.
    let told = match counts.should_skip_operation(Operation::Pull, RESOURCE)? {
        Some(reason) => format!("{node} waited, and then: {reason}"),
        None => format!("{node} downloaded it"),
    };
    counts.update_ref_count(Operation::Pull, RESOURCE, &node, Ended::Success)?;
    guard.unlock(Outcome::success()).await?;
    Ok(told)
}
