//! What the client promises over either transport; the module around it says which.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ticketlock::ServerConfig;
use ticketlock::grpc::Server;
use ticketlock::service::{IdSource, unix_seconds};
use ticketlock::store::{FileStore, MemoryStore, Store};
use ticketlock_client::{
    Client, ForceUnlockResult, Guard, GuardEvent, LockEventKind, LostReason, OnDisconnect, Outcome, OutcomeStatus,
    SameOwner, State, Unlocked, Watch, WatchChange,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::cuttable::cuttable;

/// The suite is loaded once for each transport, under its name.
fn plain() -> bool {
    module_path!().contains("plain")
}

/// Starts a server in this runtime.
async fn serve() -> SocketAddr {
    let store = MemoryStore::new([1; 16], ServerConfig::default().shards, unix_seconds());
    serve_on(Arc::new(store)).await.0
}

/// Starts a server on this store, and what ends as it does.
async fn serve_on(store: Arc<dyn Store>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = Server::start(store, ServerConfig::default(), IdSource::system())
        .await
        .expect("it starts");
    let running = tokio::spawn(async move {
        let served = server.run(listener, None, std::future::pending());
        served.await.expect("it serves");
    });
    (address, running)
}

/// The store in `dir`.
fn stored(dir: &Path) -> Arc<dyn Store> {
    let store = FileStore::open(dir, [1; 16], ServerConfig::default().shards, unix_seconds());
    Arc::new(store.expect("a store"))
}

async fn client(address: SocketAddr, owner: &str) -> Client {
    Client::builder()
        .endpoint(format!("http://{address}"))
        .owner(owner)
        .plain_streams(plain())
        .connect()
        .await
        .expect("connected")
}

/// Waits for an event of a watch.
async fn until(events: &mut Watch, kind: LockEventKind, owner: &str) {
    loop {
        let event = events.next().await.expect("the watch goes on").expect("an event");
        if matches!(event.change, WatchChange::Changed(it) if it.kind == kind && it.owner == owner) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_is_held_until_it_is_given_back() {
    let address = serve().await;
    let (first, second) = (client(address, "first").await, client(address, "second").await);
    let guard = first.lock("k").await.expect("granted");
    guard.confirmed().await.expect("confirmed");
    assert!(guard.is_held() && guard.state() == State::Locked);
    assert!(guard.valid_for() > Duration::from_secs(28), "30 s less 2 %");
    let error = second.try_lock("k").await.expect_err("held");
    assert_eq!(error.reason(), "WOULD_WAIT");
    assert!(error.is_retryable() && error.has_no_side_effects());
    let token = guard.fencing_token();
    let mut events = first.watch("k").await.expect("a watch");
    let asking = second.clone();
    let waiting = tokio::spawn(async move { asking.lock("k").await });
    until(&mut events, LockEventKind::Queued, "second").await;
    let given = guard.unlock(Outcome::failure("half done")).await.expect("answered");
    assert_eq!(given, Unlocked::Unlocked);
    let guard = waiting.await.expect("no panic").expect("its turn");
    assert!(guard.fencing_token() > token);
    assert_eq!(guard.previous_outcome().status, OutcomeStatus::Failure);
    assert_eq!(guard.previous_outcome().note, "half done");
    let tried = second.try_lock("free").await.expect("free");
    assert!(tried.is_held(), "a try's grant counts from its call");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_lease_is_renewed() {
    let address = serve().await;
    let client = client(address, "me").await;
    let guard = client.lock("k").ttl(Duration::from_millis(300)).await.expect("granted");
    guard.confirmed().await.expect("confirmed");
    let held = tokio::time::timeout(Duration::from_millis(1500), guard.lost()).await;
    assert!(held.is_err(), "five leases later it is held still");
    assert!(guard.is_held());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_lock_leaves_the_line() {
    let address = serve().await;
    let (holder, waiter) = (client(address, "holder").await, client(address, "waiter").await);
    let guard = holder.lock("k").await.expect("granted");
    let mut events = holder.watch("k").await.expect("a watch");
    let asked = waiter.clone();
    let waiting = tokio::spawn(async move { asked.lock("k").await });
    until(&mut events, LockEventKind::Queued, "waiter").await;
    waiting.abort();
    until(&mut events, LockEventKind::Left, "waiter").await;
    waiter.flush().await;
    assert_eq!(holder.get("k").await.expect("answered").waiters_total, 0);
    drop(guard);
    until(&mut events, LockEventKind::Released, "holder").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_is_told_with_its_reason() {
    let address = serve().await;
    let client = client(address, "me").await;
    let guard = client.lock("k").await.expect("granted");
    guard.confirmed().await.expect("confirmed");
    let forced = client
        .force_unlock("k", guard.fencing_token(), "maintenance", "ops")
        .await
        .expect("answered");
    assert_eq!(forced, ForceUnlockResult::Revoked { owner: "me".to_owned() });
    let reason = guard.lost().await;
    let expected = LostReason::Revoked {
        by: "ops".to_owned(),
        message: "maintenance".to_owned(),
    };
    assert_eq!(reason, expected);
    assert!(!guard.is_held() && guard.state() == State::Unlocked);
    assert_eq!(
        guard.unlock(Outcome::success()).await.expect("known"),
        Unlocked::AlreadyLost(expected)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn more_locks_than_a_connection_has_streams() {
    let address = serve().await;
    let client = client(address, "me").await;
    let mut guards = Vec::new();
    for number in 0..500 {
        guards.push(client.lock(format!("many/{number:03}")).await.expect("granted"));
    }
    for guard in &guards {
        guard.confirmed().await.expect("confirmed");
    }
    assert_eq!(client.list("many/").await.expect("answered").len(), 500);
    drop(guards);
    client.flush().await;
    assert!(client.list("many/").await.expect("answered").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn same_owner_and_shared_and_permits() {
    let address = serve().await;
    let client = client(address, "me").await;
    let first = client.lock("re").await.expect("granted");
    let again = client.lock("re").same_owner(SameOwner::Reenter).await.expect("joined");
    assert_eq!(first.fencing_token(), again.fencing_token());
    let error = client
        .lock("re")
        .same_owner(SameOwner::Refuse)
        .await
        .expect_err("refused");
    assert_eq!(error.reason(), "LOCK_BY_SELF");
    let _one = client.lock("shared").shared().await.expect("granted");
    let _two = client.lock("shared").shared().await.expect("granted beside it");
    let _three = client.lock("permits").permits(3, 4).await.expect("granted");
    let error = client
        .lock("permits")
        .permits(2, 4)
        .no_wait()
        .await
        .expect_err("only one is left");
    assert_eq!(error.reason(), "WOULD_WAIT");
}

async fn until_cut_off(guard: &Guard) {
    while guard.is_held() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_with_a_grace_survives_a_cut_connection() {
    let address = serve().await;
    let (way, cut) = cuttable(address).await;
    let (near, far) = (client(way, "me").await, client(address, "watcher").await);
    let guard = near.lock("k").await.expect("granted");
    guard.confirmed().await.expect("confirmed");
    let token = guard.fencing_token();
    let mut events = guard.events();
    cut.send_replace(true);
    assert_eq!(events.next().await, Some(GuardEvent::Suspended));
    assert_eq!(
        guard.is_held(),
        !plain(),
        "on a session the promise and the grace go on"
    );
    cut.send_replace(false);
    assert_eq!(events.next().await, Some(GuardEvent::Resumed));
    assert!(guard.is_held());
    let info = far.get("k").await.expect("answered");
    assert_eq!(info.holders.first().map(|it| it.fencing_token), Some(token));
    assert_eq!(
        guard.unlock(Outcome::success()).await.expect("answered"),
        Unlocked::Unlocked
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_in_line_survives_a_cut_connection_and_the_cut_is_told() {
    let address = serve().await;
    let (way, cut) = cuttable(address).await;
    let (near, far) = (client(way, "me").await, client(address, "holder").await);
    let guard = far.lock("k").await.expect("granted");
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let suspended = tell.clone();
    let asking = near
        .lock("k")
        .on_queued(move |queued| tell.send(Some(queued.ticket)).unwrap_or_default())
        .on_suspended(move || suspended.send(None).unwrap_or_default());
    let waiting = tokio::spawn(asking.into_future());
    let ticket = told.recv().await.expect("told").expect("a ticket");
    let rival = tokio::spawn(far.lock("k").into_future());
    cut.send_replace(true);
    while told.recv().await.expect("told").is_some() {}
    cut.send_replace(false);
    assert_eq!(
        told.recv().await,
        Some(Some(ticket)),
        "in line again, told of one cut once"
    );
    guard.unlock(Outcome::success()).await.expect("answered");
    let mine = waiting.await.expect("no panic").expect("granted");
    let theirs = async { rival.await.expect("no panic").expect("granted").fencing_token() };
    let (token, unlocked) = (mine.fencing_token(), mine.unlock(Outcome::success()));
    assert_eq!(unlocked.await.expect("answered"), Unlocked::Unlocked);
    assert!(token < theirs.await, "the place was kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_without_a_grace_goes_with_its_connection() {
    let address = serve().await;
    let (way, cut) = cuttable(address).await;
    let near = client(way, "me").await;
    let guard = near
        .lock("k")
        .on_disconnect(OnDisconnect::Release)
        .await
        .expect("granted");
    guard.confirmed().await.expect("confirmed");
    cut.send_replace(true);
    until_cut_off(&guard).await;
    cut.send_replace(false);
    assert_eq!(guard.lost().await, LostReason::Disconnected);
    assert!(!guard.is_held());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_is_given_back_wherever_it_is_dropped() {
    let address = serve().await;
    let watcher = client(address, "watcher").await;
    let mut events = watcher.watch("").await.expect("a watch");
    // Outside any runtime: the future is driven by hand, and the client has a thread of its own.
    let outside = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let guard = runtime.block_on(async { client(address, "outside").await.lock("outside").await });
        drop(runtime);
        drop(guard.expect("granted"));
    });
    until(&mut events, LockEventKind::Released, "outside").await;
    outside.join().expect("no panic");
    // In a runtime that is torn down around it.
    let inside = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let guard = runtime.block_on(async {
            let lock = client(address, "inside")
                .await
                .lock("inside")
                .on_disconnect(OnDisconnect::Lease);
            lock.await.expect("granted")
        });
        drop(runtime);
        assert_eq!(guard.state(), State::Closed);
    });
    until(&mut events, LockEventKind::Released, "inside").await;
    inside.join().expect("no panic");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_endpoint_is_used_where_one_is_dead() {
    let address = serve().await;
    let dead = TcpListener::bind("127.0.0.1:0")
        .await
        .and_then(|it| it.local_addr())
        .expect("a port");
    let endpoints = [format!("http://{dead}"), format!("http://{address}")];
    let client = Client::builder()
        .endpoints(endpoints)
        .connect()
        .await
        .expect("the second answers");
    assert!(client.health().await.expect("answered"));
    let error = Client::connect(format!("http://{dead}"))
        .await
        .expect_err("nobody there");
    assert!(error.is_unavailable() && error.has_no_side_effects() && error.is_retryable());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_server_hands_over_to_the_next_endpoint() {
    let dir = tempfile::tempdir().expect("a directory");
    let (old, ended) = serve_on(stored(dir.path())).await;
    // The next server's way is there before it is.
    let next = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = next.local_addr().expect("an address");
    let builder = |owner: &str| {
        let builder = Client::builder().owner(owner).plain_streams(plain());
        builder.endpoints([format!("http://{old}"), format!("http://{address}")])
    };
    let holder = builder("holder").connect().await.expect("connected");
    let guard = holder.lock("k").await.expect("granted");
    guard.confirmed().await.expect("confirmed");
    let mut heard = guard.events();
    let waiters = [
        builder("first").connect().await.expect("connected"),
        builder("second").connect().await.expect("connected"),
    ];
    let mut waiting = Vec::new();
    let mut events = holder.watch("k").await.expect("a watch");
    for (waiter, owner) in waiters.iter().zip(["first", "second"]) {
        let waiter = waiter.clone();
        waiting.push(tokio::spawn(async move { waiter.lock("k").await }));
        until(&mut events, LockEventKind::Queued, owner).await;
    }
    let operator = client(old, "operator").await;
    assert!(operator.drain("moving", "ops").await.expect("answered"), "all is kept");
    ended.await.expect("no panic");
    let server = Server::start(stored(dir.path()), ServerConfig::default(), IdSource::system());
    let server = server.await.expect("it starts");
    tokio::spawn(async move { server.run(next, None, std::future::pending()).await });
    while heard.next().await != Some(GuardEvent::Resumed) {}
    assert!(guard.is_held());
    let info = holder.get("k").await.expect("answered");
    assert_eq!(
        info.holders.first().map(|it| it.fencing_token),
        Some(guard.fencing_token())
    );
    drop(guard);
    let mut tokens = Vec::new();
    for waiting in waiting {
        tokens.push(waiting.await.expect("no panic").expect("its turn").fencing_token());
    }
    assert!(tokens.is_sorted(), "in order: {tokens:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_counted_than_max_hold_leaves() {
    let address = serve().await;
    let client = client(address, "me").await;
    let asked = Instant::now();
    let lock = client
        .lock("k")
        .ttl(Duration::from_millis(800))
        .max_hold(Duration::from_millis(1500));
    let guard = lock.await.expect("granted");
    guard.confirmed().await.expect("confirmed");
    let granted = Instant::now();
    let mut lost = std::pin::pin!(guard.lost());
    loop {
        let left = (granted + Duration::from_millis(1500)).saturating_duration_since(Instant::now());
        let counted = guard.valid_for();
        assert!(counted <= left, "{counted:?} of {left:?}");
        if tokio::time::timeout(Duration::from_millis(20), &mut lost).await.is_ok() {
            break;
        }
    }
    assert!(asked.elapsed() >= Duration::from_millis(1400), "renewed until then");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_client_has_given_everything_back() {
    let address = serve().await;
    let (closing, watcher) = (client(address, "closing").await, client(address, "watcher").await);
    let held = closing.lock("held").await.expect("granted");
    let tried = closing.try_lock("tried").await.expect("granted");
    let _other = watcher.lock("busy").await.expect("granted");
    let mut events = watcher.watch("busy").await.expect("a watch");
    let asking = closing.clone();
    let waiting = tokio::spawn(async move { asking.lock("busy").await });
    until(&mut events, LockEventKind::Queued, "closing").await;
    closing.close(Duration::from_secs(5)).await.expect("answered in time");
    let refused = waiting.await.expect("no panic").expect_err("closed");
    assert_eq!(refused.reason(), "CLOSED");
    for guard in [held, tried] {
        assert_eq!((guard.is_held(), guard.state()), (false, State::Closed));
    }
    let left = watcher.list("").await.expect("answered");
    let keys: Vec<_> = left.iter().map(|it| (&*it.key, it.waiters_total)).collect();
    assert_eq!(keys, [("busy", 0)]);
    for error in [
        closing.lock("more").await.expect_err("closed"),
        closing.try_lock("more").await.expect_err("closed"),
    ] {
        assert_eq!(error.reason(), "CLOSED");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_may_be_concluded() {
    let address = serve().await;
    let client = client(address, "me").await;
    let error = client.lock("").await.expect_err("no key");
    assert_eq!(error.reason(), "INVALID_KEY");
    assert!(!error.is_retryable() && error.has_no_side_effects());
    let error = client.try_lock("k").ttl(Duration::ZERO).await.expect_err("no ttl");
    assert_eq!(error.reason(), "INVALID_TTL");
    fn is_send<T: Send + 'static>(_: &T) {}
    is_send(&client.lock("k").await.expect("granted"));
}
