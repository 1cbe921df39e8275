//! The line moves: grants, tickets passed over, grants withdrawn (rules Q1, Q2, G2, G3, G5).

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::output::{Event, HappeningKind, ToldGrant};
use crate::record::{Change, OutcomeRecord};
use crate::shard::list::List;
use crate::shard::state::{Claim, Hold, KeyIndex, Slot};
use crate::shard::{Shard, Step};
use crate::types::{LostReason, Number, Outcome, StreamKind, Time};

impl Shard {
    /// Grants from the head for as long as the head goes with the holders; nobody overtakes it. `handoff`: a hold has
    /// just ended here. What exceeds one step's bound goes on in the next.
    pub(super) fn pump(&mut self, key: KeyIndex, handoff: bool, step: &mut Step<'_>) {
        let mut granted = 0;
        while let Some((slot, passed)) = self.next_grantable(key, step.now) {
            // Bound: what one step changes.
            if granted >= self.config.batch_max {
                if !core::mem::replace(&mut self.keys[key].unfinished, true) {
                    self.unfinished.push_back(key);
                }
                break;
            }
            self.grant(slot, handoff, step);
            for slot in passed {
                self.pass_over(slot, step);
            }
            granted += 1;
        }
        self.wish_sweep(key, step.now);
    }

    /// The ticket to grant now, and those that it passes: heads that are away and were waited for (Q2). Starts the
    /// waiting for a head that is away, together with that for those away right behind it, so that a row of dead heads
    /// costs one `away_wait`, not one each. Nobody waits for a head while an exclusive hold bars all.
    fn next_grantable(&mut self, key: KeyIndex, now: Time) -> Option<(Slot, Vec<Slot>)> {
        let mut passed = Vec::new();
        let mut started = 0;
        let mut cursor = self.keys[key]
            .line
            .head()
            .filter(|_| self.keys[key].bars.exclusive == 0);
        while let Some(slot) = cursor {
            let ticket = &mut self.tickets[slot];
            // A try has no stream, and is there all the same.
            if ticket.connected() || self.fresh == Some(slot) {
                return (started == 0 && self.keys[key].admits(ticket.terms.mode)).then_some((slot, passed));
            }
            match ticket.wait.away_until {
                None if started == 0 && ticket.wait.away_left.is_zero() => {
                    ticket.wait.away_until = Some(now);
                    passed.push(slot);
                }
                None if started < self.config.batch_max => {
                    ticket.wait.away_until = Some(now.after(ticket.wait.away_left));
                    started += 1;
                    self.arm_ticket(slot, now);
                }
                None => return None,
                Some(until) if until > now => return None,
                Some(_) if started > 0 => return None,
                Some(_) => passed.push(slot),
            }
            cursor = List::next(&self.tickets, slot);
        }
        None
    }

    fn grant(&mut self, slot: Slot, handoff: bool, step: &mut Step<'_>) {
        let now = step.now;
        let key = self.tickets[slot].key;
        let fresh = self.fresh == Some(slot);
        self.keys[key].line.remove(&mut self.tickets, slot);
        let token = self.token_for(slot, fresh, step);
        let (previous_outcome, outcome_up_to) = self.take_outcome(key, self.tickets[slot].number, step);
        let ack_until = now.after(self.config.ack_timeout);
        let ticket = &mut self.tickets[slot];
        let in_session = ticket
            .claims
            .iter()
            .any(|claim| claim.stream.is_some_and(|stream| stream.kind == StreamKind::Session));
        let end_max = ticket
            .terms
            .max_hold
            .map_or(Time::NEVER, |max_hold| now.after(max_hold));
        let waited = if fresh {
            core::time::Duration::ZERO
        } else {
            now.since(ticket.wait.since)
        };
        ticket.hold = Some(Box::new(Hold {
            token,
            since: now,
            waited,
            lease_end: now.after(ticket.ttl),
            promised_end: Time::default(),
            longest: core::time::Duration::ZERO,
            end_max,
            // A grant that did not have to wait answers its request and needs no acknowledgement.
            ack_until: (in_session && !fresh).then_some(ack_until),
            unsent: 0,
            expiring_told: false,
            contended_told: 0,
            previous_outcome,
            outcome_up_to,
        }));
        let mode = ticket.terms.mode;
        self.keys[key].bars.add(mode);
        self.keys[key].holders.push_back(&mut self.tickets, slot);
        self.holders += 1;
        self.tell_granted(slot, step);
        self.happened(
            slot,
            HappeningKind::Granted {
                waited: (!fresh).then_some(waited),
                handoff,
            },
            step,
        );
        self.touch(slot);
        self.arm_ticket(slot, now);
    }

    /// Tells all claims of a hold what they hold.
    pub(super) fn tell_granted(&mut self, slot: Slot, step: &mut Step<'_>) {
        let granted = self.granted(slot, step.now);
        self.told(slot, step);
        self.push_all(slot, &Event::Granted(granted), step);
    }

    /// A hold is told: its lease begins, or goes on, when that leaves.
    pub(super) fn told(&self, slot: Slot, step: &mut Step<'_>) {
        let ticket = &self.tickets[slot];
        let end = ticket.hold.as_ref().map(|hold| hold.lease_end.min(hold.end_max));
        step.out.granted.push(ToldGrant {
            ticket: ticket.number,
            ttl: end.unwrap_or_default().since(step.now),
        });
    }

    /// G2: greater than every earlier token of the key. A ticket granted in the step that took it may use its own
    /// number, while that is the last one given.
    fn token_for(&mut self, slot: Slot, fresh: bool, step: &mut Step<'_>) -> Number {
        let number = self.tickets[slot].number;
        if fresh && self.counter == number {
            return number;
        }
        let token = self.next_number(step);
        self.numbers.insert(token, slot);
        token
    }

    /// G5: the outcome goes to the first grant among the tickets that were queued when it was given; with the last of
    /// the line it is forgotten.
    fn take_outcome(&mut self, key: KeyIndex, number: Number, step: &mut Step<'_>) -> (Outcome, Option<Number>) {
        let key = &mut self.keys[key];
        let last = key.line.is_empty();
        let Some((outcome, up_to)) = key.outcome.take_if(|(_, up_to)| last || number <= *up_to) else {
            return (Outcome::default(), None);
        };
        step.out.changes.push(Change::DeleteOutcome(key.name.clone()));
        if number <= up_to {
            (outcome, Some(up_to))
        } else {
            (Outcome::default(), None)
        }
    }

    /// Keeps an outcome for those who wait now, or forgets what was kept where nobody does.
    pub(super) fn keep_outcome(&mut self, key: KeyIndex, outcome: Option<(Outcome, Number)>, step: &mut Step<'_>) {
        let key = &mut self.keys[key];
        let outcome = outcome.filter(|_| !key.line.is_empty());
        if let Some((outcome, up_to)) = &outcome {
            let record = OutcomeRecord {
                key: key.name.clone(),
                outcome: outcome.clone(),
                up_to: *up_to,
            };
            step.out.changes.push(Change::PutOutcome(record));
        } else if key.outcome.is_some() {
            step.out.changes.push(Change::DeleteOutcome(key.name.clone()));
        }
        key.outcome = outcome;
    }

    /// Q2: passed over twice, it goes to the tail.
    fn pass_over(&mut self, slot: Slot, step: &mut Step<'_>) {
        let wait = &mut self.tickets[slot].wait;
        wait.passed_over += 1;
        if wait.passed_over >= 2 {
            self.keys[self.tickets[slot].key].line.remove(&mut self.tickets, slot);
            self.send_to_tail(slot, step);
        }
    }

    fn send_to_tail(&mut self, slot: Slot, step: &mut Step<'_>) {
        let order = self.next_number(step);
        let ticket = &mut self.tickets[slot];
        ticket.order = order;
        ticket.wait.passed_over = 0;
        ticket.wait.withdrawn = 0;
        self.keys[ticket.key].line.push_back(&mut self.tickets, slot);
        self.touch(slot);
    }

    /// G3: a grant that was not acknowledged in time. Its token is burned and nothing is delayed.
    pub(super) fn withdraw(&mut self, slot: Slot, step: &mut Step<'_>) {
        let ticket = &self.tickets[slot];
        let key = ticket.key;
        assert!(ticket.claims.len() == 1, "a re-entry acknowledges");
        // Grace has an end; a LEASE claim without its stream has none, and nothing to come back within.
        let in_grace = |claim: &Claim| claim.away_end > step.now && claim.away_end != Time::NEVER;
        let may_return = !ticket.connected() && ticket.claims.iter().any(in_grace);
        if !may_return {
            self.restore_outcome(slot, step);
            self.end_lost(slot, LostReason::NotAcked, step);
            return;
        }
        self.happened(slot, HappeningKind::Withdrawn, step);
        self.restore_outcome(slot, step);
        let burned = self.tickets[slot].hold.as_ref().map_or(0, |hold| hold.token);
        self.unhold(slot);
        let wait = &mut self.tickets[slot].wait;
        wait.burned = burned;
        wait.withdrawn += 1;
        if wait.withdrawn >= 2 {
            self.send_to_tail(slot, step);
        } else {
            self.keys[key].line.insert_by_order(&mut self.tickets, slot);
            self.touch(slot);
        }
        self.arm_ticket(slot, step.now);
        self.pump(key, true, step);
    }

    /// Hands the outcome that an unacknowledged grant had taken back to the key, unless a newer one stands there.
    fn restore_outcome(&mut self, slot: Slot, step: &mut Step<'_>) {
        let ticket = &mut self.tickets[slot];
        let key = ticket.key;
        let Some(hold) = &mut ticket.hold else { return };
        let Some(up_to) = hold.outcome_up_to.take() else { return };
        let outcome = core::mem::take(&mut hold.previous_outcome);
        if self.keys[key].outcome.is_none() {
            let name = self.keys[key].name.clone();
            let record = OutcomeRecord {
                key: name,
                outcome: outcome.clone(),
                up_to,
            };
            step.out.changes.push(Change::PutOutcome(record));
            self.keys[key].outcome = Some((outcome, up_to));
        }
    }

    /// Takes the hold off a ticket: no longer among the holders, its token no longer known.
    pub(super) fn unhold(&mut self, slot: Slot) -> Option<Box<Hold>> {
        let ticket = &mut self.tickets[slot];
        let hold = ticket.hold.take()?;
        let (key, mode, number) = (ticket.key, ticket.terms.mode, ticket.number);
        if hold.token != number {
            self.numbers.remove(&hold.token);
        }
        self.keys[key].holders.remove(&mut self.tickets, slot);
        self.keys[key].bars.remove(mode);
        self.holders -= 1;
        Some(hold)
    }
}
