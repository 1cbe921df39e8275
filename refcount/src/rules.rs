//! What is decided, as functions of a record alone: nothing here reads or keeps one.
//!
//! | operation | skipped | refused | after success |
//! |---|---|---|---|
//! | Pull | while anybody refers to it | never | the puller refers to it |
//! | Update | never | while anybody refers to it, if [`update_requires_no_ref`] is on | as before |
//! | Delete | never | while anybody *else* refers to it | nobody refers to it: the record goes |
//!
//! The only node that refers to a resource may delete it: that is how the last reference ends. Where others refer to it,
//! too, a node gives up its own with [`release`], which touches no content.
//!
//! [`update_requires_no_ref`]: crate::RefCountManager::update_requires_no_ref
//! [`release`]: crate::RefCountManager::release

use std::fmt;

use crate::ReferenceCount;

/// What a node wants to do with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Have it here.
    Pull,
    /// Replace its content.
    Update,
    /// Remove it.
    Delete,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pull => "pull",
            Self::Update => "update",
            Self::Delete => "delete",
        })
    }
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// It did what it was to do.
    Success,
    /// It did not; no count changes.
    Failure,
}

/// Why an operation need not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SkipReason {
    /// Nodes that refer to the resource: at least 1.
    pub references: usize,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.references {
            1 => f.write_str("1 node refers to it already"),
            many => write!(f, "{many} nodes refer to it already"),
        }
    }
}

/// Why an operation may not be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{operation} refused: {references} refer to it (such as {example:?}), the limit is 0")]
pub struct Refused {
    /// What was asked for.
    pub operation: Operation,
    /// Nodes in the way: at least 1.
    pub references: usize,
    /// One of them.
    pub example: String,
}

/// Whether the operation need not be done.
pub(crate) fn should_skip(operation: Operation, count: &ReferenceCount) -> Option<SkipReason> {
    let references = count.count();
    (operation == Operation::Pull && references > 0).then_some(SkipReason { references })
}

/// Whether `node_id` may do it.
pub(crate) fn can_perform(
    operation: Operation,
    node_id: &str,
    count: &ReferenceCount,
    update_requires_no_ref: bool,
) -> Result<(), Refused> {
    let in_the_way = |node: &&str| match operation {
        Operation::Pull => false,
        Operation::Update => update_requires_no_ref,
        Operation::Delete => *node != node_id,
    };
    let mut nodes = count.nodes().filter(in_the_way);
    let Some(example) = nodes.next() else { return Ok(()) };
    Err(Refused {
        operation,
        references: 1 + nodes.count(),
        example: example.to_owned(),
    })
}

/// The record after `node_id` did it.
pub(crate) fn after(operation: Operation, node_id: &str, ended: Ended, count: &ReferenceCount) -> ReferenceCount {
    match (operation, ended) {
        (Operation::Pull, Ended::Success) => count.with(node_id),
        (Operation::Delete, Ended::Success) => count.without(node_id),
        (Operation::Update, _) | (_, Ended::Failure) => count.clone(),
    }
}
