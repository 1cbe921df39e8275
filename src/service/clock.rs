//! The only caller of `now()`.
//!
//! Decisions are made on the runtime's monotonic clock, so that a test or a simulation that stops or turns it has the
//! whole server in its hand. The wall clock is read in one function, for the memory store's counter, and nobody
//! decides by it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ticketlock_core::planted::{Bug, planted};
use ticketlock_core::types::Time;
use tokio::time::Instant;

use crate::sync::sleep_until;

/// The server's clock: nanoseconds since it was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Where [`Time`] begins.
    origin: Instant,
}

impl Clock {
    /// A clock that begins now.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "two clocks differ: which one is meant is always said"
    )]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }

    /// The present instant; never earlier than one that was told before.
    #[must_use]
    pub fn now(&self) -> Time {
        if planted(Bug::WallClock) {
            return Time(unix_seconds().saturating_mul(1_000_000_000));
        }
        Time(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Waits until `deadline`; [`Time::NEVER`] and what is centuries ahead never come.
    pub async fn sleep_until(&self, deadline: Time) {
        if deadline <= self.now() {
            return;
        }
        match self.origin.checked_add(Duration::from_nanos(deadline.0)) {
            Some(instant) if deadline != Time::NEVER => sleep_until(instant).await,
            _ => std::future::pending().await,
        }
    }

    /// Waits for `duration`.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now().after(duration)).await;
    }
}

/// Seconds since 1970 on the wall clock; 0 where it says it is earlier.
#[must_use]
pub fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
