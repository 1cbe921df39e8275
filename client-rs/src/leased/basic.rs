//! A lock as an object: it is taken and given back, its lease moved, by one call at a time.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use super::LockError;
use super::machine::{Claims, Ending, Lease, LockState, Machine, Operation, Question, Refusal, RequestId};
use crate::types::{OnDisconnect, Outcome, RenewResult};
use crate::{Client, Error, Guard};

/// Called when a lease ends without an unlock. It must not block.
pub type ExpireListener = Arc<dyn Fn() + Send + Sync>;

/// Before the server is asked again what became of an operation.
const RESOLVE_PAUSE: Duration = Duration::from_millis(200);
/// The longest time between two looks at the clock.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A server forgets a waiter whose connection fell silent within this time; what it grants until then lasts a lease more.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// The lock object of a key. Cheap to clone; all clones are the same lock. Nothing renews it: its lease ends unless
/// [`update_lease`](Self::update_lease) moves the end.
#[derive(Clone)]
pub struct DistributedLock {
    shared: Arc<Shared>,
}

/// What all clones share.
struct Shared {
    client: Client,
    key: String,
    machine: Mutex<Machine>,
    listener: Option<ExpireListener>,
    /// Rings when the machine has changed, for the task that watches it.
    changed: Arc<Notify>,
    /// Rings when an unlock ends the operation that is under way.
    ended: Notify,
}

impl fmt::Debug for DistributedLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DistributedLock")
            .field("key", &self.shared.key)
            .field("state", &self.state())
            .finish()
    }
}

/// An operation that is under way; dropped before its end, it ends as is written here.
struct UnderWay<'a> {
    shared: &'a Shared,
    number: u64,
    if_dropped: Ending,
}

impl UnderWay<'_> {
    /// It ends so; false where something else has taken its place.
    fn ends(mut self, ending: Ending) -> bool {
        let counts = self.shared.machine().end(self.number, ending);
        self.if_dropped = Ending::Nothing;
        counts
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.shared.machine().end(self.number, self.if_dropped);
        self.shared.changed.notify_one();
    }
}

impl DistributedLock {
    pub(super) fn new(client: Client, key: String, listener: Option<ExpireListener>) -> Self {
        let changed = Arc::new(Notify::new());
        let shared = Arc::new(Shared {
            client,
            key,
            machine: Mutex::default(),
            listener,
            changed: Arc::clone(&changed),
            ended: Notify::new(),
        });
        let background = Arc::clone(&shared.client.inner.background);
        background.spawn(watch(Arc::downgrade(&shared), changed));
        Self { shared }
    }

    /// The key, with its group.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.shared.key
    }

    /// What is known at this moment. Answers locally.
    #[must_use]
    pub fn state(&self) -> LockState {
        self.shared.machine().state(self.shared.now())
    }

    /// True only if the lock is guaranteed at this moment. Answers locally; false where it is unknown.
    #[must_use]
    pub fn is_held_by_current_client(&self) -> bool {
        self.state() == LockState::Locked
    }

    /// What is left of the guaranteed lease, on this client's clock; zero where nothing is.
    #[must_use]
    pub fn lease_rest(&self) -> Duration {
        self.shared.machine().left(self.shared.now())
    }

    /// The token to hand to what the lock protects; `None` where it is not held for certain.
    #[must_use]
    pub fn fencing_token(&self) -> Option<u64> {
        let machine = self.shared.machine();
        let held = machine.state(self.shared.now()) == LockState::Locked;
        machine.lease().filter(|_| held).map(|lease| lease.token)
    }

    /// Takes the lock for `lease` (100 ms to 24 h), waiting in line for `wait` at most; zero does not wait. True at once
    /// where this object holds it already: its lease stays as it is. Dropping the future leaves the line.
    ///
    /// # Errors
    /// [`LockError::Busy`], [`LockError::Closed`], [`LockError::Cancelled`] by an unlock, or [`LockError::Failed`].
    pub async fn try_lock(&self, lease: Duration, wait: Duration) -> Result<bool, LockError> {
        let shared = &*self.shared;
        let number = {
            let mut machine = shared.machine();
            let now = shared.now();
            let number = machine.begin(Operation::Lock, now).map_err(|it| shared.refused(it))?;
            if machine.state(now) == LockState::Locked {
                machine.end(number, Ending::Nothing);
                return Ok(true);
            }
            number
        };
        // A wait that is dropped is given back by the client; what was known of an older hold stays.
        let under_way = UnderWay {
            shared,
            number,
            if_dropped: Ending::Nothing,
        };
        let id = shared.client.inner.request_id();
        let taken = tokio::select! {
            biased;
            () = shared.overtaken(number) => return Err(shared.cancelled()),
            taken = shared.take(id, lease, wait) => taken,
        };
        match taken {
            Ok(held) => {
                if under_way.ends(Ending::Held(held)) {
                    return Ok(true);
                }
                // An unlock came in the same instant, and knew of nothing to give back.
                shared.give_back_later(Claims {
                    token: Some(held.token),
                    requests: Vec::new(),
                });
                Err(shared.cancelled())
            }
            Err(Error::NotAcquired { .. }) => Ok(false),
            Err(error) => {
                if !error.has_no_side_effects() {
                    under_way.ends(Ending::Ambiguous {
                        over_by: shared.over_by(lease) + SILENCE_MAX,
                        asked: Some(id),
                    });
                }
                Err(shared.failed(error))
            }
        }
    }

    /// Gives the lock back; no error where it is not held. Ends the operation that is under way, with
    /// [`LockError::Cancelled`].
    ///
    /// # Errors
    /// [`LockError::Closed`], or [`LockError::Failed`] where no answer came: the state is unknown until the lease ends or
    /// the server answers again.
    pub async fn unlock(&self) -> Result<(), LockError> {
        let shared = &*self.shared;
        let (number, claims, over_by) = {
            let mut machine = shared.machine();
            let now = shared.now();
            let number = machine.begin(Operation::Unlock, now).map_err(|it| shared.refused(it))?;
            (number, machine.claims(), machine.over_by(now))
        };
        shared.ended.notify_waiters();
        let ambiguous = Ending::Ambiguous { over_by, asked: None };
        let under_way = UnderWay {
            shared,
            number,
            if_dropped: ambiguous,
        };
        match shared.give_back(&claims).await {
            Ok(()) => {
                under_way.ends(Ending::NotHeld);
                Ok(())
            }
            Err(error) => Err(shared.failed(error)),
        }
    }

    /// Moves the lease's end to `lease` from now, where that is later.
    ///
    /// # Errors
    /// [`LockError::NotHeld`] where it is not held or the lease has ended, [`LockError::Busy`], [`LockError::Closed`],
    /// [`LockError::Cancelled`] by an unlock, or [`LockError::Failed`] where no answer came: what is left of the lease
    /// before still holds.
    pub async fn update_lease(&self, lease: Duration) -> Result<(), LockError> {
        let shared = &*self.shared;
        let (number, token) = {
            let mut machine = shared.machine();
            let now = shared.now();
            let number = machine
                .begin(Operation::UpdateLease, now)
                .map_err(|it| shared.refused(it))?;
            (number, machine.lease().map_or(0, |lease| lease.token))
        };
        let ambiguous = Ending::Ambiguous {
            over_by: shared.over_by(lease) + SILENCE_MAX,
            asked: None,
        };
        let under_way = UnderWay {
            shared,
            number,
            if_dropped: ambiguous,
        };
        let sent = shared.now();
        let renewing = shared.client.renew(&shared.key, token, Some(lease));
        let answer = tokio::select! {
            biased;
            () = shared.overtaken(number) => return Err(shared.cancelled()),
            answer = renewing => answer,
        };
        match answer {
            Ok(RenewResult::Renewed { ttl, .. }) => {
                under_way.ends(Ending::Held(shared.lease(token, sent, ttl)));
                Ok(())
            }
            Ok(RenewResult::NotHeld) => {
                under_way.ends(Ending::NotHeld);
                let key = shared.key.clone();
                Err(LockError::NotHeld { key })
            }
            Ok(RenewResult::InvalidTtl) => {
                under_way.ends(Ending::Nothing);
                Err(shared.failed(crate::convert::invalid_ttl(lease)))
            }
            Err(error) => {
                let nothing = error.has_no_side_effects();
                under_way.ends(if nothing { Ending::Nothing } else { ambiguous });
                Err(shared.failed(error))
            }
        }
    }

    /// Ends the object: what it holds is given back, and later calls answer [`LockError::Closed`].
    pub async fn close(&self) {
        let shared = &*self.shared;
        let claims = shared.machine().close();
        shared.ended.notify_waiters();
        shared.changed.notify_one();
        // Without an answer the lease ends it.
        let _ = shared.give_back(&claims).await;
    }
}

impl Shared {
    fn machine(&self) -> MutexGuard<'_, Machine> {
        // Nothing panics while this is held, so what a poisoned lock protects is whole.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all of it, until the server has answered.
    async fn give_back(&self, claims: &Claims) -> Result<(), Error> {
        give_back(&self.client, &self.key, claims).await
    }

    /// The same, with nobody waiting for it.
    fn give_back_later(&self, claims: Claims) {
        let (client, key) = (self.client.clone(), self.key.clone());
        self.client.inner.background.spawn(async move {
            // Without an answer the lease ends it.
            let _ = give_back(&client, &key, &claims).await;
        });
    }

    fn now(&self) -> Duration {
        self.client.inner.clock.now()
    }

    /// When a lease of this length that began by now is over for certain, even if the server's clock is 1 % slower.
    fn over_by(&self, ttl: Duration) -> Duration {
        self.now() + ttl + ttl / 50
    }

    /// A lease that the server keeps for `ttl` after what was sent at `sent`; 2 % less, since two clocks may differ by 1 %.
    fn lease(&self, token: u64, sent: Duration, ttl: Duration) -> Lease {
        Lease {
            token,
            until: sent + ttl.saturating_sub(ttl / 50),
            over_by: self.over_by(ttl),
        }
    }

    async fn take(&self, id: RequestId, lease: Duration, wait: Duration) -> Result<Lease, Error> {
        let builder = self.client.lock(&self.key).request_id(id).ttl(lease).wait(wait);
        let guard: Guard = builder.on_disconnect(OnDisconnect::Lease).await?;
        guard.confirmed().await.map_err(Error::Lost)?;
        let until = self.now() + guard.valid_for();
        let token = guard.detach().await?;
        Ok(Lease {
            token,
            until,
            over_by: self.over_by(lease),
        })
    }

    /// Resolves once another operation has taken the place of this one, or the object is closed.
    async fn overtaken(&self, number: u64) {
        loop {
            // Order: listen before looking.
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            if !self.machine().is_current(number) {
                return;
            }
            ended.await;
        }
    }

    fn refused(&self, refusal: Refusal) -> LockError {
        let key = self.key.clone();
        match refusal {
            Refusal::Busy => LockError::Busy { key },
            Refusal::Closed => LockError::Closed { key },
            Refusal::NotHeld => LockError::NotHeld { key },
        }
    }

    fn cancelled(&self) -> LockError {
        let key = self.key.clone();
        match self.machine().state(self.now()) {
            LockState::Closed => LockError::Closed { key },
            _ => LockError::Cancelled { key },
        }
    }

    fn failed(&self, error: Error) -> LockError {
        LockError::Failed {
            key: self.key.clone(),
            error: Box::new(error),
        }
    }

    /// Asks the server about an operation that nobody answered.
    async fn resolve(&self, number: u64, question: Question) -> Result<(), Error> {
        let sent = self.now();
        let found = match question {
            Question::IsHeld(token) => {
                let lock = self.client.get(&self.key).await?;
                let held = lock.holders.into_iter().find(|it| it.fencing_token == token);
                held.map(|holder| self.lease(token, sent, holder.lease_left))
            }
            Question::End(claims) => {
                self.give_back(&claims).await?;
                None
            }
        };
        self.machine().resolved(number, found);
        Ok(())
    }
}

async fn give_back(client: &Client, key: &str, claims: &Claims) -> Result<(), Error> {
    for id in &claims.requests {
        client.unlock_request(key, *id).await?;
    }
    if let Some(token) = claims.token {
        client.unlock_token(key, token, Outcome::default()).await?;
    }
    Ok(())
}

/// Tells the listener when the lease ends, and clears up what is unknown. Ends with the object.
async fn watch(shared: Weak<Shared>, changed: Arc<Notify>) {
    let mut was_locked = false;
    loop {
        let Some(object) = shared.upgrade() else { return };
        let now = object.now();
        let (state, given_back, next, unanswered) = {
            let machine = object.machine();
            let next = machine.next_change(now);
            (
                machine.state(now),
                machine.is_given_back(),
                next,
                machine.unresolved(now),
            )
        };
        let is_locked = state == LockState::Locked;
        if std::mem::replace(&mut was_locked, is_locked)
            && !is_locked
            && !given_back
            && let Some(listener) = &object.listener
        {
            listener();
        }
        if state == LockState::Closed {
            return;
        }
        let unclear = unanswered.is_some();
        if let Some((number, question)) = unanswered
            && object.resolve(number, question).await.is_ok()
        {
            continue;
        }
        drop(object);
        let pause = next.map(|next| next.saturating_sub(now));
        let pause = if unclear {
            Some(pause.map_or(RESOLVE_PAUSE, |pause| pause.min(RESOLVE_PAUSE)))
        } else {
            pause
        };
        let waiting = async {
            match pause {
                // Bound: a machine that was suspended looks at its clock soon after.
                Some(pause) => tokio::time::sleep(pause.min(LOOK_EVERY)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = changed.notified() => {}
            () = waiting => {}
        }
    }
}

impl Drop for Shared {
    /// The last clone is gone: the watching task ends, and what is held is given back.
    fn drop(&mut self) {
        let claims = self.machine().close();
        self.changed.notify_one();
        if claims != Claims::default() {
            self.give_back_later(claims);
        }
    }
}
