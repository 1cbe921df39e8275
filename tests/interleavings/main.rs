//! Goal: whoever goes on first, at each use of a lock, a channel or a task, nobody is left waiting and nothing is left
//! behind: shards, the committer, streams, sessions and the end of the server. The checker (shuttle) chooses; time stands
//! still, so nothing is saved by a timeout. `cargo test --features shuttle --test interleavings`.

#![expect(clippy::expect_used, clippy::print_stderr, reason = "tests")]

mod disk;

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use disk::Memory;
use shuttle::future::{JoinHandle, block_on, spawn};
use shuttle::rand::Rng as _;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};
use ticketlock::ServerConfig;
use ticketlock::service::{
    Clock, DetachProbe, IdSource, LockItem, LockStream, Observer, Service, ServiceError, Session, SessionItem,
};
use ticketlock::store::faulty::Fault;
use ticketlock::store::{Faults, FaultyStore, FileStore, MemoryStore, Store};
use ticketlock_core::command::{LockRequest, Unlock};
use ticketlock_core::output::Event;
use ticketlock_core::sharding::ShardCount;
use ticketlock_core::types::{DetachCause, EventOptions, Outcome, Terms};

/// Schedules that each test tries with each of the two schedulers, unless TICKETLOCK_SCHEDULES says more.
const SCHEDULES: usize = 1_000;
/// Order of lock-ups that the second scheduler is sure to find in time (Burckhardt et al., ASPLOS 2010).
const DEPTH: usize = 3;

/// Tries `story` with many schedules; one that fails is printed, to be replayed.
fn check(story: impl Fn() + Send + Sync + Copy + 'static) {
    if let Ok(name) = std::env::var("TICKETLOCK_PLANTED") {
        assert!(ticketlock_core::planted::plant(&name), "there is no defect {name}");
    }
    let text = std::env::var("TICKETLOCK_SCHEDULES").unwrap_or_default();
    let schedules = text.parse().unwrap_or(SCHEDULES);
    let seed = 8476;
    eprintln!("seed {seed}, 2 x {schedules} schedules");
    let run = |scheduler: Box<dyn Scheduler + Send>| {
        let mut config = Config::new();
        config.stack_size = 512 * 1024;
        config.max_steps = MaxSteps::FailAfter(200_000);
        Runner::new(scheduler, config).run(story)
    };
    run(Box::new(RandomScheduler::new_from_seed(seed, schedules)));
    run(Box::new(PctScheduler::new_from_seed(seed, DEPTH, schedules)));
}

/// A bug in the rules is one here, too.
struct Strict;

impl Observer for Strict {
    fn panicked(&self, shard: u32, message: &str) {
        unreachable!("shard {shard}: {message}")
    }
}

/// A service with two shards over the file store, on a disk in memory.
async fn on_a_disk() -> Service {
    let shards = ShardCount::new(2).expect("a power of two");
    let disk = Arc::new(Memory::with_syncs(u64::MAX));
    let store = FileStore::open_on(disk, [1; 16], shards, 1_000).expect("a new store");
    start(Arc::new(store)).await
}

async fn start(store: Arc<dyn Store>) -> Service {
    let shards = ShardCount::new(2).expect("a power of two");
    let config = ServerConfig {
        shards,
        ..ServerConfig::default()
    };
    Service::start(
        store,
        Arc::new(config),
        Clock::new(),
        IdSource::seeded(1),
        Arc::new(Strict),
    )
    .await
    .expect("it starts")
}

/// An exclusive request for `key`. It has no name, so nobody will come back for it.
fn request(key: &str, owner: &str) -> LockRequest {
    LockRequest {
        terms: Arc::new(Terms::exclusive(key, owner)),
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

/// Reads until it is granted: the token; or why not.
async fn granted(stream: &mut LockStream) -> Result<u64, ServiceError> {
    loop {
        match stream.next().await {
            Some(Ok(LockItem::Event {
                event: Event::Granted(grant),
                ..
            })) => return Ok(grant.token),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error),
            None => return Err(ServiceError::Draining),
        }
    }
}

fn unlock_of(key: &str, owner: &str, token: u64) -> Unlock {
    Unlock {
        key: key.into(),
        owner: owner.into(),
        token: Some(token),
        request_id: None,
        outcome: Outcome::default(),
    }
}

/// Locks and unlocks, and reads to the end.
async fn pair(service: &Service, key: &str, owner: &str) -> Result<u64, ServiceError> {
    let mut stream = service.lock(request(key, owner), ended()).await?;
    let token = granted(&mut stream).await?;
    service.unlock(unlock_of(key, owner, token)).await?;
    Ok(token)
}

/// One turn of a future.
async fn once<F: Future>(mut future: Pin<&mut F>) {
    std::future::poll_fn(|context| {
        let _ = future.as_mut().poll(context);
        Poll::Ready(())
    })
    .await;
}

fn spawn_pair(service: &Service, key: &'static str, owner: &'static str) -> JoinHandle<Result<u64, ServiceError>> {
    let service = service.clone();
    spawn(async move { pair(&service, key, owner).await })
}

/// Nothing is held, waited for or on its way.
async fn is_empty(service: &Service, keys: &[&str]) {
    for key in keys {
        // A read waits for the steps before it.
        let view = service.get(key, 10).await.expect("the shard answers");
        assert_eq!((view.holders.len(), view.waiters.len()), (0, 0), "{key}");
    }
}

async fn end(service: Service) {
    service.shutdown(Duration::from_secs(10)).await;
}

#[test]
fn all_get_their_turn() {
    // Goal: three clients of one key and one of another shard's share commits, and each gets its own answer.
    check(|| {
        block_on(async {
            let service = on_a_disk().await;
            let running = [
                spawn_pair(&service, "one", "a"),
                spawn_pair(&service, "one", "b"),
                spawn_pair(&service, "one", "c"),
                spawn_pair(&service, "two", "d"),
            ];
            let mut tokens = Vec::new();
            for pair in running {
                tokens.push(pair.await.expect("no panic").expect("its turn"));
            }
            tokens.truncate(3);
            tokens.sort_unstable();
            tokens.dedup();
            assert_eq!(tokens.len(), 3, "each grant has its own token");
            is_empty(&service, &["one", "two"]).await;
            end(service).await;
        });
    });
}

#[test]
fn a_place_given_up_passes_the_lock_on() {
    // Goal: the first in line leaves as the lock comes to it, by its stream's end or its request's.
    check(|| {
        block_on(async {
            let service = on_a_disk().await;
            let mut holder = service.lock(request("k", "holder"), ended()).await.expect("accepted");
            let token = granted(&mut holder).await.expect("free");
            let leaving = service.clone();
            let leaves = spawn(async move {
                let lock = leaving.lock(request("k", "leaver"), ended());
                if shuttle::rand::thread_rng().r#gen::<bool>() {
                    drop(lock.await);
                } else {
                    // Its future is dropped wherever it stands.
                    let mut lock = Box::pin(lock);
                    for _ in 0..2 {
                        once(lock.as_mut()).await;
                        shuttle::future::yield_now().await;
                    }
                }
            });
            let next = spawn_pair(&service, "k", "next");
            service.unlock(unlock_of("k", "holder", token)).await.expect("held");
            drop(holder);
            leaves.await.expect("no panic");
            next.await.expect("no panic").expect("its turn");
            is_empty(&service, &["k"]).await;
            end(service).await;
        });
    });
}

#[test]
fn an_end_of_the_server_leaves_nobody_waiting() {
    // Goal: locks that come while the server drains are refused or told; all is given back, and threads end.
    check(|| {
        block_on(async {
            let service = on_a_disk().await;
            let running = [
                spawn_pair(&service, "k", "a"),
                spawn_pair(&service, "k", "b"),
                spawn_pair(&service, "k", "c"),
            ];
            let asked = service.clone();
            let operator = spawn(async move { asked.drain().await });
            service.drain_asked().await;
            service.shutdown(Duration::from_secs(10)).await;
            operator.await.expect("no panic");
            for pair in running {
                match pair.await.expect("no panic") {
                    // The last: its commit was under way at the end.
                    Ok(_) | Err(ServiceError::Draining | ServiceError::StoreUnavailable) => {}
                    Err(error) => unreachable!("neither carried out nor refused: {error}"),
                }
            }
        });
    });
}

/// What a session has been told.
struct Reader {
    session: Session,
    granted: Vec<u64>,
    answers: usize,
}

impl Reader {
    /// Reads until `enough`.
    async fn until(&mut self, enough: impl Fn(&Self) -> bool) {
        while !enough(self) {
            let (mut tokens, mut answers) = (Vec::new(), 0);
            let session = &mut self.session;
            let told = std::future::poll_fn(|context| {
                session.poll_news(context, |_, item| match item {
                    SessionItem::Lock {
                        event: Event::Granted(grant),
                        ..
                    } => tokens.push(grant.token),
                    SessionItem::Lock { .. } => {}
                    SessionItem::Answer(_) => answers += 1,
                })
            });
            told.await.expect("the session goes on");
            self.granted.extend(tokens);
            self.answers += answers;
        }
    }
}

#[test]
fn a_session_hears_of_everything() {
    // Goal: news of two shards and answers to calls meet the reader's sleep, and none is missed.
    check(|| {
        block_on(async {
            let service = on_a_disk().await;
            let others = [spawn_pair(&service, "one", "a"), spawn_pair(&service, "two", "b")];
            let mut reader = Reader {
                session: service.session(ended()),
                granted: Vec::new(),
                answers: 0,
            };
            reader.session.received(1);
            reader.session.lock(1, request("one", "me"));
            reader.session.lock(2, request("two", "me too"));
            reader.until(|reader| reader.granted.len() == 2).await;
            reader.session.heartbeat(&"me".into());
            for (call, key, owner) in [(3, "one", "me"), (4, "two", "me too")] {
                let view = service.get(key, 0).await.expect("the shard answers");
                let token = view.holders.first().expect("it holds").token;
                reader.session.unlock(call, unlock_of(key, owner, token));
            }
            reader.until(|reader| reader.answers == 3).await;
            for other in others {
                other.await.expect("no panic").expect("its turn");
            }
            drop(reader);
            is_empty(&service, &["one", "two"]).await;
            end(service).await;
        });
    });
}

#[test]
fn a_shard_begins_anew_under_its_clients() {
    // Goal: a commit of unknown outcome, done or not, while clients come and go: none hangs, and nothing is left.
    check(|| {
        block_on(async {
            let shards = ShardCount::new(2).expect("a power of two");
            let faults = Faults::default();
            let store = FaultyStore::new(MemoryStore::new([1; 16], shards, 1_000), faults.clone());
            let service = start(Arc::new(store)).await;
            faults.defer();
            let fault = if shuttle::rand::thread_rng().r#gen::<bool>() {
                Fault::UnknownApplied
            } else {
                Fault::UnknownNotApplied
            };
            let first = spawn_pair(&service, "k", "a");
            let second = spawn_pair(&service, "k", "b");
            let failing = spawn(async move { faults.fail_commits(1, fault) });
            for pair in [first, second] {
                // An error is an answer; what it left goes with its stream.
                let _ = pair.await.expect("no panic");
            }
            failing.await.expect("no panic");
            // The planned fault may not have come yet: this uses it up.
            let _ = pair(&service, "k", "c").await;
            until_settled(&service).await;
            end(service).await;
        });
    });
}

/// Waits until the shard of `k` answers a whole pair.
async fn until_settled(service: &Service) {
    while pair(service, "k", "d").await.is_err() {
        shuttle::future::yield_now().await;
    }
}

#[test]
fn a_disk_that_fails_answers_everybody() {
    // Goal: the committer ends in the middle; whoever asked before, at that moment or later gets an answer.
    check(|| {
        block_on(async {
            let shards = ShardCount::new(2).expect("a power of two");
            let disk = Arc::new(Memory::with_syncs(u64::MAX));
            let store = FileStore::open_on(Arc::<Memory>::clone(&disk), [1; 16], shards, 1_000).expect("a new store");
            let store = Arc::new(store);
            let failed = store.failed();
            let mut asked = Vec::new();
            disk.limit(shuttle::rand::thread_rng().gen_range(0..4));
            for shard in [0, 1, 0] {
                let store = Arc::clone(&store);
                asked.push(spawn(async move { while store.take(shard).await.is_ok() {} }));
            }
            for asked in asked {
                asked.await.expect("no panic");
            }
            assert!(failed.await.contains("does not sync"));
        });
    });
}
