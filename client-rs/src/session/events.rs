//! What the server's messages do to the state.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ticketlock_proto::v1;
use ticketlock_proto::v1::session_event::Event;

use super::Hub;
use super::state::{Pending, Phase, Slot, State, Unlocking};
use crate::guard::Grant;
use crate::lock::OnQueued;
use crate::types::{LostReason, Outcome, Queued, RenewResult, UnlockResult, Unlocked};
use crate::{Error, convert};

/// Before what failed is tried again, unless the server says more.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Callers' callbacks, called when the state is free again.
type Calls = Vec<(OnQueued, Queued)>;

impl Hub {
    /// Takes a message of the present stream.
    pub(super) fn on_message(&self, message: v1::SessionResponse) {
        let now = self.clock.now();
        let calls = self.change(|state| {
            let mut calls = Calls::new();
            state.seen = message.number;
            if let Some(welcome) = message.welcome {
                state.welcome(welcome);
            }
            for event in message.events {
                if let Some(told) = event.event {
                    state.on_event(event.id, event.as_of, told, now, &mut calls);
                }
            }
            if let Some(done) = message.heartbeat {
                state.on_beaten(&done, now);
            }
            calls
        });
        for (callback, place) in calls {
            callback(place);
        }
    }

    /// The stream is gone.
    pub(super) fn cut(&self) {
        let waiting = self.state().cut();
        for callback in waiting {
            callback();
        }
    }
}

impl State {
    /// The server has said who it is: everything that is wanted is asked for, again or for the first time.
    fn welcome(&mut self, welcome: v1::Welcome) {
        let other = !self.store_id.is_empty() && self.store_id != welcome.store_id;
        self.store_id = welcome.store_id;
        self.ack_timeout = welcome.ack_timeout.map(convert::duration).unwrap_or_default();
        self.heartbeat = welcome.heartbeat.map_or(Duration::from_secs(10), convert::duration);
        self.welcomed = true;
        self.beat = true;
        let ids: Vec<u64> = self.locks.keys().copied().collect();
        for id in ids {
            let Some(slot) = self.locks.get_mut(&id) else { continue };
            if slot.leaving {
                continue;
            }
            let held = matches!(slot.phase, Phase::Held { .. });
            if other && slot.asked {
                self.lose(id, LostReason::StoreChanged);
                continue;
            }
            slot.resumed = slot.asked;
            if let Phase::Waiting { queued } = &mut slot.phase {
                *queued = false;
            }
            self.ask(id, held);
        }
        let unlocks: Vec<u64> = self.pending.keys().copied().collect();
        for id in unlocks {
            if let Some(Pending::Unlock(unlocking)) = self.pending.remove(&id) {
                self.send_unlock(id, &unlocking);
                self.pending.insert(id, Pending::Unlock(unlocking));
            }
        }
    }

    fn on_event(&mut self, id: u64, as_of: u64, event: Event, now: Duration, calls: &mut Calls) {
        match event {
            Event::Queued(wire) => self.on_queued(id, wire, calls),
            Event::Granted(wire) => self.on_granted(id, as_of, wire, now),
            Event::Contended(wire) => {
                if let Some(slot) = self.locks.get(&id) {
                    slot.view.modify(|view| view.waiters = wire.waiters);
                }
            }
            Event::Lost(wire) => self.lose(id, convert::lost(wire)),
            Event::Refused(wire) => match self.locks.get(&id).map(|slot| slot.phase) {
                Some(Phase::Held { .. }) => self.lose(id, LostReason::Disconnected),
                _ => self.refuse(id, convert::refused(wire)),
            },
            Event::Unlock(answer) => self.on_unlocked(id, convert::unlock(answer)),
            Event::Renew(answer) => self.on_renewed(id, as_of, answer, now),
            Event::Error(wire) => self.on_error(id, Error::from(wire), now),
            // An unlock's answer says it, too; the rest was not asked for, or is newer than this client.
            _ => {}
        }
    }

    fn on_queued(&mut self, id: u64, wire: v1::Queued, calls: &mut Calls) {
        let Some(slot) = self.locks.get_mut(&id) else { return };
        if slot.granting.is_none() && !slot.leaving {
            // Its grant was withdrawn while the stream was away, and somebody holds a guard of it.
            self.lose(id, LostReason::NotAcked);
            return self.abandon(id);
        }
        slot.grant = None;
        slot.phase = Phase::Waiting { queued: true };
        if let Some(callback) = &slot.ask.on_queued {
            calls.push((callback.clone(), convert::queued(wire)));
        }
    }

    /// Ends in the server what nobody here wants any more.
    fn abandon(&mut self, id: u64) {
        let Some(slot) = self.locks.get_mut(&id) else { return };
        if !std::mem::replace(&mut slot.leaving, true) {
            self.unlock(Unlocking {
                lock: id,
                outcome: Outcome::default(),
                reply: None,
                started: Duration::MAX,
                leaving: None,
            });
        }
    }

    fn on_granted(&mut self, id: u64, as_of: u64, wire: v1::Granted, now: Duration) {
        let sent = self.sent_at(as_of);
        let ack_timeout = self.ack_timeout;
        let Some(slot) = self.locks.get_mut(&id) else { return };
        let ttl = wire
            .ttl
            .map(convert::duration)
            .or(slot.ask.ttl)
            .unwrap_or(Duration::from_secs(30));
        if let Phase::Held { token, .. } = slot.phase
            && token != wire.fencing_token
        {
            return self.lose(id, LostReason::Disconnected);
        }
        slot.told_as_of = Some(as_of);
        // A grant that answers its request at once needs no acknowledgement; one that waited, or is told again, may.
        let at_once = matches!(slot.phase, Phase::Waiting { queued: false }) && !slot.resumed;
        let token = wire.fencing_token;
        slot.phase = Phase::Held {
            token,
            ttl,
            acked: at_once,
        };
        if slot.leaving {
            return;
        }
        State::promise(slot, sent, if at_once { ttl } else { ttl.min(ack_timeout) });
        if slot.granting.is_some() {
            slot.grant = Some(grant(wire, ttl));
        }
        slot.tell_if_certain(now);
        self.keep(id, ttl, now);
        if !at_once {
            self.acks.push(id);
        }
    }

    /// Sees to it that the lease is renewed in time.
    fn keep(&mut self, id: u64, ttl: Duration, now: Duration) {
        let Some(slot) = self.locks.get(&id) else { return };
        if slot.is_leased() {
            return self.renew_at(id, now + ttl / 3);
        }
        if self.shortest.is_none_or(|shortest| ttl < shortest) {
            self.shortest = Some(ttl);
            let at = now + ttl / 3;
            self.next_beat = Some(self.next_beat.map_or(at, |next| next.min(at)));
            self.wake_link.notify_one();
        }
    }

    fn on_renewed(&mut self, id: u64, as_of: u64, answer: v1::RenewResult, now: Duration) {
        let Some(Pending::Renew(lock)) = self.pending.remove(&id) else {
            return;
        };
        let sent = self.sent_at(as_of);
        let Some(slot) = self.locks.get_mut(&lock) else { return };
        match convert::renew(Some(answer)) {
            Ok(RenewResult::Renewed { ttl: left }) => {
                if let Phase::Held { acked, .. } = &mut slot.phase {
                    *acked = true;
                }
                State::promise(slot, sent, left);
                slot.tell_if_certain(now);
                if slot.is_leased() {
                    self.renew_at(lock, now + left / 3);
                }
            }
            // Why is told by an event of the lock, if it was not told before.
            Ok(RenewResult::NotHeld | RenewResult::InvalidTtl) if !slot.leaving => {
                self.lose(lock, LostReason::Expired);
            }
            _ => {}
        }
    }

    fn on_beaten(&mut self, done: &v1::HeartbeatDone, now: Duration) {
        let sent = self.sent_at(done.as_of);
        let mut shorter = BTreeMap::new();
        for lease in &done.shorter {
            shorter.insert(lease.id, lease.lease_left.map(convert::duration).unwrap_or_default());
        }
        let missed: BTreeSet<u64> = done.not_renewed.iter().copied().collect();
        for (id, slot) in &mut self.locks {
            let Phase::Held { ttl, acked: true, .. } = slot.phase else {
                continue;
            };
            let known = slot.told_as_of.is_some_and(|told| told < done.as_of);
            if known && !slot.is_leased() && !missed.contains(id) {
                let left = shorter.get(id).map_or(ttl, |left| ttl.min(*left));
                State::promise(slot, sent, left);
                // Its acknowledgement may have been answered when its time was over.
                slot.tell_if_certain(now);
            }
        }
    }

    fn on_unlocked(&mut self, id: u64, answer: Result<UnlockResult, Error>) {
        if let Some(Pending::Unlock(unlocking)) = self.pending.remove(&id) {
            self.gave_back(unlocking, answer);
        }
    }

    /// A lock has been given back, or is not known to have been.
    pub(super) fn gave_back(&mut self, mut unlocking: Unlocking, answer: Result<UnlockResult, Error>) {
        self.left.extend(unlocking.leaving.take());
        let Some(slot) = self.locks.remove(&unlocking.lock) else {
            return;
        };
        // It was held when the unlock was first sent, whatever the clock says by now.
        let promised = slot.view.read().promised_until > Some(unlocking.started);
        let waiting = matches!(slot.phase, Phase::Waiting { .. });
        let answer = answer.map(|result| match result {
            UnlockResult::Released { .. } | UnlockResult::Cancelled => Unlocked::Unlocked,
            // An earlier try of this unlock did it, and its answer was lost; or there never was a ticket.
            UnlockResult::AlreadyReleased { ended_by: None } if promised => Unlocked::Unlocked,
            UnlockResult::NotFound if waiting => Unlocked::Unlocked,
            UnlockResult::AlreadyReleased { ended_by } => ended_by.unwrap_or(LostReason::Unknown).into(),
            UnlockResult::NotFound => LostReason::StoreChanged.into(),
            UnlockResult::LockByOther => LostReason::Unknown.into(),
        });
        slot.view.modify(|view| match &answer {
            // Closed in between, it stays closed.
            Ok(Unlocked::Unlocked) => view.unlocked = view.lost.is_none(),
            Ok(Unlocked::AlreadyLost(reason)) => view.lost = Some(reason.clone()),
            Err(_) => view.lost = Some(LostReason::Unconfirmed),
        });
        if let Some(reply) = unlocking.reply {
            let _ = reply.send(answer);
        }
    }

    fn on_error(&mut self, id: u64, error: Error, now: Duration) {
        match self.pending.remove(&id) {
            Some(Pending::Unlock(unlocking)) => {
                if error.is_retryable() {
                    // Tried again by the task until its time is over.
                    self.retry(id, &error, now);
                    self.pending.insert(id, Pending::Unlock(unlocking));
                } else {
                    self.gave_back(unlocking, Err(error));
                }
            }
            // The promise runs on; the next renewal comes in time.
            Some(Pending::Renew(lock)) => {
                self.renew_at(lock, now + RETRY_PAUSE);
            }
            None => self.on_refused(id, error, now),
        }
    }

    /// A lock could not be taken, or not come back to.
    fn on_refused(&mut self, id: u64, error: Error, now: Duration) {
        let Some(slot) = self.locks.get(&id).filter(|slot| !slot.leaving) else {
            return;
        };
        let held = matches!(slot.phase, Phase::Held { .. });
        // It is asked for again where the client goes next.
        if error.is_draining() {
            return;
        }
        if error.is_superseded() {
            return self.refuse_or_lose(id, error, LostReason::Superseded);
        }
        // The server may have it still: what was promised runs on, and so does a place in line.
        if error.is_retryable() && (held || slot.resumed) {
            return self.retry(id, &error, now);
        }
        let unknown = held || !error.has_no_side_effects();
        if unknown {
            self.abandon(id);
        }
        if held {
            self.lose(id, LostReason::Unconfirmed);
        } else {
            self.refuse(id, error);
        }
    }

    /// A call is tried again after a pause.
    fn retry(&mut self, id: u64, error: &Error, now: Duration) {
        self.retries
            .insert((now + error.retry_after().unwrap_or(RETRY_PAUSE), id));
        self.wake_link.notify_one();
    }

    fn refuse_or_lose(&mut self, id: u64, error: Error, reason: LostReason) {
        if self.locks.get(&id).is_some_and(|slot| slot.granting.is_some()) {
            self.refuse(id, error);
        } else {
            self.lose(id, reason);
        }
    }
}

impl Slot {
    /// Tells the caller of its grant once that is certain: before, a guard would say that it is not held.
    fn tell_if_certain(&mut self, now: Duration) {
        let certain = self.view.read().promised_until > Some(now);
        if certain
            && let Some(grant) = self.grant.take()
            && let Some(granting) = self.granting.take()
        {
            // A caller that is gone gives the lock back by dropping its end.
            let _ = granting.send(Ok(grant));
        }
    }
}

fn grant(wire: v1::Granted, ttl: Duration) -> Grant {
    Grant {
        ticket: wire.ticket,
        fencing_token: wire.fencing_token,
        lowest_valid: wire.lowest_valid,
        ttl,
        hold_count: wire.hold_count,
        waited: wire.waited.map(convert::duration).unwrap_or_default(),
        previous_outcome: wire.previous_outcome.map(convert::outcome).unwrap_or_default(),
    }
}
