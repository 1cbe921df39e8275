//! Lock objects: one at a time, four states, and what becomes of them when the way to the server breaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ticketlock_client::Client;
use ticketlock_client::leased::{AutoRenewalListener, DistributedLock, LockClient, LockError, LockState};
use tokio::sync::mpsc;

use crate::cuttable::cuttable;
use crate::place::{Place, serve, until};

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(400);

async fn locks(place: &Place, owner: &str) -> LockClient {
    LockClient::new(place.client(owner).await, "g")
}

/// Waits until the object is in this state: its changes by time have no event.
async fn until_state(lock: &DistributedLock, state: LockState) {
    let looking = async {
        while lock.state() != state {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), looking).await;
    assert!(in_time.is_ok(), "{state:?} is waited for, and it is {:?}", lock.state());
}

/// The example of the documentation: a lease of 30,000 ms, a wait of 5,000 ms.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_tried_for_a_time_and_given_back() {
    for place in Place::all().await {
        let (mine, theirs) = (locks(&place, "me").await, locks(&place, "them").await);
        let (lock, other) = (
            mine.create_lock("r").expect("new"),
            theirs.create_lock("r").expect("new"),
        );
        let wait = Duration::from_millis(5_000);
        assert_eq!(lock.state(), LockState::NotLocked);
        assert!(
            lock.try_lock(Duration::from_millis(30_000), wait)
                .await
                .expect("answered")
        );
        assert!(lock.is_held_by_current_client() && lock.state() == LockState::Locked);
        let rest = lock.lease_rest();
        assert!(rest > Duration::from_secs(25) && rest < LONG, "{rest:?}");
        let token = lock.fencing_token().expect("held");
        assert!(
            lock.try_lock(LONG, wait).await.expect("its own"),
            "already held by itself"
        );
        assert_eq!(lock.fencing_token(), Some(token));
        let began = Instant::now();
        assert!(
            !other.try_lock(LONG, Duration::ZERO).await.expect("answered"),
            "no wait"
        );
        assert!(!other.try_lock(LONG, Duration::from_millis(50)).await.expect("answered"));
        assert!(began.elapsed() >= Duration::from_millis(50) && other.state() == LockState::NotLocked);
        other.unlock().await.expect("nothing to give back is no error");
        let looker = place.client("looker").await;
        let taken = tokio::spawn(async move { (other.try_lock(LONG, LONG).await, other) });
        until(&looker, "g/r", |lock| lock.waiters.len() == 1).await;
        lock.unlock().await.expect("held");
        assert_eq!(
            (lock.state(), lock.lease_rest()),
            (LockState::NotLocked, Duration::ZERO)
        );
        let (taken, other) = taken.await.expect("no panic");
        assert!(
            taken.expect("answered") && other.fencing_token() > Some(token),
            "pushed"
        );
        mine.stop(Duration::from_secs(5)).await.expect("stopped");
        theirs.stop(Duration::from_secs(5)).await.expect("stopped");
        assert!(
            looker.list("").await.expect("answered").is_empty(),
            "all was given back"
        );
    }
}

/// One object for each key, one operation for each object; an unlock ends the one under way; what is closed stays closed.
#[tokio::test(flavor = "multi_thread")]
async fn one_object_one_operation() {
    for place in Place::all().await {
        let (mine, looker) = (locks(&place, "me").await, place.client("looker").await);
        let holding = looker.lock("g/r").await.expect("free");
        let lock = mine.create_lock("r").expect("new");
        assert!(matches!(mine.create_lock("r"), Err(LockError::Exists { key }) if key == "g/r"));
        let waiting = {
            let lock = lock.clone();
            tokio::spawn(async move { lock.try_lock(LONG, LONG).await })
        };
        until(&looker, "g/r", |lock| lock.waiters.len() == 1).await;
        for busy in [lock.try_lock(LONG, LONG).await.map(drop), lock.update_lease(LONG).await] {
            assert!(matches!(busy, Err(LockError::Busy { .. })), "{busy:?}");
        }
        lock.unlock().await.expect("ends the wait");
        let ended = waiting.await.expect("no panic");
        assert!(matches!(ended, Err(LockError::Cancelled { .. })), "{ended:?}");
        until(&looker, "g/r", |lock| lock.waiters.is_empty()).await;
        // Dropping the future is as good, and the object is free for the next operation.
        let dropped = tokio::time::timeout(Duration::from_millis(50), lock.try_lock(LONG, LONG)).await;
        assert!(dropped.is_err(), "still waiting");
        until(&looker, "g/r", |lock| lock.waiters.is_empty()).await;
        drop(holding);
        assert!(lock.try_lock(LONG, LONG).await.expect("answered"));
        mine.remove_lock("r").await;
        assert_eq!(lock.state(), LockState::Closed);
        for closed in [
            lock.try_lock(LONG, LONG).await.map(drop),
            lock.unlock().await,
            lock.update_lease(LONG).await,
        ] {
            assert!(matches!(closed, Err(LockError::Closed { .. })), "{closed:?}");
        }
        until(&looker, "g/r", |lock| lock.holders.is_empty()).await;
        let another = mine.create_lock("r").expect("another one may be made");
        another.close().await;
        drop(mine.create_lock("r").expect("one that is closed makes room"));
    }
}

/// A lease's end is moved by whoever holds it; left alone it comes, the listener is told, and the server agrees.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_moved_or_ends() {
    for place in Place::all().await {
        let (mine, looker) = (locks(&place, "me").await, place.client("looker").await);
        let (tell, mut expired) = mpsc::unbounded_channel();
        let listener = Arc::new(move || tell.send(()).unwrap_or_default());
        let lock = mine.create_lock_with("r", Some(listener)).expect("new");
        let refused = lock.update_lease(LONG).await;
        assert!(matches!(refused, Err(LockError::NotHeld { .. })), "{refused:?}");
        assert!(lock.try_lock(SHORT, Duration::ZERO).await.expect("answered"));
        lock.update_lease(LONG).await.expect("held");
        assert!(lock.lease_rest() > Duration::from_secs(25));
        lock.unlock().await.expect("held");
        assert!(lock.try_lock(SHORT, Duration::ZERO).await.expect("answered"));
        let end = tokio::time::timeout(Duration::from_secs(20), expired.recv());
        end.await.expect("in time").expect("told");
        assert!(!lock.is_held_by_current_client() && lock.fencing_token().is_none());
        until_state(&lock, LockState::NotLocked).await;
        until(&looker, "g/r", |lock| lock.holders.is_empty()).await;
        let refused = lock.update_lease(LONG).await;
        assert!(matches!(refused, Err(LockError::NotHeld { .. })), "{refused:?}");
        assert!(expired.try_recv().is_err(), "told once, and not of the unlock");
        assert!(
            lock.try_lock(LONG, Duration::ZERO).await.expect("answered"),
            "and taken anew"
        );
        // An operator takes it: the next answer says so, and the listener is told.
        looker
            .force_unlock("g/r", lock.fencing_token().expect("held"), "test", "tester")
            .await
            .expect("done");
        let refused = lock.update_lease(LONG).await;
        assert!(matches!(refused, Err(LockError::NotHeld { .. })), "{refused:?}");
        let end = tokio::time::timeout(Duration::from_secs(20), expired.recv());
        end.await.expect("in time").expect("told");
    }
}

/// A client over a way that can be cut, with short bounds for its calls.
async fn over(way: std::net::SocketAddr, owner: &str) -> Client {
    let builder = Client::builder().endpoint(format!("http://{way}")).owner(owner);
    let builder = builder.call_timeout(Duration::from_millis(300));
    builder.connect().await.expect("connected")
}

/// What nobody answered is unknown, never "not locked", and is cleared up when the server answers again.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_answered_is_unknown_until_somebody_does() {
    let server = serve().await;
    let (way, cut) = cuttable(server).await;
    let locks = LockClient::new(over(way, "me").await, "");
    let lock = locks.create_lock("r").expect("new");
    assert!(lock.try_lock(LONG, Duration::ZERO).await.expect("answered"));
    let token = lock.fencing_token();
    cut.send_replace(true);
    let failed = lock.update_lease(LONG).await;
    assert!(matches!(failed, Err(LockError::Failed { .. })), "{failed:?}");
    assert_eq!(lock.state(), LockState::Locked, "what is left of the lease still holds");
    assert_eq!(lock.fencing_token(), token);
    let failed = lock.unlock().await;
    assert!(matches!(failed, Err(LockError::Failed { .. })), "{failed:?}");
    assert_eq!(lock.state(), LockState::Unknown, "it may have been given back");
    assert!(!lock.is_held_by_current_client() && lock.lease_rest().is_zero());
    let looker = Client::connect(format!("http://{server}")).await.expect("connected");
    assert_eq!(
        looker.get("r").await.expect("answered").holders.len(),
        1,
        "the unlock never arrived"
    );
    cut.send_replace(false);
    // It is repeated until it is answered: nobody can tell whether the first one comes late.
    until_state(&lock, LockState::NotLocked).await;
    assert!(looker.get("r").await.expect("answered").holders.is_empty());
    // A renewal that was not answered is asked for once the lease before is over. The server had not done it, so the lock
    // is gone by then; where it had, the state would be `Locked` again, as the next story shows.
    assert!(lock.try_lock(SHORT, Duration::ZERO).await.expect("answered"));
    cut.send_replace(true);
    let failed = lock.update_lease(LONG).await;
    assert!(matches!(failed, Err(LockError::Failed { .. })), "{failed:?}");
    until_state(&lock, LockState::Unknown).await;
    cut.send_replace(false);
    until_state(&lock, LockState::NotLocked).await;
    cut.send_replace(true);
    let failed = lock.try_lock(Duration::from_millis(500), Duration::ZERO).await;
    assert!(matches!(failed, Err(LockError::Failed { .. })), "{failed:?}");
    assert_ne!(lock.state(), LockState::Locked);
    cut.send_replace(false);
    until_state(&lock, LockState::NotLocked).await;
    locks.stop(Duration::from_secs(5)).await.expect("stopped");
}

/// Writes down what it is told; a turn out of order is a panic of the lock's task, and is asserted at the end.
struct Diary {
    name: &'static str,
    pages: mpsc::UnboundedSender<(&'static str, bool)>,
    held: AtomicUsize,
}

impl Diary {
    fn new(name: &'static str, pages: &mpsc::UnboundedSender<(&'static str, bool)>) -> Arc<Self> {
        Arc::new(Self {
            name,
            pages: pages.clone(),
            held: AtomicUsize::new(0),
        })
    }
}

impl AutoRenewalListener for Diary {
    fn on_acquired(&self) {
        assert_eq!(self.held.fetch_add(1, Ordering::SeqCst), 0, "acquired twice");
        self.pages.send((self.name, true)).unwrap_or_default();
    }

    fn on_lost(&self) {
        assert_eq!(self.held.fetch_sub(1, Ordering::SeqCst), 1, "lost twice");
        self.pages.send((self.name, false)).unwrap_or_default();
    }
}

async fn page(diary: &mut mpsc::UnboundedReceiver<(&'static str, bool)>) -> (&'static str, bool) {
    let page = tokio::time::timeout(Duration::from_secs(30), diary.recv());
    page.await.expect("in time").expect("a page")
}

/// Three that contend have it in turn, in the order in which they came; each is told when it has it and when no longer.
#[tokio::test(flavor = "multi_thread")]
async fn locks_that_renew_themselves_take_turns() {
    for place in Place::all().await {
        let looker = place.client("looker").await;
        let (pages, mut diary) = mpsc::unbounded_channel();
        let mut held = Vec::new();
        for (waiting, name) in ["a", "b", "c"].into_iter().enumerate() {
            let locks = locks(&place, name).await;
            let lock = locks
                .create_auto_renewal_lock("r", SHORT, Diary::new(name, &pages))
                .expect("new");
            until(&looker, "g/r", |lock| {
                lock.waiters.len() == waiting && !lock.holders.is_empty()
            })
            .await;
            held.push((locks, lock));
        }
        assert_eq!(page(&mut diary).await, ("a", true));
        // It is held over many leases: another lock that nobody renews is the clock.
        let clock = locks(&place, "clock").await;
        let clock = clock.create_lock("clock").expect("new");
        for _ in 0..5 {
            assert!(clock.try_lock(SHORT, Duration::ZERO).await.expect("answered"));
            until_state(&clock, LockState::NotLocked).await;
        }
        let mut token = 0;
        for (at, name) in ["a", "b", "c"].into_iter().enumerate() {
            let (locks, lock) = &held[at];
            assert!(lock.is_held_by_current_client() && !lock.lease_rest().is_zero());
            assert!(lock.fencing_token().expect("held") > token);
            token = lock.fencing_token().expect("held");
            if at == 1 {
                lock.close().await;
            } else {
                locks.stop(Duration::from_secs(5)).await.expect("stopped");
            }
            assert!(!lock.is_held_by_current_client() && lock.fencing_token().is_none());
            assert_eq!(page(&mut diary).await, (name, false));
            if let Some(next) = ["b", "c"].get(at) {
                assert_eq!(page(&mut diary).await, (*next, true));
            }
        }
        assert!(diary.try_recv().is_err());
        until(&looker, "g/r", |lock| lock.holders.is_empty()).await;
    }
}

/// The way breaks for longer than a lease: the loss is told before the server gives the lock away, and the lock comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_comes_back_after_an_outage() {
    let server = serve().await;
    let (way, cut) = cuttable(server).await;
    let (pages, mut diary) = mpsc::unbounded_channel();
    let locks = LockClient::new(over(way, "me").await, "");
    let lock = locks
        .create_auto_renewal_lock("r", SHORT, Diary::new("me", &pages))
        .expect("new");
    assert_eq!(page(&mut diary).await, ("me", true));
    cut.send_replace(true);
    assert_eq!(page(&mut diary).await, ("me", false));
    assert!(!lock.is_held_by_current_client());
    cut.send_replace(false);
    assert_eq!(page(&mut diary).await, ("me", true));
    assert!(lock.is_held_by_current_client());
    locks.stop(Duration::from_secs(5)).await.expect("stopped");
    assert_eq!(page(&mut diary).await, ("me", false));
}

/// Endpoints and group are changed while the client lives.
#[tokio::test(flavor = "multi_thread")]
async fn endpoints_and_group_change_at_run_time() {
    let (first, second) = (serve().await, serve().await);
    let client = Client::connect(format!("http://{first}")).await.expect("connected");
    let locks = LockClient::new(client, "1");
    locks
        .create_lock("r")
        .expect("new")
        .try_lock(LONG, Duration::ZERO)
        .await
        .expect("answered");
    locks.set_group("2");
    let other = locks.create_lock("r").expect("another group");
    assert_eq!(other.key(), "2/r");
    assert!(other.try_lock(LONG, Duration::ZERO).await.expect("answered"));
    locks.add_endpoint(format!("http://{second}")).expect("an endpoint");
    let refused = locks.set_endpoints(["ftp://nowhere"]).expect_err("no such scheme");
    assert!(refused.to_string().contains("expected http://HOST:PORT"), "{refused}");
    locks.set_endpoints(Vec::<String>::new()).expect_err("nowhere to go");
    // The first one is left: what is asked for at once comes from the second, which has never heard of these locks.
    locks.set_endpoints([format!("http://{second}")]).expect("an endpoint");
    let refused = other.update_lease(LONG).await;
    assert!(matches!(refused, Err(LockError::NotHeld { .. })), "{refused:?}");
}
