//! Goal: a server that is killed at any moment loses nothing that it acknowledged: no hold, no unlock, no place in line,
//! and no token comes twice. The real program with the file store, again and again; `make torture` does it for longer
//! (`TICKETLOCK_KILLS`).

#![expect(clippy::expect_used, clippy::print_stderr, reason = "tests")]

#[expect(dead_code, reason = "other test files need more of it")]
mod cli_server;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cli_server::Server;
use parking_lot::Mutex;
use ticketlock_client::{Client, Guard, LockBuilder, OnDisconnect, Outcome, Unlocked};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Keys that several clients want at once.
const HOT: usize = 4;
/// Clients that want them.
const RIVALS: usize = 16;
/// Clients with a key of their own.
const LONERS: usize = 32;
/// Those that wait in line from the first cycle to the last.
const LINE: usize = 20;
/// Longer than every restart takes.
const GRACE: Duration = Duration::from_secs(60);
/// Faults count only under load: grants a second.
const LOAD: f64 = 500.0;

/// What clients were told.
#[derive(Default)]
struct Seen {
    /// The highest token of each key.
    tokens: Mutex<HashMap<String, u64>>,
    /// Who holds, by key: from the grant until the unlock is sent.
    holds: Mutex<HashMap<String, u64>>,
    grants: AtomicU64,
    stopping: AtomicBool,
}

impl Seen {
    fn granted(&self, guard: &Guard) {
        let (key, token) = (guard.key().to_owned(), guard.fencing_token());
        let before = self.tokens.lock().insert(key.clone(), token);
        assert!(before < Some(token), "{key}: token {token} after {before:?}");
        let other = self.holds.lock().insert(key.clone(), token);
        assert_eq!(other, None, "{key}: {token} was granted while another holds");
        self.grants.fetch_add(1, Ordering::SeqCst);
    }

    async fn unlock(&self, guard: Guard) {
        let key = guard.key().to_owned();
        self.holds.lock().remove(&key);
        let unlocked = guard.unlock(Outcome::default()).await.expect("answered");
        assert_eq!(unlocked, Unlocked::Unlocked, "{key}: a hold was lost");
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}

fn asking(client: &Client, key: String) -> LockBuilder {
    client
        .lock(key)
        .ttl(Duration::from_secs(30))
        .on_disconnect(OnDisconnect::Grace(GRACE))
}

async fn client(endpoint: &str, owner: &str) -> Client {
    let builder = Client::builder().endpoint(endpoint).owner(owner);
    builder.connect().await.expect("connected")
}

/// Locks and unlocks until it is told to stop.
async fn work(client: Client, key: String, seen: Arc<Seen>) {
    while !seen.stopping() {
        match asking(&client, key.clone()).await {
            Ok(guard) => {
                seen.granted(&guard);
                tokio::task::yield_now().await;
                seen.unlock(guard).await;
            }
            // A request that began while the server was away.
            Err(error) if error.is_retryable() => {}
            Err(error) => panic!("{key}: {error}"),
        }
    }
    client.close(GRACE).await.expect("all given back");
}

/// Takes a place in line, one after the other, so that the order is known; who is granted when, is told at the end.
async fn line(endpoint: &str, seen: &Arc<Seen>) -> (JoinSet<()>, Arc<Mutex<Vec<usize>>>) {
    let (mut waiting, order) = (JoinSet::new(), Arc::new(Mutex::new(Vec::new())));
    for place in 0..LINE {
        let client = client(endpoint, &format!("line {place}")).await;
        let (seen, order, queued) = (Arc::clone(seen), Arc::clone(&order), Arc::new(Notify::new()));
        let told = Arc::clone(&queued);
        waiting.spawn(async move {
            let asked = asking(&client, "line".to_owned()).on_queued(move |_| told.notify_one());
            let guard = asked.await.expect("a place is kept over every restart");
            order.lock().push(place);
            seen.granted(&guard);
            seen.unlock(guard).await;
            client.close(GRACE).await.expect("all given back");
        });
        queued.notified().await;
    }
    (waiting, order)
}

/// One life of the server: under load for a while that differs from cycle to cycle.
async fn live(seen: &Seen, cycle: u64) {
    let before = seen.grants.load(Ordering::SeqCst);
    let begun = Instant::now();
    let least = Duration::from_millis(200 + cycle * 37 % 300);
    loop {
        tokio::task::yield_now().await;
        let granted = (seen.grants.load(Ordering::SeqCst) - before) as f64;
        if begun.elapsed() >= least && granted >= LOAD * begun.elapsed().as_secs_f64() {
            return;
        }
        assert!(begun.elapsed() < GRACE, "no load: {granted} grants");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_nothing() {
    let kills = std::env::var("TICKETLOCK_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20_u64);
    let dir = tempfile::tempdir().expect("a directory");
    let store = format!("file:{}", dir.path().display());
    let mut server = Server::with(&store, "127.0.0.1:0");
    let endpoint = server.endpoint.clone();
    let seen = Arc::new(Seen::default());

    let keeper = client(&endpoint, "keeper").await;
    let mut kept = Vec::new();
    for key in 0..20 {
        let guard = asking(&keeper, format!("kept {key}")).await.expect("free");
        seen.granted(&guard);
        kept.push(guard);
    }
    let first = asking(&keeper, "line".to_owned()).await.expect("free");
    seen.granted(&first);
    let (mut waiting, order) = line(&endpoint, &seen).await;
    let mut working = JoinSet::new();
    for worker in 0..RIVALS {
        let client = client(&endpoint, &format!("rival {worker}")).await;
        working.spawn(work(client, format!("hot {}", worker % HOT), Arc::clone(&seen)));
    }
    for worker in 0..LONERS {
        let client = client(&endpoint, &format!("loner {worker}")).await;
        working.spawn(work(client, format!("own {worker}"), Arc::clone(&seen)));
    }

    let begun = Instant::now();
    for cycle in 0..kills {
        live(&seen, cycle).await;
        server = server.killed_and_started(&store);
        if cycle % 50 == 49 {
            eprintln!("{} kills, {} grants", cycle + 1, seen.grants.load(Ordering::SeqCst));
        }
    }
    live(&seen, 0).await;
    let rate = seen.grants.load(Ordering::SeqCst) as f64 / begun.elapsed().as_secs_f64();

    // Holds that were acknowledged once are there still, under their tokens.
    for guard in &kept {
        assert!(guard.is_held(), "{} is not held any more", guard.key());
        let state = keeper.get(guard.key()).await.expect("answered");
        let tokens: Vec<u64> = state.holders.iter().map(|holder| holder.fencing_token).collect();
        assert_eq!(tokens, [guard.fencing_token()], "{}", guard.key());
    }
    // The line moves in the order in which places were taken.
    seen.unlock(first).await;
    while let Some(done) = waiting.join_next().await {
        done.expect("no panic");
    }
    assert_eq!(*order.lock(), (0..LINE).collect::<Vec<_>>());
    seen.stopping.store(true, Ordering::SeqCst);
    while let Some(done) = working.join_next().await {
        done.expect("no panic");
    }
    for guard in kept {
        seen.unlock(guard).await;
    }
    // Unlocks that were acknowledged have not come back.
    let left = keeper.list("").await.expect("answered");
    assert!(left.is_empty(), "left behind: {left:?}");
    eprintln!(
        "{kills} kills, {} grants ({rate:.0} a second, restarts included), 0 lost, 0 tokens twice",
        seen.grants.load(Ordering::SeqCst)
    );
}
