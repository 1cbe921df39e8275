//! Decides what reference counts allow: pure, without I/O.
//!
//! A resource is referred to by nodes, and its count is how many of them. [`RefCountManager`] says whether an operation
//! is worth doing and whether it may be done, and keeps the count afterwards, in whatever [`RefCountStorage`] it is
//! given. It is the whole of the business rules: the lock server knows nothing of counts, and this crate knows nothing
//! of locks, files, sockets, clocks or tasks.
//!
//! ```
//! use ticketlock_refcount::{Ended, MemoryStorage, Operation, RefCountManager};
//!
//! # fn main() -> Result<(), ticketlock_refcount::Error> {
//! let counts = RefCountManager::new(MemoryStorage::new());
//! assert_eq!(counts.should_skip_operation(Operation::Pull, "layer-1")?, None);
//! // … the layer is pulled here, under a lock …
//! counts.update_ref_count(Operation::Pull, "layer-1", "node-a", Ended::Success)?;
//! let skip = counts.should_skip_operation(Operation::Pull, "layer-1")?;
//! assert_eq!(skip.map(|it| it.to_string()), Some("1 node refers to it already".to_owned()));
//! # Ok(()) }
//! ```
//!
//! Invariants:
//! - A reference has a name, that of the node that holds it: an update that is repeated after a crash counts once.
//! - A count changes by compare-and-set, so that processes that share a storage never lose each other's updates.
//! - What failed changes no count.
//!
//! Read `rules` for what is decided, [`RefCountManager`] for how it is kept, [`contract`] for what a storage promises.

pub mod contract;
mod count;
mod counts;
mod error;
mod memory;
mod rules;
mod storage;

pub use count::ReferenceCount;
pub use counts::RefCountManager;
pub use error::Error;
pub use memory::MemoryStorage;
pub use rules::{Ended, Operation, Refused, SkipReason};
pub use storage::{RefCountStorage, StorageError};

/// Bound: the length of a resource id, in bytes; the least is 1.
pub const RESOURCE_ID_BYTES_MAX: usize = 4096;
/// Bound: the length of a node id, in bytes; the least is 1. The lock server bounds an owner alike.
pub const NODE_ID_BYTES_MAX: usize = 256;
/// Bound: nodes that refer to one resource.
pub const REFERENCES_MAX: usize = 10_000;
