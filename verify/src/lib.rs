//! Loads a server through the public client, records what its clients see, and checks it against what is promised.
//!
//! [`Recorder`] writes down what happens, [`Worker`] is what clients do, [`Link`] knows when one of them was away. The
//! checks are `ticketlock-history`'s. `ticketlock verify` and the simulation run the same workers, so they find the same
//! defects. Nothing here reads a clock or draws a number of its own: both are given.

mod link;
mod random;
mod recorder;
mod worker;

pub use link::Link;
pub use random::Random;
pub use recorder::{Checked, Found, Recorder, Story};
pub use worker::{Plan, Worker};
