//! A shard begins: from nothing, or from what a store kept (rule T4).
//!
//! Everything that runs by time starts anew: leases in full, waits, `max_hold`. What was bound to a stream has the
//! recovery grace to come back; the streams of a process that goes on living are put back by [`Shard::reattach`].

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use slab::Slab;

use crate::config::Config;
use crate::output::Output;
use crate::planted::{Bug, planted};
use crate::record::{ClaimRecord, HoldRecord, OutcomeRecord, Records, TicketRecord};
use crate::shard::list::Links;
use crate::shard::state::{Claim, Claims, Hold, Key, LiveName, Ticket, Wait};
use crate::shard::{Reattach, Shard, Step};
use crate::types::{EventOptions, Mode, Number, OnDisconnect, Time};

/// Where numbers go on.
fn counter_of(records: &Records) -> Number {
    if !planted(Bug::TokenReused) {
        return records.mark;
    }
    let highest = records
        .tickets
        .iter()
        .map(|it| it.hold.as_ref().map_or(it.ticket, |hold| hold.token));
    highest.max().unwrap_or(records.base)
}

impl Shard {
    /// Makes a shard of what a store kept; of `Records { mark, base, .. }` alone where it kept nothing yet.
    ///
    /// # Panics
    /// Where the records contradict each other: holders of one key that do not go together, a number above the mark.
    #[must_use]
    pub fn recover(config: Config, records: Records, now: Time) -> Self {
        let hasher = || FixedState::with_seed(config.hash_seed);
        let mut shard = Self {
            key_index: HashMap::with_hasher(hasher()),
            keys: Slab::new(),
            tickets: Slab::new(),
            numbers: HashMap::with_hasher(hasher()),
            names: HashMap::with_hasher(hasher()),
            ends: BTreeMap::new(),
            ended_names: HashMap::with_hasher(hasher()),
            ended_tokens: HashMap::with_hasher(hasher()),
            timers: BTreeSet::new(),
            unfinished: VecDeque::new(),
            dirty: Vec::new(),
            counter: counter_of(&records),
            mark: records.mark,
            base: records.base,
            fresh: None,
            holders: 0,
            now,
            forgiven_to: now,
            config,
        };
        shard.recover_tickets(records.tickets, now);
        for OutcomeRecord { key, outcome, up_to } in records.outcomes {
            if let Some(&key) = shard.key_index.get(&key) {
                shard.keys[key].outcome = Some((outcome, up_to));
            }
        }
        let mut ends = records.ends;
        ends.sort_by_key(|end| end.number);
        for end in ends {
            shard.index_end(end, now);
        }
        // A key whose holders did not survive moves on at the first turn.
        let keys: Vec<_> = shard.keys.iter().map(|(key, _)| key).collect();
        for key in keys {
            shard.keys[key].unfinished = true;
            shard.unfinished.push_back(key);
        }
        shard
    }

    /// After `recover` in a process that goes on living: a stream goes on with its ticket, and is told what it is now.
    /// False: the ticket is not there (any more).
    pub fn reattach(&mut self, reattach: Reattach, now: Time, out: &mut Output) -> bool {
        let mut step = self.begin(now, out);
        let found = self.reattach_ticket(&reattach, &mut step);
        self.finish(&mut step);
        found
    }

    fn reattach_ticket(&mut self, reattach: &Reattach, step: &mut Step<'_>) -> bool {
        let found = self.numbers.get(&reattach.ticket).copied();
        let Some(slot) = found.filter(|slot| self.tickets[*slot].number == reattach.ticket) else {
            return false;
        };
        let ticket = &mut self.tickets[slot];
        let key = ticket.key;
        let free = |claim: &&mut Claim| claim.terms.request_id == reattach.request_id && claim.stream.is_none();
        let Some(claim) = ticket.claims.iter_mut().find(free) else {
            return false;
        };
        claim.stream = Some(reattach.stream);
        claim.events = reattach.events;
        claim.away_end = Time::NEVER;
        let wishes = claim.wants_updates();
        ticket.wait.returns(step.now);
        self.count_wish(key, false, wishes);
        self.arm_ticket(slot, step.now);
        self.tell_state(slot, step);
        true
    }

    fn recover_tickets(&mut self, records: Vec<TicketRecord>, now: Time) {
        let mut held: Vec<TicketRecord> = Vec::new();
        let mut waiting: Vec<TicketRecord> = Vec::new();
        for record in records {
            if record.hold.is_some() {
                held.push(record)
            } else {
                waiting.push(record)
            }
        }
        held.sort_by_key(|record| record.hold.as_ref().map(|hold| hold.token));
        waiting.sort_by_key(|record| record.order);
        held.into_iter()
            .chain(waiting)
            .for_each(|record| self.recover_ticket(record, now));
    }

    fn recover_ticket(&mut self, record: TicketRecord, now: Time) {
        assert!(
            record.ticket <= self.mark && record.order <= self.mark,
            "a ticket above the mark"
        );
        let key = match self.key_index.get(&record.terms.key) {
            Some(&key) => key,
            None => {
                let key = self.keys.insert(Key::new(record.terms.key.clone()));
                self.key_index.insert(record.terms.key.clone(), key);
                key
            }
        };
        let hold = record.hold.as_ref();
        let promised = hold.map_or(Time::default(), |hold| now.after(record.ttl.max(hold.longest)));
        let claims: Claims = record
            .claims
            .iter()
            .map(|claim| self.recover_claim(claim, promised, now))
            .collect();
        assert!(!claims.is_empty(), "a ticket without a claim");
        let names: Vec<_> = claims.iter().filter_map(|claim| LiveName::of(&claim.terms)).collect();
        let hold = record
            .hold
            .as_ref()
            .map(|hold| Box::new(self.recover_hold(hold, &record, now)));
        let mut wait = Wait::starting(now, record.terms.wait_timeout, self.config.away_wait);
        // After a restart a head is waited for until the recovery grace is over (Q2).
        wait.away_until = Some(now.after(self.config.recovery_grace));
        let token = hold.as_ref().map(|hold| hold.token);
        let slot = self.tickets.insert(Box::new(Ticket {
            number: record.ticket,
            order: record.order,
            key,
            terms: record.terms.clone(),
            ttl: record.ttl,
            claims,
            wait,
            hold,
            links: Links::default(),
            armed: Time::NEVER,
            dirty: false,
            stored: true,
        }));
        self.numbers.insert(record.ticket, slot);
        for name in names {
            self.names.insert(name, slot);
        }
        if let Mode::Permits { capacity, .. } = record.terms.mode {
            self.keys[key].capacity = capacity;
            self.keys[key].permit_tickets += 1;
        }
        match token {
            Some(token) => {
                assert!(token <= self.mark, "a token above the mark");
                assert!(
                    self.keys[key].admits(record.terms.mode),
                    "holders that do not go together"
                );
                self.numbers.insert(token, slot);
                self.keys[key].bars.add(record.terms.mode);
                self.keys[key].holders.push_back(&mut self.tickets, slot);
                self.holders += 1;
            }
            None => self.keys[key].line.push_back(&mut self.tickets, slot),
        }
        self.arm_ticket(slot, now);
    }

    /// Stream-bound claims are kept for the recovery grace, for their own grace, and as long as a lease may have been
    /// promised before.
    fn recover_claim(&self, record: &ClaimRecord, promised: Time, now: Time) -> Claim {
        let recovery = now.after(self.config.recovery_grace);
        let held = promised > Time::default();
        let away_end = match record.terms.on_disconnect {
            OnDisconnect::Grace(grace) => recovery.max(now.after(grace)).max(promised),
            OnDisconnect::Lease if held => Time::NEVER,
            OnDisconnect::Release | OnDisconnect::Lease => recovery.max(promised),
        };
        Claim {
            terms: record.terms.clone(),
            attach_number: record.attach_number,
            stream: None,
            ttl: record.ttl,
            events: EventOptions::default(),
            away_end,
        }
    }

    fn recover_hold(&self, record: &HoldRecord, ticket: &TicketRecord, now: Time) -> Hold {
        let end_max = ticket
            .terms
            .max_hold
            .map_or(Time::NEVER, |max_hold| now.after(max_hold));
        let lease_end = now.after(ticket.ttl.max(record.longest)).min(end_max);
        let ack_time = self.config.ack_timeout.max(self.config.recovery_grace);
        Hold {
            token: record.token,
            since: now,
            waited: core::time::Duration::ZERO,
            lease_end,
            promised_end: lease_end,
            longest: record.longest,
            end_max,
            ack_until: record.unacked.then(|| now.after(ack_time)),
            expiring_told: false,
            contended_told: 0,
            previous_outcome: record.previous_outcome.clone(),
            unsent: 0,
            outcome_up_to: record.unacked.then_some(ticket.ticket),
        }
    }
}
