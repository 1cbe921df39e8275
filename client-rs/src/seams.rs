//! What a simulation replaces: the clock, the source of ids, and how a connection is made.
//!
//! Not part of the stable interface. Nothing else in this crate draws a random number or opens a socket; the clock of
//! production is in `clock`.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

pub use crate::clock::BootClock;

/// Tells the time since some fixed instant. It must count the time that a machine spends suspended.
pub trait Clock: Send + Sync + 'static {
    /// Never goes backwards.
    fn now(&self) -> Duration;
}

/// Makes request ids and jitter.
pub trait Random: Send + Sync + 'static {
    /// Fills `bytes`; ids that repeat would join two requests into one.
    fn fill(&self, bytes: &mut [u8]);
}

/// A connection's two directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// What a [`Dial`] answers.
pub type Dialed = Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send>>;

/// Opens a connection to an endpoint's host and port.
pub type Dial = Arc<dyn Fn(String, u16) -> Dialed + Send + Sync>;

/// The operating system's random numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    fn fill(&self, bytes: &mut [u8]) {
        // Invariant: an id that is not random could name somebody else's request, so there is no way on without.
        #[expect(clippy::expect_used, reason = "see the invariant above")]
        getrandom::fill(bytes).expect("the system gives random numbers");
    }
}
