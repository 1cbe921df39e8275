//! What a store keeps of a shard: one small record per ticket, remembered end and pending outcome.
//!
//! Records hold lengths of time, never instants: after a restart everything that runs by time starts anew.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use smallvec::SmallVec;

use crate::types::{LostReason, Number, Outcome, RefusedReason, RequestId, Terms};

/// One change for the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// No number above this one has been used; raised before it is.
    Mark(Number),
    /// Insert or replace by `ticket`.
    PutTicket(Box<TicketRecord>),
    /// Remove by ticket.
    DeleteTicket(Number),
    /// Insert by `number`.
    PutEnd(EndRecord),
    /// Remove by number.
    DeleteEnd(Number),
    /// Insert or replace by `key`.
    PutOutcome(OutcomeRecord),
    /// Remove by key.
    DeleteOutcome(Arc<str>),
}

/// A ticket: a place in line, or a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketRecord {
    /// Its number.
    pub ticket: Number,
    /// Where in line; differs from `ticket` once it was sent to the tail.
    pub order: Number,
    /// As requested.
    pub terms: Arc<Terms>,
    /// Length of the lease: the longest of its claims.
    pub ttl: Duration,
    /// The requests on it: one while it waits.
    pub claims: SmallVec<[ClaimRecord; 1]>,
    /// Present while it holds; apart, because most tickets of a long line do not.
    pub hold: Option<Box<HoldRecord>>,
}

/// One request's part in a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRecord {
    /// As requested; the ticket's own, unless its owner re-entered.
    pub terms: Arc<Terms>,
    /// The highest attach number seen when this was recorded.
    pub attach_number: u64,
    /// As requested, or renewed.
    pub ttl: Duration,
}

/// What a granted ticket has besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldRecord {
    /// Its token.
    pub token: Number,
    /// Its grant still waits for an acknowledgement.
    pub unacked: bool,
    /// The longest lease that it was ever promised, where its TTL is shorter by now; else zero.
    pub longest: Duration,
    /// Told with the grant; kept until that is acknowledged.
    pub previous_outcome: Outcome,
}

/// How a request ended that ended abnormally; it answers repeats for `request_memory`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndRecord {
    /// Names this record.
    pub number: Number,
    /// Which key.
    pub key: Arc<str>,
    /// Whose.
    pub owner: Arc<str>,
    /// The request, where it can be repeated.
    pub request_id: Option<RequestId>,
    /// The hold's token, where it was one.
    pub token: Option<Number>,
    /// How.
    pub end: End,
}

/// An abnormal end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Of a hold.
    Lost(LostReason),
    /// Of a wait.
    Refused(RefusedReason),
}

/// An outcome that waits for the next grant of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutcomeRecord {
    /// Which key.
    pub key: Arc<str>,
    /// What is handed on.
    pub outcome: Outcome,
    /// To tickets up to this number: those that waited when it was given.
    pub up_to: Number,
}

/// All that a store kept of a shard.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// The highest mark.
    pub mark: Number,
    /// Where the counter of this store began: no smaller or equal number was ever given.
    pub base: Number,
    /// In any order.
    pub tickets: Vec<TicketRecord>,
    /// In any order.
    pub ends: Vec<EndRecord>,
    /// In any order.
    pub outcomes: Vec<OutcomeRecord>,
}
