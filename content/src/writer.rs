//! The writer of one resource's content, from the decision to the commit or the close.
//!
//! ```text
//! open ─┬─ skipped ──────────────────────────────┐
//!       └─ locked ── write* ─┬─ commit ──────────┴─ close (nothing left to do)
//!                            └─ close or drop: the partial file goes, the next holder is told of a failure
//! ```

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::client::{Guard, LostReason, Outcome};
use crate::digest::Hashing;
use crate::node::{Node, Skipped};
use crate::partial::Partial;
use crate::refcount::{Ended, Operation};
use crate::take::{self, Wanted};
use crate::{ClientConfig, Digest, Error};

/// Writes the content of one resource, if there is something to write: ask [`is_locked`](Self::is_locked).
///
/// Who has written everything calls [`commit`](Self::commit). Until then nothing is visible. A writer that is closed or
/// dropped without a commit leaves nothing behind.
#[must_use = "dropping it gives the lock back"]
pub struct Writer {
    node: Node,
    wanted: Wanted,
    state: State,
}

/// How far it has come.
enum State {
    Skipped(Skipped),
    Locked(Box<Work>),
    Committed(Committed),
    Closed,
}

/// What the holder of the lock has.
struct Work {
    guard: Guard,
    partial: Arc<Partial>,
    hashing: Hashing,
    /// A commit has begun: nothing is written any more.
    sealed: bool,
    /// The content is at its place; what is left is to count it.
    visible: bool,
}

/// What a commit did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Of the content.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// How many nodes refer to it now; for an update, as before.
    pub references: usize,
    /// Whether the server confirmed the unlock, so that the next holder is told of the success. If it did not, the next
    /// holder finds the same by the counts or in the directory.
    pub handed_over: bool,
}

/// How much has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes so far; 0 where nothing is to be written.
    pub written: u64,
    /// Bytes in all, where that is known.
    pub size: Option<u64>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("resource_id", &self.wanted.resource_id)
            .field("locked", &self.is_locked())
            .field("skipped", &self.why_skipped())
            .finish_non_exhaustive()
    }
}

impl Writer {
    /// Opens a pull in one call: a node with the defaults, then [`Opening::open`](crate::Opening::open). Who pulls more
    /// than once keeps a [`Node`]. The directory is made where it is missing, which may block.
    ///
    /// # Errors
    /// As [`NodeBuilder::open`](crate::NodeBuilder::open) and [`Opening::open`](crate::Opening::open).
    pub async fn open(
        server_url: &str,
        node_id: &str,
        directory: impl Into<PathBuf>,
        resource_id: &str,
    ) -> Result<Self, Error> {
        let node = Node::builder(ClientConfig::new(server_url, node_id), directory).open()?;
        node.pull(resource_id).open().await
    }

    pub(crate) fn skipped(node: Node, wanted: Wanted, why: Skipped) -> Self {
        let state = State::Skipped(why);
        Self { node, wanted, state }
    }

    pub(crate) fn locked(node: Node, wanted: Wanted, guard: Guard, partial: Partial) -> Self {
        let state = State::Locked(Box::new(Work {
            guard,
            partial: Arc::new(partial),
            hashing: Hashing::default(),
            sealed: false,
            visible: false,
        }));
        Self { node, wanted, state }
    }

    /// Whether it has the lock, and something is to be written: from opening to commit or close. Whether the lock is held
    /// still, [`write`](Self::write) and [`commit`](Self::commit) look themselves.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        matches!(self.state, State::Locked(_))
    }

    /// Whether there was nothing to do.
    #[must_use]
    pub fn is_skipped(&self) -> bool {
        self.why_skipped().is_some()
    }

    /// Why there was nothing to do.
    #[must_use]
    pub fn why_skipped(&self) -> Option<Skipped> {
        match self.state {
            State::Skipped(why) => Some(why),
            _ => None,
        }
    }

    /// Which resource.
    #[must_use]
    pub fn resource_id(&self) -> &str {
        &self.wanted.resource_id
    }

    /// The fencing token of the lock, while it has one.
    #[must_use]
    pub fn fencing_token(&self) -> Option<u64> {
        match &self.state {
            State::Locked(work) => Some(work.guard.fencing_token()),
            _ => None,
        }
    }

    /// Waits until the lock is lost, and tells why; never ends where there is none, or it is given back in good order. It
    /// does not borrow the writer. For whoever would rather stop a download than see its next write refused.
    pub fn lost(&self) -> impl Future<Output = LostReason> + Send + 'static {
        let lost = match &self.state {
            State::Locked(work) => Some(work.guard.lost()),
            _ => None,
        };
        async move {
            match lost {
                Some(lost) => lost.await,
                None => std::future::pending().await,
            }
        }
    }

    /// What the commit did, after it.
    #[must_use]
    pub fn committed(&self) -> Option<&Committed> {
        match &self.state {
            State::Committed(committed) => Some(committed),
            _ => None,
        }
    }

    /// How much has been written.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let written = match &self.state {
            State::Locked(work) => work.hashing.length,
            State::Committed(committed) => committed.size,
            State::Skipped(_) | State::Closed => 0,
        };
        let size = self.wanted.size;
        Progress { written, size }
    }

    /// Appends a chunk, all of it, and answers its length. Blocks for as long as writing into the page cache takes: chunks
    /// of up to a MiB are right. A failed write may be repeated.
    ///
    /// # Errors
    /// [`Error::Lost`] where the lock is not held for certain: nothing was written. [`Error::Size`] where it would become
    /// too long; [`Error::Skipped`], [`Error::Closed`], [`Error::Io`].
    pub fn write(&mut self, chunk: &[u8]) -> Result<usize, Error> {
        let work = match &mut self.state {
            State::Locked(work) => work,
            State::Skipped(_) => return Err(Error::Skipped),
            State::Committed(_) | State::Closed => return Err(Error::Closed),
        };
        if work.sealed {
            return Err(Error::Closed);
        }
        take::held(&work.guard)?;
        let actual = work.hashing.length + chunk.len() as u64;
        if let Some(expected) = self.wanted.size.filter(|size| actual > *size) {
            return Err(Error::Size { expected, actual });
        }
        work.partial.write_at(chunk, work.hashing.length)?;
        work.hashing.update(chunk);
        Ok(chunk.len())
    }

    /// Checks size and digest, makes the content visible in one step, counts it, and gives the lock back with success.
    /// Safe to repeat, also after it failed or its future was dropped: it goes on where it was. Nothing to do for a writer
    /// that was skipped or has committed.
    ///
    /// # Errors
    /// [`Error::Size`], [`Error::Digest`], [`Error::Lost`], [`Error::Io`]: nothing is visible, unless an earlier call made
    /// it so. [`Error::Counts`]: it is visible and not counted. [`Error::Closed`], [`Error::Interrupted`].
    pub async fn commit(&mut self) -> Result<(), Error> {
        let work = match &mut self.state {
            State::Locked(work) => work,
            State::Skipped(_) | State::Committed(_) => return Ok(()),
            State::Closed => return Err(Error::Closed),
        };
        let (digest, size) = (work.hashing.digest(), work.hashing.length);
        check(&self.wanted, digest, size)?;
        if !work.visible {
            work.publish(&self.node).await?;
        }
        let (operation, id) = (self.wanted.operation, self.wanted.resource_id.clone());
        let partial = Arc::clone(&work.partial);
        let count = self.node.blocking(move |node| {
            let counts = &node.shared.counts;
            let count = counts.update_ref_count(operation, &id, node.node_id(), Ended::Success)?;
            // Order: from here on nobody deletes it. Where the lock was lost before, somebody may have.
            if operation == Operation::Pull && !partial.is_published() {
                counts.release(&id, node.node_id())?;
                return Err(Error::Lost { reason: None });
            }
            Ok(count)
        });
        let references = count.await?.count();
        let committed = State::Committed(Committed {
            digest,
            size,
            references,
            handed_over: false,
        });
        if let State::Locked(work) = std::mem::replace(&mut self.state, committed) {
            let given = self
                .node
                .shared
                .cluster
                .give_back(work.guard, take::success(digest))
                .await;
            if let State::Committed(committed) = &mut self.state {
                committed.handed_over = given;
            }
        }
        Ok(())
    }

    /// Ends it: without a commit the partial file goes, and the lock with the word that the work failed. After a commit,
    /// or where there was nothing to do, it does nothing.
    ///
    /// # Errors
    /// None at present: what cannot be cleaned up here, the next holder cleans up.
    pub async fn close(mut self) -> Result<(), Error> {
        if let Some(guard) = self.abandon() {
            self.node.shared.cluster.give_back(guard, closed()).await;
        }
        Ok(())
    }

    /// Leaves no partial file; the lock, if there is one to give back.
    fn abandon(&mut self) -> Option<Guard> {
        if !self.is_locked() {
            return None;
        }
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Locked(work) => {
                work.partial.discard();
                Some(work.guard)
            }
            _ => None,
        }
    }
}

impl Work {
    /// Makes the content visible, if the lock is held up to the last step.
    async fn publish(&mut self, node: &Node) -> Result<(), Error> {
        take::held(&self.guard)?;
        // From here on a task may be at it that nobody waits for.
        self.sealed = true;
        let (partial, length) = (Arc::clone(&self.partial), self.hashing.length);
        node.blocking(move |_| partial.sync(length)).await?;
        take::held(&self.guard)?;
        let partial = Arc::clone(&self.partial);
        if !node.blocking(move |_| partial.publish()).await? {
            // The next holder has removed it: the lock ended before this process noticed.
            return Err(take::held(&self.guard).err().unwrap_or(Error::Lost { reason: None }));
        }
        self.visible = true;
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let Some(guard) = self.abandon() else { return };
        // Without a runtime the guard's own end gives the lock back, without a word on how the work ended.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(guard.unlock(closed()));
        }
    }
}

/// What the next holder is told of a writer that did not commit.
fn closed() -> Outcome {
    Outcome::failure("closed without a commit")
}

/// Whether the content is what it is to be.
fn check(wanted: &Wanted, digest: Digest, size: u64) -> Result<(), Error> {
    if let Some(expected) = wanted.size.filter(|expected| *expected != size) {
        return Err(Error::Size { expected, actual: size });
    }
    match wanted.digest.filter(|expected| *expected != digest) {
        Some(expected) => Err(Error::Digest {
            expected,
            actual: digest,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    /// Goal: a writer can move to another task, with the future of its commit.
    #[test]
    fn a_writer_is_send() {
        fn check<T: Send>(_: &T) {}
        let _ = |writer: &mut super::Writer| check(&writer.commit());
        let _ = |writer: super::Writer| check(&writer);
    }
}
