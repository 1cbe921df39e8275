//! Goal: a server that was killed with 100,000 locks in its store is ready again within two seconds, with all of them.

#![expect(clippy::expect_used, clippy::print_stderr, reason = "tests")]

#[expect(dead_code, reason = "other test files need more of it")]
mod cli_server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use cli_server::Server;
use ticketlock::ServerConfig;
use ticketlock::service::{Clock, IdSource, NoObserver, Service};
use ticketlock::store::FileStore;
use ticketlock_core::command::{LockRequest, TryReply};
use ticketlock_core::types::{EventOptions, OnDisconnect, Terms};
use tokio::task::JoinSet;

const LOCKS: usize = 100_000;
/// Tasks that take them, so that commits are shared.
const TASKS: usize = 500;
const READY_WITHIN: Duration = Duration::from_secs(2);

/// A LEASE lock, held by nobody's connection.
fn request(key: String) -> LockRequest {
    LockRequest {
        terms: Arc::new(Terms {
            on_disconnect: OnDisconnect::Lease,
            ..Terms::exclusive(key, "me")
        }),
        attach_number: 0,
        attach_only: false,
        stream: None,
        ttl: Duration::from_secs(600),
        events: EventOptions::default(),
    }
}

/// Takes all locks in this process, and leaves them as a killed server would: nothing is given back.
async fn take_all(dir: &std::path::Path) {
    let config = Arc::new(ServerConfig::default());
    let store = FileStore::open(dir, [1; 16], config.shards, 1_000).expect("a new store");
    let ids = IdSource::seeded(1);
    let service = Service::start(Arc::new(store), config, Clock::new(), ids, Arc::new(NoObserver));
    let service = service.await.expect("it starts");
    let mut tasks = JoinSet::new();
    for first in 0..TASKS {
        let service = service.clone();
        tasks.spawn(async move {
            for number in (first..LOCKS).step_by(TASKS) {
                let taken = service.try_lock(request(format!("locks/{number:06}"))).await;
                assert!(matches!(taken, Ok(TryReply::Granted(_))), "{taken:?}");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }
    service.shutdown(Duration::from_secs(10)).await;
}

#[test]
fn a_hundred_thousand_locks_are_back_in_two_seconds() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("store");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(take_all(&path));
    drop(runtime);
    let store = format!("file:{}", path.display());
    // Ended by a kill once, so that what is timed is a recovery and not a start after an end in good order.
    drop(Server::with(&store, "127.0.0.1:0"));
    let began = Instant::now();
    let server = Server::with(&store, "127.0.0.1:0");
    let took = began.elapsed();
    eprintln!("ready after {took:?}");
    let listed = server.run(&["ls", "locks/", "-o", "json"]);
    let lines = listed.stdout.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(lines, LOCKS, "all are held");
    assert!(took < READY_WITHIN, "ready after {took:?}");
}
