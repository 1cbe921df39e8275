//! Goal: each example does what its first comment says: run as processes, several at once, against a real server, ended
//! by signals and by `kill -9`; and all that one client does goes over one connection.

#![expect(clippy::expect_used, reason = "tests")]

mod connection;
mod demos;
mod failures;
mod scenes;
mod service;
mod stage;
