//! All randomness of the server: store ids, boot ids, hash seeds, jitter.
//!
//! A seeded source gives the same numbers again, so that a run can be replayed.

use std::sync::Arc;
use std::time::Duration;

use crate::sync::Mutex;

/// A shared source of random numbers.
#[derive(Clone)]
pub struct IdSource {
    /// Where the numbers come from.
    source: Arc<Mutex<Source>>,
}

/// One of two origins.
enum Source {
    /// The operating system.
    System,
    /// A seed: the state of a SplitMix64 generator (Steele, Lea, Flood 2014).
    Seeded(u64),
}

impl IdSource {
    /// Draws from the operating system.
    #[must_use]
    pub fn system() -> Self {
        Self {
            source: Arc::new(Mutex::new(Source::System)),
        }
    }

    /// Draws the same numbers at each run; for tests and simulation.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            source: Arc::new(Mutex::new(Source::Seeded(seed))),
        }
    }

    /// 64 random bits.
    ///
    /// # Panics
    /// Where the operating system has no randomness to give: an id that others can guess is worse than no server.
    #[must_use]
    pub fn draw(&self) -> u64 {
        match &mut *self.source.lock() {
            Source::System => match getrandom::u64() {
                Ok(bits) => bits,
                Err(error) => panic!("the operating system gives no randomness: {error}"),
            },
            Source::Seeded(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut bits = *state;
                bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                bits ^ (bits >> 31)
            }
        }
    }

    /// 128 random bits.
    #[must_use]
    pub fn draw_id(&self) -> [u8; 16] {
        ((u128::from(self.draw()) << 64) | u128::from(self.draw())).to_be_bytes()
    }

    /// Between half of `duration` and all of it.
    #[must_use]
    pub fn jitter(&self, duration: Duration) -> Duration {
        let half = duration / 2;
        let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        half + Duration::from_nanos(self.draw() % nanos.max(1))
    }
}

impl std::fmt::Debug for IdSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("IdSource")
    }
}
