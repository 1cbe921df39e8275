//! Refuses what a holder writes that has lost its lock: for files, SQL, and object stores.
//!
//! A lock service cannot stop a client that was paused for longer than its lease from waking up and writing. Only the
//! data can: each grant carries a fencing token, strictly greater than every earlier one of its key, and a resource
//! that remembers what it saw refuses what is older. This crate is that memory, for three kinds of resources:
//!
//! | resource | adapter | where the record is | what makes it one step |
//! |---|---|---|---|
//! | a local file | [`file::FencedFile`] | in a file beside it | a lock of the file system, and renames |
//! | a row, or a transaction | [`sql::SqlFence`] | in a column | a condition of the `UPDATE`, and the row's lock |
//! | an object | `object::FencedObject` | in the object's first line | `If-Match` and `If-None-Match` |
//!
//! Objects need the feature `object-store`. How it is used, whatever the resource: take the lock, make a [`Fence`] of
//! its grant (with the feature `client`, by `Fence::try_from(&guard)`), and bring it along with every request, reads
//! too. A read shows the token, so that what an older holder writes after it is refused instead of being lost with the
//! reader's own write. On [`Error::Stale`] the lock is lost: take it again, and read again.
//!
//! ```no_run
//! use ticketlock_client::Client;
//! use ticketlock_fencing::Fence;
//! use ticketlock_fencing::file::FencedFile;
//!
//! # async fn add_one() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("http://127.0.0.1:8476").await?;
//! let guard = client.lock("counter").await?;
//! let fence = Fence::try_from(&guard)?;
//! let counter = FencedFile::open("/var/lib/app/counter")?;
//! // Both may block on the disk; a service calls them where blocking is allowed.
//! let count: u64 = String::from_utf8(counter.read(fence)?)?.parse().unwrap_or(0);
//! counter.write(fence, (count + 1).to_string().as_bytes())?;
//! # Ok(()) }
//! ```
//!
//! What holds, for each adapter:
//! - A request is let in if its token is at least the highest `lowest_valid` that the resource saw, and never
//!   otherwise.
//! - What was seen is as durable as what is written, and never less.
//! - The same token is accepted again, so that a holder can make many requests.
//!
//! What does not: tokens of different keys say nothing about each other, so one resource is guarded by one key. Each
//! request is fenced by itself: what a holder wrote before its pause stays. A token proves order, not honesty: it
//! guards against pauses, and not against programs that lie. Whoever removes a record removes the guard.
//!
//! The crate knows no server, and nothing of leases or time. Start reading at [`Fence::admit`], which is the one rule.

mod error;
mod fence;
pub mod file;
#[cfg(feature = "object-store")]
pub mod object;
mod record;
pub mod sql;

pub use error::Error;
pub use fence::{Fence, TOKEN_MAX};
