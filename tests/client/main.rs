//! Goal: what the client crate promises, against a real server on a real socket: nothing is left behind, in any state
//! of the runtime, and `is_held` is true only while it is promised. The same suite runs over both transports.

#![expect(
    clippy::expect_used,
    clippy::duplicate_mod,
    reason = "tests; one suite, two transports"
)]

#[path = "../support/cuttable.rs"]
mod cuttable;
#[path = "suite.rs"]
mod plain_streams;
#[path = "suite.rs"]
mod sessions;
