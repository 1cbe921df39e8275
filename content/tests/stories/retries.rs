//! The way to the lock server: retries, timeouts, one attempt, a wait without polling.

use std::time::Duration;

use ticketlock_content::client::Outcome;
use ticketlock_content::{ClientConfig, Cluster, Error, cluster_lock};

use crate::world::{PATIENCE, World, listen, serve};

/// Quick to try again.
fn config(url: &str, max_retries: u32) -> ClientConfig {
    ClientConfig {
        max_retries,
        retry_interval: Duration::from_millis(5),
        ..ClientConfig::new(url, "node-a")
    }
}

/// Goal: a server that is away is asked `max_retries` times more, and the error says how often and why.
#[tokio::test(flavor = "multi_thread")]
async fn retries_are_bounded() {
    let (listener, address) = listen().await;
    drop(listener);
    for max_retries in [0, 3] {
        let error = cluster_lock(config(&format!("http://{address}"), max_retries), "k").await;
        let Err(Error::Lock { attempts, source, .. }) = error else {
            panic!("nobody is there, and yet {error:?}");
        };
        assert_eq!(attempts, max_retries + 1);
        assert!(source.is_unavailable(), "{source}");
    }
}

/// Goal: a server that comes back in time is as good as one that was never away.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_is_found() {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        for _ in 0..2 {
            // Taken and cut at once.
            drop(listener.accept().await.expect("a client"));
        }
        serve(listener, None).await;
    });
    let cluster = Cluster::new(config(&format!("http://{address}"), 1_000)).expect("valid");
    let guard = tokio::time::timeout(PATIENCE, cluster.lock("k"))
        .await
        .expect("in time")
        .expect("granted");
    assert!(guard.is_held());
    assert_eq!((guard.owner(), guard.ticket() > 0), ("node-a", true));
    guard.unlock(Outcome::success()).await.expect("given back");
}

/// Goal: no call outlives `request_timeout`: not with a server that never answers, and not in line, which is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_ends_in_time() {
    let timed_out = |result: Result<_, Error>| match result {
        Err(Error::TimedOut { limit, .. }) => limit,
        other => panic!("{other:?}, not timed out"),
    };
    let short = |url: &str| ClientConfig {
        request_timeout: Duration::from_millis(300),
        ..config(url, 1_000)
    };
    let bounded = |config: ClientConfig, key: &'static str| async move {
        let asked = tokio::time::timeout(PATIENCE, cluster_lock(config, key));
        asked.await.expect("it ends by itself")
    };
    // Its connections are never accepted, so that nobody answers.
    let (silent, address) = listen().await;
    let limit = timed_out(bounded(short(&format!("http://{address}")), "k").await);
    assert_eq!(limit, Duration::from_millis(300));
    drop(silent);

    let world = World::new().await;
    let client = world.client().await;
    let guard = client.lock("k").await.expect("granted");
    timed_out(bounded(short(&world.url), "k").await);
    world.until_waiting("k", 0).await;
    guard.unlock(Outcome::success()).await.expect("given back");
    let guard = bounded(short(&world.url), "k").await;
    assert!(guard.expect("free, it is granted well in time").is_held());
}

/// Goal: one attempt answers at once and never queues.
#[tokio::test(flavor = "multi_thread")]
async fn one_attempt_never_queues() {
    let world = World::new().await;
    let cluster = Cluster::new(world.config("node-a")).expect("valid");
    let guard = cluster.try_lock_once("k").await.expect("answered").expect("free");
    assert!(guard.is_held());
    let other = Cluster::new(world.config("node-b")).expect("valid");
    assert!(other.try_lock_once("k").await.expect("answered").is_none());
    let info = world.client().await.get("k").await.expect("answered");
    assert_eq!((info.holders_total, info.waiters_total), (1, 0));
}

/// Goal: who waits makes no call meanwhile: one stream for the connection, and nothing more until the grant.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_asks_nothing() {
    let world = World::new().await;
    let calls = |lines: Vec<String>| -> Vec<String> {
        let unary =
            |line: &String| line.starts_with("ticketlock_request_seconds_count") && !line.contains("\"GetLock\"");
        lines.into_iter().filter(unary).collect()
    };
    let holder = Cluster::new(world.config("node-a")).expect("valid");
    let guard = holder.lock("k").await.expect("granted");
    let waiting = tokio::spawn(cluster_lock(world.config("node-b"), "k"));
    world.until_waiting("k", 1).await;
    let queued = calls(world.asked().await);
    assert!(
        queued
            .iter()
            .any(|line| line.contains("\"Session\"") && line.ends_with(" 2")),
        "{queued:?}"
    );
    guard.unlock(Outcome::success()).await.expect("given back");
    let guard = waiting.await.expect("no panic").expect("its turn");
    assert!(guard.is_held());
    assert_eq!(
        calls(world.asked().await),
        queued,
        "left: after the grant, right: in line"
    );
}

/// Goal: what can never work is refused before anything is sent, with the field's name.
#[test]
fn configurations_are_checked() {
    let valid = || ClientConfig::new("http://127.0.0.1:1", "node-a");
    let words = |config| Cluster::new(config).expect_err("refused").to_string();
    let mut config = valid();
    config.endpoints.clear();
    assert_eq!(words(config), "endpoints: none, expected at least 1");
    let config = ClientConfig::new("http://127.0.0.1:1", "x".repeat(257));
    assert_eq!(words(config), "node_id: 257 bytes, expected 1 to 256");
    let config = ClientConfig::new("http://127.0.0.1:1", "a\nb");
    assert_eq!(words(config), "node_id: a control character, expected none");
    let config = ClientConfig {
        request_timeout: Duration::ZERO,
        ..valid()
    };
    assert_eq!(words(config), "request_timeout: 0, expected more than 0");
}
