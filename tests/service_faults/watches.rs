//! Followers of keys.

use super::*;

/// Reads a watch until `count` shards have told their snapshots; returns the kinds, and whether a `Resync` was there.
async fn until_snapshots(watch: &mut WatchStream, count: usize) -> (Vec<KeyView>, bool) {
    let (mut views, mut resync, mut ends) = (Vec::new(), false, 0);
    while ends < count {
        match soon(watch.next())
            .await
            .expect("it goes on")
            .expect("the server runs")
            .kind
        {
            WatchKind::Snapshot(view) => views.push(view),
            WatchKind::SnapshotEnd => ends += 1,
            WatchKind::Resync => resync = true,
            WatchKind::Changed(_) => {}
        }
    }
    (views, resync)
}

/// A watch tells a snapshot of each shard, then what happens, in order.
#[tokio::test(start_paused = true)]
async fn a_watch_tells_what_is_and_what_happens() {
    let world = world().await;
    let mut before = world.lock("w/1", "a", 1).await;
    granted(&mut before).await;
    let mut watch = world.service.watch("w/".into()).expect("the server runs");
    let (views, resync) = until_snapshots(&mut watch, 4).await;
    assert!(!resync);
    assert_eq!(views.iter().map(|view| &*view.key).collect::<Vec<_>>(), ["w/1"]);
    let mut unseen = world.lock("elsewhere", "a", 2).await;
    granted(&mut unseen).await;
    let mut after = world.lock("w/2", "a", 3).await;
    granted(&mut after).await;
    let told = soon(watch.next()).await.expect("it goes on").expect("the server runs");
    match told.kind {
        WatchKind::Changed(happening) => assert_eq!(&*happening.terms.key, "w/2"),
        other => panic!("{other:?}"),
    }
}

/// A watcher that does not read never blocks a shard; it hears `Resync` and gets a new snapshot.
#[tokio::test(start_paused = true)]
async fn a_slow_watcher_is_resynced() {
    let mut config = ServerConfig::default();
    config.limits.watch_events_max = 8;
    let world = world_with(config, Arc::new(NoObserver)).await;
    let mut watch = world.service.watch("".into()).expect("the server runs");
    until_snapshots(&mut watch, 4).await;
    for round in 0..20 {
        let token = granted(&mut world.lock("k", "a", 0).await).await.token;
        assert!(world.unlock("k", "a", token).await.is_ok(), "round {round}");
    }
    let mut holder = world.lock("k", "b", 1).await;
    granted(&mut holder).await;
    let (views, resync) = until_snapshots(&mut watch, 1).await;
    assert!(resync);
    assert_eq!(views.len(), 1);
    let token = views
        .first()
        .and_then(|view| view.holders.first())
        .map(|holder| holder.token)
        .expect("held");
    world.unlock("k", "b", token).await.expect("held");
    match soon(watch.next())
        .await
        .expect("it goes on")
        .expect("the server runs")
        .kind
    {
        WatchKind::Changed(happening) => assert!(matches!(happening.kind, HappeningKind::Released { .. })),
        other => panic!("{other:?}"),
    }
}

/// A watcher hears `Resync` and a new epoch when a shard is taken anew.
#[tokio::test(start_paused = true)]
async fn a_watcher_is_resynced_after_a_retake() {
    let world = world().await;
    let mut watch = world.service.watch("".into()).expect("the server runs");
    until_snapshots(&mut watch, 4).await;
    world.faults.fail_commits(1, Fault::Unavailable);
    assert!(world.service.try_lock(request("k", "a", 1)).await.is_err());
    let told = soon(watch.next()).await.expect("it goes on").expect("the server runs");
    assert_eq!(
        (told.kind, told.shard, told.epoch),
        (WatchKind::Resync, world.shard_of("k"), 2)
    );
    until_snapshots(&mut watch, 1).await;
}
