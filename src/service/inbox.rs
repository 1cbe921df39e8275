//! What a session has to read: the news of its locks, and the answers to its calls.
//!
//! Shards report here while they are locked, and never wait. One wake-up for all: the session's owner then takes
//! everything at once.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ticketlock_core::command::UnlockReply;
use ticketlock_core::output::{Event, KeyView};
use ticketlock_core::planted::{Bug, planted};
use ticketlock_core::types::Number;

use super::error::ServiceError;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// The answer to a call on a session.
#[derive(Debug)]
pub enum Answer {
    /// A `lock` was refused: there is no ticket.
    Refused(ServiceError),
    /// The service ends a lock.
    Ended(ServiceError),
    /// An unlock.
    Unlock(Result<UnlockReply, ServiceError>),
    /// A renewal, with the client's message that it counts from: the lease left, or `None` where it is not held.
    Renew(u64, Result<Option<Duration>, ServiceError>),
    /// A read of one key.
    Get(Result<Box<KeyView>, ServiceError>),
    /// A read of a page of so many keys; one more says that there is a next page.
    List(usize, Result<Vec<KeyView>, ServiceError>),
    /// A heartbeat.
    Heartbeat(Beaten),
    /// The server is about to stop.
    Draining(Duration),
}

/// What came of a heartbeat.
#[derive(Debug, Default)]
pub struct Beaten {
    /// Its message.
    pub as_of: u64,
    /// The locks that could not be renewed, by their calls.
    pub not_renewed: Vec<u64>,
    /// Those whose lease is shorter than they were told with their grant, and what is left of it.
    pub shorter: Vec<(u64, Duration)>,
}

/// An event of a lock on a session.
#[derive(Debug)]
pub struct News {
    /// The call that took the lock.
    pub call: u64,
    /// Which ticket.
    pub ticket: Number,
    /// What.
    pub event: Event,
    /// The number of the latest message that was received from the client by then (T2).
    pub as_of: u64,
}

/// Where a lock's latest news stands, as long as it is unread.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// After so many takes.
    round: u32,
    /// In the order of news.
    index: u32,
}

/// News of one session.
#[derive(Default)]
pub(super) struct Inbox {
    /// The number of the latest message that was received.
    as_of: AtomicU64,
    /// Bound: unread news of locks.
    events_max: usize,
    /// What changes.
    unread: Mutex<Unread>,
}

/// What was reported and not taken yet.
#[derive(Default)]
pub(super) struct Unread {
    /// News of locks, in the order in which they left the shards.
    pub(super) news: Vec<News>,
    /// How often they were taken.
    round: u32,
    /// Answers by call.
    pub(super) answers: Vec<(u64, Answer)>,
    /// The server has stopped: nothing follows.
    pub(super) stopped: bool,
    /// The client did not read: its locks are let go, and nothing follows.
    pub(super) full: bool,
    /// Whom to wake.
    reader: Option<Waker>,
}

/// News for which memory is kept from one turn to the next.
const KEPT: usize = 64;

impl Unread {
    /// What was needed for a burst is given back.
    pub(super) fn trim(&mut self) {
        self.news.shrink_to(KEPT);
        self.answers.shrink_to(KEPT);
    }

    fn is_empty(&self) -> bool {
        self.news.is_empty() && self.answers.is_empty() && !self.stopped && !self.full
    }

    fn push(&mut self, news: News, latest: &mut Place, max: usize) -> bool {
        let kind = std::mem::discriminant(&news.event);
        let index = usize::try_from(latest.index).unwrap_or(usize::MAX);
        if latest.round == self.round
            && let Some(stale) = self.news.get_mut(index)
            && (stale.call, stale.ticket) == (news.call, news.ticket)
            && std::mem::discriminant(&stale.event) == kind
        {
            *stale = news;
            return false;
        }
        latest.round = self.round;
        latest.index = u32::try_from(self.news.len()).unwrap_or(u32::MAX);
        self.news.push(news);
        let full = self.news.len() > max && !self.full && !planted(Bug::OutboxUnbounded);
        self.full |= full;
        full
    }

    /// One wake-up for all that is reported before it is taken.
    fn wake(&mut self) -> Option<Waker> {
        self.reader.take()
    }
}

/// What one unread event takes at most, about.
const EVENT_BYTES: usize = 256;

impl Inbox {
    /// Nothing to read; so many bytes may stay unread.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            events_max: bytes_max / EVENT_BYTES,
            ..Self::default()
        }
    }

    /// So many bytes may stay unread.
    pub(super) fn bytes_max(&self) -> usize {
        self.events_max * EVENT_BYTES
    }

    /// A lock has news; its `latest`, where that is unread and of the same kind, is out of date and goes. Whether this
    /// is the one too many that stays unread.
    pub(super) fn push(&self, news: News, latest: &mut Place) -> bool {
        self.report(|unread| unread.push(news, latest, self.events_max))
    }

    /// A message of the client's was received.
    pub(super) fn received(&self, number: u64) {
        self.as_of.store(number, Ordering::Release);
    }

    /// The latest message that was received.
    pub(super) fn as_of(&self) -> u64 {
        self.as_of.load(Ordering::Acquire)
    }

    /// A call is answered.
    pub(super) fn answer(&self, call: u64, answer: Answer) {
        self.report(|unread| unread.answers.push((call, answer)));
    }

    /// The server stops now.
    pub(super) fn stop(&self) {
        self.report(|unread| unread.stopped = true);
    }

    fn report<T>(&self, put: impl FnOnce(&mut Unread) -> T) -> T {
        let (said, waker) = {
            let mut unread = self.unread.lock();
            (put(&mut unread), unread.wake())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        said
    }

    /// Moves all that is unread into `taken`, which is empty.
    pub(super) fn poll(&self, context: &Context<'_>, taken: &mut Unread) -> Poll<()> {
        let mut unread = self.unread.lock();
        if unread.is_empty() {
            unread.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        std::mem::swap(&mut unread.news, &mut taken.news);
        unread.round = unread.round.wrapping_add(1);
        std::mem::swap(&mut unread.answers, &mut taken.answers);
        (taken.stopped, taken.full) = (unread.stopped, unread.full);
        Poll::Ready(())
    }
}

/// A heartbeat that several shards answer.
pub(super) struct Beat {
    /// To whom.
    inbox: Arc<Inbox>,
    /// What is known so far.
    beaten: Mutex<Beaten>,
}

impl Beat {
    /// A heartbeat that came with this message. It is answered when its last clone goes.
    pub(super) fn new(inbox: &Arc<Inbox>, as_of: u64) -> Arc<Self> {
        let beaten = Beaten {
            as_of,
            ..Beaten::default()
        };
        Arc::new(Self {
            inbox: Arc::clone(inbox),
            beaten: Mutex::new(beaten),
        })
    }

    /// A lock that was told a lease of `told` has this much of it now; `None`: it could not be renewed.
    pub(super) fn renewed(&self, call: u64, told: Duration, left: Option<Duration>) {
        match left {
            None => self.beaten.lock().not_renewed.push(call),
            Some(left) if left < told => self.beaten.lock().shorter.push((call, left)),
            Some(_) => {}
        }
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        let mut beaten = std::mem::take(&mut *self.beaten.lock());
        beaten.not_renewed.sort_unstable();
        beaten.shorter.sort_unstable();
        self.inbox.answer(0, Answer::Heartbeat(beaten));
    }
}
