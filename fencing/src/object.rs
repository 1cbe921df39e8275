//! An object that refuses older tokens, in any store of the `object_store` crate that knows preconditions. It owns the
//! object's bytes; it knows nothing of the store but its contract.
//!
//! The object is one line, the record of what was seen, and then the content. The record is in the content, and not in
//! the object's metadata, on purpose: some stores name a version by a hash of the content alone, so that a change of
//! metadata would leave the name as it was, and a paused writer's `If-Match` would still match after a later holder's
//! read.
//!
//! Invariant: an object is only ever replaced under the condition that it is still what was looked at, so that check
//! and write are one step, and the record never goes down.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{
    Error as StoreError, GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload,
    UpdateVersion,
};

use crate::{Error, Fence, record};

/// Bytes at the front of an object that are its record; the content begins behind them.
pub const RECORD_LENGTH: u64 = record::LENGTH as u64;

/// Conditional writes that one request tries. Each that fails is somebody else's that succeeded.
const ATTEMPTS_MAX: u32 = 32;

/// An object whose content is read and replaced under a fence.
///
/// Calls go to the store, and wait as long as its own time limits allow. A future that is dropped leaves a write undone
/// or done, as a failure does; it never leaves half of one.
///
/// Limits: the store compares versions in one step with the write, which [`check_store`] tries; all writers go through
/// this type; the object is never deleted, for that would delete its record: write an empty content. A reader that
/// needs no fence skips [`RECORD_LENGTH`] bytes. Whole objects are written, in one request, from memory.
///
/// ```
/// use std::sync::Arc;
/// use object_store::{memory::InMemory, path::Path};
/// use ticketlock_fencing::Fence;
/// use ticketlock_fencing::object::FencedObject;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), ticketlock_fencing::Error> {
/// let state = FencedObject::new(Arc::new(InMemory::new()), Path::from("app/state.json"));
/// let (older, newer) = (Fence::exclusive(41)?, Fence::exclusive(44)?);
/// state.write(older, "from the first holder".into()).await?;
/// // The second holder shows its token with its first read.
/// assert_eq!(state.read(newer).await?, "from the first holder");
/// // From then on, the first holder is refused.
/// assert!(state.write(older, "late".into()).await.is_err_and(|error| error.is_stale()));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct FencedObject {
    store: Arc<dyn ObjectStore>,
    path: Path,
}

/// What was looked at, and what it saw.
struct Found {
    /// `None` where there is no object.
    version: Option<UpdateVersion>,
    seen: u64,
    /// What was asked for of it, behind the record.
    content: Bytes,
}

impl FencedObject {
    /// Names the object, which need not exist yet. Nothing is sent.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, path: Path) -> Self {
        Self { store, path }
    }

    /// The content, empty if there is none yet. It shows the fence, too: what an older holder writes after this read
    /// would be lost with the reader's own write, and is refused from here on. The first read under a fence therefore
    /// writes the object again.
    ///
    /// # Errors
    /// [`Error::Stale`] if a later holder was here; [`Error::NoRecord`] for an object that was not written by this
    /// type; [`Error::Contended`]; [`Error::Store`], after which it is unknown whether the fence was shown.
    pub async fn read(&self, fence: Fence) -> Result<Bytes, Error> {
        for _ in 0..ATTEMPTS_MAX {
            let found = self.look(None).await?;
            let raised = fence.admit(found.seen)?;
            if raised == found.seen || self.put(found.version, raised, &found.content).await? {
                return Ok(found.content);
            }
        }
        Err(self.contended())
    }

    /// Replaces the content.
    ///
    /// # Errors
    /// [`Error::Stale`] if a later holder was here: nothing was written, or it was in place before the later holder
    /// came, and an answer was lost. [`Error::NoRecord`] for an object that was not written by this type;
    /// [`Error::Contended`]; [`Error::Store`], after which it is unknown whether the content was written.
    pub async fn write(&self, fence: Fence, content: Bytes) -> Result<(), Error> {
        for _ in 0..ATTEMPTS_MAX {
            let found = self.look(Some(GetRange::Bounded(0..RECORD_LENGTH))).await?;
            let raised = fence.admit(found.seen)?;
            if self.put(found.version, raised, &content).await? {
                return Ok(());
            }
        }
        Err(self.contended())
    }

    /// What is there now.
    async fn look(&self, range: Option<GetRange>) -> Result<Found, Error> {
        let options = GetOptions {
            range,
            ..GetOptions::default()
        };
        let got: GetResult = match self.store.get_opts(&self.path, options).await {
            Err(StoreError::NotFound { .. }) => {
                return Ok(Found {
                    version: None,
                    seen: 0,
                    content: Bytes::new(),
                });
            }
            got => got?,
        };
        let version = UpdateVersion {
            e_tag: got.meta.e_tag.clone(),
            version: got.meta.version.clone(),
        };
        let bytes = got.bytes().await?;
        let resource = || self.path.to_string();
        let (seen, content) = record::decode(&bytes).ok_or_else(|| Error::NoRecord { resource: resource() })?;
        Ok(Found {
            version: Some(version),
            seen,
            content: bytes.slice_ref(content),
        })
    }

    /// Writes if the object is still that version; false if it is not.
    async fn put(&self, version: Option<UpdateVersion>, seen: u64, content: &Bytes) -> Result<bool, Error> {
        let mode = version.map_or(PutMode::Create, PutMode::Update);
        let payload = PutPayload::from_iter([Bytes::from(record::encode(seen)), content.clone()]);
        match self.store.put_opts(&self.path, payload, mode.into()).await {
            Ok(_) => Ok(true),
            Err(error) if lost_race(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn contended(&self) -> Error {
        Error::Contended {
            path: self.path.to_string(),
            attempts: ATTEMPTS_MAX,
        }
    }
}

/// The condition was false: the object was made, replaced or removed meanwhile.
fn lost_race(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Precondition { .. } | StoreError::AlreadyExists { .. } | StoreError::NotFound { .. }
    )
}

/// Tries whether the store knows preconditions, with an object at `scratch` that is made and removed. Some stores
/// accept them and do not look at them: a service tries its store once, at its start. Whether a store also compares and
/// writes in one step, one client alone cannot see; ask who made it.
///
/// # Errors
/// [`Error::NoPreconditions`] if it accepted a write that it had to refuse, [`Error::Store`] if it failed.
pub async fn check_store(store: &dyn ObjectStore, scratch: &Path) -> Result<(), Error> {
    let first = store.put(scratch, PutPayload::from_static(b"1")).await?;
    store.put(scratch, PutPayload::from_static(b"2")).await?;
    let checks = [
        (PutMode::Create, "a creation of an object that is there"),
        (PutMode::Update(first.into()), "an update of a version that is gone"),
    ];
    for (mode, what) in checks {
        let put = store
            .put_opts(scratch, PutPayload::from_static(b"3"), mode.into())
            .await;
        match put {
            Ok(_) => {
                store.delete(scratch).await?;
                return Err(Error::NoPreconditions { what });
            }
            Err(error) if lost_race(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    store.delete(scratch).await?;
    Ok(())
}
