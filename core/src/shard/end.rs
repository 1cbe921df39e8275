//! How holds and waits end: unlock, cancel, force, a lost stream, time (rules Q2, G4, G5, T3, T5, I1).

use alloc::sync::Arc;

use crate::command::{ForceReply, Refusal, Unlock, UnlockReply};
use crate::output::{Event, HappeningKind};
use crate::planted::{Bug, planted};
use crate::record::{Change, End, EndRecord};
use crate::shard::state::{Claim, EndedName, Ghost, KeyIndex, Name, Slot};
use crate::shard::{Shard, Step};
use crate::types::{
    DetachCause, LostReason, Number, OnDisconnect, Outcome, OutcomeStatus, RefusedReason, RequestId, StreamId,
    StreamKind, Time,
};

impl Shard {
    pub(super) fn unlock(&mut self, unlock: Unlock, step: &mut Step<'_>) -> Result<UnlockReply, Refusal> {
        match unlock.token {
            Some(token) => match self.waits_again(token, &unlock) {
                Some(slot) => {
                    self.leave(slot, RefusedReason::Cancelled, step);
                    let ended_by = Some(LostReason::NotAcked);
                    Ok(UnlockReply::AlreadyReleased { ended_by })
                }
                None => self.unlock_token(token, unlock, step),
            },
            None => Ok(self.unlock_request(unlock, step)),
        }
    }

    /// A grant that was withdrawn (G3) left its ticket in line: who gives that grant back by token and name wants neither.
    fn waits_again(&self, token: Number, unlock: &Unlock) -> Option<Slot> {
        let name = Name {
            key: &unlock.key,
            owner: &unlock.owner,
            id: unlock.request_id?,
        };
        let slot = *self.names.get(&name)?;
        let ticket = &self.tickets[slot];
        (ticket.hold.is_none() && ticket.wait.burned == token).then_some(slot)
    }

    fn unlock_token(&mut self, token: Number, unlock: Unlock, step: &mut Step<'_>) -> Result<UnlockReply, Refusal> {
        let any = || self.keys[*self.key_index.get(&unlock.key)?].holders.head();
        let any = if planted(Bug::AnyTokenUnlocks) { any() } else { None };
        let Some(slot) = any.or_else(|| self.find_hold(&unlock.key, token)) else {
            return Ok(self.unknown_token(token));
        };
        if self.end_if_over(slot, step) {
            return Ok(self.unknown_token(token));
        }
        let ticket = &self.tickets[slot];
        if ticket.terms.owner != unlock.owner && any.is_none() {
            return Ok(UnlockReply::LockByOther);
        }
        let index = match unlock.request_id {
            Some(id) => ticket
                .claims
                .iter()
                .position(|claim| claim.terms.request_id == Some(id)),
            None if ticket.claims.len() > 1 => return Err(Refusal::RequestIdRequired),
            None => Some(0),
        };
        // A claim that this hold has no longer: the token was given, so an earlier try may have taken it off.
        let Some(index) = index else {
            return Ok(UnlockReply::AlreadyReleased { ended_by: None });
        };
        Ok(self.release_claim(slot, index, unlock.outcome, step))
    }

    fn unlock_request(&mut self, unlock: Unlock, step: &mut Step<'_>) -> UnlockReply {
        let Some(id) = unlock.request_id else {
            return UnlockReply::NotFound;
        };
        let name = Name {
            key: &unlock.key,
            owner: &unlock.owner,
            id,
        };
        let Some(&slot) = self.names.get(&name) else {
            let end = self.ended_names.get(&name).and_then(|number| self.ends.get(number));
            return match end.map(|(record, _)| &record.end) {
                Some(End::Lost(reason)) => UnlockReply::AlreadyReleased {
                    ended_by: Some(reason.clone()),
                },
                Some(End::Refused(RefusedReason::Cancelled)) => UnlockReply::Cancelled,
                Some(End::Refused(_)) | None => UnlockReply::NotFound,
            };
        };
        if self.tickets[slot].hold.is_none() {
            self.leave(slot, RefusedReason::Cancelled, step);
            return UnlockReply::Cancelled;
        }
        let reason = self.over_reason(slot, step.now);
        if self.end_if_over(slot, step) {
            return UnlockReply::AlreadyReleased { ended_by: reason };
        }
        let index = self.tickets[slot]
            .claims
            .iter()
            .position(|claim| claim.terms.request_id == Some(id));
        let Some(index) = index else {
            unreachable!("a name leads to a ticket without its claim")
        };
        self.release_claim(slot, index, unlock.outcome, step)
    }

    /// A token that does not hold: was it ever given?
    fn unknown_token(&self, token: Number) -> UnlockReply {
        if token <= self.base || token > self.counter {
            return UnlockReply::NotFound;
        }
        let end = self.ended_tokens.get(&token).and_then(|number| self.ends.get(number));
        let ended_by = end.and_then(|(record, _)| match &record.end {
            End::Lost(reason) => Some(reason.clone()),
            End::Refused(_) => None,
        });
        UnlockReply::AlreadyReleased { ended_by }
    }

    fn release_claim(&mut self, slot: Slot, index: usize, outcome: Outcome, step: &mut Step<'_>) -> UnlockReply {
        if self.tickets[slot].claims.len() == 1 {
            self.end_unlocked(slot, outcome, step);
            return UnlockReply::Released { claims: 0 };
        }
        let claim = self.remove_claim(slot, index, step.now);
        if let Some(stream) = claim.stream {
            Self::push(step, stream.id, self.tickets[slot].number, Event::Unlocked);
        }
        let claims = u32::try_from(self.tickets[slot].claims.len()).unwrap_or(u32::MAX);
        UnlockReply::Released { claims }
    }

    /// Takes one of several claims off a hold; the hold goes on with the longest TTL left, its lease never shorter.
    fn remove_claim(&mut self, slot: Slot, index: usize, now: Time) -> Claim {
        let ticket = &mut self.tickets[slot];
        let claim = ticket.claims.remove(index);
        let ttl = ticket.claims.iter().map(|claim| claim.ttl).max();
        ticket.set_ttl(ttl.unwrap_or(ticket.ttl));
        let key = ticket.key;
        self.forget_name(&claim.terms);
        self.count_wish(key, claim.wants_updates(), false);
        self.touch(slot);
        self.arm_ticket(slot, now);
        claim
    }

    pub(super) fn force_unlock(
        &mut self,
        key: &str,
        token: Number,
        by: Arc<str>,
        message: Arc<str>,
        step: &mut Step<'_>,
    ) -> ForceReply {
        if let Some(slot) = self.find_hold(key, token)
            && !self.end_if_over(slot, step)
        {
            let owner = self.tickets[slot].terms.owner.clone();
            self.end_lost(slot, LostReason::Revoked { by, message }, step);
            return ForceReply::Revoked { owner };
        }
        match self.unknown_token(token) {
            UnlockReply::NotFound => ForceReply::NotFound,
            _ => ForceReply::AlreadyReleased,
        }
    }

    /// T3: a stream has ended. One that was superseded is no longer any claim's, and ends nothing (I1).
    pub(super) fn detach(
        &mut self,
        key: &str,
        number: Number,
        stream: StreamId,
        cause: DetachCause,
        step: &mut Step<'_>,
    ) {
        let now = step.now;
        let Some(&slot) = self.numbers.get(&number) else { return };
        let ticket = &mut self.tickets[slot];
        if ticket.number != number || *self.keys[ticket.key].name != *key {
            return;
        }
        let carried = |claim: &Claim| claim.stream.is_some_and(|carrier| carrier.id == stream);
        let Some(index) = ticket.claims.iter().position(carried) else {
            return;
        };
        let promised = match &ticket.hold {
            // An unacknowledged grant is worth its `ack_timeout` and no more.
            Some(hold) => hold.ack_until.unwrap_or(hold.promised_end),
            None => Time::default(),
        };
        let lease_end = ticket
            .hold
            .as_ref()
            .filter(|hold| hold.ack_until.is_none())
            .map(|hold| hold.lease_end);
        let Some(claim) = ticket.claims.get_mut(index) else {
            return;
        };
        let kind = claim.stream.take().map(|stream| stream.kind);
        // On a session every lease answered something; on a plain stream only an answered renewal did.
        let promised = match (kind, lease_end) {
            (Some(StreamKind::Session), Some(lease_end)) => promised.max(lease_end),
            _ => promised,
        };
        let held = ticket.hold.is_some();
        claim.away_end = match (claim.terms.on_disconnect, cause, held) {
            (OnDisconnect::Grace(grace), _, true) => promised.max(now.after(grace)),
            (OnDisconnect::Grace(grace), _, false) => now.after(grace),
            (OnDisconnect::Lease, _, true) => Time::NEVER,
            (OnDisconnect::Release, DetachCause::Silent, true) => promised,
            (OnDisconnect::Release | OnDisconnect::Lease, _, _) => now,
        };
        let over = claim.away_end <= now;
        match (over, held) {
            (true, true) => self.lose_claim(slot, index, step),
            (true, false) if planted(Bug::WaiterLeftBehind) => {}
            (true, false) => self.leave(slot, RefusedReason::Disconnected, step),
            (false, true) => self.arm_ticket(slot, now),
            (false, false) => {
                self.arm_ticket(slot, now);
                // If it was waited for before, those behind it need not wait again.
                let key = self.tickets[slot].key;
                self.pump(key, false, step);
            }
        }
    }

    /// A claim on a hold ends with its stream; the hold ends with its last claim.
    pub(super) fn lose_claim(&mut self, slot: Slot, index: usize, step: &mut Step<'_>) {
        if self.tickets[slot].claims.len() == 1 {
            self.end_lost(slot, LostReason::Disconnected, step);
            return;
        }
        let claim = self.remove_claim(slot, index, step.now);
        self.remember(
            slot,
            claim.terms.request_id,
            None,
            End::Lost(LostReason::Disconnected),
            step,
        );
    }

    fn end_unlocked(&mut self, slot: Slot, outcome: Outcome, step: &mut Step<'_>) {
        let held = self.held_for(slot, step.now);
        self.push_all(slot, &Event::Unlocked, step);
        self.happened(slot, HappeningKind::Released { held }, step);
        let key = self.tickets[slot].key;
        self.count_hold(key, held);
        self.unhold(slot);
        let up_to = self.counter;
        self.keep_outcome(key, Some((outcome, up_to)), step);
        self.free(slot, step);
        self.settle_key(key, true, step);
    }

    /// T5, G4: a hold ends without its unlock. Its streams are told, its lock-delay begins, its end is remembered.
    pub(super) fn end_lost(&mut self, slot: Slot, reason: LostReason, step: &mut Step<'_>) {
        let now = step.now;
        let held = self.held_for(slot, now);
        let ticket = &self.tickets[slot];
        let (key, mode, lock_delay) = (ticket.key, ticket.terms.mode, ticket.terms.lock_delay);
        let token = ticket.hold.as_ref().map(|hold| hold.token).unwrap_or_default();
        self.push_all(
            slot,
            &Event::Lost {
                token,
                reason: reason.clone(),
            },
            step,
        );
        self.happened(
            slot,
            HappeningKind::Lost {
                reason: reason.clone(),
                held,
            },
            step,
        );
        // A withdrawn grant delays nothing, and what it was told of the hold before goes to the next.
        let withdrawn = reason == LostReason::NotAcked;
        self.remember_all(slot, Some(token), &End::Lost(reason), step);
        self.unhold(slot);
        if withdrawn {
            let kept = self.keys[key].outcome.clone();
            self.keep_outcome(key, kept, step);
        } else {
            if lock_delay > core::time::Duration::ZERO {
                let key = &mut self.keys[key];
                key.bars.add(mode);
                key.ghosts.push(Ghost {
                    mode,
                    until: now.after(lock_delay),
                });
                self.arm_key(self.tickets[slot].key);
            }
            let lost = Outcome {
                status: OutcomeStatus::Lost,
                ..Outcome::default()
            };
            let up_to = self.counter;
            self.keep_outcome(key, Some((lost, up_to)), step);
        }
        self.free(slot, step);
        self.settle_key(key, true, step);
    }

    /// A waiter leaves. `Granted` never follows: the ticket is gone.
    pub(super) fn leave(&mut self, slot: Slot, reason: RefusedReason, step: &mut Step<'_>) {
        let key = self.tickets[slot].key;
        self.push_all(slot, &Event::Refused { reason, obstacle: None }, step);
        self.keys[key].line.remove(&mut self.tickets, slot);
        self.happened(slot, HappeningKind::Left { reason }, step);
        if reason != RefusedReason::Disconnected {
            self.remember_all(slot, None, &End::Refused(reason), step);
        }
        self.free(slot, step);
        if self.keys[key].line.is_empty() {
            self.keep_outcome(key, None, step);
        }
        self.settle_key(key, false, step);
    }

    /// A repeat of a hold that is over must not bring it back, whether or not a timer has fired (T1).
    pub(super) fn end_overdue(&mut self, name: Name<'_>, step: &mut Step<'_>) {
        if let Some(&slot) = self.names.get(&name) {
            self.end_if_over(slot, step);
        }
    }

    /// At `now >= end` it is over, whether or not a timer has fired (T1).
    pub(super) fn end_if_over(&mut self, slot: Slot, step: &mut Step<'_>) -> bool {
        match self.over_reason(slot, step.now) {
            Some(LostReason::NotAcked) => self.withdraw(slot, step),
            Some(reason) => self.end_lost(slot, reason, step),
            None => return false,
        }
        true
    }

    /// Why a hold is over at `now`, if it is.
    pub(super) fn over_reason(&self, slot: Slot, now: Time) -> Option<LostReason> {
        let ticket = &self.tickets[slot];
        let hold = ticket.hold.as_ref().filter(|hold| hold.unsent == 0)?;
        if hold.end_max <= now {
            return Some(LostReason::MaxHold);
        }
        if hold.ack_until.is_some_and(|until| until <= now) {
            return Some(LostReason::NotAcked);
        }
        if ticket.hold_end(hold) > now || (planted(Bug::ExpiryOffByOne) && ticket.hold_end(hold) == now) {
            return None;
        }
        let leased = |claim: &Claim| claim.terms.on_disconnect == OnDisconnect::Lease || claim.stream.is_some();
        Some(if ticket.claims.iter().any(leased) {
            LostReason::Expired
        } else {
            LostReason::Disconnected
        })
    }

    fn remember_all(&mut self, slot: Slot, token: Option<Number>, end: &End, step: &mut Step<'_>) {
        let mut token = token;
        for index in 0..self.tickets[slot].claims.len() {
            let id = self.tickets[slot]
                .claims
                .get(index)
                .and_then(|claim| claim.terms.request_id);
            self.remember(slot, id, token.take(), end.clone(), step);
        }
    }

    /// I1: abnormal ends answer repeats for `request_memory`.
    fn remember(&mut self, slot: Slot, id: Option<RequestId>, token: Option<Number>, end: End, step: &mut Step<'_>) {
        if id.is_none() && token.is_none() {
            return;
        }
        // Bound: ends per shard.
        while self.ends.len() >= self.config.ends_max.max(1) {
            self.forget_oldest(step);
        }
        let number = self.next_number(step);
        let ticket = &self.tickets[slot];
        let key = self.keys[ticket.key].name.clone();
        let record = EndRecord {
            number,
            key,
            owner: ticket.terms.owner.clone(),
            request_id: id,
            token,
            end,
        };
        step.out.changes.push(Change::PutEnd(record.clone()));
        self.index_end(record, step.now);
    }

    pub(super) fn index_end(&mut self, record: EndRecord, now: Time) {
        if let Some(id) = record.request_id {
            let name = EndedName {
                key: record.key.clone(),
                owner: record.owner.clone(),
                id,
            };
            self.ended_names.insert(name, record.number);
        }
        if let Some(token) = record.token {
            self.ended_tokens.insert(token, record.number);
        }
        self.ends
            .insert(record.number, (record, now.after(self.config.request_memory)));
    }

    pub(super) fn forget_oldest(&mut self, step: &mut Step<'_>) {
        let Some((number, (record, _))) = self.ends.pop_first() else {
            return;
        };
        if let Some(id) = record.request_id {
            let name = EndedName {
                key: record.key,
                owner: record.owner,
                id,
            };
            if self.ended_names.get(&name) == Some(&number) {
                self.ended_names.remove(&name);
            }
        }
        if let Some(token) = record.token {
            self.ended_tokens.remove(&token);
        }
        step.out.changes.push(Change::DeleteEnd(number));
    }

    /// Removes a ticket that is in no list any more.
    fn free(&mut self, slot: Slot, step: &mut Step<'_>) {
        self.disarm_ticket(slot);
        let ticket = self.tickets.remove(slot);
        for claim in &ticket.claims {
            self.count_wish(ticket.key, claim.wants_updates(), false);
            self.forget_name(&claim.terms);
        }
        self.numbers.remove(&ticket.number);
        if matches!(ticket.terms.mode, crate::types::Mode::Permits { .. }) {
            self.keys[ticket.key].permit_tickets -= 1;
        }
        if ticket.stored {
            step.out.changes.push(Change::DeleteTicket(ticket.number));
        }
    }

    /// Lets the line move, and removes the key where nothing keeps it (Q4).
    pub(super) fn settle_key(&mut self, key: KeyIndex, handoff: bool, step: &mut Step<'_>) {
        self.pump(key, handoff, step);
        if self.keys[key].is_idle() {
            assert!(
                self.keys[key].outcome.is_none(),
                "an outcome without anybody who waits for it"
            );
            self.disarm_key(key);
            let key = self.keys.remove(key);
            self.key_index.remove(&key.name);
        }
    }

    fn held_for(&self, slot: Slot, now: Time) -> core::time::Duration {
        self.tickets[slot]
            .hold
            .as_ref()
            .map(|hold| now.since(hold.since))
            .unwrap_or_default()
    }

    /// A running mean in which a hold counts one eighth.
    fn count_hold(&mut self, key: KeyIndex, held: core::time::Duration) {
        let mean = &mut self.keys[key].hold_mean;
        *mean = Some(mean.map_or(held, |mean| (mean * 7 + held) / 8));
    }
}
