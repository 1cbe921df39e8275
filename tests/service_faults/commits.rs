//! Commits that are late, fail or lie.

use super::*;

/// Remembers what happened, in order.
#[derive(Default)]
struct Diary(Mutex<Vec<Happening>>);

impl Observer for Diary {
    fn happened(&self, _: u32, happening: &Happening) {
        self.0.lock().expect("nobody panicked").push(happening.clone());
    }
}

/// No event, reply, read or happening is seen before the commit that it follows from (G1).
#[tokio::test(start_paused = true)]
async fn nothing_leaves_before_its_commit() {
    let diary = Arc::new(Diary::default());
    let world = world_with(ServerConfig::default(), Arc::clone(&diary) as Arc<dyn Observer>).await;
    let shard = world.shard_of("k");
    world.faults.hold(shard);
    let mut lock = pin!(world.lock("k", "a", 1));
    assert!(poll_once(lock.as_mut()).is_pending());
    let mut read = pin!(world.get("k"));
    assert!(poll_once(read.as_mut()).is_pending(), "a read waits for what it saw");
    assert_eq!(world.faults.held(), [shard]);
    assert!(diary.0.lock().expect("nobody panicked").is_empty());
    world.faults.release_all();
    let mut stream = lock.await;
    let token = granted(&mut stream).await.token;
    assert_eq!(read.await.holders.first().map(|holder| holder.token), Some(token));
}

/// Steps applied while a commit is in flight go into one further commit, and leave in their order.
#[tokio::test(start_paused = true)]
async fn commands_in_flight_share_a_commit_and_keep_their_order() {
    let diary = Arc::new(Diary::default());
    let world = world_with(ServerConfig::default(), Arc::clone(&diary) as Arc<dyn Observer>).await;
    let shard = world.shard_of("k");
    world.faults.hold(shard);
    let owners: Vec<String> = (0..20).map(|number| format!("owner {number}")).collect();
    let mut locks: Vec<_> = owners.iter().map(|owner| Box::pin(world.lock("k", owner, 0))).collect();
    for lock in &mut locks {
        assert!(poll_once(lock.as_mut()).is_pending());
    }
    assert_eq!(world.faults.commits_seen(), 1, "one is in flight, the others wait");
    assert!(world.faults.release_one(shard, None));
    let mut first = locks.remove(0).await;
    granted(&mut first).await;
    world.faults.until_held(shard).await;
    assert_eq!(world.faults.commits_seen(), 2, "the other nineteen share the next");
    world.faults.release_all();
    let mut streams = Vec::new();
    for (position, lock) in locks.into_iter().enumerate() {
        let mut stream = lock.await;
        match event(&mut stream).await {
            Event::Queued(queued) => assert_eq!(queued.position, position as u64),
            other => panic!("{other:?}"),
        }
        streams.push(stream);
    }
    let seen: Vec<String> = diary
        .0
        .lock()
        .expect("nobody panicked")
        .iter()
        .map(|it| it.terms.owner.to_string())
        .collect();
    let mut seen_owners = seen;
    seen_owners.dedup();
    assert_eq!(seen_owners, owners);
}

/// A shard whose commit does not come back does not delay another one, and commits end in any order.
#[tokio::test(start_paused = true)]
async fn a_blocked_shard_delays_no_other() {
    let world = world().await;
    let other = world.elsewhere("k");
    world.faults.hold_all();
    let mut blocked = pin!(world.lock("k", "a", 1));
    assert!(poll_once(blocked.as_mut()).is_pending());
    let mut later = pin!(world.lock(&other, "a", 2));
    assert!(poll_once(later.as_mut()).is_pending());
    assert!(world.faults.release_one(world.shard_of(&other), None));
    granted(&mut later.await).await;
    assert!(poll_once(blocked.as_mut()).is_pending());
    world.faults.release_all();
    granted(&mut blocked.await).await;
}

/// A commit that was written though the store could not say so: the caller hears "unavailable", the lock is held by
/// its request alone, and a repeat gets it. Never two holders.
#[tokio::test(start_paused = true)]
async fn an_unknown_commit_that_was_written_still_holds() {
    let world = world().await;
    world.faults.fail_commits(1, Fault::UnknownApplied);
    let answer = world.service.lock(request("k", "a", 1), ended()).await;
    assert_eq!(answer.err(), Some(ServiceError::StoreUnavailable));
    world.until_ready().await;
    let mut rival = world.lock("k", "b", 2).await;
    assert!(matches!(event(&mut rival).await, Event::Queued(_)));
    let mut repeated = world.lock("k", "a", 1).await;
    let token = granted(&mut repeated).await.token;
    let view = world.get("k").await;
    assert_eq!(view.holders.len(), 1);
    assert_eq!(
        world.unlock("k", "a", token).await,
        Ok(UnlockReply::Released { claims: 0 })
    );
    assert!(granted(&mut rival).await.token > token);
}

/// A commit that was not written: the lock is free for whoever comes, with a greater token than any told before.
#[tokio::test(start_paused = true)]
async fn an_unknown_commit_that_was_not_written_is_gone() {
    for fault in [Fault::UnknownNotApplied, Fault::Unavailable] {
        let world = world().await;
        let mut before = world.lock("k", "z", 9).await;
        let told = granted(&mut before).await.token;
        world.unlock("k", "z", told).await.expect("held");
        world.faults.fail_commits(1, fault);
        let answer = world.service.lock(request("k", "a", 1), ended()).await;
        assert_eq!(answer.err(), Some(ServiceError::StoreUnavailable));
        world.until_ready().await;
        assert!(world.get("k").await.holders.is_empty());
        assert!(granted(&mut world.lock("k", "b", 2).await).await.token > told);
    }
}

/// Live streams go on over a retake without their clients' help: the holder holds, the waiter is granted in turn.
#[tokio::test(start_paused = true)]
async fn live_streams_go_on_after_a_retake() {
    let world = world().await;
    let mut holder = world.lock("k", "a", 1).await;
    let token = granted(&mut holder).await.token;
    let mut waiter = world.lock("k", "b", 0).await;
    assert!(matches!(event(&mut waiter).await, Event::Queued(_)));
    world.faults.fail_takes(3, &StoreError::Unavailable("planted".into()));
    world.faults.fail_commits(1, Fault::UnknownNotApplied);
    assert_eq!(world.unlock("k", "a", token).await, Err(ServiceError::StoreUnavailable));
    assert_eq!(
        world.unlock("k", "a", token).await,
        Err(ServiceError::StoreUnavailable),
        "nothing is answered meanwhile"
    );
    assert!(world.service.ready().is_err());
    world.until_ready().await;
    assert_eq!(
        world.unlock("k", "a", token).await,
        Ok(UnlockReply::Released { claims: 0 })
    );
    loop {
        match event(&mut waiter).await {
            Event::Queued(_) => {}
            Event::Granted(granted) => break assert!(granted.token > token),
            other => panic!("{other:?}"),
        }
    }
}

/// A stream whose ticket the store no longer has ends with an error after a retake: here its unlock was written.
#[tokio::test(start_paused = true)]
async fn a_stream_without_its_ticket_ends() {
    let world = world().await;
    let mut holder = world.lock("k", "a", 1).await;
    let token = granted(&mut holder).await.token;
    world.faults.fail_commits(1, Fault::UnknownApplied);
    assert_eq!(world.unlock("k", "a", token).await, Err(ServiceError::StoreUnavailable));
    assert_eq!(holder.next().await, Some(Err(ServiceError::StoreUnavailable)));
    assert_eq!(holder.next().await, None);
    assert!(world.get("k").await.holders.is_empty());
}

/// Fenced: another one took the shard. It is told apart, and the shard is taken again.
#[tokio::test(start_paused = true)]
async fn a_fenced_shard_is_taken_again() {
    let world = world().await;
    world.faults.fail_commits(1, Fault::Fenced);
    let answer = world.service.try_lock(request("k", "a", 1)).await;
    assert_eq!(answer, Err(ServiceError::ShardMoved));
    world.until_ready().await;
    assert!(matches!(
        world.service.try_lock(request("k", "a", 1)).await,
        Ok(TryReply::Granted(_))
    ));
}

/// Q3: a client that goes while its `Lock` is in flight leaves no ticket behind, wherever it is cut off.
#[tokio::test(start_paused = true)]
async fn a_client_that_goes_mid_flight_leaves_nothing() {
    let world = world().await;
    let mut holder = world.lock("k", "a", 1).await;
    granted(&mut holder).await;
    world.faults.hold(world.shard_of("k"));
    {
        let mut lock = pin!(world.lock("k", "b", 2));
        assert!(poll_once(lock.as_mut()).is_pending());
    }
    world.faults.release_all();
    let view = world.get("k").await;
    assert_eq!((view.waiters_total, view.holders.len()), (0, 1));
    let waiter = world.lock("k", "c", 3).await;
    drop(waiter);
    assert_eq!(world.get("k").await.waiters_total, 0);
    drop(holder);
    assert!(world.get("k").await.holders.is_empty());
    assert_eq!(world.service.live_streams(), 0);
}

/// The same while the shard does not answer: the end is carried out when it does.
#[tokio::test(start_paused = true)]
async fn a_client_that_goes_while_the_shard_is_away_leaves_nothing() {
    let world = world().await;
    let mut holder = world.lock("k", "a", 1).await;
    granted(&mut holder).await;
    let waiter = world.lock("k", "b", 2).await;
    world.faults.fail_takes(1, &StoreError::Unavailable("planted".into()));
    world.faults.fail_commits(1, Fault::UnknownNotApplied);
    assert!(
        world.service.try_lock(request("k", "c", 0)).await.is_ok(),
        "a refusal changes nothing"
    );
    let third = world.service.lock(request("k", "c", 3), ended()).await;
    assert_eq!(third.err(), Some(ServiceError::StoreUnavailable));
    drop(waiter);
    drop(holder);
    world.until_ready().await;
    let view = world.get("k").await;
    assert_eq!((view.waiters_total, view.holders.len()), (0, 0));
}

/// A panic in the rules is answered with BUG; the shard begins anew, and nobody else loses anything.
#[tokio::test(start_paused = true)]
async fn a_panic_in_the_rules_stays_in_its_shard() {
    let config = ServerConfig {
        plant_panic_key: Some("bad".to_owned()),
        ..ServerConfig::default()
    };
    let world = world_with(config, Arc::new(NoObserver)).await;
    let shard = world.shard_of("bad");
    let mut names = (0..).map(|number| format!("near/{number}"));
    let near = names
        .find(|name| world.shard_of(name) == shard)
        .expect("there are four shards");
    let mut stream = world.lock(&near, "a", 1).await;
    let token = granted(&mut stream).await.token;
    assert_eq!(
        world.service.try_lock(request("bad", "a", 2)).await,
        Err(ServiceError::Bug)
    );
    world.until_ready().await;
    assert_eq!(
        world.unlock(&near, "a", token).await,
        Ok(UnlockReply::Released { claims: 0 })
    );
}

/// A lease that only the client renews ends by time, and its stream is told.
#[tokio::test(start_paused = true)]
async fn a_lease_ends_by_the_timer() {
    let world = world().await;
    let mut lease = request("k", "a", 1);
    Arc::make_mut(&mut lease.terms).on_disconnect = OnDisconnect::Lease;
    let mut stream = world.service.lock(lease, ended()).await.expect("accepted");
    let began = tokio::time::Instant::now();
    let token = granted(&mut stream).await.token;
    assert_eq!(
        event(&mut stream).await,
        Event::Lost {
            token,
            reason: LostReason::Expired
        }
    );
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(30) && took < Duration::from_secs(31),
        "{took:?}"
    );
    assert_eq!(stream.next().await, None);
}
