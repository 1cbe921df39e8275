//! What a session is told, as messages: events and answers are gathered until they are sent, within the size of a reply.

use std::collections::VecDeque;
use std::time::Duration;

use prost::Message as _;
use ticketlock_core::output::{Event, KeyView};
use ticketlock_core::types::Number;
use ticketlock_proto::v1;
use ticketlock_proto::v1::session_event::Event as Wire;

use super::convert;
use super::status::Failure;
use super::view;
use crate::config::Limits;
use crate::service::{Beaten, Service};

/// A heartbeat is expected at least so often, whatever is held.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// What an event of a lock takes at most on the wire, about: for counting without encoding.
const EVENT_BYTES: usize = 160;

/// The message that is being filled, and what does not fit into it.
pub struct Outgoing {
    message: v1::SessionResponse,
    /// About the size of `message`.
    bytes: usize,
    /// For later messages, with their sizes.
    rest: VecDeque<(usize, v1::SessionEvent)>,
    /// Bound: bytes of one message.
    bytes_max: usize,
    /// For the message with the last of `rest`: what was told before a heartbeat is read before its answer.
    beaten: Option<v1::HeartbeatDone>,
    /// The number of the last message that was sent.
    sent: u64,
    /// Something other than an event is in `message`.
    frames: bool,
}

impl Outgoing {
    /// Nothing to send.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            message: v1::SessionResponse::default(),
            bytes: 0,
            rest: VecDeque::new(),
            bytes_max,
            beaten: None,
            sent: 0,
            frames: false,
        }
    }

    /// Nothing waits to be sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.frames && self.message.events.is_empty()
    }

    /// More may be asked for: the answers so far fit into one message.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.rest.is_empty()
    }

    /// For what is not an event.
    pub fn message(&mut self) -> &mut v1::SessionResponse {
        self.frames = true;
        &mut self.message
    }

    /// The server is about to stop.
    pub fn draining(&mut self, left: Duration) {
        let time_left = view::span(left);
        self.message().server_draining = Some(v1::ServerDraining { time_left });
    }

    /// What came of a heartbeat; of two, the later.
    pub fn beaten(&mut self, beaten: Beaten) {
        let shorter = beaten.shorter.into_iter().map(|(id, left)| v1::ShorterLease {
            id,
            lease_left: view::span(left),
        });
        let done = v1::HeartbeatDone {
            as_of: beaten.as_of,
            not_renewed: beaten.not_renewed,
            shorter: shorter.collect(),
        };
        if self.rest.is_empty() {
            self.message().heartbeat = Some(done);
        } else {
            self.beaten = Some(done);
        }
    }

    /// An event of a call.
    pub fn event(&mut self, id: u64, as_of: u64, event: Wire) {
        let event = Some(event);
        let event = v1::SessionEvent { id, as_of, event };
        let bytes = match &event.event {
            // Those that hold texts of others' are measured.
            Some(Wire::Get(_) | Wire::List(_) | Wire::Refused(_) | Wire::Error(_)) => event.encoded_len() + 8,
            Some(Wire::Granted(granted)) => {
                let note = granted
                    .previous_outcome
                    .as_ref()
                    .map_or(0, |outcome| outcome.note.len());
                EVENT_BYTES + note
            }
            _ => EVENT_BYTES,
        };
        if !self.rest.is_empty() || (self.bytes + bytes > self.bytes_max && !self.message.events.is_empty()) {
            self.rest.push_back((bytes, event));
        } else {
            self.bytes += bytes;
            self.message.events.push(event);
        }
    }

    /// The message to send, if there is anything in it; the next one begins with what did not fit.
    pub fn take(&mut self, seen: u64) -> Option<v1::SessionResponse> {
        if self.is_empty() {
            return None;
        }
        self.sent += 1;
        let mut message = std::mem::take(&mut self.message);
        message.number = self.sent;
        message.seen = seen;
        (self.bytes, self.frames) = (0, false);
        while let Some((bytes, event)) = self.rest.pop_front() {
            if self.bytes + bytes > self.bytes_max && !self.message.events.is_empty() {
                self.rest.push_front((bytes, event));
                break;
            }
            self.bytes += bytes;
            self.message.events.push(event);
        }
        if self.rest.is_empty() {
            if let Some(done) = self.beaten.take() {
                self.message().heartbeat = Some(done);
            }
            // What was needed for a burst is given back.
            self.rest = VecDeque::new();
        }
        Some(message)
    }
}

/// What the server says first.
#[must_use]
pub fn welcome(service: &Service, limits: &Limits) -> v1::Welcome {
    v1::Welcome {
        store_id: service.store_id().to_vec(),
        boot_id: service.boot_id().to_vec(),
        heartbeat: view::span(HEARTBEAT),
        ack_timeout: view::span(service.config().core.ack_timeout),
        locks_max: limits.locks_per_connection_max,
        waiters_max: limits.waiters_per_connection_max,
        calls_max: u32::try_from(limits.page_max).unwrap_or(u32::MAX),
    }
}

/// What happened to a lock; `None`: a later session has it now.
#[must_use]
pub fn lock_event(ticket: Number, event: Event) -> Option<Wire> {
    Some(match event {
        Event::Queued(place) => Wire::Queued(view::queued(ticket, &place)),
        Event::Granted(grant) => Wire::Granted(view::granted(grant)),
        Event::Contended { waiters } => Wire::Contended(v1::Contended { waiters }),
        Event::Expiring { left } => Wire::Expiring(v1::Expiring { left: view::span(left) }),
        Event::Lost { token, reason } => Wire::Lost(view::lost(token, &reason)),
        Event::Refused { reason, obstacle } => Wire::Refused(view::refused(reason, obstacle)),
        Event::Unlocked => Wire::Unlocked(v1::Unlocked {}),
        Event::Superseded => return None,
    })
}

/// A failure in band.
#[must_use]
pub fn error(failure: Failure) -> v1::SessionError {
    let metadata = failure
        .metadata
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    v1::SessionError {
        code: failure.reason.code().into(),
        reason: failure.reason.name().to_owned(),
        message: failure.message,
        metadata: metadata.collect(),
        retry_after: failure.reason.retry_after().and_then(view::span),
    }
}

/// A page of at most `wanted` keys and `bytes_max` bytes, made of one key more where there is a next page.
#[must_use]
pub fn page(views: Vec<KeyView>, wanted: usize, bytes_max: usize) -> v1::ListLocksResponse {
    let mut page = v1::ListLocksResponse::default();
    let mut bytes = 0;
    for state in views {
        let info = view::lock_info(state, bytes_max);
        bytes += info.encoded_len() + 8;
        if page.locks.len() == wanted || (bytes > bytes_max && !page.locks.is_empty()) {
            let last = page.locks.last().map(|info| convert::to_page_token(&info.key));
            page.next_page_token = last.unwrap_or_default();
            break;
        }
        page.locks.push(info);
    }
    page
}
