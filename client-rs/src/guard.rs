//! The guard: what the holder of a lock sees of it. It knows only what the ticket's driver wrote down, and the clock.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::Error;
use crate::client::Inner;
use crate::driver::{Command, Leaving};
use crate::lock::Ask;
use crate::session::Hub;
use crate::types::{LostReason, Outcome, State, Unlocked};
use crate::view::{Reader, View};

/// The grant, as the server told it.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub ticket: u64,
    pub fencing_token: u64,
    pub lowest_valid: u64,
    pub ttl: Duration,
    pub hold_count: u32,
    pub waited: Duration,
    pub previous_outcome: Outcome,
}

/// The caller's end of a ticket, waiting or held. Dropping it gives the ticket back.
pub(crate) struct Hold {
    pub inner: Arc<Inner>,
    pub ask: Arc<Ask>,
    pub view: Reader,
    pub end: End,
    /// It is left to its lease: nothing is given back.
    pub detached: bool,
}

/// The way from a hold to what drives it.
pub(crate) enum End {
    /// A task of its own, over a stream of its own.
    Plain(mpsc::UnboundedSender<Command>),
    /// The client's session.
    Session {
        /// Which.
        hub: Arc<Hub>,
        /// Its name there.
        id: u64,
    },
}

impl Hold {
    /// Gives it back; a reply that is dropped unanswered means that it had ended before.
    fn give_back(&self, outcome: Outcome, reply: Option<oneshot::Sender<Result<Unlocked, Error>>>) {
        let leaving = Leaving::new(&self.inner);
        match &self.end {
            // Without a receiver the ticket has ended already, or its driver's own drop takes care of it.
            End::Plain(commands) => drop(commands.send(Command::GiveBack {
                outcome,
                reply,
                leaving,
            })),
            End::Session { hub, id } => hub.give_back(*id, outcome, reply, leaving),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.detached {
            self.give_back(Outcome::default(), None);
        }
    }
}

/// A lock that is held. It renews itself; dropping it gives the lock back in the background.
///
/// The lock can be lost while the guard lives, as any leased lock can: ask [`is_held`](Self::is_held) or await
/// [`lost`](Self::lost), and hand the [`fencing_token`](Self::fencing_token) to whatever the lock protects.
#[must_use = "dropping the guard gives the lock back"]
pub struct Guard {
    hold: Hold,
    grant: Grant,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("key", &self.key())
            .field("fencing_token", &self.fencing_token())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl Guard {
    pub(crate) fn new(hold: Hold, grant: Grant) -> Self {
        Self { hold, grant }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.hold.ask.key
    }

    /// The owner that it is held for.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.hold.ask.owner
    }

    /// Strictly greater than every earlier token of the key: a resource that refuses smaller ones is safe even where
    /// the lock is lost unnoticed.
    #[must_use]
    pub fn fencing_token(&self) -> u64 {
        self.grant.fencing_token
    }

    /// The smallest token that was valid on the key at the grant; for an exclusive lock the token itself.
    #[must_use]
    pub fn lowest_valid(&self) -> u64 {
        self.grant.lowest_valid
    }

    /// The ticket that became this hold.
    #[must_use]
    pub fn ticket(&self) -> u64 {
        self.grant.ticket
    }

    /// Length of the lease.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.grant.ttl
    }

    /// Claims on the hold, 1 unless re-entered.
    #[must_use]
    pub fn hold_count(&self) -> u32 {
        self.grant.hold_count
    }

    /// Time spent in the queue.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.grant.waited
    }

    /// How the work under the hold before this one ended.
    #[must_use]
    pub fn previous_outcome(&self) -> &Outcome {
        &self.grant.previous_outcome
    }

    /// Whether the lock is held for certain at this moment. Answers locally: true only while an answered renewal,
    /// counted from when it was sent and less 2 %, covers the present, and the connection that the policy needs lives.
    /// Right after a grant it may be false until the first renewal is answered.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.valid_for().is_zero()
    }

    /// For how long the lock is held for certain, if nothing more is heard of the server; zero where it is not.
    #[must_use]
    pub fn valid_for(&self) -> Duration {
        let view = self.hold.view.read();
        if view.cut_off || view.unlocked || self.is_closed() {
            return Duration::ZERO;
        }
        self.left(&view)
    }

    /// What is left of the last promise, even while the connection is lost and nothing is certain: what to plan by.
    #[must_use]
    pub fn promised_for(&self) -> Duration {
        self.left(&self.hold.view.read())
    }

    fn left(&self, view: &View) -> Duration {
        match view.promised_until {
            Some(until) if view.lost.is_none() => until.saturating_sub(self.hold.inner.clock.now()),
            _ => Duration::ZERO,
        }
    }

    /// What is known of the lock.
    #[must_use]
    pub fn state(&self) -> State {
        let view = self.hold.view.read();
        match &view.lost {
            Some(LostReason::Closed) => State::Closed,
            Some(LostReason::Unconfirmed) => State::Unknown,
            Some(_) => State::Unlocked,
            None if view.unlocked => State::Unlocked,
            None if self.is_closed() => State::Closed,
            None if !view.cut_off && !self.left(&view).is_zero() => State::Locked,
            None => State::Unknown,
        }
    }

    fn is_closed(&self) -> bool {
        match &self.hold.end {
            End::Plain(commands) => commands.is_closed(),
            // Its end, of whatever kind, is in the view.
            End::Session { .. } => false,
        }
    }

    /// Waits for the first answered renewal, from which on [`is_held`](Self::is_held) can be true: a grant that had to
    /// wait promises nothing by time yet.
    ///
    /// # Errors
    /// Why the lock was lost before that.
    pub async fn confirmed(&self) -> Result<(), LostReason> {
        let seen = self.hold.view.wait_for(|it| it.lost.is_some() || it.confirmed).await;
        seen.map_or(Err(LostReason::Closed), |it| it.lost.clone().map_or(Ok(()), Err))
    }

    /// Waits until the lock is lost, and tells why. It does not borrow the guard, and never ends if the lock is given
    /// back in good order.
    pub fn lost(&self) -> impl Future<Output = LostReason> + Send + 'static {
        let view = self.hold.view.clone();
        async move {
            match view.wait_for(|it| it.lost.is_some() || it.unlocked).await {
                Ok(View { lost: Some(reason), .. }) => reason,
                Ok(_) => std::future::pending().await,
                // The driver is gone without a word: so is its runtime.
                Err(_) => LostReason::Closed,
            }
        }
    }

    /// Waits until the lock is lost, or the server says that it is not held any more: why may be told a little later.
    pub(crate) fn gone(&self) -> impl Future<Output = ()> + Send + 'static {
        let view = self.hold.view.clone();
        async move {
            let gone = |it: &View| it.lost.is_some() || it.unlocked || it.promised_until == Some(Duration::ZERO);
            // An error means that the driver is gone without a word.
            let _ = view.wait_for(gone).await;
        }
    }

    /// What happens to the lock while it is held. It does not borrow the guard; what comes faster than it is read is told
    /// as it stands last.
    #[must_use]
    pub fn events(&self) -> GuardEvents {
        GuardEvents {
            view: self.hold.view.clone(),
            suspended: false,
            waiters: 0,
            ended: false,
        }
    }

    /// Gives the lock back, and hands `outcome` to the next holder. Told that the lock had been lost before, what was
    /// done under it may have overlapped with somebody else's work.
    ///
    /// # Errors
    /// Where no answer came in time: the lock's state is unknown then, and its lease ends it.
    pub async fn unlock(self, outcome: Outcome) -> Result<Unlocked, Error> {
        if let Some(reason) = self.lost_already() {
            return Ok(Unlocked::AlreadyLost(reason));
        }
        let (reply, answer) = oneshot::channel();
        self.hold.give_back(outcome, Some(reply));
        match answer.await {
            Ok(answer) => answer,
            // The driver ended first: it has written down why.
            Err(_) => self.lost_already().map(Unlocked::AlreadyLost).ok_or(Error::Closed),
        }
    }

    fn lost_already(&self) -> Option<LostReason> {
        self.hold.view.read().lost.clone()
    }

    /// Leaves the hold to its lease and ends its renewal here: it can be renewed and unlocked by key, owner and token,
    /// by whoever knows them. Answers the token.
    ///
    /// # Errors
    /// [`Error::Argument`] unless the policy is [`OnDisconnect::Lease`](crate::OnDisconnect::Lease);
    /// [`Error::Closed`] if the hold has ended before.
    pub async fn detach(mut self) -> Result<u64, Error> {
        if self.hold.ask.on_disconnect != crate::OnDisconnect::Lease {
            return Err(Error::Argument(
                "only a hold with the policy `lease` can be left to its lease".to_owned(),
            ));
        }
        match &self.hold.end {
            End::Plain(commands) => {
                let (reply, done) = oneshot::channel();
                let _ = commands.send(Command::Detach { reply });
                done.await.map_err(|_| Error::Closed)?;
            }
            End::Session { hub, id } if hub.forget(*id) => {}
            End::Session { .. } => return Err(Error::Closed),
        }
        // Order: dropped before this, it is given back.
        self.hold.detached = true;
        Ok(self.grant.fencing_token)
    }
}

/// What can happen to a lock that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GuardEvent {
    /// The way to the server is cut; the lock is held for [`Guard::valid_for`], and the client comes back by itself.
    Suspended,
    /// The client came back, and the lock is held still.
    Resumed,
    /// So many wait for it; told where [`LockBuilder::tell_contention`](crate::LockBuilder::tell_contention) asked so.
    Contended {
        /// How many.
        waiters: u64,
    },
    /// The lock is lost. Nothing follows.
    Lost(LostReason),
}

/// The events of a guard, from [`Guard::events`].
#[derive(Debug)]
pub struct GuardEvents {
    view: Reader,
    suspended: bool,
    waiters: u64,
    ended: bool,
}

impl GuardEvents {
    /// The next event; `None` when the lock has been given back, or after it was lost. Cancel-safe.
    pub async fn next(&mut self) -> Option<GuardEvent> {
        loop {
            if self.ended {
                return None;
            }
            if let Some(event) = self.news() {
                return Some(event);
            }
            let closed = self.view.changed().await.is_err();
            if closed && self.view.read().lost.is_none() {
                self.ended = true;
            }
        }
    }

    fn news(&mut self) -> Option<GuardEvent> {
        let view = self.view.read();
        if let Some(reason) = &view.lost {
            self.ended = true;
            return Some(GuardEvent::Lost(reason.clone()));
        }
        self.ended = view.unlocked;
        if view.suspended != self.suspended {
            self.suspended = view.suspended;
            return Some(if self.suspended {
                GuardEvent::Suspended
            } else {
                GuardEvent::Resumed
            });
        }
        if view.waiters != self.waiters {
            self.waiters = view.waiters;
            let waiters = self.waiters;
            return Some(GuardEvent::Contended { waiters });
        }
        None
    }
}
