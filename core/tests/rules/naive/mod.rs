//! The rules once more, as plainly as they can be said: one list of tickets, walked for everything, no timers, no
//! indexes, no bounds on a step. It knows holds by the order of their grants, not by tokens, which only the machine
//! under test gives.

mod commands;
mod ends;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ticketlock_core::types::{
    LostReason, Mode, OnDisconnect, OutcomeStatus, RefusedReason, RequestId, SameOwner, Stream, StreamKind, Time,
};

/// Unlike the other spans, so that no two deadlines that begin together end together.
pub const AWAY_WAIT: Duration = Duration::from_millis(700);
const ACK_TIMEOUT: Duration = Duration::from_secs(1);
const RECOVERY_GRACE: Duration = Duration::from_secs(10);
const REQUEST_MEMORY: Duration = Duration::from_secs(60);

/// What a stream is told, with holds named by their grant.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    Queued {
        position: usize,
        holders: usize,
    },
    Granted {
        grant: usize,
        lowest: usize,
        ttl: Duration,
        claims: usize,
        waited: Duration,
        before: OutcomeStatus,
    },
    Lost {
        grant: usize,
        reason: LostReason,
    },
    Refused(RefusedReason),
    Unlocked,
    Superseded,
}

/// How a command was answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Attached(bool),
    Granted { grant: usize },
    Refused(RefusedReason),
    Denied(&'static str),
    Released { claims: usize },
    Cancelled,
    AlreadyReleased(Option<LostReason>),
    NotFound,
    LockByOther,
    Renewed(Option<Duration>),
    Revoked,
    Done,
}

#[derive(Clone, Debug)]
pub struct Claim {
    pub id: Option<RequestId>,
    attach: u64,
    pub stream: Option<Stream>,
    policy: OnDisconnect,
    same_owner: SameOwner,
    ttl: Duration,
    /// Since it has no stream: until when it is kept; `None`: not by time.
    away_end: Option<Time>,
}

#[derive(Clone, Debug)]
pub struct Hold {
    pub grant: usize,
    since: Time,
    waited: Duration,
    lease: Time,
    promised: Time,
    max: Option<Time>,
    ack: Option<Time>,
    before: OutcomeStatus,
    /// The outcome that it took, until it is acknowledged: for those born before.
    took: Option<usize>,
}

#[derive(Clone, Debug)]
pub struct Ticket {
    born: usize,
    order: usize,
    pub key: Arc<str>,
    pub owner: Arc<str>,
    pub mode: Mode,
    ttl: Duration,
    /// Of the leases of this hold.
    longest: Duration,
    wait_timeout: Option<Duration>,
    delay: Duration,
    max_hold: Option<Duration>,
    pub claims: Vec<Claim>,
    since: Time,
    until: Option<Time>,
    away_until: Option<Time>,
    away_left: Duration,
    passed: u8,
    withdrawn: u8,
    /// The last grant that was withdrawn.
    burned: Option<usize>,
    pub hold: Option<Hold>,
}

pub struct End {
    key: Arc<str>,
    owner: Arc<str>,
    id: Option<RequestId>,
    grant: Option<usize>,
    how: Result<RefusedReason, LostReason>,
    until: Time,
}

/// All that is known.
#[derive(Default)]
pub struct Naive {
    pub now: Time,
    /// Those who wait stand in the order of the line.
    pub tickets: Vec<Ticket>,
    pub ghosts: Vec<(Arc<str>, Mode, Time)>,
    pub outcomes: BTreeMap<Arc<str>, (OutcomeStatus, usize)>,
    /// The key and owner of each grant so far.
    pub grants: Vec<Arc<str>>,
    pub told: Vec<(u64, Told)>,
    pub waiters_max: usize,
    pub claims_max: usize,
    pub ends: Vec<End>,
    pub births: usize,
}

/// Whether two holds may stand side by side, permits aside.
fn go_together(one: Mode, other: Mode) -> bool {
    matches!(
        (one, other),
        (Mode::Shared, Mode::Shared) | (Mode::Permits { .. }, Mode::Permits { .. })
    )
}

fn permits(mode: Mode) -> u32 {
    match mode {
        Mode::Permits { permits, .. } => permits,
        _ => 0,
    }
}

impl Ticket {
    pub fn connected(&self) -> bool {
        self.claims.iter().any(|claim| claim.stream.is_some())
    }

    /// T2, T3: when it ends if nothing more is heard; `None`: not by time.
    fn claim_end(&self, claim: &Claim) -> Option<Time> {
        let hold = self.hold.as_ref().unwrap();
        match (claim.policy, claim.stream) {
            (OnDisconnect::Lease, _) => Some(hold.lease),
            (_, Some(stream)) if stream.kind == StreamKind::Plain => None,
            (_, Some(_)) => Some(hold.lease),
            (_, None) => claim.away_end.map(|end| end.max(hold.promised)),
        }
    }

    fn end(&self) -> Option<Time> {
        let max = self.hold.as_ref().unwrap().max;
        let claims: Option<Vec<Time>> = self.claims.iter().map(|claim| self.claim_end(claim)).collect();
        let last = claims.map(|ends| ends.into_iter().max().unwrap());
        [last, max].into_iter().flatten().min()
    }

    fn lease_left(&self, now: Time) -> Duration {
        let hold = self.hold.as_ref().unwrap();
        let plain = |claim: &Claim| {
            claim.policy != OnDisconnect::Lease && claim.stream.is_some_and(|stream| stream.kind == StreamKind::Plain)
        };
        let renewed = self.claims.iter().any(plain).then(|| now.after(self.ttl));
        let end = renewed.or(self.end()).unwrap_or(hold.lease);
        hold.max.map_or(end, |max| max.min(end)).since(now)
    }

    fn over(&self, now: Time) -> Option<LostReason> {
        let hold = self.hold.as_ref()?;
        let leased = |claim: &Claim| claim.policy == OnDisconnect::Lease || claim.stream.is_some();
        if hold.max.is_some_and(|max| max <= now) {
            Some(LostReason::MaxHold)
        } else if hold.ack.is_some_and(|ack| ack <= now) {
            Some(LostReason::NotAcked)
        } else if self.end().is_some_and(|end| end <= now) {
            let expired = self.claims.iter().any(leased);
            Some(if expired {
                LostReason::Expired
            } else {
                LostReason::Disconnected
            })
        } else {
            None
        }
    }
}

impl Naive {
    fn tell(&mut self, stream: Option<Stream>, told: Told) {
        self.told.extend(stream.map(|stream| (stream.id.0, told)));
    }

    fn tell_all(&mut self, ticket: &Ticket, told: &Told) {
        for claim in &ticket.claims {
            self.tell(claim.stream, told.clone());
        }
    }

    pub fn line(&self, key: &str) -> Vec<usize> {
        let waits = |at: &usize| *self.tickets[*at].key == *key && self.tickets[*at].hold.is_none();
        (0..self.tickets.len()).filter(waits).collect()
    }

    /// By grant.
    pub fn holders(&self, key: &str) -> Vec<usize> {
        let held = |at: &usize| *self.tickets[*at].key == *key && self.tickets[*at].hold.is_some();
        let mut holders: Vec<usize> = (0..self.tickets.len()).filter(held).collect();
        holders.sort_by_key(|at| self.tickets[*at].hold.as_ref().unwrap().grant);
        holders
    }

    fn capacity(&self, key: &str) -> Option<u32> {
        let of_key = self.tickets.iter().filter(|ticket| *ticket.key == *key);
        of_key.into_iter().find_map(|ticket| match ticket.mode {
            Mode::Permits { capacity, .. } => Some(capacity),
            _ => None,
        })
    }

    /// Q1, T5.
    fn admits(&self, key: &str, mode: Mode) -> bool {
        let holders = self.holders(key).into_iter().map(|at| self.tickets[at].mode);
        let ghosts = self.ghosts.iter().filter(|ghost| *ghost.0 == *key).map(|ghost| ghost.1);
        let bars: Vec<Mode> = holders.chain(ghosts).collect();
        let taken: u32 = bars.iter().map(|bar| permits(*bar)).sum();
        let room = match mode {
            Mode::Permits { permits, capacity } => taken + permits <= self.capacity(key).unwrap_or(capacity),
            _ => true,
        };
        room && bars.iter().all(|bar| go_together(mode, *bar))
    }

    fn passed_by(&self, at: usize) -> bool {
        let ticket = &self.tickets[at];
        !ticket.connected() && ticket.away_until.is_some_and(|until| until <= self.now)
    }

    /// Q1, Q2: grants what can be granted. `fresh`: the ticket that a request takes in this step.
    pub fn settle(&mut self, key: &Arc<str>, fresh: Option<usize>) {
        let exclusive = |naive: &Self| {
            let held = naive
                .holders(key)
                .into_iter()
                .any(|at| naive.tickets[at].mode == Mode::Exclusive);
            held || naive
                .ghosts
                .iter()
                .any(|ghost| ghost.0 == *key && ghost.1 == Mode::Exclusive)
        };
        while !exclusive(self) {
            let line = self.line(key);
            let is_there = |at: usize| self.tickets[at].connected() || fresh == Some(self.tickets[at].born);
            let absent = line.iter().take_while(|at| !is_there(**at)).count();
            let (absent, rest) = line.split_at(absent);
            let waited_for = absent.iter().find(|at| !self.passed_by(**at));
            if let Some(at) = waited_for {
                if self.tickets[*at].away_until.is_none() {
                    if self.tickets[*at].away_left.is_zero() {
                        self.tickets[*at].away_until = Some(self.now);
                        continue;
                    }
                    let first = absent.iter().position(|other| other == at).unwrap();
                    let started: Vec<usize> = absent[first..]
                        .iter()
                        .copied()
                        .take_while(|at| self.tickets[*at].away_until.is_none())
                        .collect();
                    for at in started {
                        self.tickets[at].away_until = Some(self.now.after(self.tickets[at].away_left));
                    }
                }
                return;
            }
            let Some(&next) = rest.first().filter(|at| self.admits(key, self.tickets[**at].mode)) else {
                return;
            };
            let absent: Vec<usize> = absent.iter().map(|at| self.tickets[*at].born).collect();
            self.grant(next, fresh == Some(self.tickets[next].born));
            for born in absent {
                self.pass_over(born);
            }
        }
    }

    fn pass_over(&mut self, born: usize) {
        let at = self.tickets.iter().position(|ticket| ticket.born == born).unwrap();
        self.tickets[at].passed += 1;
        if self.tickets[at].passed >= 2 {
            self.send_to_tail(at);
        }
    }

    fn send_to_tail(&mut self, at: usize) {
        let mut ticket = self.tickets.remove(at);
        ticket.passed = 0;
        ticket.withdrawn = 0;
        ticket.order = self.births;
        self.births += 1;
        self.tickets.push(ticket);
    }

    fn grant(&mut self, at: usize, fresh: bool) {
        let now = self.now;
        let ticket = &self.tickets[at];
        let key = ticket.key.clone();
        let session = |claim: &Claim| claim.stream.is_some_and(|stream| stream.kind == StreamKind::Session);
        let in_session = ticket.claims.iter().any(session);
        let outcome = self.outcomes.get(&key).filter(|(_, born)| ticket.born < *born).cloned();
        if outcome.is_some() {
            self.outcomes.remove(&key);
        }
        let grant = self.grants.len();
        self.grants.push(key);
        let ticket = &mut self.tickets[at];
        ticket.longest = ticket.ttl;
        ticket.hold = Some(Hold {
            grant,
            since: now,
            waited: now.since(ticket.since),
            lease: now.after(ticket.ttl),
            promised: Time(0),
            max: ticket.max_hold.map(|max| now.after(max)),
            ack: (in_session && !fresh).then(|| now.after(ACK_TIMEOUT)),
            before: outcome.map(|(status, _)| status).unwrap_or_default(),
            took: outcome.map(|(_, born)| born),
        });
        let ticket = self.tickets[at].clone();
        let told = self.granted(&ticket);
        self.tell_all(&ticket, &told);
        self.drop_outcome_without_line(&ticket.key);
    }

    fn granted(&self, ticket: &Ticket) -> Told {
        let hold = ticket.hold.as_ref().unwrap();
        let lowest = self.holders(&ticket.key)[0];
        Told::Granted {
            grant: hold.grant,
            lowest: self.tickets[lowest].hold.as_ref().unwrap().grant,
            ttl: ticket.lease_left(self.now),
            claims: ticket.claims.len(),
            waited: hold.waited,
            before: hold.before,
        }
    }

    /// Time has come to `now`: whatever is due happens.
    pub fn turn(&mut self, now: Time) {
        self.now = now;
        self.ends.retain(|end| end.until > now);
        let mut waited_for = Vec::new();
        while let Some(at) = self.due(&waited_for) {
            if let Some(reason) = self.tickets[at].over(now) {
                self.lose(at, reason);
            } else if let Some(index) = self.over_claim(at) {
                self.lose_claim(at, index);
            } else if self.wait_over(at, RefusedReason::WaitTimeout) {
                self.leave(at, RefusedReason::WaitTimeout);
            } else if self.wait_over(at, RefusedReason::Disconnected) {
                self.leave(at, RefusedReason::Disconnected);
            } else {
                waited_for.push(self.tickets[at].born);
                let key = self.tickets[at].key.clone();
                self.settle(&key, None);
            }
        }
        let before = self.ghosts.len();
        self.ghosts.retain(|ghost| ghost.2 > now);
        if before != self.ghosts.len() {
            let keys: Vec<Arc<str>> = self.tickets.iter().map(|ticket| ticket.key.clone()).collect();
            keys.iter().for_each(|key| self.settle(key, None));
        }
    }

    /// The oldest ticket for which something is due; it may be no more than that it has been waited for.
    fn due(&self, waited_for: &[usize]) -> Option<usize> {
        let due = |at: &usize| {
            let ticket = &self.tickets[*at];
            ticket.over(self.now).is_some()
                || self.over_claim(*at).is_some()
                || self.wait_over(*at, RefusedReason::WaitTimeout)
                || self.wait_over(*at, RefusedReason::Disconnected)
                || (ticket.hold.is_none() && ticket.away_until == Some(self.now) && !waited_for.contains(&ticket.born))
        };
        (0..self.tickets.len())
            .filter(due)
            .min_by_key(|at| self.tickets[*at].born)
    }

    fn over_claim(&self, at: usize) -> Option<usize> {
        let ticket = &self.tickets[at];
        ticket.hold.as_ref()?;
        let over = |claim: &Claim| claim.stream.is_none() && ticket.claim_end(claim).is_some_and(|end| end <= self.now);
        ticket.claims.iter().position(over)
    }

    fn wait_over(&self, at: usize, reason: RefusedReason) -> bool {
        let ticket = &self.tickets[at];
        let gone = |claim: &Claim| claim.stream.is_none() && claim.away_end.is_some_and(|end| end <= self.now);
        ticket.hold.is_none()
            && match reason {
                RefusedReason::WaitTimeout => ticket.until.is_some_and(|until| until <= self.now),
                _ => ticket.claims.iter().all(gone),
            }
    }

    fn end_overdue(&mut self, at: usize) -> Option<LostReason> {
        let reason = self.tickets[at].over(self.now)?;
        self.lose(at, reason.clone());
        Some(reason)
    }

    fn find(&self, key: &str, owner: &str, id: Option<RequestId>) -> Option<usize> {
        id?;
        let named = |ticket: &Ticket| {
            *ticket.key == *key && *ticket.owner == *owner && ticket.claims.iter().any(|claim| claim.id == id)
        };
        self.tickets.iter().position(named)
    }

    fn ended(&self, key: &str, owner: &str, id: Option<RequestId>) -> Option<&End> {
        let named = |end: &&End| id.is_some() && *end.key == *key && *end.owner == *owner && end.id == id;
        self.ends.iter().rfind(named)
    }
}
