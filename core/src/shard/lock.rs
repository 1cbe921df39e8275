//! Taking tickets, trying, and re-attaching (rules Q1, Q5, I1, I2).

use alloc::boxed::Box;
use core::time::Duration;

use smallvec::smallvec;

use crate::command::{LockRequest, Refusal, TryReply};
use crate::output::{Event, Granted, HappeningKind, Obstacle, Queued, WaitReason};
use crate::planted::{Bug, planted};
use crate::record::End;
use crate::shard::state::{Claim, Key, KeyIndex, LiveName, Slot, Ticket, Wait, name_of};
use crate::shard::{Shard, Step};
use crate::types::{Mode, Number, OnDisconnect, RefusedReason, SameOwner, StreamKind, Time};

impl Shard {
    /// Answers with the ticket that the stream follows from now on; `None` where its last event was pushed already.
    pub(super) fn lock(&mut self, request: LockRequest, step: &mut Step<'_>) -> Result<Option<Number>, Refusal> {
        if let Some(name) = name_of(&request.terms).filter(|_| !planted(Bug::RequestIdIgnored)) {
            self.end_overdue(name, step);
            if let Some(&slot) = self.names.get(&name) {
                self.attach(slot, &request, step)?;
                return Ok(Some(self.tickets[slot].number));
            }
            if let Some(record) = self.ended_names.get(&name).and_then(|number| self.ends.get(number)) {
                let event = match record.0.end.clone() {
                    End::Lost(reason) => Event::Lost {
                        token: record.0.token.unwrap_or_default(),
                        reason,
                    },
                    End::Refused(reason) => Event::Refused { reason, obstacle: None },
                };
                return Ok(tell_last(&request, event, step));
            }
        }
        if request.attach_only {
            let event = Event::Refused {
                reason: RefusedReason::NotHeld,
                obstacle: None,
            };
            return Ok(tell_last(&request, event, step));
        }
        if let Some(slot) = self.reenter(&request, step)? {
            let granted = self.granted(slot, step.now);
            self.told(slot, step);
            if let Some(stream) = request.stream {
                Self::push(step, stream.id, granted.ticket, Event::Granted(granted));
            }
            return Ok(Some(self.tickets[slot].number));
        }
        self.check_capacity(&request)?;
        if request.terms.wait_timeout == Some(Duration::ZERO)
            && let Some(obstacle) = self.obstacle(&request.terms.key, request.terms.mode, step.now)
        {
            let event = Event::Refused {
                reason: RefusedReason::WouldWait,
                obstacle: Some(obstacle),
            };
            return Ok(tell_last(&request, event, step));
        }
        self.check_room(&request)?;
        let slot = self.enqueue(&request, step);
        Ok(Some(self.tickets[slot].number))
    }

    /// Q5: granted exactly where `Lock` would not have to wait.
    pub(super) fn try_lock(&mut self, request: LockRequest, step: &mut Step<'_>) -> Result<TryReply, Refusal> {
        let would_wait = |obstacle| TryReply::Refused {
            reason: RefusedReason::WouldWait,
            obstacle,
        };
        if let Some(name) = name_of(&request.terms) {
            self.end_overdue(name, step);
            if let Some(&slot) = self.names.get(&name) {
                self.check_content(slot, &request)?;
                return Ok(match self.tickets[slot].hold {
                    Some(_) => TryReply::Granted(self.granted(slot, step.now)),
                    None => would_wait(self.obstacle(&request.terms.key, request.terms.mode, step.now)),
                });
            }
            if self.ended_names.contains_key(&name) {
                return Ok(TryReply::Refused {
                    reason: RefusedReason::NotHeld,
                    obstacle: None,
                });
            }
        }
        if let Some(slot) = self.reenter(&request, step)? {
            return Ok(TryReply::Granted(self.granted(slot, step.now)));
        }
        self.check_capacity(&request)?;
        if let Some(obstacle) = self.obstacle(&request.terms.key, request.terms.mode, step.now) {
            return Ok(would_wait(Some(obstacle)));
        }
        self.check_room(&request)?;
        let slot = self.enqueue(&request, step);
        assert!(
            self.tickets[slot].hold.is_some(),
            "nothing was in the way, yet nothing was granted"
        );
        Ok(TryReply::Granted(self.granted(slot, step.now)))
    }

    /// What a request of this mode would have to wait for, named in the order: holder, delay, earlier ticket.
    pub(super) fn obstacle(&self, key: &str, mode: Mode, now: Time) -> Option<Obstacle> {
        let key = &self.keys[*self.key_index.get(key)?];
        if !key.admits(mode) {
            let holder = key.holders.head().filter(|_| self.holder_bars(key, mode));
            return Some(match holder {
                Some(slot) => Obstacle::Holder(self.holder_view(slot, now)),
                None => Obstacle::LockDelay {
                    left: delay_left(key, now),
                },
            });
        }
        // A head that is away and no longer waited for is passed over, by this request too.
        let ahead = key
            .line
            .iter(&self.tickets)
            .find(|(_, ticket)| !ticket.is_passed_by(now));
        ahead.map(|(slot, _)| Obstacle::Waiter(self.waiter_view(slot, 0, now)))
    }

    /// The state of a waiting ticket, as its stream is told it.
    pub(super) fn queued(&self, slot: Slot, position: u64) -> Queued {
        let key = &self.keys[self.tickets[slot].key];
        let reason = match (position, key.holders.is_empty(), key.ghosts.is_empty()) {
            (0, true, false) => WaitReason::LockDelay,
            (0, _, _) => WaitReason::Held,
            (_, _, _) => WaitReason::Queue,
        };
        let turns = u32::try_from(position + 1).unwrap_or(u32::MAX);
        Queued {
            position,
            holders: key.holders.len(),
            eta: key.hold_mean.map(|mean| mean.saturating_mul(turns)),
            reason,
        }
    }

    /// The state of a held ticket, as its claims are told it.
    pub(super) fn granted(&self, slot: Slot, now: Time) -> Granted {
        let ticket = &self.tickets[slot];
        let Some(hold) = &ticket.hold else {
            unreachable!("asked for the grant of a ticket that waits")
        };
        let lowest = self.keys[ticket.key]
            .holders
            .head()
            .and_then(|head| self.tickets[head].hold.as_ref());
        let left = hold.end_max.since(now);
        Granted {
            ticket: ticket.number,
            token: hold.token,
            lowest_valid: lowest.map_or(hold.token, |lowest| lowest.token),
            ttl: self.lease_left(slot, now),
            claims: u32::try_from(ticket.claims.len()).unwrap_or(u32::MAX),
            waited: hold.waited,
            previous_outcome: hold.previous_outcome.clone(),
            max_hold_left: ticket.terms.max_hold.map(|_| left),
        }
    }

    /// A repeat comes back to its ticket or its grant (I1).
    fn attach(&mut self, slot: Slot, request: &LockRequest, step: &mut Step<'_>) -> Result<(), Refusal> {
        self.check_content(slot, request)?;
        let now = step.now;
        let ticket = &mut self.tickets[slot];
        let ttl = ticket.ttl;
        let (number, key) = (ticket.number, ticket.key);
        let Some(claim) = ticket
            .claims
            .iter_mut()
            .find(|claim| claim.terms.request_id == request.terms.request_id)
        else {
            unreachable!("a name leads to a ticket without its claim")
        };
        if request.attach_number < claim.attach_number {
            return Err(Refusal::Superseded);
        }
        let mut record_changes = request.attach_number > claim.attach_number;
        claim.attach_number = request.attach_number;
        let before = core::mem::replace(&mut claim.stream, request.stream);
        let wished = core::mem::replace(&mut claim.events, request.events);
        let (had, has) = (wished.queue_updates || wished.contended, claim.wants_updates());
        claim.away_end = Time::NEVER;
        ticket.wait.returns(now);
        let leased = claim.terms.on_disconnect == OnDisconnect::Lease;
        if let Some(hold) = &mut ticket.hold {
            if !leased {
                // The repeat is a message of the client's: the lease may count from it.
                hold.lease_end = hold.lease_end.max(now.after(ttl));
            }
            if request.stream.is_some_and(|stream| stream.kind == StreamKind::Plain) {
                record_changes |= hold.ack_until.take().is_some();
                hold.outcome_up_to = None;
            }
        }
        self.count_wish(key, had, has);
        if let Some(before) = before {
            Self::push(step, before.id, number, Event::Superseded);
        }
        if record_changes {
            self.touch(slot);
        }
        self.arm_ticket(slot, now);
        self.tell_state(slot, step);
        Ok(())
    }

    /// Pushes to a ticket's streams what it is now, after the line had its chance to move.
    pub(super) fn tell_state(&mut self, slot: Slot, step: &mut Step<'_>) {
        if self.tickets[slot].hold.is_some() {
            self.tell_granted(slot, step);
            return;
        }
        // A ticket that was away may have been all that stood before the grant, which then tells its stream.
        self.pump(self.tickets[slot].key, false, step);
        if self.tickets[slot].hold.is_none() {
            let position = self.position(slot);
            let event = Event::Queued(self.queued(slot, position));
            self.tickets[slot].wait.position_told = position;
            self.push_all(slot, &event, step);
        }
    }

    /// I2: what `same_owner` says at a hold of the same owner. `Some`: the claim was added to it.
    fn reenter(&mut self, request: &LockRequest, step: &mut Step<'_>) -> Result<Option<Slot>, Refusal> {
        if request.terms.same_owner == SameOwner::Wait {
            return Ok(None);
        }
        let Some(&key) = self.key_index.get(&request.terms.key) else {
            return Ok(None);
        };
        let own = self.keys[key]
            .holders
            .iter(&self.tickets)
            .find(|(_, ticket)| ticket.terms.owner == request.terms.owner);
        let Some((slot, _)) = own else { return Ok(None) };
        if self.end_if_over(slot, step) {
            return Ok(None);
        }
        let ticket = &self.tickets[slot];
        if request.terms.same_owner == SameOwner::Refuse {
            let token = ticket.hold.as_ref().map(|hold| hold.token).unwrap_or_default();
            return Err(Refusal::LockBySelf { token });
        }
        if ticket.terms.mode != request.terms.mode {
            return Err(Refusal::ModeMismatch);
        }
        if ticket.claims.len() >= self.config.claims_max as usize {
            return Err(Refusal::TooManyClaims {
                limit: self.config.claims_max,
            });
        }
        let ticket = &mut self.tickets[slot];
        ticket.ttl = ticket.ttl.max(request.ttl);
        let ttl = ticket.ttl;
        ticket.claims.push(claim_of(request));
        if let Some(hold) = &mut ticket.hold {
            hold.lease_end = hold.lease_end.max(step.now.after(ttl));
            // This claim's grant answers its request, so the hold is known to its owner (G3).
            hold.ack_until = None;
            hold.outcome_up_to = None;
        }
        self.remember_name(request, slot);
        self.count_wish(key, false, request.events.queue_updates || request.events.contended);
        self.touch(slot);
        self.arm_ticket(slot, step.now);
        Ok(Some(slot))
    }

    /// I1: a repeat must be the same request.
    fn check_content(&self, slot: Slot, request: &LockRequest) -> Result<(), Refusal> {
        let ticket = &self.tickets[slot];
        let claim = ticket
            .claims
            .iter()
            .find(|claim| claim.terms.request_id == request.terms.request_id);
        let same = claim.is_some_and(|claim| claim.terms.same_owner == request.terms.same_owner)
            && ticket.terms.mode == request.terms.mode;
        if same { Ok(()) } else { Err(Refusal::RequestIdReused) }
    }

    /// One capacity is in force while a permit ticket of the key lives.
    fn check_capacity(&self, request: &LockRequest) -> Result<(), Refusal> {
        let Mode::Permits { capacity, .. } = request.terms.mode else {
            return Ok(());
        };
        let Some(&key) = self.key_index.get(&request.terms.key) else {
            return Ok(());
        };
        let key = &self.keys[key];
        if key.permit_tickets > 0 && key.capacity != capacity {
            return Err(Refusal::CapacityMismatch { capacity: key.capacity });
        }
        Ok(())
    }

    fn check_room(&self, request: &LockRequest) -> Result<(), Refusal> {
        let Some(&key) = self.key_index.get(&request.terms.key) else {
            return Ok(());
        };
        // Bound: tickets in line per key.
        if self.keys[key].line.len() >= u64::from(self.config.waiters_max) {
            return Err(Refusal::QueueFull {
                limit: self.config.waiters_max,
            });
        }
        Ok(())
    }

    /// Puts a new ticket at the tail and lets the line move. Where it has to wait, its stream is told its place.
    fn enqueue(&mut self, request: &LockRequest, step: &mut Step<'_>) -> Slot {
        let number = self.next_number(step);
        let key = self.key_of(request);
        let slot = self.tickets.insert(Box::new(ticket_of(
            request,
            number,
            key,
            self.config.away_wait,
            step.now,
        )));
        self.numbers.insert(number, slot);
        self.remember_name(request, slot);
        if let Mode::Permits { capacity, .. } = request.terms.mode {
            let key = &mut self.keys[key];
            key.capacity = capacity;
            key.permit_tickets += 1;
        }
        self.count_wish(key, false, request.events.queue_updates || request.events.contended);
        let position = self.keys[key].line.len();
        self.keys[key].line.push_back(&mut self.tickets, slot);
        self.touch(slot);
        self.fresh = Some(slot);
        self.pump(key, false, step);
        self.fresh = None;
        if self.tickets[slot].hold.is_none() {
            self.arm_ticket(slot, step.now);
            self.tickets[slot].wait.position_told = position;
            let event = Event::Queued(self.queued(slot, position));
            self.push_all(slot, &event, step);
            self.happened(slot, HappeningKind::Queued, step);
        }
        slot
    }

    fn key_of(&mut self, request: &LockRequest) -> KeyIndex {
        if let Some(&key) = self.key_index.get(&request.terms.key) {
            return key;
        }
        let key = self.keys.insert(Key::new(request.terms.key.clone()));
        self.key_index.insert(request.terms.key.clone(), key);
        key
    }

    /// Whether holders alone, without ghosts, already bar this mode.
    fn holder_bars(&self, key: &Key, mode: Mode) -> bool {
        if key.ghosts.is_empty() {
            return true;
        }
        let mut bars = key.bars;
        key.ghosts.iter().for_each(|ghost| bars.remove(ghost.mode));
        match mode {
            Mode::Exclusive => true,
            Mode::Shared => bars.exclusive > 0 || bars.permits > 0,
            Mode::Permits { permits, .. } => {
                bars.exclusive > 0 || bars.shared > 0 || bars.permits + u64::from(permits) > u64::from(key.capacity)
            }
        }
    }

    /// The request can be repeated from now on.
    fn remember_name(&mut self, request: &LockRequest, slot: Slot) {
        if let Some(name) = LiveName::of(&request.terms) {
            self.names.insert(name, slot);
        }
    }

    /// Tickets ahead, counted along the line.
    pub(super) fn position(&self, slot: Slot) -> u64 {
        let key = &self.keys[self.tickets[slot].key];
        key.line.iter(&self.tickets).take_while(|(at, _)| *at != slot).count() as u64
    }
}

/// What is left of the longest lock-delay of a key.
pub(super) fn delay_left(key: &Key, now: Time) -> Duration {
    key.ghosts
        .iter()
        .map(|ghost| ghost.until.since(now))
        .max()
        .unwrap_or_default()
}

impl Ticket {
    /// Q2: its stream is away, and it has been waited for long enough.
    pub(super) fn is_passed_by(&self, now: Time) -> bool {
        !self.connected() && self.wait.away_until.is_some_and(|until| until <= now)
    }
}

/// Pushes the only event that this stream will see.
fn tell_last(request: &LockRequest, event: Event, step: &mut Step<'_>) -> Option<Number> {
    if let Some(stream) = request.stream {
        Shard::push(step, stream.id, 0, event);
    }
    None
}

fn claim_of(request: &LockRequest) -> Claim {
    Claim {
        terms: request.terms.clone(),
        attach_number: request.attach_number,
        stream: request.stream,
        ttl: request.ttl,
        events: request.events,
        away_end: Time::NEVER,
    }
}

fn ticket_of(request: &LockRequest, number: Number, key: KeyIndex, away_wait: Duration, now: Time) -> Ticket {
    Ticket {
        number,
        order: number,
        key,
        terms: request.terms.clone(),
        ttl: request.ttl,
        claims: smallvec![claim_of(request)],
        wait: Wait::starting(now, request.terms.wait_timeout, away_wait),
        hold: None,
        links: crate::shard::list::Links::default(),
        armed: Time::NEVER,
        dirty: false,
        stored: false,
    }
}

impl Wait {
    pub(super) fn starting(now: Time, timeout: Option<Duration>, away_wait: Duration) -> Self {
        Self {
            since: now,
            until: timeout.map_or(Time::NEVER, |timeout| now.after(timeout)),
            away_until: None,
            away_left: away_wait,
            passed_over: 0,
            withdrawn: 0,
            burned: 0,
            position_told: 0,
        }
    }

    /// Its stream is back.
    pub(super) fn returns(&mut self, now: Time) {
        if let Some(until) = self.away_until.take() {
            self.away_left = self.away_left.min(until.since(now));
        }
    }
}
