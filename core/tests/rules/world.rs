//! A shard with its records, as a server would drive it: what every test of the rules shares.
//!
//! After each step the records are brought up to date, the shard's own invariants are checked, and the properties that
//! only a history shows: tokens grow, an ended ticket is never granted, a deadline is never later than what is due.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ticketlock_core::command::{Command, LockRequest, Reply};
use ticketlock_core::output::{Effect, Event};
use ticketlock_core::record::{Change, Records};
use ticketlock_core::types::{EventOptions, Number, RequestId, Stream, StreamId, StreamKind, Terms, Time};
use ticketlock_core::{Config, Output, Shard};

/// A push as the stream sees it.
pub type Push = (u64, Event);

/// One shard, its store, and what was seen of it.
pub struct World {
    pub shard: Shard,
    pub now: Time,
    pub records: Records,
    /// Which ticket each live stream follows.
    pub streams: BTreeMap<u64, (Arc<str>, Number)>,
    /// Every hold ever told, in the order of its grant.
    pub grants: Vec<Grant>,
    config: Config,
    ended: BTreeSet<Number>,
    next_stream: u64,
}

/// A hold that was told.
#[derive(Clone, Debug)]
pub struct Grant {
    pub key: Arc<str>,
    pub owner: Arc<str>,
    pub token: Number,
}

impl World {
    pub fn new(config: Config) -> Self {
        let now = Time(1_000_000_000);
        Self {
            shard: Shard::recover(config.clone(), Records::default(), now),
            now,
            records: Records::default(),
            streams: BTreeMap::new(),
            grants: Vec::new(),
            config,
            ended: BTreeSet::new(),
            next_stream: 0,
        }
    }

    /// A new stream's id.
    pub fn stream(&mut self, kind: StreamKind) -> Stream {
        self.next_stream += 1;
        Stream {
            id: StreamId(self.next_stream),
            kind,
        }
    }

    /// One command, with all that a server does around it.
    pub fn apply(&mut self, command: Command) -> (Reply, Vec<Push>) {
        let (key, owner, stream) = match &command {
            Command::Lock(request) | Command::TryLock(request) => {
                (request.terms.key.clone(), request.terms.owner.clone(), request.stream)
            }
            _ => (Arc::from(""), Arc::from(""), None),
        };
        let mut out = Output::default();
        let reply = self.shard.apply(command, self.now, &mut out);
        if let (Reply::Lock(Ok(Some(ticket))), Some(stream)) = (&reply, stream) {
            self.streams.insert(stream.id.0, (key.clone(), *ticket));
        }
        let pushes = self.settle(out);
        if let Reply::TryLock(Ok(ticketlock_core::command::TryReply::Granted(granted))) = &reply {
            self.saw_grant(&key, &owner, granted.token);
        }
        (reply, pushes)
    }

    /// Lets time pass, as a server does that sleeps until the next deadline.
    pub fn advance(&mut self, by: Duration, mut at_deadline: impl FnMut(Time, Vec<Push>, &Shard)) {
        let target = self.now.after(by);
        let mut turns = 0;
        while let Some(deadline) = self.shard.next_deadline().filter(|deadline| *deadline <= target) {
            self.now = self.now.max(deadline);
            let pushes = self.turn();
            at_deadline(self.now, pushes, &self.shard);
            turns += 1;
            assert!(turns < 100_000, "time does not get on");
        }
        self.now = target;
    }

    /// Time stands still for the server: it wakes only at the end.
    pub fn stall(&mut self, by: Duration) -> Vec<Push> {
        self.now = self.now.after(by);
        self.turn()
    }

    /// One turn without a command.
    pub fn turn(&mut self) -> Vec<Push> {
        let mut out = Output::default();
        self.shard.expire_due(self.now, &mut out);
        self.settle(out)
    }

    /// The process ends and another begins from the records: every stream is gone.
    pub fn restart(&mut self) {
        self.streams.clear();
        self.shard = Shard::recover(self.config.clone(), self.records.clone(), self.now);
        self.shard.check();
    }

    /// Every stream ends, and time runs until nothing is left: then nothing may be left anywhere.
    pub fn drain(&mut self) {
        for (stream, (key, ticket)) in std::mem::take(&mut self.streams) {
            self.apply(Command::Detach {
                key,
                ticket,
                stream: StreamId(stream),
                cause: ticketlock_core::types::DetachCause::Ended,
            });
        }
        self.advance(Duration::from_secs(3600 * 48), |_, _, _| {});
        assert_eq!(
            self.shard.totals(),
            ticketlock_core::shard::Totals::default(),
            "left behind"
        );
        assert_eq!(self.shard.next_deadline(), None, "a timer is left behind");
        let Records {
            tickets,
            ends,
            outcomes,
            ..
        } = &self.records;
        assert!(
            tickets.is_empty() && ends.is_empty() && outcomes.is_empty(),
            "a record is left behind"
        );
    }

    pub fn settle(&mut self, mut out: Output) -> Vec<Push> {
        let mut deleted = BTreeSet::new();
        for change in out.changes.drain(..) {
            if let Change::DeleteTicket(ticket) = &change {
                deleted.insert(*ticket);
            }
            self.store(change);
        }
        let mut pushes = Vec::new();
        for effect in out.effects.drain(..) {
            let Effect::Push { stream, ticket, event } = effect else {
                continue;
            };
            match &event {
                Event::Granted(granted) => {
                    assert!(!self.ended.contains(&ticket), "a grant after the end");
                    assert!(
                        granted.lowest_valid <= granted.token,
                        "the lowest valid token is not above this one"
                    );
                    match self.records.tickets.iter().find(|record| record.ticket == ticket) {
                        Some(record) => {
                            let hold = record.hold.as_ref().expect("a grant whose record still waits");
                            assert_eq!(hold.token, granted.token, "the record says another token");
                            let (key, owner) = (record.terms.key.clone(), record.terms.owner.clone());
                            self.saw_grant(&key, &owner, granted.token);
                        }
                        // Granted and ended in one step.
                        None => assert!(deleted.contains(&ticket), "a grant that no record knows"),
                    }
                }
                Event::Lost { .. } | Event::Refused { .. } | Event::Unlocked
                    if ticket != 0 && !self.records.tickets.iter().any(|record| record.ticket == ticket) =>
                {
                    self.ended.insert(ticket);
                }
                _ => {}
            }
            pushes.push((stream.0, event));
        }
        self.shard.unsent(&out.granted);
        self.shard.pushed(&out.granted, self.now);
        self.shard.check();
        let totals = self.shard.totals();
        assert_eq!(
            totals.holders + totals.waiters,
            self.records.tickets.len() as u64,
            "one record per ticket"
        );
        for record in &self.records.tickets {
            assert!(record.ticket <= self.records.mark, "a number above the durable mark");
        }
        pushes
    }

    /// G2: a token that was never seen is greater than every earlier one of its key.
    fn saw_grant(&mut self, key: &Arc<str>, owner: &Arc<str>, token: Number) {
        if self
            .grants
            .iter()
            .any(|grant| grant.token == token && grant.key == *key)
        {
            return;
        }
        let highest = self
            .grants
            .iter()
            .filter(|grant| grant.key == *key)
            .map(|grant| grant.token)
            .max();
        assert!(
            highest.is_none_or(|highest| token > highest),
            "tokens grow: {token} after {highest:?}"
        );
        assert!(token <= self.records.mark, "a token above the durable mark");
        self.grants.push(Grant {
            key: key.clone(),
            owner: owner.clone(),
            token,
        });
    }

    fn store(&mut self, change: Change) {
        let records = &mut self.records;
        match change {
            Change::Mark(mark) => {
                assert!(mark > records.mark, "the mark grows");
                records.mark = mark;
            }
            Change::PutTicket(ticket) => {
                records.tickets.retain(|record| record.ticket != ticket.ticket);
                records.tickets.push(*ticket);
            }
            Change::DeleteTicket(ticket) => {
                let before = records.tickets.len();
                records.tickets.retain(|record| record.ticket != ticket);
                assert!(records.tickets.len() < before, "deletes a ticket that was never put");
            }
            Change::PutEnd(end) => records.ends.push(end),
            Change::DeleteEnd(number) => records.ends.retain(|end| end.number != number),
            Change::PutOutcome(outcome) => {
                records.outcomes.retain(|record| record.key != outcome.key);
                records.outcomes.push(outcome);
            }
            Change::DeleteOutcome(key) => records.outcomes.retain(|record| record.key != key),
        }
    }
}

/// A request as most are: 30 s, on no stream yet.
pub fn request(terms: Terms) -> LockRequest {
    LockRequest {
        terms: Arc::new(terms),
        attach_number: 0,
        attach_only: false,
        stream: None,
        ttl: Duration::from_secs(30),
        events: EventOptions::default(),
    }
}

/// The id that a small number stands for.
pub fn request_id(number: u8) -> RequestId {
    RequestId([number; 16])
}
