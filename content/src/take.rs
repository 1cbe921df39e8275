//! From a wish to a lock: decide by counts, take the lock, decide again. Knows nothing of writing.
//!
//! The first decision saves the way to the server. The second one is what makes it right: between the first and the
//! grant somebody else may have done the work, and after the grant nobody can.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::client::{Guard, Outcome, OutcomeStatus};
use crate::node::{LockResult, Node, Skipped};
use crate::refcount::{Ended, Operation};
use crate::writer::Writer;
use crate::{Digest, Error, lock_key};

/// The longest note that a server takes, in bytes.
const NOTE_BYTES_MAX: usize = 256;

/// What is to be done, and what is known of the content.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub operation: Operation,
    pub resource_id: String,
    /// What the content is to be; told by the resource id where that is a digest.
    pub digest: Option<Digest>,
    /// Length of the content in bytes.
    pub size: Option<u64>,
}

impl Wanted {
    pub(crate) fn new(operation: Operation, resource_id: String) -> Self {
        Self {
            operation,
            digest: resource_id.parse().ok(),
            resource_id,
            size: None,
        }
    }
}

/// A pull or an update that is about to begin.
#[derive(Debug)]
#[must_use = "nothing is done until it is opened"]
pub struct Opening {
    node: Node,
    wanted: Wanted,
}

impl Opening {
    pub(crate) fn new(node: Node, operation: Operation, resource_id: String) -> Self {
        let wanted = Wanted::new(operation, resource_id);
        Self { node, wanted }
    }

    /// The content that is written, or taken over from another holder, is to have this digest. What counts say is there is
    /// not read again. Default: the resource id, where that is one; else any content will do.
    pub fn digest(mut self, digest: Digest) -> Self {
        self.wanted.digest = Some(digest);
        self
    }

    /// The content is to have this length, in bytes. Default: any.
    pub fn size(mut self, bytes: u64) -> Self {
        self.wanted.size = Some(bytes);
        self
    }

    /// Decides, locks if there is something to do, and decides again. Waits in line for as long as `request_timeout`.
    /// Cancel-safe: a future that is dropped leaves the line or gives the lock back. It may have counted this node already;
    /// a later pull, or [`Node::release`], agrees with that.
    ///
    /// # Errors
    /// [`Error::Refused`] where counts bar an update; [`Error::Lock`], [`Error::TimedOut`], [`Error::Lost`],
    /// [`Error::Counts`], [`Error::Io`].
    pub async fn open(self) -> Result<Writer, Error> {
        let guard = match lock(&self.node, &self.wanted).await? {
            LockResult::Skipped(why) => return Ok(Writer::skipped(self.node, self.wanted, why)),
            LockResult::Acquired(guard) => guard,
        };
        let (id, token) = (self.wanted.resource_id.clone(), guard.fencing_token());
        let partial = self
            .node
            .blocking(move |node| node.shared.directory.create_partial(&id, token));
        match partial.await {
            Ok(partial) => Ok(Writer::locked(self.node, self.wanted, guard, partial)),
            Err(error) => {
                self.node.shared.cluster.give_back(guard, failure(&error)).await;
                Err(error)
            }
        }
    }
}

/// Decides, locks, and decides again.
pub(crate) async fn lock(node: &Node, wanted: &Wanted) -> Result<LockResult, Error> {
    let key = lock_key(&node.shared.kind, &wanted.resource_id)?;
    let named = wanted.resource_id.parse::<Digest>().ok();
    if let (Some(named), Some(digest)) = (named, wanted.digest)
        && named != digest
    {
        return Err(Error::Argument {
            field: "digest",
            problem: digest.to_string(),
            limit: format!("{named}, which the resource id names"),
        });
    }
    let first = wanted.clone();
    if let Some(why) = node.blocking(move |node| decide(node, &first)).await? {
        return Ok(LockResult::Skipped(why));
    }
    let guard = node.shared.cluster.lock(&key).await?;
    let (second, previous) = (wanted.clone(), guard.previous_outcome().clone());
    let token = guard.fencing_token();
    let deciding = node.blocking(move |node| {
        // Order: before anything is concluded from what is there, nobody earlier can change it.
        node.shared.directory.bar_earlier(&second.resource_id, token)?;
        decide_again(node, &second, &previous)
    });
    match deciding.await {
        Ok(None) => Ok(LockResult::Acquired(guard)),
        Ok(Some((why, outcome))) => {
            node.shared.cluster.give_back(guard, outcome).await;
            Ok(LockResult::Skipped(why))
        }
        Err(error) => {
            node.shared.cluster.give_back(guard, failure(&error)).await;
            Err(error)
        }
    }
}

/// What counts say: `Some`: there is nothing to do, and this node refers to the resource.
fn decide(node: &Node, wanted: &Wanted) -> Result<Option<Skipped>, Error> {
    let (counts, id) = (&node.shared.counts, &wanted.resource_id);
    counts.can_perform_operation(wanted.operation, id, node.node_id())?;
    let Some(reason) = counts.should_skip_operation(wanted.operation, id)? else {
        return Ok(None);
    };
    // A count without content is of no use: somebody removed it by other means.
    if !node.shared.directory.is_there(id, wanted.size)? {
        return Ok(None);
    }
    // Order: looked at before joined. From then on nobody deletes it.
    let joined = counts.join(id, node.node_id())?;
    Ok(joined.map(|_| Skipped::Referenced(reason)))
}

/// What counts, the previous holder and the directory say to the holder of the lock; and what it hands on.
fn decide_again(node: &Node, wanted: &Wanted, previous: &Outcome) -> Result<Option<(Skipped, Outcome)>, Error> {
    let done = previous.status == OutcomeStatus::Success;
    if let Some(Skipped::Referenced(reason)) = decide(node, wanted)? {
        let handed_on = if done { previous.clone() } else { Outcome::success() };
        return Ok(Some((Skipped::ReferencedMeanwhile(reason), handed_on)));
    }
    if wanted.operation != Operation::Pull {
        return Ok(None);
    }
    // Whose word it is: the caller's, else that of whoever wrote it.
    let told = if done { previous.note.parse().ok() } else { None };
    let Some(digest) = wanted.digest.or(told) else {
        return Ok(None);
    };
    let (directory, id) = (&node.shared.directory, &wanted.resource_id);
    if !directory.is_there(id, wanted.size)? || !directory.verify(id, digest)? {
        return Ok(None);
    }
    let counts = &node.shared.counts;
    counts.update_ref_count(Operation::Pull, id, node.node_id(), Ended::Success)?;
    // Order: from here on nobody deletes it. Where the lock was lost before, somebody may have.
    if !directory.is_there(id, wanted.size)? {
        counts.release(id, node.node_id())?;
        return Err(Error::Lost { reason: None });
    }
    let why = if done { Skipped::HandedOver } else { Skipped::Found };
    Ok(Some((why, success(digest))))
}

/// What the next holder is told: that there is content with this digest.
pub(crate) fn success(digest: Digest) -> Outcome {
    Outcome {
        status: OutcomeStatus::Success,
        note: digest.to_string(),
    }
}

/// What the next holder is told of an error.
pub(crate) fn failure(error: &Error) -> Outcome {
    let mut note = String::new();
    for letter in error.to_string().chars().filter(|letter| !letter.is_control()) {
        if note.len() + letter.len_utf8() > NOTE_BYTES_MAX {
            break;
        }
        note.push(letter);
    }
    Outcome::failure(note)
}

/// Refuses where the lock is not held for certain at this moment.
pub(crate) fn held(guard: &Guard) -> Result<(), Error> {
    if guard.is_held() {
        return Ok(());
    }
    // What is known by now; nothing is waited for.
    let reason = match pin!(guard.lost()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(reason) => Some(reason),
        Poll::Pending => None,
    };
    Err(Error::Lost { reason })
}
