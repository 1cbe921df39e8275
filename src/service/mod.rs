//! The shell around the rules: tasks, channels, the clock and the registry of live streams.
//!
//! A [`Service`] takes every shard of a store and then carries commands to the shard that their key belongs to. One
//! shard's work is in `slot`; how shards are taken (again) in `take`; what its owner reads of a lock in `stream` and
//! `outbox`; followers in `watch`. It knows nothing of gRPC. [`clock`] is the only caller of `now()`, [`ids`] the only
//! source of randomness, [`crate::sync`] the only source of locks and channels.
//!
//! Order of locks: a shard, then an outbox, a watcher or an entry of the registry; never two shards, never the other
//! way round. Nothing waits while it holds one.

mod batch;
pub mod clock;
mod deliver;
mod drain;
pub mod error;
mod flight;
pub mod ids;
mod inbox;
mod list;
pub mod observer;
mod outbox;
mod runtime;
mod session;
mod slot;
mod stream;
mod take;
mod timer;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use ticketlock_core::Command;
use ticketlock_core::command::{ForceReply, LockRequest, Renew, Reply, TryReply, Unlock, UnlockReply};
use ticketlock_core::output::KeyView;
use ticketlock_core::shard::Totals;
use ticketlock_core::sharding::ShardCount;
use ticketlock_core::types::{Number, Stream, StreamId, StreamKind, Time};
use ticketlock_core::{Output, Shard};

use crate::config::ServerConfig;
use crate::store::Store;

pub use clock::{Clock, unix_seconds};
pub use error::ServiceError;
pub use ids::IdSource;
pub use inbox::{Answer, Beaten};
pub use observer::{NoObserver, Observer};
pub use outbox::LockItem;
pub use session::{Session, SessionItem};
pub use stream::{DetachProbe, LockStream};
pub use watch::{WatchEvent, WatchKind, WatchStream};

use batch::Outcome;
use outbox::{Outbox, Reader};
use runtime::Runtime;
use slot::Phase;

/// The running server behind gRPC; clones share it. It runs until [`Service::shutdown`].
#[derive(Clone)]
pub struct Service {
    /// What all parts share.
    runtime: Arc<Runtime>,
}

impl Service {
    /// Takes all shards and serves. Must be called within a tokio runtime. A shard that cannot be taken fails the
    /// start; once started, shards are taken again by themselves.
    pub async fn start(
        store: Arc<dyn Store>,
        config: Arc<ServerConfig>,
        clock: Clock,
        ids: IdSource,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, ServiceError> {
        let runtime = Arc::new(Runtime::new(store, config, clock, ids, observer));
        for slot in &runtime.slots {
            if let Err(error) = take::first(&runtime, slot.number).await {
                runtime.observer.store_failed(slot.number, &error);
                runtime.closed.send_replace(true);
                return Err(ServiceError::from(&error));
            }
        }
        for slot in &runtime.slots {
            runtime.start_timer(slot.number);
        }
        Ok(Self { runtime })
    }

    /// Takes a ticket or re-attaches; `request.stream` is set here. Dropping this future, or the stream that it gives,
    /// leaves nothing behind.
    pub async fn lock(&self, mut request: LockRequest, probe: DetachProbe) -> Result<LockStream, ServiceError> {
        let runtime = &self.runtime;
        let stream = Stream {
            id: StreamId(runtime.next_number()),
            kind: StreamKind::Plain,
        };
        request.stream = Some(stream);
        let terms = Arc::clone(&request.terms);
        let shard = runtime.config.shards.shard_of(&terms.key);
        let outbox = Arc::new(Outbox::new(stream, shard, &request, Reader::own()));
        // Order (Q3): the guard exists before the command is applied.
        let guard = LockStream::register(runtime, &outbox, probe);
        // Order: registered first, then looked, so that a server that begins to drain sees the stream or is seen.
        if runtime.is_draining() {
            return Err(ServiceError::Draining);
        }
        let full = runtime.store.is_full();
        let (applied, settled) = (Arc::clone(&outbox), outbox);
        let outcome = runtime.command(
            &terms.key,
            move |rules, now, out| {
                let reply = take_ticket(rules, Command::Lock(Box::new(request)), full, now, out);
                if let Reply::Lock(Ok(Some(ticket))) = reply {
                    applied.follow(ticket);
                }
                reply
            },
            move |result, _| {
                if let Ok(Reply::Lock(Ok(_))) = result {
                    settled.confirm();
                }
            },
        );
        match lock_reply(outcome.answer().await) {
            Ok(_) => Ok(guard),
            Err(error) => {
                guard.refuse();
                Err(error)
            }
        }
    }

    /// Grants at once or names what is in the way.
    pub async fn try_lock(&self, mut request: LockRequest) -> Result<TryReply, ServiceError> {
        if self.runtime.is_draining() {
            return Err(ServiceError::Draining);
        }
        request.stream = None;
        let terms = Arc::clone(&request.terms);
        let full = self.runtime.store.is_full();
        let outcome = self.runtime.command(
            &terms.key,
            |rules, now, out| take_ticket(rules, Command::TryLock(Box::new(request)), full, now, out),
            |_, _| {},
        );
        match outcome.answer().await? {
            Reply::TryLock(reply) => reply.map_err(ServiceError::Refused),
            _ => Err(ServiceError::StoreUnavailable),
        }
    }

    /// Ends a hold or a wait.
    pub async fn unlock(&self, unlock: Unlock) -> Result<UnlockReply, ServiceError> {
        let key = Arc::clone(&unlock.key);
        match self.apply(&key, Command::Unlock(unlock)).answer().await? {
            Reply::Unlock(reply) => reply.map_err(ServiceError::Refused),
            _ => Err(ServiceError::Bug),
        }
    }

    /// Extends holds: one answer each, in their order; `None` where it is not held. All are tried, and an error of one
    /// is the answer to all, since a repeat is safe.
    pub async fn renew(&self, renewals: Vec<Renew>) -> Result<Vec<Option<Duration>>, ServiceError> {
        let apply = |renew: Renew| {
            let key = Arc::clone(&renew.key);
            self.apply(&key, Command::Renew(renew))
        };
        let outcomes: Vec<_> = renewals.into_iter().map(apply).collect();
        let mut answers = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            match outcome.answer().await? {
                Reply::Renew(left) => answers.push(left),
                _ => return Err(ServiceError::Bug),
            }
        }
        Ok(answers)
    }

    /// An operator takes a hold, if `token` still holds.
    pub async fn force_unlock(
        &self,
        key: Arc<str>,
        token: Number,
        by: Arc<str>,
        message: Arc<str>,
    ) -> Result<ForceReply, ServiceError> {
        let command = Command::ForceUnlock {
            key: Arc::clone(&key),
            token,
            by,
            message,
        };
        match self.apply(&key, command).answer().await? {
            Reply::ForceUnlock(reply) => Ok(reply),
            _ => Err(ServiceError::Bug),
        }
    }

    /// One key, with at most `waiters_limit` waiters.
    pub async fn get(&self, key: &str, waiters_limit: usize) -> Result<KeyView, ServiceError> {
        let read = self
            .runtime
            .command(key, |rules, now, _| rules.get(key, waiters_limit, now), |_, _| {});
        read.answer().await
    }

    /// Keys that begin with `prefix` and come after `after`, in byte order over all shards, at most `limit`, each with
    /// at most `waiters_limit` waiters. Each key is shown as it was at one point; the page as a whole is not.
    pub async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        waiters_limit: usize,
    ) -> Result<Vec<KeyView>, ServiceError> {
        list::list(
            &self.runtime,
            &list::Query {
                prefix,
                after,
                limit,
                waiters_limit,
            },
        )
        .await
    }

    /// Follows keys that begin with `prefix`: a snapshot per shard, then what happens.
    pub fn watch(&self, prefix: Arc<str>) -> Result<WatchStream, ServiceError> {
        if self.runtime.is_draining() {
            return Err(ServiceError::Draining);
        }
        Ok(WatchStream::open(&self.runtime, prefix))
    }

    /// Stops taking tickets, tells the open streams, and ends all within `within`: streams that wait end at once, those
    /// that hold may unlock until shortly before the end. Ends early when the last stream has gone.
    pub async fn shutdown(&self, within: Duration) {
        drain::shutdown(&self.runtime, within).await;
    }

    /// Asks whoever runs the server to end it, and waits until that is done.
    pub async fn drain(&self) {
        self.runtime.end_asked.notify_one();
        drain::ended(&self.runtime).await;
    }

    /// Waits until [`Service::drain`] is called.
    pub async fn drain_asked(&self) {
        self.runtime.end_asked.notified().await;
    }

    /// The server is about to stop.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.runtime.is_draining()
    }

    /// Whether every shard answers; if not, why.
    pub fn ready(&self) -> Result<(), Vec<String>> {
        let mut reasons = Vec::new();
        if self.is_draining() {
            reasons.push("draining".to_owned());
        }
        for slot in &self.runtime.slots {
            if let Phase::Taking { answer, .. } = &slot.state.lock().phase {
                reasons.push(format!("shard {}: {answer}", slot.number));
            }
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    /// Identity of the store.
    #[must_use]
    pub fn store_id(&self) -> [u8; 16] {
        self.runtime.store.store_id()
    }

    /// The store: its name and what it promises.
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        &*self.runtime.store
    }

    /// A copy of the store as of one point; see [`Store::backup`].
    pub async fn backup(&self) -> Result<std::fs::File, crate::store::StoreError> {
        self.runtime.store.backup().await
    }

    /// Identity of this run of the server.
    #[must_use]
    pub fn boot_id(&self) -> [u8; 16] {
        self.runtime.boot_id
    }

    /// How it runs.
    #[must_use]
    pub fn config(&self) -> &ServerConfig {
        &self.runtime.config
    }

    /// Its clock.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.runtime.clock
    }

    /// How many shards.
    #[must_use]
    pub fn shards(&self) -> ShardCount {
        self.runtime.config.shards
    }

    /// How much each shard holds, by number; a shard that does not answer holds nothing. For gauges: what is not yet
    /// committed counts.
    #[must_use]
    pub fn totals(&self) -> Vec<Totals> {
        let totals = |slot: &slot::Slot| match &slot.state.lock().phase {
            Phase::Open(open) => open.shard.totals(),
            Phase::Taking { .. } | Phase::Closed => Totals::default(),
        };
        self.runtime.slots.iter().map(totals).collect()
    }

    /// Lock streams that are open.
    #[must_use]
    pub fn live_streams(&self) -> usize {
        self.runtime.streams.len()
    }

    /// A command without a stream.
    fn apply(&self, key: &str, command: Command) -> Outcome<Reply> {
        self.runtime
            .command(key, |rules, now, out| rules.apply(command, now, out), |_, _| {})
    }
}

/// Carries out a request for a lock. Where the store has no space, only those that need no new ticket;
/// [`Reply::Done`]: nothing was done.
fn take_ticket(rules: &mut Shard, command: Command, full: bool, now: Time, out: &mut Output) -> Reply {
    let fresh = match &command {
        Command::Lock(request) | Command::TryLock(request) => !request.attach_only && !rules.is_live(&request.terms),
        _ => false,
    };
    if full && fresh {
        return Reply::Done;
    }
    rules.apply(command, now, out)
}

/// The answer to a `Lock`.
fn lock_reply(reply: Result<Reply, ServiceError>) -> Result<Option<Number>, ServiceError> {
    match reply? {
        Reply::Lock(reply) => reply.map_err(ServiceError::Refused),
        _ => Err(ServiceError::StoreUnavailable),
    }
}
