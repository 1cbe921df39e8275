//! Goal: what applications embed keeps its word on every store that there is: the lock component, the provider with its
//! workflow locks, lock objects, elections. Each story runs against a server over TCP, and inside the process with the
//! memory store and the file store.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod config;
#[path = "../support/cuttable.rs"]
mod cuttable;
mod election;
mod leased;
mod left;
mod locker;
mod place;
mod provider;
mod renewal;
mod time;
