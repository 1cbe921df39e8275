//! The words of the machine: names, modes, policies, time.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::time::Duration;

/// An instant of the server's monotonic clock: nanoseconds since an origin that the shell chose. Never a wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// Later than every instant that can be reached: "not by time".
    pub const NEVER: Self = Self(u64::MAX);

    /// This much later; saturates at [`Time::NEVER`].
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// Time from `earlier` to here; zero where `earlier` is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A number from a shard's one counter, which tickets and fencing tokens share.
pub type Number = u64;

/// A client's 128-bit name for one logical request. Whoever knows it can act for the request, so it never leaves the
/// machine by an effect.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub [u8; 16]);

impl core::fmt::Debug for RequestId {
    /// Says nothing: the id is a capability.
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("RequestId(..)")
    }
}

/// Names a live stream; the shell never uses one twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// What kind of stream carries a claim; it decides who renews and who acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// One lock, one direction: the server renews RELEASE and GRACE holds while the stream is not known dead.
    Plain,
    /// Many locks, both directions: heartbeats renew, and grants that had to wait are acknowledged.
    Session,
}

/// A stream as a claim knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Which one.
    pub id: StreamId,
    /// Of what kind.
    pub kind: StreamKind,
}

/// What may be held side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Bars everybody.
    Exclusive,
    /// Goes with `Shared`.
    Shared,
    /// `permits` of `capacity`; goes with other permits while they last. `1 <= permits <= capacity`.
    Permits {
        /// How many this one takes.
        permits: u32,
        /// Of how many in all.
        capacity: u32,
    },
}

/// What becomes of a claim when its stream is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDisconnect {
    /// Ends with the client's own end; silence lets the promised lease run out first.
    Release,
    /// Stays for this long.
    Grace(Duration),
    /// A hold stays until its lease ends, and only the client renews it. A wait ends with its stream.
    Lease,
}

/// What a further request of the same owner does at its own hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameOwner {
    /// Queues like anybody.
    Wait,
    /// Adds a claim to the hold.
    Reenter,
    /// Is refused.
    Refuse,
}

/// How a stream came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DetachCause {
    /// The client's own end: cancelled on a live connection, or closed by the peer.
    Ended,
    /// Nothing was heard: the client may still count its lease.
    Silent,
}

/// How the work under a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OutcomeStatus {
    /// Nothing said.
    #[default]
    Unspecified,
    /// It succeeded.
    Success,
    /// It failed.
    Failure,
    /// The hold ended without an unlock.
    Lost,
}

/// What an unlock hands to the next grant.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Outcome {
    /// How it ended.
    pub status: OutcomeStatus,
    /// A short note, bounded by the shell.
    pub note: String,
}

/// What a request asks for: the same for as long as it lives, so that its ticket, the ticket's record and all who speak
/// of it share one copy. A ticket has the terms of its first claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Names the lock.
    pub key: Arc<str>,
    /// Who asks.
    pub owner: Arc<str>,
    /// `None`: the request can be neither repeated nor cancelled by id.
    pub request_id: Option<RequestId>,
    /// What may be held beside it.
    pub mode: Mode,
    /// How long it may wait; `None`: without bound; zero: a try.
    pub wait_timeout: Option<Duration>,
    /// What becomes of it without its stream.
    pub on_disconnect: OnDisconnect,
    /// What it does at a hold of its own owner.
    pub same_owner: SameOwner,
    /// How long an abnormally lost hold still bars what it barred.
    pub lock_delay: Duration,
    /// Upper bound of the whole hold.
    pub max_hold: Option<Duration>,
    /// A small string map, shown to readers.
    pub metadata: Box<[(String, String)]>,
}

impl Terms {
    /// Exclusive, as long as it takes, without a name, and nothing besides.
    #[must_use]
    pub fn exclusive(key: impl Into<Arc<str>>, owner: impl Into<Arc<str>>) -> Self {
        Self {
            key: key.into(),
            owner: owner.into(),
            request_id: None,
            mode: Mode::Exclusive,
            wait_timeout: None,
            on_disconnect: OnDisconnect::Release,
            same_owner: SameOwner::Wait,
            lock_delay: Duration::ZERO,
            max_hold: None,
            metadata: Box::default(),
        }
    }
}

/// Optional events that a stream asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventOptions {
    /// `Queued` again when the place changes.
    pub queue_updates: bool,
    /// `Contended` for a holder.
    pub contended: bool,
    /// `Expiring` when a third of the lease is left.
    pub expiring: bool,
}

/// Why a hold ended without its own unlock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LostReason {
    /// The lease ran out.
    Expired,
    /// Its stream was lost, and its grace has passed.
    Disconnected,
    /// An operator took it.
    Revoked {
        /// Who.
        by: Arc<str>,
        /// In the operator's words.
        message: Arc<str>,
    },
    /// `max_hold` was reached.
    MaxHold,
    /// The grant was not acknowledged in time.
    NotAcked,
}

/// Why a wait ended without a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedReason {
    /// A try that would have had to wait.
    WouldWait,
    /// The wait timeout passed.
    WaitTimeout,
    /// Cancelled by its request id.
    Cancelled,
    /// `attach: ONLY`, and nothing there.
    NotHeld,
    /// Its stream was lost, and its grace has passed.
    Disconnected,
}
