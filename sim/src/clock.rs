//! Clocks and ids of simulated clients.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ticketlock_client::seams::{Clock, Random};

/// Since the simulation began; the same on every host.
#[derive(Clone, Copy, Debug)]
pub struct SimClock;

thread_local!(static LAST: RefCell<Duration> = const { RefCell::new(Duration::ZERO) });

impl SimClock {
    /// A simulation begins on this thread.
    pub fn begin() -> Self {
        LAST.take();
        Self
    }
}

impl Clock for SimClock {
    fn now(&self) -> Duration {
        // What is dropped at the end of a host runs outside of it: then the last instant has to do.
        LAST.with_borrow_mut(|last| {
            *last = turmoil::sim_elapsed().unwrap_or(*last);
            *last
        })
    }
}

/// A client's own clock: it runs at a rate of its own, and counts the time that its machine was suspended.
#[derive(Debug)]
pub struct OwnClock {
    /// So many millionths faster or slower.
    drift: i32,
    suspended_micros: AtomicU64,
}

impl OwnClock {
    /// Rates of two clocks may differ by one percent: half of it each.
    pub const DRIFT_MAX: u32 = 5_000;

    /// A clock with this drift in millionths.
    #[must_use]
    pub fn new(drift: i32) -> Arc<Self> {
        Arc::new(Self {
            drift,
            suspended_micros: AtomicU64::new(0),
        })
    }

    /// Its machine was suspended for so long: nothing ran, and the time passed.
    pub fn suspended(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or_default();
        self.suspended_micros.fetch_add(micros, Ordering::Relaxed);
    }
}

impl Clock for OwnClock {
    fn now(&self) -> Duration {
        let rate = 1.0 + f64::from(self.drift) / 1e6;
        SimClock.now().mul_f64(rate) + Duration::from_micros(self.suspended_micros.load(Ordering::Relaxed))
    }
}

/// Ids that come again with the same seed.
#[derive(Debug)]
pub struct SimRandom(pub ticketlock_verify::Random);

impl Random for SimRandom {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            for (byte, drawn) in chunk.iter_mut().zip(self.0.draw().to_le_bytes()) {
                *byte = drawn;
            }
        }
    }
}
