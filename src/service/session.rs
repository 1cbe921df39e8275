//! A session: many locks of one client, whose owner reads all their news together.
//!
//! Each lock has an [`Outbox`] like any other, so that it is attached, detached and re-attached by the same code; it
//! reports to the session's [`Inbox`] instead of a reader of its own. The session keeps nothing beyond its stream: when
//! it is dropped every lock is detached, and what becomes of each is its `on_disconnect`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ticketlock_core::Command;
use ticketlock_core::command::{LockRequest, Renew, Reply, Unlock};
use ticketlock_core::output::Event;
use ticketlock_core::types::{DetachCause, Mode, Number, OnDisconnect, Stream, StreamId, StreamKind};

use super::Service;
use super::batch::Outcome;
use super::error::ServiceError;
use super::inbox::{Answer, Beat, Inbox, News, Unread};
use super::list::{self, Query};
use super::outbox::{self, Outbox, Reader};
use super::runtime::Runtime;
use super::stream::{self, DetachProbe};

/// Detaches carried out in one go, before other tasks get their turn.
const DETACHES_AT_ONCE: usize = 256;

/// One piece of news.
#[derive(Debug)]
pub enum SessionItem {
    /// Of a lock.
    Lock {
        /// The shard of its key.
        shard: u32,
        /// As requested.
        mode: Mode,
        /// Which ticket.
        ticket: Number,
        /// What.
        event: Event,
        /// The number of the latest message that was received from the client by then (T2).
        as_of: u64,
    },
    /// The answer to a call.
    Answer(Answer),
}

/// One lock on a session; ended by [`Session::end`] or with the session.
struct Lock {
    outbox: Arc<Outbox>,
    /// It was told that it holds.
    holding: bool,
}

/// A lock that a heartbeat is to renew.
struct Beaten {
    call: u64,
    renew: Renew,
    /// The lease that its client counts with.
    told: Duration,
}

/// All that one client holds and waits for over one stream.
pub struct Session {
    runtime: Arc<Runtime>,
    /// Under this number the runtime knows it.
    number: u64,
    inbox: Arc<Inbox>,
    /// By call, ordered, so that nothing depends on chance.
    locks: BTreeMap<u64, Lock>,
    /// How many of them hold.
    holding: usize,
    probe: DetachProbe,
    /// Kept for its memory.
    taken: Unread,
}

impl Service {
    /// A session without locks. `probe` says, when it is dropped, how its stream came to its end.
    #[must_use]
    pub fn session(&self, probe: DetachProbe) -> Session {
        let runtime = Arc::clone(&self.runtime);
        let number = runtime.next_number();
        let inbox = Arc::new(Inbox::new(runtime.config.limits.outbox_bytes_max));
        runtime.sessions.insert(number, Arc::clone(&inbox));
        Session {
            runtime,
            number,
            inbox,
            locks: BTreeMap::new(),
            holding: 0,
            probe,
            taken: Unread::default(),
        }
    }
}

impl Session {
    /// A message of the client's was received; what follows belongs to it.
    pub fn received(&self, number: u64) {
        self.inbox.received(number);
    }

    /// Locks that were told that they hold.
    #[must_use]
    pub fn holding(&self) -> usize {
        self.holding
    }

    /// Locks that wait, or have not been told otherwise.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.locks.len() - self.holding
    }

    /// Whether a lock of this name is there.
    #[must_use]
    pub fn has(&self, call: u64) -> bool {
        self.locks.contains_key(&call)
    }

    /// Takes a ticket or re-attaches; all that happens to it is news under `call`.
    pub fn lock(&mut self, call: u64, mut request: LockRequest) {
        let stream = Stream {
            id: StreamId(self.runtime.next_number()),
            kind: StreamKind::Session,
        };
        request.stream = Some(stream);
        let terms = Arc::clone(&request.terms);
        let shard = self.runtime.config.shards.shard_of(&terms.key);
        let reader = Reader::session(&self.inbox, call);
        let outbox = Arc::new(Outbox::new(stream, shard, &request, reader));
        // Order (Q3): it is there to be ended before the command is applied.
        self.runtime.streams.insert(outbox.stream.id, Arc::clone(&outbox));
        let lock = Lock {
            outbox: Arc::clone(&outbox),
            holding: false,
        };
        self.locks.insert(call, lock);
        // Order: registered first, then looked, so that a server that begins to drain sees the stream or is seen.
        if self.runtime.is_draining() {
            return self.inbox.answer(call, Answer::Refused(ServiceError::Draining));
        }
        let full = self.runtime.store.is_full();
        let (applied, inbox) = (Arc::clone(&outbox), Arc::clone(&self.inbox));
        // What it comes to is told by `settle`.
        drop(self.runtime.command(
            &terms.key,
            move |rules, now, out| {
                let reply = super::take_ticket(rules, Command::Lock(Box::new(request)), full, now, out);
                if let Reply::Lock(Ok(Some(ticket))) = reply {
                    applied.follow(ticket);
                }
                reply
            },
            move |result, _| match result {
                Ok(Reply::Lock(Ok(_))) => outbox.confirm(),
                Ok(Reply::Lock(Err(refusal))) => {
                    inbox.answer(call, Answer::Refused(ServiceError::Refused(*refusal)));
                }
                Ok(_) => inbox.answer(call, Answer::Refused(ServiceError::StoreUnavailable)),
                Err(error) => inbox.answer(call, Answer::Refused(error.clone())),
            },
        ));
    }

    /// Ends a hold or a wait.
    pub fn unlock(&self, call: u64, unlock: Unlock) {
        let inbox = Arc::clone(&self.inbox);
        let key = Arc::clone(&unlock.key);
        drop(self.runtime.command(
            &key,
            |rules, now, out| rules.apply(Command::Unlock(unlock), now, out),
            move |result, _| {
                let answer = match result {
                    Ok(Reply::Unlock(reply)) => reply.clone().map_err(ServiceError::Refused),
                    Ok(_) => Err(ServiceError::Bug),
                    Err(error) => Err(error.clone()),
                };
                inbox.answer(call, Answer::Unlock(answer));
            },
        ));
    }

    /// Extends a hold, and acknowledges its grant.
    pub fn renew(&self, call: u64, renew: Renew) {
        let (inbox, as_of) = (Arc::clone(&self.inbox), self.inbox.as_of());
        let key = Arc::clone(&renew.key);
        drop(self.runtime.command(
            &key,
            |rules, now, out| rules.apply(Command::Renew(renew), now, out),
            move |result, _| {
                let answer = match result {
                    Ok(Reply::Renew(left)) => Ok(*left),
                    Ok(_) => Err(ServiceError::Bug),
                    Err(error) => Err(error.clone()),
                };
                inbox.answer(call, Answer::Renew(as_of, answer));
            },
        ));
    }

    /// Extends every hold that a heartbeat extends (T3), one step per shard.
    pub fn heartbeat(&self, owner: &Arc<str>) {
        let beat = Beat::new(&self.inbox, self.inbox.as_of());
        let mut shards: BTreeMap<u32, Vec<Beaten>> = BTreeMap::new();
        // Only the client's renewals by name extend a LEASE hold.
        let leased = |lock: &Lock| lock.outbox.terms.on_disconnect == OnDisconnect::Lease;
        for (call, lock) in self.locks.iter().filter(|(_, lock)| !leased(lock)) {
            let outbox = &lock.outbox;
            if let Some((token, told)) = outbox.hold() {
                let renew = Renew {
                    key: Arc::clone(&outbox.terms.key),
                    owner: Arc::clone(owner),
                    token,
                    ttl: None,
                };
                let call = *call;
                shards
                    .entry(outbox.shard)
                    .or_default()
                    .push(Beaten { call, renew, told });
            }
        }
        for (shard, renewals) in shards {
            self.refresh(shard, renewals, &beat);
        }
    }

    fn refresh(&self, shard: u32, renewals: Vec<Beaten>, beat: &Arc<Beat>) {
        let calls: Vec<(u64, Duration)> = renewals.iter().map(|it| (it.call, it.told)).collect();
        let beat = Arc::clone(beat);
        drop(self.runtime.slot(shard).step(
            &self.runtime,
            move |rules, now, out| {
                let refresh = |it: Beaten| match rules.apply(Command::Refresh(it.renew), now, out) {
                    Reply::Renew(left) => left,
                    _ => None,
                };
                renewals.into_iter().map(refresh).collect::<Vec<_>>()
            },
            move |result, _| {
                match result {
                    Ok(leases) => {
                        let renewed = calls.into_iter().zip(leases);
                        renewed.for_each(|((call, told), left)| beat.renewed(call, told, *left));
                    }
                    Err(_) => calls
                        .into_iter()
                        .for_each(|(call, told)| beat.renewed(call, told, None)),
                }
            },
        ));
    }

    /// Reads one key.
    pub fn get(&self, call: u64, key: &str, waiters_limit: usize) {
        let read = self
            .runtime
            .command(key, |rules, now, _| rules.get(key, waiters_limit, now), |_, _| {});
        let answer = |result: Result<_, ServiceError>| Answer::Get(result.map(Box::new));
        match read {
            Outcome::Now(result) => self.inbox.answer(call, answer(result)),
            later @ Outcome::Later(_) => {
                let inbox = Arc::clone(&self.inbox);
                self.runtime
                    .spawn(async move { inbox.answer(call, answer(later.answer().await)) });
            }
        }
    }

    /// Reads a page of keys, and one more if there is one.
    pub fn list(&self, call: u64, prefix: Arc<str>, after: Option<Arc<str>>, limit: usize, waiters_limit: usize) {
        let (runtime, inbox) = (Arc::clone(&self.runtime), Arc::clone(&self.inbox));
        self.runtime.spawn(async move {
            let query = Query {
                prefix: &prefix,
                after: after.as_deref(),
                limit: limit + 1,
                waiters_limit,
            };
            inbox.answer(call, Answer::List(limit, list::list(&runtime, &query).await));
        });
    }

    /// All news there is, in order for each call; waits for the first. An error ends the session: nothing follows.
    pub fn poll_news(
        &mut self,
        context: &Context<'_>,
        mut news: impl FnMut(u64, SessionItem),
    ) -> Poll<Result<(), ServiceError>> {
        let mut taken = std::mem::take(&mut self.taken);
        if self.inbox.poll(context, &mut taken).is_pending() {
            self.taken = taken;
            return Poll::Pending;
        }
        // Order: a lock's events before the answer to the call that caused them, for who unlocks is told of both.
        for told in taken.news.drain(..) {
            self.tell(told, &mut news);
        }
        for (call, answer) in taken.answers.drain(..) {
            match answer {
                Answer::Refused(_) => self.end(call, stream::End::Refused),
                Answer::Ended(_) => self.end(call, stream::End::Dropped),
                _ => {}
            }
            news(call, SessionItem::Answer(answer));
        }
        let end = match (taken.full, taken.stopped) {
            (true, _) => Err(ServiceError::LimitReached {
                reason: "OUTBOX_FULL",
                limit: u64::try_from(self.inbox.bytes_max()).unwrap_or(u64::MAX),
            }),
            (false, true) => Err(ServiceError::Draining),
            (false, false) => Ok(()),
        };
        taken.trim();
        self.taken = taken;
        Poll::Ready(end)
    }

    fn tell(&mut self, told: News, news: &mut impl FnMut(u64, SessionItem)) {
        let News {
            call,
            ticket,
            event,
            as_of,
        } = told;
        let Some(lock) = self.locks.get_mut(&call) else { return };
        let holding = match event {
            Event::Granted(_) => true,
            Event::Queued(_) => false,
            _ => lock.holding,
        };
        self.holding = self.holding + usize::from(holding) - usize::from(lock.holding);
        lock.holding = holding;
        let (shard, mode) = (lock.outbox.shard, lock.outbox.terms.mode);
        if outbox::is_last(&event) {
            self.end(call, stream::End::Dropped);
        }
        let item = SessionItem::Lock {
            shard,
            mode,
            ticket,
            event,
            as_of,
        };
        news(call, item);
    }

    fn end(&mut self, call: u64, end: stream::End) {
        let Some(lock) = self.locks.remove(&call) else { return };
        self.holding -= usize::from(lock.holding);
        stream::leave(&self.runtime, &lock.outbox, end, || (self.probe)());
    }

    /// Whether the server is about to stop and this session has nothing left.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.locks.is_empty() && self.runtime.is_draining()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.runtime.sessions.remove(&self.number);
        if self.locks.is_empty() {
            return;
        }
        let cause: DetachCause = (self.probe)();
        let mut locks = std::mem::take(&mut self.locks).into_values();
        let runtime = Arc::clone(&self.runtime);
        let leave = move |lock: Lock| stream::leave(&runtime, &lock.outbox, stream::End::Dropped, || cause);
        locks.by_ref().take(DETACHES_AT_ONCE).for_each(&leave);
        if locks.len() > 0 {
            self.runtime.spawn(async move {
                for (lock, nth) in locks.zip(1_usize..) {
                    leave(lock);
                    if nth % DETACHES_AT_ONCE == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            });
        }
    }
}
