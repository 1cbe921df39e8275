//! What clients, streams and operators may ask of the naive model.

use std::sync::Arc;
use std::time::Duration;

use ticketlock_core::command::{LockRequest, Renew, Unlock};
use ticketlock_core::types::{
    DetachCause, LostReason, Mode, OnDisconnect, RefusedReason, SameOwner, StreamId, StreamKind, Time,
};

use super::{ACK_TIMEOUT, Answer, Claim, Naive, RECOVERY_GRACE, Ticket, Told};

impl Naive {
    pub fn lock(&mut self, request: &LockRequest) -> Answer {
        if let Some(answer) = self.known(request) {
            return answer;
        }
        if request.attach_only {
            return self.refuse_stream(request, RefusedReason::NotHeld);
        }
        match self.same_owner(request) {
            Ok(None) => {}
            Ok(Some(at)) => {
                let told = self.granted(&self.tickets[at]);
                self.tell(request.stream, told);
                return Answer::Attached(true);
            }
            Err(why) => return Answer::Denied(why),
        }
        if self.capacity_differs(request) {
            return Answer::Denied("capacity");
        }
        if request.terms.wait_timeout == Some(Duration::ZERO) && self.would_wait(request) {
            return self.refuse_stream(request, RefusedReason::WouldWait);
        }
        if self.line(&request.terms.key).len() >= self.waiters_max {
            return Answer::Denied("full");
        }
        let born = self.enqueue(request);
        if let Some(at) = self
            .line(&request.terms.key)
            .into_iter()
            .find(|at| self.tickets[*at].born == born)
        {
            let told = self.queued(at);
            self.tell(request.stream, told);
        }
        Answer::Attached(true)
    }

    pub fn try_lock(&mut self, request: &LockRequest) -> Answer {
        if let Some(at) = self.find(&request.terms.key, &request.terms.owner, request.terms.request_id) {
            self.end_overdue(at);
        }
        if let Some(at) = self.find(&request.terms.key, &request.terms.owner, request.terms.request_id) {
            if !self.same_content(at, request) {
                return Answer::Denied("reused");
            }
            return match &self.tickets[at].hold {
                Some(hold) => Answer::Granted { grant: hold.grant },
                None => Answer::Refused(RefusedReason::WouldWait),
            };
        }
        if self
            .ended(&request.terms.key, &request.terms.owner, request.terms.request_id)
            .is_some()
        {
            return Answer::Refused(RefusedReason::NotHeld);
        }
        let own = match self.same_owner(request) {
            Ok(own) => own,
            Err(why) => return Answer::Denied(why),
        };
        if let Some(at) = own {
            return Answer::Granted {
                grant: self.tickets[at].hold.as_ref().unwrap().grant,
            };
        }
        if self.capacity_differs(request) {
            return Answer::Denied("capacity");
        }
        if self.would_wait(request) {
            return Answer::Refused(RefusedReason::WouldWait);
        }
        if self.line(&request.terms.key).len() >= self.waiters_max {
            return Answer::Denied("full");
        }
        self.enqueue(request);
        Answer::Granted {
            grant: self.grants.len() - 1,
        }
    }

    /// Q5: whether a request of this mode would have to wait.
    fn would_wait(&self, request: &LockRequest) -> bool {
        !self.admits(&request.terms.key, request.terms.mode)
            || self.line(&request.terms.key).into_iter().any(|at| !self.passed_by(at))
    }

    fn refuse_stream(&mut self, request: &LockRequest, reason: RefusedReason) -> Answer {
        self.tell(request.stream, Told::Refused(reason));
        Answer::Attached(false)
    }

    /// I1: the request is there already, or its end is remembered.
    fn known(&mut self, request: &LockRequest) -> Option<Answer> {
        if let Some(at) = self.find(&request.terms.key, &request.terms.owner, request.terms.request_id) {
            self.end_overdue(at);
        }
        if let Some(at) = self.find(&request.terms.key, &request.terms.owner, request.terms.request_id) {
            return Some(self.attach(at, request));
        }
        let end = self.ended(&request.terms.key, &request.terms.owner, request.terms.request_id)?;
        let told = match &end.how {
            Ok(reason) => Told::Refused(*reason),
            Err(reason) => Told::Lost {
                grant: end.grant.unwrap_or(usize::MAX),
                reason: reason.clone(),
            },
        };
        self.tell(request.stream, told);
        Some(Answer::Attached(false))
    }

    fn same_content(&self, at: usize, request: &LockRequest) -> bool {
        let ticket = &self.tickets[at];
        let claim = ticket
            .claims
            .iter()
            .find(|claim| claim.id == request.terms.request_id)
            .unwrap();
        ticket.mode == request.terms.mode && claim.same_owner == request.terms.same_owner
    }

    fn attach(&mut self, at: usize, request: &LockRequest) -> Answer {
        if !self.same_content(at, request) {
            return Answer::Denied("reused");
        }
        let now = self.now;
        let ticket = &mut self.tickets[at];
        let claim = ticket
            .claims
            .iter_mut()
            .find(|claim| claim.id == request.terms.request_id)
            .unwrap();
        if request.attach_number < claim.attach {
            return Answer::Denied("superseded");
        }
        claim.attach = request.attach_number;
        claim.away_end = None;
        if let Some(until) = ticket.away_until.take() {
            ticket.away_left = ticket.away_left.min(until.since(now));
        }
        let leased = claim.policy == OnDisconnect::Lease;
        let before = std::mem::replace(&mut claim.stream, request.stream);
        if let Some(hold) = &mut ticket.hold {
            if !leased {
                hold.lease = hold.lease.max(now.after(ticket.ttl));
            }
            if request.stream.unwrap().kind == StreamKind::Plain {
                hold.ack = None;
                hold.took = None;
            } else {
                hold.ack = hold.ack.map(|ack| ack.max(now.after(ACK_TIMEOUT)));
            }
        }
        let (born, key) = (ticket.born, ticket.key.clone());
        self.tell(before, Told::Superseded);
        if self.tickets[at].hold.is_none() {
            self.settle(&key, None);
        } else {
            let ticket = self.tickets[at].clone();
            let told = self.granted(&ticket);
            self.tell_all(&ticket, &told);
        }
        if let Some(at) = self.line(&key).into_iter().find(|at| self.tickets[*at].born == born) {
            let told = self.queued(at);
            let ticket = self.tickets[at].clone();
            self.tell_all(&ticket, &told);
        }
        Answer::Attached(true)
    }

    fn queued(&self, at: usize) -> Told {
        let key = &self.tickets[at].key;
        Told::Queued {
            position: self.line(key).into_iter().take_while(|other| *other != at).count(),
            holders: self.holders(key).len(),
        }
    }

    /// I2.
    fn same_owner(&mut self, request: &LockRequest) -> Result<Option<usize>, &'static str> {
        if request.terms.same_owner == SameOwner::Wait {
            return Ok(None);
        }
        let holders = self.holders(&request.terms.key);
        let Some(at) = holders
            .into_iter()
            .find(|at| self.tickets[*at].owner == request.terms.owner)
        else {
            return Ok(None);
        };
        if request.terms.same_owner == SameOwner::Refuse {
            return Err("by self");
        }
        let now = self.now;
        let ticket = &mut self.tickets[at];
        if ticket.mode != request.terms.mode {
            return Err("mode");
        }
        if ticket.claims.len() >= self.claims_max {
            return Err("claims");
        }
        ticket.ttl = ticket.ttl.max(request.ttl);
        ticket.claims.push(claim(request));
        let hold = ticket.hold.as_mut().unwrap();
        hold.lease = hold.lease.max(now.after(ticket.ttl));
        hold.ack = None;
        hold.took = None;
        Ok(Some(at))
    }

    fn capacity_differs(&self, request: &LockRequest) -> bool {
        let Mode::Permits { capacity, .. } = request.terms.mode else {
            return false;
        };
        self.capacity(&request.terms.key)
            .is_some_and(|in_force| in_force != capacity)
    }

    fn enqueue(&mut self, request: &LockRequest) -> usize {
        let born = self.births;
        self.births += 1;
        self.tickets.push(Ticket {
            born,
            order: born,
            key: request.terms.key.clone(),
            owner: request.terms.owner.clone(),
            mode: request.terms.mode,
            ttl: request.ttl,
            longest: request.ttl,
            wait_timeout: request.terms.wait_timeout,
            delay: request.terms.lock_delay,
            max_hold: request.terms.max_hold,
            claims: vec![claim(request)],
            since: self.now,
            until: request.terms.wait_timeout.map(|wait| self.now.after(wait)),
            away_until: None,
            away_left: super::AWAY_WAIT,
            passed: 0,
            withdrawn: 0,
            burned: None,
            hold: None,
        });
        self.settle(&request.terms.key, Some(born));
        born
    }

    fn held(&self, key: &str, grant: usize) -> Option<usize> {
        let holders = self.holders(key).into_iter();
        holders
            .into_iter()
            .find(|at| self.tickets[*at].hold.as_ref().unwrap().grant == grant)
    }

    /// `grant`: the hold that the token names.
    pub fn unlock(&mut self, unlock: &Unlock, grant: Option<usize>) -> Answer {
        let named = self.find(&unlock.key, &unlock.owner, unlock.request_id);
        let waits = named.filter(|at| self.tickets[*at].hold.is_none());
        if let Some(at) = waits.filter(|at| grant.is_some() && self.tickets[*at].burned == grant) {
            self.leave(at, RefusedReason::Cancelled);
            return Answer::AlreadyReleased(Some(LostReason::NotAcked));
        }
        let at = match grant {
            Some(grant) => match self.held(&unlock.key, grant) {
                Some(at) if self.tickets[at].over(self.now).is_some() => {
                    self.end_overdue(at);
                    return self.unknown(grant);
                }
                Some(at) if self.tickets[at].owner != unlock.owner => return Answer::LockByOther,
                Some(at) => at,
                None => return self.unknown(grant),
            },
            None => match self.find(&unlock.key, &unlock.owner, unlock.request_id) {
                Some(at) if self.tickets[at].hold.is_none() => {
                    self.leave(at, RefusedReason::Cancelled);
                    return Answer::Cancelled;
                }
                Some(at) => match self.end_overdue(at) {
                    Some(reason) => return Answer::AlreadyReleased(Some(reason)),
                    None => at,
                },
                None => return self.unknown_request(unlock),
            },
        };
        let claims = &self.tickets[at].claims;
        let index = match unlock.request_id {
            Some(id) => match claims.iter().position(|claim| claim.id == Some(id)) {
                Some(index) => index,
                None => return Answer::AlreadyReleased(None),
            },
            None if claims.len() > 1 => return Answer::Denied("id required"),
            None => 0,
        };
        if claims.len() > 1 {
            let claim = self.remove_claim(at, index);
            self.tell(claim.stream, Told::Unlocked);
            return Answer::Released {
                claims: self.tickets[at].claims.len(),
            };
        }
        let ticket = self.tickets.remove(at);
        self.tell_all(&ticket, &Told::Unlocked);
        self.keep_outcome(&ticket.key, unlock.outcome.status);
        self.settle(&ticket.key, None);
        Answer::Released { claims: 0 }
    }

    fn unknown(&self, grant: usize) -> Answer {
        let end = self.ends.iter().find(|end| end.grant == Some(grant));
        Answer::AlreadyReleased(end.and_then(|end| end.how.clone().err()))
    }

    fn unknown_request(&self, unlock: &Unlock) -> Answer {
        match self
            .ended(&unlock.key, &unlock.owner, unlock.request_id)
            .map(|end| &end.how)
        {
            Some(Err(reason)) => Answer::AlreadyReleased(Some(reason.clone())),
            Some(Ok(RefusedReason::Cancelled)) => Answer::Cancelled,
            Some(Ok(_)) | None => Answer::NotFound,
        }
    }

    /// `names`: the client named the hold, which acknowledges it.
    pub fn renew(&mut self, renew: &Renew, grant: usize, names: bool) -> Answer {
        let Some(at) = self
            .held(&renew.key, grant)
            .filter(|at| self.tickets[*at].owner == renew.owner)
        else {
            return Answer::Renewed(None);
        };
        if self.end_overdue(at).is_some() {
            return Answer::Renewed(None);
        }
        let now = self.now;
        let ticket = &mut self.tickets[at];
        if !names && ticket.hold.as_ref().unwrap().ack.is_some() {
            return Answer::Renewed(None);
        }
        if let Some(ttl) = renew.ttl {
            ticket.longest = ticket.longest.max(ticket.ttl);
            ticket.ttl = ttl;
            if let [claim] = ticket.claims.as_mut_slice() {
                claim.ttl = ttl;
            }
        }
        let hold = ticket.hold.as_mut().unwrap();
        hold.lease = hold.lease.max(now.after(ticket.ttl));
        hold.lease = hold.max.map_or(hold.lease, |max| hold.lease.min(max));
        hold.promised = hold.promised.max(hold.lease);
        hold.ack = None;
        hold.took = None;
        Answer::Renewed(Some(hold.lease.since(now)))
    }

    pub fn force(&mut self, key: &str, grant: usize, reason: LostReason) -> Answer {
        match self.held(key, grant) {
            Some(at) if self.end_overdue(at).is_none() => {
                self.lose(at, reason);
                Answer::Revoked
            }
            _ => Answer::AlreadyReleased(None),
        }
    }

    /// T3: a stream has ended.
    pub fn detach(&mut self, stream: StreamId, cause: DetachCause) -> Answer {
        let carried = |claim: &Claim| claim.stream.is_some_and(|carrier| carrier.id == stream);
        let Some(at) = self.tickets.iter().position(|ticket| ticket.claims.iter().any(carried)) else {
            return Answer::Done;
        };
        let now = self.now;
        let ticket = &mut self.tickets[at];
        let index = ticket.claims.iter().position(carried).unwrap();
        let claim = &mut ticket.claims[index];
        let session = claim.stream.take().unwrap().kind == StreamKind::Session;
        // T2: until when the client may count.
        let counted = ticket.hold.as_ref().map_or(now, |hold| match hold.ack {
            Some(ack) => ack,
            None if session => hold.lease.max(hold.promised),
            None => hold.promised,
        });
        claim.away_end = Some(match (claim.policy, &ticket.hold) {
            (OnDisconnect::Grace(grace), Some(_)) => counted.max(now.after(grace)),
            (OnDisconnect::Grace(grace), None) => now.after(grace),
            (OnDisconnect::Release, Some(_)) if cause == DetachCause::Silent => counted,
            (OnDisconnect::Lease, Some(_)) => {
                claim.away_end = None;
                return Answer::Done;
            }
            _ => now,
        });
        if claim.away_end.is_some_and(|end| end <= now) {
            match ticket.hold {
                Some(_) => self.lose_claim(at, index),
                None => self.leave(at, RefusedReason::Disconnected),
            }
        } else if ticket.hold.is_none() {
            let key = ticket.key.clone();
            self.settle(&key, None);
        }
        Answer::Done
    }

    /// T4: another process begins from what was kept.
    pub fn restart(&mut self) {
        let now = self.now;
        let recovered = now.after(RECOVERY_GRACE);
        self.ghosts.clear();
        for end in &mut self.ends {
            end.until = now.after(super::REQUEST_MEMORY);
        }
        for ticket in &mut self.tickets {
            ticket.since = now;
            ticket.until = ticket.wait_timeout.map(|wait| now.after(wait));
            ticket.away_until = Some(recovered);
            ticket.away_left = super::AWAY_WAIT;
            ticket.passed = 0;
            ticket.withdrawn = 0;
            ticket.burned = None;
            let mut promised = Time(0);
            if let Some(hold) = &mut ticket.hold {
                hold.since = now;
                hold.waited = Duration::ZERO;
                hold.max = ticket.max_hold.map(|max| now.after(max));
                hold.lease = now.after(ticket.ttl.max(ticket.longest));
                promised = hold.lease;
                hold.lease = hold.max.map_or(hold.lease, |max| hold.lease.min(max));
                hold.promised = hold.lease;
                hold.ack = hold.ack.map(|_| recovered);
                hold.took = hold.ack.map(|_| ticket.born + 1);
            }
            for claim in &mut ticket.claims {
                claim.stream = None;
                claim.away_end = match claim.policy {
                    OnDisconnect::Grace(grace) => Some(recovered.max(now.after(grace)).max(promised)),
                    OnDisconnect::Lease if ticket.hold.is_some() => None,
                    _ => Some(recovered.max(promised)),
                };
            }
        }
        let keys: Vec<Arc<str>> = self.tickets.iter().map(|ticket| ticket.key.clone()).collect();
        keys.iter().for_each(|key| self.settle(key, None));
    }
}

fn claim(request: &LockRequest) -> Claim {
    Claim {
        id: request.terms.request_id,
        attach: request.attach_number,
        stream: request.stream,
        policy: request.terms.on_disconnect,
        same_owner: request.terms.same_owner,
        ttl: request.ttl,
        away_end: None,
    }
}
