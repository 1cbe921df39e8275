//! The held part of a ticket's life: renewing, hearing that the lock is lost, coming back to it over a new stream.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ticketlock_proto::v1;
use ticketlock_proto::v1::lock_response::Event;
use tokio::time::sleep;

use super::{Attached, Driver, open};
use crate::client::Inner;
use crate::lock::Ask;
use crate::types::{LostReason, OnDisconnect, Outcome, RenewResult};
use crate::{Error, convert};

/// A renewal on its way, and when it was sent.
type Renewal = Pin<Box<dyn Future<Output = (Duration, Result<RenewResult, Error>)> + Send>>;
/// A new stream on its way.
type Return = Pin<Box<dyn Future<Output = Result<Attached, LostReason>> + Send>>;

/// A server that answered NOT_HELD has so long to say why on the stream.
const REASON_WITHIN: Duration = Duration::from_secs(1);
/// A lock that is given back within this is not renewed at all.
const RENEW_FIRST: Duration = Duration::from_millis(2);
/// The shortest pause between two renewals.
const RENEW_MIN: Duration = Duration::from_millis(20);

/// What is underway for a held lock.
struct Holding {
    attached: Option<Attached>,
    returning: Option<Return>,
    renewal: Option<Renewal>,
    /// On the client's clock.
    renew_at: Duration,
    /// Length of the lease as told last.
    ttl: Duration,
    /// On the client's clock: without any news by then the lock is given up, for this reason.
    give_up: (Duration, LostReason),
}

/// What comes next.
enum Step {
    Command(super::Command),
    Message(Result<Option<v1::LockResponse>, Error>),
    Returned(Result<Attached, LostReason>),
    Renewed(Duration, Result<RenewResult, Error>),
    RenewNow,
    GiveUp,
}

impl Driver {
    /// Keeps the lock until it is given back or lost. A grant on a stream promises nothing by time, so it is renewed
    /// very soon; a try's grant already does.
    pub(super) async fn hold(mut self, attached: Option<Attached>, ttl: Duration) {
        let now = self.inner.clock.now();
        let promised = self.view.read().promised_until;
        let mut holding = Holding {
            renew_at: if promised.is_some() {
                now + self.renew_after(ttl)
            } else {
                now + RENEW_FIRST
            },
            attached,
            returning: None,
            renewal: None,
            ttl,
            give_up: (promised.unwrap_or(now + ttl), LostReason::Unconfirmed),
        };
        let lost = loop {
            match self.step(&mut holding).await {
                Step::Command(command) => return self.leave(command, holding.attached).await,
                Step::Message(message) => {
                    if let Some(reason) = self.on_message(&mut holding, message) {
                        break reason;
                    }
                }
                Step::Returned(Ok(attached)) => {
                    holding.returning = None;
                    holding.attached = Some(attached);
                    holding.renew_at = self.inner.clock.now();
                    self.view.modify(|view| {
                        view.cut_off = false;
                        view.suspended = false;
                    });
                }
                Step::Returned(Err(reason)) => break reason,
                Step::RenewNow => holding.renewal = Some(renew(&self.inner, &self.ask, self.token)),
                Step::Renewed(sent, answer) => {
                    holding.renewal = None;
                    self.on_renewed(&mut holding, sent, answer);
                }
                Step::GiveUp => break holding.give_up.1.clone(),
            }
        };
        self.end_lost(lost, holding.attached).await;
    }

    /// Waits for whatever comes first.
    async fn step(&mut self, holding: &mut Holding) -> Step {
        let now = self.inner.clock.now();
        let left = holding.give_up.0.saturating_sub(now);
        let until_renewal = holding.renew_at.saturating_sub(now);
        let idle = holding.renewal.is_none();
        tokio::select! {
            biased;
            Some(command) = self.inbox.recv() => Step::Command(command),
            message = next(&mut holding.attached) => Step::Message(message),
            returned = maybe(&mut holding.returning) => Step::Returned(returned),
            (sent, answer) = maybe(&mut holding.renewal) => Step::Renewed(sent, answer),
            () = sleep(left) => Step::GiveUp,
            () = sleep(until_renewal), if idle => Step::RenewNow,
        }
    }

    /// Takes an event of the stream; answers why the lock is lost, if it is.
    fn on_message(
        &mut self,
        holding: &mut Holding,
        message: Result<Option<v1::LockResponse>, Error>,
    ) -> Option<LostReason> {
        match message {
            Ok(Some(message)) => {
                if !message.store_id.is_empty() && message.store_id != self.store_id {
                    return Some(LostReason::StoreChanged);
                }
                match message.event {
                    Some(Event::Lost(wire)) => Some(convert::lost(wire)),
                    Some(Event::Refused(_)) => Some(LostReason::Disconnected),
                    Some(Event::Granted(wire)) if wire.fencing_token != self.token => Some(LostReason::Disconnected),
                    // Pushes on a plain stream promise nothing by time.
                    _ => None,
                }
            }
            Err(error) if error.is_superseded() => Some(LostReason::Superseded),
            Ok(None) | Err(_) => {
                holding.attached = None;
                // Under LEASE only renewals count, with or without a stream.
                if self.ask.on_disconnect != OnDisconnect::Lease {
                    self.view.modify(|view| {
                        view.cut_off = true;
                        view.suspended = true;
                    });
                    holding.returning = Some(come_back(&self.inner, &self.ask, self.store_id.clone()));
                }
                None
            }
        }
    }

    fn on_renewed(&mut self, holding: &mut Holding, sent: Duration, answer: Result<RenewResult, Error>) {
        match answer {
            Ok(RenewResult::Renewed { ttl }) => {
                self.promise(sent, ttl);
                holding.ttl = ttl;
                let until = self.view.read().promised_until.unwrap_or(sent);
                holding.give_up = (until, LostReason::Unconfirmed);
                holding.renew_at = self.inner.clock.now() + self.renew_after(ttl);
            }
            Ok(RenewResult::NotHeld | RenewResult::InvalidTtl) => {
                // From here on it is not held; the stream may still tell why.
                let now = self.inner.clock.now();
                self.view.modify(|view| view.promised_until = Some(Duration::ZERO));
                let wait = if holding.attached.is_some() {
                    REASON_WITHIN
                } else {
                    Duration::ZERO
                };
                holding.give_up = (now + wait, LostReason::Expired);
                holding.renew_at = self.inner.clock.now() + REASON_WITHIN * 2;
            }
            // No news: the promise runs on, and so does the time to give up.
            Err(_) => {
                let pause = (holding.ttl / 10).clamp(RENEW_MIN, Duration::from_secs(1));
                holding.renew_at = self.inner.clock.now() + pause;
            }
        }
    }

    /// A third of the lease, less up to a tenth of that, so that many guards do not renew in step.
    fn renew_after(&self, ttl: Duration) -> Duration {
        (ttl / 3).mul_f64(1.0 - 0.1 * self.inner.fraction()).max(RENEW_MIN)
    }

    /// Writes down that the lock is lost, and leaves nothing in the server that might still be there.
    async fn end_lost(mut self, reason: LostReason, attached: Option<Attached>) {
        let uncertain = reason == LostReason::Unconfirmed;
        self.view.modify(|view| view.lost = Some(reason));
        if uncertain {
            let _ = self.unlock(Outcome::default()).await;
        }
        self.asked = false;
        if let Some(attached) = attached {
            attached.drain().await;
        }
    }
}

/// The next message, if there is a stream.
async fn next(attached: &mut Option<Attached>) -> Result<Option<v1::LockResponse>, Error> {
    match attached {
        Some(attached) => attached.next().await,
        None => std::future::pending().await,
    }
}

/// The result of what is underway, if anything is.
async fn maybe<T>(underway: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match underway {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

fn renew(inner: &Arc<Inner>, ask: &Arc<Ask>, token: u64) -> Renewal {
    let (inner, ask) = (Arc::clone(inner), Arc::clone(ask));
    Box::pin(async move {
        // Order: the clock is read before the call is sent, so that the promise is never counted from too late.
        let sent = inner.clock.now();
        let answer = inner.send_renew(ask.owner.clone(), ask.key.clone(), token, None).await;
        (sent, answer)
    })
}

/// Comes back to the hold over a new stream, trying until there is a definite answer; the holder's time to give up
/// bounds it. The first message tells what became of the hold, and is read by the loop above.
fn come_back(inner: &Arc<Inner>, ask: &Arc<Ask>, store_id: Vec<u8>) -> Return {
    let (inner, ask) = (Arc::clone(inner), Arc::clone(ask));
    Box::pin(async move {
        let mut pause = Duration::from_millis(20);
        loop {
            let error = match open(&inner, &ask, v1::AttachMode::Only, &mut false).await {
                Ok(mut attached) => match attached.next().await {
                    Ok(Some(message)) if message.store_id != store_id => return Err(LostReason::StoreChanged),
                    Ok(Some(message)) => match message.event {
                        Some(Event::Granted(_) | Event::Renewed(_)) => return Ok(attached),
                        Some(Event::Lost(wire)) => return Err(convert::lost(wire)),
                        // It is about to stop, and has said nothing of this hold.
                        Some(Event::ServerDraining(_)) => Error::stream_ended(),
                        _ => return Err(LostReason::Disconnected),
                    },
                    Ok(None) => Error::stream_ended(),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if !error.is_retryable() {
                return Err(LostReason::Disconnected);
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    })
}
