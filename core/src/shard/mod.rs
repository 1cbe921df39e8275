//! One shard: the keys that hash to it, their lines, their holders, and every rule.
//!
//! Where things are: `state` is the data; `lock` takes tickets and re-attaches (Q, I); `grant` moves the line and
//! withdraws (Q1, Q2, G); `end` ends holds and waits (unlock, cancel, force, loss); `time` keeps deadlines (T); `recover`
//! begins from records (T4); `view` reads; `check` states the invariants.
//!
//! Invariant: after a step, each key's head is blocked by its holders or ghosts, or its stream is away and waited
//! for, or the key stands in `unfinished`. So nobody who could be granted waits without a timer or a holder.

#![expect(
    clippy::indexing_slicing,
    reason = "slots and key indexes come from the shard's own lists and maps; `check` states that they lead somewhere"
)]

mod check;
mod end;
mod grant;
mod list;
mod lock;
mod recover;
mod renew;
mod state;
#[cfg(test)]
mod tests;
mod time;
mod view;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use slab::Slab;

use crate::command::{Command, Reply};
use crate::config::Config;
use crate::output::{Effect, Event, Happening, HappeningKind, Output, ToldGrant};
use crate::record::{Change, EndRecord};
use crate::types::{EventOptions, Number, RequestId, Stream, StreamId, Terms, Time};
use state::{EndedName, Hold, Key, KeyIndex, LiveName, Slot, Ticket, name_of};
use time::Timer;

/// One shard. See the crate's page for how to drive it.
#[derive(Debug)]
pub struct Shard {
    config: Config,
    /// Keys by name.
    key_index: HashMap<Arc<str>, KeyIndex, FixedState>,
    keys: Slab<Key>,
    /// Apart from each other, so that a long line grows without copying, and gives back what it took.
    tickets: Slab<Box<Ticket>>,
    /// Tickets by their number, and holds by their token: one counter gives both, so they never collide.
    numbers: HashMap<Number, Slot, FixedState>,
    /// Live requests that can be repeated (I1).
    names: HashMap<LiveName, Slot, FixedState>,
    /// Abnormal ends that answer repeats, by record number, with the end of their memory. Numbers and ends grow together.
    ends: BTreeMap<Number, (EndRecord, Time)>,
    ended_names: HashMap<EndedName, Number, FixedState>,
    ended_tokens: HashMap<Number, Number, FixedState>,
    /// Deadlines. A ticket or key has at most one entry, never later than its next deadline.
    timers: BTreeSet<(Time, Timer)>,
    /// Keys with more grants to make than one step may.
    unfinished: VecDeque<KeyIndex>,
    /// Tickets whose record is to be written at the end of the step.
    dirty: Vec<Slot>,
    /// The last number given.
    counter: Number,
    /// No number above it is used before a change raised it.
    mark: Number,
    /// No number up to it was ever given by this store.
    base: Number,
    /// The ticket that is being taken in this very step: granted now, it did not wait.
    fresh: Option<Slot>,
    holders: u64,
    /// When the last step ran, to notice a clock that goes backwards.
    now: Time,
    /// Deadlines up to here were looked at for a stall (T1).
    forgiven_to: Time,
}

/// How much a shard holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Keys that exist.
    pub keys: u64,
    /// Tickets that hold.
    pub holders: u64,
    /// Tickets that wait.
    pub waiters: u64,
}

/// A live stream that goes on with its ticket after the shard was made anew.
#[derive(Clone, Debug)]
pub struct Reattach {
    /// Which ticket it follows.
    pub ticket: Number,
    /// Its request, where it has a name.
    pub request_id: Option<RequestId>,
    /// The stream.
    pub stream: Stream,
    /// Its optional events.
    pub events: EventOptions,
}

/// The time of a step and where its yield goes.
struct Step<'a> {
    now: Time,
    out: &'a mut Output,
}

/// How far the counter's durable mark runs ahead, so that few commits raise it.
const MARK_AHEAD: Number = 4096;

impl Shard {
    /// Carries out one command. Timers that are due at `now` are handled before it.
    ///
    /// # Panics
    /// Where `now` is earlier than in the call before, or an invariant is broken.
    pub fn apply(&mut self, command: Command, now: Time, out: &mut Output) -> Reply {
        let mut step = self.begin(now, out);
        let reply = match command {
            Command::Lock(request) => Reply::Lock(self.lock(*request, &mut step)),
            Command::TryLock(request) => Reply::TryLock(self.try_lock(*request, &mut step)),
            Command::Unlock(unlock) => Reply::Unlock(self.unlock(unlock, &mut step)),
            Command::Renew(renew) => Reply::Renew(self.renew(&renew, true, &mut step)),
            Command::Refresh(renew) => Reply::Renew(self.renew(&renew, false, &mut step)),
            Command::Detach {
                key,
                ticket,
                stream,
                cause,
            } => {
                self.detach(&key, ticket, stream, cause, &mut step);
                Reply::Done
            }
            Command::ForceUnlock {
                key,
                token,
                by,
                message,
            } => Reply::ForceUnlock(self.force_unlock(&key, token, by, message, &mut step)),
        };
        self.finish(&mut step);
        reply
    }

    /// Handles due timers and unfinished grants, a bounded number: call it again while [`Shard::next_deadline`] is not
    /// after `now`.
    ///
    /// # Panics
    /// As [`Shard::apply`].
    pub fn expire_due(&mut self, now: Time, out: &mut Output) {
        let mut step = self.begin(now, out);
        self.finish(&mut step);
    }

    /// When [`Shard::expire_due`] is to be called next; in the past where work is left.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        if !self.unfinished.is_empty() {
            return Some(self.now);
        }
        let timer = self.timers.first().map(|(at, _)| *at);
        let memory = self.ends.first_key_value().map(|(_, (_, until))| *until);
        match (timer, memory) {
            (Some(timer), Some(memory)) => Some(timer.min(memory)),
            (timer, memory) => timer.or(memory),
        }
    }

    /// These grants are to be told once their step is committed. However long that takes, none of them is over before it
    /// has left: their clients may count it from a message that is received meanwhile (T2).
    pub fn unsent(&mut self, granted: &[ToldGrant]) {
        for told in granted {
            if let Some(hold) = self.told_hold(told) {
                hold.unsent += 1;
            }
        }
    }

    /// These grants are about to leave, after the commit of their step: what `max_hold` left then is less by now.
    pub fn leaving(&self, granted: &mut [ToldGrant], effects: &mut [Effect], now: Time) {
        let left = |ticket: Number| {
            let hold = self.tickets[*self.numbers.get(&ticket)?].hold.as_ref()?;
            (hold.end_max != Time::NEVER).then(|| hold.end_max.since(now))
        };
        for told in granted {
            told.ttl = left(told.ticket).map_or(told.ttl, |left| told.ttl.min(left));
        }
        for effect in effects {
            let Effect::Push {
                event: Event::Granted(granted),
                ..
            } = effect
            else {
                continue;
            };
            if let Some(left) = granted.max_hold_left.and_then(|_| left(granted.ticket)) {
                granted.ttl = granted.ttl.min(left);
                granted.max_hold_left = Some(left);
            }
        }
    }

    /// These grants have left the server at `now`: their leases, and the time for their acknowledgement, run from here.
    pub fn pushed(&mut self, granted: &[ToldGrant], now: Time) {
        let ack_until = now.after(self.config.ack_timeout);
        for told in granted {
            let end = now.after(told.ttl);
            let Some(hold) = self.told_hold(told) else { continue };
            hold.ack_until = hold.ack_until.map(|until| until.max(ack_until));
            if hold.unsent > 0 {
                hold.unsent -= 1;
                hold.end_max = hold.end_max.max(end);
                hold.lease_end = hold.lease_end.max(end);
                if let Some(&slot) = self.numbers.get(&told.ticket) {
                    self.arm_ticket(slot, now);
                }
            }
        }
    }

    fn told_hold(&mut self, told: &ToldGrant) -> Option<&mut Hold> {
        let slot = *self.numbers.get(&told.ticket)?;
        self.tickets[slot].hold.as_deref_mut()
    }

    /// Whether a request of these terms waits or holds: a repeat of it takes no new ticket.
    #[must_use]
    pub fn is_live(&self, terms: &Terms) -> bool {
        name_of(terms).is_some_and(|name| self.names.contains_key(&name))
    }

    /// How much there is.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            keys: self.keys.len() as u64,
            holders: self.holders,
            waiters: self.tickets.len() as u64 - self.holders,
        }
    }

    fn begin<'a>(&mut self, now: Time, out: &'a mut Output) -> Step<'a> {
        assert!(now >= self.now, "time went backwards: {now:?} after {:?}", self.now);
        let mut step = Step { now, out };
        self.turn(&mut step);
        self.now = now;
        step
    }

    /// Writes each changed ticket's record once, however often the step changed it.
    fn finish(&mut self, step: &mut Step<'_>) {
        self.fresh = None;
        while let Some(slot) = self.dirty.pop() {
            let Some(ticket) = self.tickets.get_mut(slot).filter(|ticket| ticket.dirty) else {
                continue;
            };
            ticket.dirty = false;
            ticket.stored = true;
            step.out.changes.push(Change::PutTicket(Box::new(ticket.record())));
        }
    }

    fn touch(&mut self, slot: Slot) {
        let ticket = &mut self.tickets[slot];
        if !ticket.dirty {
            ticket.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// The next number, with the mark raised before it is used (G2).
    fn next_number(&mut self, step: &mut Step<'_>) -> Number {
        self.counter += 1;
        // Bound: clients may keep numbers in doubles.
        assert!(self.counter < 1 << 53, "the shard's counter is used up");
        if self.counter > self.mark {
            self.mark = self.counter + MARK_AHEAD;
            step.out.changes.push(Change::Mark(self.mark));
        }
        self.counter
    }

    fn push(step: &mut Step<'_>, stream: StreamId, ticket: Number, event: Event) {
        step.out.effects.push(Effect::Push { stream, ticket, event });
    }

    /// Tells every stream of a ticket.
    fn push_all(&self, slot: Slot, event: &Event, step: &mut Step<'_>) {
        let ticket = &self.tickets[slot];
        for stream in ticket.claims.iter().filter_map(|claim| claim.stream) {
            Self::push(step, stream.id, ticket.number, event.clone());
        }
    }

    fn happened(&self, slot: Slot, kind: HappeningKind, step: &mut Step<'_>) {
        let ticket = &self.tickets[slot];
        let key = &self.keys[ticket.key];
        step.out.effects.push(Effect::Happened(Happening {
            kind,
            terms: ticket.terms.clone(),
            ticket: ticket.number,
            token: ticket.hold.as_ref().map(|hold| hold.token),
            waiters: key.line.len(),
        }));
    }

    /// A request is no longer live.
    fn forget_name(&mut self, terms: &Terms) {
        if let Some(name) = name_of(terms) {
            self.names.remove(&name);
        }
    }

    /// The hold that this token names on this key, if it holds now.
    fn find_hold(&self, key: &str, token: Number) -> Option<Slot> {
        let slot = *self.numbers.get(&token)?;
        let ticket = &self.tickets[slot];
        let held = ticket.hold.as_ref().is_some_and(|hold| hold.token == token);
        (held && *self.keys[ticket.key].name == *key).then_some(slot)
    }
}
