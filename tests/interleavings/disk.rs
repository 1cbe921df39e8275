//! A disk in memory, whose syncs fail from one on.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{Builder, Database, DatabaseError, StorageBackend};
use ticketlock::store::file::Disk;

/// The files by their names, and how many more syncs work. Its own locks are held for a moment and are none of the
/// checker's.
#[derive(Debug, Default)]
pub struct Memory {
    files: Mutex<BTreeMap<String, Arc<Mutex<Vec<u8>>>>>,
    notes: Mutex<Option<Vec<u8>>>,
    syncs_left: Arc<AtomicU64>,
}

impl Memory {
    /// So many syncs work.
    pub fn with_syncs(syncs: u64) -> Self {
        let memory = Self::default();
        memory.syncs_left.store(syncs, Ordering::SeqCst);
        memory
    }

    /// From now on only so many more.
    pub fn limit(&self, syncs: u64) {
        self.syncs_left.store(syncs, Ordering::SeqCst);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk for Memory {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn path(&self) -> Option<&Path> {
        None
    }

    fn data(&self, file: &str, new: bool) -> Result<Database, DatabaseError> {
        let mut files = locked(&self.files);
        let bytes = files.entry(file.to_owned()).or_default();
        if new {
            locked(bytes).clear();
        }
        let backend = Pages {
            bytes: Arc::clone(bytes),
            syncs_left: Arc::clone(&self.syncs_left),
        };
        drop(files);
        Builder::new().set_cache_size(1 << 20).create_with_backend(backend)
    }

    fn exists(&self, file: &str) -> io::Result<bool> {
        Ok(locked(&self.files).contains_key(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = locked(&self.files);
        let bytes = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), bytes);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, file: &str) -> io::Result<()> {
        locked(&self.files).remove(file);
        Ok(())
    }

    fn noted(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(locked(&self.notes).clone())
    }

    fn note(&self, bytes: &[u8]) -> io::Result<()> {
        *locked(&self.notes) = Some(bytes.to_vec());
        Ok(())
    }

    fn reserve(&self) -> io::Result<()> {
        Ok(())
    }

    fn release(&self) -> io::Result<()> {
        Ok(())
    }
}

/// One file.
#[derive(Debug)]
struct Pages {
    bytes: Arc<Mutex<Vec<u8>>>,
    syncs_left: Arc<AtomicU64>,
}

/// The part of a file from `offset` on.
fn range(offset: u64, len: usize) -> std::ops::Range<usize> {
    let from = usize::try_from(offset).unwrap_or(usize::MAX);
    from..from.saturating_add(len)
}

impl StorageBackend for Pages {
    fn len(&self) -> io::Result<u64> {
        u64::try_from(locked(&self.bytes).len()).map_err(io::Error::other)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = locked(&self.bytes);
        let part = bytes
            .get(range(offset, out.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(part);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        locked(&self.bytes).resize(usize::try_from(len).map_err(io::Error::other)?, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let took = |left: u64| left.checked_sub(1);
        match self.syncs_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, took) {
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::other("the disk does not sync")),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut bytes = locked(&self.bytes);
        let part = bytes
            .get_mut(range(offset, data.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        part.copy_from_slice(data);
        Ok(())
    }
}
