//! What waits to be read by the owner of one lock stream.
//!
//! A lock on a session has one like any other, but for the events themselves: they go to the session's [`Inbox`].
//! A shard puts events in while it is locked and never waits; the stream's task takes them out at its own pace. It
//! knows nothing of shards and stores.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ticketlock_core::command::LockRequest;
use ticketlock_core::output::Event;
use ticketlock_core::shard::Reattach;
use ticketlock_core::types::{DetachCause, EventOptions, Number, Stream, Terms};

use smallvec::SmallVec;

use super::error::ServiceError;
use super::inbox::{Answer, Inbox, News, Place};
use crate::sync::Mutex;

/// What a lock stream yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockItem {
    /// An event of a ticket.
    Event {
        /// Which ticket.
        ticket: Number,
        /// What.
        event: Event,
    },
    /// The server is about to stop.
    Draining {
        /// Until this stream ends.
        left: Duration,
    },
}

/// The unread events of one stream, and what is needed to re-attach or detach it.
pub(super) struct Outbox {
    /// The stream as its claim knows it.
    pub(super) stream: Stream,
    /// Of the key.
    pub(super) shard: u32,
    /// What it asked for.
    pub(super) terms: Arc<Terms>,
    /// Its optional events.
    events: EventOptions,
    /// What changes.
    content: Mutex<Content>,
}

/// Who reads its events.
pub(super) enum Reader {
    /// The stream itself.
    Own(Box<Unread>),
    /// A session, which knows it by the number of a call.
    Session {
        /// All its news.
        inbox: Arc<Inbox>,
        /// Of this lock.
        call: u64,
        /// Where the latest one stands.
        latest: Place,
    },
}

/// What waits for a reader of its own.
#[derive(Default)]
pub(super) struct Unread {
    /// Bound: one of each kind per ticket, and one `Draining`.
    items: SmallVec<[LockItem; 1]>,
    /// Whom to wake when there is something to read.
    reader: Option<Waker>,
}

impl Unread {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Reader {
    /// The lock stream itself.
    pub(super) fn own() -> Self {
        Self::Own(Box::default())
    }

    /// A session.
    pub(super) fn session(inbox: &Arc<Inbox>, call: u64) -> Self {
        Self::Session {
            inbox: Arc::clone(inbox),
            call,
            latest: Place::default(),
        }
    }

    /// An event leaves; whether the session has one unread event too many since.
    fn push(&mut self, ticket: Number, event: Event) -> bool {
        match self {
            Self::Own(unread) => {
                let stale = unread.items.iter().position(|item| is_update_of(item, ticket, &event));
                if let Some(index) = stale {
                    unread.items.remove(index);
                }
                unread.items.push(LockItem::Event { ticket, event });
                unread.wake();
                false
            }
            Self::Session { inbox, call, latest } => {
                let as_of = inbox.as_of();
                let call = *call;
                let news = News {
                    call,
                    ticket,
                    event,
                    as_of,
                };
                inbox.push(news, latest)
            }
        }
    }

    /// Nothing follows but this error.
    fn fail(&mut self, error: &ServiceError) {
        match self {
            Self::Own(unread) => unread.wake(),
            Self::Session { inbox, call, .. } => inbox.answer(*call, Answer::Ended(error.clone())),
        }
    }
}

/// What changes in an outbox.
struct Content {
    /// Who reads its events.
    reader: Reader,
    /// The ticket that it follows, known once the rules answered, committed or not.
    ticket: Option<Number>,
    /// The answer to its `Lock` was committed and told: it has a claim to be re-attached.
    confirmed: bool,
    /// What was told last says that it holds, under this token, with this lease.
    holds: Option<(Number, Duration)>,
    /// Its last event has left the shard: there is nothing to detach any more.
    complete: bool,
    /// The service ends it with this error once its events are read.
    failure: Option<Box<ServiceError>>,
    /// The server ended it because it stops: the ticket is not detached, so that the store keeps it for whoever takes
    /// the shard next (T4).
    stopped: bool,
    /// Its end is to be told to the rules, or was told and is not committed yet: a shard that begins anew meanwhile
    /// tells them again.
    detached: Option<DetachCause>,
}

impl Outbox {
    /// Empty.
    pub(super) fn new(stream: Stream, shard: u32, request: &LockRequest, reader: Reader) -> Self {
        let content = Content {
            reader,
            ticket: None,
            confirmed: false,
            holds: None,
            complete: false,
            failure: None,
            stopped: false,
            detached: None,
        };
        Self {
            stream,
            shard,
            terms: Arc::clone(&request.terms),
            events: request.events,
            content: Mutex::new(content),
        }
    }

    /// An event leaves the shard. Unread ones of the same kind for the same ticket are out of date and go. Whether its
    /// session has one unread event too many since.
    pub(super) fn push(&self, ticket: Number, event: Event) -> bool {
        let mut content = self.content.lock();
        if content.complete || content.failure.is_some() {
            return false;
        }
        content.complete = is_last(&event);
        content.holds = match &event {
            Event::Granted(granted) => Some((granted.token, granted.ttl)),
            Event::Queued(_) => None,
            _ => content.holds,
        };
        content.reader.push(ticket, event)
    }

    /// The session it belongs to.
    pub(super) fn inbox(&self) -> Option<Arc<Inbox>> {
        match &self.content.lock().reader {
            Reader::Own(_) => None,
            Reader::Session { inbox, .. } => Some(Arc::clone(inbox)),
        }
    }

    /// The token that it holds by and the lease that came with it, as far as it was told.
    pub(super) fn hold(&self) -> Option<(Number, Duration)> {
        let content = self.content.lock();
        content.holds.filter(|_| !content.complete && content.failure.is_none())
    }

    /// Its last event was told and there is nothing to detach.
    pub(super) fn is_told(&self) -> bool {
        let content = self.content.lock();
        content.complete && content.failure.is_none()
    }

    /// The rules answered with this ticket; the commit may still be under way.
    pub(super) fn follow(&self, ticket: Number) {
        self.content.lock().ticket = Some(ticket);
    }

    /// The answer to its `Lock` was committed.
    pub(super) fn confirm(&self) {
        self.content.lock().confirmed = true;
    }

    /// Ends it with an error, after what is unread.
    pub(super) fn fail(&self, error: ServiceError) {
        self.content.lock().fail(error);
    }

    /// The server is about to stop. A stream that waits ends after this item; one that holds has time left to unlock.
    /// `keep`: the store keeps its ticket however it ends.
    pub(super) fn drain(&self, left: Duration, keep: bool) {
        let mut content = self.content.lock();
        if content.complete || content.failure.is_some() {
            return;
        }
        // A session is told once for all its locks.
        if let Reader::Own(unread) = &mut content.reader {
            unread.items.push(LockItem::Draining { left });
            unread.wake();
        }
        // From here on its end is the server's doing, whoever closes first.
        content.stopped |= keep;
        if content.holds.is_none() {
            content.stopped = true;
            content.fail(ServiceError::Draining);
        }
    }

    /// The server stops now.
    pub(super) fn stop(&self) {
        let mut content = self.content.lock();
        content.stopped = true;
        content.fail(ServiceError::Draining);
    }

    /// The next item, or the end.
    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<Option<Result<LockItem, ServiceError>>> {
        let mut guard = self.content.lock();
        let content = &mut *guard;
        let Reader::Own(unread) = &mut content.reader else {
            return Poll::Ready(None);
        };
        if !unread.items.is_empty() {
            return Poll::Ready(Some(Ok(unread.items.remove(0))));
        }
        if content.complete {
            return Poll::Ready(None);
        }
        if let Some(error) = content.failure.clone() {
            content.complete = true;
            return Poll::Ready(Some(Err(*error)));
        }
        unread.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// What to tell a shard that was made anew; `None` where nothing goes on.
    pub(super) fn reattach(&self) -> Option<Reattach> {
        let content = self.content.lock();
        let ended = content.detached.is_some() || content.complete || content.failure.is_some();
        let goes_on = content.confirmed && !ended;
        content
            .ticket
            .filter(|_| goes_on)
            .map(|ticket| self.reattach_to(ticket))
    }

    /// What [`Outbox::reattach`] says, for a given ticket, whatever has become of the stream.
    pub(super) fn reattach_to(&self, ticket: Number) -> Reattach {
        Reattach {
            ticket,
            request_id: self.terms.request_id,
            stream: self.stream,
            events: self.events,
        }
    }

    /// Its owner has gone: the ticket to detach and how. `None` where its last event was told, the server stops, or it
    /// is detached already.
    pub(super) fn detach(&self, probe: impl FnOnce() -> DetachCause) -> Option<(Number, DetachCause)> {
        let mut content = self.content.lock();
        // A stream that the service failed still has its ticket to detach: `complete` is set by reading the error.
        let told = content.complete && content.failure.is_none();
        if told || content.stopped || content.detached.is_some() {
            return None;
        }
        let ticket = content.ticket?;
        let cause = probe();
        content.detached = Some(cause);
        Some((ticket, cause))
    }

    /// The shard begins anew: an end that the rules have not heard of, as far as the store knows. A request that
    /// nobody can repeat and whose commit failed goes too, since nobody will ever come for what the store may have.
    pub(super) fn unheard_end(&self) -> Option<(Number, DetachCause)> {
        let mut content = self.content.lock();
        let ticket = content.ticket?;
        if !content.confirmed && self.terms.request_id.is_none() && content.detached.is_none() {
            content.detached = Some(DetachCause::Ended);
        }
        content.detached.map(|cause| (ticket, cause))
    }

    /// The request can be repeated by its name.
    pub(super) fn is_named(&self) -> bool {
        self.terms.request_id.is_some()
    }
}

impl Content {
    /// The first error counts, and nothing follows it.
    fn fail(&mut self, error: ServiceError) {
        if !self.complete && self.failure.is_none() {
            self.reader.fail(&error);
            self.failure = Some(Box::new(error));
        }
    }
}

/// Nothing follows this event on its stream.
pub(super) fn is_last(event: &Event) -> bool {
    matches!(
        event,
        Event::Lost { .. } | Event::Refused { .. } | Event::Unlocked | Event::Superseded
    )
}

/// `event` says anew what `item` said of the same ticket.
fn is_update_of(item: &LockItem, of: Number, event: &Event) -> bool {
    match item {
        LockItem::Event { ticket, event: old, .. } => {
            *ticket == of && std::mem::discriminant(old) == std::mem::discriminant(event)
        }
        LockItem::Draining { .. } => false,
    }
}
