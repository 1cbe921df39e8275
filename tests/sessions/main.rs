//! Goal: what a client's session promises under load and under cuts: nothing is left behind, nothing is lost within its
//! grace, nobody overlaps. `make soak` and `make torture` run the same for longer (`TICKETLOCK_SOAK`, `TICKETLOCK_CUTS`).

#![expect(clippy::expect_used, clippy::print_stderr, reason = "tests")]

mod world;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use ticketlock_client::{Client, Error, Guard, OnDisconnect, Outcome, Unlocked, blocking};
use tokio::task::JoinSet;
use world::{World, number_from};

/// Polls a future so many times, then drops it; `None` where it had not come to its end.
async fn polled<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Goal: a `lock()` future that is dropped at any of its await points, free key or contended, leaves nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_lock_leaves_nothing() {
    let world = World::start().await;
    let client = world.client("dropping").await;
    for contended in [false, true] {
        let mut finished = 0;
        for times in 0..12 {
            let holder = if contended {
                Some(world.client("holder").await.lock("k").await.expect("free"))
            } else {
                None
            };
            let lock = client.lock("k").into_future();
            let polling = tokio::spawn(polled(lock, times));
            if let Some(holder) = holder {
                holder.unlock(Outcome::default()).await.expect("answered");
            }
            if let Some(Ok(guard)) = polling.await.expect("no panic") {
                drop(guard);
                finished += 1;
            }
            client.flush().await;
            world.until_empty().await;
        }
        assert!(finished > 0, "some of them came to their end");
    }
}

/// Goal: 10,000 locks of one client are kept over many leases by heartbeats alone: the way up stays quiet, none is lost.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_locks_are_kept_by_heartbeats() {
    const LOCKS: usize = 10_000;
    let leases = number_from("TICKETLOCK_SOAK", 3);
    let ttl = Duration::from_millis(1_500);
    let world = World::start().await;
    let (way, cut, bytes) = world.way().await;
    let (client, clock) = (world.client_over(way, "many").await, world.client("clock").await);
    let mut tasks = JoinSet::new();
    for number in 0..LOCKS {
        let lock = client.lock(format!("many/{number}")).ttl(ttl);
        tasks.spawn(async move { lock.await });
    }
    let mut guards = Vec::new();
    while let Some(guard) = tasks.join_next().await {
        guards.push(guard.expect("no panic").expect("granted"));
    }
    let before = bytes.load(Ordering::Relaxed);
    for _ in 0..=leases {
        // A lease that nobody renews is the clock: whoever comes next waits until it has ended.
        let lease = clock.lock("clock").on_disconnect(OnDisconnect::Lease).ttl(ttl).await;
        lease.expect("its turn").detach().await.expect("left to its lease");
        assert!(guards.iter().all(Guard::is_held), "held for certain, all of them");
    }
    // A heartbeat is about twenty bytes, three to a lease; a renewal of each lock would be megabytes.
    let sent = bytes.load(Ordering::Relaxed) - before;
    let most = 2_000 * (leases + 1);
    eprintln!("{LOCKS} locks over {leases} leases: {sent} bytes sent");
    assert!(
        sent < most,
        "{sent} bytes in {leases} leases, at most {most} were expected"
    );
    client.close(Duration::from_secs(20)).await.expect("all given back");
    assert!(guards.iter().all(|guard| !guard.is_held()));
    assert!(matches!(client.lock("one more").await, Err(Error::Closed)));
    drop(cut);
    world.until_empty().await;
}

/// Goal: while the connection is cut again and again under load, no hold with a grace is lost, no two hold one key, and
/// in the end nothing is left.
#[tokio::test(flavor = "multi_thread")]
async fn cuts_under_load_lose_nothing() {
    const KEYS: usize = 4;
    let cuts = number_from("TICKETLOCK_CUTS", 50);
    let world = World::start().await;
    let (way, cut, _) = world.way().await;
    let holders: Arc<Vec<AtomicU64>> = Arc::new((0..KEYS).map(|_| AtomicU64::new(0)).collect());
    let (pairs, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut workers = JoinSet::new();
    for worker in 1..=12_u64 {
        // Half of them come over the way that is cut.
        let client = if worker % 2 == 0 {
            world.client_over(way, &format!("cut {worker}")).await
        } else {
            world.client(&format!("uncut {worker}")).await
        };
        let (holders, pairs, stop) = (Arc::clone(&holders), Arc::clone(&pairs), Arc::clone(&stop));
        workers.spawn(async move { work(client, worker, &holders, &pairs, &stop).await });
    }
    for round in 0..cuts {
        let done = pairs.load(Ordering::Relaxed);
        while pairs.load(Ordering::Relaxed) < done + 20 {
            tokio::task::yield_now().await;
        }
        cut.send_replace(true);
        cut.send_replace(false);
        if round % 100 == 99 {
            eprintln!("{} cuts", round + 1);
        }
    }
    stop.store(1, Ordering::Relaxed);
    while let Some(worker) = workers.join_next().await {
        worker.expect("no panic, no overlap, nothing lost");
    }
    eprintln!("{cuts} cuts, {} pairs", pairs.load(Ordering::Relaxed));
    world.until_empty().await;
}

/// Locks and unlocks until it is told to stop; panics where two hold one key, or a lock is lost.
async fn work(client: Client, worker: u64, holders: &[AtomicU64], pairs: &AtomicUsize, stop: &AtomicUsize) {
    for (holder, key) in holders.iter().zip(0..).cycle() {
        if stop.load(Ordering::Relaxed) > 0 {
            break;
        }
        let lock = client
            .lock(format!("k{key}"))
            .on_disconnect(OnDisconnect::Grace(Duration::from_secs(60)));
        let guard = match lock.await {
            Ok(guard) => guard,
            // A request that began while the way was cut.
            Err(error) if error.is_retryable() => continue,
            Err(error) => panic!("worker {worker}: {error}"),
        };
        let before = holder.swap(worker, Ordering::SeqCst);
        assert_eq!(before, 0, "worker {worker} was granted what {before} holds");
        tokio::task::yield_now().await;
        let after = holder.swap(0, Ordering::SeqCst);
        assert_eq!(after, worker, "{after} was granted what worker {worker} holds");
        let given = guard.unlock(Outcome::default()).await.expect("answered");
        assert_eq!(given, Unlocked::Unlocked, "worker {worker}");
        pairs.fetch_add(1, Ordering::Relaxed);
    }
    client.close(Duration::from_secs(30)).await.expect("all given back");
}

/// Goal: several keys are taken in order whatever order they are named in, work is stopped when its lock is lost, and a
/// program without a runtime has the same locks.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_of_single_locks() {
    let world = World::start().await;
    let (one, two) = (world.client("one").await, world.client("two").await);
    let keys = |client: &Client, keys: [&'static str; 2]| {
        let client = client.clone();
        tokio::spawn(async move {
            for _ in 0..50 {
                let guards = client.lock_many(keys, |lock| lock).await.expect("no deadlock");
                assert!(
                    guards.first().map(Guard::key) < guards.last().map(Guard::key),
                    "in order"
                );
            }
        })
    };
    let (first, second) = (keys(&one, ["a", "b"]), keys(&two, ["b", "a"]));
    first.await.expect("no panic");
    second.await.expect("no panic");
    let value = one
        .with_lock(one.lock("w"), async |guard| guard.fencing_token())
        .await
        .expect("held");
    assert!(value > 0);
    let stopped = one
        .with_lock(one.lock("w"), async |guard| {
            let token = guard.fencing_token();
            two.force_unlock("w", token, "test", "test").await.expect("answered");
            std::future::pending::<()>().await;
        })
        .await;
    assert!(matches!(stopped, Err(Error::Lost(_))), "{stopped:?}");
    let endpoint = world.endpoint();
    let blocking = std::thread::spawn(move || {
        let client = blocking::Client::connect(endpoint).expect("connected");
        let guard = client
            .lock("blocking", |lock| lock.ttl(Duration::from_secs(10)))
            .expect("free");
        assert!(guard.is_held());
        assert!(client.try_lock("blocking", |lock| lock).is_err());
        guard.unlock(Outcome::success()).expect("answered");
        client.flush();
    });
    tokio::task::spawn_blocking(move || blocking.join().expect("no panic"))
        .await
        .expect("joined");
    one.flush().await;
    world.until_empty().await;
}
