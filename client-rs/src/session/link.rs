//! The task of a hub: keeps a stream to the server, reads it, beats in time, comes back after a cut, and gives up what
//! nobody confirms.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use ticketlock_proto::v1;
use ticketlock_proto::v1::lock_service_client::LockServiceClient;
use tokio::time::sleep;
use tokio_stream::Stream;
use tonic::Streaming;

use super::Hub;
use super::state::{Pending, Phase, State, unlock_request};
use crate::client::Inner;
use crate::types::{LostReason, Outcome};
use crate::{Error, runtime};

/// Pauses between tries to come back.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// An unlock that gets no answer is given up after this.
const UNLOCK_WITHIN: Duration = Duration::from_secs(10);
/// How often times are looked at while there is no stream.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Bound: calls in one message.
const CALLS_MAX: usize = 1_000;

/// Starts the task.
pub(super) fn start(inner: &Arc<Inner>) {
    let hub = Arc::clone(&inner.hub);
    let link = Link {
        hub,
        inner: Arc::downgrade(inner),
        way: (inner.pool.urls(), inner.transport.clone(), inner.dial.clone()),
        ended: false,
    };
    inner.background.spawn(link.run());
}

struct Link {
    hub: Arc<Hub>,
    /// Gone with the last client, guard and lock that is being given back.
    inner: Weak<Inner>,
    /// Where to go once more if the runtime is torn down.
    way: runtime::Way,
    ended: bool,
}

impl Link {
    async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        let mut cut_at = None;
        loop {
            let opened = match self.inner.upgrade() {
                Some(inner) => self.open(&inner).await,
                None => break,
            };
            match opened {
                Ok(responses) => {
                    if self.converse(responses).await {
                        pause = PAUSE_MIN;
                    }
                    cut_at = Some(self.hub.clock.now());
                    self.hub.cut();
                }
                Err(error) => {
                    let now = self.hub.clock.now();
                    self.hub.state().give_up_waiting(&error, cut_at, now);
                }
            }
            if self.inner.strong_count() == 0 {
                break;
            }
            if !self.rest(pause).await {
                break;
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
        self.ended = true;
    }

    /// Opens a stream, while times go on.
    async fn open(&self, inner: &Arc<Inner>) -> Result<Streaming<v1::SessionResponse>, Error> {
        let mut opening = std::pin::pin!(open(inner, &self.hub));
        let mut left = Duration::ZERO;
        loop {
            tokio::select! {
                biased;
                opened = &mut opening => return opened,
                () = sleep(left) => left = self.look(),
            }
        }
    }

    /// Waits before the next try, while times go on; `false`: nobody is left.
    async fn rest(&self, pause: Duration) -> bool {
        let until = self.hub.clock.now() + pause;
        loop {
            let left = self.look();
            let now = self.hub.clock.now();
            if self.inner.strong_count() == 0 {
                return false;
            }
            if now >= until {
                return true;
            }
            sleep((until - now).min(left)).await;
        }
    }

    /// What is due without a stream; how long until the next look.
    fn look(&self) -> Duration {
        let now = self.hub.clock.now();
        self.hub.tick(now).saturating_sub(now).min(LOOK_EVERY)
    }

    /// Reads a stream to its end; whether the server said anything on it.
    async fn converse(&self, mut responses: Streaming<v1::SessionResponse>) -> bool {
        let (wake, moved) = {
            let state = self.hub.state();
            (Arc::clone(&state.wake_link), Arc::clone(&state.moved))
        };
        let mut heard = false;
        loop {
            let now = self.hub.clock.now();
            let next = self.hub.tick(now);
            let left = next.saturating_sub(now);
            tokio::select! {
                biased;
                message = responses.message() => match message {
                    Ok(Some(message)) => {
                        heard = true;
                        self.hub.on_message(message);
                        if !self.hub.state().acks.is_empty() {
                            // Callers that were granted get their turn: an unlock in place of an acknowledgement is one.
                            tokio::task::yield_now().await;
                            self.hub.acknowledge();
                        }
                    }
                    Ok(None) | Err(_) => return heard,
                },
                () = moved.notified() => return heard,
                () = wake.notified() => {}
                // Bound: a machine that was suspended looks at its clock soon after.
                () = sleep(left.min(PAUSE_MAX)) => {}
            }
        }
    }
}

impl Drop for Link {
    /// Dropped in the middle, its runtime is being torn down. The connection goes with it, but a grace or a lease would
    /// keep the locks: so a thread of its own gives them back.
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut requests = Vec::new();
        let mut state = self.hub.state();
        state.closed = true;
        for slot in state.locks.values() {
            super::mark_lost(&slot.view, LostReason::Closed);
            if slot.asked {
                let mut request = unlock_request(slot, Outcome::default());
                request.owner = slot.ask.owner.clone();
                requests.push(request);
            }
        }
        // Callers that wait hear of it by their senders' end.
        state.locks.clear();
        let pending = std::mem::take(&mut state.pending);
        drop(state);
        // Order: it may hold the client's last, whose end needs the state.
        drop(pending);
        if !requests.is_empty() {
            runtime::unlock_detached(self.way.clone(), requests);
        }
    }
}

/// Opens a stream, on the next endpoint where the way to this one is broken.
async fn open(inner: &Arc<Inner>, hub: &Arc<Hub>) -> Result<Streaming<v1::SessionResponse>, Error> {
    let place = inner.pool.place()?;
    let hello = v1::Hello {
        owner: inner.owner.clone(),
        attach: inner.next_attach(),
    };
    let stream = hub.state().begin_stream(hello);
    let requests = Requests {
        hub: Arc::clone(hub),
        stream,
    };
    let answer = LockServiceClient::new(place.channel.clone()).session(requests).await;
    match answer {
        Ok(responses) => Ok(responses.into_inner()),
        Err(status) => {
            let error = Error::from(status);
            if error.is_transport() {
                inner.pool.fail_over(place.generation).await;
            }
            Err(error)
        }
    }
}

/// What is to be sent, one message at a time, each with all that is ready.
struct Requests {
    hub: Arc<Hub>,
    /// Its turn ends when a later stream begins.
    stream: u64,
}

impl Stream for Requests {
    type Item = v1::SessionRequest;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<v1::SessionRequest>> {
        let mut state = self.hub.state();
        if state.stream != self.stream {
            return Poll::Ready(None);
        }
        if !state.has_to_send() {
            if state.closed && state.pending.is_empty() {
                return Poll::Ready(None);
            }
            state.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let hello = state.hello.take();
        let mut calls = Vec::new();
        if state.welcomed {
            let rest = if state.calls.len() > CALLS_MAX {
                state.calls.split_off(CALLS_MAX)
            } else {
                Vec::new()
            };
            calls = std::mem::replace(&mut state.calls, rest);
        }
        let heartbeat = state.welcomed && std::mem::take(&mut state.beat);
        // Order: the clock is read before the message is sent, so that no promise is counted from too late.
        let number = state.sending(self.hub.clock.now());
        Poll::Ready(Some(v1::SessionRequest {
            number,
            seen: state.seen,
            hello,
            heartbeat,
            calls,
        }))
    }
}

impl Hub {
    /// Acknowledges the grants that are still held.
    fn acknowledge(&self) {
        self.change(|state| {
            for id in std::mem::take(&mut state.acks) {
                if state.locks.get(&id).is_some_and(|slot| !slot.leaving) {
                    state.renew(id);
                }
            }
        });
    }

    /// Does what is due at `now`; returns when the next thing is.
    fn tick(&self, now: Duration) -> Duration {
        let jitter = || {
            let mut bytes = [0; 4];
            self.random.fill(&mut bytes);
            1.0 - 0.1 * f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
        };
        self.change(|state| state.tick(now, jitter))
    }
}

impl State {
    fn tick(&mut self, now: Duration, jitter: impl FnOnce() -> f64) -> Duration {
        while let Some(lock) = self.take_renewal(now) {
            let slot = self.locks.get(&lock).filter(|slot| !slot.leaving);
            // Between two looks nobody else notes when its promise ends.
            let promised = slot.and_then(|slot| slot.view.read().promised_until);
            let there = slot.is_some();
            self.next_over = self.next_over.into_iter().chain(promised).min();
            if there && self.welcomed {
                self.renew(lock);
            } else if there {
                self.renew_at(lock, now + LOOK_EVERY);
            }
        }
        while let Some((at, id)) = self.retries.first().copied().filter(|(at, _)| *at <= now) {
            self.retries.remove(&(at, id));
            if let Some(Pending::Unlock(unlocking)) = self.pending.remove(&id) {
                self.send_unlock(id, &unlocking);
                self.pending.insert(id, Pending::Unlock(unlocking));
            } else if let Some(slot) = self.locks.get(&id).filter(|slot| !slot.leaving) {
                self.ask(id, matches!(slot.phase, Phase::Held { .. }));
            }
        }
        let over = self.next_over.is_some_and(|at| at <= now);
        if self.next_beat.is_none_or(|at| at <= now) || over || !self.welcomed {
            self.look(now, jitter());
        }
        let next = self.next_beat.unwrap_or(now + PAUSE_MAX);
        let planned = [self.next_renewal(), self.retries.first().copied()];
        let planned = planned.into_iter().flatten().map(|(at, _)| at).chain(self.next_over);
        planned.fold(next, Duration::min).max(now + Duration::from_millis(1))
    }

    /// Beats, and gives up what was not confirmed in time.
    fn look(&mut self, now: Duration, jitter: f64) {
        let mut shortest = None;
        let mut over = Vec::new();
        self.next_over = None;
        for (id, slot) in &self.locks {
            let Phase::Held { ttl, acked, .. } = slot.phase else {
                continue;
            };
            if !slot.is_leased() {
                shortest = Some(shortest.map_or(ttl, |other: Duration| other.min(ttl)));
            }
            let promised = slot.view.read().promised_until;
            // What became of a grant that waits for its acknowledgement's answer, that answer says; and one that nobody was
            // told of yet is told once it is confirmed.
            let told = acked && slot.granting.is_none() && !slot.leaving;
            match promised.filter(|_| told) {
                Some(until) if until <= now => over.push(*id),
                Some(until) => self.next_over = Some(self.next_over.map_or(until, |next| next.min(until))),
                None => {}
            }
        }
        for id in over {
            self.lose_unconfirmed(id, now);
        }
        let late = |started: Duration| started <= now && now - started >= UNLOCK_WITHIN;
        let late: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, pending)| matches!(pending, Pending::Unlock(unlocking) if late(unlocking.started)))
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            if let Some(Pending::Unlock(unlocking)) = self.pending.remove(&id) {
                self.gave_back(unlocking, Err(Error::stream_ended()));
            }
        }
        self.shortest = shortest;
        let pause = shortest.map_or(self.heartbeat, |ttl| (ttl / 3).min(self.heartbeat));
        let pause = pause.max(LOOK_EVERY).mul_f64(jitter);
        self.next_beat = Some(now + pause);
        self.beat = self.welcomed;
    }

    /// Nobody confirmed it in time. The server may hold it still, so it is given back, too.
    fn lose_unconfirmed(&mut self, id: u64, now: Duration) {
        let Some(slot) = self.locks.get_mut(&id) else { return };
        super::mark_lost(&slot.view, LostReason::Unconfirmed);
        slot.leaving = true;
        self.unlock(super::state::Unlocking {
            lock: id,
            outcome: Outcome::default(),
            reply: None,
            started: now,
            leaving: None,
        });
    }

    /// The server cannot be reached: those who wait hear of it, but for those whose place is kept for a while.
    fn give_up_waiting(&mut self, error: &Error, cut_at: Option<Duration>, now: Duration) {
        let waits = |slot: &super::state::Slot| slot.granting.is_some();
        let away = cut_at.map(|cut_at| now.saturating_sub(cut_at));
        let kept = |slot: &super::state::Slot| slot.asked && away.is_some_and(|away| away < slot.ask.taken_up_within());
        let refused: Vec<u64> = self
            .locks
            .iter()
            .filter(|(_, slot)| waits(slot) && !kept(slot))
            .map(|(id, _)| *id)
            .collect();
        for id in refused {
            self.refuse(id, error.clone());
        }
    }
}
