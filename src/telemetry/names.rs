//! Every metric of the server, in one table: the code, `docs/metrics.md` and the dashboard are held to this list.
//!
//! Base units; counters end in `_total`. No key and no owner is a label: a label's values are few and fixed.

/// What kind of series a metric is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations into buckets with these upper bounds; `_bucket`, `_sum` and `_count` are appended.
    Histogram(&'static [f64]),
}

/// What is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Seconds.
    Seconds,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// As scraped.
    pub name: &'static str,
    /// What kind of series.
    pub kind: Kind,
    /// In their order.
    pub labels: &'static [&'static str],
    /// What its values count.
    pub unit: Unit,
    /// One sentence for readers.
    pub help: &'static str,
}

/// From tens of microseconds to seconds: what a request or a hand-off takes.
const FAST_SECONDS: &[f64] = &[
    0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

/// From a millisecond to a day: what people and jobs take.
const SLOW_SECONDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1_800.0, 3_600.0, 14_400.0,
    86_400.0,
];

/// Sizes of batches.
const SIZES: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1_024.0, 4_096.0, 16_384.0,
];

/// Requests for a lock that came to an answer.
pub const ACQUISITIONS: Metric = Metric {
    name: "ticketlock_acquisitions_total",
    kind: Kind::Counter,
    labels: &["mode", "outcome"],
    unit: Unit::Count,
    help: "Lock requests by mode and by how their wait ended: granted, would_wait, wait_timeout, cancelled, not_held, \
           disconnected.",
};

/// Grants that had to wait.
pub const CONTENDED_ACQUISITIONS: Metric = Metric {
    name: "ticketlock_contended_acquisitions_total",
    kind: Kind::Counter,
    labels: &["mode"],
    unit: Unit::Count,
    help: "Grants that had to wait in line first.",
};

/// Time in line.
pub const WAIT: Metric = Metric {
    name: "ticketlock_wait_seconds",
    kind: Kind::Histogram(SLOW_SECONDS),
    labels: &["mode"],
    unit: Unit::Seconds,
    help: "Time from taking a ticket to its grant; 0 where it was granted at once.",
};

/// Time of a hold.
pub const HOLD: Metric = Metric {
    name: "ticketlock_hold_seconds",
    kind: Kind::Histogram(SLOW_SECONDS),
    labels: &["mode"],
    unit: Unit::Seconds,
    help: "How long a hold lasted, however it ended.",
};

/// Hand-off latency.
pub const HANDOFF: Metric = Metric {
    name: "ticketlock_handoff_seconds",
    kind: Kind::Histogram(FAST_SECONDS),
    labels: &[],
    unit: Unit::Seconds,
    help: "From the committed end of one hold to the moment when the next one's grant leaves on its stream.",
};

/// Tickets that hold.
pub const HOLDERS: Metric = Metric {
    name: "ticketlock_holders",
    kind: Kind::Gauge,
    labels: &[],
    unit: Unit::Count,
    help: "Tickets that hold a lock now.",
};

/// Tickets that wait.
pub const WAITERS: Metric = Metric {
    name: "ticketlock_waiters",
    kind: Kind::Gauge,
    labels: &[],
    unit: Unit::Count,
    help: "Tickets that wait in line now.",
};

/// Keys that exist.
pub const KEYS: Metric = Metric {
    name: "ticketlock_keys",
    kind: Kind::Gauge,
    labels: &[],
    unit: Unit::Count,
    help: "Keys that somebody holds or waits for, or that have a delay or an outcome pending.",
};

/// Load of a shard.
pub const SHARD_TICKETS: Metric = Metric {
    name: "ticketlock_shard_tickets",
    kind: Kind::Gauge,
    labels: &["shard", "state"],
    unit: Unit::Count,
    help: "Tickets of each shard by state: holding, waiting.",
};

/// Holds that ended without their unlock.
pub const LOSSES: Metric = Metric {
    name: "ticketlock_losses_total",
    kind: Kind::Counter,
    labels: &["reason"],
    unit: Unit::Count,
    help: "Holds that ended without their own unlock: expired, disconnected, revoked, max_hold, not_acked.",
};

/// Renewals that clients asked for.
pub const RENEWALS: Metric = Metric {
    name: "ticketlock_renewals_total",
    kind: Kind::Counter,
    labels: &["outcome"],
    unit: Unit::Count,
    help: "Renewals that clients asked for, by answer: renewed, not_held, invalid_ttl.",
};

/// Unlocks that clients asked for.
pub const UNLOCKS: Metric = Metric {
    name: "ticketlock_unlocks_total",
    kind: Kind::Counter,
    labels: &["outcome"],
    unit: Unit::Count,
    help: "Unlocks that clients asked for, by answer: released, cancelled, already_released, not_found, lock_by_other.",
};

/// Long-lived streams.
pub const LIVE_STREAMS: Metric = Metric {
    name: "ticketlock_live_streams",
    kind: Kind::Gauge,
    labels: &["rpc"],
    unit: Unit::Count,
    help: "Open long-lived streams: Lock, Session, WatchLocks.",
};

/// Open connections.
pub const CONNECTIONS: Metric = Metric {
    name: "ticketlock_connections",
    kind: Kind::Gauge,
    labels: &[],
    unit: Unit::Count,
    help: "Open gRPC connections.",
};

/// Connections over the limit.
pub const CONNECTIONS_REFUSED: Metric = Metric {
    name: "ticketlock_connections_refused_total",
    kind: Kind::Counter,
    labels: &[],
    unit: Unit::Count,
    help: "Connections that were closed at once, because so many are open already.",
};

/// Latency of commits.
pub const COMMIT: Metric = Metric {
    name: "ticketlock_commit_seconds",
    kind: Kind::Histogram(FAST_SECONDS),
    labels: &[],
    unit: Unit::Seconds,
    help: "How long the store took for a commit.",
};

/// Size of commits.
pub const COMMIT_CHANGES: Metric = Metric {
    name: "ticketlock_commit_changes",
    kind: Kind::Histogram(SIZES),
    labels: &[],
    unit: Unit::Count,
    help: "Changes in one commit.",
};

/// Failures of the store.
pub const STORE_FAILURES: Metric = Metric {
    name: "ticketlock_store_failures_total",
    kind: Kind::Counter,
    labels: &["kind"],
    unit: Unit::Count,
    help: "Commits and takes that the store did not do: fenced, unavailable, unknown, corrupt.",
};

/// Time to recover.
pub const RECOVERY: Metric = Metric {
    name: "ticketlock_recovery_seconds",
    kind: Kind::Histogram(FAST_SECONDS),
    labels: &[],
    unit: Unit::Seconds,
    help: "From when a shard stopped answering (or the server started) to when it answered again.",
};

/// Broken invariants.
pub const PANICS: Metric = Metric {
    name: "ticketlock_panics_total",
    kind: Kind::Counter,
    labels: &[],
    unit: Unit::Count,
    help: "Times that the rules broke an invariant and their shard was made anew: each one is a bug.",
};

/// Latency of requests.
pub const REQUEST: Metric = Metric {
    name: "ticketlock_request_seconds",
    kind: Kind::Histogram(FAST_SECONDS),
    labels: &["rpc", "code"],
    unit: Unit::Seconds,
    help: "From a request to its answer, by call and code; for a stream, to the acceptance of its request.",
};

/// Refused requests.
pub const ERRORS: Metric = Metric {
    name: "ticketlock_errors_total",
    kind: Kind::Counter,
    labels: &["reason"],
    unit: Unit::Count,
    help: "Requests that ended with an error status, by the reason in its ErrorInfo.",
};

/// Whether the server is ready.
pub const READY: Metric = Metric {
    name: "ticketlock_ready",
    kind: Kind::Gauge,
    labels: &[],
    unit: Unit::Count,
    help: "1 while every shard answers and the server takes requests, else 0.",
};

/// What is running.
pub const BUILD_INFO: Metric = Metric {
    name: "ticketlock_build_info",
    kind: Kind::Gauge,
    labels: &["version"],
    unit: Unit::Count,
    help: "Always 1; the label says which release runs.",
};

/// Which store is behind it.
pub const STORE_INFO: Metric = Metric {
    name: "ticketlock_store_info",
    kind: Kind::Gauge,
    labels: &["store", "durability"],
    unit: Unit::Count,
    help: "Always 1; the labels say where records are kept, and what an acknowledgement is worth there.",
};

/// All of them.
pub const ALL: &[Metric] = &[
    ACQUISITIONS,
    CONTENDED_ACQUISITIONS,
    WAIT,
    HOLD,
    HANDOFF,
    HOLDERS,
    WAITERS,
    KEYS,
    SHARD_TICKETS,
    LOSSES,
    RENEWALS,
    UNLOCKS,
    LIVE_STREAMS,
    CONNECTIONS,
    CONNECTIONS_REFUSED,
    COMMIT,
    COMMIT_CHANGES,
    STORE_FAILURES,
    RECOVERY,
    PANICS,
    REQUEST,
    ERRORS,
    READY,
    BUILD_INFO,
    STORE_INFO,
];

#[cfg(test)]
mod tests {
    use super::{ALL, Kind, Unit};

    /// Goal: the table keeps its own rules: prefix, suffixes, help, sorted buckets, no name twice.
    #[test]
    fn names_follow_the_rules() {
        let mut seen = std::collections::BTreeSet::new();
        for metric in ALL {
            assert!(seen.insert(metric.name), "{} stands there twice", metric.name);
            assert!(metric.name.starts_with(concat!("ticketlock", "_")), "{}", metric.name);
            assert_eq!(
                metric.name.ends_with("_total"),
                metric.kind == Kind::Counter,
                "{}",
                metric.name
            );
            assert_eq!(
                metric.name.ends_with("_seconds"),
                metric.unit == Unit::Seconds,
                "{}",
                metric.name
            );
            assert!(
                metric.help.ends_with('.') && !metric.help.contains("  "),
                "{}",
                metric.name
            );
            assert!(
                !metric.labels.contains(&"key") && !metric.labels.contains(&"owner"),
                "{}",
                metric.name
            );
            if let Kind::Histogram(buckets) = metric.kind {
                assert!(buckets.is_sorted(), "{}", metric.name);
            }
        }
    }
}
