//! What a shard remembers of a key, a ticket and a claim. Data only; the rules are in the neighbouring modules.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use core::time::Duration;

use hashbrown::Equivalent;
use smallvec::SmallVec;

use crate::record::{ClaimRecord, HoldRecord, TicketRecord};
use crate::shard::list::{Links, List};
use crate::types::{EventOptions, Mode, Number, OnDisconnect, Outcome, RequestId, Stream, StreamKind, Terms, Time};

/// Where a ticket lives in the shard's slab.
pub(crate) type Slot = usize;

/// Where a key lives in the shard's slab.
pub(crate) type KeyIndex = usize;

/// Names one logical request (I1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name<'a> {
    /// The key.
    pub key: &'a str,
    /// Who asks.
    pub owner: &'a str,
    /// The client's id.
    pub id: RequestId,
}

/// The name of a request that waits or holds.
#[derive(Clone, Debug)]
pub(crate) struct LiveName {
    /// Shared with its claim.
    terms: Arc<Terms>,
}

/// The name of a request that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndedName {
    /// The key.
    pub key: Arc<str>,
    /// Who asked.
    pub owner: Arc<str>,
    /// The client's id.
    pub id: RequestId,
}

/// What a request of these terms is named, where it can be repeated.
pub(crate) fn name_of(terms: &Terms) -> Option<Name<'_>> {
    terms.request_id.map(|id| Name {
        key: &terms.key,
        owner: &terms.owner,
        id,
    })
}

impl LiveName {
    /// Of a request that can be repeated.
    pub(crate) fn of(terms: &Arc<Terms>) -> Option<Self> {
        terms.request_id.map(|_| Self { terms: terms.clone() })
    }

    fn name(&self) -> Option<Name<'_>> {
        name_of(&self.terms)
    }
}

impl EndedName {
    fn name(&self) -> Name<'_> {
        Name {
            key: &self.key,
            owner: &self.owner,
            id: self.id,
        }
    }
}

impl PartialEq for LiveName {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for LiveName {}

// Both hash as the names that they are looked up by.
impl Hash for LiveName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if let Some(name) = self.name() {
            name.hash(state);
        }
    }
}

impl Hash for EndedName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl Equivalent<LiveName> for Name<'_> {
    fn equivalent(&self, key: &LiveName) -> bool {
        Some(*self) == key.name()
    }
}

impl Equivalent<EndedName> for Name<'_> {
    fn equivalent(&self, key: &EndedName) -> bool {
        *self == key.name()
    }
}

/// A key that somebody holds, waits for, or that a delay keeps.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its name.
    pub name: Arc<str>,
    /// Those who wait, by `order`.
    pub line: List,
    /// Those who hold, by token.
    pub holders: List,
    /// What holders and ghosts bar, counted, so that a grant needs no walk.
    pub bars: Bars,
    /// Holds that were lost and still bar what they barred (T5).
    pub ghosts: Vec<Ghost>,
    /// Capacity in force, while a permit ticket lives.
    pub capacity: u32,
    /// Live permit tickets: they keep the capacity in force.
    pub permit_tickets: u32,
    /// For the next grant among the tickets up to a number (G5).
    pub outcome: Option<(Outcome, Number)>,
    /// Claims that asked for queue or contention updates: without any, there is no sweep.
    pub update_wishes: u32,
    /// When the last sweep told positions.
    pub swept_at: Option<Time>,
    /// When the next one is due.
    pub sweep_at: Option<Time>,
    /// Mean length of recent holds, for the estimate of a wait.
    pub hold_mean: Option<Duration>,
    /// Its entry among the timers.
    pub armed: Time,
    /// More grants are possible than one step may make.
    pub unfinished: bool,
}

impl Key {
    pub(crate) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            line: List::default(),
            holders: List::default(),
            bars: Bars::default(),
            ghosts: Vec::new(),
            capacity: 0,
            permit_tickets: 0,
            outcome: None,
            update_wishes: 0,
            swept_at: None,
            sweep_at: None,
            hold_mean: None,
            armed: Time::NEVER,
            unfinished: false,
        }
    }

    /// Whether a hold of this mode goes with the present holders and ghosts.
    pub(crate) fn admits(&self, mode: Mode) -> bool {
        match mode {
            Mode::Exclusive => self.bars.exclusive == 0 && self.bars.shared == 0 && self.bars.permits == 0,
            Mode::Shared => self.bars.exclusive == 0 && self.bars.permits == 0,
            Mode::Permits { permits, capacity } => {
                let capacity = if self.permit_tickets > 0 {
                    self.capacity
                } else {
                    capacity
                };
                self.bars.exclusive == 0
                    && self.bars.shared == 0
                    && self.bars.permits + u64::from(permits) <= u64::from(capacity)
            }
        }
    }

    /// Q4: nothing is left that keeps the key.
    pub(crate) fn is_idle(&self) -> bool {
        self.line.is_empty() && self.holders.is_empty() && self.ghosts.is_empty() && !self.unfinished
    }
}

/// Counts of what holds and ghosts occupy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bars {
    /// EXCLUSIVE ones.
    pub exclusive: u64,
    /// SHARED ones.
    pub shared: u64,
    /// Permits taken.
    pub permits: u64,
}

impl Bars {
    pub(crate) fn add(&mut self, mode: Mode) {
        match mode {
            Mode::Exclusive => self.exclusive += 1,
            Mode::Shared => self.shared += 1,
            Mode::Permits { permits, .. } => self.permits += u64::from(permits),
        }
    }

    pub(crate) fn remove(&mut self, mode: Mode) {
        match mode {
            Mode::Exclusive => self.exclusive -= 1,
            Mode::Shared => self.shared -= 1,
            Mode::Permits { permits, .. } => self.permits -= u64::from(permits),
        }
    }
}

/// A lost hold's lock-delay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ghost {
    /// What it bars.
    pub mode: Mode,
    /// Until when.
    pub until: Time,
}

/// The requests on a ticket: one, unless its owner re-entered.
pub(crate) type Claims = SmallVec<[Claim; 1]>;

/// A place in line, or a hold.
#[derive(Debug)]
pub(crate) struct Ticket {
    /// Its number.
    pub number: Number,
    /// Where in line: the number, until it is sent to the tail.
    pub order: Number,
    /// Its key.
    pub key: KeyIndex,
    /// As requested.
    pub terms: Arc<Terms>,
    /// The longest TTL of its claims.
    pub ttl: Duration,
    /// The requests on it; never empty.
    pub claims: Claims,
    /// How its wait goes on, or went.
    pub wait: Wait,
    /// Present while it holds; apart, because most tickets of a long line do not.
    pub hold: Option<Box<Hold>>,
    /// Neighbours in the line or among the holders.
    pub links: Links,
    /// Its entry among the timers; it may be earlier than the deadline, never later.
    pub armed: Time,
    /// Its record is to be written at the end of this step.
    pub dirty: bool,
    /// A store has its record.
    pub stored: bool,
}

impl Ticket {
    /// Whether anybody is there to be told.
    pub(crate) fn connected(&self) -> bool {
        self.claims.iter().any(|claim| claim.stream.is_some())
    }

    pub(crate) fn record(&self) -> TicketRecord {
        TicketRecord {
            ticket: self.number,
            order: self.order,
            terms: self.terms.clone(),
            ttl: self.ttl,
            claims: self.claims.iter().map(Claim::record).collect(),
            hold: self.hold.as_ref().map(|hold| Box::new(hold.record())),
        }
    }

    /// Gives it another TTL from its next renewal on.
    pub(crate) fn set_ttl(&mut self, ttl: Duration) {
        if let Some(hold) = &mut self.hold
            && ttl < self.ttl
        {
            hold.longest = hold.longest.max(self.ttl);
        }
        self.ttl = ttl;
    }

    /// When the hold ends if nothing more is heard: the latest end of its claims, at most `max_hold`.
    pub(crate) fn hold_end(&self, hold: &Hold) -> Time {
        let end = self.claims.iter().map(|claim| claim.end(hold)).max();
        end.unwrap_or_default().min(hold.end_max)
    }

    /// The server renews this hold while its plain stream is not known dead (T3).
    pub(crate) fn server_renews(&self) -> bool {
        self.claims.iter().any(|claim| {
            claim.terms.on_disconnect != OnDisconnect::Lease
                && claim.stream.is_some_and(|stream| stream.kind == StreamKind::Plain)
        })
    }
}

/// One request's part in a ticket.
#[derive(Debug)]
pub(crate) struct Claim {
    /// As requested.
    pub terms: Arc<Terms>,
    /// The highest attach number seen.
    pub attach_number: u64,
    /// Where its events go.
    pub stream: Option<Stream>,
    /// As requested, or renewed.
    pub ttl: Duration,
    /// Optional events.
    pub events: EventOptions,
    /// Without a stream: until when it is kept. NEVER while attached, and for a LEASE hold.
    pub away_end: Time,
}

impl Claim {
    fn record(&self) -> ClaimRecord {
        ClaimRecord {
            terms: self.terms.clone(),
            attach_number: self.attach_number,
            ttl: self.ttl,
        }
    }

    /// When this claim on a hold ends if nothing more is heard, by the server's clock (T2, T3).
    pub(crate) fn end(&self, hold: &Hold) -> Time {
        match (self.terms.on_disconnect, self.stream) {
            (OnDisconnect::Lease, _) => hold.lease_end,
            (_, Some(stream)) if stream.kind == StreamKind::Plain => Time::NEVER,
            (_, Some(_)) => hold.lease_end,
            (_, None) => self.away_end.max(hold.promised_end),
        }
    }

    pub(crate) fn wants_updates(&self) -> bool {
        self.events.queue_updates || self.events.contended
    }
}

/// How a ticket's wait goes.
#[derive(Clone, Debug)]
pub(crate) struct Wait {
    /// When it joined the line.
    pub since: Time,
    /// End of its wait timeout.
    pub until: Time,
    /// Until when it is waited for: a head without a stream (Q2).
    pub away_until: Option<Time>,
    /// For how long it will be waited for in all that is to come: each absence spends of it.
    pub away_left: Duration,
    /// How often somebody behind it was granted since it stood where it stands.
    pub passed_over: u8,
    /// How often a grant of it was withdrawn since then.
    pub withdrawn: u8,
    /// The token of the last of them; 0: none.
    pub burned: Number,
    /// The position that its stream was told last.
    pub position_told: u64,
}

/// What a granted ticket has besides.
#[derive(Debug)]
pub(crate) struct Hold {
    /// Its token.
    pub token: Number,
    /// When it was granted.
    pub since: Time,
    /// Time in line; zero where it did not wait.
    pub waited: Duration,
    /// End of the lease: the push of the grant or the last renewal, plus the TTL. Never moves backwards (T1).
    pub lease_end: Time,
    /// Until when the client may count, by leases that answered something it sent (T2).
    pub promised_end: Time,
    /// The longest lease that it was ever promised, where its TTL is shorter by now; else zero. A recovery keeps it as
    /// long as that, for it does not know how much of it is left.
    pub longest: Duration,
    /// End of `max_hold`.
    pub end_max: Time,
    /// The grant is withdrawn then, unless it is acknowledged (G3).
    pub ack_until: Option<Time>,
    /// How often it was told and has not left the server yet. Its times run from the push, so until then none is over.
    pub unsent: u32,
    /// `Expiring` was pushed for the present lease.
    pub expiring_told: bool,
    /// The number of waiters that its streams were told last.
    pub contended_told: u64,
    /// Told with the grant.
    pub previous_outcome: Outcome,
    /// Tickets that the outcome was meant for: a withdrawn grant hands it back.
    pub outcome_up_to: Option<Number>,
}

impl Hold {
    fn record(&self) -> HoldRecord {
        HoldRecord {
            token: self.token,
            unacked: self.ack_until.is_some(),
            longest: self.longest,
            previous_outcome: self.previous_outcome.clone(),
        }
    }
}
