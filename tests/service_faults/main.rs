//! The service over a store that is late, fails, or lies about it: what leaves when, and what is left behind.
//!
//! Here is what the tests share.

mod commits;
mod ends;
mod storm;
mod watches;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ticketlock::config::ServerConfig;
use ticketlock::service::{
    Clock, DetachProbe, IdSource, LockItem, LockStream, NoObserver, Observer, Service, ServiceError, Session,
    SessionItem, WatchKind, WatchStream,
};
use ticketlock::store::faulty::Fault;
use ticketlock::store::{Faults, FaultyStore, MemoryStore, StoreError};
use ticketlock_core::command::{LockRequest, Renew, TryReply, Unlock, UnlockReply};
use ticketlock_core::output::{Event, Granted, Happening, HappeningKind, KeyView};
use ticketlock_core::sharding::ShardCount;
use ticketlock_core::types::{DetachCause, EventOptions, LostReason, OnDisconnect, Outcome, RequestId, Terms};

/// A service over a faulty store, with both handles.
struct World {
    service: Service,
    faults: Faults,
}

/// A service with four shards.
async fn world() -> World {
    world_with(ServerConfig::default(), Arc::new(NoObserver)).await
}

/// The same with another configuration and somebody who looks on.
async fn world_with(config: ServerConfig, observer: Arc<dyn Observer>) -> World {
    let shards = ShardCount::new(4).expect("a power of two");
    let config = ServerConfig { shards, ..config };
    let faults = Faults::default();
    let store = FaultyStore::new(MemoryStore::new([1; 16], shards, 1_000), faults.clone());
    let service = Service::start(
        Arc::new(store),
        Arc::new(config),
        Clock::new(),
        IdSource::seeded(1),
        observer,
    );
    World {
        service: service.await.expect("all shards can be taken"),
        faults,
    }
}

/// An exclusive request for `key`; the request id is made from `id`, none for 0.
fn request(key: &str, owner: &str, id: u8) -> LockRequest {
    LockRequest {
        terms: Arc::new(Terms {
            request_id: (id > 0).then_some(RequestId([id; 16])),
            ..Terms::exclusive(key, owner)
        }),
        attach_number: 0,
        attach_only: false,
        stream: None,
        ttl: Duration::from_secs(30),
        events: EventOptions::default(),
    }
}

/// The client's own end.
fn ended() -> DetachProbe {
    Arc::new(|| DetachCause::Ended)
}

impl World {
    /// Takes a ticket that must be given.
    async fn lock(&self, key: &str, owner: &str, id: u8) -> LockStream {
        self.service
            .lock(request(key, owner, id), ended())
            .await
            .expect("the request is accepted")
    }

    /// Unlocks by token.
    async fn unlock(&self, key: &str, owner: &str, token: u64) -> Result<UnlockReply, ServiceError> {
        let outcome = Outcome::default();
        let (key, owner) = (key.into(), owner.into());
        self.service
            .unlock(Unlock {
                key,
                owner,
                token: Some(token),
                request_id: None,
                outcome,
            })
            .await
    }

    /// Renews by token, which must hold.
    async fn renew(&self, key: &str, owner: &str, token: u64) {
        let renew = Renew {
            key: key.into(),
            owner: owner.into(),
            token,
            ttl: None,
        };
        assert_eq!(
            self.service.renew(vec![renew]).await,
            Ok(vec![Some(Duration::from_secs(30))])
        );
    }

    /// A key's state.
    async fn get(&self, key: &str) -> KeyView {
        self.service.get(key, 10).await.expect("the shard answers")
    }

    /// The shard of a key.
    fn shard_of(&self, key: &str) -> u32 {
        self.service.shards().shard_of(key)
    }

    /// A key of another shard than `key`'s.
    fn elsewhere(&self, key: &str) -> String {
        let mut names = (0..).map(|number| format!("other/{number}"));
        names
            .find(|name| self.shard_of(name) != self.shard_of(key))
            .expect("there are four shards")
    }

    /// Lets time go on until every shard answers.
    async fn until_ready(&self) {
        while self.service.ready().is_err() {
            tokio::time::advance(Duration::from_millis(10)).await;
        }
    }
}

/// What comes within ten minutes, of virtual time where that is paused: a test that waits in vain fails, and does not
/// hang.
async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(600), future)
        .await
        .expect("it comes")
}

/// The next event of a stream.
async fn event(stream: &mut LockStream) -> Event {
    match soon(stream.next()).await {
        Some(Ok(LockItem::Event { event, .. })) => event,
        other => panic!("an event was expected, not {other:?}"),
    }
}

/// The next event, which must be a grant.
async fn granted(stream: &mut LockStream) -> Granted {
    match event(stream).await {
        Event::Granted(granted) => granted,
        other => panic!("a grant was expected, not {other:?}"),
    }
}

/// One turn of a future that nobody wakes.
fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}
