//! Deadlines: one timer per ticket and key, armed lazily, so that a renewal touches no timer (rules T1 to T3).

use core::time::Duration;

use crate::output::Event;
use crate::shard::state::{KeyIndex, Slot, Ticket};
use crate::shard::{Shard, Step};
use crate::types::{Number, OnDisconnect, RefusedReason, Time};

/// Whose deadline. Of deadlines at one instant the older ticket's comes first, and keys come last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A ticket's: wait timeout, lease, grace, acknowledgement.
    Ticket(Number, Slot),
    /// A key's: lock-delays and the sweep.
    Key(KeyIndex),
}

impl Shard {
    /// Handles what is due, a bounded part of it.
    pub(super) fn turn(&mut self, step: &mut Step<'_>) {
        let now = step.now;
        self.forgive_stall(now);
        for _ in 0..self.config.batch_max {
            let Some(&(at, timer)) = self.timers.first() else { break };
            if at > now {
                break;
            }
            self.timers.pop_first();
            match timer {
                Timer::Ticket(_, slot) => self.fire_ticket(slot, step),
                Timer::Key(key) => self.fire_key(key, step),
            }
        }
        for _ in 0..self.config.batch_max {
            if self.ends.first_key_value().is_none_or(|(_, (_, until))| *until > now) {
                break;
            }
            self.forget_oldest(step);
        }
        if let Some(key) = self.unfinished.pop_front() {
            self.keys[key].unfinished = false;
            self.settle_key(key, true, step);
        }
    }

    /// T1: a turn that comes much later than its deadline means that the server stood still. Clients could not renew
    /// meanwhile, so leases that fell due get half a TTL more, and what has arrived is applied first.
    fn forgive_stall(&mut self, now: Time) {
        let Some(&(first, _)) = self.timers.first() else { return };
        // What was forgiven once and is still being worked off is not forgiven again.
        if now.since(first) <= self.config.stall || first <= self.forgiven_to {
            return;
        }
        self.forgiven_to = now;
        let mut cursor = None;
        loop {
            let from = cursor.map_or(core::ops::Bound::Unbounded, core::ops::Bound::Excluded);
            let Some(&entry) = self
                .timers
                .range((from, core::ops::Bound::Included((now, LAST))))
                .next()
            else {
                break;
            };
            cursor = Some(entry);
            if let Timer::Ticket(_, slot) = entry.1 {
                self.forgive_ticket(slot, now);
            }
        }
    }

    fn forgive_ticket(&mut self, slot: Slot, now: Time) {
        let ticket = &mut self.tickets[slot];
        let half = now.after(ticket.ttl / 2);
        let over = ticket.hold.as_ref().is_some_and(|hold| ticket.hold_end(hold) <= now);
        let Some(hold) = &mut ticket.hold else { return };
        if over {
            hold.lease_end = hold.lease_end.max(half);
            for claim in &mut ticket.claims {
                if claim.stream.is_none() && claim.terms.on_disconnect != OnDisconnect::Lease {
                    claim.away_end = claim.away_end.max(half);
                }
            }
        }
        if let Some(until) = &mut hold.ack_until {
            *until = (*until).max(now.after(self.config.ack_timeout));
        }
    }

    fn fire_ticket(&mut self, slot: Slot, step: &mut Step<'_>) {
        let now = step.now;
        self.tickets[slot].armed = Time::NEVER;
        if self.tickets[slot].hold.is_some() {
            self.fire_hold(slot, step);
            return;
        }
        let ticket = &self.tickets[slot];
        let key = ticket.key;
        if ticket.wait.until <= now {
            self.leave(slot, RefusedReason::WaitTimeout, step);
        } else if ticket
            .claims
            .iter()
            .all(|claim| claim.stream.is_none() && claim.away_end <= now)
        {
            self.leave(slot, RefusedReason::Disconnected, step);
        } else {
            // It may have been waited for long enough: the line goes on without it.
            self.arm_ticket(slot, now);
            self.pump(key, false, step);
        }
    }

    fn fire_hold(&mut self, slot: Slot, step: &mut Step<'_>) {
        let now = step.now;
        // Once it has left, its times are looked at.
        if self.tickets[slot].hold.as_ref().is_some_and(|hold| hold.unsent > 0) {
            return;
        }
        match self.over_reason(slot, now) {
            Some(crate::types::LostReason::NotAcked) => return self.withdraw(slot, step),
            Some(reason) => return self.end_lost(slot, reason, step),
            None => {}
        }
        // One of several claims may be over while the hold goes on.
        while let Some(index) = self.over_claim(slot, now) {
            self.lose_claim(slot, index, step);
        }
        if self.expiring_at(slot).is_some_and(|at| at <= now) {
            let left = self.lease_left(slot, now);
            let ticket = &mut self.tickets[slot];
            if let Some(hold) = &mut ticket.hold {
                hold.expiring_told = true;
            }
            let number = ticket.number;
            let wished = self.tickets[slot].claims.iter().filter(|claim| claim.events.expiring);
            for stream in wished.filter_map(|claim| claim.stream) {
                Self::push(step, stream.id, number, Event::Expiring { left });
            }
        }
        self.arm_ticket(slot, now);
    }

    fn over_claim(&self, slot: Slot, now: Time) -> Option<usize> {
        let ticket = &self.tickets[slot];
        let hold = ticket.hold.as_ref()?;
        ticket
            .claims
            .iter()
            .position(|claim| claim.stream.is_none() && claim.end(hold) <= now)
    }

    /// When a holder that wishes so is told that its lease is about to end: with a third of it left.
    fn expiring_at(&self, slot: Slot) -> Option<Time> {
        let ticket = &self.tickets[slot];
        let hold = ticket.hold.as_ref()?;
        let wished = !hold.expiring_told && ticket.claims.iter().any(|claim| claim.events.expiring);
        let end = ticket.hold_end(hold);
        let third = u64::try_from((ticket.ttl / 3).as_nanos()).unwrap_or(u64::MAX);
        (wished && end != Time::NEVER).then(|| Time(end.0.saturating_sub(third)).max(hold.since))
    }

    /// Lease left, as told; the full length where the server renews it. Never beyond `max_hold`.
    pub(super) fn lease_left(&self, slot: Slot, now: Time) -> Duration {
        let ticket = &self.tickets[slot];
        let Some(hold) = &ticket.hold else {
            return Duration::ZERO;
        };
        let end = if ticket.server_renews() {
            now.after(ticket.ttl)
        } else {
            ticket.hold_end(hold)
        };
        let end = if end == Time::NEVER { hold.lease_end } else { end };
        end.min(hold.end_max).since(now)
    }

    fn fire_key(&mut self, key: KeyIndex, step: &mut Step<'_>) {
        let now = step.now;
        let state = &mut self.keys[key];
        state.armed = Time::NEVER;
        let mut freed = false;
        let bars = &mut state.bars;
        state.ghosts.retain(|ghost| {
            let over = ghost.until <= now;
            if over {
                bars.remove(ghost.mode);
                freed = true;
            }
            !over
        });
        if state.sweep_at.is_some_and(|at| at <= now) {
            self.sweep(key, step);
        }
        self.arm_key(key);
        if freed {
            self.settle_key(key, false, step);
        }
    }

    /// Tells waiters their new places and holders how many wait, outside the hand-off and at most once an interval.
    fn sweep(&mut self, key: KeyIndex, step: &mut Step<'_>) {
        let state = &mut self.keys[key];
        state.sweep_at = None;
        state.swept_at = Some(step.now);
        let (line, holders) = (state.line, state.holders);
        let mut position = 0;
        let mut cursor = line.head();
        while let Some(slot) = cursor {
            cursor = crate::shard::list::List::next(&self.tickets, slot);
            if self.tickets[slot].wait.position_told != position {
                self.tickets[slot].wait.position_told = position;
                let event = Event::Queued(self.queued(slot, position));
                self.push_wishers(slot, &event, |events| events.queue_updates, step);
            }
            position += 1;
        }
        let waiters = line.len();
        let mut cursor = holders.head();
        while let Some(slot) = cursor {
            cursor = crate::shard::list::List::next(&self.tickets, slot);
            let told = self.tickets[slot]
                .hold
                .as_mut()
                .map(|hold| core::mem::replace(&mut hold.contended_told, waiters));
            if waiters > 0 && told != Some(waiters) {
                self.push_wishers(slot, &Event::Contended { waiters }, |events| events.contended, step);
            }
        }
    }

    fn push_wishers(
        &self,
        slot: Slot,
        event: &Event,
        wishes: impl Fn(&crate::types::EventOptions) -> bool,
        step: &mut Step<'_>,
    ) {
        let ticket = &self.tickets[slot];
        for claim in ticket.claims.iter().filter(|claim| wishes(&claim.events)) {
            if let Some(stream) = claim.stream {
                Self::push(step, stream.id, ticket.number, event.clone());
            }
        }
    }

    /// The line has changed: those who wished for it are told soon, and never more often than the interval allows.
    pub(super) fn wish_sweep(&mut self, key: KeyIndex, now: Time) {
        let state = &mut self.keys[key];
        // Without a line there is nothing to tell, and the first who waits is told of at once.
        if state.update_wishes == 0 || state.line.is_empty() || state.sweep_at.is_some() {
            return;
        }
        let earliest = state.swept_at.map_or(now, |at| at.after(self.config.sweep_interval));
        state.sweep_at = Some(earliest.max(now));
        self.arm_key(key);
    }

    pub(super) fn count_wish(&mut self, key: KeyIndex, had: bool, has: bool) {
        let wishes = &mut self.keys[key].update_wishes;
        *wishes = *wishes + u32::from(has) - u32::from(had);
    }

    /// Sees to it that a timer fires no later than the ticket's next deadline. A later deadline leaves an earlier timer
    /// alone: it re-arms when it fires.
    pub(super) fn arm_ticket(&mut self, slot: Slot, now: Time) {
        // Never in the past: a deadline that a step brings up late is not the server's delay (T1).
        let deadline = self.ticket_deadline(slot, now).max(now);
        let Ticket { armed, number, .. } = *self.tickets[slot];
        if deadline < armed {
            if armed != Time::NEVER {
                self.timers.remove(&(armed, Timer::Ticket(number, slot)));
            }
            self.timers.insert((deadline, Timer::Ticket(number, slot)));
            self.tickets[slot].armed = deadline;
        }
    }

    pub(super) fn disarm_ticket(&mut self, slot: Slot) {
        let Ticket { armed, number, .. } = *self.tickets[slot];
        if armed != Time::NEVER {
            self.timers.remove(&(armed, Timer::Ticket(number, slot)));
            self.tickets[slot].armed = Time::NEVER;
        }
    }

    fn ticket_deadline(&self, slot: Slot, now: Time) -> Time {
        let ticket = &self.tickets[slot];
        let away = ticket.claims.iter().filter(|claim| claim.stream.is_none());
        let Some(hold) = &ticket.hold else {
            let gone = away.map(|claim| claim.away_end).max().unwrap_or(Time::NEVER);
            let passed = ticket
                .wait
                .away_until
                .filter(|until| *until > now)
                .unwrap_or(Time::NEVER);
            return ticket.wait.until.min(gone).min(passed);
        };
        if hold.unsent > 0 {
            return Time::NEVER;
        }
        let claims = away.map(|claim| claim.end(hold)).min().unwrap_or(Time::NEVER);
        let ack = hold.ack_until.unwrap_or(Time::NEVER);
        let expiring = self.expiring_at(slot).unwrap_or(Time::NEVER);
        ticket.hold_end(hold).min(claims).min(ack).min(expiring)
    }

    pub(super) fn arm_key(&mut self, key: KeyIndex) {
        let state = &mut self.keys[key];
        let ghosts = state
            .ghosts
            .iter()
            .map(|ghost| ghost.until)
            .min()
            .unwrap_or(Time::NEVER);
        let deadline = ghosts.min(state.sweep_at.unwrap_or(Time::NEVER));
        if deadline < state.armed {
            if state.armed != Time::NEVER {
                self.timers.remove(&(state.armed, Timer::Key(key)));
            }
            self.timers.insert((deadline, Timer::Key(key)));
            state.armed = deadline;
        }
    }

    pub(super) fn disarm_key(&mut self, key: KeyIndex) {
        let armed = self.keys[key].armed;
        if armed != Time::NEVER {
            self.timers.remove(&(armed, Timer::Key(key)));
        }
    }
}

/// Sorts after every timer of the same instant.
const LAST: Timer = Timer::Key(usize::MAX);
