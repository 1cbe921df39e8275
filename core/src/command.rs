//! What goes in: commands, and the replies that answer them at once.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::time::Duration;

use crate::output::{Granted, Obstacle};
use crate::types::{
    DetachCause, EventOptions, LostReason, Number, Outcome, RefusedReason, RequestId, Stream, StreamId, Terms,
};

/// One step of the machine. Every field was validated by the shell (lengths, ranges, encodings).
#[derive(Clone, Debug)]
pub enum Command {
    /// Take a ticket, or re-attach to one. Answered by [`Reply::Lock`]; all else is pushed to the stream.
    Lock(Box<LockRequest>),
    /// Grant at once or refuse; `stream` is `None`. Answered by [`Reply::TryLock`].
    TryLock(Box<LockRequest>),
    /// End a hold or a wait. Answered by [`Reply::Unlock`].
    Unlock(Unlock),
    /// Extend a hold; it names the token, so it acknowledges the grant. Answered by [`Reply::Renew`].
    Renew(Renew),
    /// A heartbeat extends a hold that it does not name: a grant that waits for its acknowledgement goes on waiting
    /// (G3). Answered by [`Reply::Renew`].
    Refresh(Renew),
    /// A stream has ended. Answered by [`Reply::Done`]; a stream that was superseded changes nothing.
    Detach {
        /// The key.
        key: Arc<str>,
        /// The ticket that [`Reply::Lock`] named.
        ticket: Number,
        /// The stream that ended.
        stream: StreamId,
        /// How.
        cause: DetachCause,
    },
    /// An operator takes a hold. Answered by [`Reply::ForceUnlock`].
    ForceUnlock {
        /// The key.
        key: Arc<str>,
        /// The token that must hold.
        token: Number,
        /// Who takes it.
        by: Arc<str>,
        /// Why.
        message: Arc<str>,
    },
}

/// A request for a lock.
#[derive(Clone, Debug)]
pub struct LockRequest {
    /// What it asks for.
    pub terms: Arc<Terms>,
    /// The client's growing number of this attach; the highest wins, and of equal ones the later.
    pub attach_number: u64,
    /// Never take a new ticket.
    pub attach_only: bool,
    /// Where events go; `None` for a try.
    pub stream: Option<Stream>,
    /// Length of the lease.
    pub ttl: Duration,
    /// Optional events.
    pub events: EventOptions,
}

/// Ends a hold or a wait; at least one of `token` and `request_id` is given.
#[derive(Clone, Debug)]
pub struct Unlock {
    /// The key.
    pub key: Arc<str>,
    /// Who says so.
    pub owner: Arc<str>,
    /// Which hold.
    pub token: Option<Number>,
    /// Which request.
    pub request_id: Option<RequestId>,
    /// For the next holder.
    pub outcome: Outcome,
}

/// Extends a hold.
#[derive(Clone, Debug)]
pub struct Renew {
    /// The key.
    pub key: Arc<str>,
    /// Who says so.
    pub owner: Arc<str>,
    /// Which hold.
    pub token: Number,
    /// New length; `None`: as before.
    pub ttl: Option<Duration>,
}

/// The direct answer to a command. It may be shown only after the changes of the same step are committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The ticket that the stream now follows. `None`: the stream has got its last event already.
    Lock(Result<Option<Number>, Refusal>),
    /// The try's answer.
    TryLock(Result<TryReply, Refusal>),
    /// The unlock's answer.
    Unlock(Result<UnlockReply, Refusal>),
    /// The renewal's answer: lease left, or `None` where it is not held.
    Renew(Option<Duration>),
    /// The operator's answer.
    ForceUnlock(ForceReply),
    /// Nothing to say.
    Done,
}

/// How a try ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TryReply {
    /// Granted.
    Granted(Granted),
    /// Not granted; nothing was changed.
    Refused {
        /// `WouldWait`, or how this very request ended before.
        reason: RefusedReason,
        /// `WouldWait`: what is in the way.
        obstacle: Option<Obstacle>,
    },
}

/// How an unlock ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnlockReply {
    /// This call ended it; so many claims are left on the hold.
    Released {
        /// Claims left.
        claims: u32,
    },
    /// A waiting ticket left the queue.
    Cancelled,
    /// Once given, no longer held.
    AlreadyReleased {
        /// How it ended, while remembered.
        ended_by: Option<LostReason>,
    },
    /// Never given, or unknown.
    NotFound,
    /// Current, but held by another owner.
    LockByOther,
}

/// How a forced unlock ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForceReply {
    /// Taken.
    Revoked {
        /// Whose it was.
        owner: Arc<str>,
    },
    /// No longer held: nothing changed.
    AlreadyReleased,
    /// Never given: nothing changed.
    NotFound,
}

/// Why a command was refused. It had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The owner holds the key already, and asked to be refused then.
    LockBySelf {
        /// Its token.
        token: Number,
    },
    /// Another capacity is in force on the key.
    CapacityMismatch {
        /// The one in force.
        capacity: u32,
    },
    /// Re-entry in another mode than the hold's.
    ModeMismatch,
    /// The request id names a request with other content.
    RequestIdReused,
    /// The hold has several claims, and the unlock names none.
    RequestIdRequired,
    /// Too many wait on the key.
    QueueFull {
        /// The limit.
        limit: u32,
    },
    /// Too many claims on the hold.
    TooManyClaims {
        /// The limit.
        limit: u32,
    },
    /// A later attach of this request is there: this stream ends.
    Superseded,
}
