//! Reference counts as a service of their own: option C, for nodes that share no directory of counts. With the feature
//! `service`.
//!
//! [`serve`] answers for any storage of counts, a [`FileStorage`](crate::FileStorage) in practice; [`RemoteStorage`] is a
//! storage that asks it, which a node takes by [`NodeBuilder::counts`](crate::NodeBuilder::counts). It keeps records and
//! decides nothing: the rules stay with the nodes. It knows nothing of locks, and the lock server has no part of it; that
//! it may run on the same machine is all that the two have in common. It asks nobody who they are: let only the nodes
//! reach its port.
//!
//! ```no_run
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! use ticketlock_content::{ClientConfig, FileStorage, Node, service};
//!
//! // In one place:
//! let listener = tokio::net::TcpListener::bind("10.0.0.7:8477").await?;
//! service::serve(FileStorage::open("/var/lib/counts")?, listener, std::future::pending()).await?;
//!
//! // On each node:
//! let config = ClientConfig::new("http://10.0.0.7:8476", "node-7");
//! let counts = service::RemoteStorage::new("http://10.0.0.7:8477")?;
//! let node = Node::builder(config, "/var/lib/layers").counts(counts).open()?;
//! # Ok(()) }
//! ```
//!
//! Invariants:
//! - What a call answered is kept as the storage behind it keeps it; nothing is kept here.
//! - Names and numbers beyond the limits of `ticketlock-refcount` reach no storage.

mod remote;
mod serve;

pub use remote::RemoteStorage;
pub use serve::serve;

/// The generated code: messages, the client's stub, the server's trait. The `.proto` file in `proto/` is the reference.
#[expect(
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
pub mod v1 {
    tonic::include_proto!("ticketlock.refcount.v1");
}

/// Bound: the longest message, in bytes. Two records of the greatest size fit, with all that goes around them.
const MESSAGE_BYTES_MAX: usize = 6 * 1024 * 1024;

/// Why there is no service, or no way to one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The address cannot be one.
    #[error("url: {url:?}, expected http://HOST:PORT")]
    Url {
        /// What was given.
        url: String,
    },
    /// The system gave no thread, or what a runtime needs.
    #[error("starting a thread for calls: {0}")]
    Thread(std::io::Error),
    /// Serving failed.
    #[error("serving counts: {0}")]
    Serve(tonic::transport::Error),
}
