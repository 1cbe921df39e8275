//! Many clients on many threads over a store that is late and fails: whatever happens, one holder at a time.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// Keys that the clients fight for.
const KEYS: [&str; 3] = ["s/1", "s/2", "s/3"];
/// Clients.
const CLIENTS: u64 = 12;
/// What each of them does.
const ROUNDS: u64 = 150;

/// What the clients know of one key.
#[derive(Default)]
struct Room {
    /// Clients inside.
    inside: AtomicU64,
    /// The highest token seen inside.
    token: AtomicU64,
}

/// Waits for the grant; `None` where the stream ended without.
async fn until_granted(stream: &mut LockStream) -> Option<u64> {
    loop {
        match stream.next().await? {
            Ok(LockItem::Event {
                event: Event::Granted(granted),
                ..
            }) => return Some(granted.token),
            Ok(LockItem::Event {
                event: Event::Queued(_),
                ..
            }) => {}
            Err(ServiceError::StoreUnavailable) => return None,
            other => panic!("{other:?}"),
        }
    }
}

/// One client: takes locks, goes away in the middle, unlocks, or just drops what it holds.
async fn client(world: Arc<World>, rooms: Arc<[Room; 3]>, number: u64) {
    let dice = IdSource::seeded(number);
    let owner = format!("client {number}");
    for _ in 0..ROUNDS {
        let index = usize::try_from(dice.draw() % 3).expect("small");
        let (Some(key), Some(room)) = (KEYS.get(index), rooms.get(index)) else {
            continue;
        };
        match dice.draw() % 30 {
            0..=3 => drop(poll_once(
                pin!(world.service.lock(request(key, &owner, 0), ended())).as_mut(),
            )),
            4 => world.faults.fail_commits(1, Fault::UnknownApplied),
            5 => world.faults.fail_commits(1, Fault::UnknownNotApplied),
            _ => {}
        }
        let Ok(mut stream) = world.service.lock(request(key, &owner, 0), ended()).await else {
            // Rounds are not to be spent on a shard that does not answer.
            while world.service.ready().is_err() {
                tokio::task::yield_now().await;
            }
            continue;
        };
        if dice.draw().is_multiple_of(8) {
            continue;
        }
        let Some(token) = until_granted(&mut stream).await else {
            continue;
        };
        assert_eq!(
            room.inside.fetch_add(1, Ordering::SeqCst),
            0,
            "somebody is inside {key}"
        );
        assert!(
            room.token.fetch_max(token, Ordering::SeqCst) < token,
            "token {token} of {key} is not the highest"
        );
        tokio::task::yield_now().await;
        room.inside.fetch_sub(1, Ordering::SeqCst);
        if dice.draw().is_multiple_of(2) {
            while world.unlock(key, &owner, token).await == Err(ServiceError::StoreUnavailable) {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Mutual exclusion and growing tokens hold through failed, unknown and late commits, and nothing is left behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_holder_at_a_time_whatever_the_store_does() {
    let config = ServerConfig {
        retake_first: Duration::from_millis(1),
        retake_max: Duration::from_millis(2),
        ..ServerConfig::default()
    };
    let world = Arc::new(world_with(config, Arc::new(NoObserver)).await);
    world.faults.defer();
    let rooms: Arc<[Room; 3]> = Arc::default();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::spawn(client(Arc::clone(&world), Arc::clone(&rooms), number)))
        .collect();
    for client in clients {
        client.await.expect("no client panicked");
    }
    for (key, room) in KEYS.iter().zip(rooms.iter()) {
        let view = loop {
            match world.service.get(key, 10).await {
                Ok(view) => break view,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        assert!(view.holders.is_empty() && view.waiters_total == 0, "{view:?}");
        assert!(room.token.load(Ordering::SeqCst) > 0);
    }
    assert_eq!(world.service.live_streams(), 0);
}
