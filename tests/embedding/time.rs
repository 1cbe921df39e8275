//! Long times, in a runtime whose clock goes on when everybody waits: a job outlives its lease by far.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ticketlock::Embedded;
use ticketlock_client::Client;
use ticketlock_client::leased::{AutoRenewalListener, LockClient};
use ticketlock_client::provider::{ClientLockProvider, ProviderError, WorkflowLockProvider};
use ticketlock_client::seams::Clock;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// The runtime's clock.
struct Runtime(Instant);

impl Clock for Runtime {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

async fn client(engine: &Embedded, owner: &str) -> Client {
    let builder = engine.client().owner(owner).clock(Arc::new(Runtime(Instant::now())));
    builder.runtime(Handle::current()).connect().await.expect("a client")
}

/// How often it was told of either.
#[derive(Default)]
struct Told {
    acquired: AtomicUsize,
    lost: AtomicUsize,
}

impl AutoRenewalListener for Told {
    fn on_acquired(&self) {
        self.acquired.fetch_add(1, Ordering::SeqCst);
    }

    fn on_lost(&self) {
        self.lost.fetch_add(1, Ordering::SeqCst);
    }
}

/// A lease of 3 s is kept for a minute, one of 30 s for half an hour, by the server's clock: who waits is not granted.
#[tokio::test(start_paused = true)]
async fn a_job_outlives_its_lease_by_far() {
    for (lease, job) in [(3, 60), (30, 30 * 60)] {
        let (lease, job) = (Duration::from_secs(lease), Duration::from_secs(job));
        let engine = Embedded::memory().await.expect("an engine");
        let locks = LockClient::new(client(&engine, "me").await, "");
        let told = Arc::new(Told::default());
        let lock = locks
            .create_auto_renewal_lock("job", lease, Arc::clone(&told) as _)
            .expect("new");
        let guarded = client(&engine, "guard").await;
        let guard = guarded.lock("guard").ttl(lease).await.expect("free");
        let rival = client(&engine, "rival").await;
        // The job takes its time; the rivals give up when it is done.
        let waiting = [rival.lock("job").wait(job), rival.lock("guard").wait(job)];
        let began = Instant::now();
        for refused in waiting.map(|asking| tokio::spawn(asking.into_future())) {
            let refused = refused.await.expect("no panic").expect_err("held all the time");
            assert_eq!(refused.reason(), "WAIT_TIMEOUT");
        }
        assert!(began.elapsed() >= job);
        assert!(lock.is_held_by_current_client() && guard.is_held());
        assert_eq!(
            (told.acquired.load(Ordering::SeqCst), told.lost.load(Ordering::SeqCst)),
            (1, 0)
        );
        locks.stop(Duration::from_secs(5)).await.expect("stopped");
        assert_eq!(told.lost.load(Ordering::SeqCst), 1);
    }
}

/// A template is waited for twice five seconds; an execution not at all.
#[tokio::test(start_paused = true)]
async fn a_template_is_worth_ten_seconds() {
    let engine = Embedded::memory().await.expect("an engine");
    let provider = ClientLockProvider::new(client(&engine, "me").await, Duration::from_secs(300));
    let workflows = WorkflowLockProvider::new(Arc::new(provider));
    let template = workflows.lock_workflow_template("7").await.expect("free");
    let execution = workflows.lock_workflow_execution("7").await.expect("free");
    let began = Instant::now();
    let refused = workflows.lock_workflow_execution("7").await;
    assert!(
        matches!(refused, Err(ProviderError::AlreadyRunning { .. })),
        "{refused:?}"
    );
    assert!(began.elapsed() < Duration::from_secs(1));
    let refused = workflows.lock_workflow_template("7").await;
    assert!(
        matches!(&refused, Err(ProviderError::LockByOther { owner, .. }) if owner == template.owner()),
        "{refused:?}"
    );
    let waited = began.elapsed();
    assert!(
        waited >= Duration::from_secs(10) && waited < Duration::from_secs(11),
        "{waited:?}"
    );
    template.unlock().await.expect("held");
    execution.unlock().await.expect("held");
}
