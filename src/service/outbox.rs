//! What waits to be read by the owner of one lock stream.
//!
//! A lock on a session has one like any other; it reports to the session's [`Inbox`] instead of waking a reader.
//! A shard puts events in while it is locked and never waits; the stream's task takes them out at its own pace. It
//! knows nothing of shards and stores.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ticketlock_core::output::Event;
use ticketlock_core::shard::Reattach;
use ticketlock_core::types::{DetachCause, EventOptions, Number, RequestId, Stream};

use smallvec::SmallVec;

use super::error::ServiceError;
use super::inbox::Inbox;
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
        /// On a session: the number of the latest message that was received from the client by then (T2).
        as_of: u64,
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
    pub(super) key: Arc<str>,
    /// Its request, where that has a name.
    request_id: Option<RequestId>,
    /// Its optional events.
    events: EventOptions,
    /// Where it reports that there is something to read; `None`: it is read by itself.
    home: Option<Home>,
    /// What changes.
    content: Mutex<Content>,
}

/// The session that an outbox belongs to.
pub(super) struct Home {
    /// Told when there is something to read.
    pub(super) inbox: Arc<Inbox>,
    /// Under this name.
    pub(super) call: u64,
}

/// What changes in an outbox.
#[derive(Default)]
struct Content {
    /// Unread. Bound: one of each kind per ticket, and one `Draining`.
    items: SmallVec<[LockItem; 1]>,
    /// Whom to wake when there is something to read.
    reader: Option<Waker>,
    /// The ticket that it follows, known once the rules answered, committed or not.
    ticket: Option<Number>,
    /// The answer to its `Lock` was committed and told: it has a claim to be re-attached.
    confirmed: bool,
    /// What was told last says that it holds, under this token.
    holds: Option<Number>,
    /// Its session knows that there is something to read.
    listed: bool,
    /// Its last event is in `items` or was read: there is nothing to detach any more.
    complete: bool,
    /// The service ends it with this error once `items` are read.
    failure: Option<ServiceError>,
    /// The server ended it because it stops: the ticket is not detached, so that the store keeps it for whoever takes
    /// the shard next (T4).
    stopped: bool,
    /// Its end is to be told to the rules, or was told and is not committed yet: a shard that begins anew meanwhile
    /// tells them again.
    detached: Option<DetachCause>,
}

impl Outbox {
    /// Empty.
    pub(super) fn new(
        stream: Stream,
        shard: u32,
        key: Arc<str>,
        request_id: Option<RequestId>,
        events: EventOptions,
        home: Option<Home>,
    ) -> Self {
        Self {
            stream,
            shard,
            key,
            request_id,
            events,
            home,
            content: Mutex::new(Content::default()),
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
            Event::Granted(granted) => Some(granted.token),
            Event::Queued(_) => None,
            _ => content.holds,
        };
        let stale = content.items.iter().position(|item| is_update_of(item, ticket, &event));
        if let Some(index) = stale {
            content.items.remove(index);
        }
        let full = match &self.home {
            Some(home) if stale.is_none() => home.inbox.add_event(),
            _ => false,
        };
        let as_of = self.home.as_ref().map_or(0, |home| home.inbox.as_of());
        content.items.push(LockItem::Event { ticket, event, as_of });
        self.wake(&mut content);
        full
    }

    /// The session it belongs to.
    pub(super) fn inbox(&self) -> Option<&Arc<Inbox>> {
        self.home.as_ref().map(|home| &home.inbox)
    }

    /// Something can be read.
    fn wake(&self, content: &mut Content) {
        if let Some(home) = &self.home {
            if !std::mem::replace(&mut content.listed, true) {
                home.inbox.ready(home.call);
            }
        } else if let Some(reader) = content.reader.take() {
            reader.wake();
        }
    }

    /// For its session: takes all that is unread, then the error that ends it.
    pub(super) fn take(&self, mut item: impl FnMut(LockItem)) -> Option<ServiceError> {
        let mut content = self.content.lock();
        content.listed = false;
        if let Some(home) = &self.home {
            home.inbox.take_events(content.items.len());
        }
        content.items.drain(..).for_each(&mut item);
        if content.complete {
            return None;
        }
        let failure = content.failure.clone();
        content.complete = failure.is_some();
        failure
    }

    /// The token that it holds by, as far as it was told.
    pub(super) fn token(&self) -> Option<Number> {
        let content = self.content.lock();
        content.holds.filter(|_| !content.complete && content.failure.is_none())
    }

    /// Nothing more will be read of it.
    pub(super) fn is_over(&self) -> bool {
        self.content.lock().complete
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
        let mut content = self.content.lock();
        if !content.complete && content.failure.is_none() {
            content.failure = Some(error);
            self.wake(&mut content);
        }
    }

    /// The server is about to stop. A stream that waits ends after this item; one that holds has time left to unlock.
    pub(super) fn drain(&self, left: Duration) {
        let mut content = self.content.lock();
        if content.complete || content.failure.is_some() {
            return;
        }
        // A session is told once for all its locks.
        if self.home.is_none() {
            content.items.push(LockItem::Draining { left });
        }
        if content.holds.is_none() {
            content.failure = Some(ServiceError::Draining);
            content.stopped = true;
        }
        self.wake(&mut content);
    }

    /// The server stops now.
    pub(super) fn stop(&self) {
        let mut content = self.content.lock();
        content.stopped = true;
        if !content.complete && content.failure.is_none() {
            content.failure = Some(ServiceError::Draining);
            self.wake(&mut content);
        }
    }

    /// The next item, or the end.
    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<Option<Result<LockItem, ServiceError>>> {
        let mut content = self.content.lock();
        if !content.items.is_empty() {
            return Poll::Ready(Some(Ok(content.items.remove(0))));
        }
        if content.complete {
            return Poll::Ready(None);
        }
        if let Some(error) = content.failure.clone() {
            content.complete = true;
            return Poll::Ready(Some(Err(error)));
        }
        content.reader = Some(context.waker().clone());
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
            request_id: self.request_id,
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
        if !content.confirmed && self.request_id.is_none() && content.detached.is_none() {
            content.detached = Some(DetachCause::Ended);
        }
        content.detached.map(|cause| (ticket, cause))
    }

    /// The request can be repeated by its name.
    pub(super) fn is_named(&self) -> bool {
        self.request_id.is_some()
    }
}

/// Nothing follows this event on its stream.
fn is_last(event: &Event) -> bool {
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
