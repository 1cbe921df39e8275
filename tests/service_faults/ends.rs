//! How streams and servers end.

use super::*;

/// The next item that is not an event of a ticket.
async fn draining(stream: &mut LockStream) -> Duration {
    match stream.next().await {
        Some(Ok(LockItem::Draining { left })) => left,
        other => panic!("a drain was expected, not {other:?}"),
    }
}

/// A server that stops tells its streams: who waits ends at once, who holds may unlock before the end.
/// Reads a session until it is told that it holds.
async fn until_granted(session: &mut Session) {
    let mut told = false;
    while !told {
        let news = poll_fn(|context| {
            session.poll_news(context, |_, item| {
                told |= matches!(
                    item,
                    SessionItem::Lock {
                        event: Event::Granted(_),
                        ..
                    }
                );
            })
        });
        soon(news).await.expect("the session goes on");
    }
}

/// Goal: a grant that had to wait and is told again on another session is worth its acknowledgement time from then on,
/// also where the store answers at once.
#[tokio::test(start_paused = true)]
async fn a_grant_that_is_told_again_has_its_time_again() {
    let world = world().await;
    let mut holder = world.lock("k", "a", 1).await;
    let token = granted(&mut holder).await.token;
    let named = |owner: &str, id| LockRequest {
        terms: Arc::new(Terms {
            request_id: Some(RequestId([id; 16])),
            on_disconnect: OnDisconnect::Grace(Duration::from_secs(30)),
            ..Terms::exclusive("k", owner)
        }),
        ..request("k", owner, id)
    };
    let silent = || -> DetachProbe { Arc::new(|| DetachCause::Silent) };
    let mut session = world.service.session(silent());
    session.lock(1, named("b", 2));
    let mut next = world.lock("k", "c", 3).await;
    assert!(matches!(event(&mut next).await, Event::Queued(_)));
    world.unlock("k", "a", token).await.expect("it is held");
    until_granted(&mut session).await;
    drop(session);
    let ack = world.service.config().core.ack_timeout;
    tokio::time::advance(ack * 4 / 5).await;
    let mut again = world.service.session(silent());
    again.lock(
        1,
        LockRequest {
            attach_number: 1,
            ..named("b", 2)
        },
    );
    until_granted(&mut again).await;
    let told = tokio::time::Instant::now();
    granted(&mut next).await;
    assert!(told.elapsed() >= ack, "after {:?}", told.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_tells_its_streams() {
    let world = world().await;
    let mut holder = world.lock("k", "a", 1).await;
    let token = granted(&mut holder).await.token;
    let mut waiter = world.lock("k", "b", 2).await;
    assert!(matches!(event(&mut waiter).await, Event::Queued(_)));
    let mut shutdown = pin!(world.service.shutdown(Duration::from_secs(10)));
    assert!(poll_once(shutdown.as_mut()).is_pending());
    assert!(draining(&mut waiter).await <= Duration::from_secs(10));
    assert_eq!(waiter.next().await, Some(Err(ServiceError::Draining)));
    assert_eq!(waiter.next().await, None);
    drop(waiter);
    draining(&mut holder).await;
    let refused = world.service.lock(request("new", "c", 3), ended()).await;
    assert_eq!(refused.err(), Some(ServiceError::Draining));
    assert_eq!(
        world.service.try_lock(request("new", "c", 3)).await,
        Err(ServiceError::Draining)
    );
    assert_eq!(world.service.ready(), Err(vec!["draining".to_owned()]));
    assert_eq!(
        world.unlock("k", "a", token).await,
        Ok(UnlockReply::Released { claims: 0 })
    );
    assert_eq!(event(&mut holder).await, Event::Unlocked);
    let began = tokio::time::Instant::now();
    drop(holder);
    shutdown.await;
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "nobody is waited for any more"
    );
    assert_eq!(world.unlock("k", "a", token).await, Err(ServiceError::Draining));
}

/// A stream that never ends, and a commit that never comes back, do not hold a server beyond its bound.
#[tokio::test(start_paused = true)]
async fn a_server_stops_within_its_bound() {
    let world = world().await;
    let mut holder = world.lock("k", "a", 1).await;
    granted(&mut holder).await;
    let other = world.elsewhere("k");
    world.faults.hold(world.shard_of(&other));
    let mut stuck = pin!(world.service.try_lock(request(&other, "b", 2)));
    assert!(poll_once(stuck.as_mut()).is_pending());
    let mut watch = world.service.watch("".into()).expect("the server runs");
    let began = tokio::time::Instant::now();
    world.service.shutdown(Duration::from_secs(10)).await;
    let took = began.elapsed();
    assert!(took <= Duration::from_millis(10_010), "{took:?}");
    assert_eq!(stuck.await, Err(ServiceError::StoreUnavailable));
    draining(&mut holder).await;
    assert_eq!(holder.next().await, Some(Err(ServiceError::Draining)));
    loop {
        match watch.next().await {
            Some(Ok(_)) => {}
            other => break assert_eq!(other, Some(Err(ServiceError::Draining))),
        }
    }
}

/// Unread updates of a ticket replace each other, so that an outbox stays small whoever does not read.
#[tokio::test(start_paused = true)]
async fn an_unread_outbox_stays_small() {
    let world = world().await;
    let mut options = request("k", "a", 1);
    options.events = EventOptions {
        queue_updates: true,
        contended: true,
        expiring: true,
    };
    let mut holder = world.service.lock(options, ended()).await.expect("accepted");
    for round in 0..50 {
        let waiter = world.lock("k", "b", 0).await;
        tokio::time::advance(Duration::from_secs(2)).await;
        tokio::task::yield_now().await;
        drop(waiter);
        assert_eq!(world.get("k").await.waiters_total, 0, "round {round}");
    }
    world.service.shutdown(Duration::ZERO).await;
    let mut items = 0;
    while holder.next().await.is_some() {
        items += 1;
    }
    assert!(items <= 6, "{items} items");
}

/// The cause of a stream's end comes from who knows the connection: silence keeps the lease that a renewal promised.
#[tokio::test(start_paused = true)]
async fn silence_and_an_end_are_told_apart() {
    let world = world().await;
    let silent: DetachProbe = Arc::new(|| DetachCause::Silent);
    let mut stream = world
        .service
        .lock(request("silent", "a", 1), silent)
        .await
        .expect("accepted");
    world.renew("silent", "a", granted(&mut stream).await.token).await;
    drop(stream);
    assert_eq!(world.get("silent").await.holders.len(), 1);
    let mut stream = world.lock("ended", "a", 2).await;
    world.renew("ended", "a", granted(&mut stream).await.token).await;
    drop(stream);
    assert!(world.get("ended").await.holders.is_empty());
}

/// A page lists keys of all shards in byte order, and the next page goes on after the last.
#[tokio::test(start_paused = true)]
async fn pages_go_over_all_shards_in_byte_order() {
    let world = world().await;
    let mut streams = Vec::new();
    for number in 0..100 {
        streams.push(world.lock(&format!("p/{number:03}"), "a", 0).await);
    }
    streams.push(world.lock("q", "a", 0).await);
    let mut seen: Vec<String> = Vec::new();
    loop {
        let after = seen.last().cloned();
        let page = world
            .service
            .list("p/", after.as_deref(), 30, 1)
            .await
            .expect("the server runs");
        seen.extend(page.iter().map(|view| view.key.to_string()));
        if page.len() < 30 {
            break;
        }
    }
    let all: Vec<String> = (0..100).map(|number| format!("p/{number:03}")).collect();
    assert_eq!(seen, all);
}
