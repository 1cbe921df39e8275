//! The record of one resource: who refers to it. Plain data; knows no rule.

use std::collections::BTreeSet;

/// Who refers to a resource. None at all is the same as no record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReferenceCount {
    /// By node id: named, so that the same reference is never counted twice, and in an order that all storages share.
    nodes: BTreeSet<String>,
}

impl ReferenceCount {
    /// Nobody refers to it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many nodes refer to it.
    #[must_use]
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nobody does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether this node does.
    #[must_use]
    pub fn contains(&self, node_id: &str) -> bool {
        self.nodes.contains(node_id)
    }

    /// The nodes, in the order of their ids' bytes.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(String::as_str)
    }

    /// The same with this node's reference.
    #[must_use]
    pub fn with(&self, node_id: &str) -> Self {
        let mut nodes = self.nodes.clone();
        nodes.insert(node_id.to_owned());
        Self { nodes }
    }

    /// The same without this node's reference.
    #[must_use]
    pub fn without(&self, node_id: &str) -> Self {
        let mut nodes = self.nodes.clone();
        nodes.remove(node_id);
        Self { nodes }
    }
}

impl<S: Into<String>> FromIterator<S> for ReferenceCount {
    fn from_iter<I: IntoIterator<Item = S>>(nodes: I) -> Self {
        let nodes = nodes.into_iter().map(Into::into).collect();
        Self { nodes }
    }
}
