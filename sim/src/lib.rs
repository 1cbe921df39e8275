//! The whole of Ticketlock in one thread: the real server with its file store and the real client, on a simulated
//! network, clock and disk, with faults drawn from a seed. The same seed gives the same run, to the byte.
//!
//! A run has three parts. Clients do what `ticketlock verify` does while [`faults`] strike; then everything is mended and
//! all requests come to their end; then nothing may be left on the server. What clients saw is checked by
//! `ticketlock-history`, and what [`objects`] believe where they are granted a lock. A panic anywhere fails a run.
//!
//! What is simulated: [`net`], [`clock`], [`disk`]. Everything else is the code that ships.

pub mod clock;
pub mod disk;
pub mod faults;
pub mod net;
pub mod objects;
mod run;

pub use run::{Report, run};
