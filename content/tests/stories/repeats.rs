//! What a repeated request leaves behind: one grant, and no ticket besides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ticketlock::ServerConfig;
use ticketlock::store::Faults;
use ticketlock::store::faulty::Fault;
use ticketlock_content::client::Outcome;
use ticketlock_content::{ClientConfig, Cluster, Error};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::world::{PATIENCE, World, listen};

/// Longer than a client goes back to its ticket by itself after a cut, which is 10 s.
const AWAY: Duration = Duration::from_millis(10_500);

/// Times that a ticket is kept and given back.
const ROUNDS: usize = 10;

/// Found in what a client sends.
const KEY: &str = "a key that is found again";

/// Quick to try again.
fn config(url: &str) -> ClientConfig {
    ClientConfig {
        max_retries: 10_000,
        retry_interval: Duration::from_millis(5),
        ..ClientConfig::new(url, "node-a")
    }
}

/// Nobody holds or waits, or so many do.
async fn check(world: &World, holders: u64, waiters: u64, what: &str) {
    let info = world.client().await.get(KEY).await.expect("answered");
    assert_eq!(
        (info.holders_total, info.waiters_total),
        (holders, waiters),
        "{what}: {info:?}"
    );
}

/// Takes the lock, and looks whether it is all that there is.
async fn take_once(world: &World, cluster: &Cluster, what: &str) {
    let locked = tokio::time::timeout(PATIENCE, cluster.lock(KEY)).await;
    let guard = locked.expect("in time").expect(what);
    assert!(guard.is_held(), "{what}");
    check(world, 1, 0, what).await;
    guard.unlock(Outcome::success()).await.expect("given back");
    check(world, 0, 0, what).await;
}

/// Goal: the store fails a request that it has kept, that it has not kept, or that it says it has not: each is repeated,
/// and takes one grant; the ticket that was kept is given back, and ends neither the repeat nor anybody's patience. Without
/// retries, too, nothing is left.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_leaves_no_second_ticket() {
    let faults = Faults::default();
    let world = World::with(ServerConfig::default(), faults.clone()).await;
    let cluster = Cluster::new(config(&world.url)).expect("valid");
    let once = ClientConfig {
        max_retries: 0,
        ..config(&world.url)
    };
    let once = Cluster::new(once).expect("valid");
    for fault in [Fault::UnknownApplied, Fault::UnknownNotApplied, Fault::Unavailable] {
        for failures in [1, 3] {
            faults.fail_commits(failures, fault);
            take_once(&world, &cluster, &format!("{failures} times {fault:?}")).await;
        }
        faults.fail_commits(1, fault);
        let Err(Error::Lock { attempts, source, .. }) = once.lock(KEY).await else {
            panic!("{fault:?}: granted, though its store failed")
        };
        assert_eq!((attempts, source.reason()), (1, "STORE_UNAVAILABLE"));
        // Order: behind whatever it left, if it is not given back.
        take_once(&world, &cluster, &format!("after {fault:?} without a retry")).await;
    }
}

/// Goal: a ticket that was kept, in line, by a store that could not say so is given back, and the repeat waits in its
/// stead: whoever holds gives way to it, and to nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_ticket_is_given_back() {
    let faults = Faults::default();
    let world = World::with(ServerConfig::default(), faults.clone()).await;
    let client = world.client().await;
    let cluster = Arc::new(Cluster::new(config(&world.url)).expect("valid"));
    for round in 0..ROUNDS {
        let holder = client.lock(KEY).await.expect("granted");
        let takes = faults.takes_seen();
        faults.fail_commits(1, Fault::UnknownApplied);
        let asking = Arc::clone(&cluster);
        let waiting = tokio::spawn(async move { asking.lock(KEY).await });
        let known = tokio::time::timeout(PATIENCE, faults.until_takes(takes + 1));
        known.await.expect("the store is asked what it kept");
        // The ticket that was kept or its repeat: the holder gives way while one goes and the other comes.
        world.until_waiting(KEY, 1).await;
        holder.unlock(Outcome::success()).await.expect("given back");
        let guard = tokio::time::timeout(PATIENCE, waiting).await.expect("in time");
        let guard = guard.expect("no panic").expect("granted");
        check(&world, 1, 0, &format!("granted in round {round}")).await;
        guard.unlock(Outcome::success()).await.expect("given back");
        check(&world, 0, 0, "given back").await;
    }
}

/// Passes connections on to `server`. When `cut` is rung, the first one goes silent: its client's side is closed, and its
/// server's side is kept until the end. For as long as [`AWAY`], every further client is turned away; then one is passed on,
/// and `asked` is rung when it has asked for the key.
async fn pass_on(listener: TcpListener, server: String, cut: oneshot::Receiver<()>, asked: oneshot::Sender<()>) {
    let (mut client, _) = listener.accept().await.expect("a client");
    let mut silent = TcpStream::connect(&server).await.expect("the server");
    tokio::select! {
        biased;
        _ = cut => {}
        ended = copy_bidirectional(&mut client, &mut silent) => panic!("too early: {ended:?}"),
    }
    drop(client);
    let begun = Instant::now();
    let mut away = true;
    while away {
        // Order: the last one that is turned away comes after that time, so that its client gives the attempt up.
        away = begun.elapsed() < AWAY;
        drop(listener.accept().await.expect("a client"));
    }
    let (client, _) = listener.accept().await.expect("a client");
    let (mut from_client, mut to_client) = client.into_split();
    let way = TcpStream::connect(server).await.expect("the server");
    let (mut from_server, mut to_server) = way.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let (mut said, mut asked) = (Vec::new(), Some(asked));
    while from_client.read_buf(&mut said).await.is_ok_and(|length| length > 0) {
        to_server.write_all(&said).await.expect("sent");
        if said.windows(KEY.len()).any(|it| it == KEY.as_bytes())
            && let Some(asked) = asked.take()
        {
            asked.send(()).expect("the test waits");
        }
        said.clear();
    }
    drop(silent);
}

/// Goal: a request whose way to the server was silent for longer than its client bears is repeated under its id: it comes
/// back to its ticket, waits behind nobody but who came before, and takes one grant.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_comes_back_to_its_ticket() {
    let silence = ServerConfig {
        // The server finds out about the silence long after.
        keepalive_interval: PATIENCE,
        ..ServerConfig::default()
    };
    let world = World::with(silence, Faults::default()).await;
    let (listener, address) = listen().await;
    let ((cut, rung), (asked, back)) = (oneshot::channel(), oneshot::channel());
    let server = world.url.trim_start_matches("http://").to_owned();
    tokio::spawn(pass_on(listener, server, rung, asked));

    let client = world.client().await;
    let holder = client.lock(KEY).await.expect("granted");
    let cluster = Cluster::new(config(&format!("http://{address}"))).expect("valid");
    let waiting = tokio::spawn(async move { cluster.lock(KEY).await });
    world.until_waiting(KEY, 1).await;
    let info = client.get(KEY).await.expect("answered");
    let ticket = info.waiters.first().expect("it waits").ticket;
    cut.send(()).expect("it listens");
    tokio::time::timeout(PATIENCE, back)
        .await
        .expect("in time")
        .expect("it asks again");
    holder.unlock(Outcome::success()).await.expect("given back");
    let guard = tokio::time::timeout(PATIENCE, waiting).await.expect("in time");
    let guard = guard.expect("no panic").expect("granted");
    assert_eq!(
        guard.ticket(),
        ticket,
        "left: what it was granted, right: where it waited"
    );
    check(&world, 1, 0, "granted").await;
    guard.unlock(Outcome::success()).await.expect("given back");
    check(&world, 0, 0, "given back").await;
}
