//! A node: its lock server, its directory, its counts, and what it can do with a resource.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::client::{Guard, Outcome};
use crate::cluster::Cluster;
use crate::directory::Directory;
use crate::refcount::{Ended, Operation, RefCountManager, RefCountStorage, ReferenceCount, SkipReason};
use crate::take::{self, Wanted};
use crate::{ClientConfig, Error, FileStorage, Opening, lock_key};

/// One of the nodes that share content. Cheap to clone. Its calls need a tokio runtime with time; what touches the disk
/// runs on the runtime's threads for blocking work.
#[derive(Clone)]
pub struct Node {
    pub(crate) shared: Arc<Shared>,
}

/// What a node's operations share.
pub(crate) struct Shared {
    /// The way to the lock.
    pub cluster: Cluster,
    /// Where content is.
    pub directory: Directory,
    /// Who refers to it.
    pub counts: RefCountManager<Box<dyn RefCountStorage>>,
    /// The first part of lock keys.
    pub kind: String,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("node_id", &self.node_id())
            .finish_non_exhaustive()
    }
}

/// Why there is nothing to do. In each case this node refers to the resource from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Skipped {
    /// Somebody refers to it: told by the counts, without a word to the lock server.
    Referenced(SkipReason),
    /// Somebody does since this node waited for the lock: told by the counts after the grant.
    ReferencedMeanwhile(SkipReason),
    /// The previous holder handed it over as done, and what is there was checked.
    HandedOver,
    /// What is there has the right digest, though neither counts nor the previous holder told of it.
    Found,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Referenced(reason) => write!(f, "{reason}"),
            Self::ReferencedMeanwhile(reason) => write!(f, "{reason}, since the wait for the lock"),
            Self::HandedOver => f.write_str("the previous holder has done it, and it was checked"),
            Self::Found => f.write_str("it is there, and it was checked"),
        }
    }
}

/// What came of deciding, locking and deciding again; whatever failed is an error beside it.
#[derive(Debug)]
#[must_use = "dropping it gives the lock back"]
pub enum LockResult {
    /// The lock is held, and the work is to be done.
    Acquired(Guard),
    /// There is nothing to do, and nothing is held. Only this node decides so, never the server.
    Skipped(Skipped),
}

/// Configures a [`Node`].
pub struct NodeBuilder {
    config: ClientConfig,
    directory: PathBuf,
    counts: Option<Box<dyn RefCountStorage>>,
    kind: String,
    update_requires_no_ref: bool,
}

impl fmt::Debug for NodeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeBuilder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl NodeBuilder {
    /// Keeps counts there. Default: in the files of `counts/` in the directory, shared by all that share the directory.
    #[must_use]
    pub fn counts(mut self, storage: impl RefCountStorage + 'static) -> Self {
        self.counts = Some(Box::new(storage));
        self
    }

    /// What kind of resource it is, the first part of lock keys: 1 to 64 bytes. The same for all nodes that share a
    /// directory. Default `layer`.
    #[must_use]
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = kind.into();
        self
    }

    /// Whether an update is refused while anybody refers to the resource. Default: no.
    #[must_use]
    pub fn update_requires_no_ref(mut self, required: bool) -> Self {
        self.update_requires_no_ref = required;
        self
    }

    /// Makes the directory where it is missing. Blocks for as long as the disk does; says nothing to the lock server.
    ///
    /// # Errors
    /// [`Error::Argument`] names the field; [`Error::Io`].
    pub fn open(self) -> Result<Node, Error> {
        lock_key(&self.kind, "any")?;
        let cluster = Cluster::new(self.config)?;
        let directory = Directory::open(&self.directory)?;
        let storage = match self.counts {
            Some(storage) => storage,
            None => Box::new(FileStorage::open(self.directory.join("counts"))?),
        };
        let counts = RefCountManager::new(storage).update_requires_no_ref(self.update_requires_no_ref);
        let kind = self.kind;
        Ok(Node {
            shared: Arc::new(Shared {
                cluster,
                directory,
                counts,
                kind,
            }),
        })
    }
}

impl Node {
    /// Starts to configure a node that shares content in `directory`.
    #[must_use]
    pub fn builder(config: ClientConfig, directory: impl Into<PathBuf>) -> NodeBuilder {
        NodeBuilder {
            config,
            directory: directory.into(),
            counts: None,
            kind: "layer".to_owned(),
            update_requires_no_ref: false,
        }
    }

    /// Who it is.
    #[must_use]
    pub fn node_id(&self) -> &str {
        &self.shared.cluster.config().node_id
    }

    /// Where the content of a resource is, if it is there.
    #[must_use]
    pub fn path(&self, resource_id: &str) -> PathBuf {
        self.shared.directory.content(resource_id)
    }

    /// Has a resource here: written by whoever comes first, taken over by the others. After it this node refers to it.
    pub fn pull(&self, resource_id: impl Into<String>) -> Opening {
        Opening::new(self.clone(), Operation::Pull, resource_id.into())
    }

    /// Replaces the content of a resource. Who refers to it stays.
    pub fn update(&self, resource_id: impl Into<String>) -> Opening {
        Opening::new(self.clone(), Operation::Update, resource_id.into())
    }

    /// Removes a resource that no other node refers to. That it is not there is no error. Order: the count goes first, in
    /// one step with a last look at it, so that nobody comes to refer to content that is about to go.
    ///
    /// # Errors
    /// [`Error::Refused`] says who refers to it; [`Error::Lock`], [`Error::TimedOut`], [`Error::Counts`]; [`Error::Lost`],
    /// [`Error::Io`], after which the content may be there without a count. It goes on where the future is dropped after the
    /// grant.
    pub async fn delete(&self, resource_id: &str) -> Result<(), Error> {
        let wanted = Wanted::new(Operation::Delete, resource_id.to_owned());
        let LockResult::Acquired(guard) = take::lock(self, &wanted).await? else {
            return Ok(());
        };
        let node = self.clone();
        // Order: the lock outlives the work, whatever becomes of the caller.
        let deleting = tokio::spawn(async move {
            let done = node.remove(&guard, wanted.resource_id).await;
            // No note: whoever is next finds nothing that could be taken over.
            let outcome = match &done {
                Ok(()) => Outcome::success(),
                Err(error) => take::failure(error),
            };
            node.shared.cluster.give_back(guard, outcome).await;
            done
        });
        deleting.await.unwrap_or(Err(Error::Interrupted))
    }

    async fn remove(&self, guard: &Guard, resource_id: String) -> Result<(), Error> {
        take::held(guard)?;
        let id = resource_id.clone();
        self.blocking(move |node| {
            let counts = &node.shared.counts;
            Ok(counts.update_ref_count(Operation::Delete, &id, node.node_id(), Ended::Success)?)
        })
        .await?;
        take::held(guard)?;
        self.blocking(move |node| node.shared.directory.remove(&resource_id))
            .await
    }

    /// Gives up this node's reference, and answers who is left. Content stays, even where nobody is left.
    ///
    /// # Errors
    /// [`Error::Counts`].
    pub async fn release(&self, resource_id: &str) -> Result<ReferenceCount, Error> {
        let id = resource_id.to_owned();
        self.blocking(move |node| Ok(node.shared.counts.release(&id, node.node_id())?))
            .await
    }

    /// Who refers to a resource.
    ///
    /// # Errors
    /// [`Error::Counts`].
    pub async fn references(&self, resource_id: &str) -> Result<ReferenceCount, Error> {
        let id = resource_id.to_owned();
        self.blocking(move |node| Ok(node.shared.counts.get_ref_count(&id)?))
            .await
    }

    /// Decides, locks, and decides again, for whoever does the work by other means than a [`Writer`](crate::Writer): then
    /// the count after the work is the caller's to keep.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Lock`], [`Error::TimedOut`], [`Error::Counts`], [`Error::Io`].
    pub async fn lock(&self, operation: Operation, resource_id: &str) -> Result<LockResult, Error> {
        take::lock(self, &Wanted::new(operation, resource_id.to_owned())).await
    }

    /// Does what may block where that holds nobody up.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let node = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&node)).await;
        done.unwrap_or(Err(Error::Interrupted))
    }
}
