//! What a hub knows: locks, calls on their way, when each message was sent. Data, and what each change must keep true.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use ticketlock_proto::v1;
use ticketlock_proto::v1::session_call::Call;
use tokio::sync::{Notify, oneshot};

use crate::driver::Leaving;
use crate::guard::Grant;
use crate::lock::{Ask, OnSuspended};
use crate::types::{LostReason, OnDisconnect, Outcome, Unlocked};
use crate::view::Writer;
use crate::{Error, convert};

/// Sending times that are remembered: a lease counted from an older message is not counted at all.
const SENT_MAX: usize = 65_536;

/// Everything of one client.
#[derive(Default)]
pub(super) struct State {
    /// By the id of their `lock`, in the order in which they were asked for.
    pub locks: BTreeMap<u64, Slot>,
    /// Answers that are waited for, by the ids of their calls.
    pub pending: BTreeMap<u64, Pending>,
    /// To be sent with the next message.
    pub calls: Vec<v1::SessionCall>,
    /// A heartbeat goes with it.
    pub beat: bool,
    /// To be said first on a new stream.
    pub hello: Option<v1::Hello>,
    /// Messages sent on this stream.
    pub number: u64,
    /// The highest message read on it.
    pub seen: u64,
    /// When messages were sent, on the client's clock; the first entry is that of message `sent_from`.
    sent: VecDeque<Duration>,
    sent_from: u64,
    /// Grants to be acknowledged, unless their callers give them back at once.
    pub acks: Vec<u64>,
    /// Unlocks and locks to be tried again: when, and the ids of their calls.
    pub retries: BTreeSet<(Duration, u64)>,
    /// Renewals of LEASE holds: when, and which.
    renewals: BTreeSet<(Duration, u64)>,
    /// The shortest lease that heartbeats keep.
    pub shortest: Option<Duration>,
    /// When the next heartbeat is due.
    pub next_beat: Option<Duration>,
    /// When the first promise ends, as of the last look: whoever holds by it is told then, not at the next heartbeat.
    pub next_over: Option<Duration>,
    /// Woken when there is something to send.
    pub writer: Option<Waker>,
    /// Which stream may take what is to be sent: the highest.
    pub stream: u64,
    /// `Welcome` was read on it.
    pub welcomed: bool,
    /// Of the store, once known.
    pub store_id: Vec<u8>,
    /// A grant that waited is worth this much until it is acknowledged.
    pub ack_timeout: Duration,
    /// The longest pause between heartbeats.
    pub heartbeat: Duration,
    /// Locks that have been given back, to be dropped when the state is free.
    pub left: Vec<Leaving>,
    /// The task runs.
    pub running: bool,
    /// No more locks are taken.
    pub shut: bool,
    /// The client is gone.
    pub closed: bool,
    /// Rings when the task has to look at its times again.
    pub wake_link: Arc<Notify>,
    /// Rings when the stream is to begin anew elsewhere.
    pub moved: Arc<Notify>,
    last_id: u64,
}

/// One lock.
pub(super) struct Slot {
    pub ask: Arc<Ask>,
    pub view: Writer,
    /// Until it is granted or refused.
    pub granting: Option<oneshot::Sender<Result<Grant, Error>>>,
    /// Granted, but not told to the caller before it is certain.
    pub grant: Option<Grant>,
    pub phase: Phase,
    /// It is being given back.
    pub leaving: bool,
    /// The server may know of it.
    pub asked: bool,
    /// It was asked for again on a later stream.
    pub resumed: bool,
    /// Its grant was told on this stream, when this message of the client's was the latest that was received. A
    /// heartbeat from then on renews it; an earlier one did not know of it.
    pub told_as_of: Option<u64>,
    /// Its next renewal, where it is a LEASE hold.
    renew_at: Option<Duration>,
}

/// How a lock stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// In line, or not answered yet.
    Waiting {
        /// It was told a place in line on this stream.
        queued: bool,
    },
    /// It holds.
    Held {
        token: u64,
        ttl: Duration,
        /// The server knows that the grant was received.
        acked: bool,
    },
}

/// A call whose answer is waited for.
pub(super) enum Pending {
    /// A lock is being given back.
    Unlock(Unlocking),
    /// This lock is being renewed, or its grant acknowledged.
    Renew(u64),
}

/// A lock that is being given back.
pub(super) struct Unlocking {
    /// Which.
    pub lock: u64,
    pub outcome: Outcome,
    pub reply: Option<oneshot::Sender<Result<Unlocked, Error>>>,
    /// On the client's clock.
    pub started: Duration,
    pub leaving: Option<Leaving>,
}

impl State {
    /// Sees to the next renewal of a LEASE hold, in place of the one that was planned.
    pub(super) fn renew_at(&mut self, id: u64, at: Duration) {
        let Some(slot) = self.locks.get_mut(&id) else { return };
        if let Some(before) = slot.renew_at.replace(at) {
            self.renewals.remove(&(before, id));
        }
        self.renewals.insert((at, id));
        self.wake_link.notify_one();
    }

    /// The next planned renewal.
    pub(super) fn next_renewal(&self) -> Option<(Duration, u64)> {
        self.renewals.first().copied()
    }

    /// The next planned renewal, if it is due.
    pub(super) fn take_renewal(&mut self, now: Duration) -> Option<u64> {
        let due = self.next_renewal().filter(|(at, _)| *at <= now)?;
        self.renewals.remove(&due);
        if let Some(slot) = self.locks.get_mut(&due.1) {
            slot.renew_at = None;
        }
        Some(due.1)
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Whether the writer is to be woken.
    pub(super) fn has_to_send(&self) -> bool {
        self.hello.is_some() || (self.welcomed && (self.beat || !self.calls.is_empty()))
    }

    /// Asks for a lock, for the first time or again.
    pub(super) fn ask(&mut self, id: u64, only: bool) {
        if !self.welcomed {
            // It is asked for with all others once the server has said who it is.
            return;
        }
        let Some(slot) = self.locks.get_mut(&id) else { return };
        slot.asked = true;
        let mode = if only {
            v1::AttachMode::Only
        } else {
            v1::AttachMode::OrCreate
        };
        let mut request = slot.ask.lock_request(0, mode);
        request.owner.clear();
        self.calls.push(v1::SessionCall {
            id,
            call: Some(Call::Lock(request)),
        });
    }

    /// Sends an unlock and waits for its answer.
    pub(super) fn unlock(&mut self, unlocking: Unlocking) {
        let id = self.next_id();
        self.send_unlock(id, &unlocking);
        self.pending.insert(id, Pending::Unlock(unlocking));
    }

    /// Sends what gives a lock back: by its request id, which stands for whatever there is, and the token if known.
    pub(super) fn send_unlock(&mut self, id: u64, unlocking: &Unlocking) {
        let Some(slot) = self.locks.get(&unlocking.lock) else {
            return;
        };
        if !self.welcomed {
            return;
        }
        let call = Call::Unlock(unlock_request(slot, unlocking.outcome.clone()));
        self.calls.push(v1::SessionCall { id, call: Some(call) });
    }

    /// Extends a hold by name, which acknowledges its grant.
    pub(super) fn renew(&mut self, lock: u64) {
        let Some(Slot {
            ask,
            phase: Phase::Held { token, .. },
            ..
        }) = self.locks.get(&lock)
        else {
            return;
        };
        let item = v1::RenewItem {
            key: ask.key.clone(),
            fencing_token: *token,
            ttl: None,
        };
        let id = self.next_id();
        self.calls.push(v1::SessionCall {
            id,
            call: Some(Call::Renew(item)),
        });
        self.pending.insert(id, Pending::Renew(lock));
    }

    /// A message is being sent.
    pub(super) fn sending(&mut self, now: Duration) -> u64 {
        self.number += 1;
        self.sent.push_back(now);
        if self.sent.len() > SENT_MAX {
            self.sent.pop_front();
            self.sent_from += 1;
        }
        self.number
    }

    /// When a message of this stream was sent.
    pub(super) fn sent_at(&self, number: u64) -> Option<Duration> {
        let index = number.checked_sub(self.sent_from)?;
        self.sent.get(usize::try_from(index).ok()?).copied()
    }

    /// A new stream takes over; nothing has been sent on it.
    pub(super) fn begin_stream(&mut self, hello: v1::Hello) -> u64 {
        self.stream += 1;
        self.welcomed = false;
        self.hello = Some(hello);
        self.number = 0;
        self.seen = 0;
        self.sent.clear();
        self.sent_from = 1;
        self.calls.clear();
        self.acks.clear();
        // Everything is asked for again on it.
        self.retries.clear();
        self.beat = false;
        self.stream
    }

    /// The stream is gone: what needs one is no longer certain. Whom to tell of those that wait.
    #[must_use]
    pub(super) fn cut(&mut self) -> Vec<OnSuspended> {
        self.welcomed = false;
        self.stream += 1;
        self.pending.retain(|_, pending| matches!(pending, Pending::Unlock(_)));
        let held = |slot: &&mut Slot| matches!(slot.phase, Phase::Held { .. });
        for slot in self.locks.values_mut().filter(held) {
            slot.told_as_of = None;
            let cut_off = super::needs_stream(slot.ask.on_disconnect);
            slot.view.modify(|view| {
                view.suspended = true;
                view.cut_off |= cut_off;
            });
        }
        let waiting = |slot: &&Slot| matches!(slot.phase, Phase::Waiting { .. }) && !slot.leaving;
        let waiting = self.locks.values().filter(waiting);
        waiting.filter_map(|slot| slot.ask.on_suspended.clone()).collect()
    }

    /// Writes down that the server keeps a lock's lease for `ttl` after what was sent at `sent`: 2 % less, since two
    /// clocks may differ by 1 %. A promise never takes an earlier one back.
    pub(super) fn promise(slot: &Slot, sent: Option<Duration>, ttl: Duration) {
        let Some(sent) = sent else { return };
        let until = sent + ttl.saturating_sub(ttl / 50);
        let acknowledged = matches!(slot.phase, Phase::Held { acked: true, .. });
        slot.view.modify(|view| {
            view.cut_off = false;
            view.suspended = false;
            view.confirmed |= acknowledged;
            view.promised_until = view.promised_until.max(Some(until));
        });
    }

    /// The lock is gone, and its caller is told why.
    pub(super) fn lose(&mut self, id: u64, reason: LostReason) {
        let Some(slot) = self.locks.get_mut(&id) else { return };
        super::mark_lost(&slot.view, reason.clone());
        if let Some(granting) = slot.granting.take() {
            let reason = crate::types::RefusedReason::Disconnected;
            let _ = granting.send(Err(Error::NotAcquired { reason, obstacle: None }));
        }
        if !slot.leaving {
            self.locks.remove(&id);
        }
    }

    /// There will be no lock.
    pub(super) fn refuse(&mut self, id: u64, error: Error) {
        let Some(slot) = self.locks.get_mut(&id) else { return };
        if let Some(granting) = slot.granting.take() {
            let _ = granting.send(Err(error));
        }
        if !slot.leaving {
            self.locks.remove(&id);
        }
    }
}

impl Slot {
    /// That nobody has answered for.
    pub(super) fn new(ask: Arc<Ask>, view: Writer, granting: oneshot::Sender<Result<Grant, Error>>) -> Self {
        Self {
            ask,
            view,
            granting: Some(granting),
            grant: None,
            phase: Phase::Waiting { queued: false },
            leaving: false,
            asked: false,
            resumed: false,
            told_as_of: None,
            renew_at: None,
        }
    }

    /// Only renewals by name extend it.
    pub(super) fn is_leased(&self) -> bool {
        self.ask.on_disconnect == OnDisconnect::Lease
    }
}

/// The message that gives a lock back.
pub(super) fn unlock_request(slot: &Slot, outcome: Outcome) -> v1::UnlockRequest {
    let fencing_token = match slot.phase {
        Phase::Held { token, .. } => token,
        Phase::Waiting { .. } => 0,
    };
    v1::UnlockRequest {
        key: slot.ask.key.clone(),
        owner: String::new(),
        fencing_token,
        request_id: slot.ask.request_id.to_vec(),
        outcome: (outcome != Outcome::default()).then(|| convert::to_outcome(outcome)),
    }
}
