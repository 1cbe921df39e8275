//! `Session`: reads batches of calls, hands them to the service, and puts all news into one message.
//!
//! There is no task of its own: whoever asks for the next message reads what has come in first, so that a wake-up
//! carries out everything that is ready and answers it with one write. A client that does not read is not read from.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use ticketlock_core::command::Refusal;
use ticketlock_core::output::Event;
use ticketlock_core::types::{Mode, Number, RefusedReason};
use ticketlock_proto::v1;
use ticketlock_proto::v1::session_call::Call;
use ticketlock_proto::v1::session_event::Event as Wire;
use tonic::{Status, Streaming};

use super::convert;
use super::lock::{self, CHUNK_WAITERS, REPLY_FRAME};
use super::news::{self, Outgoing};
use super::status::{ErrorReason, Failure};
use super::streams::Seat;
use crate::config::Limits;
use crate::service::{Answer, Service, ServiceError, Session, SessionItem};
use crate::telemetry::{Renewal, Telemetry};

/// Calls carried out in one go, before other sessions get their turn.
const CALLS_AT_ONCE: usize = 1_000;
/// What one message gathers, about: more goes into the next, so that buffers stay small. An answer may be longer.
const GATHERED_BYTES: usize = 64 * 1024;
/// News for which memory is kept from one message to the next.
const GATHERED_KEPT: usize = 64;

/// One session, as a stream of messages.
pub struct SessionEvents {
    requests: Streaming<v1::SessionRequest>,
    session: Session,
    service: Service,
    telemetry: Arc<Telemetry>,
    /// Known after `Hello`.
    hello: Option<Hello>,
    /// The number of the last message that was received.
    received: u64,
    outgoing: Outgoing,
    /// Kept for its memory.
    gathered: Vec<(u64, SessionItem)>,
    /// Its place on the connection.
    _seat: Seat,
    /// How it stands.
    state: State,
}

/// Who speaks.
struct Hello {
    owner: Arc<str>,
    attach: u64,
}

/// How a session stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Both sides speak.
    Open,
    /// The client has nothing more to say: its locks have ended, what is unread is still told.
    Closed,
    /// The last message has left.
    Ended,
}

impl SessionEvents {
    /// Begins when the client says `Hello`.
    #[must_use]
    pub fn new(
        requests: Streaming<v1::SessionRequest>,
        session: Session,
        service: Service,
        telemetry: Arc<Telemetry>,
        seat: Seat,
    ) -> Self {
        let bytes_max = service.config().limits.reply_bytes_max.saturating_sub(REPLY_FRAME);
        let bytes_max = bytes_max.min(GATHERED_BYTES);
        Self {
            requests,
            session,
            service,
            telemetry,
            hello: None,
            received: 0,
            outgoing: Outgoing::new(bytes_max),
            gathered: Vec::new(),
            _seat: seat,
            state: State::Open,
        }
    }

    fn limits(&self) -> &Limits {
        &self.service.config().limits
    }

    /// Reads what has come in, a bounded part of it. `Err` ends the session.
    fn read(&mut self, context: &mut Context<'_>) -> Result<(), Failure> {
        let mut calls = 0;
        while self.state == State::Open && self.outgoing.has_room() {
            if calls >= CALLS_AT_ONCE {
                context.waker().wake_by_ref();
                return Ok(());
            }
            match Pin::new(&mut self.requests).poll_next(context) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Some(Ok(message))) => {
                    calls += message.calls.len().max(1);
                    self.receive(message)?;
                }
                Poll::Ready(Some(Err(status))) => {
                    let reason = match status.code() {
                        tonic::Code::ResourceExhausted | tonic::Code::OutOfRange => ErrorReason::MessageTooLarge,
                        _ => ErrorReason::MalformedRequest,
                    };
                    return Err(Failure::new(reason, status.message()));
                }
                Poll::Ready(None) => self.state = State::Closed,
            }
        }
        Ok(())
    }

    fn receive(&mut self, message: v1::SessionRequest) -> Result<(), Failure> {
        let invalid = |field, problem: String| Err(Failure::field(ErrorReason::InvalidSession, field, problem));
        if message.number != self.received + 1 {
            let problem = format!("{}, expected {}", message.number, self.received + 1);
            return invalid("number", problem);
        }
        self.received = message.number;
        self.session.received(message.number);
        match (message.hello, &self.hello) {
            (Some(hello), None) => self.welcome(&hello)?,
            (None, Some(_)) => {}
            (Some(_), Some(_)) => return invalid("hello", "said before".to_owned()),
            (None, None) => return invalid("hello", "missing in the first message".to_owned()),
        }
        let calls_max = self.limits().page_max;
        if message.calls.len() > calls_max {
            let problem = format!("{} calls, the limit is {calls_max} in a message", message.calls.len());
            return invalid("calls", problem);
        }
        // Order: a heartbeat is for what was held before the calls beside it.
        if message.heartbeat
            && let Some(hello) = &self.hello
        {
            self.session.heartbeat(&hello.owner);
        }
        for call in message.calls {
            if call.id == 0 || self.session.has(call.id) {
                return invalid(
                    "calls.id",
                    format!("{}: 0, or the name of a lock that is there", call.id),
                );
            }
            if let Err(failure) = self.carry_out(call.id, call.call) {
                self.fail(call.id, failure);
            }
        }
        Ok(())
    }

    fn welcome(&mut self, hello: &v1::Hello) -> Result<(), Failure> {
        let limits = &self.service.config().limits;
        let owner = convert::owner(&hello.owner, limits)?;
        self.outgoing.message().welcome = Some(news::welcome(&self.service, limits));
        let attach = hello.attach;
        self.hello = Some(Hello { owner, attach });
        Ok(())
    }

    /// One call; an error is its answer.
    fn carry_out(&mut self, id: u64, call: Option<Call>) -> Result<(), Failure> {
        let limits = &self.service.config().limits;
        let Some(hello) = &self.hello else {
            return Err(Failure::new(ErrorReason::Bug, "a call before Hello"));
        };
        match call {
            Some(Call::Lock(request)) => {
                let mut request = convert::lock_request_of(session_owner(hello, &request.owner)?, request, limits)?;
                request.attach_number = hello.attach;
                check_room(&self.session, limits)?;
                self.session.lock(id, request);
            }
            Some(Call::Unlock(request)) => {
                let owner = session_owner(hello, &request.owner)?;
                self.session
                    .unlock(id, convert::unlock_request_of(owner, request, limits)?);
            }
            Some(Call::Renew(item)) => match convert::renew_item(&hello.owner, &item, limits)? {
                convert::RenewItem::Checked(renew) => self.session.renew(id, renew),
                convert::RenewItem::InvalidTtl => {
                    self.telemetry.renewed(Renewal::InvalidTtl);
                    let status = v1::RenewStatus::InvalidTtl.into();
                    self.outgoing
                        .event(id, 0, Wire::Renew(v1::RenewResult { status, ttl: None }));
                }
            },
            Some(Call::Get(request)) => {
                let key = convert::key(&request.key, limits)?;
                let waiters = convert::page("waiters_limit", request.waiters_limit, limits.page_default, limits)?;
                self.session.get(id, &key, waiters);
            }
            Some(Call::List(request)) => {
                let prefix = convert::prefix(&request.prefix, limits)?;
                let page = convert::page("page_size", request.page_size, limits.page_default, limits)?;
                let waiters = convert::page("waiters_limit", request.waiters_limit, lock::WAITERS_DEFAULT, limits)?;
                let after = convert::page_token(&request.page_token, limits)?;
                // Bound: what one answer gathers; a page may be shorter than asked for.
                let page = page.min((CHUNK_WAITERS / waiters.max(1)).max(1));
                self.session.list(id, prefix, after.map(Arc::from), page, waiters);
            }
            None => {
                let problem = "missing, or newer than this server";
                return Err(Failure::field(ErrorReason::InvalidSession, "calls.call", problem));
            }
        }
        Ok(())
    }

    fn fail(&mut self, id: u64, failure: Failure) {
        self.telemetry.count_failure(failure.reason);
        self.outgoing.event(id, 0, Wire::Error(news::error(failure)));
    }

    /// Puts all news into the outgoing message. `Err` ends the session.
    fn gather(&mut self, context: &Context<'_>) -> Result<(), Failure> {
        let mut gathered = std::mem::take(&mut self.gathered);
        let polled = self.session.poll_news(context, |id, item| gathered.push((id, item)));
        for (id, item) in gathered.drain(..) {
            match item {
                SessionItem::Lock {
                    shard,
                    mode,
                    ticket,
                    event,
                    as_of,
                } => self.tell(id, shard, mode, ticket, event, as_of),
                SessionItem::Answer(answer) => self.answer(id, answer),
            }
        }
        gathered.shrink_to(GATHERED_KEPT);
        self.gathered = gathered;
        match polled {
            Poll::Ready(Err(error)) => Err(error.into()),
            _ if self.session.is_done() && self.outgoing.is_empty() => Err(ServiceError::Draining.into()),
            _ => Ok(()),
        }
    }

    fn tell(&mut self, id: u64, shard: u32, mode: Mode, ticket: Number, event: Event, as_of: u64) {
        match &event {
            Event::Granted(_) => self.telemetry.grant_left(shard, ticket),
            Event::Refused {
                reason: reason @ (RefusedReason::WouldWait | RefusedReason::NotHeld),
                ..
            } => self.telemetry.refused(mode, *reason),
            _ => {}
        }
        match news::lock_event(ticket, event) {
            Some(event) => self.outgoing.event(id, as_of, event),
            None => self.fail(id, ServiceError::Refused(Refusal::Superseded).into()),
        }
    }

    fn answer(&mut self, id: u64, answer: Answer) {
        let told = match answer {
            Answer::Refused(error) | Answer::Ended(error) => Err(error.into()),
            Answer::Unlock(result) => result.map_err(Failure::from).map(|reply| {
                self.telemetry.unlocked(&reply);
                (0, Wire::Unlock(super::view::unlock_response(&reply)))
            }),
            Answer::Renew(as_of, result) => result.map_err(Failure::from).map(|left| {
                self.telemetry.renewed(Renewal::of(left.is_some()));
                (as_of, Wire::Renew(super::view::renew_result(left)))
            }),
            Answer::Get(result) => {
                let owner = self.hello.as_ref().map(|hello| &*hello.owner);
                let limits = &self.service.config().limits;
                let show = |view: Box<_>| (0, Wire::Get(lock::get_response(*view, owner, limits)));
                result.map_err(Failure::from).map(show)
            }
            Answer::List(wanted, result) => {
                let bytes_max = self.limits().reply_bytes_max.saturating_sub(2 * REPLY_FRAME);
                let page = |views| (0, Wire::List(news::page(views, wanted, bytes_max)));
                result.map_err(Failure::from).map(page)
            }
            Answer::Heartbeat(beaten) => return self.outgoing.beaten(beaten),
            Answer::Draining(left) => return self.outgoing.draining(left),
        };
        match told {
            Ok((as_of, event)) => self.outgoing.event(id, as_of, event),
            Err(failure) => self.fail(id, failure),
        }
    }

    /// The session ends with a status.
    fn end(&mut self, failure: Failure) -> Poll<Option<Result<v1::SessionResponse, Status>>> {
        self.state = State::Ended;
        Poll::Ready(Some(Err(self.telemetry.failed(failure))))
    }
}

impl Stream for SessionEvents {
    type Item = Result<v1::SessionResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.state == State::Ended {
            return Poll::Ready(None);
        }
        if let Err(failure) = this.read(context) {
            return this.end(failure);
        }
        let gathered = this.gather(context);
        if let Some(message) = this.outgoing.take(this.received) {
            if !this.outgoing.is_empty() {
                context.waker().wake_by_ref();
            }
            return Poll::Ready(Some(Ok(message)));
        }
        if let Err(failure) = gathered {
            return this.end(failure);
        }
        if this.state == State::Closed {
            this.state = State::Ended;
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

/// The owner of a call is the session's; who repeats it must say the same.
fn session_owner(hello: &Hello, said: &str) -> Result<Arc<str>, Failure> {
    if said.is_empty() || *said == *hello.owner {
        return Ok(Arc::clone(&hello.owner));
    }
    let problem = "another than in Hello; leave it out";
    Err(Failure::field(ErrorReason::InvalidOwner, "owner", problem))
}

/// Bound: locks and waiters of one session.
fn check_room(session: &Session, limits: &Limits) -> Result<(), Failure> {
    let (held, waiting) = (session.holding(), session.waiting());
    for (reason, count, limit, what) in [
        (
            ErrorReason::TooManyLocks,
            held,
            limits.locks_per_connection_max,
            "locks",
        ),
        (
            ErrorReason::TooManyWaiters,
            waiting,
            limits.waiters_per_connection_max,
            "waiters",
        ),
    ] {
        if count >= usize::try_from(limit).unwrap_or(usize::MAX) {
            let text = format!("the limit of {limit} {what} on one session is reached");
            return Err(Failure::new(reason, text).with("limit", limit));
        }
    }
    Ok(())
}
