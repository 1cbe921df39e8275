//! How holds and waits end in the naive model.

use std::sync::Arc;

use ticketlock_core::types::{LostReason, OutcomeStatus, RefusedReason, RequestId};

use super::{Claim, End, Naive, REQUEST_MEMORY, Ticket, Told};

impl Naive {
    /// G4, T5: a hold ends without its unlock.
    pub(super) fn lose(&mut self, at: usize, reason: LostReason) {
        if reason == LostReason::NotAcked && self.may_return(at) {
            return self.withdraw(at);
        }
        let ticket = self.tickets.remove(at);
        let hold = ticket.hold.as_ref().unwrap();
        let told = Told::Lost {
            grant: hold.grant,
            reason: reason.clone(),
        };
        self.tell_all(&ticket, &told);
        let mut grant = Some(hold.grant);
        for claim in &ticket.claims {
            self.remember(&ticket, claim.id, grant.take(), Err(reason.clone()));
        }
        if reason == LostReason::NotAcked {
            self.give_outcome_back(&ticket);
            self.drop_outcome_without_line(&ticket.key);
        } else {
            if !ticket.delay.is_zero() {
                let until = self.now.after(ticket.delay);
                self.ghosts.push((ticket.key.clone(), ticket.mode, until));
            }
            self.keep_outcome(&ticket.key, OutcomeStatus::Lost);
        }
        self.settle(&ticket.key, None);
    }

    fn may_return(&self, at: usize) -> bool {
        let ticket = &self.tickets[at];
        let in_grace = |claim: &Claim| claim.away_end.is_some_and(|end| end > self.now);
        !ticket.connected() && ticket.claims.iter().any(in_grace)
    }

    /// G3: not acknowledged, but it may come back: it waits on at its place.
    fn withdraw(&mut self, at: usize) {
        let mut ticket = self.tickets.remove(at);
        self.give_outcome_back(&ticket);
        ticket.burned = ticket.hold.take().map(|hold| hold.grant);
        ticket.withdrawn += 1;
        let key = ticket.key.clone();
        if ticket.withdrawn >= 2 {
            self.tickets.push(ticket);
            self.send_to_tail(self.tickets.len() - 1);
        } else {
            let place = self
                .line(&key)
                .into_iter()
                .find(|other| self.tickets[*other].order > ticket.order);
            self.tickets.insert(place.unwrap_or(self.tickets.len()), ticket);
        }
        self.settle(&key, None);
    }

    fn give_outcome_back(&mut self, ticket: &Ticket) {
        let hold = ticket.hold.as_ref().unwrap();
        if let Some(born) = hold.took {
            self.outcomes.entry(ticket.key.clone()).or_insert((hold.before, born));
        }
    }

    /// One claim of several ends with its stream; the hold with its last.
    pub(super) fn lose_claim(&mut self, at: usize, index: usize) {
        if self.tickets[at].claims.len() == 1 {
            return self.lose(at, LostReason::Disconnected);
        }
        let claim = self.remove_claim(at, index);
        let ticket = self.tickets[at].clone();
        self.remember(&ticket, claim.id, None, Err(LostReason::Disconnected));
    }

    pub(super) fn remove_claim(&mut self, at: usize, index: usize) -> Claim {
        let ticket = &mut self.tickets[at];
        let claim = ticket.claims.remove(index);
        ticket.longest = ticket.longest.max(ticket.ttl);
        ticket.ttl = ticket.claims.iter().map(|claim| claim.ttl).max().unwrap();
        claim
    }

    /// Q2: a waiter leaves without a grant.
    pub(super) fn leave(&mut self, at: usize, reason: RefusedReason) {
        let ticket = self.tickets.remove(at);
        self.tell_all(&ticket, &Told::Refused(reason));
        if reason != RefusedReason::Disconnected {
            self.remember(&ticket, ticket.claims[0].id, None, Ok(reason));
        }
        self.drop_outcome_without_line(&ticket.key);
        self.settle(&ticket.key, None);
    }

    /// Nobody is left whom it could be told.
    pub(super) fn drop_outcome_without_line(&mut self, key: &Arc<str>) {
        if self.line(key).is_empty() {
            self.outcomes.remove(key);
        }
    }

    /// G5: for the next grant among those in line now.
    pub(super) fn keep_outcome(&mut self, key: &Arc<str>, status: OutcomeStatus) {
        if !self.line(key).is_empty() {
            self.outcomes.insert(key.clone(), (status, self.births));
        } else {
            self.outcomes.remove(key);
        }
    }

    fn remember(
        &mut self,
        ticket: &Ticket,
        id: Option<RequestId>,
        grant: Option<usize>,
        how: Result<RefusedReason, LostReason>,
    ) {
        self.ends.push(End {
            key: ticket.key.clone(),
            owner: ticket.owner.clone(),
            id,
            grant,
            how,
            until: self.now.after(REQUEST_MEMORY),
        });
    }
}
