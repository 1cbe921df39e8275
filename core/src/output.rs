//! What comes out: changes for the store, and effects: whom to tell what.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::record::Change;
use crate::types::{LostReason, Number, Outcome, RefusedReason, StreamId, Terms};

/// The yield of one or more steps. Order: effects leave in the order they stand here, and only after every change that
/// stands here is committed.
#[derive(Debug, Default)]
pub struct Output {
    /// For the store; all of one step belong into one commit.
    pub changes: Vec<Change>,
    /// For streams, watchers and counters.
    pub effects: Vec<Effect>,
    /// Grants that are told in these steps. Say [`crate::Shard::unsent`] before their effects leave, and
    /// [`crate::Shard::pushed`] when they have.
    pub granted: Vec<ToldGrant>,
}

/// A grant that is told, for the first time or again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToldGrant {
    /// Whose.
    pub ticket: Number,
    /// The lease that its client may count from then on.
    pub ttl: Duration,
}

/// Something the shell does once the changes are committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Put an event on a stream.
    Push {
        /// Which.
        stream: StreamId,
        /// The ticket that it is about.
        ticket: Number,
        /// What.
        event: Event,
    },
    /// For watchers, counters and the log.
    Happened(Happening),
}

/// What a stream is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It waits.
    Queued(Queued),
    /// It holds.
    Granted(Granted),
    /// Others wait for what it holds.
    Contended {
        /// How many.
        waiters: u64,
    },
    /// Its lease is about to end.
    Expiring {
        /// Lease left.
        left: Duration,
    },
    /// The hold has ended without its own unlock. Last event.
    Lost {
        /// The token that no longer holds.
        token: Number,
        /// Why.
        reason: LostReason,
    },
    /// The wait has ended without a grant. Last event.
    Refused {
        /// Why.
        reason: RefusedReason,
        /// `WouldWait`: what is in the way.
        obstacle: Option<Obstacle>,
    },
    /// The hold was unlocked. Last event.
    Unlocked,
    /// A later stream of this request is there. Last event.
    Superseded,
}

/// A place in line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// Tickets ahead.
    pub position: u64,
    /// Present holders.
    pub holders: u64,
    /// Estimate of the wait, from recent holds of the key.
    pub eta: Option<Duration>,
    /// What it waits for.
    pub reason: WaitReason,
}

/// What a ticket waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// Holders are in the way.
    Held,
    /// Tickets are ahead.
    Queue,
    /// A lost hold's lock-delay runs.
    LockDelay,
}

/// A grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The ticket that became the hold.
    pub ticket: Number,
    /// Strictly greater than every earlier token of the key.
    pub token: Number,
    /// The smallest token valid on the key now.
    pub lowest_valid: Number,
    /// Lease, already cut by `max_hold`.
    pub ttl: Duration,
    /// Claims on the hold.
    pub claims: u32,
    /// Time spent in line.
    pub waited: Duration,
    /// How the hold before ended.
    pub previous_outcome: Outcome,
    /// Left of `max_hold`.
    pub max_hold_left: Option<Duration>,
}

/// What is in the way of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// A holder.
    Holder(HolderView),
    /// An earlier ticket.
    Waiter(WaiterView),
    /// A lock-delay.
    LockDelay {
        /// Left of it.
        left: Duration,
    },
}

/// A holder, as readers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderView {
    /// What it asked for.
    pub terms: Arc<Terms>,
    /// Its ticket.
    pub ticket: Number,
    /// Its token.
    pub token: Number,
    /// Claims.
    pub claims: u32,
    /// For so long.
    pub held: Duration,
    /// Lease left; the full length where the server renews it.
    pub lease_left: Duration,
    /// A stream is attached.
    pub connected: bool,
}

/// A waiter, as readers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaiterView {
    /// What it asked for.
    pub terms: Arc<Terms>,
    /// Its ticket.
    pub ticket: Number,
    /// Tickets ahead.
    pub position: u64,
    /// For so long.
    pub waited: Duration,
    /// A stream is attached.
    pub connected: bool,
}

/// A key, as readers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyView {
    /// The key.
    pub key: Arc<str>,
    /// By token.
    pub holders: Vec<HolderView>,
    /// In line, at most as many as asked for.
    pub waiters: Vec<WaiterView>,
    /// How many wait in all.
    pub waiters_total: u64,
    /// Capacity in force.
    pub capacity: Option<u32>,
    /// The longest lock-delay that runs.
    pub lock_delay_left: Option<Duration>,
    /// Not yet handed on.
    pub pending_outcome: Option<Outcome>,
}

/// Something that happened to a key: for watchers, counters and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// What.
    pub kind: HappeningKind,
    /// Where, whose, in which mode.
    pub terms: Arc<Terms>,
    /// Which ticket.
    pub ticket: Number,
    /// Its token, where there is one.
    pub token: Option<Number>,
    /// Tickets in line after this.
    pub waiters: u64,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HappeningKind {
    /// A ticket joined the line.
    Queued,
    /// A ticket became a hold.
    Granted {
        /// Time in line; `None`: it did not have to wait.
        waited: Option<Duration>,
        /// From the end of the hold before it, where that freed the key for this one.
        handoff: bool,
    },
    /// A hold was unlocked.
    Released {
        /// It had lasted so long.
        held: Duration,
    },
    /// A hold ended without its unlock.
    Lost {
        /// Why.
        reason: LostReason,
        /// It had lasted so long.
        held: Duration,
    },
    /// A waiter left without a grant.
    Left {
        /// Why.
        reason: RefusedReason,
    },
    /// A grant was withdrawn, and its ticket waits on.
    Withdrawn,
}
