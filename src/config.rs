//! What can be tuned: one struct per server, with a default for every field. It knows no flag, no file and no
//! environment: who starts a server fills it in.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ticketlock_core::sharding::ShardCount;

/// How a server runs.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where gRPC is served. Default `127.0.0.1:8476`.
    pub listen: SocketAddr,
    /// Where `/metrics`, `/healthz` and `/readyz` are served; `None`: nowhere. Default `127.0.0.1:8477`.
    pub http: Option<SocketAddr>,
    /// Whether anything is counted for `/metrics`. Default: yes.
    pub metrics: bool,
    /// How many shards; fixed for the life of a store. Default 32.
    pub shards: ShardCount,
    /// A connection that was silent for so long is pinged. Default 10 s.
    pub keepalive_interval: Duration,
    /// A ping that is not answered for so long ends the connection. Default 5 s.
    pub keepalive_timeout: Duration,
    /// From the first signal to the end of the last stream at most. Default 10 s.
    pub shutdown_within: Duration,
    /// A shard that could not be taken is tried again after this, then twice that, and so on. Default 50 ms.
    pub retake_first: Duration,
    /// The longest pause between two tries to take a shard. Default 2 s.
    pub retake_max: Duration,
    /// What is refused or shed.
    pub limits: Limits,
    /// The constants of the rules. Its hash seed is drawn at start.
    pub core: ticketlock_core::Config,
    /// For tests: the rules panic on commands for this key. Default `None`.
    pub plant_panic_key: Option<String>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8476)),
            http: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 8477))),
            metrics: true,
            shards: default_shards(),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
            shutdown_within: Duration::from_secs(10),
            retake_first: Duration::from_millis(50),
            retake_max: Duration::from_secs(2),
            limits: Limits::default(),
            core: ticketlock_core::Config::default(),
            plant_panic_key: None,
        }
    }
}

/// 32 shards.
fn default_shards() -> ShardCount {
    match ShardCount::new(32) {
        Some(count) => count,
        None => unreachable!("32 is a power of two"),
    }
}

/// Bounds that the shell holds. Waiters per key and claims per hold are bounds of the rules: [`ServerConfig::core`].
#[derive(Clone, Debug)]
pub struct Limits {
    /// Length of a key in bytes. Default 512.
    pub key_bytes_max: usize,
    /// Length of an owner in bytes. Default 256.
    pub owner_bytes_max: usize,
    /// Keys and values of one metadata map together, in bytes. Default 1 KiB.
    pub metadata_bytes_max: usize,
    /// Length of an outcome's note in bytes. Default 256.
    pub note_bytes_max: usize,
    /// Length of an operator's name or reason in bytes. Default 256.
    pub reason_bytes_max: usize,
    /// The shortest lease. Default 100 ms.
    pub ttl_min: Duration,
    /// The longest lease, and the longest `max_hold`. Default 24 h.
    pub ttl_max: Duration,
    /// The lease where none was asked for. Default 30 s.
    pub ttl_default: Duration,
    /// The longest grace. Default 1 h.
    pub grace_max: Duration,
    /// The grace where none was asked for. Default 10 s.
    pub grace_default: Duration,
    /// The longest lock-delay. Default 60 s.
    pub lock_delay_max: Duration,
    /// Permits of a key. Default 1,000,000.
    pub permits_max: u32,
    /// Locks held over one connection. Default 10,000.
    pub locks_per_connection_max: u32,
    /// Waiters over one connection. Default 10,000.
    pub waiters_per_connection_max: u32,
    /// A request message in bytes. Default 64 KiB.
    pub request_bytes_max: usize,
    /// A reply in bytes; longer ones are paged or split. Default 1 MiB.
    pub reply_bytes_max: usize,
    /// Keys per page, waiters shown per key, items per renewal. Default 1,000.
    pub page_max: usize,
    /// Keys per page where none was asked for. Default 100.
    pub page_default: usize,
    /// Open connections. Default 20,000.
    pub connections_max: u32,
    /// A request's headers in bytes. Default 16 KiB.
    pub header_list_bytes_max: u32,
    /// Unread bytes of one stream's outbox. Default 4 MiB.
    pub outbox_bytes_max: usize,
    /// HTTP/2 streams per connection. Default 256.
    pub streams_per_connection_max: u32,
    /// Streams of a connection that stay free for unary calls. Default 16.
    pub streams_reserved: u32,
    /// Unread events of one watcher; beyond it the shard concerned is told anew. Default 4,096.
    pub watch_events_max: usize,
    /// Commands of one shard that wait for a commit; beyond it new ones are shed. Default 100,000.
    pub held_per_shard_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            key_bytes_max: 512,
            owner_bytes_max: 256,
            metadata_bytes_max: 1024,
            note_bytes_max: 256,
            reason_bytes_max: 256,
            ttl_min: Duration::from_millis(100),
            ttl_max: Duration::from_secs(24 * 3600),
            ttl_default: Duration::from_secs(30),
            grace_max: Duration::from_secs(3600),
            grace_default: Duration::from_secs(10),
            lock_delay_max: Duration::from_secs(60),
            permits_max: 1_000_000,
            locks_per_connection_max: 10_000,
            waiters_per_connection_max: 10_000,
            request_bytes_max: 64 * 1024,
            reply_bytes_max: 1024 * 1024,
            page_max: 1_000,
            page_default: 100,
            connections_max: 20_000,
            header_list_bytes_max: 16 * 1024,
            outbox_bytes_max: 4 * 1024 * 1024,
            streams_per_connection_max: 256,
            streams_reserved: 16,
            watch_events_max: 4_096,
            held_per_shard_max: 100_000,
        }
    }
}
