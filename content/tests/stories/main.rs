//! Nodes that share content, on a real server, with real files and real processes.

#![expect(clippy::expect_used, reason = "tests")]

mod chores;
mod counts;
mod layout;
mod pulls;
mod repeats;
mod retries;
mod service;
mod shared;
mod world;
mod writer;
