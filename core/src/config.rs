//! The machine's constants, all with their defaults.

use core::time::Duration;

/// Bounds and spans of a shard. The shell validates requests; the machine holds what only it can see.
#[derive(Clone, Debug)]
pub struct Config {
    /// An unacknowledged grant on a session is withdrawn after this.
    pub ack_timeout: Duration,
    /// A head whose stream is away is waited for so long, once per ticket.
    pub away_wait: Duration,
    /// After recovery, stream-bound holds and waiters have so long to come back.
    pub recovery_grace: Duration,
    /// Abnormal ends answer repeats for so long.
    pub request_memory: Duration,
    /// Bound: remembered ends per shard; the oldest goes first.
    pub ends_max: usize,
    /// Bound: tickets in line per key.
    pub waiters_max: u32,
    /// Bound: claims per hold.
    pub claims_max: u32,
    /// Bound: due timers and grants handled in one step; the rest goes on in the next.
    pub batch_max: usize,
    /// Queue and contention updates of one key are at least so far apart.
    pub sweep_interval: Duration,
    /// A turn that comes later than its deadline by more than this was a stall (T1).
    pub stall: Duration,
    /// Seed of the hash maps, so that a run can be repeated.
    pub hash_seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ack_timeout: Duration::from_secs(1),
            away_wait: Duration::from_secs(1),
            recovery_grace: Duration::from_secs(10),
            request_memory: Duration::from_secs(60),
            ends_max: 10_000,
            waiters_max: 100_000,
            claims_max: 1_000,
            batch_max: 256,
            sweep_interval: Duration::from_secs(1),
            stall: Duration::from_secs(1),
            hash_seed: 0,
        }
    }
}
