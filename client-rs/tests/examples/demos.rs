//! Two processes and one lock: they take turns, give it back when they are told to end, and lose it when they are
//! killed.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use ticketlock_client::{LockEventKind, Outcome};

use crate::stage::{Process, Stage};

/// The number after a word, up to the next one that is none.
fn number(line: &str, word: &str) -> u64 {
    let (_, rest) = line
        .split_once(word)
        .unwrap_or_else(|| panic!("no {word:?} in {line:?}"));
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits
        .parse()
        .unwrap_or_else(|_| panic!("no number after {word:?} in {line:?}"))
}

/// Two demos take turns, in the order in which they came, and never both have the lock.
#[tokio::test(flavor = "multi_thread")]
async fn two_lock_demos_take_turns() {
    let stage = Stage::new().await;
    let before = stage.client.lock("demo/myResource").await.expect("free");
    let mut events = stage.events("demo/myResource").await;
    let mut first = stage.start("lock_demo", &["50", "3"]);
    stage.until("demo/myResource", |lock| lock.waiters.len() == 1).await;
    let mut second = stage.start("lock_demo", &["50", "3"]);
    let lock = stage.until("demo/myResource", |lock| lock.waiters.len() == 2).await;
    let owners: Vec<String> = lock.waiters.into_iter().map(|waiter| waiter.owner).collect();
    before.unlock(Outcome::success()).await.expect("answered");

    // Grants and releases as the server tells them, after the release of the lock above.
    while events.next().await.kind != LockEventKind::Released {}
    let mut granted = Vec::new();
    while granted.len() < 6 {
        let grant = events.next().await;
        match grant.kind {
            LockEventKind::Queued => continue,
            kind => assert_eq!(kind, LockEventKind::Granted, "{grant:?}"),
        }
        let end = loop {
            let event = events.next().await;
            if event.kind != LockEventKind::Queued {
                break event;
            }
        };
        assert_eq!(
            (end.kind, &end.owner),
            (LockEventKind::Released, &grant.owner),
            "{end:?}"
        );
        granted.push(grant);
    }
    assert!(granted.is_sorted_by(|a, b| a.fencing_token < b.fencing_token));
    let order: Vec<&String> = granted.iter().map(|grant| &grant.owner).collect();
    assert!(order.starts_with(&owners.iter().collect::<Vec<_>>()), "{order:?}");
    for (process, owner) in [&mut first, &mut second].into_iter().zip(&owners) {
        let told: Vec<u64> = process
            .rest()
            .await
            .iter()
            .filter(|line| line.starts_with("state Locked"))
            .map(|line| number(line, "token"))
            .collect();
        let tokens = granted.iter().filter(|grant| grant.owner == *owner);
        assert_eq!(told, tokens.filter_map(|grant| grant.fencing_token).collect::<Vec<_>>());
        assert_eq!(told.len(), 3);
        assert!(process.ended().await.success());
    }
}

/// The states on the way, the lease of 30,000 ms, and the wait of 5,000 ms that ends without the lock.
#[tokio::test(flavor = "multi_thread")]
async fn the_lock_demo_leases_for_thirty_seconds_and_waits_for_five() {
    let stage = Stage::new().await;
    let mut demo = stage.start("lock_demo", &["1", "1"]);
    assert_eq!(demo.line().await, "state NotLocked");
    let line = demo.line().await;
    assert!(line.starts_with("state Locked"), "{line}");
    assert!((15_000..=30_000).contains(&number(&line, "lease of")), "{line}");
    assert_eq!(demo.rest().await, ["state Closed"]);
    assert!(demo.ended().await.success());

    let _held = stage.client.lock("demo/myResource").await.expect("free");
    let started = Instant::now();
    let output = stage.run("lock_demo", &["1", "1"]).await;
    assert!(
        started.elapsed() >= Duration::from_millis(5_000),
        "{:?}",
        started.elapsed()
    );
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        told,
        "lock_demo: demo/myResource is still held by somebody else after 5s\n"
    );
    assert_eq!(output.status.code(), Some(1));
}

/// What a lock of the client crate is kept for after its process is gone, where its lease is no longer.
const GRACE: Duration = Duration::from_secs(10);

/// One demo holds, the other one waits.
async fn two_auto_renewal_demos(stage: &Stage, lease: &str) -> (Process, Process) {
    let mut first = stage.start("auto_renewal_demo", &[lease]);
    first.until("acquired").await;
    let second = stage.start("auto_renewal_demo", &[lease]);
    stage.until("demo/renewed", |lock| lock.waiters.len() == 1).await;
    (first, second)
}

/// A process that is told to end gives the lock back before it does, and the next one has it long before the lease's
/// end.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_told_to_end_gives_its_lock_back() {
    for signal in [Signal::TERM, Signal::INT] {
        let stage = Stage::new().await;
        let (mut first, mut second) = two_auto_renewal_demos(&stage, "60000").await;
        let mut events = stage.events("demo/renewed").await;
        let left = stage.client.get("demo/renewed").await.expect("answered");
        let left = left.holders.first().expect("a holder").lease_left;
        let told = Instant::now();
        first.signal(signal);
        assert_eq!(events.next().await.kind, LockEventKind::Released);
        assert_eq!(events.next().await.kind, LockEventKind::Granted);
        second.until("acquired").await;
        let waited = told.elapsed();
        assert!(waited < left / 2, "{waited:?} of {left:?}");
        assert_eq!(first.rest().await, ["lost", "given back"]);
        assert!(first.ended().await.success());

        // One that has nothing leaves the line, too.
        let mut third = stage.start("auto_renewal_demo", &["60000"]);
        stage.until("demo/renewed", |lock| lock.waiters.len() == 1).await;
        third.signal(signal);
        assert!(third.ended().await.success());
        stage.until("demo/renewed", |lock| lock.waiters.is_empty()).await;
        drop(second);
    }
}

/// A process that is killed can give nothing back: its lock ends by itself, and no sooner than its lease and its grace.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_keeps_its_lock_until_lease_and_grace_have_ended() {
    let stage = Stage::new().await;
    let (mut first, mut second) = two_auto_renewal_demos(&stage, "3000").await;
    let mut events = stage.events("demo/renewed").await;
    let looked = Instant::now();
    let lock = stage.client.get("demo/renewed").await.expect("answered");
    let left = lock.holders.first().expect("a holder").lease_left;
    first.signal(Signal::KILL);
    assert!(!first.ended().await.success());
    let kind = events.next().await.kind;
    assert!(
        matches!(kind, LockEventKind::Expired | LockEventKind::Disconnected),
        "{kind:?}"
    );
    assert_eq!(events.next().await.kind, LockEventKind::Granted);
    second.until("acquired").await;
    let waited = looked.elapsed();
    assert!(waited >= left.max(GRACE), "{waited:?} of {left:?}");
}
