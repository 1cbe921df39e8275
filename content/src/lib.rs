//! Writes content that several nodes share once, under locks, with reference counts.
//!
//! Nodes that share a directory want the same resources, such as the layers of an image. Each resource is to be written
//! by one node, once, whole; the others take what is there. A [`Node`] is one of them: it decides by reference counts,
//! without a word to the lock server, whether there is anything to do; if so it takes the resource's lock, decides
//! again, and only then is there a [`Writer`] that writes.
//!
//! ```no_run
//! # fn download(_: &str) -> Vec<Vec<u8>> { Vec::new() }
//! use ticketlock_content::{ClientConfig, Error, Node};
//!
//! async fn pull(digest: &str) -> Result<(), Error> {
//!     let config = ClientConfig::new("http://127.0.0.1:8476", "node-7");
//!     let node = Node::builder(config, "/var/lib/layers").open()?;
//!     let mut writer = node.pull(digest).open().await?;
//!     if writer.is_locked() {
//!         for chunk in download(digest) {
//!             writer.write(&chunk)?;
//!         }
//!         writer.commit().await?;
//!     }
//!     writer.close().await
//! }
//! ```
//!
//! Who knows what: `ticketlock-refcount` has the rules of counts and no I/O; `ticketlock-client` has the lock and knows
//! nothing of content; this crate brings them together, and the lock server never hears of a count.
//!
//! Invariants:
//! - Content appears whole or not at all: it is checked, synced, and then renamed to its place.
//! - Order: content is visible before it is counted; the count goes before the content does.
//! - Who has lost its lock makes nothing visible: the next holder removes its partial file, and so its rename fails.
//! - All operations on one resource take one lock, whose key names the kind of resource and never the operation.
//!
//! Counts are kept beside the content by default ([`FileStorage`]) and shared by all nodes that share the directory, so
//! that they agree by themselves. A node may keep counts of its own: then the count after the grant says nothing of the
//! others, and what the previous holder handed over does (`Outcome` of `ticketlock-client`), checked against what is
//! there. With counts of one's own, [`Node::delete`] looks at those alone: only delete what nobody shares.
//!
//! Three places for counts were considered. A: in the lock server, which would skip by them. Not built: the server would
//! keep, and agree on, what is no lock, under rules that belong to the content. B: beside the content, as above; the
//! default. C: in a service of its own, for nodes that share no directory of counts: feature `service`, another process on
//! another port, which keeps records and decides nothing.
//!
//! Read [`Node`] for the flow, [`Writer`] for writing, [`cluster_lock`] for the lock alone.

mod cluster;
mod config;
mod counts;
mod digest;
mod directory;
mod error;
mod names;
mod node;
mod partial;
#[cfg(feature = "service")]
pub mod service;
mod take;
mod writer;

pub use cluster::{Cluster, cluster_lock};
pub use config::ClientConfig;
pub use counts::FileStorage;
pub use digest::{Digest, DigestError};
pub use error::Error;
pub use names::{KIND_BYTES_MAX, lock_key};
pub use node::{LockResult, Node, NodeBuilder, Skipped};
pub use take::Opening;
pub use ticketlock_client as client;
pub use ticketlock_refcount as refcount;
pub use writer::{Committed, Progress, Writer};
