//! The rules of Ticketlock as a pure machine.
//!
//! A [`Shard`] is told what happened ([`Shard::apply`] with a [`Command`], [`Shard::expire_due`] when
//! [`Shard::next_deadline`] has come) and at what time, and fills an [`Output`] with changes for a store and effects for
//! the world. It does no I/O, reads no clock, starts no task and rolls no dice: time is an argument, the hash seed
//! is configuration, and the same calls give the same output.
//!
//! Who drives it keeps this order: apply, commit [`Output::changes`], then carry out [`Output::effects`] and show the
//! [`Reply`]; then tell [`Shard::pushed`] about [`Output::granted`], because leases run from the push. When a commit
//! fails, the shard is dropped and made anew with [`Shard::recover`]. Calls with an earlier time than the call before
//! are a bug of the driver.
//!
//! Start reading at [`shard`]; the vocabulary is in [`types`].

#![no_std]

extern crate alloc;

pub mod command;
pub mod config;
pub mod output;
#[doc(hidden)]
pub mod planted;
pub mod record;
pub mod shard;
pub mod sharding;
pub mod types;

pub use command::Command;
pub use command::Reply;
pub use config::Config;
pub use output::Output;
pub use shard::Shard;
