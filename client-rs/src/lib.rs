//! Client of Ticketlock, a fair distributed lock service.
//!
//! A [`Client`] takes tickets; a [`Guard`] is a lock that is held. The server pushes the place in line and the grant:
//! nobody polls. Locks are leased and renewed in the background, and each has a fencing token.
//!
//! ```no_run
//! use std::time::Duration;
//! use ticketlock_client::{Client, Error, Outcome, Unlocked};
//!
//! # async fn work(_token: u64) {}
//! async fn nightly() -> Result<(), Error> {
//!     let client = Client::connect("http://127.0.0.1:8476").await?;
//!     let guard = client.lock("jobs/nightly").ttl(Duration::from_secs(15)).wait(Duration::from_secs(600)).await?;
//!     tokio::select! {
//!         biased;
//!         reason = guard.lost() => eprintln!("stop: {reason}"),
//!         () = work(guard.fencing_token()) => {}
//!     }
//!     match guard.unlock(Outcome::success()).await? {
//!         Unlocked::Unlocked => {}
//!         Unlocked::AlreadyLost(reason) => eprintln!("was lost: {reason}"),
//!     }
//!     Ok(())
//! }
//! ```
//!
//! What holds:
//! - [`Guard::is_held`] is true only while the server's promise covers the present, on a clock that counts suspend.
//! - A dropped guard is given back; a dropped [`lock`](Client::lock) future leaves the line. [`Client::flush`] waits
//!   for both.
//! - After an ambiguous error a lock's state is [`State::Unknown`], never `Unlocked`.
//!
//! Inside: all locks of a client share one stream (`session`), whose task writes down what each guard may believe.
//! Where long two-way streams do not pass ([`ClientBuilder::plain_streams`]), each ticket has a stream and a task of its
//! own (`driver`). Nothing is cancelled by dropping a stream, because HTTP/2 stacks count that against the connection.

pub mod backend;
pub mod blocking;
mod calls;
mod client;
mod clock;
mod convert;
mod driver;
mod error;
#[cfg(feature = "serde")]
pub mod format;
mod guard;
pub mod leased;
mod lock;
pub mod locker;
mod many;
mod pool;
pub mod provider;
mod runtime;
#[doc(hidden)]
pub mod seams;
mod session;
mod types;
mod view;

pub use backend::ConfigError;
pub use calls::{Backup, Watch};
pub use client::{Client, ClientBuilder};
pub use error::{Error, Failure, FailureKind};
pub use guard::{Guard, GuardEvent, GuardEvents};
pub use lock::{LockBuilder, Locking, TryLockBuilder};
pub use types::*;
