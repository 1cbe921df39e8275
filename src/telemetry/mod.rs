//! What the server tells of itself: counters, gauges and histograms for `/metrics`, and the log.
//!
//! [`names`] is the table of all metrics. A [`Telemetry`] belongs to one server, not to the process, so that several
//! servers in one process do not count into each other. It looks on and decides nothing; nothing here names a key or an
//! owner, except the log.

pub mod logging;
pub mod names;
mod observer;
mod recorder;

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram};
use ticketlock_core::command::UnlockReply;
use ticketlock_core::types::{Mode, Number, RefusedReason, Time};
use tonic::{Code, Status};

use crate::grpc::status::{ErrorReason, Failure};
use crate::service::{Clock, Service};
use crate::sync::{AtomicU64, DashMap, Ordering};
use recorder::Recorder;

/// The calls of the API, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rpc {
    /// `LockService.Lock`.
    Lock,
    /// `LockService.TryLock`.
    TryLock,
    /// `LockService.Session`.
    Session,
    /// `LockService.Unlock`.
    Unlock,
    /// `LockService.Renew`.
    Renew,
    /// `LockService.GetLock`.
    GetLock,
    /// `LockService.CheckToken`.
    CheckToken,
    /// `LockService.ListLocks`.
    ListLocks,
    /// `LockService.WatchLocks`.
    WatchLocks,
    /// `AdminService.ForceUnlock`.
    ForceUnlock,
    /// `AdminService.GetServerInfo`.
    GetServerInfo,
    /// `AdminService.Backup`.
    Backup,
    /// `AdminService.Drain`.
    Drain,
    /// Health, reflection, and what does not exist.
    Other,
}

impl Rpc {
    /// The call of a request's path.
    #[must_use]
    pub fn of_path(path: &str) -> Self {
        match path {
            "/ticketlock.v1.LockService/Lock" => Self::Lock,
            "/ticketlock.v1.LockService/TryLock" => Self::TryLock,
            "/ticketlock.v1.LockService/Session" => Self::Session,
            "/ticketlock.v1.LockService/Unlock" => Self::Unlock,
            "/ticketlock.v1.LockService/Renew" => Self::Renew,
            "/ticketlock.v1.LockService/GetLock" => Self::GetLock,
            "/ticketlock.v1.LockService/CheckToken" => Self::CheckToken,
            "/ticketlock.v1.LockService/ListLocks" => Self::ListLocks,
            "/ticketlock.v1.LockService/WatchLocks" => Self::WatchLocks,
            "/ticketlock.v1.AdminService/ForceUnlock" => Self::ForceUnlock,
            "/ticketlock.v1.AdminService/GetServerInfo" => Self::GetServerInfo,
            "/ticketlock.v1.AdminService/Backup" => Self::Backup,
            "/ticketlock.v1.AdminService/Drain" => Self::Drain,
            _ => Self::Other,
        }
    }

    /// Its label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Lock => "Lock",
            Self::TryLock => "TryLock",
            Self::Session => "Session",
            Self::Unlock => "Unlock",
            Self::Renew => "Renew",
            Self::GetLock => "GetLock",
            Self::CheckToken => "CheckToken",
            Self::ListLocks => "ListLocks",
            Self::WatchLocks => "WatchLocks",
            Self::ForceUnlock => "ForceUnlock",
            Self::GetServerInfo => "GetServerInfo",
            Self::Backup => "Backup",
            Self::Drain => "Drain",
            Self::Other => "other",
        }
    }
}

/// Commits with fewer changes than this that took no time are only counted: they are most of a memory store's.
const INSTANT_CHANGES: usize = 16;

/// How an unlock may be answered.
const UNLOCK_LABELS: [&str; 5] = [
    "released",
    "cancelled",
    "already_released",
    "not_found",
    "lock_by_other",
];

/// The counters of one mode.
struct ModeSeries {
    /// Grants.
    granted: Counter,
    /// Grants that had to wait.
    contended: Counter,
    /// Time in line.
    wait: Histogram,
    /// Grants without a wait since the last upkeep.
    at_once: AtomicU64,
    /// Time of holds.
    hold: Histogram,
}

/// Everything that one server counts.
pub struct Telemetry {
    /// Makes and renders series.
    recorder: Recorder,
    /// Whether anything is counted.
    counting: bool,
    /// Whose time counts.
    clock: Clock,
    /// By mode.
    exclusive: ModeSeries,
    /// By mode.
    shared: ModeSeries,
    /// By mode.
    permits: ModeSeries,
    /// Hand-off latency.
    handoff: Histogram,
    /// Grants that took over from a hold and have not left yet: (shard, ticket), and when the hold before ended.
    handoffs: DashMap<(u32, Number), Time>,
    /// Unlocks by answer, in the order of [`UNLOCK_LABELS`].
    unlocks: [Counter; UNLOCK_LABELS.len()],
    /// Renewals by answer.
    renewals: [Counter; 3],
    /// Open `Lock` streams.
    lock_streams: Gauge,
    /// Open `Session` streams.
    session_streams: Gauge,
    /// Open `WatchLocks` streams.
    watch_streams: Gauge,
    /// Open connections.
    connections: Gauge,
    /// Connections over the limit.
    connections_refused: Counter,
    /// Commits that took no time, by their number of changes, since the last upkeep.
    instant_commits: [AtomicU64; INSTANT_CHANGES],
    /// Latency of commits.
    commit: Histogram,
    /// Size of commits.
    commit_changes: Histogram,
    /// Time to recover.
    recovery: Histogram,
    /// Broken invariants.
    panics: Counter,
    /// Latency of requests, as they come.
    requests: DashMap<(Rpc, i32), Histogram>,
}

impl Telemetry {
    /// Nothing counted yet. Every series with a fixed label is there from the start, at zero. Unless `counting`, only
    /// the log is written.
    #[must_use]
    pub fn new(clock: Clock, counting: bool) -> Arc<Self> {
        let recorder = Recorder::new(counting);
        recorder.prepare();
        let mode = |mode: &'static str| ModeSeries {
            granted: recorder.counter(&names::ACQUISITIONS, &[mode, "granted"]),
            contended: recorder.counter(&names::CONTENDED_ACQUISITIONS, &[mode]),
            wait: recorder.histogram(&names::WAIT, &[mode]),
            at_once: AtomicU64::new(0),
            hold: recorder.histogram(&names::HOLD, &[mode]),
        };
        recorder
            .gauge(&names::BUILD_INFO, &[env!("CARGO_PKG_VERSION")])
            .set(1.0);
        Arc::new(Self {
            counting,
            clock,
            exclusive: mode("exclusive"),
            shared: mode("shared"),
            permits: mode("permits"),
            handoff: recorder.histogram(&names::HANDOFF, &[]),
            handoffs: DashMap::default(),
            unlocks: UNLOCK_LABELS.map(|label| recorder.counter(&names::UNLOCKS, &[label])),
            renewals: [Renewal::Renewed, Renewal::NotHeld, Renewal::InvalidTtl]
                .map(|outcome| recorder.counter(&names::RENEWALS, &[outcome.label()])),
            lock_streams: recorder.gauge(&names::LIVE_STREAMS, &[Rpc::Lock.label()]),
            session_streams: recorder.gauge(&names::LIVE_STREAMS, &[Rpc::Session.label()]),
            watch_streams: recorder.gauge(&names::LIVE_STREAMS, &[Rpc::WatchLocks.label()]),
            connections: recorder.gauge(&names::CONNECTIONS, &[]),
            connections_refused: recorder.counter(&names::CONNECTIONS_REFUSED, &[]),
            instant_commits: [const { AtomicU64::new(0) }; INSTANT_CHANGES],
            commit: recorder.histogram(&names::COMMIT, &[]),
            commit_changes: recorder.histogram(&names::COMMIT_CHANGES, &[]),
            recovery: recorder.histogram(&names::RECOVERY, &[]),
            panics: recorder.counter(&names::PANICS, &[]),
            requests: DashMap::default(),
            recorder,
        })
    }

    /// The present instant, to measure from.
    #[must_use]
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// A call was answered.
    pub fn answered(&self, rpc: Rpc, code: Code, started: Time) {
        let took = self.clock.now().since(started);
        let series = (rpc, i32::from(code));
        if let Some(latency) = self.requests.get(&series) {
            latency.record(took);
            return;
        }
        let latency = self
            .recorder
            .histogram(&names::REQUEST, &[rpc.label(), code_label(code)]);
        latency.record(took);
        self.requests.insert(series, latency);
    }

    /// A call ends with an error: counts its reason, and gives its status.
    #[must_use]
    pub fn failed(&self, failure: Failure) -> Status {
        self.count_failure(failure.reason);
        failure.into()
    }

    /// A call of a session ends with an error.
    pub fn count_failure(&self, reason: ErrorReason) {
        self.recorder.counter(&names::ERRORS, &[reason.name()]).increment(1);
    }

    /// A request was refused at once, without a ticket.
    pub fn refused(&self, mode: Mode, reason: RefusedReason) {
        self.recorder
            .counter(&names::ACQUISITIONS, &[mode_label(mode), refused_label(reason)])
            .increment(1);
    }

    /// An unlock was answered.
    pub fn unlocked(&self, reply: &UnlockReply) {
        let [released, cancelled, already_released, not_found, lock_by_other] = &self.unlocks;
        let counter = match reply {
            UnlockReply::Released { .. } => released,
            UnlockReply::Cancelled => cancelled,
            UnlockReply::AlreadyReleased { .. } => already_released,
            UnlockReply::NotFound => not_found,
            UnlockReply::LockByOther => lock_by_other,
        };
        counter.increment(1);
    }

    /// A renewal was answered.
    pub fn renewed(&self, outcome: Renewal) {
        let [renewed, not_held, invalid_ttl] = &self.renewals;
        let counter = match outcome {
            Renewal::Renewed => renewed,
            Renewal::NotHeld => not_held,
            Renewal::InvalidTtl => invalid_ttl,
        };
        counter.increment(1);
    }

    /// A grant leaves on its stream.
    pub fn grant_left(&self, shard: u32, ticket: Number) {
        if let Some((_, since)) = self.handoffs.remove(&(shard, ticket)) {
            self.handoff.record(self.clock.now().since(since));
        }
    }

    /// A long-lived stream begins.
    pub fn stream_opened(&self, rpc: Rpc) {
        self.streams(rpc).increment(1.0);
    }

    /// A long-lived stream is over.
    pub fn stream_closed(&self, rpc: Rpc) {
        self.streams(rpc).decrement(1.0);
    }

    /// So many connections are open.
    pub fn connections(&self, count: usize) {
        self.connections.set(count_value(count));
    }

    /// A connection was one too many.
    pub fn connection_refused(&self) {
        self.connections_refused.increment(1);
    }

    /// Moves observations into their buckets; to be called every few seconds.
    pub fn upkeep(&self) {
        self.count_instant();
        if let Some(handle) = self.recorder.handle() {
            handle.run_upkeep();
        }
    }

    /// Everything, in the text format.
    #[must_use]
    pub fn render(&self, service: &Service) -> String {
        self.refresh(service);
        self.recorder.handle().map(|handle| handle.render()).unwrap_or_default()
    }

    /// Sets the gauges that are read off the service.
    fn refresh(&self, service: &Service) {
        self.count_instant();
        let (mut keys, mut holders, mut waiters) = (0, 0, 0);
        for (shard, totals) in service.totals().into_iter().enumerate() {
            let shard = shard.to_string();
            self.recorder
                .gauge(&names::SHARD_TICKETS, &[&shard, "holding"])
                .set(value(totals.holders));
            self.recorder
                .gauge(&names::SHARD_TICKETS, &[&shard, "waiting"])
                .set(value(totals.waiters));
            keys += totals.keys;
            holders += totals.holders;
            waiters += totals.waiters;
        }
        self.recorder.gauge(&names::KEYS, &[]).set(value(keys));
        self.recorder.gauge(&names::HOLDERS, &[]).set(value(holders));
        self.recorder.gauge(&names::WAITERS, &[]).set(value(waiters));
        self.recorder
            .gauge(&names::READY, &[])
            .set(if service.ready().is_ok() { 1.0 } else { 0.0 });
        let store = service.store();
        self.recorder
            .gauge(&names::STORE_INFO, &[store.name(), store.durability()])
            .set(1.0);
    }

    /// Moves what was only counted into its histograms.
    fn count_instant(&self) {
        for (commits, changes) in self.instant_commits.iter().zip(0_u32..) {
            let count = usize::try_from(commits.swap(0, Ordering::Relaxed)).unwrap_or(usize::MAX);
            if count > 0 {
                self.commit.record_many(0.0, count);
                self.commit_changes.record_many(f64::from(changes), count);
            }
        }
        for mode in [&self.exclusive, &self.shared, &self.permits] {
            let count = usize::try_from(mode.at_once.swap(0, Ordering::Relaxed)).unwrap_or(usize::MAX);
            if count > 0 {
                mode.wait.record_many(0.0, count);
            }
        }
    }

    /// The gauge of a long-lived call.
    fn streams(&self, rpc: Rpc) -> &Gauge {
        match rpc {
            Rpc::WatchLocks => &self.watch_streams,
            Rpc::Session => &self.session_streams,
            _ => &self.lock_streams,
        }
    }

    /// The series of a mode.
    fn mode(&self, mode: Mode) -> &ModeSeries {
        match mode {
            Mode::Exclusive => &self.exclusive,
            Mode::Shared => &self.shared,
            Mode::Permits { .. } => &self.permits,
        }
    }
}

/// How a renewal was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Extended.
    Renewed,
    /// Not held.
    NotHeld,
    /// Its ttl was out of range.
    InvalidTtl,
}

impl Renewal {
    /// How one that was tried was answered.
    #[must_use]
    pub const fn of(renewed: bool) -> Self {
        if renewed { Self::Renewed } else { Self::NotHeld }
    }

    /// Its label.
    const fn label(self) -> &'static str {
        match self {
            Self::Renewed => "renewed",
            Self::NotHeld => "not_held",
            Self::InvalidTtl => "invalid_ttl",
        }
    }
}

/// A mode's label.
fn mode_label(mode: Mode) -> &'static str {
    match mode {
        Mode::Exclusive => "exclusive",
        Mode::Shared => "shared",
        Mode::Permits { .. } => "permits",
    }
}

/// A refusal's label.
fn refused_label(reason: RefusedReason) -> &'static str {
    match reason {
        RefusedReason::WouldWait => "would_wait",
        RefusedReason::WaitTimeout => "wait_timeout",
        RefusedReason::Cancelled => "cancelled",
        RefusedReason::NotHeld => "not_held",
        RefusedReason::Disconnected => "disconnected",
    }
}

/// A code's label.
fn code_label(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// A count as a gauge's value, exact below 2^32.
fn count_value(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// A count as a gauge's value, exact below 2^32.
fn value(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
