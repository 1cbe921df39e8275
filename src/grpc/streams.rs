//! Long-lived streams: their seats on a connection, and the events of locks and watches on their way out.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use ticketlock_core::output::Event;
use ticketlock_core::types::{Mode, RefusedReason};
use ticketlock_proto::v1;
use tonic::Status;

use super::io::Connection;
use super::status::{ErrorReason, Failure};
use super::view;
use crate::config::Limits;
use crate::service::{LockItem, LockStream, ServiceError, WatchStream};
use crate::telemetry::{Rpc, Telemetry};

/// A long-lived stream's place on its connection; given back when it is dropped.
pub struct Seat {
    /// Which connection.
    connection: Arc<Connection>,
    /// Counts it.
    telemetry: Arc<Telemetry>,
    /// Of which call.
    rpc: Rpc,
    /// What its ticket does.
    standing: Standing,
}

/// What the ticket of a seat does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// There is none: a watch.
    None,
    /// It waits.
    Waiting,
    /// It holds.
    Holding,
}

impl Seat {
    /// For a `WatchLocks`.
    pub fn for_watch(
        connection: &Arc<Connection>,
        telemetry: &Arc<Telemetry>,
        limits: &Limits,
    ) -> Result<Self, Failure> {
        Self::take(connection, telemetry, limits, Rpc::WatchLocks, Standing::None)
    }

    /// For a `Session`.
    pub fn for_session(
        connection: &Arc<Connection>,
        telemetry: &Arc<Telemetry>,
        limits: &Limits,
    ) -> Result<Self, Failure> {
        Self::take(connection, telemetry, limits, Rpc::Session, Standing::None)
    }

    /// For a `Lock`, whose ticket waits at first.
    pub fn for_lock(
        connection: &Arc<Connection>,
        telemetry: &Arc<Telemetry>,
        limits: &Limits,
    ) -> Result<Self, Failure> {
        let held = connection.holding().load(Ordering::SeqCst);
        if held >= limits.locks_per_connection_max {
            let limit = limits.locks_per_connection_max;
            let text = format!("the limit of {limit} locks over one connection is reached");
            return Err(Failure::new(ErrorReason::TooManyLocks, text).with("limit", limit));
        }
        let seat = Self::take(connection, telemetry, limits, Rpc::Lock, Standing::Waiting)?;
        // Bound: counted first, so that two at once cannot both take the last place; this one is counted too.
        if connection.waiting().load(Ordering::SeqCst) > limits.waiters_per_connection_max {
            let limit = limits.waiters_per_connection_max;
            let text = format!("the limit of {limit} waiters over one connection is reached");
            return Err(Failure::new(ErrorReason::TooManyWaiters, text).with("limit", limit));
        }
        Ok(seat)
    }

    /// Takes a seat. Some streams stay free for unary calls, so that an unlock always gets through.
    fn take(
        connection: &Arc<Connection>,
        telemetry: &Arc<Telemetry>,
        limits: &Limits,
        rpc: Rpc,
        standing: Standing,
    ) -> Result<Self, Failure> {
        connection.streams().fetch_add(1, Ordering::SeqCst);
        telemetry.stream_opened(rpc);
        let seat = Self {
            connection: Arc::clone(connection),
            telemetry: Arc::clone(telemetry),
            rpc,
            standing: Standing::None,
        };
        let limit = limits
            .streams_per_connection_max
            .saturating_sub(limits.streams_reserved);
        if connection.streams().load(Ordering::SeqCst) > limit {
            let text = format!("the limit of {limit} long-lived streams on one connection is reached");
            return Err(Failure::new(ErrorReason::TooManyStreams, text).with("limit", limit));
        }
        let mut seat = seat;
        seat.stand(standing);
        Ok(seat)
    }

    /// The ticket does something else now.
    fn stand(&mut self, standing: Standing) {
        if let Some(count) = self.count() {
            count.fetch_sub(1, Ordering::SeqCst);
        }
        self.standing = standing;
        if let Some(count) = self.count() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Where its standing is counted.
    fn count(&self) -> Option<&AtomicU32> {
        match self.standing {
            Standing::None => None,
            Standing::Waiting => Some(self.connection.waiting()),
            Standing::Holding => Some(self.connection.holding()),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.stand(Standing::None);
        self.connection.streams().fetch_sub(1, Ordering::SeqCst);
        self.telemetry.stream_closed(self.rpc);
    }
}

/// The events of one `Lock`, as messages.
pub struct LockEvents {
    /// Where they come from; dropping it detaches the ticket.
    events: LockStream,
    /// Told with the first message.
    store_id: Option<[u8; 16]>,
    /// The shard of its key, for the hand-off's latency.
    shard: u32,
    /// As requested, for the counters.
    mode: Mode,
    /// Its place on the connection.
    seat: Seat,
    /// The last message has left.
    ended: bool,
}

impl LockEvents {
    /// Follows `events`.
    #[must_use]
    pub fn new(events: LockStream, store_id: [u8; 16], shard: u32, mode: Mode, seat: Seat) -> Self {
        Self {
            events,
            store_id: Some(store_id),
            shard,
            mode,
            seat,
            ended: false,
        }
    }

    /// Looks at an event on its way out.
    fn note(&mut self, item: &LockItem) {
        let LockItem::Event { ticket, event, .. } = item else {
            return;
        };
        match event {
            Event::Granted(_) => {
                self.seat.stand(Standing::Holding);
                self.seat.telemetry.grant_left(self.shard, *ticket);
            }
            Event::Refused {
                reason: reason @ (RefusedReason::WouldWait | RefusedReason::NotHeld),
                ..
            } => {
                self.seat.telemetry.refused(self.mode, *reason);
            }
            _ => {}
        }
    }

    /// The stream ends with a status.
    fn fail(&mut self, error: ServiceError) -> Status {
        self.ended = true;
        self.seat.telemetry.failed(Failure::from(error))
    }
}

impl Stream for LockEvents {
    type Item = Result<v1::LockResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let item = match ready!(Pin::new(&mut this.events).poll_next(context)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(this.fail(error)))),
            Some(Ok(item)) => item,
        };
        if matches!(
            &item,
            LockItem::Event {
                event: Event::Superseded,
                ..
            }
        ) {
            let error = ServiceError::Refused(ticketlock_core::command::Refusal::Superseded);
            return Poll::Ready(Some(Err(this.fail(error))));
        }
        this.note(&item);
        let Some(event) = view::lock_event(item) else {
            this.ended = true;
            return Poll::Ready(None);
        };
        let store_id = this.store_id.take().map(Vec::from).unwrap_or_default();
        Poll::Ready(Some(Ok(v1::LockResponse {
            store_id,
            event: Some(event),
        })))
    }
}

/// The steps of one `WatchLocks`, as messages.
pub struct WatchEvents {
    /// Where they come from.
    events: WatchStream,
    /// Its place on the connection.
    seat: Seat,
    /// Bound: bytes of one message.
    bytes_max: usize,
}

impl WatchEvents {
    /// Follows `events`.
    #[must_use]
    pub fn new(events: WatchStream, seat: Seat, bytes_max: usize) -> Self {
        Self {
            events,
            seat,
            bytes_max,
        }
    }
}

impl Stream for WatchEvents {
    type Item = Result<v1::WatchLocksResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        Poll::Ready(match ready!(Pin::new(&mut this.events).poll_next(context)) {
            None => None,
            Some(Err(error)) => Some(Err(this.seat.telemetry.failed(Failure::from(error)))),
            Some(Ok(event)) => Some(Ok(view::watch_response(event, this.bytes_max))),
        })
    }
}
