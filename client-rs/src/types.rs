//! The words of the public interface: modes, policies, outcomes, what the server tells about keys. Plain data; knows
//! neither the wire nor a runtime.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What kinds of hold may exist side by side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Bars everybody else.
    #[default]
    Exclusive,
    /// Goes with other shared holds.
    Shared,
    /// Takes some of the key's permits.
    Permits {
        /// How many.
        permits: u32,
        /// Of how many; 0 where the server did not tell.
        capacity: u32,
    },
}

/// What becomes of a ticket or a hold when its client is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnDisconnect {
    /// Ends with the client's own end.
    Release,
    /// Stays for so long, so that the client can come back to it.
    Grace(Duration),
    /// A hold stays until its lease ends.
    Lease,
}

/// What happens when another request of the same owner meets its own hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SameOwner {
    /// It queues like anybody.
    #[default]
    Wait,
    /// It joins the hold: same token.
    Reenter,
    /// It is refused with `LOCK_BY_SELF`.
    Refuse,
}

/// How work under a lock ended: given to an unlock, handed to the next holder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Outcome {
    /// In one word.
    pub status: OutcomeStatus,
    /// For the next holder, up to 256 bytes.
    pub note: String,
}

/// How work under a lock ended, in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OutcomeStatus {
    /// Not said.
    #[default]
    Unspecified,
    /// It succeeded.
    Success,
    /// It failed.
    Failure,
    /// The hold ended without an unlock; only the server says this.
    Lost,
}

impl Outcome {
    /// The work succeeded.
    #[must_use]
    pub fn success() -> Self {
        Self {
            status: OutcomeStatus::Success,
            note: String::new(),
        }
    }

    /// The work failed; `note` tells the next holder about it.
    #[must_use]
    pub fn failure(note: impl Into<String>) -> Self {
        Self {
            status: OutcomeStatus::Failure,
            note: note.into(),
        }
    }
}

/// Why a wait ended without a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusedReason {
    /// A try that would have had to wait.
    WouldWait,
    /// The wait timeout has passed.
    WaitTimeout,
    /// It was cancelled.
    Cancelled,
    /// Granting would close a cycle of waits.
    Deadlock,
    /// An operator removed the ticket.
    Revoked,
    /// There was nothing to come back to.
    NotHeld,
    /// The connection was lost for too long.
    Disconnected,
    /// A reason that this client does not know.
    Unknown,
}

impl RefusedReason {
    /// As the API spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WouldWait => "WOULD_WAIT",
            Self::WaitTimeout => "WAIT_TIMEOUT",
            Self::Cancelled => "CANCELLED",
            Self::Deadlock => "DEADLOCK",
            Self::Revoked => "REVOKED",
            Self::NotHeld => "NOT_HELD",
            Self::Disconnected => "DISCONNECTED",
            Self::Unknown => "UNKNOWN",
        }
    }
}

impl fmt::Display for RefusedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WouldWait => "it would have to wait",
            Self::WaitTimeout => "the wait timeout has passed",
            Self::Cancelled => "cancelled",
            Self::Deadlock => "it would close a cycle of waits",
            Self::Revoked => "an operator removed the ticket",
            Self::NotHeld => "not held any more",
            Self::Disconnected => "the connection was lost for too long",
            Self::Unknown => "refused",
        })
    }
}

/// What stands between a caller and a lock.
#[derive(Clone, Debug, PartialEq)]
pub enum Obstacle {
    /// Somebody holds the key.
    Holder(Holder),
    /// An earlier ticket waits.
    Waiter(Waiter),
    /// A lost hold's lock-delay runs for this long.
    LockDelay(Duration),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holder(holder) => write!(f, "held by {} with token {}", holder.owner, holder.fencing_token),
            Self::Waiter(waiter) => write!(f, "{} waits with ticket {}", waiter.owner, waiter.ticket),
            Self::LockDelay(left) => write!(f, "a lock-delay runs for {left:?}"),
        }
    }
}

/// Why a hold ended without its own unlock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LostReason {
    /// The lease ran out.
    Expired,
    /// The stream was lost and its grace has passed.
    Disconnected,
    /// An operator took it.
    Revoked {
        /// Who.
        by: String,
        /// The operator's words.
        message: String,
    },
    /// `max_hold` was reached.
    MaxHold,
    /// The grant was not acknowledged in time.
    NotAcked,
    /// The server's store is another one than before.
    StoreChanged,
    /// No renewal was answered before the promised time ended. The server may hold the lock still.
    Unconfirmed,
    /// Another process came back to this request.
    Superseded,
    /// This client's runtime has ended.
    Closed,
    /// A reason that this client does not know.
    Unknown,
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => f.write_str("its lease ran out"),
            Self::Disconnected => f.write_str("the connection to the server was lost"),
            Self::Revoked { by, message } if by.is_empty() => write!(f, "an operator took it: {message}"),
            Self::Revoked { by, message } => write!(f, "{by} took it: {message}"),
            Self::MaxHold => f.write_str("its longest hold was reached"),
            Self::NotAcked => f.write_str("its grant was not acknowledged in time"),
            Self::StoreChanged => f.write_str("the server's store is another one than before"),
            Self::Unconfirmed => f.write_str("no renewal was answered in time"),
            Self::Superseded => f.write_str("another process came back to the same request"),
            Self::Closed => f.write_str("the client's runtime has ended"),
            Self::Unknown => f.write_str("the server gave no reason"),
        }
    }
}

/// What a guard knows about its lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Given back, or the server told that it is lost.
    Unlocked,
    /// Held, guaranteed.
    Locked,
    /// No answer yet, or none any more: the server may hold the lock for this guard or not.
    Unknown,
    /// The client's runtime has ended.
    Closed,
}

/// The place in line of a ticket that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Queued {
    /// The ticket.
    pub ticket: u64,
    /// Tickets ahead; 0 is next.
    pub position: u64,
    /// Present holders.
    pub holders: u64,
    /// Estimated time to the grant, where there is an estimate.
    pub eta: Option<Duration>,
    /// What it waits for.
    pub reason: WaitReason,
}

/// Why a ticket waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WaitReason {
    /// Somebody holds the key.
    Held,
    /// Tickets are ahead.
    Queue,
    /// A lost hold's lock-delay still runs.
    LockDelay,
    /// Not told.
    Unknown,
}

/// How [`Guard::unlock`](crate::Guard::unlock) ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Unlocked {
    /// The lock was held to the end, and is given back.
    Unlocked,
    /// It had been lost before: what was done under it may have overlapped with another holder's work.
    AlreadyLost(LostReason),
}

/// How an unlock by token ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UnlockResult {
    /// This call ended it.
    Released {
        /// Claims that are left on the hold.
        claims_left: u32,
    },
    /// The token was given once and no longer holds.
    AlreadyReleased {
        /// How the hold ended, while that is remembered.
        ended_by: Option<LostReason>,
    },
    /// No such token was ever given.
    NotFound,
    /// The token is current, and this owner is not its holder.
    LockByOther,
    /// A waiting ticket left the queue.
    Cancelled,
}

/// How a renewal by token ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RenewResult {
    /// Extended: so much is left, counted from when the call was sent.
    Renewed {
        /// Lease left.
        ttl: Duration,
    },
    /// Not held by this owner under this token.
    NotHeld,
    /// The new length is out of its range.
    InvalidTtl,
}

/// How a fencing token stood when it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenCheck {
    /// A present hold has it.
    pub is_valid: bool,
    /// The smallest token of the present holds: smaller ones are not valid any more. `None`: nobody holds the key, and no
    /// token that was given so far is valid.
    pub lowest_valid: Option<u64>,
    /// Where it is valid: left of its lease.
    pub lease_left: Duration,
    /// Where it is valid: whose it is.
    pub owner: String,
}

/// How a force-unlock ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ForceUnlockResult {
    /// The hold has ended, and its holder is told.
    Revoked {
        /// Whose hold it was.
        owner: String,
    },
    /// The token no longer holds: nothing was changed.
    AlreadyReleased,
    /// No such token was ever given: nothing was changed.
    NotFound,
}

/// Somebody who holds a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Holder {
    /// Who.
    pub owner: String,
    /// The ticket.
    pub ticket: u64,
    /// The token.
    pub fencing_token: u64,
    /// How it holds.
    pub mode: Mode,
    /// Claims, 1 unless re-entered.
    pub hold_count: u32,
    /// Held for so long.
    pub held: Duration,
    /// Left of the lease.
    pub lease_left: Duration,
    /// Whether its client is connected.
    pub connected: bool,
    /// What the holder said of itself.
    pub metadata: BTreeMap<String, String>,
}

/// Somebody who waits for a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiter {
    /// Who.
    pub owner: String,
    /// The ticket.
    pub ticket: u64,
    /// Tickets ahead.
    pub position: u64,
    /// How it wants to hold.
    pub mode: Mode,
    /// Waiting for so long.
    pub waited: Duration,
    /// Whether its client is connected.
    pub connected: bool,
    /// What the waiter said of itself.
    pub metadata: BTreeMap<String, String>,
}

/// The state of a key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LockInfo {
    /// The key.
    pub key: String,
    /// Holders, by token; the server caps how many it tells.
    pub holders: Vec<Holder>,
    /// How many hold in all.
    pub holders_total: u64,
    /// Waiters in order; the server caps how many it tells.
    pub waiters: Vec<Waiter>,
    /// How many wait in all.
    pub waiters_total: u64,
    /// The capacity in force; 0 where there is none.
    pub capacity: u32,
    /// The longest lock-delay that still runs.
    pub lock_delay_left: Option<Duration>,
    /// The last unlock's outcome, while no grant has taken it.
    pub pending_outcome: Option<Outcome>,
}

/// A step of a watch.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchEvent {
    /// The shard that speaks; order holds within a shard.
    pub shard: u32,
    /// Its epoch.
    pub epoch: u64,
    /// Its revision, growing within an epoch.
    pub revision: u64,
    /// What it says.
    pub change: WatchChange,
}

/// What a watch says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum WatchChange {
    /// Part of the snapshot.
    Snapshot(LockInfo),
    /// The snapshot of this shard is complete.
    SnapshotEnd,
    /// Something happened.
    Changed(LockEvent),
    /// Forget what is known of this shard: a new snapshot follows.
    Resync,
}

/// Something that happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockEvent {
    /// What.
    pub kind: LockEventKind,
    /// Where.
    pub key: String,
    /// Whose.
    pub owner: String,
    /// Which ticket.
    pub ticket: u64,
    /// Its token, where there is one.
    pub fencing_token: Option<u64>,
    /// Tickets that wait on the key after this.
    pub waiters: u64,
}

/// What can happen to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LockEventKind {
    /// A ticket was taken.
    Queued,
    /// A ticket became a hold.
    Granted,
    /// A hold was unlocked.
    Released,
    /// A hold's lease or longest hold ended.
    Expired,
    /// An operator took a hold.
    Revoked,
    /// A hold ended with its stream.
    Disconnected,
    /// A waiter left.
    Left,
    /// A grant was withdrawn.
    Withdrawn,
    /// A kind that this client does not know.
    Unknown,
}

impl LockEventKind {
    /// In one lower-case word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Granted => "granted",
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Disconnected => "disconnected",
            Self::Left => "left",
            Self::Withdrawn => "withdrawn",
            Self::Unknown => "unknown",
        }
    }
}

/// What a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// Its release.
    pub version: String,
    /// Identity of its store.
    pub store_id: Vec<u8>,
    /// Which store.
    pub store: String,
    /// What an acknowledgement is worth there.
    pub durability: String,
    /// How many shards.
    pub shards: u32,
    /// Time since its start.
    pub uptime: Duration,
    /// Limits by name; durations in milliseconds, sizes in bytes.
    pub limits: BTreeMap<String, u64>,
}
